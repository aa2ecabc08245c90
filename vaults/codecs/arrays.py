"""Arrays: NumPy's arrays and scalars to payloads and back. Imports NumPy only when one is met. Knows no store."""
from __future__ import annotations

from ..errors import VaultCorruptError
from .codes import BULK
from .large import uncopied, viewed
from .registry import intent

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional

    from .registry import Pack, Unpack

MOST_EMPTY = 1 << 24  # items of no bytes in an array


def dump_array(obj: Any, inner: Pack) -> Optional[bytes]:
    """Describe a NumPy array as [dtype, shape, order, bytes], the dtype as in NumPy's own .npy files."""
    descr = None if _is_endless(obj) else _describe(obj.dtype)
    order = 'F' if obj.flags.f_contiguous and not obj.flags.c_contiguous else 'C'
    return None if descr is None else inner([descr, list(obj.shape), order, _raw(obj, order)])


def _raw(array: Any, order: str) -> bytes:
    """Return the bytes of an array, of a large one without a copy where they are in that order in memory."""
    if array.nbytes < BULK or not array.flags.forc:
        return _unfielded(array).tobytes(order)  # type: ignore[no-any-return]  # NumPy's
    return uncopied(memoryview((array.T if order == 'F' else array).reshape(-1).view('u1')))


def _is_endless(array: Any) -> bool:
    """Tell whether a few bytes would make more items than could be looked at: only pickle makes such arrays."""
    return not array.dtype.itemsize and array.size > MOST_EMPTY


def _unfielded(array: Any) -> Any:
    """Look at items of several fields as bytes: a copy field by field has whatever was in memory between them."""
    return array.view(f'V{array.dtype.itemsize}') if array.dtype.names else array


def dump_scalar(obj: Any, inner: Pack) -> Optional[bytes]:
    descr = _describe(obj.dtype)
    if isinstance(obj, (str, bytes)):  # an array would drop the NULs at their end
        return inner([descr, obj.encode('utf-32-le', 'surrogatepass') if isinstance(obj, str) else bytes(obj)])
    return None if descr is None else inner([descr, _unfielded(obj).tobytes()])


def _describe(dtype: Any) -> Any:
    """Return the description of `dtype`; None when it holds objects or is a foreign one, which pickle must carry."""
    from numpy.lib.format import dtype_to_descr
    if dtype.hasobject or dtype.isbuiltin == 2 or dtype.metadata or (dtype.kind == 'V' and not dtype.itemsize):
        return None
    descr = dtype_to_descr(dtype)
    return descr if _dtype(descr) == dtype else None


def _dtype(descr: Any) -> Any:
    try:
        from numpy.lib.format import descr_to_dtype
    except ImportError as error:
        raise ImportError("this value is of NumPy, which is not installed: pip install 'vaults[numpy]'") from error
    dtype = descr_to_dtype(_retupled(descr))
    if dtype.hasobject:  # its bytes would be taken for addresses
        raise VaultCorruptError('a stored NumPy array claims to hold objects')
    return dtype


def _retupled(descr: Any) -> Any:
    """Make the tuples again that msgpack turned into lists: the fields of a structured dtype, and their shapes."""
    if not isinstance(descr, (list, tuple)):
        return descr
    if not all(isinstance(field, (list, tuple)) for field in descr):
        raise ValueError('a field of a dtype is no array')
    return [tuple([tuple(part) if at != 1 and isinstance(part, (list, tuple)) else _retupled(part)
                   for at, part in enumerate(field)]) for field in descr]


def load_array(data: bytes, inner: Unpack) -> Any:
    (descr, shape, order, raw), view = viewed(data, inner, at_end=True)
    dtype = _dtype(descr)
    import numpy
    if type(shape) is not list or type(raw) is not bytes:  # of None, NumPy makes an array of what is in memory
        raise ValueError('the shape of an array is no array of integers, or its bytes are none')
    array = numpy.ndarray(tuple(shape), dtype, view or raw, order=order)  # looks at bytes that nobody can change
    if not array.flags.aligned:  # it takes longer to work with, and other packages refuse it
        array = numpy.ndarray(tuple(shape), dtype, bytes(view or raw), order=order)
    if _is_endless(array):
        raise ValueError('an array has more items of no bytes than could be looked at')
    return _unfielded(array).copy(order).view(dtype) if intent.writable() else array


def load_scalar(data: bytes, inner: Unpack) -> Any:
    descr, raw = inner(data)
    if type(raw) is not bytes:
        raise ValueError('the bytes of a NumPy scalar are none')
    dtype = _dtype(descr)
    import numpy
    if dtype.kind in 'SU':
        return dtype.type(raw if dtype.kind == 'S' else raw.decode('utf-32-le', 'surrogatepass'))
    return _unfielded(numpy.ndarray((), dtype, raw)).copy().view(dtype)[()]

