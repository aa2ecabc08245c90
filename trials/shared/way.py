"""A way to a server that can be cut, so that what was sent is done, and the answer is lost."""
from __future__ import annotations

import select
import signal
import socket
import time

from .processes import Process

LONGEST = 600  # seconds that it is there, when nobody ends it
DEAF = .03  # seconds from when answers are lost until the connections are


class Way:
    """A process that carries what clients and a server of this machine say to each other; `port` is its own."""

    def __init__(self, to):
        listener = socket.create_server(('127.0.0.1', 0))
        self.port = listener.getsockname()[1]
        self._process = Process(carry, listener, to, hangs=LONGEST)
        listener.close()
        self._process.wait_for(b'ready')

    def cut(self):
        """Have answers lost, and soon after it all connections that there are."""
        self._process.signal(signal.SIGUSR1)

    def end(self):
        self._process.end()


def carry(listener, to, tell):
    """Be the process."""
    others, servers, cut_at = {}, set(), []  # by connection, the one on the other side; those to the server; when they end
    signal.signal(signal.SIGUSR1, lambda *_: cut_at.append(time.monotonic() + DEAF))
    tell(b'ready')
    while True:
        for one in select.select([listener, *others], [], [], .005)[0]:
            if one is listener:
                connect(listener.accept()[0], to, others, servers)
            elif one in others and not hand_on(one, others, one in servers and cut_at):
                close(one, others)
        if cut_at and time.monotonic() > cut_at[0]:
            while others:
                close(next(iter(others)), others)
            cut_at.clear()


def connect(client, to, others, servers):
    """Connect a client to the server; one that is refused is told so by the end of its connection."""
    try:
        server = socket.create_connection(('127.0.0.1', to))
    except OSError:
        client.close()
        return
    others.update({client: server, server: client})
    servers.add(server)


def hand_on(one, others, is_lost):
    """Hand on what a connection has to say, unless it is lost; tell whether it goes on."""
    try:
        said = one.recv(1 << 16)
        if said and not is_lost:
            others[one].sendall(said)
    except OSError:
        return False
    return bool(said)


def close(one, others):
    for end in (one, others.pop(one)):
        others.pop(end, None)
        end.close()
