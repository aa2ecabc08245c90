"""Sections: a vault in a vault."""
from __future__ import annotations

import collections
import contextlib
import copy
import datetime as dt
import gc
import os
import pathlib
import pickle
import shutil
import subprocess
import sys
import tempfile
import threading
import uuid

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

import vaults
from vaults import Vault, keys
from vaults.sections import Prefixed, suffix

from .internals import statements, unwatched
from .machines import DictMachine
from .samples import section_keys

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
            unwatched(v)
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
        unwatched(v)

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
        code = "import sys, vaults; print([m for m in sys.modules if m in ('vaults.sections', 'vaults.stores.live', 'vaults.codecs.large')])"
        found = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
        assert found.stdout.strip() == '[]'
        assert vaults.Section.__name__ in vaults.__all__


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
