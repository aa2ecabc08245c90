"""Workers: the threads of one vault, for the tasks of one event loop. Knows no vault: it runs functions.

    reader      what reads, outside of blocks
    writer      what writes, and whole blocks, in one queue, first come first served: a store's transaction belongs to
                the thread that began it
    long        what takes long, and is no reason for others to wait

A call that has not begun when its task is cancelled is never done; one that has begun ends in its thread, and what
becomes of it nobody is told. Only the writer knows whose turn it is: no lock is held by a task, so that a task that is
cancelled, forgotten or never continued leaves none behind.

The threads are daemons: a process may end without having closed its vaults, as with a Vault. What was acknowledged is
kept by then. They hold a function only while it runs, and end when the Workers are collected or closed.
"""
from __future__ import annotations

import threading
from collections import deque
from contextvars import copy_context
from queue import Empty, SimpleQueue
from time import monotonic
from weakref import WeakSet

from ..errors import VaultBusyError, VaultClosedError, VaultError, VaultTaskError
from ..log import get_logger
from ..stores.forks import each_in_child
from .loops import current_loop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextvars import Context
    from typing import Any, Awaitable, Callable, Deque, List, Optional, Tuple, TypeVar

    from .loops import EventLoop, Pending

    T = TypeVar('T')

BEGINNING, WITHIN, ENDING, DROPPING = range(4)  # what a call is to its block, where it has one
JOINED_AT_ONCE = 512    # calls


class Call:
    """A function that is to run in a thread, and who waits for it: nobody, of what undoes something."""

    __slots__ = ('args', 'block', 'context', 'function', 'join', 'kind', 'loop', 'pending', 'since')

    def __init__(self, loop: Optional[EventLoop], pending: Optional[Pending], function: Callable[..., Any],
                 args: Tuple[Any, ...], kind: int = WITHIN, block: Optional[WorkersBlock] = None,
                 join: Optional[Callable[[List[Call]], object]] = None) -> None:
        self.loop, self.pending, self.function, self.args = loop, pending, function, args
        self.kind, self.block, self.join = kind, block, join
        self.context: Context = copy_context()
        self.since = 0.0  # when it was found to wait for the block of another

    def run(self, wakes: bool = True) -> bool:
        """Do it; tell whether it ended well. Unless it `wakes` the loop for the answer, somebody calls `wake` soon."""
        try:
            result = self.context.run(self.function, *self.args)
        except BaseException as error:
            self.fail(error)
            return False
        if self.loop is not None and self.pending is not None:
            self.loop.answer(self.pending, result, None) if wakes else self.loop.note(self.pending, result)
        return True

    def wake(self) -> None:
        """Have the loop hand out this answer, and all others that are there."""
        if self.loop is not None:
            self.loop.wake()

    def fail(self, error: BaseException) -> None:
        if self.loop is None or self.pending is None:
            get_logger().warning('what a task left, which was cancelled or failed, could not be undone: %s', error)
            return
        if isinstance(error, StopIteration):  # which cannot be raised into a coroutine
            raised, error = error, RuntimeError('a function in a thread raised StopIteration')
            error.__cause__ = raised
        self.loop.answer(self.pending, None, error)
        self.pending, self.function, self.args = None, ended, ()  # the error holds this by the frames it came through


class _Opening:
    """What is to be done before the first call of any thread, and is tried again until it succeeds."""

    def __init__(self, opened: Optional[Callable[[], object]]) -> None:
        self._opened, self._lock, self.is_done = opened, threading.Lock(), opened is None

    def require(self) -> None:
        with self._lock:
            if not self.is_done and self._opened is not None:
                self._opened()
                self.is_done = True


class _Lane:
    """A thread, and the calls that wait for it. All but `put` and `start` is the thread's own."""

    def __init__(self, name: str, timeout: float, opening: _Opening) -> None:
        self._name, self._timeout, self._opening = name, timeout, opening
        self._calls: SimpleQueue[Optional[Call]] = SimpleQueue()   # None ends the thread
        self.put = self._calls.put
        self._waiting: Deque[Call] = deque()    # taken from there, and still to be done
        self._is_ending = False
        self.thread: Optional[threading.Thread] = None  # unless it was told to end
        self.last: Optional[threading.Thread] = None    # that was begun

    def start(self) -> None:
        """Begin a thread. One that was told to end, and has not yet, does before what it was asked for till then."""
        self.thread = self.last = threading.Thread(
            target=self._serve, args=(self.last,), name=self._name, daemon=True)
        self.thread.start()

    def _serve(self, before: Optional[threading.Thread]) -> None:
        if before is not None:
            before.join()
        self._is_ending = False
        while self._waiting or not self._is_ending:
            call = self._waiting.popleft() if self._waiting else self._calls.get()
            if call is None:
                return
            if call.pending is None or not call.pending.done():
                self._do(call)
            del call  # it holds what it was given, and who waits

    def _do(self, call: Call) -> None:
        if not self._opening.is_done:
            try:
                self._opening.require()
            except BaseException as error:
                call.fail(error)
                return
        block = call.block
        if call.join is not None:
            self._join(call, call.join)
        elif block is None:
            call.run()
        elif call.kind != BEGINNING or block.has_ended:
            if call.pending is not None:
                call.fail(ended())
        elif call.run():
            self._serve_block(block)

    def _join(self, first: Call, join: Callable[[List[Call]], object]) -> None:
        """Do a call with all that came behind it and can be joined with it, up to the first which cannot."""
        calls, queued = [first], self._calls
        while len(calls) < JOINED_AT_ONCE and not queued.empty():  # only this thread takes from it
            call = queued.get()
            if call is None:
                self._is_ending = True
                break
            if call.join is not join:
                self._waiting.append(call)
                break
            if call.pending is None or not call.pending.done():
                calls.append(call)
        if len(calls) == 1:
            first.run()
            return
        try:
            join(calls)
        except BaseException as error:
            for call in calls:
                call.fail(error)

    def _serve_block(self, block: WorkersBlock) -> None:
        """Serve nobody but a block, until it ends."""
        began = monotonic()
        while True:
            try:
                call = self._calls.get(timeout=self._patience(began))
            except Empty:
                self._refuse(began)
                continue
            if call is None:  # the vault was dropped
                self._is_ending = True
                call = block.dropping()
            if call.block is not block:
                call.since = monotonic()
                self._waiting.append(call)
            elif call.pending is None or not call.pending.done():
                call.run()
                if call.kind in (ENDING, DROPPING):  # also when it raises: then it is rolled back
                    return
            del call

    def _patience(self, began: float) -> Optional[float]:
        """Return how many seconds the next one in the queue still waits for a block that began then."""
        since = next((call.since for call in self._waiting if call.pending is not None), None)
        return None if since is None else max(0.0, max(began, since) + self._timeout - monotonic())

    def _refuse(self, began: float) -> None:
        """Let no call wait for a block longer than `timeout`: the block may be waiting for it."""
        told = []  # nobody waits for these, and they are not to be lost
        while self._patience(began) == 0:
            call = self._waiting.popleft()
            if call.pending is None:
                told.append(call)
            elif not call.pending.done():
                call.fail(VaultBusyError(
                    f'another task has had a block open for all of the timeout of {self._timeout:g} seconds: await '
                    'nothing that takes long in a block, or raise `timeout`; what a block starts and waits for goes by '
                    "the block's own handle, `async with v.transaction() as t`, as `await t.put(...)`"))
        self._waiting.extendleft(reversed(told))


class _Binding:
    """The event loop that a vault is used in: the first one."""

    def __init__(self) -> None:
        self.loop: Optional[EventLoop] = None

    def require(self) -> EventLoop:
        """Return the loop. Raises: VaultTaskError where none runs, or another one."""
        if self.loop is None:
            self.loop = current_loop()
        elif not self.loop.is_current():
            current_loop()
            raise VaultTaskError('the vault is in use by another event loop: open it again in this one, with '
                                 '`async with`, or close it there first')
        return self.loop

    def ask(self, lane: _Lane, function: Callable[..., Any], args: Tuple[Any, ...], kind: int = WITHIN,
            block: Optional[WorkersBlock] = None, join: Optional[Callable[[List[Call]], object]] = None) -> Pending:
        """Have a function run in a thread; return what its result is awaited by, which is to be done at once."""
        loop = self.loop
        if loop is None or not loop.is_current():
            loop = self.require()
        pending = loop.pending()
        lane.put(Call(loop, pending, function, args, kind, block, join))
        return pending


class Workers:
    """The threads of one vault, for the tasks of the event loop that uses it first; in a forked child, anew."""

    def __init__(self, name: str, timeout: float, *, opened: Optional[Callable[[], object]] = None,
                 closed: Optional[Callable[[], object]] = None) -> None:
        """Make them; threads begin when they are needed.

        `name`: of the threads. `timeout`: seconds that writes wait for one block to end. `opened`: is called in a
        thread before the first call; what it raises that call raises, and the next one tries again. `closed`: is
        called in the writer's thread as the last.
        """
        self.name, self._timeout, self._opened, self._closed = name, timeout, opened, closed
        self.is_closed = False
        self._begin(_Opening(opened))
        every.add(self)

    def _begin(self, opening: _Opening) -> None:
        self._opening, self._binding = opening, _Binding()
        self._make_lanes()

    def _make_lanes(self) -> None:
        self._reader, self._writer, self._long = (
            _Lane(f'{self.name} {what}', self._timeout, self._opening) for what in ('reader', 'writer', 'long'))

    def forget(self) -> None:
        """Forget threads and loop: those of the parent are not in a forked child."""
        opening = _Opening(self._opened)
        opening.is_done = self._opening.is_done
        self._begin(opening)

    async def read(self, function: Callable[..., T], *args: Any) -> T:
        """Return what `function(*args)` does in the reader's thread."""
        lane = self._reader
        if lane.thread is None:
            self._start(lane)
        return await self._binding.ask(lane, function, args)  # type: ignore[no-any-return]

    def joined(self, join: Callable[[List[Call]], object], function: Callable[..., T], *args: Any) -> Awaitable[T]:
        """Return what is awaited, at once, for what `function(*args)` does in the reader's thread.

        Where more such calls wait there, `join(calls)` does all of them.
        """
        lane = self._reader
        if lane.thread is None:
            self._start(lane)
        return self._binding.ask(lane, function, args, join=join)

    async def write(self, function: Callable[..., T], *args: Any) -> T:
        """Return what `function(*args)` does in the writer's thread. Raises: VaultBusyError for a block that lasts."""
        lane = self._writer
        if lane.thread is None:
            self._start(lane)
        return await self._binding.ask(lane, function, args)  # type: ignore[no-any-return]

    async def long(self, function: Callable[..., T], *args: Any) -> T:
        """Return what `function(*args)` does in the thread for what takes long."""
        lane = self._long
        if lane.thread is None:
            self._start(lane)
        return await self._binding.ask(lane, function, args)  # type: ignore[no-any-return]

    def tell(self, function: Callable[[], object]) -> None:
        """Have a function run in the writer's thread, and do not wait for it: for what undoes something."""
        if self._writer.thread is not None:
            self._writer.put(Call(None, None, function, (), WITHIN, None))

    def block(self, undo: Callable[[], object]) -> WorkersBlock:
        """Return a block, which `begin()` begins; `undo` is called in the writer's thread where it is dropped."""
        if self._writer.thread is None:
            self._start(self._writer)
        return WorkersBlock(self._writer, self._binding, undo)

    async def close(self) -> None:
        """Wait for what was asked for before, then for `closed`, and end the threads. May be called twice.

        It goes on when the task that waits is cancelled. When it raises, as VaultBusyError where a block is open all
        the time, nothing was closed. Any loop may do it.
        """
        if self.is_closed:
            return
        self.is_closed = True
        lanes = self._reader, self._writer, self._long
        others = [lane.last for lane in (self._reader, self._long) if lane.last is not None]
        if self._writer.thread is not None or others or self._opening.is_done:
            self._make_lanes()
            await self._end(lanes, others)

    async def _end(self, lanes: Tuple[_Lane, _Lane, _Lane], others: List[threading.Thread]) -> None:
        """End those threads; nothing new goes there."""
        reader, writer, long = lanes

        has_ended = False

        def end() -> None:
            nonlocal has_ended
            if has_ended:
                return
            for thread in others:
                thread.join()
            if self._closed is not None and self._opening.is_done:
                self._closed()
            has_ended = True
            writer.put(None)
        loop = current_loop()
        pending = loop.pending()
        if writer.thread is None:
            writer.start()
        for lane in (reader, long):
            if lane.thread is not None:
                lane.thread = None
                lane.put(None)
        writer.put(Call(loop, pending, end, (), WITHIN, None))
        try:
            await loop.shielded(pending)
        except Exception:
            self._reader, self._writer, self._long = lanes
            self.is_closed = False
            raise
        except BaseException:  # cancelled: then there is nobody to be refused, and all the blocks are waited for
            writer.put(Call(None, None, end, (), WITHIN, None))
            raise

    def _start(self, lane: _Lane) -> None:
        if self.is_closed:
            raise VaultClosedError(f'the vault {self.name!r} is closed: open it again')
        self._binding.require()  # which may raise: then there is no need of a thread
        lane.start()

    def __del__(self) -> None:
        for lane in (self._reader, self._writer, self._long):
            if lane.thread is not None:
                lane.put(None)


class WorkersBlock:
    """A turn of the writer: from `begin` to the end nobody else's call runs there. All of it is for one event loop.

    It holds no Workers, which so can be collected as long as the thread knows of the block.
    """

    def __init__(self, lane: _Lane, binding: _Binding, undo: Callable[[], object]) -> None:
        self._lane, self._binding, self._undo = lane, binding, undo
        self.has_ended = False

    async def begin(self, function: Callable[[], T]) -> T:
        """Wait for the turn, and return what `function()` does then; what that raises gives the turn back.

        Raises: VaultBusyError when another block was open for all of `timeout`.
        """
        try:
            return await self._binding.ask(self._lane, function, (), BEGINNING, self)  # type: ignore[no-any-return]
        except BaseException:
            self.drop()  # it may have begun, when the task was cancelled
            raise

    async def run(self, function: Callable[..., T], *args: Any) -> T:
        """Return what `function(*args)` does in the writer's thread, within the block."""
        if self.has_ended:
            raise ended()
        return await self._binding.ask(self._lane, function, args, WITHIN, self)  # type: ignore[no-any-return]

    def tell(self, function: Callable[[], object]) -> None:
        """Have a function run within the block, and do not wait for it: for what undoes a part of it."""
        if not self.has_ended:
            self._lane.put(Call(None, None, function, (), WITHIN, self))

    async def end(self, function: Callable[[], T]) -> T:
        """Return what `function()` does, and give the turn back. Cancelled before it begins, the block is dropped."""
        if self.has_ended:
            raise ended()
        self.has_ended = True
        try:
            return await self._binding.ask(self._lane, function, (), ENDING, self)  # type: ignore[no-any-return]
        except BaseException:
            self._lane.put(self.dropping())  # of no effect, where it has ended
            raise

    def drop(self) -> None:
        """Have `undo` called, and the turn given back, without waiting for it. May be called twice."""
        if not self.has_ended:
            self.has_ended = True
            self._lane.put(self.dropping())

    def dropping(self) -> Call:
        """Return the call that ends it where nobody waits."""
        return Call(None, None, self._undo, (), DROPPING, self)


def ended() -> VaultError:
    """Return the error of who uses a block that has ended."""
    return VaultError('the block has ended: begin another one')


every: WeakSet[Workers] = WeakSet()
each_in_child(every, lambda workers: workers.forget())
