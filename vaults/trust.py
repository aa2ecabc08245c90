"""Trust: whether somebody else may have written a file, and so the pickles in it. Reads modes, never the file.

The rule is what OpenSSH does with keys: the file is yours or root's and nobody else may write it, and the same goes
for its folder, which others may write only if it is sticky. A group that has no member but you is nobody else.
"""
from __future__ import annotations

import os
import stat

from .errors import UntrustedPickleError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional

CURE = ('pass allow_pickle=True if you trust everybody who may, allow_pickle=[types] to resolve those alone, '
        'or take the permission away')


def require(path: str) -> None:
    """Pass when nobody else may have written the file at `path`.

    Raises: UntrustedPickleError, which says who may, and what to do.
    """
    reason = untrusted(path)
    if reason:
        raise UntrustedPickleError(f'pickles are not read or written in {path}: {reason}; {CURE}')


def untrusted(path: str) -> Optional[str]:
    """Return why somebody else may have written the file at `path`, or None."""
    if not hasattr(os, 'geteuid'):
        return 'this system does not tell who may write a file'
    real = os.path.realpath(path)
    folders = {os.path.dirname(real), os.path.dirname(os.path.abspath(path))}
    for place in [real, *(real + suffix for suffix in ('-wal', '-journal')), *sorted(folders)]:
        try:
            reason = _written_by_others(place)
        except FileNotFoundError:
            continue
        if reason:
            return reason
    return None


def _written_by_others(place: str) -> Optional[str]:
    status = os.stat(place)
    what = f'the folder {place}' if stat.S_ISDIR(status.st_mode) else f'the file {place}'
    if status.st_uid not in (os.geteuid(), 0):
        return f'{what} belongs to user {status.st_uid}, not to you'
    if stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX:
        return None
    if status.st_mode & stat.S_IWOTH:
        return f'everybody may write {what}'
    if status.st_mode & stat.S_IWGRP and not _is_private(status.st_gid):
        return f'the group {status.st_gid} may write {what}'
    return None


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
