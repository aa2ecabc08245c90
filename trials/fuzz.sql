-- What fuzz.py does to sound files of SQLite, a paragraph each: what names no {table} to a vault, the rest to each table, and
-- to each {column}, of any library. {counting} begins a query without an end.

CREATE TRIGGER bomb AFTER INSERT ON entries BEGIN
 INSERT INTO entries(key, value, crc) {counting} SELECT 'b' || x, zeroblob(1000), 0 FROM c; END

CREATE TRIGGER bomb BEFORE DELETE ON entries BEGIN SELECT count(*) FROM ({counting} SELECT x FROM c); END

DROP TABLE entries; CREATE TABLE entries (id TEXT, key, value, crc)

DROP TABLE entries;
CREATE TABLE entries (id INTEGER PRIMARY KEY, key TEXT COLLATE NOCASE UNIQUE, value, crc);
INSERT INTO entries VALUES (0, x'', x'', 0)

DROP TABLE entries

DROP TABLE parts

DELETE FROM entries

DELETE FROM entries WHERE key = x''

UPDATE entries SET crc = {wrong} WHERE key = x''

UPDATE entries SET value = {wrong} WHERE key = x''

UPDATE entries SET id = {wrong} WHERE key = x''

UPDATE entries SET id = 9223372036854775807 WHERE id = (SELECT max(id) FROM entries)

UPDATE entries SET id = -id - 1 WHERE key <> x''

UPDATE parts SET number = -number, data = 'text'

ANALYZE

CREATE INDEX bomb ON entries(length(key))

CREATE TABLE bomb (x CHECK (length(printf('%.*c', 900000000, 'x')) > 0));
PRAGMA ignore_check_constraints = ON;
INSERT INTO bomb VALUES (1)

INSERT INTO parts VALUES (zeroblob(12), 0, x'81aa73657269616c697a657205', 0)

PRAGMA auto_vacuum = 1; VACUUM

PRAGMA user_version = 2

PRAGMA application_id = 1

DROP TRIGGER replaced; DROP TRIGGER deleted

ALTER TABLE "{table}" RENAME TO away;
CREATE VIEW "{table}" AS {counting} SELECT away.* FROM c, away

ALTER TABLE "{table}" RENAME TO away;
CREATE VIEW "{table}" AS SELECT {others}, zeroblob(900000000) AS {last} FROM away

ALTER TABLE "{table}" RENAME TO away;
CREATE TABLE "{table}" ({typed}, {last} {type} AS (zeroblob(900000000)));
INSERT INTO "{table}" SELECT {others} FROM away

UPDATE OR IGNORE "{table}" SET {column} = {wrong}
