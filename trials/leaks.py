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

import collections
import contextlib
import gc
import os
import pathlib
import sys
import tempfile
import threading
import time
from array import array

from shared import IN_MEMORY
from shared.model import Failed
from shared.processes import ask
from shared.verdict import Trial

from vaults import Vault, VaultError

HANGS = 3600     # seconds, for a use
LOOKS = 10       # times that a process is looked at
LEAK = 24        # bytes in a round: a list, a tuple or a row that stays takes more
NOISE = 1 << 20  # bytes that memory may grow in all: the heap is never quite even


# --- the uses: each is called in each round, with a vault that is open all the while, or with the path of one that is not --

def opening(path, number):
    with contextlib.closing(Vault(path, thread_safe=number % 2 == 0)) as v:
        v['key'] = number


def opening_beside(v, number):
    """The same while the vault is open all the time, also to read, and as a write-back vault."""
    options = ({'flag': 'r'}, {'writeback': True}, {'synchronous': 'FULL'})[number % 3]
    with contextlib.closing(Vault(pathlib.Path(v.db_path), **options)) as other:
        other.get('key 1')
        if number % 3:
            other['key'] = number


def dropping(path, number):
    """Vaults that nobody closes."""
    v = Vault(path, writeback=number % 2 == 0)
    v['key'] = number
    if number % 3 == 0:
        v.section('section')['key'] = number


def operating(v, number):
    """Every operation that succeeds."""
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


def parts(v, number):
    """Lists, columns and streams."""
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


def failing(v, number):
    """Operations that raise, and blocks that fail."""
    def fail():
        with v, v.transaction():
            v['key 1'] = v.get('key 2')
            raise ValueError

    def put_to_read():
        with contextlib.closing(Vault(path, flag='r')) as r:
            r.put('key', 1)
    path = pathlib.Path(v.db_path)
    for attempt in (lambda: v['none'], lambda: v.pop('none'), lambda: v.__setitem__('key', lambda: None),
                    lambda: v.__setitem__(object(), 1), lambda: v.update([(1, 2), 3]), put_to_read, fail,
                    lambda: v.list('key 1'), lambda: v.open('none'), lambda: Vault('..'),
                    lambda: Vault(path.with_name('none.db'), to_create=False), lambda: v.backup(path)):
        try:
            attempt()
        except (KeyError, TypeError, ValueError, VaultError):
            continue
        raise AssertionError('it was to raise')


LEFT: collections.deque = collections.deque(maxlen=6)


def leaving(v, number):
    """Walks, streams and blocks that are left unfinished."""
    walk = iter((v.items(), v.keys(), v[:].values(), v.list('list'))[number % 4])
    next(walk, None)
    file = v.open('stream', 'wb')
    file.write(b'x' * (3_000_000 if number % 500 == 0 else 10))
    LEFT.append((walk, file if number % 2 else None))
    with contextlib.suppress(Failed), v, v.transaction():
        next(iter(v.items()))
        raise Failed
    if number % 1000 == 0:
        v.compact()


def threads(v, number):
    """Threads that come, use a vault of all, and go; some with a walk unfinished."""
    def work():
        v['key 1'] = number
        next(iter(v.items()))
        with v:
            v['key 2'] = number
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def forks(v, number):
    """Children, and children of children, some forked in a block: their chain must not hold more and more."""
    with v if number % 2 else contextlib.nullcontext():
        child = os.fork()
        if not child:
            os._exit(0 if v.get('key 1') == 1 else 1)
        if os.waitpid(child, 0)[1]:
            raise AssertionError('a child failed')
    v['key 3'] = number


def upkeep(v, number):
    v['key 3'] = number
    v.sync(), v.check(), v.compact(), v.backup(f'{v.db_path}.backup')
    os.unlink(f'{v.db_path}.backup')


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


def look(use, v, rounds):
    """Do a use so many times, twice: to warm up, and looking; return what was held each time, by kind."""
    seen = array('q')  # in which a look leaves no blocks
    with contextlib.ExitStack() as ends:
        if use not in (opening, dropping):
            v = ends.enter_context(contextlib.closing(Vault(v)))
            v.update((f'key {number}', number) for number in range(100))
        for number in range(rounds * 2):
            if number >= rounds and (number - rounds) % max(rounds // LOOKS, 1) == 0:
                seen.extend(held())
            use(v, number)
        seen.extend(held())
    return [seen[kind::4].tolist() for kind in range(4)]


def examine(trial, use, rounds, folder):
    """Let a process do one use; return its line of figures."""
    name, began = use.__name__, time.monotonic()
    code, seen = ask(look, use, pathlib.Path(folder, 'leaks.db'), rounds, hangs=HANGS)
    if code:
        trial.broke(f'{name}: the process ended with {code}')
        return f'{name}: failed'
    files, memory, threads, blocks = seen
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
                print(examine(trial, use, max(int(options.rounds * part), 1), folder), flush=True)
    trial.end('nothing may grow')


if __name__ == '__main__':
    main()
