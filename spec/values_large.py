"""Large values: what is read by blob I/O, and the memory and pages that it takes."""
from __future__ import annotations

import contextlib
import os
import pathlib
import sys

import pytest

import vaults
from vaults import Vault, memory
from vaults.codecs import large
from vaults.stores.sqlite import driver, schema
from vaults.stores.sqlite import statements as statements_of_stores

from .internals import raw_of


class TestLargeValues:
    """Values of 4 MB and more are read by blob I/O, in a vault where some are to be expected."""

    @staticmethod
    def some(size=schema.READ_AS_BLOB + 4097):
        return os.urandom(size)

    def test_a_vault_of_small_entries_does_not_ask_how_large_they_are(self, root):
        v = Vault('t')
        looks = v._store
        v.update({n: bytes(60) for n in range(10_000)})
        assert looks.sought == schema.GET
        v['large'] = self.some()
        assert looks.sought == schema.GET and len(v['large']) == schema.READ_AS_BLOB + 4097
        del v[:]
        v['large'] = value = self.some(12 << 20)
        assert looks.sought == schema.GET_SMALL
        v.close()
        v = Vault('t')
        assert v._store.sought == schema.GET_SMALL and v['large'] == value and v.get('none') is None

    def test_they_are_read_as_any_others_are(self, root):
        v = Vault('t')
        v._store.sought = schema.GET_SMALL
        for size in (1, schema.READ_AS_BLOB - 6, schema.READ_AS_BLOB - 5, schema.READ_AS_BLOB, 9 << 20):
            for key in ('key', b'key', 7, 0.5, True):
                v[key] = value = self.some(size)
                assert v[key] == v.get(key) == v.get_many([key])[key] == value
        with v:
            v['key'] = value = self.some()
            with contextlib.suppress(ZeroDivisionError), v:
                v['key'] = inner = self.some()
                assert v['key'] == inner
                raise ZeroDivisionError
            assert v['key'] == value
            del v['key']
            assert 'key' not in v and v.get('key') is None
        v['text'] = text = 'a' * schema.READ_AS_BLOB
        assert v['text'] == text and v.check() == []

    @pytest.mark.skipif(not os.path.exists('/proc/self/io'), reason='Linux counts what is read')
    @pytest.mark.parametrize('size', [20 << 20, 40 << 20])
    def test_each_page_of_one_is_read_from_the_file_once(self, root, size):
        def read_so_far():
            return int(pathlib.Path('/proc/self/io').read_text().split()[1])
        v = Vault('t')
        v['key'] = value = self.some(size)
        v.close()
        v = Vault('t')
        try:
            raw_of(v).blob(1, 1)
        except driver.Error:
            pytest.skip('there is no blob I/O')
        if ('DIRECT_OVERFLOW_READ',) in raw_of(v).execute('PRAGMA compile_options').fetchall():
            pytest.skip('this SQLite reads such pages past its cache')
        before = read_so_far()
        assert v['key'] == value
        assert .9 * size < read_so_far() - before < 1.1 * size
        assert raw_of(v).execute('PRAGMA cache_size').fetchone() == (-schema.CACHE >> 10,)

    def test_what_holds_the_pages_of_one_is_small_again_when_it_cannot_be_read(self, root, monkeypatch):
        v, sizes = Vault('t'), []
        v['key'] = self.some()
        v._store.sought = schema.GET_SMALL

        def interrupted(raw, id, size):
            sizes.append(raw.execute('PRAGMA cache_size').fetchone()[0])
            raise KeyboardInterrupt
        monkeypatch.setattr(type(raw_of(v)), 'blob', interrupted)
        with pytest.raises(KeyboardInterrupt):
            v['key']
        monkeypatch.setattr(statements_of_stores, 'MOST_HELD', schema.READ_AS_BLOB)
        with pytest.raises(KeyboardInterrupt):
            v['key']
        sizes.append(raw_of(v).execute('PRAGMA cache_size').fetchone()[0])
        assert sizes[0] < sizes[1] == sizes[2] == -schema.CACHE >> 10

    @pytest.mark.parametrize('size', [5 << 20, 6 << 20, 7 << 20, 1])
    def test_one_that_is_replaced_as_it_is_read_is_read_again(self, root, monkeypatch, size):
        v, other = Vault('t'), Vault('t')
        v['key'], value = self.some(6 << 20), self.some(size)
        v._store.sought = schema.GET_SMALL
        kind = type(raw_of(v))
        blob, seen = kind.blob, []

        def replaced(raw, id, size):
            other['key'] = value
            seen.append(size)
            return blob(raw, id, size)
        monkeypatch.setattr(kind, 'blob', replaced)
        assert v['key'] == value and seen == [(6 << 20) + 5]

        def deleted(raw, id, size):
            other.pop('gone', None)
            return blob(raw, id, size)
        v['gone'] = self.some()
        monkeypatch.setattr(kind, 'blob', deleted)
        assert v.get('gone', 'nothing') == 'nothing'

    @pytest.mark.parametrize('harm', ['value = zeroblob(5000000)', 'crc = crc + 1', "crc = 'text'", 'value = CAST(value AS TEXT)',
                                      "value = CAST(zeroblob(5000000) || x'ff' AS TEXT)"])
    def test_one_that_is_damaged_is_named(self, root, harm):
        v = Vault('t')
        v.update({'key': self.some(), 'other': self.some()})
        v._store.sought = schema.GET_SMALL
        raw_of(v).execute(f"UPDATE entries SET {harm} WHERE key = 'key'")
        with pytest.raises(vaults.VaultCorruptError, match="'key'|decode"):
            v['key']
        assert len(v['other']) == schema.READ_AS_BLOB + 4097

    def test_a_block_that_was_undone_as_one_is_read_fails_from_then_on(self, root, monkeypatch):
        v = Vault('t')
        v['key'] = self.some()
        v._store.sought = schema.GET_SMALL

        def undone(raw, id, size):
            raw.execute('ROLLBACK')  # as SQLite does when it cannot read what it needs
            error = driver.Error[-1]('disk I/O error')
            error.sqlite_errorcode = error.extendedresult = 10
            raise error
        with pytest.raises(vaults.VaultFullError, match='leave the block'), v:
            v['new'] = 1
            with monkeypatch.context() as patch, pytest.raises(vaults.VaultFullError, match='disk I/O'):
                patch.setattr(type(raw_of(v)), 'blob', undone)
                v['key']
            v['later'] = 2
        assert [*v] == ['key'] and v.check() == []

    def test_memory_comes_in_large_pages_where_there_are_some(self, monkeypatch):
        pieces = [self.some(), memoryview(b'piece'), b'', bytearray(self.some(1 << 20))]
        asked = []
        for advise in (None, lambda address, size: asked.append(size)):
            monkeypatch.setattr(memory, '_advise', advise)
            assert large.joined(pieces) == b''.join(pieces) and large.joined([b'a', b'b']) == b'ab'
        assert asked == [len(b''.join(pieces))]
        monkeypatch.setitem(sys.modules, 'ctypes', None)
        monkeypatch.setattr(memory, '_advise', None)
        file = memory.blank(schema.READ_AS_BLOB)
        assert memory._advise(0, 1) is None and file.getvalue() == bytes(schema.READ_AS_BLOB)
