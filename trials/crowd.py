"""Let a crowd of processes and threads work on one vault, and look whether what they did and saw fits one serial order.

    python trials/crowd.py [--rounds N] [--seed S] [--mix PROCESSESxTHREADS]

Each round is a block of some steps, by one of the workers: 32 processes, 32 threads of one process, or 8 processes of 8
threads. A block adds one to a clock that is kept in the vault, and its worker notes the new time with all that it did
and got. In the order of the clock, the notes are replayed on a dict: every time must be there once, every result must be
the same, and so must the vault at the end, in content and order. In between, the workers read without a block: each
value must be one that the entry had between two looks at the clock, a walk must find all entries that were there all the
while, in order, and none twice. What they read in a block of a vault that is only read, and in backups, must be as it
was at one time. They open the vault once more, and check, sync and compact it.

In a second vault they write without a clock: each overwrites keys of its own and knows what they hold, counts, appends,
and moves tokens, which nobody may get twice. What is overwritten all the time is never missing.

Prints a line of figures for each mix; exits with 1 when a promise broke.
"""
from __future__ import annotations

import collections
import contextlib
import itertools
import pathlib
import tempfile
import time
import traceback
import zlib
from concurrent.futures import ThreadPoolExecutor

from shared.model import MISSING, Draw, Failed, Model, attempt, difference, entries, seen
from shared.processes import ask_all
from shared.verdict import Trial

from vaults import Vault

MIXES = ('32x1', '1x32', '8x8')
HANGS = 3600      # seconds, for a process
TIMEOUT = 20      # seconds, of the vaults: how long one has to wait is for waits.py
PIECES = (5, 100, 5_000) * 10 + (600_000,)  # bytes of which streams are made

OFTEN = {'put': 14, 'get': 4, 'in': 2, 'del': 4, 'pop': 3, 'popitem': 2, 'setdefault': 4, 'update': 2, 'put_many': 2, 'get_many': 2,
         'pop_many': 1, 'edit': 3, 'slice': 2, 'prefix': 1, 'del slice': 1, 'len': 1, 'items': 1, 'reversed': 1, 'stream': 2,
         'list': 4, 'column': 2, 'section': 3, 'section items': 1, 'block': 3, 'clear': 0.05}
READING = ('get', 'in', 'get_many', 'slice', 'prefix', 'len', 'items', 'reversed', 'section items')
WALKS = {'items': lambda v: iter(v.items()), 'reversed': lambda v: ((key, None) for key in reversed(v)),
         'slice': lambda v, low, high: iter(v[low:high].items())}


class Noted(Model):
    """A model that gives each entry that is made a number, when it was born, and knows what it was at each time."""

    def __init__(self):
        super().__init__()
        self.touched, self.born, self.births = set(), {}, itertools.count(1)
        self.past = []  # by time: by key, what the entry was, and when it was born

    def __setitem__(self, key, value):
        if key not in self.data:
            self.born[key] = next(self.births)
        self.touched.add(key)
        super().__setitem__(key, value)

    def __delitem__(self, key):
        self.touched.update(self.within(key) if isinstance(key, slice) else [key])
        super().__delitem__(key)

    def state(self):
        return super().state(), dict(self.born)

    def undo(self, state):
        self.data, self.born = state

    def remember(self):
        """Begin another time."""
        before = self.past[-1] if self.past else {}
        self.past.append({**{key: was for key, was in before.items() if key not in self.touched},
                          **{key: (seen(self.data[key]), self.born[key]) for key in self.touched if key in self.data}})
        self.touched.clear()


# --- the workers --------------------------------------------------------------------------------------------------

class Worker:
    """One thread of the crowd. What it has to tell is in `notes`: the kind of each, and what belongs to it."""

    def __init__(self, folder, name, seed, clocked, free):
        self.folder, self.name, self.clocked, self.free = folder, name, clocked, free
        self.draw = Draw(f'{seed} {name}', pieces=PIECES)
        self.rng, self.drawn = self.draw.rng, self.draw.steps(OFTEN)
        self.reader = Vault(folder / 'clocked.db', flag='r')
        self.notes, self.own, self.versions = [], {}, {}
        self.lists = free.list('list'), free.column('column', 'int64')
        self.added = 1_000_000 * zlib.crc32(name.encode())

    def run(self, rounds):
        """Do so many rounds, and in each, now and then, something else; return the notes."""
        try:
            for _ in range(rounds):
                self.block()
                for action, often in ACTIONS.items():
                    if self.rng.random() < often:
                        action(self)
        except Exception:
            self.notes.append(('broke', f'worker {self.name}: {traceback.format_exc()}'))
        self.notes.append(('own', self.own))
        self.reader.close()
        return self.notes

    # --- with the clock ---

    def block(self, steps=()):
        """Do steps in a block, and return what they gave; one in ten of those that are drawn fails."""
        v, fails = self.clocked, not steps and self.rng.random() < 0.1
        steps = steps or list(itertools.islice(self.drawn, self.rng.choice((1, 1, 1, 2, 5))))
        try:
            with v:
                now = v['clock'] + 1
                got = [attempt(v, step) for step in steps]
                v['clock'] = now
                if fails:
                    raise Failed
            self.notes.append(('block', now, steps, got))
        except Failed:
            self.notes.append(('state', now - 1, [('block', steps, True)], [seen(got)]))
        return got

    def read(self):
        """Read without a block. After the first entry of a walk, do a block, which may delete what is still to come."""
        name, v = self.rng.choice(('get', 'len', 'items', 'items', 'reversed', 'slice')), self.clocked
        arguments = [self.draw.key()] if name == 'get' else self.draw.bounds() if name == 'slice' else []
        before = begun = v['clock']
        if name in WALKS:
            walk = WALKS[name](v, *arguments)
            got = list(itertools.islice(walk, 1))
            begun = v['clock']
            keys = list({self.draw.key() for _ in range(self.rng.choice((0, 0, 20)))})
            gone = {key for key, value in zip(keys, self.block([('pop', key) for key in keys])) if value != repr(MISSING)}
            got += walk
            assert not gone & {key for key, _ in got[1:]}, f'{name} found what its own thread had deleted'
            got = [(key, None if value is None or hasattr(value, 'append') else seen(value)) for key, value in got]
        else:
            got = attempt(v, (name, *arguments))
        self.notes.append(('read', name, arguments, (before, begun, v['clock']), got))

    def read_block(self):
        with self.reader as r:
            steps = [('get', 'clock'), *(step for step in itertools.islice(self.drawn, 9) if step[0] in READING)]
            self.notes.append(('state', r['clock'], steps, [attempt(r, step) for step in steps]))

    def back_up(self):
        path, before = self.folder / f'{self.name} {self.rng.random()}.backup', self.clocked['clock']
        self.clocked.backup(path)
        with contextlib.closing(Vault(path)) as copied:
            copied._check()
            assert copied['clock'] >= before, f'a backup made after {before} is of {copied["clock"]}'
            self.notes.append(('state', copied['clock'], [('items',)], [attempt(copied, ('items',))]))

    def look_after(self):
        """Open the vault once more, and do a block by that; check, sync and compact it."""
        was = self.clocked
        with contextlib.closing(Vault(self.folder / 'clocked.db', timeout=TIMEOUT)) as self.clocked:
            self.block()
            assert self.clocked.check() == [], self.clocked.check()
            self.clocked.sync()
            self.clocked.compact()
        self.clocked = was

    # --- without it ---

    def count(self):
        with self.free.edit(('counter', self.rng.randrange(2)), {'n': 0}) as counter:
            counter['n'] += 1
        self.notes.append(('count', 1))

    def overwrite(self):
        for number in range(3):
            key = ('hot', self.name, number)
            self.free[key] = self.own[key] = self.own.get(key, 0) + 1

    def look(self):
        """See that what others overwrite is there, and never older than it was when last seen."""
        found = {('hot', *key): version for key, version in self.free.section('hot').items()}
        for key, version in self.versions.items():
            assert found.get(key, 0) >= version, f'{key} went from {version} to {found.get(key)} in a walk'
        self.versions.update(found)
        for key in self.rng.sample(sorted(self.versions), min(len(self.versions), 5)):
            assert self.free.get(key, 0) >= self.versions[key], f'{key} is older than {self.versions[key]}, or missing'

    def append(self):
        """Append to a list and a column that it has had at hand since it began."""
        for items in self.lists:
            items.append(self.added)
        self.notes.append(('added', self.added))
        self.added += 1

    def race(self):
        """Want to be the first to set some keys, at the same time as others."""
        for number in range(20):
            key = ('race', int(time.time() * 5), number)
            self.notes.append(('race', key, self.free.setdefault(key, self.name)))

    def give(self):
        tokens = {f'{self.name} {len(self.notes)} {number}': number for number in range(8)}
        self.free.section('tokens').update(tokens)
        self.notes += [('given', token) for token in tokens]

    def take(self):
        """Take tokens, from that end where others want to take them as well."""
        tokens = self.free.section('tokens')
        wanted = tokens.keys()[:6]
        taken = [*tokens.pop_many(wanted[:2]), *(key for key in wanted[2:] if tokens.pop(key, None) is not None)]
        with contextlib.suppress(KeyError):  # there is none any more
            taken.append(tokens.popitem(False)[0])
        self.notes += [('taken', token) for token in taken]


ACTIONS = {Worker.read: 0.3, Worker.read_block: 0.1, Worker.count: 0.3, Worker.overwrite: 0.3, Worker.look: 0.1, Worker.race: 0.1,
           Worker.append: 0.1, Worker.give: 0.2, Worker.take: 0.2, Worker.back_up: 0.005, Worker.look_after: 0.004}


def be_process(folder, number, threads, rounds, seed):
    """Be one process of the crowd; return the notes of its workers."""
    clocked, free = (Vault(folder / f'{name}.db', timeout=TIMEOUT, thread_safe=threads > 8) for name in ('clocked', 'free'))
    with contextlib.closing(clocked), contextlib.closing(free), ThreadPoolExecutor(threads) as pool:
        workers = pool.map(lambda one: Worker(folder, f'{number}.{one}', seed, clocked, free).run(rounds), range(threads))
        return list(itertools.chain.from_iterable(workers))


def noted_by(trial, function, count, folder, *arguments):
    """Run so many processes that begin together; return what they noted, by kind."""
    answers = ask_all([(function, folder, number, *arguments) for number in range(count)], hangs=HANGS)
    if any(answer.code for answer in answers):
        trial.broke(f'processes ended with {collections.Counter(answer.code for answer in answers)}')
    notes = collections.defaultdict(list)
    for kind, *what in itertools.chain.from_iterable(answer.value or () for answer in answers):
        notes[kind].append(what)
    return notes


# --- the replay ---------------------------------------------------------------------------------------------------

def replayed(trial, notes):
    """Return the model after the blocks in the order of the clock; compare what these gave, and what was seen between."""
    model, at, last = Noted(), collections.defaultdict(list), len(notes['block'])
    for now, steps, got in [[0, (), ()], *notes['block'], *notes['state']]:
        at[now].append((steps, got))
    if {now for now, *_ in notes['block']} != {*range(1, last + 1)} or max(at) > last:
        trial.broke(f'of {last} times some are missing, or there twice')
    for now in sorted(at):
        for number, (steps, got) in enumerate(at[now]):
            for step, one, other in zip(steps, got, [attempt(model, step) for step in steps]):
                if one != other:
                    trial.broke(f'at {now}, after its block and {number - 1} looks: {step!r:.100} gave {one}, not {other}')
            if not number:  # the block that made it this time; the others only look
                model['clock'] = now
                model.remember()
    return model


def problem_of(past, name, arguments, times, got):
    """Return what is wrong with something read between the first and the last of `times`, or None."""
    first, begun, last = times
    window = past[first:last + 1]
    if name not in WALKS:
        possible = [repr(len(state)) if name == 'len' else state.get(*arguments, (repr(MISSING),))[0] for state in window]
        return None if got in possible else f'{got} is not one of {possible}'
    found = [key for key, _ in got]
    for key, value in got:
        births = {state[key][1] for state in past[first:begun + 1] if key in state}  # a walk is over what was there then;
        possible = [state[key][0] for state in window if key in state and (          # a stream is read when it is its turn
            state[key][1] in births or (births and str(key).startswith('stream')))]
        if not possible or (value is not None and value not in possible):
            return f'{key} is {value}, not one of {possible}'
    stayed = {key: born for key, (_, born) in window[0].items() if all(state.get(key, (0, 0))[1] == born for state in window)}
    expected = sorted(stayed, key=stayed.get, reverse=name == 'reversed')
    if name == 'slice':
        expected = sorted(key for key in stayed if isinstance(key, str) and arguments[0] <= key < arguments[1])
    is_whole = [key for key in found if key in stayed] == expected and len(set(found)) == len(found)
    return None if is_whole else 'entries are missing, there twice or out of order'


def examine(trial, folder, notes):
    """Compare what the workers noted with each other, with a model and with what they have left."""
    for what, in notes['broke']:
        trial.broke(what)
    model = replayed(trial, notes)
    if trial.broken:
        return  # there may be times of which nothing is known
    for name, arguments, times, got in notes['read']:
        problem = problem_of(model.past, name, arguments, times, got)
        if problem:
            trial.broke(f'{name} {arguments} between {times}: {problem}')
    of = {kind: [what for what, *_ in notes[kind]] for kind in ('own', 'count', 'given', 'taken', 'added', 'race')}
    with contextlib.closing(Vault(folder / 'clocked.db')) as clocked, contextlib.closing(Vault(folder / 'free.db')) as v:
        for what, found, expected in (
                ('the checks', [*clocked.check(), *v.check()], []),
                ('what the blocks make in the order of the clock', difference(entries(clocked), entries(model)), ''),
                ('keys that one worker writes each', {key: value for key, value in v.items() if key[0] == 'hot'},
                 {key: value for mine in of['own'] for key, value in mine.items()}),
                ('the counters', sum(counter['n'] for counter in v.prefix(('counter',)).values()), sum(of['count'])),
                ('tokens that are taken or left', sorted([*of['taken'], *v.section('tokens')]), sorted(of['given'])),
                ('what was appended', [sorted(v.list('list')), sorted(v.column('column', 'int64'))], [sorted(of['added'])] * 2),
                ('what setdefault() put', [v[key] for key in of['race']], [winner for _, winner in notes['race']])):
            if found != expected:
                trial.broke(f'{what}: {found!r:.200}, and not {expected!r:.200}')


def crowd(trial, folder, processes, threads, rounds, seed):
    """Let one mix work and examine what it leaves; return the line of figures."""
    with contextlib.closing(Vault(folder / 'clocked.db')) as v:
        v['clock'] = 0
    notes = noted_by(trial, be_process, processes, folder, threads, -(-rounds // (processes * threads)), seed)
    examine(trial, folder, notes)
    return (f'{processes} processes of {threads} threads: {len(notes["block"])} blocks of '
            f'{sum(len(steps) for _, steps, _ in notes["block"])} operations, {len(notes["read"])} reads outside and '
            f'{len(notes["state"])} states fit one order; {len(notes["taken"])} tokens moved')


def main():
    trial = Trial(__doc__, 1000)
    trial.parser.add_argument('--mix', help='for one mix alone, as 32x1')
    options = trial.begin()
    with tempfile.TemporaryDirectory() as folder:
        for mix in [options.mix] if options.mix else MIXES:
            processes, threads = map(int, mix.split('x'))
            inside = pathlib.Path(tempfile.mkdtemp(dir=folder))
            print(crowd(trial, inside, processes, threads, options.rounds, f'{options.seed} {mix}'), flush=True)
    trial.end(f'{options.rounds} rounds')


if __name__ == '__main__':
    main()
