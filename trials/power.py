"""Cut the power of a writer: rebuild what a disk may hold afterwards, and look whether the vault kept its promises.

    python trials/power.py [--rounds N] [--seed S] [--disks N]

Each round is one writer, whose every write, sync and change of a name is recorded by a library in C (power.c, compiled
here and loaded with LD_PRELOAD), together with the moment each of its steps has returned. From that record the trial
rebuilds disks as a power cut may leave them: all that was synced is there; each 512-byte sector that was written since
is as it was at any moment since the last sync of its file, so that writes are lost, out of order and torn; files have
any size they had since; new space that was not written holds zeros or garbage; names are changed or not, in any order,
and only a sync of the folder makes them last, not that of a file. Then the vault must open, pass its
`_check()`, hold what a dict holds after some whole step, in order, and take new writes. With synchronous='FULL' that
step is the last one that has returned or the one under way; with 'NORMAL' it is not before the last sync(). A backup or
export that has returned is there, whole. On one of the disks another writer goes on, and its power is cut as well.

A record must lead to the very files that the writer left, or a write has escaped it and the trial fails.
"""
from __future__ import annotations

import collections
import contextlib
import itertools
import json
import os
import pathlib
import random
import shutil
import struct
import tempfile

from shared import IN_MEMORY, TRIALS
from shared.model import OPERATIONS, Draw, Model, Operation, digest, do, entries
from shared.processes import as_role, compiled, role, run
from shared.verdict import Trial

from vaults import Vault, moving
from vaults.stores.sqlite import checkpoint, connection, statements, transactions

SECTOR, PAGE = 512, 4096    # bytes; the kernel writes whole pages
STEPS, AGAIN = 150, 25      # of a writer, and of the one that goes on after a cut


# --- the writer ---------------------------------------------------------------------------------------------------

# How a writer opens its vault. The rounds go through these plans in turn.
Plan = collections.namedtuple('Plan', 'synchronous journal writeback', defaults=('NORMAL', 'wal', False))
PLANS = (Plan(), Plan('FULL'), Plan(), Plan(journal='rollback'), Plan(writeback=True), Plan('FULL', 'rollback'))
OPERATIONS.update({
    'mutate': Operation(lambda target, key, number: target[key].update(n=number), lambda draw: (draw.key(), draw.rng.random())),
    **dict.fromkeys(('reader', 'reopen', 'close'), Operation(lambda target: None)),
    'backup': Operation(lambda target, number: None, lambda draw: (draw.rng.randrange(2),))})
OFTEN = dict(dict.fromkeys((
    'del', 'pop_many', 'popitem', 'move', 'put_many', 'update', 'edit', 'failing block', 'stream', 'column', 'section',
    'del slice', 'backup', 'sync', 'reader', 'reopen'), 1), put=8, block=4, list=3, compact=2, clear=0.3)
OFTEN_LIVE = {'put': 8, 'mutate': 8, 'sync': 1, 'reopen': 1}  # with write-back
WRITES = ('sync', 'reopen', 'close')                         # what has been changed before
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


def steps(seed, plan, count):
    """Return steps, each one commit, in the end that of closing."""
    draw = Draw(seed, keys=150, share=0.1, many=(1, 5, 20), lengths=(1, 10, 300), pieces=(100, 5_000, 300_000))
    return [*itertools.islice(draw.steps(OFTEN_LIVE if plan.writeback else OFTEN), count), ('close',)]


class Writer:
    """Does steps to a vault. What has a method here is done by it, all else as to any vault."""

    def __init__(self, path, plan):
        self.path, self.plan, self.reading = path, plan, None
        self.vault = opened(path, plan)

    def do(self, step):
        own = getattr(self, step[0], None)
        own(*step[1:]) if own else do(self.vault, step)

    def reader(self):
        """Begin to read, or end that: until then checkpoints are partial and the log cannot start anew."""
        if self.reading:
            self.reading.close()
            self.reading = None
        elif self.plan.journal == 'wal':
            self.reading = contextlib.ExitStack()
            vault = self.reading.enter_context(contextlib.closing(Vault(self.path, flag='r')))
            len(self.reading.enter_context(vault))

    def compact(self):
        if not self.reading:
            self.vault.compact()

    def backup(self, number):
        path = self.path.with_name(f'backup {number}.db')
        if not path.exists():
            self.vault.backup(path)
            moving.export(self.vault, path.with_suffix('.jsonl'))

    def close(self):
        if self.reading:
            self.reader()
        self.vault.close()

    def reopen(self):
        self.close()
        self.vault = opened(self.path, self.plan)


@role
def write(folder, seed, plan, count):
    plan = Plan(*json.loads(plan))
    force(plan)
    writer = Writer(pathlib.Path(folder, 'cut.db'), plan)
    for step in steps(seed, plan, int(count)):
        writer.do(step)
        mark_return()


# --- the record ---------------------------------------------------------------------------------------------------

HEADER = struct.Struct('=IIQQQ')
Event = collections.namedtuple('Event', 'kind flag file at payload')  # the kinds of power.c; a payload of bytes, or of paths


def mark_return():
    """Add to the record that a step has returned. The library and this process append to one file."""
    with open(os.environ['RECORD_FILE'], 'ab', buffering=0) as record:
        record.write(HEADER.pack(ord('M'), 0, 0, 0, 0))


def recorded(library, folder, function, *arguments):
    """Run a writer in a folder; return the record of what happened there."""
    file = folder.with_name('record')
    file.unlink(missing_ok=True)
    ended = run(as_role(function, folder, *arguments),
               env=dict(os.environ, LD_PRELOAD=library, RECORD_FILE=str(file), RECORD_FOLDER=str(folder)))
    if ended.code:
        raise RuntimeError(f'a writer ended with {ended.code}: {ended.complaints}')
    record, data, at = [], file.read_bytes(), 0
    while at < len(data):
        kind, *numbers, size = HEADER.unpack_from(data, at)
        at += HEADER.size + size
        payload = data[at - size:at]
        if chr(kind) in 'OURL':
            payload = [os.path.relpath(os.fsdecode(path), folder) for path in payload.split(b'\0') if path]
        record.append(Event(chr(kind), *numbers, payload))
    return record


# --- the disk -----------------------------------------------------------------------------------------------------

class File:
    """A file on the disk: what is synced, and the changes since, each with its time, its number in the record."""

    def __init__(self, base=b''):
        self.base, self.pending = base, []

    def sync(self):
        self.base, self.pending = self.image(EVERYTHING), []

    def image(self, fate):
        """Return what is in it after a cut, as `fate` decides for its size and for each sector."""
        content, size = bytearray(self.base), len(self.base)
        for time, at, data in self.pending:
            is_grown = time <= fate.time(self, 'size')
            if data is None:
                if is_grown:  # or what was cut off comes back with the size
                    content[at:], size = bytes(max(at - len(content), 0)), at
                continue
            at, data = min(at, len(content)), bytes(max(at - len(content), 0)) + data
            end = at + len(data)
            content.extend(fate.filling(max(end - len(content), 0)))
            for sector in range(at // SECTOR, (end + SECTOR - 1) // SECTOR):
                if time <= fate.time(self, sector):
                    first, last = max(at, sector * SECTOR), min(end, (sector + 1) * SECTOR)
                    content[first:last] = data[first - at:last - at]
            size = max(size, end) if is_grown else size
        return bytes(content[:size])


class Fate:
    """What a cut does to each change that was not synced."""

    KINDS = {  # the changes of what share a fate, and how likely all of them are lost, and kept; else some, up to one of them
        'nothing': ('disk', 1, 0), 'everything': ('disk', 0, 1), 'in order': ('disk', 0, 0), 'files in order': ('file', 0.2, 0.4),
        'pages': ('page', 0.2, 0.4), 'few pages lost': ('page', 0.05, 0.9), 'few pages kept': ('page', 0.9, 0.05),
        'sectors': ('sector', 0.2, 0.4)}

    def __init__(self, rng, kind=None):
        self.rng, self.kind, self.drawn = rng, kind or rng.choice(list(self.KINDS)), {}
        self.is_garbage = rng.random() < 0.5

    def time(self, file, what):
        """Return the time of the last change that is kept, of those of a sector of a file, of its size, or of a name."""
        sharing, lost, kept = self.KINDS[self.kind]
        if sharing == 'page' and isinstance(what, int):
            what //= PAGE // SECTOR
        place = {'disk': None, 'file': id(file)}.get(sharing, (id(file), what))
        if place not in self.drawn:
            chance = self.rng.random()
            self.drawn[place] = (-1 if chance < lost else float('inf') if chance < lost + kept else
                                 self.rng.choice(file.pending)[0])
        return self.drawn[place]

    def filling(self, size):
        """What is in new space that was not written."""
        return self.rng.getrandbits(8 * size).to_bytes(size, 'big') if self.is_garbage and size else bytes(size)


EVERYTHING = Fate(random.Random(), 'everything')


class Disk:
    """One folder's files and names as a record is played; `image` tells what a cut at this moment leaves of them.

    A folder's sync makes all changes of names so far last, `with_names` that of any file as well.
    """

    def __init__(self, folder, with_names=False):
        self.files = {path.stat().st_ino: File(path.read_bytes()) for path in folder.iterdir()}
        self.synced = {path.name: self.files[path.stat().st_ino] for path in folder.iterdir()}
        self.names, self.pending, self.folders = dict(self.synced), [], set()
        self.with_names, self.now, self.returned = with_names, 0, 0

    def play(self, event):
        kind, flag, number, at, payload = event
        self.now += 1
        if kind == 'O' and flag == 2:
            self.folders.add(number)
        elif kind == 'O':
            if flag:
                self.rename({payload[0]: File()})
            self.files[number] = self.names[payload[0]]
        elif kind in 'WT':
            self.files[number].pending.append((self.now, at, payload if kind == 'W' else None))
        elif kind in 'RLU':  # of one path, or from the first to the second
            self.rename({payload[-1]: self.names[payload[0]], **({payload[0]: None} if kind != 'L' else {})})
        elif kind == 'M':
            self.returned += 1
        if kind == 'S' or (kind == 'W' and flag):
            self.sync(number)

    def rename(self, names):
        for path, file in names.items():
            self.pending.append((self.now, path, file))
            self.names[path] = file

    def sync(self, number):
        if number not in self.folders:
            self.files[number].sync()
        if number in self.folders or self.with_names:
            self.synced = dict(self.names)
            self.pending.clear()

    def image(self, fate):
        """Return the bytes of each path."""
        kept = {path: file for time, path, file in self.pending if time <= fate.time(self, f'name {time}')}
        return {path: file.image(fate) for path, file in {**self.synced, **kept}.items() if file}


def place(image, folder):
    """Write the files of a disk into a new folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for path, data in image.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)


def cuts(rng, record, disk, count):
    """Play a record; yield what so many cuts leave, the number of steps that had returned, and which cut it was.

    Cuts are anywhere, at the very beginning, or before a sync, when most is at stake.
    """
    changes = [at for at, event in enumerate(record) if event.kind != 'M']
    syncs = [at for at in changes if record[at].kind in 'SUR']
    drawn = collections.Counter(rng.choice(rng.choice((changes, changes, changes[:50], syncs or changes))) for _ in range(count))
    for moment, event in enumerate(record):
        for _ in range(drawn[moment]):
            fate = Fate(rng)
            image = disk.image(fate)
            if fate.is_garbage and 'cut.db-wal' in image:
                image['cut.db-shm'] = fate.filling(32 << 10)  # nobody syncs the shared memory: it holds anything, or is gone
            yield image, disk.returned, f'cut {moment} of {len(record)}, {fate.kind}, after step {disk.returned}'
        disk.play(event)


def escaped(disk, folder):
    """Return the files that a record does not account for: a disk that has played all of it must hold what is there."""
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob('*')
             if path.is_file() and not path.name.endswith('-shm')}
    image = disk.image(EVERYTHING)
    return sorted(path for path in {*found, *image} if found.get(path) != image.get(path))


# --- vaults -------------------------------------------------------------------------------------------------------

class Round:
    """One writer, which makes a vault or goes on with one that holds `items`, and the disks after its cuts."""

    def __init__(self, seed, plan, count, items=()):
        self.seed, self.plan, self.count, self.rng = seed, plan, count, random.Random(f'cuts {seed}')
        model, self.states, self.names, self.backups = Model(items), [digest(items)], ['opened'], {}
        for step in steps(seed, plan, count):
            if step[0] == 'backup':
                self.backups.setdefault(f'backup {step[1]}.db', len(self.names))
            do(model, step)
            is_stored = not plan.writeback or step[0] in WRITES
            self.states.append(digest(model.items()) if is_stored else self.states[-1])
            self.names.append(step[0])

    def run(self, trial, figures, library, folder, image, count):
        """Cut the power so often. Return the disk after a cut halfway, and what the vault there holds, if it is as promised."""
        force(self.plan)
        place(image, folder / 'written')
        disk, halfway = Disk(folder / 'written'), None
        record = recorded(library, folder / 'written', write, self.seed, json.dumps(self.plan), self.count)
        figures.update(writes=sum(event.kind == 'W' for event in record), syncs=sum(event.kind == 'S' for event in record))
        for number, (image, returned, where) in enumerate(cuts(self.rng, record, disk, count)):
            place(image, folder / 'disk')
            try:
                items = self.look(folder / 'disk', returned, figures)
                halfway = (image, items) if number <= count // 2 else halfway
            except Exception as error:
                trial.broke(f'seed {self.seed}, {self.plan}, {where} ({self.names[returned]}): {error!r}')
        for path in escaped(disk, folder / 'written'):
            trial.broke(f'seed {self.seed}: {path} is not as recorded, the record is incomplete')
        return halfway

    def look(self, folder, returned, figures):
        """Return what the vault on a disk holds. Writes to it, too. Raises: where a promise broke."""
        kind = self.plan.synchronous
        synced = max(step for step in range(returned + 1) if kind == 'FULL' or self.names[step] in ('opened', 'sync'))
        with contextlib.closing(opened(folder / 'cut.db', self.plan)) as vault:
            vault._check()
            items = entries(vault)
            state = digest(items)
            found = [step for step in range(synced, min(returned + 1, len(self.states) - 1) + 1) if self.states[step] == state]
            assert found, (f'it is as after step {self.states.index(state)}, but {synced} was to last'
                           if state in self.states else 'it is as after no step')
            vault['written'] = 'after the cut'
            vault.sync()
            vault._check()
            assert vault['written'] == 'after the cut'
        for name, step in self.backups.items():
            for path in (folder / name, (folder / name).with_suffix('.jsonl')):
                assert path.exists() or step > returned, f'{path.name} had returned and is not there'
                assert not path.exists() or digest(moving.read(path)) == self.states[step], f'{path.name} is not whole'
        figures.update({'disks': 1, f'lost {kind}': max(returned - found[-1], 0),
                        f'returned {kind}': returned - (synced if kind == 'NORMAL' else 0)})
        return items


def cut_vaults(trial, folder, library):
    """Do the rounds with vaults; return the line of figures."""
    options, figures = trial.options, collections.Counter()
    for number in range(options.rounds):
        seed, plan, run = f'{options.seed}.{number}', PLANS[number % len(PLANS)], (trial, figures, library, folder)
        halfway = Round(seed, plan, STEPS).run(*run, {}, options.disks)
        if halfway:
            image = {path: data for path, data in halfway[0].items() if path in ('cut.db', 'cut.db-wal', 'cut.db-journal')}
            Round(f'{seed} again', plan, AGAIN, halfway[1]).run(*run, image, options.disks // 2)
            figures['again'] += options.disks // 2
    return (f'{options.rounds} writers, {figures["writes"]} writes and {figures["syncs"]} syncs recorded; {figures["disks"]} disks '
            f'after a cut, each a whole step, {figures["again"]} of them cut twice; NORMAL lost {figures["lost NORMAL"]} of '
            f'{figures["returned NORMAL"]} steps returned since the last sync(), FULL {figures["lost FULL"]} of '
            f'{figures["returned FULL"]}')


def main():
    trial = Trial(__doc__, 6)
    trial.parser.add_argument('--disks', type=int, default=60, help='after cuts of each writer; default: 60')
    trial.begin()
    with tempfile.TemporaryDirectory() as compiling, tempfile.TemporaryDirectory(dir=IN_MEMORY) as name:
        folder, library = pathlib.Path(name).resolve(), compiled(TRIALS / 'power.c', pathlib.Path(compiling))
        trial.end(cut_vaults(trial, folder, library) if library else
                  'left out: recording what a writer does needs Linux and a C compiler')


if __name__ == '__main__':
    main()
