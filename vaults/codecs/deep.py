"""Deep: values nested deeper than msgpack goes, packed and read without recursion. Knows neither keys nor stores.

Elsewhere a header stands before its parts: of an array or a map their number, of an ExtType its code and size. In the
payload of a DEEP value it stands behind them, as an object of its own, so that a reader needs a stack of objects and no
other: what is no header goes onto it, a header takes its parts off it and puts what it makes of them back. In the end
one object is left. docs/format.md has the bytes.
"""
from __future__ import annotations

from functools import partial

from msgpack import ExtType, Packer, Timestamp, Unpacker

from ..errors import SerializationError
from . import codes
from .large import Pieces
from .types import HIDING, PLAIN, encoded, revealed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Iterable, Iterator, List, NoReturn, Optional, Set, Tuple

    from .pickles import Pickles

    Opened = Tuple[Optional[Iterable[Any]], bytes]  # the parts, or None, and the header or the packed object
    Open = Tuple[Any, Iterator[Any], bytes]  # an object, those of its parts that are still to come, and its header

LEVELS = 100_000      # so deep a value is packed; a tuple counts as two levels, a registered object as three
# Python hashes a tuple in a tuple by recursion in C, unchecked: 100 bytes of the stack a level.
HASHED_LEVELS = 1000
PLAIN_LEVELS = 1026   # the most that a msgpack packer writes, and an array around it, which stands for a chunk of items
# What may have parts: the ExtTypes whose payload is one object.
NESTABLE = frozenset([codes.REGISTERED, codes.TUPLE, codes.SET, codes.FROZENSET, codes.DATETIME, codes.TIME,
                      codes.TIMEDELTA, codes.FRACTION, codes.RANGE, codes.NDARRAY, codes.NUMPY_SCALAR])


class Circle(Exception):
    """The object holds itself."""


# --- packing --------------------------------------------------------------------------------------------------------

def packed(obj: Any, opener: Opener) -> bytes:
    """Return any object but one that holds itself as a DEEP value; `opener` takes it apart.

    Raises: Circle, SerializationError, UntrustedPickleError.
    """
    done: List[bytes] = []
    path: Set[int] = set()
    # What is being packed, the innermost last.
    open_: List[Open] = [(None, iter((obj,)), b'')]
    while open_:
        owner, rest, header = open_[-1]
        below = _first_with_parts(rest, opener, done)
        if below is None:
            open_.pop()
            path.discard(id(owner))
            done.append(header)
            continue
        if id(below[0]) in path:
            raise Circle
        if len(open_) > LEVELS:
            raise SerializationError(f'the value is nested more than {LEVELS:,} deep: store it flat, as a list say')
        path.add(id(below[0]))
        open_.append(below)
    payload = b''.join(done)
    data: bytes = Packer().pack(ExtType(codes.DEEP, payload))
    return data


def _first_with_parts(rest: Iterator[Any], opener: Opener, done: List[bytes]) -> Optional[Open]:
    """Pack those that have no parts, until one has: return it, its parts and its header. None at the end."""
    for part in rest:
        parts, made = opener.opened(part)
        if parts is not None:
            return part, iter(parts), made
        done.append(made)
    return None


class Opener:
    """Takes objects apart: into their parts and a header, or into packed bytes."""

    def __init__(self, pickles: Pickles) -> None:
        self._pickles = pickles
        self._pack = Packer(strict_types=True).pack

    def opened(self, obj: Any) -> Opened:
        kind = type(obj)
        if kind is list:
            return self._leaf(obj) if PLAIN.issuperset(map(type, obj)) else self._array(obj)
        if kind is dict:
            plain = PLAIN.issuperset(map(type, obj)) and PLAIN.issuperset(map(type, obj.values()))
            return self._leaf(obj) if plain else self._map(obj)
        if kind in PLAIN or kind in HIDING or kind in (Timestamp, Pieces):
            return self._leaf(obj)
        return self._typed(obj)

    def _leaf(self, obj: Any) -> Opened:
        """Pack what has no parts but plain ones."""
        kind = type(obj)
        try:
            return None, self._pack(revealed(obj) if kind is str or kind in HIDING else
                                    b''.join(obj.pieces) if kind is Pieces else obj)
        except (UnicodeEncodeError, OverflowError):  # a lone surrogate, an int past 64 bits
            return self._typed(obj) if kind is int else self._array(obj) if kind is list else self._map(obj)

    def _array(self, obj: Any) -> Opened:
        parts = list(obj)
        return parts, self.array(len(parts))

    def _map(self, obj: Any) -> Opened:
        if not _hashable(obj):
            _refuse_unhashable()
        parts = [part for pair in obj.items() for part in pair]
        return parts, self.map(len(parts) // 2)

    def _typed(self, obj: Any) -> Opened:
        if type(obj) in (set, frozenset) and not _hashable(obj):
            _refuse_unhashable()
        taken: List[Any] = []

        def take(part: Any) -> bytes:
            taken.append(part)
            return b''
        code, payload = encoded(obj, take, self._pickles)
        if taken:
            return taken, self.code(code)
        return None, self._pack(ExtType(code, payload))

    def code(self, code: int) -> bytes:
        """Return the header of an ExtType."""
        data: bytes = self._pack(ExtType(codes.DEEP, bytes([code])))
        return data

    def array(self, count: int) -> bytes:
        """Return the header of an array, as msgpack writes it, as an object of its own."""
        return self._header(count, 0x90, 0xDC)

    def map(self, count: int) -> bytes:
        """Return the header of a map."""
        return self._header(count, 0x80, 0xDE)

    def _header(self, count: int, short: int, long: int) -> bytes:
        if count < 16:
            payload = bytes([short | count])
        elif count < 1 << 16:
            payload = bytes([long]) + count.to_bytes(2, 'big')
        else:
            payload = bytes([long + 1]) + count.to_bytes(4, 'big')
        data: bytes = self._pack(ExtType(codes.DEEP, payload))
        return data


def _hashable(parts: Iterable[Any]) -> bool:
    """Tell whether hashing these cannot end the process."""
    return not any(levels_of(part) > HASHED_LEVELS for part in parts if type(part) is tuple)


def _refuse_unhashable() -> NoReturn:
    raise SerializationError(f'a tuple in a set, or as a key in a dict, is nested more than {HASHED_LEVELS:,} deep: '
                             'give it a flat key')


def levels_of(obj: Any) -> int:
    """Return how deep tuples are nested in `obj`."""
    depth, level = 0, [obj]
    while level:
        depth, level = depth + 1, [part for one in level if isinstance(one, tuple) for part in one]
    return depth


# --- reading --------------------------------------------------------------------------------------------------------

class MsgpackHeader:
    """An object of a payload that takes its parts off the stack."""

    __slots__ = ('code', 'count')

    def __init__(self, payload: bytes) -> None:
        first = payload[0]
        if first >= 0x80:
            is_map = first < 0x90 or first in (0xDE, 0xDF)
            self.code, self.count = (MAP, 2 * _count_in(payload)) if is_map else (ARRAY, _count_in(payload))
        elif first in NESTABLE and len(payload) == 1:
            self.code, self.count = first, 1
        else:
            raise ValueError(f'the ExtType code {first} has no parts')


ARRAY, MAP = -1, -2   # in the place of an ExtType's code


def _count_in(payload: bytes) -> int:
    """Return the number of parts in the header of an array or a map."""
    first, rest = payload[0], payload[1:]
    if first < 0xA0 and not rest:
        return first & 15
    if len(rest) == {0xDC: 2, 0xDD: 4, 0xDE: 2, 0xDF: 4}.get(first):
        return int.from_bytes(rest, 'big')
    raise ValueError('a header of a deep value is none of msgpack')


def loaded(data: bytes, ext_hook: Callable[[int, bytes], Any], pairs_hook: Callable[[Any], Any],
           make: Callable[[int, Any], Any]) -> Any:
    """Return the object that the payload of a DEEP value describes; `make(code, part)` makes what is an ExtType.

    Raises: MALFORMED.
    """
    made: List[MsgpackHeader] = []  # so that those in other objects, where none may be, are found

    def hook(code: int, payload: bytes) -> Any:
        if code != codes.DEEP:
            return ext_hook(code, payload)
        made.append(MsgpackHeader(payload))
        return made[-1]
    unpacker = Unpacker(ext_hook=hook, strict_map_key=False, object_pairs_hook=pairs_hook, max_buffer_size=len(data))
    unpacker.feed(data)
    stack: List[Any] = []
    met = 0
    for obj in unpacker:
        if type(obj) is MsgpackHeader:
            met += 1
            obj = _closed(obj, _taken(stack, obj.count), pairs_hook, make)
        stack.append(obj)
    if len(stack) != 1 or met != len(made) or unpacker.tell() != len(data):
        raise ValueError('the parts of a deep value do not fit together')
    return stack[0]


def _taken(stack: List[Any], count: int) -> List[Any]:
    if count > len(stack):
        raise ValueError('a part of a deep value is missing')
    at = len(stack) - count
    parts = stack[at:]
    del stack[at:]
    return parts


def _closed(header: MsgpackHeader, parts: List[Any], pairs_hook: Callable[[Any], Any],
            make: Callable[[int, Any], Any]) -> Any:
    if header.code == ARRAY:
        return parts
    hashed = parts[::2] if header.code == MAP else parts[0] if header.code in (codes.SET, codes.FROZENSET) else ()
    if type(hashed) is list and not _hashable(hashed):
        raise ValueError('a tuple in a set, or as a key, is nested too deep')
    if header.code == MAP:
        return pairs_hook(list(zip(hashed, parts[1::2])))
    return make(header.code, parts[0])


# --- plain msgpack that msgpack does not unpack ---------------------------------------------------------------------

def unpacked(data: bytes, ext_hook: Callable[[int, bytes], Any], pairs_hook: Callable[[Any], Any] = dict) -> Any:
    """Return what `unpackb` does, of arrays and maps as deep as any msgpack packs them. Raises: MALFORMED."""
    unpacker = Unpacker(ext_hook=ext_hook, strict_map_key=False, max_buffer_size=len(data))
    unpacker.feed(data)
    obj = _next(unpacker, data, pairs_hook)
    if unpacker.tell() != len(data):
        raise ValueError('there are bytes behind the value')
    return obj


def ends(chunk: bytes, count: int) -> List[int]:
    """Return where the first `count` of packed objects begin, and where the last of them ends. Raises: MALFORMED."""
    unpacker = Unpacker(strict_map_key=False, max_buffer_size=len(chunk))
    unpacker.feed(chunk)
    found = [0]
    for _ in range(count):
        _next(unpacker, chunk, list)
        found.append(unpacker.tell())
    return found


def _next(unpacker: Any, data: bytes, pairs_hook: Callable[[Any], Any]) -> Any:
    # What is begun: its parts, how many there will be, and what makes it of them.
    open_: List[Tuple[List[Any], int, Callable[[List[Any]], Any]]] = []
    paired = partial(_paired, pairs_hook)
    while True:
        first = data[unpacker.tell()]
        if 0x90 <= first <= 0x9F or first in (0xDC, 0xDD):
            open_.append(([], unpacker.read_array_header(), list))
        elif 0x80 <= first <= 0x8F or first in (0xDE, 0xDF):
            open_.append(([], 2 * unpacker.read_map_header(), paired))
        else:
            open_.append(([unpacker.unpack()], 1, _alone))
        if len(open_) > PLAIN_LEVELS + 1:
            raise ValueError(f'arrays and maps are nested more than {PLAIN_LEVELS:,} deep')
        while len(open_[-1][0]) == open_[-1][1]:
            parts, _, make = open_.pop()
            obj = make(parts)
            if not open_:
                return obj
            open_[-1][0].append(obj)


def _alone(parts: List[Any]) -> Any:
    return parts[0]


def _paired(pairs_hook: Callable[[Any], Any], parts: List[Any]) -> Any:
    return pairs_hook(list(zip(parts[::2], parts[1::2])))
