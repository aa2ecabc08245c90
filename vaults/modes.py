"""Modes: the class of a vault that was opened with `writeback`. Knows neither stores nor keys.

A mode is a layer right above Vault: what a user's class overrides stays on top of it.
"""
from __future__ import annotations

from ._typing import TYPE_CHECKING
from .vault import Vault

if TYPE_CHECKING:
    from typing import Any, Dict, Tuple, Type

_classes: Dict[Tuple[Type[Any], ...], Type[Any]] = {}


class _Quiet:
    """Comes before a user's class, whose __init_subclass__ is not meant for the class of one in another mode."""

    __slots__ = ()

    def __init_subclass__(cls) -> None:
        pass


def layered(cls: Type[Any], *layers: Type[Any]) -> Type[Any]:
    """Return the class of a `cls` with these layers, the first on top, above those that it has."""
    bare = cls.__dict__.get('_bare', cls)
    both = tuple(dict.fromkeys((*layers, *cls._layers)))
    if both and (bare, *both) not in _classes:
        bases = both if bare is Vault else (_Quiet, bare, *both)
        _classes[(bare, *both)] = type(bare.__name__, bases, {'__slots__': (), '__module__': bare.__module__,
                                                              '_bare': bare, '_layers': both})
    return _classes[(bare, *both)] if both else bare
