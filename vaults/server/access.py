"""Access: who may ask, from where, by which name, and for what. Knows neither vaults nor requests, but their headers.

Tokens are kept as their SHA-256 alone. What is kept in a file is read again when the file has changed; when it cannot
be understood then, what was read before stays, and the log says so.
"""
from __future__ import annotations

import os
import re
from hashlib import sha256
from hmac import compare_digest
from ipaddress import IPv6Address, ip_address
from typing import Any, Callable, Dict, Generic, Iterable, List, Mapping, NamedTuple, Optional, Tuple, TypeVar, Union

from .. import files, log
from ..errors import VaultError, VaultTypeError, VaultValueError
from .names import ANY, HOST, networks_among, require_served_name, sound_hosts, sound_origins

Held = TypeVar('Held')
FilePath = Union[str, 'os.PathLike[str]']
Granted = Mapping[str, Mapping[str, str]]               # of tokens, for each the rights by the names of vaults
TokensGiven = Union[Granted, 'os.PathLike[str]', None]
Allowed = Union[Iterable[str], 'os.PathLike[str]', Callable[[str], bool], None]

RIGHTS = ('', 'r', 'rw')
BEARER = re.compile(r'[A-Za-z0-9._~+/-]+=*')     # what a header of Bearer may hold: RFC 6750
HASHED = re.compile(r'sha256:([0-9a-f]{64})')   # how a file may have a token, without having it
# What errors show can be typed in as it is, in Python and as JSON.
RIGHTS_SHOWN = '{"books": "r", "*": "rw"}'
TOKENS_SHOWN = f'{{"the-token": {RIGHTS_SHOWN}}}'


class Caller(NamedTuple):
    """Who asks: the first digits of the token's SHA-256, '' without tokens; and what that may do."""

    id: str
    rights: Mapping[str, str]


class Watched(Generic[Held]):
    """What a file holds, read again when it has changed. For one thread."""

    def __init__(self, path: FilePath, read: Callable[[str], Held]) -> None:
        self._path, self._read = os.path.abspath(os.fsdecode(path)), read
        self._stamp: Optional[files.Stamp] = files.stamp(self._path)
        self._known = read(self._path)

    def now(self) -> Held:
        """Return what it holds now, or where that cannot be understood, what it held before."""
        try:
            stamp: Optional[files.Stamp] = files.stamp(self._path)
        except OSError:
            stamp = None
        if stamp != self._stamp:
            self._stamp = stamp  # before it is read: what is written meanwhile is read as well
            try:
                self._known = self._read(self._path)
            except (OSError, VaultError) as error:
                log.get_logger().warning('what was read before holds: %s', error)
        return self._known


def may(caller: Caller, name: str, right: str) -> bool:
    """Tell whether a caller has the right, 'r' or 'w', in the vault of that name."""
    return right in caller.rights.get(name, caller.rights.get(ANY, ''))


# --- tokens -------------------------------------------------------------------------------------------------------

EVERYBODY = Caller('', {ANY: 'rw'})


class Tokens:
    """Who each token is. Safe in any thread."""

    def __init__(self, granted: Granted) -> None:
        """Keep what each token may. Raises: VaultTypeError, VaultValueError."""
        if not isinstance(granted, dict) or not granted:
            raise VaultTypeError(f'tokens are a dict of at least one token, and its rights by vault: {TOKENS_SHOWN}')
        self._known: List[Tuple[bytes, Caller]] = [
            (digest, Caller(digest.hex()[:16], sound_rights(rights)))
            for digest, rights in ((_digest_of(token), rights) for token, rights in granted.items())]

    def find(self, token: bytes) -> Optional[Caller]:
        """Return who has the token, or None. It takes as long whatever the token is."""
        digest, found = sha256(token).digest(), None
        for known, caller in self._known:
            if compare_digest(known, digest):
                found = caller
        return found


def _digest_of(token: Any) -> bytes:
    """Return the SHA-256 of a token, which may be given as that. Raises: VaultValueError, without the token."""
    hashed = HASHED.fullmatch(token) if isinstance(token, str) else None
    if hashed:
        return bytes.fromhex(hashed[1])
    if not isinstance(token, str) or not BEARER.fullmatch(token):
        raise VaultValueError('a token is text of letters, digits and ._~+/-, which a header can hold, or sha256: and '
                              'the 64 hexadecimal digits of its SHA-256; make one with: python -c "import secrets; '
                              'print(secrets.token_urlsafe())"')
    return sha256(token.encode()).digest()


def sound_rights(rights: Any) -> Dict[str, str]:
    """Return the rights of a token by vault. Raises: VaultTypeError, VaultValueError."""
    if not isinstance(rights, dict) or not all(isinstance(name, str) for name in rights):
        raise VaultTypeError(f'the rights of a token are a dict by the names of vaults: {RIGHTS_SHOWN}')
    for name, right in rights.items():
        if name != ANY:
            require_served_name(name)
        if right not in RIGHTS:
            raise VaultValueError(f'a right is "r" to read, "rw" to write as well, or "" for none, not {right!r} of '
                                  f'{name!r}')
    return dict(rights)


def tokens_of(path: str) -> Tokens:
    """Read tokens from a file of JSON, which nobody else may read. Raises: VaultError, OSError."""
    import json
    if os.name == 'posix' and os.stat(path).st_mode & 0o077:
        raise VaultError(f'{path} holds tokens, and others may read it: chmod 600 {path}')
    with open(path, 'rb') as file:
        text = file.read()
    try:
        return Tokens(json.loads(text))
    except VaultError as error:
        raise type(error)(f'{path}: {error}') from None
    except (ValueError, RecursionError) as error:
        raise VaultValueError(f'{path} is no JSON ({error}): it is to hold {TOKENS_SHOWN}') from None


# --- addresses ----------------------------------------------------------------------------------------------------

def is_loopback(address: str) -> bool:
    """Tell whether an address is this machine's own."""
    found = _address(address)
    return found is not None and found.is_loopback


def _address(text: str) -> Any:
    """Return an address, of IPv4 also where it came in a socket of IPv6; None for what is none."""
    try:
        found = ip_address(text.partition('%')[0])
    except ValueError:
        return None
    return getattr(found, 'ipv4_mapped', None) or found if isinstance(found, IPv6Address) else found


class Networks:
    """Which addresses may ask. Safe in any thread."""

    def __init__(self, networks: Iterable[str]) -> None:
        """Raises: VaultTypeError, VaultValueError for what is no address or network."""
        self._networks = networks_among(networks, 'allow')

    def __call__(self, address: str) -> bool:
        found = _address(address)
        return found is not None and any(found in network for network in self._networks)


def networks_of(path: str) -> Networks:
    """Read addresses and networks from a file, one a line; # begins a comment. Raises: VaultError, OSError."""
    with open(path, encoding='utf-8', errors='replace') as file:
        lines = [line.partition('#')[0].strip() for line in file]
    try:
        return Networks(filter(None, lines))
    except VaultError as error:
        raise type(error)(f'{path}: {error}') from None


# --- all of it ----------------------------------------------------------------------------------------------------

class Access:
    """Who may ask, from where, and by which name. For one thread."""

    def __init__(self, tokens: TokensGiven, allow: Allowed, hosts: Iterable[str], origins: Iterable[str]) -> None:
        self._tokens: Callable[[], Optional[Tokens]] = _kept(tokens, Tokens, tokens_of)
        self._allow: Callable[[], Optional[Callable[[str], bool]]] = (
            (lambda: allow) if callable(allow) else _kept(allow, Networks, networks_of))
        self._hosts, self._origins = sound_hosts(hosts), sound_origins(origins)

    @property
    def has_tokens(self) -> bool:
        return self._tokens() is not None

    def knows_address(self, address: Optional[str]) -> bool:
        """Tell whether somebody at the address, None where a socket has none, may ask; without tokens this machine."""
        allowed = self._allow()
        if allowed is not None and not (address and allowed(address)):
            return False
        return self.has_tokens or not address or is_loopback(address)

    def knows_host(self, host: str, own: str) -> bool:
        """Tell whether a header Host names this server, which is at the address `own`."""
        match = HOST.fullmatch(host)
        name = match[1].lower() if match else ''
        return bool(name) and (ANY in self._hosts or name in self._hosts or name == 'localhost' or
                               is_loopback(name.strip('[]')) or (self.has_tokens and name in (own, f'[{own}]')))

    def knows_origin(self, origin: Optional[str], site: str) -> bool:
        """Tell whether a page of the origin, in a browser, may ask. `site`: how the browser says that it relates."""
        if origin is None:
            return site not in ('cross-site', 'same-site')
        return origin.lower() in self._origins

    def caller(self, authorization: Optional[str]) -> Optional[Caller]:
        """Return who asks, by the header of that name; None for nobody who is known."""
        tokens = self._tokens()
        if tokens is None:
            return EVERYBODY
        scheme, _, token = (authorization or '').partition(' ')
        return tokens.find(token.strip().encode('latin-1')) if scheme.lower() == 'bearer' else None


def _kept(given: Any, made: Callable[[Any], Any], read: Callable[[str], Any]) -> Callable[[], Any]:
    """Return what tells what was given, or what the file that was given holds now; None where nothing was."""
    if isinstance(given, os.PathLike):
        return Watched(given, read).now
    kept = None if given is None else made(given)
    return lambda: kept
