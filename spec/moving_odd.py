"""Moving: what the sources may not do: run code, be changed, or be believed when they are malformed."""
from __future__ import annotations

import contextlib
import dbm.dumb
import io
import json
import os
import pickle
import re
import shelve
import shutil
import signal
import sqlite3
import sys

import msgpack
import pytest

import vaults
from vaults import Vault, moving
from vaults.codecs import codes
from vaults.moving import as_json, dbms
from vaults.moving.readers import all_readers

from .helpers import run
from .peers import EARLIER, SQLITEDICT, bomb, fails, lacks, seen, sqlite_file

MANY = ("""WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n LIMIT 5000)
        INSERT INTO unnamed SELECT n, '"x"' FROM n""",)
CACHE = ('CREATE TABLE Cache (rowid INTEGER PRIMARY KEY, key BLOB, raw INTEGER, store_time REAL, expire_time REAL,'
         ' access_time REAL, access_count INTEGER, tag BLOB, size INTEGER, mode INTEGER, filename TEXT, value BLOB)')
CACHED = 'INSERT INTO Cache (key, raw, mode, filename, value) VALUES (?, ?, ?, ?, ?)'


class TestSourcesAreLeftAlone:
    """A source that is open elsewhere, or was left by a killed program, is read whole and stays as it was."""

    @pytest.mark.parametrize('left', [('', '-wal', '-shm'), ('', '-wal')])
    @pytest.mark.parametrize('kind', ['sqlitedict', 'vault'])
    def test_commits_in_a_log_are_seen(self, tmp_path, kind, left):
        (tmp_path / 'live').mkdir()
        live, killed = tmp_path / 'live' / 'a.db', tmp_path / 'killed' / 'a.db'
        if kind == 'vault':
            writer = Vault(live)
            writer['a'] = [1]
        else:
            writer = sqlite3.connect(str(live), isolation_level=None)
            for statement in ('PRAGMA journal_mode = WAL', SQLITEDICT, "INSERT INTO unnamed VALUES ('a', '[1]')"):
                writer.execute(statement)
        with contextlib.closing(writer):
            killed.parent.mkdir()
            for suffix in left:
                shutil.copyfile(f'{live}{suffix}', f'{killed}{suffix}')
            for path in (live, killed):
                before = seen(path.parent)
                assert moving.recognise(path) == kind
                assert list(moving.read(path)) == [('a', [1])]
                after = seen(path.parent)
                if path == live:  # what the processes share, one of which is this one
                    del before['a.db-shm'], after['a.db-shm']
                assert after == before

    def test_several_tables_are_of_one_moment(self, tmp_path):
        with contextlib.closing(sqlite3.connect(str(tmp_path / 'a.db'), isolation_level=None)) as writer:
            for statement in ('PRAGMA journal_mode = WAL', SQLITEDICT, SQLITEDICT.replace('unnamed', 'other'),
                              "INSERT INTO unnamed VALUES ('a', '1')", "INSERT INTO other VALUES ('a', '1')"):
                writer.execute(statement)
            iterator = moving.read(tmp_path / 'a.db')
            assert next(iterator) == (('unnamed', 'a'), 1)
            writer.execute("UPDATE other SET value = '2'")
            assert list(iterator) == [(('other', 'a'), 1)]

    def test_a_file_in_wal_mode_gets_no_log_beside_it(self, tmp_path):
        path = sqlite_file(tmp_path / 'a.db', ('PRAGMA journal_mode = WAL',), (SQLITEDICT,))
        before = seen(tmp_path)
        assert list(moving.read(path)) == []
        iterator = moving.read(path)
        assert list(iterator) == []
        assert seen(tmp_path) == before and set(before) <= {'a.db', 'vaults'}

    @pytest.mark.parametrize('kind', ['sqlitedict', 'vault'])
    def test_a_file_that_is_written_meanwhile_is_refused(self, tmp_path, kind):
        path = tmp_path / 'a.db'
        if kind == 'vault':
            with contextlib.closing(Vault(path)) as vault:
                vault.update(dict.fromkeys(range(5000), '"x"'))
        else:
            sqlite_file(path, (SQLITEDICT,), MANY)
        iterator = moving.read(path)
        next(iterator)
        sqlite_file(path, ('CREATE TABLE other(x)',))
        with pytest.raises(vaults.VaultBusyError, match=f'{re.escape(str(path))} was written'):
            list(iterator)

    def test_a_journal_of_a_killed_program_is_not_passed_over(self, tmp_path):
        sqlite_file(tmp_path / 'a.db', (SQLITEDICT,), ("INSERT INTO unnamed VALUES ('a', '\"old\"')",))
        run('''
            import os, signal, sqlite3, sys
            raw = sqlite3.connect(sys.argv[1], isolation_level=None)
            raw.execute('PRAGMA cache_size = 1')
            raw.execute('BEGIN')
            for n in range(2000):
                raw.execute("INSERT INTO unnamed VALUES (?, '\\"torn\\"')", (n,))
            os.kill(os.getpid(), signal.SIGKILL)
        ''', tmp_path / 'a.db')
        assert (tmp_path / 'a.db-journal').stat().st_size
        before = seen(tmp_path)
        for kind in (None, 'sqlitedict'):
            fails(tmp_path / 'a.db', 'open it once with that program', kind=kind, error=vaults.VaultError)
        assert seen(tmp_path) == before

    @pytest.mark.skipif(bool(lacks('-gnu')), reason='this Python has no dbm.gnu')
    def test_a_dbm_that_a_writer_has_locked_is_a_clear_error(self, tmp_path):
        import dbm.gnu
        with contextlib.closing(dbm.gnu.open(str(tmp_path / 'g'), 'n')) as db:
            db['a'] = 'b'
            with pytest.raises(vaults.VaultBusyError, match='another program has it open to write'):
                moving.read(tmp_path / 'g')
            fails(tmp_path / 'g', 'close it there', kind='dbm', error=vaults.VaultBusyError)

    def test_a_vault_beside_a_dbm_is_not_taken_for_it(self, tmp_path, capfd):
        with shelve.Shelf(dbm.dumb.open(str(tmp_path / 'a'), 'n')) as shelf:
            shelf['k'] = 1
        with Vault(tmp_path / 'a.db') as v:
            moving.import_file(v, tmp_path / 'a')
        v.close()
        assert moving.recognise(tmp_path / 'a') == 'shelve'
        assert moving.recognise(tmp_path / 'a.db') == 'vault'
        assert capfd.readouterr() == ('', '')


class TestMovingTrust:
    """No pickle of a source runs before its place is known to be trusted."""

    def sources(self, folder, data):
        """Make a source of each kind that holds the pickle; return its paths and the file to make writable."""
        with contextlib.closing(dbm.dumb.open(str(folder / 'shelf'), 'n')) as db:
            db['k'] = data
        yield 'shelve', folder / 'shelf', folder / 'shelf.dat'
        path = sqlite_file(folder / 'dbm3', ('CREATE TABLE Dict (key BLOB UNIQUE NOT NULL, value BLOB NOT NULL)',),
                           ('INSERT INTO Dict VALUES (?, ?)', (b'k', data)))
        yield 'shelve', path, path
        path = sqlite_file(folder / 'sd', (SQLITEDICT,), ('INSERT INTO unnamed VALUES (?, ?)', ('k', data)))
        yield 'sqlitedict', path, path
        path = sqlite_file(folder / 'old', (EARLIER,), ('INSERT INTO dict VALUES (?, ?)', (b'M\xa1k', b'P' + data)))
        yield 'earlier vault', path, path
        path = sqlite_file(folder / 'old2', (EARLIER,), ('INSERT INTO dict VALUES (?, ?)', (b'P' + data, b'M\xa1k')))
        yield 'earlier vault', path, path
        for name, row in (('value', ('k', 1, 4, None, data)), ('key', (data, 0, 1, None, 'v')),
                          ('file', ('k', 1, 4, 'ab.val', None))):
            (folder / name).mkdir()
            path = sqlite_file(folder / name / 'cache.db', (CACHE,), (CACHED, row))
            (folder / name / 'ab.val').write_bytes(data)
            yield 'diskcache', path.parent, path.parent / 'ab.val' if name == 'file' else path
        with contextlib.closing(Vault(folder / 'v.db')) as v:
            v._store.put('k', msgpack.packb([msgpack.ExtType(codes.PICKLE, data)]))
        yield 'vault', folder / 'v.db', folder / 'v.db'
        form = {'!pickle': ['', as_json.as_base64(data)]}
        for name, value in (('a', [form]), ('b', {'!msgpack': as_json.as_base64(msgpack.packb([msgpack.ExtType(1, data)]))}),
                            ('c', {'!dict': [[{'!tuple': [form]}, 1]]}), ('d', {'!ext': [1, as_json.as_base64(data)]})):
            path = folder / f'{name}.jsonl'
            path.write_text(json.dumps({'key': 'k', 'value': value}) + '\n')
            yield 'jsonlines', path, path

    @pytest.mark.skipif(os.name == 'nt', reason='Windows does not tell who may write a file')
    def test_a_pickle_that_others_may_have_planted_is_not_run(self, tmp_path):
        ran = tmp_path / 'ran'
        for kind, path, file in self.sources(tmp_path, bomb(ran)):
            file.chmod(0o666)
            assert moving.recognise(path) == kind
            fails(path, 'may write', file.name, error=vaults.UntrustedPickleError)
            for refused, word in ((False, 'allow_pickle=False'), ([complex], 'open')):
                with pytest.raises(vaults.UntrustedPickleError, match=word):
                    list(moving.read(path, allow_pickle=refused))
                fails(path, word, allow_pickle=refused, error=vaults.UntrustedPickleError)
            with pytest.raises(vaults.UntrustedPickleError, match='may write'):
                list(moving.read(path))
            assert not ran.exists(), path

    def test_where_nobody_else_may_write_it_is_read(self, tmp_path):
        for _, path, _ in self.sources(tmp_path, pickle.dumps(1j)):
            for allowed in (None, True, [complex]):
                (pair,) = moving.read(path, allow_pickle=allowed)
                assert '1j' in repr(pair)
            with contextlib.closing(Vault(':memory:')) as v:
                if 'old2' not in str(path) and not (path / 'ab.val').parent.match('key'):
                    assert moving.import_file(v, path) == 1
                else:
                    with pytest.raises(vaults.SerializationError, match='complex'):  # it cannot be a key
                        moving.import_file(v, path)

    @pytest.mark.skipif(os.name == 'nt', reason='Windows does not tell who may write a file')
    def test_the_folder_of_a_caches_value_counts_too(self, tmp_path):
        for inner in ('ab', 'ab/cd'):
            root = tmp_path / inner.replace('/', '')
            (root / 'ab' / 'cd').mkdir(parents=True)
            sqlite_file(root / 'cache.db', (CACHE,), (CACHED, ('k', 1, 4, 'ab/cd/e.val', None)))
            (root / 'ab/cd/e.val').write_bytes(bomb(tmp_path / 'ran'))
            (root / inner).chmod(0o777)
            fails(root, 'may write', inner, error=vaults.UntrustedPickleError)
        assert not (tmp_path / 'ran').exists()

    def test_a_stream_does_not_tell_who_wrote_it(self, v, tmp_path):
        line = json.dumps({'key': 'k', 'value': {'!pickle': ['', as_json.as_base64(bomb(tmp_path / 'ran'))]}})
        fails(io.StringIO(line), 'a stream does not tell', 'allow_pickle=True', 'line 1', error=vaults.UntrustedPickleError)
        assert moving.import_file(v, io.StringIO(line), allow_pickle=True) == 1
        assert not (tmp_path / 'ran').exists()  # stored, and not loaded

    def test_a_vault_that_takes_no_pickles_is_given_none(self, tmp_path):
        (tmp_path / 'a.jsonl').write_text(json.dumps({'key': 1, 'value': {'!pickle': ['', 'gARLAS4=']}}) + '\n')
        with contextlib.closing(Vault(':memory:', allow_pickle=False)) as v:
            with pytest.raises(vaults.UntrustedPickleError, match='line 1'):
                moving.import_file(v, tmp_path / 'a.jsonl', allow_pickle=True)
            assert len(v) == 0

    def test_a_pickle_behind_an_array_is_met_where_numpy_is_missing(self, tmp_path, monkeypatch):
        array = {'!ndarray': ['<i8', [1], 'C', {'!bytes': 'AAAAAAAAAAA='}]}
        path = tmp_path / 'a.jsonl'
        path.write_text(json.dumps({'key': 1, 'value': [array, {'!pickle': ['', 'gARLAS4=']}]}) + '\n')
        for name in ('numpy', 'numpy.lib', 'numpy.lib.format'):
            monkeypatch.setitem(sys.modules, name, None)
        fails(path, 'line 1', allow_pickle=False, error=vaults.UntrustedPickleError)


class TestMovingWhatIsMalformed:
    """Each error names the source and the place, says the cure, and leaves the vault as it was."""

    @pytest.mark.parametrize('name, text, words', [
        ('a.json', '{"a": 1, "b": }', ['Expecting value', "key 'b'", 'line 1']),
        ('a.json', '{"a": 1,\n"b" 2}', [': is expected', 'line 2']),
        ('a.json', '{"a": 1', [', or } is expected', 'line 1']),
        ('a.json', '{"a": 1}\n{"a": 2}', ['something follows', 'line 2', "kind='jsonlines'"]),
        ('a.json', '{"a": 1,}', ['a key in quotes']),
        ('a.json', '{1: 2}', ['a key in quotes']),
        ('a.json', '{"a": "cut', ['Unterminated', "key 'a'"]),
        ('a.json', '{"a": ' + '[' * 100_000, ['nested too deep', "key 'a'"]),
        ('a.json', '{"a": 1, "a\n": 2}', ['control character']),
        ('a.json', b'{"a": 1,\n "b": "\xff"}', ['utf-8', 'line 2', 'latin-1']),
        ('a.jsonl', '{"key": 1, "value": 1}\n{"key": 2}\n', ['line 2', '"value"', "kind='json'"]),
        ('a.jsonl', '{"key": 1, "value": 1}\n\n[1, 2]\n', ['line 3']),
        ('a.jsonl', '{"key": 1, "value": 1, "more": 1}\n', ['line 1']),
        ('a.jsonl', '{"key": 1, "value": 1}\n{"key": 1, "val', ['line 2', 'Unterminated']),
        ('a.jsonl', '{"key": {"a": 1}, "value": 1}', ['line 1', 'a key is']),
        ('a.jsonl', '{"key": NaN, "value": 1}', ['line 1', 'NaN']),
        ('a.jsonl', '{"key": {"!key": "AAAA"}, "value": 1}', ['line 1', 'damaged']),
        ('a.jsonl', '{"key": 1, "value": {"!set": [[1]]}}', ['line 1', 'docs/json.md']),
        ('a.jsonl', '{"key": 1, "value": ' + '[' * 100_000 + '\n', ['line 1']),
        ('a.jsonl', '{"key": ' + '[' * 100_000 + '\n', ['line 1']),
        ('a.jsonl', b'{"key": 1, "value": 1}\n{"key": 2, "value": "\xe9"}', ['line 2', 'latin-1']),
        ('a.csv', 'id,name\n1,Ann\n', ["['id', 'name']", 'key=...']),
        ('a.csv', 'key,key\n1,2\n', ["['key', 'key']"]),
        ('a.csv', 'key,b,b\n1,2,3\n', ['twice']),
        ('a.csv', 'key,value\na,1\nb,2,3\n', ['line 3', '3 fields for 2 columns']),
        ('a.csv', 'key,value\na\n', ['line 2', '1 field for 2 columns']),
        ('a.csv', 'key,value\na,"b\n\n', ['line 3']),
        ('a.csv', 'key,value\na,"b"c\n', ['line 2']),
        ('a.csv', 'key,value\na,' + 'x' * 200_000 + '\n', ['line 2', 'csv.field_size_limit']),
        ('a.csv', b'key,value\na,b\nc,\xe9\n', ['line 3', 'latin-1']),
        ('a.csv', 'key,value\na,b\n'.encode('utf-16'), ['utf-8', 'line 1', "for example 'utf-16'"]),
        ('a.jsonl', '{}\n'.encode('utf-16-be').join([b'\xfe\xff', b'']), ["for example 'utf-16'"]),
        ('a.csv', '', ['names no columns']),
        ('a', '', ['is empty', 'kind=']),
        ('a.json', '[1, 2]', ['a JSON list', 'jsonlines']),
        ('a', b'\x00\xff\x00', ['another sort']),
        ('a', b'SQLite format 3\x00', [])])
    def test_of_text(self, tmp_path, name, text, words):
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        error = vaults.VaultFormatError if words else vaults.VaultError
        fails(tmp_path / name, *words, error=error)

    def test_a_key_or_value_of_a_dbm(self, tmp_path):
        with contextlib.closing(dbm.dumb.open(str(tmp_path / 'a'), 'n')) as db:
            for n in range(dbms.SAMPLE):
                db[f'{n}'] = pickle.dumps(n)
            db['plain'] = b'text'
        fails(tmp_path / 'a', "key 'plain'", "kind='dbm'")
        assert dict(moving.read(tmp_path / 'a', kind='dbm'))['plain'] == b'text'
        with contextlib.closing(dbm.dumb.open(str(tmp_path / 'a'), 'n')) as db:
            db[b'\xff'] = b''
        fails(tmp_path / 'a', r"key b'\xff'", 'or encoding=None', 'latin-1')
        assert dict(moving.read(tmp_path / 'a', encoding='latin-1')) == {'ÿ': b''}

    def test_a_dumb_dbm_that_was_cut(self, tmp_path):
        (tmp_path / 'a.dat').write_bytes(b'12345')
        for line in ("'b', (0, 6)\n", "'b', (0, -1)\n", "__import__('os'), (0, 1)\n", 'x\n', "'\0', (0, 1)\n",
                     "'\\x', (0, 1)\n", "'\\u20ac', (0, 1)\n"):
            (tmp_path / 'a.dir').write_text("'a', (0, 5)\n" + line, encoding='utf-8')
            fails(tmp_path / 'a', 'line 2', 'a.dir', error=vaults.VaultCorruptError)

    def test_of_sqlite(self, tmp_path):
        path = tmp_path / 'a.db'
        for statement, rows, words, error in [
                (SQLITEDICT, [('a', '1'), ('b', 'no JSON')], ["key 'b'", 'decode='], vaults.SerializationError),
                (SQLITEDICT, [('a', b'no pickle')], ["key 'a'", 'no', 'decode='], vaults.VaultFormatError),
                (SQLITEDICT, [('a', b'no pickle.')], ["key 'a'", 'decode='], vaults.SerializationError),
                (SQLITEDICT, [('a', '[' * 100_000)], ["key 'a'", 'decode='], vaults.SerializationError),
                (EARLIER, [(b'M\x01', b'X')], ['key 1', 'neither M nor P'], vaults.VaultFormatError),
                (EARLIER, [(b'M\x01', None)], ['key 1', 'neither M nor P'], vaults.VaultFormatError),
                (EARLIER, [(b'M\x01', b'M\x92\x01')], ['key 1', 'cannot be decoded'], vaults.SerializationError),
                (EARLIER, [(b'M\x80', b'M\x01')], ['key {}', 'a key is'], vaults.SerializationError),
                ('CREATE TABLE "Dict" (key BLOB, value BLOB)', [(b'a', None)], ["key 'a'", 'missing'],
                 vaults.VaultCorruptError),
                ('CREATE TABLE "Dict" (key BLOB, value BLOB)', [(b'\xff', b'x')], [r"key b'\xff'"],
                 vaults.VaultFormatError),
                ('CREATE TABLE a (b, c)', [], ['without a table'], vaults.VaultFormatError)]:
            if path.exists():
                path.unlink()
            table = statement.split()[2].partition('(')[0]
            sqlite_file(path, (statement,), *((f'INSERT INTO {table} VALUES (?, ?)', row) for row in rows))
            fails(path, *words, error=error)

    def test_of_a_damaged_sqlite_file(self, tmp_path):
        path = sqlite_file(tmp_path / 'a.db', (SQLITEDICT,), MANY)
        whole = path.read_bytes()
        path.write_bytes(whole[:4096] + b'\x07' * 4096 + whole[8192:])
        with pytest.raises(vaults.VaultError, match=r'a\.db cannot be read'):
            list(moving.read(path))

    @pytest.mark.parametrize('row, words, error', [
        (('k', 1, 2, '../../etc/passwd', None), ['outside'], vaults.VaultFormatError),
        (('k', 1, 2, '/etc/passwd', None), ['outside'], vaults.VaultFormatError),
        (('k', 1, 2, 'link', None), ['outside'], vaults.VaultFormatError),
        (('k', 1, 2, 'a\0b', None), ['outside'], vaults.VaultFormatError),
        (('k', 1, 2, b'cache.db', None), ['outside'], vaults.VaultFormatError),
        (('k', 1, 2, 'gone.val', None), ['missing', 'check(fix=True)'], vaults.VaultCorruptError),
        (('k', 1, 2, '.', None), ['outside'], vaults.VaultFormatError),
        (('k', 1, 2, 'fifo', None), ['missing'], vaults.VaultCorruptError),
        (('k', 1, 2, None, b'x'), ['mode 2'], vaults.VaultCorruptError),
        (('k', 1, 9, None, b'x'), ['mode 9'], vaults.VaultCorruptError),
        (('k', 1, 3, 'cache.db', None), ['cannot be decoded'], vaults.SerializationError),
        (('k', 1, 4, None, None), ['no'], vaults.VaultFormatError),
        ((b'x', 0, 1, None, 1), ["key b'x'"], vaults.VaultFormatError)])
    def test_of_a_cache(self, tmp_path, row, words, error):
        cache = tmp_path / 'cache'
        cache.mkdir()
        if hasattr(os, 'mkfifo'):
            os.mkfifo(str(cache / 'fifo'))
        (cache / 'link').symlink_to('/etc/passwd')
        sqlite_file(cache / 'cache.db', (CACHE,), (CACHED, row))
        fails(cache, *words, 'key ', error=error)

    @pytest.mark.skipif(not hasattr(os, 'mkfifo'), reason='no named pipes here')
    def test_what_is_no_file(self, tmp_path):
        os.mkfifo(str(tmp_path / 'fifo'))
        os.mkfifo(str(tmp_path / 'half.dir'))
        (tmp_path / 'half.dat').write_bytes(b'')
        fails(tmp_path / 'fifo', 'neither file nor folder', 'open text file')
        fails(tmp_path / 'fifo', 'neither file nor folder', kind='csv')
        fails(tmp_path, 'a folder without cache.db')
        for missing in ('missing', 'half', 'a\0b', '/missing/a'):
            for kind in (None, 'csv', 'shelve', 'sqlitedict', 'diskcache', 'vault'):
                fails(tmp_path / missing, 'nothing at', kind=kind, error=vaults.VaultNotFoundError)
        fails(tmp_path, 'cannot be read', kind='json', error=vaults.VaultError)

    @pytest.mark.parametrize('name', ['shelve-dumb', 'vaults-earlier.sqlite'])
    def test_a_vault_is_not_imported_into_itself(self, root, name, peers):
        for file in peers.glob(f'{name}*'):
            shutil.copy(file, root)
        with pytest.raises(vaults.VaultError, match='one name'):
            if name == 'shelve-dumb':  # of which the vault would be the name without a suffix
                moving.import_file(Vault(root / name), str(root / name))
            else:
                v = Vault('v')
                moving.import_file(v, v.db_path)

    def test_what_is_read_as_another_kind(self, peers, tmp_path):
        for name in ('json-object.json', 'csv-pairs.csv', 'sqlitedict-json.sqlite', 'shelve-dumb', 'diskcache-cache'):
            right = moving.recognise(peers / name)
            for kind in all_readers():
                if kind not in (right, 'dbm', 'sqlitedict', 'pickledb', 'litedict') and (name, kind) != ('json-object.json', 'csv'):
                    with pytest.raises(vaults.VaultError, match=f'{name}|column'):
                        list(moving.read(peers / name, kind=kind))

    def test_options_that_do_not_exist(self, peers):
        for options, words in (({'encoding': 'klingon'}, 'klingon'), ({'encoding': 'rot13'}, 'rot13')):
            with pytest.raises(vaults.VaultError, match=words):
                moving.read(peers / 'dbm-dumb', **options)
        with pytest.raises(TypeError, match='allow_pickle'):
            moving.read(peers / 'dbm-dumb', allow_pickle='yes')
        with pytest.raises(vaults.VaultError, match='bytes: open it as text'):
            list(moving.read(io.BytesIO(b'{}')))
        with pytest.raises(vaults.VaultError, match='from a path'):
            moving.read(io.StringIO(), kind='shelve')

    def test_an_import_that_is_killed_half_way_leaves_the_vault_as_it_was(self, v, tmp_path):
        v['before'] = 1
        with open(tmp_path / 'a.jsonl', 'w') as file:
            file.writelines(f'{{"key": {n}, "value": "{"x" * 1000}"}}\n' for n in range(30_000))
        done = run('''
            import os, pathlib, signal, sys, vaults
            from vaults import moving
            def progress(done):
                if done == 25_000:
                    os.kill(os.getpid(), signal.SIGKILL)
            moving.import_file(vaults.Vault(pathlib.Path(sys.argv[1])), sys.argv[2], progress=progress)
        ''', v.db_path, tmp_path / 'a.jsonl')
        assert done.returncode == -signal.SIGKILL
        assert os.path.getsize(f'{v.db_path}-wal') > 1 << 20  # so that something was written
        assert v.items() == [('before', 1)]
