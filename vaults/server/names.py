"""Names: of vaults, of hosts, of the sites of pages, and networks, as people give them: sound, or an error with a cure.

What can never match is refused before anything is served. Knows neither vaults nor requests.
"""
from __future__ import annotations

import re
from ipaddress import IPv4Network, ip_network
from typing import Any, Iterable, List, Set

from ..errors import VaultTypeError, VaultValueError

SERVED_NAME = r'^[A-Za-z0-9_][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*$'    # a file's name on every system, and no path
LONGEST_NAME = 100
HOST = re.compile(r'(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]*)?')    # as a header Host has it, with its port
ORIGIN = re.compile(r'([a-z][a-z0-9+.-]*)://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]+)?')   # as a browser writes it
USUAL_PORTS = {'http': ':80', 'https': ':443'}      # which a browser leaves out
ANY = '*'       # of rights, all vaults that have no line of their own; of hosts, all


def is_served_name(name: str) -> bool:
    """Tell whether a vault of this name is served."""
    return bool(re.fullmatch(SERVED_NAME, name)) and len(name) <= LONGEST_NAME and not name.lower().endswith('.db')


def require_served_name(name: str) -> None:
    """Raises: VaultValueError for what no vault that is served can be called."""
    if not is_served_name(name):
        raise VaultValueError(f'{name[:LONGEST_NAME]!r} is no name of a vault here: it has letters of ASCII, digits, '
                              f'-, _ and single dots between them, at most {LONGEST_NAME}, and no .db at its end')


def sound_hosts(hosts: Iterable[str]) -> Set[str]:
    """Return the names by which a server is asked, in lower case. Raises: VaultTypeError, VaultValueError."""
    found = _texts(hosts, 'hosts', 'example.org')
    for host in found:
        match = HOST.fullmatch(host)
        if host != ANY and (not match or match[2] is not None):
            raise VaultValueError(f'{host!r} is no name of a host, as example.org is: without a scheme, a port and a '
                                  "path, an address of IPv6 in brackets, what is not ASCII as xn--...; or '*' for any")
    return {host.lower() for host in found}


def sound_origins(origins: Iterable[str]) -> Set[str]:
    """Return the sites whose pages may ask, in lower case. Raises: VaultTypeError, VaultValueError."""
    found = {origin.lower() for origin in _texts(origins, 'origins', 'https://example.org')}
    for origin in found:
        match = ORIGIN.fullmatch(origin)
        if not match or match[3] == USUAL_PORTS.get(match[1], ''):
            raise VaultValueError(f'{origin!r} is no origin of pages, as https://example.org and http://localhost:3000 '
                                  'are: a scheme and a host, and a port that is not the usual one; no path, and no / '
                                  'at the end')
    return found


def networks_among(texts: Iterable[str], what: str) -> List[Any]:
    """Return addresses and networks as networks. Raises: VaultTypeError, VaultValueError."""
    found = []
    for text in _texts(texts, what, '192.168.1.0/24'):
        try:
            found.append(ip_network(text, strict=False))
        except ValueError:
            raise VaultValueError(f'{text!r} is neither an address nor a network, as 127.0.0.1 and 192.168.1.0/24 '
                                  'are') from None
    return found


def sound_proxies(proxies: Iterable[str], has_tokens: bool) -> List[str]:
    """Return the networks of proxies, those of IPv4 also as a socket of IPv6 has them. Raises: as `networks_among`."""
    found = networks_among(proxies, 'proxies')
    if found and not has_tokens:
        raise VaultValueError(f'the proxy {found[0]} would be refused whatever it asks: without tokens nobody knows '
                              'who is behind it; say who may do what with --tokens FILE')
    return [*map(str, found), *(f'::ffff:{network.network_address}/{96 + network.prefixlen}' for network in found
                                if isinstance(network, IPv4Network))]


def _texts(given: Iterable[str], what: str, example: str) -> List[str]:
    """Return texts as a list. Raises: VaultTypeError, also for one text alone, which would be one for each letter."""
    found = [given] if isinstance(given, (str, bytes)) else list(given)
    if isinstance(given, (str, bytes)) or not all(isinstance(text, str) for text in found):
        raise VaultTypeError(f'{what} are a list of texts, as [{example!r}], not {given!r}')
    return found
