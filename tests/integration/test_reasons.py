# SPDX-License-Identifier: BSD-2-Clause
"""Why a node is not used stands in the log, once, also of one that never was."""

import pytest

from harness import Pointsman, Server, wait_for
from redis_cluster import ClusterNode

LEAST = "~* &* +@read +@write +ping"  # what an application of reads and writes needs
BESIDES = ["+role", "+info", "+command", "+select", "+client|setname"]  # what README says that the proxy needs


def test_user_who_may_too_little_is_told_of(processes):
    server = processes(Server("guarded", settings={"user": f"app on >app-secret {LEAST}"})).ready()
    pointsman = processes(
        Pointsman(server.address, wait="listen", upstream_username="app", upstream_password="app-secret")
    )
    wait_for(lambda: "does not tell its role: NOPERM" in pointsman.log_text(), what="ROLE to be missed")
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "app", "+role")
        wait_for(lambda: "replication history: NOPERM" in pointsman.log_text(), what="INFO to be missed")
        client.execute_command("ACL", "SETUSER", "app", *BESIDES)
    wait_for(pointsman.writes, what="writes to pass")
    assert pointsman.log_text().count("NOPERM") == 2
    with pointsman.client(db=3, client_name="me") as client:
        assert client.set("a", 1) and client.get("a") == b"1"


@pytest.mark.parametrize("kind", ["static", "sentinel", "cluster"])
def test_kind_that_the_nodes_are_not_of_is_told_of(processes, kind):
    make = ClusterNode if kind == "static" else Server
    nodes = [processes(make(f"node-{i}", settings={})).ready().address for i in range(2)]
    pointsman = processes(Pointsman(", ".join(nodes), wait="listen", upstream_kind=kind, failover_hold_time="500ms"))
    words = {
        "static": "is one of a Redis Cluster; it refuses keys of other nodes, and clients see its redirects: "
                  "set upstream.kind = cluster",
        "sentinel": f"sentinel {nodes[0]}: does not answer as a Sentinel: ERR unknown command 'SENTINEL'",
        "cluster": f"node {nodes[0]}: does not tell of its cluster: ERR This instance has cluster support disabled",
    }[kind]
    wait_for(lambda: words in pointsman.log_text(), what="the kind to be told of")
    assert "upstream.master_name" not in pointsman.log_text()
    assert pointsman.log_text().count(words) == 1


def test_logins_that_are_tried_while_the_kind_is_not_known_are_told_apart(processes):
    server = processes(Server("guarded", password="right")).ready()
    pointsman = processes(Pointsman(server.address, wait="listen", upstream_password="wrong"))
    told = f"{server.address}: not reachable"
    for line in (
        f"{told}: login refused: WRONGPASS",
        f"{told}, with the login for Sentinels: wants a password, and none is configured",
    ):
        wait_for(lambda line=line: line in pointsman.log_text(), what=line)


def test_node_whose_name_is_not_known_is_told_of_and_the_others_are_used(processes):
    master = processes(Server("master")).ready()
    pointsman = processes(Pointsman(f"{master.address}, nowhere.invalid:6379", wait="listen", upstream_kind="static"))
    wait_for(pointsman.writes, what="writes to pass")
    wait_for(lambda: "nowhere.invalid" in pointsman.log_text(), what="the name to be told of")
    assert "out of memory" not in pointsman.log_text()


def test_seed_whose_name_is_not_known_is_told_of(processes):
    pointsman = processes(Pointsman("nowhere.invalid:6379", wait="listen"))
    told = "nowhere.invalid:6379: not reachable: cannot resolve its name"
    wait_for(lambda: told in pointsman.log_text(), what="the name to be told of")


def test_replica_that_never_was_fit_is_told_of(processes):
    master = processes(Server("master")).ready()
    lone = processes(Server("lone", replica_of=master, settings={"masterauth": "wrong"})).ready()
    pointsman = processes(Pointsman(f"{master.address}, {lone.address}"))
    line = f"node {lone.address}: not fit: its link to the master is down"
    wait_for(lambda: line in pointsman.log_text(), what="the replica to be told of")
    assert pointsman.log_text().count(f"node {lone.address}: not fit") == 1


def test_node_that_loads_from_the_start_is_told_of(processes):
    server = processes(Server("loading", settings={"key-load-delay": 500, "loading-process-events-interval-bytes": 1024}))
    server.ready()
    with server.client() as client, server.raw(timeout=60) as reloading, server.raw() as asking:
        client.execute_command("DEBUG", "POPULATE", 8000, "k", 100)
        reloading.command("DEBUG", "RELOAD")
        wait_for(lambda: (asking.ask("GET", "a") or b"").startswith(b"LOADING"), what="the server to load")
        pointsman = processes(Pointsman(server.address, wait="listen", failover_hold_time="60s"))
        wait_for(lambda: "not fit: answers PING with: LOADING" in pointsman.log_text(), what="the reason in the log")
        wait_for(pointsman.writes, 20, what="writes to pass")
