"""The documents: what README and docs say is so."""
from __future__ import annotations

import ast
import asyncio
import importlib.util
import os
import re
import shutil
import subprocess
import sys

import pytest

import vaults
from vaults import vault
from vaults.codecs import codes, registry, standalone
from vaults.collections import column as columns
from vaults.collections import list as sequences
from vaults.stores.sqlite import schema

from .architecture import HOUSE, ROOMS
from .helpers import HERE, MIGRATING, PAGES, TESTDATA, run


def sections(page):
    """Return the headings of a page, each with the text up to the next one."""
    text = re.sub(r'^(```.*?^```)$', lambda block: block[0].replace('\n#', '\n\0#'), page.read_text('utf-8'), flags=re.M | re.S)
    parts = re.split(r'^##+ (.*)$', text, flags=re.M)
    return [(heading, part.replace('\0', '')) for heading, part in zip(['', *parts[1::2]], parts[::2])]


def blocks(text):
    return re.findall(r'^```(\w*)\n(.*?)^```$', text, re.M | re.S)


def can_import(program):
    names = ','.join(re.findall(r'^ *(?:import|from) ([\w, ]+?)(?: import.*)?$', program, re.M)).split(',')
    return (all(importlib.util.find_spec(re.match(r'\w+', name.strip())[0]) for name in names if name)
            and ('asyncio.to_thread' not in program or hasattr(asyncio, 'to_thread')))


def installs(commands):
    """Tell whether commands need the network; what they install is what CI installs, which a test holds."""
    return bool(re.match(r'python3 -m venv|pip install|apt-get|git clone', commands))


def can_run(commands):
    """Tell whether there is what runs commands; `curl` is not everywhere."""
    return shutil.which('bash') and ('curl ' not in commands or shutil.which('curl'))


def shell(commands, folder, **options):
    """Run commands in bash as they stand, with the command `vaults` on the path."""
    programs = folder.parent / 'programs'
    programs.mkdir(exist_ok=True)
    for name, arguments in (('vaults', '-m vaults '), ('python', '')):
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments}"$@"\n')
        (programs / name).chmod(0o755)
    env = {**os.environ, 'PYTHONPATH': str(HERE), 'PATH': f'{programs}{os.pathsep}{os.environ["PATH"]}'}
    return subprocess.run(['bash', '-e', '-c', commands], cwd=str(folder), env=env, capture_output=True, text=True,
                          timeout=60, **{'input': '', **options})


def assert_shown(program, stdout):
    """Compare what was printed with the comments behind each print; `{...}` stands for what is left out."""
    expected = re.findall(r'print\(.*\)\s+# (.*)', program)
    assert not expected or len(expected) == len(stdout.splitlines()), (expected, stdout)
    for line, said in zip(stdout.splitlines(), expected):
        assert line == said or said.endswith('{...})]'), (line, said)


class TestDocuments:
    def test_the_docstrings_run(self):
        import doctest

        for module in (vault, registry, standalone, sequences, columns):
            failed, tried = doctest.testmod(module)
            assert not failed and tried

    @pytest.mark.parametrize('page', [pytest.param(page, id=page.stem) for page in PAGES])
    def test_the_programs_and_commands_of_the_page_run_as_they_stand(self, root, page):
        # The blocks below one heading run in order in one folder, which is empty at first; the tutorial goes on from one
        # heading to the next. Left out is what this Python lacks: a program that imports a package that is not installed,
        # commands where there is no bash.
        for number, (heading, section) in enumerate(sections(page)):
            folder = root / ('all' if page.stem == 'tutorial' else str(number))
            folder.mkdir(exist_ok=True)
            for language, block in blocks(section):
                if language == 'python' and can_import(block):
                    done = run(block, cwd=str(folder))
                elif language == 'sh' and not installs(block) and can_run(block):
                    done = shell(block, folder)
                else:
                    continue
                assert done.returncode == 0, (heading, block + done.stderr)
                assert_shown(block, done.stdout)

    def test_what_the_pages_install_is_what_ci_installs(self):
        ci = (HERE / '.ci' / 'run').read_text('utf-8')
        seen = [block for page in (*PAGES, MIGRATING) for _, section in sections(page)
                for language, block in blocks(section) if language == 'sh' and installs(block)]
        for extra in re.findall(r"pip install (?:-e )?'(\.\[.*?\])'", '\n'.join(seen)):
            assert re.search(rf"environment .*'{re.escape(extra)}'", ci), extra
        for program in re.findall(r'\.venv/bin/(?!activate)(\S+)', '\n'.join(seen)):
            assert f'bin/{program}"' in ci, program

    def test_the_programs_of_the_migration_page_run(self, root):
        # Before and after use the same names of files, so each have a folder of their own, below one heading.
        ran = 0
        for number, (_, section) in enumerate(sections(MIGRATING)):
            before, after = root / f'before{number}', root / f'after{number}'
            for folder in (before, after):
                shutil.copytree(TESTDATA, folder)
            (before / 'vaults').mkdir()
            shutil.copy(TESTDATA / 'vaults-earlier.sqlite', before / 'vaults' / 'settings.db')
            known = True  # whether this Python has the library that the section is about
            for language, block in blocks(section):
                if block.startswith('# before'):
                    known = known and can_import(block)
                if language == 'text' or (not known and not block.startswith('# after')):
                    continue
                folder = after if block.startswith('# after') else before
                done = run(block, cwd=str(folder)) if language == 'python' else shell(block, folder)
                assert done.returncode == 0, block + done.stderr
                assert_shown(block, done.stdout)
                ran += block.startswith('# after')
        assert ran >= 12

    def test_what_a_broken_copy_changes_stands_once_and_the_page_has_it(self):
        page = (HERE / 'docs' / 'reliability.md').read_text('utf-8')
        _, *blocks = (HERE / 'trials' / 'broken.txt').read_text('utf-8').split('\n\n')
        for block in blocks:
            what, call, file, *lines = block.rstrip('\n').split('\n')
            text = '\n'.join(line[1:] for line in lines if line[0] == '-')
            assert (HERE / 'vaults' / file).read_text('utf-8').count(text) == 1, f'{what}: {text}'
            assert f'| {what} | `{call}` | ' in page, f'{what}: not in the table as `{call}`'
        assert f'Each of these {len(blocks)} breakages' in page

    @pytest.mark.skipif(not shutil.which('bash'), reason='no bash to run the commands with')
    def test_what_the_commands_of_their_page_leave(self, root):
        block, = (block for _, section in sections(HERE / 'docs' / 'command.md') for language, block in blocks(section)
                  if 'vaults set books dune' in block)
        done = shell(block, root, input='print(len(v))')
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith('Frank Herbert\ndune\n') and done.stdout.endswith('\n4\n'), done.stdout
        assert (root / 'copy.jpg').read_bytes() == (root / 'photo.jpg').read_bytes()
        assert dict(vaults.moving.read(root / 'books.jsonl')) == {
            'dune': 'Frank Herbert', ('log', 2026): {'a': [1, 2]}, 'emma': {'by': 'Jane Austen'}}

    @pytest.mark.parametrize('page', [HERE / 'README.md', HERE / 'docs' / 'tutorial.md'], ids=lambda page: page.stem)
    def test_the_first_programs_can_be_pasted_into_a_prompt(self, page):
        import codeop
        for language, block in blocks(page.read_text('utf-8')):
            lines = []
            for line in [*block.splitlines(), ''] if language == 'python' else ():
                lines.append(line)
                if codeop.compile_command('\n'.join(lines)):
                    lines = []
            assert not lines, block

    def test_the_readme_fits_one_look(self):
        assert len((HERE / 'README.md').read_bytes()) <= 9 * 1024

    def test_the_reference_has_every_public_name(self):
        page = (HERE / 'docs' / 'api.md').read_text('utf-8')
        for name in vaults.__all__:
            if not isinstance(getattr(vaults, name), type) or not issubclass(getattr(vaults, name), vaults.VaultError):
                assert re.search(rf'auto\w+:: (vaults\.)?{name}$', page, re.M), name

    def test_the_reference_has_what_the_verbs_of_tasks_return(self):
        page = (HERE / 'docs' / 'api.md').read_text('utf-8')
        for room in ('blocks', 'bridge', 'things', 'vault'):
            for node in ROOMS[f'aio.{room}'].body:
                name = getattr(node, 'name', '')
                if re.match('Async', name) and name not in ('AsyncEntries', 'AsyncOpening'):
                    assert re.search(rf'\b{name}\b', page), name

    def test_what_the_page_about_the_implementation_names_is_there(self):
        page = re.sub('^```.*?^```$', '', (HERE / 'docs' / 'implementation.md').read_text('utf-8'), flags=re.M | re.S)
        files = [file for folder in ('vaults', 'spec', 'trials', 'benchmarks') for file in (HERE / folder).rglob('*.py')]
        words = set(re.findall(r'\w+', '\n'.join(file.read_text('utf-8') for file in files)))
        named = set(re.findall(r'`([\w./]+)(?:\(.*?\))?`', page))
        for name in named:
            if '/' in name or name.endswith('.py'):
                assert any((HERE / folder / name).exists() for folder in ('', 'vaults', 'trials')), name
            elif not name.startswith('NAME'):
                assert words.issuperset(filter(None, name.split('.'))), name
        classes = {node.name: node for tree in ROOMS.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
        methods = [name.split('.') for name in named if name.partition('.')[0] in classes and '.' in name]
        for kind, method in methods:
            said = {getattr(node, 'name', getattr(node, 'attr', getattr(node, 'id', ''))) for node in ast.walk(classes[kind])}
            assert method in said, (kind, method)
        assert len(named) > 250 and len(methods) > 30

    def test_the_page_about_the_implementation_has_the_table_of_who_may_import_whom(self):
        page = (HERE / 'docs' / 'implementation.md').read_text('utf-8')
        assert HOUSE.strip() in [block.strip() for _, block in blocks(page)]

    def test_each_room_is_on_the_page_for_contributors(self):
        page = (HERE / 'docs' / 'contributing.md').read_text('utf-8').partition('\n## The house\n')[2].partition('\n## ')[0]
        rooms = [file.relative_to(HERE).as_posix() for file in (HERE / 'vaults').rglob('*.py')
                 if file.parent.name != 'readers' or file.stem == '__init__']  # a format is a file there, and nothing else
        assert sorted(re.findall(r'`(vaults/\S+\.py)`', page)) == sorted(rooms)

    def test_the_changelog_knows_this_version(self):
        assert f'## {vaults.__version__}' in (HERE / 'CHANGELOG.md').read_text('utf-8')

    def test_the_pragma_of_the_format_page(self):
        page = (HERE / 'docs' / 'format.md').read_text('utf-8')
        for name in 'INT BYTEARRAY TUPLE SET FROZENSET COMPLEX DATE DATETIME TIME TIMEDELTA DECIMAL FRACTION UUID'.split():
            assert re.search(rf'\| *`?{getattr(codes, name)}`? *\|', page), name
        assert str(schema.APPLICATION_ID) in page or '0x7661756c' in page.lower()


class TestSpecification:
    """The files of this specification, which tests.py gathers."""

    FILES = sorted(file for file in (HERE / 'spec').glob('*.py') if file.stem != '__init__')

    def test_no_file_is_longer_than_a_thousand_lines(self):
        for file in self.FILES:
            assert len(file.read_text('utf-8').splitlines()) <= 1000, file.name

    def test_each_file_is_gathered(self):
        gathered = re.findall(r'^from spec\.(\w+) import \*$', (HERE / 'tests.py').read_text('utf-8'), re.M)
        assert sorted(gathered) == [file.stem for file in self.FILES]

    def test_each_file_is_on_the_page_for_contributors(self):
        page = (HERE / 'docs' / 'contributing.md').read_text('utf-8').partition('\n## The specification\n')[2].partition('\n## ')[0]
        assert sorted(re.findall(r'`(\w+\.py)`', page.partition('|---|')[2])) == [file.name for file in self.FILES]

    def test_a_name_means_one_thing_in_all_of_them(self):  # of two fixtures of one name, the last would be everybody's
        meanings = {}
        for file in self.FILES:
            for name, meaning in vars(importlib.import_module(f'spec.{file.stem}')).items():
                if not name.startswith('_'):
                    assert meanings.setdefault(name, meaning) is meaning, (file.name, name)
