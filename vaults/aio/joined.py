"""Joined reads: those that wait for the reader's thread are one call of the engine.

A call of an engine on another machine takes long; one of a file takes less than the threads do to change places, which
it has them do. Each read is answered by itself: one that is cancelled meanwhile is nobody else's concern, and what is
wrong with one entry is told to its own task alone.
"""
from __future__ import annotations

from itertools import chain
from time import perf_counter

from ..codecs.codes import BULK
from ..errors import VaultError
from ..place import place_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, List, Optional, Tuple

    from ..keys import Stored
    from ..place import Entries
    from .workers import Call

HEARD_WITHIN = 0.001    # seconds, and the time that one takes to load


def got_of(subject: Callable[[], Any], key: Any, default: Any) -> Any:
    """Return the value in a subject, or the default. It runs in a thread."""
    return subject().get(key, default)


def read_joined(calls: List[Call]) -> None:
    """Do calls of `got_of` for a vault and the sections in it. It runs in a thread."""
    wanted: Dict[Stored, List[Tuple[Call, Any, Any]]] = {}
    entries: Optional[Entries] = None
    for call in calls:
        subject, key, default = call.args
        try:
            vault = subject()
            place = place_of(vault)
            wanted.setdefault(place.keys.encode(key), []).append((call, vault, default))
            entries = place.entries  # the same of all
        except Exception:  # also of a program's own: a class of keys may raise anything
            call.run()  # which says what is wrong, or that there is nothing
    if entries is None:
        return
    due = perf_counter() + HEARD_WITHIN
    keys = list(wanted)
    try:
        for stored, data in zip(keys, entries.get_many(keys)):
            for call, vault, default in wanted.pop(stored):
                if perf_counter() > due or (type(data) is bytes and len(data) > BULK):
                    call.wake()  # for those before
                    due = perf_counter() + HEARD_WITHIN
                call.function, call.args = vault.loaded, (stored, data, default)
                call.run(wakes=False)
        calls[0].wake()
    except VaultError:
        for call, _, _ in chain.from_iterable(wanted.values()):
            call.run()  # each finds out for itself
