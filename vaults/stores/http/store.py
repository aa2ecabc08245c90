"""The HTTP store: the verbs of the contract, asked of a server. Knows no Python values, and nothing of HTTP.

A verb outside of a block is one request, and a transaction of its own at the server.
"""
from __future__ import annotations

from contextlib import suppress

from ...errors import SerializationError, VaultNotFoundError, VaultReadOnlyError
from ...keys import HIGHEST, LOWEST
from ..base import OWNER, entries_of
from .asking import ANSWER_PATIENCE, LONG_PATIENCE, RefusedVerb
from .blocks import WithHttpBlocks, new_key
from .wire import KEYS_OF_REQUEST, digest_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Sequence, Tuple

    from ...keys import Stored
    from ..base import Cursor, Entry, Page, Progress
    from .asking import ServerAsking

ENTRIES_BETWEEN = 1000  # of two calls of a progress function


class HttpStore(WithHttpBlocks):
    """Entries that a server keeps. Safe in any thread, in any number of processes and machines, and over forks."""

    is_distant = True

    def __init__(self, asking: ServerAsking, facts: Dict[str, Any]) -> None:
        super().__init__(asking)
        self.longest_key, self.numbering = facts['longest_key'], facts['numbering']
        self._facts: Dict[str, object] = facts['facts']
        self._may_write = facts['writable']     # as the server has said last

    # --- asking ---

    def _read(self, *operation: Any, seconds: float = ANSWER_PATIENCE) -> Any:
        session = self.session
        if session is not None:
            return session.ask(*operation, seconds=seconds)
        return self._alone(operation, None, seconds)

    def _write(self, *operation: Any) -> Any:
        session = self.session
        if session is not None:
            session.wrote = True
            return session.ask(*operation, seconds=LONG_PATIENCE)
        return self._alone(operation, new_key(), LONG_PATIENCE)

    def _alone(self, operation: Tuple[Any, ...], key: Optional[str], seconds: float) -> Any:
        if self.is_closed:
            raise self.closed_error()
        try:
            return self.asking.ask((operation,), key, None, seconds)[0]
        except RefusedVerb as refused:
            raise refused.error from None

    def _require_short(self, key: Stored) -> None:
        """Raise for a key that is too long for the engine at the server: nothing may fail late that can fail here."""
        if self.longest_key is not None and isinstance(key, (str, bytes)) and (
                len(key.encode() if isinstance(key, str) else key) > self.longest_key):
            raise SerializationError(f'a key has at most {self.longest_key} bytes there, unlike {key[:40]!r}...: vault '
                                     f'{self.name}; use a shorter one, such as its hash')

    # --- reading ---

    def get(self, key: Stored) -> Optional[bytes]:
        return self._read('get', key)  # type: ignore[no-any-return]  # as below, what the server says

    def glance(self, key: Stored, most: int) -> Tuple[int, Optional[bytes]]:
        size, data = self._read('glance', key, most)
        return size, data

    def contains(self, key: Stored) -> bool:
        return bool(self._read('contains', key))

    def get_many(self, keys: Sequence[Stored]) -> Sequence[Optional[bytes]]:
        return self._portions(('get_many',), keys)

    def contains_many(self, keys: Sequence[Stored]) -> Sequence[bool]:
        return self._portions(('contains_many',), keys)

    def _portions(self, verb: Tuple[Any, ...], wanted: Sequence[Any]) -> List[Any]:
        """Return what is found of each; an answer may hold fewer than were asked for, where they are large."""
        found: List[Any] = []
        while len(found) < len(wanted):
            found += self._read(*verb, *wanted[len(found):len(found) + KEYS_OF_REQUEST])
        return found

    def count(self, low: Stored = LOWEST, high: Stored = HIGHEST) -> int:
        return int(self._read('count', low, high))

    def count_up_to(self, most: int, low: Stored = LOWEST, high: Stored = HIGHEST) -> int:
        return int(self._read('count_up_to', most, low, high))

    def scan(self, low: Stored = LOWEST, high: Stored = HIGHEST, *, by_key: bool = False, reverse: bool = False,
             values: bool = True) -> Iterator[Page]:
        session = self.session
        began = session.epochs.at(len(session.blocks)) if session is not None else None
        cursor: Optional[Cursor] = None
        while True:
            page, cursor = self.page(low, high, by_key=by_key, reverse=reverse, values=values, cursor=cursor)
            if page[0]:
                yield page
            del page  # who waits in a walk holds none
            if began is not None:
                began.require(self.name)
            if cursor is None:
                return

    def page(self, low: Stored = LOWEST, high: Stored = HIGHEST, *, by_key: bool = False, reverse: bool = False,
             values: bool = True, cursor: Optional[Cursor] = None) -> Tuple[Page, Optional[Cursor]]:
        keys, datas, ids, following = self._read('page', low, high, by_key, reverse, values, *(cursor or ()))
        return (keys, datas, ids), following and tuple(following)

    def span(self) -> Tuple[int, int]:
        first, last = self._read('span')
        return first, last

    def alive(self, key: Stored, id: int) -> bool:
        return bool(self._read('alive', key, id))

    # --- writing ---

    def put(self, key: Stored, data: bytes) -> None:
        self._require_short(key)
        session = self.session
        if session is not None:
            session.put(key, data)
        else:
            self._write('put', key, data)

    def put_new(self, key: Stored, data: bytes) -> Optional[bytes]:
        self._require_short(key)
        if self.session is None:
            return self._write('put_new', key, data)  # type: ignore[no-any-return]
        there = self.get(key)
        if there is None:
            self.put(key, data)  # with what is next
        return there

    def put_many(self, pairs: Iterable[Entry]) -> int:
        return self.once(lambda: self._put_all(pairs))

    def _put_all(self, pairs: Iterable[Entry]) -> int:
        done = 0
        for key, data in pairs:
            self.put(key, data)
            done += 1
        return done

    def delete(self, key: Stored) -> bool:
        self.deletions += 1
        return bool(self._write('delete', key))

    def delete_if(self, key: Stored, known: bytes) -> bool:
        self.deletions += 1
        return bool(self._write('delete_if', key, digest_of(known)))

    def delete_many(self, keys: Sequence[Stored]) -> Sequence[bool]:
        def delete() -> List[bool]:
            gone: List[bool] = []
            for at in range(0, len(keys), KEYS_OF_REQUEST):
                gone += self._write('delete_many', *keys[at:at + KEYS_OF_REQUEST])
            return gone
        self.deletions += 1
        return delete() if len(keys) <= KEYS_OF_REQUEST else self.once(delete)

    def delete_range(self, low: Stored = LOWEST, high: Stored = HIGHEST) -> int:
        self.deletions += 1
        return int(self._write('delete_range', low, high))

    def move(self, key: Stored, last: bool = True) -> bool:
        self.deletions += 1
        return bool(self._write('move', key, last))

    # --- chunks ---

    def get_chunk(self, owner: bytes, number: int) -> Optional[bytes]:
        return self._read('get_chunk', owner, number)  # type: ignore[no-any-return]

    def get_chunks(self, owner: bytes, numbers: Sequence[int]) -> Sequence[Optional[bytes]]:
        return self._portions(('get_chunks', owner), numbers)

    def get_both(self, key: Stored, owner: bytes, number: int) -> Tuple[Optional[bytes], Optional[bytes]]:
        data, chunk = self._read('get_both', key, owner, number)
        return data, chunk

    def put_chunks(self, owner: bytes, chunks: Iterable[Tuple[int, bytes]]) -> None:
        def put() -> None:
            for number, data in chunks:
                self._later('put_chunks', owner, number, data)
        self.once(put)

    def _later(self, *operation: Any) -> None:
        """Have it done with what is next in the block that is open, or outside of one now."""
        session = self.session
        if session is not None:
            session.later(*operation)
        else:
            self._write(*operation)

    def delete_chunks(self, owner: bytes, numbers: Optional[Iterable[int]] = None) -> None:
        if numbers is None:
            self._later('delete_all_chunks', owner)
        else:
            self._later('delete_chunks', owner, *numbers)

    def chunk_numbers(self, owner: bytes) -> Iterator[int]:
        after = -1
        while True:
            numbers = self._read('chunk_numbers', owner, after)
            if not numbers:
                return
            yield from numbers
            after = numbers[-1]

    def chunk_owners(self) -> Iterator[bytes]:
        after = b''
        while True:
            owners = self._read('chunk_owners', after)
            if not owners:
                return
            yield from owners
            after = owners[-1]

    def put_owner(self, key: Stored, data: bytes) -> None:
        self._require_short(key)
        self._later('put_owner', key, data)

    def put_owner_if(self, key: Stored, known: bytes, data: bytes) -> bool:
        return bool(self._write('put_owner_if', key, known, data))

    # --- the whole ---

    def sync(self) -> None:
        self.require_outside('sync')
        self._alone(('sync',), None, LONG_PATIENCE)

    def compact(self, progress: Progress = None) -> None:
        self.require_outside('compact')
        self._alone(('compact',), None, LONG_PATIENCE)

    def check(self, examine: Callable[[Stored, bytes], Optional[str]], progress: Progress = None) -> List[str]:
        """Return what the server finds wrong, and what `examine` says here of each entry."""
        total, done = self.count(), 0
        found = [str(problem) for problem in self._alone(('check',), None, LONG_PATIENCE)]
        for keys, datas, _ in self.scan():
            found += [problem for problem in map(examine, keys, datas) if problem]
            done += len(keys)
            if progress:
                progress(done, total)
        return found

    def backup(self, path: str, progress: Progress = None) -> None:
        """Write a copy of one state, which a block has to itself: others wait to write until it is there."""
        from ..copying import write_backup  # here: most programs make none
        self.require_outside('backup')
        self.once(lambda: write_backup(self, self._marked_entries(), path, progress, most=0o600))

    def _marked_entries(self) -> Iterator[Tuple[Stored, bytes, bool]]:
        """Yield all entries in their order, each with whether it is kept in chunks: those end with their owner."""
        owners = set(self.chunk_owners())
        for key, data in entries_of(self.scan()):
            yield key, data, data[-OWNER:] in owners

    def require_writable(self) -> None:
        if not self._may_write:  # it may have been granted since
            self._require_right()

    def require_own(self) -> None:
        with suppress(VaultNotFoundError):  # it is deleted already
            self._require_right()

    def _require_right(self) -> None:
        self._may_write = self.asking.tell('may_write')
        if not self._may_write:
            raise VaultReadOnlyError(f'the token may only read this vault: vault {self.name}; have whoever runs the '
                                     'server grant it the right to write')

    def destroy(self) -> None:
        self.asking.drop()

    def describe(self) -> Dict[str, object]:
        facts = self._facts if self.is_closed else self._read('describe')['facts']
        return {**facts, 'engine': 'http', 'served': facts['engine']}
