"""Packing: objects to bytes and back, msgpack first. Knows neither keys nor stores, and no type but by its table.

What msgpack carries is plain msgpack, readable by any msgpack reader. The other types travel as msgpack ExtTypes,
and what no ExtType knows is pickled, only that leaf. Nothing is flattened: `type(loads(dumps(x))) is type(x)`.

What is inside an ExtType is packed msgpack again. A packer cannot be called while it packs, its buffer is half full: so
there is one for each depth, made when it is first needed. Reading, there is a hook for each depth, made with the codec.
"""
from __future__ import annotations

from functools import partial
from itertools import repeat

from msgpack import ExtType, Packer, StackError, Unpacker, unpackb

from ..errors import SerializationError, UntrustedPickleError, VaultCorruptError, VaultError, shown
from .codes import (
    BULK,
    CHUNKED,
    DEEP,
    IN_LONG,
    IN_SHORT,
    MALFORMED,
    MAX_EXT_DEPTH,
    NDARRAY,
    PICKLE,
    QUICK_DEPTH,
    REGISTERED,
    SERIALIZED,
    TooDeep,
    no_header,
)
from .large import MOST, PLACEHOLDER, filled, joined, packed_bytes, pieces_of, viewed, with_header
from .registry import named_type
from .types import DECODERS, LOOKED_INTO, encoded, hides, revealed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, List, NoReturn, Optional, Sequence, Tuple, TypeVar

    from .large import Places
    from .pickles import Pickles
    from .registry import Pack, Unpack

    T = TypeVar('T')
    ExtHook = Callable[[int, bytes], Any]  # what msgpack calls for an ExtType: code, payload

# Of objects that are packed only to see whether they have changed: how many at once, and of how many bytes.
COMPARED, COMPARED_BYTES = 256, 1 << 16

# A limit of msgpack's that the length 0 is beyond; -1 stands for none.
NOT_EVEN_EMPTY = -2

# The ExtTypes whose payload may be a memoryview, so that a large one is not copied.
VIEWED = frozenset([NDARRAY, REGISTERED])

# What packing raises for text with lone surrogates, for circles, and for what is nested too deep.
UNPACKABLE = (ValueError, OverflowError, RecursionError, TooDeep)


class Codec:
    """dumps() and loads() under one rule for pickles. Safe in any thread."""

    def __init__(self, pickles: Pickles) -> None:
        self.pickles = pickles
        # Packers that no call uses at the moment. Of threads that pop one at a time each gets another: pop is atomic.
        self._pool: List[Tuple[Pack, Places]] = []
        self.ext_hook = _hook(pickles)

    def dumps(self, obj: Any) -> bytes:
        """Return `obj` as msgpack.

        Raises: SerializationError, UntrustedPickleError.
        """
        if type(obj) is bytes and len(obj) < MOST:
            return packed_bytes(obj)
        try:
            packer = self._pool.pop()
        except IndexError:
            packer = _Packer(self.pickles).both
        pack, places = packer
        try:
            data = pack(obj)
            if not data.translate(IN_SHORT if len(data) < 256 else IN_LONG).isascii():
                if type(obj) in LOOKED_INTO and hides(obj):
                    places.clear()
                    data = pack(revealed(obj))
                if places:
                    data = joined(filled(data, places))
            self._pool.append(packer)
            return data
        except UNPACKABLE as error:
            has_surrogates = isinstance(error, UnicodeEncodeError)
        return self._otherwise(obj, has_surrogates)

    def changed(self, keys: Sequence[T], objects: Sequence[Any], datas: Sequence[bytes],
                plain: bool = False) -> List[T]:
        """Return the keys of those objects that do not pack to the bytes given for each.

        It is a first look, and takes no call for each: of what seems to have changed, or cannot be packed, dumps()
        knows more. What it does not return has not changed. The bytes are `plain` where loads_plain() has loaded them.
        """
        if len(keys) <= COMPARED:
            return self._changed(keys, objects, datas, plain)
        found: List[T] = []
        for start in range(0, len(keys), COMPARED):
            some = slice(start, start + COMPARED)
            found += self._changed(keys[some], objects[some], datas[some], plain)
        return found

    def _changed(self, keys: Sequence[T], objects: Sequence[Any], datas: Sequence[bytes], plain: bool) -> List[T]:
        joined = b''.join(datas)
        if len(joined) <= COMPARED_BYTES and self._packed(list(objects))[1 if len(keys) < 16 else 3:] == joined:
            if plain or joined.translate(IN_LONG).isascii():
                return []
            no_headers = map(bytes.isascii, map(bytes.translate, datas, repeat(IN_LONG)))
            return [key for key, obj, has_none in zip(keys, objects, no_headers) if not has_none and hides(obj)]
        return [key for key, obj, data in zip(keys, objects, datas)
                if self._packed(obj) != data or (not data.translate(IN_LONG).isascii() and hides(obj))]

    def _packed(self, obj: Any) -> bytes:
        """Return what msgpack makes of the object at first, which may be less than is in it; of what it refuses b''."""
        try:
            packer = self._pool.pop()
        except IndexError:
            packer = _Packer(self.pickles).both
        pack, places = packer
        try:
            data = pack(obj)
        except Exception:  # of the user's code as well: dumps() meets it again
            return b''  # that packer's buffer is half full
        if places:
            return b''
        self._pool.append(packer)
        return data

    def loads(self, data: bytes) -> Any:
        """Return the object that `data` was made from.

        Raises: VaultCorruptError for bytes that are no msgpack of ours, SerializationError for a type that is not
        known here, UntrustedPickleError.
        """
        try:
            if len(data) >= BULK and data[0] == 0xC9 and len(data) == 6 + int.from_bytes(data[1:5], 'big') and (
                    data[5] in VIEWED):
                return self.ext_hook(data[5], memoryview(data)[6:])  # type: ignore[arg-type]  # as bytes, uncopied
            return unpackb(data, ext_hook=self.ext_hook, strict_map_key=False)
        except StackError:
            return self._loads_deep(data)
        except MALFORMED as error:
            undecodable(error)

    def loads_many(self, datas: Sequence[bytes]) -> List[Any]:
        """Return the objects of many `data`, faster than one by one: msgpack's stream has no call for each.

        Raises: as it comes, whatever is wrong, and NotAmongMany; loads() of each tells which it is.
        """
        if len(datas) == 1:  # of any size: without a copy of it
            return [unpackb(datas[0], ext_hook=self.ext_hook, strict_map_key=False)]
        return _unpacked_many(datas)

    def loads_plain(self, datas: Sequence[bytes]) -> Optional[List[Any]]:
        """Return the objects of many `data`; None where there are bytes or ExtTypes among them, or damage.

        No type can hide in what packs to the same as such a value.
        """
        try:
            return _unpacked_many(datas, max_bin_len=NOT_EVEN_EMPTY, max_ext_len=NOT_EVEN_EMPTY)
        except MALFORMED:
            return None

    def _loads_deep(self, data: bytes) -> Any:
        """Load what msgpack packs, and does not unpack: its packer goes a level deeper, and pure Python's less deep."""
        from .deep import unpacked
        try:
            return unpacked(data, _hook(self.pickles, unpacked))
        except MALFORMED as error:
            undecodable(error)

    def _otherwise(self, obj: Any, has_surrogates: bool) -> bytes:
        """Pack what msgpack refuses: lone surrogates, what is nested deep, and, by pickle, what holds itself."""
        from contextlib import suppress

        from .deep import Circle, Opener, packed
        with suppress(*UNPACKABLE):
            if has_surrogates:
                packer = _Packer(self.pickles)
                return joined(filled(packer.pack(revealed(obj)), packer.large))
        try:
            with suppress(Circle):
                return packed(obj, Opener(self.pickles))
        except (ValueError, OverflowError) as error:  # of more than 4 GB
            raise SerializationError(f'{named_type(obj)} cannot be stored: {error}') from error
        return self._whole(obj)

    def _whole(self, obj: Any) -> bytes:
        """Pack what holds itself as one pickle."""
        try:
            data: bytes = Packer().pack(ExtType(PICKLE, self.pickles.dumps(obj)))
        except UntrustedPickleError as error:
            raise UntrustedPickleError(f'the value holds itself, which only a pickle can keep: store it without the '
                                       f'circle. {error}') from error
        return data


def _unpacked_many(datas: Sequence[bytes], **limits: int) -> List[Any]:
    joined = b''.join(datas)
    unpacker = Unpacker(ext_hook=_hook_for_many, strict_map_key=False, max_buffer_size=len(joined), **limits)
    unpacker.feed(joined)
    objects = list(unpacker)
    if len(objects) != len(datas):
        raise ValueError('the bytes do not end where their values do')
    return objects


# --- packed objects, one after another ------------------------------------------------------------------------------

def as_array(chunk: bytes, count: int) -> bytes:
    """Return packed objects, one after another, as one array of so many."""
    return b'\xdd' + count.to_bytes(4, 'big') + chunk


def packed_chunk(codec: Codec, objs: List[Any]) -> bytes:
    """Return objects packed one after another: all at once, which is quickest, where they are as when packed singly.

    Raises: as Codec.dumps.
    """
    count = len(objs)
    if 1 < count < 1 << 16:
        try:
            data = codec.dumps(objs)
            header = bytes([0x90 | count]) if count < 16 else b'\xdc' + count.to_bytes(2, 'big')
            if data.startswith(header):  # and was not pickled whole
                return data[len(header):]
        except VaultError:
            pass  # of one of them: alone, it is stored, or says what is wrong
    return b''.join(map(codec.dumps, objs))


def offsets(chunk: bytes, count: int) -> List[int]:
    """Return where the first `count` of packed objects begin, and where the last of them ends. Raises: MALFORMED."""
    unpacker = Unpacker(max_buffer_size=len(chunk))
    unpacker.feed(chunk)
    found = [0]
    try:
        for _ in range(count):
            unpacker.skip()
            found.append(unpacker.tell())
    except StackError:
        from .deep import ends
        return ends(chunk, count)
    return found


# --- packing --------------------------------------------------------------------------------------------------------

class _Packer:
    """A msgpack packer and, for what is inside ExtTypes, the packer one level deeper. For one thread at a time."""

    def __init__(self, pickles: Pickles, depth: int = 0) -> None:
        self.pickles = pickles
        self.depth = depth
        packer = Packer(default=self.default, strict_types=True)
        self.pack: Pack = packer.pack
        self.large: Places = []  # where what has been packed has a placeholder, and for what
        self.both = self.pack, self.large
        self._so_far = packer.getbuffer
        self._deeper: Optional[_Packer] = None

    def default(self, obj: Any) -> ExtType:
        """Return what msgpack cannot carry as an ExtType. It must not call the packer that calls it."""
        code, payload = encoded(obj, self.inner, self.pickles)
        if len(payload) < BULK:
            return ExtType(code, payload)
        with self._so_far() as packed:
            self.large.append((len(packed), with_header(code, payload)))
        return PLACEHOLDER

    def inner(self, obj: Any) -> bytes:
        """Pack a payload, one level deeper."""
        if self._deeper is None:
            if self.depth == MAX_EXT_DEPTH:
                raise TooDeep
            self._deeper = _Packer(self.pickles, self.depth + 1)
        deeper = self._deeper
        try:
            data = deeper.pack(obj)
        except UnicodeEncodeError:
            deeper.large.clear()
            data = deeper.pack(revealed(obj))
        else:
            if data.translate(IN_LONG).isascii():
                return data
            if hides(obj):
                deeper.large.clear()
                data = deeper.pack(revealed(obj))
        return pieces_of(filled(data, deeper.large)) if deeper.large else data


# --- reading --------------------------------------------------------------------------------------------------------

def undecodable(error: Exception) -> NoReturn:
    """Raise what `error`, met while unpacking, means to a user."""
    if isinstance(error, (VaultError, ImportError)):
        raise error
    raise VaultCorruptError(f'the stored bytes are no value of this format ({shown(error)})') from error


def _hook(pickles: Pickles, unpack: Optional[Callable[..., Any]] = None) -> ExtHook:
    """Return msgpack's ext_hook for a value: it reads payloads, with `unpack` if given, under a hook of their own."""
    hook: ExtHook = _refuse_depth
    for depth in range(MAX_EXT_DEPTH, -1, -1):
        inner = partial(unpack or (_unpack_quickly if depth < QUICK_DEPTH else _unpack_leanly), ext_hook=hook)
        hook = partial(_object_of, pickles, inner, depth == 0)
    return hook


def _refuse_depth(code: int, data: bytes) -> NoReturn:
    raise ValueError(f'types are nested more than {MAX_EXT_DEPTH} deep')


_unpack_quickly = partial(unpackb, strict_map_key=False)


def _unpack_leanly(data: bytes, ext_hook: ExtHook) -> Any:
    unpacker = Unpacker(ext_hook=ext_hook, strict_map_key=False, max_buffer_size=len(data))
    unpacker.feed(data)
    obj = unpacker.unpack()
    if unpacker.tell() != len(data):
        raise ValueError('a payload goes on behind its value')
    return obj


# Bound once, since a method of an imported name is called without CPython's shortcut for methods: 30 ns a value.
_decoder_of = DECODERS.get


def _object_of(pickles: Pickles, inner: Unpack, is_outermost: bool, code: int, data: bytes) -> Any:
    """Return the object of an ExtType; `inner` unpacks what is inside its payload."""
    decoder = _decoder_of(code)
    if decoder is not None:
        return decoder(data, inner)
    if code == PICKLE:
        return pickles.loads(data)
    if code in CHUNKED:
        raise no_header()
    if code == SERIALIZED:
        return pickles.serialized(inner(data))
    if code == DEEP:
        return _object_of_deep(pickles, is_outermost, data)
    if code != REGISTERED:
        raise SerializationError(f'a value has the ExtType code {code}, which this version does not know: '
                                 'it was written by a newer one, install that')
    name, payload = _name_and_payload(data, inner)
    return pickles.rebuild(name, payload)


def _name_and_payload(data: bytes, inner: Unpack) -> Any:
    """Return the name of a type and its payload; of a large frame, a view of its Arrow file."""
    if len(data) < BULK or b'+arrow' not in bytes(data[:64]):
        return inner(data)
    (name, payload), view = viewed(data, inner)
    if view is not None and payload == b'':
        return name, view
    if view is not None:
        if payload.get('arrow') != b'':
            return inner(data)
        payload['arrow'] = view
    return name, payload


def _object_of_deep(pickles: Pickles, is_outermost: bool, data: bytes) -> Any:
    """Return the object of a DEEP value, which is a whole value: one in another would begin to count depth anew."""
    if not is_outermost:
        raise ValueError('a deep value is part of another')
    from .deep import loaded
    return loaded(data, _hook(pickles), dict, lambda code, part: _object_of(pickles, lambda _: part, False, code, b''))


class NotAmongMany(ValueError):
    """A value is a pickle or the like, which may make a large object of a few bytes: they are not all held at once."""


class _Singly:
    """Leaves what somebody's code makes objects of to who loads one value at a time. No packer ever asks it."""

    def dumps(self, obj: Any) -> NoReturn:
        raise SerializationError('this codec only reads')

    def loads(self, data: bytes) -> NoReturn:
        raise NotAmongMany

    def rebuild(self, name: str, payload: Any) -> NoReturn:
        raise NotAmongMany

    def serialized(self, payload: Any) -> NoReturn:
        raise NotAmongMany


_hook_for_many = _hook(_Singly())
