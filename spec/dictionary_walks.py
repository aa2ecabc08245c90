"""Walks over a vault, slices, and looks at one item of them."""
from __future__ import annotations

import collections
import contextlib
import datetime as dt
import gc
import io
import itertools
import os
import pickle
import tracemalloc
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st

import vaults
from vaults import Vault, cli, recovery
from vaults.codecs import packing
from vaults.stores.sqlite import checkpoint as checkpointing
from vaults.stores.sqlite import store as sqlite

from .internals import is_in_transaction, statements, unwatched
from .samples import texts


class TestWalks:
    """Iteration is safe while writing."""

    @pytest.mark.parametrize('walk', ['iter', 'reversed', 'sorted', 'sorted back', 'items'])
    @given(data=st.data())
    def test_a_walk_sees_what_was_there_and_is_there(self, walk, data):
        v = Vault(':memory:')
        v.update(dict.fromkeys(range(0, 400, 2), 0))
        there = list(v)
        walks = {'iter': lambda: iter(v), 'reversed': lambda: reversed(v), 'sorted': lambda: iter(v[:]),
                 'sorted back': lambda: reversed(v[:]), 'items': lambda: (key for key, _ in v.items())}
        steps = data.draw(st.lists(st.tuples(st.integers(0, 80), st.integers(0, 420), st.booleans()), max_size=8))
        iterator, seen, deleted = walks[walk](), [], set()
        seen += itertools.islice(iterator, 1)
        for count, key, put in steps:
            seen += itertools.islice(iterator, count)
            if put:
                v[key] = 1
            elif key in v:
                del v[key]
                deleted.add(key)
            elif v and put is False and count % 3 == 0:
                deleted.add(v.popitem()[0])
        seen += iterator
        assert len(seen) == len(set(seen)) and set(seen) <= set(there)
        assert set(there) - set(seen) <= deleted
        assert seen == sorted(seen, reverse='back' in walk or walk == 'reversed')

    @pytest.mark.parametrize('at, other', [*((at, other) for at in (5, 31, 32, 100, 1055, 1056, 2500) for other in (1, b'')),
                                           *((at, other) for at in (31, 1056) for other in (True, False, 2.5, ('t', 1), None))])
    def test_keys_of_another_kind_among_text_are_what_was_put(self, v, at, other):
        keys = [f'k{n:04}' for n in range(2600)]
        keys[at] = other
        v.update(dict.fromkeys(keys, 0))
        back, by_key = keys[::-1], sorted(keys[:at] + keys[at + 1:])
        by_key.insert(0 if isinstance(other, (int, float)) else len(by_key), other)
        walks = list(v), list(reversed(v)), list(v[:]), list(reversed(v[:]))
        assert walks == (keys, back, by_key, by_key[::-1])
        assert all(type(other) in map(type, walk) for walk in walks)
        walk = iter(v)
        seen = list(itertools.islice(walk, at + 1))
        del v['k2598']
        assert [*seen, *walk] == [key for key in keys if key != 'k2598'] and type(seen[-1]) is type(other)

    def test_an_id_is_never_used_twice(self, v):
        v.update(dict.fromkeys(range(100)))
        walk = iter(v)
        next(walk)
        for n in range(100):
            assert v.popitem()[0] == 99 - n
        v.update(dict.fromkeys(range(1000, 1100)))
        assert [key for key in walk if key >= 1000] == []

    def test_what_is_deleted_ahead_is_left_out_at_once(self, v):
        v.update({n: n for n in range(20)})
        seen = []
        for key in v:
            seen.append(key)
            v.pop(key + 1, None)
            if key == 4:
                del v[6]
                v[6] = 'again'  # added since
        assert seen == [0, 2, 4, *range(7, 20, 2)]
        v.update({n: n for n in range(20)})
        for key, _ in v.items():
            assert key in v
            del v[key]
        assert not v
        with v:
            v.update({n: n for n in range(9)})
            walk = iter(v.items())
            next(walk)
            v.clear()
            assert list(walk) == []

    def test_a_walk_ends_while_each_step_adds(self, v):
        v.update(dict.fromkeys(range(500)))
        for key in v:
            v[key + 1000] = 1
        assert len(v) == 1000
        for key in v[:]:
            v[key + 0.5] = 1
        assert len(v) == 2000

    @pytest.mark.parametrize('count, size', [(6000, 1), (3000, 5_000), (60, 600_000)])
    def test_the_log_of_many_blocks_stays_bounded(self, v, count, size):
        for n in range(count):
            with v:
                v['k'] = bytes([n % 256]) * size
        assert os.path.getsize(v.db_path + '-wal') < 2 * checkpointing.CHECKPOINT

    def test_an_abandoned_walk_does_not_pin_the_log(self, v):
        v.update(dict.fromkeys(range(5000), 'x' * 100))
        walks = [iter(v.items()) for _ in range(5)]
        for walk in walks:
            next(walk)
        for n in range(20000):
            v[n % 100] = 'y' * 1000
        assert os.path.getsize(v.db_path + '-wal') < 4 * checkpointing.CHECKPOINT
        assert not is_in_transaction(v)

    def test_a_walk_begun_in_a_block_that_was_rolled_back_raises(self, v):
        v.update(dict.fromkeys(range(500)))
        with pytest.raises(ZeroDivisionError), v:
            v['new'] = 1
            inside = iter(v)
            next(inside)
            1 / 0
        with pytest.raises(vaults.VaultError, match='rolled back'):
            list(inside)
        before = iter(v)
        next(before)
        with pytest.raises(ZeroDivisionError), v:
            1 / 0
        assert len(list(before)) == 499

    @pytest.mark.parametrize('options', [{}, {'thread_safe': True}, {'read_cache': 5}, {'writeback': True, 'cache_size': 9},
                                         {'name': ':memory:'}], ids=str)
    def test_a_walk_goes_on_where_a_call_that_came_later_was_undone(self, root, options):
        def refuse(key, value):
            if value is None:
                raise ValueError
        v = Vault(**{'name': 't', 'validate': refuse, **options})
        v.update(zip(range(5000), range(5000)))
        with v:
            walks = [iter(v), iter(v.items()), reversed(v), iter(v[2:].values()), iter(v[:].keys())]
            for walk in walks:
                next(walk)
            for call in (lambda: v.update(new=1, wrong=None), lambda: v.setdefault('wrong', None)):
                with pytest.raises(ValueError):
                    call()
            with contextlib.suppress(ZeroDivisionError), v:
                del v[7]
                1 / 0
            assert [len(list(walk)) for walk in walks] == [4999, 4999, 4999, 4997, 4999]
        v.close()

    @pytest.mark.parametrize('odd', ['', 'gap', 'number', 'bool', 'large value', 'large key', 'front', 'end'])
    @pytest.mark.parametrize('values', [False, True])
    def test_ids_are_asked_for_where_some_are_missing_alone(self, root, odd, values):
        v, expected = Vault('t'), collections.OrderedDict()
        for mapping in (v, expected):
            for start in (0, 2000):
                mapping.update((f'k{n}', n) for n in range(start, start + 2000))
                mapping.update({'number': {start: 0}, 'bool': {start == 0: 0}, 'large value': {f'v{start}': 'x' * 900_000},
                                'large key': {'x' * 30_000 + str(start): 0}}.get(odd, {}))
                if odd == 'gap':
                    del mapping[f'k{start + 1500}']
                elif odd in ('front', 'end'):
                    mapping.move_to_end(f'k{start + 1500}', odd == 'end')
        expected = list(expected.items() if values else expected)
        view = v.items() if values else v.keys()
        seen = statements(v)
        assert list(view) == expected and list(reversed(view)) == expected[::-1]
        unwatched(v)
        assert odd or len([sql for sql in seen if sql.startswith('SELECT key')]) > 4
        v.close()

    @pytest.mark.parametrize('who', ['this vault', 'another one'])
    def test_what_is_deleted_from_a_span_of_ids_is_left_out(self, root, who):
        v, other = Vault('t'), Vault('t')
        v.update((f'k{n}', n) for n in range(5000))
        walks = [iter(v), iter(v.items())]
        for walk in walks:
            collections.deque(itertools.islice(walk, 1500), maxlen=0)
        for n in (1501, 4000):
            del (v if who == 'this vault' else other)[f'k{n}']
        for walk in walks:
            left = [one if type(one) is str else one[0] for one in walk]
            assert 'k4000' not in left and ('k1501' not in left or who != 'this vault')
            assert len({*left, 'k1501'}) == len([*left, *{'k1501'}.difference(left)]) == 3499

    WALKS = {'iter': iter, 'reversed': reversed, 'keys': lambda v: iter(v.keys()), 'values': lambda v: iter(v.values()),
             'items': lambda v: iter(v.items()), 'items back': lambda v: reversed(v.items()), 'slice': lambda v: iter(v[:]),
             'slice back': lambda v: reversed(v[:].items()), 'irange': lambda v: v.irange(), 'prefix': lambda v: iter(v.prefix('').values()),
             'section': lambda v: iter(v.section('s').items()), 'section back': lambda v: reversed(v.section('s')),
             'section slice': lambda v: iter(v.section('s')[:].values()), 'list': lambda v: iter(v.list('list')),
             'list back': lambda v: reversed(v.list('list')), 'column': lambda v: iter(v.column('column', 'int8')),
             'column back': lambda v: reversed(v.column('column', 'int8'))}

    @pytest.mark.parametrize('walk', WALKS)
    @pytest.mark.parametrize('options', [{}, {'thread_safe': True}, {'writeback': True}, {'validate': lambda key, value: None},
                                         {'memory': True}], ids=str)
    def test_a_walk_raises_at_its_next_step_after_close(self, root, options, walk):
        memory, options = options.get('memory'), {name: value for name, value in options.items() if name != 'memory'}
        if 'validate' in options and walk.startswith(('list', 'column')):
            pytest.skip('none where values are validated')
        for steps in (0, 1, 2, 4):  # at the beginning, in the midst of a page, and at the end of the last one
            v = Vault(':memory:' if memory else 't', **options)
            v.clear()
            if 'validate' not in options:
                v.list('list').extend([1, 2])
                v.column('column', 'int8').extend([1, 2])
            else:
                v.update(list=1, column=2)
            v.section('s').update(a=1, b=2)
            it = self.WALKS[walk](v)
            steps = min(steps, 2) if walk.startswith(('section', 'list', 'column')) or 'prefix' in walk else steps
            for _ in range(steps):
                next(it)
            v.close()
            with pytest.raises(vaults.VaultClosedError):
                next(it)

    @pytest.mark.parametrize('writeback', [False, True])
    @pytest.mark.parametrize('walk', [walk for walk in WALKS if 'section' not in walk and walk != 'prefix'])
    def test_closing_a_section_ends_its_walks_alone(self, root, writeback, walk):
        v = Vault('t', writeback=writeback)
        for steps in (0, 1, 2):
            s = v.section('s')
            s.clear()
            s.list('list').extend([1, 2])
            s.column('column', 'int8').extend([1, 2])
            mine, other = self.WALKS[walk](s), self.WALKS[walk](v.section('s'))
            for _ in range(steps):
                assert next(mine) is not None and next(other) is not None
            s.close()
            with pytest.raises(vaults.VaultClosedError):
                next(mine)
            assert len(list(other)) == 2 - steps

    def test_a_walk_of_many_pages_raises_at_its_next_step_after_close(self, v):
        v.update({n: n for n in range(5000)})
        walks = [iter(v), iter(v.items()), reversed(v), iter(v[:])]
        for steps, walk in enumerate(walks):
            collections.deque(itertools.islice(walk, 2000 + steps), 0)
        del v[4]  # the entries that follow are looked for one by one
        for walk in walks:
            next(walk)
        v.close()
        for walk in walks:
            with pytest.raises(vaults.VaultClosedError):
                next(walk)

    def test_large_values_are_read_a_few_at_a_time(self, v):
        v.update((n, b'x' * 3_000_000) for n in range(20))
        sizes = [len(page[0]) for page in v._store.scan()]
        assert sum(sizes) == 20


class Met:
    """Counts how many of its kind there are at once, of those that were loaded."""

    alive, most = 0, 0

    def __init__(self, n):
        self.n = n

    def __reduce__(self):
        return Met.loaded, (self.n,)

    @classmethod
    def loaded(cls, n):
        cls.alive += 1
        cls.most = max(cls.most, cls.alive)
        self = cls(n)
        weakref.finalize(self, cls.gone)
        return self

    @classmethod
    def gone(cls):
        cls.alive -= 1


def peak(work):
    """Return the most bytes that Python had allocated during the work, besides those before."""
    gc.collect()
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


MB = 1 << 20
KINDS = {'a vault': {}, 'write-back': {'writeback': True}, 'a queue': {'thread_safe': True},
         'validating': {'validate': lambda key, value: None}}
PLACES_OF_WALKS = {'vault': lambda v: v, 'slice': lambda v: v[:], 'section': lambda v: v.section('s')}


class TestOneItem:
    """One item is one item: what reads one reads no more, and a walk holds a page of 1 MB, or one entry."""

    @pytest.fixture
    def fetched(self, monkeypatch):
        """The bytes of each group of rows that came from SQLite."""
        seen, page = [], sqlite.SQLiteStore.rows

        def noted(store, c, sql, arguments):
            rows = page(store, c, sql, arguments)
            seen.append(sum(len(column) for row in rows for column in row if isinstance(column, (bytes, str))))
            return rows
        monkeypatch.setattr(sqlite.SQLiteStore, 'rows', noted)
        return seen

    def filled(self, root, kind, place, pairs):
        v = Vault('one', **KINDS[kind])
        at = v.section('s') if place == 'section' else v
        at.update(pairs)
        if kind == 'write-back':
            v.close()
            v = Vault('one', **KINDS[kind])
        return PLACES_OF_WALKS[place](v)

    ENDS = {
        'next': lambda at: next(iter(at.items())), 'last of items': lambda at: at.items()[-1],
        'value': lambda at: at.values()[0], 'last value': lambda at: at.values()[-1],
        'next of values': lambda at: next(iter(at.values())), 'back': lambda at: next(reversed(at.items())),
        'slice': lambda at: at.items()[:1], 'slice back': lambda at: at.values()[-1:],
        'first': lambda at: at.first() if hasattr(at, 'first') else at[:].first(),
        'last': lambda at: at.last() if hasattr(at, 'last') else at[:].last(),
        'popitem': lambda at: at.popitem() if hasattr(at, 'popitem') else at.last(),
        'popitem of the oldest': lambda at: at.popitem(last=False) if hasattr(at, 'popitem') else at.first(),
    }

    @pytest.mark.parametrize('kind', KINDS)
    @pytest.mark.parametrize('place', PLACES_OF_WALKS)
    @pytest.mark.parametrize('end', ENDS)
    def test_what_takes_one_entry_reads_one(self, root, fetched, kind, place, end):
        at = self.filled(root, kind, place, ((f'{n:03}', bytes(50_000)) for n in range(10)))
        del fetched[:]
        self.ENDS[end](at)
        assert 50_000 <= sum(fetched) < 60_000

    SIZES = {
        'one size': [30_000] * 90, 'alternating': [60, 3 * MB] * 5, 'ever larger': [2 ** n for n in range(23)],
        'large behind many small': [60] * 3000 + [2 * MB] * 3 + [60] * 100, 'of a page': [MB, 60, MB, MB - 1, MB + 1],
        'some in between': ([100] * 150 + [40_000]) * 6, 'smaller': [2 ** n for n in range(22, 0, -1)],
    }

    @pytest.mark.parametrize('sizes', SIZES)
    @pytest.mark.parametrize('by_key', [False, True])
    @pytest.mark.parametrize('reverse', [False, True])
    @pytest.mark.parametrize('keyed', [str, bytes])
    def test_a_page_is_of_one_megabyte_at_most_or_of_one_entry(self, fetched, keyed, sizes, by_key, reverse):
        v, sizes = Vault(':memory:'), self.SIZES[sizes]
        v.update((f'{n:05}' if keyed is str else b'%05d' % n, bytes(size)) for n, size in enumerate(sizes))
        del fetched[:]
        found = []
        for _, datas, _ in v._store.scan(by_key=by_key, reverse=reverse):
            assert len(datas) == 1 or sum(map(len, datas)) <= MB
            found += [len(v._codec.loads(data)) for data in datas]
        assert found == (sizes[::-1] if reverse else sizes)
        assert all(size <= MB or size >= 2 * MB - 1 or size - MB < 100 for size in fetched)
        assert sum(size for size in fetched if size > MB + 100) <= sum(size + 10 for size in sizes if size >= MB)
        assert len(fetched) < 3 * len(sizes) + 20

    @pytest.mark.parametrize('sizes', SIZES)
    @pytest.mark.parametrize('reverse', [False, True])
    def test_so_is_one_of_a_section(self, fetched, sizes, reverse):
        v, sizes = Vault(':memory:'), self.SIZES[sizes]
        for n, size in enumerate(sizes):
            v.section('s')[n] = bytes(size)
            v[n] = n
        del fetched[:]
        low, high = v.section('s')._keys.bounds()
        found = []
        for _, datas, _ in v._store.scan(low, high, reverse=reverse):
            assert len(datas) == 1 or sum(map(len, datas)) <= MB
            found += [len(v._codec.loads(data)) for data in datas]
        assert found == (sizes[::-1] if reverse else sizes)
        assert sum(fetched) < sum(sizes) + 100 * len(sizes)

    @pytest.mark.parametrize('by_key', [False, True])
    @pytest.mark.parametrize('values', [False, True])
    def test_large_keys_count_as_values_do(self, fetched, by_key, values):
        v = Vault(':memory:')
        lengths = [10, 3 * MB, 5] * 3 + [10] * 2000 + [2 * MB, 2 * MB]
        v.update((f'{n:05}'.ljust(length, '-'), n) for n, length in enumerate(lengths))
        del fetched[:]
        found = [key for page, _, _ in v._store.scan(by_key=by_key, values=values) for key in page]
        assert [len(key) for key in found] == [max(length, 5) for length in lengths]
        assert all(size <= MB or size >= 2 * MB for size in fetched)
        assert list(v) == list(v[:]) == found

    @pytest.mark.parametrize('kind', KINDS)
    @pytest.mark.parametrize('place', PLACES_OF_WALKS)
    def test_a_walk_takes_as_much_memory_as_a_loop_over_the_keys(self, root, kind, place):
        at = self.filled(root, kind, place, ((f'{n:03}', bytes(3 * MB)) for n in range(5)))
        names = list(at)

        def by_name():
            for name in names:
                value = at[name]
            return value

        def walked():
            for _ in at.items():
                pass

        def of_values():
            for _ in reversed(at.values()):
                pass
        most = peak(by_name)
        assert peak(walked) < most + MB and peak(of_values) < most + MB
        assert kind == 'write-back' or most < 10 * MB

    def test_a_copy_holds_everything_once(self, v):
        v.update((n, bytes(2 * MB)) for n in range(10))
        assert peak(v.copy) < 25 * MB and peak(lambda: v == v.copy()) < 50 * MB
        assert peak(lambda: v[:] == v) < 15 * MB
        assert peak(lambda: 5 in v.values()) < 10 * MB

    def test_so_do_check_export_and_reading_a_vault_as_a_source(self, root, v, tmp_path):
        v.update((n, bytes(2 * MB)) for n in range(10))
        assert peak(lambda: v.check()) < 10 * MB

        class Nowhere(io.StringIO):
            def write(self, text):
                return len(text)
        one = peak(lambda: vaults.moving.export(v, Nowhere()))
        v.update((n, bytes(2 * MB)) for n in range(10, 30))
        assert peak(lambda: vaults.moving.export(v, Nowhere())) < one + MB
        assert peak(lambda: v.check()) < 10 * MB
        v.close()
        source = vaults.moving.read(v.db_path)
        assert peak(lambda: collections.deque(source, 0)) < 12 * MB

    def test_recover_puts_few_large_values_at_once(self, root, v):
        v.update((n, bytes(500 * 4092 + 489)) for n in range(16))  # of each a row holds little, and a page many
        v.close()
        assert peak(lambda: recovery.recover('test', root / 'good.db')) < 10 * MB
        assert Vault(root / 'good.db').values() == [bytes(500 * 4092 + 489)] * 16

    def test_a_few_small_entries_are_seen_as_they_were_at_one_moment(self, v):
        v.update(dict.fromkeys(range(32), 'old'))
        for walk in (v.items(), v[:].items()):
            seen = iter(walk)
            next(seen)
            Vault('test').update(dict.fromkeys(range(32), 'new'))
            assert {value for _, value in seen} == {'old'}
            v.update(dict.fromkeys(range(32), 'old'))

    def test_of_a_page_of_small_entries_one_is_loaded_for_who_wants_one(self, v, monkeypatch):
        v.update({f'{n}': [n] for n in range(100)})
        loaded, unpack = [], packing.Codec.loads
        monkeypatch.setattr(packing.Codec, 'loads', lambda *arguments: loaded.append(1) or unpack(*arguments))
        monkeypatch.setattr(packing.Codec, 'loads_many', None)
        assert next(iter(v.items())) == ('0', [0]) and v.values()[-1] == [99] and v[:].first() == ('0', [0])
        assert len(loaded) == 3

    def test_pickles_are_loaded_one_at_a_time(self, root):
        v = Vault('p', allow_pickle=True)
        s = v.section('s')
        v.update({f'{n}': Met(n) for n in range(200)})
        v.update({f't{n}': (1, [Met(n)]) for n in range(20)})
        s.update({f'{n}': Met(n) for n in range(200)})
        for walk in (v.items, v.values, v[:].items, s.values, lambda: reversed(v.items())):
            Met.alive = Met.most = 0
            assert len([None for _ in walk()]) in (420, 200)
            assert Met.most <= 2
        assert [met.n for met in s.values()[:3]] == [0, 1, 2]
        assert Met.most <= 4

    def test_what_a_serializer_or_a_registered_type_makes_is_loaded_one_at_a_time(self, root):
        v = Vault('s', serializer=pickle)
        v.update({f'{n}': Met(n) for n in range(100)})
        Met.alive = Met.most = 0
        assert sum(met.n for met in v.values()) == sum(range(100))
        assert Met.most <= 2

    def test_the_command_shows_a_few_of_many_large_values(self, root, fetched, capsys):
        v = Vault('large')
        v.update((f'{n:03}', bytes(500_000)) for n in range(30))
        del fetched[:]
        cli.main(['--root', str(root), 'show', 'large', '--limit', '2'])
        assert sum(fetched) < 1_100_000 and '... and 28 more' in capsys.readouterr().out


class TestSlices:
    @pytest.fixture
    def v(self, v):
        v.update({'b': 2, 'a': 1, 'd': 4, 'c': 3, 'user:1': 'x', 'user:2': 'y', 5: 'five', ('log', 2026, 1): 'l1',
                  ('log', 2026, 11): 'l2', ('log', 2025): 'l0', ('log',): 'l', b'ab': 1, b'a\xff': 2, b'b': 3})
        return v

    def test_a_slice_is_a_sorted_half_open_lazy_live_mapping(self, v):
        s = v['a':'d']
        assert s.items() == [('a', 1), ('b', 2), ('c', 3)] and s.keys() == ['a', 'b', 'c'] and s.values() == [1, 2, 3]
        assert len(s) == 3 and 'a' in s and 'd' not in s and 'x' not in s and list(reversed(s)) == ['c', 'b', 'a']
        assert s['a'] == 1 and s.get('d', 9) == 9 and s.first() == ('a', 1) and s.last() == ('c', 3)
        v['bb'] = 22
        assert s.keys() == ['a', 'b', 'bb', 'c'] and s == {'a': 1, 'b': 2, 'bb': 22, 'c': 3} and bool(s)
        with pytest.raises(KeyError):
            s['d']
        assert not v['x':'y'] and v['x':'y'].first(None) is None and len(v['d':'a']) == 0
        with pytest.raises(KeyError, match='no keys'):
            v['x':'y'].last()
        assert v['a':]['b':'c'].keys() == ['b', 'bb'] and v['b':'c']['a':].keys() == ['b', 'bb']
        with pytest.raises(TypeError, match='step'):
            v['a':'b':2]

    def test_deleting_a_slice_is_one_statement(self, v):
        count = len(v)
        del v['a':'c']
        assert 'a' not in v and 'c' in v and len(v) == count - 2
        del v[:]['c']
        with pytest.raises(KeyError):
            del v['x':'z']['d']
        v['d':'e'].clear()
        assert 'd' not in v and 'user:1' in v
        del v[:]
        assert len(v) == 0

    def test_the_whole_vault_sorted(self, v):
        assert v[:].keys()[:3] == [5, 'a', 'b'] and len(v[:]) == len(v)

    def test_prefixes_of_text_bytes_and_tuples(self, v):
        assert v.prefix('user:').keys() == ['user:1', 'user:2'] and len(v.prefix('')) == 6
        assert v.prefix(('log', 2026)).keys() == [('log', 2026, 1), ('log', 2026, 11)]
        assert v.prefix(('log',)).values() == ['l', 'l0', 'l1', 'l2'] and len(v.prefix(())) == 4
        assert v.prefix(b'a').keys() == [b'ab', b'a\xff'] and len(v.prefix(b'')) == 3
        assert v.prefix(b'a\xff').keys() == [b'a\xff'] and v.prefix(b'\xff').keys() == []
        for wrong in (5, None, dt.date(2026, 1, 1), '\ud800'):
            with pytest.raises(TypeError, match='prefix is'):
                v.prefix(wrong)

    @given(st.lists(texts), texts)
    def test_a_text_prefix_is_startswith(self, wanted, prefix):
        v = Vault(':memory:')
        v.update(dict.fromkeys(wanted))
        assert set(v.prefix(prefix)) == {key for key in wanted if key.startswith(prefix)}

    @given(st.lists(st.binary(max_size=3) | st.binary(max_size=2).map(lambda b: b + b'\0\xff')), st.binary(max_size=2))
    def test_a_bytes_prefix_is_startswith(self, wanted, prefix):
        v = Vault(':memory:')
        v.update(dict.fromkeys(wanted))
        assert set(v.prefix(prefix)) == {key for key in wanted if key.startswith(prefix)}

    @given(st.sets(st.integers(0, 30)), st.none() | st.integers(0, 30), st.none() | st.integers(0, 30),
           st.booleans(), st.booleans(), st.booleans())
    def test_irange_means_what_it_means_in_sortedcontainers(self, wanted, low, high, with_low, with_high, reverse):
        v = Vault(':memory:')
        v.update(dict.fromkeys(wanted))
        expected = [n for n in sorted(wanted)
                    if (low is None or (low <= n if with_low else low < n))
                    and (high is None or (n <= high if with_high else n < high))]
        assert list(v.irange(low, high, (with_low, with_high), reverse)) == (expected[::-1] if reverse else expected)
