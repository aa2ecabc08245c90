"""A copy in a file: a vault of SQLite with all that a store of another engine has. Loads no value.

It is written under another name, and gets its own at the end: whoever finds that finds all of it. That it is of one
state is for the engine to see to.
"""
from __future__ import annotations

from contextlib import closing

from ..files import NewFile
from .base import OWNER
from .sqlite import SIDE_FILES
from .sqlite import opening as sqlite

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterable, Iterator, Tuple

    from ..keys import Stored
    from .base import Entry, Progress, Store

    Parted = Tuple[Stored, bytes, bool]     # an entry, and whether it is kept in chunks

CHUNKS_OF_COPY = 16     # that are held at a time


def write_backup(store: Store, entries: Iterable[Parted], path: str, progress: Progress, *sources: str,
                 most: int = 0o666) -> None:
    """Write the entries, with their chunks, to a new file at `path`, no wider open than `most` and `sources` are."""
    with NewFile(path, *sources, what=f'the backup to {path}', beside=SIDE_FILES, most=most) as new, \
            closing(sqlite.open_store(new.part)) as target:
        target.once(lambda: _fill(store, target, entries, progress))


def _fill(store: Store, target: Store, entries: Iterable[Parted], progress: Progress) -> None:
    target.put_many(_entries(store, target, entries, progress))
    for owner in set(store.chunk_owners()) - set(target.chunk_owners()):
        _put_chunks(store, target, owner)  # of no entry, such as the settings of the vault


def _entries(store: Store, target: Store, entries: Iterable[Parted], progress: Progress) -> Iterator[Entry]:
    """Yield the entries that have no chunks; put the others in passing."""
    total = store.count()
    for done, (key, data, is_parted) in enumerate(entries, 1):
        if is_parted:
            _put_chunks(store, target, data[-OWNER:])
            target.put_owner(key, data)
        else:
            yield key, data
        if progress:
            progress(done, total)


def _put_chunks(store: Store, target: Store, owner: bytes) -> None:
    numbers = list(store.chunk_numbers(owner))
    for at in range(0, len(numbers), CHUNKS_OF_COPY):
        some = numbers[at:at + CHUNKS_OF_COPY]
        chunks = store.get_chunks(owner, some)
        target.put_chunks(owner, [(number, data) for number, data in zip(some, chunks) if data is not None])
