"""The command: what each subcommand does and prints."""
from __future__ import annotations

import collections
import contextlib
import io
import itertools
import json
import os
import pathlib
import pickle
import re
import shutil
import sqlite3
import subprocess
import sys

import pytest

import vaults
from vaults import Vault, cli
from vaults.cli import progress as progress_line
from vaults.cli.arguments import OTHER_WORDS
from vaults.cli.commands import COMMANDS, unmake
from vaults.cli.show import OUR_CURES, RACE
from vaults.stores.sqlite import checkpoint, driver
from vaults.views import SortedSlice

from .helpers import needs_posix, output, run
from .peers import seen
from .programs import Planted, at_terminal, finished, spawn
from .samples import plant


class TestCommand:
    def test_a_value_that_was_set_is_got_listed_counted_and_deleted(self, command, root):
        assert command('set', 'books', 'dune', 'Frank Herbert').status == 0
        assert command('get', 'books', 'dune').out == 'Frank Herbert\n'
        assert Vault(pathlib.Path(root, 'vaults', 'books.db')).items() == [('dune', 'Frank Herbert')]
        assert command('list').out == 'books\n'
        assert command('count', 'books').out == '1\n'
        done = command('delete', 'books', 'dune')
        assert (done.status, done.out, done.err) == (0, '', '')
        assert command('count', 'books').out == '0\n'

    def test_a_vault_is_a_name_under_the_root_or_a_path(self, command, root, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        command('--root', tmp_path / 'one', 'set', 'x', 'k', 'under a root')
        command('set', tmp_path / 'two', 'k', 'a separator')
        command('set', 'three.db', 'k', 'an ending')
        assert command('get', tmp_path / 'one' / 'vaults' / 'x.db', 'k').out == 'under a root\n'
        assert command('get', './two', 'k').out == 'a separator\n'
        assert command('get', tmp_path / 'three.db', 'k').out == 'an ending\n'

    def test_root_and_json_stand_before_or_after_the_command(self, command, tmp_path):
        for arguments in (['--root', tmp_path, '--json', 'set', 'x', '1', '[1]'],
                          ['set', '--json', 'y', '2', '[2]', '--root', tmp_path],
                          ['--json', 'set', f'--root={tmp_path}', 'z', '3', '[3]']):
            assert command(*arguments).status == 0
        assert command('list', '--root', tmp_path, '--json').out == '["x", "y", "z"]\n'
        assert command('--root', '/nowhere', 'get', 'y', '2', '--json', '--root', tmp_path).out == '[2]\n'

    @pytest.mark.parametrize('name', ['list', 'get', 'set', 'put', 'copy', 'shell', 'serve'])
    def test_the_help_says_which_variables_it_takes(self, command, name):
        for text in (command('--help').out, command(name, '--help').out):
            assert 'VAULTS_ROOT' in text and 'VAULTS_TOKEN' in text

    def test_list_names_vaults_alone_and_an_empty_root_has_none(self, command, root, books):
        (root / 'vaults' / 'notes.txt').write_text('')
        (root / 'vaults' / 'folder.db').mkdir()
        command('set', 'a b', 'k', 'v')
        assert command('list').out == 'a b\nbooks\n'
        (root / 'empty').mkdir()
        done = command('list', '--root', root / 'empty')
        assert (done.status, done.out) == (0, '')
        assert command('list', '--root', root / 'nowhere').status == 1

    def test_keys_are_sorted_and_shown_as_text_or_as_json(self, command, books):
        assert command('keys', 'books').out.splitlines() == ['7', 'dune', 'emma', '{"!bytes": "AA=="}', '["log", 2026]']
        assert command('keys', 'books', '--reverse', '--limit', 2).out.splitlines() == ['["log", 2026]',
                                                                                       '{"!bytes": "AA=="}']
        assert command('keys', 'books', '--json', '--limit', 2).out.splitlines() == ['7', '"dune"']
        assert command('keys', 'books', '--limit', 0).out == ''

    def test_ranges_are_half_open_and_meet_prefixes(self, command, root):
        v = Vault(pathlib.Path(root, 'vaults', 'r.db'))
        v.update(dict.fromkeys(['a', 'aa', 'ab', 'ac', 'b', 'null', None, 1, 2, 3, ('a', 1), ('a', 2), ('b',)], 0))
        v.close()

        def seen(*arguments):
            found = command('keys', 'r', *arguments).out.replace(' ', '').splitlines()
            assert command('count', 'r', *arguments).out == f'{len(found)}\n'
            assert len(command('show', 'r', *arguments).out.splitlines()) == len(found)
            return found
        assert seen('--from', 'aa', '--to', 'b') == ['aa', 'ab', 'ac']
        assert seen('--from', 'b', '--to', 'aa') == []
        assert seen('--prefix', 'a') == ['a', 'aa', 'ab', 'ac']
        assert seen('--prefix', 'a', '--from', 'aa', '--to', 'zz') == ['aa', 'ab', 'ac']
        assert seen('--prefix', 'a', '--from', 'A', '--to', 'ab') == ['a', 'aa']
        assert seen('--json', '--from', '2', '--to', '"aa"') == ['2', '3', '"a"']
        assert seen('--json', '--prefix', '["a"]') == ['["a",1]', '["a",2]']
        assert seen('--json', '--from', 'null', '--to', '["a"]') == ['null']
        assert len(seen()) == 13

    def test_get_shows_text_as_it_is_and_all_else_as_json(self, command, root):
        v = Vault(pathlib.Path(root, 'vaults', 'g.db'))
        for value, shown in (('a\nb\té', 'a\nb\té'), ('', ''), (1, '1'), (None, 'null'), ([1, 'é'], '[1, "é"]'),
                             ({'a': (1,)}, '{"a": {"!tuple": [1]}}'), ([b'\0'], '[{"!bytes": "AA=="}]'),
                             (float('nan'), '{"!float": "nan"}'), (2**70, '{"!int": "0x400000000000000000"}')):
            v['k'] = value
            assert command('get', 'g', 'k').out == shown + '\n'
        v['k'] = 'a\n"é"'
        assert command('get', 'g', '"k"', '--json').out == '"a\\n\\"é\\""\n'
        v.close()

    def test_a_value_comes_from_standard_input(self, command):
        for typed, kept in ((b'', ''), (b'\n', ''), (b'a\n\n', 'a\n'), (b'\xc3\xa9', '\xe9'), (b'a\r\nb', 'a\r\nb')):
            assert command('set', 's', 'k', '-', stdin=typed).status == 0
            assert command('get', 's', 'k').out == kept + '\n'
        assert command('set', 's', '"k"', '-', '--json', stdin=b'{"a":\n [1]}\n').status == 0
        assert command('get', 's', 'k').out == '{"a": [1]}\n'
        assert command('set', 's', '-', 'v').status == 0
        assert command('get', 's', '-').out == 'v\n'

    def test_show_is_an_aligned_table(self, command, root, monkeypatch):
        monkeypatch.setenv('COLUMNS', '30')
        v = Vault(pathlib.Path(root, 'vaults', 't.db'))
        v.update({'a': 'short', 'exactly': 'x' * 13, 'over': 'x' * 14, '日本': 'wide', 'e\u0301e\u0301': 'two columns', 'long': 'x' * 99, 'wide': '語' * 99,
                  'z' * 40: [1, 2, 3]})
        v.close()
        assert command('show', 't').out.splitlines() == [
            'a                short',
            'exactly          xxxxxxxxxxxxx',
            'e\u0301e\u0301               two columns',
            'long             xxxxxxxxxxxx…',
            'over             xxxxxxxxxxxx…',
            'wide             語語語語語語…',
            'zzzzzzzzzzzzzz…  [1, 2, 3]',
            '日本             wide']

    def test_show_tells_how_many_more_there_are(self, command, root):
        v = Vault(pathlib.Path(root, 'vaults', 'm.db'))
        v.update((n, n) for n in range(60))
        v.close()
        lines = command('show', 'm').out.splitlines()
        assert len(lines) == 51 and lines[:2] == ['0   0', '1   1'] and lines[50] == '... and 10 more'
        assert command('show', 'm', '--limit', 2, '--reverse').out.splitlines() == ['59  59', '58  58', '... and 58 more']
        assert len(command('show', 'm', '--limit', 60).out.splitlines()) == 60
        assert len(command('show', 'm', '--json').out.splitlines()) == 60  # a program wants them all
        assert len(command('show', 'm', '--json', '--limit', 2).out.splitlines()) == 2

    def test_show_as_json_is_what_export_writes(self, command, books):
        shown = command('show', 'books', '--json').out.splitlines()
        assert sorted(shown) == sorted(command('export', 'books').out.splitlines())
        assert json.loads(shown[0]) == {'key': 7, 'value': [1, 2]}

    def test_info_says_what_there_is(self, command, root, books):
        command('set', 'books', 'large', 'x' * 5000)
        facts = json.loads(command('info', 'books', '--json').out)
        size = os.path.getsize(root / 'vaults' / 'books.db')
        assert facts.pop('largest')[0] == {'key': 'large', 'bytes': 5003}
        assert facts == {'name': 'books', 'path': str(root / 'vaults' / 'books.db'), 'format': 1, 'bytes': size,
                         'entries': 6, 'sections': ['log'], 'driver': driver.current().NAME, 'sqlite': driver.current().VERSION,
                         'journal': 'wal', 'wal_reset_race': checkpoint.has_wal_reset_race(driver.current().VERSION_INFO)}
        lines = command('info', 'books').out.splitlines()
        assert f'bytes     {size}' in lines and 'largest   5003 bytes: large' in lines and len(lines) == 14
        race = 'keep other programs than vaults' in next(line for line in lines if line.startswith('sqlite '))
        assert race == facts['wal_reset_race'] and RACE.index('can damage') < RACE.index('keep other') < RACE.index('cannot')
        affected = [checkpoint.has_wal_reset_race(version) for version in (
            (3, 40, 1), (3, 44, 5), (3, 44, 6), (3, 45, 0), (3, 50, 6), (3, 50, 7), (3, 51, 2), (3, 51, 3), (3, 53, 0))]
        assert affected == [True, True, False, True, True, False, True, False, False]

    def test_check_says_sound_or_names_the_problems(self, command, root, books):
        done = command('check', 'books')
        assert (done.status, done.out) == (0, 'sound: 5 entries\n')
        assert command('check', 'books', '--json').out == '[]\n'
        raw = sqlite3.connect(root / 'vaults' / 'books.db')
        raw.execute("UPDATE entries SET value = x'01' WHERE key = 'dune'")
        raw.commit()
        raw.close()
        done = command('check', 'books')
        assert done.status == 1 and "'dune'" in done.out and done.out.count('\n') == 1
        done = command('check', 'books', '--json')
        assert done.status == 1 and len(json.loads(done.out)) == 1
        assert command('get', 'books', 'dune').status == 1

    def test_compact_gives_space_back_and_says_how_much(self, command, root):
        v = Vault(pathlib.Path(root, 'vaults', 'c.db'))
        v.update((n, 'x' * 1000) for n in range(500))
        del v[10:]
        v.close()
        done = json.loads(command('compact', 'c', '--json').out)
        assert done['before'] > 500_000 > 50_000 > done['after'] == os.path.getsize(root / 'vaults' / 'c.db')
        assert command('compact', 'c').out == f"{done['after']} bytes before, {done['after']} after\n"

    def test_a_folder_in_the_way_is_called_one(self, command, root, books):
        for verb, place in (('backup', root), ('backup', f'{root}/'), ('recover', f'{root}/')):
            done = command(verb, 'books', place)
            assert done.status == 1 and done.out == '', done.out
            assert done.err == f'vaults: there is a folder at {root} already: give the path of a new file\n'
        assert 'a name is not "."' in command('recover', 'books', '.').err and not (root / 'vaults' / '..db').exists()
        with pytest.raises(vaults.VaultValueError, match='a name is not "."'):
            Vault('.')

    def test_backup_writes_a_whole_copy_and_refuses_to_overwrite(self, command, root, books):
        target = root / 'copy.db'
        done = command('backup', 'books', target)
        assert (done.status, done.out) == (0, f'{target.stat().st_size} bytes written to {target}\n')
        assert command('export', target).out == command('export', 'books').out != ''
        before = target.read_bytes()
        assert command('backup', 'books', target).status == 1 and target.read_bytes() == before
        assert command('backup', 'books', root / 'other.db', '--json').out == f'{{"bytes": {len(before)}}}\n'

    def test_what_was_exported_is_imported(self, command, root, books):
        done = command('export', 'books', root / 'books.jsonl')
        assert (done.status, done.out) == (0, f"5 entries written to {root / 'books.jsonl'}\n")
        assert command('export', 'books', '-').out == (root / 'books.jsonl').read_text('utf-8')
        assert command('export', 'books', root / 'books.jsonl').status == 1
        assert command('import', root / 'books.jsonl', 'new').out == '5 entries imported, 0 of them replaced earlier ones\n'
        command('delete', 'new', 'dune')
        lines = (root / 'books.jsonl').read_bytes()
        assert command('import', '-', 'new', '--json', stdin=lines).out == '{"imported": 5, "replaced": 4}\n'
        assert sorted(command('export', 'new').out.splitlines()) == sorted(command('export', 'books').out.splitlines())

    def test_import_passes_its_options_on(self, command, root):
        (root / 'people').write_text('id,name\n1,Zoë\n', 'latin-1')
        done = command('import', root / 'people', 'p', '--kind', 'csv', '--key', 'id', '--encoding', 'latin-1')
        assert done.out == '1 entry imported, 0 of them replaced earlier ones\n', done.err
        assert command('get', 'p', '1').out == '{"name": "Zoë"}\n'
        (root / 'object').write_text('{"key": "a", "value": 1}')
        assert command('import', root / 'object', 'o', '--kind', 'json').status == 0
        assert command('export', 'o').out == '{"key": "key", "value": "a"}\n{"key": "value", "value": 1}\n'
        assert command('import', '-', 'o', '--encoding', 'nonsense').status == 2
        command('import', '-', 'o', '--encoding', 'None', stdin='{"key": "none", "value": "é"}'.encode())
        assert command('get', 'o', 'none').out == 'é\n'
        done = command('import', '-', 'o', '--encoding', 'latin-1', stdin=b'{"key": "l", "value": "\xe9"}')
        assert command('get', 'o', 'l').out == 'é\n'
        command('import', '-', 'o', stdin=b'\xef\xbb\xbf{"key": "bom", "value": 1}')
        assert command('get', 'o', 'bom').out == '1\n'
        assert 'latin-1' in command('import', '-', 'o', stdin=b'{"key": "l", "value": "\xe9"}').err
        raw = sqlite3.connect(root / 'lite.db')
        for table in 'ab':
            raw.execute(f'CREATE TABLE {table} (key TEXT PRIMARY KEY, value BLOB)')
            raw.execute(f'INSERT INTO {table} VALUES (?, ?)', (table, pickle.dumps([Planted(root / f'made {table}'), collections.OrderedDict(a=1)])))
        raw.commit()
        raw.close()
        (root / 'lite.db').chmod(0o666)
        (root / 'vaults').chmod(0o777)
        assert command('import', root / 'lite.db', 'lite', '--table', 'a').status == 1
        assert not (root / 'made a').exists()
        assert command('import', root / 'lite.db', 'lite', '--table', 'a', '--allow-pickle').status == 0
        assert (root / 'made a').exists() and not (root / 'made b').exists()
        assert command('keys', 'lite').out == 'a\n'
        assert command('get', 'lite', 'a', '--allow-pickle').out == repr([None, collections.OrderedDict(a=1)]) + '\n'

    def test_shell_has_the_vault_open_and_closes_it(self, root, books):
        env = {'VAULTS_ROOT': str(root)}
        done = finished(spawn('shell', 'books', stdin=subprocess.PIPE, env=env),
                        b"print(v['dune'], vaults.__version__)\nv['new'] = 1\nraise SystemExit(3)\n")
        assert (done.status, done.out, done.err) == (3, f'Frank Herbert {vaults.__version__}\n', '')
        assert Vault(pathlib.Path(books.db_path))['new'] == 1
        done = finished(spawn('shell', 'books', stdin=subprocess.PIPE, env=env), b'1 +\nlen(v)\nclass C: 0\n\nC\n')
        assert done.status == 0 and done.out == "6\n<class '__console__.C'>\n" and 'SyntaxError' in done.err

    @needs_posix
    def test_shell_at_a_terminal_greets_and_goes_on_after_ctrl_c(self, root, books):
        done = at_terminal(root, 'shell', 'books', typed=b"\x03v['dune']\nexit(4)\n")
        assert done.status == 4 and "Vault('books', 5 items) is v" in done.seen and "'Frank Herbert'" in done.seen


class TestCommandReading:
    READING = [['list'], ['keys', 'x'], ['get', 'x', 'k'], ['count', 'x'], ['show', 'x'], ['info', 'x'], ['check', 'x'],
               ['backup', 'x', 'FILE'], ['export', 'x'], ['export', 'x', 'FILE'], ['delete', 'x', 'k'], ['compact', 'x']]

    @pytest.mark.parametrize('arguments', READING, ids=' '.join)
    def test_it_does_not_make_what_is_missing(self, command, tmp_path, arguments):
        (tmp_path / 'empty').mkdir()
        before = seen(tmp_path)
        arguments = [str(tmp_path / 'file') if word == 'FILE' else word for word in arguments]
        for root in (tmp_path / 'empty', tmp_path / 'nowhere'):
            done = command('--root', root, *arguments)
            assert done.status == (0 if arguments == ['list'] and root.exists() else 1)
            assert done.err == '' if done.status == 0 else done.err.startswith('vaults: ')
        assert command(*[str(tmp_path / 'n' / 'x.db') if word == 'x' else word for word in arguments]).status in (0, 1)
        assert seen(tmp_path) == before

    @pytest.mark.parametrize('arguments', [one for one in READING[:-2] if 'FILE' not in one], ids=' '.join)
    def test_it_leaves_no_trace_beside_what_is_there(self, command, root, arguments):
        command('set', 'x', 'k', 'v')
        raw = sqlite3.connect(root / 'vaults' / 'x.db')
        assert raw.execute('PRAGMA journal_mode = DELETE').fetchone() == ('delete',)  # which opening to write undoes
        raw.close()
        before = seen(root)
        assert command(*arguments).status == 0
        assert seen(root) == before

    def test_no_pickle_runs_until_it_is_allowed(self, command, root, tmp_path):
        v = Vault(pathlib.Path(root, 'vaults', 'p.db'))
        v['k'] = [1, Planted(tmp_path / 'made')]
        v.close()
        shutil.rmtree(tmp_path / 'made', ignore_errors=True)  # a put tries whether the first of a class can be loaded
        form = json.loads(command('get', 'p', 'k').out)
        assert form[1]['!pickle'][0] in ('posix.mkdir', 'nt.mkdir')
        for arguments in (['show', 'p'], ['show', 'p', '--json'], ['keys', 'p'], ['info', 'p'], ['check', 'p'], ['export', 'p'],
                          ['count', 'p'], ['get', 'p', '"k"', '--json', '--allow-pickle'], ['compact', 'p'],
                          ['backup', 'p', str(tmp_path / 'copy')]):
            assert command(*arguments).status == 0
        assert command('set', 'q', '"k"', json.dumps(form), '--json').status == 2
        assert command('set', 'q', '"k"', json.dumps(form), '--json', '--allow-pickle').status == 0
        assert command('export', 'q').out == command('export', 'p').out
        assert command('import', '-', 'r', stdin=command('export', 'p').out.encode()).status == 1
        assert not (tmp_path / 'made').exists()
        done = command('get', 'p', 'k', '--allow-pickle')
        assert (done.status, done.out) == (0, '[1, None]\n') and (tmp_path / 'made').exists()
        assert command('get', 'p', 'k', '--allow-pickle').status == 1  # it cannot be made twice

    def test_a_vault_is_copied_into_another(self, command, root, books, tmp_path):
        done = command('copy', 'books', 'copy')
        assert (done.status, done.out, done.err) == (0, '5 entries copied to copy\n', '')
        assert command('export', 'copy').out == command('export', 'books').out
        assert command('copy', tmp_path / 'vaults' / 'copy.db', tmp_path / 'new.db', '--json').out == '{"copied": 5}\n'
        assert command('export', tmp_path / 'new.db').out == command('export', 'books').out
        command('set', 'copy', 'own', '1')
        done = command('copy', 'books', 'copy')
        assert done.status == 1 and 'there are 6 entries' in done.err and '--merge' in done.err and 'merge=True' not in done.err
        assert command('copy', 'books', 'copy', '--merge').status == 0 and command('count', 'copy').out == '6\n'
        assert command('copy', 'none', 'other').status == 1 and command('copy', 'books', 'books').status == 1
        assert command('copy', 'books').status == command('copy', ':memory:', 'x').status == 2
        assert sorted(os.listdir(root / 'vaults')) == ['books.db', 'copy.db']

    @needs_posix
    def test_a_pickle_is_copied_where_nobody_else_may_write(self, command, root):
        with contextlib.closing(Vault('p')) as v:
            plant(v, root / 'ran')
        assert command('copy', 'p', 'q').status == 0
        os.chmod(root / 'vaults' / 'p.db', 0o666)
        done = command('copy', 'p', 'r')
        assert done.status == 1 and "--allow-pickle" in done.err and 'allow_pickle=True' not in done.err
        assert command('copy', 'p', 'r', '--allow-pickle').status == 0
        assert sorted(os.listdir(root / 'vaults')) == ['p.db', 'q.db', 'r.db'] and not (root / 'ran').exists()

    def test_allowed_pickles_are_shown_as_python_shows_them_and_json_as_json(self, command, root):
        v = Vault(pathlib.Path(root, 'vaults', 'p.db'))
        for value, shown in ((collections.OrderedDict(a=1), repr(collections.OrderedDict(a=1))), ('{"!', '{"!'),
                             ({'a': [1, '{"!']}, '{"a": [1, "{\\"!"]}'), ((1,), '(1,)')):
            v['k'] = value
            assert command('get', 'p', 'k', '--allow-pickle').out == shown + '\n'
        v.close()


class TestCommandErrors:
    def one_line(self, done, status):
        assert done.status == status and done.out == ''
        assert done.err.startswith('vaults: ') and done.err.count('\n') == 1 and done.err.endswith('\n'), done.err
        return done.err

    def test_a_cure_is_one_of_the_command(self, command, books, root):
        (root / 'vaults' / 'empty.db').write_bytes(b'')
        for arguments, cure in ((['get', 'nowhere', 'k'], 'or make it with `vaults set`'),
                                (['get', 'empty', 'k'], 'a command that writes makes a vault of it'),
                                (['keys', 'books', '--json-key', '--prefix', '5'], 'take --from and --to'),
                                (['keys', 'books', '--section', 's', '--json-key', '--prefix', '5'], 'take --from and --to')):
            done = command(*arguments)
            assert done.status and done.err.endswith(f'{cure}\n'), done.err

    def test_a_cure_that_is_said_otherwise_is_one_that_there_is(self):
        package = pathlib.Path(vaults.__file__).parent
        said = ''.join(path.read_text('utf-8') for path in package.rglob('*.py') if path.parent.name != 'cli')
        said = re.sub(r"['\"]\n\s+f?['\"]", '', said)  # literals that go on in the next line
        for cure in OUR_CURES:
            assert cure in said, cure

    def test_what_is_not_found_is_1(self, command, root, books):
        assert 'key \'x\'' in self.one_line(command('get', 'books', 'x'), 1)
        assert 'books.db' in self.one_line(command('delete', 'books', 'x'), 1)
        for arguments in (['get', 'nothing', 'x'], ['delete', 'nothing', 'x'], ['import', root / 'nothing', 'x'],
                          ['set', root / 'no' / 'folder' / 'x', 'k', 'v'], ['backup', 'books', root / 'no' / 'folder']):
            self.one_line(command(*arguments), 1)
        (root / 'text.db').write_text('no vault at all')
        self.one_line(command('get', root / 'text.db', 'x'), 1)
        (root / 'a\nb\x1b.db').write_text('no vault either')
        assert '\\n' in self.one_line(command('get', root / 'a\nb\x1b.db', 'x'), 1)

    @pytest.mark.parametrize('arguments', [
        [], ['nonsense'], ['get', 'v'], ['get', 'v', 'k', 'more'], ['get', 'v', 'k', '--nonsense'], ['keys', 'v', '--limit', 'x'],
        ['keys', 'v', '--limit', '-1'], ['keys', 'v', '--limit', '²'], ['keys', 'v', '--pre', 'x'], ['get', '', 'k'],
        ['get', 'a..b', 'k'], ['set', 'a..b', 'k', 'v'], ['set', ':memory:', 'k', 'v'], ['get', 'v', '--', '-x', '-y'],
        ['set', 'v' * 300, 'k', 'v'], ['completion', 'tcsh'], ['keys', 'v', '--prefix', '\ud800']], ids=' '.join)
    def test_misuse_is_2_and_makes_nothing(self, command, root, arguments):
        before = seen(root)
        assert 'u0000' not in self.one_line(command(*arguments), 2)
        assert seen(root) == before

    @pytest.mark.parametrize('word, command_', [
        ('rm', 'delete'), ('ls', 'list'), ('remove', 'delete'), ('del', 'delete'), ('cat', 'get'), ('find', 'keys'), ('cp', 'copy'),
        ('dump', 'export'), ('load', 'import'), ('LS', 'list'), ('help', '--help'), ('version', '--version'), ('has', 'get'),
        ('restore', 'recover'), ('stat', 'info'), ('vacuum', 'compact')])
    def test_a_command_of_another_name_is_misuse_that_says_the_right_word(self, command, root, word, command_):
        before = seen(root)
        for arguments in ([word], [word, 'books', 'x'], ['--root', root, '--json', word], ['--json', word, '--nonsense']):
            assert self.one_line(command(*arguments), 2) == f"vaults: there is no command '{word}': say vaults {command_}\n"
        assert seen(root) == before

    def test_a_misspelt_command_is_guessed(self, command):
        assert 'did you mean delete?' in self.one_line(command('delte', 'x'), 2)
        assert self.one_line(command('zzz'), 2) == "vaults: there is no command 'zzz': see vaults --help\n"
        assert not any(word in COMMANDS for words in OTHER_WORDS.values() for word in words.split())
        assert set(OTHER_WORDS) <= {*COMMANDS, '--help', '--version'}

    def test_an_unexpected_error_is_one_line_that_says_how_to_see_more(self, command, books, monkeypatch):
        monkeypatch.setattr(SortedSlice, '__len__', lambda *_: 1 // 0)
        assert 'ZeroDivisionError' in self.one_line(command('count', 'books'), 1)
        assert 'VAULTS_TRACEBACK=1' in self.one_line(command('count', 'books'), 1)
        monkeypatch.setenv('VAULTS_TRACEBACK', '1')
        with pytest.raises(ZeroDivisionError):
            command('count', 'books')

    def test_help_and_version_are_answers(self, command):
        assert command('--version').out == f'vaults {vaults.__version__}\n'
        text = command('--help').out
        for name in COMMANDS:
            assert re.search(rf'^    {name} +\w', text, re.M)
            done = command(name, '--help')
            assert done.status == 0 and f'usage: vaults {name} ' in done.out and not done.err

    def test_a_failed_import_leaves_no_vault_that_it_made(self, command, root, books):
        bad = b'{"key": "a", "value": 1}\n{"key": "b", "value": \n'
        (root / 'bad.jsonl').write_bytes(bad)
        before = seen(root)
        self.one_line(command('import', root / 'bad.jsonl', 'books'), 1)
        self.one_line(command('import', '-', 'new', stdin=bad), 1)
        self.one_line(command('import', root / 'bad.jsonl', 'new', '--root', root / 'other'), 1)
        self.one_line(command('import', root / 'nothing', root / 'new.db'), 1)
        assert {path: data for path, data in seen(root).items() if path != 'other'} == before

    def test_the_vault_is_closed_in_any_case(self, command, books, monkeypatch):
        opened = []

        class Seen(Vault):
            def __init__(self, *arguments, **options):
                super().__init__(*arguments, **options)
                opened.append(self)
        monkeypatch.setattr(cli, 'Vault', Seen)
        assert [command('get', 'books', key).status for key in ('dune', 'x')] == [0, 1]
        assert [repr(v) for v in opened] == ["Seen('books', closed)"] * 2

    def test_what_another_program_put_into_it_meanwhile_stays(self, root):
        v = Vault('new')
        v['another'] = 'program'
        unmake(v, [v.db_path])
        assert v['another'] == 'program'
        v.close()

    def test_an_import_that_fails_names_the_options_of_the_command(self, command, root):
        (root / 'a.csv').write_text('id,name\n1,Ann\n')
        (root / 'b.jsonl').write_text('{"a": 1}\n')
        (root / 'c.jsonl').write_text('{"key": 1, "value": {"!pickle": ["", "gARLAS4="]}}\n')
        for name, words in (('a.csv', 'pass --key ...'), ('b.jsonl', '--kind json'), ('c.jsonl', '--allow-pickle')):
            root.chmod(0o777)
            assert words in self.one_line(command('import', root / name, 'v'), 1)

    def test_errors_and_statuses_reach_the_shell(self, root, books):
        env = {'VAULTS_ROOT': str(root)}
        for arguments, status in ((['get', 'books', 'dune'], 0), (['get', 'books', 'x'], 1), (['get'], 2), (['--help'], 0)):
            done = finished(spawn(*arguments, env=env))
            assert done.status == status and 'Traceback' not in done.err and bool(done.err) == bool(status)

    @needs_posix
    def test_broken_utf_8_in_arguments_is_a_key_but_no_value(self, root):
        env = {'VAULTS_ROOT': str(root)}
        assert finished(spawn('set', 'b', b'\xff-key', 'v', env=env)).status == 0
        assert finished(spawn('get', 'b', b'\xff-key', env=env)).out == 'v\n'
        self.one_line(finished(spawn('get', 'b', b'\xfe', env=env)), 1)
        self.one_line(finished(spawn('get', b'\xff', 'k', env=env)), 1)
        assert list(map(json.loads, finished(spawn('keys', 'b', env=env)).out.splitlines()))
        assert 'UTF-8' in self.one_line(finished(spawn('set', 'b', 'k', b'\xff', env=env)), 2)
        assert 'UTF-8' in self.one_line(finished(spawn('set', 'b', 'k', '-', env=env, stdin=subprocess.PIPE), b'\xff'), 2)


class TestCommandOutput:
    ODD = ['\x1b[31mred', 'bell\a', '\x9b31m', '\u202eright', 'a\nb', 'tab\t', '\x7f', 'nul\0', '\u2028']

    def test_control_characters_do_not_reach_a_terminal(self, command, root):
        v = Vault(pathlib.Path(root, 'vaults', 'odd.db'))
        v.update({key: value for key in self.ODD for value in (key, )})
        v.update({(key,): [key] for key in self.ODD})
        v.close()
        for arguments in (['show', 'odd', '--limit', '99'], ['keys', 'odd'], ['keys', 'odd', '--json'], ['info', 'odd']):
            lines = command(*arguments).out.split('\n')
            assert all(line.isprintable() for line in lines) and len(lines) > 10
        for key in self.ODD:
            for arguments in (['get', 'odd', 'x' + key], ['get', 'odd' + key.replace('\0', ''), 'x'], [key], ['get', key]):
                err = command(*arguments).err
                assert err[-1] == '\n' and err[:-1].isprintable()
        assert [json.loads(line) for line in command('keys', 'odd').out.splitlines()[:9]] == sorted(self.ODD)

    @needs_posix
    def test_there_is_colour_on_a_terminal_alone(self, root, books):
        coloured = at_terminal(root, 'show', 'books')
        assert coloured.status == 0 and '\x1b[36mdune\x1b[0m' in coloured.seen
        for env in ({'NO_COLOR': '1'}, {'TERM': 'dumb'}):
            assert at_terminal(root, 'show', 'books', **env).seen.replace('\r', '') == finished(
                spawn('show', 'books', env={'VAULTS_ROOT': str(root)})).out
        assert '\x1b' in at_terminal(root, 'info', 'books').seen and '\x1b' in at_terminal(root, 'check', 'books').seen
        assert '\x1b' not in at_terminal(root, 'get', 'books', 'dune').seen

    @needs_posix
    def test_bytes_go_out_as_they_are_but_to_a_terminal(self, root):
        data = bytes(range(256)) + b'\r\n\n'
        with contextlib.closing(Vault(pathlib.Path(root, 'vaults', 'b.db'))) as v:
            v.update({'bytes': data, 'array': bytearray(data), 'empty': b'', 'inside': [b'a'], ('s', 'k'): b'\xff'})
        env = {'VAULTS_ROOT': str(root)}
        for arguments, expected in ((['bytes'], data), (['array'], data), (['empty'], b''), (['inside'], b'[{"!bytes": "YQ=="}]\n'),
                                    (['k', '--section', 's'], b'\xff'), (['bytes', '--output', '/dev/stdout'], data),
                                    (['"empty"', '--json'], b'{"!bytes": ""}\n'), (['"empty"', '--json-key'], b'')):
            process = spawn('get', 'b', *arguments, env=env)
            assert process.communicate() == (expected, b''), arguments
        for arguments in (['array'], ['"array"', '--json']):
            assert at_terminal(root, 'get', 'b', *arguments).seen.startswith('{"!bytearray": "AAEC')

    @needs_posix
    def test_the_files_of_the_streams_are_the_streams(self, root, books):
        env, folder = {'VAULTS_ROOT': str(root)}, sorted(os.listdir('/dev'))
        for name in ('-', '/dev/stdout'):
            lines = finished(spawn('export', 'books', name, env=env)).out
            assert lines.count('\n') == 5
            with open(root / 'out', 'wb') as file:
                assert finished(spawn('export', 'books', name, env=env, stdout=file)).err == ''
            assert (root / 'out').read_text('utf-8') == lines
        for place, name in (('-', 'a'), ('/dev/stdin', 'b')):
            done = finished(spawn('import', place, name, env=env, stdin=subprocess.PIPE), lines.encode())
            assert (done.out, done.err) == ('5 entries imported, 0 of them replaced earlier ones\n', '')
            with open(root / 'out', 'rb') as file:
                assert '5 of them replaced' in finished(spawn('import', place, name, env=env, stdin=file)).out
            assert finished(spawn('put', name, 'k', place, env=env, stdin=subprocess.PIPE), b'ab').out == '2 bytes stored\n'
        assert sorted(os.listdir('/dev')) == folder

    @needs_posix
    def test_what_is_awaited_from_a_terminal_is_said(self, root):
        done = at_terminal(root, 'import', '-', 'new', typed=b'{"key": 1, "value": 2}\n\x04')
        assert 'JSON Lines comes from the terminal; Ctrl-D' in done.seen and '1 entry imported' in done.seen
        done = at_terminal(root, 'set', 'new', 'k', '-', typed=b'x\n\x04')
        assert 'the value comes from the terminal' in done.seen and done.status == 0

    @needs_posix
    def test_progress_is_seen_on_a_terminal_and_erased(self, root, books):
        Vault(pathlib.Path(root, 'vaults', 'many.db')).update((n, n) for n in range(3000))
        lines = root / 'many.jsonl'
        for arguments, words in ((['check', 'many'], 'checking: 1,024 of 3,000 entries'),
                                 (['compact', 'many'], 'compacting: 0 of'), (['backup', 'many', str(root / 'b')], 'copying: '),
                                 (['export', 'many', str(lines)], 'exporting: 1,000 entries'),
                                 (['import', str(lines), 'new'], 'importing: 1,000 entries')):
            done = at_terminal(root, *arguments, streams=['stderr'])
            assert done.status == 0 and words in done.seen and '\n' not in done.seen
            assert re.search('\r( +)\r$', done.seen) and len(done.seen.split('\r')[-2]) >= len(words)
        assert at_terminal(root, 'export', 'many').seen.startswith('{')
        for arguments in (['check', 'many'], ['compact', 'many'], ['export', 'many']):
            assert finished(spawn(*arguments, env={'VAULTS_ROOT': str(root)})).err == ''

    def test_progress_is_drawn_a_few_times_a_second(self, command, root, monkeypatch, capsys):
        drawn = []
        v = Vault(':memory:')
        monkeypatch.setattr(progress_line, 'is_terminal', lambda stream: True)
        with progress_line.ProgressLine(v, 'testing', 'entries') as progress:
            monkeypatch.setattr(progress, '_draw', drawn.append)
            for done in range(100_000):
                progress(done, 100_000)
        assert 1 <= len(drawn) < 50

    def test_a_reader_that_has_seen_enough_ends_it_quietly(self, root, books):
        Vault(pathlib.Path(root, 'vaults', 'many.db')).update((n, 'x' * 20) for n in range(20_000))
        for arguments in (['keys', 'many'], ['show', 'many', '--json'], ['export', 'many'], ['keys', 'books'], ['--help']):
            process = spawn(*arguments, env={'VAULTS_ROOT': str(root)})
            if 'many' in arguments:
                assert process.stdout.readline()
            process.stdout.close()
            process.stdout = None
            done = finished(process)
            assert (done.status, done.err) == (0, ''), arguments
        assert sorted(os.listdir(root / 'vaults')) == ['books.db', 'many.db']

    @pytest.mark.skipif(not os.path.exists('/dev/full'), reason='no full device')
    def test_a_full_disk_is_one_line(self, root, books):
        Vault(pathlib.Path(root, 'vaults', 'many.db')).update((n, 'x' * 20) for n in range(2000))
        for arguments in (['keys', 'books'], ['export', 'books'], ['export', 'many'], ['--help']):
            with open('/dev/full', 'wb') as full:
                done = finished(spawn(*arguments, env={'VAULTS_ROOT': str(root)}, stdout=full))
            assert done.status == 1 and done.err.startswith('vaults: ') and done.err.count('\n') == 1, arguments

    def test_any_output_encoding_will_do(self, root, monkeypatch):
        v = Vault(pathlib.Path(root, 'vaults', 'é.db'))
        v.update({'é': 'ü' * 99, '日': '本', 'plain': ['é'], '\ud800': '\udcff'})
        v.close()
        monkeypatch.setenv('VAULTS_ROOT', str(root))
        vaults.set_root_path(None)
        commands = [['list'], ['keys', 'é'], ['get', 'é', 'é'], ['show', 'é'], ['info', 'é'], ['get', 'é', '日本'],
                    ['export', 'é'], ['get', 'é', 'plain'], ['list', '--json']]
        for encoding, arguments in itertools.product(['ascii', 'latin-1', 'utf-16'], commands):
            # The streams that Python would make for PYTHONIOENCODING: a process for each would take seconds.
            streams = [io.TextIOWrapper(io.BytesIO(), encoding, how) for how in ('strict', 'backslashreplace')]
            with monkeypatch.context() as patch:
                patch.setattr(sys, 'stdout', streams[0])
                patch.setattr(sys, 'stderr', streams[1])
                status = cli.main(arguments)
            out, err = ((stream.flush(), stream.buffer.getvalue())[1] for stream in streams)
            assert status == (1 if '日本' in arguments else 0) and b'unexpected' not in err, err
            if arguments[0] == 'export':
                assert json.loads(out.decode('utf-8').splitlines()[1]) == {'key': '日', 'value': '本'}
            elif encoding == 'ascii':
                assert out.isascii() and (b'...' in out) == (arguments[0] == 'show')
            if 'plain' in arguments or '--json' in arguments:
                assert 'é' in json.loads(out.decode(encoding))
        assert '"\\u00e9"\n' in finished(spawn('keys', 'é', env={'VAULTS_ROOT': str(root), 'PYTHONIOENCODING': 'ascii'})).out

    def test_it_starts_without_what_it_does_not_need(self):
        loaded = output('from vaults.cli import arguments, commands; arguments.parser_of(commands.COMMANDS); import sys; print(*sys.modules)').split()
        assert {'argparse', 'vaults.cli'} <= set(loaded)
        assert not {'json', 'sqlite3', 'pathlib', 'typing', 'signal', 'code', 'vaults.moving'} & set(loaded)

    def test_a_closed_output_is_no_crash(self, root, books):
        done = run('import sys; sys.stdout = sys.stdin = None; from vaults.cli import main;'
                   "sys.exit(main(['get', 'books', 'dune']) or main(['set', 'books', 'k', '-']))",
                   env={'VAULTS_ROOT': str(root)})
        assert done.returncode == 2 and done.stderr.count('\n') == 1
