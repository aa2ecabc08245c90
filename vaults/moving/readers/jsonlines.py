"""JSON Lines: {"key": ..., "value": ...} in each line, as `export` writes it; or with key=... lines of any objects."""
from __future__ import annotations

import json
import os
import re

from ...errors import VaultError
from .. import as_json
from ..packed import Chunked, Packed
from ..texts import DECODER, OTHER_JSON, Records
from . import Reader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Iterator, List, Optional, Tuple

    from ...collections.kind import Kind
    from ..recognising import FirstBytes
    from ..source import Source
    from . import Pair

    Line = Tuple[str, str]  # which it is, and its text


class JsonLines(Reader):
    name = 'jsonlines'
    order = 51
    suffixes = ('.jsonl', '.ndjson')
    options = ('key',)
    is_text = True
    is_checked = True

    def recognise(self, head: FirstBytes, path: str) -> bool:
        return head.text.startswith('{') and _is_line(head.text, head.key, os.path.splitext(path)[1].lower() != '.json')

    def entries(self, source: Source) -> Iterator[Pair]:
        records = None if source.key in (None, 'key') else Records(source)
        with source.text('\n') as file:
            lines = ((f'line {number}', source.sound(line, number)) for number, line in enumerate(file, 1)
                     if not line.isspace())
            for where, line in lines:
                yield records.line(where, line) if records else self._entry(source, where, line, lines)

    def _entry(self, source: Source, where: str, line: str, following: Iterator[Line]) -> Pair:
        cure = f'mend it; {OTHER_JSON}'
        try:
            entry = json.loads(line)
            if not isinstance(entry, dict) or entry.keys() != {'key', 'value'}:
                if isinstance(entry, dict) and entry:
                    fields = ', '.join(map(repr, entry))
                    cure = f'pass key=..., the one of its fields {fields} with the keys; {OTHER_JSON}'
                raise ValueError('it is not {"key": ..., "value": ...}')
            key = entry['key'] if type(entry['key']) is str else as_json.to_key(entry['key'])
            header = as_json.to_header(entry['value'])
            if header is None:
                return key, _packed_forms(where, [entry['value']])
        except (ValueError, TypeError, RecursionError, VaultError) as error:
            raise source.wrong(f'this is no entry ({error})', where, cure) from error
        return key, Chunked(header[0].name, header[1], _following(source, where, *header, following))


def _is_line(head: str, key: Optional[str], may_be: bool) -> bool:
    """Tell whether the first line of a text is an entry or, where that may be, any object; a long one is cut."""
    line, mark, rest = head.partition('\n')
    try:
        found, end = DECODER.raw_decode(line)
        alone = not line[end:].strip() and (key in found or (may_be and rest.lstrip()[:1] == '{'))
        return alone or set(found) == {'key', 'value'}
    except ValueError:
        return bool(re.match(r'\{\s*"key"\s*:', line) and (not mark or line.rstrip()[-1:] not in ',{'))
    except RecursionError:
        return False


def _packed_forms(where: str, forms: List[Any]) -> Packed:
    """Return values packed one behind another."""
    pickles: List[bool] = []
    names: List[str] = []
    data = b''.join([as_json.to_value(form, lambda: pickles.append(True), names.append) for form in forms])
    if names and (len(names) < len(forms) or len(set(names)) > 1):
        raise ValueError('not all of it was made by one serializer')
    return Packed(where, data, len(forms), bool(pickles), names[0] if names else None)


def _following(source: Source, first: str, kind: Kind, meta: Any, size: int, lines: Iterator[Line]) -> Iterator[Packed]:
    """Yield what the lines hold that follow the entry of a value in chunks, until it is whole."""
    with source.translating():
        while size:
            where, line = next(lines, ('the end', ''))
            try:
                chunk = _some_of(where, json.loads(line or 'null'), kind, meta)
                size -= chunk.count
                if size < 0:
                    raise ValueError(f'{-size} more than there should be')
            except (ValueError, TypeError, RecursionError, VaultError) as error:
                raise source.wrong(f'the value of {first} does not go on here, with {size} of its items or bytes '
                                   f'missing ({error})', where, 'mend it') from error
            yield chunk


def _some_of(where: str, form: Any, kind: Kind, meta: Any) -> Packed:
    if kind.is_packed:
        return _packed_forms(where, as_json.items_of(form))
    data = as_json.bytes_of(form)
    return Packed(where, data, kind.count(meta, data))
