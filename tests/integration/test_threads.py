# SPDX-License-Identifier: BSD-2-Clause
"""Clients are spread evenly over the threads, whoever the kernel has let accept them."""

import contextlib
import os
import re
import signal

import pytest

from harness import HOST, Pointsman, Raw, Server, free_port, wait_for

THREADS = 4
CLIENTS = 40


@pytest.fixture(scope="module")
def alone():
    server = Server("alone").start().ready()
    yield server
    server.kill()


@pytest.fixture
def crowd():
    """Closes what is put into it."""
    with contextlib.ExitStack() as links:
        yield links


def through(server, **keys):
    keys.setdefault("proxy_threads", THREADS)
    return Pointsman(server.address, upstream_kind="static", **keys)


def clients_of_threads(link):
    """How many each thread has, or is about to have, as INFO proxy tells."""
    text = link.ask("INFO", "proxy").decode()
    return [int(count) for count in re.findall(r"^thread\d+:clients=(\d+),", text, re.MULTILINE)]


def alone_with(pointsman, link):
    """Those that looked whether it is there are gone."""
    return wait_for(lambda: sum(clients_of_threads(link)) == 1, what=f"none but one client of {pointsman.name}")


def assert_even(counts, clients=CLIENTS, threads=THREADS):
    assert len(counts) == threads and sum(counts) == clients, counts
    assert max(counts) - min(counts) <= 2, counts
    assert all(abs(count - clients / threads) <= 1 for count in counts), counts


def test_few_clients_are_spread_evenly(alone, processes, crowd):
    pointsman = processes(through(alone))
    links = [crowd.enter_context(pointsman.raw())]
    alone_with(pointsman, links[0])
    for number in range(1, CLIENTS):
        links.append(crowd.enter_context(pointsman.raw()))
        assert links[-1].ask("SET", f"key:{number}", number) == b"OK"
    assert_even(clients_of_threads(links[0]))
    assert [link.ask("ECHO", "here") for link in links] == [b"here"] * CLIENTS


def test_clients_of_a_unix_socket_are_spread_evenly(alone, processes, crowd, tmp_path):
    path = str(tmp_path / "socket")
    pointsman = through(alone, proxy_listen=f"unix:{path}", wait=None)
    processes(pointsman)
    wait_for(lambda: _answers(path), what="the unix socket to answer")
    links = [crowd.enter_context(Raw(path=path))]
    alone_with(pointsman, links[0])
    for _ in range(1, CLIENTS):
        links.append(crowd.enter_context(Raw(path=path)))
        assert links[-1].ask("PING") == b"PONG"
    assert_even(clients_of_threads(links[0]))
    assert links[0].ask("CLIENT", "LIST").count(b"flags=U") == CLIENTS


def _answers(path):
    with Raw(path=path) as link:
        return link.ask("PING") == b"PONG"


def test_what_a_client_sends_before_it_is_handed_over_is_answered(alone, processes, crowd):
    """All connect, and say something, before anybody is waited for."""
    pointsman = processes(through(alone))
    links = [crowd.enter_context(pointsman.raw()).command("ECHO", number) for number in range(CLIENTS)]
    assert [link.read() for link in links] == [str(number).encode() for number in range(CLIENTS)]


def test_who_has_fewer_since_clients_left_is_filled_up(alone, processes, crowd):
    """Every second client goes, and as many come again."""
    pointsman = processes(through(alone))
    watcher = crowd.enter_context(pointsman.raw())
    alone_with(pointsman, watcher)
    links = [pointsman.raw() for _ in range(1, CLIENTS)]
    wait_for(lambda: sum(clients_of_threads(watcher)) == CLIENTS, what="all to be there")
    for link in links[::2]:
        link.close()
    wait_for(lambda: sum(clients_of_threads(watcher)) == CLIENTS - len(links[::2]), what="half of them to be gone")
    links = links[1::2] + [pointsman.raw() for _ in links[::2]]
    for link in links:
        crowd.enter_context(link)
    assert_even(wait_for(lambda: sum(clients_of_threads(watcher)) == CLIENTS and clients_of_threads(watcher)))


def test_a_client_that_goes_at_once_counts_no_more(alone, processes, crowd):
    """Also if it goes while it is on its way from thread to thread."""
    pointsman = processes(through(alone, proxy_max_clients=CLIENTS))
    watcher = crowd.enter_context(pointsman.raw())
    alone_with(pointsman, watcher)
    for _ in range(20):
        for link in [pointsman.raw() for _ in range(CLIENTS // 2)]:
            link.close()
    alone_with(pointsman, watcher)
    links = [crowd.enter_context(pointsman.raw()) for _ in range(1, CLIENTS)]
    assert [link.ask("PING") for link in links] == [b"PONG"] * (CLIENTS - 1)
    with pointsman.raw() as surplus:
        assert surplus.read_to_end() == b"-ERR max number of clients reached\r\n"
    assert_even(clients_of_threads(watcher))


def test_clients_of_two_listeners_are_spread_together_and_keep_their_persona(alone, processes, crowd):
    cluster_port = free_port()
    pointsman = through(alone)
    pointsman.keys["proxy_listen"] = f"{HOST}:{pointsman.port}, {HOST}:{cluster_port} as cluster"
    processes(pointsman)
    links = [crowd.enter_context(pointsman.raw())]
    alone_with(pointsman, links[0])
    for number in range(1, CLIENTS):
        is_cluster = number % 2 == 0
        link = crowd.enter_context(Raw(cluster_port if is_cluster else pointsman.port))
        assert (b"cluster_enabled:1" in link.ask("INFO", "cluster")) == is_cluster
        links.append(link)
    assert_even(clients_of_threads(links[0]))


def test_clients_are_listed_and_killed_wherever_they_are(alone, processes, crowd):
    pointsman = processes(through(alone))
    links = [crowd.enter_context(pointsman.raw())]
    alone_with(pointsman, links[0])
    ids = [links[0].ask("CLIENT", "ID")]
    for _ in range(1, CLIENTS):
        links.append(crowd.enter_context(pointsman.raw()))
        ids.append(links[-1].ask("CLIENT", "ID"))
    assert ids == sorted(set(ids)), "ids grow in the order in which clients come"
    listed = re.findall(r"^id=(\d+) ", links[0].ask("CLIENT", "LIST").decode(), re.MULTILINE)
    assert [int(number) for number in listed] == ids
    assert links[0].ask("CLIENT", "KILL", "TYPE", "normal") == CLIENTS - 1
    assert [link.read_to_end() for link in links[1:]] == [b""] * (CLIENTS - 1)
    alone_with(pointsman, links[0])


@pytest.mark.parametrize("round_number", range(5))
def test_clients_that_come_while_it_drains_wait_for_nobody(alone, processes, crowd, round_number):
    """One client's request is on its way for long, so its thread goes on; the others have nothing to do and end. Who
    is accepted at that moment is closed, and not handed over to a thread that is no more."""
    pointsman = through(alone, proxy_drain_time="60s").start()
    for _ in range(round_number):  # so that it is another one's turn
        crowd.enter_context(pointsman.raw()).ask("PING")
    busy = crowd.enter_context(pointsman.raw(timeout=60))
    alone.pause()
    try:
        busy.command("SET", "drained", round_number)
        with pointsman.raw() as watcher:
            wait_for(lambda: b"cmd=set " in watcher.ask("CLIENT", "LIST"), what="the request to be on its way")
        pointsman.pause()
        links = [crowd.enter_context(pointsman.raw()) for _ in range(100)]  # they wait to be accepted
        pointsman.signal(signal.SIGTERM)
        pointsman.resume()
        assert {link.read_to_end() for link in links} == {b""}
        assert busy.is_silent(0.01) and pointsman.is_alive()
    finally:
        alone.resume()
    assert busy.read_to_end() == b"+OK\r\n"
    assert pointsman.wait() == 0
    pointsman.check_log()


def test_number_of_threads_is_that_of_usable_cpus_and_told(alone, processes):
    """In a process that may run on one CPU alone."""
    pointsman = through(alone, proxy_threads=None)
    command = pointsman.command
    pointsman.command = lambda: ["taskset", "-c", str(min(os.sched_getaffinity(0))), *command()]
    processes(pointsman)
    assert "1 thread for this process: it may run on 1 CPU" in pointsman.log_text()
    with pointsman.raw() as link:
        assert len(clients_of_threads(link)) == 1
