"""Streams as whole files, and the tools that take files."""
from __future__ import annotations

import array
import csv
import filecmp
import gzip
import io
import json
import os
import pathlib
import pickle
import shutil
import tarfile
import threading
import zipfile

import pytest

import vaults
from vaults import Vault
from vaults.collections import stream as streams

from .chunks import BIG, chunk_count, filled_stream
from .helpers import needs_fork


class TestWholeFiles:
    @pytest.mark.parametrize('size', [0, 10, 40, 41, 64, 3000])
    def test_a_file_goes_in_and_comes_out(self, v, small_leaves, tmp_path, size):
        source, target = tmp_path / 'source', tmp_path / 'target'
        source.write_bytes(BIG[:size])
        target.write_bytes(b'old')
        for path in (str, os.fsencode, pathlib.Path):
            assert v.put_file('key', path(source)) == size and v['key'] == BIG[:size]
            assert v.get_file('key', path(target)) == size and filecmp.cmp(source, target, shallow=False)
            target.unlink()
        for file in (io.BytesIO(BIG[:size]), Drip(BIG[:size])):
            assert v.put_file('key', file) == size and v['key'] == BIG[:size]
        out, drip = io.BytesIO(), Drip(b'')
        assert v.get_file('key', out) == v.get_file('key', drip) == size
        assert out.getvalue() == drip.data == BIG[:size]
        assert sorted(path.name for path in tmp_path.iterdir()) == ['source', 'vaults']

    def test_they_tell_how_far_they_are(self, v, small_leaves, tmp_path):
        (tmp_path / 'source').write_bytes(BIG[:150])
        begun = io.BytesIO(BIG[:150])
        begun.seek(20)
        calls = []
        v.put_file('key', tmp_path / 'source', lambda *call: calls.append(call))
        v.get_file('key', tmp_path / 'target', progress=lambda *call: calls.append(call))
        v.put_file('key', begun, lambda *call: calls.append(call))
        v.put_file('key', Drip(BIG[:100]), lambda *call: calls.append(call))
        assert calls == [*[(64, 150), (128, 150), (150, 150)] * 2, (64, 130), (128, 130), (130, 130),
                         *((done, None) for done in range(7, 99, 7)), (100, None)]

    def test_get_file_takes_any_bytes_and_text(self, v, small_leaves):
        v.update({'bytes': BIG, 'array': bytearray(b'abc'), 'text': 'é'})
        for key, data in (('bytes', BIG), ('array', b'abc'), ('text', 'é'.encode())):
            out = io.BytesIO()
            assert v.get_file(key, out) == len(data) and out.getvalue() == data

    def test_a_failure_leaves_what_was_there(self, v, small_leaves, tmp_path):
        filled_stream(v, 'key')
        before = chunk_count(v)
        target = tmp_path / 'target'
        target.write_bytes(b'old')

        def fail(done, total):
            if done > 1000:
                raise ZeroDivisionError
        with pytest.raises(ZeroDivisionError):
            v.get_file('key', target, fail)
        with pytest.raises(ZeroDivisionError):
            v.put_file('key', io.BytesIO(BIG * 2), fail)
        for missing in (FileNotFoundError, IsADirectoryError):
            with pytest.raises(missing):
                v.put_file('key', tmp_path / 'nothing' if missing is FileNotFoundError else tmp_path)
        with pytest.raises(KeyError):
            v.get_file('missing', target)
        with pytest.raises(KeyError):
            v.get_file('missing', tmp_path / 'new')
        assert target.read_bytes() == b'old' and v['key'] == BIG and chunk_count(v) == before
        assert sorted(path.name for path in tmp_path.iterdir()) == ['target', 'vaults']

    def test_text_files_are_refused(self, v):
        v['key'] = b'old'
        with pytest.raises(TypeError, match='takes a binary file'):
            v.put_file('key', io.StringIO('text'))
        with pytest.raises(TypeError, match='takes a binary file'):
            v.get_file('key', io.StringIO())
        assert v['key'] == b'old'

    @pytest.mark.skipif(not hasattr(os, 'mkfifo'), reason='no pipes with names here')
    def test_a_pipe_is_written_and_not_replaced(self, v, small_leaves, tmp_path):
        filled_stream(v, 'key')
        os.mkfifo(tmp_path / 'pipe')
        read = []
        reader = threading.Thread(target=lambda: read.append((tmp_path / 'pipe').read_bytes()), daemon=True)
        reader.start()
        assert v.get_file('key', tmp_path / 'pipe') == len(BIG) and (tmp_path / 'pipe').is_fifo()
        reader.join(10)
        assert read == [BIG]

    def test_a_link_stays_a_link(self, v, tmp_path):
        if not hasattr(os, 'symlink'):
            pytest.skip('no links here')
        (tmp_path / 'file').write_bytes(b'old')
        (tmp_path / 'link').symlink_to(tmp_path / 'file')
        v['key'] = b'new'
        v.get_file('key', tmp_path / 'link')
        assert (tmp_path / 'link').is_symlink() and (tmp_path / 'file').read_bytes() == b'new'


class Drip:
    """A file object with nothing but read and write, seven bytes at a time."""

    def __init__(self, data):
        self.data = data

    def read(self, size):
        piece, self.data = self.data[:7], self.data[7:]
        return piece

    def write(self, data):
        self.data += data[:7]
        return min(len(data), 7)


class TestWholeFilesAtOdds:
    """What goes wrong with the file that a value is written to leaves everything as it was."""

    def test_two_that_write_one_path_write_it_whole(self, v, tmp_path):
        size = 3 * streams.STREAM_LEAF
        v.put_file('a', io.BytesIO(b'a' * size))
        v.put_file('b', io.BytesIO(b'b' * size))
        out, seen, stop = tmp_path / 'out', set(), threading.Event()
        v.get_file('a', out)

        def look():
            while not stop.is_set():
                data = out.read_bytes()
                seen.add((len(data), len(set(data))))
        threads = [threading.Thread(target=lambda key=key: [v.get_file(key, out) for _ in range(10)]) for key in 'ab']
        looker = threading.Thread(target=look)
        [thread.start() for thread in (looker, *threads)]
        [thread.join() for thread in threads]
        stop.set()
        looker.join()
        assert seen <= {(size, 1)} and os.listdir(tmp_path) in (['out', 'vaults'], ['vaults', 'out'])

    def test_the_mode_of_the_file_stays(self, v, tmp_path):
        out = tmp_path / 'out'
        out.write_text('old')
        out.chmod(0o600)
        v['a'] = b'new'
        v.get_file('a', out)
        assert out.read_bytes() == b'new' and out.stat().st_mode & 0o777 == 0o600

    def test_the_vaults_own_file_is_refused(self, v):
        v['a'] = b'x'
        for ending in ('', '-wal', '-shm'):
            with pytest.raises(vaults.VaultError, match='own file'):
                v.get_file('a', v.db_path + ending)
        assert v['a'] == b'x'

    @needs_fork
    def test_a_pipe_that_takes_no_more_is_an_error(self, v):
        v.put_file('a', io.BytesIO(b'x' * 3_000_000))
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        with open(writer, 'wb', buffering=0) as file, pytest.raises(BlockingIOError, match='no more'):
            v.get_file('a', file)
        os.close(reader)

    def test_what_is_no_file_is_named(self, v, root, monkeypatch):
        monkeypatch.chdir(root)  # where nothing is called data, as the folder of the example is
        for wrong in (5, None, [b'data']):
            with pytest.raises(TypeError, match='takes a path or an open binary file'):
                v.put_file('a', wrong)
        for wrong in (b'data', b'', bytearray(b'data'), memoryview(b'data'), array.array('b', [1]), b'\0', b'x' * 10_000):
            for to in (v, v.section('s'), Vault(':memory:')):
                with pytest.raises(TypeError, match=r"v\[key\] = "):
                    to.put_file('a', wrong)
        assert 'a' not in v

    def test_positions_are_whole_and_not_out_of_reach(self, v):
        with v.open('a', 'wb', buffering=0) as file:
            for act in (lambda: file.seek(1 << 62), lambda: file.truncate(1 << 62), lambda: file.seek(1 << 80)):
                with pytest.raises(OSError, match='too far'):
                    act()
            with pytest.raises(TypeError):
                file.seek(1.5)
            file.write(b'x')
        assert v['a'] == b'x'


class TestToolsThatTakeFiles:
    def test_shutil_copies_both_ways(self, v, small_leaves):
        with v.open('key', 'wb') as file:
            shutil.copyfileobj(io.BytesIO(BIG), file, 100)
        with v.open('key') as file, v.open('copy', 'wb') as copy:
            shutil.copyfileobj(file, copy, 100)
        assert v['key'] == v['copy'] == BIG

    def test_zipfile_writes_reads_and_appends(self, v, small_leaves):
        with v.open('zip', 'wb') as file, zipfile.ZipFile(file, 'w', zipfile.ZIP_DEFLATED) as archive:
            archive.writestr('one', BIG)
            archive.writestr('two', b'2')
        with v.open('zip', 'r+b') as file, zipfile.ZipFile(file, 'a') as archive:
            archive.writestr('three', BIG[::-1])
        with v.open('zip') as file, zipfile.ZipFile(file) as archive:
            assert archive.testzip() is None and archive.namelist() == ['one', 'two', 'three']
            assert archive.read('one') == BIG and archive.read('three') == BIG[::-1]

    @pytest.mark.parametrize('kind', ['', ':gz', '|', '|gz', ':xz'])
    def test_tarfile_writes_and_reads(self, v, small_leaves, kind):
        with v.open('tar', 'wb') as file, tarfile.open(fileobj=file, mode='w' + kind) as archive:
            member = tarfile.TarInfo('member')
            member.size = len(BIG)
            archive.addfile(member, io.BytesIO(BIG))
        with v.open('tar') as file, tarfile.open(fileobj=file, mode='r' + (kind or ':*')) as archive:
            for member in archive:
                assert (member.name, archive.extractfile(member).read()) == ('member', BIG)

    def test_json_csv_pickle_and_gzip(self, v, small_leaves):
        value = {'list': list(range(100)), 'text': 'é€'}
        with v.open('json', 'w') as file:
            json.dump(value, file, ensure_ascii=False)
        with v.open('json', 'r') as file:
            assert json.load(file) == value
        with v.open('json') as file:
            assert json.load(file) == value
        rows = [['a', 'b\nc'], ['é', '"']] * 20
        with v.open('csv', 'w', newline='') as file:
            csv.writer(file).writerows(rows)
        with v.open('csv', 'r', newline='') as file:
            assert list(csv.reader(file)) == rows
        with v.open('pickle', 'wb') as file:
            pickle.dump(value, file)
            pickle.dump(BIG, file)
        with v.open('pickle') as file:
            assert pickle.load(file) == value and pickle.load(file) == BIG
        with v.open('gzip', 'wb') as file, gzip.open(file, 'wt') as text:
            text.write('line\n' * 1000)
        with v.open('gzip') as file, gzip.open(file, 'rt') as text:
            assert text.read() == 'line\n' * 1000

    def test_a_tool_that_fails_leaves_what_was_there(self, v, small_leaves):
        filled_stream(v, 'zip')
        with pytest.raises(ZeroDivisionError), v.open('zip', 'wb') as file, zipfile.ZipFile(file, 'w') as archive:
            archive.writestr('one', BIG)
            raise ZeroDivisionError
        with pytest.raises(TypeError), v.open('zip', 'w') as file:
            json.dump([1, 2, object()], file)
        assert v['zip'] == BIG

    def test_pillow_opens_and_saves(self, v):
        Image = pytest.importorskip('PIL.Image')
        image = Image.effect_noise((300, 200), 50)
        for name in ('photo.png', 'photo.tiff'):
            with v.open(name, 'w+b') as file:
                image.save(file)
            with v.open(name) as file, Image.open(file) as loaded:
                assert loaded.tobytes() == image.tobytes()

    def test_numpy_saves_and_loads(self, v):
        numpy = pytest.importorskip('numpy')
        data = numpy.arange(100_000).reshape(100, 1000)
        with v.open('npy', 'wb') as file:
            numpy.save(file, data)
        with v.open('npz', 'wb') as file:
            numpy.savez(file, data=data)
        with v.open('npy') as file, v.open('npz') as several:
            assert (numpy.load(file) == data).all() and (numpy.load(several)['data'] == data).all()
