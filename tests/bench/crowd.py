# SPDX-License-Identifier: BSD-2-Clause
"""
Many connections from one process, for measurements of scale.

A Crowd holds connections and talks on all of them, a few at a time. A Flood sends at a rate of its own,
whatever comes back, and counts what does. Replies have a known size, so that counting bytes is enough: a
generator that parses would be the limit itself.
"""

import selectors
import socket
import time

from rig import REPLY_SECONDS, Failure

PORTS_PER_ADDRESS = 15000  # of the local port range, 28,000 by default; many may linger from what was before
AT_ONCE = 200  # connections that are in the midst of something
SEND_BYTES = 64 * 1024


def connect(port, number=0):
    """From 127.0.0.1, .2, ...: the ports of one address are too few for all."""
    link = socket.socket()
    link.settimeout(REPLY_SECONDS)
    link.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT: chosen when it is known where to
    link.bind((f"127.0.0.{1 + number // PORTS_PER_ADDRESS}", 0))
    link.connect(("127.0.0.1", port))
    return link


def read_exactly(link, size):
    while size > 0:
        part = link.recv(min(size, 1 << 20))
        if not part:
            raise Failure("a connection was closed before its reply was complete")
        size -= len(part)


class Crowd:
    def __init__(self, port, count, first=0):
        self.links = []
        for number in range(first, first + count):
            self.links.append(connect(port, number))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def __len__(self):
        return len(self.links)

    def close(self):
        for link in self.links:
            link.close()
        self.links = []

    def ask(self, data, reply_bytes, at_once=AT_ONCE):
        """All send it, so many at once, and wait for a reply of that size."""
        for first in range(0, len(self.links), at_once):
            part = self.links[first : first + at_once]
            for link in part:
                link.sendall(data)
            for link in part:
                read_exactly(link, reply_bytes)

    def ask_for_lines(self, data, end):
        """The same for a reply whose size is not known, but what it ends with."""
        for link in self.links:
            link.sendall(data)
            reply = b""
            while not reply.endswith(end):
                part = link.recv(65536)
                if not part:
                    raise Failure("a connection was closed before its reply was complete")
                reply += part


class Flood:
    """Connections that send one command over and over. Each waits for no reply, or for those to what it sent last."""

    def __init__(self, port, count, command, reply_bytes):
        self.command, self.reply_bytes = command, reply_bytes
        self.batch = command * (SEND_BYTES // len(command))
        self.selector = selectors.DefaultSelector()
        self.lanes = [Lane(connect(port)) for _ in range(count)]
        for lane in self.lanes:
            lane.link.setblocking(False)
            self.selector.register(lane.link, selectors.EVENT_READ, lane)

    def close(self):
        self.selector.close()
        for lane in self.lanes:
            lane.link.close()

    def answered(self):
        return sum(lane.received_bytes for lane in self.lanes) // self.reply_bytes

    def closed_loop(self, pipeline, seconds):
        """Replies per second where each connection has at most so many requests unanswered."""
        burst = self.command * pipeline
        start = time.monotonic()
        before, end = self.answered(), start + seconds
        for lane in self.lanes:
            lane.write(burst)
        while (now := time.monotonic()) < end:
            for key, _ in self.selector.select(0.1):
                lane = key.data
                lane.receive()
                if not self.owes(lane):
                    lane.write(burst)
        rate = (self.answered() - before) / (now - start)
        self.drain()
        return rate

    def open_loop(self, rate, seconds, backlog_seconds, watch=lambda: None):
        """
        Replies per second where `rate` commands fall due each second. What a connection does not take stays
        here, up to what is due in backlog_seconds; what is beyond that is not sent at all. watch is called now
        and then.
        """
        share = rate / len(self.lanes)
        start = last = looked = time.monotonic()
        before, end = self.answered(), start + seconds
        most_bytes = share * backlog_seconds * len(self.command)
        while (now := time.monotonic()) < end:
            due = (now - last) * share * len(self.command)
            last = now
            for lane in self.lanes:
                lane.due_bytes = min(lane.due_bytes + due, most_bytes)
                lane.send(self.batch, len(self.command))
            for key, _ in self.selector.select(0.001):
                key.data.receive()
            if now - looked > 0.2:
                looked = now
                watch()
        rate = (self.answered() - before) / (now - start)
        self.drain()
        return rate

    def drain(self, seconds=20):
        """What is on its way comes, and each command that was sent in part is completed."""
        end = time.monotonic() + seconds
        for lane in self.lanes:
            lane.due_bytes = 0.0
        while any(map(self.owes, self.lanes)):
            if time.monotonic() > end:
                raise Failure("not all that was sent was answered")
            for lane in self.lanes:
                lane.finish(self.command)
            for key, _ in self.selector.select(0.1):
                key.data.receive()

    def owes(self, lane):
        commands, rest = divmod(lane.sent_bytes, len(self.command))
        return rest > 0 or lane.received_bytes < commands * self.reply_bytes


class Lane:
    def __init__(self, link):
        self.link = link
        self.sent_bytes = self.received_bytes = 0
        self.due_bytes = 0.0

    def receive(self):
        try:
            part = self.link.recv(1 << 18)
        except BlockingIOError:
            return
        if not part:
            raise Failure("a connection of the load was closed")
        self.received_bytes += len(part)

    def send(self, batch, command_bytes):
        """As much of what is due as the socket takes, in whole commands but for where it takes no more."""
        offset = self.sent_bytes % command_bytes
        size = min(int(self.due_bytes) // command_bytes * command_bytes, len(batch) - command_bytes)
        if size <= 0:
            return
        sent = self.write(batch[offset : offset + size])
        self.due_bytes -= sent

    def write(self, data):
        try:
            sent = self.link.send(data)
        except BlockingIOError:
            return 0
        self.sent_bytes += sent
        return sent

    def finish(self, command):
        offset = self.sent_bytes % len(command)
        if offset:
            self.write(command[offset:])
