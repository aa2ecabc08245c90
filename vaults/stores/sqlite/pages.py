"""Pages: SQLite's file format, read without SQLite, for files that are damaged. Knows nothing of vaults.

https://www.sqlite.org/fileformat2.html describes the format. Nothing here trusts the header, the schema or a page
above another: what does not fit is left out, and whoever asks is told that something was.
"""
from __future__ import annotations

import os
import struct
from contextlib import ExitStack

from . import JOURNAL_FILE, WAL_FILE, side_files
from .records import decoded, signed, varint

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Any, Dict, Iterator, List, Optional, Tuple

    from .records import Record

MAGIC = b'SQLite format 3\0'
TABLE, INDEX = (5, 13), (2, 10)         # the kinds of pages of a tree: interior, leaf
FRAME = 24                              # bytes before each page in a log
JOURNAL = bytes.fromhex('d9d505f920a163d7')
USUAL = 4096                            # bytes of a page, when nothing sane says how many


class Malformed(Exception):
    """What is read cannot be what its place says it is."""


class Pages:
    """The pages of a database file as its last commit left them, those in its log included. For one thread.

    `count` is the number of pages, `size` the bytes of each; the first has number 1. `broken` tells what of a log
    could not be used: how many of its frames could be read, and how many commits stand behind them; or None.
    """

    def __init__(self, path: str, most: Optional[int] = None) -> None:
        """Read the pages of the file at `path`, the first `most` of them, and of what lies beside it."""
        self._files = ExitStack()
        self._over: Dict[int, Tuple[IO[bytes], int]] = {}  # where the pages are that are not in the main file
        self.broken: Optional[Tuple[int, int]] = None
        try:
            self._file = self._files.enter_context(open(path, 'rb'))  # noqa: SIM115  # the stack closes it
            self.size = self._page_size()
            self.count = -(-os.path.getsize(path) // self.size)
            journal, wal = side_files(path, (JOURNAL_FILE, WAL_FILE))
            self._add(journal, self._roll_back)
            self._add(wal, self._apply)
            self.count = self.count if most is None else min(self.count, most)
            self.kinds = self._kinds()  # the first byte of each page, at the place of its number
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._files.close()

    def _page_size(self) -> int:
        """Return the bytes of a page: of the second one, which is of a table, if that is where it usually is."""
        header = self._file.read(100)
        said = int.from_bytes(header[16:18], 'big')
        said = 65536 if said == 1 else said
        self._file.seek(USUAL)
        usual = self._file.read(1) in (b'\5', b'\x0d')
        return USUAL if usual or said < 512 or said & (said - 1) else said

    def _kinds(self) -> bytes:
        kinds = bytearray(self.count + 1)
        for number in range(1, self.count + 1):
            file, at = self._place(number)
            file.seek(at + 100 if number == 1 else at)
            kinds[number] = (file.read(1) or b'\0')[0]
        return bytes(kinds)

    def _place(self, number: int) -> Tuple[IO[bytes], int]:
        return self._over.get(number) or (self._file, (number - 1) * self.size)

    def page(self, number: int) -> bytes:
        """Return a page; where the file was cut off, zeros. Raises: Malformed when there is no such page."""
        if not 1 <= number <= self.count:
            raise Malformed
        file, at = self._place(number)
        file.seek(at)
        return file.read(self.size).ljust(self.size, b'\0')

    # --- what lies beside the main file ---

    def _add(self, path: str, use: Any) -> None:
        if os.path.exists(path):
            file = self._files.enter_context(open(path, 'rb'))  # noqa: SIM115  # as above
            use(file, os.path.getsize(path))

    def _apply(self, log: IO[bytes], length: int) -> None:
        """Take the pages of a write-ahead log up to the last commit before the first frame that is not sound."""
        header = log.read(32)
        if len(header) < 32:
            return
        order = '>' if header[3] & 1 else '<'
        salts, sums = header[16:24], _sums(header[:24], (0, 0), order)
        sound = header[:3] == b'\x37\x7f\x06' and struct.pack('>II', *sums) == header[24:]
        waiting: Dict[int, Tuple[IO[bytes], int]] = {}
        at, step = 32, FRAME + self.size
        while sound and at + step <= length:
            frame = log.read(step)
            sums = _sums(frame[FRAME:], _sums(frame[:8], sums, order), order)
            if frame[8:16] != salts or struct.pack('>II', *sums) != frame[16:24]:
                break
            number, count = struct.unpack('>II', frame[:8])
            waiting[number] = log, at + FRAME
            if count:
                self._over.update(waiting)
                self.count, waiting = count, {}
            at += step
        self._look_behind(log, at, length, salts if sound else None)

    def _look_behind(self, log: IO[bytes], at: int, length: int, salts: Optional[bytes]) -> None:
        """Tell a log that ends from one that breaks off: behind the break there are commits of the same log."""
        first, behind, step = at, 0, FRAME + self.size
        while at + FRAME <= length:
            log.seek(at)
            frame = log.read(FRAME)
            salts = salts or frame[8:16]
            behind += frame[8:16] == salts and frame[4:8] != bytes(4)
            at += step
        if behind:
            self.broken = (first - 32) // step, behind

    def _roll_back(self, journal: IO[bytes], length: int) -> None:
        """Take the pages of a rollback journal: a writer was killed, and they are what was before it."""
        at = 0
        while True:
            journal.seek(at)
            header = journal.read(28)
            if len(header) < 28 or header[:8] != JOURNAL:
                return
            records, nonce, count, sector, size = struct.unpack('>5I', header[8:])
            if size != self.size or not sector:
                return
            if not at:
                self.count = min(count, self.count + length // size)  # nothing vouches for the number
            at += sector
            records = (length - at) // (size + 8) if records == 0xFFFFFFFF else records
            for _ in range(records):
                journal.seek(at)
                record = journal.read(size + 8)
                if len(record) < size + 8 or _journal_sum(record[4:-4], nonce) != record[-4:]:
                    return
                self._over.setdefault(int.from_bytes(record[:4], 'big'), (journal, at + 4))
                at += size + 8
            at = -(-at // sector) * sector

    # --- trees ---

    def tree(self, root: int, kinds: Tuple[int, int]) -> Tuple[List[int], bool]:
        """Return the pages of the tree, in order, and whether nothing in it was out of place."""
        found, seen, whole, waiting = [], bytearray(self.count + 1), True, [root]
        while waiting:
            number = waiting.pop()
            if not 1 <= number <= self.count or seen[number] or self.kinds[number] not in kinds:
                whole = False
                continue
            seen[number] = 1
            found.append(number)
            if self.kinds[number] == kinds[0]:
                children, sound = self._children(number)
                whole = whole and sound
                waiting += reversed(children)
        return found, whole

    def _children(self, number: int) -> Tuple[List[int], bool]:
        page = self.page(number)
        cells, sound = self._cells(page, number)
        start = 100 if number == 1 else 0
        return [int.from_bytes(page[at:at + 4], 'big') for at in (*cells, start + 8)], sound

    def _cells(self, page: bytes, number: int) -> Tuple[List[int], bool]:
        """Return where the cells of a page begin, and whether all of them lie in it."""
        start = 100 if number == 1 else 0
        count, = struct.unpack_from('>H', page, start + 3)
        first = start + (12 if page[start] in (TABLE[0], INDEX[0]) else 8)
        fitting = min(count, (self.size - first) // 2)
        cells = [at & (self.size - 1) for at in struct.unpack_from(f'>{fitting}H', page, first)]  # as SQLite does
        inside = [at for at in cells if first + 2 * fitting <= at < self.size - 3]
        return inside, len(inside) == count

    def free(self) -> Tuple[bytearray, bool]:
        """Return which pages are on the list of free ones, and whether that list is sound."""
        free = bytearray(self.count + 1)
        if not self.count:
            return free, False
        header = self.page(1)
        number, said = struct.unpack_from('>II', header, 32)
        found, sound = 0, header[:16] == MAGIC
        while number and sound:
            if not 1 < number <= self.count or free[number]:
                return free, False
            page = self.page(number)
            following, count = struct.unpack_from('>II', page)
            leaves = struct.unpack_from(f'>{min(count, self.size // 4 - 2)}I', page, 8)
            for one in (number, *leaves):
                if not 1 < one <= self.count or free[one]:
                    return free, False
                free[one] = 1
            sound, number, found = len(leaves) == count, following, found + 1 + count
        return free, sound and found == said

    # --- records ---

    def records(self, number: int) -> Iterator[Tuple[int, Record]]:
        """Yield the id, which is -1 in an index, and the record of each cell of a page that has some."""
        page = self.page(number)
        kind = self.kinds[number]
        for at in self._cells(page, number)[0]:
            row = -1
            try:
                size, at = varint(page, at + 4 if kind == INDEX[0] else at)
                if kind == TABLE[1]:
                    row, at = varint(page, at)
                    row = signed(row)
                yield row, decoded(self._payload(page, at, size, kind == TABLE[1]))
            except (IndexError, Malformed):
                yield row, []

    def _payload(self, page: bytes, at: int, size: int, in_table: bool) -> bytes:
        """Return what a cell holds, with what of it stands in other pages; as much as can be read."""
        most = self.size - 35 if in_table else (self.size - 12) * 64 // 255 - 23
        if size <= most:
            return page[at:at + size]
        if size > self.count * self.size:
            raise Malformed
        least = (self.size - 12) * 32 // 255 - 23
        here = least + (size - least) % (self.size - 4)
        here = here if here <= most else least
        pieces, rest = [page[at:at + here]], size - here
        number = int.from_bytes(page[at + here:at + here + 4], 'big')
        while rest > 0:
            try:
                data = self.page(number)
            except Malformed:
                break
            pieces.append(data[4:4 + rest])
            rest -= self.size - 4
            number = int.from_bytes(data[:4], 'big')
        return b''.join(pieces)


def _sums(data: bytes, start: Tuple[int, int], order: str) -> Tuple[int, int]:
    """Return the checksum that a log goes on with after `data`."""
    one, two = start
    words = iter(struct.unpack(f'{order}{len(data) // 4}I', data))
    for word in words:
        one = (one + word + two) & 0xFFFFFFFF
        two = (two + next(words) + one) & 0xFFFFFFFF
    return one, two


def _journal_sum(data: bytes, nonce: int) -> bytes:
    return ((nonce + sum(data[at] for at in range(len(data) - 200, 0, -200))) & 0xFFFFFFFF).to_bytes(4, 'big')
