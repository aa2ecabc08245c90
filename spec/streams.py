"""Streams: files in a vault."""
from __future__ import annotations

import array
import contextlib
import copy
import gc
import io
import itertools
import logging
import os
import pathlib
import sys
import tempfile
import threading
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

import vaults
from vaults import Vault, errors
from vaults.collections import stream as streams
from vaults.collections import tree

from .chunks import BIG, chunk_count, filled_stream
from .helpers import needs_fork
from .samples import as_ext


class Twins:
    """The same file twice: a stream, and the builtin's."""

    def __init__(self, vault, folder, mode, **options):
        self.path = os.path.join(folder, 'file')
        self.files = [vault.open('key', mode, **options),
                      open(self.path, mode, **{'encoding': None, **options})]  # noqa: SIM115

    def does(self, name, *arguments):
        """Return what both do; it must be the same."""
        answers = []
        for file in self.files:
            try:
                answer = getattr(file, name)(*arguments)
                answers.append(bytes(answer) if isinstance(answer, bytearray) else answer)
            except (OSError, ValueError) as error:
                answers.append('raised' if not isinstance(error, io.UnsupportedOperation) else 'unsupported')
        assert answers[0] == answers[1], (name, arguments)
        return answers[0]


stream_places = st.integers(-20, 400) | st.integers(400, 5000)
stream_operations = st.lists(st.one_of(
    st.tuples(st.just('read'), st.integers(-1, 300)),
    st.tuples(st.just('write'), st.binary(max_size=8).flatmap(lambda data: st.integers(0, 40).map(lambda n: data * n))),
    st.tuples(st.just('seek'), stream_places),
    st.tuples(st.just('seek'), st.integers(-200, 200), st.sampled_from([1, 2])),
    st.tuples(st.just('truncate')), st.tuples(st.just('truncate'), stream_places),
    st.tuples(st.just('readline')), st.tuples(st.just('readlines')), st.tuples(st.just('tell')),
    st.tuples(st.just('flush')), st.tuples(st.just('read1'), st.integers(0, 100))), max_size=12)
stream_texts = st.text('ab\n\ré€\U0001f600', max_size=60)
stream_text_operations = st.lists(st.one_of(
    st.tuples(st.just('read'), st.integers(-1, 60)), st.tuples(st.just('write'), stream_texts),
    st.tuples(st.just('seek'), st.just(0)), st.tuples(st.just('seek'), st.just(0), st.just(2)),
    st.tuples(st.just('readline')), st.tuples(st.just('tell')), st.tuples(st.just('flush')),
    st.tuples(st.just('truncate'), st.integers(0, 30))), max_size=10)
stream_sizes = st.sampled_from([0, 1, 39, 40, 41, 64, 65, 128, 200, 700])


class TestStreams:
    APPENDED = 300  # bytes, one by one: fewer where each is requests to a server

    @pytest.mark.parametrize('size, inside, tail', [(2, 1, b''), (2**60, 1, b''), (1, 2, b''), (3, 1, b'abc')])
    def test_a_header_whose_numbers_do_not_fit_together_is_not_opened(self, v, size, inside, tail):
        owner = b'o' * 12
        v._store.put_owner('s', as_ext(20, [None, size, 0, inside, 9, 3, 1, tail, owner]))
        v._store.put_chunks(owner, [(1, b'x'), (3, (1).to_bytes(8, 'little') + inside.to_bytes(8, 'little'))])
        for mode in ('rb', 'r+b', 'ab'):
            with pytest.raises(errors.VaultCorruptError):
                v.open('s', mode)
        del v['s']

    @given(mode=st.sampled_from(['rb', 'wb', 'ab', 'r+b', 'w+b', 'a+b']), size=stream_sizes, stream_operations=stream_operations,
           buffering=st.sampled_from([-1, 0, 7, 100]))
    def test_a_stream_does_what_a_file_does(self, small_leaves, mode, size, stream_operations, buffering):
        with Vault(':memory:') as vault, tempfile.TemporaryDirectory() as folder:
            filled_stream(vault, 'key', BIG[:size])
            pathlib.Path(folder, 'file').write_bytes(BIG[:size])
            pair = Twins(vault, folder, mode, buffering=buffering)
            for name, *arguments in stream_operations:
                if name != 'read1' or buffering:
                    pair.does(name, *arguments)
            pair.does('close')
            assert vault['key'] == pathlib.Path(pair.path).read_bytes()
            vault._check()
            store = vault._store
            header = tree.Header.of(store.get('key'))
            assert sorted(store.chunk_numbers(header.owner)) == sorted(tree.Tree(store, header).numbers())
            assert set(store.chunk_owners()) <= {header.owner}

    @given(mode=st.sampled_from(['r', 'w', 'a', 'r+', 'w+', 'a+']), before=stream_texts, stream_operations=stream_text_operations,
           encoding=st.sampled_from(['utf-8', 'utf-16', 'utf-8-sig', 'latin-1']),
           newline=st.sampled_from([None, '', '\n', '\r\n', '\r']), repeat=st.integers(1, 12))
    def test_text_is_what_it_is_in_a_file(self, small_leaves, mode, before, stream_operations, encoding, newline, repeat):
        with Vault(':memory:') as vault, tempfile.TemporaryDirectory() as folder:
            data = (before * repeat).encode(encoding, 'replace')
            filled_stream(vault, 'key', data)
            pathlib.Path(folder, 'file').write_bytes(data)
            pair = Twins(vault, folder, mode, encoding=encoding, errors='replace', newline=newline)
            for name, *arguments in stream_operations:
                pair.does(name, *arguments)
            pair.does('close')
            assert vault['key'] == pathlib.Path(pair.path).read_bytes()

    @given(edits=st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 300), st.booleans()), max_size=8),
           size=st.integers(0, 3000))
    def test_a_stream_can_be_changed_again_and_again(self, small_leaves, edits, size):
        with Vault(':memory:') as vault:
            filled_stream(vault, 'key', BIG[:size])
            expected = bytearray(BIG[:size])
            for at, length, cut in edits:
                with vault.open('key', 'r+b') as file:
                    file.seek(at)
                    if cut:
                        file.truncate()
                        expected = bytearray(expected[:at].ljust(at, b'\0'))
                    if length:
                        file.write(b'x' * length)
                        expected = bytearray(expected.ljust(at, b'\0'))
                        expected[at:at + length] = b'x' * length
                assert vault['key'] == expected
                header = tree.Header.of(vault._store.get('key'))
                assert sorted(vault._store.chunk_numbers(header.owner)) == sorted(
                    tree.Tree(vault._store, header).numbers())
            vault._check()

    def test_it_is_seen_when_it_is_closed_and_whole(self, v, small_leaves):
        v['key'] = 'old'
        with v.open('key', 'wb') as file:
            file.write(BIG)
            file.flush()
            assert v['key'] == 'old' and chunk_count(v) > 0
        assert v['key'] == BIG and v.get('key') == BIG and v.values() == [BIG] and v.items() == [('key', BIG)]
        assert v.copy() == {'key': BIG} and v == {'key': BIG} and v.get_many(['key']) == {'key': BIG}

    def test_replacing_and_deleting_free_the_chunks(self, v, small_leaves):
        for free in (lambda: v.__setitem__('key', 1), lambda: v.__delitem__('key'), v.clear, v.popitem,
                     lambda: filled_stream(v, 'key', b'short'), lambda: v.__delitem__(slice('a', 'z')),
                     lambda: v.put_many({'key': 2})):
            filled_stream(v, 'key')
            assert chunk_count(v) > 48
            free()
            assert chunk_count(v) == 0
        filled_stream(v, 'key')
        before = chunk_count(v)
        filled_stream(v, 'key')
        assert chunk_count(v) == before
        assert v.pop('key') == BIG and chunk_count(v) == 0

    def test_changing_a_byte_writes_a_leaf_and_the_nodes_above(self, v, small_leaves):
        filled_stream(v, 'key')
        before = tree.Header.of(v._store.get('key'))
        kept = set(v._store.chunk_numbers(before.owner))
        with v.open('key', 'r+b') as file:
            file.write(b'x')
        assert v['key'] == b'x' + BIG[1:]
        assert tree.Header.of(v._store.get('key')).owner == before.owner
        assert len(kept - set(v._store.chunk_numbers(before.owner))) == 4

    def test_appending_a_little_writes_no_leaf_until_it_is_much(self, v, small_leaves):
        filled_stream(v, 'key', BIG[:700])
        owner = tree.Header.of(v._store.get('key')).owner
        kept, written, end = list(v._store.chunk_numbers(owner)), 0, 700 + self.APPENDED
        for at in range(700, end):
            with v.open('key', 'ab') as file:
                file.write(BIG[at:at + 1])
            assert v['key'] == v.open('key').read() == BIG[:at + 1]
            written += kept != list(v._store.chunk_numbers(owner))
            kept = list(v._store.chunk_numbers(owner))
            if at == 750:
                v._check()
        assert self.APPENDED // 60 <= written <= 1 + self.APPENDED // 20
        with v.open('key', 'r+b') as file:
            file.truncate(end - 5)
            file.seek(0)
            file.write(b'x')
        assert v['key'] == b'x' + BIG[1:end - 5]

    @pytest.mark.parametrize('buffering', [-1, 0])
    def test_an_exception_in_the_block_writes_nothing(self, v, small_leaves, buffering):
        filled_stream(v, 'key', BIG[:500])
        before = chunk_count(v)
        for mode in ('wb', 'r+b', 'ab', 'w+b'):
            with pytest.raises(ZeroDivisionError), v.open('key', mode, buffering) as file:
                file.write(BIG)
                raise ZeroDivisionError
            assert file.closed and v['key'] == BIG[:500] and chunk_count(v) == before
        for mode in ('w', 'r+', 'a'):
            with pytest.raises(ZeroDivisionError), v.open('key', mode) as file:
                file.write('x' * 5000)
                raise ZeroDivisionError
            assert file.closed and v['key'] == BIG[:500] and chunk_count(v) == before

    @pytest.mark.parametrize('wrap', [lambda v: v.open('key', 'wb'), lambda v: v.open('key', 'wb', 0),
                                      lambda v: v.open('key', 'w', encoding='latin-1'), lambda v: v.open('key', 'r+b'),
                                      lambda v: io.TextIOWrapper(v.open('key', 'wb'), 'latin-1'),
                                      lambda v: v.open('key', 'ab').detach()])
    @pytest.mark.parametrize('cycle', [False, True])
    def test_a_dropped_writer_writes_nothing_and_says_so(self, v, small_leaves, caplog, wrap, cycle):
        v['key'] = b'old'
        with caplog.at_level(logging.WARNING, 'vaults'):
            file = wrap(v)
            file.write(BIG.decode('latin-1') if isinstance(file, io.TextIOBase) else BIG)
            if cycle:  # where what is only in the buffer is not known of any more
                file.flush()
                held = [file]
                held.append(held)
                del held
            del file
            gc.collect()
        assert v['key'] == b'old' and chunk_count(v) == 0
        assert [record.getMessage()[:40] for record in caplog.records] == ['a file was dropped without close(), noth']

    def test_a_leaf_written_again_before_closing_is_kept_once(self, v, small_leaves):
        with v.open('key', 'w+b') as file:
            for _ in range(3):
                file.seek(0)
                file.write(BIG)
                file.flush()
        header = tree.Header.of(v._store.get('key'))
        assert v['key'] == BIG
        assert sorted(v._store.chunk_numbers(header.owner)) == sorted(tree.Tree(v._store, header).numbers())

    def test_writing_no_bytes_changes_nothing(self, v, small_leaves):
        filled_stream(v, 'key')
        with v.open('key', 'a+b', 0) as file:
            file.seek(5)
            assert file.write(b'') == 0 and file.tell() == 5
        with v.open('key', 'r+b', 0) as file:
            file.seek(9999)
            file.write(b'')
        assert v['key'] == BIG

    def test_leaves_of_another_length_are_not_read_as_something_else(self, v, small_leaves, monkeypatch):
        filled_stream(v, 'key')
        monkeypatch.setattr(streams, 'STREAM_LEAF', 100)
        with v.open('key') as file, pytest.raises(vaults.VaultCorruptError, match='do not fit together'):
            file.read()

    def test_streams_are_kept_in_sections_too(self, v, small_leaves):
        section = v.section('files')
        filled_stream(section, 'key')
        assert section['key'] == section.open('key').read() == v['files', 'key'] == BIG and chunk_count(v) > 48
        assert section.put_file('key', io.BytesIO(b'new')) == section.get_file('key', io.BytesIO()) == 3
        assert chunk_count(v) == 0 and section.items() == [('key', b'new')]

    def test_a_dropped_reader_is_nothing_to_speak_of(self, v, small_leaves, caplog):
        filled_stream(v, 'key')
        for mode in ('rb', 'r+b', 'ab', 'r'):
            v.open('key', mode)
        assert not caplog.records and v['key'] == BIG

    def test_discard_closes_and_writes_nothing(self, v, small_leaves):
        for mode in ('wb', 'w+b', 'w'):
            file = v.open('key', mode)
            file.write(BIG.decode('latin-1') if mode == 'w' else BIG)
            file.discard()
            file.discard()
            file.close()
            assert file.closed and 'key' not in v and chunk_count(v) == 0

    def test_a_reader_whose_stream_is_replaced_is_told(self, v, small_leaves):
        for change in (lambda: filled_stream(v, 'key', b'new'), lambda: v.__delitem__('key')):
            filled_stream(v, 'key')
            with v.open('key', buffering=0) as file:
                assert file.read(10) == BIG[:10]
                change()
                with pytest.raises(vaults.VaultError, match='replaced or deleted while it was open: key .key.'):
                    file.read()

    def test_a_reader_keeps_what_was_not_changed_under_it(self, v, small_leaves):
        filled_stream(v, 'key')
        with v.open('key', buffering=0) as reader:
            assert reader.read(1) == BIG[:1]  # and has the root
            with v.open('key', 'ab') as file:
                file.write(b'more')
            assert reader.seek(0, 2) == len(BIG)  # and sees nothing of what came later

    def test_two_writers_of_r_plus_cannot_both_win(self, v, small_leaves):
        filled_stream(v, 'key')
        first, second, third = v.open('key', 'r+b'), v.open('key', 'r+b'), v.open('key', 'r+b')
        first.write(b'1')
        second.write(b'2' * 1000)
        first.close()
        before = chunk_count(v)
        with pytest.raises(vaults.VaultError, match='the stream was replaced or deleted while it was open'):
            second.close()
        third.close()  # it has changed nothing
        assert v['key'] == b'1' + BIG[1:] and chunk_count(v) == before and second.closed

    @pytest.mark.parametrize('size', [0, 10, 63, 64, 300, 3000])
    def test_two_that_append_both_survive(self, v, small_leaves, size):
        for before in (None, b'', BIG, b'old', 'older'):
            v.clear()
            if before == BIG:
                filled_stream(v, 'key', before)
            elif before is not None:
                v['key'] = before
            first, second = v.open('key', 'ab'), v.open('key', 'ab')
            first.write(b'1' * size)
            second.write(b'2' * size)
            second.close()
            first.close()
            start = (before.encode() if isinstance(before, str) else before or b'')
            wanted = before if not size and before is not None else start + b'2' * size + b'1' * size
            assert v['key'] == wanted
            v._check()
            owners = list(v._store.chunk_owners())
            assert len(owners) == (len(wanted) > 40 and (before == BIG or size > 0))

    def test_appending_to_what_was_truncated_meanwhile_cannot_be_joined(self, v, small_leaves):
        filled_stream(v, 'key')
        with pytest.raises(vaults.VaultError, match='somebody else has changed'), v.open('key', 'ab') as file:
            file.truncate(10)
            file.write(b'x')
            v['key'] = b'new'
        assert v['key'] == b'new'

    def test_what_was_appended_to_a_replaced_stream_is_appended_or_an_error(self, v, small_leaves):
        filled_stream(v, 'key')
        with v.open('key', 'ab') as file:
            file.write(b'x')
            filled_stream(v, 'key', b'new')
        assert v['key'] == b'newx'
        filled_stream(v, 'key')
        with pytest.raises(vaults.VaultError, match='what was written is not there any more'), \
                v.open('key', 'ab') as file:
            file.write(BIG)
            file.flush()
            filled_stream(v, 'key', b'new')
        assert v['key'] == b'new' and chunk_count(v) == 0

    def test_only_one_of_two_makes_a_new_one(self, v, small_leaves):
        first, second = v.open('key', 'xb'), v.open('key', 'x')
        first.write(BIG)
        second.write('2' * 5000)
        first.close()
        with pytest.raises(errors.VaultExistsError, match='key .key.'):
            second.close()
        with pytest.raises(FileExistsError):
            v.open('key', 'xb')
        assert v['key'] == BIG and list(v._store.chunk_owners()) == [tree.Header.of(v._store.get('key')).owner]

    def test_a_stream_takes_chunk_in_a_block(self, v, small_leaves):
        v['key'] = 'old'
        with v:
            filled_stream(v, 'key')
            assert v['key'] == BIG
        with pytest.raises(ZeroDivisionError), v:
            filled_stream(v, 'key', b'new' * 100)
            assert v['key'] == b'new' * 100
            raise ZeroDivisionError
        assert v['key'] == BIG
        with v:
            with pytest.raises(ZeroDivisionError), v:
                filled_stream(v, 'key', b'inner' * 100)
                raise ZeroDivisionError
            with v.open('key', 'ab') as file:
                file.write(b'outer' * 100)
        assert v['key'] == BIG + b'outer' * 100

    def test_a_stream_cannot_outlive_the_block_it_was_written_in(self, v, small_leaves):
        for mode, old in (('wb', 'old'), ('r+b', BIG), ('ab', BIG)):
            v.clear()
            filled_stream(v, 'key') if old is BIG else v.update(key=old)
            before = chunk_count(v)
            with pytest.raises(ZeroDivisionError), v:
                file = v.open('key', mode)
                file.write(BIG)
                file.flush()
                raise ZeroDivisionError
            with pytest.raises(vaults.VaultError, match='not there any more.*rolled back'):
                file.close()
            assert v['key'] == old and chunk_count(v) == before and file.closed

    def test_closing_after_the_vault_writes_nothing(self, root, small_leaves):
        for data in (b'x', BIG):
            vault = Vault('test')
            file = vault.open('key', 'wb')
            file.write(data)
            vault.close()
            with pytest.raises(vaults.VaultClosedError):
                file.close()
            assert file.closed
            with pytest.raises(vaults.VaultClosedError):
                vault.open('key', 'wb')
            assert 'key' not in Vault('test')

    def test_a_vault_that_is_only_read_is_not_opened_to_write(self, root, small_leaves):
        vault = Vault('test')
        filled_stream(vault, 'key')
        vault.close()
        with contextlib.closing(Vault('test', flag='r')) as reading:
            for mode in ('wb', 'ab', 'r+b', 'xb', 'w'):
                with pytest.raises(vaults.VaultReadOnlyError):
                    reading.open('key', mode)
            with pytest.raises(vaults.VaultReadOnlyError):
                reading.put_file('key', io.BytesIO())
            with reading.open('key') as file:
                assert file.read() == BIG == reading['key']

    def test_one_thread_writes_and_another_closes(self, v, small_leaves):
        file = v.open('key', 'wb')
        for data in (BIG[:1000], BIG[1000:2000], BIG[2000:]):
            thread = threading.Thread(target=file.write, args=(data,))
            thread.start()
            thread.join()
        file.close()
        assert v['key'] == BIG

    @needs_fork
    def test_a_forked_child_leaves_the_writer_to_its_parent(self, v, small_leaves):
        file = v.open('key', 'wb', 0)
        file.write(BIG)
        child = os.fork()
        if not child:
            code = 1
            with contextlib.suppress(vaults.VaultError):
                file.discard() if not chunk_count(v) else file.close()
                code = 2
            os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1 if sys.version_info >= (3, 9) else os.wait()
        file.write(b'more')
        file.close()
        assert v['key'] == BIG + b'more'

    def test_any_bytes_or_text_is_read_however_it_was_stored(self, v, small_leaves):
        v.update({'bytes': BIG, 'array': bytearray(BIG), 'text': 'é€' * 100, 'empty': b'', 'alone': '\ud800'})
        assert v.open('bytes').read() == v.open('array').read() == BIG
        assert v.open('text', 'r').read() == 'é€' * 100 and v.open('text').read() == ('é€' * 100).encode()
        assert v.open('empty').read() == b'' and v.open('empty', 'r').read() == ''
        assert v.open('alone', 'r', errors='surrogatepass').read() == '\ud800'
        with v.open('bytes') as file:
            assert file.seek(100) == 100 and file.read(10) == BIG[100:110]

    def test_what_is_neither_bytes_nor_text_is_not_opened(self, v, small_leaves):
        v.update({'number': 1, 'dict': {}, 'none': None})
        v.list('list').append(1)
        for key, kind in (('number', 'int'), ('dict', 'dict'), ('none', 'NoneType'), ('list', 'List')):
            for mode in ('rb', 'r+b', 'ab', 'r'):
                with pytest.raises(TypeError, match=f'not {kind}: key {key!r}'):
                    v.open(key, mode)
            with pytest.raises(TypeError, match=f'not {kind}: key {key!r}'):
                v.get_file(key, io.BytesIO())
        filled_stream(v, 'list')
        assert v['list'] == BIG
        v['list'] = 1

    def test_bytes_and_text_become_a_stream_when_they_are_changed(self, v, small_leaves):
        for old in (BIG, bytearray(BIG), BIG.decode('latin-1'), 'short', b''):
            v['key'] = old
            v.open('key', 'r+b').close()
            assert v['key'] == old and type(v['key']) is type(old)
            with v.open('key', 'ab') as file:
                file.write(b'more')
            with v.open('key', 'r+b') as file:
                file.seek(2)
                file.write(b'!')
            data = (old.encode() if isinstance(old, str) else bytes(old)) + b'more'
            assert v['key'] == data[:2] + b'!' + data[3:]

    def test_modes_are_those_of_open(self, v, tmp_path):
        v['key'] = b'old'
        (tmp_path / 'file').write_bytes(b'old')
        attempts = [{'mode': ''.join(letters)} for count in (1, 2, 3) for letters in itertools.product(
            'rwabt+xz', repeat=count)]
        attempts += [{'mode': 'rb', 'encoding': 'utf-8'}, {'mode': 'rb', 'errors': 'strict'}, {'mode': 'r', 'newline': 'x'},
                     {'mode': 'rb', 'newline': ''}, {'mode': 'r', 'buffering': 0}, {'mode': 'rb', 'buffering': -2},
                     {'mode': 'r', 'encoding': 'no such'}, {'mode': 'w', 'newline': 'x'}, {'mode': 5},
                     {'mode': 'w', 'encoding': 'no such'}]
        for options in attempts:
            outcomes = []
            for opener, what in ((v.open, 'key'), (open, tmp_path / 'file')):
                try:
                    with opener(what, **{'encoding': None, **options}) as file:
                        outcomes.append((file.readable(), file.writable(), file.seekable(), file.tell(),
                                         isinstance(file, io.TextIOBase), file.mode))
                except Exception as error:
                    outcomes.append(next(kind for kind in (TypeError, LookupError, FileExistsError, ValueError)
                                         if isinstance(error, kind)))
            assert outcomes[0] == outcomes[1], options

    def test_it_is_an_io_object_with_all_its_methods(self, v, small_leaves):
        filled_stream(v, 'key', b'one\ntwo\nthree')
        with v.open('key') as file:
            assert isinstance(file, io.BufferedReader) and file.name == 'key' and file.mode == 'rb'
            assert list(file) == [b'one\n', b'two\n', b'three'] and not file.isatty()
            assert file.seek(-5, 2) == 8 and file.peek()[:2] == b'th' and file.readinto(bytearray(3)) == 3
        assert v.open('key').detach().readall() == b'one\ntwo\nthree' and v.open('key', 'r+b').peek()[:3] == b'one'
        with v.open('key', 'wb').detach() as raw:
            raw.write(b'one\ntwo\nthree')
        with v.open('key', 'r') as file:
            assert file.encoding == 'utf-8' and file.name == 'key' and file.readlines() == ['one\n', 'two\n', 'three']
        for mode in ('rb', 'r+b', 'r'):
            with v.open('key', mode) as file, pytest.raises(io.UnsupportedOperation):
                file.fileno()
        with v.open('key', buffering=0) as raw, pytest.raises(io.UnsupportedOperation):
            raw.write(b'')
        with v.open('key', 'wb', 0) as raw:
            with pytest.raises(io.UnsupportedOperation):
                raw.read()
            with pytest.raises(io.UnsupportedOperation):
                raw.readall()
        for use in (raw.tell, raw.readall, raw.truncate, lambda: raw.write(b''), lambda: raw.seek(0)):
            with pytest.raises(ValueError, match='closed'):
                use()
        with pytest.raises(KeyError):
            v.open('missing')

    def test_a_reader_sees_no_more_than_the_leaves_it_needs(self, v, small_leaves, monkeypatch):
        filled_stream(v, 'key')
        read = []
        get_chunk = type(v._store).get_chunk
        monkeypatch.setattr(type(v._store), 'get_chunk', lambda *args: read.append(args[2]) or get_chunk(*args))
        with v.open('key', buffering=0) as file:
            file.seek(1024)
            assert file.read(40) == BIG[1024:1064] and file.read(24) == BIG[1064:1088]
            assert len(read) == 4  # three nodes and a leaf


OPEN_MODES = [
    'r', 'w', 'a', 'x', 'rb', 'wb', 'ab', 'xb', 'r+', 'w+', 'a+', 'x+', 'r+b', 'w+b', 'a+b', 'x+b', 'rt', 'br', '+br', 'rb+', '', 'b', 't', '+', 'rw',
    'ra', 'rr', 'r++', 'rbt', 'z', ' r', 'R', 5, None, b'r']
OPTIONS = [
    {}, {'buffering': 0}, {'buffering': 1}, {'buffering': 2}, {'buffering': -5}, {'buffering': 1.5}, {'buffering': None}, {'buffering': 'a'},
    {'encoding': 'utf-8'}, {'encoding': 'latin-1'}, {'encoding': 'no such'}, {'encoding': 5}, {'encoding': ''}, {'errors': 'replace'},
    {'errors': 5}, {'newline': ''}, {'newline': '\n'}, {'newline': '\r\n'}, {'newline': 'x'}, {'newline': 5}, {'newline': '\n\n'},
    {'encoding': 'utf-8', 'errors': 'strict', 'newline': '\r'}, {'buffering': 0, 'encoding': 'utf-8'}]
CALLS = [
    ('read',), ('read', 2), ('read', -1), ('read', None), ('read', -7), ('read', 1.5), ('read', 'a'), ('read', 0), ('readline',), ('readline', 2),
    ('readline', None), ('readline', -1), ('readlines',), ('readlines', None), ('readlines', 3), ('write', b'x'), ('write', 'x'), ('write', 5),
    ('write', None), ('write', bytearray(b'ab')), ('write', memoryview(b'abcd')[::2]), ('write', array.array('H', [1, 2])), ('writelines', [b'a', b'b']),
    ('writelines', ['a', 'b']), ('writelines', 5), ('seek', 1), ('seek', -1), ('seek', 0, 2), ('seek', 0, 1), ('seek', 0, 9), ('seek', 1.5), ('seek', None),
    ('seek', 1, 'a'), ('tell',), ('truncate',), ('truncate', 2), ('truncate', -1), ('truncate', None), ('truncate', 9), ('flush',),
    ('readable',), ('writable',), ('seekable',), ('isatty',), ('__iter__',), ('__next__',), ('readinto', bytearray(3)), ('readinto', b'abc'),
    ('readinto', array.array('H', [0, 0])), ('readinto', memoryview(bytearray(6))[::2]), ('readinto', 5), ('readinto', bytearray()), ('readall',), ('close',),
    ('__enter__',), ('read1', 2), ('read1',), ('readinto1', bytearray(3)), ('getvalue',)]


def answer_of(function, *arguments, **options):
    """Return what a call returns, in a form to be compared, or the kind of what it raises, and what it warns of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        try:
            answer = function(*arguments, **options)
        except Exception as error:
            return next(cls.__name__ for cls in (io.UnsupportedOperation, LookupError, TypeError, ValueError, OSError, AttributeError, Exception)
                        if isinstance(error, cls))
    if not isinstance(answer, (str, bytes, int, list, type(None))):
        answer = 'another object'
    return answer, [(one.category.__name__, os.path.basename(one.filename)) for one in caught if one.category is RuntimeWarning]


class TestStreamsAreAsOpenMakesThem:
    """Every mode and option of builtin `open`, and every method, also on a file that is closed: the same or the same error."""

    @pytest.mark.parametrize('mode', OPEN_MODES, ids=str)
    def test_opening(self, tmp_path, mode):
        for options in OPTIONS:
            (tmp_path / 'file').write_bytes(b'one\r\ntwo\nthree')
            with Vault(':memory:') as v:
                if isinstance(mode, str) and 'x' in mode:
                    (tmp_path / 'file').unlink()
                else:
                    v['key'] = b'one\r\ntwo\nthree'
                with contextlib.ExitStack() as opened:
                    def opens(opener, place, options=options, opened=opened):
                        return opened.enter_context(opener(place, mode, **options))
                    assert answer_of(opens, v.open, 'key') == answer_of(opens, open, tmp_path / 'file'), options

    @pytest.mark.parametrize('mode, options', [
        ('rb', {'buffering': 0}), ('wb', {'buffering': 0}), ('ab', {'buffering': 0}), ('r+b', {'buffering': 0}), ('w+b', {'buffering': 0}),
        ('rb', {}), ('wb', {}), ('ab', {}), ('r+b', {}), ('a+b', {}), ('r', {}), ('w', {}), ('a', {}), ('r+', {}), ('w+', {}), ('r', {'newline': ''}),
        ('w', {'newline': '\r\n'})], ids=str)
    def test_a_call(self, tmp_path, mode, options):
        options = {**options, **({} if 'b' in mode else {'encoding': 'utf-8'})}
        with Vault(':memory:') as v:
            for (name, *arguments), closed in itertools.product(CALLS, [False, True]):
                v['key'] = b'one\r\ntwo\nthree'
                (tmp_path / 'file').write_bytes(v['key'])
                answers = []
                for file in (v.open('key', mode, **options), open(tmp_path / 'file', mode, **options)):  # noqa: SIM115
                    if closed:
                        file.close()
                    given = copy.deepcopy(arguments) if 'readinto' in name and not isinstance(arguments[0], memoryview) else arguments
                    answers.append([answer_of(lambda file=file, given=given, name=name: getattr(file, name)(*given)), given])
                    if name not in ('close', '__next__') and not closed:
                        answers[-1].append(answer_of(file.tell))
                    answers[-1].append(file.closed)
                    file.close()
                if name == 'readall':  # builtin: a bare OSError
                    answers[0][0] = 'OSError' if answers[0][0] == 'UnsupportedOperation' else answers[0][0]
                assert answers[0] == answers[1], (name, arguments, closed)
                assert v['key'] == (tmp_path / 'file').read_bytes(), (name, arguments, closed)

    def test_a_file_that_was_left_is_closed(self, v):
        v['key'] = b'text'
        for options in ({'buffering': 0}, {}, {'mode': 'r'}, {'mode': 'r+b'}):
            with v.open('key', **options) as file:
                pass
            for use in (file.__enter__, file.read, file.readable, file.seekable, file.tell, file.flush, file.fileno, file.isatty,
                        lambda file=file: file.seek(0), lambda file=file: next(file), file.truncate):
                with pytest.raises(ValueError):
                    use()
        for mode in ('rb', 'wb', 'ab', 'r+b'):
            file = v.open('key', mode, buffering=0)
            file.close()
            for use in (file.readable, file.writable, file.seekable, file.fileno):
                with pytest.raises(ValueError) as caught:
                    use()
                assert caught.type is ValueError
        with pytest.raises(io.UnsupportedOperation):
            v.open('key').fileno()

    def test_a_buffer_with_gaps_is_refused_and_loses_nothing(self, v):
        with v.open('key', 'wb', buffering=0) as file:
            file.write(b'before')
            with pytest.raises(BufferError):
                file.write(memoryview(b'abcd')[::2])
            file.write(memoryview(array.array('H', [1, 2])))
            assert file.write(array.array('H')) == 0
        assert v['key'] == b'before' + array.array('H', [1, 2]).tobytes()

    def test_a_warning_names_the_line_that_opened_with_line_buffering(self, v):
        for mode in ('wb', 'rb', 'r+b', 'ab'):
            with pytest.warns(RuntimeWarning, match='binary mode') as caught, v.open('key', mode, buffering=1) as file:
                assert caught[0].filename == __file__ and file.readable() == (mode[0] == 'r')
                file.write(b'x' * 10) if file.writable() else file.read()
        assert v['key'] == b'x' * 20
