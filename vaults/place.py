"""Place: what the house knows of a vault that works on its entries. Knows no vault.

For now the words of its errors, and what stands for nothing.
"""
from __future__ import annotations

from . import keys
from .errors import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .errors import VaultError


class _Missing:
    """Stands for a default that was not given. A class, for the sake of signatures: help() shows its repr."""

    __slots__ = ()

    def __repr__(self) -> str:
        return '<missing>'


MISSING: Any = _Missing()
NOWHERE = keys.encode(None)     # a key to look for where what is looked for has no stored form


def about(error: VaultError, key: Any, path: str) -> VaultError:
    """Return the error with the key and the vault that it is about."""
    return type(error)(f'{error} (key {shown(key)} of the vault {path})')
