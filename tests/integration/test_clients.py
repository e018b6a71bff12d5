# SPDX-License-Identifier: BSD-2-Clause
"""Clients as people use them find a plain Redis behind Pointsman's address, also while its master dies.

The JavaScript is in clients/: `node run.js CLIENT SCENARIO PORT`, each scenario one process. What it needs of npm is
installed into build/node by the fixture below; no node, no npm or no network is a failure, never a skip.

Reads on replicas are eventually consistent in this version, and these scenarios read at once what they have written.
So their Pointsman has reads.policy = master; BullMQ, which decides by scripts, is run with the default policy as well.
"""

import asyncio
import json
import os
import pathlib
import pty
import re
import select
import shutil
import subprocess
import threading
import time
import uuid

import pytest
import redis
import redis.asyncio

from harness import HOST, POINTSMAN, ROOT, SLOWNESS, Pointsman, Replication, encode, wait_for

CLIENTS = pathlib.Path(__file__).parent / "clients"
NODE_HOME = ROOT / "build" / "node"
HIREDIS_CLIENT = pathlib.Path(POINTSMAN).parent / "hiredis_client"  # of tools/, built with the tests
OUTCOME_UNKNOWN = "ERR pointsman: connection to master lost after the write was sent; outcome unknown"
SHARED_SCENARIOS = [
    "connects_with_default_settings",
    "pipeline_is_answered_in_order_errors_included",
    "multi_exec_is_one_step",
    "watch_conflict_fails_the_transaction",
    "blocking_pop_gets_what_another_client_pushes",
    "publish_reaches_every_subscriber",
    "scripts_are_loaded_when_they_are_missing",
    "scans_see_every_member_and_key",
    "databases_are_apart",
    "names_are_seen_in_the_client_list",
    "binary_and_large_values_come_back_the_same",
    "stream_group_is_read_while_blocked",
]
BULLMQ_SCENARIOS = [
    "jobs_are_done_exactly_once_delayed_ones_included",
    "failed_jobs_are_tried_again_and_results_awaited",
    "parent_waits_for_its_children",
    "repeatable_jobs_run_again_and_again_until_removed",
    "flow_of_several_levels_fails_and_succeeds_as_told",
]
GLIDE_SCENARIOS = [
    "both_protocols_give_the_same_values",
    "pipelines_and_transactions",
    "scripts_blocking_pops_and_scans",
    "messages_reach_a_subscriber",
]
# ioredis 6 and node-redis 6 begin with HELLO 3, and all else in one packet.
NEED_NODE_20 = ("ioredis6", "redis6")
NODE_CLIENTS = ("ioredis", "ioredis6", "redis4", "redis5", "redis6")
SCENARIOS = [(client, scenario) for client in NODE_CLIENTS for scenario in SHARED_SCENARIOS]
SCENARIOS += [("iovalkey", scenario) for scenario in SHARED_SCENARIOS[1:7]]  # as much as differs little from ioredis
SCENARIOS += [(client, "automatic_pipelines_answer_each_caller") for client in ("ioredis", "ioredis6")]
SCENARIOS += [("bullmq", scenario) for scenario in BULLMQ_SCENARIOS]
SCENARIOS += [("glide", scenario) for scenario in GLIDE_SCENARIOS]
PHPREDIS_SCENARIOS = [
    "plain_values_and_types",
    "serialized_and_prefixed_values",
    "pipelines_and_transactions",
    "blocking_pops",
    "scripts",
    "scans_and_databases",
    "messages_reach_a_subscriber",
    "persistent_connections",
    "sessions",
]
REDIS_RB_SCENARIOS = [
    "plain_values_and_types",
    "pipelines_and_transactions",
    "blocking_pops",
    "scripts",
    "scans",
    "messages_reach_a_subscriber",
    "stream_groups",
    "threads_share_a_connection",
]


@pytest.fixture(scope="session")
def node():
    """The environment in which node finds the clients, installed if clients/package.json is not what is there."""
    assert shutil.which("node") and shutil.which("npm"), "node or npm is missing: run make test-deps"
    wanted = (CLIENTS / "package.json").read_text()
    installed = NODE_HOME / "installed"  # what package.json was when npm was through with it
    if not installed.exists() or installed.read_text() != wanted:
        NODE_HOME.mkdir(parents=True, exist_ok=True)
        (NODE_HOME / "package.json").write_text(wanted)
        command = ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts", "--prefix", "."]
        done = subprocess.run(command, cwd=NODE_HOME, timeout=120, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"npm install: {done.stderr[-2000:]}"
        installed.write_text(wanted)
    return {**os.environ, "NODE_PATH": str(NODE_HOME / "node_modules")}


@pytest.fixture(scope="module")
def consistent(cluster):
    """A pointsman through which every read sees the writes before it."""
    with Pointsman(cluster, reads_policy="master") as pointsman:
        yield pointsman


def command_of(client, scenario, port):
    return ["node", str(CLIENTS / "run.js"), client, scenario, str(port)]


def run(command, environment=None, text=None):
    """Runs it to its end, which has to be 0; stdout and stderr together, as people see them."""
    done = subprocess.run(
        command, env=environment, input=text or "", timeout=30 * SLOWNESS, text=True, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == 0, f"{' '.join(map(str, command))}: {done.stdout[-4000:]}"
    return done.stdout


# --------------------------------------------------------------------------------------------- JavaScript


def test_every_scenario_of_the_javascript_is_run(node):
    """A scenario that is in a file and not in the lists above would be taken for one that holds."""
    clients = [client for client in ("ioredis", "redis4", "redis5", "bullmq", "glide") if not why_not_here(client)]
    program = f"JSON.stringify({json.dumps(clients)}.map((name) => Object.keys(require(`{CLIENTS}/${{name}}.js`))))"
    for client, names in zip(clients, json.loads(run(["node", "-p", program], node))):
        assert set(names) - {"counts_until_told"} == {name for c, name in SCENARIOS if c == client}


def why_not_here(client):
    """npm installs these wherever it runs; they only work on some machines. None where they do."""
    if client in NEED_NODE_20 and int(run(["node", "-p", "process.versions.node.split('.')[0]"])) < 20:
        return f"{client} wants node 20"
    if client == "glide" and not list((NODE_HOME / "node_modules/@valkey").glob("valkey-glide-*")):
        return "@valkey/valkey-glide has no library for this machine"
    return None


def skip_what_cannot_be_here(client):
    if why_not_here(client):
        pytest.skip(why_not_here(client))


@pytest.mark.parametrize("client, scenario", SCENARIOS)
def test_javascript(node, consistent, client, scenario):
    skip_what_cannot_be_here(client)
    assert run(command_of(client, scenario, consistent.port), node) == ""  # not a warning either


@pytest.mark.parametrize("scenario", BULLMQ_SCENARIOS)
def test_bullmq_with_reads_on_replicas(node, proxy, scenario):
    run(command_of("bullmq", scenario, proxy.port), node)


class Counting:
    """A node process that writes until it is told to end, and then says what it met."""

    def __init__(self, node, client, port):
        self.process = subprocess.Popen(
            command_of(client, "counts_until_told", port), env=node, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self.client = client

    def wait_until_counting(self):
        line = self.process.stdout.readline()
        assert line == "counting\n", line + self.process.communicate(timeout=10)[0]

    def report(self):
        output = self.process.communicate("end\n", timeout=40 * SLOWNESS)[0]
        assert self.process.returncode == 0, output
        return json.loads(output)


@pytest.fixture(scope="module")
def lived_through_failover(node):
    """What each client says after kill -9 of the master while it wrote, and the values that the new master holds."""
    cluster = Replication().start()
    counting = []
    try:
        with Pointsman(cluster, failover_hold_time="60s") as pointsman:  # an election may have to be repeated
            counting = [Counting(node, client, pointsman.port) for client in ("ioredis", "redis4", "redis5", "bullmq")]
            for client in counting:
                client.wait_until_counting()
            _, new = cluster.failover(lambda master: master.kill())
            switched_ms = wait_until_written(pointsman)
            reports = {client.client: client.report() for client in counting}
            with new.client(decode_responses=True) as connection:
                keys = connection.keys("*:counts_until_told:[0-9]")
                stored = {key: int(connection.get(key)) for key in keys}
        yield reports, stored, switched_ms
    finally:
        for client in counting:
            client.process.kill()
            client.process.wait()
        cluster.stop()


def wait_until_written(pointsman):
    """The moment, in ms of the wall clock as JavaScript counts, by which a write has come through again."""
    with pointsman.client() as client:
        wait_for(lambda: client.incr("after"), 15, "a write to the new master")
    moment = time.time() * 1000
    time.sleep(2)  # all others have held requests answered and go on
    return moment


@pytest.mark.parametrize("client", ["ioredis", "redis4", "redis5"])
def test_connection_outlives_the_master_and_no_increment_is_repeated(lived_through_failover, client):
    reports, stored, switched_ms = lived_through_failover
    report = reports[client]
    assert report["seen"] == []  # not one of error, close, reconnecting, end
    assert report["sameConnection"]
    for counter in report["counters"]:
        values, errors = counter["values"], counter["errors"]
        assert set(errors) <= {OUTCOME_UNKNOWN} and len(errors) <= 1
        assert counter["lastMs"] > switched_ms, "it wrote nothing to the new master"
        assert stored[counter["key"]] == values[-1] <= len(values) + len(errors)
        assert len(values) - values[-1] <= 1, "more is missing than one write that replication had not carried over"
        jumps = [after - before for before, after in zip(values, values[1:]) if after - before != 1]
        assert len(jumps) <= 1, jumps


def test_bullmq_forgets_no_accepted_job_when_the_master_dies(lived_through_failover):
    report = lived_through_failover[0]["bullmq"]
    assert set(report["refused"]) <= {OUTCOME_UNKNOWN}
    assert "ioredis:close" not in report["seen"] + report["seenByWorker"]
    assert len(report["forgotten"]) <= 1, "more is missing than one job that replication had not carried over"


# ---------------------------------------------------------------------------------------------- PHP, Ruby, C

PHPREDIS = ["php", "-d", "session.save_path=", str(CLIENTS / "phpredis.php")]
REDIS_RB = ["ruby", str(CLIENTS / "redis_rb.rb")]


def test_every_scenario_in_php_and_ruby_is_run():
    assert run([*PHPREDIS, "list", "0"]).split() == PHPREDIS_SCENARIOS
    assert run([*REDIS_RB, "list", "0"]).split() == REDIS_RB_SCENARIOS


@pytest.mark.parametrize("scenario", PHPREDIS_SCENARIOS)
def test_php(consistent, scenario):
    assert run([*PHPREDIS, scenario, str(consistent.port)]) == ""


@pytest.mark.parametrize("scenario", REDIS_RB_SCENARIOS)
def test_ruby(consistent, scenario):
    assert run([*REDIS_RB, scenario, str(consistent.port)]) == ""


def test_hiredis(consistent):
    assert run([HIREDIS_CLIENT, str(consistent.port)]) == ""


# ------------------------------------------------------------------------------------------------- Python


@pytest.fixture
def key():
    return f"python:{uuid.uuid4().hex}"


def test_python_pipeline_transaction_and_script(consistent, key):
    with consistent.client(decode_responses=True, client_name="py") as client:
        assert client.client_getname() == "py"
        assert "py" in [line["name"] for line in client.client_list()]
        pipe = client.pipeline(transaction=False)
        for number in range(1000):
            pipe.incr(key).get(key)
        assert pipe.execute() == [x for number in range(1, 1001) for x in (number, str(number))]
        assert client.pipeline().set(key, 1).incr(key).get(key).execute() == [True, 2, "2"]
        assert client.transaction(lambda p: p.multi() or p.incr(key), key) == [3]
        add = client.register_script("return redis.call('incrby', KEYS[1], ARGV[1])")
        client.script_flush()
        assert [add(keys=[key], args=[4]), add(keys=[key], args=[4])] == [7, 11]
        with client.lock(f"{key}:lock", timeout=5):
            assert client.exists(f"{key}:lock")
        assert not client.exists(f"{key}:lock")


def test_python_scans_databases_and_pubsub(consistent, key):
    with consistent.client(decode_responses=True) as client, consistent.client(db=3) as third:
        members = {f"m{number}" for number in range(5000)}
        client.sadd(key, *members)
        client.mset({f"{key}:{member}": 1 for member in members})
        assert set(client.sscan_iter(key)) == members
        assert {name.rpartition(":")[2] for name in client.scan_iter(f"{key}:*", count=500)} == members
        assert third.exists(key) == 0
        pubsub = client.pubsub()
        pubsub.subscribe(key)
        assert pubsub.get_message(timeout=5)["type"] == "subscribe"
        assert client.publish(key, "hello") == 1
        assert pubsub.get_message(timeout=5)["data"] == "hello"
        pubsub.close()


def test_python_blocking_pop(consistent, key):
    with consistent.client() as client, consistent.client() as other:
        timer = threading.Timer(0.1, other.rpush, (key, "job"))
        timer.start()
        assert client.blpop(key, 10) == (key.encode(), b"job")
        timer.join()
        assert client.blpop(key, 1) is None


def test_python_asyncio(consistent, key):
    async def scenario():
        client = redis.asyncio.Redis(host=HOST, port=consistent.port, decode_responses=True)
        assert await client.ping()
        assert sorted(await asyncio.gather(*(client.incr(key) for _ in range(200)))) == list(range(1, 201))
        async with client.pipeline(transaction=True) as pipe:
            assert await pipe.set(key, 1).incr(key).execute() == [True, 2]
        async with client.pipeline() as pipe:
            await pipe.watch(key)
            await client.incr(key)
            pipe.multi()
            pipe.set(key, 9)
            with pytest.raises(redis.WatchError):
                await pipe.execute()
        popped = asyncio.create_task(client.blpop(f"{key}:queue", 10))
        await asyncio.sleep(0.05)
        await client.rpush(f"{key}:queue", "job")
        assert tuple(await popped) == (f"{key}:queue", "job")
        async with client.pubsub() as pubsub:
            await pubsub.psubscribe(f"{key}*")
            assert (await pubsub.get_message(timeout=5))["type"] == "psubscribe"
            assert await client.publish(key, "hello") == 1
            assert (await pubsub.get_message(timeout=5))["data"] == "hello"
        await client.hset(f"{key}:hash", mapping={f"f{number}": number for number in range(3000)})
        assert len({field async for field, _ in client.hscan_iter(f"{key}:hash")}) == 3000
        await client.close()
        await client.connection_pool.disconnect()

    asyncio.run(scenario())


# ------------------------------------------------------------------------------- redis-cli and redis-benchmark


def cli(pointsman, *arguments, text=None):
    return run(["redis-cli", "-p", str(pointsman.port), *arguments], text=text)


def test_redis_cli_modes(consistent, key):
    assert cli(consistent, text=f"SET {key} 1\nINCR {key}\nSELECT 3\nGET {key}\n") == "OK\n2\nOK\n\n"
    assert cli(consistent, "-n", "3", "exists", key) == "0\n"
    add = "return redis.call('INCRBY', KEYS[1], ARGV[1])"
    assert cli(consistent, "--eval", "/dev/stdin", key, ",", "5", text=add) == "7\n"
    assert cli(consistent, "-x", "set", key, text="from stdin") == "OK\n"
    commands = b"".join(encode("SET", f"{key}:{number}", 1) for number in range(5000))
    assert cli(consistent, "--pipe", text=commands.decode()).endswith("errors: 0, replies: 5000\n")
    assert len(set(cli(consistent, "--scan", "--pattern", f"{key}:*").split())) == 5000
    assert cli(consistent, "-r", "3", "incr", f"{key}:n") == "1\n2\n3\n"


def test_redis_cli_that_asks_for_resp3_is_served(consistent, key):
    assert cli(consistent, "-3", "incr", key) == "1\n"
    assert cli(consistent, "-3", "hset", key + ":h", "field", "value") == "1\n"
    assert cli(consistent, "-3", "--json", "hgetall", key + ":h") == '{"field":"value"}\n'


class Cli:
    """A redis-cli that does not end by itself, on a terminal of its own (and so interactive) or not."""

    def __init__(self, pointsman, *arguments, is_interactive=False):
        self.output = b""
        self.near, far = pty.openpty() if is_interactive else os.pipe()
        environment = {**os.environ, "TERM": "dumb", "REDISCLI_HISTFILE": "/dev/null"}
        command = ["redis-cli", "-p", str(pointsman.port), *arguments]
        self.process = subprocess.Popen(
            command, stdin=far if is_interactive else subprocess.DEVNULL, stdout=far, stderr=far, env=environment,
        )  # fmt: skip
        os.close(far)

    def say(self, line):
        os.write(self.near, line.encode() + b"\n")

    def wait_for(self, pattern, seconds=10):
        """Reads until the output matches, and returns the match."""
        deadline = time.monotonic() + seconds * SLOWNESS
        while not (match := re.search(pattern, self.output, re.S)):
            readable = select.select([self.near], [], [], max(0, deadline - time.monotonic()))[0]
            assert readable, f"no {pattern} in {self.output[-2000:]}"
            self.output += os.read(self.near, 1 << 16)
        return match

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        os.close(self.near)


def test_redis_cli_fetches_its_help_from_the_server(cluster, consistent, key):
    """On a terminal it asks for COMMAND DOCS as soon as it is connected, a large answer."""
    with cluster.counting() as counts, Cli(consistent, is_interactive=True) as terminal:
        terminal.wait_for(rb"> ")
        terminal.say("help getex")
        terminal.wait_for(rb"summary:.*since:\S* 6\.2\.0")
        terminal.say(f"set {key} 'two words'")
        terminal.wait_for(rb"OK")
        terminal.say(f"get {key}")
        terminal.wait_for(rb'"two words"')
        terminal.say("multi")
        terminal.wait_for(rb"\(TX\)> ")
        terminal.say("exec")
        terminal.wait_for(rb"\(empty array\)")
    assert counts.calls(cluster.master, "command|docs") == 1


def test_redis_cli_subscribes_and_monitors(consistent, key):
    with Cli(consistent, "subscribe", key) as listener, Cli(consistent, "monitor") as monitor:
        listener.wait_for(rb"subscribe")
        monitor.wait_for(rb"OK")
        with consistent.client() as client:
            assert client.publish(key, "hello there") == 1
        listener.wait_for(b"message\n" + key.encode() + b"\nhello there")
        monitor.wait_for(rb'"PUBLISH" "' + key.encode() + rb'" "hello there"')


def test_redis_cli_watches_statistics_and_latency(consistent):
    with Cli(consistent, "--stat", "-i", "0.05") as statistics:
        statistics.wait_for(rb"keys +mem +clients +blocked +requests +connections.*(\n\d+ .*){3}")
    shortest, longest, average, count = cli(consistent, "--latency", "-i", "0.3").split()
    assert 0 <= float(shortest) <= float(average) <= float(longest) and int(count) > 10


def test_redis_cli_looks_for_big_keys(consistent, key):
    database = ["-n", "9"]  # where the thousands of keys of other tests are not
    with consistent.client(db=9) as client:
        client.mset({f"{key}:{number}": 1 for number in range(500)})
        client.rpush(f"{key}:list", *range(3000))
        client.set(f"{key}:string", "x" * 50000)
    biggest = cli(consistent, *database, "--bigkeys")
    assert "Sampled 502 keys" in biggest
    assert re.search(rf"Biggest +list found \W*{key}:list\W* has 3000 items", biggest)
    assert f"{key}:string" in cli(consistent, *database, "--memkeys").split("summary")[1]


def test_redis_cli_in_resp3(consistent, key):
    cli(consistent, "-3", "hset", key, "a", "1")
    typed = run(["redis-cli", "-3", "--no-raw", "-p", str(consistent.port), "hgetall", key])
    assert typed == '1# "a" => "1"\n'


@pytest.mark.parametrize(
    "arguments, count",
    [
        (["-n", "1000"], 20),
        (["-t", "set,get,incr,lpush,mset", "-n", "5000", "-P", "16", "-c", "20"], 5),
        (["-t", "set,get", "-n", "2000", "--threads", "2", "-r", "1000"], 2),
        (["-n", "500", "eval", "return redis.call('incr', KEYS[1])", "1", "benchmark:n"], 1),
    ],
    ids=["all_tests", "pipelined", "threads", "eval"],
)
def test_redis_benchmark_runs_to_its_end(consistent, arguments, count):
    output = run(["redis-benchmark", "-p", str(consistent.port), "--csv", *arguments])
    rates = [line for line in output.splitlines() if re.match(r'"[^"]+","[0-9.]+"', line)]
    assert len(rates) == count, output
    assert "rror" not in output
