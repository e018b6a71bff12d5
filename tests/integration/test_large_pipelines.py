# SPDX-License-Identifier: BSD-2-Clause
"""Clients that send all of a pipeline before they read the first reply, as most libraries do."""

from harness import Pointsman, Raw, Server, encode, wait_for

VALUE = b"v" * 4096
COUNT = 10000


# By a unix socket: where a client's receive buffer is full Linux may take back a part of the window that it has offered, and
# then drops what acknowledges the client's own bytes with it; neither side gets any further, whatever the server does.
def test_pipeline_is_answered_though_its_client_reads_nothing_before_it_has_sent_all(processes, tmp_path):
    server = processes(Server("alone")).ready()
    path = tmp_path / "socket"
    processes(Pointsman(server.address, wait=None, upstream_kind="static", proxy_listen=f"unix:{path}"))
    wait_for(path.exists, what="the socket")
    with Raw(path=str(path), timeout=30) as link:
        link.send(encode("SET", "v", VALUE, "GET") * COUNT)
        assert link.read() is None
        assert all(link.read() == VALUE for _ in range(COUNT - 1))
        assert link.ask("GET", "v") == VALUE
