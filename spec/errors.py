"""Errors: each says what to do, and leaves the vault as it was."""
from __future__ import annotations

import concurrent.futures
import contextlib
import logging
import os
import pickle
import re
import shutil
import sqlite3
import subprocess

import pytest

import vaults
from vaults import Vault, errors, log, moving, recovery
from vaults.codecs import codes
from vaults.codecs.types import DECODERS
from vaults.stores.sqlite import connection, driver, schema
from vaults.stores.sqlite import store as sqlite
from vaults.stores.sqlite.snapshot import Snapshot

from .helpers import HERE, LINUX, needs_posix, needs_root, output
from .internals import connection_of, limit_length, raw_of


class TestErrors:
    """Each error says what happened, to which vault, and what to do; nothing changes."""

    def test_each_has_its_builtin(self):
        kinds = {vaults.VaultNotFoundError: FileNotFoundError, vaults.VaultBusyError: TimeoutError,
                 vaults.VaultClosedError: ValueError, vaults.VaultReadOnlyError: PermissionError,
                 vaults.VaultFullError: OSError, vaults.EmptyVaultError: KeyError, vaults.SerializationError: TypeError}
        for kind, builtin in kinds.items():
            assert issubclass(kind, builtin) and issubclass(kind, vaults.VaultError)
            assert str(kind('plain words')) == 'plain words'
            assert str(pickle.loads(pickle.dumps(kind('plain words')))) == 'plain words'

    def test_each_has_its_row_in_the_docs_and_its_line_in_the_tree(self):
        rows = (HERE / 'docs' / 'errors.md').read_text(encoding='utf-8')
        for name, cls in vars(errors).items():
            if isinstance(cls, type) and issubclass(cls, vaults.VaultError) and cls is not vaults.VaultError:
                also = [base.__name__ for base in cls.__bases__ if not issubclass(base, vaults.VaultError)]
                assert f'| `{name}` | {f"`{also[0]}`" if also else ""}'.rstrip() in rows and name in errors.__doc__, name
                assert hasattr(vaults, name), name

    @needs_posix
    def test_a_copy_that_cannot_be_written_says_what_to_do(self, v, root):
        v['k'] = 1
        (root / 'file').write_text('')
        with contextlib.closing(Vault('other')):
            pass
        for path, words in ((root / 'no' / 'copy', 'make the folder, and repeat'), (root / 'file' / 'copy', 'give a path in a folder')):
            for make in (v.backup, lambda path: moving.export(v, path), lambda path: recovery.recover('other', path)):
                with pytest.raises(vaults.VaultFullError, match=f'copy failed, nothing was written: .*; {words}'):
                    make(path)

    def test_a_closed_vault(self, v):
        v['k'] = 1
        v.close()
        v.close()
        for act in (lambda: v['k'], lambda: v.put('k', 1), lambda: len(v), lambda: list(v), v.keys().__repr__, v.clear,
                    v.__enter__, v.popitem, v.check, v.sync, lambda: v == {}, lambda: 'k' in v):
            with pytest.raises(vaults.VaultClosedError, match=re.escape(f"{v.db_path!r} is closed: open it again")):
                act()

    @pytest.mark.parametrize('content', [b'just some text\n' * 100, b'x', b'SQLite format 3\0' + b'\xff' * 5000])
    def test_a_file_that_is_no_vault_is_left_as_it_was(self, root, content):
        path = root / 'notes.txt'
        path.write_bytes(content)
        for flag in 'rwcn':
            with pytest.raises((vaults.VaultFormatError, vaults.VaultCorruptError), match='notes.txt'):
                Vault(path, flag=flag)
        assert path.read_bytes() == content
        assert sorted(os.listdir(root)) == ['notes.txt', 'vaults'] and os.listdir(root / 'vaults') == []

    def test_a_foreign_database_is_left_as_it_was(self, root):
        path = root / 'foreign.db'
        other = sqlite3.connect(str(path))
        other.execute('PRAGMA journal_mode = WAL')
        other.execute('CREATE TABLE entries (a)')
        other.execute('INSERT INTO entries VALUES (1)')
        other.commit()
        before = {name: (root / name).read_bytes() for name in os.listdir(root) if name.startswith('foreign.db')}
        for flag in 'rwcn':
            with pytest.raises(vaults.VaultFormatError, match=r'foreign\.db.*left as it was'):
                Vault(path, flag=flag)
        assert {name: (root / name).read_bytes() for name in before} == before
        other.close()

    def test_a_snapshot_of_a_file_that_changes_while_a_block_is_open_ends_the_block_once(self, root):
        Vault('t').update(k=1)
        file = connection.File(str(root / 'vaults' / 't.db'), 'r', 5.0, 'NORMAL')
        snapshot = Snapshot(file)
        snapshot.execute('BEGIN')
        assert snapshot.execute(schema.GET, ('k',))[0][0] == b'\x01'
        os.utime(file.path, (1, 1))
        snapshot.execute('COMMIT')
        assert not snapshot.in_transaction and snapshot.execute(schema.GET, ('k',))[0][0] == b'\x01'
        snapshot.close()

    def test_a_newer_format_is_left_as_it_was(self, root):
        Vault('new').close()
        path = root / 'vaults' / 'new.db'
        other = sqlite3.connect(str(path))
        other.execute('PRAGMA user_version = 2')
        other.close()
        before = path.read_bytes()
        with pytest.raises(vaults.VaultFormatError, match='format 2.*newer vaults'):
            Vault('new')
        assert path.read_bytes() == before

    def test_a_folder_and_an_empty_file(self, root):
        with pytest.raises(vaults.VaultFormatError, match='folder'):
            Vault(root)
        (root / 'empty.db').touch()
        with pytest.raises(vaults.VaultFormatError, match='empty'):
            Vault(root / 'empty.db', flag='r')
        Vault(root / 'empty.db')['k'] = 1

    @needs_root
    @pytest.mark.skipif(not shutil.which('mount'), reason='needs mount')
    def test_a_full_disk_loses_nothing_and_can_go_on(self, root):
        disk = root / 'disk'
        disk.mkdir()
        if subprocess.call(['mount', '-t', 'tmpfs', '-o', 'size=2m', 'tmpfs', str(disk)], stderr=subprocess.DEVNULL):
            pytest.skip('may not mount')
        try:
            v = Vault(disk / 'v.db')
            written = 0
            with pytest.raises(vaults.VaultFullError, match=r'v\.db.*room') as caught:
                while True:
                    v[written] = b'x' * 20000
                    written += 1
            assert isinstance(caught.value, OSError) and written > 10
            with pytest.raises(vaults.VaultFullError), v:
                for n in range(200):
                    v['block', n] = b'x' * 20000
            assert len(v) == written and all(len(value) == 20000 for value in v.values())
            subprocess.check_call(['mount', '-o', 'remount,size=20m', str(disk)])
            v['more'] = 1
            v._check()
            v.close()
        finally:
            subprocess.check_call(['umount', '-l', str(disk)])

    @pytest.mark.skipif(not LINUX, reason='limits as Linux has them')
    def test_a_file_size_limit_loses_nothing(self, root):
        code = '''
            import resource, sys, vaults
            vaults.set_root_path(sys.argv[1])
            v = vaults.Vault('t')
            v['k'] = 'kept'
            resource.setrlimit(resource.RLIMIT_FSIZE, (200000, resource.RLIM_INFINITY))
            try:
                v['big'] = b'x' * 500000
            except vaults.VaultFullError as error:
                assert 't.db' in str(error), error
            else:
                sys.exit('not full')
            assert v.items() == [('k', 'kept')]
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            v['big'] = b'x' * 500000
            v._check()'''
        output(code, root)
        assert Vault('t').keys() == ['k', 'big']

    def test_a_flipped_byte_is_named_and_never_a_wrong_value(self, root):
        path = root / 'vaults' / 'f.db'
        with Vault('f') as v:
            v.update({f'key-{n}': f'value-{n}' for n in range(50)})
        v.close()
        data = path.read_bytes()
        at = data.index(b'value-17')
        path.write_bytes(data[:at] + b'W' + data[at + 1:])
        v = Vault('f')
        for act in (lambda: v['key-17'], lambda: list(v.items()), lambda: v.pop('key-17')):
            with pytest.raises(vaults.VaultCorruptError, match=r"'key-17'.*f\.db.*backup"):
                act()
        assert v['key-16'] == 'value-16' and len(v) == 50
        (problem,) = v.check()
        assert 'key-17' in problem
        walk = iter(v.keys())
        assert len(list(walk)) == 50

    def test_a_damaged_entry_is_named_by_the_key_that_was_put(self, root):
        path = root / 'vaults' / 'f.db'
        with contextlib.closing(Vault('f')) as v:
            v['log', 2026] = 'the value'
            v.list('list').extend([['item'] * 1000] * 5)
            v['users', 'list'] = v['list']
            del v['list']
        data = path.read_bytes().replace(b'the value', b'the VALUE')
        with contextlib.closing(sqlite3.connect(str(path))) as raw:
            number, = raw.execute('SELECT max(number) FROM parts').fetchone()
        path.write_bytes(data)
        with contextlib.closing(sqlite3.connect(str(path))) as raw:
            raw.execute('DELETE FROM parts WHERE number = ?', (number,))
            raw.commit()
        v = Vault('f')
        with pytest.raises(vaults.VaultCorruptError, match=r"key \('log', 2026\)"):
            v['log', 2026]
        assert any("key ('log', 2026)" in problem for problem in v.check())
        assert any("key ('users', 'list')" in problem for problem in v.check())

    def test_random_flips_are_never_a_wrong_value(self, root):
        import random
        chance = random.Random(7)
        truth = {f'key-{n}': f'value-{n}' * 3 for n in range(100)}
        truth.update({n: n for n in range(50)})
        with Vault('f') as v:
            v.update(truth)
        v.close()
        path = root / 'vaults' / 'f.db'
        data = path.read_bytes()
        raised = 0
        for _ in range(150):
            at = chance.randrange(len(data))
            path.write_bytes(data[:at] + bytes([data[at] ^ chance.randrange(1, 256)]) + data[at + 1:])
            missing = []
            try:
                v = Vault('f', flag='r')
                for key, value in truth.items():
                    try:
                        assert v[key] == value
                    except vaults.VaultCorruptError:
                        raised += 1
                    except KeyError:
                        missing.append(key)
                try:
                    assert all(truth.get(key, value) == value for key, value in v.items())
                except vaults.VaultCorruptError:
                    raised += 1
                assert not missing or v.check()
            except (vaults.VaultCorruptError, vaults.VaultFormatError):
                raised += 1
        assert raised > 3

    def test_a_damaged_row_of_any_type_is_an_error_of_ours(self, v):
        v.update(a=1, b=2)
        c = connection_of(v)
        for column, value in (('value', 'text'), ('value', 5), ('crc', 'x'), ('crc', 2**33)):
            with pytest.raises(ZeroDivisionError), v:
                c.execute(f'UPDATE entries SET {column} = ? WHERE key = ?', (value, 'a'))
                with pytest.raises(vaults.VaultCorruptError, match="'a'"):
                    v['a']
                with pytest.raises(vaults.VaultCorruptError, match="'a'"):
                    v.items()[:]
                assert len(v.check()) == 1
                1 / 0
        with pytest.raises(ZeroDivisionError), v:
            c.execute("UPDATE entries SET key = CAST(x'ff' AS TEXT) WHERE key = 'a'")
            with pytest.raises(vaults.VaultCorruptError, match='damaged'):
                list(v)
            assert v.check()
            1 / 0

    def test_ids_that_run_in_circles_end_every_walk(self, v, monkeypatch):
        v.update(dict.fromkeys(range(100), 0))
        plain = sqlite.SQLiteStore.rows

        def circling(self, c, sql, arguments):
            rows = plain(self, c, sql, arguments)
            return [(1, *row[1:]) for row in rows] if 'LIMIT' in sql and 'WHERE id' in sql else rows
        monkeypatch.setattr(sqlite.SQLiteStore, 'rows', circling)
        for act in (lambda: list(v), lambda: list(reversed(v)), lambda: list(v.items())):
            with pytest.raises(vaults.VaultCorruptError, match='order|32 of 100'):
                act()
        assert 'cannot all be read' in v.check()[-1]
        monkeypatch.undo()

    def test_entries_that_a_damaged_file_hides_are_missed(self, v, monkeypatch):
        v.update(dict.fromkeys(range(100), 0))
        plain = sqlite.SQLiteStore.rows
        monkeypatch.setattr(sqlite.SQLiteStore, 'rows', lambda self, c, sql, arguments: (
            plain(self, c, sql, arguments)[:5] if 'LIMIT' in sql else plain(self, c, sql, arguments)))
        for act in (lambda: list(v), lambda: list(v.items()), lambda: list(v[:])):
            with pytest.raises(vaults.VaultCorruptError, match='5 of 100'):
                act()
        monkeypatch.undo()

    @pytest.mark.parametrize('walk', [Vault.keys, Vault.items])
    def test_a_walk_that_cannot_ask_what_was_deleted_says_so(self, v, monkeypatch, walk):
        v.update(dict.fromkeys(range(20)))
        steps, plain = iter(walk(v)), sqlite.SQLiteStore.rows
        next(steps)
        del v[19]

        def damaged(self, c, sql, arguments):
            if sql == schema.ALIVE:
                raise driver.DriverError('database disk image is malformed')
            return plain(self, c, sql, arguments)
        monkeypatch.setattr(sqlite.SQLiteStore, 'rows', damaged)
        with pytest.raises(vaults.VaultCorruptError, match='malformed'):
            next(steps)
        monkeypatch.undo()

    @pytest.mark.parametrize('flag', 'rwc')
    def test_a_file_cut_off_to_nothing_is_not_taken_for_a_new_one_while_its_log_holds_commits(self, root, v, flag):
        v.update(dict.fromkeys(range(100), 'there'))
        for ending in ('', '-wal'):
            shutil.copyfile(v.db_path + ending, root / f'cut.db{ending}')
        (root / 'cut.db').write_bytes(b'')
        log_ = (root / 'cut.db-wal').read_bytes()
        with pytest.raises(vaults.VaultCorruptError, match='empty.*recover'):
            Vault(root / 'cut.db', flag=flag)
        assert (root / 'cut.db-wal').read_bytes() == log_
        assert recovery.recover(root / 'cut.db', root / 'good.db').recovered == 100

    def test_a_damaged_schema_is_an_error_of_ours(self, root):
        with Vault('s') as v:
            v['k'] = 1
        v.close()
        path = root / 'vaults' / 's.db'
        data = path.read_bytes()
        at = data.index(b'CREATE TABLE')
        for place in range(at - 25, at + 60):
            path.write_bytes(data[:place] + bytes([data[place] ^ 0xe2]) + data[place + 1:])
            try:
                v = Vault('s')
                assert v.get('k', 1) == 1
            except vaults.VaultError as error:
                assert 's.db' in str(error)

    def test_what_a_signal_handler_raises_is_not_taken_for_damage(self, v):
        class Stop(Exception):
            pass

        def stop(data, inner):
            raise Stop
        v['k'] = {1}
        kept, DECODERS[codes.SET] = DECODERS[codes.SET], stop
        try:
            for act in (lambda: v['k'], lambda: v.get('k'), lambda: list(v.items()), v.check):
                with pytest.raises(Stop):
                    act()
        finally:
            DECODERS[codes.SET] = kept

    def test_a_value_too_large_for_sqlite_is_said_to_be(self, v):
        raw_of(v).execute('PRAGMA user_version')
        if limit_length(v, 100000):
            with pytest.raises(vaults.SerializationError, match='larger'):
                v['big'] = b'x' * 200000
            assert 'big' not in v

    def test_an_old_sqlite_is_a_clear_error(self, monkeypatch, root):
        monkeypatch.setattr(driver.current(), 'VERSION_INFO', (3, 34, 1))
        with pytest.raises(vaults.VaultError, match=r'3\.35'):
            Vault('x')

    def test_chained_and_never_bare(self, v):
        other = Vault('test', timeout=0)
        with v, pytest.raises(vaults.VaultBusyError) as caught, concurrent.futures.ThreadPoolExecutor(1) as another:
            another.submit(other.__setitem__, 'k', 1).result()
        assert isinstance(caught.value.__cause__, driver.Error)


class TestLog:
    def test_importing_adds_at_most_a_null_handler(self):
        code = '''
            import logging, vaults
            logger = logging.getLogger('vaults')
            print([type(handler).__name__ for handler in logger.handlers], logging.getLogger().handlers)'''
        assert output(code) == "['NullHandler'] []"

    def test_a_logger_of_ones_own(self, caplog):
        mine = logging.getLogger('mine')
        vaults.set_logger(mine)
        try:
            assert log.get_logger() is mine
        finally:
            vaults.set_logger(None)
        assert log.get_logger().name == 'vaults'
