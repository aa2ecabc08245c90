"""What is kept in chunks, as several files look at it: a list beside a list, small leaves, chunks that were planted."""
from __future__ import annotations

import contextlib
import sqlite3
import struct

import pytest
from hypothesis import strategies as st

from vaults import Vault
from vaults.collections import stream as streams
from vaults.collections import tree

from .internals import engine_of
from .samples import as_ext

places = st.integers(-70, 70)
cuts = st.builds(slice, st.none() | places, st.none() | places, st.sampled_from([None, None, None, 1, 2, -1, -3]))
changes = st.lists(st.one_of(
    st.tuples(st.just('extend'), st.integers(0, 45)), st.tuples(st.just('append')), st.tuples(st.just('pop')),
    st.tuples(st.just('pop'), places), st.tuples(st.just('pop'), st.just(0)), st.tuples(st.just('insert'), places),
    st.tuples(st.just('__delitem__'), cuts | places), st.tuples(st.just('__setitem__'), places),
    st.tuples(st.just('assign'), cuts, st.integers(0, 30)), st.tuples(st.sampled_from(['reverse', 'sort', 'clear', 'reopen'])),
    st.tuples(st.sampled_from(['begin', 'commit', 'rollback']))), max_size=20)


class TwoLists:
    """A live list or column, and a list beside it to which the same is done."""

    def __init__(self, path, make, items):
        self.path, self.make, self.items = path, make, items
        self.v, self.plain, self.saved = Vault(path), [], []
        self.live = make(self.v)
        assert not len(self.live) and not self.live

    def do(self, name, *arguments):
        if name in ('begin', 'commit', 'rollback', 'reopen'):
            getattr(self, name)()
            return
        if name == 'assign':
            arguments = (arguments[0], [next(self.items) for _ in range(arguments[1])])
            name = '__setitem__'
        elif name == 'extend':
            arguments = ([next(self.items) for _ in range(arguments[0])],)
        elif name in ('append', 'insert', '__setitem__'):
            arguments = (*arguments, next(self.items))
        self.both(lambda one: getattr(one, name)(*arguments))

    def both(self, act):
        results = []
        for one in (self.plain, self.live):
            try:
                results.append(act(one))
            except (IndexError, ValueError) as error:
                results.append(type(error))
        assert results[0] == results[1]

    def begin(self):
        self.v.__enter__()
        self.saved.append(list(self.plain))

    def commit(self):
        if self.saved:
            self.v.__exit__(None, None, None)
            self.saved.pop()

    def rollback(self):
        if self.saved:
            self.v.__exit__(ValueError, ValueError(), None)
            self.plain = self.saved.pop()
            if not self.saved:
                self.same()

    def reopen(self):
        if not self.saved:
            self.v.close()
            self.v = Vault(self.path)
            self.live = self.v['one']

    def same(self):
        plain, live = self.plain, self.live
        assert len(live) == len(plain) and bool(live) == bool(plain) and live == plain
        assert list(live) == plain and list(reversed(live)) == plain[::-1] and live.tolist() == plain
        for at in range(-len(plain), len(plain), 7):
            assert live[at] == plain[at]
        for where in (slice(3, 20), slice(None, None, 3), slice(None, 2, -2), slice(-5, None), slice(9, 4)):
            found = live[where]
            assert len(found) == len(plain[where])
            if getattr(found, 'ndim', 1) == 1:  # memoryview cannot walk over more
                assert list(found) == plain[where]
        with pytest.raises(IndexError):
            live[len(plain)]

    def end(self):
        while self.saved:
            self.commit()
        self.same()
        header = tree.Header.of(self.v._store.get('one'))
        assert sorted(tree.Tree(self.v._store, header).numbers()) == list(self.v._store.chunk_numbers(header.owner))
        self.v._check()
        del self.v['one']
        assert chunk_count(self.v) == 0
        self.v.close()


def planted(*header, chunks=()):
    """Return a vault in memory with a header of these fields at 'k', and chunks, all with sound checksums."""
    owner = b'\0\0\0\1hostile!'
    v = Vault(':memory:')
    v._store.put_owner('k', as_ext(header[0], [*header[1:], owner]))
    v._store.put_chunks(owner, list(enumerate(chunks, 1)))
    return v


def a_node(*children):
    return b''.join(struct.pack('<QQ', *child) for child in children)


BIG = bytes(range(256)) * 12  # with leaves of 64 bytes, 48 of them: three levels of nodes of 4


@pytest.fixture
def small_leaves(monkeypatch):
    for module, name, value in ((streams, 'STREAM_LEAF', 64), (streams, 'SMALL', 40), (streams, 'KEPT_LEAVES', 3), (tree, 'FANOUT', 4)):
        monkeypatch.setattr(module, name, value)


def chunk_count(vault):
    """Return how many chunks there are: of a file by a look into it, else by the word of the store."""
    store = engine_of(vault)
    if store.describe()['engine'] != 'sqlite':
        return sum(len([*store.chunk_numbers(owner)]) for owner in store.chunk_owners())
    with contextlib.closing(sqlite3.connect(f'file:{store.files[0]}?mode=ro', uri=True)) as raw:
        try:
            return raw.execute('SELECT count(*) FROM parts').fetchone()[0]
        except sqlite3.OperationalError as error:
            assert 'no such table' in str(error)
            return 0


def filled_stream(vault, key, data=BIG):
    with vault.open(key, 'wb') as file:
        file.write(data)
