"""Joined reads: those that wait for the reader's thread, asked for in one call, where each call takes long.

Each task has a call of its own in the reader's queue. The first of them that runs asks for what all of them want; the
others find theirs answered, and load it. So one that is cancelled meanwhile is nobody else's concern, and what is wrong
with one entry is told to its own task alone.
"""
from __future__ import annotations

from collections import deque

from ..errors import VaultError
from ..place import place_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Deque, List, Optional

    from ..keys import Stored
    from ..stores.base import Store

JOINED_AT_ONCE = 512


class Wanted:
    """What a task wants to read; once it is known, its bytes, or None."""

    __slots__ = ('data', 'is_known', 'stored')

    def __init__(self, stored: Stored) -> None:
        self.stored, self.is_known = stored, False
        self.data: Optional[bytes] = None


class JoinedReads:
    """The single reads of a vault that are waited for."""

    def __init__(self) -> None:
        self._waiting: Deque[Wanted] = deque()

    def add(self, stored: Stored) -> Wanted:
        """Note that a task is going to call `read` for this key, in the reader's thread."""
        wanted = Wanted(stored)
        self._waiting.append(wanted)
        return wanted

    def read(self, vault: Any, wanted: Wanted, default: Any) -> Any:
        """Return the value of a vault or section in it, or the default."""
        if not wanted.is_known:
            self._ask(place_of(vault).store, wanted)
        return vault.loaded(wanted.stored, wanted.data, default)

    def _ask(self, store: Store, first: Wanted) -> None:
        together = [first]
        while self._waiting and len(together) < JOINED_AT_ONCE:
            wanted = self._waiting.popleft()
            if wanted is not first and not wanted.is_known:
                together.append(wanted)
        try:
            _know(store, together)
        except VaultError:
            if first.is_known:
                return  # it is about another one, whose own call is going to find that out
            _know(store, [first])


def _know(store: Store, together: List[Wanted]) -> None:
    asked = {wanted.stored: [] for wanted in together}  # type: ignore[var-annotated]  # lists of Wanted
    for wanted in together:
        asked[wanted.stored].append(wanted)
    for those, data in zip(asked.values(), store.get_many(list(asked))):
        for wanted in those:
            wanted.data, wanted.is_known = data, True
