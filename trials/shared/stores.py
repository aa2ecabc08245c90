"""The stores that a trial can be pointed at with `--store NAME`: vaults, and the peers that benchmarks/contestants.py opens.

Their names have no blanks: shelve-gnu, shelve-dumb, sqlitedict, kohakuvault, ...
"""
from __future__ import annotations

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


STORES = {re.sub(r'[^a-z0-9]+', '-', spec.name.replace('dbm.', '')).strip('-'): spec for spec in SPECS}
STORES['kohakuvault-cache'] = STORES['kohakuvault']._replace(kind=CachedKohakuVault)


def open_store(name: str, folder: pathlib.Path) -> Contestant:
    """Open a store in a folder. Its `db` is the dict, with text keys; `close()` closes it."""
    spec = STORES[name]
    return spec.kind(spec.module, folder)
