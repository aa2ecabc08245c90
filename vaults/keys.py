"""Keys: what may be one, how it is stored, how it sorts. Knows neither values nor SQL.

A key is stored as one of the forms a store takes. Text, 64-bit integers and floats are stored as they are; the rest
is packed into bytes that sort as the keys do. Stored keys sort by kind: numbers, then text, then bytes by content.

    stored form       keys
    bool, int, float  bool, int of 64 bits, float; a larger int that a float equals is that float
    str               str without lone surrogates
    bytes             one packed element, below: all else

docs/format.md describes the packed elements; the idea of order-preserving tuples is FoundationDB's tuple layer.
"""
from __future__ import annotations

import struct
import sys
from datetime import date, datetime, timedelta, timezone

from .errors import VaultCorruptError, VaultValueError, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, Iterable, Optional, Sequence, Tuple, Union

    Stored = Union[bool, int, float, str, bytes]

# Persisted: never renumber, never reuse. The order of the tags is the order of the kinds. Pinned by
# tests.py::TestKeyFormat. Example: ('a', 1) is 09 02 61 00 01 81 01 00 00.
END = 0x00         # ends text, bytes and tuples; below every tag, so a prefix sorts before what extends it
NUMBER_TAG = 0x01  # alone: an int past 64 bits that no float equals
TEXT_TAG = 0x02    # alone: text with a lone surrogate
NONE_TAG = 0x03
BYTES_TAG = 0x04
DATE_TAG = 0x05
NAIVE_TAG = 0x06   # a datetime without time zone
AWARE_TAG = 0x07   # a datetime with one: the instant
UUID_TAG = 0x08
TUPLE_TAG = 0x09

LOWEST = float('-inf')     # no stored key is below
HIGHEST = b'\xff'          # every stored key is below
INFINITY = b'\xff' * 5     # the size no integer has
EPOCH = datetime(1970, 1, 1)
MICROSECOND = timedelta(microseconds=1)
SIGN = 1 << 63             # added to 64-bit integers, so that their bytes sort as they do


def encode(key: Any) -> Any:
    """Return the stored form of `key`, a Stored.

    Raises: TypeError for what cannot be a key, ValueError for NaN.
    """
    kind = type(key)
    if kind is str:
        return key if key.isascii() or _is_text(key) else _pack(key)
    if kind is int:
        return key if -SIGN <= key < SIGN else _large(key)
    if kind is float:
        return _number(key)
    if kind is bool:
        return key
    if kind in PACKERS:
        return _pack(key)
    return encode(_plain(key))


def decode(stored: Stored) -> Any:
    """Return the key that `stored` stands for; the inverse of `encode`.

    Raises: VaultCorruptError when the bytes are no packed key.
    """
    if not isinstance(stored, bytes):
        return stored
    try:
        key, end = _unpack(stored, 0)
        if end == len(stored):
            return key
    except (IndexError, ValueError, OverflowError, KeyError, RecursionError, struct.error):
        pass  # every way to be malformed ends in the one error below
    raise VaultCorruptError(f'a stored key is damaged: {stored[:40]!r}')


def decode_many(stored: Sequence[Stored]) -> Iterable[Any]:
    """Return the keys that they stand for, faster than one by one where all are text. Raises: as decode, in walking."""
    return stored if all_text(stored) else map(decode, stored)


def all_text(stored: Iterable[Stored]) -> bool:
    """Tell whether all of them are text, and so the keys themselves. To join them is the quickest way to ask."""
    try:
        ''.join(stored)  # type: ignore[arg-type]  # that is the question
    except TypeError:
        return False
    return True


def named(stored: Stored) -> str:
    """Return how an error names the key that `stored` stands for; where it is damaged itself, what is there."""
    try:
        return shown(decode(stored))
    except VaultCorruptError:
        return repr(stored)


def order(stored: Stored) -> Tuple[int, Stored]:
    """Return what sorts in Python as `stored` sorts in a store."""
    return (2 if isinstance(stored, bytes) else 1 if isinstance(stored, str) else 0), stored


def require_sound(stored: Any) -> Stored:
    """Return what came from outside as a stored key, when it is one that `encode` makes. Raises: VaultValueError.

    Whoever puts any other reaches what an engine keeps for itself: b'' is the row where SQLite's store counts.
    """
    kind = type(stored)
    if kind is str:
        sound = stored.isascii() or _is_text(stored)
    elif kind is int:
        sound = -SIGN <= stored < SIGN
    elif kind is bytes:
        sound = _is_packed(stored)
    else:
        sound = kind is bool or (kind is float and stored == stored)
    if not sound:
        raise VaultValueError(f'{shown(stored)[:80]} is no key as keys are stored: docs/format.md says what they are')
    return stored  # type: ignore[no-any-return]  # it is one


def require_bound(stored: Any) -> Stored:
    """Return what came from outside as an end of a range: any stored form up to HIGHEST. Raises: VaultValueError."""
    if type(stored) is bytes and stored <= HIGHEST:
        return stored
    if type(stored) is bytes:
        raise VaultValueError(f'{stored[:40]!r} is behind all keys: the end of a range is at most {HIGHEST!r}')
    return require_sound(stored)


def _is_packed(stored: bytes) -> bool:
    try:
        return bool(encode(decode(stored)) == stored)
    except (VaultCorruptError, TypeError, ValueError):
        return False


def whole(key: Any) -> Any:
    """Return the vault's key that a key is: itself. That of a section is part of one."""
    return key


def sortable(stored: Stored) -> bytes:
    """Return bytes that sort as `order` sorts, the same for keys that are equal: for an engine that sorts bytes."""
    if isinstance(stored, bytes):
        return b'\x02' + stored
    return b'\x01' + stored.encode() if isinstance(stored, str) else b'\x00' + _pack(stored)


def bounds(low: Any = None, high: Any = None) -> Tuple[Stored, Stored]:
    """Return the stored ends of the half-open range [low, high); None leaves an end open."""
    return LOWEST if low is None else encode(low), HIGHEST if high is None else encode(high)


def prefix_bounds(prefix: Any) -> Tuple[Stored, Stored]:
    """Return the stored ends of the keys that begin with `prefix`: text, bytes, or a tuple's first elements.

    Raises: TypeError for any other prefix, and for text that holds a lone surrogate.
    """
    if isinstance(prefix, tuple):
        packed = _pack(prefix)[:-1]
        return packed, packed + b'\xff'
    if isinstance(prefix, bytes):
        packed = _pack(prefix)[:-1]
        return packed, packed[:1] + after(packed[1:]) if packed[1:].strip(b'\xff') else bytes([BYTES_TAG + 1])
    low = encode(prefix)
    if not isinstance(low, str):
        raise TypeError(f'a prefix is str, bytes or tuple, not {prefix!r}: for other keys use a slice, v[a:b]')
    stem = low.rstrip('\U0010ffff')
    if not stem:
        return low, b''
    return low, stem[:-1] + chr(0xE000 if stem[-1] == '\ud7ff' else ord(stem[-1]) + 1)


def after(data: bytes) -> bytes:
    """Return the first bytes that sort after all that begin with `data`."""
    stem = data.rstrip(b'\xff')
    return stem[:-1] + bytes([stem[-1] + 1])


def _is_text(key: str) -> bool:
    try:
        key.encode()
    except UnicodeEncodeError:
        return False
    return True


def _large(key: int) -> Stored:
    """Store an int past 64 bits as the float that equals it, or packed where none does."""
    try:
        number = float(key)
    except OverflowError:
        return _pack(key)
    return number if number == key else _pack(key)


def _number(key: float) -> float:
    if key != key:
        raise ValueError(NAN.format(key))
    return key


def _plain(key: Any) -> Any:
    """Return a subclass's value as its base class, which is what it counts as, and a number of NumPy as Python's.

    Raises: TypeError for what is none of these, or is another key than its base would be; ValueError for NaN.
    """
    convert = _conversion(key)
    if convert is None:
        hint = HINTS.get(type(key).__name__, 'use one of these, for example str(key)')
        raise TypeError(f'a key is None, bool, int, float, str, bytes, date, datetime, UUID or a tuple of these, '
                        f'not {type(key).__name__}: {hint}')
    if key != key:
        raise ValueError(NAN.format(shown(key)))
    plain = convert(key)
    if not _is_same(key, plain):
        in_utc = 'key.astimezone(datetime.timezone.utc) or ' if isinstance(key, datetime) and key.fold else ''
        raise TypeError(f'{shown(key)} of type {type(key).__name__} does not equal {shown(plain)}, as which it would '
                        f'be stored: use {in_utc}str(key)')
    return plain


def _conversion(key: Any) -> Optional[Callable[[Any], Any]]:
    """Return what makes a plain key of a value, or None when nothing does."""
    for base, convert in BASES:
        if isinstance(key, base):
            return convert
    uuid = sys.modules.get('uuid')  # a UUID to store can only come from there: no import needed
    if uuid is not None and isinstance(key, uuid.UUID):
        PACKERS[uuid.UUID] = _pack_uuid
        return lambda key: uuid.UUID(int=key.int)
    numpy = sys.modules.get('numpy')  # as above
    return NUMBERS.get(key.dtype.kind) if numpy is not None and isinstance(key, numpy.generic) else None


def _is_same(key: Any, plain: Any) -> bool:
    """Tell whether Python takes both for one key: a subclass may hold more than its base, and compare so."""
    try:
        mark = hash(plain)
    except TypeError:
        return True  # a tuple: packing it names the element
    if isinstance(key, datetime) and key.fold and key != key.replace(fold=0):
        return False  # to a plain one it makes no difference
    return bool(plain == key) and hash(key) == mark


# By the kinds of NumPy's types: not its times, which are integers to it, nor complex numbers.
NUMBERS: Dict[str, Callable[[Any], Any]] = {'b': bool, 'i': int, 'u': int, 'f': float}
NAN = '{} cannot be a key, because like every NaN it does not equal itself: use None or a string'
HINTS = {'list': 'use a tuple', 'bytearray': 'use bytes(key)', 'set': 'use a sorted tuple',
         'dict': 'use a tuple of its items', 'datetime64': "use key.astype('datetime64[us]').item(), or str(key)"}
BASES: Tuple[Tuple[type, Callable[[Any], Any]], ...] = (
    (bool, bool), (int, int.__int__), (float, float.__float__), (str, str.__str__),
    (bytes, lambda key: b''.join((key,))), (tuple, lambda key: tuple.__getitem__(key, slice(None))),
    (datetime, lambda key: datetime.combine(date.fromordinal(key.toordinal()), key.timetz().replace(fold=0))),
    (date, lambda key: date.fromordinal(key.toordinal())),
)


def _pack(key: Any) -> bytes:
    out = bytearray()
    try:
        _append(out, key)
    except RecursionError:
        raise ValueError('a key is a tuple nested too deep: use a flatter one') from None
    return bytes(out)


def _append(out: bytearray, key: Any) -> None:
    packer = PACKERS.get(type(key))
    if packer is None:
        key = _plain(key)
        packer = PACKERS[type(key)]
    packer(out, key)


def _pack_number(out: bytearray, key: Any) -> None:
    """Append a number so that ints of any size and floats sort by value; equal ones are the same bytes.

    The integer part comes with its size before it, then the fraction as a double; a negative number is its
    magnitude with every bit inverted.
    """
    magnitude = abs(_number(key))
    if magnitude == float('inf'):
        packed = INFINITY
    else:
        whole = int(magnitude)
        size = (whole.bit_length() + 7) // 8
        fraction = magnitude - whole if isinstance(key, float) else 0
        packed = bytes([0x80 + size]) if size < 0x7f else b'\xff' + size.to_bytes(4, 'big')
        packed += whole.to_bytes(size, 'big')
        packed += b'\x01' + struct.pack('>d', fraction) if fraction else b'\x00'
    out.append(NUMBER_TAG)
    out += bytes(255 - byte for byte in packed) if key < 0 else packed


def _escaped(data: bytes) -> bytes:
    return data.replace(b'\x00', b'\x00\xff') + b'\x00'


def _pack_text(out: bytearray, key: str) -> None:
    out.append(TEXT_TAG)
    out += _escaped(key.encode('utf-8', 'surrogatepass'))


def _pack_bytes(out: bytearray, key: bytes) -> None:
    out.append(BYTES_TAG)
    out += _escaped(key)


def _pack_none(out: bytearray, key: None) -> None:
    out.append(NONE_TAG)


def _pack_date(out: bytearray, key: date) -> None:
    out.append(DATE_TAG)
    out += key.toordinal().to_bytes(4, 'big')


def _pack_datetime(out: bytearray, key: datetime) -> None:
    """Append the instant, of a wall clock's second time that of the first: to `==` and `hash` they are one."""
    offset = (key.replace(fold=0) if key.fold else key).utcoffset()
    out.append(NAIVE_TAG if offset is None else AWARE_TAG)
    moment = key.replace(tzinfo=None) - EPOCH - (offset or timedelta())
    out += (moment // MICROSECOND + SIGN).to_bytes(8, 'big')


def _pack_uuid(out: bytearray, key: Any) -> None:
    out.append(UUID_TAG)
    out += key.bytes


def _pack_tuple(out: bytearray, key: Tuple[Any, ...]) -> None:
    out.append(TUPLE_TAG)
    for element in key:
        _append(out, element)
    out.append(END)


PACKERS: Dict[type, Callable[[bytearray, Any], None]] = {
    bool: _pack_number, int: _pack_number, float: _pack_number, str: _pack_text, type(None): _pack_none,
    bytes: _pack_bytes, date: _pack_date, datetime: _pack_datetime, tuple: _pack_tuple,
}


def _unpack(data: bytes, at: int) -> Tuple[Any, int]:
    """Return the element that begins at `at`, and where the next one begins."""
    return UNPACKERS[data[at]](data, at + 1)


def _take(data: bytes, at: int, size: int) -> bytes:
    if at + size > len(data):
        raise IndexError(size)
    return data[at:at + size]


def _unpack_number(data: bytes, at: int) -> Tuple[Any, int]:
    negative = data[at] < 0x80
    flip = 255 if negative else 0

    def take(start: int, size: int) -> bytes:
        return bytes(byte ^ flip for byte in _take(data, start, size))
    size, start = take(at, 1)[0] - 0x80, at + 1
    if size == 0x7f:
        if take(at, 5) == INFINITY:
            return float('-inf' if negative else 'inf'), at + 5
        size, start = int.from_bytes(take(start, 4), 'big'), start + 4
    number: Any = int.from_bytes(take(start, size), 'big')
    end = start + size + 1
    if take(end - 1, 1) == b'\x01':
        number, end = number + struct.unpack('>d', take(end, 8))[0], end + 8
    number = -number if negative else number
    stored = encode(number)  # past 64 bits an int and its float are one: the float, here as alone
    return (number if isinstance(stored, bytes) else stored), end


def _unpack_escaped(data: bytes, at: int) -> Tuple[bytes, int]:
    end = data.index(0, at)
    while data[end + 1:end + 2] == b'\xff':
        end = data.index(0, end + 2)
    return data[at:end].replace(b'\x00\xff', b'\x00'), end + 1


def _unpack_text(data: bytes, at: int) -> Tuple[str, int]:
    raw, end = _unpack_escaped(data, at)
    return raw.decode('utf-8', 'surrogatepass'), end


def _unpack_datetime(data: bytes, at: int) -> Tuple[datetime, int]:
    moment = timedelta(microseconds=int.from_bytes(_take(data, at, 8), 'big') - SIGN)
    return EPOCH + moment, at + 8


def _unpack_aware(data: bytes, at: int) -> Tuple[datetime, int]:
    """Return the instant in UTC; one that UTC's calendar cannot show, in the zone at the calendar's edge."""
    moment = timedelta(microseconds=int.from_bytes(_take(data, at, 8), 'big') - SIGN)
    shift = timedelta()
    if not datetime.min - EPOCH <= moment <= datetime.max - EPOCH:
        shift = timedelta(hours=24) - MICROSECOND
        shift = shift if moment < timedelta() else -shift
    return (EPOCH + (moment + shift)).replace(tzinfo=timezone(shift) if shift else timezone.utc), at + 8


def _unpack_uuid(data: bytes, at: int) -> Tuple[Any, int]:
    import uuid
    return uuid.UUID(bytes=_take(data, at, 16)), at + 16


def _unpack_tuple(data: bytes, at: int) -> Tuple[Tuple[Any, ...], int]:
    elements = []
    while data[at] != END:
        element, at = _unpack(data, at)
        elements.append(element)
    return tuple(elements), at + 1


UNPACKERS: Dict[int, Callable[[bytes, int], Tuple[Any, int]]] = {
    NUMBER_TAG: _unpack_number, TEXT_TAG: _unpack_text, NONE_TAG: lambda data, at: (None, at),
    BYTES_TAG: _unpack_escaped,
    DATE_TAG: lambda data, at: (date.fromordinal(int.from_bytes(_take(data, at, 4), 'big')), at + 4),
    NAIVE_TAG: _unpack_datetime, AWARE_TAG: _unpack_aware, UUID_TAG: _unpack_uuid, TUPLE_TAG: _unpack_tuple,
}
