"""Rot a vault's files at random and look whether a wrong value ever comes back, and what `recover` saves.

    python trials/rot.py [--rounds N] [--seed S] [--store NAME [--alike]]

Two vaults are made: one that was closed, with all in one file, lists, columns and streams among it; and one that was
copied while open, whose log holds commits. Each round copies one of them and damages one of its files: of eleven rounds
ten change a byte, and one zeroes, overwrites or swaps sectors or pages, or cuts the file off. Then every key is read and
all items are walked, in a process whose death is seen. Each read must return the right value or raise a VaultError; what
a damaged log gives must be what was there after one of the commits, whole; what seems to be missing, and what raises,
must be found by `check()`. A file cut to nothing, without a log, is as a new one is, and is only counted. Of a part of
the rounds `recover` makes a new vault, which must be sound, hold all that could be read and nothing wrong, in the same
order, and what it lacks must be named or counted. Prints figures; exits with 1 when a promise broke.

With `--store` it changes bytes in the files of a peer and counts how many of these changes returned a wrong value, lost a
key, raised, or ended the process. `--alike` does the same to a vault, with the same entries.
"""
from __future__ import annotations

import argparse
import collections
import contextlib
import datetime
import faulthandler
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import uuid

from shared.stores import open_store
from shared.verdict import Trial

import vaults
from vaults import keys, recovery
from vaults.collections import tree as parts

HANGS = 60          # seconds for a round
BATCH = 200         # rounds in one process
OTHER = 11          # one of so many rounds is no flip
RECOVERED = 5       # one of so many flips is recovered from, and every other damage
SECTOR, PAGE = 512, 4096
FILES = {'file': ('closed', ''), 'log': ('open', '-wal'), 'file with a log': ('open', ''), 'shm': ('open', '-shm')}
CHOICES = ['file'] * 6 + ['log'] * 2 + ['file with a log', 'shm']


# --- the vaults that are damaged ----------------------------------------------------------------------------------

def entries(rng):
    """Return some hundred entries with keys and values of every kind."""
    made = {None: 1, True: 2, False: 3, '': 4, b'': 5, (): 6, float('inf'): 7, '\ud800': 8}
    for number in range(20):
        day = datetime.date(2000, 1, 1) + datetime.timedelta(number * 31)
        moment = datetime.datetime(2000, 1, 1, tzinfo=datetime.timezone.utc) + datetime.timedelta(number, number)
        for key in (f'key {number}', f'\0é{number}', number - 60, 2.0 ** number + 0.5, number.to_bytes(3, 'big'), day,
                    moment, moment.replace(tzinfo=None), uuid.UUID(int=rng.getrandbits(128)), 3 ** (50 + number),
                    ('log', number, None), (number / 4, ('nested', b'\0'))):
            made[key] = rng.choice((
                {'number': number, 'text': 'x' * rng.randrange(60)}, [rng.random(), None, True], (number, {'a'}),
                rng.getrandbits(8 * rng.randrange(1, 100)), 'y' * rng.randrange(300), b'z' * rng.randrange(300),
                moment, noise(rng, rng.choice((6_000, 100, 100, 100)))))
    return made


def noise(rng, size):
    return rng.getrandbits(8 * size).to_bytes(size, 'big') if size else b''  # Python 3.8 draws no 0 bits


def grown(rng):
    """Return by key what is kept in parts, and in what."""
    return {'stream': noise(rng, 20_000), ('a list', 1): [[rng.random(), 'x' * rng.randrange(200)] for _ in range(150)],
            'column': [rng.randrange(2 ** 60) for _ in range(1500)], 'short list': [1, (2,)]}


def make_closed(path, rng):
    """Make a vault that leaves one file, with room in pages and free pages that hold what was deleted."""
    expected = {f'old {number}': noise(rng, 300) for number in range(60)}
    with contextlib.closing(vaults.Vault(path)) as vault:
        vault.update(expected)
        vault.clear()
        expected = entries(rng)
        vault.update(expected)
        for key in rng.sample(list(expected), 40):
            del vault[key], expected[key]
        for key, value in grown(rng).items():
            expected[key] = value
            if isinstance(value, bytes):
                with vault.open(key, 'wb') as file:
                    file.write(value)
            else:
                (vault.column(key, 'int64') if key == 'column' else vault.list(key)).extend(value)
    return [expected]


def make_open(path, rng):
    """Make a vault whose newest commits are in its log alone; return what was there after each of them."""
    state = {f'key {number}': noise(rng, rng.randrange(400)) for number in range(150)}
    with contextlib.closing(vaults.Vault(path)) as vault:
        vault.update(state)
    states = [dict(state)]
    with contextlib.closing(vaults.Vault(path)) as vault:
        for number in range(40):
            with vault:
                changed = {f'key {rng.randrange(200)}': noise(rng, rng.randrange(400)) for _ in range(rng.randrange(6))}
                for target in (vault, state):
                    target.update(changed, commit=number)
                    target.pop(f'key {number}', None)
            states.append(dict(state))
        copied = path.with_name('copy.db')
        for suffix in ('', '-wal', '-shm'):
            shutil.copyfile(f'{path}{suffix}', f'{copied}{suffix}')
    for suffix in ('', '-wal', '-shm'):
        os.replace(f'{copied}{suffix}', f'{path}{suffix}')
    return states


def make(folder, seed):
    """Make both vaults; return the states of each, and how many rounds may be wanted of each file."""
    parts.new_owner, owners = (lambda: noise(owners, 12)), random.Random(f'owners {seed}')
    made = {'closed': make_closed, 'open': make_open}
    return {name: maker(folder / f'{name}.db', random.Random(f'{name} {seed}')) for name, maker in made.items()}


# --- damage -------------------------------------------------------------------------------------------------------

def flipped(data, rng):
    place, bits = rng.randrange(len(data)), rng.choice((1 << rng.randrange(8), rng.randrange(1, 256)))
    data[place] ^= bits
    return f'byte {place} ^ {bits}'


def damaged(data, rng):
    """Damage more than a byte; return what was done."""
    size = rng.choice((SECTOR, PAGE))
    one, other = (size * rng.randrange(-(-len(data) // size)) for _ in range(2))
    here, there = slice(one, min(one + size, len(data))), slice(other, min(other + size, len(data)))
    how = rng.choice(('zeroed', 'overwritten', 'copied', 'swapped', 'cut'))
    if how == 'cut':
        del data[rng.choice((0, one, rng.randrange(len(data)), rng.randrange(len(data)))):]
        return f'cut to {len(data)} bytes'
    if how == 'swapped':
        first, second = bytes(data[here]), bytes(data[there])
        data[here], data[there] = second.ljust(len(first), b'\0')[:len(first)], first.ljust(len(second))[:len(second)]
    else:
        length = here.stop - here.start
        data[here] = {'zeroed': bytes(length), 'overwritten': noise(rng, length),
                      'copied': bytes(data[there]).ljust(length, b'\0')[:length]}[how]
    return f'{size} bytes at {one} {how}' + f' with {other}' * (how in ('copied', 'swapped'))


def damage(folder, number, seed):
    """Copy a vault for the round and damage a file; return the path, which states it may have, and what was done."""
    rng = random.Random(f'{seed} {number}')
    where, is_flip = rng.choice(CHOICES), bool(number % OTHER)
    name, suffix = FILES[where]
    path = folder / f'{os.getpid()}.db'
    for ending in ('', '-wal', '-shm'):
        with contextlib.suppress(FileNotFoundError):
            shutil.copyfile(folder / f'{name}.db{ending}', f'{path}{ending}')
    file = pathlib.Path(f'{path}{suffix}')
    data = bytearray(file.read_bytes())
    done = flipped(data, rng) if is_flip else damaged(data, rng)
    file.write_bytes(data)
    group = f'flips in the {where}' if is_flip else 'cut off' if done[:3] == 'cut' else 'sectors and pages'
    return path, name, group, f'{where}: {done}'


def swept(path):
    for suffix in ('', '-wal', '-shm', '-journal'):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f'{path}{suffix}')


# --- reading ------------------------------------------------------------------------------------------------------

def plain(value):
    """Return a value as it was given: what is in a list, in a column."""
    return list(value[:]) if isinstance(value, (vaults.List, vaults.Column)) else value


def same(one, other):
    return type(one) is type(other) and one == other


def read(vault, wanted):
    """Read all in both ways. Return what was read, (type and key): value; the keys that raised; and whether all did."""
    found, raised, walked = {}, [], []
    for key in wanted:
        try:
            found[type(key), key] = plain(vault[key])
        except vaults.VaultError:
            raised.append(key)
        except KeyError:
            continue
    try:
        for key, value in vault.items():
            walked.append(((type(key), key), plain(value)))
        ended = True
    except vaults.VaultError:
        ended = False
    return found, raised, walked, ended


def fitting(states, pairs):
    """Return the newest state that holds all of these pairs, or None."""
    for at in reversed(range(len(states))):
        if all(place in states[at] and same(states[at][place], value) for place, value in pairs):
            return at
    return None


def examine(path, states):
    """Open the vault at `path` and read it; return counts, what broke, what could be read, and of which state."""
    counts, broken = collections.Counter(), []
    emptied = not path.stat().st_size and not path.with_name(f'{path.name}-wal').exists()  # as a new file is
    try:
        vault = vaults.Vault(path)
    except vaults.VaultError:
        return collections.Counter(refused=1), broken, {}, None
    with contextlib.closing(vault):
        found, raised, walked, ended = read(vault, list(dict.fromkeys(key for state in states for _, key in state)))
        if not raised and not found and not walked and emptied:
            return collections.Counter(emptied=1), broken, {}, None
        at = fitting(states, [*found.items(), *walked])
        if at is None:
            wrong = [place for place, value in [*found.items(), *walked] if fitting(states, [(place, value)]) is None]
            broken.append(f'wrong values of {wrong[:3]}' if wrong else 'values of different commits together')
            return counts, broken, found, None
        missing = [place for place in states[at] if place not in found and place[1] not in raised]
        unseen = len(states[at]) - len(walked) if ended else 0
        counts.update(right=len(found) + len(walked), raised=len(raised) + (not ended), missing=len(missing) + unseen,
                      older=at < len(states) - 1)
        if raised or missing or unseen or not ended:
            problems = vault.check()
            broken += [f'{len(missing) + unseen} missing, {len(raised)} raised, and check() finds nothing'] * (not problems)
            if all(problem.startswith('key ') for problem in problems):
                text = ' '.join(problems)
                # As keys come back: in a tuple 3.0 as 3, and a bool whose mark is damaged as a number.
                names = [keys.named(keys.encode(int(key) if isinstance(key, bool) else key)) for key in raised]
                broken += [f'check() does not name {name}' for name in names if name not in text]
        return counts, broken, found, at


def recover(path, states, found, at):
    """Recover what can be; return counts and what broke of what is promised of it."""
    good = path.with_name('good.db')
    try:
        done = recovery.recover(path, good)
    except vaults.VaultFormatError:
        return {'no vault': 1}, ['recover() refuses what can be read'] * bool(found)
    try:
        with contextlib.closing(vaults.Vault(good)) as vault:
            broken = [f'a recovered vault is damaged: {problem}' for problem in vault.check()]
            there = {(type(key), key): plain(value) for key, value in vault.items()}
    finally:
        swept(good)
    sure = [(place, value) for place, value in there.items() if place[1] not in done.doubtful]
    newest = fitting(states, sure)
    if newest is None:
        return {}, [*broken, 'recover() returns wrong values']
    if newest < (at or 0) and found:
        broken.append('recover() returns an older state')
    state, named = states[newest], [key for key, _ in done.lost]
    gone = [place for place in state if place not in there]
    unnamed = sum(key not in named for _, key in gone)
    broken += [f'recover() lacks {place[1]!r}, which could be read' for place in found if place not in there]
    if gone and (done.whole or (unnamed > done.nameless and not done.notes)):
        broken.append(f'recover() does not tell of {unnamed} of {len(gone)} lost')
    order = {place: number for number, place in enumerate(state)}
    if [*order] != [*state] or sorted((place for place, _ in sure), key=order.get) != [place for place, _ in sure]:
        broken.append('recover() changes the order')
    return {'recovered': len(sure), 'doubtful': len(done.doubtful), 'lost': len(gone), 'named': len(gone) - unnamed,
            'files': 1, 'whole': done.whole}, broken


# --- rounds, in processes of their own ----------------------------------------------------------------------------

def vault_round(folder, number, options, states):
    path, name, group, done = damage(folder, number, options.seed)
    try:
        counts, broken, found, at = examine(path, states[name])
        counts = {group: {**counts, 'rounds': 1}}
        if not broken and (number % RECOVERED == 0 or group[:5] != 'flips' or options.recover_all):
            swept(path)
            path, *_ = damage(folder, number, options.seed)  # as it was before SQLite opened it
            counts['recover'], broken = recover(path, states[name], found, at)
            intact = not sum(counts[group].get(what, 0) for what in ('raised', 'missing', 'older', 'refused', 'emptied'))
            whole = counts['recover'].pop('whole', True)
            counts['recover']['alarms'] = int(intact and not whole)
    except vaults.VaultError as error:
        counts, broken = {group: {'rounds': 1}}, [f'an error where none is due: {error!r}']
    except Exception as error:
        counts, broken = {group: {'rounds': 1}}, [f'an error of another kind: {error!r}']
    finally:
        swept(path)
    return counts, [f'round {number}, {done}: {what}' for what in broken]


def alike(rng):
    """Return the entries that every store gets: text keys, values that JSON carries."""
    return {f'key {number}': {'number': number, 'text': ''.join(rng.choices('abcdefgh', k=rng.randrange(200)))}
            for number in range(300)}


def peer_round(folder, number, options, expected):
    """Change a byte of a store's files, by their sizes; return what reading all of it gave."""
    rng, copy = random.Random(f'{options.seed} {number}'), folder / f'copy {number}'
    shutil.copytree(folder / 'sound', copy)
    files = sorted(file for file in copy.rglob('*') if file.is_file() and file.stat().st_size)
    file = rng.choices(files, [one.stat().st_size for one in files])[0]
    data = bytearray(file.read_bytes())
    flipped(data, rng)
    file.write_bytes(data)
    counts = collections.Counter(rounds=1)
    try:
        store = open_store(options.store, copy)
    except Exception:  # whatever a peer raises is what is counted
        counts['refused'] = 1
        return {'flips': counts}, []
    for key, value in expected.items():
        try:
            counts['right' if store.db[key] == value else 'wrong'] += 1
        except KeyError:
            counts['missing'] += 1
        except Exception:  # as above
            counts['raised'] += 1
    for what in ('wrong', 'missing', 'raised'):
        counts[f'flips {what}'] = int(counts[what] > 0)
    with contextlib.suppress(Exception):  # as above
        store.close()
    shutil.rmtree(copy, ignore_errors=True)
    return {'flips': counts}, []


def be_batch(options):
    """Do the rounds from options.batch on, a line of JSON for each when it begins and when it has ended."""
    folder, start, stop = pathlib.Path(options.batch[0]), int(options.batch[1]), int(options.batch[2])
    peers = options.alike or options.store != 'vaults'
    if peers:
        subject, one_round = alike(random.Random(options.seed)), peer_round
    else:
        with tempfile.TemporaryDirectory() as other:
            made = make(pathlib.Path(other), options.seed)  # the same again, to know what is right
        one_round, subject = vault_round, {name: [{(type(key), key): value for key, value in state.items()}
                                                  for state in states] for name, states in made.items()}
    unraisable = []
    sys.unraisablehook = lambda problem: unraisable.append(f'{problem.exc_value!r} while closing')
    for number in range(start, stop):
        print(json.dumps([number, None, None]), flush=True)
        faulthandler.dump_traceback_later(HANGS, exit=True)
        counts, broken = one_round(folder, number, options, subject)
        faulthandler.cancel_dump_traceback_later()
        broken += [f'round {number}: {what}' for what in unraisable if not peers]
        unraisable.clear()
        print(json.dumps([number, counts, broken]), flush=True)
    os._exit(0)  # a peer's threads may wait for ever after such a file


def batches(trial, folder, options):
    """Run all rounds, a batch after another; return the counts by group. A process that dies is a round's outcome."""
    total = collections.defaultdict(collections.Counter)
    start = 0
    command = [sys.executable, __file__, *sys.argv[1:], '--batch', str(folder)]
    while start < options.rounds:
        stop = min(start + BATCH, options.rounds)
        ran = subprocess.run([*command, str(start), str(stop)], capture_output=True, text=True)
        last, ended = start, True
        for line in ran.stdout.splitlines():
            number, counts, broken = json.loads(line) if line.endswith(']') else (last, None, None)
            last, ended = number, counts is not None
            for group, found in (counts or {}).items():
                total[group].update(found)
            for what in broken or ():
                trial.broke(what)
        if ended and ran.returncode == 0:
            start = stop
            continue
        died = 'hung' if 'Timeout' in ran.stderr else 'crashed' if ran.returncode < 0 else 'failed'
        total['flips' if options.alike or options.store != 'vaults' else 'ends'].update({died: 1, 'rounds': 1})
        if options.store == 'vaults' or died == 'failed':
            trial.broke(f'round {last} {died}, status {ran.returncode}: {ran.stderr[-300:]}')
        start = last + 1
    return total


def tell(total):
    """Return the figures of a run over vaults."""
    for group, counts in sorted(total.items()):
        if group != 'recover':
            print(f'{group}: {counts["rounds"]} rounds, {counts["right"]} reads right, {counts["raised"]} raised, '
                  f'{counts["missing"]} missing, {counts["refused"]} files refused, {counts["older"]} at an older commit'
                  + f', {counts["emptied"]} cut to nothing' * (group == 'cut off'))
    saved = total['recover']
    return (f'recover: {saved["files"]} files, {saved["recovered"]} entries recovered, {saved["lost"]} lost, '
            f'{saved["named"]} of them by name, {saved["doubtful"]} in doubt, {saved["no vault"]} files with nothing left, '
            f'{saved["alarms"]} of which all could be read but not all was vouched for')


def tell_peer(store, counts):
    return (f'{store}: {counts["rounds"]} flips, wrong values after {counts["flips wrong"]} of them, keys missing after '
            f'{counts["flips missing"]}, errors after {counts["flips raised"]}, refused {counts["refused"]}, crashed '
            f'{counts["crashed"]}, hung {counts["hung"]}; {counts["right"]} reads right, {counts["wrong"]} wrong, '
            f'{counts["missing"]} missing, {counts["raised"]} raised')


def main():
    trial = Trial(__doc__, 800, stores=True)
    trial.parser.add_argument('--alike', action='store_true', help='do to vaults what --store does to a peer')
    trial.parser.add_argument('--recover-all', action='store_true', help='recover after every round')
    trial.parser.add_argument('--batch', nargs=3, help=argparse.SUPPRESS)
    options = trial.begin()
    if options.batch:
        be_batch(options)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        if options.alike or options.store != 'vaults':
            (folder / 'sound').mkdir()
            store = open_store(options.store, folder / 'sound')
            store.update(alike(random.Random(options.seed)))
            store.close()
            total = batches(trial, folder, options)
            trial.end(tell_peer(options.store, total['flips']))
            return
        make(folder, options.seed)
        trial.end(tell(batches(trial, folder, options)))


if __name__ == '__main__':
    main()
