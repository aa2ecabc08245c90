"""Incoming: entries from a source, on their way into a vault. Knows no format."""
from __future__ import annotations

from ..codecs import packing
from ..codecs.pickles import Refusing, Trusting
from ..collections.kind import named_kind
from ..errors import SerializationError, VaultError
from ..settings import recorded
from .packed import Chunked, Packed, of_key

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Iterable, Iterator, Optional, TypeVar

    from ..codecs.pickles import Pickles
    from ..place import Place
    from ..stores.base import CountProgress, Entry
    from .source import Source

    T = TypeVar('T')

STEP = 1000      # entries between two calls of `progress`


class Incoming:
    """What comes from a source into a vault. For one import."""

    def __init__(self, source: Source, place: Place) -> None:
        self.source, self.place, self.done = source, place, 0
        self._serializer = recorded(self.place.store)
        self._as_it_is = source.reader.is_checked and self.place.validate is None and self._serializer is None

    def put(self, progress: CountProgress) -> int:
        """Put all entries in one transaction, and return how many there were."""
        self.place.store.put_many(self._entries(progress))
        return self.done

    def _entries(self, progress: CountProgress) -> Iterator[Entry]:
        """Yield what the store is to put; values in chunks are put in passing."""
        for key, value in reported(self.source.entries(), progress):
            self.done += 1
            if isinstance(value, Chunked):
                self._put_chunks(key, value)
            else:
                yield self._entry(key, value)

    def _put_chunks(self, key: Any, chunks: Chunked) -> None:
        """Make a value in chunks of what comes in."""
        kind = named_kind(chunks.kind)
        kind.restore(self.place, key, chunks.meta, (
            (chunk.data, chunk.count) if not kind.is_packed or self.goes_as_it_is(chunk) else chunk.items(self.source)
            for chunk in chunks.chunks))

    def _entry(self, key: Any, value: Any) -> Entry:
        validate, data = self.place.validate, None
        if isinstance(value, Packed):
            data = value.data if self.goes_as_it_is(value) else None
            if data is None:
                value = self.source.loaded(value)
            elif validate is not None:
                value = self.place.codec.loads(data)
        if validate is not None:
            validate(key, value)
        return self._encoded(key, value, data)

    def _encoded(self, key: Any, value: Any, data: Optional[bytes]) -> Entry:
        try:
            return self.place.keys.encode(key), self.place.codec.dumps(value) if data is None else data
        except VaultError as error:
            raise self.source.about(error, of_key(key)) from error
        except (TypeError, ValueError) as error:  # it cannot be a key
            raise self.source.wrong(f'{error}', of_key(key), 'put what read() gives with a key of your own',
                                    SerializationError) from error

    def goes_as_it_is(self, packed: Packed) -> bool:
        """Tell whether the bytes are what the vault would store; raise when they may not come in."""
        if packed.serializer is not None:
            if packed.serializer != self._serializer:
                raise self.source.wrong(
                    f'it was made by the serializer {packed.serializer!r}, and the vault '
                    f"has {'the serializer ' + repr(self._serializer) if self._serializer else 'none'}", packed.where,
                    'import it into one that was made with serializer=..., the one of that name')
            return True
        for pickles in (self.source.pickles, self.place.codec.pickles) if self._as_it_is and packed.pickled else ():
            try:
                permit(pickles, packed.array())
            except VaultError as error:
                raise self.source.about(error, packed.where) from error
        return self._as_it_is


def permit(pickles: Pickles, data: bytes) -> None:
    """Raise when the rule does not allow the pickles in a packed value; loads them only where it lists their types."""
    if isinstance(pickles, Trusting):
        pickles.checked()
    elif isinstance(pickles, Refusing):
        pickles.loads(data)
    else:
        packing.Codec(pickles).loads(data)


def reported(entries: Iterable[T], progress: CountProgress) -> Iterator[T]:
    """Yield the entries, and tell `progress` how many there were, now and then and at the end."""
    done = 0
    for done, entry in enumerate(entries, 1):
        yield entry
        if progress and not done % STEP:
            progress(done)
    if progress and done % STEP:
        progress(done)
