"""vaults: a dict that stays. `v = vaults.Vault('my_data')`, `v['key'] = value`, and the value is there tomorrow."""

from .errors import (
    EmptyVaultError,
    SerializationError,
    UntrustedPickleError,
    VaultBusyError,
    VaultClosedError,
    VaultCorruptError,
    VaultError,
    VaultFormatError,
    VaultFullError,
    VaultNotFoundError,
    VaultReadOnlyError,
)
from .log import set_logger
from .values import register
from .vault import Vault, set_root_path

__version__ = '0.1.0'

__all__ = [
    'EmptyVaultError',
    'SerializationError',
    'UntrustedPickleError',
    'Vault',
    'VaultBusyError',
    'VaultClosedError',
    'VaultCorruptError',
    'VaultError',
    'VaultFormatError',
    'VaultFullError',
    'VaultNotFoundError',
    'VaultReadOnlyError',
    'register',
    'set_logger',
    'set_root_path',
]
