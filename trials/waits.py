"""Let processes and threads crowd around one vault and measure how long they wait, and how far its log grows.

    python trials/waits.py [--rounds N] [--processes P] [--part readers|log|writers]

Three parts, each of so many seconds as there are rounds.

- Readers: while one process holds blocks open, each with more in it than SQLite keeps in memory, others read with every
  verb, open the vault, walk it and back it up. Nobody may wait until such a block ends.
- Writers: many processes make small blocks and single writes as fast as they can, with the timeout that a vault has by
  default. None may see VaultBusyError.
- Log: writers of all sorts, also those that come, write a little and go, beside readers that read all the time, or
  leave walks behind unfinished. The write-ahead log may not grow beyond a bound.

Prints a line of figures for each part; exits with 1 when a promise broke.
"""
from __future__ import annotations

import contextlib
import itertools
import os
import pathlib
import random
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

from shared.model import Draw, Failed, attempt, do
from shared.processes import ask_all
from shared.verdict import Trial

from vaults import Vault

HANGS = 600         # seconds, for a process
HOLD = 1.5          # seconds that a block is held open
LARGE = 24 << 20    # bytes in such a block; SQLite keeps 16 MB of one in memory
BOUND = 32 << 20    # bytes that the log may take, and for each process besides
EACH = 2 << 20
TIMEOUT = 5.0       # seconds, the default of a vault


def crowded(trial, folder, seconds, jobs, timeout=TIMEOUT, watch=lambda: None):
    """Do jobs, each in a process, that begin together; return what they returned. `watch` is called all the while."""
    calls = [(work, folder, job, number, seconds, timeout) for number, job in enumerate(jobs)]
    answers = ask_all(calls, watch, HANGS)
    for job, answer in zip(jobs, answers):
        if answer.code:
            trial.broke(f'{job.__name__} ended with {answer.code}')
    return [answer.value for answer in answers if not answer.code]


def work(folder, job, number, seconds, timeout):
    with contextlib.closing(Vault(folder / 'crowd.db', timeout=timeout)) as v:
        return job(v, random.Random(f'{job.__name__} {number}'), time.monotonic() + seconds)


# --- readers ------------------------------------------------------------------------------------------------------

READING = ('get', 'in', 'get_many', 'slice', 'prefix', 'len', 'items', 'reversed', 'section items')  # steps of the model
BESIDES = {  # and what is done with the path of the vault, seldom
    'opening': lambda path: Vault(path).close(),
    'opening to read': lambda path: Vault(path, flag='r').close(),
    'check': lambda path: Vault(path).check(),
    'backup': lambda path: back_up(path, path.with_name(f'{os.getpid()}.backup')),
}


def back_up(path, to):
    Vault(path).backup(to)
    to.unlink()


def read(v, rng, end):
    """Read with one verb after another; return how long each took, by verb."""
    took, draw, path = {name: [] for name in (*READING, *BESIDES)}, Draw(rng.random()), pathlib.Path(v.db_path)
    while time.monotonic() < end:
        for name in READING if rng.random() < 0.9 else BESIDES:
            step = draw.step(name) if name in READING else ()
            began = time.perf_counter()
            attempt(v, step) if step else BESIDES[name](path)
            took[name].append(time.perf_counter() - began)
    return took


def hold(v, rng, end):
    """Hold blocks open, one after another. Each other one is large, and fails: or who reads all would measure its size."""
    for is_large in itertools.cycle((True, False)):
        with contextlib.suppress(Failed), v:
            for number in range(LARGE >> 16 if is_large else 1):
                v[f'large {number}'] = rng.random(), bytes(1 << 16)
            time.sleep(HOLD)
            if is_large:
                raise Failed
        v.compact()
        if time.monotonic() > end:
            return


def readers(trial, folder, seconds, _):
    """Return the line of figures."""
    _, *read_by = crowded(trial, folder, seconds, [hold, read, read, read])
    took = [(one, name) for times in read_by for name in times for one in times[name]]
    longest, name = max(took)
    if longest > HOLD * 0.8:
        trial.broke(f'{name} took {longest:.2f} s while blocks were held open for {HOLD} s each')
    return f'readers: {len(took)} readings while blocks were held open for {HOLD} s, the longest {longest * 1000:.0f} ms ({name})'


# --- writers ------------------------------------------------------------------------------------------------------

def write(v, rng, end):
    """Write as fast as it goes; return how long each write took. Who meets VaultBusyError ends with it."""
    took = []
    while time.monotonic() < end:
        began = time.perf_counter()
        if rng.random() < 0.5:
            v[f'key {rng.randrange(300)}'] = rng.random()
        else:
            with v:
                v['count'] = v.get('count', 0) + 1
        took.append(time.perf_counter() - began)
    return took


def writers(trial, folder, seconds, processes):
    """Return the line of figures. A short measure has a short timeout, or none could run out."""
    timeout = min(TIMEOUT, seconds / 3)
    notes = crowded(trial, folder, seconds, [write] * processes, timeout)
    took = sorted(one for times in notes for one in times)
    return (f'writers: {processes} processes, {len(took)} writes with a timeout of {timeout:.1f} s; one in 1000 waited '
            f'more than {took[-len(took) // 1000] * 1000:.0f} ms, the longest {took[-1]:.2f} s')


# --- the log ------------------------------------------------------------------------------------------------------

def write_a_little(v, rng):
    """Write half a megabyte, far less than what one who stays writes between two checkpoints."""
    for _ in range(20):
        v[f'key {rng.randrange(300)}'] = rng.random(), bytes(20_000)


def come_and_go(v, rng, end):
    """Write a little and go: with a vault opened for it, and in a thread of its own."""
    while time.monotonic() < end:
        with contextlib.closing(Vault(pathlib.Path(v.db_path))) as mine, ThreadPoolExecutor(1) as pool:
            write_a_little(mine, rng)
            pool.submit(write_a_little, v, rng).result()


def write_large(v, rng, end):
    while time.monotonic() < end:
        v.put_many((f'key {rng.randrange(300)}', rng.random()) for _ in range(300))
        with v.open('stream', 'wb') as file:
            file.write(rng.getrandbits(8_000_000).to_bytes(1_000_000, 'big'))


def leave_walks(v, rng, end):
    left = []
    while time.monotonic() < end:
        walk = iter(rng.choice((v.items(), v.keys(), v[:].items(), v.list('list 0'))))
        next(walk, None)
        left = [*left[-99:], walk, v.open('stream 0')]
        time.sleep(0.01)


def log(trial, folder, seconds, processes):
    """Return the line of figures."""
    sizes, wal = [0], folder / 'crowd.db-wal'
    jobs = list(itertools.islice(itertools.cycle((write, come_and_go, write_large, read, leave_walks)), processes))
    with contextlib.closing(Vault(folder / 'crowd.db')):  # or the last to close would empty the log
        crowded(trial, folder, seconds, jobs, watch=lambda: sizes.append(wal.stat().st_size))
    if max(sizes) > BOUND + len(jobs) * EACH:
        trial.broke(f'the log grew to {max(sizes) / 1e6:.0f} MB')
    return f'log: {len(jobs)} processes, at most {max(sizes) / 1e6:.0f} MB, half of the time {sorted(sizes)[len(sizes) // 2] / 1e6:.0f} MB'


PARTS = {'readers': readers, 'log': log, 'writers': writers}


def main():
    trial = Trial(__doc__, 3)
    trial.parser.add_argument('--processes', type=int, default=8, help='of the log and the writers; default: 8')
    trial.parser.add_argument('--part', choices=PARTS, help='one part alone')
    options = trial.begin()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        with contextlib.closing(Vault(folder / 'crowd.db')) as v:
            for step in itertools.islice(Draw(1).steps({'put': 200, 'section': 10, 'list': 5, 'column': 5, 'stream': 5}), 600):
                do(v, step)
        for part in [options.part] if options.part else PARTS:
            print(PARTS[part](trial, folder, options.rounds, options.processes), flush=True)
    trial.end(f'parts of {options.rounds} s')


if __name__ == '__main__':
    main()
