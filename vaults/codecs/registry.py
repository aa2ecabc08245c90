"""Registry: which functions a class is stored with, and which make what is stored under a name. Knows no format.

Classes of a program come by `register`. Those of other packages, and of Python's modules that few programs import, are
in rooms of their own: PROVIDERS says where. Such a room is imported when an object of theirs, or a stored value of that
name, is met, and by nobody here by name, since it imports this one.
"""
from __future__ import annotations

from _thread import _local as local  # threading's, whose import takes as long as all of this module
from _weakref import ref
from datetime import date, datetime, time, timedelta

from ..errors import SerializationError
from .codes import PICKLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, Iterable, List, Optional, Tuple, Type, TypeVar

    T = TypeVar('T')
    Pack = Callable[[Any], bytes]
    Unpack = Callable[[bytes], Any]
    Encoder = Tuple[int, Callable[[Any, Pack], Optional[bytes]]]  # code, payload; None leaves the object to pickle

# Stored as what they are: none of them can be registered.
STANDARD = frozenset([type(None), bool, int, float, complex, str, bytes, bytearray, memoryview, tuple, list, dict, set,
                      frozenset, range, date, datetime, time, timedelta])

# The rooms, and what is the Provider there, by package, which is what a class's module begins with, and the name under
# which its objects are stored.
PROVIDERS = {'pandas': 'frames.FRAMES', 'polars': 'frames.FRAMES', 'PIL': 'images.IMAGES',
             **dict.fromkeys(('array', 'builtins', 'datetime', 'dateutil', 'ipaddress', 'pathlib', 'pytz', 'zoneinfo'),
                             'named.NAMED_TYPES')}


# --- what lives in a vault ------------------------------------------------------------------------------------------

# The classes of objects that are in chunks, lists and columns, each with what makes a copy of one that is not.
live_types: Dict[type, Callable[[Any], Any]] = {}
never_stored: List[type] = []  # the classes of vaults, and of what looks into one


def in_memory(value: Any) -> Any:
    """Return the value, or a copy of it that stays when its entry goes."""
    copy = live_types.get(type(value))
    return value if copy is None else copy(value)


def inside_another() -> SerializationError:
    """Return the error about a live object that is part of a value."""
    return SerializationError('a live list or column is not stored inside another value: store list(...) of it')


# --- what an object is loaded for -----------------------------------------------------------------------------------

class _Token:
    """What lives as long as the call that has it: an interrupt may keep it from tidying up."""


class _Intent(local):
    """What a thread's loading is for: while the token lives, its caller wants what can be changed in place."""

    writable: Callable[[], Optional[_Token]] = staticmethod(lambda: None)


intent = _Intent()


def writable(load: Callable[..., T], *arguments: Any) -> T:
    """Return what `load(*arguments)` does, with NumPy arrays in it that can be changed in place."""
    token = _Token()
    outer, intent.writable = intent.writable, ref(token)
    try:
        return load(*arguments)
    finally:
        intent.writable = outer


# --- classes of a program -------------------------------------------------------------------------------------------

class Registered:
    """A user's class, with the name it is stored under."""

    def __init__(self, cls: type, name: str, dump: Callable[[Any], Any], load: Callable[[Any], Any]) -> None:
        self.cls, self.name, self.dump, self.load = cls, name, dump, load

    def dumped(self, obj: Any) -> Any:
        return self._guarded(self.dump, obj, 'dump')

    def loaded(self, payload: Any) -> Any:
        return self._guarded(self.load, payload, 'load')

    def _guarded(self, function: Callable[[Any], Any], argument: Any, verb: str) -> Any:
        try:
            return function(argument)
        except Exception as error:
            raise SerializationError(f'the {verb} function registered for {self.name!r} failed: {error!r}') from error


by_class: Dict[type, Registered] = {}
by_name: Dict[str, Registered] = {}


def register(cls: Type[T], dump: Optional[Callable[[T], Any]] = None, load: Optional[Callable[[Any], T]] = None, *,
             name: Optional[str] = None) -> Type[T]:
    """Store objects of class `cls` by name, without pickle; return `cls`, so that it decorates as well.

    `dump(obj)` returns anything msgpack can carry, `load` makes the object again. Dataclasses and Enums need neither.
    `name` is what the file holds; by default the module and name of the class. Subclasses are types of their own.
    A dataclass is made again from its fields, without __init__ and __post_init__.

    >>> import vaults
    >>> class Point:
    ...     def __init__(self, x, y):
    ...         self.x, self.y = x, y
    >>> vaults.register(Point, lambda p: [p.x, p.y], lambda xy: Point(*xy), name='Point')  # doctest: +ELLIPSIS
    <class '...Point'>

    Raises: TypeError when `cls` needs functions or cannot be registered, ValueError when the name is another's.
    """
    if not isinstance(cls, type):
        raise TypeError(f'register takes a class, not {cls!r}')
    if cls in STANDARD:
        raise TypeError(f'{cls.__name__} is stored exactly already and cannot be registered')
    if (dump is None) != (load is None):
        raise TypeError(f'register({cls.__name__}) takes dump and load together')
    if dump is None or load is None:
        from .derived import functions_of
        dump, load = functions_of(cls)
    entry = Registered(cls, name or f'{cls.__module__}.{cls.__qualname__}', dump, load)
    other = by_name.get(entry.name)
    if other and (other.cls.__module__, other.cls.__qualname__) != (cls.__module__, cls.__qualname__):
        raise ValueError(f'the name {entry.name!r} is registered for {other.cls!r}: choose another with name=...')
    by_class[cls] = by_name[entry.name] = entry
    return cls


def named_type(obj: Any) -> str:
    """Return what errors call an object that is not shown."""
    return f'an object of type {type(obj).__module__}.{type(obj).__qualname__}'


class Unbuilt(tuple):  # type: ignore[type-arg]  # of what it is and its name
    """What stands for an object of a class whose code is not run."""


# --- the rooms of other packages ------------------------------------------------------------------------------------

class Provider:
    """What a room of other packages stores by name, and the encoder of a class there. Safe in any thread."""

    def __init__(self, kinds: Iterable[Registered], encoder: Callable[[str, type], Encoder]) -> None:
        self.by_name = {kind.name: kind for kind in kinds}
        self.encoder = encoder  # of a package and a class; pickle's for one that is not known


# By package. Not looked up in sys.modules, where a room may be half imported, by another thread.
_providers: Dict[str, Provider] = {}


def provider(package: str) -> Optional[Provider]:
    """Return what stores the types of a package without pickle, or None."""
    known = _providers.get(package)
    if known is None and package in PROVIDERS:
        from importlib import import_module
        room, _, name = PROVIDERS[package].partition('.')
        known = _providers[package] = getattr(import_module(f'.{room}', __package__), name)
    return known


def left_to_pickle(obj: Any, inner: Pack) -> None:
    """Leave `obj` to pickle."""


def provided(kind: type) -> Encoder:
    """Return the encoder of a class that is no standard one; pickle's for any that is not known."""
    if issubclass(kind, tuple(never_stored)):
        raise SerializationError(f'a {kind.__qualname__} is not stored in a vault, only its content is: store '
                                 'dict(x.items()) of a mapping x, list(x) of a view')
    package = str(kind.__module__).partition('.')[0]
    known = provider(package)
    return (PICKLE, left_to_pickle) if known is None else known.encoder(package, kind)


def rebuild(name: str, payload: Any) -> Any:
    """Return the object that is stored under the name of its type. Raises: SerializationError, ImportError."""
    entry = by_name.get(name)
    if entry is None:
        known = provider(name.partition('.')[0])
        entry = None if known is None else known.by_name.get(name)
    if entry is None:
        raise SerializationError(f'the value is of the registered type {name!r}, which this program has not '
                                 f'registered: call vaults.register(..., name={name!r}) first')
    return entry.loaded(payload)
