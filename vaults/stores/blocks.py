"""Blocks: what is said of one that ends when, or where, it must not; the same for all engines. Knows only errors."""
from __future__ import annotations

import sys
import threading
from _thread import get_ident

from ..errors import VaultError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict

MAX_NESTED = 100  # blocks around one
FRAME_TYPE = type(sys._getframe())  # who begins a block, where it is a `with` that does
NEST = 'Let blocks end in the reverse of the order in which they began, and hold none over a `yield`'


def too_deep(path: str) -> VaultError:
    return VaultError(f'transactions are nested more than {MAX_NESTED} deep: vault {path}; leave some first, or begin '
                      'none in each call of a function that calls itself')


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
