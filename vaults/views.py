"""Views: keys(), values() and items(), and the sorted slices v[a:b]. Knows entries only as the vault hands them out.

A view costs nothing until it is used and streams a vault of any size. It does what a list does (index, slice, ==,
repr) and, for keys and items, what a set does.
"""
from __future__ import annotations

import sys
from collections import abc
from itertools import chain, islice
from operator import index as as_index
from operator import itemgetter

from . import keys
from ._typing import TYPE_CHECKING, Generic, ItemsView, K, K_co, KeysView, Mapping, T, V, V_co, ValuesView, overload
from .codecs import codes
from .errors import VaultError, plural
from .place import MISSING, REPR_LENGTH, Displayed, place_of

if TYPE_CHECKING:
    from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, SupportsIndex, Tuple, Union

    from .place import Place
    from .stores.base import Store
    from .vault import Vault

    Bounds = Tuple[keys.Stored, keys.Stored]

class _ListLike(Generic[V_co]):
    """What a list can do, for a view. A thread may use a view that another one made."""

    __slots__ = ()
    if not TYPE_CHECKING:
        __class_getitem__ = classmethod(lambda cls, _: cls)
    _mapping: Any

    def _walk(self, reverse: bool = False) -> Iterator[Any]:
        raise TypeError('a view walks in its own way')

    @overload
    def __getitem__(self, index: slice) -> List[V_co]: ...
    @overload
    def __getitem__(self, index: SupportsIndex) -> V_co: ...

    def __getitem__(self, index: Any) -> Any:
        """Return the element at `index`, or a list of those in a slice. Walks there: cheap near either end."""
        if isinstance(index, slice):
            return self._slice(index)
        at = as_index(index)
        if at > REPR_LENGTH:
            at = self._nearer(at)
        for element in islice(self._walk(at < 0), ~at if at < 0 else at, None):
            return element
        size: int = len(self)  # type: ignore[arg-type]
        raise IndexError(f'index {at} is out of range: the vault has {size} {plural(size, "entry")} here')

    def _nearer(self, at: int) -> int:
        """Return the place counted from the end when that is nearer."""
        size = self._mapping._count_up_to(min(2 * at + 1, sys.maxsize))
        return at - size if size // 2 < at < size else at

    def _slice(self, index: slice) -> List[Any]:
        """Return the elements in a slice, walking to them from the nearer end, and counting no further than needed.

        Places that are all given from one end are the same whatever lies beyond twice the farthest of them.
        """
        ends = [as_index(end) for end in (index.start, index.stop) if end is not None]
        forward = index.step is None or as_index(index.step) > 0
        lower, upper = (index.start, index.stop) if forward else (index.stop, index.start)
        from_start, from_end = upper is not None and min(ends) >= 0, lower is not None and max(ends) < 0
        reach = min(2 * max(map(abs, ends)) + 2, sys.maxsize) if from_start or from_end else sys.maxsize
        size = self._mapping._count_up_to(reach)
        places = range(*index.indices(size))
        if not places:
            return []
        low, high = sorted((places[0], places[-1]))
        back = from_end if size == reach else size - low < high + 1
        if back:
            low, high = size - 1 - high, size - 1 - low
        found = list(islice(self._walk(back), low, high + 1, abs(places.step)))
        return found if forward is not back else found[::-1]

    def index(self, value: Any) -> int:
        """Return the place of the first element equal to `value`. Raises: ValueError when there is none."""
        for place, element in enumerate(self._walk()):
            if element is value or element == value:
                return place
        raise ValueError(f'{value!r} is not here')

    def count(self, value: Any) -> int:
        """Return how many elements equal `value`."""
        return sum(element is value or element == value for element in self._walk())

    def __eq__(self, other: object) -> Any:
        if isinstance(other, (list, tuple, abc.ValuesView)):
            return has_length(self._mapping, len(other)) and all(
                mine is theirs or mine == theirs for mine, theirs in zip(self._walk(), other))
        if isinstance(other, abc.Set) and isinstance(self, abc.Set):
            return has_length(self._mapping, len(other)) and all(element in other for element in self._walk())
        return NotImplemented

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        shown = list(islice(self._walk(), REPR_LENGTH + 1))
        inside = ', '.join(map(repr, shown[:REPR_LENGTH]))
        return f'[{inside}, ...]' if len(shown) > REPR_LENGTH else f'[{inside}]'


class Walks(Displayed, Mapping[K, V]):
    """What a vault and a sorted slice of it share: walks over entries, and how many there are.

    Without bounds it is all of a place, in the order of insertion; with them what lies between, in the order of keys.
    """

    __slots__ = ()
    if not TYPE_CHECKING:
        def __class_getitem__(cls, _):
            """Return the class: Vault[...] is for type checkers."""
            return cls
    _place: Place
    _bounds: Optional[Bounds] = None

    def __iter__(self) -> Iterator[K]:
        """Walk over the keys, in the order of keys(); writing meanwhile is safe."""
        return self._walk_keys()

    def __reversed__(self) -> Iterator[K]:
        """Walk over the keys, the last one first."""
        return self._walk_keys(reverse=True)

    def __len__(self) -> int:
        """Count the entries. A vault keeps their number; a section or a slice walks over its keys."""
        return self._count()

    def __bool__(self) -> bool:
        """Tell whether there is an entry."""
        return self._count_up_to(1) > 0

    def keys(self) -> Keys[K]:
        """Return a lazy view of the keys, which is list-like and set-like."""
        return Keys(self)

    def values(self) -> Values[V]:
        """Return a lazy, list-like view of the values."""
        return Values(self)

    def items(self) -> Items[K, V]:
        """Return a lazy view of the (key, value) pairs, which is list-like and set-like."""
        return Items(self)

    def __eq__(self, other: object) -> Any:
        """Compare as dicts compare: the same keys with equal values, in any order."""
        if other is self:
            return True
        if not isinstance(other, abc.Mapping):
            return NotImplemented
        return has_length(self, len(other)) and all(
            value is mine or value == mine for key, mine in self.items() for value in [other.get(key, MISSING)])

    __hash__ = None  # type: ignore[assignment]

    def _rows(self) -> Iterator[Tuple[str, Any]]:
        return shown_entries(self._place, self.keys())

    def _count(self) -> int:
        return self._place.store.count(*(self._bounds or self._place.keys.bounds()))

    def _count_up_to(self, most: int) -> int:
        return self._place.store.count_up_to(most, *(self._bounds or self._place.keys.bounds()))

    def _walk_keys(self, reverse: bool = False, bounds: Optional[Bounds] = None) -> Iterator[Any]:
        return self._walk(False, reverse, bounds or self._bounds)

    def _walk_items(self, reverse: bool = False, bounds: Optional[Bounds] = None) -> Iterator[Any]:
        return self._walk(True, reverse, bounds or self._bounds)

    def _walk(self, values: bool, reverse: bool, bounds: Optional[Bounds]) -> Iterator[Any]:
        """Yield the keys, or the pairs, of a scan's pages, save those that were deleted since their page was read.

        As long as nothing was deleted, to know that costs one comparison. Then the store is asked about each entry
        that is left of the page: whether it is there, and not whether its key is.
        """
        place = self._place
        load: Any = self._load_first if values else self._load_keys
        known: Any
        rest: Any
        for stored, datas, ids in self._scan(reverse, bounds, values):
            seen, rest = place.engine.deletions, load(stored, datas)
            datas, load = None, self._load_many if values else load
            for entry in rest:
                yield entry
                if place.engine.deletions != seen:  # which raises when it was closed meanwhile
                    known = dict(zip(stored, ids))
                    break
            for entry in rest:
                stored = place.keys.encode(entry[0] if values else entry)
                if place.store.alive(stored, known[stored]):
                    yield entry
                    seen = place.engine.deletions  # as above
            stored = ids = rest = entry = known = None  # before the next page is read

    def _load_keys(self, stored: Any, _: Any) -> Iterator[Any]:
        return iter(self._place.keys.decode_many(stored))

    def _load_first(self, stored: Any, datas: Any) -> Iterator[Any]:
        """Load the first of several alone, because there may be no need of the others."""
        alone = int(len(datas) > 1)
        yield from self._load_between(stored[:alone], datas[:alone])
        rest = self._load_many(stored[alone:], datas[alone:])
        del datas
        yield from rest

    def _load_many(self, stored: Any, datas: Any) -> Iterator[Any]:
        try:
            return zip(self._place.keys.decode_many(stored), self._place.values.loads_many(datas))
        except codes.MALFORMED:  # one of the page
            return self._load_between(stored, datas)

    def _load_between(self, stored: Any, datas: Any) -> Iterator[Any]:
        """Load what is kept in chunks each at its turn, and values between at once; without any, each at its turn."""
        headers = [at for at, data in enumerate(datas) if type(data) is bytes and codes.is_header(data)]
        start = 0
        for at in headers:
            yield from self._load_many(stored[start:at], datas[start:at])
            yield from self._load_header(stored[at], datas[at])
            start = at + 1
        yield from (self._load_many if headers else self._load_each)(stored[start:], datas[start:])

    def _load_each(self, stored: Any, datas: Any) -> Iterator[Any]:
        decode, load = self._place.keys.decode, self._place.load
        for packed, data in zip(stored, datas):
            key = value = None  # the last one, before the next is loaded
            key = decode(packed)
            value = data[0] if type(data) is tuple else load(packed, data)
            yield key, value

    def _load_header(self, stored: Any, data: Any) -> Iterator[Any]:
        from .collections import load
        value = load(self._place, stored, data, MISSING)
        if value is not MISSING:  # as a stream is that was deleted since the page was read
            yield self._place.keys.decode(stored), value

    def _scan(self, reverse: bool, bounds: Optional[Bounds], values: bool) -> Iterator[Any]:
        place, is_sorted = self._place, bounds is not None
        low, high = bounds or place.keys.bounds()
        if values:
            return place.entries.scan(low, high, by_key=is_sorted, reverse=reverse)
        return place.store.scan(low, high, by_key=is_sorted, reverse=reverse, values=False)

    def _walk_range(self, minimum: Any, maximum: Any, inclusive: Tuple[bool, bool], reverse: bool) -> Iterator[Any]:
        """Walk over the sorted keys between two, either of which may be among them; None is no bound."""
        low, high = self._place.keys.bounds(minimum, maximum)
        last = [maximum] if maximum is not None and inclusive[1] else []
        ends = [key for key in last if keys.order(low) <= keys.order(high) and key in self
                and (inclusive[0] or minimum is None or key != minimum)]
        if reverse:
            yield from map(self._stored_form, ends)
        for key in self._walk_keys(reverse, (low, high)):
            if inclusive[0] or minimum is None or key != minimum:
                yield key
        if not reverse:
            yield from map(self._stored_form, ends)

    def _stored_form(self, key: Any) -> Any:
        """Return the key as it was first put: 1 may be stored as 1.0."""
        stored = self._place.keys.encode(key)
        for found in self._walk_keys(False, (stored, self._place.keys.bounds()[1])):
            return found
        return key


class Keys(_ListLike[K_co], KeysView[K_co]):
    """The keys, in the mapping's order; a set as well."""

    __slots__ = ('__weakref__',)

    def _walk(self, reverse: bool = False) -> Iterator[Any]:
        return self._mapping._walk_keys(reverse)  # type: ignore[no-any-return]

    def __iter__(self) -> Iterator[K_co]:
        return self._walk()

    def __reversed__(self) -> Iterator[K_co]:
        return self._walk(reverse=True)

    def __contains__(self, key: object) -> bool:
        return key in self._mapping

    @classmethod
    def _from_iterable(cls, it: Any) -> Any:
        return set(it)


class Values(_ListLike[V_co], ValuesView[V_co]):
    """The values, in the order of their keys."""

    __slots__ = ('__weakref__',)

    def _walk(self, reverse: bool = False) -> Iterator[Any]:
        return map(itemgetter(1), self._mapping._walk_items(reverse))

    def __iter__(self) -> Iterator[V_co]:
        return self._walk()

    def __reversed__(self) -> Iterator[V_co]:
        return self._walk(reverse=True)

    def __contains__(self, value: object) -> bool:
        return any(element is value or element == value for element in self)


class Items(_ListLike['Tuple[K_co, V_co]'], ItemsView[K_co, V_co]):
    """The (key, value) pairs, in the mapping's order; a set as well when the values are hashable."""

    __slots__ = ('__weakref__',)

    def _walk(self, reverse: bool = False) -> Iterator[Any]:
        return self._mapping._walk_items(reverse)  # type: ignore[no-any-return]

    def __iter__(self) -> Iterator[Tuple[K_co, V_co]]:
        return self._walk()

    def __reversed__(self) -> Iterator[Tuple[K_co, V_co]]:
        return self._walk(reverse=True)

    def __contains__(self, item: object) -> bool:
        if not isinstance(item, tuple) or len(item) != 2:
            return False
        value = self._mapping.get(item[0], MISSING)
        return value is not MISSING and (value is item[1] or bool(value == item[1]))

    @classmethod
    def _from_iterable(cls, it: Any) -> Any:
        return set(it)


def has_length(mapping: Any, length: int) -> bool:
    """Tell whether a vault or a part of it has so many entries; more are not counted."""
    return bool(mapping._count_up_to(min(length + 1, sys.maxsize)) == length)


class SortedSlice(Walks[K, V]):
    """The entries with low <= key < high, sorted by key: what v[a:b] and v.prefix() return.

    Lazy and live: it holds two keys and a vault, and shows what is in the vault when it is asked. Safe in any thread.
    """

    __slots__ = ('__weakref__', '_bounds', '_place', '_vault')
    _bounds: Bounds
    _repr_pretty_ = Displayed._repr_pretty_  # IPython takes it from the class that has __repr__

    def __init__(self, vault: Vault[K, V], low: keys.Stored, high: keys.Stored) -> None:
        self._vault, self._place = vault, place_of(vault)
        self._bounds = low, high

    def __getstate__(self) -> Any:
        """Say what a pickle holds: a vault, which knows its place when it is open again, and the two keys."""
        return None, {'_bounds': self._bounds, '_vault': self._vault}

    def __setstate__(self, state: Any) -> None:
        slots = state[1]
        SortedSlice.__init__(self, slots['_vault'], *slots['_bounds'])

    def _has(self, key: Any) -> bool:
        stored = self._place.sought(key)
        return (stored is not None
                and keys.order(self._bounds[0]) <= keys.order(stored) < keys.order(self._bounds[1]))

    @overload
    def __getitem__(self, key: slice) -> SortedSlice[K, V]: ...
    @overload
    def __getitem__(self, key: K) -> V: ...

    def __getitem__(self, key: Any) -> Any:
        """Return the value of a key within the range; for a slice, the part of this range within it."""
        if isinstance(key, slice):
            low, high = self._place.slice_bounds(key)
            return SortedSlice(self._vault, max(low, self._bounds[0], key=keys.order),
                               min(high, self._bounds[1], key=keys.order))
        value = self.get(key, MISSING)  # not the vault's [key]: __missing__ of a subclass is not for a slice
        if value is MISSING:
            raise KeyError(key)
        return value

    def __delitem__(self, key: Any) -> None:
        """Delete a key within the range; for a slice, all keys within both."""
        if isinstance(key, slice):
            self[key].clear()
        elif self._has(key):
            del self._vault[key]
        else:
            raise KeyError(key)

    def clear(self) -> None:
        """Delete every entry of the range, in one statement."""
        self._place.store.delete_range(*self._bounds)

    def __contains__(self, key: object) -> bool:
        return self._has(key) and key in self._vault

    @overload
    def get(self, key: K) -> Optional[V]: ...
    @overload
    def get(self, key: K, default: Union[V, T]) -> Union[V, T]: ...

    def get(self, key: Any, default: Any = None) -> Any:
        """Return the value of a key within the range, or `default`."""
        return self._vault.get(key, default) if self._has(key) else default

    @overload
    def first(self) -> Tuple[K, V]: ...
    @overload
    def first(self, default: T) -> Union[Tuple[K, V], T]: ...

    def first(self, default: Any = ...) -> Any:
        """Return the (key, value) of the smallest key. Raises: KeyError when there is none and no default."""
        return self._end(False, default)

    @overload
    def last(self) -> Tuple[K, V]: ...
    @overload
    def last(self, default: T) -> Union[Tuple[K, V], T]: ...

    def last(self, default: Any = ...) -> Any:
        """Return the (key, value) of the greatest key. Raises: KeyError when there is none and no default."""
        return self._end(True, default)

    def _end(self, reverse: bool, default: Any) -> Any:
        for item in self._walk_items(reverse):
            return item
        if default is ...:
            raise KeyError(f'there are no keys in this range of {self._vault!r}')
        return default

    def _caption(self) -> str:
        return f'{len(self):,} of {self._vault!r}'

    def __repr__(self) -> str:
        shown = list(islice(self.items(), REPR_LENGTH + 1))
        inside = ', '.join(f'{key!r}: {value!r}' for key, value in shown[:REPR_LENGTH])
        return f"SortedSlice({{{inside}{', ...' if len(shown) > REPR_LENGTH else ''}}})"


# --- tables of IPython and Jupyter ------------------------------------------------------------------------------------

def shown_entries(place: Place, wanted: Iterable[Any]) -> Iterator[Tuple[str, Any]]:
    """Yield the keys as text, and the values or words about them, but for those that have gone."""
    for key in wanted:
        value = _glance(place, key)
        if value is not MISSING:
            yield repr(key), value


def _glance(place: Place, key: Any) -> Any:
    """Return a value; of a large one, or one in chunks, words about it; MISSING when it has gone. Does not raise."""
    from .codecs.codes import is_header
    from .collections import described
    from .display import LARGE, Words
    stored = place.keys.encode(key)
    try:
        held = place.store.held(stored)
        if held is not None:
            return held[0]
        size, data = place.store.glance(stored, LARGE)
        if data is None:
            return Words(f'{size:,} {plural(size, "byte")}') if size else MISSING
        return Words(described(data)) if is_header(data) else place.load(stored, data)
    except Exception as error:  # of the vault, or of a class of the user's
        return Words(f'{type(error).__name__}: {error}')


# --- a look at each entry -------------------------------------------------------------------------------------------

def examiner(store: Store) -> Callable[[keys.Stored, bytes], Optional[str]]:
    """Return what is given an entry and returns what is wrong with it, or None. Runs no pickle, and needs no file."""
    from .codecs.packing import Codec
    from .codecs.pickles import Unread
    codec = Codec(Unread())

    def examine(key: keys.Stored, data: bytes) -> Optional[str]:
        try:
            keys.decode(key)
            if not codes.is_header(data):
                codec.loads(data)
                return None
        except (VaultError, ImportError) as error:
            return f'key {keys.named(key)}: {error}'
        from .collections.upkeep import examined
        return examined(store, codec, key, data)
    return examine


# --- what update() takes ----------------------------------------------------------------------------------------------

def pairs_of(other: Any, named: Dict[str, Any]) -> Iterator[Tuple[Any, Any]]:
    """Return the pairs that dict.update(other, **named) would set.

    Of a vault by items(): another process may delete a key between a walk over keys() and a look at each.
    """
    if isinstance(other, (dict, Walks)):
        return chain(other.items(), named.items())
    return _checked(other, named)


def _checked(other: Any, named: Dict[str, Any]) -> Iterator[Tuple[Any, Any]]:
    if hasattr(other, 'keys'):
        for key in other.keys():  # noqa: SIM118  # as dict.update: it may have keys() and iterate over something else
            yield key, other[key]
    else:
        for place, pair in enumerate(other):
            try:
                key, value = pair
            except (TypeError, ValueError) as error:
                raise type(error)(f'element {place} is no pair of a key and a value: {error}') from error
            yield key, value
    yield from named.items()
