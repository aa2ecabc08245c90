"""Copying: a vault into another one, of any engine."""
from __future__ import annotations

import array
import contextlib
import os
import pickle
import signal
import subprocess
import sys
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vaults
from vaults import Vault, moving
from vaults.collections.tree import Header, Tree
from vaults.moving import copying
from vaults.stores.base import OWNER, SETTINGS_OWNER, entries_of

from .helpers import HERE, needs_posix, needs_root, raw_entries
from .samples import Custom, any_key, plant, rich


def as_stored(v):
    """Return all that a vault holds as it is stored, but for the owners of chunks, which are no vault's but its own."""
    store, found = v._place.engine, []
    for key, data in entries_of(store.scan()):
        chunks = ()
        if copying.is_header(data):
            header = Header.of(data)
            chunks = [(number, store.get_chunk(header.owner, number)) for number in sorted(Tree(store, header).numbers())]
            data = data[:-OWNER]
        found.append((type(key), key, data, chunks))
    return found, [store.get_chunk(SETTINGS_OWNER, number) for number in store.chunk_numbers(SETTINGS_OWNER)]


def chunk_owners(v):
    return {*v._place.engine.chunk_owners()} - {SETTINGS_OWNER}


def fill_with_all(v, large=True):
    """Put one of each kind that there is."""
    v.update({'text': 'a', True: 'first form', 2.0: [1, (2, {3})], ('log', 2026): {'a': b'b'}, b'bytes': None, 2**70: 'large'})
    v.list('short list').extend([1, 'two', (3,)])
    v.column('column', 'int16').extend(range(10))
    v['deque'] = vaults.Deque
    del v['deque']
    v.live(vaults.Deque, 'deque', maxlen=7).extend(range(9))
    with v.open('short stream', 'wb') as file:
        file.write(b'stream')
    if large:
        v.list('list').extend({'number': number} for number in range(5000))
        v['list'].insert(17, 'between')
        v.column('floats', 'float64').extend(array.array('d', range(100_000)))
        with v.open('stream', 'wb') as file:
            file.write(os.urandom(1_000_000))
            file.seek(5_000_000)
            file.write(b'behind a hole')
    v['last'] = 'after them'
    v['text'] = 'replaced in its place'


copied_kinds = st.sampled_from(['value', 'value', 'list', 'column', 'deque', 'stream'])


def put_kind(v, key, kind, value, size):
    if kind == 'value':
        v[key] = value
        return
    v.pop(key, None)
    if kind == 'list':
        v.list(key).extend([value] * size)
    elif kind == 'column':
        v.column(key, 'int32').extend(range(size))
    elif kind == 'deque':
        v.live(vaults.Deque, key).extend([value] * size)
    else:
        with v.open(key, 'wb') as file:
            file.seek(size * 3)
            file.write(b'x' * size)


class TestCopying:
    """A copy is the vault once more, whatever engine keeps it."""

    @pytest.fixture
    def other(self, tmp_path):
        with contextlib.closing(Vault(tmp_path / 'other')) as vault:
            yield vault
            vault._check()

    def test_between_open_vaults(self, v, other):
        fill_with_all(v)
        assert moving.copy(v, other) == len(v) == 14
        assert as_stored(other) == as_stored(v) and [*map(type, other)] == [*map(type, v)]
        assert other.items() == v.items() and other['stream'] == v['stream'] and other['deque'].maxlen == 7

    def test_between_names_paths_and_vaults(self, v, root, tmp_path):
        fill_with_all(v, False)
        assert moving.copy('test', 'copy') == moving.copy('copy', tmp_path / 'exact') == moving.copy(tmp_path / 'exact', 'again') == len(v)
        assert sorted(os.listdir(root / 'vaults')) == ['again.db', 'copy.db', 'test.db', 'test.db-shm', 'test.db-wal']
        for name in ('copy', tmp_path / 'exact', 'again'):
            with contextlib.closing(Vault(name, to_create=False)) as copy:
                assert as_stored(copy) == as_stored(v) and copy.check() == []

    @given(entries=st.lists(st.tuples(any_key, copied_kinds, rich, st.sampled_from([0, 1, 5, 700])), max_size=8))
    def test_any_vault_comes_back_as_it_was(self, entries):
        with contextlib.closing(Vault(':memory:', allow_pickle=True)) as first, contextlib.closing(Vault(
                store=vaults.DictionaryStore(), allow_pickle=True)) as between, contextlib.closing(Vault(':memory:')) as last:
            for entry in entries:
                with contextlib.suppress(vaults.SerializationError, OverflowError):
                    put_kind(first, *entry)
            assert moving.copy(first, between) == moving.copy(between, last) == len(first)
            assert as_stored(last) == as_stored(between) == as_stored(first)
            assert not (chunk_owners(last) & chunk_owners(between) or chunk_owners(between) & chunk_owners(first) or chunk_owners(last) & chunk_owners(first))
            last._check()

    def test_both_ends_are_independent(self, v, other):
        fill_with_all(v)
        moving.copy(v, other)
        before = as_stored(other)
        v['list'].clear()
        del v['stream'], v['floats']
        with v.open('short stream', 'r+b') as file:
            file.write(b'S')
        assert as_stored(other) == before and v.check() == other.check() == [] and not chunk_owners(v) & chunk_owners(other)
        other['list'].append('theirs')
        assert other['list'][-1] == 'theirs' and len(v['list']) == 0

    def test_a_kind_that_this_program_does_not_know_goes_over(self, v, other):
        v.list('k').extend(range(3000))
        header = Header.of(v._store.get('k'))
        header.code, header.meta = 26, ['nobodys', [1, 'x']]
        v._store.put_owner('k', header.packed())
        assert moving.copy(v, other) == 1 and as_stored(other) == as_stored(v)

    def test_chunks_that_belong_to_nothing_stay_behind(self, v, other):
        v.list('k').extend(range(3000))
        owner = Header.of(v._store.get('k')).owner
        v._store.put_chunks(owner, [(10**6, b'left by a killed writer')])
        v._store.put_chunks(b'x' * OWNER, [(1, b'of nobody')])
        moving.copy(v, other)
        assert len(chunk_owners(other)) == 1
        assert 10**6 not in list(other._store.chunk_numbers(*chunk_owners(other)))

    def test_a_target_with_entries_is_refused_or_merged_into(self, v, other):
        fill_with_all(v)
        fill_with_all(other)
        other.update({'text': 'old', 'own': 1, 1: 'the first form of its own'})
        before = as_stored(other)
        with pytest.raises(vaults.VaultExistsError, match='15 entries in the vault .*other already.*merge=True'):
            moving.copy(v, other)
        assert as_stored(other) == before
        assert moving.copy(v, other, merge=True) == len(v)
        assert [*other] == [*v, 'own'] and other['text'] == 'replaced in its place' and other['own'] == 1 and len(chunk_owners(other)) == len(chunk_owners(v))
        assert type([*other][1]) is bool and other[1] == 'first form' and other.check() == []

    def test_an_empty_target_is_as_good_as_a_new_one(self, v, other):
        fill_with_all(v, False)
        other['a'] = 1
        del other['a']
        assert moving.copy(v, other) == len(v)
        assert moving.copy(Vault(':memory:'), other, merge=True) == 0

    def test_a_failure_leaves_the_target_as_it_was(self, v, other, root):
        fill_with_all(v)
        other['own'] = 1
        v['unreadable'] = 1
        v.list('damaged').extend(range(3000))
        header = Header.of(v._store.get('damaged'))
        v._store.delete_chunks(header.owner, [header.root])
        before = as_stored(other)
        for target in (other, 'new', root / 'folder' / 'new', root / 'file'):
            if target == root / 'folder' / 'new':
                (root / 'folder').mkdir()
            with pytest.raises(vaults.VaultCorruptError, match=r"a chunk of the value is missing.*\(key 'damaged' of the vault .*test"):
                moving.copy(v, target, merge=True)
        assert as_stored(other) == before and sorted(os.listdir(root / 'vaults')) == ['test.db', 'test.db-shm', 'test.db-wal']
        assert not os.listdir(root / 'folder') and not (root / 'file').exists()
        del v['damaged']

    def test_a_folder_that_was_made_for_the_target_goes_too(self, v, root, tmp_path):
        v['a'] = 1
        v._store.put('k', b'\xd4\x14\x00')  # a header that is none
        vaults.set_root_path(None)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv('VAULTS_ROOT', str(tmp_path / 'elsewhere'))
            (tmp_path / 'elsewhere').mkdir()
            with pytest.raises(vaults.VaultCorruptError):
                moving.copy(v, 'new')
        assert os.listdir(tmp_path / 'elsewhere') == []
        del v['k']

    def test_it_is_one_transaction_and_can_be_part_of_a_block(self, v, other):
        fill_with_all(v)
        with pytest.raises(ZeroDivisionError), other:
            other['before'] = 1
            moving.copy(v, other, merge=True)
            assert len(other) == len(v) + 1
            1 / 0
        assert len(other) == 0 and not chunk_owners(other)

    def test_what_interrupts_it_undoes_it(self, v, other):
        fill_with_all(v)

        def interrupt(done):
            raise KeyboardInterrupt
        with pytest.raises(KeyboardInterrupt):
            moving.copy(v, other, progress=interrupt)
        assert len(other) == 0 and not chunk_owners(other)
        moving.copy(v, other)

    def test_it_is_one_state_of_the_source(self, v, other):
        v.update(dict.fromkeys(range(5000), 'a' * 300))
        seen = []

        def write(done):
            with contextlib.closing(Vault('test')) as writer, contextlib.suppress(vaults.VaultBusyError):
                writer.pop(4999, None)
                writer['new'] = 1
            seen.append(done)
        reader = Vault('test', flag='r')
        assert moving.copy(reader, other, progress=write) == 5000 and len(seen) > 1
        assert [*other] == [*range(5000)] and 'new' in v and 4999 not in v

    def test_what_write_back_keeps_is_copied_and_met(self, v, root):
        with contextlib.closing(Vault('live', writeback=True)) as live, contextlib.closing(Vault('into', writeback=True)) as into:
            live['a'] = [1]
            live['a'].append(2)
            live.list('l').extend(range(2000))
            into['own'] = [0]
            into['a'] = ['old']
            held = into['own']
            held.append(1)
            assert moving.copy(live, into, merge=True) == 2
            assert into['a'] == [1, 2] and into['l'] == [*range(2000)] and into['own'] == [0, 1]
        assert Vault('into').items() == [('own', [0, 1]), ('a', [1, 2]), ('l', Vault('live')['l'])]

    def test_a_target_that_validates_is_asked(self, v, other, root):
        def positive(key, value):
            if value <= 0:
                raise ValueError(f'{key}: {value}')
        v.update(a=1, b=-1)
        with contextlib.closing(Vault('strict', validate=positive)) as strict:
            with pytest.raises(ValueError, match='b: -1'):
                moving.copy(v, strict)
            assert len(strict) == 0
            v['b'] = 2
            assert moving.copy(v, strict) == 2
            v.list('l')
            with pytest.raises(vaults.VaultError, match="no whole value to validate.*key 'l'"):
                moving.copy(v, strict, merge=True)

    def test_sections_are_copied_and_copied_into(self, v, other):
        ann = v.section('ann')
        fill_with_all(ann)
        v['beside'] = 1
        assert moving.copy(ann, other) == len(ann) == len(other) and other.items() == ann.items()
        assert moving.copy(other, v.section('copy')) == len(other)
        assert v.section('copy').items() == other.items() and len(v) == 1 + 2 * len(other)
        with pytest.raises(vaults.VaultExistsError):
            moving.copy(other, v.section('copy'))

    def test_progress_is_bytes(self, v, other):
        fill_with_all(v)
        told = []
        moving.copy(v, other, progress=told.append)
        assert told == sorted(set(told)) and len(told) > 1 and 1_900_000 < told[-1] < 10_000_000
        assert moving.copy(Vault(':memory:'), Vault(':memory:'), progress=told.append) == 0

    @pytest.mark.parametrize('from_name', [True, False])
    def test_one_vault_at_both_ends_is_refused(self, v, root, tmp_path, from_name):
        v['a'] = 1
        os.symlink(root / 'vaults' / 'test.db', tmp_path / 'link.db')
        os.link(root / 'vaults' / 'test.db', tmp_path / 'hard.db')
        for target in (v, 'test', root / 'vaults' / 'test.db', tmp_path / 'link.db', tmp_path / 'hard.db', v.section('s')):
            with pytest.raises(vaults.VaultValueError, match='are one'):
                moving.copy('test' if from_name else v, target)
        store = vaults.DictionaryStore()
        with pytest.raises(vaults.VaultValueError, match='are one'):
            moving.copy(Vault(store=store), Vault(store=store))
        assert moving.copy(Vault(store=store), Vault(store=vaults.DictionaryStore())) == 0

    def test_ends_that_are_none_are_refused(self, v, root):
        v['a'] = 1
        for source in ('none', root / 'none'):
            with pytest.raises(vaults.VaultNotFoundError):
                moving.copy(source, 'new')
        (root / 'text').write_text('{"a": 1}' * 100)
        with pytest.raises(vaults.VaultFormatError, match='vaults import'):
            moving.copy(v, root / 'text')
        with pytest.raises(vaults.VaultTypeError, match='not dict'):
            moving.copy({'a': 1}, 'new')
        with pytest.raises(vaults.VaultTypeError, match='not NoneType'):
            moving.copy(v, None)
        with pytest.raises(vaults.VaultValueError, match='in memory is gone'):
            moving.copy(v, ':memory:')
        Vault('closed').close()
        with pytest.raises(vaults.VaultReadOnlyError):
            moving.copy(v, Vault('closed', flag='r'))
        closed = Vault('closed')
        closed.close()
        for ends in ((closed, v), (v, closed)):
            with pytest.raises(vaults.VaultClosedError):
                moving.copy(*ends)
        assert sorted(os.listdir(root / 'vaults')) == ['closed.db', 'test.db', 'test.db-shm', 'test.db-wal']


class TestCopyingSerializers:
    """The serializer of a vault goes along, and values that another one has made never get in."""

    def vault(self, name):
        return contextlib.closing(Vault(name, serializer=('json', lambda obj: repr(obj), lambda text: eval(text))))

    def test_a_new_vault_has_the_serializer_too(self, v, root):
        with self.vault('one') as one:
            one.update(a={1: 2})
            one.list('l').extend(range(3000))
            assert moving.copy('one', 'two') == moving.copy(one, root / 'three') == 2
            with self.vault('two') as two:
                assert as_stored(two) == as_stored(one) and two.items() == one.items()
                assert moving.copy(one, two, merge=True) == moving.copy('one', 'two', merge=True) == 2
        with pytest.raises(vaults.VaultFormatError, match="'json'"):
            Vault('two')

    def test_one_that_fails_leaves_no_serializer_behind(self, root):
        Vault('empty').close()
        with self.vault('one') as one:
            one._store.put('bad', b'\xd4\x14\x00')
            with pytest.raises(vaults.VaultCorruptError):
                moving.copy('one', 'empty')
            del one['bad']
        assert Vault('empty').items() == []

    def test_another_one_is_refused_with_the_cure(self, v, root):
        with self.vault('one') as one, contextlib.closing(Vault('pickled', serializer=pickle)) as other:
            one['a'] = 1
            for source, target in ((one, other), (one, v), (v, one), (other, 'one'), ('one', v)):
                before = as_stored(v), as_stored(one), as_stored(other)
                with pytest.raises(vaults.VaultFormatError, match='serializer.*update'):
                    moving.copy(source, target, merge=True)
                assert (as_stored(v), as_stored(one), as_stored(other)) == before
            v['plain'] = 1
            with pytest.raises(vaults.VaultFormatError, match='serializer'):
                moving.copy(one, root / 'vaults' / 'test.db', merge=True)


class TestCopyingPickles:
    """Pickles go over as bytes; none that a stranger may have planted gets where it would be trusted."""

    def test_between_files_of_ones_own_they_are_not_even_looked_for(self, v, root, monkeypatch):
        plant(v, root / 'ran')
        v.list('l').append(Custom(1))
        monkeypatch.setattr(copying, 'look_through', None)
        assert moving.copy(v, 'copy') == 2
        assert raw_entries(Vault('copy'))[0] == raw_entries(v)[0] and Vault('copy')['l'] == [Custom(1)] and not (root / 'ran').exists()

    @needs_root
    @pytest.mark.parametrize('where', ['value', 'in a tuple', 'in a list', 'deep', 'in a leaf'])
    @pytest.mark.parametrize('spoilt', ['source', 'target'])
    def test_where_others_may_write_they_do_not_pass(self, v, root, where, spoilt):
        value = Custom(1)
        if where == 'in a tuple':
            value = ('a', {'b': [value]})
        elif where == 'deep':
            for _ in range(2000):
                value = [value]
        if 'list' in where or 'leaf' in where:
            v.list('k').extend([1, value] if where == 'in a list' else [*range(5000), value])
        else:
            v['k'] = value
        v['plain'] = (1, 2)
        target = Vault('target')
        os.chmod(root / 'vaults' / ('test.db' if spoilt == 'source' else 'target.db'), 0o666)
        v.close()
        v = Vault('test')
        for ends in ((v, target), ('test', 'target')):
            with pytest.raises(vaults.UntrustedPickleError, match=r"everybody may write.*allow_pickle=True.*\(key 'k' of the vault"):
                moving.copy(*ends)
        assert len(target) == 0
        with pytest.raises(vaults.UntrustedPickleError, match='Custom' if where == 'nowhere' else 'not in allow_pickle'):
            moving.copy(v, target, allow_pickle=[dict])
        with pytest.raises(vaults.UntrustedPickleError):
            moving.copy(v, target, allow_pickle=False)
        assert moving.copy(v, target, allow_pickle=[Custom]) == 2
        assert moving.copy('test', 'target', merge=True, allow_pickle=True) == 2 and as_stored(v) == as_stored(target)

    def test_a_vault_whose_engine_does_not_say_who_writes_it_takes_none(self, v, root):
        class Somewhere(vaults.DictionaryStore):
            sources = None
        v['k'] = Custom(1)
        with contextlib.closing(Vault(store=Somewhere())) as other:
            with pytest.raises(vaults.UntrustedPickleError, match='does not say who'):
                moving.copy(v, other)
            assert moving.copy(v, other, allow_pickle=True) == 1
            with pytest.raises(vaults.UntrustedPickleError, match='does not say who'):
                moving.copy(other, 'back')
            other['k'] = [bytes([0xd4, 1, 1]), 'no pickle']
            assert moving.copy(other, 'back') == 1

    def test_a_vault_that_refuses_them_gets_none(self, v, root):
        v['k'] = Custom(1)
        with contextlib.closing(Vault('strict', allow_pickle=False)) as strict, pytest.raises(
                vaults.UntrustedPickleError, match='allow_pickle=False'):
            moving.copy(v, strict)


class TestCopyingFiles:
    """What a copy leaves in the file system, and what it takes of memory."""

    @needs_posix
    def test_a_new_file_is_no_wider_open_than_the_source(self, v, root):
        v['a'] = 1
        os.chmod(root / 'vaults' / 'test.db', 0o600)
        moving.copy('test', 'copy')
        moving.copy(v, root / 'exact')
        assert [os.stat(path).st_mode & 0o777 for path in (root / 'vaults' / 'copy.db', root / 'exact')] == [0o600, 0o600]

    def test_a_large_vault_takes_little_memory(self, v, root):
        with v:
            v.update((number, os.urandom(1000)) for number in range(20_000))
            v.list('list').extend(os.urandom(4000) for _ in range(5000))
            with v.open('stream', 'wb') as file:
                for _ in range(40):
                    file.write(os.urandom(1 << 20))
        moving.copy(v, root / 'first')  # with all modules there are
        tracemalloc.start()
        try:
            moving.copy(v, root / 'copy')
            assert tracemalloc.get_traced_memory()[1] < 15_000_000
        finally:
            tracemalloc.stop()

    @needs_posix
    @pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGINT])
    def test_a_killed_copy_leaves_the_target_as_it_was(self, v, root, hears_ctrl_c, number):
        with v:
            v.update((at, os.urandom(5000)) for at in range(10_000))
        Vault('target').update(own=1)
        program = subprocess.Popen([sys.executable, '-c', f'''
import sys, time, vaults
def tell(done):
    print('moving', flush=True)
    time.sleep(0.05)
vaults.set_root_path({str(root)!r})
try:
    vaults.moving.copy('test', 'target', merge=True, progress=tell)
except KeyboardInterrupt:
    sys.exit(7)
'''], stdout=subprocess.PIPE, env={**os.environ, 'PYTHONPATH': str(HERE)})
        for _ in range(3):
            assert program.stdout.readline() == b'moving\n'
        program.send_signal(number)
        program.communicate(timeout=30)
        assert program.returncode == (7 if number == signal.SIGINT else -9)
        with contextlib.closing(Vault('target')) as target:
            assert target.items() == [('own', 1)] and target.check() == []
            assert moving.copy(v, target, merge=True) == 10_000


class TestCopyingBetweenEngines:
    """From a file into each engine and back again: all is as it was."""

    @pytest.fixture(params=['postgresql', 'json+file', 'msgpack+file', 'json+ftp'])
    def url(self, request, tmp_path):
        if request.param == 'postgresql':
            return request.getfixturevalue('server').vault()
        if request.param == 'json+ftp':
            return 'json+' + request.getfixturevalue('own_ftp').url('notes.json')
        return f'{request.param}://{tmp_path}/notes.{request.param.partition("+")[0]}'

    def test_all_that_there_is_goes_there_and_back(self, v, url, tmp_path):
        fill_with_all(v)
        v['pickle'] = Custom(1)
        if 'file' not in url.partition(':')[0]:
            with pytest.raises(vaults.UntrustedPickleError, match='does not say who'):
                moving.copy(v, url)
        with pytest.raises(vaults.VaultNotFoundError):
            Vault(url, to_create=False)
        assert moving.copy(v, url, allow_pickle=True) == moving.copy(url, tmp_path / 'back', allow_pickle=True) == len(v)
        with contextlib.closing(Vault(url)) as there, contextlib.closing(Vault(tmp_path / 'back')) as back:
            assert as_stored(there) == as_stored(back) == as_stored(v)
            assert there.check() == back.check() == [] and back['pickle'] == Custom(1)
            assert not (chunk_owners(there) & chunk_owners(v) or chunk_owners(there) & chunk_owners(back))
            there.delete_vault()

    @needs_posix
    def test_a_new_file_is_no_wider_open_than_the_source(self, v, root, command):
        v['a'] = 1
        os.chmod(root / 'vaults' / 'test.db', 0o600)
        url, path = f'json+file://{root}/copy.json', root / 'copy.json'
        moving.copy(v, url)
        assert path.stat().st_mode & 0o777 == 0o600 and b'"a"' in path.read_bytes()
        moving.copy(url, f'msgpack+file://{root}/copy.msgpack')
        assert (root / 'copy.msgpack').stat().st_mode & 0o777 == 0o600
        assert command('export', 'test', root / 'lines.jsonl').status == command('import', root / 'lines.jsonl', f'json+file://{root}/imported.json').status == 0
        assert (root / 'imported.json').stat().st_mode & 0o777 == 0o600

    @settings(max_examples=15)
    @given(entries=st.lists(st.tuples(any_key, copied_kinds, rich, st.sampled_from([0, 1, 5, 700])), max_size=8))
    def test_any_vault_comes_back_as_it_was(self, url, entries):
        with contextlib.closing(Vault(':memory:')) as first, contextlib.closing(Vault(url, flag='n', allow_pickle=True)) as between, \
                contextlib.closing(Vault(':memory:')) as last:
            for entry in entries:
                with contextlib.suppress(vaults.SerializationError, OverflowError):
                    put_kind(first, *entry)
            try:
                assert moving.copy(first, between) == moving.copy(between, last) == len(first)
            except vaults.SerializationError as error:
                assert 'bytes' in str(error)  # too long a key
                return
            assert as_stored(last) == as_stored(between) == as_stored(first)
            last._check()

    def test_serializers_and_kinds_that_are_not_known_go_along(self, url, tmp_path):
        with contextlib.closing(Vault('first', serializer=('json', repr, eval))) as first:
            first.update(a={1: 2})
            first.list('l').extend(range(3000))
            assert moving.copy(first, url) == moving.copy(url, 'back') == 2
            with contextlib.closing(Vault('back', serializer=('json', repr, eval))) as back:
                assert as_stored(back) == as_stored(first) and back['l'] == [*range(3000)]
        with pytest.raises(vaults.VaultFormatError, match="'json'"):
            Vault(url)

    def test_one_that_fails_leaves_nothing(self, v, url):
        fill_with_all(v)
        v._store.put('bad', b'\xd4\x14\x00')
        with pytest.raises(vaults.VaultCorruptError):
            moving.copy(v, url)
        with pytest.raises(vaults.VaultNotFoundError):
            Vault(url, to_create=False)
        with contextlib.closing(Vault(url)) as there:
            there['own'] = 1
            with pytest.raises(vaults.VaultCorruptError):
                moving.copy(v, there, merge=True)
            del v['bad']
            with pytest.raises(vaults.VaultExistsError):
                moving.copy(v, there)
            assert there.items() == [('own', 1)] and there.check() == []
            assert moving.copy(v, there, merge=True) == len(v) and len(there) == len(v) + 1

    def test_it_is_one_state_while_others_write(self, server, tmp_path):
        url = server.vault()
        with contextlib.closing(Vault(url)) as there, contextlib.closing(Vault(url, timeout=0.1)) as other:
            there.update(dict.fromkeys(range(20_000), 'a' * 300))

            def write(done):
                with contextlib.suppress(vaults.VaultBusyError), other:
                    other.pop(19_999, None)
                    other['new'] = 1
            assert moving.copy(url, tmp_path / 'copy', progress=write) == 20_000
            with contextlib.closing(Vault(tmp_path / 'copy')) as copy:
                assert [*copy] == [*range(20_000)] and 'new' in there
