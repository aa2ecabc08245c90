"""vaults: a dict that stays. `v = vaults.Vault('my_data')`, `v['key'] = value`, and the value is there tomorrow.

    Vault           the dict, over one SQLite file; help(vaults.Vault) has its verbs
    Section         a vault inside a vault: v.section(name)
    List, Column    values that grow: v.list(key), v.column(key, dtype); and streams: v.open(key, mode)
    Deque           and one at both ends: v.live(vaults.Deque, key, maxlen=None)
    open, Shelf     in place of shelve: `import vaults as shelve`
    register        how values of a class of yours are stored
    dumps, loads    the same without a vault; dumps_many, loads_many
    set_root_path   where vaults are kept, set_logger: where warnings go, set_driver: which SQLite
    Store, Options  what an engine of one's own is made of; LockedStore, DictionaryStore; vaults.testing
    VaultError      the base of the errors; each says what to do

    moving          other files in and out: shelve, dbm, sqlitedict, diskcache, CSV, JSON; export
    recovery        what can still be read of a damaged vault
"""
from __future__ import annotations

import sys

from .codecs.registry import register
from .errors import (
    EmptyVaultError,
    SerializationError,
    UntrustedPickleError,
    VaultBusyError,
    VaultClosedError,
    VaultCorruptError,
    VaultError,
    VaultExistsError,
    VaultFormatError,
    VaultFullError,
    VaultNotFoundError,
    VaultReadOnlyError,
    VaultTaskError,
    VaultTypeError,
    VaultUnreachableError,
    VaultUnsureError,
    VaultValueError,
)
from .stores.base import Options, Store
from .vault import Vault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from . import moving as moving
    from . import recovery as recovery
    from .codecs.standalone import dumps, dumps_many, loads, loads_many
    from .collections.column import Column
    from .collections.deque import Deque
    from .collections.list import List
    from .log import set_logger
    from .opening import set_root_path
    from .sections import Section
    from .shelf import Shelf, open
    from .stores.dictionary import DictionaryStore
    from .stores.locked import LockedStore
    from .stores.sqlite.driver import set_driver

__version__ = '0.1.0'

__all__ = [
    'Column',
    'Deque',
    'DictionaryStore',
    'EmptyVaultError',
    'List',
    'LockedStore',
    'Options',
    'Section',
    'SerializationError',
    'Shelf',
    'Store',
    'UntrustedPickleError',
    'Vault',
    'VaultBusyError',
    'VaultClosedError',
    'VaultCorruptError',
    'VaultError',
    'VaultExistsError',
    'VaultFormatError',
    'VaultFullError',
    'VaultNotFoundError',
    'VaultReadOnlyError',
    'VaultTaskError',
    'VaultTypeError',
    'VaultUnreachableError',
    'VaultUnsureError',
    'VaultValueError',
    'dumps',
    'dumps_many',
    'loads',
    'loads_many',
    'open',
    'register',
    'set_driver',
    'set_logger',
    'set_root_path',
]

MODULES = ('moving', 'recovery')  # public as modules; the others are rooms of the house
LAZY = {'DictionaryStore': 'stores.dictionary', 'LockedStore': 'stores.locked', 'Section': 'sections', 'Shelf': 'shelf',
        'open': 'shelf', 'set_logger': 'log', 'set_root_path': 'opening',
        'set_driver': 'stores.sqlite.driver',
        **dict.fromkeys(('dumps', 'dumps_many', 'loads', 'loads_many'), 'codecs.standalone')}

if 'logging' in sys.modules:
    from . import log as log  # which sees that its logger has a handler


def __getattr__(name: str) -> object:
    """Import what many programs do without when it is first asked for, to keep `import vaults` quick."""
    if name in MODULES or name in LAZY:
        from importlib import import_module
        module = import_module(f'vaults.{LAZY.get(name, name)}')
        found = globals()[name] = getattr(module, name, module)  # the next one is asked for as any other
        return found
    if name[:1].isupper() and name.isalnum():  # a class of live objects, in the room of its kind
        from .collections.kind import live_class
        cls = live_class(name)
        if cls is not None:
            globals()[name] = cls
            return cls
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__() -> list[str]:
    """List what is public, and what each module has."""
    return sorted({*__all__, *MODULES, *(name for name in globals() if name[:2] == name[-2:] == '__')})
