"""Parts: values in parts, out of a store and into a vault, a leaf at a time. Knows what each kind of them holds."""
from __future__ import annotations

from ..codecs import codes, packing
from ..collections.dtype import type_of
from ..collections.stream import FARTHEST, LEAF
from ..collections.tree import Gone, Head, Tree, misfit, missing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Iterator, List, Tuple

    from ..stores.base import Store
    from ..vault import Vault
    from .incoming import Incoming
    from .packed import Parts

PART_KINDS = {codes.LIST: 'list', codes.COLUMN: 'column', codes.STREAM: 'stream'}


def runs(store: Store, head: Head) -> Iterator[Tuple[List[bytes], int]]:
    """Yield the content of a value in parts, a leaf at a time: packed items, or one piece of bytes; and how many.

    Raises: VaultCorruptError. To be read in one transaction.
    """
    tree = Tree(store, head)
    try:
        for number, start, stop in tree.leaves(head.skip, head.inside):
            if number or head.code != codes.STREAM:
                yield _content(head, tree.part(number), stop - start, max(head.skip - start, 0))
            else:
                yield from _zeros(start, stop)
    except Gone:
        raise missing('the value') from None
    if head.size + head.skip > head.inside:
        yield _content(head, head.tail, head.size + head.skip - head.inside, 0)


def _zeros(start: int, stop: int) -> Iterator[Tuple[List[bytes], int]]:
    """Yield a hole of a stream in leaves. Raises: VaultCorruptError for one that no program has made."""
    if stop - start > FARTHEST:
        raise misfit()
    for at in range(start, stop, LEAF):
        size = min(LEAF, stop - at)
        yield [bytes(size)], size


def _content(head: Head, run: bytes, count: int, skip: int) -> Tuple[List[bytes], int]:
    """Return what is in a run of so many items, but the first ones that are to be skipped."""
    if head.code != codes.LIST:
        width = type_of(head.meta).size if head.code == codes.COLUMN else 1
        if len(run) != count * width:
            raise misfit()
        return [run[skip * width:]], count - skip
    try:
        ends = packing.offsets(run, count)
    except codes.MALFORMED as error:
        packing.undecodable(error)
    return [run[start:stop] for start, stop in zip(ends[skip:], ends[skip + 1:])], count - skip


def put_parts(vault: Vault[Any, Any], key: Any, parts: Parts, incoming: Incoming) -> None:
    """Make a value in parts of what comes in."""
    if parts.kind == 'stream':
        with vault.open(key, 'wb', buffering=0) as file:
            for run in parts.runs:
                file.write(run.data)
        return
    empty = Head(codes.LIST if parts.kind == 'list' else codes.COLUMN, parts.meta)
    made = empty.opened(vault, key)
    made._make(empty)

    def fill(_: Head, change: Any) -> None:
        for run in parts.runs:
            plain = parts.kind == 'column' or incoming.goes_as_it_is(run)
            pieces = made._items.pieces(run.data, run.count) if plain else made._packed(run.items(incoming.source))
            for data, count in pieces:
                change.append(data, count)
    made._change(fill)
