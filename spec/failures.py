"""What an error of SQLite's means: by its code where Python tells it, and by its words."""
from __future__ import annotations

import sqlite3

import pytest

import vaults
from vaults import Vault
from vaults.stores.sqlite import driver, failures

from .internals import connection_of

OPEN = []


def opened(path, parameters=''):
    OPEN.append(driver.current().connect(f'file:{path}?{parameters}', 0))
    return OPEN[-1]


@pytest.fixture
def closing():
    """Close what was opened, at the end."""
    yield
    while OPEN:
        OPEN.pop().close()


def busy(path):
    opened(path).execute('BEGIN IMMEDIATE')


def in_progress(path):
    raw = opened(path)
    raw.execute('BEGIN')
    pending = raw.execute('INSERT INTO t VALUES (4), (5) RETURNING a')
    pending.fetchone()
    raw.execute('COMMIT')


def locked(path):
    raw = opened(path)
    pending = raw.execute('SELECT * FROM t')
    pending.fetchone()
    raw.execute('DROP TABLE t')


def full(path):
    raw = opened(path)
    raw.execute('PRAGMA max_page_count = 1')
    raw.execute('INSERT INTO t SELECT zeroblob(100000)')


def corrupt(path):
    with open(path, 'r+b') as file:
        file.seek(4096)
        file.write(b'\xff' * 4096)
    opened(path).execute('SELECT * FROM t').fetchall()


def no_database(path):
    path.write_bytes(b'something else' * 1000)
    opened(path).execute('SELECT * FROM t')


def closed(path):
    raw = opened(path)
    raw.close()
    raw.execute('SELECT * FROM t')


APSW = driver.current().NAME == 'apsw'  # which says some things in other words
PROVOKED = {
    'BUSY': busy, 'IN_PROGRESS': in_progress, 'LOCKED': locked, 'FULL': full, 'CORRUPT': corrupt, 'NO_DATABASE': no_database,
    'LET_GO' if APSW else 'CLOSED': closed, 'READ_ONLY': lambda path: opened(path, 'mode=ro').execute('INSERT INTO t VALUES (4)'),
    'NOT_OPENED': lambda path: opened(path.parent).execute('SELECT 1'),
    'TOO_BIG': lambda path: opened(path).execute('SELECT zeroblob(3000000000)').fetchall(),
    'NO_SAVEPOINT': lambda path: opened(path).execute('RELEASE level1'),
    'NO_CHUNKS': lambda path: opened(path).execute('SELECT * FROM parts'),
    'MESSAGE_UNDECODED' if APSW else 'KEY_UNDECODED':
        lambda path: opened(path).execute("SELECT CAST(x'ff' AS TEXT)").fetchall(),
}
OTHERS = {'CLOSED': driver.DriverError('Cannot operate on a closed database.'),
          'KEY_UNDECODED': driver.DriverError('could not decode to UTF-8')} if APSW else {
          'LET_GO': driver.DriverError('The connection has been closed'),
          'MESSAGE_UNDECODED': UnicodeDecodeError('utf-8', b'\xff', 0, 1, 'invalid start byte')}
SAID = {
    'UNANSWERED': (ValueError('not enough values to unpack (expected 1, got 0)'), None),
    'IN_USE': (driver.DriverError('Recursive use of cursors not allowed.'), None),
    'RE_ENTERED': (driver.DriverError('You are trying to use the same object concurrently in two threads or re-entrantly within '
                                      'the same thread which is not allowed.'), None),
    **{name: (error, None) for name, error in OTHERS.items()},  # as a disk or a value of 2 GB would; SQLite's extended code, where there is one
    'FAILED_SYNC': (sqlite3.OperationalError('disk I/O error'), 1034),
    'FAILED_DISK': (sqlite3.OperationalError('disk I/O error'), 266),
    'BEYOND_INT': (OverflowError('BLOB longer than INT_MAX bytes'), None),
}
__all__ = ['TestFailures', 'closing']
TELLS = APSW or hasattr(sqlite3, 'SQLITE_BUSY')  # from Python 3.11 on


class TestFailures:
    def test_each_failure_of_the_table_is_met_here(self):
        assert {id(getattr(failures, name)) for name in (*PROVOKED, *SAID)} == set(map(id, failures.FAILURES))

    @pytest.mark.parametrize('name', PROVOKED)
    def test_the_code_and_the_words_say_the_same(self, tmp_path, closing, name):
        path, expected = tmp_path / 't.db', getattr(failures, name)
        raw = opened(path, 'mode=rwc')
        raw.execute('CREATE TABLE t (a)')
        raw.execute('INSERT INTO t VALUES (1), (2), (3)')
        if name == 'BUSY':
            raw.execute('BEGIN IMMEDIATE')
        with pytest.raises(driver.error_or(UnicodeError)) as caught:
            PROVOKED[name](path)
        error = caught.value
        assert failures.failure(error) is expected
        assert driver.code(error) is None or driver.code(error) & 0xFF == expected.code
        assert (driver.code(error) is not None) is (TELLS and expected.code is not None)
        untold = type(error)(*error.args)  # as before Python 3.11
        assert driver.code(untold) is None and failures.failure(untold) is expected
        if expected.code is not None:
            untold.sqlite_errorcode = expected.code | 9 << 8  # an extended code that is yet to come
            assert failures.failure(untold) is expected

    @pytest.mark.parametrize('name', SAID)
    def test_a_failure_that_takes_a_broken_disk_or_much_memory(self, name):
        error, code = SAID[name]
        assert failures.failure(error) is getattr(failures, name.replace('DISK', 'SYNC'))  # untold: it may be the worst
        if code is not None:
            error.sqlite_errorcode = code
            assert failures.failure(error) is getattr(failures, name)
            del error.sqlite_errorcode
        assert failures.is_failed_sync(error) is name.startswith('FAILED')
        assert failures.is_too_big(error) is (name == 'BEYOND_INT')

    def test_where_the_code_is_told_the_words_do_not_mislead(self):
        error = sqlite3.DatabaseError('malformed database schema (database is locked)')
        error.sqlite_errorcode = 11
        assert failures.failure(error) is failures.CORRUPT and not failures.is_locked(error)
        quoting = sqlite3.OperationalError("Could not decode to UTF-8 column 'key' with text 'database is locked'")
        assert failures.failure(quoting) is failures.KEY_UNDECODED and not failures.is_locked(quoting)

    def test_what_is_not_in_the_table_is_still_an_error_of_ours(self, root):
        v = Vault('t')
        with pytest.raises(vaults.VaultError, match='SQLite failed .*no such function'):
            v._store.transact(lambda: connection_of(v).execute('SELECT missing()'))
        assert v == {} and v.check() == []
