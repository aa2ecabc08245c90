"""Walks of an engine: what they see while others write, and how they go on from a cursor."""
from __future__ import annotations

from contextlib import ExitStack, closing

import pytest
from msgpack import packb, unpackb

from .._typing import TYPE_CHECKING
from ..errors import VaultError, VaultValueError
from .common import MANY_ENTRIES, StoreSuite, listed, walked
from .oracle import WALKS

if TYPE_CHECKING:
    import pathlib
    from typing import Any, Dict, Iterator, List

    from ..stores.base import Entry, Page, Store


class WalkSuite(StoreSuite):
    """What every engine must do when it is walked over."""

    @pytest.mark.parametrize('options', WALKS[:4], ids=str)
    def test_a_walk_sees_what_was_there_when_it_began(self, store: Store, options: Dict[str, Any]) -> None:
        store.put_many((number, b'%d' % number) for number in range(MANY_ENTRIES))
        walk = store.scan(**options)
        first = next(walk)
        edge, other = (MANY_ENTRIES - 1, 0) if options.get('reverse') else (0, MANY_ENTRIES - 1)
        assert first[0][0] == edge and len(first[0]) < MANY_ENTRIES, 'a walk comes in pages'
        assert store.delete(other) and store.delete(MANY_ENTRIES // 2)
        store.put(MANY_ENTRIES // 2, b'a new entry')
        store.put(MANY_ENTRIES, b'behind all')
        store.put(-1, b'before all')
        seen = [*first[0], *(key for page in walk for key in page[0])]
        expected = [key for key in range(MANY_ENTRIES) if key not in (other, MANY_ENTRIES // 2)]
        assert seen == (expected[::-1] if options.get('reverse') else expected)

    @pytest.mark.parametrize('options', WALKS, ids=str)
    def test_a_walk_goes_on_from_a_cursor_which_is_data(self, folder: pathlib.Path, options: Dict[str, Any]) -> None:
        with ExitStack() as stack:
            store = stack.enter_context(closing(self.make_store(folder)))
            assert store.page(**options) == (([], [], []), None)
            store.put_many((number, b'%d' % number) for number in range(-9, MANY_ENTRIES))
            store.put('a', b'text')
            store.move(2, False)
            whole = listed(store, **options)
            (keys, datas, ids), cursor = store.page(**options)
            seen: List[Entry] = [*zip(keys, datas)]
            gone: List[Entry] = []
            assert 0 < len(seen) < MANY_ENTRIES and seen == whole[:len(seen)]
            assert all(map(store.alive, keys[::40], [*ids][::40]))
            new: List[Entry] = [(key, b'new') for key in (-20, 0.5, MANY_ENTRIES, 'aa', 'u')]
            assert store.put_many(new) == 5 and store.delete(keys[-1])  # where the walk stands
            while cursor is not None:
                if self.persistent and not store.numbering:  # another process may go on with it
                    store.close()
                    store = stack.enter_context(closing(self.make_store(folder)))
                left = whole[len(seen) + len(gone):]
                if len(left) > 9 and len(gone) < 2:
                    gone.append(left[-2 - len(gone)])
                    assert store.delete(gone[-1][0])
                    store.put(gone[-1][0], b'a new entry')
                (keys, datas, ids), cursor = store.page(cursor=unpackb(packb(cursor)), **options)
                seen += zip(keys, datas)
            assert len(gone) == 2 and seen == [entry for entry in whole if entry not in gone]
            (keys, datas, ids), _ = store.page(values=False, **options)
            assert len(keys) == len(list(ids)) > 1 and datas == []
            oldest, newest, last, key, numbering = store.page()[1] or (0, 0, 0, 0, 0)
            with pytest.raises(VaultValueError):
                store.page(cursor=(oldest, newest, last, key, numbering + 1))

    def test_a_page_tells_which_of_its_entries_are_still_there(self, store: Store) -> None:
        for key in 'abc':
            store.put(key, b'')
        keys, _, unread = next(store.scan())
        ids, before = list(unread), store.deletions
        assert all(map(store.alive, keys, ids))
        store.delete('a')
        assert store.deletions != before
        store.delete('b')
        store.put('b', b'a new entry')
        assert list(map(store.alive, keys, ids)) == [False, False, True]

    def test_an_entry_is_the_same_as_long_as_it_is_not_deleted(self, store: Store) -> None:
        store.put_many((key, b'') for key in (True, 'a', b'\x04b\0'))
        (keys, _, unread), = store.scan(values=False)
        ids = list(unread)
        store.put('a', b'another value')
        assert len(set(ids)) == 3 and all(map(store.alive, keys, ids)) and store.alive(1.0, ids[0])
        assert not store.alive('a', ids[0]) and not store.alive('x', ids[1])
        store.begin()
        store.delete_range()
        store.put('a', b'a new entry')
        assert not any(map(store.alive, keys, ids))
        store.rollback()
        assert all(map(store.alive, keys, ids))
        for options in WALKS[:4]:
            for page in store.scan(**options):
                assert sorted(page[2]) == sorted(ids)

    def test_a_walk_does_not_visit_twice_what_moves(self, store: Store) -> None:
        store.put_many((number, b'') for number in range(MANY_ENTRIES))
        for reverse, far in ((False, MANY_ENTRIES - 1), (True, 1)):
            walk = store.scan(reverse=reverse)
            seen = list(next(walk)[0])
            assert store.move(seen[0], not reverse) and store.move(far, reverse)
            seen += [key for page in walk for key in page[0]]
            assert len(seen) == len(set(seen)) and {*range(MANY_ENTRIES)} - {far} <= {*seen}

    def test_a_walk_begun_in_a_transaction_that_was_rolled_back_raises(self, store: Store) -> None:
        store.put('before', b'')
        store.begin()
        store.put_many((number, b'') for number in range(MANY_ENTRIES))
        walk = store.scan()
        next(walk)
        store.rollback()
        with pytest.raises(VaultError):
            list(walk)
        assert walked(store) == ['before']

    def test_a_walk_goes_on_where_a_transaction_was_rolled_back_that_began_later(self, store: Store) -> None:
        def begun() -> Iterator[Page]:
            walk = store.scan()
            next(walk)
            return walk
        store.put_many((number, b'') for number in range(MANY_ENTRIES))
        store.begin()
        around = begun(), begun()
        store.begin()
        committed = begun(), begun()
        store.commit()
        for walks in (around, committed):
            store.begin()
            undone = begun()
            assert store.delete(0)
            store.rollback()
            assert list(walks[0])[-1][0][-1] == MANY_ENTRIES - 1
            with pytest.raises(VaultError):
                list(undone)
        store.rollback()
        for walk in (around[1], committed[1]):
            with pytest.raises(VaultError):
                list(walk)

    def test_a_walk_without_values_has_none(self, store: Store) -> None:
        store.put('a', b'1')
        (keys, datas, ids), = store.scan(values=False)
        assert list(keys) == ['a'] and len(datas) == 0 and [store.alive('a', id) for id in ids] == [True]
        assert list(store.scan('x', 'y')) == []
