"""The contract of a store: one suite for each of them."""
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import vaults
from vaults import keys
from vaults.codecs import values
from vaults.stores.base import Store
from vaults.stores.sqlite import store as sqlite
from vaults.writeback import LiveStore


class DictStore(Store):
    """The oracle of the conformance suite: the contract, met in the plainest way."""

    def __init__(self):
        self.entries, self.parts, self.owners, self.saved, self.given = {}, {}, {}, [], 0

    def get(self, key):
        return self.entries[key][1] if key in self.entries else None

    def contains(self, key):
        return key in self.entries

    def put(self, key, data):
        if key not in self.entries:
            self.given += 1
        self.entries[key] = (self.entries.get(key, (self.given,))[0], data)
        self.disown(key)

    def put_owner(self, key, data):
        before = self.owners.pop(key, data[-12:])
        self.put(key, data)
        self.owners[key] = data[-12:]
        if before != data[-12:]:
            self.delete_parts(before)

    def disown(self, key):
        if key in self.owners:
            self.delete_parts(self.owners.pop(key))

    def get_part(self, owner, number):
        return self.parts.get((owner, number))

    def put_parts(self, owner, parts):
        self.parts.update({(owner, number): data for number, data in parts})

    def delete_parts(self, owner, numbers=None):
        self.parts = {(one, number): data for (one, number), data in self.parts.items()
                      if one != owner or (numbers is not None and number not in numbers)}

    def part_numbers(self, owner=None):
        return iter(sorted({number if owner else one for one, number in self.parts if owner in (None, one)}))

    def put_many(self, pairs):
        pairs = list(pairs)
        for pair in pairs:
            self.put(*pair)
        return len(pairs)

    def delete(self, key):
        self.deletions += 1
        self.disown(key)
        return self.entries.pop(key, None) is not None

    def move(self, key, last=True):
        if key not in self.entries:
            return False
        self.deletions += 1
        self.given += 1
        moved = {old: (self.given, data) for old, (_, data) in self.entries.items() if old == key}
        others = {old: entry for old, entry in self.entries.items() if old != key}
        self.entries = {**others, **moved} if last else {**moved, **others}
        return True

    def inside(self, low, high):
        return [key for key in sorted(self.entries, key=keys.order) if keys.order(low) <= keys.order(key) < keys.order(high)]

    def delete_range(self, low=keys.LOWEST, high=keys.HIGHEST):
        return sum(self.delete(key) for key in self.inside(low, high))

    def count(self, low=keys.LOWEST, high=keys.HIGHEST):
        return len(self.inside(low, high))

    def scan(self, low=keys.LOWEST, high=keys.HIGHEST, *, by_key=False, reverse=False, values=True):
        found = self.inside(low, high)
        found = found if by_key else [key for key in self.entries if key in found]
        found = found[::-1] if reverse else found
        if found:
            yield found, [self.entries[key][1] for key in found] if values else None, self.contains

    def begin(self, who=None):
        self.saved.append((dict(self.entries), dict(self.parts), dict(self.owners)))

    def commit(self, who=None):
        self.saved.pop()

    def rollback(self, who=None):
        self.deletions += 1
        self.entries, self.parts, self.owners = self.saved.pop()

    def close(self):
        pass


OWNERS = [b'owner%7d' % number for number in range(3)]
STORES = {'sqlite': lambda root: sqlite.open_store(str(root / 's.db')),
          'queued': lambda root: sqlite.open_store(str(root / 's.db'), thread_safe=True),
          'memory': lambda root: sqlite.open_store(':memory:'), 'dict': lambda root: DictStore(),
          'write-back': lambda root: LiveStore(sqlite.open_store(str(root / 's.db')), values.Codec(values.Refusing()), 's.db', 2, 5.0)}


class TestStoreConformance:
    """Every store meets the contract, with a dict as the oracle."""

    stored_keys = st.one_of(st.booleans(), st.integers(-5, 5), st.floats(-3, 3), st.sampled_from('abc'),
                            st.binary(max_size=2).map(lambda data: b'\x04' + data))
    operations = st.lists(st.one_of(
        st.tuples(st.just('put'), stored_keys, st.binary(max_size=4)), st.tuples(st.just('delete'), stored_keys),
        st.tuples(st.just('move'), stored_keys, st.booleans()),
        st.tuples(st.just('delete_range'), stored_keys, stored_keys), st.tuples(st.just('delete_range')),
        st.tuples(st.just('put_many'), st.lists(st.tuples(stored_keys, st.binary(max_size=4)), max_size=4)),
        st.tuples(st.just('put_owner'), stored_keys, st.sampled_from(OWNERS)),
        st.tuples(st.just('put_parts'), st.sampled_from(OWNERS), st.dictionaries(st.integers(1, 2**40), st.binary(max_size=4))),
        st.tuples(st.just('delete_parts'), st.sampled_from(OWNERS), st.none() | st.lists(st.integers(1, 4), max_size=3)),
        st.tuples(st.sampled_from(['begin', 'commit', 'rollback']))), max_size=25)

    @pytest.mark.parametrize('kind', STORES)
    @given(operations=operations)
    def test_every_operation_does_what_the_oracle_does(self, kind, operations, tmp_path_factory):
        oracle, given = DictStore(), set()
        store = STORES[kind](tmp_path_factory.mktemp('store'))
        for name, *arguments in operations:
            if name in ('commit', 'rollback') and not oracle.saved:
                continue
            if name == 'put_parts':
                given = {(owner, number) for owner, number in oracle.parts} | given
                arguments[1] = [(number, data) for number, data in arguments[1].items() if (arguments[0], number) not in given]
            assert getattr(store, name)(*arguments) == getattr(oracle, name)(*arguments)
            self.same(store, oracle)
        while oracle.saved:
            store.rollback()
            oracle.rollback()
        self.same(store, oracle)
        assert store.check(lambda key, data: None) == []
        empty = sum(not data for _, data in oracle.entries.values())
        assert store.check(lambda key, data: None if data else 'found') == ['found'] * empty
        store.close()

    def same(self, store, oracle):
        def flat(pages):
            return [entry for page in pages for entry in zip(*page[:2])]
        assert store.count() == oracle.count() and store.count(0, 'b') == oracle.count(0, 'b')
        assert list(store.part_numbers()) == list(oracle.part_numbers())
        for owner in OWNERS:
            numbers = list(store.part_numbers(owner))
            assert numbers == list(oracle.part_numbers(owner))
            assert [store.get_part(owner, one) for one in [*numbers, 0]] == [oracle.get_part(owner, one) for one in [*numbers, 0]]
        for options in ({}, {'reverse': True}, {'by_key': True}, {'by_key': True, 'reverse': True}, {'low': 0, 'high': 'b'},
                        {'low': 0, 'high': 'b', 'reverse': True}):
            mine, theirs = flat(store.scan(**options)), flat(oracle.scan(**options))
            assert repr(mine).replace('-0.0', '0.0') == repr(theirs).replace('-0.0', '0.0')
            names = [key for page in store.scan(values=False, **options) for key in page[0]]
            assert [*map(type, names)] == [type(key) for key, _ in theirs] and names == [key for key, _ in theirs]
        for key, (_, data) in oracle.entries.items():
            assert store.get(key) == data and store.contains(key)
        assert store.get('none') is None and not store.contains('none')

    def test_a_store_without_files_says_what_it_cannot(self):
        store = DictStore()
        store.sync()
        store.compact()
        with pytest.raises(vaults.VaultError, match='DictStore'):
            store.backup('x')

    def test_the_contract_is_eleven_operations_and_five_for_parts(self):
        parts = {'get_part', 'put_parts', 'delete_parts', 'part_numbers', 'put_owner'}
        assert parts < Store.__abstractmethods__ and len(Store.__abstractmethods__ - parts - {'commit', 'rollback'}) == 11
