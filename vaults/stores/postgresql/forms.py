"""Keys and checksums as they lie in the tables: bytes that sort as keys.order does. Knows no SQL.

A key's bytes are a kind and its content: 0 and the packed number, 1 and UTF-8, 2 and what is packed already. Keys that
are equal have the same bytes, so the first form of one is kept beside its checksum.
"""
from __future__ import annotations

import struct
from functools import partial
from itertools import chain
from zlib import crc32

from ...errors import SerializationError, VaultCorruptError
from ...keys import decode, named, sortable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Dict, List, Optional, Sequence

    from ...keys import Stored

# Persisted: never renumber, never reuse. Pinned by tests.py::TestPostgreSQLTables. The column crc holds the CRC-32 of
# a key's bytes and the value; above it stands what a key was at first, and whether the entry has chunks.
IS_BOOL = 1 << 32
IS_FLOAT = 1 << 33
PARTED = 1 << 34        # its value ends in the owner of its chunks, see Store.put_owner
FORM = IS_BOOL | IS_FLOAT
CRC_BITS = (1 << 32) - 1
MOST_OF_KEY = 2600      # bytes: a row of an index must fit a third of a page of 8192, with what else is in it

MOST_OF_VALUE = 1_000_000_000   # bytes; a message of 1 GiB ends the connection, and nobody knows what was done

int4 = struct.Struct('>i').pack
int8 = struct.Struct('>q').pack
as_int: Callable[[Optional[bytes]], int] = partial(int.from_bytes, byteorder='big', signed=True)  # of int4 or int8


def key_bytes(key: Stored) -> bytes:
    """Return what the column key holds. `sortable` says the same; the common case stands here."""
    return b'\1' + key.encode() if type(key) is str else sortable(key)


def flags_of(key: Stored) -> int:
    """Return what of a key its bytes do not tell."""
    kind = type(key)
    return IS_BOOL if kind is bool else IS_FLOAT if kind is float else 0


def crc_of(key: bytes, data: bytes) -> int:
    """Return the checksum of an entry."""
    return crc32(data, crc32(key))


def chunk_crc_of(owner: bytes, number: int, data: bytes) -> int:
    """Return the checksum of a chunk."""
    return crc32(data, crc32(owner + int8(number)))


def fitting(key: Stored, data: bytes) -> bytes:
    """Return the bytes of a key that is to be put. Raises: SerializationError for what does not fit a row."""
    found = key_bytes(key)
    if len(found) > MOST_OF_KEY:
        raise SerializationError(f'a key is at most {MOST_OF_KEY} bytes long on PostgreSQL, and this one has '
                                 f'{len(found)}: use a shorter one, such as its hash')
    if len(data) > MOST_OF_VALUE:
        raise SerializationError(f'a value is at most {MOST_OF_VALUE} bytes long on PostgreSQL, and this one has '
                                 f'{len(data)}: divide it, or write it as a stream, with open(key, "wb")')
    return found


def key_from(found: bytes, crc: int) -> Stored:
    """Return the key of these bytes, in its first form. Raises: VaultCorruptError."""
    try:
        return KEY_KINDS[found[0]](found[1:], crc)
    except (IndexError, KeyError, ValueError, OverflowError) as error:
        raise VaultCorruptError(f'a stored key is damaged: {found[:40]!r}') from error


def keys_from(found: Sequence[bytes], crcs: Sequence[int]) -> List[Stored]:
    """Return the key of each. Raises: as `key_from`."""
    try:  # the common case stands here
        return [one[1:].decode() if one[0] == 1 else key_from(one, crc) for one, crc in zip(found, crcs)]
    except (IndexError, UnicodeDecodeError):
        return list(map(key_from, found, crcs))


def _number_from(packed: bytes, crc: int) -> Stored:
    number: Stored = decode(packed)
    return bool(number) if crc & IS_BOOL else float(number) if crc & IS_FLOAT else number


KEY_KINDS: Dict[int, Callable[[bytes, int], Stored]] = {
    0: _number_from, 1: lambda content, _: content.decode(), 2: lambda content, _: content}


def damaged(key: Stored, name: str) -> VaultCorruptError:
    return VaultCorruptError(f'the entry {named(key)} is damaged: its checksum does not hold; vault {name}; restore it '
                             'from a backup, or delete it')


def array_of(kind: int, items: Sequence[bytes]) -> bytes:
    """Return items of a type, which is named by its number, as a binary array of PostgreSQL."""
    if not items:
        return struct.pack('>iiI', 0, 0, kind)
    sizes = map(int4, map(len, items))
    head = struct.pack('>iiIii', 1, 0, kind, len(items), 1)  # one dimension, no nulls
    return head + b''.join(chain.from_iterable(zip(sizes, items)))
