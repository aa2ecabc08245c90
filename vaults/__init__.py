"""vaults: a dict that stays. `v = vaults.Vault('my_data')`, `v['key'] = value`, and the value is there tomorrow."""
from __future__ import annotations

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
)
from .log import set_logger
from .values import dumps, dumps_many, loads, loads_many, register
from .vault import Vault, set_root_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from . import moving as moving
    from .columns import Column
    from .sections import Section
    from .sequences import List
    from .shelf import Shelf, open

__version__ = '0.1.0'

__all__ = [
    'Column',
    'EmptyVaultError',
    'List',
    'Section',
    'SerializationError',
    'Shelf',
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
    'dumps',
    'dumps_many',
    'loads',
    'loads_many',
    'open',
    'register',
    'set_logger',
    'set_root_path',
]


LAZY = {'Column': 'columns', 'List': 'sequences', 'Section': 'sections', 'Shelf': 'shelf', 'open': 'shelf'}


def __getattr__(name: str) -> object:
    """Import what many programs do without when it is first asked for, to keep `import vaults` quick."""
    if name == 'moving' or name in LAZY:
        from importlib import import_module
        module = import_module(f"vaults.{LAZY.get(name, name)}")
        return getattr(module, name, module)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
