"""Cut the power of a writer: rebuild what a disk may hold afterwards, and look whether the vault kept its promises.

    python trials/power.py [--rounds N] [--seed S] [--store NAME] [--disks N]

Each round is one writer, whose every write, sync and change of a name is recorded by a library in C (power.c, compiled
here and loaded with LD_PRELOAD), together with the moment each of its steps has returned. From that record the trial
rebuilds disks as a power cut may leave them: all that was synced is there; each 512-byte sector that was written since
is as it was at any moment since the last sync of its file, so that writes are lost, out of order and torn; files have
any size they had since; new space that was not written holds zeros or garbage; names are changed or not, in any order,
and only a sync of the folder makes them last, not that of a file. Then the vault must open, pass its
`_check()`, hold what a dict holds after some whole step, in order, and take new writes. With synchronous='FULL' that
step is the last one that has returned or the one under way; with 'NORMAL' it is not before the last sync(). Some disks
are cut again as they are recovered and written to. A backup or export that has returned is there, whole.

A record must lead to the very files that the writer left, or a write has escaped it and the trial fails. And it shows
that it can fail: on disks made as if no sync had been, promises must break. `--forget` leaves out the syncs of some
files, for seeing it red. With `--store` a peer is cut: it promises nothing here, so what it lost is only counted, and
the sync of a file makes names last too, as most file systems have it.
"""
from __future__ import annotations

import collections
import contextlib
import itertools
import json
import math
import os
import pathlib
import random
import shutil
import struct
import tempfile
import threading
from typing import NamedTuple

from shared import TRIALS
from shared.model import OPERATIONS, Draw, Model, Operation, block, digest, do, entries
from shared.processes import as_role, ask, compiled, role, run
from shared.stores import open_store
from shared.verdict import Trial

from vaults import Vault, moving
from vaults.stores.sqlite import checkpoint, connection, statements, transactions

SECTOR, BLOCK = 512, 8              # bytes; sectors in a page of the kernel, which writes whole pages
HEADER = struct.Struct('=IIQQQ')
STEPS = 150                         # of a writer
BACKUPS = 2
ENOUGH = 8                          # disks without any sync, for some of them to break a promise: more than half do
SHM = 32 << 10                      # bytes


# --- the writer ---------------------------------------------------------------------------------------------------

class Plan(NamedTuple):
    """How a writer opens its vault. The rounds go through PLANS in turn."""

    synchronous: str = 'NORMAL'
    journal: str = 'wal'
    writeback: bool = False


PLANS = (Plan(), Plan('FULL'), Plan(), Plan(journal='rollback'), Plan(writeback=True), Plan('FULL', 'rollback'))
OPERATIONS.update({
    'mutate': Operation(lambda target, key, number: target[key].update(n=number), lambda draw: (draw.key(), draw.rng.random())),
    'puts': Operation(block, lambda draw: ([draw.step('put') for _ in range(draw.rng.randrange(20))], False)),
    'thread': OPERATIONS['put'],
    'reader': Operation(lambda target: None), 'reopen': Operation(lambda target: None),
    'backup': Operation(lambda target, number: None, lambda draw: (draw.rng.randrange(BACKUPS),))})
OFTEN = dict(dict.fromkeys((
    'del', 'pop_many', 'popitem', 'move', 'put_many', 'update', 'edit', 'failing block', 'stream', 'column', 'section',
    'del slice', 'compact', 'backup', 'sync', 'reader', 'reopen', 'thread'), 1), put=8, block=4, list=3, clear=0.3)
OFTEN_LIVE = {'put': 8, 'mutate': 8, 'sync': 1, 'puts': 1, 'reopen': 1}  # with write-back
WRITES = ('sync', 'puts', 'reopen')                                     # what has been changed before
uri_of = connection.uri_of


def force(plan):
    """Have vaults checkpoint often, and do without a write-ahead log where the plan says so.

    Without locks SQLite has no log. Its unix-dotfile has none either, but there it takes its own lock for that of
    somebody who writes, and never rolls back what a cut has left (tried on 3.40).
    """
    statements.TICK = 0  # each is set where it is used
    checkpoint.CHECKPOINT = transactions.CHECKPOINT = 12 * connection.ALONE
    connection.uri_of = uri_of if plan.journal == 'wal' else lambda *uri: f'{uri_of(*uri)}&nolock=1'


def opened(path, plan):
    return Vault(path, synchronous=plan.synchronous, writeback=plan.writeback)


def steps(seed, plan):
    """Yield steps, each one commit: a block that writes back first writes what has changed before it, as sync() does."""
    often, is_clean = OFTEN_LIVE if plan.writeback else OFTEN, True
    for step in Draw(seed, keys=150, share=0.1, many=(1, 5, 20), lengths=(1, 10, 300), pieces=(100, 5_000, 300_000)).steps(often):
        if step[0] == 'puts' and not is_clean:
            yield ('sync',)
        is_clean = step[0] in WRITES
        yield step


class Writer:
    """Does steps to a vault. What has a method here is done by it, all else as to any vault."""

    def __init__(self, path, plan):
        self.path, self.plan, self.reading = path, plan, None
        self.vault = opened(path, plan)

    def do(self, step):
        own = getattr(self, step[0], None)
        own(*step[1:]) if own else do(self.vault, step)

    def thread(self, *arguments):
        """Put by another thread, which has a connection of its own."""
        other = threading.Thread(target=do, args=(self.vault, ('put', *arguments)))
        other.start()
        other.join()

    def reader(self):
        """Begin to read, or end that: until then checkpoints are partial and the log cannot start anew."""
        if self.plan.journal == 'wal' and not self.end_reader():
            self.reading = Vault(self.path, flag='r')
            len(self.reading.__enter__())

    def end_reader(self):
        reading, self.reading = self.reading, None
        if reading is not None:
            reading.__exit__(None, None, None)
            reading.close()
        return reading is not None

    def compact(self):
        self.end_reader()
        self.vault.compact()

    def backup(self, number):
        path = self.path.parent / f'backup {number}.db'
        if not path.exists():
            self.vault.backup(path)
            moving.export(self.vault, path.with_suffix('.jsonl'))

    def reopen(self):
        self.vault.close()
        self.vault = opened(self.path, self.plan)

    def close(self):
        self.end_reader()
        self.vault.close()


def mark(*words):
    """Add to the record what has returned. The library and this process append to one file."""
    text = json.dumps(words).encode()
    with open(os.environ['RECORD_FILE'], 'ab', buffering=0) as record:
        record.write(HEADER.pack(ord('M'), 0, 0, 0, len(text)) + text)


@role
def write(folder, seed, plan):
    plan = Plan(*json.loads(plan))
    force(plan)
    writer = Writer(pathlib.Path(folder, 'cut.db'), plan)
    for number, step in enumerate(itertools.islice(steps(seed, plan), STEPS), 1):
        writer.do(step)
        mark('returned', number)
    writer.close()
    mark('returned', STEPS + 1)


@role
def write_again(folder, plan):
    """Recover the vault of each folder in `folder`, and write some more."""
    plan = Plan(*json.loads(plan))
    force(plan)
    for path in sorted(pathlib.Path(folder).iterdir()):
        mark('opening', path.name)
        with contextlib.closing(opened(path / 'cut.db', plan)) as vault:
            for number in range(1, 6):
                vault[f'again {number}'] = 'x' * 1000
                mark('returned', number)
                if number == 3:
                    vault.sync()
                    mark('synced', number)


def recorded(library, folder, function, *arguments):
    """Run a writer in a folder; return the record of what happened there: (kind, flag, file, at, payload), paths relative."""
    file = folder.with_name('record')
    file.unlink(missing_ok=True)
    told = run(as_role(function, folder, *arguments),
               env=dict(os.environ, LD_PRELOAD=library, RECORD_FILE=str(file), RECORD_FOLDER=str(folder)))
    if told.code:
        raise RuntimeError(f'a writer ended with {told.code}: {told.complaints}')
    record, data, at = [], file.read_bytes(), 0
    while at < len(data):
        kind, flag, number, where, size = HEADER.unpack_from(data, at)
        payload = data[at + HEADER.size:at + HEADER.size + size]
        at += HEADER.size + size
        if chr(kind) in 'OURL':
            payload = [os.path.relpath(os.fsdecode(path), folder) for path in payload.split(b'\0') if path]
        record.append((chr(kind), flag, number, where, json.loads(payload) if chr(kind) == 'M' else payload))
    return record


# --- the disk -----------------------------------------------------------------------------------------------------

def change(content, at, data):
    """Write `data` at a position, or without data set the size."""
    if len(content) < at:
        content.extend(bytes(at - len(content)))
    if data is None:
        del content[at:]
    else:
        content[at:at + len(data)] = data


class File:
    """A file on the disk: what is synced, and the changes since, each with its time, its number in the record."""

    def __init__(self, base=b''):
        self.base, self.pending = bytearray(base), []

    def sync(self):
        for _, at, data in self.pending:
            change(self.base, at, data)
        self.pending.clear()

    def image(self, fate):
        """Return what is in it after a cut, as `fate` decides for its size and for each sector."""
        if not self.pending:
            return bytes(self.base)
        until = fate.time(self, 'size')
        content, size, versions = bytearray(self.base), len(self.base), {}
        for time, at, data in self.pending:
            if data is None and at < len(content):
                if time > until:
                    continue  # what is cut off comes back with the size
                for sector in [one for one in versions if one * SECTOR >= at]:
                    del versions[sector]
            first, last = min(at, len(content)) // SECTOR, (at + len(data or b'') + SECTOR - 1) // SECTOR
            for sector in range(first, last):
                if sector not in versions:
                    old = bytes(content[sector * SECTOR:(sector + 1) * SECTOR])
                    versions[sector] = [(-1, old + fate.filling(SECTOR - len(old)))]
            change(content, at, data)
            for sector in range(first, last):
                new = bytes(content[sector * SECTOR:(sector + 1) * SECTOR])
                versions[sector].append((time, new + bytes(SECTOR - len(new))))
            if time <= until:
                size = len(content)
        for sector, kept in versions.items():
            until = fate.time(self, sector)
            content[sector * SECTOR:(sector + 1) * SECTOR] = [data for time, data in kept if time <= until][-1]
        return bytes(content[:size])


class Fate:
    """What a cut does to each change that was not synced. `time(file, what)`: the last of its changes that is kept."""

    KINDS = ('nothing', 'everything', 'in order', 'files in order', 'pages', 'pages', 'sectors', 'sectors', 'few lost',
             'few kept')

    def __init__(self, rng, now, kind=None):
        self.rng, self.kind, self.now, self.drawn = rng, kind or rng.choice(self.KINDS), now, {}
        self.moment = rng.randrange(max(now - 200, 0), now + 1)
        chances = {'few lost': (0.05, 0.9), 'few kept': (0.9, 0.05)}
        self.lost, self.kept = chances.get(self.kind, (rng.random() / 2, 0.4))
        self.is_garbage = rng.random() < 0.5

    def time(self, file, what):
        if self.kind in ('nothing', 'everything', 'in order'):
            return {'nothing': -1, 'everything': math.inf, 'in order': self.moment}[self.kind]
        unit = what // BLOCK if isinstance(what, int) and self.kind != 'sectors' else what
        place = id(file), None if self.kind == 'files in order' else unit
        if place not in self.drawn:
            self.drawn[place] = self.draw(file.pending)
        return self.drawn[place]

    def draw(self, pending):
        chance = self.rng.random()
        if chance < self.lost:
            return -1
        return math.inf if chance < self.lost + self.kept else self.rng.choice(pending)[0]

    def filling(self, size):
        """What is in new space that was not written."""
        return self.rng.getrandbits(8 * size or 1).to_bytes(size or 1, 'big')[:size] if self.is_garbage else bytes(size)


class Disk:
    """One folder's files and names as a record is played; `image` tells what a cut at this moment leaves of them.

    A folder's sync makes all changes of names so far last, `with_names` that of any file as well.
    """

    def __init__(self, folder=None, forgotten=lambda path: False, with_names=False):
        self.files, self.folders, self.names, self.synced = {}, {}, {}, {}
        self.pending, self.mapped, self.forgotten, self.with_names, self.now = [], set(), forgotten, with_names, 0
        for path in filter(pathlib.Path.is_file, folder.rglob('*')) if folder else ():
            file = self.files[path.stat().st_ino] = File(path.read_bytes())
            self.synced[str(path.relative_to(folder))] = file
        self.names.update(self.synced)

    def play(self, event):
        kind, flag, number, at, payload = event
        self.now += 1
        if kind == 'O' and flag == 2:
            self.folders[number] = payload[0]
        elif kind == 'O' and flag == 1:
            self.files[number] = File()
            self.rename({payload[0]: self.files[number]})
        elif kind == 'O':
            self.files[number] = self.names[payload[0]]
        elif kind in 'WT':
            self.files[number].pending.append((self.now, at, payload if kind == 'W' else None))
            if flag:
                self.sync(number)
        elif kind == 'S':
            self.sync(number)
        elif kind == 'U':
            self.rename({payload[0]: None})
        elif kind in 'RL':
            self.rename({payload[1]: self.names[payload[0]], **({payload[0]: None} if kind == 'R' else {})})
        elif kind == 'X':
            self.mapped |= {path for path, file in self.names.items() if file is self.files[number]}

    def rename(self, names):
        for path, file in names.items():
            self.pending.append((self.now, path, file))
            self.names[path] = file
            if file is None:
                del self.names[path]

    def sync(self, number):
        if number in self.folders:
            inside = [(os.path.dirname(path) or '.') == self.folders[number] for _, path, _ in self.pending]
            if True in inside and not self.forgotten('folder'):
                self.settle(len(inside) - inside[::-1].index(True))
        elif not any(self.forgotten(path) for path, file in self.names.items() if file is self.files[number]):
            self.files[number].sync()
            if self.with_names:
                self.settle(len(self.pending))

    def settle(self, count):
        for _, path, file in self.pending[:count]:
            self.synced[path] = file
        del self.pending[:count]

    def image(self, fate, start=''):
        """Return the bytes of each path, of those that start so."""
        names = dict(self.synced, **{path: file for time, path, file in self.pending
                                     if time <= fate.time(self, f'name {time}')})
        return {path: file.image(fate) for path, file in names.items()
                if file is not None and path not in self.mapped and path.startswith(start)}


FORGET = {'nothing': lambda path: False, 'everything': lambda path: True, 'log': lambda path: path.endswith('-wal'),
          'main file': lambda path: path.endswith('.db'), 'journal': lambda path: path.endswith('-journal'),
          'folder': lambda path: path == 'folder'}


def place(image, folder):
    """Write the files of a disk into a new folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for path, data in image.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)


def escaped(record, folder):
    """Return the files that a record does not account for: playing all of it must lead to what is there."""
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob('*')
             if path.is_file() and not path.name.endswith('-shm')}
    disk = Disk()
    collections.deque(played(record, disk, ()), 0)
    image = disk.image(Fate(random.Random(), disk.now, 'everything'))
    return sorted(path for path in {*found, *image} if found.get(path) != image.get(path))


def cuts(rng, record, count):
    """Draw where the power is cut: anywhere, at the very beginning, or before a sync, when most is at stake."""
    changes = [at for at, event in enumerate(record) if event[0] != 'M']
    syncs = [at for at in changes if record[at][0] in 'SUR']
    return [rng.choice(rng.choice((changes, changes, changes, changes[:50], syncs))) for _ in range(count)]


def played(record, disk, drawn):
    """Play a record; yield at each cut (its moment, what the writer had said until then)."""
    said = collections.Counter()
    for moment, event in enumerate(record):
        if event[0] != 'M':
            disk.play(event)
        else:
            what, number = event[4]
            said = collections.Counter() if what == 'opening' else said
            said[what] = number
        for _ in range(drawn.count(moment)):
            yield moment, said


# --- vaults -------------------------------------------------------------------------------------------------------

class Round:
    """One writer, and the disks after its cuts."""

    def __init__(self, trial, options, figures, folder, library, number):
        self.trial, self.options, self.figures, self.folder, self.library = trial, options, figures, folder, library
        self.plan, self.seed, self.twice = PLANS[number % len(PLANS)], f'{options.seed}.{number}', []
        self.rng = random.Random(f'cuts {self.seed}')
        model, self.states, self.names, self.backups = Model(), [digest(())], ['opened'], {}
        for step in itertools.islice(steps(self.seed, self.plan), STEPS):
            do(model, step)
            is_stored = not self.plan.writeback or step[0] in WRITES
            self.states.append(digest(model.items()) if is_stored else self.states[-1])
            self.names.append(step[0])
            if step[0] == 'backup':
                self.backups.setdefault(f'backup {step[1]}.db', len(self.names) - 1)
        self.states.append(digest(model.items()))
        self.names.append('close')

    def run(self):
        force(self.plan)
        written, figures = self.folder / 'written', self.figures
        written.mkdir(parents=True)
        record = recorded(self.library, written, write, self.seed, json.dumps(self.plan))
        figures.update(writes=sum(event[0] == 'W' for event in record), syncs=sum(event[0] == 'S' for event in record),
                       begun=sum(event[0] == 'W' and event[3] == 0 and len(event[4]) == 32 for event in record))
        for path in escaped(record, written):
            self.broke(f'{path} is not as recorded, the record is incomplete')
        for disk in self.cut(record, self.options.forget, self.options.disks):
            self.try_one(*disk)
        for image, returned, _ in self.cut(record, 'everything', self.options.disks // 8):  # to show that it can fail
            figures['proofs'] += 1
            try:
                self.look(image, returned)
            except Exception:
                figures['seen'] += 1
        if self.twice:
            self.run_again()

    def cut(self, record, forgotten, count):
        """Yield what each of so many cuts leaves of the disk, the last step that had returned, and which cut it was."""
        disk = Disk(forgotten=FORGET[forgotten])
        for moment, said in played(record, disk, cuts(self.rng, record, count)):
            fate, returned = Fate(self.rng, disk.now), said['returned']
            image = disk.image(fate)
            if fate.is_garbage and 'cut.db-wal' in image:
                image['cut.db-shm'] = fate.filling(SHM)  # nobody syncs the shared memory: it holds anything, or is gone
            yield image, returned, f'cut {moment} of {len(record)}, {fate.kind}, after step {returned} ({self.names[returned]})'

    def broke(self, what):
        self.trial.broke(f'seed {self.seed}, {self.plan}, {what}')

    def try_one(self, image, returned, where):
        try:
            found, items = self.look(image, returned)
        except Exception as error:
            self.broke(f'{where}: {error!r}')
            return
        kind = self.plan.synchronous
        self.figures.update({'disks': 1, f'lost {kind}': max(returned - found, 0), f'returned {kind}': returned - (
            self.synced(returned) if kind == 'NORMAL' else 0)})
        if self.figures['disks'] % 12 == 0:
            place({path: data for path, data in image.items() if path.startswith('cut')},
                  self.folder / 'again' / str(len(self.twice)))
            self.twice.append(items)

    def synced(self, returned):
        """Return the last step that must be there."""
        if self.plan.synchronous == 'FULL':
            return returned
        return max((step for step in range(1, returned + 1) if self.names[step] == 'sync'), default=0)

    def look(self, image, returned):
        """Return the step that the vault on a disk is at, and what it holds. Writes to it, too. Raises: where a promise broke."""
        place(image, self.folder / 'disk')
        with contextlib.closing(opened(self.folder / 'disk' / 'cut.db', self.plan)) as vault:
            vault._check()
            items = entries(vault)
            found, oldest = digest(items), self.synced(returned)
            steps = [step for step in range(oldest, min(returned + 1, STEPS + 1) + 1) if self.states[step] == found]
            assert steps, (f'it is as after step {self.states.index(found)}, but {oldest} was to last'
                           if found in self.states else 'it is as after no step')
            vault['written'] = 'after the cut'
            vault.sync()
            vault._check()
            assert vault['written'] == 'after the cut'
        for name, step in self.backups.items():
            backup = self.folder / 'disk' / name
            for path, read in ((backup, read_backup), (backup.with_suffix('.jsonl'), moving.read)):
                assert path.exists() or step > returned, f'{path.name} had returned and is not there'
                if path.exists():
                    assert digest(read(path)) == self.states[step], f'{path.name} is not whole'
                    self.figures['copies'] += 1
        return steps[-1], items

    def run_again(self):
        """Cut the power of those who recover what earlier cuts have left."""
        folder = self.folder / 'again'
        disk = Disk(folder)
        record = recorded(self.library, folder, write_again, json.dumps(self.plan))
        drawn = self.rng.sample(range(len(record)), min(len(record), 6 * len(self.twice)))
        for moment, said in played(record, disk, drawn):
            if 'opening' in said:
                fate, name = Fate(self.rng, disk.now), said['opening']
                place(disk.image(fate, f'{name}/'), self.folder / 'disk')
                oldest = said['returned' if self.plan.synchronous == 'FULL' else 'synced']
                self.try_again(name, range(oldest, min(said['returned'] + 1, 5) + 1),
                               f'second cut {moment} of {len(record)}, {fate.kind}')

    def try_again(self, name, steps, where):
        items, more = self.twice[int(name)], [(f'again {number}', 'x' * 1000) for number in range(1, 6)]
        try:
            with contextlib.closing(opened(self.folder / 'disk' / name / 'cut.db', self.plan)) as vault:
                vault._check()
                found = digest(vault.items())
            assert found in [digest(items + more[:step]) for step in steps], f'it is as after none of {steps}'
            self.figures['again'] += 1
        except Exception as error:
            self.broke(f'{where}: {error!r}')


def read_backup(path):
    with contextlib.closing(Vault(path, flag='r')) as vault:
        vault._check()
        yield from vault.items()


def cut_vaults(trial, options, folder, library):
    """Do the rounds with vaults; return the line of figures."""
    figures = collections.Counter()
    for number in range(options.rounds):
        Round(trial, options, figures, folder / str(number), library, number).run()
        shutil.rmtree(folder / str(number))
    if figures['proofs'] >= ENOUGH and not figures['seen']:
        trial.broke('disks without any sync kept every promise: the trial sees nothing')
    return (f'{options.rounds} writers, {figures["writes"]} writes and {figures["syncs"]} syncs recorded, the log begun '
            f'{figures["begun"]} times; {figures["disks"]} disks after a cut, each a whole step; NORMAL lost '
            f'{figures["lost NORMAL"]} of {figures["returned NORMAL"]} steps returned since the last sync(), FULL '
            f'{figures["lost FULL"]} of {figures["returned FULL"]}; {figures["copies"]} backups and exports whole; '
            f'{figures["again"]} disks cut twice; without syncs {figures["seen"]} of {figures["proofs"]} disks broke a promise')


# --- peers --------------------------------------------------------------------------------------------------------

PEER_STEPS = 1500   # so many that SQLite checkpoints by itself
SLOW = 5            # seconds for one store to be read, which takes a fraction of one


def peer_steps(seed):
    """Yield (key, value) to put, or (key, None) to delete."""
    rng, there = random.Random(seed), set()
    for number in range(PEER_STEPS):
        key = f'key {rng.randrange(500)}'
        deletes = key in there and rng.random() < 0.2
        (there.discard if deletes else there.add)(key)
        yield key, None if deletes else {'n': number, 'text': 'x' * rng.randrange(500)}


def step_peer(db, key, value):
    if value is None:
        del db[key]
    else:
        db[key] = value


@role
def write_peer(folder, seed, name):
    contestant = open_store(name, pathlib.Path(folder))
    for number, step in enumerate(peer_steps(seed), 1):
        step_peer(contestant.db, *step)
        mark('returned', number)
    contestant.close()


def read_peer(folder, name):
    """Return what the store in a folder holds. A damaged one may end this process, or hold it up."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    contestant = open_store(name, folder)
    return {key.decode() if isinstance(key, bytes) else key: contestant.db[key] for key in list(contestant.keys({}))}


def compare(options, folder, library):
    """Count what a peer loses; return the line of figures."""
    total = collections.Counter()
    for number in range(options.rounds):
        seed, written = f'{options.seed}.{number}', folder / f'{number}' / 'written'
        written.mkdir(parents=True)
        record, rng = recorded(library, written, write_peer, seed, options.store), random.Random(f'cuts {seed}')
        disk, states, model = Disk(forgotten=FORGET[options.forget], with_names=True), [{}], {}
        for step in peer_steps(seed):
            step_peer(model, *step)
            states.append(dict(model))
        for _, said in played(record, disk, cuts(rng, record, options.disks)):
            place(disk.image(Fate(rng, disk.now)), folder / 'disk')
            judge(ask(read_peer, folder / 'disk', options.store, hangs=SLOW).value, states[:said['returned'] + 2], said['returned'], total)
        unseen = sorted({*escaped(record, written)} - {'lmdbm/lock.mdb'})
        if unseen:
            return f'{options.store} writes {", ".join(unseen)} through shared memory or past the record: left out'
    return (f'{options.store}: {total["disks"]} disks after a cut of {options.rounds} writers, {total["unreadable"]} '
            f'unreadable, {total["never"]} in a state that never was, {total["lossy"]} with the newest writes lost; of '
            f'{total["returned"]} acknowledged writes {total["lost"]} lost')


def judge(found, states, returned, total):
    at = [step for step, state in enumerate(states) if state == found]
    lost = returned if found is None else max(returned - at[-1], 0) if at else 0
    total.update(disks=1, returned=returned, unreadable=found is None, never=found is not None and not at,
                 lossy=bool(at and lost), lost=lost)


def main():
    trial = Trial(__doc__, 6, stores=True)
    trial.parser.add_argument('--disks', type=int, default=60, help='after cuts of each writer; default: 60')
    trial.parser.add_argument('--forget', default='nothing', choices=sorted(FORGET), help='syncs to leave out')
    trial.parser.add_argument('--plain', action='store_true', help='count what a vault loses as is done for a peer')
    options = trial.begin()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name).resolve()
        library = compiled(TRIALS / 'power.c', folder)
        if not library:
            trial.end('left out: recording what a writer does needs Linux and a C compiler')
        elif options.store != 'vaults' or options.plain:
            trial.end(compare(options, folder, library))
        else:
            trial.end(cut_vaults(trial, options, folder, library))


if __name__ == '__main__':
    main()
