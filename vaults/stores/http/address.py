"""Where a vault is: what a URL says of the server and the vault. Opens nothing.

The trap: what is secret belongs in no URL, which errors and logs show. A token comes by `token=` or VAULTS_TOKEN.
"""
from __future__ import annotations

import os
from urllib.parse import quote, unquote, urlsplit

from ...errors import VaultValueError
from ..urls import without_password

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional

TOKEN_VARIABLE = 'VAULTS_TOKEN'


class ServerAddress:
    """The server of a URL, the path before its /v1, and the vault's name. Never changed, so safe in any thread."""

    def __init__(self, url: str, *, is_root: bool = False) -> None:
        """Raises: VaultValueError for what is no such URL."""
        self.shown = without_password(url)
        if not (url.isascii() and url.isprintable()) or ' ' in url:
            raise self._wrong('what has other characters than letters and digits is percent-encoded')
        parts = urlsplit(url)
        if '@' in parts.netloc:
            raise self._wrong(f'a token is no part of it: give it by token=, or in the variable {TOKEN_VARIABLE}')
        if parts.query or parts.fragment or not parts.hostname:
            raise self._wrong('there is a host, a path, and nothing behind that')
        self.is_secure, self.host, self.port = parts.scheme.lower() == 'https', parts.hostname, self._port(parts)
        base, _, last = parts.path.rstrip('/').rpartition('/') if not is_root else (parts.path.rstrip('/'), '', '')
        self.base, self.vault = base, unquote(last)
        if not is_root and not self.vault:
            raise self._wrong('the last part of its path is the name of the vault')

    def _port(self, parts: object) -> Optional[int]:
        try:
            return parts.port  # type: ignore[attr-defined, no-any-return]  # what urlsplit gives
        except ValueError:
            raise self._wrong('a port is a number up to 65535') from None

    def _wrong(self, what: str) -> VaultValueError:
        return VaultValueError(f'the URL of a vault on a server is https://host/NAME, perhaps with a port, and with a '
                               f'path before the name: {self.shown}; {what}')

    def path(self, rest: str = '') -> str:
        """Return the path of the vault on the server, or of what is below it."""
        return f'{self.base}/v1/vaults/{quote(self.vault, safe="")}{rest}'

    def known_token(self, given: Optional[str]) -> str:
        """Return the token that was given, or that the environment has; '' for none. Raises: VaultValueError."""
        token = os.environ.get(TOKEN_VARIABLE, '') if given is None else given
        if not (token.isascii() and token.isprintable()) or ' ' in token:
            raise VaultValueError(f'the token for {self.shown} holds what no header can: it has letters, digits and '
                                  'signs, and neither spaces nor line ends; see where it comes from')
        return token


