"""Modes: the class of a vault that was opened with `validate` or `writeback`. Knows neither stores nor keys.

A mode is a layer right above Vault: what a user's class overrides stays on top of it.
"""
from __future__ import annotations

from ._typing import TYPE_CHECKING, K, V
from .vault import Vault
from .views import pairs_of

if TYPE_CHECKING:
    from typing import Any, Dict, Iterator, Tuple, Type

    from .place import Check


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


class ValidatingVault(Vault[K, V]):
    """A vault with `validate`, or a section with that or `value_type`: they are called before each write."""

    __slots__ = ()
    _validate: Check

    def __setitem__(self, key: Any, value: Any) -> None:
        if type(key) is not slice:
            self._validate(key, value)
        super().__setitem__(key, value)

    def put_many(self, pairs: Any) -> int:
        return super().put_many(self._validated(pairs_of(pairs, {})))

    def _validated(self, pairs: Iterator[Tuple[Any, Any]]) -> Iterator[Tuple[Any, Any]]:
        for key, value in pairs:
            self._validate(key, value)
            yield key, value
