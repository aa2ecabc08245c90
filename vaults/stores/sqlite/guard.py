"""Guard: keeps a vault's locks when somebody else in this process opens and closes its files. Linux only.

POSIX locks belong to a process and a file: whoever in the process closes the file (`open(p).close()`, a copy, a hash)
drops those that SQLite relies on. Another process that closes the vault then takes itself for the last one and deletes
the write-ahead log, with acknowledged writes in it. Locks on an open file description (OFD) are not dropped so. A
guard holds read locks of that sort on the bytes where SQLite holds its own, from the first connection to the last.
The same locks protect a forked child, whose SQLite believes that it inherited the parent's.
"""
from __future__ import annotations

import os
import struct
import sys
import threading

from . import SHARED_FILE, resolved

try:
    import fcntl
except ImportError:  # Windows has neither the locks nor the trap
    fcntl = None  # type: ignore[assignment]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mmap import mmap
    from typing import Callable, Dict, List, Optional, Tuple

    Identity = Tuple[int, int]

AVAILABLE = fcntl is not None and sys.platform.startswith('linux') and sys.maxsize > 2**32
F_OFD_SETLK = 37  # of Linux 3.15 and newer; fcntl names it from Python 3.9 on
# Where SQLite holds shared locks for as long as a connection is open (os_unix.c, "The File Locking" comments):
PLACES = (('', 0x40000002, 510), (SHARED_FILE, 128, 1))
SHARED_BYTES = 96  # bytes of the shared memory: the header of the log's index, twice

_lock = threading.RLock()
_guards: Dict[Identity, Guard] = {}


class Guard:
    """The open file descriptions and locks for one database file, shared by all its connections in this process."""

    def __init__(self, path: str) -> None:
        self.users = 0
        self._held: List[Tuple[int, int, int]] = []
        self._shared: Optional[mmap] = None
        path = resolved(path)  # a link has no -shm beside it
        for suffix, start, length in PLACES:
            try:
                handle = os.open(path + suffix, os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                continue  # a file that may not be opened cannot be guarded; SQLite's own locks remain
            self._held.append((handle, start, length))
        self._holds = self._set(fcntl.F_RDLCK) and len(self._held) == len(PLACES)

    def _set(self, kind: int) -> bool:
        """Set all locks; tell whether that could be done."""
        done = True
        for handle, start, length in self._held:
            try:
                fcntl.fcntl(handle, F_OFD_SETLK, struct.pack('hhqqi0q', kind, os.SEEK_SET, start, length, 0))
            except OSError:
                done = False  # an old kernel, or a file system without locks: as above
        return done

    def shared(self) -> Optional[mmap]:
        """Return a map of the beginning of the shared memory, or None where it may not be the one that SQLite uses.

        Python's map has a handle of its own, and closing that drops SQLite's locks as any other does: so it is closed
        with the guard, neither before nor when it is collected. Nobody else closes it, or keeps a view of it.
        """
        if self._shared is None and self._holds:
            try:
                from mmap import PROT_READ, mmap  # here: few vaults are read so
                self._shared = mmap(self._held[-1][0], SHARED_BYTES, prot=PROT_READ)
            except (ImportError, OSError, ValueError):
                self._holds = False
        return self._shared

    def unlock(self) -> None:
        """Let the last connection of all take SQLite's exclusive lock, which it needs to tidy up."""
        self._set(fcntl.F_UNLCK)

    def close(self) -> None:
        if self._shared is not None:
            self._shared.close()
        for handle, _, _ in self._held:
            os.close(handle)


def is_on(identity: Identity) -> bool:
    """Tell whether a connection of this process has the file open, and guards it."""
    return identity in _guards


def enter(path: str, identity: Identity) -> Optional[Identity]:
    """Guard the file for one more connection; returns what `leave` wants."""
    if not AVAILABLE:
        return None
    with _lock:
        guard = _guards.get(identity)
        if guard is None:
            guard = _guards[identity] = Guard(path)
        guard.users += 1
    return identity


def shared(identity: Optional[Identity]) -> Optional[mmap]:
    """Return the map of the shared memory of a file that is guarded, if there can be one."""
    with _lock:
        guard = None if identity is None else _guards.get(identity)
        return None if guard is None else guard.shared()


def leave(identity: Optional[Identity], close: Callable[[], None]) -> None:
    """Close a connection with `close`; after the last one, the guard too: closing it first would drop the locks."""
    if identity is None:
        return close()
    with _lock:
        guard = _guards[identity]
        guard.users -= 1
        if guard.users:
            return close()
        del _guards[identity]
        guard.unlock()
        try:
            close()
        finally:
            guard.close()


def forget() -> None:
    """Drop, in a forked child, what it inherited. The parent's locks stay: it has the descriptions open too."""
    global _lock
    _lock = threading.RLock()
    for guard in _guards.values():
        guard.close()
    _guards.clear()
