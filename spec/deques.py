"""Live deques: v.live(vaults.Deque, key, maxlen=None), the first kind that has a name and no code."""
from __future__ import annotations

import collections
import contextlib
import copy
import io
import json
import operator
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vaults
from vaults import Vault, moving
from vaults.collections import leaves as leaf_sizes

from .helpers import output
from .internals import raw_of

AN_ITEM = st.one_of(st.integers(-5, 5), st.text(max_size=30))
HANDFUL = st.lists(AN_ITEM, max_size=12)
DEQUE_CALLS = st.one_of(
    st.tuples(st.sampled_from(['append', 'appendleft', 'remove', 'count']), st.tuples(AN_ITEM)),
    st.tuples(st.sampled_from(['extend', 'extendleft', '__iadd__', '__add__']), st.tuples(HANDFUL)),
    st.tuples(st.sampled_from(['pop', 'popleft', 'clear', 'reverse', '__len__', 'copy']), st.just(())),
    st.tuples(st.just('rotate'), st.tuples(st.integers(-30, 30))),
    st.tuples(st.sampled_from(['__getitem__', '__delitem__', '__mul__', '__imul__']), st.tuples(st.integers(-4, 4))),
    st.tuples(st.sampled_from(['insert', '__setitem__']), st.tuples(st.integers(-20, 20), AN_ITEM)),
    st.tuples(st.just('index'), st.tuples(AN_ITEM, st.integers(-3, 8), st.integers(-3, 8))))


@pytest.fixture
def jobs(v):
    return v.live(vaults.Deque, 'jobs')


def outcome_of(call, *arguments):
    """Return what a call returns, or the class of what it raises."""
    try:
        return call(*arguments)
    except (IndexError, ValueError, TypeError) as error:
        return type(error)


class TestDeques:
    """What collections.deque does, a live one does."""

    @settings(max_examples=80, deadline=None)
    @given(maxlen=st.sampled_from([None, None, 0, 1, 7, 40]), calls=st.lists(DEQUE_CALLS, max_size=40), size=st.sampled_from([20, 200, 4000]))
    def test_it_does_what_a_deque_does(self, maxlen, calls, size):
        with pytest.MonkeyPatch.context() as patch, Vault(':memory:') as v:
            patch.setattr(leaf_sizes, 'LEAF', size)  # tiny ones make trees of many leaves
            live, plain = v.live(vaults.Deque, 'd', maxlen=maxlen), collections.deque(maxlen=maxlen)
            for name, arguments in calls:
                if name == '__add__':
                    arguments = (collections.deque(*arguments),)
                made, wanted = (outcome_of(getattr(one, name), *arguments) for one in (live, plain))
                assert (made is live and wanted is plain) or (made == wanted and type(made) is type(wanted)), name
                assert list(live) == list(plain) and len(live) == len(plain) and list(reversed(live)) == [*reversed(plain)]
            assert live == plain == v['d'] and plain == live and live.maxlen == maxlen and v.check() == []
            assert [live[at] for at in range(-len(plain), len(plain))] == [plain[at] for at in range(-len(plain), len(plain))]

    def test_it_has_what_a_deque_has(self, jobs):
        lacking = {name for name in dir(collections.deque) if name[:1] != '_'} - set(dir(jobs))
        assert not lacking and not {'__add__', '__radd__', '__mul__', '__lt__', '__reversed__', '__copy__'} - set(dir(jobs))

    def test_it_compares_and_adds_with_deques_alone(self, v, jobs):
        jobs.extend([1, 2])
        other = v.live(vaults.Deque, 'other')
        other.extend([1, 3])
        plain = collections.deque([1, 3])
        assert jobs != other and jobs < other and jobs <= plain and plain > jobs and not jobs >= other and other == plain == other
        assert jobs != [1, 2] and jobs != [1, 2] and v.list('l') != v.live(vaults.Deque, 'empty')
        for one, another in ((jobs, other), (jobs, plain), (collections.deque([1, 2]), other)):
            both = one + another
            assert type(both) is collections.deque and both == collections.deque([1, 2, 1, 3])
        for operate in (operator.add, operator.lt):
            with pytest.raises(TypeError):
                operate(jobs, [1])

    def test_what_is_too_much_falls_out_at_the_other_end(self, v):
        last = v.live(vaults.Deque, 'last', maxlen=3)
        last.extend('abcde')
        assert last == collections.deque('cde') and repr(last) == repr(v['last']) == "Deque(['c', 'd', 'e'], maxlen=3)"
        last.appendleft('x')
        assert list(last) == ['x', 'c', 'd'] and last.maxlen == 3
        with pytest.raises(IndexError, match='maxlen of items, 3.*take one out'):
            last.insert(1, 'y')
        last *= 3
        last.extend(last)
        last.extendleft(last)
        assert list(last) == ['d', 'c', 'x']

    def test_a_deque_has_no_slices(self, jobs):
        jobs.extend('abc')
        for act in (lambda: jobs[1:], lambda: operator.delitem(jobs, slice(1)), lambda: operator.setitem(jobs, slice(1), 'x')):
            with pytest.raises(TypeError):
                act()
        assert list(jobs) == ['a', 'b', 'c']

    @pytest.mark.parametrize('maxlen', [-1, '3', 1.5])
    def test_a_maxlen_that_is_none_makes_nothing(self, v, maxlen):
        with pytest.raises((TypeError, ValueError)):
            v.live(vaults.Deque, 'd', maxlen=maxlen)
        assert 'd' not in v

    def test_what_is_there_is_taken_or_said(self, v, jobs):
        v.live(vaults.Deque, 'three', maxlen=3).append(1)
        v['plain'] = collections.deque([1])
        assert v.live(vaults.Deque, 'three') == v.live(vaults.Deque, 'three', maxlen=3) == collections.deque([1])
        for key, maxlen, said in (('three', 4, 'has the maxlen 3, not 4'), ('jobs', 1, 'has the maxlen None, not 1'), ('plain', None, 'there is a plain')):
            with pytest.raises(TypeError, match=said):
                v.live(vaults.Deque, key, maxlen=maxlen)

    def test_copies_are_plain_and_entries_are_live(self, v, jobs, tmp_path):
        jobs.extend(range(1000))
        three = v.live(vaults.Deque, 'three', maxlen=3)
        three.extend(jobs)
        v['copy'] = three
        v['copy'].append('x')
        assert list(three) == [997, 998, 999] and v['copy'] == collections.deque([998, 999, 'x']) and v['copy'].maxlen == 3
        for made in (three.copy(), copy.copy(three), copy.deepcopy(three), v.copy()['three'], v.pop('three')):
            assert type(made) is collections.deque and made == collections.deque([997, 998, 999]) and made.maxlen == 3
        with contextlib.closing(pickle.loads(pickle.dumps(v))) as again:
            assert type(again['jobs']) is vaults.Deque and again['jobs'] == jobs == pickle.loads(pickle.dumps(jobs))

    def test_repr_of_one_that_is_gone_says_so(self, v):
        last = v.live(vaults.Deque, 'last', maxlen=2)
        last.append(1)
        assert repr(last) == 'Deque([1], maxlen=2)'
        del v['last']
        assert repr(last).startswith('<Deque that cannot be read: the deque was deleted or replaced')

    def test_it_goes_out_and_comes_in(self, v, jobs, tmp_path, command):
        jobs.extend([{'n': n} for n in range(500)])
        v.live(vaults.Deque, 'last', maxlen=2).extend([(1, 2), None])
        lines = io.StringIO()
        moving.export(v, lines)
        assert '"value": {"!kind": ["deque", 2, 2]}' in lines.getvalue()
        for source in (v.db_path, io.StringIO(lines.getvalue())):
            with contextlib.closing(Vault(tmp_path / 'in.db', flag='n')) as other:
                assert moving.import_file(other, source) == 2
                assert other['jobs'] == jobs and other['last'] == v['last'] and other['last'].maxlen == 2 and other.check() == []
        assert dict(moving.read(v.db_path))['last'] == collections.deque([(1, 2), None], 2)
        assert json.loads(command('get', v.db_path, 'jobs').out) == list(jobs) and 'deque of 2 items' in command('show', v.db_path).out

    @pytest.mark.parametrize('form', ['["deque", 1, 2]', '["deque", -1, 0]', '["deque", "x", 0]', '["deque", true, 0]', '["deque", 2]'])
    def test_a_line_that_is_no_deque_is_refused(self, v, form):
        with pytest.raises(vaults.VaultError):
            moving.import_file(v, io.StringIO('{"key": "k", "value": {"!kind": ' + form + '}}\n{"items": [1, 2]}\n'))
        assert 'k' not in v

    def test_two_processes_never_take_one_item(self, v, jobs):
        jobs.extend(range(60))
        code = 'import sys, pathlib, vaults; d = vaults.Vault(pathlib.Path(sys.argv[1]))["jobs"]; print([d.popleft() for _ in range(25)])'
        theirs = json.loads(output(code, v.db_path))
        mine = [jobs.pop() for _ in range(25)]
        assert sorted([*theirs, *mine, *jobs]) == list(range(60)) and theirs == list(range(25))

    def test_an_end_costs_as_many_rows_at_any_length(self, v, jobs):
        def changed(act):
            before = raw_of(v).total_changes
            act()
            return raw_of(v).total_changes - before
        for size in (300, 30_000):
            jobs.clear()
            jobs.extend(range(size))
            ends = [lambda: jobs.append(1), lambda: jobs.appendleft(1), jobs.pop, jobs.popleft]
            rows = [changed(act) for _ in range(200) for act in ends]
            assert max(rows) <= 12 and sum(rows) <= 7 * len(rows), (size, max(rows), sum(rows) / len(rows))
