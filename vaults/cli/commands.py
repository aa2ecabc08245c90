"""Commands: what each of them does, and the table of them. Knows the verbs of a vault, and no arguments but by name.

A command that reads has the vault open with flag='r', and creates nothing.
"""
from __future__ import annotations

import os
import sys

from ..errors import VaultCorruptError, VaultError
from ..opening import locate, root_url
from ..place import place_of
from ..stores import names_under, shown_url, target_under
from ..stores.base import Options
from ..views import SortedSlice
from .arguments import KEYED, RANGED, STDIN, STDOUT, Misuse, json_read, key_of, standard_input, target_of, text_input
from .progress import ProgressLine
from .show import (
    GREEN,
    RED,
    answer,
    as_utf8,
    complain,
    form_of,
    holds_bytes,
    in_json,
    in_words,
    is_terminal,
    losses,
    number_of,
    painted,
    path_shown,
    print_chunks,
    print_entries,
    print_info,
    print_value,
    section_shown,
    serializer_of,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from typing import Any, Dict, List, Tuple

    from ..keys import Stored
    from ..place import Place
    from ..stores.base import Store
    from ..vault import Vault
    from .arguments import Command

    Path = Tuple[Any, ...]  # of a section


# --- entries ------------------------------------------------------------------------------------------------------

def _list(_: None, args: Namespace) -> None:
    url = root_url()
    found = _names_at(url) if url else _names_in_folder()
    if args.json:
        print(in_json(found))
    else:
        print(*map(in_words, found), sep='\n', end='\n' if found else '')


def _names_at(url: str) -> List[str]:
    """Return the names of the vaults under a URL; of one whose name cannot be given as one, its own URL."""
    found = []
    for name in names_under(url, Options('r')):
        try:
            locate(name, False)
            found.append(name)
        except VaultError:
            found.append(shown_url(target_under(url, name)))
    return found


def _names_in_folder() -> List[str]:
    folder = os.path.dirname(locate('any', False)[1])
    if not os.path.isdir(os.path.dirname(folder)):  # which is a mistake; one without vaults is not
        raise VaultError(f'there is no folder {os.path.dirname(folder)}: it would be the root; say another with --root '
                         'or VAULTS_ROOT')
    files = os.listdir(folder) if os.path.isdir(folder) else []
    files = [name for name in files if name.endswith('.db') and os.path.isfile(os.path.join(folder, name))]
    # NAME.db.db has a path alone: `NAME.db` is one
    return [os.path.join(folder, name) if name[-6:-3].lower() == '.db' else name[:-3]
            for name in sorted(map(as_utf8, files))]


def _keys(v: Vault[Any, Any], args: Namespace) -> None:
    from itertools import islice

    from ..moving import as_json
    shown = in_json if args.json_key else in_words
    found = SortedSlice(v, *args.bounds)
    for key in islice(reversed(found) if args.reverse else found, args.limit):
        print(shown(key if type(key) is str and key.isprintable() else as_json.from_key(key)))


def _count(v: Vault[Any, Any], args: Namespace) -> None:
    print(len(SortedSlice(v, *args.bounds)))


def _get(v: Vault[Any, Any], args: Namespace) -> None:
    from ..codecs.codes import is_header
    place = place_of(v)
    stored = place.keys.encode(args.key)
    with v:  # one state of all its chunks
        data = place.store.get(stored)
        if data is None:
            raise _no_key(v, args)
        if args.output not in (None, *STDOUT):
            _get_file(v, args, data)
        elif is_header(data):
            print_chunks(v, place, data, args)
        else:
            print_value(place, stored, data, args)


def _get_file(v: Vault[Any, Any], args: Namespace, data: bytes) -> None:
    """Write a stream, bytes or text to a file; nothing else, which would have to be loaded first."""
    if not _fits_file(place_of(v), data):
        raise VaultError(f'only a stream, bytes or text are written to a file: key {args.key!r} of the vault '
                         f'{v.db_path} is something else; without --output it is printed')
    with ProgressLine(v, 'writing', 'bytes') as progress:
        size = v.get_file(args.key, args.output, progress)
    answer(args, f'{number_of(size, "byte")} written to {path_shown(args.output)}', bytes=size)


def _fits_file(place: Place, data: bytes) -> bool:
    from ..codecs.codes import is_header
    from ..collections.kind import kind_of
    from ..collections.tree import Header
    if is_header(data):
        return kind_of(Header.of(data)).is_bytes
    form = form_of(data, serializer_of(place), False)
    return isinstance(form, str) or holds_bytes(form)


def _put(v: Vault[Any, Any], args: Namespace) -> None:
    source = standard_input() if args.source in STDIN else args.source
    try:
        with ProgressLine(v, 'storing', 'bytes') as progress:
            place = place_of(v)
            before = _type_at(place, place.keys.encode(args.key))
            size = v.put_file(args.key, source, progress)
    except BaseException:
        unmake(v, args.missing)
        raise
    if before not in ('', 'a stream', 'bytes'):
        complain(f'note: key {args.key!r} was {before} and is now a stream', 0)
    answer(args, f'{number_of(size, "byte")} stored', bytes=size)


def _set(v: Vault[Any, Any], args: Namespace) -> None:
    from ..collections import title_of
    place = place_of(v)
    if serializer_of(place) is not None:
        place.codec.dumps(None)  # which raises, and says why
    stored = place.keys.encode(args.key)
    with v:
        before = _type_at(place, stored)
        other = '' if before else _other_key(v, args)
        place.store.put(stored, args.value)
    now = title_of(args.value)
    if other:
        complain(f'note: key {args.key!r} is a new one; {other}', 0)
    elif before and before != now:
        complain(f'note: key {args.key!r} was {before} and is now {now}{_as_before(args, before)}', 0)


def _type_at(place: Place, stored: Stored) -> str:
    """Return the name of the type of the value that is there; '' for none, or for a damaged one, to be replaced."""
    from ..collections import title_of
    try:
        data = place.store.get(stored)
        return '' if data is None else title_of(data)
    except VaultCorruptError:
        return ''


def _as_before(args: Namespace, before: str) -> str:
    """Return the cure, where the text that was set is JSON of the type that was there."""
    from ..collections import title_of
    from ..moving import as_json
    if args.json_value:
        return ''
    try:
        fits = title_of(as_json.to_value(json_read(args.text))) == before
    except (Misuse, VaultError):
        fits = False
    return f': --json-value keeps it {before}' if fits else ''


def _delete(v: Vault[Any, Any], args: Namespace) -> None:
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
    answer(args, f'{number_of(done, "entry")} deleted', deleted=done)


def _no_key(v: Vault[Any, Any], args: Namespace) -> VaultError:
    hint = _other_key(v, args)
    if not hint and v.section(args.key):
        hint = f'there is a section of that name: --section {section_shown((args.key,))}'
    return VaultError(f'there is no key {args.key!r} in {_whereabouts(v, args)}{hint and ", but "}{hint}')


def _whereabouts(v: Vault[Any, Any], args: Namespace) -> str:
    within = f'the section {section_shown(args.path)} of ' if args.path else ''
    return f'{within}the vault {v.db_path}'


def _other_key(v: Vault[Any, Any], args: Namespace) -> str:
    """Return which key is there for the word that was typed, read as JSON instead of as text or the other way round."""
    try:
        other = args.word if args.json_key else key_of(args.word, True)
        if other == args.key or other not in v:
            return ''
    except (Misuse, ValueError, TypeError, RecursionError, VaultError):
        return ''
    return f'there is a key {other!r}: give it {"in quotes, as JSON" if args.json_key else "with --json-key"}'


# --- the whole of it ----------------------------------------------------------------------------------------------

def _check_vault(v: Vault[Any, Any], args: Namespace) -> int:
    with ProgressLine(v, 'checking', 'entries') as progress:
        problems = v.check(progress)
    if args.json:
        print(in_json(problems))
    elif problems:
        print(*(painted(in_words(problem), RED) for problem in problems), sep='\n')
    else:
        print(painted('sound', GREEN) + f': {number_of(len(v), "entry")}')
    return 1 if problems else 0


def _compact(v: Vault[Any, Any], args: Namespace) -> None:
    store = place_of(v).store
    before = _store_size(store)
    with ProgressLine(v, 'compacting', 'pages') as progress:
        v.compact(progress)
    after = _store_size(store)
    v.close()  # which takes the rest of the log along
    after = _store_size(store) or after  # not every engine tells when it is closed
    answer(args, f'{before} bytes before, {after} after', before=before, after=after)


def _store_size(store: Store) -> object:
    """Return the bytes that a vault takes, 0 where that is not known."""
    return store.describe().get('bytes', 0)


def _backup(v: Vault[Any, Any], args: Namespace) -> None:
    with ProgressLine(v, 'copying', 'pages') as progress:
        v.backup(args.file, progress)
    size = os.path.getsize(args.file)
    answer(args, f'{size} bytes written to {path_shown(args.file)}', bytes=size)


def _copy_vault(_: None, args: Namespace) -> None:
    from .. import moving
    origin, target = target_of(args.origin), target_of(args.target)
    try:
        with ProgressLine(None, 'copying', 'bytes') as progress:
            done = moving.copy(origin, target, merge=args.merge, allow_pickle=args.allow_pickle or None,
                               progress=progress)
    except VaultError as error:
        raise type(error)(_as_options(str(error))) from error
    answer(args, f'{number_of(done, "entry")} copied to {path_shown(args.target)}', copied=done)


# --- in and out ---------------------------------------------------------------------------------------------------

def _recover(_: None, args: Namespace) -> int:
    from ..moving import as_json
    from ..recovery import recover
    with ProgressLine(None, 'reading', 'pages') as progress:
        done = recover(target_of(args.bad), target_of(args.good), progress)
    if args.json:
        print(in_json({'recovered': done.recovered, 'counted': done.counted, 'nameless': done.nameless,
                       'lost': [{'key': as_json.from_key(key), 'why': why} for key, why in done.lost],
                       'doubtful': [*map(as_json.from_key, done.doubtful)], 'notes': done.notes}))
    else:
        for line in losses(done):
            print(painted(line, RED))
        count = 'an unknown number' if done.counted is None else done.counted
        print(f'{number_of(done.recovered, "entry")} of {count} recovered to {path_shown(args.good)}')
    return 0 if done.whole else 1


def _import(v: Vault[Any, Any], args: Namespace) -> None:
    from .. import moving
    try:
        source = text_input(args) if args.source in STDIN else args.source
        with ProgressLine(v, 'importing', 'entries') as progress, v:
            before = len(v)
            done = moving.import_file(v, source, kind=args.kind, table=args.table, key=args.column,
                                      types=args.types, encoding=args.encoding,
                                      allow_pickle=args.allow_pickle or None, progress=progress)
            replaced = done - (len(v) - before)
    except BaseException as error:
        unmake(v, args.missing)
        if isinstance(error, VaultError):
            raise type(error)(_as_options(str(error))) from error
        raise
    answer(args, f'{number_of(done, "entry")} imported, {replaced} of them replaced earlier ones', imported=done,
           replaced=replaced)


def _as_options(text: str) -> str:
    """Return an error of moving with the options of the command for those of its functions."""
    import re
    for one, other in (('allow_pickle=True', '--allow-pickle'), ('merge=True', '--merge'),
                       ('decode=...', 'decode=... in Python')):
        text = text.replace(one, other)
    text += '. `python -m vaults` looks for classes in the current folder as well' if 'importable?' in text else ''
    return re.sub(r"\b(kind|table|key|types|encoding)=(?:'([^']*)'|(None)|\.\.\.)",
                  lambda found: f'--{found[1]} {found[2] or found[3] or "..."}', text)


def unmake(v: Vault[Any, Any], missing: List[str]) -> None:
    """Delete what was made for an import that failed, unless somebody has put something into it meanwhile."""
    if missing and not len(v):
        v.delete_vault()
        for folder in missing[1:]:
            if not os.listdir(folder):
                os.rmdir(folder)


def _export(v: Vault[Any, Any], args: Namespace) -> None:
    from .. import moving
    aloud = args.file in (None, *STDOUT)
    target: Any = sys.stdout if aloud else args.file
    if aloud:
        target.reconfigure(encoding='utf-8', newline='\n')  # as in a file, whatever the terminal speaks
    with ProgressLine(v, 'exporting', 'entries', hidden=aloud and is_terminal(target)) as progress:
        done = moving.export(v, target, progress=progress)
    if not aloud:
        answer(args, f'{number_of(done, "entry")} written to {path_shown(target)}', exported=done)


# --- the rest -----------------------------------------------------------------------------------------------------

def _shell(v: Vault[Any, Any], args: Namespace) -> None:
    import code

    import vaults
    known = {'v': v, 'vaults': vaults, '__name__': '__console__'}
    banner = f"{v!r}{', a new one,' if args.missing else ''} is v; exit() or Ctrl-D ends"
    if is_terminal(sys.stdin):
        _edit_lines(known)
    else:
        sys.ps1 = sys.ps2 = banner = ''  # what comes from a pipe is answered and nothing else
    code.interact(banner, local=known, exitmsg='')


def _edit_lines(known: Dict[str, Any]) -> None:
    try:
        import readline
        import rlcompleter
    except ImportError:
        return  # Windows has none
    readline.set_completer(rlcompleter.Completer(known).complete)
    readline.parse_and_bind('bind ^I rl_complete' if 'libedit' in (readline.__doc__ or '') else 'tab: complete')


def _serve(_: None, args: Namespace) -> None:
    from ..opening import ExactPath
    from ..server import app, room_of
    root = root_url() or os.path.dirname(os.path.dirname(locate('any', False)[1]))
    if not root_url() and not os.path.isdir(root):
        raise VaultError(f'there is no folder {root}: it would be the root; say another with --root or VAULTS_ROOT')
    tokens, allow = (path and ExactPath(path) for path in (args.tokens, args.allow))
    served = app(root, tokens, allow=allow, hosts=args.hostnames, origins=args.origins, max_body=args.max_body,
                 max_stream=args.max_stream)
    proxies = room_of('names').sound_proxies(args.proxies, tokens is not None)
    running = room_of('running')
    listener = running.bound(args.host, args.port, tokens is not None)
    room_of('accesslog').log_to(sys.stderr)
    url = running.listening_at(listener)

    def started() -> None:
        said = in_json({'url': url}) if args.json else f'the vaults of {shown_url(root)} are served at {url}'
        print(said, flush=True)
    running.run_server(served, listener, proxies, started)


def _completion(_: None, args: Namespace) -> None:
    from .arguments import ARGUMENTS
    from .completion import script
    print(script(args.shell, COMMANDS, ARGUMENTS), end='')


COMMANDS: Dict[str, Command] = {
    'list': (_list, '', 'print the names of the vaults', ['[ROOT]']),
    'keys': (_keys, 'r', 'print the keys, sorted, one a line', ['VAULT', *RANGED, '--reverse', '--limit']),
    'get': (_get, 'r', 'print a value: text, streams and (but to a terminal) bytes as they are, else JSON', [
        'VAULT', 'KEY', *KEYED, '--output', '--allow-pickle']),
    'set': (_set, 'c', 'set a value', ['VAULT', 'KEY', 'VALUE', '--json-value', *KEYED, '--allow-pickle']),
    'put': (_put, 'c', 'store a file of any size as a stream', ['VAULT', 'KEY', '<FILE>', *KEYED]),
    'delete': (_delete, 'w', 'delete an entry, or a section', ['VAULT', '[KEY]', *KEYED]),
    'count': (_count, 'r', 'print how many entries there are', ['VAULT', *RANGED]),
    'show': (print_entries, 'r', 'print a table of keys and shortened values', [
        'VAULT', *RANGED, '--reverse', '--limit']),
    'info': (print_info, 'r', 'print the size, the format, the sections and the largest values', [
        'VAULT', '--section']),
    'check': (_check_vault, 'r', 'look for damage; exit status 1 when there is some', ['VAULT']),
    'compact': (_compact, 'w', 'give the space of deleted entries back', ['VAULT']),
    'backup': (_backup, 'r', 'write a whole copy, while others may write', ['VAULT', 'FILE']),
    'copy': (_copy_vault, '', 'copy all entries into another vault', ['FROM', 'TO', '--merge', '--allow-pickle']),
    'recover': (_recover, '', 'copy what can be read of a damaged vault; exit status 1 when something is lost', [
        'BAD', 'GOOD']),
    'import': (_import, 'c', 'bring the entries of another file in', [
        'SOURCE', 'VAULT', '--kind', '--table', '--key', '--types', '--encoding', '--section', '--allow-pickle']),
    'export': (_export, 'r', 'write all entries as JSON Lines', ['VAULT', '[FILE]', '--section']),
    'shell': (_shell, 'c', 'a Python prompt with the vault open as v', ['VAULT']),
    'serve': (_serve, '', 'serve the vaults of the root over HTTP, to other programs and machines', [
        '[ROOT]', '--host', '--port', '--tokens', '--allow', '--hostname', '--allow-origin', '--proxy', '--max-body',
        '--max-stream']),
    'completion': (_completion, '', 'print a script that completes words in a shell', ['bash|zsh|fish']),
}
