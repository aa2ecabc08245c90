"""RemoteFile: a file that fsspec reaches, on an FTP server or in S3 say. Knows protocols by what can be told to them.

A connection is made for each call and ended with it: so none is shared by threads, inherited by a fork, or lost while
nobody looks, and a vault that is only kept open holds none.

Where the protocol renames, as FTP and SFTP do, the file is written under another name beside it, and takes its place by
renaming; its lock is a folder, because making one is what such servers do for one alone. Where it does not, as object
stores, putting is all or nothing already; the lock is an object that is put only where none is.
"""
from __future__ import annotations

import sys
import warnings
from contextlib import contextmanager

from ... import log
from ...errors import VaultError, VaultFullError, VaultUnreachableError, VaultUnsureError, VaultValueError
from .holder import read_holder
from .place import LOCK, PART, FilePlace
from .server import (
    can_rename,
    content_at,
    disconnect,
    is_refusal,
    make_lock,
    release,
    require_absent,
    text_of_lock,
    tidy,
    upload,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, Iterator, List, Optional, Set, Tuple

    from .holder import Holder

_left: Set[str] = set()     # what tells the locks that this process could not give back from those that it has
LEAST_WAIT = 1.0    # seconds for a server to answer, however small the timeout: to a socket 0 means another thing
OFTEN = 'timeout', 'banner_timeout', 'auth_timeout'
# What the classes of fsspec are told of a timeout in seconds, by protocol.
TOLD: Dict[str, Callable[[float], Dict[str, Any]]] = {
    'ftp': lambda seconds: {'timeout': seconds},
    **dict.fromkeys(('sftp', 'ssh'), lambda seconds: dict.fromkeys(OFTEN, seconds)),
    **dict.fromkeys(('s3', 's3a'), lambda seconds: {'config_kwargs': {'connect_timeout': seconds,
                                                                      'read_timeout': seconds}}),
}
UNTOLD: Callable[[float], Dict[str, Any]] = lambda seconds: {}


class RemoteFile(FilePlace):
    """A file at a URL of fsspec. For one thread at a time."""

    def __init__(self, url: str, shown_as: str, timeout: float) -> None:
        super().__init__(shown_as, timeout)
        self._url = url
        self._held: Optional[Holder] = None

    def read(self) -> Optional[bytes]:
        with self._connected() as (fs, path):
            return content_at(fs, path)

    def replace(self, data: bytes) -> None:
        with self._connected() as (fs, path):
            if can_rename(fs):
                try:
                    upload(fs, f'{path}{PART}', data)
                    steps: Callable[[], object] = lambda: fs.mv(f'{path}{PART}', path)
                except BaseException:
                    tidy(fs.rm_file, f'{path}{PART}')
                    raise
            else:
                steps = lambda: fs.pipe_file(path, data)
            try:
                steps()
            except Exception as error:
                self._settle(data, error)

    def _settle(self, data: bytes, error: Exception) -> None:
        """Find out whether what failed has replaced the file all the same. Raises: unless it has."""
        try:
            if self.read() == data:
                return
        except VaultError as unread:
            log.get_logger().debug('what became of %s cannot be seen: %s', self.shown, unread)
        if is_refusal(error):
            raise VaultFullError(f'the server does not let the file be replaced, and it is as it was: '
                                 f'{self._said(error)}: vault {self.shown}; see that there is room, that you may write '
                                 'there, and that the server replaces a file by renaming another one') from error
        raise VaultUnsureError(f'the connection was lost while the file was replaced, and nobody can tell whether it '
                               f'was: {self._said(error)}: vault {self.shown}; sync() once more writes it in either '
                               'case') from error

    def remove(self) -> None:
        with self._connected() as (fs, path):
            if content_at(fs, path) is not None:
                fs.rm_file(path)

    def names(self) -> List[str]:
        """Return the names of what is in the folder that the URL is of."""
        with self._connected() as (fs, path):
            try:
                found = fs.ls(path, detail=False)
            except FileNotFoundError as error:
                require_absent(error)
                return []
            return [str(one).rstrip('/').rpartition('/')[2] for one in found]

    # --- the lock ---

    def try_lock(self, mine: Holder) -> bool:
        with self._connected() as (fs, path):
            if not make_lock(fs, f'{path}{LOCK}', mine) and not self._inherit(fs, f'{path}{LOCK}', mine):
                return False
        self._held = mine
        return True

    def _inherit(self, fs: Any, lock: str, mine: Holder) -> bool:
        """Take the lock of a process of this system that has ended, or one that was left here; tell if that went well.

        Of several that see this at once, one makes a second lock, named after that holding; and looks again, as another
        may have done it all in between.
        """
        dead = read_holder(text_of_lock(fs, lock))
        if dead is None or not (dead.token in _left or dead.is_gone()):
            return False
        if not make_lock(fs, f'{lock}.{dead.token}', mine):
            return False
        try:
            again = read_holder(text_of_lock(fs, lock))
            if again is None or again.token != dead.token:
                return False
            release(fs, lock)
            return make_lock(fs, lock, mine)
        finally:
            release(fs, f'{lock}.{dead.token}')

    def holder(self) -> Optional[Holder]:
        with self._connected() as (fs, path):
            return read_holder(text_of_lock(fs, f'{path}{LOCK}'))

    def require_locked(self) -> None:
        holder = self.holder()
        if self._held is None or holder is None or holder.token != self._held.token:
            raise self.lost_lock()

    def unlock(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            _left.add(held.token)
            with self._connected() as (fs, path):
                there = read_holder(text_of_lock(fs, f'{path}{LOCK}'))
                if there is not None and there.token == held.token:
                    release(fs, f'{path}{LOCK}')
            _left.discard(held.token)

    def forget_lock(self) -> None:
        self._held = None

    # --- connections ---

    @contextmanager
    def _connected(self) -> Iterator[Tuple[Any, str]]:
        """Give a connection, as fsspec has it, and the path there; what goes wrong is an error of ours."""
        fs, path = self._connect()
        try:
            yield fs, path
        except (VaultError, ImportError):
            raise
        except Exception as error:
            if is_refusal(error):
                raise VaultFullError(f'the server refuses it, and nothing was changed: {self._said(error)}: vault '
                                     f'{self.shown}; see that the folder is there, that you may write in it, and that '
                                     'there is room') from error
            raise VaultUnreachableError(f'the connection to the server was lost, and nothing was changed: '
                                        f'{self._said(error)}: vault {self.shown}; repeat it when the server answers'
                                        ) from error
        finally:
            disconnect(fs)

    def _connect(self) -> Tuple[Any, str]:
        try:
            from fsspec.core import url_to_fs
        except ImportError as error:
            raise ImportError(f"{error}: a vault in a file elsewhere needs it, pip install 'vaults[files]'") from error
        from urllib.parse import unquote
        protocol, _, rest = self._url.partition('://')
        told = TOLD.get(protocol, UNTOLD)(max(self.timeout, LEAST_WAIT))
        host, slash, path = rest.partition('/')
        user, _, host = host.rpartition('@')
        for name, part in zip(('username', 'password'), user.split(':', 1)):
            told = {**told, name: unquote(part)}  # fsspec would leave it quoted
        try:
            with _unwarned():
                fs, path = url_to_fs(f'{protocol}://{host}{slash}{path}', skip_instance_cache=True, **told)
                return fs, unquote(path)
        except ImportError as error:
            raise ImportError(f'{error}: the package of fsspec for {protocol}://, which the vault {self.shown} needs'
                              ) from error
        except Exception as error:
            if isinstance(error, ValueError) and 'rotocol' in f'{error}':
                raise VaultValueError(f'fsspec knows no protocol {protocol}://: vault {self.shown}; its documentation '
                                      'lists those that there are') from error
            raise VaultUnreachableError(f'the server cannot be reached, or does not let you in: {self._said(error)}: '
                                        f'vault {self.shown}; see that it runs there, and that user and password are '
                                        'right') from error

    def _said(self, error: BaseException) -> str:
        """Return what an error says, or what it is called; without the password, should it be in it."""
        from urllib.parse import unquote
        text = f'{error}' or type(error).__name__
        password = self._url.partition('://')[2].rpartition('@')[0].partition(':')[2]
        # Of one with a "/" that is not quoted, what is before it would be taken for a port.
        for secret in filter(None, (password, unquote(password), *password.split('/'))):
            text = text.replace(secret, '...')
        return text


@contextmanager
def _unwarned() -> Iterator[None]:
    """Be silent on Python 3.8, whose FTP knows no encoding: fsspec warns each time. Elsewhere change nothing."""
    if sys.version_info >= (3, 9):
        yield
    else:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', UserWarning)
            yield
