# SPDX-License-Identifier: BSD-2-Clause
"""
The machinery under a measurement: processes that listen, and the CPU time that each has used.

Every process is started by Rig and ended by it, by process id; its directory goes with it. Where there are
two CPUs or more, Redis and the proxies share the first (server_cpu) and the load has the second (load_cpu),
so that what is measured never competes with what measures it.

In lock step all of them share one CPU, and none interrupts another (SCHED_BATCH): each does all that it can do
before the next one has its turn, so that the same requests meet each other in every run.
"""

import os
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
NEEDED_DESCRIPTORS = 12000  # HAProxy's maxconn of 5000, two sockets each, and some
START_SECONDS = 30
STOP_SECONDS = 5
REPLY_SECONDS = 10
CLUSTER_BUS = 10000
IS_ANYBODY_THERE = ("GET", "is-anybody-there")  # a proxy answers it only if there is a node behind it
INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # all of them end a run in good order
NANOSECONDS_PER_TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")

# Debian keeps daemons where the PATH of an ordinary user does not look.
os.environ["PATH"] += os.pathsep + "/usr/sbin" + os.pathsep + "/sbin"


class Failure(Exception):
    """Something that the person at the terminal must know; the text is the whole message."""


@dataclass(frozen=True)
class CpuTime:
    """Of all threads of a process. The total counts nanoseconds; the split is the kernel's own, in ticks."""

    total_ns: int
    user_ticks: int
    system_ticks: int

    def __sub__(self, earlier):
        return CpuTime(
            self.total_ns - earlier.total_ns,
            self.user_ticks - earlier.user_ticks,
            self.system_ticks - earlier.system_ticks,
        )

    @property
    def system_share(self):
        ticks = self.user_ticks + self.system_ticks
        return self.system_ticks / ticks if ticks else 0.0


def cpu_time(pid):
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    user_ticks, system_ticks = int(fields[11]), int(fields[12])
    total_ns = sum(map(thread_cpu_ns, thread_ids(pid)))
    # A kernel without scheduler statistics has ticks alone.
    return CpuTime(total_ns or (user_ticks + system_ticks) * NANOSECONDS_PER_TICK, user_ticks, system_ticks)


def thread_ids(pid):
    return [f"/proc/{pid}/task/{thread}" for thread in os.listdir(f"/proc/{pid}/task")]


def thread_cpu_ns(thread):
    try:
        with open(f"{thread}/schedstat") as file:
            return int(file.read().split()[0])
    except FileNotFoundError:
        return 0


def program(name):
    path = shutil.which(name)
    if not path:
        raise Failure(f"{name} is not installed; `make bench` installs what it needs")
    return path


def pointsman_binary():
    path = os.path.join(ROOT, os.environ.get("BENCH_POINTSMAN", "build/pointsman"))
    if not os.access(path, os.X_OK):
        raise Failure(
            f"{os.path.relpath(path, ROOT)} is missing: run `make` first, "
            "or leave it out: BENCH_PROXIES=direct,haproxy,nutcracker"
        )
    return path


def openloop_binary():
    return binary("BENCH_OPENLOOP", "build/openloop")


def floor_binary():
    return binary("BENCH_FLOOR", "build/floor")


def binary(variable, default):
    path = os.path.join(ROOT, os.environ.get(variable, default))
    if not os.access(path, os.X_OK):
        raise Failure(f"{os.path.relpath(path, ROOT)} is missing: `make {os.path.relpath(path, ROOT)}` builds it")
    return path


def raise_descriptor_limit():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < NEEDED_DESCRIPTORS:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (NEEDED_DESCRIPTORS, NEEDED_DESCRIPTORS))
        except (ValueError, PermissionError):
            text = f"1,000 clients need `ulimit -n` of {NEEDED_DESCRIPTORS}; here it is {hard}"
            raise Failure(text) from None
    elif soft != hard:
        # Not "unlimited": redis-server and HAProxy size tables by this number.
        wanted = 65536 if hard == resource.RLIM_INFINITY else min(hard, 65536)
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def choose_cpus():
    """(server_cpu, load_cpu), or None each on a machine with one."""
    allowed = sorted(os.sched_getaffinity(0))
    return (allowed[0], allowed[1]) if len(allowed) > 1 else (None, None)


def encode(*arguments):
    parts = [b"*%d\r\n" % len(arguments)]
    for argument in arguments:
        data = argument if isinstance(argument, bytes) else str(argument).encode()
        parts.append(b"$%d\r\n%s\r\n" % (len(data), data))
    return b"".join(parts)


class Link:
    """A plain connection that sends commands and reads simple, error and bulk replies."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=REPLY_SECONDS)
        self.input = self.socket.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.input.close()
        self.socket.close()

    def ask(self, *arguments):
        self.socket.sendall(encode(*arguments))
        return self.reply()

    def ask_all(self, commands):
        self.socket.sendall(b"".join(encode(*command) for command in commands))
        return [self.reply() for _ in commands]

    def reply(self):
        line = self.input.readline()
        if not line.endswith(b"\r\n"):
            raise Failure("a connection was closed in the middle of a reply")
        kind, rest = line[:1], line[1:-2]
        if kind == b"-":
            raise Failure(f"an error for an answer: {rest.decode(errors='replace')}")
        if kind != b"$":
            return rest
        size = int(rest)
        return self.input.read(size + 2)[:size] if size >= 0 else None


@dataclass
class Server:
    """One process that listens."""

    name: str
    port: int
    process: subprocess.Popen
    log_path: str

    @property
    def pid(self):
        return self.process.pid

    def cpu_time(self):
        self.must_be_alive()
        return cpu_time(self.pid)

    def must_be_alive(self):
        if self.process.poll() is not None:
            raise Failure(f"{self.name} ended with status {self.process.returncode}{self.last_words()}")

    def last_words(self):
        with open(self.log_path, errors="replace") as file:
            tail = file.read()[-1500:].strip()
        return f"; its log ends:\n{tail}" if tail else ""


class Rig:
    """Use as a context manager: what it started is over when it is left, whatever happened in between."""

    def __init__(self, in_lock_step=False):
        self.server_cpu, self.load_cpu = choose_cpus()
        self.in_lock_step = in_lock_step
        if in_lock_step:
            self.load_cpu = self.server_cpu
        self.directory = None
        self.processes = []
        self.redis = None  # the first that was started

    def __enter__(self):
        raise_descriptor_limit()
        for number in INTERRUPTS:
            signal.signal(number, interrupt)
        self.directory = tempfile.mkdtemp(prefix="pointsman-bench-")
        return self

    def __exit__(self, *_):
        signal.pthread_sigmask(signal.SIG_BLOCK, INTERRUPTS)  # impatience must not leave a process behind
        for process in self.processes:
            if process.poll() is None:
                process.terminate()
        for process in reversed(self.processes):
            end(process)
        shutil.rmtree(self.directory, ignore_errors=True)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, INTERRUPTS)

    def path(self, name):
        return os.path.join(self.directory, name)

    def write(self, name, text):
        with open(self.path(name), "w") as file:
            file.write(text)
        return self.path(name)

    def spawn(self, command, cpu=None, **options):
        words = command if cpu is None else [program("taskset"), "-c", str(cpu), *command]
        if self.in_lock_step:
            words = [program("chrt"), "--batch", "0", *words]
        process = subprocess.Popen(words, **{"stdin": subprocess.DEVNULL, "cwd": self.directory, **options})
        self.processes.append(process)
        return process

    def end(self, process):
        end(process)
        self.processes.remove(process)

    def start(self, name, command, port, question=("PING",)):
        """question: what is answered without an error as soon as it is ready."""
        log_path = self.path(f"{name}.log")
        with open(log_path, "w") as log:
            process = self.spawn(command, cpu=self.server_cpu, stdout=log, stderr=subprocess.STDOUT)
        server = Server(name, port, process, log_path)
        wait_until_it_answers(server, question)
        return server

    def start_redis(self, name="redis", *options):
        port = node_port()
        directory = self.path(f"{name}.data")
        os.mkdir(directory)
        command = [program("redis-server"), "--bind", "127.0.0.1", "--port", str(port), "--dir", directory]
        command += ["--save", "", "--appendonly", "no", "--daemonize", "no", "--loglevel", "warning"]
        command += ["--maxclients", "10000", "--tcp-backlog", "4096"]
        server = self.start(name, [*command, *options], port)
        self.redis = self.redis or server
        return server

    def start_proxy(self, name, wrapper=()):
        """Before the one Redis. wrapper: words before its own command line, for a tool that must start its subject."""
        port = free_port()
        return self.start(name, [*wrapper, *PROXIES[name](self, port)], port, IS_ANYBODY_THERE)


def interrupt(*_):
    raise KeyboardInterrupt


def end(process):
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def wait_for(is_so, otherwise, server=None):
    """otherwise: what is to be said if it does not come true in time."""
    deadline = time.monotonic() + START_SECONDS
    while not is_so():
        if time.monotonic() > deadline:
            raise Failure(f"{otherwise}{server.last_words() if server else ''}")
        time.sleep(0.05)


def wait_until_it_answers(server, question=IS_ANYBODY_THERE):
    wait_for(lambda: answers(server, question), f"{server.name} does not answer", server)


def answers(server, question):
    server.must_be_alive()
    try:
        with Link(server.port) as link:
            link.ask(*question)
            return True
    except (OSError, Failure):
        return False


def ask(server, *words):
    with Link(server.port) as link:
        return link.ask(*words)


def info(server, section):
    lines = ask(server, "INFO", section).decode().splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


def node_port():
    """Nodes of a cluster have another port as well, as much above it."""
    port = free_port()
    while port + CLUSTER_BUS > 65535:
        port = free_port()
    return port


def address(server):
    return f"127.0.0.1:{server.port}"


# Each writes its configuration, if it needs one, and returns its command line.


def haproxy_command(rig, port):
    config = f"""\
global
    maxconn 5000
    nbthread 1
defaults
    mode tcp
    option clitcpka
    timeout connect 60s
    timeout client 60s
    timeout server 60s
listen redis
    bind 127.0.0.1:{port}
    server redis {address(rig.redis)}
"""
    return [program("haproxy"), "-db", "-f", rig.write("haproxy.cfg", config)]


def nutcracker_command(rig, port, servers=()):
    lines = ["redis:", f"  listen: 127.0.0.1:{port}", "  redis: true", "  hash: fnv1a_64", "  distribution: ketama"]
    lines += ["  auto_eject_hosts: false", "  client_connections: 5000", "  backlog: 1024", "  servers:"]
    lines += [f"    - {address(server)}:1" for server in servers or [rig.redis]]
    path = rig.write("nutcracker.yml", "\n".join(lines) + "\n")
    return [program("nutcracker"), "-c", path, "-a", "127.0.0.1", "-s", str(free_port())]


def floor_command(rig, port):
    return [floor_binary(), str(port), str(rig.redis.port)]


def pointsman_command(rig, port):
    return pointsman_before(port, "static", [rig.redis], "master")


def pointsman_before(port, kind, nodes, policy):
    command = [pointsman_binary(), f"--proxy.listen=127.0.0.1:{port}", "--proxy.threads=1", f"--upstream.kind={kind}"]
    return [*command, f"--upstream.nodes={','.join(map(address, nodes))}", f"--reads.policy={policy}"]


PROXIES = {
    "haproxy": haproxy_command,
    "nutcracker": nutcracker_command,
    "floor": floor_command,
    "pointsman": pointsman_command,
}
