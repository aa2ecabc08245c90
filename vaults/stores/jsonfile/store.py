"""FileStore: a whole vault in one file, loaded when it is opened, changed in memory. Knows neither protocols nor JSON.

It is written by `sync`, at the end of an outermost block, when it is closed, and when the process ends or nobody has it
any more. What is written outside a block waits for the first of these. The file is replaced whole, and only while it is
as this store has left or found it.
"""
from __future__ import annotations

import weakref
from hashlib import blake2b
from os.path import exists
from sys import modules

from ...errors import (
    VaultBusyError,
    VaultCorruptError,
    VaultError,
    VaultFormatError,
    VaultNotFoundError,
    VaultTaskError,
)
from ...keys import sortable
from ..base import OWNERS, is_of_chunks
from ..dictionary import DictionaryStore
from .layout import LAYOUT_VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Dict, List, Optional, Sequence, Set, TypeVar, Union

    from ...keys import Stored
    from ..base import Options, Progress
    from .layout import JsonLayout, MsgpackLayout
    from .place import FilePlace

    T = TypeVar('T')


class FileStore(DictionaryStore):
    """The entries of one file. Safe in any thread; of all processes one may write, and any read what there was."""

    def __init__(self, place: FilePlace, layout: Union[JsonLayout, MsgpackLayout], options: Options) -> None:
        super().__init__(options, place.shown)
        self._closed = True                 # until it is open: nothing is to be written if that fails
        self._file, self._layout = place, layout
        self._pending = False               # whether there is something that the file does not have yet
        self._known: Set[bytes] = set()     # digests of what may be in the file by what this store has seen and done
        self._bytes = 0
        self._undo_exit: List[Callable[[], object]] = []
        try:
            if options.flag != 'r':
                place.take_lock()
            self._load(options.flag)
        except BaseException:
            place.end_lock()
            raise
        self._closed = False
        self._end_with_process()

    # --- the file ---

    def _load(self, flag: str) -> None:
        data = self._file.read()
        if data is None and flag in 'rw':
            raise VaultNotFoundError(f'there is no vault at {self.name}: check the name, or let it be created')
        for key, value in () if data is None else self._layout.loaded(data, self.name):
            self._set(key, (self._next(), key, value))
        if data is not None:
            self._seen(data)
        if flag == 'n':
            self.entries.clear()
            self._hidden = 0
        if data is None or flag == 'n':
            self._write()

    def _seen(self, data: bytes) -> None:
        """Note that this is what is in the file."""
        self._known, self._bytes = {_digest(data)}, len(data)

    def _write(self) -> None:
        """Have the file hold what is in memory, unless somebody else has changed it."""
        data = self._layout.dumped([(key, value) for _, key, value in sorted(self.entries.values())])
        self._file.require_locked()
        there = self._file.read()
        if there != data:
            if there is not None and _digest(there) not in self._known:
                raise self._changed()
            self._known.add(_digest(data))  # from now on it may be there, whatever becomes of this
            self._file.replace(data)
        self._seen(data)

    def _changed(self) -> VaultError:
        return VaultError(f'somebody else has changed the file since it was read: vault {self.name}; it stays as it '
                          'is, and so does what is in memory: move the file away and sync() again to keep that, or '
                          'open the vault again to have what is in the file')

    # --- when it is written ---

    def done(self) -> None:
        self._pending = self._pending or bool(self._before)
        super().keep()

    def keep(self) -> None:
        if self._pending or self._before:
            self._pending = True  # also when what follows is broken off: then the file is written once more
            self._write()
        super().keep()
        self._pending = False

    def once(self, operation: Callable[[], T]) -> T:
        # In a turn, so that it counts as one write of its own and not as a block, which would write the file.
        with self.reading if self.refusal else self.writing:
            return super().once(operation)

    def sync(self) -> None:
        super().sync()
        with self.reading:
            self._write_pending()

    def _write_pending(self) -> None:
        if self._pending:
            self._write()
            self._pending = False

    def write_last(self, keep: bool) -> None:
        with self.reading:
            if not keep:
                self._pending = False
            elif not self.depth():  # else `close` does, when it has undone the block
                self._write_pending()

    def close(self) -> None:
        if self._closed:
            return
        super(DictionaryStore, self).close()
        while self._undo_exit:
            self._undo_exit.pop()()
        try:
            self._write_pending()
        finally:
            self.entries = {}
            self._file.end_lock()

    # --- its end without being closed ---

    def _end_with_process(self) -> None:
        """Be closed when the process ends: of those that multiprocessing forks as well, which run no exit functions."""
        itself = weakref.ref(self)
        self._undo_exit.append(weakref.finalize(self, _end, itself).detach)
        util = modules.get('multiprocessing.util')
        if util:
            self._undo_exit.append(util.Finalize(None, _end, (itself,), exitpriority=0).cancel)

    def end(self) -> None:
        """Write and close. A block that is open in another thread will not end any more, and is undone."""
        if not self._closed:
            try:
                with self.reading:
                    pass  # it is the turn of this thread
            except (VaultBusyError, VaultTaskError):
                self.abandon()
            self.close()

    def __del__(self) -> None:
        if not getattr(self, '_closed', True):
            self.end()

    def forked(self) -> None:
        super().forked()
        self._pending = False
        self._file.forget_lock()
        if not self._closed and not self.refusal:
            self.refusal = (f'it was opened in the parent process, which writes its file: vault {self.name}; close it '
                            "there and open it here, or open it with flag='r'")

    # --- the whole vault ---

    def check(self, examine: Callable[[Stored, bytes], Optional[str]], progress: Progress = None) -> List[str]:
        problems = super().check(examine, progress)
        with self.reading:
            data = self._file.read()
            if data is None:
                return [*problems, f'the file is not there any more: {self.name}']
            if _digest(data) in self._known:
                return problems
            try:
                list(self._layout.loaded(data, self.name))
            except (VaultFormatError, VaultCorruptError) as error:
                return [*problems, f'{error}']
            return problems if self.options.flag == 'r' else [*problems, f'{self._changed()}']

    def backup(self, path: str, progress: Progress = None) -> None:
        from ..copying import write_backup  # here: most programs do without
        self.require_outside('backup')
        sources = [place for place in self._file.files[:1] if exists(place)]
        with self.reading:
            entries = [(key, data, OWNERS + sortable(key) in self.entries)
                       for _, key, data in sorted(self.entries.values()) if not is_of_chunks(key)]
            write_backup(self, entries, path, progress, *sources, most=0o666 if sources else 0o600)

    def require_own(self) -> None:
        with self.reading:
            data = self._file.read()
        if data is None:
            raise VaultNotFoundError(f'the file is not there any more: vault {self.name}; it may have been moved')
        if _digest(data) not in self._known:
            raise VaultNotFoundError(f'the file is not as this vault has left it, it may be another one: vault '
                                     f'{self.name}; look at it, and delete it yourself')
        self._file.require_removable()

    def destroy(self) -> None:
        self._file.take_lock()
        try:
            self._file.remove()
        finally:
            self._file.end_lock()

    @property
    def files(self) -> Sequence[str]:
        return self._file.files

    @property
    def sources(self) -> Optional[Sequence[str]]:  # type: ignore[override]  # a DictionaryStore's has no file
        return self._file.sources

    def describe(self) -> Dict[str, object]:
        return {'engine': f'{self._layout.name} file', 'format': LAYOUT_VERSION, 'bytes': self._bytes}


def _digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=16).digest()


def _end(store: Callable[[], Optional[FileStore]]) -> None:
    """End a store that is still there when the process ends."""
    found = store()
    if found is not None:
        found.end()
