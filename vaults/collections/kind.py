"""Kinds: what a value in chunks is, found by what its header says. Knows the table of codes, and none of the kinds.

Each kind is a room of this folder that is called as the kind is, and is imported when one is met; or a class of a
program that has registered it. A kind has the code 'named kind', and stands by its name in the header. Those that were
there before that code have codes of their own.
"""
from __future__ import annotations

from ..codecs import codes, packing, registry
from ..codecs.codes import is_header, no_header
from ..codecs.naming import type_name
from ..errors import SerializationError, VaultError, plural
from .change import Appender
from .leaves import PACKED_ITEMS
from .tree import Header, StaleRead, Tree, inconsistent, missing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Iterable, Iterator, List, Optional, Tuple, Union

    from ..place import Place
    from ..stores.base import Store
    from .leaves import Items

    Content = Tuple[List[bytes], int]                   # the bytes of each item, or of all, and how many items
    Batch = Union[Tuple[bytes, int], List[Any]]         # the bytes of so many items, or objects that are to be packed

_kinds: Dict[str, Kind] = {}


class Kind:
    """What a kind of value in chunks is: here, one whose leaves hold packed values, as a list's. Safe in any thread.

    `name`: of the kind, and of its room. `code`: what its headers have. `cls`: the class of its live objects, if any.
    """

    unit = 'item'           # what its size counts
    is_bytes = False        # its content is bytes, which open() reads, and not items
    is_packed = True        # its leaves hold packed values, not plain bytes
    is_staged = False       # its chunks are written before they belong to an entry
    has_holes = False       # its tree may have the chunk 0, which is none, for so many zeros

    def __init__(self, name: str, cls: Any = None) -> None:
        self.name, self.cls = name, cls
        self.code = next((code for code, other in codes.KIND_NAMES.items() if other == name), codes.NAMED)

    # --- headers ---

    def header(self, meta: Any = None) -> Header:
        """Return the header of an empty one."""
        return Header(self.code, [self.name, meta] if self.code == codes.NAMED else meta)

    def meta(self, header: Header) -> Any:
        """Return what the header says besides the kind."""
        return header.meta[1] if self.code == codes.NAMED else header.meta

    def is_mine(self, header: Header) -> bool:
        """Tell whether a header is one of this kind, as far as can be seen without reading chunks."""
        return (header.code == self.code and header.size + header.skip - header.inside <= len(header.tail)
                and (header.code != codes.NAMED or (_has_name(header.meta) and header.meta[0] == self.name)))

    def title(self, meta: Any) -> str:
        """Return what one is called, with its article."""
        return f'a live {self.name}'

    def describe(self, header: Header, digits: str = '') -> str:
        """Return what one is, and how much of it, for a table; `digits` is the format of numbers."""
        return f'{self.name} of {header.size:{digits}} {plural(header.size, self.unit)}'

    def to_json(self, header: Header) -> Dict[str, Any]:
        """Return the form of a header, as docs/json.md has it."""
        named = self.code == codes.NAMED
        body = [self.name, self.meta(header), header.size] if named else header.size
        return {codes.KIND_TAG if named else f'!{self.name}': body}

    def from_json(self, body: Any) -> Tuple[Any, int]:
        """Return what a header says besides the kind, and the size, of what stands behind the tag, or the name.

        Raises: ValueError and TypeError when it is none.
        """
        meta, size = body if self.code == codes.NAMED else (None, body)
        if not _is_simple(meta):
            raise ValueError(f'{meta!r} is not what a header has')
        return meta, _size_of(size)

    # --- content ---

    def items(self, meta: Any) -> Items:
        """Return how its items lie in a leaf, and how that is cut."""
        return PACKED_ITEMS

    def is_sound(self, header: Header, chunk: bytes, count: int, codec: packing.Codec) -> bool:
        """Tell whether a leaf or tail holds so many items. May raise what MALFORMED has."""
        return len(codec.loads(packing.as_array(chunk, count))) == count

    def content(self, store: Store, header: Header) -> Iterator[Content]:
        """Yield what is in one, a leaf at a time: the bytes of each item, or of all; and how many items.

        To be read in one transaction. Raises: VaultCorruptError.
        """
        tree, items = Tree(store, header), self.items(self.meta(header))
        try:
            for number, start, stop in tree.leaves(header.skip, header.inside):
                if number or not self.has_holes:
                    yield _split(items, tree.chunk(number), stop - start, max(header.skip - start, 0))
                else:
                    yield from self.hole(start, stop)
        except StaleRead:
            raise missing('the value') from None
        if header.size + header.skip > header.inside:
            yield _split(items, header.tail, header.size + header.skip - header.inside, 0)

    def hole(self, start: int, stop: int) -> Iterator[Content]:
        """Yield the zeros of a hole, as `content` does."""
        raise inconsistent()

    def bytes_of(self, store: Store, header: Header) -> int:
        """Return how many bytes the content takes. Reads it all, where the items are of many sizes."""
        return sum(len(item) for items, _ in self.content(store, header) for item in items)

    def count(self, meta: Any, data: bytes) -> int:
        """Return how many items plain bytes are. Raises: ValueError when they are none."""
        raise ValueError(f'the content of {self.title(meta)} is no plain bytes')

    def listed(self, meta: Any, data: bytes) -> List[Any]:
        """Return the items that plain bytes are. Raises: ValueError."""
        raise ValueError(f'the content of {self.title(meta)} is no plain bytes')

    def plain(self, meta: Any, batches: Iterable[Batch]) -> Any:
        """Return a copy in memory of what the batches are, which are lists of objects where items are packed."""
        return [item for batch in batches for item in batch]

    # --- in a vault ---

    def open(self, place: Place, key: Any, header: Header) -> Any:
        """Return what a vault's user gets for it."""
        raise self._unknown()

    def _unknown(self) -> SerializationError:
        return SerializationError(f'the value is of the kind {self.name!r}, which this program does not know: import '
                                  'the module that registers it, or install a newer vaults')

    def at(self, place: Place, key: Any, **options: Any) -> Any:
        """Return the live object at the key, made if there is nothing.

        Raises: TypeError when there is something else, or when these are no options of the kind.
        """
        raise TypeError(f'{self.title(None)} is not made by live()')

    def restore(self, place: Place, key: Any, meta: Any, batches: Iterable[Batch]) -> None:
        """Put one with this content under a key, in one transaction. Objects are packed as the vault's values are."""
        place.allow_chunks(key)
        stored, store = place.keys.encode(key), place.store

        def restore() -> None:
            header = self.header(meta)
            tree = Tree(store, header)
            change = Appender(header, tree, self.items(meta))
            for batch in batches:
                for chunk, count in self._chunks(place, key, meta, batch):
                    change.append(chunk, count)
            tree.save()
            store.put_owner(stored, header.packed())
        store.once(restore)

    def _chunks(self, place: Place, key: Any, meta: Any, batch: Batch) -> Iterator[Tuple[bytes, int]]:
        """Return a batch in chunks that fit leaves."""
        if not isinstance(batch, list):
            return self.items(meta).pieces(*batch)
        try:
            return self.items(meta).pieces(packing.packed_chunk(place.codec, batch), len(batch))
        except VaultError as error:
            raise place.about(error, key) from error

    def assign(self, live: Any, place: Place, key: Any) -> None:
        """Put a copy of a live one under a key; under its own it is there already."""
        raise registry.inside_another()


class SequenceKind(Kind):
    """A kind whose live objects are sequences: `cls(place, key)`. Safe in any thread."""

    def open(self, place: Place, key: Any, header: Header) -> Any:
        return self.knowing(self.cls(place, key), header)

    def knowing(self, live: Any, header: Header) -> Any:
        """Return a live object that knows its header already, lest it be read again at once."""
        return live._knowing(header)

    def at(self, place: Place, key: Any, **options: Any) -> Any:
        return self.made_at(self.cls(place, key), self.new_meta(**options))

    def new_meta(self, **options: Any) -> Any:
        """Return what the header of a new one says besides the kind. Raises: TypeError for what is no option of it."""
        if options:
            raise TypeError(f'a live {self.name} has no option {next(iter(options))!r}')
        return None

    def made_at(self, live: Any, meta: Any) -> Any:
        """Return the live object, having put an empty one if there is nothing at its key. Raises: TypeError."""
        return live._made(meta)

    def assign(self, live: Any, place: Place, key: Any) -> None:
        live._assign(place, key)


# --- which is which -------------------------------------------------------------------------------------------------

def register_kind(kind: Kind) -> Kind:
    """Make a kind known by its name, and its class as one whose objects are live.

    Raises: ValueError when the name is no identifier, or another's.
    """
    there = _kinds.get(kind.name) or (None if type(kind).__module__ == _room(kind.name) else _imported(kind.name))
    if not kind.name.isidentifier() or (there and _origin(there) != _origin(kind)):
        raise ValueError(f'{kind.name!r} is no name, or that of another kind: choose another')
    _kinds[kind.name] = kind
    if kind.cls is not None:
        kind.cls.kind = kind
        registry.live_types[kind.cls] = kind.cls.copy
    return kind


def _origin(kind: Kind) -> Tuple[str, str]:
    """Return where the class of a kind comes from, which is another object when its module is loaded once more."""
    cls = kind.cls or type(kind)
    return cls.__module__, cls.__qualname__


def _split(items: Items, chunk: bytes, count: int, skip: int) -> Content:
    """Return what is in a leaf or tail of so many items, but the first ones. Raises: VaultCorruptError."""
    try:
        return items.split(chunk, count, skip), count - skip
    except codes.MALFORMED as error:
        packing.undecodable(error)


def _room(name: str) -> str:
    return f'{__package__}.{name}'


def _imported(name: str) -> Optional[Kind]:
    """Return the kind that has a room here, or None."""
    from importlib import import_module
    from importlib.util import find_spec
    if name.isidentifier() and name.isascii() and find_spec(_room(name)):  # a file that lies has no dots in its name
        import_module(_room(name))
    return _kinds.get(name)


def named_kind(name: str) -> Kind:
    """Return the kind of that name; of one that nobody knows, what can read and copy its content, and not open it."""
    return _kinds.get(name) or _imported(name) or Kind(name)


def live_class(name: str) -> Optional[type]:
    """Return the class of live objects of that name, if a room here has it: as Column, of the kind 'column'."""
    cls: Optional[type] = named_kind(name.lower()).cls
    return cls if cls is not None and (cls.__module__, cls.__name__) == (_room(name.lower()), name) else None


def kind_of(header: Header) -> Kind:
    """Return what a header is one of. Raises: VaultCorruptError when it is none of that kind."""
    name = codes.KIND_NAMES.get(header.code) or (header.meta[0] if _has_name(header.meta) else None)
    kind = None if name is None else _kinds.get(name) or named_kind(name)
    if kind is None or not kind.is_mine(header):
        raise no_header()
    return kind


def _has_name(meta: Any) -> bool:
    return type(meta) is list and len(meta) == 2 and type(meta[0]) is str and _is_simple(meta[1])


def _is_simple(meta: Any, levels: int = 8) -> bool:
    """Tell whether it is what a header of a named kind may have: what JSON has as well, and not deep."""
    if type(meta) is list:
        return levels > 0 and all(_is_simple(chunk, levels - 1) for chunk in meta)
    return type(meta) in (type(None), bool, int, str)


def title_of(data: bytes) -> str:
    """Return what the bytes of an entry are called: with an article what is in chunks, of a value the name of its type.

    Loads nothing. Raises: VaultCorruptError.
    """
    if not is_header(data):
        return type_name(data)
    header = Header.of(data)
    kind = kind_of(header)
    return kind.title(kind.meta(header))


def kind_of_form(form: Any) -> Optional[Tuple[Kind, Any, int]]:
    """Return the kind, what its header says besides, and the size, of a form that its content follows; else None.

    Raises: ValueError when it is not as `to_json` makes it, TypeError for an unknown type of a column.
    """
    tag = next(iter(form)) if isinstance(form, dict) and len(form) == 1 else None
    if tag not in codes.KIND_TAGS:
        return None
    kind, body = named_kind(tag[1:]), form[tag]
    if tag == codes.KIND_TAG:
        name, *body = body if isinstance(body, list) and body else [None]
        if not isinstance(name, str) or not name.isidentifier():
            raise ValueError(f'{name!r} is no name of a kind')
        kind = named_kind(name)
    return (kind, *kind.from_json(body))


def _size_of(size: Any) -> int:
    """Return the size that a form has. Raises: ValueError when it is none."""
    if type(size) is not int or size < 0:
        raise ValueError(f'{size!r} is no size')
    return size
