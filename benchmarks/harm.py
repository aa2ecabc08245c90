"""Do to any store what the trials do to a vault, and count what is lost: the tables of peers in docs/reliability.md.

    python benchmarks/harm.py kill|cut|rot|crowd [--store NAME] [--rounds N] [--seed S]

Nothing here can fail: other stores promise us nothing, so what they lose is a figure, and so it is of a vault, which
takes the same harm with `--store vaults`, the default. What a vault promises, and more harm, is in trials/.

kill: a writer of a new file puts, overwrites and deletes small values under text keys, and is killed. The acknowledged
writes are counted that are not there afterwards, and the files that do not open, or cannot be walked.
cut: the power of such a writer is cut, as trials/power.py does it; the sync of a file makes its name last too, as most
file systems have it.
rot: a byte is changed in a file of 300 entries, and all of it is read in a process whose death is seen.
crowd: processes put keys of their own and count together, in transactions where the store has any.
"""
from __future__ import annotations

import argparse
import collections
import contextlib
import itertools
import os
import pathlib
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from importlib import import_module

from contestants import SPECS, KohakuVault

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / 'trials'))

import power  # the folder is known only now
from rot import flipped
from shared import IN_MEMORY, TRIALS
from shared.processes import HANGS, Process, ask, ask_all, compiled, play_role, role

MISSING = object()
PROCESSES = 8   # of a crowd
DISKS = 60      # after cuts of each writer
SLOW = 5        # seconds for one store to be read, which takes a fraction of one


class CachedKohakuVault(KohakuVault):
    """With its write-back cache, which it leaves off by default."""

    def open(self, module, folder):
        vault = super().open(module, folder)
        self._cache = vault.cache()
        self._cache.__enter__()
        return vault


# Their names have no blanks: shelve-gnu, shelve-dumb, sqlitedict, kohakuvault, ...
STORES = {re.sub(r'[^a-z0-9]+', '-', spec.name.replace('dbm.', '')).strip('-'): spec for spec in SPECS}
STORES['kohakuvault-cache'] = STORES['kohakuvault']._replace(kind=CachedKohakuVault)


def open_store(name, folder):
    """Open a store in a folder. Its `db` is the dict, with text keys; `close()` closes it."""
    spec = STORES[name]
    return spec.kind(spec.module, pathlib.Path(folder))


def steps(seed):
    """Yield keys and values without end: mostly new keys, some that were there; None deletes."""
    rng, there = random.Random(seed), set()
    for number in itertools.count():
        key = f'key {number if rng.random() < 0.8 else rng.randrange(number + 1)}'
        is_deleted = key in there and rng.random() < 0.5
        (there.remove if is_deleted else there.add)(key)
        yield key, None if is_deleted else {'n': number, 'text': 'x' * rng.randrange(60)}


def write(store, pairs):
    """Do the steps to a store; yield after each that has returned."""
    for key, value in pairs:
        store.delete([key]) if value is None else store.write([(key, value)])
        yield


# --- kill ---------------------------------------------------------------------------------------------------------

def write_and_tell(name, folder, seed, tell):
    for _ in write(open_store(name, folder), steps(seed)):
        tell(b'.')


def lost_by(name, folder, seed, done):
    """Return how many acknowledged writes are not there. Raises: what a store does that cannot be opened or walked."""
    following = steps(seed)
    expected = dict(itertools.islice(following, done))
    under_way, its_value = next(following)
    store = open_store(name, folder)
    list(store.keys(None))

    def found(key):
        try:
            return store.db.get(key)
        except Exception:  # whatever a store raises for an entry that it cannot read
            return MISSING
    return sum(found(key) not in [value] + [its_value] * (key == under_way) for key, value in expected.items())


def kill(name, rounds, seed, folder):
    rng, figures = random.Random(f'kill {seed}'), collections.Counter()
    for number in range(rounds):
        arguments = name, pathlib.Path(tempfile.mkdtemp(dir=folder)), f'{seed}.{number}'
        writer = Process(write_and_tell, *arguments)
        writer.wait_for(b'.')
        time.sleep(rng.uniform(0, 0.25))
        writer.kill()
        done = writer.said.count(b'.')
        lost = ask(lost_by, *arguments, done).value  # None, where it cannot be read
        figures.update(writes=done, lost=lost or 0, unreadable=lost is None, inside=done if lost is None else 0)
    return (f'{rounds} writers killed, {figures["writes"]:,} writes acknowledged, {figures["lost"]:,} of them lost; '
            f'{figures["unreadable"]} files unreadable, with {figures["inside"]:,} acknowledged writes')


# --- cut ----------------------------------------------------------------------------------------------------------

STEPS = 1500    # so many that SQLite checkpoints by itself


@role
def write_and_mark(folder, seed, name):
    store = open_store(name, folder)
    for _ in write(store, itertools.islice(steps(seed), STEPS)):
        power.mark_return()
    store.close()


def read_all(folder, name):
    """Return what the store in a folder holds. A damaged one may end this process, or hold it up."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    store = open_store(name, folder)
    return {key.decode() if isinstance(key, bytes) else key: store.db[key] for key in list(store.keys({}))}


def states_of(seed):
    """Return what a store holds after each of so many steps."""
    states = [{}]
    for key, value in itertools.islice(steps(seed), STEPS):
        states.append({**states[-1], key: value})
        if value is None:
            del states[-1][key]
    return states


def cut(name, rounds, seed, folder):
    total, written = collections.Counter(), folder / 'written'
    library = compiled(TRIALS / 'power.c', folder)
    if not library:
        return 'left out: recording what a writer does needs Linux and a C compiler'
    for number in range(rounds):
        power.place({}, written)
        disk, states = power.Disk(written, with_names=True), states_of(f'{seed}.{number}')
        record = power.recorded(library, written, write_and_mark, f'{seed}.{number}', name)
        for image, returned, _ in power.cuts(random.Random(f'cuts {seed}.{number}'), record, disk, DISKS):
            power.place(image, folder / 'disk')
            found = ask(read_all, folder / 'disk', name, hangs=SLOW).value
            at = [step for step, state in enumerate(states[:returned + 2]) if state == found]
            lost = returned if found is None else max(returned - at[-1], 0) if at else 0
            total.update(disks=1, returned=returned, unreadable=found is None, lost=lost,
                         never=found is not None and not at)
        unseen = sorted({*power.escaped(disk, written)} - {'lmdbm/lock.mdb'})
        if unseen:
            return f'writes {", ".join(unseen)} through shared memory or past the record: left out'
    return (f'{total["disks"]} disks after a cut of {rounds} writers, {total["unreadable"]} unreadable, '
            f'{total["never"]} in a state that never was; of {total["returned"]} acknowledged writes '
            f'{total["lost"]} lost')


# --- rot ----------------------------------------------------------------------------------------------------------

def rot_once(name, seed, folder, expected):
    """Change a byte of a store's files, by their sizes; return what reading all of it gave."""
    rng, counts, store = random.Random(seed), collections.Counter(), None
    with tempfile.TemporaryDirectory(dir=folder) as inside, contextlib.suppress(Exception):  # which is counted
        copy = shutil.copytree(folder / 'sound', pathlib.Path(inside, 'copy'))
        files = sorted(file for file in copy.rglob('*') if file.is_file() and file.stat().st_size)
        file = rng.choices(files, [one.stat().st_size for one in files])[0]
        data = bytearray(file.read_bytes())
        flipped(data, rng)
        file.write_bytes(data)
        store = open_store(name, copy)
        for key, value in expected.items():
            try:
                counts['right' if store.db[key] == value else 'wrong'] += 1
            except KeyError:
                counts['missing'] += 1
            except Exception:  # as above
                counts['raised'] += 1
        store.close()
    some = {f'flips after which some were {what}': counts[what] > 0 for what in ('wrong', 'missing', 'raised')}
    return {**counts, **some, 'refused': store is None}


def rot(name, rounds, seed, folder):
    rng, total = random.Random(seed), collections.Counter()
    expected = {f'key {at}': {'number': at, 'text': ''.join(rng.choices('abcdefgh', k=rng.randrange(200)))}
                for at in range(300)}
    (folder / 'sound').mkdir()
    store = open_store(name, folder / 'sound')
    store.update(expected)
    store.close()
    for number in range(rounds):
        code, counts = ask(rot_once, name, f'{seed} {number}', folder, expected)
        total.update(counts or {'hung' if code == -signal.SIGALRM else 'crashed': 1})
    return f'{rounds} flips: ' + ', '.join(f'{count} {what}' for what, count in total.items() if count)


# --- crowd --------------------------------------------------------------------------------------------------------

def put_and_count(folder, number, name, rounds):
    """Put keys of its own, and count along with the others; return notes of what was acknowledged."""
    store, notes = open_store(name, folder), []
    add = store.transact if store.has_transactions else store.write
    for one in range(rounds):
        try:
            store.db[f'{number} {one}'] = one
            notes.append(('put', f'{number} {one}'))
            add((key, store.db[key] + 1) for key in ['counter'])
            notes.append(('counted', ''))
        except Exception as error:  # whatever it raises
            notes.append((type(error).__name__, ''))
    store.close()
    return notes


def crowd(name, rounds, seed, folder):
    with contextlib.closing(open_store(name, folder)) as store:
        store.db['counter'] = 0
    each = -(-rounds // PROCESSES)
    answers = ask_all([(put_and_count, folder, number, name, each) for number in range(PROCESSES)], hangs=HANGS)
    notes = list(itertools.chain.from_iterable(answer.value or [('ended', '')] for answer in answers))
    with contextlib.closing(open_store(name, folder)) as store:
        lost = sum(store.db.get(key) != int(key.split()[1]) for kind, key in notes if kind == 'put')
        counted = store.db['counter']
    kinds = collections.Counter(kind for kind, _ in notes)
    return (f'{PROCESSES} processes, {kinds.pop("put", 0)} puts acknowledged, {lost} lost; {kinds["counted"]} times '
            f'counted, {kinds.pop("counted", 0) - counted} lost; errors: {dict(kinds)}')


def main():
    play_role()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('harm', choices=['kill', 'cut', 'rot', 'crowd'])
    parser.add_argument('--store', default='vaults', choices=sorted(STORES), help='default: vaults')
    parser.add_argument('--rounds', type=int, default=20, help='default: 20; of the tables 200, 6, 1000 and 2000')
    parser.add_argument('--seed', default='1', help='the same seed draws the same rounds')
    options = parser.parse_args()
    import_module(STORES[options.store].module)  # pip install '.[bench]' has it
    with tempfile.TemporaryDirectory(dir=IN_MEMORY if options.harm in ('cut', 'rot') else None) as name:
        folder = pathlib.Path(name).resolve()
        harm = {'kill': kill, 'cut': cut, 'rot': rot, 'crowd': crowd}[options.harm]
        print(f'{options.store}: {harm(options.store, options.rounds, options.seed, folder)}', flush=True)


if __name__ == '__main__':
    main()
