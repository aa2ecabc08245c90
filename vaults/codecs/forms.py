"""Forms: packed values and keys as JSON and back, exactly. Knows msgpack and JSON; runs no pickle, imports no class.

What JSON has is written as it is: null, booleans, text, numbers, lists, and dicts whose keys are text. All else is an
object with one key, which begins with '!' and says what it is: `{"!tuple": [1, 2]}`, `{"!bytes": "AAE="}`. It is made
from the packed bytes, not from the object, so that a value whose class is not at hand goes out and comes in as well.
docs/json.md has the whole table. What is kept in chunks is no packed value: moving/as_json.py has the forms of it.
"""
from __future__ import annotations

import base64
import json
import math
import struct
from uuid import UUID

from msgpack import ExtType, Packer, StackError, Timestamp, unpackb

from .. import keys
from ..errors import SerializationError, UntrustedPickleError
from . import codes, packing, pickles
from .deep import NESTABLE, Opener, levels_of, loaded, packed
from .looking import WHOLE, look_through
from .naming import pickled_class

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, NoReturn, Optional, Tuple

    from .deep import Opened

MAX_DEPTH = 64   # deeper values are written as their packed bytes, so that no reader of JSON runs out of stack
BEYOND = 1 << 64  # integers from here on, or below -BEYOND / 2, are ExtTypes in msgpack

# Persisted: the names of docs/json.md. Never rename, never reuse. Codes whose payload is msgpack:
PACKED = {codes.REGISTERED: '!registered', codes.TUPLE: '!tuple', codes.SET: '!set', codes.FROZENSET: '!frozenset',
          codes.DATETIME: '!datetime', codes.TIME: '!time', codes.TIMEDELTA: '!timedelta',
          codes.FRACTION: '!fraction', codes.RANGE: '!range', codes.EXTTYPE: '!exttype',
          codes.NDARRAY: '!ndarray', codes.NUMPY_SCALAR: '!numpy'}
# Codes whose payload is ASCII text:
TEXTUAL = {codes.DATE: '!date', codes.DECIMAL: '!decimal'}


# Persisted as well, docs/files.md has it: the name of the version in a file that holds a whole vault, its first one.
VAULT_TAG = '!vaults'


class _TooDeep(Exception):
    """The value is nested deeper than MAX_DEPTH."""


class _Deep(Exception):
    """The value is a deep one: its payload is read in another way."""

    def __init__(self, payload: bytes) -> None:
        super().__init__(payload)
        self.payload = payload


class _Tagged:
    """An ExtType met while unpacking: its tag, and what stands behind it in JSON."""

    __slots__ = ('body', 'tag')

    def __init__(self, tag: str, body: Any) -> None:
        self.tag, self.body = tag, body


class _WholeValue:
    """An ExtType met while unpacking that is to be the whole value."""

    __slots__ = ('code', 'payload')

    def __init__(self, code: int, payload: bytes) -> None:
        self.code, self.payload = code, payload


def as_line(obj: Any) -> str:
    """Return JSON in one line, which text with any character but line breaks and quotes passes unchanged."""
    return json.dumps(obj, ensure_ascii=False, allow_nan=False)


# --- values -------------------------------------------------------------------------------------------------------

def from_packed(data: bytes, serializer: Optional[str] = None) -> Any:
    """Return the JSON form, an object that `json` can write, of a value that is packed in `data`.

    `serializer` is the name of the one that the vault has.

    Raises: VaultCorruptError, also for the header of a value in chunks, which is none.
    """
    try:
        obj = _unpacked(data)
        if isinstance(obj, _WholeValue) and obj.code == codes.SERIALIZED:
            return {'!serialized': [serializer, as_form(unpackb(obj.payload))]}
        return as_form(obj)
    except (_TooDeep, RecursionError):
        return {'!msgpack': as_base64(data)}
    except _Deep as met:
        return _from_deep(data, met.payload)
    except StackError:
        return _looked_at(data)
    except codes.MALFORMED as error:
        packing.undecodable(error)


def _from_deep(data: bytes, payload: bytes) -> Any:
    """Return the form of a deep value: as of any other, if that brings it back."""
    try:
        obj = loaded(payload, _tagged, _Pairs, lambda code, part: _Tagged(PACKED[code], part))
        form = as_form(obj)
        if to_value(form) == data:
            return form
    except (_TooDeep, _Deep, RecursionError):
        pass  # deeper than JSON is written
    except (SerializationError, *codes.MALFORMED) as error:
        packing.undecodable(error)
    return {'!msgpack': as_base64(data)}


def _looked_at(data: bytes) -> Any:
    try:
        look_through(data)
    except (*codes.MALFORMED, codes.TooDeep) as error:
        packing.undecodable(error)
    return {'!msgpack': as_base64(data)}


def _no_serializer(name: str) -> None:
    raise ValueError(f'it was made by the serializer {name!r}, and belongs into a vault that has it')


def to_value(form: Any, met_pickle: Callable[[], object] = lambda: None,
             met_serializer: Callable[[str], object] = _no_serializer) -> bytes:
    """Return the packed value of a JSON form; `met_pickle` is called, and may raise, when there is a pickle in it.

    `met_serializer` is called, and raises unless given, with the name of the serializer that has made the value.

    Raises: SerializationError when the form is none that `from_packed` makes.
    """
    tag = next(iter(form)) if isinstance(form, dict) and len(form) == 1 else ''
    try:
        if tag == '!serialized':
            name, data = _serialized(*form[tag])
            met_serializer(name)
            return data
        data = from_base64(form[tag]) if tag == '!msgpack' else Packer().pack(_object(form))
        return _looked_through(form, data, met_pickle)
    except UntrustedPickleError:
        raise
    except (*codes.MALFORMED, codes.TooDeep) as error:
        raise SerializationError(f'this is JSON, but no value ({error}): {str(form)[:80]}; docs/json.md says how '
                                 'values are written') from error


def _looked_through(form: Any, data: bytes, met_pickle: Callable[[], object]) -> bytes:
    """Return the packed form when all of it can be read; packed otherwise where it is too deep."""
    try:
        look_through(data, met_pickle)
    except codes.TooDeep:
        data = packed(form, _Forms())
        look_through(data, met_pickle)
    return data


def _serialized(name: Any, form: Any) -> Tuple[str, bytes]:
    made = _object(form)
    if not isinstance(name, str) or not isinstance(made, (str, bytes)):
        raise ValueError('the name of a serializer, and text or bytes, are expected')
    return name, Packer().pack(ExtType(codes.SERIALIZED, Packer().pack(made)))


def _unpacked(data: bytes) -> Any:
    return unpackb(data, ext_hook=_tagged, object_pairs_hook=_Pairs, strict_map_key=False)


class _Pairs(list):  # type: ignore[type-arg]  # of pairs, as a mapping is read
    """A dict, before it is known whether JSON can hold its keys."""


def _tagged(code: int, payload: bytes) -> Any:
    if code in WHOLE:
        return _WholeValue(code, payload)
    if code in PACKED:
        return _Tagged(PACKED[code], _unpacked(payload))
    if code in TEXTUAL:
        return _Tagged(TEXTUAL[code], payload.decode('ascii'))
    if code == codes.PICKLE:
        return _Tagged('!pickle', [pickled_class(payload), as_base64(payload)])
    if code == codes.INT:
        return _Tagged('!int', hex(int.from_bytes(payload, 'big', signed=True)))
    if code == codes.BYTEARRAY:
        return _Tagged('!bytearray', as_base64(payload))
    if code == codes.COMPLEX:
        return _Tagged('!complex', list(struct.unpack('>dd', payload)))
    if code == codes.TEXT:
        return _Tagged('!text', as_base64(payload))
    if code == codes.DEEP:
        raise _Deep(payload)
    if code == codes.UUID:
        return _Tagged('!uuid', str(UUID(bytes=payload)))
    return _Tagged('!ext', [code, as_base64(payload)])


def as_form(obj: Any, depth: int = MAX_DEPTH) -> Any:
    """Return what `json` can write. Raises: ValueError for what stands for a whole value, _TooDeep."""
    if not depth:
        raise _TooDeep
    if isinstance(obj, _Pairs):
        if all(isinstance(key, str) and key[:1] != '!' for key, _ in obj):
            return {key: as_form(value, depth - 1) for key, value in obj}
        return {'!dict': [[as_form(key, depth - 1), as_form(value, depth - 1)] for key, value in obj]}
    if isinstance(obj, list):
        return [as_form(part, depth - 1) for part in obj]
    if isinstance(obj, _Tagged):
        return {obj.tag: as_form(obj.body, depth - 1)}
    if isinstance(obj, bytes):
        return {'!bytes': as_base64(obj)}
    if isinstance(obj, float) and not math.isfinite(obj):
        return {'!float': _non_finite(obj)}
    if isinstance(obj, Timestamp):
        return {'!timestamp': [obj.seconds, obj.nanoseconds]}
    if isinstance(obj, _WholeValue):
        raise ValueError(f'the code {obj.code}, of a whole value, stands inside another')
    return obj


def _non_finite(number: float) -> str:
    """Return 'inf', '-inf', 'nan', or of another NaN the hexadecimal digits of its eight bytes."""
    bits = struct.pack('>d', number)
    return repr(number) if bits in (struct.pack('>d', float(name)) for name in ('inf', '-inf', 'nan')) else bits.hex()


def _object(form: Any) -> Any:
    """Return what msgpack packs as the value that `form` describes."""
    if isinstance(form, list):
        return [_object(part) for part in form]
    if isinstance(form, int) and not -BEYOND // 2 <= form < BEYOND:
        return ExtType(codes.INT, form.to_bytes(form.bit_length() // 8 + 1, 'big', signed=True))
    if not isinstance(form, dict):
        return form
    if len(form) == 1:
        (tag, body), = form.items()
        if tag in BY_TAG:
            return BY_TAG[tag](body)
    return {key: _object(value) for key, value in form.items()}


def _read_float(text: str) -> float:
    number: float = float(text) if text in ('inf', '-inf', 'nan') else struct.unpack('>d', bytes.fromhex(text))[0]
    return number


def _read_packed(code: int) -> Callable[[Any], ExtType]:
    return lambda body: ExtType(code, Packer().pack(_object(body)))


def _read_text(code: int) -> Callable[[str], ExtType]:
    return lambda body: ExtType(code, body.encode('ascii'))


def _read_whole(tag: str) -> Callable[[Any], Any]:
    def refuse(body: Any) -> NoReturn:
        raise ValueError(f'{tag} is for a whole value, and only `import` takes it, with the lines of its content')
    return refuse


BY_TAG: Dict[str, Callable[[Any], Any]] = {
    **{tag: _read_whole(tag) for tag in (*codes.KIND_TAGS, '!serialized')},
    **{tag: _read_packed(code) for code, tag in PACKED.items()},
    **{tag: _read_text(code) for code, tag in TEXTUAL.items()},
    '!bytes': lambda body: from_base64(body),
    '!bytearray': lambda body: ExtType(codes.BYTEARRAY, from_base64(body)),
    '!complex': lambda body: ExtType(codes.COMPLEX, struct.pack('>dd', *map(_object, body))),
    '!dict': lambda body: {_object(key): _object(value) for key, value in body},
    '!ext': lambda body: ExtType(body[0], from_base64(body[1])),
    '!float': _read_float,
    '!int': lambda body: _object(int(body, 16)),
    '!text': lambda body: ExtType(codes.TEXT, from_base64(body)),
    '!pickle': lambda body: ExtType(codes.PICKLE, from_base64(body[1])),
    '!timestamp': lambda body: Timestamp(*body),
    '!uuid': lambda body: ExtType(codes.UUID, UUID(body).bytes),
}


CODES = {tag: code for code, tag in PACKED.items()}


class _Forms(Opener):
    """Takes the forms of deep values apart, as the values themselves would be."""

    def __init__(self) -> None:
        super().__init__(pickles.Refusing())

    def opened(self, form: Any) -> Opened:
        tag = next(iter(form)) if isinstance(form, dict) and len(form) == 1 else ''
        parts: Any = None
        if isinstance(form, list):
            parts, header = form, self.array(len(form))
        elif tag == '!dict' or (isinstance(form, dict) and tag not in BY_TAG):
            pairs = form[tag] if tag == '!dict' else form.items()
            parts = [part for pair in pairs for part in pair]
            header = self.map(len(parts) // 2)
        elif tag in CODES and CODES[tag] in NESTABLE:
            return [form[tag]], self.code(CODES[tag])
        return (None, Packer().pack(_object(form))) if parts is None or all(map(_is_plain, parts)) else (parts, header)


def _is_plain(form: Any) -> bool:
    """Tell whether a form is of a value that msgpack has."""
    if isinstance(form, dict):
        return list(form) in (['!bytes'], ['!float'])
    return not isinstance(form, list) and not (isinstance(form, int) and not -BEYOND // 2 <= form < BEYOND)


def as_base64(data: bytes) -> str:
    return base64.b64encode(data).decode('ascii')


def from_base64(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


# --- keys ---------------------------------------------------------------------------------------------------------

def from_key(key: Any) -> Any:
    """Return the JSON form of a key: as of a value, save that a tuple is an array, since no key is a list."""
    packed = keys.encode(key)
    if isinstance(key, tuple) and levels_of(key) < MAX_DEPTH:
        return [from_key(part) for part in key]
    if isinstance(key, tuple) or (isinstance(key, str) and isinstance(packed, bytes)):  # deep; with lone surrogates
        return {'!key': as_base64(packed)}
    return from_packed(_plainly.dumps(key))


def to_key(form: Any) -> Any:
    """Return the key that a JSON form stands for.

    Raises: TypeError and ValueError for what cannot be a key, SerializationError, UntrustedPickleError.
    """
    if isinstance(form, list):
        return tuple(map(to_key, form))
    if isinstance(form, dict) and list(form) == ['!key']:
        return keys.decode(from_base64(form['!key']))
    key = _plainly.loads(to_value(form))
    keys.encode(key)
    return key


class _Neither(pickles.Refusing):
    """No part of a key is pickled or registered."""

    def rebuild(self, name: str, payload: Any) -> Any:
        raise SerializationError(f'a key holds nothing of the registered type {name!r}')


_plainly = packing.Codec(_Neither())
