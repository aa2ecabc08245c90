"""Break copies of vaults on purpose, one change each, and look whether the trial that must find it does.

    python trials/broken.py [--only TRIAL] [--rounds N] [--seed S]

A trial is to be believed after it has failed. broken.txt has the mistakes that somebody could make: a text of
vaults/, which stands there exactly once, what stands in its place in the copy, and the arguments of the trial that must
find it. The trial is run in a copy of the whole tree, and must end with a broken promise, not by failing itself. Tries
as many breakages as there are rounds, drawn by the seed; --rounds 0 tries all, and each trial also without a mistake,
with the same arguments: then it must pass. Prints the table that docs/reliability.md keeps; exits with 1 when a breakage
was not found.
"""
from __future__ import annotations

import os
import pathlib
import random
import shutil
import sys
import tempfile
import time
from typing import List, NamedTuple, Tuple

from shared import ROOT
from shared.processes import run
from shared.verdict import BROKEN, PROMISES, Trial

FOLDERS = ('vaults', 'trials', 'spec', 'benchmarks', 'testdata')  # of which some trial needs something
HANGS = 600  # seconds, for a trial


class Breakage(NamedTuple):
    what: str       # is wrong
    trial: str      # that must find it
    arguments: str  # of the trial
    file: str       # of vaults/
    text: str       # in it, once
    instead: str


def breakages() -> List[Breakage]:
    """Return what stands in broken.txt, as the first lines there say."""
    def joined(sign: str, lines: List[str]) -> str:
        return '\n'.join(line[1:] for line in lines if line[0] == sign)

    _, *blocks = (ROOT / 'trials' / 'broken.txt').read_text('utf-8').split('\n\n')
    found = []
    for block in blocks:
        what, call, file, *lines = block.rstrip('\n').split('\n')
        trial, _, arguments = call.partition('.py')
        found.append(Breakage(what, trial, arguments.strip(), file, joined('-', lines), joined('+', lines)))
    return found


def copied(folder: pathlib.Path) -> pathlib.Path:
    for name in FOLDERS:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns('__pycache__'))
    return folder


def broken(path: pathlib.Path, text: str, instead: str) -> None:
    """Put the mistake into a file. Raises: ValueError when the text is not there once."""
    was = path.read_text('utf-8')
    if was.count(text) != 1:
        raise ValueError(f'{text!r} is {was.count(text)} times in {path.name}: the breakage needs another place')
    path.write_text(was.replace(text, instead), 'utf-8')


def tried(folder: pathlib.Path, trial: str, arguments: str) -> Tuple[str, float]:
    """Run a trial in a copy; return what became of it, and how many seconds it took."""
    began = time.monotonic()
    ended = run([sys.executable, folder / 'trials' / f'{trial}.py', '--first', *arguments.split()], HANGS, cwd=folder,
               env={**os.environ, 'PYTHONPATH': str(folder)})
    if ended.code == 0:
        became = 'left out' if 'left out' in ended.out else 'passed'
    elif ended.code == BROKEN and PROMISES in ended.complaints:
        became = 'found'
    else:
        became = f'failed with {ended.code}: {ended.complaints.strip()[-200:]}'
    return became, time.monotonic() - began


def try_one(judge: Trial, one: Breakage) -> None:
    """Try one breakage; print its line of the table."""
    with tempfile.TemporaryDirectory() as name:
        folder = copied(pathlib.Path(name))
        try:
            broken(folder / 'vaults' / one.file, one.text, one.instead)
        except ValueError as error:
            judge.broke(f'{one.trial}, {one.what}: {error}')
            return
        became, took = tried(folder, one.trial, one.arguments)
    after = f'{took:.1f} s' if became == 'found' else became
    print(f'| {one.what} | `{f"{one.trial}.py {one.arguments}".strip()}` | {after} |', flush=True)
    if became not in ('found', 'left out'):
        judge.broke(f'{one.trial}, {one.what}: {became}')


def try_sound(judge: Trial, trial: str, arguments: str) -> None:
    """Try the copy in which nothing is broken."""
    with tempfile.TemporaryDirectory() as folder:
        became, _ = tried(copied(pathlib.Path(folder)), trial, arguments)
    if became not in ('passed', 'left out'):
        judge.broke(f'{trial} {arguments}, without a breakage: {became}')


def main() -> None:
    every = breakages()
    judge = Trial(__doc__, rounds=4)
    judge.parser.add_argument('--only', choices=sorted({one.trial for one in every}), metavar='TRIAL', help='of this trial alone')
    options = judge.begin()
    chosen = [one for one in every if options.only in (None, one.trial)]
    if options.rounds:
        drawn = random.Random(options.seed).sample(chosen, min(options.rounds, len(chosen)))
        chosen = [one for one in chosen if one in drawn]
    print('| breakage | found by | after |\n|---|---|---:|')
    for one in chosen:
        try_one(judge, one)
    for trial, arguments in sorted({(one.trial, one.arguments) for one in chosen}) if not options.rounds else ():
        try_sound(judge, trial, arguments)
    judge.end(f'{len(chosen)} breakages tried')


if __name__ == '__main__':
    main()
