"""Blocks of an engine: transactions, nested and undone, and whose they are."""
from __future__ import annotations

import asyncio
import threading
import time
from contextlib import suppress

import pytest

from .._typing import TYPE_CHECKING
from ..errors import VaultBusyError, VaultError, VaultTaskError
from .common import Failed, StoreSuite, in_thread, in_threads, listed, walked

if TYPE_CHECKING:
    from typing import List, Optional

    from ..stores.base import Store


class BlockSuite(StoreSuite):
    """What every engine must do between a beginning and its end."""

    # --- transactions ---

    def test_transactions_are_nested(self, store: Store) -> None:
        store.put('a', b'0')
        store.begin()
        store.put('a', b'1')
        store.begin()
        store.put('a', b'2')
        store.delete_range()
        store.rollback()
        assert listed(store) == [('a', b'1')]
        store.begin()
        store.put('b', b'3')
        store.commit()
        store.rollback()
        assert listed(store) == [('a', b'0')]
        for _ in range(50):
            store.begin()
        store.put('a', b'4')
        for _ in range(50):
            store.commit()
        assert store.get('a') == b'4'

    def test_transact_returns_what_the_function_does_or_undoes_it(self, store: Store) -> None:
        def change() -> str:
            store.put('a', b'1')
            return 'done'

        def fail() -> None:
            store.put('a', b'2')
            store.move('a')
            raise Failed
        assert store.transact(change) == 'done'
        with pytest.raises(Failed):
            store.transact(fail)
        assert listed(store) == [('a', b'1')]

    def test_what_was_rolled_back_leaves_no_trace(self, store: Store) -> None:
        for key in 'abc':
            store.put(key, key.encode())
        store.begin()
        store.move('a')
        store.move('c', False)
        store.delete('b')
        store.put('b', b'new')
        store.put('d', b'd')
        store.rollback()
        assert listed(store) == [(key, key.encode()) for key in 'abc'] and store.count() == 3
        store.put('e', b'e')
        assert walked(store) == ['a', 'b', 'c', 'e']

    def test_there_is_nothing_to_end_without_a_beginning(self, store: Store) -> None:
        for end in (store.commit, store.rollback):
            with pytest.raises(VaultError):
                end()
        store.put('a', b'1')
        assert store.get('a') == b'1'

    def test_who_ends_before_a_younger_one_takes_it_along(self, store: Store) -> None:
        older, younger = object(), object()
        store.begin(older)
        store.put('a', b'1')
        store.begin(younger)
        store.put('b', b'2')
        with pytest.raises(VaultError):
            store.commit(older)
        with pytest.raises(VaultError):
            store.commit(younger)
        assert listed(store) == []
        store.begin(older)
        store.put('a', b'1')
        store.begin(younger)
        store.put('b', b'2')
        store.rollback(older)
        with suppress(VaultError):
            store.rollback(younger)
        assert listed(store) == []
        store.put('c', b'3')
        assert listed(store) == [('c', b'3')]

    # --- threads and tasks ---

    def test_a_transaction_keeps_other_writers_out(self, store: Store) -> None:
        store.put('count', b'0')

        def add_one() -> None:
            count = int(store.get('count') or b'')
            time.sleep(0.001)  # for somebody else to come in
            store.put('count', b'%d' % (count + 1))

        def add() -> None:
            for _ in range(20):
                store.transact(add_one)
        in_threads(add)
        assert store.get('count') == b'60'

    def test_what_is_in_a_transaction_is_seen_there_alone(self, store: Store) -> None:
        store.put('a', b'old')
        store.begin()
        store.put('a', b'new')
        seen: List[Optional[bytes]] = []

        def look() -> None:
            with suppress(VaultBusyError):
                seen.append(store.get('a'))
        thread = threading.Thread(target=look, daemon=True)  # which may wait for the end
        thread.start()
        thread.join(0.1)
        store.rollback()
        thread.join(60)
        assert not thread.is_alive() and seen in ([b'old'], [])

    def test_a_transaction_ends_in_its_thread(self, store: Store) -> None:
        who = object()
        store.begin(who)
        store.put('a', b'1')
        with pytest.raises(VaultError):
            in_thread(lambda: store.commit(object()))
        with pytest.raises(VaultTaskError):
            in_thread(lambda: store.commit(who))
        with suppress(VaultError):  # this thread is told, at its next call
            store.get('a')
        with suppress(VaultError):
            store.rollback(who)
        assert store.get('a') is None
        in_thread(lambda: store.put('b', b'2'))
        assert store.get('b') == b'2'

    def test_a_transaction_is_of_the_task_that_began_it(self, store: Store) -> None:
        async def hold(begun: asyncio.Event, end: asyncio.Event) -> None:
            store.begin()
            store.put('a', b'1')
            begun.set()
            await end.wait()
            store.put('b', b'2')
            store.commit()

        async def both() -> None:
            begun, end = asyncio.Event(), asyncio.Event()
            task = asyncio.ensure_future(hold(begun, end))
            await begun.wait()
            for use in (lambda: store.get('a'), lambda: store.put('a', b'3'), store.count, store.begin,
                        lambda: list(store.scan()), lambda: store.put_many([('c', b'4')])):
                with pytest.raises(VaultTaskError):
                    use()
            end.set()
            await task
            assert listed(store) == [('a', b'1'), ('b', b'2')]
        asyncio.run(both())
        assert listed(store) == [('a', b'1'), ('b', b'2')]
