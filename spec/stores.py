"""The contract of a store: one suite for each of them, and engines that it must catch."""
from __future__ import annotations

import contextlib
import inspect
import itertools
import os
import textwrap
import time
from collections import deque

import pytest

import vaults
from spec.helpers import HERE, output
from vaults import keys, stores
from vaults.codecs import packing, pickles
from vaults.stores import readonly, urls
from vaults.stores.base import ClosedStore, Options, Store
from vaults.stores.dictionary import DictionaryStore
from vaults.stores.live import LiveEntries
from vaults.stores.pool import MOST_IDLE, Pool
from vaults.stores.sqlite import opening
from vaults.stores.writeback import LiveStore
from vaults.testing import StoreConformance

STORES = {'sqlite': lambda root: opening.open_store(str(root / 's.db')),
          'queued': lambda root: opening.open_store(str(root / 's.db'), thread_safe=True),
          'memory': lambda root: opening.open_store(':memory:'), 'dict': lambda root: DictionaryStore(),
          'write-back': lambda root: LiveStore(opening.open_store(str(root / 's.db')), packing.Codec(pickles.Refusing()), 's.db', 2, 5.0)}


class TestStoreConformance(StoreConformance):
    """Every store meets the contract, with dicts as the oracle."""

    @pytest.fixture(autouse=True, params=STORES)
    def kind(self, request):
        self.kind = request.param
        self.persistent = self.kind not in ('memory', 'dict')

    def make_store(self, folder):
        return STORES[self.kind](folder)


class TestStores:
    def test_a_store_without_files_says_what_it_cannot(self):
        store = DictionaryStore()
        store.sync()
        store.compact()
        with pytest.raises(vaults.VaultError, match='DictionaryStore'):
            store.backup('x')

    def test_the_contract_is_twelve_operations_and_five_for_chunks(self):
        # An engine must have eleven methods of it; the others are made of them.
        operations = {'get', 'contains', 'put', 'put_many', 'delete', 'delete_range', 'move', 'count', 'scan', 'alive', 'begin',
                      'close'}
        chunks = {'get_chunk', 'put_chunks', 'delete_chunks', 'chunk_numbers', 'put_owner'}
        assert operations | chunks <= set(dir(Store)) and len(operations) == 12
        assert Store.__abstractmethods__ == operations - {'contains', 'put_many', 'delete_range'} | {'commit', 'rollback'}

    def test_many_keys_are_asked_for_at_once(self):
        asked = []

        class Counting(DictionaryStore):
            def get_many(self, keys):
                asked.append(len(keys))
                return super().get_many(keys)

            def contains_many(self, keys):
                asked.append(len(keys))
                return super().contains_many(keys)

            def delete_many(self, keys):
                asked.append(len(keys))
                return super().delete_many(keys)
        with contextlib.closing(vaults.Vault(store=Counting())) as v:
            v.update((n, n) for n in range(9000))
            assert list(v.get_many([*range(9000), 'none', object, 5])) == [*range(9000)] and asked == [9002]
            assert v.has_keys(iter(range(9000))) and not v.has_keys(itertools.count()) and not v.has_keys([1, object])
            assert asked[1:] == [4096, 4096, 808, 4096, 4096, 4096]
            asked.clear()
            assert len(v.pop_many(n for n in range(9001))) == 9000 and asked == [9001, 9000] and v == {}

    def test_all_of_a_closed_store_raises(self):
        names = [name for name in dir(Store) if not name.startswith('_')]
        assert len(names) > 35 and {'get', 'files', 'deletions', 'destroy'} <= {*names}
        for name in names:
            with pytest.raises(vaults.VaultClosedError, match="'it' is closed"):
                getattr(ClosedStore('it'), name)(*['x'] * needed(getattr(Store, name)))

    def test_all_that_a_vault_does_with_live_entries_raises_when_it_is_closed(self):
        # A closed store takes their place, too.
        for name in {name for name in dir(LiveEntries) if not name.startswith('_')} - {'within'}:
            with pytest.raises(vaults.VaultClosedError):
                getattr(ClosedStore('it'), name)()

    @pytest.mark.parametrize('layer', [LiveStore, readonly.ReadOnlyStore], ids=lambda layer: layer.__name__)
    def test_a_store_before_another_one_hands_on_all_of_the_contract(self, layer):
        made_of_others = {'transact', 'get_many', 'contains_many', 'delete_many', 'page', 'span', 'ends', 'gathered', 'put_owner_if', 'put_new', 'delete_if', 'waiting', 'glance', 'count_up_to', 'free_chunks', 'held', 'cached'}
        own = {name for cls in layer.__mro__[:-3] for name in vars(cls)}
        assert {name for name in dir(Store) if not name.startswith('_')} - own <= made_of_others


    def test_a_target_is_a_path_unless_it_has_a_scheme(self, root, monkeypatch):
        monkeypatch.chdir(root)
        for path in ('plain', 'C:\\x', 'C://x', os.path.join(str(root), 'a://b'), ':memory:', 'memory:'):
            assert stores.scheme_of(path) == ''
        assert [*map(stores.scheme_of, ('ab://c', 'A-B+c.1://'))] == ['ab', 'a-b+c.1']
        with contextlib.closing(stores.open_engine(str(root / 'x.db'), Options())) as store:
            store.put('k', b'v')
            assert store.files[0] == str(root / 'x.db') and store.describe()['engine'] == 'sqlite'
        for target in (':memory:', 'memory:'):
            with contextlib.closing(stores.open_engine(target, Options())) as store:
                assert store.files == store.sources == ()
        assert sorted(os.listdir(root)) == ['vaults', 'x.db']  # and the folder of the root

    @pytest.mark.parametrize('url, shown', [
        ('postgresql://ann:1234@host:5432/db?vault=x', 'postgresql://ann@host:5432/db?vault=x'),
        ('postgresql://ann:a:b@c@host/db', 'postgresql://ann@host/db'), ('ftp://:pw@host/x@y', 'ftp://@host/x@y'),
        ('postgresql://ann:pa/ss@host/db', 'postgresql://ann@host/db'), ('postgresql://ann:p?s#s@host/db', 'postgresql://ann@host/db'),
        ('postgresql://ann:p%40w@h1:1,h2:2/db?vault=a&password=b&sslpassword=c', 'postgresql://ann@h1:1,h2:2/db?vault=a'),
        ('postgresql:///db?PASSWORD=b', 'postgresql:///db'), ('https://host/v?token=t&x=1', 'https://host/v?x=1'),
        *[(url, url) for url in ('plain', 'json+file:///home/a@b:c/x.json', 'ftp://ann@host/x', 'ftp://host:21/a@b', '',
                                 'postgresql://[::1]:5432/db?vault=a@b', 'postgresql://h1:1,h2:2/d@b', 'memory:', 'x://h/v?', 'x://h:/a@b',
                                 'postgresql://ann@host/db?sslkey=/k&passfile=/p', 'C:\\a@b')]])
    def test_a_url_is_shown_without_its_password(self, url, shown):
        assert urls.without_password(url) == shown == urls.without_password(shown)

    def test_the_engine_of_another_package_is_found_by_its_scheme(self, tmp_path):
        info = tmp_path / 'engines-1.0.dist-info'
        info.mkdir()
        (info / 'METADATA').write_text('Metadata-Version: 2.1\nName: engines\nVersion: 1.0\n')
        (info / 'entry_points.txt').write_text('[vaults.stores]\nplain = engines:open_store\nnone = engines:no_store\n'
                                               'lost = engines:lost\nLoud = engines:open_store\n[console_scripts]\nother = engines:lost\n')
        (tmp_path / 'engines.py').write_text(textwrap.dedent("""
            from vaults import DictionaryStore
            def open_store(target, options):
                return DictionaryStore(options, target)
            def no_store(target, options):
                return {}
            """))
        found, loud, lost, none, other = output("""
            import vaults
            from vaults import stores
            store = stores.open_engine('plain://here/x', vaults.Options(timeout=2.5))
            print(type(store).__name__, store.name, store.options.timeout)
            print(stores.open_engine('Loud://here', vaults.Options()).name)
            for scheme in ('lost', 'none', 'other'):
                try:
                    stores.open_engine(scheme + '://here', vaults.Options())
                except vaults.VaultError as error:
                    print(type(error).__name__, error)
            """, env={'PYTHONPATH': os.pathsep.join([str(HERE), str(tmp_path)])}).splitlines()
        assert found == 'DictionaryStore plain://here/x 2.5' and loud == 'Loud://here'
        assert lost.startswith('VaultError the engine of lost://, engines:lost, cannot be loaded: AttributeError')
        assert none.startswith('VaultTypeError the engine of none:// gave dict')
        assert 'no engine is known for other://' in other and 'loud://, none://, plain://' in other and 'install' in other


def needed(method):
    """Return how many arguments a method must have."""
    if not callable(method):
        return 0
    parameters = [*inspect.signature(method).parameters.values()][1:]
    return sum(one.default is one.empty and one.kind is one.POSITIONAL_OR_KEYWORD for one in parameters)


# --- engines that are broken --------------------------------------------------------------------------------------

class Loses(DictionaryStore):
    """Puts what comes before an error."""

    def put_many(self, pairs):
        return sum(self.put(*pair) is None for pair in pairs)


class Gathers(DictionaryStore):
    """Lets what gives the pairs not see them."""

    def put_many(self, pairs):
        return super().put_many(list(pairs))


class Reorders(DictionaryStore):
    """Moves what is replaced to the end."""

    def put(self, key, data):
        with self.writing:
            super().put(key, data)
            self.move(key)


class Remembers(DictionaryStore):
    """Gives a deleted key its old place again."""

    places = None

    def put(self, key, data):
        super().put(key, data)
        self.places = self.places or {}
        position, first, data = self.entries[key]
        self.entries[key] = self.places.setdefault(key, position), first, data


class Renames(DictionaryStore):
    """Takes the form of a key that was put last."""

    def put(self, key, data):
        super().put(key, data)
        self.entries[key] = self.entries[key][0], key, data


class Splits(DictionaryStore):
    """Takes 1 and 1.0 for two keys."""

    def find(self, key):
        found = self.entries.get(key)
        return found if found and type(found[1]) is type(key) else None


class SortsAsText(DictionaryStore):
    """Sorts keys by what they look like."""

    def scan(self, low=keys.LOWEST, high=keys.HIGHEST, *, by_key=False, reverse=False, values=True):
        found = self._within(low, high)
        found.sort(key=(lambda entry: str(entry[1])) if by_key else None, reverse=reverse)
        return self.pages(found, values, None)


class SeesAll(DictionaryStore):
    """Walks over what was put since as well."""

    def scan(self, low=keys.LOWEST, high=keys.HIGHEST, *, by_key=False, reverse=False, values=True):
        seen = set()
        while True:
            found = [entry for entry in self._within(low, high) if entry[1] not in seen]
            found.sort(key=(lambda entry: keys.order(entry[1])) if by_key else None, reverse=reverse)
            if not found:
                return
            page = found[:1000]
            seen.update(entry[1] for entry in page)
            yield from self.pages(page, values, self.began_in())


class WalksOn(DictionaryStore):
    """Walks on when its transaction was rolled back."""

    def began_in(self):
        return None


class EndsWalks(DictionaryStore):
    """Ends a walk where anything is rolled back, and not what it began in."""

    undone = 0

    def _undo(self, depth):
        self.undone += 1
        super()._undo(depth)

    def pages(self, found, values, began):
        undone = self.undone
        for page in super().pages(found, values, began):
            if undone != self.undone:
                raise vaults.VaultError('rolled back')
            yield page


class KnowsKeys(DictionaryStore):
    """Takes a new entry for the one that was deleted."""

    def alive(self, key, id):
        return self.contains(key)


class CountsNone(DictionaryStore):
    """Does not count what it deletes."""

    deletions = property(lambda self: 0, lambda self, value: None)


class UndoesAll(DictionaryStore):
    """Takes a nested transaction for the outermost."""

    def _undo(self, depth):
        mark = self._blocks[0][1]
        super()._undo(depth)
        self.go_back(mark)


class UndoesNothing(DictionaryStore):
    """Keeps what was rolled back."""

    def go_back(self, mark):
        pass


class ForgetsPlaces(DictionaryStore):
    """Puts what was rolled back at the end."""

    def go_back(self, mark):
        back = dict(self._before[mark:][::-1])
        for key, entry in back.items():
            self.replace(key, entry and (self._next(), *entry[1:]))


class CountsParts(DictionaryStore):
    """Takes chunks for entries."""

    def count(self, low=keys.LOWEST, high=keys.HIGHEST):
        return len(self.entries) if (low, high) == (keys.LOWEST, keys.HIGHEST) else super().count(low, high)


class Litters(DictionaryStore):
    """Leaves the chunks of what it replaces."""

    def free_chunks(self, key):
        pass


class LosesParts(DictionaryStore):
    """Frees the chunks of an entry that is put again with the same owner."""

    def put_owner(self, key, data):
        def put():
            self.put(key, data)
            self.put(stores.base.OWNERS + keys.sortable(key), data[-12:])
        self.transact(put)


class StaysInFront(DictionaryStore):
    """Moves to the end alone."""

    def move(self, key, last=True):
        return super().move(key, True)


class LetsIn(DictionaryStore):
    """Locks nobody out."""

    def begin(self, who=None):
        self._blocks.append((who, self.mark()))

    def commit(self, who=None):
        self._blocks and self._blocks.pop()

    rollback = commit


class EndsAnything(DictionaryStore):
    """Ends the innermost transaction, whoever ends one."""

    def commit(self, who=None):
        super().commit(self._blocks[-1][0] if self._blocks else None)


class KnowsNoTasks(DictionaryStore):
    """Lets all tasks of the thread use the transaction of one."""

    def begin(self, who=None):
        super().begin(who)
        self._owner = None


class KnowsNoThreads(DictionaryStore):
    """Lets a transaction end in another thread."""

    def commit(self, who=None):
        self._thread = 0
        self._blocks.clear()


class NeverCloses(DictionaryStore):
    def close(self):
        pass


class AlwaysThere(DictionaryStore):
    """Says that it has deleted what was not there."""

    def delete(self, key):
        return super().delete(key) or True


class TakesTheEnd(DictionaryStore):
    """Deletes one key too many."""

    def delete_range(self, low=keys.LOWEST, high=keys.HIGHEST):
        return super().delete_range(low, high) + self.delete(high)


class SeesNoEmptyValue(DictionaryStore):
    def get(self, key):
        return super().get(key) or None


class ExaminesNothing(DictionaryStore):
    def check(self, examine, progress=None):
        return []


class HasOnePage(DictionaryStore):
    """Holds all of a walk in memory."""

    def pages(self, found, values, began):
        pages = [*super().pages(found, values, began)]
        if pages:
            yield [key for page in pages for key in page[0]], [data for page in pages for data in page[1]], self.contains


class PutsAnyway(DictionaryStore):
    """Replaces what is there already."""

    def put_new(self, key, data):
        found = super().put_new(key, data)
        self.put(key, data)
        return found


class DeletesAnyway(DictionaryStore):
    """Deletes an entry whatever it is."""

    def delete_if(self, key, known):
        return self.delete(key)


class LooksBefore(DictionaryStore):
    """Does what depends on what is there in two steps, between which others come in."""

    def put_new(self, key, data):
        there = self.get(key)
        time.sleep(.005)
        return there if there is not None else self.put(key, data)

    def delete_if(self, key, known):
        return self.get(key) == known and not time.sleep(.005) and self.delete(key)


class KeepsNothing(DictionaryStore):
    """Is said to be persistent."""


BROKEN = {
    Loses: 'test_what_is_put_at_once_is_all_there_or_nothing_of_it',
    Gathers: 'test_what_gives_the_pairs_may_use_the_store_and_sees_them',
    Reorders: 'test_a_replaced_entry_keeps_its_place_and_a_deleted_one_loses_it',
    Remembers: 'test_a_replaced_entry_keeps_its_place_and_a_deleted_one_loses_it',
    Renames: 'test_equal_keys_are_one_entry_in_its_first_form',
    Splits: 'test_equal_keys_are_one_entry_in_its_first_form',
    SortsAsText: 'test_keys_sort_as_they_do_in_python_by_kind',
    SeesAll: 'test_a_walk_sees_what_was_there_when_it_began',
    WalksOn: 'test_a_walk_begun_in_a_transaction_that_was_rolled_back_raises',
    EndsWalks: 'test_a_walk_goes_on_where_a_transaction_was_rolled_back_that_began_later',
    KnowsKeys: 'test_a_page_tells_which_of_its_entries_are_still_there',
    CountsNone: 'test_a_page_tells_which_of_its_entries_are_still_there',
    UndoesAll: 'test_transactions_are_nested',
    UndoesNothing: 'test_transactions_are_nested',
    ForgetsPlaces: 'test_what_was_rolled_back_leaves_no_trace',
    CountsParts: 'test_chunks_are_put_together_or_not_at_all_and_are_no_entries',
    Litters: 'test_chunks_go_with_their_entry',
    LosesParts: 'test_chunks_go_with_their_entry',
    StaysInFront: 'test_an_entry_moves_to_either_end',
    LetsIn: 'test_a_transaction_keeps_other_writers_out',
    EndsAnything: 'test_who_ends_before_a_younger_one_takes_it_along',
    KnowsNoTasks: 'test_a_transaction_is_of_the_task_that_began_it',
    KnowsNoThreads: 'test_a_transaction_ends_in_its_thread',
    NeverCloses: 'test_a_closed_store_is_closed',
    AlwaysThere: 'test_equal_keys_are_one_entry_in_its_first_form',
    TakesTheEnd: 'test_a_range_is_deleted_up_to_its_end',
    SeesNoEmptyValue: 'test_a_value_comes_back_byte_by_byte',
    ExaminesNothing: 'test_it_is_checked_and_looked_after',
    HasOnePage: 'test_a_walk_sees_what_was_there_when_it_began',
    PutsAnyway: 'test_a_value_is_put_where_there_is_none',
    DeletesAnyway: 'test_an_entry_is_deleted_if_it_is_what_is_known',
    LooksBefore: 'test_of_those_who_put_or_delete_at_the_same_time_one_does',
    KeepsNothing: 'test_what_was_committed_is_there_when_it_is_opened_again',
}


def cases(test):
    """Yield the arguments of each of a test's cases."""
    marks = [mark for mark in getattr(test, 'pytestmark', ()) if mark.name == 'parametrize']
    for chosen in itertools.product(*(mark.args[1] for mark in marks)):
        found = {}
        for mark, values in zip(marks, chosen):
            names = [name.strip() for name in mark.args[0].split(',')]
            found.update(zip(names, values if len(names) > 1 else [values]))
        yield found


def outcome(engine, name, folder):
    """Run one test of the suite over an engine; return what it raises, or None."""
    class Suite(StoreConformance):
        def make_store(self, folder):
            return engine()
    for arguments in cases(getattr(StoreConformance, name)):
        wanted = inspect.signature(getattr(StoreConformance, name)).parameters
        if 'folder' in wanted:
            arguments['folder'] = folder
        if 'store' in wanted:
            arguments['store'] = engine()
        try:
            getattr(Suite(), name)(**arguments)
        except (Exception, pytest.fail.Exception) as error:
            return error
    return None


class TestBrokenEngines:
    """The suite for engines catches those that break a clause."""

    @pytest.mark.parametrize('engine', BROKEN, ids=lambda engine: engine.__name__)
    def test_it_is_caught(self, engine, tmp_path):
        assert outcome(engine, BROKEN[engine], tmp_path) is not None

    @pytest.mark.parametrize('name', sorted({*BROKEN.values()} - {BROKEN[KeepsNothing]}))
    def test_the_plain_one_is_not(self, name, tmp_path):
        assert outcome(DictionaryStore, name, tmp_path) is None


class TestPool:
    """Connections that nobody is using are kept for the next call, and closed with their store."""

    class Wire:
        def __init__(self):
            self.is_closed = self.has_open = self.is_cut = False

        def is_idle(self):
            return not self.has_open

        def is_lost(self):
            return self.is_cut

        def close(self):
            self.is_closed = True

    def test_the_last_one_that_is_whole_is_taken_again(self):
        made = Pool(self.Wire)
        one, two, three = (made.take() for _ in range(3))
        three.has_open, two.is_cut = True, True
        for wire in (one, two, three):
            made.give(wire)
        assert made.take() is one and (one.is_closed, two.is_closed, three.is_closed) == (False, True, True)
        assert made.take() not in (one, two, three)

    def test_so_many_are_kept_and_none_of_a_closed_store(self):
        made = Pool(self.Wire)
        wires = [made.take() for _ in range(MOST_IDLE + 2)]
        for wire in wires:
            made.give(wire)
        assert [wire.is_closed for wire in wires] == [False] * MOST_IDLE + [True] * 2
        late, last = made.take(), made.take()
        made.close()
        made.give(late)
        assert all(wire.is_closed for wire in wires if wire is not last)

    def test_one_that_is_given_back_while_another_thread_closes_the_store_is_closed(self):
        made = Pool(self.Wire)
        wire = made.take()
        kept = made._idle
        made._idle = type('Late', (deque,), {'append': lambda self, one: [made.close(), deque.append(self, one)]})(kept)
        made.give(wire)
        assert wire.is_closed and not made._idle
