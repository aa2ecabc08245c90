"""Naming: what a packed value is, by its first bytes. Loads nothing, runs no pickle and imports no class."""
from __future__ import annotations

from msgpack import unpackb

from . import codes
from .packing import undecodable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Iterator

# The names of the types of msgpack, by the first of the first bytes that each takes; '' where more must be looked at.
BY_FIRST_BYTE = {0x00: 'int', 0x80: 'dict', 0x90: 'list', 0xA0: 'str', 0xC0: 'None', 0xC1: '', 0xC2: 'bool',
                 0xC4: 'bytes', 0xC7: '', 0xCA: 'float', 0xCC: 'int', 0xD4: '', 0xD9: 'str', 0xDC: 'list', 0xDE: 'dict',
                 0xE0: 'int'}
BY_CODE = {codes.INT: 'int', codes.BYTEARRAY: 'bytearray', codes.TUPLE: 'tuple', codes.SET: 'set',
           codes.FROZENSET: 'frozenset', codes.COMPLEX: 'complex', codes.DATE: 'date', codes.DATETIME: 'datetime',
           codes.TIME: 'time', codes.TIMEDELTA: 'timedelta', codes.DECIMAL: 'Decimal', codes.FRACTION: 'Fraction',
           codes.UUID: 'UUID', codes.RANGE: 'range', codes.EXTTYPE: 'exttype', codes.NDARRAY: 'ndarray',
           codes.NUMPY_SCALAR: 'a number of NumPy', codes.SERIALIZED: 'a value of a serializer', codes.TEXT: 'str',
           codes.DEEP: 'a deep value', 255: 'timestamp'}


def type_name(data: bytes) -> str:
    """Return the name of the type of a packed value. Raises: VaultCorruptError."""
    plain = BY_FIRST_BYTE[max(first for first in BY_FIRST_BYTE if first <= data[0])] if data else ''
    if plain:
        return plain
    code = codes.code_of(data)
    try:
        found = unpackb(data)
        if code == codes.PICKLE:
            return pickled_class(found.data)
        if code == codes.REGISTERED:
            return str(unpackb(found.data)[0]).partition('+')[0]  # behind it stands how it is kept
    except codes.MALFORMED as error:
        undecodable(error)
    return BY_CODE.get(code, 'ext')


def pickled_class(data: bytes) -> str:
    """Return 'module.name' of the first class or function that a pickle names, without running it; '' if none."""
    return next(_names(data), '').encode('ascii', 'backslashreplace').decode('ascii')


def _names(data: bytes) -> Iterator[str]:
    import pickletools
    texts: Dict[Any, str] = {}  # by place in the memo; under None, the last two pushed, joined by a dot
    last, before = '', ''
    try:
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name == 'GLOBAL':
                yield str(argument).replace(' ', '.')
            elif opcode.name == 'STACK_GLOBAL':
                yield f'{before}.{last}'
            elif opcode.name == 'MEMOIZE':
                texts[len(texts)] = last
            elif opcode.name in ('PUT', 'BINPUT', 'LONG_BINPUT'):
                texts[argument] = last
            elif opcode.name in ('GET', 'BINGET', 'LONG_BINGET'):
                before, last = last, texts.get(argument, '')
            elif isinstance(argument, str):
                before, last = last, argument
    except ValueError:
        yield ''  # it ends too soon, or is no pickle
