"""The verdict of a trial: its command line, the promises that broke, its line of figures, and its exit code."""
from __future__ import annotations

import argparse
import sys
import time

from .processes import play_role

BROKEN = 1  # the exit code,
PROMISES = ' promises broken:\n'  # and what stands behind their number


class Trial:
    """One run: its options, its promises, and its last line. Ends the program with 1 when a promise broke."""

    def __init__(self, doc: str, rounds: int) -> None:
        """`rounds` is the short measure of CI. `parser` takes more options before `begin` reads them."""
        self.parser = argparse.ArgumentParser(description=doc.splitlines()[0])
        self.parser.add_argument('--rounds', type=int, default=rounds, help=f'default: {rounds}, a short measure')
        self.parser.add_argument('--seed', default='1', help='the same seed draws the same rounds')
        self.parser.add_argument('--first', action='store_true', help='end at the first promise that breaks')
        self.broken: list[str] = []

    def begin(self) -> argparse.Namespace:
        """Return the options. Where this program was started to play a role, play it and end."""
        play_role()
        self.options = self.parser.parse_args()
        self.began = time.monotonic()
        return self.options

    def broke(self, what: str) -> None:
        """Note a promise that broke; the trial goes on, so that its figures are of all rounds, if not told otherwise."""
        self.broken.append(what)
        if self.options.first:
            self.end('ended at the first')

    def end(self, figures: str) -> None:
        """Print the line of figures; exit with 1 and the first of the broken promises when there are any."""
        print(f'{figures}; {time.monotonic() - self.began:.1f} s', flush=True)
        if self.broken:
            print(f'{len(self.broken)}{PROMISES}' + '\n'.join(self.broken[:20]), file=sys.stderr)
            sys.exit(BROKEN)
