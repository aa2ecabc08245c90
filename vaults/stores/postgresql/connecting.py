"""Connecting: finds a host that answers, within the time there is, and keeps connections for the next call.

The trap: a server may have closed an idle connection, or been restarted. Whoever writes on it then cannot know whether
that was done. So a connection is looked at before it is used: it has nothing to say between two statements, and one
that can be read is lost. Then nothing was sent yet, and another one is taken.
"""
from __future__ import annotations

from collections import deque
from functools import partial
from time import monotonic

import psycopg
from psycopg import pq

from .failures import closed, not_connected
from .patience import waiting_for
from .wire import LostWire, Refused, Wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Deque

    from .address import Address

MOST_IDLE = 8   # connections that are kept for the next call
# A pooler says another process number than the one that answers. It may send the next statement to yet another one, so
# nothing can be prepared.
WHO = b'SELECT pg_backend_pid(), version()'


class NoAnswer(LostWire):
    """A host has said nothing in the time that it had."""


class Pool:
    """The connections of a store that nobody is using. Safe in any thread."""

    def __init__(self, address: Address, timeout: float, to_write: bool) -> None:
        self.address, self.timeout, self._to_write = address, timeout, to_write
        self._idle: Deque[Wire] = deque()   # its ends are atomic

    def take(self) -> Wire:
        """Return a connection, which is the caller's: an idle one, else a new one. Raises: VaultUnreachableError."""
        while self._idle:
            try:
                wire = self._idle.pop()
            except IndexError:  # another thread has taken it
                break
            if not wire.readable(0) and not wire.is_lost():
                return wire
            wire.close()
        return new_wire(self.address, self.timeout, self._to_write)

    def give(self, wire: Wire) -> None:
        """Keep it for the next call, unless something is open in it: then it is closed."""
        if wire.is_idle() and len(self._idle) < MOST_IDLE:
            self._idle.append(wire)
        else:
            wire.close()

    def clear(self) -> None:
        """Close what is idle."""
        while self._idle:
            try:
                self._idle.pop().close()
            except IndexError:
                return

    def forget(self) -> None:
        """Have none, in a forked child: they are the parent's."""
        self._idle = deque()


class ClosedPool(Pool):
    """In place of the connections of a store that was closed."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._idle = deque()

    def take(self) -> Wire:
        raise closed(self._name)

    def give(self, wire: Wire) -> None:
        wire.close()


def new_wire(address: Address, timeout: float, to_write: bool) -> Wire:
    """Return a new connection to the first host that answers. Raises: VaultUnreachableError and what a server says."""
    problem = None
    for attempt in address.attempts(to_write):
        try:
            return _wire(attempt, address, timeout, to_write)
        except LostWire as error:
            problem = error
    raise not_connected(str(problem), address.shown)


def _wire(attempt: bytes, address: Address, timeout: float, to_write: bool) -> Wire:
    conn = _established(attempt, address.seconds(timeout))
    wire = Wire(conn, partial(_require_answer, attempt, address, timeout), max(timeout, 1.0))
    try:
        found = wire.run(WHO)[0]
    except Refused as error:
        raise LostWire(error.words) from error
    wire.is_direct = int(found.get_value(0, 0) or b'0') == conn.backend_pid
    wire.version = (found.get_value(0, 1) or b'').decode()
    return wire


def _established(attempt: bytes, seconds: float) -> pq.abc.PGconn:
    """Return a connection that libpq has made. Raises: LostWire, with libpq's words, or when the time is over."""
    end = monotonic() + seconds
    conn = pq.PGconn.connect_start(attempt)
    try:
        while True:
            state = conn.connect_poll()
            if state == pq.PollingStatus.OK:
                return conn
            if state == pq.PollingStatus.FAILED:
                raise LostWire(conn.get_error_message())
            _wait_to_connect(conn.socket, state == pq.PollingStatus.READING, end - monotonic(), seconds)
    except psycopg.Error as error:
        raise LostWire(str(error)) from error
    finally:
        if conn.status != pq.ConnStatus.OK:
            conn.finish()


def _wait_to_connect(handle: int, to_read: bool, left: float, seconds: float) -> None:
    if left <= 0 or not waiting_for(handle, not to_read)(left * 1000):
        raise NoAnswer(f'no answer in {seconds:g} s')


def _require_answer(attempt: bytes, address: Address, timeout: float) -> None:
    """Return when the server answers a new connection; so what takes long takes long. Raises: LostWire, when not.

    That it refuses one is an answer: it may have as many as it wants.
    """
    try:
        _established(attempt, address.seconds(timeout)).finish()
    except NoAnswer:
        raise
    except LostWire:
        return

