"""Spring every trap that a prototype or a peer fell into on a real vault, many times, and count what was lost.

    python trials/traps.py [--rounds N] [--seed S] [--only NAME]

Each trap is a function here, in the table TRAPS. What could crash, hang or be killed is a program of its own, which
tells each acknowledged write as soon as it returned. The vault is opened again afterwards: whatever was acknowledged
must be there, and errors must be the vault's own. A round takes a few cases of each trap, the next round takes others:
some 60 rounds see them all. Prints a line of figures for each trap; exits with 1 when a promise broke.
"""
from __future__ import annotations

import asyncio
import collections
import contextlib
import copy
import dis
import gc
import itertools
import mmap
import multiprocessing
import os
import pathlib
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import unicodedata
from contextlib import closing, suppress

from shared.model import OPERATIONS, Draw, Model, Operation, attempt, block, do, entries
from shared.processes import HANGS, as_role, play_role, role, run, tell
from shared.verdict import Trial

import vaults
from vaults import Vault, VaultError
from vaults.stores.sqlite import checkpoint, connection, guard

PACKAGE = os.path.dirname(vaults.__file__)
PUTS = checkpoint.TICK // connection.ALONE + 1  # after so many at most, a put notices that the file is another


class Round:
    """One round of one trap: its chance and its folder, what it counts, and what broke."""

    def __init__(self, name, number, seed, folder):
        self.name, self.number, self.folder = name, number, folder
        self.rng = random.Random(f'{seed} {name} {number}')
        self.acknowledged = self.lost = 0
        self.seen = collections.Counter()
        self.broken = []

    def must(self, holds, what):
        if not holds:
            self.broken.append(f'{self.name}, round {self.number}: {what}')

    def some(self, cases, count):
        """Return the cases that are this round's, in turn: a few rounds see them all."""
        cases = list(cases)
        first = self.number * count
        return [cases[(first + place) % len(cases)] for place in range(min(count, len(cases)))]

    def fresh(self, name='trap.db'):
        """Return a path in a new folder."""
        return pathlib.Path(tempfile.mkdtemp(dir=self.folder), name)

    def ask(self, what, function, *arguments, code=0, is_silent=True):
        """Play a role in a process of its own, which must end with that code and, mostly, complain of nothing."""
        told = run(as_role(function, *arguments))
        self.must(told.code == code and not (is_silent and told.complaints), f'{what}: ended with {told.code}: {told.complaints[-1500:]}')
        return told

    def keeps(self, path, acknowledged, what):
        """Open the vault: it is sound, and holds every entry that was acknowledged. Return all that it holds."""
        try:
            with closing(Vault(path, to_create=False)) as vault:
                vault._check()
                found = dict(vault.items())
        except (AssertionError, VaultError) as error:
            self.must(False, f'{what}: {error!r}')
            found = {}
        lost = [key for key, value in acknowledged.items() if found.get(key) != value]
        self.acknowledged += len(acknowledged)
        self.lost += len(lost)
        self.must(not lost, f'{what}: {len(lost)} of {len(acknowledged)} acknowledged writes lost, {lost[:5]}')
        return found


def run_all(*functions):
    """Run functions in threads at once."""
    threads = [threading.Thread(target=function) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


# --- another opener in the same process ---------------------------------------------------------------------------

def map_it(path):
    with open(path, 'rb') as file, suppress(ValueError):  # an empty file cannot be mapped
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ).close()


def inspect(path, parameters):
    """Look at the file with SQLite; at its log and shared memory it only fails, having opened and closed them."""
    with suppress(sqlite3.DatabaseError), closing(sqlite3.connect(f'file:{path}?{parameters}', uri=True)) as raw:
        raw.execute('SELECT count(*) FROM sqlite_master').fetchone()


OPENERS = {
    'open': lambda path: open(path, 'rb').close(),
    'open to write': lambda path: open(path, 'r+b').close(),
    'open to append': lambda path: open(path, 'ab').close(),
    'os.open': lambda path: os.close(os.open(path, os.O_RDWR)),
    'os.dup': lambda path: [os.close(handle) for handle in map(os.dup, [os.open(path, os.O_RDONLY)] * 2)],
    'in a thread': lambda path: run_all(lambda: pathlib.Path(path).read_bytes()),
    'a copy': lambda path: shutil.copy(path, f'{path}.copy'),
    'mmap': map_it,
    'sqlite3': lambda path: inspect(path, 'mode=rw'),
    'sqlite3 immutable': lambda path: inspect(path, 'immutable=1&mode=ro'),
    'another vault': lambda path: Vault(pathlib.Path(path.replace('-wal', '').replace('-shm', ''))).close(),
}


@role
def beside_openers(path, guarded, seed):
    """Write beside somebody who opens and closes the three files, and a process that opens and closes the vault."""
    guard.AVAILABLE = guard.AVAILABLE and guarded == 'guarded'
    rng, vault, numbers = random.Random(seed), Vault(pathlib.Path(path)), itertools.count()

    def put(times=1):
        for number in itertools.islice(numbers, times):
            vault[number] = number
            tell(number)
    put()
    with subprocess.Popen(as_role(visitor, path), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as visiting:
        for name in rng.sample(sorted(OPENERS), len(OPENERS)):
            for suffix in ('', '-wal', '-shm'):
                beside = os.path.realpath(path) + suffix
                if os.path.exists(beside):  # the log may be gone where nothing guards it
                    OPENERS[name](beside)
            visiting.stdin.write(f'{name}\n'.encode())
            visiting.stdin.flush()
            put(rng.randrange(10))
            if not visiting.stdout.readline():
                break
            tell(name)
            put(rng.randrange(1, 10))
        os.kill(os.getpid(), signal.SIGKILL)  # closing could still save what a crash would lose


@role
def visitor(path):
    """Open the vault, write what stdin says, and close it: the last one to close deletes the log."""
    for line in sys.stdin:
        with closing(Vault(pathlib.Path(path))) as vault:
            vault[line.strip()] = line.strip()
        print(line, end='', flush=True)


def opener(round):
    """Others in the process open and close the files, which drops POSIX locks; other processes come and go."""
    path, bare = round.fresh(), round.fresh()
    if guard.AVAILABLE:
        told = round.ask('the writer', beside_openers, path, 'guarded', round.rng.random(), code=-signal.SIGKILL)
        round.keeps(path, {key: key for key in told.lines}, 'guarded')
        round.seen['openers'] += len(OPENERS)
    told = run(as_role(beside_openers, bare, 'bare', round.rng.random()))
    with closing(Vault(bare)) as vault:
        lost = len(set(told.lines) - set(vault))
    round.seen['lost with the guard switched off'] += lost
    round.must(lost or not guard.AVAILABLE, 'the trap did not spring: nothing was lost without the guard')


# --- the file goes, changes, or moves while it is open --------------------------------------------------------------

def check_out(path):
    """Do as version control does: delete the file and write another in its place."""
    shutil.copyfile(f'{path}.spare', f'{path}.other')
    os.unlink(path)
    os.rename(f'{path}.other', path)


def cut(path, share):
    os.truncate(path, int(os.path.getsize(path) * share))


GONE = {  # what happens to the file, so that the path leads to another one, or none
    'deleted': os.unlink,
    'deleted with its log': lambda path: [os.unlink(path + suffix) for suffix in ('', '-wal', '-shm')],
    'renamed': lambda path: os.rename(path, f'{path}.away'),
    'replaced': lambda path: os.replace(f'{path}.spare', path),
    'checked out': check_out,
    'folder moved': lambda path: os.rename(os.path.dirname(path), f'{os.path.dirname(path)}-moved'),
    'a folder in its place': lambda path: (os.unlink(path), os.mkdir(path)),
    'emptied': lambda path: cut(path, 0),
}
CUT = {
    'halved': lambda path: cut(path, 0.5),
    'log deleted': lambda path: os.unlink(f'{path}-wal'),
    'log emptied': lambda path: cut(f'{path}-wal', 0),
    'log halved': lambda path: cut(f'{path}-wal', 0.5),
    'shared memory deleted': lambda path: os.unlink(f'{path}-shm'),
    'shared memory emptied': lambda path: cut(f'{path}-shm', 0),
    'shared memory halved': lambda path: cut(f'{path}-shm', 0.5),
}


def in_block(vault, number):
    with vault:
        vault[number] = number


WAYS = {
    'put': lambda vault, number: vault.__setitem__(number, number),
    'block': in_block,
    'update': lambda vault, number: vault.update({number: number}),
    'append': lambda vault, number: vault.list('list').append(number),
}
KEPT = {f'kept {number}': 'x' * 200 for number in range(400)}  # before the trap


@role
def beside_the_act(path, act, way):
    """Have the file taken away underneath; then go on writing, or reading, until an error says so."""
    with closing(Vault(pathlib.Path(f'{path}.spare'))) as spare:
        spare['spare'] = 1
    vault = Vault(pathlib.Path(path))
    vault.update(KEPT)
    vault.compact()                     # into the file
    for number in range(PUTS // 2):     # and some into the log
        vault[f'kept {number}'] = 'x' * 200
    {**GONE, **CUT}[act](path)
    tell('acted')
    try:
        for number in range(1000):
            if way == 'read':
                assert vault[f'kept {number * 7 % len(KEPT)}'] == 'x' * 200, 'a wrong value'
                assert set(dict(vault.items()).values()) == {'x' * 200}, 'a wrong value'
            else:
                WAYS[way](vault, number)
                tell(number)
    except VaultError as error:
        tell([type(error).__name__, str(error)])
    with suppress(VaultError):
        vault.close()


def gone(round):
    """The file is deleted, replaced, emptied or moved while it is open."""
    for act, way in round.some(itertools.product(GONE, WAYS), 3):
        path, what = round.fresh(), f'{act}, {way}'
        told = round.ask(what, beside_the_act, path, act, way)
        after = [line for line in told.lines[1:] if isinstance(line, int)]
        said = told.lines[-1] if told.lines and isinstance(told.lines[-1], list) else ['nothing', '']
        round.must(said[0] == 'VaultNotFoundError' and path.name in said[1], f'{what}: the error was {said}')
        bound = PUTS if way == 'put' else 0
        round.must(len(after) <= bound, f'{what}: {len(after)} writes acknowledged after it, not {bound}')
        round.seen['acts'] += 1
        round.seen['writes until the error'] = max(round.seen['writes until the error'], len(after))
        opened_again(round, path, act)


def opened_again(round, path, act):
    """Open what the path leads to now: what a user put there, or a new vault, or the folder that was moved."""
    if act == 'folder moved':
        round.keeps(pathlib.Path(f'{path.parent}-moved', path.name), KEPT, act)
    elif act == 'a folder in its place':
        with suppress(vaults.VaultFormatError), closing(Vault(path)):
            round.must(False, 'a folder was opened as a vault')
    elif act in ('replaced', 'checked out'):
        round.must(round.keeps(path, {'spare': 1}, act) == {'spare': 1}, f'{act}: more than what was put there')
    else:
        with closing(Vault(path)) as vault:
            vault['new'] = 1
            round.must(vault.items() == [('new', 1)], f'{act}: the vault made anew is not new')


def truncated(round):
    """The file, its log or its shared memory is cut short while it is open: that takes data with it, but never a
    wrong value or an error of another kind; and a crash, where the system has one, takes nothing of its own."""
    for act, way in round.some(itertools.product(CUT, [*WAYS, 'read']), 3):
        path, shared = round.fresh(), act.startswith('shared memory')
        told = run(as_role(beside_the_act, path, act, way))
        crashed = shared and told.code == -signal.SIGBUS
        round.seen['SIGBUS by cutting the shared memory'] += crashed
        round.must(crashed or told.code == 0, f'{act}, {way}: ended with {told.code}: {told.complaints}')
        round.seen['acts'] += 1
        if shared:
            round.keeps(path, {**KEPT, **{line: line for line in told.lines[1:] if isinstance(line, int) and way != 'append'}}, act)
            continue
        try:
            with closing(Vault(path)) as vault:
                wrong = [key for key, value in vault.items() if str(key).startswith('kept') and value != 'x' * 200]
            round.must(not wrong, f'{act}, {way}: wrong values {wrong[:5]}')
        except VaultError:
            round.seen['files that could not be opened any more'] += 1


# --- forks --------------------------------------------------------------------------------------------------------

PLACES = ('outside', 'block', 'nested', 'walk', 'stream', 'beside a writing thread', 'beside a block of a thread')
TOLD = 7  # exit code of a fork that has told what went wrong
ENDS = ('os._exit', 'sys.exit', 'kill', 'error', 'exec', 'close', 'inside a block', 'go on')


@contextlib.contextmanager
def placed(vault, where, number):
    """Be somewhere in the use of a vault."""
    if where in ('block', 'nested'):
        with vault, vault.transaction() if where == 'nested' else contextlib.nullcontext():
            vault['draft'] = vault[f'parent {number}'] = number
            yield
            vault.pop('draft', None)  # so that nobody else ever sees it; a fork does not see it either
    elif where == 'walk':
        walk = iter(vault.items())
        next(walk)
        yield
        assert sum(1 for _ in walk) > 90
    elif where == 'stream':
        with vault.open('stream', 'w') as file:
            file.write('x' * 3_000_000)  # more than is kept in memory
            yield
    elif where == 'outside':
        yield
    else:
        with busy_thread(vault, where, number):
            yield


@contextlib.contextmanager
def busy_thread(vault, where, number):
    """Have another thread write, or sit in a block, meanwhile."""
    inside, leave = threading.Event(), threading.Event()

    def write():
        for step in itertools.count():
            vault[f'thread {number}'] = step
            inside.set()
            if leave.is_set():
                break

    def sit():
        with vault:
            vault[f'thread {number}'] = number
            inside.set()
            leave.wait(0.02)  # not for ever: a fork waits for the blocks of other threads where it is thread_safe
    thread = threading.Thread(target=write if where == 'beside a writing thread' else sit)
    thread.start()
    inside.wait()
    try:
        yield
    finally:
        leave.set()
        thread.join()


@role
def forking(path, seed, count):
    """Fork in every place, with children that end in every way; both tell what was acknowledged."""
    rng = random.Random(seed)
    safe = rng.random() < 0.5
    vault = Vault(pathlib.Path(path), thread_safe=safe, timeout=3)
    vault.update({f'old {number}': number for number in range(100)})
    # Only where it is thread_safe does a fork wait until no other thread is in SQLite, whose mutexes a fork copies.
    places = PLACES if safe else PLACES[:-2]
    for number in range(int(count)):
        where, end, pause = rng.choice(places), rng.choice(ENDS), rng.choice((0, 0.002, 0.01))
        with placed(vault, where, number):
            pid = os.fork()
            if not pid:
                be_the_fork(vault, number, where, end)
            time.sleep(pause)
        if not pid:
            os._exit(0)  # it went on, with the parent's block as well, to its end
        vault[f'parent {number}'] = number
        tell(['parent', number])
        code = os.waitpid(pid, 0)[1]
        if code not in (TOLD << 8, {'kill': signal.SIGKILL, 'error': 1 << 8}.get(end, 0)):
            tell(['broken', f'a fork in {where}, to end by {end}, ended with {code}'])


def be_the_fork(vault, number, where, end):
    """See nothing of the parent's open block, write what is acknowledged, and end; 'go on' alone returns."""
    if end == 'exec':
        os.execv(sys.executable, as_role(visit, vault.db_path, f'child {number}', number))
    try:
        if 'draft' in vault:
            tell(['broken', f"a fork saw what was in its parent's {where}"])
        if end == 'close':
            vault.close()
            vault = Vault(pathlib.Path(vault.db_path), timeout=3)
        with vault if number % 2 else contextlib.nullcontext():
            vault[f'child {number}'] = number
        tell(['child', number])
        if end == 'inside a block':
            vault.__enter__()
            vault['never'] = number
    except BaseException as error:
        tell(['broken', f'a fork in {where}, to end by {end}: {error!r}'])
        os._exit(TOLD)
    if end == 'kill':
        os.kill(os.getpid(), signal.SIGKILL)
    if end == 'error':
        sys.excepthook = lambda *_: None
        raise ZeroDivisionError
    if end == 'sys.exit':
        sys.exit(0)
    if end != 'go on' or where == 'stream':  # a stream that is written belongs to who opened it
        os._exit(0)


@role
def visit(path, key, number):
    with closing(Vault(pathlib.Path(path), timeout=30)) as vault:
        vault[key] = int(number)
    tell(['child', int(number)])


def forks(round):
    """Forks inside blocks, walks, streams and beside threads, whose children end in every way there is."""
    path, count = round.fresh(), 10
    told = round.ask('forks', forking, path, round.rng.random(), count)
    for what, text in told.lines:
        round.must(what != 'broken', text)
    kept = {f'{who} {number}': number for who, number in told.lines if who in ('parent', 'child')}
    found = round.keeps(path, {**kept, **{f'old {number}': number for number in range(100)}}, 'forks')
    round.must('never' not in found, 'an unfinished block of a fork was committed')
    round.seen['forks'] += count


@role
def pool(path, method):
    """Write in workers that multiprocessing starts, inside a block and outside."""
    vault = Vault(pathlib.Path(path), timeout=30)
    vault['count'] = 0
    workers = [multiprocessing.get_context(method).Process(target=work_in_pool, args=(vault, number)) for number in range(3)]
    for worker in workers[:2]:
        worker.start()
    with vault:
        vault['in block'] = 1
        workers[2].start()  # it waits for the end of this block
    for worker in workers:
        worker.join()
    tell([*[worker.exitcode for worker in workers], vault['count']])


def work_in_pool(vault, number):
    for _ in range(20):
        with vault:
            vault['count'] += 1
    vault[f'worker {number}'] = number


def pools(round):
    """Workers of multiprocessing, forked, spawned and from a server, with the vault sent to them."""
    for method in round.some(multiprocessing.get_all_start_methods(), 1):
        path = round.fresh()
        told = round.ask(method, pool, path, method)
        round.must(told.lines == [[0, 0, 0, 60]], f'{method}: {told.lines}')
        round.keeps(path, {'count': 60, 'in block': 1, **{f'worker {number}': number for number in range(3)}}, method)
        round.seen[method] += 1


# --- what breaks off an act: Ctrl-C, signals, and the end of the stack ------------------------------------------------

def steps(vault, *steps):
    for step in steps:
        do(vault, step)


def fill(vault):
    """Put what the acts work on. A list or column is made first, then extended."""
    grown = [('list', 'list', 'extend', (0, 0), 0, 60), ('column', 'column', 'extend', (0, 0), 0, 100)]
    steps(vault, ('clear',), ('update', [('x', [0]), ('doc', [1]), ('last', b'y' * 50)]), *grown * 2,
          ('stream', 'stream', 'wb', [(0, 5_000)]), ('section', 'update', [1, 2], 1))


def state(vault):
    return copy.deepcopy(dict(entries(vault)))


PUT = ('put', 'x', [1])
ACTS = {  # steps of the model; a block has steps in it, and is told whether it fails
    'put': PUT,
    'update': ('update', [('x', [1]), ('new', 2), ('other', 3)]),
    'put_many': ('put_many', [('x', [1]), ('new', (1, 2))]),
    'block': ('block', [PUT, ('update', [('new', 1), ('other', 2)]), ('del', 'doc')], False),
    'nested': ('block', [PUT, ('block', [('put', 'new', 2)], False), ('block', [('put', 'undone', 3)], True)], False),
    'del': ('del', 'x'),
    'del slice': ('del slice', 'a', 'm'),
    'pop': ('pop', 'x'),
    'pop_many': ('pop_many', ['x', 'doc', 'none']),
    'popitem': ('popitem', True),
    'setdefault': ('setdefault', 'new', 1),
    'clear': ('clear',),
    'edit': ('edit', 'doc', 2),
    'list append': ('list', 'list', 'append', (0, 0), 0, 1),
    'list insert': ('list', 'list', 'insert', (0.1, 0.1), 0, 1),
    'stream': ('stream', 'stream', 'wb', [(9, 600_000)]),
    'column extend': ('column', 'column', 'extend', (0, 0), 0, 50),
    'section': ('section', 'update', [1, 3], 2),
    'sync': ('sync',),
    'write-back sync': [('change', 'doc', 2), PUT, ('sync',)],
    'write-back update': ('update', [('x', [1]), ('new', [2])]),
    'write-back block': ('block', [('change', 'doc', 2), ('put', 'new', [1])], False),
    'write-back pop': ('pop', 'x'),
}
OPERATIONS['change'] = Operation(lambda vault, key, item: vault[key].append(item))  # in place
CASES = [(name, safe) for name in ACTS for safe in (False, True)]
# Nothing that is written in Python can help where a signal comes before the first line of these, or in the first two.
UNGUARDED = ('__exit__', '__enter__', 'commit', 'rollback')
# After these opcodes CPython before 3.11 goes on without a look at signals; before those it never looks.
UNSEEN_AFTER = ('LOAD_FAST', 'LOAD_CONST', 'STORE_FAST', 'POP_TOP', 'ROT_', 'DUP_', 'POP_JUMP', 'JUMP_FORWARD',
                'UNARY_NOT', 'SETUP_', 'BEGIN_FINALLY')
UNSEEN_BEFORE = ('SETUP_FINALLY', 'SETUP_WITH')
SEEN_AFTER = ('CALL', 'JUMP_BACKWARD', 'SEND')  # from 3.11 on, and at the start of a function


class Interrupt:
    """Raises KeyboardInterrupt in the package at the `at`-th point where CPython looks at signals."""

    def __init__(self, at):
        self.left, self.where, self._last = at, None, {}

    def trace(self, frame, event, argument):
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        if event == 'opcode':
            name = dis.opname[frame.f_code.co_code[frame.f_lasti]]
            if self._looks(name, self._last.get(id(frame))):
                self.left -= 1
                if not self.left:
                    sys.settrace(None)
                    first = id(frame) not in self._last or frame.f_code.co_name in ('__enter__', '__exit__')
                    self.where = frame.f_code.co_name, frame.f_lineno, first
                    raise KeyboardInterrupt
            self._last[id(frame)] = name
        elif event == 'call':
            self._last.pop(id(frame), None)
        elif event == 'return' and frame.f_back and not frame.f_code.co_flags & 32:  # generators are run by C code
            self._last[id(frame.f_back)] = 'returned'
        return self.trace

    def _looks(self, name, last):
        if sys.version_info < (3, 11):
            return not (last or '').startswith(UNSEEN_AFTER) and name not in UNSEEN_BEFORE
        return last is None or last.startswith(SEEN_AFTER)

    def disturb(self, act):
        """Do the act; return where it was interrupted, None for not at all."""
        try:
            sys.settrace(self.trace)
            act()
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(None)
        return self.where


class Alarm:
    """Raises KeyboardInterrupt from a real signal, at a random moment of an act."""

    def __init__(self, seed):
        self.armed, self.rng, self.took = False, random.Random(seed), 0
        signal.signal(signal.SIGALRM, self.ring)

    def ring(self, *_):
        if self.armed:
            self.armed = False
            raise KeyboardInterrupt

    def measure(self, act):
        began = time.perf_counter()
        act()
        self.took = time.perf_counter() - began

    def disturb(self, act):
        """Do the act; return where it was interrupted, None for not at all."""
        try:
            self.armed = True
            signal.setitimer(signal.ITIMER_REAL, max(1e-6, self.rng.uniform(0, self.took)))
            act()
            self.armed = False
        except KeyboardInterrupt as error:
            self.armed = False
            inside = [(frame.f_code, line) for frame, line in traceback.walk_tb(error.__traceback__)
                      if frame.f_code.co_filename.startswith(PACKAGE)]
            code, line = inside[-1] if inside else (act.__code__, 10**6)
            return code.co_name, line, code.co_name.startswith('__') or line <= code.co_firstlineno + 3
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        return None


def at_points(first, stride):
    """Interrupt an act at every `stride`-th point, from `first` on, until there is none."""
    for at in itertools.count(int(first) + 1, int(stride)):
        interrupt = Interrupt(at)
        yield interrupt.disturb
        if not interrupt.where:
            return


def at_random(count, seed):
    alarm = Alarm(seed)
    yield alarm.measure
    yield from [alarm.disturb] * int(count)


def with_little_stack(least, most):
    """Do an act with less and less stack left."""
    limit, depth = sys.getrecursionlimit(), len(list(traceback.walk_stack(None)))

    def disturb(more, act):
        try:
            sys.setrecursionlimit(depth + more)
            act()
        except (RecursionError, VaultError) as error:
            return type(error).__name__, more, False
        finally:
            sys.setrecursionlimit(limit)
        return None
    for more in range(int(least), int(most)):
        yield lambda act, more=more: disturb(more, act)


DISTURBERS = {'points': at_points, 'signals': at_random, 'errors for want of stack': with_little_stack}


def open_for(path, name, safe):
    return Vault(pathlib.Path(path), thread_safe=safe == 'True', writeback=name.startswith('write-back'))


@role
def disturbed(path, how, name, safe, *options):
    """Disturb an act again and again; tell where, what that left behind, and whether nothing can help there."""
    chosen = ACTS[name]

    def act(vault):
        steps(vault, *(chosen if type(chosen) is list else [chosen]))
    with closing(open_for(path, name, safe)) as vault:
        fill(vault)
        allowed = [state(vault)]
        act(vault)
        allowed.append(state(vault))
    vault, other = open_for(path, name, safe), Vault(pathlib.Path(path), timeout=0.3)
    for number, disturb in enumerate(DISTURBERS[how](*options)):
        fill(vault)
        if name.startswith('write-back'):
            vault.sync()
        gc.collect()   # or it could land in the closing of an older vault, where Python swallows it
        gc.disable()
        where = disturb(lambda vault=vault: act(vault))
        gc.enable()
        problems = judge(vault, other, allowed, number)
        tell([where, problems, bool(where and where[0] in UNGUARDED and where[2])])
        if problems:
            with suppress(VaultError):
                vault.close()
            vault = open_for(path, name, safe)


def judge(vault, other, allowed, what):
    """Tell what is wrong after an act was broken off: of all or nothing, and of the next writes of this and another vault."""
    try:
        vault.sync()  # which no block lets through
    except VaultError as error:
        return [f'left open: {error}']
    writing = threading.Thread(target=lambda: vault.pop('none', None), daemon=True)  # which queues where writers do
    writing.start()
    writing.join(0.5)
    if writing.is_alive():
        return ['left locked']
    problems, found = [], state(other)
    if found not in allowed or state(vault) != found:
        problems.append(f'in part: {str(found)[:300]}')
    vault['after'] = what
    vault.sync()
    if other.pop('after', None) != what:
        problems.append('a later write that nobody else sees')
    return problems


def disturb(round, how, cases, *options):
    """Count where an act was broken off, and where nothing can help; elsewhere nothing may be left behind."""
    for name, safe in round.some(CASES, cases):
        what = f'{name}, thread_safe={safe}'
        for where, problems, accepted in round.ask(what, disturbed, round.fresh(), how, name, safe, *options).lines:
            round.seen[how] += where is not None
            if problems and accepted:
                round.seen['left open where nothing can help'] += 1
            else:
                round.must(not problems, f'{what}, at {where}: {problems}')


def interrupts(round):
    """Ctrl-C at every point where Python looks at signals, in every act: all or nothing, and nothing left open."""
    disturb(round, 'points', 3, round.number // 16 % 8, 8)


def signals(round):
    """The same by real signals, at random moments."""
    disturb(round, 'signals', 2, 60, round.rng.random())


def nest(depth, kind):
    value = kind()
    for _ in range(depth):
        value = {'k': value} if kind is dict else kind([value])
    return value


def level_of(value, depth):
    for _ in range(depth):
        value = value['k'] if type(value) is dict else value[0]
    return value


@role
def nesting(path):
    """Store what is nested deeper and deeper, as a value and as a key."""
    vault = Vault(pathlib.Path(path))
    for depth, kind in itertools.product((10, 500, 1_100, 5_000, 100_000), (list, tuple, dict, 'key')):
        try:
            if kind == 'key':
                key = nest(depth, tuple)
                vault[key] = depth
                tell([depth, kind, vault.pop(key) == depth])
            else:
                vault['value'] = nest(depth, kind)
                tell([depth, kind.__name__, type(level_of(vault['value'], depth)) is kind])
        except (RecursionError, ValueError, VaultError) as error:
            tell([depth, str(kind), type(error).__name__])
        vault['after', depth] = depth
        assert Vault(pathlib.Path(path))['after', depth] == depth


def recursion(round):
    """Little stack is left, or values and keys are nested without end: all or nothing, and the vault goes on."""
    disturb(round, 'errors for want of stack', 2, 4, 60)
    for depth, kind, outcome in round.ask('nesting', nesting, round.fresh()).lines:
        round.must(outcome is not False, f'{kind} nested {depth} deep came back as something else')


# --- signal handlers that use the vault ---------------------------------------------------------------------------

HANDLED = ('put', 'get', 'in', 'del', 'pop', 'popitem', 'setdefault', 'update', 'put_many', 'get_many', 'pop_many', 'edit',
           'slice', 'len', 'items', 'list', 'column', 'section', 'together')  # and no block that fails, with the handler's in it
OPERATIONS['together'] = Operation(lambda target, pairs: block(target, [('put', *pair) for pair in pairs], False),
                                   lambda draw: (draw.pairs(),))


@role
def handled(path, safe, live, seconds, seed):
    """Use a vault while a signal handler uses it as well, in the midst of whatever is going on."""
    vault = Vault(pathlib.Path(path), thread_safe=safe == 'True', writeback=live == 'True')
    vault.update({number: [number] for number in range(100)})
    told, wrong, refused, busy, end = [], collections.Counter(), [], [], time.monotonic() + float(seconds)

    def handle(*_):
        number = len(told)
        if busy or time.monotonic() > end:
            return  # no handler within a handler
        busy.append(number)
        try:
            with vault if number % 3 == 0 else contextlib.nullcontext():
                vault['handled', number] = number
            if number % 3 == 1:
                wrong['a get in the handler'] += vault.get(number % 100) != [number % 100]
                wrong['a pop in the handler'] += vault.pop(('handled', number)) != number
                vault['handled', number] = number
            told.append(number)
        except VaultError:
            refused.append(number)  # SQLite begins no savepoint in the midst of a statement
        finally:
            busy.clear()
    signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    section, model = vault.section('main'), Model()  # the handler's entries are not in the section
    for step in Draw(seed, share=0).steps(dict.fromkeys(HANDLED, 1)):
        wrong[step[0]] += attempt(section, step) != attempt(model, step)
        if time.monotonic() > end:
            break
    signal.setitimer(signal.ITIMER_REAL, 0)
    wrong['the end'] += entries(section) != entries(model)
    vault.close()
    tell([told, +wrong, len(refused)])


def handlers(round):
    """A signal handler uses the vault, in blocks and outside, in the midst of anything that uses it."""
    for safe, live in round.some([(False, False), (True, False), (False, True)], 1):
        path, what = round.fresh(), f'thread_safe={safe}, writeback={live}'
        for numbers, wrong, refusals in round.ask(what, handled, path, safe, live, 0.7, round.rng.random()).lines:
            round.must(not wrong, f'{what}: wrong answers {wrong}')
            round.keeps(path, {('handled', number): number for number in numbers}, what)
            round.seen['signals handled'] += len(numbers)
            round.seen['refused within a statement'] += refusals


# --- one vault in several hands -----------------------------------------------------------------------------------

def shared(round):
    """Two vaults on one file and threads that write, roll back, walk and close, at random, in one process."""
    path, safe, told, problems = round.fresh(), round.rng.random() < 0.5, {}, []
    first, second = (Vault(path, thread_safe=safe, timeout=20) for _ in range(2))

    def work(name, vault):
        rng = random.Random(f'{round.number} {name}')
        for number in range(15):
            try:
                with vault:
                    vault[name, number] = number
                    walk = iter(vault.items())
                    next(walk)
                    if rng.random() < 0.3:
                        raise ZeroDivisionError
                told[name, number] = number
                assert sum(1 for _ in walk) >= 0
            except ZeroDivisionError:
                with suppress(VaultError):
                    if (name, number) in dict(walk):  # what is still there may come, up to the end of its page
                        problems.append('a walk shows what was undone')
            except BaseException as error:
                problems.append(repr(error))
    run_all(*(lambda name=name, vault=vault: work(name, vault)
              for name, vault in zip('abcd', (first, first, second, second))))
    round.must(not problems, f'thread_safe={safe}: {problems[:3]}')
    closed_by_another(round, first)
    second.close()
    found = round.keeps(path, told, 'shared')
    round.must(set(found) == set(told), f'{len(set(found) - set(told))} entries of blocks that were undone')


def closed_by_another(round, vault):
    """Close a vault from another thread inside a block and a walk: the block is undone, the others can write."""
    walk = iter(vault)
    next(walk)
    try:
        with vault:
            vault['undone'] = 1
            run_all(vault.close)
            vault['after'] = 1
        round.must(False, 'a block of a closed vault ended without an error')
    except vaults.VaultClosedError:
        round.seen['closed inside a block'] += 1
    try:
        list(walk)
    except VaultError:
        round.seen['closed inside a walk'] += 1
    with closing(Vault(pathlib.Path(vault.db_path), timeout=1)) as again:
        round.must('undone' not in again and 'after' not in again, 'what was in the block of a closed vault is there')
        again['next'] = 1
        del again['next']


@role
def dying(path, safe):
    """Let threads end inside an open block, and a thousand threads open a connection each."""
    vault = Vault(pathlib.Path(path), thread_safe=safe == 'True', timeout=1)
    vault['a'] = 1

    def die():
        vault.__enter__()
        vault['never'] = 1

    def put(key):
        vault[key] = key
        tell([key, key])
    for number in range(5 if safe == 'False' else 0):
        run_all(die)
        put(f'after {number}')
    handles = pathlib.Path('/proc/self/fd')
    before = len(list(handles.glob('*')))
    for group in range(0, 1000, 50):
        run_all(*(lambda number=number: put(f'thread {number}') for number in range(group, group + 50)))
    gc.collect()
    tell(['more handles', len(list(handles.glob('*'))) - before])


def threads(round):
    """Threads that end inside an open block; a thousand threads, each with a connection of its own."""
    for safe in round.some((False, True), 1):
        path, what = round.fresh(), f'thread_safe={safe}'
        kept = dict(round.ask(what, dying, path, safe).lines)
        more = kept.pop('more handles', 0)  # SQLite keeps one or two for each that were open at once, and takes them again
        round.must(more <= 110, f'{what}: {more} more files open than before')
        found = round.keeps(path, kept, what)
        round.must('never' not in found, 'the block of a thread that ended was committed')
        round.seen['threads'] += 1000


# --- tasks --------------------------------------------------------------------------------------------------------

class Crowd:
    """Tasks of one event loop that use a vault at random, and a dict of what they were told is done."""

    def __init__(self, vault, seed):
        self.vault, self.rng = vault, random.Random(seed)
        self.kept, self.count, self.refused, self.wrong = {}, 0, 0, []

    @contextlib.contextmanager
    def told(self, *keys):
        """Note the keys that are put here; when it is refused or fails, nothing of it may be there."""
        try:
            yield
        except vaults.VaultTaskError:
            self.refused += 1
        except ZeroDivisionError:
            pass
        else:
            self.kept.update(dict.fromkeys(keys, 1))

    async def block(self, key, pause, fails):
        with self.told(key, (key, 'too')):
            with self.vault.transaction():
                self.vault[key] = 1
                seen = self.vault.get('n', 0)
                for _ in range(pause):
                    await asyncio.sleep(0)
                self.vault['n'] = seen + 1
                self.vault[key, 'too'] = 1 // (not fails)
            self.count += 1

    def crossing(self, key):
        """Hold two blocks over yields, and end them in the order in which they began: neither is kept."""
        def hold(name):
            with self.vault.transaction():
                self.vault[key, name] = 1
                yield
        held = [hold(name) for name in 'ab']
        for one in held:
            next(one)
        for one in held:
            try:
                next(one, None)
                self.wrong.append(f'crossing blocks: {key} was committed')
            except vaults.VaultTaskError:
                raise
            except VaultError:
                continue

    async def task(self, me):
        for turn in range(15):
            key, way = f'{me} {turn}', self.rng.randrange(7)
            if way < 3:
                await self.block(key, self.rng.randrange(3), self.rng.random() < .2)
            elif way < 5:
                with self.told(*[key, (key, 'too')][:way - 2]):
                    self.vault.put(key, 1) if way == 3 else self.vault.update({key: 1, (key, 'too'): 1})
            else:
                with self.told():
                    self.crossing(key) if way == 5 else (len(self.vault), list(self.vault))
            await asyncio.sleep(0)

    async def run(self):
        tasks = [asyncio.ensure_future(self.task(me)) for me in range(12)]
        for _ in range(self.rng.randrange(40)):
            await asyncio.sleep(0)
        for task in self.rng.sample(tasks, 3):
            task.cancel()
        for done in await asyncio.gather(*tasks, return_exceptions=True):
            if done is not None and not isinstance(done, asyncio.CancelledError):
                self.wrong.append(repr(done))


def tasks(round):
    """Tasks of one event loop: what one was told is done stays, whoever else holds, fails in or is cancelled in a block."""
    for kind, options in {'plain': {}, 'queued': {'thread_safe': True}, 'live': {'writeback': True}}.items():
        path = round.fresh()
        with closing(Vault(path, **options)) as vault:
            crowd = Crowd(vault, f'{kind} {round.rng.random()}')
            asyncio.run(crowd.run())
        found = round.keeps(path, crowd.kept, kind)
        round.must(found.pop('n', 0) == crowd.count, f'{kind}: {crowd.count} counted')
        round.must(found == crowd.kept, f'{kind}: {sorted(set(map(str, found)) - set(map(str, crowd.kept)))} were not told')
        round.must(not crowd.wrong, f'{kind}: {crowd.wrong}')
        round.must(crowd.refused, f'{kind}: nobody was refused')
        round.seen['refused'] += crowd.refused


# --- names and paths ----------------------------------------------------------------------------------------------

NAMES = ['%', '%20', 'a?mode=ro', 'a#b', 'a b', ' ', 'a\nb', "a'b", 'a"b', 'a;b', 'file:x?mode=ro', 'file:', 'con', 'nul.db3',
         'a.db.old', 'a-wal', 'a-journal', '-a', '~', '$HOME', 'a*', '\u00e9', unicodedata.normalize('NFD', '\u00e9'), '\U0001f40d',
         '\u202ea', '\udcff', '\udce9t', 'x' * 240, 'x' * 244, 'x' * 245, 'x' * 255, '\u00e9' * 122, ':memory: ', 'a:b', 'a|b', '\x7f\x01']
REFUSED = ['', '..', 'a/b', '/a', 'a\0b', '../a', 'a\\b', '\ud800', 'a.db', 'nul.DB']


def paths(round):
    """Names and paths of every kind are that file, or a clear error; and nothing else appears."""
    folder = round.fresh().parent
    vaults.set_root_path(folder)
    try:
        for name in NAMES:
            spelled(round, folder / 'vaults', name, True)
        for name in REFUSED:
            with suppress(VaultError):
                Vault(name).close()
                round.must(False, f'the name {name!r} was not refused')
    finally:
        vaults.set_root_path(None)
    for name in NAMES:
        spelled(round, round.fresh().parent, name, False)
    for make in (linked, hard_linked, relative, deep):
        make(round)
    for what in round.ask('files that are none', special, round.fresh()).lines:
        round.must(what[1] != 'opened', f'{what} was opened as a vault')
        round.seen['paths'] += 1


def spelled(round, folder, name, by_name):
    """Open a vault by a name, or by the exact path of its file; the longest leave no room for the names of the log."""
    path, value = folder / (f'{name}.db' if by_name else name), name.encode('utf-8', 'surrogatepass')
    what, size = f'the {"name" if by_name else "path"} {name!r}', len(os.fsencode(path.name))
    try:
        with closing(Vault(name if by_name else path)) as vault:
            vault['k'] = value
            there = os.listdir(folder)
            run_all(lambda: vault.put('other thread', 2))
    except VaultError as error:
        round.must(size > 255 - len('-journal') and ('bytes' if by_name else str(folder)) in str(error), f'{what}: {error!r}')
        round.seen['refused'] += 1
        return
    round.must(path.name in there, f'{what} became {there}')
    found = round.keeps(path, {'k': value, 'other thread': 2}, what)
    round.must(len(found) == 2, f'{what} shares a file')
    round.must(by_name or os.listdir(folder) == [name], f'{what} left {os.listdir(folder)}')
    round.seen['names and paths'] += 1


def linked(round):
    """Open a file by two paths at once, also from another process and with others opening it: nothing is lost."""
    for what in ('a link to the file', 'a link to the folder'):
        path = round.fresh()
        Vault(path).close()
        target, link = (path, path.parent / 'link.db') if what == 'a link to the file' else (path.parent, round.fresh('link'))
        link.symlink_to(target)
        one = link if target == path else link / path.name
        code = -signal.SIGKILL if guard.AVAILABLE else 0
        told = run(as_role(beside_openers, one, 'guarded', f'{what} {round.number}'))
        round.must(told.code == code or not guard.AVAILABLE, f'{what}: ended with {told.code}: {told.complaints}')
        with closing(Vault(path)) as first, closing(Vault(one)) as second:
            first['first'], second['second'] = 'first', 'second'
            round.must(first['second'] == 'second', f'{what}: two paths, two vaults')
            round.ask(what, visit, path, 'visitor', 1)
            second['third'] = 'third'
        if guard.AVAILABLE:
            told = {key: key for key in ('first', 'second', 'third', *told.lines)}
            round.keeps(path, {**told, 'visitor': 1}, what)
        round.seen[what] += 1


def hard_linked(round):
    """Use two names of one file, one after the other: at once they are two logs, which SQLite does not support."""
    path = round.fresh()
    other = path.parent / 'other.db'
    with closing(Vault(path)) as vault:
        vault['a'] = 1
    os.link(path, other)
    with closing(Vault(other)) as vault:
        vault['b'] = 2
    round.keeps(path, {'a': 1, 'b': 2}, 'a hard link')


def relative(round):
    """Change the folder after opening a relative path: connections made later are to the same file."""
    before, path = os.getcwd(), round.fresh()
    try:
        os.chdir(path.parent)
        with closing(Vault(pathlib.Path(path.name))) as vault:
            os.chdir('/')
            run_all(lambda: vault.put('thread', 1))
    finally:
        os.chdir(before)
    round.keeps(path, {'thread': 1}, 'a relative path')


def deep(round):
    """Open paths longer and longer: each is a vault, or an error of ours."""
    folder = round.fresh().parent
    for _ in range(6):
        folder = folder / ('d' * 120)
        folder.mkdir()
        try:
            with closing(Vault(folder / 'a.db')) as vault:
                vault['k'] = 1
            round.keeps(folder / 'a.db', {'k': 1}, f'a path of {len(str(folder))} characters')
        except VaultError as error:
            round.must(len(str(folder)) > 500 and 'cannot be opened' in str(error), f'{len(str(folder))}: {error!r}')
            round.seen['long paths refused'] += 1


@role
def special(path):
    """Open what is no regular file: each is refused."""
    folder = os.path.dirname(path)
    os.chdir(folder)  # the path of a socket is short
    os.mkfifo('fifo')
    socket.socket(socket.AF_UNIX).bind('socket')
    os.symlink('loop', 'loop')
    os.symlink(os.path.join(folder, 'missing', 'file.db'), 'dangling')
    for one, flag in itertools.product(('fifo', 'socket', 'loop', 'dangling', '', 'fifo/a.db'), 'crwn'):
        try:
            Vault(pathlib.Path(folder, one), flag=flag, timeout=0.2).close()
            tell([one, 'opened', flag])
        except VaultError as error:
            tell([one, type(error).__name__, str(error)])


# --- the clock ----------------------------------------------------------------------------------------------------

YEAR = 365.25 * 86400


def clock(round):
    """The clock jumps by years, back and forth, before 1970 and beyond what 4 bytes hold."""
    path, real, rng, began = round.fresh(), time.time, round.rng, time.monotonic()
    vault, model = Vault(path, timeout=0.3), {'list': [], 'column': [], 'stream': b''}
    try:
        for number in range(12):
            jump = rng.choice((-80, -56, -1, 0, 1, 12, 80, 1000)) * YEAR
            time.time = lambda jump=jump: real() + jump
            vault[number] = model[number] = number
            vault.list('list').extend(range(50))
            vault.column('column', 'int64').append(number)
            with vault.open('stream', 'ab') as file:
                file.write(b'x' * 300_000)
            model['list'] += range(50)
            model['column'].append(number)
            model['stream'] += b'x' * 300_000
            other = vault.open('other', 'wb')
            other.write(b'y' * 3_000_000)
            time.time = lambda: real() + rng.choice((-3, 3)) * YEAR
            vault.compact()
            with suppress(VaultError):  # for the clock it took years: nothing of it is written then
                other.close()
                model['other'] = b'y' * 3_000_000
            round.must(state(vault) == model, f'after a jump of {jump / YEAR:.0f} years it is not what was written')
    finally:
        time.time = real
    vault.close()
    with closing(Vault(path)) as vault:
        vault._check()
        round.must(state(vault) == model, 'after the jumps it is not what was written')
    round.acknowledged += len(model)
    round.must(time.monotonic() - began < HANGS, 'a timeout followed the clock')


# --- the interpreter ends -----------------------------------------------------------------------------------------

OPEN = """
import atexit, gc, io, json, os, sys, threading, time, pathlib, weakref
from vaults import Vault, VaultError
path = pathlib.Path(sys.argv[1])
class Node: pass
class Holder:
    def __del__(self):
        try: put(self.vault, 'late')
        except BaseException: pass  # the collector takes both at once, the vault may be the first
def told(key, value): os.write(1, b'%s\\n' % json.dumps([key, value]).encode())
def put(vault, key, value=1): vault[key] = value; told(key, value)
def start(is_daemon, work, *arguments): threading.Thread(target=work, args=arguments, daemon=is_daemon).start()
def blocks(vault, name):
    for n in range(10**9):
        with vault: vault[name, n] = n
def lists(vault):
    for n in range(10**9): vault[n % 50] = [n]
"""
SHUTDOWNS = {  # what a program does in the end; its exit code is 0, and it complains of nothing, if not listed below
    'open': "v = Vault(path); put(v, 'a')",
    'a cycle': "node = Node(); node.me = node; node.vault = Vault(path); put(node.vault, 'a'); node = None",
    'atexit before': "atexit.register(lambda: put(v, 'late')); v = Vault(path); put(v, 'a')",
    'atexit after': "v = Vault(path); put(v, 'a'); atexit.register(lambda: put(v, 'late'))",
    'atexit opens': "atexit.register(lambda: put(Vault(path), 'late'))",
    'atexit closes': "v = Vault(path); put(v, 'a'); atexit.register(v.close); atexit.register(v.close)",
    '__del__ at the end': "holder = Holder(); holder.vault = Vault(path); put(holder.vault, 'a'); sys.modules['kept'] = holder",
    '__del__ in a cycle': "h = Holder(); h.vault = Vault(path); h.me = h; put(h.vault, 'a'); h = None",
    'a daemon thread': "v = Vault(path); start(True, lambda: [put(v, 'n%d' % n) for n in range(10**9)]); time.sleep(0.05)",
    'daemon threads in blocks': "v = Vault(path, thread_safe=True); [start(True, blocks, v, a) for a in 'bcd']; put(v, 'a'); time.sleep(0.05)",
    'a thread that goes on': "v = Vault(path); start(False, lambda: [(put(v, 'n%d' % n), time.sleep(0.001)) for n in range(50)])",
    'inside a block': "v = Vault(path); put(v, 'a'); v.__enter__(); v['never'] = 1",
    'sys.exit in a block': "v = Vault(path); put(v, 'a')\nwith v: v['never'] = 1; sys.exit(3)",
    'os._exit': "v = Vault(path); put(v, 'a'); v.__enter__(); v['never'] = 1; os._exit(4)",
    'a kill in a block': "v = Vault(path); put(v, 'a'); v.__enter__(); v['never'] = 1; os.kill(os.getpid(), 9)",
    'an exception': "v = Vault(path); put(v, 'a'); 1 / 0",
    'an exception in a block': "v = Vault(path); put(v, 'a')\nwith v: v['never'] = 1; 1 / 0",
    'write-back': "v = Vault(path, writeback=True); v['a'] = []; v['a'].append(1); told('a', [1])",
    'write-back in a cycle': "n = Node(); n.me = n; n.vault = Vault(path, writeback=True); n.vault['a'] = [1]; n = None; told('a', [1])",
    'write-back and a daemon thread': "v = Vault(path, writeback=True); start(True, lists, v); time.sleep(0.05)",
    'an open stream': "v = Vault(path); put(v, 'a'); f = v.open('never', 'wb'); f.write(b'x' * 3_000_000)",
    'an open text stream': "v = Vault(path); put(v, 'a'); f = v.open('never', 'w'); f.write('x' * 100)",
    'a stream that is read': "v = Vault(path); put(v, 'a'); v.put_file('s', io.BytesIO(b'x' * 600_000)); f = v.open('s'); f.read(10)",
    'a walk': "v = Vault(path); v.update(dict.fromkeys(map(str, range(999)), 1)); put(v, 'a'); i = iter(v.items()); next(i)",
    'views and lists': "v = Vault(path); put(v, 'a'); k = v.keys(); l = v.list('l'); l.append(1); s = v['a':]; t = v.section('t')",
    'many vaults': "many = [Vault(path) for _ in range(20)]; [put(v, 'v%d' % n) for n, v in enumerate(many)]",
    'a weakref callback': "w = Vault(path); n = [Node()]; put(w, 'a'); r = weakref.ref(n[0], lambda _: put(w, 'late')); atexit.register(n.pop)",
    'two that close each other': "v, w = Vault(path), Vault(path); put(v, 'a'); put(w, 'b'); atexit.register(v.close); weakref.finalize(v, w.close)",
    'modules taken away': "v = Vault(path); put(v, 'a'); [sys.modules.pop(n) for n in list(sys.modules) if 'vaults' in n]",
}
CODES = {'sys.exit in a block': 3, 'os._exit': 4, 'a kill in a block': -9, 'an exception': 1, 'an exception in a block': 1}
LOUD = ('write-back and a daemon thread', 'an open stream', 'an open text stream')  # may complain


def shutdown(round):
    """The interpreter ends with vaults open in every way: no crash, no noise, no acknowledged write lost."""
    for name in round.some(SHUTDOWNS, 7):
        program, path, code = SHUTDOWNS[name], round.fresh(), CODES.get(name, 0)
        told = run([sys.executable, '-c', OPEN + program, path], cwd=str(round.folder))
        round.must(told.code == code, f'{name}: ended with {told.code}, not {code}: {told.complaints}')
        expected = 'ZeroDivisionError: division by zero' if code == 1 else ''
        said, tracebacks = told.complaints.strip(), told.complaints.count('Traceback')
        is_right = said.endswith(expected) and tracebacks == 1 if expected else not said
        round.must(is_right or name in LOUD, f'{name}: complained {said}')
        found = round.keeps(path, dict(told.lines), name)
        round.must('never' not in found, f'{name}: what was not finished is there')
        round.seen['ends'] += 1


# --- all of them --------------------------------------------------------------------------------------------------

TRAPS = {trap.__name__: trap for trap in (
    opener, gone, truncated, forks, pools, interrupts, signals, handlers, shared, threads, tasks, paths, clock, recursion, shutdown)}


def sprung(trial, name, options, folder):
    """Spring one trap for all rounds; print what was counted."""
    total, acknowledged, lost, began = collections.Counter(), 0, 0, time.monotonic()
    for number in range(options.rounds):
        with tempfile.TemporaryDirectory(dir=folder) as inside:
            round = Round(name, number, options.seed, pathlib.Path(inside))
            try:
                TRAPS[name](round)
            except Exception:  # of another kind than the vault may raise, or where it may raise nothing
                round.must(False, traceback.format_exc(limit=-3))
        total, acknowledged, lost = total + round.seen, acknowledged + round.acknowledged, lost + round.lost
        for what in round.broken:
            trial.broke(what)
    counted = ''.join(f', {number} {what}' for what, number in total.items())
    print(f'{name}: {options.rounds} rounds, {acknowledged} acknowledged, {lost} lost{counted}; '
          f'{time.monotonic() - began:.1f} s', flush=True)
    return acknowledged, lost


def main():
    trial = Trial(__doc__, rounds=1)
    trial.parser.add_argument('--only', choices=sorted(TRAPS), action='append', help='one trap; may be repeated')
    options = trial.begin()
    if not guard.AVAILABLE:
        print('no locks on open file descriptions here: what others in the process drop cannot be kept, so it is left out')
    with tempfile.TemporaryDirectory() as folder:
        sums = [sprung(trial, name, options, folder) for name in options.only or TRAPS]
    acknowledged, lost = map(sum, zip(*sums))
    trial.end(f'{len(sums)} traps, {options.rounds} rounds each: {acknowledged} writes acknowledged, {lost} lost')


if __name__ == '__main__':
    play_role()
    main()
