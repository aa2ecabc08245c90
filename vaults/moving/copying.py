"""Copying: a vault into another one, whatever engines they have. Knows bytes as they are stored, and loads no value.

An entry's bytes are the same in every engine, so they go over as they are. Two things do not: chunks belong to an
owner, of which two vaults never have the same one, so each value in chunks gets a new one; and a pickle that somebody
has planted in a vault that others may write would be trusted in a file of one's own, so where that could be, every
value is looked at for one before it comes in.
"""
from __future__ import annotations

import os
from contextlib import contextmanager
from itertools import islice

from ..codecs.codes import MALFORMED, is_header
from ..codecs.looking import look_through
from ..codecs.packing import undecodable
from ..codecs.pickles import Trusting, rule
from ..codecs.serializers import AS_STORED
from ..collections.kind import kind_of
from ..collections.tree import MANY, Header, StaleRead, Tree, missing
from ..errors import (
    UntrustedPickleError,
    VaultError,
    VaultExistsError,
    VaultFormatError,
    VaultNotFoundError,
    VaultValueError,
    plural,
)
from ..files import make_copy, narrow_copy
from ..opening import locate, place_at
from ..place import place_of
from ..settings import recorded
from ..stores import scheme_of, shown_url
from ..stores.base import DEFAULT_OPTIONS, MEMORY, OWNER, SETTINGS_OWNER, entries_of, new_owner
from ..transactions import Transaction
from .as_json import is_serialized
from .incoming import permit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Iterator, List, Optional, Sequence, Tuple, Union

    from ..codecs.pickles import AllowPickle
    from ..keys import Stored
    from ..opening import Flag, Path
    from ..place import Place
    from ..stores.base import CountProgress, Entry, Store
    from ..vault import Vault

    End = Union[Vault[Any, Any], Path]

MOST_CHUNKS = 64     # that are read at a time; fewer where they are large
REPORTED = 1 << 20   # bytes between two calls of `progress`


def copied(source: End, target: End, merge: bool, allow_pickle: Optional[AllowPickle], progress: CountProgress) -> int:
    """Copy all entries of one vault into another; return how many."""
    with _source_at(source, allow_pickle) as origin, _target_at(target, origin, allow_pickle) as (place, is_ours):
        return _Copy(origin, place, is_ours, merge, allow_pickle, progress).run()


# --- the two ends ---------------------------------------------------------------------------------------------------

@contextmanager
def _source_at(end: End, allow_pickle: Optional[AllowPickle]) -> Iterator[Place]:
    """Give the place of a vault that is read; one that was not open is closed in the end."""
    if _is_open(end):
        yield place_of(end)
        return
    place = _place_at(end, 'r', allow_pickle)
    try:
        yield place
    finally:
        place.store.close()


@contextmanager
def _target_at(end: End, source: Place, allow_pickle: Optional[AllowPickle]) -> Iterator[Tuple[Place, bool]]:
    """Give the place of a vault that is written, and whether it was opened for that, or made if there is none.

    One that was made goes again when the block fails.
    """
    if _is_open(end):
        _forbid_same(source, place_of(end).path, place_of(end).store)
        yield place_of(end), False
        return
    path = locate(end, False)[1]  # type: ignore[arg-type]  # what is no open vault is a path, or refused
    if path == MEMORY:
        raise VaultValueError("a vault in memory is gone when it is closed: make one, v = Vault(':memory:'), and copy "
                              'into v')
    _forbid_same(source, path)
    try:
        place, made = _place_at(end, 'w', allow_pickle), None
    except VaultNotFoundError:
        place, made = _made_at(end, path, source, allow_pickle)
    try:
        yield place, True
    except BaseException:
        is_empty = made is not None and not place.store.count()
        place.store.close()
        if is_empty:
            place.store.destroy()
            _remove_empty(made or ())
        raise
    place.store.close()


def _is_open(end: object) -> bool:
    return hasattr(end, '_place')


def _place_at(end: Any, flag: Flag, allow_pickle: Optional[AllowPickle]) -> Place:
    _, timeout, synchronous, thread_safe, _ = DEFAULT_OPTIONS
    return place_at(end, None, True, thread_safe, flag, timeout, synchronous,  # type: ignore[arg-type]  # the default
                    allow_pickle, False, 1, AS_STORED, None)


def _made_at(end: Any, path: str, source: Place, allow_pickle: Optional[AllowPickle]) -> Tuple[Place, Sequence[str]]:
    """Return the place of a new vault, whose file is no wider open than the source's, and the folder made for it."""
    files = [file for file in source.store.files[:1] if os.path.isfile(file)]
    if scheme_of(path):
        place = _place_at(end, 'c', allow_pickle)
        for file in place.store.files[:1] if files else ():
            if os.path.isfile(file):
                narrow_copy(file, *files)
        return place, ()
    folders = [folder for folder in (os.path.dirname(path),) if not os.path.exists(folder)]
    locate(end, True)  # which makes the folder of a name
    if files:
        make_copy(path, *files)  # empty: then it is made a vault as if it were not there
    try:
        return _place_at(end, 'c', allow_pickle), folders
    except BaseException:
        if os.path.exists(path) and not os.path.getsize(path):
            os.unlink(path)
        _remove_empty(folders)
        raise


def _remove_empty(folders: Sequence[str]) -> None:
    for folder in folders:
        if os.path.isdir(folder) and not os.listdir(folder):
            os.rmdir(folder)


def _forbid_same(source: Place, path: str, store: Optional[Store] = None) -> None:
    """Raise when the target is the source."""
    here = source.store.files[:1]
    there = store.files[:1] if store is not None else () if scheme_of(path) else (path,)
    both = [os.path.realpath(file) for file in (*here, *there)]
    is_one = len(both) == 2 and (both[0] == both[1] or _is_one_file(*both))
    if is_one or store in (source.store, source.engine) or (scheme_of(path) and shown_url(path) == source.path):
        raise VaultValueError(f'the vault to copy from and the one to copy into are one, {source.path}: give the copy '
                              'another name')


def _is_one_file(one: str, other: str) -> bool:
    return os.path.isfile(one) and os.path.isfile(other) and os.path.samefile(one, other)


# --- the way --------------------------------------------------------------------------------------------------------

class _Copy:
    """What goes from one vault into another. For one copy."""

    def __init__(self, source: Place, target: Place, is_ours: bool, merge: bool, allow_pickle: Optional[AllowPickle],
                 progress: CountProgress) -> None:
        self._source, self._target, self._is_ours, self._merge = source, target, is_ours, merge
        self._progress = progress
        rules = [source.codec.pickles, target.codec.pickles] if allow_pickle is None else [rule(allow_pickle, _trust)]
        self._rules = [one for one in rules if not _passes(one)]  # a value is looked at for what they say of pickles
        self._as_stored = source.keys is target.keys              # and not in a section
        self._done = self._moved = self._told = 0                 # entries; bytes, and those that `progress` knows of

    def run(self) -> int:
        """Copy one state of the source, all or nothing, and return how many entries it has."""
        with Transaction(self._source.store):
            return self._target.store.transact(self._put_all)

    def _put_all(self) -> int:
        self._done = self._moved = self._told = 0
        store = self._target.store
        self._require_room(store.count(*self._target.keys.bounds()))
        self._put_settings()
        low, high = self._source.keys.bounds()
        store.put_many(self._entries(entries_of(self._source.store.scan(low, high))))
        if self._progress and self._moved > self._told:
            self._progress(self._moved)
        return self._done

    def _require_room(self, count: int) -> None:
        if count and not self._merge:
            raise VaultExistsError(f'there {"is" if count == 1 else "are"} {count} {plural(count, "entry")} in the '
                                   f'vault {self._target.path} already: copy into a new or empty one, or with '
                                   'merge=True, which replaces those of the same keys')

    def _put_settings(self) -> None:
        """Have the target say of itself what the source does; raise when it says something else."""
        store, wanted, found = self._target.store, recorded(self._source.store), recorded(self._target.store)
        if wanted == found:
            return
        if found is None and self._is_ours and not store.count():
            numbers = list(self._source.store.chunk_numbers(SETTINGS_OWNER))
            store.put_chunks(SETTINGS_OWNER, self._read(SETTINGS_OWNER, numbers))
            return
        here, there = (f'the serializer {name!r}' if name else 'none' for name in (wanted, found))
        raise VaultFormatError(f'the values of the vault {self._source.path} are made by {here}, and the vault '
                               f'{self._target.path} has {there}: copy by name or path into a new one, or open both '
                               'with their serializers and update() the one with the other')

    def _entries(self, entries: Iterator[Entry]) -> Iterator[Entry]:
        """Yield what the store is to put; what is in chunks is put in passing."""
        for stored, data in entries:
            try:
                key = stored if self._as_stored else self._target.keys.encode(self._source.keys.decode(stored))
                in_chunks = is_header(data)
                if in_chunks:
                    self._put_in_chunks(stored, key, data)
                else:
                    self._require(stored, data)
            except VaultError as error:
                raise self._source.about(error, self._source.keys.decode(stored)) from error
            if not in_chunks:
                yield key, data
            self._done += 1
            self._count(len(data))

    def _require(self, stored: Stored, data: bytes) -> None:
        """Raise when a value may not come in."""
        if self._rules and not is_serialized(data):
            self._look_for_pickles(data)
        if self._target.validate is not None:
            self._target.validate(self._source.keys.decode(stored), self._source.codec.loads(data))

    def _put_in_chunks(self, stored: Stored, key: Stored, data: bytes) -> None:
        """Put a value in chunks as it is, but for its owner, which is its last bytes."""
        self._target.allow_chunks(self._source.keys.decode(stored))
        header = Header.of(data)
        kind, owner, store = kind_of(header), new_owner(), self._target.store
        if self._rules and kind.is_packed:
            for items, _ in kind.content(self._source.store, header):
                for item in items:
                    if not is_serialized(item):
                        self._look_for_pickles(item)
        try:
            for chunks in self._chunks(header):
                store.put_chunks(owner, chunks)
                self._count(sum(len(chunk) for _, chunk in chunks))
        except StaleRead:
            raise missing('the value') from None
        store.put_owner(key, data[:-OWNER] + owner)

    def _chunks(self, header: Header) -> Iterator[List[Tuple[int, bytes]]]:
        """Yield the numbers and bytes of all chunks of a tree, so many at a time as are about MANY bytes."""
        tree = Tree(self._source.store, header)
        numbers, most = tree.numbers(), 1
        while True:
            some = list(islice(numbers, most))
            if not some:
                return
            chunks = tree.chunks(some)
            yield list(zip(some, chunks))
            fitting = most * MANY // max(sum(map(len, chunks)), 1)
            most = max(1, min(2 * most, fitting, MOST_CHUNKS))

    def _read(self, owner: bytes, numbers: List[int]) -> List[Tuple[int, bytes]]:
        """Return small chunks, all of them."""
        chunks = self._source.store.get_chunks(owner, numbers)
        return [(number, chunk) for number, chunk in zip(numbers, chunks) if chunk is not None]

    def _look_for_pickles(self, data: bytes) -> None:
        """Raise when there is a pickle in a packed value that may not come in; loads it where types are listed."""
        def met() -> None:
            for one in self._rules:
                permit(one, data)
        try:
            look_through(data, met)
        except VaultError:
            raise
        except MALFORMED as error:
            undecodable(error)

    def _count(self, size: int) -> None:
        """Count bytes that have been moved, and tell so now and then."""
        self._moved += size
        if self._progress and self._moved - self._told >= REPORTED:
            self._told = self._moved
            self._progress(self._moved)


def _trust() -> None:
    """Say nothing: whoever calls has decided."""


def _passes(pickles: Any) -> bool:
    """Tell whether a rule lets all pickles in, so that none needs to be looked for."""
    if not isinstance(pickles, Trusting):
        return False
    try:
        pickles.checked()
    except UntrustedPickleError:
        return False
    return True
