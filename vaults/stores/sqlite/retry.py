"""Retry: a statement that met another's lock, again. Knows the store, and nothing of what its statements are for.

The trap: SQLite's own waiting looks ever more seldom, ten times a second at last. Among writers without a pause some
meet no free moment in time, and a Ctrl-C is not heard. Here they look more often, most of all who has waited longest.
And a thread can wait for itself: where it has a block open in another vault of the same file, nobody else will ever
end that, so it is told at once. A rollback journal's locks are left to SQLite, which knows who is to go first.
"""
from __future__ import annotations

from time import monotonic

from ...errors import VaultBusyError
from . import driver
from .failures import is_in_use, is_locked
from .fork import all_open, own
from .waiting import paused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, List, Optional, Tuple

    from ...keys import Stored
    from .statements import Statements


def retry(store: Statements, error: BaseException, sql: str, arguments: Tuple[Any, ...] = (),
          key: Optional[Stored] = None) -> List[Any]:
    """Repeat a statement that met another's lock until it has been let in, and return its rows; by a cursor of its own.

    Raises what the error means: where it is another one than that, or when the timeout is over.
    """
    c, began, timeout = store.local.c, monotonic(), store.file.timeout
    if is_locked(error):
        require_another(store)
    while is_in_use(error) or (store.file.journal == 'wal' and is_locked(error) and paused(began, timeout)):
        try:
            rows: List[Any] = c.gathered(list, sql, arguments)
            return rows
        except driver.Error as again:
            error = again
    raise store.failed(error, key) from error


def require_another(store: Statements) -> None:
    """Raise when it is this thread that holds the lock, by another store, in this task or another."""
    for other in all_open():
        if other is not store and other.file.identity == store.file.identity and other.file.flag != 'r':
            c = own(other)
            if c is not None and c.depth and c.raw.in_transaction:
                who = f', in {c.owner.name()}' if c.owner else ''
                raise VaultBusyError(f'this thread has a block open in another Vault of the same file{who}: '
                                     f'{store.file.path}; it would wait for itself: use one Vault for both, or end '
                                     'that block first')
