"""Connecting: finds a host that answers, within the time there is. Knows no vaults."""
from __future__ import annotations

from functools import partial
from time import monotonic

import psycopg
from psycopg import pq

from .. import blocks
from ..pool import Pool
from .failures import not_connected
from .patience import waiting_for
from .wire import LostWire, Refused, Wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .address import Address

# A pooler says another process number than the one that answers. It may send the next statement to yet another one, so
# nothing can be prepared.
WHO = b'SELECT pg_backend_pid(), version()'


class NoAnswer(LostWire):
    """A host has said nothing in the time that it had."""


def closed_pool(name: str) -> Pool[Wire]:
    """Return what stands in place of the connections of a store that was closed."""
    def refuse() -> Wire:
        raise blocks.closed(name)
    pool = Pool(refuse)
    pool.close()
    return pool


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

