"""Recovery: what can still be read of a damaged vault, by the names that users know. Knows nothing of pages."""
from __future__ import annotations

from ._typing import TYPE_CHECKING
from .errors import VaultValueError
from .opening import locate
from .stores import scheme_of, shown_url
from .stores.sqlite import recovery as engine
from .stores.sqlite.recovery import Recovery

if TYPE_CHECKING:
    from .opening import Path
    from .stores.base import Progress

__all__ = ['Recovery', 'recover']

Recovery.__module__ = __name__  # a pickle of one looks for it here, wherever the engine keeps it


def recover(bad: Path, good: Path, progress: Progress = None) -> Recovery:
    """Copy all that can be read of the damaged vault `bad` into a new vault, `good`, and tell what cannot.

    Names and paths are as for Vault. `bad` is only read; `good` appears when it is whole. Takes a few bytes of memory
    for an entry. `progress(done, total)` is called with numbers of pages.

    Raises: VaultNotFoundError, VaultFormatError when `bad` holds nothing of a vault, VaultBusyError when it is open in
    this process or somebody writes to it, VaultFullError, VaultError when there is something at `good`.
    """
    source = locate(bad, False)[1]
    for target in (source, locate(good, False)[1]):
        if scheme_of(target):
            raise VaultValueError('recover() reads a damaged file of SQLite and makes a new one, and '
                                  f'{shown_url(target)} is a URL: give the path of a file')
    engine.require_readable(source)  # before a folder is made for the new one
    return engine.recover_file(source, locate(good, True)[1], progress)
