"""SQLite: the engine of a vault in a file; docs/format.md describes the file. This room knows what lies beside one.

The trap: a file and its logs are one. Who copies, deletes or looks at the file alone loses what was committed last, and
a log that is left beside another file is taken for that file's. They lie beside the file that a link leads to.

The rest of the house uses what stands here and four rooms: opening (open_store, is_open_here), recovery (recover,
is_promising), sources (files that are read and stay as they are) and driver (set_driver). The others are the package's
own:

- schema: every line of SQL, what is persisted, checksums; failures: what its errors mean;
- driver: SQLite's module, and which one; with_sqlite3 and with_apsw: the two;
- connection: a thread's connection, and the file; retry, waiting: for others; checkpoint: moving the log into the file;
- statements: what runs SQL; store, batch and removal: the entries, putting many of them, deleting and moving them;
- chunks: values in chunks; transactions and nesting: blocks;
- scan and pace: walks; locking: threads that queue; fork: what becomes of open stores in a child;
- cache: what was read, as long as nobody has committed;
- opening: what a file is; snapshot: reading where nothing can be written; guard: locks that nobody here drops;
- upkeep: sync, compact, check; backup; whole: its facts, files and end;
- recovery, survey, salvage, pages, records: what is left of a damaged file.
"""
from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import List, Sequence

# What SQLite makes beside a file has the file's name and one of these endings. The logs hold a part of the file: the
# write-ahead log what was committed, the journal what is to be undone. The shared memory holds nothing that lasts.
WAL_FILE, JOURNAL_FILE, SHARED_FILE = '-wal', '-journal', '-shm'
LOGS = WAL_FILE, JOURNAL_FILE
SIDE_FILES = WAL_FILE, JOURNAL_FILE, SHARED_FILE


def side_files(path: str, endings: Sequence[str] = SIDE_FILES) -> List[str]:
    """Return the paths at which SQLite makes files beside the one at `path`."""
    real = resolved(path)
    return [real + ending for ending in endings]


def resolved(path: str) -> str:
    """Return the path of the file that a link leads to. A link to its folder leads to the same files."""
    return os.path.realpath(path) if os.path.islink(path) else path
