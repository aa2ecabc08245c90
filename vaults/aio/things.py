"""What grows, for tasks: live lists, columns and deques, and streams as files. Knows of them what their tables say."""
from __future__ import annotations

from functools import partial

from ..collections.column import Column
from ..collections.deque import Deque
from ..collections.list import List
from .bridge import AsyncWalk, Bridge, Made, awaited, bridged, of_live, verb_of
from .verbs import BY_READER, BY_WRITER, OF_COLUMN, OF_DEQUE, OF_FILE, OF_LIST

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, Dict, Generator, Optional, Type


class AsyncLive(Bridge):
    """A live object of a vault. Each of its methods is awaited, also those of a program's own classes."""

    __slots__ = ()

    async def __getitem__(self, index: Any) -> Any:
        """Return the item at an index, or those of a slice: `await x[0]`."""
        return await self.ask(BY_READER, verb_of, self.subject, '__getitem__', (index,), {})

    def __aiter__(self) -> AsyncWalk:
        """Walk over the items: `async for item in x`."""
        return AsyncWalk(self, lambda: iter(self.subject()))

    def __reversed__(self) -> AsyncWalk:
        """Walk over the items, the last one first: `async for item in reversed(x)`."""
        return AsyncWalk(self, lambda: reversed(self.subject()))

    def __getattr__(self, name: str) -> Any:
        if name[0] == '_':
            raise AttributeError(f'{type(self).__name__!r} object has no attribute {name!r}')
        found = getattr(type(self.subject()), name)
        return partial(awaited(name, BY_WRITER, found), self) if callable(found) else getattr(self.subject(), name)


@bridged(List, OF_LIST)
class AsyncList(AsyncLive):
    """A live list: `log = await v.list(key)`, `await log.append(item)`. It can be used by any task of its loop."""

    __slots__ = ()


@bridged(Column, OF_COLUMN)
class AsyncColumn(AsyncLive):
    """A live column: `temps = await v.column(key, 'float64')`."""

    __slots__ = ()

    @property
    def dtype(self) -> str:
        """The type of its items."""
        dtype: str = self.subject().dtype
        return dtype


@bridged(Deque, OF_DEQUE)
class AsyncDeque(AsyncLive):
    """A live deque: `last = await v.live(vaults.Deque, key, maxlen=100)`."""

    __slots__ = ()

    @property
    def maxlen(self) -> Optional[int]:
        """How many items it holds at most."""
        maxlen: Optional[int] = self.subject().maxlen
        return maxlen


of_live.update({List: AsyncList, Column: AsyncColumn, Deque: AsyncDeque, object: AsyncLive})


class AsyncFile(Bridge):
    """A value as a file: `async with v.open(key, mode) as file`. As a builtin one, but that its methods are awaited."""

    __slots__ = ('_lane', 'mode', 'name')

    def __init__(self, of: Bridge, file: Any, name: Any, mode: str) -> None:
        super().__init__(of.shared, lambda: file, of.handle)
        self.name, self.mode = name, mode
        self._lane = _lane_of(mode)

    def __aiter__(self) -> AsyncFile:
        """Read line by line: `async for line in file`."""
        return self

    async def __anext__(self) -> Any:
        line = await self._do('readline')
        if not line:
            raise StopAsyncIteration
        return line

    async def _do(self, name: str, *args: Any) -> Any:
        return await self.ask(self._lane, verb_of, self.subject, name, args, {})

    async def close(self) -> None:
        """Make what was written the entry, all at once. May be called twice."""
        await self._do('close')

    def discard(self) -> None:
        """Close, and write nothing of it; this is not awaited."""
        self.do_unheard(self.drop)

    def drop(self) -> None:
        """Do so in the thread that runs."""
        file = self.subject()
        file.discard() if hasattr(file, 'discard') else file.close()  # one that is only read has no need of it

    @property
    def closed(self) -> bool:
        """Whether it is closed."""
        closed: bool = self.subject().closed
        return closed

    async def __aenter__(self) -> AsyncFile:
        return self

    async def __aexit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException],
                        trace: Optional[TracebackType]) -> None:
        """Close; after any exception, write nothing, and wait for nothing."""
        if kind is not None:
            self.discard()
            return
        try:
            await self.close()
        except BaseException:
            self.discard()
            raise


def _lane_of(mode: Any) -> str:
    return BY_READER if isinstance(mode, str) and not set(mode) & set('wax+') else BY_WRITER


def _file_verb(name: str) -> Any:
    async def verb(self: AsyncFile, /, *args: Any) -> Any:
        return await self._do(name, *args)
    verb.__name__ = verb.__qualname__ = name
    verb.__doc__ = f'Do what {name}() of a builtin file does.'
    return verb


for _name in OF_FILE:
    setattr(AsyncFile, _name, _file_verb(_name))


class AsyncOpening:
    """What opens a value as a file: `await v.open(key)` returns it, `async with v.open(key) as file` also closes it."""

    __slots__ = ('_file', '_mode', '_name', '_of', '_open')

    def __init__(self, of: Bridge, args: Any, named: Dict[str, Any]) -> None:
        self._of = of
        self._name = args[0] if args else named.get('key')
        self._mode = args[1] if len(args) > 1 else named.get('mode', 'rb')
        self._open = Made(of.subject, lambda vault: vault.open(*args, **named))
        self._file: Optional[AsyncFile] = None

    def __await__(self) -> Generator[Any, Any, AsyncFile]:
        return self._opened().__await__()

    async def _opened(self) -> AsyncFile:
        try:
            return self._file_of(await self._of.ask(_lane_of(self._mode), self._open))
        except BaseException:
            self._of.do_unheard(self._leave)  # it may have been opened, when the task was cancelled
            raise

    def _file_of(self, file: Any) -> AsyncFile:
        return AsyncFile(self._of, file, self._name, self._mode)

    def _leave(self) -> None:
        if self._open.thing is not None:
            self._file_of(self._open.thing).drop()

    async def __aenter__(self) -> AsyncFile:
        self._file = await self._opened()
        return self._file

    async def __aexit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException],
                        trace: Optional[TracebackType]) -> None:
        if self._file is not None:
            await self._file.__aexit__(kind, error, trace)
