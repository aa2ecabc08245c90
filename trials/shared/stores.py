"""The stores that a trial can be pointed at with `--store NAME`: vaults, and the peers that benchmarks/contestants.py opens.

Their names have no blanks: shelve-gnu, shelve-dumb, sqlitedict, kohakuvault, ...
"""
from __future__ import annotations

import importlib
import pathlib
import re
import sys

from . import ROOT

sys.path.insert(0, str(ROOT / 'benchmarks'))

from contestants import SPECS, Contestant, KohakuVault  # the folder is known only now


class CachedKohakuVault(KohakuVault):
    """With its write-back cache, which it leaves off by default."""

    def open(self, module, folder):
        vault = super().open(module, folder)
        self._cache = vault.cache()
        self._cache.__enter__()
        return vault


def _short(name: str) -> str:
    """Return the name of a contestant as the command line has it: 'shelve (dbm.gnu)' is shelve-gnu."""
    return re.sub(r'[^a-z0-9]+', '-', name.replace('dbm.', '')).strip('-')


STORES = {_short(spec.name): spec for spec in SPECS}
STORES['kohakuvault-cache'] = STORES['kohakuvault']._replace(kind=CachedKohakuVault)


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
