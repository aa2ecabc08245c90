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
import gc
import itertools
import os
import pathlib
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from contextlib import closing, suppress
from unittest import mock

from shared.model import OPERATIONS, Draw, Failed, Model, Operation, attempt, block, do, entries
from shared.processes import as_role, play_role, role, run, tell
from shared.verdict import Trial

import vaults
from vaults import Vault, VaultError
from vaults.stores.sqlite import checkpoint, connection, guard

PACKAGE = os.path.dirname(vaults.__file__)
PUTS = checkpoint.TICK // connection.ALONE + 1  # after so many at most, a put notices that the file is another


class Round:
    """One round of one trap: its chance and its folder, and what it counts."""

    def __init__(self, trial, name, number, folder):
        self.trial, self.name, self.number, self.folder = trial, name, number, folder
        self.rng = random.Random(f'{trial.options.seed} {name} {number}')
        self.seen = collections.Counter(acknowledged=0, lost=0)

    def must(self, holds, what):
        if not holds:
            self.trial.broke(f'{self.name}, round {self.number}: {what}')

    def some(self, cases, count):
        """Return the cases that are this round's, in turn: a few rounds see them all."""
        cases = list(cases)
        return [cases[place % len(cases)] for place in range(self.number * count, (self.number + 1) * count)]

    def fresh(self, name='trap.db'):
        """Return a path in a new folder."""
        return pathlib.Path(tempfile.mkdtemp(dir=self.folder), name)

    def ask(self, what, function, *arguments, code=0):
        """Play a role in a process of its own, which must end with that code and complain of nothing; return what it told."""
        ended = run(as_role(function, *arguments))
        self.must(ended.code == code and not ended.complaints, f'{what}: ended with {ended.code}: {ended.complaints[-1500:]}')
        return ended.lines

    def keeps(self, path, acknowledged, what):
        """Open the vault: it is sound, and holds every entry that was acknowledged. Return all that it holds."""
        try:
            with closing(Vault(path, to_create=False)) as vault:
                vault._check()
                found = dict(entries(vault))
        except (AssertionError, VaultError) as error:
            self.must(False, f'{what}: {error!r}')
            found = {}
        lost = [key for key, value in acknowledged.items() if found.get(key) != value]
        self.seen.update(acknowledged=len(acknowledged), lost=len(lost))
        self.must(not lost, f'{what}: {len(lost)} of {len(acknowledged)} acknowledged writes lost, {lost[:5]}')
        return found


def in_thread(function):
    """Do it in another thread."""
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()


@role
def visit(path, key, number):
    """Open the vault, put an entry, and close it: the last one to close deletes the log."""
    with closing(Vault(pathlib.Path(path), timeout=30)) as vault:
        vault[key] = int(number)
    tell([key, int(number)])


# --- another opener in the same process ---------------------------------------------------------------------------

def inspect(path, parameters):
    """Look at the file with SQLite; at its log and shared memory it only fails, having opened and closed them."""
    with suppress(sqlite3.DatabaseError), closing(sqlite3.connect(f'file:{path}?{parameters}', uri=True)) as raw:
        raw.execute('SELECT count(*) FROM sqlite_master').fetchone()


OPENERS = {
    'open': lambda path: open(path, 'rb').close(),
    'open to write': lambda path: open(path, 'r+b').close(),
    'os.open, in a thread': lambda path: in_thread(lambda: os.close(os.open(path, os.O_RDWR))),
    'os.dup': lambda path: [os.close(handle) for handle in map(os.dup, [os.open(path, os.O_RDONLY)] * 2)],
    'a copy': lambda path: shutil.copy(path, f'{path}.copy'),
    'sqlite3': lambda path: inspect(path, 'mode=rw'),
    'sqlite3 immutable': lambda path: inspect(path, 'immutable=1&mode=ro'),
    'another vault': lambda path: Vault(pathlib.Path(path.replace('-wal', '').replace('-shm', ''))).close(),
}


@role
def beside_openers(path, guarded, *names):
    """Write beside somebody who opens and closes the three files, and processes that open and close the vault."""
    guard.AVAILABLE = guard.AVAILABLE and guarded == 'guarded'
    vault, numbers, file = Vault(pathlib.Path(path)), itertools.count(), os.path.realpath(path)

    def put(times):
        for number in itertools.islice(numbers, times):
            vault[number] = number
            tell([number, number])
    put(1)
    for name in names:
        for beside in (file, f'{file}-wal', f'{file}-shm'):
            if os.path.exists(beside):  # the log may be gone where nothing guards it
                OPENERS[name](beside)
        with subprocess.Popen(as_role(visit, file, name, 0)):
            put(5)
        put(5)
    os.kill(os.getpid(), signal.SIGKILL)  # closing could still save what a crash would lose


def opener(round):
    """Others in the process open and close the files, which drops POSIX locks; other processes come and go."""
    path, bare, to_file, to_folder = round.fresh(), round.fresh(), round.fresh(), round.fresh()
    to_file.symlink_to(path)
    to_folder.symlink_to(path.parent)
    if guard.AVAILABLE:
        given = (path, to_file, to_folder / path.name)[round.number % 3]
        lines = round.ask('the writer', beside_openers, given, 'guarded', *round.rng.sample(sorted(OPENERS), 6), code=-signal.SIGKILL)
        round.keeps(path, dict(lines), 'guarded')
    lines = run(as_role(beside_openers, bare, 'bare', *['open'] * 3)).lines
    with closing(Vault(bare)) as vault:
        lost = len({key for key, _ in lines} - set(vault))
    round.seen['lost with the guard switched off'] += lost
    round.must(lost or not guard.AVAILABLE, 'the trap did not spring: nothing was lost without the guard')


# --- the file goes, changes, or moves while it is open --------------------------------------------------------------

GONE = {  # what happens to the file, so that the path leads to another one, or none
    'emptied': lambda path: os.truncate(path, 0),
    'deleted': os.unlink,
    'replaced': lambda path: os.replace(f'{path}.spare', path),
    'folder moved': lambda path: os.rename(os.path.dirname(path), f'{os.path.dirname(path)}-moved'),
}
CUT = {
    'halved': lambda path: os.truncate(path, 60_000),
    'log deleted': lambda path: os.unlink(f'{path}-wal'),
    'log halved': lambda path: os.truncate(f'{path}-wal', 60_000),
    'shared memory deleted': lambda path: os.unlink(f'{path}-shm'),
    'shared memory emptied': lambda path: os.truncate(f'{path}-shm', 0),
}
WAYS = {  # to write a number
    'put': lambda number: ('put', number, number),
    'block': lambda number: ('block', [('put', number, number)], False),
    'update': lambda number: ('update', [(number, number)]),
    'append': lambda number: ('list', 'list', 'append', (0, 0), number, 1),
}
KEPT = {f'kept {number}': 'x' * 200 for number in range(400)}  # before the trap


@role
def beside_the_act(path, act, way):
    """Have the file taken away underneath; then go on writing, or reading, until an error says so."""
    with closing(Vault(pathlib.Path(f'{path}.spare'))) as spare:
        spare['spare'] = 1
    vault, keys = Vault(pathlib.Path(path)), list(KEPT)
    vault.update((key, KEPT[key]) for key in keys[PUTS // 2:])
    vault.compact()                  # into the file
    for key in keys[:PUTS // 2]:     # and some into the log
        vault[key] = KEPT[key]
    {**GONE, **CUT}[act](path)
    try:
        for number in range(1000):
            if way == 'read':
                assert vault[f'kept {number * 7 % len(KEPT)}'] == 'x' * 200, 'a wrong value'
                assert set(dict(vault.items()).values()) == {'x' * 200}, 'a wrong value'
            else:
                do(vault, WAYS[way](number))
                tell([number, number])
    except VaultError as error:
        tell([type(error).__name__, str(error)])
    with suppress(VaultError):
        vault.close()


def has_no_wrong_value(round, path, what):
    """Open what lost data: it may be damaged, and say so."""
    with suppress(VaultError), closing(Vault(path)) as vault:
        round.must(all(KEPT.get(key, value) == value for key, value in vault.items()), f'{what}: a wrong value')


def gone(round):
    """The file is deleted, replaced, emptied or moved while it is open."""
    for act, way in round.some(itertools.product(GONE, WAYS), 3):
        path, what = round.fresh(), f'{act}, {way}'
        *after, (error, text) = round.ask(what, beside_the_act, path, act, way) or [('nothing', '')]
        round.must(error == 'VaultNotFoundError' and path.name in text, f'{what}: the error was {error} {text}')
        bound = PUTS if way == 'put' else 0
        round.must(len(after) <= bound, f'{what}: {len(after)} writes acknowledged after it, not {bound}')
        if act == 'folder moved':
            round.keeps(pathlib.Path(f'{path.parent}-moved', path.name), KEPT, act)
        elif act == 'emptied':  # to close it has moved the log into it
            has_no_wrong_value(round, path, what)
        else:  # what a user put there, once the log of the other one is removed; or a new vault
            there = {'spare': 1} if act == 'replaced' else {}
            for log in path.parent.glob('*.db-*') if there else ():
                log.unlink()
            Vault(path).close()
            round.must(round.keeps(path, there, act) == there, f'{act}: more than what was put there')


def truncated(round):
    """The file, its log or its shared memory is cut short while it is open: that takes data with it, but never a
    wrong value or an error of another kind; and a crash, where the system has one, takes nothing of its own."""
    for act, way in round.some(itertools.product(CUT, [*WAYS, 'read']), 3):
        path, shared = round.fresh(), act.startswith('shared memory')
        ended = run(as_role(beside_the_act, path, act, way))
        round.must(ended.code == 0 or (shared and ended.code == -signal.SIGBUS), f'{act}, {way}: ended with {ended.code}: {ended.complaints}')
        if shared:
            round.keeps(path, {**KEPT, **({} if way == 'append' else dict(ended.lines))}, act)
        else:
            has_no_wrong_value(round, path, f'{act}, {way}')


# --- forks --------------------------------------------------------------------------------------------------------

PLACES = ('outside', 'block', 'nested', 'walk', 'stream')
ENDS = ('os._exit', 'sys.exit', 'kill', 'exec', 'close', 'inside a block', 'go on')


@contextlib.contextmanager
def placed(vault, where):
    """Be somewhere in the use of a vault."""
    if where in ('block', 'nested'):
        with vault, vault.transaction() if where == 'nested' else contextlib.nullcontext():
            vault['draft'] = 1
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
    else:
        yield


def keep_writing(vault):
    for number in itertools.count():
        with vault if number % 2 else contextlib.nullcontext():
            vault['thread'] = number
        time.sleep(0.001)


@role
def forking(path, seed, count):
    """Fork in every place, with children that end in every way; both tell what was acknowledged."""
    rng = random.Random(seed)
    safe = rng.random() < 0.5
    vault = Vault(pathlib.Path(path), thread_safe=safe, timeout=3)
    vault.update({f'old {number}': number for number in range(100)})
    if safe:  # only there does a fork wait until no other thread is in SQLite, whose mutexes it copies
        threading.Thread(target=keep_writing, args=(vault,), daemon=True).start()
    for number in range(int(count)):
        where, end, pause = rng.choice(PLACES), rng.choice(ENDS), rng.choice((0, 0.002, 0.01))
        with placed(vault, where):
            pid = os.fork()
            if not pid:
                be_the_fork(vault, number, where, end)
            time.sleep(pause)
        if not pid:
            os._exit(0)  # it went on, with the parent's block as well, to its end
        vault[f'parent {number}'] = number
        tell([f'parent {number}', number])
        status = os.waitpid(pid, 0)[1]
        assert status == (signal.SIGKILL if end == 'kill' else 0), f'a fork in {where}, to end by {end}, ended with {status}'


def be_the_fork(vault, number, where, end):
    """See nothing of the parent's open block, write what is acknowledged, and end; 'go on' alone returns."""
    if end == 'exec':
        os.execv(sys.executable, as_role(visit, vault.db_path, f'child {number}', number))
    assert 'draft' not in vault, f"a fork saw what was in its parent's {where}"
    if end == 'close':
        vault.close()
        vault = Vault(pathlib.Path(vault.db_path), timeout=3)
    with vault if number % 2 else contextlib.nullcontext():
        vault[f'child {number}'] = number
    tell([f'child {number}', number])
    if end == 'inside a block':
        vault.__enter__()
        vault['never'] = number
    if end == 'kill':
        os.kill(os.getpid(), signal.SIGKILL)
    if end == 'sys.exit':
        sys.exit(0)
    if end != 'go on' or where == 'stream':  # a stream that is written belongs to who opened it
        os._exit(0)


def forks(round):
    """Forks inside blocks, walks, streams and beside a thread that writes, whose children end in every way there is."""
    path = round.fresh()
    kept = dict(round.ask('forks', forking, path, round.rng.random(), 10))
    found = round.keeps(path, {**kept, **{f'old {number}': number for number in range(100)}}, 'forks')
    round.must('never' not in found, 'an unfinished block of a fork was committed')


# --- what breaks off an act: Ctrl-C, at each point and by real signals ------------------------------------------------

def fill(vault):
    """Put what the acts work on. A list or column is made first, then extended."""
    grown = [('list', 'list', 'extend', (0, 0), 0, 60), ('column', 'column', 'extend', (0, 0), 0, 100)]
    for step in (('clear',), ('update', [('x', [0]), ('doc', [1]), ('last', b'y' * 50)]), *grown * 2,
                 ('stream', 'stream', 'wb', [(0, 5_000)]), ('section', 'update', [1, 2], 1), ('sync',)):
        do(vault, step)


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
    'write-back sync': ('change and sync', 'doc', 2),
    'write-back update': ('update', [('x', [1]), ('new', [2])]),
    'write-back block': ('block', [('change', 'doc', 2), ('put', 'new', [1])], False),
    'write-back pop': ('pop', 'x'),
}
OPERATIONS['change'] = Operation(lambda vault, key, item: vault[key].append(item))  # in place
OPERATIONS['change and sync'] = Operation(lambda vault, key, item: (vault[key].append(item), vault.sync()))
GENERATOR = 0x20  # such functions begin when they are resumed


def place_of(code, line):
    """Return where an interrupt came, and whether nothing that is written in Python can help there: before the first line
    of a function that begins or ends a block, or in the first two."""
    is_early = code.co_name in ('commit', 'rollback') and line <= code.co_firstlineno + 2
    return f'{code.co_name}, line {line}', is_early or code.co_name in ('__enter__', '__exit__')


def at_points(first, stride):
    """Interrupt an act at every `stride`-th of the points where CPython looks at signals, until there is none: as a
    function of the package begins, and as one in C has returned to it."""
    def look(frame, event, _):
        nonlocal left, where
        code = frame.f_code
        if code.co_filename.startswith(PACKAGE) and (event == 'c_return' or (event == 'call' and not code.co_flags & GENERATOR)):
            left -= 1
            if not left:
                sys.setprofile(None)
                where = place_of(code, frame.f_lineno)
                raise KeyboardInterrupt

    def disturb(act):
        try:
            sys.setprofile(look)
            act()
        except KeyboardInterrupt:
            pass
        finally:
            sys.setprofile(None)
        return where
    for at in itertools.count(int(first) + 1, int(stride)):
        left, where = at, None
        yield disturb
        if where is None:
            return


def at_random(count, seed):
    """Interrupt an act by a real signal, at a random moment of the time that it takes."""
    rng, armed, took = random.Random(seed), [], []

    def ring(*_):
        if armed:
            armed.clear()
            raise KeyboardInterrupt

    def disturb(act):
        began = time.perf_counter()
        try:
            armed.append(True)
            if took:
                signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-6, took[0]))
            act()
            armed.clear()
        except KeyboardInterrupt as error:
            inside = [place_of(frame.f_code, line) for frame, line in traceback.walk_tb(error.__traceback__)
                      if frame.f_code.co_filename.startswith(PACKAGE)]
            return inside[-1] if inside else ('outside', False)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        took.append(time.perf_counter() - began)
        return None
    signal.signal(signal.SIGALRM, ring)
    yield from [disturb] * int(count)


@role
def disturbed(path, how, name, safe, *options):
    """Disturb an act again and again; tell where, whether nothing can help there, and what that left behind."""
    def opened():
        return Vault(pathlib.Path(path), thread_safe=safe == 'True', writeback=name.startswith('write-back'))

    def act():
        do(vault, ACTS[name])
    with closing(opened()) as vault:
        fill(vault)
        allowed = [state(vault)]
        act()
        allowed.append(state(vault))
    vault, other = opened(), Vault(pathlib.Path(path), timeout=0.3)
    for number, disturb in enumerate({'points': at_points, 'signals': at_random}[how](*options)):
        fill(vault)
        gc.collect()   # or it could land in the closing of an older vault, where Python swallows it
        gc.disable()
        where = disturb(act)
        gc.enable()
        problem = judge(vault, other, allowed, number)
        tell([where, problem])
        if problem:
            with suppress(VaultError):
                vault.close()
            vault = opened()


def judge(vault, other, allowed, what):
    """Tell what is wrong after an act was broken off: of all or nothing, and of the next writes of this and another vault."""
    writing = threading.Thread(target=lambda: vault.pop('none', None), daemon=True)  # which queues where writers do
    try:
        other.pop('none', None)  # which an open block keeps out
        writing.start()          # now: this thread's own next write would free a lock
        writing.join(3)
        if writing.is_alive():
            return 'left locked'
        vault.sync()
    except VaultError as error:
        return f'left open: {error}'
    found = state(other)
    if found not in allowed or state(vault) != found:
        return f'in part: {str(found)[:300]}'
    vault['after'] = what
    vault.sync()
    return '' if other.pop('after', None) == what else 'a later write that nobody else sees'


def disturb(round, how, cases, *options):
    """Count where an act was broken off, and where nothing can help; elsewhere nothing may be left behind."""
    for name, safe in round.some(itertools.product(ACTS, (False, True)), cases):
        what = f'{name}, thread_safe={safe}'
        for where, problem in round.ask(what, disturbed, round.fresh(), how, name, safe, *options):
            accepted = bool(problem and where and where[1])
            round.seen[how] += where is not None
            round.seen['left open where nothing can help'] += accepted
            round.must(not problem or accepted, f'{what}, in {where}: {problem}')


def interrupts(round):
    """Ctrl-C at every point where Python looks at signals, in every act: all or nothing, and nothing left open."""
    disturb(round, 'points', 3, round.number // 16 % 3, 3)


def signals(round):
    """The same by real signals, at random moments."""
    disturb(round, 'signals', 2, 60, round.rng.random())


# --- signal handlers that use the vault ---------------------------------------------------------------------------

HANDLED = ('put', 'get', 'in', 'del', 'pop', 'popitem', 'setdefault', 'update', 'put_many', 'get_many', 'pop_many', 'edit',
           'slice', 'len', 'items', 'list', 'column', 'section', 'together')  # and no block that fails, with the handler's in it
OPERATIONS['together'] = Operation(lambda target, pairs: block(target, [('put', *pair) for pair in pairs], False),
                                   lambda draw: (draw.pairs(),))


@role
def handled(path, safe, live, seed):
    """Use a vault while a signal handler uses it as well, in the midst of whatever is going on."""
    vault = Vault(pathlib.Path(path), thread_safe=safe == 'True', writeback=live == 'True')
    vault.update({number: [number] for number in range(100)})
    acknowledged, wrong, busy, end = [], collections.Counter(), [], time.monotonic() + 0.7

    def handle(*_):
        number = len(acknowledged)
        if busy:
            return  # no handler within a handler
        busy.append(number)
        with suppress(VaultError):  # SQLite begins no savepoint in the midst of a statement
            with vault if number % 2 else contextlib.nullcontext():
                vault['handled', number] = number
            acknowledged.append(number)
            wrong['a get in the handler'] += vault.get(number % 100) != [number % 100]
            wrong['a pop in the handler'] += vault.pop('none', 0) != 0
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
    tell([acknowledged, +wrong])


def handlers(round):
    """A signal handler uses the vault, in blocks and outside, in the midst of anything that uses it."""
    for safe, live in round.some([(False, False), (True, False), (False, True)], 1):
        path, what = round.fresh(), f'thread_safe={safe}, writeback={live}'
        for numbers, wrong in round.ask(what, handled, path, safe, live, round.rng.random()):
            round.must(not wrong, f'{what}: wrong answers {wrong}')
            round.keeps(path, {('handled', number): number for number in numbers}, what)


# --- tasks --------------------------------------------------------------------------------------------------------

def held(vault, key):
    """Hold a block over a yield."""
    with vault.transaction():
        vault[key] = 0
        yield


async def work(vault, rng, me, kept, refused):
    """Put in one block after another, over awaits; or in two that cross, of which neither may be kept."""
    for turn in range(15):
        keys = [(me, turn, number) for number in range(rng.choice((1, 1, 2)))]
        blocks = [held(vault, key) for key in keys]
        try:
            for one in blocks:
                next(one)
            for _ in range(rng.randrange(3)):
                await asyncio.sleep(0)
            if rng.random() < 0.2:
                raise Failed
            for one in blocks:
                next(one, None)
            kept.update(dict.fromkeys(keys, 0))
        except (VaultError, Failed) as error:
            refused[type(error).__name__] += 1
            for one in blocks:
                one.close()
        await asyncio.sleep(0)


def tasks(round):
    """Tasks of one event loop: what one was told is done stays, whoever else holds or fails in a block; nothing else does."""
    async def all_of_them(*rest):
        await asyncio.gather(*(work(*rest, me, kept, refused) for me in range(12)))
    for options in ({}, {'thread_safe': True}, {'writeback': True}):
        path, kept, refused = round.fresh(), {}, collections.Counter()
        with closing(Vault(path, **options)) as vault:
            asyncio.run(all_of_them(vault, round.rng))
        found = round.keeps(path, kept, f'{options}')
        round.must(found == kept, f'{options}: {[key for key in found if key not in kept]} were not told')
        round.must(refused['VaultTaskError'], f'{options}: nobody was refused')


# --- names and paths ----------------------------------------------------------------------------------------------

NAMES = ['%', '%20', 'a?mode=ro', 'a#b', 'a b', ' ', 'a\nb', "a'b", 'a"b', 'a;b', 'file:x?mode=ro', 'file:', 'con', 'nul.db3',
         'a.db.old', 'a-wal', 'a-journal', '-a', '~', '$HOME', 'a*', '\u00e9', 'e\u0301', '\U0001f40d',
         '\u202ea', '\udcff', '\udce9t', 'x' * 240, 'x' * 244, 'x' * 245, 'x' * 255, '\u00e9' * 122, ':memory: ', 'a:b', 'a|b', '\x7f\x01']
DEEP = ['/'.join(['d' * 120] * levels + ['a.db']) for levels in range(1, 7)]  # SQLite takes 512 bytes


def paths(round):
    """Relative paths of every kind are that file, or for the longest, which leave no room for its log, a clear error."""
    before, folder, opened = os.getcwd(), round.fresh().parent, set()
    for name in [*NAMES, *DEEP]:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        os.chdir(folder)
        try:
            with closing(Vault(pathlib.Path(name))) as vault:
                vault['k'] = ascii(name)
                os.chdir(before)  # connections that are made later are to the same file
                in_thread(lambda: vault.put('other thread', 2))
            opened.add(path)
        except VaultError as error:
            os.chdir(before)
            is_long = len(os.fsencode(path.name)) > 255 - len('-journal') or len(str(path)) > 500
            round.must(is_long and 'cannot be opened' in str(error), f'{name!r}: {error!r}')
    for path in opened:
        found = round.keeps(path, {'k': ascii(str(path.relative_to(folder))), 'other thread': 2}, f'{path!r}')
        round.must(len(found) == 2, f'{path!r} shares a file')
    there = {path for path in folder.rglob('*') if path.is_file() and path.stat().st_size}  # a refused one may be empty
    round.must(there == opened, f'more or less appeared than was opened: {there ^ opened}')


# --- the clock ----------------------------------------------------------------------------------------------------

def clock(round):
    """The clock jumps by years, back and forth, before 1970 and beyond what 4 bytes hold."""
    path, model, real = round.fresh(), Model(), time.time
    draw = Draw(round.rng.random(), pieces=(5, 300_000))
    vault = Vault(path, timeout=0.3)
    for step in itertools.islice(draw.steps({'list': 2, 'column': 2, 'stream': 3, 'put': 1, 'compact': 1}), 40):
        years = draw.rng.choice((-80, -56, -1, 0, 1, 12, 80, 1000))
        with mock.patch('time.time', lambda years=years: real() + years * 365.25 * 86400):
            round.must(attempt(vault, step) == attempt(model, step), f'another answer to {step!r:.100} after {years} years')
    vault.close()
    round.keeps(path, model.data, 'after the jumps')


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
def acknowledge(key, value): os.write(1, b'%s\\n' % json.dumps([key, value]).encode())
def put(vault, key, value=1): vault[key] = value; acknowledge(key, value)
def start(is_daemon, work, *arguments): threading.Thread(target=work, args=arguments, daemon=is_daemon).start()
def blocks(vault, name):
    for n in range(10**9):
        with vault: vault[name, n] = n
def lists(vault):
    for n in range(10**9): vault[n % 50] = [n]
"""
SHUTDOWNS = {  # what a program does in the end; it complains of nothing, if not listed below
    'a thread that has ended in a block': "v = Vault(path); put(v, 'a'); start(False, lambda: (v.__enter__(), v.put('never', 1)))",
    'open': "v = Vault(path); put(v, 'a')",
    'a cycle': "node = Node(); node.me = node; node.vault = Vault(path); put(node.vault, 'a'); node = None",
    'atexit after': "v = Vault(path); put(v, 'a'); atexit.register(lambda: put(v, 'late'))",
    'atexit opens': "atexit.register(lambda: put(Vault(path), 'late'))",
    'atexit closes': "v = Vault(path); put(v, 'a'); atexit.register(v.close); atexit.register(v.close)",
    '__del__ at the end': "holder = Holder(); holder.vault = Vault(path); put(holder.vault, 'a'); sys.modules['kept'] = holder",
    '__del__ in a cycle': "h = Holder(); h.vault = Vault(path); h.me = h; put(h.vault, 'a'); h = None",
    'daemon threads in blocks': "v = Vault(path, thread_safe=True); [start(True, blocks, v, a) for a in 'bcd']; put(v, 'a'); time.sleep(0.05)",
    'a thread that goes on': "v = Vault(path); start(False, lambda: [(put(v, 'n%d' % n), time.sleep(0.001)) for n in range(50)])",
    'inside a block': "v = Vault(path); put(v, 'a'); v.__enter__(); v['never'] = 1",
    'sys.exit in a block': "v = Vault(path); put(v, 'a')\nwith v: v['never'] = 1; sys.exit(3)",
    'write-back': "v = Vault(path, writeback=True); v['a'] = []; v['a'].append(1); acknowledge('a', [1])",
    'write-back and a daemon thread': "v = Vault(path, writeback=True); start(True, lists, v); time.sleep(0.05)",
    'an open stream': "v = Vault(path); put(v, 'a'); f = v.open('never', 'wb'); f.write(b'x' * 3_000_000)",
    'a walk': "v = Vault(path); v.update(dict.fromkeys(map(str, range(999)), 1)); put(v, 'a'); i = iter(v.items()); next(i)",
    'a weakref callback': "w = Vault(path); n = [Node()]; put(w, 'a'); r = weakref.ref(n[0], lambda _: put(w, 'late')); atexit.register(n.pop)",
    'modules taken away': "v = Vault(path); put(v, 'a'); [sys.modules.pop(n) for n in list(sys.modules) if 'vaults' in n]",
}
LOUD = ('write-back and a daemon thread', 'an open stream')  # may complain


def shutdown(round):
    """The interpreter ends with vaults open in every way: no crash, no noise, no acknowledged write lost."""
    for name in round.some(SHUTDOWNS, 7):
        path, code = round.fresh(), 3 if name == 'sys.exit in a block' else 0
        ended = run([sys.executable, '-c', OPEN + SHUTDOWNS[name], path], cwd=str(round.folder))
        round.must(ended.code == code, f'{name}: ended with {ended.code}, not {code}: {ended.complaints}')
        round.must(not ended.complaints or name in LOUD, f'{name}: complained {ended.complaints}')
        found = round.keeps(path, dict(ended.lines), name)
        round.must('never' not in found, f'{name}: what was not finished is there')


# --- all of them --------------------------------------------------------------------------------------------------

TRAPS = {trap.__name__: trap for trap in (
    opener, gone, truncated, forks, interrupts, signals, handlers, tasks, paths, clock, shutdown)}


def main():
    trial = Trial(__doc__, rounds=1)
    trial.parser.add_argument('--only', choices=sorted(TRAPS), action='append', help='one trap; may be repeated')
    options, total = trial.begin(), collections.Counter()
    if not guard.AVAILABLE:
        print('no locks on open file descriptions here: what others in the process drop cannot be kept, so it is left out')
    for name in options.only or TRAPS:
        seen, began = collections.Counter(), time.monotonic()
        for number in range(options.rounds):
            with tempfile.TemporaryDirectory() as folder:
                round = Round(trial, name, number, folder)
                try:
                    TRAPS[name](round)
                except Exception:  # of another kind than the vault may raise, or where it may raise nothing
                    round.must(False, traceback.format_exc(limit=-3))
            seen.update(round.seen)
        counted = ', '.join(f'{number} {what}' for what, number in seen.items())
        print(f'{name}: {options.rounds} rounds, {counted}; {time.monotonic() - began:.1f} s', flush=True)
        total += seen
    trial.end(f'{options.rounds} rounds of each trap: {total["acknowledged"]} writes acknowledged, {total["lost"]} lost')


if __name__ == '__main__':
    play_role()
    main()
