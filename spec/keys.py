"""Keys: which are one entry, their order, the bytes that they have."""
from __future__ import annotations

import collections
import contextlib
import datetime as dt
import decimal
import enum
import re
import sqlite3
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

import vaults
from vaults import Vault, keys

from .helpers import UTC
from .internals import depth_of
from .samples import any_key, numbers, plain_keys, texts


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
        assert len(v) == 0 and depth_of(v) == 0

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
        for key in (numpy.datetime64('2026-01-01'), numpy.datetime64('2026-01-01T00:00:00.000000001'), numpy.datetime64('NaT', 's'),
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


class TestSoundness:
    """A key from outside is taken when it is one that is stored, and nothing else is."""

    @pytest.mark.parametrize('stored', [b'', b'\0', b'\x02a\0', b'\x04', b'\x04a', b'\x04a\0\0', b'\x01\x81\x01\0', b'\xff', b'\xffo', b'\x09\x09\0',
                                        '\ud800', 1 << 63, -(1 << 63) - 1, float('nan'), None, [], {}, ('a',), bytearray(b'\x03')], ids=repr)
    def test_what_is_no_stored_key_is_refused(self, stored):
        with pytest.raises(vaults.VaultValueError):
            keys.require_sound(stored)

    @pytest.mark.parametrize('key', [True, 0, -(1 << 63), (1 << 63) - 1, -0.0, float('-inf'), 2.0**70, 2**70 + 1, '', 'ä\0', '\ud800', b'', b'\0\xff', None, (),
                                     ('a', (1, None)), ('x' * 500,)], ids=repr)
    def test_what_is_a_stored_key_is_itself(self, key):
        stored = keys.encode(key)
        assert keys.require_sound(stored) is stored is keys.require_bound(stored)

    def test_the_end_of_a_range_is_any_stored_form_up_to_the_highest(self):
        for bound in (keys.LOWEST, keys.HIGHEST, b'', *keys.prefix_bounds('a'), *keys.prefix_bounds(('a',)), *keys.prefix_bounds(b'a'), *keys.prefix_bounds('')):
            assert keys.require_bound(bound) is bound
        for bound in (keys.HIGHEST + b'o', float('nan'), None, 1 << 64):
            with pytest.raises(vaults.VaultValueError):
                keys.require_bound(bound)
