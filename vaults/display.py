"""Display: what IPython and Jupyter show of a vault, slice, list or column, and the keys that Tab completes.

Knows its objects by their public ways, and the store by `glance`, so that a large value is not loaded to be shown.
Nothing here raises: a damaged or closed vault is shown with what is wrong.
"""
from __future__ import annotations

import sys
from itertools import islice, takewhile

from .codecs.codes import COLUMN, LIST
from .collections.list import List
from .collections.tree import Head, is_head
from .errors import VaultError, plural
from .place import place_of
from .views import SortedSlice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Iterator, Tuple
    from typing import List as PlainList

    from .vault import Vault

    Row = Tuple[str, str]

ROWS = 20          # shown
CUT = 80           # characters of a value; of a key half of them
LARGE = 1 << 16    # bytes: what is larger is not loaded
COMPLETED = 300    # keys


# --- completion ---------------------------------------------------------------------------------------------------

def completions(mapping: Any) -> PlainList[Any]:
    """Return up to COMPLETED keys that begin with what was typed; none when the vault cannot be read."""
    try:
        typed = _typed()
        if not typed:
            return list(islice(mapping.keys(), COMPLETED))
        keys = takewhile(lambda key: type(key) is not str or key.startswith(typed), iter(mapping[typed:]))
        return [key for key in islice(keys, COMPLETED) if type(key) is str]
    except VaultError:
        return []


def _typed() -> str:
    """Return the text behind the bracket and quote that end the line, which IPython keeps, but does not pass on."""
    import re
    shell = getattr(sys.modules.get('IPython'), 'get_ipython', lambda: None)()
    line = getattr(getattr(shell, 'Completer', None), 'text_until_cursor', '')
    found = re.search(r'''\[\s*["']([^"']*)$''', str(line))
    return found[1] if found else ''


# --- tables -------------------------------------------------------------------------------------------------------

def pretty(thing: Any, printer: Any, cycle: bool) -> None:
    """Show a short table on IPython's printer; inside another object, what repr shows."""
    if cycle or len(getattr(printer, 'stack', ())) > 1:
        printer.text(f'{type(thing).__name__}(...)' if cycle else repr(thing))
        return
    title, rows, rest = _table(thing)
    width = max((len(key) for key, _ in rows), default=0)
    lines = [f'  {key:<{width}}  {value}' for key, value in rows]
    printer.text('\n'.join([title, *lines, *([f'  {rest}'] if rest else [])]))


def html(thing: Any) -> str:
    """Return a short table in HTML."""
    from html import escape
    title, rows, rest = _table(thing)
    cells = ''.join(f'<tr><th>{escape(key)}</th><td>{escape(value)}</td></tr>' for key, value in rows)
    foot = f'<tfoot><tr><td colspan="2">{escape(rest)}</td></tr></tfoot>' if rest else ''
    return f'<table><caption>{escape(title)}</caption><tbody>{cells}</tbody>{foot}</table>'


def _table(thing: Any) -> Tuple[str, PlainList[Row], str]:
    """Return a title, the first rows, and what is to be said of the rest."""
    rows: PlainList[Row] = []
    title, rest = type(thing).__name__, ''
    try:
        title = _title(thing)
        rows.extend(islice(_rows(thing), ROWS))
        more = len(thing) - len(rows)
        rest = f'... and {more:,} more' if more > 0 else ''
    except Exception as error:
        rest = f'{type(error).__name__}: {error}'  # of the vault, or of a class of the user's
    return title, rows, rest


def _title(thing: Any) -> str:
    if isinstance(thing, SortedSlice):
        return f'{len(thing):,} of {thing._vault!r}'
    if hasattr(thing, '_make'):  # a list or a column
        kind = '' if isinstance(thing, List) else f' of {thing.dtype}'
        return f'{type(thing).__name__}{kind} at {thing._key!r}, {len(thing):,} {plural(len(thing), "item")}'
    return repr(thing)


def _rows(thing: Any) -> Iterator[Row]:
    if hasattr(thing, '_make'):
        yield from ((str(at), _shown(thing[at])) for at in range(min(ROWS, len(thing))))
        return
    vault = thing._vault if isinstance(thing, SortedSlice) else thing
    for key in islice(thing.keys(), ROWS):
        value = _value(vault, key)
        if value is not None:
            yield _cut(repr(key), CUT // 2), value


def _value(vault: Vault[Any, Any], key: Any) -> Any:
    """Return a value as text; of a large one, or one in parts, how large it is; None when it has gone."""
    place = place_of(vault)
    stored = place.keys.encode(key)
    try:
        held = place.store.held(stored)
        if held is not None:
            return _shown(held[0])
        size, data = place.store.glance(stored, LARGE)
        if data is not None and is_head(data):
            return _in_parts(Head.of(data))
        if data is None:
            return f'{size:,} {plural(size, "byte")}' if size else None
        return _shown(vault._load(stored, data))
    except Exception as error:
        return _cut(f'{type(error).__name__}: {error}', CUT)


def _in_parts(head: Head) -> str:
    if head.code == LIST:
        return f'list of {head.size:,} {plural(head.size, "item")}'
    if head.code == COLUMN:
        return f'column of {head.size:,} {head.meta}'
    return f'stream of {head.size:,} {plural(head.size, "byte")}'


def _shown(value: Any) -> str:
    try:
        return _cut(repr(value), CUT)
    except Exception as error:  # of a class of the user's
        return f'a {type(value).__name__} that cannot be shown: {type(error).__name__}'


def _cut(text: str, most: int) -> str:
    text = ' '.join(text[:4 * most].split())
    return text if len(text) <= most else text[:most - 3] + '...'
