"""Moving: entries out of other libraries' files into a vault, and a vault out as JSON Lines. Knows no file of theirs.

    kind           what is read
    vault          a vault of today
    earlier vault  SQLite, table dict(key BLOB, value BLOB): each a byte M and msgpack, or P and a pickle
    shelve         a dbm (gnu, ndbm, dumb, sqlite3) whose values are pickles
    dbm            any other dbm: values stay bytes
    litedict       SQLite, table Dict(key TEXT, value): values are JSON
    sqlitedict     SQLite, tables (key TEXT, value BLOB): a BLOB is a pickle, TEXT is JSON
    pickledb       SQLite, as pickleDB 1 makes it: values are JSON
    diskcache      the folder of a Cache, an Index or a FanoutCache
    kohakuvault    SQLite, as KVault, ColumnVault and TextVault make it
    pystoragebackend  SQLite, table hiddil(uid, dkey, data)
    pyvault        the folder of a Vault of pyvault-client: files UNIT/ID.vault
    tinydb         JSON, as TinyDB makes it: tables of numbered documents
    json           one JSON object, as pickleDB makes it otherwise; or with key=... an array of objects
    jsonlines      {"key": ..., "value": ...} in each line, as `export` writes it, docs/json.md; or with key=... any
                   objects
    csv            columns separated by comma, semicolon or tab, named in the first line

A source is only read: it stays byte for byte as it was, and nothing is left beside it. It is streamed, so that an
entry is in memory, not the file. Its pickles are loaded under the rule that a vault has for its own.
"""
from __future__ import annotations

import errno
import os
import re
import sqlite3
from contextlib import contextmanager
from shlex import quote

from ..codecs import codes, packing, trust
from ..codecs.pickles import Refusing, Trusting, rule
from ..collections.tree import Head, is_head
from ..errors import SerializationError, UntrustedPickleError, VaultBusyError, VaultError, VaultFormatError
from ..files import NewFile
from ..place import about
from ..settings import recorded
from ..stores.base import entries_of
from ..stores.sqlite import LOGS, WAL_FILE, side_files
from ..stores.sqlite.failures import is_locked
from . import as_json, peers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Iterable, Iterator, Mapping, Optional, TextIO, Tuple, Type, Union

    from ..codecs.pickles import AllowPickle
    from ..opening import Path
    from ..stores.base import CountProgress, Entry
    from ..vault import Vault

    Pair = Tuple[Any, Any]

STEP = 1000      # entries between two calls of `progress`


# --- in and out ---------------------------------------------------------------------------------------------------

def recognise(path: Path) -> str:
    """Return the kind of what is at `path`, from the table on top; runs nothing of it.

    A dbm whose module this Python lacks is a 'dbm'.

    Raises: VaultNotFoundError, VaultFormatError when it is none of these, VaultBusyError, VaultError.
    """
    return Source(path).kind


def cure(path: str) -> str:
    """Return how to move what is at `path` into a vault, to end an error with; '' when it is nothing to be moved."""
    if os.path.exists(*side_files(path, (WAL_FILE,))):
        return ''  # somebody uses it, and even a look would change what is beside it
    try:
        kind = recognise(path)
    except VaultError:
        return ''
    new = f'{os.path.splitext(path)[0]}.vault.db'
    article = 'an' if kind[0] in 'aeio' else 'a'
    return '' if kind == 'vault' else (f'. It holds {article} {kind} file: move it with `vaults import {quote(path)} '
                                       f'{quote(new)}`, then open {new}')


def read(path: Union[Path, TextIO], *, kind: Optional[str] = None, table: Optional[str] = None,
         key: Optional[str] = None, encoding: Optional[str] = 'utf-8', decode: Optional[Callable[[Any], Any]] = None,
         allow_pickle: Optional[AllowPickle] = None, types: Union[str, Mapping[str, str], None] = None
         ) -> Iterator[Pair]:
    """Recognise what is at `path` and return an iterator over its (key, value), in its order; of equal keys, the later.

    `path`: a file or folder, as its library was given it; or an open text file, of JSON Lines if `kind` says no other.
    `kind`: what it is, from the table on top, instead of a look at it.
    `table`: of sqlitedict, pickledb, litedict, tinydb or kohakuvault, whose columns are the table 'columns', the one to
    read; without it, several tables have keys (table, key).
    `key`: of CSV, the column with the keys, by default 'key'; of an array or lines of JSON objects, the field with the
    keys, each of which is there once. A value is a dict of the other columns or fields; when there is only 'value'
    besides, what is in it.
    `types`: of CSV, whose cells are text otherwise, the types of columns: 'age:int,born:date', a dict of these, 'auto',
    which looks at all cells first, or both, 'auto,zip:text'. They are text, int, float, bool, decimal, date and
    datetime; docs/moving.md has the rules. An empty cell is None, but in a column of text.
    `encoding`: of a dbm's keys, where None leaves them bytes, and of text files.
    `decode`: of all whose values are not plain already, a function from each stored value to the object.
    `allow_pickle`: True, False, a list of types, or None: only of a file that nobody else may write.

    Of a vault, or of JSON Lines, lists, columns and streams come as copies: a list, an array.array, bytes.

    Raises: VaultNotFoundError, VaultFormatError, VaultBusyError, VaultCorruptError, UntrustedPickleError,
    SerializationError, VaultError; all but the first may also come while iterating.
    """
    return _loaded(Source(path, kind, table, key, encoding, decode, allow_pickle, types))


def import_file(vault: Vault[Any, Any], path: Union[Path, TextIO], *, progress: CountProgress = None,
                **options: Any) -> int:
    """Put all that `read(path, **options)` finds into the vault, in one transaction; return how many entries.

    When it fails or is killed, the vault is as it was. JSON Lines are stored as they were exported, also what is of a
    class that is not at hand; where the vault validates or has a serializer, they are loaded first. Lists, columns and
    streams are made again, piece by piece. `progress(done)` is called every thousand entries.

    Raises: as `read` and Vault.put_many.
    """
    if isinstance(path, (str, os.PathLike)) and os.path.abspath(os.fsdecode(path)) == vault.db_path:
        raise VaultError(f'the vault and the source of the import have one name, {vault.db_path}: give the vault '
                         'another, also where the source has a suffix')
    incoming = _Incoming(Source(path, **options), vault)
    vault._store.put_many(incoming.entries(progress))
    return incoming.done


def export(vault: Vault[Any, Any], file: Union[Path, TextIO], *, progress: CountProgress = None) -> int:
    """Write each entry as a line {"key": ..., "value": ...}, as docs/json.md describes; return how many entries.

    The content of lists, columns and streams stands in lines of its own behind the entry's.

    It is one state of the vault, in insertion order, and loads no value, so that no pickle runs. `file`: a path where
    nothing is yet, which appears when it is whole; or an open text file in UTF-8, whose own OSErrors pass through.
    `progress(done)` is called every thousand entries.

    Raises: VaultCorruptError, VaultFullError, VaultError.
    """
    if not isinstance(file, (str, os.PathLike)):
        return _write(vault, file, progress)
    path = os.path.abspath(os.fsdecode(file))
    with NewFile(path, *vault._store.files[:1], what=f'the export to {path}') as new:
        return _write(vault, new.text(), progress)


def _write(vault: Vault[Any, Any], out: TextIO, progress: CountProgress) -> int:
    done = 0
    with vault:
        serializer = recorded(vault._store)
        for stored, data in _reported(_stored(vault), progress):
            done += 1
            try:
                for line in _lines(vault, serializer, stored, data):
                    out.write(line)
            except UnicodeEncodeError as error:
                raise VaultError(f"an export is UTF-8, this file is not ({error}): open it with encoding='utf-8'"
                                 ) from error
    return done


def _stored(vault: Vault[Any, Any]) -> Iterator[Entry]:
    return entries_of(vault._scan(False, None, True))


def _lines(vault: Vault[Any, Any], serializer: Optional[str], stored: Any, data: bytes) -> Iterator[str]:
    """Yield the line of an entry and, when it is kept in parts, a line for each leaf."""
    try:
        key = stored if type(stored) is str else as_json.from_key(vault._keys.decode(stored))
        yield as_json.dumps({'key': key, 'value': as_json.from_value(data, serializer)}) + '\n'
        if is_head(data):
            head = Head.of(data)
            for items, _ in peers.runs(vault._store, head):
                yield as_json.dumps(as_json.from_run(head.code, items, serializer)) + '\n'
    except VaultError as error:
        raise about(error, stored, vault.db_path) from error


def _reported(entries: Iterable[Any], progress: CountProgress) -> Iterator[Any]:
    done = 0
    for done, entry in enumerate(entries, 1):
        yield entry
        if progress and not done % STEP:
            progress(done)
    if progress and done % STEP:
        progress(done)


class _Incoming:
    """What comes from a source into a vault. For one import."""

    def __init__(self, source: Source, vault: Vault[Any, Any]) -> None:
        self.source, self.vault, self.done = source, vault, 0
        self._serializer = recorded(vault._store)
        self._as_it_is = source.kind == 'jsonlines' and vault._validate is None and self._serializer is None

    def entries(self, progress: CountProgress) -> Iterator[Entry]:
        """Yield what the store is to put; values in parts are put in passing."""
        for key, value in _reported(_entries(self.source), progress):
            self.done += 1
            if isinstance(value, peers.Parts):
                self._put_parts(key, value)
            else:
                yield self._entry(key, value)

    def _entry(self, key: Any, value: Any) -> Entry:
        vault, data = self.vault, None
        if isinstance(value, peers.Packed):
            data = value.data if self._goes_as_it_is(value) else None
            if data is None:
                value = self.source.loaded(value)
            elif vault._validate is not None:
                value = vault._codec.loads(data)
        if vault._validate is not None:
            vault._validate(key, value)
        try:
            return vault._keys.encode(key), vault._codec.dumps(value) if data is None else data
        except VaultError as error:
            raise self.source.about(error, peers.named(key)) from error
        except (TypeError, ValueError) as error:  # it cannot be a key
            raise self.source.wrong(f'{error}', peers.named(key), 'put what read() gives with a key of your own',
                                    SerializationError) from error

    def _goes_as_it_is(self, packed: peers.Packed) -> bool:
        """Tell whether the bytes are what the vault would store; raise when they may not come in."""
        if packed.serializer is not None:
            if packed.serializer != self._serializer:
                raise self.source.wrong(
                    f'it was made by the serializer {packed.serializer!r}, and the vault '
                    f"has {'the serializer ' + repr(self._serializer) if self._serializer else 'none'}", packed.place,
                    'import it into one that was made with serializer=..., the one of that name')
            return True
        for pickles in (self.source.pickles, self.vault._codec.pickles) if self._as_it_is and packed.pickled else ():
            try:
                _permit(pickles, packed.array())
            except VaultError as error:
                raise self.source.about(error, packed.place) from error
        return self._as_it_is

    def _put_parts(self, key: Any, parts: peers.Parts) -> None:
        vault = self.vault
        vault._place.allow_parts(key)
        if parts.code == codes.STREAM:
            with vault.open(key, 'wb', buffering=0) as file:
                for run in parts.runs:
                    file.write(run.data)
            return
        empty = Head(parts.code, parts.meta)
        made = empty.opened(vault, key)
        made._make(empty)

        def fill(_: Head, change: Any) -> None:
            for run in parts.runs:
                plain = parts.code == codes.COLUMN or self._goes_as_it_is(run)
                pieces = made._items.pieces(run.data, run.count) if plain else made._packed(run.items(self.source))
                for data, count in pieces:
                    change.append(data, count)
        made._change(fill)


def _permit(pickles: Any, data: bytes) -> None:
    """Raise when the rule does not allow the pickles in a packed value; loads them only where it lists their types."""
    if isinstance(pickles, Trusting):
        pickles.checked()
    elif isinstance(pickles, Refusing):
        pickles.loads(data)
    else:
        packing.Codec(pickles).loads(data)


# --- the source ---------------------------------------------------------------------------------------------------

CURES = {'shelve': "pass kind='dbm' to read the values as bytes, or decode=...",
         'earlier vault': peers.RESTORE}
OTHER_CURE = 'pass decode=..., a function of the stored value'
UTF_8 = 'utf-8'
STREAMED = ('json', 'jsonlines', 'csv', 'tinydb')
OPTIONS = {'table': (*peers.TABLED, 'kohakuvault', 'tinydb'), 'key': ('csv', 'json', 'jsonlines'), 'types': ('csv',),
           'decode': ('shelve', 'dbm', *peers.TABLED, 'diskcache', 'kohakuvault', 'pystoragebackend', 'pyvault')}
UNDECODED = re.compile('[\udc80-\udcff]')  # what the error handler `surrogateescape` makes of a wrong byte


class Source:
    """What is read: where it is, what the caller says of it, and how errors name it. For one thread at a time."""

    def __init__(self, path: Union[Path, TextIO], kind: Optional[str] = None, table: Optional[str] = None,
                 key: Optional[str] = None, encoding: Optional[str] = 'utf-8',
                 decode: Optional[Callable[[Any], Any]] = None, allow_pickle: Optional[AllowPickle] = None,
                 types: Union[str, Mapping[str, str], None] = None) -> None:
        self.stream: Any = None if isinstance(path, (str, os.PathLike)) else path
        self.path = os.path.abspath(os.fsdecode(path)) if isinstance(path, (str, os.PathLike)) else 'the stream'
        self.table, self.key, self.encoding, self.decode, self.types = table, key, encoding, decode, types
        self.files = [self.path]  # who may have written them decides whether pickles are loaded
        self.allow_pickle = allow_pickle
        self.pickles = rule(allow_pickle, lambda: self.trusted(*self.files))
        self.codec = packing.Codec(self.pickles)
        self.charset = _charset(encoding)
        with self.told():
            self.kind = kind or ('jsonlines' if self.stream else peers.recognise(self.path, self.charset, key))
            self._check()

    def _check(self) -> None:
        """Raise when what is asked for does not fit together."""
        if self.kind not in peers.READERS:
            raise VaultError(f'kind is one of {", ".join(peers.READERS)}, not {self.kind!r}')
        if self.stream and self.kind not in STREAMED:
            raise VaultError(f'{self.kind} is read from a path, not from a stream: pass the path')
        for option, kinds in OPTIONS.items():
            if getattr(self, option) is not None and self.kind not in kinds:
                raise VaultError(f'{option}=... is for {", ".join(kinds)}, and {self.path} is read as {self.kind}')
        if not self.stream and not peers.dbm_at(self.path)[0]:
            peers.present(self.path)

    def trusted(self, *files: str) -> None:
        """Raise when somebody else may have written one of the files, unless the caller has decided."""
        if self.allow_pickle is None and self.stream:
            raise UntrustedPickleError('there is a pickle, and a stream does not tell who wrote it: pass '
                                       'allow_pickle=True if you trust who did')
        for file in files if self.allow_pickle is None else ():
            trust.require(file, *side_files(file, LOGS))

    def wrong(self, what: str, place: str, cure: str, cls: Type[VaultError] = VaultFormatError) -> VaultError:
        return cls(f'{what}: {place} of {self.path}; {cure}')

    def about(self, error: VaultError, place: str) -> VaultError:
        return type(error)(f'{error} ({place} of {self.path})')

    @contextmanager
    def told(self) -> Iterator[None]:
        """Turn what the libraries that read it raise into errors of ours."""
        try:
            yield
        except VaultError:
            raise
        except UnicodeError as error:
            raise VaultFormatError(f'{self.path} is not in {self.encoding or UTF_8} ({error}): pass encoding=...'
                                   ) from error
        except (OSError, sqlite3.Error) as error:
            locked = isinstance(error, sqlite3.Error) and is_locked(error)  # of gdbm, the number tells:
            if locked or getattr(error, 'errno', None) == errno.EAGAIN:
                raise VaultBusyError(f'{self.path} cannot be read ({error}): another program has it open to write, '
                                     'close it there') from error
            raise VaultError(f'{self.path} cannot be read ({error}): see that you may, and that it is whole; when a '
                             'program was killed as it wrote, open it once with that program') from error

    def loaded(self, value: Union[peers.Packed, peers.Parts]) -> Any:
        with self.told():
            return value.loaded(self)

    def unpickled(self, key: Any, data: Any) -> Any:
        cure = CURES.get(self.kind, OTHER_CURE)
        if not isinstance(data, bytes) or data[-1:] != b'.':
            raise self.wrong('a pickle is expected, and this is none', peers.named(key), cure)
        try:
            return self.pickles.loads(data)
        except UntrustedPickleError as error:
            raise self.about(error, peers.named(key)) from error
        except VaultError as error:
            raise self.wrong(f'{error}', peers.named(key), cure, type(error)) from error

    def decoded(self, key: Any, data: Any, decode: Callable[[Any], Any]) -> Any:
        try:
            return decode(data)
        except codes.MALFORMED as error:
            raise self.wrong(f'the value cannot be decoded ({error!r})', peers.named(key),
                             CURES.get(self.kind, OTHER_CURE), SerializationError) from error

    @contextmanager
    def text(self, newline: str) -> Iterator[TextIO]:
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


def _charset(encoding: Optional[str]) -> str:
    """Return the encoding of texts: UTF-8 without the byte order mark that some put in front."""
    try:
        b'a'.decode(encoding or 'utf-8', 'replace')
    except LookupError as error:
        raise VaultError(f"encoding is 'utf-8', 'latin-1' and the like, or None: {error}") from error
    return 'utf-8-sig' if encoding is None or encoding.lower() in ('utf-8', 'utf8') else encoding


def _entries(source: Source) -> Iterator[Pair]:
    with source.told():
        yield from peers.READERS[source.kind](source)


def _loaded(source: Source) -> Iterator[Pair]:
    for key, value in _entries(source):
        yield key, source.loaded(value) if isinstance(value, (peers.Packed, peers.Parts)) else value
