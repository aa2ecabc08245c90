"""Make the disk fail at every call that a vault makes of it, and look whether the vault kept its promises.

    python trials/disk.py [--rounds N] [--seed S] [--part calls|folder] [--step NAME]

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

Then a folder without permission to write: a vault there is read, and all else is refused. --rounds 0 goes through every
call with every fault. Prints a line of figures for each; exits with 1 when a promise broke.
"""
from __future__ import annotations

import collections
import contextlib
import copy
import ctypes
import errno
import gc
import importlib
import itertools
import multiprocessing
import os
import pathlib
import pkgutil
import random
import shutil
import subprocess
import sys
import tempfile
import traceback
from typing import Any, Callable

from shared import ROOT, TRIALS
from shared.model import OPERATIONS, Model, difference, do, entries, pattern
from shared.processes import Process, ask, compiled
from shared.verdict import Trial

import vaults
from vaults import Vault, VaultError, moving
from vaults.collections import stream

sys.path.insert(0, str(ROOT))

from spec import internals  # the folder is known only now

KINDS = ('write', 'fsync', 'truncate', 'open', 'map', 'unlink', 'rename', 'read', 'lock')  # as in disk.c
# By kind: what fails, and whether it goes on failing. 'short' does half of the work; if it goes on, then nothing.
FAULTS = {
    'write': ('ENOSPC on', 'ENOSPC once', 'EIO on', 'EIO once', 'EDQUOT on', 'EROFS on', 'ENOSPC short on', 'ENOSPC short once'),
    'fsync': ('EIO once', 'EIO on', 'ENOSPC once'), 'truncate': ('ENOSPC on', 'EIO once'),
    'open': ('ENOSPC on', 'EMFILE on', 'EMFILE once', 'EIO once'), 'map': ('ENOMEM once', 'ENOMEM on'),
    'unlink': ('EIO once', 'EROFS on'), 'rename': ('EIO once', 'ENOSPC on'), 'read': ('EIO once', 'EIO on', 'EIO short once'),
    'lock': ('ENOLCK once', 'ENOLCK on', 'EIO once')}
ROOM = ('ENOSPC', 'EDQUOT', 'EMFILE', 'ENOMEM', 'ENOLCK')  # what passes by itself: no vault need be opened again
TIMEOUT = 0.2   # seconds, of the vaults: a lock that cannot be had is waited for
AGAIN = 'opened again'  # what an error says after which a vault is of no more use
stream.STREAM_LEAF, stream.KEPT_LEAVES = 1 << 13, 2  # bytes, and leaves in memory: a short stream is put before it is closed, piece by piece


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
# Each changes all that it does in one commit, and reads nothing after that, which could fail alone.
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
    ('section update', lambda s: s.vault.section('key').update((n, {'name': 'somebody'}) for n in range(20))),
    ('make list', lambda s: s.vault.list('list')), ('append', lambda s: s.vault.list('list').append('item')),
    ('extend', lambda s: s.vault.list('list').extend(f'item {n}' for n in range(1200))),
    ('insert', lambda s: s.vault.list('list').insert(600, 'item')),
    ('make column', lambda s: s.vault.column('column', 'int64')),
    ('extend column', lambda s: s.vault.column('column', 'int64').extend(range(2000))),
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


def rehearsed(folder: pathlib.Path, look: Callable[[Scene, tuple], Any]) -> list:
    """Go through the scene without a fault; return what `look` finds after each step."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    scene, found = Scene(folder), []
    for step in STEPS:
        act(scene, step)
        found.append(look(scene, step))
    scene.close('vault', 'live')
    return found


def state_after(scene: Scene, step, states: list) -> None:
    """Add to the states what there is after a step without a fault: in the open vaults, and on the disk. Raises: AssertionError."""
    states.append((state(scene), on_disk(scene.folder)))
    if step[0] in OPERATIONS:
        model = Model(copy.deepcopy(states[-2][0]['vault']))
        do(model, step)
        problem = difference(states[-1][0]['vault'], entries(model))
        assert not problem, f'without a fault, {step[0]}: {problem}'


class Fault:
    """A system call fails, or all of its kind from it on."""

    def __init__(self, library: ctypes.CDLL, kind: str, number: int, what: str) -> None:
        code, *how = what.split()
        self.name, self.is_sync = f'{kind} {number} {what}', kind == 'fsync'
        self.begin = lambda: library.disk_fail(KINDS.index(kind), number, getattr(errno, code), 'on' in how, 'short' in how)
        self.release, self.hits = library.disk_release, library.disk_hits
        self.reopens = self.is_sync or code not in ROOM          # an error may ask to have the vault opened again
        self.blinds = kind in ('read', 'map', 'lock', 'open')    # nothing can be read either
        self.removes = kind != 'unlink' or 'on' not in how       # files can be removed


# --- one round ----------------------------------------------------------------------------------------------------

def look_when_asked(pipe: Any, folder: pathlib.Path, states: list, tell: object) -> None:
    """Be another process, whose disk is well because it was there before the fault."""
    while True:
        pipe.send(looked(folder, states[pipe.recv()][1]))


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
    """A scene in which one fault happens: what was `broken` by it, and figures. Runs in a process of its own."""

    def __init__(self, folder: pathlib.Path, states: list, at: int, fault: Fault) -> None:
        self.folder, self.states, self.at, self.fault = folder, states, at, fault
        self.pipe, theirs = multiprocessing.Pipe()
        self.peer = Process(look_when_asked, theirs, folder, states)
        theirs.close()
        self.scene, self.broken, self.figures = Scene(folder), [], collections.Counter()

    def run(self) -> None:
        try:
            for number, step in enumerate(STEPS):
                if number == self.at:
                    self.fault.begin()
                self.step(number, step)
            self.end()
        except BaseException as error:
            self.broke(f'it ended with {error!r}')
        self.peer.end()

    def broke(self, text: str) -> None:
        self.broken.append(f'{STEPS[self.at][0]}: {self.fault.name}: {text}')

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
        self.figures['raised'] += 1
        if not isinstance(error, VaultError) and not (name in WRITERS and isinstance(error, OSError)):
            self.broke(f'{name}: a bare {error!r} from {traceback.extract_tb(error.__traceback__)[-1]}')
        if name in ('sync', 'compact') and fault.is_sync and AGAIN not in str(error):
            self.broke(f'{name}: nothing vouches for what was not synced, but it only said: {error}')
        if fault.blinds:
            fault.release()
        self.compare(number, f'{name} raised {error}')
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
            self.figures['reopened'] += 1
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
                self.broke(f'{when}; the same vault: {name}: {difference(found[name], expected)}')

    def ask(self, number, when) -> None:
        """Have the other process compare."""
        if any(self.states[number][1].values()):
            self.pipe.send(number)
            problem = self.pipe.recv()
            if problem:
                self.broke(f'{when}; another process: {problem}')

    def end(self) -> None:
        """Close with the fault still there, if it has not been released; then look at what is left."""
        try:
            self.scene.close('vault', 'live')
        except VaultError as error:
            self.broke(f'closing what has nothing to write raised {error!r}')
        self.figures['met'] += self.fault.hits() > 0
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


def play(*arguments: Any) -> tuple:
    sys.unraisablehook = lambda unraisable: None  # a vault with write-back that is given up says so
    one = Round(*arguments)
    one.run()
    return one.broken, one.figures


# --- the parts of the trial ---------------------------------------------------------------------------------------

def of_calls(trial: Trial, library: ctypes.CDLL, folder: pathlib.Path) -> None:
    """Make every call of every step fail with every fault of its kind: first one of each sort, then another of each."""
    rng, groups, total = random.Random(f'calls {trial.options.seed}'), [], collections.Counter()
    states = [({'vault': None, 'live': None}, {})]
    rehearsed(folder, lambda scene, step: state_after(scene, step, states))
    library.disk_watch(os.fsencode(folder))  # only now, when all modules are imported
    counts = rehearsed(folder, lambda scene, step: [library.disk_count(number) for number in range(len(KINDS))])
    for at, (before, after) in enumerate(zip([[0] * len(KINDS), *counts], counts)):
        for kind, was, now in zip(KINDS, before, after):
            for what in FAULTS[kind]:
                groups.append([(at, kind, number + 1, what) for number in range(now - was)])
                rng.shuffle(groups[-1])
    rng.shuffle(groups)
    faults = [fault for turn in itertools.zip_longest(*groups) for fault in turn if fault]
    chosen = [fault for fault in faults if trial.options.step in (None, STEPS[fault[0]][0])][:trial.options.rounds or None]
    for at, *plan in chosen:
        shutil.rmtree(folder)
        folder.mkdir()
        code, done = ask(play, folder, states, at, Fault(library, *plan))
        broken, figures = done or ([f'{STEPS[at][0]}: {plan}: it ended with {code}'], {})
        total.update(figures)
        for text in broken:
            trial.broke(text)
    print(f'of {len(faults)} faults of calls: {len(chosen)} rounds, {total["met"]} met the fault, {total["raised"]} raised, '
          f'{total["reopened"]} had to be opened again, {len(trial.broken)} promises broken', flush=True)


HELD = [(n, 'x' * n) for n in range(50)]


def fill(path: pathlib.Path, is_killed: bool) -> None:
    vault = Vault(path)
    vault.update(HELD)
    os._exit(9) if is_killed else vault.close()


def unwritable(folder: pathlib.Path) -> str:
    """Assert that a vault in a folder that cannot be written is read, and that all else is an error of ours."""
    try:
        if not os.geteuid():  # who has all permissions; another may not be able to read the package
            for module in pkgutil.walk_packages(vaults.__path__, 'vaults.'):
                if module.name not in ('vaults.__main__', 'vaults.testing'):
                    importlib.import_module(module.name)
            os.setresuid(65534, 65534, 65534)
        before = sorted(folder.iterdir())
    except OSError:
        return 'left out, it cannot be had here'
    with contextlib.closing(Vault(folder / 'v.db', flag='r')) as vault:
        assert entries(vault) == HELD and vault.check() == []
        for kind, call in (
                (vaults.VaultReadOnlyError, lambda: vault.update(k=1)), (vaults.VaultReadOnlyError, lambda: Vault(folder / 'v.db')),
                (VaultError, lambda: Vault(folder / 'new.db')), (VaultError, lambda: vault.backup(folder / 'backup.db')),
                (VaultError, lambda: moving.export(vault, folder / 'export.jsonl'))):
            with contextlib.suppress(kind):
                call()
                raise AssertionError(f'no {kind.__name__} came')
    with contextlib.suppress(VaultError), contextlib.closing(Vault(folder / 'killed.db', flag='r')) as vault:
        assert entries(vault) == HELD  # its log can be read, or the error says that it cannot: never a part
    assert sorted(folder.iterdir()) == before, 'files were left'
    return 'read, and all else refused'


def of_folder(trial: Trial, library: ctypes.CDLL, folder: pathlib.Path) -> None:
    """Make a vault, and one whose writer was killed; look at them where nothing can be written."""
    folder.mkdir()
    for name in ('v.db', 'killed.db'):
        ask(fill, folder / name, name == 'killed.db')
    assert (folder / 'killed.db-wal').exists()
    folder.parent.chmod(0o755)
    folder.chmod(0o555)
    became = ask(unwritable, folder).value or 'see above'
    print(f'a folder without permission to write: {became}', flush=True)
    if became == 'see above':
        trial.broke('a folder without permission to write: see above')
    folder.chmod(0o755)


# --- the command --------------------------------------------------------------------------------------------------

PARTS = {'calls': of_calls, 'folder': of_folder}


def main() -> None:
    trial = Trial(__doc__, rounds=16)
    trial.parser.add_argument('--part', choices=PARTS, help='this part alone')
    trial.parser.add_argument('--step', help='of the part calls: faults in the steps of this name alone')
    options, library = trial.begin(), ctypes.CDLL(None)
    with tempfile.TemporaryDirectory() as work:
        folder = pathlib.Path(work).resolve()
        if not hasattr(library, 'disk_watch'):
            preloaded = compiled(TRIALS / 'disk.c', folder)
            if preloaded:
                sys.exit(subprocess.call([sys.executable, *sys.argv], env={**os.environ, 'LD_PRELOAD': preloaded}))
            trial.end('left out: to make calls fail needs Linux and a C compiler')
            return
        library.disk_count.restype = library.disk_hits.restype = ctypes.c_long
        library.disk_fail.argtypes = ctypes.c_int, ctypes.c_long, ctypes.c_int, ctypes.c_int, ctypes.c_int
        for name in [options.part] if options.part else PARTS:
            try:
                PARTS[name](trial, library, folder / name)
            except AssertionError as error:
                trial.broke(f'{name}: {error}')
    trial.end('a full and a failing disk')


if __name__ == '__main__':
    main()
