"""Lists, columns, streams and serializers as JSON, out and back."""
from __future__ import annotations

import array
import contextlib
import datetime as dt
import fractions
import io
import json
import pathlib
import pickle
import sqlite3
import tracemalloc

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vaults
from vaults import Vault, moving
from vaults.codecs import codes
from vaults.moving import as_json

from .helpers import HERE, raw_entries
from .peers import bomb
from .samples import Colour, Custom, Point, rich, shape


def as_lines(v):
    """Return what an export of the vault writes."""
    file = io.StringIO()
    moving.export(v, file)
    return file.getvalue()


def from_lines(lines, **options):
    """Return a vault in memory with what the lines hold."""
    v = Vault(':memory:', **options)
    moving.import_file(v, io.StringIO(lines), allow_pickle=True)
    return v


def contents(v):
    """Return all that is in a vault, of what is in chunks the packed items."""
    from vaults.codecs.codes import is_header
    from vaults.collections.kind import kind_of
    from vaults.collections.tree import Header
    found = []
    for key, data in raw_entries(v):
        if is_header(data):
            header = Header.of(data)
            items = [item for run, _ in kind_of(header).content(v._store, header) for item in run]
            data = header.code, header.meta, header.size, items if header.code == codes.LIST else b''.join(items)
        found.append((key, data))
    return found


def filled(v):
    """Put a value of each kind into a vault, large and small ones, some with skipped items and rewritten leaves."""
    v['before'] = 1
    v.list('empty')
    v.list('short').extend([1, None, (2,), b'x'])
    v.list('long').extend({'n': n, 'text': 'x' * (n % 50)} for n in range(3000))
    del v['long'][:7]
    del v['long'][1000:1100]
    v['long'].insert(500, 'y' * 9000)
    v.column('none', 'int8')
    v.column('temps', 'float64').extend([n / 7 for n in range(5000)] + [float('nan'), float('inf')])
    del v['temps'][:3]
    v.column('flags', 'bool').extend([True, False, True])
    v.column('names', 'S3').extend([b'a', b'bcd'] * 2000)
    v.column('days', 'datetime64[D]').extend([dt.date(2026, 11, 21)])
    with v.open('nothing', 'wb'):
        pass
    with v.open('small', 'wb') as file:
        file.write(b'\0\xff')
    with v.open(('files', 1), 'wb') as file:
        file.write(bytes(range(256)) * 3000)
    v['after'] = [1]
    return v


def fails_with(line, *words, error=vaults.VaultFormatError, before='', **options):
    """Import a good entry and lines that are wrong: nothing of it is there afterwards."""
    with contextlib.closing(Vault(':memory:', **options)) as v:
        v.list('kept').append(1)
        with pytest.raises(error) as caught:
            moving.import_file(v, io.StringIO('{"key": "good", "value": 1}\n' + before + line), allow_pickle=False)
        for word in words:
            assert str(word) in str(caught.value), str(caught.value)
        assert dict(v) == {'kept': [1]}
        v._check()


class TestPartsAsJson:
    """Lists, columns and streams go out as lines and come in again, item for item."""

    def test_all_kinds_come_back_item_for_item_and_stay_live(self, v):
        filled(v)
        lines = as_lines(v)
        with contextlib.closing(from_lines(lines)) as back:
            assert contents(back) == contents(v)
            assert as_lines(back).count('"key"') == lines.count('"key"') == len(v) == len(back)
            back['short'].append('more')
            back['temps'].append(1.5)
            with back.open(('files', 1), 'ab') as file:
                file.write(b'end')
            assert back['short'][-1] == 'more' and back['temps'][-1] == 1.5 and back['files', 1][-4:] == b'\xffend'
            back._check()

    @settings(max_examples=20)
    @given(st.lists(rich, max_size=8), st.integers(0, 5))
    def test_any_items_come_back_byte_for_byte(self, items, gone):
        with contextlib.closing(Vault(':memory:')) as v:
            v.list('k').extend(items)
            del v['k'][:gone]
            with contextlib.closing(from_lines(as_lines(v))) as back:
                assert contents(back) == contents(v)
                back._check()

    def test_the_lines_are_as_the_page_says(self, v):
        v.list('log').extend(['a', (1, 2)])
        v.column('temps', 'int16').extend([1, -2])
        with v.open('photo', 'wb') as file:
            file.write(b'abc')
        page = (HERE / 'docs' / 'json.md').read_text(encoding='utf-8')
        assert as_lines(v) in page
        assert [json.loads(line) for line in as_lines(v).splitlines()] == [
            {'key': 'log', 'value': {'!list': 2}}, {'items': ['a', {'!tuple': [1, 2]}]},
            {'key': 'temps', 'value': {'!column': ['int16', 2]}}, {'bytes': 'AQD+/w=='},
            {'key': 'photo', 'value': {'!stream': 3}}, {'bytes': 'YWJj'}]

    def test_they_come_out_of_a_vault_that_is_only_read_and_of_a_section(self, v):
        v['outside'] = 1
        v.section('s').list('log').extend(range(1000))
        with contextlib.closing(Vault(pathlib.Path(v.db_path), flag='r')) as reader:
            lines = as_lines(reader)
        assert lines == as_lines(v)
        inside = as_lines(v.section('s'))
        assert inside.count('"key"') == 1 and inside.partition('\n')[0] == '{"key": "log", "value": {"!list": 1000}}'
        with contextlib.closing(from_lines(inside)) as back:
            assert list(back['log']) == list(range(1000))
            moving.import_file(back.section('t'), io.StringIO(inside))
            assert back['t', 'log'] == list(range(1000))

    def test_counts_and_progress_are_of_entries(self, v):
        for n in range(1500):
            v.list(n).extend(range(n % 3))
        said, file = [], io.StringIO()
        assert moving.export(v, file, progress=said.append) == 1500 and said == [1000, 1500]
        with contextlib.closing(Vault(':memory:')) as back:
            done = moving.import_file(back, io.StringIO(file.getvalue()), progress=said.append)
            assert done == 1500 and said == [1000, 1500] * 2

    def test_what_was_there_is_replaced_and_of_equal_keys_the_later_wins(self, v):
        lines = '{"key": "k", "value": {"!list": 1}}\n{"items": [1]}\n'
        v.column('k', 'int8').extend(range(100))
        assert moving.import_file(v, io.StringIO(lines + lines.replace('[1]', '[2]'))) == 2
        assert v['k'] == [2] and len(v) == 1
        assert not list(v._store.chunk_owners())

    def test_a_write_back_vault_takes_them(self, v, root):
        filled(v)
        with contextlib.closing(Vault('live', writeback=True)) as live:
            live['long'] = live['before'] = ['old']
            assert moving.import_file(live, io.StringIO(as_lines(v))) == len(v)
            assert sorted(contents(live)) == sorted(contents(v))
            assert as_lines(live).count('{"key"') == len(v)
            live._check()

    def test_read_gives_copies_as_slices_are(self, v, tmp_path):
        filled(v)
        moving.export(v, tmp_path / 'a.jsonl')
        for path in (tmp_path / 'a.jsonl', v.db_path):
            found = dict(moving.read(path))
            assert list(found) == list(v)
            for key, value in found.items():
                whole = v[key][:] if key != 'after' and not isinstance(v[key], (int, bytes)) else v[key]
                assert type(value) is type(whole), key
                if isinstance(value, (array.array, memoryview)):
                    assert value.tobytes() == whole.tobytes() and len(value) == len(v[key]), key
                else:
                    assert shape(value) == shape(whole), key

    def test_a_vault_file_is_copied_as_it_is(self, v, root):
        filled(v)
        v.list('typed').extend([Colour.RED, (1,), fractions.Fraction(1, 2)])
        with contextlib.closing(Vault('copy')) as copy:
            copy.list('long').append('old')
            assert moving.import_file(copy, v.db_path) == len(v)
            assert sorted(contents(copy)) == sorted(contents(v))
            v['long'].append('later')
            assert copy['long'][-1] != 'later'
            copy._check()

    def test_memory_stays_flat_both_ways(self, v, tmp_path):
        with v.open('large', 'wb') as file:
            for n in range(48):
                file.write(bytes([n]) * (1 << 18))
        v.column('numbers', 'int64').extend(array.array('q', range(500_000)))
        tracemalloc.start()
        try:
            moving.export(v, tmp_path / 'a.jsonl')
            for source in (tmp_path / 'a.jsonl', v.db_path):
                with contextlib.closing(Vault(f'back{len(str(source))}')) as back:
                    moving.import_file(back, source)
                    with back.open('large') as file:
                        assert back['numbers'][-1] == 499_999 and file.seek(0, 2) == 48 << 18
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 8 << 20, peak

    WRONG = [
        ('{"key": "k", "value": {"!list": 2}}\n{"items": [1]}\n', 'the end', '1 of its items'),
        ('{"key": "k", "value": {"!list": 2}}\n{"items": [1]}\n{"key": "x", "value": 1}\n', 'line 4', '1 of its items'),
        ('{"key": "k", "value": {"!list": 1}}\n{"items": [1, 2]}\n', 'line 3', '1 more'),
        ('{"key": "k", "value": {"!list": 0}}\n{"items": [1]}\n', 'line 3', 'key'),
        ('{"items": [1]}\n', 'line 2', 'key'), ('{"bytes": "AA=="}\n', 'line 2', 'key'),
        ('{"key": "k", "value": {"!list": 1}}\n{"bytes": "AA=="}\n', 'line 3', 'items'),
        ('{"key": "k", "value": {"!list": 1}}\n{"items": 5}\n', 'line 3', 'items'),
        ('{"key": "k", "value": {"!list": 1}}\n{"items": [{"!tuple": 1}]}\n', 'line 3', 'no value'),
        ('{"key": "k", "value": {"!list": 1}}\n{"items": [{"!list": 0}]}\n', 'line 3', '!list'),
        ('{"key": "k", "value": {"!list": -1}}\n', 'line 2', '!list'),
        ('{"key": "k", "value": {"!list": true}}\n', 'line 2', '!list'),
        ('{"key": "k", "value": {"!list": ["int8", 1]}}\n', 'line 2', '!list'),
        ('{"key": "k", "value": {"!column": 5}}\n', 'line 2', '!column'),
        ('{"key": "k", "value": {"!column": ["int8"]}}\n', 'line 2', '!column'),
        ('{"key": "k", "value": {"!column": ["object", 1]}}\n', 'line 2', "'object'"),
        ('{"key": "k", "value": {"!column": ["int16", 1]}}\n{"bytes": "AAAA"}\n', 'line 3', '3 bytes', 'int16'),
        ('{"key": "k", "value": {"!column": ["int8", 1]}}\n{"bytes": "AAAA"}\n', 'line 3', '2 more'),
        ('{"key": "k", "value": {"!column": ["bool", 3]}}\n{"bytes": "AAIA"}\n', 'line 3', 'bool'),
        ('{"key": "k", "value": {"!stream": 3}}\n{"bytes": "?"}\n', 'line 3'),
        ('{"key": "k", "value": {"!stream": 3}}\n{"bytes": "AA=="}\n{"bytes":\n', 'line 4', '2 of its'),
        ('{"key": "k", "value": {"!stream": 3, "x": 1}}\n{"bytes": "AAAA"}\n', 'line 3', 'key'),
        ('{"key": "k", "value": [{"!stream": 0}]}\n', 'line 2', '!stream'),
        ('{"key": "k", "value": [{"!serialized": ["json", "1"]}]}\n', 'line 2', '!serialized'),
        ('{"key": "k", "value": {"!serialized": ["json", 1]}}\n', 'line 2', 'text or bytes'),
    ]

    @pytest.mark.parametrize('line, words', [(line, words) for line, *words in WRONG])
    def test_what_is_wrong_is_named_by_its_line_and_nothing_comes_in(self, line, words):
        fails_with(line, *words)

    def test_no_foreign_code_passes_for_a_header(self, v):
        v.list('l').append(1)
        for code in (20, 21, 22, 23):
            packed = msgpack.packb(msgpack.ExtType(code, v._store.get('l')[3:]))
            inner = msgpack.packb([{'a': msgpack.ExtType(5, msgpack.packb([msgpack.ExtType(code, b'x')]))}])
            for form in ({'!ext': [code, 'kA==']}, [{'!ext': [code, 'kA==']}], {'!tuple': [{'!ext': [code, 'kA==']}]},
                         {'!msgpack': as_json.as_base64(packed)}, {'!msgpack': as_json.as_base64(inner)}):
                fails_with(json.dumps({'key': 'k', 'value': form}), 'line 2', f'code {code}')
                fails_with(json.dumps({'items': [form]}), 'line 3', f'code {code}',
                           before='{"key": "k", "value": {"!list": 1}}\n')
            user = msgpack.ExtType(code, b'x')
            v['user'] = [user]
            with contextlib.closing(from_lines(as_lines(v))) as back:
                assert back['user'] == [user]

    def test_a_header_inside_another_value_is_damage(self, v):
        v.list('l').append(1)
        v._store.put('k', b'\x91' + v._store.get('l'))
        with pytest.raises(vaults.VaultCorruptError, match="'k'"):
            as_lines(v)
        del v['k']

    def test_a_missing_chunk_is_damage_and_named(self, v, tmp_path):
        v.list('log').extend(range(5000))
        raw = sqlite3.connect(v.db_path)
        raw.execute('DELETE FROM parts WHERE number = 3')
        raw.commit()
        raw.close()
        with pytest.raises(vaults.VaultCorruptError, match="'log'"):
            moving.export(v, tmp_path / 'a.jsonl')
        with pytest.raises(vaults.VaultCorruptError, match="'log'"):
            dict(moving.read(v.db_path))
        with contextlib.closing(Vault(':memory:')) as back, pytest.raises(vaults.VaultCorruptError, match="'log'"):
            moving.import_file(back, v.db_path)
        del v['log']

    def test_pickles_in_items_follow_the_rule_for_values(self, v, tmp_path):
        v._store.put('x', b'\xc0')
        made = v.list('log')
        made._change(lambda _, change: change.append(
            msgpack.packb(msgpack.ExtType(codes.PICKLE, bomb(tmp_path / 'ran'))), 1))
        lines = as_lines(v)
        for options, error in (({'allow_pickle': False}, vaults.UntrustedPickleError), ({}, vaults.UntrustedPickleError),
                               ({'allow_pickle': [Point]}, vaults.UntrustedPickleError)):
            with contextlib.closing(Vault(':memory:')) as back:
                with pytest.raises(error, match='line 3'):
                    moving.import_file(back, io.StringIO(lines), **options)
                assert not len(back)
        with contextlib.closing(Vault(':memory:', allow_pickle=False)) as back, \
                pytest.raises(vaults.UntrustedPickleError, match='line 3'):
            moving.import_file(back, io.StringIO(lines), allow_pickle=True)
        with contextlib.closing(from_lines(lines)) as back:
            assert contents(back) == contents(v)
        with contextlib.closing(Vault(':memory:')) as back, pytest.raises(vaults.UntrustedPickleError):
            moving.import_file(back, v.db_path, allow_pickle=False)
        assert not (tmp_path / 'ran').exists()

    def test_items_of_the_listed_types_are_taken(self, v):
        v.list('log').extend([Custom(1), [Custom(2)], 3])
        lines = as_lines(v)
        with contextlib.closing(Vault(':memory:', allow_pickle=[Custom])) as back:
            moving.import_file(back, io.StringIO(lines), allow_pickle=[Custom])
            assert contents(back) == contents(v)
            assert [type(item) for item in back['log']] == [Custom, list, int]

    def test_a_vault_that_validates_takes_none(self, root):
        with contextlib.closing(Vault(':memory:', validate=lambda key, value: None)) as v:
            for header in ('{"!list": 0}', '{"!stream": 0}', '{"!column": ["int8", 0]}'):
                with pytest.raises(vaults.VaultError, match='validate'):
                    moving.import_file(v, io.StringIO(f'{{"key": "a", "value": 1}}\n{{"key": "k", "value": {header}}}\n'))
            assert not len(v)


class TestKindsNobodyKnows:
    """A value in chunks of a kind that this program has no room for goes out and in, and is not opened."""
    LINES = ('{"key": "q", "value": {"!kind": ["quux", [1, "a", null], 3]}}\n{"items": [1, {"!tuple": [2]}]}\n{"items": ["x"]}\n'
             '{"key": "r", "value": {"!kind": ["quux", null, 0]}}\n')

    def test_its_lines_come_in_and_go_out(self, root):
        with contextlib.closing(from_lines(self.LINES)) as v:
            assert as_lines(v).replace('}, "x"]', '}]}\n{"items": ["x"]') == self.LINES and v.check() == []
            with contextlib.closing(from_lines(as_lines(v))) as back:
                assert contents(back) == contents(v)
            with pytest.raises(vaults.SerializationError, match="of the kind 'quux', which this program does not know.*key 'q'"):
                v['q']
            del v['q']
            assert list(v) == ['r']

    def test_what_is_read_is_its_items(self, v):
        moving.import_file(v, io.StringIO(self.LINES))
        wanted = [('q', [1, (2,), 'x']), ('r', [])]
        assert list(moving.read(io.StringIO(self.LINES))) == list(moving.read(v.db_path)) == wanted

    def test_another_vault_comes_in_with_it(self, v):
        moving.import_file(v, io.StringIO(self.LINES))
        with contextlib.closing(Vault(':memory:')) as other:
            assert moving.import_file(other, v.db_path) == 2 and contents(other) == contents(v) and other.check() == []

    @pytest.mark.parametrize('body', ['["quux", null, 3, 4]', '["", null, 1]', '["a b", null, 1]', '[3, null, 1]', '3', '["quux", {}, 1]',
                                      '["list", null, 1]', '["quux", null, -1]', '["quux", null, true]', '[]', '["quux", 1.5, 1]'])
    def test_what_is_none_is_named(self, body):
        fails_with(f'{{"key": 1, "value": {{"!kind": {body}}}}}\n{{"items": [1]}}\n', 'line 2', '"!kind": [NAME, META, N]')


class Shouting:
    """A serializer that shows who made a value."""

    name = 'shouting'

    @staticmethod
    def dumps(obj):
        return repr(obj).upper().encode()

    @staticmethod
    def loads(data):
        return ('loaded', data)


class TestSerializersAsJson:
    """A vault with a serializer goes out as it is stored, and into one with the same serializer alone."""

    def test_values_and_items_come_back_byte_for_byte(self, root):
        for serializer in (json, Shouting):
            with contextlib.closing(Vault(':memory:', serializer=serializer)) as v:
                v.update({'a': [1, 'é'], 'b': None, 'c': 'x' * 300})
                v.list('log').extend([1, {'k': 2}, 'x' * 5000])
                with v.open('photo', 'wb') as file:
                    file.write(b'abc')
                with contextlib.closing(from_lines(as_lines(v), serializer=serializer)) as back:
                    assert contents(back) == contents(v)
                    assert back['a'] == v['a'] and list(back['log']) == list(v['log']) and back['photo'] == b'abc'
                    back._check()

    def test_the_lines_say_who_has_made_them(self, root):
        with contextlib.closing(Vault(':memory:', serializer=json)) as v:
            v['a'] = [1, None]
            v.list('log').append(True)
            assert as_lines(v) == ('{"key": "a", "value": {"!serialized": ["json", "[1, null]"]}}\n'
                                   '{"key": "log", "value": {"!list": 1}}\n'
                                   '{"items": [{"!serialized": ["json", "true"]}]}\n')
        with contextlib.closing(Vault(':memory:', serializer=Shouting)) as v:
            v['a'] = 'b'
            assert as_lines(v) == '{"key": "a", "value": {"!serialized": ["shouting", {"!bytes": "J0In"}]}}\n'

    def test_others_refuse_them(self, root):
        with contextlib.closing(Vault('made', serializer=json)) as v:
            v['a'] = 1
            lines = as_lines(v)
        v = Vault('list', serializer=json)
        v.list('log').append(1)
        listed = as_lines(v)
        v.close()
        for text in (lines, listed):
            for options, has in (({}, 'none'), ({'serializer': pickle}, "'pickle'")):
                with contextlib.closing(Vault(':memory:', **options)) as back:
                    with pytest.raises(vaults.VaultFormatError, match=f"'json'.*has.*{has}.*line"):
                        moving.import_file(back, io.StringIO(text))
                    assert not len(back)
            with pytest.raises(vaults.SerializationError, match='serializer'):
                list(moving.read(io.StringIO(text)))
        mixed = listed.replace('1}}', '2}}').replace(']}\n', ', 5]}\n')
        with contextlib.closing(Vault(':memory:', serializer=json)) as back, \
                pytest.raises(vaults.VaultFormatError, match='line 2.*|one serializer'):
            moving.import_file(back, io.StringIO(mixed))
        with contextlib.closing(Vault(':memory:')) as back, pytest.raises(vaults.VaultFormatError, match="key 'a'"):
            moving.import_file(back, v.db_path.replace('list', 'made'))

    def test_a_vault_file_goes_into_one_with_the_same_serializer(self, root):
        with contextlib.closing(Vault('made', serializer=Shouting)) as v:
            v['a'] = 'b'
            v.list('log').extend(['x', 'y'])
            with contextlib.closing(Vault('copy', serializer=Shouting)) as copy:
                assert moving.import_file(copy, v.db_path) == 2
                assert contents(copy) == contents(v)

    def test_plain_lines_go_through_its_dumps(self, root):
        lines = ('{"key": "a", "value": {"!tuple": [1]}}\n{"key": "log", "value": {"!list": 2}}\n{"items": [1, "b"]}\n'
                 '{"key": "s", "value": {"!stream": 1}}\n{"bytes": "AA=="}\n')
        with contextlib.closing(from_lines(lines, serializer=Shouting)) as v:
            assert v['a'] == ('loaded', b'(1,)') and v['log'][:] == [('loaded', b'1'), ('loaded', b"'B'")]
            assert v['s'] == b'\0'
        with contextlib.closing(Vault(':memory:', serializer=json)) as v:
            with pytest.raises(vaults.SerializationError, match='json'):
                moving.import_file(v, io.StringIO('{"key": "a", "value": {"!set": [1]}}\n'))
            assert not len(v)

    def test_what_a_serializer_has_made_is_validated(self, root):
        seen = []
        with contextlib.closing(Vault(':memory:', serializer=json, validate=lambda *pair: seen.append(pair))) as v:
            moving.import_file(v, io.StringIO('{"key": "a", "value": {"!serialized": ["json", "[1]"]}}\n'))
            assert seen == [('a', [1])] and v['a'] == [1]
