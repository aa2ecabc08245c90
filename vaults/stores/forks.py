"""Forks: what begins anew in a forked child. Knows nothing of what that is: whoever it concerns is in a weak set.

That of SQLite has a room of its own, stores/sqlite/fork.py: there the parent has to wait for the child.
"""
from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, List, TypeVar
    from weakref import WeakSet

    T = TypeVar('T')


def those_in(known: WeakSet[T]) -> List[T]:
    """Return all that are in a set. Where another thread adds one meanwhile, it has changed, and is looked at again."""
    while True:
        try:
            return list(known)
        except RuntimeError:
            continue


def each_in_child(known: WeakSet[T], renew: Callable[[T], object]) -> None:
    """Have `renew` called in each forked child with each that is in the set."""
    def in_child() -> None:
        for one in those_in(known):
            renew(one)
    if hasattr(os, 'register_at_fork'):
        os.register_at_fork(after_in_child=in_child)
