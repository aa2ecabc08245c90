"""Cancel the tasks that work on an AsyncVault, and kill their process, and look whether nothing is lost, half done or locked.

    python trials/tasks.py [--rounds N] [--seed S] [--only ENGINE]

A round is about one engine and one event loop, of asyncio or of trio. Twelve tasks do steps on one vault: they put, delete, append,
count in blocks and by edit(), in blocks within blocks and by tasks that a block begins, write streams and walk; walks are broken off and go
on. All the while one of them is cancelled, after a random time or a random number of turns of the loop, and another one comes in its
place. Their process is killed by SIGKILL, and the next one goes on with the same vault; beside it a process of threads does the
same on a plain Vault, where the engine lets two processes in.
A task says how each step ended, also of one that it was cancelled in: what is cancelled before its block ends is surely not done, nor is
what waits for the block of another task. Of the rest nobody can tell, until a block, which comes behind all that had begun, looks, says
what is there, and has to be right about it for ever.
Nothing that was said to be done may be missing, nothing that was said not to be done may be there, and nothing twice or by half. No lock
is left: when all tasks are cancelled, another opener of the vault writes to it; and the loop goes on while another process has it
locked.

Prints a line of figures; exits with 1 when a promise broke. An engine or loop whose means are not there is left out, which it says.
"""
from __future__ import annotations

import collections
import contextlib
import importlib.util
import itertools
import pathlib
import random
import sys
import tempfile
import threading
import time

from shared import IN_MEMORY, ROOT
from shared.processes import Process
from shared.verdict import Trial
from shared.writers import (
    BROKE,
    DONE,
    NOT,
    OFTEN,
    STREAM,
    TIMEOUT,
    UNSURE,
    Judgement,
    Writer,
    listen,
    outcome_of,
    write,
)

sys.path.insert(0, str(ROOT))

from spec.aio import AsyncioTasks, TrioTasks
from spec.servers import MissingServerError, postgres
from spec.serving import Serving
from vaults import Vault, VaultError
from vaults.aio import AsyncVault

TASKS = 12
KILLS = 2          # of a round
SECONDS = .3       # that a process has tasks; those that are killed, less
HELD = .3          # seconds that somebody else has the vault locked
BEAT = .005
MISSED = 30        # beats that a thread has had, and a loop none of, which then was held up
IDLE = 1.0         # seconds after which a server rolls a block back in which nothing is asked
JSON = 'json'      # where one process has a vault at a time, and what is written outside of blocks is kept by sync()
ENGINES = ('file', JSON, 'postgresql', 'http')
KINDS = {**OFTEN, 'walk': 2, 'waiting': 2}
LOOPS = {'asyncio': AsyncioTasks, 'trio': TrioTasks}
LEFT_BY = {'put': (), 'setdefault': (), 'update': (0,), 'block': (), 'stream': ()}  # by kind: its key is kind, step, and this


class UndoneError(Exception):
    """What an inner block ends with."""


# --- tasks --------------------------------------------------------------------------------------------------------

class TaskWriter(Writer):
    """A task that does the steps of a writer, and may be cancelled in each of them."""

    def __init__(self, crew, name):
        super().__init__(crew.vault, name, crew.seed, crew.tell, 0, True)
        self.crew, self.tasks, self.mine = crew, crew.tasks, crew.mine
        self.is_undone = False  # whether nothing of this step is kept if the task is cancelled now

    async def run(self):
        try:
            for number in itertools.count(1):
                kind, step = self.rng.choices([*KINDS], [*KINDS.values()])[0], f'{self.name}.{number}'
                self.say(kind, step, 'begun')
                await self.do(kind, step)
                if self.rng.random() < .05:
                    await self.look_at_doubtful()
        except Exception as error:  # whatever is not as it should be
            self.say('task', f'{self.name}.0', f'{BROKE} {error!r}')

    def say(self, kind, step, outcome):
        self.tell(f'{step} {kind} {outcome}\n'.encode())

    async def do(self, kind, step):
        """Do a step, and say how it ended; what the task is cancelled in as well."""
        self.is_undone = False
        try:
            await getattr(self, kind)(step)
            if self.crew.is_json:
                await self.vault.sync()
            outcome = NOT if kind == 'waiting' else DONE
        except self.tasks.cancelled:
            self.say(kind, step, NOT if self.is_undone else UNSURE)
            if kind in LEFT_BY and not self.is_undone:
                self.crew.doubtful[step] = kind
            raise
        except Exception as error:
            outcome = outcome_of(kind, error)
        self.say(kind, step, outcome)
        if outcome == NOT:
            await self.tasks.sleep(.001)
        elif kind == 'put':
            self.mine.append(step)

    async def wait(self):
        """Let others go on, for some turns of the loop, or for some time."""
        for _ in range(self.rng.choice((0, 0, 1, 2, 5))):
            await self.tasks.sleep(0)
        if self.rng.random() < .1:
            await self.tasks.sleep(.001)

    @contextlib.asynccontextmanager
    async def within(self):
        """Be in a block, of which nothing is kept when the task is cancelled before it ends."""
        self.is_undone = True
        async with self.vault.transaction() as t:
            yield t
            self.is_undone = False

    async def look_at_doubtful(self):
        """Look what became of steps that were cancelled, behind all that had begun then; say so."""
        doubtful, found = dict(self.crew.doubtful), {}
        async with self.vault.transaction():
            for step, kind in doubtful.items():
                found[step] = await self.vault.contains((kind, step, *LEFT_BY[kind]))
        for step, kind in doubtful.items():
            self.say(kind, step, DONE if found[step] else NOT)
            self.crew.doubtful.pop(step, None)

    # --- the steps ---

    async def put(self, step):
        await self.vault.put(('put', step), 1)

    async def overwrite(self, step):
        await self.vault.put('hot', step)

    async def update(self, step):
        """Put some entries at once; or in a block, by tasks that it begins."""
        parts = {('update', step, part): part for part in range(3)}
        if self.rng.random() < .5:
            await self.vault.update(parts)
            return
        async with self.within() as t:
            children = [self.tasks.start(self.put_as_child, t, key, part) for key, part in parts.items()]
            for child in children:
                await child.wait()

    async def put_as_child(self, t, key, value):
        with contextlib.suppress(VaultError):  # its block ends when its parent is cancelled
            await t.put(key, value)

    async def setdefault(self, step):
        assert await self.vault.setdefault(('setdefault', step), 1) == 1

    async def block(self, step):
        async with self.within() as t:
            v = self.rng.choice((self.vault, t))
            count, hot = await v.get('count', 0), await v.get('hot')
            await self.wait()
            await v.put(('block', step), 1)
            with contextlib.suppress(UndoneError):
                async with v.transaction() as inner:
                    await inner.put(('block', f'{step}, undone'), 1)
                    await self.wait()
                    raise UndoneError
            async with v.transaction():
                await v.put('count', count + 1)
            assert await v.get('hot') == hot, 'somebody wrote beside a block'
        assert await self.vault.contains(('block', step)), 'what a block did is not there when it has ended'

    async def waiting(self, step):
        """In a block, begin what waits for it; all of that is cancelled before the block ends."""
        async with self.vault.transaction():
            others = [self.tasks.start(self.vault.put, ('waiting', step, number), 1) for number in range(3)]
            try:
                for other in others:
                    await self.wait()
                    other.cancel()
                    await other.wait()
            finally:
                for other in others:
                    other.cancel()

    async def edit(self, step):
        self.is_undone = True
        async with self.vault.edit('edited', {}) as counts:
            counts[self.name] = counts.get(self.name, 0) + 1
            await self.wait()
            counts['all'] = counts.get('all', 0) + 1
            self.is_undone = False

    async def append(self, step):
        await (await self.vault.list('list')).append(step)

    async def delete(self, step):
        await self.vault.put(('delete', step), 1)
        await self.vault.delete(('delete', step))

    async def stream(self, step):
        self.is_undone = True
        async with self.vault.open(('stream', step), 'wb') as file:
            for _ in range(5):
                await file.write(b'x' * (STREAM // 5))
            self.is_undone = False

    async def read(self, step):
        for one in self.rng.sample(self.mine, min(3, len(self.mine))):
            assert await self.vault.get(('put', one)) == 1, f'what {one} put is not there'

    async def walk(self, step):
        """Walk, by one task after another, each of which may be cancelled."""
        mine, seen = {*self.mine}, []
        walk = self.vault.prefix(('put',)).__aiter__()
        while None not in seen[-1:]:
            other = self.tasks.start(self.go_on, walk, seen)
            await self.tasks.sleep(self.rng.choice((0, .0001, .0005, .002)))  # at best, while it reads in its thread
            if self.rng.random() < .5:
                other.cancel()
                await other.wait()
            else:
                await other.result()
        missing, twice = mine.difference(seen), len(seen) - len({*seen})
        assert not missing and not twice, f'a walk left out {len(missing)}, and met {twice} twice'

    async def go_on(self, walk, seen):
        async for _, one in walk:
            seen.append(one)
        seen.append(None)


class Crew:
    """The tasks of one event loop, on one vault."""

    def __init__(self, url, loop, name, seed, is_json, tell):
        self.url, self.tasks, self.name, self.seed, self.is_json, self.tell = url, LOOPS[loop](), name, seed, is_json, tell
        self.rng, self.numbers, self.beats = random.Random(f'{seed} {name}'), itertools.count(), 0
        self.is_over = False
        self.mine, self.doubtful = [], {}  # steps that have put; those that were cancelled, and their kinds

    async def work(self):
        """Have tasks work, and cancel them, until it is time; then see that none has left a lock."""
        end = time.monotonic() + SECONDS
        self.vault = AsyncVault(self.url, timeout=TIMEOUT)
        async with self.vault:
            async with self.tasks:
                beating = self.tasks.start(self.beat)
                working = [self.begin() for _ in range(TASKS)]
                while time.monotonic() < end:
                    for _ in range(self.rng.randrange(10)):
                        await self.tasks.sleep(0)
                    await self.tasks.sleep(self.rng.choice((0, .001, .005)))
                    at = self.rng.randrange(TASKS)
                    working[at].cancel()
                    working[at] = self.begin()
                for task in [*working, beating]:
                    task.cancel()
            self.end()

    def begin(self):
        return self.tasks.start(TaskWriter(self, f'{self.name}.{next(self.numbers)}').run)

    def tick(self):
        """Count, in a thread, which gets no time either when the process gets none."""
        while not self.is_over:
            time.sleep(BEAT)
            self.beats += 1

    async def beat(self):
        """See that the loop goes on, whatever its tasks wait for."""
        threading.Thread(target=self.tick).start()
        try:
            while True:
                beats = self.beats
                await self.tasks.sleep(BEAT)
                if self.beats > beats + MISSED:
                    self.tell(f'{self.name}.beat loop {BROKE} was held up for {self.beats - beats} beats\n'.encode())
        finally:
            self.is_over = True

    def end(self):
        """Have the vault written by another opener at once, where there may be one."""
        if not self.is_json:
            step = f'{self.name}.end'
            with contextlib.closing(Vault(self.url, timeout=TIMEOUT)) as other:
                other['end', step] = 1
            self.tell(f'{step} end {DONE}\n'.encode())


def work(*arguments):
    """Be a process of tasks."""
    crew = Crew(*arguments)
    crew.tasks.run(crew.work())


# --- the rounds ---------------------------------------------------------------------------------------------------

def tried(url, loop, seed, is_json):
    """Do a round; return its judgement."""
    Vault(url).close()
    rng = random.Random(seed)
    processes = [] if is_json else [Process(write, url, 'beside', 1, (KILLS + 1) * SECONDS, seed, 0.0, True, TIMEOUT)]
    try:
        for number in range(KILLS):
            processes.append(Process(work, url, loop, f'killed{number}', seed, is_json))
            listen(processes, rng.uniform(.05, SECONDS))
            processes[-1].end()
        processes.append(Process(work, url, loop, 'last', seed, is_json))
        if not is_json:
            listen(processes, SECONDS / 4)
            with contextlib.closing(Vault(url)) as v, v:
                v['hot'] = 'held'
                listen(processes, HELD)
        for process in processes:
            code = process.join()
            assert code in (0, -9), f'a process ended with {code}'
    finally:
        for process in processes:
            process.end()
    with contextlib.closing(Vault(url)) as v:
        with v:  # which nobody keeps it from
            v['hot'] = 'the end'
        return Judgement(v, [process.said for process in processes])


def engines(folder, stack):
    """Return by engine what makes the URL of a new vault. It raises MissingServerError where its means are not there."""
    numbers, servers = itertools.count(), []

    def of_server():
        if not servers:
            servers.append(stack.enter_context(Serving(constants={'leases.IDLE_BLOCK': IDLE})))
        return servers[0].url_of(servers[0].name())
    return {'file': lambda: folder / f'{next(numbers)}.db', JSON: lambda: f'json+file://{folder}/{next(numbers)}.json',
            'postgresql': lambda: postgres().vault(), 'http': of_server}


def cancel_tasks(trial, options, loops, makers):
    """Do rounds; return the figures."""
    total, by_engine = collections.Counter(), collections.Counter()
    for number in range(options.rounds):
        (engine, make), loop = makers[number % len(makers)], loops[number // len(makers) % len(loops)]
        try:
            judgement = tried(make(), loop, f'{options.seed}.{number}', engine == JSON)
        except Exception as error:  # whatever is not as it should be
            trial.broke(f'round {number}, {engine}, {loop}: {error!r}')
            continue
        for problem in judgement.all_problems():
            trial.broke(f'round {number}, {engine}, {loop}: {problem}')
        total.update(judgement.count)
        by_engine[engine] += judgement.count[DONE]
    return (f'{options.rounds} rounds; {total[DONE]:,} steps done, {total[NOT]:,} surely not, of {total[UNSURE]:,} nobody can tell; '
            f'{len(trial.broken)} promises broken\ndone: {", ".join(f"{engine} {count:,}" for engine, count in by_engine.items())}')


def main():
    trial = Trial(__doc__, rounds=2 * len(ENGINES))
    trial.parser.add_argument('--only', choices=ENGINES, metavar='ENGINE', action='append',
                              help=f'what the rounds are about, may be repeated: {", ".join(ENGINES)}')
    options = trial.begin()
    loops = [loop for loop in LOOPS if importlib.util.find_spec(loop)]
    if len(loops) < len(LOOPS):
        print('trio is left out: it is not installed')
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(dir=IN_MEMORY))).resolve()
        makers = []
        for engine, make in engines(folder, stack).items():
            if engine not in (options.only or ENGINES):
                continue
            try:
                make()
                makers.append((engine, make))
            except MissingServerError as missing:
                print(f'{engine} is left out: {missing}')
        figures = cancel_tasks(trial, options, loops, makers)
    trial.end(figures)


if __name__ == '__main__':
    main()
