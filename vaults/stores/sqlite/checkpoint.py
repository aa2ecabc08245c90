"""Checkpoints: when the write-ahead log is moved into the database. Knows neither keys nor values."""
from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Tuple

# The releases with the fix of https://www.sqlite.org/wal.html#walresetbug: these, and all from 3.51.3.
WAL_RESET_FIXED = ((3, 44, 6), (3, 50, 7))

# A WAL of more bytes than it keeps when reset is checkpointed by whoever sees it: its writers are many, or each gone
# before it was its turn.
LONG = 16777216
TRIES, PAUSE = 10, 0.002  # seconds: who reads for longer must not hold the writers up
ALONE = 8192            # bytes that an entry takes in the WAL besides its value, estimated: two pages in a commit of
TOGETHER = 512          # its own; in a transaction entries share their pages
TICK = 64 * ALONE       # bytes written between two looks at the file
CHECKPOINT = 16 * TICK  # bytes written between two checkpoints: the WAL grows to some 2000 pages


def has_wal_reset_race(version: Tuple[int, ...]) -> bool:
    """Tell whether this SQLite can lose pages when two connections write and checkpoint at the same instant."""
    return version < (3, 51, 3) and not any(fixed <= version < (fixed[0], fixed[1] + 1) for fixed in WAL_RESET_FIXED)
