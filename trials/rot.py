"""Rot a vault's files at random and look whether a wrong value ever comes back, and what `recover` saves.

    python trials/rot.py [--rounds N] [--seed S]

Three vaults are made: one that was closed, with all in one file, lists, columns and streams among it; one with text keys
alone; and one that was copied while open, whose log holds commits. Each round copies one of them and damages one of its
files: of eleven rounds ten change a byte, and one zeroes, overwrites or swaps sectors or pages, or cuts the file off.
Then every key is read and all items are walked, in a process whose death is seen. Each read must return the right value
or raise a VaultError; what a damaged log gives must be what was there after one of the commits, whole; what seems to be
missing, and what raises, must be found by `check()`. A file cut to nothing, without a log, is as a new one is, and is
only counted. Of a part of the rounds `recover` makes a new vault, which must be sound, hold all that could be read and
nothing wrong, in the same order, and what it lacks must be named or counted. Prints figures; exits with 1 when a promise
broke.
"""
from __future__ import annotations

import collections
import contextlib
import pathlib
import random
import shutil
import signal
import sys
import tempfile
from unittest import mock

from shared import IN_MEMORY
from shared.model import entries, plain
from shared.processes import ask
from shared.values import KEYS, NOON
from shared.verdict import Trial

from vaults import Vault, VaultError, VaultFormatError, keys, recovery

OTHER = 11          # one of so many rounds is no flip
RECOVERED = 5       # one of so many flips is recovered from, and every other damage
SECTOR, PAGE = 512, 4096
PLACES = {'file': ('closed', ''), 'file of text': ('text', ''), 'log': ('open', '-wal'), 'file with a log': ('open', ''),
          'shm': ('open', '-shm')}  # which vault, and which of its files
OFTEN = (5, 1, 2, 1, 1)
ENDINGS = ('', '-wal', '-shm', '-journal')


# --- the vaults that are damaged ----------------------------------------------------------------------------------

def noise(rng, size):
    return rng.getrandbits(8 * size).to_bytes(size, 'big') if size else b''  # Python 3.8 draws no 0 bits


def drawn(rng):
    """Return some hundred entries with keys and values of every kind."""
    return {key: rng.choice((
        {'number': 1, 'text': 'x' * rng.randrange(60)}, [rng.random(), None, True], (2, {'a'}), rng.getrandbits(8 * rng.randrange(1, 100)),
        'y' * rng.randrange(300), b'z' * rng.randrange(300), NOON, noise(rng, rng.choice((6_000, 100, 100, 100)))))
        for key in [*KEYS, *(f'key {number}' for number in range(100)), *range(-60, 0)]}


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
            states.append({**states[-1], **changed, 'commit': number})
            vault.update(changed, commit=number)
        copied(whole, path)
    return states


def made(folder, seed):
    """Make the vaults, of one seed always with the same bytes; return the states of each: by (type, key), the value."""
    rng, states = random.Random(seed), {}
    with mock.patch('os.urandom', lambda size: noise(rng, size)), mock.patch('time.time', lambda: 1e9):
        for name, make in (('closed', make_closed), ('text', make_text), ('open', make_open)):
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
    one, other = (size * rng.randrange(max(1, len(data) // size)) for _ in range(2))
    here, there = slice(one, one + size), slice(other, other + size)
    how, first = rng.choice(('zeroed', 'overwritten', 'swapped', 'cut')), data[here]
    if how == 'cut':
        del data[rng.choice((0, one, rng.randrange(len(data)), rng.randrange(len(data)))):]
        return f'cut to {len(data)} bytes'
    data[here] = bytes(len(first)) if how == 'zeroed' else noise(rng, len(first)) if how == 'overwritten' else data[there]
    data[there] = first if how == 'swapped' else data[there]
    return f'{size} bytes at {one} {how} with {other}'


def damage(folder, number, seed):
    """Copy a vault for the round and damage a file; return the path, whose states it may have, and what was done."""
    rng = random.Random(f'{seed} {number}')
    where, is_flip, path = rng.choices([*PLACES], OFTEN)[0], bool(number % OTHER), folder / 'damaged.db'
    name, ending = PLACES[where]
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
    found, raised, walked = {}, [], []
    for key in wanted:
        try:
            found[type(key), key] = plain(vault[key])
        except VaultError:
            raised.append(key)
        except KeyError:
            continue
    try:
        walked += (((type(key), key), plain(value)) for key, value in vault.items())
    except VaultError:
        return found, raised, walked, False
    return found, raised, walked, True


def fitting(states, pairs):
    """Return the newest state that holds all of these pairs, or None."""
    for at in reversed(range(len(states))):
        if all(place in states[at] and type(states[at][place]) is type(value) and states[at][place] == value
               for place, value in pairs):
            return at
    return None


def examine(path, states):
    """Open the vault at `path` and read it; return counts, what could be read, and of which state it is. Raises: AssertionError."""
    emptied = not path.stat().st_size and not path.with_name(f'{path.name}-wal').exists()  # as a new file is
    try:
        vault = Vault(path)
    except VaultError:
        return {'files refused': 1}, {}, 0
    with contextlib.closing(vault):
        found, raised, walked, ended = read(vault, dict.fromkeys(key for state in states for _, key in state))
        if emptied and not (raised or found or walked):
            return {'files cut to nothing': 1}, {}, 0
        pairs = [*found.items(), *walked]
        at = fitting(states, pairs)
        wrong = [place for place, value in pairs if fitting(states, [(place, value)]) is None] if at is None else []
        assert at is not None, f'wrong values of {wrong[:3]}' if wrong else 'values of different commits together'
        missing = sum(place not in found and place[1] not in raised for place in states[at])
        missing += len(states[at]) - len(walked) if ended else 0
        problems = vault.check() if raised or missing or not ended else []
        assert problems or not (raised or missing or not ended), f'{missing} missing, {len(raised)} raised, and check() finds nothing'
        for key in raised if all(problem.startswith('key ') for problem in problems) else ():
            # As keys come back: in a tuple 3.0 as 3, and a bool whose mark is damaged as a number.
            name = keys.named(keys.encode(int(key) if isinstance(key, bool) else key))
            assert name in ' '.join(problems), f'check() does not name {name}'
    return {'reads right': len(pairs), 'raised': len(raised) + (not ended), 'missing': missing,
            'files at an older commit': at < len(states) - 1}, found, at


def recover(path, states, found, at):
    """Recover what can be; return counts. Raises: AssertionError."""
    good = path.with_name('good.db')
    good.unlink(missing_ok=True)
    try:
        done = recovery.recover(path, good)
    except VaultFormatError:
        assert not found, 'recover() refuses what can be read'
        return {'files with nothing left': 1}
    with contextlib.closing(Vault(good)) as vault:
        assert not vault.check(), f'a recovered vault is damaged: {vault.check()}'
        there = typed(entries(vault))
    sure = {place: value for place, value in there.items() if place[1] not in done.doubtful}
    newest = fitting(states, sure.items())
    assert newest is not None, 'recover() returns wrong values'
    assert newest >= at or not found, 'recover() returns an older state'
    state, named = states[newest], [key for key, _ in done.lost]
    gone = [place for place in state if place not in there]
    unnamed = sum(key not in named for _, key in gone)
    assert not set(found) - set(there), f'recover() lacks {set(found) - set(there)}, which could be read'
    assert not gone or not (done.whole or (unnamed > done.nameless and not done.notes)), f'recover() does not tell of {unnamed} lost'
    assert [place for place in state if place in sure] == list(sure), 'recover() changes the order'
    return {'entries recovered': len(sure), 'in doubt': len(done.doubtful), 'lost': len(gone), 'of them named': len(gone) - unnamed,
            'files': 1}


def vault_round(folder, number, options, states):
    """Do a round; return counts by group, and what broke."""
    broken = []
    sys.unraisablehook = lambda problem: broken.append(f'{problem.exc_value!r} while closing')
    path, name, group, done = damage(folder, number, options.seed)
    counts, saved = {}, {}
    try:
        counts, found, at = examine(path, states[name])
        if number % RECOVERED == 0 or group[:5] != 'flips':
            damage(folder, number, options.seed)  # as it was before SQLite opened it
            saved = recover(path, states[name], found, at)
    except Exception as error:  # an assertion of this trial, or an error where none is due
        broken.append(repr(error))
    return {group: {'rounds': 1, **counts}, 'recover': saved}, [f'round {number}, {done}: {what}' for what in broken]


# --- all rounds ---------------------------------------------------------------------------------------------------

def run(trial, options, folder, states):
    """Do all rounds, each in a process of its own, whose death is seen; return the counts by group."""
    total = collections.defaultdict(collections.Counter)
    for number in range(options.rounds):
        code, outcome = ask(vault_round, folder, number, options, states)
        died = 'hung' if code == -signal.SIGALRM else 'crashed'
        counts, broken = outcome or ({'flips': {'rounds': 1, died: 1}}, [f'round {number} {died}, with {code}'])
        for group, found in counts.items():
            total[group].update(found)
        for what in broken:
            trial.broke(what)
    return total


def main():
    trial = Trial(__doc__, 800)
    options = trial.begin()
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as name:
        folder = pathlib.Path(name)
        total = run(trial, options, folder, made(folder, options.seed))
    for group, counts in sorted(total.items()):
        print(f'{group}:', ', '.join(f'{count} {what}' for what, count in counts.items() if count))
    trial.end(f'{options.rounds} rounds')


if __name__ == '__main__':
    main()
