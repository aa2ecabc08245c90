"""Let processes and threads crowd around one vault and measure how long they wait, and how far its log grows.

    python trials/waits.py [--rounds N] [--processes P] [--part readers|log|writers]

Three parts, each of so many seconds as there are rounds.

- Readers: while one process holds blocks open, each with more in it than SQLite keeps in memory, others read with every
  verb, open the vault, walk it and back it up. Nobody may wait until such a block ends.
- Writers: many processes, and the threads of one, make small blocks and single writes as fast as they can, with the
  timeout that a vault has by default. None may see VaultBusyError.
- Log: writers of all sorts, also those that come, write a little and go, beside readers that read all the time, walk
  slowly, or leave walks behind unfinished. The write-ahead log may not grow beyond a bound.

Prints a line of figures for each part; exits with 1 when a promise broke.
"""
from __future__ import annotations

import contextlib
import os
import pathlib
import random
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from shared.model import Failed
from shared.processes import ask_all
from shared.verdict import Trial

from vaults import Vault, VaultBusyError

HANGS = 600         # seconds, for a process
HOLD = 1.5          # seconds that a block is held open
SLOW = 0.1          # seconds: readings that take longer are counted
LARGE = 24 << 20    # bytes in such a block; SQLite keeps 16 MB of one in memory
BOUND = 32 << 20    # bytes that the log may take, and for each process besides
EACH = 2 << 20
TIMEOUT = 5.0       # seconds, the default of a vault
THREADS = 8


def crowded(trial, folder, seconds, jobs, watch=lambda: None, timeout=TIMEOUT):
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

READINGS = {
    'get': lambda v, key: v.get(key),
    'in': lambda v, key: key in v,
    'get_many': lambda v, key: v.get_many([key, 'none']),
    'len': lambda v, key: len(v),
    'items': lambda v, key: list(v.items()),
    'slice': lambda v, key: list(v['key 1':'key 2'].keys()),
    'prefix': lambda v, key: v.prefix('key 1').last(),
    'popitem of a view': lambda v, key: v.items()[-1],
    'list': lambda v, key: v.list('list')[-1],
    'stream': lambda v, key: v.open('stream').read(),
    'section': lambda v, key: v.section('section').get(1),
    'opening': lambda v, key: Vault(pathlib.Path(v.db_path)).close(),
    'opening to read': lambda v, key: Vault(pathlib.Path(v.db_path), flag='r').close(),
}
RARE = {'check': lambda v, key: v.check(), 'backup': lambda v, key: back_up(v)}


def back_up(v):
    path = pathlib.Path(f'{v.db_path}.{threading.get_ident()}.{os.getpid()}.backup')
    v.backup(path)
    path.unlink()


def read(v, rng, end):
    """Read with one verb after another; return how long each took, by verb."""
    took = {name: [] for name in (*READINGS, *RARE)}
    while time.monotonic() < end:
        for name, reading in (READINGS if rng.random() < 0.95 else RARE).items():
            began = time.perf_counter()
            reading(v, f'key {rng.randrange(300)}')
            took[name].append(time.perf_counter() - began)
    return took


def hold(v, rng, end):
    """Hold blocks open, small ones and large ones that fail, one after another; return how many."""
    held = 0
    while time.monotonic() < end:
        held += 1
        with contextlib.suppress(Failed), v:
            for number in range(LARGE >> 16 if held % 2 else 1):
                v[f'large {number}'] = rng.random(), bytes(1 << 16)
            time.sleep(HOLD)
            if held % 2:
                raise Failed  # or those who read all that there is would measure its size
        v.compact()
    return held


def fill(path):
    with contextlib.closing(Vault(path)) as v:
        v.update((f'key {number}', {'n': number, 'text': 'x' * 40}) for number in range(300))
        v.list('list').extend(range(1000))
        v.section('section')[1] = 'one'
        with v.open('stream', 'wb') as file:
            file.write(bytes(600_000))


def readers(trial, folder, seconds, _):
    """Return the line of figures."""
    held, *read_by = crowded(trial, folder, seconds, [hold, read, read, read])
    took = {name: [one for times in read_by for one in times[name]] for name in (*READINGS, *RARE)}
    for name, times in took.items():
        if max(times, default=0) > HOLD * 0.8:
            trial.broke(f'{name} took {max(times):.2f} s while blocks were held open for {HOLD} s each')
    longest, name = max((max(times, default=0), name) for name, times in took.items())
    return (f'readers: {sum(map(len, took.values()))} readings while {held} blocks were held open for {HOLD} s, '
            f'{sum(one > SLOW for times in took.values() for one in times)} took more than {SLOW} s, the longest '
            f'{longest * 1000:.0f} ms ({name})')


# --- writers ------------------------------------------------------------------------------------------------------

def write(v, rng, end):
    """Write as fast as it goes; return how long each write took, and how many saw VaultBusyError."""
    took, busy = [], 0
    while time.monotonic() < end:
        began = time.perf_counter()
        try:
            if rng.random() < 0.5:
                v[f'key {rng.randrange(300)}'] = rng.random()
            else:
                with v:
                    v['count'] = v.get('count', 0) + 1
        except VaultBusyError:
            busy += 1
        took.append(time.perf_counter() - began)
    return took, busy


def write_in_threads(v, rng, end):
    with ThreadPoolExecutor(THREADS) as pool:
        results = list(pool.map(lambda _: write(v, rng, end), range(THREADS)))
    return [one for took, _ in results for one in took], sum(busy for _, busy in results)


def writers(trial, folder, seconds, processes):
    """Return the line of figures. A short measure has a short timeout, or none could run out."""
    timeout = min(TIMEOUT, seconds / 3)
    notes = crowded(trial, folder, seconds, [write_in_threads] + [write] * (processes - 1), timeout=timeout)
    took, busy = sorted(one for times, _ in notes for one in times), sum(busy for _, busy in notes)
    if busy:
        trial.broke(f'VaultBusyError was raised {busy} times')
    fewest = min(len(times) // (1 if number else THREADS) for number, (times, _) in enumerate(notes))
    return (f'writers: {processes - 1} processes and {THREADS} threads, {len(took)} writes, {busy} times VaultBusyError '
            f'with a timeout of {timeout:.1f} s; one in 1000 waited more than {took[-len(took) // 1000] * 1000:.0f} ms, '
            f'the longest {took[-1]:.2f} s; {fewest} writes of the one that had the fewest')


# --- the log ------------------------------------------------------------------------------------------------------

def write_a_little(v, rng):
    """Write half a megabyte, far less than what one who stays writes between two checkpoints."""
    for _ in range(20):
        v[f'key {rng.randrange(300)}'] = rng.random(), bytes(20_000)


def come_and_go(v, rng, end):
    """Write a little and go, with a vault opened for it."""
    while time.monotonic() < end:
        with contextlib.closing(Vault(pathlib.Path(v.db_path))) as mine:
            write_a_little(mine, rng)


def come_and_go_in_threads(v, rng, end):
    while time.monotonic() < end:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(write_a_little, v, rng).result()


def write_large(v, rng, end):
    while time.monotonic() < end:
        v.put_many((f'key {rng.randrange(300)}', rng.random()) for _ in range(300))
        v['large'] = rng.random(), bytes(1 << 20)
        with v.open('stream', 'wb') as file:
            file.write(rng.getrandbits(8_000_000).to_bytes(1_000_000, 'big'))


def read_fast(v, rng, end):
    while time.monotonic() < end:
        v.get(f'key {rng.randrange(300)}')
        len(v.keys()), list(v.prefix('key 1'))


def walk_slowly(v, rng, end):
    while time.monotonic() < end:
        for _ in v.items():
            time.sleep(0.02)
            if time.monotonic() > end:
                break


def leave_walks(v, rng, end):
    left = []
    while time.monotonic() < end:
        walk = iter(rng.choice((v.items(), v.keys(), v[:].items(), v.list('list'))))
        next(walk)
        left = [*left[-99:], walk, v.open('stream')]
        time.sleep(0.01)


JOBS = (write, come_and_go, come_and_go_in_threads, write_large, read_fast, walk_slowly, leave_walks)


def log(trial, folder, seconds, processes):
    """Return the line of figures."""
    sizes, wal = [0], folder / 'crowd.db-wal'
    jobs = [JOBS[number % len(JOBS)] for number in range(max(processes, len(JOBS)))]
    with contextlib.closing(Vault(folder / 'crowd.db')):  # or the last to close would empty the log
        crowded(trial, folder, seconds, jobs, lambda: sizes.append(wal.stat().st_size))
    if max(sizes) > BOUND + len(jobs) * EACH:
        trial.broke(f'the log grew to {max(sizes) / 1e6:.0f} MB')
    return (f'log: {len(jobs)} processes, its size at most {max(sizes) / 1e6:.0f} MB, '
            f'half of the time {sorted(sizes)[len(sizes) // 2] / 1e6:.0f} MB')


PARTS = {'readers': readers, 'log': log, 'writers': writers}


def main():
    trial = Trial(__doc__, 3)
    trial.parser.add_argument('--processes', type=int, default=8, help='of the log and the writers; default: 8')
    trial.parser.add_argument('--part', choices=PARTS, help='one part alone')
    options = trial.begin()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        fill(folder / 'crowd.db')
        for part in [options.part] if options.part else PARTS:
            print(PARTS[part](trial, folder, options.rounds, options.processes), flush=True)
    trial.end(f'parts of {options.rounds} s')


if __name__ == '__main__':
    main()
