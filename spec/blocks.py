"""The order of blocks: who opens, joins and ends them, in whichever order."""
from __future__ import annotations

import asyncio
import contextlib
import threading
from functools import partial

import pytest

import vaults
from vaults import Vault

from .helpers import TASK_KINDS, block_over
from .internals import is_in_transaction


class TestOrderOfBlocks:
    """A block that ends while a younger one is open commits nothing."""

    @pytest.fixture(params=TASK_KINDS)
    def t(self, request, root, monkeypatch):
        monkeypatch.chdir(root)
        vault = TASK_KINDS[request.param]()
        yield vault
        vault.close()

    @staticmethod
    def held(t, kind, key):
        if kind == 'with' and isinstance(t, vaults.Shelf):
            pytest.skip('it closes')
        if kind == 'edit':
            with t.edit(key, []) as value:
                value.append(1)
                yield
                t['more', key] = 1
        else:
            with t if kind == 'with' else t.transaction():
                t[key] = 1
                yield
                t['more', key] = 1

    @pytest.mark.parametrize('kind', ['with', 'transaction', 'edit'])
    def test_two_generators_whose_blocks_cross_raise_and_commit_nothing(self, t, kind):
        for ends in (next, lambda held: next(held, None)):
            first, second = self.held(t, kind, 'a'), self.held(t, kind, 'b')
            next(first)
            next(second)
            with pytest.raises(vaults.VaultError, match='order'):
                ends(first)
            assert t.items() == []
            with pytest.raises(vaults.VaultError, match='ended before|order'):
                ends(second)
            assert t.items() == []
            t['k'] = 1
            assert t.pop('k') == 1

    @pytest.mark.parametrize('kind', ['with', 'transaction', 'edit'])
    def test_what_goes_on_in_a_block_that_was_undone_is_not_written(self, t, kind):
        first, second = self.held(t, kind, 'a'), self.held(t, kind, 'b')
        next(first)
        next(second)
        first.close()
        for write in (lambda: t.update(c=1), lambda: t.pop('c', None), lambda: t.transaction().__enter__()):
            with pytest.raises(vaults.VaultError, match='ended before'):
                write()
        assert t.get('a') is None
        with pytest.raises(vaults.VaultError, match='ended before'):
            next(second)
        t['k'] = 1
        assert t.items() == [('k', 1)]

    @pytest.mark.parametrize('kind', ['with', 'transaction', 'edit'])
    def test_blocks_that_end_in_their_order_work_wherever_they_are_held(self, t, kind):
        first, second = self.held(t, kind, 'a'), self.held(t, kind, 'b')
        next(first)
        next(second)
        assert next(second, 'done') == next(first, 'done') == 'done'
        assert sorted(map(str, t)) == ["('more', 'a')", "('more', 'b')", 'a', 'b']
        t.clear()
        first, second = self.held(t, kind, 'a'), self.held(t, kind, 'b')
        next(first)
        next(second)
        second.close()
        next(first, None)
        assert sorted(map(str, t)) == ["('more', 'a')", 'a']

    def test_what_is_around_stays_when_two_within_cross(self, t):
        with t.transaction():
            t['around'] = 1
            first, second = self.held(t, 'transaction', 'a'), self.held(t, 'transaction', 'b')
            next(first)
            next(second)
            with pytest.raises(vaults.VaultError, match='order'):
                next(first)
            second.close()
            t['then'] = 1
        assert t.items() == [('around', 1), ('then', 1)]

    def test_wrappers_stacks_and_subclasses_nest_as_ever(self, t):
        @contextlib.contextmanager
        def wrapped(key):
            with t.transaction() if isinstance(t, vaults.Shelf) else t:
                yield
                t[key] = 1
        for _ in range(2):
            with contextlib.ExitStack() as stack:
                stack.enter_context(wrapped('a'))
                stack.enter_context(t.transaction())
                stack.enter_context(wrapped('b'))
                stack.enter_context(t.transaction())
                t['c'] = 1
                stack.pop_all().close()
            with wrapped('d'), wrapped('e'), t.transaction():
                t['f'] = 1
        assert sorted(t) == ['a', 'b', 'c', 'd', 'e', 'f']

    def test_a_block_is_entered_and_left_by_whoever_does_it(self, root):
        class Both(Vault):
            def __enter__(self):
                return super().__enter__()

            def __exit__(self, *error):
                return super().__exit__(*error)

        class Enters(Vault):
            def __enter__(self):
                return super().__enter__()

        class Exits(Vault):
            def __exit__(self, *error):
                return super().__exit__(*error)
        for cls in (Both, Enters, Exits, Vault):
            v = cls(cls.__name__)
            section = v.section('s')
            with section, v, section, contextlib.ExitStack() as stack:
                stack.enter_context(v)
                stack.enter_context(section)
                v['k'] = 1
                with pytest.raises(ZeroDivisionError), v, section:
                    v['k'] = 2
                    1 / 0
                with v:
                    section['k'] = 1
            assert v.items() == [('k', 1), (('s', 'k'), 1)]
            v._check()

    def test_a_block_object_can_be_used_again(self, t):
        block = t.transaction()
        with block:
            t['a'] = 1
            with contextlib.suppress(ZeroDivisionError), block:
                t['b'] = 1
                1 / 0
        with block:
            t['c'] = 1
        assert t.keys() == ['a', 'c']

    def test_one_block_object_held_by_two_generators_crosses_as_well(self, t):
        block = t.transaction()
        first, second = block_over(t, 'a', block), block_over(t, 'b', block)
        next(first)
        next(second)
        with pytest.raises(vaults.VaultError, match='order'):
            next(first, None)
        with pytest.raises(vaults.VaultError, match='ended before'):
            next(second)
        assert t.items() == []

    @pytest.mark.parametrize('waits', [False, True])
    def test_a_function_that_was_left_inside_its_block_holds_nobody_up(self, v, waits):
        def entered():  # as one whose end an interrupt has met
            v.__enter__()
            v['inside'] = 1
            if waits:
                yield
        with pytest.raises(ZeroDivisionError), v:
            v['around'] = 1
            inner = entered()
            next(inner, None)
            1 / 0
        if waits:
            with pytest.raises(vaults.VaultError, match='ended before'):
                v['k'] = 1
            inner.close()
        v['k'] = 1
        assert v.items() == [('k', 1)] and Vault('test').items() == [('k', 1)]

    def test_an_update_whose_source_holds_a_block_that_does_not_end_is_undone(self, t):
        def pairs():
            with t.transaction():
                yield 'a', 1
                yield 'b'
        source = pairs()
        with pytest.raises(ValueError):
            t.update(source)
        source.close()
        t['k'] = 1
        assert t.items() == [('k', 1)] and not is_in_transaction(t)

    @pytest.mark.parametrize('verb', ['put', 'append'])
    @pytest.mark.parametrize('fails', [False, True])
    @pytest.mark.parametrize('kind', ['with', 'transaction', 'edit'])
    def test_a_block_that_is_left_in_another_thread_names_the_one_that_holds_it(self, t, kind, fails, verb):
        write = partial(t.put, 'k')
        if verb == 'append':
            if t._validate is not None or t._place.parent is not None:
                pytest.skip('it has no lists, or is a part of what has')
            write = t.list('rows').append
            write('before')

        def hold():
            with {'with': lambda: t, 'transaction': t.transaction, 'edit': lambda: t.edit('a', [])}[kind]():
                write(-2)
                write(-1)
                yield
        held, ready, go, found = hold(), threading.Event(), threading.Event(), []
        if kind == 'with' and isinstance(t, vaults.Shelf):
            pytest.skip('it closes')

        def begin():
            next(held)
            ready.set()
            go.wait(10)
            for _ in range(2):
                try:
                    write(len(found))
                    found.append('put')
                except vaults.VaultError as error:
                    found.append(str(error))
        thread = threading.Thread(target=begin, name='the beginner')
        thread.start()
        ready.wait(10)
        with pytest.raises(vaults.VaultTaskError, match="began.*'the beginner'.*another thread"):
            held.throw(ZeroDivisionError) if fails else next(held)
        go.set()
        thread.join()
        assert "left in another thread" in found[0] and found[1] == 'put'
        assert t.items() == ([('k', 1)] if verb == 'put' else [('rows', ['before', 1])])

    def test_a_thread_that_has_the_number_of_one_that_ended_in_a_block_appends_for_itself(self, v):
        rows, idents = v.list('rows'), []
        rows.append('before')

        def begin():
            v.__enter__()
            rows.append('never ended')
            rows.append('nor this')
            idents.append(threading.get_ident())  # another gets it sooner or later

        def append():
            if threading.get_ident() in idents and len(rows) == 1:
                rows.append('after')
        for act in (begin, *[append] * 200):
            thread = threading.Thread(target=act)
            thread.start()
            thread.join()
        assert rows == ['before', 'after']

    @pytest.mark.parametrize('fails', [False, True])
    @pytest.mark.parametrize('kind', ['transaction', 'edit'])
    def test_a_block_that_is_left_in_another_thread_keeps_nobody_waiting(self, t, kind, fails):
        def hold():
            with {'transaction': t.transaction, 'edit': lambda: t.edit('a', [])}[kind]():
                t['held'] = 1
                yield
        held, ready, go, errors, done = hold(), threading.Event(), threading.Event(), [], []

        def begin():
            next(held)
            ready.set()
            go.wait(30)
            try:
                t['late'] = 1
            except vaults.VaultError as error:
                errors.append(str(error))

        def others():
            t['k'] = 1
            with t.transaction():
                t['n'] = t.pop('k') + 1
            done.append(t.copy())
        beginner = threading.Thread(target=begin)
        beginner.start()
        ready.wait(10)
        with pytest.raises(vaults.VaultTaskError, match='another thread'):
            held.throw(ZeroDivisionError) if fails else next(held)
        other = threading.Thread(target=others, daemon=True)
        other.start()
        other.join(10)  # while the thread that began does other work
        waits = other.is_alive()
        go.set()
        beginner.join()
        other.join()
        assert not waits and done == [{'n': 2}]
        assert 'left in another thread' in errors[0] and t.copy() == {'n': 2}

    def test_a_stack_that_is_closed_in_another_thread_is_told_who_has_a_block(self, v):
        stack, ready, go = contextlib.ExitStack(), threading.Event(), threading.Event()

        def begin():
            stack.enter_context(v)
            v['k'] = 1
            ready.set()
            go.wait(10)
            stack.close()
        thread = threading.Thread(target=begin, name='the beginner')
        thread.start()
        ready.wait(10)
        with pytest.raises(vaults.VaultError, match="no transaction.*'the beginner'"):
            v.__exit__(None, None, None)
        go.set()
        thread.join()
        assert v.items() == [('k', 1)]

    def test_a_dependency_of_fastapi_that_holds_a_block_is_told_which_thread_has_it(self, root):
        fastapi = pytest.importorskip('fastapi')
        to_thread = pytest.importorskip('anyio.to_thread')
        v, leave = Vault('t', thread_safe=True), threading.Event()
        app = fastapi.FastAPI()

        def transaction():
            with v:
                v['held'] = 1
                yield v

        @app.get('/wrong')
        async def wrong(db: Vault = fastapi.Depends(transaction)):  # noqa: B008  # as FastAPI has it
            app.busy = asyncio.ensure_future(to_thread.run_sync(leave.wait))  # the thread that began
            await asyncio.sleep(0.1)

        @app.get('/right')
        def right():
            with v:
                v['n'] = v.get('n', 0) + 1
                return v['n']

        async def call(path):
            async def receive():
                await asyncio.sleep(0)
                return {'type': 'http.request', 'body': b''}

            async def send(message):
                sent.append(message)
            sent = []
            await app({'type': 'http', 'method': 'GET', 'path': path, 'query_string': b'', 'headers': []}, receive, send)
            return sent

        async def main():
            with pytest.raises(vaults.VaultTaskError, match="began in the thread '.*worker.*in one function"):
                await call('/wrong')
            leave.set()
            await app.busy
            with contextlib.suppress(vaults.VaultError):  # of the thread that has it, which ends it so
                await call('/right')
            await asyncio.gather(*(call('/right') for _ in range(5)))
        asyncio.run(main())
        assert 'held' not in v and v['n'] >= 5


