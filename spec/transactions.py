"""Transactions: blocks, their order, two vaults of one file, threads."""
from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import io
import itertools
import os
import subprocess
import sys
import textwrap
import threading
import time
import types

import pytest

import vaults
from vaults import Vault
from vaults.stores.sqlite import locking, waiting
from vaults.stores.tasks import Lock

from .helpers import HERE, block_elsewhere, crowd, in_thread, is_free, open_files, output, signalled
from .internals import connection_of, is_in_transaction, raw_of


class TestTransactions:
    def test_a_block_is_all_or_nothing_and_the_vault_stays_open(self, v):
        other = Vault('test')
        with v:
            v['a'] = 1
            assert 'a' not in other
        assert other['a'] == 1
        for problem in (ValueError, KeyboardInterrupt, SystemExit, GeneratorExit):
            with pytest.raises(problem), v.transaction():
                v['a'] = 2
                v.clear()
                raise problem
            assert v['a'] == 1
        v['b'] = 2
        assert other.items() == [('a', 1), ('b', 2)]

    def test_nested_blocks_are_savepoints(self, v):
        with v:
            v['a'] = 1
            with pytest.raises(ZeroDivisionError), v:
                v['a'] = 2
                with v:
                    v['b'] = 3
                1 / 0
            with v:
                v['c'] = 4
            assert v.items() == [('a', 1), ('c', 4)]
        assert Vault('test').items() == [('a', 1), ('c', 4)]

    def test_nesting_has_an_end(self, v):
        with pytest.raises(vaults.VaultError, match='nested'), contextlib_stack(v, 150):
            pass
        v['k'] = 1
        assert Vault('test').items() == [('k', 1)]

    @pytest.mark.parametrize('safe', [False, True])
    @pytest.mark.parametrize('act', ['update', 'block', 'nested', 'undone', 'caught', 'edit', 'delete', 'pop'])
    def test_an_interrupt_at_any_line_leaves_no_transaction_open(self, root, act, safe):
        # Nothing written in Python can help when __exit__, commit or rollback is interrupted before its first line.
        v, other = Vault('i', thread_safe=safe), Vault('i', timeout=0.5)
        acts = {'update': lambda: v.update({'a': 1, 'b': 1}), 'delete': lambda: v.__delitem__('x'),
                'pop': lambda: v.pop('x'), 'block': lambda: block(v), 'nested': lambda: nested(v),
                'undone': lambda: undone(v), 'caught': lambda: caught(v), 'edit': lambda: edit(v)}

        def undone(v):
            with contextlib.suppress(ZeroDivisionError), v:
                v['a'] = 1
                with contextlib.suppress(ZeroDivisionError), v:
                    1 / 0
                1 / 0

        def caught(v):
            with v:
                v['a'] = 1
                with contextlib.suppress(ZeroDivisionError, KeyboardInterrupt), v:
                    v['half'] = 1
                    1 / 0
                v['b'] = 1

        def edit(v):
            with v.edit('x'):
                pass

        def block(v):
            with v:
                v['a'] = 1
                v['b'] = 1

        def nested(v):
            with v:
                v['a'] = 1
                block(v)
        package = os.path.dirname(vaults.__file__)

        where = []

        def entering(frame):
            return frame.f_code.co_name in ('commit', 'rollback') and frame.f_lineno <= frame.f_code.co_firstlineno + 2

        def interrupted(at):
            """Run the act, with KeyboardInterrupt raised before the line `at`; tell whether there was one."""
            left = [at]

            def trace(frame, event, argument):
                if not frame.f_code.co_filename.startswith(package):
                    return None
                if event == 'line' and not (frame.f_code.co_name in ('__enter__', '__exit__') or entering(frame)):
                    left[0] -= 1
                    if left[0] == 0:
                        sys.settrace(None)
                        where[:] = [frame.f_code.co_name, frame.f_lineno]
                        raise KeyboardInterrupt
                return trace
            before = sys.gettrace()
            try:
                sys.settrace(trace)
                acts[act]()
            except KeyboardInterrupt:
                return True
            finally:
                sys.settrace(before)
            return left[0] <= 0
        gc.collect()  # or an interrupt could land in the closing of an older vault, where Python swallows it
        for at in itertools.count(1):
            v.clear()
            v['x'] = 0
            gc.disable()
            again = interrupted(at)
            gc.enable()
            c = connection_of(v)
            assert not c.depth and not c.raw.in_transaction and not c.lost, (at, where)
            assert not safe or in_thread(lambda: is_free(v._store.lock)), (at, where)
            assert dict(other.items()) in ({'x': 0}, {'x': 0, 'a': 1, 'b': 1}, {}), at
            if not again:
                break
            v['after'] = at
            assert other.pop('after') == at
        assert at > 12

    def test_what_sqlite_rolled_back_by_itself_is_not_continued(self, v):
        v['a'] = 1
        with pytest.raises(vaults.VaultFullError) as caught, v:
            v['b'] = 2
            limit = raw_of(v).execute('PRAGMA page_count').fetchone()[0] + 2
            raw_of(v).execute(f'PRAGMA max_page_count = {limit}')
            with pytest.raises(vaults.VaultFullError, match='full'):
                v['big'] = b'x' * 10_000_000
            with pytest.raises(vaults.VaultFullError, match='leave the block'):
                v['c'] = 3
        assert 'test.db' in str(caught.value)
        assert v.items() == [('a', 1)] and Vault('test').items() == [('a', 1)]
        v['d'] = 4
        assert Vault('test')['d'] == 4

    def test_threads_have_blocks_of_their_own(self, root):
        for safe in (False, True):
            v = Vault('t', thread_safe=safe, timeout=30)
            v['n'] = 0

            def work(v=v):
                for _ in range(50):
                    with v:
                        v['n'] = v['n'] + 1
            crowd(work, 8)
            assert v['n'] == 400
            v._check()

    @pytest.mark.parametrize('failing', [lambda v: v.popitem(), lambda v: v.update([(1, 1), (2, lambda: 0)])],
                             ids=['popitem', 'update'])
    def test_closing_inside_a_block_lets_the_next_writer_in_also_when_a_call_has_failed(self, v, failing):
        other = Vault('test', timeout=0.0)
        gc.disable()
        try:
            v.__enter__()
            with contextlib.suppress(KeyError, TypeError):
                failing(v)
            v.close()
            other['k'] = 1
        finally:
            gc.enable()

    @pytest.mark.parametrize('options', [{}, {'thread_safe': True}, {'writeback': True}, {'validate': lambda key, value: None}], ids=str)
    def test_a_vault_tells_whether_it_is_closed(self, root, options):
        v = Vault('t', **options)
        section = v.section('s')
        inner, alone = section.section('inner'), v.section('alone')
        assert (v.closed, section.closed, inner.closed) == (False, False, False)
        alone.close()
        assert alone.closed and not v.closed
        for one in (v, section):
            with pytest.raises(AttributeError):
                one.closed = True
        v.close()
        assert v.closed and section.closed and inner.closed
        with vaults.open(root / 'shelf') as shelf:
            assert shelf.closed is False
        assert shelf.closed is True and Vault(':memory:').closed is False

    def test_closing_inside_a_block_rolls_it_back(self, v):
        with pytest.raises(vaults.VaultClosedError), v:
            v['k'] = 1
            v.close()
        assert 'k' not in Vault('test')

    def test_upkeep_is_refused_inside_a_block(self, v, root):
        for act in (v.compact, v.sync, lambda: v.backup(root / 'b.db')):
            with pytest.raises(vaults.VaultError, match='inside a transaction'), v:
                act()

    def test_nothing_half_written_is_seen_by_another_process(self, root):
        v = Vault('t')
        v.update(a=0, b=0)
        code = '''
            import sys, vaults
            vaults.set_root_path(sys.argv[1])
            v = vaults.Vault('t')
            for n in range(1, 1500):
                with v:
                    v['a'] = n
                    v['b'] = n'''
        env = {**os.environ, 'PYTHONPATH': str(HERE)}
        writer = subprocess.Popen([sys.executable, '-c', textwrap.dedent(code), str(root)], env=env)
        seen = 0
        while writer.poll() is None:
            (_, a), (_, b) = v.items()
            assert a == b
            seen += 1
        assert writer.returncode == 0 and seen > 5 and v['b'] == 1499


class contextlib_stack:
    """Enter a vault `depth` times."""

    def __init__(self, v, depth):
        import contextlib
        self.stack, self.v, self.depth = contextlib.ExitStack(), v, depth

    def __enter__(self):
        try:
            for _ in range(self.depth):
                self.stack.enter_context(self.v)
        except BaseException:
            self.stack.__exit__(*sys.exc_info())
            raise

    def __exit__(self, *error):
        return self.stack.__exit__(*error)


class TestTwoVaultsOfOneFile:
    """In one thread they cannot wait for each other."""

    HOLD = {'plain': {}, 'thread_safe': {'thread_safe': True}, 'writeback': {'writeback': True}}

    @pytest.mark.parametrize('act', [lambda v: v.put('k', 2), lambda v: v.update(k=2), lambda v: v.pop('k'), lambda v: v.clear(),
                                     lambda v: v.transaction().__enter__(), lambda v: v.edit('k').__enter__(),
                                     lambda v: v.list('list'), lambda v: v.section('s').put('k', 1), lambda v: v.compact(),
                                     lambda v: v.put_file('k', io.BytesIO(b'x'))],
                             ids=['put', 'update', 'pop', 'clear', 'block', 'edit', 'list', 'section', 'compact', 'put_file'])
    @pytest.mark.parametrize('other', HOLD)
    @pytest.mark.parametrize('holder', HOLD)
    def test_the_second_says_at_once_that_this_thread_holds_the_first(self, root, monkeypatch, holder, other, act):
        first, second = Vault('t', **self.HOLD[holder]), Vault('t', **self.HOLD[other])
        first['k'] = 1
        first.sync()
        monkeypatch.setattr(waiting, 'sleep', lambda seconds: pytest.fail('it waited'))
        with first:
            first['mine'] = 1
            with pytest.raises(vaults.VaultBusyError, match='this thread.*another Vault of the same file') as caught:
                act(second)
                second.sync()
            assert 'another thread' not in str(caught.value)
            assert second.get('k') == 1 or other == 'writeback'
        assert first.items() == [('k', 1), ('mine', 1)]
        getattr(second._store, 'forget', int)()
        second['k'] = 3
        second.sync()
        assert Vault('t')['k'] == 3

    def test_a_block_of_another_task_of_the_thread_is_the_same_dead_end(self, root, monkeypatch):
        first, second = Vault('t'), Vault('t')
        monkeypatch.setattr(waiting, 'sleep', lambda seconds: pytest.fail('it waited'))

        async def hold():
            with first:
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                first['k'] = 1

        async def main():
            holding = asyncio.ensure_future(hold())
            await asyncio.sleep(0)
            with pytest.raises(vaults.VaultBusyError, match="this thread.*'Task-.*'"):
                second['k'] = 2
            await holding
        asyncio.run(main())
        assert second['k'] == 1

    def test_another_threads_block_is_waited_for_as_ever(self, root):
        first, second = Vault('t', timeout=0.05), Vault('t', timeout=0.05)
        with block_elsewhere(first, 'k'), pytest.raises(vaults.VaultBusyError, match='another thread or process'):
            second['k'] = 2
        second['k'] = 3
        with Vault('t', flag='r'):
            second['k'] = 4
        assert first['k'] == 4


class TestThreads:
    @pytest.mark.parametrize('options', [{}, {'thread_safe': True}, {'memory': True}], ids=str)
    def test_sixteen_threads_never_read_a_wrong_value(self, root, options):
        v = Vault(':memory:') if options.pop('memory', False) else Vault('t', timeout=60, **options)
        v.update({n: [n, 'start'] for n in range(200)})

        def work(me):
            for turn in range(500):
                key = (me * 37 + turn * 11) % 200
                if turn % 4 == 0:
                    v[key] = [key, me]
                else:
                    found = v[key]
                    assert found[0] == key, (found, key)
        crowd(work, 16, *[(n,) for n in range(16)])
        assert len(v) == 200
        v._check()

    def test_in_memory_a_failed_update_is_undone_while_another_thread_is_in_a_block(self):
        v = Vault(':memory:')
        with block_elsewhere(v, 'block') as leave:
            threading.Timer(0.2, leave.set).start()
            with pytest.raises(ValueError):
                v.update([('a', 1), 'bad pair'])
        assert v.items() == [('block', 1)] and not is_in_transaction(v)

    @pytest.mark.parametrize('is_memory', [False, True])
    @pytest.mark.parametrize('act', ['a put', 'a block', 'a read', 'a delete'])
    def test_a_signal_handler_leaves_the_lock_as_it_was_wherever_it_comes(self, root, act, is_memory):
        v = Vault(':memory:') if is_memory else Vault('signalled', thread_safe=True)
        v['gone'] = v['there'] = 0

        def block():
            with v:
                v['a'] = v['b'] = 1
        acts = {'a put': lambda: v.__setitem__('a', 1), 'a block': block, 'a read': lambda: v['there'], 'a delete': lambda: v.__delitem__('gone')}

        def handler():
            with v:
                v['handled'] = at
        for at in itertools.count(1):
            v['gone'] = 0
            with signalled(at, handler, os.path.join('stores', 'sqlite', 'locking.py'), 'opcode') as left:
                acts[act]()
            assert not v._store.lock.is_mine(), at
            if left[0] > 0:
                break
            assert v['handled'] == at and ('gone' not in v or act != 'a delete') and (not act.endswith(('put', 'block')) or v.pop('a') == 1), at
        assert at > 5 or (act == 'a read' and not is_memory)
        in_thread(lambda: v.__setitem__('another', 1))
        assert v['another'] == 1

    def test_popitem_of_nothing_undoes_nothing_that_a_signal_handler_puts(self, v):
        for at in itertools.count(1):
            with signalled(at, functools.partial(v.put, 'handler', at)) as left:
                try:
                    taken = v.popitem()
                except KeyError:
                    taken = None
            if left[0] > 0:
                break
            assert (taken or v.popitem()) == ('handler', at)
        assert taken is None and at > 20

    def test_an_error_is_the_same_where_a_signal_handler_has_given_the_lock_back(self):
        def fail(_):
            try:
                raise KeyError('why')
            except KeyError as error:
                raise ZeroDivisionError from error

        def handler():
            while queue.lock.is_mine():
                queue.lock.release()
        queue, failing = types.SimpleNamespace(lock=Lock()), locking.locked(fail)
        for at in itertools.count(1):
            with pytest.raises(ZeroDivisionError) as caught, signalled(at, handler, os.path.join('stores', 'sqlite', 'locking.py'), 'opcode') as left:
                failing(queue)
            assert repr(caught.value.__cause__) == "KeyError('why')" and not queue.lock.is_mine(), at
            if left[0] > 0:
                break
        assert at > 20

    def test_with_thread_safe_no_writer_times_out(self, root):
        v = Vault('t', thread_safe=True, timeout=0.05)

        def work(me):
            for turn in range(10):
                with v:
                    v[me, turn] = 1
                    time.sleep(0.005)
        crowd(work, 8, *[(n,) for n in range(8)])
        assert len(v) == 80

    def test_connections_of_dead_threads_are_closed(self, root):
        v = Vault('t')
        v['k'] = 1
        counts = []
        for _ in range(30):
            met = threading.Barrier(4)  # all four have a connection at once, on a busy machine too
            crowd(lambda met=met: (v['k'], met.wait()), 4)
            gc.collect()
            counts.append(open_files())
        assert max(counts[10:]) <= max(counts[:10]) + 4  # SQLite keeps a few to use again: as many as threads at once

    def test_closing_while_others_read_is_safe(self, root):
        for _ in range(10):
            v = Vault('t')
            v.update(dict.fromkeys(range(300), 'x'))
            stop = threading.Event()

            def work(v=v, stop=stop):
                try:
                    while not stop.is_set():
                        list(v.items())
                        v[1] = 'x'
                except vaults.VaultClosedError:
                    return
            threads = [threading.Thread(target=work) for _ in range(3)]
            for thread in threads:
                thread.start()
            time.sleep(0.01)
            v.close()
            stop.set()
            for thread in threads:
                thread.join()
        gc.collect()
        assert os.listdir(root / 'vaults') == ['t.db']

    def test_closing_while_others_get_is_safe(self, root):
        code = '''
            import sys, threading, vaults
            vaults.set_root_path(sys.argv[1])
            def work(v):
                try:
                    while True:
                        v['k'], 'k' in v, len(v)
                except vaults.VaultClosedError:
                    pass
            for turn in range(150):
                v = vaults.Vault(':memory:' if turn % 3 == 0 else 't')
                v['k'] = 'x'
                threads = [threading.Thread(target=work, args=(v,)) for _ in range(4)]
                for thread in threads:
                    thread.start()
                v.close()
                for thread in threads:
                    thread.join()'''
        output(code, root)

    def test_closing_while_a_block_is_open_lets_the_others_in(self, root):
        v = Vault('t', thread_safe=True)
        inside, closed, found = threading.Event(), threading.Event(), []

        def block():
            with pytest.raises(vaults.VaultClosedError), v:
                inside.set()
                closed.wait(10)
            found.append('block')

        def writer():
            with pytest.raises(vaults.VaultClosedError):
                v['k'] = 1
            found.append('writer')
        threads = [threading.Thread(target=block, daemon=True), threading.Thread(target=writer, daemon=True)]
        threads[0].start()
        inside.wait(10)
        threads[1].start()
        time.sleep(0.05)
        v.close()
        closed.set()
        for thread in threads:
            thread.join(10)
        assert sorted(found) == ['block', 'writer']
