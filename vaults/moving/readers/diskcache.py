"""Diskcache: the folder of a Cache, an Index or a FanoutCache. What has expired stays behind."""
from __future__ import annotations

import os
import re
from time import time

from ...errors import VaultCorruptError
from ...stores.sqlite.sources import one_state
from ..packed import of_key
from ..tables import require_table
from . import Reader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Iterator, List

    from ..recognising import FirstBytes
    from ..source import Source
    from . import Pair

CACHE_ROWS = """SELECT key, raw, mode, filename, value FROM Cache
 WHERE expire_time IS NULL OR expire_time > ? ORDER BY rowid"""
RAW_MODE, BINARY_MODE, TEXT_MODE, PICKLE_MODE = 1, 2, 3, 4  # the column `mode`
REPAIR = 'let diskcache repair it: Cache(folder).check(fix=True)'


class DiskCache(Reader):
    name = 'diskcache'  # before litedict: its table Settings looks like one of it
    options = ('decode',)
    folder = 'cache.db'

    def recognise(self, head: FirstBytes, path: str) -> bool:
        if os.path.isdir(path):
            return bool(self._shards(path))
        table = head.tables.get('Cache')
        return table is not None and 'expire_time' in table.columns and not table.is_computed

    def files(self, path: str) -> List[str]:
        return self._shards(path) if os.path.isdir(path) else [path]

    def entries(self, source: Source) -> Iterator[Pair]:
        source.files = self.files(source.path)
        now = time()
        for file in source.files:
            with one_state(file) as raw:
                require_table(file, raw, 'Cache')
                for stored, plain, mode, name, data in raw.execute(CACHE_ROWS, (now,)):
                    key = stored if plain else source.unpickled(stored, stored)
                    path = '' if name is None else self._inside(source, key, os.path.dirname(file), name)
                    yield key, self._value(source, key, mode, path, data)

    def _shards(self, path: str) -> List[str]:
        """Return the SQLite files of a cache: one, or of a FanoutCache one in each numbered folder."""
        numbered = sorted(name for name in os.listdir(path) if re.fullmatch(r'\d{3,}', name))
        files = [os.path.join(path, name, self.folder) for name in ('', *numbered)]
        return [file for file in (files[:1] if os.path.exists(files[0]) else files) if os.path.isfile(file)]

    def _inside(self, source: Source, key: Any, folder: str, name: Any) -> str:
        """Return the path of a value's file; raise when it is outside of the cache's folder, or no file."""
        root = os.path.join(os.path.realpath(folder), '')
        path = os.path.realpath(os.path.join(root, name)) if isinstance(name, str) and '\0' not in name else ''
        if not path.startswith(root):
            raise source.wrong(f'the value is said to be in {name!r}, outside of the cache: that is not read',
                               of_key(key), REPAIR)
        if not os.path.isfile(path):
            raise source.wrong(f"the value's file {path} is missing", of_key(key), REPAIR, VaultCorruptError)
        return path

    def _value(self, source: Source, key: Any, mode: Any, path: str, data: Any) -> Any:
        if path:
            with open(path, 'rb') as file:
                data = file.read()
            data = source.decoded(key, data, bytes.decode) if mode == TEXT_MODE else data
        if source.decode:
            return source.decoded(key, data, source.decode)
        if mode == PICKLE_MODE:
            if path:
                source.trusted(path)
            return source.unpickled(key, data)
        if mode != RAW_MODE and not (path and mode in (BINARY_MODE, TEXT_MODE)):
            raise source.wrong(f'there is no value in the mode {mode!r}', of_key(key), REPAIR, VaultCorruptError)
        return data
