"""Schema: what a vault's file holds, and every line of SQL. Knows neither connections nor what keys and values mean.

The trap: a file outlives the program. What is written here once stands in files for ever, so the persisted numbers are
never given another meaning, and the text of the tables and triggers never changes: SQLite keeps it in the file, and a
vault is known by it. docs/format.md describes the file for readers in other languages.
"""
from __future__ import annotations

import struct
from itertools import repeat
from zlib import crc32

from ...keys import SIGN
from ..base import OWNER
from ..blocks import MAX_NESTED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, Iterable, Iterator, List, Sequence, Tuple

    from ...keys import Stored

# Persisted: never renumber, never reuse. Pinned by tests.py::TestFileFormat.
APPLICATION_ID = 0x7661756C  # 'vaul'
FORMAT = 1                   # user_version
BOOL = 1 << 32               # added to the checksum of an entry whose key is a bool: SQLite has no such type
HAS_CHUNKS = 1 << 33          # added to that of an entry whose last bytes, OWNER of them, are the owner of chunks
CRC = (1 << 32) - 1          # what is left of the column without the two
# What the CRC of a key starts with, by kind: equal keys have one checksum, and '1' is not b'1' nor 1.
OF_TEXT, OF_BYTES, OF_INT, OF_FLOAT = map(crc32, (b't', b'b', b'i', b'f'))

# The marker is the entry with the empty BLOB for a key, which no encoded key is. Its id is the highest that was ever
# deleted, so that SQLite, which gives a new entry the highest id plus one, never gives an id twice: a walk can tell
# what was added since it began. Its crc counts the ids given and no longer used, itself among them: the number of
# entries is the highest id less that count. Only deleting and moving write it: a counter that every put keeps would
# cost a page per commit. An entry that is moved to the end gets a new id, as if it had been deleted and put again. One
# that is moved to the front gets one below all that were ever given, which the marker keeps in its value, in digits.
CREATE = """CREATE TABLE entries
 (id INTEGER PRIMARY KEY, key NOT NULL UNIQUE, value BLOB NOT NULL, crc INTEGER NOT NULL)"""
CREATE_MARKER = "INSERT INTO entries VALUES (0, x'', x'', 0)"
MARK = """UPDATE entries SET crc = crc + ?, id = iif(? > (SELECT max(id) FROM entries), ?, id) WHERE key = x''"""
MARK_ONE = "UPDATE entries SET crc = crc + 1 WHERE key = x''"
# For the deleted id of the newest entry. A signal handler may have put a new entry between the two statements, with the
# very same id: then there is nothing to count. (No ?1, which would be bound once: Python 3.12 warns of it, up to
# 3.12.3.) Of another entry it is MARK_ONE: ids never go down, so nobody gets that one again.
MARK_NEWEST = """UPDATE entries SET crc = crc + NOT EXISTS (SELECT 1 FROM entries WHERE id = ?),
 id = iif(? > (SELECT max(id) FROM entries), ?, id) WHERE key = x''"""
UNMARK_ONE = "UPDATE entries SET crc = crc - 1 WHERE key = x''"
MARK_ALL = "INSERT INTO entries VALUES (?, x'', ?, ?)"
MARKED = "SELECT value FROM entries WHERE key = x''"
MOVE_LAST = 'UPDATE entries SET id = (SELECT max(id) + 1 FROM entries) WHERE key = ?'  # then MARK_ONE
# To the front in two statements, the marker first. It takes the next id itself, lest the highest goes down where that
# was the moved entry's. Neither statement changes the count, so that whoever comes between the two finds it right.
MARK_FIRST = """UPDATE entries SET crc = crc + 1, id = (SELECT max(id) + 1 FROM entries),
 value = CAST(min(CAST(value AS INTEGER), (SELECT min(id) FROM entries), 0) - 1 AS BLOB) WHERE key = x''"""
MOVE_FIRST = "UPDATE entries SET id = (SELECT CAST(value AS INTEGER) FROM entries WHERE key = x'') WHERE key = ?"
RECOUNT = """UPDATE entries SET crc = (SELECT max(id) - count(*) + 1 FROM entries) WHERE key = x''"""

# Made with the first chunk, because the triggers, which free the chunks of an entry that goes, take a fifth of the time
# of an `update`. They are in the file, so that whoever writes an entry obeys them.
CREATE_CHUNKS = (
    """CREATE TABLE IF NOT EXISTS parts
 (owner BLOB NOT NULL, number INTEGER NOT NULL, data BLOB NOT NULL, crc INTEGER NOT NULL, UNIQUE (owner, number))""",
    f"""CREATE TRIGGER IF NOT EXISTS replaced AFTER UPDATE OF value ON entries
 WHEN old.crc >= {HAS_CHUNKS} AND (new.crc < {HAS_CHUNKS} OR substr(old.value, -{OWNER}) <> substr(new.value, -{OWNER}))
 BEGIN DELETE FROM parts WHERE owner = substr(old.value, -{OWNER}); END""",
    f"""CREATE TRIGGER IF NOT EXISTS deleted AFTER DELETE ON entries WHEN old.crc >= {HAS_CHUNKS}
 BEGIN DELETE FROM parts WHERE owner = substr(old.value, -{OWNER}); END""",
)
# What else is in the file may only have nothing to do with these: a view or a trigger of that name is a program, and a
# statement that looks for a key could run it for ever.
SCHEMA = "SELECT sql FROM sqlite_master WHERE sql LIKE '%entries%' OR sql LIKE '%parts%'"
ALL_OBJECTS = 'SELECT sql FROM sqlite_master WHERE sql IS NOT NULL'
GET_CHUNK = 'SELECT data, crc FROM parts WHERE owner = ? AND number = ?'
# Of many: those with numbers one after another, as nearly all are that one call has put, or any so many.
GET_CHUNKS = 'SELECT number, data, crc FROM parts WHERE owner = ? AND number BETWEEN ? AND ? ORDER BY number'
CHUNKS_AT_ONCE = 16
GET_SOME_CHUNKS = f"""SELECT number, data, crc FROM parts
 WHERE owner = ? AND number IN ({', '.join('?' * CHUNKS_AT_ONCE)})"""
GET_BOTH = """SELECT e.value, e.crc, p.data, p.crc FROM entries e LEFT JOIN parts p ON p.owner = ? AND p.number = ?
 WHERE e.key = ?"""
DELETE_CHUNK = 'DELETE FROM parts WHERE owner = ? AND number = ?'
DELETE_CHUNKS = 'DELETE FROM parts WHERE owner = ?'
DELETE_CHUNKS_FROM = 'DELETE FROM parts WHERE owner = ? AND number >= ?'
CHUNK_NUMBERS = 'SELECT number FROM parts WHERE owner = ? ORDER BY number'
CHUNK_OWNERS = 'SELECT DISTINCT owner FROM parts ORDER BY owner'

# These two have one row, found or not: none at all means that a signal handler, or a finalizer, has used the cursor
# between the two calls that it takes to get the row.
_OR_NONE = 'FROM entries WHERE key = ? UNION ALL SELECT NULL, NULL LIMIT 1'  # which takes less than a LEFT JOIN
GET = f'SELECT value, crc {_OR_NONE}'
# The same for a vault with large values, of which it has the id: they are read by blob I/O, see Statements.large.
# The checksum lies behind all pages of such a value. To look at the length takes 0.15 us, so GET stays for vaults whose
# entries are all small, as far as can be told.
READ_AS_BLOB = 1 << 22  # bytes of a value
_IS_SMALL = f'CASE WHEN length(value) < {READ_AS_BLOB} THEN'
GET_SMALL = f'SELECT {_IS_SMALL} value ELSE id END, {_IS_SMALL} crc END {_OR_NONE}'
GET_LARGE = 'SELECT length(value), crc FROM entries WHERE id = ? AND key = ?'
CONTAINS = 'SELECT EXISTS (SELECT 1 FROM entries WHERE key = ?)'
SIZE = 'SELECT (SELECT length(value) FROM entries WHERE key = ?)'  # which SQLite knows without reading the value
ALIVE = 'SELECT 1 FROM entries WHERE id = ? AND key = ?'
# The key stays as it was first put, and so does BOOL, which is of the key. The rest of the new crc is taken.
PUT = f"""INSERT INTO entries(key, value, crc) VALUES (?, ?, ?) ON CONFLICT(key) DO UPDATE
 SET value = excluded.value, crc = (crc & {BOOL}) | (excluded.crc & {HAS_CHUNKS | CRC})"""
# Only where the value is still the one that is known. What is left of crc is as above.
REPLACE = f'UPDATE entries SET value = ?, crc = (crc & {BOOL}) | ? WHERE key = ? AND value = ?'

# Of a statement with several rows SQLite keeps what each page was that it changes, above 64 KB in a temporary file.
# Rows that are not in the order of their keys change a page of the table and one of the index each: then 64 take 1.6
# times the time of 8 times 8.
SCATTERED_ROWS = 8


def _of_many(sql: str, row: str) -> Dict[int, str]:
    """Return a statement by how many rows are in it. Each is compiled once, and of more than 64 a row takes as long."""
    return {count: sql.replace(row, ', '.join([row] * count)) for count in (64, SCATTERED_ROWS, 1)}


def _of_keys(columns: str) -> Dict[int, str]:
    """Return a statement by how many keys it looks for: a row for each that is there, with its number among them.

    A NULL is no key. The CROSS JOIN has SQLite look for each key; it does not plan that otherwise.
    """
    return {count: f"""WITH asked(number, wanted) AS (VALUES {', '.join(f'({n}, ?)' for n in range(count))})
 SELECT {columns} FROM asked CROSS JOIN entries ON key = wanted""" for count in (8, 64)}


SMALL_ENTRY = 1 << 12  # bytes of the file for each entry, on the average of a vault without large values
LARGE_AMONG_MANY = 1 << 16     # bytes of a value that is not got together with others
GET_KEYS = _of_keys(f'number, CASE WHEN length(value) <= {LARGE_AMONG_MANY} THEN value END, crc')
FIND_KEYS = _of_keys('number')
PUT_ROWS = _of_many(PUT, '(?, ?, ?)')
PUT_SCATTERED = {count: sql for count, sql in PUT_ROWS.items() if count <= SCATTERED_ROWS}
PUT_CHUNKS = _of_many('INSERT INTO parts VALUES (?, ?, ?, ?)', '(?, ?, ?, ?)')
# The first one deletes an entry that is neither the newest nor has chunks, as its number of rows tells. The second one
# deletes any, and says what it was: RETURNING takes a tenth of the time of a `del`.
DELETE_QUICKLY = f"""DELETE FROM entries WHERE key = ? AND id < (SELECT max(id) FROM entries) AND crc < {HAS_CHUNKS}"""
DELETE = 'DELETE FROM entries WHERE key = ? RETURNING id, crc'
DELETE_RANGE = "DELETE FROM entries WHERE key >= ? AND key < ? AND key <> x''"
DELETE_ALL = 'DELETE FROM entries'  # alone and without a WHERE, SQLite drops whole pages
DATA_VERSION = 'PRAGMA data_version'  # changes when another connection commits
NEWEST = 'SELECT max(id) FROM entries'
OLDEST = 'SELECT min(id) FROM entries'
COUNT = "SELECT (SELECT max(id) FROM entries) - (SELECT crc FROM entries WHERE key = x'')"
COUNT_RANGE = "SELECT count(*) FROM entries WHERE key >= ? AND key < ? AND key <> x''"
COUNT_SOME = "SELECT count(*) FROM (SELECT 1 FROM entries WHERE key >= ? AND key < ? AND key <> x'' LIMIT ?)"
COUNT_ALL = 'SELECT count(*) - 1 FROM entries'
HAS_LARGE = f"""SELECT page_count * page_size > {READ_AS_BLOB} + {SMALL_ENTRY} * ({COUNT})
 FROM pragma_page_count, pragma_page_size"""
COUNT_BOTH = f'SELECT ({COUNT}), ({COUNT_ALL})'  # in one statement, because others may write

# The pages of walks: of keys that are text, of any, and of entries. The second CASE of _KEYS, an eighth of the time,
# looks into the table for 0 and 1 alone, as AND does not: seven times faster by key where that is not the order of
# insertion. `+id` keeps SQLite from walking the table by id and sorting what it finds. What is too large for its page
# is NULL: see scan.Pace.
_KEYS = f"""SELECT id, CASE WHEN length(key) <= ? THEN key END, CASE WHEN key <= 1 AND key >= 0 THEN crc & {BOOL} END
 FROM entries """
_TEXTS = 'SELECT id, CASE WHEN length(key) <= ? THEN key END FROM entries '
_ENTRIES = """SELECT id, CASE WHEN length(key) <= ? THEN key END, CASE WHEN length(value) <= ? THEN value END, crc
 FROM entries """


def _both(clauses: str) -> Dict[str, str]:
    return {'texts': _TEXTS + clauses, 'keys': _KEYS + clauses, 'entries': _ENTRIES + clauses}


BY_ID = _both("WHERE id > ? AND id <= ? AND key <> x'' ORDER BY id LIMIT ?")
BY_ID_BACK = _both("WHERE id < ? AND id >= ? AND key <> x'' ORDER BY id DESC LIMIT ?")
# Of a span of ids, where each is there and fits: else rows are missing. Who asks for text sees that the marker's key
# is none, which SQLite takes longer to leave out.
_OF_SPAN = 'FROM entries WHERE id BETWEEN ? AND ? AND length(key) <= ?'
_SPAN = {'texts': f'SELECT key {_OF_SPAN} ORDER BY id',
         'entries': f"SELECT key, value, crc {_OF_SPAN} AND length(value) <= ? AND key <> x'' ORDER BY id"}
OF_SPAN = _SPAN, {what: f'{sql} DESC' for what, sql in _SPAN.items()}  # by insertion, and back
BY_KEY = _both("WHERE key >= ? AND key < ? AND +id <= ? AND key <> x'' ORDER BY key LIMIT ?")
BY_KEY_ON = _both("WHERE key > ? AND key < ? AND +id <= ? AND key <> x'' ORDER BY key LIMIT ?")  # behind the last one
BY_KEY_BACK = _both("WHERE key >= ? AND key < ? AND +id <= ? AND key <> x'' ORDER BY key DESC LIMIT ?")
# Of a range by insertion: `+` says by which index not to look. See scan.WithinById.
_BETWEEN = "WHERE id BETWEEN ? AND ? AND +key >= ? AND +key < ? AND key <> x''"
BETWEEN = _both(f'{_BETWEEN} ORDER BY id')
IDS_BETWEEN = f'SELECT id FROM entries {_BETWEEN} ORDER BY id'
_OF_RANGE = "SELECT id FROM entries WHERE key >= ? AND key < ? AND +id BETWEEN ? AND ? AND key <> x''"
IDS = f'{_OF_RANGE} ORDER BY +id'
SOME_IDS = f'{_OF_RANGE} LIMIT ?'
ENDS_WITHIN = f'SELECT min(id), max(id) FROM ({_OF_RANGE})'
ABOUT_SOME = 'SELECT count(*) FROM (SELECT 1 FROM entries WHERE key >= ? AND key < ? LIMIT ?)'  # and the marker
ENDS = """SELECT (SELECT id FROM entries WHERE key <> x'' ORDER BY id LIMIT 1),
 (SELECT id FROM entries WHERE key <> x'' ORDER BY id DESC LIMIT 1)"""

BEGIN = 'BEGIN IMMEDIATE'  # a deferred one that reads and then writes fails at once when another wrote, timeout or not
COMMIT = 'COMMIT'
ROLLBACK = 'ROLLBACK'
READ = 'BEGIN'             # of a vault that is only read: one state of it for the whole block
# A savepoint for each depth: undoing one undoes what is inside it, even if an interrupt left it open. There is a name
# for one more than there can be, because it may be asked for.
WRITING = 'BEGIN IMMEDIATE', 'SAVEPOINT', 'INSERT'  # what each write begins with, see Nesting.renew
SAVE, RELEASE, UNDO = ([f'{verb} level{depth}' for depth in range(MAX_NESTED + 2)]
                       for verb in ('SAVEPOINT', 'RELEASE', 'ROLLBACK TO'))

# 4096 bytes: with 60-byte values an own commit takes the same at 1024 to 16384 (6.0 us), iterating is 1.4 times
# faster than at 1024 or 2048, and 16 KiB values read 1.7 times faster; larger pages gain nothing more on either.
PAGE_SIZE = 'PRAGMA page_size = 4096'
PAGE_COUNT, SIZE_OF_PAGE = 'PRAGMA page_count', 'PRAGMA page_size'
NO_WRITING = 'PRAGMA query_only = ON'
CACHE = 16 << 20  # bytes; a transaction below it stays in memory until it commits
CACHE_SIZE = f'PRAGMA cache_size = -{CACHE >> 10}'  # in KiB, as the sign says
MOST_HELD = 1 << 26  # bytes of a large value, whose pages are all kept until it is read
HOLD_PAGES = f'PRAGMA cache_size = -{CACHE + MOST_HELD >> 10}'
# Some builds of SQLite overwrite what is deleted with zeros: replacing 256 MB held the write lock for 2.2 s, without it
# does so for 0.2 s. Whoever must not leave deleted data in a file compacts it.
NO_SECURE_DELETE = 'PRAGMA secure_delete = OFF'
NO_AUTO_CHECKPOINT = 'PRAGMA wal_autocheckpoint = 0'  # checkpoint.py says why
NO_BUSY_HANDLER = 'PRAGMA busy_timeout = 0'            # retry.py says why
LOG_KEPT = 16 << 20  # bytes that the log keeps when it begins anew
KEEP_LOG, CUT_LOG = f'PRAGMA journal_size_limit = {LOG_KEPT}', 'PRAGMA journal_size_limit = 0'
MOVE_LOG = 'PRAGMA wal_checkpoint(PASSIVE)'


# Where many entries of text go by, `get`, `put` and a page of a walk have the first case of these in line: a call would
# take a tenth of their time.

def checksum(key: Stored, data: bytes) -> int:
    """Return the CRC-32 of the key's canonical form and the value. Equal keys have one form: 1, 1.0 and True."""
    if isinstance(key, str):
        return crc32(data, crc32(key.encode(), OF_TEXT))
    if isinstance(key, bytes):
        return crc32(data, crc32(key, OF_BYTES))
    if key == key // 1 and -SIGN <= key < SIGN:
        return crc32(data, crc32(int(key).to_bytes(8, 'big', signed=True), OF_INT))
    return crc32(data, crc32(struct.pack('>d', key), OF_FLOAT))


def entry_crc(key: Stored, data: bytes) -> int:
    """Return what the column crc of an entry holds; of one with chunks, HAS_CHUNKS is added."""
    return checksum(key, data) | (BOOL if type(key) is bool else 0)


# The canonical forms of the keys of one type, in C, and what the CRC of one begins with.
_FORMS: Dict[type, Tuple[Callable[[Any], bytes], int]] = {
    str: (str.encode, OF_TEXT), bytes: (bytes, OF_BYTES), int: (struct.Struct('>q').pack, OF_INT)}


def entry_crcs(keys: Sequence[Stored], datas: Sequence[bytes]) -> Iterable[int]:
    """Return the entry_crc of each entry, in C where all keys are of one type."""
    kinds = set(map(type, keys))
    form = _FORMS.get(kinds.pop()) if len(kinds) == 1 else None
    if form is None:
        return map(entry_crc, keys, datas)
    return map(crc32, datas, map(crc32, map(form[0], keys), repeat(form[1])))


def chunk_crc(owner: bytes, number: int, data: bytes) -> int:
    """Return the CRC-32 of a chunk: of its owner, its number, folded to 32 bits, and its data."""
    return crc32(data, crc32(owner) ^ (number ^ number >> 32) & CRC)


def chunk_crcs(owner: bytes, numbers: Iterable[int], datas: Iterable[bytes]) -> Iterable[int]:
    """Return the chunk_crc of each chunk, in C."""
    of_owner = crc32(owner)
    return map(crc32, datas, [of_owner ^ (number ^ number >> 32) & CRC for number in numbers])


def in_statements(sqls: Dict[int, str], values: List[Any], columns: int) -> Iterator[Tuple[str, List[List[Any]]]]:
    """Yield the statements that put the values of many rows, one behind the other, and what each is to be run with."""
    start = 0
    for count, sql in sqls.items():
        width = columns * count
        end = len(values) - (len(values) - start) % width
        if end > start:
            yield sql, [values[at:at + width] for at in range(start, end, width)]
            start = end


def normalized(sql: str) -> str:
    """Return an SQL statement as SQLite keeps it, with all blanks alike."""
    return ' '.join(sql.replace(' IF NOT EXISTS', '').split())


KNOWN = frozenset(map(normalized, (CREATE, *CREATE_CHUNKS)))
TABLES = {'entries': normalized(CREATE), 'parts': normalized(CREATE_CHUNKS[0])}
STATISTICS = frozenset(['CREATE TABLE sqlite_stat1(tbl,idx,stat)',  # what ANALYZE makes
                        'CREATE TABLE sqlite_stat4(tbl,idx,neq,nlt,ndlt,sample)'])
