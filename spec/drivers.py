"""Drivers: Python's sqlite3 or APSW, asked for and never found, with one of them for one file."""
from __future__ import annotations

import contextlib
import gc
import os
import pathlib
import shutil
import signal
import sqlite3
import sys
import threading

import pytest

import vaults
from vaults import Vault, moving
from vaults.stores.sqlite import driver, failures

from .helpers import LINUX, in_child, in_thread, needs_fork, needs_posix, output, run

DRIVERS = ['sqlite3', 'apsw']


def asked(name):
    if name == 'apsw':
        pytest.importorskip('apsw')
    vaults.set_driver(name)


@contextlib.contextmanager
def one_with_each(first, second):
    """Give a vault with APSW and one with sqlite3, both written to."""
    vaults.set_driver('apsw')
    with contextlib.closing(Vault(first)) as a:
        vaults.set_driver('sqlite3')
        with contextlib.closing(Vault(second)) as b:
            a['k'], b['k'] = 1, 2
            yield a, b


@pytest.fixture(autouse=True)
def driver_as_before():
    before = driver._asked
    yield
    vaults.set_driver(before)


class TestDrivers:
    """Which driver a vault is opened with, and that no other one gets its file."""

    @pytest.fixture
    def two(self):
        pytest.importorskip('apsw')
        return 'sqlite3', 'apsw'

    def test_the_environment_says_which_one_and_a_program_says_it_louder(self, monkeypatch, two, root):
        for variable, call, expected in ((None, None, 'sqlite3'), ('', None, 'sqlite3'), ('apsw', None, 'apsw'),
                                         ('sqlite3', None, 'sqlite3'), ('apsw', 'sqlite3', 'sqlite3'),
                                         (None, 'apsw', 'apsw'), ('sqlite3', 'apsw', 'apsw')):
            monkeypatch.delenv('VAULTS_DRIVER', raising=False)
            if variable is not None:
                monkeypatch.setenv('VAULTS_DRIVER', variable)
            vaults.set_driver(call)
            with contextlib.closing(Vault('x')) as v:
                v['driver'] = expected
                assert v._store.describe()['driver'] == expected

    def test_a_vault_that_is_open_stays_with_its_driver_and_others_may_have_the_other(self, two):
        with one_with_each('a', 'b') as (a, b):
            in_thread(lambda: a.update(thread=1))  # in a connection that is opened now
            assert (a._store.describe()['driver'], b._store.describe()['driver']) == ('apsw', 'sqlite3')
            assert dict(a) == {'k': 1, 'thread': 1} and dict(b) == {'k': 2}

    def test_one_that_is_installed_is_not_taken_for_that(self, two, root):
        program = '''
            import sys, apsw, vaults
            vaults.set_root_path(sys.argv[1])
            print(vaults.Vault('x')._store.describe()['driver'])'''
        assert output(program, root, env={'VAULTS_DRIVER': ''}) == 'sqlite3'

    def test_neither_is_loaded_before_it_is_needed_and_the_other_not_at_all(self, two, root):
        program = '''
            import sys, vaults
            assert not {'sqlite3', 'apsw'} & set(sys.modules)
            vaults.set_root_path(sys.argv[1])
            v = vaults.Vault('x')
            v['k'] = [1]
            print(sorted({'sqlite3', 'apsw'} & set(sys.modules)))'''
        for name in two:
            assert output(program, root, env={'VAULTS_DRIVER': name}) == str([name])

    @pytest.mark.parametrize('name', ['', 'SQLITE3', 'sqlite', 'os', '.with_apsw', 'with_apsw'])
    def test_a_name_of_none_is_refused(self, monkeypatch, root, name):
        with pytest.raises(vaults.VaultValueError, match=r"set_driver\(\).*'sqlite3' or 'apsw'"):
            vaults.set_driver(name)
        if name:
            vaults.set_driver(None)
            monkeypatch.setenv('VAULTS_DRIVER', name)
            with pytest.raises(vaults.VaultValueError, match="VAULTS_DRIVER.*'sqlite3' or 'apsw'"):
                Vault('x')
            assert not list(root.rglob('*.db*'))

    def test_what_is_no_name_is_refused(self):
        for name in (1, b'apsw', sqlite3, ['apsw'], True):
            with pytest.raises(vaults.VaultTypeError, match='the name of a driver'):
                vaults.set_driver(name)
        with contextlib.closing(Vault('x')) as v:  # what was asked for before stands
            assert v._store.describe()['driver'] == driver.current().NAME

    def test_one_that_is_not_installed_is_a_clear_error_and_nothing_is_made(self, root):
        program = '''
            import sys, vaults
            sys.modules['apsw'] = None
            vaults.set_root_path(sys.argv[1])
            for ask in (lambda: vaults.set_driver('apsw'), lambda: vaults.Vault('x')):
                try:
                    ask()
                except vaults.VaultError as error:
                    print(error)'''
        said = output(program, root, env={'VAULTS_DRIVER': 'apsw'}).splitlines()
        assert len(said) == 2 and all("pip install 'vaults[apsw]'" in line for line in said)
        assert 'set_driver()' in said[0] and 'VAULTS_DRIVER' in said[1]
        assert not list(root.rglob('*.db*'))

    def test_the_command_says_which_one_and_which_sqlite(self, two, root):
        import apsw
        for name, version in (('sqlite3', sqlite3.sqlite_version), ('apsw', apsw.sqlite_lib_version())):
            program = "from vaults.cli import main; import sys; sys.exit(main(sys.argv[1:]))"
            env = {'VAULTS_DRIVER': name, 'VAULTS_ROOT': str(root)}
            run(program, 'set', 'x', 'k', '1', env=env)
            said = run(program, 'info', 'x', env=env).stdout
            assert name in said and version in said

    # --- one file, one driver ---

    @pytest.mark.parametrize('first', DRIVERS)
    def test_one_file_is_never_open_under_both(self, two, root, first):
        other, = set(two) - {first}
        vaults.set_driver(first)
        v = Vault('x')
        v['k'] = 1
        path = root / 'vaults' / 'x.db'
        before = path.read_bytes(), path.with_name('x.db-wal').read_bytes()
        os.link(path, root / 'hard.db')
        (root / 'link.db').symlink_to(path)
        (root / 'folder').symlink_to(path.parent)
        vaults.set_driver(other)
        for name in ('x', path, root / 'hard.db', root / 'link.db', root / 'folder' / 'x.db', pathlib.Path(os.path.relpath(path))):
            for flag in 'rwcn':
                with pytest.raises(vaults.VaultBusyError, match=f'{first}.*{other}.*close it first.*VAULTS_DRIVER'):
                    Vault(name, flag=flag)
        with pytest.raises(vaults.VaultBusyError, match='close it first'):
            next(iter(moving.read(path)))
        assert (path.read_bytes(), path.with_name('x.db-wal').read_bytes()) == before
        v['k'] += 1
        v.close()
        with contextlib.closing(Vault('x')) as again:  # now it may be
            assert dict(again) == {'k': 2} and again._store.describe()['driver'] == other

    def test_a_file_that_is_deleted_or_replaced_while_it_is_open_is_another_one_then(self, two, root):
        vaults.set_driver('apsw')
        v = Vault('x')
        v['k'] = 1
        v.sync()
        path = root / 'vaults' / 'x.db'
        path.rename(root / 'moved.db')
        vaults.set_driver('sqlite3')
        with pytest.raises(vaults.VaultBusyError):  # its logs have the old name
            Vault('x')
        with pytest.raises(vaults.VaultBusyError):  # and this is the file
            Vault(root / 'moved.db')
        v.close()

    def test_a_vault_in_memory_is_nobodys_file(self, two):
        with one_with_each(':memory:', ':memory:') as (a, b):
            assert dict(a) == {'k': 1} and dict(b) == {'k': 2}

    @pytest.mark.parametrize('first', DRIVERS)
    def test_a_vault_that_cannot_be_opened_holds_no_file(self, two, root, first):
        other, = set(two) - {first}
        with sqlite3.connect(root / 'foreign.db') as raw:
            raw.execute('CREATE TABLE t (a)')
        raw.close()
        vaults.set_driver(first)
        with pytest.raises(vaults.VaultFormatError) as caught:  # which holds the frames in which it was open
            Vault(root / 'foreign.db')
        vaults.set_driver(other)
        with pytest.raises(vaults.VaultFormatError):
            Vault(root / 'foreign.db')
        del caught

    def test_as_long_as_a_thread_is_in_a_block_the_file_is_in_use(self, two):
        vaults.set_driver('apsw')
        v = Vault('x')
        inside, leave = threading.Event(), threading.Event()

        def block():
            with pytest.raises(vaults.VaultClosedError), v:
                v['k'] = 1
                inside.set()
                leave.wait(10)
        thread = threading.Thread(target=block)
        v['other'] = 1
        thread.start()
        inside.wait(10)
        vaults.set_driver('sqlite3')
        with pytest.raises(vaults.VaultBusyError):
            Vault('x')
        v.close()
        leave.set()
        thread.join()
        with contextlib.closing(Vault('x')) as again:
            assert dict(again) == {'other': 1}

    def test_of_two_threads_that_open_it_at_once_at_most_one_driver_has_it(self, two, root):
        for turn in range(20):
            opened, barrier = [], threading.Barrier(4)

            def open_it(name, turn=turn, opened=opened, barrier=barrier):
                with_ = driver._load(name, 'a test')
                barrier.wait()
                with contextlib.suppress(vaults.VaultBusyError):
                    opened.append((name, driver.claim(with_, str(root / f'{turn}.db'))))
            threads = [threading.Thread(target=open_it, args=(name,)) for name in two * 2]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert len({name for name, _ in opened}) <= 1

    @needs_fork
    def test_a_forked_child_may_take_the_other_one_for_what_it_does_not_have_open(self, two):
        vaults.set_driver('apsw')
        v = Vault('x')
        v['k'] = 1

        def child():
            v['child'] = 2
            vaults.set_driver('sqlite3')
            with pytest.raises(vaults.VaultBusyError):
                Vault('x')
            v.close()
            with contextlib.closing(Vault('x')) as again:
                return dict(again)
        assert in_child(child).answer() == {'k': 1, 'child': 2}
        assert dict(v) == {'k': 1, 'child': 2}
        v.close()

    def test_what_one_has_written_the_other_reads_and_so_do_two_processes_at_once(self, two, root):
        program = '''
            import sys, vaults
            vaults.set_root_path(sys.argv[1])
            v = vaults.Vault('x')
            for i in range(200):
                with v:
                    v['n'] = v.get('n', 0) + 1
                v[sys.argv[2], i] = [i]
            v.close()'''
        crowd = [threading.Thread(target=lambda name=name: output(program, root, name, env={'VAULTS_DRIVER': name}))
                 for name in two]
        for thread in crowd:
            thread.start()
        for thread in crowd:
            thread.join()
        for name in two:
            vaults.set_driver(name)
            with contextlib.closing(Vault('x')) as v:
                assert v['n'] == 400 and len(v) == 401 and v.check() == []


@pytest.mark.parametrize('name', DRIVERS)
class TestEachDriver:
    """What driver.py asks of one."""

    @pytest.fixture
    def raw(self, name, tmp_path):
        asked(name)
        raw = driver.current().connect(f'file:{tmp_path / "t.db"}?mode=rwc', 0)
        raw.execute('CREATE TABLE t (id INTEGER PRIMARY KEY, a UNIQUE)')
        yield raw
        raw.close()

    def test_a_row_is_unpacked_and_the_statement_is_done(self, raw):
        execute = raw.statements().execute
        (one, two), = execute('SELECT 1, 2')
        (only,), = execute('SELECT NULL')
        assert (one, two, only) == (1, 2, None)
        assert list(execute('SELECT 1, 2 WHERE 0')) == list(execute('INSERT INTO t VALUES (1, 2)')) == []
        (one, empty), = execute("SELECT 1, x''")
        assert (one, empty) == (1, b'')
        (one, two), = execute('SELECT id, a FROM t')
        raw.execute('DROP TABLE t')  # would be locked by a statement that is not done

    def test_a_row_that_another_statement_took_the_place_of_is_missed(self, raw):
        cursor = raw.statements()
        with pytest.raises(ValueError, match='not enough values') as missed:
            (_, _), = (cursor.execute('SELECT 1, 2'), cursor.execute('INSERT INTO t VALUES (1, 2)'))[0]
        assert failures.is_in_use(missed.value)

    def test_what_is_bound_comes_back_with_its_type(self, raw):
        for value in (None, 1, -2**63, 1.5, float('inf'), 'x\0é', '', b'', b'\0x'):
            found, = raw.execute('SELECT ?', (value,)).fetchall()[0]
            assert found == value and type(found) is type(value)
        copy = bytearray(b'abc')
        assert raw.execute('SELECT ?, typeof(?)', (copy, copy)).fetchall() == [(b'abc', 'blob')]

    def test_what_was_changed_is_counted_without_what_others_change_meanwhile(self, raw):
        raw.many('INSERT INTO t VALUES (?, ?)', [(1, 'a'), (2, 'b'), (3, 'c')])
        before = raw.total_changes

        def meanwhile(frame, event, function):
            if event == 'c_return' and getattr(function, '__name__', '') == 'execute':
                sys.setprofile(None)
                raw.execute("UPDATE t SET a = a || 'x'")
        sys.setprofile(meanwhile)
        try:
            assert raw.changed('DELETE FROM t WHERE id = ?', (7,)) == 0
        finally:
            sys.setprofile(None)
        assert raw.changed('DELETE FROM t WHERE id < ?', (3,)) == 2
        assert raw.total_changes - before in (2, 5)

    def test_rows_may_be_given_by_what_uses_the_connection(self, raw):
        def rows():
            for number in range(100):
                yield number, raw.execute('SELECT count(*) FROM t').fetchall()[0][0]
        raw.many('INSERT INTO t VALUES (?, ?)', rows())
        assert raw.execute('SELECT sum(id = a) FROM t').fetchall() == [(100,)]

    def test_a_transaction_is_open_from_where_it_is_begun_to_where_it_ends(self, raw):
        for begin in ('BEGIN', 'BEGIN IMMEDIATE', 'SAVEPOINT level1'):
            assert not raw.in_transaction
            raw.execute(begin)
            raw.execute('INSERT INTO t VALUES (NULL, ?)', (begin,))
            raw.execute('CREATE TABLE IF NOT EXISTS u (a)')
            assert raw.in_transaction
            raw.execute('ROLLBACK')
        assert raw.execute('SELECT count(*) FROM t').fetchall() == [(0,)]

    def test_it_may_be_made_in_one_thread_and_used_and_closed_in_another(self, name, tmp_path):
        asked(name)
        raw = in_thread(lambda: driver.current().connect(f'file:{tmp_path / "t.db"}?mode=rwc', 0))
        raw.execute('CREATE TABLE t (a)')
        in_thread(raw.close)
        with pytest.raises(driver.Error) as caught:
            raw.execute('SELECT 1')
        assert failures.failure(caught.value).error is vaults.VaultClosedError
        raw.close()

    def test_a_lock_is_waited_for_as_long_as_is_said(self, raw, tmp_path):
        raw.execute('BEGIN IMMEDIATE')
        impatient = driver.current().connect(f'file:{tmp_path / "t.db"}?mode=rw', 0)
        patient = driver.current().connect(f'file:{tmp_path / "t.db"}?mode=rw', 10)
        try:
            with pytest.raises(driver.Error) as caught:
                impatient.execute('BEGIN IMMEDIATE')
            assert failures.is_locked(caught.value)
            threading.Timer(0.05, raw.execute, ('COMMIT',)).start()
            patient.execute('BEGIN IMMEDIATE')
        finally:
            impatient.close()
            patient.close()

    def test_a_copy_says_how_far_it_is_and_when_it_is_in_the_way_of_somebody(self, raw, tmp_path, name):
        raw.execute("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300) "
                    "INSERT INTO t SELECT i, hex(randomblob(1000)) FROM n")
        steps = []
        raw.copy_to(f'file:{tmp_path / "copy.db"}?mode=rwc', lambda *step: steps.append(step), pages=10)
        assert {result for result, _, _ in steps} <= {0, 101} and len(steps) > 5
        assert steps[-1][1] == 0 and [left for _, left, _ in steps] == sorted((left for _, left, _ in steps), reverse=True)
        copy = driver.current().connect(f'file:{tmp_path / "copy.db"}?mode=rw', 0)
        assert copy.execute('SELECT count(*) FROM t').fetchall() == [(300,)]
        copy.execute('BEGIN IMMEDIATE')  # now the target is locked
        seen = []

        def step(result, left, total):
            seen.append(result)
            raise RuntimeError('enough')
        with pytest.raises(RuntimeError, match='enough'):
            raw.copy_to(f'file:{tmp_path / "copy.db"}?mode=rw', step)
        assert seen[0] in failures.WAITING
        copy.close()

    def test_a_long_statement_ends_when_it_is_told_to(self, raw):
        raw.set_progress_handler(lambda: True, 1000)
        with pytest.raises(driver.Error):
            raw.execute('WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n').fetchall()
        raw.set_progress_handler(None, 1000)
        assert raw.execute('SELECT 1').fetchall() == [(1,)]

    @needs_posix
    def test_a_signal_handler_may_use_the_cursor_between_two_calls(self, name):
        asked(name)
        with contextlib.closing(Vault('x')) as v:
            v.update(a=[1], b=[2])
            met = []
            signal.signal(signal.SIGALRM, lambda *_: met.append((v.get('b'), v.put('n', len(met)), 'none' in v)))
            signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
            try:
                for _ in range(20000):
                    assert v['a'] == [1] and 'a' in v and 'none' not in v and v.get('none') is None
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
            assert len(met) > 5 and all(one == ([2], None, False) for one in met)

    def test_what_runs_in_the_middle_of_a_statement_may_use_the_vault(self, name):
        asked(name)
        met, depth = [], []

        def collecting(phase, info):
            if not depth and phase == 'start':
                depth.append(1)
                try:
                    met.append((v.get('b'), 'a' in v, v.put('n', len(met))))
                finally:
                    depth.clear()
        with contextlib.closing(Vault('x')) as v:
            v.update(a=[1], b=[2])
            before = gc.get_threshold()
            gc.callbacks.append(collecting)
            gc.set_threshold(1, 1, 1)
            try:
                for _ in range(200):
                    assert v['a'] == [1] and 'a' in v and v.get('none') is None
                    v['own'] = 1
            finally:
                gc.set_threshold(*before)
                gc.callbacks.remove(collecting)
            assert met and all(one == ([2], True, None) for one in met) and v['n'] == len(met) - 1

    def test_chunks_that_are_given_one_by_one_are_all_put_where_the_first_makes_the_table(self, name):
        asked(name)
        owner, chunks = b'o' * 12, [(number, bytes([number]) * 10) for number in range(5)]
        for given in (iter(chunks), (chunk for chunk in chunks), chunks):
            with contextlib.closing(Vault(':memory:')) as v:
                v._store.put_chunks(owner, given)
                assert [(n, v._store.get_chunk(owner, n)) for n in v._store.chunk_numbers(owner)] == chunks

    def test_a_mistake_of_the_program_is_not_one_of_the_file(self, name):
        asked(name)

        def pairs():
            yield 'a', 1
            b'\xff'.decode()
        with contextlib.closing(Vault('x')) as v:
            for put in (lambda: v.update(pairs()), lambda: v.put_many(pairs()), lambda: v.list('l').extend(pairs())):
                with pytest.raises(UnicodeDecodeError):
                    put()
            assert 'a' not in v

    def test_a_text_that_is_damaged_is_a_damaged_vault(self, name, root):
        asked(name)
        with contextlib.closing(Vault('x')) as v:
            v.update({'k': 1, 'damaged': 2, 'last': 3})
        with sqlite3.connect(root / 'vaults' / 'x.db') as raw:
            raw.execute("UPDATE entries SET key = CAST(x'ff41' AS TEXT), value = CAST(x'ff' AS TEXT) WHERE key = 'damaged'")
            raw.execute("UPDATE entries SET value = CAST(x'ff' AS TEXT) WHERE key = 'last'")
        raw.close()
        with contextlib.closing(Vault('x')) as v:
            assert v['k'] == 1
            for read in (lambda: list(v), lambda: list(v.items()), lambda: v['last'], lambda: v.get('last'),
                         lambda: list(v.keys().__reversed__()), lambda: list(v.prefix('l').items())):
                with pytest.raises(vaults.VaultCorruptError):
                    read()
            assert v.check() != []

    @pytest.mark.skipif(not LINUX, reason='a path is text elsewhere')
    def test_a_path_that_is_no_utf8_is_a_path(self, name, tmp_path):
        asked(name)
        path = pathlib.Path(os.fsdecode(os.fsencode(tmp_path) + b'/\xff%?#\xc3\xa9 %41.db'))
        with contextlib.closing(Vault(path)) as v:
            v['k'] = 1
            v.backup(path.with_name(path.name + '\udcfe'))
        assert {os.fsencode(one.name) for one in (path, path.with_name(path.name + '\udcfe'))} == {
            name for name in os.listdir(os.fsencode(tmp_path)) if name != b'vaults'}
        shutil.copy(path.with_name(path.name + '\udcfe'), tmp_path / 'copy.db')
        with contextlib.closing(Vault(tmp_path / 'copy.db', flag='r')) as v:
            assert dict(v) == {'k': 1}
