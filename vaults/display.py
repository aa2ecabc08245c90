"""Display: what IPython and Jupyter show of a vault, slice, list or column, and the keys that Tab completes.

Knows its objects by their public ways, and by the caption and rows that they give. Nothing here raises: a damaged or
closed vault is shown with what is wrong.
"""
from __future__ import annotations

import sys
from itertools import islice, takewhile

from .errors import VaultError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Iterator, List, Tuple

    Caption = Callable[[], str]
    Rows = Callable[[], Iterator[Tuple[str, Any]]]

ROWS = 20          # shown
CUT = 80           # characters of a value; of a key half of them
LARGE = 1 << 16    # bytes: what is larger is not loaded
COMPLETED = 300    # keys


# --- completion ---------------------------------------------------------------------------------------------------

def completions(mapping: Any) -> List[Any]:
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

class Words(str):
    """What stands in a table in place of a value that is not loaded for it."""

    __slots__ = ()


def pretty(thing: Any, caption: Caption, rows: Rows, printer: Any, cycle: bool) -> None:
    """Show a short table on IPython's printer; inside another object, what repr shows."""
    if cycle or len(getattr(printer, 'stack', ())) > 1:
        printer.text(f'{type(thing).__name__}(...)' if cycle else repr(thing))
        return
    title, shown, rest = _table(thing, caption, rows)
    width = max((len(key) for key, _ in shown), default=0)
    lines = [f'  {key:<{width}}  {value}' for key, value in shown]
    printer.text('\n'.join([title, *lines, *([f'  {rest}'] if rest else [])]))


def html(thing: Any, caption: Caption, rows: Rows) -> str:
    """Return a short table in HTML."""
    from html import escape
    title, shown, rest = _table(thing, caption, rows)
    cells = ''.join(f'<tr><th>{escape(key)}</th><td>{escape(value)}</td></tr>' for key, value in shown)
    foot = f'<tfoot><tr><td colspan="2">{escape(rest)}</td></tr></tfoot>' if rest else ''
    return f'<table><caption>{escape(title)}</caption><tbody>{cells}</tbody>{foot}</table>'


def _table(thing: Any, caption: Caption, rows: Rows) -> Tuple[str, List[Tuple[str, str]], str]:
    """Return a title, the first rows, and what is to be said of the rest."""
    shown: List[Tuple[str, str]] = []
    title, rest = type(thing).__name__, ''
    try:
        title = caption()
        shown.extend((_shortened(key, CUT // 2), _text_of(value)) for key, value in islice(rows(), ROWS))
        more = len(thing) - len(shown)
        rest = f'... and {more:,} more' if more > 0 else ''
    except Exception as error:
        rest = f'{type(error).__name__}: {error}'  # of the vault, or of a class of the user's
    return title, shown, rest


def _text_of(value: Any) -> str:
    try:
        return _shortened(value if type(value) is Words else repr(value), CUT)
    except Exception as error:  # of a class of the user's
        return f'a {type(value).__name__} that cannot be shown: {type(error).__name__}'


def _shortened(text: str, most: int) -> str:
    text = ' '.join(text[:4 * most].split())
    return text if len(text) <= most else text[:most - 3] + '...'
