"""A copy in a file: a vault of SQLite with all that this one has. Knows bytes as they are stored, and loads no value.

It is of one state, that of the moment in which it began, however long it takes and whatever is written meanwhile. It is
written under another name, and gets its own at the end: whoever finds that finds all of it.
"""
from __future__ import annotations

from contextlib import closing

from ...files import NewFile
from ...keys import HIGHEST, LOWEST
from ..base import OWNER
from ..sqlite import SIDE_FILES
from ..sqlite import opening as sqlite
from .forms import PARTED
from .walks import answers, entry_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterator

    from ..base import Entry, Progress, Store
    from .store import PostgreSQLStore

CHUNKS_OF_COPY = 16     # that are held at a time


def write_backup(store: PostgreSQLStore, path: str, progress: Progress = None) -> None:
    """Write the vault, as it is now, to a new file at `path`. Nobody but its owner may read that."""
    def copy() -> None:
        with NewFile(path, what=f'the backup to {path}', beside=SIDE_FILES, most=0o600) as new, \
                closing(sqlite.open_store(new.part)) as target:
            target.transact(lambda: _fill(store, target, progress))
    store.in_snapshot(copy)


def _fill(store: PostgreSQLStore, target: Store, progress: Progress) -> None:
    target.put_many(_entries(store, target, progress))
    _put_others(store, target)


def _entries(store: PostgreSQLStore, target: Store, progress: Progress) -> Iterator[Entry]:
    """Yield the entries that have no chunks; put the others in passing."""
    done, total = 0, store.count()
    for answer, taken in answers(store, LOWEST, HIGHEST, False, False, True):
        for row in range(taken):
            key, data, flags = entry_of(store, answer, row)
            if flags & PARTED:
                _put_chunks(store, target, data[-OWNER:])
                target.put_owner(key, data)
            else:
                yield key, data
        done += taken
        if progress:
            progress(done, total)


def _put_chunks(store: PostgreSQLStore, target: Store, owner: bytes) -> None:
    numbers = list(store.chunk_numbers(owner))
    for at in range(0, len(numbers), CHUNKS_OF_COPY):
        some = numbers[at:at + CHUNKS_OF_COPY]
        chunks = store.get_chunks(owner, some)
        target.put_chunks(owner, [(number, data) for number, data in zip(some, chunks) if data is not None])


def _put_others(store: PostgreSQLStore, target: Store) -> None:
    """Put the chunks that are no entry's, such as the settings of the vault."""
    for owner in set(store.chunk_owners()) - set(target.chunk_owners()):
        _put_chunks(store, target, owner)


