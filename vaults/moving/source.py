"""Source: what entries are read from: where it is, what the caller says of it, and how its errors name it."""
from __future__ import annotations

import errno
import os
import re
from contextlib import contextmanager

from ..codecs import codes, packing, trust
from ..codecs.pickles import rule
from ..errors import SerializationError, UntrustedPickleError, VaultError, VaultFormatError, VaultValueError
from ..stores import scheme_of, shown_url
from ..stores.sqlite import LOGS, WAL_FILE, side_files
from ..stores.sqlite.sources import unreadable
from .dbms import dbm_at
from .packed import Chunked, Packed, of_key
from .readers import all_readers, reader_of
from .recognising import recognised, require_present

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Iterator, List, Mapping, Optional, TextIO, Type, Union

    from ..codecs.pickles import AllowPickle
    from ..opening import Path
    from .readers import Pair

UTF_8 = 'utf-8'
UNDECODED = re.compile('[\udc80-\udcff]')  # what the error handler `surrogateescape` makes of a wrong byte


class Source:
    """What is read: where it is, what the caller says of it, and how errors name it. For one thread at a time."""

    def __init__(self, path: Union[Path, TextIO], kind: Optional[str] = None, table: Optional[str] = None,
                 key: Optional[str] = None, encoding: Optional[str] = 'utf-8',
                 decode: Optional[Callable[[Any], Any]] = None, allow_pickle: Optional[AllowPickle] = None,
                 types: Union[str, Mapping[str, str], None] = None) -> None:
        if isinstance(path, str) and scheme_of(path):
            raise VaultValueError(f'{shown_url(path)} is the URL of a vault, where the path of a file is wanted: '
                                  'vaults.moving.copy(source, target) copies it, and so does `vaults copy`')
        self.stream: Optional[TextIO] = None if isinstance(path, (str, os.PathLike)) else path
        self.path = os.path.abspath(os.fsdecode(path)) if isinstance(path, (str, os.PathLike)) else 'the stream'
        self.table, self.key, self.encoding, self.decode, self.types = table, key, encoding, decode, types
        self.files = [self.path]  # who may have written them decides whether pickles are loaded
        self.allow_pickle = allow_pickle
        self.pickles = rule(allow_pickle, lambda: self.trusted(*self.files))
        self.codec = packing.Codec(self.pickles)
        self.charset = _charset(encoding)
        with self.translating():
            kind = kind or ('jsonlines' if self.stream else None)
            self.reader = reader_of(kind) if kind else recognised(self.path, self.charset, key)
            self._check()

    def _check(self) -> None:
        """Raise when what is asked for does not fit together."""
        kind = self.reader.name
        if self.stream and not self.reader.is_text:
            raise VaultError(f'{kind} is read from a path, not from a stream: pass the path')
        for option in ('table', 'key', 'types', 'decode'):
            if getattr(self, option) is not None and option not in self.reader.options:
                kinds = [reader.name for reader in all_readers().values() if option in reader.options]
                raise VaultError(f'{option}=... is for {", ".join(kinds)}, and {self.path} is read as {kind}')
        if not self.stream and not dbm_at(self.path)[0]:
            require_present(self.path)

    def entries(self) -> Iterator[Pair]:
        """Yield the keys, and the values or what is not loaded yet."""
        with self.translating():
            yield from self.reader.entries(self)

    def loaded(self, value: Any) -> Any:
        """Return the object, of a value that may not be loaded yet."""
        if not isinstance(value, (Packed, Chunked)):
            return value
        with self.translating():
            return value.loaded(self)

    # --- pickles, values and texts ---

    def trusted(self, *files: str) -> None:
        """Raise when somebody else may have written one of the files, unless the caller has decided."""
        if self.allow_pickle is None and self.stream:
            raise UntrustedPickleError('there is a pickle, and a stream does not tell who wrote it: pass '
                                       'allow_pickle=True if you trust who did')
        for file in files if self.allow_pickle is None else ():
            trust.require(file, *side_files(file, LOGS))

    def unpickled(self, key: Any, data: Any) -> Any:
        """Return the object of a pickle, as far as the rule allows."""
        cure = self.reader.cure
        if not isinstance(data, bytes) or data[-1:] != b'.':
            raise self.wrong('a pickle is expected, and this is none', of_key(key), cure)
        try:
            return self.pickles.loads(data)
        except UntrustedPickleError as error:
            raise self.about(error, of_key(key)) from error
        except VaultError as error:
            raise self.wrong(f'{error}', of_key(key), cure, type(error)) from error

    def unpacked(self, where: str, data: bytes) -> Any:
        """Return the object of a packed value of a vault."""
        try:
            return self.codec.loads(data)
        except VaultError as error:
            raise self.about(error, where) from error

    def decoded(self, key: Any, data: Any, decode: Callable[[Any], Any]) -> Any:
        """Return what a function makes of a stored value, or say where it failed."""
        try:
            return decode(data)
        except codes.MALFORMED as error:
            raise self.wrong(f'the value cannot be decoded ({error!r})', of_key(key), self.reader.cure,
                             SerializationError) from error

    def key_text(self, stored: Any) -> Any:
        """Return a key of bytes as text, unless the encoding is None."""
        if self.encoding is None or not isinstance(stored, bytes):
            return stored
        try:
            return stored.decode(self.encoding)
        except UnicodeError as error:
            raise self.wrong(f'the key is not in {self.encoding}', of_key(stored),
                             "pass encoding='latin-1' or another, or encoding=None for keys of bytes") from error

    @contextmanager
    def text(self, newline: str) -> Iterator[TextIO]:
        """Open it as text, in which wrong bytes are marked: `sound` finds them."""
        if not self.stream:
            with open(self.path, encoding=self.charset, errors='surrogateescape', newline=newline) as file:
                yield file
        elif isinstance(self.stream.read(0), str):
            yield self.stream
        else:
            raise VaultError('the stream gives bytes: open it as text')

    def sound(self, text: str, line: int) -> str:
        """Return the text, whose first line is the given one, when it holds no wrong byte."""
        found = None if text.isascii() else UNDECODED.search(text)
        if found:
            marked = line == 1 and text[:2] in ('\udcff\udcfe', '\udcfe\udcff')  # the byte order mark of UTF-16
            raise self.wrong(f'it is not in {self.encoding or UTF_8}',
                             f'line {line + text.count(chr(10), 0, found.start())}',
                             f"pass encoding=..., for example '{'utf-16' if marked else 'latin-1'}'")
        return text

    # --- errors ---

    def wrong(self, what: str, where: str, cure: str, cls: Type[VaultError] = VaultFormatError) -> VaultError:
        """Return an error about what stands somewhere in the source."""
        return cls(f'{what}: {where} of {self.path}; {cure}')

    def about(self, error: VaultError, where: str) -> VaultError:
        """Return the error with the place in the source that it is about."""
        return type(error)(f'{error} ({where} of {self.path})')

    @contextmanager
    def translating(self) -> Iterator[None]:
        """Turn what the system raises that reads it into errors of ours."""
        try:
            yield
        except VaultError:
            raise
        except UnicodeError as error:
            raise VaultFormatError(f'{self.path} is not in {self.encoding or UTF_8} ({error}): pass encoding=...'
                                   ) from error
        except OSError as error:
            raise unreadable(self.path, error, error.errno == errno.EAGAIN) from error  # so gdbm says it


def _charset(encoding: Optional[str]) -> str:
    """Return the encoding of texts: UTF-8 without the byte order mark that some put in front."""
    try:
        b'a'.decode(encoding or 'utf-8', 'replace')
    except LookupError as error:
        raise VaultError(f"encoding is 'utf-8', 'latin-1' and the like, or None: {error}") from error
    return 'utf-8-sig' if encoding is None or encoding.lower() in ('utf-8', 'utf8') else encoding


def files_of(path: str, kind: Optional[str] = None) -> List[str]:
    """Return the files that an import reads; of what cannot be imported, the path alone."""
    try:
        source = Source(path, kind)
    except VaultError:
        return [path]
    return [path, *source.reader.files(source.path)]


def cure(path: str) -> str:
    """Return how to move what is at `path` into a vault, to end an error with; '' when it is nothing to be moved."""
    from shlex import quote
    if os.path.exists(*side_files(path, (WAL_FILE,))):
        return ''  # somebody uses it, and even a look would change what is beside it
    try:
        kind = Source(path).reader.name
    except VaultError:
        return ''
    new = f'{os.path.splitext(path)[0]}.vault.db'
    article = 'an' if kind[0] in 'aeio' else 'a'
    return '' if kind == 'vault' else (f'. It holds {article} {kind} file: move it with `vaults import {quote(path)} '
                                       f'{quote(new)}`, then open {new}')
