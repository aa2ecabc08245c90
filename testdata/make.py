"""Make the files beside this script: small stores written by the real peers, for the tests of the importer.

    python testdata/make.py                  make every file that this Python can, and say which it cannot and why
    python testdata/make.py shelve csv       make these formats alone; a file's name (csv-pairs.csv) will do too

A file's format is its name up to the first hyphen. `EXPECTED` says what a reader must find in each; a test may import
it with no peer installed. A name is what the peer was given: dbm adds .db (ndbm), or .dat and .dir (dumb), and a
diskcache is a folder. The dbm family names no types, so its keys are given here as str and its values as bytes; the
keys of a file with two tables are (table, key). A file is made aside and moved here whole, so one that this Python
cannot make stays as it was. No Python has every peer. Those stored here were made on Linux, x86-64, with
    Debian's python3 (3.11)    shelve-gnu shelve-ndbm dbm-gnu dbm-ndbm, with python3-gdbm
    Python 3.13                all the rest, with sqlitedict 2.1.0, litedict 0.5, diskcache 5.6.3, msgpack 1.2.4,
                               pickledb[sqlite] 1.6
    Python 3.11                pickledb-0.9.json, with pickledb 0.9.2; the kohakuvault, tinydb and pyvault ones, with
                               kohakuvault 1.1.0, tinydb 4.9.0, pyvault-client 0.1.1; and the pystoragebackend one, with
                               the source of pyStorageBackend, which is in no package registry
Made again, they are the same byte for byte, but for the ndbm ones (Berkeley DB puts a random id in) and for what a
newer peer or SQLite changes: the diskcache ones are made with a stopped clock and a seeded os.urandom.
"""
import argparse
import csv
import importlib
import importlib.util
import io
import json
import pickle
import random
import shelve
import shutil
import sqlite3
import sys
import tempfile
import types
import uuid
from array import array
from contextlib import closing
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Dict
from unittest import mock

HERE = Path(__file__).resolve().parent
EXPIRED = ('expired', 'expired in a file')  # the keys of the diskcache entries that a reader must leave out

PLAIN = {  # what JSON can carry, orjson too
    'text': 'Grüße, 世界 🎈', 'empty': '', 'lines': 'one\ntwo\ttabbed "quoted" \\ back', 'none': None, 'yes': True,
    'int': -42, 'largest': 2**63 - 1, 'float': 0.1, 'tiny': -1.5e-300, 'list': [1, [2, [3, []]], 'x', None, False],
    'dict': {'name': 'Ada', 'langs': ['en', 'français'], 'home': {'city': 'Zürich', 'zip': None}, '1': {}},
    'ключ': 'a key beyond ASCII', 'it\'s a "key"\n': 'a key with quotes and a newline',
}
PICKLED = {  # what pickle can carry, builtin types alone
    **PLAIN, 'huge': 2**70, 'bytes': b'\x00\xff raw', 'bytearray': bytearray(b'\x80\x04'), 'complex': 1 + 2j,
    'set': {1, 2, 3}, 'frozenset': frozenset({4}), 'tuple': ('a', (1, 2.5), None), 'infinity': float('-inf'),
    'nested': {7: ('seven', b'7'), ('x', 1): {'deep': [{8, 9}, {None: 'none'}]}},
    'naive': datetime(2024, 2, 29, 12, 30, 15, 250000), 'aware': datetime(2024, 2, 29, 12, 30, tzinfo=timezone.utc),
    'date': date(1999, 12, 31), 'timedelta': timedelta(days=-1, microseconds=5),
}
BYTES = {  # plain dbm. Monday and Paris begin with the two letters that the earlier vaults put before its own data
    'greeting': b'hello', 'utf8': 'Grüße, 世界'.encode(), 'binary': bytes(range(256)), 'empty': b'', 'number': b'42',
    'Monday': b'Morning', 'Paris': b'Pizza', 'ключ': 'значение'.encode(), 'it\'s a "key"\n': b'quotes and a newline',
}
CACHE = {  # every way in which diskcache keeps a key and a value; what has 64 bytes or more goes to a file
    'inline text': 'Grüße', 'inline bytes': b'\x00\x01\xff', 'inline int': -7, 'inline float': 2.5, 'empty text': '',
    'empty': b'', 'none': None, 'true': True, 'inline pickle': {'a': [1, (2, 3)]}, 'huge': 2**70, 'tagged': 'blue',
    'expires in 2340': 'still here', 'file bytes': bytes(range(256)), 'file text': 'Zeile für Zeile\n' * 8,
    'file pickle': {n: ('item', n) for n in range(20)}, 'from a stream': b'streamed ' * 10, 42: 'int key',
    -1.5: 'float key', b'\xff\x00key': 'bytes key', 2**64: 'pickled key: an int past 64 bits',
    ('tuple', 1): 'pickled key', None: 'pickled key None', ('long', 2): 'pickled key, value in a file. ' * 4,
}
KOHAKU = {  # what kohakuvault packs by itself; what it would give back as something else is left out
    'text': 'Grüße, 世界', 'empty': '', 'none': None, 'int': -5, 'large': 999_999_999_999, 'float': 1.5,
    'infinity': float('-inf'), 'list': [1, 'a', None, [True, 2.5]], 'dict': {'a': {'b': [1.5, 'c']}, 'd': {}},
    'bytes': b'\x00\xff', 'no bytes': b'', 'tuple': ('a', (1, None)), 'set': {1, 2}, 'date': date(1999, 12, 31),
    'ключ': 'a key beyond ASCII', 'file': bytes(range(256)) * 3,
}
COLUMNS = {  # by the types of ColumnVault; a block has 64 bytes
    'i64': array('q', range(-9, 20)), 'u8': array('B', range(100)), 'f64': array('d', [0.5, -1.5, 1e300]),
    'f32': array('f', [0.25]), 'i16': array('h'), 'bytes:2': [b'ab', b'\x00\x00', b'c\x00'],
    'bytes': [b'', b'raw ' * 9, b'\xff'], 'str:utf8': ['é', '', '日本'] * 20, 'str:utf16le': ['é', ''],
    'str:8:utf8': ['short', ''], 'msgpack': [{'a': [1, None]}, 'b', 2.5], 'cbor': [{'c': [True]}, 'd', -1],
}
EXPECTED: Dict[str, Dict[Any, Any]] = {
    **dict.fromkeys(['shelve-gnu', 'shelve-ndbm', 'shelve-dumb', 'shelve-dumb-protocol0', 'shelve-sqlite3'], PICKLED),
    **dict.fromkeys(['dbm-gnu', 'dbm-ndbm', 'dbm-dumb', 'dbm-sqlite3'], BYTES),
    'sqlitedict-unnamed.sqlite': PICKLED,
    'sqlitedict-two-tables.sqlite': {
        ('users', 'ada'): {'name': 'Ada', 'born': date(1815, 12, 10)}, ('users', 'same'): 'in users',
        ('old "orders"', '1'): ('tea', 2), ('old "orders"', 'same'): 'in old orders', ('old "orders"', 'none'): None,
    },
    'sqlitedict-json.sqlite': PLAIN,
    'litedict-words.sqlite': PLAIN,
    'diskcache-cache': CACHE,
    'diskcache-fanout': {
        **{f'key {n}': n * n for n in range(8)}, 5: 'five', b'raw': b'bytes', ('a', 1): [1, 2], 'file': 'x' * 100,
    },
    'diskcache-index': {'b': 1, 'a': [2, 'two'], ('point', 3, 4): {'x': 3.0}, 7: None},
    **dict.fromkeys(['pickledb-0.9.json', 'pickledb-1.json', 'pickledb-1.sqlite'], PLAIN),
    'kohakuvault-entries.db': KOHAKU,
    'kohakuvault-columns.db': COLUMNS,
    'kohakuvault-all.db': {
        **{('kv', key): KOHAKU[key] for key in ('text', 'bytes', 'tuple')},
        **{('columns', key): COLUMNS[key] for key in ('i64', 'str:utf8')},
        ('text_vault', 1): {'title': 'Grüße', 'body': 'an die Welt', 'value': {'a': 1}},
        ('text_vault', 2): {'title': 'Grüße', 'body': 'an die Welt', 'value': b'the same texts'},
    },
    'pystoragebackend-notes.sqlite': {
        ('0' * 31 + '1', 'title'): b'A note', ('0' * 31 + '1', 'body'): 'Grüße'.encode(),
        ('f' * 32, 'title'): b'\x00\xff',
    },
    'json-pystoragebackend.json': {
        '0' * 31 + '1': {'title': 'A note', 'body': 'Grüße'}, 'f' * 32: {'title': 'Another'},
    },
    'pyvault-units': {
        ('people', 2**62 + 5): {'name': 'Ada', 'tags': ('a', 1)}, ('people', 2**62 + 77): ['Grüße'],
        ('raw', 7): b'\x00\xff raw', ('raw', 12): b'{"json": 1}',
    },
    'tinydb-people.json': {
        1: {'name': 'Ada', 'tags': ['x', 'y'], 'home': {'zip': None}}, 3: {'name': 'Grüße', 'born': 1815},
        ('orders', 1): {'tea': 2}, ('orders', 2): {'tea': 3.5},
    },
    'json-object.json': {**PLAIN, 'past 64 bits': 2**70},
    'jsonl-foreign.jsonl': {
        'a': 1, 'b': {'nested': [1, {'c': None}]}, 'café': 'é and 🎈', '': 'the empty key', 7: 'an int key', 'z': -0.5,
    },
    'csv-cities.csv': {
        '1': {'name': 'Ada', 'city': 'London'}, '2': {'name': 'Ogden, "Og"', 'city': 'Zürich'},
        '03': {'name': '王小明', 'city': 'New\nYork'}, 'x y': {'name': '', 'city': ' São Paulo '},
    },
    'csv-pairs.csv': {
        'plain': 'text', 'quoted': 'a "word", and more', 'lines': 'one\ntwo\n', 'größe': '12', 'a,b': '', '7': 'null',
    },
    'vaults-earlier.sqlite': {
        'name': 'Grüße', 7: [1, 'two', None, 3.5], -1: b'\x00\xff', ('point', 1, 2): {'x': {'y': [True]}},
        (('a',), 2.5): 'nested key', 'none': None, 'set': {1, 2, 3}, 'tuple': (1, ('a', b'b')),
        'datetime': datetime(2024, 2, 29, 12, 30), 'huge': 2**70,
    },
}


def make_shelve(path, entries):
    """The dbm is the one that the name says, never the one that `dbm.open` would pick."""
    protocol = 0 if path.endswith('protocol0') else None
    dbm = importlib.import_module('dbm.' + Path(path).name.split('-')[1])
    with shelve.Shelf(dbm.open(path, 'n'), protocol) as shelf:
        shelf.update(entries)


def make_dbm(path, entries):
    with importlib.import_module('dbm.' + Path(path).name.split('-')[1]).open(path, 'n') as db:
        for key, value in entries.items():
            db[key] = value


def make_sqlitedict(path, entries):
    from sqlitedict import SqliteDict
    codec = {'encode': json.dumps, 'decode': json.loads} if path.endswith('json.sqlite') else {}
    for (table, key), value in ((k if isinstance(k, tuple) else ('unnamed', k), v) for k, v in entries.items()):
        with SqliteDict(path, table, autocommit=True, **codec) as db:
            db[key] = value


def make_litedict(path, entries):
    from litedict import SQLDict
    with closing(SQLDict(path)) as db:
        db.update(entries)


def make_diskcache(path, entries):
    """The clock stands in 2023, so what expires a second later is there, has expired, and was not culled."""
    import diskcache
    urandom = random.Random(5)
    with mock.patch('time.time', lambda: 1.7e9), \
            mock.patch('os.urandom', lambda size: urandom.getrandbits(8 * size).to_bytes(size, 'big')):
        if path.endswith('index'):
            diskcache.Index(path, entries).cache.close()
        elif path.endswith('fanout'):  # without WAL, for variety
            with diskcache.FanoutCache(path, 2, sqlite_journal_mode='delete', disk_min_file_size=64) as cache:
                for key, value in entries.items():
                    cache[key] = value
        else:
            special = {'tagged': {'tag': 'colour'}, 'expires in 2340': {'expire': 1e10}}
            with diskcache.Cache(path, disk_min_file_size=64) as cache:
                for key, value in entries.items():
                    stream = key == 'from a stream'
                    cache.set(key, io.BytesIO(value) if stream else value, read=stream, **special.get(key, {}))
                for key, value in zip(EXPIRED, ('too late', 'too late. ' * 10)):
                    cache.set(key, value, expire=1)
    if not path.endswith('cache'):  # pages of 4096 bytes are nearly empty here; diskcache-cache keeps them
        for file in Path(path).rglob('cache.db'):
            with closing(sqlite3.connect(str(file), isolation_level=None)) as db:
                [mode] = db.execute('PRAGMA journal_mode').fetchone()
                db.execute('PRAGMA journal_mode = DELETE')
                db.execute('PRAGMA page_size = 512')
                db.execute('VACUUM')
                db.execute(f'PRAGMA journal_mode = {mode}')


def make_pickledb(path, entries):
    import pickledb
    old, in_sqlite = path.endswith('0.9.json'), path.endswith('.sqlite')
    if old != hasattr(pickledb, 'load'):
        raise ImportError('this is pickledb ' + ('1.x, not 0.9' if old else '0.9, not 1.x'))
    if in_sqlite and not pickledb.sqlite_enable:
        raise ImportError('pickledb[sqlite] is not installed')
    if old:
        db = pickledb.load(path, False, sig=False)
    else:
        db = pickledb.PickleDBSQLite(path) if in_sqlite else pickledb.PickleDB(path)
    for key, value in entries.items():
        db.set(key, value)
    (db.dump if old else db.close if in_sqlite else db.save)()


def make_json(path, entries):
    Path(path).write_text(json.dumps(entries, indent=2, ensure_ascii=False) + '\n', encoding='utf-8')


def make_jsonl(path, entries):
    """By hand, as other tools may write it: spaces or none, members in either order, escapes, no newline at the end."""
    lines = (
        '{"key": "a", "value": 1}', '{"key":"b","value":{"nested":[1,{"c":null}]}}',
        '{"value": "\\u00e9 and \\ud83c\\udf88", "key": "café"}', '{ "key" : "", "value" : "the empty key" }',
        '{"key": 7, "value": "an int key"}', '{"key": "z", "value": -5e-1}',
    )
    Path(path).write_bytes('\n'.join(lines).encode())


def make_csv(path, entries):
    """One as RFC 4180 has it (CRLF ends a row), one with LF and every field quoted."""
    pairs = path.endswith('pairs.csv')
    style = {'lineterminator': '\n', 'quoting': csv.QUOTE_ALL} if pairs else {}
    with open(path, 'w', encoding='utf-8', newline='') as file:
        writer = csv.writer(file, **style)
        writer.writerow(['key', 'value'] if pairs else ['id', 'name', 'city'])
        writer.writerows([key, value] if pairs else [key, *value.values()] for key, value in entries.items())


def make_vaults(path, entries):
    """No such program is at hand. M and msgpack or, for what msgpack would change or refuse, P and pickle."""
    import msgpack

    def dumps(obj):
        try:
            return b'M' + msgpack.packb(obj, strict_types=True)
        except (TypeError, OverflowError):
            return b'P' + pickle.dumps(obj, protocol=4)

    with closing(sqlite3.connect(path)) as db, db:
        db.execute('CREATE TABLE dict(key BLOB, value BLOB)')
        db.executemany('INSERT INTO dict VALUES (?, ?)', [(dumps(key), dumps(value)) for key, value in entries.items()])


def make_kohakuvault(path, entries):
    from kohakuvault import ColumnVault, KVault, TextVault
    parts = {'kv': {}, 'columns': {}, 'text_vault': {}}
    alone = 'columns' if path.endswith('columns.db') else 'kv'
    for key, value in entries.items():
        part, name = key if isinstance(key, tuple) else (alone, key)
        parts[part][name] = value
    if parts['kv']:
        with closing(KVault(path)) as kv:
            for key, value in parts['kv'].items():
                kv[key] = value
    if parts['columns']:
        with closing(ColumnVault(path)) as vault:
            for name, items in parts['columns'].items():
                vault.create_column(name, name, block_bytes=64)
                for item in items:
                    vault[name].append(item)
    if parts['text_vault']:
        texts = TextVault(path, columns=['title', 'body'])
        for document in parts['text_vault'].values():
            texts.insert({'title': document['title'], 'body': document['body']}, document['value'])
        del texts
    shrink(path)


def shrink(path):
    """Write a database anew, with small pages."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute('PRAGMA journal_mode = DELETE')
        db.execute('PRAGMA page_size = 512')
        db.execute('VACUUM')


def make_pystoragebackend(path, entries):
    found = importlib.util.find_spec('pyStorageBackend')
    if not found:
        raise ImportError('its source is not on the path')
    package = types.ModuleType('pyStorageBackend')  # whose own __init__ imports in a circle
    package.__path__ = found.submodule_search_locations
    with mock.patch.dict(sys.modules, pyStorageBackend=package):
        from pyStorageBackend.sqlite3_bindings import Sqlite3Backend
        from pyStorageBackend.uid import UID
    backend = Sqlite3Backend({'path': path})
    backend.create()
    for (uid, key), data in entries.items():
        backend.put(UID(uid), key, data)


def make_pyvault(path, entries):
    """Its numbers are random; here they are those of the entries."""
    from vault.datatype import Datatype, PickleWrapper
    from vault.vault import Vault

    class Raw(Datatype):
        def __init__(self, data):
            self.data = data

        def _dump(self):
            return self.data

    vault = Vault(path, {unit: (Datatype, 0) for unit, _ in entries})
    for (unit, number), value in entries.items():
        Path(path, unit).mkdir(parents=True, exist_ok=True)
        with mock.patch('uuid.uuid4', lambda number=number: uuid.UUID(int=number)):
            vault.upload(unit, Raw(value) if isinstance(value, bytes) else PickleWrapper(value))


def make_tinydb(path, entries):
    from tinydb import TinyDB
    from tinydb.table import Document
    with TinyDB(path) as db:
        for key, document in entries.items():
            table, number = key if isinstance(key, tuple) else ('_default', key)
            db.table(table).insert(Document(document, number))


MAKERS = {name[5:]: function for name, function in list(globals().items()) if name.startswith('make_')}


def make(name):
    """Make one file aside, then put it, and all that its peer wrote with it, in the place of what is here."""
    with tempfile.TemporaryDirectory() as folder:
        MAKERS[name.partition('-')[0]](str(Path(folder, name)), EXPECTED[name])
        for old in (HERE / name, *HERE.glob(name + '.*')):
            shutil.rmtree(old) if old.is_dir() else old.exists() and old.unlink()
        for new in Path(folder).iterdir():
            if new.suffix != '.bak':  # dbm.dumb's copy of the directory it had before: empty here, and never read
                shutil.move(str(new), str(HERE / new.name))


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('format', nargs='*', help='of ' + ' '.join(MAKERS) + ', or the name of a file')
    wanted = parser.parse_args().format
    known = {*MAKERS, *EXPECTED}
    if not known.issuperset(wanted):
        parser.error('no such format or file: ' + ' '.join(sorted({*wanted} - known)))
    for name in EXPECTED:
        if not wanted or name in wanted or name.partition('-')[0] in wanted:
            try:
                make(name)
                print(f'{name}: made')
            except ImportError as problem:
                print(f'{name}: NOT made: {problem}')


if __name__ == '__main__':
    main()
