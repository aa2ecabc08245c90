"""Blocks in tasks of asyncio."""
from __future__ import annotations

import asyncio
import gc
import io
import sys
import threading

import pytest

import vaults
from vaults import Vault, moving

from .helpers import TASK_KINDS, block_over, output
from .internals import whole

OF_THE_WHOLE = ('check', 'compact', 'sync', 'backup', 'delete_vault')  # what a section leaves to its vault
TASK_USES = {
    'get': lambda v: v['k'], 'get()': lambda v: v.get('k'), 'in': lambda v: 'k' in v, 'len': len, 'bool': bool,
    'iter': list, 'reversed': lambda v: list(reversed(v)), 'keys': lambda v: v.keys()[0], 'values': lambda v: list(v.values()),
    'items': lambda v: list(v.items()), '==': lambda v: v == {'k': 1, 'l': 2, 'mine': 3}, 'copy': lambda v: v.copy(),
    'slice': lambda v: list(v['a':'z']), 'slice items': lambda v: v['a':'z'].items()[0], 'slice len': lambda v: len(v['a':'z']),
    'slice get': lambda v: v['a':'z']['k'], 'first': lambda v: v.prefix('').first(), 'last': lambda v: v.prefix('').last(),
    'irange': lambda v: list(v.irange('a', 'z')), 'sections': lambda v: v.sections(),
    'get_many': lambda v: v.get_many(['k']), 'has_keys': lambda v: v.has_keys(['k']),
    'put': lambda v: v.__setitem__('k', 5), 'put()': lambda v: v.put('k', 5), 'new key': lambda v: v.__setitem__('new', 5),
    'del': lambda v: v.__delitem__('k'), 'del slice': lambda v: v.__delitem__(slice('a', 'z')), 'pop': lambda v: v.pop('k'),
    'popitem': lambda v: v.popitem(), 'setdefault': lambda v: v.setdefault('k', 5), 'setdefault new': lambda v: v.setdefault('new', 5),
    'update': lambda v: v.update(k=5), '|=': lambda v: v.__ior__({'k': 5}), 'put_many': lambda v: v.put_many([('k', 5)]),
    'update of nothing': lambda v: v.update({}), 'pop_many': lambda v: v.pop_many(['k']), 'clear': lambda v: v.clear(),
    'move_to_end': lambda v: v.move_to_end('k'), 'move_to_front': lambda v: v.move_to_end('k', last=False),
    'oldest': lambda v: v.popitem(last=False), 'repr of items': lambda v: repr(v.items()), 'last key': lambda v: v.keys()[-1],
    'block': lambda v: v.transaction().__enter__(), 'with': lambda v: Vault.__enter__(v), 'edit': lambda v: v.edit('k').__enter__(),
    'list': lambda v: v.list('list'), 'column': lambda v: v.column('column', 'int8'),
    'open': lambda v: v.open('stream'), 'open to write': lambda v: v.open('stream', 'w'),
    'put_file': lambda v: v.put_file('k', io.BytesIO(b'x')), 'get_file': lambda v: v.get_file('stream', io.BytesIO()),
    'section put': lambda v: v.section('in').__setitem__('k', 5), 'section len': lambda v: len(v.section('in')),
    'section walk': lambda v: list(v.section('in').items()), 'export': lambda v: moving.export(v, io.StringIO()),
    'check': lambda v: v.check(), 'compact': lambda v: v.compact(), 'sync': lambda v: v.sync(),
    'backup': lambda v: v.backup('copy.db'), 'close': lambda v: v.close(), 'delete_vault': lambda v: v.delete_vault()}
TASK_USES_OF_THINGS = {  # a list, a column and a stream that is being written
    'len': lambda things: len(things[0]), 'item': lambda things: things[0][0], 'walk': lambda things: list(things[0]),
    'append': lambda things: things[0].append(3), 'set': lambda things: things[0].__setitem__(0, 5),
    'column slice': lambda things: things[1][:], 'column extend': lambda things: things[1].extend([3]),
    'column walk': lambda things: list(things[1]), 'column pop': lambda things: things[1].pop(),
    'close a stream': lambda things: things[2].close()}


class TestTasks:
    """A block belongs to the task that began it, where an event loop runs."""

    @pytest.fixture(params=TASK_KINDS)
    def t(self, request, root, monkeypatch):
        monkeypatch.chdir(root)
        vault = TASK_KINDS[request.param]()
        yield vault
        vault.close()
        gc.collect()

    @staticmethod
    async def held(v, use, block=None):
        """Call `use` while another task is in a block of `v`, which then goes on."""
        entered, leave = asyncio.Event(), asyncio.Event()

        async def owner():
            with block or v.transaction():
                v['mine'] = 1
                entered.set()
                await leave.wait()
                v['mine'] = v['mine'] + 1
        task = asyncio.ensure_future(owner())
        await entered.wait()
        try:
            use()
        finally:
            leave.set()
            await task

    @staticmethod
    async def add_one(t, errors):
        """Add one in a block that awaits; note what is said where another task's block is open."""
        try:
            with t.transaction():
                n = t['n']
                await asyncio.sleep(0)
                t['n'] = n + 1
        except vaults.VaultTaskError as error:
            errors.append(str(error))

    def test_ten_tasks_that_await_in_a_block_are_told_so_and_lose_nothing(self, t):
        t['n'] = 0
        errors = []

        async def main():
            await asyncio.gather(*(self.add_one(t, errors) for _ in range(10)))
        asyncio.run(main())
        assert t['n'] == 10 - len(errors) == 1
        assert all('await' in text and 'asyncio.to_thread' in text and 'Task-' in text for text in errors)
        assert isinstance(vaults.VaultTaskError('x'), RuntimeError)

    def test_what_another_task_has_put_is_never_undone(self, t):
        async def fail():
            with t.transaction():
                t['a'] = 1
                await asyncio.sleep(0)
                raise ZeroDivisionError

        async def put(key):
            try:
                t[key] = 1
            except vaults.VaultTaskError:
                return None
            return key

        async def main():
            first = await put('before')
            failing = asyncio.ensure_future(fail())
            await asyncio.sleep(0)
            acknowledged = [first, await put('between')]
            with pytest.raises(ZeroDivisionError):
                await failing
            return [*acknowledged, await put('after')]
        assert asyncio.run(main()) == ['before', None, 'after'] and t.keys() == ['before', 'after']

    @pytest.mark.parametrize('use', [*TASK_USES, *(f'a list or so: {use}' for use in TASK_USES_OF_THINGS)])
    @pytest.mark.parametrize('kind', ['plain', 'thread_safe', 'memory', 'writeback', 'section'])
    def test_every_use_by_another_task_raises_and_disturbs_nothing(self, root, monkeypatch, kind, use):
        monkeypatch.chdir(root)
        v = TASK_KINDS[kind]()
        if kind == 'section' and use in OF_THE_WHOLE:
            v = whole(v)
        made = {'k': 1, 'l': 2}
        v.update(made)
        things = v.list('list'), v.column('column', 'int8'), v.open('written', 'w')
        things[0].extend([1, 2])
        things[1].extend([1, 2])
        v.open('stream', 'wb').close()
        things[2].write('text')
        v.section('in')['k'] = 1
        before = v.copy()

        def refused():
            with pytest.raises(vaults.VaultTaskError, match='Task-.*await'):
                TASK_USES[use](v) if use in TASK_USES else TASK_USES_OF_THINGS[use[len('a list or so: '):]](things)
        asyncio.run(self.held(v, refused))
        assert v.copy() == {**before, 'mine': 2}
        v._check() if kind != 'section' else None
        things[2].close()
        v['after'] = 1
        assert v.pop('after') == 1

    @pytest.mark.parametrize('begin', ['with', 'transaction', 'edit'])
    def test_each_block_is_its_tasks(self, t, begin):
        t['k'] = {}
        if begin == 'with' and isinstance(t, vaults.Shelf):
            pytest.skip('it closes')
        block = {'with': lambda: t, 'transaction': t.transaction, 'edit': lambda: t.edit('k')}[begin]()

        def refused():
            for act in (lambda: t['k'], lambda: t.put('k', 2), lambda: t.transaction().__enter__(), lambda: len(t)):
                with pytest.raises(vaults.VaultTaskError, match='Task-'):
                    act()
        asyncio.run(self.held(t, refused, block))
        assert t.items() == [('k', {}), ('mine', 2)]

    def test_plain_calls_and_blocks_without_an_await_work_in_any_task(self, t):
        t['n'] = 0

        async def add(n):
            for _ in range(20):
                with t.transaction():
                    t['n'] = t['n'] + 1
                    with t.transaction():
                        t.update({n: n})
                await asyncio.sleep(0)
                t['plain', n] = len(t)
                with t.edit('log', []) as log:
                    log.append(n)

        async def main():
            await asyncio.gather(*map(add, range(10)))
        asyncio.run(main())
        assert t['n'] == 200 and len(t['log']) == 200 and len(t) == 22

    def test_threads_wait_for_a_tasks_block_and_are_not_told_of_tasks(self, t):
        async def main():
            loop, inside = asyncio.get_running_loop(), threading.Event()

            def put():
                inside.set()
                t['thread'] = 1
                return t['thread'], len(t), [*t]
            with t.transaction():
                t['mine'] = 1
                waiting = loop.run_in_executor(None, put)
                await loop.run_in_executor(None, inside.wait)
                await asyncio.sleep(0.05)
            assert await waiting == (1, 2, ['mine', 'thread'])
        asyncio.run(main())

    def test_a_block_in_a_thread_is_no_task_s(self, t):
        def add():
            with t.transaction():
                t['n'] = t.get('n', 0) + 1

        async def main():
            loop = asyncio.get_running_loop()
            await asyncio.gather(*(loop.run_in_executor(None, add) for _ in range(10)))
            return t['n']
        assert asyncio.run(main()) == 10

    def test_a_block_that_was_begun_before_the_loop_is_open_to_all_tasks(self, t):
        async def put(n):
            await asyncio.sleep(0)
            t[n] = 1

        async def main():
            await asyncio.gather(*map(put, range(3)))
        with t.transaction():
            asyncio.run(main())
            assert len(t) == 3
        assert len(t) == 3

    def test_blocks_within_one_that_was_begun_before_the_loop_are_their_tasks(self, t):
        t['n'] = 0
        errors = []

        async def main():
            await asyncio.gather(*(self.add_one(t, errors) for _ in range(5)))
            t['plain'] = 1
        with t.transaction():
            asyncio.run(main())
        assert t['n'] == 1 and len(errors) == 4 and t['plain'] == 1

    def test_a_callback_of_the_loop_is_another_and_owns_what_it_begins(self, t):
        async def main():
            loop, found = asyncio.get_running_loop(), []

            def put():
                try:
                    with t.transaction():
                        t['callback'] = t.get('callback', 0) + 1
                except vaults.VaultTaskError as error:
                    found.append(error)
            loop.call_soon(put)
            await asyncio.sleep(0)
            with t.transaction():
                t['mine'] = 1
                loop.call_soon(put)
                await asyncio.sleep(0)
            held = block_over(t)
            loop.call_soon(next, held)
            await asyncio.sleep(0)
            with pytest.raises(vaults.VaultTaskError, match='callback'):
                t['mine'] = 2
            held.close()
            return found
        found = asyncio.run(main())
        assert len(found) == 1 and t.items() == [('callback', 1), ('mine', 1)]

    @pytest.mark.parametrize('problem', [asyncio.CancelledError, ZeroDivisionError])
    def test_a_task_that_is_cancelled_or_fails_rolls_back(self, t, problem):
        async def work():
            with t.transaction():
                t['k'] = 1
                await asyncio.sleep(0)
                if problem is ZeroDivisionError:
                    1 / 0
                await asyncio.sleep(60)

        async def main():
            task = asyncio.ensure_future(work())
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(problem):
                await task
            t['after'] = 1
        asyncio.run(main())
        assert t.items() == [('after', 1)]

    def test_a_task_that_ends_inside_its_block_says_how_that_ends(self, t):
        async def begin(held):
            next(held)

        async def main(end):
            held = block_over(t)
            await asyncio.ensure_future(begin(held))
            with pytest.raises(vaults.VaultTaskError, match='has ended.*generator'):
                len(t)
            end(held)
            held = None
            gc.collect()
            t['after'] = t.get('after', 0) + 1
        asyncio.run(main(lambda held: held.close()))
        with pytest.raises(vaults.VaultTaskError):  # and not committed
            asyncio.run(main(next))
        t['after'] = t['after'] + 1
        assert t.items() == [('after', 2)]

    def test_a_dropped_generator_rolls_back_wherever_it_is_collected(self, t):
        async def begin():
            next(block_over(t))

        async def main():
            await asyncio.ensure_future(begin())
            gc.collect()
            t['after'] = 1
        asyncio.run(main())
        assert t.items() == [('after', 1)]

    @pytest.mark.skipif(sys.version_info < (3, 11), reason='a frame that is held holds its task in older Pythons')
    def test_a_task_that_nobody_can_continue_is_collected_with_its_block(self, t):
        async def lost():
            with t.transaction():
                t['lost'] = 1
                await asyncio.get_running_loop().create_future()

        async def main():
            task = asyncio.ensure_future(lost())
            task._log_destroy_pending = False
            await asyncio.sleep(0)
            with pytest.raises(vaults.VaultTaskError):
                t['k'] = 1
            del task
            gc.collect()
            t['k'] = 2
        asyncio.run(main())
        assert t.items() == [('k', 2)]

    @pytest.mark.parametrize('kind', ['with', 'transaction', 'edit'])
    def test_a_block_that_another_task_ends_is_rolled_back(self, t, kind):
        if kind == 'with' and isinstance(t, vaults.Shelf):
            pytest.skip('it closes')

        def hold():
            with {'with': lambda: t, 'transaction': t.transaction, 'edit': lambda: t.edit('edited', [])}[kind]():
                t['held'] = 1
                yield

        async def main():
            held = hold()
            inside, leave = asyncio.Event(), asyncio.Event()

            async def begin():
                next(held)
                inside.set()
                await leave.wait()
                with pytest.raises(vaults.VaultError, match='no transaction'):
                    t._store.commit()
            task = asyncio.ensure_future(begin())
            await inside.wait()
            with pytest.raises(vaults.VaultTaskError, match='Task-'):
                next(held)
            assert 'held' not in t and 'edited' not in t
            leave.set()
            await task
        asyncio.run(main())
        t['after'] = 1
        assert t.items() == [('after', 1)]

    def test_a_vault_can_be_closed_when_the_task_in_its_block_has_ended(self, t):
        async def begin(held):
            next(held)

        async def main(held):
            await asyncio.ensure_future(begin(held))
            t.close()
        held = block_over(t)
        asyncio.run(main(held))
        with pytest.raises(vaults.VaultClosedError):
            next(held)

    def test_a_vault_can_be_closed_when_its_loop_has_stopped(self, t):
        async def begin():
            with t.transaction():
                t['k'] = 1
                await asyncio.sleep(60)
        loop = asyncio.new_event_loop()
        task = loop.create_task(begin())
        loop.run_until_complete(asyncio.sleep(0))
        with pytest.raises(vaults.VaultTaskError, match='Task-'):
            t['k'] = 2
        whole(t).close()
        task.cancel()
        with pytest.raises(vaults.VaultClosedError):
            loop.run_until_complete(task)
        loop.close()

    def test_a_walk_goes_on_in_a_block_of_its_task_alone(self, t):
        t.update({n: n for n in range(3000)})

        async def main():
            walks = [iter(t), iter(t.items()), reversed(t), iter(t[:])]
            for walk in walks:
                next(walk)

            def refused():
                for walk in walks:
                    with pytest.raises(vaults.VaultTaskError):
                        list(walk)
            await self.held(t, refused)
        asyncio.run(main())

    def test_a_process_that_ends_while_a_task_is_in_its_block_keeps_what_was_before(self, root):
        output('''
            import asyncio, sys, vaults
            vaults.set_root_path(sys.argv[1])
            w, v = vaults.Vault('w', writeback=True), vaults.Vault('v')
            w['log'] = []
            w['log'].append('before')

            async def hold(vault):
                with vault:
                    vault['log'] = ['inside']
                    await asyncio.sleep(60)
            v['log'] = ['before']
            loop = asyncio.new_event_loop()
            tasks = [loop.create_task(hold(vault)) for vault in (v, w)]
            loop.run_until_complete(asyncio.sleep(0))
            for task in tasks:
                task._log_destroy_pending = False''', root)
        assert Vault('v').items() == Vault('w').items() == [('log', ['before'])]

    def test_trio_tasks_own_their_blocks(self, t):
        trio = pytest.importorskip('trio')
        errors = []

        async def add():
            try:
                with t.transaction():
                    n = t['n']
                    await trio.lowlevel.checkpoint()
                    t['n'] = n + 1
            except vaults.VaultTaskError as error:
                errors.append(str(error))

        async def main():
            async with trio.open_nursery() as nursery:
                for _ in range(10):
                    nursery.start_soon(add)
            t['plain'] = 1

            def in_thread():
                with t.transaction():
                    t['thread'] = 1
            await trio.to_thread.run_sync(in_thread)
            held = block_over(t)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(begin, held)
            with pytest.raises(vaults.VaultTaskError, match='has ended'):
                len(t)
            held.close()

        async def begin(held):
            next(held)
        t['n'] = 0
        trio.run(main)
        assert t['n'] == 10 - len(errors) == 1 and all('trio.to_thread' in text and 'add' in text for text in errors)
        assert t.keys() == ['n', 'plain', 'thread']
