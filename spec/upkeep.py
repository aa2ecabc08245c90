"""Upkeep: check, compact, backup, info, and who may read a copy."""
from __future__ import annotations

import contextlib
import dbm.dumb
import io
import os
import pathlib
import pickle
import re
import shutil
import sqlite3
import subprocess
import sys
import threading

import pytest

import vaults
from vaults import Vault, moving, recovery
from vaults.collections import stream as streams
from vaults.stores.sqlite import backup as sqlite_backup
from vaults.stores.sqlite import driver

from .helpers import HERE, in_thread, needs_posix, needs_root, output
from .internals import another, connection_of, statements
from .samples import Custom, plant


class TestUpkeep:
    def test_check_finds_what_is_wrong_and_runs_no_pickle(self, v, root):
        mark = root / 'ran'
        plant(v, mark)
        v['ok'] = Custom(1)
        assert v.check() == [] and not mark.exists()
        c = connection_of(v)
        c.execute("UPDATE entries SET crc = crc + 1 WHERE key = x''")
        assert 'counts anew' in v.check()[0]
        v.compact()
        assert v.check() == [] and len(v) == 2
        v._store.put('bad', b'\xc1')
        assert "'bad'" in v.check()[0]
        del v['bad']
        v._store.put(b'\x63', vaults.dumps(1))
        assert 'damaged' in v.check()[0]
        v._store.delete(b'\x63')

    def test_check_finds_a_damaged_key_of_a_sound_list(self, v):
        v.list('l').append(1)
        v._store.put(b'\x63', v._store.get('l'))
        problem, = v.check()
        assert 'a stored key is damaged' in problem
        v._store.delete(b'\x63')

    def test_compact_gives_space_back_and_keeps_everything(self, v):
        v.update((n, b'x' * 5000) for n in range(1000))
        del v[10:]
        steps = []
        before = os.path.getsize(v.db_path) + os.path.getsize(v.db_path + '-wal')
        v.compact(progress=lambda done, total: steps.append((done, total)))
        assert os.path.getsize(v.db_path) + os.path.getsize(v.db_path + '-wal') < before / 10
        assert os.path.getsize(v.db_path + '-wal') < 3 * 4096
        assert v.keys() == list(range(10)) and steps[0][0] == 0 and steps[-1][0] == steps[-1][1] > 0

    def test_backup_is_whole_while_others_write(self, v, root):
        v.update((n, n) for n in range(20000))
        stop = threading.Event()

        def write():
            n = 0
            while not stop.is_set():
                with v:
                    v['a'] = v['b'] = n
                n += 1
        thread = threading.Thread(target=write)
        thread.start()
        steps = []
        try:
            v.backup(root / 'copy.db', progress=lambda done, total: steps.append((done, total)))
        finally:
            stop.set()
            thread.join()
        copy = Vault(root / 'copy.db', flag='r')
        assert copy.check() == [] and copy.get('a') == copy.get('b') and len(copy) >= 20000
        assert steps and steps[-1][0] == steps[-1][1]
        copy.close()
        assert sorted(name for name in os.listdir(root) if name.startswith('copy')) == ['copy.db']
        with pytest.raises(vaults.VaultError, match=r'copy\.db already'):
            v.backup(root / 'copy.db')
        with pytest.raises(vaults.VaultError, match='failed, nothing was written'):
            v.backup(root / 'no' / 'where.db')

    def test_a_backup_that_fails_is_an_error_of_ours(self, v, root, monkeypatch):
        def fails(*_, **__):
            raise OSError(5, 'the disk fails')

        def fails_with_a_journal(part, _):
            pathlib.Path(f'{part}-journal').write_bytes(b'what SQLite leaves when it cannot roll back')
            fails()
        v['k'] = 1
        with monkeypatch.context() as patch:
            patch.setattr(os, 'rename', fails_with_a_journal)
            with pytest.raises(vaults.VaultFullError, match=r'copy\.db failed, nothing was written'):
                v.backup(root / 'copy.db')
            assert not list(root.glob('copy*'))
            patch.setattr(os, 'unlink', fails)
            with pytest.raises(vaults.VaultFullError, match=r'copy\.db failed'):
                v.backup(root / 'copy.db')
        with monkeypatch.context() as patch:
            patch.setattr(v._store.file, 'connect', lambda: another(root))
            with pytest.raises(vaults.VaultError, match='unable to open'):
                v.backup(root / 'other.db')
        with pytest.raises(vaults.VaultError, match='unable to open'):
            Vault(':memory:').backup(root / 'no' / 'copy.db')

    def test_a_backup_does_not_wait_longer_for_a_lock_than_the_vault(self, v, root, monkeypatch):
        v['k'] = 1
        v._store.file.timeout = 0.05
        real = driver.current().connect

        def connect(target, timeout):
            if '.partial' in target:
                self.other = real(target, 0)
                self.other.execute('BEGIN EXCLUSIVE')
            return real(target, timeout)
        monkeypatch.setattr(driver.current(), 'connect', connect)
        with pytest.raises(vaults.VaultBusyError, match='nothing was written'):
            v.backup(root / 'copy.db')
        self.other.close()
        assert not list(root.glob('copy*'))

    @pytest.mark.skipif(os.name == 'nt', reason='Windows opens no folders')
    def test_the_name_of_a_backup_lasts_when_it_returns(self, v, root, monkeypatch):
        synced, fsync = [], os.fsync
        monkeypatch.setattr(os, 'fsync', lambda handle: (synced.append((os.fstat(handle).st_ino, os.listdir(root))), fsync(handle)))
        v.backup(root / 'copy.db')
        (folder, names), = synced
        assert folder == os.stat(root).st_ino and 'copy.db' in names

    def test_a_vault_in_memory_has_a_backup_too(self, root):
        v = Vault(':memory:')
        v['k'] = 1
        v.backup(root / 'm.db')
        v['l'] = 2
        assert Vault(root / 'm.db').items() == [('k', 1)] and len(v) == 2

    def test_progress_of_check(self, v):
        v.update(dict.fromkeys(range(2500)))
        steps = []
        assert v.check(progress=lambda done, total: steps.append((done, total))) == []
        assert steps == [(1024, 2500), (2048, 2500), (2500, 2500)]

    @pytest.mark.parametrize('safe', [False, True])
    def test_sync_commits_retry_with_an_fsync(self, root, safe):
        v = Vault('test', thread_safe=safe)
        v['k'] = 1
        other = another(v.db_path)
        before = other.execute('PRAGMA data_version').fetchall()
        seen = statements(v)
        v.sync()
        assert other.execute('PRAGMA data_version').fetchall() != before  # SQLite drops a commit that changes nothing
        other.close()
        assert seen[0] == 'PRAGMA synchronous = FULL' and 'NORMAL' in seen[-1] and 'COMMIT' in seen
        assert v.items() == [('k', 1)] and len(v) == 1 and v.check() == []
        in_thread(lambda: v.put('other', 1))
        assert v['other'] == 1
        Vault(':memory:').sync()

    @pytest.mark.skipif(not shutil.which('strace'), reason='no strace to see the fsync with')
    def test_sync_has_the_disk_write_what_it_was_given(self, root):
        program = "import sys, vaults; v = vaults.Vault('t'); v['k'] = 1; print('SYNC', flush=True); v.sync(); print('DONE', flush=True)"
        done = subprocess.run(['strace', '-f', '-e', 'trace=write,pwrite64,fsync,fdatasync', sys.executable, '-c', program],
                              cwd=str(root), env={**os.environ, 'PYTHONPATH': str(HERE)}, capture_output=True, text=True)
        if 'SYNC' not in done.stderr:
            pytest.skip('strace may not trace here')
        during = done.stderr.split('SYNC')[1].split('DONE')[0]
        assert re.search(r'\bwrite\((?!1,)|pwrite64\(', during) and 'sync(' in during  # not every SQLite has pwrite

    @needs_posix
    def test_sync_and_check_need_no_handle_that_is_free(self, root):
        program = '''
            import os, pathlib, resource, sys, vaults
            v = vaults.Vault(pathlib.Path(sys.argv[1]))
            v['key'] = 'value'
            resource.setrlimit(resource.RLIMIT_NOFILE, (50, 50))
            try:
                while os.open(os.devnull, os.O_RDONLY):
                    pass
            except OSError:
                v.sync()
                print(v.check(), v['key'])'''
        assert output(program, root / 'v.db') == '[] value'


class TestWhoMayReadACopy:
    """A copy, and what lies beside a vault, is no wider open than the vault."""

    pytestmark = pytest.mark.skipif(os.name == 'nt', reason='Windows has no such modes')

    @pytest.fixture(params=[0o022, 0o077, 0])
    def umask(self, request):
        before = os.umask(request.param)
        yield request.param
        os.umask(before)

    def modes(self, folder, start=''):
        return {path.name: path.stat().st_mode & 0o7777 for path in folder.iterdir() if path.name.startswith(start) and path.is_file()}

    def ways(self, v, folder):
        """Make each sort of copy; yield its path, and the modes of all files of that name while it was written."""
        def look(name, make):
            seen = {}
            make(folder / name, lambda *_: seen.update(self.modes(folder, name)))
            return folder / name, seen
        for name, make in (('backup', v.backup), ('export', lambda path, see: moving.export(v, path, progress=see)),
                           ('stream', lambda path, see: v.get_file('stream', path, see)),
                           ('text', lambda path, see: v.get_file('text', path, see))):
            yield look(name, make)
        v.close()
        yield look('recovered', lambda path, see: recovery.recover(pathlib.Path(v.db_path), path, see))

    @pytest.mark.parametrize('mode', [0o600, 0o640, 0o660, 0o644, 0o666, 0o604, 0o400, 0o440, 0o700])
    def test_it_has_the_mode_of_the_vault_less_the_umask_from_the_start(self, root, umask, mode):
        with contextlib.closing(Vault('t')) as v:
            v.put_file('stream', io.BytesIO(b'x' * 3 * streams.STREAM_LEAF))
            v['text'] = 'x' * 100_000
            v.update((n, b'') for n in range(1000))
        os.chmod(v.db_path, mode)
        for path, seen in self.ways(Vault('t', flag='r'), root):
            assert path.stat().st_mode & 0o7777 == mode & 0o666 & ~umask, path
            assert any(name.endswith('.partial') for name in seen) or path.name == 'text', seen
            for name, other in seen.items():
                assert other & 0o077 & ~(mode & ~umask) == 0, name
        assert sorted(self.modes(root)) == ['backup', 'export', 'recovered', 'stream', 'text']

    def test_what_is_recovered_is_written_to_files_as_private(self, root):
        with contextlib.closing(Vault('t')) as v:
            v.update((n, b'x' * 500) for n in range(3000))
        os.chmod(v.db_path, 0o600)
        seen = {}
        recovery.recover('t', root / 'new.db', lambda *_: seen.update(self.modes(root, 'new')))
        assert {name: oct(mode) for name, mode in seen.items()} == dict.fromkeys(
            ['new.db.partial', 'new.db.partial-wal', 'new.db.partial-shm'], '0o600')

    def test_the_journal_of_a_backup_is_as_private(self, root, monkeypatch):
        v = Vault('t')
        v.update((n, b'x' * 500) for n in range(9000))
        os.chmod(v.db_path, 0o600)
        seen = {}
        real = sqlite_backup._copy

        def copy(store, part, *arguments):
            with contextlib.closing(sqlite3.connect(part)) as raw:
                raw.execute('CREATE TABLE a (b)')
                raw.execute('BEGIN')
                raw.execute('INSERT INTO a VALUES (1)')
                seen.update(self.modes(root))
                raw.execute('ROLLBACK')
            os.truncate(part, 0)
            real(store, part, *arguments)
        monkeypatch.setattr(sqlite_backup, '_copy', copy)
        v.backup(root / 'copy.db')
        assert seen == {'copy.db.partial': 0o600, 'copy.db.partial-journal': 0o600}
        v.close()

    @needs_root
    def test_another_group_may_do_no_more_than_all_others(self, root, umask):
        for mode, expected in ((0o660, 0o600), (0o664, 0o644), (0o640, 0o600), (0o604, 0o600), (0o666, 0o666)):
            with contextlib.closing(Vault('t')) as v:
                v.update(stream=b'x', text='x')
            os.chown(v.db_path, 12345, 54321)
            os.chmod(v.db_path, mode)
            for path, _ in self.ways(Vault('t', flag='r'), root):
                status = path.stat()
                assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (0, 0, expected & ~umask), path
                path.unlink()
            os.unlink(v.db_path)

    def test_a_copy_of_a_vault_in_memory_is_what_the_umask_says(self, root, umask):
        v = Vault(':memory:')
        v['a'] = b'x'
        v.backup(root / 'copy')
        moving.export(v, root / 'export')
        v.get_file('a', root / 'file')
        assert self.modes(root) == {'copy': 0o644 & ~umask, 'export': 0o666 & ~umask, 'file': 0o666 & ~umask}

    def test_a_file_that_is_written_over_keeps_its_mode_and_is_never_wider(self, root, umask):
        v = Vault('t')
        v.put_file('a', io.BytesIO(b'x' * 3 * streams.STREAM_LEAF))
        for mode in (0o600, 0o666, 0o755):
            (root / 'out').write_bytes(b'old')
            (root / 'out').chmod(mode)
            seen = {}
            v.get_file('a', root / 'out', lambda *_, seen=seen: seen.update(self.modes(root)))
            assert (root / 'out').stat().st_mode & 0o777 == mode
            assert len(seen) >= 2 and all(not other & 0o077 & ~mode for other in seen.values())
        v.close()

    def test_one_begun_anew_or_compacted_keeps_its_mode(self, root, umask):
        with contextlib.closing(Vault('t')) as v:
            v.update((n, b'x' * 500) for n in range(900))
        os.chmod(v.db_path, 0o600)
        for flag in 'cn':
            with contextlib.closing(Vault('t', flag=flag)) as v:
                del v[:800]
                v.compact()
                assert set(self.modes(root / 'vaults').values()) == {0o600}
        assert self.modes(root / 'vaults') == {'t.db': 0o600}

    @pytest.mark.parametrize('options', [{}, {'flag': 'r'}, {'flag': 'w'}, {'thread_safe': True}, {'writeback': True}])
    def test_the_log_is_as_private_as_the_file_in_every_way_of_opening(self, root, umask, options):
        for mode in (0o600, 0o640, 0o666):
            with contextlib.closing(Vault('t')) as v:
                v['a'] = 1
            os.chmod(v.db_path, mode)
            with contextlib.closing(Vault('t', **options)) as v:
                assert v['a'] == 1
                assert self.modes(root / 'vaults') == dict.fromkeys(['t.db', 't.db-wal', 't.db-shm'], mode)

    @pytest.mark.parametrize('notice', [lambda v: v.sync(), lambda v: v.update(b=1), lambda v: v.pop('a'), Vault.compact,
                                        lambda v: [v.put(n, b'x' * 9000) for n in range(70)], lambda v: Vault('t')])
    def test_the_log_follows_when_the_mode_of_an_open_vault_is_changed(self, root, notice):
        v = Vault('t')
        v['a'] = 1
        for mode in (0o600, 0o660):
            os.chmod(v.db_path, mode)
            also = notice(v)
            assert self.modes(root / 'vaults') == dict.fromkeys(['t.db', 't.db-wal', 't.db-shm'], mode)
            v['a'] = 1
            del also
        v.close()

    def test_the_log_beside_the_file_that_a_link_names_follows_too(self, root):
        Vault(root / 'real.db').close()
        (root / 'link.db').symlink_to(root / 'real.db')
        v = Vault(root / 'link.db')
        os.chmod(root / 'real.db', 0o600)
        v.update(a=1)
        assert set(self.modes(root, 'real').values()) == {0o600}
        v.close()

    @needs_root
    def test_what_root_opens_stays_its_owners(self, root):
        with contextlib.closing(Vault('t')) as v:
            v['a'] = 1
        os.chown(v.db_path, 12345, 54321)
        os.chmod(v.db_path, 0o640)
        v = Vault('t')
        v['b'] = 1
        for beside in ('-wal', '-shm'):
            status = os.stat(v.db_path + beside)
            assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (12345, 54321, 0o640)
        v.close()

    def test_a_vault_that_the_command_makes_of_a_private_file_is_private(self, command, root, umask):
        for mode in (0o600, 0o640, 0o644):
            (root / 'a.json').write_text('{"a": 1}')
            (root / 'a.json').chmod(mode)
            assert command('import', root / 'a.json', 'new').status == 0
            assert self.modes(root / 'vaults') == {'new.db': mode & ~umask}
            assert command('import', root / 'a.json', 'new').status == 0
            (root / 'vaults' / 'new.db').unlink()
        (root / 'a.json').write_text('{"a": ')
        assert command('import', root / 'a.json', 'new').status == 1
        assert command('import', root / 'gone.json', 'new').status == 1
        assert not (root / 'vaults').exists() or not list((root / 'vaults').iterdir())

    def test_what_the_command_copies_is_as_private(self, command, root, umask):
        with contextlib.closing(vaults.open(root / 'shelf')) as shelf:
            shelf.update(text='x', stream=b'x' * 9000)
        os.chmod(root / 'shelf', 0o640)
        with contextlib.closing(vaults.open(root / 'shelf')):
            assert set(self.modes(root).values()) == {0o640} and len(self.modes(root)) == 3
        place = f'{root}/shelf'
        for words in (['backup', place, root / 'a'], ['recover', place, f'{root}/b.db'], ['export', place, root / 'c'],
                      ['get', place, 'stream', '--output', root / 'd'], ['get', place, 'text', '--output', root / 'e'],
                      ['import', place, f'{root}/f.db'], ['import', root / 'c', f'{root}/g.db']):
            assert command(*words).status == 0, words
        assert self.modes(root) == {'shelf': 0o640, **dict.fromkeys(['a', 'b.db', 'c', 'd', 'e', 'f.db', 'g.db'], 0o640 & ~umask)}

    def test_all_files_of_a_source_count(self, command, root):
        with contextlib.closing(dbm.dumb.open(str(root / 'shelf'), 'n')) as db:
            db['k'] = pickle.dumps(1)
        (root / 'shelf.dat').chmod(0o600)
        assert command('import', root / 'shelf', 'new').status == 0
        assert self.modes(root / 'vaults') == {'new.db': 0o600}
