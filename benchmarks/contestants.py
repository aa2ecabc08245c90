"""Who is timed: the floor, vaults and the peers. Knows how each is opened and used, and nothing of clocks or tables."""

from __future__ import annotations

import shelve
import sqlite3
from importlib import import_module
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FunctionType
from typing import TYPE_CHECKING, Any, NamedTuple

import msgpack

UPSERT = 'INSERT INTO entries (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value'
SELECT = 'SELECT value FROM entries WHERE key = ?'
ENTRIES = 'SELECT key, value FROM entries ORDER BY id'
BLOCK = 1000  # writes in one transaction
PRECISE = 10_000  # own commits: SQLite checkpoints about once in a thousand, and one more or less must not show

if TYPE_CHECKING:  # as Python 3.8 cannot subscript these
    from collections.abc import Iterable, Iterator, Mapping

    Entries = Mapping[str, Any]
    Pairs = Iterable[tuple[str, Any]]


class Contestant:
    """A dict on disk. Each method is one timed loop, written as a user of the package would write it."""

    def __init_subclass__(cls) -> None:
        """Give each class loops of its own, as its users have: Python adapts one to what it runs over."""
        for name in ('hit', 'get', 'has', 'write', 'length', 'delete'):
            loop = getattr(Contestant, name)
            if getattr(cls, name) is loop:
                setattr(cls, name, FunctionType(loop.__code__.replace(), loop.__globals__, name))

    def __init__(self, module: str, folder: Path) -> None:
        self.db: Any = self.open(module, folder)

    def open(self, module: str, folder: Path) -> Any:
        raise NotImplementedError

    def hit(self, keys: Iterable[str]) -> list[Any]:
        db = self.db
        return [db[key] for key in keys]

    def get(self, keys: Iterable[str]) -> list[Any]:
        db = self.db
        return [db.get(key) for key in keys]

    def has(self, keys: Iterable[str]) -> list[bool]:
        db = self.db
        return [key in db for key in keys]

    def put(self, entries: Entries) -> None:
        self.write(entries.items())

    def write(self, pairs: Pairs) -> None:
        db = self.db
        for key, value in pairs:
            db[key] = value

    def update(self, entries: Entries) -> None:
        self.db.update(entries)

    def block(self, entries: Entries) -> None:
        """Write one by one, a thousand in each transaction."""
        pairs = iter(entries.items())
        for _ in range(0, len(entries), BLOCK):
            self.transact(islice(pairs, BLOCK))

    def transact(self, pairs: Pairs) -> None:
        """Write one by one in one transaction. Who has no such thing is left out of that row."""
        raise NotImplementedError

    @property
    def has_transactions(self) -> bool:
        return type(self).transact is not Contestant.transact

    def items(self, _: Entries) -> list[tuple[Any, Any]]:
        return [(key, value) for key, value in self.db.items()]

    def keys(self, _: Entries) -> list[Any]:
        return list(self.db.keys())

    def length(self, times: Iterable[object]) -> list[int]:
        db = self.db
        return [len(db) for _ in times]

    def delete(self, keys: Iterable[str]) -> None:
        db = self.db
        for key in keys:
            del db[key]

    def close(self) -> None:
        self.db.close()


class Floor(Contestant):
    """The same loops by hand: nothing stands between the loop and the two C libraries.

    One cursor and one Packer are kept, because `Connection.execute` and `packb` make a new one at every call.
    """

    page_size = 4096  # bytes; a run sets it to what a vault's file says

    def open(self, module: str, folder: Path) -> Any:
        db = self.connect(module, str(folder / 'floor.db'))
        for statement in self.prepared():
            db.execute(statement)
        self.execute, self.pack = db.cursor().execute, msgpack.Packer().pack
        return db

    def connect(self, module: str, path: str) -> Any:
        return sqlite3.connect(path, isolation_level=None)

    def prepared(self) -> tuple[str, ...]:
        return (f'PRAGMA page_size = {self.page_size}', 'PRAGMA journal_mode = WAL', 'PRAGMA synchronous = NORMAL',
                'PRAGMA cache_size = -16384',  # KiB, as a vault has
                'CREATE TABLE entries (id INTEGER PRIMARY KEY, key NOT NULL UNIQUE, value BLOB NOT NULL)')

    def hit(self, keys: Iterable[str]) -> list[Any]:
        execute, unpackb = self.execute, msgpack.unpackb
        return [unpackb(execute(SELECT, (key,)).fetchone()[0]) for key in keys]

    def get(self, keys: Iterable[str]) -> list[Any]:
        execute, unpackb = self.execute, msgpack.unpackb
        rows = (execute(SELECT, (key,)).fetchone() for key in keys)
        return [None if row is None else unpackb(row[0]) for row in rows]

    def has(self, keys: Iterable[str]) -> list[bool]:
        execute = self.execute
        return [execute('SELECT 1 FROM entries WHERE key = ?', (key,)).fetchone() is not None for key in keys]

    def write(self, pairs: Pairs) -> None:
        execute, pack = self.execute, self.pack
        for key, value in pairs:
            execute(UPSERT, (key, pack(value)))

    def update(self, entries: Entries) -> None:
        self.build(entries.items())

    def transact(self, pairs: Pairs) -> None:
        self.execute('BEGIN IMMEDIATE')
        self.write(pairs)
        self.execute('COMMIT')

    def items(self, _: Entries) -> list[tuple[Any, Any]]:
        unpackb = msgpack.unpackb
        return [(key, unpackb(data)) for key, data in self.execute(ENTRIES)]

    def keys(self, _: Entries) -> list[Any]:
        return [key for key, in self.execute('SELECT key FROM entries ORDER BY id')]

    def length(self, times: Iterable[object]) -> list[int]:
        execute = self.execute
        return [execute('SELECT count(*) FROM entries').fetchone()[0] for _ in times]

    def delete(self, keys: Iterable[str]) -> None:
        execute = self.execute
        for key in keys:
            if not execute('DELETE FROM entries WHERE key = ?', (key,)).rowcount:
                raise KeyError(key)

    def build(self, pairs: Pairs) -> None:
        pack = self.pack
        self.execute('BEGIN IMMEDIATE')
        self.db.executemany(UPSERT, ((key, pack(value)) for key, value in pairs))
        self.execute('COMMIT')

    def walk(self) -> Iterator[tuple[str, Any]]:
        unpackb = msgpack.unpackb
        return ((key, unpackb(data)) for key, data in self.execute(ENTRIES))


class FloorApsw(Floor):
    """The same by APSW, with what it has for one row: `get` is the bare value of one column, or None."""

    def connect(self, module: str, path: str) -> Any:
        return import_module(module).Connection(path)

    def hit(self, keys: Iterable[str]) -> list[Any]:
        execute, unpackb = self.execute, msgpack.unpackb
        return [unpackb(execute(SELECT, (key,)).get) for key in keys]

    def get(self, keys: Iterable[str]) -> list[Any]:
        execute, unpackb = self.execute, msgpack.unpackb
        found = (execute(SELECT, (key,)).get for key in keys)
        return [None if data is None else unpackb(data) for data in found]

    def has(self, keys: Iterable[str]) -> list[bool]:
        execute = self.execute
        return [execute('SELECT 1 FROM entries WHERE key = ?', (key,)).get is not None for key in keys]

    def length(self, times: Iterable[object]) -> list[int]:
        execute = self.execute
        return [execute('SELECT count(*) FROM entries').get for _ in times]

    def delete(self, keys: Iterable[str]) -> None:
        execute, changes = self.execute, self.db.changes
        for key in keys:
            execute('DELETE FROM entries WHERE key = ?', (key,))
            if not changes():
                raise KeyError(key)


class Vaults(Contestant):
    """The package that all this is about, with its defaults."""

    def open(self, module: str, folder: Path) -> Any:
        return import_module(module).Vault(folder / 'vault.db')

    def transact(self, pairs: Pairs) -> None:
        with self.db:
            self.write(pairs)

    def build(self, pairs: Pairs) -> None:
        self.db.put_many(pairs)

    def walk(self) -> Iterator[tuple[str, Any]]:
        return iter(self.db.items())


def vault_with(driver: str, path: Path) -> Any:
    """Return a vault that is opened with the SQLite of a driver."""
    vaults = import_module('vaults')
    vaults.set_driver(driver)
    try:
        return vaults.Vault(path)
    finally:
        vaults.set_driver(None)


class VaultsApsw(Vaults):
    """With the other driver, each on a file of its own: the copies of SQLite do not see each other's locks."""

    def open(self, module: str, folder: Path) -> Any:
        return vault_with(module, folder / 'vault.db')


class VaultsReadCache(Vaults):
    """What was read is given again, as long as nobody has committed."""

    def open(self, module: str, folder: Path) -> Any:
        return import_module(module).Vault(folder / 'vault.db', read_cache=1000)


class VaultsWriteBack(Vaults):
    """Values as live objects: what is put is written at sync(), at the end of a block, and on close()."""

    def open(self, module: str, folder: Path) -> Any:
        return import_module(module).Vault(folder / 'writeback.db', writeback=True)


class Shelve(Contestant):
    """The standard library's shelf, on a dbm that is named: shelve.open would take the first that it finds."""

    writeback = False

    def open(self, module: str, folder: Path) -> Any:
        return shelve.Shelf(import_module(module).open(str(folder / module), 'c'), writeback=self.writeback)


class ShelveWriteBack(Shelve):
    """Its cache has no bound; what is put is written at once, and all that was read is written again on close()."""

    writeback = True


class SqliteDict(Contestant):
    """With autocommit=True, as by default nothing is kept before commit()."""

    def open(self, module: str, folder: Path) -> Any:
        return import_module(module).SqliteDict(str(folder / 'sqlitedict.db'), autocommit=True)

    def transact(self, pairs: Pairs) -> None:
        # Autocommit is settled at opening, so a transaction is a second SqliteDict on the same file.
        with type(self.db)(self.db.filename) as batch:
            for key, value in pairs:
                batch[key] = value
            batch.commit()


class DiskCache(Contestant):
    """A Cache has no update(), keys() or items(): these are the loops that stand for them."""

    def open(self, module: str, folder: Path) -> Any:
        return import_module(module).Cache(str(folder / 'diskcache'))

    def update(self, entries: Entries) -> None:
        self.transact(entries.items())

    def transact(self, pairs: Pairs) -> None:
        with self.db.transact():
            self.write(pairs)

    def items(self, _: Entries) -> list[tuple[Any, Any]]:
        db = self.db
        return [(key, db[key]) for key in db]

    def keys(self, _: Entries) -> list[Any]:
        return list(self.db)


class LiteDict(Contestant):
    """JSON values. Its update() commits every entry, so a batch goes through its transaction()."""

    def open(self, module: str, folder: Path) -> Any:
        return import_module(module).SQLDict(str(folder / 'litedict.db'))

    def update(self, entries: Entries) -> None:
        self.transact(entries.items())

    def transact(self, pairs: Pairs) -> None:
        with self.db.transaction():
            self.write(pairs)


class KohakuVault(Contestant):
    """Keys come back as bytes."""

    def open(self, module: str, folder: Path) -> Any:
        return import_module(module).KVault(str(folder / 'kohakuvault.db'))

    def transact(self, pairs: Pairs) -> None:
        # The nearest it has: the writes are held in memory and flushed at the end, but not undone by an exception.
        with self.db.cache():
            self.write(pairs)


class Lmdbm(Contestant):
    """By itself it takes only bytes: subclassed, as its README does for JSON, to carry text keys and msgpack."""

    def open(self, module: str, folder: Path) -> Any:
        codec = {'_pre_key': staticmethod(str.encode), '_post_key': staticmethod(bytes.decode),
                 '_pre_value': staticmethod(msgpack.Packer().pack), '_post_value': staticmethod(msgpack.unpackb)}
        kind: Any = type('MsgpackLmdb', (import_module(module).Lmdb,), codec)
        return kind.open(str(folder / 'lmdbm'), 'c')


def vault_page_size() -> int:
    """Return the page size, in bytes, of the file that a vault makes, so that the floor can have the same."""
    with TemporaryDirectory() as folder:
        Vaults('vaults', Path(folder)).close()
        db = sqlite3.connect(str(Path(folder) / 'vault.db'))
        size: int = db.execute('PRAGMA page_size').fetchone()[0]
        db.close()
    return size


class Spec(NamedTuple):
    """One contestant: what it needs, how it is used, and two promises without which a speed says little."""

    name: str
    kind: type[Contestant]
    module: str  # the import without which it is reported as missing
    durable: bool  # a value is there when the process is killed right after the write has returned
    shared: bool  # several processes may write at once, and nothing is lost
    how: str
    commits: int = 2000  # own commits in one measurement: fewer where each is slow


# The promises were tried on vaults and on each peer: 8 processes killed as they wrote (gdbm: 250), 4 writing at once.
SPECS = (
    Spec('floor', Floor, 'msgpack', True, True, 'sqlite3 and msgpack by hand; WAL, synchronous=NORMAL', PRECISE),
    Spec('floor, apsw', FloorApsw, 'apsw', True, True, 'apsw and msgpack by hand; the same', PRECISE),
    Spec('vaults', Vaults, 'vaults', True, True, 'defaults', PRECISE),
    Spec('vaults, apsw', VaultsApsw, 'apsw', True, True, "set_driver('apsw')", PRECISE),
    Spec('vaults, read cache', VaultsReadCache, 'vaults', True, True, 'read_cache=1000', PRECISE),
    Spec('vaults, write-back', VaultsWriteBack, 'vaults', False, True, 'writeback=True'),
    # Each call with autocommit waits until its writer thread has committed. synchronous=OFF, which cannot be changed,
    # survives a killed process, though not a power cut.
    Spec('sqlitedict', SqliteDict, 'sqlitedict', True, True, 'autocommit=True; pickle; synchronous=OFF', 500),
    # WAL and synchronous=NORMAL; a writer waits up to 60 seconds for the others.
    Spec('diskcache', DiskCache, 'diskcache', True, True, 'Cache, defaults; pickle'),
    # WAL and synchronous=NORMAL, each statement a commit; a writer waits up to 5 seconds.
    Spec('litedict', LiteDict, 'litedict', True, True, 'defaults; JSON', PRECISE),
    # WAL and synchronous=NORMAL. Its write-back cache, which a killed process loses, is off by default.
    Spec('kohakuvault', KohakuVault, 'kohakuvault', True, True, 'KVault, defaults; a block is its cache(), not atomic'),
    # WAL and SQLite's own synchronous=FULL, each statement a commit.
    Spec('shelve (dbm.sqlite3)', Shelve, 'dbm.sqlite3', True, True, 'defaults; pickle; an fsync per write', 50),
    # An fsync per commit. When one process makes the file grow, the others raise MapResizedError: its docstring warns.
    Spec('lmdbm', Lmdbm, 'lmdbm', True, False, 'defaults; msgpack; an fsync per write', 50),
    # 49 of 250 kills left a file that opens only as 'Database needs recovery'. A second writer cannot open it.
    Spec('shelve (dbm.gnu)', Shelve, 'dbm.gnu', False, False, 'defaults; pickle'),
    Spec('shelve (dbm.gnu), write-back', ShelveWriteBack, 'dbm.gnu', False, False, 'writeback=True; pickle'),
    # Where it is Berkeley DB underneath, as on Debian, pages stay in memory until closing: 99.9% of writes were lost.
    Spec('shelve (dbm.ndbm)', Shelve, 'dbm.ndbm', False, False, 'defaults; pickle'),
    # The index is in memory; after a kill the overwritten values read back as a slice of something else.
    Spec('shelve (dbm.dumb)', Shelve, 'dbm.dumb', False, False, 'defaults; pickle', 20),
)
