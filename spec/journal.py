"""The journal of write-back: live entries against a dict with savepoints, by random operations, some of which fail.

And what write-back meets between two of its steps: signal handlers, its end, forks.
"""
from __future__ import annotations

import contextlib
import copy
import gc
import itertools
import os
import sys

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import vaults
from vaults import Vault
from vaults.codecs import packing, pickles
from vaults.stores.dictionary import DictionaryStore
from vaults.stores.live import LiveEntries
from vaults.stores.sqlite import opening
from vaults.stores.writeback import LiveStore

from .helpers import needs_fork, run

_KEYS = st.sampled_from('abcdefghijklmnop')
_VALUES = st.one_of(st.integers(0, 9), st.lists(st.integers(0, 9), max_size=2))
_ASKS = st.sampled_from([None, 'read', 'read_bytes', 'delete'])
_STORES = {'dict': DictionaryStore, 'sqlite': lambda: opening.open_store(':memory:')}


class _Failed(Exception):
    """What a call is made to fail by."""


def _refuse(key, value):
    if value == 'refused':
        raise ValueError('refused')


class LiveMachine(RuleBasedStateMachine):
    """A live store does what a dict of objects with savepoints does."""

    @initialize(kind=st.sampled_from(sorted(_STORES)), size=st.sampled_from([1, 2, 5, 9, 30]), count=st.integers(0, 16))
    def start(self, kind, size, count):
        self.inner, stored = _STORES[kind](), [(key, [n % 10]) for n, key in enumerate('abcdefghijklmnop'[:count])]
        self.inner.put_many((key, vaults.dumps(value)) for key, value in stored)
        self.store = LiveStore(self.inner, packing.Codec(pickles.Refusing()), 'test', size, 5.0)
        self.entries = LiveEntries(self.store, {(): _refuse})
        self.model, self.saved, self.walks = dict(stored), [], []

    def value(self, key):
        found = self.entries.get(key)
        assert found is None or type(found) is tuple
        return None if found is None else found[0]

    # --- what a vault does ---

    @rule(key=_KEYS)
    def read(self, key):
        assert self.value(key) == self.model.get(key)

    @rule(key=_KEYS)
    def read_bytes(self, key):
        data = self.store.get(key)
        assert (None if data is None else vaults.loads(data)) == self.model.get(key)

    @rule(key=_KEYS, value=_VALUES)
    def put(self, key, value):
        self.entries.put(key, copy.copy(value))
        self.model[key] = copy.copy(value)

    @rule(key=_KEYS, number=st.integers(0, 9))
    def change(self, key, number):
        value = self.value(key)
        if isinstance(value, list) and len(value) < 4:
            value.append(number)
            self.model[key].append(number)

    @rule(key=_KEYS)
    def delete(self, key):
        assert self.store.delete(key) == (key in self.model)
        self.model.pop(key, None)

    @rule(low=_KEYS, high=_KEYS)
    def delete_range(self, low, high):
        self.store.delete_range(low, high)
        for key in [key for key in self.model if low <= key < high]:
            del self.model[key]

    @rule(pairs=st.lists(st.tuples(_KEYS, _VALUES), max_size=4))
    def put_many(self, pairs):
        assert self.entries.put_many((key, copy.copy(value)) for key, value in pairs) == len(pairs)
        self.model.update((key, copy.copy(value)) for key, value in pairs)

    @rule(pairs=st.lists(st.tuples(_KEYS, _VALUES), max_size=4))
    def put_many_bytes(self, pairs):
        self.store.put_many((key, vaults.dumps(value)) for key, value in pairs)
        self.model.update((key, copy.copy(value)) for key, value in pairs)

    # --- walks, of which several may be open ---

    @rule(reverse=st.booleans(), steps=st.integers(0, 16), number=st.integers(0, 9), ask=_ASKS)
    def walk(self, reverse, steps, number, ask):
        walk = ((key, value) for keys, met, _ in self.entries.scan(reverse=reverse)
                for key, value in zip(keys, met.values()))
        self.walks = [walk, *self.walks[:2]]
        self.go_on(walk, steps, number, ask)

    @precondition(lambda self: self.walks)
    @rule(which=st.integers(0, 2), steps=st.integers(1, 4), number=st.integers(0, 9), ask=_ASKS)
    def step(self, which, steps, number, ask):
        self.go_on(self.walks[which % len(self.walks)], steps, number, ask)

    def go_on(self, walk, steps, number, ask):
        key = 'a'
        try:
            for key, value in itertools.islice(walk, steps):
                if key in self.model:  # else it was deleted since the page was read
                    assert value == self.model[key]
                    if isinstance(value, list) and len(value) < 4:
                        value.append(number)
                        self.model[key].append(number)
                    assert self.store.held(key)[0] is value
        except vaults.VaultError as error:
            assert 'rolled back' in str(error) or 'undone' in str(error), error
            self.walks.remove(walk)
        if ask:
            getattr(self, ask)(key)

    # --- calls that fail ---

    @rule(pairs=st.lists(st.tuples(_KEYS, _VALUES), max_size=4), read=_KEYS, live=st.booleans())
    def put_many_fails(self, pairs, read, live):
        def failing():
            for key, value in pairs:
                yield key, copy.copy(value) if live else vaults.dumps(value)
                self.entries.get(read)
                self.entries.put(read, 'lost')
                self.entries.get(key)
            raise _Failed
        before = self.value(read)
        if before is None and read in self.model:
            return
        self.store.flush()
        with pytest.raises(_Failed):
            (self.entries if live else self.store).put_many(failing())

    @rule(keys=st.lists(_KEYS, max_size=3), to_put=_KEYS, fails=st.booleans())
    def transact(self, keys, to_put, fails):
        def operation():
            for key in keys:
                self.entries.get(key)
                self.store.delete(key)
            self.entries.put(to_put, [5])
            if fails:
                raise _Failed
        if fails:
            with pytest.raises(_Failed):
                self.store.transact(operation)
            return
        self.store.transact(operation)
        for key in keys:
            self.model.pop(key, None)
        self.model[to_put] = [5]

    @rule(to_delete=_KEYS, to_put=_KEYS)
    def transact_with_what_cannot_be_stored(self, to_delete, to_put):
        def operation():
            self.store.delete(to_delete)
            self.entries.put(to_put, lambda: 0)
        with pytest.raises(vaults.VaultError):
            self.store.transact(operation)

    # --- blocks ---

    @precondition(lambda self: len(self.saved) < 3)
    @rule()
    def begin(self):
        self.store.begin()
        self.saved.append(copy.deepcopy(self.model))

    @precondition(lambda self: self.saved)
    @rule()
    def commit(self):
        self.store.commit()
        self.saved.pop()

    @precondition(lambda self: self.saved)
    @rule()
    def rollback(self):
        self.store.rollback()
        self.model = self.saved.pop()

    @precondition(lambda self: self.saved)
    @rule(key=_KEYS, bad=st.booleans())
    def commit_fails(self, key, bad):
        self.entries.put(key, (lambda: 0) if bad else 'refused')
        with pytest.raises((vaults.SerializationError, vaults.UntrustedPickleError), match='undone'):
            self.store.commit()
        self.model = self.saved.pop()

    # --- others ---

    @precondition(lambda self: not self.saved)
    @rule(key=_KEYS, value=_VALUES)
    def others_write(self, key, value):
        self.store.flush()
        self.inner.put(key, vaults.dumps(value))
        self.inner.others_wrote = lambda: True
        self.store.flush()
        del self.inner.others_wrote
        self.model[key] = copy.copy(value)

    @precondition(lambda self: not self.saved and not self.store._cache.dirty)
    @rule(key=_KEYS, last=st.booleans())
    def others_move(self, key, last):
        if self.inner.move(key, last):
            moved = {key: self.model.pop(key)}
            self.model = {**self.model, **moved} if last else {**moved, **self.model}

    @rule()
    def write(self):
        self.store.flush()
        assert self.stored() == list(self.model.items())

    def stored(self):
        return [(key, vaults.loads(data)) for page, datas, _ in self.inner.scan() for key, data in zip(page, datas)]

    @rule()
    def count(self):
        assert self.store.count() == len(self.model)
        assert [key for page, _, _ in self.store.scan(values=False) for key in page] == list(self.model)

    @invariant()
    def sound(self):
        if hasattr(self, 'store'):
            cache = self.store._cache
            assert (cache.journal is None) == (not self.saved) and set(cache.dirty) <= set(cache.live)
            assert {key for key, entry in cache.live.items() if entry[1] is None} <= set(cache.dirty)
            kept = [*cache.live.items(), *((key, entry) for group in cache.groups for key, entry in zip(group.keys, group))]
            assert len({key for key, _ in kept}) == len(kept)
            assert all(self.model[key] == entry[0] and self.store.held(key)[0] is entry[0] for key, entry in kept)

    def teardown(self):
        if hasattr(self, 'store'):
            while self.saved:
                self.commit()
            self.store.flush()
            assert self.stored() == list(self.model.items())
            self.store.close()


TestLiveEntriesAsADictWithSavepoints = LiveMachine.TestCase
TestLiveEntriesAsADictWithSavepoints.settings = settings(max_examples=250, stateful_step_count=40, deadline=None,
                                                         suppress_health_check=list(HealthCheck))


class TestWriteBackWhatComesBetween:
    """A signal handler, the end of the vault, a fork: what write-back meets between two of its steps."""

    @pytest.mark.parametrize('act', ['sync', 'block', 'block that fails', 'put in a block', 'pop', 'walk'])
    def test_a_signal_handler_may_put_wherever_it_comes(self, root, act):
        rooms = tuple(os.path.join(os.path.dirname(vaults.__file__), 'stores', room)
                      for room in ('writeback.py', 'changes.py', 'journal.py'))

        def in_block(w, fails=False):
            with contextlib.suppress(ZeroDivisionError), w:
                w['a'].append(2)
                w.update(new=[1], c=[1])
                assert not fails or 1 / 0
        acts = {'sync': lambda w: w.sync(), 'block': in_block, 'block that fails': lambda w: in_block(w, True),
                'put in a block': lambda w: w.update((key, [key]) for key in 'abz'), 'pop': lambda w: w.pop('b'),
                'walk': lambda w: dict(w.items())}

        def trace(frame, event, argument):
            if not frame.f_code.co_filename.startswith(rooms) or frame.f_code.co_name == 'wrote':
                return None  # in that one no call stands between some lines: Python looks at signals in calls and loops
            left[0] -= event == 'line'
            if left[0] == 0:
                left[0] = -1
                w.update({f'handler {n}': [n] for n in range(3)})
                w['handler'] = ['last']
            return trace
        for at in itertools.count(1, 4):
            w, left = Vault(f'{at}', writeback=True, cache_size=6), [at]
            w.update({key: [key] for key in 'abcdef'})
            w['a'].append(1)
            w['b'], w['z'] = ['set'], ['new']
            before = sys.gettrace()
            try:
                sys.settrace(trace)
                acts[act](w)
            finally:
                sys.settrace(before)
            w['after'] = [1]
            w.sync()
            w._check()
            held = dict(w.items())
            w.close()
            assert dict(Vault(f'{at}').items()) == held and held['after'] == [1] and held['z'][0] in ('new', 'z')
            if left[0] > 0:
                break
            assert 'block' in act or held['handler'] == ['last']
        assert at > 12

    def test_a_list_that_is_popped_in_a_block_keeps_no_connection_when_it_closes(self, root):
        w = Vault('test', writeback=True)
        other = Vault('test', timeout=0.0)
        gc.disable()
        try:
            w.__enter__()
            w.list('list').append(1)
            w.pop('list')
            w.close()
            other['k'] = 1
        finally:
            gc.enable()
        assert other.items() == [('k', 1)]

    @needs_fork
    def test_a_vault_that_is_closed_is_nothing_to_a_process_of_multiprocessing(self, root):
        done = run(f"""if True:
            import multiprocessing, multiprocessing.util, pathlib, vaults
            v = vaults.Vault(pathlib.Path({str(root / 'closed.db')!r}), writeback=True)
            v['a'] = 1
            v.close()
            child = multiprocessing.get_context('fork').Process(target=print, args=('child',))
            child.start()
            child.join()
            print(child.exitcode)""")
        assert done.stdout.split() == ['child', '0'] and not done.stderr
