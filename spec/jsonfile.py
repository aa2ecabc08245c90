"""Vaults in one file: JSON and msgpack, here and on a server; what is in the file, when it is written, and by whom."""
from __future__ import annotations

import atexit
import contextlib
import gc
import itertools
import json
import os
import pathlib
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import time

import msgpack
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.stateful import initialize

import vaults
from vaults import Vault, moving
from vaults.stores import jsonfile, open_engine
from vaults.stores.base import OWNERS, Options, chunk_key
from vaults.stores.jsonfile import holder, layout, local
from vaults.testing import StoreConformance

from . import engines
from .documents import blocks
from .ftp import PASSWORD
from .helpers import HERE, LINUX, in_child, needs_fork, needs_posix, output, run
from .machines import DictMachine
from .samples import Custom, any_key, rich, wrapped


def url_of(path, kind='json'):
    return f'{kind}+{pathlib.Path(path).as_uri()}'


def text_of(path):
    return pathlib.Path(path).read_bytes().decode()


def started(code, *arguments):
    """Start a program that prints a line when it is so far."""
    return subprocess.Popen([sys.executable, '-W', 'error', '-c', textwrap.dedent(code), *map(str, arguments)], text=True,
                            env={**os.environ, 'PYTHONPATH': str(HERE)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE)


@pytest.fixture
def path(root):
    return root / 'notes.json'


@pytest.fixture
def notes(path):
    vault = Vault(url_of(path), timeout=0.2)
    yield vault
    vault.close()


# --- the contract, and what a vault promises ------------------------------------------------------------------------

class TestJsonFileStore(StoreConformance):
    """A vault in a JSON file is an engine like any other."""

    kind = 'json'

    def make_store(self, folder):
        return open_engine(url_of(folder / 'x', self.kind), Options())


class TestMsgpackFileStore(TestJsonFileStore):
    """So is one in a file of msgpack."""

    kind = 'msgpack'


class TestJsonFileStoreOverFtp(StoreConformance):
    """So is one on an FTP server."""

    kind = 'json'

    @pytest.fixture(autouse=True)
    def at(self, ftp):
        type(self).server = ftp

    def make_store(self, folder):
        name = '-'.join(folder.parts[1:])  # not the root: what is joined to a folder would be one itself
        (self.server.folder / name).mkdir(exist_ok=True)
        return open_engine(f'{self.kind}+' + self.server.url(f'{name}/x.{self.kind}'), Options())


class TestMsgpackFileStoreOverFtp(TestJsonFileStoreOverFtp):
    """In msgpack as well."""

    kind = 'msgpack'


class TestMsgpackFileStoreInObjects(StoreConformance):
    """So is one where files are objects, which are put whole and not renamed."""

    def make_store(self, folder):
        pytest.importorskip('fsspec')
        return open_engine(f'msgpack+memory:/{folder}/x.msgpack', Options())


class FileMachine(DictMachine):
    """A vault in a file and a dict do the same, also after it was opened again."""

    options = {'allow_pickle': False}

    @initialize()
    def start(self):
        super().start()
        self.v.close()
        self.path = url_of(pathlib.Path(self.folder, 'v.json'))
        self.v = Vault(self.path, **self.options)


TestFileAsADict = FileMachine.TestCase
FOLDERS, NUMBERS = tempfile.mkdtemp(), itertools.count()
atexit.register(shutil.rmtree, FOLDERS, True)


def in_a_file(tests):
    """Return a class with what a vault over the plain engine promises, over a file."""
    return type(tests.__name__.replace('OverThePlainEngine', 'InAFile'), (tests,), {
        '__module__': __name__,
        'make_engine': staticmethod(lambda: open_engine(url_of(f'{FOLDERS}/{next(NUMBERS)}.json'), Options()))})


TestDictInAFile = in_a_file(engines.TestDictOverThePlainEngine)
TestViewsInAFile = in_a_file(engines.TestViewsOverThePlainEngine)
TestWalksInAFile = in_a_file(engines.TestWalksOverThePlainEngine)
TestSlicesInAFile = in_a_file(engines.TestSlicesOverThePlainEngine)
TestTransactionsInAFile = in_a_file(engines.TestTransactionsOverThePlainEngine)
TestListsInAFile = in_a_file(engines.TestListsOverThePlainEngine)
TestColumnsInAFile = in_a_file(engines.TestColumnsOverThePlainEngine)
TestSectionsInAFile = in_a_file(engines.TestSectionsOverThePlainEngine)
TestStreamsInAFile = in_a_file(engines.TestStreamsOverThePlainEngine)
TestHolesInAFile = in_a_file(engines.TestHolesOverThePlainEngine)


# --- what is in the file --------------------------------------------------------------------------------------------

def file_of(pairs, kind='json'):
    return layout.LAYOUTS[kind].dumped(pairs)


def entries_in(data, kind='json'):
    return list(layout.LAYOUTS[kind].loaded(data, 'NAME'))


STORED_KEYS = st.one_of(st.booleans(), st.integers(-2**63, 2**63 - 1), st.floats(allow_nan=False), st.text(), st.binary(min_size=1),
                        any_key.map(vaults.keys.encode))


class TestLayouts:
    """What is loaded is what was stored, byte for byte; and what JSON has is written as JSON."""

    @given(st.dictionaries(STORED_KEYS, st.one_of(st.binary(max_size=20), rich.map(lambda value: vaults.dumps(value, allow_pickle=True)))))
    @example({'a': b''})
    @example({'!a': vaults.dumps('!a'), '': vaults.dumps({'!a': 1}), 'b': vaults.dumps({'!stored': 'x'}), 'c': b'\xca\x3f\x80\0\0'})
    @example({'a': vaults.dumps(wrapped(1, 'list', 63)), 'b': vaults.dumps(wrapped(1, 'list', 64)), 'c': vaults.dumps(wrapped(1, 'mixed', 99))})
    @example({2: vaults.dumps(-0.0), -0.0: vaults.dumps(float('nan')), True: vaults.dumps(2**64 - 1), 'x': vaults.dumps('a\ud800')})
    @example({b'\x01\x81\x01\x00': b'\xc0', 1: b'\xc0', b'\x01\x81\x01\x01': b'\xc0'})
    @example({'map': b'\x82\xa1a\x01\xa1a\x02', 'int': b'\xcd\x00\x01', 'keys': b'\x81\xc4\x01a\x01', 'time': b'\xd6\xff\0\0\0\1'})
    @example({chunk_key(b'owner' * 3, 1)[:-5]: b'x', OWNERS + b'\x01a': b'owner-of-12b'})
    def test_any_keys_and_bytes_come_back_in_their_order(self, entries):
        pairs = list(entries.items())
        for kind in layout.LAYOUTS:
            data = file_of(pairs, kind)
            shown = sorted(pairs, key=lambda pair: layout.is_of_chunks(pair[0])) if kind == 'json' else pairs
            assert [(repr(key), value) for key, value in entries_in(data, kind)] == [(repr(key), value) for key, value in shown]
        assert isinstance(json.loads(file_of(pairs), parse_constant=float.fromhex), dict)  # there is none: NaN is no JSON

    def test_a_vault_of_plain_values_is_the_object_itself(self, notes, path):
        plain = {'b': 1, 'a': [1.0, None, True, 'é "x"'], '': {'x': {'y': []}}, 'c': 2**64 - 1}
        notes.update(plain)
        notes.sync()
        assert json.loads(text_of(path)) == plain and list(json.loads(text_of(path))) == list(plain)
        assert text_of(path) == textwrap.dedent('''\
            {
              "b": 1,
              "a": [1.0, null, true, "é \\"x\\""],
              "": {"x": {"y": []}},
              "c": 18446744073709551615
            }
            ''')

    def test_all_else_is_as_in_an_export_and_the_version_stands_before_it(self, notes, path):
        notes.update({'t': (1, 2), ('log', 2026): b'\0', 1: 'one', '!x': None, 2.5: {'!a': 1}})
        notes.sync()
        assert text_of(path) == textwrap.dedent(r'''
            {
              "!vaults": 1,
              "t": {"!tuple": [1, 2]},
              "![\"log\", 2026]": {"!bytes": "AA=="},
              "!1": "one",
              "!\"!x\"": null,
              "!2.5": {"!dict": [["!a", 1]]}
            }
            ''').lstrip()

    def test_the_page_shows_what_is_in_the_file(self, root):
        program, shown = (next(block for language, block in blocks((HERE / 'docs' / 'files.md').read_text('utf-8')) if language == kind)
                          for kind in ('python', 'json'))
        output(program, cwd=str(root))
        assert text_of(root / 'notes.json') == shown

    def test_chunks_and_settings_come_last(self, path):
        with contextlib.closing(Vault(url_of(path), serializer=json)) as v:
            v.list('list').extend(range(1000))
            v['a'] = [1]
        names = [name for name in json.loads(text_of(path)) if name[:1] != '!']
        assert names == ['list', 'a'] == [*json.loads(text_of(path))][1:3]
        assert json.loads(text_of(path))['a'] == {'!serialized': ['json', '[1]']}
        with pytest.raises(vaults.VaultFormatError, match="'json'"):
            Vault(url_of(path))
        with contextlib.closing(Vault(url_of(path), serializer=json)) as v:
            assert v['list'] == [*range(1000)] and v['a'] == [1] and v.check() == []

    def test_what_is_deep_is_no_burden_to_readers(self):
        for depth, name in ((63, None), (64, '!msgpack'), (500, '!msgpack')):
            form = json.loads(file_of([('a', vaults.dumps(wrapped(1, 'list', depth)))]))['a']
            assert [*form] == [name] if name else form == wrapped(1, 'list', depth)

    def test_what_was_written_by_hand_opens_as_a_vault(self, path):
        path.write_text('\ufeff{"a": 1,\r\n\t"b": [1,2], "![1,\\"x\\"]" : {"!date": "2026-11-30"}, "big": 36893488147419103232,'
                        '"deep": ' + '[' * 100 + ']' * 100 + ', "nan": NaN, "e": 1e2 , "s": "!x" }', 'utf-8')
        with contextlib.closing(Vault(url_of(path))) as v:
            assert v['a'] == 1 and v['b'] == [1, 2] and v[1, 'x'].year == 2026 and v['big'] == 2**65 and v['nan'] != v['nan']
            assert v['e'] == 100.0 and type(v['e']) is float and v['s'] == '!x' and list(v)[:3] == ['a', 'b', (1, 'x')] and v.check() == []
            v['b'].append(3)
            assert text_of(path).startswith('\ufeff{"a": 1,\r\n')  # until it is written
            v['c'] = None
        assert json.loads(text_of(path))['b'] == [1, 2] and text_of(path).startswith('{\n  "!vaults": 1,\n  "a": 1,\n')

    @pytest.mark.parametrize('text, error, where', [
        ('', vaults.VaultCorruptError, 'empty'), (' \n', vaults.VaultCorruptError, 'empty'),
        ('{"a": 1,\n "b": [1', vaults.VaultCorruptError, 'line 2, column 9'), ('{"a": 1\n', vaults.VaultCorruptError, 'the file ends'),
        ('{"a": 1,\n "b" 2}', vaults.VaultCorruptError, 'line 2, column 6'), ('{"a": 1,}', vaults.VaultCorruptError, 'column 9'),
        ('{"a": tru}', vaults.VaultCorruptError, 'line 1, column 7'), ('{"a": 1}\n{}', vaults.VaultCorruptError, 'line 2, column 1'),
        ('hello', vaults.VaultCorruptError, 'line 1, column 1'), ('{"a": "\udcff"}', vaults.VaultCorruptError, 'no UTF-8'),
        ('{1: 2}', vaults.VaultCorruptError, 'in quotes'), ('[1]', vaults.VaultFormatError, 'an array'),
        ('{"a": 1,\n"b": 2,\n"a": 3}', vaults.VaultFormatError, "'a' is there twice, in line 1 as well: line 3"),
        ('{"!1": 1,\n"!1.0": 3}', vaults.VaultFormatError, 'twice'), ('{"!vaults": 2}', vaults.VaultFormatError, 'newer'),
        ('{"!vaults": "1"}', vaults.VaultFormatError, 'no version'), ('{"a":\n 1, "!b": 2}', vaults.VaultFormatError, r'written as "!\\"!b\\"": line 2'),
        ('{"![]x": 1}', vaults.VaultFormatError, 'no key'), ('{"!{\\"a\\": 1}": 1}', vaults.VaultFormatError, 'no key'),
        ('{"!{\\"!key\\": 1}": 1}', vaults.VaultFormatError, 'no key'), ('{"a": {"!stored": 1}}', vaults.VaultFormatError, 'line 1'),
        ('{"a": 1,\n"b": {"!date": "x"}}', vaults.VaultFormatError, 'no value.*line 2, column 6'), ('{"a": {"!list": 1}}', vaults.VaultFormatError, 'whole value'),
        ('{"a": ' + '[' * 100_000 + ']' * 100_000 + '}', vaults.VaultFormatError, 'deep')])
    def test_what_is_damaged_or_wrong_has_its_line_and_stays_as_it_is(self, path, text, error, where):
        data = text.encode('utf-8', 'surrogateescape')
        path.write_bytes(data)
        for flag in 'rwcn':
            with pytest.raises(error, match=where) as raised:
                Vault(url_of(path), flag=flag)
            assert type(raised.value) is error and path.name in str(raised.value) and len(str(raised.value)) < 600
        assert path.read_bytes() == data and sorted(os.listdir(path.parent)) == ['notes.json', 'vaults']

    def test_each_cut_of_a_file_is_found(self, root):
        entries = [('a', vaults.dumps([1, 'é'])), (2, b'\xc0'), ('b', vaults.dumps({'x': (1,)}))]
        for kind in layout.LAYOUTS:
            data = file_of(entries, kind)
            for end in range(len(data) - 1):
                with pytest.raises(vaults.VaultCorruptError):
                    entries_in(data[:end], kind)
        for at in range(len(data)):
            with pytest.raises((vaults.VaultCorruptError, vaults.VaultFormatError)):
                entries_in(bytes([*data[:at], data[at] ^ 1, *data[at + 1:]]), 'msgpack')

    def test_msgpack_is_two_objects(self):
        data = file_of([('a', b'\x01'), (True, b'\xc0')], 'msgpack')
        head, body = msgpack.Unpacker(None, max_buffer_size=99), b'\x94\xa1a\xc4\x01\x01\xc3\xc4\x01\xc0'
        head.feed(data)
        assert head.unpack() == ['vaults', 1, 2048637799] and data.endswith(body) and head.unpack() == ['a', b'\x01', True, b'\xc0']
        for wrong, error in ((msgpack.packb(['vaults', 2, 0]), 'newer'), (msgpack.packb([1, 2, 3]), 'no vault'), (b'{}', 'damaged')):
            with pytest.raises(vaults.VaultError, match=error):
                entries_in(wrong, 'msgpack')
        for parts in ([1], ['a', 1], [None, b'']):
            body = msgpack.packb(parts)
            with pytest.raises(vaults.VaultFormatError, match='no keys and bytes'):
                entries_in(msgpack.packb(['vaults', 1, layout.crc32(body)]) + body, 'msgpack')

    def test_the_name_of_the_serializer_is_for_people(self):
        settings = layout.SETTINGS, msgpack.packb({'serializer': 'json'})
        made = 'a', msgpack.packb(msgpack.ExtType(23, msgpack.packb('[1]')))
        assert json.loads(file_of([made, settings]))['a'] == {'!serialized': ['json', '[1]']}
        for data in (b'', b'\x01'):
            assert json.loads(file_of([made, (layout.SETTINGS, data)]))['a'] == {'!serialized': ['', '[1]']}


# --- when it is written ---------------------------------------------------------------------------------------------

class TestWhenAFileIsWritten:
    """By sync, at the end of a block, on close, and at the end of the process; all of it, or nothing."""

    def test_a_write_outside_a_block_waits_for_sync(self, notes, path):
        notes['a'] = 1
        notes.update(b=2, c=3)
        assert notes.pop('c') == 3 and notes.setdefault('d', 4) == 4 and text_of(path) == '{}\n'
        notes.sync()
        assert json.loads(text_of(path)) == {'a': 1, 'b': 2, 'd': 4}
        stat = os.stat(path)
        notes.sync()
        del notes['d']
        notes['d'] = 4
        notes.sync()
        assert os.stat(path) == stat  # there was nothing to write

    def test_the_end_of_an_outermost_block_writes_and_one_that_is_undone_does_not(self, notes, path):
        notes['a'] = 1
        with notes:
            notes['b'] = 2
            with notes.transaction():
                notes['c'] = 3
            assert text_of(path) == '{}\n'
        assert json.loads(text_of(path)) == {'a': 1, 'b': 2, 'c': 3}
        with pytest.raises(ZeroDivisionError), notes:
            notes['d'] = 4
            1 / 0
        with notes.edit('b') as value:
            assert value == 2
        before = os.stat(path)
        with notes:
            assert len(notes) == 3
        assert os.stat(path) == before and json.loads(text_of(path)) == notes

    def test_closing_it_and_dropping_it_write(self, path):
        v = Vault(url_of(path))
        v['a'] = 1
        v.close()
        assert json.loads(text_of(path)) == {'a': 1}
        v = Vault(url_of(path))
        v['b'] = 2
        del v
        gc.collect()
        assert json.loads(text_of(path)) == {'a': 1, 'b': 2} and not pathlib.Path(f'{path}.lock').exists()

    def test_closing_it_in_a_block_writes_what_was_there_before(self, path):
        v = Vault(url_of(path))
        v['a'] = 1
        with pytest.raises(vaults.VaultClosedError), v:
            v['b'] = 2
            v.close()
        assert json.loads(text_of(path)) == {'a': 1}

    @pytest.mark.parametrize('end', ['', 'sys.exit(3)', 'raise KeyError', 'v.__enter__(); v["c"] = 3',
                                     'threading.Thread(target=hold, daemon=True).start(); begun.wait()'])
    def test_the_end_of_the_process_writes(self, path, end):
        done = run(f'''
            import sys, threading, vaults
            v = vaults.Vault(sys.argv[1], timeout=0.1)
            v['a'] = [1]
            begun = threading.Event()
            def hold():
                with v:
                    v['c'] = 3
                    begun.set()
                    threading.Event().wait()
            {end}
            ''', url_of(path))
        assert json.loads(text_of(path)) == {'a': [1]} and not pathlib.Path(f'{path}.lock').exists()
        assert 'vaults' not in done.stderr.replace('File "', ''), done.stderr

    def test_the_end_of_the_process_writes_what_write_back_has(self, path):
        output('''
            import sys, tempfile, weakref, vaults
            weakref.finalize(sys, print)  # registers the exit function of weakref before all others
            v = vaults.Vault(sys.argv[1], writeback=True)
            v['a'] = [1]
            v['a'].append(2)
            ''', url_of(path))
        assert json.loads(text_of(path)) == {'a': [1, 2]}

    def test_the_end_of_a_process_says_what_it_could_not_write(self, path):
        done = run('''
            import sys, vaults, pathlib
            v = vaults.Vault(sys.argv[1])
            v['a'] = [1]
            pathlib.Path(sys.argv[2]).write_text('{"b": 2}')
            ''', url_of(path), path)
        assert 'somebody else has changed the file' in done.stderr and json.loads(text_of(path)) == {'b': 2}
        assert not pathlib.Path(f'{path}.lock').exists()

    @needs_fork
    def test_the_end_of_a_process_of_multiprocessing_writes(self, path):
        output('''
            import multiprocessing, sys, vaults
            def work():
                v = vaults.Vault(sys.argv[1])
                v['a'] = 1
                globals()['kept'] = v
            process = multiprocessing.get_context('fork').Process(target=work)
            process.start()
            process.join()
            assert process.exitcode == 0
            ''', url_of(path))
        assert json.loads(text_of(path)) == {'a': 1} and not pathlib.Path(f'{path}.lock').exists()

    @needs_fork
    def test_a_forked_child_reads_and_never_writes(self, notes, path):
        notes['a'] = 1

        def work():
            seen = [*notes.items()]
            with contextlib.suppress(vaults.VaultReadOnlyError):
                notes['b'] = 2
                seen.append('written')
            with pytest.raises(vaults.VaultReadOnlyError, match='parent'):
                notes.update(b=2)
            with notes:
                seen.append(len(notes))
            notes.sync()
            with pytest.raises(vaults.VaultBusyError, match='open for writing'):
                Vault(url_of(path), timeout=0)
            notes.close()
            return seen
        assert in_child(work).answer() == [('a', 1), 1]
        assert text_of(path) == '{}\n'
        notes['c'] = 3
        notes.sync()
        assert json.loads(text_of(path)) == {'a': 1, 'c': 3}

    @needs_fork
    def test_a_child_that_lives_on_keeps_no_lock(self, path):
        v = Vault(url_of(path))
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            os.close(writer)
            os.read(reader, 1)
            os._exit(0)
        v.close()
        Vault(url_of(path), timeout=0).close()
        os.close(writer)
        os.waitpid(child, 0)
        os.close(reader)

    def test_a_write_that_fails_leaves_the_old_file_and_what_is_in_memory(self, notes, path, monkeypatch):
        notes['a'] = 1
        notes.sync()

        def fail(*names):
            raise OSError(28, 'No space left on device')
        with monkeypatch.context() as failing:
            failing.setattr(os, 'replace', fail)
            notes['b'] = 2
            with pytest.raises(vaults.VaultFullError, match='make room'):
                notes.sync()
            with pytest.raises(vaults.VaultFullError), notes:
                notes['c'] = 3
            assert notes == {'a': 1, 'b': 2} and json.loads(text_of(path)) == {'a': 1}
            with pytest.raises(vaults.VaultFullError):
                notes.close()
            assert notes == {'a': 1, 'b': 2} and sorted(os.listdir(path.parent)) == ['notes.json', 'notes.json.lock', 'vaults']
        notes.close()
        assert json.loads(text_of(path)) == {'a': 1, 'b': 2}

    def test_so_it_is_in_write_back_mode(self, path, monkeypatch):
        v = Vault(url_of(path), writeback=True)
        v['a'] = [1]
        with monkeypatch.context() as failing:
            failing.setattr(os, 'replace', lambda *names: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                v.close()
            v['a'].append(2)
        v.close()
        assert json.loads(text_of(path)) == {'a': [1, 2]}

    def test_what_is_deleted_is_not_written(self, path):
        v = Vault(url_of(path))
        v['a'] = 1
        v.delete_vault()
        assert os.listdir(path.parent) == ['vaults']
        v = Vault(url_of(path))
        v.close()
        v.delete_vault()
        assert os.listdir(path.parent) == ['vaults']

    @needs_posix
    def test_a_process_killed_while_it_writes_leaves_a_whole_file(self, path):
        before = 0
        for delay in range(12):
            child = started('''
                import sys, vaults
                v = vaults.Vault(sys.argv[1])
                print(v.get('n', 0), flush=True)
                v['rows'] = [['x' * 100] * 10] * 1000
                while True:
                    v['n'] = v.get('n', 0) + 1
                    v.sync()
                    print(v['n'], flush=True)
                ''', url_of(path))
            found, kept = int(child.stdout.readline()), int(child.stdout.readline())
            assert before <= found < kept
            before = kept
            time.sleep(0.01 * delay)
            child.send_signal(signal.SIGKILL)
            child.communicate()
            with contextlib.closing(Vault(url_of(path), timeout=0)) as v:
                assert v['n'] >= kept and v['rows'] == [['x' * 100] * 10] * 1000 and v.check() == []
            assert sorted(os.listdir(path.parent)) == ['notes.json', 'vaults']

    def test_threads_share_it(self, notes, path):
        def add():
            for _ in range(30):
                with notes.edit('count', default=[0]) as count:
                    count[0] += 1
                notes.sync()
        notes['count'] = [0]
        threads = [threading.Thread(target=add) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert notes['count'] == [120] and json.loads(text_of(path)) == {'count': [120]}


# --- who may write it -----------------------------------------------------------------------------------------------

class TestTheLockOfAFile:
    """One process writes, any read, and nobody overwrites what somebody else has written."""

    def test_a_second_writer_waits_and_is_told_who_has_it(self, notes, path):
        began = time.monotonic()
        with pytest.raises(vaults.VaultBusyError, match="this program has the file open.*flag='r'"):
            Vault(url_of(path), timeout=0.3)
        assert time.monotonic() - began > 0.25
        with contextlib.closing(Vault(url_of(path), flag='r')) as reader:
            assert len(reader) == 0
        said = output('''
            import sys, vaults
            try:
                vaults.Vault(sys.argv[1], timeout=0)
            except vaults.VaultBusyError as error:
                print(error)
            ''', url_of(path))
        assert f'process {os.getpid()} on {socket.gethostname()}, since 20' in said and f'remove {path}.lock' in said

    def test_it_is_had_as_soon_as_it_is_free(self, path):
        v = Vault(url_of(path))
        v['a'] = 1
        timer = threading.Timer(0.2, v.close)
        timer.start()
        with contextlib.closing(Vault(url_of(path), timeout=30)) as other:
            assert other == {'a': 1}
        timer.join()

    @needs_posix
    def test_the_lock_of_a_killed_process_is_taken_over(self, path):
        child = started('import sys, vaults; v = vaults.Vault(sys.argv[1]); v["a"] = 1; print(1, flush=True); input()', url_of(path))
        child.stdout.readline()
        with pytest.raises(vaults.VaultBusyError, match=f'process {child.pid} on'):
            Vault(url_of(path), timeout=0)
        child.kill()
        child.communicate()
        assert pathlib.Path(f'{path}.lock').exists()
        with contextlib.closing(Vault(url_of(path), timeout=0)) as v:
            assert v == {}

    def test_many_processes_add_one_after_another(self, path):
        program = '''
            import sys, vaults
            for _ in range(5):
                v = vaults.Vault(sys.argv[1], timeout=60)
                v['n'] = v.get('n', 0) + 1
                v.close()
            '''
        children = [started(program, url_of(path)) for _ in range(4)]
        assert [child.communicate()[1] for child in children] == [''] * 4
        assert json.loads(text_of(path)) == {'n': 20}

    def test_a_lock_that_somebody_removes_is_not_written_under(self, notes, path):
        notes['a'] = 1
        os.remove(f'{path}.lock')
        with pytest.raises(vaults.VaultError, match='not the one that was taken'):
            notes.sync()
        with contextlib.closing(Vault(url_of(path), timeout=0)) as other:
            other['b'] = 2
            with pytest.raises(vaults.VaultError, match='not the one that was taken'):
                notes.sync()
        notes._close(False)
        assert json.loads(text_of(path)) == {'b': 2}

    def test_what_somebody_else_has_written_is_not_overwritten(self, notes, path):
        notes['a'] = 1
        notes.sync()
        path.write_text('{"mine": 1}')
        notes['a'] = 2
        for use in (notes.sync, notes.close):
            with pytest.raises(vaults.VaultError, match='somebody else has changed'):
                use()
        with pytest.raises(vaults.VaultError, match='somebody else has changed'), notes:
            notes['b'] = 3
        with pytest.raises(vaults.VaultNotFoundError, match='another one'):
            notes.delete_vault()
        assert text_of(path) == '{"mine": 1}' and notes['a'] == 2 and 'somebody else' in notes.check()[0]
        path.rename(path.with_name('mine.json'))
        assert 'not there any more' in notes.check()[0]
        notes.sync()
        assert json.loads(text_of(path)) == {'a': 2} and notes.check() == []

    def test_a_reader_sees_what_there_was_and_says_nothing_of_what_comes(self, notes, path):
        notes['a'] = 1
        notes.sync()
        with contextlib.closing(Vault(url_of(path), flag='r')) as reader:
            notes['a'] = 2
            notes.sync()
            assert reader == {'a': 1} and reader.check() == []
            with pytest.raises(vaults.VaultReadOnlyError):
                reader['b'] = 1
            with pytest.raises(vaults.VaultReadOnlyError):
                reader.pop('a')
            with reader:
                assert reader.section('x') == {}
            path.write_text('{"a": ')
            assert 'line 1' in reader.check()[0]
            path.write_bytes(file_of([('a', vaults.dumps(2))]))
        assert notes.check() == []

    def test_a_lock_that_was_given_back_as_it_was_opened_is_none(self, path, monkeypatch):
        real, seen = local._locked, []

        def late(handle):
            if not seen:
                seen.append(os.remove(f'{path}.lock'))  # as who had it does before it is free
            return real(handle)
        monkeypatch.setattr(local, '_locked', late)
        with contextlib.closing(Vault(url_of(path))):
            assert seen == [None] and pathlib.Path(f'{path}.lock').exists()
            with pytest.raises(vaults.VaultBusyError):
                Vault(url_of(path), timeout=0)

    def test_what_a_killed_process_has_left_half_is_removed(self, path):
        part, other = pathlib.Path(f'{path}.0123abcd.partial'), path.with_name('other.json.0123abcd.partial')
        for one in (part, other):
            one.write_text('{"a"')
        Vault(url_of(path)).close()
        assert not part.exists() and other.exists()

    def test_a_lock_over_another_way_is_respected(self, path):
        lock = pathlib.Path(f'{path}.lock')
        lock.mkdir()
        mine = holder.this_process()
        (lock / 'holder.json').write_bytes(holder.packed_holder(holder.Holder('eve', 7, 'far', '', mine.since, 'x')))
        with pytest.raises(vaults.VaultBusyError, match=r'by eve, process 7 on far, since 20.*remove .*\.lock'):
            Vault(url_of(path), timeout=0)
        (lock / 'holder.json').write_text('[1')
        with pytest.raises(vaults.VaultBusyError, match='no name'):
            Vault(url_of(path), timeout=0)

    def test_where_a_lock_cannot_be_made(self, root):
        with pytest.raises(vaults.VaultNotFoundError, match='make it first'):
            Vault(url_of(root / 'no' / 'x.json'))
        (root / 'file').write_text('')
        with pytest.raises(vaults.VaultFullError, match='folder'):
            Vault(url_of(root / 'file' / 'x.json'))
        (root / 'x.json').mkdir()
        with pytest.raises(vaults.VaultError, match='cannot be read'):
            Vault(url_of(root / 'x.json'))
        if os.name != 'nt' and os.geteuid():
            root.chmod(0o500)
            with pytest.raises(vaults.VaultReadOnlyError, match="flag='r'"):
                Vault(url_of(root / 'y.json'))
            root.chmod(0o700)

    def test_a_copy_of_it_says_that_it_is_open(self, notes):
        with pytest.raises(vaults.VaultBusyError, match='this program'):
            pickle.loads(pickle.dumps(notes))

    def test_who_is_gone_is_told_for_sure(self):
        mine = holder.this_process()
        gone = subprocess.Popen([sys.executable, '-c', ''])
        gone.wait()
        values = {member: getattr(mine, member) for member in holder.MEMBERS}
        assert not mine.is_gone()
        assert holder.Holder(**{**values, 'process': gone.pid}).is_gone() == LINUX
        for other in ({'host': 'other'}, {'system': 'other'}, {'system': ''}, {'user': 'other'}, {'process': 2**70}):
            assert not holder.Holder(**{**values, 'process': gone.pid, **other}).is_gone()
        for data in (None, b'', b'[]', b'1', b'{"user": 1}', holder.packed_holder(mine).replace(b'"process": ', b'"process": "1", "x": '),
                     b'[' * 100_000):
            assert holder.read_holder(data) is None
        assert str(holder.read_holder(holder.packed_holder(mine))) == str(mine)


class TestUrlsOfFiles:
    """A URL says where the file is, and what is wrong with it."""

    def test_paths_have_three_slashes_and_may_be_quoted(self, root):
        folder = root / 'a b'
        folder.mkdir()
        for url in (url_of(folder / 'ü %.json'), f'json+file://localhost{folder}/x.json', f'JSON+FILE://{folder}/y.json',
                    f'json+local://{folder}/z.json'):
            Vault(url).close()
        assert sorted(os.listdir(folder)) == ['x.json', 'y.json', 'z.json', 'ü %.json']
        for url, cure in (('json+file://x.json', 'three slashes'), ('json+file://host/x.json', 'three slashes'), ('json+:///x', 'protocol'),
                          (f'json+file://{root}/', 'folder'), ('json+nono://h/x.json', 'no protocol nono'), ('msgpack+ftp://h', 'folder')):
            with pytest.raises(vaults.VaultValueError, match=cure):
                Vault(url, timeout=0.1)

    def test_a_link_stays_one(self, root, path):
        (root / 'real').mkdir()
        path.symlink_to(root / 'real' / 'x.json')
        with contextlib.closing(Vault(url_of(path))) as v:
            v['a'] = 1
            assert v._store.files[0] == str(root / 'real' / 'x.json')
        assert path.is_symlink() and json.loads(text_of(path)) == {'a': 1}

    def test_the_flags(self, path):
        for flag in 'rw':
            with pytest.raises(vaults.VaultNotFoundError, match='let it be created'):
                Vault(url_of(path), flag=flag)
        with contextlib.closing(Vault(url_of(path), flag='n')) as v:
            v['a'] = 1
            v.list('l').extend(range(9999))
        with contextlib.closing(Vault(url_of(path), flag='w')) as v:
            assert v['a'] == 1 and len(v) == 2
        with contextlib.closing(Vault(url_of(path), flag='n')) as v:
            assert v == {} and text_of(path) == '{}\n'
            v['b'] = 1
            assert len(v) == 1

    def test_a_folder_of_them(self, root, ftp):
        (ftp.folder / 'names').mkdir(exist_ok=True)
        for kind, where in (('json', root.as_uri()), ('msgpack', root.as_uri()), ('json', ftp.url('names')), ('json', 'memory://names')):
            folder = f'{kind}+{where}/'
            assert jsonfile.names(folder, Options()) == []
            wanted = ['.x', 'a b?#%20:@', 'b', 'ü'][:3 if sys.version_info < (3, 9) and 'ftp' in where else 4]  # before, FTP was Latin-1
            for name in wanted:
                Vault(jsonfile.named(folder, name)).close()
            assert jsonfile.names(folder, Options()) == wanted
        assert jsonfile.names(f'json+{(root / "no").as_uri()}', Options()) == jsonfile.names('json+' + ftp.url('no'), Options()) == []
        (root / 'file').write_text('')
        with pytest.raises(vaults.VaultError, match='cannot be listed'):
            jsonfile.names(url_of(root / 'file'), Options())

    def test_pickles_are_trusted_as_those_of_any_file_and_not_elsewhere(self, notes, path, ftp):
        notes['x'] = Custom(1)
        assert notes['x'] == Custom(1)
        notes.sync()
        os.chmod(path, 0o666)
        with contextlib.closing(Vault(url_of(path), flag='r')) as v, pytest.raises(vaults.UntrustedPickleError):
            v['x']
        with contextlib.closing(Vault('json+' + ftp.url('pickles.json'))) as v, pytest.raises(vaults.UntrustedPickleError, match='not say'):
            v['x'] = Custom(1)
        with contextlib.closing(Vault('json+' + ftp.url('pickles.json'), allow_pickle=True)) as v:
            v['x'] = Custom(1)
            v.sync()
            assert v['x'] == Custom(1)

    def test_a_backup_is_a_vault_of_sqlite(self, root, path, own_ftp):
        seen = []
        for url in (url_of(path), 'json+' + own_ftp.url('notes.json')):
            with contextlib.closing(Vault(url, serializer=json)) as v:
                v.update({'b': [1], ('x', 1): 'one', 'a': None})
                v.list('list').extend(range(3000))
                v['plain'] = 1
                copy = root / f'{len(url)}.db'
                v.backup(copy, progress=lambda *done: seen.append(done))
                with pytest.raises(vaults.VaultError, match='inside a transaction'), v:
                    v.backup(root / 'no.db')
                with contextlib.closing(Vault(copy, serializer=json)) as back:
                    assert back.items() == v.items() and back['list'] == [*range(3000)] and back.check() == [] and seen[-1] == (5, 5)
                assert copy.stat().st_mode & 0o777 == (0o600 if 'ftp' in url else path.stat().st_mode & 0o777)
                with pytest.raises(vaults.VaultError, match='already'):
                    v.backup(copy)

    def test_what_is_quoted_in_a_url_is_meant(self, own_ftp):
        for user in ('ann', 'a%6en'):
            with contextlib.closing(Vault('json+' + own_ftp.url('a%20%3f%25.json', f'{user}:{PASSWORD[:-1]}%{ord(PASSWORD[-1]):x}'))) as v:
                v['a'] = 1
        assert os.listdir(own_ftp.folder) == ['a ?%.json']

    @needs_posix
    def test_a_link_in_the_place_of_the_lock_leads_nowhere(self, root, path):
        (root / 'victim').write_text('all of it')
        os.symlink(root / 'victim', f'{path}.lock')
        with pytest.raises(vaults.VaultFullError, match='lock'):
            Vault(url_of(path))
        assert text_of(root / 'victim') == 'all of it'

    def test_it_is_copied_and_not_imported(self, notes, path):
        notes['plain'] = 1
        notes.sync()
        with contextlib.closing(Vault(':memory:')) as v:
            assert moving.import_file(v, path) == 1 and v == {'plain': 1}
            notes['date', 1] = (1, 2)
            notes.sync()
            with pytest.raises(vaults.VaultFormatError, match='vaults copy json'):
                moving.import_file(v, path)
            assert v == {'plain': 1}

    def test_what_it_tells_of_itself(self, notes, path):
        notes['a'] = 1
        notes.sync()
        assert notes._store.describe() == {'engine': 'json file', 'format': 1, 'bytes': path.stat().st_size}
        assert notes._store.files == (str(path), f'{path}.lock')

    def test_what_is_not_installed_is_named(self):
        said = output('''
            import sys, vaults
            class Without:
                def find_spec(self, name, path=None, target=None):
                    if name.partition('.')[0] in ('fsspec', 's3fs'):
                        raise ModuleNotFoundError(f'No module named {name!r}')
            sys.meta_path.insert(0, Without())
            vaults.Vault('json+file://' + sys.argv[1]).close()
            try:
                vaults.Vault('json+ftp://host/x.json')
            except ImportError as error:
                print(error)
            ''', pathlib.Path(tempfile.mkdtemp(dir=FOLDERS), 'x.json'))
        assert "pip install 'vaults[files]'" in said
        pytest.importorskip('fsspec')
        with pytest.raises(ImportError, match=r's3fs.*json\+s3://bucket/x\.json'):
            Vault('json+s3://bucket/x.json')
