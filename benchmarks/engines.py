"""Time vaults over other engines than SQLite against hand-written loops; write their tables into docs/performance.md.

    pip install -e '.[postgres]'
    python benchmarks/engines.py            # some minutes; prints the tables and writes them
    python benchmarks/engines.py --quick    # some seconds, writes nothing: for CI
    python benchmarks/engines.py --scale    # how a vault on PostgreSQL grows, from 10 thousand entries to 2 million

PostgreSQL is a server of its own on loopback that waits for no disk, which leaves the larger part to the client. The
floor is psycopg and msgpack by hand, with the same tables, of entries and of how many there are, and with prepared
statements; it takes no checksums, and two such programs may lose each other's changes. Once all is put, both tables are
vacuumed, which the server would do by itself within a minute, beside whoever is measured then. A JSON file is timed
beside `json` itself. Who is timed takes its turn at each operation, in random order, for a number of rounds; a ratio is
the median of the ratios within each round.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgpack
from contestants import BLOCK, Contestant, Vaults
from run import (
    ROOT,
    Operation,
    absent,
    clock,
    command_line,
    compare_two,
    finish,
    machine,
    micro,
    pairs,
    pick,
    play_rounds,
    table,
    was_read,
    was_written,
    were_items,
)

sys.path.insert(0, str(ROOT))  # this checkout, not a vaults that is installed

from spec.servers import MissingServerError, Server, server_programs
from vaults import Vault

if TYPE_CHECKING:  # as Python 3.8 cannot subscript these
    from collections.abc import Iterable

    Entries = dict[str, Any]

FLOOR, OURS = 'by hand', 'vaults'
MANY = 4096   # rows in a statement by unnest
CREATE = '''
CREATE SEQUENCE {0}_positions;
CREATE TABLE {0} (
    vault bigint NOT NULL, position bigint NOT NULL DEFAULT nextval('{0}_positions'), crc bigint, key bytea NOT NULL,
    value bytea NOT NULL, PRIMARY KEY (vault, key), UNIQUE (vault, position)) WITH (fillfactor = 90);
ALTER TABLE {0} ALTER key SET STORAGE PLAIN, ALTER value SET STORAGE EXTERNAL;
CREATE TABLE {0}_count (vault bigint PRIMARY KEY, entries bigint) WITH (fillfactor = 20);
INSERT INTO {0}_count VALUES (1, 0)'''
GET = 'SELECT value FROM {0} WHERE vault = 1 AND key = %b'
HAS = 'SELECT 1 FROM {0} WHERE vault = 1 AND key = %b'
ITEMS = 'SELECT key, value FROM {0} WHERE vault = 1 ORDER BY position'
COUNT = 'UPDATE {0}_count SET entries = entries + %b WHERE vault = 1'
UPSERT = 'ON CONFLICT (vault, key) DO UPDATE SET value = excluded.value RETURNING (xmax = 0)::integer AS is_new'
PUT = 'INSERT INTO {0} (vault, key, value) VALUES (1, %b, %b) ' + UPSERT
OWN_PUT = f'''WITH put AS ({PUT})
    UPDATE {{0}}_count SET entries = entries + 1 FROM put WHERE vault = 1 AND is_new = 1'''
PUT_MANY = f'''WITH put AS (INSERT INTO {{0}} (vault, key, value)
    SELECT 1, key, value FROM unnest(%b::bytea[], %b::bytea[]) AS new (key, value) {UPSERT})
    UPDATE {{0}}_count SET entries = entries + (SELECT sum(is_new) FROM put) WHERE vault = 1'''
DELETE = '''WITH gone AS (DELETE FROM {0} WHERE vault = 1 AND key = %b RETURNING 1)
    UPDATE {0}_count SET entries = entries - 1 FROM gone WHERE vault = 1'''


# Who is timed.

class ByHand(Contestant):
    """psycopg and msgpack. Each statement is prepared, and one cursor kept, as a new one takes its time."""

    count = itertools.count(1)

    def open(self, module: str, folder: Any) -> Any:
        import psycopg

        db = psycopg.connect(folder.url(module), autocommit=True, prepare_threshold=0)
        name = f'entries{next(self.count)}'
        db.execute(CREATE.format(name), prepare=False)
        self.sql = {one: one.format(name) for one in (GET, HAS, ITEMS, COUNT, PUT, OWN_PUT, PUT_MANY, DELETE)}
        self.cursor = db.cursor(binary=True)
        self.pack = msgpack.Packer().pack
        return db

    def hit(self, keys: Iterable[str]) -> list[Any]:
        execute, unpackb, sql = self.cursor.execute, msgpack.unpackb, self.sql[GET]
        return [unpackb(execute(sql, (key.encode(),)).fetchone()[0]) for key in keys]

    def has(self, keys: Iterable[str]) -> list[bool]:
        execute, sql = self.cursor.execute, self.sql[HAS]
        return [execute(sql, (key.encode(),)).fetchone() is not None for key in keys]

    def write(self, pairs: Any) -> None:
        execute, pack, sql = self.cursor.execute, self.pack, self.sql[OWN_PUT]
        for key, value in pairs:
            execute(sql, (key.encode(), pack(value)))

    def transact(self, pairs: Any) -> None:
        execute, pack, sql, new = self.cursor.execute, self.pack, self.sql[PUT], 0
        with self.db.transaction():
            for key, value in pairs:
                new += execute(sql, (key.encode(), pack(value))).fetchone()[0]
            execute(self.sql[COUNT], (new,))

    def build(self, pairs: Any) -> None:
        execute, pack, sql = self.cursor.execute, self.pack, self.sql[PUT_MANY]
        left = iter(pairs)
        with self.db.transaction():
            for rows in iter(lambda: list(itertools.islice(left, MANY)), []):
                execute(sql, ([key.encode() for key, _ in rows], [pack(value) for _, value in rows]))

    def update(self, entries: Any) -> None:
        self.build(entries.items())

    def items(self, _: Any) -> list[tuple[Any, Any]]:
        unpackb = msgpack.unpackb
        with self.db.transaction(), self.db.cursor('walk', binary=True) as cursor:
            cursor.itersize = MANY
            cursor.execute(self.sql[ITEMS])
            return [(key.decode(), unpackb(value)) for key, value in cursor]

    def delete(self, keys: Iterable[str]) -> None:
        execute, sql = self.cursor.execute, self.sql[DELETE]
        for key in keys:
            if not execute(sql, (key.encode(),)).rowcount:
                raise KeyError(key)


class OverPostgres(Vaults):
    """A vault over PostgreSQL."""

    def open(self, module: str, folder: Any) -> Any:
        self.database = module
        return Vault(folder.vault(module))


class JsonByHand(Contestant):
    """A dict that is read from a JSON file as a whole, and written as a whole, under another name until it is there."""

    def open(self, module: str, folder: Path) -> Any:
        self.path = folder / 'by-hand.json'
        return {}

    def sync(self, entries: Entries) -> None:
        self.db.update(entries)
        part = self.path.with_suffix('.part')
        with open(part, 'w', encoding='utf-8') as file:
            json.dump(self.db, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, self.path)

    def load(self, entries: Entries) -> list[Any]:
        with open(self.path, encoding='utf-8') as file:
            self.db = json.load(file)
        return list(self.db.values())

    def hit(self, keys: Iterable[str]) -> list[Any]:
        return [self.db[key] for key in keys]

    def close(self) -> None:
        pass


class JsonVault(JsonByHand):
    """A vault in a JSON file."""

    def open(self, module: str, folder: Path) -> Any:
        self.url = f'json+file://{folder}/vault.json'
        return Vault(self.url)

    def sync(self, entries: Entries) -> None:
        self.db.update(entries)
        self.db.sync()

    def load(self, entries: Entries) -> list[Any]:
        self.db.close()
        self.db = Vault(self.url)
        return list(self.db.values())

    def close(self) -> None:
        self.db.close()


# What is done.

POSTGRES = (
    Operation('put_many() of all', 2.50, 'update', lambda s: s.entries, was_written),
    Operation('v[k]', 1.00, 'hit', lambda s: s.known, was_read),
    Operation('k in v', 1.00, 'has', lambda s: dict.fromkeys(s.known, True), was_read),
    Operation('for k, x in v.items()', 1.60, 'items', lambda s: s.entries, were_items),
    Operation('v[k] = x, overwrite', 1.25, 'put', lambda s: s.changed, was_written),
    Operation('v[k] = x, new key', 1.25, 'put', lambda s: s.new, was_written),
    Operation(f'with v: {BLOCK:,} writes', 1.35, 'block', lambda s: s.block, was_written),
    Operation('del v[k]', None, 'delete', lambda s: s.new, lambda contestant, work, got: not any(contestant.has(work))),
)
JSON = (
    Operation('all put, and sync()', None, 'sync', lambda s: s.entries, was_written),
    Operation('opening, and all values', None, 'load', lambda s: s.entries, was_read),
    Operation('one put, and sync()', None, 'sync', lambda s: dict(itertools.islice(s.changed.items(), 1)), was_written),
)


def time_postgres(server: Any, entries: int, rounds: int) -> str:
    def opened(_: Path) -> dict[str, Any]:
        database = server.database()  # empty, so that both are as large
        return {FLOOR: ByHand(database, server), OURS: OverPostgres(database, server)}

    def settle(contestants: dict[str, Any]) -> None:
        server.sql('VACUUM ANALYZE', database=contestants[OURS].database)

    times = play_rounds(POSTGRES, opened, entries, rounds, settle)
    return (f'{version_of(server)}: {entries:,} entries, medians of {rounds} rounds, in microseconds per operation.\n\n'
            f'{compare_two(POSTGRES, times, FLOOR, OURS)}')


def version_of(server: Any) -> str:
    import psycopg

    (said,), = server.sql('SHOW server_version')
    return f'PostgreSQL {said.split()[0]}, psycopg {psycopg.__version__} ({psycopg.pq.__impl__})'


def time_json(entries: int, rounds: int) -> str:
    times = play_rounds(JSON, lambda folder: {FLOOR: JsonByHand('', folder), OURS: JsonVault('', folder)},
                        entries, rounds)
    return (f'A JSON file: {entries:,} entries, medians of {rounds} rounds, in microseconds per entry that is put or '
            f'read.\n\n{compare_two(JSON, times, FLOOR, OURS)}')


# How it grows.

SIZES = (10_000, 100_000, 1_000_000, 2_000_000)
LOOKS = 80  # so many times each, as a machine does other things as well
RELATIONS = '''SELECT relname, pg_relation_size(oid) FROM pg_class WHERE relkind IN ('r', 'i') AND relnamespace NOT IN
    ('pg_catalog'::regnamespace, 'pg_toast'::regnamespace, 'information_schema'::regnamespace)'''


def grow(server: Any, largest: int) -> str:
    """Fill vaults of several sizes, and say how long each thing takes there, and how many bytes an entry takes.

    What takes little is done on all of them in turn, and the smallest time of each counts.
    """
    sizes = [size for size in SIZES if size <= largest]
    contestants = {size: OverPostgres(server.database(), server) for size in sizes}
    taken = {size: [timed(lambda size=size: contestants[size].db.put_many(pairs(0, size))) / size] for size in sizes}
    space = {size: occupied(server, contestants[size].database) / size for size in sizes}
    operations = [next(row for row in POSTGRES if row.method == method) for method in ('hit', 'has', 'put')]
    best: dict[int, dict[int, float]] = {size: {} for size in sizes}
    for _ in range(LOOKS):
        for size, one in contestants.items():
            works = pick(size, 100), absent(size, 100), pick(size, 100)
            found = [clock(operation, one, work) for operation, work in zip(operations, works)]
            found.append(timed(lambda one=one: len(one.db)))
            for column, seconds in enumerate(found):
                best[size][column] = min(best[size].get(column, 9e9), seconds)
    rows: Any = [('entries', 'put_many', 'v[k]', 'k in v, miss', 'v[k] = x', 'len(v)', 'items()', 'bytes an entry')]
    for size, one in contestants.items():
        taken[size] += [*best[size].values(), timed(lambda one=one: sum(1 for _ in one.db.items())) / size]
        rows.append((f'{size:,}', *map(micro, taken[size]), f'{space[size]:.0f}'))
        one.close()
    return (f'{version_of(server)}: microseconds per operation, on random keys, minima of {LOOKS}; per entry for '
            f'put_many and items(), once.\n\n{table(rows)}')


def occupied(server: Any, database: str) -> int:
    """Return the bytes of the tables and indexes of a database that has been looked after."""
    server.sql('VACUUM ANALYZE', database=database)
    sizes = dict(server.sql(RELATIONS, database=database))
    print(f'{database}: {sizes}', file=sys.stderr)
    return sum(sizes.values())


def timed(run: Any) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


# The command line.

def main() -> None:
    options = command_line(__doc__, 100_000, 9, (2_000, 2),
                           scale={'action': 'store_true', 'help': 'how a vault on PostgreSQL grows'},
                           max={'type': int, 'default': SIZES[-1], 'help': 'the most entries of --scale'})
    entries, rounds = options.entries, options.rounds
    try:
        server_programs()
    except MissingServerError as missing:
        print(f'PostgreSQL is left out: {missing}')
        server = None
    else:
        server = Server()
    if options.scale and server:
        finish('engines-scale', f'{machine()}\n{grow(server, options.max)}', options, 'scale.md')
    elif not options.scale:
        parts = [*([time_postgres(server, entries, rounds)] if server else []), time_json(entries // 10, rounds)]
        ratios = f'{machine()} A ratio is the median of the ratios within each round.'
        finish('engines', '\n\n'.join([ratios, *parts]), options)


if __name__ == '__main__':
    main()
