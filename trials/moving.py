"""Measure the memory of moving in and out. (kill.py kills imports.)

    python trials/moving.py [--rounds N] [--entries E]

Processes that import and export E entries must need hardly more memory than those that move a tenth: for each kind of
source that streams. Nothing is drawn, so that --seed changes nothing. Prints a line of figures; exits with 1 when a
promise broke. By hand: --entries 1000000.
"""
import contextlib
import json
import pathlib
import pickle
import sqlite3
import subprocess
import sys
import tempfile

import msgpack
from shared.verdict import Trial

import vaults

MORE = 12_000  # KiB that ten times as many entries may take, for SQLite's cache and Python's arenas;
CACHE = 16_000  # and for that of the source, when it is a vault
MEASURED = '''
import pathlib, resource, sys, vaults
source, path = sys.argv[1:]
v = vaults.Vault(pathlib.Path(path))
print(vaults.moving.import_file(v, source, allow_pickle=True), vaults.moving.export(v, source + '.out'), end=' ')
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
'''


def entries(count):
    return ((f'user:{number}', {'id': number, 'name': f'user {number}', 'scores': [number, 1.5]}) for number in range(count))


def json_lines(path, count):
    with open(path, 'w') as file:
        file.writelines(json.dumps({'key': key, 'value': value}) + '\n' for key, value in entries(count))


def json_object(path, count):
    with open(path, 'w') as file:
        file.write('{"": 0')
        file.writelines(f',\n{json.dumps(key)}: {json.dumps(value)}' for key, value in entries(count - 1))
        file.write('}')


def csv(path, count):
    with open(path, 'w') as file:
        file.write('key,id,name\n')
        file.writelines(f'{key},{value["id"]},"{value["name"]}"\n' for key, value in entries(count))


def table(path, schema, rows):
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute(f'CREATE TABLE {schema}')
        db.executemany(f'INSERT INTO {schema.split("(")[0]} VALUES (?, ?)', rows)


def sqlitedict(path, count):
    table(path, 'unnamed(key TEXT PRIMARY KEY, value BLOB)', ((key, pickle.dumps(value)) for key, value in entries(count)))


def earlier(path, count):
    table(path, 'dict(key BLOB, value BLOB)', ((b'M' + msgpack.packb(key), b'M' + msgpack.packb(value)) for key, value in entries(count)))


def kept(path, count):
    with contextlib.closing(vaults.Vault(pathlib.Path(path))) as v:
        v.put_many(entries(count))


SOURCES = {'jsonlines': json_lines, 'json': json_object, 'csv': csv, 'sqlitedict': sqlitedict, 'earlier vault': earlier,
           'vault': kept}


def measure(folder, kind, count):
    """Return the peak of memory, in KiB, of a process that imports and exports so many entries."""
    source = f'{folder}/{kind}-{count}'.replace(' ', '-') + ('.csv' if kind == 'csv' else '')
    SOURCES[kind](source, count)
    done = subprocess.run([sys.executable, '-c', MEASURED, source, f'{folder}/into.db'], stdout=subprocess.PIPE, check=True)
    into, out, peak = map(int, done.stdout.split())
    assert into == out == count, f'{kind}: {into} in and {out} out of {count}'
    for path in pathlib.Path(folder).glob('*'):
        path.unlink()
    return peak


def main():
    trial = Trial(__doc__, rounds=1)
    trial.parser.add_argument('--entries', type=int, default=30_000)
    options = trial.begin()
    figures = []
    for kind in [*SOURCES] * options.rounds:
        with tempfile.TemporaryDirectory() as folder:
            few, many = (measure(folder, kind, count) for count in (options.entries // 10, options.entries))
        figures.append(f'{kind} {few / 1000:.1f} and {many / 1000:.1f} MB')
        if many - few > MORE + (CACHE if kind == 'vault' else 0):
            trial.broke(f'moving {kind} takes memory for each entry')
    trial.end(f'{options.entries // 10:,} and {options.entries:,} entries moved in and out, with peaks of {"; ".join(figures)}')


if __name__ == '__main__':
    main()
