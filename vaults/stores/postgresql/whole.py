"""The vault as a whole: its facts, what is wrong with it, its end, and Ctrl-C. Knows tables, not what entries mean."""
from __future__ import annotations

from contextlib import contextmanager

from ...errors import VaultClosedError, VaultCorruptError
from ...keys import HIGHEST, LOWEST
from . import failures, schema
from .forms import as_int, int4
from .patience import interrupts
from .walks import answers, entry_of
from .wire import LostWire, Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Dict, Iterator, List, Optional

    from ...errors import VaultError
    from ...keys import Stored
    from ..base import Progress
    from .store import PostgreSQLStore
    from .wire import Wire

VAULT_TABLES = ('parts', 'entries', 'tallies', 'vaults')
NO_VAULT = int4(0)  # they are counted from 1


def facts(store: PostgreSQLStore) -> Dict[str, object]:
    """Return what `vaults info` tells of the vault, and of the server that keeps it.

    `bytes` is its share of what the tables take, by its number of entries. A vault that was closed does not ask.
    """
    known: Dict[str, object] = {'engine': 'postgresql', 'format': schema.TABLES_FORMAT,
                                'server': ' '.join(store.server.split()[:2])}
    if store.plain:
        try:
            known['bytes'] = as_int(store.read(schema.SHARE, (store.id4,)).get_value(0, 0))
        except VaultClosedError:
            return known
    return known


def problems(store: PostgreSQLStore, examine: Callable[[Stored, bytes], Optional[str]],
             progress: Progress = None) -> List[str]:
    """Return what is wrong with the vault, and what `examine` says of each entry."""
    counted, total = store.count(), store.recount()
    found = [] if counted == total else [f'{total} entries are there but {counted} are counted: compact() counts anew']
    return found + list(_faulty(store, examine, progress, total))


def _faulty(store: PostgreSQLStore, examine: Callable[[Stored, bytes], Optional[str]], progress: Progress,
              total: int) -> Iterator[str]:
    done = 0
    for answer, taken, _ in answers(store, LOWEST, HIGHEST, False, False, True):
        for row in range(taken):
            try:
                key, data, _ = entry_of(store, answer, row)
                problem = examine(key, data)
            except VaultCorruptError as error:
                problem = str(error)
            if problem:
                yield problem
        done += taken
        if progress:
            progress(done, total)


def compact_tables(store: PostgreSQLStore) -> None:
    """Count the entries anew, and have the server give unused space back, where this user may ask for it."""
    store.require_outside('compact')
    store.transact(lambda: store.in_block().write(schema.RECOUNT_TALLIES, (store.id4,)))
    if not store.plain:
        return
    with _own_wire(store, failures.lost_reading) as wire:
        wire.run(schema.VACUUM)


def require_deletable(store: PostgreSQLStore) -> None:
    """Raise where this user may not delete a vault, or nobody may here: the rows of one that is not there are tried."""
    with _own_wire(store, failures.lost_reading) as wire:
        for table in VAULT_TABLES:
            wire.ask(schema.EMPTY[table], (NO_VAULT,))


def destroy_vault(store: PostgreSQLStore) -> None:
    """Delete the vault, by a connection of its own: the store was closed."""
    with _own_wire(store, failures.unsure) as wire:
        wire.run(store.gated.begin % store.number)
        for table in VAULT_TABLES:
            wire.ask(schema.EMPTY[table], (store.id4,))
        wire.run(b'COMMIT')


@contextmanager
def _own_wire(store: PostgreSQLStore, lost: Callable[[LostWire, str], VaultError]) -> Iterator[Wire]:
    """Give a connection that is closed behind the block; what it raises is an error of ours, and `lost` where it is."""
    wire = store.connect()
    try:
        yield wire
    except Refused as error:
        raise failures.refusal(error, store.name) from error
    except LostWire as error:
        raise lost(error, store.name) from error
    finally:
        wire.close()


class Interrupting:
    """A block in which this thread's statements end once `interrupted()` is true."""

    def __init__(self, interrupted: Callable[[], bool]) -> None:
        self._interrupted = interrupted

    def __enter__(self) -> None:
        interrupts.asked = self._interrupted

    def __exit__(self, *error: object) -> None:
        interrupts.asked = None
