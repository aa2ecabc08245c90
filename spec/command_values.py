"""The command: JSON, types, sections, and values in chunks."""
from __future__ import annotations

import collections
import contextlib
import datetime as dt
import decimal
import fractions
import io
import json
import os
import pathlib
import re
import shutil
import sqlite3
import subprocess
import sys
import uuid

import pytest

import vaults
from vaults import Vault, keys
from vaults.moving import as_json

from .helpers import HERE, UTC, needs_posix, run
from .peers import seen
from .programs import Planted, at_terminal, finished, spawn
from .samples import shape


class TestCommandJSON:
    KEYS = [None, True, 0, -7, 2**70, 2**70 + 1, 1.5, float('inf'), '', '-', '--', '-k', '--json', 'a b', 'a\nb', '\x1b[31m',
            '\ud800', 'é日', '"quoted"', '[1]', b'', b'\xff', dt.date(2026, 1, 2), dt.datetime(2026, 1, 2, tzinfo=UTC),
            uuid.UUID(int=5), (), ('a', (1, None)), (b'x', '-')]
    VALUES = [None, -1, 2**80, 'text', '-', '', '\x1b', b'\0\xff', bytearray(b'x'), (1, (2,)), {1, 2}, frozenset('a'), {}, [],
              {'a': [1, {'b': None}]}, {1: 2, '!x': ()}, {'!tuple': 1}, decimal.Decimal('1.50'), 1 + 2j, range(3),
              dt.timedelta(1), fractions.Fraction(1, 3), float('-inf'), dt.date(2026, 1, 2)]

    def test_odd_keys_go_in_and_come_out_exactly(self, command, root):
        for key in self.KEYS:
            text = as_json.as_line(as_json.from_key(key))
            assert command('set', '--json', 'k', '--', text, '1').status == 0, key
            assert command('get', '--json', 'k', '--', text).out == '1\n', key
        v = Vault(pathlib.Path(root, 'vaults', 'k.db'))
        stored = [repr(keys.decode(keys.encode(key))) for key in self.KEYS]  # 2**70 is the float that equals it
        assert list(map(repr, v)) == stored
        v.close()
        shown = command('keys', 'k', '--json').out.splitlines()
        assert {repr(as_json.to_key(json.loads(line))) for line in shown} == set(stored)
        for key in self.KEYS:
            assert command('delete', '--json', 'k', '--', as_json.as_line(as_json.from_key(key))).status == 0
        assert command('count', 'k').out == '0\n'

    def test_text_is_taken_as_it_is(self, command, root):
        odd = [key for key in self.KEYS if isinstance(key, str)]
        for key in odd:
            assert command('set', 'k', '--', key, f'{len(key)} {key!r}').status == 0
            assert command('get', 'k', '--', key).out == f'{len(key)} {key!r}\n'
        assert list(Vault(pathlib.Path(root, 'vaults', 'k.db'))) == odd
        for key in ('-k', '--', '--json'):
            assert command('--', 'set', 'k', 'value', key).status == 0
            assert command('get', 'k', 'value').out == key + '\n'

    def test_odd_values_go_in_and_come_out_exactly(self, command, root):
        v = Vault(pathlib.Path(root, 'vaults', 'v.db'))
        for value in self.VALUES:
            text = json.dumps(as_json.from_value(vaults.dumps(value)))
            assert command('set', '--json', 'v', '"k"', '-', stdin=text.encode()).status == 0
            assert shape(v['k']) == shape(value)
            assert as_json.to_value(json.loads(command('get', '--json', 'v', '"k"').out)) == vaults.dumps(value)
        v.close()

    def test_a_class_need_not_be_at_hand(self, command, root):
        form = '{"!registered": ["nowhere.Thing", {"a": 1}]}'
        assert command('set', 'c', 'k', '--json', form).status == 2  # a key in JSON is in quotes
        assert command('set', 'c', '"k"', '--json', form).status == 0
        assert command('get', 'c', 'k').out == form + '\n'
        assert form in command('export', 'c').out and form in command('show', 'c').out

    @pytest.mark.parametrize('text', ['{', '', 'NaN', '[1, Infinity]', '{"!tuple": 1}', '{"!date": "x"}', '"\\ud800"',
                                      '[' * 100_000, '9' * 5000 + 'x', '{"!set": [[1]]}'])
    def test_what_is_no_value_is_misuse_and_makes_nothing(self, command, root, text):
        before = seen(root)
        for arguments, typed in ((['set', 'x', '"k"', text, '--json'], b''), (['set', 'x', '"k"', '-', '--json'], text.encode())):
            done = command(*arguments, stdin=typed)
            assert done.status == 2 and done.err.startswith('vaults: ') and done.err.count('\n') == 1 and not done.out
        assert seen(root) == before

    @pytest.mark.parametrize('text', ['{', '{"a": 1}', '{"!float": "nan"}', '{"!set": [1]}', '{"!pickle": ["", "Ti4="]}'])
    def test_what_is_no_key_is_misuse(self, command, books, text):
        for arguments in (['get', 'books', text], ['delete', 'books', text], ['set', 'books', text, '1'],
                          ['keys', 'books', '--from', text], ['count', 'books', '--to', text],
                          ['show', 'books', '--prefix', text]):
            done = command('--json', *arguments)
            assert done.status == 2 and done.err.count('\n') == 1, arguments


class TestCommandTypes:
    """A type is what it was asked to be, and is not changed without a word."""

    @pytest.fixture
    def life(self, root):
        with contextlib.closing(Vault(pathlib.Path(root, 'vaults', 'life.db'))) as v:
            v.update({'retries': 3, 5: 'x', ('log', 2026): [1], 'text': 'a', 'list': [1], ('users', 'ann'): 1.5, 'none': None,
                      'bytes': b'1', 'tuple': (1,), 'big': 2**70, 'nan': float('nan'), 'price': decimal.Decimal(1),
                      'class': collections.OrderedDict(a=1), 'path': pathlib.PurePosixPath('a'), 'odd': '\ud800', 'long': list(range(100)), 'true': True, '[7]': 'text in brackets'})
            v.list('grown').append(1)
            v.column('numbers', 'int8').append(1)
            v.put_file('stream', io.BytesIO(b'1'))
        return lambda key: Vault(pathlib.Path(root, 'vaults', 'life.db'))[key]

    def test_a_json_value_has_a_text_key_and_a_text_value_a_json_key(self, command, life):
        for arguments, key, value in ((['retries', '5', '--json-value'], 'retries', 5),
                                      (['--json-value', 'new', '{"a": [1]}'], 'new', {'a': [1]}),
                                      (['--json-key', '5', '7'], 5, '7'), (['["log", 2026]', 'text', '--json-key'], ('log', 2026), 'text'),
                                      (['--json-key', '5', '--json-value', '7'], 5, 7), (['5', 'y'], '5', 'y')):
            assert command('set', 'life', *arguments).status == 0
            assert life(key) == value and type(life(key)) is type(value)
        assert command('set', 'life', 'k', '-', '--json-value', stdin=b'[1]').status == 0 and life('k') == [1]
        assert command('put', 'life', '--json-key', '[1, 2]', '-', stdin=b'ab').status == 0 and life((1, 2)) == b'ab'
        assert command('get', 'life', '5', '--json-key').out == '7\n'
        assert command('get', 'life', '[1, 2]', '--json-key', '--output', '-').out == 'ab'
        assert command('keys', 'life', '--from', '5', '--to', '6', '--json-key').out == '5\n'
        assert command('count', 'life', '--prefix', '["log"]', '--json-key').out == '1\n'
        assert command('delete', 'life', '--json-key', '5').status == 0 and command('get', 'life', '5').out == 'y\n'
        for arguments in (['set', 'life', 'k', '{', '--json-value'], ['set', 'life', '{', 'v', '--json-key'], ['get', 'life', 'k', '--json-key']):
            done = command(*arguments)
            assert done.status == 2 and done.err.count('\n') == 1 and 'is no JSON' in done.err
        for word, quoted in (('two words', "'\"two words\"'"), ("it's é", """'"it'"'"'s é"'""")):
            assert command('get', 'life', word, '--json').err.endswith(f'text is written in quotes: {quoted}\n')
        assert command('get', 'life', 'x' * 50, '--json').err.endswith("text is written in quotes: '\"text\"'\n")

    @pytest.mark.parametrize('key, text, was, now, cure', [
        ('retries', '5', 'int', 'str', ': --json-value keeps it int'), ('retries', 'five', 'int', 'str', ''),
        ('list', '[2]', 'list', 'str', ': --json-value keeps it list'), ('none', 'null', 'None', 'str', ': --json-value keeps it None'),
        ('true', 'false', 'bool', 'str', ': --json-value keeps it bool'), ('bytes', '1', 'bytes', 'str', ''),
        ('bytes', '{"!bytes": ""}', 'bytes', 'str', ': --json-value keeps it bytes'), ('tuple', 'x', 'tuple', 'str', ''),
        ('big', '5', 'int', 'str', ': --json-value keeps it int'), ('nan', 'x', 'float', 'str', ''), ('price', '1', 'Decimal', 'str', ''),
        ('class', 'x', 'collections.OrderedDict', 'str', ''), ('path', 'x', 'pathlib.PurePosixPath', 'str', ''), ('long', 'x', 'list', 'str', ''),
        ('grown', 'x', 'a list made by list()', 'str', ''), ('numbers', 'x', 'a column of int8', 'str', ''),
        ('stream', 'x', 'a stream', 'str', '')])
    def test_a_set_that_changes_the_type_says_so(self, command, life, key, text, was, now, cure):
        done = command('set', 'life', key, text)
        assert (done.status, done.out) == (0, '')
        assert done.err == f"vaults: note: key '{key}' was {was} and is now {now}{cure}\n" and life(key) == text

    def test_it_is_said_of_json_too_and_of_put(self, command, life):
        for text, words in (('4', ''), ('4.5', 'was int and is now float'), ('[1]', 'was float and is now list'), ('[]', ''),
                            ('{"!tuple": []}', 'was list and is now tuple'), ('"5"', 'was tuple and is now str'), ('""', ''),
                            ('{"!dict": []}', 'was str and is now dict'), ('{"!int": "0x1"}', 'was dict and is now int'),
                            ('true', 'was int and is now bool'), ('{"!float": "inf"}', 'was bool and is now float')):
            for arguments in (['--json', 'set', 'life', '"retries"', text], ['set', 'life', 'retries', text, '--json-value']):
                done = command(*arguments)
                assert (done.status, done.out) == (0, '')
                assert words in done.err and bool(done.err) == bool(words), (text, done.err)
                words = ''  # the second one changes nothing
        done = command('put', 'life', 'text', '-', stdin=b'x')
        assert "key 'text' was str and is now a stream" in done.err and done.status == 0
        assert command('put', 'life', 'text', '-', stdin=b'y').err == command('put', 'life', 'bytes', '-', stdin=b'y').err == ''

    def test_nothing_is_said_where_nothing_changes(self, command, life):
        for arguments in (['text', 'b'], ['odd', 'plain'], ['new', '5'], ['new', '6'], ['bytes', '{"!bytes": "AA=="}', '--json-value'], ['new', '-']):
            assert command('set', 'life', *arguments, stdin=b'7').err == ''

    def test_a_damaged_value_can_be_replaced(self, command, root, life):
        with contextlib.closing(sqlite3.connect(str(root / 'vaults' / 'life.db'))) as raw, raw:
            raw.execute("UPDATE entries SET value = x'01' WHERE key = 'text'")
        assert command('get', 'life', 'text').status == 1
        done = command('set', 'life', 'text', 'b')
        assert (done.status, done.err) == (0, '') and life('text') == 'b'

    def test_a_key_that_is_there_in_another_form_is_named(self, command, life):
        for verb in ('get', 'delete'):
            for key, there in (('5', '5'), ('["log",2026]', "('log', 2026)"), ('"text"', "'text'"), ('5.0', '5.0')):
                done = command(verb, 'life', key)
                assert done.status == 1 and f'but there is a key {there}: give it with --json-key' in done.err, done.err
            done = command(verb, 'life', '[7]', '--json-key')
            assert done.status == 1 and "but there is a key '[7]': give it in quotes, as JSON" in done.err
            for key in ('6', 'x', '{', '["log"]', '[[1]', '{"!tuple": 1}'):
                assert 'but there' not in command(verb, 'life', key).err
        done = command('set', 'life', '5', 'another')
        assert "key '5' is a new one" in done.err and 'there is a key 5: give it with --json-key' in done.err
        assert command('set', 'life', '5', 'again').err == '' and life(5) == 'x'

    @pytest.mark.skipif(not shutil.which('bash'), reason='no bash')
    def test_what_keys_prints_get_takes_in_a_script(self, root, life):
        script = f'''set -e; vaults() {{ "{sys.executable}" -m vaults "$@"; }}; export PYTHONPATH="{HERE}" VAULTS_ROOT="{root}"
            vaults keys life --json-key | while IFS= read -r key; do vaults --json get life -- "$key" >> all; done
            vaults keys life --json | while IFS= read -r key; do vaults delete life --json-key -- "$key"; done
            vaults count life'''
        done = subprocess.run(['bash', '-c', script], cwd=str(root), capture_output=True, text=True)
        assert (done.stdout, done.stderr) == ('0\n', '')
        assert len((root / 'all').read_text().splitlines()) == 21


class TestCommandSections:
    @pytest.fixture
    def place(self, root):
        with contextlib.closing(Vault(pathlib.Path(root, 'vaults', 'life.db'))) as v:
            v.update({'users': 'plain', ('users', 'ann'): 1, ('users', 'bob', 'age'): 7, ('users', 'bob', 5): 8, (2026, 1): 2, 'z': 0,
                      (('a', 'b'), 1): 3, ('users2', 'x'): 4})
        return root

    def test_a_section_is_listed_counted_shown_and_exported(self, command, place):
        within = ['life', '--section', 'users']
        assert command('keys', *within).out == 'ann\n["bob", 5]\n["bob", "age"]\n'
        assert command('keys', *within, '--prefix', 'a').out == 'ann\n' and command('count', *within).out == '3\n'
        assert command('keys', *within, '--from', 'b', '--to', 'c').out == '["bob", 5]\n["bob", "age"]\n'
        assert command('keys', *within, '--reverse', '--limit', 1).out == '["bob", "age"]\n'
        assert command('show', *within).out.splitlines() == ['ann             1', '["bob", 5]      8', '["bob", "age"]  7']
        assert command('show', *within, '--json').out.splitlines()[0] == '{"key": "ann", "value": 1}'
        assert command('get', *within, 'ann').out == '1\n' and command('get', 'life', '--section=users', '["bob", 5]', '--json-key').out == '8\n'
        assert command('export', *within).out.splitlines()[0] == '{"key": "ann", "value": 1}'
        assert command('export', 'life', '-', '--section', 'users').out.count('\n') == 3

    def test_sections_of_sections_are_named_one_by_one_or_as_json(self, command, place):
        for named in (['--section', 'users', '--section', 'bob'], ['--section', '["users", "bob"]'],
                      ['--json-key', '--section', '"users"', '--section', 'bob']):
            assert command('keys', 'life', *named).out.splitlines() == ['5', '"age"' if '--json-key' in named else 'age']
        assert command('keys', 'life', '--section', '[2026]', '--json').out == command('keys', 'life', '--section', '[2026]').out == '1\n'
        assert command('keys', 'life', '--section', '[["a", "b"]]', '--json').out == '1\n'
        assert command('keys', 'life', '--section', '["a", "b"]', '--json').out == command('keys', 'life', '--section', '2026').out == ''
        for wrong in ('[]', '[1', '"', '[{}]'):
            assert command('keys', 'life', '--section', wrong, '--json').status == 2

    def test_info_names_them(self, command, place):
        lines = command('info', 'life').out.splitlines()
        assert [line.split(None, 1)[1] for line in lines if line.startswith('section')] == [
            '[2026]', 'users', 'users2', '[["a", "b"]]', '["users", "bob"]']
        named = json.loads(command('info', 'life', '--json').out)['sections']
        assert named == [2026, 'users', 'users2', [['a', 'b']], ['users', 'bob']]
        for section in [line.split(None, 1)[1] for line in lines if line.startswith('section')]:
            assert command('count', 'life', '--section', section).out != '0\n'
        facts = json.loads(command('info', 'life', '--section', 'users', '--json').out)
        assert (facts['within'], facts['entries'], facts['sections']) == ('users', 3, ['bob'])

    def test_an_entry_is_set_put_and_deleted_inside(self, command, place):
        assert command('set', 'life', 'eve', 'x', '--section', 'users').err == ''
        assert command('put', 'life', 'photo', '-', '--section', 'users', stdin=b'p').status == 0
        assert command('import', '-', 'life', '--section', 'users', stdin=b'{"key": "i", "value": 1}').status == 0
        v = Vault(pathlib.Path(place, 'vaults', 'life.db'))
        assert (v['users', 'eve'], v['users', 'photo'], v['users', 'i']) == ('x', b'p', 1)
        assert command('delete', 'life', '--section', 'users', 'ann').out == ''
        assert command('export', 'life', '--section', 'users', place / 'out').out.startswith('5 entries')
        assert ('users', 'ann') not in v and len(v.section('users')) == 5
        done = command('get', 'life', 'nobody', '--section', 'users')
        assert done.status == 1 and 'the section users of the vault' in done.err
        for arguments, named in ((['users2'], 'users2'), (['bob', '--section', 'users'], 'bob'), (['2026', '--json-key'], '[2026]')):
            done = command('get', 'life', *arguments)
            assert done.status == 1 and done.err.endswith(f'but there is a section of that name: --section {named}\n')
        v.close()

    def test_a_section_is_deleted_and_nothing_beside_it(self, command, place):
        assert command('delete', 'life', '--section', 'users', '--section', 'bob').out == '2 entries deleted\n'
        assert command('delete', 'life', '--section', '"users"', '--json').out == '{"deleted": 1}\n'
        assert command('delete', 'life', '--section', 'users').status == 1
        with contextlib.closing(Vault(pathlib.Path(place, 'vaults', 'life.db'))) as v:
            assert list(v) == ['users', (2026, 1), 'z', (('a', 'b'), 1), ('users2', 'x')]
            v._check()
        done = command('delete', 'life')
        assert done.status == 2 and '--section NAME' in done.err


class TestPartsCommand:
    """The command shows lists, columns and streams without reading all of them, and moves files in and out."""

    @pytest.fixture
    def place(self, root):
        with contextlib.closing(Vault(pathlib.Path(root, 'vaults', 'p.db'))) as v:
            v.list('log').extend(range(1000))
            v.list('few').extend([1, (2,), 'é\n'])
            v.column('temps', 'float64').extend([0.5] * 999 + [float('nan')])
            v.column('tags', 'S2').extend([b'ab', b''])
            with v.open('photo', 'wb') as file:
                file.write(b'0123456789' * 30000 + b'\n')
            v['s', 'k'] = 1
        return root

    @pytest.mark.parametrize('value', [5, 1.5, None, ['!bytes'], {'a': 1}, True])
    def test_only_bytes_and_text_are_written_to_a_file(self, command, root, value):
        with contextlib.closing(Vault('odd')) as v:
            v['k'], v['b'] = value, bytearray(b'ab')
        done = command('get', '--output', str(root / 'out'), 'odd', 'k')
        assert done.status == 1 and 'only a stream, bytes or text' in done.err and not (root / 'out').exists()
        assert command('get', '--output', str(root / 'out'), 'odd', 'b').status == 0
        assert (root / 'out').read_bytes() == b'ab'

    def test_show_says_what_they_are_and_how_they_begin(self, command, place, monkeypatch):
        monkeypatch.setenv('COLUMNS', '60')
        lines = command('show', 'p').out.splitlines()
        assert lines == [
            'few         list of 3 items: [1, {"!tuple": [2]}, "é\\n"]',
            'log         list of 1000 items: [0, 1, 2, 3, 4, 5, 6, 7, 8,…',
            'photo       stream of 300001 bytes',
            'tags        column of S2, 2 items: [{"!bytes": "YWI="}, {"!…',
            'temps       column of float64, 1000 items: [0.5, 0.5, 0.5, …', '["s", "k"]  1']
        monkeypatch.setenv('COLUMNS', '9999')
        assert command('show', 'p', '--prefix', 'log').out.endswith(', 125, 126, ...]\n')
        shown = [json.loads(line)['value'] for line in command('show', 'p', '--json').out.splitlines()]
        assert shown == [{'!list': 3}, {'!list': 1000}, {'!stream': 300001}, {'!column': ['S2', 2]},
                         {'!column': ['float64', 1000]}, 1]

    def test_get_prints_arrays_and_raw_bytes(self, command, place):
        assert command('get', 'p', 'few').out == '[1, {"!tuple": [2]}, "é\\n"]\n'
        for arguments in (['log'], ['"log"', '--json']):
            assert command('get', 'p', *arguments).out == json.dumps(list(range(1000))) + '\n'
        assert json.loads(command('get', 'p', 'temps').out) == [0.5] * 999 + [{'!float': 'nan'}]
        assert command('get', 'p', 'tags').out == '[{"!bytes": "YWI="}, {"!bytes": ""}]\n'
        assert command('get', 'p', 'photo').out == '0123456789' * 30000 + '\n'
        form = json.loads(command('get', 'p', '"photo"', '--json').out)
        assert as_json.to_value(form) == vaults.dumps(b'0123456789' * 30000 + b'\n')
        Vault(pathlib.Path(place, 'vaults', 'e.db')).list('empty')
        assert command('get', 'e', 'empty').out == '[]\n'

    def test_bytes_of_any_sort_reach_a_pipe_and_a_reader_may_have_seen_enough(self, place):
        data = os.urandom(3 << 20)
        env = {'VAULTS_ROOT': str(place)}
        with contextlib.closing(Vault(pathlib.Path(place, 'vaults', 'p.db'))) as v:
            v.put_file('noise', io.BytesIO(data))
            v.list('many').extend(range(300_000))
        process = spawn('get', 'p', 'noise', env=env)
        out, err = process.communicate()
        assert (out == data, err, process.returncode) == (True, b'', 0)
        for key in ('noise', 'many'):
            process = spawn('get', 'p', key, env=env)
            assert process.stdout.read(1)
            process.stdout.close()
            process.stdout = None
            done = finished(process)
            assert (done.status, done.err) == (0, ''), key

    def test_files_are_put_and_got(self, command, place):
        source, target = place / 'source', place / 'target'
        source.write_bytes(os.urandom(600_000))
        target.write_text('old')
        assert command('set', 'f', 'small', '').status == 0 and 'largest   1 byte: small\n' in command('info', 'f').out
        assert command('delete', 'f', 'small').status == 0
        assert command('put', 'f', 'one', '-', stdin=b'x').out == '1 byte stored\n'
        Vault(pathlib.Path(place, 'vaults', 'f.db')).list('log').append(5)
        assert command('show', 'f').out == 'log  list of 1 item: [5]\none  stream of 1 byte\n'
        assert command('get', 'f', 'one', '--output', target).out == f'1 byte written to {target}\n'
        assert command('put', 'f', 'k', source).out == '600000 bytes stored\n'
        assert command('get', 'f', 'k', '--output', target).out == f'600000 bytes written to {target}\n'
        assert target.read_bytes() == source.read_bytes() == Vault(pathlib.Path(place, 'vaults', 'f.db'))['k']
        assert command('put', 'f', '--json', '["in", 1]', '-', stdin=b'\0\xff').out == '{"bytes": 2}\n'
        assert command('get', 'f', '--json', '["in", 1]', '--output', target).out == '{"bytes": 2}\n'
        assert target.read_bytes() == b'\0\xff'
        command('set', 'f', 'text', 'é')
        command('set', 'f', '"bytes"', '{"!bytes": "AA=="}', '--json')
        for key, data in (('text', 'é'.encode()), ('bytes', b'\0')):
            assert command('get', 'f', key, f'--output={target}').status == 0 and target.read_bytes() == data
        assert command('get', 'f', 'text', '--output', '-').out == 'é\n'

    def test_what_cannot_be_put_or_got_changes_nothing(self, command, place, tmp_path):
        before = seen(place)
        assert 'nowhere' in command('put', 'new', 'k', place / 'nowhere').err
        for arguments in (['few'], ['temps'], ['["s", "k"]', '--json'], ['none']):
            arguments = [json.dumps(one) if '--json' in arguments and one == 'few' else one for one in arguments]
            done = command('get', 'p', *arguments, '--output', place / 'out')
            assert done.status == 1 and done.err.count('\n') == 1, arguments
        assert seen(place) == before
        v = Vault(pathlib.Path(place, 'vaults', 'p.db'))
        v['bomb'] = Planted(tmp_path / 'made')
        v.close()
        shutil.rmtree(tmp_path / 'made', ignore_errors=True)  # a put tries whether the first of a class can be loaded
        assert command('get', 'p', 'bomb', '--output', place / 'out').status == 1
        assert not (tmp_path / 'made').exists() and not (place / 'out').exists()

    @needs_posix
    def test_progress_is_in_bytes(self, place):
        source = place / 'source'
        source.write_bytes(bytes(1 << 20))
        done = at_terminal(place, 'put', 'f', 'k', str(source), streams=['stderr'])
        assert done.status == 0 and 'storing: 262,144 of 1,048,576 bytes' in done.seen
        done = at_terminal(place, 'get', 'f', 'k', '--output', str(source), streams=['stderr'])
        assert done.status == 0 and 'writing: 262,144 of 1,048,576 bytes' in done.seen

    def test_shells_complete_its_files(self, command):
        for shell in ('bash', 'zsh'):
            script = command('completion', shell).out
            assert re.search(r'--output\* \| .*put:2.*\) due=file', script) and 'put:1' in script and ' --output' in script

    def test_a_closed_output_is_no_crash(self, place):
        code = "import sys; sys.stdout = None; from vaults.cli import main; sys.exit(main(['get', 'p', sys.argv[1]]))"
        for key in ('photo', 'log'):
            done = run(code, key, env={'VAULTS_ROOT': str(place)})
            assert (done.returncode, done.stderr) == (0, '')

    def test_info_counts_all_parts_and_names_the_sections(self, command, place):
        facts = json.loads(command('info', 'p', '--json').out)
        assert [facts[name] for name in ('lists', 'columns', 'streams', 'sections')] == [2, 2, 1, ['s']]
        items = sum(len(vaults.dumps(n)) for n in range(1000)) + len(vaults.dumps(1) + vaults.dumps((2,)) + vaults.dumps('é\n'))
        assert facts['parts'] == items + 8000 + 4 + 300001
        assert facts['largest'][:2] == [{'key': 'photo', 'bytes': 300001}, {'key': 'temps', 'bytes': 8000}]
        assert 'serializer' not in facts
        lines = command('info', 'p').out.splitlines()
        assert 'lists     2' in lines and 'section   s' in lines and 'largest   300001 bytes: photo' in lines
        with contextlib.closing(Vault(pathlib.Path(place, 'vaults', 'many.db'))) as v:
            v.update({(n, n): n for n in range(50)})
            v[('only',)] = 1
        assert json.loads(command('info', 'many', '--json').out)['sections'] == list(range(20))

    def test_the_other_commands_know_them(self, command, place):
        assert command('count', 'p').out == '6\n' and command('keys', 'p').out.split()[:2] == ['few', 'log']
        assert command('check', 'p').out == 'sound: 6 entries\n'
        assert command('backup', 'p', place / 'copy.db').status == 0
        assert command('export', place / 'copy.db').out == command('export', 'p').out
        assert command('export', 'p', place / 'p.jsonl').out == f"6 entries written to {place / 'p.jsonl'}\n"
        assert command('import', place / 'p.jsonl', 'q').out == '6 entries imported, 0 of them replaced earlier ones\n'
        assert command('import', place / 'vaults' / 'p.db', 'q', '--json').out == '{"imported": 6, "replaced": 6}\n'
        for key in ('log', 'few', 'temps', 'tags', 'photo'):
            assert command('get', 'q', key).out == command('get', 'p', key).out
        assert command('delete', 'p', 'photo').status == 0
        assert json.loads(command('compact', 'p', '--json').out)['after'] < 100_000
        assert command('get', 'p', 'photo').status == 1
        for form in ('{"!list": 1}', '{"!stream": 0}', '{"!column": ["int8", 0]}', '{"!serialized": ["json", "1"]}'):
            assert command('set', 'p', '"k"', form, '--json').status == 2

    def test_a_vault_with_a_serializer_is_looked_into_without_it(self, command, root):
        def loads(data):
            raise AssertionError('the command has no functions')
        with contextlib.closing(Vault(pathlib.Path(root, 'vaults', 's.db'),
                                      serializer=('mine', lambda obj: json.dumps(obj), loads))) as v:
            v.update({'a': [1, 'é'], 'b': 'text'})
            v.list('log').extend([1, 2])
            with v.open('photo', 'wb') as file:
                file.write(b'abc')
        assert command('get', 's', 'a').out == '[1, "\\u00e9"]\n'
        assert command('get', 's', '"a"', '--json').out == '{"!serialized": ["mine", "[1, \\"\\\\u00e9\\"]"]}\n'
        assert command('show', 's').out.splitlines()[1] == 'b      "text"'
        assert command('get', 's', 'photo').out == 'abc'
        facts = json.loads(command('info', 's', '--json').out)
        assert facts['serializer'] == 'mine' and facts['lists'] == 1
        assert 'serializer mine' in command('info', 's').out.splitlines()
        assert command('check', 's').status == 0 and command('keys', 's').out.split() == ['a', 'b', 'log', 'photo']
        done = command('set', 's', 'a', 'x')
        assert done.status == 1 and "'mine'" in done.err
        assert command('delete', 's', 'b').status == 0
        lines = command('export', 's').out
        assert '["mine", ' in lines
        done = command('import', '-', 'plain', stdin=lines.encode())
        assert done.status == 1 and "'mine'" in done.err
        done = command('import', '-', 's', stdin=b'{"key": "k", "value": 1}')
        assert done.status == 1 and "'mine'" in done.err
        assert command('import', '-', 's', stdin=lines.encode()).status == 0
        assert command('export', 's').out == lines
