"""Peers: what other libraries write, recognised and read; moving.py says which. Knows their files, and no vault's.

Nothing here changes a source, leaves a file beside it, or runs a pickle unless the source allows it.
"""
from __future__ import annotations

import json
import os
import pickletools
import re
import sqlite3
import struct
from ast import literal_eval
from contextlib import closing
from importlib import import_module
from itertools import islice
from time import time

from msgpack import unpackb

from .. import keys
from ..codecs import codes, packing
from ..collections.dtype import type_of
from ..collections.tree import Gone, Head, Tree, is_head, misfit, missing
from ..errors import VaultCorruptError, VaultError, VaultFormatError, VaultNotFoundError, shown
from ..settings import recorded
from ..stores.base import entries_of
from ..stores.sqlite.opening import is_open_here
from ..stores.sqlite.schema import APPLICATION_ID
from ..stores.sqlite.sources import one_state, vault_at
from . import as_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, Iterator, List, NoReturn, Optional, Tuple

    from ..stores.base import Store
    from . import Source

    Pair = Tuple[Any, Any]

SAMPLE = 100     # values that tell a shelve from another dbm
TABLED = ('sqlitedict', 'pickledb', 'litedict')
RESTORE = 'restore it from a backup'
CHUNK = 1 << 16  # characters of a text to read at once


def named(key: Any) -> str:
    return f'key {shown(key):.200}'


# --- what is not loaded yet ---------------------------------------------------------------------------------------

class Packed:
    """Bytes on their way: a packed value, or of a value in parts some packed items, or plain bytes."""

    __slots__ = ('count', 'data', 'pickled', 'place', 'serializer')

    def __init__(self, place: str, data: bytes, count: int = 1, pickled: bool = False,
                 serializer: Optional[str] = None) -> None:
        self.place, self.data, self.count = place, data, count
        self.pickled, self.serializer = pickled, serializer  # is there a pickle in it, and who has made it

    def array(self) -> bytes:
        """Return the items as one packed list."""
        return packing.as_array(self.data, self.count)

    def loaded(self, source: Source) -> Any:
        """Return the value."""
        return _unpacked(source, self.place, self.data)

    def items(self, source: Source) -> Any:
        """Return the items, in a list."""
        return _unpacked(source, self.place, self.array())


class Parts:
    """A value in parts on its way: what it is, and its content, which is to be read once, before what follows."""

    __slots__ = ('code', 'meta', 'runs')

    def __init__(self, code: int, meta: Any, runs: Iterator[Packed]) -> None:
        self.code, self.meta, self.runs = code, meta, runs

    def loaded(self, source: Source) -> Any:
        """Return a copy of it all: a list, bytes, or of a column what a slice would be."""
        if self.code == codes.LIST:
            return [item for run in self.runs for item in run.items(source)]
        data = b''.join([run.data for run in self.runs])
        if self.code == codes.STREAM:
            return data
        from ..collections.dtype import type_of
        return type_of(self.meta).unpacked(data)


def runs(store: Store, head: Head) -> Iterator[Tuple[List[bytes], int]]:
    """Yield the content of a value in parts, a leaf at a time: packed items, or one piece of bytes; and how many.

    Raises: VaultCorruptError. To be read in one transaction.
    """
    tree = Tree(store, head)
    try:
        for number, start, stop in tree.leaves(head.skip, head.inside):
            if number or head.code != codes.STREAM:
                yield _content(head, tree.part(number), stop - start, max(head.skip - start, 0))
            else:
                yield from _zeros(start, stop)
    except Gone:
        raise missing('the value') from None
    if head.size + head.skip > head.inside:
        yield _content(head, head.tail, head.size + head.skip - head.inside, 0)


def _zeros(start: int, stop: int) -> Iterator[Tuple[List[bytes], int]]:
    """Yield a hole of a stream in leaves. Raises: VaultCorruptError for one that no program has made."""
    from ..collections.stream import FARTHEST, LEAF
    if stop - start > FARTHEST:
        raise misfit()
    for at in range(start, stop, LEAF):
        size = min(LEAF, stop - at)
        yield [bytes(size)], size


def _content(head: Head, run: bytes, count: int, skip: int) -> Tuple[List[bytes], int]:
    """Return what is in a run of so many items, but the first ones that are to be skipped."""
    if head.code != codes.LIST:
        width = type_of(head.meta).size if head.code == codes.COLUMN else 1
        if len(run) != count * width:
            raise misfit()
        return [run[skip * width:]], count - skip
    try:
        ends = packing.offsets(run, count)
    except codes.MALFORMED as error:
        packing.undecodable(error)
    return [run[start:stop] for start, stop in zip(ends[skip:], ends[skip + 1:])], count - skip


# --- what it is ---------------------------------------------------------------------------------------------------

SQLITE = b'SQLite format 3\0'
GNU = {struct.pack('=I', number) for number in (0x13579ACD, 0x13579ACE, 0x13579ACF, 0x13579AD0, 0x13579AD1)}
BERKELEY = {struct.pack(order + 'I', number) for order in '<>' for number in (0x61561, 0x53162)}  # at byte 0 or 12
# The other dbms: the module, the endings of its files, and what the last of them begins with.
FAMILIES: Tuple[Tuple[str, Tuple[str, ...], Callable[[bytes], bool]], ...] = (
    ('dbm.ndbm', ('.pag', '.dir'), lambda head: True),
    ('dbm.ndbm', ('.db',), lambda head: not BERKELEY.isdisjoint((head[:4], head[12:]))),
    ('dbm.dumb', ('.dat', '.dir'), lambda head: head[:1] in (b'', b'"', b"'")),
)
LACKING = {'dbm.gnu': "install it (Debian: python3-gdbm), or import with a Python that has it, as Debian's own",
           'dbm.ndbm': "import with a Python that has it, as Debian's own /usr/bin/python3"}
TABLES = """SELECT name FROM sqlite_master WHERE type = 'table' AND sql NOT LIKE 'CREATE VIRTUAL%'
 ORDER BY rowid"""  # a virtual one may need a module that is not here
COLUMNS = 'SELECT name, upper(type), "notnull", hidden FROM pragma_table_xinfo(?)'
OF_NAME = 'SELECT type FROM sqlite_master WHERE lower(name) = lower(?)'


def recognise(path: str, charset: str, key: Optional[str]) -> str:
    if os.path.isdir(path):
        if not _shards(path) and not any(vault_files(path)):
            unknown(path, 'a folder without cache.db, so no diskcache, and without UNIT/ID.vault, so no pyvault')
        return 'diskcache' if _shards(path) else 'pyvault'
    module, _, _ = dbm_at(path)
    if not module:
        from . import everyday
        return everyday.kind_of(path, charset, key)
    kind = _kind_of_sqlite(path) if module == 'dbm.sqlite3' else module
    return _shelve_or_dbm(path, module) if kind.startswith('dbm.') else kind


def unknown(path: str, what: str) -> NoReturn:
    raise VaultFormatError(f'{path} is {what}; what can be read are {", ".join(READERS)}: pass kind=... if it is one')


def present(path: str) -> None:
    if not os.path.lexists(path):
        raise VaultNotFoundError(f'there is nothing at {path}, nor a dbm of that name: check the path')
    if not os.path.isfile(path) and not os.path.isdir(path):
        unknown(path, 'neither file nor folder; to read from a pipe, pass an open text file')


def head_of(path: str, size: int) -> bytes:
    """Return the first bytes of a file; of what is no file, and could keep a reader waiting, none.

    A vault that is open in this process is not opened here: closing it would drop SQLite's locks on it.
    """
    if not os.path.isfile(path):
        return b''
    if is_open_here(path):
        return SQLITE
    with open(path, 'rb') as file:
        return file.read(size)


def dbm_at(path: str) -> Tuple[str, str, List[str]]:
    """Return the module of the dbm at `path`, the name to give it, and its files; '' as the module when there is none.

    As dbm.whichdb, which has Berkeley DB open any NAME.db, even a vault, and complain about it on stderr.
    """
    head = head_of(path, len(SQLITE))
    if head == SQLITE or head[:4] in GNU:
        return 'dbm.sqlite3' if head == SQLITE else 'dbm.gnu', path, [path]
    stem, suffix = os.path.splitext(path)
    for base in (path, stem):
        for module, suffixes, fits in FAMILIES:
            files = [base + each for each in suffixes]
            known = (base == path or suffix in suffixes) and all(map(os.path.isfile, files))
            if known and fits(head_of(files[-1], 16)):
                return module, base, files
    return '', path, []


def _shelve_or_dbm(path: str, module: str) -> str:
    """Tell by the first values, which are looked at and not loaded."""
    try:
        import_module(module if module in LACKING else 'dbm')
    except ImportError:
        return 'dbm'
    rows: Any = _dbm_rows(path)
    with closing(rows):
        return 'shelve' if all(_is_pickle(data) for _, data in islice(rows, SAMPLE)) else 'dbm'


def _is_pickle(data: Any) -> bool:
    """Tell whether the bytes are one whole pickle, without running it."""
    try:
        return isinstance(data, bytes) and all(
            place == len(data) - 1 for opcode, _, place in pickletools.genops(data) if opcode.name == 'STOP')
    except ValueError:
        return False


def _kind_of_sqlite(path: str) -> str:
    with one_state(path) as raw:
        if raw.execute('PRAGMA application_id').fetchone()[0] == APPLICATION_ID:
            return 'vault'
        found = kinds_of_tables(raw)
        texts = any(name.endswith('_content') and f'{name[:-8]}_values' in found for name in found)
        kinds = [*found.values(), *(['kohakuvault'] if texts else [])]
    for kind in ('diskcache', 'earlier vault', 'dbm.sqlite3', *TABLED, 'kohakuvault', 'pystoragebackend'):
        if kind in kinds:
            return kind
    unknown(path, 'an SQLite database without a table of any of them')


def kinds_of_tables(raw: sqlite3.Connection) -> Dict[str, str]:
    names = [name for name, in raw.execute(TABLES).fetchall()]
    return {name: _kind_of_table(name, raw.execute(COLUMNS, (name,)).fetchall()) for name in names}


def _kind_of_table(table: str, columns: List[Any]) -> str:
    names, types = [column[0] for column in columns], [column[1] for column in columns]
    if any(column[3] for column in columns):
        return ''  # some are computed
    if names != ['key', 'value']:
        return ('diskcache' if table == 'Cache' and 'expire_time' in names else
                'pystoragebackend' if (table, names) == ('hiddil', ['uid', 'dkey', 'data']) else
                'kohakuvault' if table == 'kvault_col_columns' else '')
    if types == ['TEXT', 'BLOB']:
        return 'pickledb' if columns[1][2] else 'sqlitedict'
    if types == ['TEXT', '']:
        return 'litedict'
    if types == ['BLOB', 'BLOB'] and table != 'Dict' and columns[0][2] and columns[1][2]:
        return 'kohakuvault'
    return {'dict': 'earlier vault', 'Dict': 'dbm.sqlite3'}.get(table, '')


# --- SQLite -------------------------------------------------------------------------------------------------------

TABLE_ROWS = 'SELECT key, value FROM {} ORDER BY rowid'
EARLIER_ROWS = TABLE_ROWS.format('dict')
DBM_ROWS = TABLE_ROWS.format('Dict')


def require_table(path: str, raw: sqlite3.Connection, table: str) -> None:
    """Raise when there is a view in place of the table, or a column is computed: these are programs."""
    kinds = {kind for kind, in raw.execute(OF_NAME, (table,)).fetchall()}
    if 'view' in kinds or any(column[3] for column in raw.execute(COLUMNS, (table,)).fetchall()):
        unknown(path, f'an SQLite database whose table {table} is computed')


def _vault(source: Source) -> Iterator[Pair]:
    with vault_at(source.path) as store:
        if store is None:
            unknown(source.path, 'empty')
        serializer = recorded(store)
        for stored, data in entries_of(store.scan()):
            key = keys.decode(stored)
            yield key, _as_stored(source, store, serializer, named(key), data)


def _as_stored(source: Source, store: Store, serializer: Optional[str], place: str, data: bytes) -> Any:
    """Return a value that is still packed, or in parts."""
    if not is_head(data):
        return Packed(place, data, serializer=serializer if as_json.is_serialized(data) else None)
    head = Head.of(data)

    def content() -> Iterator[Packed]:
        try:
            for items, count in runs(store, head):
                yield Packed(place, b''.join(items), count, False, serializer if head.code == codes.LIST else None)
        except VaultError as error:
            raise source.about(error, place) from error
    return Parts(head.code, head.meta, content())


def _unpacked(source: Source, place: str, data: bytes) -> Any:
    try:
        return source.codec.loads(data)
    except VaultError as error:
        raise source.about(error, place) from error


def _earlier(source: Source) -> Iterator[Pair]:
    with one_state(source.path) as raw:
        require_table(source.path, raw, 'dict')
        for stored, data in raw.execute(EARLIER_ROWS):
            key = _earlier_object(source, stored, stored, use_list=False)
            yield key, _earlier_object(source, key, data, use_list=True)


def _earlier_object(source: Source, key: Any, data: Any, use_list: bool) -> Any:
    mark = data[:1] if isinstance(data, bytes) else b''
    if mark == b'P':
        return source.unpickled(key, data[1:])
    if mark != b'M':
        raise source.wrong('it begins with neither M nor P', named(key), RESTORE)
    return source.decoded(key, data[1:], lambda packed: unpackb(packed, use_list=use_list, strict_map_key=False))


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _tables(source: Source) -> Iterator[Pair]:
    with one_state(source.path) as raw:
        names = [name for name, kind in kinds_of_tables(raw).items() if kind in TABLED]
        wanted = [name for name in names if source.table in (None, name)]
        if not wanted:
            raise VaultFormatError(f'{source.path} has no table {source.table or "(key TEXT, value BLOB)"!r}; of that '
                                   f'kind are {names}')
        for name in wanted:
            for stored, data in raw.execute(TABLE_ROWS.format(quoted(name))):
                key = stored if len(wanted) == 1 else (name, stored)
                yield key, _table_value(source, key, data)


def _table_value(source: Source, key: Any, data: Any) -> Any:
    if source.decode:
        return source.decoded(key, data, source.decode)
    if isinstance(data, bytes) and source.kind == 'sqlitedict':
        return source.unpickled(key, data)
    return source.decoded(key, data, json.loads) if isinstance(data, (bytes, str)) else data


# --- diskcache ----------------------------------------------------------------------------------------------------

CACHE_ROWS = """SELECT key, raw, mode, filename, value FROM Cache
 WHERE expire_time IS NULL OR expire_time > ? ORDER BY rowid"""
RAW, BINARY, TEXT, PICKLE = 1, 2, 3, 4  # the column `mode`
REPAIR = 'let diskcache repair it: Cache(folder).check(fix=True)'


def _shards(path: str) -> List[str]:
    """Return the SQLite files of a cache: one, or of a FanoutCache one in each numbered folder."""
    numbered = sorted(name for name in os.listdir(path) if re.fullmatch(r'\d{3,}', name))
    files = [os.path.join(path, name, 'cache.db') for name in ('', *numbered)]
    return [file for file in (files[:1] if os.path.exists(files[0]) else files) if os.path.isfile(file)]


def _diskcache(source: Source) -> Iterator[Pair]:
    source.files = _shards(source.path) if os.path.isdir(source.path) else [source.path]
    now = time()
    for file in source.files:
        with one_state(file) as raw:
            require_table(file, raw, 'Cache')
            for stored, plain, mode, name, data in raw.execute(CACHE_ROWS, (now,)):
                key = stored if plain else source.unpickled(stored, stored)
                place = '' if name is None else _inside(source, key, os.path.dirname(file), name)
                yield key, _cached(source, key, mode, place, data)


def _inside(source: Source, key: Any, folder: str, name: Any) -> str:
    """Return the path of a value's file; raise when it is outside of the cache's folder, or no file."""
    root = os.path.join(os.path.realpath(folder), '')
    path = os.path.realpath(os.path.join(root, name)) if isinstance(name, str) and '\0' not in name else ''
    if not path.startswith(root):
        raise source.wrong(f'the value is said to be in {name!r}, outside of the cache: that is not read', named(key),
                           REPAIR)
    if not os.path.isfile(path):
        raise source.wrong(f"the value's file {path} is missing", named(key), REPAIR, VaultCorruptError)
    return path


def _cached(source: Source, key: Any, mode: Any, place: str, data: Any) -> Any:
    if place:
        with open(place, 'rb') as file:
            data = file.read()
        data = source.decoded(key, data, bytes.decode) if mode == TEXT else data
    if source.decode:
        return source.decoded(key, data, source.decode)
    if mode == PICKLE:
        if place:
            source.trusted(place)
        return source.unpickled(key, data)
    if mode != RAW and not (place and mode in (BINARY, TEXT)):
        raise source.wrong(f'there is no value in the mode {mode!r}', named(key), REPAIR, VaultCorruptError)
    return data


# --- pyStorageBackend and pyvault ---------------------------------------------------------------------------------

DOCUMENTS = 'SELECT uid, dkey, data FROM hiddil ORDER BY rowid'
LARGE = 1 << 20  # bytes from which a file comes over as a stream
PICKLED = b'\x80'  # what a pickle of protocol 2 and later begins with


def _pystoragebackend(source: Source) -> Iterator[Pair]:
    """Yield the data of documents with keys (uid, key)."""
    with one_state(source.path) as raw:
        require_table(source.path, raw, 'hiddil')
        for uid, name, data in raw.execute(DOCUMENTS):
            yield (uid, name), source.decoded((uid, name), data, source.decode) if source.decode else data


def vault_files(folder: str) -> Iterator[Tuple[str, int, str]]:
    """Yield the unit, the number and the path of each file UNIT/ID.vault, sorted."""
    for unit in sorted(os.listdir(folder)):
        place = os.path.join(folder, unit)
        names = os.listdir(place) if os.path.isdir(place) and not os.path.islink(place) else []
        numbers = [int(name[:-6]) for name in names if re.fullmatch(r'(?:0|[1-9][0-9]{0,18})\.vault', name)]
        for number in sorted(numbers):
            path = os.path.join(place, f'{number}.vault')
            if os.path.isfile(path) and not os.path.islink(path):
                yield unit, number, path


def _pyvault(source: Source) -> Iterator[Pair]:
    """Yield what is in the files with keys (unit, number): of a pickle the object, else bytes, or a stream of them."""
    number = None
    for unit, number, path in vault_files(source.path):
        key = unit, number
        with open(path, 'rb') as file:
            data = file.read(LARGE)
            whole = len(data) < LARGE
            if not whole and not source.decode and data[:1] != PICKLED:
                yield key, Parts(codes.STREAM, None, _pieces(named(key), data, file))
                continue
            data += file.read()
        if source.decode:
            yield key, source.decoded(key, data, source.decode)
        elif data[:1] == PICKLED and _is_pickle(data):
            source.trusted(path, os.path.dirname(path))
            yield key, source.unpickled(key, data)
        else:
            yield key, data
    if number is None:
        unknown(source.path, 'a folder without UNIT/ID.vault, so no pyvault')


def _pieces(place: str, first: bytes, file: Any) -> Iterator[Packed]:
    data = first
    while data:
        yield Packed(place, data, len(data))
        data = file.read(LARGE)


# --- dbm ----------------------------------------------------------------------------------------------------------

DUMB_LINE = re.compile(r"""('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"), \((\d{1,18}), (\d{1,18})\)\s*""")


def _dbm(source: Source) -> Iterator[Pair]:
    _, _, source.files = dbm_at(source.path)
    for stored, data in _dbm_rows(source.path):
        key = key_text(source, stored)
        if not isinstance(data, bytes):
            raise source.wrong('the value is missing', named(key), RESTORE, VaultCorruptError)
        if source.decode:
            yield key, source.decoded(key, data, source.decode)
        else:
            yield key, source.unpickled(key, data) if source.kind == 'shelve' else data


def key_text(source: Source, stored: Any) -> Any:
    if source.encoding is None or not isinstance(stored, bytes):
        return stored
    try:
        return stored.decode(source.encoding)
    except UnicodeError as error:
        raise source.wrong(f'the key is not in {source.encoding}', named(stored),
                           "pass encoding='latin-1' or another, or encoding=None for keys of bytes") from error


def _dbm_rows(path: str) -> Iterator[Tuple[Any, Any]]:
    module, base, _ = dbm_at(path)
    if module == 'dbm.sqlite3':  # with any Python, and without writing
        with one_state(base) as raw:
            require_table(base, raw, 'Dict')
            yield from raw.execute(DBM_ROWS)
    elif module == 'dbm.dumb':
        yield from _dumb_rows(base)
    elif module:
        with closing(_module(module, path).open(base, 'r')) as db:
            for key in _gnu_keys(db) if module == 'dbm.gnu' else db.keys():
                yield key, db.get(key)
    else:
        unknown(path, 'no dbm')


def _module(module: str, path: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise VaultError(f'{path} is a {module} file, and this Python lacks that module: {LACKING[module]}') from error


def _gnu_keys(db: Any) -> Iterator[bytes]:
    key = db.firstkey()
    while key is not None:
        yield key
        key = db.nextkey(key)


def _dumb_rows(base: str) -> Iterator[Tuple[bytes, bytes]]:
    """Read along both files. dbm.dumb holds all keys in memory, and takes what a cut file has for the value."""
    with open(f'{base}.dir', encoding='latin-1') as index, open(f'{base}.dat', 'rb') as file:
        size = os.fstat(file.fileno()).st_size
        for number, line in enumerate(index, 1):
            try:
                literal, place, length = DUMB_LINE.fullmatch(line).groups()  # type: ignore[union-attr]  # see below
                key = literal_eval(literal).encode('latin-1')
                if int(place) + int(length) > size:
                    raise ValueError(f'{base}.dat is too short')
            except (AttributeError, SyntaxError, ValueError) as error:
                raise VaultCorruptError(f'line {number} of {base}.dir is damaged ({error}): restore both files from a '
                                        'backup') from error
            file.seek(int(place))
            yield key, file.read(int(length))


# --- which is which -----------------------------------------------------------------------------------------------

def _of(module: str, name: str) -> Callable[[Source], Iterator[Pair]]:
    """Return a reader that stands in a module of its own, which is imported when it is needed."""
    def reader(source: Source) -> Iterator[Pair]:
        yield from getattr(import_module(f'{__package__}.{module}'), name)(source)
    return reader


READERS: Dict[str, Callable[[Source], Iterator[Pair]]] = {
    'vault': _vault, 'earlier vault': _earlier, 'shelve': _dbm, 'dbm': _dbm, 'sqlitedict': _tables, 'pickledb': _tables,
    'litedict': _tables, 'diskcache': _diskcache, 'kohakuvault': _of('kohaku', 'kohakuvault'),
    'pystoragebackend': _pystoragebackend, 'pyvault': _pyvault,
    **{kind: _of('everyday', name) for kind, name in (('tinydb', 'tinydb'), ('json', 'json_text'),
                                                      ('jsonlines', 'json_lines'), ('csv', 'csv_text'))},
}
