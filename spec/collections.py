"""What lists, columns and streams share: kinds, hostile chunks, and how they look in IPython."""
from __future__ import annotations

import contextlib
import functools
import io
import json
import pickle
import re
import sqlite3
import sys
import warnings

import msgpack
import pytest

import vaults
from vaults import Vault, keys, moving
from vaults.codecs import codes, packing
from vaults.collections import SequenceKind, register_kind
from vaults.collections import kind as kinds

from .chunks import a_node, planted
from .helpers import HERE, output
from .samples import as_ext, as_object


@pytest.fixture
def stack(monkeypatch):
    class Stack(vaults.List):
        def top(self):
            return self[-1]
    Stack.__qualname__, Stack.__module__ = 'Stack', __name__
    monkeypatch.setattr(sys.modules[__name__], 'Stack', Stack, raising=False)
    register_kind(SequenceKind('stack', Stack))
    yield Stack
    kinds._kinds.pop('stack', None)


class Unshowable:
    def __repr__(self):
        raise ZeroDivisionError


class TestInIPython:
    """What IPython and Jupyter show, and the keys that Tab completes."""

    def completed(self, shell, text):
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            return shell.complete(text)[1]

    @pytest.fixture
    def shell(self):
        pytest.importorskip('IPython.core')
        from IPython.core.interactiveshell import InteractiveShell
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            shell = InteractiveShell.instance()
            yield shell
            shell.history_manager.end_session()
            InteractiveShell.clear_instance()

    def test_tab_completes_keys_at_any_size(self, v, shell):
        v.update({f'user:{number:05}': number for number in range(20_000)})
        v.update({'admin': 1, ('log', 2026): 2, b'bytes': 3, 7: 4})
        section = v.section('people')
        section.update({'ann': 1, 'bob': 2})
        shell.user_ns.update(v=v, section=section, chunk=v['user:1':'user:2'])
        found = self.completed(shell, "v['user:1234")
        assert len(found) == 10 and all('user:1234' in one for one in found)
        assert [one for one in self.completed(shell, 'v["adm') if 'admin' in one]
        assert [one for one in self.completed(shell, "section['an") if 'ann' in one]
        assert len(self.completed(shell, "chunk['user:1")) == 300

    def test_the_keys_given_are_few_and_the_vault_is_not_walked(self, v, monkeypatch):
        for at in range(2000):
            v[at] = at
        scanned = []
        real = type(v._store).scan
        monkeypatch.setattr(type(v._store), 'scan', lambda *args, **options: (scanned.extend(page[0]) or page for page in real(*args, **options)))
        for thing, wanted in ((v, range(300)), (v[:], range(300)), (v[5:], range(5, 305)), (v.section('s'), [])):
            assert thing._ipython_key_completions_() == list(wanted)
        assert len(scanned) < 4000

    @pytest.mark.parametrize('make, title, first', [
        (lambda v: v, "Vault('test', 45 items)", "'<a>'"), (lambda v: v[:], "45 of Vault('test', 45 items)", '0'),
        (lambda v: v.section('s'), "Section('test', ('s',), 1 item)", "'<b>'"),
        (lambda v: v.list('list'), "List at 'list', 40 items", '0'), (lambda v: v.column('column', 'int16'), "Column of int16 at 'column', 40 items", '0')])
    def test_a_short_table_is_shown(self, v, make, title, first):
        pretty = pytest.importorskip('IPython.lib.pretty')
        v['<a>'] = '<script>&'
        v.section('s')['<b>'] = 1
        v.list('list').extend(['<i>', *range(39)])
        v.column('column', 'int16').extend(range(40))
        v['long'] = 'x' * 1000
        v.update({number: {'n': number} for number in range(40)})
        thing = make(v)
        text = pretty.pretty(thing)
        lines = text.split('\n')
        assert lines[0] == title and lines[1].split()[0] == first and len(lines) <= 22 and max(map(len, lines)) < 140, text
        page = thing._repr_html_()
        assert f"<caption>{title.replace(chr(39), '&#x27;')}</caption>" in page and page.count('<tr>') <= 21
        assert '<script>' not in page and '<a>' not in page and '<b>' not in page and '<i>' not in page
        assert ('more' in text) == (len(thing) > 20) and (not len(thing) > 20 or f'and {len(thing) - 20} more' in page)
        assert repr(thing) in pretty.pretty([thing]).replace('\n', '')

    def test_one_item_is_one(self, v):
        v.list('list').append(1)
        v.column('column', 'int16').append(1)
        with v.open('stream', 'wb') as file:
            file.write(b'x')
        page = v._repr_html_() + v['list']._repr_html_() + v['column']._repr_html_()
        assert 'list of 1 item<' in page and 'stream of 1 byte<' in page and page.count(', 1 item<') == 2, page

    def test_what_is_large_or_in_chunks_is_not_loaded(self, v, monkeypatch):
        v['large'] = 'x' * 10_000_000
        v['packed'] = list(range(100_000))
        with v.open('stream', 'wb') as file:
            file.truncate(1 << 35)
        v.list('list').extend(range(100_000))
        v.column('column', 'int8').extend(range(100))
        loaded = []
        real = type(v._store).get
        monkeypatch.setattr(type(v._store), 'get', lambda self, key: loaded.append(real(self, key)) or loaded[-1])
        shown = v._repr_html_()
        for text in ('10,000,005 bytes', 'stream of 34,359,738,368 bytes', 'list of 100,000 items', 'column of 100 int8'):
            assert text in shown
        assert sum(map(len, loaded)) < 20_000

    def test_it_raises_for_nothing(self, v, root):
        pretty = pytest.importorskip('IPython.lib.pretty')
        live = Vault('live', writeback=True)
        live['a'] = Unshowable()
        live['b'] = [1]
        live['b'].append(2)
        assert 'Unshowable that cannot be shown' in pretty.pretty(live) and '[1, 2]' in pretty.pretty(live)
        del live['a']
        live.close()
        things = v, v[:], v.section('s'), v.list('list'), v.column('column', 'int8')
        v['a'] = 1
        v['b'] = 2
        with contextlib.closing(sqlite3.connect(v.db_path)) as raw:
            raw.execute("UPDATE entries SET value = x'07' WHERE key = 'a'")
            raw.commit()
        assert 'VaultCorruptError' in pretty.pretty(v) and "'b'" in pretty.pretty(v) and 'VaultCorruptError' in v._repr_html_()
        v['a'] = 1
        v.close()
        for thing in (*things, v):
            assert 'closed' in pretty.pretty(thing) and 'closed' in thing._repr_html_()
        assert v._ipython_key_completions_() == []

    def test_showing_a_write_back_vault_takes_nothing_into_memory(self, root):
        live = Vault('live', writeback=True, cache_size=2)
        live.update({number: [number] for number in range(10)})
        live.sync()
        live[3].append(5)
        before = list(live._store.cache.live)
        assert '[3, 5]' in live._repr_html_() and '[9]' in live._repr_html_() and list(live._store.cache.live) == before
        live.close()

    def test_it_costs_an_import_nothing(self):
        assert output('import sys, vaults; vaults.Vault(":memory:"); print("vaults.display" in sys.modules)') == 'False'


class TestAmongValues:
    """A value that is kept in chunks stands among others, whose reading it does not make slow."""

    @pytest.mark.parametrize('reverse', [False, True])
    def test_the_values_between_are_loaded_at_once(self, v, monkeypatch, reverse):
        for at in range(900):
            v[at] = {'at': at}
            if at in (200, 201, 700):
                v.list(f'list {at}').append(at)
        with v.open('stream', 'wb') as file:
            file.write(b'x')
        v['after'] = 1
        calls = []
        monkeypatch.setattr(packing.Codec, 'loads', counted(calls, packing.Codec.loads))
        monkeypatch.setattr(packing.Codec, 'loads_many', counted(calls, packing.Codec.loads_many))
        walk = reversed(v.items()) if reverse else iter(v.items())
        found = list(walk)
        assert len(found) == 905 and dict(found)['stream'] == b'x' and dict(found)['list 700'] == [700]
        assert [key for key, _ in (reversed(found) if reverse else found)] == list(v)
        assert len(calls) < 40, len(calls)


class TestKinds:
    """A kind of live object that has no code of its own stands by its name in the file."""

    def test_the_bytes_of_a_header(self):
        header = kinds.Kind('stack').header()
        header.size, header.tail, header.owner = 2, b'\1\2', bytes.fromhex('6ace8b000001020304050607')
        assert header.packed().hex(' ') == ('c7 21 1a 99 92 a5 73 74 61 63 6b c0 02 00 00 01 00 00 c4 02 01 02 c4 0c 6a ce 8b 00 00 01 02 '
                                            '03 04 05 06 07') and header.packed().hex(' ') in (HERE / 'docs' / 'format.md').read_text('utf-8')
        assert codes.NAMED == 26

    def test_it_is_live_wherever_a_list_is(self, v, stack, tmp_path):
        live = v.live(stack, 'jobs')
        live.extend({'n': n} for n in range(3000))
        assert type(v['jobs']) is stack and v['jobs'].top() == {'n': 2999} == v.live(stack, 'jobs')[-1] and v.get('jobs') == live
        assert v.values()[0] == live[:] and v.items() == [('jobs', live)] and len(v) == 1 and v.copy() == {'jobs': live[:]}
        v['copy'] = live
        v.section('in')['jobs'] = live
        assert type(v['copy']) is stack and v['in', 'jobs'] == live and v.check() == []
        assert v.pop('copy') == live[:] and repr(live)[:7] == 'Stack([' and 'Stack at ' in live._repr_html_()
        v.compact()
        v.backup(tmp_path / 'copy.db')
        with contextlib.closing(Vault(tmp_path / 'copy.db')) as again:
            assert again['jobs'] == live and pickle.loads(pickle.dumps(again['jobs'])).top() == {'n': 2999}
        with pytest.raises(vaults.SerializationError, match='inside another'):
            v['x'] = [live]

    def test_what_else_is_there_is_said(self, v, stack):
        v.list('list'), v.live(stack, 'stack'), v.column('column', 'int8')
        v['plain'] = 1
        for cls, key, options, said in ((vaults.List, 'stack', {}, 'a live stack, not a live list'), (stack, 'list', {}, 'a list made by list(), not a live stack'),
                                        (stack, 'plain', {}, 'a plain int, not a live stack'), (vaults.Column, 'stack', {'dtype': 'int8'}, 'a live stack, not a column'),
                                        (vaults.Column, 'c', {}, 'dtype'), (stack, 'n', {'most': 3}, "no option 'most'"), (dict, 'n', {}, 'not <class'),
                                        (type('Other', (stack,), {}), 'n', {}, 'register_kind')):
            with pytest.raises(TypeError, match=re.escape(said)):
                v.live(cls, key, **options)
        assert 'c' not in v and 'n' not in v and v.live(vaults.Column, 'column', dtype='int8') == v['column'] and v.live(vaults.List, 'list') == []

    def test_a_name_is_that_of_one_class(self, stack):
        for name in ('list', 'stack', 'no name', 'a.b', '..list', ''):
            with pytest.raises(ValueError, match='another'):
                register_kind(SequenceKind(name, type('Other', (vaults.List,), {})))
        assert register_kind(SequenceKind('stack', stack)).cls is stack

    def test_one_that_nobody_knows_is_kept_and_moved_and_said_to_be_unknown(self, v, stack, monkeypatch, tmp_path, command):
        v['before'] = 1
        v.live(stack, 'jobs').extend([{'n': n} for n in range(3000)])
        del v['jobs'][:10]
        lines, whole = io.StringIO(), v['jobs'][:]
        v.compact()
        monkeypatch.delitem(kinds._kinds, 'stack')
        for read in (lambda: v['jobs'], lambda: v.get('jobs'), v.copy, lambda: v.items()[1], lambda: v.open('jobs').read()):
            with pytest.raises(vaults.SerializationError, match="kind 'stack'.*register.*'jobs'"):
                read()
        assert v.check() == [] and 'jobs' in v and v.keys() == ['before', 'jobs'] and 'stack of 2,990 items' in v._repr_html_()
        assert command('show', v.db_path).out.startswith('before  1\njobs    stack of 2990 items: [{"n": 10}')
        assert command('get', v.db_path, 'jobs').out == json.dumps(whole) + '\n' and 'stacks' in command('info', v.db_path).out
        v.compact()
        assert moving.export(v, lines) == 2 and '{"key": "jobs", "value": {"!kind": ["stack", null, 2990]}}\n' in lines.getvalue()
        for source in (io.StringIO(lines.getvalue()), v.db_path):
            assert dict(moving.read(source)) == {'before': 1, 'jobs': whole}
            if source is not v.db_path:
                source.seek(0)
            with contextlib.closing(Vault(tmp_path / 'other.db', flag='n')) as other:
                assert moving.import_file(other, source) == 2 and other.check() == []
                monkeypatch.setitem(kinds._kinds, 'stack', stack.kind)
                assert type(other['jobs']) is stack and other['jobs'] == whole
                monkeypatch.delitem(kinds._kinds, 'stack')
        del v['jobs']
        assert list(v._store.chunk_owners()) == [] and v.items() == [('before', 1)]

    @pytest.mark.parametrize('meta', [None, 5, 'stack', ['stack'], [5, None], ['stack', None, 1], ['stack', b'x'], ['stack', 1.5], ['stack', {}], [['stack'], None],
                                      ['stack', functools.reduce(lambda inner, _: [inner], range(480), None)]])  # as deep as each msgpack packs
    def test_a_header_that_lies_about_its_kind_is_damaged(self, meta):
        with contextlib.closing(planted(26, meta, 1, 0, 0, 1, 0, 0, b'\1')) as v:
            for read in (lambda: v['k'], v.copy, lambda: v.open('k').read(), lambda: v.list('k'), lambda: moving.export(v, io.StringIO())):
                with pytest.raises(vaults.VaultCorruptError):
                    read()
            assert v.check()

    @pytest.mark.parametrize('name', ['os', 'tree', 'kind', '__init__', '..moving', 'a' * 10_000, 'tree\0', '', 'élan'])
    def test_a_name_in_a_file_imports_nothing_but_a_kind(self, name):
        with contextlib.closing(planted(26, [name, None], 1, 0, 0, 1, 0, 0, b'\1')) as v:
            with pytest.raises(vaults.SerializationError, match='which this program does not know'):
                v['k']
            assert v.check() == []

    def test_the_classes_of_the_rooms_are_public(self):
        assert vaults.List.__module__ == 'vaults.collections.list' and vaults.Column.__name__ == 'Column'
        assert not hasattr(vaults, 'Stream') and not hasattr(vaults, 'Tree') and not hasattr(vaults, 'list')


def counted(calls, function):
    return lambda *arguments: calls.append(1) or function(*arguments)


class TestHostileParts:
    """Headers and trees that somebody made to do harm, with sound checksums: an error of ours, soon, and little memory."""

    @pytest.mark.parametrize('place, wrong', [(place, wrong) for place in range(1, 7)
                                              for wrong in (-1, 2**60, 2**64 - 1, None, 'x', 1.5)
                                              if (place, wrong) not in [(4, 2**60), (5, 2**60)]])  # there may be
    @pytest.mark.parametrize('code, meta', [(20, None), (21, None), (22, 'int16')])
    def test_a_header_that_lies_is_damaged(self, code, meta, place, wrong):
        header = [meta, 1, 0, 1, 9, 2, 1, b'']
        header[place] = wrong
        with contextlib.closing(planted(code, *header, chunks=[b'\1\2', a_node((1, 1))])) as v:
            for read in (lambda: len(v['k']), lambda: v['k'][:], lambda: v.open('k').read(), v.copy):
                with pytest.raises(vaults.VaultError):
                    read()
            assert v.check()

    @pytest.mark.parametrize('data', [b'', b'\xc1', b'\xc7', b'\xd4', b'\xc7\0'])
    def test_bytes_that_are_no_value_are_damaged_also_where_their_type_is_asked(self, root, data, command):
        with contextlib.closing(Vault('test')) as v:
            v._store.put('k', data)
            for ask in (lambda: v['k'], lambda: v.list('k'), lambda: v.column('k', 'int8'), lambda: v.open('k')):
                with pytest.raises(vaults.VaultError):
                    ask()
            assert v.check()
        with pytest.raises(vaults.VaultCorruptError):
            list(moving.read(v.db_path))
        assert command('recover', 'test', 'saved').err == ''
        assert command('set', 'test', 'k', 'new').status == 0 and Vault('test')['k'] == 'new'

    def test_chunks_of_what_is_no_owner_are_left_alone(self, root):
        v = Vault('parts')
        v.list('k').extend(range(3000))
        with contextlib.closing(sqlite3.connect(v.db_path)) as raw:
            raw.executemany('INSERT INTO parts VALUES (?, 1, ?, 0)', [('text', b'x'), (5, b'x')])
            raw.commit()
        v.compact()
        assert len(v['k']) == 3000

    @pytest.mark.parametrize('code, meta', [(20, None), (21, None), (22, 'int16'), (22, 'S9999999999'), (22, 5), (22, None)])
    def test_a_tree_that_lies_is_damaged(self, code, meta):
        layers = [a_node(*[(number + 1, 2 ** (20 - number) * 8)] * 2) for number in range(1, 20)]
        for size, root, depth, leaves in [
                (2**60, 1, 60, [a_node((1, 2**60))]), (2**60, 2, 1, [b'\1\2', a_node((1, 2**60))]),
                (2, 2, 1, [b'\1\2', a_node((1, 1), (1, 1))]), (1, 1, 1, [a_node((2**63, 1))]), (1, 1, 1, [b'']),
                (1, 2, 1, [b'\1\2', a_node((1, 2))]), (2**20 * 8, 1, 19, [*layers, b'\1' * 16])]:
            with contextlib.closing(planted(code, meta, size, 0, size, 99, root, depth, b'', chunks=leaves)) as v:
                for read in (lambda: v['k'][:], lambda: v.open('k').read(), lambda: moving.export(v, io.StringIO())):
                    with pytest.raises((vaults.VaultError, TypeError)) as caught:
                        read()
                    assert 'only bytes and text' in str(caught.value) or isinstance(caught.value, vaults.VaultError)
                assert v.check()
                v.compact()

    def test_a_missing_chunk_is_damage_also_to_whoever_writes(self):
        with contextlib.closing(planted(21, None, 1, 0, 1, 9, 7, 1, b'')) as v:
            live = v['k']
            for change in (lambda: live.pop(0), lambda: live.insert(0, 1), live.clear, lambda: live.__setitem__(0, 1)):
                with pytest.raises(vaults.VaultCorruptError, match='missing'):
                    change()
        with contextlib.closing(planted(20, None, 1, 0, 1, 9, 7, 1, b'')) as v, pytest.raises(vaults.VaultError), \
                v.open('k', 'r+b') as file:
            file.truncate(0)

    def test_a_key_too_long_to_be_shown_is_no_reason_to_hide_the_error(self):
        deep = ()
        for _ in range(400):
            deep = (deep,)
        for key in (2**20_000 + 1, (10**5000,), deep):
            with contextlib.closing(Vault(':memory:')) as v:
                v._store.put(keys.encode(key), b'\xc1')
                for read in (lambda v=v, key=key: v[key], v.copy, lambda v=v: moving.export(v, io.StringIO())):
                    with pytest.raises(vaults.VaultCorruptError):
                        read()
                assert v.check()
        with pytest.raises(vaults.VaultCorruptError):
            vaults.loads(as_ext(codes.SET, [{as_object(codes.INT, 0).data: 1}, msgpack.ExtType(codes.INT, b'\x7f' * 3000)]))

    def test_an_entry_without_bytes_is_damaged(self):
        with contextlib.closing(Vault(':memory:')) as v:
            v._store.put('k', b'')
            with pytest.raises(vaults.VaultCorruptError):
                v.open('k')
            v.compact()
            assert v.check()
