"""Tasks that do anything at once with one AsyncVault, held against dicts: Hypothesis finds the smallest that differs."""
from __future__ import annotations

import inspect
import pathlib
import tempfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vaults.aio import AsyncVault


async def copied(v):
    """Return all entries in their order, as they are at one time: between the steps of a walk others may write."""
    return list((await v.copy()).items())


READ = {
    'get': (lambda v, key, value: v.get(key), lambda d, key, value: d.get(key)),
    'item': (lambda v, key, value: v[key], lambda d, key, value: d[key]),
    'contains': (lambda v, key, value: v.contains(key), lambda d, key, value: key in d),
    'copy': (lambda v, key, value: copied(v), lambda d, key, value: list(d.items())),
}
WRITTEN = {
    'put': (lambda v, key, value: v.put(key, value), lambda d, key, value: d.update({key: value})),
    'delete': (lambda v, key, value: v.delete(key), lambda d, key, value: d.__delitem__(key)),
    'pop': (lambda v, key, value: v.pop(key), lambda d, key, value: d.pop(key)),
    'setdefault': (lambda v, key, value: v.setdefault(key, value), lambda d, key, value: d.setdefault(key, value)),
    'update': (lambda v, key, value: v.update({key: value, 'updated': value}), lambda d, key, value: d.update({key: value, 'updated': value})),
    'clear': (lambda v, key, value: v.clear(), lambda d, key, value: d.clear()),
}
VERBS = {**READ, **WRITTEN}
STEPS = st.lists(st.tuples(st.integers(0, 2), st.sampled_from(['begin', 'begin', 'begin', 'commit', 'commit', 'roll back', 'cancel', *VERBS]),
                           st.sampled_from('ab'), st.integers(0, 9)), min_size=10, max_size=40)


class Actor:
    """A task that does what it is told, one thing after the other, in blocks of its own."""

    def __init__(self, tasks, v):
        self.tasks, self.v = tasks, v
        self.blocks, self.wish, self.outcome = [], None, None
        self.wished, self.begun, self.ended = tasks.Event(), tasks.Event(), tasks.Event()
        self.task = tasks.start(self.work)

    async def work(self):
        try:
            while True:
                await self.wished.wait()
                self.wished = self.tasks.Event()
                if self.wish is None:
                    return
                self.begun.set()    # and what it asks of the vault is asked before any other task runs
                self.outcome = await came_of(self.wish)
                self.ended.set()
        except BaseException as error:
            while self.blocks:
                await self.blocks.pop().__aexit__(type(error), error, None)
            self.outcome = error
            self.ended.set()
            raise

    async def begin(self):
        block = self.v.transaction()
        await block.__aenter__()
        self.blocks.append(block)

    async def end(self, error=None):
        await self.blocks.pop().__aexit__(type(error) if error else None, error, None)

    async def ask(self, wish):
        """Have it begin something."""
        self.wish, self.begun, self.ended = wish, self.tasks.Event(), self.tasks.Event()
        self.wished.set()
        await self.begun.wait()

    async def told(self):
        """Return what came of it."""
        await self.ended.wait()
        return self.outcome

    def stop(self):
        self.wish = None
        self.wished.set()


async def came_of(act):
    """Return what comes of what is done, or awaited."""
    try:
        result = act()
        return await result if inspect.isawaitable(result) else result
    except KeyError:
        return KeyError


class Played:
    """A vault, its tasks, and the dict that it should be: with one more for each block that is open, the innermost last."""

    def __init__(self, tasks, v, is_apart):
        self.tasks, self.v, self.is_apart = tasks, v, is_apart
        self.actors = [Actor(tasks, v) for _ in range(3)]
        self.dicts, self.owner, self.waiting = [{}], None, []

    async def step(self, who, what, key, value):
        actor = self.actors[who]
        if what == 'cancel':
            await self.cancel(who)
        elif any(one is actor for one, *_ in self.waiting):
            return
        elif what == 'begin':
            if self.owner in (None, actor):
                await self.done(actor, actor.begin, lambda: None)
                self.owner = actor
                self.dicts.append(dict(self.dicts[-1]))
        elif what in ('commit', 'roll back'):
            if self.owner is actor:
                await self.done(actor, actor.end if what == 'commit' else lambda: actor.end(ZeroDivisionError()), lambda: None)
                last = self.dicts.pop()
                if what == 'commit':
                    self.dicts[-1] = last
                await self.let_on()
        else:
            ours, theirs = VERBS[what]
            wish = (lambda: ours(self.v, key, value)), (lambda: theirs(self.dicts[-1], key, value))
            if self.owner in (None, actor):
                await self.done(actor, *wish)
            elif what in READ and self.is_apart:   # it reads what was committed last
                await self.done(actor, wish[0], lambda: theirs(self.dicts[0], key, value))
            else:
                await actor.ask(wish[0])
                self.waiting.append((actor, wish[1]))

    async def done(self, actor, ours, theirs):
        await actor.ask(ours)
        assert await actor.told() == await came_of(theirs)

    async def let_on(self):
        """Have those that waited for a block done, in the order in which they came."""
        if len(self.dicts) == 1:
            self.owner, waiting, self.waiting = None, self.waiting, []
            expected = [await came_of(theirs) for _, theirs in waiting]
            assert [await actor.told() for actor, _ in waiting] == expected

    async def cancel(self, who):
        actor = self.actors[who]
        actor.task.cancel()
        await actor.task.wait()
        self.actors[who] = Actor(self.tasks, self.v)
        self.waiting = [one for one in self.waiting if one[0] is not actor]     # what had not begun is never done
        if self.owner is actor:
            del self.dicts[1:]
            await self.let_on()

    async def over(self):
        if self.owner is not None:
            await self.cancel(self.actors.index(self.owner))
        assert await copied(self.v) == list(self.dicts[0].items()) and await self.v.check() == []
        for actor in self.actors:
            actor.stop()


class TestTasksAtOnce:
    """Whatever tasks do at once, each reads and writes as if one came after the other."""

    @pytest.mark.parametrize('engine', ['file', 'memory'])
    @settings(max_examples=120)
    @given(steps=STEPS)
    def test_whatever_they_do_the_vault_is_what_the_dict_is(self, tasks, engine, steps):
        async def main(folder):
            path = pathlib.Path(folder, 'of_tasks.db') if engine == 'file' else ':memory:'
            together = type(tasks)()
            async with AsyncVault(path, timeout=60.0) as v, together:
                played = Played(together, v, engine == 'file')
                try:
                    for step in steps:
                        await played.step(*step)
                    await played.over()
                except BaseException:
                    for actor in played.actors:
                        actor.task.cancel()
                    raise
        with tempfile.TemporaryDirectory() as folder:
            tasks.run(main(folder))
