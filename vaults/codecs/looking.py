"""Looking: whether a packed value that somebody else has made can be read in every part, and whether it has a pickle.

Makes no object of a user's class, runs nothing, and leaves alone what may be unknown here alone: classes, arrays, time
zones, codes of a newer version.
"""
from __future__ import annotations

from datetime import datetime, time

from msgpack import ExtType, StackError, unpackb

from . import codes
from .deep import loaded, unpacked
from .types import DECODERS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

WHOLE = codes.CHUNKED | {codes.SERIALIZED}  # codes of what is a whole value and no part of one


def look_through(data: bytes, met_pickle: Callable[[], object] = lambda: None) -> None:
    """Look at every part of a packed value; `met_pickle` is called, and may raise, when one is a pickle.

    Raises: what MALFORMED has, or TooDeep, where it cannot be read.
    """
    _Look(met_pickle).through(data)


class _Look:
    """A look at one packed value. For one thread."""

    def __init__(self, met_pickle: Callable[[], object]) -> None:
        self._met_pickle, self._depth = met_pickle, 0

    def through(self, data: bytes) -> Any:
        if self._depth > codes.MAX_EXT_DEPTH:
            raise codes.TooDeep
        self._depth += 1
        try:
            return unpackb(data, ext_hook=self._part, strict_map_key=False)
        except StackError:
            return unpacked(data, self._part)
        finally:
            self._depth -= 1

    def _part(self, code: int, payload: bytes) -> Any:
        return self._typed(code, payload, self.through)

    def _typed(self, code: int, payload: bytes, inner: Callable[[bytes], Any]) -> Any:
        if code in WHOLE:
            raise ValueError(f'the code {code} stands for a whole value')
        if code == codes.PICKLE:
            self._met_pickle()
        elif code == codes.DEEP:
            return loaded(payload, self._part, dict, lambda code, part: self._typed(code, b'', lambda _: part))
        elif code == codes.REGISTERED:
            name, _ = inner(payload)
            if not isinstance(name, str):
                raise ValueError(f'{name!r} is no name of a type')
        elif code in (codes.NDARRAY, codes.NUMPY_SCALAR):
            inner(payload)
        elif code in (codes.DATETIME, codes.TIME):
            return self._moment(code, payload, inner)
        elif code in DECODERS:
            return DECODERS[code](payload, inner)
        return ExtType(code, payload)

    def _moment(self, code: int, payload: bytes, inner: Callable[[bytes], Any]) -> Any:
        text, fold, zone = inner(payload)
        kind: Any = datetime if code == codes.DATETIME else time
        kind.fromisoformat(text).replace(fold=fold)
        if isinstance(zone, list):
            DECODERS[code](payload, inner)
        elif not isinstance(zone, (str, type(None))) and getattr(zone, 'code', None) != codes.REGISTERED:
            raise ValueError(f'{zone!r} is no time zone')
        return ExtType(code, payload)
