"""Survey: which pages of a damaged file hold entries and their index. Knows a vault's rows, and nothing of SQL.

The trap: pages that are not in use any more still hold what was replaced or deleted, and look as sound as any other.
They are on the list of free pages; where that is damaged as well, only the tree tells, and what the tree does not reach
is doubtful. So is an entry that a whole index of the keys does not know. And other tables in the file may have rows
that look like a vault's: what the schema gives to them is none of the vault's, as far as the schema can be read.
"""
from __future__ import annotations

from array import array

from ... import keys
from ...errors import VaultCorruptError
from ..base import OWNER
from .pages import INDEX, TABLE
from .schema import APPLICATION_ID, BOOL, HAS_CHUNKS, checksum, chunk_crc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Iterator, List, Optional, Set, Tuple

    from ...keys import Stored
    from ..base import Entry
    from .pages import Pages

ROOTS = 2, 3                        # the first page of the entries, and of their index, in every vault
OWN = ('entries', 'sqlite_autoindex_entries_1', 'parts', 'sqlite_autoindex_parts_1')


class Survey:
    """What is known of a file's pages before any entry is read. For one thread.

    `leaves` are the pages of entries, in the order of insertion, and `whole` tells whether their tree is; `index` and
    `index_whole` are of the index of the keys; `others` are pages of other tables, and `free` those of no use, if
    `free_sound`. `known` are the ids that the index has, and `indexed` is their number.
    """

    def __init__(self, pages: Pages) -> None:
        self.pages = pages
        self.by_index: Dict[int, Stored] = {}       # the keys that the index has for rows that are not intact
        self.free, self.free_sound = pages.free()
        self.leaves, self.whole = pages.tree(ROOTS[0], TABLE)
        self.index, self.index_whole = pages.tree(ROOTS[1], INDEX)
        reached = {*self.leaves, *self.index}
        if any(self.free[number] for number in reached):
            self.free_sound = False
        self.leaves = [number for number in self.leaves if pages.kinds[number] == TABLE[1]]
        self.others, is_whole = self._other_tables(reached)
        self._add_stray(reached, is_whole)
        self.known = Numbers()
        self.indexed = 0
        self._marks: Dict[int, array[int]] = {}     # of the keys, checksums: the upper halves, then the lower ones
        self._read_index()
        suspects = self._order()
        for key, row in self.stored_keys() if suspects else ():
            if row in suspects:
                self.by_index[row] = key

    def _read_index(self) -> None:
        has_marker = False
        for key, row in self.stored_keys():
            has_marker = has_marker or key == b''
            self.known.add(row)
            self.indexed += 1
            mark = checksum(key, b'')
            self._marks.setdefault(mark >> 16, array('H')).append(mark & 0xFFFF)
        self.index_whole = self.index_whole and has_marker

    def _other_tables(self, reached: Set[int]) -> Tuple[Set[int], bool]:
        """Return the pages of what else is in the file, and whether the schema could be read, and all of them found."""
        pages = self.pages
        schema, is_whole = pages.tree(1, TABLE)
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
                is_whole = is_whole and whole
        return others - reached, is_whole and roots.issuperset(ROOTS)

    def _add_stray(self, reached: Set[int], is_whole: bool) -> None:
        """Add the pages that no way leads to; where other tables may have such, too, only if the vault lacks some."""
        lacks = (True, True) if is_whole else self._lacking()
        if self.free_sound and lacks[0]:
            self.leaves += [number for number in self._in_use(TABLE[1:]) if number not in reached
                            and any(_is_like_entry(record) for _, record in self.pages.records(number))]
        if self.free_sound and lacks[1]:
            stray = [number for number in self._in_use(INDEX) if number not in reached and self._is_of_keys(number)]
            stray = stray if is_whole else self._not_refuted(stray)
            self.index, self.index_whole = self.index + stray, self.index_whole and not stray

    def _lacking(self) -> Tuple[bool, bool]:
        """Tell whether the trees of the entries and of their index have fewer rows than the marker says there are."""
        cells = [(row, record) for number in self.leaves for row, record in self.pages.records(number)]
        gaps = [record[3] for _, record in cells if is_marker(record)]
        found = [(self.whole, [row for row, _ in cells]), (self.index_whole, [row for _, row in self.stored_keys()])]
        one, other = (not (whole and len(gaps) == 1 and len(rows) - 1 == max(rows, default=0) - gaps[0])
                      for whole, rows in found)
        return one, other

    def _not_refuted(self, numbers: List[int]) -> List[int]:
        """Return those pages of indexes that do not give other keys for the ids than the entries themselves do."""
        found = {number: [(record[1], _mark(record[0])) for _, record in self.pages.records(number)
                          if len(record) == 2 and type(record[1]) is int] for number in numbers}
        asked = {row for pairs in found.values() for row, _ in pairs}
        real = {row: _mark(record[1]) for number in self.leaves if asked
                for row, record in self.pages.records(number) if row in asked and intact(record)}
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
                if not intact(record):
                    suspects.update((row,) if record and record[0] is None else ())
                elif row in self.known or not self.index_whole:  # else the id is damaged, or the entry was deleted
                    ids.append(row)
            places[number] = place = middle(ids) or place
        self.leaves.sort(key=places.__getitem__)
        return suspects

    def _is_of_keys(self, number: int) -> bool:
        return any(len(record) == 2 for _, record in self.pages.records(number))

    def stored_keys(self) -> Iterator[Tuple[Stored, int]]:
        """Yield the keys that the index has, with their ids."""
        for number in self.index:
            for _, record in self.pages.records(number):
                if len(record) == 2 and type(record[1]) is int and record[0] is not None:
                    yield record[0], record[1]

    def is_unknown(self, key: Stored, row: int) -> bool:
        """Tell whether a whole index knows neither the key nor its id: it was deleted."""
        mark = checksum(key, b'')
        return self.index_whole and row not in self.known and mark & 0xFFFF not in self._marks.get(mark >> 16, ())


def shows_vault(pages: Pages) -> bool:
    if pages.count and pages.page(1)[68:72] == APPLICATION_ID.to_bytes(4, 'big'):
        return True
    return any(intact(record) is not None or is_marker(record)
               for number in range(1, pages.count + 1) if pages.kinds[number] == TABLE[1]
               for _, record in pages.records(number))


def intact(record: List[Any]) -> Optional[Entry]:
    """Return the key and the value of a row of entries when they are what was written."""
    if len(record) != 4 or record[0] is not None or type(record[2]) is not bytes or not record[2]:
        return None
    _, key, data, crc = record
    if type(crc) is not int or key is None or crc & ~(BOOL | HAS_CHUNKS) != checksum(key, data):
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


def is_marker(record: List[Any]) -> bool:
    return (record[:2] == [None, b''] and len(record) == 4 and type(record[2]) is bytes
            and type(record[3]) is int and record[3] >= 0)


def is_chunk(record: List[Any]) -> bool:
    """Tell whether it is a row of chunks, as it was written."""
    if [type(one) for one in record] != [bytes, int, bytes, int] or len(record[0]) != OWNER:
        return False
    owner, number, data, crc = record
    return bool(crc == chunk_crc(owner, number, data))


def middle(ids: List[int]) -> int:
    """Return an id that tells where a page stands: no single damaged one decides it."""
    return sorted(ids)[len(ids) // 2] if ids else 0


class Numbers:
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
