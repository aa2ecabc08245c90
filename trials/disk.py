"""Make the disk fail at every call that a vault makes of it, and look whether the vault kept its promises.

    python trials/disk.py [--rounds N] [--seed S] [--part PART [--step NAME]] [--store NAME]

A scene goes through all that writes: opening, single puts, blocks, lists, columns, streams, sections, write-back, sync,
checkpoints, compact, backup, import and export. disk.c, preloaded, counts the system calls on its files and makes one of
them fail, or all from that one on: no room (ENOSPC, EDQUOT), a disk that fails (EIO), a file system that has become
read-only (EROFS), no more handles (EMFILE), no locks (ENOLCK), no memory to map (ENOMEM), and writes and reads cut
short. A round is one call of one step with one fault:

- the step does all of it, or raises an error of ours and changes nothing, as the same vault and another process see it;
- another process can write at once, so no lock is left, and its `_check()` passes;
- when there is room again, the same vault does the step; where the disk failed, the error may ask to open it again, and
  where sync() or compact() could not sync, it must;
- at the end all that was acknowledged is there, no handle and no unfinished file is left.

Then without the shim: a limit on the size of files, a small tmpfs that is filled to the last page, no free handles, and
folders and file systems that cannot be written. With --store, the same disk fails at each write of a plain loop of puts.
--rounds 0 goes through every call with every fault. Prints a line of figures for each; exits with 1 when a promise broke.
"""
from __future__ import annotations

import argparse
import collections
import contextlib
import copy
import ctypes
import errno
import gc
import importlib
import itertools
import json
import os
import pathlib
import pkgutil
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import traceback
from typing import Any, Callable, NamedTuple, Sequence

from shared import ROOT, TRIALS
from shared.model import OPERATIONS, Model, difference, do, entries, pattern
from shared.processes import Process, as_role, ask, compiled, role, run, tell
from shared.stores import open_store
from shared.verdict import Trial

import vaults
from vaults import Vault, VaultError, moving
from vaults.collections import stream

sys.path.insert(0, str(ROOT))

from spec import internals  # the folder is known only now

KINDS = ('write', 'fsync', 'truncate', 'open', 'map', 'unlink', 'rename', 'read', 'allocate', 'lock')  # as in disk.c
# By kind: what fails, and whether it goes on failing. 'short' does half of the work; if it goes on, then nothing.
FAULTS = {
    'write': ('ENOSPC on', 'ENOSPC once', 'EIO on', 'EIO once', 'EDQUOT on', 'EROFS on', 'ENOSPC short on', 'ENOSPC short once'),
    'fsync': ('EIO once', 'EIO on', 'ENOSPC once'), 'truncate': ('ENOSPC on', 'EIO once'),
    'open': ('ENOSPC on', 'EMFILE on', 'EMFILE once', 'EIO once'), 'map': ('ENOMEM once', 'ENOMEM on'),
    'unlink': ('EIO once', 'EROFS on'), 'rename': ('EIO once', 'ENOSPC on'), 'read': ('EIO once', 'EIO on', 'EIO short once'),
    'allocate': ('ENOSPC on',), 'lock': ('ENOLCK once', 'ENOLCK on', 'EIO once')}
ROOM = ('ENOSPC', 'EDQUOT', 'EMFILE', 'ENOMEM', 'ENOLCK')  # what passes by itself: no vault need be opened again
TIMEOUT = 0.2   # seconds, of the vaults: a lock that cannot be had is waited for
HANGS = 30      # seconds for a round
PAGE = 4096     # bytes
AGAIN = 'opened again'  # what an error says after which a vault is of no more use
stream.LEAF, stream.KEPT = 1 << 13, 2  # bytes, and leaves in memory: a short stream is put before it is closed, piece by piece


# --- the scene ----------------------------------------------------------------------------------------------------

class Scene:
    """What the steps work on: a vault, one with write-back, and the folder of their files."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder, self.vault, self.live = folder, None, None

    def open(self, name: str) -> None:
        setattr(self, name, Vault(self.folder / f'{name}.db', timeout=TIMEOUT, writeback=name == 'live'))

    def reopen(self) -> None:
        """Open again what is open, as the error says."""
        for name in ('vault', 'live'):
            if getattr(self, name) is not None:
                with contextlib.suppress(VaultError):
                    getattr(self, name).close()
                self.open(name)

    def close(self, *names: str) -> None:
        for name in names:
            if getattr(self, name) is not None:
                getattr(self, name).close()
                setattr(self, name, None)


def large_block(s):
    """Write more in a block than the cache of SQLite holds, so that pages go to the log before the end."""
    internals.raw_of(s.vault).execute('PRAGMA cache_size = 10')
    with s.vault as v:
        for n in range(12):
            v['large', n] = pattern(12_000 * n, 12_000)


def read_all(s):
    v = s.vault
    assert v['new'] == 'x' * 3000 and v.get('none') is None and len(v) == len(list(v.keys())), 'a wrong value'
    for problem in v.check():
        raise VaultError(problem)


def cold_read(s, name='vault.db'):
    """Read with a connection that has nothing in its cache."""
    with contextlib.closing(Vault(s.folder / name, flag='r', timeout=TIMEOUT)) as other:
        assert ('new', 'x' * 3000) in entries(other)


def checkpoint(s):
    """Write one entry, after which the log is moved into the file."""
    c = internals.connection_of(s.vault)
    c.due, c.checkpointed = c.written, -1 << 40
    s.vault['checkpoint'] = 'x'


def live_change(s):
    w = s.live
    w['list'] = []
    w['list'].append(1)
    w['other'] = {'x': 'y' * 5000}


def live_block(s):
    with s.live as w:
        w['list'].append(2)
        w['third'] = [3]


# Steps of the shared model are done to the vault, and to a model as well; all others are a name and a function of the scene.
STEPS = (
    ('open', lambda s: s.open('vault')),
    ('put', 'a', 1), ('put', 'b', 'x' * 10_000), ('put', 'a', {'more': 'x' * 5000}),
    ('update', {'new': 'x' * 3000, 'c': 3, 'b': 'b'}), ('put_many', [(n, str(n) * 40) for n in range(60)]),
    ('block', [('put', ('block', 1), 'x' * 9000), ('put', 'a', 'in the block'), ('del', 'b'),
               ('update', {('block', n): n for n in range(2, 30)})], False),
    ('block', [('put', 'outer', 1), ('block', [('put', 'inner', pattern(0, 20_000))], True),
               ('block', [('put', ('inner', 2), 2), ('block', [('pop', ('block', 2))], False)], False)], False),
    ('large block', large_block),
    ('failing block', [('put', 'undone', pattern(0, 50_000)), ('clear',)], True),
    ('del', 3), ('pop', 5), ('popitem', True), ('setdefault', 'set', [1]), ('edit', 'edited', 'x'),
    ('delete range', lambda s: s.vault.__delitem__(slice(10, 50))),
    ('section', 'update', range(20), {'name': 'somebody'}),
    ('list', 'list', 'made', (0, 1), 0, 0), ('list', 'list', 'append', (0, 1), 5, 1),
    ('list', 'list', 'extend', (0, 1), 100, 1200), ('list', 'list', 'insert', (0.5, 1), 7, 1),
    ('column', 'column', 'made', (0, 1), 0, 0), ('column', 'column', 'extend', (0, 1), 0, 2000),
    ('stream', 'stream', 'wb', [(0, 40_000), (90_000, 1000)]), ('stream', 'stream', 'ab', [(50_000, 8000)]),
    ('stream', 'stream', 'r+b', [(70_000, 350)]),
    ('sync',),
    ('read', read_all),
    ('cold read', cold_read),
    ('checkpoint', checkpoint),
    ('put', 'after', pattern(0, 3000)),
    ('backup', lambda s: s.vault.backup(s.folder / 'backup.db')),
    ('read backup', lambda s: cold_read(s, 'backup.db')),
    ('export', lambda s: moving.export(s.vault, s.folder / 'export.jsonl')),
    ('get_file', lambda s: s.vault.get_file('stream', s.folder / 'stream.bin')),
    ('put_file', lambda s: s.vault.put_file('file', s.folder / 'stream.bin')),
    ('import', lambda s: moving.import_file(s.vault.section('imported'), s.folder / 'export.jsonl')),
    ('delete range', lambda s: s.vault.section('imported').clear()),
    ('compact',),
    ('write-back open', lambda s: s.open('live')),
    ('write-back change', live_change),
    ('write-back sync', lambda s: s.live.sync()),
    ('write-back block', live_block),
    ('write-back put', lambda s: s.live.update(list=['closing'])),
    ('write-back close', lambda s: s.close('live')),
    ('write-back open', lambda s: s.open('live')),
    ('clear',), ('put', 'last', 1),
    ('close', lambda s: s.close('vault')),
    ('open', lambda s: s.open('vault')))
FILES = {'vault.db', 'live.db', 'backup.db', 'export.jsonl', 'stream.bin'}  # that may be there at the end, beside -wal and -shm
WRITERS = ('get_file', 'put_file')  # whose documentation promises the OSError of the file that is not the vault's
OPENING = ('open', 'cold read', 'checkpoint', 'backup', 'read backup', 'export', 'get_file', 'put_file', 'import', 'write-back open')
LIVE = ('list', 'other', 'third')  # the keys of the vault with write-back


def act(scene: Scene, step) -> None:
    if step[0] not in OPERATIONS:
        step[1](scene)
    elif 'KeyError' in repr(do(scene.vault, step)):  # which is no result here: all keys are there
        raise KeyError(step[0])


def state(scene: Scene) -> dict:
    """Return all that the open vaults hold, in order; of the live one its objects, without having it write."""
    live = scene.live if scene.live is None else copy.deepcopy([(key, scene.live[key]) for key in LIVE if key in scene.live])
    return {'vault': scene.vault if scene.vault is None else entries(scene.vault), 'live': live}


def on_disk(folder: pathlib.Path) -> dict:
    """Return what a process that opens the vaults now finds."""
    found = {}
    for path in filter(pathlib.Path.exists, (folder / 'vault.db', folder / 'live.db')):
        with contextlib.closing(Vault(path, timeout=TIMEOUT)) as vault:
            found[path.name] = entries(vault)
    return found


def rehearsed(folder: pathlib.Path) -> list:
    """Go through the scene without a fault; return what there is after each step: in the open vaults, and on the disk."""
    scene, states = Scene(folder), [({'vault': None, 'live': None}, {})]
    for step in STEPS:
        model = Model(copy.deepcopy(states[-1][0]['vault']) or ())
        act(scene, step)
        states.append((state(scene), on_disk(folder)))
        if step[0] in OPERATIONS:
            do(model, step)
            problem = difference(states[-1][0]['vault'], entries(model))
            assert not problem, f'without a fault, {step[0]}: {problem}'
    scene.close('vault', 'live')
    return states


# --- faults -------------------------------------------------------------------------------------------------------

class Fault(NamedTuple):
    """Something that is wrong with the disk from one step of the scene on."""

    name: str
    begin: Callable[[], Any]
    release: Callable[[], Any]
    hits: Callable[[], int] = lambda: 0  # how often it was met, as far as that is known
    reopens: bool = False    # an error may ask to have the vault opened again
    blinds: bool = False     # nothing can be read either
    is_shared: bool = False  # other processes have the same disk
    removes: bool = True     # files can be removed


def loaded() -> Any:
    """Return the library that counts calls and makes them fail, which is loaded in this process."""
    library = ctypes.CDLL(os.environ['LD_PRELOAD'])
    library.disk_count.restype = library.disk_hits.restype = ctypes.c_long
    library.disk_fail.argtypes = ctypes.c_int, ctypes.c_long, ctypes.c_int, ctypes.c_int, ctypes.c_int
    return library


def call_fails(library, kind: str, number: int, what: str) -> Fault:
    """A system call fails, or all of its kind from it on."""
    code, *how = what.split()
    return Fault(f'{kind} {number} {what}', lambda: library.disk_fail(
        KINDS.index(kind), number, getattr(errno, code), 'on' in how, 'short' in how), library.disk_release, library.disk_hits,
        reopens=kind == 'fsync' or code not in ROOM, blinds=kind in ('read', 'map', 'lock', 'open'),
        removes=kind != 'unlink' or 'on' not in how)


def limited(name: str, which: int, limit: Callable[[], int], **traits) -> Fault:
    was = resource.getrlimit(which)
    return Fault(name, lambda: resource.setrlimit(which, (limit(), was[1])), lambda: resource.setrlimit(which, was), **traits)


def file_limit(size: int) -> Fault:
    """No file may grow beyond a size, which to SQLite is an error like any other. Python ignores the signal that comes with it."""
    return limited(f'files of at most {size} bytes', resource.RLIMIT_FSIZE, lambda: size, reopens=True)


def handle_limit(free: int) -> Fault:
    """So many handles are free."""
    def limit():
        taken = set(map(int, os.listdir('/proc/self/fd')))
        return next(itertools.islice((fd + 1 for fd in itertools.count() if fd not in taken), free, None)) - 1
    return limited(f'{free} handles free', resource.RLIMIT_NOFILE, limit, blinds=True)


def full_disk(folder: pathlib.Path, pages: int) -> Fault:
    """A file fills the disk until so many pages are free."""
    ballast = folder / 'ballast'

    def fill():
        status = os.statvfs(folder)
        with open(ballast, 'wb', buffering=0) as file:
            for _ in range(status.f_bavail * status.f_frsize // PAGE - pages):
                file.write(bytes(PAGE))
    return Fault(f'{pages} pages free', fill, lambda: ballast.unlink(missing_ok=True), is_shared=True)


# --- one round ----------------------------------------------------------------------------------------------------

class Peer(Process):
    """Another process, whose disk is well because it was there before the fault. It looks at the vaults when it is asked to."""

    def __init__(self, folder: pathlib.Path, states: list) -> None:
        read, self._numbers = os.pipe()
        super().__init__(self._look, read, folder, states)
        os.close(read)

    def ask(self, number: int) -> str:
        """Return what is wrong with the vaults after so many steps, or ''. Raises: AssertionError when it crashed or hung."""
        os.write(self._numbers, b'%d\n' % number)
        self.wait_for(b'\n', self.said.count(b'\n') + 1)
        return json.loads(self.said.splitlines()[-1])

    def _look(self, numbers, folder, states, tell) -> None:
        os.close(self._numbers)  # or it would never hear that nobody asks any more
        with os.fdopen(numbers) as asked:
            for line in asked:
                tell(json.dumps(looked(folder, states[int(line)][1])).encode() + b'\n')


def looked(folder: pathlib.Path, expected: dict) -> str:
    """Return what is wrong with the vaults for a process that opens them now."""
    for name, wanted in expected.items():
        try:
            with contextlib.closing(Vault(folder / name, timeout=TIMEOUT)) as vault:
                problem = wanted and difference(entries(vault), wanted)
                if problem:
                    return f'{name}: {problem}'
                with contextlib.suppress(ZeroDivisionError), vault:
                    vault['undone'] = 1
                    raise ZeroDivisionError
                vault._check()
        except Exception as error:
            return f'{name}: {error!r}'
    return ''


class Round:
    """A scene in which one fault happens, and what it has told of: (kind, text). Runs in a process of its own."""

    def __init__(self, folder: pathlib.Path, states: list, at: int, fault: Fault) -> None:
        self.folder, self.states, self.at, self.fault = folder, states, at, fault
        self.scene, self.peer, self.told = Scene(folder), Peer(folder, states), []

    def broke(self, text: str) -> None:
        self.told.append(('broke', text))

    def run(self) -> list:
        try:
            for number, step in enumerate(STEPS):
                if number == self.at:
                    self.fault.begin()
                self.step(number, step)
            self.end()
        except BaseException as error:
            self.broke(f'it ended with {error!r}')
        self.peer.end()
        return self.told

    def step(self, number, step) -> None:
        hits = self.fault.hits()
        try:
            act(self.scene, step)
        except Exception as error:
            self.failed(number, step, error)
        else:
            if self.fault.hits() > hits and not self.fault.blinds:
                self.compare(number + 1, f'{step[0]} did not raise')

    def failed(self, number, step, error) -> None:
        """Look at everything after a step that raised, then do it again."""
        fault, name = self.fault, step[0]
        self.told.append(('raised', type(error).__name__))
        if not isinstance(error, VaultError) and not (name in WRITERS and isinstance(error, OSError)):
            self.broke(f'{name}: a bare {error!r} from {traceback.extract_tb(error.__traceback__)[-1]}')
        if name in ('sync', 'compact') and fault.name.startswith('fsync') and AGAIN not in str(error):
            self.broke(f'{name}: nothing vouches for what was not synced, but it only said: {error}')
        if fault.blinds:
            fault.release()
        self.compare(number, f'{name} raised {error}')
        if fault.is_shared:
            fault.release()
        self.ask(number, f'{name} raised {error}')
        fault.release()
        left = [path for path in self.folder.iterdir() if '.partial' in path.name]
        if left and fault.removes:
            self.broke(f'{name}: {left} are left')
        for path in left:
            path.unlink()
        try:
            self.retried(step, name, error)
        except Exception as again:
            self.broke(f'{name}: after {error!r} it cannot be done again: {again!r}')
            raise
        self.compare(number + 1, f'{name} done again')

    def retried(self, step, name, error) -> None:
        try:
            act(self.scene, step)
        except VaultError as again:
            if AGAIN not in str(again) or not self.fault.reopens:
                raise
            if AGAIN not in str(error):
                self.broke(f'{name}: to open again was not said at once, but: {error}')
            self.told.append(('reopened', ''))
            self.scene.reopen()
            act(self.scene, step)

    def compare(self, number, when) -> None:
        """Compare with the state after so many steps what the same vaults hold."""
        try:
            found = state(self.scene)
        except VaultError as error:
            if AGAIN not in str(error) or not self.fault.reopens:
                self.broke(f'{when}: the vault cannot be read: {error}')
            return
        for name, expected in self.states[number][0].items():
            if found[name] != expected:
                after = self.states[min(number + 1, len(STEPS))][0][name]
                self.broke(f'{when}; the same vault: {name}: {difference(found[name], expected)}'
                           + ' (it was done)' * (found[name] == after))

    def ask(self, number, when) -> None:
        """Have the other process compare."""
        if any(self.states[number][1].values()):
            problem = self.peer.ask(number)
            if problem:
                self.broke(f'{when}; another process: {problem}')

    def end(self) -> None:
        """Close with the fault still there, if it has not been released; then look at what is left."""
        try:
            self.scene.close('vault', 'live')
        except VaultError as error:
            self.broke(f'closing what has nothing to write raised {error!r}')
        met = self.fault.hits() or any(kind == 'raised' for kind, _ in self.told)
        self.fault.release()
        self.scene.vault = self.scene.live = None  # also where closing raised
        gc.collect()
        paths = [os.path.realpath(f'/proc/self/fd/{fd}') for fd in os.listdir('/proc/self/fd')]
        open_files = [path for path in paths if f'{path}/'.startswith(f'{self.folder}/')]
        if open_files:
            self.broke(f'handles are left open: {open_files}')
        self.ask(len(STEPS), 'end')
        left = {path.name for path in self.folder.iterdir()} - {name + end for name in FILES for end in ('', '-wal', '-shm')}
        if left:
            self.broke(f'files are left: {sorted(left)}')
        self.told.append(('met' if met else 'missed', ''))


# --- the parts of the trial: each does rounds ---------------------------------------------------------------------

class Part:
    """What a part has: a folder for its rounds, options, chance, and what it counts. `say` and `broke` are heard by the trial."""

    def __init__(self, name: str, folder: pathlib.Path, options: argparse.Namespace) -> None:
        self.folder, self.options, self.rng = folder / 'f', options, random.Random(f'{name} {options.seed}')
        self.total, self.states = collections.Counter(), []

    def say(self, text: str) -> None:
        tell(['says', text])

    def broke(self, text: str) -> None:
        tell(['broke', text])
        if self.options.first:
            sys.exit()

    def fresh(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()

    def few(self) -> range:
        return range(max(self.options.rounds // 8, 4) if self.options.rounds else 400)

    def round(self, at: int, fault: Fault) -> None:
        if not self.states:
            self.fresh()
            self.states = rehearsed(self.folder)
        self.fresh()
        code, told = ask(lambda: Round(self.folder, self.states, at, fault).run(), hangs=HANGS)
        self.total['rounds'] += 1
        for kind, text in [('broke', f'it ended with {code}')] if told is None else told:
            self.total.update([kind, f'as {text}'] if kind == 'raised' else [kind])
            what = f'{STEPS[at][0]}: {fault.name}: {kind}: {text}'
            if kind == 'broke':
                self.broke(what)
            elif self.options.verbose:
                self.say(what)

    def line(self, what: str) -> None:
        total = self.total
        kinds = ', '.join(f'{count} {name[3:]}' for name, count in sorted(total.items()) if name.startswith('as '))
        self.say(f'{what}: {total["rounds"]} rounds, {total["met"]} met the fault, {total["raised"]} raised ({kinds}), '
                 f'{total["reopened"]} had to be opened again, {total["broke"]} promises broken')


def counted(library, folder) -> list:
    """Go through the scene without a fault; return the numbers of calls of each step, by kind."""
    scene, calls = Scene(folder), []
    library.disk_watch(os.fsencode(folder))
    for step in STEPS:
        before = [library.disk_count(number) for number in range(len(KINDS))]
        act(scene, step)
        calls.append([library.disk_count(number) - was for number, was in enumerate(before)])
    scene.close('vault', 'live')
    return calls


def of_calls(part: Part) -> None:
    """Make every call of every step fail with every fault of its kind: first one of each sort, then another of each."""
    library, groups = loaded(), []
    for _ in range(2):  # the first time, modules are imported
        part.fresh()
        calls = counted(library, part.folder)
    for at, counts in enumerate(calls):
        for kind, count in zip(KINDS, counts):
            for what in FAULTS[kind]:
                groups.append([(at, kind, number + 1, what) for number in range(count)])
                part.rng.shuffle(groups[-1])
    part.rng.shuffle(groups)
    faults = [fault for turn in itertools.zip_longest(*groups) for fault in turn if fault]
    chosen = [fault for fault in faults if part.options.step in (None, STEPS[fault[0]][0])][:part.options.rounds or None]
    for at, *plan in chosen:
        part.round(at, call_fails(library, *plan))
    part.line(f'of {len(faults)} faults of calls')


def of_limits(part: Part, what: str, draw: Callable[[random.Random], Fault], steps: Sequence[int] = range(len(STEPS))) -> None:
    for _ in part.few():
        part.round(part.rng.choice(steps), draw(part.rng))
    part.line(what)


def of_files(part: Part) -> None:
    of_limits(part, 'limits on the size of files', lambda rng: file_limit(rng.randrange(1, 70) * PAGE - rng.randrange(PAGE)))


def of_handles(part: Part) -> None:
    of_limits(part, 'limits on handles', lambda rng: handle_limit(rng.randrange(7)),
              [at for at, step in enumerate(STEPS) if step[0] in OPENING])


def of_tmpfs(part: Part) -> None:
    of_limits(part, 'full tmpfs', lambda rng: full_disk(part.folder.parent, rng.choice((0, 1, 2, 4, 8, 16, 32, 64))))


# --- what cannot be written at all --------------------------------------------------------------------------------

HELD = [(n, 'x' * n) for n in range(50)]


def fill(path: pathlib.Path, is_killed: bool) -> None:
    vault = Vault(path)
    vault.update(HELD)
    os._exit(9) if is_killed else vault.close()


def refused(kind: type, act: Callable[..., Any], *arguments: Any, **options: Any) -> None:
    try:
        act(*arguments, **options)
    except kind:
        return
    raise AssertionError(f'no {kind.__name__} came')


def unwritable(folder: pathlib.Path, user: int) -> None:
    """Assert that a vault in a folder that cannot be written is read, and that all else is an error of ours."""
    if user:  # who may not be able to read the package
        for module in pkgutil.walk_packages(vaults.__path__, 'vaults.'):
            if module.name not in ('vaults.__main__', 'vaults.testing'):
                importlib.import_module(module.name)
        os.setresuid(user, user, user)
    before = sorted(folder.iterdir())
    refused(VaultError, Vault, folder / 'new.db')
    refused(vaults.VaultReadOnlyError, Vault, folder / 'v.db')
    with contextlib.closing(Vault(folder / 'v.db', flag='r')) as vault:
        assert entries(vault) == HELD and vault.check() == []
        refused(vaults.VaultReadOnlyError, vault.update, k=1)
        refused(VaultError, vault.backup, folder / 'backup.db')
        refused(VaultError, moving.export, vault, folder / 'export.jsonl')
    with contextlib.suppress(VaultError), contextlib.closing(Vault(folder / 'killed.db', flag='r')) as vault:
        assert entries(vault) == HELD  # its log can be read, or the error says that it cannot: never a part
    assert sorted(folder.iterdir()) == before, 'files were left'


def of_unwritable(part: Part, what: str, user: int, begin: Callable[[], bool], end: Callable[[], object]) -> None:
    """Make a vault, and one whose writer was killed; look at them where nothing can be written, if that can be."""
    part.fresh()
    for name in ('v.db', 'killed.db'):
        ask(fill, part.folder / name, name == 'killed.db')
    assert (part.folder / 'killed.db-wal').exists()
    if not begin():
        part.say(f'{what}: left out, it cannot be had here')
    elif ask(unwritable, part.folder, user).code:
        part.broke(f'{what}: see above')
    else:
        part.say(f'{what}: read, and all else refused')
    end()


def of_folder(part: Part) -> None:
    user = 0 if os.geteuid() else 65534  # root has all permissions

    def begin() -> bool:
        for path in itertools.islice(part.folder.parents, 3):
            path.chmod(0o755)
        part.folder.chmod(0o555)
        return not (user and ask(lambda: [os.setresuid(user, user, user), os.listdir(part.folder)]).code)
    of_unwritable(part, 'a folder without permission to write', user, begin, lambda: part.folder.chmod(0o755))


def of_read_only(part: Part) -> None:
    def mounted(how: str) -> bool:
        return not subprocess.call(['mount', '-o', f'remount,{how}', str(part.folder.parent.parent)])
    of_unwritable(part, 'a file system that can only be read', 0, lambda: mounted('ro'), lambda: mounted('rw'))


# --- any store ----------------------------------------------------------------------------------------------------

PUTS = [(f'key {number % 70}', {'n': number, 'text': 'x' * (number * 37 % 900)}) for number in range(150)]
FULL = 10  # puts while there is no room


def put_all(name, folder, fault, at) -> dict:
    """Put one after another, with no room for a while from the fault on; return what was acknowledged, and counts."""
    store, full, kept, tried, counts = open_store(name, folder), None, {}, {}, collections.Counter()
    for number, (key, value) in enumerate(PUTS):
        if number == at:
            fault.begin()
        if full is None and (fault.hits() or (fault.is_shared and number == at)):
            full = number
        if full is not None and number == full + FULL:
            fault.release()
        tried.setdefault(key, []).append(value)
        try:
            store.db[key] = value
            kept[key], tried[key] = value, []
        except Exception:
            counts.update(raised=1, stuck=full is not None and number >= full + FULL)
    fault.release()
    try:
        store.close()
    except Exception:
        counts['failed to close'] = 1
    return {'kept': kept, 'tried': tried, 'counts': {**counts, 'stuck': counts['stuck'] > 0}}


def lost(name, folder, kept, tried) -> int:
    """Return how many of the acknowledged writes are not there."""
    store, missing = open_store(name, folder), 0
    for key, value in kept.items():
        try:
            missing += store.db[key] not in [value, *tried[key]]
        except Exception:
            missing += 1
    return missing


def of_store(part: Part) -> None:
    """Put into a store, and count what the full disk did to it."""
    name, library, total = part.options.store, loaded(), part.total

    def watched(fault, at):
        library.disk_watch(os.fsencode(part.folder))
        return {**put_all(name, part.folder, fault, at), 'writes': library.disk_count(KINDS.index('write'))}

    def no_room(number):
        return call_fails(library, 'write', number, 'ENOSPC on')
    part.fresh()
    writes = ask(watched, no_room(1 << 40), 0).value['writes']
    faults = [(0, no_room(number)) for number in part.rng.sample(range(1, writes + 1), min(part.options.rounds or writes, writes))]
    if part.options.mounted:
        faults += [(part.rng.randrange(len(PUTS) - FULL), full_disk(part.folder.parent, part.rng.randrange(9)))
                   for _ in part.few()]
    for at, fault in faults:
        part.fresh()
        done = ask(watched, fault, at).value
        fault.release()
        if done is None:
            total['crashed'] += 1
            continue
        total.update(done['counts'])
        missing = ask(lost, name, part.folder, done['kept'], done['tried']).value
        total.update(kept=len(done['kept']), lost=len(done['kept']) if missing is None else missing, unreadable=missing is None)
    part.say(f'{name}: no room at {len(faults)} moments ({writes} write calls in the loop): {total["raised"]} puts raised, '
             f'{total["lost"]} of {total["kept"]} acknowledged entries lost, {total["unreadable"]} files unreadable, '
             f'{total["crashed"]} processes crashed or hung, {total["stuck"]} could not go on with room, '
             f'{total["failed to close"]} failed to close')
    if name == 'vaults' and total['lost'] + total['unreadable'] + total['crashed'] + total['stuck']:
        part.broke('what was put into a vault on a full disk: see above')


# --- the command --------------------------------------------------------------------------------------------------

# The name, what does it, and whether it needs the library, and a small file system of its own.
PARTS = {'calls': (of_calls, True, False), 'files': (of_files, False, False), 'handles': (of_handles, False, False),
         'folder': (of_folder, False, False), 'tmpfs': (of_tmpfs, False, True), 'read-only': (of_read_only, False, True),
         'store': (of_store, True, False)}
MOUNT = 'mount -t tmpfs -o size=8m tmpfs "$0" && exec "$@"'


@role
def play(name: str, folder: str, options: str) -> None:
    with tempfile.TemporaryDirectory(dir=folder) as top:
        part = Part(name, pathlib.Path(top).resolve(), argparse.Namespace(**json.loads(options)))
        try:
            PARTS[name][0](part)
        except AssertionError as error:  # without a fault it is not as it must be
            part.broke(f'{name}: {error}')


def mounting(folder: pathlib.Path) -> list:
    """Return the command before one that is to find a small tmpfs at the folder; [] when that may not be."""
    for how in ('-m', '-Urm'):
        command = ['unshare', how, 'sh', '-c', MOUNT, str(folder)]
        if shutil.which('unshare') and not subprocess.call([*command, 'true'], stderr=subprocess.DEVNULL):
            return command
    return []


def main() -> None:
    trial = Trial(__doc__, rounds=16, stores=True)
    trial.parser.add_argument('--part', choices=PARTS, help='this part alone')
    trial.parser.add_argument('--step', help='of the part calls: faults in the steps of this name alone')
    trial.parser.add_argument('--verbose', action='store_true', help=argparse.SUPPRESS)
    options = trial.begin()
    with tempfile.TemporaryDirectory() as work:
        folder = pathlib.Path(work).resolve()
        disk = folder / 'disk'
        disk.mkdir()
        library, mount = compiled(TRIALS / 'disk.c', folder), mounting(disk)
        for name in [options.part] if options.part else PARTS if options.store == 'vaults' else ['store']:
            _, is_watched, is_mounted = PARTS[name]
            if (is_watched and not library) or (is_mounted and not mount):
                print(f'{name}: left out, because', 'no tmpfs may be mounted here' if library else
                      'there is no C compiler or this is not Linux')
                continue
            prefix = mount if is_mounted or name == 'store' else []
            command = as_role(play, name, disk, json.dumps({**vars(options), 'mounted': bool(prefix)}))
            told = run([*prefix, *command], hangs=None, env={**os.environ, **({'LD_PRELOAD': library} if is_watched else {})})
            for kind, text in told.lines:
                trial.broke(text) if kind == 'broke' else print(text, flush=True)
            if told.code:
                trial.broke(f'the part {name} ended with {told.code}: {told.complaints}')
    trial.end('a full and a failing disk')


if __name__ == '__main__':
    main()
