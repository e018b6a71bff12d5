# SPDX-License-Identifier: BSD-2-Clause
"""Clients that send all of a pipeline before they read the first reply, as most libraries do."""

from harness import Pointsman, Server, encode

VALUE = b"v" * 4096
COUNT = 10000


def test_pipeline_is_answered_though_its_client_reads_nothing_before_it_has_sent_all(processes):
    server = processes(Server("alone")).ready()
    pointsman = processes(Pointsman(server.address, upstream_kind="static"))
    with pointsman.raw(receive_buffer=65536, timeout=30) as link:
        link.send(encode("SET", "v", VALUE, "GET") * COUNT)
        assert link.read() is None
        assert all(link.read() == VALUE for _ in range(COUNT - 1))
        assert link.ask("GET", "v") == VALUE
