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
The acknowledged writes are counted that are not there afterwards: the key is missing, it raises, it has an older value
or a wrong one, or it was deleted and is back; and the files that do not open, or cannot be walked. Prints a line of
figures, and where the kills fell; exits with 1 when a vault broke a promise. What another store loses is a figure.

The same seed draws the same steps. When the kill falls, and so how many of them are done, is the machine's affair.
"""
from __future__ import annotations

import collections
import contextlib
import functools
import io
import itertools
import json
import operator
import os
import pathlib
import pickle
import random
import select
import shutil
import signal
import tempfile
import time
import traceback
from array import array
from unittest import mock

from shared.stores import open_store
from shared.verdict import Trial

from vaults import Vault, moving
from vaults.collections.tree import DAY, Head, Tree, is_head
from vaults.stores.sqlite.checkpoint import CHECKPOINT
from vaults.stores.sqlite.store import SQLiteStore

ENOUGH = 80  # rounds, for each operation to be hit
HANGS = 60  # seconds without a word from a process
SIZES = (1, 1, 1, 10, 10, 10, 1_000, 1_000, 20_000)  # the largest makes a tree of two storeys
ITEMS = [f'item {number}' for number in range(40_000)]
OUTSIDE = 'outside'  # the folder of what a step makes beside the vault
PATTERN = array('q', range(1 << 40, (1 << 40) + (1 << 21))).tobytes()
SOURCES: dict = {}  # what can be imported: by path, the pickled entries


# --- the model: a dict with what else a vault has ----------------------------------------------------------------

class Model(dict):
    """What a vault must hold after the same steps."""

    copies: tuple = ()  # (name, pickled entries) of backups
    made: tuple = ()    # names of other vaults that were made and deleted
    put_many = dict.update

    def popitem(self, last=True):
        key = next(reversed(self) if last else iter(self))
        return key, self.pop(key)

    def move_to_end(self, key, last):
        moved = {key: self.pop(key)}
        rest = {} if last else dict(self)
        for old in rest:
            del self[old]
        self.update(moved)
        self.update(rest)

    __enter__ = __exit__ = sync = compact = lambda self, *_: None

    def list(self, key, dtype=None):
        return self.setdefault(key, [])

    column = list

    def open(self, key, mode):
        return ModelFile(self, key, mode)

    def section(self, name):
        return ModelSection(self, name)

    @contextlib.contextmanager
    def edit(self, key, default):
        yield self.setdefault(key, default)

    def __delitem__(self, key):
        inside = [one for one in self if isinstance(one, str) and key.start <= one < key.stop] if isinstance(
            key, slice) else [key]
        for one in inside:
            super().__delitem__(one)


class ModelFile(io.BytesIO):
    def __init__(self, model, key, mode):
        super().__init__()
        self.model, self.key = model, key
        self.write(b'' if mode == 'wb' else model[key])
        self.seek(0, 2 if mode == 'ab' else 0)

    def __exit__(self, *error):
        self.model[self.key] = self.getvalue()


class ModelSection:
    def __init__(self, model, name):
        self.model, self.name = model, name

    def update(self, pairs):
        self.model.update(((self.name, key), value) for key, value in pairs)

    def pop(self, key, default):
        self.model.pop((self.name, key), default)

    def clear(self):
        for key in [key for key in self.model if isinstance(key, tuple) and key[0] == self.name]:
            del self.model[key]


# --- the operations: each draws one, and returns what does it to a vault, to a section, or to a model ------------

def random_key(rng):
    number = rng.randrange(1_000)
    return (f'key {number}', number, ('key', number))[number % 3]


def random_value(rng):
    size = rng.choice((3_000, 30_000)) if rng.random() < 0.15 else 60
    return {'n': rng.random(), 'text': 'x' * rng.randrange(size), 'pair': (1, 2)}


def random_pairs(rng, *sizes):
    return [(random_key(rng), random_value(rng)) for _ in range(rng.choice(sizes))]


def random_bytes(rng, size):
    """Return bytes of which hardly eight are like others, so that a piece in the wrong place shows."""
    start = rng.randrange(len(PATTERN) - size)
    return PATTERN[start:start + size]


def put(rng):
    key, value = random_key(rng), random_value(rng)
    return lambda target: operator.setitem(target, key, value)


def setdefault(rng):
    key, value = random_key(rng), random_value(rng)
    return lambda target: target.setdefault(key, value)


def edit(rng):
    key, number = f'edited {rng.randrange(20)}', rng.random()

    def change(target):
        with target.edit(key, {'seen': []}) as value:
            value['seen'] = [*value['seen'][-20:], number]
    return change


def delete(rng):
    return lambda target: operator.delitem(target, next(iter(target))) if target else None


def delete_slice(rng):
    start = f'key {rng.randrange(1_000)}'
    return lambda target: operator.delitem(target, slice(start, f'{start}a'))


def pop(rng):
    key = rng.choice((random_key(rng), random_key(rng), random_key(rng), 'list 0', 'column 0', 'stream 0'))
    return lambda target: target.pop(key, None)


def popitem(rng):
    last = rng.random() < 0.5
    return lambda target: target.popitem(last) if target else None


def move(rng):
    """Move the oldest entry to the end, or the newest to the front."""
    last = rng.random() < 0.5
    return lambda target: target.move_to_end(next(iter(target) if last else reversed(target)), last) if target else None


def put_many(rng):
    pairs = random_pairs(rng, 0, 10, 20, 300)
    return lambda target: target.put_many(iter(pairs))


def update(rng):
    pairs = random_pairs(rng, 0, 10, 20, 300)
    return lambda target: target.update(pairs)


def in_turn(rng):
    return [rng.choice((put, put, pop, a_list, a_section))(rng) for _ in range(rng.randrange(1, 20))]


def fail(changes, target):
    """Do them in a block that fails, which does nothing."""
    if not isinstance(target, Model):
        with contextlib.suppress(ZeroDivisionError), target:
            for change in changes:
                change(target)
            raise ZeroDivisionError


def block(rng):
    before, undone, after = in_turn(rng), in_turn(rng), in_turn(rng)

    def change(target):
        with target:
            for one in before:
                one(target)
            fail(undone, target)
            for one in after:
                one(target)
    return change


def failing_block(rng):
    return functools.partial(fail, in_turn(rng))


def stream(rng):
    key, mode = f'stream {rng.randrange(4)}', rng.choice(('wb', 'ab', 'r+b'))
    pieces = [random_bytes(rng, rng.choice((0, 100, 5_000, 300_000, 3_000_000))) for _ in range(rng.randrange(3))]

    def change(target):
        with target.open(key, mode if len(target.get(key, b'')) in range(1, 8_000_000) else 'wb') as file:
            for piece in pieces:
                file.write(piece)
    return change


def sequence_change(rng, items):
    """Draw a change of a list or a column."""
    one, places = items[0], (rng.random(), rng.random())

    def part(found):
        return slice(*sorted(int(place * len(found)) for place in places))
    changes = {
        'append': lambda found: found.append(one),
        'extend': lambda found: found.extend(items),
        'insert': lambda found: found.insert(part(found).start, one),
        'replace': lambda found: operator.setitem(found, part(found), items),
        'set': lambda found: operator.setitem(found, part(found).start, one) if len(found) else None,
        'delete': lambda found: operator.delitem(found, part(found)),
        'pop': lambda found: found.pop(part(found).start) if len(found) else None,
        'drop': lambda found: operator.delitem(found, slice(0, part(found).start)),
        'reverse': lambda found: found.reverse(),
        'sort': lambda found: found.sort(),
    }
    return changes[rng.choice(('append', 'extend', *changes))]


def a_list(rng):
    key, start = f'list {rng.randrange(4)}', rng.randrange(20_000)
    change = sequence_change(rng, ITEMS[start:start + rng.choice(SIZES)])
    return lambda target: change(target.list(key)) if key in target else target.list(key)


def column(rng):
    key, start = f'column {rng.randrange(4)}', rng.randrange(1_000_000)
    change = sequence_change(rng, range(start, start + 5 * rng.choice(SIZES)))
    return lambda target: change(target.column(key, 'int64')) if key in target else target.column(key, 'int64')


def a_section(rng):
    pairs, key = [(rng.randrange(1_000), random_value(rng)) for _ in range(rng.choice((1, 1, 10)))], rng.randrange(1_000)
    change = rng.choice((lambda found: found.update(pairs),) * 8 + (lambda found: found.pop(key, None),
                                                                   lambda found: found.clear()))
    return lambda target: change(target.section('key'))


def compact(rng):
    clears = rng.random() < 0.1  # the file shrinks, to grow again

    def change(target):
        if clears:
            target.clear()
        target.compact()
    return change


def import_(rng):
    path = rng.choice(sorted(SOURCES))
    return lambda target: (target.update(pickle.loads(SOURCES[path])) if isinstance(target, Model) else
                           moving.import_file(target, path))


def beside(target, name):
    return pathlib.Path(target.db_path).parent / OUTSIDE / name


def backup(rng):
    name = f'{rng.random()}.db'

    def change(target):
        if isinstance(target, Model):
            target.copies = (*target.copies[-1:], (name, pickle.dumps(list(target.items()))))
        else:
            target.backup(beside(target, name))
    return change


def create(rng):
    """Make another vault, and delete it."""
    name = f'{rng.random()}.db'

    def change(target):
        if isinstance(target, Model):
            target.made = (*target.made, name)
        else:
            with contextlib.closing(Vault(beside(target, name))) as other:
                other['first'] = 1
                other.delete_vault()
    return change


def sync(rng):
    """Change live objects and set new ones; only a write-back vault keeps that, and writes it."""
    keys, number, pairs = [random_key(rng) for _ in range(20)], rng.random(), random_pairs(rng, 0, 1, 10, 200)

    def change(target):
        for value in [target.get(key) for key in keys]:
            if isinstance(value, dict):
                value['n'] = number
        for key, value in pairs:
            target[key] = value
        target.sync()
    return change


def checkpoint(rng):
    """Put so much that in every fourth call or so a checkpoint follows, of what the calls before have put too."""
    key, data = f'large {rng.randrange(3)}', random_bytes(rng, CHECKPOINT // 4)
    return lambda target: operator.setitem(target, key, data)


def reopen(rng):
    """Close the vault and open it again, which the writer does: no step changes anything."""
    return lambda target: None


OPERATIONS = {
    'put': put, 'setdefault': setdefault, 'edit': edit, 'del': delete, 'slice': delete_slice, 'pop': pop,
    'popitem': popitem, 'move': move, 'put_many': put_many, 'update': update, 'block': block, 'failing-block': failing_block,
    'stream': stream, 'list': a_list, 'column': column, 'section': a_section, 'compact': compact, 'import': import_,
    'backup': backup, 'create': create, 'sync': sync, 'checkpoint': checkpoint, 'reopen': reopen}
BETWEEN = (put, put, put, put_many, update, block, a_list, column, a_section, stream, pop)  # what a round does besides


def draw(rng, aim):
    """Draw the next step of a round about the operation `aim`: return the operation's name and what does the step."""
    if rng.random() < 0.8:
        return aim, OPERATIONS[aim](rng)
    drawn = rng.choice(BETWEEN)
    return next(name for name, one in OPERATIONS.items() if one is drawn), drawn(rng)


# --- writers, and what they leave --------------------------------------------------------------------------------

class Process:
    """A forked process, which is to be killed, and what it has said so far over a pipe."""

    def __init__(self, function, *arguments):
        self._pipe, pipe = os.pipe()
        self.said, self._ended_by = b'', None
        self._pid = os.fork()
        if not self._pid:
            try:
                os.close(self._pipe)
                function(*arguments, functools.partial(os.write, pipe))
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(1)
        os.close(pipe)

    def _hear(self, patience):
        """Hear what it says next; tell whether it was something."""
        if not select.select([self._pipe], [], [], patience)[0]:
            return False
        words = os.read(self._pipe, 1 << 16)
        self.said += words
        return bool(words)

    def hear_all(self, patience=0):
        """Hear what it has said and, with patience, all that it says until it ends."""
        while self._hear(patience):
            pass

    def wait_for(self, word, times=1):
        """Wait until it has said a word so many times."""
        while self.said.count(word) < times:
            assert self._hear(HANGS), f'a process failed, or hung, after {self.said[-20:]!r}'

    def end(self):
        """Kill it if it still is there, and hear its last words; return the signal that ended it, or 0."""
        if self._ended_by is None:
            os.kill(self._pid, signal.SIGKILL)
            self.hear_all(HANGS)
            os.close(self._pipe)
            status = os.waitpid(self._pid, 0)[1]
            self._ended_by = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        return self._ended_by

    def kill(self):
        """Kill it. Raises: AssertionError when it had ended by itself, or crashed."""
        assert self.end() == signal.SIGKILL, f'a process ended by itself, with the signal {self.end()}'


class Writer(Process):
    """A process that writes to a vault or, when it has a home, to a section of it, until it is killed."""

    def __init__(self, path, home, aim, seed):
        self.home, self.aim, self.seed = home, aim, seed
        super().__init__(write, path, home, aim, seed)

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


def write(path, home, aim, seed, tell):
    """Be a writer. It says `o` when the vault is open, `(` before a step and `.` after it, and [ ] for checkpoints."""
    rng, checkpoint = random.Random(seed), SQLiteStore.checkpoint

    def opened():
        vault = Vault(path, timeout=HANGS, writeback=aim == 'sync', cache_size=100_000)
        return vault, at_home(vault, home)

    def told(*arguments):
        tell(b'[')
        try:
            checkpoint(*arguments)
        finally:
            tell(b']')
    SQLiteStore.checkpoint = told
    vault, target = opened()
    tell(b'o')
    while True:
        name, change = draw(rng, aim)
        tell(b'(')
        if name == 'reopen':
            vault.close()
            vault, target = opened()
        change(target)
        if aim == 'sync':
            target.sync()  # what write-back has in memory is acknowledged only now
        tell(b'.')


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
    aims = [aim, rng.choice([*OPERATIONS])]
    processes = writers = [Writer(path, home, *of) for home, *of in zip(homes, aims, (f'{seed} 1', f'{seed} 2'))]
    try:
        if rng.random() < 0.5:
            processes = [*processes, Process(visit, path)]
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
            processes = [*processes, Process(visit, path)]
            time.sleep(rng.uniform(0, 0.01))
            processes[-1].kill()
    finally:
        for process in processes:
            process.end()
    return writers, openers


def follow(writer, model, found):
    """Let the model take the steps of a killed writer, the one under way if it was done; it must be what was found.

    Return the name of the step under way, whether it was done, and what was acknowledged beside the vault.
    """
    rng = random.Random(writer.seed)
    model.copies = model.made = ()
    for _ in range(writer.done):
        draw(rng, writer.aim)[1](model)
    name, change = draw(rng, writer.aim)
    is_there, beside = found == list(model.items()), (*model.copies, *model.made)
    if writer.is_busy and (not is_there or name in ('backup', 'create')):
        change(model)
    assert found == list(model.items()), (f'after {writer.done} steps, and {name} under way, the vault is neither as it '
                                          'was nor one step further')
    return name, not is_there, beside


def check_beside(folder, writer, model, acknowledged):
    """Look at the backups and other vaults that a writer has made: the last is whole, or not there."""
    for name, entries in model.copies:
        path = folder / name
        assert path.exists() or (name, entries) not in acknowledged, 'a backup is missing'
        if path.exists():
            with contextlib.closing(Vault(path)) as vault:
                vault._check()
                assert list(at_home(vault, writer.home).items()) == pickle.loads(entries), 'a backup is not whole'
    for name in model.made:
        if name in acknowledged:
            assert not [*folder.glob(f'{name}*')], 'what was deleted is there'
            continue
        allowed = ([], [('first', 1)]) if (folder / name).exists() else ([],)
        with contextlib.closing(Vault(folder / name)) as vault:
            vault._check()
            assert list(vault.items()) in allowed, 'a new vault is not whole'


def left_over(vault):
    """Return how many parts belong to no entry."""
    store = vault._store
    datas = itertools.chain.from_iterable(page[1] for page in store.scan())
    used = sum(1 for data in datas if is_head(data) for _ in Tree(store, Head.of(data)).numbers())
    return sum(1 for owner in store.part_owners() for _ in store.part_numbers(owner)) - used


class File:
    """A vault's file, over which writers are killed in one round after another, and the models of their homes."""

    def __init__(self, folder, homes):
        self.path, self.outside = pathlib.Path(folder, 'killed.db'), pathlib.Path(folder, OUTSIDE)
        self.models, self.left = {home: Model() for home in homes}, 0

    def kill(self, aim, rng, seed):
        """Do a round; return its figures, and what each kill fell into. Raises: an error when a promise broke."""
        self.outside.mkdir()
        writers, openers = kill_writers(self.path, self.models, aim, rng, seed)
        figures, places, steps = collections.Counter(openers=openers), [], []
        with contextlib.closing(Vault(self.path)) as vault:
            vault._check()
            for writer in writers:
                step, more = self._follow(writer, vault)
                steps.append(step)
                places.append(writer.was_in(step))
                figures.update(writers=1, steps=writer.done, more=more)
            assert len(vault) == sum(map(len, self.models.values())), 'there are entries that nobody has put'
            left, self.left = self.left, left_over(vault)
            assert self.left <= left or 'stream' in steps, f'{self.left - left} parts without an entry, of {steps}'
        shutil.rmtree(self.outside)
        return figures, places

    def _follow(self, writer, vault):
        model = self.models[writer.home]
        step, more, beside = follow(writer, model, list(at_home(vault, writer.home).items()))
        check_beside(self.outside, writer, model, beside)
        return step, more

    def end(self):
        """Two days later compact() frees what is left of streams, and nothing else. Return how many parts that were."""
        later = time.time() + 2 * DAY
        with contextlib.closing(Vault(self.path)) as vault, mock.patch('time.time', lambda: later):
            vault.compact()
            vault._check()
            assert not left_over(vault), 'compact() has left parts without an entry'
            for home, model in self.models.items():
                assert list(at_home(vault, home).items()) == list(model.items()), 'compact() has changed the vault'
        return self.left


def make_sources(folder):
    """Make what is imported: an export with everything in it, and a vault."""
    source = pathlib.Path(folder, 'source.db')
    with contextlib.closing(Vault(source)) as vault:
        vault.update((f'key {number}', [number, f'value {number}']) for number in range(500, 2_000))
        vault.list('imported list').extend(range(3_000))
        vault.column('imported column', 'int64').extend(range(10_000))
        with vault.open('imported stream', 'wb') as file:
            file.write(random_bytes(random.Random(1), 600_000))
        entries = pickle.dumps([(key, value if isinstance(value, (list, bytes)) else value.tolist())
                                for key, value in vault.items()])
        moving.export(vault, f'{folder}/source.jsonl')
    SOURCES.update({f'{folder}/source.jsonl': entries, str(source): entries})


def kill_vaults(trial, options, folder):
    """Do the rounds with vaults, and return the figures."""
    rng, hits, figures = random.Random(f'kill {options.seed}'), collections.Counter(), collections.Counter()
    make_sources(folder)
    files = {}
    for number in range(options.rounds):
        aim = min(options.only or OPERATIONS, key=hits.__getitem__)
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
    unhit = [name for name in options.only or OPERATIONS if not hits[name]]
    if unhit and options.rounds >= ENOUGH:
        trial.broke(f'no kill fell into {", ".join(unhit)}')
    return (f'{options.rounds} rounds, {figures["writers"]} writers killed, and {figures["openers"]} others as they '
            'opened what was left; '
            f'{figures["steps"]:,} steps acknowledged, {figures["more"]} more there whole, '
            f'{len(trial.broken)} promises broken; {figures["left"]} parts of streams left, and freed\n'
            f'killed in: {", ".join(f"{name} {count}" for name, count in hits.most_common())}')


# --- what every store can do --------------------------------------------------------------------------------------

def simple_steps(seed):
    """Yield keys and values without end: mostly new keys, some that were there; None deletes."""
    rng, keys = random.Random(seed), []
    for number in itertools.count():
        value, chance, key = {'n': number, 'text': 'x' * rng.randrange(60)}, rng.random(), f'key {number}'
        if keys and chance < 0.2:
            place = rng.randrange(len(keys))
            key, keys[place] = keys[place], keys[-1]
            keys.pop()
            if chance < 0.1:
                yield key, None
                continue
        keys.append(key)
        yield key, value


def write_simply(store, folder, seed, tell):
    contestant = open_store(store, folder)
    db = contestant.db
    for key, value in simple_steps(seed):
        if value is None:
            del db[key]
        else:
            db[key] = value
        tell(b'.')


def judge(store, folder, seed, done, tell):
    """Tell, as JSON, how many acknowledged writes are not there, by what is there; of an unreadable file, nothing."""
    history = collections.defaultdict(list)
    steps = simple_steps(seed)
    for key, value in itertools.islice(steps, done):
        history[key].append(value)
    under_way, following = next(steps)
    try:
        contestant, counts = open_store(store, folder), collections.Counter()
        names = {name.decode() if isinstance(name, bytes) else name for name in contestant.keys(None)}
    except Exception:  # whatever a store raises for a file that it cannot read
        return
    for key in {*history, *names}:
        values = history[key] or [None]
        allowed = values[-1:] + ([following] if key == under_way else [])
        found = read(contestant.db, key)
        if found not in allowed:
            counts[('raised' if found is RAISED else 'wrong' if found not in (None, *values) else
                    'missing' if found is None else 'back' if values[-1] is None else 'older')] += 1
    tell(json.dumps(counts).encode())


RAISED = object()


def read(db, key):
    """Return the value, None when there is none, or RAISED."""
    try:
        return db[key]
    except KeyError:
        return None
    except Exception:  # whatever a store raises for an entry that it cannot read
        return RAISED


def kill_simply(store, folder, rng, seed):
    """Kill a writer of a new file; return how many writes it acknowledged, and what was wrong afterwards."""
    writer = Process(write_simply, store, folder, seed)
    try:
        writer.wait_for(b'.')
        time.sleep(rng.uniform(0, 0.25))
        writer.kill()
    finally:
        writer.end()
    done = writer.said.count(b'.')
    reader = Process(judge, store, folder, seed, done)
    reader.hear_all(HANGS)
    reader.end()
    return done, json.loads(reader.said) if reader.said else {'unreadable': 1, 'inside': done}


def kill_store(trial, options, folder):
    """Do the rounds of --simple, and return the figures."""
    rng, lost, writes = random.Random(f'kill {options.seed}'), collections.Counter(), 0
    for number in range(options.rounds):
        with tempfile.TemporaryDirectory(dir=folder) as inside:
            done, wrong = kill_simply(options.store, pathlib.Path(inside), rng, f'{options.seed}.{number}')
        writes, lost = writes + done, lost + collections.Counter(wrong)
        if wrong and options.store == 'vaults':
            trial.broke(f'round {number} of seed {options.seed}: {wrong}')
    counts = {what: lost[what] for what in ('missing', 'older', 'back', 'raised', 'wrong')}
    return (f'{options.store}: {options.rounds} writers killed, {writes:,} writes acknowledged, '
            f'{sum(counts.values()):,} of them lost ({", ".join(f"{what} {count:,}" for what, count in counts.items())}); '
            f'{lost["unreadable"]} files unreadable, with {lost["inside"]:,} acknowledged writes')


def main():
    trial = Trial(__doc__, rounds=80, stores=True)
    trial.parser.add_argument('--only', choices=OPERATIONS, metavar='OPERATION', action='append',
                              help=f'what the rounds are about, may be repeated: {", ".join(OPERATIONS)}')
    trial.parser.add_argument('--simple', action='store_true',
                              help='put, overwrite and delete small values; the only workload of other stores than '
                                   'vaults, whose losses are figures and not errors')
    options = trial.begin()
    with tempfile.TemporaryDirectory() as folder:
        is_simple = options.simple or options.store != 'vaults'
        figures = (kill_store if is_simple else kill_vaults)(trial, options, folder)
    trial.end(figures)


if __name__ == '__main__':
    main()
