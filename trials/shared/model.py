"""The model: a dict that knows what a vault must hold, and random steps that change both alike.

A step is a name of OPERATIONS with its arguments, so it can be drawn again from the same seed, sent and noted; `do` does
it to a vault, to a section or to a `Model`. What a vault keeps in parts is in a model what it reads as: a stream bytes,
a list or column a list; the entries of a section have keys that begin with its name.
"""
from __future__ import annotations

import contextlib
import copy
import hashlib
import io
import itertools
import operator
import random
import zlib
from array import array
from collections import abc
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Tuple

MISSING = 'missing'


class Failed(Exception):
    """What blocks that are to fail are left by."""


# --- the model ----------------------------------------------------------------------------------------------------

class Verbs(abc.MutableMapping):
    """What dicts lack, of whatever is one."""

    def __reversed__(self):
        return reversed(list(self))

    def popitem(self, last=True):
        for key in reversed(self) if last else self:
            return key, self.pop(key)
        raise KeyError

    def clear(self):
        for key in list(self):
            del self[key]

    def put_many(self, pairs):
        pairs = list(pairs)
        self.update(pairs)
        return len(pairs)

    def get_many(self, keys):
        return {key: self[key] for key in keys if key in self}

    def pop_many(self, keys):
        return {key: self.pop(key) for key in keys if key in self}


class Model(Verbs):
    """What a vault must hold after the same steps."""

    def __init__(self, entries=()):
        self.data, self._before = dict(entries), []

    def __getitem__(self, key):
        if isinstance(key, slice):
            return {one: self.data[one] for one in self.within(key)}
        return self.data[key]

    def within(self, bounds):
        """Return the text keys in a slice, sorted."""
        return sorted(one for one in self.data if isinstance(one, str) and bounds.start <= one < bounds.stop)

    def __setitem__(self, key, value):
        self.data[key] = value

    def __delitem__(self, key):
        for one in self.within(key) if isinstance(key, slice) else [key]:
            del self.data[one]

    def __iter__(self):
        return iter(self.data)

    def __len__(self):
        return len(self.data)

    def move_to_end(self, key, last=True):
        moved = {key: self.data.pop(key)}
        self.data = {**self.data, **moved} if last else {**moved, **self.data}

    def prefix(self, prefix):
        return self[prefix:prefix + '\U0010ffff']

    def list(self, key, dtype=None):
        self[key] = items = self.get(key, [])
        return items

    column = list

    def section(self, name):
        return ModelSection(self, name)

    @contextlib.contextmanager
    def edit(self, key, default):
        value = copy.deepcopy(self.get(key, default))
        yield value
        self[key] = value

    @contextlib.contextmanager
    def open(self, key, mode):
        file = io.BytesIO(b'' if mode == 'wb' else self.get(key, b''))
        file.seek(0, 2 if mode == 'ab' else 0)
        yield file
        self[key] = file.getvalue()

    def sync(self):
        pass

    compact = sync

    # --- blocks ---

    def transaction(self):
        return self

    def state(self):
        """Return what is to be kept to undo a block; nothing but lists is changed in place."""
        return {key: value[:] if type(value) is list else value for key, value in self.data.items()}

    def undo(self, state):
        self.data = state

    def __enter__(self):
        self._before.append(self.state())
        return self

    def __exit__(self, kind, error, trace):
        before = self._before.pop()
        if kind:
            self.undo(before)


class ModelSection(Verbs):
    def __init__(self, model, name):
        self.model, self.name = model, name

    def __getitem__(self, key):
        return self.model[self.name, key]

    def __setitem__(self, key, value):
        self.model[self.name, key] = value

    def __delitem__(self, key):
        del self.model[self.name, key]

    def __iter__(self):
        return iter([key[1] for key in self.model if isinstance(key, tuple) and key[:1] == (self.name,)])

    def __len__(self):
        return len(list(iter(self)))


# --- comparing ----------------------------------------------------------------------------------------------------

def plain(value):
    """Return a value as it was given: of a live list or column what is in it."""
    return value.tolist() if hasattr(value, 'tolist') else value


def entries(vault) -> List[Tuple[Any, Any]]:
    """Return all that a vault, a section or a model holds, in order."""
    return [(key, plain(value)) for key, value in vault.items()]


def digest(pairs) -> bytes:
    """Return what stands for entries: their keys, values, types and order."""
    return hashlib.sha256(repr([(key, plain(value)) for key, value in pairs]).encode()).digest()


def difference(found, expected) -> str:
    """Return where two lists of entries begin to differ, or ''."""
    for one, other in itertools.zip_longest(found or (), expected or ()):
        if one != other:
            return f'{one!r:.100} instead of {other!r:.100}'
    return ''


def in_memory(value):
    """Return what there is of a result: of live lists, views and sections a copy, in which mappings are pairs."""
    if isinstance(value, tuple):
        return tuple(map(in_memory, value))
    if isinstance(value, abc.Mapping):
        return [(key, in_memory(one)) for key, one in value.items()]
    if hasattr(value, '__iter__') and not isinstance(value, (str, bytes)):
        return [in_memory(one) for one in value]
    return value


def seen(value) -> str:
    """Return a result in a form that is short and can be compared."""
    text = repr(in_memory(value))
    return text if len(text) < 60 else f'{text[:40]}... {len(text)} {zlib.crc32(text.encode())}'


# --- what steps are drawn with ------------------------------------------------------------------------------------

class Draw:
    """A seed, and how large all is. `share` of the values are large; sequences and streams are of some `lengths`."""

    def __init__(self, seed, keys=250, share=0.03, many=(1, 5, 30), lengths=(1, 1, 10, 700), pieces=(5, 100, 5_000)):
        self.rng = random.Random(seed)
        self._keys, self._share, self.many, self.lengths, self.pieces = keys, share, many, lengths, pieces

    def key(self):
        number = self.rng.randrange(self._keys)
        return (f'key {number:03}', number, ('key', number))[number % 3]

    def keys(self):
        return [self.key() for _ in range(self.rng.choice(self.many))]

    def bounds(self):
        low = self.rng.randrange(self._keys)
        return f'key {low:03}', f'key {low + self.rng.randrange(12):03}'

    def value(self):
        size = self.rng.choice((3_000, 30_000)) if self.rng.random() < self._share else 60
        return {'n': self.rng.random(), 'text': 'x' * self.rng.randrange(size), 'pair': (1, 2)}

    def pairs(self):
        return [(key, self.value()) for key in self.keys()]

    def name(self, kind):
        return f'{kind} {self.rng.randrange(3)}'

    def part(self):
        return sorted((self.rng.random(), self.rng.random()))

    def run(self, among, lengths):
        """Return where a run begins among so many, and how long it is."""
        size = self.rng.choice(lengths)
        return self.rng.randrange(among - size), size

    def steps(self, often: Dict[str, float]) -> Iterator[Tuple[Any, ...]]:
        """Yield steps without end, each operation as often, relatively, as is said."""
        names, weights = list(often), list(itertools.accumulate(often.values()))
        while True:
            yield self.step(self.rng.choices(names, cum_weights=weights)[0])

    def step(self, name):
        return (name, *OPERATIONS[name].draw(self))


# --- the operations -----------------------------------------------------------------------------------------------

ITEMS = [f'item {number}' for number in range(40_000)]
SPAN = 1 << 24       # bytes that `pattern` has
LONGEST = 8_000_000  # bytes of a stream, which then begins anew


class Operation(NamedTuple):
    do: Callable[..., Any]
    draw: Callable[[Draw], Tuple[Any, ...]] = lambda draw: ()


def pattern(start, size):
    """Return bytes of which hardly eight are like others, so that a piece in the wrong place shows."""
    first, skip = divmod(start, 8)
    return array('q', range((1 << 40) + first, (1 << 40) + first + size // 8 + 2)).tobytes()[skip:skip + size]


def edit(target, key, item):
    with target.edit(key, []) as items:
        items.append(item)
        del items[:-20]


def move(target, last):
    """Move the oldest entry to the end, or the newest to the front."""
    key = next(iter(target) if last else reversed(target), None)
    if key is not None:
        target.move_to_end(key, last)


def write_stream(target, key, mode, pieces):
    size = len(target.get(key, b''))
    with target.open(key, mode if 0 < size < LONGEST else 'wb') as file:
        for start, size in pieces:
            file.write(pattern(start, size))


SEQUENCE = {  # what is done to a list or column, with a part of it and some items
    'append': lambda found, part, items: found.append(items[0]),
    'extend': lambda found, part, items: found.extend(items),
    'insert': lambda found, part, items: found.insert(part.start, items[0]),
    'replace': lambda found, part, items: operator.setitem(found, part, items),
    'set': lambda found, part, items: operator.setitem(found, part.start, items[0]) if len(found) else None,
    'delete': lambda found, part, items: operator.delitem(found, part),
    'pop': lambda found, part, items: found.pop(part.start) if len(found) else None,
    'drop': lambda found, part, items: operator.delitem(found, slice(0, part.start)),
    'reverse': lambda found, part, items: found.reverse(),
    'sort': lambda found, part, items: found.sort(),
}


def change_sequence(target, key, how, part, start, count):
    """Change a list, or a column; to make an empty one is a step by itself."""
    is_list, is_there = key.startswith('list'), key in target
    found = target.list(key) if is_list else target.column(key, 'int64')
    if is_there:
        SEQUENCE[how](found, slice(*(int(place * len(found)) for place in part)),
                      ITEMS[start:start + count] if is_list else range(start, start + count))
    return len(found)


def draw_sequence(kind):
    return lambda draw: (draw.name(kind), draw.rng.choice(('append', 'extend', *SEQUENCE)), draw.part(),
                         *draw.run(len(ITEMS), draw.lengths))


def change_section(target, how, keys, value):
    section = target.section('key')
    if how == 'update':
        section.update((key, value) for key in keys)
    elif how == 'pop':
        section.pop(keys[0], None)
    else:
        section.clear()
    return len(section)


def block(target, steps, fails):
    """Do steps in a block, or in one inside of that which is open."""
    got: List[Any] = []
    with contextlib.suppress(Failed), target.transaction():
        got += [attempt(target, step) for step in steps]
        if fails:
            raise Failed
    return got


INSIDE = ('put', 'put', 'del', 'pop', 'popitem', 'setdefault', 'update', 'edit', 'list', 'section', 'block')


def draw_block(draw, fails=None):
    steps = [draw.step(draw.rng.choice(INSIDE)) for _ in range(draw.rng.choice((1, 1, 2, 5)))]
    return steps, draw.rng.random() < 0.5 if fails is None else fails


# The name: what it does to a vault, a section or a model, and what else it is called with.
OPERATIONS: Dict[str, Operation] = {
    'put': Operation(operator.setitem, lambda draw: (draw.key(), draw.value())),
    'get': Operation(lambda t, key: t.get(key, MISSING), lambda draw: (draw.key(),)),
    'in': Operation(operator.contains, lambda draw: (draw.key(),)),
    'del': Operation(operator.delitem, lambda draw: (draw.key(),)),
    'pop': Operation(lambda t, key: t.pop(key, MISSING), lambda draw: (
        draw.rng.choice((draw.key(), draw.key(), draw.key(), draw.name(draw.rng.choice(('stream', 'list', 'column'))))),)),
    'popitem': Operation(lambda t, last: t.popitem(last), lambda draw: (draw.rng.random() < 0.5,)),
    'setdefault': Operation(lambda t, key, value: t.setdefault(key, value), lambda draw: (draw.key(), draw.value())),
    'move': Operation(move, lambda draw: (draw.rng.random() < 0.5,)),
    'update': Operation(lambda t, pairs: t.update(pairs), lambda draw: (draw.pairs(),)),
    'put_many': Operation(lambda t, pairs: t.put_many(iter(pairs)), lambda draw: (draw.pairs(),)),
    'get_many': Operation(lambda t, keys: t.get_many(keys), lambda draw: (draw.keys(),)),
    'pop_many': Operation(lambda t, keys: t.pop_many(keys), lambda draw: (draw.keys(),)),
    'edit': Operation(edit, lambda draw: (draw.name('edited'), draw.rng.random())),
    'slice': Operation(lambda t, low, high: t[low:high], lambda draw: draw.bounds()),
    'prefix': Operation(lambda t, low: t.prefix(low), lambda draw: (draw.bounds()[0][:-1],)),
    'del slice': Operation(lambda t, low, high: operator.delitem(t, slice(low, high)), lambda draw: draw.bounds()),
    'len': Operation(len),
    'items': Operation(lambda t: t),
    'reversed': Operation(lambda t: list(reversed(t))),
    'stream': Operation(write_stream, lambda draw: (
        draw.name('stream'), draw.rng.choice(('wb', 'ab', 'r+b')),
        [draw.run(SPAN, draw.pieces) for _ in range(draw.rng.randrange(3))])),
    'list': Operation(change_sequence, draw_sequence('list')),
    'column': Operation(change_sequence, draw_sequence('column')),
    'section': Operation(change_section, lambda draw: (
        draw.rng.choice(('update',) * 8 + ('pop', 'clear')), [draw.rng.randrange(90) for _ in range(draw.rng.choice((1, 1, 10)))],
        draw.value())),
    'section items': Operation(lambda t: t.section('key')),
    'block': Operation(block, draw_block),
    'failing block': Operation(block, lambda draw: draw_block(draw, True)),
    'clear': Operation(lambda t: t.clear()),
    'sync': Operation(lambda t: t.sync()),
    'compact': Operation(lambda t: t.compact()),
}


def do(target, step) -> Any:
    """Do a step, and return what it gave."""
    name, *arguments = step
    try:
        return OPERATIONS[name].do(target, *arguments)
    except KeyError:
        return 'KeyError'


def attempt(target, step) -> str:
    """Do a step, and return what it gave, in short."""
    return seen(do(target, step))


def settle(model, steps, done: int, found, is_busy: bool = True) -> Tuple[Tuple[Any, ...], bool]:
    """Have the model take so many steps, and the next one if that is done too; it must hold what was found then.

    Returns that next step, and whether it was done. Raises: AssertionError.
    """
    for step in itertools.islice(steps, done):
        do(model, step)
    under_way = next(steps)
    is_there = found == entries(model)
    if is_busy and not is_there:
        do(model, under_way)
    problem = difference(found, entries(model))
    assert not problem, (f'after {done} steps, and {under_way[0]} under way, the vault is neither as it was nor one step '
                         f'further: {problem}')
    return under_way, not is_there
