"""Spring every trap that a prototype or a peer fell into on a real vault, many times, and count what was lost.

    python trials/traps.py [--rounds N] [--seed S] [--only NAME]

Each trap is a function here, in the table TRAPS. What could crash, hang or be killed runs in a process of its own, which
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
import filecmp
import gc
import hashlib
import itertools
import json
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
import tarfile
import tempfile
import textwrap
import threading
import time
import unicodedata
import zipfile

import vaults
from vaults import Vault, VaultError
from vaults.stores.sqlite import checkpoint, connection, guard

PACKAGE = os.path.dirname(vaults.__file__)
PATIENCE = 60      # seconds until a process counts as hung
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

    def keeps(self, path, acknowledged, what):
        """Open the vault: it is sound, and holds every entry that was acknowledged."""
        try:
            with contextlib.closing(Vault(path, to_create=False)) as vault:
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


# --- processes ----------------------------------------------------------------------------------------------------

CHILDREN = {}  # what runs in a process of its own, by name
Told = collections.namedtuple('Told', 'code lines complaints')


def child(function):
    CHILDREN[function.__name__] = function
    return function


def tell(what):
    """Tell the parent, at once and in one piece."""
    os.write(1, json.dumps(what).encode() + b'\n')


def command(name, *arguments):
    return [sys.executable, '-W', 'ignore::DeprecationWarning', __file__, '--child', name, *map(str, arguments)]


def ask(name, *arguments):
    return heard(command(name, *arguments))


def heard(words, **options):
    """Run a process; return its exit code, what it told, and what it complained of."""
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True, **options) as process:
        try:
            out, complaints = process.communicate(timeout=PATIENCE)
            code = process.returncode
        except subprocess.TimeoutExpired:
            code = 'hung'
        finally:
            with contextlib.suppress(ProcessLookupError):  # what it started, too
                os.killpg(process.pid, signal.SIGKILL)
        if code == 'hung':
            out, complaints = process.communicate()
    return Told(code, [json.loads(line) for line in out.splitlines()], complaints.decode(errors='replace')[-1500:])


# --- another opener in the same process ---------------------------------------------------------------------------

def read_in_thread(path):
    thread = threading.Thread(target=lambda: pathlib.Path(path).read_bytes())
    thread.start()
    thread.join()


def map_it(path):
    with open(path, 'rb') as file, contextlib.suppress(ValueError):  # an empty file cannot be mapped
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ).close()


def pack(archive, add, path):
    with archive as opened:
        getattr(opened, add)(path)


def close_a_duplicate(path):
    handle = os.open(path, os.O_RDONLY)
    os.close(os.dup(handle))
    os.close(handle)


def inspect(path, parameters):
    """Look at the file with SQLite; at its log and shared memory it only fails, having opened and closed them."""
    with contextlib.suppress(sqlite3.DatabaseError), \
            contextlib.closing(sqlite3.connect(f'file:{path}?{parameters}', uri=True)) as raw:
        raw.execute('SELECT count(*) FROM sqlite_master').fetchone()


OPENERS = {
    'open': lambda path: open(path, 'rb').close(),
    'open to write': lambda path: open(path, 'r+b').close(),
    'open to append': lambda path: open(path, 'ab').close(),
    'os.open': lambda path: os.close(os.open(path, os.O_RDWR)),
    'os.dup': close_a_duplicate,
    'read_bytes': lambda path: pathlib.Path(path).read_bytes(),
    'in a thread': read_in_thread,
    'shutil.copy': lambda path: shutil.copy(path, f'{path}.copy'),
    'shutil.copyfile': lambda path: shutil.copyfile(path, f'{path}.copy'),
    'a hash': lambda path: hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest(),
    'mmap': map_it,
    'filecmp': lambda path: filecmp.cmp(path, __file__, shallow=False),
    'zipfile': lambda path: pack(zipfile.ZipFile(f'{path}.zip', 'w'), 'write', path),
    'tarfile': lambda path: pack(tarfile.open(f'{path}.tar', 'w'), 'add', path),  # noqa: SIM115  # pack closes it
    'sqlite3': lambda path: inspect(path, 'mode=rw'),
    'sqlite3 immutable': lambda path: inspect(path, 'immutable=1&mode=ro'),
    'another vault': lambda path: Vault(pathlib.Path(path.replace('-wal', '').replace('-shm', ''))).close(),
}


@child
def beside_openers(path, guarded, seed):
    """Write beside somebody who opens and closes the three files, and a process that opens and closes the vault."""
    guard.AVAILABLE = guard.AVAILABLE and guarded == 'guarded'
    rng, vault, numbers = random.Random(seed), Vault(pathlib.Path(path)), itertools.count()

    def put():
        number = next(numbers)
        vault[number] = number
        tell(number)
    put()
    with subprocess.Popen(command('visitor', path), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as visitor:
        for name in rng.sample(sorted(OPENERS), len(OPENERS)):
            for suffix in ('', '-wal', '-shm'):
                beside = os.path.realpath(path) + suffix
                if os.path.exists(beside):  # the log may be gone where nothing guards it
                    OPENERS[name](beside)
            visitor.stdin.write(f'{name}\n'.encode())
            visitor.stdin.flush()
            for _ in range(rng.randrange(10)):
                put()
            if not visitor.stdout.readline():
                break
            tell(name)
            for _ in range(rng.randrange(1, 10)):
                put()
        os.kill(os.getpid(), signal.SIGKILL)  # closing could still save what a crash would lose


@child
def visitor(path):
    """Open the vault, write what stdin says, and close it: the last one to close deletes the log."""
    for line in sys.stdin:
        with contextlib.closing(Vault(pathlib.Path(path))) as vault:
            vault[line.strip()] = line.strip()
        print(line, end='', flush=True)


def opener(round):
    """Others in the process open and close the files, which drops POSIX locks; other processes come and go."""
    for guarded in ('guarded', 'bare'):
        path = round.fresh()
        told = ask('beside_openers', path, guarded, f'{round.name} {round.number} {round.rng.random()}')
        acknowledged = {key: key for key in told.lines}
        if guarded == 'guarded' and guard.AVAILABLE:
            round.must(told.code == -signal.SIGKILL, f'the writer ended with {told.code}: {told.complaints}')
            round.keeps(path, acknowledged, 'guarded')
            round.seen['openers'] += len(OPENERS)
        elif guarded == 'bare':
            with contextlib.closing(Vault(path)) as vault:
                lost = len(acknowledged.keys() - set(vault))
            round.seen['lost with the guard switched off'] += lost
            round.must(lost or not guard.AVAILABLE, 'the trap did not spring: nothing was lost without the guard')


# --- the file goes, changes, or moves while it is open --------------------------------------------------------------

def check_out(path):
    """Do as version control does: delete the file and write another in its place."""
    other = f'{path}.other'
    shutil.copyfile(f'{path}.spare', other)
    os.unlink(path)
    os.rename(other, path)


def cut(path, share):
    os.truncate(path, int(os.path.getsize(path) * share))


def move_folder(path):
    folder = os.path.dirname(path)
    os.rename(folder, f'{folder}-moved')


GONE = {  # what happens to the file; at once noticed are those that make the path lead to another file, or none
    'deleted': os.unlink,
    'deleted with its log': lambda path: [os.unlink(path + suffix) for suffix in ('', '-wal', '-shm')],
    'renamed': lambda path: os.rename(path, f'{path}.away'),
    'replaced': lambda path: os.replace(f'{path}.spare', path),
    'checked out': check_out,
    'folder moved': move_folder,
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
KEPT = 400  # entries before the trap


@child
def beside_the_act(path, act, way):
    """Have the file taken away underneath; then go on writing, or reading, until an error says so."""
    with contextlib.closing(Vault(pathlib.Path(f'{path}.spare'))) as spare:
        spare['spare'] = 1
    vault = Vault(pathlib.Path(path))
    vault.update((f'kept {number}', 'x' * 200) for number in range(KEPT))
    vault.compact()                     # into the file
    for number in range(PUTS // 2):     # and some into the log
        vault[f'kept {number}'] = 'x' * 200
    {**GONE, **CUT}[act](path)
    tell('acted')
    try:
        for number in range(1000):
            if way == 'read':
                assert vault[f'kept {number * 7 % KEPT}'] == 'x' * 200, 'a wrong value'
                assert set(dict(vault.items()).values()) == {'x' * 200}, 'a wrong value'
            else:
                WAYS[way](vault, number)
                tell(number)
    except VaultError as error:
        tell([type(error).__name__, str(error)])
    with contextlib.suppress(VaultError):
        vault.close()


def gone(round):
    """The file is deleted, replaced, emptied or moved while it is open."""
    for act, way in round.some(itertools.product(GONE, WAYS), 3):
        path = round.fresh()
        told = ask('beside_the_act', path, act, way)
        round.must(told.code == 0, f'{act}, {way}: ended with {told.code}: {told.complaints}')
        after = [line for line in told.lines[1:] if isinstance(line, int)]
        said = told.lines[-1] if told.lines and isinstance(told.lines[-1], list) else ['nothing', '']
        round.must(said[0] == 'VaultNotFoundError' and path.name in said[1], f'{act}, {way}: the error was {said}')
        bound = PUTS if way == 'put' else 0
        round.must(len(after) <= bound, f'{act}, {way}: {len(after)} writes acknowledged after it, not {bound}')
        round.seen['acts'] += 1
        round.seen['writes until the error'] = max(round.seen['writes until the error'], len(after))
        opened_again(round, path, act)


def opened_again(round, path, act):
    """Open what the path leads to now: what a user put there, or a new vault, or the folder that was moved."""
    kept = {f'kept {number}': 'x' * 200 for number in range(KEPT)}
    if act == 'folder moved':
        round.keeps(pathlib.Path(f'{path.parent}-moved', path.name), kept, act)
    elif act == 'a folder in its place':
        with contextlib.suppress(vaults.VaultFormatError), contextlib.closing(Vault(path)):
            round.must(False, 'a folder was opened as a vault')
    elif act in ('replaced', 'checked out'):
        round.must(round.keeps(path, {'spare': 1}, act) == {'spare': 1}, f'{act}: more than what was put there')
    else:
        with contextlib.closing(Vault(path)) as vault:
            vault['new'] = 1
            round.must(vault.items() == [('new', 1)], f'{act}: the vault made anew is not new')


def truncated(round):
    """The file, its log or its shared memory is cut short while it is open: that takes data with it, but never a
    wrong value or an error of another kind; and a crash, where the system has one, takes nothing of its own."""
    for act, way in round.some(itertools.product(CUT, [*WAYS, 'read']), 3):
        path = round.fresh()
        told = ask('beside_the_act', path, act, way)
        signalled = told.code == -signal.SIGBUS
        if signalled and act.startswith('shared memory'):
            round.seen['SIGBUS by cutting the shared memory'] += 1
        else:
            round.must(told.code == 0, f'{act}, {way}: ended with {told.code}: {told.complaints}')
        round.seen['acts'] += 1
        if act.startswith('shared memory'):
            after = {line: line for line in told.lines[1:] if isinstance(line, int) and way != 'append'}
            round.keeps(path, {**{f'kept {number}': 'x' * 200 for number in range(KEPT)}, **after}, act)
            continue
        try:
            with contextlib.closing(Vault(path)) as vault:
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


@child
def forking(path, seed, count):
    """Fork in every place, with children that end in every way; both tell what was acknowledged."""
    rng = random.Random(seed)
    vault = Vault(pathlib.Path(path), thread_safe=rng.random() < 0.5, timeout=3)
    vault.update({f'old {number}': number for number in range(100)})
    # Only where it is thread_safe does a fork wait until no other thread is in SQLite, whose mutexes a fork copies.
    places = PLACES if vault._options[0] else PLACES[:-2]
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
        os.execv(sys.executable, command('visit', vault.db_path, f'child {number}', number))
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


@child
def visit(path, key, number):
    with contextlib.closing(Vault(pathlib.Path(path), timeout=30)) as vault:
        vault[key] = int(number)
    tell(['child', int(number)])


def forks(round):
    """Forks inside blocks, walks, streams and beside threads, whose children end in every way there is."""
    path, count = round.fresh(), 10
    told = ask('forking', path, f'{round.name} {round.number} {round.rng.random()}', count)
    round.must(told.code == 0 and not told.complaints, f'ended with {told.code}: {told.complaints}')
    for what, text in told.lines:
        round.must(what != 'broken', text)
    kept = {f'{who} {number}': number for who, number in told.lines if who in ('parent', 'child')}
    found = round.keeps(path, {**kept, **{f'old {number}': number for number in range(100)}}, 'forks')
    round.must('never' not in found, 'an unfinished block of a fork was committed')
    round.seen['forks'] += count


@child
def pool(path, method):
    """Write in workers that multiprocessing starts, inside a block and outside."""
    vault = Vault(pathlib.Path(path), timeout=30)
    vault['count'] = 0
    context = multiprocessing.get_context(method)
    workers = [context.Process(target=work_in_pool, args=(vault, number)) for number in range(3)]
    for worker in workers[:2]:
        worker.start()
    with vault:
        vault['in block'] = 1
        workers[2].start()  # it waits for the end of this block
    for worker in workers:
        worker.join()
    tell([worker.exitcode for worker in workers])
    tell(vault['count'])


def work_in_pool(vault, number):
    for _ in range(20):
        with vault:
            vault['count'] += 1
    vault[f'worker {number}'] = number


def pools(round):
    """Workers of multiprocessing, forked, spawned and from a server, with the vault sent to them."""
    for method in round.some(multiprocessing.get_all_start_methods(), 1):
        path = round.fresh()
        told = ask('pool', path, method)
        round.must(told.code == 0 and told.lines == [[0, 0, 0], 60] and not told.complaints,
                   f'{method}: {told.code}, {told.lines}, {told.complaints}')
        round.keeps(path, {'count': 60, 'in block': 1, **{f'worker {number}': number for number in range(3)}}, method)
        round.seen[method] += 1


# --- interrupts ---------------------------------------------------------------------------------------------------

BEFORE = {'x': [0], 'doc': {'n': [1]}, 'last': b'y' * 50}


def fill(vault):
    """Put what the acts work on."""
    vault.clear()
    vault.update(copy.deepcopy(BEFORE))  # a write-back vault changes it in place
    vault.list('list').extend(range(60))
    vault.column('column', 'int64').extend(range(100))
    with vault.open('stream', 'wb') as file:
        file.write(b's' * 5_000)
    vault.section('part').update(a=1, b=2)


def plain(value):
    """Return what a value holds: of a live list or column, its elements."""
    return list(value) if type(value).__module__ in ('vaults.collections.list', 'vaults.collections.column') else copy.deepcopy(value)


def state(vault):
    return {key: plain(value) for key, value in vault.items()}


def block(vault):
    with vault:
        vault['x'] = [1]
        vault.update(new=1, other=2)
        del vault['doc']


def nested(vault):
    with vault:
        vault['x'] = [1]
        with vault.transaction():
            vault['new'] = 2
        with contextlib.suppress(ZeroDivisionError), vault:
            vault['undone'] = 3
            1 / 0  # noqa: B018  # undoes the inner block


def write_stream(vault):
    with vault.open('stream', 'wb') as file:
        file.write(b't' * 600_000)


def edit(vault):
    with vault.edit('doc') as doc:
        doc['n'].append(2)


def change_live(vault):
    vault['doc']['n'].append(2)
    vault['x'] = [1]
    vault.sync()


def change_in_block(vault):
    with vault:
        vault['doc']['n'].append(2)
        vault['new'] = [1]


PLAIN_ACTS = {
    'put': lambda vault: vault.__setitem__('x', [1]),
    'update': lambda vault: vault.update(x=[1], new=2, other=3),
    'put_many': lambda vault: vault.put_many([('x', [1]), ('new', (1, 2))]),
    'block': block,
    'nested': nested,
    'del': lambda vault: vault.__delitem__('x'),
    'del slice': lambda vault: vault.__delitem__(slice('a', 'm')),
    'pop': lambda vault: vault.pop('x'),
    'pop_many': lambda vault: vault.pop_many(['x', 'doc', 'none']),
    'popitem': lambda vault: vault.popitem(),
    'setdefault': lambda vault: vault.setdefault('new', 1),
    'clear': lambda vault: vault.clear(),
    'edit': edit,
    'list append': lambda vault: vault.list('list').append(1),
    'list insert': lambda vault: vault.list('list').insert(3, 1),
    'stream': write_stream,
    'column extend': lambda vault: vault.column('column', 'int64').extend(range(50)),
    'section': lambda vault: vault.section('part').update(a=3, c=4),
    'sync': lambda vault: vault.sync(),
}
LIVE_ACTS = {
    'write-back sync': change_live,
    'write-back update': lambda vault: vault.update(x=[1], new=[2]),
    'write-back block': change_in_block,
    'write-back pop': lambda vault: vault.pop('x'),
}
ACTS = {**PLAIN_ACTS, **LIVE_ACTS}
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
                    self.where = self._place(frame)
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

    def _place(self, frame):
        first = id(frame) not in self._last
        return frame.f_code.co_name, frame.f_lineno, first or frame.f_code.co_name in ('__enter__', '__exit__')

    def run(self, act):
        """Do the act; tell whether it was interrupted."""
        gc.collect()   # or it could land in the closing of an older vault, where Python swallows it
        gc.disable()
        try:
            sys.settrace(self.trace)
            act()
        except KeyboardInterrupt:
            return True
        finally:
            sys.settrace(None)
            gc.enable()
        return False


def leftovers(vault):
    """Return what an interrupted act left behind that it must not: an open transaction, a lock."""
    store, found = vault._store, []
    if getattr(store, '_depth', 0) and type(store).__name__ == 'LiveStore':
        found.append('a block of the write-back')
    inner = getattr(store, '_store', store)
    c = inner.local.c
    found += ['a depth'] * bool(c.depth) + ['a transaction'] * c.raw.in_transaction + ['an error'] * bool(c.lost)
    for lock in (getattr(store, 'lock', None), getattr(inner, 'lock', None)):
        if lock is not None and not free(lock):
            found.append('a lock')
    return found


def free(lock):
    """Tell whether another thread can have the lock."""
    answer = []

    def take():
        if lock.acquire(timeout=0.2):
            lock.release()
            answer.append(True)
    thread = threading.Thread(target=take)
    thread.start()
    thread.join()
    return bool(answer)


def open_for(path, name, safe, **options):
    return Vault(pathlib.Path(path), thread_safe=safe, writeback=name in LIVE_ACTS, **options)


def outcomes(path, name, safe):
    """Return the two states that an interrupted act may leave: as before it, and as after it."""
    with contextlib.closing(open_for(path, name, safe)) as vault:
        fill(vault)
        before = state(vault)
        ACTS[name](vault)
        return before, state(vault)


def judge(vault, other, allowed, what):
    """Tell what is wrong after an interrupt: of all or nothing, and of the next writes of this and another vault."""
    problems = leftovers(vault)
    live = hasattr(vault._store, 'flush')
    if not problems:
        vault._store.flush() if live else None
        found = state(other)
        if found not in allowed or state(vault) != found:
            problems.append(f'in part: {str(found)[:300]}')
        vault['after'] = what
        vault._store.flush() if live else None
        if other.pop('after', None) != what:
            problems.append('a later write that nobody else sees')
    return problems


@child
def interrupted(path, name, safe, first, stride):
    """Interrupt an act at every `stride`-th point, from `first` on."""
    safe = safe == 'True'
    allowed = outcomes(path, name, safe)
    vault, other = open_for(path, name, safe), Vault(pathlib.Path(path), timeout=0.3)
    for at in itertools.count(int(first) + 1, int(stride)):
        fill(vault)
        if name in LIVE_ACTS:
            vault._store.flush()
        interrupt = Interrupt(at)
        again = interrupt.run(lambda vault=vault: ACTS[name](vault))
        problems = judge(vault, other, allowed, at)
        accepted = interrupt.where and interrupt.where[0] in UNGUARDED and interrupt.where[2]
        tell([interrupt.where, problems, bool(accepted)])
        if problems:
            vault.close() if not safe and name in PLAIN_ACTS else abandon(vault)
            vault = open_for(path, name, safe)
        if not again:
            break


def abandon(vault):
    """Close a vault whose lock an interrupt at an accepted point has left taken: by this thread."""
    with contextlib.suppress(VaultError):
        vault.close()


def interrupts(round):
    """Ctrl-C at every point where Python looks at signals, in every act: all or nothing, and nothing left open."""
    stride = 8
    names = [(name, safe) for name in ACTS for safe in (False, True)]
    for name, safe in round.some(names, 3):
        told = ask('interrupted', round.fresh(), name, safe, round.number // 16 % stride, stride)
        judged(round, told, f'{name}, thread_safe={safe}', 'points')


class Alarm:
    """Raises KeyboardInterrupt from a real signal, at a random moment of what runs in `with`."""

    def __init__(self):
        self.armed = False
        signal.signal(signal.SIGALRM, self.ring)

    def ring(self, *_):
        if self.armed:
            self.armed = False
            raise KeyboardInterrupt

    def run(self, act, delay):
        """Do the act; return where it was interrupted, None for not at all."""
        try:
            self.armed = True
            signal.setitimer(signal.ITIMER_REAL, delay)
            act()
            self.armed = False
        except KeyboardInterrupt as error:
            self.armed, trace, found = False, error.__traceback__, None
            while trace:
                code, line = trace.tb_frame.f_code, trace.tb_lineno
                if code.co_filename.startswith(PACKAGE):
                    found = code.co_name, line, code.co_name.startswith('__') or line <= code.co_firstlineno + 3
                trace = trace.tb_next
            return found or ('outside', 0, False)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        return None


@child
def rung(path, name, safe, count, seed):
    """Interrupt an act by signals at random moments."""
    rng, safe = random.Random(seed), safe == 'True'
    allowed = outcomes(path, name, safe)
    vault, other, alarm = open_for(path, name, safe), Vault(pathlib.Path(path), timeout=0.3), Alarm()
    fill(vault)
    began = time.perf_counter()
    ACTS[name](vault)
    took = time.perf_counter() - began
    for number in range(int(count)):
        fill(vault)
        if name in LIVE_ACTS:
            vault._store.flush()
        gc.collect()
        gc.disable()
        where = alarm.run(lambda vault=vault: ACTS[name](vault), max(1e-6, rng.uniform(0, took)))
        gc.enable()
        problems = judge(vault, other, allowed, number)
        tell([where, problems, bool(where and where[0] in UNGUARDED and where[2])])
        if problems:
            abandon(vault)
            vault = open_for(path, name, safe)


def signals(round):
    """The same by real signals, at random moments."""
    names = [(name, safe) for name in ACTS for safe in (False, True)]
    for name, safe in round.some(names, 2):
        told = ask('rung', round.fresh(), name, safe, 60, round.rng.random())
        judged(round, told, f'{name}, thread_safe={safe}', 'signals')


def judged(round, told, what, points):
    """Count the points of an act, and those where nothing can help; elsewhere nothing may be left behind."""
    round.must(told.code == 0, f'{what}: ended with {told.code}: {told.complaints}')
    for where, problems, accepted in told.lines:
        round.seen[points] += where is not None
        if problems and accepted:
            round.seen['left open where nothing can help'] += 1
        else:
            round.must(not problems, f'{what}, at {where}: {problems}')


# --- signal handlers that use the vault ---------------------------------------------------------------------------

@child
def handled(path, safe, live, seconds):
    """Use a vault while a signal handler uses it as well, in the midst of whatever is going on."""
    vault = Vault(pathlib.Path(path), thread_safe=safe == 'True', writeback=live == 'True')
    vault.update({number: [number] for number in range(100)})
    told, wrong, end, busy = {}, collections.Counter(), time.monotonic() + float(seconds), []

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
            told[number] = number
        except VaultError:
            refused.append(number)  # SQLite begins no savepoint in the midst of a statement
        finally:
            busy.clear()
    refused = []
    signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    steps = 0
    while time.monotonic() < end:
        steps += 1
        use(vault, steps, wrong)
    signal.setitimer(signal.ITIMER_REAL, 0)
    vault.close()
    tell([sorted(told), steps, +wrong, len(refused)])


def use(vault, step, wrong):
    number = step % 100
    wrong['get'] += vault.get(number) != [number]
    wrong['in'] += number not in vault
    wrong['len'] += len(vault) < 100
    wrong['walk'] += step % 10 == 0 and len([key for key in vault if isinstance(key, int)]) != 100
    wrong['items'] += step % 10 == 0 and len([key for key, _ in vault[0:100].items()]) != 100
    vault['put', number] = step
    wrong['get of what was put'] += vault['put', number] != step
    wrong['pop'] += vault.pop(('put', number)) != step
    with vault:
        vault['block'] = step
        vault['block again'] = step
    wrong['block'] += vault['block'] != step
    vault.update({'many': step, 'more': step})
    wrong['update'] += vault['more'] != step
    vault.list('list').append(step)
    wrong['list'] += vault.list('list').pop() != step
    vault['deleted'] = step
    del vault['deleted']


def handlers(round):
    """A signal handler uses the vault, in blocks and outside, in the midst of anything that uses it."""
    for safe, live in round.some([(False, False), (True, False), (False, True)], 1):
        path = round.fresh()
        told = ask('handled', path, safe, live, 0.7)
        what = f"thread_safe={safe}, writeback={live}"
        round.must(told.code == 0 and not told.complaints, f'{what}: {told.code}: {told.complaints}')
        for numbers, steps, wrong, refusals in told.lines:
            round.must(not wrong, f'{what}: wrong answers {wrong} in {steps} steps')
            found = round.keeps(path, {}, what)
            lost = [number for number in numbers if found.get(('handled', number)) != number]
            round.acknowledged += len(numbers)
            round.lost += len(lost)
            round.must(not lost, f'{what}: {len(lost)} of {len(numbers)} writes of handlers lost')
            round.seen['signals handled'] += len(numbers)
            round.seen['refused within a statement'] += refusals


# --- one vault in several hands -----------------------------------------------------------------------------------

def shared(round):
    """Two vaults on one file and threads that write, roll back, walk and close, at random, in one process."""
    path, rng = round.fresh(), round.rng
    safe = rng.random() < 0.5
    first, second = (Vault(path, thread_safe=safe, timeout=20) for _ in range(2))
    told, problems = {}, []

    def work(name, seed):
        rng, vault = random.Random(seed), rng_of([first, second], seed)
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
                with contextlib.suppress(VaultError):
                    if (name, number) in dict(walk):  # what is still there may come, up to the end of its page
                        problems.append('a walk shows what was undone')
            except BaseException as error:
                problems.append(repr(error))
    run_all([lambda name=name: work(name, f'{round.number} {name}') for name in 'abcd'])
    round.must(not problems, f'thread_safe={safe}: {problems[:3]}')
    closed_by_another(round, first)
    second.close()
    found = round.keeps(path, told, 'shared')
    round.must(set(found) == set(told), f'{len(set(found) - set(told))} entries of blocks that were undone')


def rng_of(choices, seed):
    return choices[len(seed) % len(choices)] if seed[-1] in 'ab' else choices[-1]


def closed_by_another(round, vault):
    """Close a vault from another thread inside a block and a walk: the block is undone, the others can write."""
    walk = iter(vault)
    next(walk)
    try:
        with vault:
            vault['undone'] = 1
            run_all([vault.close])
            vault['after'] = 1
        round.must(False, 'a block of a closed vault ended without an error')
    except vaults.VaultClosedError:
        round.seen['closed inside a block'] += 1
    try:
        list(walk)
    except VaultError:
        round.seen['closed inside a walk'] += 1
    with contextlib.closing(Vault(pathlib.Path(vault.db_path), timeout=1)) as again:
        round.must('undone' not in again and 'after' not in again, 'what was in the block of a closed vault is there')
        again['next'] = 1
        del again['next']


def run_all(functions):
    threads = [threading.Thread(target=function) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@child
def dying(path, safe):
    """Let threads end inside an open block, and a thousand threads open a connection each."""
    vault = Vault(pathlib.Path(path), thread_safe=safe == 'True', timeout=1)
    vault['a'] = 1

    def die():
        vault.__enter__()
        vault['never'] = 1
    if safe == 'False':
        for number in range(5):
            run_all([die])
            vault[f'after {number}'] = number
            tell([f'after {number}', number])
    before = len(os.listdir('/proc/self/fd')) if os.path.isdir('/proc/self/fd') else 0
    for group in range(20):
        run_all([lambda number=number: vault.__setitem__(f'thread {number}', number) or tell([f'thread {number}', number])
                 for number in range(group * 50, group * 50 + 50)])
    gc.collect()
    after = len(os.listdir('/proc/self/fd')) if before else 0
    if after > before + 110:  # SQLite keeps a handle or two for each that were open at once, and takes them again
        tell(['leak', after - before])


def threads(round):
    """Threads that end inside an open block; a thousand threads, each with a connection of its own."""
    for safe in round.some((False, True), 1):
        path = round.fresh()
        told = ask('dying', path, safe)
        round.must(told.code == 0 and not told.complaints, f'{told.code}: {told.complaints}')
        kept = dict(told.lines)
        round.must('leak' not in kept, f'thread_safe={safe}: {kept.pop("leak", 0)} more files open than before')
        found = round.keeps(path, kept, f'thread_safe={safe}')
        round.must('never' not in found, 'the block of a thread that ended was committed')
        round.seen['threads'] += 1000


# --- tasks --------------------------------------------------------------------------------------------------------

KINDS_FOR_TASKS = {'plain': {}, 'queued': {'thread_safe': True}, 'live': {'writeback': True}}


class Crowd:
    """Tasks of one event loop that use a vault at random, and a dict of what they were told is done."""

    def __init__(self, vault, seed):
        self.vault, self.rng = vault, random.Random(seed)
        self.kept, self.count, self.refused, self.wrong = {}, 0, 0, []

    def act(self, act, *keys):
        """Do something that puts these keys; when it is refused, nothing of it may be there."""
        try:
            act()
        except vaults.VaultTaskError:
            self.refused += 1
        except ZeroDivisionError:
            pass
        else:
            self.kept.update(dict.fromkeys(keys, 1))

    async def block(self, key, pause, fails):
        try:
            with self.vault.transaction():
                self.vault[key] = 1
                seen = self.vault.get('n', 0)
                for _ in range(pause):
                    await asyncio.sleep(0)
                self.vault['n'] = seen + 1
                self.vault[key, 'too'] = 1 // (not fails)
        except vaults.VaultTaskError:
            self.refused += 1
        except ZeroDivisionError:
            pass
        else:
            self.count += 1
            self.kept.update({key: 1, (key, 'too'): 1})

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
            elif way == 3:
                self.act(lambda key=key: self.vault.put(key, 1), key)
            elif way == 4:
                self.act(lambda key=key: self.vault.update({key: 1, (key, 'too'): 1}), key, (key, 'too'))
            elif way == 5:
                self.act(lambda key=key: self.crossing(key))
            else:
                self.act(lambda: (len(self.vault), list(self.vault)))
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
    for kind in KINDS_FOR_TASKS:
        path = round.fresh()
        vault = Vault(path, **KINDS_FOR_TASKS[kind])
        crowd = Crowd(vault, f'{kind} {round.rng.random()}')
        asyncio.run(crowd.run())
        vault.close()
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
REFUSED = ['', '.', '..', 'a/b', '/a', 'a\0b', '../a', 'a\\b', '\ud800', 'a.db', 'nul.DB']


def paths(round):
    """Names and paths of every kind are that file, or a clear error; and nothing else appears."""
    folder = pathlib.Path(tempfile.mkdtemp(dir=round.folder))
    vaults.set_root_path(folder)
    try:
        for name in NAMES:
            named(round, folder, name)
        for name in REFUSED:
            if name != '.':
                refused(round, name)
    finally:
        vaults.set_root_path(None)
    for name in NAMES:
        exact(round, name)
    for make in (linked, folder_linked, hard_linked, relative, deep):
        make(round)
    told = ask('special', round.fresh())
    round.must(told.code == 0 and not told.complaints, f'files that are none: {told.code}: {told.complaints}')
    for what in told.lines:
        round.must(what[1] != 'opened', f'{what} was opened as a vault')
        round.seen['paths'] += 1


def named(round, folder, name):
    try:
        with contextlib.closing(Vault(name)) as vault:
            vault['k'] = name.encode('utf-8', 'surrogatepass')
            there = set(os.listdir(folder / 'vaults'))
            vault['thread'] = 1
            run_all([lambda: vault.put('other thread', 2)])
    except VaultError as error:
        round.must(len(os.fsencode(name)) > 244 and 'bytes' in str(error), f'the name {name!r}: {error!r}')
        return
    round.must(f'{name}.db' in there, f'the name {name!r} became {there}')
    found = round.keeps(folder / 'vaults' / f'{name}.db',
                        {'k': name.encode('utf-8', 'surrogatepass'), 'thread': 1, 'other thread': 2}, f'the name {name!r}')
    round.must(len(found) == 3, f'the name {name!r} shares a file')
    round.seen['names'] += 1


def refused(round, name):
    try:
        Vault(name).close()
        round.must(False, f'the name {name!r} was not refused')
    except VaultError:
        round.seen['names refused'] += 1


def exact(round, name):
    """Open an exact file; the longest names leave no room for those of the log."""
    folder = pathlib.Path(tempfile.mkdtemp(dir=round.folder))
    path = folder / name
    try:
        with contextlib.closing(Vault(path)) as vault:
            vault['k'] = 1
            there = os.listdir(folder)
    except VaultError as error:
        round.must(len(os.fsencode(name)) > 244 and str(folder) in str(error), f'the path {name!r}: {error!r}')
        round.must(len(os.fsencode(name)) > 255 - len('-journal'), f'a path of {len(os.fsencode(name))} bytes is refused')
        round.seen['paths refused'] += 1
        return
    round.must(name in there, f'the path {name!r} became {there}')
    round.keeps(path, {'k': 1}, f'the path {name!r}')
    round.must(os.listdir(folder) == [name], f'the path {name!r} left {os.listdir(folder)}')
    round.seen['paths'] += 1


def both_ways(round, one, other, what):
    """Open a file by two paths at once, also from another process and with others opening it: nothing is lost."""
    told = ask('beside_openers', one, 'guarded', f'{what} {round.number}')
    round.must(told.code == -signal.SIGKILL or not guard.AVAILABLE, f'{what}: ended with {told.code}: {told.complaints}')
    with contextlib.closing(Vault(other)) as first, contextlib.closing(Vault(one)) as second:
        first['first'], second['second'] = 'first', 'second'
        round.must(first['second'] == 'second', f'{what}: two paths, two vaults')
        answer = ask('visit', other, 'visitor', 1)
        round.must(answer.code == 0, f'{what}: {answer.complaints}')
        second['third'] = 'third'
    if guard.AVAILABLE:
        round.keeps(other, {'first': 'first', 'second': 'second', 'third': 'third', **{key: key for key in told.lines}}, what)
    round.seen[what] += 1


def linked(round):
    path = round.fresh()
    Vault(path).close()
    link = path.parent / 'link.db'
    link.symlink_to(path.name)
    both_ways(round, link, path, 'a link to the file')


def folder_linked(round):
    path = round.fresh()
    link = path.parent.parent / f'{path.parent.name}-link'
    link.symlink_to(path.parent)
    both_ways(round, link / path.name, path, 'a link to the folder')


def hard_linked(round):
    """Use two names of one file, one after the other: at once they are two logs, which SQLite does not support."""
    path = round.fresh()
    with contextlib.closing(Vault(path)) as vault:
        vault['a'] = 1
    other = path.parent / 'other.db'
    os.link(path, other)
    with contextlib.closing(Vault(other)) as vault:
        vault['b'] = 2
    round.keeps(path, {'a': 1, 'b': 2}, 'a hard link')


def relative(round):
    """Change the folder after opening a relative path: connections made later are to the same file."""
    before, path = os.getcwd(), round.fresh()
    try:
        os.chdir(path.parent)
        vault = Vault(pathlib.Path(path.name))
        os.chdir('/')
        run_all([lambda: vault.put('thread', 1)])
        vault.close()
    finally:
        os.chdir(before)
    round.keeps(path, {'thread': 1}, 'a relative path')


def deep(round):
    """Open paths longer and longer: each is a vault, or an error of ours."""
    folder = pathlib.Path(tempfile.mkdtemp(dir=round.folder))
    for _ in range(6):
        folder = folder / ('d' * 120)
        folder.mkdir()
        try:
            with contextlib.closing(Vault(folder / 'a.db')) as vault:
                vault['k'] = 1
            round.keeps(folder / 'a.db', {'k': 1}, f'a path of {len(str(folder))} characters')
        except VaultError as error:
            round.must(len(str(folder)) > 500 and 'cannot be opened' in str(error), f'{len(str(folder))}: {error!r}')
            round.seen['long paths refused'] += 1


@child
def special(path):
    """Open what is no regular file: each is refused."""
    folder = os.path.dirname(path)
    fifo, plug, loop, dangling = (os.path.join(folder, name) for name in ('fifo', 'socket', 'loop', 'dangling'))
    os.mkfifo(fifo)
    listener = socket.socket(socket.AF_UNIX)
    os.chdir(folder)  # the path of a socket is short
    listener.bind('socket')
    os.symlink('loop', loop)
    os.symlink(os.path.join(folder, 'missing', 'file.db'), dangling)
    for one in (fifo, plug, loop, dangling, folder, os.path.join(folder, 'fifo', 'a.db')):
        for flag in 'crwn':
            try:
                Vault(pathlib.Path(one), flag=flag, timeout=0.2).close()
                tell([os.path.basename(one), 'opened', flag])
            except VaultError as error:
                tell([os.path.basename(one), type(error).__name__, str(error)])


# --- the clock ----------------------------------------------------------------------------------------------------

YEAR = 365.25 * 86400


def clock(round):
    """The clock jumps by years, back and forth, before 1970 and beyond what 4 bytes hold."""
    path, real, rng = round.fresh(), time.time, round.rng
    vault = Vault(path, timeout=0.3)
    model, began = {'list': [], 'column': [], 'stream': b''}, time.monotonic()
    try:
        for number in range(12):
            jump = rng.choice((-80, -56, -1, 0, 1, 12, 80, 1000)) * YEAR
            time.time = lambda jump=jump: real() + jump
            vault[number] = model[number] = number
            vault.list('list').extend(range(50))
            vault.column('column', 'int64').append(number)
            model['list'] += list(range(50))
            model['column'].append(number)
            with vault.open('stream', 'ab') as file:
                file.write(b'x' * 300_000)
            model['stream'] += b'x' * 300_000
            other = vault.open('other', 'wb')
            other.write(b'y' * 3_000_000)
            time.time = lambda: real() + rng.choice((-3, 3)) * YEAR
            vault.compact()
            with contextlib.suppress(VaultError):  # for the clock it took years: nothing of it is written then
                other.close()
                model['other'] = b'y' * 3_000_000
            round.must(state(vault) == model, f'after a jump of {jump / YEAR:.0f} years it is not what was written')
    finally:
        time.time = real
    vault.close()
    with contextlib.closing(Vault(path)) as vault:
        vault._check()
        round.must(state(vault) == model, 'after the jumps it is not what was written')
    round.acknowledged += len(model)
    round.must(time.monotonic() - began < PATIENCE, 'a timeout followed the clock')


# --- the recursion limit ------------------------------------------------------------------------------------------

def nest(depth, kind):
    value = kind()
    for _ in range(depth):
        value = {'k': value} if kind is dict else kind([value])
    return value


@child
def shallow(path, name, safe):
    """Do an act with less and less stack left, and store what is nested deeper and deeper."""
    safe = safe == 'True'
    allowed = outcomes(path, name, safe)
    vault, other = open_for(path, name, safe), Vault(pathlib.Path(path), timeout=0.3)
    limit, depth = sys.getrecursionlimit(), len(list(iter_frames()))
    for more in range(4, 60):
        fill(vault)
        if name in LIVE_ACTS:
            vault._store.flush()
        said = None
        try:
            sys.setrecursionlimit(depth + more)
            ACTS[name](vault)
        except (RecursionError, VaultError) as error:
            said = type(error).__name__
        finally:
            sys.setrecursionlimit(limit)
        problems = judge(vault, other, allowed, more)
        tell([more, said, problems])
        if problems:
            abandon(vault)
            vault = open_for(path, name, safe)


def iter_frames():
    frame = sys._getframe(1)
    while frame:
        yield frame
        frame = frame.f_back


@child
def nesting(path):
    vault = Vault(pathlib.Path(path))
    for depth in (10, 500, 1_100, 5_000, 100_000):
        for kind in (list, tuple, dict):
            try:
                vault['value'] = value = nest(depth, kind)
                same = vault['value']
                for _ in range(depth):
                    value, same = (value['k'], same['k']) if kind is dict else (value[0], same[0])
                tell([depth, kind.__name__, type(same) is type(value)])
            except (RecursionError, VaultError) as error:
                tell([depth, kind.__name__, type(error).__name__])
        try:
            key = nest(depth, tuple)
            vault[key] = depth
            tell([depth, 'key', vault.pop(key) == depth])
        except (RecursionError, ValueError) as error:
            tell([depth, 'key', type(error).__name__])
        vault['after', depth] = depth
        assert Vault(pathlib.Path(path))['after', depth] == depth


def recursion(round):
    """Little stack is left, or values and keys are nested without end: all or nothing, and the vault goes on."""
    names = [(name, safe) for name in ACTS for safe in (False, True)]
    for name, safe in round.some(names, 2):
        told = ask('shallow', round.fresh(), name, safe)
        round.must(told.code == 0 and not told.complaints, f'{name}: {told.code}: {told.complaints}')
        for more, said, problems in told.lines:
            round.must(not problems, f'{name}, thread_safe={safe}, with {more} frames left, {said}: {problems}')
            round.seen['errors for want of stack'] += said is not None
    told = ask('nesting', round.fresh())
    round.must(told.code == 0 and not told.complaints, f'nesting: {told.code}: {told.complaints}')
    for depth, kind, outcome in told.lines:
        round.must(outcome is not False, f'{kind} nested {depth} deep came back as something else')


# --- the interpreter ends -----------------------------------------------------------------------------------------

OPEN = """
    import atexit, gc, os, sys, threading, time, pathlib, weakref
    from vaults import Vault, VaultError
    path = pathlib.Path(sys.argv[1])
    def put(vault, key, value=1):
        vault[key] = value
        os.write(1, b'"%s"\\n' % key.encode())
"""
SHUTDOWNS = {  # what a program does in the end, its exit code, and what it is to complain of
    'open': ("v = Vault(path); put(v, 'a')", 0, ''),
    'a cycle': ("""
        class Node: pass
        node = Node(); node.me = node; node.vault = Vault(path); put(node.vault, 'a'); node = None""", 0, ''),
    'atexit before': ("""
        atexit.register(lambda: put(v, 'late'))
        v = Vault(path); put(v, 'a')""", 0, ''),
    'atexit after': ("v = Vault(path); put(v, 'a'); atexit.register(lambda: put(v, 'late'))", 0, ''),
    'atexit opens': ("atexit.register(lambda: put(Vault(path), 'late'))", 0, ''),
    'atexit closes': ("v = Vault(path); put(v, 'a'); atexit.register(v.close); atexit.register(v.close)", 0, ''),
    '__del__ at the end': ("""
        class Holder:
            def __del__(self):
                try: put(self.vault, 'late')
                except BaseException: pass
        holder = Holder(); holder.vault = Vault(path); put(holder.vault, 'a')
        sys.modules['kept'] = holder""", 0, ''),
    '__del__ in a cycle': ("""
        class Holder:
            def __del__(self):
                try: put(self.vault, 'late')
                except VaultError: pass  # the collector takes both at once, the vault may be the first
        holder = Holder(); holder.vault = Vault(path); holder.me = holder; put(holder.vault, 'a'); holder = None""", 0, ''),
    'a daemon thread': ("""
        v = Vault(path)
        def work():
            for n in range(10**9): put(v, 'n%d' % n)
        threading.Thread(target=work, daemon=True).start(); time.sleep(0.05)""", 0, ''),
    'daemon threads in blocks': ("""
        v = Vault(path, thread_safe=True)
        def work(name):
            for n in range(10**9):
                with v: v[name, n] = n
        for name in 'abc': threading.Thread(target=work, args=name, daemon=True).start()
        put(v, 'a'); time.sleep(0.05)""", 0, ''),
    'a thread that goes on': ("""
        v = Vault(path)
        def work():
            for n in range(50): put(v, 'n%d' % n); time.sleep(0.001)
        threading.Thread(target=work).start()""", 0, ''),
    'inside a block': ("v = Vault(path); put(v, 'a'); v.__enter__(); v['never'] = 1", 0, ''),
    'sys.exit in a block': ("""
        v = Vault(path); put(v, 'a')
        with v:
            v['never'] = 1
            sys.exit(3)""", 3, ''),
    'os._exit': ("v = Vault(path); put(v, 'a'); v.__enter__(); v['never'] = 1; os._exit(4)", 4, ''),
    'os.abort in a block': ("v = Vault(path); put(v, 'a'); v.__enter__(); v['never'] = 1; os.kill(os.getpid(), 9)", -9, ''),
    'an exception': ("v = Vault(path); put(v, 'a'); 1 / 0", 1, 'ZeroDivisionError: division by zero'),
    'an exception in a block': ("""
        v = Vault(path); put(v, 'a')
        with v:
            v['never'] = 1
            1 / 0""", 1, 'ZeroDivisionError: division by zero'),
    'write-back': ("v = Vault(path, writeback=True); v['a'] = []; v['a'].append(1); os.write(1, b'[\"a\", [1]]\\n')", 0, ''),
    'write-back in a cycle': ("""
        class Node: pass
        node = Node(); node.me = node; node.vault = Vault(path, writeback=True); node.vault['a'] = [1]
        node = None; os.write(1, b'[\"a\", [1]]\\n')""", 0, ''),
    'write-back and a daemon thread': ("""
        v = Vault(path, writeback=True)
        def work():
            for n in range(10**9): v[n % 50] = [n]
        threading.Thread(target=work, daemon=True).start(); time.sleep(0.05)""", 0, None),
    'an open stream': ("v = Vault(path); put(v, 'a'); f = v.open('never', 'wb'); f.write(b'x' * 3_000_000)", 0, None),
    'an open text stream': ("v = Vault(path); put(v, 'a'); f = v.open('never', 'w'); f.write('x' * 100)", 0, None),
    'a stream that is read': ("""
        v = Vault(path); put(v, 'a')
        with v.open('s', 'wb') as f: f.write(b'x' * 600_000)
        f = v.open('s'); f.read(10)""", 0, ''),
    'a walk': ("v = Vault(path); v.update(dict.fromkeys(map(str, range(999)), 1)); put(v, 'a'); i = iter(v.items()); next(i)", 0, ''),
    'views and lists': ("v = Vault(path); put(v, 'a'); k = v.keys(); l = v.list('l'); l.append(1); s = v['a':]; t = v.section('t')", 0, ''),
    'many vaults': ("many = [Vault(path) for _ in range(20)]; [put(v, 'v%d' % n) for n, v in enumerate(many)]", 0, ''),
    'a weakref callback': ("""
        w = Vault(path)
        class Thing: pass
        thing = Thing(); put(w, 'a'); ref = weakref.ref(thing, lambda _: put(w, 'late'))
        atexit.register(lambda: globals().pop('thing'))""", 0, ''),
    'two that close each other': ("""
        v, w = Vault(path), Vault(path); put(v, 'a'); put(w, 'b')
        atexit.register(v.close); weakref.finalize(v, w.close)""", 0, ''),
    'modules taken away': ("v = Vault(path); put(v, 'a'); [sys.modules.pop(n) for n in list(sys.modules) if 'vaults' in n]", 0, ''),
}


def shutdown(round):
    """The interpreter ends with vaults open in every way: no crash, no noise, no acknowledged write lost."""
    for name in round.some(SHUTDOWNS, 7):
        program, code, complaint = SHUTDOWNS[name]
        path = round.fresh()
        told = heard([sys.executable, '-c', textwrap.dedent(OPEN) + textwrap.dedent(program), str(path)],
                     cwd=str(round.folder))
        round.must(told.code == code, f'{name}: ended with {told.code}, not {code}: {told.complaints}')
        if complaint is not None:
            heard_only = told.complaints.strip().endswith(complaint) and told.complaints.count('Traceback') == bool(complaint)
            round.must(heard_only and (complaint or not told.complaints), f'{name}: complained {told.complaints}')
        kept = dict(line if isinstance(line, list) else (line, 1) for line in told.lines)
        found = round.keeps(path, kept, name)
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
            TRAPS[name](round)
        total, acknowledged, lost = total + round.seen, acknowledged + round.acknowledged, lost + round.lost
        for what in round.broken:
            trial.broke(what)
    counted = ''.join(f', {number} {what}' for what, number in total.items())
    print(f'{name}: {options.rounds} rounds, {acknowledged} acknowledged, {lost} lost{counted}; '
          f'{time.monotonic() - began:.1f} s', flush=True)
    return acknowledged, lost


def main():
    from shared.verdict import Trial  # here: the processes of the traps do without
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
    if sys.argv[1:2] == ['--child']:
        CHILDREN[sys.argv[2]](*sys.argv[3:])
    else:
        main()
