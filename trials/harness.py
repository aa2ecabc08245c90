"""What the trials share: their command line, their verdict, and the stores that they can be pointed at.

Not a trial itself. A trial that compares takes `--store NAME`: vaults, or one of the peers that benchmarks/contestants.py
knows how to open, under a name without blanks (shelve-gnu, shelve-dumb, sqlitedict, kohakuvault, ...).
"""
from __future__ import annotations

import argparse
import importlib
import pathlib
import re
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / 'benchmarks'))

from contestants import SPECS, Contestant  # noqa: E402  # the folder is known only now


def _short(name: str) -> str:
    """Return the name of a contestant as the command line has it: 'shelve (dbm.gnu)' is shelve-gnu."""
    return re.sub(r'[^a-z0-9]+', '-', name.replace('dbm.', '')).strip('-')


STORES = {_short(spec.name): spec for spec in SPECS}


def is_installed(name: str) -> bool:
    """Tell whether the package that a store needs can be imported; dbm.gnu may be found, and lack what it imports."""
    try:
        importlib.import_module(STORES[name].module)
    except ImportError:
        return False
    return True


def open_store(name: str, folder: pathlib.Path) -> Contestant:
    """Open a store in a folder. Its `db` is the dict, with text keys; `close()` closes it."""
    spec = STORES[name]
    return spec.kind(spec.module, folder)


class Trial:
    """One run: its options, its promises, and its last line. Ends the program with 1 when a promise broke."""

    def __init__(self, doc: str, rounds: int, stores: bool = False) -> None:
        """`rounds` is the short measure of CI. `parser` takes more options before `begin` reads them."""
        self.parser = argparse.ArgumentParser(description=doc.splitlines()[0])
        self.parser.add_argument('--rounds', type=int, default=rounds, help=f'default: {rounds}, a short measure')
        self.parser.add_argument('--seed', default='1', help='the same seed draws the same rounds')
        if stores:
            self.parser.add_argument('--store', default='vaults', choices=sorted(STORES), help='default: vaults')
        self.broken: list[str] = []

    def begin(self) -> argparse.Namespace:
        options = self.parser.parse_args()
        store = getattr(options, 'store', 'vaults')
        if not is_installed(store):
            self.parser.error(f'{store} needs the module {STORES[store].module}, which this Python does not have: '
                              "pip install '.[bench]'")
        self.began = time.monotonic()
        return options

    def broke(self, what: str) -> None:
        """Note a promise that broke; the trial goes on, so that its figures are of all rounds."""
        self.broken.append(what)

    def end(self, figures: str) -> None:
        """Print the line of figures; exit with 1 and the first of the broken promises when there are any."""
        print(f'{figures}; {time.monotonic() - self.began:.1f} s', flush=True)
        if self.broken:
            sys.exit('\n'.join([f'{len(self.broken)} promises broken:', *self.broken[:20]]))
