"""Dbms: what dbm.open makes with any of its modules, found and read. Knows no value."""
from __future__ import annotations

import os
import pickletools
import re
import struct
from ast import literal_eval
from contextlib import closing
from importlib import import_module
from itertools import islice

from ..errors import VaultCorruptError, VaultError
from ..stores.sqlite.opening import is_open_here
from ..stores.sqlite.sources import one_state
from .readers import unknown
from .tables import require_table, rows_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Iterator, List, Tuple

    from .readers import Pair
    from .recognising import FirstBytes

SAMPLE = 100     # values that tell a shelve from another dbm
SQLITE = b'SQLite format 3\0'
GNU = {struct.pack('=I', number) for number in (0x13579ACD, 0x13579ACE, 0x13579ACF, 0x13579AD0, 0x13579AD1)}
BERKELEY = {struct.pack(order + 'I', number) for order in '<>' for number in (0x61561, 0x53162)}  # at byte 0 or 12
# The other dbms: the module, the endings of its files, and what the last of them begins with.
FAMILIES: Tuple[Tuple[str, Tuple[str, ...], Callable[[bytes], bool]], ...] = (
    ('dbm.ndbm', ('.pag', '.dir'), lambda head: True),
    ('dbm.ndbm', ('.db',), lambda head: not BERKELEY.isdisjoint((head[:4], head[12:]))),
    ('dbm.dumb', ('.dat', '.dir'), lambda head: head[:1] in (b'', b'"', b"'")),
)
LACKING = {'dbm.gnu': "install it (Debian: python3-gdbm), or import with a Python that has it, as Debian's own",
           'dbm.ndbm': "import with a Python that has it, as Debian's own /usr/bin/python3"}
DUMB_LINE = re.compile(r"""('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"), \((\d{1,18}), (\d{1,18})\)\s*""")


# --- what it is ---------------------------------------------------------------------------------------------------

def first_bytes(path: str, size: int) -> bytes:
    """Return the first bytes of a file; of what is no file, and could keep a reader waiting, none.

    A vault that is open in this process is not opened here: closing it would drop SQLite's locks on it.
    """
    if not os.path.isfile(path):
        return b''
    if is_open_here(path):
        return SQLITE
    with open(path, 'rb') as file:
        return file.read(size)


def dbm_at(path: str) -> Tuple[str, str, List[str]]:
    """Return the module of the dbm at `path`, the name to give it, and its files; '' as the module when there is none.

    As dbm.whichdb, which has Berkeley DB open any NAME.db, even a vault, and complain about it on stderr.
    """
    head = first_bytes(path, len(SQLITE))
    if head == SQLITE or head[:4] in GNU:
        return 'dbm.sqlite3' if head == SQLITE else 'dbm.gnu', path, [path]
    stem, suffix = os.path.splitext(path)
    for base in (path, stem):
        for module, suffixes, fits in FAMILIES:
            files = [base + each for each in suffixes]
            known = (base == path or suffix in suffixes) and all(map(os.path.isfile, files))
            if known and fits(first_bytes(files[-1], 16)):
                return module, base, files
    return '', path, []


def is_dbm(head: FirstBytes) -> bool:
    """Tell whether it is a dbm; of SQLite, one that dbm.sqlite3 has made."""
    if head.dbm != 'dbm.sqlite3':
        return bool(head.dbm)
    return any(table.name == 'Dict' and table.has_pairs and not table.has_text for table in head.tables.values())


def is_shelve(path: str, module: str) -> bool:
    """Tell by the first values of a dbm, which are looked at and not loaded; not so when its module is not at hand."""
    try:
        import_module(module if module in LACKING else 'dbm')
    except ImportError:
        return False
    rows: Any = dbm_rows(path)
    with closing(rows):
        return all(is_pickle(data) for _, data in islice(rows, SAMPLE))


def is_pickle(data: Any) -> bool:
    """Tell whether the bytes are one whole pickle, without running it."""
    try:
        return isinstance(data, bytes) and all(
            place == len(data) - 1 for opcode, _, place in pickletools.genops(data) if opcode.name == 'STOP')
    except ValueError:
        return False


# --- what is in it ------------------------------------------------------------------------------------------------

def dbm_rows(path: str) -> Iterator[Pair]:
    """Yield the stored keys and values; of a key that a damaged file has without one, None."""
    module, base, _ = dbm_at(path)
    if module == 'dbm.sqlite3':  # with any Python, and without writing
        with one_state(base) as raw:
            require_table(base, raw, 'Dict')
            yield from rows_of(raw, 'Dict')
    elif module == 'dbm.dumb':
        yield from _dumb_rows(base)
    elif module:
        with closing(_module(module, path).open(base, 'r')) as db:
            for key in _gnu_keys(db) if module == 'dbm.gnu' else db.keys():
                yield key, db.get(key)
    else:
        unknown(path, 'no dbm')


def _module(module: str, path: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise VaultError(f'{path} is a {module} file, and this Python lacks that module: {LACKING[module]}') from error


def _gnu_keys(db: Any) -> Iterator[bytes]:
    key = db.firstkey()
    while key is not None:
        yield key
        key = db.nextkey(key)


def _dumb_rows(base: str) -> Iterator[Tuple[bytes, bytes]]:
    """Read along both files. dbm.dumb holds all keys in memory, and takes what a cut file has for the value."""
    with open(f'{base}.dir', encoding='latin-1') as index, open(f'{base}.dat', 'rb') as file:
        size = os.fstat(file.fileno()).st_size
        for number, line in enumerate(index, 1):
            try:
                literal, place, length = DUMB_LINE.fullmatch(line).groups()  # type: ignore[union-attr]  # see below
                key = literal_eval(literal).encode('latin-1')
                if int(place) + int(length) > size:
                    raise ValueError(f'{base}.dat is too short')
            except (AttributeError, SyntaxError, ValueError) as error:
                raise VaultCorruptError(f'line {number} of {base}.dir is damaged ({error}): restore both files from a '
                                        'backup') from error
            file.seek(int(place))
            yield key, file.read(int(length))
