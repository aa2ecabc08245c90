"""The recipes of the documentation."""
from __future__ import annotations

import contextlib
import http.client
import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor

import pytest

import vaults

from .helpers import HERE, output
from .servers import free_port, wait_for

RECIPES = re.findall(r'```python\n(.*?)```', (HERE / 'docs' / 'recipes.md').read_text('utf-8'), re.S)
ASYNC = re.findall(r'```python\n(.*?)```', (HERE / 'docs' / 'async.md').read_text('utf-8'), re.S)


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


class TestAsyncRecipes:
    """The longer programs of the page about tasks do what they promise."""

    CRAWLER = next(program for program in ASYNC if 'async def crawl(' in program).rpartition('\n\n')[0] + textwrap.dedent("""

        async def fetch(url):
            print(url, flush=True)
            await asyncio.sleep(60 if is_killed and url % 7 == 0 else 0.002 * (url % 5))
            return f'page {url}', [url * 2, url * 2 + 1]

        """)
    SHOP = next(program for program in ASYNC if 'FastAPI(lifespan=' in program)

    def crawl(self, name, is_killed=False):
        return f'{self.CRAWLER}is_killed = {is_killed}\nasyncio.run(main({name!r}))'

    def test_two_crawls_fetch_each_url_once(self, root):
        crawls = [start(self.crawl(name), root) for name in ('first', 'second')]
        fetched = [url for crawl in crawls for url in crawl.communicate(timeout=60)[0].split()[:-1]]
        assert sorted(map(int, fetched)) == list(range(1, 500))
        self.require_all()

    def test_a_killed_crawl_goes_on_with_what_it_had_claimed_and_leaves_none_out(self, root):
        killed = start(self.crawl('first', is_killed=True), root)
        fetched = [int(killed.stdout.readline()) for _ in range(20)]
        killed.kill()
        fetched += map(int, killed.stdout.read().split())
        killed.communicate(timeout=60)
        with contextlib.closing(vaults.Vault('crawl')) as v:
            claimed = v.section('claimed').section('first').keys()[:]
        *again, pages = map(int, output(self.crawl('first'), cwd=str(root)).split())
        assert {*fetched, *again} == {*range(1, 500)} and pages == 499
        assert 7 in claimed and {*fetched} & {*again} <= {*claimed}
        self.require_all()

    @staticmethod
    def require_all():
        with contextlib.closing(vaults.Vault('crawl')) as v:
            assert v.section('pages') == {url: f'page {url}' for url in range(1, 500)}
            assert not v.section('wanted') and not v.section('claimed') and v.check() == []

    def test_the_shop_tells_of_no_order_that_is_not_kept(self, root):
        for package in ('fastapi', 'uvicorn'):
            pytest.importorskip(package)
        (root / 'shop.py').write_text(self.SHOP)
        port, vault = free_port(), vaults.Vault('shop')

        def ask(method, path):
            with contextlib.closing(http.client.HTTPConnection('127.0.0.1', port, timeout=30)) as connection:
                connection.request(method, path)
                answer = connection.getresponse()
                return answer.status, json.loads(answer.read())

        def order(name):
            status, said = ask('POST', f'/orders/{name}')
            assert status == 200 and vault['order', said['number']] == name
            return said['number']
        program = subprocess.Popen([sys.executable, '-m', 'uvicorn', 'shop:app', '--port', str(port), '--log-level', 'warning'],
                                   cwd=str(root), env={**os.environ, 'PYTHONPATH': str(HERE)})
        try:
            wait_for(lambda: socket.create_connection(('127.0.0.1', port)).close() is None)
            with ThreadPoolExecutor(8) as pool:
                assert sorted(pool.map(order, map(str, range(40)))) == list(range(1, 41))
            assert ask('POST', '/orders/nobody')[0] == 422 and vault['count'] == 40 and len(vault) == 41
            assert ask('GET', '/orders/1') == (200, vault['order', 1]) and ask('GET', '/orders/41') == (200, None)
        finally:
            program.kill()
            program.wait(30)
            vault.close()
