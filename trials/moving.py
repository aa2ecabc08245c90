"""Measure the memory of moving in and out.

    python trials/moving.py [--rounds N] [--entries E] [--only KIND]

Processes that import and export E entries of two kilobytes must need hardly more memory than those that move half,
which SQLite's cache holds already: for each kind of source that streams. Nothing is drawn, so that --seed changes
nothing. Prints a line of figures; exits with 1 when a promise broke. By hand: --entries 1000000.
"""
import contextlib
import itertools
import json
import pathlib
import pickle
import resource
import sqlite3
import tempfile

import msgpack
from shared import IN_MEMORY
from shared.processes import as_role, role, run, tell
from shared.verdict import Trial

import vaults

MORE = 9_000  # KiB that twice as many entries may take, for Python's arenas


def entries(count):
    return ((f'user:{number}', {'id': number, 'name': f'user {number}', 'text': 'x' * 2000}) for number in range(count))


def write(path, lines):
    with open(path, 'w') as file:
        file.writelines(lines)


def table(path, schema, rows):
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute(f'CREATE TABLE {schema}')
        db.executemany(f'INSERT INTO {schema.split("(")[0]} VALUES (?, ?)', rows)


def kept(path, pairs):
    with contextlib.closing(vaults.Vault(path)) as v:
        v.put_many(pairs)


SOURCES = {  # how a file of each kind is made of entries
    'jsonlines': lambda path, pairs: write(path, (json.dumps({'key': key, 'value': value}) + '\n' for key, value in pairs)),
    'json': lambda path, pairs: write(path, itertools.chain(
        ['{"": 0'], (f',\n{json.dumps(key)}: {json.dumps(value)}' for key, value in itertools.islice(pairs, 1, None)), ['}'])),
    'csv': lambda path, pairs: write(path, itertools.chain(
        ['key,id,text\n'], (f'{key},{value["id"]},"{value["text"]}"\n' for key, value in pairs))),
    'sqlitedict': lambda path, pairs: table(path, 'unnamed(key TEXT PRIMARY KEY, value BLOB)', (
        (key, pickle.dumps(value)) for key, value in pairs)),
    'earlier vault': lambda path, pairs: table(path, 'dict(key BLOB, value BLOB)', (
        (b'M' + msgpack.packb(key), b'M' + msgpack.packb(value)) for key, value in pairs)),
    'vault': kept,
}


@role
def move(source, path):
    """Import and export; tell how many entries, and the peak of memory in KiB."""
    v = vaults.Vault(pathlib.Path(path))
    moved = vaults.moving.import_file(v, source, allow_pickle=True), vaults.moving.export(v, f'{source}.out')
    tell([*moved, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss])


def measure(kind, count):
    """Return the peak of memory, in KiB, of a process that imports and exports so many entries."""
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as folder:
        source = pathlib.Path(folder, 'source.csv' if kind == 'csv' else 'source')
        SOURCES[kind](source, entries(count))
        ended = run(as_role(move, source, f'{folder}/into.db'), hangs=600)
    (into, out, peak), = ended.lines or [(0, 0, ended.complaints)]
    assert into == out == count, f'{kind}: {into} in and {out} out of {count}, {peak}'
    return peak


def main():
    trial = Trial(__doc__, rounds=1)
    trial.parser.add_argument('--entries', type=int, default=16_000)
    trial.parser.add_argument('--only', choices=SOURCES, help='one kind of source alone')
    options, figures = trial.begin(), []
    for kind in ([options.only] if options.only else [*SOURCES]) * options.rounds:
        few, many = (measure(kind, count) for count in (options.entries // 2, options.entries))
        figures.append(f'{kind} {few / 1000:.1f} and {many / 1000:.1f} MB')
        if many - few > MORE:
            trial.broke(f'moving {kind} takes memory for each entry: {figures[-1]}')
    trial.end(f'{options.entries // 2:,} and {options.entries:,} entries moved in and out, with peaks of {"; ".join(figures)}')


if __name__ == '__main__':
    main()
