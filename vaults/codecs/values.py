"""Values: the names that tests.py takes from here, until it takes them from where they are."""
# ruff: noqa: F401, F403
from __future__ import annotations

import sys

from . import registry, types
from .arrays import writable
from .codes import *
from .codes import TooDeep
from .packing import Codec
from .pickles import Refusing, Unread, rule
from .pickling import PROVEN_SIZE
from .pickling import proven as _proven
from .registry import by_class as _by_class
from .registry import by_name as _by_name
from .registry import live_types, register
from .standalone import dumps, loads, loads_many
from .types import DECODERS

__test__ = {function.__name__: function for function in (register, dumps, loads, loads_many)}
__all__ = [name for name in globals() if not name.startswith('__')]


class _Patched(type(sys)):  # type: ignore[misc]
    def __setattr__(self, name: str, value: object) -> None:
        for module in (registry, types):
            if hasattr(module, name[1:]):
                setattr(module, name[1:], value)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Patched
