"""Time columns, lists and streams against kohakuvault, streams against shutil.copyfile, arrays and frames against
kohakuvault, sqlite3 and diskcache; write docs/performance.md.

    pip install -e '.[bench]'                  # kohakuvault
    python benchmarks/large.py                 # a few minutes, 5 GB of disk; prints the tables and writes them
    python benchmarks/large.py --quick         # seconds, writes nothing: for CI

As in run.py, contestants take turns within a round, in random order, on fresh files, and a time is the median of the
rounds. What was read is compared with what was written, outside the time taken. A stream begins with nothing left to be
written to the disk; what it takes still varies by a factor of two with the memory that the system has free for files.
"""

from __future__ import annotations

import argparse
import gc
import os
import pickle
import random
import shutil
import sys
import time
import zlib
from collections import defaultdict
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from contestants import vault_with
from run import OURS_APSW as APSW
from run import ROOT, finish, machine, micro, seconds_for, table

if TYPE_CHECKING:  # as Python 3.8 cannot subscript these
    from collections.abc import Callable, Iterator

    Times = defaultdict[str, defaultdict[str, list[float]]]  # operation -> contestant -> seconds, by round
    Maker = Callable[[str], tuple[Any, Callable[[], Any]]]  # of a kind: a column or list, and what a block of it is

PIECE = 1 << 20
CHANCE = random.Random(2026)
KINDS: dict[str, Callable[[int], Any]] = {
    'int64': lambda number: number * 7, 'float64': lambda number: number * 0.5,
    'S16': lambda number: b'item %011d' % number,
    'bytes': lambda number: b'x' * (number % 61 + 3), 'str': lambda number: f'name {number} ' * (number % 5 + 1),
    'msgpack': lambda number: {'id': number, 'name': f'name {number}', 'score': number * 0.5}}
KOHAKU = {'int64': 'i64', 'float64': 'f64', 'S16': 'bytes:16'}  # the others are called so
FIXED = tuple(KOHAKU)
FACTS = [
    ('', 'vaults', 'kohakuvault, ColumnVault'),
    ('a call survives a kill when it has returned', 'yes', 'yes, outside of its cache()'),
    ('a block', 'a transaction: all of it or nothing, other vaults see none of it before its end',
     'its cache(): in memory, written every 1 MB and at its end, also after an exception; a kill loses what waits'),
    ('a checksum of what is read', 'yes', 'no'),
]


def importable() -> bool:
    try:
        import kohakuvault  # noqa: F401
    except ImportError:
        print("Missing: kohakuvault. From PyPI: pip install -e '.[bench]'", file=sys.stderr)
        return False
    return True


# Columns and lists.

def ours(folder: Path, driver: str = 'sqlite3') -> Maker:
    vault = vault_with(driver, folder / f'{driver}.db')
    return lambda kind: (vault.column(kind, kind) if kind in FIXED else vault.list(kind), lambda: vault)


def theirs(folder: Path) -> Maker:
    import kohakuvault

    vault = kohakuvault.ColumnVault(str(folder / 'kohakuvault.db'))

    def make(kind: str) -> tuple[Any, Callable[[], Any]]:
        column = vault.create_column(kind, KOHAKU.get(kind, kind))
        return column, column.cache
    return make


def plain(part: Any) -> list[Any]:
    """Return a slice as a list: one of bytes of a fixed size is a memoryview of rows."""
    return [bytes(row).rstrip(b'\0') for row in part.tolist()] if isinstance(part, memoryview) else list(part)


def clocked(act: Callable[[Any], Any], one: Any) -> tuple[Any, float]:
    start = time.perf_counter()
    got = act(one)
    return got, time.perf_counter() - start


def sequence_round(makers: dict[str, Callable[[Path], Maker]], count: int, singles: int, times: Times) -> None:
    with TemporaryDirectory() as name:
        make = {who: maker(Path(name)) for who, maker in makers.items()}
        for kind, item in KINDS.items():
            items = [item(number) for number in range(count)]
            places = [CHANCE.randrange(count - 100) for _ in range(singles)]
            made = {who: make[who](kind) for who in make}
            appended = [items[at] for at in places]

            def extend(one: Any, block: Any, items: Any = items) -> Any:
                one.extend(items)

            def read(one: Any, block: Any, places: Any = places) -> Any:
                return [one[at] for at in places]

            def cut(one: Any, block: Any, places: Any = places) -> Any:
                return [one[at:at + 100] for at in places[:singles // 5]]

            def append(one: Any, block: Any, appended: Any = appended) -> Any:
                for item in appended:
                    one.append(item)

            def append_many(one: Any, block: Any, append: Any = append) -> Any:
                with block():
                    append(one, block)

            def walk(one: Any, block: Any) -> Any:
                return [item for item in one]  # noqa: C416  # what a program does that looks at each
            for label, act, many, expected in (
                    ('extend, an item', extend, count, None),
                    ('one item', read, singles, appended),
                    ('a slice of 100', cut, singles // 5, [items[at:at + 100] for at in places[:singles // 5]]),
                    ('append one', append, singles, None),
                    (f'append one of {singles:,} in a block', append_many, singles, None),
                    ('walk, an item', walk, count + 2 * singles, [*items, *appended, *appended])):
                for who, one in CHANCE.sample(sorted(made.items()), len(made)):
                    got, seconds = clocked(lambda both, act=act: act(*both), one)
                    times[f'{kind}: {label}'][who].append(seconds / many)
                    if expected is not None and (
                            [plain(part) for part in got] if label == 'a slice of 100' else got) != expected:
                        raise SystemExit(f'{who}: a wrong answer at {kind}: {label}')


# Streams.

def copied(source: Path, target: Path) -> None:
    """Do the least there is to do: copy the file, and take the CRC of what is in it."""
    shutil.copyfile(source, target)
    crc = 0
    with open(source, 'rb') as file:
        for piece in pieces(file):
            crc = zlib.crc32(piece, crc)


def pieces(file: Any) -> Iterator[bytes]:
    return iter(lambda: file.read(PIECE), b'')


def stream_round(with_kohaku: bool, source: Path, times: Times) -> None:
    import vaults

    with TemporaryDirectory(dir=source.parent) as name:
        folder = Path(name)
        vault = vaults.Vault(folder / 'vaults.db')
        acts: list[tuple[str, str, Callable[[], Any]]] = [
            ('write', 'copyfile and CRC', lambda: copied(source, folder / 'copy')),
            ('write', 'vaults', lambda: vault.put_file('file', source)),
            ('read', 'copyfile and CRC', lambda: copied(source, folder / 'copy')),
            ('read', 'vaults', lambda: vault.get_file('file', folder / 'out'))]
        if with_kohaku:
            import kohakuvault
            other = kohakuvault.KVault(str(folder / 'kohakuvault.db'))

            def put() -> None:
                with open(source, 'rb') as file:
                    other.put_file('file', file)

            def get() -> None:
                with open(folder / 'theirs', 'wb') as file:
                    other.get_to_file('file', file)
            acts += [('write', 'kohakuvault', put), ('read', 'kohakuvault', get)]
        for verb in ('write', 'read'):
            mine = [act for act in acts if act[0] == verb]
            for _, who, act in CHANCE.sample(mine, len(mine)):
                getattr(os, 'sync', bool)()  # or who syncs waits for what another has left to be written
                times[verb][who].append(seconds_for(act))
        with open(folder / 'out', 'rb') as out, open(source, 'rb') as file:
            if any(one != other for one, other in zip(pieces(out), pieces(file))) or out.tell() != file.tell():
                raise SystemExit('a stream came back wrong')


def make_file(path: Path, size: int) -> None:
    with open(path, 'wb') as file:
        for at in range(0, size, PIECE):
            file.write(CHANCE.getrandbits(8 * PIECE).to_bytes(PIECE, 'big')[:size - at])


# Arrays and frames.

class Floor:
    """Bytes inserted by hand with the pragmas of a vault, and the log moved, as a vault does."""

    def __init__(self, path: Path) -> None:
        import sqlite3
        self.run = sqlite3.connect(path, isolation_level=None).execute
        for pragma in ('journal_mode = WAL', 'synchronous = NORMAL', 'cache_size = -16384', 'wal_autocheckpoint = 0'):
            self.run(f'PRAGMA {pragma}')
        self.run('CREATE TABLE entries (id INTEGER PRIMARY KEY, key NOT NULL UNIQUE, value BLOB NOT NULL, crc INTEGER)')

    def __setitem__(self, key: str, value: Any) -> None:
        self.run('INSERT INTO entries(key, value, crc) VALUES (?, ?, 1)', (key, value))
        self.run('PRAGMA wal_checkpoint(PASSIVE)').fetchall()

    def __getitem__(self, key: str) -> Any:
        return self.run('SELECT value, crc FROM entries WHERE key = ?', (key,)).fetchone()[0]


def values_round(with_kohaku: bool, items: int, times: Times) -> None:
    """Time an array of 8 bytes an item and a frame of half of it, going in and out. Without the packages, nothing."""
    try:
        import diskcache
        import numpy
        import pandas
    except ImportError as error:
        print(f'{error}: arrays and frames are left out', file=sys.stderr)
        return
    import vaults

    array = numpy.random.default_rng(2026).random(items)
    frame = pandas.DataFrame({name: array[:items // 10] + place for place, name in enumerate('abcde')})
    with TemporaryDirectory() as name:
        folder = Path(name)
        both: dict[str, Any] = {'vaults': vaults.Vault(folder / 'vaults.db')}
        if with_kohaku:
            import kohakuvault
            both['kohakuvault'] = kohakuvault.KVault(str(folder / 'kohakuvault.db'))
        both['sqlite3'] = Floor(folder / 'floor.db')
        for label, value, raw, others in (
                ('an array', array, array.tobytes(), {}),
                ('a frame', frame, pickle.dumps(frame), {'diskcache': diskcache.Cache(str(folder / 'cache'))})):
            places = {**both, **others}
            label = f'{label} of {value.size * 8 / 1e6:,.0f} MB'
            for who, place in CHANCE.sample(sorted(places.items()), len(places)):
                one = raw if who == 'sqlite3' else value
                _, seconds = clocked(lambda one, place=place, label=label: place.__setitem__(label, one), one)
                times[f'{label} in'][who].append(seconds)
                got, seconds = clocked(place.__getitem__, label)
                times[f'{label} out'][who].append(seconds)
                if got != raw if who == 'sqlite3' else not (got == value).all(axis=None):
                    raise SystemExit(f'{who}: {label} came back wrong')
                del got
    small = frame.head(10).copy()
    for who, dumps, loads in CHANCE.sample([('vaults', vaults.dumps, vaults.loads),
                                            ('pickle', pickle.dumps, pickle.loads)], 2):
        loads(dumps(small))  # the first of each imports what it needs
        gc.collect()         # which takes 50 ms, of whoever it meets, where pandas is loaded
        gc.disable()
        many, seconds = clocked(lambda small, dumps=dumps: [dumps(small) for _ in range(100)], small)
        times['a frame of 10 rows to bytes'][who].append(seconds / 100)
        _, seconds = clocked(lambda many, loads=loads: [loads(one) for one in many], many)
        times['a frame of 10 rows from bytes'][who].append(seconds / 100)
        gc.enable()


# How they grow.

def event(number: int) -> dict[str, Any]:
    return {'id': number, 'event': 'something happened'}


def growth(largest: int, singles: int) -> str:
    import vaults

    rows = [('items', 'append one', 'one item at random')]
    found = []
    with TemporaryDirectory() as name:
        log = vaults.Vault(Path(name) / 'growth.db').list('log')
        for size in (min(10_000, largest), largest):
            log.extend(map(event, range(len(log), size)))
            places = [CHANCE.randrange(size) for _ in range(singles)]
            _, append = clocked(lambda places: [log.append(event(at)) for at in places], places)
            _, read = clocked(lambda places: [log[at] for at in places], places)
            found.append((append / singles, read / singles))
            rows.append((f'{size:,}', *map(micro, found[-1])))
    ratios = [after / before for before, after in zip(*found)]
    return (f'{table(rows)}\n\nAt {largest:,} items an append takes {ratios[0]:.2f} times as long as at 10,000, one '
            f'item {ratios[1]:.2f} times; at most 2.')


# What is said of it.

def sequences_said(times: Times, items: int) -> str:
    whom = [who for who in ('vaults', APSW) if who in next(iter(times.values()))]
    rows = [(f'operation, {items:,} items', 'kohakuvault', *(said for who in whom for said in (who, 'times faster')))]
    for label, by in times.items():
        other = by.get('kohakuvault', [])
        rows.append((label, micro(median(other)) if other else '-', *(
            said for who in whom for said in (micro(median(by[who])), faster(by[who], other)))))
    return table(rows)


def faster(mine: list[float], other: list[float]) -> str:
    return f'{median(b / a for a, b in zip(mine, other)):.2f}' if other else '-'


def values_said(times: Times) -> str:
    rows = [('operation, compared with, ms', 'vaults', 'the other', 'times as long')]
    for label, by in times.items():
        mine = by['vaults']
        for who, other in sorted(by.items()):
            if who != 'vaults':
                rows.append((f'{label}, {who}', f'{median(mine) * 1e3:,.2f}', f'{median(other) * 1e3:,.2f}',
                             f'{median(a / b for a, b in zip(mine, other)):.2f}'))
    return table(rows)


def streams_said(times: Times, size: int) -> str:
    rows = [(f'a file of {size / 1e9:.2f} GB, MB/s', 'copyfile and CRC', 'vaults', 'kohakuvault',
             'of copyfile and CRC', 'times kohakuvault')]
    for verb, by in times.items():
        floor, mine, other = by['copyfile and CRC'], by['vaults'], by.get('kohakuvault', [])
        rows.append((verb, *(f'{size / 1e6 / median(one):,.0f}' if one else '-' for one in (floor, mine, other)),
                     faster(mine, floor), faster(mine, other)))
    return table(rows)


def main() -> None:
    sys.path.insert(0, str(ROOT))  # this checkout, not a vaults that is installed
    parser = argparse.ArgumentParser(description=(__doc__ or '').split('\n')[0])
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--items', type=int, default=1_000_000)
    parser.add_argument('--bytes', type=int, default=950 << 20, help='kohakuvault takes less than 1 GB')
    parser.add_argument('--largest', type=int, default=10_000_000)
    parser.add_argument('--folder', type=Path, help='where the file of the streams is made, on the disk to be measured')
    parser.add_argument('--quick', action='store_true', help='small sizes, write nothing')
    parser.add_argument('--no-write', action='store_true', help='only print')
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.items, options.bytes, options.largest = 1, 20_000, 8 * PIECE, 30_000
    kohaku = importable()
    makers = {'vaults': ours, **({APSW: partial(ours, driver='apsw')} if find_spec('apsw') else {}),
              **({'kohakuvault': theirs} if kohaku else {})}
    sequences: Times = defaultdict(lambda: defaultdict(list))
    streams: Times = defaultdict(lambda: defaultdict(list))
    values: Times = defaultdict(lambda: defaultdict(list))
    with TemporaryDirectory(dir=options.folder) as name:
        source = Path(name) / 'source'
        make_file(source, options.bytes)
        for _ in range(options.rounds):
            sequence_round(makers, options.items, 1000 if options.quick else 20_000, sequences)
            stream_round(kohaku, source, streams)
            values_round(kohaku, 100_000 if options.quick else 10_000_000, values)
    grown = growth(options.largest, 1000 if options.quick else 20_000)
    body = (f'{machine()} {options.rounds} rounds, medians. Columns and lists in microseconds, streams in MB per '
            f'second.\n\n{sequences_said(sequences, options.items)}\n\n{table(FACTS, str.ljust)}\n\n'
            f'{streams_said(streams, options.bytes)}\n\n'
            f'Arrays and frames:\n\n{values_said(values)}\n\n'
            f'How a list grows, in microseconds:\n\n{grown}')
    finish('large', body, options)


if __name__ == '__main__':
    main()
