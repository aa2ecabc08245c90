"""The state machines of Hypothesis that hold a vault against a dict."""
from __future__ import annotations

import collections
import pathlib
import shutil
import tempfile

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from vaults import Vault


class DictMachine(RuleBasedStateMachine):
    """A vault and a dict do the same, whatever is done."""

    key = st.one_of(st.integers(-3, 9), st.sampled_from(['a', 'b', 'ab', (1, 'a'), (1.0, 'a'), ('a', 1), ('a', 'b'), ('a',), (),
                                                         ((),), True, 2.0, b'a', None]))
    options = {}

    @initialize()
    def start(self):
        self.folder = tempfile.mkdtemp()
        self.path = pathlib.Path(self.folder, 'v.db')
        self.v, self.d, self.saved = Vault(self.path, **self.options), collections.OrderedDict(), []

    def both(self, act):
        results = []
        for mapping in (self.v, self.d):
            try:
                results.append(act(mapping))
            except (KeyError, TypeError, ValueError) as error:
                results.append(KeyError if isinstance(error, KeyError) else type(error))
        assert results[0] == results[1]

    @rule(key=key, value=st.integers() | st.text())
    def set(self, key, value):
        self.both(lambda m: m.__setitem__(key, value))

    @rule(key=key)
    def read(self, key):
        self.both(lambda m: (m.get(key, 'no'), key in m, m.get(key)))
        self.both(lambda m: m[key])

    @rule(key=key)
    def delete(self, key):
        self.both(lambda m: m.__delitem__(key))

    @rule(key=key, default=st.sampled_from([(), ('d',)]))
    def pop(self, key, default):
        self.both(lambda m: m.pop(key, *default))

    @rule(last=st.booleans())
    def popitem(self, last):
        self.both(lambda m: m.popitem(last))

    @rule(key=key, last=st.booleans())
    def move_to_end(self, key, last):
        self.both(lambda m: m.move_to_end(key, last=last))

    @rule(key=key, value=st.integers())
    def setdefault(self, key, value):
        self.both(lambda m: m.setdefault(key, value))

    @rule(pairs=st.lists(st.tuples(key, st.integers()), max_size=5))
    def update(self, pairs):
        self.both(lambda m: m.update(pairs))

    @rule(low=st.integers(-3, 9), high=st.integers(-3, 9))
    def delete_slice(self, low, high):
        inside = [key for key in self.d if isinstance(key, (int, float)) and low <= key < high]
        assert list(self.v[low:high]) == sorted(inside)
        assert len(self.v[low:high]) == len(inside)
        del self.v[low:high]
        for key in inside:
            del self.d[key]

    @rule()
    def clear(self):
        self.both(lambda m: m.clear())

    @precondition(lambda self: len(self.saved) < 3)
    @rule()
    def begin(self):
        self.v.__enter__()
        self.saved.append(self.d.copy())

    @precondition(lambda self: self.saved)
    @rule()
    def commit(self):
        self.v.__exit__(None, None, None)
        self.saved.pop()

    @precondition(lambda self: self.saved)
    @rule()
    def roll_back(self):
        self.v.__exit__(ValueError, ValueError(), None)
        self.d = self.saved.pop()

    @precondition(lambda self: not self.saved)
    @rule(compact=st.booleans())
    def reopen(self, compact):
        if compact:
            self.v.compact()
        self.v.close()
        self.v = Vault(self.path, **self.options)

    @invariant()
    def same(self):
        if hasattr(self, 'v'):
            assert list(self.v.items()) == list(self.d.items())
            assert [*map(repr, self.v)] == [*map(repr, (key if key != (1, 'a') else (1, 'a') for key in self.d))]
            assert len(self.v) == len(self.d) and self.v == self.d and bool(self.v) == bool(self.d)

    def teardown(self):
        if hasattr(self, 'v'):
            while self.saved:
                self.commit()
            self.v._check()
            self.v.close()
            shutil.rmtree(self.folder)
