"""Many processes on one file, and what a fork may do."""
from __future__ import annotations

import contextlib
import multiprocessing
import os
import pathlib
import pickle
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
import weakref

import pytest

import vaults
from vaults import Vault
from vaults.stores.sqlite import schema

from .helpers import HERE, block_elsewhere, in_child, needs_fork, output, run
from .internals import depth_of


class TestProcesses:
    def test_a_vault_opens_while_a_checkpoint_extends_its_file(self, root):
        v = Vault('t')
        v['seed'] = 1
        w = sqlite3.connect(v.db_path)
        w.execute('PRAGMA wal_checkpoint(TRUNCATE)').fetchone()
        v.update(dict.fromkeys(range(3000), 'x' * 300))
        shutil.copy(v.db_path + '-wal', root / 'copy.db-wal')
        w.execute('PRAGMA wal_checkpoint(PASSIVE)').fetchone()
        w.close()
        (root / 'copy.db').write_bytes(pathlib.Path(v.db_path).read_bytes()[:4096 * 3])  # as a kill half-way leaves it
        copy = Vault(root / 'copy.db')
        assert len(copy) == 3001
        copy._check()

    def test_a_vault_whose_maker_was_killed_in_the_commit_is_made_anew(self, root):
        maker = sqlite3.connect(str(root / 'half.db'), isolation_level=None)
        for statement in (schema.PAGE_SIZE, schema.BEGIN, f'PRAGMA application_id = {schema.APPLICATION_ID}',
                          f'PRAGMA user_version = {schema.FORMAT}', schema.CREATE, schema.CREATE_MARKER):
            maker.execute(statement)
        journal = (root / 'half.db-journal').read_bytes()
        maker.execute(schema.COMMIT)
        maker.close()
        (root / 'half.db-journal').write_bytes(bytes.fromhex('d9d505f920a163d7') + journal[8:])  # as fsync leaves it
        v = Vault(root / 'half.db')
        v['a'] = 1
        assert v == {'a': 1}
        v._check()

    COPIES = {
        'copy': lambda v: v.copy(),
        'items': lambda v: dict(v.items()),
        'items of a slice': lambda v: dict(v[:].items()),
        'section': lambda v: v.section('s').copy(),
        'or': lambda v: v.__or__({}),
        'the right of or': lambda v: v.__ror__({}),
        'or of two': lambda v: Vault(':memory:').__or__(v),
        'or of two, reversed': lambda v: Vault(':memory:').__ror__(v),
        'update': lambda v: Vault(':memory:').update(v),
        'update with names': lambda v: Vault(':memory:').update(v, more=1),
        'update with a slice and names': lambda v: Vault(':memory:').update(v[:], more=1),
        'put_many': lambda v: Vault(':memory:').put_many(v.section('s')),
        'equality of a slice': lambda v: v[:] == {('s', n): None for n in range(3_000)},
        'equality with a vault': lambda v: dict.fromkeys(range(3_000)) == v,
    }

    @pytest.mark.parametrize('way', COPIES)
    def test_a_copy_does_not_race_with_a_process_that_deletes(self, meddled, way):
        v = meddled()
        self.COPIES[way](v)
        assert len(v) == 0

    @pytest.mark.parametrize('way', ['copy', 'items', 'section'])
    @pytest.mark.parametrize('options', [{'writeback': True}, {'validate': print}, {'thread_safe': True}], ids=str)
    def test_a_copy_does_not_race_whatever_the_mode(self, meddled, way, options):
        self.COPIES[way](meddled(**options))

    def test_a_dict_of_a_vault_looks_each_key_up_after_the_walk_and_meets_what_was_deleted(self, meddled):
        for copied in (dict, lambda v: {**v}, lambda v: dict(v[:]), lambda v: dict(v.section('s'))):
            with pytest.raises(KeyError):
                copied(meddled())

    @pytest.fixture
    def meddled(self, root, forget):
        """Return a function that opens a vault; when its first value is loaded, another process deletes all there is."""
        class Value:
            """What may not be known to the other process, which reads no value."""

        def load(fields):
            output(f'import vaults; vaults.set_root_path({str(root)!r}); vaults.Vault("meddled").clear()')
            return fields
        vaults.register(Value, lambda value: 1, load, name='Value')

        def opened(**options):
            with contextlib.closing(Vault('meddled')) as v:
                v['s', 0] = Value()
                v.update((('s', n), 'x' * 100) for n in range(1, 3_000))
            return Vault('meddled', **options)
        return opened

    def test_two_processes_count_to_four_thousand(self, root):
        code = '''
            import sys, vaults
            vaults.set_root_path(sys.argv[1])
            v = vaults.Vault('c', timeout=60)
            for _ in range(2000):
                with v:
                    v['n'] = v.get('n', 0) + 1'''
        env = {**os.environ, 'PYTHONPATH': str(HERE)}
        both = [subprocess.Popen([sys.executable, '-c', textwrap.dedent(code), str(root)], env=env) for _ in range(2)]
        assert [process.wait(90) for process in both] == [0, 0]
        assert Vault('c')['n'] == 4000

    def test_twenty_processes_create_one_vault_at_once(self, root):
        code = '''
            import sys, vaults
            vaults.set_root_path(sys.argv[1])
            print('ready', flush=True)
            sys.stdin.read()
            v = vaults.Vault('c', timeout=30)
            v[int(sys.argv[2])] = 'here'
            print(len(v.check()))'''
        env = {**os.environ, 'PYTHONPATH': str(HERE)}
        waiting, gate = os.pipe()   # all of them wait for the end of one pipe
        crowd_ = [subprocess.Popen([sys.executable, '-c', textwrap.dedent(code), str(root), str(n)], env=env, stdin=waiting,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE) for n in range(20)]
        assert [process.stdout.readline() for process in crowd_] == [b'ready\n'] * 20
        os.close(gate)
        os.close(waiting)
        answers = [process.communicate(timeout=90) for process in crowd_]
        assert [out for out, _ in answers] == [b'0\n'] * 20, answers
        assert sorted(Vault('c')) == list(range(20))

    @contextlib.contextmanager
    def held_by_another_thread(self, v):
        """Hold a block of the vault in a thread of its own: this one would not wait for itself."""
        held, tried = threading.Event(), threading.Event()

        def hold():
            with v:
                v['k'] = 2
                held.set()
                tried.wait(60)
        thread = threading.Thread(target=hold)
        thread.start()
        try:
            assert held.wait(60)
            yield
        finally:
            tried.set()
            thread.join()

    def test_a_writer_waits_and_then_says_so(self, root):
        v, other = Vault('t', timeout=0.1), Vault('t', timeout=0.1)
        v['k'] = 1
        with self.held_by_another_thread(v):
            for act in (lambda: other.put('k', 3), other.__enter__, lambda: other.pop('k'), lambda: other.update(k=4)):
                began = time.monotonic()
                with pytest.raises(vaults.VaultBusyError, match=r'0\.1 s.*larger timeout') as caught:
                    act()
                assert 0.08 < time.monotonic() - began < 3 and isinstance(caught.value, TimeoutError)
            assert other['k'] == 1
        other['k'] = 5
        assert v['k'] == 5

    def test_a_writer_waits_while_other_threads_open_vaults(self, root, monkeypatch):
        v, other, iterate, changes = Vault('t'), Vault('t', timeout=0.1), weakref.WeakSet.__iter__, [True] * 3

        def changing(stores):
            if changes:
                changes.pop()
                raise RuntimeError('Set changed size during iteration')  # as it is where a thread opens one meanwhile
            return iterate(stores)
        with self.held_by_another_thread(v):
            monkeypatch.setattr(weakref.WeakSet, '__iter__', changing)
            with pytest.raises(vaults.VaultBusyError):
                other['k'] = 3
            assert not changes

    def test_an_interrupt_is_heard_while_a_writer_waits(self, root, hears_ctrl_c):
        v, other = Vault('t'), Vault('t', timeout=30)
        v['k'] = 1
        for act in (lambda: other.put('k', 3), other.__enter__, other.compact):
            with self.held_by_another_thread(v):
                began, timer = time.monotonic(), threading.Timer(0.1, signal.raise_signal, (signal.SIGINT,))
                timer.start()
                with pytest.raises(KeyboardInterrupt):
                    act()
                timer.join()
                assert time.monotonic() - began < 10
            other['k'] = 4
            assert v['k'] == 4

    @pytest.mark.skipif(sys.platform != 'linux', reason='takes the locks of SQLite on Linux')
    def test_a_reader_waits_while_another_process_recovers_the_log(self, v):
        v['k'], numbers = 1, v.list('l')
        numbers.extend(range(20_000))
        code = """
            import fcntl, sys, time
            with open(sys.argv[1], 'r+b') as shm:
                fcntl.lockf(shm, fcntl.LOCK_EX, 3, 120)  # those to write, to checkpoint and to recover
                shm.write(bytes(96))                     # a header that nobody can believe
                shm.flush()
                print(flush=True)
                time.sleep(0.2)"""
        for read in (lambda: v['k'], lambda: 'k' in v, lambda: len(v), lambda: next(iter(v)), lambda: numbers[1]):
            with subprocess.Popen([sys.executable, '-c', textwrap.dedent(code), v.db_path + '-shm'],
                                  stdout=subprocess.PIPE) as recovering:
                recovering.stdout.readline()
                assert read() in (1, True, 2, 'l')
                assert recovering.wait() == 0

    def test_a_vault_can_be_pickled_and_reopens_by_its_path(self, v):
        v['k'] = 1
        again = pickle.loads(pickle.dumps(v))
        assert (again['k'], again.name, again.db_path) == (1, 'test', v.db_path)
        reader = pickle.loads(pickle.dumps(Vault('test', flag='r')))
        with pytest.raises(vaults.VaultReadOnlyError):
            reader['k'] = 2
        emptied = Vault('fresh', flag='n', thread_safe=True)
        emptied['k'] = 1
        assert pickle.loads(pickle.dumps(emptied))['k'] == 1
        with pytest.raises(TypeError, match='memory'):
            pickle.dumps(Vault(':memory:'))

    @pytest.mark.parametrize('method', multiprocessing.get_all_start_methods())
    @pytest.mark.filterwarnings('ignore::DeprecationWarning')  # of fork, in a process with threads
    def test_multiprocessing_takes_a_vault_as_argument(self, v, method):
        context = multiprocessing.get_context(method)
        processes = [context.Process(target=count_up, args=(v, n)) for n in range(3)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(60)
        assert [process.exitcode for process in processes] == [0, 0, 0]
        assert v['n'] == 60 and sorted(key for key in v if key != 'n') == [0, 1, 2]


def count_up(v, me):
    for _ in range(20):
        with v:
            v['n'] = v.get('n', 0) + 1
    v[me] = 'done'


@needs_fork
@pytest.mark.filterwarnings('ignore::DeprecationWarning')  # of fork, in a process with threads
class TestForks:
    def test_parent_and_child_go_on(self, v):
        v['a'] = 1

        def child():
            v['child'] = 2
            return v.items()[:]
        forked = in_child(child)
        v['parent'] = 3
        assert forked.answer()[:1] == [('a', 1)]
        assert v == {'a': 1, 'child': 2, 'parent': 3}

    @pytest.mark.parametrize('safe', [False, True])
    def test_a_transaction_open_in_the_parent_is_not_the_childs(self, root, safe):
        v = Vault('t', thread_safe=safe)
        v['a'] = 0
        reader, writer = os.pipe()
        with v:
            v['a'] = 1

            def child():
                seen = v['a']
                os.write(writer, b'.')
                v.__exit__(None, None, None)  # the end of the parent's block, as the child comes to it
                with v:
                    v['child'] = v['a']
                return seen, depth_of(v)
            forked = in_child(child)
            os.read(reader, 1)
            v['b'] = 2
        assert forked.answer() == (0, 0)
        os.close(reader)
        os.close(writer)
        assert v == {'a': 1, 'b': 2, 'child': 1}
        v._check()

    def test_the_child_of_a_block_that_fails_in_both(self, v):
        with pytest.raises(ZeroDivisionError), v:
            v['a'] = 1
            forked = in_child(lambda: (v.__exit__(ValueError, None, None), v.put('c', 1), 'a' in v))
            time.sleep(0.1)
            1 / 0
        assert forked.answer()[2] is False
        assert v.items() == [('c', 1)]

    def test_a_large_transaction_is_safe_from_its_child(self, v):
        with v:
            v.update((n, 'x' * 5000) for n in range(6000))
            forked = in_child(lambda: (len(v), 5 in v))
            assert forked.answer() == (0, False)
            assert all(len(value) == 5000 for value in v.values())
        assert len(v) == 6000

    def test_a_child_that_outlives_the_parent_loses_nothing(self, root):
        code = '''
            import os, sys, time, vaults
            vaults.set_root_path(sys.argv[1])
            v = vaults.Vault('t')
            v['a'] = 1
            if os.fork():
                os._exit(0)
            time.sleep(0.3)
            for n in range(200):
                v[n] = n
            vaults.Vault('t')['other'] = 1
            time.sleep(0.5)
            v['last'] = 1
            os.kill(os.getpid(), 9)'''
        run(code, root)
        v = Vault('t')
        deadline = time.monotonic() + 20
        while 'last' not in v and time.monotonic() < deadline:
            Vault('t').close()
            run("import sys, vaults; vaults.set_root_path(sys.argv[1]); len(vaults.Vault('t'))", root)
        assert set(range(200)) | {'a', 'other', 'last'} == set(v)

    def test_memory_is_copied(self):
        v = Vault(':memory:')
        v['a'] = 1
        with v:
            v['b'] = 2
            assert in_child(lambda: (v.put('c', 3), v.copy())[1]).answer() == {'a': 1, 'c': 3}
        assert v == {'a': 1, 'b': 2}

    def test_a_fork_waits_for_the_blocks_of_other_threads(self, root):
        v = Vault('t', thread_safe=True)
        with block_elsewhere(v, 'other') as leave:
            threading.Timer(0.2, leave.set).start()
            assert in_child(lambda: (v['other'], v.put('child', 2))[0]).answer() == 1
        assert v == {'other': 1, 'child': 2}

    def test_open_walks_go_on_in_both(self, v):
        v.update(dict.fromkeys(range(500)))
        walk = iter(v)
        next(walk)
        assert in_child(lambda: len(list(walk))).answer() == 499
        assert len(list(walk)) == 499


# As protocol 0 has them, with PATH for the vault's path: made by the first version whose pickles must be readable.
OLD_PICKLES = {
    'vault': b'cvaults.vault\n_reopen\np0\n(cvaults.vault\nVault\np1\nVPATH\np2\nVv\np3\nNI00\nVw\np4\nF7.0\nVNORMAL\np5\nNI00\nI1000\nNtp6\nRp7\n.',
    'section': b'cvaults.sections\nSection\np0\n(g0\n(cvaults.vault\n_reopen\np1\n(cvaults.vault\nVault\np2\nVPATH\np3\nVv\np4\nNI00\nVw\np5\nF7.0\n'
               b'VNORMAL\np6\nNI00\nI1000\nNtp7\nRp8\nVs\np9\nc__builtin__\nlong\np10\nNtp11\nRp12\nVt\np13\nNNtp14\nRp15\n.',
    'list': b'cvaults.sequences\nList\np0\n(cvaults.vault\n_reopen\np1\n(cvaults.vault\nVault\np2\nVPATH\np3\nVv\np4\nNI00\nVw\np5\nF7.0\nVNORMAL\n'
            b'p6\nNI00\nI1000\nNtp7\nRp8\nVl\np9\ntp10\nRp11\n.',
    'column': b'cvaults.columns\nColumn\np0\n(cvaults.vault\n_reopen\np1\n(cvaults.vault\nVault\np2\nVPATH\np3\nVv\np4\nNI00\nVw\np5\nF7.0\n'
              b'VNORMAL\np6\nNI00\nI1000\nNtp7\nRp8\nVc\np9\nVint8\np10\ntp11\nRp12\n.',
    'list of a section': b'cvaults.sequences\nList\np0\n(cvaults.sections\nSection\np1\n(cvaults.vault\n_reopen\np2\n(cvaults.vault\nVault\np3\nVPATH\n'
                         b'p4\nVv\np5\nNI00\nVw\np6\nF7.0\nVNORMAL\np7\nNI00\nI1000\nNtp8\nRp9\nVs\np10\nNNtp11\nRp12\nVl\np13\ntp14\nRp15\n.',
    'slice': b'ccopy_reg\n_reconstructor\np0\n(cvaults.views\nSortedSlice\np1\nc__builtin__\nobject\np2\nNtp3\nRp4\n(N(dp5\nV_bounds\np6\n(Va\np7\nVc\n'
             b'p8\ntp9\nsV_vault\np10\ncvaults.vault\n_reopen\np11\n(cvaults.vault\nVault\np12\nVPATH\np13\nVv\np14\nNI00\nVw\np15\nF7.0\nVNORMAL\np16\n'
             b'NI00\nI1000\nNtp17\nRp18\nstp19\nb.',
    'write-back': b'cvaults.vault\n_reopen\np0\n(cvaults.vault\nVault\np1\nVPATH\np2\nVv\np3\nNI00\nVw\np4\nF5.0\nVNORMAL\np5\nNI01\nI1000\nNtp6\nRp7\n.',
    'shelf': b'cvaults.vault\n_reopen\np0\n(cvaults.shelf\nShelf\np1\nVPATH\np2\nVv\np3\nNI00\nVw\np4\nF5.0\nVNORMAL\np5\nNI00\nI1000\nNtp6\nRp7\n.',
}


class TestPickles:
    @pytest.fixture
    def loaded(self, root):
        # Return a function that loads one of them, in a vault that has something of each kind.
        v = Vault('v')
        v.update(a=1, b=2)
        v['s', 't', 'k'] = 3
        v.list('l').append(4)
        v.section('s').list('l').append(5)
        v.column('c', 'int8').append(6)
        return lambda name: pickle.loads(OLD_PICKLES[name].replace(b'PATH', v.db_path.encode('raw_unicode_escape')))

    def test_what_they_hold_is_the_vault_that_it_was(self, loaded):
        assert type(loaded('vault')) is Vault and loaded('vault')['a'] == 1 and loaded('vault').name == 'v'
        section = loaded('section')
        assert type(section) is vaults.Section and section == {'k': 3} and section.path == ('s', 't')
        with pytest.raises(TypeError, match="'s'.*int"):
            section['x'] = 'text'
        assert loaded('slice') == {'a': 1, 'b': 2}
        with loaded('shelf') as shelf:
            assert type(shelf) is vaults.Shelf and shelf['b'] == 2
        with contextlib.closing(loaded('write-back')) as live:
            live['m'] = [1]
            live['m'].append(2)
        assert loaded('vault')['m'] == [1, 2]

    def test_what_is_pickled_together_is_of_one_vault_again(self, root):
        v = Vault('together', writeback=True)
        section, live = v.section('s'), v.list('l')
        section['k'] = [1]
        again, inside, items = pickle.loads(pickle.dumps((v, section, live)))
        inside['k'].append(2)
        assert again['s', 'k'] is inside['k'] and again['s', 'k'] == [1, 2]
        again.close()
        assert inside.closed and not v.closed
        for use in (lambda: inside['k'], lambda: items.append(1)):
            with pytest.raises(vaults.VaultClosedError):
                use()
        v.close()

    def test_a_list_keeps_its_vault_open(self, root):
        live = pickle.loads(pickle.dumps(Vault('kept').section('s').list('l')))
        live.append(1)
        assert live == [1] and Vault('kept')['s', 'l'] == [1]

    def test_lists_and_columns_are_those_that_they_were(self, loaded):
        for name, items in (('list', [4]), ('list of a section', [5]), ('column', [6])):
            live = loaded(name)
            live.append(7)
            assert loaded(name) == [*items, 7]
