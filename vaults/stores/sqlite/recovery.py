"""Recovery: what can still be read of a damaged vault, into a new one. Knows files, and neither rows nor pages.

The trap: SQLite gives a damaged file up where its header, its schema or a page high in a tree is gone, and what it does
read it may write. So the file is read page by page without it (pages.py), and stays as it is: survey.py tells which
pages are in use, salvage.py takes what is in them. And whoever reads a file closes it, which takes the locks of those
who have it open in this process: such a file is refused.
"""
from __future__ import annotations

import os
from contextlib import closing
from typing import NamedTuple

from ...errors import (
    VaultBusyError,
    VaultCorruptError,
    VaultError,
    VaultFormatError,
    VaultFullError,
    VaultNotFoundError,
)
from ...files import NewFile, stamps
from ..base import MEMORY
from . import LOGS, SIDE_FILES, side_files
from .opening import is_open_here, open_store
from .pages import MAGIC, Pages
from .salvage import Salvage
from .schema import APPLICATION_ID
from .survey import Survey, shows_vault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, List, Optional, Tuple

    from ..base import Progress

LOOK = 4096     # pages that tell whether there is a vault


class Recovery(NamedTuple):
    """What a recovery did. Keys are as in the vault, or as they stand in the file when they are damaged themselves."""

    recovered: int                  # entries in the new vault
    counted: Optional[int]          # entries that the damaged one counted; None when that cannot be read
    lost: List[Tuple[Any, str]]     # keys that were not recovered, and why
    doubtful: List[Any]             # keys that were recovered but may have been deleted or replaced before
    notes: List[str]                # what else is to be known

    @property
    def nameless(self) -> int:
        """How many entries more are lost than `lost` names."""
        return max((self.counted or 0) - self.recovered - len(self.lost), 0)

    @property
    def whole(self) -> bool:
        """Tell whether nothing was lost, and nothing is in doubt."""
        return not (self.lost or self.doubtful or self.notes or self.nameless)


def recover_file(source: str, target: str, progress: Progress = None) -> Recovery:
    """Copy what can be read of the damaged vault at the path `source` into a new vault at `target`.

    Raises: as vaults.recovery.recover.
    """
    require_readable(source)
    if target == MEMORY:
        raise VaultError("what is recovered goes to a file: give a name or path other than ':memory:'")
    with NewFile(target, source, what=f'the recovery of {source} to {target}', beside=SIDE_FILES) as new:
        vault = [source, *side_files(source, LOGS)]
        before = stamps(vault)
        pages = Pages(source)
        try:
            survey = Survey(pages)
            if not shows_vault(pages):
                raise VaultFormatError(f'nothing of a vault is in the file {source}: give another name or path')
            with closing(open_store(new.part)) as store:
                done = Recovery(*Salvage(survey, store, progress).run())
        finally:
            pages.close()
        if stamps(vault) != before:
            raise VaultBusyError(f'somebody wrote to {source} while it was read: close it everywhere and repeat')
        if any(map(os.path.exists, side_files(new.part, LOGS))):
            raise VaultFullError(f'the recovery of {source} failed, nothing was written: the log of the new vault '
                                 'could not be moved into it; make room and repeat')
    return done


def is_promising(path: str) -> bool:
    """Tell whether the beginning of the file is damaged, and `recover` would find something of a vault behind it.

    Looks at the log, and at the first pages, so that a large file of another sort costs little.
    """
    if not os.path.isfile(path) or is_open_here(path):
        return False
    try:
        pages = Pages(path, LOOK)
    except OSError:
        return False
    try:
        return not _begins_well(pages) and shows_vault(pages)
    finally:
        pages.close()


def of_a_damaged_vault(path: str) -> VaultCorruptError:
    """Return the error about a file that is promising."""
    from shlex import quote
    return VaultCorruptError(f'the beginning of the file is damaged: vault {path}; restore a backup, or get what can '
                             f'be read with `vaults recover {quote(path)} NEW.db`')


def _begins_well(pages: Pages) -> bool:
    """Tell whether the header is one that a vault can have."""
    header = pages.page(1) if pages.count else b''
    return (header[:16] == MAGIC and header[16:18] == pages.size.to_bytes(4, 'big')[2:] and {*header[18:20]} <= {1, 2}
            and header[21:24] == bytes((64, 32, 32)) and header[68:72] == APPLICATION_ID.to_bytes(4, 'big'))


def require_readable(path: str) -> None:
    """Raise unless there is a file that may be read: closing it would take the locks of those who have it open here."""
    if not os.path.exists(path):
        raise VaultNotFoundError(f'there is no vault at {path}: check the name and where vaults are kept')
    if not os.path.isfile(path):
        raise VaultFormatError(f'{path} is no file: a vault is one')
    if is_open_here(path):
        raise VaultBusyError(f'the vault is open in this process: {path}; close it first')
