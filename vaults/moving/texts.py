"""Texts: what several formats of text have in common: JSON a piece at a time, and records that hold their key."""
from __future__ import annotations

import json
import re

from ..errors import VaultError
from .packed import of_key

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Iterator, TextIO

    from .readers import Pair
    from .source import Source

TO_READ = 1 << 16  # characters of a text to read at once
TOKEN = 16       # characters; the longest token that a chunk may cut is shorter: \ud83d\udc0d, -Infinity
DECODER = json.JSONDecoder()
BLANK = re.compile(r'[ \t\r\n]*')
OTHER_JSON = "a JSON object or array takes kind='json'"


class JsonText:
    """A JSON text, of which a piece is in memory. For one thread."""

    def __init__(self, source: Source, file: TextIO) -> None:
        self._source, self._file = source, file
        self._text, self._at, self._line, self._whole = '', 0, 1, False

    def names(self) -> Iterator[str]:
        """Yield the names of an object; before the next one, what belongs to it is to be taken."""
        self.take('{')
        mark = self.take('}') if self.peek() == '}' else ','
        while mark == ',':
            if self.peek() != '"':
                raise self.wrong('a key in quotes is expected')
            name = self.value()
            self.take(':')
            yield name
            mark = self.take(',', '}')

    def members(self) -> Iterator[Pair]:
        for name in self.names():
            yield name, self.value(f'{of_key(name)}, ')

    @property
    def line(self) -> int:
        return self._line + self._text.count('\n', 0, self._at)

    def peek(self) -> str:
        """Return the next character that is not blank, without taking it; '' at the end."""
        while True:
            self._at = BLANK.match(self._text, self._at).end()  # type: ignore[union-attr]  # it matches anything
            if self._at < len(self._text) or self._whole:
                return self._text[self._at:self._at + 1]
            self._more()

    def take(self, *marks: str) -> str:
        mark = self.peek()
        if mark not in marks:
            raise self.wrong(f'{" or ".join(marks)} is expected' + ('' if mark else ', and the file ends'))
        self._at += 1
        return mark

    def value(self, where: str = '') -> Any:
        """Return the value that begins here, reading on as long as it may have been cut.

        Text in quotes ends somewhere; all else that is wrong is so where it is met.
        """
        self.peek()
        while True:
            try:
                value, end = DECODER.raw_decode(self._text, self._at)
                if self._whole or end + TOKEN <= len(self._text):
                    self._at = end
                    return value
            except RecursionError as error:
                raise self.wrong('it is nested too deep', where) from error
            except ValueError as error:
                pos, open_quote = getattr(error, 'pos', 0), 'Unterminated string' in str(error)
                if self._whole or not (open_quote or pos + TOKEN > len(self._text)):
                    raise self.wrong(f'{error}', where) from error
            self._more()

    def _more(self) -> None:
        self._line += self._text.count('\n', 0, self._at)
        rest = self._text[self._at:]
        piece = self._file.read(max(TO_READ, len(rest)))  # twice as much each time: few parses of a long one
        self._text = rest + self._source.sound(piece, self._line + rest.count('\n'))
        self._at, self._whole = 0, not piece

    def wrong(self, what: str, where: str = '') -> VaultError:
        return self._source.wrong(f'this is no JSON object ({what})', f'{where}line {self.line}', 'mend it')


class Records:
    """Objects that have their key in a field. For one pass; it remembers the keys, to find one that is there twice."""

    def __init__(self, source: Source) -> None:
        self._source, self._field = source, source.key
        self._found_at: Dict[Any, str] = {}

    def line(self, where: str, line: str) -> Pair:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise self._source.wrong(f'this is no JSON ({error})', where, f'mend it; {OTHER_JSON}') from error
        if isinstance(record, list):
            raise self._source.wrong('it is no object, but an array', where, f'mend it; {OTHER_JSON}')
        return self.pair(where, record)

    def pair(self, where: str, record: Any) -> Pair:
        """Return the key and the value that it stands for."""
        if not isinstance(record, dict):
            raise self._wrong('it is no object', where)
        if self._field not in record:
            raise self._wrong(f'there is no field {self._field!r} but {", ".join(map(repr, record)) or "none"}', where)
        key = record.pop(self._field)
        if key is None or isinstance(key, (list, dict)):
            raise self._wrong(f'in the field {self._field!r} is {json.dumps(key):.80}, which is no key', where)
        before = self._found_at.setdefault(key, where)
        if before is not where:
            raise self._wrong(f'the key {key!r} was there before, in {before}', where)
        return key, beside_key(record)

    def _wrong(self, what: str, where: str) -> VaultError:
        return self._source.wrong(what, where, 'mend it, or pass as key=... a field that all have, each another value')


def beside_key(record: Dict[str, Any]) -> Any:
    """Return what stands beside a key: where that is one field called 'value', what is in it."""
    return record['value'] if list(record) == ['value'] else record
