"""The command at a terminal: locales, interrupts, completion."""
from __future__ import annotations

import contextlib
import os
import pathlib
import re
import select
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time

import pytest

from vaults import Vault
from vaults.cli.commands import COMMANDS
from vaults.cli.progress import ProgressLine

from .helpers import HERE, needs_posix
from .internals import raw_of
from .peers import seen
from .programs import finished, spawn


@needs_posix
class TestCommandInAnAsciiLocale:
    """Python reads no other character there, and marks the bytes of UTF-8: they are what was typed."""

    @pytest.fixture
    def ascii_(self, root):
        with contextlib.closing(Vault('life')) as v:
            v.update({'clé': 'été', ('né', 1): 2})

        def run_in_c(*words, data=None):
            env = {'LC_ALL': 'C', 'LANG': 'C', 'PYTHONCOERCECLOCALE': '0', 'PYTHONUTF8': '0', 'VAULTS_ROOT': str(root)}
            return finished(spawn(*(word.encode() if isinstance(word, str) else word for word in words), env=env,
                                  stdin=subprocess.PIPE), data)
        return run_in_c

    def test_keys_and_values_are_found_and_stored(self, ascii_):
        assert ascii_('get', 'life', 'clé').out == '\\xe9t\\xe9\n'  # as far as it can be shown
        assert ascii_('--json', 'get', 'life', '"clé"').out == '"\\u00e9t\\u00e9"\n'
        assert ascii_('--json', 'get', 'life', '["né", 1]').out == '2\n'
        assert ascii_('keys', 'life', '--prefix', 'clé').out == '"cl\\u00e9"\n'
        assert ascii_('count', 'life', '--from', 'clé', '--to', 'clê').out == '1\n'
        assert ascii_('set', 'life', 'ñ', 'ß').status == 0
        assert ascii_('--json', 'set', 'life', '["ü"]', '{"é": "è"}').status == 0
        assert ascii_('set', 'life', 'piped', '-', data='œ'.encode()).status == 0
        assert ascii_('delete', 'life', 'clé').status == 0
        with contextlib.closing(Vault('life')) as v:
            assert v == {('né', 1): 2, 'ñ': 'ß', ('ü',): {'é': 'è'}, 'piped': 'œ'}

    def test_names_and_paths_are_those_of_the_same_bytes(self, ascii_, root):
        assert ascii_('set', 'vélo', 'k', '1').status == 0
        assert ascii_('list').out == 'life\n"v\\u00e9lo"\n'
        assert 'name      "v\\u00e9lo"' in ascii_('info', 'vélo').out
        assert '\\u00fc' in ascii_('backup', 'vélo', str(root / 'ü.db')).out
        assert ascii_('get', str(root / 'ü.db'), 'k').out == '1\n'
        assert ascii_('export', 'life', str(root / 'é.jsonl')).status == 0
        assert ascii_('import', str(root / 'é.jsonl'), 'neuf').status == 0
        assert sorted(os.listdir(root / 'vaults')) == ['life.db', 'neuf.db', 'vélo.db']
        assert ascii_('put', 'life', 'file', str(root / 'é.jsonl')).status == 0
        with contextlib.closing(Vault('neuf')) as v:
            assert v == {'clé': 'été', ('né', 1): 2}

    def test_errors_show_what_was_typed_and_bytes_that_are_no_text_stay(self, ascii_):
        assert "there is no key 'n\\xff'" in ascii_('get', 'life', 'nÿ').err
        done = ascii_('set', 'life', 'k', b'\xff')
        assert done.status == 2 and 'no UTF-8' in done.err
        assert ascii_('nôpe').status == 2


@needs_posix
@pytest.mark.usefixtures('hears_ctrl_c')
class TestCommandInterrupts:
    def test_an_interrupted_import_changes_nothing(self, root, books):
        before = seen(root)
        for name in ('books', 'new'):
            process = spawn('import', '-', name, stdin=subprocess.PIPE, env={'VAULTS_ROOT': str(root)})
            for n in range(20_000):  # more than a pipe holds: it is reading when all is written
                process.stdin.write(b'{"key": %d, "value": "a value"}\n' % n)
            process.stdin.flush()
            process.send_signal(signal.SIGINT)
            process.wait(60)
            done = finished(process)
            assert (done.status, done.out, done.err) == (130, '', '')
            assert seen(root) == before
        Vault(pathlib.Path(books.db_path))._check()

    def test_an_interrupted_check_ends_at_once_and_finds_nothing(self, root):
        v = Vault(pathlib.Path(root, 'vaults', 'many.db'))
        v.update((n, n) for n in range(400_000))
        v.close()
        before = seen(root)
        process = spawn('check', 'many', env={'VAULTS_ROOT': str(root)})
        while process.poll() is None and not (root / 'vaults' / 'many.db-shm').exists():
            time.sleep(0.01)
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        done = finished(process)
        assert (done.status, done.out, done.err) == (130, '', '')
        assert seen(root) == before

    def test_ctrl_c_ends_a_statement_of_sqlite(self, root, command):
        v = Vault('long')
        began = time.monotonic()
        timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
        with pytest.raises(KeyboardInterrupt), ProgressLine(v, 'counting', 'rows'):
            timer.start()
            try:
                raw_of(v).execute('WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 300000000)'
                                  ' SELECT count(*) FROM n').fetchall()
            except sqlite3.OperationalError:
                pass  # as check() does, which makes a problem of it
        assert time.monotonic() - began < 5
        assert raw_of(v).execute('WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 300000)'
                                 ' SELECT count(*) FROM n').fetchone() == (300_000,)
        v.close()


class TestCompletion:
    @pytest.fixture
    def place(self, root):
        """A folder with the command, vaults whose keys need quotes, and a file."""
        (root / 'bin').mkdir()
        script = root / 'bin' / 'vaults'
        script.write_text(f'#!/bin/sh\nexec {sys.executable} -m vaults "$@"\n')
        script.chmod(0o755)
        for name in ('books', 'bikes'):
            v = Vault(pathlib.Path(root, 'vaults', f'{name}.db'))
            v.update(dict.fromkeys(['my key 1', 'my key 2', 'user:1', 'user:22', "it's $x `y`", 'new\nline', '--dash', 'zoë',
                                    ('my', 'tuple')]))
            v.close()
        (root / 'file.txt').write_text('')
        return root

    def environment(self, place):
        return {**os.environ, 'PATH': f"{place / 'bin'}{os.pathsep}{os.environ['PATH']}", 'PYTHONPATH': str(HERE),
                'VAULTS_ROOT': str(place), 'HOME': str(place), 'LC_ALL': 'C.UTF-8', 'PS1': '$ ', 'TERM': 'dumb'}

    BASH = {
        'vaults ': list(COMMANDS), 'vaults ge': ['get'], 'vaults get b': ['bikes', 'books'], 'vaults keys bo': ['books'],
        'vaults import x b': ['bikes', 'books'], 'vaults completion ': ['bash', 'zsh', 'fish'],
        'vaults get books my': [r'my\ key\ 1', r'my\ key\ 2'], r'vaults get books my\ k': [r'my\ key\ 1', r'my\ key\ 2'],
        'vaults get books "my k': ['my key 1', 'my key 2'], "vaults get books 'my key 2": ['my key 2'],
        'vaults get books user:': ['1', '22'], 'vaults get books user:2': ['22'], 'vaults get books "user:2': ['user:22'],
        'vaults get books it': [r"it\'s\ \$x\ \`y\`"], 'vaults get books "it': [], 'vaults get books zo': ['zoë'],
        'vaults get books ': [r"it\'s\ \$x\ \`y\`", r'my\ key\ 1', r'my\ key\ 2', 'user:1', 'user:22', 'zoë'],
        'vaults get books -- --d': ['--dash'], 'vaults get books zoë ': [], 'vaults backup books ': [],
        'vaults get ROOT/vaults/books.db zo': ['zoë'], 'vaults get --root=ROOT books zo': ['zoë'],
        'vaults --root /nowhere get books zo': [], 'vaults --root=/nowhere get books zo': [],
        'vaults keys books --prefix my': [r'my\ key\ 1', r'my\ key\ 2'],
        'vaults keys books --p': ['--prefix'],
        'vaults get books --': ['--root', '--json', '--allow-pickle', '--json-key', '--output', '--section'],
        'vaults --json get books "\\"my': [], "vaults --json get books '\"my": ['"my key 1"', '"my key 2"'],
        "vaults get books --json-key '\"my key 2": ['"my key 2"'], r'vaults --json get books \"user:2': [r'22\"'],
        'vaults get --json books [': [r'\[\"my\"\,\ \"tuple\"\]'], 'vaults delete books zo': ['zoë'],
        "vaults get books --json-key '\"--": ['"--dash"'], 'vaults get books --section my tu': ['tuple'],
        'vaults --v': ['--version'], 'vaults get books "$(touch ROOT/made)': [], 'vaults get books $(touch ROOT/made)': [],
        'vaults get "books" z': ['zoë'], 'vaults serve --ho': ['--host', '--hostname'], 'vaults serve --tokens ': [], 'vaults keys books --limit ': [],
    }

    FISH = {
        'vaults ge': ['get'], 'vaults get b': ['bikes', 'bin/', 'books'], 'vaults import x boo': ['books'], 'vaults completion ': ['bash', 'fish', 'zsh'],
        'vaults get books my': ['my key 1', 'my key 2'], r'vaults get books my\ k': ['my key 1', 'my key 2'], "vaults get books 'my key 2": ['my key 2'],
        'vaults get books it': ["it's $x `y`"], 'vaults get books user:2': ['user:22'], 'vaults get books -- --d': ['--dash'],
        'vaults get books zoë ': [], 'vaults get --root=ROOT books zo': ['zoë'], 'vaults --root /nowhere get books zo': [],
        'vaults get ROOT/vaults/books.db zo': ['zoë'], 'vaults keys books --prefix zo': ['zoë'], 'vaults keys books --p': ['--prefix'],
        'vaults --json get books \'"my': ['"my key 1"', '"my key 2"'], 'vaults get books --json-key [': ['["my", "tuple"]'],
        'vaults get books --section my tu': ['tuple'], 'vaults delete books zo': ['zoë'], 'vaults keys books --limit ': [],
        'vaults backup books fil': ['file.txt'], 'vaults serve --tokens fil': ['file.txt'], 'vaults serve --allow fil': ['file.txt'],
        'vaults serve --allow-origin fil': [], 'vaults get books (touch ROOT/made)': [],
    }

    @pytest.mark.skipif(not shutil.which('fish'), reason='no fish')
    def test_fish_completes_the_same(self, place):
        lines = {line.replace('ROOT', str(place)): expected for line, expected in self.FISH.items()}
        program = r'''
            vaults completion fish | source
            while read -l line
                printf '%s\n' "=$line" (complete -C $line)
            end'''
        done = subprocess.run(['fish', '-c', program], input='\n'.join(lines) + '\n', cwd=str(place), timeout=60,
                              env=self.environment(place), capture_output=True, encoding='utf-8')
        assert done.stderr == ''
        found = {line: words for line, *words in (part.splitlines() for part in ('\n' + done.stdout).split('\n=')[1:])}
        assert found == lines
        assert not (place / 'made').exists()

    @pytest.mark.skipif(not shutil.which('bash'), reason='no bash')
    def test_bash_completes_commands_vaults_keys_and_options(self, place):
        lines = {line.replace('ROOT', str(place)): expected for line, expected in self.BASH.items()}
        program = '''
            eval "$(vaults completion bash)"
            while IFS= read -r COMP_LINE; do
                out=out$((++n))
                { COMP_POINT=${#COMP_LINE}; _vaults; printf '%s\\n' "$COMP_LINE" "${COMPREPLY[@]}"; } > $out &
                (( n % 8 )) || wait
            done; wait'''
        done = subprocess.run(['bash', '-c', program], input='\n'.join(lines) + '\n', cwd=str(place), timeout=60,
                              env=self.environment(place), stderr=subprocess.PIPE, encoding='utf-8')
        assert done.stderr == ''
        found = {}
        for part in place.glob('out*'):
            line, *words = part.read_text('utf-8').splitlines()
            found[line] = [word for word in words if word]
        assert found == lines
        assert not (place / 'made').exists()

    TYPED = {'vaults get boo': 'get|books', 'vaults get books it': "get|books|it's $x `y`", 'vaults comple': 'completion',
             'vaults get books user:2': 'get|books|user:22', "vaults get books 'my key 2": 'get|books|my key 2',
             'vaults get books zo': 'get|books|zoë', "vaults --json get books '\"zo": '--json|get|books|"zoë"',
             'vaults --json get books \\"user:2': '--json|get|books|"user:22"', 'vaults backup books fil': 'backup|books|file.txt'}
    SHELLS = {'bash': (['bash', '--norc', '--noprofile', '-i'], "bind 'set enable-bracketed-paste off';"),
              'zsh': (['zsh', '-f', '-i'], "unset zle_bracketed_paste; PS1='$ '; autoload -U compinit; compinit -u -D;"),
              'zsh without compinit': (['zsh', '-f', '-i'], "unset zle_bracketed_paste; PS1='$ ';"),
              'zsh with compinit behind it': (['zsh', '-f', '-i'], "unset zle_bracketed_paste; PS1='$ ';")}
    BEHIND = {'zsh with compinit behind it': 'autoload -U compinit; compinit -u -D;'}

    @needs_posix
    @pytest.mark.parametrize('shell', SHELLS)
    def test_what_is_typed_at_a_real_prompt_is_completed(self, place, shell):
        import pty
        program, prepare = self.SHELLS[shell]
        if not shutil.which(program[0]):
            pytest.skip(f'there is no {program[0]} here')
        process, terminal = pty.fork()
        if not process:
            os.chdir(place)
            os.execvpe(program[0], program, self.environment(place))

        def answer(line):
            os.write(terminal, line.encode() + b'\n')
            seen = b''
            while b'=END' not in seen:
                assert select.select([terminal], [], [], 20)[0], seen
                seen += os.read(terminal, 65536)
            return re.findall(r'BEGIN=(.*)=END', seen.decode())[-1]
        # The scripts ask `command vaults`, so what is typed can call a function that shows its arguments.
        assert answer(f"""{prepare} eval "$(vaults completion {program[0]})"; {self.BEHIND.get(shell, '')}"""
                      """ vaults() { local IFS='|'; echo BEGIN"=$*="END; }; vaults ready""") == 'ready'
        lines = list(self.TYPED.items())
        for line, expected in lines if shell in ('bash', 'zsh') else lines[:3]:  # these have zsh's script, begun otherwise
            assert answer(line + '\t').rstrip() == expected
        os.close(terminal)
        os.waitpid(process, 0)
