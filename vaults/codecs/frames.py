"""Frames: those of pandas and Polars as registered types, each an Arrow IPC file. Knows neither keys nor stores.

Every Arrow library opens such a file, and reading it runs no pickle. What would not come back exactly is left to
pickle.
"""
from __future__ import annotations

from io import BytesIO

from ..errors import SerializationError
from .codes import BULK
from .foreign import Foreign, encoder_among
from .large import Pieces, pieces_of, uncopied
from .registry import Provider

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional, Tuple

    from .registry import Encoder

ALIGNED = 8  # bytes, as Arrow has it of its buffers
OLDEST_PYARROW = (14, 0, 1)  # before it, reading Arrow could run a pickle: CVE-2023-47248


def _safe_pyarrow() -> Any:
    """Return pyarrow. Raises: ImportError when it is missing, or one that runs pickles."""
    import pyarrow
    if tuple(map(int, pyarrow.__version__.split('.')[:3])) < OLDEST_PYARROW:
        raise ImportError('pyarrow is older than 14.0.1')
    return pyarrow


# --- pandas ---------------------------------------------------------------------------------------------------------

def _dump_frame(frame: Any) -> Optional[Dict[str, Any]]:
    return _dump_table(frame, frame)


def _dump_series(series: Any) -> Optional[Dict[str, Any]]:
    payload = _dump_table(series.to_frame('value'), series)
    return payload and {**payload, 'name': series.name}


def _dump_index(index: Any) -> Optional[Dict[str, Any]]:
    import pandas
    return _dump_table(pandas.DataFrame(index=index, columns=pandas.Index([''])[:0]), None)


def _dump_table(frame: Any, owner: Any) -> Optional[Dict[str, Any]]:
    """Return the frame as Arrow, with what Arrow does not keep; None when it would not come back exactly."""
    try:
        pyarrow = _safe_pyarrow()
    except ImportError:
        return None
    if owner is not None and not owner.flags.allows_duplicate_labels:
        return None
    attrs = {'attrs': owner.attrs} if owner is not None and owner.attrs else {}
    try:
        simple = _simple_schema(pyarrow, frame)
        if simple:
            index = frame.index
            return {'range': [index.start, index.stop, index.step], **attrs,
                    'arrow': _simple_file(pyarrow, frame, *simple)}
        bare, payload = _stripped(frame)
        arrow = _to_arrow(pyarrow, pyarrow.Table.from_pandas(bare))
        return {**payload, **attrs, 'arrow': arrow} if _is_exact(bare, payload, arrow) else None
    except (pyarrow.ArrowException, ValueError, TypeError, NotImplementedError):
        return None  # a type that Arrow does not have


def _stripped(frame: Any) -> Tuple[Any, Dict[str, Any]]:
    """Return the frame without what Arrow does not keep, and that."""
    import pandas
    payload: Dict[str, Any] = {}
    bare, index = frame.copy(deep=False), frame.index
    bare.attrs = {}
    if not _are_plain(frame.columns):
        payload['columns'] = frame.columns
        bare.columns = [str(place) for place in range(len(frame.columns))]
    is_range = type(index) is pandas.RangeIndex
    if is_range:
        payload['range'] = [index.start, index.stop, index.step]
        bare.index = pandas.RangeIndex(len(index))
    if not set(map(type, index.names)) <= {str, type(None)} or (is_range and index.name is not None):
        payload['names'] = list(index.names)
        bare.index = bare.index.set_names([None] * index.nlevels)
    if getattr(index, 'freq', None) is not None and index.dtype.kind in 'mM':  # that of periods is in their type
        payload['freq'] = index.freqstr
    return bare, payload


def _are_plain(columns: Any) -> bool:
    """Tell whether Arrow brings the names of columns back: different texts, in an index of the usual kind."""
    import pandas
    usual = pandas.Index([''])
    return (type(columns) is pandas.Index and columns.dtype == usual.dtype and columns.is_unique
            and type(columns.name) in (str, type(None)) and set(map(type, columns)) <= {str})


def _to_arrow(pyarrow: Any, table: Any) -> bytes:
    """Return a table as an Arrow IPC file."""
    sink = pyarrow.BufferOutputStream()
    _write_arrow(pyarrow, table, sink)
    return uncopied(memoryview(sink.getvalue()))


def _write_arrow(pyarrow: Any, table: Any, sink: Any) -> None:
    with pyarrow.ipc.new_file(sink, table.schema) as writer:
        writer.write(table)


# --- simple frames --------------------------------------------------------------------------------------------------
# To find Arrow's schema of a frame takes most of the time of a small one, and to try whether it comes back as long
# again. Of simple ones both are the same for all that have the same names and types, whatever the values are. So it is
# found once. The schema has what pandas wants to know in JSON, of which the number of rows is all that differs.

MOST_SIMPLE = 64  # kinds that are kept
STOP = b'"stop": %d,'  # of rows, in that JSON; a name of a column would have other quotes

# By names and types: the schema, what is before and behind the number of rows, and whether all are numbers of one type;
# nothing where it is not exact.
_simple: Dict[Tuple[Any, ...], Tuple[Any, ...]] = {}


def _simple_schema(pyarrow: Any, frame: Any) -> Tuple[Any, ...]:
    """Return what is known of all frames with these names and types; nothing where this one is not simple."""
    import pandas
    index, columns = frame.index, frame.columns
    if type(index) is not pandas.RangeIndex or index.name is not None or not len(index):
        return ()
    names, dtypes = columns.tolist(), frame.dtypes.tolist()
    if not all(map(_is_kept_if_its_type_is, dtypes)):
        return ()
    kind = (type(columns), columns.dtype, type(columns.name), columns.name, *names, *dtypes, *map(type, names))
    known = _simple.get(kind)
    if known is None:
        if len(_simple) >= MOST_SIMPLE:
            _simple.clear()
        known = _simple[kind] = _learned(pyarrow, frame.iloc[:1], dtypes) if names and _are_plain(columns) else ()
    return known


def _is_kept_if_its_type_is(dtype: Any) -> bool:
    """Tell whether Arrow keeps each value of a type of NumPy or pandas, if it keeps the type."""
    return _is_number(dtype) or getattr(dtype, 'char', '') in ('M', 'm') or type(dtype).__qualname__ == 'StringDtype'


def _learned(pyarrow: Any, row: Any, dtypes: List[Any]) -> Tuple[Any, ...]:
    """Learn of one row how all others are stored."""
    bare, payload = _stripped(row)
    table = pyarrow.Table.from_pandas(bare)
    metadata = table.schema.metadata
    before, found, behind = metadata[b'pandas'].partition(STOP % 1)
    if not found or len(metadata) > 1 or not _is_exact(bare, payload, _to_arrow(pyarrow, table)):
        return ()
    return table.schema, before, behind, len(set(dtypes)) == 1 and _is_number(dtypes[0])


def _simple_file(pyarrow: Any, frame: Any, schema: Any, before: bytes, behind: bytes, is_one_type: bool) -> bytes:
    """Return what Arrow makes of a simple frame."""
    is_small = frame.size < BULK >> 3
    schema = schema.with_metadata({b'pandas': b'%b%b%b' % (before, STOP % len(frame), behind)})
    if is_one_type and is_small:  # of a large one, to_numpy() may be a copy
        arrays = [pyarrow.array(column, from_pandas=True) for column in frame.to_numpy().T]
        return _to_arrow(pyarrow, pyarrow.RecordBatch.from_arrays(arrays, schema=schema))
    # Of NaN, Arrow makes nulls; that there are none, pandas tells in a fifth of the time.
    arrays = [pyarrow.array(column, from_pandas=column.dtype.kind != 'f' or column.hasnans)
              for _, column in frame.items()]
    table = pyarrow.Table.from_arrays(arrays, schema=schema)
    if is_small:
        return _to_arrow(pyarrow, table)
    sink = _Sink()
    _write_arrow(pyarrow, table, sink)
    return pieces_of(sink.pieces)


class _Sink:
    """A file that keeps what is written to it, buffers without a copy."""

    closed = False

    def __init__(self) -> None:
        self.pieces: List[Any] = []

    def write(self, data: Any) -> None:
        self.pieces.append(data if type(data) is bytes else memoryview(data).cast('B'))

    def close(self) -> None:
        pass


def _arrow_table(data: bytes) -> Any:
    import pyarrow
    if pyarrow.py_buffer(data).address % ALIGNED:
        data = bytes(data)
    table = pyarrow.ipc.open_file(pyarrow.BufferReader(data)).read_all()
    table.validate(full=True)  # offsets that point outside the buffers would be followed
    return table


def _is_exact(frame: Any, payload: Dict[str, Any], arrow: bytes) -> bool:
    """Tell whether the types, names and index come back, from a frame without rows; and objects are text or None."""
    import pandas
    import pyarrow
    if 'range' in payload and len(frame.columns) and all(map(_is_number, frame.dtypes)):
        return True  # to try it takes as long again; test_frames_of_numbers_come_back_exactly does
    whole = arrow.pieces[0] if isinstance(arrow, Pieces) else arrow
    back = pyarrow.ipc.open_file(pyarrow.BufferReader(whole)).read_all().slice(0, 0).to_pandas(use_threads=False)
    index = frame.index
    if 'freq' in payload and pandas.tseries.frequencies.to_offset(payload['freq']) != index.freq:
        return False
    levels = _levels(index)
    return (_alike(frame.columns, back.columns) and frame.columns.equals(back.columns) and _alike(index, back.index)
            and all(_same_type(mine.dtype, theirs.dtype) for mine, theirs in zip(levels, _levels(back.index)))
            and all(map(_same_type, frame.dtypes, back.dtypes))
            and all(map(_is_kept, [*levels, *(frame[name] for name in frame.columns)])))


def _is_number(dtype: Any) -> bool:
    """Tell whether it is one of NumPy's types of bools, ints and floats that Arrow has as well."""
    return getattr(dtype, 'isbuiltin', 0) == 1 and dtype.kind in 'biuf' and dtype.itemsize <= 8


def _levels(index: Any) -> List[Any]:
    return [index.get_level_values(place) for place in range(index.nlevels)]


def _alike(mine: Any, theirs: Any) -> bool:
    return type(mine) is type(theirs) and mine.names == theirs.names


def _same_type(mine: Any, theirs: Any) -> bool:
    """Tell whether two dtypes are one, of NumPy or pandas, time zones and the order of categories included."""
    import pandas
    if mine != theirs or type(mine) is not type(theirs) or type(mine).__module__.split('.')[0] not in (
            'numpy', 'pandas'):
        return False
    if not isinstance(mine, pandas.CategoricalDtype) or mine.categories is None:
        return True
    ours, others = mine.categories, theirs.categories
    return (_alike(ours, others) and ours.equals(others) and _is_kept(ours) and _same_type(ours.dtype, others.dtype)
            and getattr(ours, 'freq', None) == getattr(others, 'freq', None))


def _is_kept(values: Any) -> bool:
    """Tell whether Arrow, which takes NaN for nothing, keeps what is there: objects that are text or None, no NaN."""
    if values.dtype.name in ('Float32', 'Float64'):
        return not any(number != number for number in values.to_numpy('float64', na_value=0.0))
    return values.dtype != object or set(map(type, values)) <= {str, type(None)}


def _changeable(frame: Any) -> None:
    """Copy the codes of categoricals, which are Arrow's own and cannot be written; all else pandas has copied."""
    import pandas
    for name in frame.columns[[isinstance(dtype, pandas.CategoricalDtype) for dtype in frame.dtypes]]:
        frame[name] = frame[name].copy()
    if any(isinstance(level.dtype, pandas.CategoricalDtype) for level in _levels(frame.index)):
        frame.index = frame.index.copy(deep=True)


def _load_frame(payload: Dict[str, Any]) -> Any:
    import pandas
    data = payload['arrow']
    table = _arrow_table(data)
    frame = table.to_pandas(use_threads=len(data) >= BULK)  # threads take 80 us
    if any(hasattr(kind, 'index_type') for kind in table.schema.types):  # of dictionaries, as categoricals are
        _changeable(frame)
    if 'columns' in payload:
        frame.columns = payload['columns']
    if 'range' in payload:
        frame.index = pandas.RangeIndex(*payload['range'])
    if 'names' in payload:
        frame.index.names = payload['names']
    if 'freq' in payload:
        frame.index.freq = payload['freq']
    frame.attrs.update(payload.get('attrs', {}))
    return frame


def _load_series(payload: Dict[str, Any]) -> Any:
    series = _load_frame({**payload, 'attrs': {}})['value']
    series.name = payload['name']
    series.attrs.update(payload.get('attrs', {}))
    return series


def _load_index(payload: Dict[str, Any]) -> Any:
    return _load_frame(payload).index


# --- Polars ---------------------------------------------------------------------------------------------------------

def _dump_polars(frame: Any) -> Optional[bytes]:
    import polars
    buffer = BytesIO()
    try:
        frame.write_ipc(buffer)
        data = buffer.getvalue()
        back = polars.read_ipc(BytesIO(data), n_rows=0)
    except (polars.exceptions.PolarsError, polars.exceptions.PanicException):
        return None  # Python's objects
    if any(map(_is_empty_array, frame.schema.values())):
        raise SerializationError('a column of arrays of width 0 is not stored: Polars could not read it again')
    return uncopied(memoryview(data)) if back.schema == frame.schema and (frame.width or not frame.height) else None


def _is_empty_array(dtype: Any) -> bool:
    """Tell whether there are arrays of width 0 at any depth of a type."""
    inner = [dtype.inner] if hasattr(dtype, 'inner') else [field.dtype for field in getattr(dtype, 'fields', ())]
    return 0 in (getattr(dtype, 'shape', None) or ()) or any(map(_is_empty_array, inner))


def _load_polars(data: bytes) -> Any:
    import polars
    try:
        return polars.read_ipc(BytesIO(data))
    except polars.exceptions.PanicException as error:  # which is no Exception
        raise ValueError(f'it is no Arrow file ({error})') from error


def _dump_polars_series(series: Any) -> Optional[bytes]:
    return _dump_polars(series.to_frame())


def _load_polars_series(data: bytes) -> Any:
    return _load_polars(data).to_series()


# --- which is which -------------------------------------------------------------------------------------------------

class _Pandas(Foreign):
    """A class of pandas, which needs a pyarrow that runs no pickles."""

    def require(self) -> None:
        super().require()
        _safe_pyarrow()


_PANDAS, _POLARS = ('pandas', ['pandas', 'pyarrow']), ('polars', ['polars'])
# Persisted names: never reuse one for another payload. Pinned by tests.py::TestForeign.
_FRAME = _Pandas('pandas.DataFrame+arrow', *_PANDAS, _dump_frame, _load_frame)
_SERIES = _Pandas('pandas.Series+arrow', *_PANDAS, _dump_series, _load_series)
_INDEX = _Pandas('pandas.Index+arrow', *_PANDAS, _dump_index, _load_index)
_POLARS_FRAME = Foreign('polars.DataFrame+arrow', *_POLARS, _dump_polars, _load_polars)
_POLARS_SERIES = Foreign('polars.Series+arrow', *_POLARS, _dump_polars_series, _load_polars_series)

# By the module that a program imports to have the class, and its name there.
_FRAME_CLASSES: Dict[Tuple[str, str], Foreign] = {
    ('pandas', 'DataFrame'): _FRAME, ('pandas', 'Series'): _SERIES,
    **{('pandas', name): _INDEX for name in ('Index', 'RangeIndex', 'MultiIndex', 'DatetimeIndex', 'TimedeltaIndex',
                                             'PeriodIndex', 'CategoricalIndex', 'IntervalIndex')},
    ('polars', 'DataFrame'): _POLARS_FRAME, ('polars', 'Series'): _POLARS_SERIES,
}


def _frame_encoder(package: str, kind: type) -> Encoder:
    """Return the encoder of a class of pandas or Polars."""
    return encoder_among(_FRAME_CLASSES, package, kind)


FRAMES = Provider((_FRAME, _SERIES, _INDEX, _POLARS_FRAME, _POLARS_SERIES), _frame_encoder)
