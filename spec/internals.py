"""What tests look at inside of a vault: one function for each such reach, so that a store may be rebuilt behind them."""
from __future__ import annotations

import sys

from vaults import Vault
from vaults.opening import over
from vaults.stores.sqlite import driver


def engine_of(v):
    """Return the store that has the connections, of a vault, a section or a store that stands before it."""
    store = getattr(v, '_store', v)
    store = getattr(store, 'live', store)
    return getattr(store, '_store', store)


def whole(v):
    """Return the vault that a section is in; of a vault, itself."""
    return v if v._place.parent is None else over(Vault, v._place.parent)


def connection_of(v):
    """Return what the store holds of this thread's connection."""
    return engine_of(v).local.c


def raw_of(v):
    """Return this thread's connection as its driver has it."""
    return connection_of(v).raw


def another(path, timeout=0):
    """Return a connection beside a vault's own, of the same driver."""
    return driver.current().connect(f'file:{path}?mode=rwc', timeout)


def limit_length(v, most):
    """Let SQLite take no text, BLOB or statement that is longer; return whether the driver can say so to it."""
    raw = raw_of(v)
    if driver.current().NAME == 'apsw':
        raw.limit(0, most)  # SQLITE_LIMIT_LENGTH
    elif hasattr(raw, 'setlimit'):  # from Python 3.11 on
        raw.setlimit(0, most)
    else:
        return False
    return True


def depth_of(v):
    """Return how many blocks are open."""
    return connection_of(v).depth


def is_in_transaction(v):
    return raw_of(v).in_transaction


def run_checkpoint(v):
    """Move the log into the file, as the store does when it is due."""
    store = engine_of(v)
    store.checkpoint(connection_of(store))


def statements(v):
    """Return a list that will hold the SQL which this thread's connection runs from now on."""
    seen, raw = [], raw_of(v)
    if hasattr(raw, 'set_exec_trace'):
        raw.set_exec_trace(lambda cursor, sql, bindings: not seen.append(sql))
    else:
        raw.set_trace_callback(seen.append)
    return seen


def unwatched(v):
    """End what `statements` has begun."""
    raw = raw_of(v)
    (raw.set_exec_trace if hasattr(raw, 'set_exec_trace') else raw.set_trace_callback)(None)


def calls_of(act):
    """Return how many calls, of functions in Python and in C, `act()` takes."""
    seen = []
    sys.setprofile(lambda frame, event, argument: seen.append(event) if event.endswith('call') else None)
    try:
        act()
    finally:
        sys.setprofile(None)
    return len(seen)


def kept_of(v):
    """Return what a read cache holds, by stored keys."""
    return v._entries._state[2]
