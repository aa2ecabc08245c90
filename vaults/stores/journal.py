"""Journal: live entries and, while a call or a block may still fail, what they were before it. Knows no store.

There is one way of undoing. Each call that can fail and each block begins a journal, in which an entry is noted before
it is first changed: a copy of it, or that there was none. When the call or block fails, the entries are made again what
its journal says; when it has succeeded, what its journal says goes to the one around it, where that knows nothing of
the entry yet.

An object changes in place without a call, so no journal tells: the bytes that it is stored as do. That it was put does
not show in them; it is `Cache.dirty` that says so.
"""
from __future__ import annotations

import weakref
from collections import OrderedDict, deque
from itertools import repeat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Collection, Dict, Iterable, Iterator, Optional, Sequence, Tuple

    from ..keys import Stored
    from .base import Checks, Live


REWRITTEN = 10_000  # keys that are kept to tell which entries of a walk's page are out of date, and not all of it


class Journal:
    """What entries were before a call or a block: by key one, and whether it was dirty, or None where there was none.

    `around`: the journal of the call or block that this one is in. `block`: who began the block, alone in a tuple; a
    call is empty. `in_call`: it is a call, or in one.
    """

    __slots__ = ('around', 'before', 'block', 'in_call')

    def __init__(self, around: Optional[Journal], block: Tuple[object, ...] = ()) -> None:
        self.around, self.block = around, block
        self.before: Dict[Stored, Optional[Tuple[Live, bool]]] = {}
        self.in_call: bool = not block or (around is not None and around.in_call)


class Group:
    """Live entries of a page that a walk has met, in columns, for as long as nobody else has asked for any.

    A walk over more than there is room for lets go of most of them so. `whole`: nobody has. `plain`: as they
    are stored, they have no bytes in them and nothing that travels as an ExtType.
    """

    __slots__ = ('checks', 'datas', 'keys', 'plain', 'values', 'whole')

    def __init__(self, keys: Sequence[Stored], datas: Sequence[bytes], checks: Checks) -> None:
        self.keys, self.datas, self.checks, self.whole = keys, datas, checks, True
        self.plain = False
        self.values: Sequence[object] = ()  # until they are loaded

    def __len__(self) -> int:
        return len(self.keys)

    def __iter__(self) -> Iterator[Live]:
        return zip(self.values, self.datas, repeat(self.checks))

    def __getitem__(self, at: Any) -> Any:
        return list(self)[at]


class LiveWalk:
    """A walk, for as long as it goes on."""

    __slots__ = ('__weakref__',)


class Cache:
    """Live entries by key, and the journals. Not safe in threads: whoever has it has a lock."""

    def __init__(self) -> None:
        self.live: OrderedDict[Stored, Live] = OrderedDict()  # the least recently used first
        # And their keys; of one walk, and used since all of those; the least recently used first as well.
        self.groups: Dict[Group, Sequence[Stored]] = {}
        self.walk: Optional[LiveWalk] = None
        self.walks: weakref.WeakSet[LiveWalk] = weakref.WeakSet()
        self.rewritten: Dict[Stored, None] = {}  # what was written here, as it had changed, since a page was read
        # The keys of those that were put and are not written yet, in the order in which they were first put: new keys
        # are written in it. Also most calls have nothing to write, and need not look at all entries to know.
        self.dirty: Dict[Stored, None] = {}
        self.journal: Optional[Journal] = None                # of the innermost call or block
        self.writes = 0  # counts what else may have changed stored entries: then the page of a walk is out of date

    # --- entries ---

    def held(self, key: Stored) -> Optional[Tuple[object]]:
        """Return the entry's object, alone in a tuple, or None. Safe in any thread, and changes nothing."""
        grouped = (dict(zip(group.keys, group)).get(key) for group in list(self.groups))
        entry = self.live.get(key) or next(filter(None, grouped), None)
        return entry and entry[:1]

    def turn(self, walk: LiveWalk) -> None:
        """Tell that a walk reads its next page."""
        self.walks.add(walk)
        if len(self.walks) == 1:
            self.rewritten.clear()

    def is_stale(self, found: Sequence[Stored], writes: int) -> bool:
        """Tell whether these entries of a page may be stored otherwise than when it was read."""
        return self.writes != writes or not self.rewritten.keys().isdisjoint(found)

    def meet(self, walk: LiveWalk, found: Sequence[Stored], datas: Sequence[bytes], checks: Checks) -> Optional[Group]:
        """Have a page of a walk be live, its objects still to be loaded; None where each needs a look of its own."""
        if self.journal is not None:
            return None
        if walk is not self.walk:
            self.settle()
            self.walk = walk
        group = Group(found, datas, checks)
        self.groups[group] = found
        if self.live.keys().isdisjoint(found):
            return group
        self.settle()
        return None

    def settle(self) -> None:
        """Have the entries of groups be live each by its key, since somebody asks for it, or may.

        It can begin anew at any moment: a signal handler may come here, and make groups of its own.
        """
        for group in list(self.groups):
            deque(self.load(group.keys, group), maxlen=0)
            self.drop(group)

    def drop(self, group: Group) -> None:
        """Have a group be none any more."""
        group.whole = False
        self.groups.pop(group, None)

    def load(self, found: Sequence[Stored], entries: Iterable[Live]) -> Iterator[Live]:
        """Have these entries, which are as they are stored, and yield them.

        What the user's code, run by the loading, has put meanwhile stays, and is yielded.
        """
        if self.journal is not None:
            for key in found:
                self.note(key)
        return map(self.live.setdefault, found, entries)

    def replace(self, key: Stored, entry: Live) -> None:
        """Have the entry be this one, which is being stored."""
        self.remove([key])
        self.live[key] = entry

    def wrote(self, key: Stored, value: object, data: Optional[bytes]) -> None:
        """Have the entry be stored as `data`, or as it was, where that is what it has: not another object by now."""
        if data is not None and self.walks:
            if len(self.rewritten) == REWRITTEN:
                self.writes += 1
                self.rewritten.clear()
            self.rewritten[key] = None
        live, journal = self.live, self.journal
        if journal is not None and key not in journal.before:
            self.note(key)
        # No call in between, in which a signal handler may put another object, and that one be lost.
        if key in live and live[key][0] is value:
            live[key] = value, data or live[key][1], live[key][2]
            self.dirty.pop(key, None)

    def remove(self, keys: Iterable[Stored]) -> None:
        """Have these entries be live no more, because what is stored will be another thing, or nothing."""
        self.writes += 1
        for key in keys:
            self.note(key)
            self.live.pop(key, None)
            self.dirty.pop(key, None)

    def evict(self, keys: Collection[Stored]) -> None:
        """Let go of entries that are as they are stored."""
        dirty, journal = self.dirty, self.journal
        if dirty:
            keys = [key for key in keys if key not in dirty]  # nor those that were put since
        if journal is not None:
            for key in keys:
                self.note(key)
                if journal.before[key] is None:
                    del journal.before[key]  # lest a walk over more than there is memory for notes all of it
        deque(map(self.live.pop, keys, repeat(None)), maxlen=0)

    def forget(self) -> None:
        """Let go of all objects, changed or not."""
        self.writes += 1
        for group in list(self.groups):
            self.drop(group)
        self.live.clear()
        self.dirty.clear()
        self.journal = None

    # --- journals ---

    def note(self, key: Stored) -> None:
        """Note what the entry is, before it is changed. A write that each call counts in asks first whether it must."""
        journal = self.journal
        if journal is not None and key not in journal.before:
            entry = self.live.get(key)
            journal.before[key] = entry and (entry, key in self.dirty)

    def keep(self, journal: Journal) -> None:
        """Have what a journal says be what the one around it says, where that says nothing else."""
        around = journal.around
        if journal is not self.journal:
            return  # it was forgotten, as in a forked child
        if around is not None:
            for key, before in list(journal.before.items()):  # a signal handler may note more
                if around.before.setdefault(key, before) is None and key not in self.live:
                    del around.before[key]  # there is none again
        self.journal = around

    def undo(self, journal: Journal, is_stored: Callable[[Stored, Live], bool]) -> None:
        """Make entries again what they were before the journal was begun, and those in it, which begin anew.

        An interrupt may come when all was done already: an entry that is not stored so any more is not made again.
        """
        undone: Dict[Stored, Optional[Tuple[Live, bool]]] = {}
        outer, inner = None, self.journal
        while inner is not None and inner is not journal:
            undone.update(inner.before)
            outer, inner = inner, inner.around
        if inner is None:
            undone.clear()  # it was kept, or not begun yet, when an interrupt came
        elif outer is None:
            self.journal = journal.around
        else:  # blocks that an older one takes along have yet to end
            outer.around = journal.around
            self._begin_anew(journal)
        undone.update(journal.before)
        self.writes += 1
        for key, before in undone.items():
            now = self.live.pop(key, None)
            self.dirty.pop(key, None)
            if before is None:
                continue
            (value, stored, checks), was_dirty = before
            if is_stored(key, before[0]):
                if now is not None and now[0] is value:
                    checks = now[2]  # those of a section that has met it since
                if was_dirty:
                    self.dirty[key] = None
                self.live[key] = value, stored, checks

    def _begin_anew(self, journal: Journal) -> None:
        """Empty the journals that were in this one."""
        inner = self.journal
        while inner is not None and inner is not journal.around:
            inner.before.clear()
            inner = inner.around

    def outermost(self) -> Optional[Journal]:
        """Return the journal that has none around it."""
        journal = self.journal
        while journal is not None and journal.around is not None:
            journal = journal.around
        return journal

    def block_of(self, who: object) -> Optional[Journal]:
        """Return the journal of the block that `who` has begun; of one that is not known, of the innermost one."""
        innermost, journal = None, self.journal
        while journal is not None:
            if journal.block:
                if journal.block[0] is who is not None:
                    return journal
                innermost = innermost or journal
            journal = journal.around
        return innermost
