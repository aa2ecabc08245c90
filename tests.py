"""The specification of vaults, a class per promise. Run with `pytest tests.py`."""
from __future__ import annotations

import array
import ast
import asyncio
import collections
import concurrent.futures
import contextlib
import copy
import csv
import dataclasses
import datetime as dt
import dbm.dumb
import decimal
import enum
import filecmp
import fractions
import gc
import gzip
import hashlib
import importlib.util
import io
import ipaddress
import itertools
import json
import linecache
import logging
import multiprocessing
import operator as op
import os
import pathlib
import pickle
import random
import re
import select
import shelve
import shlex
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import tarfile
import tempfile
import textwrap
import threading
import time
import tracemalloc
import types
import uuid
import warnings
import weakref
import zipfile
from types import SimpleNamespace

import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import vaults
from testdata.make import EXPECTED
from vaults import (
    Vault,
    as_json,
    cli,
    columns,
    errors,
    keys,
    log,
    moving,
    parts,
    recovery,
    sequences,
    streams,
    vault,
    views,
    writeback,
)
from vaults.codecs import foreign, trust, values
from vaults.codecs.serializers import AS_STORED, Serializer
from vaults.sections import Prefixed, suffix
from vaults.stores.base import Store
from vaults.stores.sqlite import backup as sqlite_backup
from vaults.stores.sqlite import connection, guard
from vaults.stores.sqlite import recovery as recovering
from vaults.stores.sqlite import store as sqlite
from vaults.writeback import LiveStore

HERE = pathlib.Path(__file__).parent
TESTDATA = HERE / 'testdata'
LINUX = sys.platform.startswith('linux')
needs_fork = pytest.mark.skipif(not hasattr(os, 'fork'), reason='no fork on this system')
needs_posix = pytest.mark.skipif(os.name == 'nt', reason='signals and terminals are other things there')
needs_root = pytest.mark.skipif(not LINUX or os.geteuid() != 0, reason='becomes another user, which only root may')
settings.register_profile('vaults', deadline=None, max_examples=45, suppress_health_check=list(HealthCheck))
settings.load_profile('vaults')
UTC = dt.timezone.utc


@pytest.fixture(autouse=True)
def root(tmp_path):
    vaults.set_root_path(tmp_path)
    yield tmp_path
    vaults.set_root_path(None)


@pytest.fixture
def v(root):
    vault = Vault('test')
    yield vault
    if 'closed' not in repr(vault):
        vault._check()
        vault.close()


def run(code, *arguments, **options):
    """Run a program in a Python of its own, with warnings as errors; return its completed process."""
    env = {**os.environ, 'PYTHONPATH': str(HERE), **options.pop('env', {})}
    return subprocess.run([sys.executable, '-W', 'error', '-c', textwrap.dedent(code), *map(str, arguments)], env=env,
                          capture_output=True, text=True, timeout=60, **options)


def output(code, *arguments, **options):
    done = run(code, *arguments, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def in_child(function):
    """Fork, run `function` in the child, and return what it returned or raised there."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            answer = function()
        except BaseException as error:
            answer = repr(error)
        os.write(writer, pickle.dumps(answer))
        os._exit(0)
    os.close(writer)
    return Child(child, reader)


class Child:
    def __init__(self, process, reader):
        self.process, self.reader = process, reader

    def answer(self):
        data = b''.join(iter(lambda: os.read(self.reader, 65536), b''))
        os.close(self.reader)
        os.waitpid(self.process, 0)
        return pickle.loads(data)


# --- what can be a key, a value ---

numbers = st.one_of(st.booleans(), st.integers(), st.integers(-2**70, 2**70), st.floats(allow_nan=False),
                    st.sampled_from([0, 1, -0.0, 2**53 + 1, float(2**53), 2**63, 2**63 - 1, -2**63, 2**70, 2.0**70]))
texts = st.one_of(st.text(), st.text(alphabet='a\0\U0010ffff\ud7ff\ue000'))
aware = st.datetimes(timezones=st.sampled_from([UTC, dt.timezone(dt.timedelta(hours=5, minutes=30)),
                                                dt.timezone(-dt.timedelta(hours=23, seconds=1))]))
plain_keys = {'none': st.none(), 'number': numbers, 'text': texts, 'bytes': st.binary(), 'date': st.dates(),
              'naive': st.datetimes(), 'aware': aware, 'uuid': st.uuids()}
flat_keys = st.one_of(*plain_keys.values())
any_key = st.recursive(flat_keys, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=5)


def sharing(key):
    """Tell whether the key holds numbers of which two types share a form: the documented exceptions."""
    if isinstance(key, tuple):
        return any(isinstance(part, (bool, int, float)) or sharing(part) for part in key)
    return isinstance(key, (int, float)) and not -2**63 <= key < 2**63


class FallBack(dt.tzinfo):
    """A zone whose clocks go back from 3 to 2 on 25 October 2026."""

    def utcoffset(self, when):
        turn = dt.datetime(2026, 10, 25, 3) - (dt.timedelta(hours=1) if when.fold else dt.timedelta())
        return dt.timedelta(hours=2 if when.replace(tzinfo=None) < turn else 1)

    def dst(self, when):
        return self.utcoffset(when) - dt.timedelta(hours=1)


class TestKeys:
    @given(st.lists(any_key, max_size=12))
    def test_equal_keys_are_one_entry_and_others_are_not(self, wanted):
        v = Vault(':memory:')
        oracle = {}
        for place, key in enumerate(wanted):
            v[key] = oracle[key] = place
        assert len(v) == len(oracle)
        assert dict(v.items()) == oracle
        assert list(v) == list(oracle)
        v._check()

    @pytest.mark.parametrize('kind', plain_keys)
    def test_within_a_kind_the_order_is_pythons(self, kind):
        @given(st.lists(plain_keys[kind], max_size=12))
        def check(wanted):
            if kind == 'number':  # ints past 64 bits that no float equals are a kind of their own
                wanted = [key for key in wanted if not isinstance(keys.encode(key), bytes)]
            v = Vault(':memory:')
            v.update(dict.fromkeys(wanted))
            assert list(v[:]) == (list(set(wanted)) if kind == 'none' else sorted(set(wanted)))
            assert list(reversed(v[:])) == list(v[:])[::-1]
        check()

    @given(st.lists(st.integers(-2**200, 2**200).filter(lambda n: isinstance(keys.encode(n), bytes)), max_size=8))
    def test_integers_past_64_bits_are_in_order_among_themselves(self, wanted):
        v = Vault(':memory:')
        v.update(dict.fromkeys(wanted))
        assert list(v[:]) == sorted(set(wanted))

    @given(st.lists(st.tuples(numbers, texts, numbers) | st.tuples(numbers, texts) | st.tuples(numbers), max_size=10))
    def test_tuples_sort_element_by_element_and_before_their_extensions(self, wanted):
        v = Vault(':memory:')
        v.update(dict.fromkeys(wanted))
        assert list(v[:]) == sorted(set(wanted))

    def test_across_kinds_the_order_is_total_and_documented(self, v):
        ordered = [float('-inf'), -1, False, 0.5, 2**70, '', 'a', 2**70 + 1, '\ud800', None, b'', b'a',
                   dt.date(2026, 1, 1), dt.datetime(1, 1, 1), dt.datetime(1, 1, 2, tzinfo=UTC), uuid.UUID(int=1),
                   (), (1,), (1, 'a'), ('a',), (None,), (b'',), ((),)]
        v.update(dict.fromkeys(reversed(ordered)))
        assert list(v[:]) == ordered

    @given(any_key)
    def test_every_key_comes_back_equal_and_of_its_type(self, key):
        v = Vault(':memory:')
        v[key] = 1
        (back,) = v
        assert back == key
        if not sharing(key):
            assert type(back) is type(key)
            assert repr(back) == repr(key) or any(kind in repr(key) for kind in ('datetime', '-0.0'))
        assert v.pop(back) == 1

    @pytest.mark.parametrize('same', [[1, 1.0, True], [0.0, False, 0, -0.0], [2**70, float(2**70)],
                                      [(1, 'a'), (1.0, 'a'), (True, 'a')], [(2**70,), (2.0**70,)],
                                      [dt.datetime(2026, 1, 1, 12, tzinfo=UTC),
                                       dt.datetime(2026, 1, 1, 14, tzinfo=dt.timezone(dt.timedelta(hours=2)))]])
    def test_the_first_of_equal_keys_is_the_one_that_stays(self, v, same):
        for first in same:
            oracle = {}
            for key in [first, *same]:
                v[key] = oracle[key] = repr(key)
            assert v.items() == list(oracle.items())
            if not sharing(first):
                assert [*map(type, v[:])] == [type(first)]
            v.clear()

    def test_a_subclass_counts_as_its_base(self, v):
        class Colour(enum.IntEnum):
            RED = 7

        class Name(str):
            pass

        class Day(dt.datetime):
            pass
        Point = collections.namedtuple('Point', 'x y')
        v[Colour.RED] = v[Name('n')] = v[Point(1, 2)] = v[Day(2026, 1, 1)] = 1
        assert v.keys() == [7, 'n', (1, 2), dt.datetime(2026, 1, 1)]
        assert [*map(type, v)] == [int, str, tuple, dt.datetime]

    @pytest.mark.parametrize('key, cure', [([1], 'use a tuple'), (bytearray(b'a'), 'bytes'), ({1}, 'tuple'),
                                           (object(), 'str(key)'), (1j, 'str(key)'), ((1, [2]), 'tuple'),
                                           (collections.namedtuple('P', 'a b')(1, [2]), 'tuple'), (decimal.Decimal(1), 'str(key)')])
    def test_what_cannot_be_a_key_is_named_with_the_cure(self, v, key, cure):
        for act in (lambda key: v.put(key, 1), v.setdefault, lambda key: v.update([(key, 1)]),
                    lambda key: v.put_many([(key, 1)]), lambda key: v.edit(key, 1).__enter__()):
            with pytest.raises(TypeError, match=re.escape(cure)) as caught:
                act(key)
            assert not isinstance(caught.value, vaults.SerializationError)
        assert len(v) == 0 and v._store._local.c.depth == 0

    @pytest.mark.parametrize('key', [float('nan'), (1, float('nan'))])
    def test_nan_is_refused(self, v, key):
        with pytest.raises(ValueError, match='NaN'):
            v[key] = 1
        pytest.importorskip('numpy')
        import numpy
        for nan in (numpy.float64('nan'), numpy.float32('nan'), (numpy.float16('nan'),)):
            with pytest.raises(ValueError, match='NaN'):
                v[nan] = 1

    @pytest.mark.parametrize('make', [lambda key: key, lambda key: ('at', key), lambda key: (key, ('a', 1))])
    @pytest.mark.parametrize('place', [lambda v: v, lambda v: v.section('s'), lambda v: v.section(('s', 1)).section(2)])
    def test_datetimes_that_python_calls_equal_are_one_entry(self, v, make, place):
        v = place(v)
        zone = FallBack()
        for hour in (1, 2, 3):
            first = make(dt.datetime(2026, 10, 25, hour, 30, tzinfo=zone))
            second = make(dt.datetime(2026, 10, 25, hour, 30, tzinfo=zone, fold=1))
            assert first == second and hash(first) == hash(second)
            v.clear()
            v[first] = 1
            v[second] = 2
            assert len(v) == 1 and v[first] == v.pop(second) == 2 and first not in v
        v.update((make(dt.datetime(2026, 10, 25, hour, tzinfo=zone, fold=fold)), hour) for fold in (0, 1) for hour in range(5))
        assert sorted(v.values()) == [0, 1, 2, 3, 4]
        naive = make(dt.datetime(2026, 10, 25, 2, 30, fold=1))
        v[naive] = 5
        assert v[make(dt.datetime(2026, 10, 25, 2, 30))] == 5 and naive in v

    @given(st.lists(st.datetimes(dt.datetime(2026, 10, 24), dt.datetime(2026, 10, 26)), max_size=6), st.data())
    def test_any_fold_is_the_same_key(self, naive, data):
        zone, v, oracle = FallBack(), Vault(':memory:'), {}
        for moment in naive:
            key = moment.replace(tzinfo=zone, fold=data.draw(st.integers(0, 1)))
            v[key] = oracle[key] = moment
        instants = {(key.replace(fold=0) - key.replace(fold=0).utcoffset()).replace(tzinfo=None) for key in oracle}
        assert len(v) == len(instants)  # what the clocks leave out is the instant that it stands for
        assert all(key.replace(fold=fold) in v for key in oracle for fold in (0, 1))

    def test_what_holds_more_than_its_base_is_refused(self, v):
        class Caseless(str):
            def __eq__(self, other):
                return self.lower() == other.lower()

            def __hash__(self):
                return hash(self.lower())

        class Tagged(int):
            def __eq__(self, other):
                return type(other) is Tagged and int(self) == int(other)
            __hash__ = int.__hash__

        class Precise(dt.datetime):
            nanosecond = 0

            def __eq__(self, other):
                return dt.datetime.__eq__(self, other) and self.nanosecond == getattr(other, 'nanosecond', 0)

            def __hash__(self):
                return hash((dt.datetime.__hash__(self), self.nanosecond)) if self.nanosecond else dt.datetime.__hash__(self)

        class Sided(tuple):
            __slots__ = ()

            def __hash__(self):
                return 5

        class Wide(uuid.UUID):
            def __eq__(self, other):
                return self is other
            __hash__ = uuid.UUID.__hash__
        fine, precise = Precise(2026, 1, 1), Precise(2026, 1, 1)
        precise.nanosecond = 7
        v[fine] = v[Caseless('abc')] = 1
        for key in (precise, Caseless('ABC'), Tagged(1), Sided((1, 2)), Wide(int=1)):
            for one in (key, ('at', key), (key, 1)):
                with pytest.raises(TypeError, match='does not equal'):
                    v[one] = 2
                assert one not in v and v.get(one, 'no') == 'no'
        assert v.keys() == [dt.datetime(2026, 1, 1), 'abc'] and v[dt.datetime(2026, 1, 1)] == 1

    def test_timestamps_of_pandas_are_whole_or_refused(self, v):
        pandas = pytest.importorskip('pandas')
        start = pandas.Timestamp('2026-01-01')
        with pytest.raises(TypeError, match='does not equal'):
            v.update((start + pandas.Timedelta(137 * n, 'ns'), n) for n in range(1000))
        for n in range(1000):
            with contextlib.suppress(TypeError):
                v[start + pandas.Timedelta(137 * n, 'ns')] = n
        assert v.items() == [(start, 0)] and v[dt.datetime(2026, 1, 1)] == 0 and type(v.keys()[0]) is dt.datetime
        hours = pandas.date_range('2026-10-24 20:00', periods=9, freq='h', tz='Europe/Paris')
        for hour in hours:
            try:
                v['hour', hour] = str(hour)
            except TypeError as error:
                assert 'UTC' in str(error) or 'utc' in str(error)
                v['hour', hour.astimezone(UTC)] = str(hour)
        assert [v['hour', hour.astimezone(UTC)] for hour in hours] == list(map(str, hours))
        with pytest.raises(ValueError, match='NaT'):
            v[pandas.NaT] = 1
        assert pandas.NaT not in v and v.get((pandas.NaT, 1)) is None

    def test_the_times_of_numpy_are_refused_with_the_cure(self, v):
        numpy = pytest.importorskip('numpy')
        for key in (numpy.datetime64('2026-01-01'), numpy.datetime64('2026-01-01T00:00:00.000000001'), numpy.datetime64('NaT'),
                    numpy.timedelta64(1, 'D'), numpy.complex64(1)):
            with pytest.raises((TypeError, ValueError), match='datetime64' if isinstance(key, numpy.datetime64) else 'use ') as caught:
                v[key] = 1
            assert 'use ' in str(caught.value)
            assert key not in v and v.get(('at', key), 5) == 5

    def test_numpys_numbers_and_texts_count_as_such(self, v):
        numpy = pytest.importorskip('numpy')
        pairs = [(numpy.int64(5), 5), (numpy.uint8(7), 7), (numpy.bool_(True), True), (numpy.float32(0.1), float(numpy.float32(0.1))),
                 (numpy.float16(0.5), 0.5), (numpy.float64(2.5), 2.5), (numpy.uint64(2**64 - 1), 2**64 - 1), (numpy.int8(-1), -1),
                 (numpy.str_('text'), 'text'), (numpy.bytes_(b'bytes'), b'bytes'), (numpy.longdouble(0.25), 0.25),
                 (numpy.float32('inf'), float('inf')), (numpy.uint64(2**63), 2**63)]
        for at, (key, plain) in enumerate(pairs):
            for make in (lambda key: key, lambda key: (key,), lambda key: ('at', (key, 1))):
                v[make(key)] = at
                assert v[make(plain)] == v[make(key)] == at and make(key) in v and v.keys() == [make(plain)]
                assert sharing(make(plain)) or repr(v.keys()) == repr([make(plain)])
                v[make(plain)] = -1
                assert v.pop(make(key)) == -1 and len(v) == 0
        s = v.section(numpy.int64(3))
        s[numpy.bool_(False)] = 1
        assert v.keys() == [(3, 0)] and s.path == (3,) and s[0] == 1 and v[3, numpy.uint16(0)] == 1
        v.clear()
        v.update(dict.fromkeys(numpy.arange(5)))
        assert list(v[numpy.int32(1):numpy.float32(3)]) == [1, 2] and v.has_keys(numpy.arange(5)) and len(v) == 5
        third = numpy.longdouble(1) / 3
        if third != float(third):
            with pytest.raises(TypeError, match='does not equal'):
                v[third] = 1

    def test_a_tuple_nested_too_deep_is_refused(self, v):
        key = ()
        for _ in range(5000):
            key = (key,)
        with pytest.raises(ValueError, match='flatter'):
            v[key] = 1

    def test_the_edges_of_the_calendar_survive(self, v):
        edges = [dt.datetime.min.replace(tzinfo=dt.timezone(dt.timedelta(hours=3))),
                 dt.datetime.max.replace(tzinfo=dt.timezone(dt.timedelta(hours=-3))), dt.date.min, dt.date.max]
        v.update(dict.fromkeys(edges))
        assert v.keys() == edges

    def test_sqlite_shows_readable_keys(self, v):
        v['text'] = v[42] = v[1.5] = 0
        with sqlite3.connect(v.db_path) as other:
            rows = other.execute("SELECT key FROM entries WHERE typeof(key) <> 'blob' ORDER BY id").fetchall()
        other.close()
        assert rows == [('text',), (42,), (1.5,)]

    def test_a_damaged_packed_key_is_an_error_of_ours(self):
        for data in (b'', b'\x09' * 100000, b'\x01', b'\x02a', b'\x05\xff\xff\xff\xff', b'\x63', b'\x08abc', b'\x03x'):
            with pytest.raises(vaults.VaultCorruptError):
                keys.decode(data)


class TestKeyFormat:
    """Persisted bytes: never renumber."""

    @pytest.mark.parametrize('key, stored', [
        (('a', 1), '09026100018101' '0000'), (None, '03'), (b'\0a', '0400ff6100'), (2**70 + 1, '0189' '400000000000000001' '00'),
        (dt.date(2026, 11, 21), '05000b4a65'), (dt.datetime(1970, 1, 1), '068000000000000000'),
        (dt.datetime(1970, 1, 1, tzinfo=UTC), '078000000000000000'), (uuid.UUID(int=1), '08' + '00' * 15 + '01'),
        ((-1,), '09017e' 'fe' 'ff' '00'), ((0.5,), '090180' '013fe0000000000000' '00'), ('\ud800', '02eda08000'),
        ((float('inf'),), '0901ffffffffff00')])
    def test_packed_keys_are_these_bytes(self, key, stored):
        assert keys.encode(key).hex() == stored
        assert keys.decode(bytes.fromhex(stored)) == key


class Colour(enum.Enum):
    RED = 1


class Flag(enum.Flag):
    A = 1
    B = 2


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


class TwoWords(Exception):
    """Its pickle calls it with the one argument that Exception knows of."""

    def __init__(self, what, where):
        super().__init__(f'{what} at {where}')


class Forgetful(TwoWords):
    """Its pickle can be loaded when it was made with one argument."""

    def __init__(self, what, *where):
        Exception.__init__(self, *([what] if not where else []))
        if len(where) > 1:
            self.args = ()


class Delegating:
    """It asks for an attribute that is not there yet while its pickle is loaded."""

    def __init__(self):
        self.inner = {}

    def __getattr__(self, name):
        return getattr(self.inner, name)


class CountedLoads:
    loads = 0

    def __setstate__(self, state):
        CountedLoads.loads += 1


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


text = st.one_of(st.text(), st.text(st.sampled_from('a\ud800\udfff\U0001f600'), max_size=4))  # lone surrogates, too
leaves = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(-2**80, 2**80), st.floats(allow_nan=False), text,
    st.binary(), st.binary().map(bytearray), st.complex_numbers(allow_nan=False), st.dates(), st.datetimes(), aware,
    st.times(), st.timedeltas(), st.decimals(allow_nan=False), st.fractions(), st.uuids(), st.ip_addresses(),
    st.just(...), st.builds(slice, text, st.integers()), st.sampled_from(zones).map(moment_in),
    st.builds(lambda kind, parts: kind(*parts), st.sampled_from([pathlib.Path, pathlib.PurePosixPath, pathlib.PureWindowsPath]),
              st.lists(text.filter(lambda part: '\0' not in part), max_size=3)),
    st.builds(range, st.integers(-9, 9), st.integers(-9, 9), st.integers(1, 5)))
hashable = st.one_of(st.integers(), text, st.tuples(st.integers(), text), st.dates(), st.binary())
trees = st.recursive(leaves, lambda inner: st.one_of(
    st.lists(inner, max_size=4), st.lists(inner, max_size=4).map(tuple), st.dictionaries(hashable, inner, max_size=4),
    st.sets(hashable, max_size=4), st.frozensets(hashable, max_size=4)), max_leaves=12)


# What wraps a value, and how often each: deeper than msgpack, its extensions, and recursion in Python go.
wrappers = {'list': lambda x: [x], 'dict': lambda x: {'a': x}, 'tuple': lambda x: (x,),
            'frozenset': lambda x: frozenset([x]), 'mixed': lambda x: [{'a': (x, 2**70)}, bytearray(b'b'), '\ud800']}
wraps = st.lists(st.tuples(st.sampled_from(['list', 'dict', 'tuple', 'mixed']), st.integers(1, 400)), max_size=5)


def wrapped(obj, how, times):
    for _ in range(times):
        obj = wrappers[how](obj)
    return obj


def alike(one, other):
    """Tell whether two objects are equal, and of the same types all the way down, without recursion."""
    pairs = [(one, other)]
    while pairs:
        one, other = pairs.pop()
        if type(one) is not type(other):
            return False
        if isinstance(one, (dict, list, tuple)) or (isinstance(one, frozenset) and len(one) == 1):
            if len(one) != len(other):
                return False
            pairs += zip(one, other)
            pairs += zip(one.values(), other.values()) if isinstance(one, dict) else ()
        elif one != other:
            return False
    return True


def shape(obj):
    """Describe an object with the type of every part, so that 1, 1.0 and True, or (1,) and [1], differ."""
    if isinstance(obj, dict):
        return type(obj), [(shape(key), shape(value)) for key, value in obj.items()]
    if isinstance(obj, (list, tuple)):
        return type(obj), [shape(part) for part in obj]
    if isinstance(obj, (set, frozenset)):
        return type(obj), sorted(repr(shape(part)) for part in obj)
    return type(obj), repr(obj)


class TestValues:
    @given(trees)
    def test_every_value_comes_back_exactly_at_any_depth(self, value):
        v = Vault(':memory:', allow_pickle=False)
        v['k'] = value
        assert shape(v['k']) == shape(value)
        assert shape(v.values()[0]) == shape(value)
        assert v['k'] == value

    @pytest.mark.parametrize('value', [
        float('nan'), float('inf'), -0.0, dt.datetime(2026, 1, 1, tzinfo=UTC), dt.time(1, tzinfo=UTC),
        dt.datetime(2026, 1, 1, fold=1), dt.datetime(2026, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=1), 'CET')),
        decimal.Decimal('-0.00'), decimal.Decimal('NaN'), msgpack.ExtType(1, b'cos\nsystem\n'), msgpack.ExtType(99, b''),
        [msgpack.ExtType(2, b'')], {'a': [bytearray(b'x'), {'b': (bytearray(b'y'),)}]}, [(1, 2), 3], {(1, 2): {3}},
        msgpack.Timestamp(1, 2), [[[bytearray(b'deep')]]], 'é\u0104', b'\xc4' * 300, bytearray(70000), 2**64, -2**63 - 1])
    def test_these_are_exact_too(self, value):
        assert shape(values.loads(values.dumps(value, allow_pickle=False))) == shape(value)

    @pytest.mark.skipif(sys.version_info < (3, 9), reason='zoneinfo came with Python 3.9')
    def test_zones_keep_their_name(self, v):
        from zoneinfo import ZoneInfo
        try:
            moment = dt.datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=ZoneInfo('Europe/Amsterdam'))
        except LookupError:
            pytest.skip('no time zone data on this system')
        v['t'] = moment
        assert v['t'] == moment and v['t'].tzinfo is moment.tzinfo and v['t'].fold == 1
        assert v['t'].utcoffset() == moment.utcoffset()

    def test_a_zone_that_is_not_here_is_named(self):
        data = msgpack.packb(msgpack.ExtType(values.DATETIME, msgpack.packb(['2026-01-01T00:00:00', 0, 'Nowhere/At_All'])))
        with pytest.raises(vaults.SerializationError, match='Nowhere/At_All.*tzdata'):
            values.loads(data)

    @pytest.mark.parametrize('value', [Pair(1, 2), collections.OrderedDict(a=1), collections.deque([1]), Colour.RED,
                                       Custom(3), collections.Counter('aab'), int, len,
                                       collections.defaultdict(list, a=[1])])
    def test_what_msgpack_cannot_carry_is_pickled_and_never_flattened(self, v, value):
        v['k'] = {'leaf': [value], 'plain': 1}
        assert v['k']['leaf'] == [value] and type(v['k']['leaf'][0]) is type(value)
        raw = msgpack.unpackb(values.dumps({'leaf': value, 'plain': 1}))
        assert raw['plain'] == 1 and raw['leaf'].code == values.PICKLE

    def test_what_holds_itself_is_pickled_whole(self, v):
        cycle = [1]
        cycle.append({'a': (cycle, '\ud800')})
        v['k'] = cycle
        back = v['k']
        assert back[1]['a'][0] is back and back[1]['a'][1] == '\ud800'
        assert msgpack.unpackb(v._store.get('k')).code == values.PICKLE

    def test_what_holds_itself_is_said_to_where_nothing_is_pickled(self, v):
        cycle, node = [], Custom(1)
        cycle.append(cycle)
        node.x = {'self': (node,)}
        vaults.register(Custom, lambda custom: custom.x, Custom, name='Custom')
        try:
            for value in (cycle, {'a': [cycle]}, (1, cycle), node):
                with pytest.raises(vaults.UntrustedPickleError, match='holds itself.*without the circle'):
                    values.dumps(value, allow_pickle=False)
        finally:
            values._by_class.pop(Custom)
            values._by_name.pop('Custom')

    @pytest.mark.parametrize('value', [lambda: 1, threading.Lock(), (i for i in ()), memoryview(b'a'), [memoryview(b'a')],
                                       Unpicklable()])
    def test_what_cannot_be_stored_is_named_before_anything_is_written(self, v, value):
        v['k'] = 'old'
        part = value[0] if isinstance(value, list) else value
        for act in (lambda: v.put('k', value), lambda: v.put('k', [{'x': (value,)}]), lambda: v.update(k=1, other=value)):
            with pytest.raises(vaults.SerializationError, match=type(part).__name__) as caught:
                act()
            assert isinstance(caught.value, TypeError)
        assert v.items() == [('k', 'old')]

    def test_any_msgpack_reader_opens_what_is_plain(self):
        value = {'a': [1, 2.5, None, True, 'x', b'y', {'b': []}], 7: 'int key'}
        assert msgpack.unpackb(values.dumps(value), strict_map_key=False) == value

    @given(st.binary(max_size=60))
    def test_arbitrary_bytes_are_a_value_or_an_error_of_ours(self, data):
        try:
            values.loads(data)
        except (vaults.VaultError, ImportError):
            pass

    def test_a_planted_bomb_is_an_error_and_not_a_crash(self):
        nested = b'\xc0'
        for _ in range(2000):
            nested = msgpack.packb(msgpack.ExtType(values.TUPLE, nested))
        for data in (b'\xdd\xff\xff\xff\xff', b'\xdf\xff\xff\xff\xff', b'\xc6\xff\xff\xff\xff', b'\xdb\xff\xff\xff\xff',
                     b'\x91' * 100000 + b'\xc0', b'\x81\xa1a' * 100000, b'\xc9\xff\xff\xff\xff\x05', b'\x81\x91\x01\x01',
                     nested):
            with pytest.raises(vaults.VaultCorruptError):
                values.loads(data)

    def test_what_stands_for_many_items_is_not_taken_for_them(self):
        endless = as_object(values.RANGE, [0, 2**62, 1])
        field = [as_object(values.TUPLE, ['a', '<i2', endless])]
        for data in [*(as_ext(code, endless) for code in (values.TUPLE, values.SET, values.FROZENSET, values.TIMEDELTA,
                                                          values.RANGE)),
                     as_ext(values.NDARRAY, ['<i2', endless, 'C', b'']), as_ext(values.NDARRAY, [field, [0], 'C', b'']),
                     as_ext(values.NDARRAY, [[endless], [0], 'C', b''])]:
            with pytest.raises((vaults.VaultCorruptError, ImportError)):
                values.loads(data)
        for form in ('!set', '!tuple'):
            with pytest.raises(vaults.SerializationError):
                as_json.to_value({form: {'!range': [0, 2**62, 1]}})

    @pytest.mark.parametrize('parts', [['1e999999999', None], [msgpack.ExtType(values.DECIMAL, b'1e999999999'), None],
                                       [1.5, 1], ['1/3', None], [True, 1]])
    def test_a_fraction_is_made_of_integers_alone(self, parts):
        with pytest.raises(vaults.VaultCorruptError):
            values.loads(as_ext(values.FRACTION, parts))

    @pytest.mark.skipif(sys.version_info < (3, 9), reason='no zoneinfo')
    @pytest.mark.parametrize('zone', ['Europe', 'E' * 5000, '', 'a\0b', '../UTC', '/etc/passwd'])
    def test_a_time_zone_that_is_no_file_is_an_error_of_ours(self, zone):
        with pytest.raises(vaults.VaultError):
            values.loads(as_ext(values.TIME, ['10:30:00', 0, zone]))

    def test_deep_types_do_not_exhaust_a_threads_stack(self):
        nested = ()
        for _ in range(values.MAX_DEPTH - 1):
            nested = (nested,)
        found = []
        size = threading.stack_size(1 << 20)
        try:
            thread = threading.Thread(target=lambda: found.append(values.loads(values.dumps(nested, allow_pickle=False))))
            thread.start()
            thread.join()
        finally:
            threading.stack_size(size)
        assert found == [nested]

    def test_types_as_deep_as_they_nest_are_read_on_a_stack_of_256_kilobytes(self):
        done = run(SMALL_STACK)
        assert done.returncode == 0 and done.stdout == 'read\n', done.stderr

    def test_threads_do_not_share_a_packer(self):
        codec = values.Codec(values.Refusing())
        wrong = []

        def work(n):
            value = {'n': n, 'sets': [{n}, (n, n), frozenset([n])] * 20}
            for _ in range(150):
                if codec.loads(codec.dumps(value)) != value:
                    wrong.append(n)
        threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []


SMALL_STACK = """
import threading
import vaults
nested = [vaults.dumps(1)]
deep = 1
for _ in range(60):
    deep = (deep,)
    nested.append(vaults.dumps(deep))
back = []
threading.stack_size(256 << 10)
thread = threading.Thread(target=lambda: back.append(vaults.loads_many(nested) and vaults.loads(vaults.dumps(deep))))
thread.start()
thread.join()
print('read' if back == [deep] else back)
"""


def raw_ext(code, payload):
    return msgpack.packb(msgpack.ExtType(code, payload))


class TestDeepValues:
    """What is put can be read, however deep it nests, and needs no pickle for it."""

    @pytest.mark.parametrize('how', sorted(wrappers))
    def test_values_of_any_depth_come_back_without_pickle(self, how):
        v = Vault(':memory:', allow_pickle=False)
        for times in (1, 16, 17, 510, 511, 512, 1022, 1023, 1024, 1025, 2000) if how != 'mixed' else (4, 5, 600):
            for leaf in (1, (), '\ud800', *(() if how == 'frozenset' else ([], {}))):
                value = wrapped(leaf, how, times)
                v['k'] = value
                assert alike(v['k'], value) and alike(v.values()[0], value), (times, leaf)
        assert alike(v.get('k'), value) and v.check() == []

    def test_the_type_of_an_empty_value_is_an_error_of_ours(self):
        with pytest.raises(vaults.VaultCorruptError):
            as_json.type_name(b'')
        assert not as_json.is_serialized(b'')

    def test_no_deep_value_is_part_of_another(self):
        data = packed_nil = b'\xc0'
        for _ in range(3):
            data = raw_ext(values.DEEP, raw_ext(values.TUPLE, b'\x91' + data))
        assert values.loads(raw_ext(values.DEEP, raw_ext(values.TUPLE, b'\x91' + packed_nil))) == (None,)
        with pytest.raises(vaults.VaultCorruptError, match='part of another'):
            values.loads(data)

    @given(trees, wraps)
    @settings(max_examples=30)
    def test_any_value_in_any_wrapping_comes_back(self, value, wraps):
        for how, times in wraps:
            value = wrapped(value, how, times)
        data = values.dumps(value, allow_pickle=False)
        assert alike(values.loads(data), value)
        assert as_json.to_value(json.loads(as_json.dumps(as_json.from_value(data)))) == data

    @pytest.mark.parametrize('options', [{}, {'writeback': True}, {'thread_safe': True}])
    def test_sections_lists_and_write_back_take_them_too(self, root, options):
        value = wrapped([], 'mixed', 400)
        v = Vault('deep', allow_pickle=False, **options)
        places = [v, v.section('s')]
        for place in places:
            place['k'] = value
            place.update({'other': value, 'text': {'\ud800': '\udfff'}})
        v.list('list').extend([1, value, wrapped([], 'list', 1024), wrapped(1, 'list', 1024), '\ud800'])
        v.close()
        v = Vault('deep', allow_pickle=False, **options)
        for place in (v, v.section('s')):
            assert alike(place['k'], value) and alike(place.pop('other'), value) and place['text'] == {'\ud800': '\udfff'}
        back = v['list']
        for at, wanted in enumerate([1, value, wrapped([], 'list', 1024), wrapped(1, 'list', 1024), '\ud800']):
            assert alike(back[at], wanted) and alike(back[:][at], wanted), at
        assert v.check() == [] and not any(b'\x80\x04\x95' in data for _, data in raw_entries(v))

    def test_what_is_nested_too_deep_is_refused_with_a_cure(self, v):
        v['k'] = 1
        for value in (wrapped(1, 'list', 100_002), wrapped(1, 'tuple', 60_000)):
            with pytest.raises(vaults.SerializationError, match="100,000 deep: store it flat.*'k'"):
                v['k'] = value
        deep = wrapped(1, 'tuple', 1001)
        for value in ({deep}, {deep: 1}, {'a': {'b': frozenset([deep])}}):
            with pytest.raises(vaults.SerializationError, match="1,000 deep.*'k'"):
                v['k'] = value
        assert v.items() == [('k', 1)]

    def test_a_chain_of_registered_objects_is_as_long_as_it_likes(self):
        @dataclasses.dataclass
        class Link:
            value: str
            rest: object
        vaults.register(Link, name='Link')
        try:
            chain = None
            for n in range(5000):
                chain = Link(f'{n}\ud800', chain)
            back = values.loads(values.dumps(chain, allow_pickle=False))
            for n in reversed(range(5000)):
                assert type(back) is Link and back.value == f'{n}\ud800'
                back = back.rest
            assert back is None
        finally:
            values._by_class.pop(Link)
            values._by_name.pop('Link')

    def test_types_with_parts_and_arrays_are_as_exact_there(self):
        inner = [dt.datetime(2026, 1, 1, tzinfo=UTC), dt.time(1), dt.timedelta(1, 2, 3), fractions.Fraction(2**70, 3),
                 range(2**70), msgpack.ExtType(5, b'a'), msgpack.Timestamp(1, 2), bytearray(b'x'), 2**70, {2**70: [2**70]},
                 decimal.Decimal('1.50'), uuid.UUID(int=1), 1j, {1, (2,)}, len]
        back = values.loads(values.dumps(wrapped(inner, 'tuple', 17)), allow_pickle=True)
        assert shape(back) == shape(wrapped(inner, 'tuple', 17))

    def test_they_are_json_as_others_are_until_that_is_too_deep(self):
        inner = [dt.datetime(2026, 1, 1, tzinfo=UTC), {1, (2,)}, 2**70, {2**70: [2**70, '\ud800']}, b'x', 1.5, float('inf'), len,
                 msgpack.Timestamp(1, 2), msgpack.ExtType(5, b'a'), {'!a': 1}, {}, [], {b'x': 1, 'b': [b'y', 2]}, ..., '\ud800']
        for value, tag in ((wrapped(inner, 'tuple', 17), '!tuple'), (wrapped(inner, 'tuple', 28), '!tuple'),
                           (wrapped([inner, 1], 'tuple', 70), '!msgpack'), (wrapped(inner, 'frozenset', 0), None)):
            data = values.dumps(value)
            form = as_json.from_value(data)
            assert as_json.to_value(json.loads(as_json.dumps(form))) == data and (tag is None or list(form) == [tag])

    def test_nothing_but_a_pickle_needs_one_there(self):
        value = wrapped([msgpack.Timestamp(1, 2), msgpack.ExtType(5, b''), ...], 'tuple', 17)
        assert shape(values.loads(values.dumps(value, allow_pickle=False))) == shape(value)

    def test_numpy_is_as_exact_there(self):
        numpy = pytest.importorskip('numpy')
        array = numpy.arange(6, dtype='<i2').reshape(2, 3)
        back = values.loads(values.dumps(wrapped([array, numpy.float32(1.5)], 'tuple', 17), allow_pickle=False))
        for _ in range(17):
            back, = back
        assert back[0].tolist() == array.tolist() and back[0].dtype == array.dtype and type(back[1]) is numpy.float32

    def test_what_an_early_version_packed_and_could_not_read_is_read(self, v):
        value = wrapped([], 'list', 1024)
        v._store.put('k', b'\x91' * 1024 + b'\x90')
        assert alike(v['k'], value) and alike(v.get('k'), value) and alike(next(iter(v.values())), value) and v.check() == []
        file = io.StringIO()
        moving.export(v, file)
        with contextlib.closing(Vault(':memory:')) as back:
            moving.import_file(back, io.StringIO(file.getvalue()))
            assert raw_entries(back) == raw_entries(v)

    def test_msgpack_in_pure_python_reads_what_the_other_wrote(self, root):
        v = Vault('deep')
        v.update({how: wrapped(1, how, 900) for how in ('list', 'dict', 'tuple')})
        v.close()
        done = run("""
            import pathlib, sys, msgpack.fallback, vaults
            assert msgpack.Packer is msgpack.fallback.Packer
            v = vaults.Vault(pathlib.Path(sys.argv[1]))
            v.update({f'again {key}': value for key, value in v.items()})
            def depth(value):
                depth = 0
                while value != 1:
                    value, depth = value['a'] if isinstance(value, dict) else value[0], depth + 1
                return depth
            print({key: depth(value) for key, value in v.items()}, v.check())
            """, v.db_path, env={'MSGPACK_PUREPYTHON': '1'})
        assert done.stdout.count('900') == 6 and done.stdout.endswith(' []\n'), done.stderr

    @pytest.mark.parametrize('payload', [
        b'', b'\x01\x02', b'\xd4\x19\x91', b'\x01\xd4\x19\x92', b'\x01\xd4\x19\x81', b'\x01\xd4\x19\x01', b'\x01\xd4\x19\x7f',
        b'\x91\xd4\x19\x90', b'\x01\xd4\x19\x91\xd4\x19', b'\x01\xc7\x00\x19', b'\x01\xd5\x19\x91\x00', b'\x01\xd4\x19\xc0',
        b'\x01\xc7\x05\x19\xdd\xff\xff\xff\xff', b'\xd4\x19\x90\x01\xd4\x19\x81', b'\x01\xd4\x19\x05', b'\x01\xd4\x19\x02',
        b'\x01\xd4\x19\x19', b'\x01' + b'\xd4\x19\x91\xd4\x19\x05' * 1002 + b'\xd4\x19\x91\xd4\x19\x06',
        b'\x01' + b'\xd4\x19\x91\xd4\x19\x05' * 9000 + b'\x01\xd4\x19\x81', b'\xa1\xff', b'\x01\xd4\x19\x10'])
    def test_hostile_bytes_are_damage_and_nothing_worse(self, payload):
        data = msgpack.packb(msgpack.ExtType(values.DEEP, payload))
        with pytest.raises(vaults.VaultCorruptError):
            values.loads(data)
        with pytest.raises((vaults.VaultCorruptError, vaults.SerializationError)):
            as_json.to_value(as_json.from_value(data))


class TestPicklesThatCannotBeLoaded:
    """What can be pickled and not be loaded is refused when it is put; past what has become so there is a way on."""

    @pytest.mark.parametrize('make', [lambda root: Vault('p'), lambda root: Vault('p').section('s'),
                                      lambda root: Vault('p', thread_safe=True)])
    def test_it_is_refused_when_it_is_put(self, root, make):
        v = make(root)
        v['k'] = 'old'
        for value in (TwoWords('gone', 'home'), {'a': [1, TwoWords('gone', 'home')]}, (TwoWords('a', 'b'),), Delegating()):
            for put in (lambda value=value: v.put('k', value), lambda value=value: v.update(k=1, other=value)):
                with pytest.raises(vaults.SerializationError, match="pickle cannot be loaded.*__reduce__.*register.*'(k|other)'"):
                    put()
        with pytest.raises(vaults.SerializationError, match='TwoWords'):
            v.list('list').append(TwoWords('a', 'b'))
        assert v.items()[:1] == [('k', 'old')] and v['list'].tolist() == []

    def test_it_is_named_when_it_is_written_back(self, root):
        v = Vault('p', writeback=True)
        v['k'], v['other'] = [], 1
        v.sync()
        v['k'].append(TwoWords('gone', 'home'))
        with pytest.raises(vaults.SerializationError, match="TwoWords.*'k'"):
            v.sync()
        v['k'] = []
        v.close()
        assert Vault('p').items() == [('k', []), ('other', 1)]

    def test_each_exception_is_tried_since_its_arguments_decide(self, v):
        v['k'] = Forgetful('a')
        with pytest.raises(vaults.SerializationError, match='Forgetful'):
            v['k'] = Forgetful('a', 'b', 'c')
        assert v['k'].args == ('a',)

    def test_of_other_classes_the_first_object_is_tried_and_no_other(self, v):
        values._proven.discard(CountedLoads)
        CountedLoads.loads, value = 0, CountedLoads()
        value.x = 1
        v.update({n: [value] for n in range(10)})
        assert CountedLoads.loads == 1
        value.x = b'x' * (values.PROVEN_SIZE + 1)
        values._proven.discard(CountedLoads)
        v['large'] = value
        assert CountedLoads.loads == 1

    @staticmethod
    def unreadable(v):
        """Put three entries, of which the class of the last is gone."""
        v.update({'a': 1, 'b': 2, 'bad': 3})
        v._store.put(v._keys.encode('bad'), msgpack.packb(
            msgpack.ExtType(values.PICKLE, b'cnowhere\nGone\n.')))

    @pytest.mark.parametrize('options', [{}, {'writeback': True}, {'thread_safe': True}])
    @pytest.mark.parametrize('nested', [False, True])
    def test_there_is_a_way_past_an_entry_whose_class_is_gone(self, root, options, nested):
        whole = Vault('p', **options)
        v = whole.section('s') if nested else whole
        self.unreadable(v)
        v['z'] = 4
        for read in (v.copy, lambda: list(v.values()), lambda: v.items()[:], lambda: v['bad'], lambda: v.pop('bad')):
            with pytest.raises(vaults.SerializationError, match='need not be read.*bad'):
                read()
        found, lost = {}, []
        for key in v:
            try:
                found[key] = v[key]
            except vaults.SerializationError:
                lost.append(key)
        assert found == {'a': 1, 'b': 2, 'z': 4} and lost == ['bad']
        assert v.popitem() == ('z', 4)
        with pytest.raises(vaults.SerializationError, match='need not be read.*bad'):
            v.popitem()
        assert 'bad' in v and len(v) == 3
        del v['bad']
        assert v.popitem() == ('b', 2) and whole.check() == []


class TestNamed:
    """What Python and two libraries of time zones bring along is stored by name, without pickle."""

    @staticmethod
    def zones():
        tz = pytest.importorskip('dateutil.tz')
        from dateutil.relativedelta import SU, relativedelta
        rules = relativedelta(hours=+2, month=4, day=1, weekday=SU(+1)), relativedelta(hours=+1, month=10, day=31, weekday=SU(-1))
        return [tz.gettz('Europe/Berlin'), tz.gettz(), tz.tzutc(), tz.tzlocal(), tz.tzoffset('X', 3600), tz.tzoffset(None, -5),
                tz.tzrange('EST', -18000, 'EDT'), tz.tzrange('EST', -18000), tz.tzrange('EST', -18000, 'EDT', -14400, *rules),
                tz.tzstr('EST5EDT'), tz.tzstr('UTC+3', posix_offset=True), tz.gettz('EST5EDT4,M3.2.0,M11.1.0')]

    @staticmethod
    def is_same(back, value):
        if isinstance(value, BaseException):
            return type(back) is type(value) and back.args == value.args and str(back) == str(value)
        if isinstance(value, dt.datetime):
            return (back == value and back.fold == value.fold and type(back.tzinfo) is type(value.tzinfo)
                    and back.tzinfo == value.tzinfo and back.utcoffset() == value.utcoffset())
        return type(back) is type(value) and back == value

    @pytest.mark.parametrize('kind, text', [('UnicodeDecodeError', b'x'), ('UnicodeEncodeError', 'x'), ('UnicodeTranslateError', 'x')])
    def test_an_error_about_what_is_before_its_text_is_refused(self, kind, text):
        codec = [] if kind == 'UnicodeTranslateError' else ['u']
        parts = [kind, *codec, text, -2 ** 62, -2 ** 62 + 1, 'r']  # of which str() would end the process
        with pytest.raises(vaults.SerializationError, match='not there'):
            values.loads(as_ext(values.REGISTERED, ['builtins.BaseException+args', parts]))
        with pytest.raises(vaults.UntrustedPickleError):
            values.dumps(UnicodeDecodeError('u', b'x', -1, 0, 'r'), allow_pickle=False)

    def stored(self, value):
        """Return the value as it comes back, from under a key and from deep inside, and last from a file of lines."""
        v = Vault(':memory:', allow_pickle=False)
        v['k'] = [{'a': (value,)}]
        v['deep'] = wrapped(value, 'tuple', 20)
        v.list('list').append(value)
        assert v.check() == [] and self.is_same(v['list'][0], value)
        file = io.StringIO()
        moving.export(v, file)
        back = Vault(':memory:', allow_pickle=False)
        moving.import_file(back, io.StringIO(file.getvalue()))
        assert back._store.get('k') == v._store.get('k') and back._store.get('deep') == v._store.get('deep')
        deep = back['deep']
        for _ in range(20):
            deep, = deep
        assert self.is_same(deep, value)
        return back['k'][0]['a'][0]

    @pytest.mark.parametrize('value', [
        pathlib.Path('/a/b'), pathlib.Path(), pathlib.Path('a\udcff'), pathlib.PurePosixPath('a/../b'),
        pathlib.PureWindowsPath('C:\\x\\y'), pathlib.PureWindowsPath('//host/share/x'), slice(1, None, 'a'), ..., NotImplemented,
        UTC, dt.timezone(dt.timedelta(hours=1), 'X'), *map(ipaddress.ip_address, ('1.2.3.4', '::1')),
        *map(ipaddress.ip_network, ('10.0.0.0/8', '::/8')), *map(ipaddress.ip_interface, ('1.2.3.4/8', 'fe80::1/64')),
        array.array('d', [1.5, float('inf')]), array.array('l', [1, -2]), array.array('Q'), KeyError('a'), ValueError(),
        KeyError(('a', 1)), RuntimeError('\ud800', (2**70,)), OSError(2, 'gone', 'file'), UnicodeDecodeError('utf-8', b'a', 0, 1, 'x')], ids=repr)
    def test_these_need_no_pickle(self, value):
        assert self.is_same(self.stored(value), value)

    @pytest.mark.parametrize('at', range(12))
    def test_zones_of_dateutil_need_no_pickle(self, at):
        zone = self.zones()[at]
        for value in (zone, moment_in(zone), dt.time(1, 2, tzinfo=zone)):
            assert self.is_same(self.stored(value), value)

    @pytest.mark.parametrize('name', ['UTC', 'Europe/Berlin', 'Etc/GMT+5'])
    def test_zones_of_pytz_need_no_pickle(self, name):
        pytz = pytest.importorskip('pytz')
        zone = pytz.timezone(name)
        for each in (zone, zone.localize(dt.datetime(2026, 7, 1)).tzinfo, pytz.FixedOffset(60)):
            for value in (each, moment_in(each)):
                back = self.stored(value)
                assert self.is_same(back, value) and getattr(back, 'tzinfo', back) is each

    @pytest.mark.skipif(sys.version_info < (3, 9), reason='zoneinfo came with Python 3.9')
    def test_a_zone_is_a_value(self):
        zone = pytest.importorskip('zoneinfo').ZoneInfo('Europe/Berlin')
        assert self.stored(zone) is zone

    def test_exceptions_in_exceptions_are_whole_and_end_without_recursion(self):
        value = ValueError('innermost')
        for _ in range(5000):
            value = ValueError(value)
        back = values.loads(values.dumps(value, allow_pickle=False))
        for _ in range(5000):
            back, = back.args
        assert type(back) is ValueError and back.args == ('innermost',)

    def test_a_zone_of_a_class_that_is_registered_needs_no_pickle(self):
        class Zone(dt.tzinfo):
            def utcoffset(self, moment):
                return dt.timedelta(hours=3)

            def __eq__(self, other):
                return type(other) is Zone
        vaults.register(Zone, lambda zone: None, lambda _: Zone(), name='Zone')
        try:
            assert self.is_same(self.stored(moment_in(Zone())), moment_in(Zone()))
        finally:
            values._by_class.pop(Zone)
            values._by_name.pop('Zone')

    @pytest.mark.parametrize('value, name, payload', [
        (pathlib.PurePosixPath('/a'), 'pathlib.PurePosixPath+str', '/a'), (slice(1, 2), 'builtins.slice+parts', [1, 2, None]),
        (..., 'builtins.Ellipsis+nil', None), (UTC, 'datetime.timezone+parts', [0]),
        (ipaddress.ip_address('1.2.3.4'), 'ipaddress.IPv4Address+str', '1.2.3.4'),
        (array.array('h', [1]), 'array.array+bytes', ['h', 2, b'\1\0']),
        (KeyError('a'), 'builtins.BaseException+args', ['KeyError', 'a'])], ids=repr)
    def test_the_names_are_these(self, value, name, payload):
        assert values.dumps(value) == as_ext(values.REGISTERED, [name, payload])

    def test_the_names_of_zones_are_these(self):
        pytest.importorskip('dateutil')
        pytest.importorskip('pytz')
        from vaults.codecs import named
        assert [name for name in named.BY_NAME if name.startswith(('dateutil', 'pytz', 'zoneinfo', 'pathlib'))] == [
            'pathlib.PurePosixPath+str', 'pathlib.PureWindowsPath+str', 'pathlib.PosixPath+str', 'pathlib.WindowsPath+str',
            'dateutil.tz.tzutc+parts', 'dateutil.tz.tzlocal+parts', 'dateutil.tz.tzoffset+parts', 'dateutil.tz.tzfile+parts',
            'dateutil.tz.tzstr+parts', 'dateutil.tz.tzrange+parts', 'zoneinfo.ZoneInfo+key', 'pytz.tzinfo+parts',
            'pytz.FixedOffset+parts', 'pytz.utc+parts']
        zone = self.zones()[0]
        assert values.dumps(zone) == as_ext(values.REGISTERED, ['dateutil.tz.tzfile+parts', 'Europe/Berlin'])

    def test_a_path_of_the_other_system_is_a_pure_one(self):
        for name, pure in (('WindowsPath', pathlib.PureWindowsPath), ('PosixPath', pathlib.PurePosixPath)):
            back = values.loads(as_ext(values.REGISTERED, [f'pathlib.{name}+str', 'a']))
            assert back == pure('a') and type(back) is (type(pathlib.Path()) if type(pathlib.Path()).__name__ == name else pure)

    def test_an_array_of_a_system_with_other_sizes_is_read(self):
        for code, size, data, items in (('l', 4, b'\xff\xff\xff\xff', [-1]), ('L', 8, b'\1' + bytes(7), [1]), ('I', 2, b'\2\0', [2])):
            back = values.loads(as_ext(values.REGISTERED, ['array.array+bytes', [code, size, data]]))
            assert back == array.array(code, items)

    def test_a_zone_whose_library_is_missing_says_what_to_install(self, root):
        tz = pytest.importorskip('dateutil.tz')
        v = Vault('zones', allow_pickle=False)
        v['k'] = moment_in(tz.tzutc())
        v.close()
        assert 'python-dateutil' in output("""
            import pathlib, sys
            sys.modules['dateutil'] = sys.modules['dateutil.tz'] = None
            import vaults
            v = vaults.Vault(pathlib.Path(sys.argv[1]))
            print(v.check())
            try:
                v['k']
            except vaults.SerializationError as error:
                print(error, "'k'" in str(error))
            """, v.db_path)

    def test_what_has_more_to_it_than_its_description_is_pickled(self):
        error = KeyError('a')
        error.more = 1
        nested = slice([1], None)
        for value in (error, *([nested] if sys.version_info >= (3, 10) else [])):
            assert msgpack.unpackb(values.dumps(value)).code == values.PICKLE, value
            with pytest.raises(vaults.UntrustedPickleError):
                values.dumps(value, allow_pickle=False)

    @pytest.mark.parametrize('name, payload', [
        ('pathlib.PosixPath+str', 1), ('builtins.slice+parts', [1]), ('builtins.slice+parts', [[1], 2, 3]),
        ('builtins.BaseException+args', ['print', 'x']), ('builtins.BaseException+args', ['object']),
        ('builtins.BaseException+args', ['UnicodeDecodeError', [1]]), ('builtins.BaseException+args', []), ('array.array+bytes', ['u', 4, b'a']),
        ('array.array+bytes', ['i', 3, b'abc']), ('array.array+bytes', ['i', 4, b'abc']), ('array.array+bytes', ['i', 4, 99999999]),
        ('datetime.timezone+parts', [10**15]), ('zoneinfo.ZoneInfo+key', '../x'), ('zoneinfo.ZoneInfo+key', 5),
        ('dateutil.tz.tzfile+parts', '/etc/passwd'), ('dateutil.tz.tzfile+parts', '../../etc/passwd'),
        ('dateutil.tz.tzfile+parts', ''), ('dateutil.tz.tzfile+parts', 'Nowhere/At_All'), ('dateutil.tz.tzfile+parts', [b'TZif', 'x']),
        ('dateutil.tz.tzrange+parts', [1]), ('dateutil.tz.tzstr+parts', [5, 1]), ('dateutil.tz.tzoffset+parts', ['x', 10**12]), ('dateutil.tz.tzoffset+parts', [5, 1]), ('dateutil.tz.tzlocal+parts', [1, 2, 3]),
        ('pytz.tzinfo+parts', ['Nowhere/At_All']), ('pytz.tzinfo+parts', ['../x', 1, 2, 3]), ('pytz.FixedOffset+parts', ['x']),
        ('ipaddress.IPv4Address+str', 5), ('ipaddress.IPv4Address+str', 'x')])
    def test_what_no_such_object_is_described_so_is_an_error(self, name, payload):
        for data in (as_ext(values.REGISTERED, [name, payload]),
                     as_ext(values.TIME, ['10:30:00', 0, as_object(values.REGISTERED, [name, payload])])):
            with pytest.raises(vaults.SerializationError):
                values.loads(data)

    def test_importing_vaults_imports_none_of_their_modules(self):
        assert output("""
            import sys, vaults
            print({'pathlib', 'ipaddress', 'array', 'zoneinfo', 'vaults.codecs.named', 'vaults.codecs.deep'} & {*sys.modules})
            """) == 'set()'


class TestValueFormat:
    """Persisted codes and bytes: never renumber, never reuse."""

    @pytest.mark.parametrize('value, packed', [
        (2**64, 'c70903010000000000000000'), (bytearray(b'a'), 'd40461'), ((1, 2), 'c70305920102'), ({1}, 'd5069101'),
        (frozenset([1]), 'd5079101'), (1j, 'd80800000000000000003ff0000000000000'), (dt.date(2026, 1, 2), 'c70a09' + b'2026-01-02'.hex()),
        (dt.datetime(2026, 1, 2), 'c7170a93b3' + b'2026-01-02T00:00:00'.hex() + '00c0'), (dt.time(1), 'c70c0b93a8' + b'01:00:00'.hex() + '00c0'),
        (dt.timedelta(1), 'd60c93010000'), (decimal.Decimal('1.0'), 'c7030d312e30'), (fractions.Fraction(1, 2), 'c7030e920102'),
        ('a\ud800', 'd61861eda080'), (wrapped(1, 'tuple', 18), 'c76b199101d41905' + 'd41991d41905' * 17),
        (uuid.UUID(int=1), 'd80f' + '00' * 15 + '01'), (range(3), 'd61093000301'), (msgpack.ExtType(1, b'a'), 'd6119201c40161'.replace('d611', 'c70511'))])
    def test_values_are_these_bytes(self, value, packed):
        assert values.dumps(value).hex() == packed
        assert values.loads(bytes.fromhex(packed)) == value

    def test_the_codes_are_these(self):
        codes = {name: getattr(values, name) for name in
                 'PICKLE REGISTERED INT BYTEARRAY TUPLE SET FROZENSET COMPLEX DATE DATETIME TIME TIMEDELTA DECIMAL '
                 'FRACTION UUID RANGE EXTTYPE NDARRAY NUMPY_SCALAR STREAM LIST COLUMN SERIALIZED TEXT DEEP'.split()}
        assert list(codes.values()) == list(range(1, 26))

    def test_a_code_of_a_newer_version_is_said_to_be_one(self):
        with pytest.raises(vaults.SerializationError, match='code 100.*newer'):
            values.loads(msgpack.packb(msgpack.ExtType(100, b'')))


class TestRegister:
    @pytest.fixture(autouse=True)
    def forget(self):
        kept = dict(values._by_class), dict(values._by_name)
        yield
        for table, old in zip((values._by_class, values._by_name), kept):
            table.clear()
            table.update(old)

    def test_a_registered_type_is_stored_by_name_without_pickle(self, root):
        vaults.register(Custom, lambda c: [c.x], lambda args: Custom(*args), name='custom')
        v = Vault('r', allow_pickle=False)
        v['k'] = [Custom((1, bytearray(b'x')))]
        assert v['k'] == [Custom((1, bytearray(b'x')))]
        assert b'custom' in values.dumps(Custom(1), allow_pickle=False)

    def test_dataclasses_and_enums_need_no_functions(self, root):
        for cls in (Point, Colour, Flag):
            assert vaults.register(cls) is cls
        v = Vault('r', allow_pickle=False)
        v['k'] = [Point(1, [Colour.RED]), Flag.A | Flag.B]
        assert v['k'] == [Point(1, [Colour.RED]), Flag.A | Flag.B]

    def test_a_dataclass_may_gain_fields_with_defaults(self):
        vaults.register(Point)
        data = values.dumps(Point(1, [2]), allow_pickle=False)
        vaults.register(dataclasses.make_dataclass('Point', ['x', ('z', int, 5)], namespace={'__module__': __name__}))
        back = values.loads(data)
        assert (back.x, back.z) == (1, 5)

    def test_an_unknown_name_is_named_and_other_keys_stay_readable(self, v):
        vaults.register(Custom, vars, lambda d: Custom(**d), name='gone')
        v.update(a=1, b=Custom(2), c=3)
        values._by_name.clear()
        with pytest.raises(vaults.SerializationError, match="'gone'.*register"):
            v['b']
        assert (v['a'], v['c'], v.keys()) == (1, 3, ['a', 'b', 'c'])
        walk = iter(v.items())
        assert next(walk) == ('a', 1)
        with pytest.raises(vaults.SerializationError, match="'b'"):
            next(walk)
        assert v.check() == []

    def test_misuse_is_refused(self):
        with pytest.raises(TypeError, match='needs dump and load'):
            vaults.register(Custom)
        with pytest.raises(TypeError, match='together'):
            vaults.register(Custom, vars)
        with pytest.raises(TypeError, match='exactly already'):
            vaults.register(tuple, list, tuple)
        with pytest.raises(TypeError, match='a class'):
            vaults.register(3)
        vaults.register(Point, name='taken')
        with pytest.raises(ValueError, match='taken'):
            vaults.register(Colour, name='taken')

    def test_a_function_that_fails_is_named(self, v):
        vaults.register(Custom, lambda c: 1 / 0, lambda x: x, name='bad')
        with pytest.raises(vaults.SerializationError, match='dump.*bad'):
            v['k'] = Custom(1)
        assert 'k' not in v


class TestNumPy:
    def test_arrays_and_scalars_are_exact_and_numpy_is_not_imported_for_them(self, root):
        np = pytest.importorskip('numpy')
        v = Vault('np', allow_pickle=False)
        arrays = [np.arange(6).reshape(2, 3), np.asfortranarray(np.eye(3)), np.array([], 'f4'), np.array(5),
                  np.array(['a', 'bc']), np.zeros(3, [('a', '<i4'), ('b', 'f8', (2,))]), np.zeros(2, [(('title', 'name'), '<i4')]), np.arange(5, dtype='>u2'),
                  np.array(['2026-01-01'], 'M8[ns]'), np.ones((2, 3, 4))[:, ::2]]
        for one in arrays:
            v['a'] = {'array': one}
            back = v['a']['array']
            assert type(back) is np.ndarray and back.dtype == one.dtype and back.shape == one.shape
            assert (back == one).all() and not back.flags.writeable
            assert back.flags.f_contiguous == one.flags.f_contiguous or not one.flags.contiguous
        for scalar in (np.float64(1.5), np.int8(3), np.bool_(True), np.str_('x'), np.str_(''), np.str_('a\0'), np.bytes_(b'b\0'),
                       np.datetime64('2026-01-01'), np.array([(1, 2.0)], [('a', 'i4'), ('b', 'f8')])[0]):
            v['s'] = scalar
            assert v['s'] == scalar and type(v['s']) is type(scalar)
        with pytest.raises(vaults.UntrustedPickleError):
            v['o'] = np.array([object()])
        v[np.str_('key')] = 1
        assert 'key' in v

    def test_an_array_that_claims_to_hold_objects_is_refused(self):
        pytest.importorskip('numpy')
        data = msgpack.packb(msgpack.ExtType(values.NDARRAY, msgpack.packb(['|O', [1], 'C', b'\x01' * 8])))
        with pytest.raises(vaults.VaultCorruptError):
            values.loads(data)

    def test_without_numpy_the_error_names_the_extra(self):
        code = '''
            import sys
            sys.modules['numpy'] = None
            from vaults.codecs import values
            import msgpack
            values.loads(msgpack.packb(msgpack.ExtType(18, msgpack.packb(['<i4', [1], 'C', b'1234']))))'''
        assert "ImportError" in run(code).stderr and "vaults[numpy]" in run(code).stderr


class TestTrust:
    """A pickle runs code: it is read and written only where nobody else could have written it."""

    def plant(self, v, mark):
        class Bomb:
            def __reduce__(self):
                return os.system, (f'touch {mark}',)
        v._store.put('bomb', msgpack.packb(msgpack.ExtType(values.PICKLE, pickle.dumps(Bomb()))))

    def test_in_a_file_of_ones_own_pickles_are_read_and_written(self, v):
        v['k'] = Custom(1)
        assert v['k'] == Custom(1)

    @needs_root
    @pytest.mark.parametrize('spoil', ['file mode', 'folder mode', 'file owner', 'folder owner', 'group'])
    def test_where_others_may_write_nothing_runs(self, root, spoil):
        v = Vault('t', allow_pickle=True)
        mark = root / 'ran'
        self.plant(v, mark)
        v['plain'] = 1
        v.close()
        place = root / 'vaults' if 'folder' in spoil else root / 'vaults' / 't.db'
        if 'mode' in spoil:
            os.chmod(place, 0o777)
        elif spoil == 'group':
            os.chown(place, 0, 12345)
            os.chmod(place, 0o664)
        else:
            os.chown(place, 65534, 0)
        v = Vault('t')
        assert v['plain'] == 1
        for act in (lambda: v['bomb'], v.items().__repr__, lambda: v.put('k', Custom(1))):
            with pytest.raises(vaults.UntrustedPickleError, match='allow_pickle=True'):
                act()
        assert v.check() == [] and 'k' not in v
        assert not mark.exists()

    @pytest.mark.skipif(not hasattr(os, 'geteuid'), reason='no owners on this system')
    def test_a_sticky_folder_and_a_group_of_ones_own_are_nobody_else(self, root):
        import pwd
        v = Vault('t')
        os.chmod(root / 'vaults', 0o1777)
        assert trust.untrusted(v.db_path) is None
        os.chmod(root / 'vaults', 0o777)
        assert 'everybody may write the folder' in trust.untrusted(v.db_path)
        os.chmod(root / 'vaults', 0o755)
        me = pwd.getpwuid(os.geteuid())
        if trust._is_private(me.pw_gid):
            os.chmod(v.db_path, 0o660)
            assert trust.untrusted(v.db_path) is None

    @pytest.fixture
    def deep(self, root):
        """A vault in a folder in a folder in a folder, all of them one's own."""
        folder = root / 'grand' / 'parent' / 'folder'
        folder.mkdir(parents=True)
        with contextlib.closing(Vault(folder / 't.db')) as v:
            v['k'] = Custom(1)
        return folder

    def refused(self, path, *words):
        with contextlib.closing(Vault(path)) as v, pytest.raises(vaults.UntrustedPickleError) as caught:
            v['k']
        assert all(word in str(caught.value) for word in words), caught.value

    def read(self, path):
        with contextlib.closing(Vault(path)) as v:
            return v['k'] == Custom(1)

    @pytest.mark.skipif(not hasattr(os, 'geteuid'), reason='no owners on this system')
    @pytest.mark.parametrize('level', ['grand', 'grand/parent', 'grand/parent/folder'])
    def test_every_folder_above_counts_and_is_named_with_the_cure(self, root, deep, level):
        (root / level).chmod(0o777)
        self.refused(deep / 't.db', f'everybody may write the folder {root / level}', f'`chmod o-w {root / level}`')
        (root / level).chmod(0o1777)
        assert self.read(deep / 't.db')

    @needs_root
    @pytest.mark.parametrize('level', ['grand', 'grand/parent', 'grand/parent/folder'])
    def test_a_folder_of_another_user_or_group_counts_even_when_it_is_sticky(self, root, deep, level):
        os.chown(root / level, 12345, 54321)
        for mode in (0o755, 0o1777):
            (root / level).chmod(mode)
            self.refused(deep / 't.db', f'the folder {root / level} belongs to user 12345', 'keep the vault')
        os.chown(root / level, 0, 54321)
        (root / level).chmod(0o775)
        self.refused(deep / 't.db', f'the group 54321 may write the folder {root / level}', 'chmod g-w')
        (root / level).chmod(0o1775)
        assert self.read(deep / 't.db')

    @needs_root
    @needs_fork
    def test_another_user_trusts_what_is_root_s_and_not_what_is_a_third_one_s(self):
        with tempfile.TemporaryDirectory() as base:  # tmp_path is closed to others
            folder = pathlib.Path(base, 'parent', 'folder')
            folder.mkdir(parents=True)
            (folder / 't.db').write_bytes(b'')
            pathlib.Path(base).chmod(0o755)
            for mine in (folder, folder / 't.db'):
                os.chown(mine, 12345, 54321)

            def as_user():
                os.setgroups([])
                os.setgid(54321)
                os.setuid(12345)
                return trust.untrusted(str(folder / 't.db'))
            assert in_child(as_user).answer() is None
            os.chown(folder.parent, 666, 666)
            assert f'the folder {folder.parent} belongs to user 666' in in_child(as_user).answer()
            os.chown(folder.parent, 0, 54321)
            folder.parent.chmod(0o775)
            assert f'the group 54321 may write the folder {folder.parent}' in in_child(as_user).answer()

    @pytest.mark.skipif(not hasattr(os, 'geteuid'), reason='no owners on this system')
    def test_the_folder_of_each_link_on_the_way_counts(self, root, deep):
        for name in ('one', 'two', 'three'):
            (root / name).mkdir()
        (root / 'one' / 'link').symlink_to('../two/link')
        (root / 'two' / 'link').symlink_to(root / 'three' / 'link')
        (root / 'three' / 'link').symlink_to(deep)
        (root / 'three' / 't.db').symlink_to('link/../folder/t.db')
        for way in (root / 'one' / 'link' / 't.db', root / 'three' / 't.db'):
            assert self.read(way)
        for name in ('one', 'two', 'three', 'grand'):
            (root / name).chmod(0o777)
            self.refused(root / 'one' / 'link' / 't.db', f'everybody may write the folder {root / name}')
            (root / name).chmod(0o755)
        (root / 'three').chmod(0o777)
        self.refused(root / 'three' / 't.db', 'three')

    @needs_root
    def test_a_link_of_another_user_in_a_sticky_folder_counts(self, root, deep):
        (root / 'sticky').mkdir()
        (root / 'sticky').chmod(0o1777)
        (root / 'sticky' / 'link').symlink_to(deep)
        assert self.read(root / 'sticky' / 'link' / 't.db')
        os.chown(root / 'sticky' / 'link', 12345, 54321, follow_symlinks=False)
        self.refused(root / 'sticky' / 'link' / 't.db', f"the link {root / 'sticky' / 'link'} belongs to user 12345")

    @pytest.mark.skipif(not hasattr(os, 'geteuid'), reason='no owners on this system')
    def test_links_that_run_in_circles_are_no_way(self, root):
        (root / 'a').symlink_to('b')
        (root / 'b').symlink_to('a')
        assert 'links' in trust.untrusted(str(root / 'a' / 't.db'))

    @pytest.mark.skipif(not hasattr(os, 'geteuid'), reason='no owners on this system')
    def test_a_source_of_an_import_counts_as_well(self, root, deep):
        with contextlib.closing(dbm.dumb.open(str(deep / 'shelf'), 'n')) as db:
            db['k'] = pickle.dumps(1j)
        assert list(moving.read(deep / 'shelf')) == [('k', 1j)]
        (root / 'grand').chmod(0o777)
        with pytest.raises(vaults.UntrustedPickleError, match=f"folder {root / 'grand'}"):
            list(moving.read(deep / 'shelf'))

    def test_false_neither_reads_nor_writes(self, root):
        v = Vault('t', allow_pickle=False)
        mark = root / 'ran'
        self.plant(v, mark)
        with pytest.raises(vaults.UntrustedPickleError, match='allow_pickle=False'):
            v['bomb']
        with pytest.raises(vaults.UntrustedPickleError, match='Custom.*register'):
            v['k'] = Custom(1)
        assert not mark.exists() and v.keys() == ['bomb']

    def test_a_list_resolves_those_types_alone(self, root):
        v = Vault('t', allow_pickle=[Custom, Pair])
        mark = root / 'ran'
        self.plant(v, mark)
        v['k'] = [Custom(1), Pair(1, 2)]
        assert v['k'] == [Custom(1), Pair(1, 2)]
        with pytest.raises(vaults.UntrustedPickleError, match='system'):
            v['bomb']
        with pytest.raises(vaults.UntrustedPickleError, match='OrderedDict'):
            v['o'] = collections.OrderedDict()
        assert not mark.exists() and 'o' not in v

    def test_true_reads_all_and_misuse_is_refused(self, root):
        mark = root / 'ran'
        v = Vault('t', allow_pickle=True)
        self.plant(v, mark)
        assert v['bomb'] == 0 and mark.exists()
        for wrong in ('yes', [], [1], int, 1.5):
            with pytest.raises(TypeError):
                Vault('u', allow_pickle=wrong)

    def test_a_pickle_that_cannot_be_loaded_is_an_error_of_ours(self, v):
        v._store.put('k', msgpack.packb(msgpack.ExtType(values.PICKLE, b'cno_such_module\nThing\n.')))
        with pytest.raises(vaults.SerializationError, match='no_such_module.*importable'):
            v['k']


class TestFirstProgram:
    def test_it_prints_what_its_comments_say(self, root):
        code = '''
            import sys, vaults
            vaults.set_root_path(sys.argv[1])
            v = vaults.Vault('my_data')
            v['name'] = 'Alice'
            v['age'] = 30
            v['settings'] = {'theme': 'dark', 'notifications': True}
            print(v['name'])
            print(v.get('age', 0))
            print('theme' in v)
            print(v.keys())
            print(v.values())
            print(v.items())
            del v['age']
            value = v.pop('name')
            v.delete_vault()
            with vaults.Vault('data') as v:
                v['key'] = 'value'
            '''
        assert output(code, root).splitlines() == [
            'Alice', '30', 'False', "['name', 'age', 'settings']",
            "['Alice', 30, {'theme': 'dark', 'notifications': True}]",
            "[('name', 'Alice'), ('age', 30), ('settings', {'theme': 'dark', 'notifications': True})]"]
        assert os.listdir(root / 'vaults') == ['data.db']
        assert Vault('data').items() == [('key', 'value')]

    def test_importing_writes_nothing_and_imports_nothing_heavy(self, tmp_path):
        code = '''
            import sys, vaults
            print(sorted({'logging', 'typing', 'pickle', 'uuid', 'decimal', 'pathlib', 'numpy'} & set(sys.modules)))'''
        empty = tmp_path / 'empty'
        empty.mkdir()
        assert output(code, cwd=str(empty)) == '[]'
        assert os.listdir(empty) == []

    def test_dir_shows_what_is_public_and_nothing_else(self):
        code = 'import vaults; vaults.cli, vaults.stores.sqlite; print([n for n in dir(vaults) if not n.startswith("__")])'
        shown = ast.literal_eval(output(code.replace('import vaults', 'import vaults, vaults.cli, vaults.stores.sqlite')))
        assert shown == sorted([*vaults.__all__, 'moving', 'recovery']) and '__version__' in dir(vaults)
        assert output('import vaults; print(vaults.recovery.recover.__module__, vaults.moving.read.__module__)') == (
            'vaults.recovery vaults.moving')
        with pytest.raises(AttributeError, match='moved'):
            vaults.moved

    def test_help_begins_with_a_map_of_what_is_public(self):
        named = re.findall(r'^ *(\w[\w, ]*?)  +\w', vaults.__doc__, re.M)
        assert len(named) >= 8 and {word for names in named for word in names.split(', ')} <= set(dir(vaults))

    def test_help_of_a_vault_shows_readable_signatures_and_a_line_for_each_verb(self):
        import pydoc
        for shown in (Vault, vaults.Section, vaults.Shelf, vaults.List, vaults.Column, views.SortedSlice):
            text = pydoc.plain(pydoc.render_doc(shown))
            assert not re.search(' object at 0x|lambda', text), shown
            assert not [name for name in dir(shown) if name.isupper() and name[0] != '_']
            for name in dir(shown):
                if not name.startswith('_') and callable(getattr(shown, name)):
                    assert getattr(shown, name).__doc__, (shown, name)
        assert 'pop(self, key: ' in pydoc.plain(pydoc.render_doc(Vault)) and repr(vaults.place.MISSING) == '<missing>'
        for name in '__setitem__ __contains__ __iter__ __len__ __bool__ __reversed__ __or__ __ror__ __ior__'.split():
            assert vars(Vault)[name].__doc__, name

    def test_the_public_names_are_documented(self):
        assert vaults.__all__ == sorted(vaults.__all__)
        pages = '\n'.join(page.read_text('utf-8') for page in PAGES)
        for name in vaults.__all__:
            assert getattr(vaults, name).__doc__ and name in pages, name
        for name in vars(Vault):
            if not name.startswith('_'):
                assert getattr(Vault, name).__doc__, name
                assert name in pages, name


class TestPlaces:
    def test_the_root_is_the_set_path_or_the_variable_or_the_current_folder(self, tmp_path, monkeypatch):
        assert Vault('a').db_path == str(tmp_path / 'vaults' / 'a.db')
        vaults.set_root_path(None)
        monkeypatch.setenv('VAULTS_ROOT', str(tmp_path / 'env'))
        assert Vault('a').db_path == str(tmp_path / 'env' / 'vaults' / 'a.db')
        monkeypatch.delenv('VAULTS_ROOT')
        monkeypatch.chdir(tmp_path)
        assert os.path.samefile(os.path.dirname(Vault('b').db_path), tmp_path / 'vaults')

    @pytest.mark.parametrize('name', ['', 'a/b', 'a\\b', '..', 'a..b', 'a\0b', '/abs'])
    def test_a_name_that_is_a_path_is_refused(self, name, root):
        with pytest.raises(vaults.VaultError, match='pathlib'):
            Vault(name)

    @pytest.mark.parametrize('name', ['my.db', 'my.DB', 'my.Db', 'a.b.db', '.db'])
    def test_a_name_that_ends_as_a_file_does_is_refused_with_both_cures(self, name, root):
        for make in (Vault, lambda name: Vault(name, flag='r'), lambda name: recovery.recover(name, 'good'),
                     lambda name: recovery.recover('bad', name)):
            with pytest.raises(vaults.VaultError) as caught:
                if make is not Vault or name != '.db':
                    Vault('bad').close()
                make(name)
            assert f"pathlib.Path({name!r}) for exactly that file" in str(caught.value)
            assert (f'Vault({name[:-3]!r})' in str(caught.value)) == (name != '.db')
        assert sorted(os.listdir(root / 'vaults')) == ['bad.db']
        v = Vault(root / name)
        assert v.db_path == str(root / name)
        v.close()

    def test_what_a_name_with_the_ending_has_made_before_is_named(self, root):
        old = root / 'vaults' / 'my.db.db'
        Vault(old).close()
        with pytest.raises(vaults.VaultError, match=re.escape(f'it was made as {old}')):
            Vault('my.db')

    def test_other_endings_are_part_of_a_name(self, root):
        for name in ('my.sqlite', 'my.db3', 'my.db.old', 'db', 'mydb', 'a.b'):
            with contextlib.closing(Vault(name)) as v:
                assert (v.name, os.path.basename(v.db_path)) == (name, name + '.db')

    @pytest.mark.parametrize('name, words', [
        ({}, 'v.update'), ({'a': 1}, 'v.update'), ([('a', 1)], 'v.update'), ((), 'v.update'), (None, "Vault('name')"),
        (5, "Vault('name')"), (True, "Vault('name')"), (b'x', 'os.fsdecode'), (bytearray(b'x'), 'os.fsdecode'),
        (io.BytesIO(), 'pathlib.Path')])
    def test_what_is_no_name_is_a_type_error_with_the_cure(self, name, words, root):
        for make in (Vault, lambda name: Vault(name, flag='r'), lambda name: Vault(name, thread_safe=True),
                     lambda name: Vault(name, writeback=True), lambda name: recovery.recover(name, 'x')):
            with pytest.raises(TypeError, match=re.escape(words)) as caught:
                make(name)
            assert type(name).__name__ in str(caught.value)
        assert not (root / 'vaults').exists() or os.listdir(root / 'vaults') == []

    def test_paths_of_bytes_are_those_of_text(self, root):
        v = Vault('a')
        v.backup(os.fsencode(root / 'copy'))
        assert (root / 'copy').is_file()
        vaults.set_root_path(os.fsencode(root / 'other'))
        Vault('b').close()
        assert (root / 'other' / 'vaults' / 'b.db').is_file() and not list(root.glob("b'*"))
        for wrong in (5, {}, [1]):
            with pytest.raises(TypeError, match='os.PathLike'):
                vaults.set_root_path(wrong)
            with pytest.raises(TypeError, match='os.PathLike'):
                v.backup(wrong)
        v.close()

    @pytest.mark.parametrize('name', ['x' * 245, '\ud800'])
    def test_a_name_that_no_file_can_have_is_refused(self, name, root):
        with pytest.raises(vaults.VaultError, match='name'):
            Vault(name)
        assert os.listdir(root / 'vaults') == []

    @pytest.mark.parametrize('name', ['per%20cent', 'quest?ion', 'ha#sh', 'sp ace', 'ünïcode', 'quo\'te"', 'x' * 240, 'a&b=c'])
    def test_any_other_name_is_a_file_of_that_name(self, name, root):
        v = Vault(name)
        v['k'] = 1
        v.close()
        assert os.listdir(root / 'vaults') == [name + '.db']
        assert Vault(name, flag='r')['k'] == 1
        v = Vault(root / 'vaults' / (name + '.db'))
        assert (v.name, v['k']) == (name, 1)

    def test_a_path_is_an_exact_file(self, root):
        v = Vault(root / 'exact.anything')
        v['k'] = 1
        assert (v.name, v.db_path) == ('exact', str(root / 'exact.anything'))
        with pytest.raises(vaults.VaultNotFoundError, match='missing'):
            Vault(root / 'missing' / 'x.db')

    def test_memory_is_no_file(self, root):
        v = Vault(':memory:')
        v['k'] = 1
        assert (v.name, v.db_path, v['k']) == (':memory:', ':memory:', 1)
        assert 'k' not in Vault(':memory:')
        v.delete_vault()
        assert os.listdir(root / 'vaults') == []

    def test_flags_are_dbms(self, root):
        for flag in 'rw':
            with pytest.raises(vaults.VaultNotFoundError, match=re.escape(str(root / 'vaults' / 'x.db'))):
                Vault('x', flag=flag)
        with pytest.raises(vaults.VaultNotFoundError):
            Vault('x', to_create=False)
        assert not (root / 'vaults' / 'x.db').exists()
        with Vault('x', flag='c') as v:
            v['k'] = 1
        assert Vault('x', to_create=False)['k'] == 1
        assert Vault('x', flag='w')['k'] == 1
        assert len(Vault('x', flag='n')) == 0

    def test_wrong_arguments_are_value_errors_and_type_errors_too(self, root):
        def check(kind, options):
            for opened in (lambda: Vault('x', **options), lambda: vaults.Shelf(root / 'x', **options)):
                with pytest.raises(vaults.VaultError, match=next(iter(options))) as caught:
                    opened()
                assert isinstance(caught.value, kind) and not isinstance(caught.value, vaults.SerializationError)
        for options in ({'flag': 'x'}, {'flag': ''}, {'flag': 'rw'}, {'synchronous': 'MAYBE'}, {'timeout': -1},
                        {'timeout': float('nan')}, {'timeout': 1e300}, {'cache_size': 0}, {'cache_size': -5}):
            check(ValueError, options)
        for options in ({'flag': None}, {'flag': 5}, {'flag': True}, {'flag': ['r']}, {'synchronous': 1}, {'synchronous': None},
                        {'timeout': 'x'}, {'timeout': True}, {'timeout': None}, {'cache_size': 1.5}, {'cache_size': True},
                        {'cache_size': 'a'}, {'writeback': 'r'}, {'writeback': None}, {'validate': 5}, {'allow_pickle': 5},
                        {'allow_pickle': 'yes'}, {'serializer': 5}, {'serializer': (1, 2, 3)}):
            check(TypeError, options)
        with pytest.raises(ValueError, match='flag') as caught:
            vaults.open(root / 'p', 'bad')
        assert isinstance(caught.value, vaults.VaultError)
        with pytest.raises(ValueError, match='always new'):
            Vault(':memory:', flag='r')
        assert not (root / 'vaults').exists() or os.listdir(root / 'vaults') == []

    @pytest.mark.parametrize('wrong', ['r', 'c', 'n', 'w', 0, 1, None, 5.0, 'rw'])
    def test_a_flag_in_the_second_place_is_told_where_it_goes(self, root, wrong):
        for opened in (lambda: Vault('a', wrong), lambda: Vault('a', True, wrong), lambda: Vault('a', thread_safe=wrong)):
            with pytest.raises(TypeError, match='flag=') as caught:
                opened()
            assert isinstance(caught.value, vaults.VaultError)
        assert not (root / 'vaults').exists() or os.listdir(root / 'vaults') == []
        with vaults.open(root / 'shelf', 'c', None, 1) as shelf:
            shelf['a'] = []
            shelf['a'].append(1)
        with vaults.open(root / 'shelf', 'r') as shelf:
            assert shelf['a'] == [1]

    def test_what_is_no_name_or_path_is_said_to_be_none(self, root):
        for name in ('', 'a/b', 'x' * 300, '\ud800', 'a\0b'):
            with pytest.raises(ValueError, match='name'):
                Vault(name)
        for wrong in ({}, {'a': 1}, 5, None, [], object(), Vault(':memory:')):
            with pytest.raises(TypeError, match="Vault.'name'") as caught:
                Vault(wrong)
            assert isinstance(caught.value, vaults.VaultError)
            with pytest.raises(TypeError, match='path') as caught:
                vaults.Shelf(wrong)
            assert isinstance(caught.value, vaults.VaultError)
            if wrong is not None:
                with pytest.raises(TypeError, match='path') as caught:
                    vaults.set_root_path(wrong)
                assert isinstance(caught.value, vaults.VaultError)
        for act in (lambda: vaults.set_root_path('a\0b'), lambda: Vault(pathlib.Path('a\0b'))):
            with pytest.raises(ValueError, match='NUL') as caught:
                act()
            assert isinstance(caught.value, vaults.VaultError)
        assert vaults.opening._root == str(root)

    @pytest.mark.parametrize('size', [512, 4096, 12288])
    @pytest.mark.parametrize('flag', ['c', 'r'])
    def test_a_vault_whose_making_a_power_cut_ended_is_made_anew(self, root, flag, size):
        v = Vault('t')
        v.close()
        whole = pathlib.Path(v.db_path).read_bytes()
        journal = bytes.fromhex('d9d505f920a163d7 00000000 00000000 00000000 00000200 00001000').ljust(512, b'\0')
        for left in (whole[:size], bytes(size), b'\xa5' * size):  # new space holds what was written, nothing, or anything
            pathlib.Path(v.db_path).write_bytes(left)
            pathlib.Path(v.db_path + '-journal').write_bytes(journal)  # SQLite's: the file had no page, back to that
            if flag == 'r':
                with pytest.raises(vaults.VaultFormatError, match='empty, not a vault'):
                    Vault('t', flag='r')
                continue
            v = Vault('t')
            v['a'] = 1
            v._check()
            v.close()
            assert os.listdir(root / 'vaults') == ['t.db']

    def test_reading_writes_nothing_and_leaves_no_file(self, root):
        with Vault('x') as v:
            v['k'] = 1
        v.close()
        before = (root / 'vaults' / 'x.db').read_bytes()
        r = Vault('x', flag='r')
        with r:
            assert r.items() == [('k', 1)]
        for act in (lambda: r.put('k', 2), r.clear, r.popitem, lambda: r.update(a=1), r.delete_vault, r.compact,
                    lambda: r.__delitem__('k')):
            with pytest.raises(vaults.VaultReadOnlyError) as caught:
                act()
            assert isinstance(caught.value, PermissionError)
        r.sync()
        assert r.check() == [] and r['k'] == 1
        r.close()
        assert os.listdir(root / 'vaults') == ['x.db']
        assert (root / 'vaults' / 'x.db').read_bytes() == before

    @needs_root
    def test_a_read_only_folder_can_be_read_while_another_writes(self, root):
        v = Vault('x')
        v['k'] = 1
        v.close()
        for place in (root, *root.parents):
            if place != pathlib.Path('/') and (os.stat(place).st_mode & 0o5) != 0o5:
                os.chmod(place, os.stat(place).st_mode | 0o5)
        code = '''
            import os, sys, pathlib, sqlite3, vaults.stores.sqlite.store
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            path = pathlib.Path(sys.argv[1])
            v = vaults.Vault(path, flag='r')
            for line in sys.stdin:
                with v:
                    print(v.items(), len(v), v.check(), flush=True)
            v.backup(sys.argv[2])
            print(vaults.Vault(pathlib.Path(sys.argv[2])).items(), flush=True)
            try:
                vaults.Vault(path)
            except vaults.VaultReadOnlyError as error:
                print(error, flush=True)
            '''
        os.chmod(root / 'vaults', 0o755)
        env = {**os.environ, 'PYTHONPATH': str(HERE)}
        (root / 'open').mkdir()
        os.chmod(root / 'open', 0o777)
        with subprocess.Popen([sys.executable, '-c', textwrap.dedent(code), str(root / 'vaults' / 'x.db'),
                               str(root / 'open' / 'copy.db')], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, universal_newlines=True) as reader:
            def ask():
                reader.stdin.write('\n')
                reader.stdin.flush()
                return reader.stdout.readline().strip()
            try:
                assert ask() == "[('k', 1)] 1 []"
                assert os.listdir(root / 'vaults') == ['x.db']
                v = Vault('x')
                v['l'] = 2
                assert ask() == "[('k', 1), ('l', 2)] 2 []"
                v['k'] = 3
                v.close()
                assert ask() == "[('k', 3), ('l', 2)] 2 []"
                reader.stdin.close()
                assert reader.stdout.readline() == "[('k', 3), ('l', 2)]\n"
                assert "flag='r'" in reader.stdout.readline()
            finally:
                reader.kill()

    def test_deleting_takes_the_three_files_and_nothing_else(self, root):
        other = Vault('other')
        v = Vault('x')
        v['k'] = 1
        assert {'x.db', 'x.db-wal', 'x.db-shm'} <= set(os.listdir(root / 'vaults'))
        v.delete_vault()
        assert not [name for name in os.listdir(root / 'vaults') if name.startswith('x')]
        with pytest.raises(vaults.VaultClosedError):
            v['k']
        other['k'] = 1


try:
    from test.mapping_tests import BasicTestMappingProtocol
except ImportError:
    BasicTestMappingProtocol = None

if BasicTestMappingProtocol:
    class TestCPythonsMappingTests(BasicTestMappingProtocol):
        @staticmethod
        def type2test(*args, **named):
            v = Vault(':memory:')
            v.update(*args, **named)
            return v

        def _reference(self):
            return {'1': '2', 'key1': 'value1', 'key2': (1, 2, 3)}
    del BasicTestMappingProtocol


class DictMachine(RuleBasedStateMachine):
    """A vault and a dict do the same, whatever is done."""

    key = st.one_of(st.integers(-3, 9), st.sampled_from(['a', 'b', 'ab', (1, 'a'), (1.0, 'a'), ('a', 1), ('a', 'b'), ('a',), (),
                                                         ((),), True, 2.0, b'a', None]))
    options = {}

    @initialize()
    def start(self):
        self.folder = tempfile.mkdtemp()
        self.path = pathlib.Path(self.folder, 'v.db')
        self.v, self.d, self.saved = Vault(self.path, **self.options), collections.OrderedDict(), []

    def both(self, act):
        results = []
        for mapping in (self.v, self.d):
            try:
                results.append(act(mapping))
            except (KeyError, TypeError, ValueError) as error:
                results.append(KeyError if isinstance(error, KeyError) else type(error))
        assert results[0] == results[1]

    @rule(key=key, value=st.integers() | st.text())
    def set(self, key, value):
        self.both(lambda m: m.__setitem__(key, value))

    @rule(key=key)
    def read(self, key):
        self.both(lambda m: (m.get(key, 'no'), key in m, m.get(key)))
        self.both(lambda m: m[key])

    @rule(key=key)
    def delete(self, key):
        self.both(lambda m: m.__delitem__(key))

    @rule(key=key, default=st.sampled_from([(), ('d',)]))
    def pop(self, key, default):
        self.both(lambda m: m.pop(key, *default))

    @rule(last=st.booleans())
    def popitem(self, last):
        self.both(lambda m: m.popitem(last))

    @rule(key=key, last=st.booleans())
    def move_to_end(self, key, last):
        self.both(lambda m: m.move_to_end(key, last=last))

    @rule(key=key, value=st.integers())
    def setdefault(self, key, value):
        self.both(lambda m: m.setdefault(key, value))

    @rule(pairs=st.lists(st.tuples(key, st.integers()), max_size=5))
    def update(self, pairs):
        self.both(lambda m: m.update(pairs))

    @rule(low=st.integers(-3, 9), high=st.integers(-3, 9))
    def delete_slice(self, low, high):
        inside = [key for key in self.d if isinstance(key, (int, float)) and low <= key < high]
        assert list(self.v[low:high]) == sorted(inside)
        assert len(self.v[low:high]) == len(inside)
        del self.v[low:high]
        for key in inside:
            del self.d[key]

    @rule()
    def clear(self):
        self.both(lambda m: m.clear())

    @precondition(lambda self: len(self.saved) < 3)
    @rule()
    def begin(self):
        self.v.__enter__()
        self.saved.append(self.d.copy())

    @precondition(lambda self: self.saved)
    @rule()
    def commit(self):
        self.v.__exit__(None, None, None)
        self.saved.pop()

    @precondition(lambda self: self.saved)
    @rule()
    def roll_back(self):
        self.v.__exit__(ValueError, ValueError(), None)
        self.d = self.saved.pop()

    @precondition(lambda self: not self.saved)
    @rule(compact=st.booleans())
    def reopen(self, compact):
        if compact:
            self.v.compact()
        self.v.close()
        self.v = Vault(self.path, **self.options)

    @invariant()
    def same(self):
        if hasattr(self, 'v'):
            assert list(self.v.items()) == list(self.d.items())
            assert [*map(repr, self.v)] == [*map(repr, (key if key != (1, 'a') else (1, 'a') for key in self.d))]
            assert len(self.v) == len(self.d) and self.v == self.d and bool(self.v) == bool(self.d)

    def teardown(self):
        if hasattr(self, 'v'):
            while self.saved:
                self.commit()
            self.v._check()
            self.v.close()
            shutil.rmtree(self.folder)


class QueuedMachine(DictMachine):
    options = {'thread_safe': True}


TestAsADict = DictMachine.TestCase
TestAsADictThatLocks = QueuedMachine.TestCase
for case in (TestAsADict, TestAsADictThatLocks):
    case.settings = settings(max_examples=10, stateful_step_count=30, deadline=None,
                             suppress_health_check=list(HealthCheck))


class TestDict:
    def test_a_stored_none_is_a_value(self, v):
        v['k'] = None
        assert v['k'] is None and v.get('k', 5) is None and 'k' in v and v.pop('k', 5) is None

    def test_overwriting_keeps_the_place(self, v):
        v.update(a=1, b=2, c=3)
        v['a'] = 9
        assert v.keys() == ['a', 'b', 'c'] and list(reversed(v)) == ['c', 'b', 'a'] and v.popitem() == ('c', 3)

    def test_missing_keys_are_key_errors(self, v):
        for act in (lambda: v['x'], lambda: v.pop('x'), lambda: v.__delitem__('x')):
            with pytest.raises(KeyError) as caught:
                act()
            assert caught.value.args == ('x',)
        with pytest.raises(vaults.EmptyVaultError, match='empty') as caught:
            v.popitem()
        assert isinstance(caught.value, KeyError) and isinstance(caught.value, vaults.VaultError)

    def test_many_at_once(self, v):
        assert v.put_many({'a': 1, 'b': 2}) == 2
        assert v.put_many((n, n * n) for n in range(10)) == 10
        assert v.put_many([]) == 0
        assert v.get_many([3, 'x', 'a']) == {3: 9, 'a': 1} and list(v.get_many([3, 'a', 1])) == [3, 'a', 1]
        assert v.pop_many(['b', 'x', 0]) == {'b': 2, 0: 0} and 'b' not in v
        assert v.has_keys([]) and v.has_keys(['a', 1]) and not v.has_keys(['a', 'x'])

    def test_three_hundred_thousand_keys_at_once(self, root):
        v = Vault('many')
        assert v.put_many((n, n) for n in range(0, 300_000, 6)) == 50_000
        wanted = range(299_999, -1, -1)
        found = v.get_many(wanted)
        assert list(found) == [n for n in wanted if n % 6 == 0] and all(key == value for key, value in found.items())
        assert list(v.pop_many(wanted[:100_000])) == [n for n in wanted[:100_000] if n % 6 == 0] and len(v) == 33_333 + 1

    def test_update_takes_what_dict_takes(self, v):
        class Keyed:
            def keys(self):
                return ['k']

            def __getitem__(self, key):
                return 'keyed'
        v.update({'a': 1}, b=2)
        v.update([('c', 3)], d=4)
        v.update(Keyed())
        v.update(v[:'b'])
        v |= {'e': 5}
        v |= [('f', 6)]
        assert v == {'a': 1, 'b': 2, 'c': 3, 'd': 4, 'k': 'keyed', 'e': 5, 'f': 6}
        with pytest.raises(ValueError, match='element 0'):
            v.update(['abc'])
        with pytest.raises(TypeError):
            v.update(5)

    def test_update_is_all_or_nothing(self, v):
        v['a'] = 0

        def pairs(problem):
            yield 'a', 1
            yield 'b', 2
            raise problem
        for problem in (ValueError, KeyboardInterrupt, vaults.VaultError):
            with pytest.raises(problem):
                v.update(pairs(problem))
            assert v.items() == [('a', 0)]
        with pytest.raises(TypeError, match='use a tuple'):
            v.update([('b', 1), ([], 2)])
        v['later'] = 1
        assert Vault('test').items() == [('a', 0), ('later', 1)]

    def test_update_may_read_the_vault_it_writes(self, v):
        v.update((n, n) for n in range(3000))
        v.update((key, value + len(v)) for key, value in v.items())
        assert v[2999] == 5999

    def test_unions_are_dicts(self, v):
        v['a'] = 1
        assert v | {'a': 2, 'b': 3} == {'a': 2, 'b': 3} and v | {'b': 3} == {'a': 1, 'b': 3}
        assert {'a': 2, 'c': 3} | v == {'a': 1, 'c': 3}
        assert type(v | {}) is dict and v.__ror__({'a': 2}) == {'a': 1}
        assert v.__or__(5) is NotImplemented

    def test_repr_names_it_and_its_size(self, v):
        assert repr(v) == "Vault('test', 0 items)"
        v['k'] = 1
        assert repr(v) == "Vault('test', 1 item)"
        v.close()
        assert repr(v) == "Vault('test', closed)"

    def test_it_is_not_hashable_and_equal_to_what_holds_the_same(self, v):
        v.update(a=1, b=2)
        assert v == {'b': 2, 'a': 1} and v != {'a': 1} and v != {'a': 1, 'c': 2} and v != [('a', 1)] and v == v
        with pytest.raises(TypeError):
            hash(v)

    def test_edit_writes_back_what_was_changed_in_place(self, v):
        with v.edit('log', []) as entries:
            entries.append(1)
        with pytest.raises(ZeroDivisionError), v.edit('log') as entries:
            entries.append(2)
            1 / 0
        assert v['log'] == [1]
        with pytest.raises(KeyError), v.edit('missing'):
            pass
        with pytest.raises(vaults.SerializationError), v.edit('log') as entries:
            entries.append(threading.Lock())
        assert v['log'] == [1] and v._store._local.c.depth == 0

    def test_bytes_of_a_slice_assignment_are_refused(self, v):
        with pytest.raises(TypeError, match='update'):
            v['a':'b'] = 1


class TestWhatCannotBeAKey:
    """Looking for it finds nothing, as in a dict; what is not hashable is a TypeError, as in a dict."""

    unstorable = [object(), 1j, decimal.Decimal('1.5'), fractions.Fraction(1, 2), frozenset('a'), int, len, ..., enum, float('nan'),
                  (1, float('nan')), ('a', object()), dt.time(1), dt.timedelta(1), range(3), Exception()]
    unhashable = [[], {}, set(), bytearray(b'a'), ([],), ('a', ('b', {})), (float('nan'), []), (object(), [])]

    @pytest.fixture(params=['vault', 'section', 'write-back', 'thread_safe', 'in memory', 'validating', 'slice', 'section slice',
                            'write-back section'])
    def place(self, request, root):
        options = {'thread_safe': {'thread_safe': True}, 'validating': {'validate': lambda key, value: None}}.get(request.param, {})
        if 'write-back' in request.param:
            options = {'writeback': True}
        v = Vault(':memory:' if request.param == 'in memory' else 'v', **options)
        inside = v.section('s') if 'section' in request.param else v
        inside.update({'a': 1, ('a', 1): 2, 1: 3})
        yield inside[:] if 'slice' in request.param else inside
        if not v.closed:
            v._check()
        v.close()

    @pytest.mark.parametrize('key', unstorable, ids=repr)
    def test_looking_for_it_finds_nothing(self, place, key):
        assert key not in place and place.get(key) is None and place.get(key, 5) == 5
        keys = place.keys()
        assert key not in keys and (key, 1) not in place.items() and key not in [*keys]
        assert place.keys() & {key} == set() and place.keys() - {key} == set(place.keys()) and place.keys().isdisjoint([key])
        for act in (lambda: place[key], lambda: place.__delitem__(key)):
            with pytest.raises(KeyError) as caught:
                act()
            assert caught.value.args == (key,) and caught.value.args[0] is key
        if isinstance(place, Vault):
            assert place.pop(key, 5) == 5 and place.get_many([key, 'a']) == {'a': 1} and not place.has_keys(['a', key])
            assert place.pop_many([key]) == {}
            for act in (lambda: place.pop(key), lambda: place.edit(key).__enter__(), lambda: place.open(key),
                        lambda: place.move_to_end(key), lambda: place.get_file(key, io.BytesIO())):
                with pytest.raises(KeyError):
                    act()
        assert len(place) == 3 and place != {key: 1, 'a': 1, 'b': 2}

    @pytest.mark.parametrize('key', unhashable, ids=repr)
    def test_what_is_not_hashable_is_a_type_error(self, place, key):
        keys = place.keys()
        acts = [lambda: key in place, lambda: place.get(key), lambda: place.get(key, 5), lambda: place[key],
                lambda: place.__delitem__(key), lambda: key in keys, lambda: (key, 1) in place.items()]
        if isinstance(place, Vault):
            acts += [lambda: place.pop(key), lambda: place.pop(key, 5), lambda: place.get_many(['a', key]),
                     lambda: place.pop_many(['a', key]), lambda: place.has_keys(['a', key]), lambda: place.move_to_end(key),
                     lambda: place.open(key)]
        for act in acts:
            with pytest.raises(TypeError, match='unhashable'):
                act()
        assert len(place) == 3 and 'a' in place

    @pytest.mark.parametrize('key', [*unstorable, *unhashable], ids=repr)
    def test_only_putting_it_raises_with_the_cure(self, place, key):
        if not isinstance(place, Vault):
            return
        acts = [lambda: place.__setitem__(key, 1), lambda: place.put(key, 1), lambda: place.setdefault(key, 1),
                lambda: place.update([(key, 1)]), lambda: place.put_many([('b', 1), (key, 1)]),
                lambda: place.edit(key, 1).__enter__(), lambda: place.section(key)]
        if place._validate is None:
            acts += [lambda: place.list(key), lambda: place.column(key, 'int8'), lambda: place.open(key, 'wb'),
                     lambda: place.put_file(key, io.BytesIO())]
        for act in acts:
            with pytest.raises((TypeError, ValueError), match='use ') as caught:
                act()
            assert not isinstance(caught.value, vaults.VaultError)
        assert len(place) == 3

    def test_a_pair_that_is_none_is_not_among_the_items(self, place):
        assert ('a', 1) in place.items() and ('a', 2) not in place.items() and ('x', 1) not in place.items()
        for other in (5, 'a', ('a',), ('a', 1, 2), ['a', 1], None):
            assert other not in place.items()

    @pytest.mark.parametrize('key', [object(), 1j, float('nan'), ('a', object())], ids=repr)
    def test_a_closed_vault_says_so_whatever_is_looked_for(self, place, key):
        vault = getattr(place, '_vault', place)
        vault.close()
        acts = [lambda: key in place, lambda: place.get(key), lambda: place[key], lambda: place.__delitem__(key)]
        if vault is place:
            acts += [lambda: place.pop(key, 5), lambda: place.get_many([key]), lambda: place.move_to_end(key)]
        for act in acts:
            with pytest.raises(vaults.VaultClosedError):
                act()

    def test_it_may_be_in_what_is_compared_with(self, place):
        nan = float('nan')
        assert place != {nan: 1, object(): 2, 'a': 1} and place != dict.fromkeys(range(3))
        assert {nan: 1, 1j: 2, 'a': 1} != place


class TestMissing:
    """`__missing__` of a subclass is called as that of a dict's is: by v[key] alone."""

    @pytest.mark.parametrize('options', [{}, {'writeback': True}, {'validate': lambda key, value: None}, {'thread_safe': True}])
    def test_only_looking_up_calls_it(self, root, options):
        class Counting(Vault):
            def __missing__(self, key):
                asked.append(key)
                return f'no {key}'
        asked, strange = [], object()
        with contextlib.closing(Counting('c', **options)) as v:
            v['a'] = None
            assert v['x'] == 'no x' and v[strange] == f'no {strange}' and v['a'] is None and asked == ['x', strange]
            assert v.get('x') is None and 'x' not in v and v.pop('x', 5) == 5 and v.get(strange, 5) == 5 and len(asked) == 2
            assert v.get_many(['x']) == {} and ('x', 'no x') not in v.items() and v.setdefault('y', 1) == 1 and len(asked) == 2
            for act in (lambda: v.pop('x'), lambda: v['a':'z']['x'], lambda: v.__delitem__('x'), lambda: v.section('s')['x'],
                        lambda: v.edit('x').__enter__()):
                with pytest.raises(KeyError):
                    act()
            with pytest.raises(TypeError, match='unhashable'):
                v[[]]
            assert len(asked) == 2

    def test_it_may_set_what_was_missing(self, root):
        class Listing(Vault):
            def __missing__(self, key):
                self[key] = []
                return self[key]
        with contextlib.closing(Listing('l', writeback=True)) as v:
            v['a'].append(1)
            v['a'].append(2)
        assert Vault('l').items() == [('a', [1, 2])]

    def test_its_key_error_is_its_own(self, root):
        class Refusing(Vault):
            def __missing__(self, key):
                raise LookupError(f'{key}: ask somebody else')
        v = Refusing('r')
        with pytest.raises(LookupError, match='somebody'):
            v['x']


class Labelled(Vault):
    """A user's class with an `__init__` and attributes of its own, of which one is in a slot."""

    __slots__ = ('__dict__', '__hidden', 'slot')

    def __init__(self, root, label, colour='red'):
        super().__init__(pathlib.Path(root, f'{label}.db'), **self.options)
        self.label, self.colour, self.slot, self.__hidden = label, [colour], 'in a slot', 5

    options = {}

    def hidden(self):
        return self.__hidden


class LabelledLive(Labelled):
    options = {'writeback': True, 'thread_safe': True}


class Stated(Vault):
    def __init__(self, root):
        super().__init__(pathlib.Path(root, 'stated.db'))
        self.lock, self.seen = threading.Lock(), 1

    def __getstate__(self):
        return {'seen': self.seen}

    def __setstate__(self, state):
        self.lock, self.seen = threading.Lock(), state['seen'] + 1


class Plain(Vault):
    pass


class TestCopies:
    """copy.copy, copy.deepcopy and pickle: another handle of the same vault."""

    copied = [copy.copy, copy.deepcopy, lambda v: pickle.loads(pickle.dumps(v)), lambda v: pickle.loads(pickle.dumps(v, 2))]

    @pytest.mark.parametrize('copied', copied)
    @pytest.mark.parametrize('options', [{}, {'writeback': True}, {'thread_safe': True}, {'validate': print}, {'flag': 'r'}])
    def test_a_copy_is_another_handle_of_the_same_vault(self, root, copied, options):
        Vault('v')['a'] = [1]
        with contextlib.closing(Plain('v', **options)) as v, contextlib.closing(copied(v)) as other:
            assert other is not v and type(other) is type(v) and (other.name, other.db_path) == (v.name, v.db_path)
            if 'flag' not in options:
                v['b'] = 2
                v.sync()
                assert other['b'] == 2
                v.close()
                other['c'] = 3
            assert other['a'] == [1]
        assert Vault('v').get('c', 3) == 3

    @pytest.mark.parametrize('copied', copied)
    def test_a_copied_section_is_the_same_section(self, root, copied):
        if copied not in (copy.copy, copy.deepcopy):
            Vault('v')['a'] = 1
        s = Vault('v').section('s')
        other = copied(s)
        other['a'] = 1
        assert s['a'] == 1 and other.path == ('s',) and type(other) is type(s)

    @pytest.mark.parametrize('copied', copied)
    def test_in_memory_there_is_only_one(self, copied):
        v = Vault(':memory:')
        for one in (v, Plain(':memory:')):
            with pytest.raises(TypeError, match=r'copy\(\).*backup'):
                copied(one)
        assert v.copy() == {}

    @pytest.mark.parametrize('copied', copied)
    @pytest.mark.parametrize('cls', [Labelled, LabelledLive])
    def test_what_a_subclass_has_added_travels(self, root, copied, cls):
        with contextlib.closing(cls(root, 'mine', 'blue')) as v:
            v['a'] = 1
            del v.slot
            v.more = {1}
            with contextlib.closing(copied(v)) as other:
                assert type(other) is type(v) and isinstance(other, cls) and other['a'] == 1 and other.hidden() == 5
                assert (other.label, other.colour, other.more) == ('mine', ['blue'], {1}) and not hasattr(other, 'slot')
                assert (other.colour is v.colour) == (copied is copy.copy) and other.db_path == v.db_path
                other.label = other.slot = 'other'
                assert v.label == 'mine' and not hasattr(v, 'slot')

    @pytest.mark.parametrize('copied', copied)
    def test_a_state_of_its_own_is_used(self, root, copied):
        with contextlib.closing(Stated(root)) as v, contextlib.closing(copied(v)) as other:
            assert other.seen == 2 and other.lock is not v.lock


class TestFromKeys:
    def test_it_makes_a_vault_in_memory(self, root):
        before = list(root.rglob('*'))
        v = Vault.fromkeys(['b', 'a', 'b', 1, ('x', 2)], 5)
        assert type(v) is Vault and v.db_path == ':memory:' and v == dict.fromkeys(['b', 'a', 1, ('x', 2)], 5)
        assert v.keys() == ['b', 'a', 1, ('x', 2)] and Vault.fromkeys('ab').items() == [('a', None), ('b', None)]
        assert len(Vault.fromkeys(())) == 0 and list(root.rglob('*')) == before
        with pytest.raises(TypeError, match='use a tuple'):
            Vault.fromkeys([[]])

    def test_it_makes_one_of_the_same_class(self, root):
        v = Plain('v', writeback=True, validate=print)
        assert type(Plain.fromkeys('ab', 1)) is Plain
        made = v.fromkeys('ab', 1)
        made['c'] = 2
        assert type(made) is Plain and made.items() == [('a', 1), ('b', 1), ('c', 2)] and len(v) == 0
        assert type(vaults.Shelf.fromkeys('a')) is vaults.Shelf

    def test_a_section_is_not_made_so(self, v):
        for maker in (v.section('s'), vaults.Section):
            with pytest.raises(TypeError, match='dict.fromkeys'):
                maker.fromkeys('ab')


class TestMoving:
    """`move_to_end` and `popitem(last=False)`, as an OrderedDict has them."""

    @pytest.fixture(params=['vault', 'section', 'nested section', 'write-back', 'thread_safe', 'in memory', 'validating'])
    def kept(self, request, root):
        options = {'write-back': {'writeback': True, 'cache_size': 2}, 'thread_safe': {'thread_safe': True},
                   'validating': {'validate': lambda key, value: None}}.get(request.param, {})
        v = Vault(':memory:' if request.param == 'in memory' else 'moved', **options)
        v['around'] = 0
        if 'section' in request.param:
            yield v.section('s') if request.param == 'section' else v.section('s').section(('t', 1))
        else:
            del v['around']
            yield v
        v._check()
        v.close()

    def test_a_key_moves_to_either_end(self, kept):
        kept.update(a=1, b=2, c=3, d=4)
        kept.move_to_end('b')
        assert kept.items() == [('a', 1), ('c', 3), ('d', 4), ('b', 2)] and kept.keys()[::-1] == list(reversed(kept))
        kept.move_to_end('d', last=False)
        kept.move_to_end('b', False)
        assert kept.keys() == ['b', 'd', 'a', 'c'] and list(reversed(kept)) == ['c', 'a', 'd', 'b'] and len(kept) == 4
        assert list(kept['a':]) == ['a', 'b', 'c', 'd'] and kept['d'] == 4
        assert kept.popitem(last=False) == ('b', 2) and kept.popitem(True) == ('c', 3) and kept.popitem() == ('a', 1)
        kept['e'] = 5
        assert kept.popitem(last=False) == ('d', 4) and kept.popitem(last=False) == ('e', 5)
        with pytest.raises(vaults.EmptyVaultError, match='empty'):
            kept.popitem(last=False)
        for wrong in (42, 'a', None):
            with pytest.raises(TypeError, match='pop'):
                kept.popitem(wrong)

    def test_what_is_not_there_cannot_be_moved(self, kept):
        kept['a'] = 1
        for last in (True, False):
            with pytest.raises(KeyError) as caught:
                kept.move_to_end('x', last)
            assert caught.value.args == ('x',)
        assert kept.items() == [('a', 1)]

    def test_a_moved_entry_is_the_same_entry(self, kept):
        kept.update({1.0: 'one', 'list': [1]})
        before = dict(kept)
        kept.move_to_end(True)
        kept.move_to_end('list', last=False)
        assert kept.keys() == ['list', 1] and [*map(repr, kept)] == [repr(key) for key in reversed(before)]
        if kept._validate is None:
            kept.list('grown').extend(range(3))
            kept.move_to_end('grown', last=False)
            assert kept.keys()[0] == 'grown' and kept['grown'] == [0, 1, 2]
            del kept['grown']

    def test_a_move_is_undone_with_its_block(self, kept):
        kept.update(a=1, b=2, c=3)
        for last in (True, False):
            with pytest.raises(ZeroDivisionError), kept:
                kept.move_to_end('b', last)
                assert len(kept) == 3
                1 / 0
        assert kept.keys() == ['a', 'b', 'c']

    def test_a_walk_visits_no_key_twice(self, kept):
        for reverse in (False, True):
            for last in (False, True):
                kept.clear()
                kept.update((n, n) for n in range(100))
                seen = []
                for key in reversed(kept) if reverse else kept:
                    seen.append(key)
                    kept.move_to_end(key, last)
                    kept.move_to_end((key + 50) % 100, last)
                assert len(seen) == len(set(seen)) and len(kept) == 100

    def test_ids_of_the_front_are_never_given_twice(self, kept):
        kept.update((n, n) for n in range(100))
        kept.move_to_end(7, last=False)
        walk = reversed(kept.keys())
        assert next(walk) == 99
        assert kept.popitem(last=False) == (7, 7)
        kept.move_to_end(99, last=False)
        assert 99 not in list(walk)
        walk = reversed(kept.keys())
        assert next(walk) == 98
        kept.clear()
        kept['new'] = kept['newer'] = 1
        kept.move_to_end('newer', last=False)
        assert list(walk) == [] and kept.keys() == ['newer', 'new']

    def test_what_was_put_and_not_yet_written_moves_as_well(self, root):
        with contextlib.closing(Vault('w', writeback=True)) as w:
            w.update(a=[1], b=[2])
            w['c'] = c = [3]
            c.append(4)
            w['b'].append(5)
            w.move_to_end('c', last=False)
            w.move_to_end('a')
            c.append(6)
            assert w['c'] is c
        with contextlib.closing(Vault('w')) as v:
            assert v.items() == [('c', [3, 4, 6]), ('b', [2, 5]), ('a', [1])]

    def test_they_stay_so_in_a_file_a_copy_and_what_is_recovered(self, root):
        with contextlib.closing(Vault('v')) as v:
            v.update((n, n) for n in range(1000))
            for n in range(0, 1000, 7):
                v.move_to_end(n, last=n % 2 == 0)
            v.popitem(last=False)
            wanted = list(v)
            v.compact()
            v.backup(root / 'copy.db')
            assert v.check() == []
        assert recovery.recover(root / 'copy.db', root / 'recovered.db').whole
        for name in ('copy.db', 'recovered.db'):
            with contextlib.closing(Vault(root / name)) as v:
                assert list(v) == wanted and v.items()[0] == (wanted[0], wanted[0])
                v._check()

    def test_a_reader_cannot_move(self, root):
        Vault('v')['a'] = 1
        with contextlib.closing(Vault('v', flag='r')) as reader, pytest.raises(vaults.VaultReadOnlyError):
            reader.move_to_end('a')

    def test_what_is_moved_is_recent_for_other_processes_too(self, root):
        v, other = Vault('v'), Vault('v')
        v.update((n, n) for n in range(200))
        for walk, moved, last in ((iter(other), 0, True), (reversed(other), 0, False)):
            assert next(walk) == moved
            v.move_to_end(moved, last)
            assert moved not in list(walk)
        assert other.popitem(last=False) == (0, 0)
        v.close()
        other.close()


class TestViews:
    @pytest.fixture
    def v(self, v):
        v.update({f'k{n}': n for n in range(3000)})
        return v

    def test_they_are_lists(self, v):
        listed = [f'k{n}' for n in range(3000)]
        view = v.keys()
        assert view == listed and listed == view and view != listed[:-1] and len(view) == 3000
        assert (view[0], view[-1], view[2500], view[-2500]) == ('k0', 'k2999', 'k2500', 'k500')
        for cut in (slice(2), slice(-2, None), slice(None, None, -1), slice(5, 2990, 7), slice(90, 5, -8), slice(9, 3)):
            assert view[cut] == listed[cut] and v.values()[cut] == list(range(3000))[cut]
        assert list(reversed(view)) == listed[::-1] and next(reversed(v.items())) == ('k2999', 2999)
        assert view.index('k7') == 7 and v.values().count(7) == 1 and 7 in v.values() and 'x' not in v.values()
        with pytest.raises(IndexError, match='3000 entries'):
            view[3000]
        with pytest.raises(IndexError):
            view[-3001]
        with pytest.raises(ValueError):
            view.index('x')
        assert v.values() == list(range(3000)) and v.values() == v.values()

    @settings(max_examples=50)
    @given(st.integers(0, 90), st.none() | st.integers(-95, 95), st.none() | st.integers(-95, 95),
           st.none() | st.integers(-4, 4).filter(bool))
    def test_a_slice_of_them_is_that_of_the_list(self, count, start, stop, step):
        v = Vault(':memory:')
        v.update((f'{n:02}', n) for n in range(count))
        v.section('s').update((n, n) for n in range(count))
        cut = slice(start, stop, step)
        for place in (v['0':'a'], v[:], v.section('s'), v):
            for view in (place.keys(), place.values(), place.items()):
                assert view[cut] == list(view)[cut]
                for at in {start, stop} - {None}:
                    if -len(view) <= at < len(view):
                        assert view[at] == list(view)[at]
                    else:
                        with pytest.raises(IndexError):
                            view[at]

    @pytest.mark.parametrize('cut', [slice(-3, None), slice(-1, -4, -1), slice(None, -4, -1), slice(997, None), -1, 997,
                                     slice(996, 999), slice(-3, -1), slice(None, 3), slice(2, None, -1), slice(1, 3), 2,
                                     slice(999, 996, -1), slice(-3, 10 ** 30)])
    def test_what_lies_near_an_end_is_walked_to_from_there(self, v, cut, monkeypatch):
        v.clear()
        v.update((f'{n:03}', n) for n in range(1000))
        v.section('s').update((n, n) for n in range(1000))
        places = v['0':'a'], v.section('s'), v.section('s')[:]
        expected = [list(place.values())[cut] for place in places]
        read, verified = [], sqlite.SQLiteStore._verified
        monkeypatch.setattr(sqlite.SQLiteStore, '_verified', lambda self, rows, *arguments: read.append(len(rows)) or
                            verified(self, rows, *arguments))
        assert [place.values()[cut] for place in places] == expected
        assert sum(read) < 120

    def test_comparing_looks_at_the_lengths_first_and_holds_a_page(self, v):
        part = v['k1':'k2']
        there = dict(part)
        assert part == there and part == v['k1':'k2'] and there == part and part != {**there, 'x': 1} and part != []
        assert part != {**there, 'k1': 'other'} and v == dict(v.items()) and v != there and part != v and v['x':] == {}
        for wrong in ({}, {'k1': 1}, dict.fromkeys(range(4000))):
            seen = []
            v._store._local.c.raw.set_trace_callback(seen.append)
            assert part != wrong and v != wrong and v.keys() != list(wrong) and part.items() != wrong.items()
            v._store._local.c.raw.set_trace_callback(None)
            assert len(seen) == 4 and not any('value' in statement for statement in seen)

    def test_they_are_cut_short_in_repr(self, v):
        assert repr(v.keys()).startswith("['k0', 'k1',") and repr(v.keys()).endswith("'k19', ...]")
        assert repr(Vault(':memory:').keys()) == '[]' and len(repr(v['k':])) < 500

    def test_keys_and_items_are_sets(self, v):
        import collections.abc
        assert isinstance(v.keys(), collections.abc.KeysView) and isinstance(v.keys(), collections.abc.Set)
        assert isinstance(v.items(), collections.abc.ItemsView) and isinstance(v.values(), collections.abc.ValuesView)
        assert v.keys() & {'k1', 'x'} == {'k1'} and {'k1'} <= v.keys() and v.keys() - v.keys() == set()
        assert v.keys() & {frozenset()} == set() and (frozenset(), 1) not in v.items() and not v.keys() & {float('nan')}
        assert ('k1', 1) in v.items() and ('k1', 2) not in v.items() and v.items() & {('k1', 1)} == {('k1', 1)}
        assert v.keys() == {f'k{n}' for n in range(3000)} and v.keys().isdisjoint({'x'})
        assert v.keys() == dict.fromkeys(v).keys()

    def test_they_cost_nothing_until_used_and_items_is_one_query_per_page(self, v):
        seen = []
        v._store._local.c.raw.set_trace_callback(seen.append)
        views = v.keys(), v.values(), v.items(), v['a':'z'], v.prefix('k')
        assert seen == [] and len(views) == 5
        assert len(list(v.items())) == 3000
        assert len(seen) < 14


class TestWalks:
    """Iteration is safe while writing."""

    @pytest.mark.parametrize('walk', ['iter', 'reversed', 'sorted', 'sorted back', 'items'])
    @given(data=st.data())
    def test_a_walk_sees_what_was_there_and_is_there(self, walk, data):
        v = Vault(':memory:')
        v.update(dict.fromkeys(range(0, 400, 2), 0))
        there = list(v)
        walks = {'iter': lambda: iter(v), 'reversed': lambda: reversed(v), 'sorted': lambda: iter(v[:]),
                 'sorted back': lambda: reversed(v[:]), 'items': lambda: (key for key, _ in v.items())}
        steps = data.draw(st.lists(st.tuples(st.integers(0, 80), st.integers(0, 420), st.booleans()), max_size=8))
        iterator, seen, deleted = walks[walk](), [], set()
        seen += itertools.islice(iterator, 1)
        for count, key, put in steps:
            seen += itertools.islice(iterator, count)
            if put:
                v[key] = 1
            elif key in v:
                del v[key]
                deleted.add(key)
            elif v and put is False and count % 3 == 0:
                deleted.add(v.popitem()[0])
        seen += iterator
        assert len(seen) == len(set(seen)) and set(seen) <= set(there)
        assert set(there) - set(seen) <= deleted
        assert seen == sorted(seen, reverse='back' in walk or walk == 'reversed')

    def test_an_id_is_never_used_twice(self, v):
        v.update(dict.fromkeys(range(100)))
        walk = iter(v)
        next(walk)
        for n in range(100):
            assert v.popitem()[0] == 99 - n
        v.update(dict.fromkeys(range(1000, 1100)))
        assert [key for key in walk if key >= 1000] == []

    def test_what_is_deleted_ahead_is_left_out_at_once(self, v):
        v.update({n: n for n in range(20)})
        seen = []
        for key in v:
            seen.append(key)
            v.pop(key + 1, None)
            if key == 4:
                del v[6]
                v[6] = 'again'  # added since
        assert seen == [0, 2, 4, *range(7, 20, 2)]
        v.update({n: n for n in range(20)})
        for key, _ in v.items():
            assert key in v
            del v[key]
        assert not v
        with v:
            v.update({n: n for n in range(9)})
            walk = iter(v.items())
            next(walk)
            v.clear()
            assert list(walk) == []

    def test_a_walk_ends_while_each_step_adds(self, v):
        v.update(dict.fromkeys(range(500)))
        for key in v:
            v[key + 1000] = 1
        assert len(v) == 1000
        for key in v[:]:
            v[key + 0.5] = 1
        assert len(v) == 2000

    @pytest.mark.parametrize('count, size', [(6000, 1), (3000, 5_000), (60, 600_000)])
    def test_the_log_of_many_blocks_stays_bounded(self, v, count, size):
        for n in range(count):
            with v:
                v['k'] = bytes([n % 256]) * size
        assert os.path.getsize(v.db_path + '-wal') < 2 * sqlite.CHECKPOINT

    def test_an_abandoned_walk_does_not_pin_the_log(self, v):
        v.update(dict.fromkeys(range(5000), 'x' * 100))
        walks = [iter(v.items()) for _ in range(5)]
        for walk in walks:
            next(walk)
        for n in range(20000):
            v[n % 100] = 'y' * 1000
        assert os.path.getsize(v.db_path + '-wal') < 4 * sqlite.CHECKPOINT
        assert not v._store._local.c.raw.in_transaction

    def test_a_walk_begun_in_a_block_that_was_rolled_back_raises(self, v):
        v.update(dict.fromkeys(range(500)))
        with pytest.raises(ZeroDivisionError), v:
            v['new'] = 1
            inside = iter(v)
            next(inside)
            1 / 0
        with pytest.raises(vaults.VaultError, match='rolled back'):
            list(inside)
        before = iter(v)
        next(before)
        with pytest.raises(ZeroDivisionError), v:
            1 / 0
        assert len(list(before)) == 499

    WALKS = {'iter': iter, 'reversed': reversed, 'keys': lambda v: iter(v.keys()), 'values': lambda v: iter(v.values()),
             'items': lambda v: iter(v.items()), 'items back': lambda v: reversed(v.items()), 'slice': lambda v: iter(v[:]),
             'slice back': lambda v: reversed(v[:].items()), 'irange': lambda v: v.irange(), 'prefix': lambda v: iter(v.prefix('').values()),
             'section': lambda v: iter(v.section('s').items()), 'section back': lambda v: reversed(v.section('s')),
             'section slice': lambda v: iter(v.section('s')[:].values()), 'list': lambda v: iter(v.list('list')),
             'list back': lambda v: reversed(v.list('list')), 'column': lambda v: iter(v.column('column', 'int8')),
             'column back': lambda v: reversed(v.column('column', 'int8'))}

    @pytest.mark.parametrize('walk', WALKS)
    @pytest.mark.parametrize('options', [{}, {'thread_safe': True}, {'writeback': True}, {'validate': lambda key, value: None},
                                         {'memory': True}], ids=str)
    def test_a_walk_raises_at_its_next_step_after_close(self, root, options, walk):
        memory, options = options.get('memory'), {name: value for name, value in options.items() if name != 'memory'}
        if 'validate' in options and walk.startswith(('list', 'column')):
            pytest.skip('none where values are validated')
        for steps in (0, 1, 2, 4):  # at the beginning, in the midst of a page, and at the end of the last one
            v = Vault(':memory:' if memory else 't', **options)
            v.clear()
            if 'validate' not in options:
                v.list('list').extend([1, 2])
                v.column('column', 'int8').extend([1, 2])
            else:
                v.update(list=1, column=2)
            v.section('s').update(a=1, b=2)
            it = self.WALKS[walk](v)
            steps = min(steps, 2) if walk.startswith(('section', 'list', 'column')) or 'prefix' in walk else steps
            for _ in range(steps):
                next(it)
            v.close()
            with pytest.raises(vaults.VaultClosedError):
                next(it)

    @pytest.mark.parametrize('writeback', [False, True])
    @pytest.mark.parametrize('walk', [walk for walk in WALKS if 'section' not in walk and walk != 'prefix'])
    def test_closing_a_section_ends_its_walks_alone(self, root, writeback, walk):
        v = Vault('t', writeback=writeback)
        for steps in (0, 1, 2):
            s = v.section('s')
            s.clear()
            s.list('list').extend([1, 2])
            s.column('column', 'int8').extend([1, 2])
            mine, other = self.WALKS[walk](s), self.WALKS[walk](v.section('s'))
            for _ in range(steps):
                assert next(mine) is not None and next(other) is not None
            s.close()
            with pytest.raises(vaults.VaultClosedError):
                next(mine)
            assert len(list(other)) == 2 - steps

    def test_a_walk_of_many_pages_raises_at_its_next_step_after_close(self, v):
        v.update({n: n for n in range(5000)})
        walks = [iter(v), iter(v.items()), reversed(v), iter(v[:])]
        for steps, walk in enumerate(walks):
            collections.deque(itertools.islice(walk, 2000 + steps), 0)
        del v[4]  # the entries that follow are looked for one by one
        for walk in walks:
            next(walk)
        v.close()
        for walk in walks:
            with pytest.raises(vaults.VaultClosedError):
                next(walk)

    def test_large_values_are_read_a_few_at_a_time(self, v):
        v.update((n, b'x' * 3_000_000) for n in range(20))
        sizes = [len(page[0]) for page in v._store.scan()]
        assert sum(sizes) == 20


class Met:
    """Counts how many of its kind there are at once, of those that were loaded."""

    alive, most = 0, 0

    def __init__(self, n):
        self.n = n

    def __reduce__(self):
        return Met.loaded, (self.n,)

    @classmethod
    def loaded(cls, n):
        cls.alive += 1
        cls.most = max(cls.most, cls.alive)
        self = cls(n)
        weakref.finalize(self, cls.gone)
        return self

    @classmethod
    def gone(cls):
        cls.alive -= 1


def peak(work):
    """Return the most bytes that Python had allocated during the work, besides those before."""
    gc.collect()
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


MB = 1 << 20
KINDS = {'a vault': {}, 'write-back': {'writeback': True}, 'a queue': {'thread_safe': True},
         'validating': {'validate': lambda key, value: None}}
PLACES_OF_WALKS = {'vault': lambda v: v, 'slice': lambda v: v[:], 'section': lambda v: v.section('s')}


class TestOneItem:
    """One item is one item: what reads one reads no more, and a walk holds a page of 1 MB, or one entry."""

    @pytest.fixture
    def fetched(self, monkeypatch):
        """The bytes of each group of rows that came from SQLite."""
        seen, page = [], sqlite.SQLiteStore._page

        def noted(store, c, sql, arguments):
            rows = page(store, c, sql, arguments)
            seen.append(sum(len(column) for row in rows for column in row if isinstance(column, (bytes, str))))
            return rows
        monkeypatch.setattr(sqlite.SQLiteStore, '_page', noted)
        return seen

    def filled(self, root, kind, place, pairs):
        v = Vault('one', **KINDS[kind])
        at = v.section('s') if place == 'section' else v
        at.update(pairs)
        if kind == 'write-back':
            v.close()
            v = Vault('one', **KINDS[kind])
        return PLACES_OF_WALKS[place](v)

    ENDS = {
        'next': lambda at: next(iter(at.items())), 'last of items': lambda at: at.items()[-1],
        'value': lambda at: at.values()[0], 'last value': lambda at: at.values()[-1],
        'next of values': lambda at: next(iter(at.values())), 'back': lambda at: next(reversed(at.items())),
        'slice': lambda at: at.items()[:1], 'slice back': lambda at: at.values()[-1:],
        'first': lambda at: at.first() if hasattr(at, 'first') else at[:].first(),
        'last': lambda at: at.last() if hasattr(at, 'last') else at[:].last(),
        'popitem': lambda at: at.popitem() if hasattr(at, 'popitem') else at.last(),
        'popitem of the oldest': lambda at: at.popitem(last=False) if hasattr(at, 'popitem') else at.first(),
    }

    @pytest.mark.parametrize('kind', KINDS)
    @pytest.mark.parametrize('place', PLACES_OF_WALKS)
    @pytest.mark.parametrize('end', ENDS)
    def test_what_takes_one_entry_reads_one(self, root, fetched, kind, place, end):
        at = self.filled(root, kind, place, ((f'{n:03}', bytes(50_000)) for n in range(40)))
        del fetched[:]
        self.ENDS[end](at)
        assert 50_000 <= sum(fetched) < 60_000

    SIZES = {
        'one size': [30_000] * 90, 'alternating': [60, 3 * MB] * 5, 'ever larger': [2 ** n for n in range(23)],
        'large behind many small': [60] * 3000 + [2 * MB] * 3 + [60] * 100, 'of a page': [MB, 60, MB, MB - 1, MB + 1],
        'some in between': ([100] * 150 + [40_000]) * 6, 'smaller': [2 ** n for n in range(22, 0, -1)],
    }

    @pytest.mark.parametrize('sizes', SIZES)
    @pytest.mark.parametrize('by_key', [False, True])
    @pytest.mark.parametrize('reverse', [False, True])
    @pytest.mark.parametrize('keyed', [str, bytes])
    def test_a_page_is_of_one_megabyte_at_most_or_of_one_entry(self, fetched, keyed, sizes, by_key, reverse):
        v, sizes = Vault(':memory:'), self.SIZES[sizes]
        v.update((f'{n:05}' if keyed is str else b'%05d' % n, bytes(size)) for n, size in enumerate(sizes))
        del fetched[:]
        found = []
        for _, datas, _ in v._store.scan(by_key=by_key, reverse=reverse):
            assert len(datas) == 1 or sum(map(len, datas)) <= MB
            found += [len(v._codec.loads(data)) for data in datas]
        assert found == (sizes[::-1] if reverse else sizes)
        assert all(size <= MB or size >= 2 * MB - 1 or size - MB < 100 for size in fetched)
        assert sum(size for size in fetched if size > MB + 100) <= sum(size + 10 for size in sizes if size >= MB)
        assert len(fetched) < 3 * len(sizes) + 20

    @pytest.mark.parametrize('sizes', SIZES)
    @pytest.mark.parametrize('reverse', [False, True])
    def test_so_is_one_of_a_section(self, fetched, sizes, reverse):
        v, sizes = Vault(':memory:'), self.SIZES[sizes]
        for n, size in enumerate(sizes):
            v.section('s')[n] = bytes(size)
            v[n] = n
        del fetched[:]
        low, high = v.section('s')._keys.bounds()
        found = []
        for _, datas, _ in v._store.scan(low, high, reverse=reverse):
            assert len(datas) == 1 or sum(map(len, datas)) <= MB
            found += [len(v._codec.loads(data)) for data in datas]
        assert found == (sizes[::-1] if reverse else sizes)
        assert sum(fetched) < sum(sizes) + 100 * len(sizes)

    @pytest.mark.parametrize('by_key', [False, True])
    @pytest.mark.parametrize('values', [False, True])
    def test_large_keys_count_as_values_do(self, fetched, by_key, values):
        v = Vault(':memory:')
        lengths = [10, 3 * MB, 5] * 3 + [10] * 2000 + [2 * MB, 2 * MB]
        v.update((f'{n:05}'.ljust(length, '-'), n) for n, length in enumerate(lengths))
        del fetched[:]
        found = [key for page, _, _ in v._store.scan(by_key=by_key, values=values) for key in page]
        assert [len(key) for key in found] == [max(length, 5) for length in lengths]
        assert all(size <= MB or size >= 2 * MB for size in fetched)
        assert list(v) == list(v[:]) == found

    @pytest.mark.parametrize('kind', KINDS)
    @pytest.mark.parametrize('place', PLACES_OF_WALKS)
    def test_a_walk_takes_as_much_memory_as_a_loop_over_the_keys(self, root, kind, place):
        at = self.filled(root, kind, place, ((f'{n:03}', bytes(3 * MB)) for n in range(8)))
        names = list(at)

        def by_name():
            for name in names:
                value = at[name]
            return value

        def walked():
            for _ in at.items():
                pass

        def of_values():
            for _ in reversed(at.values()):
                pass
        most = peak(by_name)
        assert peak(walked) < most + MB and peak(of_values) < most + MB
        assert kind == 'write-back' or most < 10 * MB

    def test_a_copy_holds_everything_once(self, v):
        v.update((n, bytes(2 * MB)) for n in range(10))
        assert peak(v.copy) < 25 * MB and peak(lambda: v == v.copy()) < 50 * MB
        assert peak(lambda: v[:] == v) < 15 * MB
        assert peak(lambda: 5 in v.values()) < 10 * MB

    def test_so_do_check_export_and_reading_a_vault_as_a_source(self, root, v, tmp_path):
        v.update((n, bytes(2 * MB)) for n in range(10))
        assert peak(lambda: v.check()) < 10 * MB

        class Nowhere(io.StringIO):
            def write(self, text):
                return len(text)
        one = peak(lambda: vaults.moving.export(v, Nowhere()))
        v.update((n, bytes(2 * MB)) for n in range(10, 30))
        assert peak(lambda: vaults.moving.export(v, Nowhere())) < one + MB
        assert peak(lambda: v.check()) < 10 * MB
        v.close()
        source = vaults.moving.read(v.db_path)
        assert peak(lambda: collections.deque(source, 0)) < 12 * MB

    def test_recover_puts_few_large_values_at_once(self, root, v):
        v.update((n, bytes(500 * 4092 + 489)) for n in range(16))  # of each a row holds little, and a page many
        v.close()
        assert peak(lambda: recovery.recover('test', root / 'good.db')) < 10 * MB
        assert Vault(root / 'good.db').values() == [bytes(500 * 4092 + 489)] * 16

    def test_a_few_small_entries_are_seen_as_they_were_at_one_moment(self, v):
        v.update(dict.fromkeys(range(32), 'old'))
        for walk in (v.items(), v[:].items()):
            seen = iter(walk)
            next(seen)
            Vault('test').update(dict.fromkeys(range(32), 'new'))
            assert {value for _, value in seen} == {'old'}
            v.update(dict.fromkeys(range(32), 'old'))

    def test_of_a_page_of_small_entries_one_is_loaded_for_who_wants_one(self, v, monkeypatch):
        v.update({f'{n}': [n] for n in range(100)})
        loaded, unpack = [], values.Codec.loads
        monkeypatch.setattr(values.Codec, 'loads', lambda *arguments: loaded.append(1) or unpack(*arguments))
        monkeypatch.setattr(values.Codec, 'loads_many', None)
        assert next(iter(v.items())) == ('0', [0]) and v.values()[-1] == [99] and v[:].first() == ('0', [0])
        assert len(loaded) == 3

    def test_pickles_are_loaded_one_at_a_time(self, root):
        v = Vault('p', allow_pickle=True)
        s = v.section('s')
        v.update({f'{n}': Met(n) for n in range(200)})
        v.update({f't{n}': (1, [Met(n)]) for n in range(20)})
        s.update({f'{n}': Met(n) for n in range(200)})
        for walk in (v.items, v.values, v[:].items, s.values, lambda: reversed(v.items())):
            Met.alive = Met.most = 0
            assert len([None for _ in walk()]) in (420, 200)
            assert Met.most <= 2
        assert [met.n for met in s.values()[:3]] == [0, 1, 2]
        assert Met.most <= 4

    def test_what_a_serializer_or_a_registered_type_makes_is_loaded_one_at_a_time(self, root):
        v = Vault('s', serializer=pickle)
        v.update({f'{n}': Met(n) for n in range(100)})
        Met.alive = Met.most = 0
        assert sum(met.n for met in v.values()) == sum(range(100))
        assert Met.most <= 2

    def test_the_command_shows_a_few_of_many_large_values(self, root, fetched, capsys):
        v = Vault('large')
        v.update((f'{n:03}', bytes(500_000)) for n in range(30))
        del fetched[:]
        cli.main(['--root', str(root), 'show', 'large', '--limit', '2'])
        assert sum(fetched) < 1_100_000 and '... and 28 more' in capsys.readouterr().out


class TestSlices:
    @pytest.fixture
    def v(self, v):
        v.update({'b': 2, 'a': 1, 'd': 4, 'c': 3, 'user:1': 'x', 'user:2': 'y', 5: 'five', ('log', 2026, 1): 'l1',
                  ('log', 2026, 11): 'l2', ('log', 2025): 'l0', ('log',): 'l', b'ab': 1, b'a\xff': 2, b'b': 3})
        return v

    def test_a_slice_is_a_sorted_half_open_lazy_live_mapping(self, v):
        s = v['a':'d']
        assert s.items() == [('a', 1), ('b', 2), ('c', 3)] and s.keys() == ['a', 'b', 'c'] and s.values() == [1, 2, 3]
        assert len(s) == 3 and 'a' in s and 'd' not in s and 'x' not in s and list(reversed(s)) == ['c', 'b', 'a']
        assert s['a'] == 1 and s.get('d', 9) == 9 and s.first() == ('a', 1) and s.last() == ('c', 3)
        v['bb'] = 22
        assert s.keys() == ['a', 'b', 'bb', 'c'] and s == {'a': 1, 'b': 2, 'bb': 22, 'c': 3} and bool(s)
        with pytest.raises(KeyError):
            s['d']
        assert not v['x':'y'] and v['x':'y'].first(None) is None and len(v['d':'a']) == 0
        with pytest.raises(KeyError, match='no keys'):
            v['x':'y'].last()
        assert v['a':]['b':'c'].keys() == ['b', 'bb'] and v['b':'c']['a':].keys() == ['b', 'bb']
        with pytest.raises(TypeError, match='step'):
            v['a':'b':2]

    def test_deleting_a_slice_is_one_statement(self, v):
        count = len(v)
        del v['a':'c']
        assert 'a' not in v and 'c' in v and len(v) == count - 2
        del v[:]['c']
        with pytest.raises(KeyError):
            del v['x':'z']['d']
        v['d':'e'].clear()
        assert 'd' not in v and 'user:1' in v
        del v[:]
        assert len(v) == 0

    def test_the_whole_vault_sorted(self, v):
        assert v[:].keys()[:3] == [5, 'a', 'b'] and len(v[:]) == len(v)

    def test_prefixes_of_text_bytes_and_tuples(self, v):
        assert v.prefix('user:').keys() == ['user:1', 'user:2'] and len(v.prefix('')) == 6
        assert v.prefix(('log', 2026)).keys() == [('log', 2026, 1), ('log', 2026, 11)]
        assert v.prefix(('log',)).values() == ['l', 'l0', 'l1', 'l2'] and len(v.prefix(())) == 4
        assert v.prefix(b'a').keys() == [b'ab', b'a\xff'] and len(v.prefix(b'')) == 3
        assert v.prefix(b'a\xff').keys() == [b'a\xff'] and v.prefix(b'\xff').keys() == []
        for wrong in (5, None, dt.date(2026, 1, 1), '\ud800'):
            with pytest.raises(TypeError, match='prefix is'):
                v.prefix(wrong)

    @given(st.lists(texts), texts)
    def test_a_text_prefix_is_startswith(self, wanted, prefix):
        v = Vault(':memory:')
        v.update(dict.fromkeys(wanted))
        assert set(v.prefix(prefix)) == {key for key in wanted if key.startswith(prefix)}

    @given(st.lists(st.binary(max_size=3) | st.binary(max_size=2).map(lambda b: b + b'\0\xff')), st.binary(max_size=2))
    def test_a_bytes_prefix_is_startswith(self, wanted, prefix):
        v = Vault(':memory:')
        v.update(dict.fromkeys(wanted))
        assert set(v.prefix(prefix)) == {key for key in wanted if key.startswith(prefix)}

    @given(st.sets(st.integers(0, 30)), st.none() | st.integers(0, 30), st.none() | st.integers(0, 30),
           st.booleans(), st.booleans(), st.booleans())
    def test_irange_means_what_it_means_in_sortedcontainers(self, wanted, low, high, with_low, with_high, reverse):
        v = Vault(':memory:')
        v.update(dict.fromkeys(wanted))
        expected = [n for n in sorted(wanted)
                    if (low is None or (low <= n if with_low else low < n))
                    and (high is None or (n <= high if with_high else n < high))]
        assert list(v.irange(low, high, (with_low, with_high), reverse)) == (expected[::-1] if reverse else expected)


class TestTransactions:
    def test_a_block_is_all_or_nothing_and_the_vault_stays_open(self, v):
        other = Vault('test')
        with v:
            v['a'] = 1
            assert 'a' not in other
        assert other['a'] == 1
        for problem in (ValueError, KeyboardInterrupt, SystemExit, GeneratorExit):
            with pytest.raises(problem), v.transaction():
                v['a'] = 2
                v.clear()
                raise problem
            assert v['a'] == 1
        v['b'] = 2
        assert other.items() == [('a', 1), ('b', 2)]

    def test_nested_blocks_are_savepoints(self, v):
        with v:
            v['a'] = 1
            with pytest.raises(ZeroDivisionError), v:
                v['a'] = 2
                with v:
                    v['b'] = 3
                1 / 0
            with v:
                v['c'] = 4
            assert v.items() == [('a', 1), ('c', 4)]
        assert Vault('test').items() == [('a', 1), ('c', 4)]

    def test_nesting_has_an_end(self, v):
        with pytest.raises(vaults.VaultError, match='nested'), contextlib_stack(v, 150):
            pass
        v['k'] = 1
        assert Vault('test').items() == [('k', 1)]

    @pytest.mark.parametrize('safe', [False, True])
    @pytest.mark.parametrize('act', ['update', 'block', 'nested', 'undone', 'edit', 'delete', 'pop'])
    def test_an_interrupt_at_any_line_leaves_no_transaction_open(self, root, act, safe):
        # Nothing written in Python can help when __exit__, commit or rollback is interrupted before its first line.
        v, other = Vault('i', thread_safe=safe), Vault('i', timeout=0.5)
        acts = {'update': lambda: v.update({'a': 1, 'b': 1}), 'delete': lambda: v.__delitem__('x'),
                'pop': lambda: v.pop('x'), 'block': lambda: block(v), 'nested': lambda: nested(v),
                'undone': lambda: undone(v), 'edit': lambda: edit(v)}

        def undone(v):
            with contextlib.suppress(ZeroDivisionError), v:
                v['a'] = 1
                with contextlib.suppress(ZeroDivisionError), v:
                    1 / 0
                1 / 0

        def edit(v):
            with v.edit('x'):
                pass

        def block(v):
            with v:
                v['a'] = 1
                v['b'] = 1

        def nested(v):
            with v:
                v['a'] = 1
                block(v)
        package = os.path.dirname(vaults.__file__)

        where = []

        def entering(frame):
            return frame.f_code.co_name in ('commit', 'rollback') and frame.f_lineno <= frame.f_code.co_firstlineno + 2

        def interrupted(at):
            """Run the act, with KeyboardInterrupt raised before the line `at`; tell whether there was one."""
            left = [at]

            def trace(frame, event, argument):
                if not frame.f_code.co_filename.startswith(package):
                    return None
                if event == 'line' and not (frame.f_code.co_name in ('__enter__', '__exit__') or entering(frame)):
                    left[0] -= 1
                    if left[0] == 0:
                        sys.settrace(None)
                        where[:] = [frame.f_code.co_name, frame.f_lineno]
                        raise KeyboardInterrupt
                return trace
            before = sys.gettrace()
            try:
                sys.settrace(trace)
                acts[act]()
            except KeyboardInterrupt:
                return True
            finally:
                sys.settrace(before)
            return False
        gc.collect()  # or an interrupt could land in the closing of an older vault, where Python swallows it
        for at in itertools.count(1):
            v.clear()
            v['x'] = 0
            gc.disable()
            again = interrupted(at)
            gc.enable()
            c = v._store._local.c
            assert not c.depth and not c.raw.in_transaction and not c.lost, (at, where)
            assert not safe or in_thread(lambda: is_free(v._store.lock)), (at, where)
            assert dict(other.items()) in ({'x': 0}, {'x': 0, 'a': 1, 'b': 1}, {}), at
            if not again:
                break
            v['after'] = at
            assert other.pop('after') == at
        assert at > 12

    def test_what_sqlite_rolled_back_by_itself_is_not_continued(self, v):
        v['a'] = 1
        with pytest.raises(vaults.VaultFullError) as caught, v:
            v['b'] = 2
            limit = v._store._local.c.raw.execute('PRAGMA page_count').fetchone()[0] + 2
            v._store._local.c.raw.execute(f'PRAGMA max_page_count = {limit}')
            with pytest.raises(vaults.VaultFullError, match='full'):
                v['big'] = b'x' * 10_000_000
            with pytest.raises(vaults.VaultFullError, match='leave the block'):
                v['c'] = 3
        assert 'test.db' in str(caught.value)
        assert v.items() == [('a', 1)] and Vault('test').items() == [('a', 1)]
        v['d'] = 4
        assert Vault('test')['d'] == 4

    def test_threads_have_blocks_of_their_own(self, root):
        for safe in (False, True):
            v = Vault('t', thread_safe=safe, timeout=30)
            v['n'] = 0

            def work(v=v):
                for _ in range(50):
                    with v:
                        v['n'] = v['n'] + 1
            crowd(work, 8)
            assert v['n'] == 400
            v._check()

    @pytest.mark.parametrize('failing', [lambda v: v.popitem(), lambda v: v.update([(1, 1), (2, lambda: 0)])],
                             ids=['popitem', 'update'])
    def test_closing_inside_a_block_lets_the_next_writer_in_also_when_a_call_has_failed(self, v, failing):
        other = Vault('test', timeout=0.0)
        gc.disable()
        try:
            v.__enter__()
            with contextlib.suppress(KeyError, TypeError):
                failing(v)
            v.close()
            other['k'] = 1
        finally:
            gc.enable()

    @pytest.mark.parametrize('options', [{}, {'thread_safe': True}, {'writeback': True}, {'validate': lambda key, value: None}], ids=str)
    def test_a_vault_tells_whether_it_is_closed(self, root, options):
        v = Vault('t', **options)
        section = v.section('s')
        inner, alone = section.section('inner'), v.section('alone')
        assert (v.closed, section.closed, inner.closed) == (False, False, False)
        alone.close()
        assert alone.closed and not v.closed
        for one in (v, section):
            with pytest.raises(AttributeError):
                one.closed = True
        v.close()
        assert v.closed and section.closed and inner.closed
        with vaults.open(root / 'shelf') as shelf:
            assert shelf.closed is False
        assert shelf.closed is True and Vault(':memory:').closed is False

    def test_closing_inside_a_block_rolls_it_back(self, v):
        with pytest.raises(vaults.VaultClosedError), v:
            v['k'] = 1
            v.close()
        assert 'k' not in Vault('test')

    def test_upkeep_is_refused_inside_a_block(self, v, root):
        for act in (v.compact, v.sync, lambda: v.backup(root / 'b.db')):
            with pytest.raises(vaults.VaultError, match='inside a transaction'), v:
                act()

    def test_nothing_half_written_is_seen_by_another_process(self, root):
        v = Vault('t')
        v.update(a=0, b=0)
        code = '''
            import sys, vaults
            vaults.set_root_path(sys.argv[1])
            v = vaults.Vault('t')
            for n in range(1, 1500):
                with v:
                    v['a'] = n
                    v['b'] = n'''
        env = {**os.environ, 'PYTHONPATH': str(HERE)}
        writer = subprocess.Popen([sys.executable, '-c', textwrap.dedent(code), str(root)], env=env)
        seen = 0
        while writer.poll() is None:
            (_, a), (_, b) = v.items()
            assert a == b
            seen += 1
        assert writer.returncode == 0 and seen > 5 and v['b'] == 1499


class contextlib_stack:
    """Enter a vault `depth` times."""

    def __init__(self, v, depth):
        import contextlib
        self.stack, self.v, self.depth = contextlib.ExitStack(), v, depth

    def __enter__(self):
        try:
            for _ in range(self.depth):
                self.stack.enter_context(self.v)
        except BaseException:
            self.stack.__exit__(*sys.exc_info())
            raise

    def __exit__(self, *error):
        return self.stack.__exit__(*error)


def crowd(work, count, *argument_lists):
    """Run `work` in `count` threads at once; raise what any of them raised."""
    problems = []
    barrier = threading.Barrier(count)

    def guarded(*arguments):
        barrier.wait()
        try:
            work(*arguments)
        except BaseException as error:
            problems.append(error)
    lists = argument_lists or [()] * count
    threads = [threading.Thread(target=guarded, args=arguments) for arguments in lists]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if problems:
        raise problems[0]


@contextlib.contextmanager
def block_elsewhere(v, key):
    """Have another thread in a block that has set `key`; it ends when the event that this gives is set, or with this."""
    inside, leave = threading.Event(), threading.Event()

    def block():
        with v:
            v[key] = 1
            inside.set()
            leave.wait(10)
    thread = threading.Thread(target=block)
    thread.start()
    inside.wait(10)
    try:
        yield leave
    finally:
        leave.set()
        thread.join()


class TestTwoVaultsOfOneFile:
    """In one thread they cannot wait for each other."""

    HOLD = {'plain': {}, 'thread_safe': {'thread_safe': True}, 'writeback': {'writeback': True}}

    @pytest.mark.parametrize('act', [lambda v: v.put('k', 2), lambda v: v.update(k=2), lambda v: v.pop('k'), lambda v: v.clear(),
                                     lambda v: v.transaction().__enter__(), lambda v: v.edit('k').__enter__(),
                                     lambda v: v.list('list'), lambda v: v.section('s').put('k', 1), lambda v: v.compact(),
                                     lambda v: v.put_file('k', io.BytesIO(b'x'))],
                             ids=['put', 'update', 'pop', 'clear', 'block', 'edit', 'list', 'section', 'compact', 'put_file'])
    @pytest.mark.parametrize('other', HOLD)
    @pytest.mark.parametrize('holder', HOLD)
    def test_the_second_says_at_once_that_this_thread_holds_the_first(self, root, monkeypatch, holder, other, act):
        first, second = Vault('t', **self.HOLD[holder]), Vault('t', **self.HOLD[other])
        first['k'] = 1
        first.sync()
        monkeypatch.setattr(sqlite, 'sleep', lambda seconds: pytest.fail('it waited'))
        with first:
            first['mine'] = 1
            with pytest.raises(vaults.VaultBusyError, match='this thread.*another Vault of the same file') as caught:
                act(second)
                second.sync()
            assert 'another thread' not in str(caught.value)
            assert second.get('k') == 1 or other == 'writeback'
        assert first.items() == [('k', 1), ('mine', 1)]
        getattr(second._store, 'forget', int)()
        second['k'] = 3
        second.sync()
        assert Vault('t')['k'] == 3

    def test_a_block_of_another_task_of_the_thread_is_the_same_dead_end(self, root, monkeypatch):
        first, second = Vault('t'), Vault('t')
        monkeypatch.setattr(sqlite, 'sleep', lambda seconds: pytest.fail('it waited'))

        async def hold():
            with first:
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                first['k'] = 1

        async def main():
            holding = asyncio.ensure_future(hold())
            await asyncio.sleep(0)
            with pytest.raises(vaults.VaultBusyError, match="this thread.*'Task-.*'"):
                second['k'] = 2
            await holding
        asyncio.run(main())
        assert second['k'] == 1

    def test_another_threads_block_is_waited_for_as_ever(self, root):
        first, second = Vault('t', timeout=0.05), Vault('t', timeout=0.05)
        with block_elsewhere(first, 'k'), pytest.raises(vaults.VaultBusyError, match='another thread or process'):
            second['k'] = 2
        second['k'] = 3
        with Vault('t', flag='r'):
            second['k'] = 4
        assert first['k'] == 4


class TestThreads:
    @pytest.mark.parametrize('options', [{}, {'thread_safe': True}, {'memory': True}], ids=str)
    def test_sixteen_threads_never_read_a_wrong_value(self, root, options):
        v = Vault(':memory:') if options.pop('memory', False) else Vault('t', timeout=60, **options)
        v.update({n: [n, 'start'] for n in range(200)})

        def work(me):
            for turn in range(500):
                key = (me * 37 + turn * 11) % 200
                if turn % 4 == 0:
                    v[key] = [key, me]
                else:
                    found = v[key]
                    assert found[0] == key, (found, key)
        crowd(work, 16, *[(n,) for n in range(16)])
        assert len(v) == 200
        v._check()

    def test_in_memory_a_failed_update_is_undone_while_another_thread_is_in_a_block(self):
        v = Vault(':memory:')
        with block_elsewhere(v, 'block') as leave:
            threading.Timer(0.2, leave.set).start()
            with pytest.raises(ValueError):
                v.update([('a', 1), 'bad pair'])
        assert v.items() == [('block', 1)] and not v._store._local.c.raw.in_transaction

    def test_with_thread_safe_no_writer_times_out(self, root):
        v = Vault('t', thread_safe=True, timeout=0.05)

        def work(me):
            for turn in range(10):
                with v:
                    v[me, turn] = 1
                    time.sleep(0.005)
        crowd(work, 8, *[(n,) for n in range(8)])
        assert len(v) == 80

    def test_connections_of_dead_threads_are_closed(self, root):
        v = Vault('t')
        v['k'] = 1
        counts = []
        for _ in range(30):
            met = threading.Barrier(4)  # all four have a connection at once, on a busy machine too
            crowd(lambda met=met: (v['k'], met.wait()), 4)
            gc.collect()
            counts.append(open_files())
        assert max(counts[10:]) <= max(counts[:10]) + 4  # SQLite keeps a few to use again: as many as threads at once

    def test_closing_while_others_read_is_safe(self, root):
        for _ in range(10):
            v = Vault('t')
            v.update(dict.fromkeys(range(300), 'x'))
            stop = threading.Event()

            def work(v=v, stop=stop):
                try:
                    while not stop.is_set():
                        list(v.items())
                        v[1] = 'x'
                except vaults.VaultClosedError:
                    return
            threads = [threading.Thread(target=work) for _ in range(3)]
            for thread in threads:
                thread.start()
            time.sleep(0.01)
            v.close()
            stop.set()
            for thread in threads:
                thread.join()
        gc.collect()
        assert os.listdir(root / 'vaults') == ['t.db']

    def test_closing_while_others_get_is_safe(self, root):
        code = '''
            import sys, threading, vaults
            vaults.set_root_path(sys.argv[1])
            def work(v):
                try:
                    while True:
                        v['k'], 'k' in v, len(v)
                except vaults.VaultClosedError:
                    pass
            for turn in range(150):
                v = vaults.Vault(':memory:' if turn % 3 == 0 else 't')
                v['k'] = 'x'
                threads = [threading.Thread(target=work, args=(v,)) for _ in range(4)]
                for thread in threads:
                    thread.start()
                v.close()
                for thread in threads:
                    thread.join()'''
        output(code, root)

    def test_closing_while_a_block_is_open_lets_the_others_in(self, root):
        v = Vault('t', thread_safe=True)
        inside, closed, found = threading.Event(), threading.Event(), []

        def block():
            with pytest.raises(vaults.VaultClosedError), v:
                inside.set()
                closed.wait(10)
            found.append('block')

        def writer():
            with pytest.raises(vaults.VaultClosedError):
                v['k'] = 1
            found.append('writer')
        threads = [threading.Thread(target=block, daemon=True), threading.Thread(target=writer, daemon=True)]
        threads[0].start()
        inside.wait(10)
        threads[1].start()
        time.sleep(0.05)
        v.close()
        closed.set()
        for thread in threads:
            thread.join(10)
        assert sorted(found) == ['block', 'writer']


def open_files():
    return len(os.listdir('/proc/self/fd')) if LINUX else 0


TASK_KINDS = {
    'plain': lambda: Vault('t'), 'thread_safe': lambda: Vault('t', thread_safe=True), 'memory': lambda: Vault(':memory:'),
    'writeback': lambda: Vault('t', writeback=True), 'writeback in memory': lambda: Vault(':memory:', writeback=True),
    'section': lambda: Vault('t').section('s'), 'section in memory': lambda: Vault(':memory:').section('s'),
    'writeback section': lambda: Vault('t', writeback=True).section('s'),
    'shelf': lambda: vaults.open('t'),
    'validating': lambda: Vault('t', validate=lambda key, value: None),
    'validating writeback': lambda: Vault('t', writeback=True, validate=lambda key, value: None)}
OF_THE_WHOLE = ('check', 'compact', 'sync', 'backup', 'delete_vault')  # what a section leaves to its vault
TASK_USES = {
    'get': lambda v: v['k'], 'get()': lambda v: v.get('k'), 'in': lambda v: 'k' in v, 'len': len, 'bool': bool,
    'iter': list, 'reversed': lambda v: list(reversed(v)), 'keys': lambda v: v.keys()[0], 'values': lambda v: list(v.values()),
    'items': lambda v: list(v.items()), '==': lambda v: v == {'k': 1, 'l': 2, 'mine': 3}, 'copy': lambda v: v.copy(),
    'slice': lambda v: list(v['a':'z']), 'slice items': lambda v: v['a':'z'].items()[0], 'slice len': lambda v: len(v['a':'z']),
    'slice get': lambda v: v['a':'z']['k'], 'first': lambda v: v.prefix('').first(), 'last': lambda v: v.prefix('').last(),
    'irange': lambda v: list(v.irange('a', 'z')), 'sections': lambda v: v.sections(),
    'get_many': lambda v: v.get_many(['k']), 'has_keys': lambda v: v.has_keys(['k']),
    'put': lambda v: v.__setitem__('k', 5), 'put()': lambda v: v.put('k', 5), 'new key': lambda v: v.__setitem__('new', 5),
    'del': lambda v: v.__delitem__('k'), 'del slice': lambda v: v.__delitem__(slice('a', 'z')), 'pop': lambda v: v.pop('k'),
    'popitem': lambda v: v.popitem(), 'setdefault': lambda v: v.setdefault('k', 5), 'setdefault new': lambda v: v.setdefault('new', 5),
    'update': lambda v: v.update(k=5), '|=': lambda v: v.__ior__({'k': 5}), 'put_many': lambda v: v.put_many([('k', 5)]),
    'update of nothing': lambda v: v.update({}), 'pop_many': lambda v: v.pop_many(['k']), 'clear': lambda v: v.clear(),
    'move_to_end': lambda v: v.move_to_end('k'), 'move_to_front': lambda v: v.move_to_end('k', last=False),
    'oldest': lambda v: v.popitem(last=False), 'repr of items': lambda v: repr(v.items()), 'last key': lambda v: v.keys()[-1],
    'block': lambda v: v.transaction().__enter__(), 'with': lambda v: Vault.__enter__(v), 'edit': lambda v: v.edit('k').__enter__(),
    'list': lambda v: v.list('list'), 'column': lambda v: v.column('column', 'int8'),
    'open': lambda v: v.open('stream'), 'open to write': lambda v: v.open('stream', 'w'),
    'put_file': lambda v: v.put_file('k', io.BytesIO(b'x')), 'get_file': lambda v: v.get_file('stream', io.BytesIO()),
    'section put': lambda v: v.section('in').__setitem__('k', 5), 'section len': lambda v: len(v.section('in')),
    'section walk': lambda v: list(v.section('in').items()), 'export': lambda v: moving.export(v, io.StringIO()),
    'check': lambda v: v.check(), 'compact': lambda v: v.compact(), 'sync': lambda v: v.sync(),
    'backup': lambda v: v.backup('copy.db'), 'close': lambda v: v.close(), 'delete_vault': lambda v: v.delete_vault()}
TASK_USES_OF_THINGS = {  # a list, a column and a stream that is being written
    'len': lambda things: len(things[0]), 'item': lambda things: things[0][0], 'walk': lambda things: list(things[0]),
    'append': lambda things: things[0].append(3), 'set': lambda things: things[0].__setitem__(0, 5),
    'column slice': lambda things: things[1][:], 'column extend': lambda things: things[1].extend([3]),
    'column walk': lambda things: list(things[1]), 'column pop': lambda things: things[1].pop(),
    'close a stream': lambda things: things[2].close()}


class TestTasks:
    """A block belongs to the task that began it, where an event loop runs."""

    @pytest.fixture(params=TASK_KINDS)
    def t(self, request, root, monkeypatch):
        monkeypatch.chdir(root)
        vault = TASK_KINDS[request.param]()
        yield vault
        vault.close()
        gc.collect()

    @staticmethod
    async def held(v, use, block=None):
        """Call `use` while another task is in a block of `v`, which then goes on."""
        entered, leave = asyncio.Event(), asyncio.Event()

        async def owner():
            with block or v.transaction():
                v['mine'] = 1
                entered.set()
                await leave.wait()
                v['mine'] = v['mine'] + 1
        task = asyncio.ensure_future(owner())
        await entered.wait()
        try:
            use()
        finally:
            leave.set()
            await task

    def test_ten_tasks_that_await_in_a_block_are_told_so_and_lose_nothing(self, t):
        t['n'] = 0
        told = []

        async def add():
            try:
                with t.transaction():
                    n = t['n']
                    await asyncio.sleep(0)
                    t['n'] = n + 1
            except vaults.VaultTaskError as error:
                told.append(str(error))

        async def main():
            await asyncio.gather(*(add() for _ in range(10)))
        asyncio.run(main())
        assert t['n'] == 10 - len(told) == 1
        assert all('await' in text and 'asyncio.to_thread' in text and 'Task-' in text for text in told)
        assert isinstance(vaults.VaultTaskError('x'), RuntimeError)

    def test_what_another_task_has_put_is_never_undone(self, t):
        async def fail():
            with t.transaction():
                t['a'] = 1
                await asyncio.sleep(0)
                raise ZeroDivisionError

        async def put(key):
            try:
                t[key] = 1
            except vaults.VaultTaskError:
                return None
            return key

        async def main():
            first = await put('before')
            failing = asyncio.ensure_future(fail())
            await asyncio.sleep(0)
            acknowledged = [first, await put('between')]
            with pytest.raises(ZeroDivisionError):
                await failing
            return [*acknowledged, await put('after')]
        assert asyncio.run(main()) == ['before', None, 'after'] and t.keys() == ['before', 'after']

    @pytest.mark.parametrize('use', [*TASK_USES, *(f'a list or so: {use}' for use in TASK_USES_OF_THINGS)])
    @pytest.mark.parametrize('kind', ['plain', 'thread_safe', 'memory', 'writeback', 'section'])
    def test_every_use_by_another_task_raises_and_disturbs_nothing(self, root, monkeypatch, kind, use):
        monkeypatch.chdir(root)
        v = TASK_KINDS[kind]()
        if kind == 'section' and use in OF_THE_WHOLE:
            v = v._parent
        made = {'k': 1, 'l': 2}
        v.update(made)
        things = v.list('list'), v.column('column', 'int8'), v.open('written', 'w')
        things[0].extend([1, 2])
        things[1].extend([1, 2])
        v.open('stream', 'wb').close()
        things[2].write('text')
        v.section('in')['k'] = 1
        before = v.copy()

        def refused():
            with pytest.raises(vaults.VaultTaskError, match='Task-.*await'):
                TASK_USES[use](v) if use in TASK_USES else TASK_USES_OF_THINGS[use[len('a list or so: '):]](things)
        asyncio.run(self.held(v, refused))
        assert v.copy() == {**before, 'mine': 2}
        v._check() if kind != 'section' else None
        things[2].close()
        v['after'] = 1
        assert v.pop('after') == 1

    @pytest.mark.parametrize('begin', ['with', 'transaction', 'edit'])
    def test_each_block_is_its_tasks(self, t, begin):
        t['k'] = {}
        if begin == 'with' and isinstance(t, vaults.Shelf):
            pytest.skip('it closes')
        block = {'with': lambda: t, 'transaction': t.transaction, 'edit': lambda: t.edit('k')}[begin]()

        def refused():
            for act in (lambda: t['k'], lambda: t.put('k', 2), lambda: t.transaction().__enter__(), lambda: len(t)):
                with pytest.raises(vaults.VaultTaskError, match='Task-'):
                    act()
        asyncio.run(self.held(t, refused, block))
        assert t.items() == [('k', {}), ('mine', 2)]

    def test_plain_calls_and_blocks_without_an_await_work_in_any_task(self, t):
        t['n'] = 0

        async def add(n):
            for _ in range(20):
                with t.transaction():
                    t['n'] = t['n'] + 1
                    with t.transaction():
                        t.update({n: n})
                await asyncio.sleep(0)
                t['plain', n] = len(t)
                with t.edit('log', []) as log:
                    log.append(n)

        async def main():
            await asyncio.gather(*map(add, range(10)))
        asyncio.run(main())
        assert t['n'] == 200 and len(t['log']) == 200 and len(t) == 22

    def test_threads_wait_for_a_tasks_block_and_are_not_told_of_tasks(self, t):
        async def main():
            loop, inside = asyncio.get_running_loop(), threading.Event()

            def put():
                inside.set()
                t['thread'] = 1
                return t['thread'], len(t), [*t]
            with t.transaction():
                t['mine'] = 1
                waiting = loop.run_in_executor(None, put)
                await loop.run_in_executor(None, inside.wait)
                await asyncio.sleep(0.05)
            assert await waiting == (1, 2, ['mine', 'thread'])
        asyncio.run(main())

    def test_a_block_in_a_thread_is_no_task_s(self, t):
        def add():
            with t.transaction():
                t['n'] = t.get('n', 0) + 1

        async def main():
            loop = asyncio.get_running_loop()
            await asyncio.gather(*(loop.run_in_executor(None, add) for _ in range(10)))
            return t['n']
        assert asyncio.run(main()) == 10

    def test_a_block_that_was_begun_before_the_loop_is_open_to_all_tasks(self, t):
        async def put(n):
            await asyncio.sleep(0)
            t[n] = 1

        async def main():
            await asyncio.gather(*map(put, range(3)))
        with t.transaction():
            asyncio.run(main())
            assert len(t) == 3
        assert len(t) == 3

    def test_blocks_within_one_that_was_begun_before_the_loop_are_their_tasks(self, t):
        t['n'] = 0
        told = []

        async def add():
            try:
                with t.transaction():
                    n = t['n']
                    await asyncio.sleep(0)
                    t['n'] = n + 1
            except vaults.VaultTaskError as error:
                told.append(error)

        async def main():
            await asyncio.gather(*(add() for _ in range(5)))
            t['plain'] = 1
        with t.transaction():
            asyncio.run(main())
        assert t['n'] == 1 and len(told) == 4 and t['plain'] == 1

    def test_a_callback_of_the_loop_is_another_and_owns_what_it_begins(self, t):
        async def main():
            loop, found = asyncio.get_running_loop(), []

            def put():
                try:
                    with t.transaction():
                        t['callback'] = t.get('callback', 0) + 1
                except vaults.VaultTaskError as error:
                    found.append(error)
            loop.call_soon(put)
            await asyncio.sleep(0)
            with t.transaction():
                t['mine'] = 1
                loop.call_soon(put)
                await asyncio.sleep(0)
            held = block_over(t)
            loop.call_soon(next, held)
            await asyncio.sleep(0)
            with pytest.raises(vaults.VaultTaskError, match='callback'):
                t['mine'] = 2
            held.close()
            return found
        found = asyncio.run(main())
        assert len(found) == 1 and t.items() == [('callback', 1), ('mine', 1)]

    @pytest.mark.parametrize('problem', [asyncio.CancelledError, ZeroDivisionError])
    def test_a_task_that_is_cancelled_or_fails_rolls_back(self, t, problem):
        async def work():
            with t.transaction():
                t['k'] = 1
                await asyncio.sleep(0)
                if problem is ZeroDivisionError:
                    1 / 0
                await asyncio.sleep(60)

        async def main():
            task = asyncio.ensure_future(work())
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(problem):
                await task
            t['after'] = 1
        asyncio.run(main())
        assert t.items() == [('after', 1)]

    def test_a_task_that_ends_inside_its_block_says_how_that_ends(self, t):
        async def begin(held):
            next(held)

        async def main(end):
            held = block_over(t)
            await asyncio.ensure_future(begin(held))
            with pytest.raises(vaults.VaultTaskError, match='has ended.*generator'):
                len(t)
            end(held)
            held = None
            gc.collect()
            t['after'] = t.get('after', 0) + 1
        asyncio.run(main(lambda held: held.close()))
        with pytest.raises(vaults.VaultTaskError):  # and not committed
            asyncio.run(main(next))
        t['after'] = t['after'] + 1
        assert t.items() == [('after', 2)]

    def test_a_dropped_generator_rolls_back_wherever_it_is_collected(self, t):
        async def begin():
            next(block_over(t))

        async def main():
            await asyncio.ensure_future(begin())
            gc.collect()
            t['after'] = 1
        asyncio.run(main())
        assert t.items() == [('after', 1)]

    @pytest.mark.skipif(sys.version_info < (3, 11), reason='a frame that is held holds its task in older Pythons')
    def test_a_task_that_nobody_can_continue_is_collected_with_its_block(self, t):
        async def lost():
            with t.transaction():
                t['lost'] = 1
                await asyncio.get_running_loop().create_future()

        async def main():
            task = asyncio.ensure_future(lost())
            task._log_destroy_pending = False
            await asyncio.sleep(0)
            with pytest.raises(vaults.VaultTaskError):
                t['k'] = 1
            del task
            gc.collect()
            t['k'] = 2
        asyncio.run(main())
        assert t.items() == [('k', 2)]

    @pytest.mark.parametrize('kind', ['with', 'transaction', 'edit'])
    def test_a_block_that_another_task_ends_is_rolled_back(self, t, kind):
        if kind == 'with' and isinstance(t, vaults.Shelf):
            pytest.skip('it closes')

        def hold():
            with {'with': lambda: t, 'transaction': t.transaction, 'edit': lambda: t.edit('edited', [])}[kind]():
                t['held'] = 1
                yield

        async def main():
            held = hold()
            inside, leave = asyncio.Event(), asyncio.Event()

            async def begin():
                next(held)
                inside.set()
                await leave.wait()
                with pytest.raises(vaults.VaultError, match='no transaction'):
                    t._store.commit()
            task = asyncio.ensure_future(begin())
            await inside.wait()
            with pytest.raises(vaults.VaultTaskError, match='Task-'):
                next(held)
            assert 'held' not in t and 'edited' not in t
            leave.set()
            await task
        asyncio.run(main())
        t['after'] = 1
        assert t.items() == [('after', 1)]

    def test_a_vault_can_be_closed_when_the_task_in_its_block_has_ended(self, t):
        async def begin(held):
            next(held)

        async def main(held):
            await asyncio.ensure_future(begin(held))
            t.close()
        held = block_over(t)
        asyncio.run(main(held))
        with pytest.raises(vaults.VaultClosedError):
            next(held)

    def test_a_vault_can_be_closed_when_its_loop_has_stopped(self, t):
        async def begin():
            with t.transaction():
                t['k'] = 1
                await asyncio.sleep(60)
        loop = asyncio.new_event_loop()
        task = loop.create_task(begin())
        loop.run_until_complete(asyncio.sleep(0))
        with pytest.raises(vaults.VaultTaskError, match='Task-'):
            t['k'] = 2
        getattr(t, '_parent', t).close()
        task.cancel()
        with pytest.raises(vaults.VaultClosedError):
            loop.run_until_complete(task)
        loop.close()

    def test_a_walk_goes_on_in_a_block_of_its_task_alone(self, t):
        t.update({n: n for n in range(3000)})

        async def main():
            walks = [iter(t), iter(t.items()), reversed(t), iter(t[:])]
            for walk in walks:
                next(walk)

            def refused():
                for walk in walks:
                    with pytest.raises(vaults.VaultTaskError):
                        list(walk)
            await self.held(t, refused)
        asyncio.run(main())

    def test_a_process_that_ends_while_a_task_is_in_its_block_keeps_what_was_before(self, root):
        output('''
            import asyncio, sys, vaults
            vaults.set_root_path(sys.argv[1])
            w, v = vaults.Vault('w', writeback=True), vaults.Vault('v')
            w['log'] = []
            w['log'].append('before')

            async def hold(vault):
                with vault:
                    vault['log'] = ['inside']
                    await asyncio.sleep(60)
            v['log'] = ['before']
            loop = asyncio.new_event_loop()
            tasks = [loop.create_task(hold(vault)) for vault in (v, w)]
            loop.run_until_complete(asyncio.sleep(0))
            for task in tasks:
                task._log_destroy_pending = False''', root)
        assert Vault('v').items() == Vault('w').items() == [('log', ['before'])]

    def test_trio_tasks_own_their_blocks(self, t):
        trio = pytest.importorskip('trio')
        told = []

        async def add():
            try:
                with t.transaction():
                    n = t['n']
                    await trio.lowlevel.checkpoint()
                    t['n'] = n + 1
            except vaults.VaultTaskError as error:
                told.append(str(error))

        async def main():
            async with trio.open_nursery() as nursery:
                for _ in range(10):
                    nursery.start_soon(add)
            t['plain'] = 1

            def in_thread():
                with t.transaction():
                    t['thread'] = 1
            await trio.to_thread.run_sync(in_thread)
            held = block_over(t)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(begin, held)
            with pytest.raises(vaults.VaultTaskError, match='has ended'):
                len(t)
            held.close()

        async def begin(held):
            next(held)
        t['n'] = 0
        trio.run(main)
        assert t['n'] == 10 - len(told) == 1 and all('trio.to_thread' in text and 'add' in text for text in told)
        assert t.keys() == ['n', 'plain', 'thread']


def block_over(v, key='held', block=None):
    """Hold a block over a yield."""
    with block or v.transaction():
        v[key] = 1
        yield
        v[key] = 2


class TestOrderOfBlocks:
    """A block that ends while a younger one is open commits nothing."""

    @pytest.fixture(params=TASK_KINDS)
    def t(self, request, root, monkeypatch):
        monkeypatch.chdir(root)
        vault = TASK_KINDS[request.param]()
        yield vault
        vault.close()

    @staticmethod
    def held(t, kind, key):
        if kind == 'with' and isinstance(t, vaults.Shelf):
            pytest.skip('it closes')
        if kind == 'edit':
            with t.edit(key, []) as value:
                value.append(1)
                yield
                t['more', key] = 1
        else:
            with t if kind == 'with' else t.transaction():
                t[key] = 1
                yield
                t['more', key] = 1

    @pytest.mark.parametrize('kind', ['with', 'transaction', 'edit'])
    def test_two_generators_whose_blocks_cross_raise_and_commit_nothing(self, t, kind):
        for ends in (next, lambda held: next(held, None)):
            first, second = self.held(t, kind, 'a'), self.held(t, kind, 'b')
            next(first)
            next(second)
            with pytest.raises(vaults.VaultError, match='order'):
                ends(first)
            assert t.items() == []
            with pytest.raises(vaults.VaultError, match='ended before|order'):
                ends(second)
            assert t.items() == []
            t['k'] = 1
            assert t.pop('k') == 1

    @pytest.mark.parametrize('kind', ['with', 'transaction', 'edit'])
    def test_what_goes_on_in_a_block_that_was_undone_is_not_written(self, t, kind):
        first, second = self.held(t, kind, 'a'), self.held(t, kind, 'b')
        next(first)
        next(second)
        first.close()
        for write in (lambda: t.update(c=1), lambda: t.pop('c', None), lambda: t.transaction().__enter__()):
            with pytest.raises(vaults.VaultError, match='ended before'):
                write()
        assert t.get('a') is None
        with pytest.raises(vaults.VaultError, match='ended before'):
            next(second)
        t['k'] = 1
        assert t.items() == [('k', 1)]

    @pytest.mark.parametrize('kind', ['with', 'transaction', 'edit'])
    def test_blocks_that_end_in_their_order_work_wherever_they_are_held(self, t, kind):
        first, second = self.held(t, kind, 'a'), self.held(t, kind, 'b')
        next(first)
        next(second)
        assert next(second, 'done') == next(first, 'done') == 'done'
        assert sorted(map(str, t)) == ["('more', 'a')", "('more', 'b')", 'a', 'b']
        t.clear()
        first, second = self.held(t, kind, 'a'), self.held(t, kind, 'b')
        next(first)
        next(second)
        second.close()
        next(first, None)
        assert sorted(map(str, t)) == ["('more', 'a')", 'a']

    def test_what_is_around_stays_when_two_within_cross(self, t):
        with t.transaction():
            t['around'] = 1
            first, second = self.held(t, 'transaction', 'a'), self.held(t, 'transaction', 'b')
            next(first)
            next(second)
            with pytest.raises(vaults.VaultError, match='order'):
                next(first)
            second.close()
            t['then'] = 1
        assert t.items() == [('around', 1), ('then', 1)]

    def test_wrappers_stacks_and_subclasses_nest_as_ever(self, t):
        @contextlib.contextmanager
        def wrapped(key):
            with t.transaction() if isinstance(t, vaults.Shelf) else t:
                yield
                t[key] = 1
        for _ in range(2):
            with contextlib.ExitStack() as stack:
                stack.enter_context(wrapped('a'))
                stack.enter_context(t.transaction())
                stack.enter_context(wrapped('b'))
                stack.enter_context(t.transaction())
                t['c'] = 1
                stack.pop_all().close()
            with wrapped('d'), wrapped('e'), t.transaction():
                t['f'] = 1
        assert sorted(t) == ['a', 'b', 'c', 'd', 'e', 'f']

    def test_a_block_is_entered_and_left_by_whoever_does_it(self, root):
        class Both(Vault):
            def __enter__(self):
                return super().__enter__()

            def __exit__(self, *error):
                return super().__exit__(*error)

        class Enters(Vault):
            def __enter__(self):
                return super().__enter__()

        class Exits(Vault):
            def __exit__(self, *error):
                return super().__exit__(*error)
        for cls in (Both, Enters, Exits, Vault):
            v = cls(cls.__name__)
            section = v.section('s')
            with section, v, section, contextlib.ExitStack() as stack:
                stack.enter_context(v)
                stack.enter_context(section)
                v['k'] = 1
                with pytest.raises(ZeroDivisionError), v, section:
                    v['k'] = 2
                    1 / 0
                with v:
                    section['k'] = 1
            assert v.items() == [('k', 1), (('s', 'k'), 1)]
            v._check()

    def test_a_block_object_can_be_used_again(self, t):
        block = t.transaction()
        with block:
            t['a'] = 1
            with contextlib.suppress(ZeroDivisionError), block:
                t['b'] = 1
                1 / 0
        with block:
            t['c'] = 1
        assert t.keys() == ['a', 'c']

    def test_one_block_object_held_by_two_generators_crosses_as_well(self, t):
        block = t.transaction()
        first, second = block_over(t, 'a', block), block_over(t, 'b', block)
        next(first)
        next(second)
        with pytest.raises(vaults.VaultError, match='order'):
            next(first, None)
        with pytest.raises(vaults.VaultError, match='ended before'):
            next(second)
        assert t.items() == []

    @pytest.mark.parametrize('waits', [False, True])
    def test_a_function_that_was_left_inside_its_block_holds_nobody_up(self, v, waits):
        def entered():  # as one whose end an interrupt has met
            v.__enter__()
            v['inside'] = 1
            if waits:
                yield
        with pytest.raises(ZeroDivisionError), v:
            v['around'] = 1
            inner = entered()
            next(inner, None)
            1 / 0
        if waits:
            with pytest.raises(vaults.VaultError, match='ended before'):
                v['k'] = 1
            inner.close()
        v['k'] = 1
        assert v.items() == [('k', 1)] and Vault('test').items() == [('k', 1)]

    def test_an_update_whose_source_holds_a_block_that_does_not_end_is_undone(self, t):
        def pairs():
            with t.transaction():
                yield 'a', 1
                yield 'b'
        source = pairs()
        with pytest.raises(ValueError):
            t.update(source)
        source.close()
        t['k'] = 1
        assert t.items() == [('k', 1)] and not is_in_transaction(t)

    @pytest.mark.parametrize('fails', [False, True])
    @pytest.mark.parametrize('kind', ['with', 'transaction', 'edit'])
    def test_a_block_that_is_left_in_another_thread_names_the_one_that_holds_it(self, t, kind, fails):
        def hold():
            with {'with': lambda: t, 'transaction': t.transaction, 'edit': lambda: t.edit('a', [])}[kind]():
                yield
        held, ready, go, found = hold(), threading.Event(), threading.Event(), []
        if kind == 'with' and isinstance(t, vaults.Shelf):
            pytest.skip('it closes')

        def begin():
            next(held)
            ready.set()
            go.wait(10)
            for _ in range(2):
                try:
                    t['k'] = len(found)
                    found.append('put')
                except vaults.VaultError as error:
                    found.append(str(error))
        thread = threading.Thread(target=begin, name='the beginner')
        thread.start()
        ready.wait(10)
        with pytest.raises(vaults.VaultTaskError, match="began.*'the beginner'.*another thread"):
            held.throw(ZeroDivisionError) if fails else next(held)
        go.set()
        thread.join()
        assert "left in another thread" in found[0] and found[1] == 'put'
        assert t.items() == [('k', 1)]

    @pytest.mark.parametrize('fails', [False, True])
    @pytest.mark.parametrize('kind', ['transaction', 'edit'])
    def test_a_block_that_is_left_in_another_thread_keeps_nobody_waiting(self, t, kind, fails):
        def hold():
            with {'transaction': t.transaction, 'edit': lambda: t.edit('a', [])}[kind]():
                t['held'] = 1
                yield
        held, ready, go, told, done = hold(), threading.Event(), threading.Event(), [], []

        def begin():
            next(held)
            ready.set()
            go.wait(30)
            try:
                t['late'] = 1
            except vaults.VaultError as error:
                told.append(str(error))

        def others():
            t['k'] = 1
            with t.transaction():
                t['n'] = t.pop('k') + 1
            done.append(t.copy())
        beginner = threading.Thread(target=begin)
        beginner.start()
        ready.wait(10)
        with pytest.raises(vaults.VaultTaskError, match='another thread'):
            held.throw(ZeroDivisionError) if fails else next(held)
        other = threading.Thread(target=others, daemon=True)
        other.start()
        other.join(10)  # while the thread that began does other work
        waits = other.is_alive()
        go.set()
        beginner.join()
        other.join()
        assert not waits and done == [{'n': 2}]
        assert 'left in another thread' in told[0] and t.copy() == {'n': 2}

    def test_a_stack_that_is_closed_in_another_thread_is_told_who_has_a_block(self, v):
        stack, ready, go = contextlib.ExitStack(), threading.Event(), threading.Event()

        def begin():
            stack.enter_context(v)
            v['k'] = 1
            ready.set()
            go.wait(10)
            stack.close()
        thread = threading.Thread(target=begin, name='the beginner')
        thread.start()
        ready.wait(10)
        with pytest.raises(vaults.VaultError, match="no transaction.*'the beginner'"):
            v.__exit__(None, None, None)
        go.set()
        thread.join()
        assert v.items() == [('k', 1)]

    def test_a_dependency_of_fastapi_that_holds_a_block_is_told_which_thread_has_it(self, root):
        fastapi = pytest.importorskip('fastapi')
        to_thread = pytest.importorskip('anyio.to_thread')
        v, leave = Vault('t', thread_safe=True), threading.Event()
        app = fastapi.FastAPI()

        def transaction():
            with v:
                v['held'] = 1
                yield v

        @app.get('/wrong')
        async def wrong(db: Vault = fastapi.Depends(transaction)):  # noqa: B008  # as FastAPI has it
            app.busy = asyncio.ensure_future(to_thread.run_sync(leave.wait))  # the thread that began
            await asyncio.sleep(0.1)

        @app.get('/right')
        def right():
            with v:
                v['n'] = v.get('n', 0) + 1
                return v['n']

        async def call(path):
            async def receive():
                await asyncio.sleep(0)
                return {'type': 'http.request', 'body': b''}

            async def send(message):
                sent.append(message)
            sent = []
            await app({'type': 'http', 'method': 'GET', 'path': path, 'query_string': b'', 'headers': []}, receive, send)
            return sent

        async def main():
            with pytest.raises(vaults.VaultTaskError, match="began in the thread '.*worker.*in one function"):
                await call('/wrong')
            leave.set()
            await app.busy
            with contextlib.suppress(vaults.VaultError):  # of the thread that has it, which ends it so
                await call('/right')
            await asyncio.gather(*(call('/right') for _ in range(5)))
        asyncio.run(main())
        assert 'held' not in v and v['n'] >= 5


def is_in_transaction(v):
    store = getattr(v._store, 'live', v._store)
    store = getattr(store, '_store', store)
    return store._local.c.raw.in_transaction


class TestProcesses:
    def test_a_vault_opens_while_a_checkpoint_extends_its_file(self, root):
        v = Vault('t')
        v['seed'] = 1
        w = sqlite3.connect(v.db_path)
        w.execute('PRAGMA wal_checkpoint(TRUNCATE)').fetchone()
        v.update(dict.fromkeys(range(3000), 'x' * 300))
        shutil.copy(v.db_path + '-wal', root / 'copy.db-wal')
        w.execute('PRAGMA wal_checkpoint(PASSIVE)').fetchone()
        w.close()
        (root / 'copy.db').write_bytes(pathlib.Path(v.db_path).read_bytes()[:4096 * 3])  # as a kill half-way leaves it
        copy = Vault(root / 'copy.db')
        assert len(copy) == 3001
        copy._check()

    def test_a_vault_whose_maker_was_killed_in_the_commit_is_made_anew(self, root):
        maker = sqlite3.connect(str(root / 'half.db'), isolation_level=None)
        for statement in (sqlite.PAGE_SIZE, sqlite.BEGIN, f'PRAGMA application_id = {sqlite.APPLICATION_ID}',
                          f'PRAGMA user_version = {sqlite.FORMAT}', sqlite.CREATE, sqlite.CREATE_MARKER):
            maker.execute(statement)
        journal = (root / 'half.db-journal').read_bytes()
        maker.execute(sqlite.COMMIT)
        maker.close()
        (root / 'half.db-journal').write_bytes(bytes.fromhex('d9d505f920a163d7') + journal[8:])  # as fsync leaves it
        v = Vault(root / 'half.db')
        v['a'] = 1
        assert v == {'a': 1}
        v._check()

    COPIES = {
        'copy': lambda v: v.copy(),
        'items': lambda v: dict(v.items()),
        'items of a slice': lambda v: dict(v[:].items()),
        'section': lambda v: v.section('s').copy(),
        'or': lambda v: v.__or__({}),
        'the right of or': lambda v: v.__ror__({}),
        'or of two': lambda v: Vault(':memory:').__or__(v),
        'or of two, reversed': lambda v: Vault(':memory:').__ror__(v),
        'update': lambda v: Vault(':memory:').update(v),
        'update with names': lambda v: Vault(':memory:').update(v, more=1),
        'update with a slice and names': lambda v: Vault(':memory:').update(v[:], more=1),
        'put_many': lambda v: Vault(':memory:').put_many(v.section('s')),
        'equality of a slice': lambda v: v[:] == {('s', n): None for n in range(3_000)},
        'equality with a vault': lambda v: dict.fromkeys(range(3_000)) == v,
    }

    @pytest.mark.parametrize('way', COPIES)
    def test_a_copy_does_not_race_with_a_process_that_deletes(self, meddled, way):
        v = meddled()
        self.COPIES[way](v)
        assert len(v) == 0

    @pytest.mark.parametrize('way', ['copy', 'items', 'section'])
    @pytest.mark.parametrize('options', [{'writeback': True}, {'validate': print}, {'thread_safe': True}], ids=str)
    def test_a_copy_does_not_race_whatever_the_mode(self, meddled, way, options):
        self.COPIES[way](meddled(**options))

    def test_a_dict_of_a_vault_looks_each_key_up_after_the_walk_and_meets_what_was_deleted(self, meddled):
        for copied in (dict, lambda v: {**v}, lambda v: dict(v[:]), lambda v: dict(v.section('s'))):
            with pytest.raises(KeyError):
                copied(meddled())

    @pytest.fixture
    def meddled(self, root, monkeypatch):
        """Return a function that opens a vault; when its first value is loaded, another process deletes all there is."""
        for name in ('_by_class', '_by_name'):
            monkeypatch.setattr(values, name, dict(getattr(values, name)))

        class Value:
            """What may not be known to the other process, which reads no value."""

        def load(fields):
            output(f'import vaults; vaults.set_root_path({str(root)!r}); vaults.Vault("meddled").clear()')
            return fields
        vaults.register(Value, lambda value: 1, load, name='Value')

        def opened(**options):
            with contextlib.closing(Vault('meddled')) as v:
                v['s', 0] = Value()
                v.update((('s', n), 'x' * 100) for n in range(1, 3_000))
            return Vault('meddled', **options)
        return opened

    def test_two_processes_count_to_four_thousand(self, root):
        code = '''
            import sys, vaults
            vaults.set_root_path(sys.argv[1])
            v = vaults.Vault('c', timeout=60)
            for _ in range(2000):
                with v:
                    v['n'] = v.get('n', 0) + 1'''
        env = {**os.environ, 'PYTHONPATH': str(HERE)}
        both = [subprocess.Popen([sys.executable, '-c', textwrap.dedent(code), str(root)], env=env) for _ in range(2)]
        assert [process.wait(90) for process in both] == [0, 0]
        assert Vault('c')['n'] == 4000

    def test_twenty_processes_create_one_vault_at_once(self, root):
        code = '''
            import sys, vaults
            vaults.set_root_path(sys.argv[1])
            print('ready', flush=True)
            sys.stdin.read()
            v = vaults.Vault('c', timeout=30)
            v[int(sys.argv[2])] = 'here'
            print(len(v.check()))'''
        env = {**os.environ, 'PYTHONPATH': str(HERE)}
        waiting, gate = os.pipe()   # all of them wait for the end of one pipe
        crowd_ = [subprocess.Popen([sys.executable, '-c', textwrap.dedent(code), str(root), str(n)], env=env, stdin=waiting,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE) for n in range(20)]
        assert [process.stdout.readline() for process in crowd_] == [b'ready\n'] * 20
        os.close(gate)
        os.close(waiting)
        answers = [process.communicate(timeout=90) for process in crowd_]
        assert [out for out, _ in answers] == [b'0\n'] * 20, answers
        assert sorted(Vault('c')) == list(range(20))

    @contextlib.contextmanager
    def held_by_another_thread(self, v):
        """Hold a block of the vault in a thread of its own: this one would not wait for itself."""
        held, tried = threading.Event(), threading.Event()

        def hold():
            with v:
                v['k'] = 2
                held.set()
                tried.wait(60)
        thread = threading.Thread(target=hold)
        thread.start()
        try:
            assert held.wait(60)
            yield
        finally:
            tried.set()
            thread.join()

    def test_a_writer_waits_and_then_says_so(self, root):
        v, other = Vault('t', timeout=0.1), Vault('t', timeout=0.1)
        v['k'] = 1
        with self.held_by_another_thread(v):
            for act in (lambda: other.put('k', 3), other.__enter__, lambda: other.pop('k'), lambda: other.update(k=4)):
                began = time.monotonic()
                with pytest.raises(vaults.VaultBusyError, match=r'0\.1 s.*larger timeout') as caught:
                    act()
                assert 0.08 < time.monotonic() - began < 3 and isinstance(caught.value, TimeoutError)
            assert other['k'] == 1
        other['k'] = 5
        assert v['k'] == 5

    def test_an_interrupt_is_heard_while_a_writer_waits(self, root, request):
        before = signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts behind itself ignores it
        request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
        v, other = Vault('t'), Vault('t', timeout=30)
        v['k'] = 1
        for act in (lambda: other.put('k', 3), other.__enter__, other.compact):
            with self.held_by_another_thread(v):
                began, timer = time.monotonic(), threading.Timer(0.1, signal.raise_signal, (signal.SIGINT,))
                timer.start()
                with pytest.raises(KeyboardInterrupt):
                    act()
                timer.join()
                assert time.monotonic() - began < 10
            other['k'] = 4
            assert v['k'] == 4

    @pytest.mark.skipif(sys.platform != 'linux', reason='takes the locks of SQLite on Linux')
    def test_a_reader_waits_while_another_process_recovers_the_log(self, v):
        v['k'], numbers = 1, v.list('l')
        numbers.extend(range(20_000))
        code = """
            import fcntl, sys, time
            with open(sys.argv[1], 'r+b') as shm:
                fcntl.lockf(shm, fcntl.LOCK_EX, 3, 120)  # those to write, to checkpoint and to recover
                shm.write(bytes(96))                     # a header that nobody can believe
                shm.flush()
                print(flush=True)
                time.sleep(0.2)"""
        for read in (lambda: v['k'], lambda: 'k' in v, lambda: len(v), lambda: next(iter(v)), lambda: numbers[1]):
            with subprocess.Popen([sys.executable, '-c', textwrap.dedent(code), v.db_path + '-shm'],
                                  stdout=subprocess.PIPE) as recovering:
                recovering.stdout.readline()
                assert read() in (1, True, 2, 'l')
                assert recovering.wait() == 0

    def test_a_vault_can_be_pickled_and_reopens_by_its_path(self, v):
        v['k'] = 1
        again = pickle.loads(pickle.dumps(v))
        assert (again['k'], again.name, again.db_path) == (1, 'test', v.db_path)
        reader = pickle.loads(pickle.dumps(Vault('test', flag='r')))
        with pytest.raises(vaults.VaultReadOnlyError):
            reader['k'] = 2
        emptied = Vault('fresh', flag='n', thread_safe=True)
        emptied['k'] = 1
        assert pickle.loads(pickle.dumps(emptied))['k'] == 1
        with pytest.raises(TypeError, match='memory'):
            pickle.dumps(Vault(':memory:'))

    @pytest.mark.parametrize('method', multiprocessing.get_all_start_methods())
    @pytest.mark.filterwarnings('ignore::DeprecationWarning')  # of fork, in a process with threads
    def test_multiprocessing_takes_a_vault_as_argument(self, v, method):
        context = multiprocessing.get_context(method)
        processes = [context.Process(target=count_up, args=(v, n)) for n in range(3)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(60)
        assert [process.exitcode for process in processes] == [0, 0, 0]
        assert v['n'] == 60 and sorted(key for key in v if key != 'n') == [0, 1, 2]


def count_up(v, me):
    for _ in range(20):
        with v:
            v['n'] = v.get('n', 0) + 1
    v[me] = 'done'


@needs_fork
@pytest.mark.filterwarnings('ignore::DeprecationWarning')  # of fork, in a process with threads
class TestForks:
    def test_parent_and_child_go_on(self, v):
        v['a'] = 1

        def child():
            v['child'] = 2
            return v.items()[:]
        forked = in_child(child)
        v['parent'] = 3
        assert forked.answer()[:1] == [('a', 1)]
        assert v == {'a': 1, 'child': 2, 'parent': 3}

    @pytest.mark.parametrize('safe', [False, True])
    def test_a_transaction_open_in_the_parent_is_not_the_childs(self, root, safe):
        v = Vault('t', thread_safe=safe)
        v['a'] = 0
        reader, writer = os.pipe()
        with v:
            v['a'] = 1

            def child():
                seen = v['a']
                os.write(writer, b'.')
                v.__exit__(None, None, None)  # the end of the parent's block, as the child comes to it
                with v:
                    v['child'] = v['a']
                return seen, v._store._local.c.depth
            forked = in_child(child)
            os.read(reader, 1)
            v['b'] = 2
        assert forked.answer() == (0, 0)
        os.close(reader)
        os.close(writer)
        assert v == {'a': 1, 'b': 2, 'child': 1}
        v._check()

    def test_the_child_of_a_block_that_fails_in_both(self, v):
        with pytest.raises(ZeroDivisionError), v:
            v['a'] = 1
            forked = in_child(lambda: (v.__exit__(ValueError, None, None), v.put('c', 1), 'a' in v))
            time.sleep(0.1)
            1 / 0
        assert forked.answer()[2] is False
        assert v.items() == [('c', 1)]

    def test_a_large_transaction_is_safe_from_its_child(self, v):
        with v:
            v.update((n, 'x' * 5000) for n in range(6000))
            forked = in_child(lambda: (len(v), 5 in v))
            assert forked.answer() == (0, False)
            assert all(len(value) == 5000 for value in v.values())
        assert len(v) == 6000

    def test_a_child_that_outlives_the_parent_loses_nothing(self, root):
        code = '''
            import os, sys, time, vaults
            vaults.set_root_path(sys.argv[1])
            v = vaults.Vault('t')
            v['a'] = 1
            if os.fork():
                os._exit(0)
            time.sleep(0.3)
            for n in range(200):
                v[n] = n
            vaults.Vault('t')['other'] = 1
            time.sleep(0.5)
            v['last'] = 1
            os.kill(os.getpid(), 9)'''
        run(code, root)
        v = Vault('t')
        deadline = time.monotonic() + 20
        while 'last' not in v and time.monotonic() < deadline:
            Vault('t').close()
            run("import sys, vaults; vaults.set_root_path(sys.argv[1]); len(vaults.Vault('t'))", root)
        assert set(range(200)) | {'a', 'other', 'last'} == set(v)

    def test_memory_is_copied(self):
        v = Vault(':memory:')
        v['a'] = 1
        with v:
            v['b'] = 2
            assert in_child(lambda: (v.put('c', 3), v.copy())[1]).answer() == {'a': 1, 'c': 3}
        assert v == {'a': 1, 'b': 2}

    def test_a_fork_waits_for_the_blocks_of_other_threads(self, root):
        v = Vault('t', thread_safe=True)
        with block_elsewhere(v, 'other') as leave:
            threading.Timer(0.2, leave.set).start()
            assert in_child(lambda: (v['other'], v.put('child', 2))[0]).answer() == 1
        assert v == {'other': 1, 'child': 2}

    def test_open_walks_go_on_in_both(self, v):
        v.update(dict.fromkeys(range(500)))
        walk = iter(v)
        next(walk)
        assert in_child(lambda: len(list(walk))).answer() == 499
        assert len(list(walk)) == 499


class TestErrors:
    """Each error says what happened, to which vault, and what to do; nothing changes."""

    def test_each_has_its_builtin(self):
        kinds = {vaults.VaultNotFoundError: FileNotFoundError, vaults.VaultBusyError: TimeoutError,
                 vaults.VaultClosedError: ValueError, vaults.VaultReadOnlyError: PermissionError,
                 vaults.VaultFullError: OSError, vaults.EmptyVaultError: KeyError, vaults.SerializationError: TypeError}
        for kind, builtin in kinds.items():
            assert issubclass(kind, builtin) and issubclass(kind, vaults.VaultError)
            assert str(kind('plain words')) == 'plain words'
            assert str(pickle.loads(pickle.dumps(kind('plain words')))) == 'plain words'

    def test_each_has_its_row_in_the_docs_and_its_line_in_the_tree(self):
        rows = (HERE / 'docs' / 'errors.md').read_text(encoding='utf-8')
        for name, cls in vars(errors).items():
            if isinstance(cls, type) and issubclass(cls, vaults.VaultError) and cls is not vaults.VaultError:
                also = [base.__name__ for base in cls.__bases__ if not issubclass(base, vaults.VaultError)]
                assert f'| `{name}` | {f"`{also[0]}`" if also else ""}'.rstrip() in rows and name in errors.__doc__, name
                assert hasattr(vaults, name), name

    @needs_posix
    def test_a_copy_that_cannot_be_written_says_what_to_do(self, v, root):
        v['k'] = 1
        (root / 'file').write_text('')
        with contextlib.closing(Vault('other')):
            pass
        for path, words in ((root / 'no' / 'copy', 'make the folder, and repeat'), (root / 'file' / 'copy', 'give a path in a folder')):
            for make in (v.backup, lambda path: moving.export(v, path), lambda path: recovery.recover('other', path)):
                with pytest.raises(vaults.VaultFullError, match=f'copy failed, nothing was written: .*; {words}'):
                    make(path)

    def test_a_closed_vault(self, v):
        v['k'] = 1
        v.close()
        v.close()
        for act in (lambda: v['k'], lambda: v.put('k', 1), lambda: len(v), lambda: list(v), v.keys().__repr__, v.clear,
                    v.__enter__, v.popitem, v.check, v.sync, lambda: v == {}, lambda: 'k' in v):
            with pytest.raises(vaults.VaultClosedError, match=re.escape(f"{v.db_path!r} is closed: open it again")):
                act()

    @pytest.mark.parametrize('content', [b'just some text\n' * 100, b'x', b'SQLite format 3\0' + b'\xff' * 5000])
    def test_a_file_that_is_no_vault_is_left_as_it_was(self, root, content):
        path = root / 'notes.txt'
        path.write_bytes(content)
        for flag in 'rwcn':
            with pytest.raises((vaults.VaultFormatError, vaults.VaultCorruptError), match='notes.txt'):
                Vault(path, flag=flag)
        assert path.read_bytes() == content
        assert sorted(os.listdir(root)) == ['notes.txt', 'vaults'] and os.listdir(root / 'vaults') == []

    def test_a_foreign_database_is_left_as_it_was(self, root):
        path = root / 'foreign.db'
        other = sqlite3.connect(str(path))
        other.execute('PRAGMA journal_mode = WAL')
        other.execute('CREATE TABLE entries (a)')
        other.execute('INSERT INTO entries VALUES (1)')
        other.commit()
        before = {name: (root / name).read_bytes() for name in os.listdir(root) if name.startswith('foreign.db')}
        for flag in 'rwcn':
            with pytest.raises(vaults.VaultFormatError, match=r'foreign\.db.*left as it was'):
                Vault(path, flag=flag)
        assert {name: (root / name).read_bytes() for name in before} == before
        other.close()

    def test_a_snapshot_of_a_file_that_changes_while_a_block_is_open_ends_the_block_once(self, root):
        Vault('t').update(k=1)
        file = sqlite.File(str(root / 'vaults' / 't.db'), 'r', 5.0, 'NORMAL')
        snapshot = sqlite._Snapshot(file)
        snapshot.execute('BEGIN')
        assert snapshot.execute(sqlite.GET, ('k',)).fetchone()[0] == b'\x01'
        os.utime(file.path, (1, 1))
        snapshot.execute('COMMIT')
        assert not snapshot.in_transaction and snapshot.execute(sqlite.GET, ('k',)).fetchone()[0] == b'\x01'
        snapshot.close()

    def test_a_newer_format_is_left_as_it_was(self, root):
        Vault('new').close()
        path = root / 'vaults' / 'new.db'
        other = sqlite3.connect(str(path))
        other.execute('PRAGMA user_version = 2')
        other.close()
        before = path.read_bytes()
        with pytest.raises(vaults.VaultFormatError, match='format 2.*newer vaults'):
            Vault('new')
        assert path.read_bytes() == before

    def test_a_folder_and_an_empty_file(self, root):
        with pytest.raises(vaults.VaultFormatError, match='folder'):
            Vault(root)
        (root / 'empty.db').touch()
        with pytest.raises(vaults.VaultFormatError, match='empty'):
            Vault(root / 'empty.db', flag='r')
        Vault(root / 'empty.db')['k'] = 1

    @needs_root
    @pytest.mark.skipif(not shutil.which('mount'), reason='needs mount')
    def test_a_full_disk_loses_nothing_and_can_go_on(self, root):
        disk = root / 'disk'
        disk.mkdir()
        if subprocess.call(['mount', '-t', 'tmpfs', '-o', 'size=2m', 'tmpfs', str(disk)], stderr=subprocess.DEVNULL):
            pytest.skip('may not mount')
        try:
            v = Vault(disk / 'v.db')
            written = 0
            with pytest.raises(vaults.VaultFullError, match=r'v\.db.*room') as caught:
                while True:
                    v[written] = b'x' * 20000
                    written += 1
            assert isinstance(caught.value, OSError) and written > 10
            with pytest.raises(vaults.VaultFullError), v:
                for n in range(200):
                    v['block', n] = b'x' * 20000
            assert len(v) == written and all(len(value) == 20000 for value in v.values())
            subprocess.check_call(['mount', '-o', 'remount,size=20m', str(disk)])
            v['more'] = 1
            v._check()
            v.close()
        finally:
            subprocess.check_call(['umount', '-l', str(disk)])

    @pytest.mark.skipif(not LINUX, reason='limits as Linux has them')
    def test_a_file_size_limit_loses_nothing(self, root):
        code = '''
            import resource, sys, vaults
            vaults.set_root_path(sys.argv[1])
            v = vaults.Vault('t')
            v['k'] = 'kept'
            resource.setrlimit(resource.RLIMIT_FSIZE, (200000, resource.RLIM_INFINITY))
            try:
                v['big'] = b'x' * 500000
            except vaults.VaultFullError as error:
                assert 't.db' in str(error), error
            else:
                sys.exit('not full')
            assert v.items() == [('k', 'kept')]
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            v['big'] = b'x' * 500000
            v._check()'''
        output(code, root)
        assert Vault('t').keys() == ['k', 'big']

    def test_a_flipped_byte_is_named_and_never_a_wrong_value(self, root):
        path = root / 'vaults' / 'f.db'
        with Vault('f') as v:
            v.update({f'key-{n}': f'value-{n}' for n in range(50)})
        v.close()
        data = path.read_bytes()
        at = data.index(b'value-17')
        path.write_bytes(data[:at] + b'W' + data[at + 1:])
        v = Vault('f')
        for act in (lambda: v['key-17'], lambda: list(v.items()), lambda: v.pop('key-17')):
            with pytest.raises(vaults.VaultCorruptError, match=r"'key-17'.*f\.db.*backup"):
                act()
        assert v['key-16'] == 'value-16' and len(v) == 50
        (problem,) = v.check()
        assert 'key-17' in problem
        walk = iter(v.keys())
        assert len(list(walk)) == 50

    def test_a_damaged_entry_is_named_by_the_key_that_was_put(self, root):
        path = root / 'vaults' / 'f.db'
        with contextlib.closing(Vault('f')) as v:
            v['log', 2026] = 'the value'
            v.list('list').extend([['item'] * 1000] * 5)
            v['users', 'list'] = v['list']
            del v['list']
        data = path.read_bytes().replace(b'the value', b'the VALUE')
        with contextlib.closing(sqlite3.connect(str(path))) as raw:
            number, = raw.execute('SELECT max(number) FROM parts').fetchone()
        path.write_bytes(data)
        with contextlib.closing(sqlite3.connect(str(path))) as raw:
            raw.execute('DELETE FROM parts WHERE number = ?', (number,))
            raw.commit()
        v = Vault('f')
        with pytest.raises(vaults.VaultCorruptError, match=r"key \('log', 2026\)"):
            v['log', 2026]
        assert any("key ('log', 2026)" in problem for problem in v.check())
        assert any("key ('users', 'list')" in problem for problem in v.check())

    def test_random_flips_are_never_a_wrong_value(self, root):
        import random
        chance = random.Random(7)
        truth = {f'key-{n}': f'value-{n}' * 3 for n in range(100)}
        truth.update({n: n for n in range(50)})
        with Vault('f') as v:
            v.update(truth)
        v.close()
        path = root / 'vaults' / 'f.db'
        data = path.read_bytes()
        raised = 0
        for _ in range(150):
            at = chance.randrange(len(data))
            path.write_bytes(data[:at] + bytes([data[at] ^ chance.randrange(1, 256)]) + data[at + 1:])
            missing = []
            try:
                v = Vault('f', flag='r')
                for key, value in truth.items():
                    try:
                        assert v[key] == value
                    except vaults.VaultCorruptError:
                        raised += 1
                    except KeyError:
                        missing.append(key)
                try:
                    assert all(truth.get(key, value) == value for key, value in v.items())
                except vaults.VaultCorruptError:
                    raised += 1
                assert not missing or v.check()
            except (vaults.VaultCorruptError, vaults.VaultFormatError):
                raised += 1
        assert raised > 3

    def test_a_damaged_row_of_any_type_is_an_error_of_ours(self, v):
        v.update(a=1, b=2)
        c = v._store._local.c
        for column, value in (('value', 'text'), ('value', 5), ('crc', 'x'), ('crc', 2**33)):
            with pytest.raises(ZeroDivisionError), v:
                c.execute(f'UPDATE entries SET {column} = ? WHERE key = ?', (value, 'a'))
                with pytest.raises(vaults.VaultCorruptError, match="'a'"):
                    v['a']
                with pytest.raises(vaults.VaultCorruptError, match="'a'"):
                    v.items()[:]
                assert len(v.check()) == 1
                1 / 0
        with pytest.raises(ZeroDivisionError), v:
            c.execute("UPDATE entries SET key = CAST(x'ff' AS TEXT) WHERE key = 'a'")
            with pytest.raises(vaults.VaultCorruptError, match='damaged'):
                list(v)
            assert v.check()
            1 / 0

    def test_ids_that_run_in_circles_end_every_walk(self, v, monkeypatch):
        v.update(dict.fromkeys(range(100), 0))
        plain = sqlite.SQLiteStore._page

        def circling(self, c, sql, arguments):
            rows = plain(self, c, sql, arguments)
            return [(1, *row[1:]) for row in rows] if 'LIMIT' in sql and 'WHERE id' in sql else rows
        monkeypatch.setattr(sqlite.SQLiteStore, '_page', circling)
        for act in (lambda: list(v), lambda: list(reversed(v)), lambda: list(v.items())):
            with pytest.raises(vaults.VaultCorruptError, match='order|32 of 100'):
                act()
        assert 'cannot all be read' in v.check()[-1]
        monkeypatch.undo()

    def test_entries_that_a_damaged_file_hides_are_missed(self, v, monkeypatch):
        v.update(dict.fromkeys(range(100), 0))
        plain = sqlite.SQLiteStore._page
        monkeypatch.setattr(sqlite.SQLiteStore, '_page', lambda self, c, sql, arguments: (
            plain(self, c, sql, arguments)[:5] if 'LIMIT' in sql else plain(self, c, sql, arguments)))
        for act in (lambda: list(v), lambda: list(v.items()), lambda: list(v[:])):
            with pytest.raises(vaults.VaultCorruptError, match='5 of 100'):
                act()
        monkeypatch.undo()

    @pytest.mark.parametrize('flag', 'rwc')
    def test_a_file_cut_off_to_nothing_is_not_taken_for_a_new_one_while_its_log_holds_commits(self, root, v, flag):
        v.update(dict.fromkeys(range(100), 'there'))
        for ending in ('', '-wal'):
            shutil.copyfile(v.db_path + ending, root / f'cut.db{ending}')
        (root / 'cut.db').write_bytes(b'')
        log_ = (root / 'cut.db-wal').read_bytes()
        with pytest.raises(vaults.VaultCorruptError, match='empty.*recover'):
            Vault(root / 'cut.db', flag=flag)
        assert (root / 'cut.db-wal').read_bytes() == log_
        assert recovery.recover(root / 'cut.db', root / 'good.db').recovered == 100

    def test_a_damaged_schema_is_an_error_of_ours(self, root):
        with Vault('s') as v:
            v['k'] = 1
        v.close()
        path = root / 'vaults' / 's.db'
        data = path.read_bytes()
        at = data.index(b'CREATE TABLE')
        for place in range(at - 25, at + 60):
            path.write_bytes(data[:place] + bytes([data[place] ^ 0xe2]) + data[place + 1:])
            try:
                v = Vault('s')
                assert v.get('k', 1) == 1
            except vaults.VaultError as error:
                assert 's.db' in str(error)

    def test_what_a_signal_handler_raises_is_not_taken_for_damage(self, v):
        class Stop(Exception):
            pass

        def stop(data, inner):
            raise Stop
        v['k'] = {1}
        kept, values.DECODERS[values.SET] = values.DECODERS[values.SET], stop
        try:
            for act in (lambda: v['k'], lambda: v.get('k'), lambda: list(v.items()), v.check):
                with pytest.raises(Stop):
                    act()
        finally:
            values.DECODERS[values.SET] = kept

    def test_a_value_too_large_for_sqlite_is_said_to_be(self, v):
        v._store._local.c.raw.execute('PRAGMA user_version')
        if hasattr(sqlite3.Connection, 'setlimit'):
            v._store._local.c.raw.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 100000)
            with pytest.raises(vaults.SerializationError, match='larger'):
                v['big'] = b'x' * 200000
            assert 'big' not in v

    def test_an_old_sqlite_is_a_clear_error(self, monkeypatch, root):
        monkeypatch.setattr(sqlite3, 'sqlite_version_info', (3, 34, 1))
        with pytest.raises(vaults.VaultError, match=r'3\.35'):
            Vault('x')

    def test_chained_and_never_bare(self, v):
        other = Vault('test', timeout=0)
        with v, pytest.raises(vaults.VaultBusyError) as caught, concurrent.futures.ThreadPoolExecutor(1) as another:
            another.submit(other.__setitem__, 'k', 1).result()
        assert isinstance(caught.value.__cause__, sqlite3.Error)


class TestUpkeep:
    def test_check_finds_what_is_wrong_and_runs_no_pickle(self, v, root):
        mark = root / 'ran'
        TestTrust().plant(v, mark)
        v['ok'] = Custom(1)
        assert v.check() == [] and not mark.exists()
        c = v._store._local.c
        c.execute("UPDATE entries SET crc = crc + 1 WHERE key = x''")
        assert 'counts anew' in v.check()[0]
        v.compact()
        assert v.check() == [] and len(v) == 2
        v._store.put('bad', b'\xc1')
        assert "'bad'" in v.check()[0]
        del v['bad']
        v._store.put(b'\x63', values.dumps(1))
        assert 'damaged' in v.check()[0]
        v._store.delete(b'\x63')

    def test_compact_gives_space_back_and_keeps_everything(self, v):
        v.update((n, b'x' * 5000) for n in range(1000))
        del v[10:]
        steps = []
        before = os.path.getsize(v.db_path) + os.path.getsize(v.db_path + '-wal')
        v.compact(progress=lambda done, total: steps.append((done, total)))
        assert os.path.getsize(v.db_path) + os.path.getsize(v.db_path + '-wal') < before / 10
        assert os.path.getsize(v.db_path + '-wal') < 3 * 4096
        assert v.keys() == list(range(10)) and steps[0][0] == 0 and steps[-1][0] == steps[-1][1] > 0

    def test_backup_is_whole_while_others_write(self, v, root):
        v.update((n, n) for n in range(20000))
        stop = threading.Event()

        def write():
            n = 0
            while not stop.is_set():
                with v:
                    v['a'] = v['b'] = n
                n += 1
        thread = threading.Thread(target=write)
        thread.start()
        steps = []
        try:
            v.backup(root / 'copy.db', progress=lambda done, total: steps.append((done, total)))
        finally:
            stop.set()
            thread.join()
        copy = Vault(root / 'copy.db', flag='r')
        assert copy.check() == [] and copy.get('a') == copy.get('b') and len(copy) >= 20000
        assert steps and steps[-1][0] == steps[-1][1]
        copy.close()
        assert sorted(name for name in os.listdir(root) if name.startswith('copy')) == ['copy.db']
        with pytest.raises(vaults.VaultError, match=r'copy\.db already'):
            v.backup(root / 'copy.db')
        with pytest.raises(vaults.VaultError, match='failed, nothing was written'):
            v.backup(root / 'no' / 'where.db')

    def test_a_backup_that_fails_is_an_error_of_ours(self, v, root, monkeypatch):
        def fails(*_, **__):
            raise OSError(5, 'the disk fails')

        def fails_with_a_journal(part, _):
            pathlib.Path(f'{part}-journal').write_bytes(b'what SQLite leaves when it cannot roll back')
            fails()
        v['k'] = 1
        with monkeypatch.context() as patch:
            patch.setattr(os, 'rename', fails_with_a_journal)
            with pytest.raises(vaults.VaultFullError, match=r'copy\.db failed, nothing was written'):
                v.backup(root / 'copy.db')
            assert not list(root.glob('copy*'))
            patch.setattr(os, 'unlink', fails)
            with pytest.raises(vaults.VaultFullError, match=r'copy\.db failed'):
                v.backup(root / 'copy.db')
        with monkeypatch.context() as patch:
            patch.setattr(v._store.file, 'connect', lambda: sqlite3.connect(str(root)))
            with pytest.raises(vaults.VaultError, match='unable to open'):
                v.backup(root / 'other.db')
        with pytest.raises(vaults.VaultError, match='unable to open'):
            Vault(':memory:').backup(root / 'no' / 'copy.db')

    def test_a_backup_does_not_wait_longer_for_a_lock_than_the_vault(self, v, root, monkeypatch):
        v['k'] = 1
        v._store.file.timeout = 0.05
        real = sqlite3.connect

        def connect(path, *arguments, **options):
            if str(path).endswith('.partial'):
                options['timeout'] = 0
                self.other = real(path)
                self.other.execute('BEGIN EXCLUSIVE')
            return real(path, *arguments, **options)
        monkeypatch.setattr(sqlite3, 'connect', connect)
        with pytest.raises(vaults.VaultBusyError, match='nothing was written'):
            v.backup(root / 'copy.db')
        self.other.close()
        assert not list(root.glob('copy*'))

    @pytest.mark.skipif(os.name == 'nt', reason='Windows opens no folders')
    def test_the_name_of_a_backup_lasts_when_it_returns(self, v, root, monkeypatch):
        synced, fsync = [], os.fsync
        monkeypatch.setattr(os, 'fsync', lambda handle: (synced.append((os.fstat(handle).st_ino, os.listdir(root))), fsync(handle)))
        v.backup(root / 'copy.db')
        (folder, names), = synced
        assert folder == os.stat(root).st_ino and 'copy.db' in names

    def test_a_vault_in_memory_has_a_backup_too(self, root):
        v = Vault(':memory:')
        v['k'] = 1
        v.backup(root / 'm.db')
        v['l'] = 2
        assert Vault(root / 'm.db').items() == [('k', 1)] and len(v) == 2

    def test_progress_of_check(self, v):
        v.update(dict.fromkeys(range(2500)))
        steps = []
        assert v.check(progress=lambda done, total: steps.append((done, total))) == []
        assert steps == [(1024, 2500), (2048, 2500), (2500, 2500)]

    @pytest.mark.parametrize('safe', [False, True])
    def test_sync_commits_once_more_with_an_fsync(self, root, safe):
        v = Vault('test', thread_safe=safe)
        v['k'] = 1
        other = sqlite3.connect(v.db_path)
        before = other.execute('PRAGMA data_version').fetchall()
        seen = statements(v)
        v.sync()
        assert other.execute('PRAGMA data_version').fetchall() != before  # SQLite drops a commit that changes nothing
        other.close()
        assert seen[0] == 'PRAGMA synchronous = FULL' and 'NORMAL' in seen[-1] and 'COMMIT' in seen
        assert v.items() == [('k', 1)] and len(v) == 1 and v.check() == []
        in_thread(lambda: v.put('other', 1))
        assert v['other'] == 1
        Vault(':memory:').sync()

    @pytest.mark.skipif(not shutil.which('strace'), reason='no strace to see the fsync with')
    def test_sync_has_the_disk_write_what_it_was_given(self, root):
        program = "import sys, vaults; v = vaults.Vault('t'); v['k'] = 1; print('SYNC', flush=True); v.sync(); print('DONE', flush=True)"
        done = subprocess.run(['strace', '-f', '-e', 'trace=write,pwrite64,fsync,fdatasync', sys.executable, '-c', program],
                              cwd=str(root), env={**os.environ, 'PYTHONPATH': str(HERE)}, capture_output=True, text=True)
        if 'SYNC' not in done.stderr:
            pytest.skip('strace may not trace here')
        during = done.stderr.split('SYNC')[1].split('DONE')[0]
        assert re.search(r'\bwrite\((?!1,)|pwrite64\(', during) and 'sync(' in during  # not every SQLite has pwrite


class TestWhoMayReadACopy:
    """A copy, and what lies beside a vault, is no wider open than the vault."""

    pytestmark = pytest.mark.skipif(os.name == 'nt', reason='Windows has no such modes')

    @pytest.fixture(params=[0o022, 0o077, 0])
    def umask(self, request):
        before = os.umask(request.param)
        yield request.param
        os.umask(before)

    def modes(self, folder, start=''):
        return {path.name: path.stat().st_mode & 0o7777 for path in folder.iterdir() if path.name.startswith(start) and path.is_file()}

    def ways(self, v, folder):
        """Make each sort of copy; yield its path, and the modes of all files of that name while it was written."""
        def look(name, make):
            seen = {}
            make(folder / name, lambda *_: seen.update(self.modes(folder, name)))
            return folder / name, seen
        for name, make in (('backup', v.backup), ('export', lambda path, see: moving.export(v, path, progress=see)),
                           ('stream', lambda path, see: v.get_file('stream', path, see)),
                           ('text', lambda path, see: v.get_file('text', path, see))):
            yield look(name, make)
        v.close()
        yield look('recovered', lambda path, see: recovery.recover(pathlib.Path(v.db_path), path, see))

    @pytest.mark.parametrize('mode', [0o600, 0o640, 0o660, 0o644, 0o666, 0o604, 0o400, 0o440, 0o700])
    def test_it_has_the_mode_of_the_vault_less_the_umask_from_the_start(self, root, umask, mode):
        with contextlib.closing(Vault('t')) as v:
            v.put_file('stream', io.BytesIO(b'x' * 3 * streams.LEAF))
            v['text'] = 'x' * 100_000
            v.update((n, b'') for n in range(1000))
        os.chmod(v.db_path, mode)
        for path, seen in self.ways(Vault('t', flag='r'), root):
            assert path.stat().st_mode & 0o7777 == mode & 0o666 & ~umask, path
            assert any(name.endswith('.partial') for name in seen) or path.name == 'text', seen
            for name, other in seen.items():
                assert other & 0o077 & ~(mode & ~umask) == 0, name
        assert sorted(self.modes(root)) == ['backup', 'export', 'recovered', 'stream', 'text']

    def test_what_is_recovered_is_written_to_files_as_private(self, root):
        with contextlib.closing(Vault('t')) as v:
            v.update((n, b'x' * 500) for n in range(3000))
        os.chmod(v.db_path, 0o600)
        seen = {}
        recovery.recover('t', root / 'new.db', lambda *_: seen.update(self.modes(root, 'new')))
        assert {name: oct(mode) for name, mode in seen.items()} == dict.fromkeys(
            ['new.db.partial', 'new.db.partial-wal', 'new.db.partial-shm'], '0o600')

    def test_the_journal_of_a_backup_is_as_private(self, root, monkeypatch):
        v = Vault('t')
        v.update((n, b'x' * 500) for n in range(9000))
        os.chmod(v.db_path, 0o600)
        seen = {}
        real = sqlite_backup._copy

        def copy(store, part, *arguments):
            with contextlib.closing(sqlite3.connect(part)) as raw:
                raw.execute('CREATE TABLE a (b)')
                raw.execute('BEGIN')
                raw.execute('INSERT INTO a VALUES (1)')
                seen.update(self.modes(root))
                raw.execute('ROLLBACK')
            os.truncate(part, 0)
            real(store, part, *arguments)
        monkeypatch.setattr(sqlite_backup, '_copy', copy)
        v.backup(root / 'copy.db')
        assert seen == {'copy.db.partial': 0o600, 'copy.db.partial-journal': 0o600}
        v.close()

    @needs_root
    def test_another_group_may_do_no_more_than_all_others(self, root, umask):
        for mode, expected in ((0o660, 0o600), (0o664, 0o644), (0o640, 0o600), (0o604, 0o600), (0o666, 0o666)):
            with contextlib.closing(Vault('t')) as v:
                v.update(stream=b'x', text='x')
            os.chown(v.db_path, 12345, 54321)
            os.chmod(v.db_path, mode)
            for path, _ in self.ways(Vault('t', flag='r'), root):
                status = path.stat()
                assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (0, 0, expected & ~umask), path
                path.unlink()
            os.unlink(v.db_path)

    def test_a_copy_of_a_vault_in_memory_is_what_the_umask_says(self, root, umask):
        v = Vault(':memory:')
        v['a'] = b'x'
        v.backup(root / 'copy')
        moving.export(v, root / 'export')
        v.get_file('a', root / 'file')
        assert self.modes(root) == {'copy': 0o644 & ~umask, 'export': 0o666 & ~umask, 'file': 0o666 & ~umask}

    def test_a_file_that_is_written_over_keeps_its_mode_and_is_never_wider(self, root, umask):
        v = Vault('t')
        v.put_file('a', io.BytesIO(b'x' * 3 * streams.LEAF))
        for mode in (0o600, 0o666, 0o755):
            (root / 'out').write_bytes(b'old')
            (root / 'out').chmod(mode)
            seen = {}
            v.get_file('a', root / 'out', lambda *_, seen=seen: seen.update(self.modes(root)))
            assert (root / 'out').stat().st_mode & 0o777 == mode
            assert len(seen) >= 2 and all(not other & 0o077 & ~mode for other in seen.values())
        v.close()

    def test_one_begun_anew_or_compacted_keeps_its_mode(self, root, umask):
        with contextlib.closing(Vault('t')) as v:
            v.update((n, b'x' * 500) for n in range(900))
        os.chmod(v.db_path, 0o600)
        for flag in 'cn':
            with contextlib.closing(Vault('t', flag=flag)) as v:
                del v[:800]
                v.compact()
                assert set(self.modes(root / 'vaults').values()) == {0o600}
        assert self.modes(root / 'vaults') == {'t.db': 0o600}

    @pytest.mark.parametrize('options', [{}, {'flag': 'r'}, {'flag': 'w'}, {'thread_safe': True}, {'writeback': True}])
    def test_the_log_is_as_private_as_the_file_in_every_way_of_opening(self, root, umask, options):
        for mode in (0o600, 0o640, 0o666):
            with contextlib.closing(Vault('t')) as v:
                v['a'] = 1
            os.chmod(v.db_path, mode)
            with contextlib.closing(Vault('t', **options)) as v:
                assert v['a'] == 1
                assert self.modes(root / 'vaults') == dict.fromkeys(['t.db', 't.db-wal', 't.db-shm'], mode)

    @pytest.mark.parametrize('notice', [lambda v: v.sync(), lambda v: v.update(b=1), lambda v: v.pop('a'), Vault.compact,
                                        lambda v: [v.put(n, b'x' * 9000) for n in range(70)], lambda v: Vault('t')])
    def test_the_log_follows_when_the_mode_of_an_open_vault_is_changed(self, root, notice):
        v = Vault('t')
        v['a'] = 1
        for mode in (0o600, 0o660):
            os.chmod(v.db_path, mode)
            also = notice(v)
            assert self.modes(root / 'vaults') == dict.fromkeys(['t.db', 't.db-wal', 't.db-shm'], mode)
            v['a'] = 1
            del also
        v.close()

    def test_the_log_beside_the_file_that_a_link_names_follows_too(self, root):
        Vault(root / 'real.db').close()
        (root / 'link.db').symlink_to(root / 'real.db')
        v = Vault(root / 'link.db')
        os.chmod(root / 'real.db', 0o600)
        v.update(a=1)
        assert set(self.modes(root, 'real').values()) == {0o600}
        v.close()

    @needs_root
    def test_what_root_opens_stays_its_owners(self, root):
        with contextlib.closing(Vault('t')) as v:
            v['a'] = 1
        os.chown(v.db_path, 12345, 54321)
        os.chmod(v.db_path, 0o640)
        v = Vault('t')
        v['b'] = 1
        for beside in ('-wal', '-shm'):
            status = os.stat(v.db_path + beside)
            assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (12345, 54321, 0o640)
        v.close()

    def test_a_vault_that_the_command_makes_of_a_private_file_is_private(self, command, root, umask):
        for mode in (0o600, 0o640, 0o644):
            (root / 'a.json').write_text('{"a": 1}')
            (root / 'a.json').chmod(mode)
            assert command('import', root / 'a.json', 'new').status == 0
            assert self.modes(root / 'vaults') == {'new.db': mode & ~umask}
            assert command('import', root / 'a.json', 'new').status == 0
            (root / 'vaults' / 'new.db').unlink()
        (root / 'a.json').write_text('{"a": ')
        assert command('import', root / 'a.json', 'new').status == 1
        assert command('import', root / 'gone.json', 'new').status == 1
        assert not (root / 'vaults').exists() or not list((root / 'vaults').iterdir())

    def test_what_the_command_copies_is_as_private(self, command, root, umask):
        with contextlib.closing(vaults.open(root / 'shelf')) as shelf:
            shelf.update(text='x', stream=b'x' * 9000)
        os.chmod(root / 'shelf', 0o640)
        with contextlib.closing(vaults.open(root / 'shelf')):
            assert set(self.modes(root).values()) == {0o640} and len(self.modes(root)) == 3
        place = f'{root}/shelf'
        for words in (['backup', place, root / 'a'], ['recover', place, f'{root}/b.db'], ['export', place, root / 'c'],
                      ['get', place, 'stream', '--output', root / 'd'], ['get', place, 'text', '--output', root / 'e'],
                      ['import', place, f'{root}/f.db'], ['import', root / 'c', f'{root}/g.db']):
            assert command(*words).status == 0, words
        assert self.modes(root) == {'shelf': 0o640, **dict.fromkeys(['a', 'b.db', 'c', 'd', 'e', 'f.db', 'g.db'], 0o640 & ~umask)}

    def test_all_files_of_a_source_count(self, command, root):
        with contextlib.closing(dbm.dumb.open(str(root / 'shelf'), 'n')) as db:
            db['k'] = pickle.dumps(1)
        (root / 'shelf.dat').chmod(0o600)
        assert command('import', root / 'shelf', 'new').status == 0
        assert self.modes(root / 'vaults') == {'new.db': 0o600}


class TestRecover:
    """`recover` copies what can be read of a damaged vault, and tells what cannot."""

    @pytest.fixture
    def bad(self, root):
        """Return a function that makes a vault of some pages, with a part of its file overwritten."""
        def damaged(start=0, stop=0, entries=600, cleared=False, fill=None):
            path = root / 'bad.db'
            with contextlib.closing(Vault(path)) as v:
                v.update((f'key {n}', f'value {n} ' * 7) for n in range(entries))
                if cleared:
                    v.clear()
                    v.update((f'new {n}', f'new {n}' * 7) for n in range(100))
                if fill:
                    fill(v)
            data = bytearray(path.read_bytes())
            data[start:stop] = bytes(stop - start)
            path.write_bytes(data)
            return path
        return damaged

    def recovered(self, path):
        """Recover to a vault beside it, which must be sound; return the report and the entries."""
        good = path.with_name('good.db')
        before = path.read_bytes()
        done = recovery.recover(path, good)
        assert path.read_bytes() == before and sorted(path.parent.glob('*.partial*')) == []
        with contextlib.closing(Vault(good)) as v:
            assert v.check() == [] and len(v) == done.recovered
            return done, {key: value[:] if hasattr(value, 'extend') else value for key, value in v.items()}

    def leaf_with(self, path, key, kind=13):
        data = path.read_bytes()
        return next(at for at in range(4096, len(data), 4096)
                    if data[at] == kind and key in data[at:at + 4096])

    EVERYTHING = {None: 1, True: 2, False: [3], 2: 'two', -1.5: b'f', 2**70: {1}, 3**90: (1,), '': None, 'zoë': 1.5,
                  '\ud800': 'x', b'\0': range(3), dt.date(2026, 1, 1): 1, dt.datetime(2026, 1, 1, tzinfo=UTC): 2, (): 3,
                  ('a', (1, None)): {'x': [2**70]}, uuid.UUID(int=7): 4, 'long': 'y' * 20_000}

    def fill(self, v):
        del v[:]
        v.update({'gone': 1, **self.EVERYTHING})
        del v['gone']
        v[2] = 'two'
        with v.open('stream', 'wb') as file:
            file.write(bytes(range(256)) * 2000)
        v.list('list').extend([n, 'x' * 50] for n in range(500))
        v.column('column', 'int64').extend(range(5000))
        v.section('users')['ann'] = 'Ann'

    def test_a_cell_is_found_where_sqlite_finds_it(self, bad):
        path = bad()
        data = bytearray(path.read_bytes())
        page = next(at for at in range(4096, len(data), 4096) if data[at] == 13)  # a leaf of the table
        data[page + 10] ^= 0x20  # of the place of its second cell: SQLite looks at the lower bits alone
        path.write_bytes(data)
        done, entries = self.recovered(path)
        assert done.whole and len(entries) == 600

    @pytest.mark.parametrize('start, stop', [(0, 0), (0, 100), (0, 4096), (4096, 8192), (8192, 12288), (24, 28)],
                             ids=['sound', 'header', 'schema', 'root', 'index', 'counter'])
    def test_everything_comes_back_where_only_the_way_to_it_is_damaged(self, bad, start, stop, root):
        path = bad(fill=self.fill)
        with contextlib.closing(Vault(path)) as v:
            wanted = [(type(key), key, type(value), value[:] if hasattr(value, 'extend') else value)
                      for key, value in v.items()]
        data = bytearray(path.read_bytes())
        data[start:stop] = bytes(stop - start)
        path.write_bytes(data)
        done, entries = self.recovered(path)
        assert [(type(key), key) for key in entries] == [one[:2] for one in wanted]
        assert [list(value) if type(wanted[at][3]) is memoryview else value for at, value in enumerate(entries.values())
                ] == [list(one[3]) if type(one[3]) is memoryview else one[3] for one in wanted]
        assert done.whole and done.counted == done.recovered == len(wanted) and done.nameless == 0

    def test_what_is_in_the_log_alone_comes_back(self, root, v):
        v.update(dict.fromkeys(range(100), 'old'))
        v[7] = 'new'
        for ending in ('', '-wal'):
            shutil.copyfile(v.db_path + ending, root / f'bad.db{ending}')
        done, entries = self.recovered(root / 'bad.db')
        assert done.whole and entries == {**dict.fromkeys(range(100), 'old'), 7: 'new'}

    def test_a_log_that_breaks_off_gives_its_commits_before_the_break(self, root, v):
        for n in range(20):
            v[n] = n
        for ending in ('', '-wal'):
            shutil.copyfile(v.db_path + ending, root / f'bad.db{ending}')
        log_ = root / 'bad.db-wal'
        data = bytearray(log_.read_bytes())
        data[len(data) // 2] ^= 1
        log_.write_bytes(data)
        done, entries = self.recovered(root / 'bad.db')
        assert 5 < len(entries) < 15 and entries == {n: n for n in range(len(entries))}
        assert 'breaks off' in done.notes[0] and str(20 - len(entries)) in done.notes[0] and not done.whole

    def test_a_rollback_journal_is_rolled_back(self, root):
        path = root / 'bad.db'
        output('''
            import os, sqlite3, sys, vaults
            from vaults.stores.sqlite import store as sqlite
            sqlite._choose_journal = lambda c, file: 'delete'
            v = vaults.Vault(__import__('pathlib').Path(sys.argv[1]))
            v.update({n: 'old' for n in range(2000)})
            raw = v._store._local.c.raw
            raw.execute('PRAGMA cache_size = 1')
            v._store.begin()
            v.update({n: 'new' for n in range(2000)})
            os._exit(0)''', path)
        assert os.path.getsize(f'{path}-journal') > 4096 and b'new' in path.read_bytes()
        done, entries = self.recovered(path)
        assert done.whole and entries == dict.fromkeys(range(2000), 'old')

    # --- what opening says of it ---

    @pytest.mark.parametrize('start, stop', [(0, 16), (0, 100), (0, 4096), (0, 8192), (16, 18), (68, 72)],
                             ids=['magic', 'header', 'page', 'two pages', 'page size', 'application'])
    @pytest.mark.parametrize('fill', [bytes, lambda size: b'\7' * size], ids=['zeros', 'other bytes'])
    def test_opening_one_whose_beginning_is_damaged_names_recover(self, bad, start, stop, fill, command):
        path = bad()
        data = bytearray(path.read_bytes())
        data[start:stop] = fill(stop - start)
        path.write_bytes(data)
        for flag in 'rwcn':
            with pytest.raises(vaults.VaultCorruptError, match=re.escape(f'`vaults recover {path} ')) as caught:
                Vault(path, flag=flag)
            assert 'another name' not in str(caught.value)
        with pytest.raises(vaults.VaultCorruptError, match='vaults recover'):
            vaults.open(path)
        assert f'vaults recover {path}' in command('count', path).err
        assert path.read_bytes() == data and len(self.recovered(path)[1]) == 600

    def test_a_file_of_zeros_is_recovered_from_its_log_or_is_no_vault(self, root, v):
        v.update(dict.fromkeys(range(100), 'x'))
        path = root / 'bad.db'
        shutil.copyfile(v.db_path, path)
        path.write_bytes(bytes(path.stat().st_size))
        with pytest.raises(vaults.VaultFormatError, match='not a vault'):
            Vault(path)
        shutil.copyfile(f'{v.db_path}-wal', f'{path}-wal')
        with pytest.raises(vaults.VaultCorruptError, match='vaults recover'):
            Vault(path)
        assert self.recovered(path)[1] == dict.fromkeys(range(100), 'x')

    def test_what_never_was_a_vault_is_not_said_to_be_recoverable(self, root):
        sqlite_file(root / 'other.db', ('CREATE TABLE a (id INTEGER PRIMARY KEY, b, c, d)',), ('INSERT INTO a VALUES (1, 2, 3, 4)',))
        Vault(root / 'newer.db').close()
        (root / 'noise.db').write_bytes(b''.join(hashlib.sha256(b'%d' % n).digest() for n in range(12_000)))
        (root / 'text.db').write_bytes(b'some words\r\n' * 5000)
        (root / 'leaves.db').write_bytes((b'\x0d' + bytes(4095)) * 20)
        data = bytearray((root / 'newer.db').read_bytes())
        data[60:64] = b'\0\0\0\7'
        (root / 'newer.db').write_bytes(data)
        with contextlib.closing(Vault(root / 'reached.db')), contextlib.closing(sqlite3.connect(root / 'reached.db')) as raw:
            raw.execute('CREATE VIEW entries_seen AS SELECT * FROM entries')
        for path in root.glob('*.db'):
            with pytest.raises(vaults.VaultFormatError) as caught:
                Vault(path)
            assert 'vaults recover' not in str(caught.value), path

    def test_one_that_is_open_here_is_not_looked_into(self, bad, monkeypatch):
        path = bad()
        with contextlib.closing(Vault(path)):
            monkeypatch.setattr(recovering, 'Pages', lambda *_: pytest.fail('it was opened'))
            assert not recovering.is_promising(str(path))

    # --- beside other tables ---

    @pytest.fixture
    def crowded(self, root):
        """Return the path of a vault in whose file there are other tables, and what the vault holds."""
        path = root / 'bad.db'
        with contextlib.closing(Vault(path)) as v:
            v.update((f'ghost {n}', f'ghost {n} ' * 9) for n in range(100))
            raw = sqlite3.connect(path)
            raw.execute('CREATE TABLE copies (id INTEGER PRIMARY KEY, key NOT NULL UNIQUE, value BLOB, crc INTEGER)')
            raw.execute("INSERT INTO copies SELECT id + 5000, key, value, crc FROM entries WHERE key <> x''")
            raw.execute('CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT, photo BLOB)')
            raw.execute('CREATE INDEX by_name ON people (name)')
            raw.execute('CREATE INDEX by_photo ON people (photo)')
            raw.executemany('INSERT INTO people VALUES (?, ?, ?)', (
                (n * 7, f'person {n}', path.read_bytes()[4096:8192 + n] if n % 5 else b'\x0d' * n) for n in range(200)))
            with contextlib.suppress(sqlite3.OperationalError):  # a build without it
                raw.execute('CREATE VIRTUAL TABLE words USING fts5(text)')
                raw.executemany('INSERT INTO words VALUES (?)', ((f'some words {n} ' * 20,) for n in range(300)))
            raw.commit()
            raw.close()
            v.clear()
            v.update((f'key {n}', f'value {n} ' * 7) for n in range(600))
            self.fill_beside(v)
            wanted = {key: value[:] if hasattr(value, 'extend') else value for key, value in v.items()}
        return path, wanted

    def fill_beside(self, v):
        v.update(self.EVERYTHING)
        del v['key 5'], v[2]
        v.put_file('stream', io.BytesIO(bytes(range(256)) * 2000))
        v.list('list').extend([n, 'x' * 50] for n in range(500))

    def pages_of(self, path, *names):
        """Return where the pages of these tables and indexes begin, by SQLite's own list."""
        with contextlib.closing(sqlite3.connect(path)) as raw:
            try:
                found = raw.execute(f"SELECT pageno FROM dbstat WHERE name IN ({', '.join('?' * len(names))})", names)
                return [(number - 1) * 4096 for number, in found.fetchall()]
            except sqlite3.OperationalError:
                pytest.skip('this SQLite does not tell what its pages are for')

    OURS = ('entries', 'sqlite_autoindex_entries_1')
    THEIRS = ('copies', 'sqlite_autoindex_copies_1', 'people', 'by_name', 'by_photo', 'words_data', 'words_idx', 'words_content')

    def zeroed(self, path, *ranges):
        data = bytearray(path.read_bytes())
        for start, stop in ranges:
            data[start:stop] = bytes(stop - start)
        path.write_bytes(data)

    @pytest.mark.parametrize('ranges', [[], [(0, 100)], [(0, 4096)], [(4096, 8192)], [(8192, 12288)], [(32, 40)], [(28, 40)]],
                             ids=['sound', 'header', 'schema', 'root', 'index', 'free list', 'counts'])
    def test_other_tables_in_the_file_are_none_of_the_vaults(self, crowded, ranges):
        path, wanted = crowded
        self.zeroed(path, *ranges)
        done, entries = self.recovered(path)
        assert entries == wanted and list(entries) == list(wanted)
        assert done.whole and done.counted == done.recovered == len(wanted), done

    @pytest.mark.parametrize('also', [[], [(0, 4096)]], ids=['schema', 'no schema'])
    def test_damage_to_other_tables_is_none_of_the_vaults(self, crowded, also):
        path, wanted = crowded
        whole = path.read_bytes()
        for at in self.pages_of(path, *self.THEIRS)[::5]:
            path.write_bytes(whole)
            self.zeroed(path, (at, at + 4096), *also)
            done, entries = self.recovered(path)
            path.with_name('good.db').unlink()
            assert entries == wanted and done.whole, (at, done)

    @pytest.mark.parametrize('also', [[], [(0, 4096)], 'theirs'], ids=['schema', 'no schema', 'theirs'])
    def test_damage_to_the_vault_beside_other_tables_invents_no_losses(self, crowded, also):
        path, wanted = crowded
        whole = path.read_bytes()
        theirs = [(at, at + 4096) for at in self.pages_of(path, 'people', 'copies', 'words_idx')[::9]]
        for at in self.pages_of(path, *self.OURS)[::3]:
            path.write_bytes(whole)
            self.zeroed(path, (at, at + 4096), *(theirs if also == 'theirs' else also))
            done, entries = self.recovered(path)
            path.with_name('good.db').unlink()
            lost = {key for key, _ in done.lost}
            for key in list(done.doubtful) if also else ():  # what looks like an entry, where nothing tells whose it is
                assert key in wanted or (key.startswith('ghost') and entries.pop(key))
                done.doubtful.remove(key)
            assert lost | {*entries} == {*wanted} and not lost & {*entries}, at
            assert done.counted == len(wanted) or (also and done.counted is None), at
            assert all(wanted[key] == value for key, value in entries.items()) and not done.doubtful and not done.nameless, at

    def test_the_keys_of_a_leaf_that_is_gone_are_named(self, bad):
        path = bad()
        at = self.leaf_with(path, b'key 300')
        bad(at, at + 4096)
        done, entries = self.recovered(path)
        lost = [key for key, why in done.lost if why == recovering.UNREADABLE]
        assert {*lost, *entries} == {f'key {n}' for n in range(600)} and not {*lost} & {*entries}
        assert 'key 300' in lost and len(lost) < 100 and done.counted == 600 and done.nameless == 0
        assert list(entries) == sorted(entries, key=lambda key: int(key[4:])) and not done.doubtful

    def test_entries_are_counted_as_lost_where_no_key_names_them(self, bad):
        path = bad()
        leaf, index = self.leaf_with(path, b'key 300'), 8192
        data = bytearray(path.read_bytes())
        data[leaf:leaf + 4096] = data[index:index + 4096] = bytes(4096)
        for at in range(4096, len(data), 4096):
            if data[at] == 10:
                data[at:at + 4096] = bytes(4096)
        path.write_bytes(data)
        done, entries = self.recovered(path)
        assert done.lost == [] and done.counted == 600 and done.nameless == 600 - len(entries) > 20 and not done.whole

    @pytest.mark.parametrize('with_root', [True, False])
    def test_the_order_of_insertion_survives_a_page_full_of_damage(self, bad, with_root):
        path = bad()
        at = self.leaf_with(path, b'key 300')
        data = bytearray(path.read_bytes())
        cells = struct.unpack_from('>H', data, at + 3)[0]
        for cell in {*struct.unpack_from(f'>{cells}H', data, at + 8)[:cells - 2]}:
            data[at + cell + 1] = 0x80 + cell % 128  # of the id
            data[at + cell + 30] ^= 1  # of the value
        data[4096:8192] = data[4096:8192] if with_root else bytes(4096)
        path.write_bytes(data)
        done, entries = self.recovered(path)
        assert list(entries) == sorted(entries, key=lambda key: int(key[4:])) and 530 < len(entries) < 600
        assert len(entries) + len(done.lost) == 600 == done.counted

    def test_a_key_that_is_damaged_in_its_row_is_taken_from_the_index(self, bad):
        def fill(v):
            v['long'] = b'z' * 50_000
            with v.open('stream', 'wb') as file:
                file.write(b'stream' * 9000)
        path = bad(entries=100, fill=fill)
        data = bytearray(path.read_bytes())
        for leaf, key in ((self.leaf_with(path, b'key 50'), b'key 50'), (self.leaf_with(path, b'key 60'), b'key 60')):
            data[data.index(key, leaf) + 4] = 0xff if key == b'key 60' else ord('9')  # which is no UTF-8
        with contextlib.closing(Vault(path)) as v:
            owner, = v._store.part_numbers()
        for at in range(4096, len(data), 4096):
            if data[at] == 13 and owner in data[at:at + 4096] and b'stream' * 50 in data[at:at + 4096]:
                data[data.index(owner, at)] ^= 1
        path.write_bytes(data)
        done, entries = self.recovered(path)
        assert done.whole and [*entries] == [*(f'key {n}' for n in range(100)), 'long', 'stream']
        assert entries['stream'] == b'stream' * 9000 and entries['key 60'] == 'value 60 ' * 7

    @pytest.mark.parametrize('one, kind', [(2, 13), (3, 10), (4, 13)])
    def test_pages_that_have_changed_places_lose_nothing(self, bad, one, kind):
        path = bad()
        data = bytearray(path.read_bytes())
        root_, leaf = 4096 * (one - 1), self.leaf_with(path, b'key 99', kind)
        data[root_:root_ + 4096], data[leaf:leaf + 4096] = data[leaf:leaf + 4096], data[root_:root_ + 4096]
        path.write_bytes(data)
        done, entries = self.recovered(path)
        assert [*entries] == [f'key {n}' for n in range(600)] and done.whole

    def test_a_damaged_row_and_a_hit_in_its_overflow_are_named(self, bad):
        path = bad(entries=20, fill=lambda v: v.update(long=b'z' * 50_000, next=1))
        data = bytearray(path.read_bytes())
        data[data.rindex(b'zzzzz')] ^= 1
        data[data.index(b'value 7 ')] ^= 1
        path.write_bytes(data)
        done, entries = self.recovered(path)
        assert sorted(done.lost) == [('key 7', recovering.DAMAGED), ('long', recovering.DAMAGED)]
        assert len(entries) == 20 and entries['next'] == 1 and done.counted == 22

    def test_a_value_in_parts_is_copied_whole_or_named(self, bad):
        path = bad(entries=3, fill=lambda v: (v.list('one').extend(['a' * 3000] * 20), v.list('two').extend(['b' * 3000] * 20)))
        path.write_bytes(path.read_bytes().replace(b'a' * 2000, b'a' * 1999 + b'b'))
        done, entries = self.recovered(path)
        assert [key for key, _ in done.lost] == ['one'] and entries['two'] == ['b' * 3000] * 20 and len(entries) == 4
        with contextlib.closing(Vault(path.with_name('good.db'))) as v:
            assert len({*v._store.part_numbers()}) == 1  # nothing is left of the other

    def test_what_was_deleted_does_not_come_back(self, bad):
        path = bad(4096, 8192, cleared=True)
        assert b'value 300' in path.read_bytes()
        done, entries = self.recovered(path)
        assert done.whole and entries == {f'new {n}': f'new {n}' * 7 for n in range(100)}

    def test_what_may_have_been_deleted_is_named_where_the_free_pages_are_not_known(self, bad):
        done, entries = self.recovered(bad(0, 8192, cleared=True))
        assert {f'new {n}' for n in range(100)} <= {*entries} and {*done.doubtful} == {*entries} and len(entries) > 500

    def test_the_tree_tells_what_was_deleted_where_it_is_sound(self, bad):
        done, entries = self.recovered(bad(0, 4096, cleared=True))
        assert done.whole and entries == {f'new {n}': f'new {n}' * 7 for n in range(100)}

    def test_a_free_page_in_the_place_of_one_in_use_brings_nothing_back_unnamed(self, bad):
        path = bad(cleared=True)
        data = bytearray(path.read_bytes())
        used, free = (slice(at, at + 4096) for at in (self.leaf_with(path, b'new 50'), self.leaf_with(path, b'value 300')))
        data[used], data[free] = data[free], data[used]
        path.write_bytes(data)
        done, entries = self.recovered(path)
        assert {key for key in entries if key[:3] == 'key'} == {*done.doubtful} and 'key 300' in done.doubtful
        assert 'new 50' in [key for key, _ in done.lost]

    def test_a_serializer_comes_along(self, root):
        with contextlib.closing(Vault(root / 'bad.db', serializer=json)) as v:
            v['a'] = [1]
        assert recovery.recover(root / 'bad.db', root / 'good.db').whole
        with contextlib.closing(Vault(root / 'good.db', serializer=json)) as v:
            assert v['a'] == [1]

    def test_a_file_cut_off_anywhere_gives_what_is_before(self, bad):
        path = bad()
        whole = path.read_bytes()
        for size in (len(whole) - 1, len(whole) - 4096, len(whole) // 2 + 77, 5000, 4096):
            path.write_bytes(whole[:size])
            done, entries = self.recovered(path)
            path.with_name('good.db').unlink()
            assert all(entries[key] == f'value {key[4:]} ' * 7 for key in entries)
            there = -(-size // 4096), len(whole) // 4096
            assert len(entries) == 600 or there[0] == there[1] or '{} of {} pages'.format(*there) in done.notes[-1]

    @pytest.mark.parametrize('content', [b'', b'no vault', b'\x0d' * 10_000, b'SQLite format 3\0' + bytes(8000)])
    def test_what_is_no_vault_is_refused(self, root, content):
        (root / 'bad.db').write_bytes(content)
        with pytest.raises(vaults.VaultFormatError, match='nothing of a vault'):
            recovery.recover(root / 'bad.db', root / 'good.db')
        with contextlib.closing(sqlite3.connect(str(root / 'other.db'))) as raw:
            raw.execute('CREATE TABLE t (a, b, c, d)')
            raw.execute("INSERT INTO t VALUES (NULL, 'k', x'01', 5)")
            raw.commit()
        with pytest.raises(vaults.VaultFormatError, match='nothing of a vault'):
            recovery.recover(root / 'other.db', root / 'good.db')
        assert sorted(one.name for one in root.iterdir() if one.is_file()) == ['bad.db', 'other.db']

    def test_it_takes_no_place_that_is_taken(self, bad, root):
        path = bad()
        for name in ('good.db', 'good.db-wal', 'good.db.partial'):
            (root / name).write_bytes(b'mine')
            with pytest.raises(vaults.VaultError, match='already'):
                recovery.recover(path, root / 'good.db')
            assert (root / name).read_bytes() == b'mine'
            (root / name).unlink()
        for good, said in ((path, 'already'), (':memory:', 'memory')):
            with pytest.raises(vaults.VaultError, match=said):
                recovery.recover(path, good)
        for missing in (root / 'missing.db', ':memory:'):
            with pytest.raises(vaults.VaultNotFoundError):
                recovery.recover(missing, root / 'good.db')
        with pytest.raises(vaults.VaultFormatError, match='no file'):
            recovery.recover(root, root / 'good.db')

    def test_a_vault_that_is_open_here_or_written_to_is_refused(self, bad, root):
        path = bad()
        with contextlib.closing(Vault(path)), pytest.raises(vaults.VaultBusyError, match='open in this process'):
            recovery.recover(path, root / 'good.db')
        with pytest.raises(vaults.VaultBusyError, match='somebody wrote'):
            recovery.recover(path, root / 'good.db', lambda done, total: os.utime(path, (1, 1)))
        assert [one.name for one in root.iterdir() if one.is_file()] == ['bad.db']
        assert recovery.recover(path, root / 'good.db').whole

    def test_the_new_vault_appears_whole_or_an_interrupt_leaves_nothing_behind(self, bad, root):
        def interrupt(done, total):
            assert (root / 'good.db.partial').exists() and not (root / 'good.db').exists()
            if done == total:
                raise KeyboardInterrupt
        with pytest.raises(KeyboardInterrupt):
            recovery.recover(bad(), root / 'good.db', interrupt)
        assert [one.name for one in root.iterdir() if one.is_file()] == ['bad.db']

    def test_a_full_disk_leaves_nothing_behind(self, bad, root, monkeypatch):
        path, still_open = bad(), []
        monkeypatch.setattr(sqlite.SQLiteStore, 'close', lambda store: still_open.append(store))  # leaves the log, as SQLite does on a full disk
        with pytest.raises(vaults.VaultFullError, match='nothing was written'):
            recovery.recover(path, root / 'good.db')
        assert [one.name for one in root.iterdir() if one.is_file()] == ['bad.db']

    def test_the_command_tells_what_was_lost(self, bad, command, root):
        path = bad(entries=30, fill=lambda v: v.update({('log', 1): b'z' * 9000}))
        done = command('recover', path, root / 'one.db')
        assert (done.status, done.out) == (0, f"31 entries of 31 recovered to {root / 'one.db'}\n")
        data = bytearray(path.read_bytes())
        data[data.rindex(b'zzz')] ^= 1
        path.write_bytes(data)
        done = command('recover', path, root / 'two.db')
        assert done.status == 1 and done.out.splitlines()[0] == 'lost: ["log", 1]: its row is damaged'
        done = command('--json', 'recover', path, root / 'three.db')
        assert done.status == 1 and json.loads(done.out) == {
            'recovered': 30, 'counted': 31, 'nameless': 0, 'lost': [{'key': ['log', 1], 'why': 'its row is damaged'}],
            'doubtful': [], 'notes': []}
        assert command('count', root / 'three.db').out == '30\n'
        again = command('recover', path, root / 'three.db')
        assert again.status == 1 and 'already' in again.err
        path.write_bytes(bytes(12288))
        assert command('recover', path, root / 'four.db').status == 1


class TestTraps:
    """Section 8 of the design, each forced."""

    @pytest.mark.skipif(not guard.AVAILABLE, reason='no OFD locks on this system')
    def test_somebody_opens_and_closes_the_file_in_this_process(self, root):
        v = Vault('t')
        for n in range(100):
            v[n] = n
        with open(v.db_path, 'rb') as f:
            f.read()
        shutil.copy(v.db_path, root / 'copy')
        output("import sys, vaults; vaults.set_root_path(sys.argv[1]); v = vaults.Vault('t'); v['other'] = 1; v.close()",
               root)
        assert os.path.exists(v.db_path + '-wal')
        for n in range(100, 200):
            v[n] = n
        code = "import sys, vaults; vaults.set_root_path(sys.argv[1]); print(len(vaults.Vault('t')))"
        assert output(code, root) == '201'
        v._check()

    @pytest.mark.skipif(not guard.AVAILABLE, reason='no OFD locks on this system')
    def test_a_vault_opened_by_a_link_is_guarded_as_well(self, root):
        path = root / 'real.db'
        Vault(path).close()
        (root / 'link.db').symlink_to(path)
        v = Vault(root / 'link.db')
        assert len(guard._guards[v._store.file.identity]._held) == len(guard.PLACES)  # the shared memory, too

    @pytest.mark.parametrize('act', ['delete', 'replace', 'empty'])
    def test_a_file_deleted_or_replaced_underneath_is_noticed(self, root, act):
        v = Vault('t')
        v['k'] = 1
        if act == 'delete':
            os.unlink(v.db_path)
        elif act == 'empty':
            os.truncate(v.db_path, 0)
        else:
            Vault('u').close()
            os.replace(root / 'vaults' / 'u.db', v.db_path)
        with pytest.raises(vaults.VaultNotFoundError, match='deleted, emptied or replaced'), v:
            pass
        with pytest.raises(vaults.VaultNotFoundError):
            for n in range(200):
                v[n] = n
        v.close()

    GONE = {'gone': os.unlink, 'empty': lambda path: os.truncate(path, 0), 'no file': lambda path: (os.unlink(path), os.mkdir(path)),
            'another one': lambda path: (Vault('u', flag='n').close(), os.replace(os.path.join(os.path.dirname(path), 'u.db'), path))}

    @pytest.fixture(params=sorted(GONE))
    def stale(self, request, root):
        """Return a function that opens a vault whose file something then happens to, and the word for that."""
        def opened(**options):
            with contextlib.closing(Vault('t')) as v:
                v.update(dict.fromkeys(range(100), 'x' * 50))
            v = Vault('t', **options)
            if options.get('flag') != 'r':
                v['new'] = 1
                del v['new']
                v.sync()
            self.GONE[request.param](v.db_path)
            return v
        return opened, request.param

    @needs_posix
    @pytest.mark.parametrize('options', [{}, {'thread_safe': True}, {'writeback': True}, {'flag': 'r'}])
    def test_the_error_about_a_file_that_is_gone_says_what_it_is_now_and_how_to_go_on(self, stale, root, options):
        opened, word = stale
        v = opened(**options)
        for act in (v.__enter__, lambda: v.section('s').__enter__(), v.transaction().__enter__):
            with pytest.raises(vaults.VaultNotFoundError, match=f'{v.db_path} is {word}.* backup.*open it again'):
                act()
        if word != 'empty':  # of that it depends on what the log still holds
            assert word in v.check()[0]
            v.backup(root / 'saved')
            assert (root / 'saved').stat().st_mode & 0o777 == 0o600
            with contextlib.closing(Vault(root / 'saved')) as saved:
                assert saved == dict.fromkeys(range(100), 'x' * 50) and saved.check() == []
        v.close()

    @needs_posix
    def test_a_walk_over_what_is_gone_says_so_in_the_log_once(self, stale, caplog):
        v = stale[0]()
        assert len(v.items()[:]) == 100 and v.keys() == [*range(100)] and v[10:20]
        assert [record.getMessage().count(f'{v.db_path} is {stale[1]}') for record in caplog.records if record.name == 'vaults'] == [1]
        v.close()

    @needs_posix
    @pytest.mark.parametrize('options', [{}, {'thread_safe': True}, {'writeback': True}])
    def test_delete_vault_leaves_what_has_taken_the_files_place(self, stale, root, options):
        v = stale[0](**options)
        if stale[1] in ('gone', 'empty'):
            v.delete_vault()
            assert not os.path.exists(v.db_path)
            return
        with pytest.raises(vaults.VaultNotFoundError, match=f'is {stale[1]}'):
            v.delete_vault()
        v.close()
        assert os.path.exists(v.db_path)

    @needs_posix
    def test_another_thread_does_not_open_what_has_taken_the_files_place(self, stale):
        v = stale[0]()

        def read():
            with pytest.raises(vaults.VaultNotFoundError, match=f'is {stale[1]}'):
                v[7]
            with pytest.raises(vaults.VaultNotFoundError, match=f'is {stale[1]}'):
                v.put(7, 'x')
            return 'raised'
        assert in_thread(read) == 'raised'
        v.close()

    @needs_posix
    @needs_fork
    def test_a_forked_child_does_not_open_what_has_taken_the_files_place(self, stale):
        v = stale[0]()
        answer = in_child(lambda: v[7]).answer()
        assert 'VaultNotFoundError' in answer and f'is {stale[1]}' in answer
        v.close()

    def test_a_vault_that_was_pickled_before_its_file_was_moved_says_where_it_was(self, v, root):
        v['k'] = 1
        pickled = pickle.dumps(v)
        v.close()
        os.rename(v.db_path, root / 'elsewhere.db')
        with pytest.raises(vaults.VaultNotFoundError, match=f"'test' was pickled when its file was {re.escape(v.db_path)}"):
            pickle.loads(pickled)
        os.rename(root / 'elsewhere.db', v.db_path)
        with contextlib.closing(pickle.loads(pickled)) as again:
            assert again['k'] == 1

    @pytest.mark.skipif(not hasattr(os, 'mkfifo'), reason='no pipes with names on this system')
    def test_what_is_no_regular_file_is_refused_unopened(self, root):
        os.mkfifo(root / 'pipe')
        for flag in 'crwn':
            with pytest.raises(vaults.VaultFormatError, match='regular file'):
                Vault(root / 'pipe', flag=flag)

    @pytest.mark.parametrize('now', [-1e9, 0, 2**32 - 1, 2**32, 1e11])
    def test_a_clock_that_is_wrong_by_centuries_does_no_harm(self, v, monkeypatch, now):
        monkeypatch.setattr(time, 'time', lambda: now)
        monkeypatch.setattr(streams, 'LEAF', 1000)
        for _ in range(3):
            with v.open('stream', 'ab') as file:
                file.write(b'x' * 20_000)
            v.compact()
        assert v['stream'] == b'x' * 60_000 and v.check() == []

    @pytest.mark.parametrize('act, answer', [
        (lambda v: v['k'], 1), (lambda v: v.get('none', 2), 2), (lambda v: 'k' in v, True), (lambda v: 'none' in v, False),
        (lambda v: v.keys()[:2], ['k', 'other']), (lambda v: len(v) > 1, True), (lambda v: v.pop('k'), 1),
        (lambda v: (v.__delitem__('k'), 'k' in v), (None, False)), (lambda v: v.clear(), None), (lambda v: v['list'][:], [1]),
        (lambda v: (v.__delitem__(slice('a', 'k')), len(v) > 1, v.check()), (None, True, [])), (lambda v: v.check(), [])])
    def test_a_signal_handler_that_uses_the_vault_changes_no_answer(self, v, act, answer):
        v.update(k=1, other=2, a=3)
        v.list('list').append(1)
        c, calls, handling = v._store._local.c, itertools.count(), []
        execute = c.execute

        def signalled(*arguments):  # as every other one returns, a handler runs
            result = execute(*arguments)
            if not handling and next(calls) % 2 == 0:
                handling.append(True)
                v['handled'] = v.get('other')
                assert 'none' not in v and v.pop('handled') in (2, None)
                handling.clear()
            return result
        c.execute = signalled
        assert act(v) == answer
        v._check()

    @pytest.mark.parametrize('added', [1, 2])
    def test_what_a_signal_handler_puts_as_the_newest_is_deleted_is_counted(self, v, monkeypatch, added):
        v.update(dict.fromkeys('abc'))
        page = sqlite.SQLiteStore._page

        def signalled(store, c, sql, arguments):
            rows = page(store, c, sql, arguments)
            if sql == sqlite.DELETE:
                v.update(dict.fromkeys(range(added)))
            return rows
        monkeypatch.setattr(sqlite.SQLiteStore, '_page', signalled)
        del v['c']
        monkeypatch.undo()
        assert list(v) == ['a', 'b', *range(added)]
        v._check()

    @pytest.mark.parametrize('meanwhile', [
        lambda v: v.update(new=1), lambda v: v.move_to_end('a'),
        lambda v: v.move_to_end('a', last=False), lambda v: v.popitem()])
    def test_what_a_signal_handler_does_while_an_entry_is_deleted_is_counted(self, v, monkeypatch, meanwhile):
        v.update(dict.fromkeys('abcd'))
        del v['c']  # its id lies below that of the newest
        newest = sqlite.SQLiteStore._newest

        def interrupted(store, c):
            monkeypatch.setattr(sqlite.SQLiteStore, '_newest', newest)
            meanwhile(v)
            return newest(store, c)
        monkeypatch.setattr(sqlite.SQLiteStore, '_newest', interrupted)
        del v['d']
        assert len(v) == len(list(v)) and v.check() == []
        v._check()

    def test_what_a_signal_handler_writes_during_a_checkpoint_stays(self, v, monkeypatch):
        v['k'] = 1
        v._store._checkpoint(v._store._local.c)
        execute = v._store._checkpointer.execute
        monkeypatch.setattr(v._store._checkpointer, 'execute', lambda sql: (v.put('handled', 2), execute(sql))[1])
        v._store._checkpoint(v._store._local.c)
        assert Vault('test') == {'k': 1, 'handled': 2}

    def test_the_block_of_a_signal_handler_leaves_the_lock_to_the_call_it_interrupts(self, root, monkeypatch):
        v, crc32 = Vault('t', thread_safe=True), sqlite.crc32

        def signalled(*arguments):
            monkeypatch.undo()
            with v:
                v['handled'] = 1
            return crc32(*arguments)
        monkeypatch.setattr(sqlite, 'crc32', signalled)
        v['k'] = 2
        assert v == {'handled': 1, 'k': 2} and in_thread(lambda: is_free(v._store.lock))

    def test_mmap_is_off(self, v):
        assert v._store._local.c.execute('PRAGMA mmap_size').fetchone() in ((0,), None)

    def test_the_log_does_not_grow_without_bound_and_is_gone_after_closing(self, root):
        v = Vault('t')
        for n in range(6000):
            v[n % 50] = 'x' * 2000
        assert os.path.getsize(v.db_path + '-wal') < 3 * sqlite.CHECKPOINT
        v.update(dict.fromkeys(range(20000), 'x' * 200))
        for n in range(8000):
            del v[n]
        assert os.path.getsize(v.db_path + '-wal') < 4 * sqlite.CHECKPOINT
        v.close()
        assert os.listdir(root / 'vaults') == ['t.db']

    @pytest.mark.parametrize('in_threads', [False, True])
    def test_the_log_does_not_grow_without_bound_by_writers_that_come_and_go(self, v, monkeypatch, in_threads):
        monkeypatch.setattr(sqlite, 'LONG', 1 << 20)
        monkeypatch.setattr(connection, 'KEEP_LOG', 'PRAGMA journal_size_limit = 1000000')

        def write(into, number):
            for n in range(30):
                into[n] = f'{number}' * 1000
        for number in range(40):  # each writes some 200 KB
            if in_threads:
                thread = threading.Thread(target=write, args=(v, number))
                thread.start()
                thread.join()
            else:
                with contextlib.closing(Vault('test')) as passing:
                    write(passing, number)
        assert os.path.getsize(v.db_path + '-wal') < 2 << 20

    def test_a_vault_whose_threads_queue_is_compacted_and_lets_the_next_writer_in(self, root):
        v = Vault('queued', thread_safe=True)
        v['k'] = 1
        v.compact()
        thread = threading.Thread(target=v.put, args=('k', 2), daemon=True)
        thread.start()
        thread.join(10)
        assert v['k'] == 2

    def test_a_long_log_is_moved_when_those_who_were_reading_are_done(self, v, monkeypatch):
        v['k'] = 1
        reader = sqlite3.connect(v.db_path, isolation_level=None)
        reader.execute('BEGIN')
        reader.execute('SELECT * FROM entries').fetchall()
        v['k'] = 2
        waited = []

        def sleep(seconds):
            waited.append(seconds)
            if len(waited) == 3:
                reader.close()
        monkeypatch.setattr(sqlite, 'LONG', 0)
        monkeypatch.setattr(sqlite, 'sleep', sleep)
        v._store._checkpoint(v._store._local.c)
        assert len(waited) == 3
        v['k'] = 3
        v._store._checkpoint(v._store._local.c)
        assert len(waited) == 3

    def test_checkpoints_hold_the_write_lock(self, v, monkeypatch):
        v['k'] = 1
        store = v._store
        store._checkpoint(store._local.c)
        states = []

        class Watched:
            def execute(self, sql):
                states.append((sql, store._local.c.raw.in_transaction))
                other = sqlite3.connect(v.db_path, timeout=0, isolation_level=None)
                with pytest.raises(sqlite3.OperationalError, match='locked'):
                    other.execute('BEGIN IMMEDIATE')
                other.close()
                return self

            def fetchone(self):
                return (0, 0, 0)
        store._checkpointer = Watched()
        store._checkpoint(store._local.c)
        assert states == [('PRAGMA wal_checkpoint(PASSIVE)', True)]
        assert v._store._local.c.execute('PRAGMA wal_autocheckpoint').fetchone() == (0,)

    @pytest.mark.parametrize('flag', ['c', 'w', 'n'])
    def test_a_vault_whose_creation_was_cut_short_is_created_anew(self, root, flag):
        path = root / 'cut.db'
        Vault(path).close()
        with contextlib.closing(sqlite3.connect(str(path))) as raw:
            raw.execute('PRAGMA journal_mode = DELETE')
        journal = bytes.fromhex('d9d505f920a163d7') + struct.pack('>5I', 0, 1, 0, 512, 4096)  # before it: no page at all
        (root / 'cut.db-journal').write_bytes(journal.ljust(512, b'\0'))
        with contextlib.closing(Vault(path, flag=flag)) as vault:
            vault['k'] = 1
            vault._check()
        path.unlink()
        with contextlib.closing(sqlite3.connect(str(path))) as raw:
            raw.execute('CREATE TABLE others (a)')
        theirs = path.read_bytes()
        (root / 'cut.db-journal').write_bytes(journal.ljust(512, b'\0'))
        with pytest.raises(vaults.VaultFormatError):
            Vault(path)
        assert path.read_bytes() == theirs

    def test_an_fsync_that_failed_is_not_retried(self, v, caplog):
        v['k'] = 1
        store = v._store
        store._checkpoint(store._local.c)

        class Failing:
            def execute(self, sql):
                raise sqlite3.OperationalError('disk I/O error')
        store._checkpointer = Failing()
        c = store._local.c
        c.due = c.checkpointed = c.written - sqlite.CHECKPOINT
        v['done'] = 1  # the checkpoint is after it: an error would say that nothing was kept
        for act in (lambda: v['k'], lambda: v.put('k', 2), v.compact, v.sync):
            with pytest.raises(vaults.VaultFullError, match='opened again'):
                act()
        assert Vault('test').items() == [('k', 1), ('done', 1)] and 'opened again' in caplog.text
        v.close()

    @pytest.mark.parametrize('verb', ['sync', 'compact'])
    def test_an_error_after_which_the_vault_must_be_opened_again_says_so(self, v, verb):
        c = v._store._local.c
        v['k'] = 1
        real = c.execute

        def failing(sql, *arguments):
            if sql in ('COMMIT', 'PRAGMA wal_checkpoint(TRUNCATE)'):
                raise sqlite3.OperationalError('disk I/O error')
            return real(sql, *arguments)
        c.execute = failing
        with pytest.raises(vaults.VaultFullError, match='opened again'):
            getattr(v, verb)()
        with pytest.raises(vaults.VaultFullError, match='opened again'):
            v['k']
        assert Vault('test').items() == [('k', 1)]
        v.close()

    def test_a_block_of_a_signal_handler_undoes_nothing_while_a_checkpoint_runs(self, v, monkeypatch):
        real = v._store._move_log

        def move_log(checkpointer):
            v['put'] = 1
            with v:
                v['block'] = 2
            with contextlib.suppress(ZeroDivisionError), v:
                v['put'] = 1 / 0
            real(checkpointer)
        monkeypatch.setattr(v._store, '_move_log', move_log)
        v._store._checkpoint(v._store._local.c)
        assert dict(Vault('test')) == {'put': 1, 'block': 2} and not v._store._local.c.depth

    def test_a_checkpoint_that_is_put_off_is_logged(self, v, caplog):
        v['k'] = 1
        other = Vault('test')
        v._store.file.timeout = 0
        c = v._store._local.c
        c.execute('PRAGMA busy_timeout = 0')
        with other:
            v._store._checkpoint(c)
        assert 'put off' in caplog.text and v['k'] == 1

    @pytest.mark.parametrize('safe', [False, True])
    def test_where_little_stack_is_left_no_transaction_or_lock_stays_open(self, root, safe):
        assert output("""
            import sys, vaults
            vaults.set_root_path(sys.argv[1])
            v, other = vaults.Vault('t', thread_safe=sys.argv[2] == 'True'), vaults.Vault('t', timeout=0)
            def nested():
                with v, v:
                    v['k'] = (2, (3,))
            frame, depth, limit, outcomes = sys._getframe(), 0, sys.getrecursionlimit(), set()
            while frame:
                frame, depth = frame.f_back, depth + 1
            for act in (lambda: v.update(x=[1], new=2, other=3), lambda: v.put_many([('x', (1, {2}))]), nested):
                for more in range(3, 60):
                    try:
                        sys.setrecursionlimit(depth + more)
                        act()
                        outcomes.add('done')
                    except RecursionError:
                        outcomes.add('refused')
                    finally:
                        sys.setrecursionlimit(limit)
                    lock = getattr(v._store, 'lock', None)
                    assert not lock or not lock._is_owned(), more
                    other['after'] = more
                    assert v.pop('after') == more
            print(sorted(outcomes))""", root, safe) == "['done', 'refused']"

    def test_nul_and_like_in_text_keys(self, v):
        v.update({'a': 1, 'a\0': 2, 'a\0b': 3, 'A': 4, 'a%': 5, 'a_': 6})
        assert v.prefix('a\0').values() == [2, 3] and len(v) == 6 and v['a\0b'] == 3 and v.prefix('a%').values() == [5]

    def test_closing_with_a_busy_checkpoint_is_clean(self, root):
        code = '''
            import sys, vaults
            vaults.set_root_path(sys.argv[1])
            v, w = vaults.Vault('t'), vaults.Vault('t')
            v['k'] = 1
            walk = iter(w.items()); next(walk)
            w.__enter__()
            v.close(); v.close()
            w['k'] = 2
            import atexit; atexit.register(w.close)'''
        done = run(code, root)
        assert (done.returncode, done.stderr) == (0, '')
        assert Vault('t')['k'] == 1

    def test_a_dropped_vault_closes_itself_without_a_warning(self, root):
        code = '''
            import gc, os, sys, threading, vaults
            vaults.set_root_path(sys.argv[1])
            def use():
                v = vaults.Vault('t'); v['k'] = 1; list(v.items())
                walk = iter(v); next(walk)
            gc.disable()
            use()
            assert os.listdir(sys.argv[1] + '/vaults') == ['t.db'], os.listdir(sys.argv[1] + '/vaults')
            v = vaults.Vault('t')
            threading.Thread(target=v.get, args=('k',)).start()
            keep = vaults.Vault(':memory:')'''
        done = run(code, root)
        assert (done.returncode, done.stderr) == (0, '')

    def test_where_no_log_can_be_a_rollback_journal_keeps_the_promises(self, root, monkeypatch, caplog):
        monkeypatch.setattr(connection, 'uri_of', lambda path, parameters: f'file:{path}?{parameters}&vfs=unix-dotfile')
        v = Vault('t')
        assert 'rollback journal' in caplog.text
        v['a'] = 1
        with pytest.raises(ZeroDivisionError), v:
            v['b'] = 2
            1 / 0
        with v:
            v['c'] = 3
        assert v._store._local.c.execute('PRAGMA synchronous').fetchone() == (3,)
        assert v.items() == [('a', 1), ('c', 3)]
        v._check()
        v.close()
        assert os.listdir(root / 'vaults') == ['t.db']

    @pytest.mark.parametrize('asked', ['NORMAL', 'FULL', 'EXTRA'])
    def test_a_rollback_journal_that_is_gone_stays_gone(self, root, monkeypatch, asked):
        monkeypatch.setattr(connection, 'uri_of', lambda path, parameters: f'file:{path}?{parameters}&vfs=unix-dotfile')
        for _ in ('made', 'opened again'):
            v = Vault('t', synchronous=asked)
            assert v._store._local.c.execute('PRAGMA synchronous').fetchone() == (3,)
            v.sync()
            assert v._store._local.c.execute('PRAGMA synchronous').fetchone() == (3,)
            v.close()


class TestLog:
    def test_importing_adds_at_most_a_null_handler(self):
        code = '''
            import logging, vaults
            logger = logging.getLogger('vaults')
            print([type(handler).__name__ for handler in logger.handlers], logging.getLogger().handlers)'''
        assert output(code) == "['NullHandler'] []"

    def test_a_logger_of_ones_own(self, caplog):
        mine = logging.getLogger('mine')
        vaults.set_logger(mine)
        try:
            assert log.get_logger() is mine
        finally:
            vaults.set_logger(None)
        assert log.get_logger().name == 'vaults'


class TestFileFormat:
    """Persisted: never renumber."""

    def test_the_header_and_the_schema(self, v):
        v['a'] = v[True] = 1
        other = sqlite3.connect(v.db_path)
        assert other.execute('PRAGMA application_id').fetchone() == (0x7661756C,)
        assert other.execute('PRAGMA user_version').fetchone() == (1,)
        assert re.sub(r'\s+', ' ', other.execute('SELECT sql FROM sqlite_master').fetchone()[0]) == (
            'CREATE TABLE entries (id INTEGER PRIMARY KEY, key NOT NULL UNIQUE, value BLOB NOT NULL, '
            'crc INTEGER NOT NULL)')
        assert other.execute('SELECT * FROM entries').fetchall() == [
            (0, b'', b'', 0), (1, 'a', b'\x01', 0xa75873ee), (2, 1, b'\x01', (1 << 32) + 0xa064461b)]
        other.close()

    @pytest.mark.parametrize('stored, start', [('1', b't1'), (b'1', b'b1'), (1, b'i' + b'\0' * 7 + b'\x01'),
                                               (1.0, b'i' + b'\0' * 7 + b'\x01'), (True, b'i' + b'\0' * 7 + b'\x01'),
                                               (0.5, b'f\x3f\xe0' + b'\0' * 6), (2.0**70, b'f\x44\x50' + b'\0' * 6)])
    def test_the_checksum(self, stored, start):
        import zlib
        assert sqlite.checksum(stored, b'value') == zlib.crc32(start + b'value')

    def test_no_statement_numbers_its_parameters_as_python_3_12_warned_of_that_up_to_3_12_3(self):
        statements = [value for value in vars(sqlite).values() if isinstance(value, str) and '?' in value]
        assert len(statements) > 20
        assert [statement for statement in statements if re.search(r'\?\d', statement)] == []

    def test_the_marker_after_deleting_and_moving(self, v):
        raw = sqlite3.connect(v.db_path)
        v.update(a=1, b=2, c=3)
        steps = [(lambda: v.pop('b'), (0, b'', 1), [1, 3]), (lambda: v.pop('c'), (3, b'', 2), [1]),
                 (lambda: v.setdefault('d', 4), (3, b'', 2), [1, 4]), (lambda: v.move_to_end('a'), (3, b'', 3), [4, 5]),
                 (lambda: v.move_to_end('a', last=False), (6, b'-1', 4), [-1, 4]),
                 (lambda: v.move_to_end('d', last=False), (7, b'-2', 5), [-2, -1]), (v.clear, (7, b'-2', 7), [])]
        for act, marker, ids in steps:
            act()
            assert raw.execute("SELECT id, value, crc FROM entries WHERE key = x''").fetchall() == [marker]
            assert [row for row, in raw.execute("SELECT id FROM entries WHERE key <> x'' ORDER BY id")] == ids
            assert len(v) == len(ids) and v.check() == []
        raw.close()

    def test_the_count_needs_no_scan(self, v):
        v.update(dict.fromkeys(range(1000)))
        del v[3:9]
        v.popitem()
        seen = []
        v._store._local.c.raw.set_progress_handler(lambda: seen.append(1), 50)
        assert len(v) == 993
        v._store._local.c.raw.set_progress_handler(None, 0)
        assert len(seen) < 5


FILES = HERE / 'trials' / 'files'


@pytest.mark.parametrize('release', sorted(path.stem for path in FILES.glob('*.db')))
class TestFilesOfReleases:
    """A file that a release has written opens in every later one. The files are never changed: a release adds its own."""

    @pytest.fixture
    def table(self, release, monkeypatch):
        for attribute in ('_by_class', '_by_name'):
            monkeypatch.setattr(values, attribute, {**getattr(values, attribute)})
        spec = importlib.util.spec_from_file_location('table', FILES / f'{release}.py')
        table = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(table)
        table.register(vaults)
        return table

    @pytest.fixture
    def path(self, root, release):
        return pathlib.Path(shutil.copy(FILES / f'{release}.db', root / 'copy.db'))

    def test_it_reads_what_was_written_and_leaves_the_file_as_it_was(self, table, path, root):
        with contextlib.closing(Vault(path, flag='r', allow_pickle=table.PICKLED)) as v:
            assert table.differences(v) == []
            assert len(v) == len(table.EXPECTED) and v.section('users').section('ann') == {'mail': ['ann@example.org']}
        assert list(root.glob('copy*')) == [path]
        assert hashlib.sha256(path.read_bytes()).hexdigest() == table.SHA256

    def test_it_can_be_written_to(self, table, path):
        with contextlib.closing(Vault(path, to_create=False, allow_pickle=table.PICKLED)) as v:
            size, number = len(v.list('live list')), len(v.column('numbers', 'float64'))
            with v:
                v['newest'] = v.pop('replaced')
                del v['string':'surrogate']
                v.list('live list').append('more')
                v.column('numbers', 'float64').append(0.25)
            with v.open('stream', 'ab') as file:
                file.write(b'more')
            v.compact()
        with contextlib.closing(Vault(path, to_create=False, allow_pickle=table.PICKLED)) as v:
            assert list(v)[-1] == 'newest' and 'string' not in v and v['stream'] == table.STREAM + b'more'
            assert v['live list'][size:] == ['more'] and v['numbers'][number:].tolist() == [0.25]
            keys, *others = table.differences(v)
            assert keys.startswith('the keys are ')
            assert {line.split("'")[1] for line in others} == {'replaced', 'string', 'stream', 'live list', 'numbers'}

    def test_it_cannot_be_taken_for_another_one(self, table, path):
        """What the table does not hold is seen: the other tests can fail."""
        with contextlib.closing(Vault(path, allow_pickle=table.PICKLED)) as v:
            v['yes'] = 1
            v['more'] = 2
            assert len(table.differences(v)) == 2


def test_every_release_has_left_its_file():
    assert (FILES / f'{vaults.__version__}.db').exists()


class DictStore(Store):
    """The oracle of the conformance suite: the contract, met in the plainest way."""

    def __init__(self):
        self.entries, self.parts, self.owners, self.saved, self.given = {}, {}, {}, [], 0

    def get(self, key):
        return self.entries[key][1] if key in self.entries else None

    def contains(self, key):
        return key in self.entries

    def put(self, key, data):
        if key not in self.entries:
            self.given += 1
        self.entries[key] = (self.entries.get(key, (self.given,))[0], data)
        self.disown(key)

    def put_owner(self, key, data):
        before = self.owners.pop(key, data[-12:])
        self.put(key, data)
        self.owners[key] = data[-12:]
        if before != data[-12:]:
            self.delete_parts(before)

    def disown(self, key):
        if key in self.owners:
            self.delete_parts(self.owners.pop(key))

    def get_part(self, owner, number):
        return self.parts.get((owner, number))

    def put_parts(self, owner, parts):
        self.parts.update({(owner, number): data for number, data in parts})

    def delete_parts(self, owner, numbers=None):
        self.parts = {(one, number): data for (one, number), data in self.parts.items()
                      if one != owner or (numbers is not None and number not in numbers)}

    def part_numbers(self, owner=None):
        return iter(sorted({number if owner else one for one, number in self.parts if owner in (None, one)}))

    def put_many(self, pairs):
        pairs = list(pairs)
        for pair in pairs:
            self.put(*pair)
        return len(pairs)

    def delete(self, key):
        self.deletions += 1
        self.disown(key)
        return self.entries.pop(key, None) is not None

    def move(self, key, last=True):
        if key not in self.entries:
            return False
        self.deletions += 1
        self.given += 1
        moved = {old: (self.given, data) for old, (_, data) in self.entries.items() if old == key}
        others = {old: entry for old, entry in self.entries.items() if old != key}
        self.entries = {**others, **moved} if last else {**moved, **others}
        return True

    def inside(self, low, high):
        return [key for key in sorted(self.entries, key=keys.order) if keys.order(low) <= keys.order(key) < keys.order(high)]

    def delete_range(self, low=keys.LOWEST, high=keys.HIGHEST):
        return sum(self.delete(key) for key in self.inside(low, high))

    def count(self, low=keys.LOWEST, high=keys.HIGHEST):
        return len(self.inside(low, high))

    def scan(self, low=keys.LOWEST, high=keys.HIGHEST, *, by_key=False, reverse=False, values=True):
        found = self.inside(low, high)
        found = found if by_key else [key for key in self.entries if key in found]
        found = found[::-1] if reverse else found
        if found:
            yield found, [self.entries[key][1] for key in found] if values else None, self.contains

    def begin(self, who=None):
        self.saved.append((dict(self.entries), dict(self.parts), dict(self.owners)))

    def commit(self, who=None):
        self.saved.pop()

    def rollback(self, who=None):
        self.deletions += 1
        self.entries, self.parts, self.owners = self.saved.pop()

    def close(self):
        pass


OWNERS = [b'owner%7d' % number for number in range(3)]
STORES = {'sqlite': lambda root: sqlite.open_store(str(root / 's.db')),
          'queued': lambda root: sqlite.open_store(str(root / 's.db'), thread_safe=True),
          'memory': lambda root: sqlite.open_store(':memory:'), 'dict': lambda root: DictStore(),
          'write-back': lambda root: LiveStore(sqlite.open_store(str(root / 's.db')), values.Codec(values.Refusing()), 's.db', 2, 5.0)}


class TestHostileFiles:
    """Files that somebody made to do harm, in the form of a vault."""

    @pytest.mark.parametrize('attack', [
        'DROP TABLE entries; CREATE VIEW entries AS WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) '
        "SELECT x AS id, 'k' || x AS key, x'01' AS value, 0 AS crc FROM c",
        'CREATE TRIGGER bomb AFTER INSERT ON entries BEGIN DELETE FROM entries; END',
        'CREATE TABLE other (x); CREATE TRIGGER bomb AFTER INSERT ON other BEGIN DELETE FROM Entries; END',
        'DROP TABLE entries; CREATE TABLE entries (id INTEGER PRIMARY KEY, key NOT NULL UNIQUE, value, crc)',
        'CREATE INDEX bomb ON entries(length(key))', 'DROP TABLE entries', 'CREATE VIEW parts AS SELECT 1'])
    def test_a_file_whose_tables_are_programs_is_refused(self, root, attack):
        Vault('v').close()
        path = root / 'vaults' / 'v.db'
        with contextlib.closing(sqlite3.connect(str(path))) as raw:
            raw.executescript(attack)
        for flag in 'rwc':
            with pytest.raises((vaults.VaultFormatError, vaults.VaultCorruptError)):
                Vault('v', flag=flag)
        with pytest.raises((vaults.VaultFormatError, vaults.VaultCorruptError)):
            list(moving.read(path))

    def test_tables_of_others_in_the_file_are_left_alone(self, root):
        with contextlib.closing(Vault('v')) as v:
            v['k'] = 1
            v.list('list').append(1)
        with contextlib.closing(sqlite3.connect(str(root / 'vaults' / 'v.db'))) as raw:
            raw.executescript("ANALYZE; CREATE TABLE notes (x CHECK (length(printf('%.*c', 400000000, 'x')) > 0));"
                              'PRAGMA ignore_check_constraints = ON; INSERT INTO notes VALUES (1)')
        with contextlib.closing(Vault('v')) as v:
            assert v.check() == [] and v['k'] == 1 and v['list'] == [1]

    @pytest.mark.parametrize('attack', [
        "UPDATE entries SET crc = -9223372036854775807 WHERE key = x''", "DELETE FROM entries WHERE key = x''",
        "UPDATE entries SET crc = -1e300 WHERE key = x''",
        'UPDATE entries SET id = 9223372036854775807 WHERE id = 2', 'DELETE FROM entries'])
    def test_numbers_that_lie_are_damage(self, root, attack):
        with contextlib.closing(Vault('v')) as v:
            v.update(a=1, b=2)
        with contextlib.closing(sqlite3.connect(str(root / 'vaults' / 'v.db'))) as raw:
            raw.executescript(attack)
        with contextlib.closing(Vault('v')) as v:
            assert v.check()
            for use in (lambda: list(v), lambda: list(reversed(v)), lambda: v.pop('b'), lambda: v.pop('a'), v.clear):
                with contextlib.suppress(vaults.VaultError, KeyError):
                    use()


    @pytest.mark.parametrize('lie', ["'-5'", "'9999999999999999999999'", "'-9223372036854775808'", "x'ff00'", "'text'", "'5'", '7', '-1.5'])
    def test_a_lowest_id_that_lies_does_no_harm(self, root, lie):
        with contextlib.closing(Vault('v')) as v:
            v.update(a=1, b=2, c=3)
            v.move_to_end('b', last=False)
        with contextlib.closing(sqlite3.connect(str(root / 'vaults' / 'v.db'))) as raw:
            raw.execute(f"UPDATE entries SET value = {lie} WHERE key = x''")
            raw.commit()
        with contextlib.closing(Vault('v')) as v:
            assert v.keys() == ['b', 'a', 'c']
            try:
                v.move_to_end('c', last=False)
                assert v.keys() == ['c', 'b', 'a']
            except vaults.VaultError:
                assert v.keys() == ['b', 'a', 'c']
            v['d'] = 4
            assert len(v) == 4 and v.check() == []
            v.clear()
            assert v == {} and v.check() == []


class TestStoreConformance:
    """Every store meets the contract, with a dict as the oracle."""

    stored_keys = st.one_of(st.booleans(), st.integers(-5, 5), st.floats(-3, 3), st.sampled_from('abc'),
                            st.binary(max_size=2).map(lambda data: b'\x04' + data))
    operations = st.lists(st.one_of(
        st.tuples(st.just('put'), stored_keys, st.binary(max_size=4)), st.tuples(st.just('delete'), stored_keys),
        st.tuples(st.just('move'), stored_keys, st.booleans()),
        st.tuples(st.just('delete_range'), stored_keys, stored_keys), st.tuples(st.just('delete_range')),
        st.tuples(st.just('put_many'), st.lists(st.tuples(stored_keys, st.binary(max_size=4)), max_size=4)),
        st.tuples(st.just('put_owner'), stored_keys, st.sampled_from(OWNERS)),
        st.tuples(st.just('put_parts'), st.sampled_from(OWNERS), st.dictionaries(st.integers(1, 2**40), st.binary(max_size=4))),
        st.tuples(st.just('delete_parts'), st.sampled_from(OWNERS), st.none() | st.lists(st.integers(1, 4), max_size=3)),
        st.tuples(st.sampled_from(['begin', 'commit', 'rollback']))), max_size=25)

    @pytest.mark.parametrize('kind', STORES)
    @given(operations=operations)
    def test_every_operation_does_what_the_oracle_does(self, kind, operations, tmp_path_factory):
        oracle, given = DictStore(), set()
        store = STORES[kind](tmp_path_factory.mktemp('store'))
        for name, *arguments in operations:
            if name in ('commit', 'rollback') and not oracle.saved:
                continue
            if name == 'put_parts':
                given = {(owner, number) for owner, number in oracle.parts} | given
                arguments[1] = [(number, data) for number, data in arguments[1].items() if (arguments[0], number) not in given]
            assert getattr(store, name)(*arguments) == getattr(oracle, name)(*arguments)
            self.same(store, oracle)
        while oracle.saved:
            store.rollback()
            oracle.rollback()
        self.same(store, oracle)
        assert store.check(lambda key, data: None) == []
        empty = sum(not data for _, data in oracle.entries.values())
        assert store.check(lambda key, data: None if data else 'found') == ['found'] * empty
        store.close()

    def same(self, store, oracle):
        def flat(pages):
            return [entry for page in pages for entry in zip(*page[:2])]
        assert store.count() == oracle.count() and store.count(0, 'b') == oracle.count(0, 'b')
        assert list(store.part_numbers()) == list(oracle.part_numbers())
        for owner in OWNERS:
            numbers = list(store.part_numbers(owner))
            assert numbers == list(oracle.part_numbers(owner))
            assert [store.get_part(owner, one) for one in [*numbers, 0]] == [oracle.get_part(owner, one) for one in [*numbers, 0]]
        for options in ({}, {'reverse': True}, {'by_key': True}, {'by_key': True, 'reverse': True}, {'low': 0, 'high': 'b'},
                        {'low': 0, 'high': 'b', 'reverse': True}):
            mine, theirs = flat(store.scan(**options)), flat(oracle.scan(**options))
            assert repr(mine).replace('-0.0', '0.0') == repr(theirs).replace('-0.0', '0.0')
            names = [key for page in store.scan(values=False, **options) for key in page[0]]
            assert [*map(type, names)] == [type(key) for key, _ in theirs] and names == [key for key, _ in theirs]
        for key, (_, data) in oracle.entries.items():
            assert store.get(key) == data and store.contains(key)
        assert store.get('none') is None and not store.contains('none')

    def test_a_store_without_files_says_what_it_cannot(self):
        store = DictStore()
        store.sync()
        store.compact()
        with pytest.raises(vaults.VaultError, match='DictStore'):
            store.backup('x')

    def test_the_contract_is_eleven_operations_and_five_for_parts(self):
        parts = {'get_part', 'put_parts', 'delete_parts', 'part_numbers', 'put_owner'}
        assert parts < Store.__abstractmethods__ and len(Store.__abstractmethods__ - parts - {'commit', 'rollback'}) == 11


def statements(v):
    """Return a list that will hold the SQL which this thread's connection runs from now on."""
    seen = []
    store = getattr(v._store, '_store', v._store)
    store._local.c.raw.set_trace_callback(seen.append)
    return seen


# A program in the background of a shell begins with the signal ignored.
INTERRUPTED = 'signal.signal(signal.SIGINT, signal.default_int_handler); os.kill(os.getpid(), signal.SIGINT); time.sleep(9)'


def written(seen):
    return [line for line in seen if line.lstrip().startswith('INSERT')]


class TestWriteBack:
    """`writeback=True`: values are live objects, written when they have changed."""

    @pytest.fixture
    def w(self, root):
        vault = Vault('test', writeback=True)
        yield vault
        if 'closed' not in repr(vault):
            vault._check()
            vault.close()

    def test_what_is_changed_in_place_sticks(self, w):
        w['log'] = log = []
        log.append(1)
        w['log'].append(2)
        w.setdefault('seen', {})['a'] = 1
        w.get('seen')['b'] = 2
        assert w['log'] is log and Vault('test').items() == [('log', [1, 2]), ('seen', {})]
        w.sync()
        assert Vault('test').items() == [('log', [1, 2]), ('seen', {'a': 1, 'b': 2})]
        w['log'].append(3)
        w.close()
        assert Vault('test')['log'] == [1, 2, 3]

    def test_objects_that_were_written_stay_live(self, w):
        w['log'] = log = [1]
        for n in range(3):
            log.append(n)
            w.sync()
            assert Vault('test')['log'] == log
        w.update(log=[5])
        w['log'].append(6)
        w.put_many([('other', [7])])
        w['other'].append(8)
        w.sync()
        assert Vault('test').items() == [('log', [5, 6]), ('other', [7, 8])]

    def test_a_hot_read_or_write_runs_no_sql(self, w):
        w['k'] = [1]
        w.sync()
        seen = statements(w)
        for n in range(5):
            w['k'] = w['k'] + w.get('k') + [n]
            assert 'k' in w
        assert seen == []

    def test_only_what_changed_is_written_and_in_one_transaction(self, w):
        w.update({n: {'n': n} for n in range(20)})
        for n in range(20):
            w[n]['n'] += n % 10 == 5
        w['text'] = 'a'
        w[3] = {'n': 3}
        seen = statements(w)
        w.sync()
        assert len(written(seen[:seen.index('COMMIT')])) == 3 == len(written(seen))
        assert Vault('test').items() == [*((n, {'n': n + (n % 10 == 5)}) for n in range(20)), ('text', 'a')]
        seen.clear()
        w.sync()
        assert written(seen) == []

    def test_a_set_that_packs_in_another_order_than_it_was_stored_has_not_changed(self, w):
        grown = set(range(1000))
        grown -= set(range(1000)) - {1, 8}
        w.update(s=grown)
        w.close()
        w = Vault('test', writeback=True)
        assert values.dumps(w['s']) != values.dumps(grown) and w['s'] == grown
        seen = statements(w)
        w.sync()
        assert written(seen) == []
        w['s'].add(2)
        w.sync()
        assert Vault('test')['s'] == {1, 2, 8}

    def test_values_that_cannot_change_are_not_compared(self, w, monkeypatch):
        w.update(enumerate([None, 1, 1.5, 'a', b'a', True, dt.date(2026, 1, 1), 1j]))
        w.update(log=[1])
        assert [w[key] for key in w] and len(w._store._live) == 9
        packed = []
        monkeypatch.setattr(w._store, '_codec', Recording(w._store._codec, packed))
        w.sync()
        assert packed == [[1]]

    def test_the_cache_is_bounded_and_the_least_recently_used_goes_first_and_is_written(self, root):
        w = Vault('test', writeback=True, cache_size=4)
        for n in range(4):
            w[n] = [n]
        assert w[0].append('changed') is None
        w[4] = [4]
        assert list(w._store._live) == [2, 3, 0, 4]  # the order of use
        w[2] = [2]
        assert list(w._store._live) == [3, 0, 4, 2]
        for n in range(5, 100):
            w[n] = [n]
            w[n].append(n)
            w[0].append(n)
            assert len(w._store._live) <= 4 and 0 in w._store._live
        assert len(Vault('test')) > 90
        w.close()
        assert Vault('test').items() == [(0, [0, 'changed', *range(5, 100)]), *((n, [n]) for n in range(1, 5)),
                                         *((n, [n, n]) for n in range(5, 100))]

    def test_insertion_order_is_that_of_the_writes_however_they_leave_the_cache(self, root):
        w = Vault('test', writeback=True, cache_size=2)
        for key in 'abcdef':
            w[key] = key
            w.get('a')
        assert w.keys() == list('abcdef')
        w.close()
        assert Vault('test').keys() == list('abcdef')

    @pytest.mark.parametrize('size', [0, -1, 'a', 1.5, None])
    def test_a_cache_size_that_is_none_is_refused(self, root, size):
        with pytest.raises(vaults.VaultError, match='cache_size'):
            Vault('test', writeback=True, cache_size=size)
        assert not list(root.iterdir()) or not list(root.joinpath('vaults').iterdir())

    def test_a_value_that_cannot_be_packed_is_named_and_loses_nothing_else(self, w):
        w.update(good=[1], bad=[1])
        w['good'].append(2)
        w['bad'].append(lambda: 0)
        w['new'] = 'x'
        for _ in range(2):
            with pytest.raises(vaults.SerializationError, match=r"key 'bad'.*all else was written"):
                w.sync()
        assert Vault('test').items() == [('good', [1, 2]), ('bad', [1]), ('new', 'x')]
        with pytest.raises(vaults.SerializationError, match="'bad'"):
            w.close()
        w['bad'].pop()
        w['bad'].append(2)
        w.close()
        assert Vault('test')['bad'] == [1, 2]

    def test_a_new_value_that_cannot_be_packed_is_reported_when_it_would_be_counted(self, w):
        w['bad'] = lambda: 0
        w['good'] = 1
        for look in (lambda: len(w), lambda: list(w), lambda: w.items() == [], w._check):
            with pytest.raises(vaults.SerializationError, match="'bad'"):
                look()
        assert Vault('test').items() == [('good', 1)] and 'bad' in w
        w.update(more=2)
        assert w.pop('bad') is not None and w.items() == [('good', 1), ('more', 2)] and 'bad' not in w
        w['bad'] = lambda: 0
        w.update(bad='good')
        assert w.pop_many(['bad', 'more']) == {'bad': 'good', 'more': 2}
        w['bad'] = lambda: 0
        del w['bad']
        assert w.items() == [('good', 1)] and 'bad' not in w

    def test_what_cannot_be_packed_stays_when_the_cache_is_full(self, root, caplog):
        w = Vault('test', writeback=True, cache_size=2)
        w['bad'] = bad = lambda: 0
        for n in range(20):
            w[n] = [n]
            assert len(w._store._live) <= 3
        assert w['bad'] is bad and len(Vault('test')) >= 17
        with pytest.raises(vaults.SerializationError, match="'bad'"):
            w.sync()
        w['bad'] = 'good'
        w.sync()
        assert Vault('test')['bad'] == 'good' and len(w) == 21

    def test_untrusted_pickles_are_refused_when_they_would_be_written(self, root):
        w = Vault('test', writeback=True, allow_pickle=False)
        w['p'] = [1]
        w['p'].append(Custom(1))
        with pytest.raises(vaults.UntrustedPickleError, match="'p'"):
            w.sync()
        del w['p']
        w.close()

    def test_a_block_is_all_or_nothing_and_what_was_changed_before_it_stays(self, w):
        w.update(a=[1], b=[1])
        w['a'].append(2)
        w['new'] = 'before'
        with pytest.raises(KeyError), w:
            w['a'].append(3)
            w['b'].append(3)
            w['c'] = [3]
            w['new'] = 'inside'
            del w['b']
            raise KeyError
        assert w.items() == [('a', [1, 2]), ('b', [1]), ('new', 'before')]
        assert Vault('test').items() == w.items()
        with w:
            w['a'].append(4)
            with pytest.raises(ValueError), w.transaction():
                w['a'].append(5)
                w['b'] = 5
                raise ValueError
            with w.transaction():
                w['c'] = 6
            assert w.items() == [('a', [1, 2, 4]), ('b', [1]), ('new', 'before'), ('c', 6)] and not w._store.hot
        assert Vault('test').items() == w.items() and w._store.hot is w._store._live
        with pytest.raises(ValueError), w:
            raise ValueError
        assert w._store.hot is w._store._live

    def test_a_block_with_a_value_that_cannot_be_packed_is_undone(self, w):
        w.update(a=[1])
        w['a'].append(2)
        with pytest.raises(vaults.SerializationError, match=r"key 'bad'.*the block was undone"), w:
            w['a'].append(3)
            w['bad'] = lambda: 0
        assert w.items() == [('a', [1, 2])] == Vault('test').items()
        with w:
            w['ok'] = 1
        assert Vault('test')['ok'] == 1

    def test_edit_and_the_rest_of_a_vault_know_the_live_objects(self, w, root):
        with w.edit('todo', []) as todo:
            todo.append(1)
        assert Vault('test')['todo'] == [1] and w['todo'] is todo
        w['todo'].append(2)
        w['b'] = 'b'
        assert w.copy() == {'todo': [1, 2], 'b': 'b'} == w and w.has_keys(['todo', 'b'])
        assert w.get_many(['b', 'todo']) == {'b': 'b', 'todo': [1, 2]} and w['a':'c'].items() == [('b', 'b')]
        assert w.values() == [[1, 2], 'b'] and w[:].last() == ('todo', [1, 2]) and list(w.irange('a', 'b')) == ['b']
        assert list(reversed(w)) == ['b', 'todo'] and w.prefix('to').values() == [[1, 2]] and (w | {}) == w
        w['todo'].append(3)
        w.backup(root / 'copy.db')
        assert Vault(root / 'copy.db')['todo'] == [1, 2, 3]
        w['todo'].append(4)
        w.compact()
        assert Vault('test')['todo'] == [1, 2, 3, 4] and w.check() == []

    def test_deleting_takes_the_live_object_along(self, w):
        w.update({n: [n] for n in range(10)})
        for n in range(10):
            w[n].append('changed')
        w['new'] = [1]
        w['new'].append(2)
        del w[0]
        assert w.pop(1) == [1, 'changed'] and w.pop('new') == [1, 2] and w.pop('none', 5) == 5
        assert w.popitem() == (9, [9, 'changed']) and w.pop_many([2, 'none']) == {2: [2, 'changed']}
        del w[3:6]
        for key in (0, 1, 2, 3, 4, 5, 9, 'new', 'none'):
            assert key not in w and w.get(key) is None
            with pytest.raises(KeyError):
                del w[key]
        assert w.items() == [(n, [n, 'changed']) for n in (6, 7, 8)]
        w['last'] = 1
        w.clear()
        assert w.items() == [] and 6 not in w
        w.sync()
        assert Vault('test').items() == []
        w[6] = 'again'
        assert w.items() == [(6, 'again')]

    def test_what_a_failed_call_would_have_taken_is_still_there(self, w, monkeypatch):
        w.update(a=[1], b=[1])
        w['a'].append(2)
        with pytest.raises(ZeroDivisionError):
            w.update((key, [1 / (key == 'a')]) for key in 'ab')
        with pytest.raises(vaults.SerializationError, match="'b'"):
            w.update({'a': 1, 'b': lambda: 0})

        commit = w._store._store.commit

        def full(*_):
            if w._store._store._local.c.depth < 2:
                raise vaults.VaultFullError('no room')
            commit()
        with monkeypatch.context() as patch:
            patch.setattr(w._store._store, 'commit', full)
            for act in (lambda: w.pop('a'), lambda: w.setdefault('c', 1), lambda: w.popitem()):
                with pytest.raises(vaults.VaultFullError):
                    act()
        with pytest.raises(vaults.SerializationError, match="'c'"):
            w.setdefault('c', lambda: 0)
        assert 'c' not in w and len(w) == 2
        with monkeypatch.context() as patch:
            patch.setattr(w._store._store, 'put_many', full)
            with pytest.raises(vaults.VaultFullError):
                w.sync()
        assert w['a'] == [1, 2] and w['b'] == [1]
        w.sync()
        assert Vault('test')['a'] == [1, 2]

    def test_what_leaves_the_cache_in_a_call_that_fails_is_not_lost(self, root):
        w = Vault('test', writeback=True, cache_size=4)
        w.update({n: [n] for n in range(12)})
        for act in (lambda keys: w.update((key, 1 / (11 - w[key][0])) for key in keys),
                    lambda keys: w.pop_many(key for key in keys if 1 / (11 - w[key][0]))):
            for n in range(3):
                w[n].append('changed')
            w['new'] = ['new']
            with pytest.raises(ZeroDivisionError):
                act(range(4, 12))
            assert w['new'] == ['new'] and list(w)[:12] == list(range(12))
            assert [w[n].pop() for n in range(3)] == ['changed'] * 3
        assert w.items() and len(w._store._live) <= 4
        w.close()
        assert dict(Vault('test').items()) == {**{n: [n] for n in range(12)}, 'new': ['new']}

    def test_closing_loses_no_write_that_another_thread_was_told_of(self, root):
        for turn in range(15):
            w = Vault(f'test{turn}', writeback=True)
            last = {}

            def work(me, w=w, last=last):
                with contextlib.suppress(vaults.VaultClosedError):
                    for n in itertools.count():
                        w[me] = n
                        last[me] = n
            threads = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(3)]
            for thread in threads:
                thread.start()
            time.sleep(0.01)
            w.close()
            for thread in threads:
                thread.join(10)
            stored = dict(Vault(f'test{turn}').items())
            assert all(stored[me] in (n, n + 1) for me, n in last.items()), (stored, last)

    def test_what_has_written_its_last_takes_no_more(self, w):
        w['a'] = 1
        w._store.finish()
        for act in (lambda: w.put('late', 1), lambda: w._store.hold('late', 1)):  # as a thread that waited meanwhile
            with pytest.raises(vaults.VaultClosedError):
                act()
        w.close()
        assert Vault('test').items() == [('a', 1)]

    def test_reading_in_threads_disturbs_nobody(self, w):
        w.update({n: [n] for n in range(300)})
        other, stop = Vault('test'), threading.Event()

        def read():
            while not stop.is_set():
                for n in range(300):
                    w.get(n)
        threads = [threading.Thread(target=read, daemon=True) for _ in range(3)]
        before = sys.getswitchinterval()
        sys.setswitchinterval(1e-5)
        try:
            for thread in threads:
                thread.start()
            for turn in range(30):
                other[turn] = ['theirs']
                w.sync()
                del w[290 - turn:291 - turn]
                with pytest.raises(KeyError), w:
                    raise KeyError
        finally:
            stop.set()
            sys.setswitchinterval(before)
        for thread in threads:
            thread.join(10)
        assert dict(w.items()) == dict(other.items()) and len(w) == 270

    @pytest.mark.parametrize('act', ['update', 'delete', 'pop', 'slice'])
    def test_an_interrupt_after_the_commit_undoes_nothing(self, w, monkeypatch, act):
        inner = w._store._store
        w.update(a=[0], b=[0])
        w['a'].append(1)
        name = {'update': 'put_many', 'delete': 'delete', 'pop': 'transact', 'slice': 'delete_range'}[act]
        real, done = getattr(inner, name), []

        def interrupted(*arguments):
            result = real(*arguments)
            if not done and not inner._local.c.depth:
                done.append(result)
                raise KeyboardInterrupt
            return result
        acts = {'update': lambda: w.update(a=[5], z=[2]), 'delete': lambda: w.__delitem__('a'), 'pop': lambda: w.pop('a'),
                'slice': lambda: w.__delitem__(slice('a', 'b'))}
        with monkeypatch.context() as patch:
            patch.setattr(inner, name, interrupted)
            with pytest.raises(KeyboardInterrupt):
                acts[act]()
        left = {'a': [5], 'b': [0], 'z': [2]} if act == 'update' else {'b': [0]}
        assert dict(w.items()) == left and ('a' in w) == ('a' in left)
        w.sync()
        assert dict(Vault('test').items()) == left

    def test_what_a_failing_update_read_of_itself_is_forgotten(self, w):
        w.update(a=1, c=[1])
        w['c'].append(2)

        def pairs():
            yield 'new', 1
            yield 'a', w['new'] + 1
            yield 'c', w['a']
            w['late'] = w['c']
            raise ZeroDivisionError
        with pytest.raises(ZeroDivisionError):
            w.update(pairs())
        assert w.get('new') is None and 'new' not in w and 'late' not in w
        assert (w['a'], w['c'], len(w)) == (1, [1, 2], 2)
        w.sync()
        assert Vault('test').items() == [('a', 1), ('c', [1, 2])]

    def test_a_call_that_fails_forgets_nothing_of_an_earlier_one(self, w):
        w.update(a=[1], b=[1])
        w.sync()
        again = Vault('test', writeback=True)
        again.update((key, again['b'] + [2]) for key in 'a')  # loads b
        again['b'].append('changed')
        with pytest.raises(ZeroDivisionError):
            again.update((key, 1 / 0) for key in 'c')
        assert again['b'] == [1, 'changed']
        again.close()

    def test_what_an_update_sets_on_the_way_comes_in_its_order(self, w):
        def pairs():
            yield 'a', 1
            w['a'] = 2
            yield 'b', 1
            w['b'] = 2
            yield 'b', 3
        w.update(pairs())
        assert w.items() == [('a', 2), ('b', 3)]
        w.sync()
        assert Vault('test').items() == [('a', 2), ('b', 3)]

    def test_a_value_that_uses_the_vault_while_it_is_packed(self, w):
        class Setting:
            def __reduce__(self):
                w['x'] = 'new'
                return int, (1,)

        class Taking:
            def __reduce__(self):
                w.pop('y', None)
                return int, (2,)
        w['x'], w['y'] = 'old', 'y'
        w['setting'], w['taking'] = Setting(), Taking()
        w.sync()
        assert w['x'] == 'new'
        w.sync()
        assert w['x'] == 'new' == Vault('test')['x'] and 'y' not in w and 'y' not in Vault('test')

    def test_a_value_that_reads_the_vault_while_it_is_packed_puts_nothing_out(self, root):
        Vault('test').update({n: [n] for n in range(9)})
        w = Vault('test', writeback=True, cache_size=3)

        class Reading:
            def __reduce__(self):
                return int, (sum(w[n][0] for n in range(3, 9)),)
        w[0].append('changed')
        w[1].append('changed')
        w['reading'] = Reading()
        w.sync()
        assert w[0] == [0, 'changed'] and w[1] == [1, 'changed'] and w[2] == [2] and len(w._store._live) <= 3
        w.close()
        assert Vault('test').values()[:2] == [[0, 'changed'], [1, 'changed']] and Vault('test')['reading'] == 33

    def test_an_update_that_was_written_does_not_fail_for_what_leaves_the_cache(self, root, monkeypatch):
        w = Vault('test', writeback=True, cache_size=1)
        w['a'] = [1]
        w.sync()
        w['a'].append(2)
        real, calls = w._store._store.put_many, []

        def full(pairs):
            calls.append(1)
            if len(calls) > 1:
                raise vaults.VaultFullError('no room')
            return real(pairs)
        with monkeypatch.context() as patch:
            patch.setattr(w._store._store, 'put_many', full)
            w.update(c=1)
        assert w['c'] == 1 and w['a'] == [1, 2]
        w.close()
        assert Vault('test').items() == [('a', [1, 2]), ('c', 1)]

    def test_an_update_replaces_objects_even_when_it_makes_others_leave_the_cache(self, root):
        for size in (1, 2, 3, 8):
            w = Vault(f'test{size}', writeback=True, cache_size=size)
            w.update({n: ['old'] for n in range(6)})
            for n in range(6):
                w[n].append('changed')
            w.update((n, [w[5 - n][0], n]) for n in range(6))
            w.close()
            assert Vault(f'test{size}').values() == [['old', n] for n in range(6)]

    def test_an_update_of_more_than_the_cache_holds_is_streamed(self, root):
        w = Vault('test', writeback=True, cache_size=10)
        tracemalloc.start()
        w.update((n, [n] * 10) for n in range(20_000))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert len(w) == 20_000 and len(w._store._live) <= 10
        assert peak < 2_000_000  # of which the buffer of a packer has 1,048,576 up to msgpack 1.0.8

    def test_walking_gives_live_objects_also_of_more_than_the_cache_holds(self, root):
        w = Vault('test', writeback=True, cache_size=3)
        w.update({n: [n] for n in range(50)})
        for n, value in w.items():
            value.append(n)
            if n == 10:
                del w[30]
                w[30] = ['again']
                w[40] = ['assigned']
                w['late'] = 1
                del w[20]
        for value in w.values():
            if isinstance(value, list):
                value.append('seen')
        w.close()
        expected = {n: [n, n, 'seen'] for n in range(50) if n != 20}
        assert dict(Vault('test').items()) == {**expected, 30: ['again', 'seen'], 40: ['assigned', 40, 'seen'], 'late': 1}

    @pytest.mark.parametrize('act', ['update', 'delete', 'slice', 'assign', 'sync', 'rollback'])
    def test_walking_meets_what_is_written_meanwhile(self, root, act):
        w, other = Vault('test', writeback=True, cache_size=3), Vault('test')
        w.update({n: [n] for n in range(40)})

        def rollback():
            with pytest.raises(ValueError), w:
                w.update({36: ['undone']})
                for key, value in walk:
                    found[key] = value
                    if key == 33:  # of the second page, which was read in the block
                        raise ValueError

        def sync():
            other[30] = ['new']
            w.sync()

        def assign():
            w[30] = ['new']
            w[100], w[101], w[102], w[103] = [0], [0], [0], [0]
        acts = {'update': lambda: w.update({30: ['new']}), 'delete': lambda: w.__delitem__(30),
                'slice': lambda: w.__delitem__(slice(30, 31)), 'assign': assign, 'sync': sync, 'rollback': rollback}
        walk = iter(w.items())
        found = dict([next(walk)])
        acts[act]()
        found.update(walk)
        left = {'delete': {}, 'slice': {}, 'rollback': {30: [30], 36: [36]}}.get(act, {30: ['new']})
        assert {key: value for key, value in found.items() if key in (30, 36)} == {36: [36], **left}
        w.sync()
        assert dict(w.items()) == dict(other.items())

    def test_what_others_wrote_shows_at_the_next_sync_or_block(self, w):
        other = Vault('test')
        w.update(a=[1], b=[1], gone=[1])
        other['a'] = ['theirs']
        del other['gone']
        assert w['a'] == [1] and 'gone' in w  # until then
        w.sync()
        assert w['a'] == ['theirs'] and 'gone' not in w
        other['b'] = 'theirs'
        assert w['b'] == [1]
        with w:
            assert w['b'] == 'theirs'
            w['b'] = w['b'] + '!'
        assert other['b'] == 'theirs!'

    def test_an_entry_that_both_changed_is_as_the_last_to_sync_wrote_it_and_no_other_is_touched(self, w):
        other = Vault('test')
        w.update(a=[1], b=[1], c=[1], d=1, e=[1])
        w['a'].append('ours')
        w['d'] = 1
        w['e'].append('ours')
        other.update(a=['theirs'], b=['theirs'], d=2)
        del other['e']
        w.sync()
        assert other.items() == [('a', [1, 'ours']), ('b', ['theirs']), ('c', [1]), ('d', 1), ('e', [1, 'ours'])]
        assert w['b'] == ['theirs'] and w == other

    def test_what_is_changed_here_outlives_that_others_changed_it_until_it_is_written(self, w):
        other, nothing = Vault('test'), lambda: 0
        w.update(a=[1], b=1, bad=[1], worse=1)
        w['a'].append('ours')
        w['bad'].append(nothing)
        other.update(a='theirs', bad='theirs')
        assert w.pop('b') == 1 and w['a'] == [1, 'ours']  # it looks at what others have written
        w['worse'] = nothing
        other['worse'] = 'theirs'
        with pytest.raises(vaults.SerializationError):
            w.sync()
        assert other['a'] == [1, 'ours'] and w['bad'] == [1, nothing] and w['worse'] is nothing
        w['bad'].pop()
        w['worse'] = 2
        w.sync()
        assert other.items() == [('a', [1, 'ours']), ('bad', 'theirs'), ('worse', 2)] == w.items()

    def test_an_object_that_nobody_else_changed_stays_the_same_object(self, w):
        other = Vault('test')
        w.update(a=[1], b=[1])
        held = w['a']
        other['b'] = 2
        w.sync()
        held.append(2)
        w.sync()
        assert w['a'] is held and other.items() == [('a', [1, 2]), ('b', 2)]

    def test_counting_in_blocks_loses_nothing_between_processes(self, root):
        Vault('test')['n'] = 0
        code = '''
            import sys, vaults
            vaults.set_root_path(sys.argv[1])
            v = vaults.Vault('test', writeback=True, timeout=60)
            for _ in range(100):
                with v:
                    v['n'] = v['n'] + 1'''
        env = {**os.environ, 'PYTHONPATH': str(HERE)}
        crowd_of = [subprocess.Popen([sys.executable, '-c', textwrap.dedent(code), str(root)], env=env)
                    for _ in range(3)]
        assert [one.wait() for one in crowd_of] == [0, 0, 0]
        assert Vault('test')['n'] == 300

    def test_a_job_is_popped_by_one_process_alone(self, w):
        other = Vault('test', writeback=True)
        w.update({n: [n] for n in range(4)})
        assert w[0] == [0] == other[0] and other.pop(0) == [0]
        with pytest.raises(KeyError):
            w.pop(0)
        assert w.popitem() == (3, [3]) and other.popitem() == (2, [2]) and w.popitem() == (1, [1])
        assert w.setdefault('k', 'new') == 'new' == other.setdefault('k', 'newer')
        other.close()

    def test_a_dropped_vault_writes_what_has_changed(self, root):
        w = Vault('test', writeback=True)
        w['log'] = [1]
        w['log'].append(2)
        del w
        gc.collect()
        assert Vault('test')['log'] == [1, 2]

    @pytest.mark.parametrize('end', ['', 'sys.exit(3)', 'raise ValueError', INTERRUPTED])
    def test_at_exit_what_has_changed_is_written(self, root, end):
        done = run(f'''
            import os, signal, sys, time, vaults
            vaults.set_root_path(sys.argv[1])
            v = vaults.Vault('test', writeback=True)
            v['log'] = []
            v['log'].append(1)
            {end}''', root)
        assert (done.returncode == 0) == (not end)
        assert Vault('test')['log'] == [1]

    def test_a_signal_handler_may_put_while_a_call_looks_at_what_was_put(self, root):
        v = Vault('test', writeback=True)
        v.update((n, n) for n in range(2000))
        stop, main = threading.Event(), threading.main_thread().ident

        def interrupt():
            while not stop.wait(0.0005):
                signal.pthread_kill(main, signal.SIGALRM)
        before, taken = signal.signal(signal.SIGALRM, lambda *_: v.put(len(numbers), 0)), 0
        numbers, sender = [], threading.Thread(target=interrupt)
        sender.start()
        try:
            for n in range(150):
                numbers.append(n)
                v.update({'a': n}, b=n)
                taken += v.pop('b') == n
        finally:
            stop.set()
            sender.join()
            signal.signal(signal.SIGALRM, before)
        assert taken == 150 and v['a'] == 149

    def test_a_vault_that_the_collector_drops_while_it_is_written_at_the_end_is_ended_once(self, root):
        class Collecting(list):
            def __reduce__(self):
                gc.collect()
                return list, ([1],)

        v = Vault('test', writeback=True)
        v['k'], v['l'] = Collecting(), [2]
        cycle, store = [v], v._store
        cycle.append(cycle)
        del v, cycle
        store.end()
        assert dict(Vault('test').items()) == {'k': [1], 'l': [2]}

    @pytest.mark.parametrize('method', multiprocessing.get_all_start_methods())
    def test_at_the_end_of_a_process_of_multiprocessing_what_has_changed_is_written(self, root, method):
        (root / 'work.py').write_text(textwrap.dedent('''
            import multiprocessing, sys, vaults
            kept = inherited = None
            def work(case, folder):
                global kept
                vaults.set_root_path(folder)
                if case == 'inherited':
                    v = inherited
                elif case == 'global':
                    v = kept = vaults.Vault('test', writeback=True)
                else:
                    v = vaults.Vault('test', writeback=True)
                    cycle = [v]
                    cycle.append(cycle)
                v[case] = [1]
                v[case].append(2)
            if __name__ == '__main__':
                method, folder = sys.argv[1:]
                vaults.set_root_path(folder)
                if method == 'fork':
                    inherited = vaults.Vault('test', writeback=True)
                context = multiprocessing.get_context(method)
                for case in ['global', 'cycle'] + ['inherited'] * (method == 'fork'):
                    one = context.Process(target=work, args=(case, folder))
                    one.start()
                    one.join()
                    assert one.exitcode == 0'''))
        done = subprocess.run([sys.executable, root / 'work.py', method, str(root)], env={**os.environ, 'PYTHONPATH': str(HERE)},
                              capture_output=True, text=True)
        assert done.returncode == 0 and not done.stderr, done.stderr
        assert dict(Vault('test').items()) == {case: [1, 2] for case in
                                               ['global', 'cycle'] + ['inherited'] * (method == 'fork')}

    def test_at_exit_a_value_that_cannot_be_written_is_named(self, root):
        done = run('''
            import sys, vaults
            vaults.set_root_path(sys.argv[1])
            v = vaults.Vault('test', writeback=True)
            v['bad'] = lambda: 0
            v['good'] = [1]''', root)
        assert re.search("key 'bad'.*was lost with the vault", done.stderr) and Vault('test').items() == [('good', [1])]

    @needs_fork
    def test_a_fork_does_not_write_what_its_parent_has_changed(self, w):
        w.update(a=[1], b=[1])
        w['a'].append('parent')
        w['new'] = 'parent'

        def in_fork():
            before = w['a'], w.get('new')
            w['b'].append('child')
            w.close()
            return before
        assert in_child(in_fork).answer() == ([1], None)
        assert Vault('test').items() == [('a', [1]), ('b', [1, 'child'])]
        w.sync()
        assert w.items() == [('a', [1, 'parent']), ('b', [1, 'child']), ('new', 'parent')]

    @needs_fork
    def test_a_block_of_the_parent_is_not_the_forks_to_write(self, w):
        w.update(a=[1])

        def in_fork():
            w.__exit__(None, None, None)
            return w['a'], in_thread(lambda: len(w)), w._store.hot is w._store._live
        with w:
            w['a'].append('parent')
            assert in_child(in_fork).answer() == ([1], 1, True)
        assert Vault('test').items() == [('a', [1, 'parent'])]

    def test_threads_share_the_live_objects(self, w):
        w['log'] = []
        lock = threading.Lock()

        def work(me):
            for turn in range(200):
                with lock:
                    w['log'].append((me, turn))
                w[me] = turn
                if turn % 50 == 0:
                    w.sync()
        crowd(work, 8, *[(n,) for n in range(8)])
        w.sync()
        stored = Vault('test')
        assert sorted(stored['log']) == [(me, turn) for me in range(8) for turn in range(200)]
        assert all(stored[n] == 199 for n in range(8))

    def test_a_block_keeps_the_other_threads_waiting_and_undoes_nothing_of_theirs(self, w):
        w.update(a=[1], b=1)
        seen, inside = [], threading.Event()

        def other():
            inside.wait(10)
            seen.append(w['b'])
            w['theirs'] = 1
            w['a'].append('theirs')
        thread = threading.Thread(target=other)
        thread.start()
        with pytest.raises(ValueError), w:
            w['a'].append('undone')
            w['b'] = 'undone'
            inside.set()
            time.sleep(0.05)
            assert 'theirs' not in w
            raise ValueError
        thread.join()
        assert w.items() == [('a', [1, 'theirs']), ('b', 1), ('theirs', 1)] and seen == [1]

    def test_a_block_waits_for_another_threads_as_long_as_the_timeout_says(self, root):
        w = Vault('test', writeback=True, timeout=0.05)
        with block_elsewhere(w, 'block'), pytest.raises(vaults.VaultBusyError, match='block open'), w:
            pass
        with w:
            w['a'] = 1

    def test_closing_while_another_thread_has_a_block_open_waits_and_says_so(self, root):
        w = Vault('test', writeback=True, timeout=0.05)
        with block_elsewhere(w, 'a'), pytest.raises(vaults.VaultBusyError, match='block open'):
            w.close()
        w.close()
        assert Vault('test').items() == [('a', 1)]

    def test_an_object_that_grows_while_it_is_packed_is_stored_whole(self, w, monkeypatch):
        class Growing:
            pass
        log = []
        grown = iter(range(3))
        monkeypatch.setattr(values, '_by_class', {**values._by_class})
        monkeypatch.setattr(values, '_by_name', {**values._by_name})
        vaults.register(Growing, lambda _: [log.append(n) for n in itertools.islice(grown, 1)] and None,
                        lambda _: 'grown', name='Growing')
        log[:] = [Growing(), 'a']
        w['log'] = log
        # msgpack in pure Python takes the length first and then so many: the list as it was, and the next sync has the rest.
        for known in [2, 3, 4, 5] if msgpack.Packer.__module__.endswith('fallback') else [5]:
            w.sync()
            assert Vault('test')['log'] == ['grown', 'a', 0, 1, 2][:known]
        w.close()

    def test_an_object_that_never_holds_still_is_reported(self, w, monkeypatch):
        w['log'] = []

        def restless(_):
            raise RuntimeError('dictionary changed size during iteration')
        monkeypatch.setattr(w._store._codec, 'dumps', restless)
        with pytest.raises(vaults.SerializationError, match="another thread.*'log'"):
            w.sync()
        monkeypatch.undo()

    def test_it_can_be_pickled_and_writes_first(self, w):
        w['log'] = [1]
        w['log'].append(2)
        again = pickle.loads(pickle.dumps(w))
        again['log'].append(3)
        again.close()
        assert Vault('test')['log'] == [1, 2, 3]

    def test_what_a_subclass_overrides_stays_on_top(self, root):
        class Shouting(Vault):
            def __setitem__(self, key, value):
                super().__setitem__(key.upper(), value)
        s = Shouting('test', writeback=True)
        s['log'] = [1]
        s['LOG'].append(2)
        class Careful(Vault):
            def __init_subclass__(cls, *, tag):
                cls.tag = tag

            def get(self, key, default=None):
                try:
                    return self[key]
                except KeyError:
                    return default

        class Tagged(Careful, tag='mine'):
            pass
        tagged = Tagged('tagged', writeback=True)
        tagged['a'] = [1]
        tagged.get('a').append(2)
        assert tagged.tag == 'mine' and tagged['a'] == [1, 2] and tagged.get('b', 3) == 3
        assert type(pickle.loads(pickle.dumps(shelf_of(root)))) is type(shelf_of(root))
        tagged.close()
        assert isinstance(s, Shouting) and type(s).__name__ == 'Shouting' and type(s) is type(Shouting('b', writeback=True))
        s.close()
        assert Vault('test').items() == [('LOG', [1, 2])]

    def test_without_it_nothing_stands_before_the_store(self, v):
        assert type(v) is Vault and type(v._store) is sqlite.SQLiteStore
        v['log'] = []
        v['log'].append(1)
        assert v['log'] == []

    def test_a_reader_has_nothing_to_write_back(self, v):
        v['log'] = [1]
        reader = Vault('test', flag='r', writeback=True)
        reader['log'].append(2)
        with pytest.raises(vaults.VaultReadOnlyError):
            reader['a'] = 1
        reader.close()
        assert type(reader) is Vault and v['log'] == [1]

    def test_errors_are_those_of_a_vault(self, w):
        for act in (lambda: w[[1]], lambda: w.get([1]), lambda: [1] in w, lambda: w.put([1], 1), lambda: w[1, [2]]):
            with pytest.raises(TypeError, match='tuple|unhashable'):
                act()
        with pytest.raises(KeyError):
            w['none']
        with pytest.raises(TypeError, match='slice'):
            w['a':'b'] = 1
        w._store._store.put('bad', b'\xc1')
        with pytest.raises(vaults.VaultCorruptError, match="'bad'"):
            w['bad']
        del w['bad']
        w.close()
        w.close()
        with pytest.raises(vaults.VaultClosedError):
            w['k']
        with pytest.raises(vaults.VaultClosedError):
            w['k'] = 1

    def test_closing_inside_a_block_lets_the_others_in_also_after_a_walk_that_met_a_list(self, w):
        w.list('list')
        other = Vault('test', timeout=0.0)
        gc.disable()
        try:
            w.__enter__()
            next(iter(w.items()))
            w.close()
            other['k'] = 1
        finally:
            gc.enable()

    def test_closing_inside_a_block_rolls_it_back_and_lets_the_others_in(self, w):
        w['before'] = 1
        told = []

        def other():
            try:
                len(w)
            except vaults.VaultClosedError:
                told.append('closed')
        with pytest.raises(vaults.VaultClosedError), w:
            thread = threading.Thread(target=other, daemon=True)
            thread.start()
            w['inside'] = 1
            w['bad'] = lambda: 0
            time.sleep(0.05)
            w.close()
        thread.join(10)
        assert told == ['closed']
        assert Vault('test').items() == [('before', 1)]

    def test_deleting_the_vault_does_not_write_it_first(self, w):
        w['bad'] = lambda: 0
        w.delete_vault()
        assert not os.path.exists(w.db_path)
        w.delete_vault()

    def test_in_memory_it_works_as_well(self):
        w = Vault(':memory:', writeback=True, cache_size=2)
        for n in range(10):
            w[n] = []
            w[n].append(n)
        assert w.items() == [(n, [n]) for n in range(10)]

    @pytest.mark.parametrize('call', ['_acquire', 'OrderedDict'])
    def test_an_interrupt_as_a_block_begins_leaves_no_lock(self, w, monkeypatch, call):
        holder = writeback.LiveStore if call == '_acquire' else writeback
        real = getattr(holder, call)

        def interrupted(*arguments):
            real(*arguments)
            raise KeyboardInterrupt
        monkeypatch.setattr(holder, call, interrupted)
        with pytest.raises(KeyboardInterrupt), w:
            pass
        monkeypatch.undo()
        assert in_thread(lambda: is_free(w._store.lock)) and not w._store._store._local.c.depth
        with w:
            w['k'] = 1
        assert Vault('test').items() == [('k', 1)]

    @pytest.mark.parametrize('act', ['sync', 'update', 'block', 'pop', 'put', 'len'])
    def test_an_interrupt_anywhere_loses_nothing(self, root, act):
        package = os.path.dirname(vaults.__file__)

        def block(w):
            with w:
                w['x'].append(3)
                w['y'] = 'new'
        acts = {'sync': lambda w: w.sync(), 'update': lambda w: w.update(u=[1], z=[2]), 'block': block,
                'pop': lambda w: w.pop('p'), 'put': lambda w: w.put('q', [1]), 'len': len}

        def trace(frame, event, argument):
            if not frame.f_code.co_filename.startswith(package):
                return None
            name = frame.f_code.co_name
            first = frame.f_lineno <= frame.f_code.co_firstlineno + 2
            # Python looks at signals in calls and loops, not at the end of a `with` nor on lines like these.
            line = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
            bare = line in ('with self.lock:', 'try:', 'self._depth -= 1', 'self.lock.release()') or line.startswith(('if self._depth:', 'self.hot', 'self.lock =', 'self._writing ='))
            exempt = name in ('__enter__', '__exit__', 'begin', '_make_room') or (name == 'commit' and first) or bare
            if event == 'line' and not exempt:
                left[0] -= 1
                if left[0] == 0:
                    sys.settrace(None)
                    where[:] = [frame.f_code.co_name, frame.f_lineno]
                    raise KeyboardInterrupt
            return trace
        where, reached = [], False
        gc.collect()
        for at in itertools.count(1, 2):  # trials/traps.py does it at each opcode
            w = Vault(f'{act}{at}', writeback=True, cache_size=3)
            w.update(x=[1], p=[1])
            w['x'].append(2)
            w['y'] = 'pending'
            left = [at]
            gc.disable()
            before = sys.gettrace()
            try:
                sys.settrace(trace)
                acts[act](w)
                reached = True
            except KeyboardInterrupt:
                pass
            finally:
                sys.settrace(before)
                gc.enable()
            assert w._store._depth == 0 and in_thread(lambda w=w: is_free(w._store.lock)), (at, where)
            done = {'block': {'x': [1, 2, 3], 'y': 'new'}, 'update': {'u': [1], 'z': [2]}, 'put': {'q': [1]}}.get(act, {})
            plain = {'x': [1, 2], 'p': [1], 'y': 'pending'}
            either = [plain, {**plain, **done}, {key: plain[key] for key in ('x', 'y')} if act == 'pop' else plain]
            w.close()
            assert dict(Vault(f'{act}{at}').items()) in either, (at, where)
            if reached:
                break
        assert at > 12


def in_thread(function):
    """Return what `function` returns in another thread."""
    answers = []
    thread = threading.Thread(target=lambda: answers.append(function()), daemon=True)
    thread.start()
    thread.join(10)
    return answers[0]


def is_free(lock):
    free = lock.acquire(blocking=False)
    if free:
        lock.release()
    return free


def shelf_of(root):
    return vaults.Shelf(root / 'shelf.db', writeback=True)


class Recording:
    """A codec that remembers what it has packed."""

    def __init__(self, codec, packed):
        self._codec, self._packed = codec, packed

    def dumps(self, obj):
        self._packed.append(obj)
        return self._codec.dumps(obj)

    def loads(self, data):
        return self._codec.loads(data)


class WriteBackMachine(DictMachine):
    """A vault in write-back mode, with changes in place and another process, does what a dict of live objects does."""

    options = {'writeback': True, 'cache_size': 3}

    @initialize()
    def start(self):
        super().start()
        self.other = Vault(self.path)

    def same(self):
        """Not at every step: looking writes what was put."""

    @rule()
    def look(self):
        DictMachine.same(self)

    @rule(key=DictMachine.key, value=st.lists(st.integers(), max_size=2))
    def set_list(self, key, value):
        self.both(lambda m: m.__setitem__(key, list(value)))

    @rule(key=DictMachine.key, value=st.integers())
    def change(self, key, value):
        self.both(lambda m: m[key].append(value) if isinstance(m.get(key), list) else None)

    @rule(pairs=st.lists(st.tuples(DictMachine.key, st.integers()), max_size=5))
    def update_lists(self, pairs):
        self.both(lambda m: m.update([(key, [value]) for key, value in pairs]))

    @rule()
    def change_all(self):
        self.both(lambda m: [value.append(0) for value in m.values() if isinstance(value, list)])

    @precondition(lambda self: not self.saved)
    @rule(key=DictMachine.key, value=st.lists(st.integers(), max_size=2))
    def others_write(self, key, value):
        self.v.sync()
        self.other[key] = value
        self.d[key] = list(value)
        self.v.sync()

    @precondition(lambda self: len(self.saved) < 3)
    @rule()
    def begin(self):
        self.v.__enter__()
        self.saved.append(copy.deepcopy(self.d))

    def teardown(self):
        if hasattr(self, 'v'):
            while self.saved:
                self.commit()
            self.v.close()
            assert self.other.items() == list(self.d.items())
            self.other.close()
            self.v = Vault(self.path)
        super().teardown()


TestAsADictThatWritesBack = WriteBackMachine.TestCase
TestAsADictThatWritesBack.settings = settings(max_examples=15, stateful_step_count=30, deadline=None,
                                              suppress_health_check=list(HealthCheck))


# Of test.test_shelve, what asks for shelve's internals: test -> why it is left out.
OF_SHELVE_ALONE = {
    'test_in_memory_shelf': 'looks at the pickles in the dict that a Shelf stands on: a vault stands on a file',
    'test_mutable_entry': 'counts the entries of that dict (that mutable entries work is tested here)',
    'test_keyencoding': 'looks at the encoded keys of that dict: keys are stored as they are',
    'test_writeback_also_writes_immediately': 'expects a write into that dict at once: sync() and close() write',
    'test_default_protocol': 'reads the attribute _protocol: values are msgpack',
}
CPYTHONS_TESTS = '''
    import json, os, sys, types, unittest
    import vaults
    shelve = sys.modules['shelve'] = types.ModuleType('shelve')
    shelve.open = vaults.open
    shelve.Shelf = lambda dict, **options: vaults.Shelf(':memory:', **options)
    shelve.DbfilenameShelf = vaults.Shelf
    os.chdir(sys.argv[1])
    from test import test_shelve
    if issubclass(test_shelve.TestShelveBase, unittest.TestCase):  # before 3.11 the base of the cases counts as one
        del test_shelve.TestShelveBase
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromModule(test_shelve).run(result)
    print(json.dumps([result.testsRun, [case.id().split('.')[-1] for case, _ in result.failures + result.errors]]))
'''


@pytest.fixture
def small(monkeypatch):
    """Leaves and nodes of a few items, so that small lists are deep trees."""
    monkeypatch.setattr(sequences, 'LEAF', 40)
    monkeypatch.setattr(sequences, 'ITEMS', 5)
    monkeypatch.setattr(parts, 'FANOUT', 4)


def rows(v, table='parts'):
    """Return how many rows there are in a table of the vault's file."""
    raw = sqlite3.connect(v.db_path)
    try:
        return raw.execute(f'SELECT count(*) FROM {table}').fetchone()[0]
    except sqlite3.OperationalError:
        return 0
    finally:
        raw.close()


places = st.integers(-70, 70)
cuts = st.builds(slice, st.none() | places, st.none() | places, st.sampled_from([None, None, None, 1, 2, -1, -3]))
changes = st.lists(st.one_of(
    st.tuples(st.just('extend'), st.integers(0, 45)), st.tuples(st.just('append')), st.tuples(st.just('pop')),
    st.tuples(st.just('pop'), places), st.tuples(st.just('pop'), st.just(0)), st.tuples(st.just('insert'), places),
    st.tuples(st.just('__delitem__'), cuts | places), st.tuples(st.just('__setitem__'), places),
    st.tuples(st.just('assign'), cuts, st.integers(0, 30)), st.tuples(st.sampled_from(['reverse', 'sort', 'clear', 'reopen'])),
    st.tuples(st.sampled_from(['begin', 'commit', 'rollback']))), max_size=20)


class TwoLists:
    """A live list or column, and a list beside it to which the same is done."""

    def __init__(self, path, make, items):
        self.path, self.make, self.items = path, make, items
        self.v, self.plain, self.saved = Vault(path), [], []
        self.live = make(self.v)
        assert not len(self.live) and not self.live

    def do(self, name, *arguments):
        if name in ('begin', 'commit', 'rollback', 'reopen'):
            getattr(self, name)()
            return
        if name == 'assign':
            arguments = (arguments[0], [next(self.items) for _ in range(arguments[1])])
            name = '__setitem__'
        elif name == 'extend':
            arguments = ([next(self.items) for _ in range(arguments[0])],)
        elif name in ('append', 'insert', '__setitem__'):
            arguments = (*arguments, next(self.items))
        self.both(lambda one: getattr(one, name)(*arguments))

    def both(self, act):
        results = []
        for one in (self.plain, self.live):
            try:
                results.append(act(one))
            except (IndexError, ValueError) as error:
                results.append(type(error))
        assert results[0] == results[1]

    def begin(self):
        self.v.__enter__()
        self.saved.append(list(self.plain))

    def commit(self):
        if self.saved:
            self.v.__exit__(None, None, None)
            self.saved.pop()

    def rollback(self):
        if self.saved:
            self.v.__exit__(ValueError, ValueError(), None)
            self.plain = self.saved.pop()
            if not self.saved:
                self.same()

    def reopen(self):
        if not self.saved:
            self.v.close()
            self.v = Vault(self.path)
            self.live = self.v['one']

    def same(self):
        plain, live = self.plain, self.live
        assert len(live) == len(plain) and bool(live) == bool(plain) and live == plain
        assert list(live) == plain and list(reversed(live)) == plain[::-1] and live.tolist() == plain
        for at in range(-len(plain), len(plain), 7):
            assert live[at] == plain[at]
        for where in (slice(3, 20), slice(None, None, 3), slice(None, 2, -2), slice(-5, None), slice(9, 4)):
            found = live[where]
            assert len(found) == len(plain[where])
            if getattr(found, 'ndim', 1) == 1:  # memoryview cannot walk over more
                assert list(found) == plain[where]
        with pytest.raises(IndexError):
            live[len(plain)]

    def end(self):
        while self.saved:
            self.commit()
        self.same()
        head = parts.Head.of(self.v._store.get('one'))
        assert sorted(parts.Tree(self.v._store, head).numbers()) == list(self.v._store.part_numbers(head.owner))
        self.v._check()
        del self.v['one']
        assert rows(self.v) == 0
        self.v.close()


class TestLists:
    """`v.list(key)`: a list that lives in the vault."""

    def test_what_is_done_to_it_sticks(self, v):
        log = v.list('log')
        log.append({'event': 'started'})
        v['log'].append(('a', 1))
        v['log'].extend(x for x in 'bc')
        log += [None]
        assert v['log'] == log == [{'event': 'started'}, ('a', 1), 'b', 'c', None] and type(v['log']) is sequences.List
        assert isinstance(log, collections.abc.MutableSequence) and ('a', 1) in log and 'z' not in log
        assert v.list('log') == log and len(v) == 1 and v.get('log') == log and v.values() == [log] and v.items() == [('log', log)]
        assert log.index('b') == 2 and log.index('c', 3) == 3 and log.count('b') == 1 and log.copy() == list(log)
        with pytest.raises(ValueError, match='not in the list'):
            log.index('b', 3)
        log.remove('b')
        assert log[1:] == [('a', 1), 'c', None] and log != [1] and (log == 3) is False and log != tuple(log)
        with pytest.raises(TypeError):
            hash(log)
        reopened = Vault('test')
        assert reopened['log'][0] == {'event': 'started'}

    @given(changes=changes)
    def test_it_does_what_a_list_does(self, changes, tmp_path_factory):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sequences, 'LEAF', 40)
            patch.setattr(sequences, 'ITEMS', 5)
            patch.setattr(parts, 'FANOUT', 4)
            items = ('x' * (number * 7 % 13) + str(number) for number in itertools.count())
            both = TwoLists(tmp_path_factory.mktemp('list') / 'v.db', lambda v: v.list('one'), items)
            for change in changes:
                both.do(*change)
                both.same()
            both.end()

    def test_a_long_one_is_worked_on_from_all_sides(self, v, small):
        live, plain = v.list('one'), []
        for number in range(400):
            for one in (live, plain):
                one.append(number)
                one.insert(len(one) // 2, -number)
                if number % 3:
                    one.pop(0)
        assert live == plain and parts.Head.of(v._store.get('one')).depth >= 3
        while plain:
            assert live.pop() == plain.pop() and live.pop(0) == plain.pop(0)
        assert list(live) == [] and rows(v) == 0

    def test_one_that_was_thinned_out_is_no_deeper_than_it_must_be(self, v, small):
        live = v.list('one')
        live.extend(range(3000))
        deep = parts.Head.of(v._store.get('one')).depth
        plain = list(range(3000))
        for at in range(2900, 0, -1):
            if at % 29:
                del live[at], plain[at]
        assert live == plain
        head = parts.Head.of(v._store.get('one'))
        assert head.depth < deep and len(list(v._store.part_numbers(head.owner))) < len(plain)

    @pytest.mark.parametrize('grow, fill', [(lambda live, number: live.append('x' * 9), 3.9),
                                            (lambda live, number: live.insert(len(live) // 2, 'x' * 9), 2.3)])
    def test_nodes_are_full_where_it_grows_at_the_end_and_half_full_elsewhere(self, v, small, grow, fill):
        live = v.list('one')
        with v:
            for number in range(1500):
                grow(live, number)
        head = parts.Head.of(v._store.get('one'))
        tree = parts.Tree(v._store, head)
        leaves = list(tree.leaves(0, head.inside))
        below = len(leaves) + len(list(tree.numbers())) - len(leaves) - 1
        assert below / (len(list(tree.numbers())) - len(leaves)) > fill

    def test_a_short_list_is_one_entry_and_a_change_in_the_middle_writes_a_few_parts(self, v):
        live = v.list('one')
        live.extend([1, 2, 3])
        assert rows(v) == 0
        live.extend({'number': number} for number in range(20_000))
        total = rows(v)
        assert total > 100
        seen = statements(v)
        live.insert(10_000, 'x')
        live[5_000] = 'y'
        assert len([line for line in seen if line.startswith(('INSERT INTO parts', 'DELETE FROM parts'))]) < 16
        assert live[10_000] == 'x' and live[5_000] == 'y' and live[10_001] == {'number': 9997} and len(live) == 20_004

    def test_appending_and_popping_at_both_ends_touch_the_head_alone(self, v):
        live = v.list('one')
        live.extend(range(10_000))
        seen = statements(v)
        live.append(1)
        live.pop(0)
        live.pop()
        assert not [line for line in seen if line.startswith(('INSERT INTO parts', 'DELETE FROM parts'))]
        assert live == list(range(1, 10_000))

    def test_any_value_is_an_item_and_a_large_one_is_a_leaf_alone(self, v):
        items = [b'x' * 100_000, 'a', (1, {2}), 2**70, Custom(5), {'a': [b'y' * 9000]}, '\ud800', 1.5, bytearray(b'z'), None] * 3
        live = v.list('one')
        live.extend(items)
        assert live == items and [*map(type, live)] == [*map(type, items)] and live[3] == 2**70
        live.insert(4, b'w' * 50_000)
        assert live[4] == b'w' * 50_000 and live[5] == Custom(5)
        sizes = [len(v._store.get_part(owner, number)) for owner in v._store.part_numbers() for number in v._store.part_numbers(owner)]
        assert max(sizes) < 110_000

    def test_an_item_that_cannot_be_stored_changes_nothing(self, v):
        live = v.list('one')
        live.extend(range(300))
        before = list(live)
        for act in (lambda: live.append(Unpicklable()), lambda: live.extend([1, Unpicklable()]),
                    lambda: live.extend(1 // (5 - number) for number in range(10)), lambda: live.__setitem__(0, Unpicklable()),
                    lambda: live.insert(5, Unpicklable()), lambda: live.__setitem__(slice(0, 5), [1, Unpicklable()])):
            with pytest.raises((vaults.SerializationError, ZeroDivisionError)):
                act()
            assert live == before
        with pytest.raises(vaults.SerializationError, match="key 'one'"):
            live.append(Unpicklable())
        with pytest.raises(vaults.SerializationError, match='inside another value'):
            live.append([live])
        with pytest.raises(vaults.SerializationError, match='inside another value'):
            v['x'] = [live]
        assert 'x' not in v

    def test_items_that_cannot_be_loaded_leave_the_others_readable(self, v):
        live = v.list('one')
        live.extend([1, Custom(2), 3])
        reader = Vault('test', allow_pickle=False)
        assert reader['one'][0] == 1 and reader['one'][2] == 3
        for act in (lambda: reader['one'][1], lambda: reader['one'][:], lambda: list(reader['one'])):
            with pytest.raises(vaults.UntrustedPickleError, match="key 'one'"):
                act()

    def test_another_value_is_not_taken_for_a_list(self, v):
        v['plain'] = [1]
        with pytest.raises(TypeError, match="a plain list, not a live list, at key 'plain'"):
            v.list('plain')
        v.column('numbers', 'int8')
        with pytest.raises(TypeError, match="a column of int8, not a live list, at key 'numbers'"):
            v.list('numbers')
        live = v.list('log')
        v['log'] = 5
        with pytest.raises(vaults.VaultError, match='deleted or replaced'):
            live.append(1)
        with pytest.raises(vaults.VaultError, match='deleted or replaced'):
            len(live)
        assert 'cannot be read' in repr(live) and v['log'] == 5

    def test_one_that_is_deleted_and_made_again_is_what_it_is_now(self, v, small):
        live = v.list('one')
        live.extend(range(100))
        assert live[50] == 50
        other = Vault('test')
        del other['one']
        again = ['x' * (number % 20) for number in range(100)]
        other.list('one').extend(again)
        assert [live[at] for at in range(100)] == again == live

    def test_replacing_deleting_and_clearing_free_its_parts(self, v):
        for number, go in enumerate([lambda: v.__setitem__('one', 5), lambda: v.__delitem__('one'), lambda: v.clear(),
                                     lambda: v.__delitem__(slice('a', 'z')), lambda: v.pop('one'), lambda: v.popitem(),
                                     lambda: v.update(one=1), lambda: v.pop_many(['one']), lambda: v['one'].clear()]):
            v.clear()
            v.list('one').extend('x' * 100 for _ in range(1000))
            assert rows(v) > 20
            go()
            assert rows(v) == 0, number
        with pytest.raises(ZeroDivisionError), v:
            v['one'] = 1 // 0

    @pytest.mark.parametrize('serializer', [json, pickle])
    def test_it_is_copied_in_a_vault_with_a_serializer_too(self, root, serializer):
        v = Vault('test', serializer=serializer)
        live = v.list('one')
        live.extend([1, 2])
        v['two'] = live
        v.update(three=live)
        with v.edit('one') as same:
            same.append(3)
        assert v['one'] == [1, 2, 3] and v['two'] == v['three'] == [1, 2] and type(v['two']) is sequences.List

    def test_pop_gives_a_plain_list(self, v):
        v.list('one').extend(range(1000))
        assert v.pop('one') == list(range(1000)) and type(v.pop('one', [])) is list
        v.list('one').extend('ab')
        assert v.popitem() == ('one', ['a', 'b'])
        v.list('one').append(1)
        assert v.pop_many(['one']) == {'one': [1]}

    def test_assigning_one_to_a_key_copies_it(self, v):
        live = v.list('one')
        live.extend(range(1000))
        v['two'] = live
        v['one'] = live
        v['two'].append('x')
        assert v['one'] == list(range(1000)) and v['two'] == [*range(1000), 'x'] and type(v['two']) is sequences.List
        v.column('c', 'int8').extend([1, 2])
        other = Vault('other')
        assert other.put_many(v) == 3 and list(other) == ['one', 'two', 'c']
        other.update(v)
        assert other == v and type(other['one']) is sequences.List and other['c'].dtype == 'int8'
        other['one'].append(1)
        assert len(v['one']) == 1000
        other.delete_vault()

    def test_it_takes_part_in_transactions(self, v, small):
        live = v.list('one')
        live.extend(range(50))
        with pytest.raises(ZeroDivisionError), v:
            live.extend(range(50, 90))
            assert live[80] == 80
            del live[:30]
            assert live[0] == 30
            1 // 0
        assert live == list(range(50)) and v.check() == []
        live.extend(range(100, 140))
        assert live[80] == 130 and live == [*range(50), *range(100, 140)]
        with pytest.raises(ZeroDivisionError), v:
            live.extend('x' * 30 for _ in range(40))  # makes parts of other lengths under the same numbers
            assert live[110] == 'x' * 30
            1 // 0
        live.extend(range(140, 180))
        assert [live[at] for at in range(len(live))] == [*range(50), *range(100, 180)]
        with pytest.raises(ZeroDivisionError), v:
            v.list('new').append(1)
            1 // 0
        assert 'new' not in v

    def test_a_reader_sees_what_others_do_at_once_and_never_a_mixture(self, v, small):
        live = v.list('one')
        live.extend(range(200))
        other = Vault('test')['one']
        assert other[150] == 150
        live.insert(0, 'x')
        assert [other[at] for at in (120, 150, 90, 60)] == [119, 149, 89, 59] and other[0] == 'x'
        wrong, stop = [], threading.Event()

        def look():
            mine = Vault('test')['one']
            while not stop.is_set():
                seen = mine[10:150]
                if seen != list(range(seen[0], seen[0] + 140)):
                    wrong.append(seen)
        thread = threading.Thread(target=look)
        del live[0]
        thread.start()
        for number in range(100):
            with v:
                live.pop(0)
                live.append(200 + number)
        stop.set()
        thread.join()
        assert wrong == []

    @pytest.mark.parametrize('kind', ['list', 'column'])
    def test_two_processes_append_and_nothing_is_lost_or_there_twice(self, v, kind):
        program = """
            import sys, vaults
            v = vaults.Vault('test', timeout=60)
            live = v.list('one') if sys.argv[2] == 'list' else v.column('one', 'int64')
            for number in range(5000):
                live.append(int(sys.argv[1]) * 100_000 + number)
            """
        workers = [subprocess.Popen([sys.executable, '-c', textwrap.dedent(program), str(me), kind], cwd=v.db_path.split('/vaults/')[0],
                                    env={**os.environ, 'PYTHONPATH': str(HERE)}) for me in (1, 2)]
        assert [worker.wait(60) for worker in workers] == [0, 0]
        found = list(v['one'])
        assert len(found) == 10_000 and sorted(found) == [*range(100_000, 105_000), *range(200_000, 205_000)]
        assert [one for one in found if one < 200_000] == list(range(100_000, 105_000))

    def test_threads_share_one(self, v, small):
        live = v.list('one')
        threads = [threading.Thread(target=lambda me=me: [live.append((me, number)) for number in range(100)]) for me in range(4)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        assert sorted(live) == [(me, number) for me in range(4) for number in range(100)]

    def test_a_live_list_can_be_sent_to_another_process(self, v):
        live = v.list('one')
        live.append(1)
        packed = pickle.dumps(live)
        again = pickle.loads(packed)
        again.append(2)
        assert live == [1, 2] and again._vault is not v
        v['one'] = [7]
        with pytest.raises(vaults.VaultError, match='deleted or replaced'):
            pickle.loads(packed).append(3)
        column = v.column('c', 'datetime64[s]')
        assert pickle.loads(pickle.dumps(column)).dtype == 'datetime64[s]'

    def test_copies_are_plain(self, v):
        live, column = v.list('one'), v.column('two', 'S3')
        live.extend([[1], 2])
        column.extend([b'a', b'b'])
        assert type(v.copy()['one']) is list and v.copy() == {'one': [[1], 2], 'two': [b'a', b'b']}
        for copied in (copy.copy(live), copy.deepcopy(live), live.copy(), v.copy()['one'], v.pop('one')):
            copied.append(3)
            assert copied == [[1], 2, 3] and (live if 'one' in v else [[1], 2]) == [[1], 2]
        assert v.pop('two') == [b'a', b'b']

    def test_what_is_a_vault_or_looks_into_one_is_no_value(self, v):
        v['a'] = 1
        for one in (v, v.section('a'), v.keys(), v['a':], v.items(), [v.values()], v.section('a').section('b')):
            with pytest.raises(vaults.SerializationError, match='only its content'):
                v['x'] = one
        assert len(v) == 1

    @pytest.mark.parametrize('nested', [False, True])
    def test_what_a_handle_has_seen_of_a_rollback_is_forgotten(self, v, nested):
        column = v.column('a', 'int64')
        with v if nested else contextlib.nullcontext():
            with pytest.raises(ZeroDivisionError), v:
                column.extend(range(501))
                assert column[0] == 0
                1 // 0
            column.extend([*range(1000, 1500), 500])  # of one shape, under the same numbers, with a head of the same bytes
            assert column[0] == 1000
            column.reverse()
        assert column.tolist() == [500, *range(1499, 999, -1)] == Vault('test')['a'].tolist()

    def test_the_nodes_that_a_handle_has_seen_of_a_rollback_are_forgotten(self, v, small):
        live, big, short = v.list('a'), ['x' * 9] * 4, [1, 2, 3, 4, 5]
        with pytest.raises(ZeroDivisionError), v:
            [live.append(item) for item in [*big, *short, 'z']]
            assert live[5] == 2 and live[0] == 'x' * 9
            1 // 0
        for item in [*short, *big, 'z']:  # leaves of other lengths, under the same numbers and a head of the same bytes
            live.append(item)
        assert live[4] == 5 and live == [*short, *big, 'z']

    @needs_fork
    @pytest.mark.filterwarnings('ignore::DeprecationWarning')
    def test_what_a_handle_has_seen_in_the_parents_block_is_none_of_the_childs(self, v):
        live = v.list('a')
        v.__enter__()
        live.extend(['a' * 5000, 'b' * 5000, 'tail'])
        assert live[0][0] == 'a'
        child = in_child(lambda: (time.sleep(0.3), live[0][0], v['a'][0][0])[1:])
        v.__exit__(ValueError, ValueError(), None)
        live.extend(['c' * 5000, 'd' * 5000, 'tail'])
        assert child.answer() == ('c', 'c')

    def test_a_walk_back_ends_when_the_list_becomes_shorter(self, v):
        live, plain = v.list('one'), list(range(10_000))
        live.extend(plain)
        walks = reversed(live), reversed(plain)
        seen = [[next(walk) for _ in range(3001)] for walk in walks]
        del live[5000:], plain[5000:]
        for found, walk in zip(seen, walks):
            found.extend(walk)
        assert len(seen[0]) == len(set(seen[0])) and seen[0][:3001] == seen[1][:3001]

    def test_items_that_are_packed_one_by_one_are_taken_among_others(self, root):
        v = Vault('letters', serializer=('utf8', str.encode, bytes.decode))
        v.list('a').extend(['a', 'b'] * 20)
        assert v['a'] == ['a', 'b'] * 20
        w = Vault('listed', allow_pickle=[int])
        items = [*[1, 2] * 20, '\ud800', *[decimal.Decimal(1)] * 3]
        w.list('a').extend(items)
        assert w['a'] == items

    def test_an_iterable_that_uses_the_list(self, v, small):
        live = v.list('one')
        live.extend(range(20))
        live.extend(live)
        live.extend(one + 1000 for one in live)
        assert live == [*range(20), *range(20), *(one + 1000 for one in [*range(20), *range(20)])]
        live[:] = live
        live[2:4] = live
        assert len(live) == 158
        with pytest.raises(vaults.VaultError, match='has changed it'):
            live.extend(live.append(5) or 1 for _ in range(3))
        with pytest.raises(ValueError, match='changed while it was sorted'):
            live.sort(key=lambda item: live.append(5) or item)
        assert len(live) == 158
        given = v.setdefault('other', live)
        given.append('x')
        assert len(v['other']) == 159 and len(live) == 158

    def test_it_works_in_every_kind_of_vault(self, root, small):
        for options in ({'name': ':memory:'}, {'name': 'a', 'thread_safe': True}, {'name': 'b', 'writeback': True}):
            v = Vault(options.pop('name'), **options)
            live = v.list('one')
            live.extend(range(100))
            v['one'].append('x')
            with v:
                v['one'][0] = 'y'
            assert v['one'] == ['y', *range(1, 100), 'x'] and v.items() == [('one', live)] and v.check() == []
            assert v.pop('one')[-1] == 'x'
            v.close()
            with pytest.raises(vaults.VaultClosedError):
                live.append(1)

    def test_write_back_and_live_lists_go_together(self, root):
        v = Vault('test', writeback=True)
        v['one'] = 5
        with pytest.raises(TypeError, match='int'):
            v.list('one')
        del v['one']
        v['plain'] = []
        v['plain'].append(1)
        v.list('one').append(v['plain'])
        v['copy'] = v['one']
        v.update(third=v['one'], x=1)
        v['copy'].append(2)
        v['bad'] = [v['one']]
        with pytest.raises(vaults.SerializationError, match="inside another value.*'bad'"):
            v.sync()
        del v['bad']
        v.close()
        v = Vault('test')
        assert v.items() == [('plain', [1]), ('one', [[1]]), ('copy', [[1], 2]), ('third', [[1]]), ('x', 1)]

    def test_write_back_keeps_what_is_put_last_and_what_a_failed_update_has_touched(self, root):
        v = Vault('test', writeback=True)
        live = v.list('l')
        live.extend(range(5000))
        v.update([('a', [1]), ('a', live), ('b', live), ('b', [1])])
        v['a'].append(2)
        v['b'].append(2)
        v['k'] = [1]
        v.sync()
        v['k'].append(2)
        for last in (live, 5):
            with pytest.raises(ZeroDivisionError):
                v.update(('k', last) if number else (1 // number, 0) for number in (1, 0))
            assert v['k'] == [1, 2]
        v.close()
        v = Vault('test')
        assert v['a'] == [*range(5000), 2] and v['b'] == [1, 2] and v['k'] == [1, 2]

    def test_compacting_counts_anew_with_lists_too(self, v):
        v.list('a').extend(range(10_000))
        raw = sqlite3.connect(v.db_path)
        raw.execute("UPDATE entries SET crc = crc + 1 WHERE key = x''")
        raw.commit()
        raw.close()
        v.compact()
        assert len(v) == 1 and v['a'][9999] == 9999

    def test_a_head_that_makes_no_sense_is_a_problem_and_no_crash(self, v):
        v.list('a').extend(range(10_000))
        head = parts.Head.of(v._store.get('a'))
        for wrong in ({'size': 'x'}, {'inside': None}, {'tail': 5}, {'size': -1}, {'inside': 2**63}, {'root': 9999}):
            other = parts.Head.of(head.packed())
            for name, value in wrong.items():
                setattr(other, name, value)
            v._store.put_owner('a', other.packed())
            assert len(v.check()) == 1, wrong
        v._store.put_owner('a', head.packed())

    def test_damage_is_found_and_named(self, v, small):
        live = v.list('one')
        live.extend(range(200))
        v['sound'] = 1
        raw = sqlite3.connect(v.db_path)
        raw.execute('UPDATE parts SET data = zeroblob(length(data)) WHERE rowid = 7')
        raw.commit()
        assert any("'one'" in problem and 'damaged' in problem for problem in v.check())
        with pytest.raises(vaults.VaultCorruptError):
            list(Vault('test')['one'])
        raw.execute('DELETE FROM parts WHERE rowid = 7')
        raw.commit()
        raw.close()
        assert v.check() == ["key 'one': a part of the value is missing"]
        with pytest.raises(vaults.VaultCorruptError, match="missing.*'one'"):
            list(Vault('test')['one'])
        del v['one']
        assert rows(v) == 0 and v.check() == []

    def test_what_stands_inside_another_value_is_damage(self, v):
        v.list('one').append(1)
        head = v._store.get('one')
        v._store.put('two', b'\x91' + head)
        for act in (lambda: v['two'], lambda: v.get('two'), lambda: list(v.values())):
            with pytest.raises(vaults.VaultCorruptError, match="inside another.*'two'"):
                act()
        assert len(v.check()) == 1
        del v['two']

    def test_repr_and_bounds(self, v):
        live = v.list('one')
        live.extend(range(30))
        assert repr(live) == f'List({list(range(20))}'[:-1] + ', ...])'
        for act in (lambda: live[30], lambda: live[-31], lambda: live.pop(30), lambda: live.__setitem__(30, 1),
                    lambda: live.__delitem__(-31)):
            with pytest.raises(IndexError, match='30 items'):
                act()
        with pytest.raises(TypeError):
            live['a']
        with pytest.raises(ValueError, match='cannot be put in place'):
            live[::2] = [1]
        live.clear()
        with pytest.raises(IndexError, match='empty'):
            live.pop()
        assert repr(live) == 'List([])' and live == [] and live[:] == []

    def test_a_reader_may_not_change_it(self, v, monkeypatch):
        v.list('one').extend([1, 2])
        reader = Vault('test', flag='r')
        assert reader['one'] == [1, 2] == reader.list('one')
        with pytest.raises(vaults.VaultReadOnlyError):
            reader['one'].append(3)
        with pytest.raises(vaults.VaultReadOnlyError):
            reader.list('two')
        v.close()
        monkeypatch.setattr(sqlite.os, 'access', lambda *_: False)  # as in a folder that may not be written
        reader = Vault('test', flag='r')
        for act in (lambda: reader['one'].extend([1] * 9), lambda: reader['one'].append(1), lambda: reader['one'].sort(),
                    lambda: reader.update(a=1)):
            with pytest.raises(vaults.VaultReadOnlyError):
                act()
        assert reader['one'] == [1, 2]


DTYPES = ['int8', 'int16', 'int32', 'int64', 'uint8', 'uint16', 'uint32', 'uint64', 'float32', 'float64', 'bool', 'S5',
          'datetime64[ns]', 'datetime64[s]', 'datetime64[D]']


def sample(dtype):
    """Return items that a column of this type gives back equal."""
    if dtype == 'bool':
        return st.booleans()
    if dtype[0] == 'S':
        return st.binary(max_size=5).filter(lambda data: data[-1:] != b'\0')
    if dtype[0] == 'f':
        return st.floats(width=int(dtype[5:]), allow_nan=False)
    if dtype[0] == 'd':
        return st.integers(-2**63, 2**63 - 1)
    bits = int(dtype.lstrip('uint'))
    return st.integers(0, 2**bits - 1) if dtype[0] == 'u' else st.integers(-2**(bits - 1), 2**(bits - 1) - 1)


def planted(*head, parts=()):
    """Return a vault in memory with a head of these fields at 'k', and parts, all with sound checksums."""
    owner = b'\0\0\0\1hostile!'
    v = Vault(':memory:')
    v._store.put_owner('k', as_ext(head[0], [*head[1:], owner]))
    v._store.put_parts(owner, list(enumerate(parts, 1)))
    return v


def a_node(*children):
    return b''.join(struct.pack('<QQ', *child) for child in children)


class Unshowable:
    def __repr__(self):
        raise ZeroDivisionError


class TestInIPython:
    """What IPython and Jupyter show, and the keys that Tab completes."""

    def completed(self, shell, text):
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            return shell.complete(text)[1]

    @pytest.fixture
    def shell(self):
        pytest.importorskip('IPython.core')
        from IPython.core.interactiveshell import InteractiveShell
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            shell = InteractiveShell.instance()
            yield shell
            shell.history_manager.end_session()
            InteractiveShell.clear_instance()

    def test_tab_completes_keys_at_any_size(self, v, shell):
        v.update({f'user:{number:05}': number for number in range(20_000)})
        v.update({'admin': 1, ('log', 2026): 2, b'bytes': 3, 7: 4})
        section = v.section('people')
        section.update({'ann': 1, 'bob': 2})
        shell.user_ns.update(v=v, section=section, part=v['user:1':'user:2'])
        found = self.completed(shell, "v['user:1234")
        assert len(found) == 10 and all('user:1234' in one for one in found)
        assert [one for one in self.completed(shell, 'v["adm') if 'admin' in one]
        assert [one for one in self.completed(shell, "section['an") if 'ann' in one]
        assert len(self.completed(shell, "part['user:1")) == 300

    def test_the_keys_given_are_few_and_the_vault_is_not_walked(self, v, monkeypatch):
        for at in range(2000):
            v[at] = at
        scanned = []
        real = type(v._store).scan
        monkeypatch.setattr(type(v._store), 'scan', lambda *args, **options: (scanned.extend(page[0]) or page for page in real(*args, **options)))
        for thing, wanted in ((v, range(300)), (v[:], range(300)), (v[5:], range(5, 305)), (v.section('s'), [])):
            assert thing._ipython_key_completions_() == list(wanted)
        assert len(scanned) < 4000

    @pytest.mark.parametrize('make, title, first', [
        (lambda v: v, "Vault('test', 45 items)", "'<a>'"), (lambda v: v[:], "45 of Vault('test', 45 items)", '0'),
        (lambda v: v.section('s'), "Section('test', ('s',), 1 item)", "'<b>'"),
        (lambda v: v.list('list'), "List at 'list', 40 items", '0'), (lambda v: v.column('column', 'int16'), "Column of int16 at 'column', 40 items", '0')])
    def test_a_short_table_is_shown(self, v, make, title, first):
        pretty = pytest.importorskip('IPython.lib.pretty')
        v['<a>'] = '<script>&'
        v.section('s')['<b>'] = 1
        v.list('list').extend(['<i>', *range(39)])
        v.column('column', 'int16').extend(range(40))
        v['long'] = 'x' * 1000
        v.update({number: {'n': number} for number in range(40)})
        thing = make(v)
        text = pretty.pretty(thing)
        lines = text.split('\n')
        assert lines[0] == title and lines[1].split()[0] == first and len(lines) <= 22 and max(map(len, lines)) < 140, text
        page = thing._repr_html_()
        assert f"<caption>{title.replace(chr(39), '&#x27;')}</caption>" in page and page.count('<tr>') <= 21
        assert '<script>' not in page and '<a>' not in page and '<b>' not in page and '<i>' not in page
        assert ('more' in text) == (len(thing) > 20) and (not len(thing) > 20 or f'and {len(thing) - 20} more' in page)
        assert repr(thing) in pretty.pretty([thing]).replace('\n', '')

    def test_one_item_is_one(self, v):
        v.list('list').append(1)
        v.column('column', 'int16').append(1)
        with v.open('stream', 'wb') as file:
            file.write(b'x')
        page = v._repr_html_() + v['list']._repr_html_() + v['column']._repr_html_()
        assert 'list of 1 item<' in page and 'stream of 1 byte<' in page and page.count(', 1 item<') == 2, page

    def test_what_is_large_or_in_parts_is_not_loaded(self, v, monkeypatch):
        v['large'] = 'x' * 10_000_000
        v['packed'] = list(range(100_000))
        with v.open('stream', 'wb') as file:
            file.truncate(1 << 35)
        v.list('list').extend(range(100_000))
        v.column('column', 'int8').extend(range(100))
        loaded = []
        real = type(v._store).get
        monkeypatch.setattr(type(v._store), 'get', lambda self, key: loaded.append(real(self, key)) or loaded[-1])
        shown = v._repr_html_()
        for text in ('10,000,005 bytes', 'stream of 34,359,738,368 bytes', 'list of 100,000 items', 'column of 100 int8'):
            assert text in shown
        assert sum(map(len, loaded)) < 20_000

    def test_it_raises_for_nothing(self, v, root):
        pretty = pytest.importorskip('IPython.lib.pretty')
        live = Vault('live', writeback=True)
        live['a'] = Unshowable()
        live['b'] = [1]
        live['b'].append(2)
        assert 'Unshowable that cannot be shown' in pretty.pretty(live) and '[1, 2]' in pretty.pretty(live)
        del live['a']
        live.close()
        things = v, v[:], v.section('s'), v.list('list'), v.column('column', 'int8')
        v['a'] = 1
        v['b'] = 2
        with contextlib.closing(sqlite3.connect(v.db_path)) as raw:
            raw.execute("UPDATE entries SET value = x'07' WHERE key = 'a'")
            raw.commit()
        assert 'VaultCorruptError' in pretty.pretty(v) and "'b'" in pretty.pretty(v) and 'VaultCorruptError' in v._repr_html_()
        v['a'] = 1
        v.close()
        for thing in (*things, v):
            assert 'closed' in pretty.pretty(thing) and 'closed' in thing._repr_html_()
        assert v._ipython_key_completions_() == []

    def test_showing_a_write_back_vault_takes_nothing_into_memory(self, root):
        live = Vault('live', writeback=True, cache_size=2)
        live.update({number: [number] for number in range(10)})
        live.sync()
        live[3].append(5)
        before = list(live._store._live)
        assert '[3, 5]' in live._repr_html_() and '[9]' in live._repr_html_() and list(live._store._live) == before
        live.close()

    def test_it_costs_an_import_nothing(self):
        assert output('import sys, vaults; vaults.Vault(":memory:"); print("vaults.display" in sys.modules)') == 'False'


class TestListOperators:
    """`+`, `*` and `<` on live lists are those of lists."""

    OTHERS = [[], [1], [1, 2], [1, 3], [0, 9], [1, 2, 3], [1.0, 2], ['a'], [None], [(1, 2)], (1, 2), (), 'ab', b'ab', None, 1, {1: 2}, range(2)]

    def answer(self, operator, *arguments):
        try:
            return operator(*arguments)
        except TypeError:
            return TypeError

    @pytest.mark.parametrize('operator', [op.add, op.lt, op.le, op.gt, op.ge, op.eq, op.ne], ids=lambda one: one.__name__)
    def test_with_lists_and_live_lists_it_is_what_a_list_gives(self, v, operator):
        for at, mine in enumerate([[], [1, 2], ['a'], [[1], None]]):
            live = v.list(('mine', at))
            live.extend(mine)
            for other in self.OTHERS:
                wanted = self.answer(operator, mine, other), self.answer(operator, other, mine)
                assert (self.answer(operator, live, other), self.answer(operator, other, live)) == wanted, (mine, other)
                if isinstance(other, list):
                    theirs = v.list('theirs')
                    theirs[:] = other
                    assert (self.answer(operator, live, theirs), self.answer(operator, theirs, live)) == wanted, (mine, other)
                    assert operator is not op.add or type(live + theirs) is type(other + live) is type(live + other) is list

    def test_repeated(self, v):
        live = v.list('live')
        live.extend('ab')
        for many in (-1, 0, 1, 3, True):
            assert live * many == many * live == ['a', 'b'] * many and type(live * many) is type(many * live) is list
        for wrong in (1.5, 'a', None, [1], live):
            for act in (lambda wrong=wrong: live * wrong, lambda wrong=wrong: wrong * live, lambda wrong=wrong: op.imul(live, wrong)):
                with pytest.raises(TypeError):
                    act()
        assert live == ['a', 'b']

    def test_in_place_it_stays_the_live_list(self, v):
        live = same = v.list('live')
        live += (1, 2)
        live *= 3
        assert live is same and v['live'] == [1, 2] * 3
        v['live'] *= 2
        v['live'] += v['live']
        assert type(v['live']) is sequences.List and v['live'] == [1, 2] * 12
        with pytest.raises(TypeError):
            live += 5
        live *= 1
        assert len(live) == 24
        live *= -1
        assert live == [] and v['live'] == []
        plain = [0]
        plain += v.list('live')
        assert type(plain) is list and plain == [0]

    def test_repeating_is_one_transaction(self, v):
        live = v.list('live')
        live.extend(range(1000))
        with pytest.raises(ZeroDivisionError), v:
            live *= 5
            raise ZeroDivisionError
        assert len(live) == 1000
        live *= 5
        assert live.tolist() == [*range(1000)] * 5

    def test_comparing_reads_no_further_than_the_first_difference(self, v, monkeypatch):
        live = v.list('live')
        live.extend(range(100_000))
        read = []
        real = type(v._store).get_part
        monkeypatch.setattr(type(v._store), 'get_part', lambda *arguments: read.append(1) or real(*arguments))
        assert live < [1] and live > [0, 0] and not live >= [0, 2]
        assert len(read) < 30 * 3


class TestWeakReferences:
    @pytest.mark.parametrize('make', [lambda v: v.list('list'), lambda v: v.column('column', 'int8'), lambda v: v.section('section'),
                                      lambda v: v['a':'b'], lambda v: v.keys(), lambda v: v.values(), lambda v: v.items(),
                                      lambda v: v.section('section')['a':]])
    def test_it_can_be_referred_to_weakly(self, v, make):
        made = make(v)
        reference = weakref.ref(made)
        assert reference() is made and len(made) == 0
        del made
        gc.collect()
        assert reference() is None


class TestColumnsAsBuffers:
    def test_numpy_asks_for_all_at_once(self, v, monkeypatch):
        numpy = pytest.importorskip('numpy')
        for dtype, items in (('int16', [1, -2]), ('float64', [0.1]), ('bool', [True, False]), ('S3', [b'ab', b'']), ('datetime64[us]', [17])):
            column = v.column(dtype, dtype)
            column.extend(items)
            array = numpy.asarray(column)
            assert array.dtype == numpy.dtype(dtype) and (array == column.to_numpy()).all() and array.flags.writeable
        assert numpy.array(v['int16'], 'float32').dtype == 'float32' and numpy.array(v['int16'], copy=True).tolist() == [1, -2]
        assert (v['int16'] * numpy.array([2, 2]) == [2, -4]).all() and numpy.mean(v['float64']) == 0.1
        if int(numpy.__version__.split('.')[0]) >= 2:
            with pytest.raises(ValueError, match='copy'):
                numpy.asarray(v['int16'], copy=False)

    @pytest.mark.skipif(sys.version_info < (3, 12), reason='a class written in Python has no buffer before')
    def test_a_column_is_a_buffer_that_cannot_be_written(self, v):
        column = v.column('one', 'int32')
        column.extend([1, 2, 3])
        view = memoryview(column)
        assert view.readonly and view.format == 'i' and view.tolist() == [1, 2, 3] and bytes(column) == column[:].tobytes()
        column.append(4)
        assert view.tolist() == [1, 2, 3] and memoryview(v.column('empty', 'float64')).nbytes == 0
        with pytest.raises((BufferError, TypeError)):
            struct.pack_into('i', column, 0, 5)
        names, flags = v.column('names', 'S4'), v.column('flags', 'bool')
        names.append(b'ab')
        flags.append(True)
        assert bytes(names) == b'ab\0\0' and memoryview(flags).tolist() == [True]
        other = v.column('other', 'int32')
        other.extend(column)
        other[1:1] = column
        assert other == [1, 1, 2, 3, 4, 2, 3, 4]


class TestHostileParts:
    """Heads and trees that somebody made to do harm, with sound checksums: an error of ours, soon, and little memory."""

    @pytest.mark.parametrize('place, wrong', [(place, wrong) for place in range(1, 7)
                                              for wrong in (-1, 2**60, 2**64 - 1, None, 'x', 1.5)
                                              if (place, wrong) not in [(4, 2**60), (5, 2**60)]])  # there may be
    @pytest.mark.parametrize('code, meta', [(20, None), (21, None), (22, 'int16')])
    def test_a_head_that_lies_is_damaged(self, code, meta, place, wrong):
        head = [meta, 1, 0, 1, 9, 2, 1, b'']
        head[place] = wrong
        with contextlib.closing(planted(code, *head, parts=[b'\1\2', a_node((1, 1))])) as v:
            for read in (lambda: len(v['k']), lambda: v['k'][:], lambda: v.open('k').read(), v.copy):
                with pytest.raises(vaults.VaultError):
                    read()
            assert v.check()

    @pytest.mark.parametrize('data', [b'', b'\xc1', b'\xc7', b'\xd4', b'\xc7\0'])
    def test_bytes_that_are_no_value_are_damaged_also_where_their_type_is_asked(self, root, data, command):
        with contextlib.closing(Vault('test')) as v:
            v._store.put('k', data)
            for ask in (lambda: v['k'], lambda: v.list('k'), lambda: v.column('k', 'int8'), lambda: v.open('k')):
                with pytest.raises(vaults.VaultError):
                    ask()
            assert v.check()
        with pytest.raises(vaults.VaultCorruptError):
            list(moving.read(v.db_path))
        assert command('recover', 'test', 'saved').err == ''
        assert command('set', 'test', 'k', 'new').status == 0 and Vault('test')['k'] == 'new'

    def test_parts_of_what_is_no_owner_are_left_alone(self, root):
        v = Vault('parts')
        v.list('k').extend(range(3000))
        with contextlib.closing(sqlite3.connect(v.db_path)) as raw:
            raw.executemany('INSERT INTO parts VALUES (?, 1, ?, 0)', [('text', b'x'), (5, b'x')])
            raw.commit()
        v.compact()
        assert len(v['k']) == 3000

    @pytest.mark.parametrize('code, meta', [(20, None), (21, None), (22, 'int16'), (22, 'S9999999999'), (22, 5), (22, None)])
    def test_a_tree_that_lies_is_damaged(self, code, meta):
        layers = [a_node(*[(number + 1, 2 ** (20 - number) * 8)] * 2) for number in range(1, 20)]
        for size, root, depth, leaves in [
                (2**60, 1, 60, [a_node((1, 2**60))]), (2**60, 2, 1, [b'\1\2', a_node((1, 2**60))]),
                (2, 2, 1, [b'\1\2', a_node((1, 1), (1, 1))]), (1, 1, 1, [a_node((2**63, 1))]), (1, 1, 1, [b'']),
                (1, 2, 1, [b'\1\2', a_node((1, 2))]), (2**20 * 8, 1, 19, [*layers, b'\1' * 16])]:
            with contextlib.closing(planted(code, meta, size, 0, size, 99, root, depth, b'', parts=leaves)) as v:
                for read in (lambda: v['k'][:], lambda: v.open('k').read(), lambda: moving.export(v, io.StringIO())):
                    with pytest.raises((vaults.VaultError, TypeError)) as caught:
                        read()
                    assert 'only bytes and text' in str(caught.value) or isinstance(caught.value, vaults.VaultError)
                assert v.check()
                v.compact()

    def test_a_missing_part_is_damage_also_to_whoever_writes(self):
        with contextlib.closing(planted(21, None, 1, 0, 1, 9, 7, 1, b'')) as v:
            live = v['k']
            for change in (lambda: live.pop(0), lambda: live.insert(0, 1), live.clear, lambda: live.__setitem__(0, 1)):
                with pytest.raises(vaults.VaultCorruptError, match='missing'):
                    change()
        with contextlib.closing(planted(20, None, 1, 0, 1, 9, 7, 1, b'')) as v, pytest.raises(vaults.VaultError), \
                v.open('k', 'r+b') as file:
            file.truncate(0)

    def test_a_key_too_long_to_be_shown_is_no_reason_to_hide_the_error(self):
        deep = ()
        for _ in range(400):
            deep = (deep,)
        for key in (2**20_000 + 1, (10**5000,), deep):
            with contextlib.closing(Vault(':memory:')) as v:
                v._store.put(keys.encode(key), b'\xc1')
                for read in (lambda v=v, key=key: v[key], v.copy, lambda v=v: moving.export(v, io.StringIO())):
                    with pytest.raises(vaults.VaultCorruptError):
                        read()
                assert v.check()
        with pytest.raises(vaults.VaultCorruptError):
            values.loads(as_ext(values.SET, [{as_object(values.INT, 0).data: 1}, msgpack.ExtType(values.INT, b'\x7f' * 3000)]))

    def test_an_entry_without_bytes_is_damaged(self):
        with contextlib.closing(Vault(':memory:')) as v:
            v._store.put('k', b'')
            with pytest.raises(vaults.VaultCorruptError):
                v.open('k')
            v.compact()
            assert v.check()


class TestColumns:
    """`v.column(key, dtype)`: an array of one type that lives in the vault."""

    def test_a_column_is_an_array_that_stays(self, v):
        temps = v.column('temps', 'float64')
        temps.extend([20.5, 21, 19.5])
        v['temps'].append(18.25)
        temps += (1.0,)
        assert temps == [20.5, 21.0, 19.5, 18.25, 1.0] and temps[-2] == 18.25 and temps[1:3] == array.array('d', [21.0, 19.5])
        assert type(temps[1:3]) is array.array and v.column('temps', 'float64') == v['temps'] and temps.dtype == 'float64'
        assert repr(v['temps']) == "Column('float64', [20.5, 21.0, 19.5, 18.25, 1.0])" and len(v) == 1
        del temps[1]
        temps[0:2] = array.array('d', [1.5])
        temps[0] = 2
        temps.insert(1, 9.0)
        assert temps == array.array('d', [2, 9, 18.25, 1.0]) and temps.pop() == 1.0 and temps.copy() == temps[:]
        assert v.pop('temps') == array.array('d', [2, 9, 18.25]) and type(v.pop('temps', 5)) is int

    @pytest.mark.parametrize('made', [lambda v: v.list('k'), lambda v: v.column('k', 'int8')], ids=['list', 'column'])
    def test_a_read_that_fails_is_not_taken_for_another_type(self, v, monkeypatch, made):
        real = v._store.get

        def get(at, calls):
            def fails(key):
                calls.append(key)
                if len(calls) == at:
                    raise vaults.VaultFullError('the disk fails')
                return real(key)
            return fails
        for at in range(1, 10):
            v.clear()
            with monkeypatch.context() as patch:
                patch.setattr(v._store, 'get', get(at, []), raising=False)
                try:
                    assert len(made(v)) == 0
                except vaults.VaultFullError:
                    assert at < 4
            with monkeypatch.context() as patch:
                made(v)
                patch.setattr(v._store, 'get', get(at, []), raising=False)
                try:
                    made(v)
                except vaults.VaultFullError:
                    assert at < 2

    @pytest.mark.parametrize('make', [lambda v: v.list('k'), lambda v: v.column('k', 'int64')])
    def test_what_is_left_of_the_only_leaf_is_no_damage_when_its_first_item_was_dropped(self, v, make):
        live = make(v)
        live.extend(range(5_000))
        del live[:4_400]
        live.pop(0)
        del live[5:]
        assert live.tolist() == [*range(4_401, 4_406)]
        live.append(1)
        assert (live.pop(0), live[-1], len(live), v.check()) == (4_401, 1, 5, [])

    @pytest.mark.parametrize('dtype', ['int64', 'S5', 'bool', 'uint16'])
    @given(changes=changes, data=st.data())
    @settings(max_examples=15)
    def test_it_does_what_a_list_does(self, dtype, changes, data, tmp_path_factory):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(columns, 'LEAF', 40)
            patch.setattr(sequences, 'LEAF', 40)
            patch.setattr(parts, 'FANOUT', 4)
            make = {'int64': int, 'uint16': int, 'bool': lambda number: number % 3 == 0, 'S5': lambda number: b'%d' % (number % 9999)}
            items = map(make[dtype], itertools.count())
            both = TwoLists(tmp_path_factory.mktemp('column') / 'v.db', lambda v: v.column('one', dtype), items)
            for change in changes:
                both.do(*change)
                both.same()
            assert [*map(type, both.live)] == [*map(type, both.plain)]
            both.end()

    @pytest.mark.parametrize('dtype', DTYPES)
    @given(data=st.data())
    @settings(max_examples=20)
    def test_every_type_gives_back_what_was_put(self, dtype, data, tmp_path_factory):
        items = data.draw(st.lists(sample(dtype), max_size=30))
        v = Vault(tmp_path_factory.mktemp('types') / 'v.db')
        column = v.column('one', dtype)
        column.extend(iter(items))
        assert column.tolist() == items == list(column) and [*map(type, column)] == [*map(type, items)]
        for at, item in enumerate(items):
            assert column[at] == item and type(column[at]) is type(item)
        if items:
            column.append(items[0])
            assert column[-1] == items[0] and len(column) == len(items) + 1
        assert v.check() == []
        v.close()

    @pytest.mark.parametrize('dtype, wrong', [
        ('int8', [128]), ('int8', [-129]), ('uint8', [-1]), ('uint64', [2**64]), ('int64', [2**63]), ('int64', [1.5]), ('int64', ['1']),
        ('int64', [None]), ('float64', ['1.5']), ('float64', [None]), ('float32', [1e300]), ('float32', ['a']), ('bool', [1]),
        ('bool', ['']), ('S5', ['a']), ('S5', [b'123456']), ('S5', [b'a\0']), ('S5', [5]), ('datetime64[ns]', ['2026-11-21']),
        ('datetime64[ns]', [True]), ('datetime64[ns]', [1.5]), ('datetime64[ns]', [dt.datetime(1, 1, 1)]),
        ('datetime64[D]', [dt.datetime(2026, 11, 21, 1)]), ('datetime64[s]', [dt.datetime(2026, 11, 21, 1, 1, 1, 5)]),
        ('int64', '12'), ('S5', b'abc'), ('uint8', 'abc')])
    def test_what_does_not_fit_raises_and_writes_nothing(self, v, dtype, wrong):
        column = v.column('one', dtype)
        good = [item for item in [0, False, b'x'] if not self.refused(column, item)]
        column.extend(good * 2000)
        before = column.tolist()
        for act in (lambda: column.extend([*good, *wrong]), lambda: column.append(next(iter(wrong))), lambda: column.insert(0, next(iter(wrong))),
                    lambda: column.__setitem__(0, next(iter(wrong))), lambda: column.__setitem__(slice(0, 1), wrong)):
            with pytest.raises((TypeError, ValueError, OverflowError), match=f"column of {re.escape(dtype)} at key 'one'"):
                act()
            assert column.tolist() == before

    def refused(self, column, item):
        try:
            column._type.pack([item])
        except (TypeError, ValueError, struct.error):
            return True
        return False

    def test_moments(self, v):
        times = v.column('times', 'datetime64[ns]')
        noon = dt.datetime(2026, 11, 21, 12, 30, 0, 5)
        times.extend([noon, noon.replace(tzinfo=dt.timezone(dt.timedelta(hours=2))), dt.date(1970, 1, 2), 17])
        assert times[3] == 17 and times[2] == 86_400 * 10**9 and times[0] - times[1] == 2 * 3600 * 10**9
        assert times[0] == 1795264200000005000
        assert noon in times and times.index(noon) == 0 and times.count(noon) == 1 and times[:1].tolist() == times.tolist(0, 1)
        assert dt.datetime(1, 1, 1) not in times and 'x' not in times and times == [noon, *times[1:]]
        times.remove(dt.date(1970, 1, 2))
        assert len(times) == 3
        days = v.column('days', 'datetime64[D]')
        days.append(dt.date(2026, 11, 21))
        assert dt.date(1970, 1, 1) + dt.timedelta(days[0]) == dt.date(2026, 11, 21)

    @pytest.mark.parametrize('dtype', ['int', 'float16', 'object', 'S', 'S0', 'S-1', 'datetime64', 'datetime64[x]', 'complex128', '', 5, None, 'U5', '>i8'])
    def test_other_types_are_refused(self, v, dtype):
        with pytest.raises(TypeError, match='a column has no type'):
            v.column('one', dtype)
        assert 'one' not in v

    def test_a_column_has_one_type(self, v):
        v.column('one', 'int8')
        assert v.column('two', float).dtype == 'float64' and v.column('three', int).dtype == 'int64'
        with pytest.raises(TypeError, match="a column of int8, not a column of int16, at key 'one'"):
            v.column('one', 'int16')
        v['plain'] = 5
        with pytest.raises(TypeError, match='a plain int, not a column of int8'):
            v.column('plain', 'int8')

    def test_one_item_is_no_items(self, v):
        v.list('log').append(1)
        for walked, said in ((v.list('log'), 'the list has 1 item$'), (v.keys(), 'the vault has 1 entry here$')):
            with pytest.raises(IndexError, match=said):
                walked[5]

    def test_what_is_there_instead_is_named_without_loading_it(self, v, monkeypatch):
        v.list('log').append(1)
        deep = []
        for _ in range(2_000):
            deep = [deep]
        v['deep'] = deep
        v['class'] = Custom(1)
        with v.open('film', 'wb') as file:
            file.write(bytes(100_000))
        monkeypatch.setattr(vault.Vault, '__getitem__', None)
        for key, said in (('log', 'a list made by list()'), ('film', 'a stream'), ('deep', 'a deep value'), ('class', 'a plain tests.Custom')):
            with pytest.raises(TypeError, match=f'^there is {re.escape(said)}, not a column of int8, at key {key!r}'):
                v.column(key, 'int8')

    def test_buffers_are_taken_as_they_are(self, v):
        column = v.column('one', 'int64')
        column.extend(array.array('q', range(5000)))
        column.extend(memoryview(array.array('q', [7, 8]))[1:])
        column.extend(array.array('b', [-1, 2]))
        column.extend(array.array('q'))
        column.extend(b'ab')
        column.extend(range(3))
        assert column == [*range(5000), 8, -1, 2, 97, 98, 0, 1, 2]
        column.extend(memoryview(array.array('q', range(10)))[::3])
        assert column[-4:] == array.array('q', [0, 3, 6, 9])
        column[:] = column
        column.extend(column)
        assert len(column) == 2 * 5012

    def test_slices_of_types_that_array_lacks_are_memoryviews(self, v):
        flags = v.column('flags', 'bool')
        flags.extend([True, False, True])
        assert type(flags[:]) is memoryview and flags[:2].tolist() == [True, False] and flags[::2].tolist() == [True, True]
        names = v.column('names', 'S4')
        names.extend([b'ab', b'', b'abcd'])
        assert names[1:].shape == (2, 4) and bytes(names[:]) == b'ab\0\0\0\0\0\0abcd' and names[9:].nbytes == 0
        assert names[0] == b'ab' and list(names) == names.tolist() == [b'ab', b'', b'abcd'] == [*sorted(names, key=len)[1:2], b'', b'abcd']
        assert names == [b'ab', b'', b'abcd'] and b'abcd' in names and names.tolist(1) == [b'', b'abcd']
        names.extend(names)
        names.extend(names[:1])
        names[::2] = names[::2]
        names[3:] = names[3:]
        names[:] = names
        assert list(names) == [b'ab', b'', b'abcd', b'ab', b'', b'abcd', b'ab']
        del names[3:]
        names.sort(reverse=True)
        assert list(names) == [b'abcd', b'ab', b'']

    @pytest.mark.parametrize('dtype', DTYPES)
    def test_numpy_arrays_go_in_and_out(self, v, dtype):
        numpy = pytest.importorskip('numpy')
        column = v.column('one', numpy.dtype(dtype))
        assert column.dtype == dtype
        items = numpy.arange(3000).astype(dtype) if dtype[0] != 'S' else numpy.array([b'%d' % one for one in range(3000)], dtype)
        for put in (items, items[::3], items[:0], items[::-1], items.astype(items.dtype.newbyteorder('>'))):
            column.clear()
            column.extend(put)
            found = column.to_numpy()
            assert found.dtype == items.dtype and (found == put).all() and found.flags.writeable
            assert column.tolist() == list(column) and len(column) == len(put)
        column.clear()
        column.extend(items)
        assert (column.to_numpy(5, -5) == items[5:-5]).all() and len(column.to_numpy(5, 2)) == 0
        column.append(items[7])
        column.extend(list(items[:3]))
        assert (column.to_numpy(-4) == items[[7, 0, 1, 2]]).all()
        column[0:10] = items[10:20]
        assert (column.to_numpy(0, 10) == items[10:20]).all()

    @pytest.mark.parametrize('dtype, items, error', [
        ('int8', [128], OverflowError), ('uint8', [-1], OverflowError), ('uint64', [-1], OverflowError), ('int64', [1.0], TypeError),
        ('float32', [1e300], OverflowError), ('bool', [1], TypeError), ('int8', ['a'], TypeError), ('S3', [b'abcd'], OverflowError),
        ('datetime64[ns]', [5], TypeError), ('float64', [[1.0]], ValueError), ('float64', [1j], TypeError)])
    def test_numpy_values_that_do_not_fit_are_refused(self, v, dtype, items, error):
        numpy = pytest.importorskip('numpy')
        column = v.column('one', dtype)
        with pytest.raises(error, match="at key 'one'"):
            column.extend(numpy.array(items))
        assert len(column) == 0

    def test_numpy_moments_are_exact_or_refused(self, v):
        numpy = pytest.importorskip('numpy')
        times = v.column('one', 'datetime64[s]')
        times.extend(numpy.array(['2026-11-21T10:00', 'NaT'], 'datetime64[m]'))
        assert times.to_numpy()[0] == numpy.datetime64('2026-11-21T10:00:00') and numpy.isnat(times.to_numpy()[1])
        with pytest.raises(OverflowError, match='out of range'):
            times.extend(numpy.array(['2026-11-21T10:00:00.5'], 'datetime64[ms]'))
        with pytest.raises(ValueError, match='finer'):
            times.append(numpy.datetime64('2026-11-21T10:00:00.5'))
        times.append(numpy.datetime64('2026-11-21'))
        assert len(times) == 3

    def test_a_column_keeps_or_refuses_every_nanosecond(self, v):
        numpy, pandas = pytest.importorskip('numpy'), pytest.importorskip('pandas')
        moments = [pandas.Timestamp(1795264200000005137 + 137 * at) for at in range(300)]
        wanted = [moment.value for moment in moments]
        aware = [moment.tz_localize('UTC').tz_convert('Europe/Paris') for moment in moments]
        series, index = pandas.Series(moments), pandas.DatetimeIndex(moments)
        sources = {
            'list': moments, 'tuple': tuple(moments), 'aware': aware, 'series': series, 'index': index,
            'aware series': pandas.Series(aware), 'aware index': pandas.DatetimeIndex(aware), 'array': series.array,
            'array of datetime64': numpy.array(wanted, 'M8[ns]'), 'objects': numpy.array(moments, object), 'Series of objects': series.astype(object), 'aware array': pandas.array(aware),
            'scalars': list(numpy.array(wanted, 'M8[ns]')), 'numbers': wanted, 'big-endian': numpy.array(wanted, '>M8[ns]')}
        for name, items in sources.items():
            column = v.column(name, 'datetime64[ns]')
            column.extend(items)
            column.extend(iter(items))
            column += items
            column[300:600] = items
            column[599:299:-1] = items
            assert column.tolist() == wanted + wanted[::-1] + wanted, name
            column[0], column[1] = items[1], items[0]
            column.append(items[2])
            column.insert(0, items[3])
            assert column[:3].tolist() == [wanted[3], wanted[1], wanted[0]] and column[-1] == wanted[2], name
            assert column.index(items[0]) == 2 and column.count(items[3]) == 4 and items[299] in column, name
            column.remove(items[3])
            assert column[0] == wanted[1], name
            if name == 'numbers':
                continue
            coarse = v.column((name, 'us'), 'datetime64[us]')
            for act in (lambda: coarse.extend(items), lambda: coarse.extend(iter(items)), lambda: coarse.append(items[0]),  # noqa: B023
                        lambda: coarse.insert(0, items[0]), lambda: coarse.__setitem__(slice(0, 0), items)):  # noqa: B023
                with pytest.raises((ValueError, OverflowError)):
                    act()
            coarse.append(wanted[0] // 1000)
            assert items[0] not in coarse and coarse.count(items[0]) == 0, name
            with pytest.raises(ValueError, match='is not in the column'):
                coarse.index(items[0])
            assert len(coarse) == 1, name

    def test_moments_of_polars_and_arrow_come_whole(self, v):
        polars, pyarrow = pytest.importorskip('polars'), pytest.importorskip('pyarrow')
        wanted = [1795264200000005137, 1795264200000005138]
        for name, items in {
                'polars': polars.Series(wanted).cast(polars.Datetime('ns')),
                'aware polars': polars.Series(wanted).cast(polars.Datetime('ns', 'Europe/Paris')),
                'arrow': pyarrow.array(wanted, pyarrow.timestamp('ns')),
                'aware arrow': pyarrow.array(wanted, pyarrow.timestamp('ns', 'Europe/Paris')),
                'chunks': pyarrow.chunked_array([pyarrow.array([one], pyarrow.timestamp('ns')) for one in wanted])}.items():
            column = v.column(name, 'datetime64[ns]')
            column.extend(items)
            column[::-1] = items
            column[:0] = items
            assert column.tolist() == wanted + wanted[::-1], name
            with pytest.raises(OverflowError, match=r'finer than datetime64\[us\]'):
                v.column((name, 'us'), 'datetime64[us]').extend(items)
        days = v.column('days', 'datetime64[D]')
        days.extend(polars.Series([dt.date(2026, 11, 21), None]))
        assert days.tolist() == [20778, -2**63]

    def test_nothing_is_nat_among_moments_and_refused_among_numbers(self, v):
        numpy, pandas = pytest.importorskip('numpy'), pytest.importorskip('pandas')
        polars, pyarrow = pytest.importorskip('polars'), pytest.importorskip('pyarrow')
        times, nat = v.column('times', 'datetime64[s]'), -2**63
        for one in (pandas.NaT, numpy.datetime64('NaT'), numpy.datetime64('NaT', 'ns')):
            times.append(one)
            assert one in times and times.count(one) == len(times)
        times.extend(pandas.Series([pandas.NaT]))
        times.extend(pandas.DatetimeIndex([None], tz='UTC'))
        times.extend(polars.Series([None]).cast(polars.Datetime('ns')))
        times.extend(pyarrow.array([None], pyarrow.timestamp('ns')))
        assert times.tolist() == [nat] * 7 and numpy.isnat(times.to_numpy()).all()
        for dtype, items in (('float64', polars.Series([1.5, None])), ('float64', pyarrow.array([1.5, None])),
                             ('float64', pandas.array([1.5, None], 'Float64')), ('float64', pandas.Series([1, None], dtype='Int64')),
                             ('int64', polars.Series([1, None])), ('int64', pandas.array([1, None], 'Int64')), ('bool', polars.Series([True, None])),
                             ('float64', pandas.Series([1.5, None], dtype='float64[pyarrow]'))):
            with pytest.raises((TypeError, ValueError)):
                v.column(dtype, dtype).extend(items)
            assert not len(v[dtype])

    @pytest.mark.parametrize('dtype, items', [
        ('float64', [1.5, 2.0]), ('float64', [3, 4]), ('float32', [0.5, 0.25]), ('int64', [3, 2**63 - 1]), ('uint8', [3, 255]),
        ('bool', [True, False]), ('uint64', [2**63 - 1])])
    def test_series_of_polars_pandas_and_arrow_are_taken(self, v, dtype, items):
        polars, pandas, pyarrow = (pytest.importorskip(name) for name in ('polars', 'pandas', 'pyarrow'))
        column = v.column('one', dtype)
        for make in (polars.Series, pandas.Series, pandas.Index, pyarrow.array, lambda items: pandas.Series(items).astype(object)):
            column.extend(make(items))
            column[::1] = make(items)
            assert column.tolist() == items
        v.column('bytes', 'S3').extend(polars.Series([b'a', b'abc']))
        assert v['bytes'].tolist() == [b'a', b'abc']

    @pytest.mark.parametrize('dtype, item', [
        ('float64', 2**53 + 1), ('float64', -2**63 + 1), ('float64', decimal.Decimal('0.1')), ('float64', fractions.Fraction(1, 3)),
        ('float32', 2**24 + 1), ('float32', decimal.Decimal('0.1')), ('float32', fractions.Fraction(1, 3)), ('float64', 10**400),
        ('int64', 1.5), ('int64', 1.0), ('int64', decimal.Decimal(1)), ('int64', fractions.Fraction(1)), ('int64', '1'),
        ('S5', 'abc'), ('bool', 1), ('datetime64[ns]', dt.timedelta(1)), ('datetime64[us]', dt.time(1)), ('float64', 1j)])
    def test_a_value_that_would_be_changed_is_refused(self, v, dtype, item):
        column = v.column('one', dtype)
        for act in (lambda: column.append(item), lambda: column.extend([item]), lambda: column.extend(iter((item,))), lambda: column.insert(0, item)):
            with pytest.raises((TypeError, ValueError, OverflowError), match='at key'):
                act()
        assert len(column) == 0 and item not in column

    def test_what_is_wrong_with_a_number_is_said(self, v):
        column = v.column('one', 'float64')
        for item, error in ((10**400, OverflowError), (decimal.Decimal('sNaN'), ValueError), (decimal.Decimal('1e400'), ValueError), ('1', TypeError),
                            (None, TypeError)):
            for act in (column.append, lambda item: column.extend([1.5, item])):
                with pytest.raises(error, match='at key') as caught:
                    act(item)
                assert caught.type is error and not len(column)

    def test_a_value_that_is_exact_in_another_type_is_taken(self, v):
        floats = v.column('floats', 'float64')
        exact = [2**53, -2**60, True, decimal.Decimal('0.5'), fractions.Fraction(1, 4), 0.1, float('inf')]
        floats.extend(exact)
        for one in exact:
            floats.append(one)
        assert floats.tolist() == exact * 2 and [*map(type, floats)] == [float] * 14
        floats.append(decimal.Decimal('NaN'))
        assert floats[-1] != floats[-1]
        small = v.column('small', 'float32')
        small.extend([0.1, 2**24, 2.0**24 + 1, 1e-300])
        assert small.tolist() == [struct.unpack('f', struct.pack('f', 0.1))[0], 2.0**24, 2.0**24, 0]
        whole = v.column('whole', 'int8')
        whole.extend([True, False])
        assert whole == [1, 0]

    def test_numpy_scalars_and_arrays_that_would_be_changed_are_refused(self, v):
        numpy = pytest.importorskip('numpy')
        longs = numpy.array(['0.1'], numpy.longdouble)
        cases = [('float64', numpy.array([2**53 + 1])), ('float64', numpy.array([2**64 - 1], 'u8')), ('float32', numpy.array([2**24 + 1])),
                 ('int64', numpy.array([1.0])), ('S5', numpy.array(['abc'])), ('int64', numpy.array([5], 'm8[s]')),
                 ('float64', numpy.array([5], 'm8[s]')), ('datetime64[ns]', numpy.array([5], 'm8[s]')), ('int64', numpy.array([5], 'M8[s]')),
                 ('datetime64[ns]', numpy.array(['5000-01-01'], 'M8[s]')), ('datetime64[ns]', numpy.array(['-400000'], 'M8[Y]')),
                 ('datetime64[D]', numpy.array(['2026-11-21T01'], 'M8[h]')), ('datetime64[W]', numpy.array(['2026-11-21'], 'M8[D]')),
                 ('datetime64[ns]', numpy.array([1001], 'M8[ps]'))]
        cases += [('float64', longs), ('float32', longs)] if numpy.longdouble is not numpy.float64 and longs[0] != 0.1 else []
        for at, (dtype, items) in enumerate(cases):
            column = v.column(at, dtype)
            for act in (lambda: column.extend(items), lambda: column.extend(list(items)), lambda: column.append(items[0]),  # noqa: B023
                        lambda: column.extend(items.astype(object)) if items.dtype.kind in 'iuUg' else column.append(items[0])):  # noqa: B023
                with pytest.raises((TypeError, ValueError, OverflowError), match='at key'):
                    act()
            assert len(column) == 0 and items[0] not in column, (dtype, items)
        v.column('years', 'datetime64[s]').extend(numpy.array(['1971'], 'M8[Y]'))
        assert v['years'].tolist() == [365 * 86_400]
        v.column('exact', 'float64').extend(numpy.array([2**60, -2**63]))
        assert v['exact'].tolist() == [2.0**60, -2.0**63]

    def test_an_array_that_holds_more_than_its_numbers_is_refused(self, v):
        numpy = pytest.importorskip('numpy')

        class Metres(numpy.ndarray):
            pass
        column = v.column('one', 'int64')
        for items in (numpy.ma.masked_array([1, 2], [False, True]), numpy.arange(3).view(Metres)):
            with pytest.raises(TypeError, match=r'numpy.asarray'):
                column.extend(items)
        column.extend(numpy.asarray(numpy.arange(3).view(Metres)))
        assert column == [0, 1, 2]

    def test_a_moment_that_holds_more_than_a_datetime_is_refused(self, v):
        class Fine(dt.datetime):
            nanosecond = 137

            def __eq__(self, other):
                return isinstance(other, Fine)

            __hash__ = dt.datetime.__hash__

        class Same(dt.datetime):
            pass
        column = v.column('one', 'datetime64[ns]')
        with pytest.raises(ValueError, match='holds more than a datetime'):
            column.append(Fine(2026, 11, 21))
        column.append(Same(2026, 11, 21, fold=1))
        column.append(Same(2026, 11, 21, tzinfo=UTC))
        assert column[0] == column[1] and Fine(2026, 11, 21) not in column

    def test_moments_of_another_column_come_in_the_units_of_this_one(self, v):
        fine, coarse, numbers = v.column('fine', 'datetime64[ns]'), v.column('coarse', 'datetime64[us]'), v.column('numbers', 'int64')
        coarse.extend([1795264200000005, dt.datetime(2026, 11, 21), -2**63])
        fine.extend(coarse)
        assert fine == coarse and coarse == fine and fine[0] == 1795264200000005000 and fine[2] == -2**63
        coarse[:1] = fine
        fine.append(1)
        for change in (lambda: coarse.extend(fine), lambda: coarse.__setitem__(slice(None, None, 2), fine), lambda: numbers.extend(fine)):
            with pytest.raises((ValueError, TypeError), match='at key'):
                change()
        assert fine != coarse and len(coarse) == 5 and not len(numbers)

    def test_to_numpy_without_numpy_names_the_extra(self, v, monkeypatch):
        monkeypatch.setitem(sys.modules, 'numpy', None)
        v.column('one', 'int8').append(1)
        with pytest.raises(ImportError, match=r'vaults\[numpy\]'):
            v['one'].to_numpy()


section_scalars = (st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3)
           | st.sampled_from(['a', 'a\0', 'a\0b', '\0', '\ud800', '\udfff', 'é', '\U0010ffff', b'a', b'a\0', b'\xff'])
           | st.binary(max_size=3) | st.dates() | st.datetimes() | st.datetimes(timezones=st.just(UTC)) | st.uuids())
section_keys = st.recursive(section_scalars, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=5)
AROUND = ['users', ('users',), ('users\0', 'x'), ('user', 'x'), ('userss', 'x'), ('users', ), (('users',), 'x'),
          ('users\x01', 'x'), ('users ', 1), b'users', (b'users', 'x'), ('a', 'users'), (), None, 1, ('zz', 'y')]


class TestSectionKeys:
    """A section keeps every key apart that the vault would, and each key comes back as the one it was."""

    @given(section_keys, section_keys)
    def test_two_keys_are_one_in_a_section_when_they_are_one_in_a_vault(self, one, other):
        coder = Prefixed(('users',))
        assert (coder.encode(one) == coder.encode(other)) == (keys.encode(one) == keys.encode(other) or one == other)

    def test_awkward_texts_are_apart_and_come_back(self, v):
        users = v.section('users')
        texts = ['', '\0', 'a', 'a\0', 'a\0\0', 'a\0b', 'a\x01', '\ud800', '\udfff', '?', '\U0010ffff']
        wanted = [*texts, *((text,) for text in texts), *((text, text) for text in texts), *map(os.fsencode, texts[:7])]
        users.update((key, repr(key)) for key in wanted)
        assert users.items() == [(key, repr(key)) for key in wanted]
        assert list(v) == [('users', *suffix(key)) for key in wanted]

    @given(section_keys, st.lists(section_keys, min_size=1, max_size=3).map(tuple))
    def test_what_comes_back_is_the_key(self, key, path):
        coder = Prefixed(path)
        back = coder.decode(coder.encode(key))
        assert back == key and coder.encode(back) == coder.encode(key)

    @given(st.lists(section_keys, min_size=1, max_size=4).map(tuple))
    def test_each_tuple_but_the_empty_one_is_the_suffix_of_one_key(self, behind):
        key = behind if suffix(behind) is behind else behind[0]
        assert suffix(key) == behind

    @given(section_keys, st.lists(section_keys, min_size=1, max_size=3).map(tuple))
    def test_it_is_the_key_of_the_vault_behind_the_path_and_within_the_bounds(self, key, path):
        coder = Prefixed(path)
        low, high = coder.bounds()
        assert coder.encode(key) == keys.encode(path + suffix(key)) and low <= coder.encode(key) < high

    @given(st.lists(section_keys, max_size=4).map(tuple), st.lists(section_keys, min_size=1, max_size=3).map(tuple))
    def test_nothing_else_is_within_the_bounds(self, key, path):
        low, high = Prefixed(path).bounds()
        packed = keys.encode(key)
        begins = len(key) > len(path) and keys.encode(key[:len(path)]) == keys.encode(path)
        assert (low <= packed < high) == begins

    def test_the_places_in_the_vault(self, v):
        users = v.section('users')
        users['ann'], users['ann', 'age'], users[('ann',)], users[()], users[(('a', 'b'),)] = 1, 2, 3, 4, 5
        users[(('ann',),)], users[((),)] = 6, 7
        assert list(v) == [('users', 'ann'), ('users', 'ann', 'age'), ('users', ('ann',)), ('users', ()),
                           ('users', ('a', 'b')), ('users', (('ann',),)), ('users', ((),))]
        assert list(users) == ['ann', ('ann', 'age'), ('ann',), (), (('a', 'b'),), (('ann',),), ((),)]
        assert users.section('ann').items() == [('age', 2)] and v.section('users')[('ann',)] == 3

    def test_equal_keys_are_one_and_what_is_no_key_raises(self, v):
        users = v.section('users')
        users[1] = 'one'
        users[True] = users[1.0] = 'same'
        assert users.items() == [(1, 'same')] and 1.0 in users
        for wrong in ([1], {}, object()):
            with pytest.raises(TypeError, match='a key is'):
                users[wrong] = 1
        with pytest.raises(ValueError, match='NaN'):
            users[float('nan')] = 1
        deep = ()
        for _ in range(100_000):
            deep = (deep,)
        with pytest.raises(ValueError, match='too deep'):
            users[deep] = 1
        assert len(users) == 1
        with pytest.raises(TypeError, match='unhashable'):  # as a dict's keys
            users.keys().__contains__([1])

    def test_a_damaged_key_is_reported(self):
        coder = Prefixed(('u',))
        for damaged in (b'\x02a\0', b'\x02\xff\xff\0\0', b'\x02a\0\x03', b'\x0a', b'\x01'):
            with pytest.raises(vaults.VaultCorruptError):
                coder.decode(keys.encode(('u',))[:-1] + damaged)

    def test_names_are_any_keys_and_equal_ones_are_one_section(self, v):
        names = [None, True, 2.5, 'text', b'bytes', dt.date(2026, 1, 2), uuid.UUID(int=5), ('a', 'b'), ('a',), (), 'a\0b']
        for place, name in enumerate(names):
            v.section(name)['x'] = place
            assert v.section(name).items() == [('x', place)] and v[name, 'x'] == place
        assert v.section(1).items() == v.section(1.0).items() == [('x', 1)] and repr(v.section(True).path) == '(1,)'
        assert len(v.sections()) == len(names) == len(v)
        for wrong, error in (([1], TypeError), (float('nan'), ValueError), (slice(1), TypeError)):
            with pytest.raises(error):
                v.section(wrong)


class SectionMachine(DictMachine):
    """A section and a dict do the same, whatever is done; what lies around it stays as it was."""

    bounds = DictMachine.key.filter(lambda key: key is not None)  # which is no bound
    path = ('users',)

    @initialize()
    def start(self):
        self.folder = tempfile.mkdtemp()
        self.vault = self.opened()
        self.vault.update((key, place) for place, key in enumerate(AROUND))
        self.around = dict(self.vault)
        self.v, self.d, self.saved = self.section(), collections.OrderedDict(), []

    def opened(self):
        return Vault(pathlib.Path(self.folder, 'v.db'), **self.options)

    def section(self):
        found = self.vault
        for name in self.path:
            found = found.section(name)
        return found

    @rule(wanted=st.lists(DictMachine.key, max_size=4))
    def pop_many(self, wanted):
        expected = {key: self.d[key] for key in wanted if key in self.d}
        assert self.v.get_many(wanted) == expected == self.v.pop_many(wanted)
        for key in expected:
            del self.d[key]

    @rule(low=bounds, high=bounds)
    def delete_slice(self, low, high):
        inside = [key for key in self.d if keys.encode(self.path + suffix(low)) <= keys.encode(self.path + suffix(key))
                  < keys.encode(self.path + suffix(high))]
        assert set(self.v[low:high]) == set(inside) and len(self.v[low:high]) == len(inside)
        del self.v[low:high]
        for key in inside:
            del self.d[key]

    @precondition(lambda self: len(self.saved) < 3)
    @rule(outer=st.booleans())
    def begin(self, outer):
        (self.vault if outer else self.v).__enter__()
        self.saved.append((self.d.copy(), outer))

    @precondition(lambda self: self.saved)
    @rule()
    def commit(self):
        (self.vault if self.saved.pop()[1] else self.v).__exit__(None, None, None)

    @precondition(lambda self: self.saved)
    @rule()
    def roll_back(self):
        self.d, outer = self.saved.pop()
        (self.vault if outer else self.v).__exit__(ValueError, ValueError(), None)

    @precondition(lambda self: not self.saved)
    @rule()
    def reopen(self):
        self.vault.close()
        self.vault = self.opened()
        self.v = self.section()

    @invariant()
    def same(self):
        if hasattr(self, 'v'):
            assert list(self.v.items()) == list(self.d.items())
            assert list(self.v) == list(self.d) and list(reversed(self.v)) == list(self.d)[::-1]
            assert len(self.v) == len(self.d) and self.v == self.d and bool(self.v) == bool(self.d)
            assert len(self.vault) == len(self.d) + len(self.around)
            assert {key: value for key, value in self.vault.items() if key in self.around} == self.around

    def teardown(self):
        if hasattr(self, 'v'):
            while self.saved:
                self.commit()
            self.v._check()
            self.vault.close()
            shutil.rmtree(self.folder)


class NestedWriteBackMachine(SectionMachine):
    options = {'writeback': True, 'cache_size': 3}
    path = ('users', ('ann', 1))


class ValidatingMachine(SectionMachine):
    options = {'validate': lambda key, value: None}


TestASectionAsADict = SectionMachine.TestCase
TestANestedSectionAsADict = NestedWriteBackMachine.TestCase
TestAValidatingSectionAsADict = ValidatingMachine.TestCase
for case in (TestASectionAsADict, TestANestedSectionAsADict, TestAValidatingSectionAsADict):
    case.settings = settings(max_examples=5, stateful_step_count=25, deadline=None,
                             suppress_health_check=list(HealthCheck))
del case


class TestSections:
    def test_the_prefix_does_not_show_and_the_vault_has_it(self, v):
        users = v.section('users')
        users.update(ann='Ann', bob='Bob')
        v['users', 'cid'] = 'Cid'
        assert users == {'ann': 'Ann', 'bob': 'Bob', 'cid': 'Cid'} and v['users', 'ann'] == 'Ann'
        assert repr(users) == "Section('test', ('users',), 3 items)" and users.name == 'test'
        assert users.path == ('users',) and users.db_path == v.db_path

    def test_making_one_makes_nothing(self, v):
        users = v.section('users')
        assert v.sections() == [] and not users and len(v) == 0 and users.items() == []
        with pytest.raises(KeyError):
            users.popitem()

    def test_what_is_around_is_never_shown_counted_or_deleted(self, v):
        v.update((key, place) for place, key in enumerate(AROUND))
        before, users = v.copy(), v.section('users')
        assert not users and len(users) == 0 and list(users) == [] and list(users[:]) == []
        users['x'] = 1
        del users[:]
        users['y'] = 2
        users.clear()
        assert v.items() == list(before.items())

    def test_the_entry_at_the_path_itself_is_not_in_it(self, v):
        v['users',] = 'the tuple'
        users = v.section('users')
        users['ann'] = 'Ann'
        ann = users.section('ann')
        ann['age'] = 5
        assert ann.items() == [('age', 5)] and users.keys() == ['ann', ('ann', 'age')]
        ann.clear()
        assert users.items() == [('ann', 'Ann')] and v['users',] == 'the tuple'

    def test_views_slices_and_ranges(self, v):
        users = v.section('users')
        for name in ('cid', 'ann', 'bob'):
            users[name] = name.upper()
        assert users.keys() == ['cid', 'ann', 'bob'] and users.values()[-1] == 'BOB' and users.keys() & {'ann'} == {'ann'}
        assert users['b':].items() == [('bob', 'BOB'), ('cid', 'CID')] and users[:].first() == ('ann', 'ANN')
        assert users['b':][:'c'].keys() == ['bob'] and list(reversed(users)) == ['bob', 'ann', 'cid']
        assert list(users.irange('ann', 'bob')) == ['ann', 'bob']
        assert list(users.irange('ann', 'bob', (False, False))) == [] == list(users.irange('z', 'a'))
        assert list(users.irange(reverse=True)) == ['cid', 'bob', 'ann'] and 'dan' not in users[:]
        assert users.copy() == {**users} == users | {} and users.has_keys(['ann', 'bob'])
        with pytest.raises(TypeError, match='step'):
            users[::2]
        with pytest.raises(TypeError, match='assigned'):
            users['a':'b'] = 1

    def test_a_tuple_stands_behind_its_first_element(self, v):
        users = v.section('users')
        for key in (('b',), ('a', 2), 'b', 'ab', 'a', ('a', 1), ('b', 1), 3, (3, 'x'), None):
            users[key] = 0
        ordered = [3, (3, 'x'), 'a', ('a', 1), ('a', 2), 'ab', 'b', ('b', 1), None, ('b',)]
        assert users[:].keys() == ordered
        assert users['a':'b'].keys() == ['a', ('a', 1), ('a', 2), 'ab']
        assert users[('a', 2):'b'].keys() == [('a', 2), 'ab']
        del users['a':'b']
        assert set(users) == {('b',), 'b', ('b', 1), 3, (3, 'x'), None}

    @given(st.lists(section_keys, max_size=8))
    def test_the_order_is_that_of_the_keys_in_the_vault(self, wanted):
        vault = Vault(':memory:')
        users = vault.section('users')
        users.update((key, 0) for key in wanted)
        assert [('users', *suffix(key)) for key in users[:]] == list(vault[:])
        assert list(reversed(users[:])) == list(users[:])[::-1]
        vault.close()

    def test_prefixes_of_text_bytes_and_tuples(self, v):
        users = v.section('users')
        for key in ('an', 'ann', 'anna', 'ao', ('ann', 1), ('ann', 2, 3), ('ann',), ('an\ud800', 1), 'an\U0010ffff', b'an',
                    b'ann', b'\xff', b'\xff\xff', (b'ann', 1), 7, (('ann', 1), 2), (('ann', 1),), ()):
            users[key] = 0
        assert users.prefix('ann').keys() == ['ann', ('ann', 1), ('ann', 2, 3), 'anna']
        assert users.prefix('an\U0010ffff').keys() == ['an\U0010ffff'] and ('an\ud800', 1) in users.prefix('an')
        assert users.prefix(b'ann').keys() == [b'ann', (b'ann', 1)] and users.prefix(b'\xff').keys() == [b'\xff', b'\xff\xff']
        assert users.prefix(b'').keys() == [b'an', b'ann', (b'ann', 1), b'\xff', b'\xff\xff']
        assert users.prefix(('ann',)).keys() == [('ann', 1), ('ann', 2, 3)] and users.prefix(('ann', 2)).keys() == [('ann', 2, 3)]
        assert users.prefix((('ann', 1),)).keys() == [(('ann', 1),), (('ann', 1), 2)]
        assert users.prefix(()).keys() == users[:].keys()
        with pytest.raises(TypeError, match='a prefix is'):
            users.prefix(7)

    @given(st.text(max_size=2), st.lists(st.text(max_size=3) | st.binary(max_size=3), max_size=8), st.binary(max_size=2))
    def test_a_prefix_finds_all_that_begin_with_it(self, text, wanted, data):
        vault = Vault(':memory:')
        users = vault.section('users')
        users.update((key, 0) for key in wanted)
        for prefix in (text, data):
            begin = {key for key in wanted if type(key) is type(prefix) and key.startswith(prefix)}
            assert set(users.prefix(prefix)) == begin
        vault.close()

    def test_many_at_once_and_in_place(self, v):
        users = v.section('users')
        assert users.put_many(iter([('a', [1]), ('b', [2])])) == 2 and users.setdefault('c', [3]) == [3]
        with users.edit('a') as value:
            value.append(2)
        users |= {'d': 4}
        assert users.pop_many(['b', 'x']) == {'b': [2]} and users.pop('c') == [3] and users.popitem() == ('d', 4)
        assert v.items() == [(('users', 'a'), [1, 2])]
        with pytest.raises(KeyError) as caught:
            users['gone']
        assert caught.value.args == ('gone',)

    def test_errors_name_the_key_of_the_vault(self, v):
        with pytest.raises(vaults.SerializationError, match=r"\('users', 'ann'\) of the vault"):
            v.section('users')['ann'] = sys._getframe()
        with pytest.raises(vaults.SerializationError, match=r"\('users', 'ann', 'x'\) of the vault"):
            v.section('users').update({('ann', 'x'): sys._getframe()})

    def test_len_clear_and_del_are_one_statement_each(self, v):
        users = v.section('users')
        users.update((place, place) for place in range(2000))
        v['zz'] = 1

        def counted(act):
            seen = statements(v)
            act()
            v._store._local.c.raw.set_trace_callback(None)
            return [line.split()[0] for line in seen if 'key >=' in line or line.startswith(('INSERT', 'DELETE'))]
        assert counted(lambda: len(users)) == ['SELECT'] and counted(lambda: bool(users)) == ['SELECT']
        assert counted(lambda: users.__delitem__(slice(10, 1000))) == ['DELETE'] and len(users) == 1010
        assert counted(users.clear) == ['DELETE'] and v.items() == [('zz', 1)]

    def test_a_walk_sees_what_was_there_and_not_what_is_deleted_meanwhile(self, v):
        users = v.section('users')
        users.update((place, place) for place in range(500))
        v.update((('zz', place), 0) for place in range(50))
        seen = []
        for key in users:
            seen.append(key)
            users[1000 + key] = 0
            users.pop(key + 1, None)
        assert seen == list(range(0, 500, 2))

    def test_deleting_the_newest_in_a_walk(self, v):
        users = v.section('users')
        for walk in (users.keys, users.items):
            users.update((place, place) for place in range(100))
            seen = []
            for one in walk():
                if not seen:
                    del users[99]
                seen.append(one)
            assert len(seen) == 99
            users.clear()

    def test_nesting_and_the_names(self, v):
        users = v.section('users')
        assert v.sections() == users.sections() == []
        v.update({'plain': 1, ('single',): 1, 5: 1, b'x': 1})
        assert v.sections() == []
        users['ann'] = 0
        assert v.sections() == ['users'] and users.sections() == []
        users.section('ann').section('pets')['rex'] = 'dog'
        users['bob', 'age'] = 5
        users[('cid',)] = users[(('x', 'y'),)] = 0
        v.section(2026)['jan'] = v.section('archive')['x'] = 0
        assert v.sections() == [2026, 'archive', 'users'] and users.sections() == ['ann', 'bob']
        assert users.section('ann').sections() == ['pets'] and users['ann', 'pets', 'rex'] == 'dog'
        assert users.section('ann').section('pets').path == ('users', 'ann', 'pets')
        v.section('users').clear()
        assert v.sections() == [2026, 'archive']

    def test_the_names_are_found_by_skipping(self, v):
        for name in ('a', 'b', 'c'):
            v.section(name).update((place, 0) for place in range(3000))
        seen = statements(v)
        assert v.sections() == ['a', 'b', 'c']
        assert len(seen) < 20
        v._store._local.c.raw.set_trace_callback(None)

    @given(st.lists(section_keys, max_size=8))
    def test_the_names_are_those_of_a_walk_over_all_keys(self, wanted):
        vault = Vault(':memory:')
        vault.update((key, 0) for key in wanted)
        vault.section('u').update((key, 0) for key in wanted)
        for mapping in (vault, vault.section('u')):
            long = [key[0] for key in mapping if isinstance(key, tuple) and len(key) > 1]
            assert len(mapping.sections()) == len({keys.encode((name,)) for name in long})
            assert all(mapping.section(name) for name in mapping.sections())
            packed = [keys.encode((name,)) for name in mapping.sections()]
            assert packed == sorted(packed)
        vault.close()

    def test_one_transaction_spans_sections(self, v):
        users, log = v.section('users'), v.section('log')
        with contextlib.suppress(ZeroDivisionError), users:
            users['ann'], log[1], v['count'] = 'Ann', 'made ann', 1
            1 / 0
        assert not users and not log and len(v) == 0
        with log.transaction():
            users['ann'] = 1
            with contextlib.suppress(ZeroDivisionError), users:
                log[1] = 'undone'
                1 / 0
        assert v.items() == [(('users', 'ann'), 1)]

    def test_closing_it_leaves_the_vault_open_and_closing_the_vault_closes_it(self, v):
        users, log = v.section('users'), v.section('log')
        users['ann'] = 1
        users.close()
        users.close()
        assert repr(users) == "Section('test', ('users',), closed)" and v['users', 'ann'] == 1
        for act in (lambda: users['ann'], lambda: users.update(a=1), lambda: len(users), users.__enter__, users.sections,
                    lambda: users.section('x').clear()):
            with pytest.raises(vaults.VaultClosedError):
                act()
        v.close()
        assert repr(log) == "Section('test', ('log',), closed)"
        for act in (lambda: log['a'], lambda: log.__setitem__('a', 1), lambda: list(log)):
            with pytest.raises(vaults.VaultClosedError):
                act()

    def test_closing_it_inside_its_block_undoes_the_block(self, v):
        users = v.section('users')
        with pytest.raises(vaults.VaultClosedError), users:
            users['ann'] = 1
            users.close()
        assert len(v) == 0
        v['open'] = 1
        assert Vault('test')['open'] == 1  # no transaction is left

    def test_it_keeps_the_vault(self, root):
        users = Vault('test').section('users').section('ann')
        gc.collect()
        users['a'] = 1
        assert users.items() == [('a', 1)]

    def test_it_has_no_file_to_delete(self, v):
        users = v.section('users')
        users['a'] = 1
        with pytest.raises(vaults.VaultError, match='clear'):
            users.delete_vault()
        assert v.items() == [(('users', 'a'), 1)]

    def test_upkeep_is_the_whole_vaults(self, v, root):
        users = v.section('users')
        users['a'], v['b'] = 1, 2
        users.sync()
        users.compact()
        assert users.check() == []
        users.backup(root / 'copy.db')
        assert Vault(root / 'copy.db').items() == v.items()

    def test_it_is_pickled_with_its_vault(self, v):
        v['users', 'ann', 'x'] = 1
        ann = v.section('users', value_type=int).section('ann')
        vault, again = pickle.loads(pickle.dumps((v, ann)))
        assert again.items() == [('x', 1)] and again.path == ('users', 'ann') and vault.name == again.name == 'test'
        with pytest.raises(TypeError):
            again['y'] = 'text'
        assert type(copy.copy(ann)) is type(ann) and copy.copy(ann) == ann
        with pytest.raises(TypeError, match='in memory'):
            pickle.dumps(Vault(':memory:').section('a'))

    def test_threads_share_one(self, v):
        users = v.section('users')
        workers = [threading.Thread(target=lambda me=me: [users.__setitem__((me, i), i) for i in range(20)])
                   for me in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert len(users) == 80 and users.sections() == [0, 1, 2, 3]

    def test_a_vault_that_is_read_has_sections(self, v):
        v.section('users')['a'] = 1
        users = Vault('test', flag='r').section('users')
        assert users.items() == [('a', 1)]
        with pytest.raises(vaults.VaultReadOnlyError):
            users['b'] = 2

    def test_a_shelf_and_a_users_class_have_them(self, root):
        class Mine(Vault):
            def __getitem__(self, key):
                return 'mine'
        with vaults.Shelf(root / 'shelf') as shelf:
            shelf.section('users')['a'] = 1
            assert type(shelf.section('users')) is vaults.Section
        mine = Mine('mine', validate=lambda key, value: None)
        mine.section('x')['y'] = 2
        assert mine['x', 'y'] == 'mine' and mine.section('x')['y'] == 2 and isinstance(mine, Mine)

    def test_importing_vaults_does_not_load_it(self):
        code = "import sys, vaults; print([m for m in sys.modules if m in ('vaults.sections', 'vaults.modes')])"
        found = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
        assert found.stdout.strip() == '[]'
        assert vaults.Section.__name__ in vaults.__all__


def steps(v, work):
    """Return how many steps SQLite's machine takes for the work, in tens: what grows with the rows it looks at."""
    seen = []
    raw = v._store._local.c.raw
    raw.set_progress_handler(lambda: seen.append(1) and None, 10)
    try:
        work()
    finally:
        raw.set_progress_handler(None, 10)
    return len(seen)


def interleaved(count):
    v = Vault(':memory:')
    v.update((key, n) for n in range(count) for key in (f'plain{n}', ('a', n), ('b', n), ('c', n)))
    return v


def one_after_the_other(count):
    v = Vault(':memory:')
    for name in 'abc':
        v.section(name).update((n, n) for n in range(count))
        v.update((f'{name}{n}', n) for n in range(count))
        v.section(f'{name}2').update((n, n) for n in range(count))
    return v


def undone(operation):
    def done(s):
        with contextlib.suppress(ZeroDivisionError), s:
            operation(s)
            1 / 0
    return done


AT_AN_END = {
    'next': lambda s: next(iter(s)), 'next of items': lambda s: next(iter(s.items())), 'first key': lambda s: s.keys()[0],
    'first items': lambda s: s.items()[:3], 'repr of keys': lambda s: repr(s.keys()),
    'the oldest': undone(lambda s: s.popitem(last=False)),
}
AT_THE_OTHER = {
    'back': lambda s: next(reversed(s)), 'last key': lambda s: s.keys()[-1], 'last items': lambda s: s.items()[-3:],
    'the last ones, turned': lambda s: s.values()[:-4:-1], 'the newest': undone(lambda s: s.popitem()),
}
ANYWHERE = {
    'repr': repr, 'is it empty': lambda s: s == {}, 'bool': bool, 'is it that': lambda s: s == {1: 2, 3: 4},
    'has it keys': lambda s: s.keys() == [] or s.keys() == set(), 'has it items': lambda s: s.items() == [(1, 1)],
    'by key': lambda s: (s[:].first(), s[:].last(), s[5:].keys()[:3], bool(s[5:]), repr(s[5:]), s[5:] == {}),
}


@pytest.fixture(scope='module')
def laid_out():
    return {layout: {count: layout(count) for count in (1000, 30_000)} for layout in (interleaved, one_after_the_other)}


class TestSectionsOfAnySize:
    """What looks at one end of a section takes a time that does not grow with it, where the layout allows that."""

    def ratio(self, vaults_, name, look):
        small, large = (steps(v, lambda v=v: look(v.section(name))) for v in vaults_.values())
        return large / (small + 10)

    @pytest.mark.parametrize('look', {**AT_AN_END, **AT_THE_OTHER, **ANYWHERE})
    def test_of_entries_that_lie_between_those_of_others(self, laid_out, look):
        for name in 'abc':
            assert self.ratio(laid_out[interleaved], name, {**AT_AN_END, **AT_THE_OTHER, **ANYWHERE}[look]) < 3

    @pytest.mark.parametrize('look', ANYWHERE)
    def test_wherever_they_lie(self, laid_out, look):
        for name in ('a', 'a2', 'b', 'b2', 'c', 'c2'):
            assert self.ratio(laid_out[one_after_the_other], name, ANYWHERE[look]) < 3

    @pytest.mark.parametrize('look', AT_AN_END)
    def test_of_entries_that_were_put_first(self, laid_out, look):
        assert self.ratio(laid_out[one_after_the_other], 'a', AT_AN_END[look]) < 3

    @pytest.mark.parametrize('look', AT_THE_OTHER)
    def test_of_entries_that_were_put_last(self, laid_out, look):
        assert self.ratio(laid_out[one_after_the_other], 'c2', AT_THE_OTHER[look]) < 3

    @pytest.mark.parametrize('look', {**AT_AN_END, **AT_THE_OTHER})
    def test_elsewhere_it_is_bounded_by_the_section(self, laid_out, look):
        look, v = {**AT_AN_END, **AT_THE_OTHER}[look], laid_out[one_after_the_other][30_000]
        assert steps(v, lambda: look(v.section('b'))) < 30_000 * 8
        with contextlib.suppress(ZeroDivisionError), v:
            v.update((('small', n), n) for n in range(100))
            v.update((f'behind{n}', n) for n in range(5000))
            assert steps(v, lambda: look(v.section('small'))) < 100 * 40
            1 / 0

    def test_what_was_deleted_beyond_it_is_no_hindrance(self):
        v = interleaved(10_000)
        before = steps(v, lambda: v.section('b').popitem())
        for _ in range(3):
            v.update((n, n) for n in range(20_000))
            del v[0:20_000]
        assert steps(v, lambda: v.section('b').popitem()) < 3 * before
        for _ in range(200):
            v.popitem(last=False)
            v.section('b').popitem()
        assert steps(v, lambda: v.section('b').popitem(last=False)) < 3 * before

    @pytest.mark.parametrize('reverse', [False, True])
    @pytest.mark.parametrize('layout', [interleaved, one_after_the_other])
    def test_a_walk_is_whole_and_in_order(self, laid_out, layout, reverse):
        for count, v in laid_out[layout].items():
            for s in map(v.section, v.sections()):
                found = list(reversed(s.items()) if reverse else s.items())
                assert found == [(n, n) for n in range(count)][::-1 if reverse else 1]
                assert len(list(s)) == len(s) == count

    @pytest.mark.parametrize('reverse', [False, True])
    @settings(max_examples=30)
    @given(st.integers(0, 999), st.lists(st.tuples(st.integers(0, 60), st.integers(0, 400)), max_size=8))
    def test_a_walk_sees_what_was_there_and_is_there(self, reverse, seed, changes):
        v = Vault(':memory:')
        kinds = random.Random(seed).choices('psss', k=350)
        v.update((('s', n) if kind == 's' else n, n) for n, kind in enumerate(kinds))
        s, seen, gone, put = v.section('s'), [], set(), 1000
        there = [n for n, kind in enumerate(kinds) if kind == 's'][::-1 if reverse else 1]
        walk = reversed(s) if reverse else iter(s)
        seen += itertools.islice(walk, 1)
        for step, key in changes:
            seen += itertools.islice(walk, step)
            put += 1
            s[put] = put
            if key in s:
                del s[key]
                gone.add(key)
        seen += walk
        assert [n for n in there if n in seen] == seen and set(there) - set(seen) <= gone
        with contextlib.suppress(ZeroDivisionError), v:
            walk = iter(s)
            next(walk)
            1 / 0
        with pytest.raises(vaults.VaultError, match='rolled back'):
            list(walk)

    @given(st.lists(section_keys | st.lists(section_keys, min_size=2, max_size=3).map(tuple), max_size=30),
           st.lists(section_keys, max_size=2).map(tuple))
    def test_sections_are_those_that_have_entries(self, wanted, path):
        v = Vault(':memory:')
        for name in path:
            v = v.section(name)
        v.update(dict.fromkeys(wanted))
        names = {keys.encode((key[0],)): key[0] for key in v if type(key) is tuple and len(key) > 1}
        assert v.sections() == [names[stored] for stored in sorted(names)]

    def test_sections_go_from_name_to_name(self, laid_out):
        small, large = laid_out[one_after_the_other].values()
        assert large.sections() == ['a', 'a2', 'b', 'b2', 'c', 'c2']
        assert steps(large, large.sections) < 2 * steps(small, small.sections)
        nested = [Vault(':memory:').section('users') for _ in range(2)]
        for users, count in zip(nested, (100, 10_000)):
            users.update((('ann', n), n) for n in range(count))
            users.update({'ann': 1, 'bob': 2, ('bob', 'age'): 3, ('ben', 1): 4, 7: 5, (7, 7): 6})
            assert users.sections() == [7, 'ann', 'ben', 'bob']
        assert steps(nested[1], nested[1].sections) < 2 * steps(nested[0], nested[0].sections)

    @pytest.mark.parametrize('keyed', ['{}'.format, int, '{}'.format('é{}').format, lambda n: -n, lambda n: str(n).encode(),
                                       lambda n: dt.date.fromordinal(n + 1), lambda n: uuid.UUID(int=n)])
    def test_what_lies_beside_nested_sections_is_passed_without_being_decoded(self, monkeypatch, keyed):
        users = Vault(':memory:').section('users')
        users.update((keyed(n), n) for n in range(5000))
        users.update({('x', 'y'): 1, (keyed(1234), 1): 1, (keyed(1234), 2, 3): 1})
        decoded, decode = [], Prefixed.decode
        monkeypatch.setattr(Prefixed, 'decode', lambda coder, stored: decoded.append(1) or decode(coder, stored))
        assert set(users.sections()) == {'x', keyed(1234)} and len(decoded) < 10
        assert steps(users, users.sections) < 5100 * 4

    def test_repr_does_not_count_a_large_one(self):
        v = Vault(':memory:')
        s = v.section('s')
        s.update((n, n) for n in range(1000))
        assert repr(s) == "Section(':memory:', ('s',), 1000 items)"
        s['more'] = 1
        assert repr(s) == "Section(':memory:', ('s',), more than 1000 items)" and repr(v) == "Vault(':memory:', 1001 items)"


class TestWriteBackSections:
    def test_what_changes_in_one_sticks(self, root):
        with_users = Vault('test', writeback=True)
        users = with_users.section('users')
        users['ann'] = [1]
        users['ann'].append(2)
        users.section('sub')['x'] = {}
        users.section('sub')['x']['y'] = 1
        assert with_users['users', 'ann'] is users['ann'] and users.items() == [('ann', [1, 2]), (('sub', 'x'), {'y': 1})]
        assert users.popitem()[0] == ('sub', 'x') and users[:].keys() == ['ann']
        with_users.sync()
        assert Vault('test')['users', 'ann'] == [1, 2] and users.put_many({'b': [0]}) == 1
        users['b'].append(1)
        with_users.close()
        assert Vault('test').section('users') == {'ann': [1, 2], 'b': [0, 1]}

    def test_insertion_order_and_values_written_by_others(self, root):
        w = Vault('test', writeback=True)
        users = w.section('users')
        w['first'] = 0
        for name in ('b', 'a'):
            users[name] = [name]
        w['last'] = 0
        assert users.items() == [('b', ['b']), ('a', ['a'])] and list(users.values()) == [['b'], ['a']]
        with users:
            users['a'].append(1)
        assert Vault('test')['users', 'a'] == ['a', 1]

    def test_a_dropped_section_ends_nothing_and_a_section_keeps_a_dropped_vault(self, root):
        w = Vault('test', writeback=True)
        w.section('users')['a'] = [1]
        gc.collect()
        w['b'] = 1
        assert w.section('users')['a'] == [1]
        users = w.section('users', value_type=list)
        del w
        gc.collect()
        users['a'].append(2)
        users.sync()
        assert users['a'] == [1, 2]
        users['a'].append(3)
        del users
        gc.collect()
        assert Vault('test')['users', 'a'] == [1, 2, 3]

    def test_closing_a_section_keeps_what_has_changed(self, root):
        w = Vault('test', writeback=True)
        users = w.section('users')
        users['a'] = [1]
        users['a'].append(2)
        users.close()
        with pytest.raises(vaults.VaultClosedError):
            users['a']
        assert w['users', 'a'] == [1, 2]
        w.close()
        assert Vault('test')['users', 'a'] == [1, 2]

    def test_a_section_is_pickled_with_what_has_changed(self, root):
        w = Vault('test', writeback=True)
        users = w.section('users')
        users['a'] = [1]
        users['a'].append(2)
        again = pickle.loads(pickle.dumps(users))
        assert again['a'] == [1, 2]
        again['a'].append(3)
        again.sync()
        assert Vault('test')['users', 'a'] == [1, 2, 3]


class Refused(Exception):
    pass


def modest_only(key, value):
    """Refuse ints above 9 and lists longer than two."""
    if value == 'bad' or (isinstance(value, list) and len(value) > 2):
        raise Refused(key, value)


def edited(v):
    with v.edit('k', [1]) as value:
        value += [2, 3]


def updated_in_place(v):
    v |= {'fine': 1, 'k': 'bad'}


WRITES = {
    'set': lambda v: v.__setitem__('k', 'bad'), 'put': lambda v: v.put('k', 'bad'),
    'update': lambda v: v.update({'fine': 1, 'k': 'bad'}), 'named': lambda v: v.update(fine=1, k='bad'),
    'put_many': lambda v: v.put_many(iter([('fine', 1), ('k', 'bad')])),
    'setdefault': lambda v: v.setdefault('k', 'bad'), 'edit': edited, '|=': updated_in_place,
}
PLACES = {'a vault': lambda v: v, 'a section': lambda v: v.section('users')}
MODES = {'plain': {}, 'write-back': {'writeback': True}, 'queued': {'thread_safe': True}}


class TestValidate:
    @pytest.mark.parametrize('mode', MODES)
    @pytest.mark.parametrize('write', WRITES)
    def test_every_write_to_a_vault_is_validated(self, root, mode, write):
        v = Vault('test', validate=modest_only, **MODES[mode])
        with pytest.raises(Refused) as caught:
            WRITES[write](v)
        assert caught.value.args[0] == 'k' and len(v) == 0
        v.close()
        assert len(Vault('test')) == 0

    @pytest.mark.parametrize('mode', MODES)
    @pytest.mark.parametrize('write', WRITES)
    def test_every_write_to_a_section_is_validated(self, root, mode, write):
        v = Vault('test', **MODES[mode])
        users = v.section('users', validate=modest_only)
        with pytest.raises(Refused) as caught:
            WRITES[write](users)
        assert caught.value.args[0] == 'k' and len(v) == len(users) == 0
        users['k'] = 'good'
        with pytest.raises(Refused):
            users['k'] = 'bad'
        assert users['k'] == 'good'
        v.close()
        assert Vault('test').items() == [(('users', 'k'), 'good')]

    @pytest.mark.parametrize('write', WRITES)
    def test_a_section_of_a_validating_vault_is_validated_as_the_vault_is(self, root, write):
        v = Vault('test', validate=modest_only)
        with pytest.raises(Refused) as caught:
            WRITES[write](v.section('users'))
        assert caught.value.args[0] == ('users', 'k') and len(v) == 0

    def test_the_vault_comes_first_then_each_section_with_its_own_key(self, root):
        seen = []

        def noting(who):
            return lambda key, value: seen.append((who, key, value))
        v = Vault('test', validate=noting('vault'))
        ann = v.section('users', validate=noting('users')).section('ann', validate=noting('ann'))
        ann['age'] = 5
        assert seen == [('vault', ('users', 'ann', 'age'), 5), ('users', ('ann', 'age'), 5), ('ann', 'age', 5)]
        del seen[:]
        ann[()] = ann[('x',)] = 0
        assert seen[:3] == [('vault', ('users', 'ann', ()), 0), ('users', ('ann', ()), 0), ('ann', (), 0)]
        assert seen[3] == ('vault', ('users', 'ann', ('x',)), 0)
        del seen[:]
        v['users', 'bob', 'age'] = 6
        assert seen == [('vault', ('users', 'bob', 'age'), 6)]  # what is written through the vault, sections do not see

    def test_what_it_returns_means_nothing_and_it_may_use_the_vault(self, root):
        v = Vault('test', validate=lambda key, value: len(v) > 5)
        v['a'] = 1
        v.update(b=2, c=3)
        assert v == {'a': 1, 'b': 2, 'c': 3}
        del v['a']
        assert v.pop('b') == 2 and v.popitem() == ('c', 3)

    def test_a_refusal_ends_no_block(self, root):
        v = Vault('test', validate=modest_only)
        with v:
            v['a'] = 1
            with pytest.raises(Refused):
                v.update(b=2, k='bad')
        assert v.items() == [('a', 1)]

    def test_validate_and_value_type_must_be_what_they_say(self, v):
        for make in (lambda: Vault('other', validate=5), lambda: v.section('a', validate='x')):
            with pytest.raises(vaults.VaultError, match='validate is a function'):
                make()
        assert not os.path.exists(v.db_path.replace('test', 'other'))
        for wrong in ('int', 5, (int, 'x')):
            with pytest.raises(vaults.VaultError, match='value_type is a type'):
                v.section('a', value_type=wrong)

    def test_a_vault_without_it_has_the_plain_class(self, root):
        assert type(Vault('test')) is Vault and type(Vault('test').section('a')) is vaults.Section
        checked = Vault('test', validate=modest_only)
        assert type(checked).__name__ == 'Vault' and repr(checked) == "Vault('test', 0 items)"
        assert isinstance(Vault('test', validate=modest_only, writeback=True), Vault)

    def test_it_is_pickled_with_the_vault(self, root):
        for mode in MODES.values():
            v = Vault('test', validate=modest_only, **mode)
            for again in (pickle.loads(pickle.dumps(v)), copy.copy(v), pickle.loads(pickle.dumps(v.section('users')))):
                with pytest.raises(Refused):
                    again['k'] = 'bad'
            v.close()
        with pytest.raises((pickle.PicklingError, AttributeError)):
            pickle.dumps(Vault('test', validate=lambda key, value: None))

    def test_value_type(self, v):
        users = v.section('users', value_type=(int, str))
        users['a'], users['b'] = 1, 'text'
        for write in (lambda: users.__setitem__('c', 1.5), lambda: users.update(x=1, c=1.5), lambda: users.setdefault('c')):
            with pytest.raises(TypeError, match=r"'users'.*int or str, not (float|NoneType): key 'c'"):
                write()
        assert users == {'a': 1, 'b': 'text'}
        v['users', 'c'] = 1.5  # through the vault it is not seen
        assert users['c'] == 1.5
        both = v.section('users', value_type=list, validate=modest_only)
        with pytest.raises(TypeError):
            both['d'] = 'bad'
        with pytest.raises(Refused):
            both['d'] = [1, 2, 3]
        with pytest.raises(TypeError, match='int'):
            users.section('sub', value_type=list)['x'] = [1]

    def test_lists_columns_and_streams_are_refused(self, v, root):
        users = v.section('users', value_type=list)
        for checked in (users, users.section('sub'), Vault('other', validate=modest_only), Vault('more', validate=modest_only).section(1),
                        Vault('live', validate=modest_only, writeback=True), Vault('live2', writeback=True).section(1, validate=modest_only)):
            with pytest.raises(vaults.VaultError, match='no whole value to validate') as caught:
                checked._allow_parts('log')
            assert "'log'" in str(caught.value)
        assert v._allow_parts('log') is None

    def test_live_lists_are_refused(self, v):
        if not hasattr(v, 'list'):
            pytest.skip('there are no lists')
        log = v.list('log')
        log.append(1)
        for checked in (v.section('users', validate=modest_only), Vault('other', validate=modest_only),
                        Vault('live', writeback=True, validate=modest_only)):
            for act in (lambda m: m.list('x'), lambda m: m.__setitem__('x', log), lambda m: m.update(x=log)):
                with pytest.raises(vaults.VaultError, match='no whole value to validate'):
                    act(checked)
            assert len(checked) == 0

    def test_an_import_is_validated(self, root):
        source = Vault('source')
        source.update(a=[1], k='bad')
        moving.export(source, root / 'out.jsonl')
        (root / 'out.csv').write_text('key,value\na,1\nk,bad\n')
        for file in ('out.jsonl', 'out.csv'):
            for checked in (Vault('test', validate=modest_only), Vault('test').section('users', validate=modest_only)):
                with pytest.raises(Refused) as caught:
                    moving.import_file(checked, root / file)
                assert caught.value.args == ('k', 'bad') and len(checked) == 0
        source['k'] = 'good'
        moving.export(source, root / 'good.jsonl')
        users = Vault('test').section('users', validate=modest_only)
        assert moving.import_file(users, root / 'good.jsonl') == 2 and users == {'a': [1], 'k': 'good'}


class TestValidateWriteBack:
    def test_a_changed_object_is_refused_when_it_is_written_and_the_others_are_written(self, root):
        w = Vault('test', validate=modest_only, writeback=True)
        w.update(a=[1], b=[1], c=[1])
        for key in 'abc':
            w[key].append(2)
        w['b'].append(3)
        with pytest.raises(vaults.SerializationError, match=r"Refused.*key 'b'") as caught:
            w.sync()
        assert isinstance(caught.value.__cause__, Refused) and caught.value.__cause__.args[0] == 'b'
        assert dict(Vault('test')) == {'a': [1, 2], 'b': [1], 'c': [1, 2]}
        assert w['b'] == [1, 2, 3]
        w['b'].pop()
        w.close()
        assert Vault('test')['b'] == [1, 2]

    def test_in_a_section_too(self, root):
        w = Vault('test', writeback=True)
        users = w.section('users', validate=modest_only)
        users['a'] = [1]
        users.update(b=[1], c=[1])
        w.sync()
        for reading in (lambda: users['a'], lambda: users.get('b'), lambda: dict(users.items())['c'],
                        lambda: users.setdefault('a'), lambda: users['a':].last()[1]):
            reading().extend([0, 0, 0])
            with pytest.raises(vaults.SerializationError, match=r"Refused.*key \('users', '[abc]'\)") as caught:
                users.sync()
            assert caught.value.__cause__.args[0] in ('a', 'b', 'c')
            for name in 'abc':
                del users[name][1:]
            users.sync()
        assert dict(Vault('test').section('users')) == {'a': [1], 'b': [1], 'c': [1]}

    @pytest.mark.parametrize('way', ['set', 'put_many', 'walk', 'slice', 'nested'])
    def test_an_object_stays_held_to_it_also_when_it_has_been_written(self, root, way):
        w, one = Vault('test', writeback=True), [1]
        users = w.section('users', validate=modest_only)
        w['users', 'b', 'c'] = [1]
        w.sync()
        if way == 'set':
            users['b', 'c'] = one
        elif way == 'put_many':
            users.update({('b', 'c'): one})
        elif way == 'nested':
            users.section('b', value_type=list)['c'] = one
        else:
            one = (users if way == 'walk' else users[:]).values()[0]
        one.extend(['too', 'much'])
        with pytest.raises(vaults.SerializationError, match='Refused'):
            w.sync()
        del one[2:]
        w.sync()
        one.append('too much')
        with pytest.raises(vaults.SerializationError, match='Refused'):
            w.sync()
        del w['users', 'b', 'c']

    def test_a_section_that_is_gone_still_holds_what_it_gave(self, root):
        w = Vault('test', writeback=True)
        w.section('users')['a'] = [1]
        w.section('users', value_type=list, validate=modest_only)['a'].extend([2, 3])
        gc.collect()
        with pytest.raises(vaults.SerializationError, match='Refused'):
            w.sync()
        w['users', 'a'] = [1, 2, 3]  # set through the vault, it is the vault's
        w.sync()
        assert Vault('test')['users', 'a'] == [1, 2, 3]

    def test_what_several_sections_gave_must_pass_them_all(self, root):
        seen = []
        w = Vault('test', writeback=True, validate=lambda key, value: seen.append(('vault', key)))
        w['users', 'ann', 'x'] = [1]
        w.sync()
        users = w.section('users', validate=lambda key, value: seen.append(('users', key)))
        ann = users.section('ann', validate=lambda key, value: seen.append(('ann', key)))
        ann['x'].append(2)
        assert users['ann', 'x'] == [1, 2]
        del seen[:]
        w.sync()
        assert set(seen) == {('vault', ('users', 'ann', 'x')), ('users', ('ann', 'x')), ('ann', 'x')}
        ann['x'].append(3)
        w['users', 'ann', 'x'].append(4)
        del seen[:]
        w.sync()
        assert ('ann', 'x') in seen

    def test_a_block_that_ends_with_a_refusal_is_undone(self, root):
        w = Vault('test', validate=modest_only, writeback=True)
        w['a'] = [1]
        with pytest.raises(vaults.SerializationError, match='undone'), w:
            w['b'] = 1
            w['a'] += [2]
            w['a'].append(3)
        assert w.items() == [('a', [1])]

    def test_nothing_that_has_not_changed_is_validated(self, root):
        calls = []
        w = Vault('test', validate=lambda key, value: calls.append(key), writeback=True, cache_size=4)
        w.update((place, [place]) for place in range(20))
        del calls[:]
        w.sync()
        assert len(w.items()) == 20 and calls == []
        w[3].append(1)
        w.sync()
        assert calls == [3]

    def test_a_validation_that_reads_its_own_entry(self, root):
        w = Vault('test', writeback=True)
        calls = []
        users = w.section('users', validate=lambda key, value: calls.append(users.get(key)))
        users['a'] = [1]
        w.sync()
        users['a'].append(2)
        del calls[:]
        w.sync()
        w.sync()
        assert calls == [[1, 2]] and Vault('test')['users', 'a'] == [1, 2]

    def test_what_leaves_the_cache_is_validated(self, root):
        w = Vault('test', validate=modest_only, writeback=True, cache_size=2)
        w.update(a=[1], b=[1], c=[1], d=[1])
        w['a'].extend([2, 3])
        assert [w[key] for key in 'bcd'] == [[1]] * 3 and Vault('test')['a'] == [1]
        with pytest.raises(vaults.SerializationError, match='Refused'):
            w.close()
        del w['a']
        w.close()

    def test_a_vault_that_is_dropped_ends_though_its_sections_validate(self, root):
        w = Vault('test', writeback=True)
        users = w.section('users', validate=modest_only)
        users['a'] = [1]
        users['a'].append(2)
        del w, users
        gc.collect()
        assert Vault('test')['users', 'a'] == [1, 2]


class Wrapped:
    def __init__(self, x):
        self.x = x

    def __eq__(self, other):
        return type(other) is type(self) and other.x == self.x


def as_object(code, payload):
    return msgpack.ExtType(code, msgpack.packb(payload))


def as_ext(code, payload):
    return msgpack.packb(as_object(code, payload))


@pytest.fixture
def forget():
    """Forget the types that a test registers."""
    kept = dict(values._by_class), dict(values._by_name)
    yield
    for table, old in zip((values._by_class, values._by_name), kept):
        table.clear()
        table.update(old)


class TestArraysInPlace:
    """An array is loaded without a copy, and then read-only; where values are changed in place it can be."""

    def test_every_type_order_and_shape_comes_back(self, root):
        np = pytest.importorskip('numpy')
        v = Vault('np', allow_pickle=False)
        kinds = ['?', 'i1', '>i2', '<u8', 'f2', 'f4', '>f8', 'g', 'c8', '>c16', 'G', 'S3', 'U2', '>U2', 'M8[D]', '>M8[us]', 'm8[ns]', 'V4',
                 [('a', 'i4'), ('b', '>f8', (2, 2)), ('c', 'S3')], np.dtype({'names': ['x', 'y'], 'formats': ['i1', 'f8']}, align=True)]
        for kind in kinds:
            raw = np.arange(24 * np.dtype(kind).itemsize, dtype='u1') % 2  # whole bools, and text that is some
            array = raw.view(f'V{np.dtype(kind).itemsize}').view(kind).reshape(2, 3, 4)
            for one in (array, np.asfortranarray(array), array[:, 1:, ::2], array[0, 0, 0:0], array[:0], array[1, 2, 3:].reshape(())):
                v['a'] = one
                back = v['a']
                assert type(back) is np.ndarray and (back.dtype, back.shape) == (one.dtype, one.shape), kind
                whole = f'V{one.dtype.itemsize}'  # NumPy leaves out what lies between the fields, and copies what was there
                assert back.dtype.byteorder == one.dtype.byteorder and back.view(whole).tobytes() == one.view(whole).tobytes()
                assert back.flags.aligned and not back.flags.writeable
                assert back.flags.f_contiguous == one.flags.f_contiguous or not one.flags.forc

    def test_nothing_of_the_memory_of_the_process_is_stored_between_the_fields(self, root):
        np = pytest.importorskip('numpy')
        aligned = np.dtype({'names': ['x', 'y'], 'formats': ['i1', 'f8']}, align=True)
        nested = np.dtype({'names': ['a', 'b'], 'formats': ['i1', (aligned, (2,))]}, align=True)
        for dtype in (aligned, nested):
            array = np.zeros((40, 4), dtype)
            for one in (array[::2, ::2], array[::-1], array.T[1:], array[0, 0], array[:, 1][3]):
                for _ in range(20):
                    loaded = [values.dumps(one), values.dumps(values.writable(values.loads, values.dumps(one)))]
                    dirt = [np.full(size, 0xAB, 'u1') for size in (one.nbytes, 16, 56) for _ in range(8)]
                    del dirt
                    assert not [data for data in loaded if b'\xab' in data or data != loaded[0]]

    def test_bytes_made_to_do_harm_give_neither_memory_nor_endless_arrays(self):
        np = pytest.importorskip('numpy')
        for code, described in ((values.NDARRAY, ['<f8', [10], 'C', None]), (values.NDARRAY, ['<f8', [10 ** 11], 'C', None]),
                            (values.NDARRAY, ['|S0', [10 ** 15], 'C', b'']), (values.NDARRAY, ['|V0', [10 ** 8, 10 ** 7], 'C', b'']),
                            (values.NUMPY_SCALAR, ['<f8', None])):
            with pytest.raises(vaults.VaultCorruptError):
                values.loads(as_ext(code, described))
        assert values.loads(as_ext(values.NDARRAY, ['|S0', [3], 'C', b''])).shape == (3,)
        assert values.loads(values.dumps(np.empty(1 << 25, 'S0')), allow_pickle=True).shape == (1 << 25,)

    def test_it_looks_at_the_bytes_that_were_read(self, v):
        np = pytest.importorskip('numpy')
        v['a'] = [np.arange(5.0)]
        back = v['a'][0]
        assert type(back.base) is bytes
        with pytest.raises(ValueError, match='read-only'):
            back[0] = 1
        assert back.copy().flags.writeable

    def test_text_of_any_length_and_types_with_metadata_are_left_to_pickle(self, v):
        np = pytest.importorskip('numpy')
        if not hasattr(np.dtypes, 'StringDType') if hasattr(np, 'dtypes') else True:
            pytest.skip('NumPy 2 has these')
        v['m'] = np.zeros(2, np.dtype('i4', metadata={'unit': 'm'}))
        assert v['m'].dtype.metadata == {'unit': 'm'}
        v['a'] = np.array(['x', 'y' * 100], np.dtypes.StringDType())
        assert v['a'].tolist() == ['x', 'y' * 100] and v['a'].dtype == np.dtypes.StringDType()

    def test_in_a_write_back_vault_it_can_be_changed(self, root):
        np = pytest.importorskip('numpy')
        plain = Vault('w')
        plain.update(a=np.zeros(3), b={'x': [np.zeros(2)]}, c=np.zeros(1, 'i4,f8')[0])
        with contextlib.closing(Vault('w', writeback=True)) as v:
            v['a'][1] = 5
            next(value for key, value in v.items() if key == 'b')['x'][0][0] = 6
            v['c']['f0'] = 7
        assert (plain['a'].tolist(), plain['b']['x'][0].tolist(), plain['c'].item()) == ([0, 5, 0], [6, 0], (7, 0))
        assert not plain['a'].flags.writeable

    def test_in_edit_it_can_be_changed(self, v):
        np = pytest.importorskip('numpy')
        v['a'] = {'x': np.zeros(3)}
        with v.edit('a') as a:
            a['x'] += 1
            assert not v['a']['x'].flags.writeable  # what is read besides is not
        assert v['a']['x'].tolist() == [1, 1, 1]
        with pytest.raises(KeyError), v.edit('none'):
            pass
        assert not v['a']['x'].flags.writeable

    KINDS = ['category', 'ordered', 'int64', 'uint8', 'float64', 'bool', 'datetime64[ns]', 'datetime64[ns, Europe/Paris]', 'timedelta64[ns]', 'Int64',
             'boolean', 'Float64', 'string', 'object', 'period[M]', 'interval', 'int64[pyarrow]']

    @pytest.mark.parametrize('kind', KINDS)
    def test_every_type_of_a_frame_can_be_changed_in_place(self, root, kind):
        pd = pytest.importorskip('pandas')
        pytest.importorskip('pyarrow')
        made = {'category': lambda: pd.Categorical(['a', 'b', 'a']), 'ordered': lambda: pd.Categorical([1, 2, 1], [2, 1], ordered=True),
                'interval': lambda: pd.interval_range(0, 3), 'string': lambda: pd.array(['x', 'y', 'z'], 'string'),
                'object': lambda: pd.Series(['x', 'y', None], dtype=object), 'boolean': lambda: pd.array([True, False, None], 'boolean'),
                'bool': lambda: pd.Series([True, False, True])}.get(kind, lambda: pd.Series([1, 2, 3]).astype(
                    'datetime64[ns]' if kind == 'period[M]' else kind))()
        column = pd.Series(made.dt.to_period('M') if kind == 'period[M]' else made, name='column')
        frame = pd.DataFrame({'other': [1, 2, 3], 'column': column, 5: column})
        indexed = frame.set_index('column')
        plain = Vault('plain')
        # What is put, and how the column in it is changed at a place and read.
        cases = {'series': (column, lambda value: (value.iloc, lambda at: at)),
                 'frame': (frame, lambda value: (value.iloc, lambda at: (at, 1))),
                 'deep': ({'x': [(frame, 1)]}, lambda value: (value['x'][0][0].iloc, lambda at: (at, 2)))}
        for name, (value, cell) in cases.items():
            plain[name] = value
            with plain.edit(name) as found:
                places, place = cell(found)
                places[place(0)] = column.iloc[1]
            with contextlib.closing(Vault('plain', writeback=True)) as live:
                places, place = cell(live[name])
                places[place(2)] = column.iloc[1]
            own = plain[name]
            places, place = cell(own)
            assert [places[place(at)] for at in range(3)] == [column.iloc[1]] * 3, name
            places[place(0)] = column.iloc[0]  # and where nothing is to be written back: it is the caller's own
        plain['indexed'] = indexed
        if 'pyarrow' not in kind:
            moved = plain['indexed'].reset_index()
            moved.iloc[0, 0] = column.iloc[1]
            assert moved['column'].iloc[0] == column.iloc[1]


def frames(pd, np):
    """Return frames by name, of every kind of column, index and name."""
    days = pd.date_range('2026-03-28', periods=3, freq='D')
    frame, made = pd.DataFrame, {}
    made['plain'] = frame({'a': [1, 2], 'b': ['x', 'y']})
    made['empty'], made['no columns'] = frame(), frame(index=[5, 6])
    made['no rows'] = frame({'a': np.array([], 'f4'), 'b': pd.Series([], dtype='category'), 'c': pd.Series([], dtype=object)})
    for kind in ('int8', 'uint64', 'float16', 'float32', 'bool', 'complex128', 'Int64', 'boolean', 'string', 'category', 'object', 'M8[s]', 'm8[us]', 'M8[ns]'):
        made[kind] = frame({'a': pd.Series(['1', '0'] if kind == 'string' else [1, 0]).astype(kind)})
    for zone in ('UTC', 'Europe/Paris', UTC, dt.timezone(dt.timedelta(hours=2))):
        made[f'zone {zone!r}'] = frame({'a': days.tz_localize(zone)})
    made['missing'] = frame({'a': pd.array([1, None], 'Int64'), 'b': [1.5, np.nan], 'c': pd.to_datetime(['2026-01-01', None]), 'd': ['x', None]})
    for name, column in {'mixed': [1, 'x'], 'nan': ['x', np.nan], 'ints': [1, 2], 'bytes': [b'x'], 'dates': [dt.date(2026, 1, 1)], 'lists': [[1, 2]],
                         'decimals': [decimal.Decimal('1.0')], 'surrogate': ['\ud800'], 'text': ['x', None], 'none': [None]}.items():
        made[f'objects, {name}'] = frame({'a': pd.Series(column, dtype=object)})
    for name, column in {'text': pd.Categorical(['x', 'y'], ['y', 'x', 'z'], ordered=True), 'numbers': pd.Categorical([3, 1, None]),
                         'decimals': pd.Categorical([decimal.Decimal('1.0'), decimal.Decimal('2.00')]), 'mixed': pd.Categorical([3, 'x']), 'intervals': pd.cut([1, 2, 3], 2), 'days': pd.Categorical(days)}.items():
        made[f'categories, {name}'] = frame({'a': column})
    made['sparse'] = frame({'a': pd.arrays.SparseArray([0, 0, 1])})
    made['periods'] = frame({'a': pd.period_range('2026-01', periods=3, freq='M'), 'b': pd.interval_range(0, 3)})
    for name, labels in {'twice': ['a', 'a'], 'numbers': [7, 9], 'range': None, 'mixed': ['a', 1], 'nan': ['a', np.nan], 'odd': ['__index_level_0__', 'None'],
                          'levels': pd.MultiIndex.from_tuples([('a', 1), ('b', 2)], names=['x', 'y']), 'days': days[:2], 'named': pd.Index(['a', 'b'], name='n'),
                          'by number': pd.Index(['a', 'b'], name=3), 'categories': pd.CategoricalIndex(['a', 'b']), 'objects': pd.Index(['a', 'b'], dtype=object)}.items():
        made[f'columns, {name}'] = frame([[1, 2]], index=['r'], columns=labels)
    for name, index in {'text': ['x', 'y'], 'named as the column': pd.Index([3, 4], name='a'), 'named by number': pd.Index(['x', 'y'], name=0), 'numbers': [0.5, np.nan],
                        'named by a tuple': pd.Index(['x', 'y'], name=('a', 1)), 'range': pd.RangeIndex(10, 14, 2, name='r'), 'range by number': pd.RangeIndex(2, name=3), 'range by nothing': pd.RangeIndex(2, name=''),
                        'days': pd.DatetimeIndex(list(days[:2])), 'daily': days[:2], 'daily in Paris': pd.date_range('2026-03-28', periods=2, tz='Europe/Paris'),
                        'months': pd.date_range('2026-03-28', periods=2, freq=pd.offsets.BMonthEnd()), 'hours': pd.timedelta_range('1h', periods=2),
                        'holidays': pd.date_range('2026-03-28', periods=2, freq=pd.offsets.CustomBusinessDay(holidays=['2026-03-30'])),
                        'periods': pd.period_range('2026-01', periods=2, freq='Q'), 'levels': pd.MultiIndex.from_tuples([('a', 1), ('b', 2)], names=['x', None]),
                        'levels of one name': pd.MultiIndex.from_tuples([('a', 1), ('b', 2)], names=['x', 'x']), 'mixed levels': pd.MultiIndex.from_tuples([('a', 1), (2, 2)]),
                        'levels with gaps': pd.MultiIndex.from_arrays([['a', None], [1.5, np.nan]]), 'categories': pd.CategoricalIndex(['a', 'b']),
                        'intervals': pd.interval_range(0, 2), 'mixed': pd.Index(['a', 3], dtype=object), 'twice': [1, 1]}.items():
        made[f'index, {name}'] = frame({'a': [1, 2]}, index=index)
    made['range of none'] = frame({'a': np.array([], 'i4')}, index=pd.RangeIndex(7, 5, 3, name='r'))
    made['attrs'] = frame({'a': [1]})
    made['attrs'].attrs = {'unit': (1, 2), 3: {'x'}}
    made['flags'] = frame({'a': [1]}).set_flags(allows_duplicate_labels=False)
    return made


def assert_same(pd, one, other):
    """Assert that two objects of pandas are equal in everything: values, types, index, names, attrs and flags."""
    assert type(one) is type(other)
    if isinstance(one, pd.Index):
        pd.testing.assert_index_equal(one, other, exact=True, check_exact=True)
        assert getattr(one, 'freq', None) == getattr(other, 'freq', None)
        assert one.names == other.names and list(map(type, one.names)) == list(map(type, other.names))
        return
    columns = [one] if isinstance(one, pd.Series) else [one.iloc[:, place] for place in range(one.shape[1])]
    others = [other] if isinstance(one, pd.Series) else [other.iloc[:, place] for place in range(one.shape[1])]
    for mine, theirs in zip(columns, others):
        pd.testing.assert_series_equal(mine, theirs, check_exact=True, check_index_type='exact', check_freq=True)
        assert type(mine.dtype) is type(theirs.dtype) and type(mine.name) is type(theirs.name)
        assert list(map(type, mine)) == list(map(type, theirs))
    assert (one.attrs, one.flags.allows_duplicate_labels) == (other.attrs, other.flags.allows_duplicate_labels)
    assert_same(pd, one.index, other.index)
    if isinstance(one, pd.DataFrame):
        assert_same(pd, one.columns, other.columns)


class TestFrames:
    """Frames of pandas and Polars go through Arrow where that is exact, and through pickle where it is not."""

    PICKLED = {'complex128', 'objects, mixed', 'objects, nan', 'objects, ints', 'objects, bytes', 'objects, dates', 'objects, lists', 'objects, decimals',
               'objects, surrogate', 'object', 'categories, mixed', 'categories, decimals', 'categories, intervals', 'categories, days', 'sparse', 'index, holidays', 'index, mixed levels',
               'index, mixed', 'flags'}

    def test_what_arrow_or_polars_would_lose_is_pickled_or_refused(self, v):
        pd, np = pytest.importorskip('pandas'), pytest.importorskip('numpy')
        pl = pytest.importorskip('polars')
        masked = pd.Series(pd.arrays.FloatingArray(np.array([np.nan, 1.0]), np.array([False, False])))
        v['a'] = masked
        assert list(v['a'].isna()) == list(masked.isna())
        for kind in (pl.Array(pl.Int8, 0), pl.List(pl.Array(pl.Int8, 0)), pl.Struct({'x': pl.Array(pl.Int8, 0)})):
            with pytest.raises(vaults.SerializationError, match='width 0'):
                v['b'] = pl.DataFrame(schema={'x': kind})
        v['b'] = pl.DataFrame({'x': [[1, 2]]}, schema={'x': pl.Array(pl.Int8, 2)})
        assert v['b'].schema == {'x': pl.Array(pl.Int8, 2)}

    def test_what_pandas_has_comes_back_exactly(self):
        pd, np = pytest.importorskip('pandas'), pytest.importorskip('numpy')
        pytest.importorskip('pyarrow')
        pickled = set()
        for name, frame in frames(pd, np).items():
            for obj in (frame, *([frame.iloc[:, 0]] if frame.shape[1] else []), frame.index, frame.columns):
                data = vaults.dumps(obj)
                assert_same(pd, obj, vaults.loads(data, allow_pickle=True))
                if obj is frame and b'+arrow' not in data[:60]:
                    pickled.add(name)
        assert pickled >= self.PICKLED
        if pd.__version__ >= '3':  # others have fewer types in Arrow
            assert pickled - self.PICKLED == {'objects, text'}

    def test_a_loaded_frame_can_be_changed(self, v):
        pd = pytest.importorskip('pandas')
        v['f'] = pd.DataFrame({'a': [1.5, 2.5]})
        frame = v['f']
        frame.loc[0, 'a'] = 9
        frame['a'] += 1
        assert frame['a'].tolist() == [10, 3.5] and v['f']['a'].tolist() == [1.5, 2.5]
        with v.edit('f') as edited:
            edited.loc[1, 'a'] = 7
        assert v['f']['a'].tolist() == [1.5, 7]

    def test_an_arrow_reader_elsewhere_reads_them(self):
        pd, pa = pytest.importorskip('pandas'), pytest.importorskip('pyarrow')
        name, payload = msgpack.unpackb(msgpack.unpackb(vaults.dumps(pd.DataFrame({'a': [1, 2]})), ext_hook=lambda code, data: data))
        assert name == 'pandas.DataFrame+arrow'
        assert pa.ipc.open_file(payload['arrow']).read_all().to_pydict() == {'a': [1, 2]}

    def test_what_polars_has_comes_back_exactly(self):
        pl = pytest.importorskip('polars')
        pytest.importorskip('polars.testing')
        series = [pl.Series('a', [1, 0, None]).cast(getattr(pl, kind)) for kind in
                  'Int8 Int64 UInt64 Float32 Float64 Boolean Int128 Float16'.split() if hasattr(pl, kind)]
        for column, kind in ((['x', None, 'é' * 40], pl.String), ([b'x', None], pl.Binary), (['x', 'y', 'x'], pl.Categorical), (['x', 'y'], pl.Enum(['y', 'x', 'z'])),
                             ([dt.date(2026, 1, 1)], pl.Date), ([dt.time(1)], pl.Time), ([dt.datetime(2026, 1, 1)], pl.Datetime('ms', 'Europe/Paris')),
                             ([dt.timedelta(1)], pl.Duration('ns')), ([decimal.Decimal('1.20')], pl.Decimal(10, 3)), ([[1], None, []], pl.List(pl.Int64)),
                             ([[1, 2]], pl.Array(pl.Int8, 2)), ([{'x': 1, 'y': 's'}], None), ([None], pl.Null), ([float('nan'), None], pl.Float64), ([], pl.Int8)):
            series.append(pl.Series('a', column, dtype=kind))
        series.append(pl.Series([1]))
        for one in series:
            for obj, same in ((one, pl.testing.assert_series_equal), (one.to_frame().with_columns(b=1), pl.testing.assert_frame_equal)):
                back = vaults.loads(vaults.dumps(obj, allow_pickle=False))
                assert type(back) is type(obj)
                same(obj, back, check_exact=True)
        assert vaults.loads(vaults.dumps(pl.DataFrame(), allow_pickle=False)).shape == (0, 0)
        with pytest.raises(vaults.UntrustedPickleError, match='polars'):
            vaults.dumps(pl.Series('a', [object()], dtype=pl.Object), allow_pickle=False)

    def test_a_subclass_is_not_flattened(self):
        pd = pytest.importorskip('pandas')
        with pytest.raises(vaults.UntrustedPickleError, match='SubFrame'):
            vaults.dumps(SubFrame.of(pd)({'a': [1]}), allow_pickle=False)
        with pytest.raises(vaults.UntrustedPickleError, match='pandas.DataFrame'):
            vaults.dumps(type('DataFrame', (pd.DataFrame,), {'__module__': 'pandas'})(), allow_pickle=False)
        assert type(vaults.loads(vaults.dumps(SubFrame.of(pd)({'a': [1]})), allow_pickle=True)) is SubFrame.of(pd)

    def test_a_registration_of_ones_own_wins_and_what_was_stored_before_stays_readable(self, forget):
        pd = pytest.importorskip('pandas')
        before = vaults.dumps(pd.DataFrame({'a': [1]}))
        vaults.register(pd.DataFrame, lambda frame: frame.to_csv(), lambda text: pd.read_csv(io.StringIO(text), index_col=0))
        after = vaults.dumps(pd.DataFrame({'a': [2]}), allow_pickle=False)
        assert b',a' in after and vaults.loads(after)['a'].tolist() == [2]
        assert vaults.loads(before, allow_pickle=True)['a'].tolist() == [1]

    @pytest.mark.parametrize('version', ['14.0.0', '9.0.0', None])
    def test_without_a_safe_pyarrow_frames_of_pandas_are_pickled(self, monkeypatch, version):
        pd, pa = pytest.importorskip('pandas'), pytest.importorskip('pyarrow')
        data = vaults.dumps(pd.DataFrame({'a': [1]}), allow_pickle=False)
        if version:
            monkeypatch.setattr(pa, '__version__', version)
        else:  # pandas itself may be using it, so that it cannot be taken away
            def missing():
                raise ImportError("No module named 'pyarrow'")
            monkeypatch.setattr(foreign, '_safe_pyarrow', missing)
        assert b'+arrow' not in vaults.dumps(pd.DataFrame({'a': [1]}))
        with pytest.raises(vaults.UntrustedPickleError):
            vaults.dumps(pd.DataFrame({'a': [1]}), allow_pickle=False)
        with pytest.raises(ImportError, match=r"pyarrow.*pip install 'vaults\[pandas\]'"):
            vaults.loads(data)

    @pytest.mark.parametrize('name, extra', [('pandas.Index+arrow', 'pandas'), ('polars.Series+arrow', 'polars'), ('PIL.Image+raw', 'pillow')])
    def test_without_the_package_the_error_names_the_extra_and_the_rest_is_readable(self, v, monkeypatch, name, extra):
        for module in ('pandas', 'polars', 'PIL', 'PIL.Image'):
            monkeypatch.setitem(sys.modules, module, None)
        v.update(a=1, c=2)
        v._store.put('b', as_ext(values.REGISTERED, [name, {}]))
        with pytest.raises(ImportError, match=rf"vaults\[{extra}\]"):
            v['b']
        assert v.check() == [] and (v['a'], v['c']) == (1, 2)

    def test_nothing_is_imported_before_one_is_met(self):
        done = run('''
            import sys, vaults
            vaults.loads_many(vaults.dumps_many([{'a': (1, 2.5, {3})}, b'x']))
            print({'numpy', 'pandas', 'polars', 'pyarrow', 'PIL', 'vaults.codecs.foreign', 'vaults.codecs.serializers'} & {*sys.modules})''')
        assert done.stdout == 'set()\n', done.stderr

    def test_the_names_are_these(self):
        assert [*foreign.BY_NAME] == ['pandas.DataFrame+arrow', 'pandas.Series+arrow', 'pandas.Index+arrow',
                                      'polars.DataFrame+arrow', 'polars.Series+arrow', 'PIL.Image+raw']

    @pytest.mark.parametrize('name', [*foreign.BY_NAME])
    @pytest.mark.parametrize('payload', [None, b'', {}, b'ARROW1', {'arrow': b'ARROW1'}, {'arrow': 3}, [1], {'mode': 'XX', 'size': [1, 1], 'pixels': b'1', 'info': {}},
                                         {'mode': 'RGB', 'size': [100000, 100000], 'pixels': b'', 'info': {}}, {'mode': 'P', 'size': [1, 1], 'pixels': b'1', 'info': {}, 'palette': [1]}])
    def test_a_malformed_payload_is_an_error_of_ours(self, name, payload):
        pytest.importorskip({'pandas': 'pyarrow', 'polars': 'polars', 'PIL': 'PIL'}[name.split('.')[0]])
        with pytest.raises(vaults.SerializationError, match='load function'):
            vaults.loads(as_ext(values.REGISTERED, [name, payload]))

    @settings(max_examples=40)
    @given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=4))
    def test_damaged_arrow_is_an_error_of_ours_or_some_frame(self, changes):
        pd = pytest.importorskip('pandas')
        pytest.importorskip('pyarrow')
        payload = foreign.BY_NAME['pandas.DataFrame+arrow'].dumped(pd.DataFrame({'a': ['x', 'y'], 'b': [1, 2]}))
        data = bytearray(payload['arrow'])
        for place, byte in changes:
            data[place % len(data)] = byte
        with contextlib.suppress(vaults.SerializationError), warnings.catch_warnings():
            warnings.simplefilter('ignore')
            assert type(vaults.loads(as_ext(values.REGISTERED, ['pandas.DataFrame+arrow', {**payload, 'arrow': bytes(data)}]))) is pd.DataFrame

    def test_arrow_is_looked_through_before_anything_follows_it(self):
        pd = pytest.importorskip('pandas')
        pytest.importorskip('pyarrow')
        payload = foreign.BY_NAME['pandas.DataFrame+arrow'].dumped(pd.DataFrame({'a': ['qqqq']}))
        payload['arrow'] = payload['arrow'].replace(b'qqqq', b'\xff' * 4)  # no text
        with pytest.raises(vaults.SerializationError, match='UTF'):
            vaults.loads(as_ext(values.REGISTERED, ['pandas.DataFrame+arrow', payload]))

    def test_a_panic_of_polars_is_an_error_of_ours(self, monkeypatch):
        pl = pytest.importorskip('polars')
        data = vaults.dumps(pl.DataFrame({'a': [1]}))

        def panic(*_):
            raise pl.exceptions.PanicException('at the disco')
        monkeypatch.setattr(pl, 'read_ipc', panic)
        with pytest.raises(vaults.SerializationError, match='disco'):
            vaults.loads(data)

    def test_reading_arrow_and_pixels_runs_no_pickle(self, monkeypatch, root):
        pd, pa, pl = pytest.importorskip('pandas'), pytest.importorskip('pyarrow'), pytest.importorskip('polars')
        image = pytest.importorskip('PIL.Image').new('P', (2, 2))
        mark = root / 'ran'

        class Bomb:
            def __reduce__(self):
                return os.mkdir, (str(mark),)
        metadata = {'ARROW:extension:name': 'arrow.py_extension_type', 'ARROW:extension:metadata': pickle.dumps(Bomb())}
        sink = pa.BufferOutputStream()
        table = pa.table([pa.array([1])], pa.schema([pa.field('a', pa.int64(), metadata=metadata)]))
        with pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        planted = sink.getvalue().to_pybytes()
        datas = vaults.dumps_many([pd.DataFrame({'a': pd.Categorical(['x'])}), pl.DataFrame({'a': ['x']}), image], allow_pickle=False)
        datas += [as_ext(values.REGISTERED, ['pandas.DataFrame+arrow', {'arrow': planted}]), as_ext(values.REGISTERED, ['polars.DataFrame+arrow', planted])]
        for name in ('loads', 'load', 'Unpickler'):
            monkeypatch.setattr(pickle, name, None)
        for data in datas:
            with contextlib.suppress(vaults.SerializationError), warnings.catch_warnings():
                warnings.simplefilter('ignore')
                vaults.loads(data)
        assert not mark.exists()


class SubFrame:
    """A subclass of DataFrame, made when pandas is there."""

    @staticmethod
    def of(pd):
        if not hasattr(SubFrame, 'made'):
            SubFrame.made = type('SubFrame.made', (pd.DataFrame,), {'__module__': __name__, '__qualname__': 'SubFrame.made'})
        return SubFrame.made


class TestImages:
    """An image of Pillow comes back with every pixel, its palette and its info."""

    def same(self, one, other):
        assert type(one) is type(other) and (one.mode, one.size, one.info) == (other.mode, other.size, other.info)
        assert one.tobytes() == other.tobytes() and one.getpalette() == other.getpalette()
        if one.palette:
            assert (one.palette.mode, bytes(one.palette.palette)) == (other.palette.mode, bytes(other.palette.palette))
            assert one.getpalette(None) == other.getpalette(None)
            assert one.convert('RGBA').tobytes() == other.convert('RGBA').tobytes()

    def again(self, image):
        return vaults.loads(vaults.dumps(image, allow_pickle=False))

    @pytest.mark.parametrize('mode', '1 L P PA LA La RGB RGBA RGBa RGBX CMYK YCbCr LAB HSV I F I;16 I;16L I;16B I;16N'.split())
    def test_every_mode_and_size(self, mode):
        Image = pytest.importorskip('PIL.Image')
        for size in ((5, 3), (0, 4), (1, 1)):
            image = Image.new(mode, size)
            image = Image.frombytes(mode, size, bytes(place * 37 % 256 for place in range(len(image.tobytes()))))
            image.info = {'dpi': (72.0, 72), 'exif': b'x', 'nested': {'a': [1]}, 3: None}
            self.same(image, self.again(image))

    @pytest.mark.parametrize('mode, size', [('RGB', 9), ('RGB', 768), ('RGBA', 12), ('RGBA', 1024), ('RGBX', 8)])
    @pytest.mark.parametrize('base', ['L', 'LA'])
    def test_every_palette(self, base, mode, size):
        Image = pytest.importorskip('PIL.Image')
        image = Image.new(base, (4, 4), 1 if base == 'L' else (1, 2))
        image.putpalette(bytes(place % 256 for place in range(size)), mode)
        self.same(image, self.again(image))

    @pytest.mark.parametrize('transparency', [3, b'\0\x80', None])
    def test_transparency_stays_as_it_is(self, transparency):
        Image = pytest.importorskip('PIL.Image')
        image = Image.linear_gradient('L').convert('RGB').quantize(7)
        if transparency is not None:
            image.info['transparency'] = transparency
        back = self.again(image)
        self.same(image, back)
        self.same(image, self.again(image))  # now that converting it has changed its palette
        for one in (image, back):
            one.putpixel((0, 0), (200, 0, 9))  # takes a new colour
        assert image.getpalette() == back.getpalette()

    def test_no_memory_is_taken_for_pixels_that_are_not_there(self):
        pytest.importorskip('PIL.Image')
        payload = {'mode': 'RGB', 'size': [100000, 100000], 'pixels': b'', 'info': {}}
        with pytest.raises(vaults.SerializationError, match='0 bytes are no image of 100000 by 100000'):
            vaults.loads(as_ext(values.REGISTERED, ['PIL.Image+raw', payload]))

    def test_pixels_are_in_the_same_order_on_every_machine(self):
        Image = pytest.importorskip('PIL.Image')
        for mode, value, pixels in (('I', 258, b'\2\1\0\0'), ('F', 1.0, b'\0\0\x80\x3f')):
            assert b'pixels\xc4\4' + pixels in vaults.dumps(Image.new(mode, (1, 1), value))

    def test_an_opened_file_keeps_its_class_and_a_copy_is_an_image(self, v):
        Image = pytest.importorskip('PIL.Image')
        file = io.BytesIO()
        Image.new('RGB', (2, 2), 'navy').save(file, 'PNG')
        opened = Image.open(file)
        v['photo'] = opened
        assert type(v['photo']) is type(opened) and v['photo'].getpixel((0, 0)) == (0, 0, 128)
        with pytest.raises(vaults.UntrustedPickleError, match='PngImageFile'):
            vaults.dumps(opened, allow_pickle=False)
        self.same(opened.copy(), self.again(opened.copy()))

    def test_an_image_can_be_changed_when_loaded_and_a_closed_one_cannot_be_stored(self, v):
        Image = pytest.importorskip('PIL.Image')
        image = Image.new('RGB', (2, 2))
        with v:
            v['i'] = image
            with v.edit('i') as edited:
                edited.putpixel((0, 0), (1, 2, 3))
        assert v['i'].getpixel((0, 0)) == (1, 2, 3)
        image.close()
        with pytest.raises(vaults.SerializationError, match='closed'):
            v['j'] = image
        assert 'j' not in v

    def test_the_program_of_the_readme_registers_another_form(self):
        pytest.importorskip('PIL')
        done = run(IMAGE_README)
        assert done.stdout == '(300, 200) (0, 0, 128)\n', done.stderr


IMAGE_README = '''
import io, vaults
from PIL import Image

def to_png(image):
    file = io.BytesIO()
    image.save(file, 'PNG')
    return file.getvalue()

def from_png(data):
    return Image.open(io.BytesIO(data), formats=['PNG']).copy()

vaults.register(Image.Image, to_png, from_png, name='image/png')
v = vaults.Vault(':memory:', allow_pickle=False)
v['flag'] = Image.new('RGB', (300, 200), 'navy')    # 1 KB, and 180 KB as pixels
print(v['flag'].size, v['flag'].getpixel((0, 0)))   # (300, 200) (0, 0, 128)
'''

anything_packed = st.recursive(st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(), st.binary(), st.dates(), st.decimals(allow_nan=False)),
                        lambda inner: st.one_of(st.lists(inner), st.tuples(inner, inner), st.dictionaries(st.text(), inner)), max_leaves=8)


class TestWithoutAVault:
    """dumps and loads serve on their own."""

    @given(st.lists(anything_packed, max_size=5))
    def test_what_is_dumped_is_loaded_one_by_one_and_many_at_once(self, objs):
        datas = vaults.dumps_many(iter(objs))
        assert datas == [vaults.dumps(obj) for obj in objs]
        for back in (vaults.loads_many(iter(datas)), [vaults.loads(data) for data in datas]):
            assert back == objs and list(map(type, back)) == list(map(type, objs))

    @given(st.binary(max_size=40))
    def test_malformed_bytes_are_an_error_of_ours(self, data):
        for load in (vaults.loads, lambda data: vaults.loads_many([b'\x01', data])):
            with contextlib.suppress(vaults.VaultCorruptError, vaults.SerializationError, vaults.UntrustedPickleError):
                load(data)

    def test_they_write_what_a_vault_stores(self, v):
        v['k'] = [(1, 2), {3}]
        assert v._store.get('k') == vaults.dumps(v['k'])

    def test_pickles_are_written_unless_forbidden_and_read_only_when_allowed(self):
        data = vaults.dumps(Wrapped(1))
        for refused in (lambda: vaults.loads(data), lambda: vaults.loads_many([data]), lambda: vaults.dumps(Wrapped(1), allow_pickle=False),
                        lambda: vaults.loads(data, allow_pickle=[collections.Counter])):
            with pytest.raises(vaults.UntrustedPickleError):
                refused()
        for allowed in (True, [Wrapped]):
            assert vaults.loads(data, allow_pickle=allowed) == Wrapped(1) == vaults.loads_many([data], allow_pickle=allowed)[0]
            assert vaults.dumps_many([Wrapped(1)], allow_pickle=allowed) == [data]
        for wrong in (None, 'yes', []):
            with pytest.raises(TypeError, match='allow_pickle'):
                vaults.loads(data, allow_pickle=wrong)

    def test_the_first_that_fails_is_named(self):
        with pytest.raises(vaults.SerializationError, match='element 1: .*cannot be pickled'):
            vaults.dumps_many([1, (n for n in 'abc'), 3])
        with pytest.raises(vaults.VaultCorruptError, match='element 2'):
            vaults.loads_many([b'\x01', b'\x02', b'\xc1', b'\xc1'])
        with pytest.raises(vaults.VaultCorruptError, match='element 0'):
            vaults.loads_many([b'\x01\x02', b'\x03'])

    @pytest.mark.parametrize('code', sorted(values.PARTED))
    def test_what_lives_in_a_vault_is_not_loaded_from_its_bytes(self, code, monkeypatch):
        with pytest.raises(vaults.SerializationError, match='in its vault'):
            vaults.loads(as_ext(code, []))
        with pytest.raises(vaults.SerializationError, match='element 0.*in its vault'):
            vaults.loads_many([as_ext(code, [])])
        monkeypatch.setitem(values.live_types, Wrapped, None)
        with pytest.raises(vaults.SerializationError, match='live list'):
            vaults.dumps([Wrapped(1)])

    def test_what_a_serializer_made_is_said_to_be_that(self):
        with pytest.raises(vaults.SerializationError, match='serializer='):
            vaults.loads(as_ext(values.SERIALIZED, '1'))


def reversed_text(data):
    return data[::-1]


class TestSerializer:
    """Another pair of functions takes the place of msgpack for a whole vault, and its name is in the file."""

    def test_values_are_what_the_functions_make(self, root):
        v = Vault('j', serializer=json)
        v['k'] = {'b': (1, None), 'ä': 1.5}
        assert v['k'] == {'b': [1, None], 'ä': 1.5} == v.get('k')
        assert v._store.get('k') == as_ext(values.SERIALIZED, json.dumps(v['k']))
        v.update(a=1, b=[2])
        v[3, 'tuple'] = 'key'
        assert v.items() == [('k', v['k']), ('a', 1), ('b', [2]), ((3, 'tuple'), 'key')] and v['a':'c'].values() == [1, [2]]
        assert (v.pop('a'), v.popitem(), v.setdefault('n', (1,)), v.setdefault('n', 5), v.get_many(['b'])) == (1, ((3, 'tuple'), 'key'), (1,), [1], {'b': [2]})
        with v.edit('b') as b:
            b.append(3)
        assert v['b'] == [2, 3] and Vault('j', serializer=json, flag='r')['b'] == [2, 3]
        v.compact()
        v._check()
        v.clear()
        assert Vault('j', serializer=json)._codec is not None

    def test_loads_gets_what_dumps_has_returned(self):
        seen = []

        def loads(data):
            seen.append(data)
            return data
        for made in ('text', b'bytes', '', b''):
            v = Vault(':memory:', serializer=('own', lambda obj, made=made: made, loads))
            v['k'] = 1
            assert v['k'] == made and list(v.values()) == [made]
        assert seen == ['text', 'text', b'bytes', b'bytes', '', '', b'', b'']

    @pytest.mark.parametrize('source, name', [(json, 'json'), (pickle, 'pickle'), (('rev', json.dumps, json.loads), 'rev'), (SimpleNamespace(name='own', dumps=repr, loads=eval), 'own'),
                                              (type('Cls', (), {'dumps': staticmethod(repr), 'loads': staticmethod(eval)}), 'Cls')])
    def test_its_name_is_that_of_the_module_the_tuple_or_the_object(self, root, source, name):
        v = Vault('s', serializer=source)
        v['k'] = [1]
        assert v['k'] == [1] and v._store.get_part(bytes(12), 0) == msgpack.packb({'serializer': name})
        v.close()
        with pytest.raises(vaults.VaultFormatError, match=f'{name!r}.*without one.*pass serializer'):
            Vault('s')
        with pytest.raises(vaults.VaultFormatError, match=f"{name!r}.*'other'"):
            Vault('s', serializer=('other', repr, eval), writeback=True)
        assert Vault('s', serializer=(name, source[1] if isinstance(source, tuple) else source.dumps, json.loads)).keys() == ['k']

    @pytest.mark.parametrize('wrong', ['json', 3, ('x', json.dumps), ('', json.dumps, json.loads), (3, json.dumps, json.loads), ('x', 1, 2), os, SimpleNamespace(dumps=repr, loads=eval)])
    def test_what_is_no_serializer_is_refused_and_nothing_is_made(self, root, wrong):
        with pytest.raises(TypeError, match='a serializer is'):
            Vault('s', serializer=wrong)
        assert not list(root.glob('vaults/*'))

    def test_a_vault_with_values_of_its_own_is_not_opened_with_one(self, v):
        v['k'] = 1
        for flag in 'cwr':
            with pytest.raises(vaults.VaultFormatError, match="without a serializer.*'json'"):
                Vault('test', serializer=json, flag=flag)
        assert Vault('test')['k'] == 1
        with contextlib.closing(sqlite3.connect(v.db_path)) as db:
            assert ('parts',) not in db.execute('SELECT name FROM sqlite_master').fetchall()
        v.clear()
        with pytest.raises(vaults.VaultFormatError):
            Vault('test', serializer=json, flag='r')
        Vault('test', serializer=json)['k'] = 2
        assert Vault('test', serializer=json)['k'] == 2

    def test_a_new_beginning_takes_the_new_one(self, root):
        Vault('s', serializer=json)['k'] = 1
        v = Vault('s', serializer=pickle, flag='n')
        v['k'] = (1, 2)
        assert Vault('s', serializer=pickle).items() == [('k', (1, 2))]
        Vault('s', flag='n')['k'] = (3,)
        assert Vault('s')['k'] == (3,)
        Vault('s', serializer=json, flag='n')
        Vault('s', serializer=json, flag='n')['k'] = (4,)
        assert Vault('s', serializer=json)['k'] == [4]

    def test_of_two_that_create_it_at_once_one_is_refused(self, root, monkeypatch):
        from vaults.codecs import serializers
        plain = serializers.recorded

        def slow(store):
            monkeypatch.setattr(serializers, 'recorded', plain)
            Vault('s', serializer=json)  # between our look and our writing
        monkeypatch.setattr(serializers, 'recorded', slow)
        with pytest.raises(vaults.VaultFormatError, match="'json'.*'pickle'"):
            Vault('s', serializer=pickle)
        assert Vault('s', serializer=json) == {}

    def test_a_function_that_fails_is_named_and_nothing_is_written(self, root):
        def loads(data):
            raise LookupError('bad')
        v = Vault('s', serializer=('own', json.dumps, json.loads))
        v['k'] = 1
        for act in (lambda: v.put('x', object()), lambda: v.update(y=1, x={1})):
            with pytest.raises(vaults.SerializationError, match="dumps of the serializer 'own' failed.*'x'") as caught:
                act()
            assert isinstance(caught.value.__cause__.__cause__, TypeError)
        assert v.keys() == ['k']
        broken = Vault('s', serializer=('own', json.dumps, loads))
        for act in (lambda: broken['k'], lambda: list(broken.items()), lambda: broken.pop('k')):
            with pytest.raises(vaults.SerializationError, match="loads of the serializer 'own' failed.*bad.*'k'"):
                act()
        assert 'k' in v
        for made in (None, 3, ['x'], '\ud800'):
            v = Vault(':memory:', serializer=('own', lambda obj: made, json.loads))  # noqa: B023
            with pytest.raises(vaults.SerializationError, match="'own'"):
                v['k'] = 1
            assert not v

    def test_a_vault_that_is_pickled_keeps_it(self, root):
        for source in (json, ('rev', reversed_text, reversed_text)):
            v = Vault('s', serializer=source, flag='n')
            v['k'] = 'abc'
            assert pickle.loads(pickle.dumps(v))['k'] == 'abc'
            with contextlib.closing(Vault('s', serializer=source, writeback=True)) as live:
                assert pickle.loads(pickle.dumps(live))['k'] == 'abc'

    def test_write_back_and_shelves_know_it(self, root):
        with vaults.Shelf(root / 'shelf', serializer=json, writeback=True) as shelf:
            shelf['k'] = []
            shelf['k'].append({'a': 1})
        with vaults.Shelf(root / 'shelf', serializer=json) as shelf:
            assert shelf['k'] == [{'a': 1}]
        with pytest.raises(vaults.VaultFormatError):
            vaults.open(root / 'shelf')

    def test_tools_open_any_vault_and_see_what_is_stored(self, root):
        for source, stored in ((json, '[1]'), (pickle, pickle.dumps([1]))):
            v = Vault('s', serializer=source, flag='n')
            v['k'] = [1]
            tool = Vault('s', serializer=AS_STORED, allow_pickle=False)
            assert tool['k'] == stored and tool.items() == [('k', stored)] and tool.check() == []
            with pytest.raises(vaults.SerializationError, match=repr(v._codec._serializer.name)):
                tool['k'] = 2
            assert v['k'] == [1]
        plain = Vault('p', serializer=AS_STORED)
        plain['k'] = (1, 2)
        assert Vault('p')['k'] == (1, 2)
        assert pickle.loads(pickle.dumps(AS_STORED)) is AS_STORED

    def test_check_passes_over_its_values_and_finds_what_is_damaged(self, root):
        v = Vault('s', serializer=pickle)
        v['k'] = Wrapped(1)
        assert v.check() == []
        v._store.put('bad', msgpack.packb(msgpack.ExtType(values.SERIALIZED, b'\xc1')))
        assert len(v.check()) == 1
        with pytest.raises(vaults.VaultCorruptError, match='bad'):
            v['bad']

    def test_when_its_name_has_rotted_keys_can_be_read_and_no_value_is_wrong(self, root):
        v = Vault('s', serializer=json)
        v['k'] = 1
        v.close()
        with contextlib.closing(sqlite3.connect(v.db_path)) as db:
            db.execute("UPDATE parts SET data = x'81'")
            db.commit()
        with pytest.raises(vaults.VaultCorruptError):
            Vault('s', serializer=json)
        for serializer in (None, AS_STORED):
            assert Vault('s', serializer=serializer).keys() == ['k']
        with pytest.raises(vaults.SerializationError):
            Vault('s')['k']

    def test_it_may_run_in_memory_and_lists_serialize_each_item(self):
        v = Vault(':memory:', serializer=json)
        items = v.list('l')
        items.extend([(1,), {'a': (2,)}])
        assert list(v['l']) == [[1], {'a': [2]}] and v.check() == []

    def test_one_is_known_by_its_source(self):
        assert Serializer.of(Serializer.of(json)).name == 'json'
        assert importlib.import_module(Serializer.of(json).name) is json


RECIPES = re.findall(r'```python\n(.*?)```', (HERE / 'docs' / 'recipes.md').read_text('utf-8'), re.S)


def recipe(vault):
    """Return the functions of the recipe that keeps its vault under this name, without the lines that use them."""
    program = next(program for program in RECIPES if f"Vault('{vault}')" in program)
    return program.rsplit('\n\n', 1)[0] + '\n'


def start(code, root):
    """Start a program beside this one; it may be talked to by its standard input and output."""
    return subprocess.Popen([sys.executable, '-W', 'error', '-c', code], cwd=str(root), text=True,
                            env={**os.environ, 'PYTHONPATH': str(HERE)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def answers(*children):
    """Let the programs go on, and return what each has printed."""
    for child in children:
        child.stdin.write('\n')
        child.stdin.flush()
    answered = [child.communicate(timeout=60)[0] for child in children]
    assert [child.returncode for child in children] == [0] * len(children)
    return answered


class TestRecipes:
    @pytest.mark.parametrize('number', range(len(RECIPES)))
    def test_each_program_shows_what_the_page_says(self, root, number):
        for package in re.findall(r'\b(jsonschema|pydantic)\b', RECIPES[number].split('\n')[0]):
            if importlib.util.find_spec(package) is None:
                pytest.skip(f'{package} is not installed')
        shown = output(RECIPES[number], cwd=str(root)).splitlines()
        assert shown == re.findall(r'print\(.*\)\s+# (.*)', RECIPES[number])

    def test_the_programs_are_short(self):
        assert len(RECIPES) == 13
        for program in RECIPES:
            assert len([line for line in program.splitlines() if line]) <= 25, program

    def test_the_page_leads_to_its_sections(self):
        page = (HERE / 'docs' / 'recipes.md').read_text('utf-8')
        titles = re.findall(r'^## (.*)$', page, re.M)
        assert re.findall(r'\]\(#(.*?)\)', page) == [re.sub(r'\W+', '-', title.lower()) for title in titles]

    def test_two_processes_do_each_job_of_the_queue_once(self, root):
        output(recipe('work') + 'v.update((("jobs", 1.0, n), n) for n in range(200))', cwd=str(root))
        worker = recipe('work') + textwrap.dedent('''
            print('ready', flush=True)
            input()
            ticket, job = take()
            while ticket:
                print(job)
                assert done(ticket, job)
                ticket, job = take()
            ''')
        children = [start(worker, root) for _ in range(2)]
        assert [child.stdout.readline() for child in children] == ['ready\n'] * 2
        done = [list(map(int, answer.split())) for answer in answers(*children)]
        assert sorted(done[0] + done[1]) == list(range(200))
        with contextlib.closing(vaults.Vault('work')) as v:
            assert v.section('results') == {n: n for n in range(200)} and not v.section('jobs')
            v._check()

    def test_the_job_of_a_killed_worker_comes_back_when_its_lease_runs_out(self, root):
        worker = start(recipe('work') + 'add("wash"); print(*take(lease=0.5), flush=True); input()', root)
        assert 'wash' in worker.stdout.readline()
        other = recipe('work') + textwrap.dedent('''
            assert take() == (None, None)
            input()
            while not take()[0]:
                pass
            print(time.time() >= float(v['until']), take())
            ''')
        other = start(other, root)
        with contextlib.closing(vaults.Vault('work')) as v:
            v['until'] = next(iter(v.section('jobs')))[0]
        worker.send_signal(signal.SIGTERM if os.name == 'nt' else signal.SIGKILL)
        worker.communicate()
        assert answers(other) == ['True (None, None)\n']

    def test_a_ticket_that_was_given_to_another_worker_is_refused_also_in_another_process(self, root):
        use = ('add("wash"); ticket, _ = take(lease=0.0); '
               'v["mine"] = ticket; v["theirs"], _ = take(); print(ticket < v["theirs"])')
        assert output(recipe('work') + use, cwd=str(root)) == 'True'
        use = 'print(done(v["mine"], 1), done(v["theirs"], 2), done(v["theirs"], 3), results.values())'
        assert output(recipe('work') + use, cwd=str(root)) == 'False True False [2]'

    def test_two_processes_count_without_losing_one(self, root):
        counter = recipe('site') + textwrap.dedent('''
            print('ready', flush=True)
            input()
            for n in range(300):
                count(['home', n % 3])
            ''')
        children = [start(counter, root) for _ in range(2)]
        assert [child.stdout.readline() for child in children] == ['ready\n'] * 2
        answers(*children)
        with contextlib.closing(vaults.Vault('site')) as v:
            assert v.section('hits') == {'home': 600, 0: 200, 1: 200, 2: 200}

    def test_the_index_fits_the_documents_after_a_change_that_failed(self, root):
        use = textwrap.dedent('''
            put('ann', name='Ann', city='Oslo')
            try:
                put('ann', city='Rome', job=(n for n in 'abc'))
            except vaults.SerializationError:
                print(len(people.section('ann')), by_city.section('Oslo').keys(), by_city.section('Rome').keys())
            ''')
        assert output(recipe('people') + use, cwd=str(root)) == "2 ['ann'] []"

    def test_a_file_is_not_stored_without_what_is_known_about_it(self, root):
        use = textwrap.dedent('''
            pathlib.Path('big').write_bytes(b'x' * 1_000_000)
            add('big', 'big', type='x')
            pathlib.Path('big').write_bytes(b'y' * 1_000_000)
            try:
                add('big', 'big', type=(n for n in 'abc'))
            except vaults.SerializationError:
                print(files['big'] == b'x' * 1_000_000, about['big'])
            delete('big')
            v.compact()
            print(len(v), v.check())
            ''')
        assert output(recipe('store') + use, cwd=str(root)) == "True {'size': 1000000, 'type': 'x'}\n0 []"

    def test_the_cache_drops_the_oldest_and_what_has_expired(self, root):
        cache = RECIPES[[' cached(' in program for program in RECIPES].index(True)].split('cache = ')[0]
        use = textwrap.dedent('''
            computed = []
            old = cached(vaults.Vault('cache'), seconds=-1, most=3)(lambda n: computed.append(n))
            new = cached(vaults.Vault('cache'), seconds=60, most=3)(lambda n: computed.append(n))
            old(1), old(1), old(2)
            new(2), new(2), new(3), new(1), new(4)
            print(computed, [key[1] for key in vaults.Vault('cache')])
            ''')
        assert output(cache + use, cwd=str(root)) == '[1, 1, 2, 2, 3, 1, 4] [3, 1, 4]'


BIG = bytes(range(256)) * 12  # with leaves of 64 bytes, 48 of them: three levels of nodes of 4


@pytest.fixture
def small_leaves(monkeypatch):
    for module, name, value in ((streams, 'LEAF', 64), (streams, 'SMALL', 40), (streams, 'KEPT', 3), (parts, 'FANOUT', 4)):
        monkeypatch.setattr(module, name, value)


def part_count(vault):
    with contextlib.closing(sqlite3.connect(vault.db_path)) as raw:
        try:
            return raw.execute('SELECT count(*) FROM parts').fetchone()[0]
        except sqlite3.OperationalError:
            return 0


def filled_stream(vault, key, data=BIG):
    with vault.open(key, 'wb') as file:
        file.write(data)


class Twins:
    """The same file twice: a stream, and the builtin's."""

    def __init__(self, vault, folder, mode, **options):
        self.path = os.path.join(folder, 'file')
        self.files = [vault.open('key', mode, **options),
                      open(self.path, mode, **{'encoding': None, **options})]  # noqa: SIM115

    def does(self, name, *arguments):
        """Return what both do; it must be the same."""
        answers = []
        for file in self.files:
            try:
                answer = getattr(file, name)(*arguments)
                answers.append(bytes(answer) if isinstance(answer, bytearray) else answer)
            except (OSError, ValueError) as error:
                answers.append('raised' if not isinstance(error, io.UnsupportedOperation) else 'unsupported')
        assert answers[0] == answers[1], (name, arguments)
        return answers[0]


stream_places = st.integers(-20, 400) | st.integers(400, 5000)
stream_operations = st.lists(st.one_of(
    st.tuples(st.just('read'), st.integers(-1, 300)),
    st.tuples(st.just('write'), st.binary(max_size=8).flatmap(lambda data: st.integers(0, 40).map(lambda n: data * n))),
    st.tuples(st.just('seek'), stream_places),
    st.tuples(st.just('seek'), st.integers(-200, 200), st.sampled_from([1, 2])),
    st.tuples(st.just('truncate')), st.tuples(st.just('truncate'), stream_places),
    st.tuples(st.just('readline')), st.tuples(st.just('readlines')), st.tuples(st.just('tell')),
    st.tuples(st.just('flush')), st.tuples(st.just('read1'), st.integers(0, 100))), max_size=12)
stream_texts = st.text('ab\n\ré€\U0001f600', max_size=60)
stream_text_operations = st.lists(st.one_of(
    st.tuples(st.just('read'), st.integers(-1, 60)), st.tuples(st.just('write'), stream_texts),
    st.tuples(st.just('seek'), st.just(0)), st.tuples(st.just('seek'), st.just(0), st.just(2)),
    st.tuples(st.just('readline')), st.tuples(st.just('tell')), st.tuples(st.just('flush')),
    st.tuples(st.just('truncate'), st.integers(0, 30))), max_size=10)
stream_sizes = st.sampled_from([0, 1, 39, 40, 41, 64, 65, 128, 200, 700])


class TestStreams:
    @given(mode=st.sampled_from(['rb', 'wb', 'ab', 'r+b', 'w+b', 'a+b']), size=stream_sizes, stream_operations=stream_operations,
           buffering=st.sampled_from([-1, 0, 7, 100]))
    def test_a_stream_does_what_a_file_does(self, small_leaves, mode, size, stream_operations, buffering):
        with Vault(':memory:') as vault, tempfile.TemporaryDirectory() as folder:
            filled_stream(vault, 'key', BIG[:size])
            pathlib.Path(folder, 'file').write_bytes(BIG[:size])
            pair = Twins(vault, folder, mode, buffering=buffering)
            for name, *arguments in stream_operations:
                if name != 'read1' or buffering:
                    pair.does(name, *arguments)
            pair.does('close')
            assert vault['key'] == pathlib.Path(pair.path).read_bytes()
            vault._check()
            store = vault._store
            head = parts.Head.of(store.get('key'))
            assert sorted(store.part_numbers(head.owner)) == sorted(parts.Tree(store, head).numbers())
            assert set(store.part_numbers()) <= {head.owner}

    @given(mode=st.sampled_from(['r', 'w', 'a', 'r+', 'w+', 'a+']), before=stream_texts, stream_operations=stream_text_operations,
           encoding=st.sampled_from(['utf-8', 'utf-16', 'utf-8-sig', 'latin-1']),
           newline=st.sampled_from([None, '', '\n', '\r\n', '\r']), repeat=st.integers(1, 12))
    def test_text_is_what_it_is_in_a_file(self, small_leaves, mode, before, stream_operations, encoding, newline, repeat):
        with Vault(':memory:') as vault, tempfile.TemporaryDirectory() as folder:
            data = (before * repeat).encode(encoding, 'replace')
            filled_stream(vault, 'key', data)
            pathlib.Path(folder, 'file').write_bytes(data)
            pair = Twins(vault, folder, mode, encoding=encoding, errors='replace', newline=newline)
            for name, *arguments in stream_operations:
                pair.does(name, *arguments)
            pair.does('close')
            assert vault['key'] == pathlib.Path(pair.path).read_bytes()

    @given(edits=st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 300), st.booleans()), max_size=8),
           size=st.integers(0, 3000))
    def test_a_stream_can_be_changed_again_and_again(self, small_leaves, edits, size):
        with Vault(':memory:') as vault:
            filled_stream(vault, 'key', BIG[:size])
            expected = bytearray(BIG[:size])
            for at, length, cut in edits:
                with vault.open('key', 'r+b') as file:
                    file.seek(at)
                    if cut:
                        file.truncate()
                        expected = bytearray(expected[:at].ljust(at, b'\0'))
                    if length:
                        file.write(b'x' * length)
                        expected = bytearray(expected.ljust(at, b'\0'))
                        expected[at:at + length] = b'x' * length
                assert vault['key'] == expected
                head = parts.Head.of(vault._store.get('key'))
                assert sorted(vault._store.part_numbers(head.owner)) == sorted(
                    parts.Tree(vault._store, head).numbers())
            vault._check()

    def test_it_is_seen_when_it_is_closed_and_whole(self, v, small_leaves):
        v['key'] = 'old'
        with v.open('key', 'wb') as file:
            file.write(BIG)
            file.flush()
            assert v['key'] == 'old' and part_count(v) > 0
        assert v['key'] == BIG and v.get('key') == BIG and v.values() == [BIG] and v.items() == [('key', BIG)]
        assert v.copy() == {'key': BIG} and v == {'key': BIG} and v.get_many(['key']) == {'key': BIG}

    def test_replacing_and_deleting_free_the_parts(self, v, small_leaves):
        for free in (lambda: v.__setitem__('key', 1), lambda: v.__delitem__('key'), v.clear, v.popitem,
                     lambda: filled_stream(v, 'key', b'short'), lambda: v.__delitem__(slice('a', 'z')),
                     lambda: v.put_many({'key': 2})):
            filled_stream(v, 'key')
            assert part_count(v) > 48
            free()
            assert part_count(v) == 0
        filled_stream(v, 'key')
        before = part_count(v)
        filled_stream(v, 'key')
        assert part_count(v) == before
        assert v.pop('key') == BIG and part_count(v) == 0

    def test_changing_a_byte_writes_a_leaf_and_the_nodes_above(self, v, small_leaves):
        filled_stream(v, 'key')
        before = parts.Head.of(v._store.get('key'))
        kept = set(v._store.part_numbers(before.owner))
        with v.open('key', 'r+b') as file:
            file.write(b'x')
        assert v['key'] == b'x' + BIG[1:]
        assert parts.Head.of(v._store.get('key')).owner == before.owner
        assert len(kept - set(v._store.part_numbers(before.owner))) == 4

    def test_appending_a_little_writes_no_leaf_until_it_is_much(self, v, small_leaves):
        filled_stream(v, 'key', BIG[:700])
        owner = parts.Head.of(v._store.get('key')).owner
        kept, written = list(v._store.part_numbers(owner)), 0
        for at in range(700, 1000):
            with v.open('key', 'ab') as file:
                file.write(BIG[at:at + 1])
            assert v['key'] == v.open('key').read() == BIG[:at + 1]
            written += kept != list(v._store.part_numbers(owner))
            kept = list(v._store.part_numbers(owner))
            if at == 750:
                v._check()
        assert 5 <= written <= 16
        with v.open('key', 'r+b') as file:
            file.truncate(995)
            file.seek(0)
            file.write(b'x')
        assert v['key'] == b'x' + BIG[1:995]

    @pytest.mark.parametrize('buffering', [-1, 0])
    def test_an_exception_in_the_block_writes_nothing(self, v, small_leaves, buffering):
        filled_stream(v, 'key', BIG[:500])
        before = part_count(v)
        for mode in ('wb', 'r+b', 'ab', 'w+b'):
            with pytest.raises(ZeroDivisionError), v.open('key', mode, buffering) as file:
                file.write(BIG)
                raise ZeroDivisionError
            assert file.closed and v['key'] == BIG[:500] and part_count(v) == before
        for mode in ('w', 'r+', 'a'):
            with pytest.raises(ZeroDivisionError), v.open('key', mode) as file:
                file.write('x' * 5000)
                raise ZeroDivisionError
            assert file.closed and v['key'] == BIG[:500] and part_count(v) == before

    @pytest.mark.parametrize('wrap', [lambda v: v.open('key', 'wb'), lambda v: v.open('key', 'wb', 0),
                                      lambda v: v.open('key', 'w', encoding='latin-1'), lambda v: v.open('key', 'r+b'),
                                      lambda v: io.TextIOWrapper(v.open('key', 'wb'), 'latin-1'),
                                      lambda v: v.open('key', 'ab').detach()])
    @pytest.mark.parametrize('cycle', [False, True])
    def test_a_dropped_writer_writes_nothing_and_says_so(self, v, small_leaves, caplog, wrap, cycle):
        v['key'] = b'old'
        with caplog.at_level(logging.WARNING, 'vaults'):
            file = wrap(v)
            file.write(BIG.decode('latin-1') if isinstance(file, io.TextIOBase) else BIG)
            if cycle:  # where what is only in the buffer is not known of any more
                file.flush()
                held = [file]
                held.append(held)
                del held
            del file
            gc.collect()
        assert v['key'] == b'old' and part_count(v) == 0
        assert [record.getMessage()[:40] for record in caplog.records] == ['a file was dropped without close(), noth']

    def test_a_leaf_written_again_before_closing_is_kept_once(self, v, small_leaves):
        with v.open('key', 'w+b') as file:
            for _ in range(3):
                file.seek(0)
                file.write(BIG)
                file.flush()
        head = parts.Head.of(v._store.get('key'))
        assert v['key'] == BIG
        assert sorted(v._store.part_numbers(head.owner)) == sorted(parts.Tree(v._store, head).numbers())

    def test_writing_no_bytes_changes_nothing(self, v, small_leaves):
        filled_stream(v, 'key')
        with v.open('key', 'a+b', 0) as file:
            file.seek(5)
            assert file.write(b'') == 0 and file.tell() == 5
        with v.open('key', 'r+b', 0) as file:
            file.seek(9999)
            file.write(b'')
        assert v['key'] == BIG

    def test_leaves_of_another_length_are_not_read_as_something_else(self, v, small_leaves, monkeypatch):
        filled_stream(v, 'key')
        monkeypatch.setattr(streams, 'LEAF', 100)
        with v.open('key') as file, pytest.raises(vaults.VaultCorruptError, match='do not fit together'):
            file.read()

    def test_streams_are_kept_in_sections_too(self, v, small_leaves):
        section = v.section('files')
        filled_stream(section, 'key')
        assert section['key'] == section.open('key').read() == v['files', 'key'] == BIG and part_count(v) > 48
        assert section.put_file('key', io.BytesIO(b'new')) == section.get_file('key', io.BytesIO()) == 3
        assert part_count(v) == 0 and section.items() == [('key', b'new')]

    def test_a_dropped_reader_is_nothing_to_speak_of(self, v, small_leaves, caplog):
        filled_stream(v, 'key')
        for mode in ('rb', 'r+b', 'ab', 'r'):
            v.open('key', mode)
        assert not caplog.records and v['key'] == BIG

    def test_discard_closes_and_writes_nothing(self, v, small_leaves):
        for mode in ('wb', 'w+b', 'w'):
            file = v.open('key', mode)
            file.write(BIG.decode('latin-1') if mode == 'w' else BIG)
            file.discard()
            file.discard()
            file.close()
            assert file.closed and 'key' not in v and part_count(v) == 0

    def test_a_reader_whose_stream_is_replaced_is_told(self, v, small_leaves):
        for change in (lambda: filled_stream(v, 'key', b'new'), lambda: v.__delitem__('key')):
            filled_stream(v, 'key')
            with v.open('key', buffering=0) as file:
                assert file.read(10) == BIG[:10]
                change()
                with pytest.raises(vaults.VaultError, match='replaced or deleted while it was open: key .key.'):
                    file.read()

    def test_a_reader_keeps_what_was_not_changed_under_it(self, v, small_leaves):
        filled_stream(v, 'key')
        with v.open('key', buffering=0) as reader:
            assert reader.read(1) == BIG[:1]  # and has the root
            with v.open('key', 'ab') as file:
                file.write(b'more')
            assert reader.seek(0, 2) == len(BIG)  # and sees nothing of what came later

    def test_two_writers_of_r_plus_cannot_both_win(self, v, small_leaves):
        filled_stream(v, 'key')
        first, second, third = v.open('key', 'r+b'), v.open('key', 'r+b'), v.open('key', 'r+b')
        first.write(b'1')
        second.write(b'2' * 1000)
        first.close()
        before = part_count(v)
        with pytest.raises(vaults.VaultError, match='the stream was replaced or deleted while it was open'):
            second.close()
        third.close()  # it has changed nothing
        assert v['key'] == b'1' + BIG[1:] and part_count(v) == before and second.closed

    @pytest.mark.parametrize('size', [0, 10, 63, 64, 300, 3000])
    def test_two_that_append_both_survive(self, v, small_leaves, size):
        for before in (None, b'', BIG, b'old', 'older'):
            v.clear()
            if before == BIG:
                filled_stream(v, 'key', before)
            elif before is not None:
                v['key'] = before
            first, second = v.open('key', 'ab'), v.open('key', 'ab')
            first.write(b'1' * size)
            second.write(b'2' * size)
            second.close()
            first.close()
            start = (before.encode() if isinstance(before, str) else before or b'')
            wanted = before if not size and before is not None else start + b'2' * size + b'1' * size
            assert v['key'] == wanted
            v._check()
            owners = list(v._store.part_numbers())
            assert len(owners) == (len(wanted) > 40 and (before == BIG or size > 0))

    def test_appending_to_what_was_truncated_meanwhile_cannot_be_joined(self, v, small_leaves):
        filled_stream(v, 'key')
        with pytest.raises(vaults.VaultError, match='somebody else has changed'), v.open('key', 'ab') as file:
            file.truncate(10)
            file.write(b'x')
            v['key'] = b'new'
        assert v['key'] == b'new'

    def test_what_was_appended_to_a_replaced_stream_is_appended_or_an_error(self, v, small_leaves):
        filled_stream(v, 'key')
        with v.open('key', 'ab') as file:
            file.write(b'x')
            filled_stream(v, 'key', b'new')
        assert v['key'] == b'newx'
        filled_stream(v, 'key')
        with pytest.raises(vaults.VaultError, match='what was written is not there any more'), \
                v.open('key', 'ab') as file:
            file.write(BIG)
            file.flush()
            filled_stream(v, 'key', b'new')
        assert v['key'] == b'new' and part_count(v) == 0

    def test_only_one_of_two_makes_a_new_one(self, v, small_leaves):
        first, second = v.open('key', 'xb'), v.open('key', 'x')
        first.write(BIG)
        second.write('2' * 5000)
        first.close()
        with pytest.raises(errors.VaultExistsError, match='key .key.'):
            second.close()
        with pytest.raises(FileExistsError):
            v.open('key', 'xb')
        assert v['key'] == BIG and list(v._store.part_numbers()) == [parts.Head.of(v._store.get('key')).owner]

    def test_a_stream_takes_part_in_a_block(self, v, small_leaves):
        v['key'] = 'old'
        with v:
            filled_stream(v, 'key')
            assert v['key'] == BIG
        with pytest.raises(ZeroDivisionError), v:
            filled_stream(v, 'key', b'new' * 100)
            assert v['key'] == b'new' * 100
            raise ZeroDivisionError
        assert v['key'] == BIG
        with v:
            with pytest.raises(ZeroDivisionError), v:
                filled_stream(v, 'key', b'inner' * 100)
                raise ZeroDivisionError
            with v.open('key', 'ab') as file:
                file.write(b'outer' * 100)
        assert v['key'] == BIG + b'outer' * 100

    def test_a_stream_cannot_outlive_the_block_it_was_written_in(self, v, small_leaves):
        for mode, old in (('wb', 'old'), ('r+b', BIG), ('ab', BIG)):
            v.clear()
            filled_stream(v, 'key') if old is BIG else v.update(key=old)
            before = part_count(v)
            with pytest.raises(ZeroDivisionError), v:
                file = v.open('key', mode)
                file.write(BIG)
                file.flush()
                raise ZeroDivisionError
            with pytest.raises(vaults.VaultError, match='not there any more.*rolled back'):
                file.close()
            assert v['key'] == old and part_count(v) == before and file.closed

    def test_closing_after_the_vault_writes_nothing(self, root, small_leaves):
        for data in (b'x', BIG):
            vault = Vault('test')
            file = vault.open('key', 'wb')
            file.write(data)
            vault.close()
            with pytest.raises(vaults.VaultClosedError):
                file.close()
            assert file.closed
            with pytest.raises(vaults.VaultClosedError):
                vault.open('key', 'wb')
            assert 'key' not in Vault('test')

    def test_a_vault_that_is_only_read_is_not_opened_to_write(self, root, small_leaves):
        vault = Vault('test')
        filled_stream(vault, 'key')
        vault.close()
        with contextlib.closing(Vault('test', flag='r')) as reading:
            for mode in ('wb', 'ab', 'r+b', 'xb', 'w'):
                with pytest.raises(vaults.VaultReadOnlyError):
                    reading.open('key', mode)
            with pytest.raises(vaults.VaultReadOnlyError):
                reading.put_file('key', io.BytesIO())
            with reading.open('key') as file:
                assert file.read() == BIG == reading['key']

    def test_one_thread_writes_and_another_closes(self, v, small_leaves):
        file = v.open('key', 'wb')
        for data in (BIG[:1000], BIG[1000:2000], BIG[2000:]):
            thread = threading.Thread(target=file.write, args=(data,))
            thread.start()
            thread.join()
        file.close()
        assert v['key'] == BIG

    @needs_fork
    def test_a_forked_child_leaves_the_writer_to_its_parent(self, v, small_leaves):
        file = v.open('key', 'wb', 0)
        file.write(BIG)
        child = os.fork()
        if not child:
            code = 1
            with contextlib.suppress(vaults.VaultError):
                file.discard() if not part_count(v) else file.close()
                code = 2
            os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1 if sys.version_info >= (3, 9) else os.wait()
        file.write(b'more')
        file.close()
        assert v['key'] == BIG + b'more'

    def test_any_bytes_or_text_is_read_however_it_was_stored(self, v, small_leaves):
        v.update({'bytes': BIG, 'array': bytearray(BIG), 'text': 'é€' * 100, 'empty': b'', 'alone': '\ud800'})
        assert v.open('bytes').read() == v.open('array').read() == BIG
        assert v.open('text', 'r').read() == 'é€' * 100 and v.open('text').read() == ('é€' * 100).encode()
        assert v.open('empty').read() == b'' and v.open('empty', 'r').read() == ''
        assert v.open('alone', 'r', errors='surrogatepass').read() == '\ud800'
        with v.open('bytes') as file:
            assert file.seek(100) == 100 and file.read(10) == BIG[100:110]

    def test_what_is_neither_bytes_nor_text_is_not_opened(self, v, small_leaves):
        v.update({'number': 1, 'dict': {}, 'none': None})
        v.list('list').append(1)
        for key, kind in (('number', 'int'), ('dict', 'dict'), ('none', 'NoneType'), ('list', 'List')):
            for mode in ('rb', 'r+b', 'ab', 'r'):
                with pytest.raises(TypeError, match=f'not {kind}: key {key!r}'):
                    v.open(key, mode)
            with pytest.raises(TypeError, match=f'not {kind}: key {key!r}'):
                v.get_file(key, io.BytesIO())
        filled_stream(v, 'list')
        assert v['list'] == BIG
        v['list'] = 1

    def test_bytes_and_text_become_a_stream_when_they_are_changed(self, v, small_leaves):
        for old in (BIG, bytearray(BIG), BIG.decode('latin-1'), 'short', b''):
            v['key'] = old
            v.open('key', 'r+b').close()
            assert v['key'] == old and type(v['key']) is type(old)
            with v.open('key', 'ab') as file:
                file.write(b'more')
            with v.open('key', 'r+b') as file:
                file.seek(2)
                file.write(b'!')
            data = (old.encode() if isinstance(old, str) else bytes(old)) + b'more'
            assert v['key'] == data[:2] + b'!' + data[3:]

    def test_modes_are_those_of_open(self, v, tmp_path):
        v['key'] = b'old'
        (tmp_path / 'file').write_bytes(b'old')
        attempts = [{'mode': ''.join(letters)} for count in (1, 2, 3) for letters in itertools.product(
            'rwabt+xz', repeat=count)]
        attempts += [{'mode': 'rb', 'encoding': 'utf-8'}, {'mode': 'rb', 'errors': 'strict'}, {'mode': 'r', 'newline': 'x'},
                     {'mode': 'rb', 'newline': ''}, {'mode': 'r', 'buffering': 0}, {'mode': 'rb', 'buffering': -2},
                     {'mode': 'r', 'encoding': 'no such'}, {'mode': 'w', 'newline': 'x'}, {'mode': 5},
                     {'mode': 'w', 'encoding': 'no such'}]
        for options in attempts:
            outcomes = []
            for opener, what in ((v.open, 'key'), (open, tmp_path / 'file')):
                try:
                    with opener(what, **{'encoding': None, **options}) as file:
                        outcomes.append((file.readable(), file.writable(), file.seekable(), file.tell(),
                                         isinstance(file, io.TextIOBase), file.mode))
                except Exception as error:
                    outcomes.append(next(kind for kind in (TypeError, LookupError, FileExistsError, ValueError)
                                         if isinstance(error, kind)))
            assert outcomes[0] == outcomes[1], options

    def test_it_is_an_io_object_with_all_its_methods(self, v, small_leaves):
        filled_stream(v, 'key', b'one\ntwo\nthree')
        with v.open('key') as file:
            assert isinstance(file, io.BufferedReader) and file.name == 'key' and file.mode == 'rb'
            assert list(file) == [b'one\n', b'two\n', b'three'] and not file.isatty()
            assert file.seek(-5, 2) == 8 and file.peek()[:2] == b'th' and file.readinto(bytearray(3)) == 3
        assert v.open('key').detach().readall() == b'one\ntwo\nthree' and v.open('key', 'r+b').peek()[:3] == b'one'
        with v.open('key', 'wb').detach() as raw:
            raw.write(b'one\ntwo\nthree')
        with v.open('key', 'r') as file:
            assert file.encoding == 'utf-8' and file.name == 'key' and file.readlines() == ['one\n', 'two\n', 'three']
        for mode in ('rb', 'r+b', 'r'):
            with v.open('key', mode) as file, pytest.raises(io.UnsupportedOperation):
                file.fileno()
        with v.open('key', buffering=0) as raw, pytest.raises(io.UnsupportedOperation):
            raw.write(b'')
        with v.open('key', 'wb', 0) as raw:
            with pytest.raises(io.UnsupportedOperation):
                raw.read()
            with pytest.raises(io.UnsupportedOperation):
                raw.readall()
        for use in (raw.tell, raw.readall, raw.truncate, lambda: raw.write(b''), lambda: raw.seek(0)):
            with pytest.raises(ValueError, match='closed'):
                use()
        with pytest.raises(KeyError):
            v.open('missing')

    def test_a_reader_sees_no_more_than_the_leaves_it_needs(self, v, small_leaves, monkeypatch):
        filled_stream(v, 'key')
        read = []
        get_part = type(v._store).get_part
        monkeypatch.setattr(type(v._store), 'get_part', lambda *args: read.append(args[2]) or get_part(*args))
        with v.open('key', buffering=0) as file:
            file.seek(1024)
            assert file.read(40) == BIG[1024:1064] and file.read(24) == BIG[1064:1088]
            assert len(read) == 4  # three nodes and a leaf


class TestStreamsAreKeptWhole:
    @pytest.mark.parametrize('sql, said', [('UPDATE parts SET data = x\'00\' WHERE rowid = ?', 'damaged'),
                                           ('DELETE FROM parts WHERE rowid = ?', 'missing')])
    def test_a_damaged_or_missing_part_is_named_and_never_read(self, root, small_leaves, sql, said):
        vault = Vault('test')
        filled_stream(vault, ('my', 'key'))
        vault['sound'] = 1
        with contextlib.closing(sqlite3.connect(vault.db_path)) as raw:
            rows = [row for row, in raw.execute('SELECT rowid FROM parts')]
        for row in rows[::9]:
            filled_stream(vault, ('my', 'key'))
            with contextlib.closing(sqlite3.connect(vault.db_path)) as raw:
                raw.execute(sql, ((raw.execute('SELECT min(rowid) FROM parts').fetchone()[0] + row - rows[0]),))
                raw.commit()
            problem, = vault.check()
            assert said in problem and 'key' in problem
            with pytest.raises(vaults.VaultCorruptError, match="'my', 'key'"):
                vault['my', 'key']
            with pytest.raises(vaults.VaultCorruptError, match="'my', 'key'"), vault.open(('my', 'key')) as file:
                file.read()
        vault.close()

    def test_a_value_longer_than_sqlite_takes_in_one_is_written_and_read(self, root, monkeypatch):
        if not hasattr(sqlite3.Connection, 'setlimit'):
            pytest.skip('the limit cannot be set before Python 3.11')
        vault = Vault('test')
        vault._store._local.c.raw.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 400_000)
        data = os.urandom(1_000_000)
        with pytest.raises(vaults.VaultError):
            vault['key'] = data
        filled_stream(vault, 'key', data)
        assert vault['key'] == data and vault.open('key').read() == data
        vault._check()
        vault.close()

    def test_a_killed_writer_leaves_the_old_value_and_compact_what_it_left(self, root, small_leaves, monkeypatch):
        vault = Vault('test')
        filled_stream(vault, 'key', b'old' * 100)
        before = part_count(vault)
        for mode in ('wb', 'r+b', 'ab', 'xb'):
            done = run('''
                import os, pathlib, signal, sys
                from vaults import Vault, streams
                streams.LEAF, streams.SMALL, streams.KEPT = 64, 40, 3
                file = Vault(pathlib.Path(sys.argv[1])).open(sys.argv[2], sys.argv[3], 0)
                for _ in range(100):
                    file.write(b'x' * 64)
                os.kill(os.getpid(), signal.SIGKILL)
            ''', vault.db_path, 'new' if mode == 'xb' else 'key', mode)
            assert done.returncode == -signal.SIGKILL
            assert vault.items() == [('key', b'old' * 100)] and part_count(vault) > before
        vault._check()
        vault.compact()
        assert part_count(vault) > before  # they might be somebody's who still writes
        now = parts.time.time()
        monkeypatch.setattr(parts.time, 'time', lambda: now + 2 * parts.DAY)
        vault.compact()
        assert part_count(vault) == before and vault['key'] == b'old' * 100
        vault.close()

    @pytest.mark.parametrize('mode', ['wb', 'ab', 'r+b', 'w'])
    def test_a_write_that_fails_while_closing_leaves_the_old_value(self, v, small_leaves, monkeypatch, mode):
        filled_stream(v, 'key', b'old' * 100)
        real, calls = v._store.put_parts, []

        def full(*arguments):
            calls.append(1)
            if len(calls) == 2:
                raise vaults.VaultFullError('no room')
            real(*arguments)
        file = v.open('key', mode)
        file.write('x' * 3000 if mode == 'w' else b'x' * 3000)  # which stay in the buffer
        monkeypatch.setattr(v._store, 'put_parts', full, raising=False)
        with pytest.raises(vaults.VaultFullError):
            file.close()
        assert file.closed and len(calls) == 2 and v['key'] == b'old' * 100

    @pytest.mark.parametrize('buffering', [0, -1])
    def test_after_a_write_that_failed_nothing_of_the_file_is_kept(self, v, small_leaves, monkeypatch, buffering):
        def full(*_):
            raise vaults.VaultFullError('no room')
        filled_stream(v, 'key', b'old' * 100)
        for mode in ('wb', 'ab', 'r+b'):
            file = v.open('key', mode, buffering)
            with monkeypatch.context() as patch:
                patch.setattr(v._store, 'put_parts', full, raising=False)
                with pytest.raises(vaults.VaultFullError, match='no room'):
                    file.write(BIG)
                    file.flush()
            with pytest.raises(vaults.VaultFullError, match="nothing of it is kept: key 'key'.*no room"):
                file.write(b'more')
                file.flush()
            with pytest.raises(vaults.VaultFullError, match='open it again'):
                file.close()
            assert file.closed and v['key'] == b'old' * 100
        v._check()

    def test_a_writer_that_was_swept_is_told(self, v, small_leaves, monkeypatch):
        filled_stream(v, 'key')
        opened = [v.open('key', mode) for mode in ('wb', 'r+b', 'ab')]
        for file in opened:
            file.write(BIG)
            file.flush()
        now = parts.time.time()
        with monkeypatch.context() as patch:
            patch.setattr(parts.time, 'time', lambda: now + 2 * parts.DAY)
            v.compact()
        before = part_count(v)
        for file in opened:
            with pytest.raises(vaults.VaultError, match='took more than a day'):
                file.close()
        assert v['key'] == BIG and part_count(v) == before

    def test_two_processes_that_append_lose_nothing(self, root):
        vault = Vault('test')
        code = '''
            import pathlib, sys
            from vaults import Vault, streams
            streams.LEAF, streams.SMALL, streams.KEPT = 64, 40, 3
            vault = Vault(pathlib.Path(sys.argv[1]), timeout=60)
            for number in range(100):
                with vault.open('log', 'a') as file:
                    print(sys.argv[2], number, 'x' * (number % 7 * 60), file=file)
        '''
        children = [threading.Thread(target=lambda name=name: done.append(run(code, vault.db_path, name)))
                    for name in 'ab']
        done = []
        for child in children:
            child.start()
        for child in children:
            child.join()
        assert [child.stderr for child in done] == ['', '']
        lines = vault['log'].decode().splitlines()
        for name in 'ab':
            assert [line.split()[1] for line in lines if line[0] == name] == [str(number) for number in range(100)]
        assert vault.check() == []
        vault.close()

    def test_others_write_between_the_batches_of_a_stream(self, v, small_leaves):
        other = Vault('test', timeout=0)
        with v.open('key', 'wb') as file:
            for number in range(48):
                file.write(BIG[number * 64:number * 64 + 64])
                other['number'] = number
        assert other['key'] == BIG and v['number'] == 47
        other.close()

    def test_memory_stays_flat(self, root):
        done = run('''
            import io, pathlib, resource, shutil, sys
            from vaults import Vault
            vault = Vault(pathlib.Path(sys.argv[1]))
            vault.put_file('warm', io.BytesIO(bytes(3 << 20)))
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            block = bytes(100_000)
            with vault.open('key', 'wb') as file:
                for _ in range(320):
                    file.write(block)
            with vault.open('key', 'r+b') as file:
                file.seek(1_000_000)
                file.write(block)
                file.truncate(64_000_000)
            with vault.open('key') as source, open(sys.argv[2], 'wb') as target:
                shutil.copyfileobj(source, target)
            assert vault.get_file('key', sys.argv[2]) == vault.put_file('other', sys.argv[2]) == 64_000_000
            print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
        ''', root / 'big.db', root / 'file')
        assert done.returncode == 0, done.stderr
        assert int(done.stdout) // (1024 if sys.platform == 'darwin' else 1) < 32_000  # KiB, SQLite's cache among them

    def test_a_write_back_vault_has_them_too(self, root, small_leaves):
        vault = Vault('test', writeback=True)
        vault['key'] = b'assigned'
        assert vault.open('key').read() == b'assigned'
        with vault.open('key', 'ab') as file:
            file.write(BIG)
        assert vault['key'] == b'assigned' + BIG and list(vault.values()) == [b'assigned' + BIG]
        filled_stream(vault, 'key')
        with pytest.raises(ZeroDivisionError), vault:
            filled_stream(vault, 'key', b'new' * 100)
            raise ZeroDivisionError
        assert vault['key'] == BIG and vault.pop('key') == BIG and part_count(vault) == 0
        filled_stream(vault, 'key')
        vault['key'] = 'assigned over it'
        vault.close()
        vault = Vault('test')
        assert vault['key'] == 'assigned over it' and part_count(vault) == 0
        vault.close()

    def test_a_replaced_stream_is_read_as_what_it_is_now(self, v, small_leaves, monkeypatch):
        get_part, store = type(v._store).get_part, v._store
        for now in (b'new' * 100, 'text', None):
            filled_stream(v, 'key')

            def replacing(self, *arguments, now=now):
                monkeypatch.setattr(type(store), 'get_part', get_part)
                filled_stream(v, 'key', now) if isinstance(now, bytes) else v.__setitem__('key', now)
                return get_part(self, *arguments)
            monkeypatch.setattr(type(store), 'get_part', replacing)
            assert v['key'] == now

    def test_a_stream_deleted_during_a_walk_is_not_visited(self, v, small_leaves):
        for key in 'abcd':
            filled_stream(v, key)
        seen = []
        for key, value in v.items():
            seen.append(key)
            assert value == BIG
            if key == 'b':
                del v['c']
        assert seen == ['a', 'b', 'd']


OPEN_MODES = [
    'r', 'w', 'a', 'x', 'rb', 'wb', 'ab', 'xb', 'r+', 'w+', 'a+', 'x+', 'r+b', 'w+b', 'a+b', 'x+b', 'rt', 'br', '+br', 'rb+', '', 'b', 't', '+', 'rw',
    'ra', 'rr', 'r++', 'rbt', 'z', ' r', 'R', 5, None, b'r']
OPTIONS = [
    {}, {'buffering': 0}, {'buffering': 1}, {'buffering': 2}, {'buffering': -5}, {'buffering': 1.5}, {'buffering': None}, {'buffering': 'a'},
    {'encoding': 'utf-8'}, {'encoding': 'latin-1'}, {'encoding': 'no such'}, {'encoding': 5}, {'encoding': ''}, {'errors': 'replace'},
    {'errors': 5}, {'newline': ''}, {'newline': '\n'}, {'newline': '\r\n'}, {'newline': 'x'}, {'newline': 5}, {'newline': '\n\n'},
    {'encoding': 'utf-8', 'errors': 'strict', 'newline': '\r'}, {'buffering': 0, 'encoding': 'utf-8'}]
CALLS = [
    ('read',), ('read', 2), ('read', -1), ('read', None), ('read', -7), ('read', 1.5), ('read', 'a'), ('read', 0), ('readline',), ('readline', 2),
    ('readline', None), ('readline', -1), ('readlines',), ('readlines', None), ('readlines', 3), ('write', b'x'), ('write', 'x'), ('write', 5),
    ('write', None), ('write', bytearray(b'ab')), ('write', memoryview(b'abcd')[::2]), ('write', array.array('H', [1, 2])), ('writelines', [b'a', b'b']),
    ('writelines', ['a', 'b']), ('writelines', 5), ('seek', 1), ('seek', -1), ('seek', 0, 2), ('seek', 0, 1), ('seek', 0, 9), ('seek', 1.5), ('seek', None),
    ('seek', 1, 'a'), ('tell',), ('truncate',), ('truncate', 2), ('truncate', -1), ('truncate', None), ('truncate', 9), ('flush',),
    ('readable',), ('writable',), ('seekable',), ('isatty',), ('__iter__',), ('__next__',), ('readinto', bytearray(3)), ('readinto', b'abc'),
    ('readinto', array.array('H', [0, 0])), ('readinto', memoryview(bytearray(6))[::2]), ('readinto', 5), ('readinto', bytearray()), ('readall',), ('close',),
    ('__enter__',), ('read1', 2), ('read1',), ('readinto1', bytearray(3)), ('getvalue',)]


def answer_of(function, *arguments, **options):
    """Return what a call returns, in a form to be compared, or the kind of what it raises, and what it warns of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        try:
            answer = function(*arguments, **options)
        except Exception as error:
            return next(cls.__name__ for cls in (io.UnsupportedOperation, LookupError, TypeError, ValueError, OSError, AttributeError, Exception)
                        if isinstance(error, cls))
    if not isinstance(answer, (str, bytes, int, list, type(None))):
        answer = 'another object'
    return answer, [(one.category.__name__, os.path.basename(one.filename)) for one in caught if one.category is RuntimeWarning]


class TestStreamsAreAsOpenMakesThem:
    """Every mode and option of builtin `open`, and every method, also on a file that is closed: the same or the same error."""

    @pytest.mark.parametrize('mode', OPEN_MODES, ids=str)
    def test_opening(self, tmp_path, mode):
        for options in OPTIONS:
            (tmp_path / 'file').write_bytes(b'one\r\ntwo\nthree')
            with Vault(':memory:') as v:
                if isinstance(mode, str) and 'x' in mode:
                    (tmp_path / 'file').unlink()
                else:
                    v['key'] = b'one\r\ntwo\nthree'
                with contextlib.ExitStack() as opened:
                    def opens(opener, place, options=options, opened=opened):
                        return opened.enter_context(opener(place, mode, **options))
                    assert answer_of(opens, v.open, 'key') == answer_of(opens, open, tmp_path / 'file'), options

    @pytest.mark.parametrize('mode, options', [
        ('rb', {'buffering': 0}), ('wb', {'buffering': 0}), ('ab', {'buffering': 0}), ('r+b', {'buffering': 0}), ('w+b', {'buffering': 0}),
        ('rb', {}), ('wb', {}), ('ab', {}), ('r+b', {}), ('a+b', {}), ('r', {}), ('w', {}), ('a', {}), ('r+', {}), ('w+', {}), ('r', {'newline': ''}),
        ('w', {'newline': '\r\n'})], ids=str)
    def test_a_call(self, tmp_path, mode, options):
        options = {**options, **({} if 'b' in mode else {'encoding': 'utf-8'})}
        with Vault(':memory:') as v:
            for (name, *arguments), closed in itertools.product(CALLS, [False, True]):
                v['key'] = b'one\r\ntwo\nthree'
                (tmp_path / 'file').write_bytes(v['key'])
                answers = []
                for file in (v.open('key', mode, **options), open(tmp_path / 'file', mode, **options)):  # noqa: SIM115
                    if closed:
                        file.close()
                    given = copy.deepcopy(arguments) if 'readinto' in name and not isinstance(arguments[0], memoryview) else arguments
                    answers.append([answer_of(lambda file=file, given=given, name=name: getattr(file, name)(*given)), given])
                    if name not in ('close', '__next__') and not closed:
                        answers[-1].append(answer_of(file.tell))
                    answers[-1].append(file.closed)
                    file.close()
                if name == 'readall':  # builtin: a bare OSError
                    answers[0][0] = 'OSError' if answers[0][0] == 'UnsupportedOperation' else answers[0][0]
                assert answers[0] == answers[1], (name, arguments, closed)
                assert v['key'] == (tmp_path / 'file').read_bytes(), (name, arguments, closed)

    def test_a_file_that_was_left_is_closed(self, v):
        v['key'] = b'text'
        for options in ({'buffering': 0}, {}, {'mode': 'r'}, {'mode': 'r+b'}):
            with v.open('key', **options) as file:
                pass
            for use in (file.__enter__, file.read, file.readable, file.seekable, file.tell, file.flush, file.fileno, file.isatty,
                        lambda file=file: file.seek(0), lambda file=file: next(file), file.truncate):
                with pytest.raises(ValueError):
                    use()
        for mode in ('rb', 'wb', 'ab', 'r+b'):
            file = v.open('key', mode, buffering=0)
            file.close()
            for use in (file.readable, file.writable, file.seekable, file.fileno):
                with pytest.raises(ValueError) as caught:
                    use()
                assert caught.type is ValueError
        with pytest.raises(io.UnsupportedOperation):
            v.open('key').fileno()

    def test_a_buffer_with_gaps_is_refused_and_loses_nothing(self, v):
        with v.open('key', 'wb', buffering=0) as file:
            file.write(b'before')
            with pytest.raises(BufferError):
                file.write(memoryview(b'abcd')[::2])
            file.write(memoryview(array.array('H', [1, 2])))
            assert file.write(array.array('H')) == 0
        assert v['key'] == b'before' + array.array('H', [1, 2]).tobytes()

    def test_a_warning_names_the_line_that_opened_with_line_buffering(self, v):
        for mode in ('wb', 'rb', 'r+b', 'ab'):
            with pytest.warns(RuntimeWarning, match='binary mode') as caught, v.open('key', mode, buffering=1) as file:
                assert caught[0].filename == __file__ and file.readable() == (mode[0] == 'r')
                file.write(b'x' * 10) if file.writable() else file.read()
        assert v['key'] == b'x' * 20


def holes(vault, key):
    """Return the holes of a stream, each its beginning and end."""
    head = parts.Head.of(vault._store.get(key))
    return [(start, stop) for number, start, stop in parts.Tree(vault._store, head).leaves(0, head.inside) if not number]


class TestHoles:
    """What was not written between two positions of a stream takes no place."""

    FAR = 10 << 30

    def test_a_far_seek_leaves_a_hole_that_costs_nothing(self, v):
        with v.open('key', 'wb') as file:
            file.write(b'begin')
            assert file.seek(self.FAR) == self.FAR
            file.write(b'end')
        assert part_count(v) == 3 and os.path.getsize(v.db_path) < 2 << 20  # two leaves and a node
        with v.open('key', 'r+b') as file:
            assert file.read(6) == b'begin\0' and file.seek(-4, 2) == self.FAR - 1 and file.read() == b'\0end'
            file.seek(self.FAR // 2)
            assert file.read(1 << 20) == bytes(1 << 20)
            file.seek(self.FAR // 2 + 5)
            file.write(b'middle')
        with v.open('key') as file:
            file.seek(self.FAR // 2)
            assert file.read(12) == b'\0\0\0\0\0middle\0' and part_count(v) == 4
        with v.open('key', 'r+b') as file:
            file.truncate(self.FAR // 2 + 6)
        with v.open('key') as file:
            assert file.seek(0, 2) == self.FAR // 2 + 6 and file.seek(-2, 2) and file.read() == b'\0m'
        assert v.check() == []
        del v['key']
        assert part_count(v) == 0

    def test_a_file_that_is_written_from_it_has_the_hole(self, v, tmp_path):
        with v.open('key', 'wb') as file:
            file.write(b'begin')
            file.seek(1 << 28)
            file.write(b'end')
            file.truncate((1 << 28) + 999_999)
        for _ in range(2):  # the second one replaces the first
            assert v.get_file('key', tmp_path / 'file') == (1 << 28) + 999_999
            found = (tmp_path / 'file').stat()
            assert found.st_size == (1 << 28) + 999_999
            assert not LINUX or found.st_blocks * 512 < 4 << 20
        with open(tmp_path / 'file', 'rb') as file, v.open('key') as stream:
            assert all(mine == theirs for mine, theirs in itertools.zip_longest(
                iter(lambda: file.read(1 << 20), b''), iter(lambda: stream.read(1 << 20), b'')))
        v.put_file('again', tmp_path / 'file')
        assert part_count(v) < 8

    @pytest.mark.parametrize('buffering', [0, -1])
    def test_a_file_that_is_only_made_longer_is_a_hole(self, v, buffering):
        with v.open('key', 'wb', buffering) as file:
            assert file.truncate(self.FAR + 1) == self.FAR + 1
        assert part_count(v) == 1 and holes(v, 'key') == [(0, self.FAR + 1)]
        with v.open('key', 'ab', buffering) as file:
            file.write(b'end')
        with v.open('key', 'rb', buffering) as file:
            assert file.seek(self.FAR) and file.read() == b'\0end' and part_count(v) <= 2
        with v.open('key', 'r+b', buffering) as file:
            file.truncate(7)
        assert v['key'] == bytes(7) and part_count(v) == 0

    def test_a_hole_is_read_in_flat_memory(self, root):
        assert int(output('''
            import pathlib, resource, sys
            from vaults import Vault
            vault = Vault(pathlib.Path(sys.argv[1]))
            with vault.open('key', 'wb') as file:
                file.seek(1 << 29)
                file.write(b'x')
            before, seen = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, 0
            with vault.open('key') as file:
                for piece in iter(lambda: file.read(1 << 18), b''):
                    seen += len(piece) - piece.count(0)
            assert seen == 1 and vault.check() == []
            print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
        ''', root / 'big.db')) // (1024 if sys.platform == 'darwin' else 1) < 8_000  # KiB

    @given(edits=st.lists(st.tuples(st.sampled_from(['write', 'cut', 'zeros']), st.integers(0, 20_000), st.integers(0, 200)), max_size=12),
           sessions=st.integers(1, 3), size=st.sampled_from([0, 30, 100, 3000]), first=st.sampled_from(['whole', 'stream']))
    def test_it_reads_as_if_zeros_had_been_written(self, small_leaves, edits, sessions, size, first):
        with Vault(':memory:') as vault:
            vault['key'] = BIG[:size]
            if first == 'stream':
                filled_stream(vault, 'key', BIG[:size])
            expected = bytearray(BIG[:size])
            for session in range(sessions):
                with vault.open('key', 'r+b', buffering=0) as file:
                    for what, at, length in edits[session::sessions]:
                        if what == 'cut':
                            file.truncate(at)
                            expected = expected[:at].ljust(at, b'\0')
                        elif length:
                            data = bytes(length) if what == 'zeros' else b'x' * length
                            file.seek(at)
                            file.write(data)
                            expected = expected.ljust(at, b'\0')
                            expected[at:at + length] = data
                        file.seek(at // 2)
                        assert file.read(300) == expected[at // 2:at // 2 + 300]
                    file.seek(0)
                    assert file.read() == expected
                assert vault['key'] == expected and vault.check() == []
                head = parts.Head.of(vault._store.get('key')) if parts.is_head(vault._store.get('key')) else None
                if head:
                    assert sorted(vault._store.part_numbers(head.owner)) == sorted(parts.Tree(vault._store, head).numbers())

    def test_whole_leaves_of_zeros_become_holes(self, v, small_leaves):
        v.put_file('key', io.BytesIO(BIG[:64] + bytes(640) + BIG[:70]))
        assert holes(v, 'key') == [(64, 704)] and v['key'] == BIG[:64] + bytes(640) + BIG[:70]

    def test_two_who_append_leave_both_holes(self, v, small_leaves):
        one, two = v.open('key', 'ab', 0), v.open('key', 'ab', 0)
        for file, mark in ((one, b'1'), (two, b'2')):
            file.write(mark)
            file.truncate(100_000)
            file.write(mark)
            file.truncate(200_000)
            file.close()
        half = lambda mark: mark + bytes(99_999) + mark + bytes(99_999)
        assert v['key'] == half(b'1') + half(b'2') and len(holes(v, 'key')) >= 4 and part_count(v) < 20
        v._check()

    def test_copies_keep_holes(self, v, root, small_leaves):
        with v.open('key', 'wb') as file:
            file.write(b'begin')
            file.seek(100_000)
            file.write(b'end')
        v.backup(root / 'backup.db')
        v.backup(root / 'bad.db')
        with Vault('imported') as other, Vault(root / 'backup.db') as backup:
            moving.import_file(other, v.db_path)
            recovery.recover(root / 'bad.db', root / 'saved.db')
            with Vault(root / 'saved.db') as saved:
                for copy in (other, backup, saved):
                    assert copy['key'] == v['key'] and holes(copy, 'key') == holes(v, 'key') != []
                    copy._check()
        moving.export(v, root / 'out.jsonl')
        with Vault('again') as again:
            moving.import_file(again, root / 'out.jsonl')
            assert again['key'] == v['key'] and part_count(again) < 20

    def test_what_is_mostly_hole_is_not_loaded_whole(self, v, monkeypatch):
        with v.open('key', 'wb') as file:
            file.truncate(1 << 50 >> 11)
        for read in (lambda: v['key'], v.copy, lambda: v.values()[0], lambda: v.pop('key')):
            with pytest.raises(vaults.VaultError, match=r"a hole, too large to be loaded: read it with open\(\) \(key 'key'"):
                read()
        monkeypatch.setattr(streams, 'HOLLOW', 100)
        with v.open('key', 'r+b') as file:
            file.truncate(100)
        assert v['key'] == bytes(100)

    def test_a_hole_is_a_pair_without_a_part(self, v):
        with v.open('key', 'wb') as file:
            file.seek(3 << 18)
            file.write(b'x')
        head = parts.Head.of(v._store.get('key'))
        assert struct.unpack('<4Q', v._store.get_part(head.owner, head.root)) == (0, 3 << 18, min(v._store.part_numbers(head.owner)), 1)
        with pytest.raises(parts.Gone):  # which whoever knows no holes reports
            parts.Tree(v._store, head).part(0)

    @pytest.mark.parametrize('code, meta', [(21, None), (22, 'int8')])
    def test_lists_and_columns_have_no_holes(self, code, meta):
        pair = a_node((0, 9))
        with contextlib.closing(planted(code, meta, 9, 0, 9, 9, 1, 1, b'', parts=[pair])) as v:
            for read in (lambda: v['k'][0], lambda: v['k'][:], lambda: list(v['k']), lambda: v['k'].pop()):
                with pytest.raises(vaults.VaultCorruptError):
                    read()
            assert v.check() != []
            with pytest.raises(vaults.VaultCorruptError):
                list(moving.peers.runs(v._store, parts.Head.of(v._store.get('k'))))

    def test_a_hole_made_to_be_walked_for_years_is_refused(self):
        size = 1 << 60
        with contextlib.closing(planted(20, None, size, 0, size, 9, 1, 1, b'', parts=[a_node((0, size))])) as v:
            with pytest.raises(vaults.VaultError):
                v['k']
            assert v.check() == []
            with pytest.raises(vaults.VaultCorruptError):
                moving.export(v, io.StringIO())
            with v.open('k', 'rb') as file:
                file.seek(-5, 2)
                assert file.read() == bytes(5)


class TestWholeFiles:
    @pytest.mark.parametrize('size', [0, 10, 40, 41, 64, 3000])
    def test_a_file_goes_in_and_comes_out(self, v, small_leaves, tmp_path, size):
        source, target = tmp_path / 'source', tmp_path / 'target'
        source.write_bytes(BIG[:size])
        target.write_bytes(b'old')
        for path in (str, os.fsencode, pathlib.Path):
            assert v.put_file('key', path(source)) == size and v['key'] == BIG[:size]
            assert v.get_file('key', path(target)) == size and filecmp.cmp(source, target, shallow=False)
            target.unlink()
        for file in (io.BytesIO(BIG[:size]), Drip(BIG[:size])):
            assert v.put_file('key', file) == size and v['key'] == BIG[:size]
        out, drip = io.BytesIO(), Drip(b'')
        assert v.get_file('key', out) == v.get_file('key', drip) == size
        assert out.getvalue() == drip.data == BIG[:size]
        assert sorted(path.name for path in tmp_path.iterdir()) == ['source', 'vaults']

    def test_they_tell_how_far_they_are(self, v, small_leaves, tmp_path):
        (tmp_path / 'source').write_bytes(BIG[:150])
        begun = io.BytesIO(BIG[:150])
        begun.seek(20)
        calls = []
        v.put_file('key', tmp_path / 'source', lambda *call: calls.append(call))
        v.get_file('key', tmp_path / 'target', progress=lambda *call: calls.append(call))
        v.put_file('key', begun, lambda *call: calls.append(call))
        v.put_file('key', Drip(BIG[:100]), lambda *call: calls.append(call))
        assert calls == [*[(64, 150), (128, 150), (150, 150)] * 2, (64, 130), (128, 130), (130, 130),
                         *((done, None) for done in range(7, 99, 7)), (100, None)]

    def test_get_file_takes_any_bytes_and_text(self, v, small_leaves):
        v.update({'bytes': BIG, 'array': bytearray(b'abc'), 'text': 'é'})
        for key, data in (('bytes', BIG), ('array', b'abc'), ('text', 'é'.encode())):
            out = io.BytesIO()
            assert v.get_file(key, out) == len(data) and out.getvalue() == data

    def test_a_failure_leaves_what_was_there(self, v, small_leaves, tmp_path):
        filled_stream(v, 'key')
        before = part_count(v)
        target = tmp_path / 'target'
        target.write_bytes(b'old')

        def fail(done, total):
            if done > 1000:
                raise ZeroDivisionError
        with pytest.raises(ZeroDivisionError):
            v.get_file('key', target, fail)
        with pytest.raises(ZeroDivisionError):
            v.put_file('key', io.BytesIO(BIG * 2), fail)
        for missing in (FileNotFoundError, IsADirectoryError):
            with pytest.raises(missing):
                v.put_file('key', tmp_path / 'nothing' if missing is FileNotFoundError else tmp_path)
        with pytest.raises(KeyError):
            v.get_file('missing', target)
        with pytest.raises(KeyError):
            v.get_file('missing', tmp_path / 'new')
        assert target.read_bytes() == b'old' and v['key'] == BIG and part_count(v) == before
        assert sorted(path.name for path in tmp_path.iterdir()) == ['target', 'vaults']

    def test_text_files_are_refused(self, v):
        v['key'] = b'old'
        with pytest.raises(TypeError, match='takes a binary file'):
            v.put_file('key', io.StringIO('text'))
        with pytest.raises(TypeError, match='takes a binary file'):
            v.get_file('key', io.StringIO())
        assert v['key'] == b'old'

    @pytest.mark.skipif(not hasattr(os, 'mkfifo'), reason='no pipes with names here')
    def test_a_pipe_is_written_and_not_replaced(self, v, small_leaves, tmp_path):
        filled_stream(v, 'key')
        os.mkfifo(tmp_path / 'pipe')
        read = []
        reader = threading.Thread(target=lambda: read.append((tmp_path / 'pipe').read_bytes()), daemon=True)
        reader.start()
        assert v.get_file('key', tmp_path / 'pipe') == len(BIG) and (tmp_path / 'pipe').is_fifo()
        reader.join(10)
        assert read == [BIG]

    def test_a_link_stays_a_link(self, v, tmp_path):
        if not hasattr(os, 'symlink'):
            pytest.skip('no links here')
        (tmp_path / 'file').write_bytes(b'old')
        (tmp_path / 'link').symlink_to(tmp_path / 'file')
        v['key'] = b'new'
        v.get_file('key', tmp_path / 'link')
        assert (tmp_path / 'link').is_symlink() and (tmp_path / 'file').read_bytes() == b'new'


class Drip:
    """A file object with nothing but read and write, seven bytes at a time."""

    def __init__(self, data):
        self.data = data

    def read(self, size):
        piece, self.data = self.data[:7], self.data[7:]
        return piece

    def write(self, data):
        self.data += data[:7]
        return min(len(data), 7)


class TestWholeFilesAtOdds:
    """What goes wrong with the file that a value is written to leaves everything as it was."""

    def test_two_that_write_one_path_write_it_whole(self, v, tmp_path):
        size = 3 * streams.LEAF
        v.put_file('a', io.BytesIO(b'a' * size))
        v.put_file('b', io.BytesIO(b'b' * size))
        out, seen, stop = tmp_path / 'out', set(), threading.Event()
        v.get_file('a', out)

        def look():
            while not stop.is_set():
                data = out.read_bytes()
                seen.add((len(data), len(set(data))))
        threads = [threading.Thread(target=lambda key=key: [v.get_file(key, out) for _ in range(10)]) for key in 'ab']
        looker = threading.Thread(target=look)
        [thread.start() for thread in (looker, *threads)]
        [thread.join() for thread in threads]
        stop.set()
        looker.join()
        assert seen <= {(size, 1)} and os.listdir(tmp_path) in (['out', 'vaults'], ['vaults', 'out'])

    def test_the_mode_of_the_file_stays(self, v, tmp_path):
        out = tmp_path / 'out'
        out.write_text('old')
        out.chmod(0o600)
        v['a'] = b'new'
        v.get_file('a', out)
        assert out.read_bytes() == b'new' and out.stat().st_mode & 0o777 == 0o600

    def test_the_vaults_own_file_is_refused(self, v):
        v['a'] = b'x'
        for ending in ('', '-wal', '-shm'):
            with pytest.raises(vaults.VaultError, match='own file'):
                v.get_file('a', v.db_path + ending)
        assert v['a'] == b'x'

    @needs_fork
    def test_a_pipe_that_takes_no_more_is_an_error(self, v):
        v.put_file('a', io.BytesIO(b'x' * 3_000_000))
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        with open(writer, 'wb', buffering=0) as file, pytest.raises(BlockingIOError, match='no more'):
            v.get_file('a', file)
        os.close(reader)

    def test_what_is_no_file_is_named(self, v):
        for wrong in (5, None, [b'data']):
            with pytest.raises(TypeError, match='takes a path or an open binary file'):
                v.put_file('a', wrong)
        for wrong in (b'data', b'', bytearray(b'data'), memoryview(b'data'), array.array('b', [1]), b'\0', b'x' * 10_000):
            for to in (v, v.section('s'), Vault(':memory:')):
                with pytest.raises(TypeError, match=r"v\[key\] = "):
                    to.put_file('a', wrong)
        assert 'a' not in v

    def test_positions_are_whole_and_not_out_of_reach(self, v):
        with v.open('a', 'wb', buffering=0) as file:
            for act in (lambda: file.seek(1 << 62), lambda: file.truncate(1 << 62), lambda: file.seek(1 << 80)):
                with pytest.raises(OSError, match='too far'):
                    act()
            with pytest.raises(TypeError):
                file.seek(1.5)
            file.write(b'x')
        assert v['a'] == b'x'


class TestToolsThatTakeFiles:
    def test_shutil_copies_both_ways(self, v, small_leaves):
        with v.open('key', 'wb') as file:
            shutil.copyfileobj(io.BytesIO(BIG), file, 100)
        with v.open('key') as file, v.open('copy', 'wb') as copy:
            shutil.copyfileobj(file, copy, 100)
        assert v['key'] == v['copy'] == BIG

    def test_zipfile_writes_reads_and_appends(self, v, small_leaves):
        with v.open('zip', 'wb') as file, zipfile.ZipFile(file, 'w', zipfile.ZIP_DEFLATED) as archive:
            archive.writestr('one', BIG)
            archive.writestr('two', b'2')
        with v.open('zip', 'r+b') as file, zipfile.ZipFile(file, 'a') as archive:
            archive.writestr('three', BIG[::-1])
        with v.open('zip') as file, zipfile.ZipFile(file) as archive:
            assert archive.testzip() is None and archive.namelist() == ['one', 'two', 'three']
            assert archive.read('one') == BIG and archive.read('three') == BIG[::-1]

    @pytest.mark.parametrize('kind', ['', ':gz', '|', '|gz', ':xz'])
    def test_tarfile_writes_and_reads(self, v, small_leaves, kind):
        with v.open('tar', 'wb') as file, tarfile.open(fileobj=file, mode='w' + kind) as archive:
            member = tarfile.TarInfo('member')
            member.size = len(BIG)
            archive.addfile(member, io.BytesIO(BIG))
        with v.open('tar') as file, tarfile.open(fileobj=file, mode='r' + (kind or ':*')) as archive:
            for member in archive:
                assert (member.name, archive.extractfile(member).read()) == ('member', BIG)

    def test_json_csv_pickle_and_gzip(self, v, small_leaves):
        value = {'list': list(range(100)), 'text': 'é€'}
        with v.open('json', 'w') as file:
            json.dump(value, file, ensure_ascii=False)
        with v.open('json', 'r') as file:
            assert json.load(file) == value
        with v.open('json') as file:
            assert json.load(file) == value
        rows = [['a', 'b\nc'], ['é', '"']] * 20
        with v.open('csv', 'w', newline='') as file:
            csv.writer(file).writerows(rows)
        with v.open('csv', 'r', newline='') as file:
            assert list(csv.reader(file)) == rows
        with v.open('pickle', 'wb') as file:
            pickle.dump(value, file)
            pickle.dump(BIG, file)
        with v.open('pickle') as file:
            assert pickle.load(file) == value and pickle.load(file) == BIG
        with v.open('gzip', 'wb') as file, gzip.open(file, 'wt') as text:
            text.write('line\n' * 1000)
        with v.open('gzip') as file, gzip.open(file, 'rt') as text:
            assert text.read() == 'line\n' * 1000

    def test_a_tool_that_fails_leaves_what_was_there(self, v, small_leaves):
        filled_stream(v, 'zip')
        with pytest.raises(ZeroDivisionError), v.open('zip', 'wb') as file, zipfile.ZipFile(file, 'w') as archive:
            archive.writestr('one', BIG)
            raise ZeroDivisionError
        with pytest.raises(TypeError), v.open('zip', 'w') as file:
            json.dump([1, 2, object()], file)
        assert v['zip'] == BIG

    def test_pillow_opens_and_saves(self, v):
        Image = pytest.importorskip('PIL.Image')
        image = Image.effect_noise((300, 200), 50)
        for name in ('photo.png', 'photo.tiff'):
            with v.open(name, 'w+b') as file:
                image.save(file)
            with v.open(name) as file, Image.open(file) as loaded:
                assert loaded.tobytes() == image.tobytes()

    def test_numpy_saves_and_loads(self, v):
        numpy = pytest.importorskip('numpy')
        data = numpy.arange(100_000).reshape(100, 1000)
        with v.open('npy', 'wb') as file:
            numpy.save(file, data)
        with v.open('npz', 'wb') as file:
            numpy.savez(file, data=data)
        with v.open('npy') as file, v.open('npz') as several:
            assert (numpy.load(file) == data).all() and (numpy.load(several)['data'] == data).all()


class TestShelf:
    """`import vaults as shelve` is the whole migration."""

    def test_open_has_the_signature_of_shelve_open(self):
        import inspect
        import shelve
        theirs, ours = (inspect.signature(function).parameters.values() for function in (shelve.open, vaults.open))
        theirs = [(one.name, one.kind, one.default) for one in theirs]
        if sys.version_info < (3, 15):  # from which on it has these two
            theirs += [(name, inspect.Parameter.KEYWORD_ONLY, None) for name in ('serializer', 'deserializer')]
        assert [(one.name, one.kind, one.default) for one in ours] == theirs

    def test_cpythons_own_tests_pass_but_for_shelves_internals(self, root):
        pytest.importorskip('test.test_shelve', reason='this Python comes without its tests')
        ran, failed = json.loads(output(CPYTHONS_TESTS, root).splitlines()[-1])
        assert sorted(failed) == sorted(OF_SHELVE_ALONE) and ran > 80

    def test_a_program_for_shelve_runs_unchanged(self, root):
        program = '''
            import sys
            import {} as shelve
            with shelve.open(sys.argv[1]) as db:
                db['name'] = 'Ann'
                db['tags'] = ['a']
                db['tags'].append('lost')
                temp = db['tags']
                temp.append('b')
                db['tags'] = temp
                del db['name']
            with shelve.open(sys.argv[1], writeback=True) as db:
                db['tags'].append('c')
                db.setdefault('seen', set()).add(1)
            db = shelve.open(sys.argv[1], 'r')
            print(sorted(db.items()), len(db), 'tags' in db, sorted(db), 'name' in db, db.get('none', 5))
            db.close()
            try:
                db['tags']
            except ValueError:
                print('closed')'''
        assert output(program.format('vaults'), root / 'ours') == output(program.format('shelve'), root / 'theirs')

    def test_the_file_is_exactly_the_path(self, root):
        for name in (str(root / 'data'), os.fsencode(root / 'data.x'), root / 'data.db', FakePath(str(root / 'with.dots.db'))):
            with vaults.open(name) as shelf:
                shelf['k'] = 1
            assert vaults.Shelf(name)['k'] == 1
        assert {path.name for path in root.iterdir()} >= {'data', 'data.x', 'data.db', 'with.dots.db'}
        assert isinstance(shelf, Vault) and type(shelf) is vaults.Shelf and shelf.db_path == str(root / 'with.dots.db')

    def test_each_write_is_durable_on_return(self, root):
        run('''
            import os, sys, vaults
            shelf = vaults.open(sys.argv[1])
            shelf['a'] = 1
            with shelf:
                shelf['b'] = 2
                os._exit(9)''', root / 's.db')
        assert vaults.open(root / 's.db').items() == [('a', 1), ('b', 2)]

    def test_with_closes_at_the_end_and_keeps_what_was_written(self, root):
        with pytest.raises(ZeroDivisionError), vaults.open(root / 's.db') as shelf:
            shelf['a'] = 1
            1 / 0
        with pytest.raises(ValueError):
            shelf['a']
        with vaults.open(root / 's.db') as shelf:
            with pytest.raises(ZeroDivisionError), shelf.transaction():
                shelf['b'] = 1
                1 / 0
            assert shelf.items() == [('a', 1)]

    def test_writeback_is_that_of_a_vault_and_with_writes_it(self, root):
        with vaults.open(root / 's.db', writeback=True) as shelf:
            shelf['a'] = [1]
            shelf['a'].append(2)
            shelf.sync()
            shelf['a'].append(3)
            assert isinstance(shelf, vaults.Shelf)
        assert vaults.open(root / 's.db')['a'] == [1, 2, 3]
        with pytest.raises(vaults.SerializationError, match="'bad'"), vaults.open(root / 's.db', writeback=True) as shelf:
            shelf['bad'] = lambda: 0
            shelf['good'] = [1]
        assert vaults.open(root / 's.db').items() == [('a', [1, 2, 3]), ('good', [1])]
        del shelf['bad']

    @pytest.mark.parametrize('protocol', [None, 0, 1, 2, 3, 4, 5, -1])
    def test_any_protocol_is_taken_and_order_and_keys_are_those_of_a_dict(self, root, protocol):
        entries = {'b': 1, 'a': (1, {2}), 3: None, ('t', 1): b'x'}
        with vaults.open(str(root / 's'), 'n', protocol) as shelf:
            shelf.update(entries)
            assert shelf == entries and list(shelf) == list(entries)

    def test_flags_are_those_of_dbm(self, root):
        path = root / 's.db'
        for flag in 'rw':
            with pytest.raises(FileNotFoundError):
                vaults.open(path, flag)
        with vaults.open(path, 'c') as shelf:
            shelf['a'] = 1
        with vaults.open(path, 'r') as shelf, pytest.raises(PermissionError):
            shelf['a'] = 2
        with vaults.open(path, 'w') as shelf:
            shelf['a'] = 3
        with vaults.open(path, 'n') as shelf:
            assert shelf.items() == []
        with pytest.raises(vaults.VaultError, match='flag'):
            vaults.open(path, 'x')

    def test_it_takes_shelves_serializer_and_deserializer(self, root):
        def dump(obj, protocol):
            asked.append(protocol)
            return forms[0](json.dumps(obj))

        def load(data):
            assert type(data) is bytes
            return json.loads(data)
        asked, path = [], root / 's.db'
        forms = [str.encode, str, lambda text: bytearray(text.encode()), lambda text: memoryview(text.encode())]
        while forms:
            with vaults.open(path, 'n', serializer=dump, deserializer=load) as shelf:
                shelf['a'] = (1, {'b': None})
                assert shelf['a'] == [1, {'b': None}] and asked[-1] == pickle.DEFAULT_PROTOCOL
            with vaults.Shelf(path, 'c', 2, True, serializer=dump, deserializer=load) as shelf:
                shelf['a'].append(5)
                shelf['b'] = 1
            assert asked[-1] == 2
            with vaults.open(path, serializer=dump, deserializer=load) as shelf:
                assert shelf.items() == [('a', [1, {'b': None}, 5]), ('b', 1)] and shelf.check() == []
            forms.pop(0)
        with pytest.raises(vaults.VaultFormatError, match="'shelve'"):
            vaults.open(path)
        with vaults.open(root / 'pickled', serializer=pickle.dumps, deserializer=pickle.loads) as shelf:
            shelf['a'] = {1}
            other = pickle.loads(pickle.dumps(shelf))
            assert other['a'] == {1} and type(other) is vaults.Shelf
            other.close()
        with vaults.open(root / 'module', serializer=json) as shelf:
            shelf['a'] = 1
        with vaults.Shelf(root / 'none', serializer=lambda obj, protocol: None, deserializer=load) as shelf, \
                pytest.raises(TypeError, match='NoneType'):
            shelf['a'] = 1

    def test_a_serializer_and_a_deserializer_go_together(self, root):
        for options in ({'serializer': pickle.dumps}, {'deserializer': pickle.loads}, {'serializer': 5, 'deserializer': 5},
                        {'serializer': json, 'deserializer': json.loads}):
            for opened in (vaults.open, vaults.Shelf):
                with pytest.raises(TypeError, match='go together') as caught:
                    opened(root / 's.db', **options)
                assert isinstance(caught.value, vaults.VaultError)
        assert not (root / 's.db').exists()

    def test_it_can_be_pickled_and_lives_in_memory_too(self, root):
        with vaults.open(root / 's.db', writeback=True) as shelf:
            shelf['a'] = [1]
            with pickle.loads(pickle.dumps(shelf)) as again:
                assert again['a'] == [1] and isinstance(again, vaults.Shelf)
                again['a'].append(2)
        assert vaults.open(root / 's.db')['a'] == [1, 2]
        with vaults.open(':memory:') as shelf:
            shelf['a'] = 1
        assert not (root / ':memory:').exists()

    @pytest.mark.parametrize('name', ['shelve-dumb', 'dbm-dumb', 'shelve-gnu', 'dbm-gnu', 'shelve-sqlite3', 'dbm-sqlite3',
                                      'shelve-ndbm', 'dbm-ndbm'])
    def test_an_older_file_is_named_with_the_command_that_moves_it(self, root, name):
        for file in TESTDATA.glob(f'{name}*'):
            if not file.name.startswith('shelve-dumb-p'):
                shutil.copy(file, root)
        if lacks(name):
            pytest.skip(f'this Python has no {lacks(name)}')
        before = seen(root)
        for flag in 'crw':
            with pytest.raises(vaults.VaultFormatError, match=f'{name.split("-")[0]} file') as caught:
                vaults.open(str(root / name), flag)
        assert seen(root) == before
        command = re.search('`vaults (.*)`', str(caught.value)).group(1)
        done = subprocess.run([sys.executable, '-m', 'vaults', *shlex.split(command)], env={**os.environ, 'PYTHONPATH': str(HERE)},
                              capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        with vaults.open(str(caught.value).split()[-1], 'r') as shelf:
            assert shelf == EXPECTED[name]

    def test_a_new_shelf_beside_an_older_file_is_made_when_asked_for(self, root):
        for ending in ('.dat', '.dir'):
            shutil.copy(TESTDATA / f'shelve-dumb{ending}', root / f's{ending}')
        with vaults.open(str(root / 's'), 'n') as shelf:
            shelf['a'] = 1
        with vaults.open(str(root / 's')) as shelf:
            assert shelf.items() == [('a', 1)]

    @pytest.mark.parametrize('name', ['vaults-earlier.sqlite', 'sqlitedict-unnamed.sqlite', 'litedict-words.sqlite', 'csv-pairs.csv'])
    @pytest.mark.parametrize('opened', [Vault, vaults.open])
    def test_any_older_file_is_named_with_the_command_that_moves_it(self, root, name, opened):
        path = pathlib.Path(shutil.copy(TESTDATA / name, root))
        before = seen(root)
        with pytest.raises(vaults.VaultFormatError, match=f'an? {moving.recognise(path)} file: move it with .vaults import') as caught:
            opened(path)
        assert seen(root) == before and str(caught.value).endswith('.vault.db')
        with sqlite3.connect(str(root / 'other.db')) as other:
            other.execute('CREATE TABLE t(a)')
        other.close()
        with pytest.raises(vaults.VaultFormatError, match='another name or path$'):
            opened(root / 'other.db')

    @pytest.mark.parametrize('kind', sorted(moving.peers.READERS))
    def test_every_kind_has_its_article(self, kind, root, monkeypatch):
        monkeypatch.setattr(moving, 'recognise', lambda path: kind)
        article = 'an' if kind[0] in 'aeio' else 'a'
        assert moving.cure(str(root / 'x')) == '' if kind == 'vault' else f' {article} {kind} ' in moving.cure(str(root / 'x'))

    def test_what_is_neither_is_refused_as_by_a_vault(self, root):
        (root / 's.db').write_text('just text')
        for flag in 'crwn':
            with pytest.raises(vaults.VaultFormatError, match='not a vault'):
                vaults.open(root / 's.db', flag)
        assert (root / 's.db').read_text() == 'just text'


class FakePath:
    def __init__(self, path):
        self.path = path

    def __fspath__(self):
        return self.path


ORDERED = [name for name in EXPECTED if 'gnu' not in name and 'ndbm' not in name and 'fanout' not in name]


@pytest.fixture(scope='session')
def peers(tmp_path_factory):
    """The files of testdata/, where nobody else may write them."""
    place = tmp_path_factory.mktemp('peers') / 'testdata'
    shutil.copytree(HERE / 'testdata', place, copy_function=shutil.copyfile)
    for folder in (place, *place.rglob('*')):
        folder.chmod(0o700 if folder.is_dir() else 0o600)
    return place


def seen(folder):
    """Return all that is in a folder: names, bytes and times of change."""
    return {str(path.relative_to(folder)): path.is_file() and (path.read_bytes(), path.stat().st_mtime_ns)
            for path in folder.rglob('*') if '__pycache__' not in path.parts}


def lacks(name):
    """Return the dbm module that this Python lacks to read the file of a peer."""
    module = {'gnu': '_gdbm', 'ndbm': '_dbm'}.get(re.split('[-.]', name)[1])
    try:
        return module and not __import__(module) and None
    except ImportError:
        return module


def sqlite_file(path, *statements):
    with contextlib.closing(sqlite3.connect(str(path), isolation_level=None)) as raw:
        for statement, *arguments in statements:
            raw.execute(statement, *arguments)
    return path


def bomb(path):
    """A pickle that makes a file when it is loaded."""
    class Bomb:
        def __reduce__(self):
            return open, (str(path), 'w')
    return pickle.dumps(Bomb())


def fails(path, *words, error=vaults.VaultFormatError, **options):
    """Import into a vault that has something: it fails with the words, names the source, and changes nothing."""
    with contextlib.closing(Vault(':memory:')) as v:
        v['before'] = 1
        with pytest.raises(error) as caught:
            moving.import_file(v, path, **options)
        assert type(caught.value) is error
        for word in (*words, *([] if hasattr(path, 'read') else [os.path.basename(path)])):
            assert str(word) in str(caught.value), str(caught.value)
        assert v.items() == [('before', 1)]
        v._check()


SQLITEDICT = 'CREATE TABLE "unnamed" (key TEXT PRIMARY KEY, value BLOB)'
MANY = ("""WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n LIMIT 5000)
        INSERT INTO unnamed SELECT n, '"x"' FROM n""",)
EARLIER = 'CREATE TABLE dict(key BLOB, value BLOB)'
CACHE = ('CREATE TABLE Cache (rowid INTEGER PRIMARY KEY, key BLOB, raw INTEGER, store_time REAL, expire_time REAL,'
         ' access_time REAL, access_count INTEGER, tag BLOB, size INTEGER, mode INTEGER, filename TEXT, value BLOB)')
CACHED = 'INSERT INTO Cache (key, raw, mode, filename, value) VALUES (?, ?, ?, ?, ?)'


class TestMovingIn:
    """What peers have written is read as they would read it, and stays as it was."""

    @pytest.mark.parametrize('name', EXPECTED)
    def test_every_peers_entries_come_over(self, peers, v, name):
        if lacks(name):
            with pytest.raises(vaults.VaultError, match='lacks that module: .*Debian'):
                moving.import_file(v, peers / name)
            pytest.skip(f'this Python has no {lacks(name)}')
        before = seen(peers)
        options = {'key': 'id'} if name == 'csv-cities.csv' else {}
        pairs = list(moving.read(peers / name, **options))
        assert dict(pairs) == EXPECTED[name]
        assert len(pairs) == len(EXPECTED[name])
        assert all(repr(EXPECTED[name][key]) == repr(value) or type(value) in (set, dict) for key, value in pairs)
        if name in ORDERED:
            assert [key for key, _ in pairs] == list(EXPECTED[name])
        assert moving.import_file(v, peers / name, **options) == len(pairs)
        assert v.items() == pairs
        assert seen(peers) == before

    @pytest.mark.parametrize('name', EXPECTED)
    def test_each_is_recognised(self, peers, name):
        family, _ = re.split('[-.]', name)[:2]
        kind = {'jsonl': 'jsonlines', 'vaults': 'earlier vault', 'pickledb': 'pickledb' if name.endswith('sqlite') else
                'json', 'shelve': 'dbm' if lacks(name) else 'shelve'}.get(family, family)
        assert moving.recognise(peers / name) == kind

    @pytest.mark.parametrize('name', ['dbm-dumb.dat', 'dbm-dumb.dir', 'dbm-ndbm.db'])
    def test_a_dbm_may_be_given_with_the_suffix_of_its_file(self, peers, name):
        assert moving.recognise(peers / name) == 'dbm'
        if not lacks(name):
            assert dict(moving.read(peers / name)) == EXPECTED[name.partition('.')[0]]

    def test_the_kind_may_be_said(self, peers, v):
        values_of = dict(moving.read(peers / 'shelve-dumb', kind='dbm'))
        assert pickle.loads(values_of['tuple']) == EXPECTED['shelve-dumb']['tuple']
        with pytest.raises(vaults.VaultError, match='earlier vault.*not \'sqlite\''):
            moving.read(peers / 'shelve-dumb', kind='sqlite')

    def test_one_table_of_several_may_be_picked(self, peers):
        two = peers / 'sqlitedict-two-tables.sqlite'
        assert list(moving.read(two, table='old "orders"')) == [('1', ('tea', 2)), ('same', 'in old orders'), ('none', None)]
        fails(two, "'lost'", "'users'", table='lost')
        fails(peers / 'csv-pairs.csv', 'sqlitedict', 'csv', table='users', error=vaults.VaultError)

    def test_keys_of_a_dbm_are_text_or_as_they_are(self, peers):
        assert set(moving.read(peers / 'dbm-dumb', encoding=None)) == {
            (key.encode(), value) for key, value in EXPECTED['dbm-dumb'].items()}

    def test_decode_is_given_each_stored_value(self, peers, tmp_path):
        for name, kept in [('shelve-dumb', bytes), ('shelve-sqlite3', bytes), ('sqlitedict-json.sqlite', str)]:
            assert {type(value) for _, value in moving.read(peers / name, decode=lambda data: data)} == {kept}
        assert ('file bytes', 'YES') in moving.read(peers / 'diskcache-cache',
                                                    decode=lambda data: 'YES' if data == bytes(range(256)) else None)
        fails(peers / 'shelve-dumb', "key 'text'", 'decode', decode=lambda data: {}['a'], error=vaults.SerializationError)

    def test_a_vault_of_today_moves_too(self, v, tmp_path):
        v.update({('a', 1): {1, 2}, True: 'bool', 1.5: Ellipsis, 'b': None})
        v.close()
        with Vault('other') as other:
            assert moving.recognise(v.db_path) == 'vault'
            assert moving.import_file(other, v.db_path) == 4
            assert other.items() == [(('a', 1), {1, 2}), (True, 'bool'), (1.5, Ellipsis), ('b', None)]
            assert [*map(type, other)] == [tuple, bool, float, str]

    def test_of_equal_keys_the_later_wins(self, v, tmp_path):
        (tmp_path / 'twice.json').write_text('{"a": 1, "b": 2, "a": 3}')
        (tmp_path / 'twice.jsonl').write_text('{"key": 1, "value": "int"}\n{"key": true, "value": "bool"}\n')
        (tmp_path / 'twice.csv').write_text('key,value\nc,1\nc,2\n')
        assert [moving.import_file(v, tmp_path / f'twice.{suffix}') for suffix in ('json', 'jsonl', 'csv')] == [3, 2, 2]
        assert v.items() == [('a', 3), ('b', 2), (1, 'bool'), ('c', '2')]

    def test_expired_entries_of_a_cache_stay_behind(self, peers):
        with contextlib.closing(sqlite3.connect(f'file:{peers}/diskcache-cache/cache.db?immutable=1', uri=True)) as raw:
            stored = {key for key, in raw.execute('SELECT key FROM Cache')}
        assert {'expired', 'expired in a file'} <= stored
        assert not {'expired', 'expired in a file'} & set(dict(moving.read(peers / 'diskcache-cache')))

    def test_a_table_may_have_any_name(self, tmp_path):
        name = 'x" UNION SELECT 1, 2 --\''
        path = sqlite_file(tmp_path / 'odd.sqlite', (SQLITEDICT.replace('unnamed', name.replace('"', '""')),),
                           ('INSERT INTO "{}" VALUES (?, ?)'.format(name.replace('"', '""')), ('a', '[1]')))
        assert list(moving.read(path)) == list(moving.read(path, table=name)) == [('a', [1])]

    def test_keys_of_the_earlier_vaults_are_tuples_where_msgpack_has_lists(self, v, tmp_path):
        path = sqlite_file(tmp_path / 'a.db', (EARLIER,), ('INSERT INTO dict VALUES (?, ?)', (
            b'M' + msgpack.packb(['a', [1, [2.5]]]), b'M' + msgpack.packb([[1], {1: [2]}]))))
        assert list(moving.read(path)) == [(('a', (1, (2.5,))), [[1], {1: [2]}])]

    def test_what_only_begins_as_a_pickle_is_none(self, tmp_path):
        for data, kind in ((b'N.', 'shelve'), (b'N.hello.', 'dbm'), (b'N', 'dbm'), (b'', 'dbm')):
            with contextlib.closing(dbm.dumb.open(str(tmp_path / 'a'), 'n')) as db:
                db['k'] = data
            assert moving.recognise(tmp_path / 'a') == kind

    def test_files_of_a_dbm_beside_it_do_not_count(self, tmp_path):
        for ending, data in (('.dat', b''), ('.dir', b''), ('.db', b'{"a": 1}'), ('.csv', b'key\n')):
            (tmp_path / f'a{ending}').write_bytes(data)
        assert [moving.recognise(tmp_path / f'a{suffix}') for suffix in ('', '.dir', '.db', '.csv')] == [
            'shelve', 'shelve', 'json', 'csv']

    def test_progress_is_told_every_thousand_entries(self, v, tmp_path):
        done = []
        (tmp_path / 'many.csv').write_text('key,value\n' + ''.join(f'{n},x\n' for n in range(2500)))
        assert moving.import_file(v, tmp_path / 'many.csv', progress=done.append) == 2500
        moving.export(v, io.StringIO(), progress=done.append)
        assert done == [1000, 2000, 2500] * 2

    def test_an_iterator_that_is_dropped_lets_go_of_the_source(self, peers):
        for name in ('diskcache-cache', 'shelve-sqlite3', 'shelve-dumb', 'csv-pairs.csv', 'json-object.json'):
            iterator = moving.read(peers / name)
            next(iterator)
            iterator.close()
            if LINUX:
                assert not any(name in os.path.realpath(f'/proc/self/fd/{fd}') for fd in os.listdir('/proc/self/fd'))


class TestMovingRecords:
    """Arrays and lines of JSON objects come in by a field, and the cells of CSV by type."""
    RECORDS = [{'id': 1, 'name': 'Ada', 'tags': ['x', {'y': None}]}, {'name': 'Zoë', 'id': 'two'}, {'id': 3.5}, {'id': 0, 'value': [1]}]
    WANTED = [(1, {'name': 'Ada', 'tags': ['x', {'y': None}]}), ('two', {'name': 'Zoë'}), (3.5, {}), (0, [1])]

    @pytest.mark.parametrize('chunk', [1, 7, 1 << 16])
    def test_an_array_and_lines_come_over_by_a_field(self, tmp_path, v, monkeypatch, chunk):
        monkeypatch.setattr(vaults.peers, 'CHUNK', chunk)
        lines = '\n'.join(map(json.dumps, self.RECORDS))
        texts = {'a.json': json.dumps(self.RECORDS), 'b.json': '\ufeff ' + json.dumps(self.RECORDS, indent=2), 'c': json.dumps(self.RECORDS),
                 'd.jsonl': lines + '\n', 'e': lines, 'f.json': lines, 'g.ndjson': lines.replace('\n', '\n\n')}
        for name, text in texts.items():
            (tmp_path / name).write_text(text, 'utf-8')
            assert list(moving.read(tmp_path / name, key='id')) == self.WANTED
            assert moving.recognise(tmp_path / name) == ('json' if name in ('a.json', 'b.json', 'c', 'f.json') else 'jsonlines')
            v.clear()
            assert moving.import_file(v, tmp_path / name, key='id') == 4 and v.items() == self.WANTED
        for kind, text in (('json', texts['a.json']), ('jsonlines', lines), (None, lines)):
            assert list(moving.read(io.StringIO(text), key='id', kind=kind)) == self.WANTED
        (tmp_path / 'a.json').write_text('[]')
        assert list(moving.read(tmp_path / 'a.json', key='id')) == list(moving.read(tmp_path / 'a.json')) == []
        (tmp_path / 'one').write_text('{"id": 1, "name": "Ada"}')
        assert list(moving.read(tmp_path / 'one', key='id')) == [(1, {'name': 'Ada'})]
        assert list(moving.read(tmp_path / 'one')) == [('id', 1), ('name', 'Ada')]

    def test_what_is_plain_json_stays_so(self, tmp_path, v):
        (tmp_path / 'a.jsonl').write_text('{"id": "a", "x": {"!bytes": "AA=="}}\n{"id": "!", "value": {"!set": [[1]]}}\n')
        moving.import_file(v, tmp_path / 'a.jsonl', key='id')
        assert v.items() == [('a', {'x': {'!bytes': 'AA=='}}), ('!', {'!set': [[1]]})]
        (tmp_path / 'b.jsonl').write_text('{"key": "a", "value": {"!bytes": "AA=="}}\n')
        assert list(moving.read(tmp_path / 'b.jsonl', key='key')) == [('a', b'\0')]

    @pytest.mark.parametrize('name, text, options, words', [
        ('a.json', '[{"id": 1, "name": "x"}]', {}, ['item 1', 'line 1', 'key=...', "'id', 'name'"]),
        ('a.json', '[\n\n {"id": 1, "name": "x"}]', {}, ['line 3']),
        ('a.jsonl', '{"id": 1, "name": "x"}\n', {}, ['line 1', 'key=...', "'id', 'name'"]),
        ('a', '{"id": 1, "name": "x"}\n{"id": 2}\n', {}, ['line 1', 'key=...', "'id', 'name'"]),
        ('a.json', '[{"id": 1},\n{"name": 2}]', {'key': 'id'}, ['item 2', 'line 2', "no field 'id'", "'name'"]),
        ('a.jsonl', '{"id": 1}\n{}\n', {'key': 'id'}, ['line 2', "no field 'id'"]),
        ('a.json', '[{"id": 1},\n{"id": 2},\n{"id": 1.0}]', {'key': 'id'}, ['item 3, line 3', 'item 1, line 1', 'the key 1']),
        ('a.jsonl', '{"id": "a"}\n\n{"id": "a"}\n', {'key': 'id'}, ['line 3', "'a'", 'line 1']),
        ('a.json', '[{"id": null}]', {'key': 'id'}, ['item 1', 'null', 'no key']),
        ('a.jsonl', '{"id": [1]}', {'key': 'id'}, ['line 1', '[1]', 'no key']),
        ('a.json', '[{"id": 1}, 2]', {'key': 'id'}, ['item 2', 'no object']),
        ('a.jsonl', '{"id": 1}\n[2]\n', {'key': 'id'}, ['line 2', 'no object']),
        ('a.jsonl', '{"id": 1}\n{"id": \n', {'key': 'id'}, ['line 2', 'no JSON']),
        ('a.json', '[{"id": 1} {"id": 2}]', {'key': 'id'}, [', or ] is expected']),
        ('a.json', '[{"id": 1}] 5', {'key': 'id'}, ['something follows']),
        ('a.json', '{"a":\n {"id": 1}}', {'key': 'id'}, ['leave key=... out']),
        ('a.json', '["key", 1]', {}, ['a JSON list', 'jsonlines']),
        ('a', '[section]\nkey = 1\n', {}, ['a JSON list']),
    ])
    def test_what_cannot_be_a_record_is_named_with_its_place(self, tmp_path, name, text, options, words):
        (tmp_path / name).write_text(text)
        fails(tmp_path / name, *words, **options)

    def test_they_are_streamed(self, tmp_path):
        (tmp_path / 'a.json').write_text('[' + ','.join(json.dumps({'id': n, 'text': 'x' * 1000}) for n in range(10_000)) + ']')
        tracemalloc.start()
        try:
            assert sum(len(value['text']) for _, value in moving.read(tmp_path / 'a.json', key='id')) == 10_000_000
            assert tracemalloc.get_traced_memory()[1] < 4_000_000
        finally:
            tracemalloc.stop()

    TABLE = ('id,n,price,big,zip,code,ok,born,at,mixed,empty,half\n'
             '1,5,1.50,99999999999999999999,01234,1e5,true,2026-11-25,2026-11-25T10:30,5,,\n'
             '2,-7,2,0,98765,2,False,1999-01-31,2026-11-25 10:30:15.25Z,x,,4\n'
             '007,0,-0.25,-1,00000,3,TRUE,,2026-11-25T10:30:15+02:00,1.5,,\n')

    def test_the_types_of_columns_are_guessed_exactly(self, tmp_path):
        (tmp_path / 'a.csv').write_text(self.TABLE)
        rows = dict(moving.read(tmp_path / 'a.csv', key='id', types='auto'))
        assert list(rows) == ['1', '2', '007']
        first, second, third = rows.values()
        assert first == {'n': 5, 'price': 1.5, 'big': 99999999999999999999, 'zip': '01234', 'code': '1e5', 'ok': True,
                         'born': dt.date(2026, 11, 25), 'at': dt.datetime(2026, 11, 25, 10, 30), 'mixed': '5', 'empty': '', 'half': None}
        assert [type(value) for value in second.values()] == [int, float, int, str, str, bool, dt.date, dt.datetime, str, str, int]
        assert second['at'] == dt.datetime(2026, 11, 25, 10, 30, 15, 250000, UTC) and third['born'] is None
        assert third['at'].utcoffset() == dt.timedelta(hours=2) and rows['2']['half'] == 4
        assert dict(moving.read(io.StringIO(self.TABLE), kind='csv', key='id', types='auto')) == rows  # which is read twice
        plain = dict(moving.read(tmp_path / 'a.csv', key='id'))
        assert all(type(cell) is str for row in plain.values() for cell in row.values())

    @pytest.mark.parametrize('cells, kept', [
        (['1', '2'], [1, 2]), (['0', '-1'], [0, -1]), (['007', '1'], ['007', '1']), (['-0', '1'], ['-0', '1']), (['+1', '2'], ['+1', '2']),
        (['1_000'], ['1_000']), (['1,5'], ['1,5']), ([' 1'], [' 1']), (['1e5'], ['1e5']), (['0x10'], ['0x10']), (['\u0663'], ['\u0663']),
        (['1' * 400], [int('1' * 400)]), (['9' * 5000], ['9' * 5000]), (['9007199254740993', '1'], [9007199254740993, 1]),
        (['9007199254740993', '1.5'], ['9007199254740993', '1.5']), (['1', '1.5'], [1.0, 1.5]), (['0.1', '123.456'], [0.1, 123.456]),
        (['3.14159265358979323846'], ['3.14159265358979323846']), (['.5'], ['.5']), (['5.'], ['5.']), (['nan'], ['nan']), (['inf'], ['inf']),
        (['true', 'FALSE'], [True, False]), (['true', '1'], ['true', '1']), (['yes'], ['yes']), (['NO'], ['NO']), (['', '1'], [None, 1]),
        (['', ''], ['', '']), (['', 'x'], ['', 'x']), (['2026-02-29'], ['2026-02-29']), (['2024-02-29'], [dt.date(2024, 2, 29)]),
        (['2024-02-29', '2024-02-29T10:00'], ['2024-02-29', '2024-02-29T10:00']), (['20240229'], [20240229]), (['2024-2-9'], ['2024-2-9']),
        (['2024-02-29T25:00'], ['2024-02-29T25:00']), (['10:30'], ['10:30']), (['2024-02-29 10:00:00.1'], [dt.datetime(2024, 2, 29, 10, 0, 0, 100000)])])
    def test_a_guess_is_made_of_a_whole_column(self, cells, kept):
        text = 'key;value\n' + ''.join(f'{n};{cell}\n' for n, cell in enumerate(cells))
        found = [value for _, value in moving.read(io.StringIO(text), kind='csv', types='auto')]
        assert found == kept and [*map(type, found)] == [*map(type, kept)]

    @pytest.mark.parametrize('type_, cells, kept', [
        ('int', ['007', '+5', ' 1 ', '9' * 300], [7, 5, 1, int('9' * 300)]), ('float', ['1e5', '1', '-.5', 'nan'], [1e5, 1.0, -0.5, float('nan')]),
        ('bool', ['yes', 'No', '1', '0', 't', 'FALSE'], [True, False, True, False, True, False]), ('text', ['5', ''], ['5', '']),
        ('decimal', ['1.50', '1e3'], [decimal.Decimal('1.50'), decimal.Decimal('1e3')]), ('date', ['2026-01-02', ''], [dt.date(2026, 1, 2), None]),
        ('datetime', ['2026-01-02 03:04', ''], [dt.datetime(2026, 1, 2, 3, 4), None])])
    def test_types_are_named(self, tmp_path, type_, cells, kept):
        text = 'key,value,other\n' + ''.join(f'{n},{cell},5\n' for n, cell in enumerate(cells))
        for how in (f'value:{type_}', {'value': type_}, f'auto,value:{type_},other:text,key:text'):
            found = list(moving.read(io.StringIO(text), kind='csv', types=how))
            assert repr([row['value'] for _, row in found]) == repr(kept)
            assert [(key, row['other']) for key, row in found] == [(f'{n}', '5') for n in range(len(cells))]
        assert next(moving.read(io.StringIO(text), kind='csv', types='key:int'))[0] == 0

    @pytest.mark.parametrize('how, text, words', [
        ('n:int', 'key,n\na,5\nb,x\n', ["'x' is no int", "'n'", 'line 3', 'text']), ('n:int', 'key,n\na,1_0\n', ['line 2']),
        ('n:date', 'key,n\na,2026-13-01\n', ['line 2']), ('n:bool', 'key,n\na,2\n', ['no bool']), ('m:int', 'key,n\na,1\n', ["'m'", "['key', 'n']"]),
        ('n:float', 'key,n\na,1_0.5\n', ['no float']), ('key:int', 'key,n\n,1\n', ['is empty', 'line 2']), ('n:decimal', 'key,n\na,x\n', ['line 2'])])
    def test_a_cell_of_another_type_is_named_with_its_place(self, tmp_path, how, text, words):
        (tmp_path / 'a.csv').write_text(text)
        fails(tmp_path / 'a.csv', *words, types=how)

    def test_types_that_do_not_exist_are_refused(self, tmp_path):
        (tmp_path / 'a.csv').write_text('key,n\na,1\n')
        for how in ('n:number', 'n', ':int', {'n': 'x'}, 'auto,', 'n:int:'):
            with pytest.raises(vaults.VaultError, match='where a type is one of text, int'):
                list(moving.read(tmp_path / 'a.csv', types=how))
        (tmp_path / 'a.json').write_text('{}')
        with pytest.raises(vaults.VaultError, match='types=... is for csv'):
            moving.read(tmp_path / 'a.json', types='auto')

    def test_the_command_takes_fields_types_and_standard_input(self, command, root):
        lines = b'{"id": 1, "n": 2}\n{"id": 2, "n": 3}\n'
        for arguments, data in ((['--key', 'id'], lines), (['--kind', 'json', '--key', 'id'], b'[{"id": 1, "n": 2}, {"id": 2, "n": 3}]'),
                                (['--kind', 'csv', '--key', 'id', '--types', 'auto'], b'id,n,m\n1,2,\n2,3,\n')):
            done = command('import', '-', 'new', *arguments, stdin=data)
            assert (done.status, done.err) == (0, ''), done.err
            assert command('get', 'new', '2', '--json-key').out in ('{"n": 3}\n', '{"n": 3, "m": ""}\n')
        (root / 'a.csv').write_text('id,n\n1,x\n')
        assert '--types ... says' in command('import', root / 'a.csv', 'v', '--key', 'id', '--types', 'n:int').err
        assert 'pass --key ...' in command('import', '-', 'v', stdin=lines).err
        for text in (b'[{"id": 1}, {"id": 2}]', b'[\n{"id": 1}\n]\n', b' [\n]', b'{\n"id": {}\n}\n'):
            for arguments in ((), ('--key', 'id')):
                assert 'takes --kind json' in command('import', '-', 'v', *arguments, stdin=text).err, text
        assert 'is read from a path' in command('import', '-', 'v', '--kind', 'shelve').err
        assert '--kind' in command('import', '--help').out and 'JSON Lines, or what --kind' in ' '.join(command('import', '--help').out.split())

    def test_tinydbs_documents_have_their_numbers(self, tmp_path, v):
        text = '{"_default": {"1": {"a": 1}, "3": {}}, "people": {"1": {"b": null}, "x": 2}, "none": {}}'
        (tmp_path / 'db.json').write_text(text)
        assert moving.recognise(tmp_path / 'db.json') == 'tinydb'
        wanted = [(1, {'a': 1}), (3, {}), (('people', 1), {'b': None}), (('people', 'x'), 2)]
        assert list(moving.read(tmp_path / 'db.json')) == list(moving.read(io.StringIO(text), kind='tinydb')) == wanted
        assert moving.import_file(v, tmp_path / 'db.json') == 4 and v.section('people').items() == [(1, {'b': None}), ('x', 2)]
        assert list(moving.read(tmp_path / 'db.json', table='people')) == [(1, {'b': None}), ('x', 2)]
        fails(tmp_path / 'db.json', "no table 'lost'", table='lost')
        (tmp_path / 'db.json').write_text('{"_default": {"1": {"a": 1}, "2": []}, "people": [1]}')
        fails(tmp_path / 'db.json', 'no JSON object', 'line 1')


class TestMovingKohaku:
    """What kohakuvault writes is read without it, and an int that it gives back as a float is one again."""

    def entry(self, path, data):
        return sqlite_file(path, ('CREATE TABLE IF NOT EXISTS kv (key BLOB PRIMARY KEY NOT NULL, value BLOB NOT NULL)',),
                           ('INSERT OR REPLACE INTO kv VALUES (?, ?)', (b'k', data)))

    def packed(self, tmp_path, form, body):
        return dict(moving.read(self.entry(tmp_path / 'a', b'\x89K\x01' + bytes([form]) + b'\0\0\0\0VK' + body)))['k']

    def test_the_parts_of_a_file_become_what_they_are_in_a_vault(self, peers, v):
        assert moving.import_file(v, peers / 'kohakuvault-all.db', table='columns') == 2
        assert type(v['i64']).__name__ == 'Column' and v['i64'].dtype == 'int64' and v['i64'][:] == array.array('q', range(-9, 20))
        assert type(v['str:utf8']).__name__ == 'List' and v['str:utf8'][-1] == '日本'
        assert dict(moving.read(peers / 'kohakuvault-all.db', table='kv')) == {
            key[1]: value for key, value in EXPECTED['kohakuvault-all.db'].items() if key[0] == 'kv'}
        fails(peers / 'kohakuvault-all.db', "'lost'", "'columns'", "'text_vault'", table='lost')

    @pytest.mark.parametrize('number', [0, 1, -1, 10**12 - 1, 10**12, 1_700_000_000_000, 2**53 + 1, 1_700_000_000_000_000_000, -10**12,
                                        -1_700_000_000_000_000_000, 1.5, -1.5, 1e-100, -1e-100, 1e100, 1e300, float('inf'), float('-inf')])
    def test_a_number_is_what_it_was(self, tmp_path, number):
        found = self.packed(tmp_path, 2, struct.pack('<q' if isinstance(number, int) else '<d', number))
        assert found == number and type(found) is type(number)

    def test_nan_and_what_has_no_head(self, tmp_path):
        assert all(repr(self.packed(tmp_path, 2, bytes.fromhex(code))) == 'nan' for code in ('000000000000f87f', '000000000000f8ff'))
        for data in (b'', b'\x89K', b'\x89K\x01\x01\0\0\0\1VK.', b'\x89K\x02\x01\0\0\0\0VK.'):
            assert dict(moving.read(self.entry(tmp_path / 'a', data))) == {'k': data}
        assert self.packed(tmp_path, 2, 'Grüße'.encode()) == 'Grüße'

    def test_arrays_of_numpy_keep_their_type_and_shape(self, tmp_path):
        np = pytest.importorskip('numpy')
        for body, wanted in ((b'\x0a\x02' + struct.pack('<2I', 2, 3) + bytes(12), np.zeros((2, 3), 'int16')),
                             (b'\x02\x01' + bytes(4), np.zeros(0)), (b'\x05\x01\2\0\0\0\x07\x08', np.array([7, 8], 'uint8'))):
            found = self.packed(tmp_path, 2, body)
            assert found.dtype == wanted.dtype and found.shape == wanted.shape and (found == wanted).all()
        assert repr(self.packed(tmp_path, 2, b'\x04\0' + struct.pack('<q', 7))) == repr(np.int64(7))

    def test_cbor(self, tmp_path):
        for code, wanted in (('00', 0), ('1818', 24), ('190100', 256), ('1bffffffffffffffff', 2**64 - 1), ('20', -1), ('3863', -100),
                             ('f93e00', 1.5), ('fa47c35000', 100000.0), ('fb3ff199999999999a', 1.1), ('f4', False), ('f6', None),
                             ('43010203', b'\1\2\3'), ('62c3bc', 'ü'), ('8301820203820405', [1, [2, 3], [4, 5]]), ('a26161016162820203', {'a': 1, 'b': [2, 3]}),
                             ('9f018202039f0405ffff', [1, [2, 3], [4, 5]]), ('bf6161f5ff', {'a': True}), ('7f657374726561646d696e67ff', 'streaming'),
                             ('c11a514b67b0', 1363896240), ('80', []), ('a0', {})):
            found = self.packed(tmp_path, 5, bytes.fromhex(code))
            assert found == wanted and type(found) is type(wanted)
        for code in ('', '18', '62c3', '8301', 'ff', 'fc', '0000', '9f01', '1c', '5f', '81' * 5000):
            fails(self.entry(tmp_path / 'a', b'\x89K\x01\5\0\0\0\0VK' + bytes.fromhex(code)), "key 'k'", 'decode=', error=vaults.SerializationError)

    def test_what_is_wrong_is_named(self, peers, tmp_path, command):
        for form, body, error in ((3, b'{', vaults.SerializationError), (4, b'\xc1', vaults.SerializationError),
                                  (6, b'\xff', vaults.SerializationError), (9, b'', vaults.VaultFormatError), (1, b'x', vaults.VaultFormatError)):
            fails(self.entry(tmp_path / 'a', b'\x89K\x01' + bytes([form]) + b'\0\0\0\0VK' + body), "key 'k'", error=error)
        sqlite_file(tmp_path / 'a', ('DELETE FROM kv',), ('INSERT INTO kv VALUES (?, ?)', (b'\xff', b'')))
        fails(tmp_path / 'a', "key b'\\xff'", 'latin-1')
        assert dict(moving.read(tmp_path / 'a', encoding=None)) == {b'\xff': b''}
        name, new = str(tmp_path / 'a'), str(tmp_path / 'new.db')
        assert '--encoding latin-1 or another, or --encoding None' in command('import', name, new).err
        assert command('import', name, new, '--encoding', 'None').status == 0
        with contextlib.closing(Vault(pathlib.Path(new))) as v:
            assert v.items() == [(b'\xff', b'')]
        assert dict(moving.read(tmp_path / 'a', encoding=None, decode=len)) == {b'\xff': 0}
        for statement, words in (("UPDATE kvault_col_blocks SET row_count = row_count + 1 WHERE block_id = 1", 'damaged'),
                                 ("UPDATE kvault_col_data SET offsets = x'00' WHERE offsets IS NOT NULL", 'damaged'),
                                 ("UPDATE kvault_col_columns SET dtype = 'quux' WHERE dtype = 'cbor'", 'quux'),
                                 ("UPDATE kvault_col_format SET version = 2", 'version 1')):
            shutil.copyfile(peers / 'kohakuvault-columns.db', tmp_path / 'c.db')
            sqlite_file(tmp_path / 'c.db', (statement,))
            fails(tmp_path / 'c.db', words, error=vaults.VaultCorruptError if words == 'damaged' else vaults.VaultFormatError)

    def test_a_pickle_is_loaded_by_the_rule(self, tmp_path):
        self.entry(tmp_path / 'a', b'\x89K\x01\1\0\0\0\0VK' + bomb(tmp_path / 'made'))
        fails(tmp_path / 'a', "key 'k'", allow_pickle=False, error=vaults.UntrustedPickleError)
        (tmp_path / 'a').chmod(0o666)
        fails(tmp_path / 'a', "key 'k'", error=vaults.UntrustedPickleError)
        assert not (tmp_path / 'made').exists()

    def test_a_table_of_vectors_and_an_empty_part_are_no_hindrance(self, peers, tmp_path):
        shutil.copyfile(peers / 'kohakuvault-entries.db', tmp_path / 'a')
        sqlite_file(tmp_path / 'a', ('PRAGMA writable_schema = ON',), (
            "INSERT INTO sqlite_master VALUES ('table', 'vec_kvault', 'vec_kvault', 0, 'CREATE VIRTUAL TABLE vec_kvault USING vec0(x)')",),
            ('CREATE TABLE other (key BLOB PRIMARY KEY NOT NULL, value BLOB NOT NULL)',))
        assert dict(moving.read(tmp_path / 'a')) == EXPECTED['kohakuvault-entries.db']
        assert list(moving.read(tmp_path / 'a', table='other')) == []


class TestMovingFolders:
    def test_a_large_file_of_pyvault_is_a_stream(self, tmp_path, v):
        (tmp_path / 'units' / 'photos').mkdir(parents=True)
        data = os.urandom(3 << 20)
        (tmp_path / 'units' / 'photos' / '5.vault').write_bytes(b'x' + data)
        (tmp_path / 'units' / 'photos' / '12.vault').write_bytes(b'small')
        for other in ('01.vault', 'x.vault', '7.txt', '-1.vault'):
            (tmp_path / 'units' / 'photos' / other).write_bytes(b'not of it')
        assert moving.recognise(tmp_path / 'units') == 'pyvault'
        assert moving.import_file(v, tmp_path / 'units') == 2
        assert v['photos', 5] == b'x' + data and v['photos', 12] == b'small' and list(v) == [('photos', 5), ('photos', 12)]
        with v.open(('photos', 5)) as file:
            assert file.read(2) == b'x' + data[:1]
        assert dict(moving.read(tmp_path / 'units', decode=len)) == {('photos', 5): len(data) + 1, ('photos', 12): 5}
        assert dict(moving.read(tmp_path / 'units'))['photos', 5] == b'x' + data

    def test_pickles_of_pyvault_are_loaded_by_the_rule(self, tmp_path):
        (tmp_path / 'units' / 'u').mkdir(parents=True)
        (tmp_path / 'units' / 'u' / '1.vault').write_bytes(bomb(tmp_path / 'made'))
        fails(tmp_path / 'units', "('u', 1)", allow_pickle=False, error=vaults.UntrustedPickleError)
        (tmp_path / 'units' / 'u' / '1.vault').chmod(0o666)
        fails(tmp_path / 'units', '1.vault', error=vaults.UntrustedPickleError)
        assert not (tmp_path / 'made').exists()

    @pytest.mark.skipif(os.name == 'nt', reason='links')
    def test_a_link_out_of_the_folder_is_not_followed(self, tmp_path):
        (tmp_path / 'units' / 'u').mkdir(parents=True)
        (tmp_path / 'secret').write_bytes(b'secret')
        (tmp_path / 'units' / 'u' / '1.vault').symlink_to(tmp_path / 'secret')
        (tmp_path / 'units' / 'out').symlink_to(tmp_path)
        fails(tmp_path / 'units', 'UNIT/ID.vault')

    def test_the_command_recognises_them_all(self, command, peers, root):
        for name in ('kohakuvault-all.db', 'pystoragebackend-notes.sqlite', 'pyvault-units', 'tinydb-people.json'):
            done = command('import', peers / name, root / f'{name}.vault')
            assert (done.status, done.err) == (0, '') and done.out.startswith(f'{len(EXPECTED[name])} entries imported')
            assert os.name == 'nt' or (root / f'{name}.vault').stat().st_mode & 0o777 == 0o600
        assert command('get', root / 'tinydb-people.json.vault', '1', '--section', 'orders', '--json-key').out == '{"tea": 2}\n'
        assert command('import', peers / 'kohakuvault-all.db', root / 'one', '--table', 'kv').out.startswith('3 ')


class TestMovingFromPrograms:
    """A view, or a computed column, in place of what a library would have stored is not read."""

    @pytest.mark.parametrize('kind, table, columns', [
        ('earlier vault', 'dict', 'key, value'), ('dbm', 'Dict', 'key, value'), ('shelve', 'DICT', 'key, value'),
        ('diskcache', 'Cache', 'key, raw, mode, filename, value, expire_time'), ('litedict', 'Dict', 'key, value'),
        ('sqlitedict', 'unnamed', 'key, value')])
    def test_what_is_computed_is_not_read(self, tmp_path, kind, table, columns):
        endless = ', '.join(f'x AS {name}' for name in columns.split(', '))
        computed = columns.replace('value', 'other') + ', value AS (zeroblob(900000000))'
        for number, attack in enumerate((
                f'CREATE VIEW {table} AS WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) '
                f'SELECT {endless} FROM c', f'CREATE TABLE {table} ({computed}); INSERT INTO {table} DEFAULT VALUES')):
            path = tmp_path / f'{number}.db'
            with contextlib.closing(sqlite3.connect(str(path))) as raw:
                raw.executescript(attack)
            fails(path, kind=kind)
            with pytest.raises(vaults.VaultFormatError):
                moving.recognise(path)


class TestSourcesAreLeftAlone:
    """A source that is open elsewhere, or was left by a killed program, is read whole and stays as it was."""

    @pytest.mark.parametrize('left', [('', '-wal', '-shm'), ('', '-wal')])
    @pytest.mark.parametrize('kind', ['sqlitedict', 'vault'])
    def test_commits_in_a_log_are_seen(self, tmp_path, kind, left):
        (tmp_path / 'live').mkdir()
        live, killed = tmp_path / 'live' / 'a.db', tmp_path / 'killed' / 'a.db'
        if kind == 'vault':
            writer = Vault(live)
            writer['a'] = [1]
        else:
            writer = sqlite3.connect(str(live), isolation_level=None)
            for statement in ('PRAGMA journal_mode = WAL', SQLITEDICT, "INSERT INTO unnamed VALUES ('a', '[1]')"):
                writer.execute(statement)
        with contextlib.closing(writer):
            killed.parent.mkdir()
            for suffix in left:
                shutil.copyfile(f'{live}{suffix}', f'{killed}{suffix}')
            for path in (live, killed):
                before = seen(path.parent)
                assert moving.recognise(path) == kind
                assert list(moving.read(path)) == [('a', [1])]
                after = seen(path.parent)
                if path == live:  # what the processes share, one of which is this one
                    del before['a.db-shm'], after['a.db-shm']
                assert after == before

    def test_several_tables_are_of_one_moment(self, tmp_path):
        with contextlib.closing(sqlite3.connect(str(tmp_path / 'a.db'), isolation_level=None)) as writer:
            for statement in ('PRAGMA journal_mode = WAL', SQLITEDICT, SQLITEDICT.replace('unnamed', 'other'),
                              "INSERT INTO unnamed VALUES ('a', '1')", "INSERT INTO other VALUES ('a', '1')"):
                writer.execute(statement)
            iterator = moving.read(tmp_path / 'a.db')
            assert next(iterator) == (('unnamed', 'a'), 1)
            writer.execute("UPDATE other SET value = '2'")
            assert list(iterator) == [(('other', 'a'), 1)]

    def test_a_file_in_wal_mode_gets_no_log_beside_it(self, tmp_path):
        path = sqlite_file(tmp_path / 'a.db', ('PRAGMA journal_mode = WAL',), (SQLITEDICT,))
        before = seen(tmp_path)
        assert list(moving.read(path)) == []
        iterator = moving.read(path)
        assert list(iterator) == []
        assert seen(tmp_path) == before and set(before) <= {'a.db', 'vaults'}

    @pytest.mark.parametrize('kind', ['sqlitedict', 'vault'])
    def test_a_file_that_is_written_meanwhile_is_refused(self, tmp_path, kind):
        path = tmp_path / 'a.db'
        if kind == 'vault':
            with contextlib.closing(Vault(path)) as vault:
                vault.update(dict.fromkeys(range(5000), '"x"'))
        else:
            sqlite_file(path, (SQLITEDICT,), MANY)
        iterator = moving.read(path)
        next(iterator)
        sqlite_file(path, ('CREATE TABLE other(x)',))
        with pytest.raises(vaults.VaultBusyError, match=f'{re.escape(str(path))} was written'):
            list(iterator)

    def test_a_journal_of_a_killed_program_is_not_passed_over(self, tmp_path):
        sqlite_file(tmp_path / 'a.db', (SQLITEDICT,), ("INSERT INTO unnamed VALUES ('a', '\"old\"')",))
        run('''
            import os, signal, sqlite3, sys
            raw = sqlite3.connect(sys.argv[1], isolation_level=None)
            raw.execute('PRAGMA cache_size = 1')
            raw.execute('BEGIN')
            for n in range(2000):
                raw.execute("INSERT INTO unnamed VALUES (?, '\\"torn\\"')", (n,))
            os.kill(os.getpid(), signal.SIGKILL)
        ''', tmp_path / 'a.db')
        assert (tmp_path / 'a.db-journal').stat().st_size
        before = seen(tmp_path)
        for kind in (None, 'sqlitedict'):
            fails(tmp_path / 'a.db', 'open it once with that program', kind=kind, error=vaults.VaultError)
        assert seen(tmp_path) == before

    @pytest.mark.skipif(bool(lacks('-gnu')), reason='this Python has no dbm.gnu')
    def test_a_dbm_that_a_writer_has_locked_is_a_clear_error(self, tmp_path):
        import dbm.gnu
        with contextlib.closing(dbm.gnu.open(str(tmp_path / 'g'), 'n')) as db:
            db['a'] = 'b'
            with pytest.raises(vaults.VaultBusyError, match='another program has it open to write'):
                moving.read(tmp_path / 'g')
            fails(tmp_path / 'g', 'close it there', kind='dbm', error=vaults.VaultBusyError)

    def test_a_vault_beside_a_dbm_is_not_taken_for_it(self, tmp_path, capfd):
        with shelve.Shelf(dbm.dumb.open(str(tmp_path / 'a'), 'n')) as shelf:
            shelf['k'] = 1
        with Vault(tmp_path / 'a.db') as v:
            moving.import_file(v, tmp_path / 'a')
        v.close()
        assert moving.recognise(tmp_path / 'a') == 'shelve'
        assert moving.recognise(tmp_path / 'a.db') == 'vault'
        assert capfd.readouterr() == ('', '')


class TestMovingTrust:
    """No pickle of a source runs before its place is known to be trusted."""

    def sources(self, folder, data):
        """Make a source of each kind that holds the pickle; return its paths and the file to make writable."""
        with contextlib.closing(dbm.dumb.open(str(folder / 'shelf'), 'n')) as db:
            db['k'] = data
        yield 'shelve', folder / 'shelf', folder / 'shelf.dat'
        path = sqlite_file(folder / 'dbm3', ('CREATE TABLE Dict (key BLOB UNIQUE NOT NULL, value BLOB NOT NULL)',),
                           ('INSERT INTO Dict VALUES (?, ?)', (b'k', data)))
        yield 'shelve', path, path
        path = sqlite_file(folder / 'sd', (SQLITEDICT,), ('INSERT INTO unnamed VALUES (?, ?)', ('k', data)))
        yield 'sqlitedict', path, path
        path = sqlite_file(folder / 'old', (EARLIER,), ('INSERT INTO dict VALUES (?, ?)', (b'M\xa1k', b'P' + data)))
        yield 'earlier vault', path, path
        path = sqlite_file(folder / 'old2', (EARLIER,), ('INSERT INTO dict VALUES (?, ?)', (b'P' + data, b'M\xa1k')))
        yield 'earlier vault', path, path
        for name, row in (('value', ('k', 1, 4, None, data)), ('key', (data, 0, 1, None, 'v')),
                          ('file', ('k', 1, 4, 'ab.val', None))):
            (folder / name).mkdir()
            path = sqlite_file(folder / name / 'cache.db', (CACHE,), (CACHED, row))
            (folder / name / 'ab.val').write_bytes(data)
            yield 'diskcache', path.parent, path.parent / 'ab.val' if name == 'file' else path
        with contextlib.closing(Vault(folder / 'v.db')) as v:
            v._store.put('k', msgpack.packb([msgpack.ExtType(values.PICKLE, data)]))
        yield 'vault', folder / 'v.db', folder / 'v.db'
        form = {'!pickle': ['', as_json._base64(data)]}
        for name, value in (('a', [form]), ('b', {'!msgpack': as_json._base64(msgpack.packb([msgpack.ExtType(1, data)]))}),
                            ('c', {'!dict': [[{'!tuple': [form]}, 1]]}), ('d', {'!ext': [1, as_json._base64(data)]})):
            path = folder / f'{name}.jsonl'
            path.write_text(json.dumps({'key': 'k', 'value': value}) + '\n')
            yield 'jsonlines', path, path

    @pytest.mark.skipif(os.name == 'nt', reason='Windows does not tell who may write a file')
    def test_a_pickle_that_others_may_have_planted_is_not_run(self, tmp_path):
        ran = tmp_path / 'ran'
        for kind, path, file in self.sources(tmp_path, bomb(ran)):
            file.chmod(0o666)
            assert moving.recognise(path) == kind
            fails(path, 'may write', file.name, error=vaults.UntrustedPickleError)
            for refused, word in ((False, 'allow_pickle=False'), ([complex], 'open')):
                with pytest.raises(vaults.UntrustedPickleError, match=word):
                    list(moving.read(path, allow_pickle=refused))
                fails(path, word, allow_pickle=refused, error=vaults.UntrustedPickleError)
            with pytest.raises(vaults.UntrustedPickleError, match='may write'):
                list(moving.read(path))
            assert not ran.exists(), path

    def test_where_nobody_else_may_write_it_is_read(self, tmp_path):
        for _, path, _ in self.sources(tmp_path, pickle.dumps(1j)):
            for allowed in (None, True, [complex]):
                (pair,) = moving.read(path, allow_pickle=allowed)
                assert '1j' in repr(pair)
            with contextlib.closing(Vault(':memory:')) as v:
                if 'old2' not in str(path) and not (path / 'ab.val').parent.match('key'):
                    assert moving.import_file(v, path) == 1
                else:
                    with pytest.raises(vaults.SerializationError, match='complex'):  # it cannot be a key
                        moving.import_file(v, path)

    @pytest.mark.skipif(os.name == 'nt', reason='Windows does not tell who may write a file')
    def test_the_folder_of_a_caches_value_counts_too(self, tmp_path):
        for inner in ('ab', 'ab/cd'):
            root = tmp_path / inner.replace('/', '')
            (root / 'ab' / 'cd').mkdir(parents=True)
            sqlite_file(root / 'cache.db', (CACHE,), (CACHED, ('k', 1, 4, 'ab/cd/e.val', None)))
            (root / 'ab/cd/e.val').write_bytes(bomb(tmp_path / 'ran'))
            (root / inner).chmod(0o777)
            fails(root, 'may write', inner, error=vaults.UntrustedPickleError)
        assert not (tmp_path / 'ran').exists()

    def test_a_stream_does_not_tell_who_wrote_it(self, v, tmp_path):
        line = json.dumps({'key': 'k', 'value': {'!pickle': ['', as_json._base64(bomb(tmp_path / 'ran'))]}})
        fails(io.StringIO(line), 'a stream does not tell', 'allow_pickle=True', 'line 1', error=vaults.UntrustedPickleError)
        assert moving.import_file(v, io.StringIO(line), allow_pickle=True) == 1
        assert not (tmp_path / 'ran').exists()  # stored, and not loaded

    def test_a_vault_that_takes_no_pickles_is_given_none(self, tmp_path):
        (tmp_path / 'a.jsonl').write_text(json.dumps({'key': 1, 'value': {'!pickle': ['', 'gARLAS4=']}}) + '\n')
        with contextlib.closing(Vault(':memory:', allow_pickle=False)) as v:
            with pytest.raises(vaults.UntrustedPickleError, match='line 1'):
                moving.import_file(v, tmp_path / 'a.jsonl', allow_pickle=True)
            assert len(v) == 0

    def test_a_pickle_behind_an_array_is_met_where_numpy_is_missing(self, tmp_path, monkeypatch):
        array = {'!ndarray': ['<i8', [1], 'C', {'!bytes': 'AAAAAAAAAAA='}]}
        path = tmp_path / 'a.jsonl'
        path.write_text(json.dumps({'key': 1, 'value': [array, {'!pickle': ['', 'gARLAS4=']}]}) + '\n')
        for name in ('numpy', 'numpy.lib', 'numpy.lib.format'):
            monkeypatch.setitem(sys.modules, name, None)
        fails(path, 'line 1', allow_pickle=False, error=vaults.UntrustedPickleError)


class TestMovingWhatIsMalformed:
    """Each error names the source and the place, says the cure, and leaves the vault as it was."""

    @pytest.mark.parametrize('name, text, words', [
        ('a.json', '{"a": 1, "b": }', ['Expecting value', "key 'b'", 'line 1']),
        ('a.json', '{"a": 1,\n"b" 2}', [': is expected', 'line 2']),
        ('a.json', '{"a": 1', [', or } is expected', 'line 1']),
        ('a.json', '{"a": 1}\n{"a": 2}', ['something follows', 'line 2', "kind='jsonlines'"]),
        ('a.json', '{"a": 1,}', ['a key in quotes']),
        ('a.json', '{1: 2}', ['a key in quotes']),
        ('a.json', '{"a": "cut', ['Unterminated', "key 'a'"]),
        ('a.json', '{"a": ' + '[' * 100_000, ['nested too deep', "key 'a'"]),
        ('a.json', '{"a": 1, "a\n": 2}', ['control character']),
        ('a.json', b'{"a": 1,\n "b": "\xff"}', ['utf-8', 'line 2', 'latin-1']),
        ('a.jsonl', '{"key": 1, "value": 1}\n{"key": 2}\n', ['line 2', '"value"', "kind='json'"]),
        ('a.jsonl', '{"key": 1, "value": 1}\n\n[1, 2]\n', ['line 3']),
        ('a.jsonl', '{"key": 1, "value": 1, "more": 1}\n', ['line 1']),
        ('a.jsonl', '{"key": 1, "value": 1}\n{"key": 1, "val', ['line 2', 'Unterminated']),
        ('a.jsonl', '{"key": {"a": 1}, "value": 1}', ['line 1', 'a key is']),
        ('a.jsonl', '{"key": NaN, "value": 1}', ['line 1', 'NaN']),
        ('a.jsonl', '{"key": {"!key": "AAAA"}, "value": 1}', ['line 1', 'damaged']),
        ('a.jsonl', '{"key": 1, "value": {"!set": [[1]]}}', ['line 1', 'docs/json.md']),
        ('a.jsonl', '{"key": 1, "value": ' + '[' * 100_000 + '\n', ['line 1']),
        ('a.jsonl', '{"key": ' + '[' * 100_000 + '\n', ['line 1']),
        ('a.jsonl', b'{"key": 1, "value": 1}\n{"key": 2, "value": "\xe9"}', ['line 2', 'latin-1']),
        ('a.csv', 'id,name\n1,Ann\n', ["['id', 'name']", 'key=...']),
        ('a.csv', 'key,key\n1,2\n', ["['key', 'key']"]),
        ('a.csv', 'key,b,b\n1,2,3\n', ['twice']),
        ('a.csv', 'key,value\na,1\nb,2,3\n', ['line 3', '3 fields for 2 columns']),
        ('a.csv', 'key,value\na\n', ['line 2', '1 field for 2 columns']),
        ('a.csv', 'key,value\na,"b\n\n', ['line 3']),
        ('a.csv', 'key,value\na,"b"c\n', ['line 2']),
        ('a.csv', 'key,value\na,' + 'x' * 200_000 + '\n', ['line 2', 'csv.field_size_limit']),
        ('a.csv', b'key,value\na,b\nc,\xe9\n', ['line 3', 'latin-1']),
        ('a.csv', 'key,value\na,b\n'.encode('utf-16'), ['utf-8', 'line 1', "for example 'utf-16'"]),
        ('a.jsonl', '{}\n'.encode('utf-16-be').join([b'\xfe\xff', b'']), ["for example 'utf-16'"]),
        ('a.csv', '', ['names no columns']),
        ('a', '', ['is empty', 'kind=']),
        ('a.json', '[1, 2]', ['a JSON list', 'jsonlines']),
        ('a', b'\x00\xff\x00', ['another sort']),
        ('a', b'SQLite format 3\x00', [])])
    def test_of_text(self, tmp_path, name, text, words):
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        error = vaults.VaultFormatError if words else vaults.VaultError
        fails(tmp_path / name, *words, error=error)

    def test_a_key_or_value_of_a_dbm(self, tmp_path):
        with contextlib.closing(dbm.dumb.open(str(tmp_path / 'a'), 'n')) as db:
            for n in range(vaults.peers.SAMPLE):
                db[f'{n}'] = pickle.dumps(n)
            db['plain'] = b'text'
        fails(tmp_path / 'a', "key 'plain'", "kind='dbm'")
        assert dict(moving.read(tmp_path / 'a', kind='dbm'))['plain'] == b'text'
        with contextlib.closing(dbm.dumb.open(str(tmp_path / 'a'), 'n')) as db:
            db[b'\xff'] = b''
        fails(tmp_path / 'a', r"key b'\xff'", 'or encoding=None', 'latin-1')
        assert dict(moving.read(tmp_path / 'a', encoding='latin-1')) == {'ÿ': b''}

    def test_a_dumb_dbm_that_was_cut(self, tmp_path):
        (tmp_path / 'a.dat').write_bytes(b'12345')
        for line in ("'b', (0, 6)\n", "'b', (0, -1)\n", "__import__('os'), (0, 1)\n", 'x\n', "'\0', (0, 1)\n",
                     "'\\x', (0, 1)\n", "'\\u20ac', (0, 1)\n"):
            (tmp_path / 'a.dir').write_text("'a', (0, 5)\n" + line, encoding='utf-8')
            fails(tmp_path / 'a', 'line 2', 'a.dir', error=vaults.VaultCorruptError)

    def test_of_sqlite(self, tmp_path):
        path = tmp_path / 'a.db'
        for statement, rows, words, error in [
                (SQLITEDICT, [('a', '1'), ('b', 'no JSON')], ["key 'b'", 'decode='], vaults.SerializationError),
                (SQLITEDICT, [('a', b'no pickle')], ["key 'a'", 'no', 'decode='], vaults.VaultFormatError),
                (SQLITEDICT, [('a', b'no pickle.')], ["key 'a'", 'decode='], vaults.SerializationError),
                (SQLITEDICT, [('a', '[' * 100_000)], ["key 'a'", 'decode='], vaults.SerializationError),
                (EARLIER, [(b'M\x01', b'X')], ['key 1', 'neither M nor P'], vaults.VaultFormatError),
                (EARLIER, [(b'M\x01', None)], ['key 1', 'neither M nor P'], vaults.VaultFormatError),
                (EARLIER, [(b'M\x01', b'M\x92\x01')], ['key 1', 'cannot be decoded'], vaults.SerializationError),
                (EARLIER, [(b'M\x80', b'M\x01')], ['key {}', 'a key is'], vaults.SerializationError),
                ('CREATE TABLE "Dict" (key BLOB, value BLOB)', [(b'a', None)], ["key 'a'", 'missing'],
                 vaults.VaultCorruptError),
                ('CREATE TABLE "Dict" (key BLOB, value BLOB)', [(b'\xff', b'x')], [r"key b'\xff'"],
                 vaults.VaultFormatError),
                ('CREATE TABLE a (b, c)', [], ['without a table'], vaults.VaultFormatError)]:
            if path.exists():
                path.unlink()
            table = statement.split()[2].partition('(')[0]
            sqlite_file(path, (statement,), *((f'INSERT INTO {table} VALUES (?, ?)', row) for row in rows))
            fails(path, *words, error=error)

    def test_of_a_damaged_sqlite_file(self, tmp_path):
        path = sqlite_file(tmp_path / 'a.db', (SQLITEDICT,), MANY)
        whole = path.read_bytes()
        path.write_bytes(whole[:4096] + b'\x07' * 4096 + whole[8192:])
        with pytest.raises(vaults.VaultError, match=r'a\.db cannot be read'):
            list(moving.read(path))

    @pytest.mark.parametrize('row, words, error', [
        (('k', 1, 2, '../../etc/passwd', None), ['outside'], vaults.VaultFormatError),
        (('k', 1, 2, '/etc/passwd', None), ['outside'], vaults.VaultFormatError),
        (('k', 1, 2, 'link', None), ['outside'], vaults.VaultFormatError),
        (('k', 1, 2, 'a\0b', None), ['outside'], vaults.VaultFormatError),
        (('k', 1, 2, b'cache.db', None), ['outside'], vaults.VaultFormatError),
        (('k', 1, 2, 'gone.val', None), ['missing', 'check(fix=True)'], vaults.VaultCorruptError),
        (('k', 1, 2, '.', None), ['outside'], vaults.VaultFormatError),
        (('k', 1, 2, 'fifo', None), ['missing'], vaults.VaultCorruptError),
        (('k', 1, 2, None, b'x'), ['mode 2'], vaults.VaultCorruptError),
        (('k', 1, 9, None, b'x'), ['mode 9'], vaults.VaultCorruptError),
        (('k', 1, 3, 'cache.db', None), ['cannot be decoded'], vaults.SerializationError),
        (('k', 1, 4, None, None), ['no'], vaults.VaultFormatError),
        ((b'x', 0, 1, None, 1), ["key b'x'"], vaults.VaultFormatError)])
    def test_of_a_cache(self, tmp_path, row, words, error):
        cache = tmp_path / 'cache'
        cache.mkdir()
        if hasattr(os, 'mkfifo'):
            os.mkfifo(str(cache / 'fifo'))
        (cache / 'link').symlink_to('/etc/passwd')
        sqlite_file(cache / 'cache.db', (CACHE,), (CACHED, row))
        fails(cache, *words, 'key ', error=error)

    @pytest.mark.skipif(not hasattr(os, 'mkfifo'), reason='no named pipes here')
    def test_what_is_no_file(self, tmp_path):
        os.mkfifo(str(tmp_path / 'fifo'))
        os.mkfifo(str(tmp_path / 'half.dir'))
        (tmp_path / 'half.dat').write_bytes(b'')
        fails(tmp_path / 'fifo', 'neither file nor folder', 'open text file')
        fails(tmp_path / 'fifo', 'neither file nor folder', kind='csv')
        fails(tmp_path, 'a folder without cache.db')
        for missing in ('missing', 'half', 'a\0b', '/missing/a'):
            for kind in (None, 'csv', 'shelve', 'sqlitedict', 'diskcache', 'vault'):
                fails(tmp_path / missing, 'nothing at', kind=kind, error=vaults.VaultNotFoundError)
        fails(tmp_path, 'cannot be read', kind='json', error=vaults.VaultError)

    @pytest.mark.parametrize('name', ['shelve-dumb', 'vaults-earlier.sqlite'])
    def test_a_vault_is_not_imported_into_itself(self, root, name, peers):
        for file in peers.glob(f'{name}*'):
            shutil.copy(file, root)
        with pytest.raises(vaults.VaultError, match='one name'):
            if name == 'shelve-dumb':  # of which the vault would be the name without a suffix
                moving.import_file(Vault(root / name), str(root / name))
            else:
                v = Vault('v')
                moving.import_file(v, v.db_path)

    def test_what_is_read_as_another_kind(self, peers, tmp_path):
        for name in ('json-object.json', 'csv-pairs.csv', 'sqlitedict-json.sqlite', 'shelve-dumb', 'diskcache-cache'):
            right = moving.recognise(peers / name)
            for kind in vaults.peers.READERS:
                if kind not in (right, 'dbm', *vaults.peers.TABLED) and (name, kind) != ('json-object.json', 'csv'):
                    with pytest.raises(vaults.VaultError, match=f'{name}|column'):
                        list(moving.read(peers / name, kind=kind))

    def test_options_that_do_not_exist(self, peers):
        for options, words in (({'encoding': 'klingon'}, 'klingon'), ({'encoding': 'rot13'}, 'rot13')):
            with pytest.raises(vaults.VaultError, match=words):
                moving.read(peers / 'dbm-dumb', **options)
        with pytest.raises(TypeError, match='allow_pickle'):
            moving.read(peers / 'dbm-dumb', allow_pickle='yes')
        with pytest.raises(vaults.VaultError, match='bytes: open it as text'):
            list(moving.read(io.BytesIO(b'{}')))
        with pytest.raises(vaults.VaultError, match='from a path'):
            moving.read(io.StringIO(), kind='shelve')

    def test_an_import_that_is_killed_half_way_leaves_the_vault_as_it_was(self, v, tmp_path):
        v['before'] = 1
        with open(tmp_path / 'a.jsonl', 'w') as file:
            file.writelines(f'{{"key": {n}, "value": "{"x" * 1000}"}}\n' for n in range(30_000))
        done = run('''
            import os, pathlib, signal, sys, vaults
            from vaults import moving
            def progress(done):
                if done == 25_000:
                    os.kill(os.getpid(), signal.SIGKILL)
            moving.import_file(vaults.Vault(pathlib.Path(sys.argv[1])), sys.argv[2], progress=progress)
        ''', v.db_path, tmp_path / 'a.jsonl')
        assert done.returncode == -signal.SIGKILL
        assert os.path.getsize(f'{v.db_path}-wal') > 1 << 20  # so that something was written
        assert v.items() == [('before', 1)]


class TestJsonObjects:
    @given(st.dictionaries(texts, st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=3), max_leaves=8), max_size=6),
        st.integers(1, 9), st.booleans(), st.sampled_from([None, 1]))
    def test_come_over_whatever_piece_of_them_is_in_memory(self, wanted, chunk, escaped, indent):
        text = json.dumps(wanted, ensure_ascii=escaped, indent=indent)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(vaults.peers, 'CHUNK', chunk)
            read = list(moving.read(io.StringIO(text), kind='json'))
        assert repr(read) == repr([*wanted.items()])

    def test_numbers_and_words_may_be_cut_anywhere(self, monkeypatch):
        text = '{"a":-1.25e+10,"b":[1e5,-0.5,12345678901234567890123],"\\ud83d\\udc0d":Infinity,"d":-Infinity,"e":null}  '
        for chunk in range(1, len(text)):
            monkeypatch.setattr(vaults.peers, 'CHUNK', chunk)
            assert list(moving.read(io.StringIO(text), kind='json')) == list(json.loads(text).items())

    def test_take_no_more_memory_than_an_entry(self, tmp_path):
        asked = []

        class File(io.StringIO):
            def read(self, size=-1):
                asked.append(size)
                return super().read(size)
        text = json.dumps({str(n): 'x' * 1000 for n in range(2000)})
        assert len(list(moving.read(File(text), kind='json'))) == 2000
        assert min(asked) >= 0 and max(asked) <= 2 * vaults.peers.CHUNK < len(text) / 10

    def test_what_is_wrong_at_the_start_is_not_searched_to_the_end(self, tmp_path):
        class Endless(io.StringIO):
            def read(self, size=-1):
                assert self.tell() < 10 * vaults.peers.CHUNK
                return super().read(size)
        for text in ('{"a": 1} x', '{"a": [1, 2', '{"a": nul', '{"a": 1 2'):
            with pytest.raises(vaults.VaultFormatError):
                list(moving.read(Endless(text + ',,' * 20 * vaults.peers.CHUNK), kind='json'))

    def test_of_an_entry_in_one_line_is_an_entry(self, tmp_path):
        for text, kind in (('{"key": 1, "value": {}}', 'jsonlines'), ('\ufeff\n {"value":1,"key":2}', 'jsonlines'),
                           ('{"key": "k", "value": 1, "x": 1}', 'json'), ('{"key": [' + '1,' * 90_000, 'jsonlines'),
                           ('{}', 'json'), ('{', 'json'), ('{"a": [' + '1,' * 90_000, 'json'), ('{"a":' * 90_000, 'json')):
            (tmp_path / 'a').write_text(text, encoding='utf-8')
            assert moving.recognise(tmp_path / 'a') == kind


class TestCsv:
    @pytest.mark.parametrize('text, options, wanted', [
        ('key,value\na,1\n', {}, {'a': '1'}),
        ('value;key\n1;a\n', {}, {'a': '1'}),
        ('key\tb\tvalue\na,a\t1\t2', {}, {'a,a': {'b': '1', 'value': '2'}}),
        ('id,value\n1,a\n', {'key': 'id'}, {'1': 'a'}),
        ('key\na\nb\n', {}, {'a': {}, 'b': {}}),
        ('\ufeffkey,value\r\na,"x\r\ny"\r\n\r\nb,\r\n', {}, {'a': 'x\r\ny', 'b': ''}),
        ('"the key";"a,b"\n"1;2";"say ""hi"""\n', {'key': 'the key'}, {'1;2': {'a,b': 'say "hi"'}}),
        ('key,value\n', {}, {}),
        ('naïve,value\né,ü\n', {'key': 'naïve', 'encoding': 'latin-1'}, {'é': 'ü'}),
        ('key,value\né,ü\n', {'encoding': 'utf-16'}, {'é': 'ü'})])
    def test_the_columns_become_key_and_value(self, tmp_path, text, options, wanted):
        (tmp_path / 'a.txt').write_bytes(text.encode(options.get('encoding', 'utf-8')))
        assert moving.recognise(tmp_path / 'a.txt') == 'csv' if not options else True
        assert list(moving.read(tmp_path / 'a.txt', **options)) == list(wanted.items())
        stream = io.StringIO(text.lstrip('\ufeff'), newline='')
        assert dict(moving.read(stream, kind='csv', key=options.get('key'))) == wanted

    def test_a_nul_is_read_or_refused_but_never_dropped(self, tmp_path):
        (tmp_path / 'a.csv').write_text('key,value\na,x\0y\n')
        if sys.version_info >= (3, 11):
            assert dict(moving.read(tmp_path / 'a.csv')) == {'a': 'x\0y'}
        else:
            fails(tmp_path / 'a.csv', 'NUL', 'line 2')


rich = st.recursive(
    st.one_of(flat_keys, st.floats(), st.binary().map(bytearray), st.complex_numbers(), st.times(), st.timedeltas(),
              st.decimals(), st.fractions(), st.builds(range, st.integers(-9, 9), st.integers(-9, 9), st.integers(1, 3)),
              st.sampled_from([Ellipsis, len, collections.OrderedDict(a=1), float('-nan'), '\ud800', {'!tuple': 1},
                               msgpack.ExtType(5, b'x'), msgpack.Timestamp(1, 2), {'!': {}}, {'a': 1, '!b': 2}])),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.lists(inner, max_size=3).map(tuple),
                            st.dictionaries(st.text() | any_key, inner, max_size=3),
                            st.sets(any_key, max_size=3), st.frozensets(any_key, max_size=3)), max_leaves=6)


def raw_entries(v):
    return [entry for page in v._store.scan() for entry in zip(map(repr, page[0]), page[1])]


class TestExport:
    """A vault as JSON Lines, and back, exactly."""

    @given(st.lists(st.tuples(any_key, rich), max_size=8))
    def test_all_comes_back_byte_for_byte(self, pairs):
        with contextlib.closing(Vault(':memory:')) as v, contextlib.closing(Vault(':memory:')) as back:
            v.put_many(pairs)
            file = io.StringIO()
            assert moving.export(v, file) == len(v)
            lines = file.getvalue().encode().decode().split('\n')[:-1]
            assert [set(json.loads(line)) for line in lines] == [{'key', 'value'}] * len(v)
            file.seek(0)
            assert moving.import_file(back, file, allow_pickle=True) == len(v)
            assert raw_entries(back) == raw_entries(v)
            back._check()

    @pytest.mark.parametrize('depth', [1, 62, 63, 64, 65, 200, 500])
    def test_values_nested_deep_come_back(self, v, depth):
        value = 'core'
        for n in range(depth):
            value = [value] if n % 2 else {'a': value}
        v['deep'] = value
        file = io.StringIO()
        moving.export(v, file)
        with contextlib.closing(Vault(':memory:')) as back:
            moving.import_file(back, io.StringIO(file.getvalue()))
            assert raw_entries(back) == raw_entries(v)

    def test_a_pickle_whose_class_is_gone_survives(self, v, tmp_path):
        gone = types.ModuleType('gone')
        sys.modules['gone'] = gone
        exec('class Thing:\n    pass', vars(gone))
        registered = type('Registered', (), {})
        vaults.register(registered, lambda obj: [1], lambda payload: registered(), name='gone.Registered')
        v['thing'] = [gone.Thing(), {'a': gone.Thing()}]
        v['registered'] = (registered(),)
        del sys.modules['gone'], values._by_name['gone.Registered'], values._by_class[registered]
        moving.export(v, tmp_path / 'a.jsonl')
        assert 'gone.Thing' in (tmp_path / 'a.jsonl').read_text()
        with Vault('back') as back:
            assert moving.import_file(back, tmp_path / 'a.jsonl') == 2
            assert raw_entries(back) == raw_entries(v)
            with pytest.raises(vaults.SerializationError, match='gone'):
                back['thing']

    def test_no_pickle_runs(self, tmp_path):
        with contextlib.closing(Vault('bomb', allow_pickle=False)) as v:
            v._store.put('k', msgpack.packb(msgpack.ExtType(values.PICKLE, bomb(tmp_path / 'ran'))))
            assert moving.export(v, tmp_path / 'a.jsonl') == 1
        assert not (tmp_path / 'ran').exists()

    def test_lines_are_utf_8_in_order_of_insertion(self, v, tmp_path):
        v.update({'z': 'Grüße\u2028\x85', ('a', 1): b'\x00', 'a': None})
        v['z'] = 'é'
        moving.export(v, tmp_path / 'out.jsonl')
        assert (tmp_path / 'out.jsonl').read_bytes() == (
            '{"key": "z", "value": "é"}\n{"key": ["a", 1], "value": {"!bytes": "AA=="}}\n'
            '{"key": "a", "value": null}\n').encode()
        assert os.listdir(tmp_path / 'vaults') and not (tmp_path / 'out.jsonl.partial').exists()

    def test_it_is_one_state_of_the_vault(self, v, tmp_path):
        v.update(dict.fromkeys(range(3000), 'old'))
        reader = Vault(pathlib.Path(v.db_path), flag='r')

        def meddle(done):
            if done == 1000:
                v.update(dict.fromkeys(range(3000), 'new'))
        moving.export(reader, tmp_path / 'a.jsonl', progress=meddle)
        reader.close()
        assert v[2999] == 'new'
        assert 'new' not in (tmp_path / 'a.jsonl').read_text()

    def test_nothing_is_written_over(self, v, tmp_path):
        for taken in ('a.jsonl', 'a.jsonl.partial'):
            (tmp_path / taken).write_text('mine')
            with pytest.raises(vaults.VaultError, match='give another path'):
                moving.export(v, tmp_path / 'a.jsonl')
            assert (tmp_path / taken).read_text() == 'mine'
            (tmp_path / taken).unlink()

    def test_what_fails_half_way_leaves_nothing(self, v, tmp_path):
        v.update(dict.fromkeys(range(3000)))

        def interrupt(done):
            assert (tmp_path / 'a.jsonl.partial').exists()
            raise KeyboardInterrupt
        with pytest.raises(KeyboardInterrupt):
            moving.export(v, tmp_path / 'a.jsonl', progress=interrupt)
        with pytest.raises(vaults.VaultFullError, match='nothing was written'):
            moving.export(v, tmp_path / 'missing' / 'a.jsonl')
        raw = sqlite3.connect(v.db_path)
        raw.execute("UPDATE entries SET value = x'c1' WHERE key = 2000")
        raw.commit()
        raw.close()
        with pytest.raises(vaults.VaultCorruptError, match='2000'):
            moving.export(v, tmp_path / 'a.jsonl')
        assert not list(tmp_path.glob('a.jsonl*'))
        del v[2000]

    def test_a_stream_must_be_utf_8_and_has_its_own_errors(self, v):
        v['é'] = 1
        with pytest.raises(vaults.VaultError, match="encoding='utf-8'"):
            moving.export(v, io.TextIOWrapper(io.BytesIO(), encoding='ascii', write_through=True))

        class Closed(io.StringIO):
            def write(self, text):
                raise BrokenPipeError
        with pytest.raises(BrokenPipeError):
            moving.export(v, Closed())
        v['after'] = 1

    def test_an_empty_vault_is_an_empty_file(self, v, tmp_path):
        assert moving.export(v, tmp_path / 'a.jsonl') == 0
        assert (tmp_path / 'a.jsonl').read_bytes() == b''
        assert moving.import_file(v, tmp_path / 'a.jsonl') == 0


class TestJsonPage:
    """docs/json.md says what an export looks like, and a name in it keeps its meaning."""

    @staticmethod
    def rows(section):
        page = (HERE / 'docs' / 'json.md').read_text(encoding='utf-8').partition(f'## {section}\n')[2].partition('\n## ')[0]
        return re.findall(r'^\| `(.*)` \| `(.*)` \|$', page, re.M)

    @pytest.fixture(autouse=True)
    def registry(self, monkeypatch):
        for name in ('_by_class', '_by_name'):
            monkeypatch.setattr(values, name, dict(getattr(values, name)))

    def evaluated(self, text):
        if 'numpy' in text:
            pytest.importorskip('numpy')
        if 'ZoneInfo' in text:
            pytest.importorskip('zoneinfo')
        if 'dateutil' in text:
            pytest.importorskip('dateutil.tz')

        @dataclasses.dataclass
        class Point:
            x: int
            y: int
        known = {name: __import__(name) for name in ('msgpack', 'struct', *(['numpy'] if 'numpy' in text else []),
                                                     *(['zoneinfo'] if 'ZoneInfo' in text else []),
                                                     *(['dateutil'] if 'dateutil' in text else []))}
        for module in (dt, pathlib, decimal, fractions, uuid, *([known['zoneinfo']] if 'zoneinfo' in known else [])):
            known.update(vars(module))
        if 'Point' in text:
            values._by_name.pop('Point', None)  # of another row
            vaults.register(Point, name='Point')
        return eval(text, {**known, 'Point': Point})

    @pytest.mark.parametrize('value, form', rows.__func__('Values'))
    def test_each_value_is_written_so_and_read_back(self, v, value, form):
        v['k'] = self.evaluated(value)
        file = io.StringIO()
        moving.export(v, file)
        assert file.getvalue() == f'{{"key": "k", "value": {form}}}\n'
        with contextlib.closing(Vault(':memory:')) as back:
            moving.import_file(back, io.StringIO(file.getvalue()), allow_pickle=True)
            assert raw_entries(back) == raw_entries(v)

    @pytest.mark.parametrize('key, form', rows.__func__('Keys'))
    def test_each_key_is_written_so_and_read_back(self, v, key, form):
        v[self.evaluated(key)] = None
        file = io.StringIO()
        moving.export(v, file)
        assert file.getvalue() == f'{{"key": {form}, "value": null}}\n'
        with contextlib.closing(Vault(':memory:')) as back:
            moving.import_file(back, io.StringIO(file.getvalue()))
            assert raw_entries(back) == raw_entries(v)

    def test_no_name_is_missing(self):
        page = (HERE / 'docs' / 'json.md').read_text(encoding='utf-8')
        for tag in {*as_json.READERS, '!msgpack', '!key'}:
            assert f'{{"{tag}": ' in page, tag
        assert len(self.rows('Values')) > 35 and len(self.rows('Keys')) > 12

    def test_what_is_odd_is_written_as_the_page_says(self, v):
        v._store.put('k', msgpack.packb(msgpack.ExtType(99, b'x')))
        file = io.StringIO()
        moving.export(v, file)
        assert '"value": {"!ext": [99, "eA=="]}}' in file.getvalue()
        del v['k']
        nested = 1
        for _ in range(64):
            nested = [nested]
        assert list(as_json.from_value(values.dumps(nested))) == ['!msgpack']
        assert list(as_json.from_value(values.dumps(nested[0]))) != ['!msgpack']
        assert moving.import_file(v, io.StringIO('{"key": "k", "value": {"!ext": [99, "eA=="]}}')) == 1
        with pytest.raises(vaults.SerializationError, match='code 99'):
            v['k']
        del v['k']
        assert moving.import_file(v, io.StringIO('{"key": "a", "value": {"!new": 1}}')) == 1
        assert v['a'] == {'!new': 1}


class Planted:
    """Whose pickle makes a file when it is loaded."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.fixture
def command(root, capsys, monkeypatch):
    """The command, run in this process: a function that returns its exit status, output and errors."""
    monkeypatch.setenv('VAULTS_ROOT', str(root))
    vaults.set_root_path(None)

    def run_command(*arguments, stdin=b''):
        monkeypatch.setattr(sys, 'stdin', io.TextIOWrapper(io.BytesIO(stdin)))
        before = signal.getsignal(signal.SIGINT)
        environ = dict(os.environ)
        status = cli.main(list(map(str, arguments)))
        assert dict(os.environ) == environ
        assert signal.getsignal(signal.SIGINT) is before
        return SimpleNamespace(status=status, **dict(zip(('out', 'err'), capsys.readouterr())))
    return run_command


@pytest.fixture
def books(root):
    """A vault with an entry of most kinds."""
    with contextlib.closing(Vault(pathlib.Path(root, 'vaults', 'books.db'))) as v:
        v.update({'dune': 'Frank Herbert', 'emma': 'Jane Austen', 7: [1, 2], ('log', 2026): (1, 2), b'\0': {'a': b'1'}})
    return v


def spawn(*arguments, **options):
    """Start the real command, as a process of its own, with warnings as errors."""
    env = {**os.environ, 'PYTHONPATH': str(HERE), 'PYTHONUNBUFFERED': '', **options.pop('env', {})}
    options = {'stdin': subprocess.DEVNULL, 'stdout': subprocess.PIPE, 'stderr': subprocess.PIPE, **options}
    return subprocess.Popen([sys.executable, '-W', 'error', '-m', 'vaults', *arguments], env=env, **options)


def finished(process, data=None):
    out, err = process.communicate(data, timeout=60)
    return SimpleNamespace(status=process.returncode, out=(out or b'').decode(), err=(err or b'').decode())


def at_terminal(root, *arguments, streams=('stdin', 'stdout', 'stderr'), typed=b'', **env):
    """Run the command with streams that are a terminal; return its status and what is seen, other streams discarded."""
    terminal, inside = os.openpty()
    others = dict.fromkeys(('stdin', 'stdout', 'stderr'), subprocess.DEVNULL)
    env = {'VAULTS_ROOT': str(root), 'TERM': 'xterm', 'NO_COLOR': '', 'COLUMNS': '80', **env}
    process = spawn(*arguments, env=env, **{**others, **dict.fromkeys(streams, inside)})
    os.close(inside)
    os.write(terminal, typed)
    seen = b''
    with contextlib.suppress(OSError):  # Linux ends a terminal with an error
        while not seen or select.select([terminal], [], [], 60)[0]:
            part = os.read(terminal, 65536)
            if not part:
                break
            seen += part
    status = process.wait(60)
    os.close(terminal)
    return SimpleNamespace(status=status, seen=seen.decode())


class TestCommand:
    def test_a_value_that_was_set_is_got_listed_counted_and_deleted(self, command, root):
        assert command('set', 'books', 'dune', 'Frank Herbert').status == 0
        assert command('get', 'books', 'dune').out == 'Frank Herbert\n'
        assert Vault(pathlib.Path(root, 'vaults', 'books.db')).items() == [('dune', 'Frank Herbert')]
        assert command('list').out == 'books\n'
        assert command('count', 'books').out == '1\n'
        done = command('delete', 'books', 'dune')
        assert (done.status, done.out, done.err) == (0, '', '')
        assert command('count', 'books').out == '0\n'

    def test_a_vault_is_a_name_under_the_root_or_a_path(self, command, root, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        command('--root', tmp_path / 'one', 'set', 'x', 'k', 'under a root')
        command('set', tmp_path / 'two', 'k', 'a separator')
        command('set', 'three.db', 'k', 'an ending')
        assert command('get', tmp_path / 'one' / 'vaults' / 'x.db', 'k').out == 'under a root\n'
        assert command('get', './two', 'k').out == 'a separator\n'
        assert command('get', tmp_path / 'three.db', 'k').out == 'an ending\n'

    def test_root_and_json_stand_before_or_after_the_command(self, command, tmp_path):
        for arguments in (['--root', tmp_path, '--json', 'set', 'x', '1', '[1]'],
                          ['set', '--json', 'y', '2', '[2]', '--root', tmp_path],
                          ['--json', 'set', f'--root={tmp_path}', 'z', '3', '[3]']):
            assert command(*arguments).status == 0
        assert command('list', '--root', tmp_path, '--json').out == '["x", "y", "z"]\n'
        assert command('--root', '/nowhere', 'get', 'y', '2', '--json', '--root', tmp_path).out == '[2]\n'

    def test_list_names_vaults_alone_and_an_empty_root_has_none(self, command, root, books):
        (root / 'vaults' / 'notes.txt').write_text('')
        (root / 'vaults' / 'folder.db').mkdir()
        command('set', 'a b', 'k', 'v')
        assert command('list').out == 'a b\nbooks\n'
        (root / 'empty').mkdir()
        done = command('list', '--root', root / 'empty')
        assert (done.status, done.out) == (0, '')
        assert command('list', '--root', root / 'nowhere').status == 1

    def test_keys_are_sorted_and_shown_as_text_or_as_json(self, command, books):
        assert command('keys', 'books').out.splitlines() == ['7', 'dune', 'emma', '{"!bytes": "AA=="}', '["log", 2026]']
        assert command('keys', 'books', '--reverse', '--limit', 2).out.splitlines() == ['["log", 2026]',
                                                                                       '{"!bytes": "AA=="}']
        assert command('keys', 'books', '--json', '--limit', 2).out.splitlines() == ['7', '"dune"']
        assert command('keys', 'books', '--limit', 0).out == ''

    def test_ranges_are_half_open_and_meet_prefixes(self, command, root):
        v = Vault(pathlib.Path(root, 'vaults', 'r.db'))
        v.update(dict.fromkeys(['a', 'aa', 'ab', 'ac', 'b', 'null', None, 1, 2, 3, ('a', 1), ('a', 2), ('b',)], 0))
        v.close()

        def seen(*arguments):
            found = command('keys', 'r', *arguments).out.replace(' ', '').splitlines()
            assert command('count', 'r', *arguments).out == f'{len(found)}\n'
            assert len(command('show', 'r', *arguments).out.splitlines()) == len(found)
            return found
        assert seen('--from', 'aa', '--to', 'b') == ['aa', 'ab', 'ac']
        assert seen('--from', 'b', '--to', 'aa') == []
        assert seen('--prefix', 'a') == ['a', 'aa', 'ab', 'ac']
        assert seen('--prefix', 'a', '--from', 'aa', '--to', 'zz') == ['aa', 'ab', 'ac']
        assert seen('--prefix', 'a', '--from', 'A', '--to', 'ab') == ['a', 'aa']
        assert seen('--json', '--from', '2', '--to', '"aa"') == ['2', '3', '"a"']
        assert seen('--json', '--prefix', '["a"]') == ['["a",1]', '["a",2]']
        assert seen('--json', '--from', 'null', '--to', '["a"]') == ['null']
        assert len(seen()) == 13

    def test_get_shows_text_as_it_is_and_all_else_as_json(self, command, root):
        v = Vault(pathlib.Path(root, 'vaults', 'g.db'))
        for value, shown in (('a\nb\té', 'a\nb\té'), ('', ''), (1, '1'), (None, 'null'), ([1, 'é'], '[1, "é"]'),
                             ({'a': (1,)}, '{"a": {"!tuple": [1]}}'), ([b'\0'], '[{"!bytes": "AA=="}]'),
                             (float('nan'), '{"!float": "nan"}'), (2**70, '{"!int": "0x400000000000000000"}')):
            v['k'] = value
            assert command('get', 'g', 'k').out == shown + '\n'
        v['k'] = 'a\n"é"'
        assert command('get', 'g', '"k"', '--json').out == '"a\\n\\"é\\""\n'
        v.close()

    def test_a_value_comes_from_standard_input(self, command):
        for typed, kept in ((b'', ''), (b'\n', ''), (b'a\n\n', 'a\n'), (b'\xc3\xa9', '\xe9'), (b'a\r\nb', 'a\r\nb')):
            assert command('set', 's', 'k', '-', stdin=typed).status == 0
            assert command('get', 's', 'k').out == kept + '\n'
        assert command('set', 's', '"k"', '-', '--json', stdin=b'{"a":\n [1]}\n').status == 0
        assert command('get', 's', 'k').out == '{"a": [1]}\n'
        assert command('set', 's', '-', 'v').status == 0
        assert command('get', 's', '-').out == 'v\n'

    def test_show_is_an_aligned_table(self, command, root, monkeypatch):
        monkeypatch.setenv('COLUMNS', '30')
        v = Vault(pathlib.Path(root, 'vaults', 't.db'))
        v.update({'a': 'short', 'exactly': 'x' * 13, 'over': 'x' * 14, '日本': 'wide', 'e\u0301e\u0301': 'two columns', 'long': 'x' * 99, 'wide': '語' * 99,
                  'z' * 40: [1, 2, 3]})
        v.close()
        assert command('show', 't').out.splitlines() == [
            'a                short',
            'exactly          xxxxxxxxxxxxx',
            'e\u0301e\u0301               two columns',
            'long             xxxxxxxxxxxx…',
            'over             xxxxxxxxxxxx…',
            'wide             語語語語語語…',
            'zzzzzzzzzzzzzz…  [1, 2, 3]',
            '日本             wide']

    def test_show_tells_how_many_more_there_are(self, command, root):
        v = Vault(pathlib.Path(root, 'vaults', 'm.db'))
        v.update((n, n) for n in range(60))
        v.close()
        lines = command('show', 'm').out.splitlines()
        assert len(lines) == 51 and lines[:2] == ['0   0', '1   1'] and lines[50] == '... and 10 more'
        assert command('show', 'm', '--limit', 2, '--reverse').out.splitlines() == ['59  59', '58  58', '... and 58 more']
        assert len(command('show', 'm', '--limit', 60).out.splitlines()) == 60
        assert len(command('show', 'm', '--json').out.splitlines()) == 60  # a program wants them all
        assert len(command('show', 'm', '--json', '--limit', 2).out.splitlines()) == 2

    def test_show_as_json_is_what_export_writes(self, command, books):
        shown = command('show', 'books', '--json').out.splitlines()
        assert sorted(shown) == sorted(command('export', 'books').out.splitlines())
        assert json.loads(shown[0]) == {'key': 7, 'value': [1, 2]}

    def test_info_says_what_there_is(self, command, root, books):
        command('set', 'books', 'large', 'x' * 5000)
        facts = json.loads(command('info', 'books', '--json').out)
        size = os.path.getsize(root / 'vaults' / 'books.db')
        assert facts.pop('largest')[0] == {'key': 'large', 'bytes': 5003}
        assert facts == {'name': 'books', 'path': str(root / 'vaults' / 'books.db'), 'format': 1, 'bytes': size,
                         'entries': 6, 'sections': ['log'], 'sqlite': sqlite3.sqlite_version, 'journal': 'wal',
                         'wal_reset_race': sqlite.has_wal_reset_race(sqlite3.sqlite_version_info)}
        lines = command('info', 'books').out.splitlines()
        assert f'bytes     {size}' in lines and 'largest   5003 bytes: large' in lines and len(lines) == 13
        race = 'keep other programs' in next(line for line in lines if line.startswith('sqlite '))
        assert race == facts['wal_reset_race'] and cli.RACE.index('can damage') < cli.RACE.index('keep other') < cli.RACE.index('cannot')
        affected = [sqlite.has_wal_reset_race(version) for version in (
            (3, 40, 1), (3, 44, 5), (3, 44, 6), (3, 45, 0), (3, 50, 6), (3, 50, 7), (3, 51, 2), (3, 51, 3), (3, 53, 0))]
        assert affected == [True, True, False, True, True, False, True, False, False]

    def test_check_says_sound_or_names_the_problems(self, command, root, books):
        done = command('check', 'books')
        assert (done.status, done.out) == (0, 'sound: 5 entries\n')
        assert command('check', 'books', '--json').out == '[]\n'
        raw = sqlite3.connect(root / 'vaults' / 'books.db')
        raw.execute("UPDATE entries SET value = x'01' WHERE key = 'dune'")
        raw.commit()
        raw.close()
        done = command('check', 'books')
        assert done.status == 1 and "'dune'" in done.out and done.out.count('\n') == 1
        done = command('check', 'books', '--json')
        assert done.status == 1 and len(json.loads(done.out)) == 1
        assert command('get', 'books', 'dune').status == 1

    def test_compact_gives_space_back_and_says_how_much(self, command, root):
        v = Vault(pathlib.Path(root, 'vaults', 'c.db'))
        v.update((n, 'x' * 1000) for n in range(500))
        del v[10:]
        v.close()
        done = json.loads(command('compact', 'c', '--json').out)
        assert done['before'] > 500_000 > 50_000 > done['after'] == os.path.getsize(root / 'vaults' / 'c.db')
        assert command('compact', 'c').out == f"{done['after']} bytes before, {done['after']} after\n"

    def test_a_folder_in_the_way_is_called_one(self, command, root, books):
        for verb, place in (('backup', root), ('backup', f'{root}/'), ('recover', f'{root}/')):
            done = command(verb, 'books', place)
            assert done.status == 1 and done.out == '', done.out
            assert done.err == f'vaults: there is a folder at {root} already: give the path of a new file\n'
        assert 'a name is not "."' in command('recover', 'books', '.').err and not (root / 'vaults' / '..db').exists()
        with pytest.raises(vaults.VaultValueError, match='a name is not "."'):
            Vault('.')

    def test_backup_writes_a_whole_copy_and_refuses_to_overwrite(self, command, root, books):
        target = root / 'copy.db'
        done = command('backup', 'books', target)
        assert (done.status, done.out) == (0, f'{target.stat().st_size} bytes written to {target}\n')
        assert command('export', target).out == command('export', 'books').out != ''
        before = target.read_bytes()
        assert command('backup', 'books', target).status == 1 and target.read_bytes() == before
        assert command('backup', 'books', root / 'other.db', '--json').out == f'{{"bytes": {len(before)}}}\n'

    def test_what_was_exported_is_imported(self, command, root, books):
        done = command('export', 'books', root / 'books.jsonl')
        assert (done.status, done.out) == (0, f"5 entries written to {root / 'books.jsonl'}\n")
        assert command('export', 'books', '-').out == (root / 'books.jsonl').read_text('utf-8')
        assert command('export', 'books', root / 'books.jsonl').status == 1
        assert command('import', root / 'books.jsonl', 'new').out == '5 entries imported, 0 of them replaced earlier ones\n'
        command('delete', 'new', 'dune')
        lines = (root / 'books.jsonl').read_bytes()
        assert command('import', '-', 'new', '--json', stdin=lines).out == '{"imported": 5, "replaced": 4}\n'
        assert sorted(command('export', 'new').out.splitlines()) == sorted(command('export', 'books').out.splitlines())

    def test_import_passes_its_options_on(self, command, root):
        (root / 'people').write_text('id,name\n1,Zoë\n', 'latin-1')
        done = command('import', root / 'people', 'p', '--kind', 'csv', '--key', 'id', '--encoding', 'latin-1')
        assert done.out == '1 entry imported, 0 of them replaced earlier ones\n', done.err
        assert command('get', 'p', '1').out == '{"name": "Zoë"}\n'
        (root / 'object').write_text('{"key": "a", "value": 1}')
        assert command('import', root / 'object', 'o', '--kind', 'json').status == 0
        assert command('export', 'o').out == '{"key": "key", "value": "a"}\n{"key": "value", "value": 1}\n'
        assert command('import', '-', 'o', '--encoding', 'nonsense').status == 2
        command('import', '-', 'o', '--encoding', 'None', stdin='{"key": "none", "value": "é"}'.encode())
        assert command('get', 'o', 'none').out == 'é\n'
        done = command('import', '-', 'o', '--encoding', 'latin-1', stdin=b'{"key": "l", "value": "\xe9"}')
        assert command('get', 'o', 'l').out == 'é\n'
        command('import', '-', 'o', stdin=b'\xef\xbb\xbf{"key": "bom", "value": 1}')
        assert command('get', 'o', 'bom').out == '1\n'
        assert 'latin-1' in command('import', '-', 'o', stdin=b'{"key": "l", "value": "\xe9"}').err
        raw = sqlite3.connect(root / 'lite.db')
        for table in 'ab':
            raw.execute(f'CREATE TABLE {table} (key TEXT PRIMARY KEY, value BLOB)')
            raw.execute(f'INSERT INTO {table} VALUES (?, ?)', (table, pickle.dumps([Planted(root / f'made {table}'), collections.OrderedDict(a=1)])))
        raw.commit()
        raw.close()
        (root / 'lite.db').chmod(0o666)
        (root / 'vaults').chmod(0o777)
        assert command('import', root / 'lite.db', 'lite', '--table', 'a').status == 1
        assert not (root / 'made a').exists()
        assert command('import', root / 'lite.db', 'lite', '--table', 'a', '--allow-pickle').status == 0
        assert (root / 'made a').exists() and not (root / 'made b').exists()
        assert command('keys', 'lite').out == 'a\n'
        assert command('get', 'lite', 'a', '--allow-pickle').out == repr([None, collections.OrderedDict(a=1)]) + '\n'

    def test_shell_has_the_vault_open_and_closes_it(self, root, books):
        env = {'VAULTS_ROOT': str(root)}
        done = finished(spawn('shell', 'books', stdin=subprocess.PIPE, env=env),
                        b"print(v['dune'], vaults.__version__)\nv['new'] = 1\nraise SystemExit(3)\n")
        assert (done.status, done.out, done.err) == (3, f'Frank Herbert {vaults.__version__}\n', '')
        assert Vault(pathlib.Path(books.db_path))['new'] == 1
        done = finished(spawn('shell', 'books', stdin=subprocess.PIPE, env=env), b'1 +\nlen(v)\nclass C: 0\n\nC\n')
        assert done.status == 0 and done.out == "6\n<class '__console__.C'>\n" and 'SyntaxError' in done.err

    @needs_posix
    def test_shell_at_a_terminal_greets_and_goes_on_after_ctrl_c(self, root, books):
        done = at_terminal(root, 'shell', 'books', typed=b"\x03v['dune']\nexit(4)\n")
        assert done.status == 4 and "Vault('books', 5 items) is v" in done.seen and "'Frank Herbert'" in done.seen


class TestCommandJSON:
    KEYS = [None, True, 0, -7, 2**70, 2**70 + 1, 1.5, float('inf'), '', '-', '--', '-k', '--json', 'a b', 'a\nb', '\x1b[31m',
            '\ud800', 'é日', '"quoted"', '[1]', b'', b'\xff', dt.date(2026, 1, 2), dt.datetime(2026, 1, 2, tzinfo=UTC),
            uuid.UUID(int=5), (), ('a', (1, None)), (b'x', '-')]
    VALUES = [None, -1, 2**80, 'text', '-', '', '\x1b', b'\0\xff', bytearray(b'x'), (1, (2,)), {1, 2}, frozenset('a'), {}, [],
              {'a': [1, {'b': None}]}, {1: 2, '!x': ()}, {'!tuple': 1}, decimal.Decimal('1.50'), 1 + 2j, range(3),
              dt.timedelta(1), fractions.Fraction(1, 3), float('-inf'), dt.date(2026, 1, 2)]

    def test_odd_keys_go_in_and_come_out_exactly(self, command, root):
        for key in self.KEYS:
            text = as_json.dumps(as_json.from_key(key))
            assert command('set', '--json', 'k', '--', text, '1').status == 0, key
            assert command('get', '--json', 'k', '--', text).out == '1\n', key
        v = Vault(pathlib.Path(root, 'vaults', 'k.db'))
        stored = [repr(keys.decode(keys.encode(key))) for key in self.KEYS]  # 2**70 is the float that equals it
        assert list(map(repr, v)) == stored
        v.close()
        shown = command('keys', 'k', '--json').out.splitlines()
        assert {repr(as_json.to_key(json.loads(line))) for line in shown} == set(stored)
        for key in self.KEYS:
            assert command('delete', '--json', 'k', '--', as_json.dumps(as_json.from_key(key))).status == 0
        assert command('count', 'k').out == '0\n'

    def test_text_is_taken_as_it_is(self, command, root):
        odd = [key for key in self.KEYS if isinstance(key, str)]
        for key in odd:
            assert command('set', 'k', '--', key, f'{len(key)} {key!r}').status == 0
            assert command('get', 'k', '--', key).out == f'{len(key)} {key!r}\n'
        assert list(Vault(pathlib.Path(root, 'vaults', 'k.db'))) == odd
        for key in ('-k', '--', '--json'):
            assert command('--', 'set', 'k', 'value', key).status == 0
            assert command('get', 'k', 'value').out == key + '\n'

    def test_odd_values_go_in_and_come_out_exactly(self, command, root):
        v = Vault(pathlib.Path(root, 'vaults', 'v.db'))
        for value in self.VALUES:
            text = json.dumps(as_json.from_value(values.dumps(value)))
            assert command('set', '--json', 'v', '"k"', '-', stdin=text.encode()).status == 0
            assert shape(v['k']) == shape(value)
            assert as_json.to_value(json.loads(command('get', '--json', 'v', '"k"').out)) == values.dumps(value)
        v.close()

    def test_a_class_need_not_be_at_hand(self, command, root):
        form = '{"!registered": ["nowhere.Thing", {"a": 1}]}'
        assert command('set', 'c', 'k', '--json', form).status == 2  # a key in JSON is in quotes
        assert command('set', 'c', '"k"', '--json', form).status == 0
        assert command('get', 'c', 'k').out == form + '\n'
        assert form in command('export', 'c').out and form in command('show', 'c').out

    @pytest.mark.parametrize('text', ['{', '', 'NaN', '[1, Infinity]', '{"!tuple": 1}', '{"!date": "x"}', '"\\ud800"',
                                      '[' * 100_000, '9' * 5000 + 'x', '{"!set": [[1]]}'])
    def test_what_is_no_value_is_misuse_and_makes_nothing(self, command, root, text):
        before = seen(root)
        for arguments, typed in ((['set', 'x', '"k"', text, '--json'], b''), (['set', 'x', '"k"', '-', '--json'], text.encode())):
            done = command(*arguments, stdin=typed)
            assert done.status == 2 and done.err.startswith('vaults: ') and done.err.count('\n') == 1 and not done.out
        assert seen(root) == before

    @pytest.mark.parametrize('text', ['{', '{"a": 1}', '{"!float": "nan"}', '{"!set": [1]}', '{"!pickle": ["", "Ti4="]}'])
    def test_what_is_no_key_is_misuse(self, command, books, text):
        for arguments in (['get', 'books', text], ['delete', 'books', text], ['set', 'books', text, '1'],
                          ['keys', 'books', '--from', text], ['count', 'books', '--to', text],
                          ['show', 'books', '--prefix', text]):
            done = command('--json', *arguments)
            assert done.status == 2 and done.err.count('\n') == 1, arguments


class TestCommandTypes:
    """A type is what it was asked to be, and is not changed without a word."""

    @pytest.fixture
    def life(self, root):
        with contextlib.closing(Vault(pathlib.Path(root, 'vaults', 'life.db'))) as v:
            v.update({'retries': 3, 5: 'x', ('log', 2026): [1], 'text': 'a', 'list': [1], ('users', 'ann'): 1.5, 'none': None,
                      'bytes': b'1', 'tuple': (1,), 'big': 2**70, 'nan': float('nan'), 'price': decimal.Decimal(1),
                      'class': collections.OrderedDict(a=1), 'path': pathlib.PurePosixPath('a'), 'odd': '\ud800', 'long': list(range(100)), 'true': True, '[7]': 'text in brackets'})
            v.list('grown').append(1)
            v.column('numbers', 'int8').append(1)
            v.put_file('stream', io.BytesIO(b'1'))
        return lambda key: Vault(pathlib.Path(root, 'vaults', 'life.db'))[key]

    def test_a_json_value_has_a_text_key_and_a_text_value_a_json_key(self, command, life):
        for arguments, key, value in ((['retries', '5', '--json-value'], 'retries', 5),
                                      (['--json-value', 'new', '{"a": [1]}'], 'new', {'a': [1]}),
                                      (['--json-key', '5', '7'], 5, '7'), (['["log", 2026]', 'text', '--json-key'], ('log', 2026), 'text'),
                                      (['--json-key', '5', '--json-value', '7'], 5, 7), (['5', 'y'], '5', 'y')):
            assert command('set', 'life', *arguments).status == 0
            assert life(key) == value and type(life(key)) is type(value)
        assert command('set', 'life', 'k', '-', '--json-value', stdin=b'[1]').status == 0 and life('k') == [1]
        assert command('put', 'life', '--json-key', '[1, 2]', '-', stdin=b'ab').status == 0 and life((1, 2)) == b'ab'
        assert command('get', 'life', '5', '--json-key').out == '7\n'
        assert command('get', 'life', '[1, 2]', '--json-key', '--output', '-').out == 'ab'
        assert command('keys', 'life', '--from', '5', '--to', '6', '--json-key').out == '5\n'
        assert command('count', 'life', '--prefix', '["log"]', '--json-key').out == '1\n'
        assert command('delete', 'life', '--json-key', '5').status == 0 and command('get', 'life', '5').out == 'y\n'
        for arguments in (['set', 'life', 'k', '{', '--json-value'], ['set', 'life', '{', 'v', '--json-key'], ['get', 'life', 'k', '--json-key']):
            done = command(*arguments)
            assert done.status == 2 and done.err.count('\n') == 1 and 'is no JSON' in done.err
        for word, quoted in (('two words', "'\"two words\"'"), ("it's é", """'"it'"'"'s é"'""")):
            assert command('get', 'life', word, '--json').err.endswith(f'text is written in quotes: {quoted}\n')
        assert command('get', 'life', 'x' * 50, '--json').err.endswith("text is written in quotes: '\"text\"'\n")

    @pytest.mark.parametrize('key, text, was, now, cure', [
        ('retries', '5', 'int', 'str', ': --json-value keeps it int'), ('retries', 'five', 'int', 'str', ''),
        ('list', '[2]', 'list', 'str', ': --json-value keeps it list'), ('none', 'null', 'None', 'str', ': --json-value keeps it None'),
        ('true', 'false', 'bool', 'str', ': --json-value keeps it bool'), ('bytes', '1', 'bytes', 'str', ''),
        ('bytes', '{"!bytes": ""}', 'bytes', 'str', ': --json-value keeps it bytes'), ('tuple', 'x', 'tuple', 'str', ''),
        ('big', '5', 'int', 'str', ': --json-value keeps it int'), ('nan', 'x', 'float', 'str', ''), ('price', '1', 'Decimal', 'str', ''),
        ('class', 'x', 'collections.OrderedDict', 'str', ''), ('path', 'x', 'pathlib.PurePosixPath', 'str', ''), ('long', 'x', 'list', 'str', ''),
        ('grown', 'x', 'a list made by list()', 'str', ''), ('numbers', 'x', 'a column of int8', 'str', ''),
        ('stream', 'x', 'a stream', 'str', '')])
    def test_a_set_that_changes_the_type_says_so(self, command, life, key, text, was, now, cure):
        done = command('set', 'life', key, text)
        assert (done.status, done.out) == (0, '')
        assert done.err == f"vaults: note: key '{key}' was {was} and is now {now}{cure}\n" and life(key) == text

    def test_it_is_said_of_json_too_and_of_put(self, command, life):
        for text, words in (('4', ''), ('4.5', 'was int and is now float'), ('[1]', 'was float and is now list'), ('[]', ''),
                            ('{"!tuple": []}', 'was list and is now tuple'), ('"5"', 'was tuple and is now str'), ('""', ''),
                            ('{"!dict": []}', 'was str and is now dict'), ('{"!int": "0x1"}', 'was dict and is now int'),
                            ('true', 'was int and is now bool'), ('{"!float": "inf"}', 'was bool and is now float')):
            for arguments in (['--json', 'set', 'life', '"retries"', text], ['set', 'life', 'retries', text, '--json-value']):
                done = command(*arguments)
                assert (done.status, done.out) == (0, '')
                assert words in done.err and bool(done.err) == bool(words), (text, done.err)
                words = ''  # the second one changes nothing
        done = command('put', 'life', 'text', '-', stdin=b'x')
        assert "key 'text' was str and is now a stream" in done.err and done.status == 0
        assert command('put', 'life', 'text', '-', stdin=b'y').err == command('put', 'life', 'bytes', '-', stdin=b'y').err == ''

    def test_nothing_is_said_where_nothing_changes(self, command, life):
        for arguments in (['text', 'b'], ['odd', 'plain'], ['new', '5'], ['new', '6'], ['bytes', '{"!bytes": "AA=="}', '--json-value'], ['new', '-']):
            assert command('set', 'life', *arguments, stdin=b'7').err == ''

    def test_a_damaged_value_can_be_replaced(self, command, root, life):
        with contextlib.closing(sqlite3.connect(str(root / 'vaults' / 'life.db'))) as raw, raw:
            raw.execute("UPDATE entries SET value = x'01' WHERE key = 'text'")
        assert command('get', 'life', 'text').status == 1
        done = command('set', 'life', 'text', 'b')
        assert (done.status, done.err) == (0, '') and life('text') == 'b'

    def test_a_key_that_is_there_in_another_form_is_named(self, command, life):
        for verb in ('get', 'delete'):
            for key, there in (('5', '5'), ('["log",2026]', "('log', 2026)"), ('"text"', "'text'"), ('5.0', '5.0')):
                done = command(verb, 'life', key)
                assert done.status == 1 and f'but there is a key {there}: give it with --json-key' in done.err, done.err
            done = command(verb, 'life', '[7]', '--json-key')
            assert done.status == 1 and "but there is a key '[7]': give it in quotes, as JSON" in done.err
            for key in ('6', 'x', '{', '["log"]', '[[1]', '{"!tuple": 1}'):
                assert 'but there' not in command(verb, 'life', key).err
        done = command('set', 'life', '5', 'another')
        assert "key '5' is a new one" in done.err and 'there is a key 5: give it with --json-key' in done.err
        assert command('set', 'life', '5', 'again').err == '' and life(5) == 'x'

    @pytest.mark.skipif(not shutil.which('bash'), reason='no bash')
    def test_what_keys_prints_get_takes_in_a_script(self, root, life):
        script = f'''set -e; vaults() {{ "{sys.executable}" -m vaults "$@"; }}; export PYTHONPATH="{HERE}" VAULTS_ROOT="{root}"
            vaults keys life --json-key | while IFS= read -r key; do vaults --json get life -- "$key" >> all; done
            vaults keys life --json | while IFS= read -r key; do vaults delete life --json-key -- "$key"; done
            vaults count life'''
        done = subprocess.run(['bash', '-c', script], cwd=str(root), capture_output=True, text=True)
        assert (done.stdout, done.stderr) == ('0\n', '')
        assert len((root / 'all').read_text().splitlines()) == 21


class TestCommandSections:
    @pytest.fixture
    def place(self, root):
        with contextlib.closing(Vault(pathlib.Path(root, 'vaults', 'life.db'))) as v:
            v.update({'users': 'plain', ('users', 'ann'): 1, ('users', 'bob', 'age'): 7, ('users', 'bob', 5): 8, (2026, 1): 2, 'z': 0,
                      (('a', 'b'), 1): 3, ('users2', 'x'): 4})
        return root

    def test_a_section_is_listed_counted_shown_and_exported(self, command, place):
        within = ['life', '--section', 'users']
        assert command('keys', *within).out == 'ann\n["bob", 5]\n["bob", "age"]\n'
        assert command('keys', *within, '--prefix', 'a').out == 'ann\n' and command('count', *within).out == '3\n'
        assert command('keys', *within, '--from', 'b', '--to', 'c').out == '["bob", 5]\n["bob", "age"]\n'
        assert command('keys', *within, '--reverse', '--limit', 1).out == '["bob", "age"]\n'
        assert command('show', *within).out.splitlines() == ['ann             1', '["bob", 5]      8', '["bob", "age"]  7']
        assert command('show', *within, '--json').out.splitlines()[0] == '{"key": "ann", "value": 1}'
        assert command('get', *within, 'ann').out == '1\n' and command('get', 'life', '--section=users', '["bob", 5]', '--json-key').out == '8\n'
        assert command('export', *within).out.splitlines()[0] == '{"key": "ann", "value": 1}'
        assert command('export', 'life', '-', '--section', 'users').out.count('\n') == 3

    def test_sections_of_sections_are_named_one_by_one_or_as_json(self, command, place):
        for named in (['--section', 'users', '--section', 'bob'], ['--section', '["users", "bob"]'],
                      ['--json-key', '--section', '"users"', '--section', 'bob']):
            assert command('keys', 'life', *named).out.splitlines() == ['5', '"age"' if '--json-key' in named else 'age']
        assert command('keys', 'life', '--section', '[2026]', '--json').out == command('keys', 'life', '--section', '[2026]').out == '1\n'
        assert command('keys', 'life', '--section', '[["a", "b"]]', '--json').out == '1\n'
        assert command('keys', 'life', '--section', '["a", "b"]', '--json').out == command('keys', 'life', '--section', '2026').out == ''
        for wrong in ('[]', '[1', '"', '[{}]'):
            assert command('keys', 'life', '--section', wrong, '--json').status == 2

    def test_info_names_them(self, command, place):
        lines = command('info', 'life').out.splitlines()
        assert [line.split(None, 1)[1] for line in lines if line.startswith('section')] == [
            '[2026]', 'users', 'users2', '[["a", "b"]]', '["users", "bob"]']
        named = json.loads(command('info', 'life', '--json').out)['sections']
        assert named == [2026, 'users', 'users2', [['a', 'b']], ['users', 'bob']]
        for section in [line.split(None, 1)[1] for line in lines if line.startswith('section')]:
            assert command('count', 'life', '--section', section).out != '0\n'
        facts = json.loads(command('info', 'life', '--section', 'users', '--json').out)
        assert (facts['within'], facts['entries'], facts['sections']) == ('users', 3, ['bob'])

    def test_an_entry_is_set_put_and_deleted_inside(self, command, place):
        assert command('set', 'life', 'eve', 'x', '--section', 'users').err == ''
        assert command('put', 'life', 'photo', '-', '--section', 'users', stdin=b'p').status == 0
        assert command('import', '-', 'life', '--section', 'users', stdin=b'{"key": "i", "value": 1}').status == 0
        v = Vault(pathlib.Path(place, 'vaults', 'life.db'))
        assert (v['users', 'eve'], v['users', 'photo'], v['users', 'i']) == ('x', b'p', 1)
        assert command('delete', 'life', '--section', 'users', 'ann').out == ''
        assert command('export', 'life', '--section', 'users', place / 'out').out.startswith('5 entries')
        assert ('users', 'ann') not in v and len(v.section('users')) == 5
        done = command('get', 'life', 'nobody', '--section', 'users')
        assert done.status == 1 and 'the section users of the vault' in done.err
        for arguments, named in ((['users2'], 'users2'), (['bob', '--section', 'users'], 'bob'), (['2026', '--json-key'], '[2026]')):
            done = command('get', 'life', *arguments)
            assert done.status == 1 and done.err.endswith(f'but there is a section of that name: --section {named}\n')
        v.close()

    def test_a_section_is_deleted_and_nothing_beside_it(self, command, place):
        assert command('delete', 'life', '--section', 'users', '--section', 'bob').out == '2 entries deleted\n'
        assert command('delete', 'life', '--section', '"users"', '--json').out == '{"deleted": 1}\n'
        assert command('delete', 'life', '--section', 'users').status == 1
        with contextlib.closing(Vault(pathlib.Path(place, 'vaults', 'life.db'))) as v:
            assert list(v) == ['users', (2026, 1), 'z', (('a', 'b'), 1), ('users2', 'x')]
            v._check()
        done = command('delete', 'life')
        assert done.status == 2 and '--section NAME' in done.err


class TestCommandReading:
    READING = [['list'], ['keys', 'x'], ['get', 'x', 'k'], ['count', 'x'], ['show', 'x'], ['info', 'x'], ['check', 'x'],
               ['backup', 'x', 'FILE'], ['export', 'x'], ['export', 'x', 'FILE'], ['delete', 'x', 'k'], ['compact', 'x']]

    @pytest.mark.parametrize('arguments', READING, ids=' '.join)
    def test_it_does_not_make_what_is_missing(self, command, tmp_path, arguments):
        (tmp_path / 'empty').mkdir()
        before = seen(tmp_path)
        arguments = [str(tmp_path / 'file') if word == 'FILE' else word for word in arguments]
        for root in (tmp_path / 'empty', tmp_path / 'nowhere'):
            done = command('--root', root, *arguments)
            assert done.status == (0 if arguments == ['list'] and root.exists() else 1)
            assert done.err == '' if done.status == 0 else done.err.startswith('vaults: ')
        assert command(*[str(tmp_path / 'n' / 'x.db') if word == 'x' else word for word in arguments]).status in (0, 1)
        assert seen(tmp_path) == before

    @pytest.mark.parametrize('arguments', [one for one in READING[:-2] if 'FILE' not in one], ids=' '.join)
    def test_it_leaves_no_trace_beside_what_is_there(self, command, root, arguments):
        command('set', 'x', 'k', 'v')
        raw = sqlite3.connect(root / 'vaults' / 'x.db')
        assert raw.execute('PRAGMA journal_mode = DELETE').fetchone() == ('delete',)  # which opening to write undoes
        raw.close()
        before = seen(root)
        assert command(*arguments).status == 0
        assert seen(root) == before

    def test_no_pickle_runs_until_it_is_allowed(self, command, root, tmp_path):
        v = Vault(pathlib.Path(root, 'vaults', 'p.db'))
        v['k'] = [1, Planted(tmp_path / 'made')]
        v.close()
        shutil.rmtree(tmp_path / 'made', ignore_errors=True)  # a put tries whether the first of a class can be loaded
        form = json.loads(command('get', 'p', 'k').out)
        assert form[1]['!pickle'][0] in ('posix.mkdir', 'nt.mkdir')
        for arguments in (['show', 'p'], ['show', 'p', '--json'], ['keys', 'p'], ['info', 'p'], ['check', 'p'], ['export', 'p'],
                          ['count', 'p'], ['get', 'p', '"k"', '--json', '--allow-pickle'], ['compact', 'p'],
                          ['backup', 'p', str(tmp_path / 'copy')]):
            assert command(*arguments).status == 0
        assert command('set', 'q', '"k"', json.dumps(form), '--json').status == 2
        assert command('set', 'q', '"k"', json.dumps(form), '--json', '--allow-pickle').status == 0
        assert command('export', 'q').out == command('export', 'p').out
        assert command('import', '-', 'r', stdin=command('export', 'p').out.encode()).status == 1
        assert not (tmp_path / 'made').exists()
        done = command('get', 'p', 'k', '--allow-pickle')
        assert (done.status, done.out) == (0, '[1, None]\n') and (tmp_path / 'made').exists()
        assert command('get', 'p', 'k', '--allow-pickle').status == 1  # it cannot be made twice

    def test_allowed_pickles_are_shown_as_python_shows_them_and_json_as_json(self, command, root):
        v = Vault(pathlib.Path(root, 'vaults', 'p.db'))
        for value, shown in ((collections.OrderedDict(a=1), repr(collections.OrderedDict(a=1))), ('{"!', '{"!'),
                             ({'a': [1, '{"!']}, '{"a": [1, "{\\"!"]}'), ((1,), '(1,)')):
            v['k'] = value
            assert command('get', 'p', 'k', '--allow-pickle').out == shown + '\n'
        v.close()


class TestCommandErrors:
    def one_line(self, done, status):
        assert done.status == status and done.out == ''
        assert done.err.startswith('vaults: ') and done.err.count('\n') == 1 and done.err.endswith('\n'), done.err
        return done.err

    def test_a_cure_is_one_of_the_command(self, command, books, root):
        (root / 'vaults' / 'empty.db').write_bytes(b'')
        for arguments, cure in ((['get', 'nowhere', 'k'], 'or make it with `vaults set`'),
                                (['get', 'empty', 'k'], 'a command that writes makes a vault of it'),
                                (['keys', 'books', '--json-key', '--prefix', '5'], 'take --from and --to'),
                                (['keys', 'books', '--section', 's', '--json-key', '--prefix', '5'], 'take --from and --to')):
            done = command(*arguments)
            assert done.status and done.err.endswith(f'{cure}\n'), done.err

    def test_a_cure_that_is_said_otherwise_is_one_that_there_is(self):
        package = pathlib.Path(vaults.__file__).parent
        said = ''.join(path.read_text('utf-8') for path in package.rglob('*.py') if path.name != 'cli.py')
        said = re.sub(r"['\"]\n\s+f?['\"]", '', said)  # literals that go on in the next line
        for cure in cli.CURES:
            assert cure in said, cure

    def test_what_is_not_found_is_1(self, command, root, books):
        assert 'key \'x\'' in self.one_line(command('get', 'books', 'x'), 1)
        assert 'books.db' in self.one_line(command('delete', 'books', 'x'), 1)
        for arguments in (['get', 'nothing', 'x'], ['delete', 'nothing', 'x'], ['import', root / 'nothing', 'x'],
                          ['set', root / 'no' / 'folder' / 'x', 'k', 'v'], ['backup', 'books', root / 'no' / 'folder']):
            self.one_line(command(*arguments), 1)
        (root / 'text.db').write_text('no vault at all')
        self.one_line(command('get', root / 'text.db', 'x'), 1)
        (root / 'a\nb\x1b.db').write_text('no vault either')
        assert '\\n' in self.one_line(command('get', root / 'a\nb\x1b.db', 'x'), 1)

    @pytest.mark.parametrize('arguments', [
        [], ['nonsense'], ['get', 'v'], ['get', 'v', 'k', 'more'], ['get', 'v', 'k', '--nonsense'], ['keys', 'v', '--limit', 'x'],
        ['keys', 'v', '--limit', '-1'], ['keys', 'v', '--limit', '²'], ['keys', 'v', '--pre', 'x'], ['get', '', 'k'],
        ['get', 'a..b', 'k'], ['set', 'a..b', 'k', 'v'], ['set', ':memory:', 'k', 'v'], ['get', 'v', '--', '-x', '-y'],
        ['set', 'v' * 300, 'k', 'v'], ['completion', 'tcsh'], ['keys', 'v', '--prefix', '\ud800']], ids=' '.join)
    def test_misuse_is_2_and_makes_nothing(self, command, root, arguments):
        before = seen(root)
        assert 'u0000' not in self.one_line(command(*arguments), 2)
        assert seen(root) == before

    @pytest.mark.parametrize('word, command_', [
        ('rm', 'delete'), ('ls', 'list'), ('remove', 'delete'), ('del', 'delete'), ('cat', 'get'), ('find', 'keys'), ('cp', 'backup'),
        ('dump', 'export'), ('load', 'import'), ('LS', 'list'), ('help', '--help'), ('version', '--version'), ('has', 'get'),
        ('restore', 'recover'), ('stat', 'info'), ('vacuum', 'compact')])
    def test_a_command_of_another_name_is_misuse_that_says_the_right_word(self, command, root, word, command_):
        before = seen(root)
        for arguments in ([word], [word, 'books', 'x'], ['--root', root, '--json', word], ['--json', word, '--nonsense']):
            assert self.one_line(command(*arguments), 2) == f"vaults: there is no command '{word}': say vaults {command_}\n"
        assert seen(root) == before

    def test_a_misspelt_command_is_guessed(self, command):
        assert 'did you mean delete?' in self.one_line(command('delte', 'x'), 2)
        assert self.one_line(command('zzz'), 2) == "vaults: there is no command 'zzz': see vaults --help\n"
        assert not any(word in cli.COMMANDS for words in cli.OTHER_WORDS.values() for word in words.split())
        assert set(cli.OTHER_WORDS) <= {*cli.COMMANDS, '--help', '--version'}

    def test_an_unexpected_error_is_one_line_that_says_how_to_see_more(self, command, books, monkeypatch):
        monkeypatch.setattr(Vault, '_count', lambda *_: 1 // 0)
        assert 'ZeroDivisionError' in self.one_line(command('count', 'books'), 1)
        assert 'VAULTS_TRACEBACK=1' in self.one_line(command('count', 'books'), 1)
        monkeypatch.setenv('VAULTS_TRACEBACK', '1')
        with pytest.raises(ZeroDivisionError):
            command('count', 'books')

    def test_help_and_version_are_answers(self, command):
        assert command('--version').out == f'vaults {vaults.__version__}\n'
        text = command('--help').out
        for name in cli.COMMANDS:
            assert re.search(rf'^    {name} +\w', text, re.M)
            done = command(name, '--help')
            assert done.status == 0 and f'usage: vaults {name} ' in done.out and not done.err

    def test_a_failed_import_leaves_no_vault_that_it_made(self, command, root, books):
        bad = b'{"key": "a", "value": 1}\n{"key": "b", "value": \n'
        (root / 'bad.jsonl').write_bytes(bad)
        before = seen(root)
        self.one_line(command('import', root / 'bad.jsonl', 'books'), 1)
        self.one_line(command('import', '-', 'new', stdin=bad), 1)
        self.one_line(command('import', root / 'bad.jsonl', 'new', '--root', root / 'other'), 1)
        self.one_line(command('import', root / 'nothing', root / 'new.db'), 1)
        assert {path: data for path, data in seen(root).items() if path != 'other'} == before

    def test_the_vault_is_closed_in_any_case(self, command, books, monkeypatch):
        opened = []

        class Seen(Vault):
            def __init__(self, *arguments, **options):
                super().__init__(*arguments, **options)
                opened.append(self)
        monkeypatch.setattr(cli, 'Vault', Seen)
        assert [command('get', 'books', key).status for key in ('dune', 'x')] == [0, 1]
        assert [repr(v) for v in opened] == ["Seen('books', closed)"] * 2

    def test_what_another_program_put_into_it_meanwhile_stays(self, root):
        v = Vault('new')
        v['another'] = 'program'
        cli._unmake(v, [v.db_path])
        assert v['another'] == 'program'
        v.close()

    def test_an_import_that_fails_names_the_options_of_the_command(self, command, root):
        (root / 'a.csv').write_text('id,name\n1,Ann\n')
        (root / 'b.jsonl').write_text('{"a": 1}\n')
        (root / 'c.jsonl').write_text('{"key": 1, "value": {"!pickle": ["", "gARLAS4="]}}\n')
        for name, words in (('a.csv', 'pass --key ...'), ('b.jsonl', '--kind json'), ('c.jsonl', '--allow-pickle')):
            root.chmod(0o777)
            assert words in self.one_line(command('import', root / name, 'v'), 1)

    def test_errors_and_statuses_reach_the_shell(self, root, books):
        env = {'VAULTS_ROOT': str(root)}
        for arguments, status in ((['get', 'books', 'dune'], 0), (['get', 'books', 'x'], 1), (['get'], 2), (['--help'], 0)):
            done = finished(spawn(*arguments, env=env))
            assert done.status == status and 'Traceback' not in done.err and bool(done.err) == bool(status)

    @needs_posix
    def test_broken_utf_8_in_arguments_is_a_key_but_no_value(self, root):
        env = {'VAULTS_ROOT': str(root)}
        assert finished(spawn('set', 'b', b'\xff-key', 'v', env=env)).status == 0
        assert finished(spawn('get', 'b', b'\xff-key', env=env)).out == 'v\n'
        self.one_line(finished(spawn('get', 'b', b'\xfe', env=env)), 1)
        self.one_line(finished(spawn('get', b'\xff', 'k', env=env)), 1)
        assert list(map(json.loads, finished(spawn('keys', 'b', env=env)).out.splitlines()))
        assert 'UTF-8' in self.one_line(finished(spawn('set', 'b', 'k', b'\xff', env=env)), 2)
        assert 'UTF-8' in self.one_line(finished(spawn('set', 'b', 'k', '-', env=env, stdin=subprocess.PIPE), b'\xff'), 2)


class TestCommandOutput:
    ODD = ['\x1b[31mred', 'bell\a', '\x9b31m', '\u202eright', 'a\nb', 'tab\t', '\x7f', 'nul\0', '\u2028']

    def test_control_characters_do_not_reach_a_terminal(self, command, root):
        v = Vault(pathlib.Path(root, 'vaults', 'odd.db'))
        v.update({key: value for key in self.ODD for value in (key, )})
        v.update({(key,): [key] for key in self.ODD})
        v.close()
        for arguments in (['show', 'odd', '--limit', '99'], ['keys', 'odd'], ['keys', 'odd', '--json'], ['info', 'odd']):
            lines = command(*arguments).out.split('\n')
            assert all(line.isprintable() for line in lines) and len(lines) > 10
        for key in self.ODD:
            for arguments in (['get', 'odd', 'x' + key], ['get', 'odd' + key.replace('\0', ''), 'x'], [key], ['get', key]):
                err = command(*arguments).err
                assert err[-1] == '\n' and err[:-1].isprintable()
        assert [json.loads(line) for line in command('keys', 'odd').out.splitlines()[:9]] == sorted(self.ODD)

    @needs_posix
    def test_there_is_colour_on_a_terminal_alone(self, root, books):
        coloured = at_terminal(root, 'show', 'books')
        assert coloured.status == 0 and '\x1b[36mdune\x1b[0m' in coloured.seen
        for env in ({'NO_COLOR': '1'}, {'TERM': 'dumb'}):
            assert at_terminal(root, 'show', 'books', **env).seen.replace('\r', '') == finished(
                spawn('show', 'books', env={'VAULTS_ROOT': str(root)})).out
        assert '\x1b' in at_terminal(root, 'info', 'books').seen and '\x1b' in at_terminal(root, 'check', 'books').seen
        assert '\x1b' not in at_terminal(root, 'get', 'books', 'dune').seen

    @needs_posix
    def test_bytes_go_out_as_they_are_but_to_a_terminal(self, root):
        data = bytes(range(256)) + b'\r\n\n'
        with contextlib.closing(Vault(pathlib.Path(root, 'vaults', 'b.db'))) as v:
            v.update({'bytes': data, 'array': bytearray(data), 'empty': b'', 'inside': [b'a'], ('s', 'k'): b'\xff'})
        env = {'VAULTS_ROOT': str(root)}
        for arguments, expected in ((['bytes'], data), (['array'], data), (['empty'], b''), (['inside'], b'[{"!bytes": "YQ=="}]\n'),
                                    (['k', '--section', 's'], b'\xff'), (['bytes', '--output', '/dev/stdout'], data),
                                    (['"empty"', '--json'], b'{"!bytes": ""}\n'), (['"empty"', '--json-key'], b'')):
            process = spawn('get', 'b', *arguments, env=env)
            assert process.communicate() == (expected, b''), arguments
        for arguments in (['array'], ['"array"', '--json']):
            assert at_terminal(root, 'get', 'b', *arguments).seen.startswith('{"!bytearray": "AAEC')

    @needs_posix
    def test_the_files_of_the_streams_are_the_streams(self, root, books):
        env, folder = {'VAULTS_ROOT': str(root)}, sorted(os.listdir('/dev'))
        for name in ('-', '/dev/stdout'):
            lines = finished(spawn('export', 'books', name, env=env)).out
            assert lines.count('\n') == 5
            with open(root / 'out', 'wb') as file:
                assert finished(spawn('export', 'books', name, env=env, stdout=file)).err == ''
            assert (root / 'out').read_text('utf-8') == lines
        for place, name in (('-', 'a'), ('/dev/stdin', 'b')):
            done = finished(spawn('import', place, name, env=env, stdin=subprocess.PIPE), lines.encode())
            assert (done.out, done.err) == ('5 entries imported, 0 of them replaced earlier ones\n', '')
            with open(root / 'out', 'rb') as file:
                assert '5 of them replaced' in finished(spawn('import', place, name, env=env, stdin=file)).out
            assert finished(spawn('put', name, 'k', place, env=env, stdin=subprocess.PIPE), b'ab').out == '2 bytes stored\n'
        assert sorted(os.listdir('/dev')) == folder

    @needs_posix
    def test_what_is_awaited_from_a_terminal_is_said(self, root):
        done = at_terminal(root, 'import', '-', 'new', typed=b'{"key": 1, "value": 2}\n\x04')
        assert 'JSON Lines comes from the terminal; Ctrl-D' in done.seen and '1 entry imported' in done.seen
        done = at_terminal(root, 'set', 'new', 'k', '-', typed=b'x\n\x04')
        assert 'the value comes from the terminal' in done.seen and done.status == 0

    @needs_posix
    def test_progress_is_seen_on_a_terminal_and_erased(self, root, books):
        Vault(pathlib.Path(root, 'vaults', 'many.db')).update((n, n) for n in range(3000))
        lines = root / 'many.jsonl'
        for arguments, words in ((['check', 'many'], 'checking: 1,024 of 3,000 entries'),
                                 (['compact', 'many'], 'compacting: 0 of'), (['backup', 'many', str(root / 'b')], 'copying: '),
                                 (['export', 'many', str(lines)], 'exporting: 1,000 entries'),
                                 (['import', str(lines), 'new'], 'importing: 1,000 entries')):
            done = at_terminal(root, *arguments, streams=['stderr'])
            assert done.status == 0 and words in done.seen and '\n' not in done.seen
            assert re.search('\r( +)\r$', done.seen) and len(done.seen.split('\r')[-2]) >= len(words)
        assert at_terminal(root, 'export', 'many').seen.startswith('{')
        for arguments in (['check', 'many'], ['compact', 'many'], ['export', 'many']):
            assert finished(spawn(*arguments, env={'VAULTS_ROOT': str(root)})).err == ''

    def test_progress_is_drawn_a_few_times_a_second(self, command, root, monkeypatch, capsys):
        drawn = []
        v = Vault(':memory:')
        monkeypatch.setattr(cli, '_is_terminal', lambda stream: True)
        with cli._Progress(v, 'testing', 'entries') as progress:
            monkeypatch.setattr(progress, '_draw', drawn.append)
            for done in range(100_000):
                progress(done, 100_000)
        assert 1 <= len(drawn) < 50

    def test_a_reader_that_has_seen_enough_ends_it_quietly(self, root, books):
        Vault(pathlib.Path(root, 'vaults', 'many.db')).update((n, 'x' * 20) for n in range(20_000))
        for arguments in (['keys', 'many'], ['show', 'many', '--json'], ['export', 'many'], ['keys', 'books'], ['--help']):
            process = spawn(*arguments, env={'VAULTS_ROOT': str(root)})
            if 'many' in arguments:
                assert process.stdout.readline()
            process.stdout.close()
            process.stdout = None
            done = finished(process)
            assert (done.status, done.err) == (0, ''), arguments
        assert sorted(os.listdir(root / 'vaults')) == ['books.db', 'many.db']

    @pytest.mark.skipif(not os.path.exists('/dev/full'), reason='no full device')
    def test_a_full_disk_is_one_line(self, root, books):
        Vault(pathlib.Path(root, 'vaults', 'many.db')).update((n, 'x' * 20) for n in range(2000))
        for arguments in (['keys', 'books'], ['export', 'books'], ['export', 'many'], ['--help']):
            with open('/dev/full', 'wb') as full:
                done = finished(spawn(*arguments, env={'VAULTS_ROOT': str(root)}, stdout=full))
            assert done.status == 1 and done.err.startswith('vaults: ') and done.err.count('\n') == 1, arguments

    def test_any_output_encoding_will_do(self, root, monkeypatch):
        v = Vault(pathlib.Path(root, 'vaults', 'é.db'))
        v.update({'é': 'ü' * 99, '日': '本', 'plain': ['é'], '\ud800': '\udcff'})
        v.close()
        monkeypatch.setenv('VAULTS_ROOT', str(root))
        vaults.set_root_path(None)
        commands = [['list'], ['keys', 'é'], ['get', 'é', 'é'], ['show', 'é'], ['info', 'é'], ['get', 'é', '日本'],
                    ['export', 'é'], ['get', 'é', 'plain'], ['list', '--json']]
        for encoding, arguments in itertools.product(['ascii', 'latin-1', 'utf-16'], commands):
            # The streams that Python would make for PYTHONIOENCODING: a process for each would take seconds.
            streams = [io.TextIOWrapper(io.BytesIO(), encoding, how) for how in ('strict', 'backslashreplace')]
            with monkeypatch.context() as patch:
                patch.setattr(sys, 'stdout', streams[0])
                patch.setattr(sys, 'stderr', streams[1])
                status = cli.main(arguments)
            out, err = ((stream.flush(), stream.buffer.getvalue())[1] for stream in streams)
            assert status == (1 if '日本' in arguments else 0) and b'unexpected' not in err, err
            if arguments[0] == 'export':
                assert json.loads(out.decode('utf-8').splitlines()[1]) == {'key': '日', 'value': '本'}
            elif encoding == 'ascii':
                assert out.isascii() and (b'...' in out) == (arguments[0] == 'show')
            if 'plain' in arguments or '--json' in arguments:
                assert 'é' in json.loads(out.decode(encoding))
        assert '"\\u00e9"\n' in finished(spawn('keys', 'é', env={'VAULTS_ROOT': str(root), 'PYTHONIOENCODING': 'ascii'})).out

    def test_it_starts_without_what_it_does_not_need(self):
        loaded = output('from vaults import cli; cli._parser(); import sys; print(*sys.modules)').split()
        assert {'argparse', 'vaults.cli'} <= set(loaded)
        assert not {'json', 'sqlite3', 'pathlib', 'typing', 'signal', 'code', 'vaults.as_json', 'vaults.moving'} & set(loaded)

    def test_a_closed_output_is_no_crash(self, root, books):
        done = run('import sys; sys.stdout = sys.stdin = None; from vaults.cli import main;'
                   "sys.exit(main(['get', 'books', 'dune']) or main(['set', 'books', 'k', '-']))",
                   env={'VAULTS_ROOT': str(root)})
        assert done.returncode == 2 and done.stderr.count('\n') == 1


@needs_posix
class TestCommandInAnAsciiLocale:
    """Python reads no other character there, and marks the bytes of UTF-8: they are what was typed."""

    @pytest.fixture
    def ascii_(self, root):
        with contextlib.closing(Vault('life')) as v:
            v.update({'clé': 'été', ('né', 1): 2})

        def run_in_c(*words, data=None):
            env = {'LC_ALL': 'C', 'LANG': 'C', 'PYTHONCOERCECLOCALE': '0', 'PYTHONUTF8': '0', 'VAULTS_ROOT': str(root)}
            return finished(spawn(*(word.encode() if isinstance(word, str) else word for word in words), env=env,
                                  stdin=subprocess.PIPE), data)
        return run_in_c

    def test_keys_and_values_are_found_and_stored(self, ascii_):
        assert ascii_('get', 'life', 'clé').out == '\\xe9t\\xe9\n'  # as far as it can be shown
        assert ascii_('--json', 'get', 'life', '"clé"').out == '"\\u00e9t\\u00e9"\n'
        assert ascii_('--json', 'get', 'life', '["né", 1]').out == '2\n'
        assert ascii_('keys', 'life', '--prefix', 'clé').out == '"cl\\u00e9"\n'
        assert ascii_('count', 'life', '--from', 'clé', '--to', 'clê').out == '1\n'
        assert ascii_('set', 'life', 'ñ', 'ß').status == 0
        assert ascii_('--json', 'set', 'life', '["ü"]', '{"é": "è"}').status == 0
        assert ascii_('set', 'life', 'piped', '-', data='œ'.encode()).status == 0
        assert ascii_('delete', 'life', 'clé').status == 0
        with contextlib.closing(Vault('life')) as v:
            assert v == {('né', 1): 2, 'ñ': 'ß', ('ü',): {'é': 'è'}, 'piped': 'œ'}

    def test_names_and_paths_are_those_of_the_same_bytes(self, ascii_, root):
        assert ascii_('set', 'vélo', 'k', '1').status == 0
        assert ascii_('list').out == 'life\n"v\\u00e9lo"\n'
        assert 'name      "v\\u00e9lo"' in ascii_('info', 'vélo').out
        assert '\\u00fc' in ascii_('backup', 'vélo', str(root / 'ü.db')).out
        assert ascii_('get', str(root / 'ü.db'), 'k').out == '1\n'
        assert ascii_('export', 'life', str(root / 'é.jsonl')).status == 0
        assert ascii_('import', str(root / 'é.jsonl'), 'neuf').status == 0
        assert sorted(os.listdir(root / 'vaults')) == ['life.db', 'neuf.db', 'vélo.db']
        assert ascii_('put', 'life', 'file', str(root / 'é.jsonl')).status == 0
        with contextlib.closing(Vault('neuf')) as v:
            assert v == {'clé': 'été', ('né', 1): 2}

    def test_errors_show_what_was_typed_and_bytes_that_are_no_text_stay(self, ascii_):
        assert "there is no key 'n\\xff'" in ascii_('get', 'life', 'nÿ').err
        done = ascii_('set', 'life', 'k', b'\xff')
        assert done.status == 2 and 'no UTF-8' in done.err
        assert ascii_('nôpe').status == 2


@needs_posix
class TestCommandInterrupts:
    @pytest.fixture(autouse=True)
    def heard(self):
        """Hear of Ctrl-C, which what a shell runs in the background ignores, and so do the processes it starts."""
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        yield
        signal.signal(signal.SIGINT, before)

    def test_an_interrupted_import_changes_nothing(self, root, books):
        before = seen(root)
        for name in ('books', 'new'):
            process = spawn('import', '-', name, stdin=subprocess.PIPE, env={'VAULTS_ROOT': str(root)})
            for n in range(20_000):  # more than a pipe holds: it is reading when all is written
                process.stdin.write(b'{"key": %d, "value": "a value"}\n' % n)
            process.stdin.flush()
            process.send_signal(signal.SIGINT)
            process.wait(60)
            done = finished(process)
            assert (done.status, done.out, done.err) == (130, '', '')
            assert seen(root) == before
        Vault(pathlib.Path(books.db_path))._check()

    def test_an_interrupted_check_ends_at_once_and_finds_nothing(self, root):
        v = Vault(pathlib.Path(root, 'vaults', 'many.db'))
        v.update((n, n) for n in range(400_000))
        v.close()
        before = seen(root)
        process = spawn('check', 'many', env={'VAULTS_ROOT': str(root)})
        while process.poll() is None and not (root / 'vaults' / 'many.db-shm').exists():
            time.sleep(0.01)
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        done = finished(process)
        assert (done.status, done.out, done.err) == (130, '', '')
        assert seen(root) == before

    def test_ctrl_c_ends_a_statement_of_sqlite(self, root, command):
        v = Vault('long')
        began = time.monotonic()
        timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
        with pytest.raises(KeyboardInterrupt), cli._Progress(v, 'counting', 'rows'):
            timer.start()
            try:
                v._store._local.c.execute('WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 300000000)'
                                          ' SELECT count(*) FROM n').fetchall()
            except sqlite3.OperationalError:
                pass  # as check() does, which makes a problem of it
        assert time.monotonic() - began < 5
        assert v._store._local.c.execute('WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 300000)'
                                         ' SELECT count(*) FROM n').fetchone() == (300_000,)
        v.close()


class TestCompletion:
    @pytest.fixture
    def place(self, root):
        """A folder with the command, vaults whose keys need quotes, and a file."""
        (root / 'bin').mkdir()
        script = root / 'bin' / 'vaults'
        script.write_text(f'#!/bin/sh\nexec {sys.executable} -m vaults "$@"\n')
        script.chmod(0o755)
        for name in ('books', 'bikes'):
            v = Vault(pathlib.Path(root, 'vaults', f'{name}.db'))
            v.update(dict.fromkeys(['my key 1', 'my key 2', 'user:1', 'user:22', "it's $x `y`", 'new\nline', '--dash', 'zoë',
                                    ('my', 'tuple')]))
            v.close()
        (root / 'file.txt').write_text('')
        return root

    def environment(self, place):
        return {**os.environ, 'PATH': f"{place / 'bin'}{os.pathsep}{os.environ['PATH']}", 'PYTHONPATH': str(HERE),
                'VAULTS_ROOT': str(place), 'HOME': str(place), 'LC_ALL': 'C.UTF-8', 'PS1': '$ ', 'TERM': 'dumb'}

    BASH = {
        'vaults ': list(cli.COMMANDS), 'vaults ge': ['get'], 'vaults get b': ['bikes', 'books'], 'vaults keys bo': ['books'],
        'vaults import x b': ['bikes', 'books'], 'vaults completion ': ['bash', 'zsh', 'fish'],
        'vaults get books my': [r'my\ key\ 1', r'my\ key\ 2'], r'vaults get books my\ k': [r'my\ key\ 1', r'my\ key\ 2'],
        'vaults get books "my k': ['my key 1', 'my key 2'], "vaults get books 'my key 2": ['my key 2'],
        'vaults get books user:': ['1', '22'], 'vaults get books user:2': ['22'], 'vaults get books "user:2': ['user:22'],
        'vaults get books it': [r"it\'s\ \$x\ \`y\`"], 'vaults get books "it': [], 'vaults get books zo': ['zoë'],
        'vaults get books ': [r"it\'s\ \$x\ \`y\`", r'my\ key\ 1', r'my\ key\ 2', 'user:1', 'user:22', 'zoë'],
        'vaults get books -- --d': ['--dash'], 'vaults get books zoë ': [], 'vaults backup books ': [],
        'vaults get ROOT/vaults/books.db zo': ['zoë'], 'vaults get --root=ROOT books zo': ['zoë'],
        'vaults --root /nowhere get books zo': [], 'vaults --root=/nowhere get books zo': [],
        'vaults keys books --prefix my': [r'my\ key\ 1', r'my\ key\ 2'],
        'vaults keys books --p': ['--prefix'],
        'vaults get books --': ['--root', '--json', '--allow-pickle', '--json-key', '--output', '--section'],
        'vaults --json get books "\\"my': [], "vaults --json get books '\"my": ['"my key 1"', '"my key 2"'],
        "vaults get books --json-key '\"my key 2": ['"my key 2"'], r'vaults --json get books \"user:2': [r'22\"'],
        'vaults get --json books [': [r'\[\"my\"\,\ \"tuple\"\]'], 'vaults delete books zo': ['zoë'],
        "vaults get books --json-key '\"--": ['"--dash"'], 'vaults get books --section my tu': ['tuple'],
        'vaults --v': ['--version'], 'vaults get books "$(touch ROOT/made)': [], 'vaults get books $(touch ROOT/made)': [],
        'vaults get "books" z': ['zoë'], 'vaults keys books --limit ': [],
    }

    FISH = {
        'vaults ge': ['get'], 'vaults get b': ['bikes', 'bin/', 'books'], 'vaults import x boo': ['books'], 'vaults completion ': ['bash', 'fish', 'zsh'],
        'vaults get books my': ['my key 1', 'my key 2'], r'vaults get books my\ k': ['my key 1', 'my key 2'], "vaults get books 'my key 2": ['my key 2'],
        'vaults get books it': ["it's $x `y`"], 'vaults get books user:2': ['user:22'], 'vaults get books -- --d': ['--dash'],
        'vaults get books zoë ': [], 'vaults get --root=ROOT books zo': ['zoë'], 'vaults --root /nowhere get books zo': [],
        'vaults get ROOT/vaults/books.db zo': ['zoë'], 'vaults keys books --prefix zo': ['zoë'], 'vaults keys books --p': ['--prefix'],
        'vaults --json get books \'"my': ['"my key 1"', '"my key 2"'], 'vaults get books --json-key [': ['["my", "tuple"]'],
        'vaults get books --section my tu': ['tuple'], 'vaults delete books zo': ['zoë'], 'vaults keys books --limit ': [],
        'vaults backup books fil': ['file.txt'], 'vaults get books (touch ROOT/made)': [],
    }

    @pytest.mark.skipif(not shutil.which('fish'), reason='no fish')
    def test_fish_completes_the_same(self, place):
        lines = {line.replace('ROOT', str(place)): expected for line, expected in self.FISH.items()}
        program = r'''
            vaults completion fish | source
            while read -l line
                printf '%s\n' "=$line" (complete -C $line)
            end'''
        done = subprocess.run(['fish', '-c', program], input='\n'.join(lines) + '\n', cwd=str(place), timeout=60,
                              env=self.environment(place), capture_output=True, encoding='utf-8')
        assert done.stderr == ''
        found = {line: words for line, *words in (part.splitlines() for part in ('\n' + done.stdout).split('\n=')[1:])}
        assert found == lines
        assert not (place / 'made').exists()

    @pytest.mark.skipif(not shutil.which('bash'), reason='no bash')
    def test_bash_completes_commands_vaults_keys_and_options(self, place):
        lines = {line.replace('ROOT', str(place)): expected for line, expected in self.BASH.items()}
        program = '''
            eval "$(vaults completion bash)"
            while IFS= read -r COMP_LINE; do
                out=out$((++n))
                { COMP_POINT=${#COMP_LINE}; _vaults; printf '%s\\n' "$COMP_LINE" "${COMPREPLY[@]}"; } > $out &
                (( n % 8 )) || wait
            done; wait'''
        done = subprocess.run(['bash', '-c', program], input='\n'.join(lines) + '\n', cwd=str(place), timeout=60,
                              env=self.environment(place), stderr=subprocess.PIPE, encoding='utf-8')
        assert done.stderr == ''
        found = {}
        for part in place.glob('out*'):
            line, *words = part.read_text('utf-8').splitlines()
            found[line] = [word for word in words if word]
        assert found == lines
        assert not (place / 'made').exists()

    TYPED = {'vaults get boo': 'get|books', 'vaults get books it': "get|books|it's $x `y`", 'vaults comple': 'completion',
             'vaults get books user:2': 'get|books|user:22', "vaults get books 'my key 2": 'get|books|my key 2',
             'vaults get books zo': 'get|books|zoë', "vaults --json get books '\"zo": '--json|get|books|"zoë"',
             'vaults --json get books \\"user:2': '--json|get|books|"user:22"', 'vaults backup books fil': 'backup|books|file.txt'}
    SHELLS = {'bash': (['bash', '--norc', '--noprofile', '-i'], "bind 'set enable-bracketed-paste off';"),
              'zsh': (['zsh', '-f', '-i'], "unset zle_bracketed_paste; PS1='$ '; autoload -U compinit; compinit -u -D;"),
              'zsh without compinit': (['zsh', '-f', '-i'], "unset zle_bracketed_paste; PS1='$ ';"),
              'zsh with compinit behind it': (['zsh', '-f', '-i'], "unset zle_bracketed_paste; PS1='$ ';")}
    BEHIND = {'zsh with compinit behind it': 'autoload -U compinit; compinit -u -D;'}

    @needs_posix
    @pytest.mark.parametrize('shell', SHELLS)
    def test_what_is_typed_at_a_real_prompt_is_completed(self, place, shell):
        import pty
        program, prepare = self.SHELLS[shell]
        if not shutil.which(program[0]):
            pytest.skip(f'there is no {program[0]} here')
        process, terminal = pty.fork()
        if not process:
            os.chdir(place)
            os.execvpe(program[0], program, self.environment(place))

        def answer(line):
            os.write(terminal, line.encode() + b'\n')
            seen = b''
            while b'=END' not in seen:
                assert select.select([terminal], [], [], 20)[0], seen
                seen += os.read(terminal, 65536)
            return re.findall(r'BEGIN=(.*)=END', seen.decode())[-1]
        # The scripts ask `command vaults`, so what is typed can call a function that shows its arguments.
        assert answer(f"""{prepare} eval "$(vaults completion {program[0]})"; {self.BEHIND.get(shell, '')}"""
                      """ vaults() { local IFS='|'; echo BEGIN"=$*="END; }; vaults ready""") == 'ready'
        for line, expected in self.TYPED.items():
            assert answer(line + '\t').rstrip() == expected
        os.close(terminal)
        os.waitpid(process, 0)


def as_lines(v):
    """Return what an export of the vault writes."""
    file = io.StringIO()
    moving.export(v, file)
    return file.getvalue()


def from_lines(lines, **options):
    """Return a vault in memory with what the lines hold."""
    v = Vault(':memory:', **options)
    moving.import_file(v, io.StringIO(lines), allow_pickle=True)
    return v


def contents(v):
    """Return all that is in a vault, of what is in parts the packed items."""
    from vaults import peers
    from vaults.parts import Head, is_head
    found = []
    for key, data in raw_entries(v):
        if is_head(data):
            head = Head.of(data)
            items = [item for run, _ in peers.runs(v._store, head) for item in run]
            data = head.code, head.meta, head.size, items if head.code == values.LIST else b''.join(items)
        found.append((key, data))
    return found


def filled(v):
    """Put a value of each kind into a vault, large and small ones, some with skipped items and rewritten leaves."""
    v['before'] = 1
    v.list('empty')
    v.list('short').extend([1, None, (2,), b'x'])
    v.list('long').extend({'n': n, 'text': 'x' * (n % 50)} for n in range(3000))
    del v['long'][:7]
    del v['long'][1000:1100]
    v['long'].insert(500, 'y' * 9000)
    v.column('none', 'int8')
    v.column('temps', 'float64').extend([n / 7 for n in range(5000)] + [float('nan'), float('inf')])
    del v['temps'][:3]
    v.column('flags', 'bool').extend([True, False, True])
    v.column('names', 'S3').extend([b'a', b'bcd'] * 2000)
    v.column('days', 'datetime64[D]').extend([dt.date(2026, 11, 21)])
    with v.open('nothing', 'wb'):
        pass
    with v.open('small', 'wb') as file:
        file.write(b'\0\xff')
    with v.open(('files', 1), 'wb') as file:
        file.write(bytes(range(256)) * 3000)
    v['after'] = [1]
    return v


def fails_with(line, *words, error=vaults.VaultFormatError, before='', **options):
    """Import a good entry and lines that are wrong: nothing of it is there afterwards."""
    with contextlib.closing(Vault(':memory:', **options)) as v:
        v.list('kept').append(1)
        with pytest.raises(error) as caught:
            moving.import_file(v, io.StringIO('{"key": "good", "value": 1}\n' + before + line), allow_pickle=False)
        for word in words:
            assert str(word) in str(caught.value), str(caught.value)
        assert dict(v) == {'kept': [1]}
        v._check()


class TestPartsAsJson:
    """Lists, columns and streams go out as lines and come in again, item for item."""

    def test_all_kinds_come_back_item_for_item_and_stay_live(self, v):
        filled(v)
        lines = as_lines(v)
        with contextlib.closing(from_lines(lines)) as back:
            assert contents(back) == contents(v)
            assert as_lines(back).count('"key"') == lines.count('"key"') == len(v) == len(back)
            back['short'].append('more')
            back['temps'].append(1.5)
            with back.open(('files', 1), 'ab') as file:
                file.write(b'end')
            assert back['short'][-1] == 'more' and back['temps'][-1] == 1.5 and back['files', 1][-4:] == b'\xffend'
            back._check()

    @settings(max_examples=20)
    @given(st.lists(rich, max_size=8), st.integers(0, 5))
    def test_any_items_come_back_byte_for_byte(self, items, gone):
        with contextlib.closing(Vault(':memory:')) as v:
            v.list('k').extend(items)
            del v['k'][:gone]
            with contextlib.closing(from_lines(as_lines(v))) as back:
                assert contents(back) == contents(v)
                back._check()

    def test_the_lines_are_as_the_page_says(self, v):
        v.list('log').extend(['a', (1, 2)])
        v.column('temps', 'int16').extend([1, -2])
        with v.open('photo', 'wb') as file:
            file.write(b'abc')
        page = (HERE / 'docs' / 'json.md').read_text(encoding='utf-8')
        assert as_lines(v) in page
        assert [json.loads(line) for line in as_lines(v).splitlines()] == [
            {'key': 'log', 'value': {'!list': 2}}, {'items': ['a', {'!tuple': [1, 2]}]},
            {'key': 'temps', 'value': {'!column': ['int16', 2]}}, {'bytes': 'AQD+/w=='},
            {'key': 'photo', 'value': {'!stream': 3}}, {'bytes': 'YWJj'}]

    def test_they_come_out_of_a_vault_that_is_only_read_and_of_a_section(self, v):
        v['outside'] = 1
        v.section('s').list('log').extend(range(1000))
        with contextlib.closing(Vault(pathlib.Path(v.db_path), flag='r')) as reader:
            lines = as_lines(reader)
        assert lines == as_lines(v)
        inside = as_lines(v.section('s'))
        assert inside.count('"key"') == 1 and inside.partition('\n')[0] == '{"key": "log", "value": {"!list": 1000}}'
        with contextlib.closing(from_lines(inside)) as back:
            assert list(back['log']) == list(range(1000))
            moving.import_file(back.section('t'), io.StringIO(inside))
            assert back['t', 'log'] == list(range(1000))

    def test_counts_and_progress_are_of_entries(self, v):
        for n in range(1500):
            v.list(n).extend(range(n % 3))
        said, file = [], io.StringIO()
        assert moving.export(v, file, progress=said.append) == 1500 and said == [1000, 1500]
        with contextlib.closing(Vault(':memory:')) as back:
            done = moving.import_file(back, io.StringIO(file.getvalue()), progress=said.append)
            assert done == 1500 and said == [1000, 1500] * 2

    def test_what_was_there_is_replaced_and_of_equal_keys_the_later_wins(self, v):
        lines = '{"key": "k", "value": {"!list": 1}}\n{"items": [1]}\n'
        v.column('k', 'int8').extend(range(100))
        assert moving.import_file(v, io.StringIO(lines + lines.replace('[1]', '[2]'))) == 2
        assert v['k'] == [2] and len(v) == 1
        assert not list(v._store.part_numbers())

    def test_a_write_back_vault_takes_them(self, v, root):
        filled(v)
        with contextlib.closing(Vault('live', writeback=True)) as live:
            live['long'] = live['before'] = ['old']
            assert moving.import_file(live, io.StringIO(as_lines(v))) == len(v)
            assert sorted(contents(live)) == sorted(contents(v))
            assert as_lines(live).count('{"key"') == len(v)
            live._check()

    def test_read_gives_copies_as_slices_are(self, v, tmp_path):
        filled(v)
        moving.export(v, tmp_path / 'a.jsonl')
        for path in (tmp_path / 'a.jsonl', v.db_path):
            found = dict(moving.read(path))
            assert list(found) == list(v)
            for key, value in found.items():
                whole = v[key][:] if key != 'after' and not isinstance(v[key], (int, bytes)) else v[key]
                assert type(value) is type(whole), key
                if isinstance(value, (array.array, memoryview)):
                    assert value.tobytes() == whole.tobytes() and len(value) == len(v[key]), key
                else:
                    assert shape(value) == shape(whole), key

    def test_a_vault_file_is_copied_as_it_is(self, v, root):
        filled(v)
        v.list('typed').extend([Colour.RED, (1,), fractions.Fraction(1, 2)])
        with contextlib.closing(Vault('copy')) as copy:
            copy.list('long').append('old')
            assert moving.import_file(copy, v.db_path) == len(v)
            assert sorted(contents(copy)) == sorted(contents(v))
            v['long'].append('later')
            assert copy['long'][-1] != 'later'
            copy._check()

    def test_memory_stays_flat_both_ways(self, v, tmp_path):
        with v.open('large', 'wb') as file:
            for n in range(48):
                file.write(bytes([n]) * (1 << 18))
        v.column('numbers', 'int64').extend(array.array('q', range(500_000)))
        tracemalloc.start()
        try:
            moving.export(v, tmp_path / 'a.jsonl')
            for source in (tmp_path / 'a.jsonl', v.db_path):
                with contextlib.closing(Vault(f'back{len(str(source))}')) as back:
                    moving.import_file(back, source)
                    with back.open('large') as file:
                        assert back['numbers'][-1] == 499_999 and file.seek(0, 2) == 48 << 18
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 8 << 20, peak

    WRONG = [
        ('{"key": "k", "value": {"!list": 2}}\n{"items": [1]}\n', 'the end', '1 of its items'),
        ('{"key": "k", "value": {"!list": 2}}\n{"items": [1]}\n{"key": "x", "value": 1}\n', 'line 4', '1 of its items'),
        ('{"key": "k", "value": {"!list": 1}}\n{"items": [1, 2]}\n', 'line 3', '1 more'),
        ('{"key": "k", "value": {"!list": 0}}\n{"items": [1]}\n', 'line 3', 'key'),
        ('{"items": [1]}\n', 'line 2', 'key'), ('{"bytes": "AA=="}\n', 'line 2', 'key'),
        ('{"key": "k", "value": {"!list": 1}}\n{"bytes": "AA=="}\n', 'line 3', 'items'),
        ('{"key": "k", "value": {"!list": 1}}\n{"items": 5}\n', 'line 3', 'items'),
        ('{"key": "k", "value": {"!list": 1}}\n{"items": [{"!tuple": 1}]}\n', 'line 3', 'no value'),
        ('{"key": "k", "value": {"!list": 1}}\n{"items": [{"!list": 0}]}\n', 'line 3', '!list'),
        ('{"key": "k", "value": {"!list": -1}}\n', 'line 2', '!list'),
        ('{"key": "k", "value": {"!list": true}}\n', 'line 2', '!list'),
        ('{"key": "k", "value": {"!list": ["int8", 1]}}\n', 'line 2', '!list'),
        ('{"key": "k", "value": {"!column": 5}}\n', 'line 2', '!column'),
        ('{"key": "k", "value": {"!column": ["int8"]}}\n', 'line 2', '!column'),
        ('{"key": "k", "value": {"!column": ["object", 1]}}\n', 'line 2', "'object'"),
        ('{"key": "k", "value": {"!column": ["int16", 1]}}\n{"bytes": "AAAA"}\n', 'line 3', '3 bytes', 'int16'),
        ('{"key": "k", "value": {"!column": ["int8", 1]}}\n{"bytes": "AAAA"}\n', 'line 3', '2 more'),
        ('{"key": "k", "value": {"!column": ["bool", 3]}}\n{"bytes": "AAIA"}\n', 'line 3', 'bool'),
        ('{"key": "k", "value": {"!stream": 3}}\n{"bytes": "?"}\n', 'line 3'),
        ('{"key": "k", "value": {"!stream": 3}}\n{"bytes": "AA=="}\n{"bytes":\n', 'line 4', '2 of its'),
        ('{"key": "k", "value": {"!stream": 3, "x": 1}}\n{"bytes": "AAAA"}\n', 'line 3', 'key'),
        ('{"key": "k", "value": [{"!stream": 0}]}\n', 'line 2', '!stream'),
        ('{"key": "k", "value": [{"!serialized": ["json", "1"]}]}\n', 'line 2', '!serialized'),
        ('{"key": "k", "value": {"!serialized": ["json", 1]}}\n', 'line 2', 'text or bytes'),
    ]

    @pytest.mark.parametrize('line, words', [(line, words) for line, *words in WRONG])
    def test_what_is_wrong_is_named_by_its_line_and_nothing_comes_in(self, line, words):
        fails_with(line, *words)

    def test_no_foreign_code_passes_for_a_head(self, v):
        v.list('l').append(1)
        for code in (20, 21, 22, 23):
            packed = msgpack.packb(msgpack.ExtType(code, v._store.get('l')[3:]))
            inner = msgpack.packb([{'a': msgpack.ExtType(5, msgpack.packb([msgpack.ExtType(code, b'x')]))}])
            for form in ({'!ext': [code, 'kA==']}, [{'!ext': [code, 'kA==']}], {'!tuple': [{'!ext': [code, 'kA==']}]},
                         {'!msgpack': as_json._base64(packed)}, {'!msgpack': as_json._base64(inner)}):
                fails_with(json.dumps({'key': 'k', 'value': form}), 'line 2', f'code {code}')
                fails_with(json.dumps({'items': [form]}), 'line 3', f'code {code}',
                           before='{"key": "k", "value": {"!list": 1}}\n')
            user = msgpack.ExtType(code, b'x')
            v['user'] = [user]
            with contextlib.closing(from_lines(as_lines(v))) as back:
                assert back['user'] == [user]

    def test_a_head_inside_another_value_is_damage(self, v):
        v.list('l').append(1)
        v._store.put('k', b'\x91' + v._store.get('l'))
        with pytest.raises(vaults.VaultCorruptError, match="'k'"):
            as_lines(v)
        del v['k']

    def test_a_missing_part_is_damage_and_named(self, v, tmp_path):
        v.list('log').extend(range(5000))
        raw = sqlite3.connect(v.db_path)
        raw.execute('DELETE FROM parts WHERE number = 3')
        raw.commit()
        raw.close()
        with pytest.raises(vaults.VaultCorruptError, match="'log'"):
            moving.export(v, tmp_path / 'a.jsonl')
        with pytest.raises(vaults.VaultCorruptError, match="'log'"):
            dict(moving.read(v.db_path))
        with contextlib.closing(Vault(':memory:')) as back, pytest.raises(vaults.VaultCorruptError, match="'log'"):
            moving.import_file(back, v.db_path)
        del v['log']

    def test_pickles_in_items_follow_the_rule_for_values(self, v, tmp_path):
        v._store.put('x', b'\xc0')
        made = v.list('log')
        made._change(lambda head, tree: made._append(
            head, tree, msgpack.packb(msgpack.ExtType(values.PICKLE, bomb(tmp_path / 'ran'))), 1))
        lines = as_lines(v)
        for options, error in (({'allow_pickle': False}, vaults.UntrustedPickleError), ({}, vaults.UntrustedPickleError),
                               ({'allow_pickle': [Point]}, vaults.UntrustedPickleError)):
            with contextlib.closing(Vault(':memory:')) as back:
                with pytest.raises(error, match='line 3'):
                    moving.import_file(back, io.StringIO(lines), **options)
                assert not len(back)
        with contextlib.closing(Vault(':memory:', allow_pickle=False)) as back, \
                pytest.raises(vaults.UntrustedPickleError, match='line 3'):
            moving.import_file(back, io.StringIO(lines), allow_pickle=True)
        with contextlib.closing(from_lines(lines)) as back:
            assert contents(back) == contents(v)
        with contextlib.closing(Vault(':memory:')) as back, pytest.raises(vaults.UntrustedPickleError):
            moving.import_file(back, v.db_path, allow_pickle=False)
        assert not (tmp_path / 'ran').exists()

    def test_items_of_the_listed_types_are_taken(self, v):
        v.list('log').extend([Custom(1), [Custom(2)], 3])
        lines = as_lines(v)
        with contextlib.closing(Vault(':memory:', allow_pickle=[Custom])) as back:
            moving.import_file(back, io.StringIO(lines), allow_pickle=[Custom])
            assert contents(back) == contents(v)
            assert [type(item) for item in back['log']] == [Custom, list, int]

    def test_a_vault_that_validates_takes_none(self, root):
        with contextlib.closing(Vault(':memory:', validate=lambda key, value: None)) as v:
            for head in ('{"!list": 0}', '{"!stream": 0}', '{"!column": ["int8", 0]}'):
                with pytest.raises(vaults.VaultError, match='validate'):
                    moving.import_file(v, io.StringIO(f'{{"key": "a", "value": 1}}\n{{"key": "k", "value": {head}}}\n'))
            assert not len(v)


class Shouting:
    """A serializer that shows who made a value."""

    name = 'shouting'

    @staticmethod
    def dumps(obj):
        return repr(obj).upper().encode()

    @staticmethod
    def loads(data):
        return ('loaded', data)


class TestSerializersAsJson:
    """A vault with a serializer goes out as it is stored, and into one with the same serializer alone."""

    def test_values_and_items_come_back_byte_for_byte(self, root):
        for serializer in (json, Shouting):
            with contextlib.closing(Vault(':memory:', serializer=serializer)) as v:
                v.update({'a': [1, 'é'], 'b': None, 'c': 'x' * 300})
                v.list('log').extend([1, {'k': 2}, 'x' * 5000])
                with v.open('photo', 'wb') as file:
                    file.write(b'abc')
                with contextlib.closing(from_lines(as_lines(v), serializer=serializer)) as back:
                    assert contents(back) == contents(v)
                    assert back['a'] == v['a'] and list(back['log']) == list(v['log']) and back['photo'] == b'abc'
                    back._check()

    def test_the_lines_say_who_has_made_them(self, root):
        with contextlib.closing(Vault(':memory:', serializer=json)) as v:
            v['a'] = [1, None]
            v.list('log').append(True)
            assert as_lines(v) == ('{"key": "a", "value": {"!serialized": ["json", "[1, null]"]}}\n'
                                   '{"key": "log", "value": {"!list": 1}}\n'
                                   '{"items": [{"!serialized": ["json", "true"]}]}\n')
        with contextlib.closing(Vault(':memory:', serializer=Shouting)) as v:
            v['a'] = 'b'
            assert as_lines(v) == '{"key": "a", "value": {"!serialized": ["shouting", {"!bytes": "J0In"}]}}\n'

    def test_others_refuse_them(self, root):
        with contextlib.closing(Vault('made', serializer=json)) as v:
            v['a'] = 1
            lines = as_lines(v)
        v = Vault('list', serializer=json)
        v.list('log').append(1)
        listed = as_lines(v)
        v.close()
        for text in (lines, listed):
            for options, has in (({}, 'none'), ({'serializer': pickle}, "'pickle'")):
                with contextlib.closing(Vault(':memory:', **options)) as back:
                    with pytest.raises(vaults.VaultFormatError, match=f"'json'.*has.*{has}.*line"):
                        moving.import_file(back, io.StringIO(text))
                    assert not len(back)
            with pytest.raises(vaults.SerializationError, match='serializer'):
                list(moving.read(io.StringIO(text)))
        mixed = listed.replace('1}}', '2}}').replace(']}\n', ', 5]}\n')
        with contextlib.closing(Vault(':memory:', serializer=json)) as back, \
                pytest.raises(vaults.VaultFormatError, match='line 2.*|one serializer'):
            moving.import_file(back, io.StringIO(mixed))
        with contextlib.closing(Vault(':memory:')) as back, pytest.raises(vaults.VaultFormatError, match="key 'a'"):
            moving.import_file(back, v.db_path.replace('list', 'made'))

    def test_a_vault_file_goes_into_one_with_the_same_serializer(self, root):
        with contextlib.closing(Vault('made', serializer=Shouting)) as v:
            v['a'] = 'b'
            v.list('log').extend(['x', 'y'])
            with contextlib.closing(Vault('copy', serializer=Shouting)) as copy:
                assert moving.import_file(copy, v.db_path) == 2
                assert contents(copy) == contents(v)

    def test_plain_lines_go_through_its_dumps(self, root):
        lines = ('{"key": "a", "value": {"!tuple": [1]}}\n{"key": "log", "value": {"!list": 2}}\n{"items": [1, "b"]}\n'
                 '{"key": "s", "value": {"!stream": 1}}\n{"bytes": "AA=="}\n')
        with contextlib.closing(from_lines(lines, serializer=Shouting)) as v:
            assert v['a'] == ('loaded', b'(1,)') and v['log'][:] == [('loaded', b'1'), ('loaded', b"'B'")]
            assert v['s'] == b'\0'
        with contextlib.closing(Vault(':memory:', serializer=json)) as v:
            with pytest.raises(vaults.SerializationError, match='json'):
                moving.import_file(v, io.StringIO('{"key": "a", "value": {"!set": [1]}}\n'))
            assert not len(v)

    def test_what_a_serializer_has_made_is_validated(self, root):
        seen = []
        with contextlib.closing(Vault(':memory:', serializer=json, validate=lambda *pair: seen.append(pair))) as v:
            moving.import_file(v, io.StringIO('{"key": "a", "value": {"!serialized": ["json", "[1]"]}}\n'))
            assert seen == [('a', [1])] and v['a'] == [1]


class TestPartsCommand:
    """The command shows lists, columns and streams without reading all of them, and moves files in and out."""

    @pytest.fixture
    def place(self, root):
        with contextlib.closing(Vault(pathlib.Path(root, 'vaults', 'p.db'))) as v:
            v.list('log').extend(range(1000))
            v.list('few').extend([1, (2,), 'é\n'])
            v.column('temps', 'float64').extend([0.5] * 999 + [float('nan')])
            v.column('tags', 'S2').extend([b'ab', b''])
            with v.open('photo', 'wb') as file:
                file.write(b'0123456789' * 30000 + b'\n')
            v['s', 'k'] = 1
        return root

    @pytest.mark.parametrize('value', [5, 1.5, None, ['!bytes'], {'a': 1}, True])
    def test_only_bytes_and_text_are_written_to_a_file(self, command, root, value):
        with contextlib.closing(Vault('odd')) as v:
            v['k'], v['b'] = value, bytearray(b'ab')
        done = command('get', '--output', str(root / 'out'), 'odd', 'k')
        assert done.status == 1 and 'only a stream, bytes or text' in done.err and not (root / 'out').exists()
        assert command('get', '--output', str(root / 'out'), 'odd', 'b').status == 0
        assert (root / 'out').read_bytes() == b'ab'

    def test_show_says_what_they_are_and_how_they_begin(self, command, place, monkeypatch):
        monkeypatch.setenv('COLUMNS', '60')
        lines = command('show', 'p').out.splitlines()
        assert lines == [
            'few         list of 3 items: [1, {"!tuple": [2]}, "é\\n"]',
            'log         list of 1000 items: [0, 1, 2, 3, 4, 5, 6, 7, 8,…',
            'photo       stream of 300001 bytes',
            'tags        column of S2, 2 items: [{"!bytes": "YWI="}, {"!…',
            'temps       column of float64, 1000 items: [0.5, 0.5, 0.5, …', '["s", "k"]  1']
        monkeypatch.setenv('COLUMNS', '9999')
        assert command('show', 'p', '--prefix', 'log').out.endswith(', 125, 126, ...]\n')
        shown = [json.loads(line)['value'] for line in command('show', 'p', '--json').out.splitlines()]
        assert shown == [{'!list': 3}, {'!list': 1000}, {'!stream': 300001}, {'!column': ['S2', 2]},
                         {'!column': ['float64', 1000]}, 1]

    def test_get_prints_arrays_and_raw_bytes(self, command, place):
        assert command('get', 'p', 'few').out == '[1, {"!tuple": [2]}, "é\\n"]\n'
        for arguments in (['log'], ['"log"', '--json']):
            assert command('get', 'p', *arguments).out == json.dumps(list(range(1000))) + '\n'
        assert json.loads(command('get', 'p', 'temps').out) == [0.5] * 999 + [{'!float': 'nan'}]
        assert command('get', 'p', 'tags').out == '[{"!bytes": "YWI="}, {"!bytes": ""}]\n'
        assert command('get', 'p', 'photo').out == '0123456789' * 30000 + '\n'
        form = json.loads(command('get', 'p', '"photo"', '--json').out)
        assert as_json.to_value(form) == values.dumps(b'0123456789' * 30000 + b'\n')
        Vault(pathlib.Path(place, 'vaults', 'e.db')).list('empty')
        assert command('get', 'e', 'empty').out == '[]\n'

    def test_bytes_of_any_sort_reach_a_pipe_and_a_reader_may_have_seen_enough(self, place):
        data = os.urandom(3 << 20)
        env = {'VAULTS_ROOT': str(place)}
        with contextlib.closing(Vault(pathlib.Path(place, 'vaults', 'p.db'))) as v:
            v.put_file('noise', io.BytesIO(data))
            v.list('many').extend(range(300_000))
        process = spawn('get', 'p', 'noise', env=env)
        out, err = process.communicate()
        assert (out == data, err, process.returncode) == (True, b'', 0)
        for key in ('noise', 'many'):
            process = spawn('get', 'p', key, env=env)
            assert process.stdout.read(1)
            process.stdout.close()
            process.stdout = None
            done = finished(process)
            assert (done.status, done.err) == (0, ''), key

    def test_files_are_put_and_got(self, command, place):
        source, target = place / 'source', place / 'target'
        source.write_bytes(os.urandom(600_000))
        target.write_text('old')
        assert command('set', 'f', 'small', '').status == 0 and 'largest   1 byte: small\n' in command('info', 'f').out
        assert command('delete', 'f', 'small').status == 0
        assert command('put', 'f', 'one', '-', stdin=b'x').out == '1 byte stored\n'
        Vault(pathlib.Path(place, 'vaults', 'f.db')).list('log').append(5)
        assert command('show', 'f').out == 'log  list of 1 item: [5]\none  stream of 1 byte\n'
        assert command('get', 'f', 'one', '--output', target).out == f'1 byte written to {target}\n'
        assert command('put', 'f', 'k', source).out == '600000 bytes stored\n'
        assert command('get', 'f', 'k', '--output', target).out == f'600000 bytes written to {target}\n'
        assert target.read_bytes() == source.read_bytes() == Vault(pathlib.Path(place, 'vaults', 'f.db'))['k']
        assert command('put', 'f', '--json', '["in", 1]', '-', stdin=b'\0\xff').out == '{"bytes": 2}\n'
        assert command('get', 'f', '--json', '["in", 1]', '--output', target).out == '{"bytes": 2}\n'
        assert target.read_bytes() == b'\0\xff'
        command('set', 'f', 'text', 'é')
        command('set', 'f', '"bytes"', '{"!bytes": "AA=="}', '--json')
        for key, data in (('text', 'é'.encode()), ('bytes', b'\0')):
            assert command('get', 'f', key, f'--output={target}').status == 0 and target.read_bytes() == data
        assert command('get', 'f', 'text', '--output', '-').out == 'é\n'

    def test_what_cannot_be_put_or_got_changes_nothing(self, command, place, tmp_path):
        before = seen(place)
        assert 'nowhere' in command('put', 'new', 'k', place / 'nowhere').err
        for arguments in (['few'], ['temps'], ['["s", "k"]', '--json'], ['none']):
            arguments = [json.dumps(one) if '--json' in arguments and one == 'few' else one for one in arguments]
            done = command('get', 'p', *arguments, '--output', place / 'out')
            assert done.status == 1 and done.err.count('\n') == 1, arguments
        assert seen(place) == before
        v = Vault(pathlib.Path(place, 'vaults', 'p.db'))
        v['bomb'] = Planted(tmp_path / 'made')
        v.close()
        shutil.rmtree(tmp_path / 'made', ignore_errors=True)  # a put tries whether the first of a class can be loaded
        assert command('get', 'p', 'bomb', '--output', place / 'out').status == 1
        assert not (tmp_path / 'made').exists() and not (place / 'out').exists()

    @needs_posix
    def test_progress_is_in_bytes(self, place):
        source = place / 'source'
        source.write_bytes(bytes(1 << 20))
        done = at_terminal(place, 'put', 'f', 'k', str(source), streams=['stderr'])
        assert done.status == 0 and 'storing: 262,144 of 1,048,576 bytes' in done.seen
        done = at_terminal(place, 'get', 'f', 'k', '--output', str(source), streams=['stderr'])
        assert done.status == 0 and 'writing: 262,144 of 1,048,576 bytes' in done.seen

    def test_shells_complete_its_files(self, command):
        for shell in ('bash', 'zsh'):
            script = command('completion', shell).out
            assert re.search(r'--output\* \| .*put:2.*\) due=file', script) and 'put:1' in script and ' --output' in script

    def test_a_closed_output_is_no_crash(self, place):
        code = "import sys; sys.stdout = None; from vaults.cli import main; sys.exit(main(['get', 'p', sys.argv[1]]))"
        for key in ('photo', 'log'):
            done = run(code, key, env={'VAULTS_ROOT': str(place)})
            assert (done.returncode, done.stderr) == (0, '')

    def test_info_counts_all_parts_and_names_the_sections(self, command, place):
        facts = json.loads(command('info', 'p', '--json').out)
        assert [facts[name] for name in ('lists', 'columns', 'streams', 'sections')] == [2, 2, 1, ['s']]
        items = sum(len(values.dumps(n)) for n in range(1000)) + len(values.dumps(1) + values.dumps((2,)) + values.dumps('é\n'))
        assert facts['parts'] == items + 8000 + 4 + 300001
        assert facts['largest'][:2] == [{'key': 'photo', 'bytes': 300001}, {'key': 'temps', 'bytes': 8000}]
        assert 'serializer' not in facts
        lines = command('info', 'p').out.splitlines()
        assert 'lists     2' in lines and 'section   s' in lines and 'largest   300001 bytes: photo' in lines
        with contextlib.closing(Vault(pathlib.Path(place, 'vaults', 'many.db'))) as v:
            v.update({(n, n): n for n in range(50)})
            v[('only',)] = 1
        assert json.loads(command('info', 'many', '--json').out)['sections'] == list(range(20))

    def test_the_other_commands_know_them(self, command, place):
        assert command('count', 'p').out == '6\n' and command('keys', 'p').out.split()[:2] == ['few', 'log']
        assert command('check', 'p').out == 'sound: 6 entries\n'
        assert command('backup', 'p', place / 'copy.db').status == 0
        assert command('export', place / 'copy.db').out == command('export', 'p').out
        assert command('export', 'p', place / 'p.jsonl').out == f"6 entries written to {place / 'p.jsonl'}\n"
        assert command('import', place / 'p.jsonl', 'q').out == '6 entries imported, 0 of them replaced earlier ones\n'
        assert command('import', place / 'vaults' / 'p.db', 'q', '--json').out == '{"imported": 6, "replaced": 6}\n'
        for key in ('log', 'few', 'temps', 'tags', 'photo'):
            assert command('get', 'q', key).out == command('get', 'p', key).out
        assert command('delete', 'p', 'photo').status == 0
        assert json.loads(command('compact', 'p', '--json').out)['after'] < 100_000
        assert command('get', 'p', 'photo').status == 1
        for form in ('{"!list": 1}', '{"!stream": 0}', '{"!column": ["int8", 0]}', '{"!serialized": ["json", "1"]}'):
            assert command('set', 'p', '"k"', form, '--json').status == 2

    def test_a_vault_with_a_serializer_is_looked_into_without_it(self, command, root):
        def loads(data):
            raise AssertionError('the command has no functions')
        with contextlib.closing(Vault(pathlib.Path(root, 'vaults', 's.db'),
                                      serializer=('mine', lambda obj: json.dumps(obj), loads))) as v:
            v.update({'a': [1, 'é'], 'b': 'text'})
            v.list('log').extend([1, 2])
            with v.open('photo', 'wb') as file:
                file.write(b'abc')
        assert command('get', 's', 'a').out == '[1, "\\u00e9"]\n'
        assert command('get', 's', '"a"', '--json').out == '{"!serialized": ["mine", "[1, \\"\\\\u00e9\\"]"]}\n'
        assert command('show', 's').out.splitlines()[1] == 'b      "text"'
        assert command('get', 's', 'photo').out == 'abc'
        facts = json.loads(command('info', 's', '--json').out)
        assert facts['serializer'] == 'mine' and facts['lists'] == 1
        assert 'serializer mine' in command('info', 's').out.splitlines()
        assert command('check', 's').status == 0 and command('keys', 's').out.split() == ['a', 'b', 'log', 'photo']
        done = command('set', 's', 'a', 'x')
        assert done.status == 1 and "'mine'" in done.err
        assert command('delete', 's', 'b').status == 0
        lines = command('export', 's').out
        assert '["mine", ' in lines
        done = command('import', '-', 'plain', stdin=lines.encode())
        assert done.status == 1 and "'mine'" in done.err
        done = command('import', '-', 's', stdin=b'{"key": "k", "value": 1}')
        assert done.status == 1 and "'mine'" in done.err
        assert command('import', '-', 's', stdin=lines.encode()).status == 0
        assert command('export', 's').out == lines


class TestTyping:
    def test_subscripts_mean_nothing_at_run_time(self, root):
        v: Vault[str, int] = Vault[str, int]('typed')
        v['a'] = 1
        assert type(v) is Vault

    def test_mypy_infers_what_users_expect(self, tmp_path):
        api = pytest.importorskip('mypy.api')
        program = tmp_path / 'program.py'
        program.write_text(textwrap.dedent('''
            from vaults import Vault
            untyped = Vault('untyped')
            untyped[1] = 'a'
            v: Vault[str, int] = Vault('typed')
            reveal_type(v['k'])
            reveal_type(v.get('k'))
            reveal_type(v.get('k', 'd'))
            reveal_type(v['a':'b'])
            reveal_type(v.pop('k'))
            reveal_type(v.setdefault('k', 1))
            for key, value in v.items():
                reveal_type((key, value))
            with v as same:
                reveal_type(same)
            users = v.section('users', value_type=bytes)
            reveal_type(users['ann'])
            reveal_type(v.section('all').section('inner')['x'])
            for item in v.list('log'):
                reveal_type(v.column('c', 'int8').dtype)
            class Sub(Vault[str, int]):
                def own(self) -> bytes:
                    return b''
            with Sub('sub') as sub:
                reveal_type(sub.own())
            sub |= {'a': 1}
            reveal_type(sub.own())
            reveal_type(Sub.fromkeys('ab', 1).own())
            reveal_type(v.popitem(last=False))
            v.move_to_end('k', last=False)
            users['ann'] = 5
            v[1] = 2
            v['k'] = 'text'
            '''))
        before = os.getcwd()
        os.chdir(HERE)
        try:
            out, _, _ = api.run(['--strict', str(program)])
        finally:
            os.chdir(before)
        short = re.sub(r'builtins\.|vaults\.views\.|vaults\.vault\.', '', out)
        revealed = re.findall(r'Revealed type is "(.*?)"', short)
        union = {'int | None', 'Union[int, None]'}, {'int | str', 'Union[int, str]', 'str | int'}
        assert revealed[0] == 'int' and revealed[1] in union[0] and revealed[2] in union[1], out
        assert revealed[3] == 'SortedSlice[str, int]' and revealed[4:6] == ['int', 'int'], out
        assert revealed[6] in ('tuple[str, int]', 'Tuple[str, int]') and revealed[7] == 'Vault[str, int]', out
        assert revealed[8:14] == ['bytes', 'int', 'str', 'bytes', 'bytes', 'bytes'], out
        assert revealed[14:] in (['tuple[str, int]'], ['Tuple[str, int]']), out
        assert len(re.findall('error:', out)) == 3, out

    GOOD = """
        from typing import Any, Dict, Iterator, List, Optional, Tuple, Union
        import vaults
        from vaults import Vault
        untyped = Vault('untyped')
        untyped.update({1: 'a'})
        untyped.update({'a': 'a'}, b=5)
        untyped.update([('a', None)])
        v: Vault[str, int] = Vault('typed', flag='n', synchronous='FULL')
        one: int = v.values()[0]
        key: str = v.keys()[-1]
        pair: Tuple[str, int] = v.items()[0]
        keys: List[str] = v.keys()[1:3]
        numbers: List[int] = v.values()[:]
        pairs: List[Tuple[str, int]] = v.items()[::2]
        first: Tuple[str, int] = v[:].first()
        last: Tuple[str, int] = v.prefix('a').last()
        maybe: Optional[Tuple[str, int]] = v['a':].first(None)
        part: Dict[str, int] = dict(v['a':'b']['a':].items())
        got: Optional[int] = v['a':].get('b')
        with v.edit('n', 0) as number:
            number += 1
        lists: Vault[str, List[int]] = Vault('lists')
        with lists.edit('k', []) as found:
            found.append(5)
        v.update({'a': 1})
        v.update([('a', 1)], b=2)
        v.update(a=1)
        v.update(v)
        v.update(v.section('s'))
        v.update((key, 1) for key in 'ab')
        v |= {'a': 1}
        v |= [('a', 1)]
        v |= v.section('s')
        untyped |= {1: 'a'}
        both: Dict[str, int] = v | {'a': 1}
        both = {'a': 1} | v
        mixed: Dict[Union[str, bytes], Union[int, bytes]] = v | {b'a': b'b'}
        count: int = v.put_many({'a': 1})
        live = v.list('live')
        plain: List[Any] = live[1:] + live + [5] + [None] * 2
        items: List[Any] = live.copy()
        live += ['a']
        live *= 2
        same: vaults.List[Any] = live
        fast: bool = live < [5]
        temps = v.column('temps', 'float64')
        temps.extend([1.5, 2])
        temp: float = temps[0]
        temp = temps.pop()
        listed: List[float] = temps.tolist()
        ints: vaults.Column[int] = v.column('ints', 'uint8')
        flags: vaults.Column[bool] = v.column('flags', bool)
        names: vaults.Column[Any] = v.column('names', 'S5')
        walk: Iterator[float] = iter(temps)
        db = vaults.open('shelf', 'n')
        db['any'] = 5
        """
    BAD = """
        from typing import List
        from vaults import Vault
        v: Vault[str, int] = Vault('typed')
        text: str = v.values()[0]
        number: int = v.keys()[0]
        texts: List[str] = v.values()[0:2]
        wrong: int = v[:].first()[0]
        v.update({'a': 'no'})
        v |= {'a': 'no'}
        v |= [(5, 5)]
        (v | {'a': 1})['a'].append(5)
        v.update([('a', 'no')])
        v.update(a='no')
        v.put_many({'a': 'no'})
        v.put_many([(1, 1)])
        v.edit('a', 'no')
        with v.edit('a') as value:
            value.append(5)
        Vault('a', flag='rw')
        Vault('a', flag=5)
        Vault('a', synchronous='ALL')
        v.column('c', 'int8').append('text')
        v.column('c', 'float64')[0] = 'text'
        v.column('c', bool)[0].append(5)
        v.list('a') < (1, 2)
        v['a':].last().append(5)
        v['a':].get('b').append(5)
        """

    def errors(self, tmp_path, program):
        api = pytest.importorskip('mypy.api')
        (tmp_path / 'program.py').write_text(textwrap.dedent(program))
        before = os.getcwd()
        os.chdir(HERE)
        try:
            out, _, _ = api.run(['--strict', str(tmp_path / 'program.py')])
        finally:
            os.chdir(before)
        return {int(line) for line in re.findall(r'program.py:(\d+): error:', out)}, out

    def test_what_views_slices_lists_and_columns_hold_is_known(self, tmp_path):
        lines, out = self.errors(tmp_path, self.GOOD)
        assert not lines, out

    def test_what_is_wrong_is_an_error_on_its_line(self, tmp_path):
        lines, out = self.errors(tmp_path, self.BAD)
        program = textwrap.dedent(self.BAD).split('\n')
        wrong = [line for line, text in enumerate(program, 1) if line > 4 and text and not text.startswith('with ')]
        assert lines == set(wrong), out

    def test_typing_is_not_imported_for_it(self):
        assert output('import sys, vaults; print("typing" in sys.modules, "typing_extensions" in sys.modules)') == output(
            'import sys, sqlite3, msgpack; print("typing" in sys.modules, False)')


MIGRATING = HERE / 'docs' / 'migrating.md'
PAGES = [HERE / 'README.md', *sorted(page for page in (HERE / 'docs').glob('*.md') if page != MIGRATING)]


def sections(page):
    """Return the headings of a page, each with the text up to the next one."""
    text = re.sub(r'^(```.*?^```)$', lambda block: block[0].replace('\n#', '\n\0#'), page.read_text('utf-8'), flags=re.M | re.S)
    parts = re.split(r'^##+ (.*)$', text, flags=re.M)
    return [(heading, part.replace('\0', '')) for heading, part in zip(['', *parts[1::2]], parts[::2])]


def blocks(text):
    return re.findall(r'^```(\w*)\n(.*?)^```$', text, re.M | re.S)


def can_import(program):
    names = ','.join(re.findall(r'^ *(?:import|from) ([\w, ]+?)(?: import.*)?$', program, re.M)).split(',')
    return (all(importlib.util.find_spec(re.match(r'\w+', name.strip())[0]) for name in names if name)
            and ('asyncio.to_thread' not in program or hasattr(asyncio, 'to_thread')))


def installs(commands):
    """Tell whether commands need the network; what they install is what CI installs, which a test holds."""
    return bool(re.match(r'python3 -m venv|pip install|apt-get|git clone', commands))


def shell(commands, folder, **options):
    """Run commands in bash as they stand, with the command `vaults` on the path."""
    programs = folder.parent / 'programs'
    programs.mkdir(exist_ok=True)
    for name, arguments in (('vaults', '-m vaults '), ('python', '')):
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments}"$@"\n')
        (programs / name).chmod(0o755)
    env = {**os.environ, 'PYTHONPATH': str(HERE), 'PATH': f'{programs}{os.pathsep}{os.environ["PATH"]}'}
    return subprocess.run(['bash', '-e', '-c', commands], cwd=str(folder), env=env, capture_output=True, text=True,
                          timeout=60, **{'input': '', **options})


def assert_shown(program, stdout):
    """Compare what was printed with the comments behind each print; `{...}` stands for what is left out."""
    expected = re.findall(r'print\(.*\)\s+# (.*)', program)
    assert not expected or len(expected) == len(stdout.splitlines()), (expected, stdout)
    for line, said in zip(stdout.splitlines(), expected):
        assert line == said or said.endswith('{...})]'), (line, said)


class TestDocuments:
    def test_the_docstrings_run(self):
        import doctest

        for module in (vault, values, sequences, columns):
            failed, tried = doctest.testmod(module)
            assert not failed and tried

    @pytest.mark.parametrize('page', [pytest.param(page, id=page.stem) for page in PAGES])
    def test_the_programs_and_commands_of_the_page_run_as_they_stand(self, root, page):
        # The blocks below one heading run in order in one folder, which is empty at first; the tutorial goes on from one
        # heading to the next. Left out is what this Python lacks: a program that imports a package that is not installed,
        # commands where there is no bash.
        for number, (heading, section) in enumerate(sections(page)):
            folder = root / ('all' if page.stem == 'tutorial' else str(number))
            folder.mkdir(exist_ok=True)
            for language, block in blocks(section):
                if language == 'python' and can_import(block):
                    done = run(block, cwd=str(folder))
                elif language == 'sh' and not installs(block) and shutil.which('bash'):
                    done = shell(block, folder)
                else:
                    continue
                assert done.returncode == 0, (heading, block + done.stderr)
                assert_shown(block, done.stdout)

    def test_what_the_pages_install_is_what_ci_installs(self):
        ci = (HERE / '.ci' / 'run').read_text('utf-8')
        seen = [block for page in (*PAGES, MIGRATING) for _, section in sections(page)
                for language, block in blocks(section) if language == 'sh' and installs(block)]
        for extra in re.findall(r"pip install (?:-e )?'(\.\[.*?\])'", '\n'.join(seen)):
            assert f"pip\" install -q '{extra}'" in ci, extra
        for program in re.findall(r'\.venv/bin/(?!activate)(\S+)', '\n'.join(seen)):
            assert f'bin/{program}"' in ci, program

    def test_the_programs_of_the_migration_page_run(self, root):
        # Before and after use the same names of files, so each have a folder of their own, below one heading.
        ran = 0
        for number, (_, section) in enumerate(sections(MIGRATING)):
            before, after = root / f'before{number}', root / f'after{number}'
            for folder in (before, after):
                shutil.copytree(TESTDATA, folder)
            (before / 'vaults').mkdir()
            shutil.copy(TESTDATA / 'vaults-earlier.sqlite', before / 'vaults' / 'settings.db')
            known = True  # whether this Python has the library that the section is about
            for language, block in blocks(section):
                if block.startswith('# before'):
                    known = known and can_import(block)
                if language == 'text' or (not known and not block.startswith('# after')):
                    continue
                folder = after if block.startswith('# after') else before
                done = run(block, cwd=str(folder)) if language == 'python' else shell(block, folder)
                assert done.returncode == 0, block + done.stderr
                assert_shown(block, done.stdout)
                ran += block.startswith('# after')
        assert ran >= 12

    @pytest.mark.skipif(not shutil.which('bash'), reason='no bash to run the commands with')
    def test_what_the_commands_of_their_page_leave(self, root):
        block, = (block for _, section in sections(HERE / 'docs' / 'command.md') for language, block in blocks(section)
                  if 'vaults set books dune' in block)
        done = shell(block, root, input='print(len(v))')
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith('Frank Herbert\ndune\n') and done.stdout.endswith('\n4\n'), done.stdout
        assert (root / 'copy.jpg').read_bytes() == (root / 'photo.jpg').read_bytes()
        assert dict(vaults.moving.read(root / 'books.jsonl')) == {
            'dune': 'Frank Herbert', ('log', 2026): {'a': [1, 2]}, 'emma': {'by': 'Jane Austen'}}

    @pytest.mark.parametrize('page', [HERE / 'README.md', HERE / 'docs' / 'tutorial.md'], ids=lambda page: page.stem)
    def test_the_first_programs_can_be_pasted_into_a_prompt(self, page):
        import codeop
        for language, block in blocks(page.read_text('utf-8')):
            lines = []
            for line in [*block.splitlines(), ''] if language == 'python' else ():
                lines.append(line)
                if codeop.compile_command('\n'.join(lines)):
                    lines = []
            assert not lines, block

    def test_the_readme_fits_one_look(self):
        assert len((HERE / 'README.md').read_bytes()) <= 9 * 1024

    def test_the_reference_has_every_public_name(self):
        page = (HERE / 'docs' / 'api.md').read_text('utf-8')
        for name in vaults.__all__:
            if not isinstance(getattr(vaults, name), type) or not issubclass(getattr(vaults, name), vaults.VaultError):
                assert re.search(rf'auto\w+:: (vaults\.)?{name}$', page, re.M), name

    def test_what_the_page_about_the_implementation_names_is_there(self):
        page = re.sub('^```.*?^```$', '', (HERE / 'docs' / 'implementation.md').read_text('utf-8'), flags=re.M | re.S)
        source = '\n'.join(file.read_text('utf-8') for file in (HERE / 'tests.py', *(HERE / 'vaults').rglob('*.py')))
        words = set(re.findall(r'\w+', source))
        named = set(re.findall(r'`([\w./]+)(?:\(.*?\))?`', page))
        for name in named:
            if name.endswith('.py'):
                assert any((HERE / folder / name).exists() for folder in ('', 'vaults', 'trials')), name
            elif re.search('[_A-Z.]', name) and not name.startswith('NAME') and '/' not in name:
                assert words.issuperset(name.split('.')), name
        assert len(named) > 150

    def test_the_changelog_knows_this_version(self):
        assert f'## {vaults.__version__}' in (HERE / 'CHANGELOG.md').read_text('utf-8')

    def test_the_pragma_of_the_format_page(self):
        page = (HERE / 'docs' / 'format.md').read_text('utf-8')
        for name in 'INT BYTEARRAY TUPLE SET FROZENSET COMPLEX DATE DATETIME TIME TIMEDELTA DECIMAL FRACTION UUID'.split():
            assert re.search(rf'\| *`?{getattr(values, name)}`? *\|', page), name
        assert str(sqlite.APPLICATION_ID) in page or '0x7661756c' in page.lower()
