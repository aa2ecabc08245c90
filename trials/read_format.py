"""Read a vault with a reader made from docs/format.md alone, and compare it with the library.

    python trials/read_format.py

The reader, the first part, knows nothing of the library. The proof, the second, makes a vault with keys of every kind
and values of every ExtType but pickle, lists, columns and streams, entries overwritten and deleted among them, reads it,
and compares types and contents at any depth. Then it writes to the file by the page's rules: the library must find that,
and nothing wrong. Last it damages an entry and a part, which the reader must refuse. Prints a line of figures; exits with 1 when anything differs.
The types of NumPy and the named time zones take part where they are installed.
"""
from __future__ import annotations

import contextlib
import io
import json
import pathlib
import re
import sqlite3
import struct
import sys
import tempfile
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from uuid import UUID
from zlib import crc32

from msgpack import ExtType, Unpacker, packb, unpackb
from shared.values import KEYS, NAMED, NOON, VALUES, typed
from shared.verdict import Trial

import vaults  # for the proof; the reader uses nothing of it

# --- the reader ---------------------------------------------------------------------------------------------------

END = object()
FIRST, LAST = -62_135_596_800_000_000, 253_402_300_799_999_999  # of the calendar, in microseconds since 1970


def escaped(stream):
    found = re.compile(rb'((?:[^\0]|\0\xff)*)\0').match(stream.getvalue(), stream.tell())
    stream.seek(found.end())
    return found[1].replace(b'\0\xff', b'\0')


def number(stream):
    first = stream.read(1)[0]
    sign, flip = (1, 0) if first >= 0x80 else (-1, 0xff)
    take = lambda size: bytes(byte ^ flip for byte in stream.read(size))
    size = (first ^ flip) - 0x80
    size = int.from_bytes(take(4), 'big') if size == 0x7f else size
    if size == 0xffffffff:
        return sign * float('inf')
    whole = sign * int.from_bytes(take(size), 'big')
    if take(1) == b'\1':
        return whole + sign * struct.unpack('>d', take(8))[0]
    bits = whole.bit_length()  # past 64 bits, what a float equals is that float
    return float(whole) if 63 < bits <= 1024 and not whole % (1 << bits - 53) and whole != -1 << 63 else whole


def instant(stream):
    since = int.from_bytes(stream.read(8), 'big') - (1 << 63)
    shift = ((since < FIRST) - (since > LAST)) * 86_399_999_999  # to where the calendar can show it
    return datetime(1970, 1, 1, tzinfo=timezone(timedelta(0, 0, shift))) + timedelta(0, 0, since + shift)


TAGS = {
    0: lambda stream: END, 1: number, 2: lambda stream: escaped(stream).decode('utf-8', 'surrogatepass'),
    3: lambda stream: None, 4: escaped, 5: lambda stream: date.fromordinal(int.from_bytes(stream.read(4), 'big')),
    6: lambda stream: instant(stream).replace(tzinfo=None), 7: instant, 8: lambda stream: UUID(bytes=stream.read(16)),
    9: lambda stream: tuple(iter(lambda: element(stream), END)),
}


def element(stream):
    return TAGS[stream.read(1)[0]](stream)


OPTIONS = {'ext_hook': lambda code, payload: CODES[code](payload), 'strict_map_key': False}


def loads(data):
    """Return the object that is packed in `data`, or `data`: what is no bytes is the payload of a header, read already."""
    return data if not isinstance(data, bytes) else unpackb(data, **OPTIONS)


def deep(data):
    """Return the value of an extension 25: headers stand behind their parts."""
    stack = []
    hook = lambda code, payload: ExtType(code, payload) if code == 25 else CODES[code](payload)
    for part in Unpacker(io.BytesIO(data), **{**OPTIONS, 'ext_hook': hook}):
        if isinstance(part, ExtType) and part.code == 25:
            code, count = part.data[0], int.from_bytes(part.data[1:] or bytes([part.data[0] & 15]), 'big')
            is_map = 0x80 <= code < 0x90 or code in (0xde, 0xdf)
            count = 1 if code < 0x80 else 2 * count if is_map else count
            parts = stack[len(stack) - count:]
            del stack[len(stack) - count:]
            part = dict(zip(parts[::2], parts[1::2])) if is_map else parts if code > 0x7f else CODES[code](parts[0])
        stack.append(part)
    part, = stack
    return part


def moment(kind, text, fold, zone):
    if isinstance(zone, tuple):  # a type of its own
        return kind.__name__, text, fold, zone
    if isinstance(zone, str):
        from zoneinfo import ZoneInfo  # Python 3.9 or newer
        zone = ZoneInfo(zone)
    elif zone:
        zone = timezone(timedelta(0, 0, zone[0]), *zone[1:])
    return kind.fromisoformat(text).replace(fold=fold, tzinfo=zone)


CODES = {
    2: lambda data: ('registered', *loads(data)), 3: lambda data: int.from_bytes(data, 'big', signed=True),
    4: bytearray, 5: lambda data: tuple(loads(data)), 6: lambda data: set(loads(data)),
    7: lambda data: frozenset(loads(data)), 8: lambda data: complex(*struct.unpack('>dd', data)),
    9: lambda data: date.fromisoformat(data.decode()), 10: lambda data: moment(datetime, *loads(data)),
    11: lambda data: moment(time, *loads(data)), 12: lambda data: timedelta(*loads(data)),
    13: lambda data: Decimal(data.decode()), 14: lambda data: Fraction(*loads(data)), 15: lambda data: UUID(bytes=data),
    16: lambda data: range(*loads(data)), 17: lambda data: ExtType(*loads(data)),
    18: lambda data: ('array', *loads(data)), 19: lambda data: ('scalar', *loads(data)),
    23: lambda data: ('serialized', loads(data)), 24: lambda data: data.decode('utf-8', 'surrogatepass'), 25: deep,
}


def leaves(db, owner, number, depth):
    data, crc = db.execute('SELECT data, crc FROM parts WHERE owner = ? AND number = ?', (owner, number)).fetchone()
    if crc != crc32(data, crc32(owner) ^ (number ^ number >> 32) & 0xffffffff):
        raise ValueError(f'part {number} is damaged')
    for child, count in struct.iter_unpack('<QQ', data) if depth else ():
        yield from leaves(db, owner, child, depth - 1) if child else (bytes(count),)
    if not depth:
        yield data


FORMATS = {'int8': 'b', 'uint8': 'B', 'int16': 'h', 'uint16': 'H', 'int32': 'i', 'uint32': 'I', 'int64': 'q',
           'uint64': 'Q', 'float32': 'f', 'float64': 'd', 'bool': '?'}


def column(data, meta):
    kind = FORMATS.get(meta) or ('q' if meta.startswith('datetime64') else meta[1:] + 's')
    return [item.rstrip(b'\0') if isinstance(item, bytes) else item for item, in struct.iter_unpack(f'<{kind}', data)]


def from_parts(db, header):
    meta, size, skip, _, _, root, depth, tail, owner = unpackb(header.data)
    data = b''.join([*(leaves(db, owner, root, depth) if root else ()), tail])
    items = data if header.code == 20 else list(Unpacker(io.BytesIO(data), **OPTIONS)) if header.code in (21, 26) else column(data, meta)
    if len(items) != skip + size:
        raise ValueError(f'{len(items)} items, not {skip} + {size}')
    return items[skip:]


def checksum(key, value):
    if isinstance(key, (str, bytes)):
        return crc32((b't' + key.encode() if isinstance(key, str) else b'b' + key) + value)
    if -1 << 63 <= key < 1 << 63 and key == int(key):
        return crc32(struct.pack('>cq', b'i', int(key)) + value)
    return crc32(struct.pack('>cd', b'f', key) + value)


def read(db):
    """Yield the (key, value) of a vault in insertion order, from a connection to its file."""
    if [db.execute(f'PRAGMA {name}').fetchone()[0] for name in ('application_id', 'user_version')] != [0x7661756c, 1]:
        raise ValueError('not a vault of format 1')
    for key, value, crc in db.execute("SELECT key, value, crc FROM entries WHERE key <> x'' ORDER BY id"):
        is_bool, has_parts = key in (0, 1) and crc & 1 << 32, crc & 1 << 33
        if crc != checksum(key, value) + is_bool + has_parts:
            raise ValueError(f'the entry of {key!r} is damaged')
        yield (element(io.BytesIO(key)) if isinstance(key, bytes) else bool(key) if is_bool else key,
               from_parts(db, unpackb(value)) if has_parts else loads(value))


# --- the proof ----------------------------------------------------------------------------------------------------

def values():
    """Yield the values to store, and as the reader is to read them."""
    yield from zip(VALUES, VALUES)
    yield io.StringIO('text'), ('registered', 'file', 'text')
    yield from ((value, ('registered', name, payload)) for value, name, payload in NAMED)
    with contextlib.suppress(ImportError):
        from dateutil import tz
        yield NOON.replace(tzinfo=tz.UTC), ('datetime', '2026-11-21T12:00:00', 0, ('registered', 'dateutil.tz.tzutc+parts', None))
    with contextlib.suppress(ImportError, LookupError):  # some systems have no data about zones
        from zoneinfo import ZoneInfo
        yield (datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=ZoneInfo('Europe/Paris')),) * 2
    with contextlib.suppress(ImportError):
        import numpy
        for order, data in (('C', b'\1\0\2\0\3\0\4\0'), ('F', b'\1\0\3\0\2\0\4\0')):
            yield numpy.array([[1, 2], [3, 4]], '<i2', order=order), ('array', '<i2', [2, 2], order, data)
        fields = [('a', '<i2'), ('b', '|u1', (2,))]
        yield numpy.zeros(1, fields), ('array', fields, [1], 'C', b'\0\0\0\0')
        yield numpy.float64(1.5), ('scalar', '<f8', struct.pack('<d', 1.5))


COLUMNS = {'int8': [-128, 127], 'uint8': [255], 'int16': [-2], 'uint16': [65535], 'int32': [-3], 'uint32': [2 ** 32 - 1],
           'int64': list(range(-9000, 9000)), 'uint64': [2 ** 64 - 1], 'float32': [0.5], 'float64': [0.1, float('inf')],
           'bool': [True, False], 'S3': [b'abc', b'', b'a'], 'datetime64[D]': [20_778]}
GROWN = {  # by key what is put in parts, as the reader is to read it
    True: ['x' * 5000], 'empty': [], 'short': [1, (2,), b'x', 2 ** 70], ('long', 1): [{'n': n} for n in range(20_000)],
    'deque': [{'n': n} for n in range(3000)], 'nothing': b'', 'small': b'ab', 'large': bytes(range(256)) * 4000, 'hole': b'a' + bytes(3_000_000) + b'z',
    **{f'column of {dtype}': items for dtype, items in COLUMNS.items()}}


def grow(vault, key, wanted):
    if isinstance(wanted, bytes):
        with vault.open(key, 'wb') as file:
            for start, end in ((0, 1), (len(wanted) - 1, None)) if key == 'hole' else ((0, None),):
                file.seek(start)
                file.write(wanted[start:end])
        return
    kind = str(key).replace('column of ', '')
    vault[key] = (vault.column('made', kind) if kind in COLUMNS else
                  vault.live(vaults.Deque, 'made', maxlen=None) if key == 'deque' else vault.list('made'))
    del vault['made']
    vault[key].extend(wanted[:1] * 150 + wanted)
    with vault:
        for _ in wanted[:1] * 150:  # which leaves a skip
            del vault[key][0]


def make(path, entries):
    """Make a vault of `entries`, all overwritten, others deleted between them; return the keys it gives back."""
    vaults.register(io.StringIO, io.StringIO.getvalue, io.StringIO, name='file')
    with contextlib.closing(vaults.Vault(path, allow_pickle=False)) as vault:
        for at, (key, _) in enumerate(entries):
            vault['deleted', at] = vault[key] = at
        vault.update(entries)
        del vault['deleted', 1], vault[('deleted', 0):('deleted', len(entries))]
        for key, wanted in GROWN.items():
            grow(vault, key, wanted)
        vault['newest'] = 1
        del vault['newest']
        keys = list(vault)
        for key in keys[-3:]:  # they end where they were, with other ids
            vault.move_to_end(key)
        for key in keys[2::-1]:
            vault.move_to_end(key, last=False)
        return keys


def differences(db, wanted, keys):
    """Yield where what the reader finds is not what was put, and what was not put of all that there is."""
    found = list(read(db))
    count, = db.execute("SELECT max(id) - (SELECT crc FROM entries WHERE key = x'') FROM entries").fetchone()
    yield from (f'{one!r:.200} is not {other!r:.200}' for one, other in zip(found, wanted) if typed(one) != typed(other))
    if not [key for key, _ in found] == [key for key, _ in wanted] == keys or count != len(keys):
        yield 'the keys, or their number, are not those that were put'
    missing = {int, float, str, *range(1, 10), *(f'code {code}' for code in (*range(2, 23), 24, 25, 26))}
    missing -= set() if 'numpy' in sys.modules else {'code 18', 'code 19'}
    for key, value in db.execute("SELECT key, value FROM entries WHERE key <> x''"):
        missing.discard(key[0] if isinstance(key, bytes) else type(key))
        unpackb(value, ext_hook=lambda code, _: missing.discard(f'code {code}'), strict_map_key=False)
    yield from (f'nothing was put of {one}' for one in missing)


def write(db):
    """Insert, overwrite, move and delete by the page's rules, also what has parts; return the entries put."""
    put = """INSERT INTO entries(key, value, crc) VALUES (?, ?, ?) ON CONFLICT(key) DO UPDATE
             SET value = excluded.value, crc = (crc & 4294967296) | (excluded.crc & 12884901887)"""
    mark = """UPDATE entries SET crc = crc + ?1, id = iif(?2 > (SELECT max(id) FROM entries), ?2, id) WHERE key = x''"""
    new = {'written': 1, 'text': [2], 1: 3, 2.0 ** 70: 4, 'gone': 5, 2: 6}
    for key, value in new.items():
        db.execute(put, (key, packb(value), checksum(key, packb(value))))
    for key in ('gone', 2, 'large'):
        highest, = db.execute('SELECT max(id) FROM entries').fetchone()
        db.execute(mark, (db.execute('DELETE FROM entries WHERE key = ?', (key,)).rowcount, highest))
        new.pop(key, None)
    db.execute("UPDATE entries SET id = (SELECT max(id) + 1 FROM entries) WHERE key = 'written'")  # it is the last
    db.execute("UPDATE entries SET crc = crc + 1 WHERE key = x''")
    first, = db.execute("SELECT key FROM entries WHERE key <> x'' ORDER BY id").fetchone()
    db.execute("""UPDATE entries SET crc = crc + 1, id = (SELECT max(id) + 1 FROM entries),
                  value = CAST(min(CAST(value AS INTEGER), (SELECT min(id) FROM entries), 0) - 1 AS BLOB)
                  WHERE key = x''""")
    db.execute("UPDATE entries SET id = (SELECT CAST(value AS INTEGER) FROM entries WHERE key = x'') WHERE key = ?", (first,))
    db.commit()
    return new


def problems(folder):
    """Yield what differs, in a vault that is read, written, and read by the library; then in one with a serializer."""
    stored, expected = zip(*values())
    keys, path = KEYS + [('value', at) for at in range(len(stored))], folder / 'vault.db'
    contents = {**{key: expected[at % len(stored)] for at, key in enumerate(keys)}, **GROWN}
    given = make(path, [(key, stored[at % len(stored)]) for at, key in enumerate(keys)])
    with contextlib.closing(sqlite3.connect(str(path))) as db:
        yield from differences(db, list(zip(given, contents.values())), list(contents))
        new = write(db)
        with contextlib.closing(vaults.Vault(path, allow_pickle=False)) as vault:
            yield from vault.check()
            left = [key for key in given if key not in (2, 'large')] + ['written']
            if typed(list(vault)) != typed(left) or len(vault) != len(left):
                yield 'the library finds other keys than were written'
            yield from (f'{key!r} is {vault[key]!r}' for key in new if typed(vault[key]) != typed(new[key]))
            owners = {data[-12:] for page in vault._store.scan() for data in page[1]}
            yield from (f'parts of {owner!r} are left' for owner in vault._store.chunk_owners() if owner not in owners)
        for statement in ("UPDATE parts SET crc = crc - 1 WHERE number = 3", "UPDATE entries SET value = x'02' WHERE key = 'written'"):
            db.execute(statement)
            with contextlib.suppress(ValueError):
                yield f'the reader took {len(list(read(db)))} entries, of which this has damaged one: {statement}'
            db.rollback()
    with contextlib.closing(vaults.Vault(folder / 'serialized.db', serializer=json)) as vault:
        vault['a'] = [1]
        vault.list('list').append(None)
    with contextlib.closing(sqlite3.connect(str(folder / 'serialized.db'))) as db:
        found = dict(read(db))
        name, = db.execute('SELECT data FROM parts WHERE owner = zeroblob(12) AND number = 0').fetchone()
    if found != {'a': ('serialized', '[1]'), 'list': [('serialized', 'null')]} or loads(name) != {'serializer': 'json'}:
        yield f'{found} of a vault with the serializer {name!r}'


def main():
    trial = Trial(__doc__, rounds=1)
    trial.begin()
    with tempfile.TemporaryDirectory() as folder:
        try:
            for problem in problems(pathlib.Path(folder)):
                trial.broke(problem)
        except Exception as error:  # of the reader, or of the library about what the reader wrote
            trial.broke(f'not to be read: {error!r}')
    trial.end(f'read and wrote entries of every kind, {len(trial.broken)} differ')


if __name__ == '__main__':
    main()
