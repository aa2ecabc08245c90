"""Generic base classes without `import typing`, which alone would take as long as the rest of `import vaults`.

Type checkers read the first half; at run time the second half makes `Vault[str, int]` mean `Vault`.
"""
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import ItemsView, KeysView, Mapping, MutableMapping, MutableSequence, ValuesView
    from typing import Any, Generic, final, overload

    from typing_extensions import Self, TypeVar  # for type checkers alone, which bring it

    K = TypeVar('K', default=Any)
    V = TypeVar('V', default=Any)
    T = TypeVar('T')
    K_co = TypeVar('K_co', covariant=True, default=Any)
    V_co = TypeVar('V_co', covariant=True, default=Any)
else:
    from collections import abc

    K = V = T = K_co = V_co = Self = object

    def overload(function):
        """Stand in for typing.overload, and for typing.final, which do nothing at run time either."""
        return function

    final = overload

    class _Base:
        """Stands for a base class: subscripted it is that class. Deriving from each instead takes 0.3 ms."""

        def __init__(self, cls):
            self.cls = cls

        def __getitem__(self, _):
            return self.cls

    Mapping, MutableMapping, MutableSequence = map(_Base, (abc.Mapping, abc.MutableMapping, abc.MutableSequence))
    KeysView, ValuesView, ItemsView = map(_Base, (abc.KeysView, abc.ValuesView, abc.ItemsView))
    Generic = _Base(object)

__all__ = ['TYPE_CHECKING', 'Generic', 'ItemsView', 'K', 'K_co', 'KeysView', 'Mapping', 'MutableMapping',
           'MutableSequence', 'Self', 'T', 'V', 'V_co', 'ValuesView', 'final', 'overload']
