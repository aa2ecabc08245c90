"""Show: what people see of a vault on a terminal, or a program in JSON. Knows the forms of docs/json.md, no command.

What a terminal would obey, or cannot show, is written with the escapes of JSON, also in errors.
"""
from __future__ import annotations

import os
import sys

from ..errors import plural
from ..place import place_of
from ..stores import shown_url
from ..stores.base import entries_of
from ..views import SortedSlice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from typing import Any, Dict, Iterator, List, Optional, TextIO, Tuple

    from ..collections.tree import Header
    from ..keys import Stored
    from ..place import Place
    from ..recovery import Recovery
    from ..vault import Vault

    Path = Tuple[Any, ...]  # of a section

SHOWN_ROWS = 50      # of `show`, unless --limit says otherwise
SHOWN_LARGEST = 5    # values that `info` names
SHOWN_SECTIONS = 20  # that `info` names
RACE = (' (two programs that write to one file can damage it by a fault of this SQLite, the WAL-reset bug, mended in '
        '3.51.3: keep other programs than vaults from writing to the file, on the machine that has it; vaults see to '
        'it that it cannot happen among themselves)')
BOLD, GREEN, RED, CYAN = '1', '32', '31', '36'
OUR_CURES = {  # what a program does, and in its place who gives the command
    'or let it be created': 'or make it with `vaults set`',
    "open it without flag='r' first": 'a command that writes makes a vault of it',
    "open it without flag='r', as a user who may write": 'be a user who may write',
    "open it with flag='r' to read it": 'commands that read need no more',
    'or open with a larger timeout': 'or repeat it later',
    'use a slice, v[a:b]': 'take --from and --to',
}


# --- text ---------------------------------------------------------------------------------------------------------

def is_terminal(stream: Optional[TextIO]) -> bool:
    return stream is not None and stream.isatty()


def _is_unicode() -> bool:
    return str(getattr(sys.stdout, 'encoding', 'utf-8')).lower().startswith('utf')


def as_utf8(text: Any) -> Any:
    """Return text of the command line, or a name of a file, as UTF-8; and all else as it is.

    In an ASCII locale Python reads none of its characters but marks the bytes, which is right for paths alone.
    """
    if isinstance(text, list):
        return [*map(as_utf8, text)]
    if not isinstance(text, str) or text.isascii():
        return text
    try:
        return text.encode('utf-8', 'surrogateescape').decode('utf-8', 'surrogateescape')
    except UnicodeError:  # a surrogate that marks no byte
        return text


def visible(text: str) -> str:
    """Return the text with the escapes of JSON for all that is not printable."""
    if not text.isprintable():
        import json
        for character in set(text):
            if not character.isprintable():
                text = text.replace(character, json.dumps(character)[1:-1])
    return text


def in_json(form: Any) -> str:
    """Return JSON in one line, with escapes for what a terminal would obey or could not show."""
    import json
    return visible(json.dumps(form, ensure_ascii=not _is_unicode(), allow_nan=False))


def in_words(form: Any) -> str:
    """Return text as it is where it can be shown, and all else as JSON."""
    showable = isinstance(form, str) and form.isprintable() and (form.isascii() or _is_unicode())
    return form if showable else in_json(form)


def painted(text: str, colour: str) -> str:
    plain = not is_terminal(sys.stdout) or os.environ.get('NO_COLOR') or os.environ.get('TERM') == 'dumb'
    return text if plain else f'\x1b[{colour}m{text}\x1b[0m'


def text_width(text: str) -> int:
    """Return how wide the text is on a terminal: East Asian characters take two columns, combining ones none."""
    if text.isascii():
        return len(text)
    from unicodedata import category, east_asian_width
    return sum(0 if category(one) in ('Mn', 'Me') else 2 if east_asian_width(one) in 'WF' else 1 for one in text)


def shortened(text: str, width: int) -> str:
    """Return the text, shortened to so many columns."""
    mark = '…' if _is_unicode() else '...'
    used = fitting = 0  # columns; characters that leave room for the mark
    for at, character in enumerate(text, 1):
        used += text_width(character)
        if used > width:
            return text[:fitting] + mark
        fitting = at if used <= width - len(mark) else fitting
    return text


def number_of(count: int, what: str) -> str:
    """Return '1 entry' or '2 entries'."""
    return f'{count} {plural(count, what)}'


def path_shown(path: str) -> str:
    return in_words(as_utf8(shown_url(path)))


def section_shown(path: Path) -> str:
    """Return what --section takes: a name that is text as it is, all else as JSON."""
    from ..moving import as_json
    plain = len(path) == 1 and type(path[0]) is str and path[0][:1] not in ('"', '[')
    return in_words(path[0] if plain else as_json.from_key(path))


def answer(args: Namespace, text: str, **facts: Any) -> None:
    """Print what was done, or with --json the facts of it."""
    print(in_json(facts) if args.json else text)


def complain(what: object, status: int) -> int:
    """Print an error, or a note, to stderr, with cures that the command has; return the exit status."""
    text = as_utf8(str(what))
    for cure, ours in OUR_CURES.items():
        text = text.replace(cure, ours)
    try:
        print('vaults:', visible(text), file=sys.stderr)
    except OSError:
        return status  # nobody is there to hear it
    return status


# --- values -------------------------------------------------------------------------------------------------------

def form_of(data: bytes, serializer: Optional[str], whole: bool) -> Any:
    """Return the JSON form of a value; unless it is to be whole, just what a serializer has made of it."""
    from ..moving import as_json
    form = as_json.from_value(data, serializer)
    serialized = not whole and isinstance(form, dict) and '!serialized' in form
    return form['!serialized'][1] if serialized else form


def serializer_of(place: Place) -> Optional[str]:
    """Return the name of the serializer that made the values, None for our own."""
    from ..settings import recorded
    return recorded(place.store)


def holds_bytes(form: Any) -> bool:
    """Tell whether it is the form of bytes or of a bytearray."""
    return isinstance(form, dict) and list(form) in (['!bytes'], ['!bytearray'])


def print_value(place: Place, stored: Stored, data: bytes, args: Namespace) -> None:
    """Print a value that is whole: text and (but to a terminal) bytes as they are, else JSON."""
    form = form_of(data, serializer_of(place), args.json)
    if not args.json and holds_bytes(form) and not is_terminal(sys.stdout):
        _write_bytes(form)
        return
    text = form if isinstance(form, str) and not args.json else in_json(form)
    if args.allow_pickle and not args.json and text is not form and '{"!' in text:  # a tag, which JSON text has nowhere
        text = repr(place.load(stored, data))
    print(text)


def _write_bytes(form: Dict[str, str]) -> None:
    """Write what stands in a form to standard output, and nothing behind it."""
    if sys.stdout is not None:
        from base64 import b64decode
        sys.stdout.flush()
        sys.stdout.buffer.write(b64decode(next(iter(form.values()))))


def print_chunks(v: Vault[Any, Any], place: Place, data: bytes, args: Namespace) -> None:
    """Print a list or column as a JSON array, and a stream as its bytes or as JSON, a piece at a time."""
    from ..collections.kind import kind_of
    from ..collections.tree import Header
    header = Header.of(data)
    if not kind_of(header).is_bytes:
        _print_pieces('[', map(_listed, _leaves(place, header)), ', ', ']')
    elif args.json:
        _print_pieces('{"!bytes": "', _base64_of(v, args.key), '', '"}')
    elif sys.stdout is not None:
        sys.stdout.flush()
        v.get_file(args.key, sys.stdout.buffer)


def _print_pieces(start: str, pieces: Iterator[str], between: str, end: str) -> None:
    print(start, end='')
    mark = ''
    for piece in pieces:
        print(mark, piece, sep='', end='')
        mark = between
    print(end)


def _base64_of(v: Vault[Any, Any], key: Any) -> Iterator[str]:
    from base64 import b64encode
    with v.open(key) as file:
        for piece in iter(lambda: file.read(3 << 16), b''):  # a multiple of 3: the pieces join without padding
            yield b64encode(piece).decode()


def _leaves(place: Place, header: Header) -> Iterator[List[Any]]:
    """Yield the JSON forms of the items of a list or column, in lists."""
    from ..collections.kind import kind_of
    from ..moving import as_json
    serializer = serializer_of(place)
    for items, _ in kind_of(header).content(place.store, header):
        yield as_json.from_items(header, items, serializer)


def _listed(forms: List[Any]) -> str:
    return in_json(forms)[1:-1]


def _shown_value(place: Place, serializer: Optional[str], data: bytes) -> str:
    """Return a value as text; of one in chunks, what it is and its first items."""
    from ..codecs.codes import is_header
    from ..collections.kind import kind_of
    from ..collections.tree import Header
    if not is_header(data):
        return in_words(form_of(data, serializer, False))
    header = Header.of(data)
    kind = kind_of(header)
    if kind.is_bytes:
        return kind.describe(header)
    first = next(_leaves(place, header), [])
    more = ', ...' if len(first) < header.size else ''
    return f'{kind.describe(header)}: [{_listed(first)}{more}]'


# --- vaults -------------------------------------------------------------------------------------------------------

def print_entries(v: Vault[Any, Any], args: Namespace) -> None:
    """Print a table of keys and shortened values, or with --json all of them."""
    from itertools import islice
    from shutil import get_terminal_size

    from ..moving import as_json
    place = place_of(v)
    limit = SHOWN_ROWS if args.limit is None and not args.json else args.limit
    serializer = serializer_of(place)
    with v:  # one state of what is kept in chunks
        pages = place.store.scan(*args.bounds, by_key=True, reverse=args.reverse)
        entries = ((as_json.from_key(place.keys.decode(stored)), data)
                   for stored, data in islice(entries_of(pages), limit))
        if args.json:
            for key, data in entries:
                print(in_json({'key': key, 'value': form_of(data, serializer, True)}))
            return
        width = max(get_terminal_size().columns, 20)
        rows = [(shortened(in_words(key), width // 2), shortened(_shown_value(place, serializer, data), width))
                for key, data in entries]
        more = len(SortedSlice(v, *args.bounds)) - len(rows)
    _print_rows(rows, width, more)


def _print_rows(rows: List[Tuple[str, str]], width: int, more: int) -> None:
    """Print a table of keys and values in so many columns, and how many more there are."""
    first = max((text_width(key) for key, _ in rows), default=0)
    for key, value in rows:
        print(painted(key, CYAN) + ' ' * (first - text_width(key)), shortened(value, width - first - 2), sep='  ')
    if more > 0:
        print(painted(f'... and {more} more', BOLD))


def print_info(v: Vault[Any, Any], args: Namespace) -> None:
    """Print what there is to say of a vault, or of a section: size, format, sections, largest values."""
    from collections import Counter

    from ..moving import as_json
    place = place_of(v)
    chunks: Dict[str, int] = Counter()
    with v:  # one state of what is kept in chunks
        largest = _largest(place, chunks)
        sections, serializer = _section_paths(v), serializer_of(place)
    facts = _facts(v, args, chunks, serializer)
    race = facts.pop('wal_reset_race', False)
    if args.json:
        found = [as_json.from_key(path if path[1:] or type(path[0]) is tuple else path[0]) for path in sections]
        print(in_json({**facts, 'wal_reset_race': race, **({'sections': found} if sections else {}),
                       'largest': largest}))
        return
    if race:
        facts['sqlite'] = f"{facts['sqlite']}{RACE}"
    _print_facts([*facts.items(), *(('section', section_shown(path)) for path in sections),
                 *(('largest', f"{number_of(one['bytes'], 'byte')}: {in_words(one['key'])}") for one in largest)])


def _print_facts(facts: List[Tuple[str, object]]) -> None:
    """Print names and facts, a line each."""
    width = max(9, *(len(name) for name, _ in facts))
    for name, fact in facts:
        print(painted(f'{name:<{width}}', BOLD), in_words(fact))


def _facts(v: Vault[Any, Any], args: Namespace, chunks: Dict[str, int], serializer: Optional[str]) -> Dict[str, object]:
    """Return what `info` says of a vault as a whole, in the order of its lines."""
    described = place_of(v).store.describe()
    if 'sqlite' in described:
        del described['engine']  # that says it
    facts: Dict[str, object] = {
        'name': as_utf8(v.name), 'path': as_utf8(v.db_path),
        **{name: described.pop(name) for name in ('format', 'bytes') if name in described}, 'entries': len(v),
        **described, **chunks}
    if serializer is not None:
        facts['serializer'] = serializer
    if args.path:
        facts['within'] = section_shown(args.path)
    return facts


def _largest(place: Place, chunks: Dict[str, int]) -> List[Dict[str, Any]]:
    """Return the keys and sizes of the largest values; count what is in chunks."""
    from heapq import nlargest

    from ..moving import as_json
    pages = place.store.scan(*place.keys.bounds())
    sizes = ((_value_size(place, data, chunks), key) for key, data in entries_of(pages))
    return [{'key': as_json.from_key(place.keys.decode(key)), 'bytes': size}
            for size, key in nlargest(SHOWN_LARGEST, sizes, key=lambda pair: pair[0])]


def _value_size(place: Place, data: bytes, chunks: Dict[str, int]) -> int:
    """Return the bytes of a value; count it and them in `chunks` when it is kept in chunks."""
    from ..codecs.codes import is_header
    from ..collections.kind import kind_of
    from ..collections.tree import Header
    if not is_header(data):
        return len(data)
    header = Header.of(data)
    kind = kind_of(header)
    size = kind.bytes_of(place.store, header)
    chunks[f'{kind.name}s'] += 1
    chunks['parts'] += size
    return size


def _section_paths(v: Vault[Any, Any]) -> List[Path]:
    """Return the paths of the first sections, those inside others behind them, going from each to the next."""
    from itertools import islice

    from ..sections import names
    found: List[Path] = []
    above: List[Path] = [()]
    for path in above:
        for name in islice(names(inner(v, path)), SHOWN_SECTIONS - len(found)):
            found.append((*path, name))
            above.append((*path, name))
    return found


def inner(v: Vault[Any, Any], path: Path) -> Vault[Any, Any]:
    """Return the section that a path leads to; the vault itself for none."""
    for name in path:
        v = v.section(name)
    return v


def losses(done: Recovery) -> Iterator[str]:
    """Yield lines about what recovery has not saved, or perhaps should not have."""
    from ..moving import as_json
    for key, why in done.lost:
        yield f'lost: {in_words(as_json.from_key(key))}: {why}'
    for key in done.doubtful:
        yield f'doubtful: {in_words(as_json.from_key(key))}: it may have been deleted or replaced before'
    if done.nameless:
        yield f'lost: {done.nameless} more, whose keys cannot be read'
    yield from done.notes
