"""SQLite's traps, each forced; the format of the file; the files of earlier releases; hostile files."""
from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import itertools
import os
import pathlib
import pickle
import re
import shutil
import signal
import sqlite3
import struct
import threading
import time

import pytest

import vaults
from vaults import Vault, moving
from vaults.collections import stream as streams
from vaults.stores.sqlite import checkpoint as checkpointing
from vaults.stores.sqlite import connection, driver, guard, schema
from vaults.stores.sqlite import store as sqlite

from .helpers import HERE, in_child, in_thread, is_free, needs_fork, needs_posix, output, run, signalled
from .internals import (
    another,
    connection_of,
    depth_of,
    is_in_transaction,
    raw_of,
    run_checkpoint,
    statements,
    unwatched,
)


def handled_in_a_block(v):
    with v:
        v['handler'] = 1


class TestTraps:
    """What SQLite does that a dict may not, each forced."""

    def test_an_append_outside_of_a_block_is_one_statement(self, v):
        one = v.list('one')
        one.append(0)
        seen = statements(v)
        one.append(1)
        unwatched(v)
        assert len(seen) == 1 and seen[0].startswith('UPDATE entries') and one == [0, 1]

    def test_many_keys_are_looked_for_in_few_statements(self, v):
        entries = {**{f'key {n}': n for n in range(300)}, **{n: str(n) for n in range(300)}, ('a', 1): 'tuple', b'b': b'b', 1.5: 1.5, '': 'empty'}
        v.update(entries)
        asked = ['none', *entries, True, 1.0, 1, 'key 1', 'key 1', -1, b'']
        seen = statements(v)
        found = v.get_many(asked)
        assert found == entries and len(seen) == -(-len(set(asked)) // 64)
        del seen[:]
        assert v.has_keys(entries) and not v.has_keys([*entries, 'none']) and len(seen) <= 20
        unwatched(v)
        assert list(v._store.get_many(['none', 'key 7', 'key 7', True])) == [None, b'\x07', b'\x07', v._store.get(1)]
        assert list(v._store.contains_many(['none', 'key 7', 'none', 7.0, 7.5])) == [False, True, False, True, False]

    def test_a_large_value_among_many_is_read_by_itself(self, v):
        v.update({n: bytes(n * 40_000) for n in range(1, 5)})
        v['end'] = 'end'
        v.open('chunks', 'wb').close()
        v.list('list').extend(range(3))
        seen = statements(v)
        assert v.get_many([*range(5), 'end']) == {**{n: bytes(n * 40_000) for n in range(1, 5)}, 'end': 'end'}
        unwatched(v)
        assert len(seen) == 1 + 3   # those of more than 64 KiB
        assert v.get_many(['chunks', 'list', 'end']) == {'chunks': b'', 'list': [0, 1, 2], 'end': 'end'}

    @pytest.mark.parametrize('harm', ["value = x'07', crc = crc + 1", "value = 'text'", 'value = 7', "value = CAST(x'ff' AS TEXT)", "crc = 'text'"])
    def test_one_that_is_damaged_among_many_is_named(self, v, harm):
        v.update({f'key {n}': n for n in range(100)})
        raw_of(v).execute(f"UPDATE entries SET {harm} WHERE key = 'key 70'")
        store = v._store
        found = store.get_many([f'key {n}' for n in range(100)])
        assert [next(found) for _ in range(64)] == [bytes([n]) for n in range(64)]
        with pytest.raises(vaults.VaultCorruptError, match='key 70'):
            list(found)
        with pytest.raises(vaults.VaultCorruptError, match='key 70'):
            v.get_many(['key 1', 'key 70'])
        assert v.get_many(['key 1', 'key 2']) == {'key 1': 1, 'key 2': 2} and v.has_keys(['key 70', 'key 1'])
        v.close()
        for look in (v.get_many, v.has_keys):
            with pytest.raises(vaults.VaultClosedError):
                look(['key 1', 'key 2'])

    def test_a_block_that_was_undone_while_many_are_looked_for_fails_from_then_on(self, v, monkeypatch):
        v.update({n: n for n in range(100)})
        gathered = connection.Connection.gathered

        def undone(c, gather, sql, arguments):
            if 'asked' not in sql:
                return gathered(c, gather, sql, arguments)
            c.raw.execute('ROLLBACK')  # as SQLite does when it cannot read what it needs
            error = driver.Error[-1]('disk I/O error')
            error.sqlite_errorcode = error.extendedresult = 10
            raise error
        for look in (v.get_many, v.has_keys):
            with pytest.raises(vaults.VaultFullError, match='leave the block'), v:
                v['new'] = 1
                with monkeypatch.context() as patch, pytest.raises(vaults.VaultFullError, match='disk I/O'):
                    patch.setattr(connection.Connection, 'gathered', undone)
                    look(range(80))
                v['later'] = 2
            assert v.items() == [(n, n) for n in range(100)]

    @pytest.mark.parametrize('look', [lambda v: v.get_many(['a']), lambda v: v.has_keys(['a', 'b']), len, Vault.items])
    def test_what_is_closed_in_the_middle_of_a_call_says_so(self, v, monkeypatch, look):
        v['a'] = 1
        gathered = connection.Connection.gathered

        def closed(*given):
            v.close()  # as a signal handler may
            return gathered(*given)
        monkeypatch.setattr(connection.Connection, 'gathered', closed)
        with pytest.raises(vaults.VaultClosedError, match='open it again'):
            list(look(v))

    def test_what_a_block_appends_takes_few_statements(self, v):
        one, column = v.list('one'), v.column('column', 'int64')
        seen = statements(v)
        with v:
            for number in range(100):
                one.append(number)
            for number in range(400):
                column.append(number)
        unwatched(v)
        assert len(seen) < 12 and one == [*range(100)] and len(column) == 400

    @needs_posix
    def test_a_signal_handler_finds_all_that_a_block_has_appended(self, v):
        one, column, done, wrong = v.list('one'), v.column('column', 'int64'), [0], []

        def look(*_):
            found = len(one), len(column)
            if not done[0] <= found[1] <= found[0] <= done[0] + 1:
                wrong.append((found, *done))
        before = signal.signal(signal.SIGALRM, look)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.0003, 0.0003)
            with v:
                for number in range(20_000):
                    one.append(number)
                    column.append(number)
                    done[0] += 1
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert not wrong and one == [*range(20_000)] == column.tolist()

    @pytest.mark.skipif(not guard.AVAILABLE, reason='no OFD locks on this system')
    def test_somebody_opens_and_closes_the_file_in_this_process(self, root):
        v = Vault('t')
        for n in range(100):
            v[n] = n
        with open(v.db_path, 'rb') as f:
            f.read()
        shutil.copy(v.db_path, root / 'copy')
        output("import sys, vaults; vaults.set_root_path(sys.argv[1]); v = vaults.Vault('t'); v['other'] = 1; v.close()",
               root)
        assert os.path.exists(v.db_path + '-wal')
        for n in range(100, 200):
            v[n] = n
        code = "import sys, vaults; vaults.set_root_path(sys.argv[1]); print(len(vaults.Vault('t')))"
        assert output(code, root) == '201'
        v._check()

    @pytest.mark.skipif(not guard.AVAILABLE, reason='no OFD locks on this system')
    def test_a_vault_opened_by_a_link_is_guarded_as_well(self, root):
        path = root / 'real.db'
        Vault(path).close()
        (root / 'link.db').symlink_to(path)
        v = Vault(root / 'link.db')
        assert len(guard._guards[v._store.file.identity]._held) == len(guard.PLACES)  # the shared memory, too

    @pytest.mark.parametrize('act', ['delete', 'replace', 'empty'])
    def test_a_file_deleted_or_replaced_underneath_is_noticed(self, root, act):
        v = Vault('t')
        v.update(dict.fromkeys(range(-65, 0)), k=1)
        if act == 'delete':
            os.unlink(v.db_path)
        elif act == 'empty':
            os.truncate(v.db_path, 0)
        else:
            Vault('u').close()
            os.replace(root / 'vaults' / 'u.db', v.db_path)
        with pytest.raises(vaults.VaultNotFoundError, match='deleted, emptied or replaced'), v:
            pass
        for write in (lambda n: v.put(n, n), lambda n: v.__delitem__(-n)):
            with pytest.raises(vaults.VaultNotFoundError):
                for n in range(1, 66):
                    write(n)
        v.close()

    @pytest.mark.parametrize('times', [1, 3])
    def test_who_opens_waits_for_one_who_recovers_the_log_or_closes_the_file_as_the_last(self, root, monkeypatch, times):
        with contextlib.closing(Vault('t')) as v:
            v['k'] = 1
        keeper, other = (another(root / 'locked.db') for _ in range(2))
        keeper.execute('CREATE TABLE locked (a)')
        keeper.execute('BEGIN EXCLUSIVE')
        real, met = connection.Connection.shield, []

        def shield(c, file):
            def busy(sql, *arguments):
                if sql == schema.CONTAINS and len(met) < times:
                    met.append(sql)
                    other.execute('SELECT * FROM locked')  # which raises what SQLite raises then
                return execute(sql, *arguments)
            execute, c.execute = c.execute, busy
            real(c, file)
            c.execute = execute
        monkeypatch.setattr(connection.Connection, 'shield', shield)
        with contextlib.closing(Vault('t')) as w:
            assert len(met) == times and w['k'] == 1
        with pytest.raises(vaults.VaultBusyError, match='timeout of 0.1'):
            times += 10**6
            Vault('t', timeout=0.1)
        keeper.close()
        other.close()

    GONE = {'gone': os.unlink, 'empty': lambda path: os.truncate(path, 0), 'no file': lambda path: (os.unlink(path), os.mkdir(path)),
            'another one': lambda path: (Vault('u', flag='n').close(), os.replace(os.path.join(os.path.dirname(path), 'u.db'), path))}

    @pytest.fixture(params=sorted(GONE))
    def stale(self, request, root):
        """Return a function that opens a vault whose file something then happens to, and the word for that."""
        def opened(**options):
            with contextlib.closing(Vault('t')) as v:
                v.update(dict.fromkeys(range(100), 'x' * 50))
            v = Vault('t', **options)
            if options.get('flag') != 'r':
                v['new'] = 1
                del v['new']
                v.sync()
            self.GONE[request.param](v.db_path)
            return v
        return opened, request.param

    @needs_posix
    @pytest.mark.parametrize('options', [{}, {'thread_safe': True}, {'writeback': True}, {'flag': 'r'}])
    def test_the_error_about_a_file_that_is_gone_says_what_it_is_now_and_how_to_go_on(self, stale, root, options):
        opened, word = stale
        v = opened(**options)
        for act in (v.__enter__, lambda: v.section('s').__enter__(), v.transaction().__enter__):
            with pytest.raises(vaults.VaultNotFoundError, match=f'{v.db_path} is {word}.* backup.*open it again'):
                act()
        if word != 'empty':  # of that it depends on what the log still holds
            assert word in v.check()[0]
            v.backup(root / 'saved')
            assert (root / 'saved').stat().st_mode & 0o777 == 0o600
            with contextlib.closing(Vault(root / 'saved')) as saved:
                assert saved == dict.fromkeys(range(100), 'x' * 50) and saved.check() == []
        v.close()

    @needs_posix
    def test_a_walk_over_what_is_gone_says_so_in_the_log_once(self, stale, caplog):
        v = stale[0]()
        assert len(v.items()[:]) == 100 and v.keys() == [*range(100)] and v[10:20]
        assert [record.getMessage().count(f'{v.db_path} is {stale[1]}') for record in caplog.records if record.name == 'vaults'] == [1]
        v.close()

    @needs_posix
    @pytest.mark.parametrize('options', [{}, {'thread_safe': True}, {'writeback': True}])
    def test_delete_vault_leaves_what_has_taken_the_files_place(self, stale, root, options):
        v = stale[0](**options)
        if stale[1] in ('gone', 'empty'):
            v.delete_vault()
            assert not os.path.exists(v.db_path)
            return
        with pytest.raises(vaults.VaultNotFoundError, match=f'is {stale[1]}'):
            v.delete_vault()
        v.close()
        assert os.path.exists(v.db_path)

    @needs_posix
    def test_another_thread_does_not_open_what_has_taken_the_files_place(self, stale):
        v = stale[0]()

        def read():
            with pytest.raises(vaults.VaultNotFoundError, match=f'is {stale[1]}'):
                v[7]
            with pytest.raises(vaults.VaultNotFoundError, match=f'is {stale[1]}'):
                v.put(7, 'x')
            return 'raised'
        assert in_thread(read) == 'raised'
        v.close()

    @needs_posix
    @needs_fork
    def test_a_forked_child_does_not_open_what_has_taken_the_files_place(self, stale):
        v = stale[0]()
        answer = in_child(lambda: v[7]).answer()
        assert 'VaultNotFoundError' in answer and f'is {stale[1]}' in answer
        v.close()

    def test_a_vault_that_was_pickled_before_its_file_was_moved_says_where_it_was(self, v, root):
        v['k'] = 1
        pickled = pickle.dumps(v)
        v.close()
        os.rename(v.db_path, root / 'elsewhere.db')
        with pytest.raises(vaults.VaultNotFoundError, match=f"'test' was pickled when its file was {re.escape(v.db_path)}"):
            pickle.loads(pickled)
        os.rename(root / 'elsewhere.db', v.db_path)
        with contextlib.closing(pickle.loads(pickled)) as again:
            assert again['k'] == 1

    @pytest.mark.skipif(not hasattr(os, 'mkfifo'), reason='no pipes with names on this system')
    def test_what_is_no_regular_file_is_refused_unopened(self, root):
        os.mkfifo(root / 'pipe')
        for flag in 'crwn':
            with pytest.raises(vaults.VaultFormatError, match='regular file'):
                Vault(root / 'pipe', flag=flag)

    @pytest.mark.parametrize('now', [-1e9, 0, 2**32 - 1, 2**32, 1e11])
    def test_a_clock_that_is_wrong_by_centuries_does_no_harm(self, v, monkeypatch, now):
        monkeypatch.setattr(time, 'time', lambda: now)
        monkeypatch.setattr(streams, 'STREAM_LEAF', 1000)
        for _ in range(3):
            with v.open('stream', 'ab') as file:
                file.write(b'x' * 20_000)
            v.compact()
        assert v['stream'] == b'x' * 60_000 and v.check() == []

    @pytest.mark.parametrize('act, answer', [
        (lambda v: v['k'], 1), (lambda v: v.get('none', 2), 2), (lambda v: 'k' in v, True), (lambda v: 'none' in v, False),
        (lambda v: v.keys()[:2], ['k', 'other']), (lambda v: len(v) > 1, True), (lambda v: v.pop('k'), 1),
        (lambda v: (v.__delitem__('k'), 'k' in v), (None, False)), (lambda v: v.clear(), None), (lambda v: v['list'][:], [1]),
        (lambda v: (v.__delitem__(slice('a', 'k')), len(v) > 1, v.check()), (None, True, [])), (lambda v: v.check(), [])])
    def test_a_signal_handler_that_uses_the_vault_changes_no_answer(self, v, act, answer):
        v.update(k=1, other=2, a=3)
        v.list('list').append(1)
        c, calls, handling = connection_of(v), itertools.count(), []
        execute = c.execute

        def signalled(*arguments):  # as every other one returns, a handler runs
            result = execute(*arguments)
            if not handling and next(calls) % 2 == 0:
                handling.append(True)
                v['handled'] = v.get('other')
                assert 'none' not in v and v.pop('handled') in (2, None)
                handling.clear()
            return result
        c.execute = signalled
        assert act(v) == answer
        v._check()

    @pytest.mark.parametrize('added', [1, 2])
    def test_what_a_signal_handler_puts_as_the_newest_is_deleted_is_counted(self, v, monkeypatch, added):
        v.update(dict.fromkeys('abc'))
        page = sqlite.SQLiteStore.rows

        def signalled(store, c, sql, arguments):
            rows = page(store, c, sql, arguments)
            if sql == schema.DELETE:
                v.update(dict.fromkeys(range(added)))
            return rows
        monkeypatch.setattr(sqlite.SQLiteStore, 'rows', signalled)
        del v['c']
        monkeypatch.undo()
        assert list(v) == ['a', 'b', *range(added)]
        v._check()

    @pytest.mark.parametrize('meanwhile', [
        lambda v: v.update(new=1), lambda v: v.move_to_end('a'),
        lambda v: v.move_to_end('a', last=False), lambda v: v.popitem()])
    def test_what_a_signal_handler_does_while_an_entry_is_deleted_is_counted(self, v, monkeypatch, meanwhile):
        v.update(dict.fromkeys('abcd'))
        del v['c']  # its id lies below that of the newest
        newest = sqlite.SQLiteStore.newest

        def interrupted(store, c):
            monkeypatch.setattr(sqlite.SQLiteStore, 'newest', newest)
            meanwhile(v)
            return newest(store, c)
        monkeypatch.setattr(sqlite.SQLiteStore, 'newest', interrupted)
        del v['d']
        assert len(v) == len(list(v)) and v.check() == []
        v._check()

    @pytest.mark.parametrize('meanwhile', [
        lambda v: v.update(new=1), lambda v: v.move_to_end('a'), lambda v: v.move_to_end('a', last=False),
        lambda v: v.popitem(), lambda v: v.__delitem__('a'), lambda v: v.clear()])
    def test_what_a_signal_handler_does_while_an_entry_within_is_deleted_is_counted(self, v, monkeypatch, meanwhile):
        v.update(dict.fromkeys('abcd'))
        kind = type(raw_of(v))
        changed = kind.changed

        def interrupted(raw, sql, arguments):
            monkeypatch.setattr(kind, 'changed', changed)
            deleted = changed(raw, sql, arguments)
            meanwhile(v)
            return deleted
        monkeypatch.setattr(kind, 'changed', interrupted)
        del v['b']
        v['after'] = 1
        assert len(v) == len(list(v)) and 'b' not in v and v.check() == []
        v._check()

    @pytest.mark.parametrize('is_nested', [False, True])
    @pytest.mark.parametrize('handler', [
        handled_in_a_block, lambda v: v.put('handler', 1), lambda v: v.update(handler=1, k=0),
        lambda v: v.list('list').append(1), lambda v: v.setdefault('handler', 1), lambda v: v.pop('k', None), lambda v: [*v.items()]])
    def test_a_signal_handler_as_a_block_is_undone_meets_no_error_and_makes_none(self, v, handler, is_nested):
        v['k'], other = 1, Vault('test')
        for at in itertools.count(1):
            with pytest.raises(ZeroDivisionError), signalled(at, lambda: handler(v), unit='opcode') as left, contextlib.ExitStack() as stack:
                if is_nested:
                    stack.enter_context(v.transaction())
                with v:
                    v['block'] = 1
                    raise ZeroDivisionError
            assert 'block' not in v and not is_in_transaction(v) and v.check() == [], at
            v['k'] = at
            assert other['k'] == at
            if left[0] > 0:
                break
        assert at > 40

    def test_what_a_signal_handler_writes_during_a_checkpoint_stays(self, v, monkeypatch):
        v['k'] = 1
        run_checkpoint(v)
        execute = v._store._checkpointer.connection.execute
        monkeypatch.setattr(v._store._checkpointer.connection, 'execute', lambda sql: (v.put('handled', 2), execute(sql))[1])
        run_checkpoint(v)
        assert Vault('test') == {'k': 1, 'handled': 2}

    def test_the_block_of_a_signal_handler_leaves_the_lock_to_the_call_it_interrupts(self, root, monkeypatch):
        v, crc32 = Vault('t', thread_safe=True), sqlite.crc32

        def signalled(*arguments):
            monkeypatch.undo()
            with v:
                v['handled'] = 1
            return crc32(*arguments)
        monkeypatch.setattr(sqlite, 'crc32', signalled)
        v['k'] = 2
        assert v == {'handled': 1, 'k': 2} and in_thread(lambda: is_free(v._store.lock))

    def test_mmap_is_off(self, v):
        assert raw_of(v).execute('PRAGMA mmap_size').fetchone() in ((0,), None)

    def test_the_log_does_not_grow_without_bound_and_is_gone_after_closing(self, root):
        v = Vault('t')
        for n in range(6000):
            v[n % 50] = 'x' * 2000
        assert os.path.getsize(v.db_path + '-wal') < 3 * checkpointing.CHECKPOINT
        v.update(dict.fromkeys(range(20000), 'x' * 200))
        for n in range(8000):
            del v[n]
        assert os.path.getsize(v.db_path + '-wal') < 4 * checkpointing.CHECKPOINT
        v.close()
        assert os.listdir(root / 'vaults') == ['t.db']

    @pytest.mark.parametrize('in_threads', [False, True])
    def test_the_log_does_not_grow_without_bound_by_writers_that_come_and_go(self, v, monkeypatch, in_threads):
        monkeypatch.setattr(checkpointing, 'LONG', 1 << 20)
        monkeypatch.setattr(connection, 'KEEP_LOG', 'PRAGMA journal_size_limit = 1000000')

        def write(into, number):
            for n in range(30):
                into[n] = f'{number}' * 1000
        for number in range(40):  # each writes some 200 KB
            if in_threads:
                thread = threading.Thread(target=write, args=(v, number))
                thread.start()
                thread.join()
            else:
                with contextlib.closing(Vault('test')) as passing:
                    write(passing, number)
        assert os.path.getsize(v.db_path + '-wal') < 2 << 20

    def test_a_vault_whose_threads_queue_is_compacted_and_lets_the_next_writer_in(self, root):
        v = Vault('queued', thread_safe=True)
        v['k'] = 1
        v.compact()
        thread = threading.Thread(target=v.put, args=('k', 2), daemon=True)
        thread.start()
        thread.join(10)
        assert v['k'] == 2

    def test_a_long_log_is_moved_when_those_who_were_reading_are_done(self, v, monkeypatch):
        v['k'] = 1
        reader = another(v.db_path)
        reader.execute('BEGIN')
        reader.execute('SELECT * FROM entries').fetchall()
        v['k'] = 2
        waited = []

        def sleep(seconds):
            waited.append(seconds)
            if len(waited) == 3:
                reader.close()
        monkeypatch.setattr(checkpointing, 'LONG', 0)
        monkeypatch.setattr(checkpointing, 'sleep', sleep)
        run_checkpoint(v)
        assert len(waited) == 3
        v['k'] = 3
        run_checkpoint(v)
        assert len(waited) == 3

    def test_checkpoints_hold_the_write_lock(self, v, monkeypatch):
        v['k'] = 1
        store = v._store
        run_checkpoint(store)
        states = []

        class Watched:
            def execute(self, sql):
                states.append((sql, is_in_transaction(store)))
                other = another(v.db_path)
                with pytest.raises(driver.Error, match='locked'):
                    other.execute('BEGIN IMMEDIATE')
                other.close()
                return self

            def fetchall(self):
                return [(0, 0, 0)]
        store._checkpointer.connection = Watched()
        run_checkpoint(store)
        assert states == [('PRAGMA wal_checkpoint(PASSIVE)', True)]
        assert raw_of(v).execute('PRAGMA wal_autocheckpoint').fetchone() == (0,)

    @pytest.mark.parametrize('flag', ['c', 'w', 'n'])
    def test_a_vault_whose_creation_was_cut_short_is_created_anew(self, root, flag):
        path = root / 'cut.db'
        Vault(path).close()
        with contextlib.closing(sqlite3.connect(str(path))) as raw:
            raw.execute('PRAGMA journal_mode = DELETE')
        journal = bytes.fromhex('d9d505f920a163d7') + struct.pack('>5I', 0, 1, 0, 512, 4096)  # before it: no page at all
        (root / 'cut.db-journal').write_bytes(journal.ljust(512, b'\0'))
        with contextlib.closing(Vault(path, flag=flag)) as vault:
            vault['k'] = 1
            vault._check()
        path.unlink()
        with contextlib.closing(sqlite3.connect(str(path))) as raw:
            raw.execute('CREATE TABLE others (a)')
        theirs = path.read_bytes()
        (root / 'cut.db-journal').write_bytes(journal.ljust(512, b'\0'))
        with pytest.raises(vaults.VaultFormatError):
            Vault(path)
        assert path.read_bytes() == theirs

    def test_an_fsync_that_failed_is_not_retried(self, v, caplog):
        v['k'] = 1
        store = v._store
        run_checkpoint(store)

        class Failing:
            def execute(self, sql):
                raise driver.DriverError('disk I/O error')
        store._checkpointer.connection = Failing()
        c = connection_of(store)
        c.due = c.checkpointed = c.written - checkpointing.CHECKPOINT
        v['done'] = 1  # the checkpoint is after it: an error would say that nothing was kept
        for act in (lambda: v['k'], lambda: v.put('k', 2), v.compact, v.sync):
            with pytest.raises(vaults.VaultFullError, match='opened again'):
                act()
        assert Vault('test').items() == [('k', 1), ('done', 1)] and 'opened again' in caplog.text
        v.close()

    @pytest.mark.parametrize('verb', ['sync', 'compact'])
    def test_an_error_after_which_the_vault_must_be_opened_again_says_so(self, v, verb):
        c = connection_of(v)
        v['k'] = 1
        real = c.execute

        def failing(sql, *arguments):
            if sql in ('COMMIT', 'PRAGMA wal_checkpoint(TRUNCATE)'):
                raise driver.DriverError('disk I/O error')
            return real(sql, *arguments)
        c.execute = failing
        with pytest.raises(vaults.VaultFullError, match='opened again'):
            getattr(v, verb)()
        with pytest.raises(vaults.VaultFullError, match='opened again'):
            v['k']
        assert Vault('test').items() == [('k', 1)]
        v.close()

    def test_a_block_of_a_signal_handler_undoes_nothing_while_a_checkpoint_runs(self, v, monkeypatch):
        checkpointer = v._store._checkpointer
        real = checkpointer._checkpoint

        def signalled(*arguments):
            v['put'] = 1
            with v:
                v['block'] = 2
            with contextlib.suppress(ZeroDivisionError), v:
                v['put'] = 1 / 0
            real(*arguments)
        monkeypatch.setattr(checkpointer, '_checkpoint', signalled)
        run_checkpoint(v)
        assert dict(Vault('test')) == {'put': 1, 'block': 2} and not depth_of(v)

    def test_a_checkpoint_that_is_put_off_is_logged(self, v, caplog):
        v['k'] = 1
        other = Vault('test')
        v._store.file.timeout = 0
        raw_of(v).execute('PRAGMA busy_timeout = 0')
        with other:
            run_checkpoint(v)
        assert 'put off' in caplog.text and v['k'] == 1

    @pytest.mark.parametrize('safe', [False, True])
    def test_where_little_stack_is_left_no_transaction_or_lock_stays_open(self, root, safe):
        assert output("""
            import sys, vaults
            vaults.set_root_path(sys.argv[1])
            v, other = vaults.Vault('t', thread_safe=sys.argv[2] == 'True'), vaults.Vault('t', timeout=0)
            def nested():
                with v, v:
                    v['k'] = (2, (3,))
            frame, depth, limit, outcomes = sys._getframe(), 0, sys.getrecursionlimit(), set()
            while frame:
                frame, depth = frame.f_back, depth + 1
            for act in (lambda: v.update(x=[1], new=2, other=3), lambda: v.put_many([('x', (1, {2}))]), nested):
                for more in range(3, 60):
                    try:
                        sys.setrecursionlimit(depth + more)
                        act()
                        outcomes.add('done')
                    except RecursionError:
                        outcomes.add('refused')
                    finally:
                        sys.setrecursionlimit(limit)
                    lock = getattr(v._store, 'lock', None)
                    assert not lock or not lock.is_mine(), more
                    other['after'] = more
                    assert v.pop('after') == more
            print(sorted(outcomes))""", root, safe) == "['done', 'refused']"

    def test_nul_and_like_in_text_keys(self, v):
        v.update({'a': 1, 'a\0': 2, 'a\0b': 3, 'A': 4, 'a%': 5, 'a_': 6})
        assert v.prefix('a\0').values() == [2, 3] and len(v) == 6 and v['a\0b'] == 3 and v.prefix('a%').values() == [5]

    def test_closing_with_a_busy_checkpoint_is_clean(self, root):
        code = '''
            import sys, vaults
            vaults.set_root_path(sys.argv[1])
            v, w = vaults.Vault('t'), vaults.Vault('t')
            v['k'] = 1
            walk = iter(w.items()); next(walk)
            w.__enter__()
            v.close(); v.close()
            w['k'] = 2
            import atexit; atexit.register(w.close)'''
        done = run(code, root)
        assert (done.returncode, done.stderr) == (0, '')
        assert Vault('t')['k'] == 1

    def test_a_dropped_vault_closes_itself_without_a_warning(self, root):
        code = '''
            import gc, os, sys, threading, vaults
            vaults.set_root_path(sys.argv[1])
            def use():
                v = vaults.Vault('t'); v['k'] = 1; list(v.items())
                walk = iter(v); next(walk)
            gc.disable()
            use()
            assert os.listdir(sys.argv[1] + '/vaults') == ['t.db'], os.listdir(sys.argv[1] + '/vaults')
            v = vaults.Vault('t')
            threading.Thread(target=v.get, args=('k',)).start()
            keep = vaults.Vault(':memory:')'''
        done = run(code, root)
        assert (done.returncode, done.stderr) == (0, '')

    def test_where_no_log_can_be_a_rollback_journal_keeps_the_promises(self, root, monkeypatch, caplog):
        monkeypatch.setattr(connection, 'uri_of', lambda path, parameters: f'file:{path}?{parameters}&vfs=unix-dotfile')
        v = Vault('t')
        assert 'rollback journal' in caplog.text
        v['a'] = 1
        with pytest.raises(ZeroDivisionError), v:
            v['b'] = 2
            1 / 0
        with v:
            v['c'] = 3
        assert raw_of(v).execute('PRAGMA synchronous').fetchone() == (3,)
        assert v.items() == [('a', 1), ('c', 3)]
        v._check()
        v.close()
        assert os.listdir(root / 'vaults') == ['t.db']

    @pytest.mark.parametrize('asked', ['NORMAL', 'FULL', 'EXTRA'])
    def test_a_rollback_journal_that_is_gone_stays_gone(self, root, monkeypatch, asked):
        monkeypatch.setattr(connection, 'uri_of', lambda path, parameters: f'file:{path}?{parameters}&vfs=unix-dotfile')
        for _ in ('made', 'opened again'):
            v = Vault('t', synchronous=asked)
            assert raw_of(v).execute('PRAGMA synchronous').fetchone() == (3,)
            v.sync()
            assert raw_of(v).execute('PRAGMA synchronous').fetchone() == (3,)
            v.close()


class TestFileFormat:
    """Persisted: never renumber."""

    def test_the_header_and_the_schema(self, v):
        v['a'] = v[True] = 1
        other = sqlite3.connect(v.db_path)
        assert other.execute('PRAGMA application_id').fetchone() == (0x7661756C,)
        assert other.execute('PRAGMA user_version').fetchone() == (1,)
        assert re.sub(r'\s+', ' ', other.execute('SELECT sql FROM sqlite_master').fetchone()[0]) == (
            'CREATE TABLE entries (id INTEGER PRIMARY KEY, key NOT NULL UNIQUE, value BLOB NOT NULL, '
            'crc INTEGER NOT NULL)')
        assert other.execute('SELECT * FROM entries').fetchall() == [
            (0, b'', b'', 0), (1, 'a', b'\x01', 0xa75873ee), (2, 1, b'\x01', (1 << 32) + 0xa064461b)]
        other.close()

    @pytest.mark.parametrize('stored, start', [('1', b't1'), (b'1', b'b1'), (1, b'i' + b'\0' * 7 + b'\x01'),
                                               (1.0, b'i' + b'\0' * 7 + b'\x01'), (True, b'i' + b'\0' * 7 + b'\x01'),
                                               (0.5, b'f\x3f\xe0' + b'\0' * 6), (2.0**70, b'f\x44\x50' + b'\0' * 6)])
    def test_the_checksum(self, stored, start):
        import zlib
        assert schema.checksum(stored, b'value') == zlib.crc32(start + b'value')

    def test_no_statement_numbers_its_parameters_as_python_3_12_warned_of_that_up_to_3_12_3(self):
        statements = [value for value in vars(schema).values() if isinstance(value, str) and '?' in value]
        assert len(statements) > 20
        assert [statement for statement in statements if re.search(r'\?\d', statement)] == []

    def test_tables_and_triggers_are_made_with_the_very_text_that_is_in_files(self, v):
        assert (schema.CREATE, *schema.CREATE_CHUNKS) == (
            """CREATE TABLE entries
 (id INTEGER PRIMARY KEY, key NOT NULL UNIQUE, value BLOB NOT NULL, crc INTEGER NOT NULL)""",
            """CREATE TABLE IF NOT EXISTS parts
 (owner BLOB NOT NULL, number INTEGER NOT NULL, data BLOB NOT NULL, crc INTEGER NOT NULL, UNIQUE (owner, number))""",
            """CREATE TRIGGER IF NOT EXISTS replaced AFTER UPDATE OF value ON entries
 WHEN old.crc >= 8589934592 AND (new.crc < 8589934592 OR substr(old.value, -12) <> substr(new.value, -12))
 BEGIN DELETE FROM parts WHERE owner = substr(old.value, -12); END""",
            """CREATE TRIGGER IF NOT EXISTS deleted AFTER DELETE ON entries WHEN old.crc >= 8589934592
 BEGIN DELETE FROM parts WHERE owner = substr(old.value, -12); END""")
        v.list('log').extend(range(1000))
        made = [statement.replace(' IF NOT EXISTS', '') for statement in (schema.CREATE, *schema.CREATE_CHUNKS)]
        assert [sql for sql, in raw_of(v).execute('SELECT sql FROM sqlite_master WHERE sql IS NOT NULL')] == made

    def test_what_is_persisted_and_said_in_statements_has_the_numbers_it_always_had(self):
        assert schema.CREATE_MARKER == "INSERT INTO entries VALUES (0, x'', x'', 0)"
        assert schema.PUT == """INSERT INTO entries(key, value, crc) VALUES (?, ?, ?) ON CONFLICT(key) DO UPDATE
 SET value = excluded.value, crc = (crc & 4294967296) | (excluded.crc & 12884901887)"""
        assert (schema.CACHE_SIZE, schema.KEEP_LOG) == ('PRAGMA cache_size = -16384', 'PRAGMA journal_size_limit = 16777216')

    @pytest.mark.parametrize('number', [0, 1, (1 << 32) + 5, (1 << 63) - 1])
    def test_the_checksum_of_a_part(self, number):
        import zlib
        start = zlib.crc32(b'twelve bytes') ^ (number & 0xFFFFFFFF) ^ (number >> 32)
        assert schema.chunk_crc(b'twelve bytes', number, b'data') == zlib.crc32(b'data', start)

    def test_the_marker_after_deleting_and_moving(self, v):
        raw = sqlite3.connect(v.db_path)
        v.update(a=1, b=2, c=3)
        steps = [(lambda: v.pop('b'), (0, b'', 1), [1, 3]), (lambda: v.pop('c'), (3, b'', 2), [1]),
                 (lambda: v.setdefault('d', 4), (3, b'', 2), [1, 4]), (lambda: v.move_to_end('a'), (3, b'', 3), [4, 5]),
                 (lambda: v.move_to_end('a', last=False), (6, b'-1', 4), [-1, 4]),
                 (lambda: v.move_to_end('d', last=False), (7, b'-2', 5), [-2, -1]), (v.clear, (7, b'-2', 7), [])]
        for act, marker, ids in steps:
            act()
            assert raw.execute("SELECT id, value, crc FROM entries WHERE key = x''").fetchall() == [marker]
            assert [row for row, in raw.execute("SELECT id FROM entries WHERE key <> x'' ORDER BY id")] == ids
            assert len(v) == len(ids) and v.check() == []
        raw.close()

    def test_the_count_needs_no_scan(self, v):
        v.update(dict.fromkeys(range(1000)))
        del v[3:9]
        v.popitem()
        seen = []
        raw_of(v).set_progress_handler(lambda: bool(seen.append(1)), 50)
        assert len(v) == 993
        raw_of(v).set_progress_handler(None, 0)
        assert len(seen) < 5


FILES = HERE / 'trials' / 'files'


@pytest.mark.parametrize('release', sorted(path.stem for path in FILES.glob('*.db')))
class TestFilesOfReleases:
    """A file that a release has written opens in every later one. The files are never changed: a release adds its own."""

    @pytest.fixture
    def table(self, release, forget):
        spec = importlib.util.spec_from_file_location('table', FILES / f'{release}.py')
        table = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(table)
        table.register(vaults)
        return table

    @pytest.fixture
    def path(self, root, release):
        return pathlib.Path(shutil.copy(FILES / f'{release}.db', root / 'copy.db'))

    def test_it_reads_what_was_written_and_leaves_the_file_as_it_was(self, table, path, root):
        with contextlib.closing(Vault(path, flag='r', allow_pickle=table.PICKLED)) as v:
            assert table.differences(v) == []
            assert len(v) == len(table.EXPECTED) and v.section('users').section('ann') == {'mail': ['ann@example.org']}
        assert list(root.glob('copy*')) == [path]
        assert hashlib.sha256(path.read_bytes()).hexdigest() == table.SHA256

    def test_it_can_be_written_to(self, table, path):
        with contextlib.closing(Vault(path, to_create=False, allow_pickle=table.PICKLED)) as v:
            size, number = len(v.list('live list')), len(v.column('numbers', 'float64'))
            with v:
                v['newest'] = v.pop('replaced')
                del v['string':'surrogate']
                v.list('live list').append('more')
                v.column('numbers', 'float64').append(0.25)
            with v.open('stream', 'ab') as file:
                file.write(b'more')
            v.compact()
        with contextlib.closing(Vault(path, to_create=False, allow_pickle=table.PICKLED)) as v:
            assert list(v)[-1] == 'newest' and 'string' not in v and v['stream'] == table.STREAM + b'more'
            assert v['live list'][size:] == ['more'] and v['numbers'][number:].tolist() == [0.25]
            keys, *others = table.differences(v)
            assert keys.startswith('the keys are ')
            assert {line.split("'")[1] for line in others} == {'replaced', 'string', 'stream', 'live list', 'numbers'}

    def test_it_cannot_be_taken_for_another_one(self, table, path):
        """What the table does not hold is seen: the other tests can fail."""
        with contextlib.closing(Vault(path, allow_pickle=table.PICKLED)) as v:
            v['yes'] = 1
            v['more'] = 2
            assert len(table.differences(v)) == 2


def test_every_release_has_left_its_file():
    assert (FILES / f'{vaults.__version__}.db').exists()


class TestHostileFiles:
    """Files that somebody made to do harm, in the form of a vault."""

    @pytest.mark.parametrize('attack', [
        'DROP TABLE entries; CREATE VIEW entries AS WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) '
        "SELECT x AS id, 'k' || x AS key, x'01' AS value, 0 AS crc FROM c",
        'CREATE TRIGGER bomb AFTER INSERT ON entries BEGIN DELETE FROM entries; END',
        'CREATE TABLE other (x); CREATE TRIGGER bomb AFTER INSERT ON other BEGIN DELETE FROM Entries; END',
        'DROP TABLE entries; CREATE TABLE entries (id INTEGER PRIMARY KEY, key NOT NULL UNIQUE, value, crc)',
        'CREATE INDEX bomb ON entries(length(key))', 'DROP TABLE entries', 'CREATE VIEW parts AS SELECT 1'])
    def test_a_file_whose_tables_are_programs_is_refused(self, root, attack):
        Vault('v').close()
        path = root / 'vaults' / 'v.db'
        with contextlib.closing(sqlite3.connect(str(path))) as raw:
            raw.executescript(attack)
        for flag in 'rwc':
            with pytest.raises((vaults.VaultFormatError, vaults.VaultCorruptError)):
                Vault('v', flag=flag)
        with pytest.raises((vaults.VaultFormatError, vaults.VaultCorruptError)):
            list(moving.read(path))

    def test_tables_of_others_in_the_file_are_left_alone(self, root):
        with contextlib.closing(Vault('v')) as v:
            v['k'] = 1
            v.list('list').append(1)
        with contextlib.closing(sqlite3.connect(str(root / 'vaults' / 'v.db'))) as raw:
            raw.executescript("ANALYZE; CREATE TABLE notes (x CHECK (length(printf('%.*c', 400000000, 'x')) > 0));"
                              'PRAGMA ignore_check_constraints = ON; INSERT INTO notes VALUES (1)')
        with contextlib.closing(Vault('v')) as v:
            assert v.check() == [] and v['k'] == 1 and v['list'] == [1]

    @pytest.mark.parametrize('attack', [
        "UPDATE entries SET crc = -9223372036854775807 WHERE key = x''", "DELETE FROM entries WHERE key = x''",
        "UPDATE entries SET crc = -1e300 WHERE key = x''",
        'UPDATE entries SET id = 9223372036854775807 WHERE id = 2', 'DELETE FROM entries'])
    def test_numbers_that_lie_are_damage(self, root, attack):
        with contextlib.closing(Vault('v')) as v:
            v.update(a=1, b=2)
        with contextlib.closing(sqlite3.connect(str(root / 'vaults' / 'v.db'))) as raw:
            raw.executescript(attack)
        with contextlib.closing(Vault('v')) as v:
            assert v.check()
            for use in (lambda: list(v), lambda: list(reversed(v)), lambda: v.pop('b'), lambda: v.pop('a'), v.clear):
                with contextlib.suppress(vaults.VaultError, KeyError):
                    use()


    @pytest.mark.parametrize('lie', ["'-5'", "'9999999999999999999999'", "'-9223372036854775808'", "x'ff00'", "'text'", "'5'", '7', '-1.5'])
    def test_a_lowest_id_that_lies_does_no_harm(self, root, lie):
        with contextlib.closing(Vault('v')) as v:
            v.update(a=1, b=2, c=3)
            v.move_to_end('b', last=False)
        with contextlib.closing(sqlite3.connect(str(root / 'vaults' / 'v.db'))) as raw:
            raw.execute(f"UPDATE entries SET value = {lie} WHERE key = x''")
            raw.commit()
        with contextlib.closing(Vault('v')) as v:
            assert v.keys() == ['b', 'a', 'c']
            try:
                v.move_to_end('c', last=False)
                assert v.keys() == ['c', 'b', 'a']
            except vaults.VaultError:
                assert v.keys() == ['b', 'a', 'c']
            v['d'] = 4
            assert len(v) == 4 and v.check() == []
            v.clear()
            assert v == {} and v.check() == []
