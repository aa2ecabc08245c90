"""Readers: a file for each format that entries come from. Says what a reader is, and finds them; knows no format.

A new format is a new file in this folder, with a subclass of `Reader` in it, and nothing else changes: the folder is
listed when something is imported or recognised, and not before. What several formats have in common stands beside the
folder: tables.py of databases, dbms.py, texts.py.
"""
from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from ...errors import VaultError, VaultFormatError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Iterator, List, NoReturn, Tuple

    from ..recognising import FirstBytes
    from ..source import Source

    Pair = Tuple[Any, Any]  # a key, and a value: an object, or what incoming.py has for one that is not loaded yet


class Reader:
    """A format: what it is called, how it is known, what may be said of it, and its entries. Safe in any thread.

    A source is only read: it stays byte for byte as it was, and nothing is left beside it. It is streamed, so that an
    entry is in memory, not the file. Nothing of it runs: its pickles go through `Source.unpickled`.

    name        what `kind` says, and errors; a class without a name is for others to stand on
    order       who is asked first, where two could claim one file. 10, unless something else is said: what has a mark
                of its own. From 20 on: what is told by the shape of its tables or its text, the more particular one
                first, and last what any text could be
    suffixes    of texts: a text whose name ends so is of this format, whatever is in it
    options     which of `table`, `key`, `types` and `decode` it takes. An encoding is always there to be used
    cure        what helps where a value cannot be read
    is_text     may it be read from an open text file?
    is_checked  are the packed values that it yields known to be sound, so that a vault may store them as they are?
    folder      what stands in a folder of the format, for the error about one that is of none; '' where it is a file
    """

    name = ''
    order = 10
    suffixes: Tuple[str, ...] = ()
    options: Tuple[str, ...] = ()
    cure = 'pass decode=..., a function of the stored value'
    is_text = False
    is_checked = False
    folder = ''

    def recognise(self, head: FirstBytes, path: str) -> bool:
        """Tell whether what is at the path is of this format, by its first bytes; a folder has none.

        `head` is bytes, and knows more where they are a text, a database or a dbm.
        """
        raise NotImplementedError

    def entries(self, source: Source) -> Iterator[Pair]:
        """Yield the keys and values, in their order. What is wrong raises `Source.wrong`."""
        raise NotImplementedError

    def files(self, path: str) -> List[str]:
        """Return the files and folders that are read: a vault that is made for them is to be no wider open."""
        return [path]


def all_readers() -> Dict[str, Reader]:
    """Return the readers by their names, in the order in which they are asked."""
    modules = [import_module(f'{__name__}.{found.name}') for found in iter_modules(__path__)]
    made = [cls() for module in modules for cls in vars(module).values()
            if isinstance(cls, type) and issubclass(cls, Reader) and cls.name]
    return {reader.name: reader for reader in sorted(made, key=lambda reader: (reader.order, reader.name))}


def reader_of(kind: str) -> Reader:
    """Return the reader of that name. Raises: VaultError, which lists them, when there is none."""
    readers = all_readers()
    if kind not in readers:
        raise VaultError(f'kind is one of {", ".join(readers)}, not {kind!r}')
    return readers[kind]


def unknown(path: str, what: str) -> NoReturn:
    """Raise the error about what is of no format."""
    raise VaultFormatError(f'{path} is {what}; what can be read are {", ".join(all_readers())}: pass kind=... if it is '
                           'one')
