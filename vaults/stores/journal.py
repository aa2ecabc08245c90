"""Journal: live entries and, while a call or a block may still fail, what they were before it. Knows no store.

There is one way of undoing. Each call that can fail and each block begins a journal, in which an entry is noted before
it is first changed: a copy of it, or that there was none. When the call or block fails, the entries are made again what
its journal says; when it has succeeded, what its journal says goes to the one around it, where that knows nothing of
the entry yet.

An object changes in place without a call, so no journal tells: the bytes that it is stored as do. That it was put does
not show in them; it is `dirty` that says so.
"""
from __future__ import annotations

from collections import OrderedDict

from .base import Live

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Dict, Iterable, Mapping, Optional, Tuple

    from ..keys import Stored
    from .base import Checks


class Journal:
    """What entries were before a call or a block: by key a copy of one, or None where there was none.

    `around`: the journal of the call or block that this one is in. `block`: who began the block, alone in a tuple; a
    call is empty. `in_call`: it is a call, or in one.
    """

    __slots__ = ('around', 'before', 'block', 'in_call')

    def __init__(self, around: Optional[Journal], block: Tuple[object, ...] = ()) -> None:
        self.around, self.block = around, block
        self.before: Dict[Stored, Optional[Live]] = {}
        self.in_call: bool = not block or (around is not None and around.in_call)


class Cache:
    """Live entries by key, and the journals. Not safe in threads: whoever has it has a lock."""

    def __init__(self) -> None:
        self.live: OrderedDict[Stored, Live] = OrderedDict()  # the least recently used first
        # The keys of those that are dirty, in the order in which they were first put: new keys are written in it. Also
        # most calls have nothing to write, and need not look at all entries to know.
        self.dirty: Dict[Stored, None] = {}
        self.journal: Optional[Journal] = None                # of the innermost call or block
        self.writes = 0  # counts what may have changed stored entries: a walk asks whether its page is out of date

    # --- entries ---

    def put(self, key: Stored, value: object, checks: Checks) -> None:
        """Have a new entry be this object, to be written."""
        self.note(key)
        self.dirty[key] = None
        self.live[key] = Live(value, None, checks, True)

    def load(self, entries: Mapping[Stored, Live]) -> None:
        """Have these entries, none of which is live yet, which are as they are stored."""
        if self.journal is not None:
            for key in entries:
                self.note(key)
        self.live.update(entries)

    def replace(self, key: Stored, entry: Live) -> None:
        """Have the entry be this one, which is being stored."""
        self.remove([key])
        self.live[key] = entry

    def wrote(self, key: Stored, value: object, data: Optional[bytes]) -> None:
        """Have the entry be stored as `data`, or as it was, where that is what it has: not another object by now."""
        entry = self.live.get(key)
        if data is not None:
            self.writes += 1
        if entry is not None and entry.value is value:
            if self.journal is not None and key not in self.journal.before:
                self.note(key)
            entry.stored, entry.dirty = data or entry.stored, False
            self.dirty.pop(key, None)

    def remove(self, keys: Iterable[Stored]) -> None:
        """Have these entries be live no more, because what is stored will be another thing, or nothing."""
        self.writes += 1
        for key in keys:
            self.note(key)
            self.live.pop(key, None)
            self.dirty.pop(key, None)

    def evict(self, keys: Iterable[Stored]) -> None:
        """Let go of entries that are as they are stored."""
        for key in keys:
            if key in self.dirty:
                continue  # it was put since
            if self.journal is not None:
                self.note(key)
                if self.journal.before[key] is None:
                    del self.journal.before[key]  # lest a walk over more than there is memory for notes all of it
            self.live.pop(key, None)

    def forget(self) -> None:
        """Let go of all objects, changed or not."""
        self.writes += 1
        self.live.clear()
        self.dirty.clear()
        self.journal = None

    # --- journals ---

    def note(self, key: Stored) -> None:
        """Note what the entry is, before it is changed. A write that each call counts in asks first whether it must."""
        journal = self.journal
        if journal is not None and key not in journal.before:
            entry = self.live.get(key)
            journal.before[key] = entry and Live(entry.value, entry.stored, entry.checks, entry.dirty)

    def keep(self, journal: Journal) -> None:
        """Have what a journal says be what the one around it says, where that says nothing else."""
        around = journal.around
        if journal is not self.journal:
            return  # it was forgotten, as in a forked child
        if around is not None:
            for key, before in journal.before.items():
                if around.before.setdefault(key, before) is None and key not in self.live:
                    del around.before[key]  # there is none again
        self.journal = around

    def undo(self, journal: Journal, is_stored: Callable[[Stored, Live], bool]) -> None:
        """Make entries again what they were before the journal was begun, and those in it, which begin anew.

        An interrupt may come when all was done already: an entry that is not stored so any more is not made again.
        """
        undone: Dict[Stored, Optional[Live]] = {}
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
            if before is not None and is_stored(key, before):
                if now is not None and now.value is before.value:
                    before.checks = now.checks  # those of a section that has met it since
                self.live[key] = before
                if before.dirty:
                    self.dirty[key] = None

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
