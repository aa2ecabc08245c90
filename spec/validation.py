"""Validation: what a vault refuses."""
from __future__ import annotations

import copy
import gc
import os
import pickle

import pytest

import vaults
from vaults import Vault, moving


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
        assert type(checked) is Vault and type(checked.section('a', value_type=int)) is vaults.Section
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
                checked._place.allow_chunks('log')
            assert "'log'" in str(caught.value)
        assert v._place.allow_chunks('log') is None

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

    def test_what_a_validation_puts_in_the_vault_is_written_with_what_it_validates(self, root):
        def counted(key, value):
            if key != 'count':
                w['count'] = w.get('count', 0) + 1
        w = Vault('test', writeback=True, validate=counted)
        w['count'], w['a'] = 0, [1]
        w.sync()
        w['a'].append(2)
        expected = w['count'] + 1
        w.close()
        assert Vault('test').items() == [('count', expected), ('a', [1, 2])]
