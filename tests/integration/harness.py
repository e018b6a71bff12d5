# SPDX-License-Identifier: BSD-2-Clause
"""Real redis-servers, Sentinels and pointsmen on free loopback ports, for tests and for nothing else.

Every process is a Process: it has a directory of its own, writes what it says to `log`, is known to the registry
from its start to its end, and dies with us whatever way we die (PR_SET_PDEATHSIG), so that nothing is left
behind after Ctrl-C or kill -9. Nothing here tests; the words of a test stand in the test.
"""

import contextlib
import ctypes
import os
import pathlib
import random
import re
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

import redis

ROOT = pathlib.Path(__file__).resolve().parents[2]
POINTSMAN = os.environ.get("POINTSMAN") or str(ROOT / os.environ.get("BUILD", "build") / "pointsman")
SANITIZED = bool(os.environ.get("SANITIZE"))
SLOWNESS = 4 if SANITIZED else 1  # waits and bounds are stretched by this under a sanitizer
MASTER_NAME = "mymaster"
HOST = "127.0.0.1"

SANITIZER_REPORT = re.compile(r"(Address|Leak|Thread|Memory|UndefinedBehavior)Sanitizer|runtime error:|Assertion `")

# ---------------------------------------------------------------------------------------------- waiting


def wait_for(question, timeout=10.0, what="", every=0.02):
    """Asks until the answer is true and returns it; a connection that fails meanwhile is an answer of no."""
    deadline = time.monotonic() + timeout * SLOWNESS
    while True:
        try:
            answer = question()
        except (redis.RedisError, OSError) as error:
            answer, problem = None, error
        else:
            problem = None
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout * SLOWNESS:g} s in vain for {what or question} ({problem})")
        time.sleep(every)


def raise_descriptor_limit():
    """As many descriptors as the hard limit allows, for us and for all we start."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


# ------------------------------------------------------------------------------------------------ ports

_reservations = []


def free_port():
    """A port below the ephemeral range, so no outgoing connection takes it while its server is down.

    An abstract unix socket reserves it among test runs side by side, for as long as this process lives.
    """
    for _ in range(500):
        port = random.SystemRandom().randrange(12000, 32000)
        reservation = socket.socket(socket.AF_UNIX)
        try:
            reservation.bind(f"\0pointsman-test-port-{port}")
            for family, host in ((socket.AF_INET, HOST), (socket.AF_INET6, "::1")):
                with socket.socket(family) as probe:
                    probe.bind((host, port))
        except OSError:
            reservation.close()
            continue
        _reservations.append(reservation)
        return port
    raise AssertionError("no free port found")


# -------------------------------------------------------------------------------------------- processes

_home = None
_libc = ctypes.CDLL(None, use_errno=True)
running = []  # every Process that was started and not yet ended, oldest first
ended = []  # those that ended since conftest last emptied it


def home():
    """The directory under which each process has its own; removed by conftest unless a test failed."""
    global _home
    if _home is None:
        _home = pathlib.Path(tempfile.mkdtemp(prefix="pointsman-test-"))
    return _home


def remove_home():
    global _home
    if _home is not None:
        shutil.rmtree(_home, ignore_errors=True)
        _home = None


def stop_everything():
    for process in reversed(list(running)):
        process.kill()


def _die_with_parent():
    _libc.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


class Process:
    """One program. start() again after its end keeps directory, port and log."""

    def __init__(self, name):
        self.name = name
        self.directory = home() / name
        suffix = 1
        while self.directory.exists():
            suffix += 1
            self.directory = home() / f"{name}-{suffix}"
        self.name = self.directory.name
        self.directory.mkdir()
        self.log = self.directory / "log"
        self.log.touch()
        self.log_mark = 0  # where the log stood when the current test began
        self.popen = None

    def command(self):
        raise NotImplementedError

    def environment(self):
        return None

    def start(self):
        assert self.popen is None, f"{self.name} runs already"
        with open(self.log, "ab") as log:
            self.popen = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                env=self.environment(),
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )
        running.append(self)
        return self

    @property
    def pid(self):
        return self.popen.pid

    def is_alive(self):
        return self.popen is not None and self.popen.poll() is None

    def signal(self, number):
        self.popen.send_signal(number)

    def pause(self):
        self.signal(signal.SIGSTOP)

    def resume(self):
        self.signal(signal.SIGCONT)

    def wait(self, timeout=10.0):
        """Waits for its end and returns the exit status (negative: the signal)."""
        status = self.popen.wait(timeout * SLOWNESS)
        self._forget()
        return status

    def kill(self):
        """kill -9; fine if it has ended."""
        if self.popen is None:
            return
        if self.popen.poll() is None:
            self.popen.kill()
        self.popen.wait()
        self._forget()

    def _forget(self):
        self.popen = None
        if self in running:
            running.remove(self)
            ended.append(self)

    def log_text(self, since_mark=False):
        data = self.log.read_bytes()
        return data[self.log_mark if since_mark else 0 :].decode(errors="replace")

    # What /proc knows of it.

    def cpu(self):
        """Seconds of CPU used so far, user and system."""
        fields = pathlib.Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def rss(self):
        """Bytes of resident memory."""
        return int(pathlib.Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * resource.getpagesize()

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))


class Node(Process):
    """A program that speaks Redis' protocol: server or Sentinel, with its configuration in a file."""

    program = "redis-server"

    def __init__(self, name, port=None, password=None, bind=HOST):
        super().__init__(name)
        self.port = port or free_port()
        self.password = password
        self.bind = bind
        self.config = self.directory / "redis.conf"

    @property
    def address(self):
        return f"{HOST}:{self.port}"

    def config_lines(self):
        raise NotImplementedError

    def write_config(self):
        self.config.write_text("".join(f"{line}\n" for line in self.config_lines()))

    def command(self):
        return [self.program, str(self.config)]

    def start(self, old_config=True):
        """old_config: with the configuration it was made with, not the one Sentinel has rewritten."""
        if old_config or not self.config.exists():
            self.write_config()
        return super().start()

    def restart(self, old_config=True):
        self.kill()
        return self.start(old_config).ready()

    def ready(self):
        wait_for(lambda: self.answers(), what=f"{self.name} to answer")
        return self

    def answers(self):
        assert self.is_alive(), f"{self.name} has ended: {self.log_text()[-500:]}"
        with Raw(self.port) as link:
            return link.ask("PING") in (b"PONG",) or b"NOAUTH" in link.last_line

    def client(self, **options):
        options.setdefault("password", self.password)
        options.setdefault("socket_timeout", 10 * SLOWNESS)
        return redis.Redis(HOST, self.port, **options)

    def raw(self, **options):
        return Raw(self.port, **options)


class Server(Node):
    """A redis-server. settings are lines of redis.conf: Server("a", settings={"maxmemory": "1mb"})."""

    def __init__(self, name="server", port=None, password=None, replica_of=None, settings=None, bind=HOST):
        super().__init__(name, port, password, bind)
        self.replica_of = replica_of
        self.settings = settings or {}

    def config_lines(self):
        yield f"port {self.port}"
        yield f"bind {self.bind}"
        yield f"dir {self.directory}"
        yield 'save ""'
        yield "daemonize no"
        yield "enable-debug-command yes"
        yield "repl-diskless-sync-delay 0"
        yield "repl-ping-replica-period 1"
        yield "maxclients 6000"
        if self.password:
            yield f"requirepass {self.password}"
            yield f"masterauth {self.password}"
        for key, value in self.settings.items():
            for line in value if isinstance(value, list) else [value]:
                yield f"{key} {line}"
        if self.replica_of:
            yield f"replicaof {HOST} {self.replica_of.port}"

    def info(self, section="default"):
        with self.client() as client:
            return client.info(section)

    def role(self):
        with self.client() as client:
            return client.execute_command("ROLE")[0].decode()

    def link_is_up(self):
        return self.info("replication").get("master_link_status") == "up"

    def replicaof(self, master):
        with self.client() as client:
            client.execute_command("REPLICAOF", *(("NO", "ONE") if master is None else (HOST, master.port)))

    def commandstats(self):
        """name -> calls, in lower case; subcommands as "client|list"."""
        return self._stats("calls")

    def rejected(self):
        """name -> calls refused before they ran: READONLY, wrong arity and so on."""
        return self._stats("rejected_calls")

    def _stats(self, field):
        with self.client() as client:
            stats = client.info("commandstats")
        return {key[len("cmdstat_") :]: value[field] for key, value in stats.items() if value[field]}

    def reset_stats(self):
        with self.client() as client:
            client.execute_command("CONFIG", "RESETSTAT")

    def connected_clients(self):
        return self.info("clients")["connected_clients"]

    def connections_received(self):
        return self.info("stats")["total_connections_received"]


class Sentinel(Node):
    program = "redis-sentinel"

    def __init__(self, name, master, quorum=2, port=None, password=None, settings=None, monitor_host=HOST, names=None):
        super().__init__(name, port, password)
        self.master = master
        self.quorum = quorum
        self.settings = settings or []
        self.monitor_host = monitor_host
        self.names = names or {MASTER_NAME: master}

    def config_lines(self):
        yield f"port {self.port}"
        yield f"bind {self.bind}"
        yield f"dir {self.directory}"
        yield "daemonize no"
        if self.password:
            yield f"requirepass {self.password}"
            yield f"sentinel sentinel-pass {self.password}"
        yield from (line for line in self.settings if "%s" not in line)
        for name, master in self.names.items():
            yield f"sentinel monitor {name} {self.monitor_host} {master.port} {self.quorum}"
            yield f"sentinel down-after-milliseconds {name} 2000"
            yield f"sentinel failover-timeout {name} 10000"
            yield f"sentinel parallel-syncs {name} 5"
            if master.password:
                yield f"sentinel auth-pass {name} {master.password}"
            yield from (line % name for line in self.settings if "%s" in line)

    def master_address(self, name=MASTER_NAME):
        with self.client() as client:
            host, port = client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", name)
        return host.decode(), int(port)

    def state(self, name=MASTER_NAME):
        with self.client() as client:
            return client.sentinel_master(name)

    def hurry(self, yes=True):
        """Lets Sentinels find each other in a blink instead of two seconds."""
        with self.client() as client:
            client.execute_command(
                "SENTINEL", "DEBUG", "publish-period", 100 if yes else 2000, "info-period", 200 if yes else 10000
            )


class Replication:
    """A master, its replicas and their Sentinels, up and agreed when start() returns."""

    def __init__(
        self, replicas=2, sentinels=3, password=None, sentinel_password=None, settings=None, sentinel_settings=None,
        monitor_host=HOST, sentinel_ports=(),
    ):
        ports = list(sentinel_ports) + [None] * sentinels
        make = lambda name, master=None: Server(name, password=password, replica_of=master, settings=settings)
        first = make("master")
        self.servers = [first] + [make(f"replica{i + 1}", first) for i in range(replicas)]
        self.sentinels = [
            Sentinel(
                f"sentinel{i + 1}", first, sentinels // 2 + 1, ports[i], password=sentinel_password,
                settings=sentinel_settings, monitor_host=monitor_host,
            )
            for i in range(sentinels)
        ]

    def start(self):
        for server in self.servers:
            server.start()
        for server in self.servers:
            server.ready()
        for server in self.servers[1:]:
            wait_for(server.link_is_up, what=f"{server.name} to follow")
        for sentinel in self.sentinels:
            sentinel.start()
        for sentinel in self.sentinels:
            sentinel.ready().hurry()
        self.wait_until_agreed()
        for sentinel in self.sentinels:
            sentinel.hurry(False)
        wait_for(self._streams, what="the master to have heard of what its replicas have")
        return self

    def _streams(self):
        """A replica whose link is up gets nothing until its first acknowledgement, which may take a second."""
        info = self.servers[0].info("replication")
        replicas = [info.get(f"slave{number}", {}) for number in range(len(self.servers) - 1)]
        return all(replica.get("state") == "online" and replica.get("offset", 0) > 0 for replica in replicas)

    def wait_until_agreed(self):
        for sentinel in self.sentinels:
            wait_for(lambda: self._knows_all(sentinel), 20, f"{sentinel.name} to know all others")

    def _knows_all(self, sentinel):
        state = sentinel.state()
        with sentinel.client() as client:
            replicas = client.sentinel_slaves(MASTER_NAME)
        links = [replica.get("master-link-status") == "ok" for replica in replicas]
        return (
            state["num-other-sentinels"] == len(self.sentinels) - 1
            and len(links) == len(self.servers) - 1
            and all(links)
            and "down" not in state["flags"]
        )

    @property
    def nodes(self):
        """The value of upstream.nodes: the Sentinels, or the servers where there are none."""
        return ", ".join(node.address for node in self.sentinels or self.servers)

    @property
    def master(self):
        """The server that the Sentinels (or, without any, ROLE) call the master now."""
        if not self.sentinels:
            return next(server for server in self.servers if server.is_alive() and server.role() == "master")
        alive = next(sentinel for sentinel in self.sentinels if sentinel.is_alive())
        return self.server_of(alive.master_address()[1])

    @property
    def replicas(self):
        master = self.master
        return [server for server in self.servers if server is not master]

    def server_of(self, port):
        return next(server for server in self.servers if server.port == port)

    def reset_stats(self):
        for server in self.servers:
            server.reset_stats()

    def counting(self):
        return Counts([server for server in self.servers if server.is_alive()])

    def wait_synced(self):
        """Until every replica that runs has all the master has."""
        master = self.master
        count = sum(server.is_alive() for server in self.servers) - 1
        with master.client() as client:
            client.set("harness:synced", 1)
            wait_for(lambda: client.wait(count, 1000) == count, 30, "replicas to have everything")

    def failover(self, kill):
        """Makes the master unreachable through kill(master) and returns (old, new) when all Sentinels agree."""
        old = self.master
        kill(old)
        self.wait_switched(old)
        return old, self.master

    def wait_switched(self, old):
        for sentinel in self.sentinels:
            wait_for(lambda: sentinel.master_address()[1] != old.port, 30, f"{sentinel.name} to name a new master")

    def stop(self):
        for process in self.sentinels + self.servers:
            process.kill()


class Counts:
    """What each server was asked between two moments. counts.calls(server, "get") and so on."""

    def __init__(self, servers):
        self.servers = servers
        self.before = self._take()
        self.after = None

    def _take(self):
        return {server: (server.commandstats(), server.rejected()) for server in self.servers}

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            self.after = self._take()

    def _difference(self, server, which, name):
        after = (self.after or self._take())[server][which]
        return after.get(name, 0) - self.before[server][which].get(name, 0)

    def calls(self, servers, name):
        """Calls of one command on one server, or the sum over several."""
        return sum(self._difference(server, 0, name) for server in _listed(servers))

    def each(self, servers, name):
        return [self._difference(server, 0, name) for server in _listed(servers)]

    def rejected(self, servers):
        """Commands that the servers refused to run: READONLY, wrong number of words."""
        after = self.after or self._take()
        names = {name for server in _listed(servers) for name in after[server][1]}
        return {
            name: count
            for name in names
            if (count := sum(self._difference(server, 1, name) for server in _listed(servers)))
        }


def _listed(servers):
    return servers if isinstance(servers, (list, tuple)) else [servers]


class Monitor:
    """MONITOR on a server: which commands reached it, and from whom."""

    LINE = re.compile(rb'^(\d+\.\d+) \[\d+ ([^\]]+)\] "([^"]*)"(.*)$')

    def __init__(self, server):
        self.seen = []  # (address, command in lower case, rest, time at which it ran)
        self._link = server.raw(timeout=120)
        if server.password:
            self._link.ask("AUTH", server.password)
        assert self._link.ask("MONITOR") == b"OK"
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self):
        try:
            while True:
                match = self.LINE.match(self._link.read())
                if match:
                    moment, address, command, rest = match.groups()
                    words = address.decode(), command.decode().lower(), rest.decode(errors="replace")
                    self.seen.append((*words, float(moment)))
        except (OSError, EOFError, ValueError, TypeError):
            pass

    def commands(self, *names, besides=(), since=0.0):
        """Those with one of these names that did not come from one of the addresses `besides` and ran since then
        (seconds as of time.time()): a server that is stopped may tell of its last ones only when it goes on."""
        lines = list(self.seen)
        return [line for line in lines if line[1] in names and line[0] not in besides and line[3] >= since]

    def close(self):
        try:
            self._link.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._thread.join(5)
        self._link.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class SwitchWatch:
    """Listens to every Sentinel and notes the moment at which the first one names a new master."""

    def __init__(self, sentinels):
        self.first = None
        self._lock = threading.Lock()
        self._listening = []
        self._threads = [threading.Thread(target=self._listen, args=(s,), daemon=True) for s in sentinels]
        ready = [threading.Event() for _ in sentinels]
        self._ready = dict(zip(sentinels, ready))
        for thread in self._threads:
            thread.start()
        for event in ready:
            assert event.wait(10)

    def _listen(self, sentinel):
        with sentinel.raw(timeout=60) as link:
            if sentinel.password:
                link.ask("AUTH", sentinel.password)
            link.ask("SUBSCRIBE", "+switch-master")
            self._ready[sentinel].set()
            try:
                link.read()
            except (OSError, EOFError):
                return
            with self._lock:
                self.first = self.first or time.monotonic()


# ------------------------------------------------------------------------------------------- pointsman


class Pointsman(Process):
    """build/pointsman in front of `upstream`, a Replication or the text of upstream.nodes.

    Keys of the configuration are keyword arguments, with an underscore behind the section:
    Pointsman(cluster, reads_policy="replica", proxy_threads=1).
    """

    def __init__(self, upstream, wait="write", arguments=(), variables=None, config=None, **keys):
        super().__init__("pointsman")
        self.upstream = upstream
        self.wait_for_what = wait
        self.arguments = list(arguments)
        self.variables = variables or {}
        self.config_text = config
        self.port = free_port()
        keys.setdefault("proxy_listen", f"{HOST}:{self.port}")
        keys.setdefault("proxy_threads", 2)
        nodes = upstream.nodes if isinstance(upstream, Replication) else upstream
        if nodes is not None:
            keys.setdefault("upstream_nodes", nodes)
        self.keys = {key: value for key, value in keys.items() if value is not None}
        self.password = self.keys.get("proxy_password")

    def command(self):
        command = [POINTSMAN]
        if self.config_text is not None:
            path = self.directory / "proxy.ini"
            path.write_text(self.config_text)
            command += ["-c", str(path)]
        for key, value in self.keys.items():
            section, _, name = key.partition("_")
            command.append(f"--{section}.{name}={value}")
        return command + self.arguments

    def environment(self):
        variables = {k: v for k, v in os.environ.items() if not k.startswith("POINTSMAN")}
        variables["ASAN_OPTIONS"] = "detect_leaks=1:abort_on_error=0:halt_on_error=1"
        variables["UBSAN_OPTIONS"] = "print_stacktrace=1"
        variables["TSAN_OPTIONS"] = "halt_on_error=0:exitcode=66"
        variables.update(self.variables)
        return variables

    def start(self):
        super().start()
        if self.wait_for_what:
            wait_for(self.listens, what="pointsman to listen")
        if self.wait_for_what == "write":
            wait_for(self.writes, 20, "a first write through pointsman")
        return self

    def listens(self):
        assert self.is_alive(), f"pointsman has ended: {self.log_text()[-2000:]}"
        with self.raw(log_in=False):
            return True

    def writes(self):
        assert self.is_alive(), f"pointsman has ended: {self.log_text()[-2000:]}"
        with self.client(socket_timeout=2 * SLOWNESS) as client:
            return client.set("harness:ready", 1)

    def wait_for_replicas(self, count):
        """Until `count` different servers have answered a read through it."""
        cluster = self.upstream

        def spread():
            before = [server.commandstats().get("exists", 0) for server in cluster.servers]
            for _ in range(40):
                with self.client() as client:  # one may keep to one server
                    client.exists("harness:ready")
            after = [server.commandstats().get("exists", 0) for server in cluster.servers]
            return sum(b > a for a, b in zip(before, after)) >= count

        wait_for(spread, 15, f"reads to reach {count} servers", every=0.1)
        return self

    def wait_fresh(self):
        """Until replicas are known to show what was written before."""
        time.sleep(0.2 * SLOWNESS)

    def client(self, **options):
        options.setdefault("password", self.password)
        options.setdefault("socket_timeout", 20 * SLOWNESS)
        return redis.Redis(HOST, self.port, **options)

    def raw(self, log_in=True, **options):
        link = Raw(self.port, **options)
        if self.password and log_in:
            assert link.ask("AUTH", self.password) == b"OK"
        return link

    def stop(self):
        """SIGTERM; it has to end with 0 and without a word of a sanitizer."""
        if self.popen is None:
            return
        self.signal(signal.SIGTERM)
        try:
            status = self.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError("pointsman did not end within 20 s of SIGTERM") from None
        self.check_log()
        assert status == 0, f"pointsman ended with {status}"

    def check_log(self):
        report = SANITIZER_REPORT.search(self.log_text())
        assert not report, "sanitizer: " + self.log_text()[report.start() :][:4000]

    def __enter__(self):
        return self.start()

    def __exit__(self, kind, *_):
        if kind is None:
            self.stop()
        else:
            self.kill()


def run_pointsman(*arguments, variables=None, config=None, timeout=10):
    """Runs it to its end; for --help and its like."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("POINTSMAN")}
    environment.update(variables or {})
    command = [POINTSMAN, *arguments]
    with tempfile.TemporaryDirectory(dir=home()) as directory:
        if config is not None:
            path = pathlib.Path(directory) / "proxy.ini"
            path.write_text(config)
            command += ["-c", str(path)]
        return subprocess.run(
            command, env=environment, cwd=directory, timeout=timeout * SLOWNESS, text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False,
        )


# ------------------------------------------------------------------------------------------ raw sockets


class Reply(bytes):
    """An error reply; a bulk or status is plain bytes."""

    __slots__ = ()


def talk(port, data, end=b"harness-end"):
    """All that a server answers to these bytes, until it has answered a last ECHO or closes.

    With end=None nothing follows the bytes and it has to close.
    """
    mark = b"$%d\r\n%s\r\n" % (len(end), end) if end else None
    with Raw(port) as link:
        try:
            link.send(data + (encode("ECHO", end) if end else b""))
        except OSError:
            pass  # it closed before it had everything
        answer = b""
        while not (mark and answer.endswith(mark)):
            try:
                part = link.input.read1(1 << 16)
            except ConnectionResetError:
                part = b""
            if not part:
                return answer + b"<closed>"
            answer += part
        return answer


def encode(*arguments):
    parts = [b"*%d\r\n" % len(arguments)]
    for argument in arguments:
        data = argument if isinstance(argument, bytes) else str(argument).encode()
        parts.append(b"$%d\r\n%s\r\n" % (len(data), data))
    return b"".join(parts)


class Push(list):
    """A frame of RESP3 that nobody asked for, or a confirmation of SUBSCRIBE."""


SCALARS = {b"+": bytes, b"-": Reply, b":": int, b",": float, b"#": b"t".__eq__, b"_": lambda _: None, b"(": int}
BULKS = {b"$": bytes, b"!": Reply, b"=": lambda text: text[4:]}  # verbatim text without its "txt:"
AGGREGATES = {b"*": list, b"~": set, b">": Push}
CHILDREN = {b"*": 1, b"~": 1, b">": 1, b"%": 2, b"|": 2}  # frames for each element counted
FRAMES = {*SCALARS, *BULKS, *CHILDREN}


class Raw:
    """A socket and a plain reader of RESP2 and RESP3. read() gives values, read_bytes() the reply as it came."""

    def __init__(self, port=None, host=HOST, path=None, timeout=10.0, receive_buffer=None):
        self.timeout = timeout * SLOWNESS
        family = socket.AF_UNIX if path else socket.AF_INET6 if ":" in host else socket.AF_INET
        self.socket = socket.socket(family)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(self.timeout)
        try:
            self.socket.connect(path or (host, port))
            if not path:
                self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError:
            self.socket.close()
            raise
        self.input = self.socket.makefile("rb", 1 << 16)
        self.last_line = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.input.close()
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)
        return self

    def command(self, *arguments):
        return self.send(encode(*arguments))

    def ask(self, *arguments):
        return self.command(*arguments).read()

    def read_line(self):
        line = self.input.readline()
        if not line.endswith(b"\r\n"):
            raise EOFError(f"connection closed after {line!r}")
        self.last_line = line
        return line

    def read(self):
        """The next value. RESP3: maps are dicts, sets are sets, a push is a Push; attributes are read past."""
        line = self.read_line()
        kind, rest = line[:1], line[1:-2]
        if kind in SCALARS:
            return SCALARS[kind](rest)
        if kind in BULKS:
            return None if rest == b"-1" else BULKS[kind](self._read_bulk(int(rest)))
        if rest == b"-1":
            return None
        if kind == b"|":
            self._read_pairs(int(rest))
            return self.read()
        if kind == b"%":
            return dict(self._read_pairs(int(rest)))
        assert kind in AGGREGATES, f"not a reply: {line!r}"
        return AGGREGATES[kind](self.read() for _ in range(int(rest)))

    def _read_pairs(self, count):
        return [(self.read(), self.read()) for _ in range(count)]

    def _read_bulk(self, size):
        data = self.input.read(size + 2)
        if len(data) < size + 2:
            raise EOFError("connection closed inside a bulk")
        return data[:-2]

    def read_bytes(self):
        """One whole reply as it came, RESP2 or RESP3, with the attributes before it; however deep it is nested.

        Redis 7.0 writes a push that a command of this same client causes between the elements of its reply.
        """
        parts, missing = [], 1
        while missing:
            line = self.read_line()
            kind, rest = line[:1], line[1:-2]
            assert kind in FRAMES, f"not a reply: {line!r}"
            missing -= not (kind == b">" and parts)
            parts.append(line)
            if rest == b"-1":
                continue
            if kind in BULKS:
                parts.append(self._read_bulk(int(rest)) + b"\r\n")
            elif kind in CHILDREN:
                missing += CHILDREN[kind] * int(rest) + (kind == b"|")
        return b"".join(parts)

    def read_to_end(self):
        """Everything until the other side closes; fails if it does not."""
        data = b""
        while True:
            try:
                part = self.input.read1(1 << 16)
            except ConnectionResetError:
                return data
            if not part:
                return data
            data += part

    def is_silent(self, seconds=0.2):
        """True if nothing arrives for that long."""
        self.socket.settimeout(seconds)
        try:
            data = self.socket.recv(1, socket.MSG_PEEK)
            return False if data is not None else True
        except TimeoutError:
            return True
        finally:
            self.socket.settimeout(self.timeout)


# ------------------------------------------------------------------------------------------- forwarder


class Forwarder:
    """A relay in front of a node, to look at connections from outside and to break them at will."""

    def __init__(self, target_port, reply_chunk=1 << 16, host=HOST, port=None):
        self.target_port = target_port
        self.reply_chunk = reply_chunk  # replies pass in pieces of so many bytes
        self.accepted = 0
        self.host = host
        self.port = port or free_port()
        self._pairs = []
        self._replies_flow = threading.Event()
        self._replies_flow.set()
        self._closed = False
        self._listener = socket.create_server((host, self.port))
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self):
        return f"{self.host}:{self.port}"

    def _accept(self):
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection((HOST, self.target_port))
            except OSError:
                near.close()
                continue
            self.accepted += 1
            self._pairs.append((near, far))
            always = threading.Event()
            always.set()
            near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            far.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            ways = ((near, far, always, 1 << 16), (far, near, self._replies_flow, self.reply_chunk))
            for way in ways:
                threading.Thread(target=self._pump, args=way, daemon=True).start()

    def _pump(self, source, sink, gate, chunk):
        try:
            while data := source.recv(1 << 16):
                gate.wait()
                for start in range(0, len(data), chunk):
                    sink.sendall(data[start : start + chunk])
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def hold_replies(self):
        """What the node says stays here until release_replies()."""
        self._replies_flow.clear()

    def release_replies(self):
        self._replies_flow.set()

    def drain(self):
        """Takes no more connections."""
        if self._listener.fileno() >= 0:
            self._listener.shutdown(socket.SHUT_RDWR)  # or the accept that waits would take one more
            self._listener.close()

    def cut(self):
        """Ends every connection; replies held are lost."""
        pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for end in pair:
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
                end.close()

    def close(self):
        self.drain()
        self.cut()
        self._replies_flow.set()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Refuser(Forwarder):
    """A node that refuses commands now and then, in the midst of a pipeline: as one does that has just been started, or
    for a moment lacks a majority."""

    def __init__(self, target_port, error):
        self.instead = ("EVAL", f"return redis.error_reply('{error}')", 0)
        self.left = {}  # first words of commands: how often they are still refused
        self.late_s = {}  # first words of commands: the next waits for so long
        super().__init__(target_port)

    def _pump(self, source, sink, gate, chunk):
        if gate is self._replies_flow:
            super()._pump(source, sink, gate, chunk)
            return
        reader = source.makefile("rb")
        with contextlib.suppress(OSError, ValueError):
            while line := reader.readline():
                words = []
                for _ in range(int(line[1:])):
                    size = int(reader.readline()[1:])
                    words.append(reader.read(size + 2)[:-2])
                sink.sendall(encode(*self._instead(words)))
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _instead(self, words):
        first = b" ".join(words[:2])
        time.sleep(self.late_s.pop(first, 0))
        if not self.left.get(first):
            return words
        self.left[first] -= 1
        return self.instead
