"""Files: who may read a copy of one. Reads modes, and makes empty files. Knows not what is in them."""
from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional, Sequence


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
