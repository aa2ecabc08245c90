"""Blocks of tasks: whose they are, and how they begin and end. Knows a vault as what has a place.

A block belongs to the task that began it: what that task does by the vault itself is in the block. Other tasks are in
it by its handle alone; by the vault, they read what was committed last, and what they write waits.
"""
from __future__ import annotations

from ..codecs.registry import writable
from ..errors import VaultTaskError
from ..place import MISSING, place_of
from ..stores.base import ClosedStore
from ..stores.tasks import running
from .workers import ended

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, List, Optional, Type

    from ..stores.base import Store
    from .bridge import Bridge
    from .workers import WorkersBlock


class _OpenTurn:
    """The writer's turn of an outermost block, and the blocks that are open in it, the innermost last."""

    def __init__(self, block: WorkersBlock, level: AsyncTransaction) -> None:
        self.block, self.levels = block, [level]

    def let_go(self) -> None:
        """Roll back all of it, and wait for nothing."""
        self.levels.clear()
        self.block.drop()


class Blocks:
    """The turns of a vault that are open: one, or for a moment that which ends and the next."""

    def __init__(self) -> None:
        self.turns: List[_OpenTurn] = []

    def found(self, handle: Optional[AsyncTransaction]) -> Optional[AsyncTransaction]:
        """Return the block that the running task is in, by a handle or as its own; None for none.

        Raises: VaultTaskError where another task has begun a block in it; VaultError when the handle's has ended.
        """
        task = running()
        level = handle
        if handle is None:
            mine = [one for turn in self.turns for one in turn.levels if one.owner is task]
            level = mine[-1] if mine else None
        if level is None:
            return None
        if level.turn is None or level not in level.turn.levels:
            raise ended()
        innermost = level.turn.levels[-1]
        if innermost is not level and innermost.owner is not task:
            raise VaultTaskError('another task has begun a block within this one: use its own handle in it, and let it '
                                 'end before')
        return innermost


class AsyncTransaction:
    """A block that is one transaction, or a nested one, of the task that enters it: `async with v.transaction() as t`.

    `t` is the vault within the block, also for other tasks that the block starts and waits for.
    """

    __slots__ = ('_is_open', '_of', '_store', 'owner', 'turn')

    def __init__(self, of: Bridge) -> None:
        self._of, self._is_open = of, False
        self._store: Store
        self.turn: Optional[_OpenTurn] = None
        self.owner: Any = None

    async def __aenter__(self) -> Any:
        """Wait for the turn, at most the vault's `timeout` for each block before; begin. Raises: VaultBusyError."""
        if self.turn is not None:
            raise VaultTaskError('a block is entered once: call transaction() for each')
        shared = self._of.shared
        outer = shared.blocks.found(self._of.handle)
        self.owner = running()
        if outer is None or outer.turn is None:
            block = shared.workers.block(self._undo)
            value = await block.begin(self._begin)
            self.turn = _OpenTurn(block, self)
            shared.blocks.turns.append(self.turn)
        else:
            turn = self.turn = outer.turn
            turn.levels.append(self)  # at once: what comes after it is within it
            try:
                value = await turn.block.run(self._begin)
            except BaseException:
                self._leave(turn)
                turn.block.tell(self._undo)
                raise
        return self._entered(value)

    async def __aexit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException],
                        trace: Optional[TracebackType]) -> None:
        """Commit; after any exception roll back, without waiting for it."""
        turn, self.owner = self.turn, None
        if turn is None or self not in turn.levels:
            if kind is None:
                self._of.shared.kept.require_open()
                raise ended()
            return
        is_outermost = turn.levels[0] is self
        self._leave(turn)
        if kind is not None:
            turn.block.drop() if is_outermost else turn.block.tell(self._undo)
        elif is_outermost:
            await turn.block.end(self._commit)
        else:
            try:
                await turn.block.run(self._commit)
            except BaseException:
                turn.block.tell(self._undo)
                raise

    def _leave(self, turn: _OpenTurn) -> None:
        """Be open no more, nor what is in it."""
        if self in turn.levels:
            del turn.levels[turn.levels.index(self):]
        if not turn.levels and turn in self._of.shared.blocks.turns:
            self._of.shared.blocks.turns.remove(turn)

    def _entered(self, value: Any) -> Any:
        return self._of.within(self)

    # --- what the writer's thread does ---

    def _begin(self) -> Any:
        self._store = place_of(self._of.shared.kept.vault()).store
        self._store.begin(self)
        self._is_open = True

    def _commit(self) -> None:
        self._is_open = False
        self._store.commit(self)

    def _undo(self) -> None:
        """Roll back, unless it never began or has ended: a task that was cancelled does not know."""
        if self._is_open:
            self._is_open = False
            if not isinstance(self._store, ClosedStore):
                self._store.rollback(self)


class AsyncEdit(AsyncTransaction):
    """A block in which one value is loaded, changed in place, and written back: `async with v.edit(key) as value`."""

    __slots__ = ('_default', '_key', '_value')

    def __init__(self, of: Bridge, key: Any, default: Any = MISSING) -> None:
        super().__init__(of)
        self._key, self._default = key, default

    def _entered(self, value: Any) -> Any:
        return self._of.outward(value, self)

    def _begin(self) -> Any:
        vault = self._of.subject()
        if self._default is not MISSING:
            place_of(vault).keys.encode(self._key)  # raises for what cannot be put
        super()._begin()
        try:
            self._value = writable(vault.get, self._key, self._default)
            if self._value is MISSING:
                raise KeyError(self._key)
        except BaseException:
            self._undo()
            raise
        return self._value

    def _commit(self) -> None:
        try:
            self._of.subject()[self._key] = self._value
        except BaseException:
            self._undo()
            raise
        super()._commit()
