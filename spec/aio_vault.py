"""AsyncVault: every verb of a vault, awaited by tasks of asyncio and trio, over several engines."""
from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import io
import itertools
import random
import threading
import time

import pytest

import vaults
from vaults import Vault
from vaults.aio import AsyncVault, bridge, joined, things, verbs
from vaults.aio import pieces as in_pieces
from vaults.aio import vault as rooms
from vaults.views import Items, Keys, SortedSlice, Values

from .aio import Gate, threads_of, until
from .helpers import in_child, needs_fork, output
from .internals import statements, unwatched
from .jsonfile import url_of

ENGINES = {
    'sqlite': lambda root, server: AsyncVault('of_tasks'),
    'memory': lambda root, server: AsyncVault(':memory:'),
    'json': lambda root, server: AsyncVault(url_of(root / 'of_tasks.json')),
    'writeback': lambda root, server: AsyncVault('of_tasks', writeback=True),
    'postgresql': lambda root, server: AsyncVault(f'{server().url(server().database())}?vault=of_tasks'),
    'http': lambda root, server: AsyncVault(server('serving').url_of(server('serving').name())),
}


@pytest.fixture(params=ENGINES)
def make(request, root):
    """What makes the vault of a test, which opens it in its loop, over each engine."""
    def server(kind='server'):
        return request.getfixturevalue(kind)
    first = []

    def made(**options):
        if not first:
            first.append(ENGINES[request.param](root, server))
        return first[0]
    made.engine = request.param
    return made


async def listed(walk):
    return [one async for one in walk]


class TestAsyncVault:
    """What is awaited of an AsyncVault is what a Vault does."""

    def test_each_verb_does_what_that_of_a_vault_does(self, tasks, make, tmp_path):
        async def main():
            async with make() as v:
                await v.put('b', 1)
                await v.update({'a': [1, None], 'c': None}, d=4)
                await v.update((key, 1) for key in 'ef')
                assert await v['a'] == [1, None] and await v.get('c', 5) is None and await v.get('none', 5) == 5
                assert await v.length() == 6 and await v.contains('a') and not await v.contains(object())
                assert await v.has_keys('ab') and await v.get_many('bz') == {'b': 1}
                for missing in (v['none'], v.pop('none'), v.delete('none'), v.move_to_end('none')):
                    with pytest.raises(KeyError):
                        await missing
                assert await v.setdefault('b', 5) == 1 and await v.setdefault('g', 5) == 5
                await v.delete('g')
                await v.move_to_end('b')
                assert await listed(v) == ['a', 'c', 'd', 'e', 'f', 'b'] == await v.keys()[:]
                assert await v.popitem() == ('b', 1) and await v.popitem(last=False) == ('a', [1, None])
                assert await v.pop('c') is None and await v.pop('c', 5) == 5 and await v.pop_many('ex') == {'e': 1}
                assert await v.put_many([('x', 1), ('y', 2)]) == 2
                assert await v.copy() == {'d': 4, 'f': 1, 'x': 1, 'y': 2}
                await v.delete(slice('x', None))
                assert await v.copy() == {'d': 4, 'f': 1}
                assert await v.put_file('file', io.BytesIO(b'abc')) == 3
                target = io.BytesIO()
                assert await v.get_file('file', target) == 3 and target.getvalue() == b'abc'
                await v.sync()
                assert await v.check() == []
                await v.compact()
                await v.clear()
                assert await v.length() == 0
                with pytest.raises(vaults.EmptyVaultError):
                    await v.popitem()
            assert v.closed
            with pytest.raises(vaults.VaultClosedError):
                await v.get('a')
        tasks.run(main())

    def test_walks_views_and_slices(self, tasks, make):
        async def main():
            async with make() as v:
                made = {(n * 7919) % 1000: str(n) for n in range(1000)}
                await v.update(made)
                assert await listed(v) == list(made) and await listed(reversed(v)) == list(made)[::-1]
                assert await listed(v.items()) == list(made.items()) and await listed(v.values()) == list(made.values())
                assert await v.values()[0] == '0' and await v.items()[-1] == list(made.items())[-1]
                assert await v.keys()[3:5] == list(made)[3:5]
                assert await v.values().index('5') == 5 and await v.values().count('5') == 1
                assert await v.keys().contains(5) and await v.keys().length() == 1000
                part = v[10:20]
                assert await listed(part) == list(range(10, 20)) and await part.length() == 10
                assert await listed(reversed(part)) == list(range(19, 9, -1))
                assert await part.first() == (10, made[10]) and await part.last() == (19, made[19])
                assert await part[10] == made[10] and await part.get(5, 'out') == 'out' and await part.contains(11)
                assert await listed(part[12:14].values()) == [made[12], made[13]]
                assert await listed(v.irange(5, 7, reverse=True)) == [7, 6, 5]
                await part.clear()
                assert await v.length() == 990
                await v.update({'aa': 1, 'ab': 2})
                assert await listed(v.prefix('a').items()) == [('aa', 1), ('ab', 2)]
        tasks.run(main())

    def test_a_walk_leaves_out_what_was_deleted_meanwhile_and_does_not_meet_what_is_new(self, tasks, make):
        async def main():
            async with make() as v:
                await v.update({n: n for n in range(20)})
                for walk, key in ((v, None), (v.keys(), None), (v.items(), 0), (v.values(), None), (v[:].items(), 0)):
                    seen = []
                    async for one in walk:
                        one = one if key is None else one[key]
                        seen.append(one)
                        if one < 100 and one % 2 == 0:
                            await v.delete(one + 1)
                            await v.put(100 + one, 100 + one)
                    assert seen == list(range(0, 20, 2)), walk
                    await v.clear()
                    await v.update({n: n for n in range(20)})
        tasks.run(main())

    def test_a_walk_that_is_cancelled_or_left_goes_on_where_it_was_and_holds_nothing(self, tasks, make):
        async def main():
            async with make() as v:
                await v.update({n: n for n in range(3000)})
                walk, seen = v.items().__aiter__(), []

                async def go_on():
                    async for key, _ in walk:
                        seen.append(key)
                        await tasks.sleep(0)
                async with tasks:
                    while len(seen) < 3000:
                        task = tasks.start(go_on)
                        for _ in range(random.randrange(40)):
                            await tasks.sleep(0)
                        if len(seen) < 2000:
                            task.cancel()
                        await task.wait()
                assert seen == list(range(3000))
                async for key in v:  # and is not gone through
                    if key == 1:
                        break
                await v.clear()
        tasks.run(main())

    def test_a_walk_that_was_cancelled_while_it_looked_again_meets_nothing_twice(self, tasks, monkeypatch):
        gate = Gate()
        monkeypatch.setattr(bridge, 'WALKED_FOR', 60)  # that it has some read ahead

        class Looked(Distant):
            def contains_many(self, keys):
                gate()
                return super().contains_many(keys)

        async def main():
            async with AsyncVault(store=Looked()) as v, tasks:
                await v.update({n: n for n in range(20)})
                walk = v.keys().__aiter__()
                seen = [await walk.__anext__()]
                await v.delete(2)
                looking = tasks.start(walk.__anext__)
                await until(tasks, gate.entered.is_set)
                looking.cancel()
                await looking.wait()
                rest = tasks.start(listed, walk)
                await tasks.sleep(0.01)
                gate.opened.set()
                assert seen + await rest.result() == [0, 1, *range(3, 20)]
        tasks.run(main())

    def test_a_backup_tells_how_far_it_is_and_is_whole_also_when_its_task_was_cancelled(self, tasks, root):
        gate, steps = Gate(), []

        def wait(done, total):
            gate()

        async def main():
            async with AsyncVault('of_tasks') as v, tasks:
                await v.update({n: bytes(1000) for n in range(2000)})
                await v.backup(root / 'copy.db', progress=lambda done, total: steps.append((done, total)))
                backup = tasks.start(v.backup, root / 'cancelled.db', wait)
                await until(tasks, gate.entered.is_set)
                await v.put('meanwhile', 1)
                backup.cancel()
                await backup.wait()
                assert not (root / 'cancelled.db').exists()
                gate.opened.set()
                await until(tasks, (root / 'cancelled.db').exists)
                with pytest.raises(vaults.VaultError):
                    await v.backup(root / 'cancelled.db')
        tasks.run(main())
        assert steps and steps[-1][0] == steps[-1][1] > 100 and steps == sorted(steps)
        for name in ('copy.db', 'cancelled.db'):
            with contextlib.closing(Vault(root / name)) as copied:
                assert len(copied) == 2000 and copied.check() == []

    def test_sections_lists_columns_and_deques(self, tasks, make):
        async def main():
            async with make() as v:
                users = v.section('users', value_type=str)
                await users.put('ann', 'Ann')
                assert await v['users', 'ann'] == 'Ann' and await v.sections() == ['users'] and users.path == ('users',)
                with pytest.raises(TypeError):
                    await users.put('bob', 5)
                assert await listed(users.section('x')) == [] and await listed(users) == ['ann']
                log = await v.list('log')
                await log.extend('ab')
                await log.append('c')
                await log.put(0, 'A')
                await log.delete(1)
                assert await listed(log) == ['A', 'c'] and await log.length() == 2 and await log.contains('c')
                assert await log[-1] == 'c' and await log[:] == ['A', 'c'] and await log.pop() == 'c'
                for found in (await v['log'], await v.get('log'), (await v.get_many(['log']))['log'], (await v['log':'logs'].first())[1],
                              (await listed(v.items()))[1][1], await v.setdefault('log', 5)):
                    assert isinstance(found, things.AsyncList) and await found.tolist() == ['A']
                await v.put('copy', log)
                assert await (await v['copy']).tolist() == ['A']
                temps = await v.column('temps', 'float64')
                await temps.extend([1, 2.5])
                assert temps.dtype == 'float64' and await temps.tolist() == [1, 2.5] and await listed(reversed(temps)) == [2.5, 1]
                last = await v.live(vaults.Deque, 'last', maxlen=2)
                await last.extend([1, 2, 3])
                assert await last.popleft() == 2 and last.maxlen == 2
        tasks.run(main())

    def test_streams_are_files_whose_methods_are_awaited(self, tasks, make):
        async def main():
            async with make() as v:
                async with v.open('text', 'w') as file:
                    await file.write('one\ntwo\n')
                    await file.writelines(['three'])
                    assert not await v.contains('text')
                assert await v['text'] == b'one\ntwo\nthree' and file.closed
                async with v.open('text', 'r') as file:
                    assert await listed(file) == ['one\n', 'two\n', 'three']
                file = await v.open('text')
                assert await file.read(3) == b'one' and await file.tell() == 3
                await file.seek(4)
                assert await file.readline() == b'two\n' and file.mode == 'rb' and file.name == 'text'
                await file.close()
                with pytest.raises(ZeroDivisionError):
                    async with v.open('text', 'a') as file:
                        await file.write('lost')
                        1 / 0
                assert await v['text'] == b'one\ntwo\nthree'
                with pytest.raises(KeyError):
                    await v.open('none')
        tasks.run(main())

    def test_a_file_that_is_opened_for_a_task_which_was_cancelled_is_closed_and_writes_nothing(self, tasks, monkeypatch):
        gate, opened = Gate(), []

        def slowly(self, *args):
            opened.append(Vault.open(self, *args))
            return gate(opened[0])

        async def main():
            async with AsyncVault(':memory:') as v, tasks:
                monkeypatch.setattr(in_pieces.VaultInPieces, 'open', slowly)

                async def work():
                    async with v.open('k', 'w') as file:
                        await file.write('x')
                task = tasks.start(work)
                await until(tasks, gate.entered.is_set)
                task.cancel()
                await task.wait()
                gate.opened.set()
                await until(tasks, lambda: opened[0].closed)
                assert not await v.contains('k')
        tasks.run(main())

    def test_what_only_a_dict_could_do_says_what_to_await(self, tasks):
        async def main():
            async with AsyncVault(':memory:') as v:
                for act, cure in ((lambda: v.__setitem__('a', 1), r'await v\.put\(key, value\)'), (lambda: v.__delitem__('a'), r'v\.delete\(key\)'),
                                  (lambda: 'a' in v, r'v\.contains\(key\)'), (lambda: len(v), r'v\.length\(\)'), (lambda: list(v), 'async for'),
                                  (lambda: bool(v), r'v\.length\(\)'), (lambda: v.__enter__(), 'async with'), (lambda: v | {}, r'v\.copy\(\)')):
                    with pytest.raises(vaults.VaultTypeError, match=cure):
                        act()
                with pytest.raises(vaults.VaultError, match='not stored'):
                    await v.put('itself', [v])
        tasks.run(main())

    def test_it_is_opened_at_its_first_use_with_what_a_vault_takes(self, tasks, root):
        with pytest.raises(TypeError):
            AsyncVault('x', no_such_option=1)

        async def main():
            missing = AsyncVault('missing', to_create=False)
            for _ in range(2):
                with pytest.raises(vaults.VaultNotFoundError):
                    await missing.get('a')
            Vault('missing').close()
            assert await missing.get('a', 5) == 5 and missing.name == 'missing'
            await missing.close()
            v = AsyncVault('first')
            with pytest.raises(vaults.VaultError, match='not open yet'):
                v.name
            with pytest.raises(vaults.VaultError):
                async with AsyncVault('no/../name'):
                    pass
            assert await v.length() == 0 and v.db_path == Vault('first').db_path
            await v.delete_vault()
            with pytest.raises(vaults.VaultNotFoundError):
                Vault('first', to_create=False)
        tasks.run(main())

    def test_other_vaults_and_asynchronous_iterables_can_be_put(self, tasks):
        async def pairs():
            for n in range(5):
                await tasks.sleep(0)
                yield n, n

        async def main():
            async with AsyncVault(':memory:') as v, AsyncVault(':memory:') as w:
                await v.update(pairs())
                await w.update(v)
                assert await w.put_many(v.items()) == 5 and await w.copy() == {n: n for n in range(5)}
        tasks.run(main())

    @pytest.mark.skipif(not hasattr(asyncio, 'TaskGroup'), reason='since Python 3.11')
    def test_verbs_are_coroutines(self):
        async def main():
            async with AsyncVault(':memory:') as v, asyncio.TaskGroup() as group:
                made = [group.create_task(v.put(n, n)) for n in range(5)] + [group.create_task(v['a':'b'].first(None))]
            assert [task.result() for task in made] == [None] * 6
        asyncio.run(main())

    def test_what_is_never_closed_ends_with_its_last_reference_and_keeps_what_was_acknowledged(self, tasks, root):
        async def main():
            v = AsyncVault('unclosed')
            await v.put('a', 1)
            assert threads_of('unclosed')
            del v
            gc.collect()
            await until(tasks, lambda: not threads_of('unclosed'))
        tasks.run(main())
        assert Vault('unclosed').items() == [('a', 1)]

    def test_a_process_ends_though_nothing_was_closed_and_a_block_is_open(self, root):
        assert output('''
            import asyncio, sys, vaults
            from vaults.aio import AsyncVault
            vaults.set_root_path(sys.argv[1])
            v = AsyncVault('ended')

            async def main():
                await v.put('kept', 1)
                await v.transaction().__aenter__()
                await v.put('lost', 1)
            asyncio.run(main())
            print('end')''', root) == 'end'
        assert Vault('ended').items() == [('kept', 1)]

    @needs_fork
    def test_a_forked_child_goes_on_with_the_vault(self, tasks, root):
        v = AsyncVault('forked')

        async def add(n):
            await v.put(n, n)
            return await v.length()
        tasks.run(add(1))
        assert in_child(lambda: tasks.run(add(2))).answer() == 2
        tasks.run(v.close())
        assert Vault('forked').keys() == [1, 2]

    @pytest.mark.parametrize('value', [
        [{'name': 'Ann', 'age': n} for n in range(20_000)], tuple(range(120_000)), {n: (n, str(n)) for n in range(30_000)}, set(range(120_000)),
        'x' * 1_000_000, b'x' * 1_000_000, [b'x' * 400_000] * 3, {'deep': [[{'a': (1, [2])}] * 5] * 10_000}],
        ids=['list', 'tuple', 'dict', 'set', 'text', 'bytes', 'long bytes', 'nested'])
    def test_large_values_come_back_as_they_were(self, tasks, value, monkeypatch):
        fed = []
        monkeypatch.setattr(in_pieces, 'sleep', fed.append)

        async def main():
            async with AsyncVault(':memory:') as v:
                await v.put('large', value)
                for found in (await v['large'], await v.get('large'), (await v.get_many(['large']))['large'], await v[:]['large'],
                              (await listed(v.values())).pop(), await v.pop('large')):
                    assert type(found) is type(value) and found == value
        tasks.run(main())
        assert len(fed) > 20 or type(value) in (str, bytes)

    def test_the_collector_looks_at_everything_no_more_often_for_a_large_value(self):
        assert output('''
import gc, msgpack, sys
from vaults.aio import pieces
rarely = sys.version_info >= (3, 12)    # it looks between two lines of Python alone
data = msgpack.packb([{'n': [n]} for n in range(100_000)])
looks = []
def note(phase, info):
    if phase == 'start' and info['generation'] == 2:
        looks.append(1)
def looked_at(load):
    gc.collect()
    looks.clear()
    value = load()
    assert len(value) == 100_000 and value[-1] == {'n': [99_999]}
    return bool(looks)
in_pieces = lambda: pieces.loaded_in_pieces(data, None)
gc.callbacks.append(note)
print(rarely or looked_at(lambda: msgpack.unpackb(data)), looked_at(in_pieces))
pieces.MOST_SPARED = 1
gc.collect()
print(looked_at(in_pieces), rarely or looked_at(lambda: in_pieces() and in_pieces()))     # the garbage of others is found at last
gc.freeze()
count = gc.get_freeze_count()
print(bool(in_pieces()), gc.get_freeze_count() == count)
pieces.MOST_SPARED = 50
asked, gc.get_freeze_count = [], lambda count=gc.get_freeze_count: asked.append(1) or count()
for _ in range(5):
    pieces.loaded_in_pieces(msgpack.packb([1] * 100_000), None)
print(len(asked) <= 1)  # it counts them one by one
''') == 'True False\nFalse True\nTrue True\nTrue'

    def test_damaged_large_values_are_found(self, root):
        with pytest.raises(ValueError):
            in_pieces.loaded_in_pieces(b'\xdc\x01\x00' + b'\x01' * 200, None)
        with pytest.raises(ValueError):
            in_pieces.loaded_in_pieces(b'\x91\x01\x01', None)


class TestAsyncVerbs:
    """A verb of a vault that lacks, or is called otherwise, is found here."""

    OWN = {'close', 'closed', 'db_path', 'delete_vault', 'edit', 'irange', 'items', 'keys', 'name', 'open', 'prefix', 'section', 'transaction', 'values',
           'fromkeys', 'path', 'kind', 'plain_type', 'equal_to', 'dtype', 'maxlen', 'isdisjoint'}

    @pytest.mark.parametrize('cls, table, made', [
        (Vault, verbs.OF_VAULT, rooms.AsyncVault), (vaults.Section, verbs.OF_VAULT, rooms.AsyncSection), (SortedSlice, verbs.OF_SLICE, rooms.AsyncSlice),
        (Keys, verbs.OF_VIEW, rooms.AsyncKeys), (Values, verbs.OF_VIEW, rooms.AsyncValues), (Items, verbs.OF_VIEW, rooms.AsyncItems),
        (vaults.List, verbs.OF_LIST, things.AsyncList), (vaults.Column, verbs.OF_COLUMN, things.AsyncColumn),
        (vaults.Deque, verbs.OF_DEQUE, things.AsyncDeque)], ids=lambda one: getattr(one, '__name__', ''))
    def test_each_verb_is_in_its_table_and_has_the_signature_of_the_vaults(self, cls, table, made):
        public = {name for name in dir(cls) if name[0] != '_'}
        assert public - self.OWN == set(table) - (set(table) - public) and not set(table) - public
        for name in table:
            assert inspect.iscoroutinefunction(getattr(made, name)), name
            ours, theirs = (inspect.signature(getattr(one, name)).parameters for one in (made, cls))
            assert [(p.name, p.kind) for p in ours.values()] == [(p.name, p.kind) for p in theirs.values()], name
        for name in {'transaction', 'edit', 'irange', 'prefix', 'section', 'keys', 'values', 'items', 'open'} & public:
            assert callable(getattr(made, name))

    def test_every_operator_of_a_vault_is_awaited_or_says_what_to_do(self):
        for name in dir(Vault):
            if name[:2] == '__' and callable(getattr(Vault, name)) and getattr(Vault, name) is not getattr(object, name, None):
                assert name in vars(rooms.AsyncVault) or name in dir(rooms.AsyncVault) or name in (
                    '__reduce__', '__abstractmethods__', '__init_subclass__', '__class_getitem__', '__exit__'), name
        with pytest.raises(vaults.VaultTypeError, match='^__setitem__ of AsyncVault would have to wait'):
            AsyncVault('x')['a'] = 1


class Distant(vaults.DictionaryStore):
    """An engine each call of which takes long; it notes what is asked of it. What is at 'bad' is damaged."""

    is_distant, is_serial = True, False

    def __init__(self):
        super().__init__()
        self.asked = []

    def get(self, key):
        return self.get_many([key])[0]

    def get_many(self, keys):
        self.asked.append(list(keys))
        if 'bad' in keys:
            raise vaults.VaultCorruptError("the value of 'bad' is damaged")
        return [vaults.DictionaryStore.get(self, key) for key in keys]


class TestJoinedReads:
    """The reads that wait for the reader's thread are one call of the engine."""

    def test_those_of_a_file_are_few_statements_of_sqlite(self, tasks, root):
        async def main():
            async with AsyncVault('joined') as v, tasks:
                await v.update({key: [key] for key in range(200)})
                vault, gate = v.shared.kept.vault(), Gate()
                seen = await v.shared.workers.read(statements, vault)
                held = tasks.start(v.shared.workers.read, gate)
                await until(tasks, gate.entered.is_set)
                wanted = [tasks.start(v.__getitem__, key) for key in range(200)]
                length = tasks.start(v.length)  # is not one of them
                await tasks.sleep(0.01)
                gate.opened.set()
                await held.wait()
                assert [await task.result() for task in wanted] == [[key] for key in range(200)]
                assert await length.result() == 200
                await v.shared.workers.read(unwatched, vault)
                assert len(seen) <= 6
        tasks.run(main())

    @pytest.mark.parametrize('slow', ['large', 'of many'])
    def test_one_that_takes_long_to_load_holds_up_no_answer_of_those_before(self, tasks, root, monkeypatch, slow):
        stuck, load = Gate(), in_pieces.VaultInPieces.loaded

        def loaded(self, stored, data, default):
            if stored == 'stuck':
                stuck()
            elif stored == 'slow':
                time.sleep(2 * joined.HEARD_WITHIN)
            return load(self, stored, data, default)

        async def main():
            async with AsyncVault('joined') as v, tasks:
                await v.update({'first': 1, 'stuck': [0] * 300_000} if slow == 'large' else {'slow': 1, 'first': 2, 'stuck': 3})
                monkeypatch.setattr(in_pieces.VaultInPieces, 'loaded', loaded)
                gate = Gate()
                held = tasks.start(v.shared.workers.read, gate)
                await until(tasks, gate.entered.is_set)
                wanted = []
                for key in ('first', 'stuck') if slow == 'large' else ('slow', 'first', 'stuck'):
                    wanted.append(tasks.start(v.get, key))
                    await tasks.sleep(0.005)
                gate.opened.set()
                await held.wait()
                await until(tasks, stuck.entered.is_set)
                assert await wanted[0].result() == 1
                stuck.opened.set()
                assert [await one.result() for one in wanted][1:] == ([[0] * 300_000] if slow == 'large' else [2, 3])
        tasks.run(main())

    def test_reads_that_wait_are_one_call_and_each_task_has_an_object_of_its_own(self, tasks):
        async def main():
            engine = Distant()
            async with AsyncVault(store=engine) as v, tasks:
                await v.update({key: [key] for key in range(50)})
                await v.section('part').put('x', 'in a section')
                gate = Gate()
                held = tasks.start(v.shared.workers.read, gate)
                await until(tasks, gate.entered.is_set)
                engine.asked.clear()
                wanted = [tasks.start(v.get, key % 50) for key in range(100)]
                wanted += [tasks.start(v.section('part').get, 'x'), tasks.start(v.get, 'missing', 'default')]
                missing = tasks.start(v.__getitem__, 'missing')
                cancelled, odd = tasks.start(v.get, 7), tasks.start(v.get, [])
                await tasks.sleep(0.01)
                cancelled.cancel()
                gate.opened.set()
                await held.wait()
                got = [await task.result() for task in wanted]
                assert got == [[key % 50] for key in range(100)] + ['in a section', 'default']
                assert len({id(value) for value in got}) == 102
                with pytest.raises(KeyError, match='missing'):
                    await missing.result()
                with pytest.raises(TypeError, match='unhashable'):
                    await odd.result()
                assert [len(keys) for keys in engine.asked if len(keys) > 1] == [52] and len(engine.asked) <= 2
                assert await v[3] == [3] and await v.get(3.0) == [3]
        tasks.run(main())

    def test_what_is_wrong_with_one_is_told_to_its_task_alone(self, tasks):
        class Odd(int):
            def __int__(self):
                raise ZeroDivisionError
            __index__ = __hash__ = __int__

        async def main():
            async with AsyncVault(store=Distant()) as v, tasks:
                await v.update({key: key for key in range(9)})
                await v.put('bad', 1)
                gate = Gate()
                held = tasks.start(v.shared.workers.read, gate)
                await until(tasks, gate.entered.is_set)
                wanted = [tasks.start(v.get, key) for key in (0, 1, 'bad', 2, 3, Odd(4))]
                await tasks.sleep(0.01)
                gate.opened.set()
                await held.wait()
                assert [await wanted[at].result() for at in (0, 1, 3, 4)] == [0, 1, 2, 3]
                with pytest.raises(vaults.VaultCorruptError, match='bad'):
                    await wanted[2].result()
                with pytest.raises(ZeroDivisionError):
                    await wanted[5].result()
        tasks.run(main())

    def test_in_a_block_each_reads_what_the_block_holds(self, tasks):
        async def main():
            async with AsyncVault(store=Distant()) as v:
                await v.put('a', 1)
                async with v.transaction():
                    await v.put('a', 2)
                    assert await v['a'] == await v.get('a') == 2
        tasks.run(main())


class TestAsyncBlocks:
    """A block is of its task, and of others by its handle alone."""

    def test_a_block_commits_or_rolls_back_and_others_read_the_last_commit(self, tasks, make):
        async def main():
            async with make() as v:
                await v.put('n', 1)
                is_apart = v.shared.kept.is_apart

                async def others(t):
                    assert await t['n'] == 2
                    if is_apart:
                        assert await v['n'] == 1 and await listed(v) == ['n']
                async with v.transaction() as t:
                    await v.put('n', 2)
                    assert await v['n'] == await t['n'] == 2 and await v.length() == 1
                    async with tasks:
                        tasks.start(others, t)
                assert await v['n'] == 2
                with pytest.raises(ZeroDivisionError):
                    async with v.transaction():
                        await v.update({'n': 3, 'm': 3})
                        1 / 0
                assert await v.copy() == {'n': 2}
                for use in (t.get, t.put, t.pop):
                    with pytest.raises(vaults.VaultError, match='has ended'):
                        await use('n', 5)
        tasks.run(main())

    def test_nested_blocks(self, tasks, make):
        async def main():
            async with make() as v:
                async with v.transaction() as t:
                    await v.put('a', 1)
                    with pytest.raises(ZeroDivisionError):
                        async with v.transaction():
                            await v.put('b', 1)
                            1 / 0
                    async with t.transaction() as u:
                        await u.put('c', 1)
                        async with v.edit('n', 0):
                            await v.put('d', 1)
                    assert await v.copy() == {'a': 1, 'c': 1, 'd': 1, 'n': 0}
                assert await v.length() == 4
        tasks.run(main())

    def test_a_nested_block_of_another_task_is_its_own(self, tasks, make):
        async def main():
            async with make() as v:
                async with v.transaction() as t:
                    entered, leave = tasks.Event(), tasks.Event()

                    async def child():
                        async with t.transaction() as u:
                            await u.put('child', 1)
                            entered.set()
                            await leave.wait()
                            raise ZeroDivisionError
                    async with tasks:
                        async def guarded():
                            with pytest.raises(ZeroDivisionError):
                                await child()
                        tasks.start(guarded)
                        await entered.wait()
                        for use in (v.put, t.put):
                            with pytest.raises(vaults.VaultTaskError, match='within this one'):
                                await use('mine', 1)
                        leave.set()
                    await t.put('after', 1)
                assert await v.copy() == {'after': 1}
        tasks.run(main())

    def test_edit_writes_back_what_was_changed(self, tasks, make):
        async def main():
            async with make() as v:
                async with v.edit('log', []) as log:
                    log.append('started')
                with pytest.raises(ZeroDivisionError):
                    async with v.edit('log') as log:
                        log.append('lost')
                        1 / 0
                with pytest.raises(KeyError):
                    async with v.edit('none'):
                        pass
                with pytest.raises((TypeError, vaults.UntrustedPickleError)):
                    async with v.edit('log') as log:
                        log.append(object)
                        log.append(threading.Lock())
                await v.list('live')
                async with v.edit('live') as live:
                    assert type(live) in (list, things.AsyncList)
                assert await v['log'] == ['started']
        tasks.run(main())

    def test_writes_of_other_tasks_wait_and_say_after_the_timeout_what_to_do(self, tasks, root):
        async def main():
            async with AsyncVault('busy', timeout=0.1) as v:
                async with v.transaction():
                    await v.put('n', 1)

                    async def child():
                        with pytest.raises(vaults.VaultBusyError, match='handle'):
                            await v.put('child', 1)
                        with pytest.raises(vaults.VaultBusyError):
                            async with v.transaction():
                                pass
                        with pytest.raises(vaults.VaultBusyError):
                            await v.close()
                        return await v.get('n', 'not yet')
                    async with tasks:
                        task = tasks.start(child)
                        assert await task.result() == 'not yet'
                assert await v.copy() == {'n': 1}
        tasks.run(main())

    def test_blocks_of_many_tasks_lose_nothing(self, tasks, make):
        count = 1000 if make.engine == 'sqlite' else 100

        async def main():
            async with make() as v:
                await v.put('n', 0)

                async def add():
                    async with v.transaction():
                        n = await v['n']
                        await tasks.sleep(0)
                        await v.put('n', n + 1)
                async with tasks:
                    for _ in range(count):
                        tasks.start(add)
                assert await v['n'] == count
        tasks.run(main())

    def test_closing_in_a_block_rolls_it_back(self, tasks, make):
        async def main():
            v = make()
            with pytest.raises(vaults.VaultClosedError):
                async with v.transaction():
                    await v.put('lost', 1)
                    await v.close()
            assert v.closed
        tasks.run(main())

    def test_a_vault_itself_in_a_task_raises_as_it_did(self, root):
        async def main():
            async with AsyncVault('both') as v:
                w = Vault('both', timeout=0.05)
                async with v.transaction():
                    await v.put('a', 1)
                    assert 'a' not in w
                    with pytest.raises(vaults.VaultBusyError):
                        w['b'] = 1
                with w:
                    w['b'] = 1
                    with pytest.raises(vaults.VaultTaskError):
                        await asyncio.ensure_future(self.length(w))
                assert await v.length() == 2
        asyncio.run(main())

    @staticmethod
    async def length(w):
        return len(w)

    def test_cancelled_after_any_number_of_steps_the_vault_is_sound_and_free(self, tasks, make):
        async def work(v, done):
            async with v.transaction() as t:
                n = await v['n']
                await t.put('n', n + 1)
                async with v.transaction():
                    await v.put('m', n + 1)
                async with v.edit('log') as log:
                    log.append(n)
                await v.delete('m')
            done.append(n)
            async with v.open('file', 'w') as file:
                await file.write('text')
            async for _ in v.items():
                await v.put('walked', n)
            await v.update({'a': n})

        async def main():
            async with make() as v:
                await v.update({'n': 0, 'log': []})
                finished = []
                for steps in itertools.count():
                    done, is_over = [], []

                    async def one(done=done, is_over=is_over):
                        await work(v, done)
                        is_over.append(1)
                    async with tasks:
                        task = tasks.start(one)
                        for _ in range(steps * (1 + steps // 20)):
                            await tasks.sleep(0)
                        task.cancel()
                        await task.wait()
                    async with v.transaction():  # behind what has begun: a commit ends also where nobody waits for it
                        n = await v['n']
                        assert n in (len(finished), len(finished) + 1) and n >= len(finished) + len(done)
                        assert await v['log'] == list(range(n)) and await v.get('m') is None
                    finished = list(range(n))
                    if is_over or steps > 150:
                        break
                await v.put('after', 1)
                assert await v.check() == []
        tasks.run(main())
