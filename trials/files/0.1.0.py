"""What is in 0.1.0.db, the vault of release 0.1.0. Never change this file nor that one: each release adds a pair.

`fill(v)` made the vault; `differences(v)` says where a vault is not what every later release must read. The vault was
made with `python trials/versions.py --write FILE`, on a Python with NumPy and zoneinfo.
"""
import array
import collections
import datetime as dt
import decimal
import fractions
import uuid

SHA256 = '1a30b99dac8f533dd8e5e1bf2cdd27990ca4458172f59774d11c073ab70ecebf'  # of 0.1.0.db
PICKLED = [collections.OrderedDict]  # what a reader must allow, and nothing more
UTC = dt.timezone.utc
EAST = dt.timezone(dt.timedelta(hours=2), 'EAST')
IDENTITY = uuid.UUID('12345678-1234-5678-1234-567812345678')
MOMENT = dt.datetime(2026, 11, 21, 10, 30, 0, 123456)


class Point:
    """A type of the user's; its name in the file is 'Point'."""

    def __init__(self, x, y):
        self.x, self.y = x, y

    def __eq__(self, other):
        return type(other) is Point and (self.x, self.y) == (other.x, other.y)

    def __repr__(self):
        return f'Point({self.x!r}, {self.y!r})'


def register(vaults):
    """Make Point known to the library. Only once in a process, as it takes a name for one class."""
    vaults.register(Point, lambda point: [point.x, point.y], lambda pair: Point(*pair), name='Point')


KEYS = {key: number for number, key in enumerate([
    None, True, False, 2, -3, 2**62, -2**63, 2.0**64, 2**64 + 1, -2**200 - 1, 0.5, -1e300, float('inf'), float('-inf'),
    '', 'text', 'Grüße, 世界 🎈', 'nul \0 inside', 'lone \ud800', b'', b'bytes \0\xff',
    dt.date(2026, 11, 21), MOMENT, MOMENT.replace(tzinfo=UTC), IDENTITY,
    (), ('a', 1), ('a', (None, b'\0', -2**70 - 1)), (1.5, dt.date.min, IDENTITY)])}

VALUES = {
    'none': None, 'yes': True, 'no': False, 'zero': 0, 'negative': -2**63, 'large': 2**64 - 1, 'larger': 2**64,
    'huge': -3**300, 'float': 0.1, 'minus zero': -0.0, 'infinity': float('-inf'), 'string': 'Grüße, 世界 🎈 \0',
    'long': 'vault' * 2_000, 'surrogate': 'a\udcff', 'bytes': bytes(range(256)), 'bytearray': bytearray(b'ab'),
    'list': [1, [2, [3, []]], 'x', None, False], 'tuple': (1, (2, ()), [3]),
    'dict': {'z': 1, 'a': {2: (3,)}, None: 4, (5, 'b'): 6, b'c': 7, 1.5: 8}, 'set': {1, (2, 3)},
    'frozenset': frozenset({frozenset(), 1}), 'complex': 1 + 2j, 'date': dt.date(1, 1, 1), 'datetime': MOMENT,
    'utc': MOMENT.replace(tzinfo=UTC), 'fixed zone': MOMENT.replace(tzinfo=EAST, fold=1),
    'time': dt.time(23, 59, 59, 9), 'timedelta': dt.timedelta(-1, 2, 3), 'decimal': decimal.Decimal('-1.50E+3'),
    'fraction': fractions.Fraction(-1, 3),
    'uuid': IDENTITY, 'range': range(1, 10, 2), 'point': [Point(1, (2, 'three'))],
    'pickled': {'leaf': collections.OrderedDict(a=1, b=[2])}}
LIST = [{'number': number, 'pair': (number, str(number))} for number in range(700)]
NUMBERS = [number / 4 for number in range(1_500)]
STREAM = bytes(range(256)) * 30
TEXT = 'first line\nzweite Zeile: Grüße\n'


def optional():
    """Return what needs modules that a Python may lack, those that it has."""
    found = {}
    try:
        import zoneinfo
        found['named zone'] = MOMENT.replace(tzinfo=zoneinfo.ZoneInfo('Europe/Paris'))
    except (ImportError, KeyError):  # no such module before Python 3.9; no data about zones on some systems
        pass
    try:
        import numpy
        found['array'] = numpy.arange(6, dtype='<i4').reshape(2, 3)
        found['scalar'] = numpy.float32(1.5)
    except ImportError:
        pass
    return found


def fill(v):
    """Write the vault: entries replaced and deleted among them, the newest one too."""
    v['replaced'] = 'old'
    v['deleted'] = 'x' * 5_000
    v.update(KEYS)
    v.update(VALUES)
    v['replaced'] = 'new'
    del v['deleted']
    v.update(optional())
    v.list('live list').extend([None, *LIST, 'dropped'])
    v.list('live list').pop()
    del v.list('live list')[0]
    v.column('numbers', 'float64').extend(NUMBERS)
    v.column('flags', 'bool').extend([True, False, True])
    with v.open('stream', 'wb') as file:
        file.write(STREAM)
    with v.open('text', 'w') as file:
        file.write(TEXT)
    users = v.section('users')
    users['ann'] = {'age': 30}
    users.section('ann')['mail'] = ['ann@example.org']
    v.list('gone').extend(LIST)
    del v['gone']
    v['newest'] = 1
    v.popitem()


EXPECTED = {'replaced': 'new', **KEYS, **VALUES, 'named zone': ..., 'array': ..., 'scalar': ..., 'live list': LIST,
            'numbers': array.array('d', NUMBERS), 'flags': [True, False, True], 'stream': STREAM, 'text': TEXT.encode(),
            ('users', 'ann'): {'age': 30}, ('users', 'ann', 'mail'): ['ann@example.org']}
LIVE = ('live list', 'numbers', 'flags')  # v[key] is a List or a Column


def same(value, expected):
    """Tell whether a value is the expected one, types included: of its repr, or where that has no order, by itself."""
    if type(value).__module__ == 'numpy':
        return value.dtype == expected.dtype and value.tolist() == expected.tolist()
    if isinstance(value, (set, frozenset)):
        return type(value) is type(expected) and value == expected
    return type(value) is type(expected) and repr(value) == repr(expected) and value == expected


def differences(v):
    """Read the whole vault; return what is not as expected, and what check() finds, in words."""
    table = {**EXPECTED, **optional()}
    unread = [repr(key) for key, expected in table.items() if expected is ...]  # by this Python, which check() reports
    problems = [problem for problem in v.check() if not any(key in problem for key in unread)]
    if repr(list(v)) != repr(list(EXPECTED)):
        problems.append(f'the keys are {list(v)!r}')
    for key, expected in table.items():
        if expected is ...:
            continue
        try:
            found = v[key][:] if key in LIVE else v[key]
        except Exception as error:
            problems.append(f'{key!r} raises {error!r}')
            continue
        if key == 'flags':
            found = list(found)
        if not same(found, expected):
            problems.append(f'{key!r} is {found!r}, not {expected!r}')
    return problems
