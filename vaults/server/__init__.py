"""The server: the vaults of a root over HTTP, as an ASGI application, for other programs and other machines.

Knows what a vault is stored as, and builds no object of it: values travel as the bytes that they are stored as, or as
their JSON. `vaults serve` runs it; docs/server.md has all that it answers.
"""
from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Iterable, Optional, Union

    from .access import Allowed, TokensGiven
    from .application import Application

__all__ = ['app']


def app(root: Union[str, os.PathLike[str]], tokens: TokensGiven = None, *, allow: Allowed = None,
        hosts: Iterable[str] = (), origins: Iterable[str] = (), max_body: int = 64 << 20,
        max_stream: Optional[int] = None, timeout: float = 5.0) -> Application:
    """Return the ASGI application that serves the vaults of a root.

    `root`: a folder, as for `set_root_path`, or the URL of a root, but of no server of vaults.
    `tokens`: who may do what, {'the-token': {'books': 'r', '*': 'rw'}}; or the path of a file of JSON that holds it,
    read again when it changes. Without tokens only this machine is served.
    `allow`: the addresses and networks that may ask, all by default; the path of a file that has one a line, read again
    when it changes; or a function of an address.
    `hosts`: names, beside those of this machine, by which it is asked: what a header Host may hold, but for its port;
    '*' is any.
    `origins`: pages that may ask, as 'https://example.org': what a header Origin may hold.
    `max_body`, `max_stream`: bytes of a request that are taken, of a stream by default all that there is room for, and
    no less than of a body.
    `timeout`: seconds to wait for other writers.

    Raises: VaultTypeError and VaultValueError for what makes no sense, OSError for a file that cannot be read.
    """
    application = room_of('application').Application
    access = room_of('access').Access(tokens, allow, hosts, origins)
    return application(os.fspath(root), access, max_body, max_stream, timeout)  # type: ignore[no-any-return]


def room_of(name: str) -> Any:
    """Return a room of the server, which needs packages of its own. Raises: ImportError with the extra to install."""
    from importlib import import_module
    try:
        return import_module(f'.{name}', __package__)
    except ImportError as error:
        raise ImportError(f"the server needs packages of its own: pip install 'vaults[server]' ({error})") from error
