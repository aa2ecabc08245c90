"""Loops: asyncio and trio, as far as an answer from a thread needs them. Knows of tasks only how one waits.

A thread that wakes a loop for each answer spends more on that than on the answer. So answers are collected, and one
call of the loop hands out all that have come until it is made.
"""
from __future__ import annotations

import sys
from collections import deque

from ..errors import VaultTaskError
from ..stores.tasks import in_trio

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Deque, Generator, Optional, Protocol, Tuple

    class Pending(Protocol):
        """What a task waits for: a Future of asyncio, or what does as it does."""

        def done(self) -> bool: ...
        def set_result(self, result: Any) -> None: ...
        def set_exception(self, error: BaseException) -> None: ...
        def __await__(self) -> Generator[Any, Any, Any]: ...


class EventLoop:
    """A running loop. Only `answer` is called by other threads."""

    __slots__ = ('_answers', '_is_woken')

    def __init__(self) -> None:
        self._answers: Deque[Tuple[Pending, Any, Optional[BaseException]]] = deque()
        self._is_woken = False

    def is_current(self) -> bool:
        """Tell whether it is the one that runs in this thread."""
        raise NotImplementedError

    def pending(self) -> Pending:
        """Return what the running task is going to wait for."""
        raise NotImplementedError

    def shielded(self, pending: Pending) -> Any:
        """Return what waits for it without ending it, when the task that waits is cancelled."""
        raise NotImplementedError

    def _wake(self, function: Callable[[], object]) -> None:
        """Have the loop call a function soon. Raises: RuntimeError when the loop has ended."""
        raise NotImplementedError

    def answer(self, pending: Pending, result: Any, error: Optional[BaseException]) -> None:
        """Hand over what was waited for. Of a loop that has ended nobody waits."""
        self._answers.append((pending, result, error))
        self.wake()

    def note(self, pending: Pending, result: Any) -> None:
        """Hand over what was waited for, once the loop is woken."""
        self._answers.append((pending, result, None))

    def wake(self) -> None:
        """Have what was handed over handed out."""
        if not self._is_woken:
            self._is_woken = True  # two threads that come here at once wake it twice, which is nothing but slower
            try:
                self._wake(self._hand_out)
            except RuntimeError:
                self._answers.clear()

    def _hand_out(self) -> None:
        self._is_woken = False  # first: what is appended from now on wakes the loop again
        answers = self._answers
        while answers:
            pending, result, error = answers.popleft()
            if pending.done():  # whoever waited was cancelled
                continue
            if error is None:
                pending.set_result(result)
            else:
                pending.set_exception(error)


class AsyncioLoop(EventLoop):
    """A loop of asyncio, or one that does as they do."""

    __slots__ = ('_asyncio', '_loop', '_running', 'pending')

    def __init__(self, loop: Any) -> None:
        super().__init__()
        self._loop, self._asyncio = loop, sys.modules['asyncio']
        self._running: Callable[[], Any] = running_loop()
        self.pending = loop.create_future  # type: ignore[method-assign]  # no call of ours stands between

    def is_current(self) -> bool:
        return self._running() is self._loop

    def shielded(self, pending: Pending) -> Any:
        return self._asyncio.shield(pending)

    def _wake(self, function: Callable[[], object]) -> None:
        self._loop.call_soon_threadsafe(function)


class TrioLoop(EventLoop):
    """A run of trio."""

    __slots__ = ('_token', '_trio')

    def __init__(self, trio: Any) -> None:
        super().__init__()
        self._trio, self._token = trio, trio.lowlevel.current_trio_token()

    def is_current(self) -> bool:
        return in_trio(self._trio.lowlevel) and self._trio.lowlevel.current_trio_token() is self._token

    def pending(self) -> Pending:
        return TrioPending(self._trio)

    async def shielded(self, pending: Pending) -> Any:
        with self._trio.CancelScope(shield=True):
            return await pending

    def _wake(self, function: Callable[[], object]) -> None:
        self._token.run_sync_soon(function)


class TrioPending:
    """What a task of trio waits for, at once: as a Future, but that nobody else waits for it."""

    __slots__ = ('_is_done', '_task', '_trio')

    def __init__(self, trio: Any) -> None:
        self._trio, self._task = trio, trio.lowlevel.current_task()
        self._is_done = False

    def done(self) -> bool:
        return self._is_done

    def set_result(self, result: Any) -> None:
        self._is_done = True
        self._trio.lowlevel.reschedule(self._task, sys.modules['outcome'].Value(result))

    def set_exception(self, error: BaseException) -> None:
        self._is_done = True
        self._trio.lowlevel.reschedule(self._task, sys.modules['outcome'].Error(error))

    def __await__(self) -> Generator[Any, Any, Any]:
        result: Generator[Any, Any, Any] = self._trio.lowlevel.wait_task_rescheduled(self._cancelled).__await__()
        return result

    def _cancelled(self, _: Any) -> Any:
        self._is_done = True
        return self._trio.lowlevel.Abort.SUCCEEDED


def current_loop() -> EventLoop:
    """Return the loop that runs in this thread. Raises: VaultTaskError where none does."""
    trio: Any = sys.modules.get('trio')
    if hasattr(trio, 'lowlevel') and in_trio(trio.lowlevel):
        return TrioLoop(trio)
    running = running_loop()()
    if running is None:
        raise VaultTaskError('no event loop of asyncio or trio runs here: await this in a coroutine that one of them '
                             'runs, or use vaults.Vault')
    return AsyncioLoop(running)


def running_loop() -> Callable[[], Any]:
    """Return what returns the loop of asyncio that runs in the thread which calls it, or None."""
    return getattr(sys.modules.get('asyncio'), '_get_running_loop', lambda: None)
