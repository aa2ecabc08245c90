"""Serializers of a program, and values that are packed without a vault."""
from __future__ import annotations

import collections
import contextlib
import importlib.util
import json
import os
import pickle
import sqlite3
from types import SimpleNamespace

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

import vaults
from vaults import Vault
from vaults.codecs import codes, registry
from vaults.codecs.serializers import AS_STORED, Serializer

from .samples import as_ext


class Wrapped:
    def __init__(self, x):
        self.x = x

    def __eq__(self, other):
        return type(other) is type(self) and other.x == self.x


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

    @pytest.mark.parametrize('code', sorted(codes.CHUNKED))
    def test_what_lives_in_a_vault_is_not_loaded_from_its_bytes(self, code, monkeypatch):
        with pytest.raises(vaults.SerializationError, match='in its vault'):
            vaults.loads(as_ext(code, []))
        with pytest.raises(vaults.SerializationError, match='element 0.*in its vault'):
            vaults.loads_many([as_ext(code, [])])
        monkeypatch.setitem(registry.live_types, Wrapped, None)
        with pytest.raises(vaults.SerializationError, match='live list'):
            vaults.dumps([Wrapped(1)])

    def test_what_a_serializer_made_is_said_to_be_that(self):
        with pytest.raises(vaults.SerializationError, match='serializer='):
            vaults.loads(as_ext(codes.SERIALIZED, '1'))


def reversed_text(data):
    return data[::-1]


class TestSerializer:
    """Another pair of functions takes the place of msgpack for a whole vault, and its name is in the file."""

    def test_values_are_what_the_functions_make(self, root):
        v = Vault('j', serializer=json)
        v['k'] = {'b': (1, None), 'ä': 1.5}
        assert v['k'] == {'b': [1, None], 'ä': 1.5} == v.get('k')
        assert v._store.get('k') == as_ext(codes.SERIALIZED, json.dumps(v['k']))
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
        assert v['k'] == [1] and v._store.get_chunk(bytes(12), 0) == msgpack.packb({'serializer': name})
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
        from vaults import settings
        plain = settings.recorded

        def slow(store):
            monkeypatch.setattr(settings, 'recorded', plain)
            Vault('s', serializer=json)  # between our look and our writing
        monkeypatch.setattr(settings, 'recorded', slow)
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

    def test_a_pickle_names_a_module_that_stays(self, root):
        with Vault('v', serializer=json) as v, Vault('w', serializer=('two', json.dumps, json.loads)) as w:
            v['k'] = w['k'] = [1]
        old = b'cvaults.serializers\n_of_module\n(Vjson\ntR.', b'cvaults.serializers\nSerializer\n.', b'cvaults.serializers\nAS_STORED\n.'
        assert [pickle.loads(data) for data in old[1:]] == [Serializer, AS_STORED] and pickle.loads(old[0]).name == 'json'
        for one in (v, w, AS_STORED):
            assert b'vaults.serializers' in pickle.dumps(one) and b'codecs' not in pickle.dumps(one)

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
        v._store.put('bad', msgpack.packb(msgpack.ExtType(codes.SERIALIZED, b'\xc1')))
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
