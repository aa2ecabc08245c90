"""Outgoing: a vault as JSON Lines, as docs/json.md describes them. Loads no value."""
from __future__ import annotations

import os

from ..codecs.codes import is_header
from ..collections.kind import kind_of
from ..collections.tree import Header
from ..errors import VaultError, about
from ..files import NewFile
from ..place import place_of
from ..settings import recorded
from ..stores.base import entries_of
from . import as_json
from .incoming import reported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Iterator, Optional, TextIO, Union

    from ..keys import Stored
    from ..opening import Path
    from ..place import Place
    from ..stores.base import CountProgress
    from ..vault import Vault


def write_lines(vault: Vault[Any, Any], file: Union[Path, TextIO], progress: CountProgress) -> int:
    """Write the entries to a new file, or into an open one; return how many."""
    if not isinstance(file, (str, os.PathLike)):
        return _write(vault, file, progress)
    path = os.path.abspath(os.fsdecode(file))
    with NewFile(path, *place_of(vault).store.files[:1], what=f'the export to {path}') as new:
        return _write(vault, new.text(), progress)


def _write(vault: Vault[Any, Any], out: TextIO, progress: CountProgress) -> int:
    done = 0
    place = place_of(vault)
    with vault:
        serializer = recorded(place.store)
        low, high = place.keys.bounds()
        for stored, data in reported(entries_of(place.store.scan(low, high)), progress):
            done += 1
            try:
                for line in _lines(place, serializer, stored, data):
                    out.write(line)
            except UnicodeEncodeError as error:
                raise VaultError(f"an export is UTF-8, this file is not ({error}): open it with encoding='utf-8'"
                                 ) from error
    return done


def _lines(place: Place, serializer: Optional[str], stored: Stored, data: bytes) -> Iterator[str]:
    """Yield the line of an entry and, when it is kept in chunks, a line for each leaf."""
    try:
        key = stored if type(stored) is str else as_json.from_key(place.keys.decode(stored))
        yield as_json.as_line({'key': key, 'value': as_json.from_value(data, serializer)}) + '\n'
        if is_header(data):
            header = Header.of(data)
            kind = kind_of(header)
            for items, _ in kind.content(place.store, header):
                yield as_json.as_line(as_json.from_chunk(kind, items, serializer)) + '\n'
    except VaultError as error:
        raise about(error, stored, place.path) from error
