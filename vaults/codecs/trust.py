"""Trust: who may write a file, and so the pickles in it, and who may read a copy of it. Reads modes, never the file.

The rule is what OpenSSH does with keys: the file is yours or root's and nobody else may write it, and the same goes for
every folder up to the root, since whoever may write one can put another folder in the place of what is below. Others
may write a folder if it is sticky, where they cannot rename what is not theirs. Links are followed as the system does:
every folder that holds one on the way counts, too. A group that has no member but you is nobody else.
"""
from __future__ import annotations

import os
import stat

from ..errors import UntrustedPickleError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterator, Optional, Sequence

CURE = ('pass allow_pickle=True if you trust everybody who may write there, or allow_pickle=[types] to resolve those '
        'alone')
LINKS = 40  # on the way to a file, as many as Linux follows


def require(path: str) -> None:
    """Pass when nobody else may have written the file at `path`.

    Raises: UntrustedPickleError, which says who may, and what to do.
    """
    reason = untrusted(path)
    if reason:
        raise UntrustedPickleError(f'pickles are not read or written in {path}: {reason}, or {CURE}')


def untrusted(path: str) -> Optional[str]:
    """Return why somebody else may have written the file at `path`, and how to mend that, or None."""
    if not hasattr(os, 'geteuid'):
        return 'this system does not tell who may write a file'
    try:
        way = list(_way(os.path.abspath(path)))
    except RecursionError:
        return f'more than {LINKS} links lead to it: give the path that they end at'
    for place in [way[-1], f'{way[-1]}-wal', f'{way[-1]}-journal', *reversed(way[:-1])]:
        try:
            reason = _written_by_others(place)
        except FileNotFoundError:
            continue
        if reason:
            return reason
    return None


def _way(path: str) -> Iterator[str]:
    """Yield the folders and links on the way to the file, as the system goes it, and last the file itself."""
    at, rest, links = os.sep, path.split(os.sep)[::-1], 0
    while rest:
        yield at
        name = rest.pop()
        step = os.path.dirname(at) if name == os.pardir else os.path.join(at, name) if name not in ('', '.') else at
        if not os.path.islink(step):
            at = step
            continue
        yield step
        links += 1
        if links > LINKS:
            raise RecursionError
        target = os.readlink(step)
        at = os.sep if os.path.isabs(target) else at
        rest += target.split(os.sep)[::-1]
    yield at


def _written_by_others(place: str) -> Optional[str]:
    status = os.lstat(place)
    is_folder, is_link = stat.S_ISDIR(status.st_mode), stat.S_ISLNK(status.st_mode)
    what = f"the {'folder' if is_folder else 'link' if is_link else 'file'} {place}"
    if status.st_uid not in (os.geteuid(), 0):
        return f"{what} belongs to user {status.st_uid}, not to you; keep the vault where all is yours or root's"
    if is_link or (is_folder and status.st_mode & stat.S_ISVTX):
        return None
    if status.st_mode & stat.S_IWOTH:
        return f'everybody may write {what}; take that away with `chmod o-w {_quoted(place)}`'
    if status.st_mode & stat.S_IWGRP and not _is_private(status.st_gid):
        return f'the group {status.st_gid} may write {what}; take that away with `chmod g-w {_quoted(place)}`'
    return None


def _quoted(place: str) -> str:
    from shlex import quote
    return quote(place)


def _is_private(gid: int) -> bool:
    """Tell whether the group has no member but the user: neither by its list nor as anybody's own group."""
    import grp
    import pwd
    try:
        me = pwd.getpwuid(os.geteuid())
        members = set(grp.getgrgid(gid).gr_mem)
    except KeyError:
        return False
    return me.pw_gid == gid and members <= {me.pw_name} and all(
        user.pw_uid == me.pw_uid for user in pwd.getpwall() if user.pw_gid == gid)


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
