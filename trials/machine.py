"""Let Hypothesis write programs over the whole surface of vaults, and compare each step with a dict.

    python trials/machine.py [--rounds N] [--seed S] [--steps N] [--engine sqlite|postgresql|json]

A program is up to 60 random steps with one file: the calls of a dict, slices, live lists and columns, files that stay
open for many steps, iterators that began before the writes, sections, blocks in blocks that commit or fail, several
vaults on the file, a second process, forks, threads, `compact`, a backup, closing in the middle; in every mode a vault
has. After each step it must hold what the model holds, in its order, with the very types, and at the end pass its
`_check()`. In half of the programs parts, pages and checkpoints are tiny, so that a few items make deep trees and a walk
of many pages. With another engine it is the same, in those modes that it has; a JSON file has no others who open it.

What each call does by itself, with all its arguments, is in spec/; here they meet. Prints how often each rule was
followed. When a promise broke, it prints the shortest program that Hypothesis finds for it, and exits with 1. By hand:
--rounds 5000 --steps 100.
"""
from __future__ import annotations

import array
import collections
import copy
import functools
import importlib
import io
import itertools
import logging
import os
import pathlib
import pickle
import pkgutil
import shutil
import subprocess
import sys
import tempfile
import traceback
from contextlib import closing, nullcontext, suppress
from operator import mul

from shared import ROOT, values
from shared.model import Verbs, difference, plain
from shared.processes import as_role, role
from shared.verdict import Trial

sys.path.insert(0, str(ROOT))

import vaults  # the folder is known only now, as below
from vaults import Vault
from vaults.sections import suffix

try:
    import hypothesis
    from hypothesis import HealthCheck, Phase, settings, stateful
    from hypothesis import strategies as st
    from hypothesis.stateful import precondition

    from spec import helpers, servers
except ImportError as missing:
    print(f"nothing was tried, the machine needs what the tests need ({missing}): pip install '.[test]'")
    sys.exit(0)

COUNTS = collections.Counter()
NEW = 9                 # programs in a run of Hypothesis: after ten new ones it would rather draw variants of them
REFUSED = 'refused'     # the text that validation refuses

# --- the modes of a vault, and sizes of its parts ------------------------------------------------------------------

def refuse(key, value):
    if isinstance(value, str) and value == REFUSED:
        raise ValueError(f'{key!r} is refused')


MODES = {
    'plain': {},
    'thread_safe': {'thread_safe': True},
    'read cache': {'read_cache': 5},
    'write-back': {'writeback': True, 'cache_size': 3},
    'write-back of all': {'writeback': True},
    'serializer': {'serializer': ('pickled', pickle.dumps, pickle.loads)},
    'validate': {'validate': refuse},
    'validate write-back': {'validate': refuse, 'writeback': True, 'cache_size': 18},
    'memory': {},
}
OF_ANY_ENGINE = ('plain', 'serializer', 'validate', 'write-back', 'write-back of all', 'validate write-back')
ENGINES = {  # where the vault of a program lies, by its folder
    'sqlite': lambda folder: pathlib.Path(folder, 'v.db'),
    'postgresql': lambda folder: servers.postgres().vault(),
    'json': lambda folder: f'json+file://{folder}/v.json',
}
TINY = {  # by the package whose modules have these constants
    'vaults.collections': {'LEAF': 40, 'STREAM_LEAF': 40, 'ITEMS': 5, 'AHEAD': 2, 'FANOUT': 4, 'KEPT_NODES': 3, 'MANY': 200, 'SMALL': 20,
                           'KEPT_LEAVES': 2, 'BUFFER': 32, 'KEPT_BACK': 7, 'KEPT_BACK_BYTES': 90},
    'vaults.stores.postgresql': {},
    'vaults.stores.sqlite': {'FIRST_PAGE': 2, 'LAST_PAGE': 4, 'TICK': 40_000, 'CHECKPOINT': 120_000, 'FEW_PUTS': 0, 'MANY_PUTS': 0,
                             'MOST_ROWS': 3},
}
USUAL = {(module, name): getattr(module, name) for package, sizes in TINY.items()
         for module in [importlib.import_module(f'{package}.{one.name}')
                        for one in pkgutil.iter_modules(importlib.import_module(package).__path__)]
         for name in sizes if hasattr(module, name)}


def use_sizes(tiny):
    for (module, name), usual in USUAL.items():
        setattr(module, name, TINY[module.__package__][name] if tiny else usual)


def open_vault(path, mode, **options):
    """Open the vault of a program. A short timeout: where somebody else has a block open, a write is to fail."""
    return Vault(path, **{'timeout': 0.0, 'allow_pickle': True, **MODES[mode], **options})


def place(vault, path):
    for name in path:
        vault = vault.section(name)
    return vault


# --- others who have the file open ---------------------------------------------------------------------------------

@role
def serve():
    """Be the second process: open a vault, or do with it what is asked, and send what comes of it."""
    vault = None
    with suppress(EOFError):
        while True:
            tiny, *what = pickle.load(sys.stdin.buffer)
            if tiny is not None:
                if vault is not None:
                    vault.close()
                use_sizes(tiny)
                vault = open_vault(*what)
            pickle.dump(None if tiny is not None else outcome(visit, vault, *what), sys.stdout.buffer)
            sys.stdout.buffer.flush()


def visit(vault, aliased, verb, path, key, value):
    """Do what others do. In write-back mode, what they keep may be old, but in a block; and one that fails leaves nothing behind."""
    if verb == 'look' and aliased:
        file = vault.db_path if '://' in vault.db_path else pathlib.Path(vault.db_path)
        vault = Vault(file, flag='r', allow_pickle=True)  # which live lists in the answer keep open
    with vault if aliased and verb != 'look' else nullcontext():
        target = place(vault, path)
        return list(target.items()) if verb == 'look' else target.pop(key, None) if verb == 'pop' else target.__setitem__(key, value)


# --- the model -----------------------------------------------------------------------------------------------------

def canonical(key, inside=False):
    """Return the form in which a key comes back: inside tuples, numbers that an int equals are ints."""
    if isinstance(key, tuple):
        return tuple(canonical(one, True) for one in key)
    return int(key) if inside and isinstance(key, (bool, float)) and key == int(key) else key


def rank(key):
    """Return what sorts as keys do: numbers, text, None, bytes, tuples."""
    kinds = ((int, float), str, type(None), bytes, tuple)
    kind = next(number for number, kind in enumerate(kinds) if isinstance(key, kind))
    return kind, [rank(one) for one in key] if kind == 4 else 0 if key is None else key


def shown(value):
    """Return a value in a form whose `==` looks at types as well; live and model lists are the same."""
    if type(value) in LIVE:
        return 'live', getattr(value, 'dtype', 'list'), values.typed(value.tolist())
    if isinstance(value, array.array):
        return 'array', values.typed(value.tolist())
    if isinstance(value, (list, tuple)):
        return type(value).__name__, [shown(one) for one in value]
    return values.typed({key: shown(one) for key, one in value.items()} if type(value) is dict else value)


ERRORS = (vaults.VaultClosedError, vaults.VaultBusyError, vaults.VaultReadOnlyError, vaults.VaultExistsError, KeyError,
          IndexError, OverflowError, ValueError, TypeError, ZeroDivisionError, vaults.VaultError)


def outcome(act, *arguments):
    """Return what a call returns, or the kind of error that it raises, to be compared."""
    try:
        return shown(act(*arguments))
    except ERRORS as error:
        return 'raised', next(cls.__name__ for cls in ERRORS if isinstance(error, cls))


def agree(found, expected, what):
    """Assert that two sequences are the same, types and all."""
    problem = difference([*map(shown, found)], [*map(shown, expected)])
    assert not problem, f'{what}: {problem}'


class Live:
    """A list or column of the model."""

    def __init__(self, dtype, items=()):
        self.dtype, self.items = dtype, list(items)

    def tolist(self):
        return self.items

    def in_memory(self):
        """Return the copy that is handed out when the entry goes."""
        return list(self.items) if self.dtype == 'list' else array.array({'int16': 'h', 'float64': 'd'}[self.dtype], self.items)


LIVE = vaults.List, vaults.Column, Live


class Model(Verbs):
    """The vault, or a section of it, as a dict: a view of the entries of a program, {key: (number, value)}.

    The number is another one for each entry that was ever made.
    """

    def __init__(self, program, path):
        self.program, self.path = program, path

    def full(self, key):
        return canonical(self.path + suffix(key) if self.path else key)

    def own(self, full):
        rest = full[len(self.path):] if self.path else full
        return rest if not self.path or suffix(rest) is rest else rest[0]

    def holds(self, full):
        many = len(self.path)
        return not many or (isinstance(full, tuple) and len(full) > many and full[:many] == self.path)

    def __getitem__(self, key):
        value = self.program.entries[self.full(key)][1]
        return value if self.program.aliased or isinstance(value, Live) else copy.deepcopy(value)

    def __setitem__(self, key, value):
        if self.program.validates:
            refuse(key, value)
        self.program.put(self.full(key), value)

    def __delitem__(self, key):
        del self.program.entries[self.full(key)]

    def __iter__(self):
        return iter([self.own(full) for full in self.program.entries if self.holds(full)])

    def __len__(self):
        return sum(map(self.holds, self.program.entries))

    def pop(self, key, *default):
        value = super().pop(key, *default)
        return value.in_memory() if isinstance(value, Live) else value

    def move_to_end(self, key, last=True):
        program, full = self.program, self.full(key)
        full = next((one for one in program.entries if one == full), full)  # in the form in which it was put
        number, value = program.entries.pop(full)
        moved = {full: (next(program.numbers), value)}
        program.entries = {**program.entries, **moved} if last else {**moved, **program.entries}
        program.moved |= {number} if last else {number, moved[full][0]}

    def update(self, pairs):
        before = dict(self.program.entries)
        try:
            super().update(pairs)
        except Exception:
            self.program.entries = before
            raise

    def between(self, low, high):
        """Return the entries between two keys, in the order of the keys."""
        low, high = ([] if bound is None else [rank(self.full(bound))] for bound in (low, high))
        wanted = sorted((full for full in self.program.entries if self.holds(full)
                         and low <= [rank(full)] and (not high or [rank(full)] < high)), key=rank)
        return {self.own(full): self.program.entries[full][1] for full in wanted}


class Walk:
    """An iterator that goes on over many steps, and what it may and must still yield."""

    def __init__(self, program, iterator, keys, with_values):
        self.iterator, self.vault, self.with_values = iterator, program.vault, with_values
        self.full = Model(program, program.path).full
        fulls = [(key, self.full(key)) for key in keys]
        self.left = collections.deque((key, full, program.entries[full]) for key, full in fulls)
        self.block, self.is_undone = program.saved[-1] if program.saved else None, False    # it ends where that is rolled back
        self.gone = {}                                              # numbers of entries, and who deleted them

    def look(self, program):
        """Note which entries a step has deleted."""
        for _, full, (number, _) in self.left:
            if program.entries.get(full, self.left)[0] != number:
                self.gone[number] = None if number in program.moved else program.actor  # which may be left out or not

    def step(self, program):
        """Take one element. Return whether there was one."""
        try:
            found = next(self.iterator, self)
        except vaults.VaultError as error:
            assert self.is_undone, f'a walk broke off: {error}'
            return False
        if found is self:
            left = [key for key, _, (number, _) in self.left if number not in self.gone]
            assert not left or self.is_undone, f'a walk left out {left!r}'
            return False
        key, value = found if self.with_values else (found, None)
        number = program.entries.get(self.full(key), (0,))[0]
        if number in program.moved and all(number != entry[0] for _, _, entry in self.left):
            return True  # it was moved to the front since, where it is as if it was older than the walk
        while not self.is_undone:
            assert self.left, f'a walk yielded {key!r}, which was not there when it began, or came twice'
            own, full, entry = self.left.popleft()
            if own == key:
                now = program.entries.get(full, entry)
                assert self.gone.get(entry[0]) is not self.vault or now[0] == entry[0], f'a walk yielded {key!r}, which had been deleted'
                is_there = full in program.entries and now is entry     # a list that another vault has deleted cannot be read
                assert not self.with_values or not is_there or self.vault is not program.vault or shown(value) == shown(entry[1]), \
                    f'{key!r} never was {value!r}'
                break
            assert entry[0] in self.gone, f'a walk left out {own!r}'
        return True


class OpenFile(io.BytesIO):
    """A file object that stays open over many steps, and, as its content, what should be in it."""

    def __init__(self, program, file, full, mode):
        self.file, self.full, self.mode = file, full, mode
        self.vault, self.undone, self.entry = program.vault, program.undone, program.entries.get(full)
        super().__init__(b'' if self.entry is None or mode[0] in 'wx' else in_bytes(self.entry[1]))
        self.began = self.seek(0, 2)
        self.seek(self.began if mode[0] == 'a' else 0)
        self.changed, self.cut = mode[0] in 'wx' or (mode[0] == 'a' and self.entry is None), False

    def write(self, data):
        self.changed |= bool(data)
        if self.mode[0] == 'a':
            self.seek(0, 2)
        return super().write(data)

    def truncate(self, size):
        self.changed |= size < len(self.getvalue())
        self.cut |= size < self.began
        return super().truncate(size)

    def discard(self):
        getattr(self.file, 'raw', self.file).discard()

    def saved(self, now):
        """Return the error with which closing it ends, or '', and what closing makes of the entry, which is `now` another one."""
        kind, data = self.mode[0], self.getvalue()
        if not self.changed:
            return '', None
        if kind == 'x' and now:
            return 'VaultExistsError', None
        if kind in 'wx' or shown(now and now[1]) == shown(self.entry and self.entry[1]):
            return '', data
        if kind == 'r' or self.cut:
            return 'VaultError', None
        theirs = b'' if now is None else in_bytes(now[1])
        return ('TypeError', None) if theirs is None else ('', theirs + data[self.began:])


def in_bytes(value):
    """Return what a file object of a value has; None where there is no such object."""
    return value.encode('utf-8', 'surrogatepass') if isinstance(value, str) else value if isinstance(value, (bytes, bytearray)) else None


# --- what the steps are drawn from ---------------------------------------------------------------------------------

class Failing:
    """What some things can be taken from, and then it fails."""

    def __init__(self, things):
        self.things = things

    def __iter__(self):
        yield from self.things
        raise ZeroDivisionError


PATHS = [(), (), ('a',), ('a', 'b'), (1,)]
ALL_KEYS = [0, 1, 2.0, 7, 'a', 'b', 'ab', ('a', 'b'), ('a', 1), ('a',), ('a', 'b', 'c'), (('a', 'b'),), (),
            None, b'a', True]
KEYS = st.sampled_from(ALL_KEYS)
BOUNDS = st.none() | KEYS.filter(lambda key: key is not None)
LISTS = st.lists(st.integers(), max_size=2)
VALUES = LISTS | st.sampled_from(values.VALUES) | st.sampled_from([REFUSED, 'x' * 5000, b'y' * 700]) | st.binary(max_size=70)
PAIRS = st.lists(st.tuples(KEYS, VALUES), max_size=6)
ROWS = st.integers(6, 20).map(lambda n: [(number, [number]) for number in range(n)])
CALLS = st.one_of(
    st.tuples(st.sampled_from(['get', '__contains__', '__getitem__', '__delitem__', 'pop']), KEYS),
    st.tuples(st.just('pop'), KEYS, st.just('d')), st.tuples(st.just('move_to_end'), KEYS, st.booleans()),
    st.tuples(st.sampled_from(['__setitem__', '__setitem__', 'setdefault']), KEYS, VALUES))
CALLS_OF_MANY = st.one_of(
    st.tuples(st.just('update'), PAIRS), st.tuples(st.just('update'), PAIRS | ROWS), st.tuples(st.just('update'), PAIRS.map(Failing)),
    st.tuples(st.sampled_from(['get_many', 'pop_many']), st.lists(KEYS, max_size=4)),
    st.sampled_from([('popitem', True), ('popitem', False), ('popitem', True), ('clear',)]))
WALKS = st.sampled_from(['keys', 'items', 'back', 'items back', 'sorted', 'sorted items', 'sorted back'])
FILE_STEPS = st.one_of(
    st.tuples(st.just('write'), st.binary(max_size=150) | st.sampled_from([30, 700, 600_000]).map(lambda n: b'z' * n)),
    st.tuples(st.just('read'), st.integers(0, 400)), st.tuples(st.just('truncate'), st.integers(0, 300)),
    st.tuples(st.just('seek'), st.integers(0, 500), st.just(0)), st.tuples(st.just('seek'), st.just(0), st.just(2)))
INDEX = st.integers(-12, 12) | st.integers(-300, 300)
SLICES = st.builds(slice, st.none() | INDEX, st.none() | INDEX, st.sampled_from([None, 1, 1, 2, -1, -3]))
ITEMS = {'list': st.integers() | st.sampled_from(values.VALUES), 'int16': st.integers(-2**15, 2**15 - 1),
         'float64': st.floats(allow_nan=False)}


def steps_of(kind):
    """Return strategies for a list, or columns of a type: its kind, and the calls of several steps."""
    item = ITEMS[kind]
    many = st.lists(item, max_size=4) | st.builds(mul, st.lists(item, min_size=1, max_size=3), st.integers(0, 99))
    return st.tuples(st.just(kind), st.lists(min_size=1, max_size=8, elements=st.one_of(
        st.tuples(st.just('append'), item), st.tuples(st.just('extend'), many | many.map(Failing)),
        st.tuples(st.sampled_from(['insert', '__setitem__']), INDEX, item), st.tuples(st.just('__setitem__'), SLICES, many),
        st.tuples(st.sampled_from(['__delitem__', '__getitem__']), INDEX | SLICES),
        st.tuples(st.just('pop')), st.tuples(st.just('pop'), INDEX | st.just(0)),
        st.tuples(st.sampled_from(['remove', 'index', 'count', '__contains__']), item),
        st.tuples(st.sampled_from(['clear', 'reverse', 'copy'])))))


def step(**drawn):
    """Make a method a rule that begins by choosing a section, or the vault, and is counted."""
    def decorate(function):
        @functools.wraps(function)
        def run(self, path, **values):
            self.path, self.actor = path, self.vault
            COUNTS[function.__name__] += 1
            function(self, **values)
        return stateful.rule(path=st.sampled_from(PATHS), **drawn)(run)
    return decorate


in_block = precondition(lambda self: self.saved)
on_disk = precondition(lambda self: self.mode != 'memory')
with_others = precondition(lambda self: self.shared)
with_parts = precondition(lambda self: not self.validates)
writes_back = precondition(lambda self: self.aliased)

# --- the machine ---------------------------------------------------------------------------------------------------


class Surface(stateful.RuleBasedStateMachine):
    """A program: what it has open, and the model of what is in the file."""

    other = None        # the second process
    engine = 'sqlite'

    @stateful.initialize(mode=st.sampled_from(sorted(MODES)), tiny=st.booleans())
    def start(self, mode, tiny):
        if self.engine != 'sqlite' and mode not in OF_ANY_ENGINE:
            mode = OF_ANY_ENGINE[sorted(MODES).index(mode) % len(OF_ANY_ENGINE)]
        self.mode, self.tiny, self.shared = mode, tiny, mode != 'memory' and self.engine != 'json'
        use_sizes(tiny)
        self.aliased, self.validates = 'writeback' in MODES[mode], 'validate' in MODES[mode]
        self.folder = tempfile.mkdtemp()
        self.file = ':memory:' if mode == 'memory' else ENGINES[self.engine](self.folder)
        self.entries, self.numbers, self.moved = {}, itertools.count(1), set()
        self.path, self.saved, self.undone = (), [], 0      # the section, the blocks, and how often something was undone
        self.vaults, self.handles, self.files, self.walks, self.held = [], [], [], [], []
        self.begin_again()

    def ask(self, *what):
        """Have the second process do something."""
        pickle.dump(what, self.other.stdin)
        self.other.stdin.flush()
        return pickle.load(self.other.stdout)

    v = property(lambda self: place(self.vault, self.path))
    d = property(lambda self: Model(self, self.path))

    def settle(self, vault=None):
        """Write what a vault in write-back mode holds back, and have it look at what others have written."""
        if self.aliased and not self.saved:
            (self.vault if vault is None else vault).sync()

    def put(self, full, value):
        number = self.entries[full][0] if full in self.entries else next(self.numbers)
        self.entries[full] = number, value

    def committed(self, path=()):
        """Return the items that are seen from outside a block."""
        now, self.entries = self.entries, self.saved[0][0] if self.saved else self.entries
        try:
            return list(Model(self, path).items())
        finally:
            self.entries = now

    def known(self, key, kinds=object):
        """Return a key of the section with such a value, two times in three; else, and where there is none, the key."""
        model, at = self.d, ALL_KEYS.index(key)
        known = [model.own(full) for full, (_, value) in self.entries.items() if model.holds(full) and isinstance(value, kinds)]
        return known[at % len(known)] if known and at % 3 else key

    def both(self, act):
        """Do the same to the vault, or section, and to the model, and compare what comes of it. Return whether it was done."""
        found, expected = [outcome(act, mapping) for mapping in (self.v, self.d)]
        assert found == expected, f'{found} and not {expected}'
        return found[0] != 'raised'

    def was_undone(self):
        self.undone += 1
        self.held.clear()

    # --- the dict ---

    @step(calls=st.lists(CALLS, min_size=1, max_size=4))
    def call(self, calls):
        for name, key, *rest in calls:
            key = key if name == 'setdefault' else self.known(key)
            self.both(lambda m, name=name, key=key, rest=rest: getattr(m, name)(key, *copy.deepcopy(rest)))

    @step(call=CALLS_OF_MANY)
    def call_many(self, call):
        name, *arguments = call
        if not self.both(lambda m: getattr(m, name)(*copy.deepcopy(arguments))):
            self.was_undone()

    @writes_back
    @step(key=KEYS, what=st.sampled_from(['one', 'all', 'held']), which=st.integers(0, 9))
    def change(self, key, what, which):
        """Change lists in place; also one that was got some steps ago: if it is the entry's still, that is the entry."""
        if what == 'all':
            self.both(lambda m: [value.append(0) for value in m.values() if isinstance(value, list)])
            return
        if what == 'one' or not self.held:
            key, which = self.known(key, list), -1
            if not isinstance(self.d.get(key), list):
                self.both(lambda m: m.__setitem__(key, []))
            self.held.append((self.v[key], self.d[key]))
        for one in self.held[which % len(self.held)]:
            one.append(which)
        if self.mode != 'write-back of all':
            self.held.clear()   # it may leave the cache

    # --- ranges, and iterators that go on ---

    @step(low=BOUNDS, high=BOUNDS, key=KEYS, delete=st.booleans())
    def work_on_slice(self, low, high, key, delete):
        found, expected = self.v[low:high], self.d.between(low, high)
        agree(found.items(), expected.items(), 'the slice')
        agree(reversed(found), list(expected)[::-1], 'the slice, reversed')
        assert len(found) == len(expected) and bool(found) == bool(expected) and (key in found) == (key in expected)
        if delete:
            del self.v[low:high]
            for one in expected:
                del self.d[one]

    @step(kind=WALKS, low=BOUNDS)
    def begin_walk(self, kind, low):
        self.path = self.path if len(self.d) > 2 else ()
        mapping, model = (self.v[low:], self.d.between(low, None)) if 'sorted' in kind else (self.v, self.d)
        view = mapping.items() if 'items' in kind else mapping.keys()
        iterator, keys = (reversed(view), [*model][::-1]) if 'back' in kind else (iter(view), [*model])
        self.walks.append(Walk(self, iterator, keys, 'items' in kind))
        self.advance(self.walks[-1])    # a generator begins with its first element

    def advance(self, walk):
        if not walk.step(self):
            self.walks.remove(walk)

    @precondition(lambda self: self.walks)
    @step(which=st.integers(0, 9), elements=st.integers(1, 5), deleted=st.none() | st.integers(0, 9))
    def go_on_walking(self, which, elements, deleted):
        """Go on, perhaps when one of those to come has just been deleted."""
        walk = self.walks[which % len(self.walks)]
        if deleted is not None and walk.left and self.standing(walk.vault) == 'inside':
            full = walk.left[deleted % len(walk.left)][1]
            self.actor = walk.vault
            for vault in (self.vault, walk.vault):
                self.settle(vault)
            assert outcome(walk.vault.pop, full, 0) == outcome(Model(self, ()).pop, full, 0)
            self.settle()
            walk.look(self)
        for _ in range(elements):
            if walk in self.walks:
                self.advance(walk)

    # --- lists and columns ---

    def is_open(self, vault):
        return any(one is vault for one in self.vaults)  # `in` would compare what they hold

    def standing(self, vault):
        """Tell how things stand with a vault that something was got from: closed, kept out by a block, or neither."""
        return 'closed' if not self.is_open(vault) else 'outside' if self.saved and vault is not self.vault else 'inside'

    @with_parts
    @step(key=KEYS, which=st.integers(0, 9), steps=st.sampled_from(['list', *ITEMS]).flatmap(steps_of))
    def work_on_list(self, key, which, steps):
        """Work on a list or column that was got now, or some steps ago, perhaps by another vault."""
        kind, calls = steps
        handles = [one for one in self.handles if one[3] == kind]
        if which >= len(handles):
            key, which, v = self.known(key, Live), -1, self.v
            found = outcome(lambda: v.list(key) if kind == 'list' else v.column(key, kind))
            value = self.d.setdefault(key, Live(kind))
            if not isinstance(value, Live) or value.dtype != kind:
                assert found == ('raised', 'TypeError'), found
                return
            handles = self.handles = [*self.handles[-9:], (v[key], self.vault, self.d.full(key), kind)]
        live, vault, full, _ = handles[which]
        standing = self.standing(vault)
        self.settle()
        value = (self.saved[0][0] if standing == 'outside' else self.entries).get(full, (0, None))[1]
        if standing == 'closed':
            assert outcome(len, live) == outcome(live.clear) == ('raised', 'VaultClosedError')
        elif not isinstance(value, Live) or value.dtype != kind:
            assert outcome(list, live) == ('raised', 'VaultError')
            if standing == 'inside':
                assert outcome(live.clear) == ('raised', 'VaultError')
                self.undone += 1
        elif standing == 'outside':
            assert shown(live) == shown(value)
        else:
            for name, *arguments in calls:
                self.do_to_list(live, full, name, arguments)

    def do_to_list(self, live, full, name, arguments):
        value = self.entries[full][1]
        items = list(value.items)
        found, expected = (outcome(lambda one=one: plain(getattr(one, name)(*arguments))) for one in (live, items))
        assert found == expected, f'{name}: {found}, not {expected}'
        if found[0] == 'raised':
            self.undone += 1
        else:
            self.put(full, Live(value.dtype, items))
            value = self.entries[full][1]
        assert shown(live) == shown(value) and len(live) == len(value.items)
        agree(live, value.items, name)
        agree(reversed(live), value.items[::-1], name)

    @step(key=KEYS, other=KEYS, to=st.sampled_from(PATHS), by=st.integers(0, 3))
    def copy_value(self, key, other, to, by):
        """Copy between sections and vaults: a list becomes another list."""
        self.settle()
        source = self.vault if self.saved or not self.shared else self.vaults[by % len(self.vaults)]
        self.settle(source)
        key = self.known(key)

        def act(source, target):
            value = source[key]
            target[other] = value if type(value) in LIVE else copy.deepcopy(value)
        found = outcome(act, place(source, self.path), place(self.vault, to))
        assert found == outcome(act, self.d, Model(self, to)), found

    # --- files ---

    @with_parts
    @step(new=st.booleans(), key=KEYS, mode=st.sampled_from(['rb', 'wb', 'ab', 'xb', 'r+b', 'w+b']), buffering=st.sampled_from([0, -1, 7]),
          which=st.integers(0, 3), doing=st.lists(FILE_STEPS, min_size=1, max_size=12),
          then=st.sampled_from(['', '', 'close', 'close', 'discard']), meanwhile=st.booleans())
    def work_on_file(self, new, key, mode, buffering, which, doing, then, meanwhile):
        """Work on a file that was opened now, or some steps ago, perhaps by another vault; it may stay open."""
        self.settle()  # or what waits here would come behind what that vault puts
        if not self.files or (new and len(self.files) < 4):
            key, which = self.known(key, (str, bytes)) if mode[0] in 'ra' else key, -1
            fits = mode[0] in 'wax' if key not in self.d else mode[0] == 'w' or (mode[0] != 'x' and in_bytes(self.d[key]) is not None)
            if not fits:
                return
            self.files.append(OpenFile(self, self.v.open(key, mode, buffering), self.d.full(key), mode))
        able = [one for one in self.files if self.standing(one.vault) != 'outside']
        if able:
            one = able[which % len(able)]
            self.actor = one.vault
            for name, *arguments in doing:
                if one in self.files:
                    self.do_to_file(one, name, *arguments)
            if meanwhile and then == 'close' and self.is_open(one.vault):
                for mapping in (one.vault, Model(self, ())):
                    mapping[one.full] = b'meanwhile'
            if then and one in self.files:
                self.files.remove(one)
                one.discard() if then == 'discard' else self.close_file(one)
                self.settle()

    def do_to_file(self, one, name, argument, *rest):
        if name == 'write' and self.tiny:
            argument = argument[:6_000]
        elif name == 'truncate':
            argument = min(argument, len(one.getvalue()))
        try:
            found = getattr(one.file, name)(argument, *rest)
        except io.UnsupportedOperation:
            return  # in its mode
        except vaults.VaultError as error:
            self.files.remove(one)
            one.discard()
            assert self.may_fail(one), f'{name} broke off: {error}'
            return
        expected = getattr(one, name)(argument, *rest)
        assert found == expected, f'{found!r} and not {expected!r}'

    def may_fail(self, one):
        """Tell whether the entry, or what was written of it, has gone since."""
        return not self.is_open(one.vault) or one.undone != self.undone or self.entries.get(one.full) is not one.entry

    def close_file(self, one):
        found, (error, data) = outcome(one.file.close), one.saved(self.entries.get(one.full))
        if not self.is_open(one.vault):
            assert found == ('raised', 'VaultClosedError') or not one.changed
        elif found == ('raised', 'VaultError') != ('raised', error):
            assert self.may_fail(one)
        else:
            assert found == (('raised', error) if error else shown(None)), f'{found} and not {error}'
        if found[0] == 'raised':
            self.undone += 1
        elif one.changed:
            self.put(one.full, data)

    # --- blocks ---

    def begun_in(self, block):
        return [walk for walk in self.walks if walk.block is block]

    @precondition(lambda self: len(self.saved) < 3)
    @step()
    def begin(self):
        self.saved.append((copy.deepcopy(self.entries), self.v.__enter__()))

    @in_block
    @step()
    def commit(self):
        block = self.saved.pop()
        block[1].__exit__(None, None, None)
        for walk in self.begun_in(block):
            walk.block = self.saved[-1] if self.saved else None

    @in_block
    @step()
    def roll_back(self):
        block = self.saved.pop()
        self.entries = block[0]
        block[1].__exit__(ValueError, ValueError(), None)
        for walk in self.begun_in(block):
            walk.is_undone = True
        self.was_undone()

    # --- others who have the file open ---

    @precondition(lambda self: not self.saved)
    @with_others
    @step(which=st.integers(0, 3), how=st.sampled_from(['known', 'opened', 'pickled']))
    def hand_over(self, which, how):
        """Go on with another vault on the same file; the one before stays open."""
        self.settle()
        if how != 'known' and len(self.vaults) < 4:
            self.vaults.append(pickle.loads(pickle.dumps(self.vault)) if how == 'pickled' else open_vault(self.file, self.mode))
        self.vault = self.vaults[which % len(self.vaults)]
        self.settle()
        self.held.clear()

    @step(where=st.sampled_from(['process', 'fork', 'fork', 'thread', 'reader']), verb=st.sampled_from(['look', 'set', 'set', 'pop']),
          key=KEYS, value=VALUES)
    def elsewhere(self, where, verb, key, value):
        """Have somebody else do something to the file: in a block he sees what was before, and cannot write."""
        is_alone = not self.shared or not hasattr(os, 'fork')
        waits = self.saved and (not self.shared or self.mode not in ('plain', 'serializer', 'validate'))
        if waits if where == 'thread' else is_alone:
            return  # the block keeps all other threads waiting, or there is no file
        self.settle()
        self.actor, what = None, (self.aliased, verb, self.path, key, value)
        if where == 'process':
            found = self.ask(None, *what)
        elif where == 'fork':
            found = helpers.in_child(lambda: outcome(visit, self.vault, *what)).answer()
        elif where == 'thread':
            found = helpers.in_thread(lambda: outcome(visit, self.vault, *what))
        else:
            with closing(open_vault(self.file, self.mode, flag='r')) as reader:
                found = outcome(visit, reader, *what)
        if verb == 'look':
            expected = shown(self.committed(self.path))
        elif where == 'reader':
            assert found[0] == 'raised' or verb == 'pop', 'a vault that is only read was written'
            return
        elif self.saved:
            if (verb == 'pop' and self.engine == 'postgresql' and found == shown(None)
                    and key not in dict(self.committed(self.path))):
                return  # what was committed tells that there is nothing to remove, and nobody is waited for
            refused = verb == 'set' and self.validates and value == REFUSED and not self.aliased
            expected = 'raised', 'ValueError' if refused else 'VaultBusyError'
        else:
            expected = outcome(self.d.__setitem__, key, value) if verb == 'set' else outcome(self.d.pop, key, None)
            self.settle()
            self.held.clear()
        assert found == expected, f'{where}: {found} and not {expected}'

    # --- the whole file ---

    @step(verb=st.sampled_from(['sync', 'compact', 'check', '_check']))
    def upkeep(self, verb):
        if not self.saved:
            assert not getattr(self.vault, verb)()
        elif verb in ('sync', 'compact'):
            assert outcome(getattr(self.v, verb)) == ('raised', 'VaultError')

    @on_disk
    @step(how=st.sampled_from(['', '', '', 'one', 'all', 'backup']))
    def close(self, how):
        """Close the vault, or all, which rolls an open block back. Go on with another one, perhaps on a backup."""
        if not how or (how == 'backup' and (self.saved or self.engine == 'json')):  # which cannot be backed up
            return
        backup, v = pathlib.Path(self.folder, 'backup.db'), self.v
        if how == 'backup':
            self.vault.backup(backup)
            self.is_this(backup)
        self.close_all() if how != 'one' else self.end([self.vault])
        for act in (v.clear, v.sync, v.__enter__, lambda: v['a'], lambda: list(v[:]), lambda: v.list('a'), lambda: v.open('a', 'r')):
            assert outcome(act) == ('raised', 'VaultClosedError')
        if how == 'backup':  # the backup of another engine is a file of SQLite
            backup.replace(self.file) if self.engine == 'sqlite' else backup.unlink()
        self.entries, self.saved = self.saved[0][0] if self.saved else self.entries, []
        self.vaults = [one for one in self.vaults if one is not self.vault]
        self.begin_again()

    def close_all(self):
        self.settle()
        self.ask(False, ':memory:', 'memory')
        self.end(self.vaults)
        self.vaults.clear()
        assert not pathlib.Path(self.folder, 'v.db-wal').exists(), 'the log is still there'

    def end(self, closed):
        for vault in closed:
            vault.close()

    def begin_again(self):
        self.walks = [walk for walk in self.walks if self.is_open(walk.vault)]
        self.was_undone()
        self.vault = self.actor = open_vault(self.file, self.mode)
        self.vaults.append(self.vault)
        if self.shared:
            self.ask(self.tiny, self.file, self.mode)

    def is_this(self, path):
        """Compare a vault with the program's, and look it through."""
        with closing(open_vault(path, self.mode)) as vault:
            agree(vault.items(), self.committed(), 'the copy')
            vault._check()

    # --- what holds after each step ---

    @stateful.invariant()
    def same(self):
        if not hasattr(self, 'vault'):
            return
        for walk in self.walks:
            walk.look(self)
        if not self.aliased:
            self.compare()

    @writes_back
    @step()
    def look(self):
        self.compare()

    def compare(self):
        """Compare all there is. It writes what a vault in write-back mode holds back, so that is a step there."""
        expected = {full: value for full, (_, value) in self.entries.items()}
        agree(self.vault.items(), expected.items(), 'the vault')
        agree(self.vault, expected, 'the order')
        agree(self.v, self.d, f'the section {self.path}')
        assert len(self.vault) == len(expected)

    def teardown(self):
        if not hasattr(self, 'vault'):
            return
        try:
            while self.saved:
                self.saved.pop()[1].__exit__(None, None, None)
            self.compare()
            for one in self.files:
                one.discard()
            self.settle()
            self.vault._check()
            self.close_all()
            if self.mode != 'memory':
                self.is_this(self.file)
        finally:
            for vault in self.vaults:
                with suppress(vaults.VaultError):
                    vault.close()
            shutil.rmtree(self.folder)


def main():
    trial = Trial(__doc__, rounds=63)
    trial.parser.add_argument('--steps', type=int, default=60, help='default: 60, of each program')
    trial.parser.add_argument('--engine', choices=ENGINES, default='sqlite', help='default: sqlite')
    options = trial.begin()
    Surface.engine = options.engine
    if options.engine == 'postgresql':
        try:
            servers.postgres()
        except servers.MissingServerError as missing:
            print(f'left out: {missing}')
            return
    logging.getLogger('vaults').setLevel(logging.ERROR)  # files that are dropped warn
    Surface.other = subprocess.Popen(as_role(serve), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    phases = [Phase.generate, *([] if options.first else [Phase.shrink])]
    try:
        for first in range(0, options.rounds, NEW):
            stateful.run_state_machine_as_test(hypothesis.seed(f'{options.seed} {first}')(Surface), settings=settings(
                max_examples=min(NEW, options.rounds - first), stateful_step_count=options.steps, phases=phases, deadline=None,
                database=None, print_blob=False, report_multiple_bugs=False, suppress_health_check=list(HealthCheck)))
    except Exception as error:
        traceback.print_tb(error.__traceback__)
        program = [] if options.first else '\n'.join(getattr(error, '__notes__', ())).splitlines()
        trial.broke('\n'.join(f'{line:.200}' for line in [repr(error), *program]))
    finally:
        Surface.other.communicate()
        use_sizes(False)
    print(', '.join(f'{name} {count}' for name, count in sorted(COUNTS.items())))
    trial.end(f'{options.rounds} programs of up to {options.steps} steps, {sum(COUNTS.values())} in all')


if __name__ == '__main__':
    main()
