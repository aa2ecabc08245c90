"""Let Hypothesis write programs over the whole surface of vaults, and compare each step with a dict.

    python trials/machine.py [--rounds N] [--seed S] [--steps N]

A program is up to 60 random steps with one file: the verbs of a dict, many at once, slices and prefixes, live lists and
columns, files that stay open for many steps, iterators that began before the writes, sections, blocks in blocks that
commit or fail, several vaults on the file, a second process, forks, threads, `compact`, a backup, an export, closing in
the middle; in every mode a vault has. After each step it must hold what the model holds, in its order, with the very
types, and at the end pass its `_check()`. In half of the programs parts, pages and checkpoints are tiny, so that a few
items make deep trees and a walk of many pages.

The rules of a dict are those of the state machines in spec/machines.py. Prints how often each rule did something. When a promise
broke, it prints the shortest program that Hypothesis finds for it, and exits with 1. By hand: --rounds 5000 --steps 100.
"""
from __future__ import annotations

import array
import collections
import contextlib
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
from collections import abc
from contextlib import closing, nullcontext, suppress

from shared import ROOT
from shared.processes import as_role, play_role, role
from shared.values import typed
from shared.verdict import Trial

sys.path.insert(0, str(ROOT))

import vaults  # the folder is known only now, as below
from vaults import Vault, moving
from vaults.sections import suffix

try:
    import hypothesis
    from hypothesis import HealthCheck, Phase, settings
    from hypothesis import strategies as st
    from hypothesis.stateful import initialize, invariant, precondition, rule, run_state_machine_as_test

    from spec import helpers
    from spec.machines import DictMachine
except ImportError as missing:
    print(f"nothing was tried, the machine needs what the tests need ({missing}): pip install '.[test]'")
    sys.exit(0)

COUNTS = collections.Counter(dict.fromkeys(('popitem', 'setdefault', 'update'), 0))
NEW = 9                 # programs in a run of Hypothesis: after ten new ones it would rather draw variants of them
NOTHING = object()      # what a rule returns that found nothing to do
REFUSED = 'refused'     # the text that validation refuses

# --- the modes of a vault, and sizes of its parts ------------------------------------------------------------------


def refuse(key, value):
    if isinstance(value, str) and value == REFUSED:
        raise ValueError(f'{key!r} is refused')


MODES = {
    'plain': {},
    'thread_safe': {'thread_safe': True},
    'write-back': {'writeback': True, 'cache_size': 3},
    'write-back of all': {'writeback': True},
    'serializer': {'serializer': ('pickled', pickle.dumps, pickle.loads)},
    'validate': {'validate': refuse},
    'validate write-back': {'validate': refuse, 'writeback': True, 'cache_size': 4},
    'memory': {},
}
TINY = {  # by the package whose modules have these constants
    'vaults.collections': {'LEAF': 40, 'STREAM_LEAF': 40, 'ITEMS': 5, 'AHEAD': 2, 'FANOUT': 4, 'KEPT_NODES': 3, 'MANY': 200, 'SMALL': 20, 'KEPT_LEAVES': 2, 'BUFFER': 32},
    'vaults.stores.sqlite': {'FIRST_PAGE': 2, 'LAST_PAGE': 4, 'TICK': 40_000, 'CHECKPOINT': 120_000},
}
USUAL = {(module, name): getattr(module, name) for package, sizes in TINY.items()
         for module in [importlib.import_module(f'{package}.{one.name}')
                        for one in pkgutil.iter_modules(importlib.import_module(package).__path__)]
         for name in sizes if hasattr(module, name)}


def use_sizes(tiny):
    for (module, name), usual in USUAL.items():
        setattr(module, name, TINY[module.__package__][name] if tiny else usual)


def open_vault(path, mode, **options):
    """Open the vault of a program. No timeout: where somebody else has a block open, a write is to fail at once."""
    return Vault(path, **{'timeout': 0.0, 'allow_pickle': True, **MODES[mode], **options})


def place(vault, path):
    for name in path:
        vault = vault.section(name)
    return vault


# --- the second process --------------------------------------------------------------------------------------------

@role
def serve():
    """Be the second process: open vaults, call functions with them, and send what they return or raise."""
    vault = None
    with suppress(EOFError):
        while True:
            function, arguments, mode, tiny = pickle.load(sys.stdin.buffer)
            if mode:
                if vault is not None:
                    vault.close()
                use_sizes(tiny)
                vault = open_vault(*arguments, mode)
            pickle.dump(None if mode else outcome(function, vault, *arguments), sys.stdout.buffer)
            sys.stdout.buffer.flush()


class Other:
    """The second process, as who has it sees it."""

    def __init__(self):
        self.process = subprocess.Popen(as_role(serve), stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, function, *arguments, mode=None, tiny=False):
        pickle.dump((function, arguments, mode, tiny), self.process.stdin)
        self.process.stdin.flush()
        return pickle.load(self.process.stdout)


def visit(vault, aliased, verb, path, key, value):
    """Do what others do. In write-back mode, what they keep may be old, but in a block; and one that fails leaves nothing behind."""
    if verb == 'look' and aliased:
        vault = Vault(pathlib.Path(vault.db_path), flag='r', allow_pickle=True)  # which live lists in the answer keep open
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


def is_live(value):
    return type(value) in (vaults.List, vaults.Column, Live)


def shown(value):
    """Return a value in a form whose `==` looks at types as well; live and model lists are the same."""
    if is_live(value):
        return 'live', getattr(value, 'dtype', 'list'), typed(value.tolist())
    if isinstance(value, (array.array, memoryview)):
        return 'array', typed(value.tolist())
    if isinstance(value, (list, tuple)):
        return type(value).__name__, [shown(one) for one in value]
    return typed({key: shown(one) for key, one in value.items()} if type(value) is dict else value)


ERRORS = (vaults.VaultClosedError, vaults.VaultBusyError, vaults.VaultReadOnlyError, vaults.VaultExistsError, KeyError,
          IndexError, OverflowError, ValueError, TypeError, ZeroDivisionError, vaults.VaultError)


def outcome(act, *arguments):
    """Return what a call returns, or the kind of error that it raises, to be compared."""
    try:
        return shown(act(*arguments))
    except ERRORS as error:
        return 'raised', next(cls.__name__ for cls in ERRORS if isinstance(error, cls))


def agree(found, expected, what='it'):
    """Assert that two values are the same, types and all; else say where they begin to differ."""
    found, expected = shown(found), shown(expected)
    if found != expected:
        pairs = itertools.zip_longest(*((one[1] if isinstance(one[1], list) else [one]) for one in (found, expected)))
        mine, theirs = next((pair for pair in pairs if pair[0] != pair[1]), (found, expected))
        raise AssertionError(f'{what} is {str(mine)[:300]} and not {str(theirs)[:300]}')


class Live:
    """A list or column of the model."""

    def __init__(self, dtype, items=()):
        self.dtype, self.items = dtype, list(items)

    def tolist(self):
        return self.items

    def detached(self):
        """Return the copy that is handed out when the entry goes."""
        code = {'int16': 'h', 'float64': 'd', 'datetime64[s]': 'q'}.get(self.dtype)
        return (array.array(code, self.items) if code else memoryview(bytes(self.items)).cast('?')
                if self.dtype == 'bool' else list(self.items))


class Model(abc.MutableMapping):
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
        try:
            value = self.program.entries[self.full(key)][1]
        except KeyError:
            raise KeyError(key) from None
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

    def __reversed__(self):
        return reversed(list(self))

    def pop(self, key, *default):
        value = super().pop(key, *default)
        return value.detached() if isinstance(value, Live) else value

    def popitem(self, last=True):
        for key in reversed(self) if last else self:
            return key, self.pop(key)
        raise KeyError

    def move_to_end(self, key, last=True):
        program, full = self.program, self.full(key)
        if full not in program.entries:
            raise KeyError(key)
        full = next(one for one in program.entries if one == full)  # in the form in which it was put
        number, value = program.entries.pop(full)
        program.moved.add(number)
        moved = {full: (next(program.numbers), value)}
        program.entries = {**program.entries, **moved} if last else {**moved, **program.entries}

    def update(self, pairs):
        before = dict(self.program.entries)
        try:
            super().update(pairs)
        except Exception:
            self.program.entries = before
            raise

    put_many = update

    def sorted(self, inside=lambda full: True):
        """Return the entries whose full keys are `inside`, a dict in the order of the keys."""
        wanted = sorted((full for full in self.program.entries if self.holds(full) and inside(full)), key=rank)
        return {self.own(full): self.program.entries[full][1] for full in wanted}

    def between(self, low, high):
        def inside(full):
            return ((low is None or rank(self.full(low)) <= rank(full))
                    and (high is None or rank(full) < rank(self.full(high))))
        return self.sorted(inside)

    def beginning(self, prefix):
        """Return what `prefix(...)` shows: of a section, tuples that begin with the text or bytes as well."""
        def inside(full):
            first = self.own(full)
            if isinstance(prefix, tuple):
                rest = full[len(self.path):] if self.path else first
                more = bool(self.path) and suffix(prefix) is not prefix
                return isinstance(rest, tuple) and rest[:len(prefix)] == prefix and len(rest) >= len(prefix) + more
            first = full[len(self.path)] if self.path else first
            return type(first) is type(prefix) and first.startswith(prefix)
        return self.sorted(inside)


class Walk:
    """An iterator that goes on over many steps, and what it may and must still yield."""

    def __init__(self, program, iterator, keys, with_values):
        self.iterator, self.vault, self.with_values = iterator, program.vault, with_values
        model = Model(program, program.path)
        self.left = collections.deque((key, model.full(key), program.entries[model.full(key)][0]) for key in keys)
        self.undone = program.undone if program.saved else None     # it ends when what it began in is rolled back
        self.gone = {}                                              # numbers of entries, and who deleted them
        self.values = {number: [] for _, _, number in self.left}      # each was this, since the walk began
        self.look(program)

    def look(self, program):
        """Note what a step has done to the entries."""
        for _, full, number in self.left:
            now = program.entries.get(full)
            if now is None or now[0] != number:
                self.gone[number] = None if number in program.moved else program.actor  # which may be left out or not
            elif self.with_values:
                value = shown(now[1])
                if value not in self.values[number]:
                    self.values[number].append(value)

    def step(self, program):
        """Take one element. Return whether there was one."""
        try:
            found = next(self.iterator, self)
        except vaults.VaultError:
            assert self.undone not in (None, program.undone), 'a walk broke off'
            return False
        if found is self:
            left = [own for own, _, number in self.left if number not in self.gone]
            assert not left or self.undone not in (None, program.undone), f'a walk left out {left!r}'
            return False
        key, value = found if self.with_values else (found, None)
        while self.undone in (None, program.undone):
            assert self.left, f'a walk yielded {key!r}, which was not there when it began, or came twice'
            own, full, number = self.left.popleft()
            if own == key:
                assert number not in self.gone or program.entries.get(full, (0,))[0] == number \
                    or self.gone[number] is not self.vault, f'a walk yielded {key!r}, which had been deleted'
                was = outcome(lambda value=value: value)    # a list that has been replaced since cannot be read any more
                replaced = was == ('raised', 'VaultError') and len(self.values[number]) > 1
                assert not self.with_values or number in self.gone or replaced or was in self.values[number], \
                    f'{key!r} never was {value!r}'
                break
            assert number in self.gone, f'a walk left out {own!r}'
        return True


class OpenFile(io.BytesIO):
    """A file object that stays open over many steps, and, as its content, what should be in it."""

    def __init__(self, program, file, full, mode):
        self.file, self.full, self.mode = file, full, mode
        self.vault, self.undone, self.entry = program.vault, program.undone, program.entries.get(full)
        value = b'' if self.entry is None or mode[0] in 'wx' else self.entry[1]
        super().__init__(value.encode() if isinstance(value, str) else value)
        self.began = self.seek(0, 2)
        self.seek(self.began if mode[0] == 'a' else 0)
        self.changed, self.cut = mode[0] in 'wx' or (mode[0] == 'a' and self.entry is None), False

    def disturbed(self, program):
        """Tell whether the entry, or what was written of it, has gone since: then there may be an error instead."""
        return program.undone != self.undone or program.entries.get(self.full) is not self.entry

    def write(self, data):
        if data:
            self.changed = True
            self.seek(0, 2 if self.mode[0] == 'a' else 1)
        return super().write(data)

    def truncate(self, size):
        at, before = self.tell(), len(self.getvalue())
        self.changed |= size != before
        self.cut |= size < self.began
        super().truncate(size)
        self.seek(before)
        super().write(bytes(max(size - before, 0)))
        self.seek(at)
        return size

    def able(self, name):
        return {'read': self.mode[0] == 'r' or '+' in self.mode,
                'write': self.mode != 'rb', 'truncate': self.mode != 'rb'}.get(name, True)

    def drop(self):
        getattr(self.file, 'raw', self.file).discard()

    def saved(self, program):
        """Return what closing makes of the entry now. Raises: what closing raises."""
        now, data = program.entries.get(self.full), self.getvalue()
        if self.mode[0] == 'x' and now:
            raise vaults.VaultExistsError
        if self.mode[0] in 'wx' or now is self.entry:
            return data
        if self.mode[0] == 'r' or self.cut:
            raise vaults.VaultError
        value = b'' if now is None else now[1]
        if not isinstance(value, (bytes, bytearray, str)):
            raise TypeError
        return (value.encode() if isinstance(value, str) else bytes(value)) + data[self.began:]


# --- the machine ---------------------------------------------------------------------------------------------------

PATHS = [(), (), ('a',), ('a', 'b'), (1,)]
ALL_KEYS = [0, 1, 2.0, 7, 'a', 'b', 'ab', ('a', 'b'), ('a', 1), ('a',), ('a', 'b', 'c'), (('a', 'b'),), (),
            None, b'a', True]
KEYS = st.sampled_from(ALL_KEYS)
TEXTS = st.text('ab\0\r\n\x7f\xe9\u20ac\U0001f600', max_size=9)  # of all characters, Hypothesis would need seconds for a table
BOUNDS = st.none() | KEYS.filter(lambda key: key is not None)
SCALARS = (st.integers() | st.floats(allow_nan=False) | TEXTS
           | st.booleans() | st.none() | st.binary(max_size=70) | st.decimals(allow_nan=False, places=2)
           | st.just('x' * 5000) | st.just(b'y' * 700) | st.just(REFUSED) | st.just(2**70) | st.dates() | st.uuids())
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner)
                      | st.dictionaries(TEXTS, inner, max_size=2), max_leaves=4) | st.sets(st.integers(), max_size=3)
LISTS = st.lists(st.integers(), max_size=2)
WALKS = st.sampled_from(['keys', 'items', 'back', 'items back', 'sorted', 'sorted items', 'sorted back', 'irange'])
PAIRS = (st.lists(st.tuples(KEYS, VALUES), max_size=6)
         | st.integers(6, 20).map(lambda n: [(number, [number]) for number in range(n)]))
WRONG = 40
ITEMS = {
    'list': lambda n: (n, f'{n}', 'x' * 50 * n, (n, 'a'), {'n': n}, None, [n], float(n))[n % 8] if n != WRONG else print.__self__,
    'int16': lambda n: n - 20 if n != WRONG else 70_000,
    'float64': lambda n: n / 4 if n != WRONG else 'x',
    'bool': lambda n: n % 2 == 1 if n != WRONG else 'x',
    'S3': lambda n: (b'', b'x', b'yy', b'zzz')[n % 4] if n != WRONG else b'long',
    'datetime64[s]': lambda n: n * 10**9 if n != WRONG else 'x',
}
KINDS = st.sampled_from(['list', 'list', *ITEMS])
NUMBER, MANY = st.integers(0, WRONG), st.lists(st.integers(0, WRONG - 1), max_size=4) | st.integers(0, 300).map(range)
INDEX = st.integers(-12, 12) | st.integers(-300, 300)
SLICE = st.builds(slice, st.none() | INDEX, st.none() | INDEX, st.none() | st.sampled_from([1, 1, 2, -1, -3]))
SEQUENCE_STEPS = st.one_of(
    st.tuples(st.just('append'), NUMBER), st.tuples(st.sampled_from(['extend', '__iadd__']), MANY),
    st.tuples(st.just('insert'), INDEX, NUMBER), st.tuples(st.just('pop')), st.tuples(st.just('pop'), INDEX),
    st.tuples(st.sampled_from(['remove', 'index', 'count', '__contains__']), st.integers(0, 9)),
    st.tuples(st.sampled_from(['clear', 'reverse', 'sort', 'copy', '__len__', 'twice', 'back', 'failing'])),
    st.tuples(st.just('__setitem__'), INDEX, NUMBER), st.tuples(st.just('__setitem__'), SLICE, MANY),
    st.tuples(st.sampled_from(['__delitem__', '__getitem__']), INDEX | SLICE))
FILE_STEPS = st.one_of(
    st.tuples(st.just('write'), st.binary(max_size=150)), st.tuples(st.just('fill'), st.integers(0, 700) | st.just(600_000)),
    st.tuples(st.just('read'), st.integers(0, 400)),
    st.tuples(st.just('seek'), st.integers(0, 500), st.just(0)), st.tuples(st.just('seek'), st.just(0), st.just(2)),
    st.tuples(st.just('truncate'), st.integers(0, 300)), st.tuples(st.just('tell')))


MODES_OF_FILES = st.sampled_from(['rb', 'wb', 'ab', 'xb', 'r+b', 'w+b'])
RARELY = st.integers(0, 3)  # what ends a lot is done when this is 0: most programs are to have a past
ENDS = st.sampled_from(['', '', '', 'close', 'close', 'close', 'discard', 'raise', 'drop'])
BUFFERINGS = st.sampled_from([0, -1, 7])
VERBS = st.sampled_from(['look', 'set', 'pop', 'set'])


def failing(items):
    yield from items
    raise ZeroDivisionError


def step(**drawn):
    """Make a method a rule that begins by choosing a section, or the vault, and is counted when it did something."""
    def decorate(function):
        COUNTS[function.__name__] = 0

        @functools.wraps(function)
        def run(self, path, **values):
            self.path, self.actor = path, self.vault
            if function(self, **values) is not NOTHING:
                COUNTS[function.__name__] += 1
        return rule(path=st.sampled_from(PATHS), **drawn)(run)
    return decorate


in_block = precondition(lambda self: self.saved)
calm = precondition(lambda self: not self.saved)
on_disk = precondition(lambda self: self.mode != 'memory')
calm_on_disk = precondition(lambda self: self.mode != 'memory' and not self.saved)
with_parts = precondition(lambda self: not self.validates)
writes_back = precondition(lambda self: self.aliased)
keeps_all = precondition(lambda self: self.mode == 'write-back of all')


class Surface(DictMachine):
    """A program: what it has open, and the model of what is in the file."""

    other = None    # the second process

    @initialize(mode=st.sampled_from(sorted(MODES)), tiny=st.booleans())
    def start(self, mode, tiny):
        self.mode, self.tiny = mode, tiny
        use_sizes(tiny)
        self.aliased, self.validates = 'writeback' in MODES[mode], 'validate' in MODES[mode]
        self.folder = tempfile.mkdtemp()
        self.file = pathlib.Path(self.folder, 'v.db')
        self.entries, self.saved, self.path, self.numbers, self.undone = {}, [], (), itertools.count(), 0
        self.moved = set()
        self.handles, self.files, self.walks, self.held, self.queued = [], [], [], [], []
        self.vault = self.actor = self.opened()
        self.vaults = [self.vault]
        if mode != 'memory':
            self.other.ask(None, self.file, mode=mode, tiny=tiny)

    def opened(self, **options):
        return open_vault(':memory:' if self.mode == 'memory' else self.file, self.mode, **options)

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
        self.actor = self.vault
        results = [outcome(act, mapping) for mapping in (self.v, self.d)]
        assert results[0] == results[1], f'{results[0]} and not {results[1]}'
        if results[1][0] == 'raised':
            return NOTHING
        caller = sys._getframe(1).f_code
        if caller.co_filename != __file__:  # a rule of spec/machines.py, which has no other counter
            COUNTS[caller.co_name] += 1
        return None

    # --- the dict ---

    @step(really=RARELY)
    def clear(self, really):
        return self.both(lambda m: m.clear()) if not really and self.entries else NOTHING

    set = read = delete = pop = None    # put_value and one_key do it, with more values, and keys that are there

    @step(key=KEYS, verb=st.sampled_from(['get', '__contains__', '__getitem__', '__delitem__', 'pop', 'pop_default']))
    def one_key(self, key, verb):
        key = self.known(key)
        return self.both(lambda m: m.pop(key, 'd') if verb == 'pop_default' else getattr(m, verb)(key))

    @step(key=KEYS, value=VALUES | LISTS)
    def put_value(self, key, value):
        return self.both(lambda m: m.__setitem__(key, copy.deepcopy(value)))

    @step(key=KEYS)
    def cannot_be_stored(self, key):
        if self.aliased:
            return NOTHING  # it is told when it is written
        assert outcome(self.v.__setitem__, key, lambda: 0) == ('raised', 'TypeError')
        assert outcome(self.v.update, [(key, 1), (key, lambda: 0)]) == ('raised', 'TypeError')
        self.undone += 1
        return None

    @step(verb=st.sampled_from(['put_many', 'update', '__ior__']), pairs=PAIRS, fail=st.integers(0, 5))
    def many(self, verb, pairs, fail):
        given = failing(copy.deepcopy(pairs)) if not fail else copy.deepcopy(pairs)
        found = outcome(lambda: (getattr(self.v, verb)(given), None)[1])
        expected = outcome(self.d.update, failing(pairs) if not fail else pairs)
        self.undone += expected[0] == 'raised'
        assert found == expected, f'{found} and not {expected}'

    @step(wanted=st.lists(KEYS, max_size=4))
    def several(self, wanted):
        model, wanted = self.d, [self.known(key) for key in wanted]
        expected = {key: model[key] for key in wanted if key in model}
        assert shown(self.v.get_many(wanted)) == shown(expected)
        assert self.v.has_keys(wanted) == all(key in model for key in wanted)
        assert shown(self.v.pop_many(wanted)) == shown({key: model.pop(key) for key in expected})
        return None if expected else NOTHING

    @step(key=KEYS, other=st.dictionaries(KEYS, st.integers(), max_size=2))
    def as_a_whole(self, key, other):
        model = {key: value.detached() if isinstance(value, Live) else value for key, value in self.d.items()}
        assert shown(self.v.copy()) == shown(model)
        if not any(isinstance(value, Live) for value in self.d.values()):
            assert shown(self.v | other) == shown({**model, **other}) and shown(other | self.v) == shown({**other, **model})
            assert self.v == model and self.v != {**model, key: object()} and model == self.v
        title = 'Section' if self.path else ''
        assert repr(self.v).endswith(f"{len(model)} item{'' if len(model) == 1 else 's'})") and title in repr(self.v)
        assert [*map(repr, self.v)] == [*map(repr, self.d)]

    def a_list(self, key):
        """Return the key of a list in the section, which is put now if there is none."""
        key = self.known(key, list)
        if not isinstance(self.d.get(key), list):
            self.both(lambda m: m.__setitem__(key, []))
        return key

    @writes_back
    @step(key=KEYS, value=st.integers())
    def change(self, key, value):
        key = self.a_list(key)
        return self.both(lambda m: m[key].append(value))

    @writes_back
    @step()
    def change_all(self):
        return self.both(lambda m: [value.append(0) for value in m.values() if isinstance(value, list)])

    @keeps_all
    @step(key=KEYS)
    def hold(self, key):
        self.hold_on_to(self.a_list(key))

    def hold_on_to(self, key):
        self.held.append((self.v[key], self.d[key]))

    @keeps_all
    @step(which=st.integers(0, 9), value=st.integers(), key=KEYS)
    def change_held(self, which, value, key):
        """Change a live object that was got some steps ago: if it is the entry's still, that is the entry."""
        if not self.held:
            self.hold_on_to(self.a_list(key))
        for one in self.held[which % len(self.held)]:
            one.append(value)

    @step(key=KEYS, action=st.sampled_from(['edit', 'default', 'fail']))
    def edit(self, key, action):
        def act(mapping):
            default = [[]] if action == 'default' else []
            with mapping.edit(key, *default) if mapping is not model else edited(model, key, *default) as value:
                if isinstance(value, (list, vaults.List)):
                    value.append('edited')
                elif isinstance(value, dict):
                    value['edited'] = 1
                elif isinstance(value, Live) and value.dtype == 'list':
                    value.items.append('edited')
                if action == 'fail':
                    raise ZeroDivisionError
        key, model = self.known(key), self.d
        results = outcome(act, self.v), outcome(act, model)
        assert results[0] == results[1], results
        if results[0][0] == 'raised':
            self.undone += 1
            self.held.clear()
        return NOTHING if results[0] == ('raised', 'KeyError') else None

    # --- views and ranges ---

    @step(low=BOUNDS, high=BOUNDS, index=st.integers(-4, 4), piece=st.slices(6))
    def views(self, low, high, index, piece):
        v = self.v
        for mapping, model in ((v, dict(self.d.items())), (v[low:high], self.d.between(low, high))):
            for view, plain in ((mapping.keys(), list(model)), (mapping.values(), list(model.values())),
                                (mapping.items(), list(model.items()))):
                assert outcome(lambda view=view: view[index]) == outcome(lambda plain=plain: plain[index])
                assert shown(view[piece]) == shown(plain[piece]) and shown([*reversed(view)]) == shown(plain[::-1])
                assert len(view) == len(plain) and (len(plain) > 20 or repr(view).startswith('['))
            assert (mapping.keys() & {'a', 1, 7}) == (model.keys() & {'a', 1, 7})
            assert (mapping.keys() | {'a'}) == (model.keys() | {'a'}) and (mapping.keys() - {'a'}) == (model.keys() - {'a'})
            assert mapping.keys().isdisjoint({'b'}) == model.keys().isdisjoint({'b'})

    def compare_range(self, found, expected, key):
        """Compare a sorted slice with the dict that it should be."""
        assert shown(list(found.items())) == shown(list(expected.items()))
        assert len(found) == len(expected) and bool(found) == bool(expected)
        assert shown(list(reversed(found))) == shown(list(expected)[::-1])
        assert outcome(found.first) == outcome(lambda: next(iter(expected.items()), None) or {}[0])
        assert outcome(found.last) == outcome(lambda: next(reversed(list(expected.items())), None) or {}[0])
        assert (key in found) == (key in expected) and shown(found.get(key, 'no')) == shown(expected.get(key, 'no'))

    @step(low=BOUNDS, high=BOUNDS, key=KEYS, action=st.sampled_from(['look', 'look', 'del', 'clear', 'inner', 'one']))
    def delete_slice(self, low, high, key, action):
        found, expected = self.v[low:high], self.d.between(low, high)
        self.compare_range(found, expected, key)
        inner = [one for one in self.d.between(key, high) if one in expected]
        assert key is None or shown(list(found[key:])) == shown(inner)
        if action == 'look' or not expected:
            return NOTHING
        if action == 'one':
            assert outcome(found.__delitem__, key) == ('NoneType', 'None') if key in expected else ('raised', 'KeyError')
            doomed = [one for one in expected if one == key]
        elif action == 'inner' and key is not None:
            del found[key:]
            doomed = inner
        elif action == 'del':
            del self.v[low:high]
            doomed = expected
        else:
            found.clear()
            doomed = expected
        for one in doomed:
            del self.d[one]
        return None

    @step(prefix=st.sampled_from(['', 'a', b'', b'a', (), ('a',), ('b',), (1,)]), many=st.integers(0, 4), delete=RARELY,
          key=KEYS)
    def prefix(self, prefix, many, delete, key):
        key = self.known(key)
        prefix = key[:many] if many and isinstance(key, (str, bytes, tuple)) else prefix
        found, expected = self.v.prefix(prefix), self.d.beginning(prefix)
        self.compare_range(found, expected, key)
        if not delete:
            found.clear()
            for one in expected:
                del self.d[one]
        return None if expected else NOTHING

    @step(low=BOUNDS, high=BOUNDS, inclusive=st.tuples(st.booleans(), st.booleans()), reverse=st.booleans())
    def irange(self, low, high, inclusive, reverse):
        model, expected = self.d, []
        for key in model.sorted():
            place = rank(model.full(key))
            above = low is None or place > rank(model.full(low)) or (inclusive[0] and key == low)
            below = high is None or place < rank(model.full(high)) or (inclusive[1] and key == high)
            expected += [key] if above and below else []
        found = list(self.v.irange(low, high, inclusive, reverse))
        assert shown(found) == shown(expected[::-1] if reverse else expected)
        return None if expected else NOTHING

    @step()
    def names(self):
        def first(key):
            return isinstance(key, tuple) and len(key) > 1
        found = {key[0]: None for key in self.d.sorted(lambda full: first(self.d.own(full)))}
        assert shown(self.v.sections()) == shown(list(found))
        return None if found else NOTHING

    # --- iterators that go on ---

    @step(kind=WALKS, low=BOUNDS)
    def begin_walk(self, kind, low):
        self.path = self.path if len(self.d) > 2 else ()
        model, v = self.d, self.v
        inside = model.between(low, None) if 'sorted' in kind or kind == 'irange' else model
        keys = list(reversed(list(inside)) if 'back' in kind else inside)
        mapping = v[low:] if 'sorted' in kind else v
        view = mapping.items() if 'items' in kind else mapping.keys()
        iterator = v.irange(low) if kind == 'irange' else reversed(view) if 'back' in kind else iter(view)
        self.walks.append(Walk(self, iterator, keys, 'items' in kind))
        self.advance(self.walks[-1])    # a generator begins with its first element
        return None if keys else NOTHING

    def advance(self, walk):
        if not walk.step(self):
            self.walks.remove(walk)

    @precondition(lambda self: self.walks)
    @step(which=st.integers(0, 9), elements=st.integers(1, 5), doomed=st.none() | st.integers(0, 9))
    def go_on_walking(self, which, elements, doomed):
        """Go on, perhaps when one of those to come has just been deleted."""
        walk = self.walks[which % len(self.walks)]
        if doomed is not None and walk.left and self.standing(walk.vault) == 'inside':
            full = walk.left[doomed % len(walk.left)][1]
            self.actor = walk.vault
            assert outcome(walk.vault.pop, full, 0) == outcome(Model(self, ()).pop, full, 0)
            walk.look(self)
        for _ in range(elements):
            if walk in self.walks:
                self.advance(walk)

    # --- lists and columns ---

    def is_open(self, vault):
        return any(one is vault for one in self.vaults)  # `in` would compare what they hold

    def standing(self, vault):
        """Tell how things stand with a vault that something was got from: closed, kept out by a block, or neither."""
        return ('closed' if not self.is_open(vault) else 'outside' if self.saved and vault is not self.vault else
                'inside')

    @with_parts
    @step(key=KEYS, kind=KINDS)
    def make_list(self, key, kind):
        return self.new_list(key, kind)

    def new_list(self, key, kind):
        model, v = self.d, self.v
        found = outcome(lambda: v.list(key) if kind == 'list' else v.column(key, kind))
        if key not in model:
            model[key] = Live(kind)
        value = model[key]
        if not isinstance(value, Live) or value.dtype != kind:
            assert found == ('raised', 'TypeError'), found
            return NOTHING
        assert found == shown(value)
        self.handles = [*self.handles[-5:], (v[key], self.vault, model.full(key), kind)]
        return None

    @with_parts
    @step(which=st.integers(0, 5), doing=st.lists(SEQUENCE_STEPS, min_size=1, max_size=8), key=KEYS, kind=KINDS)
    def work_on_list(self, which, doing, key, kind):
        if not self.handles:
            self.both(lambda m: m.pop(key, None))
            self.new_list(key, kind)
        live, vault, full, kind = self.handles[which % len(self.handles)]
        standing = self.standing(vault)
        self.settle()
        if standing == 'closed':
            assert outcome(len, live) == outcome(live.append, ITEMS[kind](1)) == ('raised', 'VaultClosedError')
            return
        value = (self.saved[0][0] if standing == 'outside' else self.entries).get(full, (0, None))[1]
        if not isinstance(value, Live) or value.dtype != kind:
            assert outcome(list, live) == ('raised', 'VaultError')
            if standing == 'inside':
                assert outcome(live.append, ITEMS[kind](1)) == ('raised', 'VaultError')
                self.undone += 1
        elif standing == 'outside':
            assert shown(live) == shown(value)
        else:
            for one in doing:
                self.do_to_list(live, value, *one)

    def do_to_list(self, live, value, name, *arguments):
        make = ITEMS[value.dtype]
        if name not in ('pop', '__delitem__', '__getitem__'):
            made = [one if at == 0 and name in ('insert', '__setitem__') else make(one) if isinstance(one, int) else
                    [make(number % WRONG) for number in one] for at, one in enumerate(arguments)]
        else:
            made = arguments
        act = {'sort': lambda items: items.sort(key=repr), 'twice': lambda items: items.extend(items),
               'back': lambda items: [*reversed(items)], '__iadd__': lambda items: (items.__iadd__(*made), None)[1],
               'failing': lambda items: items.extend(failing([make(1), make(2)])),
               }.get(name, lambda items: getattr(items, name)(*made))
        items = list(value.items)
        wrong = name in ('append', 'insert', '__setitem__') and WRONG in arguments[-1:]
        expected = ('raised',) if wrong else outcome(act, items)
        found = outcome(act, live)
        if name in ('copy', '__getitem__') and value.dtype != 'list':
            found, expected = self.as_list(live, arguments) if found[0] == 'array' else found, expected
        assert found == expected or (wrong and found[0] == 'raised' and found[1] != 'VaultError'), f'{found}, not {expected}'
        if found[0] == 'raised':
            self.undone += 1
        else:
            value.items[:] = items
        assert shown(live) == shown(value) and len(live) == len(value.items)
        assert shown([*live]) == shown(value.items)

    def as_list(self, live, arguments):
        """Return a copy or slice of a column, as a list is shown: of bytes it is rows of equal length."""
        piece = live[arguments[0]] if arguments else live[:]
        rows = isinstance(piece, memoryview) and live.dtype == 'S3'
        return shown([row.rstrip(b'\0') for row in (piece.tobytes()[at:at + 3] for at in range(0, len(piece) * 3, 3))]
                     if rows else piece.tolist())

    @step(key=KEYS, other=KEYS, to=st.sampled_from(PATHS), by=st.integers(0, 3))
    def copy_value(self, key, other, to, by):
        """Copy between sections and vaults: a list becomes another list."""
        self.settle()
        source = self.vault if self.saved or self.mode == 'memory' else self.vaults[by % len(self.vaults)]
        self.settle(source)
        key = self.known(key)

        def act(source, target):
            value = source[key]
            if isinstance(value, Live):
                value = value if source.full(key) == target.full(other) else Live(value.dtype, value.items)
            elif not is_live(value):
                value = copy.deepcopy(value)
            target[other] = value
        found = outcome(act, place(source, self.path), place(self.vault, to))
        assert found == outcome(act, self.d, Model(self, to)), found
        return NOTHING if found[0] == 'raised' else None

    # --- files ---

    @with_parts
    @step(key=KEYS, data=st.binary(max_size=200) | st.integers(0, 5000).map(bytes), named=st.booleans())
    def put_file(self, key, data, named):
        path = pathlib.Path(self.folder, 'in')
        path.write_bytes(data)
        assert self.v.put_file(key, path if named else io.BytesIO(data)) == len(data)
        self.d[key] = data

    @step(key=KEYS, named=st.booleans())
    def get_file(self, key, named):
        key, path, memory = self.known(key, (str, bytes)), pathlib.Path(self.folder, 'out'), io.BytesIO()
        found = outcome(self.v.get_file, key, path if named else memory)
        value = self.d.get(key, self)
        if not isinstance(value, (str, bytes)):
            assert found == ('raised', 'KeyError' if value is self else 'TypeError') and not path.exists()
            return NOTHING
        data = value.encode() if isinstance(value, str) else value
        assert found == shown(len(data)) and (path.read_bytes() if named else memory.getvalue()) == data
        path.unlink() if named else None
        return None

    @with_parts
    @step(key=KEYS, mode=st.sampled_from('wax'), text=TEXTS | st.just('a\r\nb\nc\r' * 60),
          newline=st.sampled_from([None, '', '\n', '\r\n']), fail=st.integers(0, 4))
    def text(self, key, mode, text, newline, fail):
        """Write text as a file of the builtin `open` would be, and read it back by lines."""
        plain = io.BytesIO()
        value = self.d.get(key, b'') if mode == 'a' else b''

        def act():
            with self.v.open(key, mode, newline=newline) as file:
                file.write(text)
                if not fail:
                    raise ZeroDivisionError
        found = outcome(act)
        if (mode == 'x' and key in self.d) or not isinstance(value, (str, bytes)):
            assert found == ('raised', 'VaultExistsError' if mode == 'x' else 'TypeError')
            return NOTHING
        if not fail:
            assert found == ('raised', 'ZeroDivisionError')
            return None
        with io.TextIOWrapper(plain, 'utf-8', newline=newline) as file:
            file.write(text)
            file.flush()
            data = plain.getvalue()
        assert found == shown(None), found
        data = (value.encode() if isinstance(value, str) else value) + data
        if mode != 'a' or key not in self.d or text:
            self.d[key] = data
        assert self.v[key] == self.d[key]
        try:
            lines = list(io.TextIOWrapper(io.BytesIO(data), 'utf-8', newline=newline))
        except UnicodeDecodeError:
            return None
        with self.v.open(key, 'r', newline=newline) as file:
            assert list(file) == lines
        return None

    @precondition(lambda self: len(self.files) < 4)
    @step(key=KEYS, mode=MODES_OF_FILES, buffering=BUFFERINGS)
    def open_file(self, key, mode, buffering):
        return self.new_file(key, mode, buffering)

    def new_file(self, key, mode, buffering):
        if self.validates and mode != 'rb':
            assert outcome(self.v.open, key, mode) == outcome(self.v.list, 'new') == ('raised', 'VaultError')
            assert outcome(self.v.column, 'new', int) == ('raised', 'VaultError')
            self.undone += 1
            return NOTHING
        key = self.known(key, (str, bytes)) if mode[0] in 'ra' else key
        value = self.d.get(key, self)
        expected = ('KeyError' if value is self and mode[0] == 'r' else
                    'VaultExistsError' if value is not self and mode[0] == 'x' else
                    'TypeError' if mode[0] in 'ra' and value is not self and not isinstance(value, (str, bytes)) else '')
        if expected:
            assert outcome(self.v.open, key, mode, buffering) == ('raised', expected)
            return NOTHING
        self.settle()
        self.files.append(OpenFile(self, self.v.open(key, mode, buffering), self.d.full(key), mode))
        return None

    @step(which=st.integers(0, 3), doing=st.lists(FILE_STEPS, min_size=1, max_size=12), key=KEYS, mode=MODES_OF_FILES,
          buffering=BUFFERINGS, then=ENDS)
    def use_file(self, which, doing, key, mode, buffering, then):
        if not self.files and self.new_file(key, mode, buffering):
            return NOTHING
        one = self.a_file(which)
        if one is None:
            return NOTHING
        self.actor = one.vault
        done = sum(self.do_to_file(one, *act) for act in doing if one in self.files)
        if then and one in self.files:
            self.end_file(one, then)
        return None if done or then else NOTHING

    def do_to_file(self, one, name, *arguments):
        """Do one thing to a file. Return whether its mode lets it be done."""
        if name == 'fill':
            name, arguments = 'write', [b'z' * min(arguments[0], 6_000 if self.tiny else 600_000)]
        if not one.able(name):
            return False
        try:
            if (one.mode, name) == ('ab', 'tell'):
                one.file.flush()    # what waits in Python's buffer is told where the file was, in any file that is appended to
            found = getattr(one.file, name)(*arguments)
        except vaults.VaultError as error:
            self.files.remove(one)
            one.drop()
            assert one.disturbed(self) or not self.is_open(one.vault), f'{name} broke off: {error}'
            return True
        expected = getattr(one, name)(*arguments)
        assert found == expected, f'{found!r} and not {expected!r}'
        return True

    def a_file(self, which):
        """Return one of the open files whose vault may write now, or is closed."""
        self.settle()  # or what waits here would come behind what that vault puts
        able = [one for one in self.files if self.standing(one.vault) != 'outside']
        return able[which % len(able)] if able else None

    def end_file(self, one, how):
        COUNTS[f'{how} file'] += 1
        self.files.remove(one)
        if how == 'drop':
            one.file = None     # nothing else holds it
        elif how == 'raise':
            with suppress(ZeroDivisionError), one.file:
                raise ZeroDivisionError
        elif how == 'discard' and one.mode != 'rb':
            one.file.discard()
        else:
            self.close_file(one)
        self.settle()

    def close_file(self, one):
        found = outcome(one.file.close)
        if not one.changed:
            assert found == shown(None) or not self.is_open(one.vault), found
            return
        if not self.is_open(one.vault):
            assert found == ('raised', 'VaultClosedError')
            return
        now = self.entries.get(one.full)
        same = now is not None and one.entry is not None and shown(now[1]) == shown(one.entry[1])
        if found[0] == 'raised':
            self.undone += 1
            expected = outcome(one.saved, self)
            assert found == expected or (found == ('raised', 'VaultError') and (same or one.undone != self.undone - 1)), \
                f'{found} and not {expected}'
            return
        self.put(one.full, one.getvalue() if same else one.saved(self))

    # --- validation ---

    @step(key=KEYS, value=st.integers() | TEXTS, refused=st.integers())
    def in_a_strict_section(self, key, value, refused):
        def check(key, value):
            if value == refused:
                raise ZeroDivisionError
        strict = place(self.vault, self.path).section('strict', value_type=int, validate=check)
        model = Model(self, (*self.path, 'strict'))
        found = outcome(strict.__setitem__, key, value)
        if isinstance(value, str):
            expected = 'ValueError' if self.validates and value == REFUSED else 'TypeError'
        else:
            expected = 'ZeroDivisionError' if value == refused else ''
        assert found == (('raised', expected) if expected else shown(None)), found
        if expected:
            self.undone += 1
            return NOTHING
        model[key] = value
        return None

    # --- blocks ---

    @precondition(lambda self: len(self.saved) < 3)
    @step(kind=st.sampled_from(['with', 'transaction']))
    def begin(self, kind):
        block = self.v if kind == 'with' else self.v.transaction()
        block.__enter__()
        self.saved.append((copy.deepcopy(self.entries), block))

    @in_block
    @step()
    def commit(self):
        self.saved.pop()[1].__exit__(None, None, None)

    @in_block
    @step()
    def roll_back(self):
        self.entries, block = self.saved.pop()
        block.__exit__(ValueError, ValueError(), None)
        self.was_undone()

    def was_undone(self):
        self.undone += 1
        self.held.clear()

    @in_block
    @step(verb=st.sampled_from(['sync', 'compact', 'backup']))
    def not_in_a_block(self, verb):
        target = [pathlib.Path(self.folder, 'never')] if verb == 'backup' else []
        assert outcome(getattr(self.v, verb), *target) == ('raised', 'VaultError')

    # --- others who have the file open ---

    @calm_on_disk
    @step(which=st.integers(0, 3), how=st.sampled_from(['known', 'opened', 'pickled', 'thread_safe']))
    def hand_over(self, which, how):
        """Go on with another vault on the same file; the one before stays open."""
        self.settle()
        if how != 'known' and len(self.vaults) < 4:
            is_queued = any(self.vault is one for one in self.queued) if how == 'pickled' else how == 'thread_safe'
            self.vaults.append(pickle.loads(pickle.dumps(self.vault)) if how == 'pickled' else self.opened(thread_safe=is_queued))
            self.queued += self.vaults[-1:] * is_queued
        self.vault = self.vaults[which % len(self.vaults)]
        self.settle()
        self.held.clear()

    @on_disk
    @step(key=KEYS)
    def read_only(self, key):
        """Open the file to read: what is committed can be seen, and nothing be written."""
        self.settle()
        with closing(self.opened(flag='r')) as reader:
            seen = place(reader, self.path)
            agree(list(seen.items()), self.committed(self.path), 'what is read')
            for act in (lambda: seen.__setitem__(key, 1), seen.clear, lambda: seen.open('k', 'wb'),
                        lambda: seen.list('new'), lambda: seen.update([(key, 1)])):
                assert outcome(act)[0] == 'raised', 'a vault that is only read was written'

    def from_outside(self, ask, verb, key, value):
        """Have somebody else do something to the file: in a block he sees what was before, and cannot write."""
        self.settle()
        self.actor = None
        found = ask(self.aliased, verb, self.path, key, value)
        if verb == 'look':
            expected = shown(self.committed(self.path))
        elif self.saved:
            refused = verb == 'set' and self.validates and value == REFUSED and not self.aliased
            expected = 'raised', 'ValueError' if refused else 'VaultBusyError'
        else:
            expected = outcome(self.d.__setitem__, key, value) if verb == 'set' else outcome(self.d.pop, key, None)
            self.settle()
            self.held.clear()
        assert found == expected, f'{found} and not {expected}'

    @on_disk
    @step(key=KEYS, verb=VERBS, value=VALUES)
    def other_process(self, key, verb, value):
        self.from_outside(functools.partial(self.other.ask, visit), verb, key, value)

    @precondition(lambda self: self.mode != 'memory' and hasattr(os, 'fork'))
    @step(key=KEYS, verb=VERBS, value=VALUES)
    def fork(self, key, verb, value):
        """Use the vault in a child, which is not in the block that its parent has open."""
        self.from_outside(lambda *what: helpers.in_child(lambda: outcome(visit, self.vault, *what)).answer(), verb, key, value)

    @step(key=KEYS, verb=VERBS, value=VALUES)
    def thread(self, key, verb, value):
        if self.saved and (any(self.vault is one for one in self.queued) or self.mode not in ('plain', 'serializer', 'validate')):
            return NOTHING  # the block keeps all other threads waiting
        self.from_outside(lambda *what: helpers.in_thread(lambda: outcome(visit, self.vault, *what)), verb, key, value)
        return None

    # --- the whole file ---

    @calm
    @step(verb=st.sampled_from(['sync', 'compact', 'check', '_check']))
    def upkeep(self, verb):
        assert not getattr(self.vault, verb)()

    @calm
    @step(then=st.booleans())
    def backup(self, then):
        path = pathlib.Path(self.folder, 'backup.db')
        self.vault.backup(path)
        self.is_this(open_vault(path, self.mode))
        if then and self.mode != 'memory':  # go on with it
            self.close_all()
            os.replace(path, self.file)
            self.begin_again()
        else:
            path.unlink()

    def is_this(self, vault):
        """Compare a vault with the program's, look it through, and close it."""
        with closing(vault):
            agree(list(vault.items()), self.committed(), 'the copy')
            vault._check()

    @calm
    @step()
    def move(self):
        path = pathlib.Path(self.folder, 'export.jsonl')
        assert moving.export(self.vault, path) == len(self.entries)
        with closing(open_vault(':memory:', self.mode)) as target:
            if any(isinstance(value, (Live, bytes)) for _, value in self.entries.values()) and self.validates:
                path.unlink()
                return
            assert moving.import_file(target, path, allow_pickle=True) == len(self.entries)
            agree(list(target.items()), self.committed(), 'what was moved')
            target._check()
        path.unlink()

    @on_disk
    @step(really=RARELY)
    def close_inside(self, really):
        """Close the vault, which rolls an open block back; then nothing works, and another one goes on."""
        if really:
            return NOTHING
        v, vault = self.v, self.vault
        vault.close()
        vault.close()
        for act in (v.clear, v.popitem, lambda: v['a'], lambda: v.get('a'), lambda: v.__setitem__('a', 1), v.__enter__,
                    lambda: list(v), lambda: len(v), lambda: v.list('a'), lambda: v.open('a', 'r'), v.sync, v.compact,
                    lambda: list(v['a':]), lambda: v.update(a=1), lambda: v.edit('a', 1).__enter__()):
            assert outcome(act) == ('raised', 'VaultClosedError')
        self.entries = self.saved[0][0] if self.saved else self.entries
        self.saved = []
        self.vaults = [one for one in self.vaults if one is not vault]
        self.begin_again()
        return None

    @calm_on_disk
    @step(really=RARELY)
    def reopen(self, really):
        if really:
            return NOTHING
        self.close_all()
        assert not pathlib.Path(self.folder, 'v.db-wal').exists(), 'the log is still there'
        self.begin_again()
        return None

    def close_all(self):
        self.settle()
        if self.mode != 'memory':
            self.other.ask(None, ':memory:', mode=self.mode, tiny=self.tiny)
        for vault in self.vaults:
            vault.close()
        self.vaults.clear()

    def begin_again(self):
        self.walks = [walk for walk in self.walks if self.is_open(walk.vault)]
        self.was_undone()
        self.vault = self.actor = self.opened()
        self.vaults.append(self.vault)
        self.other.ask(None, self.file, mode=self.mode, tiny=self.tiny)

    # --- what holds after each step ---

    @invariant()
    def same(self):
        if not hasattr(self, 'vault'):
            return
        for walk in self.walks:
            walk.look(self)
        if not self.aliased:
            self.compare()

    @step()
    def look(self):
        self.compare()

    def compare(self):
        """Compare all there is. It writes what a vault in write-back mode holds back, so that is a step there."""
        expected = {full: value for full, (_, value) in self.entries.items()}
        agree(list(self.vault.items()), list(expected.items()), 'the vault')
        agree(list(self.vault), list(expected), 'the order')
        agree(len(self.vault), len(expected), 'the number')
        agree(list(self.v), list(self.d), f'the section {self.path}')

    def teardown(self):
        if not hasattr(self, 'vault'):
            return
        try:
            while self.saved:
                self.saved.pop()[1].__exit__(None, None, None)
            self.compare()
            for one in self.files:
                one.drop()
            self.settle()
            self.vault._check()
            if self.mode != 'memory':
                self.close_all()
                self.is_this(open_vault(self.file, self.mode))
        finally:
            for vault in self.vaults:
                with suppress(vaults.VaultError):
                    vault.close()
            shutil.rmtree(self.folder)


@contextlib.contextmanager
def edited(model, key, *default):
    """Do what Vault.edit does, to the model."""
    if not default and key not in model:
        raise KeyError(key)
    before = copy.deepcopy(model.program.entries)
    try:
        value = model.get(key, *default)
        yield value
        model[key] = value
    except BaseException:
        model.program.entries = before
        raise


def main():
    trial = Trial(__doc__, rounds=63)
    trial.parser.add_argument('--steps', type=int, default=60, help='default: 60, of each program')
    trial.parser.add_argument('--as-found', action='store_true', help='do not look for the shortest program that fails')
    options = trial.begin()
    logging.getLogger('vaults').setLevel(logging.ERROR)  # files that are dropped warn
    Surface.other = Other()
    phases = [Phase.generate, *([] if options.as_found or options.first else [Phase.shrink])]
    try:
        for first in range(0, options.rounds, NEW):
            run_state_machine_as_test(hypothesis.seed(f'{options.seed} {first}')(Surface), settings=settings(
                max_examples=min(NEW, options.rounds - first), stateful_step_count=options.steps, phases=phases, deadline=None,
                database=None, print_blob=False, report_multiple_bugs=False, suppress_health_check=list(HealthCheck)))
    except Exception as error:
        traceback.print_tb(error.__traceback__)
        trial.broke('\n'.join([repr(error), *getattr(error, '__notes__', ())]))
    finally:
        Surface.other.process.communicate()
        use_sizes(False)
    print(', '.join(f'{name} {count}' for name, count in sorted(COUNTS.items())))
    trial.end(f'{options.rounds} programs of up to {options.steps} steps, {sum(COUNTS.values())} of which did something')


if __name__ == '__main__':
    play_role()
    main()
