"""The command `vaults`: runs what was asked for, and says how that failed. Knows no SQL and no msgpack.

A command that reads opens with flag='r' and creates nothing. Exit status: 0 done, 1 not found or problems, 2 misuse,
130 interrupted. What the words mean is in arguments.py, what is done in commands.py, what people see in show.py.
"""
from __future__ import annotations

import os
import sys

from .. import files
from ..errors import VaultError, VaultNotFoundError
from ..opening import locate
from ..place import place_of
from ..stores import scheme_of
from ..vault import Vault
from .arguments import PATHS, STDIN, Misuse, literal, parser_of, require_command, target_of, understand
from .commands import COMMANDS
from .show import as_utf8, complain, inner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from typing import Any, List, Optional, Sequence, Union

    from ..opening import ExactPath


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
        words = literal(sys.argv[1:] if argv is None else argv)
        require_command(words, COMMANDS)
        return _run_command(parser_of(COMMANDS).parse_args(words))
    except SystemExit as end:  # of argparse, or of exit() in a shell
        return end.code if isinstance(end.code, int) else 0 if end.code is None else complain(end.code, 1)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 0  # whoever reads has seen enough
    except Misuse as error:
        return complain(error, 2)
    except (VaultError, OSError, ImportError) as error:
        return complain(error, 1)
    except Exception as error:
        if os.environ.get('VAULTS_TRACEBACK'):
            raise
        return complain(f'unexpected {type(error).__name__}: {error}; VAULTS_TRACEBACK=1 shows where', 1)


def _flushed(status: int) -> int:
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python tries again at exit, and complains
        if not isinstance(error, BrokenPipeError):
            return complain(error, 1)
    return status


def _set_root(root: Optional[str]) -> None:
    """Say where vaults are kept, by what Vault's own rule for names reads."""
    if root is not None:
        os.environ['VAULTS_ROOT'] = root
    else:
        os.environ.pop('VAULTS_ROOT', None)


def _run_command(args: Namespace) -> int:
    place = getattr(args, 'place', None)
    if place and args.root is not None:
        raise Misuse(f'the root is said twice, --root {args.root} and {place}: leave one out')
    if place or args.root is not None:
        _set_root(place or args.root)
    run, flag, _, _ = COMMANDS[args.command]
    for name in vars(args).keys() - PATHS:
        setattr(args, name, as_utf8(getattr(args, name)))
    understand(args)
    if not flag:
        return run(None, args) or 0
    target = target_of(args.vault)
    path = locate(target, False)[1]
    places = () if scheme_of(path) else (path, os.path.dirname(path))
    args.missing = [one for one in places if not os.path.exists(one)]
    v = _vault_opened(target, flag, args) if places else _vault_at_url(target, path, flag, args)
    try:
        return run(inner(v, args.path), args) or 0
    finally:
        v.close()


def _vault_opened(target: Union[str, ExactPath], flag: Any, args: Namespace) -> Vault[Any, Any]:
    sources = _sources_read(args) if args.command == 'import' and args.missing else []
    path = locate(target, True)[1] if sources else ''
    if path:
        files.make_copy(path, *sources)  # empty: then it is made a vault as if it were not there
    try:
        return _vault(target, flag, args)
    except BaseException:
        if path and not os.path.getsize(path):
            os.unlink(path)
        raise


def _vault_at_url(target: Union[str, ExactPath], url: str, flag: Any, args: Namespace) -> Vault[Any, Any]:
    """Open a vault that another engine keeps; only that tells whether it is there already."""
    try:
        return _vault(target, 'w' if flag == 'c' else flag, args)
    except VaultNotFoundError:
        if flag != 'c':
            raise
    args.missing = [url]
    v = _vault(target, flag, args)
    for file in place_of(v).store.files[:1]:
        if os.path.isfile(file) and args.command == 'import':
            files.narrow_copy(file, *_sources_read(args))
    return v


def _vault(target: Union[str, ExactPath], flag: Any, args: Namespace) -> Vault[Any, Any]:
    from ..codecs.serializers import AS_STORED
    return Vault(target, flag=flag, allow_pickle=args.allow_pickle or None, serializer=AS_STORED)


def _sources_read(args: Namespace) -> List[str]:
    """Return the files that an import reads, than which the vault that is made for it is to be no wider open."""
    from ..moving.source import files_of
    found = [] if args.source in STDIN else files_of(args.source, args.kind)
    return [file for file in found if os.path.exists(file)]
