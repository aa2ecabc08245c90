"""Place: all that a section, a collection, a stream or an import may know of its vault. Knows no vault.

    store       where the entries are
    engine      that, or what it stands before: a walk looks at its `deletions` at every step
    keys        stored forms of keys: the module keys.py, or what a section has in its place
    codec       bytes of values
    entries, values     what the verbs of a vault work on: the store and the codec or, in write-back mode, what has live
                objects in the place of bytes
    name, path  what the vault is called, and what errors call it
    read_only, validate     what may be written
    walks       what walks over lists and columns have read, and give item by item: it goes when the place is closed
"""
from __future__ import annotations

from itertools import chain, islice

from . import keys
from .errors import VaultError, about
from .stores.base import ClosedStore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Protocol, Sequence, Tuple, Union

    from .codecs.packing import Codec
    from .keys import Stored
    from .stores.base import Live, Store

    Check = Callable[[Any, Any], object]
    Again = Union[str, Tuple[Any, ...]]

    class Entries(Protocol):
        """What is kept under stored keys: a Store, a read cache, or in write-back mode what has a Live for bytes.

        What `values` packs is what `put` takes.
        """

        def get(self, key: Stored) -> Union[bytes, Live, Tuple[Any], None]: ...
        def get_many(self, keys: Sequence[Stored]) -> Iterable[Union[bytes, Live, Tuple[Any], None]]: ...
        def put(self, key: Stored, data: Any) -> None: ...
        def put_many(self, pairs: Iterable[Tuple[Stored, Any]]) -> int: ...
        def scan(self, low: Stored, high: Stored, *, by_key: bool, reverse: bool) -> Iterator[Any]: ...

    class LiveEntries(Entries, Protocol):
        """Those of a vault in write-back mode, or with a read cache."""

        def within(self, keys: KeyCodec, validate: Optional[Check]) -> LiveEntries: ...

    class ValueCodec(Protocol):
        """How values become what `entries` take, and back: a Codec or, in write-back mode, what leaves them alone."""

        def dumps(self, value: Any) -> Any: ...
        def loads_many(self, datas: Any) -> Iterable[Any]: ...

    class KeyCodec(Protocol):
        """How the keys of a vault or section are stored. Raises: as the functions of keys.py."""

        def encode(self, key: Any) -> Stored: ...
        def decode(self, stored: Stored) -> Any: ...
        def decode_many(self, stored: Sequence[Stored]) -> Iterable[Any]: ...
        def bounds(self, low: Any = None, high: Any = None) -> Tuple[Stored, Stored]: ...
        def prefix_bounds(self, prefix: Any) -> Tuple[Stored, Stored]: ...
        def whole(self, key: Any) -> Any: ...


SOUGHT_AT_ONCE = 4096   # keys that are taken from what gives them, before they are looked for
REPR_LENGTH = 20    # entries or items that repr shows


class Displayed:
    """What IPython and Jupyter ask for, of a vault, slice, list or column: see display.py."""

    __slots__ = ()

    def _ipython_key_completions_(self) -> List[Any]:
        from .display import completions
        return completions(self)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        from .display import pretty
        pretty(self, self._caption, self._rows, printer, cycle)

    def _repr_html_(self) -> str:
        from .display import html
        return html(self, self._caption, self._rows)

    def _caption(self) -> str:
        """Return what stands above a table of it."""
        return repr(self)

    def _rows(self) -> Iterator[Tuple[str, Any]]:
        """Yield the rows of a table: a key or place as text, and a value or `Words` about it."""
        raise NotImplementedError


class _Missing:
    """Stands for a default that was not given. A class, for the sake of signatures: help() shows its repr."""

    __slots__ = ()

    def __repr__(self) -> str:
        return '<missing>'


MISSING: Any = _Missing()
NOWHERE = keys.encode(None)     # a key to look for where what is looked for has no stored form


class Place:
    """Where entries are kept, and how: those of a vault, or of a section in it.

    When the vault is closed `store` becomes another one: whoever keeps a place asks it each time. What a vault itself
    reads in each call, it has beside its place. The vault is open as long as somebody keeps its place. A place that is
    pickled is opened again by its path, with all that is pickled along with it. Safe in any thread.
    """

    __slots__ = ('__weakref__', 'again', 'codec', 'engine', 'entries', 'keys', 'name', 'parent', 'path', 'read_only',
                 'store', 'validate', 'values', 'walks')
    entries: Entries
    values: ValueCodec

    def __init__(self, store: Store, keys: KeyCodec, codec: Codec, name: str, path: str, read_only: bool,
                 validate: Optional[Check], again: Again, parent: Optional[Place] = None) -> None:
        self.store, self.keys, self.codec = self.entries, _, self.values = store, keys, codec
        self.engine = store
        self.name, self.path = name, path
        self.read_only, self.validate = read_only, validate
        self.again = again      # a function and its arguments: what opens it again; or why that cannot be
        self.parent = parent    # the place that a section is in
        self.walks: Dict[int, Tuple[Place, List[Any]]] = {} if parent is None else parent.walks

    def within(self, keys: KeyCodec, validate: Optional[Check], again: Again) -> Place:
        """Return the place of a section in this one."""
        inside = Place(self.store, keys, self.codec, self.name, self.path, self.read_only, validate, again, self)
        inside.engine = self.engine
        if self.entries is not self.store:
            live: LiveEntries = self.entries  # type: ignore[assignment]  # what is no store
            inside.entries, inside.values = live.within(keys, validate), self.values
        return inside

    def shut(self, store: ClosedStore) -> None:
        """Put a store that refuses everything in the place of what was closed."""
        self.store = self.engine = self.entries = store
        for place, items in list(self.walks.values()):
            if place is self or self.parent is None:
                items.clear()

    def one_by_one(self, batches: Iterator[List[Any]]) -> Iterator[Any]:
        """Return an iterator over the items of the lists, as long as this is open.

        An item takes no Python, so nothing asks at each whether it is open: who closes it empties the lists instead,
        and the next step raises.
        """
        return chain.from_iterable(self._lent(batches))

    def _lent(self, batches: Iterator[List[Any]]) -> Iterator[List[Any]]:
        above = self
        while above.parent is not None:
            above = above.parent
        for items in batches:
            try:
                self.walks[id(items)] = self, items
                if isinstance(self.store, ClosedStore) or isinstance(above.store, ClosedStore):  # by another thread
                    items.clear()
                yield items
            finally:
                self.walks.pop(id(items), None)
            if not items:  # they were taken away
                above.store.contains(NOWHERE)
                self.store.contains(NOWHERE)
            del items  # before the next ones are read

    @property
    def closed(self) -> bool:
        """Whether it is closed, or what it is in."""
        return isinstance(self.store, ClosedStore) or (self.parent is not None and self.parent.closed)

    def __reduce__(self) -> Tuple[Any, ...]:
        if isinstance(self.again, str):
            raise TypeError(self.again)
        if not self.closed:
            self.store.flush()
        return self.again

    def sought(self, key: Any) -> Optional[Stored]:
        """Return the stored form of a key to look for, or None for one that cannot be stored, and so is not there.

        Raises: TypeError for what is not hashable. Where each call counts, these lines stand instead.
        """
        try:
            return self.keys.encode(key)
        except (TypeError, ValueError):
            self.cannot_hold(key)
            return None

    def sought_many(self, wanted: Iterable[Any]) -> Tuple[List[Any], List[Stored]]:
        """Return those of the keys that can be stored, and their stored forms. Raises: as `sought`."""
        asked = list(wanted)
        try:
            return asked, list(map(self.keys.encode, asked))
        except (TypeError, ValueError):
            stored = [(key, self.sought(key)) for key in asked]
        return [key for key, one in stored if one is not None], [one for _, one in stored if one is not None]

    def has_all(self, wanted: Iterable[Any]) -> bool:
        """Tell whether all the keys are there. No more of them are taken than it needs to know, but for some."""
        upcoming = iter(wanted)
        for some in iter(lambda: list(islice(upcoming, SOUGHT_AT_ONCE)), []):
            asked, stored = self.sought_many(some)
            if len(asked) < len(some) or not all(self.store.contains_many(stored)):
                return False
        return True

    def cannot_hold(self, key: Any) -> None:
        """Raise what looking for a key raises that cannot be stored: for what is not hashable what a dict does."""
        hash(key)
        self.store.contains(NOWHERE)  # as for any key: VaultClosedError, say

    def slice_bounds(self, key: slice) -> Tuple[Stored, Stored]:
        """Return the stored ends of the keys in a slice a:b."""
        if key.step is not None:
            raise TypeError('a slice of keys has no step: take every n-th of its keys() instead')
        return self.keys.bounds(key.start, key.stop)

    def load(self, key: Stored, data: bytes) -> Any:
        """Return the value that an entry's bytes are. Raises: VaultCorruptError for what is kept in chunks, too."""
        try:
            return self.codec.loads(data)
        except VaultError as error:
            raise self.about(error, self.keys.decode(key)) from error

    def allow_chunks(self, key: Any) -> None:
        """Raise VaultError where lists, columns and streams may not be."""
        if self.validate is not None:
            raise self.about(VaultError('a list, column or stream has no whole value to validate: make it in a vault '
                                        'or section without validate and value_type'), key)

    def where(self, key: Any) -> str:
        """Return how an error names the entry."""
        return f'key {key!r} of the vault {self.path}'

    def about(self, error: VaultError, key: Any) -> VaultError:
        """Return the error with the key and the vault that it is about."""
        return about(error, self.keys.whole(key), self.path)


def place_of(vault: Any) -> Place:
    """Return the place of a vault or section, for the rooms that work on its entries without it; of a place, itself."""
    place: Place = vault if type(vault) is Place else vault._place
    return place
