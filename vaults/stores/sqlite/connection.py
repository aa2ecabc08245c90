"""Connections: one a thread, or one for all, and what stands in its place. Knows the file, and no store's methods.

The trap: a connection that threads share returns wrong values on Python 3.12 and 3.13, so each thread has its own; but
nobody is told when a thread ends. So a connection closes when nobody holds it: a thread's end lets go of it, and so
does the end of the store, and a call that still uses it holds it until it returns. What may not be used any more, or
not yet, or only by one task, has something else in its place: no call has to ask first.
"""
from __future__ import annotations

import os
import threading
from _thread import get_ident
from weakref import WeakValueDictionary

from ...errors import VaultError, VaultNotFoundError
from ...keys import named
from ..base import MEMORY
from . import driver, guard, side_files
from .failures import BUSY, failure
from .nesting import Nesting
from .schema import (
    CACHE_SIZE,
    CONTAINS,
    KEEP_LOG,
    NO_AUTO_CHECKPOINT,
    NO_BUSY_HANDLER,
    NO_SECURE_DELETE,
    NO_WRITING,
)
from .waiting import patiently

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Iterable, List, NoReturn, Optional, Tuple, TypeVar

    from ...keys import Stored
    from ..tasks import Owner

    T = TypeVar('T')

ALONE = 8192    # bytes that an entry takes in the log besides its value, estimated: two pages in a commit of its own;
TOGETHER = 512  # in a transaction entries share their pages

inherited: List[driver.RawConnection] = []  # a forked child keeps the connections it may not close


def uri_of(path: str, parameters: str) -> str:
    """Return the URI of a file; SQLite reads %, ? and # in one as its own."""
    for character, code in (('%', '%25'), ('?', '%3f'), ('#', '%23')):
        path = path.replace(character, code)
    path = path.replace('\\', '/') if os.name == 'nt' else path
    return f"file:{'' if path.startswith('/') else '/'}{path}?{parameters}"


def connected(with_: driver.Driver, path: str, parameters: str, timeout: float) -> driver.RawConnection:
    """Open the file at `path`. Raises: VaultBusyError where another driver has it open in this process."""
    claim = driver.claim(with_, path)
    raw = with_.connect(uri_of(path, parameters), timeout)
    claim.identify()  # which has made the file, where it was not there
    raw.claim = claim
    return raw


class File:
    """What every connection to one vault's file must know. `journal` is chosen once, by `prepare`."""

    def __init__(self, path: str, flag: str, timeout: float, synchronous: str) -> None:
        self.path = path
        self.flag = flag
        self.timeout = timeout
        self.driver = driver.current()
        self.synchronous = f'PRAGMA synchronous = {synchronous}'
        self.mode = 'mode=rwc' if flag in 'cn' else 'mode=rw'
        self.journal: Optional[str] = None
        self.identity: Optional[Tuple[int, int]] = None
        self.connections: WeakValueDictionary[int, Connection] = WeakValueDictionary()  # by the thread that opened it
        self.permissions: Optional[int] = None  # the mode of the file, as last seen
        self.shares = False  # whether connections are to have a map of the shared memory

    def connect(self, parameters: Optional[str] = None) -> driver.RawConnection:
        if self.path == MEMORY:
            return self.driver.connect(MEMORY, self.timeout)
        return connected(self.driver, self.path, parameters or self.mode, self.timeout)

    def stat(self) -> Optional[Tuple[int, int]]:
        try:
            status = os.stat(self.path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        if status.st_mode != self.permissions:
            self.permissions = status.st_mode
            self._follow(status.st_mode & 0o777)
        return (status.st_dev, status.st_ino) if status.st_size else None  # an emptied file is no vault any more

    def _follow(self, mode: int) -> None:
        """Give what lies beside the file its mode. SQLite does so when it makes them, and not when the mode changes."""
        for beside in side_files(self.path):
            try:
                if os.stat(beside).st_mode & 0o777 != mode:
                    os.chmod(beside, mode)
            except OSError:
                continue  # it is not there, or not ours: its owner sees to it

    def is_gone(self) -> bool:
        """Tell whether the file is not the one that was opened any more."""
        return self.identity is not None and self.stat() != self.identity

    def require_same(self) -> None:
        if self.is_gone():
            raise self.gone()

    def gone(self) -> VaultError:
        """Return the error about a file that is not the one that was opened any more."""
        is_file = os.path.isfile(self.path)
        now = ('is another one now' if is_file and os.path.getsize(self.path) else 'is empty' if is_file else
               'is no file now' if os.path.exists(self.path) else 'is gone')
        return VaultNotFoundError(f'the file was deleted, emptied or replaced while it was open: {self.path} {now}; '
                                  'what was written since is in no file. Save what this vault still holds with '
                                  'backup(), then close it and open it again')

    def elsewhere(self) -> List[Connection]:
        """Return the connections in which other threads begin blocks."""
        connections = [reference() for reference in self.connections.valuerefs()]
        return [c for c in connections if c is not None and c.thread != get_ident()]

    def holder(self, who: object) -> Optional[Connection]:
        """Return the connection of another thread in which `who` has a block open."""
        return next((c for c in self.elsewhere() if c.is_open(who)), None)

    def explain(self, error: BaseException, key: Optional[Stored] = None) -> VaultError:
        """Return the error of ours that an error of the driver's means, saying which vault and what to do."""
        what = failure(error)
        if what is not BUSY and self.is_gone():
            return self.gone()
        where = f'vault {self.path}' + ('' if key is None else f', key {named(key)}')
        return what.error(what.cure.format(where=where, text=error, timeout=self.timeout))


class Ended:
    """What a connection has for SQLite's once it is closed, which a signal handler may do in the middle of a call."""

    def __get__(self, c: Any, cls: Any = None) -> NoReturn:
        raise driver.DriverError('Cannot operate on a closed database')  # as SQLite's module says


class Connection(Nesting):
    """One thread's connection, with what it needs on the hot path bound once. It closes when nobody holds it."""

    raw: driver.RawConnection = Ended()  # type: ignore[assignment]  # an instance has one as long as it is open

    def __init__(self, file: File) -> None:
        super().__init__()
        self.guard: Optional[Tuple[int, int]] = None
        self.pid = os.getpid()
        self.row = ALONE
        self.written = self.due = self.checkpointed = 0  # bytes, estimated
        self.version: Optional[int] = None         # of the data, as last asked for
        self.reading = False                       # whether a statement of several rows is not done
        self.shared: Any = None                    # a map of the shared memory: see cache.py
        self.copied = file.driver.COPIED
        if file.journal == 'immutable':
            from .snapshot import Snapshot  # here: few vaults are read so
            self.raw = Snapshot(file)  # type: ignore[assignment]  # it acts as one
            self.execute = self.raw.execute
            return
        self.raw = file.connect()
        self.execute = self.raw.statements().execute
        self.execute(file.synchronous)
        self.execute(CACHE_SIZE)
        self.execute(NO_SECURE_DELETE)
        if file.flag == 'r':
            self.execute(NO_WRITING)
        if file.journal == 'wal':
            self.shield(file)

    def shield(self, file: File) -> None:
        """Arrange for write-ahead logging: our own checkpoints and waits, and the locks that others must not drop."""
        for pragma in (NO_AUTO_CHECKPOINT, KEEP_LOG, NO_BUSY_HANDLER):
            self.execute(pragma)
        # Opens the WAL, so that there is something to guard. Who recovers it, or closes the file last, is alone.
        patiently(lambda: self.execute(CONTAINS, (b'',)).fetchall(), file.timeout)
        if file.identity:
            self.guard = guard.enter(file.path, file.identity)
        self.share(file)

    def gathered(self, gather: Callable[[Iterable[Any]], T], sql: str, arguments: Tuple[Any, ...]) -> T:
        """Return what `gather` makes of the rows of a statement, by a cursor of its own."""
        was = self.reading
        try:
            self.reading = True
            return gather(self.raw.execute(sql, arguments))
        except UnicodeDecodeError as error:  # of damaged text, which some drivers raise as they decode it
            raise driver.DriverError(f'could not decode to UTF-8: {error}') from error
        finally:
            self.reading = was

    def share(self, file: File) -> None:
        """Have the map of the shared memory, if somebody reads by it, and there can be one."""
        if file.shares:
            self.shared = guard.shared(self.guard)

    def close(self) -> None:
        raw = vars(self).pop('raw', None)
        if raw is None:
            return
        if self.batch is not None:
            self.batch.drop()
        if self.pid != os.getpid():
            inherited.append(raw)
        else:
            guard.leave(self.guard, raw.close)

    __del__ = close


class Asked:
    """What `c` is met as while a block of a task is open, or a batch is filled: asks for the task, writes the batch.

    The connection is an attribute of its own, which Python takes before one of the class, and which is taken away as
    long as the block is open: so nobody else pays for the question, and whoever asks for the connection is asked.
    """

    def __get__(self, local: Any, cls: Any = None) -> Connection:
        held: Connection = local.held
        owner = held.owner
        if owner is not None:  # or its thread, where one connection serves all, has just ended the block
            owner.require()
        batch = held.batch
        while batch is not None and held.thread == get_ident():  # or it is the one connection of a vault in memory
            batch.write()
            batch = None if held.batch is batch else held.batch  # of a signal handler
        return held


def put_aside(local: Any, c: Connection, owner: Optional[Owner]) -> None:
    """Put the connection aside for a task, if one runs, so that whoever asks for it is asked."""
    if owner is not None:
        attributes = vars(local)
        c.owner = owner
        attributes['held'] = c
        attributes.pop('c', None)


def give_back(local: Any, c: Connection) -> None:
    """Let everybody have the connection again, unless a block of its task is still open, or a batch is filled."""
    if c.owner is None or c.depth <= c.owner.depth:
        c.changing += 1  # lest a signal handler keeps something back between the question and the answer
        try:
            if c.batch is None:
                vars(local)['c'] = c
        finally:
            c.changing -= 1
        c.owner = None


class Local(threading.local):
    """Each thread's connection, as `c`, which may ask for the task, and `held`; opened when the thread first asks."""

    c: Any = Asked()

    def __init__(self, file: File) -> None:
        file.require_same()  # a later thread, or a forked child, must not have another vault under this one's name
        try:
            self.c = self.held = file.connections[get_ident()] = Connection(file)
        except driver.error_or(UnicodeError) as error:
            raise file.explain(error) from error
        file.require_same()


class Shared:
    """The one connection of a vault in memory, as `c` and `held`: see above."""

    c: Any = Asked()

    def __init__(self, file: File) -> None:
        self.c = self.held = file.connections[get_ident()] = Connection(file)


class Broken:
    """In place of the connections when the store is closed, or must be opened again: asking for one raises."""

    held = None

    def __init__(self, error: type, message: str) -> None:
        self._error, self._message = error, message

    @property
    def c(self) -> NoReturn:
        raise self._error(self._message)
