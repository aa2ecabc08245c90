"""Columns: arrays of one fixed-size type that live in a vault. Knows neither SQL nor how keys are stored.

A leaf is the items' bytes, as dtype.py has them.
"""
from __future__ import annotations

import struct
from itertools import islice

from .._typing import TYPE_CHECKING, T
from ..errors import plural
from .dtype import InexactError, name_of, numpy_array_of, numpy_for, rescaled, type_of
from .kind import SequenceKind, register_kind
from .leaves import SizedItems
from .sequence import LiveSequence

if TYPE_CHECKING:
    from typing import Any, Callable, ClassVar, Dict, Iterable, Iterator, Optional, Tuple
    from typing import List as PlainList

    from ..codecs.packing import Codec
    from ..place import Place
    from ..stores.base import Store
    from .kind import Batch
    from .sequence import ChunkSlice
    from .tree import Header

BLOCK = 1 << 15         # bytes of an iterable's items that are packed at a time, in whole leaves


def _blocks(items: Iterable[Any], count: int) -> Iterator[PlainList[Any]]:
    """Yield the items in lists of up to `count`; of a list, slices, which takes a third of the time."""
    if type(items) is list:
        yield from (items[at:at + count] for at in range(0, len(items), count))
    else:
        iterator = iter(items)
        yield from iter(lambda: list(islice(iterator, count)), [])


class ColumnKind(SequenceKind):
    """Columns. What a header says besides is the type of the items. Safe in any thread."""

    is_packed = False

    def is_mine(self, header: Header) -> bool:
        try:
            waiting = header.size + header.skip - header.inside
            return (header.code == self.code and type(header.meta) is str
                    and waiting * type_of(header.meta).size == len(header.tail))
        except TypeError:
            return False

    def title(self, meta: Any) -> str:
        return f'a column of {meta}'

    def describe(self, header: Header, digits: str = '') -> str:
        if digits:
            return f'column of {header.size:{digits}} {header.meta}'
        return f'column of {header.meta}, {header.size} {plural(header.size, self.unit)}'

    def to_json(self, header: Header) -> Dict[str, Any]:
        return {'!column': [header.meta, header.size]}

    def from_json(self, body: Any) -> Tuple[Any, int]:
        meta, size = body if isinstance(body, list) else (None, None)
        if not isinstance(meta, str):
            raise ValueError(f'{meta!r} is no type')
        return type_of(meta).name, super().from_json(size)[1]

    def items(self, meta: Any) -> SizedItems:
        return SizedItems(type_of(meta).size)

    def is_sound(self, header: Header, chunk: bytes, count: int, codec: Codec) -> bool:
        return len(chunk) == count * type_of(header.meta).size

    def bytes_of(self, store: Store, header: Header) -> int:
        return header.size * type_of(header.meta).size

    def count(self, meta: Any, data: bytes) -> int:
        width = type_of(meta).size
        if len(data) % width or (meta == 'bool' and data.translate(None, b'\0\1')):
            raise ValueError(f'{len(data)} bytes are no items of {meta}')
        return len(data) // width

    def listed(self, meta: Any, data: bytes) -> PlainList[Any]:
        return type_of(meta).listed(data)

    def plain(self, meta: Any, batches: Iterable[Batch]) -> Any:
        return type_of(meta).unpacked(b''.join([data for data, _ in batches]))

    def open(self, place: Place, key: Any, header: Header) -> Any:
        return self.knowing(self.cls(place, key, header.meta), header)

    def at(self, place: Place, key: Any, **options: Any) -> Any:
        if options.keys() != {'dtype'}:
            raise TypeError(f'a column is made with one option, dtype, not {sorted(options)}')
        return column_at(place, key, **options)


class Column(LiveSequence[T]):
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

    __slots__ = ('_items', '_type', '_wanted')
    kind: ClassVar[ColumnKind]
    _items: SizedItems
    _wanted: str

    def __init__(self, place: Place, key: Any, dtype: Any) -> None:
        super().__init__(place, key)
        self._type = type_of(dtype if type(dtype) is str else name_of(dtype))
        self._items, self._wanted = SizedItems(self._type.size), self._type.name

    @property
    def dtype(self) -> str:
        """The name of the type of the items, as NumPy writes it."""
        return self._type.name

    def __reduce__(self) -> Any:
        return Column, (self._place, self._key, self.dtype)

    def _of(self) -> str:
        return f' of {self.dtype}'

    def __array__(self, dtype: Any = None, copy: Optional[bool] = None) -> Any:
        """Return what to_numpy() does: NumPy, and what builds upon it, ask for it."""
        if copy is False:
            raise ValueError('a column is in a file: an array of it is always a copy')
        items = self.to_numpy()
        return items if dtype is None else items.astype(dtype, copy=False)

    def __buffer__(self, flags: int) -> memoryview:
        """Return numbers or bools as they are now, read-only: memoryview(column), bytes(column), from Python 3.12 on.

        NumPy takes a buffer before it asks `__array__`, and would make integers of moments and of bytes, which so have
        none.
        """
        if self.dtype[0] == 'S' or self.dtype.startswith('datetime64'):
            raise BufferError(f'a column of {self.dtype} has no buffer, which could not tell so: take column[:]')
        return memoryview(self[:]).toreadonly()

    def copy(self) -> Any:
        """Return a copy in memory, as a slice is; of bytes a list."""
        return self.tolist() if self.dtype[0] == 'S' else self[:]

    def _plain(self, items: Any) -> PlainList[Any]:
        rows = isinstance(items, memoryview) and items.ndim == 2  # a slice of a column of bytes
        return self._type.listed(items.tobytes()) if rows else list(self._fitting(self._native, items))

    def _as_item(self, value: Any) -> Any:
        try:
            return self._type.as_item(value)
        except (TypeError, ValueError, OverflowError):
            return value  # which is then equal to none

    def _shown(self) -> str:
        return f'Column({self.dtype!r}, '

    def _packed(self, items: Iterable[Any]) -> Iterator[Tuple[bytes, int]]:
        items = self._fitting(self._native, items)
        view = None if isinstance(items, LiveSequence) else self._fitting(self._type.buffer, items)  # it is streamed
        if view is not None:
            yield from self._items.pieces(view, 0)
            return
        leaf = self._items.leaf
        for block in _blocks(items, leaf // self._type.size * max(BLOCK // leaf, 1)):
            yield from self._items.pieces(self._fitting(self._type.pack, block), 0)

    def _native(self, items: Any) -> Any:
        """Return items in a form that is packed as it is: of other libraries an array, of moments in my unit."""
        if isinstance(items, Column) and items._unit and items._unit != self._unit:
            if not self._unit:
                raise TypeError(f'a column of {items.dtype} cannot be put into one of {self.dtype}')
            theirs = items._unit
            return (self._fitting(lambda item: rescaled(item, theirs, self._unit), item) for item in items)
        return items if isinstance(items, LiveSequence) else numpy_array_of(items, bool(self._unit))

    @property
    def _unit(self) -> str:
        """The unit of moments; '' where the items are none."""
        return self.dtype[len('datetime64['):-1] if self.dtype[:1] == 'd' else ''

    def __eq__(self, other: object) -> Any:
        if isinstance(other, Column) and self._unit and other._unit and self._unit != other._unit:
            return len(self) == len(other) and all(
                rescaled(mine, self._unit, 'ns') == rescaled(theirs, other._unit, 'ns')
                for mine, theirs in zip(self, other))
        return super().__eq__(other)

    def _fitting(self, pack: Callable[[Any], Any], items: Any) -> Any:
        """Return what `pack` makes of items; when they do not fit, say which column that is."""
        try:
            return pack(items)
        except (TypeError, ValueError, OverflowError, struct.error) as error:
            cls = next(cls for cls in (InexactError, OverflowError, ValueError, TypeError) if isinstance(error, cls) or
                       cls is TypeError)
            raise cls(f'{error} (the column of {self.dtype} at {self._where()})'
                      ) from error

    def _packed_one(self, item: Any) -> bytes:
        if type(item) is self._type.plain:
            try:
                return self._type.packed_one(item)
            except (struct.error, OverflowError):
                pass  # as below
        return self._fitting(self._type.pack, [item])  # type: ignore[no-any-return]

    def _one(self, chunk: bytes, at: int) -> Any:
        return self._type.one(chunk, at)

    def _joined(self, chunks: PlainList[ChunkSlice]) -> bytes:
        size = self._type.size
        return b''.join([chunk if not start and stop * size == len(chunk) else chunk[start * size:stop * size]
                         for chunk, start, stop in chunks])

    def _loaded(self, chunks: PlainList[ChunkSlice]) -> Any:
        return self._type.unpacked(self._joined(chunks))

    def _stepped(self, chunks: PlainList[ChunkSlice], places: Iterable[int]) -> Any:
        data, size = self._joined(chunks), self._type.size
        return self._type.unpacked(b''.join([data[at * size:(at + 1) * size] for at in places]))

    def _listed(self, chunks: PlainList[ChunkSlice]) -> PlainList[Any]:
        return self._type.listed(self._joined(chunks))

    def to_numpy(self, start: Optional[int] = None, stop: Optional[int] = None) -> Any:
        """Return a new NumPy array of the items from `start` to `stop`, as a slice takes them.

        Raises: ImportError without NumPy.
        """
        numpy = numpy_for('to_numpy()')

        def fill(header: Header) -> Any:
            first, last, _ = slice(start, stop).indices(header.size)
            data = bytearray(max(last - first, 0) * self._type.size)
            at = 0
            for chunk, begin, end in self._chunks(header, first, last):
                piece = memoryview(chunk)[begin * self._type.size:end * self._type.size]
                data[at:at + len(piece)] = piece
                at += len(piece)
            return numpy.frombuffer(data, numpy.dtype(self.dtype).newbyteorder('<'))
        return self._read(fill)


register_kind(ColumnKind('column', Column))


def column_at(place: Place, key: Any, dtype: Any) -> Column[Any]:
    """Return the column at `key`, made if there is nothing.

    Raises: TypeError when there is something else, or a column of another type.
    """
    column: Column[Any] = Column(place, key, dtype)
    return Column.kind.made_at(column, column.dtype)  # type: ignore[no-any-return]
