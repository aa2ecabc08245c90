"""Kohakuvault 1: SQLite, as KVault, ColumnVault and TextVault make it, read without that package.

    table                     what is in it
    kv, or another name       key BLOB, value BLOB: the entries of a KVault
    kvault_col_columns        the columns of a ColumnVault; _blocks and _data have the items, 1 MiB at a time
    text_vault, or another    an FTS5 table of a TextVault: its texts are in NAME_content, the values in NAME_values

A value is bytes, or begins with ten bytes: \\x89 K, version 1, which form it has, four zeros, V K.
"""
from __future__ import annotations

import json
import re
import struct
from functools import partial
from importlib import import_module

from msgpack import unpackb

from ...codecs import codes, standalone
from ...errors import VaultCorruptError, VaultError, VaultFormatError
from ...stores.sqlite.sources import one_state, readable
from ..packed import Chunked, Packed, of_key
from ..tables import quoted, require_table, rows_of, tables_of
from . import Reader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, Iterator, List, Sequence, Tuple

    from ...stores.sqlite.driver import RawConnection
    from ..recognising import FirstBytes
    from ..source import Source
    from ..tables import Table
    from . import Pair

    Block = Tuple[bytes, Sequence[int]]
    Rows = Callable[[], Iterator[Pair]]

BACKUP = 'restore it from a backup'
IN_COLUMNS = 'columns'  # what the columns of a file are called where the name of a table is expected
FTS5 = re.compile(r'CREATE VIRTUAL TABLE .*? USING fts5\((.*), value_ref UNINDEXED\)', re.I | re.S)
ALL_TABLES = "SELECT name, sql FROM sqlite_master WHERE type = 'table' ORDER BY rowid"
ANY_ROW = 'SELECT 1 FROM {} LIMIT 1'
COLUMN_VERSION = 'SELECT version FROM kvault_col_format'
NAMED_COLUMNS = 'SELECT col_id, name, dtype, elem_size FROM kvault_col_columns ORDER BY col_id'
COLUMN_BLOCKS = """SELECT row_count, used_bytes, payload, offsets FROM kvault_col_blocks
 JOIN kvault_col_data USING (block_id) WHERE col_id = ? ORDER BY first_row"""
TEXT_ROWS = 'SELECT c.*, v.value FROM {0} c LEFT JOIN {1} v ON v.id = c.c{2} ORDER BY c.id'
ARRAYS = {1: '<f4', 2: '<f8', 3: '<i4', 4: '<i8', 5: '|u1', 6: '<u2', 7: '<u4', 8: '<u8', 9: '|i1', 10: '<i2'}
DTYPES = {'i8': 'int8', 'i16': 'int16', 'i32': 'int32', 'i64': 'int64', 'u8': 'uint8', 'u16': 'uint16',
          'u32': 'uint32', 'u64': 'uint64', 'f32': 'float32', 'f64': 'float64', 'bool': 'bool',
          'f16': 'float32'}  # to the columns of a vault
CHARSETS = {'utf16le': 'utf-16-le', 'utf16be': 'utf-16-be'}
SURE = 10 ** 12  # a number below it is an int, as kohakuvault has it
TINY, HUGE = 1e-150, -1e150


class KohakuVault(Reader):
    name = 'kohakuvault'
    order = 40  # behind tables with keys of text
    options = ('table', 'decode')

    def recognise(self, head: FirstBytes, path: str) -> bool:
        return any(self._is_part(table) or (name.endswith('_content') and f'{name[:-8]}_values' in head.tables)
                   for name, table in head.tables.items())

    def _is_part(self, table: Table) -> bool:
        """Tell whether a table is a KVault, or the list of a ColumnVault."""
        if table.name == 'kvault_col_columns':
            return not table.is_computed and not table.has_pairs
        return table.has_bytes and table.name != 'Dict'

    def entries(self, source: Source) -> Iterator[Pair]:
        """Yield the entries of one table, or of several with keys (table, key)."""
        with one_state(source.path) as raw:
            tables = dict(self._tables(source, raw))
            wanted = {name: rows for name, (stored, rows) in tables.items() if name == source.table or (
                source.table is None and self._has_rows(source, raw, stored))}
            if not tables or (source.table and not wanted):
                raise VaultFormatError(f'{source.path} has no table {source.table or "of kohakuvault"!r}; of that kind '
                                       f'are {list(tables)}')
            for name, rows in wanted.items():
                for key, value in rows():
                    yield key if len(wanted) == 1 else (name, key), value

    def _has_rows(self, source: Source, raw: RawConnection, table: str) -> bool:
        require_table(source.path, raw, table)  # a view may take for ever to come to its first row
        return bool(raw.execute(ANY_ROW.format(quoted(table))).fetchall())

    def _tables(self, source: Source, raw: RawConnection) -> Iterator[Tuple[str, Tuple[str, Rows]]]:
        """Yield what there is: the name it goes by, the table with its rows, and what reads them."""
        known = tables_of(raw)
        for name, sql in raw.execute(ALL_TABLES).fetchall():
            texts = FTS5.match(sql or '')
            if name == 'kvault_col_columns':
                yield IN_COLUMNS, (name, lambda: _columns_of(source, raw))
            elif name in known and self._is_part(known[name]):
                yield name, (name, partial(_entries_of, source, raw, name))
            elif texts:
                names = [column.strip().strip('"\'`[]') for column in texts[1].split(',')]
                yield name, (f'{name}_content', partial(_texts_of, source, raw, name, names))


def _entries_of(source: Source, raw: RawConnection, table: str) -> Iterator[Pair]:
    for stored, data in rows_of(raw, table):
        key = source.key_text(stored)
        yield key, _stored_object(source, key, data)


def _texts_of(source: Source, raw: RawConnection, table: str, columns: List[str]) -> Iterator[Pair]:
    """Yield the documents by their numbers: a dict of the texts, and the value under 'value'."""
    parts = f'{table}_content', f'{table}_values'
    for part in parts:
        require_table(source.path, raw, part)
    for number, *texts, _, data in raw.execute(TEXT_ROWS.format(*map(quoted, parts), len(columns))):
        name = 'value' if 'value' not in columns else 'value_ref'  # which no text can be called
        yield number, {**dict(zip(columns, texts)), name: _stored_object(source, number, data)}


# --- values -------------------------------------------------------------------------------------------------------

def _stored_object(source: Source, key: Any, data: Any) -> Any:
    if source.decode:
        return source.decoded(key, data, source.decode)
    if not isinstance(data, bytes) or data[:3] != b'\x89K\x01' or data[4:10] != b'\0\0\0\0VK':
        return data
    form, body = data[3], data[10:]
    if form == 1:
        return source.unpickled(key, body)
    if form not in FORMS:
        raise source.wrong(f'the value has the form {form}, of a newer kohakuvault', of_key(key), 'pass decode=...')
    return source.decoded(key, body, FORMS[form])


def _guessed_object(body: bytes) -> Any:
    """Return a number, an array of NumPy or text: kohakuvault does not say which of them it has packed."""
    number = struct.unpack('<q', body)[0] if len(body) == 8 else None
    if number is not None and -SURE < number < SURE:
        return number
    array = _array_of(body)
    if array is not None:
        return array
    return body.decode('utf-8') if number is None else _int_or_float(number, *struct.unpack('<d', body))


def _int_or_float(number: int, real: float) -> Any:
    """Return which of the two eight bytes are meant to be.

    kohakuvault takes an int from 10**12 on for a float, so that a time in milliseconds comes back as 8.4e-312. As far
    as 2 * 10**18 such floats are too small to be meant, and below zero too large.
    """
    if number > 0:
        return number if real < TINY else real
    is_plain = real == float('-inf') or number == -0x8000000000000  # the usual NaN of x86
    return number if not is_plain and (real < HUGE or real != real) else real


def _array_of(body: bytes) -> Any:
    """Return the array, or the number of NumPy, that the bytes are; None when they are none."""
    depth = body[1] if len(body) > 1 and body[0] in ARRAYS else 255
    start = 2 + 4 * depth
    if len(body) < start:
        return None
    shape, size = struct.unpack_from(f'<{depth}I', body, 2), int(ARRAYS[body[0]][2])
    for length in shape:
        size *= length
    return _shaped(body[start:], ARRAYS[body[0]], shape) if len(body) == start + size else None


def _shaped(data: bytes, dtype: str, shape: Tuple[int, ...]) -> Any:
    try:
        numpy: Any = import_module('numpy')
    except ImportError as error:
        raise VaultError('there are arrays of NumPy: pip install numpy') from error
    array = numpy.frombuffer(data, dtype).reshape(shape)
    return array.copy() if shape else array[()]


def _cbor(data: bytes) -> Any:
    value, end = _item(data, 0)
    if end != len(data):
        raise ValueError('something follows')
    return value


def _item(data: bytes, at: int) -> Tuple[Any, int]:
    """Return the value of CBOR, RFC 8949, that begins there, and where it ends; of a tag, what it stands before."""
    major, info = divmod(data[at], 32)
    at += 1
    if info >= 24 and info != 31:
        size = 1 << (info - 24)
        argument = int.from_bytes(data[at:at + size], 'big')
        if size > 8 or len(data) < at + size:
            raise ValueError('it is cut')
        if major == 7 and size > 1:
            return struct.unpack('>' + {2: 'e', 4: 'f', 8: 'd'}[size], data[at:at + size])[0], at + size
        at += size
    else:
        argument = info
    if major in (2, 3) and info != 31:
        if len(data) < at + argument:
            raise ValueError('it is cut')
        text = data[at:at + argument]
        return (text if major == 2 else text.decode()), at + argument
    if major in (2, 3, 4, 5):
        return _items(data, at, major, argument * (2 if major == 5 else 1) if info != 31 else -1)
    if major == 6:
        return _item(data, at)
    return (argument, -1 - argument)[major] if major < 2 else SIMPLE[argument], at


def _items(data: bytes, at: int, major: int, count: int) -> Tuple[Any, int]:
    """Return a list, a dict, or the pieces of a text; -1 stands for as many as there are before a stop."""
    found: List[Any] = []
    while len(found) != count:
        if count < 0 and data[at] == 0xFF:
            at += 1
            break
        item, at = _item(data, at)
        found.append(item)
    if major == 5:
        return dict(zip(found[::2], found[1::2])), at
    return (found if major == 4 else (b'' if major == 2 else '').join(found)), at


SIMPLE = {20: False, 21: True, 22: None, 23: None}
FORMS: Dict[int, Callable[[bytes], Any]] = {  # by the fourth byte; 1 is a pickle
    2: _guessed_object, 3: json.loads, 4: lambda body: unpackb(body, strict_map_key=False), 5: _cbor, 6: bytes.decode,
}


# --- columns ------------------------------------------------------------------------------------------------------

def _columns_of(source: Source, raw: RawConnection) -> Iterator[Pair]:
    """Yield the columns by their names: numbers as a column of the vault, all else as a list."""
    for table in ('kvault_col_columns', 'kvault_col_blocks', 'kvault_col_data', 'kvault_col_format'):
        require_table(source.path, raw, table)
    if raw.execute(COLUMN_VERSION).fetchall() != [(1,)]:
        raise source.wrong('the columns are not of version 1', 'kvault_col_format', 'export them with kohakuvault')
    for number, name, dtype, width in raw.execute(NAMED_COLUMNS).fetchall():
        if not isinstance(name, str) or not isinstance(dtype, str):
            raise source.wrong('a column has no name or type', of_key(name), BACKUP, VaultCorruptError)
        blocks = _translated(source, _blocks_of(source, raw, number, name, width))
        if dtype in DTYPES:
            yield name, Chunked('column', DTYPES[dtype], _numbers(of_key(name), dtype, blocks))
        else:
            yield name, Chunked('list', None, _lists(source, name, _item_reader(source, name, dtype), blocks))


def _translated(source: Source, blocks: Iterator[Block]) -> Iterator[Block]:
    """Yield them, with errors of ours also where the vault that they go into asks for the next one."""
    with readable(source.path):
        yield from blocks


def _blocks_of(source: Source, raw: RawConnection, number: int, name: str, width: int) -> Iterator[Block]:
    """Yield the bytes of a column, a block at a time, and where in them the items begin and the last ends."""
    for count, used, payload, offsets in raw.execute(COLUMN_BLOCKS, (number,)):
        try:
            ends = range(0, (count + 1) * width, width) if width else struct.unpack_from(f'<{count + 1}Q', offsets)
            sound = ends[-1] == used <= len(payload) and (width or list(ends) == sorted(ends))
        except codes.MALFORMED:
            sound = False
        if not sound:
            raise source.wrong('a block of the column is damaged', of_key(name), BACKUP, VaultCorruptError)
        yield payload[:used], ends


def _numbers(where: str, dtype: str, blocks: Iterator[Block]) -> Iterator[Packed]:
    for data, ends in blocks:
        count = len(ends) - 1
        if dtype == 'f16':
            data = struct.pack(f'<{count}f', *struct.unpack(f'<{count}e', data))
        yield Packed(where, data, count)


def _lists(source: Source, name: str, read: Callable[[bytes], Any], blocks: Iterator[Block]) -> Iterator[Packed]:
    for data, ends in blocks:
        items = [source.decoded(name, data[start:end], read) for start, end in zip(ends, ends[1:])]
        yield Packed(of_key(name), b''.join(standalone.dumps_many(items)), len(items))


def _item_reader(source: Source, name: str, dtype: str) -> Callable[[bytes], Any]:
    kind, *more = dtype.split(':')
    if kind in ('str', 'string'):
        charset = next((part for part in more if not part.isdigit()), 'utf8')
        fixed = any(part.isdigit() for part in more)
        return lambda data: data.decode(CHARSETS.get(charset, charset)).rstrip('\0' if fixed else '')
    if kind in ('vec', 'vector') and more and more[0] in VECTORS:
        return lambda data: _shaped(data, VECTORS[more[0]], tuple(map(int, more[1:])))
    if kind not in ITEMS_OF:
        raise source.wrong(f'the column has the type {dtype}, of a newer kohakuvault', of_key(name), 'export it there')
    return ITEMS_OF[kind]


VECTORS = {'f16': '<f2', 'f32': '<f4', 'f64': '<f8', 'i8': '|i1', 'i16': '<i2', 'i32': '<i4', 'i64': '<i8',
           'u8': '|u1', 'u16': '<u2', 'u32': '<u4', 'u64': '<u8', 'bool': '|b1'}
ITEMS_OF: Dict[str, Callable[[bytes], Any]] = {'bytes': bytes, 'msgpack': FORMS[4], 'cbor': _cbor}
