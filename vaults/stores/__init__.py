"""Engines: finds the one that a target asks for, by its scheme. Knows of each engine only where it is."""
from __future__ import annotations

import sys

from ..errors import VaultError, VaultFormatError, VaultTypeError, VaultValueError
from .base import MEMORY, Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Iterable, Sequence, Tuple

    from .base import Options

GROUP = 'vaults.stores'  # the group of entry points in which other packages have their engines, by scheme
IN_MEMORY = (MEMORY, 'memory:')
# The engines that come along, beside that of files: what their schemes begin with, and the room that has `open_store`.
BUILT_IN: Sequence[Tuple[str, str]] = (('postgres', '.postgresql'),)


def open_engine(target: str, options: Options) -> Store:
    """Return the store at `target`, opened as the options say.

    `target`: a path is a file of SQLite; 'memory:', as ':memory:', is no file at all; of 'scheme://...' the engine is
    looked up in the entry point group `vaults.stores`, whose names are schemes: a function of target and options.

    Raises: VaultValueError for a scheme that nobody has registered; VaultError when its engine cannot be loaded; what
    the engine raises.
    """
    scheme = scheme_of(target)
    if not scheme:
        from .sqlite.opening import open_store  # here: half of what `import vaults` would take
        try:
            return open_store(MEMORY if target in IN_MEMORY else target, *options)
        except VaultFormatError as error:
            from .sqlite.recovery import is_promising, of_a_damaged_vault
            if is_promising(target):
                raise of_a_damaged_vault(target) from error
            raise
    store = _engine(scheme, target)(target, options)
    if not isinstance(store, Store):
        raise VaultTypeError(f'the engine of {scheme}:// gave {type(store).__name__} for {target}, which is no Store: '
                             f'its entry point in {GROUP} is to be a function of a target and options that returns one')
    return store


def read_only(store: Store, name: str) -> Store:
    """Return a store that reads what this one has, and refuses all that would change it."""
    from .readonly import ReadOnlyStore
    return ReadOnlyStore(store, name)


def scheme_of(target: str) -> str:
    """Return the scheme of 'scheme://...', in lower case; of anything else ''. One letter is a drive of Windows."""
    scheme, mark, _ = target.partition('://')
    sound = len(scheme) > 1 and scheme.isascii() and scheme[0].isalpha() and not scheme.strip(LETTERS)
    return scheme.lower() if mark and sound else ''


LETTERS = 'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-.'


def _engine(scheme: str, target: str) -> Any:
    """Return the function that opens targets of the scheme."""
    room = next((room for start, room in BUILT_IN if scheme.startswith(start)), '')
    if room:
        from importlib import import_module
        return import_module(room, __package__).open_store
    points = {point.name.lower(): point for point in _entry_points()}
    if scheme not in points:
        known = ', '.join([MEMORY, *(f'{name}://' for name in sorted(points))])
        raise VaultValueError(f'no engine is known for {scheme}://, as in {target!r}: there are {known}, and paths of '
                              f'files; install the package that has it, which registers it in the group {GROUP}')
    try:
        return points[scheme].load()
    except Exception as error:
        raise VaultError(f'the engine of {scheme}://, {points[scheme].value}, cannot be loaded: {error!r}; install '
                         'its package anew, with what it needs') from error


def _entry_points() -> Iterable[Any]:
    from importlib import metadata  # here: it takes longer than all the rest
    if sys.version_info >= (3, 10):
        return metadata.entry_points(group=GROUP)
    return metadata.entry_points().get(GROUP, ())
