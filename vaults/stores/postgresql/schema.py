"""What lies in the database, and every line of SQL. Knows neither connections nor what keys and values mean.

The tables have no triggers and no foreign keys, and the SQL is what the servers that speak PostgreSQL's protocol have
in common: what takes an entry away takes its chunks along in the same statement.

The trap: a statement sees what was committed before it began, and not what was while it waited for a lock. So what
takes the vault's gate and goes on in one statement may only do what PostgreSQL looks at anew behind a lock: put,
replace or delete one row. All else is done in a transaction whose first statement takes the gate.
"""
from __future__ import annotations

from .forms import CRC_BITS, FORM, PARTED
from .wire import SLOTS, Statement

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, Tuple

# Persisted: never renumber, never reuse. Pinned by tests.py::TestPostgreSQLTables.
TABLES_FORMAT = 1
GATE_CLASS = 0x7661756C     # 'vaul': of all advisory locks the first number; the second is the vault's, or 0
OWNER_SIZE = 12             # base.OWNER
MOST_OF_PAGE = 1 << 20        # of a walk: so many, or one entry

# An `integer` of CockroachDB has 8 bytes, an int4 has 4 everywhere.
# A key is not compressed, as it is compared; a value is packed already: trying took four times the time of a put. Rows
# are replaced in place where their page has room.
MAKE = """
CREATE SCHEMA IF NOT EXISTS vaults;
CREATE SEQUENCE IF NOT EXISTS vaults.positions CACHE 1;
CREATE TABLE IF NOT EXISTS vaults.vaults
 (id int4 GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name bytea NOT NULL UNIQUE, format int4 NOT NULL);
CREATE TABLE IF NOT EXISTS vaults.entries
 (vault int4 NOT NULL, position bigint NOT NULL, crc bigint NOT NULL, key bytea NOT NULL, value bytea NOT NULL,
  PRIMARY KEY (vault, key)) WITH (fillfactor = 90);
CREATE UNIQUE INDEX IF NOT EXISTS entries_in_order ON vaults.entries (vault, position);
CREATE TABLE IF NOT EXISTS vaults.tallies
 (vault int4 NOT NULL, slot int4 NOT NULL, entries bigint NOT NULL, PRIMARY KEY (vault, slot))
 WITH (fillfactor = 20);
CREATE TABLE IF NOT EXISTS vaults.parts
 (vault int4 NOT NULL, owner bytea NOT NULL, number bigint NOT NULL, crc bigint NOT NULL, data bytea NOT NULL,
  PRIMARY KEY (vault, owner, number));
"""
STORAGE = """
ALTER TABLE vaults.entries ALTER COLUMN key SET STORAGE PLAIN, ALTER COLUMN value SET STORAGE EXTERNAL;
ALTER TABLE vaults.parts ALTER COLUMN owner SET STORAGE PLAIN, ALTER COLUMN data SET STORAGE EXTERNAL;
"""
COLUMNS = {
    'vaults': [('id', 'integer'), ('name', 'bytea'), ('format', 'integer')],
    'entries': [('vault', 'integer'), ('position', 'bigint'), ('crc', 'bigint'), ('key', 'bytea'), ('value', 'bytea')],
    'tallies': [('vault', 'integer'), ('slot', 'integer'), ('entries', 'bigint')],
    'parts': [('vault', 'integer'), ('owner', 'bytea'), ('number', 'bigint'), ('crc', 'bigint'), ('data', 'bytea')]}
KNOWN_COLUMNS = Statement("""SELECT c.relname::text, a.attname::text, format_type(a.atttypid, a.atttypmod)
 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid
 WHERE n.nspname = 'vaults' AND c.relname IN ('vaults', 'entries', 'tallies', 'parts') AND a.attnum > 0
 AND NOT a.attisdropped ORDER BY c.relname, a.attnum""", 0)
FIND = Statement('SELECT id, format FROM vaults.vaults WHERE name = $1::bytea', 1)
NAMES = Statement('SELECT name FROM vaults.vaults ORDER BY name', 0)
ADD = Statement(f"""INSERT INTO vaults.vaults (name, format) VALUES ($1::bytea, {TABLES_FORMAT})
 ON CONFLICT (name) DO NOTHING""", 1)
ADD_TALLIES = Statement(f"""INSERT INTO vaults.tallies (vault, slot, entries)
 SELECT $1::int4, n::int4, 0 FROM generate_series(0, {SLOTS - 1}) AS n ON CONFLICT (vault, slot) DO NOTHING""", 1)

# Of an entry that has chunks, their owner.
OWNER_OF = f'CASE WHEN {{0}}.crc & {PARTED} <> 0 THEN substr({{0}}.value, length({{0}}.value) - {OWNER_SIZE - 1}) END'
# The first form of a key stays; the rest of crc is of what is put.
KEPT_FORM = f'(e.crc & {FORM}) | (excluded.crc & {CRC_BITS | PARTED})'
UPSERT = f"""ON CONFLICT (vault, key) DO UPDATE SET value = excluded.value, crc = {KEPT_FORM}"""
UNLESS_PARTED = f'{UPSERT} WHERE e.crc & {PARTED} = 0'
NEXT = "nextval('vaults.positions')"

# Reading: all of these are one statement, and see one state.
GET_VALUE = Statement('SELECT crc, value FROM vaults.entries WHERE vault = $1::int4 AND key = $2::bytea', 2)
HAS_KEY = Statement('SELECT 1 FROM vaults.entries WHERE vault = $1::int4 AND key = $2::bytea', 2)
GLANCE = Statement("""SELECT crc, length(value), CASE WHEN length(value) <= $3::int4 THEN value END
 FROM vaults.entries WHERE vault = $1::int4 AND key = $2::bytea""", 3)
GET_VALUES = Statement("""SELECT key, crc, value FROM vaults.entries
 WHERE vault = $1::int4 AND key = ANY($2::bytea[])""", 2)
HAS_KEYS = Statement('SELECT key FROM vaults.entries WHERE vault = $1::int4 AND key = ANY($2::bytea[])', 2)
IS_SAME = Statement("""SELECT 1 FROM vaults.entries
 WHERE vault = $1::int4 AND key = $2::bytea AND position = $3::bigint""", 3)
COUNT_TALLIES = Statement('SELECT coalesce(sum(entries), 0)::bigint FROM vaults.tallies WHERE vault = $1::int4', 1)
OF_RANGE = 'FROM vaults.entries WHERE vault = $1::int4 AND key >= $2::bytea AND key < $3::bytea'
COUNT_IN = Statement(f'SELECT count(*) {OF_RANGE}', 3)
COUNT_FEW = Statement(f'SELECT count(*) FROM (SELECT 1 {OF_RANGE} LIMIT $4::bigint) AS few', 4)
SHARE = Statement("""SELECT (
  (pg_total_relation_size('vaults.entries') + pg_total_relation_size('vaults.parts'))
  * (SELECT coalesce(sum(entries), 0) FROM vaults.tallies WHERE vault = $1::int4)
  / greatest((SELECT sum(entries) FROM vaults.tallies), 1))::bigint""", 1)
SNAPSHOT = Statement('SELECT pg_current_snapshot()::text::bytea', 0)
GET_PART = Statement("""SELECT crc, data FROM vaults.parts
 WHERE vault = $1::int4 AND owner = $2::bytea AND number = $3::bigint""", 3)
GET_PARTS = Statement("""SELECT number, crc, data FROM vaults.parts
 WHERE vault = $1::int4 AND owner = $2::bytea AND number = ANY($3::bigint[])""", 3)
GET_VALUE_AND_PART = Statement("""SELECT e.crc, e.value, p.crc, p.data FROM (SELECT 1) AS one
 LEFT JOIN vaults.entries e ON e.vault = $1::int4 AND e.key = $2::bytea
 LEFT JOIN vaults.parts p ON p.vault = $1::int4 AND p.owner = $3::bytea AND p.number = $4::bigint""", 4)
PART_NUMBERS = Statement("""SELECT number FROM vaults.parts
 WHERE vault = $1::int4 AND owner = $2::bytea ORDER BY number""", 2)
PART_OWNERS = Statement('SELECT DISTINCT owner FROM vaults.parts WHERE vault = $1::int4 ORDER BY owner', 1)

# Walks. The size of what a page has so far is counted as it is read; what goes beyond a page comes without its value.
LAST_POSITION = Statement('SELECT last_value FROM vaults.positions', 0)
_SIZE = 'length(key) + length(value)'
_ENTRY = f"""SELECT position, crc, key, CASE WHEN sum({_SIZE}) OVER so_far <= {MOST_OF_PAGE}
 OR sum({_SIZE}) OVER so_far = {_SIZE} THEN value END FROM vaults.entries WHERE vault = $1::int4"""
_KEY = 'SELECT position, crc, key FROM vaults.entries WHERE vault = $1::int4'
_WITHIN = 'AND position BETWEEN $2::bigint AND $3::bigint'
_OF_KEYS = 'AND key >= $4::bytea AND key < $5::bytea'


def _walk(clauses: str, order: str, last: str, parameters: int) -> Tuple[Statement, Statement, Statement]:
    """Return the statements of a page: without values, with those that fit a page, and with those that fit a share.

    To look at each row alone takes the server half of the time of adding their sizes up.
    """
    window = f'WINDOW so_far AS (ORDER BY {order} ROWS UNBOUNDED PRECEDING)'
    share = f'CASE WHEN {_SIZE} <= ${parameters + 1}::int4 THEN value END'
    return (Statement(f'{_KEY} {clauses} ORDER BY {order} {last}', parameters),
            Statement(f'{_ENTRY} {clauses} {window} ORDER BY {order} {last}', parameters),
            Statement(f'{_KEY.replace(" FROM", f", {share} FROM", 1)} {clauses} ORDER BY {order} {last}',
                      parameters + 1))


# By what they are in order of, and whether back.
IN_ORDER = {False: _walk(_WITHIN, 'position', 'LIMIT $4::bigint', 4),
            True: _walk(_WITHIN, 'position DESC', 'LIMIT $4::bigint', 4)}
SORTED_BY_KEY = {False: _walk(f'{_WITHIN} {_OF_KEYS}', 'key', 'LIMIT $6::bigint', 6),
                 True: _walk(f'{_WITHIN} {_OF_KEYS}', 'key DESC', 'LIMIT $6::bigint', 6)}
OF_POSITIONS = {False: _walk('AND position = ANY($2::bigint[])', 'position', '', 2),
                True: _walk('AND position = ANY($2::bigint[])', 'position DESC', '', 2)}
POSITIONS = Statement(f"""SELECT array_agg(position ORDER BY position) FROM vaults.entries
 WHERE vault = $1::int4 {_WITHIN} {_OF_KEYS}""", 5)

# Writing in a block, which has the gate.
PUT_ONE = Statement(f"""INSERT INTO vaults.entries AS e (vault, position, crc, key, value)
 VALUES ($1::int4, {NEXT}, $2::bigint, $3::bytea, $4::bytea) {UNLESS_PARTED}
 RETURNING position = currval('vaults.positions')""", 4)
PUT_PARTED = Statement(f"""WITH freed AS (DELETE FROM vaults.parts AS p USING vaults.entries AS e
  WHERE e.vault = $1::int4 AND e.key = $3::bytea AND p.vault = $1::int4 AND p.owner = {OWNER_OF.format('e')}
  AND p.owner <> $5::bytea)
 INSERT INTO vaults.entries AS e (vault, position, crc, key, value)
 VALUES ($1::int4, {NEXT}, $2::bigint, $3::bytea, $4::bytea) {UPSERT}
 RETURNING position = currval('vaults.positions')""", 5)
PUT_MANY = Statement(f"""WITH first AS (SELECT {NEXT} AS position),
 put AS (INSERT INTO vaults.entries AS e (vault, position, crc, key, value)
  SELECT $1::int4, {NEXT}, n.crc, n.key, n.value
  FROM first, unnest($2::bigint[], $3::bytea[], $4::bytea[]) AS n(crc, key, value) {UNLESS_PARTED} RETURNING position)
 SELECT count(*), count(*) FILTER (WHERE put.position > first.position) FROM put, first""", 4)
FREE_PARTS = Statement(f"""WITH old AS (UPDATE vaults.entries AS e SET crc = e.crc & ~{PARTED}::bigint
  WHERE e.vault = $1::int4 AND e.key = ANY($2::bytea[]) AND e.crc & {PARTED} <> 0
  RETURNING substr(e.value, length(e.value) - {OWNER_SIZE - 1}) AS owner)
 DELETE FROM vaults.parts AS p USING old WHERE p.vault = $1::int4 AND p.owner = old.owner""", 2)


def _deletion(which: str, result: str, parameters: int) -> Statement:
    return Statement(f"""WITH gone AS (DELETE FROM vaults.entries AS e WHERE e.vault = $1::int4 AND {which}
  RETURNING e.key, {OWNER_OF.format('e')} AS owner),
 freed AS (DELETE FROM vaults.parts AS p USING gone WHERE p.vault = $1::int4 AND p.owner = gone.owner)
 SELECT {result} FROM gone""", parameters)


DELETE_ONE = _deletion('e.key = $2::bytea', '1', 2)
DELETE_SAME = _deletion('e.key = $2::bytea AND e.value = $3::bytea', '1', 3)
DELETE_THESE = _deletion('e.key = ANY($2::bytea[])', 'key', 2)
DELETE_IN = _deletion('e.key >= $2::bytea AND e.key < $3::bytea', 'count(*)', 3)
REPLACE_ONE = Statement(f"""UPDATE vaults.entries SET value = $4::bytea, crc = (crc & {FORM}) | $2::bigint
 WHERE vault = $1::int4 AND key = $3::bytea AND value = $5::bytea RETURNING 1""", 5)
MOVE = {True: Statement(f"""UPDATE vaults.entries SET position = {NEXT}
 WHERE vault = $1::int4 AND key = $2::bytea RETURNING 1""", 2),
        False: Statement(f"""UPDATE vaults.entries SET position = -{NEXT}
 WHERE vault = $1::int4 AND key = $2::bytea RETURNING 1""", 2)}
PUT_PARTS = Statement("""INSERT INTO vaults.parts (vault, owner, number, crc, data)
 SELECT $1::int4, $2::bytea, n.number, n.crc, n.data
 FROM unnest($3::bigint[], $4::bigint[], $5::bytea[]) AS n(number, crc, data)""", 5)
DELETE_PARTS = Statement("""DELETE FROM vaults.parts
 WHERE vault = $1::int4 AND owner = $2::bytea AND number = ANY($3::bigint[])""", 3)
DELETE_ALL_PARTS = Statement('DELETE FROM vaults.parts WHERE vault = $1::int4 AND owner = $2::bytea', 2)
SAVEPOINT, RELEASE_ONE, UNDO_ONE = (b'SAVEPOINT level%d', b'RELEASE level%d', b'ROLLBACK TO level%d; RELEASE level%d')
ADD_TO_TALLY = b'UPDATE vaults.tallies SET entries = entries + %d WHERE vault = %d AND slot = %d;'
RECOUNT_TALLIES = Statement("""UPDATE vaults.tallies SET entries = CASE WHEN slot > 0 THEN 0
 ELSE (SELECT count(*) FROM vaults.entries WHERE vault = $1::int4) END WHERE vault = $1::int4""", 1)
VACUUM = b'VACUUM (ANALYZE) vaults.entries, vaults.parts, vaults.tallies'
READ_ALONE = b'BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT 1'  # whose first statement says what is seen

# By what is to be emptied: all that a vault has.
EMPTY: Dict[str, Statement] = {
    'parts': Statement('DELETE FROM vaults.parts WHERE vault = $1::int4', 1),
    'entries': Statement('DELETE FROM vaults.entries WHERE vault = $1::int4', 1),
    'tallies': Statement('DELETE FROM vaults.tallies WHERE vault = $1::int4', 1),
    'vaults': Statement('DELETE FROM vaults.vaults WHERE id = $1::int4', 1)}


class Gated:
    """The statements that take a vault's gate, as its options and the server want them.

    Own puts and deletes go through it side by side; a block takes it alone. With advisory locks, which only PostgreSQL
    has, or else with a lock on the row of the vault. The timeout for locks holds for the transaction alone: what was
    set for a connection, a pooler would hand on to others.
    """

    def __init__(self, by_rows: bool, timeout: float, synchronous: str) -> None:
        settings = f"set_config('lock_timeout', '{max(int(timeout * 1000), 1)}', true)"  # 0 would mean for ever
        if synchronous != 'NORMAL':
            settings += f", set_config('synchronous_commit', '{'off' if synchronous == 'OFF' else 'on'}', true)"
        shared = '' if by_rows else f', pg_advisory_xact_lock_shared({GATE_CLASS}, id)'
        alone = '' if by_rows else f', pg_advisory_xact_lock({GATE_CLASS}, id)'
        gate = f"""(SELECT {settings}{shared} FROM vaults.vaults
 WHERE id = $1::int4{' FOR SHARE' if by_rows else ''} OFFSET 0) AS gate"""
        self.begin = (f'BEGIN ISOLATION LEVEL READ COMMITTED; SELECT {settings}{alone} FROM vaults.vaults '
                      f'WHERE id = %d{" FOR UPDATE" if by_rows else ""}').encode()
        self.put = Statement(f"""WITH put AS (INSERT INTO vaults.entries AS e (vault, position, crc, key, value)
  SELECT $1::int4, {NEXT}, $2::bigint, $3::bytea, $4::bytea FROM {gate} {UNLESS_PARTED}
  RETURNING position = currval('vaults.positions') AS is_new),
 counted AS (UPDATE vaults.tallies AS t SET entries = t.entries + 1 FROM put
  WHERE put.is_new AND t.vault = $1::int4 AND t.slot = $5::int4)
 SELECT 1 FROM put""", 5)
        # The gate is not asked where there is a value. What another has put while it was waited for is in the way, and
        # is not seen: then nothing comes back.
        self.put_new = Statement(f"""WITH there AS (SELECT crc, value FROM vaults.entries
  WHERE vault = $1::int4 AND key = $3::bytea),
 put AS (INSERT INTO vaults.entries AS e (vault, position, crc, key, value)
  SELECT $1::int4, {NEXT}, $2::bigint, $3::bytea, $4::bytea FROM {gate} WHERE NOT EXISTS (SELECT 1 FROM there)
  ON CONFLICT (vault, key) DO NOTHING RETURNING 1),
 counted AS (UPDATE vaults.tallies AS t SET entries = t.entries + 1 FROM put
  WHERE t.vault = $1::int4 AND t.slot = $5::int4)
 SELECT crc, value FROM there UNION ALL SELECT 0, NULL FROM put""", 5)
        self.delete = Statement(f"""WITH gone AS (DELETE FROM vaults.entries AS e USING {gate}
  WHERE e.vault = $1::int4 AND e.key = $2::bytea AND e.crc & {PARTED} = 0 RETURNING 1),
 counted AS (UPDATE vaults.tallies AS t SET entries = t.entries - 1 FROM gone
  WHERE t.vault = $1::int4 AND t.slot = $3::int4)
 SELECT true FROM gone UNION ALL SELECT false FROM vaults.entries
  WHERE vault = $1::int4 AND key = $2::bytea AND NOT EXISTS (SELECT 1 FROM gone)""", 3)
        self.delete_if = Statement(f"""WITH gone AS (DELETE FROM vaults.entries AS e USING {gate}
  WHERE e.vault = $1::int4 AND e.key = $2::bytea AND e.value = $3::bytea AND e.crc & {PARTED} = 0 RETURNING 1),
 counted AS (UPDATE vaults.tallies AS t SET entries = t.entries - 1 FROM gone
  WHERE t.vault = $1::int4 AND t.slot = $4::int4)
 SELECT true FROM gone UNION ALL SELECT false FROM vaults.entries
  WHERE vault = $1::int4 AND key = $2::bytea AND value = $3::bytea AND crc & {PARTED} <> 0""", 4)
        self.replace = Statement(f"""UPDATE vaults.entries AS e SET value = $4::bytea,
 crc = (e.crc & {FORM}) | $2::bigint FROM {gate} WHERE e.vault = $1::int4 AND e.key = $3::bytea
 AND e.value = $5::bytea RETURNING 1""", 5)


