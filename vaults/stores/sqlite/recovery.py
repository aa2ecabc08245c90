"""Recovery: what can still be read of a damaged vault, into a new one. Knows a vault's rows, and nothing of SQL.

SQLite gives a damaged file up where its header, its schema or a page high in a tree is gone. Here the file is read page
by page (pages.py), and the checksum of each entry decides: where it holds, the entry is what was written.

What could mislead are pages that are not in use any more and still hold what was replaced or deleted. They are on the
list of free pages; where that is damaged as well, only the tree tells, and what the tree does not reach is doubtful. So
is an entry that a whole index of the keys does not know. Doubtful entries are named, come last, and replace no other.

Keys, and the owners and numbers of parts, stand twice, in a table and in its index: one that is sound is enough.
"""
from __future__ import annotations

import os
from array import array
from typing import NamedTuple

from ... import keys
from ...as_json import is_serialized
from ...codecs import packing, pickles
from ...errors import (
    VaultBusyError,
    VaultCorruptError,
    VaultError,
    VaultFormatError,
    VaultFullError,
    VaultNotFoundError,
)
from ...files import NewFile, stamps
from ...parts import Gone, Head, Tree, examined, is_head
from ..base import MEMORY, OWNER, SETTINGS_OWNER, entries_of
from . import LOGS, SIDE_FILES, side_files
from .opening import is_open_here, open_store
from .pages import INDEX, MAGIC, TABLE, Pages
from .scan import PAGE_BYTES
from .schema import APPLICATION_ID, BOOL, FORMAT, PARTED, checksum, part_crc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Iterator, List, Optional, Set, Tuple

    from ...keys import Stored
    from ..base import Entry, Progress

LOOK = 4096                         # pages that tell whether there is a vault
ROOTS = 2, 3                        # the first page of the entries, and of their index, in every vault
OWN = ('entries', 'sqlite_autoindex_entries_1', 'parts', 'sqlite_autoindex_parts_1')
DAMAGED = 'its row is damaged'
UNREADABLE = 'its row cannot be found'


class Recovery(NamedTuple):
    """What a recovery did. Keys are as in the vault, or as they stand in the file when they are damaged themselves."""

    recovered: int                  # entries in the new vault
    counted: Optional[int]          # entries that the damaged one counted; None when that cannot be read
    lost: List[Tuple[Any, str]]     # keys that were not recovered, and why
    doubtful: List[Any]             # keys that were recovered but may have been deleted or replaced before
    notes: List[str]                # what else is to be known

    @property
    def nameless(self) -> int:
        """How many entries more are lost than `lost` names."""
        return max((self.counted or 0) - self.recovered - len(self.lost), 0)

    @property
    def whole(self) -> bool:
        """Tell whether nothing was lost, and nothing is in doubt."""
        return not (self.lost or self.doubtful or self.notes or self.nameless)


def recover(source: str, target: str, progress: Progress = None) -> Recovery:
    """Copy what can be read of the damaged vault at the path `source` into a new vault at `target`.

    Raises: as vaults.recovery.recover.
    """
    _require(source)
    if target == MEMORY:
        raise VaultError("what is recovered goes to a file: give a name or path other than ':memory:'")
    with NewFile(target, source, what=f'the recovery of {source} to {target}', beside=SIDE_FILES) as new:
        vault = [source, *side_files(source, LOGS)]
        before = stamps(vault)
        pages = Pages(source)
        try:
            done = _Recovering(source, pages, new.part, progress).run()
        finally:
            pages.close()
        if stamps(vault) != before:
            raise VaultBusyError(f'somebody wrote to {source} while it was read: close it everywhere and repeat')
        if any(map(os.path.exists, side_files(new.part, LOGS))):
            raise VaultFullError(f'the recovery of {source} failed, nothing was written: the log of the new vault '
                                 'could not be moved into it; make room and repeat')
    return done


def is_promising(path: str) -> bool:
    """Tell whether the beginning of the file is damaged, and `recover` would find something of a vault behind it.

    Looks at the log, and at the first pages, so that a large file of another sort costs little.
    """
    if not os.path.isfile(path) or is_open_here(path):
        return False
    try:
        pages = Pages(path, LOOK)
    except OSError:
        return False
    try:
        return not _begins_well(pages) and _shows_vault(pages)
    finally:
        pages.close()


def _begins_well(pages: Pages) -> bool:
    """Tell whether the header is one that a vault can have."""
    head = pages.page(1) if pages.count else b''
    return (head[:16] == MAGIC and head[16:18] == pages.size.to_bytes(4, 'big')[2:] and {*head[18:20]} <= {1, 2}
            and head[21:24] == bytes((64, 32, 32)) and head[68:72] == APPLICATION_ID.to_bytes(4, 'big'))


def _shows_vault(pages: Pages) -> bool:
    if pages.count and pages.page(1)[68:72] == APPLICATION_ID.to_bytes(4, 'big'):
        return True
    return any(_intact(record) is not None or _is_marker(record)
               for number in range(1, pages.count + 1) if pages.kinds[number] == TABLE[1]
               for _, record in pages.records(number))


def _require(path: str) -> None:
    """Raise unless there is a file that may be read: closing it would take the locks of those who have it open here."""
    if not os.path.exists(path):
        raise VaultNotFoundError(f'there is no vault at {path}: check the name and where vaults are kept')
    if not os.path.isfile(path):
        raise VaultFormatError(f'{path} is no file: a vault is one')
    if is_open_here(path):
        raise VaultBusyError(f'the vault is open in this process: {path}; close it first')


class _Twice(Exception):
    """Two entries have one key."""


class _Recovering:
    """One recovery, from the pages of a file to a new vault at `path`."""

    def __init__(self, source: str, pages: Pages, path: str, progress: Progress) -> None:
        self.source, self.pages, self.progress = source, pages, progress
        self.lost: List[Tuple[Any, str]] = []
        self.doubtful: List[Any] = []
        self.notes: List[str] = []
        self.damaged: List[Tuple[int, Any]] = []    # ids and keys of rows whose checksum does not hold
        self.by_index: Dict[int, Stored] = {}       # the keys that the index has for rows that are not intact
        self.ids = _Numbers()               # of the entries that were recovered
        self.owners: Set[bytes] = set()     # of the parts that are wanted
        self.gaps: Optional[int] = None     # what the marker counts: ids that belong to no entry
        self.highest = 0
        self.with_entries = bytearray(pages.count + 1)
        self.serialized = False
        self._survey()
        if not _shows_vault(pages):
            raise VaultFormatError(f'nothing of a vault is in the file {source}: give another name or path')
        self.store: Any = open_store(path)

    def run(self) -> Recovery:
        try:
            self._entries()
            self._name_lost()
            self._parts()
            self._examine()
            counted = self._counted()
            self._note()
            return Recovery(self.store.count(), counted, self.lost, self.doubtful, self.notes)
        finally:
            self.store.close()

    # --- which pages are in use ---

    def _survey(self) -> None:
        pages = self.pages
        self.free, self.free_sound = pages.free()
        self.leaves, self.whole = pages.tree(ROOTS[0], TABLE)
        self.index, self.index_whole = pages.tree(ROOTS[1], INDEX)
        reached = {*self.leaves, *self.index}
        if any(self.free[number] for number in reached):
            self.free_sound = False
        self.leaves = [number for number in self.leaves if pages.kinds[number] == TABLE[1]]
        self.others, told = self._other_tables(reached)
        self._add_stray(reached, told)
        self.known = _Numbers()                     # ids that the index has
        self.marks: Dict[int, array[int]] = {}      # and of its keys, checksums: the upper halves, then the lower ones
        has_marker, self.indexed = False, 0
        for key, row in self._indexed():
            has_marker = has_marker or key == b''
            self.known.add(row)
            self.indexed += 1
            mark = checksum(key, b'')
            self.marks.setdefault(mark >> 16, array('H')).append(mark & 0xFFFF)
        self.index_whole = self.index_whole and has_marker
        suspects = self._order()
        for key, row in self._indexed() if suspects else ():
            if row in suspects:
                self.by_index[row] = key

    def _other_tables(self, reached: Set[int]) -> Tuple[Set[int], bool]:
        """Return the pages of what else is in the file, and whether the schema could be read, and all of them found."""
        pages = self.pages
        schema, told = pages.tree(1, TABLE)
        others: Set[int] = set()
        roots = set()
        leaves = [number for number in schema if pages.kinds[number] == TABLE[1]]
        for _, record in (cell for number in leaves for cell in pages.records(number)):
            root = record[3] if len(record) == 5 else -1
            if record[1:2] and _is_of_vault(record):
                roots.add(root)
            elif root != 0 and root is not None:  # a view and a trigger have none
                kinds = TABLE if type(root) is int and 1 < root <= pages.count and pages.kinds[root] in TABLE else INDEX
                tree, whole = pages.tree(root, kinds) if type(root) is int else ([], False)
                others.update(tree)
                told = told and whole
        return others - reached, told and roots.issuperset(ROOTS)

    def _add_stray(self, reached: Set[int], told: bool) -> None:
        """Add the pages that no way leads to; where other tables may have such, too, only if the vault lacks some."""
        lacks = (True, True) if told else self._lacking()
        if self.free_sound and lacks[0]:
            self.leaves += [number for number in self._in_use(TABLE[1:]) if number not in reached
                            and any(_is_like_entry(record) for _, record in self.pages.records(number))]
        if self.free_sound and lacks[1]:
            stray = [number for number in self._in_use(INDEX) if number not in reached and self._is_of_keys(number)]
            stray = stray if told else self._not_refuted(stray)
            self.index, self.index_whole = self.index + stray, self.index_whole and not stray

    def _lacking(self) -> Tuple[bool, bool]:
        """Tell whether the trees of the entries and of their index have fewer rows than the marker says there are."""
        cells = [(row, record) for number in self.leaves for row, record in self.pages.records(number)]
        gaps = [record[3] for _, record in cells if _is_marker(record)]
        found = [(self.whole, [row for row, _ in cells]), (self.index_whole, [row for _, row in self._indexed()])]
        one, other = (not (whole and len(gaps) == 1 and len(rows) - 1 == max(rows, default=0) - gaps[0])
                      for whole, rows in found)
        return one, other

    def _not_refuted(self, numbers: List[int]) -> List[int]:
        """Return those pages of indexes that do not give other keys for the ids than the entries themselves do."""
        found = {number: [(record[1], _mark(record[0])) for _, record in self.pages.records(number)
                          if len(record) == 2 and type(record[1]) is int] for number in numbers}
        asked = {row for pairs in found.values() for row, _ in pairs}
        real = {row: _mark(record[1]) for number in self.leaves if asked
                for row, record in self.pages.records(number) if row in asked and _intact(record)}
        right = {number: sum(mark is not None and real.get(row, mark) == mark for row, mark in pairs)
                 for number, pairs in found.items()}
        return [number for number in numbers if 2 * right[number] > len(found[number])]

    def _in_use(self, kinds: Any) -> List[int]:
        """Return the pages of these kinds that are neither free nor of another table, nor the first, the schema's."""
        return [number for number in range(2, self.pages.count + 1)
                if self.pages.kinds[number] in kinds and not self.free[number] and number not in self.others]

    def _order(self) -> Set[int]:
        """Sort the leaves by the ids of what is intact in them; return the ids of rows that are not.

        A leaf without such ids stays behind the one that it follows in the tree.
        """
        suspects: Set[int] = set()
        places, place = {}, 0
        for number in self.leaves:
            ids = []
            for row, record in self.pages.records(number):
                if not _intact(record):
                    suspects.update((row,) if record and record[0] is None else ())
                elif row in self.known or not self.index_whole:  # else the id is damaged, or the entry was deleted
                    ids.append(row)
            places[number] = place = _middle(ids) or place
        self.leaves.sort(key=places.__getitem__)
        return suspects

    def _is_of_keys(self, number: int) -> bool:
        return any(len(record) == 2 for _, record in self.pages.records(number))

    def _indexed(self) -> Iterator[Tuple[Stored, int]]:
        """Yield the keys that the index has, with their ids."""
        for number in self.index:
            for _, record in self.pages.records(number):
                if len(record) == 2 and type(record[1]) is int and record[0] is not None:
                    yield record[0], record[1]

    # --- entries ---

    def _entries(self) -> None:
        self.rest: List[int] = []       # pages that hold what the index does not know
        for done, number in enumerate(self.leaves, 1):
            self._take(number)
            if self.progress:
                self.progress(done, self.pages.count)
        if not self.free_sound and not (self.whole and self._counted() == self.store.count() + len(self.damaged)):
            seen = {*self.leaves}
            self.rest += [number for number in range(2, self.pages.count + 1)
                          if self.pages.kinds[number] == TABLE[1] and number not in seen and number not in self.others]
        places = {number: _middle([row for row, record in self.pages.records(number) if _intact(record)])
                  for number in self.rest}
        for number in sorted(places, key=places.__getitem__):
            self._take_doubtful(number)

    def _take(self, number: int) -> None:
        """Put the entries of a page into the new vault, few at once: what they hold in other pages may be large."""
        entries: List[Tuple[int, Entry]] = []
        size = 0
        self.with_entries[number] = False
        for row, record in self.pages.records(number):
            entry = _intact(record) or _intact([None, self.by_index.get(row), *record[2:]])
            if entry is None:
                self._take_note(row, record)
            elif not self._is_unknown(entry[0], row):
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
            entry = _intact(record)
            if entry and self.store.get(entry[0]) is None:
                self._is_new(*entry)
                self.ids.add(row)
                self.doubtful.append(keys.decode(entry[0]))

    def _is_unknown(self, key: Stored, row: int) -> bool:
        """Tell whether a whole index knows neither the key nor its id: it was deleted."""
        mark = checksum(key, b'')
        return self.index_whole and row not in self.known and mark & 0xFFFF not in self.marks.get(mark >> 16, ())

    def _put(self, entries: List[Entry]) -> None:
        plain: List[Entry] = []
        for key, data in entries:
            if is_head(data):
                self.store.put_many(plain)
                plain = []
                self.store.put_owner(key, data)
                self.owners.add(data[-OWNER:])
            else:
                plain.append((key, data))
                self.serialized = self.serialized or is_serialized(data)
        self.store.put_many(plain)

    def _take_note(self, row: int, record: List[Any]) -> None:
        if _is_marker(record) and (row in self.known or not self.index_whole):
            self.gaps, self.highest = record[3], row
        elif not record or (len(record) > 1 and record[0] is None and record[1] != b''):
            self.damaged.append((row, record[1] if len(record) > 1 else None))

    # --- what is missing ---

    def _name_lost(self) -> None:
        """Name the keys of the index that have no entry, and the damaged rows that the index does not name."""
        if self.index_whole and not self.damaged and self.indexed == self.store.count() + 1:
            return
        why = {row: DAMAGED for row, _ in self.damaged}
        named: Set[Any] = set()     # ids, and keys: of a damaged row either may be wrong
        for key, row in self._indexed():
            if key != b'' and row not in self.ids and not self._is_there(key):
                self.lost.append((_shown(key), why.get(row, UNREADABLE)))
                named.update((row, ('key', key)))
        for row, stored in self.damaged:
            if named.isdisjoint((row, ('key', stored))) and row not in self.ids and stored is not None \
                    and not self._is_there(stored) and not self._is_unknown(stored, row):
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
        found = [max(self.highest, numbers.highest(most)) - self.gaps for numbers in (self.ids, self.known)]
        # A whole index tells which of the two it is: it has as many keys.
        return min(found, key=lambda one: abs(one + 1 - self.indexed)) if self.index_whole else max(found)

    def _note(self) -> None:
        if self.pages.broken:
            self.notes.append('the log breaks off after {} frames: {} commits behind it are lost'.format(
                *self.pages.broken))
        if self.serialized and self.store.get_part(SETTINGS_OWNER, 0) is None:
            self.notes.append('the name of the serializer of the values is lost')
        if not (self.whole or self.index_whole):
            self.notes.append('both the entries and their index lack pages: the newest entries may be lost uncounted')
        head = self.pages.page(1)
        said = int.from_bytes(head[28:32], 'big') if head[24:28] == head[92:96] else 0  # else it is not kept up
        if head[:16] == MAGIC and said > self.pages.count:
            self.notes.append(f'the file was cut off: {self.pages.count} of {said} pages are there')
        version = int.from_bytes(head[60:64], 'big')
        if version > FORMAT:
            self.notes.append(f'the file says that it has format {version}, and was read as format {FORMAT}')

    # --- parts ---

    def _parts(self) -> None:
        """Copy the parts that the entries want. One that is free is still what was written: numbers never return."""
        self.owners.add(SETTINGS_OWNER)
        damaged: Dict[int, int] = {}    # the pages of rows that are not intact
        for number in range(2, self.pages.count + 1):
            is_free = self.free_sound and self.free[number]
            is_free = is_free or number in self.others
            if self.pages.kinds[number] == TABLE[1] and not is_free and not self.with_entries[number]:
                for row, record in self.pages.records(number):
                    if _is_part(record):
                        self._take_part(*record[:3])
                    elif len(record) == 4:
                        damaged[row] = number
            if self.progress and (number % 1024 == 0 or number == self.pages.count):
                self.progress(number, self.pages.count)

        if damaged:
            self._mend_parts(damaged)

    def _mend_parts(self, damaged: Dict[int, int]) -> None:
        """Take the parts of damaged rows whose owner and number stand in an index as they were written."""
        for number in range(2, self.pages.count + 1):
            for _, record in self.pages.records(number) if self.pages.kinds[number] in INDEX else ():
                if len(record) == 3 and record[2] in damaged:
                    owner, part, row = record
                    for other, columns in self.pages.records(damaged[row]):
                        if other == row and _is_part([owner, part, *columns[2:]]):
                            self._take_part(owner, part, columns[2])

    def _take_part(self, owner: bytes, number: int, data: bytes) -> None:
        if owner in self.owners and self.store.get_part(owner, number) is None:
            self.store.put_parts(owner, [(number, data)])

    def _examine(self) -> None:
        """Take back the entries whose parts are not all there, and the parts that no entry needs."""
        codec = packing.Codec(pickles.Unread())
        for key, data in entries_of(self.store.scan()):
            if is_head(data):
                problem = examined(self.store, codec, key, data)
                if problem:
                    self.store.delete(key)
                    self._give_up(keys.decode(key))
                else:
                    self._trim(Head.of(data))

    def _give_up(self, key: Any) -> None:
        if key in self.doubtful:
            self.doubtful.remove(key)   # it was deleted, and its parts with it
        else:
            self.lost.append((key, 'its parts are damaged or missing'))

    def _trim(self, head: Head) -> None:
        try:
            used = set(Tree(self.store, head).numbers())
        except Gone:
            return
        extra = [number for number in self.store.part_numbers(head.owner) if number not in used]
        if extra:
            self.store.delete_parts(head.owner, extra)


def _intact(record: List[Any]) -> Optional[Entry]:
    """Return the key and the value of a row of entries when they are what was written."""
    if len(record) != 4 or record[0] is not None or type(record[2]) is not bytes or not record[2]:
        return None
    _, key, data, crc = record
    if type(crc) is not int or key is None or crc & ~(BOOL | PARTED) != checksum(key, data):
        return None
    try:
        keys.decode(key)
    except VaultCorruptError:
        return None
    return (bool(key) if crc & BOOL and key in (0, 1) else key), data


def _is_like_entry(record: List[Any]) -> bool:
    return len(record) == 4 and record[0] is None


def _is_of_vault(record: List[Any]) -> bool:
    """Tell whether a row of the schema is of the vault's own tables: its name, or the table's, is enough."""
    return record[1] in OWN or record[2:3] == ['entries'] or record[2:3] == ['parts']


def _mark(key: Any) -> Optional[int]:
    """Return the checksum of a stored key; None where there can be no such key."""
    try:
        keys.decode(key)
        return checksum(key, b'')
    except (VaultCorruptError, TypeError):
        return None


def _is_marker(record: List[Any]) -> bool:
    return (record[:2] == [None, b''] and len(record) == 4 and type(record[2]) is bytes
            and type(record[3]) is int and record[3] >= 0)


def _is_part(record: List[Any]) -> bool:
    """Tell whether it is a row of parts, as it was written."""
    if [type(one) for one in record] != [bytes, int, bytes, int] or len(record[0]) != OWNER:
        return False
    owner, number, data, crc = record
    return bool(crc == part_crc(owner, number, data))


def _middle(ids: List[int]) -> int:
    """Return an id that tells where a page stands: no single damaged one decides it."""
    return sorted(ids)[len(ids) // 2] if ids else 0


class _Numbers:
    """A set of whole numbers: a bit for each where many lie together, as ids do."""

    def __init__(self) -> None:
        self._blocks: Dict[int, bytearray] = {}

    def add(self, number: int) -> None:
        block = self._blocks.get(number >> 9)
        if block is None:
            block = self._blocks[number >> 9] = bytearray(64)
        block[number >> 3 & 63] |= 1 << (number & 7)

    def __contains__(self, number: int) -> bool:
        return bool(self._blocks.get(number >> 9, bytes(64))[number >> 3 & 63] >> (number & 7) & 1)

    def highest(self, most: int) -> int:
        """Return the highest number up to `most`; 0 when there is none."""
        for block in sorted(self._blocks, reverse=True):
            found = [number for number in range(block << 9, (block + 1) << 9) if number <= most and number in self]
            if found:
                return found[-1]
        return 0


def _shown(stored: Stored) -> Any:
    """Return the key, or where it is damaged itself, what stands there."""
    try:
        return keys.decode(stored)
    except VaultCorruptError:
        return stored
