"""Trust: who may write a file, and so the pickles in it. Reads modes, never the file; knows no store.

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
    from typing import Iterator, Optional

ALLOWANCE = ('pass allow_pickle=True if you trust everybody who may write there, or allow_pickle=[types] to resolve '
             'those alone')
LINKS = 40  # on the way to a file, as many as Linux follows


def require(path: str, *beside: str) -> None:
    """Pass when nobody else may have written the file at `path`, nor what is read with it, `beside` it.

    Raises: UntrustedPickleError, which says who may, and what to do.
    """
    reason = untrusted(path, *beside)
    if reason:
        raise UntrustedPickleError(f'pickles are not read or written in {path}: {reason}, or {ALLOWANCE}')


def untrusted(path: str, *beside: str) -> Optional[str]:
    """Return why somebody else may have written the file at `path`, or one of those beside it, and how to mend that.

    None when nobody may. The files beside it, which need not be there, are in its folder: where a link ends, in that.
    """
    if not hasattr(os, 'geteuid'):
        return 'this system does not tell who may write a file'
    try:
        way = list(_way(os.path.abspath(path)))
    except RecursionError:
        return f'more than {LINKS} links lead to it: give the path that they end at'
    for place in [way[-1], *beside, *reversed(way[:-1])]:
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
