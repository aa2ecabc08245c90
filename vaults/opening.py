"""Opening: names, roots and paths of vaults, and the options that they are opened with. Knows no vault and no engine.

Imported when the first vault is opened: `import vaults` does without.
"""
from __future__ import annotations

import os
from collections import abc

from . import keys
from .codecs.packing import Codec
from .codecs.pickles import rule
from .errors import (
    UntrustedPickleError,
    VaultClosedError,
    VaultCorruptError,
    VaultError,
    VaultFormatError,
    VaultNotFoundError,
    VaultTypeError,
    VaultValueError,
)
from .place import Place, place_of
from .stores import open_engine, read_only, scheme_of, shown_url, target_under
from .stores.base import DEFAULT_OPTIONS, MAX_TIMEOUT, MEMORY, SETTINGS_OWNER, ClosedStore, Options, Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Iterator, Literal, Optional, Tuple, Type, TypeVar, Union
    from weakref import ReferenceType

    from .codecs.pickles import AllowPickle
    from .codecs.serializers import Serializer
    from .place import Again, Check

    T = TypeVar('T')
    Path = Union[str, os.PathLike[str]]
    Flag = Literal['r', 'w', 'c', 'n']
    Synchronous = Literal['OFF', 'NORMAL', 'FULL', 'EXTRA']

MAX_NAME = 255 - len('.db-journal')  # bytes; the longest file name that SQLite makes of it must fit a folder
_root: Optional[str] = None
_tokens: Dict[str, str] = {}            # those that vaults were opened with, by their URLs
_with_password: Dict[str, str] = {}     # the URLs of vaults that were opened with a password, by what is shown of them


# --- a vault's place ------------------------------------------------------------------------------------------------

def place_at(name: Optional[Path], store: Optional[Store], to_create: bool, thread_safe: bool, flag: Flag,
             timeout: float, synchronous: Synchronous, allow_pickle: Optional[AllowPickle], writeback: bool,
             cache_size: int, serializer: Any, validate: Optional[Check], read_cache: Optional[int] = None,
             token: Optional[str] = None) -> Place:
    """Return the place of the vault that these options, which are those of `Vault`, open or make. Raises: as that."""
    require_bools(to_create=to_create, thread_safe=thread_safe, writeback=writeback)
    require_options(flag, synchronous, timeout, cache_size, validate)
    require_read_cache(read_cache, writeback)
    if token is not None and not isinstance(token, str):
        raise VaultTypeError(f'token is a str, not {type(token).__name__}: what shows a server who asks')
    if serializer is not None:
        from .codecs.serializers import Serializer
        serializer = Serializer.of(serializer)
    flag = 'w' if flag == 'c' and not to_create else flag
    options = Options(flag, timeout, str(synchronous).upper(), thread_safe, token)
    title, target = locate(name, flag in ('c', 'n')) if store is None else adopt(store, name, options)
    if target == MEMORY and flag in 'rw' and store is None:
        raise VaultValueError("a vault in memory is always new: open ':memory:' with flag 'c'")
    engine, codec = _engine_and_codec(target, store, options, allow_pickle, serializer)
    path = _remembered(target, token) if store is None else target
    again = _again(path, store is None, (path, title, validate, thread_safe, 'r' if flag == 'r' else 'w', timeout,
                                         options.synchronous, allow_pickle, writeback, cache_size, serializer,
                                         read_cache))
    place = Place(engine, keys, codec, title, path, flag == 'r', validate, again)
    if writeback and flag != 'r':  # a reader has nothing to write back
        from .stores.live import before
        place.store, place.entries, place.values = before(engine, keys, codec, path, cache_size, timeout, validate,
                                                          place)
    elif read_cache:
        place.entries = engine.cached(read_cache)
    return place


def _engine_and_codec(target: str, store: Optional[Store], options: Options, allow_pickle: Optional[AllowPickle],
                      serializer: Optional[Serializer]) -> Tuple[Store, Codec]:
    """Return what keeps the entries, opened unless it is the caller's `store`, and what makes them values."""
    trust, path = Trust(), target if store is not None else shown_url(target)
    codec = Codec(rule(allow_pickle, trust))
    engine = opened(target, options) if store is None else prepared(store, path, options.flag)
    trust.of(engine, path)
    try:
        return engine, _codec_of(engine, codec, serializer, options.flag, path)
    except BaseException:
        if store is None:  # one of the caller's stays open: it may hold the only copy
            engine.close()
        raise


def _codec_of(store: Store, codec: Codec, serializer: Optional[Serializer], flag: str, path: str) -> Codec:
    """Return the codec that the file asks for. Raises: VaultFormatError when it is not the one that was passed."""
    try:
        if serializer is None and store.get_chunk(SETTINGS_OWNER, 0) is None:
            return codec
        from .settings import codec_for
        return codec_for(store, codec, serializer, flag, path)
    except VaultCorruptError:
        if serializer is None:  # without one no serialized value can be read anyway: read what can be
            return codec
        raise


def _again(path: str, is_ours: bool, arguments: Tuple[Any, ...]) -> Again:
    """Return what opens a vault again, for pickle, or why that cannot be."""
    if not is_ours:
        return (f'a vault over a store of your own, {path}, cannot be pickled, or copied with the module copy: make '
                'the store where it is wanted, and a vault over it, Vault(store=...); v.copy() gives a dict of it')
    if path == MEMORY:
        return ('a vault in memory cannot be pickled, or copied with the module copy: v.copy() gives a dict of it, and '
                'v.backup(path) writes it to a file')
    return reopened, arguments


def reopened(path: str, name: str, validate: Any, thread_safe: bool, flag: Any, timeout: float, synchronous: Any,
             allow_pickle: Any, writeback: bool, cache_size: int, serializer: Any,
             read_cache: Optional[int] = None) -> Place:
    """Open again, by its path, the place of a vault that was pickled. Named in pickles: it stays."""
    try:
        place = place_at(exactly(_opening(path, name)), None, True, thread_safe, flag, timeout, synchronous,
                         allow_pickle, writeback, cache_size, serializer, validate, read_cache, _tokens.get(path))
    except VaultNotFoundError as error:
        what = 'it' if scheme_of(path) else 'its file'
        raise VaultNotFoundError(f'the vault {name!r} was pickled when {what} was {path}, where none is now: move it '
                                 'back, or open it where it is and pickle that') from error
    place.name = name
    return place


def _remembered(target: str, token: Optional[str]) -> str:
    """Return a target as it is shown, and keep in mind how it is opened again, by this process alone."""
    shown = shown_url(target)
    if token is not None:
        _tokens[shown] = token
    if shown != target:
        _with_password[shown] = target
    return shown


def _opening(path: str, name: str) -> str:
    """Return the target that is shown as `path`: the one that was opened here, or that the root makes of the name.

    Where neither is, the password is for the engine to find, as libpq does in ~/.pgpass.
    """
    root = _the_root()
    if scheme_of(path) and path not in _with_password and scheme_of(root) and not scheme_of(name):
        target = target_under(root, name)
        return target if shown_url(target) == path else path
    return _with_password.get(path, path)


# --- where it is ----------------------------------------------------------------------------------------------------

def set_root_path(path: Optional[Path]) -> None:
    """Keep vaults in the folder `path`/vaults, which is made if need be, or where a URL says; None forgets it.

    Without it the root is the environment variable VAULTS_ROOT, and without that the current directory. Under a URL,
    as 'json+ftp://host/folder' or 'postgresql://host/database', `Vault('notes')` is the vault 'notes' there.

    Raises: VaultTypeError or VaultValueError for what is neither path nor URL of an engine that has roots, VaultError
    when the folder cannot be made.
    """
    global _root
    if isinstance(path, str) and scheme_of(path):
        target_under(path, 'any')  # raises where it can be no root
        _root = path
        return
    root = None if path is None else _absolute(path)
    if root is not None:
        _folder(root)
    _root = root


def root_url() -> str:
    """Return the URL that vaults are kept under, '' where they are kept in a folder."""
    root = _the_root()
    return root if scheme_of(root) else ''


def _the_root() -> str:
    """Return what is the root now, a URL or a folder."""
    root = _root or os.environ.get('VAULTS_ROOT') or os.curdir
    return root if scheme_of(root) else os.path.abspath(root)


def _absolute(path: Any) -> str:
    """Return the absolute path that a str or an os.PathLike means."""
    try:
        plain: str = os.fsdecode(path)
    except TypeError:
        raise VaultTypeError(f'a path is a str or an os.PathLike, such as pathlib.Path(...), not '
                             f'{type(path).__name__}') from None
    if '\0' in plain:
        raise VaultValueError(f'a path holds no NUL character: {plain!r}')
    return os.path.abspath(plain)


def _folder(root: str) -> str:
    folder = os.path.join(root, 'vaults')
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise VaultError(f'the folder {folder} cannot be made: {error}; choose another root') from error
    return folder


def locate(name: Optional[Path], to_create: bool) -> Tuple[str, str]:
    """Return a vault's name and the absolute path of its file. A str is a name, an os.PathLike is an exact file.

    Of a vault that an engine keeps elsewhere it is its URL in place of a path, and what is shown of that as the name.
    """
    if not isinstance(name, str):
        if not isinstance(name, os.PathLike):
            raise _no_name(name)
        path = _absolute(name)
        return os.path.splitext(os.path.basename(path))[0], path
    if name == MEMORY or scheme_of(name):
        return shown_url(name), name
    require_name(name)
    root = _the_root()
    if name[-3:].lower() == '.db':
        raise _with_ending(name, os.path.join(root, 'vaults', f'{name}.db'))
    if scheme_of(root):
        return name, target_under(root, name)
    folder = _folder(root) if to_create else os.path.join(root, 'vaults')
    return name, os.path.join(folder, f'{name}.db')


def require_name(name: str) -> None:
    """Raise unless a text can be a vault's name, and so a file's."""
    if not name:
        raise VaultValueError("a vault's name is not empty: give one, as in Vault('name'), or pathlib.Path(...) for an "
                              'exact file')
    if name == '.' or any(part in name for part in ('/', '\\', '..', '\0')) or os.sep in name:
        raise VaultValueError(f'a name is not ".", and holds no path separator, no ".." and no NUL, unlike {name!r}: '
                              'pass pathlib.Path(...) for an exact file')
    try:
        size = len(os.fsencode(name))
    except UnicodeEncodeError as error:
        raise VaultValueError(f'the name {name!r} cannot be a file name here ({error}): choose another, or have Python '
                              'use UTF-8 for file names: PYTHONUTF8=1') from error
    if size > MAX_NAME:
        raise VaultValueError(f'a name is at most {MAX_NAME} bytes long, unlike {name[:20]!r}...: give a shorter one')


def _no_name(name: Any) -> VaultTypeError:
    cure = "as in Vault('name'), or pathlib.Path(...) for an exact file"
    if isinstance(name, Store):
        cure = 'or pass the engine by name, Vault(store=...)'
    elif isinstance(name, (bytes, bytearray)):
        cure = 'as pathlib.Path(os.fsdecode(...)) is for an exact file'
    elif isinstance(name, (dict, list, tuple, set, abc.Mapping)):
        cure = "as in v = Vault('name'), and v.update(...) fills it"
    return VaultTypeError(f"a vault's name is a str or an os.PathLike, not {type(name).__name__}: give one, {cure}")


def _with_ending(name: str, path: str) -> VaultError:
    """Return the error about a name that `vaults NAME` takes for a path, so that it is none here either."""
    stem = f'Vault({name[:-3]!r}) for the vault of that name, or ' if name[:-3] else ''
    made = f'; it was made as {path} before: rename that file' if os.path.exists(path) else ''
    return VaultValueError(f'a name does not end in .db, which its file does, unlike {name!r}: use {stem}'
                           f'pathlib.Path({name!r}) for exactly that file{made}')


def require_bools(**options: Any) -> None:
    for name, value in options.items():
        if not isinstance(value, bool):
            raise VaultTypeError(f'{name} is True or False, not {value!r}: a flag, as shelve and dbm have it, is '
                                 "passed by name, flag='r'")


def require_options(flag: Any, synchronous: Any, timeout: Any, cache_size: Any, validate: Any) -> None:
    if not isinstance(flag, str) or flag not in ('r', 'w', 'c', 'n'):
        raise _wrong(flag, str)(f"flag is 'r', 'w', 'c' or 'n', not {flag!r}")
    if not isinstance(synchronous, str) or synchronous.upper() not in ('OFF', 'NORMAL', 'FULL', 'EXTRA'):
        raise _wrong(synchronous, str)(f"synchronous is 'OFF', 'NORMAL', 'FULL' or 'EXTRA', not {synchronous!r}")
    if not _is(timeout, (int, float)) or not 0 <= timeout <= MAX_TIMEOUT:
        raise _wrong(timeout, (int, float))(f'timeout is a number of seconds from 0 to {MAX_TIMEOUT:.0f}, not '
                                            f'{timeout!r}')
    if not _is(cache_size, int) or cache_size < 1:
        raise _wrong(cache_size, int)(f'cache_size is a number of entries, at least 1, not {cache_size!r}')
    require_function(validate)


def require_read_cache(read_cache: Any, writeback: bool) -> None:
    if read_cache is not None and (not _is(read_cache, int) or read_cache < 0):
        raise _wrong(read_cache, int)(f'read_cache is a number of entries, or None or 0 for none, not {read_cache!r}')
    if read_cache and writeback:
        raise VaultValueError('with writeback=True what is read is kept anyway, as many entries as cache_size says: '
                              'leave read_cache out')


def require_function(validate: Any) -> None:
    if validate is not None and not callable(validate):
        raise VaultTypeError(f'validate is a function of a key and a value, not {validate!r}')


def _is(value: Any, kind: Any) -> bool:
    """Tell whether it is of that kind, of which a bool is none."""
    return isinstance(value, kind) and not isinstance(value, bool)


def _wrong(value: Any, kind: Any) -> Type[VaultError]:
    """Return the error for a value that is not wanted."""
    return VaultValueError if _is(value, kind) else VaultTypeError


def adopt(store: Any, name: Any, options: Options) -> Tuple[str, str]:
    """Return the name and the path of a vault over a store of the caller's. Raises: for what makes no sense."""
    if isinstance(store, type) and issubclass(store, Store):
        raise VaultTypeError(f'store is an engine that is open, not the class {store.__name__}: make one of it, '
                             f'store={store.__name__}(...)')
    if not isinstance(store, Store):
        raise VaultTypeError(f'store is a vaults.Store, an engine that is open, not {type(store).__name__}: a vault in '
                             "a file is opened by its name, Vault('name')")
    if isinstance(store, ClosedStore):
        raise VaultClosedError('the store is that of a closed vault: make a new one')
    named = ('timeout', 'synchronous', 'thread_safe', 'token')
    for option, given, default in zip(named, options[1:], DEFAULT_OPTIONS[1:]):
        if given != default:
            raise VaultValueError(f'{option} is what an engine is told when it is made, not a vault over one: make the '
                                  'store with it, and leave it out beside store')
    if name is not None and not isinstance(name, str):
        raise VaultTypeError(f'beside store a name is a label, and a str, not {type(name).__name__}: leave it out, or '
                             'give the store its place')
    path = store.files[0] if store.files else name or type(store).__name__
    return name or os.path.splitext(os.path.basename(path))[0], path


def opened(path: str, options: Options) -> Store:
    """Return the store of the engine that the path, or the scheme in its place, asks for."""
    try:
        return open_engine(path, options)
    except VaultFormatError as error:
        if scheme_of(path):
            raise
        from .moving.source import cure  # what is to be done with a file of another library
        raise VaultFormatError(f'{error}{cure(path)}') from error


def prepared(store: Store, path: str, flag: str) -> Store:
    """Return an engine of the caller's as the flag says: read alone, or emptied."""
    if flag == 'r':
        return read_only(store, path)
    if flag == 'n':
        store.delete_range()
    return store


class Trust:
    """Asks before the first pickle whether somebody else may have written what is in a store. Safe in any thread.

    It does not hold the store: the codec, which calls it, is in a circle, and would keep the store open.
    """

    _store: Optional[ReferenceType[Store]] = None
    _path = ''

    def of(self, store: Store, path: str) -> None:
        from _weakref import ref  # weakref's, whose import takes as long as that of all errors
        self._store, self._path = ref(store), path

    def __call__(self) -> None:
        """Raise UntrustedPickleError, which says who may, and what to do."""
        store = None if self._store is None else self._store()
        if store is None:
            raise VaultClosedError('the vault is closed, so that nobody can tell who wrote the pickle: open it again')
        from .codecs import trust  # here: most vaults never meet a pickle
        files = store.sources
        if files is None:
            raise UntrustedPickleError(f'pickles are not read or written in {self._path}: its engine does not say who '
                                       f'may write it; {trust.ALLOWANCE}')
        if files:
            trust.require(*files)


def exactly(path: str) -> Any:
    """Return what `locate` makes this path of, or this text with a scheme."""
    return path if scheme_of(path) else ExactPath(path)


class Reopened:
    """A place, as a vault that is copied or pickled holds it: pickled it is the place itself.

    So that all that is pickled together has one place, while copy.copy, which pickles nothing, has one of its own.
    """

    def __init__(self, place: Place) -> None:
        self._place = place

    def __reduce__(self) -> Any:
        return place_of, (self._place,)

    def opened(self) -> Place:
        """Open the place once more. Raises: as a pickle of it."""
        make, arguments = self._place.__reduce__()
        return make(*arguments)  # type: ignore[no-any-return]


def over(cls: Type[T], place: Union[Place, Reopened]) -> T:
    """Return a vault of a class in a place. Named in pickles: it stays.

    Not by the __init__ of a subclass, whose arguments are not known: what it has made of them travels besides.
    """
    vault: Any = cls.__new__(cls)
    vault._settle(place if isinstance(place, Place) else place.opened())
    return vault  # type: ignore[no-any-return]


def added(vault: Any, base: type) -> Any:
    """Return what a subclass of `base` has added, as pickle wants it: attributes of the object, and those in slots."""
    own = getattr(type(vault), '__getstate__', None)
    if own is not getattr(object, '__getstate__', None):  # which there is from Python 3.11 on
        return own(vault)  # type: ignore[misc]  # one that is not object's
    slots = {slot: getattr(vault, slot) for cls in type(vault).__mro__ if not issubclass(base, cls)
             for slot in _slots(cls) if hasattr(vault, slot)}
    attributes = getattr(vault, '__dict__', None)
    return (attributes, slots) if slots else attributes or None


def _slots(cls: type) -> Iterator[str]:
    """Yield the names of the attributes for which a class has slots."""
    slots = cls.__dict__.get('__slots__', ())
    for slot in (slots,) if isinstance(slots, str) else slots:
        if not slot.startswith('__'):
            yield slot
        elif not slot.endswith('__'):  # private; the others are __dict__ and __weakref__
            yield f"_{cls.__name__.lstrip('_')}{slot}"


class ExactPath:
    """An os.PathLike, without importing pathlib."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __fspath__(self) -> str:
        return self._path
