"""Opening: is the vault there, or to be made, and is it one that this version reads? Knows neither keys nor values.

The trap: many open, and make, one database's tables at the same moment, and `IF NOT EXISTS` does not keep two from
making one. So they are made in one transaction behind a lock, and only when they are not there: most users of a
database may make none.
"""
from __future__ import annotations

from functools import partial

from ...errors import VaultError, VaultFormatError, VaultNotFoundError
from ..base import DEFAULT_OPTIONS
from ..pool import Pool
from ..readonly import ReadOnlyStore
from . import failures, schema
from .address import Address, url_of
from .connecting import new_wire
from .forms import as_int, int4
from .store import PostgreSQLStore
from .wire import LostWire, Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, List, Optional, Tuple

    from ..base import Options, Store
    from .wire import Statement, Values, Wire

__all__ = ['listed_vaults', 'open_vault', 'url_of']

LIKE_POSTGRESQL = ('CockroachDB', 'YugabyteDB', '-YB-')     # what `version()` has of servers without advisory locks


def open_vault(target: str, options: Options = DEFAULT_OPTIONS, by_rows: Optional[bool] = None) -> Store:
    """Open the vault that a URL names, as the options say.

    `by_rows`: have writers wait for each other by a lock on the vault's row, and not by advisory locks; None asks the
    server what it has.

    Raises: VaultValueError, VaultUnreachableError, VaultNotFoundError, VaultFormatError, VaultReadOnlyError.
    """
    address = Address(target)
    pool = Pool(partial(new_wire, address, options.timeout, options.flag != 'r'))
    wire = pool.take()
    try:
        plain = is_plain(wire)
        number = _found(wire, address, options.flag, plain)
    except Refused as error:
        raise failures.refusal(error, address.shown) from error
    except LostWire as error:
        raise failures.not_connected(str(error), address.shown) from error
    gated = schema.Gated(not plain if by_rows is None else by_rows, options.timeout, options.synchronous)
    version = wire.version
    pool.give(wire)
    store = PostgreSQLStore(pool, gated, address.shown, number, options)
    store.server, store.plain = version, plain
    if options.flag == 'n':
        store.empty()
    return ReadOnlyStore(store, address.shown) if options.flag == 'r' else store


def is_plain(wire: Wire) -> bool:
    """Tell whether it is PostgreSQL itself."""
    return not any(name in wire.version for name in LIKE_POSTGRESQL)


def _found(wire: Wire, address: Address, flag: str, plain: bool) -> int:
    """Return the vault's number; it is made where the flag says so."""
    name = address.vault.encode()
    found = _looked_up(wire, name, address.shown)
    if found is None and flag in 'rw':
        raise VaultNotFoundError(f'there is no vault at {address.shown}: check its name and the database, or let it be '
                                 'created')
    if found is None:
        _make(wire, name, address.shown, plain)
        found = _looked_up(wire, name, address.shown)
    if found is None:
        raise VaultError(f'the vault {address.shown} was deleted while it was made: open it again')
    return found


def _looked_up(wire: Wire, name: bytes, shown: str) -> Optional[int]:
    """Return the number of the vault of a name, or None. Raises: VaultFormatError for what is none of ours."""
    columns = _columns(wire)
    if not columns:
        return None
    if columns.get('vaults') != schema.COLUMNS['vaults']:
        raise _foreign(shown)
    rows = wire.ask(schema.FIND, (name,))
    if rows.ntuples and as_int(rows.get_value(0, 1)) > schema.TABLES_FORMAT:
        raise VaultFormatError(f'the vault {shown} has format {as_int(rows.get_value(0, 1))}, this version reads '
                               f'{schema.TABLES_FORMAT}: install a newer vaults')
    if columns != schema.COLUMNS:
        raise _foreign(shown)
    return as_int(rows.get_value(0, 0)) if rows.ntuples else None


def _columns(wire: Wire) -> Dict[str, List[Tuple[str, str]]]:
    """Return the columns of the tables that have our names, in the schema of ours."""
    rows = wire.ask(schema.KNOWN_COLUMNS)
    found: Dict[str, List[Tuple[str, str]]] = {}
    for row in range(rows.ntuples):
        table, column, kind = ((rows.get_value(row, at) or b'').decode() for at in range(3))
        found.setdefault(table, []).append((column, kind))
    return found


def _foreign(shown: str) -> VaultFormatError:
    return VaultFormatError(f'the schema vaults of the database has tables that are not those of vaults: {shown}; it '
                            'was left as it was: use another database, or have the owner rename that schema')


def _make(wire: Wire, name: bytes, shown: str, plain: bool) -> None:
    """Make the tables where they are not there, and the vault, in one transaction."""
    wire.run(b'BEGIN ISOLATION LEVEL READ COMMITTED')
    if plain:
        wire.run(b'SELECT pg_advisory_xact_lock(%d, 0)' % schema.GATE_CLASS)
    if not _columns(wire):
        wire.run(schema.MAKE.encode())
        if plain:
            wire.run(schema.STORAGE.encode())
    wire.ask(schema.ADD, (name,))
    found = wire.ask(schema.FIND, (name,))
    wire.ask(schema.ADD_TALLIES, (int4(as_int(found.get_value(0, 0))),))
    wire.run(b'COMMIT')


def listed_vaults(root: str, options: Options = DEFAULT_OPTIONS) -> List[str]:
    """Return the names of the vaults in the database at `root`, sorted. Raises: as `open_vault`."""
    address = Address(root, is_root=True)
    wire = new_wire(address, options.timeout, False)
    try:
        if 'vaults' not in _columns(wire):
            return []
        return sorted(name.decode(errors='replace') for name in column(wire, schema.NAMES, ()))
    except Refused as error:
        raise failures.refusal(error, address.shown) from error
    except LostWire as error:
        raise failures.not_connected(str(error), address.shown) from error
    finally:
        wire.close()


def column(wire: Wire, statement: Statement, values: Values) -> List[bytes]:
    """Return the first column of what a statement finds."""
    rows = wire.ask(statement, values)
    return [rows.get_value(row, 0) or b'' for row in range(rows.ntuples)]
