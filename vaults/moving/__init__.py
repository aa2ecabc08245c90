"""Moving: entries out of other libraries' files into a vault, a vault out as JSON Lines, and into another vault.

docs/moving.md says which files are read, each by a reader of its own in readers/. A source is only read: it stays byte
for byte as it was, and nothing is left beside it. It is streamed, so that an entry is in memory, not the file. Its
pickles are loaded under the rule that a vault has for its own.
"""
from __future__ import annotations

import os

from ..errors import VaultError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Iterator, Mapping, Optional, TextIO, Tuple, Union

    from ..codecs.pickles import AllowPickle
    from ..opening import Path
    from ..stores.base import CountProgress
    from ..vault import Vault


def recognise(path: Path) -> str:
    """Return the kind of what is at `path`, a name of docs/moving.md's table; runs nothing of it.

    A dbm whose module this Python lacks is a 'dbm'.

    Raises: VaultNotFoundError, VaultFormatError when it is none of these, VaultBusyError, VaultError.
    """
    from .source import Source
    return Source(path).reader.name


def read(path: Union[Path, TextIO], *, kind: Optional[str] = None, table: Optional[str] = None,
         key: Optional[str] = None, encoding: Optional[str] = 'utf-8', decode: Optional[Callable[[Any], Any]] = None,
         allow_pickle: Optional[AllowPickle] = None, types: Union[str, Mapping[str, str], None] = None
         ) -> Iterator[Tuple[Any, Any]]:
    """Recognise what is at `path` and return an iterator over its (key, value), in its order; of equal keys, the later.

    `path`: a file or folder, as its library was given it; or an open text file, of JSON Lines if `kind` says no other.
    `kind`: what it is, by its name in docs/moving.md, instead of a look at it.
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
    from .source import Source
    source = Source(path, kind, table, key, encoding, decode, allow_pickle, types)
    return ((key, source.loaded(value)) for key, value in source.entries())


def import_file(vault: Vault[Any, Any], path: Union[Path, TextIO], *, progress: CountProgress = None,
                **options: Any) -> int:
    """Put all that `read(path, **options)` finds into the vault, in one transaction; return how many entries.

    When it fails or is killed, the vault is as it was. JSON Lines are stored as they were exported, also what is of a
    class that is not at hand; where the vault validates or has a serializer, they are loaded first. Lists, columns and
    streams are made again, piece by piece. `progress(done)` is called every thousand entries.

    Raises: as `read` and Vault.put_many.
    """
    from ..place import place_of
    from .incoming import Incoming
    from .source import Source
    place = place_of(vault)
    if isinstance(path, (str, os.PathLike)) and os.path.abspath(os.fsdecode(path)) == place.path:
        raise VaultError(f'the vault and the source of the import have one name, {place.path}: give the vault '
                         'another, also where the source has a suffix')
    return Incoming(Source(path, **options), place).put(progress)


def export(vault: Vault[Any, Any], file: Union[Path, TextIO], *, progress: CountProgress = None) -> int:
    """Write each entry as a line {"key": ..., "value": ...}, as docs/json.md describes; return how many entries.

    The content of lists, columns and streams stands in lines of its own behind the entry's.

    It is one state of the vault, in insertion order, and loads no value, so that no pickle runs. `file`: a path where
    nothing is yet, which appears when it is whole; or an open text file in UTF-8, whose own OSErrors pass through.
    `progress(done)` is called every thousand entries.

    Raises: VaultCorruptError, VaultFullError, VaultError.
    """
    from .outgoing import write_lines
    return write_lines(vault, file, progress)


def copy(source: Union[Vault[Any, Any], Path], target: Union[Vault[Any, Any], Path], *, merge: bool = False,
         allow_pickle: Optional[AllowPickle] = None, progress: CountProgress = None) -> int:
    """Copy all entries of one vault into another one, of any engine, in one transaction; return how many.

    `source`, `target`: an open vault or section, or what `Vault` takes: a name or URL, or as an os.PathLike a path.
    Then the source is opened to be read; the target is made if there is none.
    `merge`: True copies into a vault that has entries: those of the same keys are replaced, and keep their places.

    Bytes, order, the first forms of keys, lists, columns, deques, streams and those of a program's own are as they
    were, and so is the serializer, whose functions are not needed. No value is loaded, but by a target that validates.
    It is one state of the source. When it fails or is killed, the target is as it was; a new one may be left, empty.

    `allow_pickle`: True, False, a list of types, or None: as both vaults have it, which is for those not open: only
    between files that nobody else may write. `progress(done)` is called with numbers of bytes.

    Raises: VaultExistsError when the target has entries; VaultFormatError when it has another serializer;
    VaultValueError when it is the source; UntrustedPickleError, VaultCorruptError, and as Vault and put_many.
    """
    from .copying import copied
    return copied(source, target, merge, allow_pickle, progress)
