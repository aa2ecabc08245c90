"""Verbs: which of the methods of vaults, views and live objects a task may await, and the thread that each goes to.

A test holds this table against the classes themselves: a method that is new there and lacks here fails it. What has a
form of its own in tasks (open, transaction, keys, ...) stands in OWN.
"""
from __future__ import annotations

BY_READER, BY_WRITER, APART = 'read', 'write', 'long'
JOINED = 'joined'   # by the reader, with all such calls that wait there: see joined.py

OF_VAULT = {
    **dict.fromkeys(('get', 'get_many', 'has_keys', 'sections'), BY_READER),
    **dict.fromkeys(('put', 'pop', 'popitem', 'move_to_end', 'setdefault', 'update', 'clear', 'put_many', 'pop_many',
                     'list', 'column', 'live', 'sync', 'compact'), BY_WRITER),
    **dict.fromkeys(('copy', 'check', 'backup', 'put_file', 'get_file'), APART),
}
OF_SLICE = {'get': BY_READER, 'first': BY_READER, 'last': BY_READER, 'clear': BY_WRITER}
OF_VIEW = {'index': BY_READER, 'count': BY_READER}
OF_LIST = {
    **dict.fromkeys(('count', 'index', 'copy', 'tolist'), BY_READER),
    **dict.fromkeys(('append', 'extend', 'insert', 'pop', 'remove', 'clear', 'reverse', 'sort'), BY_WRITER),
}
OF_COLUMN = {**OF_LIST, 'to_numpy': BY_READER}
OF_DEQUE = {**OF_LIST, **dict.fromkeys(('appendleft', 'extendleft', 'popleft', 'rotate'), BY_WRITER)}
OF_FILE = ('read', 'readline', 'readlines', 'readinto', 'write', 'writelines', 'seek', 'tell', 'truncate', 'flush')

# What operators and functions do of a dict or list cannot be awaited: these names stand for them.
INSTEAD = {'__setitem__': ('put', BY_WRITER), '__delitem__': ('delete', BY_WRITER),
           '__contains__': ('contains', BY_READER), '__len__': ('length', BY_READER)}
AWAITED_INSTEAD = {'__setitem__': 'await v.put(key, value)', '__delitem__': 'await v.delete(key)',
         '__contains__': 'await v.contains(key)', '__len__': 'await v.length()',
         '__bool__': 'await v.length()', '__iter__': '`async for`',
         '__enter__': '`async with v.transaction()` for a block, `async with v` to open it and close it',
         '__or__': 'await v.copy() | other', '__ror__': 'other | await v.copy()', '__ior__': 'await v.update(other)'}
