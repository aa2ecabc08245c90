"""Kill writers with SIGKILL at random moments and look whether the vault kept its promises.

    python trials/kill.py [--rounds N] [--seed S] [--only OPERATION]
    python trials/kill.py --simple [--store NAME] [--rounds N] [--seed S]

A writer process changes a vault, step by step. It says over a pipe when a step begins and, once its call has returned,
that it is done. It is killed. Then the vault must open, pass its `_check()`, and hold what a dict holds after the
acknowledged steps, in the same order, or after one step more: the one that was under way, whole. The next writer goes
on with the same file, so that all of them together see many checkpoints. Half of them share it with a process that
opens and closes it; in a quarter of the rounds two writers do, each in a section, and one or both are killed; after
some the next ones are killed as they open the file. A backup is whole or not there under its name, and so is a new
vault. Each round is about one operation, the one that was hit least so far. What staged streams have left belongs to
no entry: it may grow only where a stream was being written, and the end sees that compact() frees it a day later.

--simple is what every store can do: put, overwrite and delete small values under text keys, a new file in each round.
The acknowledged writes are counted that are not there afterwards, and the files that do not open, or cannot be walked.
Prints a line of figures, and where the kills fell; exits with 1 when a vault broke a promise. What another store loses
is a figure.

The same seed draws the same steps. When the kill falls, and so how many of them are done, is the machine's affair.
"""
from __future__ import annotations

import collections
import contextlib
import itertools
import pathlib
import random
import shutil
import tempfile
import time
from unittest import mock

from shared.model import MISSING, OPERATIONS, Draw, Model, Operation, do, entries, pattern, settle
from shared.processes import HANGS, Process, ask
from shared.stores import open_store
from shared.verdict import Trial

from vaults import Vault, moving
from vaults.codecs.codes import is_header
from vaults.collections.tree import Header, Tree
from vaults.collections.upkeep import DAY
from vaults.stores.sqlite.checkpoint import CHECKPOINT
from vaults.stores.sqlite.store import SQLiteStore

ENOUGH = 80  # rounds, for each operation to be hit
OUTSIDE = 'outside'  # the folder of what a step makes beside the vault
SOURCES: dict = {}  # what can be imported: by path, the entries


# --- the steps that go beyond a vault ----------------------------------------------------------------------------

class KilledModel(Model):
    """A model that knows what was `made` beside it: by name, the entries of a backup, or () of another vault."""

    def __init__(self):
        super().__init__()
        self.made = {}


def beside(target, name):
    return pathlib.Path(target.db_path).parent / OUTSIDE / name


def backup(target, name):
    if isinstance(target, Model):
        target.made[name] = entries(target)
    else:
        target.backup(beside(target, name))


def create(target, name):
    """Make another vault, and delete it."""
    if isinstance(target, Model):
        target.made[name] = None
    else:
        with contextlib.closing(Vault(beside(target, name))) as other:
            other['first'] = 1
            other.delete_vault()


def import_(target, number):
    path = sorted(SOURCES)[number]
    target.update(SOURCES[path]) if isinstance(target, Model) else moving.import_file(target, path)


def mutate(target, keys, number, pairs):
    """Change live objects and set new ones; only a write-back vault keeps that, and writes it."""
    for value in [target.get(key) for key in keys]:
        if isinstance(value, dict):
            value['n'] = number
    for key, value in pairs:
        target[key] = value
    target.sync()


def compact(target, clears):
    if clears:  # the file shrinks, to grow again
        target.clear()
    target.compact()


def put_large(target, key, start):
    """Put so much that in every fourth call or so a checkpoint follows, of what the calls before have put too."""
    target[key] = pattern(start, CHECKPOINT // 4)


def draw_name(draw):
    return (f'{draw.rng.random()}.db',)


OPERATIONS.update({
    'backup': Operation(backup, draw_name),
    'create': Operation(create, draw_name),
    'import': Operation(import_, lambda draw: (draw.rng.randrange(2),)),
    'sync': Operation(mutate, lambda draw: ([draw.key() for _ in range(20)], draw.rng.random(), draw.pairs())),
    'compact': Operation(compact, lambda draw: (draw.rng.random() < 0.1,)),
    'checkpoint': Operation(put_large, lambda draw: (draw.name('large'), draw.rng.randrange(1 << 23))),
    'reopen': Operation(lambda target: None)})  # the writer closes the vault and opens it again
AIMS = ('put', 'setdefault', 'edit', 'del', 'del slice', 'pop', 'popitem', 'move', 'put_many', 'update', 'block',
        'failing block', 'stream', 'list', 'column', 'section', 'compact', 'import', 'backup', 'create', 'sync', 'checkpoint',
        'reopen')
BETWEEN = ('put', 'put', 'put', 'put_many', 'update', 'block', 'list', 'column', 'section', 'stream', 'pop')  # what a round
# does besides, and how large: the longest lists and columns are trees of two storeys.
SIZES = {'keys': 1_000, 'share': 0.15, 'many': (0, 1, 10, 20, 300), 'lengths': (1, 1, 1, 10, 10, 10, 1_000, 1_000, 20_000),
         'pieces': (5, 5_000, 300_000, 3_000_000, 6_000_000)}


def steps(aim, seed):
    """Yield the steps of a round about the operation `aim`."""
    return Draw(seed, **SIZES).steps({**collections.Counter(BETWEEN), aim: 4 * len(BETWEEN)})


# --- writers, and what they leave --------------------------------------------------------------------------------

class Writer(Process):
    """A process that writes to a vault or, when it has a home, to a section of it, until it is killed."""

    def __init__(self, path, home, aim, seed):
        self.home, self.steps = home, steps(aim, seed)
        super().__init__(write, path, home, aim, self.steps)

    @property
    def done(self):
        """The number of steps that it has acknowledged."""
        return self.said.count(b'.')

    @property
    def is_busy(self):
        """Whether a step was under way."""
        return self.said.count(b'(') > self.done

    def was_in(self, step):
        """Return what the kill fell into, when that was the next step."""
        if b'o' not in self.said:
            return 'opening'
        if self.said.count(b'[') > self.said.count(b']'):
            return 'checkpoint' if step == 'checkpoint' else f'checkpoint of {step}'
        return 'between two' if not self.is_busy else step if step != 'checkpoint' else 'put before a checkpoint'


def write(path, home, aim, steps, tell):
    """Be a writer. It says `o` when the vault is open, `(` before a step and `.` after it, and [ ] for checkpoints."""
    checkpoint = SQLiteStore.checkpoint

    def told(*arguments):
        tell(b'[')
        try:
            checkpoint(*arguments)
        finally:
            tell(b']')
    SQLiteStore.checkpoint = told
    vault = opened(path, aim)
    tell(b'o')
    for step in steps:
        tell(b'(')
        if step[0] == 'reopen':
            vault.close()
            vault = opened(path, aim)
        target = at_home(vault, home)
        do(target, step)
        if aim == 'sync':
            target.sync()  # what write-back has in memory is acknowledged only now
        tell(b'.')


def opened(path, aim):
    return Vault(path, timeout=HANGS, writeback=aim == 'sync', cache_size=100_000)


def at_home(vault, home):
    return vault.section(home) if home else vault


def visit(path, tell):
    """Open the vault and close it, over and over."""
    while True:
        with contextlib.closing(Vault(path, timeout=HANGS)) as vault:
            len(vault)
        tell(b'o')


def kill_writers(path, homes, aim, rng, seed):
    """Let a writer go on in each home and kill them. Return them, and how many others were killed as they opened."""
    writers = [Writer(path, *of) for of in zip(homes, (aim, rng.choice(AIMS)), (f'{seed} 1', f'{seed} 2'))]
    processes = [*writers, *(Process(visit, path) for _ in range(rng.randrange(2)))]
    try:
        if rng.random() < 0.1:  # they die while they open the vault
            time.sleep(rng.uniform(0, 0.01))
        else:
            for writer in writers:
                writer.wait_for(b'o')
            if aim == 'checkpoint':  # most of that step goes before it
                writers[0].wait_for(b'[')
            time.sleep(rng.uniform(0, 0.01 if aim == 'checkpoint' else 0.1))
        writers[0].kill()
        for other in writers[1:] if rng.random() < 0.5 else ():
            other.hear_all()
            other.wait_for(b'.', other.done + 1)  # it must be able to go on alone
        for process in processes:
            process.kill()
        openers = rng.choice((0, 0, 1, 2))
        for _ in range(openers):
            processes.append(Process(visit, path))
            time.sleep(rng.uniform(0, 0.01))
            processes[-1].kill()
    finally:
        for process in processes:
            process.end()
    return writers, openers


def follow(writer, model, found):
    """Let the model take the steps of a killed writer; return the name of the one under way, and whether it was done.

    Also returns the names of what was acknowledged beside the vault.
    """
    model.made.clear()
    step, was_done = settle(model, writer.steps, writer.done, found, writer.is_busy)
    acknowledged = {*model.made}
    if writer.is_busy and step[0] in ('backup', 'create'):
        do(model, step)
    return step[0], was_done, acknowledged


def check_beside(folder, writer, model, acknowledged):
    """Look at the backups and other vaults that a writer has made: the last is whole, or not there."""
    for name, expected in [*model.made.items()][-3:]:
        path = folder / name
        if expected is None and name in acknowledged:
            assert not [*folder.glob(f'{name}*')], 'what was deleted is there'
        elif path.exists() or expected is None:
            with contextlib.closing(Vault(path)) as vault:
                vault._check()
                found = entries(at_home(vault, writer.home))
            assert found == expected or (expected is None and found in ([], [('first', 1)])), f'{name} is not whole'
        else:
            assert name not in acknowledged, 'a backup is missing'


def left_over(vault):
    """Return how many parts belong to no entry."""
    store = vault._store
    datas = itertools.chain.from_iterable(page[1] for page in store.scan())
    used = sum(1 for data in datas if is_header(data) for _ in Tree(store, Header.of(data)).numbers())
    return sum(1 for owner in store.chunk_owners() for _ in store.chunk_numbers(owner)) - used


class File:
    """A vault's file, over which writers are killed in one round after another, and the models of their homes."""

    def __init__(self, folder, homes):
        self.path, self.outside = pathlib.Path(folder, 'killed.db'), pathlib.Path(folder, OUTSIDE)
        self.models, self.left = {home: KilledModel() for home in homes}, 0

    def kill(self, aim, rng, seed):
        """Do a round; return its figures, and what each kill fell into. Raises: an error when a promise broke."""
        self.outside.mkdir()
        writers, openers = kill_writers(self.path, self.models, aim, rng, seed)
        figures, places, under_way = collections.Counter(openers=openers, writers=len(writers)), [], []
        with contextlib.closing(Vault(self.path)) as vault:
            vault._check()
            for writer in writers:
                model = self.models[writer.home]
                name, was_done, acknowledged = follow(writer, model, entries(at_home(vault, writer.home)))
                check_beside(self.outside, writer, model, acknowledged)
                figures.update(steps=writer.done, more=was_done)
                under_way.append(name)
                places.append(writer.was_in(name))
            assert len(vault) == sum(map(len, self.models.values())), 'there are entries that nobody has put'
            left, self.left = self.left, left_over(vault)
            assert self.left <= left or 'stream' in under_way, f'{self.left - left} parts without an entry, of {under_way}'
        shutil.rmtree(self.outside)
        return figures, places

    def end(self):
        """Two days later compact() frees what is left of streams, and nothing else. Return how many parts that were."""
        later = time.time() + 2 * DAY
        with contextlib.closing(Vault(self.path)) as vault, mock.patch('time.time', lambda: later):
            vault.compact()
            vault._check()
            assert not left_over(vault), 'compact() has left parts without an entry'
            for home, model in self.models.items():
                assert entries(at_home(vault, home)) == entries(model), 'compact() has changed the vault'
        return self.left


def make_sources(folder):
    """Make what is imported: an export with everything in it, and a vault."""
    source, exported = folder / 'source.db', folder / 'source.jsonl'
    with contextlib.closing(Vault(source)) as vault:
        vault.update((f'key {number}', [number, f'value {number}']) for number in range(500, 2_000))
        vault.list('imported list').extend(range(3_000))
        vault.column('imported column', 'int64').extend(range(10_000))
        with vault.open('imported stream', 'wb') as file:
            file.write(pattern(0, 600_000))
        moving.export(vault, exported)
        SOURCES.update(dict.fromkeys(map(str, (source, exported)), entries(vault)))


def kill_vaults(trial, options, folder):
    """Do the rounds with vaults, and return the figures."""
    rng, hits, figures = random.Random(f'kill {options.seed}'), collections.Counter(), collections.Counter()
    make_sources(folder)
    files, aims = {}, options.only or AIMS
    for number in range(options.rounds):
        aim = min(aims, key=hits.__getitem__)
        homes = (None,) if rng.random() < 0.75 else ('left', 'right')
        try:
            if homes not in files:
                files[homes] = File(tempfile.mkdtemp(dir=folder), homes)
            more, places = files[homes].kill(aim, rng, f'{options.seed}.{number}')
            figures.update(more)
            hits.update(places)
        except Exception as error:
            trial.broke(f'round {number} of seed {options.seed}, about {aim}: {error!r}')
            files.pop(homes, None)
    for file in files.values():
        try:
            figures['left'] += file.end()
        except AssertionError as error:
            trial.broke(f'at the end, with seed {options.seed}: {error}')
    unhit = [name for name in aims if not hits[name]]
    if unhit and options.rounds >= ENOUGH:
        trial.broke(f'no kill fell into {", ".join(unhit)}')
    return (f'{options.rounds} rounds, {figures["writers"]} writers killed, and {figures["openers"]} others as they '
            f'opened what was left; {figures["steps"]:,} steps acknowledged, {figures["more"]} more there whole, '
            f'{len(trial.broken)} promises broken; {figures["left"]} parts of streams left, and freed\n'
            f'killed in: {", ".join(f"{name} {count}" for name, count in hits.most_common())}')


# --- what every store can do --------------------------------------------------------------------------------------

def simple_steps(seed):
    """Yield keys and values without end: mostly new keys, some that were there; None deletes."""
    rng, there = random.Random(seed), set()
    for number in itertools.count():
        key = f'key {number if rng.random() < 0.8 else rng.randrange(number + 1)}'
        if key in there and rng.random() < 0.5:
            there.remove(key)
            yield key, None
        else:
            there.add(key)
            yield key, {'n': number, 'text': 'x' * rng.randrange(60)}


def write_simply(store, folder, seed, tell):
    db = open_store(store, folder).db
    for key, value in simple_steps(seed):
        if value is None:
            del db[key]
        else:
            db[key] = value
        tell(b'.')


def judge(store, folder, seed, done):
    """Return how many acknowledged writes are not there. Raises: what a store does that cannot be opened or walked."""
    steps = simple_steps(seed)
    expected = dict(itertools.islice(steps, done))
    under_way, following = next(steps)
    contestant = open_store(store, folder)
    list(contestant.keys(None))

    def found(key):
        try:
            return contestant.db[key]
        except KeyError:
            return None
        except Exception:  # whatever a store raises for an entry that it cannot read
            return MISSING
    return sum(found(key) not in [value] + [following] * (key == under_way) for key, value in expected.items())


def kill_simply(store, folder, rng, seed):
    """Kill a writer of a new file; return how many writes it acknowledged, and how many are lost, None for all."""
    writer = Process(write_simply, store, folder, seed)
    try:
        writer.wait_for(b'.')
        time.sleep(rng.uniform(0, 0.25))
        writer.kill()
    finally:
        writer.end()
    done = writer.said.count(b'.')
    return done, ask(judge, store, folder, seed, done).value


def kill_store(trial, options, folder):
    """Do the rounds of --simple, and return the figures."""
    rng, figures = random.Random(f'kill {options.seed}'), collections.Counter()
    for number in range(options.rounds):
        with tempfile.TemporaryDirectory(dir=folder) as inside:
            done, lost = kill_simply(options.store, pathlib.Path(inside), rng, f'{options.seed}.{number}')
        figures.update(writes=done, lost=lost or 0, unreadable=lost is None, inside=done if lost is None else 0)
        if lost != 0 and options.store == 'vaults':
            trial.broke(f'round {number} of seed {options.seed}: {lost or "all"} of {done} lost')
    return (f'{options.store}: {options.rounds} writers killed, {figures["writes"]:,} writes acknowledged, {figures["lost"]:,} '
            f'of them lost; {figures["unreadable"]} files unreadable, with {figures["inside"]:,} acknowledged writes')


def main():
    trial = Trial(__doc__, rounds=80, stores=True)
    trial.parser.add_argument('--only', choices=AIMS, metavar='OPERATION', action='append',
                              help=f'what the rounds are about, may be repeated: {", ".join(AIMS)}')
    trial.parser.add_argument('--simple', action='store_true',
                              help='put, overwrite and delete small values; the only workload of other stores than '
                                   'vaults, whose losses are figures and not errors')
    options = trial.begin()
    with tempfile.TemporaryDirectory() as folder:
        is_simple = options.simple or options.store != 'vaults'
        figures = (kill_store if is_simple else kill_vaults)(trial, options, pathlib.Path(folder))
    trial.end(figures)


if __name__ == '__main__':
    main()
