"""A way to a server that can be cut: so that what was sent is done and the answer is lost, or in the middle of either."""
from __future__ import annotations

import random
import select
import signal
import socket
import struct
import time

from .processes import Process

LONGEST = 600  # seconds that it is there, when nobody ends it
DEAF = .03  # seconds from when answers are lost until the connections are
LEFT = 1 << 15  # bytes that one side of a connection says at most, before it is cut
ABORT = struct.pack('ii', 1, 0)  # of SO_LINGER: the other side hears of an error, and loses what it has not read


class Way:
    """A process that carries what clients and a server of this machine say to each other; `port` is its own.

    With a seed, each connection is cut by itself, behind any byte that one of the two has said.
    """

    def __init__(self, to, seed=None):
        listener = socket.create_server(('127.0.0.1', 0))
        self.port = listener.getsockname()[1]
        self._process = Process(carry, listener, to, seed, hangs=LONGEST)
        listener.close()
        self._process.wait_for(b'ready')

    def cut(self):
        """Have answers lost, and soon after it all connections that there are."""
        self._process.signal(signal.SIGUSR1)

    def end(self):
        self._process.end()


def carry(listener, to, seed, tell):
    """Be the process."""
    carrier = Carrier(to, seed)
    signal.signal(signal.SIGUSR1, lambda *_: carrier.cut())
    tell(b'ready')
    while True:
        for one in select.select([listener, *carrier.others], [], [], .005)[0]:
            if one is listener:
                carrier.connect(listener.accept()[0])
            elif one in carrier.others and not carrier.hand_on(one):
                carrier.close(one)
        carrier.cut_what_is_due()


class Carrier:
    """The connections, of which each has another one on the other side."""

    def __init__(self, to, seed):
        self.to, self.rng = to, None if seed is None else random.Random(seed)
        self.others, self.servers = {}, set()  # by connection, the one on the other side; those to the server
        self.left = {}       # by connection, how many bytes it may still say, where that is limited
        self.cut_at = []     # when all of them end

    def connect(self, client):
        """Connect a client to the server; one that is refused is told so by the end of its connection."""
        try:
            server = socket.create_connection(('127.0.0.1', self.to))
        except OSError:
            client.close()
            return
        self.others.update({client: server, server: client})
        self.servers.add(server)
        if self.rng:  # few bytes as often as many: most of a request is said in the first hundreds
            self.left[self.rng.choice((client, server))] = int(LEFT ** self.rng.random())

    def hand_on(self, one):
        """Hand on what a connection has to say, unless it is lost; tell whether it goes on."""
        try:
            said = one.recv(min(self.left.get(one, LEFT), LEFT))
            if said and not (one in self.servers and self.cut_at):
                self.others[one].sendall(said)
        except OSError:
            return False
        if one in self.left:
            self.left[one] -= len(said)
        return bool(said) and self.left.get(one, 1) > 0

    def close(self, one):
        for end in (one, self.others.pop(one)):
            self.others.pop(end, None)
            self.servers.discard(end)
            self.left.pop(end, None)
            if self.rng and self.rng.random() < .5:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
            end.close()

    def cut(self):
        self.cut_at.append(time.monotonic() + DEAF)

    def cut_what_is_due(self):
        if self.cut_at and time.monotonic() > self.cut_at[0]:
            while self.others:
                self.close(next(iter(self.others)))
            self.cut_at.clear()
