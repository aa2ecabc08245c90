"""Time a vault on a server against a client by hand, a vault here, and Redis; write the table into docs/performance.md.

    pip install -e '.[test,bench]'
    python benchmarks/network.py            # some minutes; prints the tables and writes them
    python benchmarks/network.py --quick    # some seconds, writes nothing: for CI

All servers are on loopback, which leaves the larger part to the two ends. By hand: http.client and msgpack, over one
connection that is kept, to the same server, by the same `POST .../ops`, so that the server does the same for both; it
looks at no error, asks nothing again, and has no idempotency keys. Nor is what it puts at once one transaction. Redis
is Debian's redis-server, which keeps nothing on disk here, with redis-py and msgpack. Who is timed takes its turn at
each operation, in random order, for a number of rounds; a ratio is the median of the ratios within each round, and
beside it that of the smallest times.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import subprocess
import sys
from http.client import HTTPConnection
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import msgpack
from contestants import Contestant, Vaults
from run import (
    ROOT,
    Operation,
    command_line,
    factor,
    finish,
    machine,
    micro,
    over,
    play_rounds,
    table,
    verdict,
    version,
    was_read,
    was_written,
    were_items,
)

sys.path.insert(0, str(ROOT))  # this checkout, not a vaults that is installed

from spec.servers import MissingServerError, PrivateProgram, wait_for
from spec.serving import Serving
from vaults import Vault
from vaults.aio import AsyncVault
from vaults.keys import HIGHEST, LOWEST
from vaults.stores.http.wire import WIRE_TYPE

if TYPE_CHECKING:  # as Python 3.8 cannot subscript these
    from collections.abc import Iterable

    from run import Times

    Entries = dict[str, Any]

FLOOR, LOCAL, REDIS, OURS = 'by hand', 'vaults, here', 'Redis', 'vaults, served'
TASKS = 50
PUT_AT_ONCE = 8192      # entries in a request by hand, and in a pipeline
READ_AT_ONCE = 1000     # keys that Redis is asked for


# Who is timed.

class ByHand(Contestant):
    """http.client and msgpack: a request for each operation, over one connection."""

    def open(self, module: str, folder: Any) -> Any:
        name = folder.name()
        folder.ask('PUT', f'/v1/vaults/{name}')
        self.path, self.headers = f'/v1/vaults/{name}/ops', {'Content-Type': WIRE_TYPE}
        return HTTPConnection('127.0.0.1', folder.port)

    def ask(self, *verbs: Any, block: Any = None) -> Any:
        self.db.request('POST', self.path, msgpack.packb((block, None, verbs)), self.headers)
        error, results = msgpack.unpackb(self.db.getresponse().read())
        if error:
            raise RuntimeError(error)
        return results

    def hit(self, keys: Iterable[str]) -> list[Any]:
        return [msgpack.unpackb(self.ask(('get', key))[0]) for key in keys]

    together = hit  # there is one connection, for one at a time

    def update(self, entries: Entries) -> None:
        left = iter(entries.items())
        for some in iter(lambda: list(itertools.islice(left, PUT_AT_ONCE)), []):
            self.ask(('put_many', *itertools.chain.from_iterable((key, msgpack.packb(value)) for key, value in some)))

    def items(self, _: Entries) -> list[tuple[Any, Any]]:
        found: list[tuple[Any, Any]] = []
        cursor: Any = ()
        while cursor is not None:
            (keys, datas, _, cursor), = self.ask(('page', LOWEST, HIGHEST, False, False, True, *cursor))
            found += zip(keys, map(msgpack.unpackb, datas))
        return found

    def increase(self, entries: Entries) -> None:
        block, before = os.urandom(16), ('begin',)
        for key in entries:
            data = self.ask(before, ('get', key), block=block)[-1]
            before = ('put_many', key, msgpack.packb(increased(msgpack.unpackb(data))))
        self.ask(before, ('commit',), block=block)


class VaultHere(Vaults):
    """A vault in a file of this machine, and an AsyncVault over it."""

    def open(self, module: str, folder: Any) -> Any:
        self.target: Any = folder / 'vault.db'
        return self.opened()

    def opened(self) -> Any:
        self.loop = asyncio.new_event_loop()
        vault = Vault(self.target)
        self.asynchronous = AsyncVault(self.target)
        return vault

    def increase(self, entries: Entries) -> None:
        db = self.db
        with db:
            for key in entries:
                db[key] = increased(db[key])

    def together(self, keys: Iterable[str]) -> list[Any]:
        return self.loop.run_until_complete(self._together(list(keys)))

    async def _together(self, keys: list[str]) -> list[Any]:
        found: Entries = {}

        async def some(first: int) -> None:
            for key in keys[first::TASKS]:
                found[key] = await self.asynchronous.get(key)

        await asyncio.gather(*map(some, range(TASKS)))
        return [found[key] for key in keys]

    def close(self) -> None:
        self.loop.run_until_complete(self.asynchronous.close())
        self.loop.close()
        super().close()


class VaultServed(VaultHere):
    """The same at a server."""

    def open(self, module: str, folder: Any) -> Any:
        self.target = folder.url_of(folder.name())
        return self.opened()


class OverRedis(Contestant):
    """redis-py, as its documentation shows: what is much goes by pipelines, what depends on what was read by WATCH."""

    def open(self, module: str, folder: Any) -> Any:
        db = folder.client()
        db.flushall()
        return db

    def hit(self, keys: Iterable[str]) -> list[Any]:
        get, unpackb = self.db.get, msgpack.unpackb
        return [unpackb(get(key)) for key in keys]

    together = hit

    def update(self, entries: Entries) -> None:
        left = iter(entries.items())
        for some in iter(lambda: list(itertools.islice(left, PUT_AT_ONCE)), []):
            with self.db.pipeline(transaction=False) as pipe:
                for key, value in some:
                    pipe.set(key, msgpack.packb(value))
                pipe.execute()

    def items(self, _: Entries) -> list[tuple[Any, Any]]:
        left, found = self.db.scan_iter(count=READ_AT_ONCE), []
        for keys in iter(lambda: list(itertools.islice(left, READ_AT_ONCE)), []):
            found += zip(keys, map(msgpack.unpackb, self.db.mget(keys)))
        return found

    def increase(self, entries: Entries) -> None:
        with self.db.pipeline() as pipe:
            pipe.watch(*entries)
            new = [(key, increased(msgpack.unpackb(pipe.get(key)))) for key in entries]
            pipe.multi()
            for key, value in new:
                pipe.set(key, msgpack.packb(value))
            pipe.execute()


def increased(value: Any) -> Any:
    return {**value, 'score': value['score'] + 1}


class RedisServer(PrivateProgram):
    """Debian's redis-server in a folder of its own; it keeps nothing on disk."""

    def __init__(self) -> None:
        program = shutil.which('redis-server')
        if program is None or not find_spec('redis'):
            raise MissingServerError('redis-server (Debian: apt-get install redis-server) or redis-py is not installed')
        super().__init__(as_it_is=True)
        self.guard_with('sh', '-c', 'kill -9 $(cat pid)')
        self.process = subprocess.Popen(
            [program, '--port', str(self.port), '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no'],
            cwd=str(self.folder), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True)
        (self.folder / 'pid').write_text(str(self.process.pid))
        wait_for(self.answers)

    def client(self) -> Any:
        import redis

        return redis.Redis('127.0.0.1', self.port)

    def answers(self) -> bool:
        import redis

        try:
            return bool(self.client().ping())
        except redis.ConnectionError:
            return False

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
            (self.folder / 'pid').unlink()  # another process may get it
        super().stop()


# What is done.

def were_put(contestant: Contestant, work: Entries, got: Any) -> bool:
    return were_items(contestant, work, contestant.items(work))  # at once: one by one takes a minute


PUT_MANY, GET, ITEMS = 'put_many() of all', 'v[k]', 'for k, x in v.items()'
OPERATIONS = (
    Operation(PUT_MANY, None, 'update', lambda s: s.entries, were_put),
    Operation(GET, None, 'hit', lambda s: s.known, was_read),
    Operation(f'await v.get(k), {TASKS} tasks', None, 'together', lambda s: s.known, was_read),
    Operation(ITEMS, None, 'items', lambda s: s.entries, were_items),
    Operation('with v: 1,000 times v[k] += 1', None, 'increase',
              lambda s: {key: increased(value) for key, value in s.known.items()}, was_written),
)
LIMITS = {(GET, FLOOR): 1.3, (PUT_MANY, LOCAL): 2.0, (PUT_MANY, REDIS): 1.0, (ITEMS, LOCAL): 2.0, (ITEMS, REDIS): 1.0}


def time_all(serving: Any, redis: Any, entries: int, rounds: int) -> Times:
    def opened(folder: Path) -> dict[str, Any]:
        return {FLOOR: ByHand('', serving), LOCAL: VaultHere('', folder),
                **({REDIS: OverRedis('', redis)} if redis else {}), OURS: VaultServed('', serving)}
    return play_rounds(OPERATIONS, opened, entries, rounds)


def seconds_table(times: Times, names: list[str]) -> str:
    rows: Any = [('operation', *itertools.chain.from_iterable((name, 'minimum') for name in names))]
    for operation in OPERATIONS:
        label = operation.label
        rows.append((label, *(micro(of(times[label][name])) for name in names for of in (median, min))))
    return table(rows)


def ratios_table(times: Times, rivals: list[str]) -> str:
    rows: Any = [('operation', 'times that of', 'ratio', 'of minima', 'at most', 'verdict')]
    for operation in OPERATIONS:
        for rival in rivals:
            label, limit = operation.label, LIMITS.get((operation.label, rival))
            ratio = over(times, label, OURS, rival) or 0.0
            rows.append((label, rival, factor(ratio), factor(min(times[label][OURS]) / min(times[label][rival])),
                         factor(limit, ''), verdict(ratio, limit)))
    return table(rows)


def report(times: Times, redis: Any, entries: int, rounds: int) -> str:
    rivals = [FLOOR, LOCAL, *([REDIS] if redis else [])]
    of_redis = (f' Redis {redis.client().info("server")["redis_version"]}, redis-py {version("redis")}.' if redis else
                ' Redis is left out: it is not installed.')
    return (f'{machine()}{of_redis} {entries:,} entries, medians of {rounds} rounds, in microseconds per operation, of '
            f'what is done at once per entry.\n\n{seconds_table(times, [*rivals, OURS])}\n\nHow many times as long a '
            f'vault takes that is served; the median of the ratios within each round.\n\n{ratios_table(times, rivals)}')


# The command line.

def main() -> None:
    options = command_line(__doc__, 100_000, 9, (300, 2))
    entries, rounds = options.entries, options.rounds
    try:
        redis = RedisServer()
    except MissingServerError as missing:
        print(f'Redis is left out: {missing}')
        redis = None
    try:
        with Serving() as serving:
            times = time_all(serving, redis, entries, rounds)
            finish('network', report(times, redis, entries, rounds), options)
    finally:
        if redis:
            redis.stop()


if __name__ == '__main__':
    main()
