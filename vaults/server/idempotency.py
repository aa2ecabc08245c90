"""Idempotency: what a write was answered, kept with what it wrote, so that who asks again does not do it again.

It is a chunk of an owner that belongs to no entry: the end of a day, and a name. So it is written in the transaction
that it is about, whatever engine keeps the vault; and `compact` sweeps it as it does all that nobody needs. Clients
neither see nor touch it.
"""
from __future__ import annotations

import time
from hashlib import blake2b
from weakref import WeakKeyDictionary

from msgpack import packb, unpackb

from ..errors import VaultValueError
from ..stores.base import OWNER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, MutableMapping, Optional, TypeVar

    from ..stores.base import Store

    T = TypeVar('T')

RESERVED = b'idempote'      # persisted, as what an owner of ours ends with; before it stands the end of its day
SECONDS = 24 * 60 * 60      # that an answer is kept at least

swept: MutableMapping[Store, int] = WeakKeyDictionary()     # for which day it was last looked for old ones


class ReusedKeyError(VaultValueError):
    """An idempotency key came again with another request. It is answered with 422."""


def is_reserved(owner: bytes) -> bool:
    """Tell whether an owner of chunks is one of ours, which no client may know of."""
    return len(owner) == OWNER and owner.endswith(RESERVED)


def in_block(store: Store, operation: Callable[[], T]) -> T:
    """Return what `operation()` does in a block of its own: what is acknowledged is kept.

    `Store.transact` is a write of its own to an engine that writes its file at the end of blocks alone.
    """
    store.begin(operation)
    try:
        result = operation()
    except BaseException:
        store.rollback(operation)
        raise
    store.commit(operation)
    return result


def known(store: Store, key: str, digest: bytes) -> Optional[bytes]:
    """Return what the request with this key was answered, or None. It is to be asked in the write's transaction.

    Raises: ReusedKeyError when the request was another one.
    """
    number, today = _number_of(key), _day()
    for day in (today, today - 1):
        found = store.get_chunk(_owner_of(day), number)
        if found is not None:
            its_key, its_digest, answer = unpackb(found)
            if (its_key, its_digest) != (key, digest):
                raise ReusedKeyError('the idempotency key was used for another request: each has a new one')
            return answer  # type: ignore[no-any-return]  # `note` packed it
    return None


def note(store: Store, key: str, digest: bytes, answer: bytes) -> None:
    """Keep what a request was answered, for a day at least; in the write's transaction, which `known` has seen."""
    day = _day()
    if swept.get(store) != day:
        sweep_answers(store, day)
        swept[store] = day
    store.put_chunks(_owner_of(day), [(_number_of(key), packb([key, digest, answer]))])


def sweep_answers(store: Store, day: int) -> None:
    """Remove what is older than the day before."""
    for owner in [owner for owner in store.chunk_owners() if is_reserved(owner) and owner < _owner_of(day - 1)]:
        store.delete_chunks(owner)


def _day() -> int:
    return int(time.time()) // SECONDS


def _owner_of(day: int) -> bytes:
    return ((day + 1) * SECONDS).to_bytes(OWNER - len(RESERVED), 'big') + RESERVED


def _number_of(key: str) -> int:
    return int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), 'big') >> 1
