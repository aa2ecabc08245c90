"""The command `vaults`: tables of commands and arguments, and what people see of a vault. Knows no SQL and no msgpack.

A command that reads opens with flag='r' and creates nothing. Exit status: 0 done, 1 not found or problems, 2 misuse,
130 interrupted. Keys and values on the command line are text, or what docs/json.md says: both with --json, or one of
them with --json-key or --json-value.
"""
from __future__ import annotations

import argparse
import os
import sys

from .. import __version__, keys
from ..errors import VaultCorruptError, VaultError, plural
from ..opening import ExactPath, locate
from ..stores.base import entries_of
from ..vault import Vault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, Iterator, List, NoReturn, Optional, Sequence, Tuple

    Run = Callable[[Any, argparse.Namespace], Optional[int]]

INTERVAL = 0.1       # seconds between two pictures of progress
TABLE_ROWS = 50      # of `show`, unless --limit says otherwise
RACE = (' (two programs that write to one file can damage it by a fault of this SQLite, the WAL-reset bug, mended in '
        '3.51.3: keep other programs from writing to a vault; vaults see to it that it cannot happen among themselves)')
STDIN = ('-', '/dev/stdin', '/dev/fd/0', '/proc/self/fd/0')
STDOUT = ('-', '/dev/stdout', '/dev/fd/1', '/proc/self/fd/1')
LARGEST = 5          # values that `info` names
SECTIONS = 20        # that `info` names
PATHS = {'vault', 'file', 'source', 'output', 'bad', 'good', 'root'}  # arguments that go to the system as they came
BOLD, GREEN, RED, CYAN = '1', '32', '31', '36'


class Misuse(Exception):
    """What was asked for cannot be understood: exit status 2."""


# --- running and failing ------------------------------------------------------------------------------------------

def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command with `argv`, by default the arguments of the process, and return its exit status."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, 'reconfigure'):
            stream.reconfigure(errors='backslashreplace')  # a key may hold what the terminal cannot show
    root = os.environ.get('VAULTS_ROOT')
    try:
        return _flushed(_guarded(argv))
    finally:
        _set_root(root)  # for who calls this from a program


def _guarded(argv: Optional[Sequence[str]]) -> int:
    try:
        words = _literal(sys.argv[1:] if argv is None else argv)
        _require_command(words)
        return _run(_parser().parse_args(words))
    except SystemExit as end:  # of argparse, or of exit() in a shell
        return end.code if isinstance(end.code, int) else 0 if end.code is None else _complain(end.code, 1)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 0  # whoever reads has seen enough
    except Misuse as error:
        return _complain(error, 2)
    except (VaultError, OSError, ImportError) as error:
        return _complain(error, 1)
    except Exception as error:
        if os.environ.get('VAULTS_TRACEBACK'):
            raise
        return _complain(f'unexpected {type(error).__name__}: {error}; VAULTS_TRACEBACK=1 shows where', 1)


CURES = {  # what a program does, and in its place who gives the command
    'or let it be created': 'or make it with `vaults set`',
    "open it without flag='r' first": 'a command that writes makes a vault of it',
    "open it without flag='r', as a user who may write": 'be a user who may write',
    "open it with flag='r' to read it": 'commands that read need no more',
    'or open with a larger timeout': 'or repeat it later',
    'use a slice, v[a:b]': 'take --from and --to',
}


def _complain(what: object, status: int) -> int:
    text = _decoded(str(what))
    for cure, ours in CURES.items():
        text = text.replace(cure, ours)
    try:
        print('vaults:', _visible(text), file=sys.stderr)
    except OSError:
        return status  # nobody is there to hear it
    return status


def _flushed(status: int) -> int:
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python tries again at exit, and complains
        if not isinstance(error, BrokenPipeError):
            return _complain(error, 1)
    return status


def _set_root(root: Optional[str]) -> None:
    """Say where vaults are kept, by what Vault's own rule for names reads."""
    if root is not None:
        os.environ['VAULTS_ROOT'] = root
    else:
        os.environ.pop('VAULTS_ROOT', None)


def _run(args: argparse.Namespace) -> int:
    if args.root is not None:
        _set_root(args.root)
    run, flag, _, _ = COMMANDS[args.command]
    for name in vars(args).keys() - PATHS:
        setattr(args, name, _decoded(getattr(args, name)))
    _understand(args)
    if not flag:
        return run(None, args) or 0
    place = _place(args.vault)
    path = locate(place, False)[1]
    args.missing = [one for one in (path, os.path.dirname(path)) if not os.path.exists(one)]
    v = _opened(place, flag, args)
    try:
        return run(_section(v, args.path), args) or 0
    finally:
        v.close()


def _opened(place: Any, flag: Any, args: argparse.Namespace) -> Any:
    from ..codecs.serializers import AS_STORED
    sources = _sources(args) if args.command == 'import' and args.missing else []
    path = sources and locate(place, True)[1]
    if path:
        from .. import files
        files.make_copy(path, *sources)  # empty: then it is made a vault as if it were not there
    try:
        return Vault(place, flag=flag, allow_pickle=args.allow_pickle or None, serializer=AS_STORED)
    except BaseException:
        if path and not os.path.getsize(path):
            os.unlink(path)
        raise


def _sources(args: argparse.Namespace) -> List[str]:
    """Return the files that an import reads, than which the vault that is made for it is to be no wider open."""
    from ..moving.source import files_of
    files = [] if args.source in STDIN else files_of(args.source, args.kind)
    return [file for file in files if os.path.exists(file)]


def _section(v: Any, path: Tuple[Any, ...]) -> Any:
    for name in path:
        v = v.section(name)
    return v


# --- what was asked for -------------------------------------------------------------------------------------------

def _require_command(words: Sequence[str]) -> None:
    """Raise when the command is called otherwise here, and say how."""
    rest = iter(words)
    for word in rest:
        if word == '--root':
            next(rest, None)
        elif word[:1] != '-':
            if word not in COMMANDS:
                raise Misuse(f'there is no command {word!r}{_instead(word)}')
            return


def _instead(word: str) -> str:
    """Return the end of an error: what the command that was meant is called."""
    known = next((command for command, words in OTHER_WORDS.items() if word.lower() in words.split()), '')
    if known:
        return f': say vaults {known}'
    from difflib import get_close_matches
    near = ''.join(get_close_matches(word.lower(), COMMANDS, 1))
    return f": {near and f'did you mean {near}? '}see vaults --help"


def _literal(argv: Sequence[str]) -> List[str]:
    """Mark with a NUL what begins with - behind a --, of which argparse, depending on its version, loses some."""
    if '--' not in argv:
        return list(argv)
    at = argv.index('--')
    return [*argv[:at], *(f'\0{text}' if text[:1] == '-' else text for text in argv[at + 1:])]


def _decoded(text: Any) -> Any:
    """Return text of the command line, or a name of a file, as UTF-8; and all else as it is.

    In an ASCII locale Python reads none of its characters but marks the bytes, which is right for paths alone.
    """
    if isinstance(text, list):
        return [*map(_decoded, text)]
    if not isinstance(text, str) or text.isascii():
        return text
    try:
        return text.encode('utf-8', 'surrogateescape').decode('utf-8', 'surrogateescape')
    except UnicodeError:  # a surrogate that marks no byte
        return text


def _unmarked(text: str) -> str:
    return text[1:] if text[:1] == '\0' else text


def _place(text: str) -> Any:
    """Return what Vault takes: a name as it is, a path as a path."""
    if text[-3:].lower() == '.db' or os.sep in text or (os.altsep or os.sep) in text:
        return ExactPath(text)
    try:
        if locate(text, False)[1] != text:
            return text
    except VaultError as error:
        raise Misuse(error) from error
    raise Misuse(f'the vault {text} would end with this command: give a name or a path')


def _understand(args: argparse.Namespace) -> None:
    """Turn the texts of keys and values into keys and packed values, before any vault is opened or made."""
    args.json_key |= args.json
    args.json_value |= args.json
    try:
        args.path = tuple(name for text in args.section or () for name in _path(text))
        if 'prefix' in args:
            args.bounds = _bounds(args)
        args.word = getattr(args, 'key', None)  # as it was typed
        if args.word is not None:
            args.key = _key(args.word, args.json_key)
        if 'value' in args:
            args.text = _read_value() if args.value == '-' else args.value
            args.value = _value(args.text, args)
    except (ValueError, TypeError, RecursionError, VaultError) as error:
        raise Misuse(error) from error


def _key(text: str, is_json: bool) -> Any:
    if not is_json:
        return text
    from ..moving import as_json
    return as_json.to_key(_loads(text))


def _path(text: str) -> Tuple[Any, ...]:
    """Return the names that --section gives: text, or as JSON one text or all names, each inside the one before."""
    if text[:1] not in ('"', '['):
        return (text,)
    found = _key(text, True)
    if found == ():
        raise Misuse('--section [] names no section')
    return found if isinstance(found, tuple) else (found,)


def _bounds(args: argparse.Namespace) -> Tuple[Any, Any]:
    """Return the stored ends of the range that --prefix, --from and --to ask for together."""
    codec: Any = keys
    if args.path:
        from ..sections import Prefixed
        codec = Prefixed(args.path)
    low, high = (end if text is None else codec.encode(_key(text, args.json_key))
                 for text, end in zip((args.low, args.high), codec.bounds()))
    if args.prefix is None:
        return low, high
    first, behind = codec.prefix_bounds(_key(args.prefix, args.json_key))
    return max(low, first, key=keys.order), min(high, behind, key=keys.order)


def _value(text: str, args: argparse.Namespace) -> bytes:
    """Return the packed value, without making the object: its class need not be at hand."""
    from ..moving import as_json
    if args.json_value:
        return as_json.to_value(_loads(text), (lambda: None) if args.allow_pickle else _refuse)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise Misuse('the value is no UTF-8 text: give bytes as --json-value \'{"!bytes": "..."}\', in base64'
                     ) from error
    return as_json.to_value(text)


def _refuse() -> NoReturn:
    raise Misuse('the value holds a pickle, which runs code when it is read: --allow-pickle stores it')


def _loads(text: str) -> Any:
    import json
    from shlex import quote

    def refuse(word: str) -> NoReturn:
        raise ValueError(f'{word} is no JSON')
    try:
        return json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        short = text if len(text) <= 40 else f'{text[:40]}...'
        given = quote(json.dumps(text if short == text else 'text', ensure_ascii=False))
        raise Misuse(f'{short!r} is no JSON ({error}); text is written in quotes: {given}') from error


def _stdin(what: str = 'the content') -> Any:
    if sys.stdin is None:
        raise Misuse('there is no standard input to read from')
    if _is_terminal(sys.stdin):
        _complain(f'note: {what} comes from the terminal; Ctrl-D on a line of its own ends it', 0)
    return sys.stdin.buffer


def _read_value() -> str:
    """Return what standard input holds, as UTF-8, without the line's end that `get` and `echo` add."""
    data, end = _stdin('the value').read(), os.linesep.encode()
    return (data[:-len(end)] if data.endswith(end) else data).decode('utf-8', 'surrogateescape')  # type: ignore[no-any-return]


# --- what is shown ------------------------------------------------------------------------------------------------

def _is_terminal(stream: Any) -> bool:
    return stream is not None and stream.isatty()


def _is_unicode() -> bool:
    return str(getattr(sys.stdout, 'encoding', 'utf-8')).lower().startswith('utf')


def _painted(text: str, colour: str) -> str:
    plain = not _is_terminal(sys.stdout) or os.environ.get('NO_COLOR') or os.environ.get('TERM') == 'dumb'
    return text if plain else f'\x1b[{colour}m{text}\x1b[0m'


def _json(form: Any) -> str:
    """Return JSON in one line, with escapes for what a terminal would obey or could not show."""
    import json
    return _visible(json.dumps(form, ensure_ascii=not _is_unicode(), allow_nan=False))


def _visible(text: str) -> str:
    """Return the text with the escapes of JSON for all that is not printable."""
    if not text.isprintable():
        import json
        for character in set(text):
            if not character.isprintable():
                text = text.replace(character, json.dumps(character)[1:-1])
    return text


def _text(form: Any) -> str:
    """Return text as it is where it can be shown, and all else as JSON."""
    shown = isinstance(form, str) and form.isprintable() and (form.isascii() or _is_unicode())
    return form if shown else _json(form)


def _columns(text: str) -> int:
    """Return how wide the text is on a terminal: East Asian characters take two columns, combining ones none."""
    if text.isascii():
        return len(text)
    from unicodedata import category, east_asian_width
    return sum(0 if category(one) in ('Mn', 'Me') else 2 if east_asian_width(one) in 'WF' else 1 for one in text)


def _cut(text: str, width: int) -> str:
    """Return the text, shortened to so many columns."""
    mark = '…' if _is_unicode() else '...'
    used = fitting = 0  # columns; characters that leave room for the mark
    for at, character in enumerate(text, 1):
        used += _columns(character)
        if used > width:
            return text[:fitting] + mark
        fitting = at if used <= width - len(mark) else fitting
    return text


def _say(args: argparse.Namespace, text: str, **facts: Any) -> None:
    print(_json(facts) if args.json else text)


class _Progress:
    """A line on stderr while something takes long, on a terminal alone. For the main thread.

    It also lets Ctrl-C end a long statement of SQLite, of which Python would hear only when the statement has ended.
    """

    def __init__(self, v: Any, verb: str, unit: str, hidden: bool = False) -> None:
        self._text = f'{verb}: {{:,}} {unit}'.format
        self._whole = f'{verb}: {{:,}} of {{:,}} {unit}'.format
        self._v, self._verb, self._width, self._next = v, verb, 0, 0.0
        self._shown = _is_terminal(sys.stderr) and not hidden
        self.interrupted = False

    def __enter__(self) -> _Progress:
        import signal
        import threading
        self._before: Any = signal.getsignal(signal.SIGINT)
        if self._before is signal.default_int_handler and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, self._interrupt)
        from contextlib import nullcontext
        self._block = nullcontext() if self._v is None else self._v._store.interruptible(lambda: self.interrupted)
        self._block.__enter__()
        self._draw(f'{self._verb} ...')
        return self

    def _interrupt(self, *_: object) -> NoReturn:
        self.interrupted = True  # SQLite drops an exception that is raised in its callbacks
        raise KeyboardInterrupt

    def __call__(self, done: int, total: int = 0) -> None:
        from time import monotonic
        if self._shown and monotonic() >= self._next:
            self._next = monotonic() + INTERVAL
            self._draw(self._whole(done, total) if total else self._text(done))

    def _draw(self, text: str) -> None:
        if self._shown:
            self._width = max(self._width, len(text))
            print(f'\r{text:<{self._width}}', end='\r' if not text else '', file=sys.stderr, flush=True)

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        import signal
        self._draw('')
        if signal.getsignal(signal.SIGINT) == self._interrupt:
            signal.signal(signal.SIGINT, self._before)
        self._block.__exit__(kind, error, trace)
        if self.interrupted and kind is not KeyboardInterrupt:
            raise KeyboardInterrupt from error


# --- the commands -------------------------------------------------------------------------------------------------

def _list(_: Any, args: argparse.Namespace) -> None:
    folder = os.path.dirname(locate('any', False)[1])
    if not os.path.isdir(os.path.dirname(folder)):  # which is a mistake; one without vaults is not
        raise VaultError(f'there is no folder {os.path.dirname(folder)}: it would be the root; say another with --root '
                         'or VAULTS_ROOT')
    files = os.listdir(folder) if os.path.isdir(folder) else []
    files = [name for name in files if name.endswith('.db') and os.path.isfile(os.path.join(folder, name))]
    # NAME.db.db has a path alone: `NAME.db` is one
    names = [os.path.join(folder, name) if name[-6:-3].lower() == '.db' else name[:-3]
             for name in sorted(map(_decoded, files))]
    if args.json:
        print(_json(names))
    else:
        print(*map(_text, names), sep='\n', end='\n' if names else '')


def _keys(v: Any, args: argparse.Namespace) -> None:
    from itertools import islice

    from ..moving import as_json
    shown = _json if args.json_key else _text
    for key in islice(v._walk_keys(args.reverse, args.bounds), args.limit):
        print(shown(key if type(key) is str and key.isprintable() else as_json.from_key(key)))


def _get(v: Any, args: argparse.Namespace) -> None:
    from ..collections.tree import is_head
    stored = v._keys.encode(args.key)
    with v:  # one state of all its parts
        data = v._store.get(stored)
        if data is None:
            raise _no_key(v, args)
        if args.output not in (None, *STDOUT):
            _get_file(v, args, data)
        elif is_head(data):
            _print_parts(v, args, data)
        else:
            _print_value(v, args, stored, data)


def _print_value(v: Any, args: argparse.Namespace, stored: Any, data: bytes) -> None:
    form = _form(data, _serializer(v), args.json)
    if not args.json and _is_bytes(form) and not _is_terminal(sys.stdout):
        _write_bytes(form)
        return
    text = form if isinstance(form, str) and not args.json else _json(form)
    if args.allow_pickle and not args.json and text is not form and '{"!' in text:  # a tag, which JSON text has nowhere
        text = repr(v._load(stored, data))
    print(text)


def _is_bytes(form: Any) -> bool:
    return isinstance(form, dict) and list(form) in (['!bytes'], ['!bytearray'])


def _write_bytes(form: Dict[str, str]) -> None:
    """Write what stands in a form to standard output, and nothing behind it."""
    if sys.stdout is not None:
        from base64 import b64decode
        sys.stdout.flush()
        sys.stdout.buffer.write(b64decode(next(iter(form.values()))))


def _form(data: bytes, serializer: Optional[str], whole: bool) -> Any:
    """Return the JSON form of a value; unless it is to be whole, just what a serializer has made of it."""
    from ..moving import as_json
    form = as_json.from_value(data, serializer)
    serialized = not whole and isinstance(form, dict) and '!serialized' in form
    return form['!serialized'][1] if serialized else form


def _serializer(v: Any) -> Optional[str]:
    from ..settings import recorded
    return recorded(v._store)


def _print_parts(v: Any, args: argparse.Namespace, data: bytes) -> None:
    """Print a list or column as a JSON array, and a stream as its bytes or as JSON, a piece at a time."""
    from ..codecs.codes import STREAM
    from ..collections.tree import Head
    head = Head.of(data)
    if head.code == STREAM and not args.json:
        if sys.stdout is not None:
            sys.stdout.flush()
            v.get_file(args.key, sys.stdout.buffer)
        return
    start, end = ('{"!bytes": "', '"}') if head.code == STREAM else ('[', ']')
    print(start, end='')
    mark = ''
    for text in _base64(v, args.key) if head.code == STREAM else map(_inside, _leaves(v, head)):
        print(mark, text, sep='', end='')
        mark = '' if head.code == STREAM else ', '
    print(end)


def _base64(v: Any, key: Any) -> Iterator[str]:
    from base64 import b64encode
    with v.open(key) as file:
        for piece in iter(lambda: file.read(3 << 16), b''):  # a multiple of 3: the pieces join without padding
            yield b64encode(piece).decode()


def _leaves(v: Any, head: Any) -> Iterator[List[Any]]:
    """Yield the JSON forms of the items of a list or column, in lists."""
    from ..moving import as_json
    from ..moving.parts import runs
    serializer = _serializer(v)
    for items, _ in runs(v._store, head):
        yield as_json.from_items(head, items, serializer)


def _inside(forms: List[Any]) -> str:
    return _json(forms)[1:-1]


def _get_file(v: Any, args: argparse.Namespace, data: bytes) -> None:
    """Write a stream, bytes or text to a file; nothing else, which would have to be loaded first."""
    from ..codecs.codes import STREAM
    from ..collections.tree import Head, is_head
    if is_head(data):
        fits = Head.of(data).code == STREAM
    else:
        form = _form(data, _serializer(v), False)
        fits = isinstance(form, str) or _is_bytes(form)
    if not fits:
        raise VaultError(f'only a stream, bytes or text are written to a file: key {args.key!r} of the vault '
                         f'{v.db_path} is something else; without --output it is printed')
    with _Progress(v, 'writing', 'bytes') as progress:
        size = v.get_file(args.key, args.output, progress)
    _say(args, f'{size} {plural(size, "byte")} written to {_text(_decoded(args.output))}', bytes=size)


def _put(v: Any, args: argparse.Namespace) -> None:
    source = _stdin() if args.source in STDIN else args.source
    try:
        with _Progress(v, 'storing', 'bytes') as progress:
            before = _type_at(v, v._keys.encode(args.key))
            size = v.put_file(args.key, source, progress)
    except BaseException:
        _unmake(v, args.missing)
        raise
    if before not in ('', 'a stream', 'bytes'):
        _complain(f'note: key {args.key!r} was {before} and is now a stream', 0)
    _say(args, f'{size} {plural(size, "byte")} stored', bytes=size)


def _no_key(v: Any, args: argparse.Namespace) -> VaultError:
    hint = _other_key(v, args)
    if not hint and v.section(args.key):
        hint = f'there is a section of that name: --section {_path_text((args.key,))}'
    return VaultError(f'there is no key {args.key!r} in {_whereabouts(v, args)}{hint and ", but "}{hint}')


def _whereabouts(v: Any, args: argparse.Namespace) -> str:
    within = f'the section {_path_text(args.path)} of ' if args.path else ''
    return f'{within}the vault {v.db_path}'


def _path_text(path: Tuple[Any, ...]) -> str:
    """Return what --section takes: a name that is text as it is, all else as JSON."""
    from ..moving import as_json
    plain = len(path) == 1 and type(path[0]) is str and path[0][:1] not in ('"', '[')
    return _text(path[0] if plain else as_json.from_key(path))


def _other_key(v: Any, args: argparse.Namespace) -> str:
    """Return which key is there for the word that was typed, read as JSON instead of as text or the other way round."""
    try:
        other = args.word if args.json_key else _key(args.word, True)
        if other == args.key or other not in v:
            return ''
    except (Misuse, ValueError, TypeError, RecursionError, VaultError):
        return ''
    return f'there is a key {other!r}: give it {"in quotes, as JSON" if args.json_key else "with --json-key"}'


def _set(v: Any, args: argparse.Namespace) -> None:
    from ..moving import as_json
    if _serializer(v) is not None:
        v._codec.dumps(None)  # which raises, and says why
    stored = v._keys.encode(args.key)
    with v:
        before = _type_at(v, stored)
        other = '' if before else _other_key(v, args)
        v._store.put(stored, args.value)
    now = as_json.type_name(args.value)
    if other:
        _complain(f'note: key {args.key!r} is a new one; {other}', 0)
    elif before and before != now:
        _complain(f'note: key {args.key!r} was {before} and is now {now}{_as_before(args, before)}', 0)


def _type_at(v: Any, stored: Any) -> str:
    """Return the name of the type of the value that is there; '' for none, or for a damaged one, to be replaced."""
    from ..moving import as_json
    try:
        data = v._store.get(stored)
        return '' if data is None else as_json.type_name(data)
    except VaultCorruptError:
        return ''


def _as_before(args: argparse.Namespace, before: str) -> str:
    """Return the cure, where the text that was set is JSON of the type that was there."""
    from ..moving import as_json
    if args.json_value:
        return ''
    try:
        fits = as_json.type_name(as_json.to_value(_loads(args.text))) == before
    except (Misuse, VaultError):
        fits = False
    return f': --json-value keeps it {before}' if fits else ''


def _delete(v: Any, args: argparse.Namespace) -> None:
    if args.word is not None:
        try:
            del v[args.key]
        except KeyError:
            raise _no_key(v, args) from None
        return
    if not args.path:
        raise Misuse('say which KEY to delete, or with --section NAME a whole section')
    with v:
        done = len(v)
        v.clear()
    if not done:
        raise VaultError(f'there is nothing in {_whereabouts(v, args)}')
    _say(args, f'{done} {plural(done, "entry")} deleted', deleted=done)


def _count(v: Any, args: argparse.Namespace) -> None:
    print(v._count(*args.bounds))


def _entries(v: Any, args: argparse.Namespace) -> Iterator[Tuple[Any, bytes]]:
    for stored, data in entries_of(v._scan(args.reverse, args.bounds, values=True)):
        yield v._keys.decode(stored), data


def _show(v: Any, args: argparse.Namespace) -> None:
    from itertools import islice
    from shutil import get_terminal_size

    from ..moving import as_json
    limit = TABLE_ROWS if args.limit is None and not args.json else args.limit
    serializer = _serializer(v)
    with v:  # one state of what is kept in parts
        entries = ((as_json.from_key(key), data) for key, data in islice(_entries(v, args), limit))
        if args.json:
            for key, data in entries:
                print(_json({'key': key, 'value': _form(data, serializer, True)}))
            return
        width = max(get_terminal_size().columns, 20)
        rows = [(_cut(_text(key), width // 2), _cut(_shown(v, serializer, data), width)) for key, data in entries]
        more = v._count(*args.bounds) - len(rows)
    first = max((_columns(key) for key, _ in rows), default=0)
    for key, value in rows:
        print(_painted(key, CYAN) + ' ' * (first - _columns(key)), _cut(value, width - first - 2), sep='  ')
    if more > 0:
        print(_painted(f'... and {more} more', BOLD))


def _shown(v: Any, serializer: Optional[str], data: bytes) -> str:
    """Return a value as text; of one in parts, what it is and its first items."""
    from ..codecs.codes import COLUMN, STREAM
    from ..collections.tree import Head, is_head
    if not is_head(data):
        return _text(_form(data, serializer, False))
    head = Head.of(data)
    if head.code == STREAM:
        return f'stream of {head.size} {plural(head.size, "byte")}'
    first = next(_leaves(v, head), [])
    kind = f'column of {head.meta}, ' if head.code == COLUMN else 'list of '
    more = ', ...' if len(first) < head.size else ''
    return f'{kind}{head.size} {plural(head.size, "item")}: [{_inside(first)}{more}]'


def _size(store: Any) -> int:
    """Return the bytes that a vault takes."""
    size: int = store.describe().get('bytes', 0)
    return size


def _info(v: Any, args: argparse.Namespace) -> None:
    from collections import Counter
    from heapq import nlargest

    from ..moving import as_json
    parts: Dict[str, int] = Counter()
    with v:  # one state of what is kept in parts
        sizes = ((_bytes(v, data, parts), key) for key, data in entries_of(v._scan(False, None, values=True)))
        largest = [{'key': as_json.from_key(v._keys.decode(key)), 'bytes': size}
                   for size, key in nlargest(LARGEST, sizes, key=lambda pair: pair[0])]
        sections, serializer = _sections(v), _serializer(v)
    stored = v._store.describe()
    race = stored.pop('wal_reset_race', False)
    if 'sqlite' in stored:
        del stored['engine']  # that says it
    facts = {'name': _decoded(v.name), 'path': _decoded(v.db_path),
             **{name: stored.pop(name) for name in ('format', 'bytes') if name in stored}, 'entries': len(v), **stored,
             **parts, **({'serializer': serializer} if serializer is not None else {}),
             **({'within': _path_text(args.path)} if args.path else {})}
    if args.json:
        names = [as_json.from_key(path if path[1:] or type(path[0]) is tuple else path[0]) for path in sections]
        print(_json({**facts, 'wal_reset_race': race, **({'sections': names} if sections else {}), 'largest': largest}))
        return
    if race:
        facts['sqlite'] += RACE
    lines = [*facts.items(), *(('section', _path_text(path)) for path in sections),
             *(('largest', f"{one['bytes']} {plural(one['bytes'], 'byte')}: {_text(one['key'])}") for one in largest)]
    width = max(9, *(len(name) for name, _ in lines))
    for name, fact in lines:
        print(_painted(f'{name:<{width}}', BOLD), _text(fact))


def _bytes(v: Any, data: bytes, parts: Dict[str, int]) -> int:
    """Return the bytes of a value; count it and them in `parts` when it is kept in parts."""
    from ..codecs import codes
    from ..collections.tree import Head, is_head
    from ..moving.parts import runs
    if not is_head(data):
        return len(data)
    head = Head.of(data)
    if head.code == codes.LIST:
        size = sum(map(len, (item for items, _ in runs(v._store, head) for item in items)))
    else:
        from ..collections.dtype import type_of
        size = head.size * (type_of(head.meta).size if head.code == codes.COLUMN else 1)
    parts[{codes.LIST: 'lists', codes.COLUMN: 'columns', codes.STREAM: 'streams'}[head.code]] += 1
    parts['parts'] += size
    return size


def _sections(v: Any) -> List[Tuple[Any, ...]]:
    """Return the paths of the first sections, those inside others behind them, going from each to the next."""
    from itertools import islice

    from ..sections import names
    found: List[Tuple[Any, ...]] = []
    above: List[Tuple[Any, ...]] = [()]
    for path in above:
        for name in islice(names(_section(v, path)), SECTIONS - len(found)):
            found.append((*path, name))
            above.append((*path, name))
    return found


def _check(v: Any, args: argparse.Namespace) -> int:
    with _Progress(v, 'checking', 'entries') as progress:
        problems = v.check(progress)
    if args.json:
        print(_json(problems))
    elif problems:
        print(*(_painted(_text(problem), RED) for problem in problems), sep='\n')
    else:
        print(_painted('sound', GREEN) + f': {len(v)} {plural(len(v), "entry")}')
    return 1 if problems else 0


def _compact(v: Any, args: argparse.Namespace) -> None:
    store = v._store  # which tells its size when it is closed as well
    before = _size(store)
    with _Progress(v, 'compacting', 'pages') as progress:
        v.compact(progress)
    v.close()  # which takes the rest of the log along
    _say(args, f'{before} bytes before, {_size(store)} after', before=before, after=_size(store))


def _backup(v: Any, args: argparse.Namespace) -> None:
    with _Progress(v, 'copying', 'pages') as progress:
        v.backup(args.file, progress)
    size = os.path.getsize(args.file)
    _say(args, f'{size} bytes written to {_text(_decoded(args.file))}', bytes=size)


def _recover(_: Any, args: argparse.Namespace) -> int:
    from ..moving import as_json
    from ..recovery import recover
    with _Progress(None, 'reading', 'pages') as progress:
        done = recover(_place(args.bad), _place(args.good), progress)
    if args.json:
        print(_json({'recovered': done.recovered, 'counted': done.counted, 'nameless': done.nameless,
                     'lost': [{'key': as_json.from_key(key), 'why': why} for key, why in done.lost],
                     'doubtful': [*map(as_json.from_key, done.doubtful)], 'notes': done.notes}))
        return 0 if done.whole else 1
    for key, why in done.lost:
        print(_painted(f'lost: {_text(as_json.from_key(key))}: {why}', RED))
    for key in done.doubtful:
        print(_painted(f'doubtful: {_text(as_json.from_key(key))}: it may have been deleted or replaced before', RED))
    if done.nameless:
        print(_painted(f'lost: {done.nameless} more, whose keys cannot be read', RED))
    for note in done.notes:
        print(_painted(note, RED))
    count = 'an unknown number' if done.counted is None else done.counted
    print(f'{done.recovered} {plural(done.recovered, "entry")} of {count} recovered to {_text(_decoded(args.good))}')
    return 0 if done.whole else 1


def _import(v: Any, args: argparse.Namespace) -> None:
    from .. import moving
    try:
        source = _lines(args) if args.source in STDIN else args.source
        with _Progress(v, 'importing', 'entries') as progress, v:
            before = len(v)
            done = moving.import_file(v, source, kind=args.kind, table=args.table, key=args.column,
                                      types=args.types, encoding=args.encoding,
                                      allow_pickle=args.allow_pickle or None, progress=progress)
            replaced = done - (len(v) - before)
    except BaseException as error:
        _unmake(v, args.missing)
        if isinstance(error, VaultError):
            raise type(error)(_as_options(str(error))) from error
        raise
    _say(args, f'{done} {plural(done, "entry")} imported, {replaced} of them replaced earlier ones', imported=done,
         replaced=replaced)


def _as_options(text: str) -> str:
    """Return an error of moving.py with the options of the command for those of its functions."""
    import re
    text = text.replace('allow_pickle=True', '--allow-pickle').replace('decode=...', 'decode=... in Python')
    text += '. `python -m vaults` looks for classes in the current folder as well' if 'importable?' in text else ''
    return re.sub(r"\b(kind|table|key|types|encoding)=(?:'([^']*)'|(None)|\.\.\.)",
                  lambda found: f'--{found[1]} {found[2] or found[3] or "..."}', text)


def _lines(args: argparse.Namespace) -> Any:
    """Return standard input as moving.py opens a file: without a byte order mark, and with what is no text marked."""
    from io import TextIOWrapper
    try:
        encoding = 'utf-8-sig' if args.encoding in ('utf-8', None) else args.encoding
        return TextIOWrapper(_stdin(args.kind or 'JSON Lines'), encoding, 'surrogateescape', newline='')
    except LookupError as error:
        raise Misuse(error) from error


def _unmake(v: Any, missing: List[str]) -> None:
    """Delete what was made for an import that failed, unless somebody has put something into it meanwhile."""
    if missing and not len(v):
        v.delete_vault()
        for folder in missing[1:]:
            if not os.listdir(folder):
                os.rmdir(folder)


def _export(v: Any, args: argparse.Namespace) -> None:
    from .. import moving
    aloud = args.file in (None, *STDOUT)
    target: Any = sys.stdout if aloud else args.file
    if aloud:
        target.reconfigure(encoding='utf-8', newline='\n')  # as in a file, whatever the terminal speaks
    with _Progress(v, 'exporting', 'entries', hidden=aloud and _is_terminal(target)) as progress:
        done = moving.export(v, target, progress=progress)
    if not aloud:
        _say(args, f'{done} {plural(done, "entry")} written to {_text(_decoded(target))}', exported=done)


def _shell(v: Any, args: argparse.Namespace) -> None:
    import code

    import vaults
    names = {'v': v, 'vaults': vaults, '__name__': '__console__'}
    banner = f"{v!r}{', a new one,' if args.missing else ''} is v; exit() or Ctrl-D ends"
    if _is_terminal(sys.stdin):
        _edit_lines(names)
    else:
        sys.ps1 = sys.ps2 = banner = ''  # what comes from a pipe is answered and nothing else
    code.interact(banner, local=names, exitmsg='')


def _edit_lines(names: Dict[str, Any]) -> None:
    try:
        import readline
        import rlcompleter
    except ImportError:
        return  # Windows has none
    readline.set_completer(rlcompleter.Completer(names).complete)
    readline.parse_and_bind('bind ^I rl_complete' if 'libedit' in (readline.__doc__ or '') else 'tab: complete')


def _completion(_: Any, args: argparse.Namespace) -> None:
    from .completion import script
    print(script(args.shell, COMMANDS, ARGUMENTS), end='')


# --- the tables ---------------------------------------------------------------------------------------------------

def _limit(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f'{text!r} is no number of entries, which 20 is')
    return int(text)


ARGUMENTS: Dict[str, Tuple[str, Dict[str, Any]]] = {
    'VAULT': ('vault', {'help': 'a name, or a path when it holds a separator or ends in .db'}),
    'KEY': ('key', {'help': 'text, or JSON with --json-key or --json; after -- it may begin with -'}),
    '[KEY]': ('key', {'nargs': '?', 'help': 'as for get; without it, with --section, the whole section'}),
    'VALUE': ('value', {'help': 'text, or JSON with --json-value or --json; - reads it from standard input'}),
    'FILE': ('file', {'help': 'the file to write, which must not exist'}),
    '<FILE>': ('source', {'help': 'the file to read; - reads standard input'}),
    '[FILE]': ('file', {'nargs': '?', 'help': 'the file to write, which must not exist; - or none: standard output'}),
    'BAD': ('bad', {'help': 'the damaged vault, a name or a path; it is only read'}),
    'GOOD': ('good', {'help': 'the new vault, which must not exist'}),
    'SOURCE': ('source', {'help': 'the file or folder to read; - reads standard input: JSON Lines, or what --kind says '
                                  'of json, jsonlines, csv and tinydb'}),
    'bash|zsh|fish': ('shell', {'choices': ['bash', 'zsh', 'fish'], 'help': 'which shell the script is for'}),
    '--json-key': ('json_key', {'action': 'store_true', 'help': 'keys are JSON, as `vaults --json keys` prints them; '
                                'values are not'}),
    '--json-value': ('json_value', {'action': 'store_true', 'help': 'the value is JSON, the key is not'}),
    '--section': ('section', {'metavar': 'NAME', 'action': 'append', 'help': 'work inside a section, as if it were the '
                              'vault; once more for one inside it, or all names as a JSON array: \'["users", 2026]\''}),
    '--prefix': ('prefix', {'metavar': 'P', 'help': 'only keys that begin with P'}),
    '--from': ('low', {'metavar': 'A', 'help': 'only keys from A on'}),
    '--to': ('high', {'metavar': 'B', 'help': 'only keys before B'}),
    '--reverse': ('reverse', {'action': 'store_true', 'help': 'the greatest key first'}),
    '--limit': ('limit', {'metavar': 'N', 'type': _limit, 'help': 'at most N entries'}),
    '--output': ('output', {'metavar': 'FILE', 'help': 'write the bytes to FILE, replaced when all are there'}),
    '--allow-pickle': ('allow_pickle', {'action': 'store_true', 'help': 'pickles too: they can run any code'}),
    '--kind': ('kind', {'help': 'what SOURCE is, where that cannot be told from its content; a wrong '
                        'word is answered with all of them'}),
    '--table': ('table', {'help': 'the table of a database that is meant'}),
    '--key': ('column', {'metavar': 'FIELD', 'help': 'the column of a CSV file, or the field of JSON objects, '
                         'that holds the keys'}),
    '--types': ('types', {'metavar': 'TYPES', 'help': 'of CSV, whose cells are text otherwise: auto, or '
                          'COLUMN:TYPE,... with text, int, float, bool, decimal, date or datetime, or both'}),
    '--encoding': ('encoding', {'default': 'utf-8', 'type': lambda word: None if word == 'None' else word,
                                'help': 'of text files and text keys, utf-8 if not given; None leaves keys bytes'}),
}
KEYED = ['--json-key', '--section']
RANGE = ['--prefix', '--from', '--to', *KEYED]
COMMANDS: Dict[str, Tuple[Run, str, str, List[str]]] = {  # what runs, the vault's flag, help, arguments
    'list': (_list, '', 'print the names of the vaults', []),
    'keys': (_keys, 'r', 'print the keys, sorted, one a line', ['VAULT', *RANGE, '--reverse', '--limit']),
    'get': (_get, 'r', 'print a value: text, streams and (but to a terminal) bytes as they are, else JSON', [
        'VAULT', 'KEY', *KEYED, '--output', '--allow-pickle']),
    'set': (_set, 'c', 'set a value', ['VAULT', 'KEY', 'VALUE', '--json-value', *KEYED, '--allow-pickle']),
    'put': (_put, 'c', 'store a file of any size as a stream', ['VAULT', 'KEY', '<FILE>', *KEYED]),
    'delete': (_delete, 'w', 'delete an entry, or a section', ['VAULT', '[KEY]', *KEYED]),
    'count': (_count, 'r', 'print how many entries there are', ['VAULT', *RANGE]),
    'show': (_show, 'r', 'print a table of keys and shortened values', ['VAULT', *RANGE, '--reverse', '--limit']),
    'info': (_info, 'r', 'print the size, the format, the sections and the largest values', ['VAULT', '--section']),
    'check': (_check, 'r', 'look for damage; exit status 1 when there is some', ['VAULT']),
    'compact': (_compact, 'w', 'give the space of deleted entries back', ['VAULT']),
    'backup': (_backup, 'r', 'write a whole copy, while others may write', ['VAULT', 'FILE']),
    'recover': (_recover, '', 'copy what can be read of a damaged vault; exit status 1 when something is lost', [
        'BAD', 'GOOD']),
    'import': (_import, 'c', 'bring the entries of another file in', [
        'SOURCE', 'VAULT', '--kind', '--table', '--key', '--types', '--encoding', '--section', '--allow-pickle']),
    'export': (_export, 'r', 'write all entries as JSON Lines', ['VAULT', '[FILE]', '--section']),
    'shell': (_shell, 'c', 'a Python prompt with the vault open as v', ['VAULT']),
    'completion': (_completion, '', 'print a script that completes words in a shell', ['bash|zsh|fish']),
}
OTHER_WORDS = {  # what other programs call it
    'list': 'ls dir vaults names', 'get': 'cat read fetch print type has exists contains',
    'keys': 'find search grep scan iterate', 'set': 'add write update insert store create edit touch',
    'put': 'upload attach push save', 'delete': 'rm del remove unset erase clear drop destroy purge pop unlink',
    'count': 'len length size wc', 'show': 'view head table display items dump-table',
    'info': 'stat stats status about describe du sections', 'check': 'verify fsck validate test integrity doctor',
    'compact': 'vacuum optimize shrink gc pack', 'backup': 'cp copy clone snapshot',
    'recover': 'repair restore fix rescue salvage', 'import': 'load convert migrate ingest',
    'export': 'dump save-as extract', 'shell': 'python repl open console exec', 'completion': 'completions complete',
    '--help': 'help man usage', '--version': 'version',
}
EXAMPLES = """examples:
  vaults set books dune 'Frank Herbert'
  vaults get books dune
  vaults put books cover cover.jpg
  vaults get books cover --output copy.jpg
  vaults set books year 1965 --json-value
  vaults --json set books '["log", 2026]' '{"a": [1, 2]}'
  vaults get books '["log", 2026]' --json-key
  vaults keys books --prefix du | head
  vaults show books --section log
  vaults import old.shelf books
  vaults export books | gzip > books.jsonl.gz
  vaults recover books saved
  eval "$(vaults completion bash)"    # zsh too; for fish: vaults completion fish | source

exit status: 0 done, 1 not found or problems found, 2 misuse"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        unmarked = message.replace('\0', '')
        self.exit(2, f'vaults: {_visible(_decoded(unmarked))}; see {self.prog} --help\n')


class _CommandParser(_Parser):
    """Takes options also between the arguments, of which argparse would lose an optional one that stands last."""

    inside = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if self.inside:
            return super().parse_known_args(args, namespace)
        self.inside = True
        return self.parse_known_intermixed_args(args, namespace)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser('vaults', description='Look into vaults, and change them.', epilog=EXAMPLES, allow_abbrev=False,
                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--version', action='version', version=f'vaults {__version__}')
    _add_common(parser, None, False)
    commands = parser.add_subparsers(dest='command', metavar='COMMAND', required=True, parser_class=_CommandParser)
    for name, (_, _, text, words) in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=f'{text[0].upper()}{text[1:]}.', allow_abbrev=False)
        command.set_defaults(allow_pickle=False, json_key=False, json_value=False, section=None)
        _add_common(command, argparse.SUPPRESS, argparse.SUPPRESS)
        for word in words:
            dest, how = ARGUMENTS[word]
            names, more = ([word], {}) if word[0] == '-' else ([], {'metavar': word.strip('[]<>'), 'type': _unmarked})
            command.add_argument(*names, dest=dest, **{**more, **how})
    return parser


def _add_common(parser: argparse.ArgumentParser, root: Any, as_json: Any) -> None:
    """Add what is accepted before and after the command; after it, without a default that would undo the former."""
    parser.add_argument('--root', metavar='FOLDER', default=root,
                        help='where vaults are kept; otherwise VAULTS_ROOT says it, or it is the current folder')
    parser.add_argument('--json', action='store_true', default=as_json, help='keys, values and answers as JSON')
