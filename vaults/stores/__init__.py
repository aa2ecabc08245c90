"""Engines: finds the one that a target asks for, by its scheme. Knows of each engine only where it is."""
from __future__ import annotations

import sys

from ..errors import VaultError, VaultFormatError, VaultTypeError, VaultValueError
from .base import MEMORY, Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Iterable, List, Sequence, Tuple

    from .base import Options

GROUP = 'vaults.stores'  # the group of entry points in which other packages have their engines, by scheme
IN_MEMORY = (MEMORY, 'memory:')
# The engines that come along, beside that of files: what their schemes begin with, and the room that has `open_store`.
BUILT_IN: Sequence[Tuple[str, str]] = (('postgres', '.postgresql'), ('json+', '.jsonfile'), ('msgpack+', '.jsonfile'),
                                      ('https', '.http'), ('http', '.http'))


def open_engine(target: str, options: Options) -> Store:
    """Return the store at `target`, opened as the options say.

    `target`: a path is a file of SQLite; 'memory:', as ':memory:', is no file at all; of 'scheme://...' the engine is
    looked up in the entry point group `vaults.stores`, whose names are schemes: a function of target and options, or a
    module that has it as `open_store`.

    Raises: VaultValueError for a scheme that nobody has registered; VaultError when its engine cannot be loaded; what
    the engine raises.
    """
    scheme = scheme_of(target)
    if options.token is not None and (not scheme or _room_of(scheme) not in ('', '.http')):
        raise VaultValueError(f'a token is for a vault on a server, https://host/name, and {shown_url(target)!r} is '
                              'none: leave it out')
    if not scheme:
        from .sqlite.opening import open_store  # here: half of what `import vaults` would take
        try:
            return open_store(MEMORY if target in IN_MEMORY else target, *options[:4])
        except VaultFormatError as error:
            from .sqlite.recovery import is_promising, of_a_damaged_vault
            if is_promising(target):
                raise of_a_damaged_vault(target) from error
            raise
    engine = _engine(scheme, target)
    store = getattr(engine, 'open_store', engine)(target, options)
    if not isinstance(store, Store):
        raise VaultTypeError(f'the engine of {scheme}:// gave {type(store).__name__} for {shown_url(target)}, which is '
                             f'no Store: its entry point in {GROUP} is to be a function of a target and options that '
                             'returns one')
    return store


def target_under(root: str, name: str) -> str:
    """Return the target of the vault of a name under a root, which is a URL.

    Raises: VaultValueError when the scheme is nobody's, or its engine has no roots; what the engine raises.
    """
    target = _of_roots(root, 'named')(root, name)
    if not isinstance(target, str) or scheme_of(target) != scheme_of(root):
        raise VaultTypeError(f'named() of the engine of {scheme_of(root)}:// is to give a URL of that scheme, and gave '
                             f'{target if not isinstance(target, str) else shown_url(target)!r}')
    return target


def names_under(root: str, options: Options) -> List[str]:
    """Return the names of the vaults under a root, which is a URL, sorted. Raises: as `target_under`."""
    return sorted(_of_roots(root, 'names')(root, options))


def _of_roots(root: str, verb: str) -> Any:
    """Return a function of the engine of a root: `named`, of root and name, or `names`, of root and options."""
    scheme = scheme_of(root)
    found = getattr(_engine(scheme, root), verb, None)
    if not callable(found):
        raise VaultValueError(f'the engine of {scheme}:// has no {verb}(), so that {shown_url(root)} cannot be a root: '
                              f"give each vault its URL, Vault('{scheme}://...'), or say another root")
    return found


def shown_url(target: str) -> str:
    """Return a target as errors and reprs have it: of a URL all but the password; a path as it is."""
    if not scheme_of(target):
        return target
    from .urls import without_password  # here: most programs do without
    return without_password(target)


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
    """Return the engine of a scheme: a function that opens targets, or what has that as `open_store`."""
    room = _room_of(scheme)
    if room:
        from importlib import import_module
        return import_module(room, __package__)
    points = {point.name.lower(): point for point in _entry_points()}
    if scheme not in points:
        raise _unknown_scheme(scheme, target, sorted(points))
    try:
        return points[scheme].load()
    except Exception as error:
        raise VaultError(f'the engine of {scheme}://, {points[scheme].value}, cannot be loaded: {error!r}; install '
                         'its package anew, with what it needs') from error


def _room_of(scheme: str) -> str:
    """Return which of the engines that come along a scheme asks for; '' for none of them."""
    return next((room for start, room in BUILT_IN if scheme.startswith(start)), '')


def _unknown_scheme(scheme: str, target: str, others: List[str]) -> VaultValueError:
    """Return the error about a scheme that is nobody's, with the one that may be meant: json+ftp, say, by jsn+ftp."""
    from difflib import get_close_matches
    first, _, rest = scheme.partition('+')
    starts = {start.rstrip('+'): start for start, _ in BUILT_IN}
    near = [*get_close_matches(first, starts, 1), *get_close_matches(scheme, others, 1)]
    meant = _example(starts.get(near[0], near[0]), rest) if near else ''
    known = ', '.join([MEMORY, *map(_example, starts.values()), *map(_example, others)])
    return VaultValueError(f'no engine is known for {scheme}://, as in {shown_url(target)!r}: '
                           f'{meant and f"did you mean {meant}? "}there are {known}, and paths of files; install the '
                           f'package that has it, which registers it in the group {GROUP}')


def _example(start: str, protocol: str = '') -> str:
    """Return how a URL begins, of what schemes begin with: json+file://, say, of json+."""
    return f"{start}{(protocol or 'file') if start[-1] == '+' else ''}://"


def _entry_points() -> Iterable[Any]:
    from importlib import metadata  # here: it takes longer than all the rest
    if sys.version_info >= (3, 10):
        return metadata.entry_points(group=GROUP)
    return metadata.entry_points().get(GROUP, ())
