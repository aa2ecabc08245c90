"""Files: written whole or not at all, no wider open than their sources, and there after a power cut."""
from __future__ import annotations

import contextlib
import io
import os
import shutil
import sqlite3

import pytest

import vaults
from vaults import Vault, files, moving, recovery
from vaults.collections import stream as streams

from .helpers import needs_posix


def make_new(v, way, path):
    """Write a new file at the path, in one of the ways that there are."""
    if way == 'recover':
        v.sync()
        shutil.copyfile(v.db_path, f'{path}.bad')
        shutil.copyfile(f'{v.db_path}-wal', f'{path}.bad-wal')
        recovery.recover(path.with_name(f'{path.name}.bad'), path)
    else:
        {'backup': v.backup, 'export': lambda path: moving.export(v, path),
         'get_file': lambda path: v.get_file('stream', path)}[way](path)


WAYS_TO_A_FILE = ['backup', 'export', 'get_file', 'recover']
WAYS_OF_SQLITE = ['backup', 'recover']  # SQLite syncs what it writes by itself


class TestNewFiles:
    """However a file is written, it appears whole, private and for good."""

    @pytest.fixture
    def v(self, v):
        v.put_file('stream', io.BytesIO(b'x' * 3 * streams.STREAM_LEAF))
        return v

    @needs_posix
    @pytest.mark.parametrize('way', WAYS_TO_A_FILE)
    def test_the_content_is_synced_before_it_has_its_name_and_the_name_before_the_call_returns(self, v, root, way, monkeypatch):
        events, fsync, rename, replace = [], os.fsync, os.rename, os.replace

        def synced(handle):
            is_folder = os.path.samestat(os.fstat(handle), os.stat(root))
            events.append('folder' if is_folder else 'content')
            assert is_folder == (root / 'new').exists()
            fsync(handle)
        for name, real in (('rename', rename), ('replace', replace)):
            monkeypatch.setattr(os, name, lambda *paths, real=real: (events.append('name'), real(*paths)))
        monkeypatch.setattr(os, 'fsync', synced)
        make_new(v, way, root / 'new')
        assert events == ([] if way in WAYS_OF_SQLITE else ['content']) + ['name', 'folder']

    @pytest.mark.parametrize('way', WAYS_OF_SQLITE)
    @pytest.mark.parametrize('name', ['new', 'new-wal', 'new-journal', 'new-shm', 'new.partial', 'new.partial-journal'])
    def test_no_log_of_another_file_becomes_the_new_ones(self, v, root, way, name):
        (root / name).write_bytes(b'mine')
        with pytest.raises(vaults.VaultError, match=f'{name} already: give another path'):
            make_new(v, way, root / 'new')
        assert (root / name).read_bytes() == b'mine' and {*root.glob('new*')} - {*root.glob('*.bad*')} == {root / name}

    @needs_posix
    @pytest.mark.parametrize('way', ['backup', 'export', 'recover'])
    def test_a_link_that_leads_nowhere_is_not_written_over(self, v, root, way):
        (root / 'new').symlink_to('nowhere')
        with pytest.raises(vaults.VaultError, match='new already'):
            make_new(v, way, root / 'new')
        assert os.readlink(str(root / 'new')) == 'nowhere'

    @pytest.mark.parametrize('way', ['backup', 'export'])
    def test_a_path_with_a_nul_is_none(self, v, root, way):
        with pytest.raises(vaults.VaultError, match='give another path'):
            make_new(v, way, root / 'a\0b')

    @needs_posix
    def test_nothing_is_said_of_a_file_that_could_not_be_made(self, v, root, caplog):
        (root / 'file').write_text('')
        v['k'] = b'x'
        for path in (root / ('x' * 300), root / 'file' / 'new', root / 'none' / 'new'):
            for write in (v.backup, lambda path: moving.export(v, path), lambda path: v.get_file('k', path)):
                with pytest.raises((OSError, vaults.VaultError)):
                    write(path)
        assert caplog.records == [] and (root / 'file').read_text() == ''

    def test_a_folder_that_cannot_be_synced_is_told_to_the_log_alone(self, v, root, monkeypatch, caplog):
        fsync = os.fsync

        def fails(handle):
            if os.path.samestat(os.fstat(handle), os.stat(root)):
                raise OSError(22, 'no syncs of folders here')
            fsync(handle)
        monkeypatch.setattr(os, 'fsync', fails)
        moving.export(v, root / 'new')
        assert (root / 'new').stat().st_size and [record.getMessage() for record in caplog.records] == [
            f"the folder of {root / 'new'} could not be synced: [Errno 22] no syncs of folders here"]

    @pytest.mark.parametrize('error', [OSError(5, 'the disk fails'), KeyboardInterrupt(), ValueError('another')])
    def test_whatever_goes_wrong_where_it_gets_its_name_leaves_nothing(self, v, root, error, monkeypatch):
        def fails(*_):
            raise error
        monkeypatch.setattr(os, 'rename', fails)
        for way in ('backup', 'export'):
            with pytest.raises(vaults.VaultFullError if isinstance(error, OSError) else type(error)) as caught:
                make_new(v, way, root / 'new')
            assert not isinstance(error, OSError) or f"the {way} to {root / 'new'} failed, nothing was written" in str(caught.value)
            assert not list(root.glob('new*'))

    def test_who_was_a_moment_earlier_keeps_the_file(self, root):
        new = files.NewFile(str(root / 'new'), what='a try')
        (root / 'new.partial').write_bytes(b'theirs')
        with pytest.raises(vaults.VaultError, match=r'new\.partial already'), new:
            pass
        assert (root / 'new.partial').read_bytes() == b'theirs'

    def test_what_does_not_fit_on_the_disk_leaves_nothing(self, root, monkeypatch):
        def full(handle):
            raise OSError(28, 'No space left on device')
        monkeypatch.setattr(os, 'fsync', full)
        with pytest.raises(vaults.VaultFullError, match='a try failed, nothing was written: .*make room'), files.NewFile(str(root / 'new'), what='a try') as new:
            new.text().write('x')
        with pytest.raises(OSError, match='No space'), files.NewFile(str(root / 'new')) as new:
            new.raw().write(b'x')
        assert not list(root.glob('new*'))


class TestLinks:
    """What lies beside a file of SQLite lies beside the file that a link leads to."""

    pytestmark = needs_posix

    @pytest.fixture
    def link(self, root):
        """A link to a vault, which a killed process has left with a commit in its log."""
        (root / 'far').mkdir()
        (root / 'near').mkdir()
        with contextlib.closing(Vault(root / 'live.db')) as v:
            v['a'] = 1
            for ending in ('', '-wal'):
                shutil.copyfile(f'{v.db_path}{ending}', f"{root / 'far' / 'v.db'}{ending}")
        (root / 'near' / 'link.db').symlink_to(root / 'far' / 'v.db')
        return root / 'near' / 'link.db'

    def test_an_import_sees_the_commits_in_its_log(self, link, root):
        assert list(moving.read(link)) == [('a', 1)]
        assert os.listdir(link.parent) == ['link.db'] and sorted(os.listdir(root / 'far')) == ['v.db', 'v.db-wal']

    def test_so_does_one_of_another_database(self, root):
        with contextlib.closing(sqlite3.connect(str(root / 'real'), isolation_level=None)) as raw:
            raw.execute('PRAGMA journal_mode = WAL')
            raw.execute('CREATE TABLE unnamed (key TEXT PRIMARY KEY, value BLOB)')
            raw.execute("INSERT INTO unnamed VALUES ('k', '1')")
            (root / 'link').symlink_to(root / 'real')
            assert list(moving.read(root / 'link', kind='sqlitedict')) == [('k', 1)]

    def test_recover_reads_the_log(self, link, root):
        assert recovery.recover(link, root / 'good.db').recovered == 1
        with contextlib.closing(Vault(root / 'good.db')) as good:
            assert good == {'a': 1}

    def test_deleting_a_vault_that_is_a_link_deletes_the_link_alone(self, link, root):
        with contextlib.closing(Vault(root / 'far' / 'v.db')) as v:
            v['b'] = 2
            Vault(link).delete_vault()
            assert not os.path.lexists(str(link)) and v == {'a': 1, 'b': 2} and os.path.exists(f'{v.db_path}-wal')

    def test_get_file_does_not_write_over_its_log(self, link):
        with contextlib.closing(Vault(link)) as v:
            v['a'] = 'text'
            for path in v._store.files:
                with pytest.raises(vaults.VaultError, match='own file'):
                    v.get_file('a', path)

    def test_what_a_folder_that_cannot_be_written_holds_is_seen_with_its_log(self, link, monkeypatch):
        real = link.resolve()
        with contextlib.closing(Vault(real)) as v:
            v['b'] = 2
            monkeypatch.setattr(os, 'access', lambda path, mode: mode != os.W_OK)
            with contextlib.closing(Vault(link, flag='r')) as w:
                assert w == {'a': 1, 'b': 2}

    def test_what_cannot_be_deleted_stays_open(self, root, monkeypatch):
        for where in (root / 'x.db', f'json+file://{root}/x.json'):
            with contextlib.closing(Vault(where)) as v:
                v['a'] = 1
                v.sync()
                monkeypatch.setattr(os, 'access', lambda path, mode: mode != os.W_OK)
                with pytest.raises(vaults.VaultReadOnlyError, match='cannot be deleted.*folder'):
                    v.delete_vault()
                monkeypatch.undo()
                assert v['a'] == 1
                v.delete_vault()
                assert v.closed and not os.path.exists(root / os.path.basename(str(where)))

    def test_an_empty_file_with_a_log_is_not_made_a_vault(self, link):
        real = link.resolve()
        os.truncate(str(real), 0)
        log = real.with_name('v.db-wal').read_bytes()
        with pytest.raises(vaults.VaultCorruptError, match='its log is not'):
            Vault(link)
        assert real.with_name('v.db-wal').read_bytes() == log
