"""Make the disk fail at every call that a vault makes of it, and look whether the vault kept its promises.

    python trials/disk.py [--rounds N] [--seed S] [--store NAME]

A scene goes through all that writes: opening, single puts, blocks, lists, columns, streams, sections, write-back, sync,
checkpoints, compact, backup, import and export. disk.c, preloaded, counts the system calls on its files and makes one of
them fail, or all from that one on: no room (ENOSPC, EDQUOT), a disk that fails (EIO), a file system that has become
read-only (EROFS), no more handles (EMFILE), no locks (ENOLCK), no memory to map (ENOMEM), and writes and reads cut
short. A round is one call of one step with one fault:

- the step does all of it, or raises an error of ours and changes nothing, as the same vault and another process see it;
- another process can write at once, so no lock is left, and its `_check()` passes;
- when there is room again, the same vault does the step; where the disk failed, the error may ask to open it again;
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
import signal
import socket
import subprocess
import sys
import tempfile
import traceback

from shared.stores import open_store
from shared.verdict import Trial

import vaults
from vaults import moving
from vaults.collections import column as columns
from vaults.collections import list as sequences
from vaults.collections import stream as streams
from vaults.stores.sqlite.checkpoint import CHECKPOINT

HERE = pathlib.Path(__file__).resolve().parent
KINDS = ('write', 'fsync', 'truncate', 'open', 'map', 'unlink', 'rename', 'read', 'allocate', 'lock')  # as in disk.c
# By kind: what fails, and whether it goes on failing. 'short' does half of the work; if it goes on, then nothing.
FAULTS = {
    'write': (('ENOSPC', 'on'), ('ENOSPC', 'once'), ('EIO', 'on'), ('EIO', 'once'), ('EDQUOT', 'on'), ('EROFS', 'on'),
              ('ENOSPC', 'short on'), ('ENOSPC', 'short once')),
    'fsync': (('EIO', 'once'), ('EIO', 'on'), ('ENOSPC', 'once')),
    'truncate': (('ENOSPC', 'on'), ('EIO', 'once')),
    'open': (('ENOSPC', 'on'), ('EMFILE', 'on'), ('EMFILE', 'once'), ('EIO', 'once')),
    'map': (('ENOMEM', 'once'), ('ENOMEM', 'on')),
    'unlink': (('EIO', 'once'), ('EROFS', 'on')),
    'rename': (('EIO', 'once'), ('ENOSPC', 'on')),
    'read': (('EIO', 'once'), ('EIO', 'on'), ('EIO', 'short once')),
    'allocate': (('ENOSPC', 'on'),),
    'lock': (('ENOLCK', 'once'), ('ENOLCK', 'on'), ('EIO', 'once')),
}
ROOM = ('ENOSPC', 'EDQUOT', 'EMFILE', 'ENOMEM', 'ENOLCK')  # what passes by itself: no vault need be opened again
TIMEOUT = 0.2   # seconds, of the vaults: a lock that cannot be had is waited for
HANGS = 30      # seconds for a round
PAGE = 4096     # bytes
AGAIN = 'opened again'  # what an error says after which a vault is of no more use


# --- the scene ----------------------------------------------------------------------------------------------------

class Scene:
    """What the steps work on: a vault, one with write-back, and the folder of their files."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder, self.vault, self.live = folder, None, None

    def open_vault(self) -> None:
        self.vault = vaults.Vault(self.folder / 'v.db', timeout=TIMEOUT)

    def open_live(self) -> None:
        self.live = vaults.Vault(self.folder / 'w.db', timeout=TIMEOUT, writeback=True)

    def reopen(self) -> None:
        """Open again what is open, as the error says."""
        for name, how in (('vault', self.open_vault), ('live', self.open_live)):
            if getattr(self, name) is not None:
                with contextlib.suppress(vaults.VaultError):
                    getattr(self, name).close()
                how()

    def close(self) -> None:
        for vault in (self.vault, self.live):
            if vault is not None:
                vault.close()


def state(scene: Scene) -> dict:
    """Return all that the open vaults hold, in order; of the live one its objects, without having it write."""
    return {'v': None if scene.vault is None else entries(scene.vault),
            'live': None if scene.live is None else copy.deepcopy([(key, scene.live[key]) for key in LIVE if key in scene.live])}


def on_disk(folder: pathlib.Path) -> dict:
    """Return what a process that opens the vaults now finds."""
    found = {}
    for name in ('v', 'w'):
        path = folder / f'{name}.db'
        if path.exists():
            with contextlib.closing(vaults.Vault(path, timeout=TIMEOUT)) as vault:
                found[name] = entries(vault)
    return found


def entries(vault: vaults.Vault) -> list:
    return [(key, list(value) if isinstance(value, (sequences.List, columns.Column)) else value)
            for key, value in vault.items()]


def big(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).getrandbits(8 * size).to_bytes(size, 'big')


def block(scene):
    with scene.vault as v:
        v['block', 1] = 'x' * 9000
        v['a'] = 'in the block'
        del v['b']
        v.update({('block', n): n for n in range(2, 30)})


def nested(scene):
    with scene.vault as v:
        v['outer'] = 1
        with contextlib.suppress(ZeroDivisionError), v.transaction():
            v['inner'] = big(20_000)
            raise ZeroDivisionError
        with v.transaction():
            v['inner', 2] = 2
            with v.transaction():
                v.pop(('block', 2))


def large_block(scene):
    """Write more in a block than the cache of SQLite holds, so that pages go to the log before the end."""
    scene.vault._store.local.c.raw.execute('PRAGMA cache_size = 10')
    with scene.vault as v:
        for n in range(12):
            v['large', n] = big(12_000, n)


def undone_block(scene):
    with contextlib.suppress(ZeroDivisionError), scene.vault as v:
        v['undone'] = big(50_000)
        v.clear()
        raise ZeroDivisionError


def edit(scene):
    with scene.vault.edit('edited', []) as value:
        value.append('x')


def stream(scene):
    with scene.vault.open('stream', 'wb') as file:
        file.write(big(40_000))
        file.write(big(1000))


def stream_append(scene):
    with scene.vault.open('stream', 'ab') as file:
        file.write(b'appended' * 1000)


def stream_change(scene):
    with scene.vault.open('stream', 'r+b') as file:
        file.seek(5)
        file.write(b'changed' * 50)


def read_all(scene):
    v = scene.vault
    assert v['new'] == 'x' * 3000 and v.get('none') is None and len(v) == len(list(v.keys())), 'a wrong value'
    problems = v.check()
    if problems:
        raise vaults.VaultError(problems[0])


def cold_read(scene):
    """Read with a connection that has nothing in its cache."""
    with contextlib.closing(vaults.Vault(scene.folder / 'v.db', flag='r', timeout=TIMEOUT)) as other:
        assert entries(other)


def checkpoint(scene):
    """Write one entry, after which the log is moved into the file."""
    c = scene.vault._store.local.c
    c.due = c.written
    c.checkpointed = c.written - CHECKPOINT
    scene.vault['checkpoint'] = 'x'


def backup(scene):
    scene.vault.backup(scene.folder / 'backup.db')


def read_backup(scene):
    with contextlib.closing(vaults.Vault(scene.folder / 'backup.db', flag='r', timeout=TIMEOUT)) as copy:
        assert ('new', 'x' * 3000) in entries(copy)


def export(scene):
    moving.export(scene.vault, scene.folder / 'export.jsonl')


def import_(scene):
    moving.import_file(scene.vault.section('imported'), scene.folder / 'export.jsonl')


def get_file(scene):
    scene.vault.get_file('stream', scene.folder / 'stream.bin')


def put_file(scene):
    scene.vault.put_file('file', scene.folder / 'stream.bin')


def live_change(scene):
    w = scene.live
    w['list'] = []
    w['list'].append(1)
    w['other'] = {'x': 'y' * 5000}


def live_block(scene):
    with scene.live as w:
        w['list'].append(2)
        w['third'] = [3]


def live_close(scene):
    scene.live.close()
    scene.live = None


def close(scene):
    scene.vault.close()
    scene.vault = None


def sections(scene):
    users = scene.vault.section('users')
    users.update({n: {'name': n} for n in range(20)})


STEPS = (
    ('open', Scene.open_vault),
    ('put', lambda scene: scene.vault.put('a', 1)),
    ('put', lambda scene: scene.vault.put('b', 'x' * 10_000)),
    ('overwrite', lambda scene: scene.vault.put('a', {'more': 'x' * 5000})),
    ('update', lambda scene: scene.vault.update({'new': 'x' * 3000, 'c': 3, 'b': 'b'})),
    ('put_many', lambda scene: scene.vault.put_many((n, str(n) * 40) for n in range(60))),
    ('block', block),
    ('nested block', nested),
    ('large block', large_block),
    ('undone block', undone_block),
    ('delete', lambda scene: scene.vault.__delitem__(3)),
    ('pop', lambda scene: scene.vault.pop(5)),
    ('popitem', lambda scene: scene.vault.popitem()),
    ('setdefault', lambda scene: scene.vault.setdefault('set', [1])),
    ('edit', edit),
    ('delete range', lambda scene: scene.vault.__delitem__(slice(10, 50))),
    ('section', sections),
    ('list made', lambda scene: scene.vault.list('list')),
    ('list append', lambda scene: scene.vault.list('list').append('x')),
    ('list extend', lambda scene: scene.vault.list('list').extend({'n': n, 'x': 'y' * 50} for n in range(200))),
    ('list insert', lambda scene: scene.vault.list('list').insert(100, 'inserted')),
    ('column made', lambda scene: scene.vault.column('column', 'float64')),
    ('column extend', lambda scene: scene.vault.column('column', 'float64').extend(map(float, range(2000)))),
    ('stream', stream),
    ('stream append', stream_append),
    ('stream change', stream_change),
    ('sync', lambda scene: scene.vault.sync()),
    ('read', read_all),
    ('cold read', cold_read),
    ('checkpoint', checkpoint),
    ('put after checkpoint', lambda scene: scene.vault.put('after', big(3000))),
    ('backup', backup),
    ('read backup', read_backup),
    ('export', export),
    ('get_file', get_file),
    ('put_file', put_file),
    ('import', import_),
    ('delete range', lambda scene: scene.vault.section('imported').clear()),
    ('compact', lambda scene: scene.vault.compact()),
    ('write-back open', Scene.open_live),
    ('write-back change', live_change),
    ('write-back sync', lambda scene: scene.live.sync()),
    ('write-back block', live_block),
    ('write-back put', lambda scene: scene.live.put('list', ['closing'])),
    ('write-back close', live_close),
    ('write-back open', Scene.open_live),
    ('clear', lambda scene: scene.vault.clear()),
    ('put', lambda scene: scene.vault.put('last', 1)),
    ('close', close),
    ('open', Scene.open_vault),
)
FILES = {'v.db', 'w.db', 'backup.db', 'export.jsonl', 'stream.bin'}  # that may be there at the end, beside -wal and -shm
WRITERS = ('get_file', 'put_file')  # whose documentation promises the OSError of the file that is not the vault's
OPENING = ('open', 'cold read', 'checkpoint', 'backup', 'read backup', 'export', 'get_file', 'put_file', 'import', 'write-back open')
LIVE = ('list', 'other', 'third')  # the keys of the vault with write-back
streams.LEAF, streams.KEPT = 1 << 13, 2  # bytes, and leaves in memory: a short stream is put before it is closed, piece by piece


# --- one round ----------------------------------------------------------------------------------------------------

class Disk:
    """The shim, which is loaded in this process."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(os.environ['LD_PRELOAD'])
        self._library.disk_count.restype = self._library.disk_hits.restype = ctypes.c_long
        self._library.disk_fail.argtypes = ctypes.c_int, ctypes.c_long, ctypes.c_int, ctypes.c_int, ctypes.c_int

    def watch(self, folder: pathlib.Path) -> None:
        self._library.disk_watch(os.fsencode(folder))

    def fail(self, kind: str, number: int, code: str, how: str) -> None:
        self._library.disk_fail(KINDS.index(kind), number, getattr(errno, code), 'on' in how.split(), 'short' in how)

    def release(self) -> None:
        self._library.disk_release()

    def counts(self) -> dict:
        return {kind: self._library.disk_count(number) for number, kind in enumerate(KINDS)}

    def hits(self) -> int:
        return self._library.disk_hits()

    def handles(self) -> int:
        return self._library.disk_handles()


class Fault:
    """Something that is wrong with the disk from one step of the scene on."""

    reopens = False   # an error may ask to have the vault opened again
    blinds = False    # nothing can be read either
    is_shared = False  # other processes have the same disk
    removes = True    # files can be removed

    def begin(self) -> None:
        raise NotImplementedError

    def release(self) -> None:
        raise NotImplementedError

    def hits(self) -> int:
        """Return how often it was met, as far as that is known."""
        return 0


class CallFails(Fault):
    """A system call fails, as the shim sees to."""

    def __init__(self, disk: Disk, kind: str, number: int, code: str, how: str) -> None:
        self.disk, self.plan = disk, (kind, number, code, how)
        self.begin, self.release, self.hits = lambda: disk.fail(*self.plan), disk.release, disk.hits
        self.blinds = kind in ('read', 'map', 'lock', 'open')
        self.reopens = kind == 'fsync' or code not in ROOM
        self.removes = (kind, how) != ('unlink', 'on')

    def __str__(self) -> str:
        return ' '.join(map(str, self.plan))


class FileLimit(Fault):
    """No file may grow beyond a size. Python ignores the signal that comes with it."""

    reopens = True  # to SQLite it is an error like any other

    def __init__(self, size: int) -> None:
        self.size = size

    def begin(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))

    def release(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, resource.getrlimit(resource.RLIMIT_FSIZE)[1:] * 2)

    def __str__(self) -> str:
        return f'files of at most {self.size} bytes'


class HandleLimit(Fault):
    """So many handles are free."""

    blinds = True

    def __init__(self, free: int) -> None:
        self.free, self.was = free, resource.getrlimit(resource.RLIMIT_NOFILE)

    def begin(self) -> None:
        taken = set(map(int, os.listdir('/proc/self/fd')))
        limit = next(itertools.islice((fd + 1 for fd in itertools.count() if fd not in taken), self.free, None)) - 1
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, self.was[1]))

    def release(self) -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, self.was)

    def __str__(self) -> str:
        return f'{self.free} handles free'


class FullDisk(Fault):
    """A file fills the disk until so many pages are free."""

    reopens = False
    is_shared = True

    def __init__(self, folder: pathlib.Path, pages: int) -> None:
        self.ballast, self.pages = folder / 'ballast', pages

    def begin(self) -> None:
        status = os.statvfs(self.ballast.parent)
        with open(self.ballast, 'wb', buffering=0) as file:
            for _ in range(status.f_bavail * status.f_frsize // PAGE - self.pages):
                file.write(bytes(PAGE))

    def release(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self.ballast.unlink()

    def __str__(self) -> str:
        return f'{self.pages} pages free'


class Round:
    """A scene in which one fault happens. Runs in a process of its own; `peer` is the one that started it."""

    def __init__(self, folder: pathlib.Path, states: list, at: int, fault: Fault, peer: Peer) -> None:
        self.folder, self.states, self.at, self.fault, self.peer = folder, states, at, fault, peer
        self.scene, self.tell, self.has_raised = Scene(folder), peer.tell, False

    def run(self) -> None:
        for number, (name, step) in enumerate(STEPS):
            if number == self.at:
                self.fault.begin()
            hits = self.fault.hits()
            try:
                step(self.scene)
            except Exception as error:
                self.has_raised = True
                self.failed(number, name, step, error, hits)
            else:
                if self.fault.hits() > hits and not self.fault.blinds:
                    self.compare(number + 1, f'{name} did not raise')
        self.end()

    def end(self) -> None:
        """Close with the fault still there, if it has not been released; then look at what is left."""
        try:
            self.scene.close()
        except vaults.VaultError as error:
            self.tell('broke', f'closing what has nothing to write raised {error!r}')
        self.fault.release()
        self.scene.vault = self.scene.live = None
        gc.collect()
        open_files = [path for path in map(_target, os.listdir('/proc/self/fd')) if path.startswith(f'{self.folder}/')]
        if open_files:
            self.tell('broke', f'handles are left open: {open_files}')
        self.ask(len(STEPS), 'end')
        left = {path.name for path in self.folder.iterdir()} - FILES
        if left - {f'{name}{suffix}' for name in FILES for suffix in ('-wal', '-shm')}:
            self.tell('broke', f'files are left: {sorted(left)}')
        self.tell('met' if self.has_raised or self.fault.hits() else 'missed', '')

    def failed(self, number, name, step, error, hits) -> None:
        """Look at everything after a step that raised, then do it again."""
        self.tell('raised', type(error).__name__)
        if not isinstance(error, vaults.VaultError) and not (name in WRITERS and isinstance(error, OSError)):
            self.tell('broke', f'{name}: a bare {error!r} from {traceback.extract_tb(error.__traceback__)[-1]}')
        if self.fault.blinds:
            self.fault.release()
        self.compare(number, f'{name} raised {error}')
        if self.fault.is_shared:
            self.fault.release()
        self.ask(number, f'{name} raised {error}')
        self.fault.release()
        left = [path for path in self.folder.iterdir() if '.partial' in path.name]
        if left and self.fault.removes:
            self.tell('broke', f'{name}: {left} are left')
        for path in left:
            path.unlink()
        try:
            self.retried(step, name, error)
        except Exception as again:
            self.tell('broke', f'{name}: after {error!r} it cannot be done again: {again!r}')
            raise
        self.compare(number + 1, f'{name} done again')

    def retried(self, step, name, error) -> None:
        try:
            step(self.scene)
        except vaults.VaultError as again:
            if AGAIN not in str(again) or not self.fault.reopens:
                raise
            if AGAIN not in str(error):
                self.tell('broke', f'{name}: to open again was not said at once, but: {error}')
            self.tell('reopened', name)
            self.scene.reopen()
            step(self.scene)

    def compare(self, number, when) -> None:
        try:
            found = state(self.scene)
        except vaults.VaultError as error:
            if AGAIN not in str(error) or not self.fault.reopens:
                self.tell('broke', f'{when}: the vault cannot be read: {error}')
            return
        self.same(found, number, f'{when}; the same vault')

    def same(self, found, number, when) -> None:
        for name, expected in self.states[number][0].items():
            if found[name] != expected:
                after = self.states[min(number + 1, len(STEPS))][0][name]
                self.tell('broke', f'{when}: {name}: {difference(found[name], expected)}'
                                   + (' (it was done)' if found[name] == after else ''))

    def ask(self, number, when) -> None:
        """Have another process, whose disk is well, compare."""
        if any(self.states[number][1].values()):
            problem = self.peer.ask(number)
            if problem:
                self.tell('broke', f'{when}; another process: {problem}')


def _target(fd: str) -> str:
    try:
        return os.readlink(f'/proc/self/fd/{fd}')
    except OSError:  # of the listing itself
        return ''


def difference(found, expected) -> str:
    if found is None or expected is None:
        return f'{found!r:.60} instead of {expected!r:.60}'
    for one, other in itertools.zip_longest(found, expected):
        if one != other:
            return f'{one!r:.100} instead of {other!r:.100}'
    return 'the same'


class Peer:
    """The other end of a socket, as the process of a round sees it."""

    def __init__(self, end: socket.socket) -> None:
        self._file = end.makefile('rw', encoding='utf-8')

    def tell(self, kind, text) -> None:
        self._file.write(json.dumps([kind, text]) + '\n')
        self._file.flush()

    def ask(self, number) -> str:
        self.tell('ask', number)
        return json.loads(self._file.readline())


def look(folder: pathlib.Path, expected: dict) -> str:
    """Return what is wrong with the vaults for a process that opens them now."""
    for name, wanted in expected.items():
        if not wanted:
            continue
        try:
            with contextlib.closing(vaults.Vault(folder / f'{name}.db', timeout=TIMEOUT)) as vault:
                found = entries(vault)
                if found != wanted:
                    return f'{name}: {difference(found, wanted)}'
                with contextlib.suppress(ZeroDivisionError), vault:
                    vault['undone'] = 1
                    raise ZeroDivisionError
                vault._check()
        except Exception as error:
            return f'{name}: {error!r}'
    return ''


def forked(work, then=lambda: None) -> int:
    """Do `work` in a process of its own, and `then` in this one; return the other's status, negative if by a signal."""
    pid = os.fork()
    if not pid:
        status = 1
        try:
            signal.alarm(HANGS)
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    then()
    _, status = os.waitpid(pid, 0)
    return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def one_round(folder, states, at, fault) -> list:
    """Run a round; return what its process told."""
    mine, theirs = socket.socketpair()
    pid = os.fork()
    if not pid:
        status = 1
        try:
            mine.close()
            signal.alarm(HANGS)
            Round(folder, states, at, fault, Peer(theirs)).run()
            status = 0
        except BaseException as error:
            Peer(theirs).tell('broke', f'it ended with {error!r}')
        finally:
            os._exit(status)
    theirs.close()
    told = []
    with mine, mine.makefile('rw', encoding='utf-8') as lines:
        for line in lines:
            kind, text = json.loads(line)
            if kind == 'ask':
                lines.write(json.dumps(answered(folder, states[text][1])) + '\n')
                lines.flush()
            else:
                told.append((kind, text))
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        told.append(('broke', f'signal {os.WTERMSIG(status)} ended it'))
    return told


def answered(folder, expected) -> str:
    read, write = os.pipe()
    status = forked(lambda: os.write(write, look(folder, expected).encode()[:4000]))
    os.close(write)
    with os.fdopen(read) as pipe:
        return pipe.read() or (f'ended with status {status}' if status else '')


# --- all rounds ---------------------------------------------------------------------------------------------------

def rehearse(folder) -> list:
    """Go through the scene without a fault; return what there is after each step: in the open vaults, and on the disk."""
    scene, states = Scene(folder), [({'v': None, 'live': None}, {})]
    for _, step in STEPS:
        step(scene)
        states.append((state(scene), on_disk(folder)))
    scene.close()
    return states


def count(disk, folder) -> list:
    """Go through the scene without a fault; return the numbers of calls of each step."""
    scene, calls = Scene(folder), []
    disk.watch(folder)
    for _, step in STEPS:
        before = disk.counts()
        step(scene)
        calls.append({kind: number - before[kind] for kind, number in disk.counts().items()})
    scene.close()
    return calls


def all_faults(calls, rng) -> list:
    """Return every call of every step with every fault of its kind: first one of each sort, then another of each."""
    groups = []
    for at, counts in enumerate(calls):
        for kind in KINDS:
            for code, how in FAULTS[kind]:
                group = [(at, (kind, number + 1, code, how)) for number in range(counts[kind])]
                rng.shuffle(group)
                groups.append(group)
    rng.shuffle(groups)
    return [fault for turn in itertools.zip_longest(*groups) for fault in turn if fault]


class Parts:
    """What the parts of the trial count: runs rounds and prints what broke. `line` is what they say at the end."""

    def __init__(self, top: pathlib.Path, options) -> None:
        self.folder, self.options, self.total = top / 'f', options, collections.Counter()
        self.states: list = []

    def fresh(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()

    def round(self, at, fault) -> None:
        self.fresh()
        if not self.states:
            self.states = rehearse(self.folder)
            self.fresh()
        self.total['rounds'] += 1
        for kind, text in one_round(self.folder, self.states, at, fault):
            self.total[kind] += 1
            if kind == 'raised':
                self.total[f'as {text}'] += 1
            if kind == 'broke' or self.options.verbose:
                print(f'{"BROKE " * (kind == "broke")}{STEPS[at][0]}: {fault}: {kind}: {text}', flush=True)

    def line(self, what) -> None:
        kinds = ', '.join(f'{count} {name[3:]}' for name, count in sorted(self.total.items()) if name.startswith('as '))
        print(f'{what}: {self.total["rounds"]} rounds, {self.total["met"]} met the fault, {self.total["raised"]} raised '
              f'({kinds}), {self.total["reopened"]} had to be opened again, {self.total["broke"]} promises broken', flush=True)


def of_calls(parts, options, rng) -> None:
    disk = Disk()
    for _ in range(2):  # the first time, modules are imported
        parts.fresh()
        calls = count(disk, parts.folder)
    faults = all_faults(calls, rng)
    chosen = [fault for fault in faults if options.step in (None, STEPS[fault[0]][0])][:options.rounds or None]
    for at, plan in chosen:
        parts.round(at, CallFails(disk, *plan))
    parts.line(f'of {len(faults)} faults of calls')


def few(options) -> int:
    return max(options.rounds // 8, 4) if options.rounds else 400


def of_files(parts, options, rng) -> None:
    for _ in range(few(options)):
        parts.round(rng.randrange(len(STEPS)), FileLimit(rng.randrange(1, 70) * PAGE - rng.randrange(PAGE)))
    parts.line('limits on the size of files')


def of_handles(parts, options, rng) -> None:
    opening = [at for at, (name, _) in enumerate(STEPS) if name in OPENING]
    for _ in range(few(options)):
        parts.round(rng.choice(opening), HandleLimit(rng.randrange(7)))
    parts.line('limits on handles')


def of_tmpfs(parts, options, rng) -> None:
    for _ in range(few(options)):
        parts.round(rng.randrange(len(STEPS)), FullDisk(parts.folder.parent, rng.choice((0, 1, 2, 4, 8, 16, 32, 64))))
    parts.line('full tmpfs')


# --- what cannot be written at all --------------------------------------------------------------------------------

def unwritable(folder, expected) -> None:
    """Assert that a vault in a folder that cannot be written is read, and that all else is an error of ours."""
    def refused(act, kind=vaults.VaultError):
        try:
            act()
        except kind:
            return
        raise AssertionError(f'no {kind.__name__} came')
    before = sorted(folder.iterdir())
    refused(lambda: vaults.Vault(folder / 'new.db'))
    refused(lambda: vaults.Vault(folder / 'v.db'), vaults.VaultReadOnlyError)
    with contextlib.closing(vaults.Vault(folder / 'v.db', flag='r')) as vault:
        assert entries(vault) == expected and vault.check() == []
        refused(lambda: vault.put('k', 1), vaults.VaultReadOnlyError)
        refused(lambda: vault.backup(folder / 'backup.db'))
        refused(lambda: moving.export(vault, folder / 'export.jsonl'))
    if (folder / 'killed.db').exists():  # its log can be read, or the error says that it cannot: never a part
        try:
            with contextlib.closing(vaults.Vault(folder / 'killed.db', flag='r')) as vault:
                assert entries(vault) == expected
        except vaults.VaultError:
            pass
    assert sorted(folder.iterdir()) == before, 'files were left'


def filled(folder) -> list:
    """Make a vault, and one that was killed; return what is in both."""
    for name in ('v', 'killed'):
        def fill(path=folder / f'{name}.db'):
            vault = vaults.Vault(path)
            vault.update({n: 'x' * n for n in range(50)})
            vault.close() if path.name == 'v.db' else os._exit(0)
        assert not forked(fill)
    assert (folder / 'killed.db-wal').exists()
    return [(n, 'x' * n) for n in range(50)]


def report(status, what) -> None:
    print(f'BROKE {what}: see above' if status else f'{what}: read, and all else refused', flush=True)


def of_folder(parts, options, rng) -> None:
    parts.fresh()
    expected, user = filled(parts.folder), 65534
    is_root = not os.geteuid()

    def try_it() -> None:
        if is_root:  # as another user it may not be able to read the package
            for module in pkgutil.walk_packages(vaults.__path__, 'vaults.'):
                if module.name not in ('vaults.__main__', 'vaults.testing'):
                    importlib.import_module(module.name)
            os.setresuid(user, user, user)
        unwritable(parts.folder, expected)
    for path in itertools.islice(parts.folder.parents, 3):
        path.chmod(0o755)
    parts.folder.chmod(0o555)
    if is_root and forked(lambda: [os.setresuid(user, user, user), os.listdir(parts.folder)]):
        print('a folder without permission to write: left out, root has no permissions and others cannot get at it')
    else:
        report(forked(try_it), 'a folder without permission to write')
    parts.folder.chmod(0o755)


def of_read_only(parts, options, rng) -> None:
    parts.fresh()
    expected = filled(parts.folder)
    mount = ['mount', '-o', 'remount,ro', options.folder]
    if subprocess.call(mount):
        print('a file system that can only be read: left out, it may not be mounted so')
        return
    report(forked(lambda: unwritable(parts.folder, expected)), 'a file system that can only be read')
    subprocess.check_call([*mount[:2], 'remount,rw', options.folder])


# --- other stores -------------------------------------------------------------------------------------------------

PUTS = [(f'key {number % 70}', {'n': number, 'text': 'x' * (number * 37 % 900)}) for number in range(150)]
FULL = 10  # puts while there is no room


def loop(name, folder, fault, at, tell) -> None:
    """Put one after another, with no room for a while from the fault on; tell what was acknowledged."""
    store, full, acknowledged, tried, raised, after = open_store(name, folder), None, {}, {}, 0, 0
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
        except Exception:
            raised += 1
            after += full is not None and number >= full + FULL
        else:
            acknowledged[key], tried[key] = value, []
    fault.release()
    try:
        store.close()
    except Exception as error:
        tell(['close', repr(error)])
    tell(['done', acknowledged, tried, raised, after])


def found(name, folder, acknowledged, tried, tell) -> None:
    """Read what there is, in a process of its own; tell how many of the acknowledged writes are lost."""
    store, lost = open_store(name, folder), 0
    for key, value in acknowledged.items():
        try:
            lost += store.db[key] not in [value, *tried[key]]
        except Exception:
            lost += 1
    tell(['lost', lost])


def told(work, *arguments) -> dict:
    """Do `work(tell, *arguments)` in a process of its own; return what it told, by kind."""
    read, write = os.pipe()
    with os.fdopen(read) as pipe:
        def child():
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            with os.fdopen(write, 'w') as file:
                work(lambda message: print(json.dumps(message), file=file, flush=True), *arguments)

        def receive():
            os.close(write)
            messages.update((message[0], message[1:]) for message in map(json.loads, pipe))
        messages = {}
        forked(child, receive)
        return messages


def of_store(parts, options, rng) -> None:
    """Run the loop with one store and count what the full disk did to it."""
    name, disk, total = options.store, Disk(), collections.Counter()

    def counting(tell):
        disk.watch(parts.folder)
        loop(name, parts.folder, CallFails(disk, 'write', 1 << 40, 'ENOSPC', 'on'), 0, lambda _: None)
        tell(['writes', disk.counts()['write']])
    parts.fresh()
    writes = told(counting)['writes'][0]
    faults = [(0, CallFails(disk, 'write', number + 1, 'ENOSPC', 'on')) for number in range(writes)]
    rng.shuffle(faults)
    faults = faults[:options.rounds or None]
    if options.mounted:
        faults += [(rng.randrange(len(PUTS) - FULL), FullDisk(parts.folder.parent, rng.randrange(9))) for _ in range(few(options))]
    for at, fault in faults:
        parts.fresh()
        disk.watch(parts.folder)
        messages = told(lambda tell, at=at, fault=fault: loop(name, parts.folder, fault, at, tell))
        fault.release()
        total['crashed or hung'] += 'done' not in messages
        total['failed to close'] += 'close' in messages
        if 'done' in messages:
            acknowledged, tried, raised, after = messages['done']
            total['raised'] += raised
            total['stuck'] += bool(after)
            messages = told(lambda tell, *written: found(name, parts.folder, *written, tell), acknowledged, tried)
            total['acknowledged'] += len(acknowledged)
            total['unreadable'] += 'lost' not in messages
            total['lost'] += messages['lost'][0] if 'lost' in messages else len(acknowledged)
    print(f'{name}: no room at {len(faults)} moments ({writes} write calls in the loop): {total["raised"]} puts raised, '
          f'{total["lost"]} of {total["acknowledged"]} acknowledged entries lost, {total["unreadable"]} files unreadable, '
          f'{total["crashed or hung"]} processes crashed or hung, {total["stuck"]} could not go on with room, '
          f'{total["failed to close"]} failed to close', flush=True)
    if name == 'vaults' and total['lost'] + total['unreadable'] + total['crashed or hung'] + total['stuck']:
        print('BROKE vaults: see above')


# --- the command --------------------------------------------------------------------------------------------------

PARTS = {'calls': of_calls, 'files': of_files, 'handles': of_handles, 'folder': of_folder, 'tmpfs': of_tmpfs,
         'read-only': of_read_only, 'store': of_store}
MOUNT = 'mount -t tmpfs -o size=8m tmpfs "$0" && exec "$@"'


def run_part(options) -> None:
    with tempfile.TemporaryDirectory(dir=options.folder) as top:
        parts = Parts(pathlib.Path(top).resolve(), options)
        PARTS[options.part](parts, options, random.Random(f'{options.part} {options.seed}'))


def built(folder: pathlib.Path) -> str:
    """Build the shim; return its path, or '' when that cannot be."""
    shim = str(folder / 'disk.so')
    compiler = shutil.which('cc')
    if not compiler or not sys.platform.startswith('linux'):
        return ''
    command = [compiler, '-shared', '-fPIC', '-O1', '-o', shim, str(HERE / 'disk.c'), '-ldl']
    return shim if not subprocess.call(command) else ''


def mounting(folder: pathlib.Path) -> list:
    """Return the command before one that is to find a small tmpfs at the folder; [] when that may not be."""
    for how in ('-m', '-Urm'):
        command = ['unshare', how, 'sh', '-c', MOUNT, str(folder)]
        if shutil.which('unshare') and not subprocess.call([*command, 'true'], stderr=subprocess.DEVNULL):
            return command
    return []


def main() -> None:
    trial = Trial(__doc__, rounds=16, stores=True)
    for name in ('--part', '--folder', '--step'):
        trial.parser.add_argument(name, help=argparse.SUPPRESS)
    for name in ('--mounted', '--verbose'):
        trial.parser.add_argument(name, action='store_true', help=argparse.SUPPRESS)
    options = trial.begin()
    if options.part:
        run_part(options)
        return
    with tempfile.TemporaryDirectory() as work:
        folder = pathlib.Path(work).resolve()
        disk = folder / 'disk'
        disk.mkdir()
        shim, mount = built(folder), mounting(disk)
        for name in PARTS if options.store == 'vaults' else ('store',):
            if name in ('calls', 'store') and not shim:
                print(f'{name}: left out, because there is no C compiler or this is not Linux')
            elif name in ('tmpfs', 'read-only') and not mount:
                print(f'{name}: left out, because no tmpfs may be mounted here')
            else:
                prefix = mount if name in ('tmpfs', 'read-only', 'store') else []
                part(trial, name, [*prefix, sys.executable, __file__, '--part', name, '--folder', str(disk), *sys.argv[1:],
                                   *(['--mounted'] if prefix else [])], shim)
    trial.end('a full and a failing disk')


def part(trial, name, command, shim) -> None:
    """Run a part in a process of its own."""
    environment = {**os.environ, 'LD_PRELOAD': shim} if name in ('calls', 'store') else os.environ
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, universal_newlines=True) as running:
        for line in running.stdout:
            if line.startswith('BROKE '):
                trial.broke(line[len('BROKE '):].rstrip())
            else:
                print(line, end='', flush=True)
    if running.returncode:
        trial.broke(f'the part {name} ended with {running.returncode}')


if __name__ == '__main__':
    main()
