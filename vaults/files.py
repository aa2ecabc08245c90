"""Files: how one is written whole or not at all, who may read a copy, what shows a change. Knows not what is in them.

A file that is being written has another name, PATH.partial, which it loses when it is whole. Whoever is killed leaves
that one behind; whoever fails leaves nothing. What has its name for good survives a power cut: the file was synced
before, and the folder is afterwards. It is no wider open than what it is a copy of, from its first moment on.
"""
from __future__ import annotations

import os

from . import log
from .errors import VaultError, VaultReadOnlyError, VaultValueError, occupied, unwritten

TYPE_CHECKING = False
if TYPE_CHECKING:
    import io
    from types import TracebackType
    from typing import Iterable, List, Optional, Sequence, TextIO, Tuple, Type, Union

    Stamp = Tuple[int, int, int]  # inode, bytes, time of the last change


class NewFile:
    """A file that appears whole when a `with` block ends well, and otherwise not at all. For one thread.

    What is written in the block goes to the path `part`, or into one of the file objects that this gives.
    """

    def __init__(self, path: str, *sources: str, what: Optional[str] = None, beside: Sequence[str] = (),
                 most: Optional[int] = 0o666, replaces: bool = False) -> None:
        """Take the place at the absolute `path`, of a copy of `sources`.

        `what` is done, for the VaultFullError that an OSError becomes; without it the OSErrors are the caller's.
        `beside`: the endings of files that whatever writes it may make beside it. They are none of the new file's, so
        there may be none there before, and none stays.
        `most`: the widest mode that it may have; None leaves it to whatever writes it to make the file.
        `replaces`: what is at the path stays there until the new file, which gets its mode, takes its place.

        Raises: VaultError when the place is taken.
        """
        if '\0' in path:
            raise VaultValueError(f'{path!r} is no path, because of the NUL in it: give another path')
        self.path = path
        # Several may replace a file at a time, each by a part of its own.
        self.part = f'{path}.{os.urandom(4).hex()}.partial' if replaces else f'{path}.partial'
        self._sources = (path,) if replaces and os.path.exists(path) else sources
        self._what, self._beside, self._most, self._replaces = what, beside, most, replaces
        self._file: Union[TextIO, io.FileIO, None] = None
        for taken in () if replaces else (path, self.part):
            for ending in ('', *beside):
                if os.path.lexists(taken + ending):
                    raise occupied(taken + ending)

    def __enter__(self) -> NewFile:
        try:
            if self._most is not None:
                make_copy(self.part, *self._sources, most=self._most)
        except FileExistsError:
            raise occupied(self.part) from None  # somebody else's, who was a moment earlier
        except BaseException as error:
            self._discard()
            self._explain(error)
            raise
        return self

    def text(self) -> TextIO:
        """Return the file to write text to, in UTF-8, on every system with the line ends that are written."""
        self._file = file = open(self.part, 'w', encoding='utf-8', newline='\n')  # noqa: SIM115  # __exit__ closes it
        return file

    def raw(self) -> io.FileIO:
        """Return the file to write bytes to, unbuffered."""
        self._file = file = open(self.part, 'wb', buffering=0)  # noqa: SIM115  # __exit__ closes it
        return file

    def __exit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException],
                 trace: Optional[TracebackType]) -> None:
        try:
            try:
                if error is None:
                    self._appear()
            finally:
                self._discard()
        except OSError as failed:
            self._explain(failed)
            raise
        self._explain(error)

    def _appear(self) -> None:
        """Give what is written its mode, then its name, each so that a power cut cannot take it away."""
        if self._file is not None:
            self._file.flush()
        end_copy(self.part, *self._sources)
        if self._replaces and os.path.exists(self.path):
            there = os.stat(self.path)
            if there.st_gid == os.stat(self.part).st_gid:
                os.chmod(self.part, there.st_mode & 0o7777)  # what the umask took away as well
        if self._file is not None:  # else whatever writes it has synced it, as SQLite does
            os.fsync(self._file.fileno())
            self._file.close()
        (os.replace if self._replaces else os.rename)(self.part, self.path)
        sync_folder(self.path)

    def _discard(self) -> None:
        """Let go of all that has not become the file."""
        if self._file is not None:
            try:
                self._file.close()
            except OSError as error:  # what it still holds cannot be written either, and is not wanted
                log.get_logger().debug('%s cannot be closed: %s', self.part, error)
        for ending in ('', *self._beside):
            remove(self.part + ending)

    def _explain(self, error: Optional[BaseException]) -> None:
        """Raise the error of ours that an OSError means to whoever wanted the file."""
        if self._what and isinstance(error, OSError) and not isinstance(error, VaultError):
            raise unwritten(self._what, error) from error


def remove(path: str) -> None:
    """Delete a file if it is there; where that fails, the log says so, since what went wrong before it says more."""
    try:
        os.unlink(path)
    except OSError as error:
        if os.path.lexists(path):  # not where there is nothing, nor can be: no folder, too long a name
            log.get_logger().warning('%s cannot be removed: %s', path, error)


def require_removable(path: str) -> None:
    """Raise VaultReadOnlyError where there is a file at the path, in a folder that may not be written."""
    if os.path.lexists(path) and not os.access(os.path.dirname(path), os.W_OK):
        raise VaultReadOnlyError(f'{path} cannot be deleted: you may not write its folder; have that granted')


def sync_folder(path: str) -> None:
    """Have a file's new name survive a power cut. Where a folder cannot be synced, as on Windows, it is not."""
    try:
        folder = os.open(os.path.dirname(path), os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(folder)
    except OSError as error:
        log.get_logger().warning('the folder of %s could not be synced: %s', path, error)
    finally:
        os.close(folder)


# --- changes ------------------------------------------------------------------------------------------------------

def stamp(path: str) -> Stamp:
    """Return what changes when somebody writes the file, or puts another in its place. Raises: OSError."""
    status = os.stat(path)
    return status.st_ino, status.st_size, status.st_mtime_ns


def stamps(paths: Iterable[str]) -> List[Optional[Stamp]]:
    """Return the stamp of each file, None of one that is not there. Raises: OSError."""
    return [stamp(path) if os.path.exists(path) else None for path in paths]


# --- copies -------------------------------------------------------------------------------------------------------
# A copy belongs to who makes it, as one of `cp` does, and its group is the one that its folder gives. Where that is not
# the source's group, neither it nor all others get more than both had. It is made with its mode, less what the umask
# takes away: made wide and narrowed later, it could be read on by whoever had opened it in between.

def make_copy(path: str, *sources: str, most: int = 0o666) -> None:
    """Make an empty file at `path`, where nothing is yet, no wider open than any of `sources` and the mode `most`.

    Whoever makes it may read and write it; `end_copy` takes that away where it is not so of the source.

    Raises: OSError.
    """
    narrow = _mode(sources, None) & most
    group = _made(path, narrow)
    mode = _mode(sources, group) & most
    if mode != narrow:
        os.unlink(path)
        _made(path, mode)


def narrow_copy(path: str, *sources: str) -> None:
    """Make a file that others have made, and that is still empty, no wider open than its sources. Raises: OSError."""
    status = os.stat(path)
    narrow = status.st_mode & 0o777 & (_mode(sources, status.st_gid) | 0o600)
    if narrow != status.st_mode & 0o777:
        os.chmod(path, narrow)


def end_copy(path: str, *sources: str) -> None:
    """Make a whole copy as closed to its owner, too, as its sources are."""
    here, there = os.stat(path).st_mode & 0o777, 0o777
    for source in sources:
        there &= os.stat(source).st_mode
    if here & 0o600 & ~there:
        os.chmod(path, here & (there | 0o077))


def _made(path: str, mode: int) -> int:
    """Make the file; return its group."""
    handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode | 0o600)
    try:
        return os.fstat(handle).st_gid
    finally:
        os.close(handle)


def _mode(sources: Sequence[str], group: Optional[int]) -> int:
    """Return the mode of a copy that gets this group."""
    mode = 0o666
    for source in sources:
        status = os.stat(source)
        both = status.st_mode >> 3 & status.st_mode & 0o7
        same = status.st_gid == group and not _has_list(source)
        mode &= status.st_mode if same else status.st_mode & 0o700 | both * 0o11
    return mode


def _has_list(path: str) -> bool:
    """Tell whether there is a list of who else may what: then the group's bits are the most that any of them may."""
    try:
        return 'system.posix_acl_access' in os.listxattr(path)
    except (AttributeError, OSError):  # only Linux tells, and not of every file system
        return False
