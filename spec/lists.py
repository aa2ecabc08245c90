"""Lists in chunks: a list that stays in the file."""
from __future__ import annotations

import collections
import contextlib
import copy
import decimal
import gc
import itertools
import json
import operator as op
import os
import pickle
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
import weakref

import pytest
from hypothesis import given

import vaults
from vaults import Vault
from vaults.collections import leaves as leaf_sizes
from vaults.collections import list as sequences
from vaults.collections import tree
from vaults.stores.sqlite import store as sqlite

from .chunks import TwoLists, changes, chunk_count
from .helpers import HERE, in_child, needs_fork, word
from .internals import statements
from .samples import Custom, Unpicklable


@pytest.fixture
def small(monkeypatch):
    """Leaves and nodes of a few items, so that small lists are deep trees."""
    monkeypatch.setattr(leaf_sizes, 'LEAF', 40)
    monkeypatch.setattr(leaf_sizes, 'ITEMS', 5)
    monkeypatch.setattr(tree, 'FANOUT', 4)


class TestLists:
    """`v.list(key)`: a list that lives in the vault."""

    LONG = 400      # items: fewer where each change is requests to a server

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
            patch.setattr(leaf_sizes, 'LEAF', 40)
            patch.setattr(leaf_sizes, 'ITEMS', 5)
            patch.setattr(tree, 'FANOUT', 4)
            items = ('x' * (number * 7 % 13) + str(number) for number in itertools.count())
            both = TwoLists(tmp_path_factory.mktemp('list') / 'v.db', lambda v: v.list('one'), items)
            for change in changes:
                both.do(*change)
                both.same()
            both.end()

    def test_a_long_one_is_worked_on_from_all_sides(self, v, small):
        live, plain = v.list('one'), []
        for number in range(self.LONG):
            for one in (live, plain):
                one.append(number)
                one.insert(len(one) // 2, -number)
                if number % 3:
                    one.pop(0)
        assert live == plain and tree.Header.of(v._store.get('one')).depth >= 3
        while plain:
            assert live.pop() == plain.pop() and live.pop(0) == plain.pop(0)
        assert list(live) == [] and chunk_count(v) == 0

    def test_one_that_was_thinned_out_is_no_deeper_than_it_must_be(self, v, small):
        live = v.list('one')
        live.extend(range(3 * self.LONG))
        deep = tree.Header.of(v._store.get('one')).depth
        plain = list(range(3 * self.LONG))
        for at in range(3 * self.LONG - 50, 0, -1):
            if at % 29:
                del live[at], plain[at]
        assert live == plain
        header = tree.Header.of(v._store.get('one'))
        assert header.depth < deep and len(list(v._store.chunk_numbers(header.owner))) < len(plain)

    @pytest.mark.parametrize('grow, fill', [(lambda live, number: live.append('x' * 9), 3.6),
                                            (lambda live, number: live.insert(len(live) // 2, 'x' * 9), 2.3)])
    def test_nodes_are_full_where_it_grows_at_the_end_and_half_full_elsewhere(self, v, small, grow, fill):
        live = v.list('one')
        with v:
            for number in range(300):
                grow(live, number)
        header = tree.Header.of(v._store.get('one'))
        grown = tree.Tree(v._store, header)
        leaves = list(grown.leaves(0, header.inside))
        below = len(leaves) + len(list(grown.numbers())) - len(leaves) - 1
        assert below / (len(list(grown.numbers())) - len(leaves)) > fill

    def test_a_short_list_is_one_entry_and_a_change_in_the_middle_writes_a_few_chunks(self, v):
        live = v.list('one')
        live.extend([1, 2, 3])
        assert chunk_count(v) == 0
        live.extend({'number': number} for number in range(20_000))
        total = chunk_count(v)
        assert total > 100
        seen = statements(v)
        live.insert(10_000, 'x')
        live[5_000] = 'y'
        assert len([line for line in seen if line.startswith(('INSERT INTO parts', 'DELETE FROM parts'))]) < 16
        assert live[10_000] == 'x' and live[5_000] == 'y' and live[10_001] == {'number': 9997} and len(live) == 20_004

    def test_appending_and_popping_at_both_ends_touch_the_header_alone(self, v):
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
        sizes = [len(v._store.get_chunk(owner, number)) for owner in v._store.chunk_owners() for number in v._store.chunk_numbers(owner)]
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

    def test_replacing_deleting_and_clearing_free_its_chunks(self, v):
        for number, go in enumerate([lambda: v.__setitem__('one', 5), lambda: v.__delitem__('one'), lambda: v.clear(),
                                     lambda: v.__delitem__(slice('a', 'z')), lambda: v.pop('one'), lambda: v.popitem(),
                                     lambda: v.update(one=1), lambda: v.pop_many(['one']), lambda: v['one'].clear()]):
            v.clear()
            v.list('one').extend('x' * 100 for _ in range(1000))
            assert chunk_count(v) > 20
            go()
            assert chunk_count(v) == 0, number
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

    def test_it_takes_chunk_in_transactions(self, v, small):
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
            live.extend('x' * 30 for _ in range(40))  # makes chunks of other lengths under the same numbers
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
        assert live == [1, 2] and again._place is not live._place
        v['one'] = [7]
        with pytest.raises(vaults.VaultError, match='deleted or replaced'):
            pickle.loads(packed).append(3)
        column = v.column('c', 'datetime64[s]')
        assert pickle.loads(pickle.dumps(column)).dtype == 'datetime64[s]'
        older = b'cvaults.columns\nColumn\n' + pickle.dumps((v, 'c', 'datetime64[s]'), 1)[:-1] + b'R.'  # with a vault
        assert pickle.loads(older) == column == []

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
            column.extend([*range(1000, 1500), 500])  # of one shape, under the same numbers, with a header of the same bytes
            assert column[0] == 1000
            column.reverse()
        assert column.tolist() == [500, *range(1499, 999, -1)] == Vault('test')['a'].tolist()

    def test_the_nodes_that_a_handle_has_seen_of_a_rollback_are_forgotten(self, v, small):
        live, big, short = v.list('a'), ['x' * 9] * 4, [1, 2, 3, 4, 5]
        with pytest.raises(ZeroDivisionError), v:
            [live.append(item) for item in [*big, *short, 'z']]
            assert live[5] == 2 and live[0] == 'x' * 9
            1 // 0
        for item in [*short, *big, 'z']:  # leaves of other lengths, under the same numbers and a header of the same bytes
            live.append(item)
        assert live[4] == 5 and live == [*short, *big, 'z']

    @needs_fork
    @pytest.mark.filterwarnings('ignore::DeprecationWarning')
    def test_what_a_handle_has_seen_in_the_parents_block_is_none_of_the_childs(self, v):
        live = v.list('a')
        v.__enter__()
        live.extend(['a' * 5000, 'b' * 5000, 'tail'])
        assert live[0][0] == 'a'
        with word() as (waits, goes_on):
            child = in_child(lambda: (waits(), live[0][0], v['a'][0][0])[1:])
            v.__exit__(ValueError, ValueError(), None)
            live.extend(['c' * 5000, 'd' * 5000, 'tail'])
            goes_on()
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

    @pytest.mark.parametrize('direction', [iter, reversed])
    @pytest.mark.parametrize('where', ['section', 'vault', 'vault of a section'])
    def test_a_walk_over_many_chunks_raises_at_its_next_step_after_close(self, v, direction, where):
        section = v.section('s')
        place, closed = (v, v) if where == 'vault' else (section, section if where == 'section' else v)
        lists = place.list('list'), place.column('column', 'int64')
        for one in lists:
            one.extend(range(10_000))
        other = iter(v.section('s').list('list'))
        walks = [direction(one) for one in lists for _ in range(3)]
        steps = [1, 2000, 10_000] * 2
        for walk, many in zip(walks, steps):
            assert len(list(itertools.islice(walk, many))) == many
        assert where == 'vault' or next(other) == 0
        closed.close()
        for walk in walks:
            with pytest.raises(vaults.VaultClosedError):
                next(walk)
        if where == 'section':
            assert list(other) == [*range(1, 10_000)]

    def test_a_walk_of_a_section_ends_with_its_vault_where_another_thread_is_about_to_close_it(self, v, monkeypatch):
        one = v.section('s').list('one')
        one.extend(range(10_000))
        monkeypatch.setattr(v._store, 'close', lambda: None)  # it has not come so far yet
        begun, fresh = iter(one), iter(one)
        assert [next(begun), next(begun)] == [0, 1]
        v.close()
        for walk in begun, fresh:
            with pytest.raises(vaults.VaultClosedError):
                next(walk)
        monkeypatch.undo()

    def test_walks_that_are_left_leave_nothing_behind(self, v):
        one = v.list('one')
        one.extend(range(10_000))
        walks = [iter(one) for _ in range(5)]
        assert [next(walk) for walk in walks] == [0] * 5 and len(v._place.walks) == 5
        del walks[2:]
        assert len(v._place.walks) == 2
        assert [len(list(walk)) for walk in walks] == [9999] * 2 and not v._place.walks

    def test_an_append_meets_what_others_have_put_meanwhile(self, root, small):
        for options in {}, {'writeback': True}, {'thread_safe': True}:
            with contextlib.closing(Vault('shared', **options)) as v, contextlib.closing(Vault('shared')) as w:
                v.clear()
                mine, theirs = v.list(True), w.list(1)
                for number in range(40):
                    (mine if number % 3 else theirs).append(number)
                with contextlib.suppress(KeyError), v:
                    mine.append('undone')
                    v.list('other').append(mine[-1])
                    raise KeyError
                for number in range(40, 80):
                    (mine if number % 7 else theirs).append(number)
                assert list(mine) == list(theirs) == [*range(80)] and v.keys() == [True] and v.keys()[0] is True
                del w[1]
                with pytest.raises(vaults.VaultError, match='deleted or replaced'):
                    mine.append(1)
                w[1] = 'plain'
                with pytest.raises(vaults.VaultError, match='deleted or replaced'):
                    mine.append(1)
                w.list(2)
                assert v.check() == [] and v[1] == 'plain'

    @pytest.mark.parametrize('options', [{}, {'thread_safe': True}, {'name': ':memory:'}, {'writeback': True}], ids=str)
    def test_what_a_block_appends_is_there_for_whoever_asks(self, root, small, options):
        with contextlib.closing(Vault(**{'name': 'blocks', **options})) as v:
            one, same, column, plain = v.list('one'), v.list('one'), v.column('column', 'int64'), []
            with v:
                for number in range(3000):
                    (one if number % 50 else same).append(number)
                    column.append(number)
                    if number % 400 < 30:
                        assert len(v['one']) == number + 1 and one[-1] == column[-1] == number
                for number in range(2000):
                    one.append(number)
                with contextlib.suppress(KeyError), v.transaction():
                    one.append('undone')
                    one.append('undone')
                    raise KeyError
                one.append('last')
                one.append('of all')
            plain = [*range(3000), *range(2000), 'last', 'of all']
            assert one == plain and list(same) == plain and column.tolist() == [*range(3000)]
            with contextlib.suppress(KeyError), v:
                for _ in range(20):
                    one.append('undone')
                    column.append(5)
                raise KeyError
            with v:
                for number in range(10):
                    column.append(number)
                v['other'] = 5
                one.append('end')
            assert one == [*plain, 'end'] and len(column) == 3010 and v.check() == []
            with pytest.raises(vaults.VaultError, match='deleted or replaced'), v:
                one.append(1)
                one.append(2)
                del v['one']
                one.append(3)
            assert one == [*plain, 'end']

    def test_another_thread_does_not_append_to_what_a_block_keeps_back(self, v):
        one, order = v.list('one'), []

        def other():
            one.append('theirs')
            order.append('theirs')
        thread = threading.Thread(target=other)
        with v:
            one.append(1)
            one.append(2)
            thread.start()
            time.sleep(0.2)
            one.append(3)
            order.append('mine')
        thread.join()
        assert one == [1, 2, 3, 'theirs'] and order == ['mine', 'theirs']

    @needs_fork
    def test_a_child_that_is_forked_in_a_block_appends_by_itself(self, root):
        v = Vault('forked')
        one = v.list('one')
        one.append(0)
        with word() as (waits, goes_on):
            with v:
                one.append(1)
                one.append(2)
                child = in_child(lambda: (waits(), one.append('child'), len(one))[2])
                one.append(3)
            goes_on()
            assert child.answer() == 5 and one == [0, 1, 2, 3, 'child']

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

    def test_a_header_that_makes_no_sense_is_a_problem_and_no_crash(self, v):
        v.list('a').extend(range(10_000))
        header = tree.Header.of(v._store.get('a'))
        for wrong in ({'size': 'x'}, {'inside': None}, {'tail': 5}, {'size': -1}, {'inside': 2**63}, {'root': 9999}):
            other = tree.Header.of(header.packed())
            for name, value in wrong.items():
                setattr(other, name, value)
            v._store.put_owner('a', other.packed())
            assert len(v.check()) == 1, wrong
        v._store.put_owner('a', header.packed())

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
        assert v.check() == ["key 'one': a chunk of the value is missing"]
        with pytest.raises(vaults.VaultCorruptError, match="missing.*'one'"):
            list(Vault('test')['one'])
        del v['one']
        assert chunk_count(v) == 0 and v.check() == []

    def test_what_stands_inside_another_value_is_damage(self, v):
        v.list('one').append(1)
        header = v._store.get('one')
        v._store.put('two', b'\x91' + header)
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
        real = type(v._store).get_chunk
        monkeypatch.setattr(type(v._store), 'get_chunk', lambda *arguments: read.append(1) or real(*arguments))
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
