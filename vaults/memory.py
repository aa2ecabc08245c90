"""Memory: bytes of many megabytes, made without most of what they take otherwise. Knows nothing.

Fresh memory comes from Linux in pages of 4 KB, each of which takes longer to be had than to be filled. In pages of 2 MB
it takes a quarter of the time. The kernel is told so before the first byte is written.
"""
from __future__ import annotations

from io import BytesIO

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Optional

_advise: Optional[Callable[..., Any]] = None


def blank(size: int) -> BytesIO:
    """Return a file in memory of so many zeros, to be written over. Its getvalue() is no copy."""
    global _advise
    data = bytes(size)
    _advise = _advise or _madvise()
    _advise(id(data), size)
    return BytesIO(data)


def _madvise() -> Callable[..., Any]:
    """Return what asks for large pages between two addresses, which only Linux has; elsewhere, what does nothing."""
    try:
        from ctypes import CDLL, c_int, c_size_t, c_void_p
        from mmap import MADV_HUGEPAGE, PAGESIZE
        madvise = CDLL(None).madvise
    except (ImportError, OSError, AttributeError):
        return lambda address, size: None
    madvise.argtypes = c_void_p, c_size_t, c_int

    def advise(address: int, size: int) -> None:
        """Ask for the pages that are wholly within; it is a hint, and the kernel may refuse."""
        start, stop = -(-address // PAGESIZE), (address + size) // PAGESIZE
        madvise(start * PAGESIZE, (stop - start) * PAGESIZE, MADV_HUGEPAGE)
    return advise
