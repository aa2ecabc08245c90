"""Sections of any size, their ends, and sections that write back."""
from __future__ import annotations

import contextlib
import datetime as dt
import itertools
import random
import uuid

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vaults
from vaults import Vault, keys
from vaults.sections import Prefixed

from .internals import raw_of
from .samples import section_keys


def steps(v, work):
    """Return how many steps SQLite's machine takes for the work, in tens: what grows with the rows it looks at."""
    seen = []
    raw = raw_of(v)
    raw.set_progress_handler(lambda: bool(seen.append(1)), 10)
    try:
        work()
    finally:
        raw.set_progress_handler(None, 10)
    return len(seen)


def interleaved(count):
    v = Vault(':memory:')
    v.update((key, n) for n in range(count) for key in (f'plain{n}', ('a', n), ('b', n), ('c', n)))
    return v


def one_after_the_other(count):
    v = Vault(':memory:')
    for name in 'abc':
        v.section(name).update((n, n) for n in range(count))
        v.update((f'{name}{n}', n) for n in range(count))
        v.section(f'{name}2').update((n, n) for n in range(count))
    return v


def undone(operation):
    def done(s):
        with contextlib.suppress(ZeroDivisionError), s:
            operation(s)
            1 / 0
    return done


AT_AN_END = {
    'next': lambda s: next(iter(s)), 'next of items': lambda s: next(iter(s.items())), 'first key': lambda s: s.keys()[0],
    'first items': lambda s: s.items()[:3], 'repr of keys': lambda s: repr(s.keys()),
    'the oldest': undone(lambda s: s.popitem(last=False)),
}
AT_THE_OTHER = {
    'back': lambda s: next(reversed(s)), 'last key': lambda s: s.keys()[-1], 'last items': lambda s: s.items()[-3:],
    'the last ones, turned': lambda s: s.values()[:-4:-1], 'the newest': undone(lambda s: s.popitem()),
}
ANYWHERE = {
    'repr': repr, 'is it empty': lambda s: s == {}, 'bool': bool, 'is it that': lambda s: s == {1: 2, 3: 4},
    'has it keys': lambda s: s.keys() == [] or s.keys() == set(), 'has it items': lambda s: s.items() == [(1, 1)],
    'by key': lambda s: (s[:].first(), s[:].last(), s[5:].keys()[:3], bool(s[5:]), repr(s[5:]), s[5:] == {}),
}


@pytest.fixture(scope='module')
def laid_out():
    return {layout: {count: layout(count) for count in (1000, 10_000)} for layout in (interleaved, one_after_the_other)}


class TestSectionsOfAnySize:
    """What looks at one end of a section takes a time that does not grow with it, where the layout allows that."""

    def ratio(self, vaults_, name, look):
        small, large = (steps(v, lambda v=v: look(v.section(name))) for v in vaults_.values())
        return large / (small + 10)

    @pytest.mark.parametrize('look', {**AT_AN_END, **AT_THE_OTHER, **ANYWHERE})
    def test_of_entries_that_lie_between_those_of_others(self, laid_out, look):
        for name in 'abc':
            assert self.ratio(laid_out[interleaved], name, {**AT_AN_END, **AT_THE_OTHER, **ANYWHERE}[look]) < 3

    @pytest.mark.parametrize('look', ANYWHERE)
    def test_wherever_they_lie(self, laid_out, look):
        for name in ('a', 'a2', 'b', 'b2', 'c', 'c2'):
            assert self.ratio(laid_out[one_after_the_other], name, ANYWHERE[look]) < 3

    @pytest.mark.parametrize('look', AT_AN_END)
    def test_of_entries_that_were_put_first(self, laid_out, look):
        assert self.ratio(laid_out[one_after_the_other], 'a', AT_AN_END[look]) < 3

    @pytest.mark.parametrize('look', AT_THE_OTHER)
    def test_of_entries_that_were_put_last(self, laid_out, look):
        assert self.ratio(laid_out[one_after_the_other], 'c2', AT_THE_OTHER[look]) < 3

    @pytest.mark.parametrize('look', {**AT_AN_END, **AT_THE_OTHER})
    def test_elsewhere_it_is_bounded_by_the_section(self, laid_out, look):
        look, v = {**AT_AN_END, **AT_THE_OTHER}[look], laid_out[one_after_the_other][10_000]
        assert steps(v, lambda: look(v.section('b'))) < 10_000 * 8
        with contextlib.suppress(ZeroDivisionError), v:
            v.update((('small', n), n) for n in range(100))
            v.update((f'behind{n}', n) for n in range(5000))
            assert steps(v, lambda: look(v.section('small'))) < 100 * 40
            1 / 0

    def test_what_was_deleted_beyond_it_is_no_hindrance(self):
        v = interleaved(10_000)
        before = steps(v, lambda: v.section('b').popitem())
        for _ in range(3):
            v.update((n, n) for n in range(20_000))
            del v[0:20_000]
        assert steps(v, lambda: v.section('b').popitem()) < 3 * before
        for _ in range(200):
            v.popitem(last=False)
            v.section('b').popitem()
        assert steps(v, lambda: v.section('b').popitem(last=False)) < 3 * before

    @pytest.mark.parametrize('reverse', [False, True])
    @pytest.mark.parametrize('layout', [interleaved, one_after_the_other])
    def test_a_walk_is_whole_and_in_order(self, laid_out, layout, reverse):
        for count, v in laid_out[layout].items():
            for s in map(v.section, v.sections()):
                found = list(reversed(s.items()) if reverse else s.items())
                assert found == [(n, n) for n in range(count)][::-1 if reverse else 1]
                assert len(list(s)) == len(s) == count

    @pytest.mark.parametrize('reverse', [False, True])
    @settings(max_examples=30)
    @given(st.integers(0, 999), st.lists(st.tuples(st.integers(0, 60), st.integers(0, 400)), max_size=8))
    def test_a_walk_sees_what_was_there_and_is_there(self, reverse, seed, changes):
        v = Vault(':memory:')
        kinds = random.Random(seed).choices('psss', k=350)
        v.update((('s', n) if kind == 's' else n, n) for n, kind in enumerate(kinds))
        s, seen, gone, put = v.section('s'), [], set(), 1000
        there = [n for n, kind in enumerate(kinds) if kind == 's'][::-1 if reverse else 1]
        walk = reversed(s) if reverse else iter(s)
        seen += itertools.islice(walk, 1)
        for step, key in changes:
            seen += itertools.islice(walk, step)
            put += 1
            s[put] = put
            if key in s:
                del s[key]
                gone.add(key)
        seen += walk
        assert [n for n in there if n in seen] == seen and set(there) - set(seen) <= gone
        with contextlib.suppress(ZeroDivisionError), v:
            walk = iter(s)
            next(walk)
            1 / 0
        with pytest.raises(vaults.VaultError, match='rolled back'):
            list(walk)

    @given(st.lists(section_keys | st.lists(section_keys, min_size=2, max_size=3).map(tuple), max_size=30),
           st.lists(section_keys, max_size=2).map(tuple))
    def test_sections_are_those_that_have_entries(self, wanted, path):
        v = Vault(':memory:')
        for name in path:
            v = v.section(name)
        v.update(dict.fromkeys(wanted))
        names = {keys.encode((key[0],)): key[0] for key in v if type(key) is tuple and len(key) > 1}
        assert v.sections() == [names[stored] for stored in sorted(names)]

    def test_a_key_that_is_cut_behind_its_tag_is_reported(self):
        v = Vault(':memory:')
        v._store.put(b'\x09', b'\x01')
        with pytest.raises(vaults.VaultCorruptError):
            v.sections()

    def test_sections_go_from_name_to_name(self, laid_out):
        small, large = laid_out[one_after_the_other].values()
        assert large.sections() == ['a', 'a2', 'b', 'b2', 'c', 'c2']
        assert steps(large, large.sections) < 2 * steps(small, small.sections)
        nested = [Vault(':memory:').section('users') for _ in range(2)]
        for users, count in zip(nested, (100, 10_000)):
            users.update((('ann', n), n) for n in range(count))
            users.update({'ann': 1, 'bob': 2, ('bob', 'age'): 3, ('ben', 1): 4, 7: 5, (7, 7): 6})
            assert users.sections() == [7, 'ann', 'ben', 'bob']
        assert steps(nested[1], nested[1].sections) < 2 * steps(nested[0], nested[0].sections)

    @pytest.mark.parametrize('keyed', ['{}'.format, int, '{}'.format('é{}').format, lambda n: -n, lambda n: str(n).encode(),
                                       lambda n: dt.date.fromordinal(n + 1), lambda n: uuid.UUID(int=n)])
    def test_what_lies_beside_nested_sections_is_passed_without_being_decoded(self, monkeypatch, keyed):
        users = Vault(':memory:').section('users')
        users.update((keyed(n), n) for n in range(5000))
        users.update({('x', 'y'): 1, (keyed(1234), 1): 1, (keyed(1234), 2, 3): 1})
        decoded, decode = [], Prefixed.decode
        monkeypatch.setattr(Prefixed, 'decode', lambda coder, stored: decoded.append(1) or decode(coder, stored))
        assert set(users.sections()) == {'x', keyed(1234)} and len(decoded) < 10
        assert steps(users, users.sections) < 5100 * 4

    def test_repr_does_not_count_a_large_one(self):
        v = Vault(':memory:')
        s = v.section('s')
        s.update((n, n) for n in range(1000))
        assert repr(s) == "Section(':memory:', ('s',), 1000 items)"
        s['more'] = 1
        assert repr(s) == "Section(':memory:', ('s',), more than 1000 items)" and repr(v) == "Vault(':memory:', 1001 items)"
