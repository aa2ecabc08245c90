"""What writes `vaults/aio/__init__.pyi`: `python -m spec.stubs`. The types of AsyncVault are those of Vault, awaited."""
from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

from vaults.aio import verbs

ROOMS_AT = Path(__file__).parent.parent / 'vaults'
STUB = ROOMS_AT / 'aio' / '__init__.pyi'
ROOM_FILES = ('vault.py', 'views.py', 'collections/sequence.py', 'collections/packed.py', 'collections/list.py',
         'collections/column.py', 'collections/deque.py')
FORMS = {'SortedSlice': 'AsyncSlice', 'Section': 'AsyncSection', 'Keys': 'AsyncKeys', 'Values': 'AsyncValues',
         'Items': 'AsyncItems', 'sequences.List': 'AsyncList', 'columns.Column': 'AsyncColumn', 'Vault': 'AsyncEntries',
         'PlainList': 'List'}

HEAD = '''\
# Written by `python -m spec.stubs`.
from types import TracebackType
from typing import (Any, AsyncIterable, AsyncIterator, Callable, Dict, Generator, Generic, Iterable, List, Literal,
                    Optional, SupportsIndex, Tuple, Type, Union, overload)

from _typeshed import SupportsKeysAndGetItem as Keyed
from typing_extensions import Self

from .._typing import K, K_co, T, V, V_co
from ..codecs.pickles import AllowPickle
from ..collections.column import Column
from ..collections.deque import Deque
from ..collections.list import List as LiveList
from ..opening import Flag, Path, Synchronous
from ..stores.base import Progress, Store

Floats = Literal['float32', 'float64']
Ints = Literal['int8', 'int16', 'int32', 'int64', 'uint8', 'uint16', 'uint32', 'uint64']

__all__ = ['AsyncVault']

class AsyncWalk(AsyncIterator[T]):
    def __aiter__(self) -> Self: ...
    async def __anext__(self) -> T: ...

class AsyncTransaction(Generic[T]):
    async def __aenter__(self) -> T: ...
    async def __aexit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException],
                        trace: Optional[TracebackType]) -> None: ...

class AsyncFile:
    name: Any
    mode: str
    @property
    def closed(self) -> bool: ...
    def discard(self) -> None: ...
    def __aiter__(self) -> Self: ...
    async def __anext__(self) -> Any: ...
    async def close(self) -> None: ...
    async def __aenter__(self) -> Self: ...
    async def __aexit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException],
                        trace: Optional[TracebackType]) -> None: ...
'''
OPENING = '''
class AsyncOpening(AsyncTransaction[AsyncFile]):
    def __await__(self) -> Generator[Any, Any, AsyncFile]: ...
'''
OF_FILE = {'read': 'size: int = -1, / -> Any', 'readline': 'size: int = -1, / -> Any',
           'readlines': 'hint: int = -1, / -> List[Any]', 'readinto': 'buffer: Any, / -> int',
           'write': 'data: Any, / -> int', 'writelines': 'lines: Iterable[Any], / -> None',
           'seek': 'offset: int, whence: int = 0, / -> int', 'tell': ' -> int',
           'truncate': 'size: Optional[int] = None, / -> int', 'flush': ' -> None'}
ENTRIES = '''
    @overload
    def __getitem__(self, key: slice) -> AsyncSlice[K, V]: ...  # type: ignore[overload-overlap]  # no key is a slice
    @overload
    async def __getitem__(self, key: K) -> V: ...
    def __aiter__(self) -> AsyncWalk[K]: ...
    def __reversed__(self) -> AsyncWalk[K]: ...
'''
VIEW = '''
    @overload
    async def __getitem__(self, index: slice) -> List[{0}]: ...
    @overload
    async def __getitem__(self, index: SupportsIndex) -> {0}: ...
    def __aiter__(self) -> AsyncWalk[{0}]: ...
    def __reversed__(self) -> AsyncWalk[{0}]: ...
'''
LIVE = '''
    @overload
    async def __getitem__(self, index: SupportsIndex) -> T: ...
    @overload
    async def __getitem__(self, index: slice) -> Any: ...
    def __aiter__(self) -> AsyncWalk[T]: ...
    def __reversed__(self) -> AsyncWalk[T]: ...
'''
PROPERTY = '''    @property
    def {}(self) -> {}: ...
'''
VAULT = '''    async def __aenter__(self) -> Self: ...
    async def __aexit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException],
                        trace: Optional[TracebackType]) -> None: ...
'''
# The verbs that are not awaited themselves, and what they return where Vault returns something else.
AT_ONCE = {'prefix': '', 'irange': 'AsyncWalk[K]', 'open': 'AsyncOpening', 'section': '',
           'transaction': 'AsyncTransaction[Self]', 'edit': 'AsyncTransaction[V]'}


@functools.lru_cache(maxsize=None)
def classes(rooms):
    """Return the classes of the house by name: the text of their file, and the tree."""
    found = {}
    for name in ROOM_FILES:
        text = (rooms / name).read_text('utf-8')
        found.update((node.name, (text, node)) for node in ast.parse(text).body if isinstance(node, ast.ClassDef))
    return found


def methods(name, among):
    """Return (parameters, returned) of a method in the first of some classes that has it: each overload, or itself."""
    known = classes(ROOMS_AT)
    for text, cls in map(known.__getitem__, among):
        found = [node for node in cls.body if isinstance(node, ast.FunctionDef) and node.name == name]
        overloads = [node for node in found if node.decorator_list]
        if found:
            return [_signature(text, node) for node in overloads or found]
    if name == '__len__':  # that of the protocol
        return [('self', 'int')]
    raise LookupError(f'none of {among} has {name}')


def _signature(text, node):
    lines = text.encode().splitlines(keepends=True)[node.lineno - 1:node.body[0].lineno]
    lines[-1] = lines[-1][:node.body[0].col_offset]
    said = re.sub(r'\s+', ' ', re.sub(r'#.*', '', b''.join(lines).decode())).strip()
    parameters, returned = re.fullmatch(r'def \w+\((.*)\) -> (.*):', said).groups()
    return _in_tasks(parameters).replace('= MISSING', '= ...'), _in_tasks(returned)


def _in_tasks(said):
    for name, form in FORMS.items():
        said = re.sub(rf'(?<![\w.]){re.escape(name)}\[', f'{form}[', said)
    return said


def stub_text(name, signatures, start='async def'):
    """Return the lines of a verb."""
    mark = '    @overload\n' if len(signatures) > 1 else ''
    return ''.join(f'{mark}    {start} {name}({parameters}) -> {returned}: ...\n' for parameters, returned in signatures)


def bridged(table, among):
    """Return the lines of all verbs of a table, and of those that stand for operators."""
    lines = []
    for name in table:
        signatures = methods(name, among)
        if name in ('update', 'put_many'):
            signatures = [(re.sub(r'Iterable\[(Tuple\[\w+, V\])\]\]', r'Iterable[\1], AsyncIterable[\1], '
                                  r'AsyncEntries[Any, V], AsyncSlice[Any, V]]', parameters), returned)
                          for parameters, returned in signatures]
        if name == 'live':
            [(parameters, _)] = signatures
            signatures = [(parameters.replace('Type[T]', f'Type[{live}[T]]'), f'{form}[T]') for live, form in (
                ('Deque', 'AsyncDeque'), ('Column', 'AsyncColumn'), ('LiveList', 'AsyncList'))]
            signatures.append((parameters.replace('Type[T]', 'Type[Any]'), 'Any'))
        lines.append(stub_text(name, signatures))
    for name, (said, _) in verbs.INSTEAD.items():
        is_there = name in ('__contains__', '__len__') or among[0] not in ('_ListLike', 'SortedSlice')
        if said not in table and (is_there or (among[0], name) == ('SortedSlice', '__delitem__')):
            lines.append(stub_text(said, methods(name, among)))
    return ''.join(lines)


def stub():
    """Return the text of the stub."""
    if set(OF_FILE) != set(verbs.OF_FILE):
        raise LookupError(f'OF_FILE here differs from that of verbs.py: {set(OF_FILE) ^ set(verbs.OF_FILE)}')
    text = HEAD
    for name, said in OF_FILE.items():
        parameters, returned = said.split(' -> ')
        text += stub_text(name, [(f'self, {parameters}'.rstrip(', /') + (', /' if '/' in parameters else ''), returned)])
    text += OPENING
    vault = ('Vault', 'Walks')
    views = ''.join(stub_text(name, methods(name, vault[1:]), 'def') for name in ('keys', 'values', 'items'))
    for name, generic, item, among in (('AsyncKeys', 'K_co', 'K_co', ('_ListLike', 'Keys')),
                                       ('AsyncValues', 'V_co', 'V_co', ('_ListLike', 'Values')),
                                       ('AsyncItems', 'K_co, V_co', 'Tuple[K_co, V_co]', ('_ListLike', 'Items'))):
        text += f'\nclass {name}(Generic[{generic}]):' + VIEW.format(item) + bridged(verbs.OF_VIEW, among)
    text += '\nclass AsyncSlice(Generic[K, V]):' + ENTRIES + views + bridged(verbs.OF_SLICE, ('SortedSlice', 'Walks'))
    text += '\nclass AsyncEntries(Generic[K, V]):' + ENTRIES + views
    for name, returned in AT_ONCE.items():
        text += stub_text(name, [(one, returned or theirs) for one, theirs in methods(name, vault)], 'def')
    text += ''.join(PROPERTY.format(*one) for one in (('name', 'str'), ('db_path', 'str'), ('closed', 'bool')))
    text += bridged(verbs.OF_VAULT, vault)
    text += '\nclass AsyncSection(AsyncEntries[K, V]):\n' + PROPERTY.format('path', 'Tuple[Any, ...]')
    text += '\nclass AsyncVault(AsyncEntries[K, V]):\n' + stub_text('__init__', methods('__init__', vault), 'def') + VAULT
    text += stub_text('close', methods('close', vault)) + stub_text('delete_vault', methods('delete_vault', vault))
    packed = ('PackedSequence', 'LiveSequence')
    for name, table, among, more in (
            ('AsyncList', verbs.OF_LIST, ('List', *packed), ''),
            ('AsyncColumn', verbs.OF_COLUMN, ('Column', 'LiveSequence'), PROPERTY.format('dtype', 'str')),
            ('AsyncDeque', verbs.OF_DEQUE, ('Deque', *packed), PROPERTY.format('maxlen', 'Optional[int]'))):
        text += f'\nclass {name}(Generic[T]):' + LIVE + more + bridged(table, among)
    return text


if __name__ == '__main__':
    STUB.write_text(stub(), 'utf-8')
