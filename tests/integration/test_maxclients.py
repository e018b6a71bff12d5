# SPDX-License-Identifier: BSD-2-Clause
"""A node that has no room for more connections is neither stormed nor does it fill the log."""

import time

import pytest

from harness import Pointsman, Server, wait_for

MOST = 12


@pytest.fixture
def narrow(processes):
    return processes(Server("narrow", settings={"maxclients": MOST})).ready()


def fill(server):
    """Connections until there is room for none."""
    links = []
    while True:
        link = server.raw()
        if link.ask("PING") != b"PONG":
            link.close()
            return links
        links.append(link)


def rejected(link):
    text = link.ask("INFO", "stats").decode()
    return int(text.split("rejected_connections:")[1].split()[0])


def test_full_node_is_tried_at_growing_intervals_and_told_of_once(narrow, processes):
    pointsman = processes(
        Pointsman(narrow.address, wait="listen", proxy_threads=1, failover_hold_time="60s", pool_idle_time="200ms")
    )
    wait_for(lambda: "fit as master" in pointsman.log_text(), what="the master to be known")
    wait_for(lambda: narrow.connected_clients() <= 2, what="none but the probe to be connected")
    links = fill(narrow)
    try:
        before = rejected(links[0])
        with pointsman.raw(timeout=60) as client:
            client.command("SET", "a", 1)
            time.sleep(3)
            assert client.is_silent(0.01)
            assert 0 < rejected(links[0]) - before < 40
            assert pointsman.log_text().count("maxclients") == 1
            assert len(pointsman.log_text().splitlines()) < 60
            links.pop().close()
            assert client.read() == b"OK"
    finally:
        for link in links:
            link.close()
    wait_for(lambda: pointsman.log_text().count("reachable again") == 1, what="the log to tell that it is well again")
