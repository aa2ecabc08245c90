"""Flip a byte of a vault's file at random and look whether a wrong value ever comes back.

    python trials/rot.py [--rounds N] [--seed S]

A vault of a few hundred entries is closed, which leaves all in one file. Each round copies it, changes one byte, opens
the copy, reads every key and walks all items. Each read must return the right value or raise a VaultError, and a key
that seems to be missing must be found by `check()`. Prints a line of figures; exits with 1 when a value was wrong, when
an error of another kind came out, or when a round hung.
"""
import argparse
import collections
import contextlib
import datetime
import faulthandler
import pathlib
import random
import sys
import tempfile
import time
import uuid

import vaults

HANGS = 60  # seconds for a round


def entries(rng):
    """Return some hundred entries with keys and values of every kind."""
    made = {None: 1, True: 2, False: 3, '': 4, b'': 5, (): 6, float('inf'): 7, '\ud800': 8}
    for number in range(30):
        day = datetime.date(2000, 1, 1) + datetime.timedelta(number * 31)
        moment = datetime.datetime(2000, 1, 1, tzinfo=datetime.timezone.utc) + datetime.timedelta(number, number)
        for key in (f'key {number}', f'\0é{number}', number - 60, 2.0 ** number + 0.5, number.to_bytes(3, 'big'), day,
                    moment, moment.replace(tzinfo=None), uuid.UUID(int=rng.getrandbits(128)), 3 ** (50 + number),
                    ('log', number, None), (number / 4, ('nested', b'\0'))):
            made[key] = rng.choice((
                {'number': number, 'text': 'x' * rng.randrange(60)}, [rng.random(), None, True], (number, {'a'}),
                rng.getrandbits(8 * rng.randrange(1, 100)), 'y' * rng.randrange(300), b'z' * rng.randrange(300),
                moment, bytes(rng.choices(range(256), k=rng.choice((6_000, 100, 100, 100))))))
    return made


def same(one, other):
    return type(one) is type(other) and one == other


def read(vault, expected):
    """Read all in both ways; yield right, raised, missing or wrong for each read."""
    for key, value in expected.items():
        try:
            yield 'right' if same(vault[key], value) else 'wrong'
        except vaults.VaultError:
            yield 'raised'
        except KeyError:
            yield 'missing'
    try:
        unseen = {(type(key), key): value for key, value in expected.items()}  # tells True from 1
        for key, value in vault.items():
            yield 'right' if same(unseen.pop((type(key), key), 'none'), value) else 'wrong'
        yield from ['missing'] * len(unseen)
    except vaults.VaultError:
        yield 'raised'


def examine(path, expected):
    """Open the vault at `path` and count what its reads did."""
    try:
        with contextlib.closing(vaults.Vault(path)) as vault:
            counts = collections.Counter(read(vault, expected))
            if counts['missing'] and not vault.check():
                counts['missing and not found by check()'] += 1
            return counts
    except vaults.VaultError:
        return collections.Counter(refused=1)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--rounds', type=int, default=800)
    parser.add_argument('--seed', default='1')
    options = parser.parse_args()
    rng, began, total, broken = random.Random(options.seed), time.monotonic(), collections.Counter(), []
    sys.unraisablehook = lambda problem: broken.append(f'{problem.exc_value!r} while closing')
    with tempfile.TemporaryDirectory() as folder:
        path, expected = pathlib.Path(folder, 'sound.db'), entries(rng)
        with contextlib.closing(vaults.Vault(path)) as vault:
            vault.update(expected)
            for key in rng.sample(list(expected), 60):  # leaves room within pages, and whole pages free
                del vault[key], expected[key]
        sound = path.read_bytes()
        for number in range(options.rounds):
            place, bits = rng.randrange(len(sound)), rng.choice((1 << rng.randrange(8), rng.randrange(1, 256)))
            copy = pathlib.Path(folder, f'{number}.db')
            copy.write_bytes(sound[:place] + bytes([sound[place] ^ bits]) + sound[place + 1:])
            faulthandler.dump_traceback_later(HANGS, exit=True)
            try:
                counts = examine(copy, expected)
                broken += [f'byte {place} ^ {bits}: {what}' for what in counts
                           if what not in ('right', 'raised', 'missing', 'refused')]
                total += counts
            except Exception as error:
                broken.append(f'byte {place} ^ {bits}: {error!r}')
            copy.unlink()
        faulthandler.cancel_dump_traceback_later()
    print(f'{options.rounds} flips in {len(sound)} bytes: {total["right"]} reads right, {total["raised"]} raised, '
          f'{total["missing"]} missing, {total["wrong"]} wrong; {total["refused"]} files refused; '
          f'{time.monotonic() - began:.1f} s')
    if broken:
        sys.exit('\n'.join(['promises broken:', *broken[:20]]))


if __name__ == '__main__':
    main()
