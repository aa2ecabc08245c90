"""Files: streams, and any bytes or text of a vault, as file objects. Knows neither SQL nor how keys are stored.

They are written whole, or not at all: closing makes what was written the entry, in one transaction.
"""
from __future__ import annotations

import errno
import io
import os
import sys
from contextlib import contextmanager
from operator import index as as_index

from ..errors import VaultError, VaultExistsError, VaultReadOnlyError
from . import stream as streams  # its STREAM_LEAF is asked for there, where it may have been made smaller to try it
from .stream import FARTHEST, Content
from .tree import StaleRead, missing, retry_stale

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import IO, Any, Callable, Iterator, Optional, Sequence, Tuple, Type

    from ..place import Place
    from ..stores.base import Progress, StreamProgress

BUFFER = 1 << 16   # bytes, of the file objects


class _Whole:
    """What the file objects share: they are written whole, or not at all."""

    raw: Any

    def discard(self) -> None:
        """Close, and write nothing of it."""
        self.raw.discard()

    def __exit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException],
                 trace: Optional[TracebackType]) -> None:
        """Close; after any exception, write nothing."""
        self.close() if kind is None else self.discard()

    if TYPE_CHECKING:
        def close(self) -> None: ...


def _bytes_of(buffer: Any) -> memoryview:
    """Return a view of the bytes of a buffer. Raises: TypeError when it is none, BufferError when it has gaps."""
    view = memoryview(buffer)
    if not view.c_contiguous:
        raise BufferError('the bytes of a buffer are to lie one behind the other, without gaps')
    return view.cast('B') if view.nbytes else memoryview(b'')


class RawStream(_Whole, io.RawIOBase):
    """An entry as an unbuffered file. Usable by any thread, one at a time; not in a forked child to write."""

    _kind, _both, _dropped = 'r', False, False  # until it is open: when that fails, there is nothing to be written

    def __init__(self, place: Place, key: Any, mode: str) -> None:
        """Open it; `mode` is r, w, a or x, with or without +. Raises: as Vault.open."""
        if mode != 'r':
            if place.read_only:
                raise VaultReadOnlyError(f"the vault was opened with flag='r': key {key!r} of {place.path}; open it "
                                         'to write')
            place.allow_chunks(key)
            place.store.require_writable()
        self._place, self._process, self._truncated = place, os.getpid(), False
        self.name, self.mode = key, {'w+': 'rb+'}.get(mode, f'{mode[0]}b{mode[1:]}')  # as those of a builtin file
        self._lost: Optional[Tuple[Type[VaultError], str]] = None  # what a write that failed has raised
        self.content = retry_stale(place.store, lambda: self._opened(mode[0]), 'the stream')
        self._began = self.content.size  # where appending begins
        self._at = self._began if mode[0] == 'a' else 0
        self._kind, self._both = mode[0], '+' in mode

    def _opened(self, kind: str) -> Content:
        """Return what is to be read or changed."""
        place, store = self._place, self._place.store
        if kind in 'wx':
            if store.contains(place.keys.encode(self.name)) and kind == 'x':
                raise self._exists()
            return Content(self._place, self.name, None)
        stored = place.sought(self.name) if kind == 'r' else place.keys.encode(self.name)
        data = None if stored is None else store.get(stored)
        if data is None and kind == 'r':
            raise KeyError(self.name)
        content = Content(self._place, self.name, data)
        if kind == 'a':
            content.hold_end()
        return content

    def _exists(self) -> VaultExistsError:
        return VaultExistsError(f"there is something at the key already: {self._where()}; open it with 'w' to replace "
                                'it')

    def _where(self) -> str:
        return self._place.where(self.name)

    def readable(self) -> bool:
        self._require_open()
        return self._both or self._kind == 'r'

    def writable(self) -> bool:
        self._require_open()
        return self._both or self._kind != 'r'

    def seekable(self) -> bool:
        self._require_open()
        return True

    def fileno(self) -> int:
        self._require_open()
        return super().fileno()

    def _require_open(self) -> None:
        if self.closed:
            raise ValueError('I/O operation on closed file')

    def _require(self, able: bool, verb: str) -> None:
        if not able:
            raise io.UnsupportedOperation(f'the file was not opened for {verb}')

    # --- reading ---

    def readinto(self, buffer: Any) -> int:
        view, done = memoryview(buffer), 0
        if view.readonly or not view.c_contiguous:
            raise TypeError('readinto() takes a buffer that can be written and has no gaps')
        self._require(self.readable(), 'reading')
        view = _bytes_of(view)
        for piece in self.content.pieces(self._at, self._at + len(view)):
            view[done:done + len(piece)] = piece
            done += len(piece)
        self._at += done
        return done

    def read(self, size: Optional[int] = -1) -> Optional[bytes]:
        """Return up to `size` bytes; all that is left when it is None or negative."""
        return self.readall() if size is None or as_index(size) < 0 else super().read(size)

    def readall(self) -> bytes:
        self._require(self.readable(), 'reading')
        data = b''.join(self.content.pieces(self._at, self.content.size))
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        whence = as_index(whence)
        self._require_open()
        if whence not in (0, 1, 2):
            raise OSError(errno.EINVAL, f'whence is 0, 1 or 2, not {whence!r}')
        self._at = at = self._possible(as_index(offset) + (0, self._at, self.content.size)[whence])
        return at

    def _possible(self, at: int) -> int:
        if at < 0:
            raise OSError(errno.EINVAL, 'there is no position before the beginning')
        if at > max(self.content.size, FARTHEST):
            raise OSError(errno.EFBIG, f'position {at} is too far beyond the end: a hole ends at {FARTHEST} at most')
        return at

    def tell(self) -> int:
        self._require_open()
        return self._at

    # --- writing ---

    def write(self, data: Any) -> int:
        view = _bytes_of(data)
        self._require(self.writable(), 'writing')
        size = view.nbytes
        if self._dropped:
            self.content.changed = True  # as far as the warning goes
        elif size:
            self._same_process()
            at = self.content.size if self._kind == 'a' else self._at
            self._change(self.content.put, at, data if type(data) is bytes else view)
            self._at = at + size
        return size

    def truncate(self, size: Optional[int] = None) -> int:
        self._require(self.writable(), 'writing')
        size = self._possible(self._at if size is None else as_index(size))
        self._same_process()
        self._change(self.content.truncate, size)
        self._truncated = self._truncated or size < self._began
        return size

    def _change(self, change: Callable[..., None], *arguments: Any) -> None:
        """Change the content. When that fails, a part may have been changed, and the rest would not fit."""
        self._require_whole()
        try:
            change(*arguments)
        except BaseException as error:
            self._lost = type(error) if isinstance(error, VaultError) else VaultError, f'{error}'
            raise

    def _require_whole(self) -> None:
        if self._lost:
            kind, why = self._lost
            raise kind(f'a write to the file failed, so that nothing of it is kept: {self._where()}; open it '
                       f'again and write all of it ({why})')

    # --- the end ---

    def close(self) -> None:
        """Make what was written the entry; when that raises, nothing of it is kept."""
        if self.closed:
            return
        if self._dropped or getattr(self, '_finalizing', False):
            self._abandon()
            return
        try:
            self._require_whole()
            if self.writable() and self.content.changed:
                self._same_process()
                self._place.store.once(self._save)
        except StaleRead:  # with everybody else kept out
            self.discard()
            raise missing('the stream', self._where()) from None
        except BaseException:
            self.discard()
            raise
        super().close()

    def _same_process(self) -> None:
        if os.getpid() != self._process:
            raise VaultError(f'the stream was opened to write in the process that forked this one: {self._where()}; '
                             'open it here')

    def _save(self) -> None:
        store, stored = self._place.store, self._place.keys.encode(self.name)
        if self._kind == 'x' and store.contains(stored):
            raise self._exists()
        if self._kind in 'ra' and store.get(stored) != self.content.data:
            self._save_beside(store.get(stored))
        else:
            self.content.save()

    def _save_beside(self, data: Optional[bytes]) -> None:
        """Append to what somebody else has put meanwhile."""
        if self._kind == 'r' or self._truncated:
            raise VaultError(f'somebody else has changed the stream since it was opened: {self._where()}; nothing was '
                             'written, open it again')
        theirs = Content(self._place, self.name, data)
        self.content.append_to(theirs, self._began)
        self.content.discard()
        theirs.save()

    def discard(self) -> None:
        """Close, and write nothing of it."""
        if not self.closed:
            if os.getpid() == self._process:
                self.content.discard()
            super().close()

    def _dealloc_warn(self, source: Any) -> None:
        """Learn that a file object above this one was dropped: CPython then calls this before it flushes."""
        self._dropped = True

    def _abandon(self) -> None:
        if self.writable() and self.content.changed and not sys.is_finalizing():
            from ..log import get_logger
            get_logger().warning('a file was dropped without close(), nothing of it was written: key %r of the vault '
                                 '%s', self.name, self._place.path)
            self.discard()
        super().close()


class BufferedStream(_Whole, io.BufferedWriter):
    """What `open_stream` returns to write."""


class RandomStream(_Whole, io.BufferedRandom):
    """What `open_stream` returns to read and write."""


class TextStream(_Whole, io.TextIOWrapper):
    """What `open_stream` returns for text."""

    mode: str

    def discard(self) -> None:
        self.buffer.raw.discard()  # type: ignore[attr-defined]  # it is a RawStream


def open_stream(place: Place, key: Any, mode: str, buffering: int, encoding: Optional[str],
                errors: Optional[str], newline: Optional[str]) -> IO[Any]:
    """Do what Vault.open says."""
    _check_types(mode, buffering, encoding, errors, newline)
    kind, text = _parsed(mode)
    _check_options(text, buffering, encoding, errors, newline)
    raw = RawStream(place, key, kind)
    try:
        if buffering == 0:
            return raw  # type: ignore[return-value]  # an IO in all but name
        size = buffering if buffering > 1 else BUFFER
        cls: Any = RandomStream if '+' in kind else io.BufferedReader if kind == 'r' else BufferedStream
        buffered = cls(raw, size)
        if not text:
            return buffered  # type: ignore[no-any-return]
        file = TextStream(buffered, 'utf-8' if encoding is None else encoding, errors, newline, buffering == 1)
        file.mode = mode
        return file
    except BaseException:
        raw.discard()
        raise


def _parsed(mode: str) -> Tuple[str, bool]:
    """Return r, w, a or x, with + if that is in the mode, and whether it is for text. Raises: as the builtin open."""
    letters = set(mode)
    if letters - set('rwaxbt+') or len(letters) < len(mode):
        raise ValueError(f'invalid mode: {mode!r}')
    if {'b', 't'} <= letters:
        raise ValueError("can't have text and binary mode at once")
    kinds = letters & set('rwax')
    if len(kinds) != 1:
        raise ValueError('must have exactly one of create/read/write/append mode')
    return kinds.pop() + ('+' if '+' in letters else ''), 'b' not in letters


def _check_types(mode: Any, buffering: Any, *texts: Any) -> None:
    as_index(buffering)
    for name, given in zip(('mode', 'encoding', 'errors', 'newline'), (mode, *texts)):
        if not isinstance(given, str) and (given is not None or name == 'mode'):
            raise TypeError(f'{name} is a str, not {type(given).__name__}')


def _check_options(text: bool, buffering: int, encoding: Optional[str], errors: Optional[str],
                   newline: Optional[str]) -> None:
    if buffering == 1 and not text:
        from warnings import warn
        warn("line buffering (buffering=1) isn't supported in binary mode, the default buffer size is used",
             RuntimeWarning, stacklevel=4)  # who called Vault.open
    for name, given in (('encoding', encoding), ('errors', errors), ('newline', newline)):
        if given is not None and not text:
            raise ValueError(f"binary mode doesn't take {'an' if name != 'newline' else 'a'} {name} argument")
    if text and buffering == 0:
        raise ValueError("can't have unbuffered text I/O")


# --- whole files in and out ---------------------------------------------------------------------------------------

def put_file(place: Place, key: Any, source: Any, progress: StreamProgress) -> int:
    """Do what Vault.put_file says."""
    with RawStream(place, key, 'w') as stream, _source(source) as (file, total):
        done = 0
        while True:
            piece = file.read(streams.STREAM_LEAF)
            if not isinstance(piece, (bytes, bytearray, memoryview)):
                raise TypeError(f'put_file takes a binary file, and this one gives {type(piece).__name__}: open it '
                                "with 'rb'")
            if not piece:
                break
            done += stream.write(piece)
            if progress:
                progress(done, total)
    return done


@contextmanager
def _source(source: Any) -> Iterator[Tuple[Any, Optional[int]]]:
    """Open what is read, and tell how many bytes there are."""
    named = isinstance(source, (str, os.PathLike)) or (isinstance(source, bytes) and os.path.exists(source))
    if not named:
        if not hasattr(source, 'read'):
            raise TypeError(f'put_file takes a path or an open binary file, not {type(source).__name__}: v[key] = ... '
                            'puts bytes')
        yield source, _length(source)
        return
    with open(source, 'rb', buffering=0) as file:
        yield file, os.fstat(file.fileno()).st_size


def _length(file: Any) -> Optional[int]:
    """Return how much there is to be read, where that is known without reading it."""
    if not isinstance(file, (io.BytesIO, io.FileIO, io.BufferedReader, io.BufferedRandom)) or not file.seekable():
        return None
    at = file.tell()
    end = file.seek(0, 2)
    file.seek(at)
    return max(end - at, 0)


def get_file(place: Place, key: Any, target: Any, progress: Progress) -> int:
    """Do what Vault.get_file says."""
    with RawStream(place, key, 'r') as stream, _target(target, place.store.files) as (file, is_new):
        total: int = stream.content.size
        done = 0
        for index in range(-(-total // streams.STREAM_LEAF)):
            leaf = stream.content.leaf(index)
            if is_new and not leaf[0] and leaf == bytes(len(leaf)):
                done += len(leaf)
                file.truncate(file.seek(done))  # a hole there as well
            else:
                done += _write_all(file, leaf)
            if progress:
                progress(done, total)
    return total


def _write_all(file: Any, piece: Any) -> int:
    """Write a piece, in several where the file takes less at a time; return its length."""
    rest = piece
    while rest:
        count = file.write(rest)
        if not count and isinstance(file, io.RawIOBase):
            raise BlockingIOError(errno.EAGAIN, 'the file takes no more bytes now: give one that waits')
        rest = rest[count:] if isinstance(count, int) else b''
    return len(piece)


@contextmanager
def _target(target: Any, own: Sequence[str]) -> Iterator[Tuple[Any, bool]]:
    """Open what is written, and tell whether it is a new file; `own` are the vault's.

    A path gets it when it is whole, unless it is a device or a pipe.
    """
    if not isinstance(target, (str, bytes, os.PathLike)):
        if isinstance(target, io.TextIOBase):
            raise TypeError("get_file takes a binary file, and this one takes text: open it with 'wb'")
        yield target, False
        return
    path = os.fsdecode(target)
    if os.path.exists(path) and not os.path.isfile(path):
        with open(path, 'wb', buffering=0) as file:
            yield file, False
        return
    path = os.path.realpath(path)
    if path in map(os.path.realpath, own):
        raise VaultError(f"{path} is the vault's own file: give another path")
    from ..files import NewFile
    with NewFile(path, *own[:1], replaces=True) as new:
        yield new.raw(), True
