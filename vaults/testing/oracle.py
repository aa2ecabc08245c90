"""Oracle: what an engine is compared with, the contract in the plainest way, and the random operations for both."""
from __future__ import annotations

from hypothesis import strategies as st

from .._typing import TYPE_CHECKING
from ..keys import HIGHEST, LOWEST, encode, order
from ..stores.base import OWNER

if TYPE_CHECKING:
    from typing import Any, Dict, Iterable, List, Optional, Sequence, Tuple

    from ..keys import Stored
    from ..stores.base import Entry

SOME_OWNERS = [b'owner%7d' % number for number in range(3)]
KEYS = st.one_of(st.booleans(), st.integers(-5, 5), st.floats(-3, 3), st.sampled_from('abc'),
                 st.binary(max_size=2).map(encode))
VALUES = st.binary(max_size=4)
OPERATIONS = st.lists(st.one_of(
    st.tuples(st.just('put'), KEYS, VALUES), st.tuples(st.just('delete'), KEYS),
    st.tuples(st.just('put_new'), KEYS, VALUES),
    st.tuples(st.just('delete_if'), KEYS, VALUES | st.sampled_from(SOME_OWNERS)),
    st.tuples(st.just('move'), KEYS, st.booleans()),
    st.tuples(st.just('delete_range'), KEYS, KEYS), st.tuples(st.just('delete_range')),
    st.tuples(st.just('put_many'), st.lists(st.tuples(KEYS, VALUES), max_size=4)),
    st.tuples(st.just('delete_many'), st.lists(KEYS, max_size=4)),
    st.tuples(st.just('put_owner'), KEYS, st.sampled_from(SOME_OWNERS)),
    st.tuples(st.just('put_chunks'), st.sampled_from(SOME_OWNERS), st.dictionaries(st.integers(1, 2**40), VALUES)),
    st.tuples(st.just('delete_chunks'), st.sampled_from(SOME_OWNERS),
              st.none() | st.lists(st.integers(1, 4), max_size=3)),
    st.tuples(st.sampled_from(['begin', 'commit', 'rollback']))), max_size=25)
WALKS: List[Dict[str, Any]] = [
    {}, {'reverse': True}, {'by_key': True}, {'by_key': True, 'reverse': True}, {'low': 0, 'high': 'b'},
    {'low': 0, 'high': 'b', 'reverse': True}, {'low': 0, 'high': 'b', 'by_key': True}]


class Oracle:
    """The contract's data in the plainest way, right at a glance: dicts, and copies of them to go back to."""

    def __init__(self) -> None:
        self.entries: Dict[Stored, bytes] = {}
        self.owners: Dict[Stored, bytes] = {}
        self.chunks: Dict[Tuple[bytes, int], bytes] = {}
        self.saved: List[Tuple[Any, ...]] = []

    def put(self, key: Stored, data: bytes) -> None:
        self.disown(key)
        self.entries[key] = data

    def put_new(self, key: Stored, data: bytes) -> Optional[bytes]:
        if key in self.entries:
            return self.entries[key]
        self.put(key, data)
        return None

    def disown(self, key: Stored) -> None:
        if key in self.owners:
            self.delete_chunks(self.owners.pop(key))

    def put_many(self, pairs: Iterable[Entry]) -> int:
        pairs = list(pairs)
        for pair in pairs:
            self.put(*pair)
        return len(pairs)

    def delete(self, key: Stored) -> bool:
        self.disown(key)
        return self.entries.pop(key, None) is not None

    def delete_if(self, key: Stored, known: bytes) -> bool:
        return self.entries.get(key) == known and self.delete(key)

    def delete_many(self, keys: Sequence[Stored]) -> List[bool]:
        return list(map(self.delete, keys))

    def delete_range(self, low: Stored = LOWEST, high: Stored = HIGHEST) -> int:
        return sum([self.delete(key) for key in self.within(low, high)])

    def move(self, key: Stored, last: bool = True) -> bool:
        if key not in self.entries:
            return False
        moved = {one: data for one, data in self.entries.items() if one == key}
        others = {one: data for one, data in self.entries.items() if one != key}
        self.entries = {**others, **moved} if last else {**moved, **others}
        return True

    def within(self, low: Stored, high: Stored) -> List[Stored]:
        return [key for key in sorted(self.entries, key=order) if order(low) <= order(key) < order(high)]

    def scan(self, low: Stored = LOWEST, high: Stored = HIGHEST, by_key: bool = False,
             reverse: bool = False) -> List[Entry]:
        found = self.within(low, high)
        found = found if by_key else [key for key in self.entries if key in found]
        return [(key, self.entries[key]) for key in (found[::-1] if reverse else found)]

    def put_owner(self, key: Stored, data: bytes) -> None:
        if self.owners.get(key) != data[-OWNER:]:
            self.disown(key)
        self.entries[key], self.owners[key] = data, data[-OWNER:]

    def put_chunks(self, owner: bytes, chunks: Iterable[Tuple[int, bytes]]) -> None:
        self.chunks.update({(owner, number): data for number, data in chunks})

    def delete_chunks(self, owner: bytes, numbers: Optional[Iterable[int]] = None) -> None:
        self.chunks = {(one, number): data for (one, number), data in self.chunks.items()
                       if one != owner or (numbers is not None and number not in numbers)}

    def chunk_numbers(self, owner: bytes) -> List[int]:
        return sorted(number for one, number in self.chunks if one == owner)

    def chunk_owners(self) -> List[bytes]:
        return sorted({owner for owner, _ in self.chunks})

    def begin(self) -> None:
        self.saved.append((dict(self.entries), dict(self.owners), dict(self.chunks)))

    def commit(self) -> None:
        self.saved.pop()

    def rollback(self) -> None:
        self.entries, self.owners, self.chunks = self.saved.pop()
