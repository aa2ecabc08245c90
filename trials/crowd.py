"""Let a crowd of processes and threads work on one vault, and look whether what they did and saw fits one serial order.

    python trials/crowd.py [--rounds N] [--seed S] [--mix PROCESSESxTHREADS] [--store NAME]

Each round is a block of some steps, by one of the workers: 32 processes, 32 threads of one process, or 8 processes of 8
threads. A block adds one to a clock that is kept in the vault, and its worker notes the new time with all that it did
and got. In the order of the clock, the notes are replayed on a dict: every time must be there once, every result must be
the same, and so must the vault at the end, in content and order. In between, the workers read without a block: each
value must be one that the entry had between two looks at the clock, a walk must find all entries that were there all the
while, in order, and none twice. What they read in a block of a vault that is only read, and in backups, must be as it
was at one time. They fork, close and open the vault again, check, sync and compact it, and leave iterators behind.

In a second vault they write without a clock: each overwrites keys of its own and knows what they hold, counts, appends,
and moves tokens, which nobody may get twice. What is overwritten all the time is never missing.

With the name of a peer, some processes put keys of their own and count together, in the peer's transactions where it has
any. Prints a line of figures for each mix; exits with 1 when a promise broke.
"""
from __future__ import annotations

import bisect
import collections
import contextlib
import itertools
import pathlib
import tempfile
import threading
import time
import traceback
import zlib
from concurrent.futures import ThreadPoolExecutor

from shared.model import MISSING, Draw, Failed, Model, attempt, difference, do, entries, seen
from shared.processes import ask, ask_all
from shared.stores import open_store
from shared.verdict import Trial

from vaults import Vault, VaultBusyError, VaultError

MIXES = ((32, 1), (1, 32), (8, 8))
HANGS = 300       # seconds, for a process, and one for each round of it
HOT = 3           # keys of each worker that it overwrites all the time
PEERS = 8         # processes that write to a peer
PIECES = (5, 100, 5_000) * 10 + (600_000,)  # bytes of which streams are made

OFTEN = {'put': 14, 'get': 4, 'in': 2, 'del': 4, 'pop': 3, 'popitem': 2, 'setdefault': 4, 'update': 2, 'put_many': 2, 'get_many': 2,
         'pop_many': 1, 'edit': 3, 'slice': 2, 'prefix': 1, 'del slice': 1, 'len': 1, 'items': 1, 'reversed': 1, 'stream': 2,
         'list': 4, 'column': 2, 'section': 3, 'section items': 1, 'block': 3, 'clear': 0.05}
READING = ('get', 'in', 'get_many', 'slice', 'prefix', 'len', 'items', 'reversed', 'section items')
WALKS = {
    'items': lambda v: iter(v.items()),
    'keys': lambda v: ((key, None) for key in v),
    'reversed': lambda v: ((key, None) for key in reversed(v)),
    'slice': lambda v, low, high: iter(v[low:high].items()),
}


class Noted(Model):
    """A model that notes what is touched, and gives each entry that is made a number: when it was born."""

    def __init__(self):
        super().__init__()
        self.touched, self.born, self.births = set(), {}, itertools.count(1)

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


# --- the workers --------------------------------------------------------------------------------------------------

class Worker:
    """One thread of the crowd. What it has to tell is in `notes`: the kind of each, and what belongs to it."""

    def __init__(self, folder, name, seed, vaults):
        self.folder, self.name = folder, name
        self.chance_from(f'{seed} {name}')
        self.clocked, self.free = vaults
        self.reader = Vault(folder / 'clocked.db', flag='r')
        self.notes, self.own, self.left, self.versions = [], Model(), collections.deque(maxlen=3), {}
        self.lists = self.free.list('list'), self.free.column('column', 'int64')
        self.added = 1_000_000 * zlib.crc32(name.encode())
        self.forks = threading.active_count() == 1

    def chance_from(self, seed):
        self.draw = Draw(seed, pieces=PIECES)
        self.rng, self.drawn = self.draw.rng, self.draw.steps(OFTEN)

    def note(self, kind, *what):
        self.notes.append((kind, *what))

    def insist(self, holds, what):
        if not holds:
            self.note('broke', f'worker {self.name}: {what}')

    def step(self):
        """Do one round, and now and then something else."""
        self.block()
        for action, often in ACTIONS:
            if self.rng.random() < often:
                getattr(self, action)()

    def run(self, rounds):
        """Do so many rounds; return the notes."""
        for _ in range(rounds):
            if not self.tries(self.step):
                break
        self.note('own', dict(self.own))
        self.reader.close()
        return self.notes

    def tries(self, action):
        """Note what an action raises; return whether to go on."""
        try:
            action()
        except VaultBusyError as error:
            self.note('busy', str(error))
        except Exception:
            self.insist(False, traceback.format_exc())
            return False
        return True

    # --- with the clock ---

    def block(self, steps=None):
        """Do steps in a block, and return what they gave; one in ten of those that are drawn fails."""
        v, fails = self.clocked, not steps and self.rng.random() < 0.1
        steps = steps or list(itertools.islice(self.drawn, self.rng.choice((1, 1, 1, 2, 5))))
        try:
            with v:
                now = v.get('clock', 0) + 1
                got = [attempt(v, step) for step in steps]
                v['clock'] = now
                if fails:
                    raise Failed
            self.note('block', now, steps, got)
        except Failed:
            self.note('state', now - 1, [('block', steps, True)], [seen(got)])
        return got

    def read_one(self):
        name, v = self.rng.choice(('get', 'in', 'len', 'items', 'items', 'keys', 'reversed', 'slice')), self.clocked
        arguments = [self.draw.key()] if name in ('get', 'in') else self.draw.bounds() if name == 'slice' else []
        before = begun = v.get('clock', 0)
        if name in WALKS:
            walk = WALKS[name](v, *arguments)
            got = list(itertools.islice(walk, 1))
            begun = v.get('clock', 0)
            gone = self.disturb()
            got += walk
            self.insist(not gone & {key for key, _ in got[1:]}, f'{name} found what its own thread had deleted')
            got = [(key, None if value is None or hasattr(value, 'append') else seen(value)) for key, value in got]
        else:
            got = do(v, (name, *arguments))
            got = seen(got) if name == 'get' else got
        self.note('read', name, arguments, (before, begun, v.get('clock', 0)), got)

    def disturb(self):
        """In the middle of a walk give others time, or delete some entries; return the keys of these."""
        keys = list({self.draw.key() for _ in range(self.rng.choice((0, 0, 20)))})
        if keys:
            return {key for key, got in zip(keys, self.block([('pop', key) for key in keys])) if got != repr(MISSING)}
        time.sleep(self.rng.choice((0, 0.003)))
        return set()

    def read_block(self):
        with self.reader as r:
            steps = [('get', 'clock'), *(step for step in itertools.islice(self.drawn, 9) if step[0] in READING)]
            now = r.get('clock', 0)
            self.note('state', now, steps, [attempt(r, step) for step in steps])

    def back_up(self):
        path, before = self.folder / f'{self.name} {self.rng.random()}.backup', self.clocked.get('clock', 0)
        self.clocked.backup(path)
        with contextlib.closing(Vault(path)) as copied:
            copied._check()
            now = copied.get('clock', 0)
            self.insist(now >= before, f'a backup made after {before} is of {now}')
            self.note('state', now, [('items',)], [attempt(copied, ('items',))])
        path.unlink()

    def reopen(self):
        was, self.clocked = self.clocked, Vault(self.folder / 'clocked.db')
        self.block()
        if self.forks:
            was.close()
        else:
            self.clocked.close()
            self.clocked = was

    def look_after(self):
        problems = self.clocked.check()
        self.insist(not problems, f'check(): {problems}')
        self.clocked.sync()
        if self.rng.random() < 0.3:
            self.clocked.compact()

    def leave(self):
        walk = iter(self.rng.choice((self.clocked.items(), self.clocked.keys(), self.clocked[:].items())))
        next(walk, None)
        self.left.append(walk)

    def fork(self):
        """Have a child do rounds, half of them from inside a block, in which it cannot write, but must not have to."""
        inside = self.rng.random() < 0.5
        if self.forks:
            with self.clocked if inside else contextlib.nullcontext():
                code, notes = ask(self.be_child, inside)
            self.insist(code == 0, f'a forked child failed: {code}')
            self.notes += notes or ()

    def be_child(self, inside):
        self.notes = []
        self.chance_from(f'{self.name} {self.rng.random()}')
        for action in (self.read_block, self.add) if inside else (self.block, self.read_one, self.add):
            self.tries(action)
        return self.notes

    # --- without it ---

    def add(self):
        with self.free.edit(('counter', self.rng.randrange(2)), {'n': 0}) as counter:
            counter['n'] += 1
        self.note('count', 1)

    def overwrite(self):
        for number in range(HOT):
            key = ('hot', self.name, number)
            self.free[key] = version = self.own.get(key, 0) + 1
            self.own[key] = version

    def look(self):
        """See that what others overwrite is there, and never older than it was when last seen."""
        found, hot = {}, list(self.versions)
        for key, version in self.free.section('hot').items():
            found[('hot', *key)] = version
        for key in self.rng.sample(hot, min(len(hot), 5)):
            self.insist(key in self.free and self.free.get(key) is not None, f'{key} is missing')
        self.insist(not set(hot) - set(found), f'{set(hot) - set(found)} were not found by a walk')
        for key, version in found.items():
            self.insist(version >= self.versions.get(key, 0), f'{key} went from {self.versions.get(key)} to {version}')
        self.versions.update(found)

    def tend(self):
        """Write keys of its own, which hold what a dict holds."""
        key, value = ('own', self.name, self.rng.randrange(20)), self.draw.value()
        step = self.rng.choice((('put', key, value), ('put', key, value), ('pop', key), ('get', key), ('del', key),
                                ('setdefault', key, value), ('update', [(key, value)]), ('put_many', [(key, value)])))
        got, expected = attempt(self.free, step), attempt(self.own, step)
        self.insist(got == expected, f'{step[0]} {key} gave {got}, not {expected}')

    def append(self):
        """Append to a list and a column that it has had at hand since it began."""
        for items in self.lists:
            before = len(items)
            items.append(self.added)
            self.insist(len(items) > before and items[before:].count(self.added), f'{items} lacks what was added')
        self.note('added', self.added)
        self.added += 1

    def race(self):
        """Want to be the first to set some keys, at the same time as others."""
        for number in range(20):
            key = ('race', int(time.time() * 5), number)
            self.note('race', key, self.free.setdefault(key, self.name))

    def give(self):
        tokens = {f'{self.name} {len(self.notes)} {number}': number for number in range(8)}
        self.free.section('tokens').update(tokens)
        self.notes += [('given', token) for token in tokens]

    def take(self):
        """Take tokens, from that end where others want to take them as well."""
        tokens = self.free.section('tokens')
        wanted, verb = tokens.keys()[:8], self.rng.choice(('pop', 'popitem', 'pop_many'))
        taken = []
        with contextlib.suppress(KeyError):  # there is none any more
            if verb == 'pop':
                taken += [key for key in wanted if tokens.pop(key, None) is not None]
            else:
                taken += tokens.pop_many(wanted[:2]) if verb == 'pop_many' else [tokens.popitem(False)[0]]
        self.notes += [('taken', token) for token in taken]


ACTIONS = (('read_one', 0.3), ('read_block', 0.1), ('add', 0.3), ('overwrite', 0.2),
           ('look', 0.1), ('tend', 0.3), ('race', 0.1), ('append', 0.1), ('give', 0.2), ('take', 0.2), ('leave', 0.1), ('reopen', 0.02),
           ('back_up', 0.005), ('look_after', 0.006), ('fork', 0.01))


def be_process(folder, number, threads, rounds, seed):
    """Be one process of the crowd; return the notes of its workers."""
    with contextlib.ExitStack() as ends:
        vaults = [ends.enter_context(contextlib.closing(Vault(folder / f'{name}.db', thread_safe=threads > 8)))
                  for name in ('clocked', 'free')]

        def work(name):
            return Worker(folder, name, seed, vaults).run(rounds)
        if threads == 1:
            return work(f'{number}.0')
        with ThreadPoolExecutor(threads) as pool:
            return [note for notes in pool.map(work, [f'{number}.{one}' for one in range(threads)]) for note in notes]


def told_by(trial, function, count, folder, *arguments, hangs=HANGS):
    """Run so many processes that begin together; return what they noted, by kind."""
    answers = ask_all([(function, folder, number, *arguments) for number in range(count)], hangs=hangs)
    if any(answer.code for answer in answers):
        trial.broke(f'processes ended with {sorted({answer.code for answer in answers})}')
    notes = collections.defaultdict(list)
    for answer in answers:
        for note in answer.value or ():
            notes[note[0]].append(note)
    return notes


# --- the replay ---------------------------------------------------------------------------------------------------

class Replay:
    """The blocks in the order of the clock, on a model, and what each entry was at each time."""

    def __init__(self, trial, notes):
        self.trial, self.model = trial, Noted()
        self.history = collections.defaultdict(lambda: ([-1], [(None, None)]))  # by key: times, and from then on what
        self.lengths = [0]
        self.blocks = sorted((note[1:] for note in notes['block']), key=lambda block: block[0])
        self.states = collections.defaultdict(list)
        for _, now, operations, got in notes['state']:
            self.states[now].append((operations, got))

    def run(self):
        times = [block[0] for block in self.blocks]
        if times != list(range(1, len(times) + 1)):
            lost = sorted(set(range(1, len(times) + 1)) - set(times))[:5]
            self.trial.broke(f'of {len(times)} times some are missing, as {lost}, or there twice')
        self.compare(0, self.states[0], 'a state')
        for now, operations, got in self.blocks:
            self.compare(now, [(operations, got)], 'a block')
            self.model['clock'] = now
            self.remember(now)
            self.compare(now, self.states.pop(now, []), 'a state')
        for now in set(self.states) - {0}:
            self.trial.broke(f'a state was seen at {now}, which never was')

    def compare(self, now, noted, what):
        for operations, got in noted:
            expected = [attempt(self.model, operation) for operation in operations]
            for operation, one, other in zip(operations, got, expected):
                if one != other:
                    self.trial.broke(f'{what} at {now}: {operation!r:.100} gave {one}, not {other}')

    def remember(self, now):
        model = self.model
        for key in model.touched:
            times, states = self.history[key]
            times.append(now)
            states.append((seen(model.data[key]), model.born[key]) if key in model.data else (None, None))
        model.touched.clear()
        self.lengths.append(len(model))

    def between(self, key, first, last):
        """Return what the entry was from one time to another."""
        times, states = self.history[key]
        return states[bisect.bisect_right(times, first) - 1:bisect.bisect_right(times, last)]

    def judge(self, name, arguments, times, got):
        """Return what is wrong with something read between the first and the last of `times`, or None."""
        first, _, last = times
        if name in WALKS:
            return self.judge_walk(name, arguments, times, got)
        if name == 'len':
            possible = self.lengths[first:last + 1]
        else:
            possible = [state for state, _ in self.between(arguments[0], first, last)]
            possible = [state is not None for state in possible] if name == 'in' else [
                repr(MISSING) if state is None else state for state in possible]
        return None if got in possible else f'{got} is not one of {possible}'

    def judge_walk(self, name, arguments, times, got):
        """As above, of a walk that began before the second of `times`."""
        first, begun, last = times
        found = [key for key, _ in got]
        if len(set(found)) < len(found):
            return 'a key is there twice'
        for key, value in got:
            entries = {born for _, born in self.between(key, first, begun)} - {None}
            possible = [state for state, born in self.between(key, first, last)  # a stream is read when it is its turn
                        if born in entries or (entries and str(key).startswith('stream'))]
            if not possible or (value is not None and value not in possible):
                return f'{key} is {value}, not one of {possible}'
        stayed = self.stayed(first, last)
        if name == 'slice':
            expected = sorted(key for key in stayed if isinstance(key, str) and arguments[0] <= key < arguments[1])
            if found != sorted(found):
                return 'it is not sorted'
        else:
            expected = sorted(stayed, key=stayed.get, reverse=name == 'reversed')
        return None if [key for key in found if key in stayed] == expected else 'entries are missing or out of order'

    def stayed(self, first, last):
        """Return the keys of the entries that were there all the while, and when each was made."""
        states = ((key, self.between(key, first, last)) for key in list(self.history))
        return {key: found[0][1] for key, found in states if found[0][1] and len({born for _, born in found}) == 1}


def agree(trial, *compared):
    for what, found, expected in compared:
        if found != expected:
            trial.broke(f'{what}: {found!r:.200}, and not {expected!r:.200}')


def problem_of(v):
    try:
        v._check()
    except (AssertionError, VaultError) as error:
        return repr(error)


def examine_clocked(trial, folder, notes):
    replay = Replay(trial, notes)
    replay.run()
    with contextlib.closing(Vault(folder / 'clocked.db')) as v:
        agree(trial, ('the check', problem_of(v), None), (
            'what the blocks make in the order of the clock', difference(entries(v), entries(replay.model)), ''))
    for _, name, arguments, times, got in notes['read']:
        agree(trial, (f'{name} {arguments} between {times}', replay.judge(name, arguments, times, got), None))
    return replay


def examine_free(trial, folder, notes):
    of = {kind: [note[1] for note in notes[kind]] for kind in ('own', 'count', 'given', 'taken', 'added', 'race')}
    with contextlib.closing(Vault(folder / 'free.db')) as v:
        agree(trial, ('the check', problem_of(v), None),
              ('keys that one worker writes each', {key: value for key, value in v.items() if key[0] in ('own', 'hot')},
               {key: value for mine in of['own'] for key, value in mine.items()}),
              ('the counters', sum(counter['n'] for counter in v.prefix(('counter',)).values()), sum(of['count'])),
              ('tokens that are taken or left', sorted([*of['taken'], *v.section('tokens')]), sorted(of['given'])),
              ('what was appended to the list', sorted(v.list('list')), sorted(of['added'])),
              ('what was appended to the column', sorted(v.column('column', 'int64')), sorted(of['added'])),
              ('what setdefault() put', [v[key] for key in of['race']], [winner for *_, winner in notes['race']]))


def crowd(trial, processes, threads, rounds, seed):
    """Let one mix work and examine what it leaves; return the line of figures."""
    began, each = time.monotonic(), -(-rounds // (processes * threads))
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        for vault in ('free.db', 'clocked.db'):
            Vault(folder / vault).close()
        notes = told_by(trial, be_process, processes, folder, threads, each, f'{seed} {processes}x{threads}', hangs=HANGS + each)
        took = time.monotonic() - began
        for what in [note[1] for note in notes['broke']] + [f'busy: {note[1]}' for note in notes['busy']]:
            trial.broke(what)
        replay = examine_clocked(trial, folder, notes)
        examine_free(trial, folder, notes)
    operations = sum(len(block[1]) for block in replay.blocks)
    return (f'{processes} processes of {threads} threads: {len(replay.blocks)} blocks of {operations} operations, '
            f'{len(notes["read"])} reads outside and {len(notes["state"])} states fit one order; '
            f'{len(notes["taken"])} tokens moved; {len(notes["busy"])} busy; {took:.1f} s')


# --- the peers ----------------------------------------------------------------------------------------------------

def be_peer(folder, number, name, rounds):
    """Put keys of its own, and count along with the others; return notes of what was acknowledged."""
    notes = []
    try:
        store = open_store(name, folder)
        add = store.transact if store.has_transactions else store.write
        for one in range(rounds):
            try:
                store.db[f'{number} {one}'] = one
                notes.append(('put', f'{number} {one}'))
                add((key, store.db[key] + 1) for key in ['counter'])
                notes.append(('counted', one))
            except Exception as error:
                notes.append(('error', type(error).__name__))
        store.close()
    except BaseException as error:
        notes.append(('error', f'opening or closing: {type(error).__name__}'))
    return notes


def peer(trial, name, rounds):
    """Let processes write to a peer, or to a vault in the same way, and count what is lost."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as inside:
        folder = pathlib.Path(inside)
        with contextlib.closing(open_store(name, folder)) as store:
            store.db['counter'] = 0
        notes = told_by(trial, be_peer, PEERS, folder, name, -(-rounds // PEERS))
        put, counted, lost = [key for _, key in notes['put']], len(notes['counted']), 'all'
        try:
            with contextlib.closing(open_store(name, folder)) as store:
                lost = sum(store.db.get(key) != int(key.split()[1]) for key in put), counted - store.db['counter']
        except Exception as error:  # whatever a peer raises
            notes['error'].append(('error', f'at the end: {type(error).__name__}'))
    agree(trial, (f'{name}: lost', lost, (0, 0)), ('errors', collections.Counter(what for _, what in notes['error']), {}))
    return (f'{name}: {PEERS} processes, {len(put)} puts acknowledged and {counted} times counted, lost of both: {lost}, '
            f'{len(notes["error"])} errors; {time.monotonic() - began:.1f} s')


def main():
    trial = Trial(__doc__, 1000, stores=True)
    trial.parser.add_argument('--mix', help='for one mix alone, as 32x1')
    options = trial.begin()
    mixes = () if options.store != 'vaults' else [tuple(map(int, options.mix.split('x')))] if options.mix else MIXES
    for processes, threads in mixes:
        print(crowd(trial, processes, threads, options.rounds, options.seed), flush=True)
    print(peer(trial, options.store, options.rounds), flush=True)
    trial.end(f'{options.rounds} rounds')


if __name__ == '__main__':
    main()
