"""Vaults over engines of one's own: what `Vault(store=...)` and `Vault('scheme://...')` promise."""
from __future__ import annotations

import contextlib
import copy
import gc
import inspect
import itertools
import json
import os
import pickle
import re
import textwrap
import threading

import pytest

import vaults
from spec.columns import TestColumns
from spec.dictionary import TestDict, TestViews
from spec.dictionary_walks import TestSlices, TestWalks
from spec.documents import blocks
from spec.helpers import HERE, in_child, in_thread, interrupted, is_free, output, run
from spec.lists import TestLists
from spec.samples import Custom
from spec.sections import TestSections
from spec.streams import TestStreams
from spec.streams_kept import TestHoles
from spec.transactions import TestTransactions
from vaults import Vault, moving
from vaults.stores.base import SETTINGS_OWNER
from vaults.stores.dictionary import DictionaryStore
from vaults.testing import StoreConformance


@pytest.fixture
def own_vault(root):
    vault = Vault(store=DictionaryStore())
    yield vault
    if not vault.closed:
        vault._check()
        vault.close()


class InPlace(DictionaryStore):
    """A store that says where it is, and who may write it."""

    def __init__(self, folder):
        super().__init__()
        self.folder = folder
        self.path = os.path.join(str(folder), 'entries.own')
        with open(self.path, 'w'):
            pass

    @property
    def files(self):
        return [self.path]

    @property
    def sources(self):
        return None

    def destroy(self):
        os.unlink(self.path)


class Slow(DictionaryStore):
    """A store that waits in the midst of one write, and counts what it has kept."""

    def __init__(self):
        super().__init__()
        self.met, self.go_on, self.kept = threading.Event(), threading.Event(), 0

    def put(self, key, data):
        with self.writing:
            super().put(key, data)
            if key == 'slow':
                self.met.set()
                self.go_on.wait()

    def keep(self):
        super().keep()
        self.kept += 1


class TestVaultsOverOtherStores:
    """A vault over an engine of one's own has all that a vault has."""

    def test_it_is_a_vault(self, own_vault):
        own_vault.update({'a': 1, ('log', 2026): {'x': [1, 2]}, 3: None})
        own_vault['set'] = {1, 2}
        with pytest.raises(ZeroDivisionError), own_vault:
            own_vault['a'] = 2
            with own_vault:
                del own_vault[3]
            1 / 0
        with own_vault.edit('a') as value, own_vault.transaction():
            assert value == 1
        assert own_vault.items() == [('a', 1), (('log', 2026), {'x': [1, 2]}), (3, None), ('set', {1, 2})]
        assert own_vault['a':'b'].keys() == ['a'] and own_vault.prefix(('log',)).keys() == [('log', 2026)]
        assert own_vault.section('log')[2026] == {'x': [1, 2]} and own_vault.sections() == ['log'] and own_vault.popitem() == ('set', {1, 2})
        own_vault.move_to_end('a', last=False)
        own_vault.sync()
        own_vault.compact()
        assert own_vault.check() == [] and list(own_vault) == ['a', ('log', 2026), 3] and len(own_vault) == 3 and own_vault.pop(3, 0) is None

    def test_values_in_chunks(self, own_vault):
        numbers = own_vault.list('list')
        numbers.extend(range(5000))
        del numbers[10:4990]
        own_vault.column('column', 'int32').extend([1, 2, 3])
        with own_vault.open('stream', 'wb') as file:
            file.write(b'x' * 2_000_000)
        assert own_vault['list'] == [*range(10), *range(4990, 5000)] and own_vault['column'] == [1, 2, 3]
        assert own_vault['stream'] == b'x' * 2_000_000 and own_vault.check() == []
        assert len([*own_vault._store.chunk_owners()]) == 1 and len(own_vault) == 3 and own_vault.items()[0][0] == 'list'
        own_vault['stream'] = own_vault['list'] = 1
        own_vault.clear()
        assert [*own_vault._store.chunk_owners()] == []

    def test_every_mode(self, root):
        store = DictionaryStore()

        def refuse(key, value):
            if value == [13]:
                raise ValueError('unlucky')
        with contextlib.closing(Vault(store=store, writeback=True, validate=refuse, serializer=json)) as v:
            v['a'] = [1]
            v['a'].append(2)
            with pytest.raises(ValueError, match='unlucky'):
                v['b'] = [13]
            with pytest.raises(ZeroDivisionError), v:
                v['a'].append(3)
                1 / 0
            assert v['a'] == [1, 2] and v.section('s', value_type=int).setdefault('n', 1) == 1
            v.sync()
            assert store.get('a') is not None and store.get_chunk(SETTINGS_OWNER, 0) is not None
        assert v.closed and repr(v) == "Vault('DictionaryStore', closed)"

    def test_its_name_is_a_label(self, root):
        with contextlib.closing(Vault('label', store=DictionaryStore())) as v:
            assert v.name == 'label' == v.db_path and repr(v) == "Vault('label', 0 items)"
        with contextlib.closing(Vault(store=DictionaryStore())) as v:
            assert v.name == v.db_path == 'DictionaryStore'
        with contextlib.closing(Vault(store=InPlace(root))) as v:
            assert v.name == 'entries' and v.db_path == str(root / 'entries.own')
        with pytest.raises(vaults.VaultTypeError, match='a label'):
            Vault(root, store=DictionaryStore())

    def test_closing_closes_the_engine_and_delete_vault_destroys_it(self, root):
        for end in (lambda v: v.delete_vault(), lambda v: (v.close(), v.close(), v.delete_vault())):
            v = Vault(store=InPlace(root))
            v['k'] = 1
            end(v)
            assert os.listdir(root) == ['vaults'] and v.closed
            with pytest.raises(vaults.VaultClosedError):
                v['k']
        store = DictionaryStore()
        Vault(store=store).close()
        with pytest.raises(vaults.VaultClosedError):
            store.get('k')

    def test_an_engine_is_told_by_who_makes_it(self, root):
        for options in ({'timeout': 3}, {'synchronous': 'FULL'}, {'thread_safe': True}):
            with pytest.raises(vaults.VaultValueError, match=next(iter(options))):
                Vault(store=DictionaryStore(), **options)
        with pytest.raises(vaults.VaultTypeError, match=r'a vaults\.Store'):
            Vault(store={})
        with pytest.raises(vaults.VaultTypeError, match='name'):
            Vault()
        v = Vault(store=DictionaryStore())
        v.close()
        with pytest.raises(vaults.VaultClosedError):
            Vault(store=v._store)

    def test_it_says_how_an_engine_is_given(self, root):
        with pytest.raises(vaults.VaultTypeError, match=r'Vault\(store=\.\.\.\)'):
            Vault(DictionaryStore())
        with pytest.raises(vaults.VaultTypeError, match=r'the class DictionaryStore.*store=DictionaryStore\(\.\.\.\)'):
            Vault(store=DictionaryStore)
        with pytest.raises(vaults.VaultTypeError, match=r'vaults\.Options\(\.\.\.\), not str'):
            DictionaryStore('label')
        with contextlib.closing(Vault(':memory:', store=DictionaryStore(), flag='r')) as v:  # a label, whatever it says
            assert v.name == ':memory:' and len(v) == 0

    def test_an_engine_stays_open_when_the_vault_over_it_is_refused(self, root):
        store = DictionaryStore()
        v = Vault(store=store, serializer=json)
        v['k'] = [1]
        for wrong in ({}, {'serializer': pickle}, {'flag': 'r'}):
            with pytest.raises(vaults.VaultFormatError, match="'json'"):
                Vault(store=store, **wrong)
        assert v['k'] == [1] == Vault(store=store, serializer=json)['k']

    def test_the_flags(self, root):
        store = DictionaryStore()
        v = Vault(store=store)
        v.update(a=1, b=[2])
        v.list('list').append(1)
        reader = Vault(store=store, flag='r')
        assert reader['a'] == 1 and reader.items()[:2] == [('a', 1), ('b', [2])] and reader['list'] == [1] and len(reader) == 3
        with reader:
            assert 'a' in reader and reader.check() == []
        for change in (lambda: reader.update(a=2), lambda: reader.pop('a'), reader.clear, lambda: reader.__delitem__('a'),
                       lambda: reader.move_to_end('a'), lambda: reader['list'].append(2), reader.delete_vault,
                       lambda: reader.list('new'), lambda: reader.__setitem__('b', 1)):
            with pytest.raises(vaults.VaultReadOnlyError):
                change()
        reader.sync()
        assert v == {'a': 1, 'b': [2], 'list': [1]}
        assert Vault(store=store, flag='w') == v and Vault(store=store, flag='n') == {} == v

    def test_it_cannot_be_pickled_or_copied(self, own_vault):
        for use in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match=r'Vault\(store=\.\.\.\)'):
                use(own_vault)
        own_vault['a'] = 1
        assert own_vault.copy() == {'a': 1}

    def test_pickles_are_for_who_can_tell_who_wrote_them(self, root, own_vault):
        own_vault['complex'] = Custom('x')
        assert own_vault['complex'] == Custom('x')
        with contextlib.closing(Vault(store=InPlace(root))) as v:
            with pytest.raises(vaults.UntrustedPickleError, match='does not say who'):
                v['k'] = Custom('x')
            v['set'] = {1}
        with contextlib.closing(Vault(store=InPlace(root), allow_pickle=True)) as v:
            v['k'] = Custom('x')
            assert v['k'] == Custom('x')

    def test_what_is_in_it_moves_in_and_out(self, root, own_vault):
        own_vault.update({'a': 1, ('b', 2): [b'x']})
        own_vault.list('list').extend('abc')
        assert moving.export(own_vault, root / 'out.jsonl') == 3
        with contextlib.closing(Vault(store=DictionaryStore())) as other:
            moving.import_file(other, root / 'out.jsonl')
            assert other == own_vault and other['list'] == ['a', 'b', 'c']
        own_vault.put_file('file', root / 'out.jsonl')
        assert own_vault.get_file('file', root / 'again') == os.path.getsize(root / 'out.jsonl')
        with pytest.raises(vaults.VaultError, match='cannot be backed up'):
            own_vault.backup(root / 'copy.db')
        with contextlib.closing(Vault('copy')) as v:
            v.update(own_vault)
            assert v == own_vault

    @pytest.mark.skipif(not hasattr(os, 'fork'), reason='forks')
    def test_a_block_of_the_parent_is_not_the_childs(self, root):
        store = Slow()
        v = Vault(store=store)
        v['a'] = 1

        def held():  # the child leaves these blocks without a word, as those of a file
            with v, v:
                v['b'] = 2
                yield
                with v:
                    v['c'] = 3

        def work():
            kept, v['d'] = store.kept, 4
            next(generator, None)
            v['e'] = 5
            return [*v.items()], store.kept - kept
        generator = held()
        next(generator)
        child = in_child(work)
        grandchild = in_child(lambda: in_child(work).answer())
        next(generator, None)
        assert child.answer() == grandchild.answer() == ([('a', 1), ('d', 4), ('c', 3), ('e', 5)], 3)
        assert v.items() == [('a', 1), ('b', 2), ('c', 3)]

    @pytest.mark.skipif(not hasattr(os, 'fork'), reason='forks')
    def test_a_write_of_another_thread_is_not_the_childs(self, root):
        store = Slow()
        with contextlib.closing(Vault(store=store)) as v:
            v['a'] = 1
            thread = threading.Thread(target=v.__setitem__, args=('slow', 1))
            thread.start()
            store.met.wait()

            def work():
                kept = store.kept
                v['b'] = 2
                return [*v.items()], store.kept - kept
            child = in_child(work)
            store.go_on.set()
            thread.join()
            assert child.answer() == ([('a', 1), ('b', 2)], 1) and v.items() == [('a', 1), ('slow', 1)]

    @pytest.mark.parametrize('act', ['put', 'get', 'delete', 'update', 'block', 'nested', 'undone', 'caught'])
    def test_an_interrupt_at_any_line_leaves_it_as_it_was_and_open_to_all(self, act):
        store = Slow()
        v = Vault(store=store)

        def block(again=None):
            with v:
                v['a'] = 1
                again and again()
                v['b'] = 1

        def caught():
            with v:
                with contextlib.suppress(KeyboardInterrupt):
                    v['half'] = 1
                v['a'] = v['b'] = 1

        def undone():
            with contextlib.suppress(ZeroDivisionError), v:
                v['a'] = 1
                1 / 0
        acts = {'put': lambda: v.put('a', 1), 'get': lambda: v['x'], 'delete': lambda: v.pop('x'), 'block': block, 'caught': caught,
                'update': lambda: v.update(a=1, b=1), 'nested': lambda: block(block), 'undone': undone}
        where = []
        gc.collect()
        for at in itertools.count(1):
            v.clear()
            v['x'] = 0
            gc.disable()
            again = interrupted(acts[act], at, where)
            gc.enable()
            found, kept = dict(v.items()), store.kept
            assert found in ({'x': 0}, {}, {'x': 0, 'a': 1}, {'x': 0, 'a': 1, 'b': 1}, {'x': 0, 'half': 1, 'a': 1, 'b': 1}), (at, where)
            assert found != {'x': 0, 'a': 1} or act == 'put', (at, where)
            assert store.inside == [] == store._blocks and is_free(store.lock), (at, where)
            assert in_thread(lambda: v.put('after', 1)) is None and store.kept == kept + 1, (at, where)
            if not again:
                break
        assert at > 12

    def test_another_store_may_be_unsorted_by_time(self, own_vault):
        own_vault.update((f'{number * 7919 % 100:02}', number) for number in range(100))
        walk = iter(own_vault)
        assert next(walk) == '00' and [*own_vault[:]] == [f'{number:02}' for number in range(100)]
        del own_vault['19']
        assert len([*walk]) == 98

    def test_a_scheme_leads_to_its_engine(self, tmp_path):
        info = tmp_path / 'engines-1.0.dist-info'
        info.mkdir()
        (info / 'METADATA').write_text('Metadata-Version: 2.1\nName: engines\nVersion: 1.0\n')
        (info / 'entry_points.txt').write_text('[vaults.stores]\nplain = engines:open_store\n')
        (tmp_path / 'engines.py').write_text(textwrap.dedent("""
            import vaults
            made = {}
            def open_store(target, options):
                print(target, *options[:4])
                if options.flag == 'w' and target not in made:
                    raise vaults.VaultFormatError(f'there is nothing at {target}')
                return made.setdefault(target, vaults.DictionaryStore(options, target))
            """))
        assert output("""
            import pickle, vaults
            v = vaults.Vault('plain://host/a', timeout=2, synchronous='full')
            v['k'] = 1
            print(v, v.db_path)
            again = pickle.loads(pickle.dumps(v))
            print(again, again['k'])
            for name in 'plain://host/b', 'none://x':
                try:
                    vaults.Vault(name, to_create=False)
                except vaults.VaultError as error:
                    print(type(error).__name__, error)
            """, env={'PYTHONPATH': os.pathsep.join([str(HERE), str(tmp_path)])}).splitlines() == [
                'plain://host/a c 2 FULL False', "Vault('plain://host/a', 1 item) plain://host/a",
                'plain://host/a w 2 FULL False', "Vault('plain://host/a', 1 item) 1",
                'plain://host/b w 5.0 NORMAL False', 'VaultFormatError there is nothing at plain://host/b',
                "VaultValueError no engine is known for none://, as in 'none://x': there are :memory:, postgres://, json+file://, "
                'msgpack+file://, https://, http://, plain://, and paths of '
                'files; install the package that has it, which registers it in the group vaults.stores']


# --- the engine of docs/stores.md ---------------------------------------------------------------------------------

PAGE = [block for language, block in blocks((HERE / 'docs' / 'stores.md').read_text('utf-8')) if language == 'python']
ENGINE, USE, SUITE = (next(block for block in PAGE if mark in block)
                      for mark in ('class TextStore', "TextStore('notes.txt')", 'make_store'))


def of_the_page():
    space = {'__name__': 'textstore'}
    exec(compile(ENGINE, 'textstore.py', 'exec'), space)
    return space


class TestTheEngineOfThePage(StoreConformance):
    """The engine that docs/stores.md makes is a whole one."""

    text_store = of_the_page()['TextStore']

    def make_store(self, folder):
        return self.text_store(str(folder / 'entries.txt'), vaults.Options(synchronous='OFF'))

    def test_its_programs_run_as_they_stand(self, root):
        (root / 'textstore.py').write_text(ENGINE)
        path = os.pathsep.join([str(HERE), str(root)])
        done = run(USE, cwd=str(root), env={'PYTHONPATH': path})
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines() == re.findall(r'print\(.*\)\s+# (.*)', USE)
        done = run(SUITE + 'print(TestTextStore().make_store(__import__("pathlib").Path(".")).count())', cwd=str(root),
                   env={'PYTHONPATH': path})
        assert done.stdout == '0\n', done.stderr

    def test_it_says_that_it_cannot_write(self, root):
        (root / 'folder').mkdir()
        store = self.text_store(str(root / 'folder' / 'x.txt'))
        store.put('a', b'1')
        store.path = str(root / 'gone' / 'x.txt')
        with pytest.raises(vaults.VaultError, match='cannot be written'):
            store.put('b', b'2')
        assert store.get('b') is None and store.get('a') == b'1'


# --- what a vault promises, over the plain engine -----------------------------------------------------------------

class NotInLine(Exception):
    """What an engine rolls a transaction back by that it runs again."""


class RunsAgain(DictionaryStore):
    """A store that puts no transaction of one call in line with others before its second run, as the contract allows."""

    def transact(self, operation):
        def undone():
            operation()
            raise NotInLine
        if not self.is_mine():
            with contextlib.suppress(NotInLine):
                self.once(undone)
        return self.once(operation)


def over_the_plain_engine(tests, *about_files):
    """Return a class with those of the tests that are given a vault: over a DictionaryStore, without those about files."""
    names = {name for name in dir(tests) if name.startswith('test')}
    given = {name for name in names if 'v' in inspect.signature(getattr(tests, name)).parameters}
    assert given > {*about_files}
    return type(f'{tests.__name__}OverThePlainEngine', (tests,), {
        'make_engine': staticmethod(RunsAgain), '__module__': __name__,
        **dict.fromkeys({*names} - given | {*about_files})})


# Left out is what opens the file by its name once more, in this process or another, looks into it, or counts statements.
TestDictOverThePlainEngine = over_the_plain_engine(TestDict,
    'test_update_is_all_or_nothing', 'test_edit_writes_back_what_was_changed_in_place')
TestViewsOverThePlainEngine = over_the_plain_engine(TestViews,
    'test_comparing_looks_at_the_lengths_first_and_holds_a_page',
    'test_they_cost_nothing_until_used_and_items_is_one_query_per_page')
TestWalksOverThePlainEngine = over_the_plain_engine(TestWalks,
    'test_the_log_of_many_blocks_stays_bounded', 'test_an_abandoned_walk_does_not_pin_the_log')
TestSlicesOverThePlainEngine = over_the_plain_engine(TestSlices)
TestTransactionsOverThePlainEngine = over_the_plain_engine(TestTransactions,
    'test_a_block_is_all_or_nothing_and_the_vault_stays_open', 'test_nested_blocks_are_savepoints',
    'test_nesting_has_an_end', 'test_what_sqlite_rolled_back_by_itself_is_not_continued',
    'test_upkeep_is_refused_inside_a_block')
TestListsOverThePlainEngine = over_the_plain_engine(TestLists,
    'test_what_is_done_to_it_sticks',
    'test_a_short_list_is_one_entry_and_a_change_in_the_middle_writes_a_few_chunks',
    'test_appending_and_popping_at_both_ends_touch_the_header_alone',
    'test_items_that_cannot_be_loaded_leave_the_others_readable',
    'test_one_that_is_deleted_and_made_again_is_what_it_is_now',
    'test_replacing_deleting_and_clearing_free_its_chunks',
    'test_a_reader_sees_what_others_do_at_once_and_never_a_mixture',
    'test_two_processes_append_and_nothing_is_lost_or_there_twice',
    'test_a_live_list_can_be_sent_to_another_process',
    'test_what_a_handle_has_seen_of_a_rollback_is_forgotten',
    'test_what_a_handle_has_seen_in_the_parents_block_is_none_of_the_childs',
    'test_compacting_counts_anew_with_lists_too', 'test_damage_is_found_and_named',
    'test_a_reader_may_not_change_it')
TestColumnsOverThePlainEngine = over_the_plain_engine(TestColumns,
    'test_a_read_that_fails_is_not_taken_for_another_type')
TestSectionsOverThePlainEngine = over_the_plain_engine(TestSections,
    'test_len_clear_and_del_are_one_statement_each', 'test_the_names_are_found_by_skipping',
    'test_closing_it_inside_its_block_undoes_the_block', 'test_upkeep_is_the_whole_vaults',
    'test_it_is_pickled_with_its_vault', 'test_a_vault_that_is_read_has_sections')
TestStreamsOverThePlainEngine = over_the_plain_engine(TestStreams,
    'test_it_is_seen_when_it_is_closed_and_whole', 'test_replacing_and_deleting_free_the_chunks',
    'test_streams_are_kept_in_sections_too', 'test_a_forked_child_leaves_the_writer_to_its_parent')
TestHolesOverThePlainEngine = over_the_plain_engine(TestHoles,
    'test_a_far_seek_leaves_a_hole_that_costs_nothing', 'test_a_file_that_is_only_made_longer_is_a_hole',
    'test_copies_keep_holes')
