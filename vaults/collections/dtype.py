"""Types of columns: items of a fixed size as bytes, little-endian, and back. Knows no vault.

NumPy is used where the program has it, and imported by numpy_for() alone.
"""
from __future__ import annotations

import marshal
import struct
import sys
from array import array
from datetime import date, datetime, timedelta
from functools import lru_cache
from itertools import repeat
from operator import index as as_index

from ..errors import shown
from ..keys import EPOCH

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Optional, Tuple
    from typing import List as PlainList

MAX_BYTES = 1 << 20     # of an item
CUT_AT_ONCE = 64           # items of bytes that are cut at once

# By name, as NumPy writes them: the code of the modules array and struct.
NUMBER_FORMATS = {'int8': 'b', 'uint8': 'B', 'int16': 'h', 'uint16': 'H', 'int32': 'i', 'uint32': 'I', 'int64': 'q',
                  'uint64': 'Q', 'float32': 'f', 'float64': 'd'}
NANOSECONDS = {'W': 604_800 * 10**9, 'D': 86_400 * 10**9, 'h': 3_600 * 10**9, 'm': 60 * 10**9, 's': 10**9, 'ms': 10**6,
               'us': 10**3, 'ns': 1}
NAT = -2**63  # of a datetime64, as NumPy has it: no moment


class InexactError(ValueError, OverflowError):
    """A moment is finer than the unit of a column, or outside its range."""


class Type:
    """A type of items of a fixed size: objects to bytes, little-endian, and back. Safe in any thread."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.code: Optional[str] = NUMBER_FORMATS.get(self.name)
        self.as_item: Callable[[Any], Any] = lambda item: item
        self.size, self.pack = self._known()
        of_bytes = bytes if self.name[:1] == 'S' else None
        self.plain = {'f': float, 'd': float, None: of_bytes}.get(self.code, int)
        # Of one that is plain; what it raises, `pack` says again.
        self.packed_one: Callable[[Any], bytes] = self._pack_one
        if self.code:
            self.packed_one = struct.Struct(f'<{self.code}').pack

    def _known(self) -> Tuple[int, Callable[[PlainList[Any]], bytes]]:
        """Return the bytes of an item, and what packs many. Raises: TypeError for another name."""
        if self.code:
            return (struct.calcsize(f'<{self.code}'),
                    self._pack_floats if self.code in 'fd' else self._pack_numbers)
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
            # Which says whether it is the type or the range; Python 3.8 would take a Decimal as an int.
            array(self.code or 'q', items if self.code in ('f', 'd') else [*map(as_index, items)])
            raise

    def _pack_floats(self, items: PlainList[Any]) -> bytes:
        """Pack floats, and numbers that equal one. To look at the type of each takes twice as long as all of marshal.

        That puts a `g` before the eight bytes of what is a float, and of no class derived from it, and before nothing
        else; and before all of them five bytes. Its second version is the same in every Python.
        """
        try:
            data = bytearray(marshal.dumps(items, 2))
        except ValueError:  # there is something else among them
            data = bytearray()
        if len(data) != 5 + 9 * len(items) or data[5::9] != b'g' * len(items):
            items = [_exact_float(item, self.code) for item in items]
        elif self.code == 'd':
            del data[:5], data[::9]
            return bytes(data)
        return self._pack_numbers(items)

    def _pack_bytes(self, items: PlainList[Any]) -> bytes:
        if set(map(type, items)) == {bytes} and max(map(len, items)) <= self.size and not any(
                map(bytes.endswith, items, repeat(b'\0'))):
            return struct.pack(f'{self.size}s' * len(items), *items)
        for item in items:
            if not isinstance(item, bytes):
                raise TypeError(f'bytes are wanted, not {type(item).__name__}')
            if len(item) > self.size or item[-1:] == b'\0':
                raise ValueError(f'{item[:40]!r} is longer than {self.size} bytes, or ends with NUL, which would be '
                                 'lost')
        return b''.join([item.ljust(self.size, b'\0') for item in items])

    def _pack_one(self, item: bytes) -> bytes:
        if len(item) > self.size or item[-1:] == b'\0':
            raise OverflowError  # `pack` says why
        return item.ljust(self.size, b'\0')

    def one(self, chunk: bytes, at: int) -> Any:
        """Return an item of a chunk as a Python object; a datetime64 as the number of its units since 1970."""
        data = chunk[at * self.size:(at + 1) * self.size]
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
            return self._listed_bytes(data)
        listed: PlainList[Any] = self.unpacked(data).tolist()
        return listed

    def _listed_bytes(self, data: bytes) -> PlainList[Any]:
        """Return items of bytes, cut by struct, and then what fills each up: in a sixth of the time of a loop."""
        items: PlainList[Any] = []
        whole = len(data) - len(data) % (self.size * CUT_AT_ONCE)
        for some in struct.iter_unpack(f'{self.size}s' * CUT_AT_ONCE, memoryview(data)[:whole]):
            items += some
        items += struct.unpack(f'{self.size}s' * ((len(data) - whole) // self.size), memoryview(data)[whole:])
        return list(map(bytes.rstrip, items, repeat(b'\0'))) if 0 in data[self.size - 1::self.size] else items

    def buffer(self, items: Any) -> Optional[memoryview]:
        """Return the bytes of items that a buffer, or a NumPy array, holds in this form, not copied; else None.

        Raises: TypeError, ValueError and OverflowError for an array whose values do not fit.
        """
        numpy = sys.modules.get('numpy')
        if numpy is not None and isinstance(items, numpy.ndarray):
            converted = _converted(numpy, items, self.name) if len(items) else b''
            return None if converted is None else memoryview(converted)
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
def type_of(name: str) -> Type:
    """Return the type of that name. Raises: TypeError when there is none."""
    return Type(name)


def name_of(dtype: Any) -> str:
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


def _exact_float(item: Any, code: Optional[str]) -> float:
    """Return a number as a float that equals it; in 32 bits another float is rounded, as arrays do.

    Raises: ValueError for a number between two floats, and what struct does for what is none.
    """
    item = as_index(item) if hasattr(type(item), '__index__') and type(item).__name__ != 'ndarray' else item
    try:
        number: float = struct.unpack(f'<{code}', struct.pack(f'<{code}', item))[0]
    except struct.error:
        array(code or 'd', [item])  # which says whether it is the type or the range
        raise
    if number != item and item == item and not (code == 'f' and isinstance(item, float)):
        raise ValueError(f'{shown(item)} would be rounded to {number!r}: give float(...) of it where that is meant')
    return number


def _since_epoch(item: Any, unit: str) -> int:
    """Return how many units a moment lies behind 1970. Raises: InexactError when it is no whole number of them."""
    if isinstance(item, date) and hasattr(item, 'to_datetime64'):  # of pandas: it has nanoseconds, or is NaT
        item = item.to_datetime64()
    if type(item).__name__ == 'datetime64':
        exact = item.astype(f'datetime64[{unit}]')
        if exact.astype(item.dtype) != item and item == item:  # and not exact != item, where what is too large wraps
            raise InexactError(f'{item!r} is finer than the unit {unit}, or outside its range')
        return int(exact.astype('int64'))
    if isinstance(item, date):
        moment = _moment(item)
        since = moment.replace(tzinfo=None) - EPOCH - (moment.utcoffset() or timedelta())
        return _in_units(since // timedelta(microseconds=1) * 1000, unit, item)
    if isinstance(item, bool):
        raise TypeError('a datetime, or a number of units since 1970, is wanted, not a bool')
    return as_index(item)


def _moment(item: Any) -> datetime:
    """Return a date or datetime, or what derives from them, as a datetime. Raises: ValueError when it holds more."""
    if not isinstance(item, datetime):
        plain, moment = date(item.year, item.month, item.day), datetime(item.year, item.month, item.day)
    else:
        plain = moment = datetime(item.year, item.month, item.day, item.hour, item.minute, item.second,
                                  item.microsecond, item.tzinfo, fold=item.fold)
    same = item == plain  # and not item != plain, which a class with its own __eq__ inherits
    if type(item) not in (date, datetime) and not same:
        raise ValueError(f'{item!r} holds more than a {type(plain).__name__}, which would be lost')
    return moment


def _in_units(nanoseconds: int, unit: str, item: Any) -> int:
    units, rest = divmod(nanoseconds, NANOSECONDS[unit])
    if rest:
        raise InexactError(f'{item!r} is finer than the unit {unit}')
    return units


def rescaled(number: Any, unit: str, wanted: str) -> int:
    return NAT if number == NAT else _in_units(number * NANOSECONDS[unit], wanted, number)


def numpy_array_of(items: Any, moments: bool) -> Any:
    """Return what pandas, Polars or Arrow holds as a NumPy array, and anything else as it is.

    What these iterate over has no nanoseconds, or is of types of their own.

    Raises: ValueError for nothing among numbers, which would become NaN; among moments it is NaT.
    """
    if not hasattr(type(items), '__array__') or 'ndarray' in [cls.__name__ for cls in type(items).__mro__]:
        return items
    if not moments and _has_nulls(items):
        raise ValueError('there are places without a value (null), and only moments can have them')
    dtype: Any = getattr(items, 'dtype', None)
    zoned = getattr(dtype, 'tz', None) is not None  # which would become objects, at a hundredth of the speed
    return numpy_for('this').asarray(items, f'datetime64[{dtype.unit}]' if zoned else None)


def _has_nulls(items: Any) -> bool:
    count = getattr(items, 'null_count', None)
    if count is not None:
        return bool(count() if callable(count) else count)  # of Polars, of Arrow
    nothing = type(getattr(getattr(items, 'dtype', None), 'na_value', None))
    return nothing.__name__ == 'NAType' and bool(items.isna().any())


def numpy_for(what: str) -> Any:
    try:
        import numpy
    except ImportError as error:
        raise ImportError(f"{what} needs NumPy, which is not installed: pip install 'vaults[numpy]'") from error
    return numpy


def _converted(numpy: Any, items: Any, name: str) -> Any:
    """Return the bytes, as uint8, of a NumPy array as of the type `name`, which must hold all its values.

    None says that they are to be looked at one by one.
    """
    target = numpy.dtype(name).newbyteorder('<')
    if type(items) not in (numpy.ndarray, numpy.memmap):
        raise TypeError(f'a {type(items).__name__} may hold more than an array: give numpy.asarray(...) of it')
    if items.ndim != 1:
        raise ValueError(f'an array of one dimension is wanted, not of {items.ndim}')
    fits = {'i': 'iub', 'u': 'iub', 'f': 'iubf', 'b': 'b', 'S': 'S', 'M': 'M'}[target.kind]
    if items.dtype.kind not in fits + 'O':
        raise TypeError(f'an array of {items.dtype} cannot be put into a column of {name}')
    if items.dtype.kind == 'O' or _is_beyond(numpy, items, target):
        return None
    if items.dtype != target:
        with numpy.errstate(all='ignore'):
            made = items.astype(target)
        if not _are_kept(numpy, items, made).all():
            cls, finer = (InexactError, f'finer than {name}, or ') if target.kind == 'M' else (OverflowError, '')
            raise cls(f'values of the array are {finer}out of range of {name}')
        items = made
    return numpy.ascontiguousarray(items).view('u1')


def _is_beyond(numpy: Any, items: Any, target: Any) -> bool:
    """Tell whether there are ints that may lie between two floats."""
    if target.kind != 'f' or items.dtype.kind not in 'iu':
        return False
    limit: int = 2 << numpy.finfo(target).nmant
    return int(items.max()) > limit or int(items.min()) < -limit


def _are_kept(numpy: Any, items: Any, made: Any) -> Any:
    """Tell of each value whether it is the same in another type; floats of up to 64 bits may be rounded to 32."""
    if made.dtype.kind == 'M':  # back again: NumPy compares in the finer unit, where what is too large wraps
        return (made.astype(items.dtype) == items) | (numpy.isnat(items) & numpy.isnat(made))
    if items.dtype.kind == 'f' and items.dtype.itemsize <= 8:
        return numpy.isinf(made) == numpy.isinf(items)
    return (made == items) | (items != items)
