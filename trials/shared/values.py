"""Keys and values of every kind that a vault stores, and how to see that two things are the same, types and all."""
from __future__ import annotations

import array
import ipaddress
import pathlib
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from uuid import UUID

from msgpack import ExtType, Timestamp

UTC, EAST = timezone.utc, timezone(timedelta(hours=5, microseconds=1), 'east')
NOON = datetime(2026, 11, 21, 12)
SOME = UUID('12345678-1234-5678-1234-567812345678')
NUMBERS = (1, 255, 256, 0.5, 1.5, 5e-324, 1e300, 2 ** 63, 2 ** 64 + 1, 2 ** 1024 - 2 ** 971, 2 ** 1024 - 2 ** 970,
           3 ** 700)
KEYS = [
    None, True, False, 2, -1, 2 ** 63 - 1, -2 ** 63, 1.5, -2.0, 3.0, 1e300, float('inf'), float('-inf'), 2.0 ** 63,
    2.0 ** 70, 2 ** 64 + 1, -2 ** 64 - 1, 3 ** 700, -3 ** 700, '', 'text', 'é\0\U0001f600', '\ud800', 'a\0\udfff',
    b'', b'\0', b'a\0\xff\0b', date(1, 1, 1), date(2026, 11, 21), datetime.min, datetime.max, NOON,
    NOON.replace(tzinfo=UTC), NOON.replace(tzinfo=EAST, hour=1), datetime.min.replace(tzinfo=EAST),
    datetime.max.replace(tzinfo=timezone(-timedelta(hours=5))), SOME, (), ((),), ('a', 1), ('a\0', (b'\0', None)),
    (float('inf'), float('-inf'), -0.0), (True, 2.0, 2 ** 70, -2.0 ** 63),
    ('\ud800', NOON, NOON.replace(tzinfo=UTC), date(2026, 11, 21), SOME),
    *((sign * part, 'next') for part in NUMBERS for sign in (1, -1)),
]
DEEP = ()  # deeper than extensions go, with parts of many types on each level
for level in range(20):
    DEEP = ([DEEP, level, b'x', NOON, 2 ** 70], {(level, '\ud800'): frozenset([Fraction(level, 7)]), 'a': [1] * 20})
VALUES = [
    None, True, 1, -2 ** 63, 2 ** 64 - 1, 2 ** 64, -2 ** 63 - 1, 3 ** 700, 1.5, -0.0, float('nan'), float('inf'),
    '', 'é\0', b'', b'\0\xff', bytearray(b'ab'), [], [1, [2, (3,)]], {}, {'theme': 'dark', 1: {(1, 2): [None]}},
    (), (1, ('a', [2])), set(), {1}, {(1, 'a'), 2.5}, frozenset({b'a'}), complex(1, -2.5), date(1, 1, 1), NOON,
    NOON.replace(microsecond=5, fold=1), NOON.replace(tzinfo=UTC), NOON.replace(tzinfo=EAST), time(10, 30),
    time(1, 2, 3, 4, EAST), timedelta(1, 2, 3), timedelta(-1, 1), Decimal('1.50'), Decimal('-0'), Decimal('NaN'),
    Decimal('1E+30'), Fraction(-1, 3), Fraction(2 ** 70, 3), SOME, range(1, 10, 2), range(2 ** 70), ExtType(5, b'a'),
    ExtType(5, b''), Timestamp(1, 2), [bytearray(b'a'), {'x': (Decimal(1), {2 ** 64})}], '\ud800', {'\udfffa': ('\ud800',)},
    DEEP,
]
NAMED = [  # values that are stored under a name, that, and the payload
    (pathlib.PurePosixPath('/a'), 'pathlib.PurePosixPath+str', '/a'), (UTC, 'datetime.timezone+parts', [0]),
    (slice(1, 2), 'builtins.slice+parts', [1, 2, None]), (..., 'builtins.Ellipsis+nil', None),
    (ipaddress.ip_address('::1'), 'ipaddress.IPv6Address+str', '::1'),
    (array.array('h', [1]), 'array.array+bytes', ['h', 2, b'\1\0']),
    (KeyError('a'), 'builtins.BaseException+args', ['KeyError', 'a'])]


def typed(value):
    """Describe a value with the type of every part, so that 1, 1.0 and True differ, and a NaN is itself. Sets are sorted."""
    if isinstance(value, dict):
        return type(value).__name__, [(typed(key), typed(one)) for key, one in value.items()]
    if isinstance(value, (list, tuple)):
        return type(value).__name__, [typed(one) for one in value]
    if isinstance(value, (set, frozenset)):
        return type(value).__name__, sorted(repr(typed(one)) for one in value)
    return type(value).__name__, repr(value)
