"""Values: what comes back as it went in, deep values, the bytes of the format."""
from __future__ import annotations

import collections
import contextlib
import dataclasses
import datetime as dt
import decimal
import fractions
import io
import json
import pathlib
import sys
import threading
import uuid

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vaults
from vaults import Vault, moving
from vaults.codecs import codes, packing, pickles, pickling, registry
from vaults.collections import title_of
from vaults.moving import as_json

from .helpers import UTC, raw_entries, run
from .samples import (
    Colour,
    Custom,
    Pair,
    Unpicklable,
    as_ext,
    as_object,
    aware,
    moment_in,
    shape,
    wrapped,
    wrappers,
    wraps,
    zones,
)


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
        assert shape(vaults.loads(vaults.dumps(value, allow_pickle=False))) == shape(value)

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
        data = msgpack.packb(msgpack.ExtType(codes.DATETIME, msgpack.packb(['2026-01-01T00:00:00', 0, 'Nowhere/At_All'])))
        with pytest.raises(vaults.SerializationError, match='Nowhere/At_All.*tzdata'):
            vaults.loads(data)

    @pytest.mark.parametrize('value', [Pair(1, 2), collections.OrderedDict(a=1), collections.deque([1]), Colour.RED,
                                       Custom(3), collections.Counter('aab'), int, len,
                                       collections.defaultdict(list, a=[1])])
    def test_what_msgpack_cannot_carry_is_pickled_and_never_flattened(self, v, value):
        v['k'] = {'leaf': [value], 'plain': 1}
        assert v['k']['leaf'] == [value] and type(v['k']['leaf'][0]) is type(value)
        raw = msgpack.unpackb(vaults.dumps({'leaf': value, 'plain': 1}))
        assert raw['plain'] == 1 and raw['leaf'].code == codes.PICKLE

    def test_what_holds_itself_is_pickled_whole(self, v):
        cycle = [1]
        cycle.append({'a': (cycle, '\ud800')})
        v['k'] = cycle
        back = v['k']
        assert back[1]['a'][0] is back and back[1]['a'][1] == '\ud800'
        assert msgpack.unpackb(v._store.get('k')).code == codes.PICKLE

    def test_what_holds_itself_is_said_to_where_nothing_is_pickled(self, v):
        cycle, node = [], Custom(1)
        cycle.append(cycle)
        node.x = {'self': (node,)}
        vaults.register(Custom, lambda custom: custom.x, Custom, name='Custom')
        try:
            for value in (cycle, {'a': [cycle]}, (1, cycle), node):
                with pytest.raises(vaults.UntrustedPickleError, match='holds itself.*without the circle'):
                    vaults.dumps(value, allow_pickle=False)
        finally:
            registry.by_class.pop(Custom)
            registry.by_name.pop('Custom')

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
        assert msgpack.unpackb(vaults.dumps(value), strict_map_key=False) == value

    @given(st.binary(max_size=60))
    def test_arbitrary_bytes_are_a_value_or_an_error_of_ours(self, data):
        try:
            vaults.loads(data)
        except (vaults.VaultError, ImportError):
            pass

    def test_a_planted_bomb_is_an_error_and_not_a_crash(self):
        nested = b'\xc0'
        for _ in range(2000):
            nested = msgpack.packb(msgpack.ExtType(codes.TUPLE, nested))
        for data in (b'\xdd\xff\xff\xff\xff', b'\xdf\xff\xff\xff\xff', b'\xc6\xff\xff\xff\xff', b'\xdb\xff\xff\xff\xff',
                     b'\x91' * 100000 + b'\xc0', b'\x81\xa1a' * 100000, b'\xc9\xff\xff\xff\xff\x05', b'\x81\x91\x01\x01',
                     nested):
            with pytest.raises(vaults.VaultCorruptError):
                vaults.loads(data)

    def test_what_stands_for_many_items_is_not_taken_for_them(self):
        endless = as_object(codes.RANGE, [0, 2**62, 1])
        field = [as_object(codes.TUPLE, ['a', '<i2', endless])]
        for data in [*(as_ext(code, endless) for code in (codes.TUPLE, codes.SET, codes.FROZENSET, codes.TIMEDELTA,
                                                          codes.RANGE)),
                     as_ext(codes.NDARRAY, ['<i2', endless, 'C', b'']), as_ext(codes.NDARRAY, [field, [0], 'C', b'']),
                     as_ext(codes.NDARRAY, [[endless], [0], 'C', b''])]:
            with pytest.raises((vaults.VaultCorruptError, ImportError)):
                vaults.loads(data)
        for form in ('!set', '!tuple'):
            with pytest.raises(vaults.SerializationError):
                as_json.to_value({form: {'!range': [0, 2**62, 1]}})

    @pytest.mark.parametrize('parts', [['1e999999999', None], [msgpack.ExtType(codes.DECIMAL, b'1e999999999'), None],
                                       [1.5, 1], ['1/3', None], [True, 1]])
    def test_a_fraction_is_made_of_integers_alone(self, parts):
        with pytest.raises(vaults.VaultCorruptError):
            vaults.loads(as_ext(codes.FRACTION, parts))

    @pytest.mark.skipif(sys.version_info < (3, 9), reason='no zoneinfo')
    @pytest.mark.parametrize('zone', ['Europe', 'E' * 5000, '', 'a\0b', '../UTC', '/etc/passwd'])
    def test_a_time_zone_that_is_no_file_is_an_error_of_ours(self, zone):
        with pytest.raises(vaults.VaultError):
            vaults.loads(as_ext(codes.TIME, ['10:30:00', 0, zone]))

    def test_deep_types_do_not_exhaust_a_threads_stack(self):
        nested = ()
        for _ in range(codes.MAX_EXT_DEPTH - 1):
            nested = (nested,)
        found = []
        size = threading.stack_size(1 << 20)
        try:
            thread = threading.Thread(target=lambda: found.append(vaults.loads(vaults.dumps(nested, allow_pickle=False))))
            thread.start()
            thread.join()
        finally:
            threading.stack_size(size)
        assert found == [nested]

    def test_types_as_deep_as_they_nest_are_read_on_a_stack_of_256_kilobytes(self):
        done = run(SMALL_STACK)
        assert done.returncode == 0 and done.stdout == 'read\n', done.stderr

    def test_threads_do_not_share_a_packer(self):
        codec = packing.Codec(pickles.Refusing())
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
            title_of(b'')
        assert not as_json.is_serialized(b'')

    def test_no_deep_value_is_part_of_another(self):
        data = packed_nil = b'\xc0'
        for _ in range(3):
            data = raw_ext(codes.DEEP, raw_ext(codes.TUPLE, b'\x91' + data))
        assert vaults.loads(raw_ext(codes.DEEP, raw_ext(codes.TUPLE, b'\x91' + packed_nil))) == (None,)
        with pytest.raises(vaults.VaultCorruptError, match='part of another'):
            vaults.loads(data)

    @given(trees, wraps)
    @settings(max_examples=30)
    def test_any_value_in_any_wrapping_comes_back(self, value, wraps):
        for how, times in wraps:
            value = wrapped(value, how, times)
        data = vaults.dumps(value, allow_pickle=False)
        assert alike(vaults.loads(data), value)
        assert as_json.to_value(json.loads(as_json.as_line(as_json.from_value(data)))) == data

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
            back = vaults.loads(vaults.dumps(chain, allow_pickle=False))
            for n in reversed(range(5000)):
                assert type(back) is Link and back.value == f'{n}\ud800'
                back = back.rest
            assert back is None
        finally:
            registry.by_class.pop(Link)
            registry.by_name.pop('Link')

    def test_types_with_parts_and_arrays_are_as_exact_there(self):
        inner = [dt.datetime(2026, 1, 1, tzinfo=UTC), dt.time(1), dt.timedelta(1, 2, 3), fractions.Fraction(2**70, 3),
                 range(2**70), msgpack.ExtType(5, b'a'), msgpack.Timestamp(1, 2), bytearray(b'x'), 2**70, {2**70: [2**70]},
                 decimal.Decimal('1.50'), uuid.UUID(int=1), 1j, {1, (2,)}, len]
        back = vaults.loads(vaults.dumps(wrapped(inner, 'tuple', 17)), allow_pickle=True)
        assert shape(back) == shape(wrapped(inner, 'tuple', 17))

    def test_they_are_json_as_others_are_until_that_is_too_deep(self):
        inner = [dt.datetime(2026, 1, 1, tzinfo=UTC), {1, (2,)}, 2**70, {2**70: [2**70, '\ud800']}, b'x', 1.5, float('inf'), len,
                 msgpack.Timestamp(1, 2), msgpack.ExtType(5, b'a'), {'!a': 1}, {}, [], {b'x': 1, 'b': [b'y', 2]}, ..., '\ud800']
        for value, tag in ((wrapped(inner, 'tuple', 17), '!tuple'), (wrapped(inner, 'tuple', 28), '!tuple'),
                           (wrapped([inner, 1], 'tuple', 70), '!msgpack'), (wrapped(inner, 'frozenset', 0), None)):
            data = vaults.dumps(value)
            form = as_json.from_value(data)
            assert as_json.to_value(json.loads(as_json.as_line(form))) == data and (tag is None or list(form) == [tag])

    def test_nothing_but_a_pickle_needs_one_there(self):
        value = wrapped([msgpack.Timestamp(1, 2), msgpack.ExtType(5, b''), ...], 'tuple', 17)
        assert shape(vaults.loads(vaults.dumps(value, allow_pickle=False))) == shape(value)

    def test_numpy_is_as_exact_there(self):
        numpy = pytest.importorskip('numpy')
        array = numpy.arange(6, dtype='<i2').reshape(2, 3)
        back = vaults.loads(vaults.dumps(wrapped([array, numpy.float32(1.5)], 'tuple', 17), allow_pickle=False))
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
        data = msgpack.packb(msgpack.ExtType(codes.DEEP, payload))
        with pytest.raises(vaults.VaultCorruptError):
            vaults.loads(data)
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
        pickling.proven.discard(CountedLoads)
        CountedLoads.loads, value = 0, CountedLoads()
        value.x = 1
        v.update({n: [value] for n in range(10)})
        assert CountedLoads.loads == 1
        value.x = b'x' * (pickling.PROVEN_SIZE + 1)
        pickling.proven.discard(CountedLoads)
        v['large'] = value
        assert CountedLoads.loads == 1

    @staticmethod
    def unreadable(v):
        """Put three entries, of which the class of the last is gone."""
        v.update({'a': 1, 'b': 2, 'bad': 3})
        v._store.put(v._keys.encode('bad'), msgpack.packb(
            msgpack.ExtType(codes.PICKLE, b'cnowhere\nGone\n.')))

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
        assert vaults.dumps(value).hex() == packed
        assert vaults.loads(bytes.fromhex(packed)) == value

    def test_the_codes_are_these(self):
        numbers = {name: getattr(codes, name) for name in
                   'PICKLE REGISTERED INT BYTEARRAY TUPLE SET FROZENSET COMPLEX DATE DATETIME TIME TIMEDELTA DECIMAL '
                   'FRACTION UUID RANGE EXTTYPE NDARRAY NUMPY_SCALAR STREAM LIST COLUMN SERIALIZED TEXT DEEP'.split()}
        assert list(numbers.values()) == list(range(1, 26))

    def test_a_code_of_a_newer_version_is_said_to_be_one(self):
        with pytest.raises(vaults.SerializationError, match='code 100.*newer'):
            vaults.loads(msgpack.packb(msgpack.ExtType(100, b'')))
