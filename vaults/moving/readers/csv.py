"""CSV: columns separated by comma, semicolon or tab, named in the first line. Cells are text, but for types=..."""
from __future__ import annotations

import csv
import re
from contextlib import contextmanager
from itertools import chain
from shutil import copyfileobj
from tempfile import TemporaryFile

from ...errors import VaultError, plural
from ..texts import beside_key
from . import Reader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, Iterator, List, TextIO, Tuple

    from ..recognising import FirstBytes
    from ..source import Source
    from . import Pair

    Row = Tuple[int, List[str]]  # the number of its last line, and its cells


class Csv(Reader):
    name = 'csv'
    order = 60  # any text may be one whose first line has such a column
    suffixes = ('.csv', '.tsv', '.tab')
    options = ('key', 'types')
    is_text = True

    def recognise(self, head: FirstBytes, path: str) -> bool:
        header = head.text.partition('\n')[0]
        column = head.key or 'key'
        return not header.startswith('[') and column in _header(header, _delimiter(header, column))

    def entries(self, source: Source) -> Iterator[Pair]:
        column = source.key or 'key'
        guesses, wanted = _wanted_types(source)
        with _twice(source) if guesses else source.text('') as file:
            columns, rows = _checked_rows(source, file, column)
            strange = sorted({*wanted} - {*columns})
            if strange:
                raise source.wrong(f'types=... names {strange[0]!r}, and the columns are {columns}', 'line 1',
                                   'name one of these')
            types = [wanted.get(name, 'text') for name in columns]
            if guesses:
                types = [wanted.get(name, guess) for name, guess in zip(columns, _guessed(columns, rows))]
                file.seek(0)
                _, rows = _checked_rows(source, file, column)
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


def _checked_rows(source: Source, file: TextIO, column: str) -> Tuple[List[str], Iterator[Row]]:
    """Return the names of the columns, and an iterator over the rows behind them, which are as long."""
    lines = (source.sound(line, number) for number, line in enumerate(file, 1))
    header = next(lines, '')
    rows = csv.reader(chain([header], lines), delimiter=_delimiter(header, column), strict=True)
    with _errors(source, rows):
        columns = next(rows, [])
    if not columns:
        raise source.wrong('the first line names no columns', 'line 1', 'is it a CSV file?')
    if column not in columns or len(set(columns)) < len(columns):
        raise source.wrong(f'there is no column {column!r}, or one is there twice: the columns are {columns}', 'line 1',
                           'pass key=..., the column with the keys')
    return columns, _rows_behind(source, rows, columns)


def _rows_behind(source: Source, rows: Any, columns: List[str]) -> Iterator[Row]:
    with _errors(source, rows):
        for row in filter(None, rows):
            if len(row) != len(columns):
                raise csv.Error(f'{len(row)} {plural(len(row), "field")} for {len(columns)} '
                                f'{plural(len(columns), "column")}')
            yield rows.line_num, row


@contextmanager
def _errors(source: Source, rows: Any) -> Iterator[None]:
    """Word what the module csv raises about a row."""
    try:
        yield
    except csv.Error as error:
        cure = 'mend it' if 'limit' not in str(error) else 'csv.field_size_limit lets fields be longer'
        raise source.wrong(f'this is no row ({error})', f'line {rows.line_num}', cure) from error


def _record(source: Source, columns: List[str], column: str, row: List[Any], number: int) -> Pair:
    record = dict(zip(columns, row))
    key = record.pop(column)
    if key is None:
        raise source.wrong(f'the cell of the keys, in the column {column!r}, is empty', f'line {number}', 'mend it')
    return key, beside_key(record)


def _delimiter(header: str, column: str) -> str:
    """Return the one that sets off the column with the keys, or that the header has most."""
    return max(',;\t', key=lambda mark: (column in _header(header, mark), header.count(mark)))


def _header(header: str, delimiter: str) -> List[str]:
    return [name.strip('"') for name in header.rstrip('\r\n').split(delimiter)]


# --- the types of cells -------------------------------------------------------------------------------------------

WHOLE_NUMBER = re.compile(r'(?:0|-?[1-9][0-9]{0,999})', re.ASCII)
WITH_POINT = re.compile(r'-?(?:0|[1-9][0-9]*)\.[0-9]+', re.ASCII)
ANY_NUMBER = re.compile(r'\s*[+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]+)?|nan|inf|infinity)\s*',
                        re.I | re.ASCII)
INTEGER = re.compile(r'\s*[+-]?[0-9]{1,4000}\s*', re.ASCII)
DATE_ONLY = re.compile(r'[0-9]{4}-[0-9]{2}-[0-9]{2}', re.ASCII)
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
    return date.fromisoformat(_matched(DATE_ONLY, text))


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
    return Decimal(_matched(ANY_NUMBER, text).strip())


CELL_TYPES: Dict[str, Callable[[str], Any]] = {
    'text': str, 'int': lambda text: int(_matched(INTEGER, text)),
    'float': lambda text: float(_matched(ANY_NUMBER, text)), 'bool': lambda text: BOOLEANS[text.strip().lower()],
    'decimal': _decimal, 'date': _date, 'datetime': _datetime,
}


def _wanted_types(source: Source) -> Tuple[bool, Dict[str, str]]:
    """Return whether types are to be guessed, and the types of the columns that are named."""
    types = source.types or {}
    if isinstance(types, str):
        parts = [part.strip() for part in types.split(',')]
        pairs = [part.rpartition(':')[::2] for part in parts if part != 'auto']
        guesses, types = 'auto' in parts, dict(pairs)
    else:
        guesses = False
    for column, type_ in types.items():
        if not column or type_ not in CELL_TYPES:
            raise VaultError(f"types=... is 'auto', 'COLUMN:TYPE,COLUMN:TYPE' or both, where a type is one of "
                             f'{", ".join(CELL_TYPES)}, not {column}:{type_}')
    return guesses, dict(types)


def _cell(source: Source, text: str, type_: str, number: int, column: str) -> Any:
    """Return what is in a cell, None when it is empty."""
    if not text:
        return None
    try:
        return CELL_TYPES[type_](text)
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
    if WHOLE_NUMBER.fullmatch(text):
        return ('int', 'float') if len(text.lstrip('-')) <= DIGITS else ('int',)
    if WITH_POINT.fullmatch(text):
        return ('float',) if len(re.sub('[-.]', '', text).lstrip('0')) <= DIGITS else ()
    if text.lower() in ('true', 'false'):
        return ('bool',)
    for type_ in ('date', 'datetime'):
        try:
            CELL_TYPES[type_](text)
            return (type_,)
        except ValueError:
            pass
    return ()
