"""Derived: the functions of dataclasses and Enums, which are registered without any. Imported when one is.

A dataclass is stored as a dict of its fields, an Enum's member as its name, a Flag as its number.
"""
from __future__ import annotations

import dataclasses
import enum
from functools import partial

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, Tuple


def functions_of(cls: Any) -> Tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """Return the functions of a dataclass or an Enum."""
    if dataclasses.is_dataclass(cls):
        return partial(_dump_fields, dataclasses.fields(cls)), partial(_load_fields, cls, dataclasses.fields(cls))
    if issubclass(cls, enum.Flag):
        return (lambda member: member.value), cls
    if issubclass(cls, enum.Enum):
        return (lambda member: member.name), cls.__getitem__
    raise TypeError(f'register({cls.__name__}) needs dump and load: only dataclasses and Enums go without')


def _dump_fields(fields: Any, obj: Any) -> Dict[str, Any]:
    return {field.name: getattr(obj, field.name) for field in fields}


def _load_fields(cls: Any, fields: Any, stored: Dict[str, Any]) -> Any:
    """Rebuild a dataclass field by field, not through __init__, which may compute; new fields get their defaults."""
    obj = cls.__new__(cls)
    for field in fields:
        if field.name in stored:
            value = stored[field.name]
        elif field.default is not dataclasses.MISSING:
            value = field.default
        elif field.default_factory is not dataclasses.MISSING:
            value = field.default_factory()
        else:
            raise LookupError(f'the stored object has no field {field.name!r}, and it has no default')
        object.__setattr__(obj, field.name, value)
    return obj
