# SPDX-License-Identifier: BSD-2-Clause
"""Two nodes say that they are the master: writes and reads go where most of the Sentinels point, and the log says so, once."""

import re

import pytest

from harness import Monitor, Pointsman, Replication, wait_for
from test_failover import start_counters


def gets_of(server):
    return server.commandstats().get("get", 0)


def told(pointsman, words):
    return [line for line in pointsman.log_text().splitlines() if words in line]


def kill(master):
    master.kill()


def start_again(master):
    master.start(old_config=True).ready()


def freeze(master):
    master.pause()


def thaw(master):
    master.resume()
    wait_for(master.answers, what="the old master to answer")


@pytest.mark.parametrize("end, come_back", [(kill, start_again), (freeze, thaw)], ids=["killed", "frozen"])
def test_old_master_that_comes_back_gets_no_command_and_is_told_of_once(own_cluster, processes, end, come_back):
    pointsman = processes(Pointsman(own_cluster)).wait_for_replicas(2)
    old, new = own_cluster.failover(end)
    counters = start_counters(pointsman, 10)
    with pointsman.client() as client:
        come_back(old)
        before = gets_of(old)
        with Monitor(old) as monitor:
            assert old.role() == "master", "it came back as a replica, so nothing is proven"
            wait_for(lambda: client.get("two:x") is None and told(pointsman, "two masters:"), 20, "the log to tell")

            def is_replica():
                assert client.get("two:x") is None
                reads = gets_of(old)
                if old.role() == "slave":
                    return True  # it may be read from now
                assert reads == before, "it was read from while it said that it is the master"
                return False

            wait_for(is_replica, 40, "a Sentinel to make it a replica")
            assert not monitor.commands("incr", "set", besides=[new.address])
            assert not set(old.rejected()) & {"incr", "set"}
    wait_for(lambda: told(pointsman, "one master again"), 20, "the log to tell of the end")
    (line,) = told(pointsman, "two masters:")
    assert re.search(f"warning .*two masters: {old.address} says that it is one beside {new.address}; "
                     f"writes go to {new.address} alone", line)  # fmt: skip
    assert len(told(pointsman, f"one master again: {new.address}")) == 1
    for counter in counters:
        counter.finish()
        assert not counter.errors and not counter.broken
    with new.client() as client:
        assert [int(client.get(counter.key)) for counter in counters] == [len(counter.values) for counter in counters]


def test_a_failover_in_which_the_old_master_is_gone_is_no_time_of_two_masters(own_cluster, processes):
    pointsman = processes(Pointsman(own_cluster)).wait_for_replicas(2)
    own_cluster.failover(kill)
    wait_for(pointsman.writes, 20)
    wait_for(lambda: told(pointsman, "master is"), 10)
    assert not told(pointsman, "two masters")


def test_a_sentinel_with_an_old_opinion_that_is_asked_first_is_not_followed(own_cluster, processes):
    late = own_cluster.sentinels.pop(0)
    late.pause()
    old, new = own_cluster.failover(kill)
    start_again(old)
    assert old.role() == "master", "it came back as a replica, so nothing is proven"
    pointsman = Pointsman(f"{late.address}, {own_cluster.nodes}", wait="listen")
    with Monitor(old) as monitor:
        late.resume()
        processes(pointsman)
        counters = start_counters(pointsman, 10)
        wait_for(lambda: all(len(counter.values) > 100 for counter in counters), 30)
        assert not monitor.commands("incr", besides=[new.address])
        assert "incr" not in old.commandstats() or old.role() == "slave"
    for counter in counters:
        counter.finish()
        assert not counter.errors and not counter.broken
    with new.client() as client:
        assert [int(client.get(counter.key)) for counter in counters] == [len(counter.values) for counter in counters]
    late.resume()
    own_cluster.sentinels.insert(0, late)


def test_two_masters_of_a_static_set_are_told_of_once(processes):
    pair = Replication(replicas=1, sentinels=0).start()
    pointsman = processes(Pointsman(pair))
    old, new = pair.servers
    new.replicaof(None)
    wait_for(lambda: told(pointsman, "two masters:"), 20, "the log to tell")
    old.replicaof(new)
    wait_for(lambda: told(pointsman, "one master again"), 20, "the log to tell of the end")
    assert len(told(pointsman, "two masters")) == 1 and len(told(pointsman, "one master again")) == 1
    pointsman.stop()
    pair.stop()
