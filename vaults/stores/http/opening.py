"""Opening: is the vault there, or to be made, and does the server speak as we do? Knows neither keys nor values."""
from __future__ import annotations

from ...errors import VaultFormatError, VaultNotFoundError
from ...keys import HIGHEST, LOWEST
from ..base import DEFAULT_OPTIONS, SETTINGS_OWNER
from ..readonly import ReadOnlyStore
from .address import ServerAddress
from .asking import ServerAsking
from .store import HttpStore
from .wire import OPS_PROTOCOL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List

    from ..base import Options, Store

__all__ = ['names_served', 'open_served', 'url_under']


def open_served(target: str, options: Options = DEFAULT_OPTIONS) -> Store:
    """Open the vault that a URL names, as the options say.

    Raises: VaultValueError, VaultUnreachableError, VaultNotFoundError, VaultFormatError, VaultReadOnlyError.
    """
    asking = ServerAsking(ServerAddress(target), options)
    try:
        store = HttpStore(asking, facts_of(asking, options.flag))
        asking.is_patient = True
        if options.flag == 'n':
            _empty(store)
    except BaseException:
        asking.pool.close()
        raise
    return ReadOnlyStore(store, asking.shown) if options.flag == 'r' else store


def facts_of(asking: ServerAsking, flag: str) -> Dict[str, Any]:
    """Return what the server says of the vault, which is made where the flag says so."""
    try:
        facts = asking.tell('describe')
    except VaultNotFoundError:
        if flag in 'rw':
            raise
        made = asking.until_answered('PUT', asking.address.path(), b'', False)
        if made.status not in (200, 201, 204):
            raise asking.refusal(made) from None
        facts = asking.tell('describe')
    if not isinstance(facts, dict) or facts.get('protocol') != OPS_PROTOCOL:
        raise VaultFormatError(f'the server of {asking.shown} speaks another protocol than {OPS_PROTOCOL}: install the '
                               'same version of vaults on both sides')
    return facts


def _empty(store: HttpStore) -> None:
    """Begin anew with no entry: what belongs to the vault itself goes with them."""
    def empty() -> None:
        store.delete_range(LOWEST, HIGHEST)
        for owner in [owner for owner in store.chunk_owners() if owner != SETTINGS_OWNER]:
            store.delete_chunks(owner)
    store.once(empty)


def url_under(root: str, name: str) -> str:
    """Return the URL of the vault of that name at the server of a root. Raises: VaultValueError."""
    from urllib.parse import quote
    ServerAddress(root, is_root=True)
    return f'{root.rstrip("/")}/{quote(name, safe="")}'


def names_served(root: str, options: Options = DEFAULT_OPTIONS) -> List[str]:
    """Return the names of the vaults that the token may read, sorted. Raises: as `open_served`."""
    asking = ServerAsking(ServerAddress(root, is_root=True), options)
    try:
        return sorted(asking.names())
    finally:
        asking.pool.close()
