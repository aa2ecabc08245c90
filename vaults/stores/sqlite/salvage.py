"""Salvage: the entries and chunks of a damaged file, into a new vault. Knows rows and values in chunks, no SQL.

The trap: what is read may be anything. The checksum of each entry decides: where it holds, the entry is what was
written, and nothing else is taken. Keys, and the owners and numbers of chunks, stand twice, in a table and in its
index: one that is sound is enough. Doubtful entries (survey.py) are named, come last, and replace no other; and a
header whose chunks are not all there is given up with them.
"""
from __future__ import annotations

from contextlib import suppress

from ... import keys
from ...codecs import codes, packing, pickles
from ...codecs.codes import is_header
from ...collections.tree import Header, StaleRead, Tree
from ...collections.upkeep import examined
from ...errors import VaultCorruptError, VaultError
from ..base import OWNER, SETTINGS_OWNER, entries_of
from .pace import PAGE_BYTES
from .pages import INDEX, MAGIC, TABLE
from .schema import FORMAT
from .survey import Numbers, intact, is_chunk, is_marker, middle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional, Set, Tuple

    from ...keys import Stored
    from ..base import Entry, Progress, Store
    from .survey import Survey

DAMAGED = 'its row is damaged'
UNREADABLE = 'its row cannot be found'


class _Twice(Exception):
    """Two entries have one key."""


class Salvage:
    """One recovery, from the pages of a file into the store of a new vault. For one thread."""

    def __init__(self, survey: Survey, store: Store, progress: Progress) -> None:
        self.survey, self.pages, self.store, self.progress = survey, survey.pages, store, progress
        self.lost: List[Tuple[Any, str]] = []
        self.doubtful: List[Any] = []
        self.notes: List[str] = []
        self.damaged: List[Tuple[int, Any]] = []    # ids and keys of rows whose checksum does not hold
        self.ids = Numbers()               # of the entries that were recovered
        self.owners: Set[bytes] = set()     # of the chunks that are wanted
        self.gaps: Optional[int] = None     # what the marker counts: ids that belong to no entry
        self.highest = 0
        self.with_entries = bytearray(self.pages.count + 1)
        self.serialized = False

    def run(self) -> Tuple[int, Optional[int], List[Tuple[Any, str]], List[Any], List[str]]:
        """Do it, and return what Recovery says of it."""
        self._entries()
        self._name_lost()
        self._chunks()
        self._examine()
        counted = self._counted()
        self._note()
        return self.store.count(), counted, self.lost, self.doubtful, self.notes

    # --- entries ---

    def _entries(self) -> None:
        survey, pages = self.survey, self.pages
        self.rest: List[int] = []       # pages that hold what the index does not know
        for done, number in enumerate(survey.leaves, 1):
            self._take(number)
            if self.progress:
                self.progress(done, pages.count)
        if not survey.free_sound and not (survey.whole and self._counted() == self.store.count() + len(self.damaged)):
            seen = {*survey.leaves}
            self.rest += [number for number in range(2, pages.count + 1)
                          if pages.kinds[number] == TABLE[1] and number not in seen and number not in survey.others]
        places = {number: middle([row for row, record in pages.records(number) if intact(record)])
                  for number in self.rest}
        for number in sorted(places, key=places.__getitem__):
            self._take_doubtful(number)

    def _take(self, number: int) -> None:
        """Put the entries of a page into the new vault, few at once: what they hold in other pages may be large."""
        entries: List[Tuple[int, Entry]] = []
        size = 0
        self.with_entries[number] = False
        for row, record in self.pages.records(number):
            entry = intact(record) or intact([None, self.survey.by_index.get(row), *record[2:]])
            if entry is None:
                self._take_note(row, record)
            elif not self.survey.is_unknown(entry[0], row):
                size += len(entry[1])
                if size > PAGE_BYTES:
                    self._take_all(entries)
                    entries, size = [], len(entry[1])
                entries.append((row, entry))
                self.with_entries[number] = True
            elif number not in self.rest[-1:]:
                self.rest.append(number)
            del record, entry
        self._take_all(entries)

    def _take_all(self, entries: List[Tuple[int, Entry]]) -> None:
        try:
            self.store.transact(lambda: self._put_new([entry for _, entry in entries]))
        except _Twice:
            entries = [(row, entry) for row, entry in entries if self._is_new(*entry)]
        for row, _ in entries:
            self.ids.add(row)

    def _put_new(self, entries: List[Entry]) -> None:
        before = self.store.count()
        self._put(entries)
        if self.store.count() != before + len(entries):
            raise _Twice

    def _is_new(self, key: Stored, data: bytes) -> bool:
        """Put an entry unless there is one with its key; that one is in doubt when it is another."""
        there = self.store.get(key)
        if there is None:
            self.store.transact(lambda: self._put([(key, data)]))
        elif there != data:
            self.doubtful.append(keys.decode(key))
        return there is None

    def _take_doubtful(self, number: int) -> None:
        for row, record in self.pages.records(number):
            entry = intact(record)
            if entry and self.store.get(entry[0]) is None:
                self._is_new(*entry)
                self.ids.add(row)
                self.doubtful.append(keys.decode(entry[0]))

    def _put(self, entries: List[Entry]) -> None:
        plain: List[Entry] = []
        for key, data in entries:
            if is_header(data):
                self.store.put_many(plain)
                plain = []
                self.store.put_owner(key, data)
                self.owners.add(data[-OWNER:])
            else:
                plain.append((key, data))
                self.serialized = self.serialized or codes.code_of(data) == codes.SERIALIZED
        self.store.put_many(plain)

    def _take_note(self, row: int, record: List[Any]) -> None:
        if is_marker(record) and (row in self.survey.known or not self.survey.index_whole):
            self.gaps, self.highest = record[3], row
        elif not record or (len(record) > 1 and record[0] is None and record[1] != b''):
            self.damaged.append((row, record[1] if len(record) > 1 else None))

    # --- what is missing ---

    def _name_lost(self) -> None:
        """Name the keys of the index that have no entry, and the damaged rows that the index does not name."""
        if self.survey.index_whole and not self.damaged and self.survey.indexed == self.store.count() + 1:
            return
        why = {row: DAMAGED for row, _ in self.damaged}
        named: Set[Any] = set()     # ids, and keys: of a damaged row either may be wrong
        for key, row in self.survey.stored_keys():
            if key != b'' and row not in self.ids and not self._is_there(key):
                self.lost.append((_shown(key), why.get(row, UNREADABLE)))
                named.update((row, ('key', key)))
        for row, stored in self.damaged:
            if named.isdisjoint((row, ('key', stored))) and row not in self.ids and stored is not None \
                    and not self._is_there(stored) and not self.survey.is_unknown(stored, row):
                self.lost.append((_shown(stored), DAMAGED))

    def _is_there(self, key: Stored) -> bool:
        try:
            return bool(self.store.contains(key))
        except (VaultError, ValueError, OverflowError):
            return False  # a damaged key may be none

    def _counted(self) -> Optional[int]:
        """Return how many entries the damaged vault counted: the highest id less those that belong to none."""
        if self.gaps is None:
            return None
        most = self.gaps + self.pages.count * self.pages.size // 8  # beyond it an id is damaged: it may be any number
        found = [max(self.highest, numbers.highest(most)) - self.gaps for numbers in (self.ids, self.survey.known)]
        # A whole index tells which of the two it is: it has as many keys.
        return min(found, key=lambda one: abs(one + 1 - self.survey.indexed)) if self.survey.index_whole else max(found)

    def _note(self) -> None:
        if self.pages.broken:
            self.notes.append('the log breaks off after {} frames: {} commits behind it are lost'.format(
                *self.pages.broken))
        if self.serialized and self.store.get_chunk(SETTINGS_OWNER, 0) is None:
            self.notes.append('the name of the serializer of the values is lost')
        if not (self.survey.whole or self.survey.index_whole):
            self.notes.append('both the entries and their index lack pages: the newest entries may be lost uncounted')
        header = self.pages.page(1)
        said = int.from_bytes(header[28:32], 'big') if header[24:28] == header[92:96] else 0  # else it is not kept up
        if header[:16] == MAGIC and said > self.pages.count:
            self.notes.append(f'the file was cut off: {self.pages.count} of {said} pages are there')
        version = int.from_bytes(header[60:64], 'big')
        if version > FORMAT:
            self.notes.append(f'the file says that it has format {version}, and was read as format {FORMAT}')

    # --- chunks ---

    def _chunks(self) -> None:
        """Copy the chunks that the entries want. One that is free is still what was written: numbers never return."""
        self.owners.add(SETTINGS_OWNER)
        damaged: Dict[int, int] = {}    # the pages of rows that are not intact
        for number in range(2, self.pages.count + 1):
            is_free = self.survey.free_sound and self.survey.free[number]
            is_free = is_free or number in self.survey.others
            if self.pages.kinds[number] == TABLE[1] and not is_free and not self.with_entries[number]:
                for row, record in self.pages.records(number):
                    if is_chunk(record):
                        self._take_chunk(*record[:3])
                    elif len(record) == 4:
                        damaged[row] = number
            if self.progress and (number % 1024 == 0 or number == self.pages.count):
                self.progress(number, self.pages.count)

        if damaged:
            self._mend_chunks(damaged)

    def _mend_chunks(self, damaged: Dict[int, int]) -> None:
        """Take the chunks of damaged rows whose owner and number stand in an index as they were written."""
        for number in range(2, self.pages.count + 1):
            for _, record in self.pages.records(number) if self.pages.kinds[number] in INDEX else ():
                if len(record) == 3 and record[2] in damaged:
                    owner, chunk, row = record
                    for other, columns in self.pages.records(damaged[row]):
                        if other == row and is_chunk([owner, chunk, *columns[2:]]):
                            self._take_chunk(owner, chunk, columns[2])

    def _take_chunk(self, owner: bytes, number: int, data: bytes) -> None:
        if owner in self.owners and self.store.get_chunk(owner, number) is None:
            self.store.put_chunks(owner, [(number, data)])

    def _examine(self) -> None:
        """Take back the entries whose chunks are not all there, and the chunks that no entry needs."""
        codec = packing.Codec(pickles.Unread())
        for key, data in entries_of(self.store.scan()):
            if is_header(data):
                problem = examined(self.store, codec, key, data)
                if problem:
                    self.store.delete(key)
                    self._give_up(keys.decode(key))
                else:
                    self._trim(Header.of(data))

    def _give_up(self, key: Any) -> None:
        if key in self.doubtful:
            self.doubtful.remove(key)   # it was deleted, and its chunks with it
        else:
            self.lost.append((key, 'its chunks are damaged or missing'))

    def _trim(self, header: Header) -> None:
        with suppress(StaleRead):
            Tree(self.store, header).free_unused(self.store.chunk_numbers(header.owner))


def _shown(stored: Stored) -> Any:
    """Return the key, or where it is damaged itself, what stands there."""
    try:
        return keys.decode(stored)
    except VaultCorruptError:
        return stored
