"""Feed hostile bytes to all that reads bytes, and look whether it fails as it promises to.

    python trials/fuzz.py [--target NAME] [--rounds N] [--seed S] [--corpus DIR]

Whoever can write a file can also compute its checksums: this is about files that somebody made to do harm, not about
damaged ones. The promises: what cannot be read raises an error of ours (what a call documents besides, a KeyError say,
is allowed for that call alone); nothing crashes, runs a pickle or writes outside the folder of the run; a source that
is imported stays as it was; no input of up to 64 KiB takes more than a second of the processor, or more memory than
1 GiB of address space. Values that are read are also written and read again, and must come back.

Inputs are the seeds, which this program makes from real values and from testdata/, and which must be read, then known
attacks, then mutations of both. With atheris installed (pip install '.[fuzz]') coverage guides the mutations; without
it they are blind. Each target runs in a process of its own, which may crash. Prints a line for each target, and every
input that broke a promise as a literal of Python that a test can hold; exits with 1 when there was one.

`--corpus DIR` keeps what has reached new code in DIR/TARGET, where the next guided run begins with it.
"""
from __future__ import annotations

import collections
import contextlib
import functools
import importlib
import importlib.util
import io
import json
import os
import pathlib
import pkgutil
import random
import signal
import sqlite3
import struct
import sys
import tempfile
import time
import traceback
import zlib
from typing import Any, Callable, NamedTuple

from msgpack import ExtType, Packer
from shared import ROOT
from shared.processes import as_role, play_role, role, run
from shared.values import KEYS, NAMED, NOON, VALUES
from shared.verdict import Trial

try:
    import resource
except ImportError:  # Windows
    resource = None

sys.path.insert(0, str(ROOT))
DATA = ROOT / 'testdata'
HAS_LIMITS = resource is not None and sys.platform.startswith('linux')
LARGEST = 1 << 16       # bytes of an input
SECONDS = 1.0           # of the processor for one input
SLOWER = 4              # times that, when every branch is being recorded
HANGS = 3               # times as many seconds of the processor, after which the process is ended
MEMORY = 1 << 30        # bytes of address space on top of what the process takes before it begins
RESTARTS = 3            # of a target whose process crashed
CUT = b'\n--8<--\n'     # between the parts of an input that is several files or entries
SHOWN = (['info'], ['info', '--json'], ['show'], ['show', '--json'])  # what the command tells of a vault


class Broken(Exception):
    """A promise other than that about errors broke."""


def require(truth, what):
    if not truth:
        raise Broken(what)


# --- what is asked of each input. A target returns whether it could read the input. vaults is imported when watched ---

def attempt(call, *allowed):
    """Return what `call` does, or None after an error of ours or one that it documents."""
    import vaults
    try:
        return call()
    except vaults.UntrustedPickleError:
        Watch.refused = True
        return None
    except (vaults.VaultError, *allowed):
        return None
    except ImportError as error:  # a value of a package that is not installed; the error names the extra
        if 'vaults[' not in str(error):
            raise
        return None


def attempt_all(*calls, allowed=()):
    for call in calls:
        attempt(call, *allowed)


def opened(where=':memory:', **options):
    import vaults
    return contextlib.closing(vaults.Vault(where, allow_pickle=False, synchronous='OFF', **options))


def command(*words):
    """Run the command, in this process; return its exit status. What it does not expect, it raises."""
    from vaults import cli
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return cli.main([*map(str, words)])


def same(one, other):
    """Tell whether two objects are equal and of the same types all the way down; a NaN is itself here."""
    pairs = [(one, other)]
    for mine, theirs in pairs:  # which grows meanwhile
        if type(mine) is not type(theirs):
            return False
        if isinstance(mine, dict):
            mine, theirs = [*mine, *mine.values()], [*theirs, *theirs.values()]
        if isinstance(mine, (list, tuple)):
            if len(mine) != len(theirs):
                return False
            pairs += zip(mine, theirs)
        elif isinstance(mine, (set, frozenset)):
            if len(mine) != len(theirs):
                return False
        elif isinstance(mine, BaseException):
            pairs.append((mine.args, theirs.args))
        elif hasattr(mine, 'dtype'):
            if (mine.dtype, mine.shape, mine.tobytes()) != (theirs.dtype, theirs.shape, theirs.tobytes()):
                return False
        elif mine == mine and mine != theirs:
            return False
    return True


def keys_target(data, folder):
    """Any bytes as a stored key; what they stand for is stored and comes back."""
    from vaults import VaultCorruptError, keys
    try:
        key = keys.decode(data)
    except VaultCorruptError:
        return False
    with contextlib.suppress(ValueError):  # nested deeper than is stored
        stored = keys.encode(key)
        require(keys.decode(stored) == key and keys.encode(keys.decode(stored)) == stored, 'a key changed')
        hash(key)
    return True


def values_target(data, folder):
    """Any bytes as a value; what they stand for is packed and comes back."""
    import vaults
    value = attempt(lambda: [vaults.loads(data, allow_pickle=False)])
    attempt(lambda: vaults.loads_many([data, data], allow_pickle=False))
    packed = value and attempt(lambda: vaults.dumps(value[0], allow_pickle=False))
    require(not packed or same(value[0], vaults.loads(packed, allow_pickle=False)), 'a value changed')
    return value is not None


def parts_target(data, folder):
    """A stored key, a value and parts, all with sound checksums; read, changed and deleted in every way."""
    from vaults import keys, moving
    stored, value, *parts = data.split(CUT) if CUT in data else (b'', data)
    stored = stored or 'k'
    with opened(folder / 'v.db') as vault:
        store, owner = vault._store, value[-12:]
        store.put_owner(stored, value)
        store.put_chunks(owner, enumerate(parts, 1) if len(owner) == 12 else ())
        key, = attempt(lambda: [keys.decode(stored)]) or [stored]
        problems = vault.check()
        read = attempt(lambda: [vault[key]], KeyError)
        attempt_all(lambda: vault.items()[:], lambda: list(vault[:].keys()), lambda: repr(vault), vault.copy,
                    lambda: moving.export(vault, io.StringIO()), lambda: show(vault, data))
        attempt(lambda: read_file(vault, key), KeyError, TypeError, OSError)
        for open_it in (vault.list, *(functools.partial(lambda kind, key: vault.column(key, kind), kind)
                                      for kind in ('int16', 'S3', 'bool', 'datetime64[s]'))):
            live = attempt(lambda open_it=open_it: open_it(key), TypeError, ValueError)
            if live is not None:
                use_sequence(live)
                break
        attempt(lambda: write_file(vault, key), KeyError, TypeError, OSError)
        attempt_all(vault.compact, lambda: vault.update({'other': 1}), lambda: vault.pop(key), allowed=[KeyError])
        vault.check()
    clear(folder)
    return read is not None and not problems


def clear(folder):
    for path in folder.iterdir():
        path.unlink()


def show(vault, data):
    """Have the command tell of the vault, in one of its ways."""
    command(*SHOWN[zlib.crc32(data) % len(SHOWN)], '--', vault.db_path)


def read_file(vault, key):
    with vault.open(key) as file:
        file.read(10)
        file.seek(-1, 2)
        file.seek(1)
        file.read()
    vault.get_file(key, io.BytesIO())


def write_file(vault, key):
    with vault.open(key, 'r+b') as file:
        file.write(b'x')
        file.seek(0, 2)
        file.write(b'y')
        file.truncate(3)
    with vault.open(key, 'ab') as file:
        file.write(b'z')


def use_sequence(live):
    """Use a list or column in every way; what they raise besides is what lists and arrays raise."""
    attempt_all(lambda: len(live), lambda: live[0], lambda: live[-1], lambda: live[1:5], lambda: live[::-2], live.copy,
                live.tolist, lambda: next(iter(live), None), lambda: next(reversed(live), None), lambda: repr(live),
                lambda: live.append(1), lambda: live.insert(1, 2), live.pop, lambda: live.pop(0),
                lambda: live.__setitem__(0, 3), lambda: live.__setitem__(slice(1, 2), [4, 5]),
                lambda: live.__delitem__(0), lambda: live.__delitem__(slice(0, None, 2)), live.reverse, live.clear,
                lambda: live.extend([1, 2]), allowed=(IndexError, ValueError, TypeError, OverflowError))


def file_target(data, folder):
    """A file as a vault: opened in each way, all of it read, checked, changed, copied and closed."""
    path, sound = folder / 'v.db', None
    for flag in 'rwc':
        path.write_bytes(data)
        vault = attempt(lambda flag=flag: opened(path, flag=flag, timeout=0))
        if vault is not None:
            with vault as vault:
                sound = not attempt(vault.check)
                look(vault, folder, data + flag.encode())
                if flag != 'r':
                    change(vault)
        for left in folder.iterdir():
            require(left.name in ('v.db', 'v.db-wal', 'v.db-shm', 'v.db-journal', 'copy.db'), f'{left} was made')
        clear(folder)
    return bool(sound)


def look(vault, folder, data):
    from vaults import moving
    attempt_all(lambda: len(vault), lambda: vault.items()[:], lambda: list(reversed(vault)), lambda: list(vault[:].items()),
                lambda: list(vault['a':'m']), lambda: len(vault['a':'m']), lambda: 'text' in vault, vault.sections,
                lambda: show(vault, data), lambda: moving.export(vault, io.StringIO()), lambda: vault.backup(folder / 'copy.db'))
    for key in attempt(lambda: list(vault)) or []:
        attempt(lambda key=key: vault[key], KeyError)
        attempt(lambda key=key: read_file(vault, key), KeyError, TypeError, OSError)


def change(vault):
    attempt(lambda: vault.list('list').append(1), TypeError)
    attempt_all(lambda: vault.put('new', 1), lambda: vault.update({'text': 2, 'more': 3}), lambda: vault.pop('text'),
                lambda: vault.move_to_end('new', last=False), lambda: vault.move_to_end('more'),
                lambda: vault.popitem(last=False), vault.popitem, vault.sync, vault.compact,
                lambda: vault.put_file('stream', io.BytesIO(b'x' * 5000)), lambda: vault[:'t'].clear(), vault.clear,
                allowed=[KeyError])


def command_target(data, folder):
    """A key, a value and the ends of a range as the command takes them from its arguments."""
    value, key, low, high = (data.decode('utf-8', 'surrogateescape').replace('\0', '').split('\n') + [''] * 4)[:4]
    path, read = folder / 'v.db', False
    for as_json, ends in ((['--json'], [f'--from={low}', f'--to={high}']), ([], [f'--prefix={key}'])) if value != '-' else ():
        read = not command('set', *as_json, '--', path, key, value) or read
        command('keys', *as_json, *ends, '--', path)
        if path.exists():
            with opened(path) as vault:
                judge(vault)
                show(vault, data) if as_json else None
        clear(folder)
    return read


def judge(vault):
    """See that check() and reading agree, and export it: return the lines, or None."""
    from vaults import moving
    loaded, lines = attempt(lambda: [list(vault.items())]), io.StringIO()
    require(not vault.check() or not loaded, 'check() calls damaged what can be read')
    return attempt(lambda: [moving.export(vault, lines)]) and io.StringIO(lines.getvalue())


def source_target(kind, data, folder):
    """A file of another library: recognised, read, and imported into a vault; it must stay as it was."""
    from vaults import moving
    path = lay_out(kind, data, folder)
    before = photograph(folder)
    attempt(lambda: moving.recognise(path))
    options = {'kind': kind, 'allow_pickle': False}
    read = attempt(lambda: [sum(1 for _ in moving.read(path, **options))])
    decoded = attempt(lambda: [sum(1 for _ in moving.read(path, decode=repr, **options))])  # what is pickled can be read so as well
    with opened() as vault, opened() as again:
        done = attempt(lambda: [moving.import_file(vault, path, **options)])
        require(done is not None or not len(vault), 'a failed import left something')
        lines = judge(vault)
        if lines and kind in ('json', 'csv', 'jsonlines'):
            require(moving.import_file(again, lines) == len(vault), 'an export is not imported')
    require(photograph(folder) == before, 'the source was changed, or something left beside it')
    clear(folder)
    return bool(done or read or decoded)


def lay_out(kind, data, folder):
    """Write an input where its library would have written it; return the path that this is given."""
    several = kind == 'diskcache' or CUT in data
    names = (('cache.db', 'a.val', 'b.val') if kind == 'diskcache' else ('source.dir', 'source.dat') if several else
             ('source.db',))
    for name, content in zip(names, data.split(CUT, len(names) - 1) if several else [data]):
        (folder / name).write_bytes(content)
    return folder if kind == 'diskcache' else folder / names[0].replace('.dir', '')


def photograph(folder):
    return {str(path): path.read_bytes() for path in folder.rglob('*') if path.is_file()}


# --- seeds: what must be read, and known attacks, which must not do harm ------------------------------------------

def zones():
    try:
        from dateutil import tz
    except ImportError:
        return []
    return [NOON.replace(tzinfo=zone) for zone in (tz.tzutc(), tz.tzlocal(), tz.tzoffset('X', 60), tz.tzstr('EST5EDT'),
                                                   tz.tzrange('EST', -18000, 'EDT'), tz.gettz('Europe/Berlin'))]


def real_values():
    return [*VALUES, *(value for value, _, _ in NAMED), *zones()]


def seeds_of_keys(folder):
    from vaults import keys
    stored = [stored for stored in map(keys.encode, KEYS) if isinstance(stored, bytes)]
    return stored, [b'\x09' * 60_000, b'\x09' * 900 + b'\0' * 900, b'\x01\xff\xff\xff\xff\xfe', b'\x01\xff\0\0\xf0\0' +
                    b'\x01' * 60_000, b'\x02' + b'\0\xff' * 30_000 + b'\0']


def ext(code, payload):
    """Return an extension with a payload of its own msgpack, or of bytes."""
    return ExtType(code, payload if isinstance(payload, bytes) else pack(payload))


def hostile(rng, depth=3):
    """Return an object for msgpack: any type of ours, with any content, above all with what does not belong there."""
    kind = rng.randrange(11 if depth else 5)
    if kind == 0:
        return rng.choice((0, 1, -1, 2**31, 2**32 - 1, 2**62, 2**63 - 1, 2**64 - 1, -2**63, rng.getrandbits(64)))
    if kind == 1:
        return rng.choice((None, True, 0.5, 1e300, float('nan'), float('inf'), -0.0))
    if kind == 2:
        return rng.choice(('', 'C', 'F', '<i2', '|S0', '|O', '|V0', 'T', '1e999999999', '-1E+3', 'NaN', '2026-11-21',
                           '10:30:00', '2026-11-21T10:30:00', 'Europe', 'Europe/Paris', '../etc', 'x' * 300, 'é',
                           'pandas.DataFrame', 'PIL.Image', 'polars.DataFrame', '9' * 5000))
    if kind == 3:
        return rng.choice((b'', b'\0', b'1e999999999', b'0001-01-01', b'\xff' * 16, b'\x80' * 300, b'NaN'))
    if kind == 4:
        return ext(rng.randrange(28), rng.choice((b'', b'\0' * 12, b'\xc0', b'1/3', b'-1', b'\xff' * 16)))
    if kind == 5:
        return {str(rng.randrange(3)): hostile(rng, depth - 1) for _ in range(rng.randrange(4))}
    if kind == 6:
        return [hostile(rng, depth - 1) for _ in range(rng.randrange(5))]
    if kind == 7:
        return ext(2, [rng.choice(names()), hostile(rng, depth - 1)])
    if kind == 8:  # a deep value: objects, and headers behind them
        headers = (b'\x90', b'\x91', b'\x92', b'\x81', b'\x82', b'\xdc\0\3', b'\xdd\xff\xff\xff\xff', b'\x02', b'\x05', b'\x06',
                   b'\x07', b'\x0a', b'\x10', b'\x12', b'\x19', b'')
        return ext(25, b''.join(pack(ext(25, rng.choice(headers)) if rng.random() < 0.5 else hostile(rng, depth - 1))
                                for _ in range(rng.randrange(12))))
    return ext(rng.randrange(1, 27), [hostile(rng, depth - 1) for _ in range(rng.randrange(1, 5))]
               if rng.random() < 0.7 else hostile(rng, depth - 1))


def names():
    from vaults.codecs import named
    return sorted(named.BY_NAME)


def pack(obj):
    return Packer().pack(obj)


def seeds_of_values(folder):
    import vaults
    rng = random.Random('values')
    samples = [1, 2**62, -1.5, 'C', '1e999999999', b'\xff', None, [], ['1e999999999', None], [0, 2**62, 1], {'a': 1},
               ext(16, [0, 2**62, 1]), ext(13, b'1e999999999'), ['10:30:00', 0, 'Europe'], ['10:30:00', 0, 'E' * 5000],
               ['10:30:00', 0, [2**62]], ['<i2', [2**62], 'C', b''], ['<i2', ext(16, [0, 2**62, 1]), 'C', b''],
               ['|S0', [2**60], 'C', b''], [[['a', '|O']], [1], 'C', b'\xff' * 8], [['a']], ['|O', b'\xff' * 8]]
    attacks = [pack(ext(code, sample)) for code in range(27) for sample in samples]
    attacks += [pack(ext(code, [ext(13, b'1e999999999'), None])) for code in range(27)]
    attacks += [pack(hostile(rng)) for _ in range(500)]
    attacks += [b'\xc7\x0c\xff' + b'\xff' * 12, b'\xd6\xff' + b'\xff' * 4, b'\xdd\xff\xff\xff\xff', b'\xdf\x7f\xff\xff\xff', b'\xc6\xff\xff\xff\xff', b'\xdc\x20\0' * 1000,
                b'\x91' * 5000, b'\x81' * 5000, b'',
                functools.reduce(lambda data, _: pack(ext(5, b'\x91' + data)), range(40), b'\xc0')]
    attacks += [pack(ext(2, [name, sample])) for name in names() for sample in [*samples, *hostile_zones()]]
    tuples, lists = b'\xd4\x19\x91\xd4\x19\x05', b'\xd4\x19\x91'
    attacks += [pack(ext(25, data)) for data in (
        b'\x01' + tuples * 9000, b'\x01' + lists * 20_000, b'\x01' + tuples * 9000 + b'\xd4\x19\x91\xd4\x19\x06',
        b'\x01' * 60_000, b'\x01' * 9 + b'\xc7\x05\x19\xdd\xff\xff\xff\xff', b'\xd4\x19\x90' * 20_000,
        b'\x01' + tuples * 9000 + b'\x01\xd4\x19\x81', b'\x01' + b'\xd4\x19\x91\xd4\x19\x07' * 9000)]
    return [vaults.dumps(value, allow_pickle=False) for value in real_values()], attacks


def hostile_zones():
    """Return zone files of dateutil's that lie about what is in them."""
    yield from ([b'TZif' + version + bytes(15) + struct.pack('>6l', *counts), 'x'] for version in (b'\0', b'2') for counts in (
        (0,) * 6, (2**31 - 1,) * 6, (-1,) * 6, (0, 0, 0, 2**31 - 1, 1, 4), (1, 1, 1, 1, 1, 1)))
    yield from ([f'{name}{rest}', 0] for name in ('EST5EDT', '9' * 5000, 'A' * 5000) for rest in ('', ',M3.2.0,M11.1.0', ',' * 5000))
    yield from (['A', 0, 'B', 3600000000, [{'month': month}, day], None] for month in (1, 99, 2**62) for day in (None, [6, 2**62]))


def seeds_of_parts(folder):
    """Real lists, columns and streams, with their parts; and headers and trees that lie."""
    from vaults import keys
    real = []
    with opened() as vault:
        vault.list('short').extend([1, 'two', (3,)])
        vault.list('list').extend(range(3000))
        vault.column('column', 'int16').extend(range(9000))
        vault.column('S3', 'S3').extend([b'abc', b'd'])
        vault.put_file('stream', io.BytesIO(b'stream ' * 100))
        vault.put_file('long', io.BytesIO(bytes(40_000)))
        vault['plain'] = {'a': (1, 2)}
        for key in vault:
            value = vault._store.get(key)
            parts = [vault._store.get_chunk(value[-12:], number) for number in vault._store.chunk_numbers(value[-12:])]
            real.append(CUT.join([b'', value, *parts]))
    real += [CUT.join([stored, b'\x01']) for stored in map(keys.encode, KEYS) if isinstance(stored, bytes)]
    return real, [*lying_headers(), CUT.join([b'\x09', b'']), CUT.join([b'', b''])]


def lying_headers():
    owner, sizes = b'\0\0\0\1' + b'o' * 8, (0, 1, 2, 2**31, 2**60, 2**63, 2**64 - 1, -1, None, 'x', 1.5)
    leaves = [b'\x01', b'\x01\x02' * 8, node((1, 1)), node((3, 2**60)), node((3, 1), (3, 1)), node((2**63, 1)), b'']
    for code, meta in ((20, None), (21, None), (22, 'int16'), (22, 'S3'), (22, None), (22, 'S9999999999'), (22, 5)):
        for place in range(1, 7):
            for wrong in sizes:
                header = [meta, 1, 0, 1, 9, 3, 1, b'', owner]
                header[place] = wrong
                yield CUT.join([b'', pack(ext(code, header)), *leaves])
        for size, inside, root, depth, tail in (
                (2**60, 2**60, 4, 2**60, b''), (2**60, 2**60, 4, 60, b''), (2**60, 0, 0, 0, b'\x01'), (5, 1, 3, 1, b''),
                (2**60, 2**60, 4, 1, b''), (1, 2, 3, 1, b''), (2, 2, 5, 1, b''), (1, 1, 6, 1, b''), (1, 1, 7, 1, b'')):
            yield CUT.join([b'', pack(ext(code, [meta, size, 0, inside, 9, root, depth, tail, owner])), *leaves])
        layers = [node(*[(number + 1, 2 ** (20 - number) * 8)] * 2) for number in range(1, 20)]
        yield CUT.join([b'', pack(ext(code, [meta, 2**20 * 8, 0, 2**20 * 8, 30, 1, 19, b'', owner])), *layers,
                        b'\x01' * 16])
        for tail, inside in (('text', 0), ([1], 0), (None, 0)):
            yield CUT.join([b'', pack(ext(code, [meta, 1, 0, inside, 9, 0, 0, tail, owner]))])
        yield CUT.join([b'', pack(ext(code, [meta, 1, 0, 0, 9, 0, 0, b'\x01', 'twelve bytes']))])
        yield CUT.join([b'', pack(ext(code, [meta] * 8 + [list(range(12))]))])


def node(*children):
    return b''.join(struct.pack('<QQ', *child) for child in children)


SCHEMAS = (  # what is done, as SQL, to the file of a sound vault
    "DROP TABLE entries; CREATE VIEW entries AS WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c)"
    " SELECT x AS id, 'k' || x AS key, x'01' AS value, 0 AS crc FROM c",
    "ALTER TABLE entries RENAME TO e2; CREATE VIEW entries AS SELECT id, key, value, zeroblob(900000000) AS crc FROM e2",
    "CREATE TRIGGER bomb AFTER INSERT ON entries BEGIN INSERT INTO entries(key, value, crc) WITH RECURSIVE c(x) AS"
    " (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT 'b' || x, zeroblob(1000), 0 FROM c; END",
    "CREATE TRIGGER bomb BEFORE DELETE ON entries BEGIN SELECT count(*) FROM (WITH RECURSIVE c(x) AS"
    " (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x FROM c); END",
    "DROP TABLE entries; CREATE TABLE entries (id INTEGER PRIMARY KEY, key NOT NULL UNIQUE,"
    " value AS (zeroblob(900000000)), crc INTEGER)",
    "DROP TABLE entries; CREATE TABLE entries (id TEXT, key, value, crc)",
    "DROP TABLE entries; CREATE TABLE entries (id INTEGER PRIMARY KEY, key TEXT COLLATE NOCASE UNIQUE, value, crc);"
    " INSERT INTO entries VALUES (0, x'', x'', 0)",
    "DROP TABLE entries", "DROP TABLE parts", "DELETE FROM entries", "DELETE FROM entries WHERE key = x''",
    "UPDATE entries SET crc = -9223372036854775807 WHERE key = x''", "UPDATE entries SET crc = -1e300 WHERE key = x''",
    "UPDATE entries SET value = '9223372036854775807' WHERE key = x''", "UPDATE entries SET value = '-1' WHERE key = x''",
    "UPDATE entries SET crc = 'text' WHERE key = x''", "UPDATE entries SET crc = x'00' WHERE key = x''",
    "UPDATE entries SET value = 'text', crc = 'x'", "UPDATE entries SET value = 5", "UPDATE entries SET crc = 1e300",
    "UPDATE entries SET id = 9223372036854775807 WHERE id = (SELECT max(id) FROM entries)",
    "UPDATE entries SET id = -id - 1 WHERE key <> x''", "UPDATE parts SET number = -number, data = 'text'",
    "UPDATE entries SET id = 9223372036854775807 WHERE key = x''",
    "ANALYZE", "CREATE INDEX bomb ON entries(length(key))",
    "CREATE TABLE bomb (x CHECK (length(printf('%.*c', 900000000, 'x')) > 0)); PRAGMA ignore_check_constraints = ON;"
    " INSERT INTO bomb VALUES (1)",
    "INSERT INTO entries(key, value, crc) VALUES (CAST(x'ff' AS TEXT), x'01', 0)",
    "INSERT INTO parts VALUES (zeroblob(12), 0, x'81aa73657269616c697a657205', 0)", "PRAGMA auto_vacuum = 1; VACUUM",
    "PRAGMA user_version = 2", "PRAGMA application_id = 1", "DROP TRIGGER replaced; DROP TRIGGER deleted",
)


def seeds_of_files(folder):
    """A small vault, that after each of these statements, and with other numbers in its header."""
    with opened(folder / 'real.db') as vault, vault:
        vault['text'] = 'a value'
        vault.update({key: number for number, key in enumerate(KEYS)})
        vault.update({('value', number): value for number, value in enumerate(real_values())})
        vault.list('list').extend(range(1000))
        vault.put_file('stream', io.BytesIO(b's' * 5000))
        vault.column('column', 'int16').extend([1, 2, 3])
    real = database(folder, 'PRAGMA journal_mode = DELETE; PRAGMA page_size = 1024; VACUUM', (folder / 'real.db').read_bytes())
    clear(folder)
    return [real], [*(database(folder, statement, real) for statement in SCHEMAS),
                    real[:28] + struct.pack('>I', 2**31 - 1) + real[32:], real[:1024], real[:-1], b'', b'x' * 100,
                    real[:16] + b'\2\0' + real[18:], real[:56] + struct.pack('>I', 2) + real[60:]]


def seeds_of_command(folder):
    from vaults.codecs import standalone
    from vaults.moving import as_json
    forms = [json.dumps(as_json.from_value(standalone.dumps(value, allow_pickle=False))) for value in real_values()]
    keys = [json.dumps(as_json.from_key(key)) for key in KEYS]
    real = [f'{form}\n{key}\n{key}\n"z"'.encode() for form, key in zip(forms, keys)]
    attacks = ['{"!tuple": {"!range": [0, 1000000000000, 1]}}', '{"!fraction": ["1e999999999", null]}', '[' * 60_000,
               '{"!int": "0x' + 'f' * 60_000 + '"}', '9' * 60_000, '"\\ud800"', 'NaN', '{"!list": 5}', '{"!pickle": 1}',
               '{"!time": ["10:30:00", 0, "Europe"]}', '{"!msgpack": "3f////8="}', '{"!dict": [[[], 1]]}',
               '{"!key": "CQkJ"}', '{"!ndarray": ["|O", [1], "C", {"!bytes": "/////////w=="}]}', '\ud800']
    return real, [f'{before}\n{text}'.encode('utf-8', 'surrogatepass') for text in attacks for before in (text, 1)]


def seeds_of_source(kind, names, folder):
    """What is in testdata/, and attacks."""
    if kind == 'vault':
        return seeds_of_files(folder)
    real = []
    for base in [DATA / name for name in names]:
        parts = ([base / 'cache.db', *sorted(base.rglob('*.val'))[:2]] if base.is_dir() else [base] if base.exists() else
                 [DATA / f'{base.name}.dir', DATA / f'{base.name}.dat'])
        real.append(CUT.join(part.read_bytes().replace(b'id,name', b'key,name') for part in parts))  # of csv-cities.csv
    return real, attacks_on(kind, folder)


COUNTING = 'WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c)'
VIEWS = {  # of a table that its library made, one without an end, and one of columns that are computed
    'sqlitedict': ('unnamed', 'key TEXT, value BLOB'), 'pickledb': ('kv', 'key TEXT, value BLOB NOT NULL'),
    'litedict': ('Dict', 'key TEXT, value'), 'earlier vault': ('dict', 'key BLOB, value BLOB'),
    'dbm': ('Dict', 'key BLOB, value BLOB'), 'shelve': ('Dict', 'key BLOB, value BLOB'),
    'diskcache': ('Cache', 'key, raw, mode, filename, value, expire_time'),
    'kohakuvault': ('kv', 'key BLOB NOT NULL, value BLOB NOT NULL'), 'pystoragebackend': ('hiddil', 'uid, dkey, data'),
}


def attacks_on(kind, folder):
    if kind in VIEWS:
        table, columns = VIEWS[kind]
        names = [column.split()[0] for column in columns.split(',')]
        endless = ', '.join('NULL AS expire_time' if name == 'expire_time' else f'x AS {name}' for name in names)
        computed = columns.replace('value', 'other').replace('expire_time', 'expire_time INTEGER')
        return [b'', *(database(folder, statement) for statement in (
            f'CREATE VIEW {table} AS {COUNTING} SELECT {endless} FROM c',
            f'CREATE TABLE {table} ({computed}, value AS (zeroblob(900000000))); INSERT INTO {table} DEFAULT VALUES',
            f'CREATE TABLE {table} ({columns} AS (printf(\'%.*c\', 900000000, \'x\')))',
            f"CREATE TABLE {table} ({columns}); INSERT INTO {table} ({', '.join(names[:1])}) VALUES (1)"))]
    deep = b'[' * 50_000
    return {'tinydb': [b'{"_default": ' + deep, b'{"_default": {"1": ' + deep, b'{"_default": [1]}', b'{"a": {"1' + b'0' * 60_000],
            'json': [b'{"a": ' + deep, b'{' * 9, b'{"a": 1' + b'0' * 60_000 + b'}', b'{"\\ud800": 1}', b'{"a": NaN}'],
            'jsonlines': [b'{"key": 1, "value": ' + text + b'}\n' for text in (
                deep, b'{"!tuple": {"!range": [0, 1000000000000, 1]}}', b'{"!fraction": ["1e999999999", null]}',
                b'{"!list": 1152921504606846976}', b'{"!column": ["S9999999999", 5]}', b'{"!stream": 5}\n{"bytes": "AAAA"}',
                b'{"!column": ["bool", 2]}\n{"bytes": "AAI="}', b'{"!list": 2}\n{"items": [1, {"!list": 0}]}',
                b'{"!time": ["10:30:00", 0, "Europe"]}', b'{"!serialized": ["json", "x"]}', b'{"!pickle": ["", "gASJLg=="]}')],
            'csv': [b'key,value\n' + b'"' * 60_000, b'key,value\n"' + b'x' * 60_000, b'key\nx\0\n', b'key,key\n1,2\n'],
            }[kind]


def database(folder, script, data=b''):
    """Return the bytes of an SQLite file after a script, which does what it can: an old SQLite may not know all of it."""
    path = folder / 'made.db'
    path.write_bytes(data)
    with contextlib.closing(sqlite3.connect(str(path))) as raw, contextlib.suppress(sqlite3.Error):
        raw.executescript(f'PRAGMA synchronous = OFF; PRAGMA journal_mode = MEMORY; {script}')
    data = path.read_bytes()
    path.unlink()
    return data


class Target(NamedTuple):
    ask: Callable[..., bool]    # of each input
    seeds: Callable[..., Any]
    times: int = 1              # as many inputs has a round


SOURCES = {
    'json': ['json-object.json', 'pickledb-0.9.json', 'pickledb-1.json'], 'jsonlines': ['jsonl-foreign.jsonl'],
    'csv': ['csv-cities.csv', 'csv-pairs.csv'], 'pickledb': ['pickledb-1.sqlite'], 'litedict': ['litedict-words.sqlite'],
    'sqlitedict': ['sqlitedict-json.sqlite', 'sqlitedict-unnamed.sqlite', 'sqlitedict-two-tables.sqlite'],
    'diskcache': ['diskcache-cache', 'diskcache-index'], 'pystoragebackend': ['pystoragebackend-notes.sqlite'],
    'kohakuvault': ['kohakuvault-all.db', 'kohakuvault-columns.db', 'kohakuvault-entries.db'],
    'tinydb': ['tinydb-people.json'], 'earlier vault': ['vaults-earlier.sqlite'], 'vault': [], 'dbm': ['dbm-dumb', 'dbm-sqlite3'],
    'shelve': ['shelve-dumb', 'shelve-dumb-protocol0', 'shelve-sqlite3'],
}
TARGETS = {
    'keys': Target(keys_target, seeds_of_keys, 100),
    'values': Target(values_target, seeds_of_values, 20),
    'parts': Target(parts_target, seeds_of_parts),
    'file': Target(file_target, seeds_of_files),
    'command': Target(command_target, seeds_of_command),
    **{kind.replace(' vault', ''): Target(functools.partial(source_target, kind), functools.partial(seeds_of_source, kind, names))
       for kind, names in SOURCES.items()},
}


# --- blind mutations ----------------------------------------------------------------------------------------------

NUMBERS = (0, 1, 2, 15, 16, 127, 128, 255, 256, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63 - 1, 2**63,
           2**64 - 1)
TOKENS = (b'\xc7', b'\xc8', b'\xd4', b'\xd8', b'\xdd', b'\xdf', b'\x00\xff', b'{"!', b'"!tuple"', b'"!range"', b'"!list"',
          b'"!fraction"', b'"!dict"', b'[[', b'e999999999', b'\\ud800', b'NaN', b'\xff', b'"', b"'", b'\\', b'\n', CUT)


def mutated(rng, pool):
    data = bytearray(rng.choice(pool))
    for _ in range(rng.choice((1, 1, 1, 2, 4, 8))):
        at, length = rng.randrange(len(data) + 1), rng.choice((1, 1, 2, 4, 8, 16, 64))
        other = rng.choice(pool)
        start = rng.randrange(len(other) + 1)
        number = (rng.choice(NUMBERS) + rng.randrange(-1, 2)) % 2**64
        size = rng.choice((1, 2, 4, 8))
        piece = rng.choice((
            bytes([rng.randrange(256)]), data[at:at + length] * 2, b'', other[start:start + length], rng.choice(TOKENS),
            (number % 256**size).to_bytes(size, rng.choice(('big', 'little'))), str(number).encode(),
            bytes([data[at] ^ 1 << rng.randrange(8)]) if at < len(data) else b''))
        data[at:at + rng.choice((0, len(piece), length))] = piece
        if rng.random() < 0.02:
            del data[at:]
    return bytes(data[:LARGEST])


# --- one input ----------------------------------------------------------------------------------------------------

class Session:
    """The inputs of one target in one process: runs them, counts, and writes down what broke."""

    def __init__(self, name, folder, seconds):
        self.name, self.seconds = name, seconds
        self.target, self.seeds, self.times = TARGETS[name]
        self.folder = folder / name
        self.folder.mkdir(exist_ok=True)
        self.found = folder / f'{name}.found'
        self.current = os.open(str(folder / f'{name}.current'), os.O_RDWR | os.O_CREAT)
        self.known, self.number = set(), 0
        self.counts = collections.Counter()

    def run(self, data, wanted=False):
        """Run one input; one that is `wanted` must be read, unless only a pickle keeps it from being read."""
        self.number += 1
        os.pwrite(self.current, struct.pack('<QQ', self.number, len(data)) + data, 0)
        problem, read, began = None, False, time.process_time()
        try:
            alarm(HANGS * self.seconds)
            Watch.problem = None
            read = self.target(data, self.folder)
        except Exception as error:
            problem = place_of(error)
        finally:
            alarm(0)
        took = time.process_time() - began
        self.counts['inputs'] += 1
        self.counts['read'] += bool(read)
        self.counts['longest'] = max(self.counts['longest'], took)
        if took > self.seconds and not problem:
            problem = 'it took more than a second'
        problem = problem or Watch.problem
        if wanted and not read and not problem and not Watch.refused:
            problem = 'a real one was not read'
        Watch.refused = False
        if problem:
            clear(self.folder)
            if problem not in self.known:
                self.write([problem, repr(data)])
            self.known.add(problem)

    def end(self):
        self.write(self.counts)

    def write(self, entry):
        with open(self.found, 'a', encoding='ascii') as file:
            print(json.dumps(entry), file=file)


WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class Watch:
    """What an audit hook has seen."""

    problem = None
    refused = False     # a pickle was
    inside = ''         # the folder that files may be written in


def audit(event, arguments):
    if event == 'pickle.find_class':
        Watch.problem = f'a pickle named {arguments[0]}.{arguments[1]}'
    elif event in ('os.system', 'subprocess.Popen', 'os.exec', 'os.posix_spawn', 'socket.connect'):
        Watch.problem = f'{event} was called'
    elif (event == 'open' and isinstance(arguments[0], str) and arguments[2] & WRITING
          and not os.path.abspath(arguments[0]).startswith((Watch.inside, os.devnull))):
        Watch.problem = f'{arguments[0]!r:.200} was opened to write'


def place_of(error):
    """Return what an error is and where it was raised last in a file of ours, which tells one problem from another."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if f'vaults{os.sep}' in frame.filename]
    where = f' at {os.path.basename(frames[-1].filename)}:{frames[-1].name}:{frames[-1].lineno}' if frames else ''
    return f'{type(error).__name__}{where}' + (f' ({error})' if isinstance(error, Broken) else '')


def alarm(seconds):
    """End the process after so many seconds of the processor, also in the middle of C code."""
    if hasattr(signal, 'setitimer'):
        signal.setitimer(signal.ITIMER_PROF, seconds)


# --- the process of a target --------------------------------------------------------------------------------------

@role
def be_a_target(name, place, rounds, seed, skip, is_guided, corpus):
    """Run in a process of its own: all seeds, then mutations, from the input behind `skip` on."""
    folder, rounds, skip = pathlib.Path(place), int(rounds), int(skip)
    if is_guided:
        import atheris
        with atheris.instrument_imports(include=['vaults']):
            load_all()
    else:
        load_all()
    tempfile.tempdir = str(folder / 'temporary')
    os.chdir(tempfile.tempdir)
    os.environ['VAULTS_TRACEBACK'] = '1'  # the command is to raise what it does not expect
    session = Session(name, folder, SECONDS * (SLOWER if is_guided else 1))
    real, attacks = session.seeds(session.folder)
    grown = sorted((pathlib.Path(corpus) / name).glob('*')) if corpus else []
    pool = [*real, *attacks, *(file.read_bytes() for file in grown)]
    Watch.inside = place
    sys.addaudithook(audit)
    limit_memory()
    for number, data in enumerate(pool):
        if number >= skip:
            session.run(data, number < len(real))
    if is_guided:
        guided(atheris, session, pool, folder, rounds, seed, corpus)
    else:
        blind(session, pool, rounds, seed, skip)


def load_all():
    """Import what a target may need before anything is limited or watched: of vaults all, and what that looks for."""
    import vaults
    names = [one.name for one in pkgutil.walk_packages(vaults.__path__, 'vaults.') if not one.name.endswith(('__main__', '.testing'))]
    for name in (*names, 'numpy', 'uuid', 'decimal', 'fractions', 'zoneinfo', 'dbm.dumb', 'dbm.sqlite3', 'pickle', 'pickletools',
                 'heapq', 'argparse', 'unicodedata', 'numpy.lib.format', 'dateutil.tz', 'dateutil.relativedelta',
                 'dateutil.parser', 'pytz', 'array', 'ipaddress'):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def blind(session, pool, rounds, seed, skip):
    rng = random.Random(f'{seed} {session.name}')
    for number in range(len(pool), len(pool) + rounds * session.times):
        # Values are also made from nothing, which says more than what was once sound.
        from_nothing = session.name == 'values' and rng.random() < 0.5
        data = pack(hostile(rng, 4))[:LARGEST] if from_nothing else mutated(rng, pool)
        session.number = number
        if number >= skip:
            session.run(data)
    session.end()


def guided(atheris, session, pool, folder, rounds, seed, corpus):
    grown = pathlib.Path(corpus or folder, session.name)
    seeds, found = (folder / f'{session.name}.{end}' for end in ('seeds', 'artifacts'))
    for place in (grown, seeds, found):
        place.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(pool):
        (seeds / f'{number}').write_bytes(data[:LARGEST])
    last = session.number + rounds * session.times

    def one(data):
        session.run(data)
        if session.number >= last:
            session.end()
            os._exit(0)
    atheris.Setup([sys.argv[0], f'-seed={random.Random(seed).randrange(1, 2**31)}', f'-max_len={LARGEST}',
                   f'-artifact_prefix={found}{os.sep}', '-verbosity=0', '-rss_limit_mb=0', '-timeout=0', '-detect_leaks=0',
                   str(grown if corpus else seeds), str(seeds)], one)
    atheris.Fuzz()


def limit_memory():
    if HAS_LIMITS:
        taken = int(pathlib.Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, taken + MEMORY))


# --- the trial ----------------------------------------------------------------------------------------------------

def run_target(name, options, folder):
    """Run a target, again behind each input that ends its process; return its counts and what it has found."""
    counts, found, skip = collections.Counter(), [], 0
    corpus = os.path.abspath(options.corpus) if options.corpus else ''
    for _ in range(RESTARTS):
        told = run(as_role(be_a_target, name, folder, options.rounds, options.seed, skip, 'guided' * options.guided, corpus),
                   hangs=None, env={**os.environ, 'PYTHONHASHSEED': '0', 'PYTHONWARNINGS': 'ignore'})
        if not told.code:
            break
        current = folder / f'{name}.current'
        raw = current.read_bytes() if current.exists() else bytes(16)
        skip, size = struct.unpack('<QQ', raw[:16])
        how = signal.Signals(-told.code).name if told.code < 0 else f'exit status {told.code}'
        how = 'it took three times as long as it may' if how == 'SIGPROF' else f'the process ended with {how}'
        if told.code > 0:  # the trial's own fault, perhaps: it would fail again
            skip = options.rounds * 10**6
            how += f': {told.complaints.strip()[-800:]}'
        found.append([how, repr(raw[16:16 + size])])
    noted = folder / f'{name}.found'
    for entry in map(json.loads, noted.read_text('ascii').splitlines() if noted.exists() else ()):
        found.append(entry) if isinstance(entry, list) else counts.update(entry)
    return counts, found


def main():
    trial = Trial(__doc__, rounds=40)
    trial.parser.add_argument('--target', action='append', choices=sorted(TARGETS), help='default: all of them')
    trial.parser.add_argument('--corpus', help='a folder of inputs to begin with; a guided run adds to it')
    trial.parser.add_argument('--blind', action='store_true', help='without atheris, even where it is installed')
    options = trial.begin()
    options.guided = not options.blind and importlib.util.find_spec('atheris') is not None
    print('guided by coverage, with atheris' if options.guided else 'mutations are blind, as asked for' if options.blind else
          "mutations are blind: atheris is not installed (pip install '.[fuzz]')")
    print('memory is limited' if HAS_LIMITS else 'memory is not limited here')
    total = collections.Counter()
    with tempfile.TemporaryDirectory() as folder:
        pathlib.Path(folder, 'temporary').mkdir()
        for name in options.target or TARGETS:
            counts, found = run_target(name, options, pathlib.Path(folder))
            print(f'{name}: {counts["inputs"]} inputs, {counts["read"]} read, the longest {counts["longest"]:.3f} s', flush=True)
            for problem, data in found:
                print(data)
                trial.broke(f'{name}: {problem}: {data:.500}')
            total += counts
    trial.end(f'{total["inputs"]} hostile inputs, {total["read"]} of them read, {len(trial.broken)} broke a promise')


if __name__ == '__main__':
    play_role()
    main()
