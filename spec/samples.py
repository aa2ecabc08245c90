"""The keys and the values, and their classes, that several parts of the specification store."""
from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import enum
import os
import pickle

import msgpack
from hypothesis import strategies as st

from vaults.codecs import codes

from .helpers import UTC

numbers = st.one_of(st.booleans(), st.integers(), st.integers(-2**70, 2**70), st.floats(allow_nan=False),
                    st.sampled_from([0, 1, -0.0, 2**53 + 1, float(2**53), 2**63, 2**63 - 1, -2**63, 2**70, 2.0**70]))
texts = st.one_of(st.text(), st.text(alphabet='a\0\U0010ffff\ud7ff\ue000'))
aware = st.datetimes(timezones=st.sampled_from([UTC, dt.timezone(dt.timedelta(hours=5, minutes=30)),
                                                dt.timezone(-dt.timedelta(hours=23, seconds=1))]))
plain_keys = {'none': st.none(), 'number': numbers, 'text': texts, 'bytes': st.binary(), 'date': st.dates(),
              'naive': st.datetimes(), 'aware': aware, 'uuid': st.uuids()}
flat_keys = st.one_of(*plain_keys.values())
any_key = st.recursive(flat_keys, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=5)


class Colour(enum.Enum):
    RED = 1


@dataclasses.dataclass
class Point:
    x: int
    y: list = dataclasses.field(default_factory=list)


class Pair(collections.namedtuple('Pair', 'a b')):
    pass


class Custom:
    def __init__(self, x):
        self.x = x

    def __eq__(self, other):
        return type(other) is Custom and other.x == self.x

    __hash__ = None


class Unpicklable:
    def __reduce__(self):
        raise RuntimeError('no')


try:
    from dateutil import tz
    zones = [tz.tzutc(), tz.tzlocal(), tz.tzoffset('X', 3600), tz.tzstr('EST5EDT'), *filter(None, [tz.gettz('Europe/Berlin')])]
except ImportError:
    zones = [UTC]


def moment_in(zone):
    return dt.datetime(2026, 10, 25, 2, 30, 1, 5, zone, fold=1)


# What wraps a value, and how often each: deeper than msgpack, its extensions, and recursion in Python go.
wrappers = {'list': lambda x: [x], 'dict': lambda x: {'a': x}, 'tuple': lambda x: (x,),
            'frozenset': lambda x: frozenset([x]), 'mixed': lambda x: [{'a': (x, 2**70)}, bytearray(b'b'), '\ud800']}
wraps = st.lists(st.tuples(st.sampled_from(['list', 'dict', 'tuple', 'mixed']), st.integers(1, 400)), max_size=5)


def wrapped(obj, how, times):
    for _ in range(times):
        obj = wrappers[how](obj)
    return obj


def shape(obj):
    """Describe an object with the type of every part, so that 1, 1.0 and True, or (1,) and [1], differ."""
    if isinstance(obj, dict):
        return type(obj), [(shape(key), shape(value)) for key, value in obj.items()]
    if isinstance(obj, (list, tuple)):
        return type(obj), [shape(part) for part in obj]
    if isinstance(obj, (set, frozenset)):
        return type(obj), sorted(repr(shape(part)) for part in obj)
    return type(obj), repr(obj)


section_scalars = (st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3)
           | st.sampled_from(['a', 'a\0', 'a\0b', '\0', '\ud800', '\udfff', 'é', '\U0010ffff', b'a', b'a\0', b'\xff'])
           | st.binary(max_size=3) | st.dates() | st.datetimes() | st.datetimes(timezones=st.just(UTC)) | st.uuids())
section_keys = st.recursive(section_scalars, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=5)


def as_object(code, payload):
    return msgpack.ExtType(code, msgpack.packb(payload))


def as_ext(code, payload):
    return msgpack.packb(as_object(code, payload))


rich = st.recursive(
    st.one_of(flat_keys, st.floats(), st.binary().map(bytearray), st.complex_numbers(), st.times(), st.timedeltas(),
              st.decimals(), st.fractions(), st.builds(range, st.integers(-9, 9), st.integers(-9, 9), st.integers(1, 3)),
              st.sampled_from([Ellipsis, len, collections.OrderedDict(a=1), float('-nan'), '\ud800', {'!tuple': 1},
                               msgpack.ExtType(5, b'x'), msgpack.Timestamp(1, 2), {'!': {}}, {'a': 1, '!b': 2}])),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.lists(inner, max_size=3).map(tuple),
                            st.dictionaries(st.text() | any_key, inner, max_size=3),
                            st.sets(any_key, max_size=3), st.frozensets(any_key, max_size=3)), max_leaves=6)


def plant(v, mark):
    """Put a pickle at the key 'bomb' that makes the file `mark` when it is loaded."""
    class Bomb:
        def __reduce__(self):
            return os.system, (f'touch {mark}',)
    v._store.put('bomb', msgpack.packb(msgpack.ExtType(codes.PICKLE, pickle.dumps(Bomb()))))
