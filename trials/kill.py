"""Kill writers with SIGKILL at random moments and look whether the vault kept its promises.

    python trials/kill.py [--rounds N] [--seed S] [--only OPERATION]

A writer process changes a vault, step by step. It says over a pipe when a step begins and, once its call has returned,
that it is done. It is killed. Then the vault must open, pass its `_check()`, and hold what a dict holds after the
acknowledged steps, in the same order, or after one step more: the one that was under way, whole. The next writer goes
on with the same file, sixteen of them with each. Half of them share it with a process that opens and closes it; on a
quarter of the files two writers do, each in a section, and one or both are killed; after some the next ones are killed
as they open the file. A backup is whole or not there under its name. Each round is about one operation, the one that
was hit least so far. What staged streams have left belongs to no entry: it may grow only where a stream was being
written, and the end sees that compact() frees it a day later.

Prints a line of figures, and where the kills fell; exits with 1 when a vault broke a promise. The same seed draws the same steps; when the kill falls is the machine's affair.
"""
from __future__ import annotations

import collections
import contextlib
import copy
import itertools
import operator
import pathlib
import random
import tempfile
import time
from unittest import mock

from shared.model import OPERATIONS, Draw, Model, Operation, digest, do, entries, pattern, settle
from shared.processes import HANGS, Process
from shared.verdict import Trial

from vaults import Vault, moving
from vaults.codecs.codes import is_header
from vaults.collections.tree import Header, Tree
from vaults.collections.upkeep import DAY
from vaults.stores.base import entries_of
from vaults.stores.sqlite.checkpoint import CHECKPOINT
from vaults.stores.sqlite.store import SQLiteStore

ENOUGH = 80  # rounds, for each operation to be hit
ON_ONE = 16  # rounds with the same file
SOURCE = {}  # what is imported: a vault and an export of it, by path, and their entries


# --- the steps that go beyond a vault ----------------------------------------------------------------------------

class KilledModel(Model):
    """A model that has backups, and vaults that are deleted."""

    def __init__(self):
        super().__init__()
        self.made = {}  # what they must hold, by path; None of one that must have gone

    def backup(self, path):
        self.made[path] = digest(self.items())


def make_and_delete(target, path):
    if isinstance(target, Model):
        target.made[path] = None
        return
    with contextlib.closing(Vault(path)) as other:
        other['first'] = 1
        other.delete_vault()


def import_(target, number):
    path, expected = [*SOURCE.items()][number]
    target.update(copy.deepcopy(expected)) if isinstance(target, Model) else moving.import_file(target, path)


def mutate(target, numbers):
    """Change live objects, and set new ones; a write-back vault writes them when its writer calls sync()."""
    for key in [f'live {number}' for number in numbers]:
        target[key].append(numbers) if key in target else operator.setitem(target, key, [])


def put_large(target, key, start):
    """Put so much that in every fourth call or so a checkpoint follows, of what the calls before have put too."""
    target[key] = pattern(start, CHECKPOINT // 4)


OPERATIONS.update({
    'backup': Operation(lambda t, path: t.backup(path), lambda draw: (draw.outside / f'{draw.rng.random()}.db',)),
    'make and delete': Operation(make_and_delete, lambda draw: (draw.outside / f'{draw.rng.random()}.db',)),
    'import': Operation(import_, lambda draw: (draw.rng.randrange(2),)),
    'sync': Operation(mutate, lambda draw: (draw.rng.sample(range(60), 20),)),
    'checkpoint': Operation(put_large, lambda draw: (draw.name('large'), draw.rng.randrange(1 << 23))),
    'reopen': Operation(lambda target: None)})  # the writer closes the vault and opens it again
AIMS = ('put', 'setdefault', 'edit', 'del', 'del slice', 'pop', 'popitem', 'move', 'put_many', 'update', 'block',
        'failing block', 'stream', 'list', 'column', 'section', 'compact', 'import', 'backup', 'make and delete', 'sync',
        'checkpoint', 'reopen', 'clear')
BETWEEN = ('put', 'put', 'put', 'put_many', 'update', 'block', 'list', 'column', 'section', 'stream', 'pop')  # what a round
# does besides, and how large: the longest lists and columns are trees of two storeys.
SIZES = {'keys': 400, 'share': 0.15, 'many': (0, 1, 10, 20, 300), 'lengths': (1, 1, 1, 10, 10, 10, 1_000, 1_000, 20_000),
         'pieces': (5, 5_000, 300_000, 3_000_000, 6_000_000)}


# --- writers, and what they leave --------------------------------------------------------------------------------

class Writer(Process):
    """A process that does steps about an operation, the aim, in a vault or a section, its home, until it is killed."""

    def __init__(self, path, home, aim, seed, outside):
        draw = Draw(seed, **SIZES)
        draw.outside = outside  # the folder of what it makes beside the vault
        self.home, self.steps = home, draw.steps({**collections.Counter(BETWEEN), aim: 4 * len(BETWEEN)})
        super().__init__(write, path, home, aim, self.steps)

    def goes_on(self, word):
        """Wait until it says a word once more."""
        while self.hear():
            pass
        self.wait_for(word, self.said.count(word) + 1)

    def judge(self, vault, model):
        """Let the model take its steps, and compare. Return what the kill fell into, the step, and whether it was done."""
        model.made.clear()
        done, is_in_checkpoint = self.said.count(b'.'), self.said.count(b'[') > self.said.count(b']')
        is_busy = self.said.count(b'(') > done
        step, was_done = settle(model, self.steps, done, entries(at_home(vault, self.home)), is_busy)
        if is_busy and step[0] == 'backup' and step[1].exists():
            do(model, step)
        if is_busy and step[0] == 'make and delete':  # whatever there is of it is a vault
            model.made.pop(step[1], None)
            with contextlib.closing(Vault(step[1])) as other:
                other._check()
                assert other.items() in ([], [('first', 1)]), 'half a vault is left of one that was deleted'
        for path, expected in [*model.made.items()][-3:]:
            if expected is None:
                assert not [*path.parent.glob(f'{path.name}*')], 'something is left of a vault that was deleted'
                continue
            with contextlib.closing(Vault(path, to_create=False)) as made:
                made._check()
                assert digest(at_home(made, self.home).items()) == expected, 'a backup is not whole'
        place = ('opening' if b'o' not in self.said else 'checkpoint' if is_in_checkpoint else 'between two' if not is_busy else
                 'put before a checkpoint' if step[0] == 'checkpoint' else step[0])
        return place, step[0], was_done


def write(path, home, aim, steps, tell):
    """Be a writer. It says `o` when the vault is open, `(` before a step and `.` after it, and [ ] for checkpoints."""
    checkpoint = SQLiteStore.checkpoint
    SQLiteStore.checkpoint = lambda *arguments: (tell(b'['), checkpoint(*arguments), tell(b']'))
    vault = opened(path, aim)
    tell(b'o')
    for step in steps:
        tell(b'(')
        if step[0] == 'reopen':
            vault.close()
            vault = opened(path, aim)
        do(at_home(vault, home), step)
        if aim == 'sync':
            vault.sync()  # what write-back has in memory is acknowledged only now
        tell(b'.')


def opened(path, aim):
    return Vault(path, timeout=HANGS, writeback=aim == 'sync', cache_size=100_000)


def at_home(vault, home):
    return vault.section(home) if home else vault


def visit(path, tell):
    """Open the vault and close it, over and over."""
    while True:
        opened(path, None).close()


def kill_writers(path, homes, aim, rng, seed, outside):
    """Let a writer go on in each home and kill them. Return them, and how many others were killed as they opened."""
    aims, openers = (aim, rng.choice(AIMS)), rng.choice((0, 0, 1, 2))
    writers = [Writer(path, home, about, f'{seed} {home}', outside) for home, about in zip(homes, aims)]
    processes = [*writers, *(Process(visit, path) for _ in range(rng.randrange(2)))]
    try:
        if rng.random() < (0.1 if path.exists() else 0.5):  # they die while they open the vault, or make it
            time.sleep(rng.uniform(0, 0.01))
        else:
            for writer in writers:
                writer.wait_for(b'o')
            time.sleep(rng.uniform(0, 0.1))
            writers[0].goes_on(b'[' if aim == 'checkpoint' else b'(')  # or mostly steps that take long were hit
            time.sleep(rng.uniform(0, rng.choice((0.0003, 0.0003, 0.01))))
        writers[0].kill()
        for other in writers[1:] if rng.random() < 0.5 else ():
            other.goes_on(b'.')  # it must be able to, alone
        for process in processes:
            process.kill()
        for _ in range(openers):
            processes.append(Process(visit, path))
            time.sleep(rng.uniform(0, 0.01))
            processes[-1].kill()
    finally:
        for process in processes:
            process.end()
    return writers, openers


def left_over(vault):
    """Return how many parts belong to no entry."""
    store = vault._store
    used = sum(1 for _, data in entries_of(store.scan()) if is_header(data) for _ in Tree(store, Header.of(data)).numbers())
    return sum(1 for owner in store.chunk_owners() for _ in store.chunk_numbers(owner)) - used


class File:
    """A vault's file, over which writers are killed in one round after another, and the models of its homes."""

    def __init__(self, folder, homes):
        self.folder, self.path, self.left = folder, folder / 'killed.db', 0
        self.models = {home: KilledModel() for home in homes}

    def kill(self, aim, rng, seed, figures, hits):
        """Do a round, and count. Raises: an error when a promise broke."""
        with tempfile.TemporaryDirectory(dir=self.folder) as outside:
            writers, openers = kill_writers(self.path, self.models, aim, rng, seed, pathlib.Path(outside))
            with contextlib.closing(Vault(self.path)) as vault:
                vault._check()
                places, under_way, done = zip(*(writer.judge(vault, self.models[writer.home]) for writer in writers))
                assert len(vault) == sum(map(len, self.models.values())), 'there are entries that nobody has put'
                left, self.left = self.left, left_over(vault)
                assert self.left <= left or 'stream' in under_way, f'{self.left - left} parts without an entry, of {under_way}'
        hits.update(places)
        figures.update(openers=openers, writers=len(writers), more=sum(done), steps=sum(one.said.count(b'.') for one in writers))

    def end(self):
        """Two days later compact() frees what is left of streams, and nothing else. Return how many parts that were."""
        with contextlib.closing(Vault(self.path)) as vault, mock.patch('time.time', return_value=time.time() + 2 * DAY):
            vault.compact()
            vault._check()
            assert not left_over(vault), 'compact() has left parts without an entry'
            for home, model in self.models.items():
                assert entries(at_home(vault, home)) == entries(model), 'compact() has changed the vault'
        return self.left


def kill_vaults(trial, options, folder):
    """Do rounds until a promise breaks, and return the figures."""
    rng, hits, figures = random.Random(f'kill {options.seed}'), collections.Counter(), collections.Counter()
    with contextlib.closing(Vault(folder / 'source.db')) as source:  # which is imported, and has everything in it
        for step in itertools.islice(Draw('source', **SIZES).steps(collections.Counter(BETWEEN)), 200):
            do(source, step)
        moving.export(source, folder / 'source.jsonl')
        SOURCE.update({folder / name: entries(source) for name in ('source.db', 'source.jsonl')})
    aims, aim = options.only or AIMS, ''
    try:
        for number in range(options.rounds):
            if number % ON_ONE == 0:
                file = File(pathlib.Path(tempfile.mkdtemp(dir=folder)), rng.choice([(None,)] * 3 + [('left', 'right')]))
            aim = min(aims, key=hits.__getitem__)
            file.kill(aim, rng, f'{options.seed}.{number}', figures, hits)
            if number % ON_ONE == ON_ONE - 1:
                figures['left'] += file.end()
        assert options.rounds < ENOUGH or hits.keys() >= {*aims}, f'no kill fell into {({*aims} - {*hits})}'
    except Exception as error:  # whatever a vault raises that is not as it should be
        trial.broke(f'round {number} of seed {options.seed}, about {aim}: {error!r}')
    return (f'{options.rounds} rounds, {figures["writers"]} writers killed, and {figures["openers"]} others as they '
            f'opened what was left; {figures["steps"]:,} steps acknowledged, {figures["more"]} more there whole, '
            f'{len(trial.broken)} promises broken; {figures["left"]} parts of streams left, and freed\n'
            f'killed in: {", ".join(f"{name} {count}" for name, count in hits.most_common())}')


def main():
    trial = Trial(__doc__, rounds=80)
    trial.parser.add_argument('--only', choices=AIMS, metavar='OPERATION', action='append',
                              help=f'what the rounds are about, may be repeated: {", ".join(AIMS)}')
    options = trial.begin()
    with tempfile.TemporaryDirectory() as folder:
        trial.end(kill_vaults(trial, options, pathlib.Path(folder)))


if __name__ == '__main__':
    main()
