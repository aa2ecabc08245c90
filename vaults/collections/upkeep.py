"""Upkeep: are all chunks of a value there and sound, and which belong to nothing. Knows the store, and no kind."""
from __future__ import annotations

import time
from contextlib import suppress

from ..codecs import codes
from ..codecs.codes import is_header
from ..errors import VaultCorruptError
from ..keys import named
from ..stores.base import entries_of
from .kind import kind_of
from .tree import STAGED, Header, StaleRead, Tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional, Set

    from ..codecs.packing import Codec
    from ..keys import Stored
    from ..stores.base import Store

DAY = 86_400        # seconds after which what a killed writer has left is anybody's to remove


def examined(store: Store, codec: Codec, key: Stored, data: bytes) -> Optional[str]:
    """Return what is wrong with a value in chunks, or None. Reads all of it."""
    while True:
        try:
            _examine(store, codec, Header.of(data))
            return None
        except StaleRead:
            changed = store.get(key)
            if changed == data:
                return f'key {named(key)}: a chunk of the value is missing'
            if changed is None or not is_header(changed):
                return None  # it was replaced as we looked
            data = changed
        except codes.MALFORMED as error:
            return f'key {named(key)}: {error}'


def _examine(store: Store, codec: Codec, header: Header) -> None:
    kind, tree = kind_of(header), Tree(store, header)
    for number, start, stop in tree.leaves(0, header.inside):
        if number or not kind.has_holes:
            _require(kind.is_sound(header, tree.chunk(number), stop - start, codec))
    _require(kind.is_sound(header, header.tail, header.size + header.skip - header.inside, codec))


def _require(is_sound: bool) -> None:
    if not is_sound:
        raise VaultCorruptError('the chunks of a value do not fit together')


def sweep(store: Store) -> None:
    """Delete the chunks that belong to no entry: those of streams whose writers were killed, a day ago or more.

    Only where all can be read is it known what is of no use.
    """
    if not any(True for _ in store.chunk_owners()):
        return
    old = int(time.time()) - DAY

    def remove() -> None:
        owners: Set[bytes] = set()
        for header in (Header.of(data) for _, data in entries_of(store.scan()) if is_header(data)):
            owners.add(header.owner)
            if kind_of(header).is_staged:
                _sweep_staged(store, header, old)
        for owner in list(store.chunk_owners()):
            if type(owner) is bytes and owner not in owners and 0 < int.from_bytes(owner[:4], 'big') < old:
                store.delete_chunks(owner)
    with suppress(VaultCorruptError):
        store.transact(remove)


def _sweep_staged(store: Store, header: Header, old: int) -> None:
    """Delete what writers that went on with a value have left, under numbers that tell the time."""
    staged = [number for number in store.chunk_numbers(header.owner) if STAGED < number < old * STAGED]
    if staged:
        with suppress(StaleRead):  # it is damaged, which check() tells
            Tree(store, header).free_unused(staged)
