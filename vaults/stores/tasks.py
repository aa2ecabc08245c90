"""Tasks and locks: who begins a block where an event loop runs, and who may use the vault then. Knows only errors.

The tasks of one event loop share a thread, and so a connection. Without more, what one of them puts would be chunk of
the block that another one holds open over an `await`, and be undone with it.
"""
from __future__ import annotations

import sys
import threading
import weakref
from _thread import RLock, get_ident

from ..errors import VaultTaskError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Optional

CURE = ("a block belongs to the task that began it: do not `await` or `yield` inside it, or do all of it in a function "
        'that runs in a thread, with asyncio.to_thread or trio.to_thread.run_sync')


def may_run(modules: Any = sys.modules) -> bool:
    """Tell whether an event loop may run: a program without asyncio and trio is not to pay for the question."""
    return 'asyncio' in modules or 'trio' in modules


def running() -> Any:
    """Return the task that runs in this thread; of a callback, the loop that calls it; without a loop, None.

    Only a program that has imported asyncio or trio can have one. Trio is asked first: it may run as a guest in the
    callbacks of another loop.
    """
    lowlevel = getattr(sys.modules.get('trio'), 'lowlevel', None)
    if lowlevel is not None and in_trio(lowlevel):
        return lowlevel.current_task()
    asyncio = sys.modules.get('asyncio')
    loop = None if asyncio is None else getattr(asyncio, '_get_running_loop', _none)()
    return loop and (asyncio.current_task(loop) or loop)  # type: ignore[union-attr]  # a loop means that it is there


def in_trio(lowlevel: Any) -> bool:
    """Tell whether a task of trio runs in this thread."""
    if hasattr(lowlevel, 'in_trio_task'):
        return bool(lowlevel.in_trio_task())
    try:  # before trio 0.26
        lowlevel.current_task()
    except (AttributeError, RuntimeError):
        return False
    return True


def _none() -> None:
    """Stand for what asyncio lacks while another thread is importing it."""


def free(lock: Any) -> None:
    """Take an RLock from the thread that has it, whose block was left in another one: it may do so late, or never."""
    try:  # noqa: SIM105  # contextlib is not imported for this
        lock._release_save()
    except RuntimeError:
        pass  # it is free; or from Python 3.14 on, where that thread alone may: its next call does


class Lock(RLock):  # type: ignore[misc]  # final for type checkers alone: C lets it have subclasses
    """A lock that its thread may take again, and of which everybody can tell whether this thread has it.

    Who has it, and how often, is kept by C, together with the lock itself. In attributes beside it, it would be wrong
    between two instructions: an interrupt after the lock was taken and before that is noted would keep it for ever, and
    a signal handler that runs there would wait for its own thread.
    """

    __slots__ = ()

    is_mine = RLock._is_owned  # type: ignore[attr-defined]  # every CPython has it; under this name it costs no frame

    def free(self) -> None:
        """Take the lock from the thread that has it, whose block was left in another one."""
        free(self)


class Asking:
    """The lock of a store while a task has a block open: asks `require` before it lets anybody in.

    A lock that a thread has lets all its tasks through.
    """

    def __init__(self, lock: Lock, require: Callable[[], None]) -> None:
        self._lock, self._require, self.release = lock, require, lock.release

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        self._require()
        taken: bool = self._lock.acquire(blocking, timeout)
        return taken

    __enter__ = acquire

    def __exit__(self, *error: object) -> None:
        self._lock.release()


def is_alive(thread: int) -> bool:
    """Tell whether a thread has not ended yet."""
    return any(one.ident == thread for one in threading.enumerate())


class Owner:
    """The task that began a block which holds `depth` others around it. It does not keep the task alive.

    A task that nobody can continue is collected, and then its block rolled back.
    """

    __slots__ = ('_path', '_task', '_thread', 'depth')

    def __init__(self, task: Any, depth: int, path: str) -> None:
        self._task: Callable[[], Any] = _weakly(task)
        self._thread, self._path, self.depth = get_ident(), path, depth

    @classmethod
    def now(cls, depth: int, path: str) -> Optional[Owner]:
        """Return the owner of a block that begins now, or None where no event loop runs."""
        task = running()
        return None if task is None else cls(task, depth, path)

    def require(self) -> None:
        """Raise VaultTaskError for any other task of this thread; other threads have other means to wait."""
        if get_ident() == self._thread and running() is not self._task():
            raise self.refusal()

    def refusal(self, what: str = '') -> VaultTaskError:
        """Return the error for another task, about what was done about it."""
        task, here = self._task(), running()
        if _has_ended(task):
            return VaultTaskError(f'{_named(task)} has ended inside a block of the vault {self._path}, which is still '
                                  f'open{what}: close the generator that holds it, or the vault; {CURE}')
        return VaultTaskError(f'{_named(task)} has a block open in the vault {self._path}, and this is '
                              f'{"no task" if here is None else _named(here)}{what}: {CURE}')

    def refused_end(self) -> Optional[VaultTaskError]:
        """Return the error of another task of this thread that ends the block, which is rolled back."""
        try:
            self.require()
        except VaultTaskError as error:
            return VaultTaskError(f'{error}; it was rolled back')
        return None

    def name(self) -> str:
        return _named(self._task())

    def is_left(self) -> bool:
        """Tell whether the task will not go on now: it has ended, or its loop has stopped."""
        return _has_ended(self._task()) or running() is None


def _weakly(task: Any) -> Callable[[], Any]:
    try:
        return weakref.ref(task)
    except TypeError:  # a loop of another maker
        return lambda: task


def _has_ended(task: Any) -> bool:
    """Tell whether a task has ended; a callback has, when anybody else runs."""
    if hasattr(task, 'done'):
        return bool(task.done())
    return getattr(getattr(task, 'coro', None), 'cr_frame', None) is None  # one of trio's


def _named(task: Any) -> str:
    if task is None:
        return 'a task that is gone'
    if hasattr(task, 'get_name'):
        return f'the task {task.get_name()!r}'
    return f'the task {task.name!r}' if hasattr(task, 'coro') else 'a callback of the event loop'
