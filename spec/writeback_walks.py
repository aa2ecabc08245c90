"""Walks in write-back mode: what they meet are live objects, of more than the cache holds as well."""
from __future__ import annotations

import contextlib
import itertools

import pytest

from vaults import Vault
from vaults.stores import journal

from .internals import calls_of


class WriteBackWalks:
    """Of `TestWriteBack`, which derives from it: walks, and what is done meanwhile."""


    @pytest.mark.parametrize('size', [3, 40, 400])
    def test_walking_gives_live_objects_also_of_more_than_the_cache_holds(self, root, size):
        Vault('test').update({n: [n] for n in range(50)})
        w = Vault('test', writeback=True, cache_size=size)
        for n, value in w.items():
            value.append(n)
            if n in (3, 4, 5, 8, 9):
                w[n + 1] = ['assigned']
            if n == 10:
                del w[30]
                w[30] = ['again']
                w[40] = ['assigned']
                w['late'] = 1
                del w[20]
        for value in w.values():
            if isinstance(value, list):
                value.append('seen')
        w.close()
        expected = {n: ['assigned' if n in (4, 5, 6, 9, 10) else n, n, 'seen'] for n in range(50) if n != 20}
        assert dict(Vault('test').items()) == {**expected, 30: ['again', 'seen'], 40: ['assigned', 40, 'seen'], 'late': 1}

    @pytest.mark.parametrize('value', [{'n': 300, 'text': 'a'}, [1, 'a'], 5])
    def test_a_walk_over_more_than_the_cache_holds_takes_few_calls_more_than_without_it(self, root, value):
        v = Vault('test')
        v.update((str(n), value) for n in range(4000))
        w = Vault('test', writeback=True, cache_size=400)
        for vault in (v, w):
            assert len(vault.values()) == sum(1 for _ in vault.items())
        plain, live = (calls_of(lambda vault=vault: [None for _ in vault.items()]) for vault in (v, w))
        assert live < plain + 2.5 * 4000 and len(w._store.cache.live) <= 400

    def test_a_walk_that_changes_what_it_meets_finds_the_rest_of_its_page_up_to_date(self, root):
        Vault('test').update((n, {'n': n}) for n in range(2000))
        w = Vault('test', writeback=True, cache_size=80)

        def change():
            for value in w.values():
                value['n'] += 1
        change()
        assert calls_of(change) < 70 * 2000  # with each read alone, 85
        w.close()
        assert Vault('test').values() == [{'n': n + 2} for n in range(2000)]

    @pytest.mark.parametrize('rewritten', [1, 50, 10_000])
    def test_a_walk_meets_what_it_made_leave_the_cache_after_its_page_was_read(self, root, monkeypatch, rewritten):
        monkeypatch.setattr(journal, 'REWRITTEN', rewritten)
        Vault('test').update((n, [n]) for n in range(2000))
        w = Vault('test', writeback=True, cache_size=80)
        walk = iter(w.items())
        met = dict(itertools.islice(walk, 500))
        for n in range(500, 2000, 3):
            w[n].append('changed')
        for n in range(200):
            assert w[n] == [n]  # for which those leave
        met.update(walk)
        assert met == {n: [n] if n < 500 or (n - 500) % 3 else [n, 'changed'] for n in range(2000)}

    def test_what_changes_among_many_is_written_when_it_leaves_the_cache_whatever_it_packs_to(self, root):
        for count in (3, 16, 300):
            w = Vault(f'test{count}', writeback=True, cache_size=count)
            w.update((n, {'n': n + 200, 'data': b'x'}) for n in range(count))
            w.update((n, [b'y', n]) for n in range(count, 2 * count))
            for value in w.values():
                if type(value) is dict and value['n'] % 3 == 0:
                    value['data'] = bytearray(b'x')  # which msgpack packs as it does bytes
            w.close()
            kinds = [type(value['data']) for value in Vault(f'test{count}').values()[:count]]
            assert kinds == [bytes if (n + 200) % 3 else bytearray for n in range(count)]

    def test_a_type_that_packs_as_another_is_seen_in_what_a_walk_lets_go_of(self, root):
        for kept, data in itertools.product([1, 50_372, 3.141592653589793, b'a'], [b'', b'x']):
            Vault('test').update((n, [kept, data]) for n in range(400))
            w = Vault('test', writeback=True, cache_size=80)
            for value in w.values():
                value[1] = bytearray(value[1])  # which msgpack packs as it does bytes
            w.close()
            assert {type(value[1]) for value in Vault('test').values()} == {bytearray}

    def test_what_is_packed_to_make_room_may_put_what_is_being_loaded(self, root):
        Vault('test').update({n: ['old', n] for n in range(40)})
        w = Vault('test', writeback=True, cache_size=8)

        class Setting:
            def __reduce__(self):
                w[20] = ['new']
                return int, (1,)
        w['setting'] = Setting()
        assert [w[key] for key in range(7)] and 20 not in w._store.cache.live
        assert w[20] == ['new']  # for which the other leaves the cache
        w.close()
        assert Vault('test')[20] == ['new']

    @pytest.mark.parametrize('act', ['update', 'delete', 'slice', 'assign', 'sync', 'rollback'])
    def test_walking_meets_what_is_written_meanwhile(self, root, act):
        w, other = Vault('test', writeback=True, cache_size=3), Vault('test')
        w.update({n: [n] for n in range(40)})

        def rollback():
            with pytest.raises(ValueError), w:
                w.update({36: ['undone']})
                for key, value in walk:
                    found[key] = value
                    if key == 33:  # of the second page, which was read in the block
                        raise ValueError

        def sync():
            other[30] = ['new']
            w.sync()

        def assign():
            w[30] = ['new']
            w[100], w[101], w[102], w[103] = [0], [0], [0], [0]
        acts = {'update': lambda: w.update({30: ['new']}), 'delete': lambda: w.__delitem__(30),
                'slice': lambda: w.__delitem__(slice(30, 31)), 'assign': assign, 'sync': sync, 'rollback': rollback}
        walk = iter(w.items())
        found = dict([next(walk)])
        acts[act]()
        found.update(walk)
        left = {'delete': {}, 'slice': {}, 'rollback': {30: [30], 36: [36]}}.get(act, {30: ['new']})
        assert {key: value for key, value in found.items() if key in (30, 36)} == {36: [36], **left}
        w.sync()
        assert dict(w.items()) == dict(other.items())

    @pytest.mark.parametrize('rewritten', [1, 50, 10_000])
    def test_what_two_walks_meet_are_the_same_objects(self, root, monkeypatch, rewritten):
        monkeypatch.setattr(journal, 'REWRITTEN', rewritten)
        Vault('test').update({n: [n] for n in range(300)})
        w = Vault('test', writeback=True, cache_size=80)
        for (key, value), (_, again) in zip(w.items(), w.items()):
            value.append('one')
            again.append('two')
            assert value is again and w[key] is value
        w.close()
        assert Vault('test').items() == [(n, [n, 'one', 'two']) for n in range(300)]

    def test_what_a_walk_has_met_is_live_whatever_is_asked_of_it_next(self, root):
        def block(d):
            with contextlib.suppress(ZeroDivisionError), d if isinstance(d, Vault) else contextlib.nullcontext():
                d[5].append('undone') if isinstance(d, Vault) else None
                raise ZeroDivisionError
        asked = [lambda d: d[5].append('got'), lambda d: d.pop(5), lambda d: d.update({5: 'new', 1000: 1}),
                 lambda d: d.__setitem__(5, 'new'), lambda d: d.__delitem__(5), lambda d: d.clear(),
                 lambda d: d.setdefault(5, []).append('got'), lambda d: d.popitem(), len, list, block,
                 lambda d: 5 in d and d.__delitem__(5), lambda d: [value.append(0) for value in d.values()]]
        for number, ask in enumerate(asked):
            plain = {n: [n] for n in range(100)}
            Vault(f'test{number}').update(plain)
            w = Vault(f'test{number}', writeback=True, cache_size=400)
            for d in (plain, w):
                for value in d.values():
                    value.append('met')
            assert w._store._cache.groups
            ask(plain), ask(w)
            assert dict(w.items()) == plain
            w.close()
            assert dict(Vault(f'test{number}').items()) == plain

    def test_a_look_at_a_vault_on_a_walk_shows_its_objects(self, root):
        Vault('test').update({n: [n] for n in range(9)})
        w = Vault('test', writeback=True)
        for value in w.values():
            value.append('met')
        groups = list(w._store._cache.groups)
        assert groups and w._repr_html_().count('met') == 9 and list(w._store._cache.groups) == groups

    @pytest.mark.parametrize('changes', [False, True])
    def test_a_walk_keeps_no_more_than_the_cache_holds(self, root, changes):
        Vault('test').update({n: {'n': n} for n in range(500)})
        for size in (1, 3, 9, 64):
            w = Vault('test', writeback=True, cache_size=size)
            w.update({n: {'n': n} for n in range(size)})
            for value in w.values():
                if changes:
                    value['n'] += 1
                cache = w._store._cache
                assert 0 < len(cache.live) + sum(map(len, cache.groups)) <= size
            w.close()

    def test_what_is_packed_to_let_go_of_what_a_walk_has_met_may_use_the_vault(self, root):
        Vault('test').update({n: [n] for n in range(300)})
        w = Vault('test', writeback=True, cache_size=64)

        class Reading:
            def __reduce__(self):
                return int, (sum(w[n][0] for n in range(200)) + len(w),)
        for key, value in w.items():
            value.append(Reading() if key == 7 else 'met')
        w.close()
        met = {n: [n, 'met'] for n in range(300)}
        assert dict(Vault('test').items()) == {**met, 7: [7, sum(range(200)) + 300]}

    def test_walking_meets_what_was_let_go_of_or_became_a_list_meanwhile(self, root):
        w = Vault('test', writeback=True, cache_size=80)
        w.list('list').append('x')
        w.update({n: [n] for n in range(60)})
        for key, value in w.items():
            if key == 20:
                w[22], w[24] = w['list'], ['new']
                w.update({1000 + n: [n] for n in range(90)})  # what the walk has loaded ahead leaves the cache
            if key != 'list' and key < 60:
                value.append('seen')
        w.close()
        found = Vault('test')
        assert found[24] == ['new', 'seen'] and found[22] == ['x'] and len(found) == 151
        assert all(found[n] == [n, 'seen'] for n in range(60) if n not in (20, 22, 24))  # that of 20 left the cache in our hands
