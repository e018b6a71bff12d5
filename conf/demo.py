# SPDX-License-Identifier: BSD-2-Clause
"""`make demo`: what Pointsman does, shown on real Redis, on this machine, in a minute.

Starts a master, two replicas and three Sentinels on loopback and build/pointsman before them, lets clients work,
shows what each server was asked, kills the master and proves that a client lived through it. Stays until Ctrl-C,
or ends by itself after DEMO_SECONDS; the exit status is 0 only if all that was shown was true. Everything that was
started is ended, whatever way this ends.

KIND=cluster does the same with a Redis Cluster of three masters and three replicas: slots move under load, then a
master is killed.
"""

import os
import pathlib
import random
import signal
import socket
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "integration"))

import harness  # noqa: E402
import redis  # noqa: E402
import redis_cluster  # noqa: E402

PORT = 6380
SENTINEL_PORTS = (26379, 26380, 26381)
KILL_AFTER_SECONDS = 5
READS_PER_WRITE = 4  # the first of what was written, the others of
PAGES = 100          # keys that nobody writes
WORKERS = 4

COLOURS = {"bold": "1", "red": "31", "green": "32", "yellow": "33", "dim": "2"} if sys.stdout.isatty() else {}


def paint(colour, text):
    return f"\033[{COLOURS[colour]}m{text}\033[0m" if colour in COLOURS else text


def say(text=""):
    print(text, flush=True)


def is_free(port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((harness.HOST, port))
        except OSError:
            return False
    return True


class Worker(threading.Thread):
    """An application's connection: one counter of its own, a few reads for each write, books kept of all replies.

    It has exactly one connection and never opens another: if that ends, the worker has failed.
    """

    def __init__(self, number):
        super().__init__(daemon=True)
        self.client = redis.Redis(
            harness.HOST, PORT, single_connection_client=True, socket_timeout=30, retry_on_timeout=False
        )
        self.key = f"demo:counter:{number}"
        self.before = self.identity()
        self.writes = self.reads = self.unknown = self.stale = 0
        self.written_at = time.monotonic()
        self.longest_pause = 0.0
        self.problem = None
        self.ending = False

    def identity(self):
        """What changes with a new connection: its number at the proxy, and its own port."""
        return self.client.client_id(), self.client.connection._sock.getsockname()[1]

    def run(self):
        while not self.ending and not self.problem:
            try:
                value = self.write()
                self.stale += int(self.client.get(self.key) or 0) < value
                for _ in range(READS_PER_WRITE - 1):
                    self.client.get(f"demo:page:{random.randrange(PAGES)}")
                self.reads += READS_PER_WRITE
            except redis.RedisError as error:
                self.problem = error
            time.sleep(0.005)

    def write(self):
        try:
            value = self.client.incr(self.key)
        except redis.ResponseError as error:
            if not str(error).endswith("outcome unknown"):
                raise
            self.unknown += 1
            return 0
        now = time.monotonic()
        self.longest_pause = max(self.longest_pause, now - self.written_at)
        self.written_at = now
        self.writes += 1
        return value


class Board:
    """Where commands went: per server, from its own INFO commandstats."""

    WRITES, READS = ("incr", "incrby"), ("get",)

    def __init__(self, cluster):
        self.cluster = cluster
        self.rows = {server: [0, 0, 0] for server in cluster.servers}  # writes, reads, applied from the master
        self.last = {server: {} for server in cluster.servers}
        self.roles = {server: None for server in cluster.servers}
        self.refused = 0
        self.lines_drawn = 0
        self.reads_of_master = 0
        self.earlier = [0, 0]  # writes and reads of workers that have ended

    def update(self):
        for server in self.cluster.servers:
            if not server.is_alive():
                self.roles[server] = "dead"
                continue
            try:
                role, stats = server.role(), server.commandstats()
                self.refused += sum(count for name, count in server.rejected().items() if name in self.WRITES)
            except (redis.RedisError, OSError):
                continue
            new = lambda names: sum(stats.get(n, 0) - self.last[server].get(n, 0) for n in names)
            stayed = self.roles[server] in (None, role)
            row = self.rows[server]
            row[0 if role == "master" and stayed else 2] += new(self.WRITES)
            row[1] += new(self.READS)
            if role == "master" and stayed:
                self.reads_of_master += new(self.READS)
            self.roles[server], self.last[server] = role, stats

    def draw(self, workers):
        if COLOURS and self.lines_drawn:
            sys.stdout.write(f"\033[{self.lines_drawn}A")
        writes = self.earlier[0] + sum(worker.writes for worker in workers)
        reads = self.earlier[1] + sum(worker.reads for worker in workers)
        lines = [
            paint("bold", f"{'server':<18}{'role':<10}{'writes':>10}{'reads':>10}{'replicated':>13}"),
            *(self.line(server) for server in self.cluster.servers),
            f"{'clients count':<28}{writes:>10}{reads:>10}",
        ]
        for line in lines:
            sys.stdout.write(line + ("\033[K" if COLOURS else "") + "\n")
        sys.stdout.flush()
        self.lines_drawn = len(lines)

    def line(self, server):
        role = self.roles[server] or ""
        colour = {"master": "yellow", "slave": "green", "dead": "red"}.get(role, "dim")
        shown = {"slave": "replica"}.get(role, role)
        writes, reads, applied = self.rows[server]
        return paint(colour, f"{server.address:<18}{shown:<10}{writes:>10}{reads:>10}{applied:>13}")

    def leave(self):
        """What was drawn stays; the next drawing begins below."""
        self.lines_drawn = 0


class Demo:
    def __init__(self, seconds):
        self.seconds = seconds
        self.began = time.monotonic()
        self.claims = []  # (true, what was claimed)
        self.cluster = self.pointsman = self.board = None
        self.workers = []

    def claim(self, truth, text):
        self.claims.append(bool(truth))
        say(("  " + paint("green", "true   ") if truth else "  " + paint("red", "FALSE  ")) + text)

    def start(self):
        ports = SENTINEL_PORTS if all(is_free(port) for port in SENTINEL_PORTS) else ()
        say("Starting a master, two replicas and three Sentinels on 127.0.0.1 ...")
        self.cluster = harness.Replication(sentinel_ports=ports).start()
        self.pointsman = harness.Pointsman(
            self.cluster, wait=None, proxy_threads=None, proxy_listen=None,
            arguments=["-c", str(ROOT / "conf" / "demo.ini"), f"--proxy.listen={harness.HOST}:{PORT}"],
        )  # fmt: skip
        self.pointsman.port = PORT
        self.pointsman.keys.pop("proxy_listen", None)
        self.pointsman.start()
        harness.wait_for(self.pointsman.writes, 15, "pointsman to take a first write")
        self.pointsman.wait_for_replicas(2)
        for server in self.cluster.servers:
            server.reset_stats()
        names = ", ".join(str(sentinel.port) for sentinel in self.cluster.sentinels)
        say(f"Master {self.cluster.master.address}, replicas "
            + " and ".join(server.address for server in self.cluster.replicas) + f", Sentinels on {names}.")  # fmt: skip
        say(f"Pointsman listens on {paint('bold', f'{harness.HOST}:{PORT}')}, and knows no more than the Sentinels' addresses.")
        say()

    def work(self):
        self.workers = [Worker(number) for number in range(WORKERS)]
        self.board = Board(self.cluster)
        for worker in self.workers:
            worker.start()
        say(f"{WORKERS} clients, one connection each, {READS_PER_WRITE} reads for each write:")
        self.watch(lambda: time.monotonic() - self.began > KILL_AFTER_SECONDS)
        self.board.leave()
        master, replicas = self.cluster.master, self.cluster.replicas
        told = sum(worker.writes for worker in self.workers)
        self.board.update()
        self.claim(0 < told <= self.board.rows[master][0], "every write went to the master")
        self.claim(self.board.refused == 0, "no replica was asked to write")
        reads = [self.board.rows[replica][1] for replica in replicas]
        own = sum(worker.reads for worker in self.workers) / READS_PER_WRITE
        self.claim(sum(worker.stale for worker in self.workers) == 0, "no client has missed what it had just written")
        self.claim(
            all(reads) and self.board.reads_of_master <= own * 1.1 + 10,
            "all other reads went to replicas, and both have served some",
        )
        say()

    def watch(self, is_over, limit=30.0):
        """Draws the board until is_over() or a worker has failed; False if the limit came first."""
        interval = 0.25
        deadline = time.monotonic() + limit
        while not is_over():
            self.board.update()
            if COLOURS:
                self.board.draw(self.workers)
            if time.monotonic() > deadline or any(worker.problem for worker in self.workers):
                return False
            time.sleep(interval)
        self.board.update()
        self.board.draw(self.workers)
        return True

    def kill_the_master(self):
        old = self.cluster.master
        watch = harness.SwitchWatch(self.cluster.sentinels)
        for worker in self.workers:
            worker.longest_pause = 0.0
        say(paint("red", f"kill -9 of the master, {old.address}"))
        killed = time.monotonic()
        old.kill()
        resumed = lambda: watch.first and all(worker.written_at > watch.first for worker in self.workers)
        went_on = self.watch(resumed)
        if went_on:
            until = time.monotonic() + 1.5
            went_on = self.watch(lambda: time.monotonic() > until)
        self.board.leave()
        if not went_on:
            problems = [str(worker.problem) for worker in self.workers if worker.problem]
            self.claim(False, "writes go on after the failover " + "; ".join(problems))
            return
        pause = max(worker.longest_pause for worker in self.workers)
        detection = watch.first - killed
        say(f"The Sentinels named {self.cluster.master.address} the new master {1000 * detection:.0f} ms after the kill; "
            f"the longest pause in writes was {1000 * pause:.0f} ms.")  # fmt: skip
        self.claim(self.cluster.master is not old, "there is another master")
        self.check_books("writes go on, ")
        say()

    def check_books(self, opening):
        """Stops the workers, compares what they were told with what is stored, and lets new ones go on."""
        for worker in self.workers:
            worker.ending = True
        for worker in self.workers:
            worker.join(35)
        same = [not worker.problem and worker.identity() == worker.before for worker in self.workers]
        identity = self.workers[0].before
        self.claim(all(same), opening + f"on the very same connections: CLIENT ID {identity[0]}, local port {identity[1]}, "
                   f"as before the kill (and so for all {len(self.workers)})")  # fmt: skip
        stored = [self.stored(worker) for worker in self.workers]
        told = [(worker.writes, worker.unknown) for worker in self.workers]
        # A write that the old master acknowledged in its last moment may not have left it; Redis replicates later.
        right = [writes - 1 <= value <= writes + unknown for value, (writes, unknown) in zip(stored, told)]
        unknown = sum(u for _, u in told)
        self.claim(all(right), f"the counters on the new master hold {sum(stored)}; acknowledged were "
                   f"{sum(w for w, _ in told)}, and {unknown} clients were told 'outcome unknown'")  # fmt: skip

    def stored(self, worker):
        with self.cluster.master.client() as client:
            return int(client.get(worker.key) or 0)

    def stay(self):
        say("Try it:   redis-cli -p 6380          set, get, info, multi ... as on any Redis")
        say(f"          redis-cli -p {self.cluster.sentinels[0].port} sentinel masters")
        say(f"Its log:  {self.pointsman.log}")
        if self.seconds is None:
            say(paint("bold", "Ctrl-C ends everything."))
        say()
        self.board.earlier = [sum(w.writes for w in self.workers), sum(w.reads for w in self.workers)]
        again = [Worker(number + WORKERS) for number in range(WORKERS)]
        for worker in again:
            worker.start()
        self.workers = again
        while self.seconds is None or time.monotonic() - self.began < self.seconds:
            self.board.update()
            if COLOURS:
                self.board.draw(self.workers)
            if self.seconds is not None and any(worker.problem for worker in self.workers):
                break
            time.sleep(0.5)
        for worker in self.workers:
            worker.ending = True
        for worker in self.workers:
            worker.join(35)
        problems = [str(worker.problem) for worker in self.workers if worker.problem]
        self.claim(not problems, "clients worked on to the end" + "".join(f"; {p}" for p in problems))

    def stop(self):
        for worker in self.workers:
            worker.ending = True
        if self.pointsman and self.pointsman.is_alive():
            self.pointsman.stop()

    def show_log(self):
        if self.pointsman:
            say("The end of pointsman's log:")
            say("\n".join(self.pointsman.log_text().splitlines()[-30:]))


class ClusterDemo(Demo):
    """The same steps where keys are spread over three masters."""

    SLOTS_TO_MOVE = 300

    def start(self):
        say("Starting a Redis Cluster of three masters and three replicas on 127.0.0.1 ...")
        self.cluster = redis_cluster.RedisCluster(3, 1, settings={"cluster-require-full-coverage": "no"}).start()
        self.pointsman = harness.Pointsman(
            self.cluster.nodes[0].address, wait=None, proxy_threads=None, upstream_kind="cluster",
            proxy_listen=f"{harness.HOST}:{PORT}", reads_policy="master", failover_hold_time="30s",
        )  # fmt: skip
        self.pointsman.port = PORT
        self.pointsman.start()
        harness.wait_for(self.pointsman.writes, 15, "pointsman to take a first write")
        say("Masters " + ", ".join(node.address for node in self.cluster.masters()) + ".")
        say(f"Pointsman listens on {paint('bold', f'{harness.HOST}:{PORT}')}, and was told of one node.")
        say()

    def work(self):
        self.workers = [Worker(number) for number in range(2 * WORKERS)]
        for worker in self.workers:
            worker.start()
        say(f"{len(self.workers)} clients, one connection each, that know nothing of a cluster:")
        with redis.Redis(harness.HOST, PORT) as client:
            keys = [f"demo:{i}" for i in range(300)]
            client.mset({key: key for key in keys})
            self.claim(client.mget(keys) == [key.encode() for key in keys], "MSET and MGET of 300 keys in as many slots")
            held = [node.ask("DBSIZE") for node in self.cluster.masters()]
            self.claim(client.dbsize() == sum(held) and all(held), f"DBSIZE is the sum of all masters: {held}")
            found = set(client.scan_iter(count=50))
            self.claim({key.encode() for key in keys} <= found, "SCAN finds them all")
        giver, taker = self.cluster.masters()[:2]
        told = sum(worker.writes for worker in self.workers)
        self.cluster.redis_cli("reshard", giver.address, "--cluster-from", giver.id, "--cluster-to", taker.id,
                               "--cluster-slots", self.SLOTS_TO_MOVE, "--cluster-yes")  # fmt: skip
        time.sleep(0.5)
        went_on = sum(worker.writes for worker in self.workers) > told
        problems = [str(worker.problem) for worker in self.workers if worker.problem]
        self.claim(went_on and not problems, f"{self.SLOTS_TO_MOVE} slots went from {giver.address} to {taker.address} "
                   "meanwhile, and no client was told" + "; ".join(["", *problems]))  # fmt: skip
        say()

    def kill_the_master(self):
        old = self.cluster.master_of(self.workers[0].key)
        slot = redis_cluster.slot_of(self.workers[0].key)
        for worker in self.workers:
            worker.longest_pause = 0.0
        say(paint("red", f"kill -9 of {old.address}, one of the masters"))
        killed = time.monotonic()
        old.kill()
        new = self.cluster.wait_new_master(slot, old)
        chosen = time.monotonic()
        harness.wait_for(lambda: all(worker.written_at > chosen or worker.problem for worker in self.workers), 20,
                         "writes to go on")  # fmt: skip
        time.sleep(1)
        is_hit = lambda worker: redis_cluster.slot_of(worker.key) in new.own_slots()
        hit = [worker for worker in self.workers if is_hit(worker)]
        others = [worker for worker in self.workers if not is_hit(worker)]
        say(f"Its replica {new.address} took over {1000 * (chosen - killed):.0f} ms later. Longest pause in writes: "
            f"{1000 * max(w.longest_pause for w in hit):.0f} ms for its keys, "
            f"{1000 * max((w.longest_pause for w in others), default=0):.0f} ms for all others.")  # fmt: skip
        self.check_books("writes go on, ")
        say()

    def stored(self, worker):
        with redis.Redis(harness.HOST, PORT) as client:
            return int(client.get(worker.key) or 0)

    def stay(self):
        say("Try it:   redis-cli -p 6380          mset, mget, dbsize, scan, multi ... as on any Redis")
        say(f"          redis-cli -p {self.cluster.alive()[0].port} cluster shards")
        say(f"Its log:  {self.pointsman.log}")
        if self.seconds is None:
            say(paint("bold", "Ctrl-C ends everything."))
        say()
        while self.seconds is None or time.monotonic() - self.began < self.seconds:
            time.sleep(0.2)


KINDS = {"": Demo, "sentinel": Demo, "cluster": ClusterDemo}


def interrupt(*_):
    raise KeyboardInterrupt


def main():
    signal.signal(signal.SIGTERM, interrupt)
    if not is_free(PORT):
        say(f"Port {PORT} on {harness.HOST} is in use; the demo needs it. Who has it: ss -ltnp 'sport = :{PORT}'")
        return 1
    if not os.access(harness.POINTSMAN, os.X_OK):
        say(f"{harness.POINTSMAN} is not there: run make first")
        return 1
    kind = os.environ.get("KIND", "")
    if kind not in KINDS:
        say(f"KIND={kind} is not known here; write sentinel or cluster")
        return 1
    text = os.environ.get("DEMO_SECONDS", "")
    demo = KINDS[kind](float(text) if text else None)
    interrupted = False
    try:
        demo.start()
        demo.work()
        demo.kill_the_master()
        if all(demo.claims):
            demo.stay()
    except KeyboardInterrupt:
        interrupted = True
        say()
    except (AssertionError, redis.RedisError, OSError) as error:
        demo.claim(False, f"{type(error).__name__}: {error}")
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            demo.stop()
        except AssertionError as error:
            demo.claim(False, str(error))
        if not all(demo.claims):
            demo.show_log()
        harness.stop_everything()
        harness.remove_home()
    say("Everything is stopped and gone.")
    if not all(demo.claims):
        return 1
    finished = len(demo.claims) >= 6
    return 0 if finished and (demo.seconds is None or not interrupted) else 130


if __name__ == "__main__":
    sys.exit(main())
