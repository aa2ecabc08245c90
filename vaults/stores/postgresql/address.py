"""Where a vault is: what a URL says of the server, the database and the vault. Knows libpq's words, and opens nothing.

The trap: a URL may hold a password, and libpq's errors about a URL quote it. So what is shown is `shown`, and where
libpq cannot read a URL its words are left out. What is handed to libpq is kept in one attribute, that nothing shows.
"""
from __future__ import annotations

import os
from urllib.parse import quote, unquote

import psycopg
from psycopg import pq

from ...errors import VaultValueError
from ..urls import without_password

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, List

MOST_OF_NAME = 255          # bytes of a vault's name
PARAMETER = 'vault'         # of the URL, that is ours; all others are libpq's
PER_HOST = ('host', 'hostaddr', 'port')
# Where the URL says nothing else. A machine that is gone answers nothing, which TCP alone would take 15 minutes to see.
DEFAULTS = {'fallback_application_name': 'vaults', 'keepalives_idle': '30', 'keepalives_interval': '10',
            'keepalives_count': '3', 'tcp_user_timeout': '30000'}


class Address:
    """The server, the database and the vault of a URL. Never changed, so safe in any thread."""

    def __init__(self, url: str, *, is_root: bool = False) -> None:
        self.shown = without_password(url)
        start, mark, query = url.partition('?')
        items = [item for item in query.split('&') if item]
        self.vault = self._vault([unquote(item[len(PARAMETER) + 1:]) for item in items if _is_ours(item)], is_root)
        kept = '&'.join(item for item in items if not _is_ours(item))
        scheme, _, rest = start.partition('://')
        self._options = self._parsed(f'{scheme.lower()}://{rest}{mark if kept else ""}{kept}')
        self._require_database()

    def _vault(self, given: List[str], is_root: bool) -> str:
        if is_root and not given:
            return ''
        if len(given) != 1 or not given[0] or len(given[0].encode(errors='replace')) > MOST_OF_NAME or '\0' in given[0]:
            raise VaultValueError(f'the URL is to name one vault in the database, ?{PARAMETER}=NAME, of at most '
                                  f'{MOST_OF_NAME} bytes: {self.shown}')
        return given[0]

    def _parsed(self, url: str) -> Dict[str, str]:
        try:
            found = pq.Conninfo.parse(url.encode())
        except (psycopg.Error, UnicodeError):
            raise VaultValueError(f'libpq cannot read the URL {self.shown}: it is to be postgresql://user@host:port/'
                                  f'database?{PARAMETER}=NAME, and what has other characters than letters and digits '
                                  'is to be percent-encoded, a password above all') from None
        return {one.keyword.decode(): one.val.decode() for one in found if one.val is not None}

    def _require_database(self) -> None:
        if not any([self._options.get('dbname'), self._options.get('service'), os.environ.get('PGDATABASE'),
                    os.environ.get('PGSERVICE')]):
            raise VaultValueError(f'the URL names no database: {self.shown}; give one, as in postgresql://host/database'
                                  f'?{PARAMETER}=NAME')

    def attempts(self, to_write: bool) -> List[bytes]:
        """Return what libpq is to connect to, one host after the other, as no host may take the time of the others.

        Of several, who wants to write is to find the one that can be written.
        """
        options = {**DEFAULTS, **self._options}
        options.pop('connect_timeout', None)
        given = {name: options[name].split(',') for name in PER_HOST if options.get(name)}
        count = max([len(values) for name, values in given.items() if name != 'port'], default=1)
        if count > 1 and to_write:
            options.setdefault('target_session_attrs', 'read-write')
        if options.get('target_session_attrs') == 'prefer-standby':
            return [_joined(options)]  # which libpq can only say of all of them
        return [_joined({**options, **{name: values[at if len(values) > 1 else 0] for name, values in given.items()}})
                for at in range(count)]

    def seconds(self, timeout: float) -> float:
        """Return how long one host may take to answer."""
        return max(float(self._options.get('connect_timeout') or timeout), 1.0)


def _is_ours(item: str) -> bool:
    return unquote(item.partition('=')[0]) == PARAMETER


def _joined(options: Dict[str, str]) -> bytes:
    return ' '.join("{}='{}'".format(name, value.replace('\\', '\\\\').replace("'", "\\'"))
                    for name, value in options.items()).encode()


def url_of(root: str, name: str) -> str:
    """Return the URL of the vault of that name in the database at `root`. Raises: VaultValueError."""
    if any(map(_is_ours, root.partition('?')[2].split('&'))):
        raise VaultValueError(f'a root names a database, and no vault in it: leave ?{PARAMETER}=... out of '
                              f'{without_password(root)}')
    return f'{root}{"&" if "?" in root else "?"}{PARAMETER}={quote(name, safe="")}'
