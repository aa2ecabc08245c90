"""A read cache: what was read is given again without SQLite, and is never older than the last commit of anybody."""
from __future__ import annotations

import asyncio
import copy
import gc
import os
import pathlib
import pickle
import sys
import threading

import pytest

import vaults
from vaults import DictionaryStore, Vault

from .helpers import LINUX, block_elsewhere, crowd, in_child, in_thread, needs_fork, open_files, output, run
from .internals import connection_of, kept_of, statements, unwatched

on_linux = pytest.mark.skipif(not LINUX, reason='nothing is kept elsewhere')


def asked_for(v, key):
    """Return how many statements reading the key takes."""
    seen = statements(v)
    v.get(key)
    unwatched(v)
    return len(seen)


CACHED_WRITES = {
    'put': lambda v: v.put('k', 'new'), 'new key': lambda v: v.put('other', 1), 'update': lambda v: v.update(k=[2], n=3),
    'del': lambda v: v.__delitem__('k'), 'pop': lambda v: v.pop('k'), 'popitem': lambda v: v.popitem(),
    'clear': lambda v: v.clear(), 'slice': lambda v: v.__delitem__(slice('a', 'z')), 'setdefault': lambda v: v.setdefault('x', 1),
    'move': lambda v: v.move_to_end('k'), 'list': lambda v: v.list('list').append('new'),
    'stream': lambda v: v.put_file('k', __file__), 'section': lambda v: v.section('s').put('k', 'new')}
CACHED_KEYS = ['k', 'n', 'text', 'list', ('s', 'k'), 7]


def all_cached(v):
    return {key: value.tolist() if hasattr(value, 'tolist') else value for key, value in v.get_many(CACHED_KEYS).items()}


class TestReadCache:
    @pytest.fixture
    def c(self, root):
        vault = Vault('test', read_cache=100)
        vault.update({'k': {'n': [1]}, 'n': 1, 'text': 'x', ('s', 'k'): 2, 7: (1,)})
        vault.list('list').append(1)
        yield vault
        if not vault.closed:
            vault._check()
            vault.close()

    @on_linux
    @pytest.mark.parametrize('key', [*CACHED_KEYS, 'none'], ids=str)
    def test_what_was_read_is_given_again_without_sqlite(self, c, key):
        c.update({'none': None})
        assert asked_for(c, key) >= 1
        assert asked_for(c, key) == 0

    def test_nobody_keeps_anything_who_does_not_ask_for_it(self, root):
        for options in ({}, {'read_cache': None}, {'read_cache': 0}):
            v = Vault('test', **options)
            v['k'] = 1
            assert v['k'] == 1 and asked_for(v, 'k') == 1

    def test_objects_that_can_change_are_made_anew(self, c):
        c['k']['n'].append(2)
        c['k']['n'].append(2)
        assert c['k'] == {'n': [1]} and c['k'] is not c['k']

    @on_linux
    def test_objects_that_cannot_change_are_given_as_they_are(self, c):
        for value in (12345, -(2**40), 2**64 - 1, 1.5, float('inf'), 'some text', '', b'bytes', b'', None, True, False):
            c['k'] = value
            found = [c['k'] for _ in range(4)]
            assert all(type(one) is type(value) and one == value for one in found), value
            assert found[1] is found[2], value
            assert c.get('k', 'nothing') is found[1]

    @pytest.mark.parametrize('value', [{1, 2}, (1, 2), bytearray(b'x'), 2**70, 1j, {'a': (1,)}, '\ud800', range(3)], ids=repr)
    def test_other_values_come_back_as_they_were_put(self, c, value):
        c['k'] = value
        for _ in range(3):
            assert type(c['k']) is type(value) and c['k'] == value

    # --- who has written since ---

    @pytest.mark.parametrize('write', CACHED_WRITES.values(), ids=CACHED_WRITES)
    def test_each_write_of_this_vault_shows(self, c, write):
        before = all_cached(c), all_cached(c)
        write(c)
        assert before[0] == before[1]
        assert all_cached(c) == all_cached(c) == all_cached(Vault('test'))

    @pytest.mark.parametrize('write', CACHED_WRITES.values(), ids=CACHED_WRITES)
    def test_each_write_of_another_vault_shows(self, c, write):
        all_cached(c), all_cached(c)
        other = Vault('test')
        write(other)
        assert all_cached(c) == all_cached(c) == all_cached(other)

    @pytest.mark.parametrize('upkeep', ['compact', 'sync', 'check'])
    def test_upkeep_changes_nothing(self, c, upkeep):
        before = all_cached(c)
        for v in (c, Vault('test')):
            getattr(v, upkeep)()
            assert all_cached(c) == before
            Vault('test')['n'] = 1
            assert all_cached(c) == before

    def test_each_write_of_another_process_shows(self, c):
        for number in range(3):
            assert c['n'] == c['n'] == number + 1
            output('import sys, pathlib, vaults; vaults.Vault(pathlib.Path(sys.argv[1]))["n"] = int(sys.argv[2])',
                   c.db_path, number + 2)
        assert c['n'] == 4

    def test_each_write_of_another_thread_shows(self, c):
        for number in range(20):
            assert c['n'] == c['n']
            in_thread(lambda number=number: c.put('n', number))
            assert c['n'] == number

    def test_what_was_put_and_deleted_again_is_not_there(self, c):
        for number in range(5):
            c['k'] = number
            assert c['k'] == c['k'] == number
            del c['k']
            assert 'k' not in c and c.get('k') is None and c.get('k', 5) == 5
            with pytest.raises(KeyError):
                c['k']

    def test_a_backup_is_another_vault(self, c, root):
        assert c['n'] == c['n'] == 1
        c.backup(root / 'backup.db')
        other = Vault(root / 'backup.db', read_cache=10)
        other['n'] = 5
        assert (other['n'], other['n'], c['n']) == (5, 5, 1)

    def test_a_file_that_was_replaced_reads_as_without_a_cache(self, c, root):
        v = Vault('test')
        assert c['n'] == c['n'] == 1
        path = pathlib.Path(c.db_path)
        Vault(root / 'new.db')['n'] = 5
        os.replace(root / 'new.db', path)
        assert (v['n'], c['n'], c['n']) == (1, 1, 1)
        with pytest.raises(vaults.VaultNotFoundError), c:
            c['n'] = 2
        assert c['n'] == v['n']
        c.close()

    def test_threads_see_counters_grow_alone(self, c):
        done = threading.Event()
        c.update(n=0, k={'n': 0})

        def count(key):
            for number in range(1500):
                c[key] = number if key == 'n' else {'n': number}
            done.set()

        def look(_):
            last = [0, 0]
            while not done.is_set():
                now = [c['n'], c['k']['n']]
                assert now[0] >= last[0] and now[1] >= last[1]
                last = now
        crowd(lambda work, key: work(key), 4, (count, 'n'), (count, 'k'), (look, ''), (look, ''))
        assert c['n'] == c['k']['n'] == 1499

    def test_what_is_read_by_a_signal_handler_in_a_statement_is_not_newer_than_it(self, c):
        other, seen = Vault('test'), []

        def handler(frame, event, argument):
            if event == 'c_return' and frame.f_code.co_name == 'gathered' and argument.__name__ == 'execute':
                sys.setprofile(None)
                other['n'] = 2
                seen.append(c['n'])
        sys.setprofile(handler)
        try:
            len(c)
        finally:
            sys.setprofile(None)
        assert len(seen) == 1
        assert c['n'] == 2

    @on_linux
    def test_a_header_that_is_being_written_marks_nothing(self, c):
        connection = connection_of(c)
        assert c['n'] == 1
        connection.shared = b'a' * 48 + b'b' * 48
        assert asked_for(c, 'n') == asked_for(c, 'n') == 1

    @on_linux
    def test_the_same_header_in_another_shared_memory_marks_nothing(self, root):
        Vault('test').update(k=1)
        made = []

        def first():
            made.append(Vault('test', read_cache=10))
            return made[0]['k'], made[0]['k'], asked_for(made[0], 'k')
        assert in_thread(first) == (1, 1, 0)
        gc.collect()
        assert not os.path.exists(f'{made[0].db_path}-shm')  # all have closed it
        other = Vault('test')
        other['k'] = 2
        other.close()
        assert in_thread(lambda: (made[0]['k'], asked_for(made[0], 'k'))) == (2, 0)

    # --- blocks ---

    def test_a_block_sees_its_own_writes_and_others_do_not(self, c):
        other = Vault('test', read_cache=10)
        assert c['n'] == c['n'] == other['n'] == other['n'] == 1
        with c:
            assert c['n'] == 1
            c['n'] = 2
            with c:
                c['n'] = 3
                assert c['n'] == c['n'] == 3
                assert other['n'] == in_thread(lambda: c['n']) == 1
        assert c['n'] == other['n'] == in_thread(lambda: c['n']) == 3

    def test_what_was_rolled_back_is_not_kept(self, c):
        assert c['n'] == c['n'] == 1
        with pytest.raises(ZeroDivisionError), c:
            c['n'] = 2
            assert c['n'] == c['n'] == 2
            with pytest.raises(ZeroDivisionError), c.transaction():
                c['n'] = 3
                assert c['n'] == c['n'] == 3
                raise ZeroDivisionError
            assert c['n'] == 2
            c.update((str(n), bytes(1000)) for n in range(20_000))  # more than SQLite keeps in memory
            assert c['n'] == in_thread(lambda: c['n']) + 1
            raise ZeroDivisionError
        assert c['n'] == c['n'] == 1 and '5' not in c

    @on_linux
    def test_nothing_is_given_from_memory_in_a_block_nor_kept(self, c):
        assert c['n'] == c['n']
        with c:
            assert asked_for(c, 'n') == asked_for(c, 'n') == asked_for(c, 'k') == 1
        assert asked_for(c, 'n') == 0 and asked_for(c, 'k') == 1

    @on_linux
    def test_a_block_of_a_reader_sees_one_state(self, c):
        r = Vault('test', flag='r', read_cache=10)
        assert r['n'] == r['n'] == 1 and asked_for(r, 'n') == 0
        with r:
            assert r['n'] == 1
            c.update(n=2, text='y')
            assert (r['n'], r['text']) == (1, 'x')
        assert (r['n'], r['text']) == (2, 'y')

    def test_edit_and_counting_lose_nothing(self, c):
        def count():
            for _ in range(100):
                with c.edit('k') as value:
                    value['n'].append(1)
                with c:
                    c['n'] = c['n'] + 1
                c['k'], c['n']
        crowd(count, 3)
        assert len(c['k']['n']) == 301 and c['n'] == 301

    def test_a_block_in_another_thread_holds_nobody_up(self, c):
        assert c['n'] == c['n'] == 1
        with block_elsewhere(c, 'n') as leave:
            assert c['n'] == 1
            leave.set()

    def test_a_block_of_another_task_refuses_what_is_kept_too(self, c):
        assert c['n'] == c['n'] == 1

        async def hold():
            with c:
                c['n'] = 2
                with pytest.raises(vaults.VaultTaskError):
                    await asyncio.create_task(look())
                assert c['n'] == 2

        async def look():
            return c['n']
        asyncio.run(hold())
        assert c['n'] == 2

    # --- keys ---

    def test_keys_that_are_equal_are_one_entry(self, c):
        for number, key in enumerate([1, 1.0, True, 1, True, 1.0]):
            c[key] = number
            assert [c[one] for one in (1, 1.0, True) * 2] == [number] * 6
        c[0.0] = 'zero'
        assert [c[one] for one in (0, -0.0, False) * 2] == ['zero'] * 6

    def test_keys_that_are_not_equal_are_not(self, c):
        values = {'1': 'text', b'1': 'bytes', 1: 'number', (1,): 'tuple', ('1',): 'text in one', (str, 1).__repr__(): 'more',
                  2**70: 'large', -1: 'negative', 1.5: 'float', '': 'empty', None: 'none'}
        c.update(values)
        for _ in range(3):
            assert {key: c[key] for key in values} == values
        assert output('''
            import vaults
            v = vaults.Vault('bytes', read_cache=5)
            v.update({'a': 1, b'a': 2, ('s', 'a'): 3})
            print([(v['a'], v[b'a'], v.section('s')['a']) for _ in range(2)])
        ''', cwd=str(pathlib.Path(c.db_path).parent)) == '[(1, 2, 3), (1, 2, 3)]'

    def test_what_cannot_be_a_key_is_as_without(self, c):
        assert c.get(object()) is None
        for wrong in ([], {}):
            with pytest.raises(TypeError):
                c[wrong]

    @on_linux
    def test_sections_share_it(self, c):
        s = c.section('s')
        assert s['k'] == c['s', 'k'] == 2
        assert asked_for(s, 'k') == 0
        s['k'] = 3
        assert c['s', 'k'] == s['k'] == 3
        assert len(kept_of(c)) == 1

    # --- how much ---

    @on_linux
    def test_no_more_entries_are_kept_than_it_says(self, root):
        v = Vault('test', read_cache=10)
        v.update((n, n) for n in range(100))
        for n in range(100):
            assert v[n] == n
            assert len(kept_of(v)) == n % 10 + 1
        assert asked_for(v, 99) == asked_for(v, 90) == 0 and asked_for(v, 89) == 1
        assert [v[n] for n in range(100)] == list(range(100))

    @on_linux
    def test_what_is_large_is_not_kept(self, c):
        c.update(small='x' * 4000, large='x' * 5000)
        assert c['large'] == c['large'] == 'x' * 5000
        assert len(kept_of(c)) == 0
        assert c['small'] == c['small'] and asked_for(c, 'small') == 0

    @on_linux
    def test_nothing_is_kept_over_a_commit(self, c):
        all_cached(c)
        assert len(kept_of(c)) == len(CACHED_KEYS)
        Vault('test')['x'] = 1
        c['n']
        assert len(kept_of(c)) == 1

    # --- opening, closing, forks ---

    def test_it_is_plain_where_it_cannot_be(self, root):
        for v in (Vault(':memory:', read_cache=10), Vault(store=DictionaryStore(), read_cache=10),
                  Vault(store=DictionaryStore(), flag='r', read_cache=10)):
            if not v._place.read_only:
                v['k'] = [1]
                v.section('s')['k'] = 2
                assert v['k'] == v['k'] == [1] and v.section('s')['k'] == 2
            assert v.get('none') is None

    @pytest.mark.parametrize('options', [{'thread_safe': True}, {'serializer': pickle}, {'allow_pickle': True},
                                         {'synchronous': 'FULL'}, {'validate': lambda key, value: None}], ids=lambda o: next(iter(o)))
    def test_it_goes_with_other_options(self, root, options):
        v = Vault('other', read_cache=10, **options)
        v.update(k=[1], n=1)
        for n in range(3):
            assert v['k'] == v['k'] == [1]
            assert (v['n'], v['n']) == (1 + n, 1 + n)
            v['n'] += 1
        assert not LINUX or asked_for(v, 'k') + asked_for(v, 'k') == 1

    def test_what_it_cannot_be_is_said(self, root):
        for wrong in (-1, True, 1.5, '5'):
            with pytest.raises(vaults.VaultError, match='read_cache'):
                Vault('x', read_cache=wrong)
        with pytest.raises(vaults.VaultValueError, match='cache_size'):
            Vault('x', writeback=True, read_cache=5)
        assert Vault('x', writeback=True, read_cache=0).get('k') is None

    @on_linux
    def test_a_copy_and_a_pickle_have_one_as_well(self, c):
        for v in (copy.copy(c), pickle.loads(pickle.dumps(c)), pickle.loads(pickle.dumps(c.section('s'))), vaults.Shelf(
                c.db_path, read_cache=5)):
            v['k'] = 5
            assert (v['k'], asked_for(v, 'k')) == (5, 0)
            v.close()

    def test_a_closed_vault_gives_nothing(self, c):
        s = c.section('s')
        assert c['n'] == c['n'] == 1 and s['k'] == s['k'] == 2
        c.close()
        for v in (c, s):
            with pytest.raises(vaults.VaultClosedError):
                v['k']
        assert Vault('test')['n'] == 1

    @on_linux
    def test_the_map_goes_with_the_last_connection(self, c):
        c.close()
        gc.collect()
        before, sections = open_files(), []
        for _ in range(3):
            a, b = Vault('test', read_cache=5), Vault('test')
            sections.append(a.section('s'))  # whoever still has it does not keep the map
            assert a['n'] == b['n'] and sections[-1]['k'] == 2
            a.close()
            b['n'] += 1
            b.close()
            assert open_files() == before
        with open('/proc/self/maps') as maps:
            assert a.db_path not in maps.read()
        assert not os.path.exists(f'{a.db_path}-shm')

    @on_linux
    def test_closing_it_lets_nobody_into_the_block_of_another_vault(self, c):
        v = Vault('test')
        assert c['n'] == c['n'] == 1
        with v:
            v['n'] = 2
            c.close()
            c = None
            gc.collect()
            refused = run('import sys, pathlib, vaults; vaults.Vault(pathlib.Path(sys.argv[1]), timeout=0)["n"] = 3', v.db_path)
            assert 'VaultBusyError' in refused.stderr
        assert v['n'] == 2

    @needs_fork
    def test_parent_and_child_go_on(self, c):
        assert c['n'] == c['n'] == 1

        def child():
            before = c['n'], c['n']
            c['n'] += 1
            return before, c['n'], c['n']
        assert in_child(child).answer() == ((1, 1), 2, 2)
        assert c['n'] == c['n'] == 2
        c['n'] = 3
        assert in_child(lambda: (c['n'], c['n'])).answer() == (3, 3)
        with c:
            c['n'] = 4
            assert in_child(lambda: (c['n'], c['n'])).answer() == (3, 3)
            refused = run('import sys, pathlib, vaults; vaults.Vault(pathlib.Path(sys.argv[1]), timeout=0)["n"] = 5', c.db_path)
            assert 'VaultBusyError' in refused.stderr
        assert c['n'] == c['n'] == 4

    @needs_fork
    def test_a_child_that_outlives_its_parent_reads_what_others_wrote(self, root):
        v = Vault('test', read_cache=10)
        path = pathlib.Path(v.db_path)
        v['n'] = 1
        v.close()
        v = Vault('test', read_cache=10)
        assert v['n'] == v['n'] == 1
        ready, go = os.pipe()

        def child():
            os.read(ready, 1)
            return v['n'], v['n']
        process = in_child(child)
        v.close()
        other = Vault(path)
        other['n'] = 2
        other.close()
        os.write(go, b'x')
        assert process.answer() == (2, 2)
