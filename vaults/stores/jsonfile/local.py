"""LocalFile: a file of this system. It is replaced by renaming, and its lock is one of the system.

The lock is the system's on a file beside it: so it ends with the process that holds it, however that ends, and only
what is in that file stays, which says who it was. Whoever comes by another way, over FTP say, cannot see such a lock,
but sees that the file is there, and makes a folder in its place: that one is respected here.
"""
from __future__ import annotations

import glob
import os
import sys

from ...errors import VaultError, VaultNotFoundError, VaultReadOnlyError, unwritten
from ...files import NewFile, remove, require_removable
from .holder import Holder, packed_holder, read_holder
from .place import LOCK, PART, FilePlace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional

HOLDER = 'holder.json'      # in a lock that is a folder, who has it
NO_LINKS = getattr(os, 'O_NOFOLLOW', 0)     # lest somebody has planted one, to have another file overwritten
MOST_OF_LOCK = 1 << 16      # bytes of a lock that are looked at


class LocalFile(FilePlace):
    """A file at a path. For one thread at a time."""

    def __init__(self, path: str, shown_as: str, timeout: float) -> None:
        super().__init__(shown_as, timeout)
        self._path = os.path.realpath(path)     # a link stays one
        self.lock = f'{self._path}{LOCK}'
        self.files, self.sources = (self._path, self.lock), (self._path,)
        self._handle: Optional[int] = None

    def read(self) -> Optional[bytes]:
        try:
            with open(self._path, 'rb') as file:
                return file.read()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise VaultError(f'the file of the vault cannot be read: {error}; see that it is a file, and that you may '
                             'read it') from error

    def replace(self, data: bytes) -> None:
        with NewFile(self._path, what=f'writing the vault {self.shown}', replaces=True) as new:
            file, left = new.raw(), memoryview(data)
            while left:
                left = left[file.write(left):]

    def require_removable(self) -> None:
        require_removable(self._path)

    def remove(self) -> None:
        if os.path.lexists(self._path):
            try:
                os.unlink(self._path)
            except OSError as error:
                raise VaultError(f'the file of the vault cannot be deleted: {error}; see that you may write its folder'
                                 ) from error

    def try_lock(self, mine: Holder) -> bool:
        try:
            handle = os.open(self.lock, os.O_RDWR | os.O_CREAT | NO_LINKS, 0o666)
        except IsADirectoryError:
            return False
        except FileNotFoundError as error:
            raise VaultNotFoundError(f'there is no folder {os.path.dirname(self._path)} for the vault {self.shown}: '
                                     'make it first') from error
        except PermissionError as error:
            raise VaultReadOnlyError(f"no lock can be made beside the file: {error}; open it with flag='r', or see "
                                     'that you may write there') from error
        except OSError as error:
            raise unwritten(f'making the lock of the vault {self.shown}', error) from error
        try:
            if not (_locked(handle) and _is_at(handle, self.lock)):
                return False
            os.ftruncate(handle, 0)
            os.lseek(handle, 0, os.SEEK_SET)
            os.write(handle, packed_holder(mine))
            self._handle, handle = handle, -1
        except OSError as error:
            raise VaultError(f'the lock {self.lock} cannot be taken: {error}; see that there is room, and that the '
                             'file system has locks') from error
        finally:
            if handle >= 0:
                os.close(handle)
        for part in glob.glob(f'{glob.escape(self._path)}.*{PART}'):
            remove(part)  # of one who was killed while writing
        return True

    def holder(self) -> Optional[Holder]:
        for path in (self.lock, os.path.join(self.lock, HOLDER)):
            try:
                with open(path, 'rb') as file:
                    return read_holder(file.read(MOST_OF_LOCK))
            except OSError:
                continue  # it is a folder, or there is none any more
        return None

    def require_locked(self) -> None:
        if self._handle is None or not _is_at(self._handle, self.lock):
            raise self.lost_lock()

    def unlock(self) -> None:
        if self._handle is not None:
            if _is_at(self._handle, self.lock):
                remove(self.lock)  # before it is free: whoever waits looks whether it is still there
            self.forget_lock()

    def forget_lock(self) -> None:
        if self._handle is not None:
            os.close(self._handle)  # a child's is another handle of the same lock, which the parent keeps
            self._handle = None


def _locked(handle: int) -> bool:
    """Lock an open file, and tell whether nobody else has."""
    try:
        if sys.platform != 'win32':
            import fcntl
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            import msvcrt
            os.lseek(handle, MOST_OF_LOCK, os.SEEK_SET)  # a byte far behind the text, which everybody can go on reading
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
    except (BlockingIOError, PermissionError):  # the second on Windows
        return False
    return True


def _is_at(handle: int, path: str) -> bool:
    """Tell whether an open file is still the one at the path."""
    try:
        there, here = os.stat(path), os.fstat(handle)
    except OSError:
        return False
    return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)
