"""Columns: arrays of one fixed-size type that live in a vault. Knows neither SQL nor how keys are stored.

A leaf is the items' bytes, little-endian. NumPy is used where the program has it, and imported by to_numpy() alone.
"""
from __future__ import annotations

import struct
import sys
from array import array
from datetime import date, datetime, timedelta
from functools import lru_cache
from itertools import islice
from operator import index as as_index

from . import values
from ._typing import TYPE_CHECKING, T
from .sequences import LEAF, _Sequence, made_at

if TYPE_CHECKING:
    from typing import Any, Callable, Iterable, Iterator, Optional, Tuple
    from typing import List as PlainList

    from .parts import Head
    from .sequences import Run
    from .vault import Vault

BLOCK = 1 << 15         # bytes of an iterable's items that are packed at a time, in whole leaves
MAX_BYTES = 1 << 20     # of an item

# By name, as NumPy writes them: the code of the modules array and struct.
NUMBERS = {'int8': 'b', 'uint8': 'B', 'int16': 'h', 'uint16': 'H', 'int32': 'i', 'uint32': 'I', 'int64': 'q',
           'uint64': 'Q', 'float32': 'f', 'float64': 'd'}
NANOSECONDS = {'W': 604_800 * 10**9, 'D': 86_400 * 10**9, 'h': 3_600 * 10**9, 'm': 60 * 10**9, 's': 10**9, 'ms': 10**6,
               'us': 10**3, 'ns': 1}
EPOCH = datetime(1970, 1, 1)


class Type:
    """A type of items of a fixed size: objects to bytes, little-endian, and back."""

    def __init__(self, dtype: Any) -> None:
        self.name = _name(dtype)
        self.code: Optional[str] = NUMBERS.get(self.name)
        self.as_item: Callable[[Any], Any] = lambda item: item
        self.size, self.pack = self._known()

    def _known(self) -> Tuple[int, Callable[[PlainList[Any]], bytes]]:
        """Return the bytes of an item, and what packs many. Raises: TypeError for another name."""
        if self.code:
            return struct.calcsize(f'<{self.code}'), self._pack_numbers
        if self.name == 'bool':
            return 1, _pack_bools
        if self.name[:1] == 'S' and self.name[1:].isdecimal() and 0 < int(self.name[1:]) <= MAX_BYTES:
            return int(self.name[1:]), self._pack_bytes
        unit = self.name[len('datetime64['):-1]
        if self.name == f'datetime64[{unit}]' and unit in NANOSECONDS:
            self.code = 'q'
            self.as_item = lambda item: _since_epoch(item, unit)
            return 8, lambda items: self._pack_numbers(list(map(self.as_item, items)))
        raise TypeError(f'a column has no type {self.name!r}: it is int8 to int64, uint8 to uint64, float32, float64, '
                        f"bool, S1 to S{MAX_BYTES}, or datetime64[ns] and the like")

    def _pack_numbers(self, items: PlainList[Any]) -> bytes:
        """Pack with struct: it is quicker than array, and does not make large numbers infinite in 32 bits."""
        try:
            return struct.pack(f'<{len(items)}{self.code}', *items)
        except struct.error:
            array(self.code or 'q', items)  # which says whether it is the type or the range
            raise

    def _pack_bytes(self, items: PlainList[Any]) -> bytes:
        for item in items:
            if not isinstance(item, bytes):
                raise TypeError(f'bytes are wanted, not {type(item).__name__}')
            if len(item) > self.size or item[-1:] == b'\0':
                raise ValueError(f'{item[:40]!r} is longer than {self.size} bytes, or ends with NUL, which would be '
                                 'lost')
        return b''.join([item.ljust(self.size, b'\0') for item in items])

    def one(self, run: bytes, at: int) -> Any:
        """Return an item of a run as a Python object; a datetime64 as the number of its units since 1970."""
        data = run[at * self.size:(at + 1) * self.size]
        if self.code:
            return struct.unpack(f'<{self.code}', data)[0]
        return data.rstrip(b'\0') if self.name[0] == 'S' else bool(data[0])

    def unpacked(self, data: bytes) -> Any:
        """Return an array.array of the items, or a memoryview where there is none of their type."""
        if self.code:
            items = array(self.code, data)
            if sys.byteorder == 'big':
                items.byteswap()
            return items
        if self.name == 'bool':
            return memoryview(data).cast('?')
        return memoryview(data).cast('B', (len(data) // self.size, self.size)) if data else memoryview(data)

    def listed(self, data: bytes) -> PlainList[Any]:
        """Return the items as Python objects."""
        if self.name[0] == 'S':
            return [data[at:at + self.size].rstrip(b'\0') for at in range(0, len(data), self.size)]
        listed: PlainList[Any] = self.unpacked(data).tolist()
        return listed

    def buffer(self, items: Any) -> Optional[memoryview]:
        """Return the bytes of items that a buffer, or a NumPy array, holds in this form, not copied; else None.

        Raises: TypeError, ValueError and OverflowError for an array whose values do not fit.
        """
        numpy = sys.modules.get('numpy')
        if numpy is not None and isinstance(items, numpy.ndarray):
            return memoryview(_converted(numpy, items, self.name) if len(items) else b'')
        try:
            view = memoryview(items)
        except TypeError:
            return None
        if self.name[0] == 'S' and view.shape == (len(view), self.size) and view.c_contiguous:
            return view.cast('B')
        if not (self.code and view.itemsize == self.size and _kind(view.format) == _kind(self.code)
                and view.ndim == 1 and view.c_contiguous and sys.byteorder == 'little'):
            return None
        return view.cast('B') if view.nbytes else memoryview(b'')


@lru_cache(maxsize=64)
def size_of(name: str) -> int:
    """Return the bytes of an item of a type. Raises: TypeError when there is none of that name."""
    return Type(name).size


def _name(dtype: Any) -> str:
    """Return the name of a type given by name, as a NumPy dtype, or as bool, int or float."""
    if isinstance(dtype, type):
        dtype = {bool: 'bool', int: 'int64', float: 'float64'}.get(dtype, dtype.__name__)
    if not isinstance(dtype, str):
        dtype = f'S{dtype.itemsize}' if getattr(dtype, 'kind', '') == 'S' else getattr(dtype, 'name', repr(dtype))
    return str(dtype)


def _kind(code: str) -> str:
    """Return which numbers a format of a buffer means, whatever their size."""
    return next((kind for kind in ('bhilqn', 'BHILQN', 'fd') if code.lstrip('@') in kind), code)


def _pack_bools(items: PlainList[Any]) -> bytes:
    for item in items:
        if type(item).__name__ not in ('bool', 'bool_'):  # NumPy's, by both its names
            raise TypeError(f'True or False is wanted, not {item!r}')
    return bytes(map(bool, items))


def _since_epoch(item: Any, unit: str) -> int:
    """Return how many units a moment lies behind 1970. Raises: ValueError when it is no whole number of them."""
    if type(item).__name__ == 'datetime64':
        exact = item.astype(f'datetime64[{unit}]')
        if exact != item and item == item:
            raise ValueError(f'{item!r} is finer than the unit {unit}, or outside its range')
        return int(exact.astype('int64'))
    if isinstance(item, date):
        moment = item if isinstance(item, datetime) else datetime(item.year, item.month, item.day)
        since = moment.replace(tzinfo=None) - EPOCH - (moment.utcoffset() or timedelta())
        units, rest = divmod(since // timedelta(microseconds=1) * 1000, NANOSECONDS[unit])
        if rest:
            raise ValueError(f'{item!r} is finer than the unit {unit}')
        return units
    if isinstance(item, bool):
        raise TypeError('a datetime, or a number of units since 1970, is wanted, not a bool')
    return as_index(item)


def _converted(numpy: Any, items: Any, name: str) -> Any:
    """Return the bytes, as uint8, of a NumPy array as of the type `name`, which must hold all its values."""
    target = numpy.dtype(name).newbyteorder('<')
    if items.ndim != 1:
        raise ValueError(f'an array of one dimension is wanted, not of {items.ndim}')
    fits = {'i': 'iub', 'u': 'iub', 'f': 'iubf', 'b': 'b', 'S': 'S', 'M': 'M'}[target.kind]
    if items.dtype.kind not in fits:
        raise TypeError(f'an array of {items.dtype} cannot be put into a column of {name}')
    if items.dtype != target:
        with numpy.errstate(all='ignore'):
            made = items.astype(target)
        same = (numpy.isinf(made) == numpy.isinf(items)) if target.kind == 'f' else (made == items) | (made != made)
        if not same.all():
            raise OverflowError(f'values of the array are out of range of {name}')
        items = made
    return numpy.ascontiguousarray(items).view('u1')


def _blocks(items: Iterable[Any], count: int) -> Iterator[PlainList[Any]]:
    """Yield the items in lists of up to `count`; of a list, slices, which takes a third of the time."""
    if type(items) is list:
        yield from (items[at:at + count] for at in range(0, len(items), count))
    else:
        iterator = iter(items)
        yield from iter(lambda: list(islice(iterator, count)), [])


class Column(_Sequence[T]):
    """An array of one fixed-size type that lives in a vault: v.column(key, dtype).

    >>> import vaults
    >>> v = vaults.Vault(':memory:')
    >>> temps = v.column('temps', 'float64')
    >>> temps.extend([20.5, 21.0, 19.5])
    >>> temps[1:]
    array('d', [21.0, 19.5])

    A slice is an array.array; of bool a memoryview, and of S32 and the like one of shape (items, bytes). A datetime64
    is given as datetime (naive ones are UTC), numpy.datetime64 or the number of its units since 1970, which is what
    comes back. Each call is a transaction of its own. Safe in any thread and any number of processes.
    """

    __slots__ = ('_leaf_size', '_type')
    CODE = values.COLUMN
    KIND = 'column'

    def __init__(self, vault: Vault[Any, Any], key: Any, dtype: Any) -> None:
        super().__init__(vault, key)
        self._type = Type(dtype)
        self._leaf_size = max(LEAF // self._type.size, 1) * self._type.size

    @property
    def dtype(self) -> str:
        """The name of the type of the items, as NumPy writes it."""
        return self._type.name

    def __reduce__(self) -> Any:
        return Column, (self._vault, self._key, self.dtype)

    def copy(self) -> Any:
        """Return a copy in memory, as a slice is; of bytes a list."""
        return self.tolist() if self.dtype[0] == 'S' else self[:]

    def _plain(self, items: Any) -> PlainList[Any]:
        rows = isinstance(items, memoryview) and items.ndim == 2  # a slice of a column of bytes
        return self._type.listed(items.tobytes()) if rows else list(items)

    def _as_item(self, value: Any) -> Any:
        try:
            return self._type.as_item(value)
        except (TypeError, ValueError):
            return value  # which is then equal to none

    def _fits(self, head: Head) -> bool:
        return bool(head.meta == self._type.name)

    def _shown(self) -> str:
        return f'Column({self.dtype!r}, '

    def _cut(self, run: bytes, count: int, start: int, stop: int) -> bytes:
        return run[start * self._type.size:stop * self._type.size]

    def _holds(self, run: bytes, count: int) -> bool:
        return len(run) == count * self._type.size

    def _pieces(self, run: bytes, count: int) -> Iterator[Tuple[bytes, int]]:
        for at in range(0, len(run), self._leaf_size):
            piece = bytes(run[at:at + self._leaf_size])
            yield piece, len(piece) // self._type.size

    def _full(self, run: bytes, count: int) -> bool:
        return len(run) > self._leaf_size

    def _packed(self, items: Iterable[Any]) -> Iterator[Tuple[bytes, int]]:
        view = self._fitting(self._type.buffer, items)
        if view is not None:
            yield from self._pieces(view, 0)
            return
        leaf = self._leaf_size // self._type.size
        for block in _blocks(items, leaf * max(BLOCK // self._leaf_size, 1)):
            yield from self._pieces(self._fitting(self._type.pack, block), 0)

    def _fitting(self, pack: Callable[[Any], Any], items: Any) -> Any:
        """Return what `pack` makes of items; when they do not fit, say which column that is."""
        try:
            return pack(items)
        except (TypeError, ValueError, OverflowError, struct.error) as error:
            cls = next(cls for cls in (OverflowError, ValueError, TypeError) if isinstance(error, cls) or
                       cls is TypeError)
            raise cls(f'{error} (the column of {self.dtype} at key {self._key!r} of the vault {self._vault._path})'
                      ) from error

    def _packed_one(self, item: Any) -> bytes:
        return self._fitting(self._type.pack, [item])  # type: ignore[no-any-return]

    def _one(self, run: bytes, at: int) -> Any:
        return self._type.one(run, at)

    def _joined(self, runs: PlainList[Run]) -> bytes:
        size = self._type.size
        return b''.join([run[start * size:stop * size] for run, start, stop in runs])

    def _loaded(self, runs: PlainList[Run]) -> Any:
        return self._type.unpacked(self._joined(runs))

    def _stepped(self, runs: PlainList[Run], places: Iterable[int]) -> Any:
        data, size = self._joined(runs), self._type.size
        return self._type.unpacked(b''.join([data[at * size:(at + 1) * size] for at in places]))

    def _listed(self, runs: PlainList[Run]) -> PlainList[Any]:
        return self._type.listed(self._joined(runs))

    def to_numpy(self, start: Optional[int] = None, stop: Optional[int] = None) -> Any:
        """Return a new NumPy array of the items from `start` to `stop`, as a slice takes them.

        Raises: ImportError without NumPy.
        """
        try:
            import numpy
        except ImportError as error:
            raise ImportError("to_numpy() needs NumPy, which is not installed: pip install 'vaults[numpy]'") from error
        def fill(head: Head) -> Any:
            first, last, _ = slice(start, stop).indices(head.size)
            data = bytearray(max(last - first, 0) * self._type.size)
            at = 0
            for run, begin, end in self._runs(head, first, last):
                piece = memoryview(run)[begin * self._type.size:end * self._type.size]
                data[at:at + len(piece)] = piece
                at += len(piece)
            return numpy.frombuffer(data, numpy.dtype(self.dtype).newbyteorder('<'))
        return self._read(fill)


values.live_types[Column] = Column.copy


def column_at(vault: Vault[Any, Any], key: Any, dtype: Any) -> Column[Any]:
    """Return the column at `key`, made if there is nothing.

    Raises: TypeError when there is something else, or a column of another type.
    """
    column: Column[Any] = Column(vault, key, dtype)
    return made_at(column, column.dtype)  # type: ignore[no-any-return]
