"""The recipes of the documentation."""
from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import signal
import subprocess
import sys
import textwrap

import pytest

import vaults

from .helpers import HERE, output

RECIPES = re.findall(r'```python\n(.*?)```', (HERE / 'docs' / 'recipes.md').read_text('utf-8'), re.S)


def recipe(vault):
    """Return the functions of the recipe that keeps its vault under this name, without the lines that use them."""
    program = next(program for program in RECIPES if f"Vault('{vault}')" in program)
    return program.rsplit('\n\n', 1)[0] + '\n'


def start(code, root):
    """Start a program beside this one; it may be talked to by its standard input and output."""
    return subprocess.Popen([sys.executable, '-W', 'error', '-c', code], cwd=str(root), text=True,
                            env={**os.environ, 'PYTHONPATH': str(HERE)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def answers(*children):
    """Let the programs go on, and return what each has printed."""
    for child in children:
        child.stdin.write('\n')
        child.stdin.flush()
    answered = [child.communicate(timeout=60)[0] for child in children]
    assert [child.returncode for child in children] == [0] * len(children)
    return answered


class TestRecipes:
    @pytest.mark.parametrize('number', range(len(RECIPES)))
    def test_each_program_shows_what_the_page_says(self, root, number):
        for package in re.findall(r'\b(jsonschema|pydantic)\b', RECIPES[number].split('\n')[0]):
            if importlib.util.find_spec(package) is None:
                pytest.skip(f'{package} is not installed')
        shown = output(RECIPES[number], cwd=str(root)).splitlines()
        assert shown == re.findall(r'print\(.*\)\s+# (.*)', RECIPES[number])

    def test_the_programs_are_short(self):
        assert len(RECIPES) == 13
        for program in RECIPES:
            assert len([line for line in program.splitlines() if line]) <= 25, program

    def test_the_page_leads_to_its_sections(self):
        page = (HERE / 'docs' / 'recipes.md').read_text('utf-8')
        titles = re.findall(r'^## (.*)$', page, re.M)
        assert re.findall(r'\]\(#(.*?)\)', page) == [re.sub(r'\W+', '-', title.lower()) for title in titles]

    def test_two_processes_do_each_job_of_the_queue_once(self, root):
        output(recipe('work') + 'v.update((("jobs", 1.0, n), n) for n in range(200))', cwd=str(root))
        worker = recipe('work') + textwrap.dedent('''
            print('ready', flush=True)
            input()
            ticket, job = take()
            while ticket:
                print(job)
                assert done(ticket, job)
                ticket, job = take()
            ''')
        children = [start(worker, root) for _ in range(2)]
        assert [child.stdout.readline() for child in children] == ['ready\n'] * 2
        done = [list(map(int, answer.split())) for answer in answers(*children)]
        assert sorted(done[0] + done[1]) == list(range(200))
        with contextlib.closing(vaults.Vault('work')) as v:
            assert v.section('results') == {n: n for n in range(200)} and not v.section('jobs')
            v._check()

    def test_the_job_of_a_killed_worker_comes_back_when_its_lease_runs_out(self, root):
        worker = start(recipe('work') + 'add("wash"); print(*take(lease=0.5), flush=True); input()', root)
        assert 'wash' in worker.stdout.readline()
        other = recipe('work') + textwrap.dedent('''
            assert take() == (None, None)
            input()
            while not take()[0]:
                pass
            print(time.time() >= float(v['until']), take())
            ''')
        other = start(other, root)
        with contextlib.closing(vaults.Vault('work')) as v:
            v['until'] = next(iter(v.section('jobs')))[0]
        worker.send_signal(signal.SIGTERM if os.name == 'nt' else signal.SIGKILL)
        worker.communicate()
        assert answers(other) == ['True (None, None)\n']

    def test_a_ticket_that_was_given_to_another_worker_is_refused_also_in_another_process(self, root):
        use = ('add("wash"); ticket, _ = take(lease=0.0); '
               'v["mine"] = ticket; v["theirs"], _ = take(); print(ticket < v["theirs"])')
        assert output(recipe('work') + use, cwd=str(root)) == 'True'
        use = 'print(done(v["mine"], 1), done(v["theirs"], 2), done(v["theirs"], 3), results.values())'
        assert output(recipe('work') + use, cwd=str(root)) == 'False True False [2]'

    def test_two_processes_count_without_losing_one(self, root):
        counter = recipe('site') + textwrap.dedent('''
            print('ready', flush=True)
            input()
            for n in range(300):
                count(['home', n % 3])
            ''')
        children = [start(counter, root) for _ in range(2)]
        assert [child.stdout.readline() for child in children] == ['ready\n'] * 2
        answers(*children)
        with contextlib.closing(vaults.Vault('site')) as v:
            assert v.section('hits') == {'home': 600, 0: 200, 1: 200, 2: 200}

    def test_the_index_fits_the_documents_after_a_change_that_failed(self, root):
        use = textwrap.dedent('''
            put('ann', name='Ann', city='Oslo')
            try:
                put('ann', city='Rome', job=(n for n in 'abc'))
            except vaults.SerializationError:
                print(len(people.section('ann')), by_city.section('Oslo').keys(), by_city.section('Rome').keys())
            ''')
        assert output(recipe('people') + use, cwd=str(root)) == "2 ['ann'] []"

    def test_a_file_is_not_stored_without_what_is_known_about_it(self, root):
        use = textwrap.dedent('''
            pathlib.Path('big').write_bytes(b'x' * 1_000_000)
            add('big', 'big', type='x')
            pathlib.Path('big').write_bytes(b'y' * 1_000_000)
            try:
                add('big', 'big', type=(n for n in 'abc'))
            except vaults.SerializationError:
                print(files['big'] == b'x' * 1_000_000, about['big'])
            delete('big')
            v.compact()
            print(len(v), v.check())
            ''')
        assert output(recipe('store') + use, cwd=str(root)) == "True {'size': 1000000, 'type': 'x'}\n0 []"

    def test_the_cache_drops_the_oldest_and_what_has_expired(self, root):
        cache = RECIPES[[' cached(' in program for program in RECIPES].index(True)].split('cache = ')[0]
        use = textwrap.dedent('''
            computed = []
            old = cached(vaults.Vault('cache'), seconds=-1, most=3)(lambda n: computed.append(n))
            new = cached(vaults.Vault('cache'), seconds=60, most=3)(lambda n: computed.append(n))
            old(1), old(1), old(2)
            new(2), new(2), new(3), new(1), new(4)
            print(computed, [key[1] for key in vaults.Vault('cache')])
            ''')
        assert output(cache + use, cwd=str(root)) == '[1, 1, 2, 2, 3, 1, 4] [3, 1, 4]'
