"""Kill imports at random moments, and measure the memory of moving in and out.

    python trials/moving.py [--rounds N] [--seed S] [--entries E]

An import goes into a vault that has entries already, some with the same keys, and is killed: the vault must pass its
`_check()` and be as it was, or, when it was already done, be whole. And processes that import and export E entries must
need hardly more memory than those that move a tenth: for each kind of source that streams. Prints a line of figures for
each; exits with 1 when a promise broke. By hand: --rounds 200 --entries 1000000.
"""
import argparse
import contextlib
import json
import pathlib
import pickle
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time

import msgpack

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


def kill_one(folder, source, count, rng):
    """Kill an import at a random moment; tell whether it was done."""
    path = pathlib.Path(folder, 'killed.db')
    shutil.copy(pathlib.Path(folder, 'before.db'), path)
    with subprocess.Popen([sys.executable, '-m', 'vaults', 'import', source, str(path)], stdout=subprocess.DEVNULL) as importing:
        time.sleep(rng.uniform(0.05, 0.05 + count / 25_000))
        importing.kill()
    with contextlib.closing(vaults.Vault(path)) as v:
        v._check()
        found = (len(v), v['mine'], v['user:1'])
        assert found in ((2, 1, 'old'), (count + 1, 1, {'id': 1, 'name': 'user 1', 'scores': [1, 1.5]})), found
    for suffix in ('', '-wal', '-shm'):
        with contextlib.suppress(FileNotFoundError):
            pathlib.Path(f'{path}{suffix}').unlink()
    return found[0] != 2


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--rounds', type=int, default=10)
    parser.add_argument('--seed', default='1')
    parser.add_argument('--entries', type=int, default=30_000)
    options = parser.parse_args()
    rng, done, began = random.Random(options.seed), 0, time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        with contextlib.closing(vaults.Vault(pathlib.Path(folder, 'before.db'))) as v:
            v.update({'mine': 1, 'user:1': 'old'})
        source = f'{folder}/source.jsonl'
        json_lines(source, 30_000)
        for number in range(options.rounds):
            try:
                done += kill_one(folder, source, 30_000, rng)
            except Exception as error:
                sys.exit(f'round {number} of seed {options.seed} broke a promise: {error!r}')
    print(f'{options.rounds} imports killed, {done} of them done before; each left all or nothing; {time.monotonic() - began:.1f} s')
    for kind in SOURCES:
        with tempfile.TemporaryDirectory() as folder:
            few, many = (measure(folder, kind, count) for count in (options.entries // 10, options.entries))
        print(f'{kind}: {options.entries:,} entries in and out with a peak of {many / 1000:.1f} MB, a tenth with {few / 1000:.1f} MB')
        if many - few > MORE + (CACHE if kind == 'vault' else 0):
            sys.exit(f'moving {kind} takes memory for each entry')


if __name__ == '__main__':
    main()
