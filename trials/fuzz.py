"""Feed hostile bytes to all that reads bytes, and look whether it fails as it promises to.

    python trials/fuzz.py [--target NAME] [--rounds N] [--seed S] [--blind]

Whoever can write a file can also compute its checksums: this is about files that somebody made to do harm, not about
damaged ones. The promises: what cannot be read raises an error of ours (what a call documents besides, a KeyError say,
is allowed for that call alone); nothing crashes, runs a pickle or writes outside the folder of the run; a source that
is imported stays as it was; no input of up to 64 KiB takes more than a second of the processor, or more memory than
1 GiB of address space. Values that are read are also written and read again, and must come back.

Inputs are the seeds, which this program makes from real values and from testdata/, and which must be read, then known
attacks (those on databases are in fuzz.sql), then mutations of both. With atheris installed (pip install '.[fuzz]')
coverage guides these; without it, or with --blind, they are blind. Each target runs in a process of its own, which is
over when an input ends it. Prints a line for each target, and every input that broke a promise as a literal of Python
that a test can hold; exits with 1 when there was one.
"""
from __future__ import annotations

import contextlib
import functools
import importlib.util
import io
import itertools
import json
import os
import pathlib
import pkgutil
import random
import resource
import shutil
import signal
import sqlite3
import struct
import sys
import tempfile
import traceback
import warnings

from msgpack import ExtType, packb
from shared import IN_MEMORY, ROOT, TRIALS
from shared.processes import Process
from shared.values import KEYS, NAMED, VALUES
from shared.verdict import Trial

atheris = importlib.import_module('atheris') if importlib.util.find_spec('atheris') else None
with atheris.instrument_imports(include=['vaults']) if atheris else contextlib.nullcontext():
    import vaults
    from vaults import cli, keys, moving
    from vaults.codecs import named, standalone
    from vaults.moving import as_json
    for module in pkgutil.walk_packages(vaults.__path__, 'vaults.'):  # of vaults all, since nothing is to be imported under a limit,
        if not module.name.endswith(('__main__', '.testing')):
            importlib.import_module(module.name)
for wanted in ('numpy.lib.format', 'zoneinfo', 'dbm.dumb', 'dbm.sqlite3', 'dateutil.tz', 'dateutil.relativedelta', 'pytz'):
    with contextlib.suppress(ImportError):  # and what that looks for
        importlib.import_module(wanted)

LARGEST = 1 << 16       # bytes of an input
SECONDS = 4.0 if atheris else 1.0  # of the processor for one input; more when every branch is being recorded
MEMORY = 1 << 30        # bytes of address space on top of what the process takes before it begins
CUT = b'\n--8<--\n'     # between the parts of an input that is several files or entries
FOLDERS = {'diskcache': ('cache.db', 'a.val'), 'pyvault': ('unit/1.vault', 'unit/2.vault')}  # sources that are several


# --- what is asked of each input. A target returns whether it could read the input --------------------------------

def attempt(call, *allowed):
    """Return what `call` does, or None after an error of ours or one that it documents."""
    try:
        return call()
    except (vaults.VaultError, *allowed):
        pass
    except ImportError as error:  # a value of a package that is not installed; the error names the extra
        if 'vaults[' not in str(error):
            raise
    return None


def opened(where=':memory:', **options):
    return contextlib.closing(vaults.Vault(where, allow_pickle=False, synchronous='OFF', **options))


def command(*words):
    """Run the command, in this process; return its exit status. What it does not expect, it raises."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return cli.main([*map(str, words)])


def keys_target(data, folder):
    """Any bytes as a stored key; what they stand for is stored and comes back."""
    key = attempt(lambda: [keys.decode(data)])
    with contextlib.suppress(ValueError):  # nested deeper than is stored
        for stored in map(keys.encode, key or ()):
            assert keys.decode(stored) == key[0] and keys.encode(keys.decode(stored)) == stored, 'a key changed'
            hash(key[0])
    return key is not None


def values_target(data, folder):
    """Any bytes as a value; what they stand for is packed and comes back, as the same bytes, those of sets in any order."""
    loads, dumps = (functools.partial(call, allow_pickle=False) for call in (vaults.loads, vaults.dumps))
    value = attempt(lambda: [loads(data)])
    attempt(lambda: vaults.loads_many([data, data], allow_pickle=False))
    packed = value and attempt(lambda: dumps(value[0]))
    if packed:
        again = loads(packed)
        assert type(again) is type(value[0]) and sorted(dumps(again)) == sorted(packed), 'a value changed'
    return value is not None


def parts_target(data, folder):
    """A stored key, a value and parts, all with sound checksums."""
    stored, value, *parts = data.split(CUT) if CUT in data else (b'', data)
    with opened(folder / 'v.db') as vault:
        vault._store.put_owner(stored or 'k', value)
        vault._store.put_chunks(value[-12:], enumerate(parts, 1) if len(value) > 11 else ())
        return exercise(vault, folder, data)


def file_target(data, folder):
    """A file as a vault: opened in each way, and imported."""
    path, sound = folder / 'v.db', False
    for flag in 'rwc':
        path.write_bytes(data)
        with attempt(lambda flag=flag: opened(path, flag=flag, timeout=0)) or contextlib.nullcontext() as vault:
            sound = vault is not None and exercise(vault, folder, data + flag.encode())
        assert {file.name for file in folder.iterdir()} <= {'v.db', 'v.db-wal', 'v.db-shm', 'v.db-journal', 'copy.db'}, 'a file was made'
        clear(folder)
    return source_target('vault', data, folder) and sound


def exercise(vault, folder, data):
    """Read, check, copy and change all of a vault; return whether it is sound and could be read."""
    problems = attempt(vault.check)
    word, *how = ('info', 'show', 'info --json', 'show --json')[len(data) % 4].split()
    for call in (lambda: len(vault), lambda: repr(vault), lambda: vault.items()[:], lambda: list(reversed(vault)), vault.copy,
                 lambda: list(vault[:].items()), lambda: list(vault['a':'m']), lambda: len(vault['a':'m']), lambda: 'text' in vault,
                 vault.sections, lambda: command(word, *how, '--', vault.db_path), lambda: vault.backup(folder / 'copy.db'),
                 lambda: moving.export(vault, io.StringIO())):
        attempt(call)
    found = attempt(lambda: list(vault))
    read = [use(vault, key) for key in found or ()]
    for call in (vault.compact, lambda: vault.list('list').append(1), lambda: vault.update({'text': 2, 'more': 3, 'new': 1}),
                 lambda: vault.pop('text'), lambda: vault.move_to_end('new', last=False), lambda: vault.move_to_end('more'),
                 lambda: vault.popitem(last=False), vault.popitem, vault.sync, lambda: [vault.pop(key) for key in found[:2]],
                 lambda: vault.put_file('stream', io.BytesIO(b'x' * 5000)), lambda: vault[:'t'].clear(), vault.clear, vault.check):
        attempt(call, KeyError, TypeError)
    return problems == [] and found is not None and all(read)


def use(vault, key):
    """Read and change an entry in all ways that its value may have; return whether it could be read."""
    value = attempt(lambda: [vault[key]], KeyError)
    live = value[0] if value else None
    calls = [lambda: use_stream(vault, key), lambda: vault.list(key), lambda: vault.column(key, 'int16')]
    if isinstance(live, (vaults.List, vaults.Column, vaults.Deque)):
        calls += [lambda: live[0], lambda: live[-1], lambda: live[1:5], lambda: live[::-2], live.copy, live.tolist,
                  lambda: next(iter(live), None), lambda: next(reversed(live), None), lambda: repr(live), lambda: live.append(1),
                  lambda: live.insert(1, 2), live.pop, lambda: live.pop(0), lambda: live.__setitem__(0, 3),
                  lambda: live.__setitem__(slice(1, 2), [4, 5]), lambda: live.__delitem__(0),
                  lambda: live.__delitem__(slice(0, None, 2)), live.reverse, live.clear, lambda: live.extend([1, 2])]
    for call in calls:
        attempt(call, LookupError, TypeError, ValueError, OverflowError, OSError)
    return value is not None


def use_stream(vault, key):
    vault.get_file(key, io.BytesIO())
    with vault.open(key, 'r+b') as file:
        file.seek(-len(file.read(10)), 2)
        file.write(b'xyz')
        file.truncate(3)


def command_target(data, folder):
    """A value, a key and the ends of a range as the command takes them from its arguments."""
    value, key, low, high = (data.decode('utf-8', 'surrogateescape').replace('\0', '').split('\n') + [''] * 4)[:4]
    path, value = folder / 'v.db', value if value != '-' else ''  # which is the standard input
    read = not command('set', '--json', '--', path, key, value)
    command('set', '--', path, f'{key}2', value)
    command('keys', '--json', f'--from={low}', f'--to={high}', '--', path)
    command('keys', f'--prefix={low}', '--', path)
    if path.exists():
        with opened(path) as vault:
            judge(vault)
    return read


def source_target(kind, data, folder):
    """A file of another library: recognised, read, and imported into a vault; it must stay as it was."""
    names = FOLDERS.get(kind) or (('source.dir', 'source.dat') if CUT in data else ('source.db',))
    for name, content in zip(names, data.split(CUT)):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    path = folder if kind in FOLDERS else folder / names[0].replace('.dir', '')
    photograph = lambda: {str(path): path.read_bytes() for path in folder.rglob('*') if path.is_file()}
    before = photograph()
    attempt(lambda: moving.recognise(path))
    read = [attempt(lambda options=options: [sum(1 for _ in moving.read(path, kind=kind, allow_pickle=False, **options))])
            for options in ({}, {'decode': repr})]  # so what is pickled can be read as well
    with opened() as vault:
        done = attempt(lambda: [moving.import_file(vault, path, kind=kind, allow_pickle=False)])
        assert done or not len(vault), 'a failed import left something'
        judge(vault)
    assert photograph() == before, 'the source was changed, or something left beside it'
    return bool(done or any(read))


def judge(vault):
    """See that check() and reading agree, and that what is exported is imported."""
    read, lines = attempt(lambda: [list(vault.items())]), io.StringIO()
    assert not vault.check() or not read, 'check() calls damaged what can be read'
    if attempt(lambda: [moving.export(vault, lines)]):
        with opened() as again:
            lines.seek(0)
            assert moving.import_file(again, lines, allow_pickle=False) == len(vault), 'an export is not imported'


def clear(folder):
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


# --- seeds: what must be read, and known attacks, which must not do harm ------------------------------------------

def seeds_of_keys(folder=None):
    return [stored for stored in map(keys.encode, KEYS) if isinstance(stored, bytes)], [
        b'\x09' * 60_000, b'\x09' * 900 + b'\0' * 900, b'\x01\xff\xff\xff\xff\xfe', b'\x01\xff\0\0\xf0\0' + b'\x01' * 60_000,
        b'\x02' + b'\0\xff' * 30_000 + b'\0']


def ext(code, payload):
    """Return an extension with a payload of its own msgpack, or of bytes."""
    return ExtType(code, payload if isinstance(payload, bytes) else packb(payload))


ATOMS = (0, 1, -1, 2**31, 2**32 - 1, 2**62, 2**63 - 1, 2**64 - 1, -2**63, None, True, 0.5, 1e300, float('nan'), float('inf'), '',
         'C', 'F', '<i2', '|S0', '|O', '|V0', 'T', '1e999999999', 'NaN', '2026-11-21', '10:30:00', '2026-11-21T10:30:00',
         'Europe', 'Europe/Paris', '../etc', 'x' * 300, 'pandas.DataFrame', 'PIL.Image', '9' * 5000, b'', b'\0', b'\xc0', b'1/3',
         b'1e999999999', b'0001-01-01', b'\xff' * 16, b'\x80' * 300, b'\0' * 12)
OF_DEEP = b'\x90\x91\x92\x81\x82\x02\x05\x06\x07\x0a\x10\x12\x19'  # headers, which stand behind what they are of


def hostile(rng, depth=3):
    """Return an object for msgpack: any type of ours, with any content, above all with what does not belong there."""
    if not depth or rng.random() < 0.3:
        return rng.choice(ATOMS)
    inner = [hostile(rng, depth - 1) for _ in range(rng.randrange(5))]
    return rng.choice((
        lambda: inner, lambda: dict(zip('abcd', inner)), lambda: ext(2, [rng.choice(sorted(named.NAMED_TYPES.by_name)), *inner[:1]]),
        lambda: ext(25, b''.join(packb(ext(25, bytes([rng.choice(OF_DEEP)])) if rng.random() < 0.5 else one) for one in inner * 3)),
        lambda: ext(rng.randrange(28), inner), lambda: ext(rng.randrange(28), rng.choice((*inner, b'')))))()


def seeds_of_values(folder):
    rng = random.Random('values')
    endless, huge = ext(16, [0, 2**62, 1]), ext(13, b'1e999999999')
    samples = [1, 2**62, -1.5, 'C', '1e999999999', b'\xff', None, [], ['1e999999999', None], [0, 2**62, 1], {'a': 1}, endless,
               huge, [huge, None], ['10:30:00', 0, 'Europe'], ['10:30:00', 0, 'E' * 5000], ['10:30:00', 0, [2**62]],
               ['<i2', [2**62], 'C', b''], ['<i2', endless, 'C', b''], ['|S0', [2**60], 'C', b''],
               [[['a', '|O']], [1], 'C', b'\xff' * 8], [['a']], ['|O', b'\xff' * 8]]
    attacks = [packb(ext(code, sample)) for code in range(27) for sample in samples]
    attacks += [packb(ext(2, [name, sample])) for name in sorted(named.NAMED_TYPES.by_name) for sample in [*samples, *hostile_zones()]]
    attacks += [packb(hostile(rng)) for _ in range(500)]
    attacks += [b'\xc7\x0c\xff' + b'\xff' * 12, b'\xd6\xff' + b'\xff' * 4, b'\xdd\xff\xff\xff\xff', b'\xdf\x7f\xff\xff\xff', b'',
                b'\xc6\xff\xff\xff\xff', b'\xdc\x20\0' * 1000, b'\x91' * 5000, b'\x81' * 5000,
                functools.reduce(lambda data, _: packb(ext(5, b'\x91' + data)), range(40), b'\xc0')]
    tuples, lists = b'\xd4\x19\x91\xd4\x19\x05', b'\xd4\x19\x91'
    attacks += [packb(ext(25, data)) for data in (
        b'\x01' + tuples * 9000, b'\x01' + lists * 20_000, b'\x01' + tuples * 9000 + b'\xd4\x19\x91\xd4\x19\x06',
        b'\x01' * 60_000, b'\x01' * 9 + b'\xc7\x05\x19\xdd\xff\xff\xff\xff', b'\xd4\x19\x90' * 20_000,
        b'\x01' + tuples * 9000 + b'\x01\xd4\x19\x81', b'\x01' + b'\xd4\x19\x91\xd4\x19\x07' * 9000)]
    return [vaults.dumps(value, allow_pickle=False) for value in REAL], attacks


def hostile_zones():
    """Return zone files of dateutil's that lie about what is in them."""
    yield from ([b'TZif' + version + bytes(15) + struct.pack('>6l', *counts), 'x'] for version in (b'\0', b'2') for counts in (
        (0,) * 6, (2**31 - 1,) * 6, (-1,) * 6, (0, 0, 0, 2**31 - 1, 1, 4), (1, 1, 1, 1, 1, 1)))
    yield from ([f'{name}{rest}', 0] for name in ('EST5EDT', '9' * 5000, 'A' * 5000) for rest in ('', ',M3.2.0,M11.1.0', ',' * 5000))
    yield from (['A', 0, 'B', 3600000000, [{'month': month}, day], None] for month in (1, 99, 2**62) for day in (None, [6, 2**62]))


def grown(vault):
    """Put lists, columns and streams of all sorts into a vault."""
    vault.list('short').extend([1, 'two', (3,)])
    vault.list('list').extend(range(3000))
    vault.live(vaults.Deque, 'deque', maxlen=None).extend(range(300))
    vault.column('column', 'int16').extend(range(9000))
    vault.column('S3', 'S3').extend([b'abc', b'd'])
    vault.put_file('stream', io.BytesIO(b'stream ' * 100))
    vault.put_file('long', io.BytesIO(bytes(40_000)))


def seeds_of_parts(folder):
    """Real lists, columns and streams, with their parts; and headers and trees that lie."""
    real = [CUT.join([stored, b'\x01']) for stored in seeds_of_keys()[0]]
    with opened() as vault:
        grown(vault)
        for key in vault:
            value = vault._store.get(key)
            parts = [vault._store.get_chunk(value[-12:], number) for number in vault._store.chunk_numbers(value[-12:])]
            real.append(CUT.join([b'', value, *parts]))
    return real, [*lying_headers(), CUT.join([b'\x09', b'']), CUT.join([b'', b''])]


def lying_headers():
    """Yield headers with leaves and nodes of all sorts behind them. In one: meta, size, skip, inside, next, root, depth, tail, owner."""
    def node(*children):
        return b''.join(struct.pack('<QQ', *child) for child in children)

    leaves = [b'\x01', b'\x01\x02' * 8, node((1, 1)), node((3, 2**60)), node((3, 1), (3, 1)), node((2**63, 1)), b'']
    layers = [node(*[(number + 1, 2 ** (20 - number) * 8)] * 2) for number in range(1, 20)]
    lies = [{place: wrong} for place in range(1, 7) for wrong in (0, 1, 2, 2**31, 2**60, 2**63, 2**64 - 1, -1, None, 'x', 1.5)]
    lies += [dict(zip((1, 3, 5, 6, 7), wrong)) for wrong in (
        (2**60, 2**60, 4, 2**60, b''), (2**60, 2**60, 4, 60, b''), (2**60, 0, 0, 0, b'\x01'), (5, 1, 3, 1, b''),
        (2**60, 2**60, 4, 1, b''), (1, 2, 3, 1, b''), (2, 2, 5, 1, b''), (1, 1, 6, 1, b''), (1, 1, 7, 1, b''))]
    lies += [{3: 0, 5: 0, 6: 0, **wrong} for wrong in (
        {7: 'text'}, {7: [1]}, {7: None}, {7: b'\x01', 8: 'twelve bytes'}, {8: list(range(12))})] + [
        {1: 2**20 * 8, 3: 2**20 * 8, 4: 30, 5: 1, 6: 19}]
    for code, meta in ((20, None), (21, None), (22, 'int16'), (22, 'S3'), (22, None), (22, 'S9999999999'), (22, 5), (22, [2**62]),
                       (26, ['deque', None]), (26, ['deque', 2**62]), (26, ['nobody', None]), (26, None)):
        for lie in lies:
            header = [lie.get(place, sound) for place, sound in enumerate((meta, 1, 0, 1, 9, 3, 1, b'', b'\0\0\0\1' + b'o' * 8))]
            yield CUT.join([b'', packb(ext(code, header)), *(layers if 19 in lie.values() else leaves), b'\x01' * 16])


REAL = [*VALUES, *(value for value, _, _ in NAMED)]
COUNTING = 'WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c)'
WRONG = ('NULL', '-1', '9223372036854775807', '-1e300', "'text'", "x'00'", "CAST(x'ff' AS TEXT)")
COLUMNS = """SELECT t.name, c.name, c.type FROM sqlite_master t, pragma_table_info(t.name) c
 WHERE t.sql LIKE 'CREATE TABLE%' AND t.name NOT LIKE 'sqlite_%'"""


def database(folder, script, data=b''):
    """Return the bytes of an SQLite file after a script, which does what it can: an old SQLite may not know all of it."""
    path = folder / 'made.db'
    path.write_bytes(data)
    with contextlib.closing(sqlite3.connect(str(path))) as raw, contextlib.suppress(sqlite3.Error):
        raw.executescript(f'PRAGMA synchronous = OFF; PRAGMA journal_mode = MEMORY; {script}')
    return path.read_bytes()


def spoiled(folder, real, is_vault=False):
    """Yield a real database after each statement of fuzz.sql, with each table, column and wrong value for which it has a place."""
    (folder / 'real.db').write_bytes(real)
    with contextlib.closing(sqlite3.connect(str(folder / 'real.db'))) as raw:
        columns, scripts = raw.execute(COLUMNS).fetchall(), {}
    for text in (TRIALS / 'fuzz.sql').read_text('utf-8').split('\n\n')[1:]:
        for (table, column, _), wrong in itertools.product(columns if is_vault or '{table}' in text else (), WRONG):
            *others, (last, kind) = [rest for name, *rest in columns if name == table]
            scripts[text.format(table=table.replace('"', '""'), column=column, wrong=wrong, counting=COUNTING, last=last, type=kind,
                                others=', '.join(name for name, _ in others), typed=', '.join(map(' '.join, others)))] = None
    yield from (database(folder, script, real) for script in scripts)


def seeds_of_files(folder):
    """A small vault, that after each of these statements, and with other numbers in its header."""
    with opened(folder / 'real.db') as vault, vault:
        vault['text'] = 'a value'
        vault.update({key: number for number, key in enumerate(KEYS)})
        vault.update({('value', number): value for number, value in enumerate(REAL)})
        grown(vault)
    real = database(folder, 'PRAGMA journal_mode = DELETE; PRAGMA page_size = 1024; VACUUM', (folder / 'real.db').read_bytes())
    return [real], [*spoiled(folder, real, True),
                    real[:28] + struct.pack('>I', 2**31 - 1) + real[32:], real[:1024], real[:-1], b'', b'x' * 100,
                    real[:16] + b'\2\0' + real[18:], real[:56] + struct.pack('>I', 2) + real[60:]]


DEEP = '[' * 50_000
FORMS = (  # of JSON, as values and keys
    DEEP, '{"!tuple": {"!range": [0, 1000000000000, 1]}}', '{"!fraction": ["1e999999999", null]}', '9' * 60_000, '"\\ud800"', 'NaN',
    '{"!int": "0x' + 'f' * 60_000 + '"}', '{"!list": 5}', '{"!pickle": 1}', '{"!pickle": ["", "gASJLg=="]}', '\ud800',
    '{"!time": ["10:30:00", 0, "Europe"]}', '{"!msgpack": "3f////8="}', '{"!dict": [[[], 1]]}', '{"!key": "CQkJ"}',
    '{"!ndarray": ["|O", [1], "C", {"!bytes": "/////////w=="}]}', '{"!serialized": ["json", "x"]}', '{"!list": 1152921504606846976}',
    '{"!column": ["S9999999999", 5]}', '{"!stream": 5}\n{"bytes": "AAAA"}', '{"!column": ["bool", 2]}\n{"bytes": "AAI="}',
    '{"!list": 2}\n{"items": [1, {"!list": 0}]}', '{"!kind": ["deque", 1, 5]}\n{"items": [1]}', '{"!kind": [[], [], []]}')


def seeds_of_command(folder):
    forms = [json.dumps(as_json.from_value(standalone.dumps(value, allow_pickle=False))) for value in REAL]
    real = [f'{form}\n{key}\n{key}\n"z"'.encode() for form, key in zip(forms, (json.dumps(as_json.from_key(key)) for key in KEYS))]
    return real, [f'{before}\n{form}'.encode('utf-8', 'surrogatepass') for form in FORMS for before in (form, 1)]


TESTDATA = {  # by kind of source, the patterns of what there is
    'json': 'json-* pickledb-0.9.json pickledb-1.json', 'jsonlines': 'jsonl-*', 'csv': 'csv-*', 'tinydb': 'tinydb-*',
    'pickledb': 'pickledb-1.sqlite', 'litedict': 'litedict-*', 'sqlitedict': 'sqlitedict-*', 'kohakuvault': 'kohakuvault-*',
    'diskcache': 'diskcache-cache diskcache-index', 'pystoragebackend': 'pystoragebackend-*', 'earlier vault': 'vaults-earlier.sqlite',
    'pyvault': 'pyvault-*', 'dbm': 'dbm-dumb.dir dbm-sqlite3', 'shelve': 'shelve-dumb*.dir shelve-sqlite3'}
ATTACKS = {  # on sources that are text
    'json': (f'{{"a": {DEEP}', '{' * 9, '{"a": 1' + '0' * 60_000 + '}', '{"\\ud800": 1}', '{"a": NaN}'),
    'jsonlines': [f'{{{line}}}\n' for form in FORMS for line in (f'"key": 1, "value": {form}', f'"key": {form}, "value": 1')],
    'csv': ('key,value\n' + '"' * 60_000, 'key,value\n"' + 'x' * 60_000, 'key\nx\0\n', 'key,key\n1,2\n'),
    'tinydb': (f'{{"_default": {DEEP}', f'{{"_default": {{"1": {DEEP}', '{"_default": [1]}', '{"a": {"1' + '0' * 60_000 + '": 1}}')}
READABLE = {  # what has no pickles, nor names of files that are not there
    'diskcache': "UPDATE Cache SET filename = 'a.val' WHERE filename > ''; DELETE FROM Cache WHERE mode = 4 OR NOT raw",
    'earlier vault': "DELETE FROM dict WHERE x'50' IN (substr(key, 1, 1), substr(value, 1, 1))"}


def seeds_of_source(kind, folder):
    real = []
    for path in (path for name in TESTDATA[kind].split() for path in sorted((ROOT / 'testdata').glob(name))):
        files = (sorted(path.rglob('*.vault'))[1:3] or [path / 'cache.db', *sorted(path.rglob('*.val'))[:1]] if path.is_dir() else
                 [path, path.with_suffix('.dat')] if path.suffix == '.dir' else [path])
        first, *rest = (file.read_bytes().replace(b'id,name', b'key,name') for file in files)  # of csv-cities.csv
        real.append((database(folder, READABLE[kind], first) if kind in READABLE else first, *rest))
    databases = [seed for seed in real if seed[0].startswith(b'SQLite')]
    return [CUT.join(seed) for seed in real], [b'', *(text.encode('utf-8', 'surrogatepass') for text in ATTACKS.get(kind, ())), *(
        CUT.join([data, *rest]) for first, *rest in databases[:1] for data in spoiled(folder, first))]


TARGETS = {  # what is asked of each input, the real ones and attacks, made in an empty folder, and how many more a round has
    'keys': (keys_target, seeds_of_keys, 100), 'values': (values_target, seeds_of_values, 20),
    'parts': (parts_target, seeds_of_parts, 1), 'file': (file_target, seeds_of_files, 1), 'command': (command_target, seeds_of_command, 1),
    **{kind.replace(' vault', ''): (functools.partial(source_target, kind), functools.partial(seeds_of_source, kind), 1)
       for kind in TESTDATA},
}


NUMBERS = (0, 1, 15, 127, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**32 - 1, 2**62, 2**63 - 1, 2**64 - 1)
TOKENS = (b'\xc7', b'\xc8', b'\xd4', b'\xd8', b'\xdd', b'\xdf', b'\x00\xff', b'{"!', b'"!tuple"', b'"!range"', b'"!list"',
          b'"!fraction"', b'"!dict"', b'[[', b'e999999999', b'\\ud800', b'NaN', b'\xff', b'"', b"'", b'\\', b'\n', CUT)


def mutated(rng, pool):
    data = bytearray(rng.choice(pool))
    for _ in range(rng.choice((1, 1, 1, 2, 4, 8))):
        other, at, length, size = rng.choice(pool), rng.randrange(len(data) + 1), 1 << rng.randrange(7), 1 << rng.randrange(4)
        start, number = rng.randrange(len(other) + 1), rng.choice(NUMBERS) + rng.randrange(2)
        piece = rng.choice((
            bytes([rng.randrange(256)]), data[at:at + length] * 2, b'', other[start:start + length], rng.choice(TOKENS),
            (number % 256**size).to_bytes(size, rng.choice(('big', 'little'))), str(number).encode()))
        data[at:at + rng.choice((0, len(piece), length))] = piece
    return bytes(data[:LARGEST])


# --- the process of a target --------------------------------------------------------------------------------------

class Session:
    """The inputs of one target, in a process of its own. Tells of each whether it was read, and what broke: a problem, and the input."""

    def __init__(self, name, folder, options, tell):
        """Run all seeds, then mutations."""
        self.ask, seeds, times = TARGETS[name]
        self.tell, self.folder, self.current = lambda what: tell(json.dumps(what).encode() + b'\n'), folder / 'one', folder / 'current'
        self.known, self.seen, rng = set(), [], random.Random(f'{options.seed} {name}')
        self.folder.mkdir()
        tempfile.tempdir = tempfile.mkdtemp(dir=folder)
        os.chdir(tempfile.tempdir)
        os.environ['VAULTS_TRACEBACK'] = '1'  # the command is to raise what it does not expect
        warnings.simplefilter('ignore')
        real, attacks = seeds(self.folder)
        clear(self.folder)
        sys.addaudithook(self.audit)
        if sys.platform == 'linux':
            taken = int(pathlib.Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, taken + MEMORY))
        for number, data in enumerate([*real, *attacks]):
            self.run(data, number < len(real))
        (self.guided if options.guided else self.blind)([*real, *attacks], rng, options.rounds * times)

    def run(self, data, wanted=False):
        """Run one input; one that is `wanted` must be read."""
        self.current.write_bytes(data)
        problem, read = None, False
        self.seen.clear()
        signal.setitimer(signal.ITIMER_PROF, SECONDS)  # ends the process, also in the middle of C code
        try:
            read = self.ask(data, self.folder)
        except Exception as error:
            *_, frame = [None, *(one for one in traceback.extract_tb(error.__traceback__) if f'vaults{os.sep}' in one.filename)]
            where = f' at {os.path.basename(frame.filename)}:{frame.name}:{frame.lineno}' if frame else ''
            problem = f'{type(error).__name__}{where}' + (f' ({error})' if isinstance(error, AssertionError) else '')
        signal.setitimer(signal.ITIMER_PROF, 0)
        clear(self.folder)
        problem = problem or ' '.join(self.seen) or ('a real one was not read' if wanted and not read else None)
        if problem not in {None, *self.known}:
            self.known.add(problem)
            self.tell([problem, repr(data)])
        self.tell(bool(read))

    def audit(self, event, arguments):
        """See what is not allowed."""
        if event in ('pickle.find_class', 'os.system', 'subprocess.Popen', 'os.exec', 'os.posix_spawn', 'socket.connect'):
            self.seen.append(f'{event} of {arguments[:2]}')
        elif (event == 'open' and isinstance(arguments[0], str) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
              and not os.path.abspath(arguments[0]).startswith((str(self.folder.parent), os.devnull))):
            self.seen.append(f'{arguments[0]!r:.200} was opened to write')

    def blind(self, pool, rng, inputs):
        for _ in range(inputs):  # values are also made from nothing, which says more than what was once sound
            from_nothing = self.ask is values_target and rng.random() < 0.5
            self.run(packb(hostile(rng, 4))[:LARGEST] if from_nothing else mutated(rng, pool))

    def guided(self, pool, rng, inputs):
        seeds = tempfile.mkdtemp()
        for number, data in enumerate(pool):
            pathlib.Path(seeds, str(number)).write_bytes(data[:LARGEST])
        atheris.Setup([sys.argv[0], f'-runs={len(pool) + inputs}', f'-seed={rng.randrange(1, 2**31)}', f'-max_len={LARGEST}',
                       f'-artifact_prefix={seeds}{os.sep}', '-verbosity=0', '-rss_limit_mb=0', '-timeout=0', '-detect_leaks=0', seeds],
                      self.run)
        atheris.Fuzz()


def main():
    trial = Trial(__doc__, rounds=20)
    trial.parser.add_argument('--target', action='append', choices=sorted(TARGETS), help='default: all of them')
    trial.parser.add_argument('--blind', action='store_true', help='without atheris, even where it is installed')
    options = trial.begin()
    options.guided, every = atheris and not options.blind, []
    print('mutations are guided by coverage' if options.guided else "mutations are blind: asked for, or no pip install '.[fuzz]'")
    for name in options.target or TARGETS:
        with tempfile.TemporaryDirectory(dir=IN_MEMORY) as folder:
            (current := pathlib.Path(folder, 'current')).touch()
            process = Process(Session, name, current.parent, options, hangs=10.0 ** 7)
            code = process.join()
            results = [json.loads(line) for line in process.said.splitlines()]
            how = 'it took too long' if code == -signal.SIGPROF else f'the process ended with {code}'
            found = [one for one in results if isinstance(one, list)] + ([[how, repr(current.read_bytes())]] if code else [])
        read = [one for one in results if not isinstance(one, list)]
        print(f'{name}: {len(read)} inputs, {sum(read)} read', *(data for _, data in found), sep='\n', flush=True)
        for problem, data in found:
            trial.broke(f'{name}: {problem}: {data:.500}')
        every += read
    trial.end(f'{len(every)} hostile inputs, {sum(every)} of them read, {len(trial.broken)} broke a promise')


if __name__ == '__main__':
    main()
