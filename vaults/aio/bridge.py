"""The bridge: how a task uses what lives in threads. Knows a vault as an object with methods, and none of them.

What a task holds has a subject, a function that returns the Vault, section, slice, view or live object in a thread:
a vault is opened at its first use, in a thread, and all that is made of it before then is made there as well.
"""
from __future__ import annotations

from collections import deque
from functools import update_wrapper
from time import perf_counter

from ..codecs.registry import live_types
from ..errors import VaultClosedError, VaultError, VaultTypeError
from ..place import place_of
from .blocks import Blocks
from .joined import read_joined
from .verbs import APART, AWAITED_INSTEAD, BY_READER, INSTEAD, JOINED
from .workers import Workers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Deque, Dict, Iterator, Optional, Tuple

    from ..place import Place
    from .blocks import AsyncTransaction

of_live: Dict[type, Callable[..., Any]] = {}  # what a task has for a live object of a class; under `object`, of any

WALKED_AHEAD = 256  # entries that a walk reads ahead, at most
WALKED_FOR = 0.002  # seconds that it does so


class Kept:
    """The vault, in its threads. It holds no Workers: these end when nobody but their threads has them."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._vault: Any = None
        self.is_apart = False       # whether reading has a thread of its own: before it is open, nobody knows
        self.ending = 'close'       # what ends it

    def open(self) -> None:
        vault = self._make()
        self.is_apart, self._vault = not place_of(vault).store.is_serial, vault

    def end(self) -> None:
        getattr(self._vault, self.ending)()

    def vault(self) -> Any:
        return self._vault

    def require(self) -> Any:
        """Return the vault, for what is asked of it in the loop. Raises: VaultError before it is open."""
        if self._vault is None:
            raise VaultError('the vault is not open yet: `async with v`, or await something of it first')
        return self._vault

    def require_open(self) -> None:
        if self._vault is not None and self._vault.closed:
            raise VaultClosedError('the vault was closed in its block, which is rolled back')


class SharedByTasks:
    """What an AsyncVault shares with all that is got from it."""

    __slots__ = ('blocks', 'kept', 'workers')

    def __init__(self, name: str, timeout: float, make: Callable[[], Any]) -> None:
        self.kept, self.blocks = Kept(make), Blocks()
        self.workers = Workers(name, timeout, opened=self.kept.open, closed=self.kept.end)


class Made:
    """A subject that is made of another one, once, in the thread that first needs it."""

    __slots__ = ('_make', '_of', 'thing')

    def __init__(self, of: Callable[[], Any], make: Callable[[Any], Any]) -> None:
        self._of, self._make, self.thing = of, make, None

    def __call__(self) -> Any:
        if self.thing is None:
            self.thing = self._make(self._of())
        return self.thing


class Bridge:
    """What a task holds of something in a vault. For the tasks of one event loop."""

    __slots__ = ('__weakref__', 'handle', 'shared', 'subject')

    def __init__(self, shared: SharedByTasks, subject: Callable[[], Any],
                 handle: Optional[AsyncTransaction] = None) -> None:
        self.shared, self.subject, self.handle = shared, subject, handle

    async def ask(self, lane: str, function: Callable[..., Any], *args: Any) -> Any:
        """Return what `function(*args)` does in a thread: in the block that the task is in, or in one of the lanes."""
        shared = self.shared
        if self.handle is not None or shared.blocks.turns:
            level = shared.blocks.found(self.handle)
            if level is not None and level.turn is not None:
                return await level.turn.block.run(function, *args)
        if not shared.kept.is_apart:
            return await shared.workers.write(function, *args)
        if lane is JOINED:
            return await shared.workers.joined(read_joined, function, *args)
        if lane is BY_READER:
            return await shared.workers.read(function, *args)
        return await (shared.workers.long if lane is APART else shared.workers.write)(function, *args)

    def do_unheard(self, function: Callable[[], object]) -> None:
        """Have a function run after all that was asked for, and do not wait for it."""
        level = self.shared.blocks.found(self.handle) if self.shared.blocks.turns else None
        if level is not None and level.turn is not None:
            level.turn.block.tell(function)
        else:
            self.shared.workers.tell(function)

    def within(self, level: AsyncTransaction) -> Any:
        """Return this, used by a block's handle."""
        same = object.__new__(type(self))
        Bridge.__init__(same, self.shared, self.subject, level)
        return same

    def outward(self, value: Any, handle: Optional[AsyncTransaction] = None) -> Any:
        """Return what a task is given for a value: of a live object one that is awaited."""
        if type(value) not in live_types:
            return value
        form = of_live.get(type(value), of_live[object])
        return form(self.shared, lambda: value, handle or self.handle)

    def outward_pair(self, pair: Any) -> Any:
        """Return the same for the value of a pair."""
        return (pair[0], self.outward(pair[1])) if type(pair) is tuple and type(pair[1]) in live_types else pair

    def outward_dict(self, values: Any) -> Any:
        """Return the same for the values of a dict that a verb has made."""
        return {key: self.outward(value) for key, value in values.items()}

    def __repr__(self) -> str:
        return f'<{type(self).__name__} of the vault {self.shared.workers.name!r}>'


def verb_of(subject: Callable[[], Any], name: str, args: Tuple[Any, ...], named: Dict[str, Any]) -> Any:
    """Call a method of a subject. It runs in a thread."""
    return getattr(subject(), name)(*args, **named)


def inward(value: Any) -> Any:
    """Return for a live object of a task's the one that the vault knows."""
    return value.subject() if isinstance(value, Bridge) else value


def awaited(name: str, lane: str, original: Any, said: str = '') -> Any:
    """Return the method that a task awaits in the place of one of the subject's."""
    async def verb(self: Any, /, *args: Any, **named: Any) -> Any:
        args = tuple(map(inward, args))
        return outward(self, await self.ask(lane, verb_of, self.subject, name, args, named))
    outward = {'get_many': Bridge.outward_dict, 'first': Bridge.outward_pair, 'last': Bridge.outward_pair}.get(
        name, Bridge.outward)
    update_wrapper(verb, original)
    verb.__name__ = verb.__qualname__ = said or name
    return verb


def refused(name: str, cure: str) -> Any:
    """Return a special method that says what to await in its place."""
    def refuse(self: Any, *args: Any) -> Any:
        raise VaultTypeError(f'{name} of {type(self).__name__} would have to wait for the vault, which only `await` '
                             f'can: use {cure}')
    refuse.__name__ = name
    return refuse


def bridged(cls: Any, table: Dict[str, str]) -> Callable[[Any], Any]:
    """Return what gives a class the verbs of a table, made of those of `cls`, and refuses its operators."""
    def add(made: Any) -> Any:
        for name, lane in table.items():
            if name not in vars(made):
                setattr(made, name, awaited(name, lane, getattr(cls, name)))
        for name, (said, lane) in INSTEAD.items():
            if hasattr(cls, name) and said not in vars(made):
                setattr(made, said, awaited(name, lane, getattr(cls, name), said))
        for name, cure in AWAITED_INSTEAD.items():
            if hasattr(cls, '__len__' if name == '__bool__' else name):
                setattr(made, name, refused(name, cure))
        return made
    return add


class AsyncWalk:
    """An `async for` over entries or items: it reads some ahead, in a thread. For one task at a time.

    What was read ahead and is deleted before its turn is left out, as in any walk; the vault is asked anew when
    something may have been deleted.
    """

    __slots__ = ('_bridge', '_entries', '_is_asked', '_is_over', '_iterator', '_key', '_make', '_place', '_rest',
                 '_seen', '_shown', '_size')

    def __init__(self, bridge: Bridge, make: Callable[[], Iterator[Any]], entries: Optional[Callable[[], Any]] = None,
                 key: Callable[[Any], Any] = lambda one: one, shown: Optional[Callable[[Any], Any]] = None) -> None:
        """Walk over what `make` gives in a thread, and show each to the task.

        `entries`: the subject whose entries they are, where they are some, each with a key.
        """
        self._bridge, self._make, self._entries, self._key, self._shown = bridge, make, entries, key, shown
        self._iterator: Optional[Iterator[Any]] = None
        self._rest: Deque[Any] = deque()
        self._is_over, self._is_asked, self._size = False, False, 8
        self._place: Optional[Place] = None
        self._seen = 0

    def __aiter__(self) -> AsyncWalk:
        return self

    async def __anext__(self) -> Any:
        while True:
            if self._rest and not self._is_asked and (
                    self._place is None or self._place.engine.deletions == self._seen):  # raises when it was closed
                one = self._rest.popleft()
                return one if self._shown is None else self._shown(one)
            if self._is_over and not self._rest and not self._is_asked:
                raise StopAsyncIteration
            self._is_asked = True  # it stays so when the task is cancelled: the thread may go on, and is waited for
            await self._bridge.ask(BY_READER, self._catch_up)
            self._is_asked = False

    def _catch_up(self) -> None:
        """Keep what was read ahead and is still there, or read on: here, since who waited may have been cancelled."""
        if self._rest:
            self._look_again()
        elif not self._is_over:
            self._read()

    def _read(self) -> None:
        if self._iterator is None:
            if self._entries is not None:
                self._place = place_of(self._entries())
            self._iterator = self._make()
        if self._place is not None:
            self._seen = self._place.engine.deletions
        end = perf_counter() + WALKED_FOR
        for one in self._iterator:
            self._rest.append(one)
            if len(self._rest) >= self._size or perf_counter() > end:
                break
        else:
            self._is_over = True
        self._size = min(self._size * 4, WALKED_AHEAD)

    def _look_again(self) -> None:
        place, rest = self._place, list(self._rest)
        if place is None or place.engine.deletions == self._seen:
            return
        seen = place.engine.deletions
        there = place.store.contains_many([place.keys.encode(self._key(one)) for one in rest])
        self._rest, self._seen = deque(one for one, is_there in zip(rest, there) if is_there), seen
