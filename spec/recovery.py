"""Recovery: what is read from a damaged file."""
from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import io
import json
import os
import pickle
import re
import shutil
import sqlite3
import struct
import uuid

import pytest

import vaults
from vaults import Vault, recovery
from vaults.stores.sqlite import recovery as recovering
from vaults.stores.sqlite import salvage
from vaults.stores.sqlite import store as sqlite

from .helpers import UTC, output
from .peers import sqlite_file


class TestRecover:
    """`recover` copies what can be read of a damaged vault, and tells what cannot."""

    @pytest.fixture
    def bad(self, root):
        """Return a function that makes a vault of some pages, with a part of its file overwritten."""
        def damaged(start=0, stop=0, entries=600, cleared=False, fill=None):
            path = root / 'bad.db'
            with contextlib.closing(Vault(path)) as v:
                v.update((f'key {n}', f'value {n} ' * 7) for n in range(entries))
                if cleared:
                    v.clear()
                    v.update((f'new {n}', f'new {n}' * 7) for n in range(100))
                if fill:
                    fill(v)
            data = bytearray(path.read_bytes())
            data[start:stop] = bytes(stop - start)
            path.write_bytes(data)
            return path
        return damaged

    def recovered(self, path):
        """Recover to a vault beside it, which must be sound; return the report and the entries."""
        good = path.with_name('good.db')
        before = path.read_bytes()
        done = recovery.recover(path, good)
        assert path.read_bytes() == before and sorted(path.parent.glob('*.partial*')) == []
        with contextlib.closing(Vault(good)) as v:
            assert v.check() == [] and len(v) == done.recovered
            return done, {key: value[:] if hasattr(value, 'extend') else value for key, value in v.items()}

    def leaf_with(self, path, key, kind=13):
        data = path.read_bytes()
        return next(at for at in range(4096, len(data), 4096)
                    if data[at] == kind and key in data[at:at + 4096])

    EVERYTHING = {None: 1, True: 2, False: [3], 2: 'two', -1.5: b'f', 2**70: {1}, 3**90: (1,), '': None, 'zoë': 1.5,
                  '\ud800': 'x', b'\0': range(3), dt.date(2026, 1, 1): 1, dt.datetime(2026, 1, 1, tzinfo=UTC): 2, (): 3,
                  ('a', (1, None)): {'x': [2**70]}, uuid.UUID(int=7): 4, 'long': 'y' * 20_000}

    def fill(self, v):
        del v[:]
        v.update({'gone': 1, **self.EVERYTHING})
        del v['gone']
        v[2] = 'two'
        with v.open('stream', 'wb') as file:
            file.write(bytes(range(256)) * 2000)
        v.list('list').extend([n, 'x' * 50] for n in range(500))
        v.column('column', 'int64').extend(range(5000))
        v.section('users')['ann'] = 'Ann'

    def test_where_there_is_nothing_to_recover_no_folder_is_made(self, root):
        (root / 'vaults').rmdir()
        for missing in ('bad', root / 'bad.db'):
            with pytest.raises(vaults.VaultNotFoundError):
                recovery.recover(missing, 'good')
        assert list(root.iterdir()) == []

    def test_what_was_found_is_pickled_by_its_public_name(self, bad):
        done = recovery.recover(bad(), bad().with_name('good.db'))
        data = pickle.dumps(done)
        assert pickle.loads(data) == done and b'cvaults.recovery\nRecovery' in pickle.dumps(done, 0) and b'sqlite' not in data

    def test_a_cell_is_found_where_sqlite_finds_it(self, bad):
        path = bad()
        data = bytearray(path.read_bytes())
        page = next(at for at in range(4096, len(data), 4096) if data[at] == 13)  # a leaf of the table
        data[page + 10] ^= 0x20  # of the place of its second cell: SQLite looks at the lower bits alone
        path.write_bytes(data)
        done, entries = self.recovered(path)
        assert done.whole and len(entries) == 600

    @pytest.mark.parametrize('start, stop', [(0, 0), (0, 100), (0, 4096), (4096, 8192), (8192, 12288), (24, 28)],
                             ids=['sound', 'header', 'schema', 'root', 'index', 'counter'])
    def test_everything_comes_back_where_only_the_way_to_it_is_damaged(self, bad, start, stop, root):
        path = bad(fill=self.fill)
        with contextlib.closing(Vault(path)) as v:
            wanted = [(type(key), key, type(value), value[:] if hasattr(value, 'extend') else value)
                      for key, value in v.items()]
        data = bytearray(path.read_bytes())
        data[start:stop] = bytes(stop - start)
        path.write_bytes(data)
        done, entries = self.recovered(path)
        assert [(type(key), key) for key in entries] == [one[:2] for one in wanted]
        assert [list(value) if type(wanted[at][3]) is memoryview else value for at, value in enumerate(entries.values())
                ] == [list(one[3]) if type(one[3]) is memoryview else one[3] for one in wanted]
        assert done.whole and done.counted == done.recovered == len(wanted) and done.nameless == 0

    def test_what_is_in_the_log_alone_comes_back(self, root, v):
        v.update(dict.fromkeys(range(100), 'old'))
        v[7] = 'new'
        for ending in ('', '-wal'):
            shutil.copyfile(v.db_path + ending, root / f'bad.db{ending}')
        done, entries = self.recovered(root / 'bad.db')
        assert done.whole and entries == {**dict.fromkeys(range(100), 'old'), 7: 'new'}

    def test_a_log_that_breaks_off_gives_its_commits_before_the_break(self, root, v):
        for n in range(20):
            v[n] = n
        for ending in ('', '-wal'):
            shutil.copyfile(v.db_path + ending, root / f'bad.db{ending}')
        log_ = root / 'bad.db-wal'
        data = bytearray(log_.read_bytes())
        data[len(data) // 2] ^= 1
        log_.write_bytes(data)
        done, entries = self.recovered(root / 'bad.db')
        assert 5 < len(entries) < 15 and entries == {n: n for n in range(len(entries))}
        assert 'breaks off' in done.notes[0] and str(20 - len(entries)) in done.notes[0] and not done.whole

    def test_a_rollback_journal_is_rolled_back(self, root):
        path = root / 'bad.db'
        output('''
            import os, sqlite3, sys, vaults
            from spec.internals import raw_of
            from vaults.stores.sqlite import opening
            opening._choose_journal = lambda c, file: 'delete'
            v = vaults.Vault(__import__('pathlib').Path(sys.argv[1]))
            v.update({n: 'old' for n in range(2000)})
            raw_of(v).execute('PRAGMA cache_size = 1')
            v._store.begin()
            v.update({n: 'new' for n in range(2000)})
            os._exit(0)''', path)
        assert os.path.getsize(f'{path}-journal') > 4096 and b'new' in path.read_bytes()
        done, entries = self.recovered(path)
        assert done.whole and entries == dict.fromkeys(range(2000), 'old')

    # --- what opening says of it ---

    @pytest.mark.parametrize('start, stop', [(0, 16), (0, 100), (0, 4096), (0, 8192), (16, 18), (68, 72)],
                             ids=['magic', 'header', 'page', 'two pages', 'page size', 'application'])
    @pytest.mark.parametrize('fill', [bytes, lambda size: b'\7' * size], ids=['zeros', 'other bytes'])
    def test_opening_one_whose_beginning_is_damaged_names_recover(self, bad, start, stop, fill, command):
        path = bad()
        data = bytearray(path.read_bytes())
        data[start:stop] = fill(stop - start)
        path.write_bytes(data)
        for flag in 'rwcn':
            with pytest.raises(vaults.VaultCorruptError, match=re.escape(f'`vaults recover {path} ')) as caught:
                Vault(path, flag=flag)
            assert 'another name' not in str(caught.value)
        with pytest.raises(vaults.VaultCorruptError, match='vaults recover'):
            vaults.open(path)
        assert f'vaults recover {path}' in command('count', path).err
        assert path.read_bytes() == data and len(self.recovered(path)[1]) == 600

    def test_a_file_of_zeros_is_recovered_from_its_log_or_is_no_vault(self, root, v):
        v.update(dict.fromkeys(range(100), 'x'))
        path = root / 'bad.db'
        shutil.copyfile(v.db_path, path)
        path.write_bytes(bytes(path.stat().st_size))
        with pytest.raises(vaults.VaultFormatError, match='not a vault'):
            Vault(path)
        shutil.copyfile(f'{v.db_path}-wal', f'{path}-wal')
        with pytest.raises(vaults.VaultCorruptError, match='vaults recover'):
            Vault(path)
        assert self.recovered(path)[1] == dict.fromkeys(range(100), 'x')

    def test_what_never_was_a_vault_is_not_said_to_be_recoverable(self, root):
        sqlite_file(root / 'other.db', ('CREATE TABLE a (id INTEGER PRIMARY KEY, b, c, d)',), ('INSERT INTO a VALUES (1, 2, 3, 4)',))
        Vault(root / 'newer.db').close()
        (root / 'noise.db').write_bytes(b''.join(hashlib.sha256(b'%d' % n).digest() for n in range(12_000)))
        (root / 'text.db').write_bytes(b'some words\r\n' * 5000)
        (root / 'leaves.db').write_bytes((b'\x0d' + bytes(4095)) * 20)
        data = bytearray((root / 'newer.db').read_bytes())
        data[60:64] = b'\0\0\0\7'
        (root / 'newer.db').write_bytes(data)
        with contextlib.closing(Vault(root / 'reached.db')), contextlib.closing(sqlite3.connect(root / 'reached.db')) as raw:
            raw.execute('CREATE VIEW entries_seen AS SELECT * FROM entries')
        for path in root.glob('*.db'):
            with pytest.raises(vaults.VaultFormatError) as caught:
                Vault(path)
            assert 'vaults recover' not in str(caught.value), path

    def test_one_that_is_open_here_is_not_looked_into(self, bad, monkeypatch):
        path = bad()
        with contextlib.closing(Vault(path)):
            monkeypatch.setattr(recovering, 'Pages', lambda *_: pytest.fail('it was opened'))
            assert not recovering.is_promising(str(path))

    # --- beside other tables ---

    @pytest.fixture
    def crowded(self, root):
        """Return the path of a vault in whose file there are other tables, and what the vault holds."""
        path = root / 'bad.db'
        with contextlib.closing(Vault(path)) as v:
            v.update((f'ghost {n}', f'ghost {n} ' * 9) for n in range(100))
            raw = sqlite3.connect(path)
            raw.execute('CREATE TABLE copies (id INTEGER PRIMARY KEY, key NOT NULL UNIQUE, value BLOB, crc INTEGER)')
            raw.execute("INSERT INTO copies SELECT id + 5000, key, value, crc FROM entries WHERE key <> x''")
            raw.execute('CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT, photo BLOB)')
            raw.execute('CREATE INDEX by_name ON people (name)')
            raw.execute('CREATE INDEX by_photo ON people (photo)')
            raw.executemany('INSERT INTO people VALUES (?, ?, ?)', (
                (n * 7, f'person {n}', path.read_bytes()[4096:8192 + n] if n % 5 else b'\x0d' * n) for n in range(200)))
            with contextlib.suppress(sqlite3.OperationalError):  # a build without it
                raw.execute('CREATE VIRTUAL TABLE words USING fts5(text)')
                raw.executemany('INSERT INTO words VALUES (?)', ((f'some words {n} ' * 20,) for n in range(300)))
            raw.commit()
            raw.close()
            v.clear()
            v.update((f'key {n}', f'value {n} ' * 7) for n in range(600))
            self.fill_beside(v)
            wanted = {key: value[:] if hasattr(value, 'extend') else value for key, value in v.items()}
        return path, wanted

    def fill_beside(self, v):
        v.update(self.EVERYTHING)
        del v['key 5'], v[2]
        v.put_file('stream', io.BytesIO(bytes(range(256)) * 2000))
        v.list('list').extend([n, 'x' * 50] for n in range(500))

    def pages_of(self, path, *names):
        """Return where the pages of these tables and indexes begin, by SQLite's own list."""
        with contextlib.closing(sqlite3.connect(path)) as raw:
            try:
                found = raw.execute(f"SELECT pageno FROM dbstat WHERE name IN ({', '.join('?' * len(names))})", names)
                return [(number - 1) * 4096 for number, in found.fetchall()]
            except sqlite3.OperationalError:
                pytest.skip('this SQLite does not tell what its pages are for')

    OURS = ('entries', 'sqlite_autoindex_entries_1')
    THEIRS = ('copies', 'sqlite_autoindex_copies_1', 'people', 'by_name', 'by_photo', 'words_data', 'words_idx', 'words_content')

    def zeroed(self, path, *ranges):
        data = bytearray(path.read_bytes())
        for start, stop in ranges:
            data[start:stop] = bytes(stop - start)
        path.write_bytes(data)

    @pytest.mark.parametrize('ranges', [[], [(0, 100)], [(0, 4096)], [(4096, 8192)], [(8192, 12288)], [(32, 40)], [(28, 40)]],
                             ids=['sound', 'header', 'schema', 'root', 'index', 'free list', 'counts'])
    def test_other_tables_in_the_file_are_none_of_the_vaults(self, crowded, ranges):
        path, wanted = crowded
        self.zeroed(path, *ranges)
        done, entries = self.recovered(path)
        assert entries == wanted and list(entries) == list(wanted)
        assert done.whole and done.counted == done.recovered == len(wanted), done

    @pytest.mark.parametrize('also', [[], [(0, 4096)]], ids=['schema', 'no schema'])
    def test_damage_to_other_tables_is_none_of_the_vaults(self, crowded, also):
        path, wanted = crowded
        whole = path.read_bytes()
        pages = [self.pages_of(path, name) for name in self.THEIRS]
        for at in {of_one[place * len(of_one) // 4] for of_one in pages if of_one for place in range(4)}:
            path.write_bytes(whole)
            self.zeroed(path, (at, at + 4096), *also)
            done, entries = self.recovered(path)
            path.with_name('good.db').unlink()
            assert entries == wanted and done.whole, (at, done)

    @pytest.mark.parametrize('also', [[], [(0, 4096)], 'theirs'], ids=['schema', 'no schema', 'theirs'])
    def test_damage_to_the_vault_beside_other_tables_invents_no_losses(self, crowded, also):
        path, wanted = crowded
        whole = path.read_bytes()
        theirs = [(at, at + 4096) for at in self.pages_of(path, 'people', 'copies', 'words_idx')[::9]]
        for at in self.pages_of(path, *self.OURS)[::3]:
            path.write_bytes(whole)
            self.zeroed(path, (at, at + 4096), *(theirs if also == 'theirs' else also))
            done, entries = self.recovered(path)
            path.with_name('good.db').unlink()
            lost = {key for key, _ in done.lost}
            for key in list(done.doubtful) if also else ():  # what looks like an entry, where nothing tells whose it is
                assert key in wanted or (key.startswith('ghost') and entries.pop(key))
                done.doubtful.remove(key)
            assert lost | {*entries} == {*wanted} and not lost & {*entries}, at
            assert done.counted == len(wanted) or (also and done.counted is None), at
            assert all(wanted[key] == value for key, value in entries.items()) and not done.doubtful and not done.nameless, at

    def test_the_keys_of_a_leaf_that_is_gone_are_named(self, bad):
        path = bad()
        at = self.leaf_with(path, b'key 300')
        bad(at, at + 4096)
        done, entries = self.recovered(path)
        lost = [key for key, why in done.lost if why == salvage.UNREADABLE]
        assert {*lost, *entries} == {f'key {n}' for n in range(600)} and not {*lost} & {*entries}
        assert 'key 300' in lost and len(lost) < 100 and done.counted == 600 and done.nameless == 0
        assert list(entries) == sorted(entries, key=lambda key: int(key[4:])) and not done.doubtful

    def test_entries_are_counted_as_lost_where_no_key_names_them(self, bad):
        path = bad()
        leaf, index = self.leaf_with(path, b'key 300'), 8192
        data = bytearray(path.read_bytes())
        data[leaf:leaf + 4096] = data[index:index + 4096] = bytes(4096)
        for at in range(4096, len(data), 4096):
            if data[at] == 10:
                data[at:at + 4096] = bytes(4096)
        path.write_bytes(data)
        done, entries = self.recovered(path)
        assert done.lost == [] and done.counted == 600 and done.nameless == 600 - len(entries) > 20 and not done.whole

    @pytest.mark.parametrize('with_root', [True, False])
    def test_the_order_of_insertion_survives_a_page_full_of_damage(self, bad, with_root):
        path = bad()
        at = self.leaf_with(path, b'key 300')
        data = bytearray(path.read_bytes())
        cells = struct.unpack_from('>H', data, at + 3)[0]
        for cell in {*struct.unpack_from(f'>{cells}H', data, at + 8)[:cells - 2]}:
            data[at + cell + 1] = 0x80 + cell % 128  # of the id
            data[at + cell + 30] ^= 1  # of the value
        data[4096:8192] = data[4096:8192] if with_root else bytes(4096)
        path.write_bytes(data)
        done, entries = self.recovered(path)
        assert list(entries) == sorted(entries, key=lambda key: int(key[4:])) and 530 < len(entries) < 600
        assert len(entries) + len(done.lost) == 600 == done.counted

    def test_a_key_that_is_damaged_in_its_row_is_taken_from_the_index(self, bad):
        def fill(v):
            v['long'] = b'z' * 50_000
            with v.open('stream', 'wb') as file:
                file.write(b'stream' * 9000)
        path = bad(entries=100, fill=fill)
        data = bytearray(path.read_bytes())
        for leaf, key in ((self.leaf_with(path, b'key 50'), b'key 50'), (self.leaf_with(path, b'key 60'), b'key 60')):
            data[data.index(key, leaf) + 4] = 0xff if key == b'key 60' else ord('9')  # which is no UTF-8
        with contextlib.closing(Vault(path)) as v:
            owner, = v._store.chunk_owners()
        for at in range(4096, len(data), 4096):
            if data[at] == 13 and owner in data[at:at + 4096] and b'stream' * 50 in data[at:at + 4096]:
                data[data.index(owner, at)] ^= 1
        path.write_bytes(data)
        done, entries = self.recovered(path)
        assert done.whole and [*entries] == [*(f'key {n}' for n in range(100)), 'long', 'stream']
        assert entries['stream'] == b'stream' * 9000 and entries['key 60'] == 'value 60 ' * 7

    @pytest.mark.parametrize('one, kind', [(2, 13), (3, 10), (4, 13)])
    def test_pages_that_have_changed_places_lose_nothing(self, bad, one, kind):
        path = bad()
        data = bytearray(path.read_bytes())
        root_, leaf = 4096 * (one - 1), self.leaf_with(path, b'key 99', kind)
        data[root_:root_ + 4096], data[leaf:leaf + 4096] = data[leaf:leaf + 4096], data[root_:root_ + 4096]
        path.write_bytes(data)
        done, entries = self.recovered(path)
        assert [*entries] == [f'key {n}' for n in range(600)] and done.whole

    def test_a_damaged_row_and_a_hit_in_its_overflow_are_named(self, bad):
        path = bad(entries=20, fill=lambda v: v.update(long=b'z' * 50_000, next=1))
        data = bytearray(path.read_bytes())
        data[data.rindex(b'zzzzz')] ^= 1
        data[data.index(b'value 7 ')] ^= 1
        path.write_bytes(data)
        done, entries = self.recovered(path)
        assert sorted(done.lost) == [('key 7', salvage.DAMAGED), ('long', salvage.DAMAGED)]
        assert len(entries) == 20 and entries['next'] == 1 and done.counted == 22

    def test_a_value_in_parts_is_copied_whole_or_named(self, bad):
        path = bad(entries=3, fill=lambda v: (v.list('one').extend(['a' * 3000] * 20), v.list('two').extend(['b' * 3000] * 20)))
        path.write_bytes(path.read_bytes().replace(b'a' * 2000, b'a' * 1999 + b'b'))
        done, entries = self.recovered(path)
        assert [key for key, _ in done.lost] == ['one'] and entries['two'] == ['b' * 3000] * 20 and len(entries) == 4
        with contextlib.closing(Vault(path.with_name('good.db'))) as v:
            assert len({*v._store.chunk_owners()}) == 1  # nothing is left of the other

    def test_what_was_deleted_does_not_come_back(self, bad):
        path = bad(4096, 8192, cleared=True)
        assert b'value 300' in path.read_bytes()
        done, entries = self.recovered(path)
        assert done.whole and entries == {f'new {n}': f'new {n}' * 7 for n in range(100)}

    def test_what_may_have_been_deleted_is_named_where_the_free_pages_are_not_known(self, bad):
        done, entries = self.recovered(bad(0, 8192, cleared=True))
        assert {f'new {n}' for n in range(100)} <= {*entries} and {*done.doubtful} == {*entries} and len(entries) > 500

    def test_the_tree_tells_what_was_deleted_where_it_is_sound(self, bad):
        done, entries = self.recovered(bad(0, 4096, cleared=True))
        assert done.whole and entries == {f'new {n}': f'new {n}' * 7 for n in range(100)}

    def test_a_free_page_in_the_place_of_one_in_use_brings_nothing_back_unnamed(self, bad):
        path = bad(cleared=True)
        data = bytearray(path.read_bytes())
        used, free = (slice(at, at + 4096) for at in (self.leaf_with(path, b'new 50'), self.leaf_with(path, b'value 300')))
        data[used], data[free] = data[free], data[used]
        path.write_bytes(data)
        done, entries = self.recovered(path)
        assert {key for key in entries if key[:3] == 'key'} == {*done.doubtful} and 'key 300' in done.doubtful
        assert 'new 50' in [key for key, _ in done.lost]

    def test_a_serializer_comes_along(self, root):
        with contextlib.closing(Vault(root / 'bad.db', serializer=json)) as v:
            v['a'] = [1]
        assert recovery.recover(root / 'bad.db', root / 'good.db').whole
        with contextlib.closing(Vault(root / 'good.db', serializer=json)) as v:
            assert v['a'] == [1]

    def test_a_file_cut_off_anywhere_gives_what_is_before(self, bad):
        path = bad()
        whole = path.read_bytes()
        for size in (len(whole) - 1, len(whole) - 4096, len(whole) // 2 + 77, 5000, 4096):
            path.write_bytes(whole[:size])
            done, entries = self.recovered(path)
            path.with_name('good.db').unlink()
            assert all(entries[key] == f'value {key[4:]} ' * 7 for key in entries)
            there = -(-size // 4096), len(whole) // 4096
            assert len(entries) == 600 or there[0] == there[1] or '{} of {} pages'.format(*there) in done.notes[-1]

    @pytest.mark.parametrize('content', [b'', b'no vault', b'\x0d' * 10_000, b'SQLite format 3\0' + bytes(8000)])
    def test_what_is_no_vault_is_refused(self, root, content):
        (root / 'bad.db').write_bytes(content)
        with pytest.raises(vaults.VaultFormatError, match='nothing of a vault'):
            recovery.recover(root / 'bad.db', root / 'good.db')
        with contextlib.closing(sqlite3.connect(str(root / 'other.db'))) as raw:
            raw.execute('CREATE TABLE t (a, b, c, d)')
            raw.execute("INSERT INTO t VALUES (NULL, 'k', x'01', 5)")
            raw.commit()
        with pytest.raises(vaults.VaultFormatError, match='nothing of a vault'):
            recovery.recover(root / 'other.db', root / 'good.db')
        assert sorted(one.name for one in root.iterdir() if one.is_file()) == ['bad.db', 'other.db']

    def test_it_takes_no_place_that_is_taken(self, bad, root):
        path = bad()
        for name in ('good.db', 'good.db-wal', 'good.db.partial'):
            (root / name).write_bytes(b'mine')
            with pytest.raises(vaults.VaultError, match='already'):
                recovery.recover(path, root / 'good.db')
            assert (root / name).read_bytes() == b'mine'
            (root / name).unlink()
        for good, said in ((path, 'already'), (':memory:', 'memory')):
            with pytest.raises(vaults.VaultError, match=said):
                recovery.recover(path, good)
        for missing in (root / 'missing.db', ':memory:'):
            with pytest.raises(vaults.VaultNotFoundError):
                recovery.recover(missing, root / 'good.db')
        with pytest.raises(vaults.VaultFormatError, match='no file'):
            recovery.recover(root, root / 'good.db')

    def test_a_vault_that_is_open_here_or_written_to_is_refused(self, bad, root):
        path = bad()
        with contextlib.closing(Vault(path)), pytest.raises(vaults.VaultBusyError, match='open in this process'):
            recovery.recover(path, root / 'good.db')
        with pytest.raises(vaults.VaultBusyError, match='somebody wrote'):
            recovery.recover(path, root / 'good.db', lambda done, total: os.utime(path, (1, 1)))
        assert [one.name for one in root.iterdir() if one.is_file()] == ['bad.db']
        assert recovery.recover(path, root / 'good.db').whole

    def test_the_new_vault_appears_whole_or_an_interrupt_leaves_nothing_behind(self, bad, root):
        def interrupt(done, total):
            assert (root / 'good.db.partial').exists() and not (root / 'good.db').exists()
            if done == total:
                raise KeyboardInterrupt
        with pytest.raises(KeyboardInterrupt):
            recovery.recover(bad(), root / 'good.db', interrupt)
        assert [one.name for one in root.iterdir() if one.is_file()] == ['bad.db']

    def test_a_full_disk_leaves_nothing_behind(self, bad, root, monkeypatch):
        path, still_open = bad(), []
        monkeypatch.setattr(sqlite.SQLiteStore, 'close', lambda store: still_open.append(store))  # leaves the log, as SQLite does on a full disk
        with pytest.raises(vaults.VaultFullError, match='nothing was written'):
            recovery.recover(path, root / 'good.db')
        assert [one.name for one in root.iterdir() if one.is_file()] == ['bad.db']

    def test_the_command_tells_what_was_lost(self, bad, command, root):
        path = bad(entries=30, fill=lambda v: v.update({('log', 1): b'z' * 9000}))
        done = command('recover', path, root / 'one.db')
        assert (done.status, done.out) == (0, f"31 entries of 31 recovered to {root / 'one.db'}\n")
        data = bytearray(path.read_bytes())
        data[data.rindex(b'zzz')] ^= 1
        path.write_bytes(data)
        done = command('recover', path, root / 'two.db')
        assert done.status == 1 and done.out.splitlines()[0] == 'lost: ["log", 1]: its row is damaged'
        done = command('--json', 'recover', path, root / 'three.db')
        assert done.status == 1 and json.loads(done.out) == {
            'recovered': 30, 'counted': 31, 'nameless': 0, 'lost': [{'key': ['log', 1], 'why': 'its row is damaged'}],
            'doubtful': [], 'notes': []}
        assert command('count', root / 'three.db').out == '30\n'
        again = command('recover', path, root / 'three.db')
        assert again.status == 1 and 'already' in again.err
        path.write_bytes(bytes(12288))
        assert command('recover', path, root / 'four.db').status == 1
