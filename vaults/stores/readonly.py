"""ReadOnlyStore: a store before another one, which refuses all that would change it. Knows the contract alone."""
from __future__ import annotations

from ..errors import VaultReadOnlyError
from ..keys import HIGHEST, LOWEST
from .base import StoreBefore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Iterable, Iterator, List, NoReturn, Optional, Sequence, Tuple, TypeVar

    from ..keys import Stored
    from .base import Cursor, Page, Progress, Store

    T = TypeVar('T')


class ReadOnlyStore(StoreBefore):
    """Reads what another store has. Safe in any thread, as that one is."""

    def __init__(self, store: Store, name: str) -> None:
        self._store, self._name = store, name

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise VaultReadOnlyError(f"it can only be read: vault {self._name}; open it without flag='r'")

    put = put_new = put_many = delete = delete_if = delete_many = delete_range = move = _refuse
    put_chunks = delete_chunks = put_owner = put_owner_if = free_chunks = sync = compact = destroy = _refuse

    def get(self, key: Stored) -> Optional[bytes]:
        return self._store.get(key)

    def glance(self, key: Stored, most: int) -> Tuple[int, Optional[bytes]]:
        return self._store.glance(key, most)

    def held(self, key: Stored) -> Optional[Tuple[object]]:
        return self._store.held(key)

    def contains(self, key: Stored) -> bool:
        return self._store.contains(key)

    def get_many(self, keys: Sequence[Stored]) -> Iterable[Optional[bytes]]:
        return self._store.get_many(keys)

    def contains_many(self, keys: Sequence[Stored]) -> Iterable[bool]:
        return self._store.contains_many(keys)

    def count(self, low: Stored = LOWEST, high: Stored = HIGHEST) -> int:
        return self._store.count(low, high)

    def count_up_to(self, most: int, low: Stored = LOWEST, high: Stored = HIGHEST) -> int:
        return self._store.count_up_to(most, low, high)

    def scan(self, low: Stored = LOWEST, high: Stored = HIGHEST, *, by_key: bool = False, reverse: bool = False,
             values: bool = True) -> Iterator[Page]:
        return self._store.scan(low, high, by_key=by_key, reverse=reverse, values=values)

    def page(self, low: Stored = LOWEST, high: Stored = HIGHEST, *, by_key: bool = False, reverse: bool = False,
             values: bool = True, cursor: Optional[Cursor] = None) -> Tuple[Page, Optional[Cursor]]:
        return self._store.page(low, high, by_key=by_key, reverse=reverse, values=values, cursor=cursor)

    def ends(self, cursor: Optional[Cursor]) -> Tuple[int, int, Optional[int], Optional[Stored]]:
        return self._store.ends(cursor)

    def span(self) -> Tuple[int, int]:
        return self._store.span()

    def alive(self, key: Stored, id: int) -> bool:
        return self._store.alive(key, id)

    def get_both(self, key: Stored, owner: bytes, number: int) -> Tuple[Optional[bytes], Optional[bytes]]:
        return self._store.get_both(key, owner, number)

    def begin(self, who: object = None) -> None:
        self._store.begin(who)

    def commit(self, who: object = None) -> None:
        self._store.commit(who)

    def rollback(self, who: object = None) -> None:
        self._store.rollback(who)

    def transact(self, operation: Callable[[], T]) -> T:
        return self._store.transact(operation)

    def once(self, operation: Callable[[], T]) -> T:
        return self._store.once(operation)

    def ended(self) -> None:
        self._store.ended()

    def others_wrote(self) -> bool:
        return self._store.others_wrote()

    def refuse_others(self) -> None:
        self._store.refuse_others()

    def close(self) -> None:
        self._store.close()

    def check(self, examine: Callable[[Stored, bytes], Optional[str]], progress: Progress = None) -> List[str]:
        return self._store.check(examine, progress)

    def backup(self, path: str, progress: Progress = None) -> None:
        self._store.backup(path, progress)
