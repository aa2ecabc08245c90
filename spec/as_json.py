"""Vaults as JSON and CSV, out and back."""
from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import decimal
import fractions
import io
import json
import os
import pathlib
import re
import sqlite3
import sys
import types
import uuid

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

import vaults
from vaults import Vault, moving
from vaults.codecs import codes, forms, registry
from vaults.moving import as_json
from vaults.moving import texts as pieces

from .helpers import HERE, raw_entries
from .peers import bomb, fails
from .samples import any_key, rich, texts


class TestJsonObjects:
    @given(st.dictionaries(texts, st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=3), max_leaves=8), max_size=6),
        st.integers(1, 9), st.booleans(), st.sampled_from([None, 1]))
    def test_come_over_whatever_piece_of_them_is_in_memory(self, wanted, chunk, escaped, indent):
        text = json.dumps(wanted, ensure_ascii=escaped, indent=indent)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pieces, 'TO_READ', chunk)
            read = list(moving.read(io.StringIO(text), kind='json'))
        assert repr(read) == repr([*wanted.items()])

    def test_numbers_and_words_may_be_cut_anywhere(self, monkeypatch):
        text = '{"a":-1.25e+10,"b":[1e5,-0.5,12345678901234567890123],"\\ud83d\\udc0d":Infinity,"d":-Infinity,"e":null}  '
        for chunk in range(1, len(text)):
            monkeypatch.setattr(pieces, 'TO_READ', chunk)
            assert list(moving.read(io.StringIO(text), kind='json')) == list(json.loads(text).items())

    def test_take_no_more_memory_than_an_entry(self, tmp_path):
        asked = []

        class File(io.StringIO):
            def read(self, size=-1):
                asked.append(size)
                return super().read(size)
        text = json.dumps({str(n): 'x' * 1000 for n in range(2000)})
        assert len(list(moving.read(File(text), kind='json'))) == 2000
        assert min(asked) >= 0 and max(asked) <= 2 * pieces.TO_READ < len(text) / 10

    def test_what_is_wrong_at_the_start_is_not_searched_to_the_end(self, tmp_path):
        class Endless(io.StringIO):
            def read(self, size=-1):
                assert self.tell() < 10 * pieces.TO_READ
                return super().read(size)
        for text in ('{"a": 1} x', '{"a": [1, 2', '{"a": nul', '{"a": 1 2'):
            with pytest.raises(vaults.VaultFormatError):
                list(moving.read(Endless(text + ',,' * 20 * pieces.TO_READ), kind='json'))

    def test_of_an_entry_in_one_line_is_an_entry(self, tmp_path):
        for text, kind in (('{"key": 1, "value": {}}', 'jsonlines'), ('\ufeff\n {"value":1,"key":2}', 'jsonlines'),
                           ('{"key": "k", "value": 1, "x": 1}', 'json'), ('{"key": [' + '1,' * 90_000, 'jsonlines'),
                           ('{}', 'json'), ('{', 'json'), ('{"a": [' + '1,' * 90_000, 'json'), ('{"a":' * 90_000, 'json')):
            (tmp_path / 'a').write_text(text, encoding='utf-8')
            assert moving.recognise(tmp_path / 'a') == kind


class TestCsv:
    @pytest.mark.parametrize('text, options, wanted', [
        ('key,value\na,1\n', {}, {'a': '1'}),
        ('value;key\n1;a\n', {}, {'a': '1'}),
        ('key\tb\tvalue\na,a\t1\t2', {}, {'a,a': {'b': '1', 'value': '2'}}),
        ('id,value\n1,a\n', {'key': 'id'}, {'1': 'a'}),
        ('key\na\nb\n', {}, {'a': {}, 'b': {}}),
        ('\ufeffkey,value\r\na,"x\r\ny"\r\n\r\nb,\r\n', {}, {'a': 'x\r\ny', 'b': ''}),
        ('"the key";"a,b"\n"1;2";"say ""hi"""\n', {'key': 'the key'}, {'1;2': {'a,b': 'say "hi"'}}),
        ('key,value\n', {}, {}),
        ('naïve,value\né,ü\n', {'key': 'naïve', 'encoding': 'latin-1'}, {'é': 'ü'}),
        ('key,value\né,ü\n', {'encoding': 'utf-16'}, {'é': 'ü'})])
    def test_the_columns_become_key_and_value(self, tmp_path, text, options, wanted):
        (tmp_path / 'a.txt').write_bytes(text.encode(options.get('encoding', 'utf-8')))
        assert moving.recognise(tmp_path / 'a.txt') == 'csv' if not options else True
        assert list(moving.read(tmp_path / 'a.txt', **options)) == list(wanted.items())
        stream = io.StringIO(text.lstrip('\ufeff'), newline='')
        assert dict(moving.read(stream, kind='csv', key=options.get('key'))) == wanted

    def test_a_nul_is_read_or_refused_but_never_dropped(self, tmp_path):
        (tmp_path / 'a.csv').write_text('key,value\na,x\0y\n')
        if sys.version_info >= (3, 11):
            assert dict(moving.read(tmp_path / 'a.csv')) == {'a': 'x\0y'}
        else:
            fails(tmp_path / 'a.csv', 'NUL', 'line 2')


class TestExport:
    """A vault as JSON Lines, and back, exactly."""

    @given(st.lists(st.tuples(any_key, rich), max_size=8))
    def test_all_comes_back_byte_for_byte(self, pairs):
        with contextlib.closing(Vault(':memory:')) as v, contextlib.closing(Vault(':memory:')) as back:
            v.put_many(pairs)
            file = io.StringIO()
            assert moving.export(v, file) == len(v)
            lines = file.getvalue().encode().decode().split('\n')[:-1]
            assert [set(json.loads(line)) for line in lines] == [{'key', 'value'}] * len(v)
            file.seek(0)
            assert moving.import_file(back, file, allow_pickle=True) == len(v)
            assert raw_entries(back) == raw_entries(v)
            back._check()

    @pytest.mark.parametrize('depth', [1, 62, 63, 64, 65, 200, 500])
    def test_values_nested_deep_come_back(self, v, depth):
        value = 'core'
        for n in range(depth):
            value = [value] if n % 2 else {'a': value}
        v['deep'] = value
        file = io.StringIO()
        moving.export(v, file)
        with contextlib.closing(Vault(':memory:')) as back:
            moving.import_file(back, io.StringIO(file.getvalue()))
            assert raw_entries(back) == raw_entries(v)

    def test_a_pickle_whose_class_is_gone_survives(self, v, tmp_path):
        gone = types.ModuleType('gone')
        sys.modules['gone'] = gone
        exec('class Thing:\n    pass', vars(gone))
        registered = type('Registered', (), {})
        vaults.register(registered, lambda obj: [1], lambda payload: registered(), name='gone.Registered')
        v['thing'] = [gone.Thing(), {'a': gone.Thing()}]
        v['registered'] = (registered(),)
        del sys.modules['gone'], registry.by_name['gone.Registered'], registry.by_class[registered]
        moving.export(v, tmp_path / 'a.jsonl')
        assert 'gone.Thing' in (tmp_path / 'a.jsonl').read_text()
        with Vault('back') as back:
            assert moving.import_file(back, tmp_path / 'a.jsonl') == 2
            assert raw_entries(back) == raw_entries(v)
            with pytest.raises(vaults.SerializationError, match='gone'):
                back['thing']

    def test_no_pickle_runs(self, tmp_path):
        with contextlib.closing(Vault('bomb', allow_pickle=False)) as v:
            v._store.put('k', msgpack.packb(msgpack.ExtType(codes.PICKLE, bomb(tmp_path / 'ran'))))
            assert moving.export(v, tmp_path / 'a.jsonl') == 1
        assert not (tmp_path / 'ran').exists()

    def test_lines_are_utf_8_in_order_of_insertion(self, v, tmp_path):
        v.update({'z': 'Grüße\u2028\x85', ('a', 1): b'\x00', 'a': None})
        v['z'] = 'é'
        moving.export(v, tmp_path / 'out.jsonl')
        assert (tmp_path / 'out.jsonl').read_bytes() == (
            '{"key": "z", "value": "é"}\n{"key": ["a", 1], "value": {"!bytes": "AA=="}}\n'
            '{"key": "a", "value": null}\n').encode()
        assert os.listdir(tmp_path / 'vaults') and not (tmp_path / 'out.jsonl.partial').exists()

    def test_it_is_one_state_of_the_vault(self, v, tmp_path):
        v.update(dict.fromkeys(range(3000), 'old'))
        reader = Vault(pathlib.Path(v.db_path), flag='r')

        def meddle(done):
            if done == 1000:
                v.update(dict.fromkeys(range(3000), 'new'))
        moving.export(reader, tmp_path / 'a.jsonl', progress=meddle)
        reader.close()
        assert v[2999] == 'new'
        assert 'new' not in (tmp_path / 'a.jsonl').read_text()

    def test_nothing_is_written_over(self, v, tmp_path):
        for taken in ('a.jsonl', 'a.jsonl.partial'):
            (tmp_path / taken).write_text('mine')
            with pytest.raises(vaults.VaultError, match='give another path'):
                moving.export(v, tmp_path / 'a.jsonl')
            assert (tmp_path / taken).read_text() == 'mine'
            (tmp_path / taken).unlink()

    def test_what_fails_half_way_leaves_nothing(self, v, tmp_path):
        v.update(dict.fromkeys(range(3000)))

        def interrupt(done):
            assert (tmp_path / 'a.jsonl.partial').exists()
            raise KeyboardInterrupt
        with pytest.raises(KeyboardInterrupt):
            moving.export(v, tmp_path / 'a.jsonl', progress=interrupt)
        with pytest.raises(vaults.VaultFullError, match='nothing was written'):
            moving.export(v, tmp_path / 'missing' / 'a.jsonl')
        raw = sqlite3.connect(v.db_path)
        raw.execute("UPDATE entries SET value = x'c1' WHERE key = 2000")
        raw.commit()
        raw.close()
        with pytest.raises(vaults.VaultCorruptError, match='2000'):
            moving.export(v, tmp_path / 'a.jsonl')
        assert not list(tmp_path.glob('a.jsonl*'))
        del v[2000]

    def test_a_stream_must_be_utf_8_and_has_its_own_errors(self, v):
        v['é'] = 1
        with pytest.raises(vaults.VaultError, match="encoding='utf-8'"):
            moving.export(v, io.TextIOWrapper(io.BytesIO(), encoding='ascii', write_through=True))

        class Closed(io.StringIO):
            def write(self, text):
                raise BrokenPipeError
        with pytest.raises(BrokenPipeError):
            moving.export(v, Closed())
        v['after'] = 1

    def test_an_empty_vault_is_an_empty_file(self, v, tmp_path):
        assert moving.export(v, tmp_path / 'a.jsonl') == 0
        assert (tmp_path / 'a.jsonl').read_bytes() == b''
        assert moving.import_file(v, tmp_path / 'a.jsonl') == 0


@pytest.mark.usefixtures('forget')
class TestJsonPage:
    """docs/json.md says what an export looks like, and a name in it keeps its meaning."""

    @staticmethod
    def rows(section):
        page = (HERE / 'docs' / 'json.md').read_text(encoding='utf-8').partition(f'## {section}\n')[2].partition('\n## ')[0]
        return re.findall(r'^\| `(.*)` \| `(.*)` \|$', page, re.M)

    def evaluated(self, text):
        if 'numpy' in text:
            pytest.importorskip('numpy')
        if 'ZoneInfo' in text:
            pytest.importorskip('zoneinfo')
        if 'dateutil' in text:
            pytest.importorskip('dateutil.tz')

        @dataclasses.dataclass
        class Point:
            x: int
            y: int
        known = {name: __import__(name) for name in ('msgpack', 'struct', *(['numpy'] if 'numpy' in text else []),
                                                     *(['zoneinfo'] if 'ZoneInfo' in text else []),
                                                     *(['dateutil'] if 'dateutil' in text else []))}
        for module in (dt, pathlib, decimal, fractions, uuid, *([known['zoneinfo']] if 'zoneinfo' in known else [])):
            known.update(vars(module))
        if 'Point' in text:
            registry.by_name.pop('Point', None)  # of another row
            vaults.register(Point, name='Point')
        return eval(text, {**known, 'Point': Point})

    @pytest.mark.parametrize('value, form', rows.__func__('Values'))
    def test_each_value_is_written_so_and_read_back(self, v, value, form):
        v['k'] = self.evaluated(value)
        file = io.StringIO()
        moving.export(v, file)
        assert file.getvalue() == f'{{"key": "k", "value": {form}}}\n'
        with contextlib.closing(Vault(':memory:')) as back:
            moving.import_file(back, io.StringIO(file.getvalue()), allow_pickle=True)
            assert raw_entries(back) == raw_entries(v)

    @pytest.mark.parametrize('key, form', rows.__func__('Keys'))
    def test_each_key_is_written_so_and_read_back(self, v, key, form):
        v[self.evaluated(key)] = None
        file = io.StringIO()
        moving.export(v, file)
        assert file.getvalue() == f'{{"key": {form}, "value": null}}\n'
        with contextlib.closing(Vault(':memory:')) as back:
            moving.import_file(back, io.StringIO(file.getvalue()))
            assert raw_entries(back) == raw_entries(v)

    def test_no_name_is_missing(self):
        page = (HERE / 'docs' / 'json.md').read_text(encoding='utf-8')
        for tag in {*forms.BY_TAG, '!msgpack', '!key'}:
            assert f'{{"{tag}": ' in page, tag
        assert len(self.rows('Values')) > 35 and len(self.rows('Keys')) > 12

    def test_what_is_odd_is_written_as_the_page_says(self, v):
        v._store.put('k', msgpack.packb(msgpack.ExtType(99, b'x')))
        file = io.StringIO()
        moving.export(v, file)
        assert '"value": {"!ext": [99, "eA=="]}}' in file.getvalue()
        del v['k']
        nested = 1
        for _ in range(64):
            nested = [nested]
        assert list(as_json.from_value(vaults.dumps(nested))) == ['!msgpack']
        assert list(as_json.from_value(vaults.dumps(nested[0]))) != ['!msgpack']
        assert moving.import_file(v, io.StringIO('{"key": "k", "value": {"!ext": [99, "eA=="]}}')) == 1
        with pytest.raises(vaults.SerializationError, match='code 99'):
            v['k']
        del v['k']
        assert moving.import_file(v, io.StringIO('{"key": "a", "value": {"!new": 1}}')) == 1
        assert v['a'] == {'!new': 1}
