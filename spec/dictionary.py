"""A vault is a dict: its methods, its errors, its order, its copies."""
from __future__ import annotations

import ast
import contextlib
import copy
import datetime as dt
import decimal
import enum
import fractions
import io
import os
import pathlib
import pickle
import re
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import vaults
from vaults import Vault, recovery, views
from vaults.stores.sqlite import scan, walks

from .helpers import PAGES, output
from .internals import depth_of, statements, unwatched
from .machines import DictMachine


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
            assert getattr(Vault, name).__doc__, name

    def test_the_public_names_are_documented(self):
        assert vaults.__all__ == sorted(vaults.__all__)
        pages = '\n'.join(page.read_text('utf-8') for page in PAGES)
        for name in vaults.__all__:
            assert getattr(vaults, name).__doc__ and name in pages, name
        for name in dir(Vault):
            if not name.startswith('_'):
                assert getattr(Vault, name).__doc__, name
                assert name in pages, name


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


class QueuedMachine(DictMachine):
    options = {'thread_safe': True}


TestAsADict = DictMachine.TestCase
TestAsADictThatLocks = QueuedMachine.TestCase
for case in (TestAsADict, TestAsADictThatLocks):
    case.settings = settings(max_examples=10, stateful_step_count=30, deadline=None,
                             suppress_health_check=list(HealthCheck))
del case


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
        v.update((n, n) for n in range(1100))  # three pages
        v.update((key, value + len(v)) for key, value in v.items())
        assert v[1099] == 2199

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
        assert v['log'] == [1] and depth_of(v) == 0

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
    def test_a_copied_slice_is_of_the_same_keys(self, root, copied):
        v = Vault('v')
        v.update(a=1, b=2, c=3)
        for one in (v['a':'c'], v.section('s')[:], v.prefix('a'), v['a':'c'].items()):
            assert copied(one) == one
        other = copied(v['b':])
        v['d'] = 4
        assert other == {'b': 2, 'c': 3, 'd': 4} and other['c':].keys() == ['c', 'd']

    def test_a_pickled_slice_is_a_vault_and_two_keys_whatever_the_version(self, root):
        piece = Vault('v')['a':'c']
        assert piece.__reduce_ex__(2)[2] == (None, {'_bounds': ('a', 'c'), '_vault': piece._vault})

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
        read, are_intact = [], walks.are_intact
        for room in (scan, walks):
            monkeypatch.setattr(room, 'are_intact', lambda keys, *columns: read.append(len(keys)) or are_intact(keys, *columns))
        assert [place.values()[cut] for place in places] == expected
        assert sum(read) < 120

    def test_comparing_looks_at_the_lengths_first_and_holds_a_page(self, v):
        part = v['k1':'k2']
        there = dict(part)
        assert part == there and part == v['k1':'k2'] and there == part and part != {**there, 'x': 1} and part != []
        assert part != {**there, 'k1': 'other'} and v == dict(v.items()) and v != there and part != v and v['x':] == {}
        for wrong in ({}, {'k1': 1}, dict.fromkeys(range(4000))):
            seen = statements(v)
            assert part != wrong and v != wrong and v.keys() != list(wrong) and part.items() != wrong.items()
            unwatched(v)
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
        seen = statements(v)
        views = v.keys(), v.values(), v.items(), v['a':'z'], v.prefix('k')
        assert seen == [] and len(views) == 5
        assert len(list(v.items())) == 3000
        assert len(seen) < 14
