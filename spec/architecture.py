"""The house: who may import whom, and what may not grow. Read off the source, not off what happens to be imported."""
from __future__ import annotations

import ast
from collections import Counter
from fnmatch import fnmatchcase

from .helpers import HERE

# Who may import whom: the first line that fits a room says it; -room is none of those before. Imports within functions
# count as well, those for type checkers alone do not. `_typing` stands in for `typing`, and is anybody's.
HOUSE = '''
errors log _typing memory        : errors
files                            : errors log
keys                             : errors
codecs codecs.*                  : codecs.* errors keys files memory
stores.base                      : errors keys
stores.sqlite.salvage            : stores.* errors log files keys codecs.* collections.tree collections.upkeep
stores.jsonfile.layout           : stores.* errors log files keys codecs.*
stores.writeback stores.live stores.changes : stores.* errors keys codecs.*
stores stores.*                  : stores.* errors log files keys memory
display                          : errors keys codecs.*
place                            : display stores.base errors keys codecs.*
collections collections.*        : collections collections.* place stores.base errors log files keys codecs.*
views transactions               : display collections collections.* place stores.base errors keys codecs.*
settings                         : stores.base codecs.* errors
moving.copying                   : moving.* opening transactions settings stores stores.base collections.* place errors files keys codecs.*
moving moving.*                  : moving moving.* settings stores stores.sqlite stores.sqlite.* collections.* place stores.base errors files keys codecs.*
opening                          : moving.source settings stores stores.live place stores.base errors log files keys codecs.*
vault                            : collections collections.* opening settings views transactions stores stores.base place errors files keys codecs.*
sections                         : vault opening place stores.base errors keys
aio.loops aio.workers aio.verbs  : aio.loops stores.forks stores.tasks errors log
vaults cli cli.* __main__        : *
*                                : * -vaults -cli -cli.*
'''
OF_ENGINES = 'open_store', 'named', 'names'  # which each has: see stores/__init__.py
ENTRANCES = {'stores.sqlite.driver', 'stores.sqlite.opening', 'stores.sqlite.recovery', 'stores.sqlite.sources', 'stores.http.wire'}
# How often a room takes what is private to another object. May only shrink: what is needed no more is struck out.
PRIVATE = '''
codecs.named 23
collections.column 6
collections.kind 3
collections.tree 1
opening 1
place 1
stores.blocks 1
stores.sqlite.backup 1
stores.sqlite.fork 2
stores.sqlite.nesting 1
stores.tasks 2
vault 1
views 6
'''


def named(path):
    """Return the name of the room: 'vault', or 'stores.base'; that of a package is the package's."""
    return '.'.join(part for part in path.relative_to(HERE / 'vaults').with_suffix('').parts if part != '__init__') or 'vaults'


TEXTS = {named(path): path.read_text('utf-8') for path in sorted((HERE / 'vaults').rglob('*.py'))}
ROOMS = {room: ast.parse(text) for room, text in TEXTS.items()}
INNER = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
PACKAGES = {'vaults', *(room.rpartition('.')[0] for room in ROOMS if '.' in room)}


def running(tree, within=True):
    """Yield the nodes that run; perhaps without those in functions and the like, whose names are no names of the room."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and getattr(node.test, 'id', '') == 'TYPE_CHECKING':
            node = ast.Module(body=node.orelse, type_ignores=[])
        yield node
        if within or not isinstance(node, INNER):
            yield from running(node, within)


def imported(room):
    """Return the rooms that a room imports."""
    found = set()
    for node in running(ROOMS[room]):
        if isinstance(node, ast.ImportFrom) and node.level:
            above = ['vaults', *room.split('.')] if room != 'vaults' else ['vaults']
            path = above[1:len(above) - node.level + (room in PACKAGES)] + (node.module.split('.') if node.module else [])
            for name in node.names:
                inner = '.'.join([*path, name.name])
                found.add(inner if inner in ROOMS else '.'.join(path) or 'vaults')
        elif isinstance(node, (ast.Import, ast.ImportFrom)):  # by full names
            full = [node.module] if isinstance(node, ast.ImportFrom) else [name.name for name in node.names]
            found |= {name.partition('.')[2] or name for name in full if name.partition('.')[0] == 'vaults'}
    return found - {room, '_typing'}


def may_import(room, other):
    for who, whom in (line.split(':') for line in HOUSE.strip().splitlines()):
        if any(fnmatchcase(room, pattern) for pattern in who.split()):
            wanted = [pattern for pattern in whom.split() if fnmatchcase(other, pattern.lstrip('-'))]
            return bool(wanted) and not any(pattern[0] == '-' for pattern in wanted)
    raise AssertionError(f'{room} has no line in HOUSE')


def reaches(tree):
    """Return how often a room takes what is private to another object, as ruff's SLF001 counts.

    Here _make of a list, of which a namedtuple has one, and what a special method takes of its other operand count too.
    """
    return sum(isinstance(node, ast.Attribute) and node.attr[0] == '_' and node.attr[-1] != '_' and not (
        getattr(node.value, 'id', '') in ('self', 'cls') or getattr(getattr(node.value, 'func', None), 'id', '') == 'super')
        for node in ast.walk(tree))


def names(room):
    """Return the names that a room defines, but for those that each may have."""
    for node in running(ROOMS[room], within=False):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


def leads(graph, room, seen=()):
    """Return the rooms to which imports lead from a room."""
    seen = set(seen)
    for other in graph[room] - seen:
        seen |= {other, *leads(graph, other, seen | {other})}
    return seen


class TestArchitecture:
    def test_each_room_imports_only_what_is_below_it_and_there_is_no_circle(self):
        graph = {room: imported(room) for room in ROOMS}
        below = {room: leads(graph, room) for room in ROOMS}
        assert not [(room, other) for room in ROOMS for other in graph[room]
                    if not may_import(room, other) or room in below[other]]

    def test_the_vault_and_what_it_imports_know_no_engine(self):
        assert not [other for other in imported('vault') if other.startswith('stores.') and other != 'stores.base']

    def test_one_room_imports_sqlite3_and_those_that_read_files_of_others(self):
        assert {room for room, tree in ROOMS.items() for node in running(tree) if isinstance(node, (ast.Import, ast.ImportFrom))
                and 'sqlite3' in [getattr(node, 'module', ''), *(name.name for name in node.names)]} == {'stores.sqlite.with_sqlite3'}

    def test_the_rooms_of_an_engine_are_its_own_but_for_those_that_it_names(self):
        assert not [(room, other) for room in ROOMS for other in imported(room) for engine in ('stores.sqlite', 'stores.postgresql')
                    if other.startswith(f'{engine}.') and not room.startswith(engine) and other not in ENTRANCES]

    def test_what_is_private_is_reached_for_no_more_often_than_now(self):
        assert sorted(f'{room} {reaches(tree)}' for room, tree in ROOMS.items() if reaches(tree)) == PRIVATE.split('\n')[1:-1]

    def test_no_room_is_longer_than_can_be_read(self):
        assert not [room for room, text in TEXTS.items()
                    if text.count('\n') > (300 if room.startswith(('stores.sqlite', 'stores.postgresql', 'stores.http', 'server')) else 700)]

    def test_no_name_means_two_things_in_two_rooms(self):
        drivers = {'stores.sqlite.with_sqlite3': 'a driver', 'stores.sqlite.with_apsw': 'a driver'}  # which are alike
        named = {(drivers.get(room, room), name) for room in ROOMS for name in names(room)}
        count = Counter(name for _, name in named if name not in ('TYPE_CHECKING', '__all__', '__getattr__', *OF_ENGINES))
        assert not [name for name, rooms in count.items() if rooms > 1]

    def test_the_contract_of_stores_says_what_goes_in_and_out(self):
        assert not [node.name for node in ast.walk(ROOMS['stores.base']) if isinstance(node, ast.FunctionDef) and node.name[0] != '_'
                    for said in (node.args, node.returns or node.args) if "id='Any'" in ast.dump(said)]
