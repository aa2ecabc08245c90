"""Generic base classes without `import typing`, which alone would take as long as the rest of `import vaults`.

Type checkers read the first half; at run time the second half makes `Vault[str, int]` mean `Vault`.
"""
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import ItemsView, KeysView, Mapping, MutableMapping, ValuesView
    from typing import Any, overload

    from typing_extensions import TypeVar  # for type checkers alone, which bring it

    K = TypeVar('K', default=Any)
    V = TypeVar('V', default=Any)
    T = TypeVar('T')
    K_co = TypeVar('K_co', covariant=True, default=Any)
    V_co = TypeVar('V_co', covariant=True, default=Any)
else:
    from collections import abc

    K = V = T = K_co = V_co = object

    def overload(function):
        """Stand in for typing.overload, which does nothing at run time either."""
        return function

    def _subscriptable(base):
        itself = classmethod(lambda cls, _: cls)
        return type(base)(base.__name__, (base,), {'__slots__': (), '__class_getitem__': itself})

    Mapping, MutableMapping = _subscriptable(abc.Mapping), _subscriptable(abc.MutableMapping)
    KeysView, ValuesView, ItemsView = map(_subscriptable, (abc.KeysView, abc.ValuesView, abc.ItemsView))

__all__ = ['TYPE_CHECKING', 'ItemsView', 'K', 'K_co', 'KeysView', 'Mapping', 'MutableMapping', 'T', 'V', 'V_co',
           'ValuesView', 'overload']
