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

import contextlib
import copy
import faulthandler
import hashlib
import json
import math
import os
import pathlib
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
from typing import NamedTuple

from shared.stores import STORES, open_store
from shared.verdict import Trial

from vaults import Vault, moving
from vaults.stores.sqlite import checkpoint, connection, statements, transactions

SECTOR, BLOCK = 512, 8              # bytes; sectors in a page of the kernel, which writes whole pages
HEAD = struct.Struct('=IIQQQ')
STEPS = 150                         # of a writer
MAX_BACKUPS = 2
ENOUGH = 8                          # disks without any sync, for some of them to break a promise: more than half do
PATIENCE = 60                       # seconds for a process that needs less than one


# --- the writer ---------------------------------------------------------------------------------------------------

class Plan(NamedTuple):
    """How a writer opens its vault. The rounds go through PLANS in turn."""

    synchronous: str = 'NORMAL'
    journal: str = 'wal'
    writeback: bool = False


PLANS = (Plan(), Plan('FULL'), Plan(), Plan(journal='rollback'), Plan(writeback=True), Plan('FULL', 'rollback'))
OPERATIONS = {
    'direct': ('put',) * 8 + ('block',) * 3 + ('append',) * 2 + (
        'delete', 'pop_many', 'popitem', 'put_many', 'update', 'edit', 'nested', 'failing', 'stream', 'change_list',
        'column', 'section', 'clear_range', 'clear', 'compact', 'backup', 'sync', 'reader', 'reopen', 'thread'),
    'writeback': ('put',) * 8 + ('mutate',) * 4 + ('sync', 'block', 'reopen')}
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


def digest(items):
    """Return what stands for the keys, the values, their types and their order."""
    plain = [(key, value.tolist() if hasattr(value, 'tolist') else value) for key, value in items]
    return hashlib.sha256(repr(plain).encode()).digest()


class Script:
    """Random steps, each one commit, done to a dict and, in the process whose power is cut, to a vault as well."""

    def __init__(self, seed, plan, path=None):
        self.rng, self.plan, self.path = random.Random(seed), plan, path
        self.model, self.vault, self.reading, self.backups = {}, None, None, 0
        if path:
            self.vault = opened(path, plan)
        self.targets = [self.model] if self.vault is None else [self.model, self.vault]
        self.stored = digest(())

    def step(self):
        """Do one step; return its name."""
        operation = self.rng.choice(OPERATIONS['writeback' if self.plan.writeback else 'direct'])
        if operation == 'block' and self.plan.writeback and self.stored != digest(self.model.items()):
            operation = 'sync'  # a block first writes what has changed before it, in a commit of its own
        getattr(self, operation)()
        if not self.plan.writeback or operation in ('sync', 'block', 'reopen'):
            self.stored = digest(self.model.items())
        return operation

    def close(self):
        self.end_reader()
        self.stored = digest(self.model.items())
        if self.vault is not None:
            self.vault.close()

    def key(self):
        number = self.rng.randrange(150)
        return (f'key {number}', number, ('key', number))[number % 3]

    def value(self):
        size = self.rng.choice((300, 9_000)) if self.rng.random() < 0.2 else 60
        return {'n': self.rng.random(), 'text': 'x' * self.rng.randrange(size), 'pair': (1, 2), 'list': []}

    def pairs(self, most=20):
        return [(self.key(), self.value()) for _ in range(self.rng.randrange(most))]

    def put(self):
        key, value = self.key(), self.value()
        for target in self.targets:
            target[key] = copy.deepcopy(value)  # a vault that writes back keeps the object

    def thread(self):
        """A put by another thread, which has a connection of its own."""
        other = threading.Thread(target=self.put)
        other.start()
        other.join()

    def mutate(self):
        keys = list(self.model)
        if keys:
            key, number = self.rng.choice(keys), self.rng.random()
            for target in self.targets:
                target[key]['list'].append(number)

    def delete(self):
        keys = list(self.model)
        if keys:
            key = self.rng.choice(keys)
            for target in self.targets:
                del target[key]

    def pop_many(self):
        wanted = [self.key() for _ in range(5)]
        for key in wanted:
            self.model.pop(key, None)
        if self.vault is not None:
            self.vault.pop_many(wanted)

    def popitem(self):
        if self.model:
            for target in self.targets:
                target.popitem()

    def put_many(self):
        pairs = self.pairs(60)
        self.model.update(pairs)
        if self.vault is not None:
            self.vault.put_many(pairs)

    def update(self):
        pairs = self.pairs()
        for target in self.targets:
            target.update(pairs)

    def block(self):
        pairs, gone = self.pairs(), self.key()
        for target in self.targets:
            with contextlib.nullcontext() if target is self.model else target:
                for key, value in pairs:
                    target[key] = copy.deepcopy(value)
                if not self.plan.writeback:
                    target.pop(gone, None)

    def nested(self):
        """A block in which an inner one is undone."""
        pairs = self.pairs()
        self.model.update(pairs)
        if self.vault is not None:
            with self.vault:
                with contextlib.suppress(ZeroDivisionError), self.vault.transaction():
                    self.vault['undone'] = 1 / len(self.vault.prefix('no such key'))
                self.vault.update(pairs)

    def failing(self):
        pairs = self.pairs()
        if self.vault is not None:
            with contextlib.suppress(ZeroDivisionError), self.vault:
                self.vault.update(pairs)
                raise ZeroDivisionError

    def edit(self):
        number = self.rng.random()
        self.model.setdefault('edited', []).append(number)
        if self.vault is not None:
            with self.vault.edit('edited', []) as numbers:
                numbers.append(number)

    def stream(self):
        """Bytes that take one row, or some leaves, whose parts are staged before the commit that makes them last."""
        key, size = f'stream {self.rng.randrange(2)}', self.rng.choice((100, 5_000, 300_000))
        data = bytes([self.rng.randrange(256)]) * self.rng.randrange(size)
        self.model[key] = data
        if self.vault is not None:
            with self.vault.open(key, 'wb') as file:
                file.write(data)

    def append(self):
        """Append to a list. To make an empty one is a step by itself."""
        key, items = f'list {self.rng.randrange(2)}', [self.rng.random() for _ in range(self.rng.randrange(1, 300))]
        self.extend(key, items, lambda: self.vault.list(key))

    def extend(self, key, items, opened):
        items = items if key in self.model else []
        self.model.setdefault(key, []).extend(items)
        if self.vault is not None:
            sequence = opened()
            if items:
                sequence.extend(items)

    def change_list(self):
        key = f'list {self.rng.randrange(2)}'
        if self.model.get(key):
            at, number = self.rng.randrange(len(self.model[key])), self.rng.random()
            for items in [self.model[key]] + ([] if self.vault is None else [self.vault.list(key)]):
                items[at:at + 3] = [number]

    def column(self):
        numbers = [self.rng.random() for _ in range(self.rng.randrange(1, 300))]
        self.extend('column', numbers, lambda: self.vault.column('column', 'float64'))

    def section(self):
        name, value = f'user {self.rng.randrange(9)}', self.value()
        self.model['users', name] = value
        if self.vault is not None:
            self.vault.section('users')[name] = value

    def clear_range(self):
        low = self.rng.randrange(150)
        for key in [key for key in self.model if isinstance(key, int) and low <= key < low + 20]:
            del self.model[key]
        if self.vault is not None:
            del self.vault[low:low + 20]

    def clear(self):
        if self.rng.random() < 0.3:
            for target in self.targets:
                target.clear()

    def compact(self):
        if self.vault is not None:
            self.end_reader()
            self.vault.compact()

    def backup(self):
        if self.backups < MAX_BACKUPS:
            self.backups += 1
            if self.vault is not None:
                path = self.path.parent / backup_name(self.backups)
                self.vault.backup(path)
                moving.export(self.vault, path.with_suffix('.jsonl'))

    def sync(self):
        if self.vault is not None:
            self.vault.sync()

    def reader(self):
        """Somebody begins to read, or ends: until then checkpoints are partial and the log cannot start anew."""
        if self.vault is None or self.plan.journal != 'wal':
            return
        if not self.end_reader():
            self.reading = self.vault._store.file.connect()
            self.reading.execute('BEGIN')
            self.reading.execute('SELECT count(*) FROM entries').fetchone()

    def end_reader(self):
        reading, self.reading = self.reading, None
        if reading:
            reading.close()
        return reading

    def reopen(self):
        if self.vault is not None:
            self.vault.close()
            self.vault = self.targets[1] = opened(self.path, self.plan)


def backup_name(number):
    return f'backup {number}.db'


def read_backup(path):
    with contextlib.closing(Vault(path, flag='r')) as vault:
        vault._check()
        yield from vault.items()


def mark(*words):
    """Add to the record what has returned. The library and this process append to one file."""
    text = json.dumps(words).encode()
    with open(os.environ['RECORD_FILE'], 'ab', buffering=0) as record:
        record.write(HEAD.pack(ord('M'), 0, 0, 0, len(text)) + text)


def write_vault(folder, seed, plan):
    force(plan)
    script = Script(seed, plan, folder / 'cut.db')
    mark('opened')
    for number in range(1, STEPS + 1):
        script.step()
        mark('returned', number)
    script.close()
    mark('returned', STEPS + 1)


def write_again(folder, plan):
    """Recover the vault of each folder in `folder`, and write some more."""
    force(plan)
    for path in sorted(folder.iterdir()):
        with contextlib.closing(opened(path / 'cut.db', plan)) as vault:
            for number in range(1, 6):
                vault[f'again {number}'] = 'x' * 1000
                mark('returned', number, path.name)
                if number == 3:
                    vault.sync()
                    mark('synced', number, path.name)


def recorded(library, record, folder, *arguments):
    """Run a writer, recording what happens in `folder`."""
    environment = dict(os.environ, LD_PRELOAD=str(library), RECORD_FILE=str(record), RECORD_FOLDER=str(folder))
    command = [sys.executable, __file__, '--write', str(folder), *map(str, arguments)]
    subprocess.run(command, env=environment, check=True, timeout=PATIENCE)
    return list(events(record, folder))


def events(record, folder):
    """Yield (kind, flag, file, at, payload) of a record; paths are relative to the folder."""
    data, at = record.read_bytes(), 0
    while at < len(data):
        kind, flag, file, where, size = HEAD.unpack_from(data, at)
        payload = data[at + HEAD.size:at + HEAD.size + size]
        at += HEAD.size + size
        if chr(kind) in 'OURL':
            payload = [os.path.relpath(os.fsdecode(path), folder) for path in payload.split(b'\0') if path]
        yield chr(kind), flag, file, where, payload


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

    def __init__(self, rng, now):
        self.rng, self.kind, self.now, self.drawn = rng, rng.choice(self.KINDS), now, {}
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


# --- vaults -------------------------------------------------------------------------------------------------------

FORGET = {'nothing': lambda path: False, 'everything': lambda path: True, 'log': lambda path: path.endswith('-wal'),
          'main file': lambda path: path.endswith('.db'), 'journal': lambda path: path.endswith('-journal'),
          'folder': lambda path: path == 'folder'}


def place(image, folder):
    """Write the files of a disk into a new folder."""
    shutil.rmtree(folder, ignore_errors=True)
    for path, data in image.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    folder.mkdir(parents=True, exist_ok=True)


def escaped(disk, folder):
    """Return the files that a record does not account for: playing all of it must lead to what is there."""
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob('*')
             if path.is_file() and not path.name.endswith('-shm')}
    played = {path: bytes(File.image(file, Everything)) for path, file in disk.names.items()}
    return sorted(path for path in {*found, *played} if found.get(path) != played.get(path))


class Everything:
    """The fate of a disk without a cut."""

    time = staticmethod(lambda file, what: math.inf)
    filling = staticmethod(bytes)


def cuts(rng, record, count):
    """Draw where the power is cut: anywhere, at the very beginning, or before a sync, when most is at stake."""
    changes = [at for at, event in enumerate(record) if event[0] != 'M']
    syncs = [at for at in changes if record[at][0] in 'SUR']
    return sorted(rng.choice(rng.choice((changes, changes, changes, changes[:50], syncs))) for _ in range(count))


class Figures:
    """What was counted over all rounds."""

    def __init__(self):
        self.disks = self.again = self.writes = self.syncs = self.resets = self.copies = self.seen = self.proofs = 0
        self.returned = {'NORMAL': 0, 'FULL': 0}
        self.lost = {'NORMAL': 0, 'FULL': 0}

    def count(self, record):
        self.writes += sum(event[0] == 'W' for event in record)
        self.syncs += sum(event[0] == 'S' for event in record)
        self.resets += sum(event[0] == 'W' and event[3] == 0 and len(event[4]) == 32 for event in record)

    def line(self, rounds):
        lost, returned = self.lost, self.returned
        return (f'{rounds} writers, {self.writes} writes and {self.syncs} syncs recorded, the log begun {self.resets} '
                f'times; {self.disks} disks after a cut, each a whole step; NORMAL lost {lost["NORMAL"]} of '
                f'{returned["NORMAL"]} steps returned since the last sync(), FULL {lost["FULL"]} of '
                f'{returned["FULL"]}; {self.copies} backups and exports whole; {self.again} disks cut twice; without syncs {self.seen} of '
                f'{self.proofs} disks broke a promise')


class Round:
    """One writer, and the disks after its cuts."""

    def __init__(self, trial, options, figures, folder, library, number):
        self.trial, self.options, self.figures, self.folder, self.library = trial, options, figures, folder, library
        self.plan = PLANS[number % len(PLANS)]
        self.seed = f'{options.seed}.{number}'
        self.rng = random.Random(f'cuts {self.seed}')
        script = Script(self.seed, self.plan)
        self.states, self.names = [script.stored], ['opened']
        for _ in range(STEPS):
            self.names.append(script.step())
            self.states.append(script.stored)
        script.close()
        self.names.append('close')
        self.states.append(script.stored)
        self.twice = []  # disks to cut once more: what the vault held on each

    def run(self):
        written = self.folder / 'written'
        written.mkdir(parents=True)
        self.record = recorded(self.library, self.folder / 'record', written, self.seed, json.dumps(self.plan))
        self.figures.count(self.record)
        whole = self.play(self.options.disks, FORGET[self.options.forget], self.try_one)
        for path in escaped(whole, written):
            self.trial.broke(f'seed {self.seed}: {path} is not as recorded, the record is incomplete')
        self.play(self.options.disks // 8, FORGET['everything'], self.prove)
        if self.twice:
            self.run_again()

    def play(self, count, forgotten, look):
        """Play the record, and look at the disk after each of `count` cuts."""
        disk, returned, at = Disk(forgotten=forgotten), 0, 0
        drawn = cuts(self.rng, self.record, count)
        for moment, event in enumerate(self.record):
            if event[0] != 'M':
                disk.play(event)
            elif json.loads(event[4])[0] == 'returned':
                returned = json.loads(event[4])[1]
            while at < count and drawn[at] == moment:
                fate = Fate(self.rng, disk.now)
                look(self.with_memory(disk.image(fate), fate), returned,
                     f'seed {self.seed}, {self.plan}, cut {moment} of {len(self.record)}, {fate.kind}, '
                     f'after step {returned} ({self.names[returned]})')
                at += 1
        return disk

    def with_memory(self, image, fate):
        """Add the file of the shared memory, which nobody syncs: it holds anything, or is gone."""
        if fate.is_garbage and 'cut.db-wal' in image:
            image['cut.db-shm'] = fate.filling(32 << 10)
        return image

    def try_one(self, image, returned, where):
        try:
            place(image, self.folder / 'disk')
            found, items = self.held(returned)
            self.look_at_backups(returned)
        except Exception as error:
            self.trial.broke(f'{where}: {error!r}')
            return
        self.figures.disks += 1
        kind = self.plan.synchronous
        self.figures.returned[kind] += returned - (self.synced(returned) if kind == 'NORMAL' else 0)
        self.figures.lost[kind] += max(returned - found, 0)
        if self.figures.disks % 12 == 0:
            place({path: data for path, data in image.items() if path.startswith('cut')},
                  self.folder / 'again' / str(len(self.twice)))
            self.twice.append(items)

    def prove(self, image, returned, where):
        """Look at a disk made as if no sync had been."""
        self.figures.proofs += 1
        place(image, self.folder / 'disk')
        try:
            self.held(returned)
            self.look_at_backups(returned)
        except Exception:
            self.figures.seen += 1

    def synced(self, returned):
        """Return the last step that must be there."""
        if self.plan.synchronous == 'FULL':
            return returned
        return max((step for step in range(1, returned + 1) if self.names[step] == 'sync'), default=0)

    def held(self, returned):
        """Return the step that the vault is at, and what it holds; raise when a promise broke. Writes to it, too."""
        with contextlib.closing(opened(self.folder / 'disk' / 'cut.db', self.plan)) as vault:
            vault._check()
            items = [(key, value.tolist() if hasattr(value, 'tolist') else value) for key, value in vault.items()]
            found, oldest = digest(items), self.synced(returned)
            steps = [step for step in range(oldest, min(returned + 1, STEPS + 1) + 1) if self.states[step] == found]
            assert steps, (f'it is as after step {self.states.index(found)}, but {oldest} was to last'
                           if found in self.states else 'it is as after no step')
            vault['written'] = 'after the cut'
            vault.sync()
            assert vault['written'] == 'after the cut'
            vault._check()
        return steps[-1], items

    def look_at_backups(self, returned):
        """Look at what was written beside the vault: backups, and the exports that follow them."""
        steps = [step for step, name in enumerate(self.names) if name == 'backup'][:MAX_BACKUPS]
        for number, step in enumerate(steps, 1):
            backup = self.folder / 'disk' / backup_name(number)
            for path, read in ((backup, read_backup), (backup.with_suffix('.jsonl'), moving.read)):
                assert path.exists() or step > returned, f'{path.name} had returned and is not there'
                if path.exists():
                    assert digest(read(path)) == self.states[step], f'{path.name} is not whole'
                    self.figures.copies += 1

    def run_again(self):
        """Cut the power of those who recover what earlier cuts have left."""
        folder = self.folder / 'again'
        disk = Disk(folder)
        record = recorded(self.library, self.folder / 'record again', folder, 'again', json.dumps(self.plan))
        drawn = set(self.rng.sample(range(len(record)), min(len(record), 6 * len(self.twice))))
        name, returned = '0', {'returned': 0, 'synced': 0}
        for moment, event in enumerate(record):
            if event[0] == 'M':
                returned[json.loads(event[4])[0]] = json.loads(event[4])[1]
            else:
                disk.play(event)
            if event[0] == 'O' and event[4][0].split('/')[0] not in (name, '.'):
                name, returned = event[4][0].split('/')[0], {'returned': 0, 'synced': 0}
            if moment in drawn:
                fate = Fate(self.rng, disk.now)
                self.try_again(disk.image(fate, f'{name}/'), name, returned,
                               f'seed {self.seed}, {self.plan}, second cut {moment} of {len(record)}, {fate.kind}')

    def try_again(self, image, name, returned, where):
        oldest = returned['returned' if self.plan.synchronous == 'FULL' else 'synced']
        steps = range(oldest, min(returned['returned'] + 1, 5) + 1)
        items, more = self.twice[int(name)], [(f'again {number}', 'x' * 1000) for number in range(1, 6)]
        try:
            place(image, self.folder / 'disk')
            with contextlib.closing(opened(self.folder / 'disk' / name / 'cut.db', self.plan)) as vault:
                vault._check()
                found = digest(vault.items())
            assert found in [digest(items + more[:step]) for step in steps], f'it is as after none of {steps}'
        except Exception as error:
            self.trial.broke(f'{where}: {error!r}')
            return
        self.figures.again += 1


# --- peers --------------------------------------------------------------------------------------------------------

PEER_STEPS = 1500   # so many that SQLite checkpoints by itself
HANGS = 5           # seconds for one store to be read, which takes a fraction of one


def peer_steps(seed):
    """Yield (key, value) to put, or (key, None) to delete."""
    rng, there = random.Random(seed), set()
    for number in range(PEER_STEPS):
        key = f'key {rng.randrange(500)}'
        if key in there and rng.random() < 0.2:
            there.discard(key)
            yield key, None
        else:
            there.add(key)
            yield key, {'n': number, 'text': 'x' * rng.randrange(500)}


def write_peer(folder, seed, name):
    contestant = open_store(name, folder)
    for number, (key, value) in enumerate(peer_steps(seed), 1):
        if value is None:
            del contestant.db[key]
        else:
            contestant.db[key] = value
        mark('returned', number)
    contestant.close()


def read_peer(folder, name):
    """Print what the store in each folder holds, a line each. A damaged one may end this process, or hold it up."""
    for path in numbered(folder):
        faulthandler.dump_traceback_later(HANGS, exit=True)
        try:
            contestant = open_store(name, path)
            found = {key.decode() if isinstance(key, bytes) else key: contestant.db[key]
                     for key in list(contestant.keys({}))}
            contestant.close()
        except BaseException as error:  # whatever a peer raises; a Rust panic is no Exception
            found = repr(error)
        print(json.dumps([path.name, found]), flush=True)


def numbered(folder):
    return sorted(folder.iterdir(), key=lambda path: int(path.name))


def answers(folder, name):
    """Return what `read_peer` says of each folder, None where it ended or did not answer."""
    said = {path.name: None for path in folder.iterdir()}
    while any(folder.iterdir()):
        command = [sys.executable, __file__, '--read', str(folder), name]
        output = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
        lines = [json.loads(line) for line in output.splitlines() if line.endswith(b']')]
        said.update(lines)
        left = [path for path in numbered(folder) if path.name not in dict(lines)]
        for path in [folder / done for done, _ in lines] + left[:1]:  # the first one left is what it could not bear
            shutil.rmtree(path)
    return said


def compare(options, folder, library):
    """Count what a peer loses; return the line of figures."""
    total = {'disks': 0, 'unreadable': 0, 'never': 0, 'lossy': 0, 'lost': 0, 'returned': 0}
    for number in range(options.rounds):
        seed, here = f'{options.seed}.{number}', folder / str(number)
        (here / 'written').mkdir(parents=True)
        record = recorded(library, here / 'record', here / 'written', seed, options.store)
        acknowledged, disk = disks_of_peer(record, random.Random(f'cuts {seed}'), here / 'disks', options)
        unseen = sorted({*disk.mapped, *escaped(disk, here / 'written')} - {'lmdbm/lock.mdb'})
        if unseen:
            return f'{options.store} writes {", ".join(unseen)} through shared memory or past the record: left out'
        states = states_of_peer(seed)
        for name, found in answers(here / 'disks', options.store).items():
            judge(found, states, acknowledged[int(name)], total)
    return (f'{options.store}: {total["disks"]} disks after a cut of {options.rounds} writers, {total["unreadable"]} '
            f'unreadable, {total["never"]} in a state that never was, {total["lossy"]} with the newest writes lost; of '
            f'{total["returned"]} acknowledged writes {total["lost"]} lost')


def disks_of_peer(record, rng, folder, options):
    disk, returned, acknowledged = Disk(forgotten=FORGET[options.forget], with_names=True), 0, []
    drawn = cuts(rng, record, options.disks)
    for moment, event in enumerate(record):
        if event[0] != 'M':
            disk.play(event)
        else:
            returned = json.loads(event[4])[1]
        for _ in range(drawn.count(moment)):
            place(disk.image(Fate(rng, disk.now)), folder / str(len(acknowledged)))
            acknowledged.append(returned)
    return acknowledged, disk


def states_of_peer(seed):
    states, model = [json.dumps({})], {}
    for key, value in peer_steps(seed):
        model[key] = value
        if value is None:
            del model[key]
        states.append(json.dumps(model, sort_keys=True))
    return states


def judge(found, states, returned, total):
    total['disks'] += 1
    total['returned'] += returned
    text = json.dumps(found, sort_keys=True)
    steps = [step for step, state in enumerate(states[:returned + 2]) if state == text]
    if not isinstance(found, dict):
        total['unreadable'] += 1
        total['lost'] += returned
    elif not steps:
        total['never'] += 1
    elif steps[-1] < returned:
        total['lossy'] += 1
        total['lost'] += returned - steps[-1]


# --- the trial ----------------------------------------------------------------------------------------------------

def compiled(folder):
    """Compile the library that records; return its path, or None where that is not possible, having said why."""
    compiler = next(filter(None, map(shutil.which, ('cc', 'gcc', 'clang'))), None)
    if not sys.platform.startswith('linux') or not compiler:
        print('left out: recording what a writer does needs', 'a C compiler' if compiler is None else 'Linux')
        return None
    library = folder / 'power.so'
    source = pathlib.Path(__file__).with_suffix('.c')
    subprocess.run([compiler, '-shared', '-fPIC', '-O1', '-o', library, source, '-ldl', '-lpthread'], check=True)
    return library


def main():
    roles = {'--write': write, '--read': lambda folder, name: read_peer(pathlib.Path(folder), name)}
    if sys.argv[1:2] and sys.argv[1] in roles:
        roles[sys.argv[1]](*sys.argv[2:])
        return
    trial = Trial(__doc__, 6, stores=True)
    trial.parser.add_argument('--disks', type=int, default=60, help='after cuts of each writer; default: 60')
    trial.parser.add_argument('--forget', default='nothing', choices=sorted(FORGET), help='syncs to leave out')
    trial.parser.add_argument('--plain', action='store_true', help='count what a vault loses as is done for a peer')
    options, figures = trial.begin(), Figures()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name).resolve()
        library = compiled(folder)
        if library is None:
            return
        if options.store != 'vaults' or options.plain:
            line = compare(options, folder, library)
        else:
            for number in range(options.rounds):
                force(PLANS[number % len(PLANS)])
                Round(trial, options, figures, folder / str(number), library, number).run()
                shutil.rmtree(folder / str(number))
            line = figures.line(options.rounds)
            if figures.proofs >= ENOUGH and not figures.seen:
                trial.broke('disks without any sync kept every promise: the trial sees nothing')
    trial.end(line)


def write(folder, seed, *rest):
    """Be a writer: of a vault, of disks that are recovered, or of a peer."""
    if rest and rest[0] in STORES:
        write_peer(pathlib.Path(folder), seed, rest[0])
        return
    plan = Plan(*json.loads(rest[0]))
    if seed == 'again':
        write_again(pathlib.Path(folder), plan)
    else:
        write_vault(pathlib.Path(folder), seed, plan)


if __name__ == '__main__':
    main()
