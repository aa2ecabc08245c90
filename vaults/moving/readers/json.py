"""JSON: an object, whose names are the keys; or with key=... an array of objects, which have a field for it."""
from __future__ import annotations

import re

from ...codecs.forms import VAULT_TAG
from ..texts import JsonText, Records
from . import Reader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterator

    from ..recognising import FirstBytes
    from ..source import Source
    from . import Pair

ARRAY_OF_OBJECTS = re.compile(r'\[\s*[{\]]')


class Json(Reader):
    name = 'json'
    order = 52  # behind jsonlines, whose first line may be an object, and tinydb, which is one
    options = ('key',)
    is_text = True

    def recognise(self, head: FirstBytes, path: str) -> bool:
        return head.text.startswith('{') or bool(ARRAY_OF_OBJECTS.match(head.text))

    def entries(self, source: Source) -> Iterator[Pair]:
        with source.text('\n') as file:
            text = JsonText(source, file)
            if text.peek() == '[':
                yield from self._items(source, text)
            elif source.key is not None:
                raise text.wrong('its names are the keys: leave key=... out')
            else:
                yield from self._members(source, text)
            if text.peek():
                raise text.wrong("something follows; entries or, with key=..., objects in lines take kind='jsonlines'")

    def _members(self, source: Source, text: JsonText) -> Iterator[Pair]:
        for number, (name, value) in enumerate(text.members()):
            if not number and name == VAULT_TAG:
                raise source.wrong('this is a vault in one file, with keys and values of more kinds than JSON has',
                                   f'line {text.line}', '`vaults copy json+file:///FOLDER/FILE VAULT` copies it')
            yield name, value

    def _items(self, source: Source, text: JsonText) -> Iterator[Pair]:
        text.take('[')
        records, number = Records(source), 0
        mark = text.take(']') if text.peek() == ']' else ','
        while mark == ',':
            number += 1
            text.peek()
            where = f'item {number}, line {text.line}'
            item = text.value(f'item {number}, ')
            if source.key is None:
                names = ', '.join(map(repr, item)) if isinstance(item, dict) else ''
                fields = f'its fields {names}' if isinstance(item, dict) else 'the fields of objects'
                raise source.wrong('an array does not say what its keys are', where,
                                   f'pass key=..., the one of {fields} with the keys')
            yield records.pair(where, item)
            mark = text.take(',', ']')
