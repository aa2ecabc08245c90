"""Do the same over and over, and look whether file descriptors or memory grow.

    python trials/leaks.py [--rounds N] [--only NAME]

Each kind of use, from opening and closing to threads that end, forks, failures and things left unfinished, runs in a
process of its own, so many times as there are rounds, or a part of it where one takes long. After as many to warm up,
what the process holds is looked at again and again. Threads and open file descriptors may not be more at the end, but for
the two of the connection that checkpoints, which is opened when it is first needed. Blocks of memory that Python has
allocated may not be more by one in two rounds, nor may the memory of the whole process rise by more than a few bytes a
round. Needs /proc, and tells where there is none. The files are in memory where /dev/shm is. Prints a line of figures for
each use; exits with 1 when a promise broke.
"""
from __future__ import annotations

import collections
import contextlib
import gc
import itertools
import os
import pathlib
import sys
import tempfile
import threading
from array import array

from shared import IN_MEMORY
from shared.model import OPERATIONS, Draw, Failed, do
from shared.processes import ask
from shared.verdict import Trial

from vaults import Vault, VaultError

HANGS = 3600     # seconds, for a use
LOOKS = 10       # times that a process is looked at
LEAK = 24        # bytes in a round: a list, a tuple or a row that stays takes more
NOISE = 1 << 21  # bytes that memory may grow in all: the heap is never quite even, and a busy machine once saw 1.2 MB
KINDS = ({}, {'thread_safe': True}, {'writeback': True}, {'synchronous': 'FULL'})


# --- the uses: each is called in each round, with a vault that is open all the while -------------------------------

def opening(v, number):
    """Another vault, to write and to read, one beside the other."""
    path = pathlib.Path(f'{v.db_path}.other')
    with contextlib.closing(Vault(path, **KINDS[number % 4])) as one, contextlib.closing(Vault(path, flag='r')):
        one['key'] = number


def dropping(v, number):
    """Vaults that nobody closes."""
    other = Vault(pathlib.Path(f'{v.db_path}.other'), **KINDS[number % 4])
    other.section('section')['key'] = other['key'] = number


STEPS = Draw(1, lengths=(1, 1, 10), pieces=(5, 100)).steps(dict.fromkeys(OPERATIONS, 1))


def operating(v, number):
    """Every operation of the model, drawn at random, and upkeep."""
    for step in itertools.islice(STEPS, 10):
        do(v, step)
    if number % 10 == 0:
        v.check(), v.backup(f'{v.db_path}.backup')
        os.unlink(f'{v.db_path}.backup')


def failing(v, number):
    """Operations that raise."""
    path = pathlib.Path(v.db_path)
    for attempt in (lambda: v['none'], lambda: v.pop('none'), lambda: v.__setitem__('key', lambda: None),
                    lambda: v.__setitem__(object(), 1), lambda: v.update([(1, 2), 3]), lambda: Vault(path, flag='r').put('key', 1),
                    lambda: v.list('key 1'), lambda: v.open('none'), lambda: Vault('..'),
                    lambda: Vault(path.with_name('none.db'), to_create=False), lambda: v.backup(path)):
        with contextlib.suppress(KeyError, TypeError, ValueError, VaultError):
            raise AssertionError(f'it was to raise, and not to return {attempt()}')


def leaving(v, number, left=collections.deque(maxlen=6)):  # noqa: B006  # for all rounds
    """Walks, streams and blocks that are left unfinished."""
    walk = iter((v.items(), v.keys(), v[:].values(), v.list('list'))[number % 4])
    next(walk, None)
    file = v.open('stream', 'wb')
    file.write(b'x' * (3_000_000 if number % 500 == 0 else 10))
    left.append((walk, file if number % 2 else None))
    with contextlib.suppress(Failed), v, v.transaction():
        next(iter(v.items()))
        raise Failed


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


# The use, and the part of the rounds that it does. sqlite3 keeps a reference to each of a connection's last 200 cursors,
# and drops them together: three looks must be further apart than that.
USES = {opening: 1, dropping: 1, operating: 1, failing: 1, leaving: 0.5, threads: 1, forks: 0.1}


# --- looking ------------------------------------------------------------------------------------------------------

def held():
    """Return the open descriptors, the bytes of memory, the threads, and the blocks that Python has allocated."""
    gc.collect()
    blocks = sys.getallocatedblocks()
    with open('/proc/self/status') as file:
        memory = next(int(line.split()[1]) << 10 for line in file if line.startswith('VmRSS'))
    return len(os.listdir('/proc/self/fd')), memory, threading.active_count(), blocks


def look(use, path, rounds):
    """Do a use so many times, twice: to warm up, and looking; return what was held each time, by kind."""
    seen = array('q')  # in which a look leaves no blocks
    with contextlib.closing(Vault(path)) as v:
        v.update((f'key {number}', number) for number in range(100))
        for number in range(rounds * 2):
            if number >= rounds and (number - rounds) % max(rounds // LOOKS, 1) == 0:
                seen.extend(held())
            use(v, number)
        seen.extend(held())
    return [seen[kind::4].tolist() for kind in range(4)]


def examine(trial, use, rounds, folder):
    """Let a process do one use; return its line of figures."""
    name = use.__name__
    code, seen = ask(look, use, pathlib.Path(folder, 'leaks.db'), rounds, hangs=HANGS)
    if code:
        trial.broke(f'{name}: the process ended with {code}')
        return f'{name}: failed'
    files, memory, threads, blocks = seen
    for what, more, bound in (  # of memory and blocks what rises all the way, and no single peak
            ('descriptors', max(files[-3:]) - files[0], 2), ('threads', threads[-1] - threads[0], 0),
            ('bytes of memory', min(memory[-3:]) - max(memory[:3]), max(NOISE, rounds * LEAK)),
            ('blocks', min(blocks[-3:]) - max(blocks[:3]), rounds / 2 + 50)):
        if more > bound:
            trial.broke(f'{name}: {more} {what} more after {rounds} rounds')
    return (f'{name}: {rounds} rounds after {rounds} to warm up, {files[0]} to {files[-1]} descriptors, {blocks[0]} to '
            f'{blocks[-1]} blocks, {memory[0] / 1e6:.1f} to {memory[-1] / 1e6:.1f} MB')


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
