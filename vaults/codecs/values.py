"""Values: Python objects to bytes and back, msgpack first. Knows neither keys nor stores.

What msgpack carries is plain msgpack, readable by any msgpack reader. The other types travel as msgpack ExtTypes,
and what no ExtType knows is pickled, only that leaf. Nothing is flattened: `type(loads(dumps(x))) is type(x)`.
"""
from __future__ import annotations

import struct
import sys
from _thread import _local as local  # threading's, whose import takes as long as all of this module
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from functools import partial
from weakref import WeakSet, ref

from msgpack import ExtType, Packer, StackError, Unpacker, UnpackException, unpackb

from ..errors import SerializationError, UntrustedPickleError, VaultCorruptError, VaultError, VaultTypeError, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import (
        Any,
        Callable,
        Dict,
        Iterable,
        List,
        NoReturn,
        Optional,
        Protocol,
        Sequence,
        Tuple,
        Type,
        TypeVar,
        Union,
    )

    T = TypeVar('T')
    AllowPickle = Union[bool, Iterable[type]]
    Pack = Callable[[Any], bytes]
    Unpack = Callable[[bytes], Any]
    Encoder = Tuple[int, Callable[[Any, Pack], Optional[bytes]]]

    class Pickles(Protocol):
        """What a codec does with a leaf that only pickle can carry."""

        def dumps(self, obj: Any) -> bytes: ...
        def loads(self, data: bytes) -> Any: ...
        def rebuild(self, name: str, payload: Any) -> Any: ...
        def serialized(self, payload: Any) -> Any: ...

# Persisted: never renumber, never reuse. docs/format.md describes each payload; tests.py::TestValueFormat pins the
# bytes. Example: (1, 2) is c7 03 05 92 01 02: an ExtType of 3 bytes, code 5, holding the msgpack array [1, 2].
PICKLE = 1
REGISTERED = 2
INT = 3
BYTEARRAY = 4
TUPLE = 5
SET = 6
FROZENSET = 7
COMPLEX = 8
DATE = 9
DATETIME = 10
TIME = 11
TIMEDELTA = 12
DECIMAL = 13
FRACTION = 14
UUID = 15
RANGE = 16
EXTTYPE = 17
NDARRAY = 18
NUMPY_SCALAR = 19
STREAM = 20      # these three stand for the whole value, which is kept in parts: parts.py
LIST = 21
COLUMN = 22
SERIALIZED = 23  # what the vault's own serializer has made
TEXT = 24        # a str with lone surrogates, which UTF-8 does not have
DEEP = 25        # a whole value that is nested deeper than ExtTypes go: deep.py

PARTED = frozenset([STREAM, LIST, COLUMN])

NIL = b'\xc0'        # None in msgpack

# ExtTypes inside one another; what is deeper is DEEP. Each level is a call of msgpack's unpackb, which takes some 40 KB
# of the C stack; below the first levels its Unpacker is six times as slow and takes 3: threads of 256 KB read it all.
MAX_DEPTH = 16
QUICK_DEPTH = 2
MOST_LEVELS = 1024   # of arrays and maps that any msgpack packs
MOST_EMPTY = 1 << 24  # items of no bytes in an array
PICKLE_PROTOCOL = 4  # the newest that every reader from Python 3.4 on knows

# msgpack packs these by itself as something else (bytes, a foreign ExtType), so `default` never sees them. Their
# headers are looked for in the packed bytes, which takes 0.1 us; only where one may be are the objects walked.
HIDING = frozenset([bytearray, memoryview, ExtType])
PLAIN = frozenset([type(None), bool, int, float, str, bytes])
SHORT = {0xC4, 0xC7, *range(0xD4, 0xD9)}      # headers of up to 255 bytes, and of more:
LONG = SHORT | {0xC5, 0xC6, 0xC8, 0xC9}
# For bytes.translate: what it leaves ASCII holds none of the headers.
IN_SHORT, IN_LONG = (bytes(0x80 if byte in headers else 0 for byte in range(256)) for headers in (SHORT, LONG))

# Whatever msgpack and the decoders below raise for bytes that are no value; not what a signal handler may raise.
MALFORMED = (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, RecursionError, struct.error,
             UnpackException, VaultError, ImportError)


class InParts(Exception):
    """The value is kept in parts: its bytes alone do not make it. Or the object is one that is."""


class TooDeep(Exception):
    """ExtTypes are nested past MAX_DEPTH."""


# What packing raises for text with lone surrogates, for circles, and for what is nested too deep.
UNPACKABLE = (ValueError, OverflowError, RecursionError, TooDeep)


class Codec:
    """dumps() and loads() under one rule for pickles. Safe in any thread."""

    def __init__(self, pickles: Pickles) -> None:
        self.pickles = pickles
        self._pool: List[Pack] = []  # a packer is used by one call at a time: list.pop and append are atomic
        self._hooks = _hooks(pickles)
        self.ext_hook = self._hooks[0]

    def dumps(self, obj: Any) -> bytes:
        """Return `obj` as msgpack.

        Raises: SerializationError, UntrustedPickleError.
        """
        try:
            pack = self._pool.pop()
        except IndexError:
            pack = _Packer(self.pickles).pack
        try:
            data = pack(obj)
            if not data.translate(IN_SHORT if len(data) < 256 else IN_LONG).isascii() and _hides(obj):
                data = pack(revealed(obj))
            self._pool.append(pack)
            return data
        except UNPACKABLE as error:
            has_surrogates = isinstance(error, UnicodeEncodeError)
        return self._otherwise(obj, has_surrogates)

    def loads(self, data: bytes) -> Any:
        """Return the object that `data` was made from.

        Raises: VaultCorruptError for bytes that are no msgpack of ours, SerializationError for a type that is not
        known here, UntrustedPickleError.
        """
        try:
            return unpackb(data, ext_hook=self.ext_hook, strict_map_key=False)
        except StackError:
            return self._loads_deep(data)
        except MALFORMED as error:
            undecodable(error)

    def loads_many(self, datas: Sequence[bytes]) -> List[Any]:
        """Return the objects of many `data`, faster than one by one: msgpack's stream has no call for each.

        Raises: as it comes, whatever is wrong; loads() of each tells which it is. InParts also where there is a pickle
        or the like, which may make a large object of a few bytes: they are not all to be held at once.
        """
        if len(datas) == 1:  # of any size: without a copy of it
            return [unpackb(datas[0], ext_hook=self.ext_hook, strict_map_key=False)]
        joined = b''.join(datas)
        unpacker = Unpacker(ext_hook=_hook_for_many, strict_map_key=False, max_buffer_size=len(joined))
        unpacker.feed(joined)
        objects = list(unpacker)
        if len(objects) != len(datas):
            raise ValueError('the bytes do not end where their values do')
        return objects

    def _loads_deep(self, data: bytes) -> Any:
        """Load what msgpack packs, and does not unpack: its packer goes a level deeper, and pure Python's less deep."""
        from .deep import unpacked
        try:
            return unpacked(data, _hooks(self.pickles, unpacked)[0])
        except MALFORMED as error:
            undecodable(error)

    def _otherwise(self, obj: Any, has_surrogates: bool) -> bytes:
        """Pack what msgpack refuses: lone surrogates, what is nested deep, and, by pickle, what holds itself."""
        from contextlib import suppress

        from .deep import Circle, Opener, packed
        with suppress(*UNPACKABLE):
            if has_surrogates:
                return _Packer(self.pickles).pack(revealed(obj))
        try:
            with suppress(Circle):
                return packed(obj, Opener(self.pickles))
        except (ValueError, OverflowError) as error:  # more than 4 GB
            raise SerializationError(f'{_named(obj)} cannot be stored: {error}') from error
        return self._whole(obj)

    def _whole(self, obj: Any) -> bytes:
        try:
            data: bytes = Packer().pack(ExtType(PICKLE, self.pickles.dumps(obj)))
        except UntrustedPickleError as error:
            raise UntrustedPickleError(f'the value holds itself, which only a pickle can keep: store it without the '
                                       f'circle. {error}') from error
        return data


def as_array(run: bytes, count: int) -> bytes:
    """Return packed objects, one after another, as one array of so many."""
    return b'\xdd' + count.to_bytes(4, 'big') + run


def offsets(run: bytes, count: int) -> List[int]:
    """Return where the first `count` of packed objects begin, and where the last of them ends. Raises: MALFORMED."""
    unpacker = Unpacker(max_buffer_size=len(run))
    unpacker.feed(run)
    found = [0]
    try:
        for _ in range(count):
            unpacker.skip()
            found.append(unpacker.tell())
    except StackError:
        from .deep import ends
        return ends(run, count)
    return found


live_types: Dict[type, Callable[[Any], Any]] = {}  # of objects that are in parts: what makes a copy apart from them


never_stored: List[type] = []  # what is a vault, or looks into one


def detached(value: Any) -> Any:
    """Return the value, or a copy of it that stays when its entry goes."""
    copy = live_types.get(type(value))
    return value if copy is None else copy(value)


def inside_another() -> SerializationError:
    """Return the error about a live object that is part of a value."""
    return SerializationError('a live list or column is not stored inside another value: store list(...) of it')


class _Token:
    """What lives as long as the call that has it: an interrupt may keep it from tidying up."""


class _Mode(local):
    """What a thread's loading is for: while the token lives, its caller wants what can be changed in place."""

    writable: Callable[[], Optional[_Token]] = staticmethod(lambda: None)


_mode = _Mode()


def writable(load: Callable[..., T], *arguments: Any) -> T:
    """Return what `load(*arguments)` does, with NumPy arrays in it that can be changed in place."""
    token = _Token()
    outer, _mode.writable = _mode.writable, ref(token)
    try:
        return load(*arguments)
    finally:
        _mode.writable = outer


def undecodable(error: Exception) -> NoReturn:
    """Raise what `error`, met while unpacking, means to a user."""
    if isinstance(error, (VaultError, ImportError)):
        raise error
    raise VaultCorruptError(f'the stored bytes are no value of this format ({shown(error)})') from error


class _Packer:
    """A msgpack packer and, for what lies inside ExtTypes, the packer one level deeper. For one thread at a time."""

    def __init__(self, pickles: Pickles, depth: int = 0) -> None:
        self.pickles = pickles
        self.depth = depth
        self.pack: Pack = Packer(default=self.default, strict_types=True).pack
        self._deeper: Optional[_Packer] = None

    def default(self, obj: Any) -> ExtType:
        """Turn what msgpack cannot carry into an ExtType. It never calls its own packer, whose buffer is half full."""
        return ExtType(*encoded(obj, self.inner, self.pickles))

    def inner(self, obj: Any) -> bytes:
        if self._deeper is None:
            if self.depth == MAX_DEPTH:
                raise TooDeep
            self._deeper = _Packer(self.pickles, self.depth + 1)
        try:
            data = self._deeper.pack(obj)
        except UnicodeEncodeError:
            return self._deeper.pack(revealed(obj))
        return data if data.translate(IN_LONG).isascii() or not _hides(obj) else self._deeper.pack(revealed(obj))


def encoded(obj: Any, inner: Pack, pickles: Pickles) -> Tuple[int, bytes]:
    """Return the code and the payload of what msgpack cannot carry; `inner` packs what is inside a payload."""
    kind = type(obj)
    if kind in live_types:
        raise InParts
    registered = _by_class.get(kind)
    if registered is not None:
        return REGISTERED, inner([registered.name, registered.dumped(obj)])
    code, dump = ENCODERS.get(kind) or _lazy(kind)
    payload = dump(obj, inner)
    return (PICKLE, pickles.dumps(obj)) if payload is None else (code, payload)


def _hides(obj: Any) -> bool:
    """Tell whether msgpack would flatten something in `obj`. Looks into lists and dicts; `inner` sees to the rest."""
    unseen = [obj]
    for part in unseen:  # which grows meanwhile
        kind = type(part)
        if kind is dict:
            kinds, inner = {*map(type, part), *map(type, part.values())}, part.values()
        elif kind is list:
            kinds, inner = set(map(type, part)), part
        else:
            return kind in HIDING
        if kinds <= PLAIN:
            continue
        if not kinds.isdisjoint(HIDING):
            return True
        unseen += [one for one in inner if type(one) is list or type(one) is dict]
    return False


def revealed(obj: Any) -> Any:
    """Copy the lists and dicts of `obj`, with what msgpack would flatten, or has no bytes for, as ExtTypes of ours.

    Raises: TooDeep, soon also for what holds itself: the newest copy is filled first.
    """
    whole: List[Any] = []
    unfilled: List[Tuple[Any, Any, int]] = [([obj], whole, 0)]
    while unfilled:
        source, copy, depth = unfilled.pop()
        if depth > MOST_LEVELS:
            raise TooDeep
        parts = source if type(source) is list else source.values()
        shown = []
        for part in parts:
            if type(part) is list or type(part) is dict:
                shown.append(type(part)())
                unfilled.append((part, shown[-1], depth + 1))
            else:
                shown.append(_revealed_leaf(part))
        if type(source) is list:
            copy += shown
        else:
            copy.update(zip(map(_revealed_leaf, source), shown))
    return whole[0]


def _revealed_leaf(obj: Any) -> Any:
    kind = type(obj)
    if kind is str:
        try:
            obj.encode()
        except UnicodeEncodeError:
            return ExtType(TEXT, obj.encode('utf-8', 'surrogatepass'))
    if kind is bytearray:
        return ExtType(BYTEARRAY, bytes(obj))
    if kind is ExtType:
        return ExtType(EXTTYPE, Packer().pack([obj.code, obj.data]))
    if kind is memoryview:
        raise SerializationError('a memoryview cannot be stored: store bytes(view)')
    return obj


# --- the types, a pair of functions each: obj, inner packer -> payload; payload, inner unpacker -> obj -------------

_UNKNOWN_ZONE = object()


def _zone(zone: Optional[tzinfo]) -> Any:
    """Describe a time zone: nil, [offset in microseconds] or [offset, name], a zoneinfo key, or the zone as a value."""
    if zone is None:
        return None
    if type(zone) is timezone:
        offset, *name = zone.__getinitargs__()  # type: ignore[attr-defined]  # present since 3.2, not in the stubs
        return [offset // timedelta(microseconds=1), *name]
    if type(zone).__module__.endswith('zoneinfo') and getattr(zone, 'key', None):
        return zone.key  # type: ignore[attr-defined]  # a ZoneInfo made from a file has no key and is pickled
    return zone if _is_named(zone) else _UNKNOWN_ZONE


def _is_named(zone: tzinfo) -> bool:
    """Tell whether a time zone of another kind is a value that needs no pickle."""
    if type(zone) in _by_class:
        return True
    code, dump = _lazy(type(zone))
    return code == REGISTERED and dump(zone, lambda _: b'') is not None


def rezone(zone: Any) -> Optional[tzinfo]:
    """Return the time zone that `_zone` describes."""
    if zone is None or isinstance(zone, tzinfo):
        return zone
    if isinstance(zone, Unbuilt):
        return None
    if isinstance(zone, list):
        return timezone(timedelta(microseconds=zone[0]), *zone[1:])
    try:
        from zoneinfo import ZoneInfo
        return ZoneInfo(zone)
    except (ImportError, LookupError, OSError) as error:  # OSError of a name that is a folder's, or too long
        raise SerializationError(f'the time zone {zone!r} is not known here: install `tzdata`, '
                                 'on Python 3.9 or newer') from error


def _dump_moment(obj: Any, inner: Pack) -> Optional[bytes]:
    """Describe a datetime or time as [ISO text without zone, fold, zone]; None when its zone needs a pickle."""
    zone = _zone(obj.tzinfo)
    return None if zone is _UNKNOWN_ZONE else inner([obj.replace(tzinfo=None, fold=0).isoformat(), obj.fold, zone])


def _load_moment(kind: Any, data: bytes, inner: Unpack) -> Any:
    text, fold, zone = inner(data)
    return kind.fromisoformat(text).replace(fold=fold, tzinfo=rezone(zone))


def _dump_int(obj: int, inner: Pack) -> bytes:
    return obj.to_bytes(obj.bit_length() // 8 + 1, 'big', signed=True)


def _dump_list(obj: Any, inner: Pack) -> bytes:
    return inner(list(obj))


def left_to_pickle(obj: Any, inner: Pack) -> None:
    """Leave `obj` to pickle."""


ENCODERS: Dict[type, Encoder] = {
    tuple: (TUPLE, _dump_list), set: (SET, _dump_list), frozenset: (FROZENSET, _dump_list),
    int: (INT, _dump_int), complex: (COMPLEX, lambda obj, _: struct.pack('>dd', obj.real, obj.imag)),
    date: (DATE, lambda obj, _: obj.isoformat().encode()),
    datetime: (DATETIME, _dump_moment), time: (TIME, _dump_moment),
    timedelta: (TIMEDELTA, lambda obj, inner: inner([obj.days, obj.seconds, obj.microseconds])),
    range: (RANGE, lambda obj, inner: inner([obj.start, obj.stop, obj.step])),
}


def _of_items(kind: Callable[..., Any]) -> Callable[[bytes, Unpack], Any]:
    """Return the decoder of what is made of an array, and of nothing else: a range in a few bytes would be endless."""
    def load(data: bytes, inner: Unpack) -> Any:
        items = inner(data)
        if type(items) is list:
            return kind(items)
        raise ValueError(f'an array is expected, not {type(items).__name__}')
    return load


def _load_decimal(data: bytes, inner: Unpack) -> Any:
    from decimal import Decimal
    return Decimal(data.decode())


def _load_fraction(data: bytes, inner: Unpack) -> Any:
    from fractions import Fraction
    numerator, denominator = inner(data)
    if not type(numerator) is type(denominator) is int:  # of text, '1e999999999' would take hours
        raise ValueError('a fraction is not of two integers')
    return Fraction(numerator, denominator)


def _load_uuid(data: bytes, inner: Unpack) -> Any:
    from uuid import UUID
    return UUID(bytes=data)


def _dump_array(obj: Any, inner: Pack) -> Optional[bytes]:
    """Describe a NumPy array as [dtype, shape, order, bytes], the dtype as in NumPy's own .npy files."""
    descr = None if _is_endless(obj) else _describe(obj.dtype)
    order = 'F' if obj.flags.f_contiguous and not obj.flags.c_contiguous else 'C'
    return None if descr is None else inner([descr, list(obj.shape), order, _unfielded(obj).tobytes(order)])


def _is_endless(array: Any) -> bool:
    """Tell whether a few bytes would make more items than could be looked at: only pickle makes such arrays."""
    return not array.dtype.itemsize and array.size > MOST_EMPTY


def _unfielded(array: Any) -> Any:
    """Look at items of several fields as bytes: a copy field by field has whatever was in memory between them."""
    return array.view(f'V{array.dtype.itemsize}') if array.dtype.names else array


def _dump_scalar(obj: Any, inner: Pack) -> Optional[bytes]:
    descr = _describe(obj.dtype)
    if isinstance(obj, (str, bytes)):  # an array would drop the NULs at their end
        return inner([descr, obj.encode('utf-32-le', 'surrogatepass') if isinstance(obj, str) else bytes(obj)])
    return None if descr is None else inner([descr, _unfielded(obj).tobytes()])


def _describe(dtype: Any) -> Any:
    """Return the description of `dtype`; None when it holds objects or is a foreign one, which pickle must carry."""
    from numpy.lib.format import dtype_to_descr
    if dtype.hasobject or dtype.isbuiltin == 2 or dtype.metadata or (dtype.kind == 'V' and not dtype.itemsize):
        return None
    descr = dtype_to_descr(dtype)
    return descr if _dtype(descr) == dtype else None


def _dtype(descr: Any) -> Any:
    try:
        from numpy.lib.format import descr_to_dtype
    except ImportError as error:
        raise ImportError("this value is of NumPy, which is not installed: pip install 'vaults[numpy]'") from error
    dtype = descr_to_dtype(_retupled(descr))
    if dtype.hasobject:  # its bytes would be taken for addresses
        raise VaultCorruptError('a stored NumPy array claims to hold objects')
    return dtype


def _retupled(descr: Any) -> Any:
    """Make the tuples again that msgpack turned into lists: the fields of a structured dtype, and their shapes."""
    if not isinstance(descr, (list, tuple)):
        return descr
    if not all(isinstance(field, (list, tuple)) for field in descr):
        raise ValueError('a field of a dtype is no array')
    return [tuple([tuple(part) if at != 1 and isinstance(part, (list, tuple)) else _retupled(part)
                   for at, part in enumerate(field)]) for field in descr]


def _load_array(data: bytes, inner: Unpack) -> Any:
    descr, shape, order, raw = inner(data)
    dtype = _dtype(descr)
    import numpy
    if type(shape) is not list or type(raw) is not bytes:  # of None, NumPy makes an array of what is in memory
        raise ValueError('the shape of an array is no array of integers, or its bytes are none')
    array = numpy.ndarray(tuple(shape), dtype, raw, order=order)  # looks at the bytes, which nobody can change
    if _is_endless(array):
        raise ValueError('an array has more items of no bytes than could be looked at')
    return _unfielded(array).copy(order).view(dtype) if _mode.writable() else array


def _load_scalar(data: bytes, inner: Unpack) -> Any:
    descr, raw = inner(data)
    if type(raw) is not bytes:
        raise ValueError('the bytes of a NumPy scalar are none')
    dtype = _dtype(descr)
    import numpy
    if dtype.kind in 'SU':
        return dtype.type(raw if dtype.kind == 'S' else raw.decode('utf-32-le', 'surrogatepass'))
    return _unfielded(numpy.ndarray((), dtype, raw)).copy().view(dtype)[()]


def _load_exttype(data: bytes, inner: Unpack) -> ExtType:
    code, payload = inner(data)
    return ExtType(code, payload)


DECODERS: Dict[int, Callable[[bytes, Unpack], Any]] = {
    INT: lambda data, _: int.from_bytes(data, 'big', signed=True),
    BYTEARRAY: lambda data, _: bytearray(data), TEXT: lambda data, _: data.decode('utf-8', 'surrogatepass'),
    TUPLE: _of_items(tuple), SET: _of_items(set), FROZENSET: _of_items(frozenset),
    COMPLEX: lambda data, _: complex(*struct.unpack('>dd', data)),
    DATE: lambda data, _: date.fromisoformat(data.decode()),
    DATETIME: partial(_load_moment, datetime),
    TIME: partial(_load_moment, time),
    TIMEDELTA: _of_items(lambda items: timedelta(*items)),
    DECIMAL: _load_decimal, FRACTION: _load_fraction, UUID: _load_uuid,
    RANGE: _of_items(lambda items: range(*items)),
    EXTTYPE: _load_exttype, NDARRAY: _load_array, NUMPY_SCALAR: _load_scalar,
}

# Types of modules that this one does not import: an object of theirs can only come from a program that has.
LAZY: Dict[Tuple[str, str], Encoder] = {
    ('decimal', 'Decimal'): (DECIMAL, lambda obj, _: str(obj).encode()),
    ('fractions', 'Fraction'): (FRACTION, lambda obj, inner: inner([obj.numerator, obj.denominator])),
    ('uuid', 'UUID'): (UUID, lambda obj, _: obj.bytes),
    ('numpy', 'ndarray'): (NDARRAY, _dump_array),
}
FOREIGN = frozenset(['pandas', 'polars', 'PIL'])  # packages whose types are in foreign.py, and in named.py:
NAMED = frozenset(['array', 'builtins', 'datetime', 'dateutil', 'ipaddress', 'pathlib', 'pytz', 'zoneinfo'])


def _lazy(kind: type) -> Encoder:
    """Return the encoder of a type whose module this one does not import; pickle's for any other."""
    module, name = kind.__module__, kind.__qualname__
    known = LAZY.get((module, name))
    if known and getattr(sys.modules[module], name, None) is kind:
        return known
    if module == 'numpy' and issubclass(kind, sys.modules['numpy'].generic):
        return NUMPY_SCALAR, _dump_scalar
    if issubclass(kind, tuple(never_stored)):
        raise SerializationError(f'a {name} is not stored in a vault, only its content is: store dict(x.items()) of '
                                 'a mapping x, list(x) of a view')
    package = str(module).partition('.')[0]
    if package in FOREIGN:
        from . import foreign
        return foreign.encoder(package, kind)
    if package in NAMED:
        from . import named
        return named.encoder(kind)
    return PICKLE, left_to_pickle


def _hooks(pickles: Pickles, unpack: Optional[Callable[..., Any]] = None) -> List[Callable[[int, bytes], Any]]:
    """Return msgpack's ext_hook for each depth of nesting, the outermost first; `unpack` reads payloads."""
    def refuse(code: int, data: bytes) -> NoReturn:
        raise ValueError(f'types are nested more than {MAX_DEPTH} deep')
    hooks: List[Callable[[int, bytes], Any]] = [refuse]
    for depth in range(MAX_DEPTH, -1, -1):
        inner = partial(unpack or (_unpack_quickly if depth < QUICK_DEPTH else _unpack_leanly), ext_hook=hooks[0])
        hooks.insert(0, partial(load_ext, pickles, inner, depth == 0))
    return hooks


_unpack_quickly = partial(unpackb, strict_map_key=False)


def _unpack_leanly(data: bytes, ext_hook: Callable[[int, bytes], Any]) -> Any:
    unpacker = Unpacker(ext_hook=ext_hook, strict_map_key=False, max_buffer_size=len(data))
    unpacker.feed(data)
    obj = unpacker.unpack()
    if unpacker.tell() != len(data):
        raise ValueError('a payload goes on behind its value')
    return obj


def load_ext(pickles: Pickles, inner: Unpack, is_outermost: bool, code: int, data: bytes) -> Any:
    decoder = DECODERS.get(code)
    if decoder is not None:
        return decoder(data, inner)
    if code == PICKLE:
        return pickles.loads(data)
    if code in PARTED:
        raise InParts
    if code == SERIALIZED:
        return pickles.serialized(inner(data))
    if code == DEEP:
        if not is_outermost:  # one in another would begin to count depth anew, down to the end of the stack
            raise ValueError('a deep value is part of another')
        from .deep import loaded
        return loaded(data, _hooks(pickles)[0], dict,
                      lambda code, part: load_ext(pickles, lambda _: part, False, code, b''))
    if code != REGISTERED:
        raise SerializationError(f'a value has the ExtType code {code}, which this version does not know: '
                                 'it was written by a newer one, install that')
    name, payload = inner(data)
    return pickles.rebuild(name, payload)


# --- registered types ---------------------------------------------------------------------------------------------

class Registered:
    """A user's class, with the name it is stored under."""

    def __init__(self, cls: type, name: str, dump: Callable[[Any], Any], load: Callable[[Any], Any]) -> None:
        self.cls, self.name, self.dump, self.load = cls, name, dump, load

    def dumped(self, obj: Any) -> Any:
        return self._guarded(self.dump, obj, 'dump')

    def loaded(self, payload: Any) -> Any:
        return self._guarded(self.load, payload, 'load')

    def _guarded(self, function: Callable[[Any], Any], argument: Any, verb: str) -> Any:
        try:
            return function(argument)
        except Exception as error:
            raise SerializationError(f'the {verb} function registered for {self.name!r} failed: {error!r}') from error


_by_class: Dict[type, Registered] = {}
_by_name: Dict[str, Registered] = {}


def register(cls: Type[T], dump: Optional[Callable[[T], Any]] = None, load: Optional[Callable[[Any], T]] = None, *,
             name: Optional[str] = None) -> Type[T]:
    """Store objects of class `cls` by name, without pickle; return `cls`, so that it decorates as well.

    `dump(obj)` returns anything msgpack can carry, `load` makes the object again. Dataclasses and Enums need neither.
    `name` is what the file holds; by default the module and name of the class. Subclasses are types of their own.
    A dataclass is made again from its fields, without __init__ and __post_init__.

    >>> import vaults
    >>> class Point:
    ...     def __init__(self, x, y):
    ...         self.x, self.y = x, y
    >>> vaults.register(Point, lambda p: [p.x, p.y], lambda xy: Point(*xy), name='Point')  # doctest: +ELLIPSIS
    <class '...Point'>

    Raises: TypeError when `cls` needs functions or cannot be registered, ValueError when the name is another's.
    """
    if not isinstance(cls, type):
        raise TypeError(f'register takes a class, not {cls!r}')
    if cls in ENCODERS or cls in (type(None), bool, float, str, bytes, bytearray, list, dict, memoryview):
        raise TypeError(f'{cls.__name__} is stored exactly already and cannot be registered')
    if (dump is None) != (load is None):
        raise TypeError(f'register({cls.__name__}) takes dump and load together')
    if dump is None or load is None:
        dump, load = _derived(cls)
    entry = Registered(cls, name or f'{cls.__module__}.{cls.__qualname__}', dump, load)
    other = _by_name.get(entry.name)
    if other and (other.cls.__module__, other.cls.__qualname__) != (cls.__module__, cls.__qualname__):
        raise ValueError(f'the name {entry.name!r} is registered for {other.cls!r}: choose another with name=...')
    _by_class[cls] = _by_name[entry.name] = entry
    return cls


def _derived(cls: Any) -> Tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """Return the functions of a dataclass or an Enum."""
    import dataclasses
    import enum
    if dataclasses.is_dataclass(cls):
        return partial(_dump_fields, dataclasses.fields(cls)), partial(_load_fields, cls, dataclasses.fields(cls))
    if issubclass(cls, enum.Flag):
        return (lambda member: member.value), cls
    if issubclass(cls, enum.Enum):
        return (lambda member: member.name), cls.__getitem__
    raise TypeError(f'register({cls.__name__}) needs dump and load: only dataclasses and Enums go without')


def _dump_fields(fields: Any, obj: Any) -> Dict[str, Any]:
    return {field.name: getattr(obj, field.name) for field in fields}


def _load_fields(cls: Any, fields: Any, stored: Dict[str, Any]) -> Any:
    """Rebuild a dataclass field by field, not through __init__, which may compute; new fields get their defaults."""
    import dataclasses
    obj = cls.__new__(cls)
    for field in fields:
        if field.name in stored:
            value = stored[field.name]
        elif field.default is not dataclasses.MISSING:
            value = field.default
        elif field.default_factory is not dataclasses.MISSING:
            value = field.default_factory()
        else:
            raise LookupError(f'the stored object has no field {field.name!r}, and it has no default')
        object.__setattr__(obj, field.name, value)
    return obj


def _rebuild(name: str, payload: Any) -> Any:
    entry = _by_name.get(name)
    if entry is None and name.partition('.')[0] in FOREIGN:
        from . import foreign
        entry = foreign.BY_NAME.get(name)
    if entry is None and name.partition('.')[0] in NAMED:
        from . import named
        entry = named.BY_NAME.get(name)
    if entry is None:
        raise SerializationError(f'the value is of the registered type {name!r}, which this program has not '
                                 f'registered: call vaults.register(..., name={name!r}) first')
    return entry.loaded(payload)


def _serialized(payload: Any) -> NoReturn:
    raise SerializationError('the value was made by a serializer: only a vault that is opened with the same one, '
                             'Vault(..., serializer=...), reads it')


# --- pickles, under each rule -------------------------------------------------------------------------------------

class Trusting:
    """Reads and writes pickles, once `check` has passed; it raises when the place is not to be trusted."""

    def __init__(self, check: Callable[[], None] = lambda: None) -> None:
        self._check: Optional[Callable[[], None]] = check

    def dumps(self, obj: Any) -> bytes:
        self._checked()
        data = _pickled(obj)
        _prove(obj, data)
        return data

    def loads(self, data: bytes) -> Any:
        self._checked()
        import pickle
        return _unpickled(lambda: pickle.loads(data))

    rebuild = staticmethod(_rebuild)
    serialized = staticmethod(_serialized)

    def _checked(self) -> None:
        if self._check is not None:
            self._check()
            self._check = None


class Refusing:
    """Neither reads nor writes pickles."""

    def dumps(self, obj: Any) -> bytes:
        raise UntrustedPickleError(f'{_named(obj)} would have to be pickled, which allow_pickle=False forbids: '
                                   'register its type with vaults.register, or store plain data')

    def loads(self, data: bytes) -> Any:
        raise UntrustedPickleError('the value holds a pickle, which allow_pickle=False does not read: pass '
                                   'allow_pickle=True, or a list of its types, if you trust who wrote the file')

    rebuild = staticmethod(_rebuild)
    serialized = staticmethod(_serialized)


class Listed:
    """Reads and writes pickles that name no class or function but the listed types."""

    def __init__(self, types: Iterable[type]) -> None:
        self._types = {(cls.__module__, cls.__qualname__): cls for cls in types}

    def dumps(self, obj: Any) -> bytes:
        data = _pickled(obj)
        self.loads(data)  # what could not be read again is not written
        return data

    def loads(self, data: bytes) -> Any:
        import io
        import pickle

        class Unpickler(pickle.Unpickler):
            find_class = staticmethod(self._find)
        return _unpickled(Unpickler(io.BytesIO(data)).load)

    def _find(self, module: str, name: str) -> type:
        try:
            return self._types[module, name]
        except KeyError:
            raise UntrustedPickleError(f'the value holds a pickle that names {module}.{name}, which is not in '
                                       'allow_pickle: add the type to the list if you trust it') from None

    rebuild = staticmethod(_rebuild)
    serialized = staticmethod(_serialized)


class Unbuilt(tuple):  # type: ignore[type-arg]  # of what it is and its name
    """What stands for an object of a class whose code is not run."""


class Unread:
    """Leaves pickles, registered and serialized objects as they are; for a look at the structure that runs no code."""

    def dumps(self, obj: Any) -> bytes:
        raise SerializationError('this codec only reads')

    def loads(self, data: bytes) -> Any:
        return ('pickle', data)

    def rebuild(self, name: str, payload: Any) -> Any:
        return Unbuilt(('registered', name))

    def serialized(self, payload: Any) -> Any:
        return ('serialized', payload)


class _Singly(Unread):
    """Leaves what somebody's code makes objects of to who loads one value at a time."""

    def loads(self, data: bytes) -> NoReturn:
        raise InParts

    def rebuild(self, name: str, payload: Any) -> NoReturn:
        raise InParts

    def serialized(self, payload: Any) -> NoReturn:
        raise InParts


_hook_for_many = _hooks(_Singly())[0]


def rule(allow_pickle: Optional[AllowPickle], check: Callable[[], None]) -> Pickles:
    """Return what `allow_pickle` asks for; `check` is called before the first pickle when it is None.

    Raises: VaultTypeError when it is neither None, a bool nor a collection of types.
    """
    if allow_pickle is None:
        return Trusting(check)
    if isinstance(allow_pickle, bool):
        return Trusting() if allow_pickle else Refusing()
    try:
        types = () if isinstance(allow_pickle, (str, bytes, type)) else tuple(allow_pickle)
    except TypeError:  # a number
        types = ()
    if not types or not all(isinstance(cls, type) for cls in types):
        raise VaultTypeError(f'allow_pickle is True, False, None or a list of types, not {allow_pickle!r}')
    return Listed(types)


def _named(obj: Any) -> str:
    return f'an object of type {type(obj).__module__}.{type(obj).__qualname__}'


def _pickled(obj: Any) -> bytes:
    import pickle
    try:
        return pickle.dumps(obj, PICKLE_PROTOCOL)
    except Exception as error:
        raise SerializationError(f'{_named(obj)} cannot be stored, because it cannot be pickled ({error}): '
                                 'register its type with vaults.register, or store plain data') from error


# Classes of which an object came back from its pickle. Whether it does is decided by the class, but for exceptions,
# whose arguments decide as well. To load every pickle would take half as long again, and run more code of the user's.
_proven: WeakSet[type] = WeakSet()
PROVEN_SIZE = 1 << 20  # bytes of a pickle; a larger one would take too long, and too much memory, to look at


def _prove(obj: Any, data: bytes) -> None:
    """Load the pickle of an exception, and of the first object of any class. Raises: SerializationError."""
    kind = type(obj)
    if len(data) > PROVEN_SIZE or (kind in _proven and not isinstance(obj, BaseException)):
        return
    import pickle
    try:
        pickle.loads(data)
    except Exception as error:
        raise SerializationError(f'{_named(obj)} cannot be stored, because its pickle cannot be loaded ({error!r}): '
                                 'give the class a __reduce__ that calls it as its __init__ wants, register it with '
                                 'vaults.register, or store plain data') from error
    if kind not in (list, dict):  # which hold themselves, and anything else
        _proven.add(kind)


def _unpickled(load: Callable[[], Any]) -> Any:
    try:
        return load()
    except VaultError:
        raise
    except Exception as error:
        raise SerializationError(f'the value holds a pickle that cannot be loaded here ({error!r}): is its class '
                                 'where it was, and importable? An entry need not be read to be deleted') from error


# --- without a vault ----------------------------------------------------------------------------------------------

_codecs = {allowed: Codec(rule(allowed, lambda: None)) for allowed in (True, False)}


def _codec(allow_pickle: AllowPickle) -> Codec:
    if isinstance(allow_pickle, bool):
        return _codecs[allow_pickle]
    if allow_pickle is None:
        raise TypeError('allow_pickle is True, False or a list of types: bytes have no file that tells who wrote them')
    return Codec(rule(allow_pickle, lambda: None))


def dumps(obj: Any, *, allow_pickle: AllowPickle = True) -> bytes:
    """Return `obj` as msgpack bytes, as a vault would store it.

    >>> import vaults
    >>> vaults.dumps((1, 2)).hex()
    'c70305920102'

    Raises: SerializationError, UntrustedPickleError.
    """
    return _dumped(_codec(allow_pickle), obj)


def loads(data: bytes, *, allow_pickle: AllowPickle = False) -> Any:
    """Return the object of `dumps`. Bytes say not who wrote them: pickles are read only when you allow it.

    >>> import vaults
    >>> vaults.loads(vaults.dumps({'point': (1, 2)}))
    {'point': (1, 2)}

    Raises: VaultCorruptError, SerializationError, UntrustedPickleError.
    """
    return _loaded(_codec(allow_pickle), data)


def dumps_many(objs: Iterable[Any], *, allow_pickle: AllowPickle = True) -> List[bytes]:
    """Return what `dumps` does for each of the objects.

    Raises: SerializationError, UntrustedPickleError, for the first that cannot be packed.
    """
    codec = _codec(allow_pickle)
    return _each(partial(_dumped, codec), objs)


def loads_many(datas: Iterable[bytes], *, allow_pickle: AllowPickle = False) -> List[Any]:
    """Return what `loads` does for each.

    >>> import vaults
    >>> vaults.loads_many(vaults.dumps_many([1, (2, 3)]))
    [1, (2, 3)]

    Raises: VaultCorruptError, SerializationError, UntrustedPickleError, for the first that cannot be read.
    """
    codec, datas = _codec(allow_pickle), list(datas)
    try:
        return codec.loads_many(datas)
    except (InParts, *MALFORMED):  # one of them: singly they tell
        return _each(partial(_loaded, codec), datas)


def _dumped(codec: Codec, obj: Any) -> bytes:
    try:
        return codec.dumps(obj)
    except InParts:
        raise SerializationError('a live list or column lives in its vault: dump list(...) of it') from None


def _loaded(codec: Codec, data: bytes) -> Any:
    try:
        return codec.loads(data)
    except InParts:
        raise SerializationError('the bytes are the head of a value that is kept in parts in its vault: read it '
                                 'there') from None


def _each(function: Callable[[Any], T], arguments: Iterable[Any]) -> List[T]:
    done: List[T] = []
    for place, argument in enumerate(arguments):
        try:
            done.append(function(argument))
        except VaultError as error:
            raise type(error)(f'element {place}: {error}') from error
    return done
