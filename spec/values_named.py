"""Values that are stored by the name of their type, and classes that a program registers."""
from __future__ import annotations

import array
import dataclasses
import datetime as dt
import enum
import io
import ipaddress
import pathlib
import sys

import msgpack
import pytest

import vaults
from vaults import Vault, moving
from vaults.codecs import codes, registry

from .helpers import UTC, output
from .samples import Colour, Custom, Point, as_ext, as_object, moment_in, wrapped


class Flag(enum.Flag):
    A = 1
    B = 2


class TestNamed:
    """What Python and two libraries of time zones bring along is stored by name, without pickle."""

    @staticmethod
    def zones():
        tz = pytest.importorskip('dateutil.tz')
        from dateutil.relativedelta import SU, relativedelta
        rules = relativedelta(hours=+2, month=4, day=1, weekday=SU(+1)), relativedelta(hours=+1, month=10, day=31, weekday=SU(-1))
        return [tz.gettz('Europe/Berlin'), tz.gettz(), tz.tzutc(), tz.tzlocal(), tz.tzoffset('X', 3600), tz.tzoffset(None, -5),
                tz.tzrange('EST', -18000, 'EDT'), tz.tzrange('EST', -18000), tz.tzrange('EST', -18000, 'EDT', -14400, *rules),
                tz.tzstr('EST5EDT'), tz.tzstr('UTC+3', posix_offset=True), tz.gettz('EST5EDT4,M3.2.0,M11.1.0')]

    @staticmethod
    def is_same(back, value):
        if isinstance(value, BaseException):
            return type(back) is type(value) and back.args == value.args and str(back) == str(value)
        if isinstance(value, dt.datetime):
            return (back == value and back.fold == value.fold and type(back.tzinfo) is type(value.tzinfo)
                    and back.tzinfo == value.tzinfo and back.utcoffset() == value.utcoffset())
        return type(back) is type(value) and back == value

    @pytest.mark.parametrize('kind, text', [('UnicodeDecodeError', b'x'), ('UnicodeEncodeError', 'x'), ('UnicodeTranslateError', 'x')])
    def test_an_error_about_what_is_before_its_text_is_refused(self, kind, text):
        codec = [] if kind == 'UnicodeTranslateError' else ['u']
        parts = [kind, *codec, text, -2 ** 62, -2 ** 62 + 1, 'r']  # of which str() would end the process
        with pytest.raises(vaults.SerializationError, match='not there'):
            vaults.loads(as_ext(codes.REGISTERED, ['builtins.BaseException+args', parts]))
        with pytest.raises(vaults.UntrustedPickleError):
            vaults.dumps(UnicodeDecodeError('u', b'x', -1, 0, 'r'), allow_pickle=False)

    def stored(self, value):
        """Return the value as it comes back, from under a key and from deep inside, and last from a file of lines."""
        v = Vault(':memory:', allow_pickle=False)
        v['k'] = [{'a': (value,)}]
        v['deep'] = wrapped(value, 'tuple', 20)
        v.list('list').append(value)
        assert v.check() == [] and self.is_same(v['list'][0], value)
        file = io.StringIO()
        moving.export(v, file)
        back = Vault(':memory:', allow_pickle=False)
        moving.import_file(back, io.StringIO(file.getvalue()))
        assert back._store.get('k') == v._store.get('k') and back._store.get('deep') == v._store.get('deep')
        deep = back['deep']
        for _ in range(20):
            deep, = deep
        assert self.is_same(deep, value)
        return back['k'][0]['a'][0]

    @pytest.mark.parametrize('value', [
        pathlib.Path('/a/b'), pathlib.Path(), pathlib.Path('a\udcff'), pathlib.PurePosixPath('a/../b'),
        pathlib.PureWindowsPath('C:\\x\\y'), pathlib.PureWindowsPath('//host/share/x'), slice(1, None, 'a'), ..., NotImplemented,
        UTC, dt.timezone(dt.timedelta(hours=1), 'X'), *map(ipaddress.ip_address, ('1.2.3.4', '::1')),
        *map(ipaddress.ip_network, ('10.0.0.0/8', '::/8')), *map(ipaddress.ip_interface, ('1.2.3.4/8', 'fe80::1/64')),
        array.array('d', [1.5, float('inf')]), array.array('l', [1, -2]), array.array('Q'), KeyError('a'), ValueError(),
        KeyError(('a', 1)), RuntimeError('\ud800', (2**70,)), OSError(2, 'gone', 'file'), UnicodeDecodeError('utf-8', b'a', 0, 1, 'x')], ids=repr)
    def test_these_need_no_pickle(self, value):
        assert self.is_same(self.stored(value), value)

    @pytest.mark.parametrize('at', range(12))
    def test_zones_of_dateutil_need_no_pickle(self, at):
        zone = self.zones()[at]
        for value in (zone, moment_in(zone), dt.time(1, 2, tzinfo=zone)):
            assert self.is_same(self.stored(value), value)

    @pytest.mark.parametrize('name', ['UTC', 'Europe/Berlin', 'Etc/GMT+5'])
    def test_zones_of_pytz_need_no_pickle(self, name):
        pytz = pytest.importorskip('pytz')
        zone = pytz.timezone(name)
        for each in (zone, zone.localize(dt.datetime(2026, 7, 1)).tzinfo, pytz.FixedOffset(60)):
            for value in (each, moment_in(each)):
                back = self.stored(value)
                assert self.is_same(back, value) and getattr(back, 'tzinfo', back) is each

    @pytest.mark.skipif(sys.version_info < (3, 9), reason='zoneinfo came with Python 3.9')
    def test_a_zone_is_a_value(self):
        zone = pytest.importorskip('zoneinfo').ZoneInfo('Europe/Berlin')
        assert self.stored(zone) is zone

    def test_exceptions_in_exceptions_are_whole_and_end_without_recursion(self):
        value = ValueError('innermost')
        for _ in range(5000):
            value = ValueError(value)
        back = vaults.loads(vaults.dumps(value, allow_pickle=False))
        for _ in range(5000):
            back, = back.args
        assert type(back) is ValueError and back.args == ('innermost',)

    def test_a_zone_of_a_class_that_is_registered_needs_no_pickle(self):
        class Zone(dt.tzinfo):
            def utcoffset(self, moment):
                return dt.timedelta(hours=3)

            def __eq__(self, other):
                return type(other) is Zone
        vaults.register(Zone, lambda zone: None, lambda _: Zone(), name='Zone')
        try:
            assert self.is_same(self.stored(moment_in(Zone())), moment_in(Zone()))
        finally:
            registry.by_class.pop(Zone)
            registry.by_name.pop('Zone')

    @pytest.mark.parametrize('value, name, payload', [
        (pathlib.PurePosixPath('/a'), 'pathlib.PurePosixPath+str', '/a'), (slice(1, 2), 'builtins.slice+parts', [1, 2, None]),
        (..., 'builtins.Ellipsis+nil', None), (UTC, 'datetime.timezone+parts', [0]),
        (ipaddress.ip_address('1.2.3.4'), 'ipaddress.IPv4Address+str', '1.2.3.4'),
        (array.array('h', [1]), 'array.array+bytes', ['h', 2, b'\1\0']),
        (KeyError('a'), 'builtins.BaseException+args', ['KeyError', 'a'])], ids=repr)
    def test_the_names_are_these(self, value, name, payload):
        assert vaults.dumps(value) == as_ext(codes.REGISTERED, [name, payload])

    def test_the_names_of_zones_are_these(self):
        pytest.importorskip('dateutil')
        pytest.importorskip('pytz')
        from vaults.codecs import named
        assert [name for name in named.NAMED_TYPES.by_name if name.startswith(('dateutil', 'pytz', 'zoneinfo', 'pathlib'))] == [
            'pathlib.PurePosixPath+str', 'pathlib.PureWindowsPath+str', 'pathlib.PosixPath+str', 'pathlib.WindowsPath+str',
            'dateutil.tz.tzutc+parts', 'dateutil.tz.tzlocal+parts', 'dateutil.tz.tzoffset+parts', 'dateutil.tz.tzfile+parts',
            'dateutil.tz.tzstr+parts', 'dateutil.tz.tzrange+parts', 'zoneinfo.ZoneInfo+key', 'pytz.tzinfo+parts',
            'pytz.FixedOffset+parts', 'pytz.utc+parts']
        zone = self.zones()[0]
        assert vaults.dumps(zone) == as_ext(codes.REGISTERED, ['dateutil.tz.tzfile+parts', 'Europe/Berlin'])

    def test_a_path_of_the_other_system_is_a_pure_one(self):
        for name, pure in (('WindowsPath', pathlib.PureWindowsPath), ('PosixPath', pathlib.PurePosixPath)):
            back = vaults.loads(as_ext(codes.REGISTERED, [f'pathlib.{name}+str', 'a']))
            assert back == pure('a') and type(back) is (type(pathlib.Path()) if type(pathlib.Path()).__name__ == name else pure)

    def test_an_array_of_a_system_with_other_sizes_is_read(self):
        for code, size, data, items in (('l', 4, b'\xff\xff\xff\xff', [-1]), ('L', 8, b'\1' + bytes(7), [1]), ('I', 2, b'\2\0', [2])):
            back = vaults.loads(as_ext(codes.REGISTERED, ['array.array+bytes', [code, size, data]]))
            assert back == array.array(code, items)

    def test_a_zone_whose_library_is_missing_says_what_to_install(self, root):
        tz = pytest.importorskip('dateutil.tz')
        v = Vault('zones', allow_pickle=False)
        v['k'] = moment_in(tz.tzutc())
        v.close()
        assert 'python-dateutil' in output("""
            import pathlib, sys
            sys.modules['dateutil'] = sys.modules['dateutil.tz'] = None
            import vaults
            v = vaults.Vault(pathlib.Path(sys.argv[1]))
            print(v.check())
            try:
                v['k']
            except vaults.SerializationError as error:
                print(error, "'k'" in str(error))
            """, v.db_path)

    def test_what_has_more_to_it_than_its_description_is_pickled(self):
        error = KeyError('a')
        error.more = 1
        nested = slice([1], None)
        for value in (error, *([nested] if sys.version_info >= (3, 10) else [])):
            assert msgpack.unpackb(vaults.dumps(value)).code == codes.PICKLE, value
            with pytest.raises(vaults.UntrustedPickleError):
                vaults.dumps(value, allow_pickle=False)

    @pytest.mark.parametrize('name, payload', [
        ('pathlib.PosixPath+str', 1), ('builtins.slice+parts', [1]), ('builtins.slice+parts', [[1], 2, 3]),
        ('builtins.BaseException+args', ['print', 'x']), ('builtins.BaseException+args', ['object']),
        ('builtins.BaseException+args', ['UnicodeDecodeError', [1]]), ('builtins.BaseException+args', []), ('array.array+bytes', ['u', 4, b'a']),
        ('array.array+bytes', ['i', 3, b'abc']), ('array.array+bytes', ['i', 4, b'abc']), ('array.array+bytes', ['i', 4, 99999999]),
        ('datetime.timezone+parts', [10**15]), ('zoneinfo.ZoneInfo+key', '../x'), ('zoneinfo.ZoneInfo+key', 5),
        ('dateutil.tz.tzfile+parts', '/etc/passwd'), ('dateutil.tz.tzfile+parts', '../../etc/passwd'),
        ('dateutil.tz.tzfile+parts', ''), ('dateutil.tz.tzfile+parts', 'Nowhere/At_All'), ('dateutil.tz.tzfile+parts', [b'TZif', 'x']),
        ('dateutil.tz.tzrange+parts', [1]), ('dateutil.tz.tzstr+parts', [5, 1]), ('dateutil.tz.tzoffset+parts', ['x', 10**12]), ('dateutil.tz.tzoffset+parts', [5, 1]), ('dateutil.tz.tzlocal+parts', [1, 2, 3]),
        ('pytz.tzinfo+parts', ['Nowhere/At_All']), ('pytz.tzinfo+parts', ['../x', 1, 2, 3]), ('pytz.FixedOffset+parts', ['x']),
        ('ipaddress.IPv4Address+str', 5), ('ipaddress.IPv4Address+str', 'x')])
    def test_what_no_such_object_is_described_so_is_an_error(self, name, payload):
        for data in (as_ext(codes.REGISTERED, [name, payload]),
                     as_ext(codes.TIME, ['10:30:00', 0, as_object(codes.REGISTERED, [name, payload])])):
            with pytest.raises(vaults.SerializationError):
                vaults.loads(data)

    def test_importing_vaults_imports_none_of_their_modules(self):
        assert output("""
            import sys, vaults
            print({'pathlib', 'ipaddress', 'array', 'zoneinfo', 'vaults.codecs.named', 'vaults.codecs.deep'} & {*sys.modules})
            """) == 'set()'


@pytest.mark.usefixtures('forget')
class TestRegister:
    def test_a_registered_type_is_stored_by_name_without_pickle(self, root):
        vaults.register(Custom, lambda c: [c.x], lambda args: Custom(*args), name='custom')
        v = Vault('r', allow_pickle=False)
        v['k'] = [Custom((1, bytearray(b'x')))]
        assert v['k'] == [Custom((1, bytearray(b'x')))]
        assert b'custom' in vaults.dumps(Custom(1), allow_pickle=False)

    def test_dataclasses_and_enums_need_no_functions(self, root):
        for cls in (Point, Colour, Flag):
            assert vaults.register(cls) is cls
        v = Vault('r', allow_pickle=False)
        v['k'] = [Point(1, [Colour.RED]), Flag.A | Flag.B]
        assert v['k'] == [Point(1, [Colour.RED]), Flag.A | Flag.B]

    def test_a_dataclass_may_gain_fields_with_defaults(self):
        vaults.register(Point)
        data = vaults.dumps(Point(1, [2]), allow_pickle=False)
        grown = dataclasses.make_dataclass('Point', ['x', ('z', int, 5)])
        grown.__module__ = Point.__module__  # from 3.12 on, that of the caller takes the place of what a namespace says
        vaults.register(grown)
        back = vaults.loads(data)
        assert (back.x, back.z) == (1, 5)

    def test_an_unknown_name_is_named_and_other_keys_stay_readable(self, v):
        vaults.register(Custom, vars, lambda d: Custom(**d), name='gone')
        v.update(a=1, b=Custom(2), c=3)
        registry.by_name.clear()
        with pytest.raises(vaults.SerializationError, match="'gone'.*register"):
            v['b']
        assert (v['a'], v['c'], v.keys()) == (1, 3, ['a', 'b', 'c'])
        walk = iter(v.items())
        assert next(walk) == ('a', 1)
        with pytest.raises(vaults.SerializationError, match="'b'"):
            next(walk)
        assert v.check() == []

    def test_misuse_is_refused(self):
        with pytest.raises(TypeError, match='needs dump and load'):
            vaults.register(Custom)
        with pytest.raises(TypeError, match='together'):
            vaults.register(Custom, vars)
        with pytest.raises(TypeError, match='exactly already'):
            vaults.register(tuple, list, tuple)
        with pytest.raises(TypeError, match='a class'):
            vaults.register(3)
        vaults.register(Point, name='taken')
        with pytest.raises(ValueError, match='taken'):
            vaults.register(Colour, name='taken')

    def test_a_function_that_fails_is_named(self, v):
        vaults.register(Custom, lambda c: 1 / 0, lambda x: x, name='bad')
        with pytest.raises(vaults.SerializationError, match='dump.*bad'):
            v['k'] = Custom(1)
        assert 'k' not in v
