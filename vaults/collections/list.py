"""Lists that live in a vault: any values, one after another. Knows neither SQL nor how keys are stored."""
from __future__ import annotations

from .._typing import TYPE_CHECKING, T, overload
from .kind import SequenceKind, register_kind
from .packed import PackedSequence

if TYPE_CHECKING:
    from typing import Any, ClassVar, SupportsIndex, Union
    from typing import List as PlainList

    from ..place import Place


class ListKind(SequenceKind):
    """Lists. Safe in any thread."""

    def title(self, meta: Any) -> str:
        return 'a list made by list()'


class List(PackedSequence[T]):
    """A list that lives in a vault: v.list(key). Its items are any values that a vault stores.

    >>> import vaults
    >>> v = vaults.Vault(':memory:')
    >>> log = v.list('log')
    >>> log.append({'event': 'started'})
    >>> v['log'].extend(['a', 'b'])
    >>> v['log'][1:]
    ['a', 'b']

    Each call is a transaction of its own. Items are copies: to change one, assign it again. Appending, access by
    index and popping at both ends take the same time at any length; inserting and deleting rewrite a few chunks. Safe
    in any thread and any number of processes.
    """

    __slots__ = ()
    kind: ClassVar[ListKind]
    plain_type = list

    if TYPE_CHECKING:
        @overload
        def __getitem__(self, index: SupportsIndex) -> T: ...
        @overload
        def __getitem__(self, index: slice) -> PlainList[T]: ...
        def __getitem__(self, index: Any) -> Any: ...
        def copy(self) -> PlainList[T]: ...
        def __add__(self, other: Union[PlainList[T], List[T]]) -> PlainList[T]: ...
        def __radd__(self, other: PlainList[T]) -> PlainList[T]: ...
        def __mul__(self, times: int) -> PlainList[T]: ...
        def __rmul__(self, times: int) -> PlainList[T]: ...
        def __lt__(self, other: Union[PlainList[T], List[T]]) -> bool: ...
        def __le__(self, other: Union[PlainList[T], List[T]]) -> bool: ...
        def __gt__(self, other: Union[PlainList[T], List[T]]) -> bool: ...
        def __ge__(self, other: Union[PlainList[T], List[T]]) -> bool: ...


register_kind(ListKind('list', List))


def list_at(place: Place, key: Any) -> List[Any]:
    """Return the live list at `key`, made if there is nothing. Raises: TypeError when there is something else."""
    return List.kind.at(place, key)  # type: ignore[no-any-return]  # what a kind makes is its class's
