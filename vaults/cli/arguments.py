"""Arguments: what the words of a command line are, and what they mean. Knows keys and values as text, and no vault.

The tables are what the help, the parser and the completion are made of. Keys and values are text, or what docs/json.md
says: both with --json, or one of them with --json-key or --json-value.
"""
from __future__ import annotations

import argparse
import os
import sys

from .. import __version__, keys
from ..errors import VaultError
from ..opening import ExactPath, locate
from ..stores import scheme_of, shown_url
from .show import as_utf8, complain, is_terminal, visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, List, Mapping, NoReturn, Optional, Sequence, TextIO, Tuple

    # What runs, which returns the exit status or None for 0; the flag that the vault is opened with, '' for none; the
    # help; and words of ARGUMENTS.
    Command = Tuple[Callable[[Any, argparse.Namespace], Optional[int]], str, str, List[str]]
    Commands = Mapping[str, Command]

STDIN = ('-', '/dev/stdin', '/dev/fd/0', '/proc/self/fd/0')
STDOUT = ('-', '/dev/stdout', '/dev/fd/1', '/proc/self/fd/1')
# Arguments that go to the system as they came.
PATHS = {'vault', 'file', 'source', 'output', 'bad', 'good', 'origin', 'target', 'root', 'place', 'tokens',
         'allow'}


class Misuse(Exception):
    """What was asked for cannot be understood: exit status 2."""


# --- the tables ---------------------------------------------------------------------------------------------------

def _limit(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f'{text!r} is no number of entries, which 20 is')
    return int(text)


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f'{text!r} is no port: it is a number from 0, any that is free, to 65535')
    return int(text)


def _size(text: str) -> int:
    number, unit = (text[:-1], text[-1].upper()) if text[-1:].upper() in UNITS else (text, '')
    if not number.isdecimal():
        raise argparse.ArgumentTypeError(f'{text!r} is no number of bytes, which 1000000 is, and 64M')
    return int(number) * UNITS[unit]


UNITS = {'': 1, 'K': 1 << 10, 'M': 1 << 20, 'G': 1 << 30, 'T': 1 << 40}
ARGUMENTS: Dict[str, Tuple[str, Dict[str, Any]]] = {
    'VAULT': ('vault', {'help': 'a name, a URL, or a path when it holds a separator or ends in .db'}),
    '[ROOT]': ('place', {'nargs': '?', 'help': 'where vaults are kept, as --root'}),
    'KEY': ('key', {'help': 'text, or JSON with --json-key or --json; after -- it may begin with -'}),
    '[KEY]': ('key', {'nargs': '?', 'help': 'as for get; without it, with --section, the whole section'}),
    'VALUE': ('value', {'help': 'text, or JSON with --json-value or --json; - reads it from standard input'}),
    'FILE': ('file', {'help': 'the file to write, which must not exist'}),
    '<FILE>': ('source', {'help': 'the file to read; - reads standard input'}),
    '[FILE]': ('file', {'nargs': '?', 'help': 'the file to write, which must not exist; - or none: standard output'}),
    'BAD': ('bad', {'help': 'the damaged vault, a name or a path; it is only read'}),
    'GOOD': ('good', {'help': 'the new vault, which must not exist'}),
    'FROM': ('origin', {'help': 'the vault to copy, as VAULT; it is only read'}),
    'TO': ('target', {'help': 'the vault to copy into, as VAULT: a new or empty one, unless with --merge'}),
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
    '--merge': ('merge', {'action': 'store_true', 'help': 'TO may have entries: those of the same keys are replaced'}),
    '--kind': ('kind', {'help': 'what SOURCE is, where that cannot be told from its content; a wrong '
                        'word is answered with all of them'}),
    '--table': ('table', {'help': 'the table of a database that is meant'}),
    '--key': ('column', {'metavar': 'FIELD', 'help': 'the column of a CSV file, or the field of JSON objects, '
                         'that holds the keys'}),
    '--types': ('types', {'metavar': 'TYPES', 'help': 'of CSV, whose cells are text otherwise: auto, or '
                          'COLUMN:TYPE,... with text, int, float, bool, decimal, date or datetime, or both'}),
    '--encoding': ('encoding', {'default': 'utf-8', 'type': lambda word: None if word == 'None' else word,
                                'help': 'of text files and text keys, utf-8 if not given; None leaves keys bytes'}),
    '--host': ('host', {'metavar': 'ADDRESS', 'default': '127.0.0.1', 'help': 'where to listen, 127.0.0.1 if not '
                        'given; what others reach needs --tokens'}),
    '--port': ('port', {'metavar': 'N', 'type': _port, 'default': 8642, 'help': '8642 if not given; 0 is any that is '
                        'free'}),
    '--tokens': ('tokens', {'metavar': 'FILE', 'help': 'who may do what: JSON, {"TOKEN": {"books": "r", "*": "rw"}}; '
                            'read again when it changes'}),
    '--allow': ('allow', {'metavar': 'FILE', 'help': 'the addresses and networks that may ask, one a line; read again '
                          'when it changes'}),
    '--hostname': ('hostnames', {'metavar': 'NAME', 'action': 'append', 'default': [], 'help': 'a name by which the '
                                 'server is asked, as example.org; once more for another one'}),
    '--allow-origin': ('origins', {'metavar': 'URL', 'action': 'append', 'default': [], 'help': 'a site whose pages '
                                   'may ask, as https://example.org'}),
    '--proxy': ('proxies', {'metavar': 'ADDRESS', 'action': 'append', 'default': [], 'help': 'a proxy, whose '
                            'X-Forwarded-For is believed: an address or a network; needs --tokens'}),
    '--max-body': ('max_body', {'metavar': 'BYTES', 'type': _size, 'default': 64 << 20, 'help': 'the largest body of '
                                'a request, 64M if not given'}),
    '--max-stream': ('max_stream', {'metavar': 'BYTES', 'type': _size, 'help': 'the largest stream, not less '
                                'than --max-body; any if not given'}),
}
KEYED = ['--json-key', '--section']
RANGED = ['--prefix', '--from', '--to', *KEYED]
OTHER_WORDS = {  # what other programs call it
    'list': 'ls dir vaults names', 'get': 'cat read fetch print type has exists contains',
    'keys': 'find search grep scan iterate', 'set': 'add write update insert store create edit touch',
    'put': 'upload attach push save', 'delete': 'rm del remove unset erase clear drop destroy purge pop unlink',
    'count': 'len length size wc', 'show': 'view head table display items dump-table',
    'info': 'stat stats status about describe du sections', 'check': 'verify fsck validate test integrity doctor',
    'compact': 'vacuum optimize shrink gc pack', 'copy': 'cp clone duplicate transfer', 'backup': 'snapshot',
    'recover': 'repair restore fix rescue salvage', 'import': 'load convert migrate ingest',
    'export': 'dump save-as extract', 'shell': 'python repl open console exec', 'serve': 'server http listen daemon',
    'completion': 'completions complete',
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
  vaults copy books json+file:///srv/books.json
  vaults recover books saved
  eval "$(vaults completion bash)"    # zsh too; for fish: vaults completion fish | source

exit status: 0 done, 1 not found or problems found, 2 misuse"""


# --- the parser ---------------------------------------------------------------------------------------------------

class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        unmarked = message.replace('\0', '')
        self.exit(2, f'vaults: {visible(as_utf8(unmarked))}; see {self.prog} --help\n')


class _CommandParser(_Parser):
    """Takes options also between the arguments, of which argparse would lose an optional one that stands last."""

    inside = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if self.inside:
            return super().parse_known_args(args, namespace)
        self.inside = True
        return self.parse_known_intermixed_args(args, namespace)


def parser_of(commands: Commands) -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser = _Parser('vaults', description='Look into vaults, and change them.', epilog=EXAMPLES, allow_abbrev=False,
                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--version', action='version', version=f'vaults {__version__}')
    _add_common(parser, None, False)
    added = parser.add_subparsers(dest='command', metavar='COMMAND', required=True, parser_class=_CommandParser)
    for name, (_, _, text, words) in commands.items():
        command = added.add_parser(name, help=text, description=f'{text[0].upper()}{text[1:]}.', allow_abbrev=False)
        command.set_defaults(allow_pickle=False, json_key=False, json_value=False, section=None)
        _add_common(command, argparse.SUPPRESS, argparse.SUPPRESS)
        for word in words:
            dest, how = ARGUMENTS[word]
            names, more = ([word], {}) if word[0] == '-' else ([], {'metavar': word.strip('[]<>'), 'type': _unmarked})
            command.add_argument(*names, dest=dest, **{**more, **how})
    return parser


def _add_common(parser: argparse.ArgumentParser, root: Any, as_json: Any) -> None:
    """Add what is accepted before and after the command; after it, without a default that would undo the former."""
    parser.add_argument('--root', metavar='FOLDER', default=root, help='where vaults are kept, a folder or '
                        'a URL; otherwise VAULTS_ROOT says it, or it is the current folder. VAULTS_TOKEN has the '
                        'token for a server of vaults')
    parser.add_argument('--json', action='store_true', default=as_json, help='keys, values and answers as JSON')


# --- what was asked for -------------------------------------------------------------------------------------------

def require_command(words: Sequence[str], commands: Commands) -> None:
    """Raise when the command is called otherwise here, and say how."""
    rest = iter(words)
    for word in rest:
        if word == '--root':
            next(rest, None)
        elif word[:1] != '-':
            if word not in commands:
                raise Misuse(f'there is no command {word!r}{_instead(word, commands)}')
            return


def _instead(word: str, commands: Commands) -> str:
    """Return the end of an error: what the command that was meant is called."""
    known = next((command for command, words in OTHER_WORDS.items() if word.lower() in words.split()), '')
    if known:
        return f': say vaults {known}'
    from difflib import get_close_matches
    near = ''.join(get_close_matches(word.lower(), commands, 1))
    return f": {near and f'did you mean {near}? '}see vaults --help"


def literal(argv: Sequence[str]) -> List[str]:
    """Mark with a NUL what begins with - behind a --, of which argparse, depending on its version, loses some."""
    if '--' not in argv:
        return list(argv)
    at = argv.index('--')
    return [*argv[:at], *(f'\0{text}' if text[:1] == '-' else text for text in argv[at + 1:])]


def _unmarked(text: str) -> str:
    return text[1:] if text[:1] == '\0' else text


def target_of(text: str) -> Any:
    """Return what Vault takes: a name or URL as it is, a path as a path."""
    if scheme_of(text):
        return text
    if text[-3:].lower() == '.db' or os.sep in text or (os.altsep or os.sep) in text:
        return ExactPath(text)
    try:
        if locate(text, False)[1] != text:
            return text
    except VaultError as error:
        raise Misuse(error) from error
    raise Misuse(f'the vault {text} would end with this command: give a name or a path')


def understand(args: argparse.Namespace) -> None:
    """Turn the texts of keys and values into keys and packed values, before any vault is opened or made."""
    _require_files(args)
    args.json_key |= args.json
    args.json_value |= args.json
    try:
        args.path = tuple(name for text in args.section or () for name in _section_path(text))
        if 'prefix' in args:
            args.bounds = _bounds_of(args)
        args.word = getattr(args, 'key', None)  # as it was typed
        if args.word is not None:
            args.key = key_of(args.word, args.json_key)
        if 'value' in args:
            args.text = _text_read() if args.value == '-' else args.value
            args.value = _packed_value(args.text, args)
    except (ValueError, TypeError, RecursionError, VaultError) as error:
        raise Misuse(error) from error


def _require_files(args: argparse.Namespace) -> None:
    """Raise when a URL stands where a file is wanted."""
    for name in ('file', 'output', 'source', 'bad', 'good'):
        text = getattr(args, name, None)
        if text and scheme_of(text):
            raise Misuse(f'{shown_url(text)} is a URL, where the path of a file is wanted: `vaults copy` copies from '
                         'and into the vault at a URL')


def key_of(text: str, is_json: bool) -> Any:
    if not is_json:
        return text
    from ..moving import as_json
    return as_json.to_key(json_read(text))


def _section_path(text: str) -> Tuple[Any, ...]:
    """Return the names that --section gives: text, or as JSON one text or all names, each inside the one before."""
    if text[:1] not in ('"', '['):
        return (text,)
    found = key_of(text, True)
    if found == ():
        raise Misuse('--section [] names no section')
    return found if isinstance(found, tuple) else (found,)


def _bounds_of(args: argparse.Namespace) -> Tuple[Any, Any]:
    """Return the stored ends of the range that --prefix, --from and --to ask for together."""
    codec: Any = keys
    if args.path:
        from ..sections import Prefixed
        codec = Prefixed(args.path)
    low, high = (end if text is None else codec.encode(key_of(text, args.json_key))
                 for text, end in zip((args.low, args.high), codec.bounds()))
    if args.prefix is None:
        return low, high
    first, behind = codec.prefix_bounds(key_of(args.prefix, args.json_key))
    return max(low, first, key=keys.order), min(high, behind, key=keys.order)


def _packed_value(text: str, args: argparse.Namespace) -> bytes:
    """Return the packed value, without making the object: its class need not be at hand."""
    from ..moving import as_json
    if args.json_value:
        return as_json.to_value(json_read(text), (lambda: None) if args.allow_pickle else _refuse)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise Misuse('the value is no UTF-8 text: give bytes as --json-value \'{"!bytes": "..."}\', in base64'
                     ) from error
    return as_json.to_value(text)


def _refuse() -> NoReturn:
    raise Misuse('the value holds a pickle, which runs code when it is read: --allow-pickle stores it')


def json_read(text: str) -> Any:
    """Return what a text of JSON is. Raises: Misuse, with the text in quotes where that was meant."""
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


def standard_input(what: str = 'the content') -> Any:
    """Return the file of bytes, and say that it waits for somebody to type."""
    if sys.stdin is None:
        raise Misuse('there is no standard input to read from')
    if is_terminal(sys.stdin):
        complain(f'note: {what} comes from the terminal; Ctrl-D on a line of its own ends it', 0)
    return sys.stdin.buffer


def _text_read() -> str:
    """Return what standard input holds, as UTF-8, without the line's end that `get` and `echo` add."""
    data, end = standard_input('the value').read(), os.linesep.encode()
    return (data[:-len(end)] if data.endswith(end) else data).decode('utf-8', 'surrogateescape')  # type: ignore[no-any-return]


def text_input(args: argparse.Namespace) -> TextIO:
    """Return standard input as moving opens a file: without a byte order mark, and with what is no text marked."""
    from io import TextIOWrapper
    try:
        encoding = 'utf-8-sig' if args.encoding in ('utf-8', None) else args.encoding
        return TextIOWrapper(standard_input(args.kind or 'JSON Lines'), encoding, 'surrogateescape', newline='')
    except LookupError as error:
        raise Misuse(error) from error
