"""The annotations: what a type checker says of programs."""
from __future__ import annotations

import os
import re
import sys
import textwrap

import pytest

from vaults import Vault

from . import stubs
from .helpers import HERE, output


def checked(program):
    """Return what mypy says of a program. It raises the limit of recursion, which other tests come to feel."""
    api = pytest.importorskip('mypy.api')
    before, limit = os.getcwd(), sys.getrecursionlimit()
    os.chdir(HERE)
    try:
        return api.run(['--strict', str(program)])[0]
    finally:
        os.chdir(before)
        sys.setrecursionlimit(limit)


class TestTyping:
    def test_subscripts_mean_nothing_at_run_time(self, root):
        v: Vault[str, int] = Vault[str, int]('typed')
        v['a'] = 1
        assert type(v) is Vault

    def test_mypy_infers_what_users_expect(self, tmp_path):
        program = tmp_path / 'program.py'
        program.write_text(textwrap.dedent('''
            from vaults import Vault
            untyped = Vault('untyped')
            untyped[1] = 'a'
            v: Vault[str, int] = Vault('typed')
            reveal_type(v['k'])
            reveal_type(v.get('k'))
            reveal_type(v.get('k', 'd'))
            reveal_type(v['a':'b'])
            reveal_type(v.pop('k'))
            reveal_type(v.setdefault('k', 1))
            for key, value in v.items():
                reveal_type((key, value))
            with v as same:
                reveal_type(same)
            users = v.section('users', value_type=bytes)
            reveal_type(users['ann'])
            reveal_type(v.section('all').section('inner')['x'])
            for item in v.list('log'):
                reveal_type(v.column('c', 'int8').dtype)
            class Sub(Vault[str, int]):
                def own(self) -> bytes:
                    return b''
            with Sub('sub') as sub:
                reveal_type(sub.own())
            sub |= {'a': 1}
            reveal_type(sub.own())
            reveal_type(Sub.fromkeys('ab', 1).own())
            reveal_type(v.popitem(last=False))
            v.move_to_end('k', last=False)
            users['ann'] = 5
            v[1] = 2
            v['k'] = 'text'
            '''))
        out = checked(program)
        short = re.sub(r'builtins\.|vaults\.views\.|vaults\.vault\.', '', out)
        revealed = re.findall(r'Revealed type is "(.*?)"', short)
        union = {'int | None', 'Union[int, None]'}, {'int | str', 'Union[int, str]', 'str | int'}
        assert revealed[0] == 'int' and revealed[1] in union[0] and revealed[2] in union[1], out
        assert revealed[3] == 'SortedSlice[str, int]' and revealed[4:6] == ['int', 'int'], out
        assert revealed[6] in ('tuple[str, int]', 'Tuple[str, int]') and revealed[7] == 'Vault[str, int]', out
        assert revealed[8:14] == ['bytes', 'int', 'str', 'bytes', 'bytes', 'bytes'], out
        assert revealed[14:] in (['tuple[str, int]'], ['Tuple[str, int]']), out
        assert len(re.findall('error:', out)) == 3, out

    GOOD = """
        from typing import Any, Dict, Iterator, List, Optional, Tuple, Union
        import vaults
        from vaults import Vault
        untyped = Vault('untyped')
        untyped.update({1: 'a'})
        untyped.update({'a': 'a'}, b=5)
        untyped.update([('a', None)])
        v: Vault[str, int] = Vault('typed', flag='n', synchronous='FULL')
        one: int = v.values()[0]
        key: str = v.keys()[-1]
        pair: Tuple[str, int] = v.items()[0]
        keys: List[str] = v.keys()[1:3]
        numbers: List[int] = v.values()[:]
        pairs: List[Tuple[str, int]] = v.items()[::2]
        first: Tuple[str, int] = v[:].first()
        last: Tuple[str, int] = v.prefix('a').last()
        maybe: Optional[Tuple[str, int]] = v['a':].first(None)
        part: Dict[str, int] = dict(v['a':'b']['a':].items())
        got: Optional[int] = v['a':].get('b')
        with v.edit('n', 0) as number:
            number += 1
        lists: Vault[str, List[int]] = Vault('lists')
        with lists.edit('k', []) as found:
            found.append(5)
        v.update({'a': 1})
        v.update([('a', 1)], b=2)
        v.update(a=1)
        v.update(v)
        v.update(v.section('s'))
        v.update((key, 1) for key in 'ab')
        v |= {'a': 1}
        v |= [('a', 1)]
        v |= v.section('s')
        untyped |= {1: 'a'}
        both: Dict[str, int] = v | {'a': 1}
        both = {'a': 1} | v
        mixed: Dict[Union[str, bytes], Union[int, bytes]] = v | {b'a': b'b'}
        count: int = v.put_many({'a': 1})
        live = v.list('live')
        plain: List[Any] = live[1:] + live + [5] + [None] * 2
        items: List[Any] = live.copy()
        live += ['a']
        live *= 2
        same: vaults.List[Any] = live
        fast: bool = live < [5]
        temps = v.column('temps', 'float64')
        temps.extend([1.5, 2])
        temp: float = temps[0]
        temp = temps.pop()
        listed: List[float] = temps.tolist()
        ints: vaults.Column[int] = v.column('ints', 'uint8')
        flags: vaults.Column[bool] = v.column('flags', bool)
        names: vaults.Column[Any] = v.column('names', 'S5')
        walk: Iterator[float] = iter(temps)
        db = vaults.open('shelf', 'n')
        db['any'] = 5
        """
    BAD = """
        from typing import List
        from vaults import Vault
        v: Vault[str, int] = Vault('typed')
        text: str = v.values()[0]
        number: int = v.keys()[0]
        texts: List[str] = v.values()[0:2]
        wrong: int = v[:].first()[0]
        v.update({'a': 'no'})
        v |= {'a': 'no'}
        v |= [(5, 5)]
        (v | {'a': 1})['a'].append(5)
        v.update([('a', 'no')])
        v.update(a='no')
        v.put_many({'a': 'no'})
        v.put_many([(1, 1)])
        v.edit('a', 'no')
        with v.edit('a') as value:
            value.append(5)
        Vault('a', flag='rw')
        Vault('a', flag=5)
        Vault('a', synchronous='ALL')
        v.column('c', 'int8').append('text')
        v.column('c', 'float64')[0] = 'text'
        v.column('c', bool)[0].append(5)
        v.list('a') < (1, 2)
        v['a':].last().append(5)
        v['a':].get('b').append(5)
        """

    def errors(self, tmp_path, program):
        (tmp_path / 'program.py').write_text(textwrap.dedent(program))
        out = checked(tmp_path / 'program.py')
        return {int(line) for line in re.findall(r'program.py:(\d+): error:', out)}, out

    def test_what_views_slices_lists_and_columns_hold_is_known(self, tmp_path):
        lines, out = self.errors(tmp_path, self.GOOD)
        assert not lines, out

    def test_what_is_wrong_is_an_error_on_its_line(self, tmp_path):
        lines, out = self.errors(tmp_path, self.BAD)
        program = textwrap.dedent(self.BAD).split('\n')
        wrong = [line for line, text in enumerate(program, 1) if line > 4 and text and not text.startswith('with ')]
        assert lines == set(wrong), out

    def test_typing_is_not_imported_for_it(self):
        assert output('import sys, vaults; print("typing" in sys.modules, "typing_extensions" in sys.modules)') == output(
            'import sys, sqlite3, msgpack; print("typing" in sys.modules, False)')


class TestTypesOfTasks:
    def test_the_stub_is_what_vault_and_the_tables_of_verbs_make(self):
        assert stubs.STUB.read_text('utf-8') == stubs.stub(), 'python -m spec.stubs writes it anew'

    def test_a_verb_that_lacks_or_differs_is_seen(self, monkeypatch):
        written = stubs.STUB.read_text('utf-8')
        table = dict(stubs.verbs.OF_VAULT)
        monkeypatch.setattr(stubs.verbs, 'OF_VAULT', {**table, 'is_no_verb': 'read'})
        with pytest.raises(LookupError, match='is_no_verb'):
            stubs.stub()
        del table['popitem']
        monkeypatch.setattr(stubs.verbs, 'OF_VAULT', table)
        assert 'async def popitem' in written and 'async def popitem' not in stubs.stub()

    def test_a_signature_that_differs_is_seen(self, monkeypatch, tmp_path):
        for name in stubs.ROOM_FILES:
            text = (stubs.ROOMS_AT / name).read_text('utf-8')
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(text.replace('def popitem(self, last: bool', 'def popitem(self, last: int'),
                                         'utf-8')
        written = stubs.STUB.read_text('utf-8')
        monkeypatch.setattr(stubs, 'ROOMS_AT', tmp_path)
        assert stubs.stub() == written.replace('popitem(self, last: bool', 'popitem(self, last: int') != written

    def test_mypy_infers_what_tasks_get(self, tmp_path):
        program = tmp_path / 'program.py'
        program.write_text(textwrap.dedent('''
            from vaults.aio import AsyncVault
            async def main() -> None:
                v: AsyncVault[str, int] = AsyncVault('typed')
                reveal_type(await v['k'])
                reveal_type(await v.get('k'))
                reveal_type(await v.pop('k', None))
                async for key, value in v.items():
                    reveal_type((key, value))
                async with v.transaction() as t:
                    reveal_type(t)
                async with v.edit('k') as number:
                    reveal_type(number)
                reveal_type(v['a':'b'])
                reveal_type(await v['a':'b']['a'])
                reveal_type(await v.list('l'))
                reveal_type(await v.column('c', 'int8'))
                reveal_type(await v.keys()[0])
                reveal_type(await v.length())
                async with v as same, v.open('f') as file:
                    reveal_type(same)
                    reveal_type(file)
                await v.update({'a': 1}, b=2)
                await v.put_many(v.section('s'))
                await v.put(1, 'x')
                v['k'] = 5
                number = v.get('k')
            '''))
        out = checked(program)
        revealed = re.findall(r'Revealed type is "(.*?)"', re.sub(r'builtins\.|vaults\.aio\.|typing\.', '', out))
        assert [re.sub(r'Union\[(\w+), None\]', r'\1 | None', one).replace('Tuple', 'tuple') for one in revealed] == [
            'int', 'int | None', 'int | None', 'tuple[str, int]', 'AsyncVault[str, int]', 'int', 'AsyncSlice[str, int]',
            'int', 'AsyncList[Any]', 'AsyncColumn[int]', 'str', 'int', 'AsyncVault[str, int]', 'AsyncFile'], out
        assert len(re.findall('error:', out)) == 4, out
