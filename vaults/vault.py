"""Vault: the dict, and every verb a user calls. Knows neither SQL, nor how keys sort, nor what a value looks like."""
from __future__ import annotations

import os
import sys
from collections import abc
from itertools import chain

from msgpack import unpackb

from . import keys
from ._typing import TYPE_CHECKING, K, Mapping, MutableMapping, Self, T, V, overload
from .codecs import codes, registry
from .codecs.codes import BULK
from .errors import EmptyVaultError, VaultClosedError, VaultError, VaultReadOnlyError, plural
from .place import MISSING, Place
from .stores.base import MEMORY, ClosedStore
from .transactions import Edit, Transaction, popped, put_default, with_frame
from .views import Items, Keys, SortedSlice, Values, Walks, examiner, pairs_of

if TYPE_CHECKING:
    from types import TracebackType
    from typing import IO, Any, Callable, Dict, Iterable, Iterator, List, Literal, Optional, Tuple, Type, Union

    from _typeshed import SupportsKeysAndGetItem as Keyed

    from .codecs.packing import Codec
    from .codecs.pickles import AllowPickle
    from .collections import column as columns
    from .collections import list as sequences
    from .keys import Stored
    from .opening import Flag, Path, Synchronous
    from .place import Check, Entries, KeyCodec, ValueCodec
    from .sections import Section
    from .stores.base import Progress, Store

    Floats = Literal['float32', 'float64']
    Ints = Literal['int8', 'int16', 'int32', 'int64', 'uint8', 'uint16', 'uint32', 'uint64']


class Vault(Walks[K, V], MutableMapping[K, V]):
    """A dict that stays: the whole MutableMapping protocol over one SQLite file.

    >>> import vaults
    >>> v = vaults.Vault(':memory:')
    >>> v['settings'] = {'theme': 'dark'}
    >>> v['log', 2026, 11] = (1, 2)
    >>> with v:
    ...     v['count'] = v.get('count', 0) + 1
    >>> v.items()
    [('settings', {'theme': 'dark'}), (('log', 2026, 11), (1, 2)), ('count', 1)]

    Insertion order is kept. Each call is a transaction of its own, durable against a killed process when it returns;
    a `with` block is one transaction: all of it, or none.

    Safe in any thread, whatever `thread_safe` says: each has its own connection. `thread_safe=True` makes writers and
    blocks of one process wait for each other in a queue rather than by `timeout`. Safe in any number of processes,
    and over forks. It can be pickled, which sends where it is, not what it holds.
    """

    __slots__ = ('__weakref__', '_bare', '_codec', '_entries', '_hook', '_keys', '_place', '_store', '_validate',
                 '_values')
    _store: Store
    _keys: KeyCodec
    _codec: Codec
    _validate: Optional[Check]
    _repr_pretty_ = Walks._repr_pretty_  # IPython takes it from the class that has __repr__
    _entries: Entries
    _values: ValueCodec

    # --- opening ---

    def __init__(self, name: Optional[Path] = None, to_create: bool = True, thread_safe: bool = False, *,
                 store: Optional[Store] = None, flag: Flag = 'c',
                 timeout: float = 5.0, synchronous: Synchronous = 'NORMAL',
                 allow_pickle: Optional[AllowPickle] = None, writeback: bool = False,
                 cache_size: int = 1000, read_cache: Optional[int] = None, serializer: Any = None,
                 validate: Optional[Callable[[Any, Any], object]] = None, token: Optional[str] = None) -> None:
        """Open the vault `name`, or make it.

        `name`: a str is a name under the root (set_root_path), an os.PathLike an exact file, ':memory:' no file at all,
        'scheme://...' what the engine of that scheme makes of it.
        `store`: an engine of one's own, which is open; the name is a label then, or left out.
        `to_create`: False raises when there is no such vault.
        `flag`: as in dbm: 'c' to write and create, 'w' to write, 'r' to read, 'n' to begin with an empty one.
        `timeout`: seconds to wait for another writer. `synchronous`: 'NORMAL', where a power cut may take the newest
        commits, or 'FULL', where it takes none, 'EXTRA', or 'OFF', where it may take the file.
        `allow_pickle`: True, False, a list of types, or None: only in a file that nobody else may write.
        `writeback`: True keeps up to `cache_size` entries that were read or set as live objects, and writes those that
        have changed on sync(), at the end of a block, on close(), at exit and when one more would be too many.
        `read_cache`: entries of up to 4 KB that are read from memory again, as long as nobody has written since; None
        or 0 keeps none. It is for a file on Linux, outside of blocks; elsewhere all is as without.
        `serializer`: a module or object with dumps and loads, or (name, dumps, loads), in place of msgpack for all
        values. Its name is kept in the file, which is not opened with another.
        `validate`: a function that is called with key and value before each write, and refuses by raising.
        `token`: what shows a server who asks, of 'https://host/name'; None takes that of the variable VAULTS_TOKEN.

        Raises: VaultNotFoundError, VaultFormatError, VaultReadOnlyError, VaultBusyError, VaultError; VaultTypeError and
        VaultValueError for wrong arguments.
        """
        from .opening import place_at  # here, and below: `import vaults` does without
        self._store = ClosedStore('that was not opened')  # its name may hold a password
        self._settle(place_at(name, store, to_create, thread_safe, flag, timeout, synchronous, allow_pickle, writeback,
                              cache_size, serializer, validate, read_cache, token))

    def _settle(self, place: Place) -> None:
        """Be the vault of a place: take from it what each call reads, lest each look it up there."""
        self._place = place
        self._store, self._keys, self._codec = place.store, place.keys, place.codec
        self._entries, self._values = place.entries, place.values
        self._bare = str if place.keys is keys else None  # whose keys are stored as they are, where they are ASCII
        self._hook, self._validate = place.codec.ext_hook, place.validate

    @property
    def name(self) -> str:
        """The vault's name; of an exact file, its file name without the ending."""
        return self._place.name

    @property
    def closed(self) -> bool:
        """Whether the vault is closed; a section is when its vault is."""
        return isinstance(self._store, ClosedStore)

    @property
    def db_path(self) -> str:
        """The absolute path of the vault's file, ':memory:', or what another engine calls its place."""
        return self._place.path

    # --- the five methods of a mutable mapping ---

    @overload
    def __getitem__(self, key: slice) -> SortedSlice[K, V]: ...
    @overload
    def __getitem__(self, key: K) -> V: ...

    def __getitem__(self, key: Any) -> Any:
        """Return the value; for a slice a:b, the sorted mapping of the keys from a up to, but not with, b."""
        if type(key) is self._bare and key.isascii():
            stored: Any = key
        else:
            try:
                stored = self._keys.encode(key)
            except (TypeError, ValueError):
                stored = None
        if stored is None:
            if type(key) is slice:
                return SortedSlice(self, *self._place.slice_bounds(key))
            self._place.cannot_hold(key)
            return self._missing(key)
        data = self._entries.get(stored)
        if data is None:
            return self._missing(key)
        if type(data) is tuple:  # a live entry, or kept by a read cache
            return data[0]
        try:
            return unpackb(data, ext_hook=self._hook, strict_map_key=False, max_ext_len=BULK)
        except codes.MALFORMED:
            return self._reread(stored, data)  # type: ignore[arg-type]  # no tuple is left

    def __setitem__(self, key: K, value: V) -> None:
        """Set the value; a commit of its own outside a block. Raises: TypeError for what cannot be a key."""
        if type(key) is slice:
            raise TypeError('a slice cannot be assigned: use update() with keys and values')
        if self._validate is not None:
            self._validate(key, value)
        stored = self._keys.encode(key)
        try:
            data = self._values.dumps(value)
        except VaultError as error:
            if type(value) in registry.live_types:
                self._assign(key, value)
                return
            raise self._place.about(error, key) from error
        self._entries.put(stored, data)

    def __delitem__(self, key: Union[K, slice]) -> None:
        """Delete the entry; for a slice, all entries in it in one statement."""
        if type(key) is slice:
            self._store.delete_range(*self._place.slice_bounds(key))
            return
        try:
            stored = self._keys.encode(key)
        except (TypeError, ValueError):
            self._place.cannot_hold(key)
            raise KeyError(key) from None
        if not self._store.delete(stored):
            raise KeyError(key)

    # --- what a dict does besides ---

    def __contains__(self, key: object) -> bool:
        """Tell whether there is such a key; the value is not looked at."""
        try:
            stored = self._keys.encode(key)
        except (TypeError, ValueError):
            self._place.cannot_hold(key)
            return False
        return self._store.contains(stored)

    @overload
    def get(self, key: K) -> Optional[V]: ...
    @overload
    def get(self, key: K, default: Union[V, T]) -> Union[V, T]: ...

    def get(self, key: Any, default: Any = None) -> Any:
        """Return the value, or `default` when there is no such key. A stored None is a value."""
        if type(key) is self._bare and key.isascii():
            stored: Any = key
        else:
            try:
                stored = self._keys.encode(key)
            except (TypeError, ValueError):
                self._place.cannot_hold(key)
                return default
        data = self._entries.get(stored)
        if data is None:
            return default
        if type(data) is tuple:  # a live entry, or kept by a read cache
            return data[0]
        try:
            return unpackb(data, ext_hook=self._hook, strict_map_key=False, max_ext_len=BULK)
        except codes.MALFORMED:
            return self._reread(stored, data, default)  # type: ignore[arg-type]  # no tuple is left

    def put(self, key: K, value: V) -> None:
        """Set the value, as v[key] = value does."""
        self[key] = value

    @overload
    def pop(self, key: K) -> V: ...
    @overload
    def pop(self, key: K, default: Union[V, T]) -> Union[V, T]: ...

    def pop(self, key: Any, default: Any = MISSING) -> Any:
        """Remove the entry and return its value; atomic between processes. Raises: KeyError without a default."""
        value = popped(self, self._place, self._loaded, key)
        if value is MISSING and default is MISSING:
            raise KeyError(key)
        return default if value is MISSING else value

    def popitem(self, last: bool = True) -> Tuple[K, V]:
        """Remove and return the newest (key, value), or with `last=False` the oldest; atomic between processes.

        Raises: EmptyVaultError, which is a KeyError, when there is none.
        """
        if last is not True and last is not False:  # a dict's popitem takes nothing: whoever passes a key is wrong
            raise TypeError(f'last is True or False, not {last!r}: pop(key) takes a key')

        def take() -> Any:
            for key, value in self._walk_items(reverse=last):
                value = registry.in_memory(value)
                self._store.delete(self._keys.encode(key))
                return key, value
            return None
        taken = self._store.transact(take)
        if taken is None:  # it is told here: nothing is undone, also not what a signal handler has put meanwhile
            raise EmptyVaultError(f'popitem(): {self!r} is empty')
        return taken  # type: ignore[no-any-return]

    def move_to_end(self, key: K, last: bool = True) -> None:
        """Move the entry to the end of the insertion order, or with `last=False` to its beginning; atomic.

        A walk under way visits no key twice: one that has not come to the entry yet may leave it out.

        Raises: KeyError when there is no such key.
        """
        stored = self._place.sought(key)
        if stored is None or not self._store.move(stored, last):
            raise KeyError(key)

    @overload
    def setdefault(self: Vault[K, Optional[T]], key: K, default: None = None) -> Optional[T]: ...
    @overload
    def setdefault(self, key: K, default: V) -> V: ...

    def setdefault(self, key: Any, default: Any = None) -> Any:
        """Return the value, having set it to `default` when there was none; atomic between processes."""
        return put_default(self, self._place, self._loaded, key, default)

    @overload
    def update(self, other: Union[Keyed[K, V], Iterable[Tuple[K, V]]] = (), /) -> None: ...
    @overload
    def update(self: Vault[str, V], other: Union[Keyed[str, V], Iterable[Tuple[str, V]]] = (), /,
               **named: V) -> None: ...

    def update(self, other: Any = (), /, **named: Any) -> None:
        """Set what dict.update would, in one transaction: all, or when anything fails, none."""
        self.put_many(pairs_of(other, named) if named else other)

    def clear(self) -> None:
        """Delete everything, in one statement."""
        self._store.delete_range(*self._keys.bounds())

    @overload
    def __or__(self, other: Mapping[K, V]) -> Dict[K, V]: ...
    @overload
    def __or__(self, other: Mapping[Any, Any]) -> Dict[Any, Any]: ...

    def __or__(self, other: Any) -> Dict[Any, Any]:
        """Return a dict of both, the other's values winning."""
        return dict(chain(self.items(), other.items())) if isinstance(other, abc.Mapping) else NotImplemented

    @overload
    def __ror__(self, other: Mapping[K, V]) -> Dict[K, V]: ...
    @overload
    def __ror__(self, other: Mapping[Any, Any]) -> Dict[Any, Any]: ...

    def __ror__(self, other: Any) -> Dict[Any, Any]:
        """Return a dict of both, the values of this vault winning."""
        return dict(chain(other.items(), self.items())) if isinstance(other, abc.Mapping) else NotImplemented

    def __ior__(self, other: Union[Keyed[K, V], Iterable[Tuple[K, V]]]) -> Self:  # type: ignore[misc]  # `|` makes a dict
        """Do what update(other) does."""
        self.update(other)
        return self

    def copy(self) -> Dict[K, V]:
        """Return a dict of all entries, of live lists and columns with copies.

        Use it, or dict(v.items()), and not dict(v), {**v} or f(**v): these look each key up after a walk over the keys,
        and raise KeyError for one that another process or thread has deleted meanwhile.
        """
        return {key: registry.in_memory(value) for key, value in self.items()}

    @classmethod
    def fromkeys(cls, iterable: Iterable[K], value: Any = None) -> Self:
        """Return a new vault in memory with these keys, each with a copy of the value, as `dict.fromkeys` makes a dict.

        >>> import vaults
        >>> vaults.Vault.fromkeys('ab', 0).items()
        [('a', 0), ('b', 0)]

        To a vault in a file it is v.update(dict.fromkeys(iterable, value)).
        """
        made: Self = cls(MEMORY)
        made.update((key, value) for key in iterable)
        return made

    # --- many at once ---

    def put_many(self, pairs: Union[Keyed[K, V], Iterable[Tuple[K, V]]]) -> int:
        """Set all entries of a mapping or of an iterable of pairs, in one transaction; return how many.

        The iterable is streamed. When it or a value fails, nothing is set.
        """
        copied: List[Any] = []
        done = self._entries.put_many(self._encoded(pairs_of(pairs, {}), copied))
        return done + len(copied)

    def get_many(self, wanted: Iterable[K]) -> Dict[K, V]:
        """Return a dict of those keys that exist, in the order asked for."""
        asked, stored = self._place.sought_many(wanted)
        rows = zip(asked, stored, self._entries.get_many(stored))
        found = ((key, self._loaded(one, data)) for key, one, data in rows if data is not None)
        return {key: value for key, value in found if value is not MISSING}

    def pop_many(self, wanted: Iterable[K]) -> Dict[K, V]:
        """Remove those keys that exist and return them as a dict, in the order asked for; in one transaction."""
        def take() -> Dict[K, V]:
            found = {key: registry.in_memory(value) for key, value in self.get_many(asked).items()}
            self._store.delete_many(list(map(self._keys.encode, found)))
            return found
        asked = list(wanted)
        return self._store.transact(take)

    def has_keys(self, wanted: Iterable[object]) -> bool:
        """Tell whether all the keys exist; true for none."""
        return self._place.has_all(wanted)

    # --- ranges of keys ---

    def prefix(self, prefix: Any) -> SortedSlice[K, V]:
        """Return the sorted mapping of the keys that begin with `prefix`: text, bytes, or a tuple's first elements.

        Raises: TypeError for any other prefix.
        """
        return SortedSlice(self, *self._keys.prefix_bounds(prefix))

    def irange(self, minimum: Optional[K] = None, maximum: Optional[K] = None,
               inclusive: Tuple[bool, bool] = (True, True), reverse: bool = False) -> Iterator[K]:
        """Iterate over the sorted keys from `minimum` to `maximum`, as sortedcontainers does; None is no bound."""
        return self._walk_range(minimum, maximum, inclusive, reverse)

    # --- values that are large, or grow ---

    def open(self, key: K, mode: str = 'rb', buffering: int = -1, encoding: Optional[str] = None,
             errors: Optional[str] = None, newline: Optional[str] = None) -> IO[Any]:
        """Return a file object with the value at `key`, a stream or any bytes or text, to read or write.

        All is as with the builtin `open`, but that the mode is 'rb' by default, and the encoding of text 'utf-8'; and
        what is written can be seen when the file is closed, all of it at once. A file that was left by an exception or
        never closed writes nothing. Who reads has the value of the moment of opening.

        >>> import vaults
        >>> v = vaults.Vault(':memory:')
        >>> with v.open('log', 'a') as file:
        ...     print('started', file=file)
        >>> v['log']
        b'started\\n'

        Raises: KeyError when there is nothing to read, TypeError when it is neither bytes nor text, VaultExistsError
        with mode 'x', VaultReadOnlyError; VaultError when somebody else has changed it meanwhile, on close() with
        'r+', and in reading when it was replaced or deleted.
        """
        from .collections.file import open_stream  # here, and below: most programs do without
        return open_stream(self._place, key, mode, buffering, encoding, errors, newline)

    def put_file(self, key: K, file: Any, progress: Optional[Callable[[int, Optional[int]], object]] = None) -> int:
        """Set the value to the content of a file, a path or an open binary one; return how many bytes.

        `progress(done, total)` is called with numbers of bytes, `total` None where the file does not tell.

        Raises: OSError when the file cannot be read, TypeError when it is a text file, or bytes, which go in by
        v[key] = ...; then the value stays.
        """
        from .collections.file import put_file
        return put_file(self._place, key, file, progress)

    def get_file(self, key: K, file: Any, progress: Optional[Callable[[int, int], object]] = None) -> int:
        """Write the value, a stream or any bytes or text, to a path or an open binary file; return how many bytes.

        What is at the path is replaced when all is written, to a file beside it. `progress(done, total)` is called with
        numbers of bytes.

        Raises: KeyError, TypeError, VaultError as `open`; OSError when the file cannot be written.
        """
        from .collections.file import get_file
        return get_file(self._place, key, file, progress)

    def list(self, key: K) -> sequences.List[Any]:
        """Return the live list at `key`, made if there is nothing; from then on v[key] is that list as well.

        Raises: TypeError when there is something else.
        """
        from .collections.list import list_at
        return list_at(self._place, key)

    @overload
    def column(self, key: K, dtype: Union[Type[bool], Literal['bool']]) -> columns.Column[bool]: ...
    @overload
    def column(self, key: K, dtype: Union[Type[int], Ints]) -> columns.Column[int]: ...
    @overload
    def column(self, key: K, dtype: Union[Type[float], Floats]) -> columns.Column[float]: ...
    @overload
    def column(self, key: K, dtype: Any) -> columns.Column[Any]: ...

    def column(self, key: K, dtype: Any) -> columns.Column[Any]:
        """Return the column at `key`, a live array of one type, made if there is nothing.

        `dtype`: int8 to int64, uint8 to uint64, float32, float64, bool, S1 and up for so many bytes, datetime64[ns] and
        its other units.

        Raises: TypeError when there is something else, or a column of another type.
        """
        from .collections.column import column_at
        return column_at(self._place, key, dtype)

    def live(self, cls: Type[T], key: K, **options: Any) -> T:
        """Return the live object of a class at `key`, made if there is nothing; from then on v[key] is that as well.

        `cls`: one that vaults has, as vaults.List, or that a program has given to vaults.collections.register_kind.
        `options`: those of its kind, as the `dtype` of a column.

        Raises: TypeError when there is something else, or for another class or other options.
        """
        from .collections import live
        return live(self._place, cls, key, options)

    # --- sections ---

    @overload
    def section(self, name: Any, *, validate: Optional[Callable[[Any, Any], object]] = None) -> Section[Any, V]: ...
    @overload
    def section(self, name: Any, *, value_type: Type[T],
                validate: Optional[Callable[[Any, Any], object]] = None) -> Section[Any, T]: ...
    @overload
    def section(self, name: Any, *, value_type: Tuple[Type[Any], ...],
                validate: Optional[Callable[[Any, Any], object]] = None) -> Section[Any, Any]: ...

    def section(self, name: Any, *, value_type: Any = None, validate: Any = None) -> Any:
        """Return the vault inside this one that holds the entries with the keys (name, ...); `name` is any key.

        >>> import vaults
        >>> v = vaults.Vault(':memory:')
        >>> users = v.section('users')
        >>> users['ann'] = 'Ann'
        >>> v['users', 'ann'], users.keys(), len(users)
        ('Ann', ['ann'], 1)

        `value_type`: a type or a tuple of types; a write of any other value raises TypeError.
        `validate`: a function that is called with the section's key and the value before each write through the
        section, and refuses by raising. What is written through the vault does not pass either of them.

        Raises: TypeError or ValueError for what cannot be a key, VaultError for what is no type or function.
        """
        return _above('sections').Section(self._place, name, value_type, validate)

    def sections(self) -> List[Any]:
        """Return the names of the sections that have entries, sorted. A small lookup for each."""
        return list(_above('sections').names(self._place))

    # --- transactions ---

    def __enter__(self) -> Self:
        """Begin a transaction; within one, a nested one."""
        self._store.begin(with_frame())
        return self

    def __exit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException],
                 trace: Optional[TracebackType]) -> None:
        """Commit, or after any exception roll back. The vault stays open."""
        frame = sys._getframe().f_back  # no call of ours, which an interrupt could come into
        self._store.commit(frame) if kind is None else self._store.rollback(frame)

    def transaction(self) -> Transaction:
        """Return a block that is one transaction, or a nested one, of this vault, as `with v:` is."""
        return Transaction(self._store)

    def edit(self, key: K, default: V = MISSING) -> Edit[V]:
        """Return a block that loads the value, lets you change it in place, and writes it back in one transaction.

        >>> import vaults
        >>> v = vaults.Vault(':memory:')
        >>> with v.edit('log', []) as log:
        ...     log.append('started')
        >>> v['log']
        ['started']

        Raises: KeyError on entering when there is no such key and no default.
        """
        return Edit(self, self._place, key, default)

    # --- upkeep ---

    def sync(self) -> None:
        """Make all commits so far survive a power cut; with `writeback`, write what has changed first.

        Raises: VaultError inside a transaction, SerializationError for a changed value that cannot be stored.
        """
        if not self._place.read_only:
            self._store.sync()

    def check(self, progress: Progress = None) -> List[str]:
        """Return the problems found, a line each; empty means sound.

        Looks at the structure of the file, each entry's checksum and chunks, and each value's bytes; runs no pickle.
        `progress(done, total)` is called with numbers of entries.
        """
        return self._store.check(examiner(self._store), progress)

    def compact(self, progress: Progress = None) -> None:
        """Give the space of deleted entries back. `progress(done, total)` is called with numbers of pages.

        Raises: VaultError inside a transaction.
        """
        if not self._place.read_only:
            from .collections.upkeep import sweep
            sweep(self._store)
        self._store.compact(progress)

    def backup(self, path: Path, progress: Progress = None) -> None:
        """Write a whole, openable copy to a new file at `path`, while others may write.

        It holds the last commit at the time of the call. `progress(done, total)` is called with numbers of pages.

        Raises: VaultError when there is a file at `path`, or inside a transaction.
        """
        self._store.backup(os.path.abspath(os.fsdecode(path)), progress)

    # --- closing ---

    def close(self) -> None:
        """Close the vault, for good; an open transaction is rolled back. May be called twice.

        With `writeback` what has changed is written first. When a value cannot be written, the vault stays open.

        Raises: VaultTaskError when another task has a block open; with `writeback`, what sync() raises.
        """
        self._close(True)

    def _close(self, keep: bool) -> None:
        store = self._store
        if not isinstance(store, ClosedStore):
            store.refuse_others()
            store.write_last(keep)
            self._shut(ClosedStore(self._place.path, store.ended, store))
            store.close()

    def _shut(self, closed: ClosedStore) -> None:
        self._place.shut(closed)
        self._store = self._entries = closed

    def delete_vault(self) -> None:
        """Close the vault and delete its file, with its -wal and -shm.

        Raises: VaultReadOnlyError with flag='r' and where it may not be deleted, VaultNotFoundError when another file
        has taken the place of its own; then it stays open.
        """
        if self._place.read_only:
            raise VaultReadOnlyError(f"{self!r} was opened with flag='r': open it to write, to delete it")
        store = self._store
        if isinstance(store, ClosedStore):
            store = store.closed_store or store
        else:
            store.require_own()
        self._close(False)
        store.destroy()

    def __reduce__(self) -> Any:
        """Say how to open the vault once more: for pickle, and so for copy.copy and copy.deepcopy."""
        from .opening import Reopened, added, over
        cls = type(self)
        return over, (cls, Reopened(self._place)), None if cls is Vault else added(self, Vault)

    def __repr__(self) -> str:
        try:
            state = f', {self._size()}'
        except VaultError as error:
            state = ', closed' if isinstance(error, VaultClosedError) else ''
        return f'{type(self).__name__}({self._title()}{state})'

    def _size(self) -> str:
        """Return how many entries there are, in words."""
        count = self._count()
        return f"{count} {plural(count, 'item')}"

    def _title(self) -> str:
        return repr(self._place.name)

    # --- helpers ---

    def _missing(self, key: Any) -> Any:
        """Return what a subclass has for a key that is not there, as v[key] of a dict does. Raises: KeyError."""
        missing = getattr(type(self), '__missing__', None)
        if missing is None:
            raise KeyError(key) from None
        return missing(self, key)

    def _loaded(self, stored: Stored, data: Any) -> Any:
        """Return what an entry's bytes are, as `get`, where each call counts; MISSING if it is deleted meanwhile."""
        if type(data) is tuple:
            return data[0]
        try:
            return unpackb(data, ext_hook=self._hook, strict_map_key=False, max_ext_len=BULK)
        except codes.MALFORMED:
            return self._reread(stored, data, MISSING)

    def _encoded(self, pairs: Iterable[Tuple[Any, Any]], copied: List[Any]) -> Iterator[Tuple[Stored, bytes]]:
        """Yield what the store is to put; copy live lists and columns in passing, and add their keys to `copied`."""
        encode, dumps, check = self._keys.encode, self._values.dumps, self._validate
        for key, value in pairs:
            if check is not None:
                check(key, value)
            try:
                data = dumps(value)
            except VaultError as error:
                if type(value) in registry.live_types:
                    self._assign(key, value)
                    copied.append(key)
                    continue
                raise self._place.about(error, key) from error
            yield encode(key), data

    def _reread(self, stored: Stored, data: bytes, *default: Any) -> Any:
        """Return what bytes are that msgpack alone does not unpack, or raise what is wrong with them."""
        from .collections import load
        return load(self._place, stored, data, *default)

    def _assign(self, key: Any, value: Any) -> None:
        """Make the entry a copy of a live list or column; what is the entry's own stays as it is."""
        from .collections import assign
        assign(self._place, key, value)

    def _check(self) -> None:
        """Assert every invariant of the file and the mapping. Ends every stress test."""
        assert self.check() == [], self.check()
        listed = list(self)
        assert len(self) == len(listed) == len(set(listed)) == len(self[:])
        assert list(reversed(self)) == listed[::-1]
        assert set(self[:]) == set(listed)
        ordered = [keys.order(self._keys.encode(key)) for key in self[:]]
        assert ordered == sorted(ordered)
        assert self.has_keys(listed)


registry.never_stored += [Vault, SortedSlice, Keys, Values, Items]


def _above(name: str) -> Any:
    """Return a room that stands above this one, being made of vaults: so it is found by name, and when it is used."""
    from importlib import import_module
    return import_module(f'.{name}', __package__)


def _reopen(cls: Any, *arguments: Any) -> Any:
    """Open again a vault that was pickled by an earlier version."""
    from .opening import over, reopened
    return over(cls, reopened(*arguments))
