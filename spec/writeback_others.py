"""Write-back among others: other programs, the end of a process, forks, threads."""
from __future__ import annotations

import gc
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

import vaults
from vaults import Vault

from .helpers import HERE, block_elsewhere, crowd, in_child, in_thread, needs_fork, run

# A program in the background of a shell begins with the signal ignored.
INTERRUPTED = 'signal.signal(signal.SIGINT, signal.default_int_handler); os.kill(os.getpid(), signal.SIGINT); time.sleep(9)'


class WriteBackAmongOthers:
    """Of `TestWriteBack`, which derives from it: other programs, the end of a process, forks, threads."""

    @pytest.fixture
    def w(self, root):
        vault = Vault('test', writeback=True)
        yield vault
        if 'closed' not in repr(vault):
            vault._check()
            vault.close()

    def test_what_others_wrote_shows_at_the_next_sync_or_block(self, w):
        other = Vault('test')
        w.update(a=[1], b=[1], gone=[1])
        other['a'] = ['theirs']
        del other['gone']
        assert w['a'] == [1] and 'gone' in w  # until then
        w.sync()
        assert w['a'] == ['theirs'] and 'gone' not in w
        other['b'] = 'theirs'
        assert w['b'] == [1]
        with w:
            assert w['b'] == 'theirs'
            w['b'] = w['b'] + '!'
        assert other['b'] == 'theirs!'

    def test_an_entry_that_both_changed_is_as_the_last_to_sync_wrote_it_and_no_other_is_touched(self, w):
        other = Vault('test')
        w.update(a=[1], b=[1], c=[1], d=1, e=[1])
        w['a'].append('ours')
        w['d'] = 1
        w['e'].append('ours')
        other.update(a=['theirs'], b=['theirs'], d=2)
        del other['e']
        w.sync()
        assert other.items() == [('a', [1, 'ours']), ('b', ['theirs']), ('c', [1]), ('d', 1), ('e', [1, 'ours'])]
        assert w['b'] == ['theirs'] and w == other

    def test_what_is_changed_here_outlives_that_others_changed_it_until_it_is_written(self, w):
        other, nothing = Vault('test'), lambda: 0
        w.update(a=[1], b=1, bad=[1], worse=1)
        w['a'].append('ours')
        w['bad'].append(nothing)
        other.update(a='theirs', bad='theirs')
        assert w.pop('b') == 1 and w['a'] == [1, 'ours']  # it looks at what others have written
        w['worse'] = nothing
        other['worse'] = 'theirs'
        with pytest.raises(vaults.SerializationError):
            w.sync()
        assert other['a'] == [1, 'ours'] and w['bad'] == [1, nothing] and w['worse'] is nothing
        w['bad'].pop()
        w['worse'] = 2
        w.sync()
        assert other.items() == [('a', [1, 'ours']), ('bad', 'theirs'), ('worse', 2)] == w.items()

    def test_an_object_that_nobody_else_changed_stays_the_same_object(self, w):
        other = Vault('test')
        w.update(a=[1], b=[1])
        held = w['a']
        other['b'] = 2
        w.sync()
        held.append(2)
        w.sync()
        assert w['a'] is held and other.items() == [('a', [1, 2]), ('b', 2)]

    def test_counting_in_blocks_loses_nothing_between_processes(self, root):
        Vault('test')['n'] = 0
        code = '''
            import sys, vaults
            vaults.set_root_path(sys.argv[1])
            v = vaults.Vault('test', writeback=True, timeout=60)
            for _ in range(100):
                with v:
                    v['n'] = v['n'] + 1'''
        env = {**os.environ, 'PYTHONPATH': str(HERE)}
        crowd_of = [subprocess.Popen([sys.executable, '-c', textwrap.dedent(code), str(root)], env=env)
                    for _ in range(3)]
        assert [one.wait() for one in crowd_of] == [0, 0, 0]
        assert Vault('test')['n'] == 300

    def test_a_job_is_popped_by_one_process_alone(self, w):
        other = Vault('test', writeback=True)
        w.update({n: [n] for n in range(4)})
        assert w[0] == [0] == other[0] and other.pop(0) == [0]
        with pytest.raises(KeyError):
            w.pop(0)
        assert w.popitem() == (3, [3]) and other.popitem() == (2, [2]) and w.popitem() == (1, [1])
        assert w.setdefault('k', 'new') == 'new' == other.setdefault('k', 'newer')
        other.close()

    def test_a_dropped_vault_writes_what_has_changed(self, root):
        w = Vault('test', writeback=True)
        w['log'] = [1]
        w['log'].append(2)
        del w
        gc.collect()
        assert Vault('test')['log'] == [1, 2]

    @pytest.mark.parametrize('end', ['', 'sys.exit(3)', 'raise ValueError', INTERRUPTED])
    def test_at_exit_what_has_changed_is_written(self, root, end):
        done = run(f'''
            import os, signal, sys, time, vaults
            vaults.set_root_path(sys.argv[1])
            v = vaults.Vault('test', writeback=True)
            v['log'] = []
            v['log'].append(1)
            {end}''', root)
        assert (done.returncode == 0) == (not end)
        assert Vault('test')['log'] == [1]

    def test_a_signal_handler_may_put_while_a_call_looks_at_what_was_put(self, root):
        v = Vault('test', writeback=True)
        v.update((n, n) for n in range(2000))
        stop, main = threading.Event(), threading.main_thread().ident

        def interrupt():
            while not stop.wait(0.0005):
                signal.pthread_kill(main, signal.SIGALRM)
        before, taken = signal.signal(signal.SIGALRM, lambda *_: v.put(len(numbers), 0)), 0
        numbers, sender = [], threading.Thread(target=interrupt)
        sender.start()
        try:
            for n in range(150):
                numbers.append(n)
                v.update({'a': n}, b=n)
                taken += v.pop('b') == n
        finally:
            stop.set()
            sender.join()
            signal.signal(signal.SIGALRM, before)
        assert taken == 150 and v['a'] == 149

    def test_a_vault_that_the_collector_drops_while_it_is_written_at_the_end_is_ended_once(self, root):
        class Collecting(list):
            def __reduce__(self):
                gc.collect()
                return list, ([1],)

        v = Vault('test', writeback=True)
        v['k'], v['l'] = Collecting(), [2]
        cycle, store = [v], v._store
        cycle.append(cycle)
        del v, cycle
        store.end()
        assert dict(Vault('test').items()) == {'k': [1], 'l': [2]}

    @pytest.mark.parametrize('method', multiprocessing.get_all_start_methods())
    def test_at_the_end_of_a_process_of_multiprocessing_what_has_changed_is_written(self, root, method):
        (root / 'work.py').write_text(textwrap.dedent('''
            import multiprocessing, sys, vaults
            kept = inherited = None
            def work(case, folder):
                global kept
                vaults.set_root_path(folder)
                if case == 'inherited':
                    v = inherited
                elif case == 'global':
                    v = kept = vaults.Vault('test', writeback=True)
                else:
                    v = vaults.Vault('test', writeback=True)
                    cycle = [v]
                    cycle.append(cycle)
                v[case] = [1]
                v[case].append(2)
            if __name__ == '__main__':
                method, folder = sys.argv[1:]
                vaults.set_root_path(folder)
                if method == 'fork':
                    inherited = vaults.Vault('test', writeback=True)
                context = multiprocessing.get_context(method)
                for case in ['global', 'cycle'] + ['inherited'] * (method == 'fork'):
                    one = context.Process(target=work, args=(case, folder))
                    one.start()
                    one.join()
                    assert one.exitcode == 0'''))
        done = subprocess.run([sys.executable, root / 'work.py', method, str(root)], env={**os.environ, 'PYTHONPATH': str(HERE)},
                              capture_output=True, text=True)
        assert done.returncode == 0 and not done.stderr, done.stderr
        assert dict(Vault('test').items()) == {case: [1, 2] for case in
                                               ['global', 'cycle'] + ['inherited'] * (method == 'fork')}

    def test_at_exit_a_value_that_cannot_be_written_is_named(self, root):
        done = run('''
            import sys, vaults
            vaults.set_root_path(sys.argv[1])
            v = vaults.Vault('test', writeback=True)
            v['bad'] = lambda: 0
            v['good'] = [1]''', root)
        assert re.search("key 'bad'.*was lost with the vault", done.stderr) and Vault('test').items() == [('good', [1])]

    @needs_fork
    def test_a_fork_does_not_write_what_its_parent_has_changed(self, w):
        w.update(a=[1], b=[1])
        w['a'].append('parent')
        w['new'] = 'parent'

        def in_fork():
            before = w['a'], w.get('new')
            w['b'].append('child')
            w.close()
            return before
        assert in_child(in_fork).answer() == ([1], None)
        assert Vault('test').items() == [('a', [1]), ('b', [1, 'child'])]
        w.sync()
        assert w.items() == [('a', [1, 'parent']), ('b', [1, 'child']), ('new', 'parent')]

    @needs_fork
    def test_a_block_of_the_parent_is_not_the_forks_to_write(self, w):
        w.update(a=[1])

        def in_fork():
            w.__exit__(None, None, None)
            return w['a'], in_thread(lambda: len(w)), w._store.hot is w._store.cache.live
        with w:
            w['a'].append('parent')
            assert in_child(in_fork).answer() == ([1], 1, True)
        assert Vault('test').items() == [('a', [1, 'parent'])]

    def test_threads_share_the_live_objects(self, w):
        w['log'] = []
        lock = threading.Lock()

        def work(me):
            for turn in range(200):
                with lock:
                    w['log'].append((me, turn))
                w[me] = turn
                if turn % 50 == 0:
                    w.sync()
        crowd(work, 8, *[(n,) for n in range(8)])
        w.sync()
        stored = Vault('test')
        assert sorted(stored['log']) == [(me, turn) for me in range(8) for turn in range(200)]
        assert all(stored[n] == 199 for n in range(8))

    def test_a_block_keeps_the_other_threads_waiting_and_undoes_nothing_of_theirs(self, w):
        w.update(a=[1], b=1)
        seen, inside = [], threading.Event()

        def other():
            inside.wait(10)
            seen.append(w['b'])
            w['theirs'] = 1
            w['a'].append('theirs')
        thread = threading.Thread(target=other)
        thread.start()
        with pytest.raises(ValueError), w:
            w['a'].append('undone')
            w['b'] = 'undone'
            inside.set()
            time.sleep(0.05)
            assert 'theirs' not in w
            raise ValueError
        thread.join()
        assert w.items() == [('a', [1, 'theirs']), ('b', 1), ('theirs', 1)] and seen == [1]

    def test_a_block_waits_for_another_threads_as_long_as_the_timeout_says(self, root):
        w = Vault('test', writeback=True, timeout=0.05)
        with block_elsewhere(w, 'block'), pytest.raises(vaults.VaultBusyError, match='block open'), w:
            pass
        with w:
            w['a'] = 1

    def test_closing_while_another_thread_has_a_block_open_waits_and_says_so(self, root):
        w = Vault('test', writeback=True, timeout=0.05)
        with block_elsewhere(w, 'a'), pytest.raises(vaults.VaultBusyError, match='block open'):
            w.close()
        w.close()
        assert Vault('test').items() == [('a', 1)]
