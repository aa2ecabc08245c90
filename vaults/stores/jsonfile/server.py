"""Servers: what is asked of one, through a connection as fsspec has it, and what its answers mean.

A protocol is known by what its class can do: whether it renames. Where fsspec says less than the server did, as of FTP,
the answer behind it is looked at.
"""
from __future__ import annotations

import sys

from ... import log
from .holder import packed_holder
from .local import HOLDER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Optional

    from .holder import Holder


def can_rename(fs: Any) -> bool:
    """Tell whether the protocol renames: whether its class does so itself, rather than by copying and deleting."""
    from fsspec.spec import AbstractFileSystem
    return type(fs).mv is not AbstractFileSystem.mv


def upload(fs: Any, path: str, data: bytes) -> None:
    """Write a file in one go: in pieces, FTP would be asked to go on in the middle, which not every server can."""
    with fs.open(path, 'wb', block_size=len(data) + 1) as file:
        file.write(data)


def content_at(fs: Any, path: str) -> Optional[bytes]:
    """Return what is in a file, None where there is none; that one cannot be read is another thing."""
    try:
        data: bytes = fs.cat_file(path)
        return data
    except FileNotFoundError as error:
        require_absent(error)
        if is_there(fs, path):
            raise PermissionError(f'{path} is there, and cannot be read') from error
        return None


def is_there(fs: Any, path: str) -> bool:
    """Tell whether there is anything at the path, by looking into the folder."""
    fs.invalidate_cache()
    try:
        fs.info(path)
    except FileNotFoundError as error:
        require_absent(error)
        return False
    return True


def require_absent(error: FileNotFoundError) -> None:
    """Raise unless it means what it says: fsspec makes it of each error that an FTP server answers with."""
    reply = error.__cause__
    if is_reply(reply) and not f'{reply}'.startswith('550'):
        raise ConnectionError(f'{reply}') from error


def is_reply(error: Optional[BaseException]) -> bool:
    """Tell whether it is one that an FTP server has answered with."""
    ftplib = sys.modules.get('ftplib')
    return ftplib is not None and isinstance(error, ftplib.Error)


def is_refusal(error: BaseException) -> bool:
    """Tell whether a server has answered that it does not do it, rather than not answered."""
    if is_reply(error):
        return f'{error}'[:1] == '5' or f'{error}'[:3] in ('450', '451', '452')
    return isinstance(error, OSError) and not isinstance(error, (ConnectionError, TimeoutError)) and bool(
        isinstance(error, (PermissionError, FileNotFoundError, FileExistsError, IsADirectoryError)) or error.errno)


# --- locks on a server: a folder with a file in it, or an object ----------------------------------------------------

def make_lock(fs: Any, lock: str, mine: Holder) -> bool:
    """Make a lock; tell whether there was none."""
    if not can_rename(fs):
        try:
            fs.pipe_file(lock, packed_holder(mine), mode='create')
        except FileExistsError:
            return False
        return True
    for last in (False, False, True):
        try:
            fs.mkdir(lock, create_parents=False)
            break
        except Exception as error:
            if is_refusal(error) and is_there(fs, lock):
                return False
            if last or not is_refusal(error):
                raise  # otherwise it may have been there, and been given back before it was looked at
    try:
        upload(fs, f'{lock}/{HOLDER}', packed_holder(mine))
    except BaseException:
        tidy(fs.rmdir, lock)  # nobody could tell whose it is
        raise
    return True


def text_of_lock(fs: Any, lock: str) -> Optional[bytes]:
    """Return what stands in a lock, also in one that a program on the server has made."""
    for path in (f'{lock}/{HOLDER}', lock) if can_rename(fs) else (lock,):
        try:
            data: bytes = fs.cat_file(path)
            return data
        except FileNotFoundError as error:
            require_absent(error)
        except (IsADirectoryError, PermissionError):
            continue
    return None


def release(fs: Any, lock: str) -> None:
    """Remove a lock: also one of a program on the server itself, which is a file there."""
    fs.invalidate_cache()
    if can_rename(fs) and fs.info(lock)['type'] == 'directory':
        fs.rm_file(f'{lock}/{HOLDER}')
        fs.rmdir(lock)
    else:
        fs.rm_file(lock)


def tidy(delete: Callable[[str], object], path: str) -> None:
    """Delete what is half made; where that fails, the log says so, since what went wrong before it says more."""
    try:
        delete(path)
    except Exception as error:
        log.get_logger().debug('%s cannot be removed: %s', path, error)


def disconnect(fs: Any) -> None:
    """End a connection, where fsspec's class keeps one: that of FTP, and that of SFTP."""
    for connection in (getattr(fs, 'ftp', None), getattr(fs, 'client', None)):
        if connection is not None:
            connection.close()
