"""SQLite: the engine of a vault in a file; docs/format.md describes the file. This room knows what lies beside one.

The trap: a file and its logs are one. Who copies, deletes or looks at the file alone loses what was committed last, and
a log that is left beside another file is taken for that file's. They lie beside the file that a link leads to.
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
    real = os.path.realpath(path)
    return [real + ending for ending in endings]
