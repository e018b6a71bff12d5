# SPDX-License-Identifier: BSD-2-Clause
"""Clients that are too many, for proxy.max_clients or for the limit on open files."""

import resource
import time

import pytest

from harness import Pointsman, Raw, Server, wait_for

FULL = b"-ERR max number of clients reached\r\n"


class Narrow(Pointsman):
    """With a limit on open files, soft and hard."""

    def __init__(self, soft, hard, *arguments, **keys):
        super().__init__(*arguments, **keys)
        self.soft, self.hard = soft, hard

    def command(self):
        limits = f'ulimit -Sn {self.soft} && ulimit -Hn {self.hard} && exec "$@"'
        return ["sh", "-c", limits, "sh", *super().command()]


@pytest.fixture
def alone(processes):
    return processes(Server("alone")).ready()


class Crowd:
    """Clients that connect, and what becomes of each."""

    def __init__(self, pointsman, count):
        self.links = [Raw(pointsman.port, timeout=20) for _ in range(count)]
        self.served, self.refused = [], []

    def ask(self):
        for link in self.links:
            try:
                link.command("PING")
            except OSError:
                pass  # it is closed already
        for link in self.links:
            try:
                line = link.read_line()
            except (OSError, EOFError):
                line = b""
            assert line in (b"+PONG\r\n", FULL, b""), line
            (self.served if line == b"+PONG\r\n" else self.refused).append((link, line))
        return self

    def close(self):
        for link in self.links:
            link.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


@pytest.mark.parametrize("threads", [1, 4])
def test_one_client_too_many_is_told_so_in_the_words_of_redis_over_all_threads(alone, processes, threads):
    pointsman = processes(Pointsman(alone.address, proxy_threads=threads, proxy_max_clients=20))
    with Crowd(pointsman, 0) as crowd:
        while len(crowd.links) < 20:  # a thread may not have seen yet that a client of before has left
            link = Raw(pointsman.port)
            link.command("PING")
            (crowd.links.append if link.read_line() == b"+PONG\r\n" else Raw.close)(link)
        refused, told = [], pointsman.log_text().count("more are refused (proxy.max_clients)")
        for _ in range(30):
            with Raw(pointsman.port) as link:
                refused.append(link.read_to_end())
        assert refused == [FULL] * 30
        assert pointsman.log_text().count("more are refused (proxy.max_clients)") <= told + 1
        with Raw(alone.port) as client:
            assert client.ask("CONFIG", "SET", "maxclients", 1) == b"OK"
            with Raw(alone.port) as link:
                assert link.read_to_end() == FULL, "Redis has other words"
            assert client.ask("CONFIG", "SET", "maxclients", 1000) == b"OK"
    wait_for(lambda: _is_let_in(pointsman), what="a client to be let in when others have gone")


def _is_let_in(pointsman):
    with Raw(pointsman.port) as link:
        return link.ask("PING") == b"PONG"


def test_soft_limit_on_open_files_is_raised_for_the_clients_that_are_allowed(alone, processes):
    pointsman = processes(Narrow(64, 4096, alone.address, proxy_max_clients=500))
    with Crowd(pointsman, 300) as crowd:
        assert len(crowd.ask().served) == 300
    assert "the limit on open files" not in pointsman.log_text()


def test_clients_are_fewer_where_the_limit_on_open_files_is_low_and_the_log_says_so(alone, processes):
    pointsman = processes(Narrow(400, 400, alone.address, proxy_threads=1, pool_dedicated_connections=20))
    line = next(line for line in pointsman.log_text().splitlines() if "the limit on open files is 400" in line)
    most = int(line.split("at most ")[1].split()[0])
    assert 100 < most < 400 and "instead of 10000" in line
    with Crowd(pointsman, 400) as crowd:
        crowd.ask()
        assert most - 2 <= len(crowd.served) <= most
        assert all(line in (FULL, b"") for _, line in crowd.refused)
        blocked = crowd.served[:20]  # descriptors for connections to nodes are left
        for link, _ in blocked:
            link.command("BLPOP", "queue", 0)
        wait_for(lambda: alone.info("clients")["blocked_clients"] == 20, what="twenty to block")


@pytest.mark.parametrize("threads", [1, 2])
def test_limit_of_64_open_files_and_200_clients(alone, processes, threads):
    pointsman = processes(Narrow(64, 64, alone.address, proxy_threads=threads))
    with Crowd(pointsman, 200) as crowd:
        crowd.ask()
        assert len(crowd.served) >= 10
        told = [line for _, line in crowd.refused if line]
        assert told and set(told) == {FULL}
        used = pointsman.cpu()
        time.sleep(2)
        assert pointsman.cpu() - used < 0.4, "it spins"
        served = crowd.served[0][0]
        assert served.ask("SET", "a", 1) == b"OK" and served.ask("GET", "a") == b"1"
        served.command("MULTI")
        assert served.read() == b"OK"
        assert served.ask("INCR", "a") == b"QUEUED" and served.ask("EXEC") == [2]
    wait_for(lambda: _is_let_in(pointsman), what="a client to be let in when others have gone")
    assert len(pointsman.log_text().splitlines()) < 100
    assert pointsman.is_alive()


@pytest.mark.parametrize("threads", [1, 2])
def test_clients_are_refused_and_nothing_spins_when_no_descriptor_is_left(alone, processes, threads):
    pointsman = processes(Pointsman(alone.address, proxy_threads=threads))
    with pointsman.raw() as link:
        assert link.ask("SET", "a", 1) == b"OK"
        before = resource.prlimit(pointsman.pid, resource.RLIMIT_NOFILE)
        for _ in range(2):
            resource.prlimit(pointsman.pid, resource.RLIMIT_NOFILE, (pointsman.descriptors() + 5, before[1]))
            with Crowd(pointsman, 200) as crowd:
                crowd.ask()
                assert 0 < len(crowd.served) < 10
                assert sum(line == FULL for _, line in crowd.refused) > 100
                used = pointsman.cpu()
                time.sleep(1)
                assert pointsman.cpu() - used < 0.3, "it spins"
                assert link.ask("GET", "a") == b"1"
            wait_for(lambda: _is_let_in(pointsman), what="a client to be let in when others have gone")
            resource.prlimit(pointsman.pid, resource.RLIMIT_NOFILE, before)
        with Crowd(pointsman, 200) as crowd:
            assert len(crowd.ask().served) == 200
    assert 1 <= pointsman.log_text().count("no file descriptor left") <= 10
