"""Let a crowd of processes and threads work on one vault, and look whether what they did and saw fits one serial order.

    python trials/crowd.py [--rounds N] [--seed S] [--mix PROCESSESxTHREADS] [--store NAME]

Each round is a block of some operations, by one of the workers: 32 processes, 32 threads of one process, or 8 processes
of 8 threads. A block adds one to a clock that is kept in the vault, and its worker notes the new time with all that it
did and got. In the order of the clock, the notes are replayed on a dict: every time must be there once, every result
must be the same, and so must the vault at the end, in content and order. In between, the workers

- read without a block: each value must be one that the entry had between two looks at the clock, a walk must find all
  entries that were there all the while, in order, and none twice;
- read several things in a block of a vault that is only read, and open backups: all must be as it was at one time;
- fork, close and open the vault again, check, sync and compact it, and leave iterators behind.

In a second vault they write without a clock: each overwrites keys of its own and knows what they hold, transfers between
accounts whose sum never changes, counts, and moves tokens, which nobody may get twice. What is overwritten all the time
is never missing.

With the name of a peer, some processes put keys of their own and count together, in the peer's transactions where it has
any. Prints a line of figures for each mix; exits with 1 when a promise broke.
"""
from __future__ import annotations

import bisect
import collections
import contextlib
import copy
import faulthandler
import io
import itertools
import multiprocessing
import os
import pathlib
import pickle
import random
import shutil
import tempfile
import threading
import time
import traceback
import zlib
from collections import abc

from shared.stores import open_store
from shared.verdict import Trial

from vaults import Vault, VaultBusyError, VaultError

MIXES = ((32, 1), (1, 32), (8, 8))
HANGS = 300       # seconds, for a process, and one for each round of it
ACCOUNTS, DEPOSIT = 10, 1000
HOT = 3           # keys of each worker that it overwrites all the time
MISSING = 'missing'
PEERS = 8         # processes that write to a peer
METHOD = 'fork' if hasattr(os, 'fork') else 'spawn'


class Failed(Exception):
    """What blocks that are to fail are left by."""


# --- the model ----------------------------------------------------------------------------------------------------

class Model(abc.MutableMapping):
    """What the vault must be: a dict, with the verbs that dicts lack. Notes what is touched and what is made anew."""

    def __init__(self):
        self.data, self.touched, self.born, self.births = {}, set(), {}, 0

    def __getitem__(self, key):
        if isinstance(key, slice):
            return {one: self.data[one] for one in self._within(key)}
        return self.data[key]

    def _within(self, key):
        return sorted(one for one in self.data if isinstance(one, str) and key.start <= one < key.stop)

    def __setitem__(self, key, value):
        if key not in self.data:
            self.births += 1
            self.born[key] = self.births
        self.touched.add(key)
        self.data[key] = value

    def __delitem__(self, key):
        for one in self._within(key) if isinstance(key, slice) else [key]:
            del self.data[one]
            self.touched.add(one)

    def __iter__(self):
        return iter(self.data)

    def __reversed__(self):
        return reversed(list(self.data))

    def __len__(self):
        return len(self.data)

    def popitem(self):
        for key in reversed(self):
            return key, self.pop(key)
        raise KeyError

    def put_many(self, pairs):
        self.update(pairs)
        return len(pairs)

    def get_many(self, wanted):
        return {key: self[key] for key in wanted if key in self}

    def pop_many(self, wanted):
        return {key: self.pop(key) for key in wanted if key in self}

    def prefix(self, prefix):
        return self[prefix:prefix + '\U0010ffff']

    def list(self, key):
        self.touched.add(key)
        return self.setdefault(key, [])

    def column(self, key, _):
        return self.list(key)

    def section(self, name):
        return ModelSection(self, name)

    @contextlib.contextmanager
    def edit(self, key, default):
        value = copy.deepcopy(self.get(key, default))
        yield value
        self[key] = value

    @contextlib.contextmanager
    def open(self, key, mode):
        file = io.BytesIO()
        file.write(self.get(key, b'') if mode == 'ab' else b'')
        yield file
        self[key] = file.getvalue()

    @contextlib.contextmanager
    def transaction(self):
        before = copy.deepcopy(self.data), dict(self.born)
        try:
            yield
        except Failed:
            (self.data, self.born) = before
            raise


class ModelSection(abc.MutableMapping):
    def __init__(self, model, name):
        self.model, self.name = model, name

    def __getitem__(self, key):
        return self.model[self.name, key]

    def __setitem__(self, key, value):
        self.model[self.name, key] = value

    def __delitem__(self, key):
        del self.model[self.name, key]

    def __iter__(self):
        return iter([key[1] for key in self.model if isinstance(key, tuple) and key[0] == self.name])

    def __len__(self):
        return len(list(iter(self)))

    def __reversed__(self):
        return reversed(list(self))

    def popitem(self):
        for key in reversed(self):
            return key, self.pop(key)
        raise KeyError


def plain(value):
    """Return what there is in memory of a result: of live lists, columns, views and sections a copy."""
    if isinstance(value, tuple):
        return tuple(map(plain, value))
    if isinstance(value, abc.Mapping):
        return [(key, plain(one)) for key, one in value.items()]
    if hasattr(value, '__iter__') and not isinstance(value, (str, bytes)):
        return [plain(one) for one in value]
    return value


def seen(value):
    """Return a result in a form that is short and can be compared."""
    text = repr(plain(value))
    return text if len(text) < 60 else f'{text[:40]}... {len(text)} {zlib.crc32(text.encode())}'


# --- the operations -----------------------------------------------------------------------------------------------

def write_file(target, key, mode, data):
    with target.open(key, mode) as file:
        file.write(data)


def edit(target, key, item):
    with target.edit(key, []) as items:
        items.append(item)
        del items[:-20]


def delete(target, key):
    del target[key]


def delete_range(target, low, high):
    del target[low:high]


def shorten(target, key):
    items = target.list(key)
    del items[:len(items) // 2]


def extend(target, key, items):
    target.column(key, 'int64').extend(items)


def section_write(target, key, value):
    section = target.section('section')
    section[key] = value
    return section.pop(key // 2, None), len(section)


def nested(target, operations, fails):
    """A block in a block."""
    got = []
    with contextlib.suppress(Failed), target.transaction():
        got += [attempt(target, operation) for operation in operations]
        if fails:
            raise Failed
    return got


class Draw:
    """What the operations are drawn with."""

    def __init__(self, seed):
        self.rng = random.Random(seed)

    def key(self):
        return f'key {self.rng.randrange(250):03}'

    def keys(self):
        return [self.key() for _ in range(self.rng.choice((1, 5, 30)))]

    def bounds(self):
        low = self.rng.randrange(250)
        return f'key {low:03}', f'key {low + self.rng.randrange(12):03}'

    def value(self):
        size = self.rng.choice((3000, 30_000)) if self.rng.random() < 0.03 else 60
        return {'n': self.rng.random(), 'text': 'x' * self.rng.randrange(size), 'pair': (1, 2)}

    def pairs(self):
        return [(key, self.value()) for key in self.keys()]

    def name(self, kind):
        return f'{kind} {self.rng.randrange(3)}'

    def operation(self):
        name = self.rng.choice(NAMES)
        return (name, *OPERATIONS[name][2](self))

    def operations(self):
        return [self.operation() for _ in range(self.rng.choice((1, 1, 1, 2, 5)))]


# The name: how often it is drawn, what it does to a vault or a model, and what else it is called with.
OPERATIONS = {
    'set': (14, lambda t, key, value: t.__setitem__(key, value), lambda draw: (draw.key(), draw.value())),
    'get': (4, lambda t, key: t.get(key, MISSING), lambda draw: (draw.key(),)),
    'in': (2, lambda t, key: key in t, lambda draw: (draw.key(),)),
    'del': (3, delete, lambda draw: (draw.key(),)),
    'pop': (3, lambda t, key: t.pop(key, MISSING), lambda draw: (draw.key(),)),
    'pop or raise': (1, lambda t, key: t.pop(key), lambda draw: (draw.key(),)),
    'popitem': (2, lambda t: t.popitem(), lambda draw: ()),
    'setdefault': (4, lambda t, key, value: t.setdefault(key, value), lambda draw: (draw.key(), draw.value())),
    'update': (2, lambda t, pairs: t.update(pairs), lambda draw: (draw.pairs(),)),
    'put_many': (2, lambda t, pairs: t.put_many(pairs), lambda draw: (draw.pairs(),)),
    'get_many': (2, lambda t, keys: t.get_many(keys), lambda draw: (draw.keys(),)),
    'pop_many': (1, lambda t, keys: t.pop_many(keys), lambda draw: (draw.keys(),)),
    'edit': (3, edit, lambda draw: (draw.name('edited'), draw.rng.random())),
    'slice': (2, lambda t, low, high: t[low:high], lambda draw: draw.bounds()),
    'prefix': (1, lambda t, low: t.prefix(low), lambda draw: (draw.key()[:-1],)),
    'del range': (1, delete_range, lambda draw: draw.bounds()),
    'len': (1, len, lambda draw: ()),
    'items': (1, lambda t: t, lambda draw: ()),
    'reversed': (1, lambda t: list(reversed(t)), lambda draw: ()),
    'stream': (2, write_file, lambda draw: (draw.name('stream'), draw.rng.choice(('ab', 'ab', 'wb')),
                                            draw.rng.choice((b'line\n', bytes(5000))))),
    'long stream': (0.05, write_file, lambda draw: (draw.name('stream'), 'wb', bytes(600_000))),
    'append': (3, lambda t, key, item: t.list(key).append(item), lambda draw: (draw.name('list'), draw.value())),
    'shorten': (0.5, shorten, lambda draw: (draw.name('list'),)),
    'extend': (2, extend, lambda draw: (draw.name('column'), [draw.rng.randrange(99)] * draw.rng.choice((1, 700)))),
    'section': (3, section_write, lambda draw: (draw.rng.randrange(30), draw.value())),
    'section items': (1, lambda t: t.section('section'), lambda draw: ()),
    'nested': (3, nested, lambda draw: (draw.operations(), draw.rng.random() < 0.5)),
    'clear': (0.05, lambda t: t.clear(), lambda draw: ()),
}
NAMES = [name for name, (often, *_) in OPERATIONS.items() for _ in range(int(often * 20))]
WALKS = {
    'items': lambda v: iter(v.items()),
    'keys': lambda v: ((key, None) for key in v),
    'reversed': lambda v: ((key, None) for key in reversed(v)),
    'slice': lambda v, low, high: iter(v[low:high].items()),
}
READING = ('get', 'in', 'get_many', 'slice', 'prefix', 'len', 'items', 'reversed', 'section items')


def attempt(target, operation):
    """Do an operation and return what it gave, in short."""
    name, *arguments = operation
    try:
        return seen(OPERATIONS[name][1](target, *arguments))
    except KeyError:
        return 'KeyError'


# --- the workers --------------------------------------------------------------------------------------------------

class Worker:
    """One thread of the crowd. What it has to tell is in `notes`: the kind of each, and what belongs to it."""

    def __init__(self, folder, name, seed, vaults):
        self.folder, self.name = folder, name
        self.draw = Draw(f'{seed} {name}')
        self.rng = self.draw.rng
        self.clocked, self.free = vaults
        self.reader = Vault(folder / 'clocked.db', flag='r')
        self.auditor = Vault(folder / 'free.db', flag='r')
        self.notes, self.own, self.left, self.versions, self.count = [], {}, collections.deque(maxlen=3), {}, 0
        self.lists = self.free.list('list'), self.free.column('column', 'int64')
        self.added = 1_000_000 * zlib.crc32(name.encode())
        self.forks = threading.active_count() == 1

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
        for _ in range(rounds):
            try:
                self.step()
            except VaultBusyError as error:
                self.note('busy', str(error))
            except Exception:
                self.note('broke', f'worker {self.name}: {traceback.format_exc()}')
                break
        self.note('own', self.own)
        self.note('count', self.count)
        for vault in (self.reader, self.auditor):
            vault.close()
        with open(self.folder / f'{self.name}.notes', 'ab') as file:
            pickle.dump(self.notes, file)

    # --- with the clock ---

    def block(self, operations=None):
        """Do operations in a block, and return what they gave; one in ten of those that are drawn fails."""
        v, fails = self.clocked, not operations and self.rng.random() < 0.1
        operations = operations or self.draw.operations()
        try:
            with v:
                now = v.get('clock', 0) + 1
                got = [attempt(v, operation) for operation in operations]
                v['clock'] = now
                if fails:
                    raise Failed
            self.note('block', now, operations, got)
        except Failed:
            self.note('state', now - 1, [('nested', operations, True)], [seen(got)])
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
            got = OPERATIONS[name][1](v, *arguments)
            got = seen(got) if name == 'get' else got
        self.note('read', name, arguments, (before, begun, v.get('clock', 0)), got)

    def disturb(self):
        """In the middle of a walk give others time, or delete some entries; return the keys of these."""
        keys = sorted({self.draw.key() for _ in range(self.rng.choice((0, 0, 20)))})
        if keys:
            return {key for key, got in zip(keys, self.block([('pop', key) for key in keys])) if got != repr(MISSING)}
        time.sleep(self.rng.choice((0, 0.003)))
        return set()

    def read_block(self):
        with self.reader as r:
            operations = [('get', 'clock'), *(one for _ in range(9) for one in [self.draw.operation()]
                                              if one[0] in READING)]
            now = r.get('clock', 0)
            self.note('state', now, operations, [attempt(r, operation) for operation in operations])

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

    def compact(self):
        self.clocked.compact()

    def look_after(self):
        self.insist(self.clocked.check() == [], f'check(): {self.clocked.check()}')
        self.clocked.sync()

    def leave(self):
        walk = iter(self.rng.choice((self.clocked.items(), self.clocked.keys(), self.clocked[:].items())))
        next(walk, None)
        self.left.append(walk)

    def fork(self):
        """Have a child do rounds, half of them from inside a block of this process."""
        if not (self.forks and METHOD == 'fork'):
            return
        inside = self.rng.random() < 0.5
        with self.clocked if inside else contextlib.nullcontext():
            child = os.fork()
            if not child:
                self.be_child(inside)
            if inside:  # the child cannot write before this block ends, but must not have to
                self.insist(os.waitpid(child, 0)[1] == 0, 'a child forked in a block failed')
        if not inside:
            self.insist(os.waitpid(child, 0)[1] == 0, 'a forked child failed')

    def be_child(self, inside):
        try:
            self.notes, self.draw = [], Draw(f'{self.name} {self.rng.random()}')
            self.rng = self.draw.rng
            for action in (self.read_block, self.transfer) if inside else (self.block, self.read_one, self.transfer):
                action()
        except VaultBusyError as error:
            self.note('busy', str(error))
        except BaseException:
            self.note('broke', f'child of worker {self.name}: {traceback.format_exc()}')
        with open(self.folder / f'{self.name} {os.getpid()}.notes', 'wb') as file:
            pickle.dump(self.notes, file)
        os._exit(0)

    # --- without it ---

    def transfer(self):
        giver, taker, amount = self.rng.randrange(ACCOUNTS), self.rng.randrange(ACCOUNTS), self.rng.randrange(100)
        with contextlib.suppress(Failed), self.free as v:
            v['account', giver] -= amount
            if self.rng.random() < 0.2:
                raise Failed
            v['account', taker] += amount

    def audit(self):
        with self.auditor as r:
            total = sum(r.prefix(('account',)).values())
            self.insist(total == ACCOUNTS * DEPOSIT, f'the accounts add up to {total}')

    def add(self):
        with self.free.edit(('counter', self.rng.randrange(2)), {'n': 0}) as counter:
            counter['n'] += 1
        self.count += 1

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
        verb = self.rng.choice(('put', 'put', 'pop', 'setdefault', 'update', 'put_many', 'get', 'del'))
        if verb in ('update', 'put_many', 'put'):
            self.free.put(key, value) if verb == 'put' else getattr(self.free, verb)([(key, value)])
            self.own[key] = value
        elif verb == 'del':
            got, expected = attempt(self.free, ('del', key)), attempt(self.own, ('del', key))
            self.insist(got == expected, f'del {key} gave {got}, not {expected}')
        else:
            arguments = (key, value) if verb == 'setdefault' else (key, MISSING)
            got, expected = getattr(self.free, verb)(*arguments), getattr(self.own, verb)(*arguments)
            self.insist(got == expected, f'{verb} {key} gave {got!r:.80}, not {expected!r:.80}')

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
        for _ in range(3):
            key = ('race', int(time.time() * 200))
            self.note('race', key, self.free.setdefault(key, self.name))

    def give(self):
        token = f'{self.name} {len(self.notes)}'
        self.free.section('tokens')[token] = token
        self.note('given', token)

    def take(self):
        """Take tokens that others may want to take as well."""
        tokens = self.free.section('tokens')
        wanted, verb = tokens.keys()[:2], self.rng.choice(('pop', 'popitem', 'pop_many'))
        with contextlib.suppress(KeyError):
            if verb == 'pop':
                taken = [tokens.pop(wanted[0])] if wanted else []
            else:
                taken = [tokens.popitem()[1]] if verb == 'popitem' else tokens.pop_many(wanted).values()
            for token in taken:
                self.note('taken', token)


ACTIONS = (('read_one', 0.3), ('read_block', 0.1), ('transfer', 0.3), ('audit', 0.1), ('add', 0.3), ('overwrite', 0.2),
           ('look', 0.1), ('tend', 0.3), ('race', 0.1), ('append', 0.1), ('give', 0.2), ('take', 0.2), ('leave', 0.1), ('reopen', 0.02),
           ('back_up', 0.005), ('look_after', 0.005), ('compact', 0.002), ('fork', 0.01))


def be_process(folder, number, threads, rounds, seed, start):
    """Be one process of the crowd."""
    faulthandler.dump_traceback_later(HANGS + rounds, exit=True)
    start.wait()
    vaults = [Vault(folder / f'{name}.db', thread_safe=threads > 8) for name in ('clocked', 'free')]
    if threads == 1:
        Worker(folder, f'{number}.0', seed, vaults).run(rounds)
    else:
        workers = [threading.Thread(target=lambda name: Worker(folder, name, seed, vaults).run(rounds),
                                    args=(f'{number}.{thread}',)) for thread in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    for vault in vaults:
        vault.close()


def run_processes(count, target, *arguments):
    """Run processes that begin together; return their exit codes."""
    context = multiprocessing.get_context(METHOD)
    start = context.Barrier(count)
    processes = [context.Process(target=target, args=(*arguments[:1], number, *arguments[1:], start))
                 for number in range(count)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return [process.exitcode for process in processes]


# --- the replay ---------------------------------------------------------------------------------------------------

class Replay:
    """The blocks in the order of the clock, on a model, and what each entry was at each time."""

    def __init__(self, trial, notes):
        self.trial, self.model = trial, Model()
        self.history = collections.defaultdict(lambda: ([-1], [(None, None)]))  # by key: times, and from then on what
        self.lengths, self.orders = [0], {}
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


def read_notes(folder):
    notes = collections.defaultdict(list)
    for path in folder.glob('*.notes'):
        for note in pickle.loads(path.read_bytes()):
            notes[note[0]].append(note)
    return notes


def examine_file(trial, v):
    try:
        v._check()
    except (AssertionError, VaultError) as error:
        trial.broke(f'{v}: {error!r}')


def examine_clocked(trial, folder, notes):
    replay = Replay(trial, notes)
    replay.run()
    with contextlib.closing(Vault(folder / 'clocked.db')) as v:
        examine_file(trial, v)
        if plain(v) != plain(replay.model):
            trial.broke('the vault is not at the end what the blocks make in the order of the clock')
    for _, name, arguments, times, got in notes['read']:
        wrong = replay.judge(name, arguments, times, got)
        if wrong:
            trial.broke(f'{name} {arguments} between {times}: {wrong}'[:500])
    return replay


def examine_free(trial, folder, notes):
    own = {key: value for _, mine in notes['own'] for key, value in mine.items()}
    given, taken = ([note[1] for note in notes[kind]] for kind in ('given', 'taken'))
    with contextlib.closing(Vault(folder / 'free.db')) as v:
        examine_file(trial, v)
        if own != {key: value for key, value in v.items() if key[0] in ('own', 'hot')}:
            trial.broke('keys that one worker writes are not what it wrote')
        counted = sum(counter['n'] for counter in v.prefix(('counter',)).values())
        if counted != sum(note[1] for note in notes['count']):
            trial.broke(f'{counted} is counted, not {sum(note[1] for note in notes["count"])}')
        if sorted(taken + list(v.section('tokens'))) != sorted(given):
            trial.broke(f'{len(given)} tokens were given, {len(taken)} taken, {len(v.section("tokens"))} are left')
        for items in v.list('list'), v.column('column', 'int64'):
            if sorted(items) != sorted(note[1] for note in notes['added']):
                trial.broke(f'{len(notes["added"])} items were added, {len(items)} are there, or others')
        for _, key, winner in notes['race']:
            if v[key] != winner:
                trial.broke(f'setdefault() gave {winner} for {key}, which is {v[key]}')
        if sum(v.prefix(('account',)).values()) != ACCOUNTS * DEPOSIT:
            trial.broke('the accounts do not add up')


def crowd(trial, processes, threads, rounds, seed):
    """Let one mix work and examine what it leaves; return the line of figures."""
    folder, began = pathlib.Path(tempfile.mkdtemp()), time.monotonic()
    try:
        with contextlib.closing(Vault(folder / 'free.db')) as v:
            v.update((('account', number), DEPOSIT) for number in range(ACCOUNTS))
        Vault(folder / 'clocked.db').close()
        codes = run_processes(processes, be_process, folder, threads, -(-rounds // (processes * threads)),
                              f'{seed} {processes}x{threads}')
        if any(codes):
            trial.broke(f'processes ended with {sorted(set(codes))}')
        took, notes = time.monotonic() - began, read_notes(folder)
        for what in [note[1] for note in notes['broke']] + [f'busy: {note[1]}' for note in notes['busy']]:
            trial.broke(what)
        replay = examine_clocked(trial, folder, notes)
        examine_free(trial, folder, notes)
    finally:
        shutil.rmtree(folder)
    operations = sum(len(block[1]) for block in replay.blocks)
    return (f'{processes} processes of {threads} threads: {len(replay.blocks)} blocks of {operations} operations, '
            f'{len(notes["read"])} reads outside and {len(notes["state"])} states fit one order; '
            f'{len(notes["taken"])} tokens moved; {len(notes["busy"])} busy; {took:.1f} s')


# --- the peers ----------------------------------------------------------------------------------------------------

def be_peer(folder, number, name, rounds, start):
    """Put keys of its own, and count along with the others; note what was acknowledged."""
    put, counted, errors = [], 0, collections.Counter()
    start.wait()
    try:
        store = open_store(name, folder)
        for one in range(rounds):
            try:
                store.db[f'{number} {one}'] = one
                put.append(f'{number} {one}')
                add = store.transact if store.has_transactions else store.write
                add((key, store.db[key] + 1) for key in ['counter'])
                counted += 1
            except Exception as error:
                errors[type(error).__name__] += 1
        store.close()
    except BaseException as error:
        errors[f'opening or closing: {type(error).__name__}'] += 1
    (folder / f'{number}.notes').write_bytes(pickle.dumps([('peer', put, counted, errors)]))


def peer(trial, name, rounds):
    """Let processes write to a peer, or to a vault in the same way, and count what is lost."""
    folder, began = pathlib.Path(tempfile.mkdtemp()), time.monotonic()
    try:
        with contextlib.closing(open_store(name, folder)) as store:
            store.db['counter'] = 0
        codes = run_processes(PEERS, be_peer, folder, name, -(-rounds // PEERS))
        notes = [note[1:] for note in read_notes(folder)['peer']]
        put, counted = [key for mine, _, _ in notes for key in mine], sum(count for _, count, _ in notes)
        errors = sum((errors for *_, errors in notes), collections.Counter())
        lost, found = examined(name, folder, put)
    finally:
        shutil.rmtree(folder)
    if lost or found != counted or errors or any(codes):
        trial.broke(f'{name}: errors {dict(errors)}, exit codes {sorted(set(codes))}')
    return (f'{name}: {PEERS} processes, {len(put)} puts acknowledged and {lost} lost, {counted} times counted and '
            f'{counted - found if isinstance(found, int) else found} lost, {sum(errors.values())} errors; {time.monotonic() - began:.1f} s')


def examined(name, folder, put):
    """Return how many keys are missing or wrong, and the counter; or how the store cannot be read."""
    try:
        with contextlib.closing(open_store(name, folder)) as store:
            return sum(store.db.get(key) != int(key.split()[1]) for key in put), store.db['counter']
    except Exception as error:
        return len(put), f'unreadable ({type(error).__name__}), so that all are'


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
