"""Driver: the seam to SQLite's module, and which one is taken: sqlite3, or another one that is asked for.

A module is with_sqlite3.py or a room like it, which the rest of the engine meets as `file.driver`. The traps are those
of the modules. Each has to provide what stands in `Driver` and `RawConnection` below, and to keep in mind that

- `execute` is called and its rows are taken without a Python frame in between: an interrupt there leaves a statement
  open. So it returns a cursor, which is the module's own;
- what `statements()` returns is used by a signal handler or a finalizer as well, which may come between the two: then
  there is no row. So who reads with it asks for what always has one, and unpacks it, which has the statement done. What
  must not meet that goes through the connection's `execute`, or through `changed`, which nobody comes into;
- a transaction begins where it is said to, and nowhere else;
- a connection is made in one thread and may be closed in another;
- an iterable given to `many` may use the connection that is running it, and its first row may be taken before the
  statement is found wrong;
- damaged text is a UnicodeError or an Error, and too much of it an OverflowError or an Error: see failures.py.

The other trap: two copies of SQLite in one process do not see each other's locks. Of 6,000 transactions that two
threads did, one with each, all were acknowledged, 1,385 were kept, and the file was damaged. So a driver is asked for,
and never found; and a connection has a claim on its file, beside which no other driver gets one.
"""
from __future__ import annotations

import os
import threading
from importlib import import_module
from weakref import WeakValueDictionary

from ...errors import VaultBusyError, VaultError, VaultTypeError, VaultValueError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Protocol, Tuple, Type

    class Cursor(Protocol):
        """One statement at a time, and its rows: `execute` returns it."""

        def __iter__(self) -> Iterator[Any]: ...
        def execute(self, sql: str, arguments: Any = ..., /) -> Cursor: ...
        def fetchall(self) -> List[Any]: ...

    class RawConnection(Protocol):
        """A connection. `execute` makes a cursor for each statement, which nobody else uses."""

        claim: Optional[Claim]

        @property
        def in_transaction(self) -> bool: ...
        @property
        def total_changes(self) -> int: ...
        def execute(self, sql: str, arguments: Any = ..., /) -> Any: ...
        def set_progress_handler(self, handler: Any, steps: int, /) -> None: ...
        def close(self) -> None: ...

        def statements(self) -> Any:
            """Return a cursor to run one statement after another with, which takes less time than `execute` here."""

        def changed(self, sql: str, arguments: Tuple[Any, ...] = ()) -> int:
            """Run a statement and return how many rows it changed."""

        def many(self, sql: str, rows: Iterable[Any]) -> None:
            """Run a statement for each of the rows."""

        def blob(self, id: int, size: int) -> bytes:
            """Return the value of an entry, of so many bytes, in one step of Python's. Raises: Error."""

        def copy_to(self, target: str, step: Callable[[int, int, int], object], pages: int = 1024) -> None:
            """Write all to the file of a URI, so many pages at a time.

            Calls `step` with a result code, BUSY or LOCKED where nothing could be copied, and how many of how many
            pages are left. What it raises ends the copy.
            """

    class Driver(Protocol):
        """A module of SQLite's, as the engine uses it."""

        NAME: str
        VERSION: str
        VERSION_INFO: Tuple[int, ...]
        Error: Type[Exception]
        COPIED: int  # bytes of values up to which they are bound sooner as a bytearray, which is a copy

        def connect(self, target: str, timeout: float) -> RawConnection:
            """Open the file of a URI, or ':memory:'. `timeout` is in seconds."""


class DriverError(Exception):
    """What a driver itself cannot say."""


DRIVERS = 'sqlite3', 'apsw'   # each has a room, with_...
VARIABLE = 'VAULTS_DRIVER'

Error: Tuple[Type[Exception], ...] = (DriverError,)  # what SQLite and its modules raise, to be caught
_asked: Optional[str] = None
_loaded: Dict[str, Driver] = {}
_loading = threading.Lock()


def set_driver(name: Optional[str]) -> None:
    """Open vaults from now on with the SQLite of the module `name`, 'sqlite3' or 'apsw'; None forgets it.

    Without it the driver is that of the environment variable VAULTS_DRIVER, and without that Python's own sqlite3.
    Vaults that are open stay with theirs. APSW (`pip install 'vaults[apsw]'`) brings a newer SQLite, and is quicker. A
    program that opens a vault's file by itself does so with the same module, or not while the vault is open: two copies
    of SQLite in one process do not see each other's locks.

    Raises: VaultValueError or VaultTypeError for another name, VaultError when the module is not installed.
    """
    global _asked
    if name is not None:
        if not isinstance(name, str):
            raise VaultTypeError(f"the name of a driver is 'sqlite3' or 'apsw', not {name!r}")
        _load(name, 'set_driver()')
    _asked = name


def current() -> Driver:
    """Return the driver that a vault is opened with now."""
    return _load(_asked, 'set_driver()') if _asked else _load(os.environ.get(VARIABLE) or 'sqlite3', VARIABLE)


def _load(name: str, whence: str) -> Driver:
    global Error
    found = _loaded.get(name)
    if found is None:
        if name not in DRIVERS:
            raise VaultValueError(f"there is no driver {name!r}, which {whence} asks for: it is 'sqlite3' or 'apsw'")
        try:
            found = import_module(f'.with_{name}', __package__)
        except ImportError as error:
            raise VaultError(f"the driver {name!r}, which {whence} asks for, cannot be loaded ({error}): "
                             f"pip install 'vaults[{name}]', or leave it out") from error
        with _loading:
            _loaded[name] = found
            Error = DriverError, *(one.Error for one in _loaded.values())
    return found


def error_or(*others: Type[Exception]) -> Tuple[Type[Exception], ...]:
    """Return what SQLite raises and others, to be caught together."""
    return Error + others


def code(error: BaseException) -> Optional[int]:
    """Return SQLite's extended result code; None where there is none, or sqlite3 before Python 3.11 does not tell."""
    found: Optional[int] = getattr(error, 'sqlite_errorcode', None) or getattr(error, 'extendedresult', None)
    return found


# --- one file, one driver ---

class Claim:
    """The use of a file by one driver. It ends when nobody holds it: a connection does, until it is closed."""

    __slots__ = ('__weakref__', 'driver', 'identity', 'path')

    def __init__(self, driver: Driver, path: str) -> None:
        self.driver, self.path = driver, path
        self.identity: Optional[Tuple[int, int]] = None
        self.identify()

    def identify(self) -> None:
        """Note which file it is, if there is one."""
        self.identity = self.identity or _identity(self.path)


_claims: WeakValueDictionary[int, Claim] = WeakValueDictionary()


def claim(driver: Driver, path: str) -> Claim:
    """Claim the file at `path` for a driver. Raises: VaultBusyError where another one has it open in this process.

    Of two that claim it at once with two drivers, both may be refused.
    """
    mine = Claim(driver, path)
    _claims[id(mine)] = mine
    for reference in _claims.valuerefs():
        other = reference()
        if other is not None and other.driver is not driver and _on_one_file(mine, other):
            raise VaultBusyError(f'{path} is open in this process with the driver {other.driver.NAME}, and cannot be '
                                 f'opened with {driver.NAME} beside it: their copies of SQLite do not see each '
                                 f"other's locks; close it first, or use one driver: {VARIABLE} or set_driver()")
    return mine


def _on_one_file(one: Claim, other: Claim) -> bool:
    """Tell whether two claims are on one file, which may not be there yet, or be there under another path by now."""
    if os.path.realpath(one.path) == os.path.realpath(other.path):
        return True
    identities = {_identity(other.path), other.identity} - {None}
    return one.identity in identities


def _identity(path: str) -> Optional[Tuple[int, int]]:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino
