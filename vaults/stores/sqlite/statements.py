"""Statements: to run one, to say what its failure means, and to look after the file meanwhile. What all rooms use.

The trap: SQLite undoes a whole transaction by itself, where the disk is full or fails. What a block still writes would
then be committed, each by itself, though the block has failed. So from the first such error on every statement of the
block raises it. And a file that is deleted or replaced while it is open takes what is written into nowhere, without an
error: so it is looked at every so many bytes, and before each block.
"""
from __future__ import annotations

from array import array
from itertools import chain
from time import monotonic

from ... import log
from ...errors import VaultCorruptError, VaultError
from ...keys import SIGN, named
from .. import blocks
from . import driver
from .checkpoint import TICK, Checkpointer, is_due
from .connection import Broken, Connection, File, Local
from .failures import is_failed_sync, is_locked
from .retry import retry
from .schema import (
    BOOL,
    CACHE_SIZE,
    DATA_VERSION,
    GET,
    GET_LARGE,
    GET_SMALL,
    HAS_CHUNKS,
    HAS_LARGE,
    HOLD_PAGES,
    MOST_HELD,
    NEWEST,
    SIZE,
    checksum,
)
from .transactions import Transactional

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, List, NoReturn, Optional, Tuple

    from ...keys import Stored

FOREVER = float('inf')


class Statements(Transactional):
    """The part of the store that runs statements."""

    local_class: Any = Local
    sought = GET   # what looks for an entry

    def __init__(self, file: File) -> None:
        self.file = file
        self.local = self.local_class(file)
        self._checkpointer = Checkpointer()
        self._notice_from = 0.0  # seconds, on the monotonic clock
        self.deletions = 0       # an object's own: each step of a walk looks at it, and finds a class's later

    def rows(self, c: Connection, sql: str, arguments: Tuple[Any, ...]) -> List[Any]:
        """Return the rows, by a cursor of their own, which nobody else uses meanwhile."""
        if c.lost:
            c.execute(sql)  # raises
        try:
            return c.gathered(list, sql, arguments)
        except driver.Error as error:
            if not is_locked(error):
                raise
            return retry(self, error, sql, arguments)

    def run(self, c: Connection, sql: str) -> None:
        """Run a statement that takes the write lock."""
        try:
            c.execute(sql)
        except driver.Error as error:
            retry(self, error, sql)

    def failed(self, error: BaseException, key: Optional[Stored] = None) -> VaultError:
        """Explain an error of SQLite's. Where it rolled the whole transaction back, the rest of the block must fail."""
        problem = self.file.explain(error, key)
        c = self._here()  # which asks for nothing, as what failed may be a batch that whoever asks has written
        if c.depth and not c.raw.in_transaction and not c.lost:
            def refuse(*_: Any) -> NoReturn:
                raise type(problem)(f'an earlier error undid the transaction, leave the block: {problem}') from problem
            c.lost, c.execute = problem, refuse
        return problem

    def ids(self, c: Connection, sql: str, arguments: Tuple[Any, ...]) -> array[int]:
        """Return the ids that a statement finds."""
        return c.gathered(lambda rows: array('q', chain.from_iterable(rows)), sql, arguments)

    def newest(self, c: Connection) -> int:
        newest = self.rows(c, NEWEST, ())[0][0]
        if newest is None or newest >= SIGN - 1:
            raise VaultCorruptError(f'the ids of the entries are damaged: vault {self.file.path}; restore a backup, '
                                    'or `vaults recover` what can be read')
        return int(newest)

    def state(self, c: Connection) -> Tuple[int, int]:
        """Return what is the same later when nobody has written meanwhile."""
        return self.rows(c, DATA_VERSION, ())[0][0], c.raw.total_changes

    def intact(self, key: Stored, data: bytes, crc: int) -> Stored:
        """Return the key in the form it was put, when it and the value are what was written."""
        try:
            expected = checksum(key, data)
        except TypeError:
            expected = None  # a damaged row may hold any type
        if crc == expected is not None:
            return key
        if expected is not None and crc == expected | HAS_CHUNKS:
            return key
        if expected is not None and crc in (expected | BOOL, expected | BOOL | HAS_CHUNKS) and key in (0, 1):
            return bool(key)
        raise VaultCorruptError(f'the entry of key {named(key)} is damaged: its checksum does not hold; vault '
                                f'{self.file.path}; run check(), and restore the entry from a backup, or '
                                '`vaults recover` the others')

    # --- large values ---

    def large(self, c: Connection, key: Stored, id: int) -> Optional[bytes]:
        """Return a value that GET_SMALL leaves out. Its pages are copied once, where SQLite and its module do so twice.

        If the entry was replaced between the statements, the checksum does not hold.
        """
        try:
            return self._page_by_page(c, key, id)
        except driver.Error as error:
            self.failed(error)  # has the rest of a block fail that this undid; what it means is told below
        except (VaultCorruptError, ValueError, TypeError):
            pass  # as above
        try:
            (data, crc), = self.rows(c, GET, (key,))
        except driver.Error as error:
            raise self.failed(error, key) from error
        if not data is crc is None:
            self.intact(key, data, crc)
        return data  # type: ignore[no-any-return]  # a row is Any

    def _page_by_page(self, c: Connection, key: Stored, id: int) -> bytes:
        """Return a large value, the pages of which the cache holds from one walk over them to the next.

        The first one is to the checksum behind them. So each is read from the file once: 40 MB in 35 ms instead of 47.
        """
        is_held = self.rows(c, SIZE, (key,))[0][0] <= MOST_HELD
        try:
            if is_held:
                c.raw.execute(HOLD_PAGES)
            (size, crc), = self.rows(c, GET_LARGE, (id, key))
            data = c.raw.blob(id, size)
        finally:
            if is_held:
                c.raw.execute(CACHE_SIZE)
        self.intact(key, data, crc)
        return data

    def expect_large(self, c: Connection) -> None:
        """Have large values read by themselves where the file has so many bytes that there may be some."""
        try:
            self.sought = GET_SMALL if self.rows(c, HAS_LARGE, ())[0][0] else GET
        except driver.error_or(VaultError):
            pass  # whoever reads next is told

    # --- looking after the file ---

    def _look(self, c: Connection) -> None:
        """Every so many bytes: is the file still the one that was opened, and is it time for a checkpoint?"""
        c.due = c.written + TICK
        self.file.require_same()
        if not c.depth and is_due(c, self.file.path):
            c.checkpointed = c.written
            self.checkpoint(c)
            self.expect_large(c)

    def notice(self) -> None:
        """Say in the log that what is read is not in the file any more. Who reads may want to save it.

        Says it once, and looks once a second: on some systems a look takes a third of the time of a read.
        """
        if monotonic() > self._notice_from:
            self._notice_from = monotonic() + 1
            if not self.file.is_gone():
                return
            self._notice_from = FOREVER
            log.get_logger().warning('what is read is what was there before: %s', self.file.gone())

    def checkpoint(self, c: Connection) -> None:
        """Move the log. Raises nothing, because the write that it was time for has been done.

        Goes on when it can be tried again. A failed fsync cannot: the kernel may have dropped the pages. Then the next
        call raises.
        """
        try:
            self._checkpointer.move_log(self, c)
        except driver.error_or(VaultError) as error:
            if is_failed_sync(error):
                log.get_logger().error('%s', self.break_off(error))
            else:
                log.get_logger().warning('checkpoint of %s put off: %s', self.file.path, error)

    def break_off(self, error: BaseException) -> VaultError:
        """Let nobody use the store any more; return the error that says so."""
        problem = self.file.explain(error)
        said = f'the vault must be opened again, after an error of the disk: {problem}'
        self.local = Broken(type(problem), said)
        return type(problem)(said)

    def outside(self, verb: str) -> Connection:
        c: Connection = self.local.c
        if c.depth:
            raise blocks.inside(verb, self.file.path)
        return c
