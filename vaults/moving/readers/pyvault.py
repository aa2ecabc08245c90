"""Pyvault: the folder of a Vault of pyvault-client, with files UNIT/ID.vault: pickles, or any bytes."""
from __future__ import annotations

import os
import re

from ..dbms import is_pickle
from ..packed import Chunked, Packed, of_key
from . import Reader, unknown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO, Iterator, List, Tuple

    from ..recognising import FirstBytes
    from ..source import Source
    from . import Pair

PIECE = 1 << 20  # bytes from which a file comes over as a stream
PICKLED = b'\x80'  # what a pickle of protocol 2 and later begins with


class PyVault(Reader):
    name = 'pyvault'
    options = ('decode',)
    folder = 'UNIT/ID.vault'

    def recognise(self, head: FirstBytes, path: str) -> bool:
        return os.path.isdir(path) and any(True for _ in self._units(path))

    def files(self, path: str) -> List[str]:
        return [file for _, _, file in self._units(path)] if os.path.isdir(path) else [path]

    def entries(self, source: Source) -> Iterator[Pair]:
        """Yield what is in the files with keys (unit, number): of a pickle the object, else bytes, or a stream."""
        number = None
        for unit, number, path in self._units(source.path):
            with open(path, 'rb') as file:
                data = file.read(PIECE)
                whole = len(data) < PIECE
                if not whole and not source.decode and data[:1] != PICKLED:
                    yield (unit, number), Chunked('stream', None, self._pieces(of_key((unit, number)), data, file))
                    continue
                data += file.read()
            yield (unit, number), self._value(source, (unit, number), path, data)
        if number is None:
            unknown(source.path, f'a folder without {self.folder}, so no {self.name}')

    def _value(self, source: Source, key: Tuple[str, int], path: str, data: bytes) -> object:
        if source.decode:
            return source.decoded(key, data, source.decode)
        if data[:1] != PICKLED or not is_pickle(data):
            return data
        source.trusted(path, os.path.dirname(path))
        return source.unpickled(key, data)

    def _pieces(self, where: str, first: bytes, file: BinaryIO) -> Iterator[Packed]:
        data = first
        while data:
            yield Packed(where, data, len(data))
            data = file.read(PIECE)

    def _units(self, folder: str) -> Iterator[Tuple[str, int, str]]:
        """Yield the unit, the number and the path of each file UNIT/ID.vault, sorted."""
        for unit in sorted(os.listdir(folder)):
            inner = os.path.join(folder, unit)
            names = os.listdir(inner) if os.path.isdir(inner) and not os.path.islink(inner) else []
            numbers = [int(name[:-6]) for name in names if re.fullmatch(r'(?:0|[1-9][0-9]{0,18})\.vault', name)]
            for number in sorted(numbers):
                path = os.path.join(inner, f'{number}.vault')
                if os.path.isfile(path) and not os.path.islink(path):
                    yield unit, number, path
