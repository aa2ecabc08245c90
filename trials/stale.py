"""Let processes write, begin the log anew and be killed while another reads through a read cache: no value may be old.

    python trials/stale.py [--rounds N]

Two writers count up under keys of their own, alone and in blocks, of which some fail, and read through a cache what they
have written. A meddler moves the log all the time, so that it begins anew, compacts, opens and closes. A round ends with
one of them killed. The reader looks a key up without a cache, with one, and without again: what the cache gives is not
older than what was found before or a writer had done, nor newer than what is found after. Exits with 1 when it is.
"""
from __future__ import annotations

import contextlib
import mmap
import pathlib
import random
import signal
import tempfile
import time

from shared import IN_MEMORY
from shared.processes import Process
from shared.verdict import Trial

from vaults import Vault, VaultBusyError

KEYS, ROUND = ['a', 'b', ('c', 1), 4], 0.2  # seconds


def number(vault, at):
    value = vault.get(KEYS[at], 0)
    return value['n'] if isinstance(value, dict) else value


def write(path, mine, told, _):
    v = Vault(path, read_cache=100)
    for turn in range(10**9):
        at = random.choice(mine)
        n = number(v, at) + 1
        with contextlib.suppress(InterruptedError), v if turn % 3 == 0 else contextlib.nullcontext():
            v[KEYS[at]] = {'n': n} if turn % 2 else n
            assert number(v, at) == n, 'a writer does not read what it has written'
            if turn % 9 == 0:
                raise InterruptedError
        if turn % 9:
            told[at] = n
        time.sleep(random.choice((0, 0, 0.0001, 0.001)))


def meddle(path, *_):
    while True:
        with contextlib.closing(Vault(path)) as v, contextlib.suppress(VaultBusyError):
            for _ in range(random.randrange(100)):
                v._store.checkpoint(v._store.local.c)
                time.sleep(random.random() / 2000)
            v.compact()


def look(trial, plain, cached, told):
    """Look a key up some times in a row; return how often."""
    at, times = random.randrange(len(KEYS)), random.randrange(1, 6)
    for _ in range(times):
        low = max(told[at], number(plain, at))
        found, high = number(cached, at), number(plain, at)
        if not low <= found <= high:
            trial.broke(f'{KEYS[at]!r} was {found} in the cache, between {low} and {high}')
    return times


def main():
    trial, read, told = Trial(__doc__, 15), [], memoryview(mmap.mmap(-1, 8 * len(KEYS))).cast('q')
    looks, options = 0, trial.begin()
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as folder:
        plain, cached = (Vault(pathlib.Path(folder, 'v.db'), read_cache=size) for size in (0, 100))
        get, jobs = cached._store.get, [(write, [0, 2]), (write, [1, 3]), (meddle, [])]
        cached._store.get = lambda key: [read.append(key), get(key)][1]  # what is not given from memory
        running = [Process(job, pathlib.Path(plain.db_path), mine, told) for job, mine in jobs]
        for turn in range(options.rounds):
            until, (job, mine), process = time.monotonic() + ROUND, jobs[turn % 3], running[turn % 3]
            while time.monotonic() < until:
                looks += look(trial, plain, cached, told)
            if process.end() != -signal.SIGKILL:
                trial.broke(f'{job.__name__} ended by itself')
            running[turn % 3] = Process(job, pathlib.Path(plain.db_path), mine, told)
        assert {process.end() for process in running} == {-signal.SIGKILL}
        assert len(read) < looks, 'nothing came from memory: a read cache is for Linux'
    trial.end(f'{looks} looks, {looks - len(read)} from memory, {sum(told)} writes told, {options.rounds} kills')


if __name__ == '__main__':
    main()
