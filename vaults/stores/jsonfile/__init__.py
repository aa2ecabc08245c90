"""A whole vault in one file, JSON or msgpack, here or where fsspec reaches: finds the place and the layout of a URL.

`json+file:///folder/notes.json`, `json+ftp://user@host/folder/notes.json`, `msgpack+s3://bucket/notes.msgpack`. The
rooms of this engine: the store, layouts, places here and elsewhere, and who holds a lock.
"""
from __future__ import annotations

import os

from ...errors import VaultError, VaultValueError
from ..urls import without_password
from .layout import LAYOUTS
from .local import LocalFile
from .remote import RemoteFile
from .store import FileStore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import List, Tuple

    from ..base import Options
    from .place import FilePlace

HERE = ('file', 'local')    # the protocols of paths of this system, for which no fsspec is needed


def open_store(target: str, options: Options) -> FileStore:
    """Open the vault in the file at a URL. Raises: VaultValueError for what is none, and what opening a vault does."""
    layout, protocol, rest = _parts(target)
    _, slash, file = rest.rpartition('/')
    if not file or not (slash or protocol in HERE):
        raise VaultValueError(f'{without_password(target)} names a folder: the URL of a vault ends in the name of a '
                              f'file, as NAME.{LAYOUTS[layout].ending}')
    return FileStore(_place(target, protocol, rest, options), LAYOUTS[layout], options)


def named(root: str, name: str) -> str:
    """Return the URL of the vault of that name in a folder."""
    from urllib.parse import quote
    layout, _, _ = _parts(root)
    return f'{root.rstrip("/")}/{quote(name)}.{LAYOUTS[layout].ending}'


def names(root: str, options: Options) -> List[str]:
    """Return the names of the vaults in a folder; none where there is no such folder."""
    layout, protocol, rest = _parts(root)
    place = _place(root, protocol, rest, options)
    ending = f'.{LAYOUTS[layout].ending}'
    found = place.names() if isinstance(place, RemoteFile) else _files_in(_path(root, rest))
    return sorted(name[:-len(ending)] for name in found if name.endswith(ending) and name != ending)


def _parts(target: str) -> Tuple[str, str, str]:
    """Return the layout, the protocol, and what is behind it."""
    scheme, _, rest = target.partition('://')
    layout, _, protocol = scheme.lower().partition('+')
    if layout not in LAYOUTS or not protocol:
        raise VaultValueError(f'{without_password(target)} says no protocol of a file: it is json+file:///..., '
                              'json+ftp://..., msgpack+s3://... and the like')
    return layout, protocol, rest


def _place(target: str, protocol: str, rest: str, options: Options) -> FilePlace:
    shown_as = without_password(target)
    if protocol in HERE:
        return LocalFile(_path(target, rest), shown_as, options.timeout)
    return RemoteFile(f'{protocol}://{rest}', shown_as, options.timeout)


def _path(target: str, rest: str) -> str:
    """Return the path that a URL of this system means."""
    from urllib.parse import unquote
    host, slash, path = rest.partition('/')
    if host not in ('', 'localhost') or not slash:
        raise VaultValueError(f'{without_password(target)} names the host {host!r}: the URL of a file here has three '
                              'slashes and an absolute path, as pathlib.Path(...).absolute().as_uri() makes it')
    return unquote(path if os.name == 'nt' else f'/{path}')


def _files_in(folder: str) -> List[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise VaultError(f'the folder of vaults cannot be listed: {error}; see that it is one, and that you may read it'
                         ) from error
