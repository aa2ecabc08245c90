"""Columns: numbers in chunks, and buffers over them."""
from __future__ import annotations

import array
import datetime as dt
import decimal
import fractions
import itertools
import re
import struct
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vaults
from vaults import Vault, vault
from vaults.collections import leaves as leaf_sizes
from vaults.collections import tree

from .chunks import TwoLists, changes
from .helpers import UTC
from .samples import Custom

DTYPES = ['int8', 'int16', 'int32', 'int64', 'uint8', 'uint16', 'uint32', 'uint64', 'float32', 'float64', 'bool', 'S5',
          'datetime64[ns]', 'datetime64[s]', 'datetime64[D]']


def sample(dtype):
    """Return items that a column of this type gives back equal."""
    if dtype == 'bool':
        return st.booleans()
    if dtype[0] == 'S':
        return st.binary(max_size=5).filter(lambda data: data[-1:] != b'\0')
    if dtype[0] == 'f':
        return st.floats(width=int(dtype[5:]), allow_nan=False)
    if dtype[0] == 'd':
        return st.integers(-2**63, 2**63 - 1)
    bits = int(dtype.lstrip('uint'))
    return st.integers(0, 2**bits - 1) if dtype[0] == 'u' else st.integers(-2**(bits - 1), 2**(bits - 1) - 1)


class TestColumnsAsBuffers:
    def test_numpy_asks_for_all_at_once(self, v, monkeypatch):
        numpy = pytest.importorskip('numpy')
        for dtype, items in (('int16', [1, -2]), ('float64', [0.1]), ('bool', [True, False]), ('S3', [b'ab', b'']), ('datetime64[us]', [17])):
            column = v.column(dtype, dtype)
            column.extend(items)
            array = numpy.asarray(column)
            assert array.dtype == numpy.dtype(dtype) and (array == column.to_numpy()).all()
            assert array.flags.writeable or sys.version_info >= (3, 12)  # from which on it takes the buffer where there is one
        assert numpy.array(v['int16'], 'float32').dtype == 'float32' and numpy.array(v['int16'], copy=True).tolist() == [1, -2]
        assert (v['int16'] * numpy.array([2, 2]) == [2, -4]).all() and numpy.mean(v['float64']) == 0.1
        if int(numpy.__version__.split('.')[0]) >= 2:
            with pytest.raises(ValueError, match='copy'):
                numpy.asarray(v['S3'], copy=False)

    @pytest.mark.skipif(sys.version_info < (3, 12), reason='a class written in Python has no buffer before')
    def test_a_column_is_a_buffer_that_cannot_be_written(self, v):
        column = v.column('one', 'int32')
        column.extend([1, 2, 3])
        view = memoryview(column)
        assert view.readonly and view.format == 'i' and view.tolist() == [1, 2, 3] and bytes(column) == column[:].tobytes()
        column.append(4)
        assert view.tolist() == [1, 2, 3] and memoryview(v.column('empty', 'float64')).nbytes == 0
        with pytest.raises((BufferError, TypeError)):
            struct.pack_into('i', column, 0, 5)
        flags = v.column('flags', 'bool')
        flags.append(True)
        assert memoryview(flags).tolist() == [True]
        for dtype in ('S4', 'datetime64[s]'):  # NumPy would take it, and make integers of what it does not tell
            with pytest.raises((BufferError, TypeError)):
                memoryview(v.column(dtype, dtype))
        other = v.column('other', 'int32')
        other.extend(column)
        other[1:1] = column
        assert other == [1, 1, 2, 3, 4, 2, 3, 4]


class TestColumns:
    """`v.column(key, dtype)`: an array of one type that lives in the vault."""

    def test_a_column_is_an_array_that_stays(self, v):
        temps = v.column('temps', 'float64')
        temps.extend([20.5, 21, 19.5])
        v['temps'].append(18.25)
        temps += (1.0,)
        assert temps == [20.5, 21.0, 19.5, 18.25, 1.0] and temps[-2] == 18.25 and temps[1:3] == array.array('d', [21.0, 19.5])
        assert type(temps[1:3]) is array.array and v.column('temps', 'float64') == v['temps'] and temps.dtype == 'float64'
        assert repr(v['temps']) == "Column('float64', [20.5, 21.0, 19.5, 18.25, 1.0])" and len(v) == 1
        del temps[1]
        temps[0:2] = array.array('d', [1.5])
        temps[0] = 2
        temps.insert(1, 9.0)
        assert temps == array.array('d', [2, 9, 18.25, 1.0]) and temps.pop() == 1.0 and temps.copy() == temps[:]
        assert v.pop('temps') == array.array('d', [2, 9, 18.25]) and type(v.pop('temps', 5)) is int

    @pytest.mark.parametrize('made', [lambda v: v.list('k'), lambda v: v.column('k', 'int8')], ids=['list', 'column'])
    def test_a_read_that_fails_is_not_taken_for_another_type(self, v, monkeypatch, made):
        real = v._store.get

        def get(at, calls):
            def fails(key):
                calls.append(key)
                if len(calls) == at:
                    raise vaults.VaultFullError('the disk fails')
                return real(key)
            return fails
        for at in range(1, 10):
            v.clear()
            with monkeypatch.context() as patch:
                patch.setattr(v._store, 'get', get(at, []), raising=False)
                try:
                    assert len(made(v)) == 0
                except vaults.VaultFullError:
                    assert at < 4
            with monkeypatch.context() as patch:
                made(v)
                patch.setattr(v._store, 'get', get(at, []), raising=False)
                try:
                    made(v)
                except vaults.VaultFullError:
                    assert at < 2

    @pytest.mark.parametrize('make', [lambda v: v.list('k'), lambda v: v.column('k', 'int64')])
    def test_what_is_left_of_the_only_leaf_is_no_damage_when_its_first_item_was_dropped(self, v, make):
        live = make(v)
        live.extend(range(5_000))
        del live[:4_400]
        live.pop(0)
        del live[5:]
        assert live.tolist() == [*range(4_401, 4_406)]
        live.append(1)
        assert (live.pop(0), live[-1], len(live), v.check()) == (4_401, 1, 5, [])

    @pytest.mark.parametrize('dtype', ['int64', 'S5', 'bool', 'uint16'])
    @given(changes=changes, data=st.data())
    @settings(max_examples=15)
    def test_it_does_what_a_list_does(self, dtype, changes, data, tmp_path_factory):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(leaf_sizes, 'LEAF', 40)
            patch.setattr(tree, 'FANOUT', 4)
            make = {'int64': int, 'uint16': int, 'bool': lambda number: number % 3 == 0, 'S5': lambda number: b'%d' % (number % 9999)}
            items = map(make[dtype], itertools.count())
            both = TwoLists(tmp_path_factory.mktemp('column') / 'v.db', lambda v: v.column('one', dtype), items)
            for change in changes:
                both.do(*change)
                both.same()
            assert [*map(type, both.live)] == [*map(type, both.plain)]
            both.end()

    @pytest.mark.parametrize('dtype', DTYPES)
    @given(data=st.data())
    @settings(max_examples=20)
    def test_every_type_gives_back_what_was_put(self, dtype, data):
        items = data.draw(st.lists(sample(dtype), max_size=30))
        v = Vault(':memory:')
        column = v.column('one', dtype)
        column.extend(iter(items))
        assert column.tolist() == items == list(column) and [*map(type, column)] == [*map(type, items)]
        for at, item in enumerate(items):
            assert column[at] == item and type(column[at]) is type(item)
        if items:
            column.append(items[0])
            assert column[-1] == items[0] and len(column) == len(items) + 1
        assert v.check() == []
        v.close()

    @pytest.mark.parametrize('dtype, wrong', [
        ('int8', [128]), ('int8', [-129]), ('uint8', [-1]), ('uint64', [2**64]), ('int64', [2**63]), ('int64', [1.5]), ('int64', ['1']),
        ('int64', [None]), ('float64', ['1.5']), ('float64', [None]), ('float32', [1e300]), ('float32', ['a']), ('bool', [1]),
        ('bool', ['']), ('S5', ['a']), ('S5', [b'123456']), ('S5', [b'a\0']), ('S5', [5]), ('datetime64[ns]', ['2026-11-21']),
        ('datetime64[ns]', [True]), ('datetime64[ns]', [1.5]), ('datetime64[ns]', [dt.datetime(1, 1, 1)]),
        ('datetime64[D]', [dt.datetime(2026, 11, 21, 1)]), ('datetime64[s]', [dt.datetime(2026, 11, 21, 1, 1, 1, 5)]),
        ('int64', '12'), ('S5', b'abc'), ('uint8', 'abc')])
    def test_what_does_not_fit_raises_and_writes_nothing(self, v, dtype, wrong):
        column = v.column('one', dtype)
        good = [item for item in [0, False, b'x'] if not self.refused(column, item)]
        column.extend(good * 2000)
        before = column.tolist()
        for act in (lambda: column.extend([*good, *wrong]), lambda: column.append(next(iter(wrong))), lambda: column.insert(0, next(iter(wrong))),
                    lambda: column.__setitem__(0, next(iter(wrong))), lambda: column.__setitem__(slice(0, 1), wrong)):
            with pytest.raises((TypeError, ValueError, OverflowError), match=f"column of {re.escape(dtype)} at key 'one'"):
                act()
            assert column.tolist() == before

    def refused(self, column, item):
        try:
            column._type.pack([item])
        except (TypeError, ValueError, struct.error):
            return True
        return False

    def test_moments(self, v):
        times = v.column('times', 'datetime64[ns]')
        noon = dt.datetime(2026, 11, 21, 12, 30, 0, 5)
        times.extend([noon, noon.replace(tzinfo=dt.timezone(dt.timedelta(hours=2))), dt.date(1970, 1, 2), 17])
        assert times[3] == 17 and times[2] == 86_400 * 10**9 and times[0] - times[1] == 2 * 3600 * 10**9
        assert times[0] == 1795264200000005000
        assert noon in times and times.index(noon) == 0 and times.count(noon) == 1 and times[:1].tolist() == times.tolist(0, 1)
        assert dt.datetime(1, 1, 1) not in times and 'x' not in times and times == [noon, *times[1:]]
        times.remove(dt.date(1970, 1, 2))
        assert len(times) == 3
        days = v.column('days', 'datetime64[D]')
        days.append(dt.date(2026, 11, 21))
        assert dt.date(1970, 1, 1) + dt.timedelta(days[0]) == dt.date(2026, 11, 21)

    @pytest.mark.parametrize('dtype', ['int', 'float16', 'object', 'S', 'S0', 'S-1', 'datetime64', 'datetime64[x]', 'complex128', '', 5, None, 'U5', '>i8'])
    def test_other_types_are_refused(self, v, dtype):
        with pytest.raises(TypeError, match='a column has no type'):
            v.column('one', dtype)
        assert 'one' not in v

    def test_a_column_has_one_type(self, v):
        v.column('one', 'int8')
        assert v.column('two', float).dtype == 'float64' and v.column('three', int).dtype == 'int64'
        with pytest.raises(TypeError, match="a column of int8, not a column of int16, at key 'one'"):
            v.column('one', 'int16')
        v['plain'] = 5
        with pytest.raises(TypeError, match='a plain int, not a column of int8'):
            v.column('plain', 'int8')

    def test_one_item_is_no_items(self, v):
        v.list('log').append(1)
        for walked, said in ((v.list('log'), 'the list has 1 item$'), (v.keys(), 'the vault has 1 entry here$')):
            with pytest.raises(IndexError, match=said):
                walked[5]

    def test_what_is_there_instead_is_named_without_loading_it(self, v, monkeypatch):
        v.list('log').append(1)
        deep = []
        for _ in range(2_000):
            deep = [deep]
        v['deep'] = deep
        v['class'] = Custom(1)
        with v.open('film', 'wb') as file:
            file.write(bytes(100_000))
        monkeypatch.setattr(vault.Vault, '__getitem__', None)
        for key, said in (('log', 'a list made by list()'), ('film', 'a stream'), ('deep', 'a deep value'), ('class', 'a plain spec.samples.Custom')):
            with pytest.raises(TypeError, match=f'^there is {re.escape(said)}, not a column of int8, at key {key!r}'):
                v.column(key, 'int8')

    def test_buffers_are_taken_as_they_are(self, v):
        column = v.column('one', 'int64')
        column.extend(array.array('q', range(5000)))
        column.extend(memoryview(array.array('q', [7, 8]))[1:])
        column.extend(array.array('b', [-1, 2]))
        column.extend(array.array('q'))
        column.extend(b'ab')
        column.extend(range(3))
        assert column == [*range(5000), 8, -1, 2, 97, 98, 0, 1, 2]
        column.extend(memoryview(array.array('q', range(10)))[::3])
        assert column[-4:] == array.array('q', [0, 3, 6, 9])
        column[:] = column
        column.extend(column)
        assert len(column) == 2 * 5012

    def test_slices_of_types_that_array_lacks_are_memoryviews(self, v):
        flags = v.column('flags', 'bool')
        flags.extend([True, False, True])
        assert type(flags[:]) is memoryview and flags[:2].tolist() == [True, False] and flags[::2].tolist() == [True, True]
        names = v.column('names', 'S4')
        names.extend([b'ab', b'', b'abcd'])
        assert names[1:].shape == (2, 4) and bytes(names[:]) == b'ab\0\0\0\0\0\0abcd' and names[9:].nbytes == 0
        assert names[0] == b'ab' and list(names) == names.tolist() == [b'ab', b'', b'abcd'] == [*sorted(names, key=len)[1:2], b'', b'abcd']
        assert names == [b'ab', b'', b'abcd'] and b'abcd' in names and names.tolist(1) == [b'', b'abcd']
        names.extend(names)
        names.extend(names[:1])
        names[::2] = names[::2]
        names[3:] = names[3:]
        names[:] = names
        assert list(names) == [b'ab', b'', b'abcd', b'ab', b'', b'abcd', b'ab']
        del names[3:]
        names.sort(reverse=True)
        assert list(names) == [b'abcd', b'ab', b'']

    @pytest.mark.parametrize('dtype', DTYPES)
    def test_numpy_arrays_go_in_and_out(self, v, dtype):
        numpy = pytest.importorskip('numpy')
        column = v.column('one', numpy.dtype(dtype))
        assert column.dtype == dtype
        items = numpy.arange(3000).astype(dtype) if dtype[0] != 'S' else numpy.array([b'%d' % one for one in range(3000)], dtype)
        for put in (items, items[::3], items[:0], items[::-1], items.astype(items.dtype.newbyteorder('>'))):
            column.clear()
            column.extend(put)
            found = column.to_numpy()
            assert found.dtype == items.dtype and (found == put).all() and found.flags.writeable
            assert column.tolist() == list(column) and len(column) == len(put)
        column.clear()
        column.extend(items)
        assert (column.to_numpy(5, -5) == items[5:-5]).all() and len(column.to_numpy(5, 2)) == 0
        column.append(items[7])
        column.extend(list(items[:3]))
        assert (column.to_numpy(-4) == items[[7, 0, 1, 2]]).all()
        column[0:10] = items[10:20]
        assert (column.to_numpy(0, 10) == items[10:20]).all()

    @pytest.mark.parametrize('dtype, items, error', [
        ('int8', [128], OverflowError), ('uint8', [-1], OverflowError), ('uint64', [-1], OverflowError), ('int64', [1.0], TypeError),
        ('float32', [1e300], OverflowError), ('bool', [1], TypeError), ('int8', ['a'], TypeError), ('S3', [b'abcd'], OverflowError),
        ('datetime64[ns]', [5], TypeError), ('float64', [[1.0]], ValueError), ('float64', [1j], TypeError)])
    def test_numpy_values_that_do_not_fit_are_refused(self, v, dtype, items, error):
        numpy = pytest.importorskip('numpy')
        column = v.column('one', dtype)
        with pytest.raises(error, match="at key 'one'"):
            column.extend(numpy.array(items))
        assert len(column) == 0

    def test_numpy_moments_are_exact_or_refused(self, v):
        numpy = pytest.importorskip('numpy')
        times = v.column('one', 'datetime64[s]')
        times.extend(numpy.array(['2026-11-21T10:00', 'NaT'], 'datetime64[m]'))
        assert times.to_numpy()[0] == numpy.datetime64('2026-11-21T10:00:00') and numpy.isnat(times.to_numpy()[1])
        with pytest.raises(OverflowError, match='out of range'):
            times.extend(numpy.array(['2026-11-21T10:00:00.5'], 'datetime64[ms]'))
        with pytest.raises(ValueError, match='finer'):
            times.append(numpy.datetime64('2026-11-21T10:00:00.5'))
        times.append(numpy.datetime64('2026-11-21'))
        assert len(times) == 3

    def test_a_column_keeps_or_refuses_every_nanosecond(self, v):
        numpy, pandas = pytest.importorskip('numpy'), pytest.importorskip('pandas')
        moments = [pandas.Timestamp(1795264200000005137 + 137 * at) for at in range(300)]
        wanted = [moment.value for moment in moments]
        aware = [moment.tz_localize('UTC').tz_convert('Europe/Paris') for moment in moments]
        series, index = pandas.Series(moments), pandas.DatetimeIndex(moments)
        sources = {
            'list': moments, 'tuple': tuple(moments), 'aware': aware, 'series': series, 'index': index,
            'aware series': pandas.Series(aware), 'aware index': pandas.DatetimeIndex(aware), 'array': series.array,
            'array of datetime64': numpy.array(wanted, 'M8[ns]'), 'objects': numpy.array(moments, object), 'Series of objects': series.astype(object), 'aware array': pandas.array(aware),
            'scalars': list(numpy.array(wanted, 'M8[ns]')), 'numbers': wanted, 'big-endian': numpy.array(wanted, '>M8[ns]')}
        for name, items in sources.items():
            column = v.column(name, 'datetime64[ns]')
            column.extend(items)
            column.extend(iter(items))
            column += items
            column[300:600] = items
            column[599:299:-1] = items
            assert column.tolist() == wanted + wanted[::-1] + wanted, name
            column[0], column[1] = items[1], items[0]
            column.append(items[2])
            column.insert(0, items[3])
            assert column[:3].tolist() == [wanted[3], wanted[1], wanted[0]] and column[-1] == wanted[2], name
            assert column.index(items[0]) == 2 and column.count(items[3]) == 4 and items[299] in column, name
            column.remove(items[3])
            assert column[0] == wanted[1], name
            if name == 'numbers':
                continue
            coarse = v.column((name, 'us'), 'datetime64[us]')
            for act in (lambda: coarse.extend(items), lambda: coarse.extend(iter(items)), lambda: coarse.append(items[0]),  # noqa: B023
                        lambda: coarse.insert(0, items[0]), lambda: coarse.__setitem__(slice(0, 0), items)):  # noqa: B023
                with pytest.raises((ValueError, OverflowError)):
                    act()
            coarse.append(wanted[0] // 1000)
            assert items[0] not in coarse and coarse.count(items[0]) == 0, name
            with pytest.raises(ValueError, match='is not in the column'):
                coarse.index(items[0])
            assert len(coarse) == 1, name

    def test_moments_of_polars_and_arrow_come_whole(self, v):
        polars, pyarrow = pytest.importorskip('polars'), pytest.importorskip('pyarrow')
        wanted = [1795264200000005137, 1795264200000005138]
        for name, items in {
                'polars': polars.Series(wanted).cast(polars.Datetime('ns')),
                'aware polars': polars.Series(wanted).cast(polars.Datetime('ns', 'Europe/Paris')),
                'arrow': pyarrow.array(wanted, pyarrow.timestamp('ns')),
                'aware arrow': pyarrow.array(wanted, pyarrow.timestamp('ns', 'Europe/Paris')),
                'chunks': pyarrow.chunked_array([pyarrow.array([one], pyarrow.timestamp('ns')) for one in wanted])}.items():
            column = v.column(name, 'datetime64[ns]')
            column.extend(items)
            column[::-1] = items
            column[:0] = items
            assert column.tolist() == wanted + wanted[::-1], name
            with pytest.raises(OverflowError, match=r'finer than datetime64\[us\]'):
                v.column((name, 'us'), 'datetime64[us]').extend(items)
        days = v.column('days', 'datetime64[D]')
        days.extend(polars.Series([dt.date(2026, 11, 21), None]))
        assert days.tolist() == [20778, -2**63]

    def test_nothing_is_nat_among_moments_and_refused_among_numbers(self, v):
        numpy, pandas = pytest.importorskip('numpy'), pytest.importorskip('pandas')
        polars, pyarrow = pytest.importorskip('polars'), pytest.importorskip('pyarrow')
        times, nat = v.column('times', 'datetime64[s]'), -2**63
        for one in (pandas.NaT, numpy.datetime64('NaT', 's'), numpy.datetime64('NaT', 'ns')):
            times.append(one)
            assert one in times and times.count(one) == len(times)
        times.extend(pandas.Series([pandas.NaT]))
        times.extend(pandas.DatetimeIndex([None], tz='UTC'))
        times.extend(polars.Series([None]).cast(polars.Datetime('ns')))
        times.extend(pyarrow.array([None], pyarrow.timestamp('ns')))
        assert times.tolist() == [nat] * 7 and numpy.isnat(times.to_numpy()).all()
        for dtype, items in (('float64', polars.Series([1.5, None])), ('float64', pyarrow.array([1.5, None])),
                             ('float64', pandas.array([1.5, None], 'Float64')), ('float64', pandas.Series([1, None], dtype='Int64')),
                             ('int64', polars.Series([1, None])), ('int64', pandas.array([1, None], 'Int64')), ('bool', polars.Series([True, None])),
                             ('float64', pandas.Series([1.5, None], dtype='float64[pyarrow]'))):
            with pytest.raises((TypeError, ValueError)):
                v.column(dtype, dtype).extend(items)
            assert not len(v[dtype])

    @pytest.mark.parametrize('dtype, items', [
        ('float64', [1.5, 2.0]), ('float64', [3, 4]), ('float32', [0.5, 0.25]), ('int64', [3, 2**63 - 1]), ('uint8', [3, 255]),
        ('bool', [True, False]), ('uint64', [2**63 - 1])])
    def test_series_of_polars_pandas_and_arrow_are_taken(self, v, dtype, items):
        polars, pandas, pyarrow = (pytest.importorskip(name) for name in ('polars', 'pandas', 'pyarrow'))
        column = v.column('one', dtype)
        for make in (polars.Series, pandas.Series, pandas.Index, pyarrow.array, lambda items: pandas.Series(items).astype(object)):
            column.extend(make(items))
            column[::1] = make(items)
            assert column.tolist() == items
        v.column('bytes', 'S3').extend(polars.Series([b'a', b'abc']))
        assert v['bytes'].tolist() == [b'a', b'abc']

    @pytest.mark.parametrize('dtype, item', [
        ('float64', 2**53 + 1), ('float64', -2**63 + 1), ('float64', decimal.Decimal('0.1')), ('float64', fractions.Fraction(1, 3)),
        ('float32', 2**24 + 1), ('float32', decimal.Decimal('0.1')), ('float32', fractions.Fraction(1, 3)), ('float64', 10**400),
        ('int64', 1.5), ('int64', 1.0), ('int64', decimal.Decimal(1)), ('int64', fractions.Fraction(1)), ('int64', '1'),
        ('S5', 'abc'), ('bool', 1), ('datetime64[ns]', dt.timedelta(1)), ('datetime64[us]', dt.time(1)), ('float64', 1j)])
    def test_a_value_that_would_be_changed_is_refused(self, v, dtype, item):
        column = v.column('one', dtype)
        for act in (lambda: column.append(item), lambda: column.extend([item]), lambda: column.extend(iter((item,))), lambda: column.insert(0, item)):
            with pytest.raises((TypeError, ValueError, OverflowError), match='at key'):
                act()
        assert len(column) == 0 and item not in column

    def test_what_is_wrong_with_a_number_is_said(self, v):
        column = v.column('one', 'float64')
        for item, error in ((10**400, OverflowError), (decimal.Decimal('sNaN'), ValueError), (decimal.Decimal('1e400'), ValueError), ('1', TypeError),
                            (None, TypeError)):
            for act in (column.append, lambda item: column.extend([1.5, item])):
                with pytest.raises(error, match='at key') as caught:
                    act(item)
                assert caught.type is error and not len(column)

    def test_floats_keep_their_bits_whatever_is_among_them(self, v):
        floats = [-0.0, 5e-324, float('inf'), *struct.unpack('<3d', struct.pack('<3Q', 0x7FF8000000000001, 0xFFF8000000000abc, 2**64 - 1)),
                  *(one * 0.1 for one in range(9000))]
        one, holds_itself = v.column('one', 'float64'), []
        holds_itself.append(holds_itself)
        one.extend(floats)
        one.extend(iter(floats))
        assert one[:].tobytes() == struct.pack(f'<{len(floats)}d', *floats) * 2
        for item in (None, '1', 'four', b'four', b'ggggggggg', (), [1.5], {}, 1j, 10**400, 2**53 + 1, float, object(), holds_itself, StopIteration):
            with pytest.raises((TypeError, ValueError, OverflowError), match='at key'):
                one.extend([*floats[:100], item, *floats[:100]])
        assert len(one) == 2 * len(floats)
        for item in (True, 7, type('Float', (float,), {})(2.5)):
            one[:] = [1.5] * 600 + [item] + [2.5] * 600
            assert one.tolist() == [1.5] * 600 + [float(item)] + [2.5] * 600

    def test_a_value_that_is_exact_in_another_type_is_taken(self, v):
        floats = v.column('floats', 'float64')
        exact = [2**53, -2**60, True, decimal.Decimal('0.5'), fractions.Fraction(1, 4), 0.1, float('inf')]
        floats.extend(exact)
        for one in exact:
            floats.append(one)
        assert floats.tolist() == exact * 2 and [*map(type, floats)] == [float] * 14
        floats.append(decimal.Decimal('NaN'))
        assert floats[-1] != floats[-1]
        small = v.column('small', 'float32')
        small.extend([0.1, 2**24, 2.0**24 + 1, 1e-300])
        assert small.tolist() == [struct.unpack('f', struct.pack('f', 0.1))[0], 2.0**24, 2.0**24, 0]
        whole = v.column('whole', 'int8')
        whole.extend([True, False])
        assert whole == [1, 0]

    def test_numpy_scalars_and_arrays_that_would_be_changed_are_refused(self, v):
        numpy = pytest.importorskip('numpy')
        longs = numpy.array(['0.1'], numpy.longdouble)
        cases = [('float64', numpy.array([2**53 + 1])), ('float64', numpy.array([2**64 - 1], 'u8')), ('float32', numpy.array([2**24 + 1])),
                 ('int64', numpy.array([1.0])), ('S5', numpy.array(['abc'])), ('int64', numpy.array([5], 'm8[s]')),
                 ('float64', numpy.array([5], 'm8[s]')), ('datetime64[ns]', numpy.array([5], 'm8[s]')), ('int64', numpy.array([5], 'M8[s]')),
                 ('datetime64[ns]', numpy.array(['5000-01-01'], 'M8[s]')), ('datetime64[ns]', numpy.array(['-400000'], 'M8[Y]')),
                 ('datetime64[D]', numpy.array(['2026-11-21T01'], 'M8[h]')), ('datetime64[W]', numpy.array(['2026-11-21'], 'M8[D]')),
                 ('datetime64[ns]', numpy.array([1001], 'M8[ps]'))]
        cases += [('float64', longs), ('float32', longs)] if numpy.longdouble is not numpy.float64 and longs[0] != 0.1 else []
        for at, (dtype, items) in enumerate(cases):
            column = v.column(at, dtype)
            for act in (lambda: column.extend(items), lambda: column.extend(list(items)), lambda: column.append(items[0]),  # noqa: B023
                        lambda: column.extend(items.astype(object)) if items.dtype.kind in 'iuUg' else column.append(items[0])):  # noqa: B023
                with pytest.raises((TypeError, ValueError, OverflowError), match='at key'):
                    act()
            assert len(column) == 0 and items[0] not in column, (dtype, items)
        v.column('years', 'datetime64[s]').extend(numpy.array(['1971'], 'M8[Y]'))
        assert v['years'].tolist() == [365 * 86_400]
        v.column('exact', 'float64').extend(numpy.array([2**60, -2**63]))
        assert v['exact'].tolist() == [2.0**60, -2.0**63]

    def test_an_array_that_holds_more_than_its_numbers_is_refused(self, v):
        numpy = pytest.importorskip('numpy')

        class Metres(numpy.ndarray):
            pass
        column = v.column('one', 'int64')
        for items in (numpy.ma.masked_array([1, 2], [False, True]), numpy.arange(3).view(Metres)):
            with pytest.raises(TypeError, match=r'numpy.asarray'):
                column.extend(items)
        column.extend(numpy.asarray(numpy.arange(3).view(Metres)))
        assert column == [0, 1, 2]

    def test_a_moment_that_holds_more_than_a_datetime_is_refused(self, v):
        class Fine(dt.datetime):
            nanosecond = 137

            def __eq__(self, other):
                return isinstance(other, Fine)

            __hash__ = dt.datetime.__hash__

        class Same(dt.datetime):
            pass
        column = v.column('one', 'datetime64[ns]')
        with pytest.raises(ValueError, match='holds more than a datetime'):
            column.append(Fine(2026, 11, 21))
        column.append(Same(2026, 11, 21, fold=1))
        column.append(Same(2026, 11, 21, tzinfo=UTC))
        assert column[0] == column[1] and Fine(2026, 11, 21) not in column

    def test_moments_of_another_column_come_in_the_units_of_this_one(self, v):
        fine, coarse, numbers = v.column('fine', 'datetime64[ns]'), v.column('coarse', 'datetime64[us]'), v.column('numbers', 'int64')
        coarse.extend([1795264200000005, dt.datetime(2026, 11, 21), -2**63])
        fine.extend(coarse)
        assert fine == coarse and coarse == fine and fine[0] == 1795264200000005000 and fine[2] == -2**63
        coarse[:1] = fine
        fine.append(1)
        for change in (lambda: coarse.extend(fine), lambda: coarse.__setitem__(slice(None, None, 2), fine), lambda: numbers.extend(fine)):
            with pytest.raises((ValueError, TypeError), match='at key'):
                change()
        assert fine != coarse and len(coarse) == 5 and not len(numbers)

    def test_to_numpy_without_numpy_names_the_extra(self, v, monkeypatch):
        monkeypatch.setitem(sys.modules, 'numpy', None)
        v.column('one', 'int8').append(1)
        with pytest.raises(ImportError, match=r'vaults\[numpy\]'):
            v['one'].to_numpy()
