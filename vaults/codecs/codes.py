"""Codes: what the stored bytes of a value are made of: ExtType codes, msgpack's headers, limits. Knows no type.

An exception belongs to them: what is too deep is past MAX_EXT_DEPTH. And what is raised for bytes that are no value, so
that all that a vault needs to read a plain one is here.
"""
from __future__ import annotations

import struct

from msgpack import UnpackException

from ..errors import VaultCorruptError, VaultError

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
STREAM = 20      # these three stand for the whole value, which is kept in chunks: collections/
LIST = 21
COLUMN = 22
SERIALIZED = 23  # what the vault's own serializer has made
TEXT = 24        # a str with lone surrogates, which UTF-8 does not have
DEEP = 25        # a whole value that is nested deeper than ExtTypes go: deep.py
NAMED = 26       # as 20 to 22, of a kind that stands by its name in the header

CHUNKED = frozenset([STREAM, LIST, COLUMN, NAMED])
# Persisted as well: how the first three are called, and the tags that all of them have in docs/json.md.
KIND_NAMES = {STREAM: 'stream', LIST: 'list', COLUMN: 'column'}
KIND_TAG = '!kind'      # of a kind that stands by its name
KIND_TAGS = (*(f'!{name}' for name in KIND_NAMES.values()), KIND_TAG)

# ExtTypes inside one another; what is deeper is DEEP. Each level is a call of msgpack's unpackb, which takes some 40 KB
# of the C stack; below the first levels its Unpacker is six times as slow and takes 3: threads of 256 KB read it all.
MAX_EXT_DEPTH = 16
QUICK_DEPTH = 2
MOST_LEVELS = 1024   # of arrays and maps that any msgpack packs

BULK = 1 << 18       # bytes of a payload from which it goes by what large.py does, which takes less time then

# Where msgpack has an ExtType's code, by the first byte of its header: behind the length of the payload, or, where the
# header itself says that it is of 1, 2, 4, 8 or 16 bytes, at once.
CODE_AT = {0xC7: 2, 0xC8: 3, 0xC9: 5, **dict.fromkeys(range(0xD4, 0xD9), 1)}
# The headers of bytes and ExtTypes; those of up to 255 bytes. For bytes.translate: what it leaves ASCII has none.
HEADERS = {0xC4, 0xC5, 0xC6, *CODE_AT}
SHORT_HEADERS = HEADERS - {0xC5, 0xC6, 0xC8, 0xC9}
IN_SHORT, IN_LONG = (bytes(0x80 if byte in headers else 0 for byte in range(256))
                     for headers in (SHORT_HEADERS, HEADERS))

# Whatever msgpack and the decoders raise for bytes that are no value; not what a signal handler may raise.
MALFORMED = (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, RecursionError, struct.error,
             UnpackException, VaultError, ImportError)


class TooDeep(Exception):
    """ExtTypes are nested past MAX_EXT_DEPTH."""


def no_header() -> VaultCorruptError:
    """Return the error about a header that is none, or stands where none may be: inside another value."""
    return VaultCorruptError('the value is damaged: something that is kept in chunks stands inside another value')


def is_header(data: bytes) -> bool:
    """Tell whether an entry's value is the header of one that is kept in chunks."""
    return code_of(data) in CHUNKED


def code_of(data: bytes) -> int:
    """Return the code of the ExtType that a packed value is; -1 when it is none."""
    at = CODE_AT.get(data[0], len(data)) if data else 0
    return data[at] if at < len(data) else -1
