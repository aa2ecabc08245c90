"""Where a vault is: names, roots, and the modes that a file is opened in."""
from __future__ import annotations

import contextlib
import io
import os
import pathlib
import re
import subprocess
import sys
import textwrap

import pytest

import vaults
from vaults import Vault, recovery

from .helpers import HERE, needs_root


class TestPlaces:
    def test_the_root_is_the_set_path_or_the_variable_or_the_current_folder(self, tmp_path, monkeypatch):
        assert Vault('a').db_path == str(tmp_path / 'vaults' / 'a.db')
        vaults.set_root_path(None)
        monkeypatch.setenv('VAULTS_ROOT', str(tmp_path / 'env'))
        assert Vault('a').db_path == str(tmp_path / 'env' / 'vaults' / 'a.db')
        monkeypatch.delenv('VAULTS_ROOT')
        monkeypatch.chdir(tmp_path)
        assert os.path.samefile(os.path.dirname(Vault('b').db_path), tmp_path / 'vaults')

    @pytest.mark.parametrize('name', ['', 'a/b', 'a\\b', '..', 'a..b', 'a\0b', '/abs'])
    def test_a_name_that_is_a_path_is_refused(self, name, root):
        with pytest.raises(vaults.VaultError, match='pathlib'):
            Vault(name)

    @pytest.mark.parametrize('name', ['my.db', 'my.DB', 'my.Db', 'a.b.db', '.db'])
    def test_a_name_that_ends_as_a_file_does_is_refused_with_both_cures(self, name, root):
        for make in (Vault, lambda name: Vault(name, flag='r'), lambda name: recovery.recover(name, 'good'),
                     lambda name: recovery.recover('bad', name)):
            with pytest.raises(vaults.VaultError) as caught:
                if make is not Vault or name != '.db':
                    Vault('bad').close()
                make(name)
            assert f"pathlib.Path({name!r}) for exactly that file" in str(caught.value)
            assert (f'Vault({name[:-3]!r})' in str(caught.value)) == (name != '.db')
        assert sorted(os.listdir(root / 'vaults')) == ['bad.db']
        v = Vault(root / name)
        assert v.db_path == str(root / name)
        v.close()

    def test_what_a_name_with_the_ending_has_made_before_is_named(self, root):
        old = root / 'vaults' / 'my.db.db'
        Vault(old).close()
        with pytest.raises(vaults.VaultError, match=re.escape(f'it was made as {old}')):
            Vault('my.db')

    def test_other_endings_are_part_of_a_name(self, root):
        for name in ('my.sqlite', 'my.db3', 'my.db.old', 'db', 'mydb', 'a.b'):
            with contextlib.closing(Vault(name)) as v:
                assert (v.name, os.path.basename(v.db_path)) == (name, name + '.db')

    @pytest.mark.parametrize('name, words', [
        ({}, 'v.update'), ({'a': 1}, 'v.update'), ([('a', 1)], 'v.update'), ((), 'v.update'), (None, "Vault('name')"),
        (5, "Vault('name')"), (True, "Vault('name')"), (b'x', 'os.fsdecode'), (bytearray(b'x'), 'os.fsdecode'),
        (io.BytesIO(), 'pathlib.Path')])
    def test_what_is_no_name_is_a_type_error_with_the_cure(self, name, words, root):
        for make in (Vault, lambda name: Vault(name, flag='r'), lambda name: Vault(name, thread_safe=True),
                     lambda name: Vault(name, writeback=True), lambda name: recovery.recover(name, 'x')):
            with pytest.raises(TypeError, match=re.escape(words)) as caught:
                make(name)
            assert type(name).__name__ in str(caught.value)
        assert not (root / 'vaults').exists() or os.listdir(root / 'vaults') == []

    def test_paths_of_bytes_are_those_of_text(self, root):
        v = Vault('a')
        v.backup(os.fsencode(root / 'copy'))
        assert (root / 'copy').is_file()
        vaults.set_root_path(os.fsencode(root / 'other'))
        Vault('b').close()
        assert (root / 'other' / 'vaults' / 'b.db').is_file() and not list(root.glob("b'*"))
        for wrong in (5, {}, [1]):
            with pytest.raises(TypeError, match='os.PathLike'):
                vaults.set_root_path(wrong)
            with pytest.raises(TypeError, match='os.PathLike'):
                v.backup(wrong)
        v.close()

    @pytest.mark.parametrize('name', ['x' * 245, '\ud800'])
    def test_a_name_that_no_file_can_have_is_refused(self, name, root):
        with pytest.raises(vaults.VaultError, match='name'):
            Vault(name)
        assert os.listdir(root / 'vaults') == []

    @pytest.mark.parametrize('name', ['per%20cent', 'quest?ion', 'ha#sh', 'sp ace', 'ünïcode', 'quo\'te"', 'x' * 240, 'a&b=c'])
    def test_any_other_name_is_a_file_of_that_name(self, name, root):
        v = Vault(name)
        v['k'] = 1
        v.close()
        assert os.listdir(root / 'vaults') == [name + '.db']
        assert Vault(name, flag='r')['k'] == 1
        v = Vault(root / 'vaults' / (name + '.db'))
        assert (v.name, v['k']) == (name, 1)

    def test_a_path_is_an_exact_file(self, root):
        v = Vault(root / 'exact.anything')
        v['k'] = 1
        assert (v.name, v.db_path) == ('exact', str(root / 'exact.anything'))
        with pytest.raises(vaults.VaultNotFoundError, match='missing'):
            Vault(root / 'missing' / 'x.db')

    def test_memory_is_no_file(self, root):
        v = Vault(':memory:')
        v['k'] = 1
        assert (v.name, v.db_path, v['k']) == (':memory:', ':memory:', 1)
        assert 'k' not in Vault(':memory:')
        v.delete_vault()
        assert os.listdir(root / 'vaults') == []

    def test_flags_are_dbms(self, root):
        for flag in 'rw':
            with pytest.raises(vaults.VaultNotFoundError, match=re.escape(str(root / 'vaults' / 'x.db'))):
                Vault('x', flag=flag)
        with pytest.raises(vaults.VaultNotFoundError):
            Vault('x', to_create=False)
        assert not (root / 'vaults' / 'x.db').exists()
        with Vault('x', flag='c') as v:
            v['k'] = 1
        assert Vault('x', to_create=False)['k'] == 1
        assert Vault('x', flag='w')['k'] == 1
        assert len(Vault('x', flag='n')) == 0

    def test_wrong_arguments_are_value_errors_and_type_errors_too(self, root):
        def check(kind, options):
            for opened in (lambda: Vault('x', **options), lambda: vaults.Shelf(root / 'x', **options)):
                with pytest.raises(vaults.VaultError, match=next(iter(options))) as caught:
                    opened()
                assert isinstance(caught.value, kind) and not isinstance(caught.value, vaults.SerializationError)
        for options in ({'flag': 'x'}, {'flag': ''}, {'flag': 'rw'}, {'synchronous': 'MAYBE'}, {'timeout': -1},
                        {'timeout': float('nan')}, {'timeout': 1e300}, {'cache_size': 0}, {'cache_size': -5}):
            check(ValueError, options)
        for options in ({'flag': None}, {'flag': 5}, {'flag': True}, {'flag': ['r']}, {'synchronous': 1}, {'synchronous': None},
                        {'timeout': 'x'}, {'timeout': True}, {'timeout': None}, {'cache_size': 1.5}, {'cache_size': True},
                        {'cache_size': 'a'}, {'writeback': 'r'}, {'writeback': None}, {'validate': 5}, {'allow_pickle': 5},
                        {'allow_pickle': 'yes'}, {'serializer': 5}, {'serializer': (1, 2, 3)}):
            check(TypeError, options)
        with pytest.raises(ValueError, match='flag') as caught:
            vaults.open(root / 'p', 'bad')
        assert isinstance(caught.value, vaults.VaultError)
        with pytest.raises(ValueError, match='always new'):
            Vault(':memory:', flag='r')
        assert not (root / 'vaults').exists() or os.listdir(root / 'vaults') == []

    @pytest.mark.parametrize('wrong', ['r', 'c', 'n', 'w', 0, 1, None, 5.0, 'rw'])
    def test_a_flag_in_the_second_place_is_told_where_it_goes(self, root, wrong):
        for opened in (lambda: Vault('a', wrong), lambda: Vault('a', True, wrong), lambda: Vault('a', thread_safe=wrong)):
            with pytest.raises(TypeError, match='flag=') as caught:
                opened()
            assert isinstance(caught.value, vaults.VaultError)
        assert not (root / 'vaults').exists() or os.listdir(root / 'vaults') == []
        with vaults.open(root / 'shelf', 'c', None, 1) as shelf:
            shelf['a'] = []
            shelf['a'].append(1)
        with vaults.open(root / 'shelf', 'r') as shelf:
            assert shelf['a'] == [1]

    def test_what_is_no_name_or_path_is_said_to_be_none(self, root):
        for name in ('', 'a/b', 'x' * 300, '\ud800', 'a\0b'):
            with pytest.raises(ValueError, match='name'):
                Vault(name)
        for wrong in ({}, {'a': 1}, 5, None, [], object(), Vault(':memory:')):
            with pytest.raises(TypeError, match="Vault.'name'") as caught:
                Vault(wrong)
            assert isinstance(caught.value, vaults.VaultError)
            with pytest.raises(TypeError, match='path') as caught:
                vaults.Shelf(wrong)
            assert isinstance(caught.value, vaults.VaultError)
            if wrong is not None:
                with pytest.raises(TypeError, match='path') as caught:
                    vaults.set_root_path(wrong)
                assert isinstance(caught.value, vaults.VaultError)
        for act in (lambda: vaults.set_root_path('a\0b'), lambda: Vault(pathlib.Path('a\0b'))):
            with pytest.raises(ValueError, match='NUL') as caught:
                act()
            assert isinstance(caught.value, vaults.VaultError)
        assert vaults.opening._root == str(root)

    @pytest.mark.parametrize('size', [512, 4096, 12288])
    @pytest.mark.parametrize('flag', ['c', 'r'])
    def test_a_vault_whose_making_a_power_cut_ended_is_made_anew(self, root, flag, size):
        v = Vault('t')
        v.close()
        whole = pathlib.Path(v.db_path).read_bytes()
        journal = bytes.fromhex('d9d505f920a163d7 00000000 00000000 00000000 00000200 00001000').ljust(512, b'\0')
        for left in (whole[:size], bytes(size), b'\xa5' * size):  # new space holds what was written, nothing, or anything
            pathlib.Path(v.db_path).write_bytes(left)
            pathlib.Path(v.db_path + '-journal').write_bytes(journal)  # SQLite's: the file had no page, back to that
            if flag == 'r':
                with pytest.raises(vaults.VaultFormatError, match='empty, not a vault'):
                    Vault('t', flag='r')
                continue
            v = Vault('t')
            v['a'] = 1
            v._check()
            v.close()
            assert os.listdir(root / 'vaults') == ['t.db']

    def test_reading_writes_nothing_and_leaves_no_file(self, root):
        with Vault('x') as v:
            v['k'] = 1
        v.close()
        before = (root / 'vaults' / 'x.db').read_bytes()
        r = Vault('x', flag='r')
        with r:
            assert r.items() == [('k', 1)]
        for act in (lambda: r.put('k', 2), r.clear, r.popitem, lambda: r.update(a=1), r.delete_vault, r.compact,
                    lambda: r.__delitem__('k')):
            with pytest.raises(vaults.VaultReadOnlyError) as caught:
                act()
            assert isinstance(caught.value, PermissionError)
        r.sync()
        assert r.check() == [] and r['k'] == 1
        r.close()
        assert os.listdir(root / 'vaults') == ['x.db']
        assert (root / 'vaults' / 'x.db').read_bytes() == before

    @needs_root
    def test_a_read_only_folder_can_be_read_while_another_writes(self, root):
        v = Vault('x')
        v['k'] = 1
        v.close()
        for place in (root, *root.parents):
            if place != pathlib.Path('/') and (os.stat(place).st_mode & 0o5) != 0o5:
                os.chmod(place, os.stat(place).st_mode | 0o5)
        code = '''
            import os, sys, pathlib, sqlite3, vaults.stores.sqlite.store
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            path = pathlib.Path(sys.argv[1])
            v = vaults.Vault(path, flag='r')
            for line in sys.stdin:
                with v:
                    print(v.items(), len(v), v.check(), flush=True)
            v.backup(sys.argv[2])
            print(vaults.Vault(pathlib.Path(sys.argv[2])).items(), flush=True)
            try:
                vaults.Vault(path)
            except vaults.VaultReadOnlyError as error:
                print(error, flush=True)
            '''
        os.chmod(root / 'vaults', 0o755)
        env = {**os.environ, 'PYTHONPATH': str(HERE)}
        (root / 'open').mkdir()
        os.chmod(root / 'open', 0o777)
        with subprocess.Popen([sys.executable, '-c', textwrap.dedent(code), str(root / 'vaults' / 'x.db'),
                               str(root / 'open' / 'copy.db')], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, universal_newlines=True) as reader:
            def ask():
                reader.stdin.write('\n')
                reader.stdin.flush()
                return reader.stdout.readline().strip()
            try:
                assert ask() == "[('k', 1)] 1 []"
                assert os.listdir(root / 'vaults') == ['x.db']
                v = Vault('x')
                v['l'] = 2
                assert ask() == "[('k', 1), ('l', 2)] 2 []"
                v['k'] = 3
                v.close()
                assert ask() == "[('k', 3), ('l', 2)] 2 []"
                reader.stdin.close()
                assert reader.stdout.readline() == "[('k', 3), ('l', 2)]\n"
                assert "flag='r'" in reader.stdout.readline()
            finally:
                reader.kill()

    def test_deleting_takes_the_three_files_and_nothing_else(self, root):
        other = Vault('other')
        v = Vault('x')
        v['k'] = 1
        assert {'x.db', 'x.db-wal', 'x.db-shm'} <= set(os.listdir(root / 'vaults'))
        v.delete_vault()
        assert not [name for name in os.listdir(root / 'vaults') if name.startswith('x')]
        with pytest.raises(vaults.VaultClosedError):
            v['k']
        other['k'] = 1
