"""Index the standard library of the Python that runs this, then ask the index questions.

    python stdlib_index.py                the first run reads every module; the later ones find the index still there
    python stdlib_index.py --rebuild      read them all again
    python stdlib_index.py --root DIR     keep the vault in DIR/vaults/stdlib_index.db

Press Ctrl-C, or kill it, while the dots appear: the index is written in one transaction, so the next run finds all of
it or nothing (with --rebuild, all of the old one). Names of modules are text keys; facts about the index itself are
tuple keys, such as ('index', 'python'), which no name of a module can be.
"""
from __future__ import annotations

import argparse
import ast
import os
import platform
import sysconfig
from contextlib import closing
from heapq import nlargest
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any, Iterable, Iterator

import vaults

SKIPPED = {'site-packages', 'dist-packages', 'test', 'tests', 'idle_test', '__pycache__'}


def find_modules(stdlib: Path) -> Iterator[tuple[str, Path]]:
    """Yield the dotted name and the path of each module under `stdlib`, tests and installed packages left out."""
    for folder, subfolders, files in os.walk(stdlib):
        subfolders[:] = sorted(name for name in subfolders if name.isidentifier() and name not in SKIPPED)
        for path in sorted(Path(folder, file) for file in files if file.endswith('.py')):
            parts = path.relative_to(stdlib).with_suffix('').parts
            yield '.'.join(parts[:-1] if parts[-1] == '__init__' else parts), path


def describe(source: bytes) -> dict[str, Any]:
    """Say what one module holds; raise SyntaxError or ValueError if it cannot be parsed."""
    tree = ast.parse(source)
    kinds = [type(node) for node in ast.walk(tree)]
    return {
        'doc': (ast.get_docstring(tree) or '').partition('\n')[0],
        'size': len(source),
        'functions': kinds.count(ast.FunctionDef) + kinds.count(ast.AsyncFunctionDef),
        'classes': kinds.count(ast.ClassDef),
        'lines': len(source.splitlines()),
    }


def build(v: vaults.Vault[Any, Any]) -> None:
    """Fill the vault anew, all of it or nothing."""
    unparsable = []
    with v:
        v.clear()
        for number, (name, path) in enumerate(find_modules(Path(sysconfig.get_paths()['stdlib']))):
            if number % 25 == 0:
                print('.', end='', flush=True)
            try:
                v[name] = describe(path.read_bytes())
            except (SyntaxError, ValueError):
                unparsable.append(name)
        v['index', 'python'] = platform.python_version()
        v['index', 'unparsable'] = unparsable


def show(title: str, entries: Iterable[tuple[str, dict[str, Any]]]) -> None:
    """Print a table of entries, 80 columns wide."""
    print(f'\n{title:<33}bytes   lines')
    for name, entry in entries:
        print('  {:<27.27}{size:>9,} {lines:>7,}  {doc:.32}'.format(name, **entry))


def answer(v: vaults.Vault[Any, Any]) -> None:
    """Ask the vault; each question reads only the entries it is about."""
    modules = v.prefix('')  # every text key, and so none of the tuples
    entries = list(modules.values())
    total = {field: sum(entry[field] for entry in entries) for field in ('lines', 'functions', 'classes')}
    print(f'Python {v["index", "python"]} has {len(entries):,} modules:', end=' ')
    print('{lines:,} lines, {functions:,} functions, {classes:,} classes.'.format(**total))
    print(len(v['index', 'unparsable']), 'files could not be parsed.')
    show("v.prefix('json')", v.prefix('json').items())
    show("v.prefix('email.'), first 6", islice(v.prefix('email.').items(), 6))
    print("\nv['a':'c'], first 6\n ", ', '.join(islice(v['a':'c'].keys(), 6)))
    show('The ten largest', nlargest(10, modules.items(), key=lambda item: item[1]['size']))


def main() -> None:
    parser = argparse.ArgumentParser(description='Index the standard library into a vault and ask it questions.')
    parser.add_argument('--root', default='.', metavar='DIR', help='where the vault lives (default: here)')
    parser.add_argument('--rebuild', action='store_true', help='index again, even if the index is there')
    options = parser.parse_args()

    vaults.set_root_path(options.root)
    start = perf_counter()
    v: vaults.Vault[Any, Any] = vaults.Vault('stdlib_index')
    with closing(v):
        opened = (perf_counter() - start) * 1000
        if v and not options.rebuild:
            print(f'{v.db_path} is still there: {len(v):,} entries, opened in {opened:.1f} ms')
        else:
            print(f'Indexing into {v.db_path} ', end='', flush=True)
            build(v)
            print(f'\n{len(v):,} entries, indexed in {perf_counter() - start:.1f} s')
        answer(v)


if __name__ == '__main__':
    main()
