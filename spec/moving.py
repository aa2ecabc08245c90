"""Moving in from other stores."""
from __future__ import annotations

import array
import contextlib
import datetime as dt
import dbm.dumb
import decimal
import io
import json
import os
import pathlib
import pickle
import re
import shutil
import sqlite3
import struct
import sys
import tracemalloc

import msgpack
import pytest

import vaults
from testdata.make import EXPECTED
from vaults import Vault, moving
from vaults.moving import readers
from vaults.moving import texts as pieces

from .helpers import HERE, LINUX, UTC, output
from .peers import EARLIER, SQLITEDICT, bomb, fails, lacks, seen, sqlite_file

ORDERED = [name for name in EXPECTED if 'gnu' not in name and 'ndbm' not in name and 'fanout' not in name]


class TestMovingIn:
    """What peers have written is read as they would read it, and stays as it was."""

    @pytest.mark.parametrize('name', EXPECTED)
    def test_every_peers_entries_come_over(self, peers, v, name):
        if lacks(name):
            with pytest.raises(vaults.VaultError, match='lacks that module: .*Debian'):
                moving.import_file(v, peers / name)
            pytest.skip(f'this Python has no {lacks(name)}')
        before = seen(peers)
        options = {'key': 'id'} if name == 'csv-cities.csv' else {}
        pairs = list(moving.read(peers / name, **options))
        assert dict(pairs) == EXPECTED[name]
        assert len(pairs) == len(EXPECTED[name])
        assert all(repr(EXPECTED[name][key]) == repr(value) or type(value) in (set, dict) for key, value in pairs)
        if name in ORDERED:
            assert [key for key, _ in pairs] == list(EXPECTED[name])
        assert moving.import_file(v, peers / name, **options) == len(pairs)
        assert v.items() == pairs
        assert seen(peers) == before

    @pytest.mark.parametrize('name', EXPECTED)
    def test_each_is_recognised(self, peers, name):
        family, _ = re.split('[-.]', name)[:2]
        kind = {'jsonl': 'jsonlines', 'vaults': 'earlier vault', 'pickledb': 'pickledb' if name.endswith('sqlite') else
                'json', 'shelve': 'dbm' if lacks(name) else 'shelve'}.get(family, family)
        assert moving.recognise(peers / name) == kind

    @pytest.mark.parametrize('name', ['dbm-dumb.dat', 'dbm-dumb.dir', 'dbm-ndbm.db'])
    def test_a_dbm_may_be_given_with_the_suffix_of_its_file(self, peers, name):
        assert moving.recognise(peers / name) == 'dbm'
        if not lacks(name):
            assert dict(moving.read(peers / name)) == EXPECTED[name.partition('.')[0]]

    def test_the_kind_may_be_said(self, peers, v):
        values_of = dict(moving.read(peers / 'shelve-dumb', kind='dbm'))
        assert pickle.loads(values_of['tuple']) == EXPECTED['shelve-dumb']['tuple']
        with pytest.raises(vaults.VaultError, match='earlier vault.*not \'sqlite\''):
            moving.read(peers / 'shelve-dumb', kind='sqlite')

    def test_one_table_of_several_may_be_picked(self, peers):
        two = peers / 'sqlitedict-two-tables.sqlite'
        assert list(moving.read(two, table='old "orders"')) == [('1', ('tea', 2)), ('same', 'in old orders'), ('none', None)]
        fails(two, "'lost'", "'users'", table='lost')
        fails(peers / 'csv-pairs.csv', 'sqlitedict', 'csv', table='users', error=vaults.VaultError)

    def test_keys_of_a_dbm_are_text_or_as_they_are(self, peers):
        assert set(moving.read(peers / 'dbm-dumb', encoding=None)) == {
            (key.encode(), value) for key, value in EXPECTED['dbm-dumb'].items()}

    def test_decode_is_given_each_stored_value(self, peers, tmp_path):
        for name, kept in [('shelve-dumb', bytes), ('shelve-sqlite3', bytes), ('sqlitedict-json.sqlite', str)]:
            assert {type(value) for _, value in moving.read(peers / name, decode=lambda data: data)} == {kept}
        assert ('file bytes', 'YES') in moving.read(peers / 'diskcache-cache',
                                                    decode=lambda data: 'YES' if data == bytes(range(256)) else None)
        fails(peers / 'shelve-dumb', "key 'text'", 'decode', decode=lambda data: {}['a'], error=vaults.SerializationError)

    def test_a_vault_of_today_moves_too(self, v, tmp_path):
        v.update({('a', 1): {1, 2}, True: 'bool', 1.5: Ellipsis, 'b': None})
        v.close()
        with Vault('other') as other:
            assert moving.recognise(v.db_path) == 'vault'
            assert moving.import_file(other, v.db_path) == 4
            assert other.items() == [(('a', 1), {1, 2}), (True, 'bool'), (1.5, Ellipsis), ('b', None)]
            assert [*map(type, other)] == [tuple, bool, float, str]

    def test_of_equal_keys_the_later_wins(self, v, tmp_path):
        (tmp_path / 'twice.json').write_text('{"a": 1, "b": 2, "a": 3}')
        (tmp_path / 'twice.jsonl').write_text('{"key": 1, "value": "int"}\n{"key": true, "value": "bool"}\n')
        (tmp_path / 'twice.csv').write_text('key,value\nc,1\nc,2\n')
        assert [moving.import_file(v, tmp_path / f'twice.{suffix}') for suffix in ('json', 'jsonl', 'csv')] == [3, 2, 2]
        assert v.items() == [('a', 3), ('b', 2), (1, 'bool'), ('c', '2')]

    def test_expired_entries_of_a_cache_stay_behind(self, peers):
        with contextlib.closing(sqlite3.connect(f'file:{peers}/diskcache-cache/cache.db?immutable=1', uri=True)) as raw:
            stored = {key for key, in raw.execute('SELECT key FROM Cache')}
        assert {'expired', 'expired in a file'} <= stored
        assert not {'expired', 'expired in a file'} & set(dict(moving.read(peers / 'diskcache-cache')))

    def test_a_table_may_have_any_name(self, tmp_path):
        name = 'x" UNION SELECT 1, 2 --\''
        path = sqlite_file(tmp_path / 'odd.sqlite', (SQLITEDICT.replace('unnamed', name.replace('"', '""')),),
                           ('INSERT INTO "{}" VALUES (?, ?)'.format(name.replace('"', '""')), ('a', '[1]')))
        assert list(moving.read(path)) == list(moving.read(path, table=name)) == [('a', [1])]

    def test_keys_of_the_earlier_vaults_are_tuples_where_msgpack_has_lists(self, v, tmp_path):
        path = sqlite_file(tmp_path / 'a.db', (EARLIER,), ('INSERT INTO dict VALUES (?, ?)', (
            b'M' + msgpack.packb(['a', [1, [2.5]]]), b'M' + msgpack.packb([[1], {1: [2]}]))))
        assert list(moving.read(path)) == [(('a', (1, (2.5,))), [[1], {1: [2]}])]

    def test_what_only_begins_as_a_pickle_is_none(self, tmp_path):
        for data, kind in ((b'N.', 'shelve'), (b'N.hello.', 'dbm'), (b'N', 'dbm'), (b'', 'dbm')):
            with contextlib.closing(dbm.dumb.open(str(tmp_path / 'a'), 'n')) as db:
                db['k'] = data
            assert moving.recognise(tmp_path / 'a') == kind

    def test_files_of_a_dbm_beside_it_do_not_count(self, tmp_path):
        for ending, data in (('.dat', b''), ('.dir', b''), ('.db', b'{"a": 1}'), ('.csv', b'key\n')):
            (tmp_path / f'a{ending}').write_bytes(data)
        assert [moving.recognise(tmp_path / f'a{suffix}') for suffix in ('', '.dir', '.db', '.csv')] == [
            'shelve', 'shelve', 'json', 'csv']

    def test_progress_is_told_every_thousand_entries(self, v, tmp_path):
        done = []
        (tmp_path / 'many.csv').write_text('key,value\n' + ''.join(f'{n},x\n' for n in range(2500)))
        assert moving.import_file(v, tmp_path / 'many.csv', progress=done.append) == 2500
        moving.export(v, io.StringIO(), progress=done.append)
        assert done == [1000, 2000, 2500] * 2

    def test_an_iterator_that_is_dropped_lets_go_of_the_source(self, peers):
        for name in ('diskcache-cache', 'shelve-sqlite3', 'shelve-dumb', 'csv-pairs.csv', 'json-object.json'):
            iterator = moving.read(peers / name)
            next(iterator)
            iterator.close()
            if LINUX:
                assert not any(name in os.path.realpath(f'/proc/self/fd/{fd}') for fd in os.listdir('/proc/self/fd'))


MADE_UP = """
from . import Reader

class MadeUp(Reader):
    name = 'made up'
    options = ('decode',)
    cure = 'see that each line is a name, an equals sign and a number'

    def recognise(self, head, path):
        return head.startswith(b'MADE UP')

    def entries(self, source):
        with source.text('') as file:
            for line in list(file)[1:]:
                key, _, value = line.strip().partition('=')
                yield key, source.decoded(key, value, source.decode or int)
"""


class TestReaders:
    """A format is a file among the readers, and nothing else knows which there are."""

    @pytest.fixture
    def made_up(self, tmp_path, monkeypatch):
        """A file of a format that a file beside the readers has just brought."""
        (tmp_path / 'more').mkdir()
        (tmp_path / 'more' / 'madeup.py').write_text(MADE_UP)
        monkeypatch.setattr(readers, '__path__', [*readers.__path__, str(tmp_path / 'more')])
        monkeypatch.delitem(sys.modules, f'{readers.__name__}.madeup', raising=False)
        (tmp_path / 'numbers').write_text('MADE UP\none=1\ntwo=2\n')
        return tmp_path / 'numbers'

    def test_a_new_file_there_is_a_format_with_all_that_others_have(self, made_up, v):
        assert moving.recognise(made_up) == 'made up'
        assert list(moving.read(made_up)) == list(moving.read(made_up, kind='made up')) == [('one', 1), ('two', 2)]
        assert list(moving.read(made_up, decode=len)) == [('one', 1), ('two', 1)]
        assert moving.import_file(v, made_up) == 2 and v.items() == [('one', 1), ('two', 2)]
        with pytest.raises(vaults.VaultError, match=f"table=... is for .*sqlitedict.*, and {re.escape(str(made_up))} is read as made up"):
            moving.read(made_up, table='one')
        with pytest.raises(vaults.VaultError, match='decode=... is for .*made up.* is read as csv'):
            moving.read(made_up, kind='csv', decode=len)
        with pytest.raises(vaults.VaultError, match="kind is one of .*made up.*, not 'made'"):
            moving.read(made_up, kind='made')
        with pytest.raises(vaults.VaultError, match='made up is read from a path'):
            moving.read(io.StringIO('MADE UP'), kind='made up')
        with pytest.raises(vaults.VaultFormatError, match=r'It holds a made up file: move it with `vaults import .*numbers'):
            Vault(made_up)
        made_up.write_text('MADE UP\none=x\n')
        fails(made_up, "key 'one'", 'an equals sign and a number', error=vaults.SerializationError)

    def test_the_command_imports_it_too(self, made_up, command):
        done = command('import', made_up, 'new')
        assert (done.status, done.err) == (0, '') and done.out.startswith('2 entries imported')
        assert command('get', 'new', 'two', '--json').status == 2 and command('get', 'new', 'two').out == '2\n'
        done = command('import', made_up, 'other', '--key', 'id')
        assert done.status == 1 and '--key ... is for' in done.err and 'is read as made up' in done.err
        assert command('list').out == 'new\n'

    def test_without_the_file_it_is_of_no_format(self, tmp_path):
        (tmp_path / 'numbers').write_text('MADE UP\none=1\n')
        with pytest.raises(vaults.VaultFormatError, match='a file of another sort'):
            moving.recognise(tmp_path / 'numbers')

    def test_the_page_about_moving_has_each(self):
        page = (HERE / 'docs' / 'moving.md').read_text('utf-8')
        assert sorted(re.findall('^[|] `(.+?)` [|]', page, re.M)) == sorted(readers.all_readers())

    def test_of_two_that_could_claim_a_file_the_more_particular_one_is_asked_first(self, tmp_path):
        asked = list(readers.all_readers())
        for first, second in (('vault', 'diskcache'), ('diskcache', 'litedict'), ('earlier vault', 'sqlitedict'), ('shelve', 'dbm'),
                              ('sqlitedict', 'pickledb'), ('pickledb', 'litedict'), ('litedict', 'kohakuvault'),
                              ('tinydb', 'jsonlines'), ('jsonlines', 'json'), ('json', 'csv')):
            assert asked.index(first) < asked.index(second)
        tables = {'sqlitedict': SQLITEDICT, 'litedict': 'CREATE TABLE words (key TEXT, value)', 'earlier vault': EARLIER}
        for kinds in (['sqlitedict', 'litedict'], ['earlier vault', 'sqlitedict', 'litedict']):
            path = sqlite_file(tmp_path / f'{len(kinds)}.db', *((tables[kind],) for kind in reversed(kinds)))
            assert moving.recognise(path) == kinds[0]

    def test_none_of_them_is_loaded_before_something_is_read(self):
        assert output('''
            import sys, vaults
            from vaults.moving import as_json, copy, export, import_file, read, recognise
            print(*(name for name in sys.modules if name.startswith('vaults.moving.')), 'sqlite3' in sys.modules, 'csv' in sys.modules)
        ''') == 'vaults.moving.as_json False False'


class TestMovingRecords:
    """Arrays and lines of JSON objects come in by a field, and the cells of CSV by type."""
    RECORDS = [{'id': 1, 'name': 'Ada', 'tags': ['x', {'y': None}]}, {'name': 'Zoë', 'id': 'two'}, {'id': 3.5}, {'id': 0, 'value': [1]}]
    WANTED = [(1, {'name': 'Ada', 'tags': ['x', {'y': None}]}), ('two', {'name': 'Zoë'}), (3.5, {}), (0, [1])]

    @pytest.mark.parametrize('chunk', [1, 7, 1 << 16])
    def test_an_array_and_lines_come_over_by_a_field(self, tmp_path, v, monkeypatch, chunk):
        monkeypatch.setattr(pieces, 'TO_READ', chunk)
        lines = '\n'.join(map(json.dumps, self.RECORDS))
        texts = {'a.json': json.dumps(self.RECORDS), 'b.json': '\ufeff ' + json.dumps(self.RECORDS, indent=2), 'c': json.dumps(self.RECORDS),
                 'd.jsonl': lines + '\n', 'e': lines, 'f.json': lines, 'g.ndjson': lines.replace('\n', '\n\n')}
        for name, text in texts.items():
            (tmp_path / name).write_text(text, 'utf-8')
            assert list(moving.read(tmp_path / name, key='id')) == self.WANTED
            assert moving.recognise(tmp_path / name) == ('json' if name in ('a.json', 'b.json', 'c', 'f.json') else 'jsonlines')
            v.clear()
            assert moving.import_file(v, tmp_path / name, key='id') == 4 and v.items() == self.WANTED
        for kind, text in (('json', texts['a.json']), ('jsonlines', lines), (None, lines)):
            assert list(moving.read(io.StringIO(text), key='id', kind=kind)) == self.WANTED
        (tmp_path / 'a.json').write_text('[]')
        assert list(moving.read(tmp_path / 'a.json', key='id')) == list(moving.read(tmp_path / 'a.json')) == []
        (tmp_path / 'one').write_text('{"id": 1, "name": "Ada"}')
        assert list(moving.read(tmp_path / 'one', key='id')) == [(1, {'name': 'Ada'})]
        assert list(moving.read(tmp_path / 'one')) == [('id', 1), ('name', 'Ada')]

    def test_what_is_plain_json_stays_so(self, tmp_path, v):
        (tmp_path / 'a.jsonl').write_text('{"id": "a", "x": {"!bytes": "AA=="}}\n{"id": "!", "value": {"!set": [[1]]}}\n')
        moving.import_file(v, tmp_path / 'a.jsonl', key='id')
        assert v.items() == [('a', {'x': {'!bytes': 'AA=='}}), ('!', {'!set': [[1]]})]
        (tmp_path / 'b.jsonl').write_text('{"key": "a", "value": {"!bytes": "AA=="}}\n')
        assert list(moving.read(tmp_path / 'b.jsonl', key='key')) == [('a', b'\0')]

    @pytest.mark.parametrize('name, text, options, words', [
        ('a.json', '[{"id": 1, "name": "x"}]', {}, ['item 1', 'line 1', 'key=...', "'id', 'name'"]),
        ('a.json', '[\n\n {"id": 1, "name": "x"}]', {}, ['line 3']),
        ('a.jsonl', '{"id": 1, "name": "x"}\n', {}, ['line 1', 'key=...', "'id', 'name'"]),
        ('a', '{"id": 1, "name": "x"}\n{"id": 2}\n', {}, ['line 1', 'key=...', "'id', 'name'"]),
        ('a.json', '[{"id": 1},\n{"name": 2}]', {'key': 'id'}, ['item 2', 'line 2', "no field 'id'", "'name'"]),
        ('a.jsonl', '{"id": 1}\n{}\n', {'key': 'id'}, ['line 2', "no field 'id'"]),
        ('a.json', '[{"id": 1},\n{"id": 2},\n{"id": 1.0}]', {'key': 'id'}, ['item 3, line 3', 'item 1, line 1', 'the key 1']),
        ('a.jsonl', '{"id": "a"}\n\n{"id": "a"}\n', {'key': 'id'}, ['line 3', "'a'", 'line 1']),
        ('a.json', '[{"id": null}]', {'key': 'id'}, ['item 1', 'null', 'no key']),
        ('a.jsonl', '{"id": [1]}', {'key': 'id'}, ['line 1', '[1]', 'no key']),
        ('a.json', '[{"id": 1}, 2]', {'key': 'id'}, ['item 2', 'no object']),
        ('a.jsonl', '{"id": 1}\n[2]\n', {'key': 'id'}, ['line 2', 'no object']),
        ('a.jsonl', '{"id": 1}\n{"id": \n', {'key': 'id'}, ['line 2', 'no JSON']),
        ('a.json', '[{"id": 1} {"id": 2}]', {'key': 'id'}, [', or ] is expected']),
        ('a.json', '[{"id": 1}] 5', {'key': 'id'}, ['something follows']),
        ('a.json', '{"a":\n {"id": 1}}', {'key': 'id'}, ['leave key=... out']),
        ('a.json', '["key", 1]', {}, ['a JSON list', 'jsonlines']),
        ('a', '[section]\nkey = 1\n', {}, ['a JSON list']),
    ])
    def test_what_cannot_be_a_record_is_named_with_its_place(self, tmp_path, name, text, options, words):
        (tmp_path / name).write_text(text)
        fails(tmp_path / name, *words, **options)

    def test_they_are_streamed(self, tmp_path):
        (tmp_path / 'a.json').write_text('[' + ','.join(json.dumps({'id': n, 'text': 'x' * 1000}) for n in range(10_000)) + ']')
        tracemalloc.start()
        try:
            assert sum(len(value['text']) for _, value in moving.read(tmp_path / 'a.json', key='id')) == 10_000_000
            assert tracemalloc.get_traced_memory()[1] < 4_000_000
        finally:
            tracemalloc.stop()

    TABLE = ('id,n,price,big,zip,code,ok,born,at,mixed,empty,half\n'
             '1,5,1.50,99999999999999999999,01234,1e5,true,2026-11-25,2026-11-25T10:30,5,,\n'
             '2,-7,2,0,98765,2,False,1999-01-31,2026-11-25 10:30:15.25Z,x,,4\n'
             '007,0,-0.25,-1,00000,3,TRUE,,2026-11-25T10:30:15+02:00,1.5,,\n')

    def test_the_types_of_columns_are_guessed_exactly(self, tmp_path):
        (tmp_path / 'a.csv').write_text(self.TABLE)
        rows = dict(moving.read(tmp_path / 'a.csv', key='id', types='auto'))
        assert list(rows) == ['1', '2', '007']
        first, second, third = rows.values()
        assert first == {'n': 5, 'price': 1.5, 'big': 99999999999999999999, 'zip': '01234', 'code': '1e5', 'ok': True,
                         'born': dt.date(2026, 11, 25), 'at': dt.datetime(2026, 11, 25, 10, 30), 'mixed': '5', 'empty': '', 'half': None}
        assert [type(value) for value in second.values()] == [int, float, int, str, str, bool, dt.date, dt.datetime, str, str, int]
        assert second['at'] == dt.datetime(2026, 11, 25, 10, 30, 15, 250000, UTC) and third['born'] is None
        assert third['at'].utcoffset() == dt.timedelta(hours=2) and rows['2']['half'] == 4
        assert dict(moving.read(io.StringIO(self.TABLE), kind='csv', key='id', types='auto')) == rows  # which is read twice
        plain = dict(moving.read(tmp_path / 'a.csv', key='id'))
        assert all(type(cell) is str for row in plain.values() for cell in row.values())

    @pytest.mark.parametrize('cells, kept', [
        (['1', '2'], [1, 2]), (['0', '-1'], [0, -1]), (['007', '1'], ['007', '1']), (['-0', '1'], ['-0', '1']), (['+1', '2'], ['+1', '2']),
        (['1_000'], ['1_000']), (['1,5'], ['1,5']), ([' 1'], [' 1']), (['1e5'], ['1e5']), (['0x10'], ['0x10']), (['\u0663'], ['\u0663']),
        (['1' * 400], [int('1' * 400)]), (['9' * 5000], ['9' * 5000]), (['9007199254740993', '1'], [9007199254740993, 1]),
        (['9007199254740993', '1.5'], ['9007199254740993', '1.5']), (['1', '1.5'], [1.0, 1.5]), (['0.1', '123.456'], [0.1, 123.456]),
        (['3.14159265358979323846'], ['3.14159265358979323846']), (['.5'], ['.5']), (['5.'], ['5.']), (['nan'], ['nan']), (['inf'], ['inf']),
        (['true', 'FALSE'], [True, False]), (['true', '1'], ['true', '1']), (['yes'], ['yes']), (['NO'], ['NO']), (['', '1'], [None, 1]),
        (['', ''], ['', '']), (['', 'x'], ['', 'x']), (['2026-02-29'], ['2026-02-29']), (['2024-02-29'], [dt.date(2024, 2, 29)]),
        (['2024-02-29', '2024-02-29T10:00'], ['2024-02-29', '2024-02-29T10:00']), (['20240229'], [20240229]), (['2024-2-9'], ['2024-2-9']),
        (['2024-02-29T25:00'], ['2024-02-29T25:00']), (['10:30'], ['10:30']), (['2024-02-29 10:00:00.1'], [dt.datetime(2024, 2, 29, 10, 0, 0, 100000)])])
    def test_a_guess_is_made_of_a_whole_column(self, cells, kept):
        text = 'key;value\n' + ''.join(f'{n};{cell}\n' for n, cell in enumerate(cells))
        found = [value for _, value in moving.read(io.StringIO(text), kind='csv', types='auto')]
        assert found == kept and [*map(type, found)] == [*map(type, kept)]

    @pytest.mark.parametrize('type_, cells, kept', [
        ('int', ['007', '+5', ' 1 ', '9' * 300], [7, 5, 1, int('9' * 300)]), ('float', ['1e5', '1', '-.5', 'nan'], [1e5, 1.0, -0.5, float('nan')]),
        ('bool', ['yes', 'No', '1', '0', 't', 'FALSE'], [True, False, True, False, True, False]), ('text', ['5', ''], ['5', '']),
        ('decimal', ['1.50', '1e3'], [decimal.Decimal('1.50'), decimal.Decimal('1e3')]), ('date', ['2026-01-02', ''], [dt.date(2026, 1, 2), None]),
        ('datetime', ['2026-01-02 03:04', ''], [dt.datetime(2026, 1, 2, 3, 4), None])])
    def test_types_are_named(self, tmp_path, type_, cells, kept):
        text = 'key,value,other\n' + ''.join(f'{n},{cell},5\n' for n, cell in enumerate(cells))
        for how in (f'value:{type_}', {'value': type_}, f'auto,value:{type_},other:text,key:text'):
            found = list(moving.read(io.StringIO(text), kind='csv', types=how))
            assert repr([row['value'] for _, row in found]) == repr(kept)
            assert [(key, row['other']) for key, row in found] == [(f'{n}', '5') for n in range(len(cells))]
        assert next(moving.read(io.StringIO(text), kind='csv', types='key:int'))[0] == 0

    @pytest.mark.parametrize('how, text, words', [
        ('n:int', 'key,n\na,5\nb,x\n', ["'x' is no int", "'n'", 'line 3', 'text']), ('n:int', 'key,n\na,1_0\n', ['line 2']),
        ('n:date', 'key,n\na,2026-13-01\n', ['line 2']), ('n:bool', 'key,n\na,2\n', ['no bool']), ('m:int', 'key,n\na,1\n', ["'m'", "['key', 'n']"]),
        ('n:float', 'key,n\na,1_0.5\n', ['no float']), ('key:int', 'key,n\n,1\n', ['is empty', 'line 2']), ('n:decimal', 'key,n\na,x\n', ['line 2'])])
    def test_a_cell_of_another_type_is_named_with_its_place(self, tmp_path, how, text, words):
        (tmp_path / 'a.csv').write_text(text)
        fails(tmp_path / 'a.csv', *words, types=how)

    def test_types_that_do_not_exist_are_refused(self, tmp_path):
        (tmp_path / 'a.csv').write_text('key,n\na,1\n')
        for how in ('n:number', 'n', ':int', {'n': 'x'}, 'auto,', 'n:int:'):
            with pytest.raises(vaults.VaultError, match='where a type is one of text, int'):
                list(moving.read(tmp_path / 'a.csv', types=how))
        (tmp_path / 'a.json').write_text('{}')
        with pytest.raises(vaults.VaultError, match='types=... is for csv'):
            moving.read(tmp_path / 'a.json', types='auto')

    def test_the_command_takes_fields_types_and_standard_input(self, command, root):
        lines = b'{"id": 1, "n": 2}\n{"id": 2, "n": 3}\n'
        for arguments, data in ((['--key', 'id'], lines), (['--kind', 'json', '--key', 'id'], b'[{"id": 1, "n": 2}, {"id": 2, "n": 3}]'),
                                (['--kind', 'csv', '--key', 'id', '--types', 'auto'], b'id,n,m\n1,2,\n2,3,\n')):
            done = command('import', '-', 'new', *arguments, stdin=data)
            assert (done.status, done.err) == (0, ''), done.err
            assert command('get', 'new', '2', '--json-key').out in ('{"n": 3}\n', '{"n": 3, "m": ""}\n')
        (root / 'a.csv').write_text('id,n\n1,x\n')
        assert '--types ... says' in command('import', root / 'a.csv', 'v', '--key', 'id', '--types', 'n:int').err
        assert 'pass --key ...' in command('import', '-', 'v', stdin=lines).err
        for text in (b'[{"id": 1}, {"id": 2}]', b'[\n{"id": 1}\n]\n', b' [\n]', b'{\n"id": {}\n}\n'):
            for arguments in ((), ('--key', 'id')):
                assert 'takes --kind json' in command('import', '-', 'v', *arguments, stdin=text).err, text
        assert 'is read from a path' in command('import', '-', 'v', '--kind', 'shelve').err
        assert '--kind' in command('import', '--help').out and 'JSON Lines, or what --kind' in ' '.join(command('import', '--help').out.split())

    def test_tinydbs_documents_have_their_numbers(self, tmp_path, v):
        text = '{"_default": {"1": {"a": 1}, "3": {}}, "people": {"1": {"b": null}, "x": 2}, "none": {}}'
        (tmp_path / 'db.json').write_text(text)
        assert moving.recognise(tmp_path / 'db.json') == 'tinydb'
        wanted = [(1, {'a': 1}), (3, {}), (('people', 1), {'b': None}), (('people', 'x'), 2)]
        assert list(moving.read(tmp_path / 'db.json')) == list(moving.read(io.StringIO(text), kind='tinydb')) == wanted
        assert moving.import_file(v, tmp_path / 'db.json') == 4 and v.section('people').items() == [(1, {'b': None}), ('x', 2)]
        assert list(moving.read(tmp_path / 'db.json', table='people')) == [(1, {'b': None}), ('x', 2)]
        fails(tmp_path / 'db.json', "no table 'lost'", table='lost')
        (tmp_path / 'db.json').write_text('{"_default": {"1": {"a": 1}, "2": []}, "people": [1]}')
        fails(tmp_path / 'db.json', 'no JSON object', 'line 1')


class TestMovingKohaku:
    """What kohakuvault writes is read without it, and an int that it gives back as a float is one again."""

    def entry(self, path, data):
        return sqlite_file(path, ('CREATE TABLE IF NOT EXISTS kv (key BLOB PRIMARY KEY NOT NULL, value BLOB NOT NULL)',),
                           ('INSERT OR REPLACE INTO kv VALUES (?, ?)', (b'k', data)))

    def packed(self, tmp_path, form, body):
        return dict(moving.read(self.entry(tmp_path / 'a', b'\x89K\x01' + bytes([form]) + b'\0\0\0\0VK' + body)))['k']

    def test_the_parts_of_a_file_become_what_they_are_in_a_vault(self, peers, v):
        assert moving.import_file(v, peers / 'kohakuvault-all.db', table='columns') == 2
        assert type(v['i64']).__name__ == 'Column' and v['i64'].dtype == 'int64' and v['i64'][:] == array.array('q', range(-9, 20))
        assert type(v['str:utf8']).__name__ == 'List' and v['str:utf8'][-1] == '日本'
        assert dict(moving.read(peers / 'kohakuvault-all.db', table='kv')) == {
            key[1]: value for key, value in EXPECTED['kohakuvault-all.db'].items() if key[0] == 'kv'}
        fails(peers / 'kohakuvault-all.db', "'lost'", "'columns'", "'text_vault'", table='lost')

    @pytest.mark.parametrize('number', [0, 1, -1, 10**12 - 1, 10**12, 1_700_000_000_000, 2**53 + 1, 1_700_000_000_000_000_000, -10**12,
                                        -1_700_000_000_000_000_000, 1.5, -1.5, 1e-100, -1e-100, 1e100, 1e300, float('inf'), float('-inf')])
    def test_a_number_is_what_it_was(self, tmp_path, number):
        found = self.packed(tmp_path, 2, struct.pack('<q' if isinstance(number, int) else '<d', number))
        assert found == number and type(found) is type(number)

    def test_nan_and_what_has_no_header(self, tmp_path):
        assert all(repr(self.packed(tmp_path, 2, bytes.fromhex(code))) == 'nan' for code in ('000000000000f87f', '000000000000f8ff'))
        for data in (b'', b'\x89K', b'\x89K\x01\x01\0\0\0\1VK.', b'\x89K\x02\x01\0\0\0\0VK.'):
            assert dict(moving.read(self.entry(tmp_path / 'a', data))) == {'k': data}
        assert self.packed(tmp_path, 2, 'Grüße'.encode()) == 'Grüße'

    def test_arrays_of_numpy_keep_their_type_and_shape(self, tmp_path):
        np = pytest.importorskip('numpy')
        for body, wanted in ((b'\x0a\x02' + struct.pack('<2I', 2, 3) + bytes(12), np.zeros((2, 3), 'int16')),
                             (b'\x02\x01' + bytes(4), np.zeros(0)), (b'\x05\x01\2\0\0\0\x07\x08', np.array([7, 8], 'uint8'))):
            found = self.packed(tmp_path, 2, body)
            assert found.dtype == wanted.dtype and found.shape == wanted.shape and (found == wanted).all()
        assert repr(self.packed(tmp_path, 2, b'\x04\0' + struct.pack('<q', 7))) == repr(np.int64(7))

    def test_cbor(self, tmp_path):
        for code, wanted in (('00', 0), ('1818', 24), ('190100', 256), ('1bffffffffffffffff', 2**64 - 1), ('20', -1), ('3863', -100),
                             ('f93e00', 1.5), ('fa47c35000', 100000.0), ('fb3ff199999999999a', 1.1), ('f4', False), ('f6', None),
                             ('43010203', b'\1\2\3'), ('62c3bc', 'ü'), ('8301820203820405', [1, [2, 3], [4, 5]]), ('a26161016162820203', {'a': 1, 'b': [2, 3]}),
                             ('9f018202039f0405ffff', [1, [2, 3], [4, 5]]), ('bf6161f5ff', {'a': True}), ('7f657374726561646d696e67ff', 'streaming'),
                             ('c11a514b67b0', 1363896240), ('80', []), ('a0', {})):
            found = self.packed(tmp_path, 5, bytes.fromhex(code))
            assert found == wanted and type(found) is type(wanted)
        for code in ('', '18', '62c3', '8301', 'ff', 'fc', '0000', '9f01', '1c', '5f', '81' * 5000):
            fails(self.entry(tmp_path / 'a', b'\x89K\x01\5\0\0\0\0VK' + bytes.fromhex(code)), "key 'k'", 'decode=', error=vaults.SerializationError)

    def test_what_is_wrong_is_named(self, peers, tmp_path, command):
        for form, body, error in ((3, b'{', vaults.SerializationError), (4, b'\xc1', vaults.SerializationError),
                                  (6, b'\xff', vaults.SerializationError), (9, b'', vaults.VaultFormatError), (1, b'x', vaults.VaultFormatError)):
            fails(self.entry(tmp_path / 'a', b'\x89K\x01' + bytes([form]) + b'\0\0\0\0VK' + body), "key 'k'", error=error)
        sqlite_file(tmp_path / 'a', ('DELETE FROM kv',), ('INSERT INTO kv VALUES (?, ?)', (b'\xff', b'')))
        fails(tmp_path / 'a', "key b'\\xff'", 'latin-1')
        assert dict(moving.read(tmp_path / 'a', encoding=None)) == {b'\xff': b''}
        name, new = str(tmp_path / 'a'), str(tmp_path / 'new.db')
        assert '--encoding latin-1 or another, or --encoding None' in command('import', name, new).err
        assert command('import', name, new, '--encoding', 'None').status == 0
        with contextlib.closing(Vault(pathlib.Path(new))) as v:
            assert v.items() == [(b'\xff', b'')]
        assert dict(moving.read(tmp_path / 'a', encoding=None, decode=len)) == {b'\xff': 0}
        for statement, words in (("UPDATE kvault_col_blocks SET row_count = row_count + 1 WHERE block_id = 1", 'damaged'),
                                 ("UPDATE kvault_col_data SET offsets = x'00' WHERE offsets IS NOT NULL", 'damaged'),
                                 ("UPDATE kvault_col_columns SET dtype = 'quux' WHERE dtype = 'cbor'", 'quux'),
                                 ("UPDATE kvault_col_format SET version = 2", 'version 1')):
            shutil.copyfile(peers / 'kohakuvault-columns.db', tmp_path / 'c.db')
            sqlite_file(tmp_path / 'c.db', (statement,))
            fails(tmp_path / 'c.db', words, error=vaults.VaultCorruptError if words == 'damaged' else vaults.VaultFormatError)

    def test_text_that_is_none_in_a_block_is_an_error_of_ours(self, peers, tmp_path, v):
        shutil.copyfile(peers / 'kohakuvault-columns.db', tmp_path / 'a')
        sqlite_file(tmp_path / 'a', ("UPDATE kvault_col_blocks SET row_count = CAST(x'ff' AS TEXT)",))
        for read in (lambda: list(moving.read(tmp_path / 'a')), lambda: moving.import_file(v, tmp_path / 'a')):
            with pytest.raises(vaults.VaultError, match='cannot be read'):
                read()
        assert len(v) == 0

    def test_a_view_without_an_end_is_not_looked_into(self, peers, tmp_path):
        shutil.copyfile(peers / 'kohakuvault-all.db', tmp_path / 'a')
        sqlite_file(tmp_path / 'a', ('ALTER TABLE text_vault_content RENAME TO away',), (
            'CREATE VIEW text_vault_content AS WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c)'
            ' SELECT away.* FROM c, away',))
        fails(tmp_path / 'a', 'computed')

    def test_a_pickle_is_loaded_by_the_rule(self, tmp_path):
        self.entry(tmp_path / 'a', b'\x89K\x01\1\0\0\0\0VK' + bomb(tmp_path / 'made'))
        fails(tmp_path / 'a', "key 'k'", allow_pickle=False, error=vaults.UntrustedPickleError)
        (tmp_path / 'a').chmod(0o666)
        fails(tmp_path / 'a', "key 'k'", error=vaults.UntrustedPickleError)
        assert not (tmp_path / 'made').exists()

    def test_a_table_of_vectors_and_an_empty_part_are_no_hindrance(self, peers, tmp_path):
        shutil.copyfile(peers / 'kohakuvault-entries.db', tmp_path / 'a')
        sqlite_file(tmp_path / 'a', ('PRAGMA writable_schema = ON',), (
            "INSERT INTO sqlite_master VALUES ('table', 'vec_kvault', 'vec_kvault', 0, 'CREATE VIRTUAL TABLE vec_kvault USING vec0(x)')",),
            ('CREATE TABLE other (key BLOB PRIMARY KEY NOT NULL, value BLOB NOT NULL)',))
        assert dict(moving.read(tmp_path / 'a')) == EXPECTED['kohakuvault-entries.db']
        assert list(moving.read(tmp_path / 'a', table='other')) == []


class TestMovingFolders:
    def test_a_large_file_of_pyvault_is_a_stream(self, tmp_path, v):
        (tmp_path / 'units' / 'photos').mkdir(parents=True)
        data = os.urandom(3 << 20)
        (tmp_path / 'units' / 'photos' / '5.vault').write_bytes(b'x' + data)
        (tmp_path / 'units' / 'photos' / '12.vault').write_bytes(b'small')
        for other in ('01.vault', 'x.vault', '7.txt', '-1.vault'):
            (tmp_path / 'units' / 'photos' / other).write_bytes(b'not of it')
        assert moving.recognise(tmp_path / 'units') == 'pyvault'
        assert moving.import_file(v, tmp_path / 'units') == 2
        assert v['photos', 5] == b'x' + data and v['photos', 12] == b'small' and list(v) == [('photos', 5), ('photos', 12)]
        with v.open(('photos', 5)) as file:
            assert file.read(2) == b'x' + data[:1]
        assert dict(moving.read(tmp_path / 'units', decode=len)) == {('photos', 5): len(data) + 1, ('photos', 12): 5}
        assert dict(moving.read(tmp_path / 'units'))['photos', 5] == b'x' + data

    def test_pickles_of_pyvault_are_loaded_by_the_rule(self, tmp_path):
        (tmp_path / 'units' / 'u').mkdir(parents=True)
        (tmp_path / 'units' / 'u' / '1.vault').write_bytes(bomb(tmp_path / 'made'))
        fails(tmp_path / 'units', "('u', 1)", allow_pickle=False, error=vaults.UntrustedPickleError)
        (tmp_path / 'units' / 'u' / '1.vault').chmod(0o666)
        fails(tmp_path / 'units', '1.vault', error=vaults.UntrustedPickleError)
        assert not (tmp_path / 'made').exists()

    @pytest.mark.skipif(os.name == 'nt', reason='links')
    def test_a_link_out_of_the_folder_is_not_followed(self, tmp_path):
        (tmp_path / 'units' / 'u').mkdir(parents=True)
        (tmp_path / 'secret').write_bytes(b'secret')
        (tmp_path / 'units' / 'u' / '1.vault').symlink_to(tmp_path / 'secret')
        (tmp_path / 'units' / 'out').symlink_to(tmp_path)
        fails(tmp_path / 'units', 'UNIT/ID.vault')

    def test_the_command_recognises_them_all(self, command, peers, root):
        for name in ('kohakuvault-all.db', 'pystoragebackend-notes.sqlite', 'pyvault-units', 'tinydb-people.json'):
            done = command('import', peers / name, root / f'{name}.vault')
            assert (done.status, done.err) == (0, '') and done.out.startswith(f'{len(EXPECTED[name])} entries imported')
            assert os.name == 'nt' or (root / f'{name}.vault').stat().st_mode & 0o777 == 0o600
        assert command('get', root / 'tinydb-people.json.vault', '1', '--section', 'orders', '--json-key').out == '{"tea": 2}\n'
        assert command('import', peers / 'kohakuvault-all.db', root / 'one', '--table', 'kv').out.startswith('3 ')


class TestMovingFromPrograms:
    """A view, or a computed column, in place of what a library would have stored is not read."""

    @pytest.mark.parametrize('kind, table, columns', [
        ('earlier vault', 'dict', 'key, value'), ('dbm', 'Dict', 'key, value'), ('shelve', 'DICT', 'key, value'),
        ('diskcache', 'Cache', 'key, raw, mode, filename, value, expire_time'), ('litedict', 'Dict', 'key, value'),
        ('sqlitedict', 'unnamed', 'key, value')])
    def test_what_is_computed_is_not_read(self, tmp_path, kind, table, columns):
        endless = ', '.join(f'x AS {name}' for name in columns.split(', '))
        computed = columns.replace('value', 'other') + ', value AS (zeroblob(900000000))'
        for number, attack in enumerate((
                f'CREATE VIEW {table} AS WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) '
                f'SELECT {endless} FROM c', f'CREATE TABLE {table} ({computed}); INSERT INTO {table} DEFAULT VALUES')):
            path = tmp_path / f'{number}.db'
            with contextlib.closing(sqlite3.connect(str(path))) as raw:
                raw.executescript(attack)
            fails(path, kind=kind)
            with pytest.raises(vaults.VaultFormatError):
                moving.recognise(path)
