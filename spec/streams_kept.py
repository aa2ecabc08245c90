"""Streams are kept whole: their damage is named, their holes take no room."""
from __future__ import annotations

import contextlib
import io
import itertools
import os
import platform
import signal
import sqlite3
import struct
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

import vaults
from vaults import Vault, moving, recovery
from vaults.codecs import codes
from vaults.collections import stream as streams
from vaults.collections import tree, upkeep
from vaults.collections.kind import kind_of

from .chunks import BIG, a_node, chunk_count, filled_stream, planted
from .helpers import LINUX, output, run
from .internals import limit_length


class TestStreamsAreKeptWhole:
    @pytest.mark.parametrize('sql, said', [('UPDATE parts SET data = x\'00\' WHERE rowid = ?', 'damaged'),
                                           ('DELETE FROM parts WHERE rowid = ?', 'missing')])
    def test_a_damaged_or_missing_chunk_is_named_and_never_read(self, root, small_leaves, sql, said):
        vault = Vault('test')
        filled_stream(vault, ('my', 'key'))
        vault['sound'] = 1
        with contextlib.closing(sqlite3.connect(vault.db_path)) as raw:
            rows = [row for row, in raw.execute('SELECT rowid FROM parts')]
        for row in rows[::9]:
            filled_stream(vault, ('my', 'key'))
            with contextlib.closing(sqlite3.connect(vault.db_path)) as raw:
                raw.execute(sql, ((raw.execute('SELECT min(rowid) FROM parts').fetchone()[0] + row - rows[0]),))
                raw.commit()
            problem, = vault.check()
            assert said in problem and 'key' in problem
            with pytest.raises(vaults.VaultCorruptError, match="'my', 'key'"):
                vault['my', 'key']
            with pytest.raises(vaults.VaultCorruptError, match="'my', 'key'"), vault.open(('my', 'key')) as file:
                file.read()
        vault.close()

    def test_a_value_longer_than_sqlite_takes_in_one_is_written_and_read(self, root, monkeypatch):
        vault = Vault('test')
        if not limit_length(vault, 400_000):
            pytest.skip('the limit cannot be set')
        data = os.urandom(1_000_000)
        with pytest.raises(vaults.VaultError):
            vault['key'] = data
        filled_stream(vault, 'key', data)
        assert vault['key'] == data and vault.open('key').read() == data
        vault._check()
        vault.close()

    def test_a_killed_writer_leaves_the_old_value_and_compact_what_it_left(self, root, small_leaves, monkeypatch):
        vault = Vault('test')
        filled_stream(vault, 'key', b'old' * 100)
        before = chunk_count(vault)
        for mode in ('wb', 'r+b', 'ab', 'xb'):
            done = run('''
                import os, pathlib, signal, sys
                from vaults import Vault
                from vaults.collections import stream as streams
                streams.STREAM_LEAF, streams.SMALL, streams.KEPT_LEAVES = 64, 40, 3
                file = Vault(pathlib.Path(sys.argv[1])).open(sys.argv[2], sys.argv[3], 0)
                for _ in range(100):
                    file.write(b'x' * 64)
                os.kill(os.getpid(), signal.SIGKILL)
            ''', vault.db_path, 'new' if mode == 'xb' else 'key', mode)
            assert done.returncode == -signal.SIGKILL
            assert vault.items() == [('key', b'old' * 100)] and chunk_count(vault) > before
        vault._check()
        vault.compact()
        assert chunk_count(vault) > before  # they might be somebody's who still writes
        now = tree.time.time()
        monkeypatch.setattr(upkeep.time, 'time', lambda: now + 2 * upkeep.DAY)
        vault.compact()
        assert chunk_count(vault) == before and vault['key'] == b'old' * 100
        vault.close()

    @pytest.mark.parametrize('mode', ['wb', 'ab', 'r+b', 'w'])
    def test_a_write_that_fails_while_closing_leaves_the_old_value(self, v, small_leaves, monkeypatch, mode):
        filled_stream(v, 'key', b'old' * 100)
        real, calls = v._store.put_chunks, []

        def full(*arguments):
            calls.append(1)
            if len(calls) == 2:
                raise vaults.VaultFullError('no room')
            real(*arguments)
        file = v.open('key', mode)
        file.write('x' * 3000 if mode == 'w' else b'x' * 3000)  # which stay in the buffer
        monkeypatch.setattr(v._store, 'put_chunks', full, raising=False)
        with pytest.raises(vaults.VaultFullError):
            file.close()
        assert file.closed and len(calls) == 2 and v['key'] == b'old' * 100

    @pytest.mark.parametrize('mode', ['wb', 'ab', 'r+b', 'w'])
    @pytest.mark.parametrize('then', ['nothing', 'appended to', 'deleted'])
    def test_an_interrupt_as_its_commit_returns_takes_nothing_of_what_was_committed(self, v, small_leaves, monkeypatch, mode, then):
        filled_stream(v, 'key', b'old' * 100)
        file, real = v.open('key', mode), v._store.once
        file.write('x' * 3000 if mode == 'w' else b'x' * 3000)
        file.flush()

        def interrupted(operation):
            patch.undo()
            real(operation)
            with v.open('key', 'ab') if then == 'appended to' else contextlib.nullcontext() as other:  # in that moment
                _ = other and other.write(b'y')
            if then == 'deleted':
                del v['key']
            raise KeyboardInterrupt
        with monkeypatch.context() as patch:
            patch.setattr(v._store, 'once', interrupted, raising=False)
            with pytest.raises(KeyboardInterrupt):
                file.close()
        content = v.get('key', b'')
        assert file.closed and content[-2999:-1] == (b'x' * 2998 if then != 'deleted' else b'')
        v._check()
        assert content or chunk_count(v) == 0

    @pytest.mark.parametrize('buffering', [0, -1])
    def test_after_a_write_that_failed_nothing_of_the_file_is_kept(self, v, small_leaves, monkeypatch, buffering):
        def full(*_):
            raise vaults.VaultFullError('no room')
        filled_stream(v, 'key', b'old' * 100)
        for mode in ('wb', 'ab', 'r+b'):
            file = v.open('key', mode, buffering)
            with monkeypatch.context() as patch:
                patch.setattr(v._store, 'put_chunks', full, raising=False)
                with pytest.raises(vaults.VaultFullError, match='no room'):
                    file.write(BIG)
                    file.flush()
            with pytest.raises(vaults.VaultFullError, match="nothing of it is kept: key 'key'.*no room"):
                file.write(b'more')
                file.flush()
            with pytest.raises(vaults.VaultFullError, match='open it again'):
                file.close()
            assert file.closed and v['key'] == b'old' * 100
        v._check()

    def test_a_writer_that_was_swept_is_told(self, v, small_leaves, monkeypatch):
        filled_stream(v, 'key')
        opened = [v.open('key', mode) for mode in ('wb', 'r+b', 'ab')]
        for file in opened:
            file.write(BIG)
            file.flush()
        now = tree.time.time()
        with monkeypatch.context() as patch:
            patch.setattr(upkeep.time, 'time', lambda: now + 2 * upkeep.DAY)
            v.compact()
        before = chunk_count(v)
        for file in opened:
            with pytest.raises(vaults.VaultError, match='took more than a day'):
                file.close()
        assert v['key'] == BIG and chunk_count(v) == before

    def test_two_processes_that_append_lose_nothing(self, root):
        vault = Vault('test')
        code = '''
            import pathlib, sys
            from vaults import Vault
            from vaults.collections import stream as streams
            streams.STREAM_LEAF, streams.SMALL, streams.KEPT_LEAVES = 64, 40, 3
            vault = Vault(pathlib.Path(sys.argv[1]), timeout=60)
            for number in range(100):
                with vault.open('log', 'a') as file:
                    print(sys.argv[2], number, 'x' * (number % 7 * 60), file=file)
        '''
        children = [threading.Thread(target=lambda name=name: done.append(run(code, vault.db_path, name)))
                    for name in 'ab']
        done = []
        for child in children:
            child.start()
        for child in children:
            child.join()
        assert [child.stderr for child in done] == ['', '']
        lines = vault['log'].decode().splitlines()
        for name in 'ab':
            assert [line.split()[1] for line in lines if line[0] == name] == [str(number) for number in range(100)]
        assert vault.check() == []
        vault.close()

    def test_others_write_between_the_batches_of_a_stream(self, v, small_leaves):
        other = Vault('test', timeout=0)
        with v.open('key', 'wb') as file:
            for number in range(48):
                file.write(BIG[number * 64:number * 64 + 64])
                other['number'] = number
        assert other['key'] == BIG and v['number'] == 47
        other.close()

    def test_memory_stays_flat(self, root):
        done = run('''
            import io, pathlib, resource, shutil, sys
            from vaults import Vault
            vault = Vault(pathlib.Path(sys.argv[1]))
            vault.put_file('warm', io.BytesIO(bytes(3 << 20)))
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            block = bytes(100_000)
            with vault.open('key', 'wb') as file:
                for _ in range(320):
                    file.write(block)
            with vault.open('key', 'r+b') as file:
                file.seek(1_000_000)
                file.write(block)
                file.truncate(64_000_000)
            with vault.open('key') as source, open(sys.argv[2], 'wb') as target:
                shutil.copyfileobj(source, target)
            assert vault.get_file('key', sys.argv[2]) == vault.put_file('other', sys.argv[2]) == 64_000_000
            print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
        ''', root / 'big.db', root / 'file')
        assert done.returncode == 0, done.stderr
        assert int(done.stdout) // (1024 if sys.platform == 'darwin' else 1) < 32_000  # KiB, SQLite's cache among them

    @pytest.mark.skipif(platform.libc_ver()[0] != 'glibc' or 'MALLOC_TOP_PAD_' in os.environ, reason='of glibc, as it is')
    def test_memory_is_not_asked_of_the_system_for_each_leaf(self, root):
        put, get = """
            import io, pathlib, sys
            from vaults import Vault
            Vault(pathlib.Path(sys.argv[1])).put_file('key', io.BytesIO(bytes(range(1, 251)) * 200_000))
        """, """
            import pathlib, resource, sys
            from vaults import Vault
            vault = Vault(pathlib.Path(sys.argv[1]))
            assert vault.get_file('key', '/dev/null') == 50_000_000
            print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt * resource.getpagesize())
        """
        output(put, root / 'big.db')
        assert int(output(get, root / 'big.db')) < 50_000_000  # bytes, those of Python and the modules among them

    def test_a_write_back_vault_has_them_too(self, root, small_leaves):
        vault = Vault('test', writeback=True)
        vault['key'] = b'assigned'
        assert vault.open('key').read() == b'assigned'
        with vault.open('key', 'ab') as file:
            file.write(BIG)
        assert vault['key'] == b'assigned' + BIG and list(vault.values()) == [b'assigned' + BIG]
        filled_stream(vault, 'key')
        with pytest.raises(ZeroDivisionError), vault:
            filled_stream(vault, 'key', b'new' * 100)
            raise ZeroDivisionError
        assert vault['key'] == BIG and vault.pop('key') == BIG and chunk_count(vault) == 0
        filled_stream(vault, 'key')
        vault['key'] = 'assigned over it'
        vault.close()
        vault = Vault('test')
        assert vault['key'] == 'assigned over it' and chunk_count(vault) == 0
        vault.close()

    def test_a_replaced_stream_is_read_as_what_it_is_now(self, v, small_leaves, monkeypatch):
        get_chunk, store = type(v._store).get_chunk, v._store
        for now in (b'new' * 100, 'text', None):
            filled_stream(v, 'key')

            def replacing(self, *arguments, now=now):
                monkeypatch.setattr(type(store), 'get_chunk', get_chunk)
                filled_stream(v, 'key', now) if isinstance(now, bytes) else v.__setitem__('key', now)
                return get_chunk(self, *arguments)
            monkeypatch.setattr(type(store), 'get_chunk', replacing)
            assert v['key'] == now

    def test_a_stream_deleted_during_a_walk_is_not_visited(self, v, small_leaves):
        for key in 'abcd':
            filled_stream(v, key)
        seen = []
        for key, value in v.items():
            seen.append(key)
            assert value == BIG
            if key == 'b':
                del v['c']
        assert seen == ['a', 'b', 'd']


def holes(vault, key):
    """Return the holes of a stream, each its beginning and end."""
    header = tree.Header.of(vault._store.get(key))
    return [(start, stop) for number, start, stop in tree.Tree(vault._store, header).leaves(0, header.inside) if not number]


class TestHoles:
    """What was not written between two positions of a stream takes no place."""

    FAR = 10 << 30

    def test_a_far_seek_leaves_a_hole_that_costs_nothing(self, v):
        with v.open('key', 'wb') as file:
            file.write(b'begin')
            assert file.seek(self.FAR) == self.FAR
            file.write(b'end')
        assert chunk_count(v) == 3 and os.path.getsize(v.db_path) < 2 << 20  # two leaves and a node
        with v.open('key', 'r+b') as file:
            assert file.read(6) == b'begin\0' and file.seek(-4, 2) == self.FAR - 1 and file.read() == b'\0end'
            file.seek(self.FAR // 2)
            assert file.read(1 << 20) == bytes(1 << 20)
            file.seek(self.FAR // 2 + 5)
            file.write(b'middle')
        with v.open('key') as file:
            file.seek(self.FAR // 2)
            assert file.read(12) == b'\0\0\0\0\0middle\0' and chunk_count(v) == 4
        with v.open('key', 'r+b') as file:
            file.truncate(self.FAR // 2 + 6)
        with v.open('key') as file:
            assert file.seek(0, 2) == self.FAR // 2 + 6 and file.seek(-2, 2) and file.read() == b'\0m'
        assert v.check() == []
        del v['key']
        assert chunk_count(v) == 0

    def test_a_file_that_is_written_from_it_has_the_hole(self, v, tmp_path):
        with v.open('key', 'wb') as file:
            file.write(b'begin')
            file.seek(1 << 28)
            file.write(b'end')
            file.truncate((1 << 28) + 999_999)
        for _ in range(2):  # the second one replaces the first
            assert v.get_file('key', tmp_path / 'file') == (1 << 28) + 999_999
            found = (tmp_path / 'file').stat()
            assert found.st_size == (1 << 28) + 999_999
            assert not LINUX or found.st_blocks * 512 < 4 << 20
        with open(tmp_path / 'file', 'rb') as file, v.open('key') as stream:
            assert all(mine == theirs for mine, theirs in itertools.zip_longest(
                iter(lambda: file.read(1 << 20), b''), iter(lambda: stream.read(1 << 20), b'')))
        v.put_file('again', tmp_path / 'file')
        assert chunk_count(v) < 8

    @pytest.mark.parametrize('buffering', [0, -1])
    def test_a_file_that_is_only_made_longer_is_a_hole(self, v, buffering):
        with v.open('key', 'wb', buffering) as file:
            assert file.truncate(self.FAR + 1) == self.FAR + 1
        assert chunk_count(v) == 1 and holes(v, 'key') == [(0, self.FAR + 1)]
        with v.open('key', 'ab', buffering) as file:
            file.write(b'end')
        with v.open('key', 'rb', buffering) as file:
            assert file.seek(self.FAR) and file.read() == b'\0end' and chunk_count(v) <= 2
        with v.open('key', 'r+b', buffering) as file:
            file.truncate(7)
        assert v['key'] == bytes(7) and chunk_count(v) == 0

    def test_a_hole_is_read_in_flat_memory(self, root):
        assert int(output('''
            import pathlib, resource, sys
            from vaults import Vault
            vault = Vault(pathlib.Path(sys.argv[1]))
            with vault.open('key', 'wb') as file:
                file.seek(1 << 29)
                file.write(b'x')
            before, seen = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, 0
            with vault.open('key') as file:
                for piece in iter(lambda: file.read(1 << 18), b''):
                    seen += len(piece) - piece.count(0)
            assert seen == 1 and vault.check() == []
            print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
        ''', root / 'big.db')) // (1024 if sys.platform == 'darwin' else 1) < 8_000  # KiB

    @given(edits=st.lists(st.tuples(st.sampled_from(['write', 'cut', 'zeros']), st.integers(0, 20_000), st.integers(0, 200)), max_size=12),
           sessions=st.integers(1, 3), size=st.sampled_from([0, 30, 100, 3000]), first=st.sampled_from(['whole', 'stream']))
    def test_it_reads_as_if_zeros_had_been_written(self, small_leaves, edits, sessions, size, first):
        with Vault(':memory:') as vault:
            vault['key'] = BIG[:size]
            if first == 'stream':
                filled_stream(vault, 'key', BIG[:size])
            expected = bytearray(BIG[:size])
            for session in range(sessions):
                with vault.open('key', 'r+b', buffering=0) as file:
                    for what, at, length in edits[session::sessions]:
                        if what == 'cut':
                            file.truncate(at)
                            expected = expected[:at].ljust(at, b'\0')
                        elif length:
                            data = bytes(length) if what == 'zeros' else b'x' * length
                            file.seek(at)
                            file.write(data)
                            expected = expected.ljust(at, b'\0')
                            expected[at:at + length] = data
                        file.seek(at // 2)
                        assert file.read(300) == expected[at // 2:at // 2 + 300]
                    file.seek(0)
                    assert file.read() == expected
                assert vault['key'] == expected and vault.check() == []
                header = tree.Header.of(vault._store.get('key')) if codes.is_header(vault._store.get('key')) else None
                if header:
                    assert sorted(vault._store.chunk_numbers(header.owner)) == sorted(tree.Tree(vault._store, header).numbers())

    def test_whole_leaves_of_zeros_become_holes(self, v, small_leaves):
        v.put_file('key', io.BytesIO(BIG[:64] + bytes(640) + BIG[:70]))
        assert holes(v, 'key') == [(64, 704)] and v['key'] == BIG[:64] + bytes(640) + BIG[:70]

    def test_two_who_append_leave_both_holes(self, v, small_leaves):
        one, two = v.open('key', 'ab', 0), v.open('key', 'ab', 0)
        for file, mark in ((one, b'1'), (two, b'2')):
            file.write(mark)
            file.truncate(100_000)
            file.write(mark)
            file.truncate(200_000)
            file.close()
        half = lambda mark: mark + bytes(99_999) + mark + bytes(99_999)
        assert v['key'] == half(b'1') + half(b'2') and len(holes(v, 'key')) >= 4 and chunk_count(v) < 20
        v._check()

    def test_copies_keep_holes(self, v, root, small_leaves):
        with v.open('key', 'wb') as file:
            file.write(b'begin')
            file.seek(100_000)
            file.write(b'end')
        v.backup(root / 'backup.db')
        v.backup(root / 'bad.db')
        with Vault('imported') as other, Vault(root / 'backup.db') as backup:
            moving.import_file(other, v.db_path)
            recovery.recover(root / 'bad.db', root / 'saved.db')
            with Vault(root / 'saved.db') as saved:
                for copy in (other, backup, saved):
                    assert copy['key'] == v['key'] and holes(copy, 'key') == holes(v, 'key') != []
                    copy._check()
        moving.export(v, root / 'out.jsonl')
        with Vault('again') as again:
            moving.import_file(again, root / 'out.jsonl')
            assert again['key'] == v['key'] and chunk_count(again) < 20

    def test_what_is_mostly_hole_is_not_loaded_whole(self, v, monkeypatch):
        with v.open('key', 'wb') as file:
            file.truncate(1 << 50 >> 11)
        for read in (lambda: v['key'], v.copy, lambda: v.values()[0], lambda: v.pop('key')):
            with pytest.raises(vaults.VaultError, match=r"a hole, too large to be loaded: read it with open\(\) \(key 'key'"):
                read()
        monkeypatch.setattr(streams, 'HOLLOW', 100)
        with v.open('key', 'r+b') as file:
            file.truncate(100)
        assert v['key'] == bytes(100)

    def test_a_hole_is_a_pair_without_a_chunk(self, v):
        with v.open('key', 'wb') as file:
            file.seek(3 << 18)
            file.write(b'x')
        header = tree.Header.of(v._store.get('key'))
        assert struct.unpack('<4Q', v._store.get_chunk(header.owner, header.root)) == (0, 3 << 18, min(v._store.chunk_numbers(header.owner)), 1)
        with pytest.raises(tree.StaleRead):  # which whoever knows no holes reports
            tree.Tree(v._store, header).chunk(0)

    @pytest.mark.parametrize('code, meta', [(21, None), (22, 'int8')])
    def test_lists_and_columns_have_no_holes(self, code, meta):
        pair = a_node((0, 9))
        with contextlib.closing(planted(code, meta, 9, 0, 9, 9, 1, 1, b'', chunks=[pair])) as v:
            for read in (lambda: v['k'][0], lambda: v['k'][:], lambda: list(v['k']), lambda: v['k'].pop()):
                with pytest.raises(vaults.VaultCorruptError):
                    read()
            assert v.check() != []
            header = tree.Header.of(v._store.get('k'))
            with pytest.raises(vaults.VaultCorruptError):
                list(kind_of(header).content(v._store, header))

    def test_a_hole_made_to_be_walked_for_years_is_refused(self):
        size = 1 << 60
        with contextlib.closing(planted(20, None, size, 0, size, 9, 1, 1, b'', chunks=[a_node((0, size))])) as v:
            with pytest.raises(vaults.VaultError):
                v['k']
            assert v.check() == []
            with pytest.raises(vaults.VaultCorruptError):
                moving.export(v, io.StringIO())
            with v.open('k', 'rb') as file:
                file.seek(-5, 2)
                assert file.read() == bytes(5)
