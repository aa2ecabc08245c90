"""Testing: the conformance suite for engines, which an engine's author runs with pytest. Knows the contract alone.

    from vaults.testing import StoreConformance

    class TestMyStore(StoreConformance):
        def make_store(self, folder):
            return MyStore(folder / 'entries')

Needs pytest and hypothesis: `pip install 'vaults[test]'`. What each test demands, stores/base.py promises.
"""
from __future__ import annotations

import pathlib
import tempfile
import threading
from contextlib import closing

from .._typing import TYPE_CHECKING
from ..errors import SerializationError, VaultClosedError, VaultError
from ..keys import encode
from ..stores.base import Store

try:
    import pytest
    from hypothesis import HealthCheck, given, settings

    from .blocks import BlockSuite
    from .common import MANY_ENTRIES, Failed, failing, in_threads, listed, walked
    from .oracle import OPERATIONS, SOME_OWNERS, WALKS, Oracle
    from .walks import WalkSuite
except ImportError as error:
    raise ImportError(f"{error}: the conformance suite needs it, pip install 'vaults[test]'") from error

if TYPE_CHECKING:
    from typing import Any, Iterator, List, Optional, Tuple

    from ..keys import Stored
    from ..stores.base import Entry

# In stored order: numbers, text and bytes, each with its neighbours, no two of them equal.
SORTED: List[Stored] = [
    float('-inf'), -2.0**70, -1 << 63, -1.5, -1, -5e-324, 0, 5e-324, 0.5, 1, 1.5, 2**53, 2**53 + 1, (1 << 63) - 1,
    1e300, float('inf'), '', '\0', 'A', 'a', 'a\0', 'aa', 'b', 'é', '\ud7ff', '\ue000', '\U0010ffff',
    *map(encode, [(1 << 64) + 1, '\ud800', None, b'', b'\0', b'\xff', (), (1, None), ('a',)])]


class StoreConformance(WalkSuite, BlockSuite):
    """What every engine must do. Derive from it, and say in `make_store` how a store is made.

    `persistent`: whether a store made in the same folder holds what one before it has put there.
    """

    # --- one operation after the other ---

    @settings(deadline=None, suppress_health_check=list(HealthCheck))
    @given(operations=OPERATIONS)
    def test_every_operation_does_what_the_oracle_does(self, operations: List[Any]) -> None:
        with tempfile.TemporaryDirectory() as folder, closing(self.make_store(pathlib.Path(folder))) as store:
            oracle, used = Oracle(), set()
            for name, *arguments in operations:
                if name in ('commit', 'rollback') and not oracle.saved:
                    continue
                if name == 'put_chunks':
                    fresh = {(arguments[0], number): data for number, data in arguments[1].items()}
                    used |= set(oracle.chunks)
                    arguments[1] = [(number, data) for (owner, number), data in fresh.items()
                                    if (owner, number) not in used]
                assert getattr(store, name)(*arguments) == getattr(oracle, name)(*arguments)
                self.same(store, oracle)
            while oracle.saved:
                store.rollback()
                oracle.rollback()
            self.same(store, oracle)
            assert store.check(lambda key, data: None) == []
            empty = sum(not data for data in oracle.entries.values())
            assert store.check(lambda key, data: None if data else 'found') == ['found'] * empty

    def same(self, store: Store, oracle: Oracle) -> None:
        """Assert that a store holds what the oracle does."""
        assert store.count() == len(oracle.entries) and store.count(0, 'b') == len(oracle.within(0, 'b'))
        assert all(store.count_up_to(2, *ends) == min(2, store.count(*ends)) for ends in ((), (0, 'b')))
        assert list(store.chunk_owners()) == oracle.chunk_owners()
        for owner in SOME_OWNERS:
            numbers = [*oracle.chunk_numbers(owner), 0]
            assert [*store.chunk_numbers(owner), 0] == numbers
            assert [store.get_chunk(owner, one) for one in numbers] == list(store.get_chunks(owner, numbers)) == [
                oracle.chunks.get((owner, one)) for one in numbers]
        for options in WALKS:
            mine, theirs = listed(store, **options), oracle.scan(**options)
            assert repr(mine).replace('-0.0', '0.0') == repr(theirs).replace('-0.0', '0.0')
            found = walked(store, **options)
            assert [*map(type, found)] == [type(key) for key, _ in theirs] and found == [key for key, _ in theirs]
        for key, data in oracle.entries.items():
            assert store.get(key) == data and store.contains(key)
            if data:  # an empty one may look as if there were none
                assert store.glance(key, 2) == (len(data), data if len(data) <= 2 else None)
            assert store.get_both(key, SOME_OWNERS[0], 1) == (data, oracle.chunks.get((SOME_OWNERS[0], 1)))
        asked = [*oracle.entries, 'none', *oracle.entries]
        assert list(store.get_many(asked)) == [oracle.entries.get(key) for key in asked]
        assert list(store.contains_many(asked)) == [key != 'none' for key in asked]
        assert store.get('none') is None and not store.contains('none') and store.glance('none', 9) == (0, None)

    # --- keys and values ---

    def test_keys_sort_as_they_do_in_python_by_kind(self, store: Store) -> None:
        for key in sorted(SORTED, key=repr):
            store.put(key, repr(key).encode())
        assert listed(store, by_key=True) == [(key, repr(key).encode()) for key in SORTED]
        assert [*map(type, walked(store, by_key=True))] == [*map(type, SORTED)]
        for place in range(0, len(SORTED), 4):
            assert walked(store, low=SORTED[place], high=SORTED[-2], by_key=True) == SORTED[place:-2]
            assert store.count(SORTED[place], SORTED[-2]) == len(SORTED[place:-2])
            assert store.get(SORTED[place]) == repr(SORTED[place]).encode()

    @pytest.mark.parametrize('first, second', [(1, 1.0), (True, 1), (0.0, False), (2.0**60, 2**60), (0, -0.0)])
    def test_equal_keys_are_one_entry_in_its_first_form(self, store: Store, first: Stored, second: Stored) -> None:
        store.put(first, b'1')
        store.put(second, b'2')
        found, = listed(store)
        assert found == (first, b'2') and type(found[0]) is type(first)
        assert store.get(second) == store.get(first) == b'2' and store.count() == 1
        assert store.delete(second) and not store.delete(first) and store.count() == 0
        store.put(second, b'3')
        assert [type(key) for key in walked(store)] == [type(second)]

    @pytest.mark.parametrize('data', [b'', b'\0', bytes(range(256)), b'x' * 3_000_000], ids=len)
    def test_a_value_comes_back_byte_by_byte(self, store: Store, data: bytes) -> None:
        store.put('key', data)
        assert store.get('key') == data and listed(store) == [('key', data)] and store.contains('key')
        assert not data or store.glance('key', len(data)) == (len(data), data)
        assert store.glance('key', len(data) - 1) == (len(data), None)

    # --- the order of insertion ---

    def test_a_replaced_entry_keeps_its_place_and_a_deleted_one_loses_it(self, store: Store) -> None:
        for key in 'cab':
            store.put(key, b'1')
        store.put('c', b'2')
        assert walked(store) == ['c', 'a', 'b']
        assert store.delete('c')
        store.put('c', b'3')
        assert walked(store) == ['a', 'b', 'c'] and walked(store, reverse=True) == ['c', 'b', 'a']

    def test_an_entry_moves_to_either_end(self, store: Store) -> None:
        for key in 'abc':
            store.put(key, key.encode())
        assert store.move('a') and walked(store) == ['b', 'c', 'a']
        assert store.move('a', False) and store.move('c', last=False) and walked(store) == ['c', 'a', 'b']
        assert not store.move('none') and not store.move('none', False) and store.get('none') is None
        store.put('d', b'd')
        assert listed(store) == [(key, key.encode()) for key in 'cabd']

    # --- what depends on what is there ---

    def test_a_value_is_put_where_there_is_none(self, store: Store) -> None:
        owner, header = SOME_OWNERS[0], b'header of ' + SOME_OWNERS[0]
        store.put_chunks(owner, [(1, b'one')])
        store.put_owner('header', header)
        for key, there in ((1, b'1'), (b'\x04b\0', b''), ('a', b'x' * 100_000)):
            assert store.put_new(key, there) is None and store.put_new(key, b'2') == there == store.get(key)
        assert store.put_new(1.0, b'2') == store.put_new(True, b'2') == b'1' and store.count() == 4
        assert store.put_new('header', b'plain') == header and store.get_chunk(owner, 1) == b'one'
        assert walked(store) == ['header', 1, b'\x04b\0', 'a'] and type(walked(store)[1]) is int
        store.begin()
        assert store.put_new('b', b'3') is None and store.put_new('b', b'4') == b'3' and store.put_new(1, b'4') == b'1'
        store.rollback()
        assert store.get('b') is None and store.count() == 4 and store.check(lambda key, data: None) == []

    def test_an_entry_is_deleted_if_it_is_what_is_known(self, store: Store) -> None:
        owner, header = SOME_OWNERS[0], b'header of ' + SOME_OWNERS[0]
        store.put_chunks(owner, [(1, b'one')])
        store.put_owner('header', header)
        store.put_many([(1, b'1'), ('a', b''), (b'\x04b\0', b'x' * 100_000)])
        assert not any([store.delete_if(1, b'2'), store.delete_if(1, b''), store.delete_if('a', b'1'),
                        store.delete_if('none', b''), store.delete_if('header', owner)])
        assert store.count() == 4 and store.get_chunk(owner, 1) == b'one'
        store.begin()
        assert store.delete_if(1, b'1') and not store.delete_if(1, b'1') and store.delete_if('header', header)
        store.rollback()
        assert store.get(1) == b'1' and store.count() == 4 and store.get_chunk(owner, 1) == b'one'
        before = store.deletions
        assert store.delete_if(1.0, b'1') and store.deletions != before and store.delete_if('a', b'')
        assert store.delete_if(b'\x04b\0', b'x' * 100_000) and store.delete_if('header', header)
        assert store.count() == 0 and list(store.chunk_owners()) == [] and store.check(lambda key, data: None) == []

    def test_of_those_who_put_or_delete_at_the_same_time_one_does(self, store: Store) -> None:
        stays: List[int] = []
        puts: List[int] = []
        deleted: List[int] = []

        def race() -> None:
            mine = b'%d' % threading.get_ident()
            for key in range(10):
                if store.put_new(f'stays {key}', mine) is None:
                    stays.append(key)
                if store.put_new(key, mine) is None:
                    puts.append(key)
                if store.delete_if(key, store.get(key) or b'none'):
                    deleted.append(key)
        in_threads(race)
        assert sorted(stays) == [*range(10)] and store.count() == 10
        assert sorted(puts) == sorted(deleted) and {*puts} == {*range(10)}

    # --- many at once ---

    def test_what_is_put_at_once_is_all_there_or_nothing_of_it(self, store: Store) -> None:
        store.put('a', b'old')
        with pytest.raises(Failed):
            store.put_many(failing(('a', b'new'), ('b', b'new')))
        assert listed(store) == [('a', b'old')]
        store.begin()
        store.put('c', b'kept')
        with pytest.raises(Failed):
            store.put_many(failing(('a', b'new'), ('b', b'new')))
        assert listed(store) == [('a', b'old'), ('c', b'kept')]
        store.commit()
        assert listed(store) == [('a', b'old'), ('c', b'kept')]
        assert store.put_many([]) == 0 and store.put_many([('a', b'1'), ('a', b'2'), ('d', b'3')]) == 3
        assert listed(store) == [('a', b'2'), ('c', b'kept'), ('d', b'3')]

    def test_what_gives_the_pairs_may_use_the_store_and_sees_them(self, store: Store) -> None:
        def pairs() -> Iterator[Entry]:
            yield 'a', b'1'
            assert store.get('a') == b'1' and store.count() == 1
            store.put('between', b'2')
            yield 'b', b'3'
            assert walked(store) == ['a', 'between', 'b']
            assert store.delete('a')
        assert store.put_many(pairs()) == 2
        assert listed(store) == [('between', b'2'), ('b', b'3')]

    def test_many_are_found_and_removed_at_once(self, store: Store) -> None:
        owner, known = SOME_OWNERS[0], b'header of ' + SOME_OWNERS[0]
        store.put_many((number, b'%d' % number) for number in range(MANY_ENTRIES))
        store.put_many([('text', b'text'), (b'\x04bytes\0', b'bytes')])
        store.put_chunks(owner, [(1, b'one')])
        store.put_owner('header', known)
        asked: List[Stored] = [*range(MANY_ENTRIES + 2)[::-1], 0.0, 'text', b'\x04bytes\0', b'\x04none\0', 'header',
                               'none']
        found = [None, None, *(b'%d' % number for number in range(MANY_ENTRIES)[::-1]), b'0', b'text', b'bytes', None,
                 known, None]
        assert list(store.get_many(asked)) == found
        assert [*store.get_many([]), *store.contains_many([])] == []
        assert list(store.contains_many(asked)) == [data is not None for data in found]
        store.begin()
        known_by_then = MANY_ENTRIES + 2  # the place of 0.0, which is 0
        assert list(store.delete_many(asked)) == [
            data is not None and at != known_by_then for at, data in enumerate(found)]
        assert store.count() == 0 and list(store.chunk_owners()) == []
        assert list(store.delete_many(asked[:9])) == [False] * 9
        store.rollback()
        assert list(store.get_many(asked)) == found and store.get_chunk(owner, 1) == b'one'

    def test_a_key_that_is_too_long_is_refused_and_changes_nothing(self, store: Store) -> None:
        longest = store.longest_key or 100_000
        keys: List[Stored] = ['x' * longest, b'\x04' + b'x' * (longest - 2) + b'\0']
        assert store.put_many((key, b'long') for key in keys) == 2 and list(store.get_many(keys)) == [b'long'] * 2
        assert walked(store, by_key=True) == keys and list(store.delete_many(keys)) == [True] * 2
        longer: List[Stored] = ['x' * (longest + 1), 'é' * (longest // 2 + 1), b'\x04' + b'x' * (longest - 1) + b'\0']
        for key in longer if store.longest_key else []:
            with pytest.raises(SerializationError):
                store.put(key, b'')
            with pytest.raises(SerializationError):
                store.put_many([('a', b''), (key, b'')])
            with pytest.raises(SerializationError):
                store.put_owner(key, SOME_OWNERS[0])
            with pytest.raises(SerializationError):
                store.put_new(key, b'')
            assert store.get(key) is None and not store.contains(key) and not store.delete(key) and not store.move(key)
            assert not store.delete_if(key, b'')
            assert list(store.get_many([key])) == [None] and store.count(key) == 0
        assert listed(store) == []

    def test_a_range_is_deleted_up_to_its_end(self, store: Store) -> None:
        store.put_many((number, b'') for number in range(100))
        store.put_many([('text', b''), (b'\x04bytes\0', b'')])
        assert store.delete_range(10, 20) == 10 and store.count(10, 20) == 0 and store.count() == 92
        assert store.delete_range(50) == 52 and store.delete_range(20, 10) == 0
        assert store.delete_range() == 40 and store.count() == 0 and listed(store) == []


    # --- chunks ---

    def test_chunks_go_with_their_entry(self, store: Store) -> None:
        first, second, third = SOME_OWNERS
        for key, owner in zip('abc', SOME_OWNERS):
            store.put_chunks(owner, [(1, b'one'), (2**62, b'far')])
            store.put_owner(key, b'header of ' + owner)
        assert list(store.chunk_owners()) == SOME_OWNERS and list(store.chunk_numbers(first)) == [1, 2**62]
        assert store.move('a') and store.get_chunk(first, 2**62) == b'far'
        store.put_owner('a', b'another header of ' + first)
        assert store.get_chunk(first, 1) == b'one'
        store.put_owner('a', b'header of ' + second)
        assert store.get_chunk(first, 1) is None and store.get_chunk(second, 1) == b'one'
        store.put('c', b'plain')
        assert list(store.chunk_owners()) == [second] and store.get_chunk(third, 1) is None
        store.put('c', b'plain again')
        assert store.delete('a') and list(store.chunk_owners()) == []

    def test_chunks_of_all_that_a_call_takes_away_go(self, store: Store) -> None:
        wanted: List[Stored] = ['a', 1, b'\x04b\0']
        for key, owner in zip(wanted, SOME_OWNERS):
            store.put_chunks(owner, [(1, b'one')])
            store.put_owner(key, b'header of ' + owner)
        assert store.put_many([(1.0, b'plain')]) == 1 and list(store.chunk_owners()) == [SOME_OWNERS[0], SOME_OWNERS[2]]
        assert store.delete_range('a', 'b') == 1 and list(store.chunk_owners()) == [SOME_OWNERS[2]]
        assert store.delete_range() == 2 and list(store.chunk_owners()) == []

    def test_chunks_come_back_when_their_end_is_undone(self, store: Store) -> None:
        known, new = b'header of ' + SOME_OWNERS[0], b'longer ' + SOME_OWNERS[0]
        store.put_chunks(SOME_OWNERS[0], [(1, b'one')])
        store.put_owner('a', known)
        for change in (lambda: store.delete('a'), lambda: store.put('a', b''), store.delete_range,
                       lambda: store.delete_chunks(SOME_OWNERS[0]), lambda: store.put_owner('a', SOME_OWNERS[1])):
            store.begin()
            change()
            assert store.get_chunk(SOME_OWNERS[0], 1) is None
            store.rollback()
            assert store.get_chunk(SOME_OWNERS[0], 1) == b'one' and store.get('a') == known
        assert [store.put_owner_if('a', known, new), store.put_owner_if('a', known, b'')] == [True, False]
        assert store.get('a') == new and store.delete('a') and store.get_chunk(SOME_OWNERS[0], 1) is None

    def test_chunks_are_put_together_or_not_at_all_and_are_no_entries(self, store: Store) -> None:
        with pytest.raises(Failed):
            store.put_chunks(SOME_OWNERS[0], failing((1, b'one'), (2, b'two')))
        assert list(store.chunk_owners()) == []
        store.put_chunks(SOME_OWNERS[0], [(number, b'') for number in (3, 1, 2)])
        assert [*store.chunk_numbers(SOME_OWNERS[0]), *store.get_chunks(SOME_OWNERS[0], [3, 4])] == [1, 2, 3, b'', None]
        assert store.count() == 0 and listed(store) == [] and listed(store, by_key=True) == []
        assert store.delete_range() == 0 and store.get_both('a', SOME_OWNERS[0], 1)[0] is None
        store.delete_chunks(SOME_OWNERS[0], [2, 9])
        assert list(store.chunk_numbers(SOME_OWNERS[0])) == [1, 3] and list(store.chunk_numbers(SOME_OWNERS[1])) == []
        store.delete_chunks(SOME_OWNERS[0])
        assert list(store.chunk_owners()) == []

    # --- the whole store ---

    def test_it_is_checked_and_looked_after(self, store: Store) -> None:
        store.put_many([('a', b'1'), ('b', b'2')])
        seen: List[Entry] = []
        done: List[Tuple[int, int]] = []

        def examine(key: Stored, data: bytes) -> Optional[str]:
            seen.append((key, data))
            return f'{key} is bad' if key == 'b' else None
        problems = store.check(examine, lambda *numbers: done.append(numbers))
        assert [line for line in problems if 'bad' in line] == ['b is bad'] and seen == [('a', b'1'), ('b', b'2')]
        store.sync()
        store.compact()
        store.require_own()
        store.refuse_others()
        assert isinstance(store.others_wrote(), bool) and store.held('a') in (None, ('a',))
        with store.interruptible(lambda: False):
            assert store.get('a') == b'1'
        assert listed(store) == [('a', b'1'), ('b', b'2')]
        assert isinstance(store.describe()['engine'], str) and store.describe()['engine']
        assert all(type(path) is str for path in store.files)

    def test_what_is_whole_cannot_be_had_inside_a_transaction(self, store: Store) -> None:
        store.begin()
        for use in (store.sync, store.compact):
            with pytest.raises(VaultError):
                use()
        store.rollback()

    def test_a_closed_store_is_closed(self, store: Store) -> None:
        store.put('a', b'1')
        walk = store.scan()
        store.close()
        store.close()
        for use in (lambda: store.get('a'), lambda: store.put('a', b''), lambda: store.delete('a'), store.count,
                    lambda: store.put_many([('a', b'')]), lambda: list(store.scan()), lambda: list(walk), store.begin,
                    lambda: store.put_new('a', b''), lambda: store.delete_if('a', b'1'),
                    lambda: store.contains('a'), lambda: store.move('a'), store.delete_range, store.sync,
                    lambda: store.get_chunk(SOME_OWNERS[0], 1), lambda: store.put_owner('a', SOME_OWNERS[0])):
            with pytest.raises(VaultClosedError):
                use()

    def test_what_was_committed_is_there_when_it_is_opened_again(self, folder: pathlib.Path) -> None:
        if not self.persistent:
            pytest.skip('the engine keeps nothing')
        with closing(self.make_store(folder)) as store:
            store.put_many((key, repr(key).encode()) for key in SORTED[::-1])
            store.move(1)
            store.delete('a')
            store.put_chunks(SOME_OWNERS[0], [(1, b'one')])
            store.put_owner('b', b'header of ' + SOME_OWNERS[0])
            store.begin()
            store.put('open', b'')
        assert not store.files or pathlib.Path(store.files[0]).exists()
        with closing(self.make_store(folder)) as store:
            found = walked(store)
            assert found == [key for key in SORTED[::-1] if key not in ('a', 1)] + [1]
            assert [*map(type, found)][-1] is int and store.get('b') == b'header of ' + SOME_OWNERS[0]
            assert store.get_chunk(SOME_OWNERS[0], 1) == b'one' and store.delete('b')
            assert list(store.chunk_owners()) == []
            store.put('newest', b'')
            assert walked(store, reverse=True)[:2] == ['newest', 1]
        store.destroy()
        assert not any(pathlib.Path(path).exists() for path in store.files)
        with closing(self.make_store(folder)) as store:
            assert listed(store) == [] and store.count() == 0
