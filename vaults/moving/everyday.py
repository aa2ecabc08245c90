"""Everyday: the texts that any program writes, JSON, JSON Lines and CSV, recognised and read. Knows no database.

JSON Lines of {"key": ..., "value": ...} are what `export` writes, and docs/json.md's forms stand in them. All other
JSON is plain: an object whose names are the keys, or, with key=FIELD, an array or lines of objects that have a field
for it. The cells of CSV are text unless types=... says what they are.
"""
from __future__ import annotations

import csv
import json
import os
import re
from contextlib import contextmanager
from itertools import chain
from shutil import copyfileobj
from tempfile import TemporaryFile

from ..codecs import codes
from ..errors import VaultError, plural
from . import as_json, peers
from .peers import Packed, Parts, head_of, named, present, unknown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, Iterator, List, Optional, TextIO, Tuple

    from . import Source

    Pair = Tuple[Any, Any]
    Line = Tuple[str, str]  # which it is, and its text
    Row = Tuple[int, List[str]]  # the number of its last line, and its cells

SUFFIXES = {'.csv': 'csv', '.tsv': 'csv', '.tab': 'csv', '.jsonl': 'jsonlines', '.ndjson': 'jsonlines'}
HEAD = 1 << 16   # bytes that tell what a text is
TOKEN = 16       # characters; the longest token that a chunk may cut is shorter: \ud83d\udc0d, -Infinity
DECODER = json.JSONDecoder()
BLANK = re.compile(r'[ \t\r\n]*')
TINYDB = re.compile(r'\{\s*"_default"\s*:\s*\{')  # the table that TinyDB makes first
RECORDS = re.compile(r'\[\s*[{\]]')


# --- what it is ---------------------------------------------------------------------------------------------------

def kind_of(path: str, charset: str, key: Optional[str]) -> str:
    """Return the kind of a text. Raises: VaultFormatError, VaultNotFoundError."""
    present(path)
    suffix = os.path.splitext(path)[1].lower()
    if suffix in SUFFIXES:
        return SUFFIXES[suffix]
    head = head_of(path, HEAD).decode(charset, 'replace').lstrip('\ufeff \t\r\n')
    if head.startswith('{'):
        in_lines = _is_line(head, key, suffix != '.json')
        return 'tinydb' if TINYDB.match(head) else 'jsonlines' if in_lines else 'json'
    if RECORDS.match(head):
        return 'json'
    if head.startswith('['):
        unknown(path, 'a JSON list without objects, or another text in brackets')
    header = head.partition('\n')[0]
    column = key or 'key'
    if column not in _columns(header, _delimiter(header, column)):
        unknown(path, 'a file of another sort' if head else 'empty')
    return 'csv'


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


# --- JSON Lines ---------------------------------------------------------------------------------------------------

NO_LINES = "a JSON object or array takes kind='json'"


def json_lines(source: Source) -> Iterator[Pair]:
    records = None if source.key in (None, 'key') else _Records(source)
    with source.text('\n') as file:
        lines = ((f'line {number}', source.sound(line, number)) for number, line in enumerate(file, 1)
                 if not line.isspace())
        for place, line in lines:
            yield records.line(place, line) if records else _entry(source, place, line, lines)


def _entry(source: Source, place: str, line: str, following: Iterator[Line]) -> Pair:
    cure = f'mend it; {NO_LINES}'
    try:
        entry = json.loads(line)
        if not isinstance(entry, dict) or entry.keys() != {'key', 'value'}:
            if isinstance(entry, dict) and entry:
                cure = f"pass key=..., the one of its fields {', '.join(map(repr, entry))} with the keys; {NO_LINES}"
            raise ValueError('it is not {"key": ..., "value": ...}')
        key = entry['key'] if type(entry['key']) is str else as_json.to_key(entry['key'])
        head = as_json.to_head(entry['value'])
        if head is None:
            return key, _packed(place, [entry['value']])
    except (ValueError, TypeError, RecursionError, VaultError) as error:
        raise source.wrong(f'this is no entry ({error})', place, cure) from error
    return key, Parts(*head[:2], _continued(source, place, *head, following))


def _packed(place: str, forms: List[Any]) -> Packed:
    """Return values packed one behind another."""
    pickles: List[bool] = []
    names: List[str] = []
    data = b''.join([as_json.to_value(form, lambda: pickles.append(True), names.append) for form in forms])
    if names and (len(names) < len(forms) or len(set(names)) > 1):
        raise ValueError('not all of it was made by one serializer')
    return Packed(place, data, len(forms), bool(pickles), names[0] if names else None)


def _continued(source: Source, first: str, code: int, meta: Any, size: int, lines: Iterator[Line]) -> Iterator[Packed]:
    """Yield what the lines hold that follow the entry of a value in parts, until it is whole."""
    with source.told():
        while size:
            place, line = next(lines, ('the end', ''))
            try:
                run = _run(place, json.loads(line or 'null'), code, meta)
                size -= run.count
                if size < 0:
                    raise ValueError(f'{-size} more than there should be')
            except (ValueError, TypeError, RecursionError, VaultError) as error:
                raise source.wrong(f'the value of {first} does not go on here, with {size} of its items or bytes '
                                   f'missing ({error})', place, 'mend it') from error
            yield run


def _run(place: str, form: Any, code: int, meta: Any) -> Packed:
    if code == codes.LIST:
        return _packed(place, as_json.items_of(form))
    data = as_json.bytes_of(form)
    if code == codes.STREAM:
        return Packed(place, data, len(data))
    from ..collections.dtype import type_of
    width = type_of(meta).size
    if len(data) % width or (meta == 'bool' and data.translate(None, b'\0\1')):
        raise ValueError(f'{len(data)} bytes are no items of {meta}')
    return Packed(place, data, len(data) // width)


# --- records ------------------------------------------------------------------------------------------------------

class _Records:
    """Objects that have their key in a field. For one pass; it remembers the keys, to find one that is there twice."""

    def __init__(self, source: Source) -> None:
        self._source, self._field = source, source.key
        self._places: Dict[Any, str] = {}

    def line(self, place: str, line: str) -> Pair:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise self._source.wrong(f'this is no JSON ({error})', place, f'mend it; {NO_LINES}') from error
        if isinstance(record, list):
            raise self._source.wrong('it is no object, but an array', place, f'mend it; {NO_LINES}')
        return self.pair(place, record)

    def pair(self, place: str, record: Any) -> Pair:
        """Return the key and the value that it stands for."""
        if not isinstance(record, dict):
            raise self._wrong('it is no object', place)
        if self._field not in record:
            raise self._wrong(f'there is no field {self._field!r} but {", ".join(map(repr, record)) or "none"}', place)
        key = record.pop(self._field)
        if key is None or isinstance(key, (list, dict)):
            raise self._wrong(f'in the field {self._field!r} is {json.dumps(key):.80}, which is no key', place)
        before = self._places.setdefault(key, place)
        if before is not place:
            raise self._wrong(f'the key {key!r} was there before, in {before}', place)
        return key, _beside_key(record)

    def _wrong(self, what: str, place: str) -> VaultError:
        return self._source.wrong(what, place, 'mend it, or pass as key=... a field that all have, each another value')


# --- JSON ---------------------------------------------------------------------------------------------------------

def json_text(source: Source) -> Iterator[Pair]:
    with source.text('\n') as file:
        text = _Json(source, file)
        if text.peek() == '[':
            yield from _array(source, text)
        elif source.key is not None:
            raise text.wrong('its names are the keys: leave key=... out')
        else:
            yield from text.members()
        if text.peek():
            raise text.wrong("something follows; entries or, with key=..., objects in lines take kind='jsonlines'")


def _array(source: Source, text: _Json) -> Iterator[Pair]:
    text.take('[')
    records, number = _Records(source), 0
    mark = text.take(']') if text.peek() == ']' else ','
    while mark == ',':
        number += 1
        text.peek()
        place = f'item {number}, line {text.line}'
        item = text.value(f'item {number}, ')
        if source.key is None:
            fields = f'its fields {", ".join(map(repr, item))}' if isinstance(item, dict) else 'the fields of objects'
            raise source.wrong('an array does not say what its keys are', place,
                               f'pass key=..., the one of {fields} with the keys')
        yield records.pair(place, item)
        mark = text.take(',', ']')


def tinydb(source: Source) -> Iterator[Pair]:
    """Yield the documents of the table _default by their numbers, those of another by (table, number)."""
    with source.text('\n') as file:
        text = _Json(source, file)
        found = False
        for table in text.names():
            wanted = source.table in (None, table)
            found |= wanted
            for name in text.names():
                document = text.value(f'{named(name)}, ')
                number = int(name) if re.fullmatch('[1-9][0-9]{0,17}', name) else name
                if wanted:
                    yield number if source.table or table == '_default' else (table, number), document
        if text.peek():
            raise text.wrong('something follows')
        if source.table and not found:
            raise source.wrong(f'there is no table {source.table!r}', 'the end', 'pass the table=... that is meant')


class _Json:
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
            yield name, self.value(f'{named(name)}, ')

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

    def value(self, place: str = '') -> Any:
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
                raise self.wrong('it is nested too deep', place) from error
            except ValueError as error:
                pos, open_quote = getattr(error, 'pos', 0), 'Unterminated string' in str(error)
                if self._whole or not (open_quote or pos + TOKEN > len(self._text)):
                    raise self.wrong(f'{error}', place) from error
            self._more()

    def _more(self) -> None:
        self._line += self._text.count('\n', 0, self._at)
        rest = self._text[self._at:]
        piece = self._file.read(max(peers.CHUNK, len(rest)))  # twice as much each time: few parses of a long one
        self._text = rest + self._source.sound(piece, self._line + rest.count('\n'))
        self._at, self._whole = 0, not piece

    def wrong(self, what: str, place: str = '') -> VaultError:
        return self._source.wrong(f'this is no JSON object ({what})', f'{place}line {self.line}', 'mend it')


# --- CSV ----------------------------------------------------------------------------------------------------------

def csv_text(source: Source) -> Iterator[Pair]:
    column = source.key or 'key'
    guesses, wanted = _wanted(source)
    with _twice(source) if guesses else source.text('') as file:
        columns, rows = _rows(source, file, column)
        unknown_ = sorted({*wanted} - {*columns})
        if unknown_:
            raise source.wrong(f'types=... names {unknown_[0]!r}, and the columns are {columns}', 'line 1',
                               'name one of these')
        types = [wanted.get(name, 'text') for name in columns]
        if guesses:
            types = [wanted.get(name, guess) for name, guess in zip(columns, _guessed(columns, rows))]
            file.seek(0)
            _, rows = _rows(source, file, column)
        typed = [(at, name, type_) for at, (name, type_) in enumerate(zip(columns, types)) if type_ != 'text']
        for number, row in rows:
            cells: List[Any] = row
            for at, name, type_ in typed:
                cells[at] = _cell(source, row[at], type_, number, name)
            yield _record(source, columns, column, cells, number)


@contextmanager
def _twice(source: Source) -> Iterator[TextIO]:
    """Give the text as a file that can be read again; of a stream, which goes by once, a copy."""
    with source.text('') as file:
        if not source.stream:
            yield file
            return
        with TemporaryFile('w+', encoding='utf-8', errors='surrogatepass', newline='') as copy:
            copyfileobj(file, copy)
            copy.seek(0)
            yield copy


def _rows(source: Source, file: TextIO, column: str) -> Tuple[List[str], Iterator[Row]]:
    """Return the names of the columns, and an iterator over the rows behind them, which are as long."""
    lines = (source.sound(line, number) for number, line in enumerate(file, 1))
    header = next(lines, '')
    rows = csv.reader(chain([header], lines), delimiter=_delimiter(header, column), strict=True)
    columns: List[str] = []

    def checked() -> Iterator[Row]:
        try:
            columns.extend(next(rows, []))
            if not columns:
                raise source.wrong('the first line names no columns', 'line 1', 'is it a CSV file?')
            if column not in columns or len(set(columns)) < len(columns):
                raise source.wrong(f'there is no column {column!r}, or one is there twice: the columns are {columns}',
                                   'line 1', 'pass key=..., the column with the keys')
            yield 0, []
            for row in filter(None, rows):
                if len(row) != len(columns):
                    raise csv.Error(f'{len(row)} {plural(len(row), "field")} for {len(columns)} '
                                    f'{plural(len(columns), "column")}')
                yield rows.line_num, row
        except csv.Error as error:
            cure = 'mend it' if 'limit' not in str(error) else 'csv.field_size_limit lets fields be longer'
            raise source.wrong(f'this is no row ({error})', f'line {rows.line_num}', cure) from error
    found = checked()
    next(found)
    return columns, found


def _record(source: Source, columns: List[str], column: str, row: List[Any], number: int) -> Pair:
    record = dict(zip(columns, row))
    key = record.pop(column)
    if key is None:
        raise source.wrong(f'the cell of the keys, in the column {column!r}, is empty', f'line {number}', 'mend it')
    return key, _beside_key(record)


def _beside_key(record: Dict[str, Any]) -> Any:
    """Return what stands beside a key: where that is one field called 'value', what is in it."""
    return record['value'] if list(record) == ['value'] else record


def _delimiter(header: str, column: str) -> str:
    """Return the one that sets off the column with the keys, or that the header has most."""
    return max(',;\t', key=lambda mark: (column in _columns(header, mark), header.count(mark)))


def _columns(header: str, delimiter: str) -> List[str]:
    return [name.strip('"') for name in header.rstrip('\r\n').split(delimiter)]


# --- the types of cells -------------------------------------------------------------------------------------------

WHOLE = re.compile(r'(?:0|-?[1-9][0-9]{0,999})', re.ASCII)
DECIMAL = re.compile(r'-?(?:0|[1-9][0-9]*)\.[0-9]+', re.ASCII)
NUMBER = re.compile(r'\s*[+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]+)?|nan|inf|infinity)\s*', re.I | re.ASCII)
INTEGER = re.compile(r'\s*[+-]?[0-9]{1,4000}\s*', re.ASCII)
DAY = re.compile(r'[0-9]{4}-[0-9]{2}-[0-9]{2}', re.ASCII)
MOMENT = re.compile(r'([0-9]{4}-[0-9]{2}-[0-9]{2})[T ]([0-9]{2}:[0-9]{2})(?:(:[0-9]{2})(?:\.([0-9]{1,6}))?)?'
                    r'(Z|[+-][0-9]{2}:[0-9]{2})?', re.ASCII)
DIGITS = 15  # that a float brings back, whatever they are
BOOLEANS = {'true': True, 'yes': True, 'y': True, 't': True, '1': True,
            'false': False, 'no': False, 'n': False, 'f': False, '0': False}


def _matched(pattern: Any, text: str) -> str:
    if not pattern.fullmatch(text):
        raise ValueError(f'{text!r} is none')
    return text


def _date(text: str) -> Any:
    from datetime import date
    return date.fromisoformat(_matched(DAY, text))


def _datetime(text: str) -> Any:
    from datetime import datetime
    found = MOMENT.fullmatch(text)
    if not found:
        raise ValueError(f'{text!r} is none')
    day, minute, second, fraction, zone = found.groups()
    plain = f'{day}T{minute}{second or ":00"}.{(fraction or "").ljust(6, "0")}'
    return datetime.fromisoformat(plain + (zone or '').replace('Z', '+00:00'))


def _decimal(text: str) -> Any:
    from decimal import Decimal
    return Decimal(_matched(NUMBER, text).strip())


TYPES: Dict[str, Callable[[str], Any]] = {
    'text': str, 'int': lambda text: int(_matched(INTEGER, text)), 'float': lambda text: float(_matched(NUMBER, text)),
    'bool': lambda text: BOOLEANS[text.strip().lower()], 'decimal': _decimal, 'date': _date, 'datetime': _datetime,
}


def _wanted(source: Source) -> Tuple[bool, Dict[str, str]]:
    """Return whether types are to be guessed, and the types of the columns that are named."""
    types = source.types or {}
    if isinstance(types, str):
        parts = [part.strip() for part in types.split(',')]
        pairs = [part.rpartition(':')[::2] for part in parts if part != 'auto']
        guesses, types = 'auto' in parts, dict(pairs)
    else:
        guesses = False
    for column, type_ in types.items():
        if not column or type_ not in TYPES:
            raise VaultError(f"types=... is 'auto', 'COLUMN:TYPE,COLUMN:TYPE' or both, where a type is one of "
                             f'{", ".join(TYPES)}, not {column}:{type_}')
    return guesses, dict(types)


def _cell(source: Source, text: str, type_: str, number: int, column: str) -> Any:
    """Return what is in a cell, None when it is empty."""
    if not text:
        return None
    try:
        return TYPES[type_](text)
    except (ValueError, KeyError) as error:
        raise source.wrong(f'{text!r:.80} is no {type_}, as types=... says of the column {column!r}', f'line {number}',
                           'mend it, or name another type, such as text') from error


def _guessed(columns: List[str], rows: Iterator[Row]) -> List[str]:
    """Return the type of each column: that of which all its cells are, but for empty ones; else text.

    Only where the text can be told from the object again, nearly: 007, 1e5, yes and 3.14159265358979323 stay text.
    """
    left: List[Any] = [None] * len(columns)  # the types that are still possible; None before the first cell
    for _, row in rows:
        for at, text in enumerate(row):
            if text and left[at] != ():
                fitting = _fitting(text)
                left[at] = fitting if left[at] is None else tuple(type_ for type_ in left[at] if type_ in fitting)
    return [(types or ('text',))[0] for types in left]


def _fitting(text: str) -> Tuple[str, ...]:
    """Return the types that a cell may have, the first one best."""
    if WHOLE.fullmatch(text):
        return ('int', 'float') if len(text.lstrip('-')) <= DIGITS else ('int',)
    if DECIMAL.fullmatch(text):
        return ('float',) if len(re.sub('[-.]', '', text).lstrip('0')) <= DIGITS else ()
    if text.lower() in ('true', 'false'):
        return ('bool',)
    for type_ in ('date', 'datetime'):
        try:
            TYPES[type_](text)
            return (type_,)
        except ValueError:
            pass
    return ()
