"""Types: how objects of Python's standard types become payloads of ExtTypes, and payloads objects. Knows no store.

For each a pair of functions: (obj, inner packer) -> payload; (payload, inner unpacker) -> obj. The tables at the end
say which belongs to which type and code. Behind them stands what is to be done about objects that msgpack would pack
as something else.
"""
from __future__ import annotations

import struct
import sys
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from functools import partial

from msgpack import ExtType, Packer

from ..errors import SerializationError
from .codes import (
    BYTEARRAY,
    COMPLEX,
    DATE,
    DATETIME,
    DECIMAL,
    EXTTYPE,
    FRACTION,
    FROZENSET,
    INT,
    MOST_LEVELS,
    NDARRAY,
    NUMPY_SCALAR,
    PICKLE,
    RANGE,
    REGISTERED,
    SET,
    TEXT,
    TIME,
    TIMEDELTA,
    TUPLE,
    UUID,
    TooDeep,
)
from .large import BIN, Pieces
from .registry import Unbuilt, by_class, inside_another, live_types, provided

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, List, Optional, Tuple

    from .pickles import Pickles
    from .registry import Encoder, Pack, Unpack


# --- time zones, datetimes and times --------------------------------------------------------------------------------

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
    if type(zone) in by_class:
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


# --- what holds items, numbers, and text ------------------------------------------------------------------------------

def _dump_int(obj: int, inner: Pack) -> bytes:
    return obj.to_bytes(obj.bit_length() // 8 + 1, 'big', signed=True)


def _dump_list(obj: Any, inner: Pack) -> bytes:
    return inner(list(obj))


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


def _load_exttype(data: bytes, inner: Unpack) -> ExtType:
    code, payload = inner(data)
    return ExtType(code, payload)


# --- which is which -------------------------------------------------------------------------------------------------

ENCODERS: Dict[type, Encoder] = {
    tuple: (TUPLE, _dump_list), set: (SET, _dump_list), frozenset: (FROZENSET, _dump_list),
    int: (INT, _dump_int), complex: (COMPLEX, lambda obj, _: struct.pack('>dd', obj.real, obj.imag)),
    date: (DATE, lambda obj, _: obj.isoformat().encode()),
    datetime: (DATETIME, _dump_moment), time: (TIME, _dump_moment),
    timedelta: (TIMEDELTA, lambda obj, inner: inner([obj.days, obj.seconds, obj.microseconds])),
    range: (RANGE, lambda obj, inner: inner([obj.start, obj.stop, obj.step])),
    Pieces: (BIN, lambda obj, _: obj),
}
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
    EXTTYPE: _load_exttype,
    NDARRAY: lambda data, inner: _arrays().load_array(data, inner),
    NUMPY_SCALAR: lambda data, inner: _arrays().load_scalar(data, inner),
}
# Types of modules that this one does not import: an object of theirs can only come from a program that has.
UNIMPORTED: Dict[Tuple[str, str], Encoder] = {
    ('decimal', 'Decimal'): (DECIMAL, lambda obj, _: str(obj).encode()),
    ('fractions', 'Fraction'): (FRACTION, lambda obj, inner: inner([obj.numerator, obj.denominator])),
    ('uuid', 'UUID'): (UUID, lambda obj, _: obj.bytes),
    ('numpy', 'ndarray'): (NDARRAY, lambda obj, inner: _arrays().dump_array(obj, inner)),
    ('numpy', 'generic'): (NUMPY_SCALAR, lambda obj, inner: _arrays().dump_scalar(obj, inner)),  # and its subclasses
}


def _arrays() -> Any:
    """Import the room of NumPy's functions and put them into the tables, so that the next array finds them there."""
    from . import arrays
    DECODERS.update({NDARRAY: arrays.load_array, NUMPY_SCALAR: arrays.load_scalar})
    UNIMPORTED['numpy', 'ndarray'] = NDARRAY, arrays.dump_array
    UNIMPORTED['numpy', 'generic'] = NUMPY_SCALAR, arrays.dump_scalar
    return arrays


def _lazy(kind: type) -> Encoder:
    """Return the encoder of a type whose module this one does not import; pickle's for any other."""
    module, name = kind.__module__, kind.__qualname__
    known = UNIMPORTED.get((module, name))
    if known and getattr(sys.modules[module], name, None) is kind:
        return known
    if module == 'numpy' and issubclass(kind, sys.modules['numpy'].generic):
        return UNIMPORTED['numpy', 'generic']
    return provided(kind)


# Bound once, since a method of an imported name is called without CPython's shortcut for methods: 30 ns a value.
_registered = by_class.get


def encoded(obj: Any, inner: Pack, pickles: Pickles) -> Tuple[int, bytes]:
    """Return the code and the payload of what msgpack cannot carry; `inner` packs what is inside a payload."""
    kind = type(obj)
    if kind in live_types:
        raise inside_another()
    registered = _registered(kind)
    if registered is not None:
        return REGISTERED, inner([registered.name, registered.dumped(obj)])
    code, dump = ENCODERS.get(kind) or _lazy(kind)
    payload = dump(obj, inner)
    return (PICKLE, pickles.dumps(obj)) if payload is None else (code, payload)


# --- what msgpack would pack as something else ----------------------------------------------------------------------
# It takes these for bytes, or for ExtTypes of its own, and does not ask for an encoder. Their headers are looked for in
# the packed bytes, which takes 0.1 us; only where there may be one of them are the objects walked.

HIDING = frozenset([bytearray, memoryview, ExtType])
PLAIN = frozenset([type(None), bool, int, float, str, bytes])
LOOKED_INTO = HIDING | {list, dict}


def hides(obj: Any) -> bool:
    """Tell whether msgpack would flatten something in `obj`. Looks into lists and dicts, not into other objects."""
    unseen = [obj]
    for part in unseen:  # more are added to it on the way
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
