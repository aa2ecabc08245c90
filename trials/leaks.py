"""Do the same over and over, and look whether file descriptors or memory grow.

    python trials/leaks.py [--rounds N] [--only NAME]

Each kind of use, from opening and closing to threads that end, forks, failures and things left unfinished, runs in a
process of its own, so many times as there are rounds, or a part of it where one takes long. After as many to warm up,
what the process holds is looked at again and again. Threads and open file descriptors may not be more at the end, but for
the two of the connection that checkpoints, which is opened when it is first needed. Blocks of memory that Python has
allocated may not be more by one in two rounds, nor may the memory of the whole process rise by more than a few bytes a
round. Needs /proc, and tells where there is none. The files are in memory where /dev/shm is.

Prints a line of figures for each use; exits with 1 when a promise broke.
"""
from __future__ import annotations

import contextlib
import gc
import os
import pathlib
import sys
import tempfile
import threading
import time

from shared import IN_MEMORY
from shared.model import Failed
from shared.processes import ask
from shared.verdict import Trial

from vaults import Vault, VaultError

HANGS = 3600     # seconds, for a use
LOOKS = 10       # times that a process is looked at
LEAK = 24        # bytes in a round: a list, a tuple or a row that stays takes more
NOISE = 1 << 20  # bytes that memory may grow in all: the heap is never quite even


# --- the uses: each takes a folder and yields a function that is called in each round -------------------------------

@contextlib.contextmanager
def opened(folder, **options):
    with contextlib.closing(Vault(folder / 'leaks.db', **options)) as v:
        v.update((f'key {number}', number) for number in range(100))
        yield v


@contextlib.contextmanager
def opening(folder):
    def use(number):
        v = Vault(folder / 'leaks.db', thread_safe=number % 2 == 0)
        v['key'] = number
        v.close()
    yield use


@contextlib.contextmanager
def opening_beside(folder):
    """The same while the vault is open all the time, also to read, and as a write-back vault."""
    with opened(folder):
        def use(number):
            options = ({'flag': 'r'}, {'writeback': True}, {'synchronous': 'FULL'})[number % 3]
            with contextlib.closing(Vault(folder / 'leaks.db', **options)) as v:
                v.get('key 1')
                if number % 3:
                    v['key'] = number
        yield use


@contextlib.contextmanager
def dropping(folder):
    """Vaults that nobody closes."""
    def use(number):
        v = Vault(folder / 'leaks.db', writeback=number % 2 == 0)
        v['key'] = number
        if number % 3 == 0:
            v.section('section')['key'] = number
    yield use


@contextlib.contextmanager
def operating(folder):
    """Every operation that succeeds."""
    with opened(folder) as v:
        def use(number):
            key = f'key {number % 200}'
            v[key] = {'n': number}
            v.get(key), key in v, len(v), v.get_many([key, 'none'])
            v.update([(key, number), ('other', number)])
            v.pop(key), v.setdefault(key, number), v.put_many({key: [number]}), v.pop_many(['other'])
            with v, v.transaction():
                v['number'] = number
            with v.edit('edited', []) as items:
                items[:] = [number]
            v.section('section')[key] = number
            v['passing'] = None
            v.popitem()
            if number % 20 == 0:
                list(v.items()), list(reversed(v)), list(v['key 1':'key 2'].items()), v.prefix('key 3').first()
                del v['key 5':'key 6']
        yield use


@contextlib.contextmanager
def parts(folder):
    """Lists, columns and streams."""
    with opened(folder) as v:
        def use(number):
            items, column = v.list('list'), v.column('column', 'int64')
            items.append(number)
            column.extend([number] * 10)
            if len(items) > 40:
                del items[:30]
            if len(column) > 5000:
                del column[:4000]
            with v.open('stream', 'wb') as file:
                file.write(b'x' * (300_000 if number % 100 == 0 else 50))
            with v.open('stream') as file:
                file.read(10)
            if number % 50 == 0:
                v.pop('stream'), v.pop('list')
        yield use


@contextlib.contextmanager
def failing(folder):
    """Operations that raise, and blocks that fail."""
    with opened(folder) as v, contextlib.closing(Vault(folder / 'leaks.db', flag='r')) as r:
        def raises(*attempts):
            for attempt in attempts:
                try:
                    attempt()
                except (KeyError, TypeError, ValueError, VaultError):
                    continue
                raise AssertionError('it was to raise')

        def fail():
            with v, v.transaction():
                v['key 1'] = v.get('key 2')
                raise ValueError

        def use(number):
            raises(lambda: v['none'], lambda: v.pop('none'), lambda: v.__setitem__('key', lambda: None),
                   lambda: v.__setitem__(object(), 1), lambda: v.update([(1, 2), 3]), lambda: r.put('key', 1), fail,
                   lambda: v.list('key 1'), lambda: v.open('none'), lambda: Vault('..'),
                   lambda: Vault(folder / 'none.db', to_create=False), lambda: v.backup(folder / 'leaks.db'))
        yield use


@contextlib.contextmanager
def leaving(folder):
    """Walks, streams and blocks that are left unfinished."""
    with opened(folder) as v:
        left = []

        def use(number):
            walk = iter((v.items(), v.keys(), v[:].values(), v.list('list'))[number % 4])
            next(walk, None)
            file = v.open('stream', 'wb')
            file.write(b'x' * (3_000_000 if number % 500 == 0 else 10))
            left[:] = [*left[-5:], walk, file if number % 2 else None]
            with contextlib.suppress(Failed), v, v.transaction():
                next(iter(v.items()))
                raise Failed
            if number % 1000 == 0:
                v.compact()
        yield use


@contextlib.contextmanager
def threads(folder):
    """Threads that come, use a vault of all, and go; some with a walk unfinished."""
    with opened(folder) as v:
        def work(number):
            v['key 1'] = number
            next(iter(v.items()))
            with v:
                v['key 2'] = number

        def use(number):
            thread = threading.Thread(target=work, args=(number,))
            thread.start()
            thread.join()
        yield use


@contextlib.contextmanager
def forks(folder):
    """Children, and children of children, some forked in a block: their chain must not hold more and more."""
    with opened(folder) as v:
        def use(number):
            with v if number % 2 else contextlib.nullcontext():
                child = os.fork()
                if not child:
                    os._exit(0 if v.get('key 1') == 1 else 1)
                if os.waitpid(child, 0)[1]:
                    raise AssertionError('a child failed')
            v['key 3'] = number
        yield use


@contextlib.contextmanager
def upkeep(folder):
    with opened(folder) as v:
        def use(number):
            v['key 3'] = number
            v.sync(), v.check(), v.compact(), v.backup(folder / f'{number}.backup')
            os.unlink(folder / f'{number}.backup')
        yield use


# The use, and the part of the rounds that it does. sqlite3 keeps a reference to each of a connection's last 200 cursors,
# and drops them together: three looks must be further apart than that.
USES = {opening: 1, opening_beside: 1, dropping: 1, operating: 1, parts: 1, failing: 0.5, leaving: 0.5, threads: 1, forks: 0.1,
        upkeep: 0.2}


# --- looking ------------------------------------------------------------------------------------------------------

def held():
    """Return the open descriptors, the bytes of memory, the threads, and the blocks that Python has allocated."""
    gc.collect()
    blocks = sys.getallocatedblocks()
    with open('/proc/self/status') as file:
        memory = next(int(line.split()[1]) << 10 for line in file if line.startswith('VmRSS'))
    return len(os.listdir('/proc/self/fd')), memory, threading.active_count(), blocks


def look(use, folder, rounds):
    """Do a use so many times, twice: to warm up, and looking; return what was held each time."""
    seen = []
    with use(folder) as once:
        for number in range(rounds * 2):
            if number >= rounds and (number - rounds) % max(rounds // LOOKS, 1) == 0:
                seen.append(held())
            once(number)
        return [*seen, held()]


def examine(trial, use, rounds, folder):
    """Let a process do one use; return its line of figures."""
    name, began = use.__name__, time.monotonic()
    code, seen = ask(look, use, folder, rounds, hangs=HANGS)
    if code:
        trial.broke(f'{name}: the process ended with {code}')
        return f'{name}: failed'
    files, memory, threads, blocks = zip(*seen)
    grown = min(memory[-3:]) - max(memory[:3])  # what rises all the way, and no single peak
    if max(files[-3:]) > files[0] + 2 or threads[-1] > threads[0]:
        trial.broke(f'{name}: descriptors {files}, threads {threads}')
    if grown > max(NOISE, rounds * LEAK):
        trial.broke(f'{name}: memory grew by {grown} bytes in {rounds} rounds, {[one >> 10 for one in memory]} KB')
    if min(blocks[-3:]) - max(blocks[:3]) > rounds / 2 + 50:
        trial.broke(f'{name}: Python allocated {blocks} blocks')
    return (f'{name}: {rounds} rounds after {rounds} to warm up, {files[0]} to {files[-1]} descriptors, {blocks[0]} to '
            f'{blocks[-1]} blocks, {memory[0] / 1e6:.1f} to {memory[-1] / 1e6:.1f} MB; {time.monotonic() - began:.1f} s')


def main():
    trial = Trial(__doc__, 300)
    trial.parser.add_argument('--only', choices=[use.__name__ for use in USES], help='one use alone')
    options = trial.begin()
    if not os.path.exists('/proc/self/fd'):
        trial.end('left out: there is no /proc here to see what a process holds')
        return
    for use, part in USES.items():
        if options.only in (None, use.__name__):
            with tempfile.TemporaryDirectory(dir=IN_MEMORY) as folder:
                print(examine(trial, use, max(int(options.rounds * part), 1), pathlib.Path(folder)), flush=True)
    trial.end('nothing may grow')


if __name__ == '__main__':
    main()
