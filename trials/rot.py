"""Rot a vault's files at random and look whether a wrong value ever comes back, and what `recover` saves.

    python trials/rot.py [--rounds N] [--seed S] [--store NAME [--alike]]

Three vaults are made: one that was closed, with all in one file, lists, columns and streams among it; one with text keys
alone; and one that was copied while open, whose log holds commits. Each round copies one of them and damages one of its
files: of eleven rounds ten change a byte, and one zeroes, overwrites or swaps sectors or pages, or cuts the file off.
Then every key is read and all items are walked, in a process whose death is seen. Each read must return the right value
or raise a VaultError; what a damaged log gives must be what was there after one of the commits, whole; what seems to be
missing, and what raises, must be found by `check()`. A file cut to nothing, without a log, is as a new one is, and is
only counted. Of a part of the rounds `recover` makes a new vault, which must be sound, hold all that could be read and
nothing wrong, in the same order, and what it lacks must be named or counted. Prints figures; exits with 1 when a promise
broke.

With `--store` it changes bytes in the files of a peer and counts how many of these changes returned a wrong value, lost a
key, raised, or ended the process. `--alike` does the same to a vault, with the same entries.
"""
from __future__ import annotations

import collections
import contextlib
import datetime
import pathlib
import random
import shutil
import sys
import tempfile
import uuid
from unittest import mock

from shared.model import entries, plain
from shared.processes import ask
from shared.stores import open_store
from shared.verdict import Trial

from vaults import Vault, VaultError, VaultFormatError, keys, recovery

BATCH = 40          # rounds in one process
OTHER = 11          # one of so many rounds is no flip
RECOVERED = 5       # one of so many flips is recovered from, and every other damage
SECTOR, PAGE = 512, 4096
FILES = {'file': ('closed', ''), 'file of text': ('text', ''), 'log': ('open', '-wal'), 'file with a log': ('open', ''),
         'shm': ('open', '-shm')}
CHOICES = ('file',) * 5 + ('file of text',) + ('log',) * 2 + ('file with a log', 'shm')
ENDINGS = ('', '-wal', '-shm', '-journal')


# --- the vaults that are damaged ----------------------------------------------------------------------------------

def noise(rng, size):
    return rng.getrandbits(8 * size).to_bytes(size, 'big') if size else b''  # Python 3.8 draws no 0 bits


def drawn(rng):
    """Return some hundred entries with keys and values of every kind."""
    made = {None: 1, True: 2, False: 3, '': 4, b'': 5, (): 6, float('inf'): 7, '\ud800': 8}
    for number in range(20):
        moment = datetime.datetime(2000, 1, 1, tzinfo=datetime.timezone.utc) + datetime.timedelta(31 * number, number)
        for key in (f'key {number}', f'\0é{number}', number - 60, 2.0 ** number + 0.5, number.to_bytes(3, 'big'),
                    moment.date(), moment, moment.replace(tzinfo=None), uuid.UUID(int=rng.getrandbits(128)),
                    3 ** (50 + number), ('log', number, None), (number / 4, ('nested', b'\0'))):
            made[key] = rng.choice((
                {'number': number, 'text': 'x' * rng.randrange(60)}, [rng.random(), None, True], (number, {'a'}),
                rng.getrandbits(8 * rng.randrange(1, 100)), 'y' * rng.randrange(300), b'z' * rng.randrange(300),
                moment, noise(rng, rng.choice((6_000, 100, 100, 100)))))
    return made


def make_closed(path, rng):
    """Make a vault that leaves one file, with room in pages and free pages that hold what was deleted."""
    with contextlib.closing(Vault(path)) as vault:
        vault.update((f'old {number}', noise(rng, 300)) for number in range(60))
        vault.clear()
        expected = drawn(rng)
        vault.update(expected)
        for key in rng.sample(list(expected), 40):
            del vault[key], expected[key]
        expected['stream'] = noise(rng, 20_000)
        with vault.open('stream', 'wb') as file:
            file.write(expected['stream'])
        for key, items in ((('a list', 1), [[rng.random(), 'x' * rng.randrange(200)] for _ in range(150)]),
                           ('column', [rng.randrange(2 ** 60) for _ in range(1500)]), ('short list', [1, (2,)])):
            expected[key] = items
            (vault.column(key, 'int64') if key == 'column' else vault.list(key)).extend(items)
    return [expected]


def make_text(path, rng):
    state = {f'key {number}': noise(rng, rng.randrange(400)) for number in range(150)}
    with contextlib.closing(Vault(path)) as vault:
        vault.update(state)
    return [state]


def make_open(path, rng):
    """Make a vault whose newest commits are in its log alone; return what was there after each of them."""
    whole = path.with_name('whole.db')
    states = make_text(whole, rng)
    with contextlib.closing(Vault(whole)) as vault:
        for number in range(40):
            changed = {f'key {rng.randrange(200)}': noise(rng, rng.randrange(400)) for _ in range(rng.randrange(6))}
            states.append(dict(states[-1]))
            with vault:
                for target in (vault, states[-1]):
                    target.update(changed, commit=number)
                    target.pop(f'key {number}', None)
        copied(whole, path)
    return states


def made(folder, seed):
    """Make the vaults, of one seed always with the same bytes; return the states of each: by (type, key), the value."""
    states = {}
    for name, make in (('closed', make_closed), ('text', make_text), ('open', make_open)):
        rng, owners = random.Random(f'{name} {seed}'), random.Random(f'owners {seed}')
        with mock.patch('os.urandom', lambda size, owners=owners: noise(owners, size)), mock.patch('time.time', lambda: 1e9):
            states[name] = [typed(state.items()) for state in make(folder / f'{name}.db', rng)]
    return states


def typed(pairs):
    return {(type(key), key): plain(value) for key, value in pairs}


def copied(source, path):
    for ending in ENDINGS:
        with contextlib.suppress(FileNotFoundError):
            shutil.copyfile(f'{source}{ending}', f'{path}{ending}')


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
    first, second = bytes(data[here]), bytes(data[there])
    data[here] = {'zeroed': b'', 'overwritten': noise(rng, len(first))}.get(how, second).ljust(len(first), b'\0')[:len(first)]
    if how == 'swapped':
        data[there] = first.ljust(len(second))[:len(second)]
    return f'{size} bytes at {one} {how}' + f' with {other}' * (how in ('copied', 'swapped'))


def damage(folder, number, seed):
    """Copy a vault for the round and damage a file; return the path, whose states it may have, and what was done."""
    rng = random.Random(f'{seed} {number}')
    where, is_flip, path = rng.choice(CHOICES), bool(number % OTHER), folder / 'damaged.db'
    name, ending = FILES[where]
    for old in ENDINGS:
        pathlib.Path(f'{path}{old}').unlink(missing_ok=True)
    copied(folder / f'{name}.db', path)
    file = pathlib.Path(f'{path}{ending}')
    data = bytearray(file.read_bytes())
    done = (flipped if is_flip else damaged)(data, rng)
    file.write_bytes(data)
    group = f'flips in the {where}' if is_flip else 'cut off' if done.startswith('cut') else 'sectors and pages'
    return path, name, group, f'{where}: {done}'


# --- reading ------------------------------------------------------------------------------------------------------

def read(vault, wanted):
    """Read all in both ways. Return what was found, by (type, key); the keys that raised; what was walked, and if to the end."""
    found, raised, walked, ended = {}, [], [], False
    for key in wanted:
        try:
            found[type(key), key] = plain(vault[key])
        except VaultError:
            raised.append(key)
        except KeyError:
            continue
    with contextlib.suppress(VaultError):
        for key, value in vault.items():
            walked.append(((type(key), key), plain(value)))
        ended = True
    return found, raised, walked, ended


def fitting(states, pairs):
    """Return the newest state that holds all of these pairs, or None."""
    for at in reversed(range(len(states))):
        if all(place in states[at] and type(states[at][place]) is type(value) and states[at][place] == value
               for place, value in pairs):
            return at
    return None


def examine(path, states, broke):
    """Open the vault at `path` and read it; return counts, what could be read, and of which state it is."""
    emptied = not path.stat().st_size and not path.with_name(f'{path.name}-wal').exists()  # as a new file is
    try:
        vault = Vault(path)
    except VaultError:
        return {'refused': 1}, {}, None
    with contextlib.closing(vault):
        found, raised, walked, ended = read(vault, dict.fromkeys(key for state in states for _, key in state))
        if emptied and not (raised or found or walked):
            return {'emptied': 1}, {}, None
        pairs = [*found.items(), *walked]
        at = fitting(states, pairs)
        if at is None:
            wrong = [place for place, value in pairs if fitting(states, [(place, value)]) is None]
            broke(f'wrong values of {wrong[:3]}' if wrong else 'values of different commits together')
            return {}, found, None
        missing = sum(place not in found and place[1] not in raised for place in states[at])
        missing += len(states[at]) - len(walked) if ended else 0
        if raised or missing or not ended:
            told(vault.check(), missing, raised, broke)
    return {'right': len(pairs), 'raised': len(raised) + (not ended), 'missing': missing,
            'older': at < len(states) - 1}, found, at


def told(problems, missing, raised, broke):
    """Require that check() finds what was seen and, where it finds entries alone, names the keys."""
    if not problems:
        broke(f'{missing} missing, {len(raised)} raised, and check() finds nothing')
    if all(problem.startswith('key ') for problem in problems):
        for key in raised:
            # As keys come back: in a tuple 3.0 as 3, and a bool whose mark is damaged as a number.
            name = keys.named(keys.encode(int(key) if isinstance(key, bool) else key))
            if name not in ' '.join(problems):
                broke(f'check() does not name {name}')


def recover(path, states, found, at, broke):
    """Recover what can be; return counts, and whether all was vouched for."""
    good = path.with_name('good.db')
    good.unlink(missing_ok=True)
    try:
        done = recovery.recover(path, good)
    except VaultFormatError:
        if found:
            broke('recover() refuses what can be read')
        return {'no vault': 1}, True
    with contextlib.closing(Vault(good)) as vault:
        for problem in vault.check():
            broke(f'a recovered vault is damaged: {problem}')
        there = typed(entries(vault))
    sure = {place: value for place, value in there.items() if place[1] not in done.doubtful}
    newest = fitting(states, sure.items())
    if newest is None:
        broke('recover() returns wrong values')
        return {}, True
    if newest < (at or 0) and found:
        broke('recover() returns an older state')
    state, named = states[newest], [key for key, _ in done.lost]
    gone = [place for place in state if place not in there]
    unnamed = sum(key not in named for _, key in gone)
    for _, key in set(found) - set(there):
        broke(f'recover() lacks {key!r}, which could be read')
    if gone and (done.whole or (unnamed > done.nameless and not done.notes)):
        broke(f'recover() does not tell of {unnamed} of {len(gone)} lost')
    if [place for place in state if place in sure] != list(sure):
        broke('recover() changes the order')
    return {'recovered': len(sure), 'doubtful': len(done.doubtful), 'lost': len(gone), 'named': len(gone) - unnamed,
            'files': 1}, done.whole


def vault_round(folder, number, options, states):
    """Do a round; return counts by group, and what broke."""
    broken = []
    sys.unraisablehook = lambda problem: broken.append(f'{problem.exc_value!r} while closing')
    path, name, group, done = damage(folder, number, options.seed)
    counts, saved = {}, {}
    try:
        counts, found, at = examine(path, states[name], broken.append)
        if not broken and (number % RECOVERED == 0 or group[:5] != 'flips' or options.recover_all):
            damage(folder, number, options.seed)  # as it was before SQLite opened it
            saved, whole = recover(path, states[name], found, at, broken.append)
            saved['alarms'] = not (whole or any(value for what, value in counts.items() if what != 'right'))
    except Exception as error:
        broken.append(f'{"an error where none is due" if isinstance(error, VaultError) else "an error of another kind"}: {error!r}')
    return {group: {'rounds': 1, **counts}, 'recover': saved}, [f'round {number}, {done}: {what}' for what in broken]


# --- other stores -------------------------------------------------------------------------------------------------

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
        return {'flips': {'rounds': 1, 'refused': 1}}, []
    for key, value in expected.items():
        try:
            counts['right' if store.db[key] == value else 'wrong'] += 1
        except KeyError:
            counts['missing'] += 1
        except Exception:  # as above
            counts['raised'] += 1
    with contextlib.suppress(Exception):  # as above
        store.close()
    return {'flips': {**counts, **{f'flips {what}': counts[what] > 0 for what in ('wrong', 'missing', 'raised')}}}, []


# --- all rounds ---------------------------------------------------------------------------------------------------

def run(trial, options, folder, one_round, subject):
    """Do all rounds; return the counts by group. Where a process dies its rounds are done again, each in one of its own."""
    total = collections.defaultdict(collections.Counter)
    batches = [range(start, min(start + BATCH, options.rounds)) for start in range(0, options.rounds, BATCH)]
    while batches:
        batch = batches.pop(0)
        code, outcomes = ask(lambda numbers: [one_round(folder, number, options, subject) for number in numbers], batch)
        if outcomes is None and len(batch) > 1:
            batches[:0] = [range(number, number + 1) for number in batch]
        elif outcomes is None:
            died = 'crashed' if code < 0 else 'hung or failed'
            outcomes = [({'flips': {died: 1, 'rounds': 1}}, [f'round {batch[0]} {died}, with {code}'])]
        for counts, broken in outcomes or ():
            for group, found in counts.items():
                total[group].update(found)
            for what in broken if one_round is vault_round else ():
                trial.broke(what)
        for copy in folder.glob('copy *'):
            shutil.rmtree(copy)
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
            f'{counts["crashed"]}, hung {counts["hung or failed"]}; {counts["right"]} reads right, {counts["wrong"]} wrong, '
            f'{counts["missing"]} missing, {counts["raised"]} raised')


def main():
    trial = Trial(__doc__, 800, stores=True)
    trial.parser.add_argument('--alike', action='store_true', help='do to vaults what --store does to a peer')
    trial.parser.add_argument('--recover-all', action='store_true', help='recover after every round')
    options = trial.begin()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        if options.alike or options.store != 'vaults':
            expected = alike(random.Random(options.seed))
            (folder / 'sound').mkdir()
            store = open_store(options.store, folder / 'sound')
            store.update(expected)
            store.close()
            trial.end(tell_peer(options.store, run(trial, options, folder, peer_round, expected)['flips']))
        else:
            trial.end(tell(run(trial, options, folder, vault_round, made(folder, options.seed))))


if __name__ == '__main__':
    main()
