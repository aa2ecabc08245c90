"""Time a vault among the tasks of asyncio against aiosqlite; write the tables into docs/performance.md.

    pip install -e '.[bench]'
    python benchmarks/tasks.py              # some minutes; prints the tables and writes them
    python benchmarks/tasks.py --quick      # some seconds, writes nothing: for CI

aiosqlite is used as fast as it goes: one trip to its thread for a read or a write that is a commit of its own, and
msgpack as in a vault; one row has the cursor of its manual. Its connection is one, so its blocks take turns by a lock.
Who is timed takes its turn at each operation, in random order, for a number of rounds on fresh files; a ratio is the
median of the ratios within each round.

How long the event loop is held up while a large value is loaded says a task that wakes every millisecond. Python's
garbage collector stops all threads to go over what was made; so that is measured with it and without.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import sys
import time
from collections import defaultdict
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import aiosqlite
import msgpack
from contestants import ENTRIES, SELECT, UPSERT, Contestant, Floor
from run import (
    CHANCE,
    ROOT,
    Operation,
    command_line,
    compare_two,
    entry_value,
    finish,
    machine,
    play_rounds,
    table,
    verdict,
    was_read,
    was_written,
    were_items,
)

sys.path.insert(0, str(ROOT))  # this checkout, not a vaults that is installed

from vaults import Vault
from vaults.aio import AsyncVault

if TYPE_CHECKING:  # as Python 3.8 cannot subscript these
    from collections.abc import Awaitable, Callable, Iterable

    Entries = dict[str, Any]

RIVAL, OURS = 'aiosqlite', 'AsyncVault'
TASKS = 50
READS, WRITES, BLOCKS = 10_000, 5_000, 2_000  # at most, in one measurement
LARGE = 10_000_000  # bytes of the value that is loaded
HELD_UP = 0.005     # seconds, at most


# Who is timed.

class Among(Contestant):
    """A dict on disk that tasks share. Each method is one timed loop, shared out among the tasks."""

    def __init__(self, loop: Any, folder: Path) -> None:
        self.loop = loop
        self.db = loop.run_until_complete(self.opened(folder))

    async def opened(self, folder: Path) -> Any:
        raise NotImplementedError

    def shared_out(self, one: Callable[[Any], Awaitable[Any]], works: Iterable[Any]) -> list[Any]:
        """Await one(work) for each, by so many tasks; return the results in the order of the works."""
        left, found = enumerate(works), {}

        async def task() -> None:
            for number, work in left:
                found[number] = await one(work)

        async def main() -> None:
            await asyncio.gather(*(task() for _ in range(TASKS)))
        self.loop.run_until_complete(main())
        return [found[number] for number in range(len(found))]

    def hit(self, keys: Iterable[str]) -> list[Any]:
        return self.shared_out(self.read, keys)

    def by_cursor(self, keys: Iterable[str]) -> list[Any]:
        return self.hit(keys)

    def in_thread(self, keys: Iterable[str]) -> list[Any]:
        return self.hit(keys)

    def put(self, entries: Entries) -> None:
        self.shared_out(lambda pair: self.written(*pair), entries.items())

    def block(self, entries: Entries) -> None:
        self.shared_out(self.increment, entries)

    def items(self, _: Entries) -> list[tuple[Any, Any]]:
        found: list[tuple[Any, Any]] = self.loop.run_until_complete(self.walked())
        return found

    async def read(self, key: str) -> Any:
        raise NotImplementedError

    async def written(self, key: str, value: Any) -> None:
        raise NotImplementedError

    async def increment(self, key: str) -> None:
        """Add one to an entry that all tasks add to, in a block of its own."""
        raise NotImplementedError

    async def walked(self) -> list[tuple[Any, Any]]:
        raise NotImplementedError

    def close(self) -> None:
        self.loop.run_until_complete(self.db.close())


class ByAiosqlite(Among):
    """aiosqlite and msgpack by hand."""

    async def opened(self, folder: Path) -> Any:
        floor = Floor('', folder)  # its tables
        floor.close()
        db = await aiosqlite.connect(folder / 'floor.db', isolation_level=None)
        await db.execute_fetchall('PRAGMA synchronous = NORMAL')
        self.lock, self.pack = asyncio.Lock(), msgpack.Packer().pack
        return db

    def by_cursor(self, keys: Iterable[str]) -> list[Any]:
        async def read(key: str) -> Any:
            async with self.db.execute(SELECT, (key,)) as cursor:
                return msgpack.unpackb((await cursor.fetchone())[0])
        return self.shared_out(read, keys)

    def update(self, entries: Entries) -> None:
        async def fill() -> None:
            await self.db.execute_fetchall('BEGIN')
            await self.db.executemany(UPSERT, [(key, self.pack(value)) for key, value in entries.items()])
            await self.db.commit()
        self.loop.run_until_complete(fill())

    async def read(self, key: str) -> Any:
        (row,) = await self.db.execute_fetchall(SELECT, (key,))
        return msgpack.unpackb(row[0])

    async def written(self, key: str, value: Any) -> None:
        await self.db.execute_fetchall(UPSERT, (key, self.pack(value)))

    async def increment(self, key: str) -> None:
        fetchall = self.db.execute_fetchall
        async with self.lock:
            await fetchall('BEGIN IMMEDIATE')
            rows = await fetchall(SELECT, ('count',))
            await fetchall(UPSERT, ('count', self.pack(msgpack.unpackb(rows[0][0]) + 1 if rows else 1)))
            await fetchall('COMMIT')

    async def walked(self) -> list[tuple[Any, Any]]:
        async with self.db.execute(ENTRIES) as cursor:
            return [(key, msgpack.unpackb(value)) async for key, value in cursor]


class ByAsyncVault(Among):
    """The vault that all this is about, and beside it one whose calls go to the threads of asyncio."""

    async def opened(self, folder: Path) -> Any:
        self.plain = Vault(folder / 'vault.db', thread_safe=True)
        vault = AsyncVault(folder / 'vault.db')
        await vault.length()
        return vault

    def update(self, entries: Entries) -> None:
        self.loop.run_until_complete(self.db.update(entries))

    def in_thread(self, keys: Iterable[str]) -> list[Any]:
        get = self.plain.get
        return self.shared_out(lambda key: asyncio.to_thread(get, key), keys)

    async def read(self, key: str) -> Any:
        return await self.db[key]

    async def written(self, key: str, value: Any) -> None:
        await self.db.put(key, value)

    async def increment(self, key: str) -> None:
        async with self.db.transaction() as t:
            await t.put('count', await t.get('count', 0) + 1)

    async def walked(self) -> list[tuple[Any, Any]]:
        return [(key, value) async for key, value in self.db.items()]

    def close(self) -> None:
        super().close()
        self.plain.close()


# What is done.

def was_counted(contestant: Any, work: Entries, got: Any) -> bool:
    return bool(contestant.hit(['count']) == [len(work)])


def some(entries: Entries, count: int) -> Entries:
    return dict(itertools.islice(entries.items(), count))


OPERATIONS = (
    Operation('update() of all', None, 'update', lambda s: s.entries, was_written),
    Operation('await v[k]', 0.60, 'hit', lambda s: some(s.entries, READS), was_read),
    Operation('await v[k], a cursor there', None, 'by_cursor', lambda s: some(s.entries, READS), was_read),
    Operation('asyncio.to_thread(v.get, k)', None, 'in_thread', lambda s: some(s.entries, READS), was_read),
    Operation('async for k, x in v.items()', None, 'items', lambda s: s.entries, were_items),
    Operation('await v.put(k, x)', None, 'put', lambda s: some(s.changed, WRITES), was_written),
    Operation('a block, one increment', None, 'block', lambda s: some(s.block, BLOCKS), was_counted),
)


def time_operations(loop: Any, entries: int, rounds: int) -> str:
    times = play_rounds(OPERATIONS, lambda folder: {RIVAL: ByAiosqlite(loop, folder), OURS: ByAsyncVault(loop, folder)},
                        entries, rounds)
    return (f'aiosqlite {aiosqlite.__version__}: {entries:,} entries, {TASKS} tasks, medians of {rounds} rounds, in '
            f'microseconds per operation.\n\n{compare_two(OPERATIONS, times, RIVAL, OURS)}')


# How long the loop is held up.

def large_value(size: int) -> list[Any]:
    """Return dicts and lists that take so many bytes."""
    one = {**entry_value(100_000), 'tags': ['news', 'sport', 100_000]}
    count = size // len(msgpack.packb(one))
    return [{**one, 'id': number, 'tags': ['news', 'sport', number]} for number in range(count)]


async def held_up(waited_for: Awaitable[Any]) -> tuple[float, float]:
    """Await something; return how long another task was kept from running meanwhile, at most, and how long all took."""
    longest, is_over = 0.0, False

    async def tick() -> None:
        nonlocal longest
        while not is_over:
            start = time.perf_counter()
            await asyncio.sleep(0.001)
            longest = max(longest, time.perf_counter() - start - 0.001)
    ticking = asyncio.ensure_future(tick())
    await asyncio.sleep(0.01)
    longest, start = 0.0, time.perf_counter()
    value = await waited_for
    took = time.perf_counter() - start
    await asyncio.sleep(0.002)  # until it has run once more
    is_over = True
    await ticking
    del value
    return longest, took


async def time_large(size: int, rounds: int) -> str:
    value = large_value(size)
    data = msgpack.packb(value)
    found: Any = defaultdict(list)
    with TemporaryDirectory() as folder:
        async with AsyncVault(Path(folder) / 'vault.db') as v:
            await v.put('large', value)
            del value
            ways: Any = {'await v[k]': lambda: v['large'],
                         'asyncio.to_thread(msgpack.unpackb)': lambda: asyncio.to_thread(msgpack.unpackb, data)}
            for _ in range(rounds):
                turns = [(way, is_collected) for way in ways for is_collected in (True, False)]
                for way, is_collected in CHANCE.sample(turns, len(turns)):
                    gc.collect()
                    (gc.enable if is_collected else gc.disable)()
                    found[way, is_collected].append(await held_up(ways[way]()))
            gc.enable()
    rows: Any = [('loaded by', 'garbage collector', 'held up', 'minimum', 'all of it', 'at most', 'verdict')]
    for (way, is_collected), times in sorted(found.items(), key=str):
        longest, took = zip(*times)
        has_limit = way == 'await v[k]'
        rows.append((way, 'on' if is_collected else 'off', *(f'{seconds * 1e3:.1f}' for seconds in (
            median(longest), min(longest), median(took))), f'{HELD_UP * 1e3:.0f}' if has_limit else '',
            verdict(median(longest), HELD_UP if has_limit else None)))
    return (f'The longest time that the event loop is held up while a value of {len(data) / 1e6:.1f} MB of dicts and '
            f'lists is loaded, and the time that loading it takes, in milliseconds, medians of {rounds} rounds:\n\n'
            f'{table(rows)}')


# The command line.

def main() -> None:
    options = command_line(__doc__, 100_000, 9, (2_000, 2))
    loop = asyncio.new_event_loop()
    parts = [f'{machine()} A ratio is the median of the ratios within each round.',
             time_operations(loop, options.entries, options.rounds),
             loop.run_until_complete(time_large(LARGE // 10 if options.quick else LARGE, options.rounds))]
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    finish('tasks', '\n\n'.join(parts), options)


if __name__ == '__main__':
    main()
