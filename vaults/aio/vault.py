"""AsyncVault: a vault for tasks. Knows which verbs have a form of their own there; the others are in a table."""
from __future__ import annotations

import os
from functools import update_wrapper
from inspect import signature

from ..codecs import registry
from ..errors import VaultError
from ..place import MISSING
from ..stores import shown_url
from ..vault import Vault
from ..views import Keys, SortedSlice, Values
from .blocks import AsyncEdit, AsyncTransaction
from .bridge import AsyncWalk, Bridge, Made, SharedByTasks, bridged, inward, verb_of
from .joined import got_of
from .pieces import VaultInPieces
from .things import AsyncOpening
from .verbs import BY_READER, BY_WRITER, JOINED, OF_SLICE, OF_VAULT, OF_VIEW

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, Callable, Iterator, Optional, Tuple, Type

TAKEN = signature(Vault)


def _key_in(one: Any) -> Any:
    return one[0]


def _itself(one: Any) -> Any:
    return one


def _deleted_of(subject: Callable[[], Any], key: Any) -> None:
    del subject()[key]


class _AsyncEntries(Bridge):
    """What a vault, a section and a slice have in common for tasks: their walks, and v[key]."""

    __slots__ = ()

    def __getitem__(self, key: Any) -> Any:
        """Return what is awaited for the value, `await v[key]`; of a slice a:b, the sorted entries between."""
        return AsyncSlice.part(self, lambda vault: vault[key]) if type(key) is slice else self._item(key)

    async def _item(self, key: Any) -> Any:
        return self.outward(await self.ask(BY_READER, verb_of, self.subject, '__getitem__', (key,), {}))

    def __aiter__(self) -> AsyncWalk:
        """Walk over the keys: `async for key in v`. Writing meanwhile is safe."""
        return AsyncWalk(self, lambda: iter(self.subject()), self.subject)

    def __reversed__(self) -> AsyncWalk:
        """Walk over the keys, the last one first: `async for key in reversed(v)`."""
        return AsyncWalk(self, lambda: reversed(self.subject()), self.subject)

    def keys(self) -> AsyncKeys:
        """Return a view of the keys: `async for key in v.keys()`, `await v.keys()[0]`."""
        return AsyncKeys(self, 'keys')

    def values(self) -> AsyncValues:
        """Return a view of the values: `async for value in v.values()`."""
        return AsyncValues(self, 'values')

    def items(self) -> AsyncItems:
        """Return a view of the pairs: `async for key, value in v.items()`."""
        return AsyncItems(self, 'items')


class AsyncKeys(Bridge):
    """The keys, in their order: what v.keys() is for tasks."""

    __slots__ = ('_entries',)
    _key = staticmethod(_itself)
    _walked = 'keys'    # the view that a walk is over: of an entry that was deleted its key tells
    _shown: Optional[Callable[[Any], Any]] = None

    def __init__(self, of: Bridge, name: str) -> None:
        super().__init__(of.shared, Made(of.subject, lambda vault: getattr(vault, name)()), of.handle)
        self._entries = of.subject

    async def __getitem__(self, index: Any) -> Any:
        """Return the element at an index, or a list of those of a slice: `await v.keys()[0]`."""
        return self._shown_all(await self.ask(BY_READER, verb_of, self.subject, '__getitem__', (index,), {}))

    def __aiter__(self) -> AsyncWalk:
        return AsyncWalk(self, lambda: self._walk(False), self._entries, self._key, self._shown)

    def __reversed__(self) -> AsyncWalk:
        return AsyncWalk(self, lambda: self._walk(True), self._entries, self._key, self._shown)

    def _walk(self, reverse: bool) -> Iterator[Any]:
        view = getattr(self._entries(), self._walked)()
        return reversed(view) if reverse else iter(view)

    def _shown_all(self, found: Any) -> Any:
        return found


class AsyncValues(AsyncKeys):
    """The values, in the order of their keys."""

    __slots__ = ()
    _key = staticmethod(_key_in)
    _walked = 'items'

    def _shown(self, pair: Any) -> Any:
        return self.outward(pair[1])

    def _shown_all(self, found: Any) -> Any:
        return list(map(self.outward, found)) if type(found) is list else self.outward(found)


class AsyncItems(AsyncKeys):
    """The (key, value) pairs, in the order of the keys."""

    __slots__ = ()
    _key = staticmethod(_key_in)
    _walked = 'items'

    def _shown(self, pair: Any) -> Any:
        return self.outward_pair(pair)

    def _shown_all(self, found: Any) -> Any:
        return list(map(self.outward_pair, found)) if type(found) is list else self.outward_pair(found)


for _view in (AsyncKeys, AsyncValues, AsyncItems):
    bridged(Keys if _view is AsyncKeys else Values, OF_VIEW)(_view)


@bridged(SortedSlice, OF_SLICE)
class AsyncSlice(_AsyncEntries):
    """The entries of a range of keys, sorted: what v[a:b] and v.prefix() are for tasks. Lazy and live."""

    __slots__ = ()

    @classmethod
    def part(cls, of: Bridge, make: Callable[[Any], Any]) -> AsyncSlice:
        return cls(of.shared, Made(of.subject, make), of.handle)


@bridged(Vault, OF_VAULT)
class AsyncEntries(_AsyncEntries):
    """What a vault and a section are for tasks."""

    __slots__ = ()

    async def get(self, key: Any, default: Any = None) -> Any:
        """Return the value, or `default` when there is no such key. A stored None is a value."""
        return self.outward(await self.ask(JOINED, got_of, self.subject, key, default))

    async def _item(self, key: Any) -> Any:
        value = await self.ask(JOINED, got_of, self.subject, key, MISSING)
        if value is MISSING:
            raise KeyError(key)
        return self.outward(value)

    async def delete(self, key: Any) -> None:
        """Delete the entry; for a slice, all entries in it. It is what `del v[key]` is. Raises: KeyError."""
        await self.ask(BY_WRITER, _deleted_of, self.subject, key)

    async def update(self, other: Any = (), /, **named: Any) -> None:
        """Set what dict.update would, in one transaction. An asynchronous iterable is read before."""
        await self.ask(BY_WRITER, verb_of, self.subject, 'update', (await _gathered(other),), named)

    async def put_many(self, pairs: Any) -> int:
        """Set all entries of a mapping or of an iterable of pairs, in one transaction; return how many."""
        count: int = await self.ask(BY_WRITER, verb_of, self.subject, 'put_many', (await _gathered(pairs),), {})
        return count

    def prefix(self, prefix: Any) -> AsyncSlice:
        """Return the sorted entries whose keys begin with `prefix`."""
        return AsyncSlice.part(self, lambda vault: vault.prefix(prefix))

    def irange(self, minimum: Any = None, maximum: Any = None, inclusive: Tuple[bool, bool] = (True, True),
               reverse: bool = False) -> AsyncWalk:
        """Walk over the sorted keys from `minimum` to `maximum`, as Vault.irange: `async for key in v.irange(1, 5)`."""
        return AsyncWalk(self, lambda: self.subject().irange(minimum, maximum, inclusive, reverse), self.subject)

    def open(self, *args: Any, **named: Any) -> AsyncOpening:
        """Open the value at a key as a file: `async with v.open(key, mode) as file`, or `file = await v.open(key)`."""
        return AsyncOpening(self, args, named)

    def section(self, name: Any, *, value_type: Any = None, validate: Any = None) -> AsyncSection:
        """Return the vault inside this one that holds the entries with the keys (name, ...)."""
        return AsyncSection(self.shared, Made(self.subject, lambda vault: vault.section(
            name, value_type=value_type, validate=validate)), self.handle)

    def transaction(self) -> AsyncTransaction:
        """Return a block that is one transaction, or a nested one: `async with v.transaction() as t`."""
        return AsyncTransaction(self)

    def edit(self, key: Any, default: Any = MISSING) -> AsyncEdit:
        """Return a block that loads the value, lets you change it, and writes it: `async with v.edit(key) as value`."""
        return AsyncEdit(self, key, default)

    @property
    def name(self) -> str:
        """The vault's name. Raises: VaultError before it is open."""
        name: str = self.shared.kept.require().name
        return name

    @property
    def db_path(self) -> str:
        """The absolute path of the vault's file, or what another engine calls its place. Raises: as `name`."""
        path: str = self.shared.kept.require().db_path
        return path

    @property
    def closed(self) -> bool:
        """Whether the vault is closed."""
        return self.shared.workers.is_closed


class AsyncSection(AsyncEntries):
    """A vault inside a vault, for tasks: the same verbs, over the entries whose keys begin with its path."""

    __slots__ = ()

    @property
    def path(self) -> Tuple[Any, ...]:
        """The names that lead here. Raises: VaultError before the vault is open."""
        self.shared.kept.require()
        path: Tuple[Any, ...] = self.subject().path
        return path


class AsyncVault(AsyncEntries):
    """A Vault for the tasks of asyncio and trio: every verb of Vault, awaited.

    It takes what Vault takes, and is opened by `async with`, or at its first use; closed by `close()` or the end of
    `async with`. Reading, writing and what takes long have a thread each, so that none of them holds up the loop.

    A block, `async with v.transaction() as t`, is of the task that began it: what that task does by `v` is in the
    block; other tasks are in it by `t` alone. By `v` they read what was committed last, and what they write waits for
    the end of the block, `timeout` seconds at most. For the tasks of one event loop.
    """

    __slots__ = ()

    def __init__(self, *args: Any, **named: Any) -> None:
        given = TAKEN.bind(*args, **named).arguments
        name = given.get('name')
        title = 'of an engine' if name is None else shown_url(os.fsdecode(name)) if isinstance(
            name, (str, os.PathLike)) else repr(name)
        shared = SharedByTasks(title, given.get('timeout', 5.0), lambda: VaultInPieces(*args, **named))
        super().__init__(shared, shared.kept.vault)

    async def __aenter__(self) -> AsyncVault:
        """Open it, in a thread, where it is not open yet."""
        if self.handle is not None:
            raise VaultError('the handle of a block is used in it, and neither opened nor closed: begin a nested block '
                             'with `async with t.transaction()`')
        await self.ask(BY_WRITER, self.shared.kept.require)
        return self

    async def __aexit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException],
                        trace: Optional[TracebackType]) -> None:
        """Close it."""
        await self.close()

    async def close(self) -> None:
        """Close the vault, for good. What is under way ends before; a block of this task is rolled back.

        It goes on when the task is cancelled meanwhile. May be called twice.

        Raises: VaultBusyError when another task has a block open for all of `timeout`, and what `Vault.close` raises;
        then it stays open.
        """
        blocks = self.shared.blocks
        if blocks.turns:
            level = blocks.found(self.handle)
            if level is not None and level.turn is not None:
                blocks.turns.remove(level.turn)
                level.turn.let_go()
        await self.shared.workers.close()

    async def delete_vault(self) -> None:
        """Close the vault and delete its file. Raises: as `close`, and as Vault.delete_vault."""
        await self.ask(BY_WRITER, self.shared.kept.require)
        kept = self.shared.kept
        kept.ending = 'delete_vault'
        try:
            await self.close()
        except Exception:
            kept.ending = 'close'
            raise


update_wrapper(AsyncVault.__init__, Vault.__init__)
registry.never_stored.append(Bridge)


async def _gathered(pairs: Any) -> Any:
    """Return what a thread can walk over: of an asynchronous iterable all that it gives."""
    if not hasattr(pairs, '__aiter__'):
        return pairs
    if isinstance(pairs, Bridge):
        pairs = pairs.items() if hasattr(pairs, 'items') else pairs
    return [(key, inward(value)) async for key, value in pairs]
