"""Named: types of the standard library, and zones of dateutil and pytz, as registered types. Knows no keys or stores.

Each is a name and what describes it, as of a class that a program has registered, but known to all programs. What would
not come back exactly is left to pickle. None of these modules is imported before an object of theirs, or a stored value
of that name, is met.
"""
from __future__ import annotations

import sys
from datetime import timedelta, timezone, tzinfo
from importlib import import_module

from ..errors import SerializationError
from ..keys import MICROSECOND
from .codes import PICKLE, REGISTERED
from .registry import Provider, Registered, left_to_pickle
from .types import PLAIN, rezone

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, List, Optional, Tuple

    from .registry import Encoder, Pack


class Named(Registered):
    """A type, with the name that it is stored under, and what to install where its module is missing."""

    def __init__(self, name: str, dump: Callable[[Any], Any], load: Callable[[Any], Any], package: str = '') -> None:
        super().__init__(object, name, dump, load)
        self.package = package

    def encoded(self, obj: Any, inner: Pack) -> Optional[bytes]:
        payload = self.dumped(obj)
        return None if payload is LEFT else inner([self.name, payload])

    def loaded(self, payload: Any) -> Any:
        """Return the object. Raises: SerializationError, which says what to install."""
        try:
            return self.load(payload)
        except SerializationError:
            raise
        except ImportError as error:
            raise SerializationError(f'the value is of {self.name.partition("+")[0]}, and {error}: install '
                                     f'`{self.package}`') from error
        except Exception as error:
            raise SerializationError(f'what is stored as {self.name!r} is none ({error!r})') from error


LEFT = object()  # what a dump function returns of what is left to pickle


def _if_plain(parts: Any) -> Any:
    return parts if PLAIN.issuperset(map(type, parts)) else LEFT


# --- the standard library -------------------------------------------------------------------------------------------

def _dump_path(path: Any) -> Any:
    text = str(path)
    return text if type(path)(text) == path else LEFT


def _load_path(name: str) -> Callable[[Any], Any]:
    """Return the function that makes a path again: that of the other system is a pure one here."""
    def load(text: Any) -> Any:
        import pathlib
        is_here = name.startswith('Pure') or type(pathlib.Path()).__name__ == name
        return getattr(pathlib, name if is_here else f'Pure{name}')(_as_text(text))
    return load


def _as_text(text: Any) -> str:
    if type(text) is not str:
        raise ValueError(f'text is expected, not {type(text).__name__}')
    return text


def _load_from_text(module: str, name: str) -> Callable[[Any], Any]:
    return lambda text: getattr(import_module(module), name)(_as_text(text))


def _load_slice(parts: Any) -> slice:
    if type(parts) is not list or _if_plain(parts) is LEFT:
        raise ValueError('a slice is of plain values')
    start, stop, step = parts
    return slice(start, stop, step)


def _dump_error(error: BaseException) -> Any:
    """Describe an exception of Python's own by its class and arguments, when that is all there is to it."""
    reduced: Any = error.__reduce__()
    kind, arguments, *state = reduced
    return LEFT if kind is not type(error) or any(state) or _is_unsafe(error) else [kind.__name__, *arguments]


def _is_unsafe(error: BaseException) -> bool:
    """Tell whether it is one about text that begins before the text: Python reads there, where str() is asked."""
    return isinstance(error, (UnicodeEncodeError, UnicodeDecodeError, UnicodeTranslateError)) and error.start < 0


def _load_error(parts: Any) -> Any:
    import builtins
    name, *arguments = parts
    kind = getattr(builtins, _as_text(name))
    if not (isinstance(kind, type) and issubclass(kind, BaseException)):
        raise ValueError(f'{name!r} is no exception')
    error = kind(*arguments)
    if _is_unsafe(error):
        raise ValueError(f'{name!r} is about text that is not there')
    return error


def _dump_array(array: Any) -> Any:
    """Describe an array of numbers as [type code, bytes of an item, items, little-endian]."""
    if array.typecode in 'uw':
        return LEFT
    swapped = array[:]
    if sys.byteorder == 'big':
        swapped.byteswap()
    return [array.typecode, array.itemsize, swapped.tobytes()]


def _load_array(parts: Any) -> Any:
    from array import array
    from struct import iter_unpack
    code, size, data = parts
    made = array(_as_text(code))
    if code in 'uw' or type(data) is not bytes:
        raise ValueError('an array is of numbers')
    kind = code if code in 'fd' else {1: 'b', 2: 'h', 4: 'i', 8: 'q'}[size]
    kind = kind.upper() if code.isupper() else kind
    if size == made.itemsize:
        made.frombytes(data)
        if sys.byteorder == 'big':
            made.byteswap()
    else:  # of a system where a C long is of another size
        made.extend(number for number, in iter_unpack(f'<{kind}', data))
    return made


# --- time zones -----------------------------------------------------------------------------------------------------

def _dump_timezone(zone: Any) -> Any:
    offset, *name = zone.__getinitargs__()
    return [offset // MICROSECOND, *name]


def _dump_zoneinfo(zone: Any) -> Any:
    return zone.key or LEFT


def _of_key(key: Any) -> Any:
    return rezone(_as_text(key))


def _of_offset(parts: Any) -> Any:
    microseconds, *name = parts
    return timezone(timedelta(microseconds=microseconds), *name)


def _offset(microseconds: Any) -> timedelta:
    """Return an offset from UTC. Raises: ValueError for a day or more, with which no zone can be used."""
    offset = timedelta(microseconds=microseconds)
    timezone(offset)
    return offset


def _name_or_none(name: Any) -> Optional[str]:
    return None if name is None else _as_text(name)


def _tz() -> Any:
    return import_module('dateutil.tz')


def _dump_tzfile(zone: Any) -> Any:
    """Describe a zone by the name under which it is found, or by the file that it was read from."""
    names = [getattr(zone, '_key', None), getattr(zone, '_filename', None)]
    for name in filter(_is_name, [*names, *map(_below, filter(None, names))]):
        found = _tz().gettz(name)
        if found is zone or (type(found) is type(zone) and found == zone):
            return name
    try:
        with open(zone._filename, 'rb') as file:
            data = file.read()
        return [data, zone._filename] if _tzfile([data, zone._filename]) == zone else LEFT
    except (OSError, ValueError, TypeError):
        return LEFT


def _is_name(name: Any) -> bool:
    """Tell whether it is the name of a zone, and no path out of the folders where they are."""
    return (type(name) is str and len(name) < 256 and {'', '.', '..'}.isdisjoint(name.split('/'))
            and set('\0\\:').isdisjoint(name))


def _below(filename: Any) -> Optional[str]:
    """Return what stands behind the folder of time zones in a path."""
    return str(filename).partition('/zoneinfo/')[2] or None


def _load_tzfile(described: Any) -> Any:
    if isinstance(described, list):
        return _tzfile(described)
    if not _is_name(described):
        raise ValueError(f'{described!r} is no name of a time zone')
    zone = _tz().gettz(described)
    if not isinstance(zone, _tz().tzfile):
        raise SerializationError(f'the time zone {described!r} is not known here: install `tzdata`')
    return zone


def _tzfile(described: List[Any]) -> Any:
    from io import BytesIO
    data, filename = described
    return _tz().tzfile(BytesIO(data), filename=_as_text(filename))


def _dump_tzoffset(zone: Any) -> Any:
    name = zone.tzname(None)
    return [name, zone.utcoffset(None) // MICROSECOND] if name is None or type(name) is str else LEFT


def _load_tzoffset(parts: Any) -> Any:
    name, microseconds = parts
    return _tz().tzoffset(_name_or_none(name), _offset(microseconds))


def _dump_tzlocal(zone: Any) -> Any:
    return [zone._std_offset // MICROSECOND, zone._dst_offset // MICROSECOND, list(zone._tznames)]


def _load_tzlocal(parts: Any) -> Any:
    standard, summer, names = parts
    zone = _tz().tzlocal()
    zone._std_offset, zone._dst_offset = _offset(standard), _offset(summer)
    zone._dst_saved, zone._tznames = zone._dst_offset - zone._std_offset, tuple(map(_as_text, names))
    zone._hasdst = bool(zone._dst_saved)
    return zone


def _dump_tzstr(zone: Any) -> Any:
    if type(zone._s) is not str:
        return LEFT
    return next(([zone._s, posix] for posix in (False, True) if _load_tzstr([zone._s, posix]) == zone), LEFT)


def _load_tzstr(parts: Any) -> Any:
    text, posix = parts
    return _tz().tzstr(_as_text(text), posix_offset=posix)


ABSOLUTE = ('year', 'month', 'day', 'hour', 'minute', 'second', 'microsecond')
RELATIVE = ('years', 'months', 'days', 'leapdays', 'hours', 'minutes', 'seconds', 'microseconds')


def _dump_tzrange(zone: Any) -> Any:
    offsets = [offset // MICROSECOND for offset in (zone._std_offset, zone._dst_offset)]
    rules = map(_dump_delta, (zone._start_delta, zone._end_delta))
    parts = [zone._std_abbr, offsets[0], zone._dst_abbr, offsets[1], *rules]
    return parts if _load_tzrange(parts) == zone else LEFT


def _dump_delta(delta: Any) -> Any:
    """Describe one of dateutil's relativedeltas by what is set in it."""
    if not delta:
        return None
    fields = {name: getattr(delta, name) for name in ABSOLUTE if getattr(delta, name) is not None}
    fields.update((name, getattr(delta, name)) for name in RELATIVE if getattr(delta, name))
    return [fields, delta.weekday and [delta.weekday.weekday, delta.weekday.n]]


def _load_tzrange(parts: Any) -> Any:
    standard, offset, summer, summer_offset, start, end = parts
    return _tz().tzrange(_name_or_none(standard), _offset(offset), _name_or_none(summer), _offset(summer_offset),
                         _load_delta(start), _load_delta(end))


def _load_delta(parts: Any) -> Any:
    if parts is None:
        return None
    from dateutil.relativedelta import relativedelta, weekday
    fields, day = parts
    if not all(name in ABSOLUTE + RELATIVE and type(value) is int for name, value in fields.items()):
        raise ValueError('a rule for summer time is not of integers')
    return relativedelta(**fields, weekday=day and weekday(*day))


def _dump_pytz(zone: Any) -> Any:
    return _if_plain(list(zone.__reduce__()[1]))


def _load_pytz(parts: Any) -> Any:
    from pytz.tzinfo import unpickler
    name, *offsets = parts
    return unpickler(_as_text(name), *offsets)


def _load_pytz_offset(parts: Any) -> Any:
    import pytz
    minutes, = parts
    return pytz.FixedOffset(minutes)


def _load_pytz_utc(_: Any) -> Any:
    import pytz
    return pytz.utc


# --- which is which -------------------------------------------------------------------------------------------------

# Persisted names: never reuse one for another payload. Pinned by tests.py::TestNamed. docs/format.md describes each.
_PATHS = {('pathlib', name): Named(f'pathlib.{name}+str', _dump_path, _load_path(name))
          for name in ('PurePosixPath', 'PureWindowsPath', 'PosixPath', 'WindowsPath')}
_ADDRESSES = {('ipaddress', name): Named(f'ipaddress.{name}+str', str, _load_from_text('ipaddress', name))
              for name in ('IPv4Address', 'IPv4Network', 'IPv4Interface', 'IPv6Address', 'IPv6Network',
                           'IPv6Interface')}
_DATEUTIL = {('dateutil.tz', name): Named(f'dateutil.tz.{name}+parts', dump, load, 'python-dateutil')
             for name, dump, load in (
                 ('tzutc', lambda _: None, lambda _: _tz().tzutc()), ('tzlocal', _dump_tzlocal, _load_tzlocal),
                 ('tzoffset', _dump_tzoffset, _load_tzoffset), ('tzfile', _dump_tzfile, _load_tzfile),
                 ('tzstr', _dump_tzstr, _load_tzstr), ('tzrange', _dump_tzrange, _load_tzrange))}
_ERROR = Named('builtins.BaseException+args', _dump_error, _load_error)
_PYTZ = Named('pytz.tzinfo+parts', _dump_pytz, _load_pytz, 'pytz')
_PYTZ_OFFSET = Named('pytz.FixedOffset+parts', _dump_pytz, _load_pytz_offset, 'pytz')
_PYTZ_UTC = Named('pytz.utc+parts', _dump_pytz, _load_pytz_utc, 'pytz')

# By the module that a program imports to have the class, and its name there.
_MODULE_CLASSES: Dict[Tuple[str, str], Named] = {
    **_PATHS, **_ADDRESSES, **_DATEUTIL,
    ('dateutil.zoneinfo', 'tzfile'): _DATEUTIL['dateutil.tz', 'tzfile'],
    ('array', 'array'): Named('array.array+bytes', _dump_array, _load_array),
    ('builtins', 'slice'): Named('builtins.slice+parts', lambda part: _if_plain([part.start, part.stop, part.step]),
                                 _load_slice),
    ('datetime', 'timezone'): Named('datetime.timezone+parts', _dump_timezone, _of_offset),
    ('zoneinfo', 'ZoneInfo'): Named('zoneinfo.ZoneInfo+key', _dump_zoneinfo, _of_key),
}
SINGLE: Dict[type, Named] = {
    type(...): Named('builtins.Ellipsis+nil', lambda _: None, lambda _: ...),
    type(NotImplemented): Named('builtins.NotImplemented+nil', lambda _: None, lambda _: NotImplemented),
}


def found(kind: type) -> Optional[Named]:
    """Return what stores objects of a class; None for a subclass, and for any other."""
    package, name = kind.__module__.partition('.')[0], kind.__qualname__
    if package == 'pytz':
        return _found_pytz(kind)
    if package == 'builtins' and issubclass(kind, BaseException):
        return _ERROR
    for module in (package, kind.__module__, f'{package}.tz'):
        known = _MODULE_CLASSES.get((module, name))
        if known and getattr(sys.modules.get(module), name, None) is kind:
            return known
    return SINGLE.get(kind)


def _found_pytz(kind: type) -> Optional[Named]:
    if kind.__qualname__ in ('UTC', '_FixedOffset'):
        return _PYTZ_UTC if kind.__qualname__ == 'UTC' else _PYTZ_OFFSET
    return _PYTZ if kind.__module__ == 'pytz.tzfile' and issubclass(kind, tzinfo) else None


def _module_encoder(package: str, kind: type) -> Encoder:
    """Return the encoder of a class of these modules; pickle's for a subclass, and for any other."""
    known = found(kind)
    return (PICKLE, left_to_pickle) if known is None else (REGISTERED, known.encoded)


NAMED_TYPES = Provider((*_MODULE_CLASSES.values(), *SINGLE.values(), _ERROR, _PYTZ, _PYTZ_OFFSET, _PYTZ_UTC),
                       _module_encoder)
