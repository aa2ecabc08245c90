"""Batches: many entries in few statements, which nobody is to notice: not who gives them, not a signal handler."""
from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
import threading
import time
import weakref

import pytest

import vaults
from vaults import Vault
from vaults.collections import leaves as leaf_sizes
from vaults.collections import sequence, tree
from vaults.stores.sqlite import batch, driver, schema
from vaults.stores.sqlite import store as store_module

from .helpers import in_child, in_thread, needs_posix, signalled
from .internals import connection_of, engine_of, is_in_transaction, raw_of

_OFFSETS = (0, 1, 2, 7, 8, 9, 63, 64, 65, 71, 72, 73, 128, 136)  # around what is in a statement
_MANY = 150


def _keys_of(count):
    """Return keys of which some come twice, near each other and far apart."""
    return [f'k{n // 2 if n % 5 == 1 else n - 70 if n % 11 == 10 and n > 70 else n}' for n in range(count)]


_PAIRS = [(key, n) for n, key in enumerate(_keys_of(_MANY))]


class _Swallowed(BaseException):
    """What a signal handler raises."""


class _Writes:
    """An object whose packing uses a vault."""

    vault = act = None

    def __init__(self, name):
        self.name = name

    def __reduce__(self):
        _Writes.act(_Writes.vault, self.name)
        return _Writes, (self.name,)


def _put_over(v):
    v['k0'] = v['k3'] = 'over'


def _delete(v):
    for key in ('k0', 'k6', 'new'):
        v.pop(key, None)


def _delete_and_put(v):
    v.pop('k5', None)
    v['k5'] = 'again'


def _put_many(v):
    def pairs():
        for n in range(70):
            yield f'k{3 * n}', -n
            if n in (1, 64, 66):
                _look(v)
                v['inside'] = n
    v.update(pairs())


def _in_block(v):
    if type(v) is dict:
        v.update(k1='block', k2='block')
        return
    with v:
        v['k1'] = 'block'
        v.update([('k2', 'block')])


def _undone_block(v):
    if type(v) is dict:
        return
    with pytest.raises(ZeroDivisionError), v:
        v.update((f'k{n}', 'lost') for n in range(100))
        v['lost'] = 1
        1 / 0


def _move(v):
    for key, last in (('k1', True), ('k2', False)):
        if type(v) is not dict:
            if key in v:
                v.move_to_end(key, last)
        elif key in v:
            moved = {key: v.pop(key)}
            rest = dict(v)
            v.clear()
            v.update({**rest, **moved} if last else {**moved, **rest})


def _pop_newest(v):
    if v:
        v.popitem()


def _delete_range(v):
    if type(v) is dict:
        for key in [key for key in v if 'k2' <= key < 'k5']:
            del v[key]
    else:
        del v['k2':'k5']


_ACTS = (_put_over, _delete, _delete_and_put, _put_many, _in_block, _undone_block, _move, _pop_newest, _delete_range,
         lambda v: v.clear())


def _look(v):
    """Return what is in the vault, asked for in each way that there is."""
    found = list(v.items())
    if type(v) is not dict:
        assert len(v) == len(found) == len(v[:]) and list(v) == [key for key, _ in found]
        assert list(reversed(v)) == [key for key, _ in reversed(found)]
        assert all(v[key] == value and key in v for key, value in found[:3] + found[-3:])
    return found


class TestBatches:
    """Many entries are written in few statements, and all is as if each were written when it is given."""

    @pytest.fixture(params=['file', 'memory', 'thread_safe', 'section'])
    def b(self, request, root):
        vault = Vault(':memory:') if request.param == 'memory' else Vault('test', thread_safe=request.param == 'thread_safe')
        yield vault.section('in') if request.param == 'section' else vault
        vault._check()
        vault.close()

    @pytest.mark.parametrize('count', sorted({*_OFFSETS, 129, 137, _MANY}))
    def test_of_a_key_that_comes_twice_the_last_value_is_in_the_first_place(self, b, count):
        b['k4'] = 'old'
        assert b.put_many(iter(_PAIRS[:count])) == count
        assert _look(b) == list({'k4': 'old', **dict(_PAIRS[:count])}.items())
        assert b.put_many([('one', n) for n in range(count)]) == count and b.get('one') == (count - 1 if count else None)

    @pytest.mark.parametrize('place', _OFFSETS)
    def test_who_gives_the_pairs_sees_them(self, b, place):
        model = {}

        def pairs():
            for n, (key, value) in enumerate(_PAIRS):
                if n == place or (n > place and n % 20 == 0):
                    assert _look(b) == list(model.items())
                    assert b.get(key, 'none') == model.get(key, 'none')
                yield key, value
                model[key] = value
        assert b.put_many(pairs()) == _MANY and _look(b) == list(model.items())

    @pytest.mark.parametrize('act', _ACTS)
    @pytest.mark.parametrize('place', _OFFSETS)
    def test_who_gives_the_pairs_may_do_anything(self, root, act, place):
        v, model = Vault(':memory:'), {}

        def pairs():
            for n, (key, value) in enumerate(_PAIRS):
                if n in (place, place + 1, place + 66):
                    act(v)
                    act(model)
                    if n % 2:
                        assert _look(v) == list(model.items())
                yield key, value
                model[key] = value
        with v:
            v.update(pairs())
            v['behind'] = model['behind'] = 1
            assert _look(v) == list(model.items())
        assert _look(v) == list(model.items())
        v._check()

    @pytest.mark.parametrize('place', _OFFSETS)
    def test_a_pair_that_fails_undoes_all_and_is_named(self, b, place):
        b.update(k1='old', other=1)
        given = []

        def pairs():
            for n, (key, value) in enumerate(_PAIRS):
                given.append(n)
                yield (f'bad{n}', lambda: 0) if n == place else (key, value)
                if n == place - 1:
                    b['k1'] = 'lost'
        with pytest.raises(vaults.VaultError, match=f"'bad{place}'"):
            b.put_many(pairs())
        assert given[-1] == place and _look(b) == [('k1', 'old'), ('other', 1)]
        with pytest.raises(ValueError, match=f'element {place} '), b:
            b['in'] = 1
            with pytest.raises(TypeError):
                b.put_many([*_PAIRS[:place], ([], 1)])
            assert _look(b) == [('k1', 'old'), ('other', 1), ('in', 1)]
            b.put_many([*_PAIRS[:place], (1, 2, 3)])
        assert _look(b) == [('k1', 'old'), ('other', 1)]

    @pytest.mark.parametrize('place', _OFFSETS)
    def test_who_gives_the_pairs_may_fail_anywhere(self, b, place):
        def pairs():
            yield from _PAIRS[:place]
            1 / 0
        b['k2'] = 'old'
        with pytest.raises(ZeroDivisionError):
            b.put_many(pairs())
        assert _look(b) == [('k2', 'old')]
        b['new'] = 1
        assert _look(b) == [('k2', 'old'), ('new', 1)]

    @pytest.mark.parametrize('act', _ACTS)
    @pytest.mark.parametrize('place', _OFFSETS)
    def test_an_object_whose_packing_uses_the_vault_sees_what_was_put_before_it(self, root, place, act, monkeypatch):
        v, model = Vault(':memory:', allow_pickle=True), {}

        def acting(vault, name):
            assert _look(vault) == list(model.items())
            act(vault)
            act(model)
        monkeypatch.setattr(_Writes, 'vault', v)
        monkeypatch.setattr(_Writes, 'act', acting)

        def pairs():
            for n, (key, value) in enumerate(_PAIRS):
                yield key, _Writes(key) if n == place else value
                model[key] = key if n == place else value
        v.put_many(pairs())
        monkeypatch.setattr(_Writes, 'act', lambda vault, name: None)
        assert [(key, getattr(value, 'name', value)) for key, value in v.items()] == list(model.items())
        v._check()

    @pytest.mark.parametrize('place', _OFFSETS)
    def test_who_gives_the_pairs_may_hold_a_block_over_them(self, b, place):
        def pairs():
            yield from _PAIRS[:place]
            with pytest.raises(ZeroDivisionError), b:
                yield from _PAIRS[place:place + 10]
                assert (_PAIRS[place][0] in b) == (place < _MANY)
                1 / 0
            with b:
                yield from _PAIRS[place + 10:place + 90]
            yield 'end', 1
        b.put_many(pairs())
        assert _look(b) == list(dict([*_PAIRS[:place], *_PAIRS[place + 10:place + 90], ('end', 1)]).items())

    def test_a_mutable_value_is_packed_when_it_is_given(self, b):
        def pairs():
            row = {}
            for n in range(_MANY):
                row['n'] = n
                yield n, row
        b.put_many(pairs())
        assert b.values() == [{'n': n} for n in range(_MANY)]

    def test_keys_of_all_kinds_are_put_together(self, b):
        kinds = [str, int, float, lambda n: str(n).encode(), lambda n: (n, 'x'), lambda n: n + .5, lambda n: bool(n % 2),
                 lambda n: n - 2**63, lambda n: f'\xe9{n}\U0001f600']
        for kind in kinds:
            b.put_many((kind(n), n) for n in range(_MANY))
        b.put_many((kind(n), -n) for n in range(_MANY) for kind in kinds)
        expected = {kind(n): n for kind in kinds for n in range(_MANY)}
        expected.update((kind(n), -n) for n in range(_MANY) for kind in kinds)
        assert _look(b) == list(expected.items()) and list(map(type, b)) == list(map(type, expected))

    def test_what_waits_is_little(self, v):
        c = connection_of(v)

        def pairs(size, count):
            for n in range(count):
                yield n, b'x' * size
                assert sum(len(data) for _, data in c.batch.rows) <= batch.MOST_BYTES and len(c.batch.rows) < batch.MOST_ROWS
        for size, count in ((1, 200), (100_000, 40), (batch.MOST_BYTES, 3), (3 * batch.MOST_BYTES, 2)):
            v.put_many(pairs(size, count))
            assert v[count - 1] == b'x' * size
        assert c.batch is None and vars(engine_of(v).local)['c'] is c
        v._check()

    def test_an_endless_generator_is_seen_and_ended(self, b):
        def pairs():
            n = 0
            while True:
                yield n % 100, n
                n += 1
                if n % 37 == 0 and len(b) == 100 and b[n % 100 - 1] == n - 1:
                    raise EOFError
        with pytest.raises(EOFError):
            b.update(pairs())
        assert len(b) == 0

    # --- those who come in between ---

    def lines(self, act, *within):
        """Trace: call `act` with how many lines have run of the functions of these modules, before each of them."""
        count = [0]

        def trace(frame, event, _):
            if frame.f_code.co_filename.endswith(within):
                if event == 'line':
                    count[0] += 1
                    act(count[0])  # Python traces nothing in here
                return trace
            return None
        return trace

    def traced(self, v, pairs, act):
        before = sys.gettrace()
        sys.settrace(self.lines(act, 'batch.py', 'connection.py', 'nesting.py'))
        try:
            return v.put_many(pairs)
        finally:
            sys.settrace(before)

    def signalled(self, act, place):
        """Let a signal handler _look and act before the line of that number; return how many lines have run."""
        v, given, seen, reached = Vault(':memory:'), _PAIRS[:75], [], [0]

        def pairs():
            for n, pair in enumerate(given):
                if n in (3, 70):
                    v.get('k1')
                yield pair

        def handle(number):
            reached[0] = number
            if number == place:
                seen.extend(_look(v))
                act(v)
        assert self.traced(v, pairs(), handle) == len(given)
        possible = []
        for before in range(len(given) + 1):
            model = dict(given[:before])
            if list(model.items()) == seen:
                act(model)
                model.update(given[before:])
                possible.append(list(model.items()))
        assert _look(v) in possible, place
        v._check()
        v.close()
        return reached[0]

    @pytest.mark.parametrize('act', _ACTS)
    def test_a_signal_handler_comes_between_two_pairs_wherever_it_comes(self, root, act):
        place = last = 1
        while place <= last:
            last = max(last, self.signalled(act, place))
            place += 1 if place < 50 or place > last - 70 else 11
        assert last > 300

    def test_an_interrupt_undoes_all_wherever_it_comes(self, root):
        def pairs():
            yield from _PAIRS[:70]
            v.get('k1')
            yield from _PAIRS[70:80]

        def interrupt(number):
            if number == place:
                raise KeyboardInterrupt
        place, was_raised = 1, True
        v = Vault('test')
        v['old'] = 1
        while was_raised:
            try:
                self.traced(v, pairs(), interrupt)
                was_raised = False
            except KeyboardInterrupt:
                was_kept = len(v) > 1  # it came when all was committed
                assert was_kept or v.items() == [('old', 1)]
                assert not is_in_transaction(v) and connection_of(v).batch is None
                if was_kept:
                    break
            place += 1 if place < 60 else 5
        assert place > 200 and v == {'old': 1, **dict(_PAIRS[:80])}
        v['new'] = 1
        assert Vault('test')['new'] == 1
        v._check()

    def test_an_interrupt_that_is_caught_where_the_pairs_are_given_loses_none(self, root):
        def pairs():
            yield from _PAIRS[:70]
            seen.append(number[0])
            try:
                v.get('k1')
            except _Swallowed:
                v['caught'] = 1
                caught.append(1)
            yield from _PAIRS[70:]

        def interrupt(at):
            number[0] = at
            if seen and at == seen[0] + place:
                raise _Swallowed
        place, caught = 1, [1]
        while caught:
            v, seen, caught, number = Vault(':memory:'), [], [], [0]
            try:
                self.traced(v, pairs(), interrupt)
            except _Swallowed:
                assert len(v) == 0
                caught = [1]
            else:
                expected = [*_PAIRS[:70], *([('caught', 1)] if caught else []), *_PAIRS[70:]]
                assert _look(v) == list(dict(expected).items()), place
            place += 1
            if place > 60:
                break
        assert place > 12

    def test_what_a_block_has_put_is_undone_with_it_though_an_interrupt_comes_as_it_waits(self, root):
        def pairs():
            yield from _PAIRS[:5]
            try:
                with v:
                    yield from _PAIRS[5:10]
                    seen.append(number[0])
                    1 / 0
            except (ZeroDivisionError, _Swallowed) as error:
                raised.append(type(error))
            yield from _PAIRS[10:75]

        def interrupt(at):
            number[0] = at
            if seen and at == seen[0] + place and not raised:
                raise _Swallowed
        place, raised = 1, [_Swallowed]
        while raised == [_Swallowed]:
            v, seen, raised, number = Vault(':memory:'), [], [], [0]
            self.traced(v, pairs(), interrupt)
            assert _look(v) == list(dict([*_PAIRS[:5], *_PAIRS[10:75]]).items()), place
            place += 1
        assert place > 10

    @pytest.mark.parametrize('caught', [False, True])
    def test_an_error_of_the_disk_where_the_vault_is_looked_at_undoes_all(self, v, caught):
        v['old'] = 1
        pages, = raw_of(v).execute('PRAGMA page_count').fetchone()
        met = []

        def pairs():
            raw_of(v).execute(f'PRAGMA max_page_count = {pages}')
            for n in range(60):
                yield n, b'x' * 10_000
            try:
                v.get(0)
            except vaults.VaultError:
                met.append(1)
                if not caught:
                    raise
            yield from _PAIRS
        with pytest.raises(vaults.VaultError, match='full'):
            v.put_many(pairs())
        raw_of(v).execute('PRAGMA max_page_count = 1000000')
        assert met and v.items() == [('old', 1)] == Vault('test').items()
        v['new'] = 1
        v._check()

    def test_nothing_is_put_behind_an_error_that_undid_all(self, v):
        def pairs():
            yield 'a', 1
            pages, = raw_of(v).execute('PRAGMA page_count').fetchone()
            raw_of(v).execute(f'PRAGMA max_page_count = {pages}')
            with pytest.raises(vaults.VaultError):
                v['large'] = b'x' * 100_000
            raw_of(v).execute('PRAGMA max_page_count = 1000000')
            yield from _PAIRS
        with pytest.raises(vaults.VaultError, match='earlier error'):
            v.put_many(pairs())
        assert len(v) == 0 == len(Vault('test'))
        v._check()

    def test_a_block_of_a_task_among_the_pairs_gives_the_connection_back_to_the_batch(self, b):
        async def work():
            with b:
                b['task'] = 1

        def pairs():
            yield 'a', 1
            asyncio.run(work())
            yield 'b', 2
            assert b['b'] == 2 and len(b) == 3
            yield 'c', 3
        b.put_many(pairs())
        assert _look(b) == [('a', 1), ('task', 1), ('b', 2), ('c', 3)]

        async def put():
            b.put_many(pairs_in_task())
            assert len(b) == 6

        def pairs_in_task():
            for n in range(3):
                yield n, n
                assert b[n] == n
        b.clear()
        b.update(x=1, y=2, z=3)
        asyncio.run(put())

    def test_another_thread_waits_for_the_end_of_the_batch(self, root):
        v = Vault(':memory:')
        began, found = threading.Event(), []

        def other():
            began.set()
            with v:
                found.append(len(v))
                v['other'] = 1

        def pairs():
            for n in range(200):
                yield n, n
                if n == 30:
                    thread.start()
                    began.wait()
                    time.sleep(.1)  # it asks for the connection, which is everybody's
                    assert len(engine_of(v).local.held.batch.rows) == 31
                if n % 50 == 49:
                    assert len(v) == n + 1
        thread = threading.Thread(target=other)
        v.put_many(pairs())
        thread.join()
        assert found == [200] and len(v) == 201
        v._check()

    def test_a_vault_that_is_closed_among_the_pairs_keeps_none(self, root):
        v = Vault('test')

        def pairs():
            yield 'a', 1
            v.close()
            yield 'b', 2
        with pytest.raises(vaults.VaultClosedError):
            v.put_many(pairs())
        assert in_thread(lambda: Vault('test').items()[:]) == []

    @needs_posix
    def test_a_child_that_is_forked_among_the_pairs_has_none_of_them(self, v):
        children = []

        def pairs():
            yield from _PAIRS[:70]
            children.append(in_child(lambda: (len(v), v.get('k1'))))
            yield from _PAIRS[70:]
            assert children[0].answer() == (0, None)
        v.put_many(pairs())
        assert v == dict(_PAIRS)


ADDED = {'the same list': (2, 0), 'another list': (0, 2), 'a block': (1, 1)}  # to the one, to the other


class TestWhatIsKeptBack:
    """What a block appends waits in memory. A signal handler may come at any line, also while that is being written."""

    HANDLERS = {
        'the same list': lambda v, one, other: (one.append('H'), one.append('H')),
        'another list': lambda v, one, other: (other.append('H'), other.append('H')),
        'a block': lambda v, one, other: v._store.transact(lambda: (one.append('H'), other.append('H'))),
        'one that fails': lambda v, one, other: _undone(v, lambda: (one.append('U'), other.append('U'))),
        'reading': lambda v, one, other: (one[-1], len(other), v.get('k'))}

    @pytest.mark.parametrize('fills', [False, True], ids=['the tail', 'leaves'])
    @pytest.mark.parametrize('kind', HANDLERS)
    def test_what_a_signal_handler_does_among_appends_loses_and_doubles_nothing(self, v, kind, fills, monkeypatch):
        if fills:
            monkeypatch.setattr(leaf_sizes, 'ITEMS', 2)
            monkeypatch.setattr(tree, 'FANOUT', 2)
        added, w, at, goes_on = ADDED.get(kind, (0, 0)), Vault('test'), 0, True
        while goes_on:
            at += 1
            one, other = v.list(f'one{at}'), v.list(f'other{at}')
            one.append('before')
            other.append('before')
            goes_on = self.appended(v, one, at, lambda one=one, other=other: self.HANDLERS[kind](v, one, other))
            one.append('after')
            other.append('after')
            for name, mine, plain, count in (('one', one, ['before', 0, 1, 2, 3, 4, 'after'], added[0]),
                                             ('other', other, ['before', 'after'], added[1])):
                found = mine.tolist()
                assert w.list(f'{name}{at}') == found and found[-1] == 'after', at
                assert [item for item in found if item != 'H'] == plain and found.count('H') == count * goes_on, at
                self.has_no_other_chunks(v, f'{name}{at}')
        assert at > 200 and w.check() == []

    @pytest.mark.parametrize('act', [lambda one: None, lambda one: one.append('H'), lambda one: (one.append('H'), one.pop())],
                             ids=['nothing', 'append', 'pop'])
    def test_what_an_interrupt_comes_into_is_begun_anew_and_leaves_no_chunk(self, root, act, monkeypatch):
        monkeypatch.setattr(leaf_sizes, 'ITEMS', 2)
        monkeypatch.setattr(tree, 'FANOUT', 2)
        at, goes_on = 0, True

        def handler():
            act(one)
            raise _Swallowed
        while goes_on:
            at += 1
            v, put = Vault(':memory:'), [*'before!']
            one = v.list('one')
            for item in put:
                one.append(item)
            with v:
                with signalled(at, handler) as left:
                    for n in range(5):
                        with contextlib.suppress(_Swallowed):
                            one.append(n)
                            put += n,
                    with contextlib.suppress(_Swallowed):
                        v.update(k=at)
                goes_on = left[0] <= 0
                one.append('after')
            found = one.tolist()
            assert [item for item in found if item in put] == put and found[-1] == 'after', at
            assert len(found) - len(put) - 1 <= 1 + found.count('H'), (at, found)
            assert v.list('one') == found and v.check() == []
            self.has_no_other_chunks(v, 'one')
        assert at > 200

    @pytest.mark.parametrize('most', [5, 1 << 13])
    @pytest.mark.parametrize('kind', ['list', 'int64', 'S900'])
    def test_what_fills_many_leaves_is_whole_and_no_leaf_is_too_large_or_nearly_empty(self, v, kind, most, monkeypatch):
        monkeypatch.setattr(sequence, 'KEPT_BACK', most)
        one = v.list(kind) if kind == 'list' else v.column(kind, kind)
        items = [n if kind == 'int64' else b'x' * (n % 901) for n in range(2500)] + [b'x' * 9000] * (kind == 'list')
        for start in range(0, len(items), 800):
            with v:
                for item in items[start:start + 800]:
                    one.append(item)
                assert one[-1] == items[start:start + 800][-1]
        assert one.tolist() == items == Vault('test')[kind].tolist()
        header = tree.Header.of(v._store.get(kind))
        found = [(len(v._store.get_chunk(header.owner, number)), stop - start)
                 for number, start, stop in tree.Tree(v._store, header).leaves(0, header.inside)]
        assert all((size <= leaf_sizes.LEAF and count <= (leaf_sizes.ITEMS if kind == 'list' else 500)) or count == 1 for size, count in found)
        assert all(size + more > leaf_sizes.LEAF - 1000 or count + many >= 128 for (size, count), (more, many) in zip(found, found[1:]))
        self.has_no_other_chunks(v, kind)
        assert v.check() == []

    @staticmethod
    def has_no_other_chunks(v, key):
        store = v._store
        header = tree.Header.of(store.get(key))
        assert sorted(store.chunk_numbers(header.owner)) == sorted(tree.Tree(store, header).numbers())

    def test_a_disk_that_fails_as_the_header_is_looked_at_is_an_error_of_ours(self, v, monkeypatch):
        one, kind = v.list('one'), type(raw_of(v))
        one.append('before')
        real = kind.execute

        def failing(raw, sql, *arguments):
            if sql == schema.GET:
                raise driver.DriverError('disk I/O error')
            return real(raw, sql, *arguments)
        with pytest.raises(vaults.VaultFullError), v:
            monkeypatch.setattr(kind, 'execute', failing)
            try:
                one.append(1)
            finally:
                monkeypatch.undo()
        one.append('after')
        assert one == ['before', 'after'] and Vault('test').list('one') == one

    def appended(self, v, one, at, handler):
        """Append in a block, with a signal handler at that line; tell whether there was one."""
        with signalled(at, handler) as left, v:
            for n in range(4):
                one.append(n)
            v.update(k=at)
            one.append(4)
        return left[0] <= 0


def _undone(v, act):
    with contextlib.suppress(ZeroDivisionError), v:
        act()
        1 / 0


class TestPutsKeptBack:
    """What a block puts one by one waits in memory, and whoever uses the vault finds it there."""

    KEYS = 5
    HANDLERS = {
        'putting': lambda v: v.update(h='H') or v.put('k0', 'H'),
        'putting one by one': lambda v: [v.put(f'h{n}', 'H') for n in range(6)] and v.put('k0', 'H'),
        'a block': lambda v: v._store.transact(lambda: [v.put('k0', 'H') for _ in range(4)]),
        'a block undone': lambda v: _undone(v, lambda: [v.put('k0', 'U') for _ in range(4)]),
        'deleting': lambda v: (v.pop('k0', None), v.put('k0', 'H')),
        'reading': lambda v: None}

    @pytest.fixture(autouse=True)
    def soon(self, monkeypatch):
        monkeypatch.setattr(store_module, 'FEW_PUTS', 1)
        monkeypatch.setattr(batch, 'FEW_PUTS', 1)
        monkeypatch.setattr(batch, 'MANY_PUTS', 0)
        monkeypatch.setattr(batch, 'MOST_ROWS', 4)

    @pytest.mark.parametrize('kind', HANDLERS)
    def test_a_signal_handler_among_puts_finds_all_and_loses_nothing(self, v, kind):
        w, at, goes_on = Vault('test'), 0, True
        while goes_on:
            at += 1
            v.clear()
            done = []

            def handler(done=done, at=at):
                seen, oracle = dict(v.items()), dict(done)
                for key, value in oracle.items():
                    assert seen.get(key) in (value, value + self.KEYS), (at, key)  # a put that goes on may be seen
                self.HANDLERS[kind](v)
                done.append('handler')
            goes_on = self._interrupted(v, at, done, handler)
            puts = [one for one in done if one != 'handler']
            assert len(puts) == 3 * self.KEYS
            expected = dict(puts)
            for key in [f'k{n}' for n in range(1, self.KEYS)]:
                assert v[key] == w[key] == expected[key], at
            behind = [key for key, _ in puts[done.index('handler') if goes_on else len(puts):]]
            puts_k0 = kind not in ('a block undone', 'reading') and goes_on
            right = ({expected['k0'], 'H'} if puts_k0 and behind[:1] == ['k0'] == [key for key in behind if key == 'k0'] else
                     {'H'} if puts_k0 and 'k0' not in behind else {expected['k0']})
            assert v['k0'] == w['k0'] and v['k0'] in right, at
            assert w.get('h', 'H') == 'H' and len(w) == len(v.keys()) and is_in_transaction(v) is False
        assert at > 300 and w.check() == []

    @staticmethod
    def _interrupted(v, at, done, handler, act=None):
        """Put in a block, or do what is given, with a signal handler at that line; tell whether there was one."""
        with signalled(at, handler) as left:
            act() if act else TestPutsKeptBack._put(v, done)
        return left[0] <= 0

    @staticmethod
    def _put(v, done):
        with v:
            for n in range(3 * TestPutsKeptBack.KEYS):
                v[f'k{n % TestPutsKeptBack.KEYS}'] = n
                done.append((f'k{n % TestPutsKeptBack.KEYS}', n))

    def test_a_signal_handler_as_an_inner_block_is_undone_puts_all_or_nothing(self, v):
        def act():
            with v:
                for n in range(4):
                    v['outer', n] = n
                for name in 'ab':
                    with contextlib.suppress(ZeroDivisionError), v:
                        for n in range(4):
                            v[name, n] = n
                        1 / 0
                done.append(1)

        def handler():
            for n in range(9):
                v['handler', n] = n
        at, goes_on = 0, True
        while goes_on:
            at += 1
            v.clear()
            done = []
            goes_on = self._interrupted(v, at, done, handler, act)
            assert done == [1] and not is_in_transaction(v)
            found = list(Vault('test'))
            assert len([key for key in found if key[0] == 'handler']) in ((0, 9) if goes_on else (0,)), at
            assert [key for key in found if key[0] != 'handler'] == [('outer', n) for n in range(4)], at
        assert at > 300

    @pytest.mark.parametrize('depth', [0, 1])
    def test_a_disk_that_fails_as_a_block_is_undone_leaves_none_open(self, v, monkeypatch, depth):
        """Nobody knows the frame of a stack: what waits is written before it is known which block ends."""
        def failing(*arguments):
            raise driver.DriverError('disk I/O error')
        with pytest.raises(KeyError), contextlib.ExitStack() as stack:
            stack.enter_context(v)
            for _ in range(depth):
                stack.enter_context(v.transaction())
            for n in range(4):
                v[n] = n
            monkeypatch.setattr(batch, 'entry_crcs', failing)
            raise KeyError
        monkeypatch.undo()
        v['after'] = 2
        assert v.items() == Vault('test').items() == [('after', 2)]

    def test_what_waits_is_written_in_few_statements_and_found_by_all(self, v, monkeypatch):
        written = []
        real = batch._put_rows
        monkeypatch.setattr(batch, '_put_rows', lambda c, rows: (written.append(len(rows)), real(c, rows)))
        with v:
            for n in range(12):
                v[n] = n
            assert len(v) == 12 and v[11] == 11 and written[:2] == [4, 4]
            v[12] = 12
            v.popitem()
            with contextlib.suppress(ZeroDivisionError), v:
                for n in range(20, 30):
                    v[n] = n
                1 / 0
            assert list(v) == list(range(12))
            for n in range(12, 20):
                v[n] = n
        assert list(Vault('test')) == list(range(20))
        with contextlib.suppress(ZeroDivisionError), v:
            for n in range(7):
                v[n] = 'undone'
            1 / 0
        assert Vault('test').values() == list(range(20)) == v.values()

    def test_keys_in_no_order_are_put_by_few_in_a_statement(self, v, monkeypatch):
        found, real = [], type(raw_of(v)).many
        monkeypatch.setattr(batch, 'MOST_ROWS', 64)
        monkeypatch.setattr(type(raw_of(v)), 'many', lambda raw, sql, rows: (
            found.append(sql.count('?') // 3), real(raw, sql, rows)))
        keys = [f'{n:03}' for n in range(64)]
        for given, rows in ((keys, [64]), (keys[::-1], [8]), ([*keys[:63], 1], [8]), (keys[:9], [8, 1])):
            v.update(dict.fromkeys(given, 0))
            assert found == rows
            found.clear()

    def test_who_reads_what_it_has_put_is_not_slowed_by_it(self, v, monkeypatch):
        monkeypatch.setattr(batch, 'MANY_PUTS', 64)
        begun = []
        real = batch.WaitingPuts.begun
        monkeypatch.setattr(batch.WaitingPuts, 'begun', lambda self, c: (begun.append(1), real(self, c))[1])
        with v:
            for _ in range(200):
                v['count'] = v.get('count', 0) + 1
        assert v['count'] == 200 and len(begun) <= 4

    def test_an_error_as_it_is_written_undoes_the_block_and_no_more(self, v, monkeypatch):
        v['before'] = 1
        with pytest.raises(vaults.VaultFullError), v:
            for n in range(3):
                v[n] = n
            real = schema.entry_crcs

            def failing(*arguments):
                raise driver.DriverError('disk I/O error')
            monkeypatch.setattr(batch, 'entry_crcs', failing)
            for n in range(20):
                v[n] = n
        monkeypatch.setattr(batch, 'entry_crcs', real)
        v['after'] = 2
        assert v.items() == [('before', 1), ('after', 2)]

    def test_another_thread_sees_nothing_before_the_end_and_puts_its_own(self, v):
        with v:
            for n in range(7):
                v[n] = n
            assert in_thread(lambda: list(v)) == []
        assert in_thread(lambda: [v.put(n, 'of a thread') for n in range(7, 9)] and list(v)) == list(range(9))

    @needs_posix
    def test_a_forked_child_keeps_nothing_of_the_block(self, root):
        v = Vault('test', timeout=.2)
        with v:
            for n in range(7):
                v[n] = n
            held = connection_of(v)  # as a frame does that is on its way when a signal handler forks
            said = in_child(lambda: v.put('child', 1)).answer()  # it is the parent's turn
            assert said.startswith('VaultBusyError') and held is connection_of(v)
            v[7] = 7
        in_child(lambda: v.put(8, 8)).answer()
        assert list(Vault('test')) == list(range(9))

    def test_a_vault_and_a_connection_that_nobody_holds_close_at_once(self, v):
        w = Vault('other')
        with w:
            for n in range(7):
                w[n] = n
        gone = weakref.ref(engine_of(w))
        gc.disable()
        try:
            del w
            assert gone() is None
        finally:
            gc.enable()
