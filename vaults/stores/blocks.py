"""Blocks: what is said of one that ends when, or where, it must not, and which walks end with it. Knows only errors.

It is the same for all engines.
"""
from __future__ import annotations

import sys
import threading
from _thread import get_ident

from ..errors import VaultClosedError, VaultError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, List, Optional

MAX_NESTED = 100  # blocks around one
FRAME_TYPE = type(sys._getframe())  # who begins a block, where it is a `with` that does
NEST = 'Let blocks end in the reverse of the order in which they began, and hold none over a `yield`'


class Epoch:
    """A block, to walks that began in it: they end where it is rolled back, or one that is around it."""

    __slots__ = ('_around', 'undone')

    def __init__(self, around: Optional[Epoch]) -> None:
        self._around, self.undone = around, False

    def require(self, path: str) -> None:
        """Raise when what was read in the block is no more."""
        if self.undone:
            raise VaultError(f'the transaction this walk began in was rolled back: vault {path}; begin a new one')
        if self._around is not None:
            self._around.require(path)


class Epochs:
    """Those of the blocks that are open, one within the other. Made when a walk begins: a block does not pay for it.

    One that was committed is part of what is around it, which its own knows.
    """

    __slots__ = ('_open',)

    def __init__(self) -> None:
        self._open: List[Epoch] = []

    def at(self, depth: int) -> Optional[Epoch]:
        """Return the innermost one of so many open blocks; None outside of all."""
        while len(self._open) < depth:
            self._open.append(Epoch(self._open[-1] if self._open else None))
        return self._open[depth - 1] if depth else None

    def leave(self, depth: int) -> None:
        """Let go of those of blocks that are deeper, and have ended."""
        del self._open[depth:]

    def undo(self, depth: int) -> None:
        """Have walks end that began in blocks which are deeper, and are rolled back."""
        for epoch in self._open[depth:]:
            epoch.undone = True
        self.leave(depth)


def too_deep(path: str) -> VaultError:
    return VaultError(f'transactions are nested more than {MAX_NESTED} deep: vault {path}; leave some first, or begin '
                      'none in each call of a function that calls itself')


def inside(verb: str, path: str) -> VaultError:
    """Return the error of what can be called outside of all blocks alone."""
    return VaultError(f'{verb}() cannot run inside a transaction: leave the block first; vault {path}')


def closed(path: str) -> VaultClosedError:
    """Return the error of whatever is asked of a store that was closed."""
    return VaultClosedError(f'the vault {path} is closed: open it again')


def out_of_order(path: str) -> VaultError:
    """Return the error of a block that ends while one is open that began later."""
    return VaultError(f'a block ended out of its order, before one that began later: vault {path}; both were rolled '
                      f'back. {NEST}')


def taken_along(path: str) -> VaultError:
    """Return the error of a block that ends when one around it has ended."""
    return VaultError(f'a block around this one ended before it, and undid it: vault {path}; nothing of it was kept. '
                      f'{NEST}')


def not_here(path: str, threads: str = '') -> VaultError:
    """Return the error of an end without a block in this thread; others have one open in those `threads`."""
    return VaultError(f'there is no transaction to end in this thread: vault {path}; leave a block in the thread that '
                      f'entered it{threads and f": {threads}"}')


def left_elsewhere(path: str, thread: int) -> str:
    """Return what is said of a block that this thread has left, and another one has begun."""
    names = thread_names()
    return (f'a block that began in the thread {names.get(thread, "that has ended")} was left in another thread, '
            f'{names.get(get_ident())}: vault {path}; it was rolled back. A block belongs to one thread: begin and end '
            'it in one function, and hold none over the `yield` of what a framework runs in threads')


def undone_since(said: str) -> VaultError:
    """Return the error of a thread that went on in a block which was left in another one, as was `said` there."""
    return VaultError(f'what this thread has done since is undone: {said}')


def thread_names() -> Dict[int, str]:
    """Return how the threads that have not ended are called, by their number."""
    return {thread.ident or 0: repr(thread.name) for thread in threading.enumerate()}


def make_room(calls: int = 12) -> None:
    """Raise RecursionError now rather than at the end: what ends or undoes a transaction must find room to do it."""
    if calls:
        make_room(calls - 1)
