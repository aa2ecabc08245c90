"""Kill a PostgreSQL primary under the writers of a vault, promote its standby, and look what is there.

    python trials/failover.py [--rounds N] [--seed S] [--part synchronous|asynchronous|cancelled]

Writers write through a URL of two hosts, and say how each step ended. All processes of the primary are killed, the standby is promoted,
and the writers go on. With a synchronous standby nothing that was said to be done may be missing, and with every standby nothing
may be there twice or by half. With an asynchronous one, whose stream is held up before, what was lost is counted: of each writer it
must be the newest. And a commit that waits for its standby, and is cancelled, may not be said to be done.

Prints a line of figures; exits with 1 when a promise broke. Without PostgreSQL and psycopg it says so, and nothing is tried.
"""
from __future__ import annotations

import collections
import contextlib
import itertools
import os
import random
import signal
import sys
import threading
import time

from shared import ROOT
from shared.processes import Process
from shared.verdict import Trial
from shared.writers import DONE, NOT, OF_ALL, TIMEOUT, UNSURE, Judgement, write

sys.path.insert(0, str(ROOT))

from spec.servers import MissingServerError, Server, server_programs, wait_for
from vaults import Vault, VaultUnsureError

SECONDS = 3.0  # that the writers have, of which the primary lives about one
WRITERS = 3    # processes of two threads
HELD_UP = .3   # seconds that an asynchronous standby gets nothing before its primary is killed
SENDERS = 'SELECT pid FROM pg_stat_replication'
WAITING = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'"


class Pair:
    """A primary and its standby, both gone at the end."""

    def __init__(self, synchronous):
        self.primary = Server()
        self.standby = self.primary.standby(synchronous)
        hosts = ','.join(f'127.0.0.1:{one.port}' for one in (self.primary, self.standby))
        self.url = f'postgresql://vaults@{hosts}/postgres?target_session_attrs=read-write&vault=failover'

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.standby.stop()
        self.primary.stop()

    def hold_up(self, how=signal.SIGSTOP):
        """Stop the process that sends the standby what is committed, or have it go on."""
        for process, in self.primary.sql(SENDERS):
            os.kill(process, how)


def fail_over(synchronous, seed):
    """Do a round; return the judgement."""
    rng = random.Random(seed)
    with Pair(synchronous) as pair:
        writers = [Process(write, pair.url, f'p{number}', 2, SECONDS, seed, 0.0, synchronous, TIMEOUT) for number in range(WRITERS)]
        time.sleep(rng.uniform(.6, 1))
        if not synchronous:
            pair.hold_up()
            time.sleep(HELD_UP)
        pair.primary.kill()
        for writer in writers:  # that can have nothing done now, until the standby is promoted
            while writer.hear(0):
                pass
        before = [len(writer.said) for writer in writers]
        pair.standby.promote()
        assert [writer.join() for writer in writers] == [0] * WRITERS, 'a writer failed, or hung'
        with contextlib.closing(Vault(pair.url)) as v:
            judgement = Judgement(v, [writer.said for writer in writers])
        judgement.problems += [f'a writer did not go on with the standby: {writer.said[-200:]!r}' for writer, at in zip(writers, before)
                               if b' done\n' not in writer.said[at:]]
        if not synchronous:
            judgement.problems += not_the_newest(judgement, writers, before)
        return judgement


def not_the_newest(judgement, writers, before):
    """Return what is wrong with that which was lost: before the failover, of each writer, nothing may be there that is newer."""
    lost, problems = set(judgement.lost), []
    for writer, at in zip(writers, before):
        steps = collections.defaultdict(list)
        for line in writer.said[:at].decode().splitlines():
            step, kind, outcome, *_ = line.split(' ', 3)
            if outcome == DONE and kind not in ('delete', *OF_ALL):
                steps[step.rpartition('.')[0]].append(step)
        for name, done in steps.items():
            kept = list(itertools.dropwhile(lambda step: step not in lost, done))
            if not lost.issuperset(kept):
                problems.append(f'{name} lost {kept[0]}, and not all that came after it')
    return problems


def cancel_a_commit():
    """Cancel a commit that waits for its standby; return what was raised."""
    raised = []

    def put():
        try:
            v['key'] = 2
        except Exception as error:
            raised.append(error)
    with Pair(synchronous=True) as pair, contextlib.closing(Vault(pair.url)) as v:
        v['key'] = 1
        pair.hold_up()
        thread = threading.Thread(target=put)
        thread.start()
        wait_for(lambda: pair.primary.sql(WAITING))
        pair.primary.sql('SELECT pg_cancel_backend(pid) FROM (' + WAITING + ') AS waiting')
        thread.join(20)
        pair.hold_up(signal.SIGCONT)
        assert v['key'] == 2, 'a commit that was only said to be unsure is not there'  # on the primary, which lives
    return raised


PARTS = ('synchronous', 'asynchronous', 'cancelled')


def problems_of(part, seed, count):
    """Do a round of a part, and add to the counts; return the promises that broke."""
    if part == 'cancelled':
        raised = cancel_a_commit()
        count[part] += 1
        is_unsure = [type(error) for error in raised] == [VaultUnsureError]
        return [] if is_unsure else [f'a commit that was cancelled as it waited for the standby raised {raised}']
    judgement = fail_over(part == 'synchronous', seed)
    count.update({(part, outcome): times for outcome, times in judgement.count.items()})
    count[part, 'lost'] += len(judgement.lost)
    return judgement.all_problems() if part == 'synchronous' else judgement.problems


def fail_over_and_over(trial, options):
    """Do all rounds; return the figures."""
    count, parts = collections.Counter(), options.part or PARTS
    for number, part in itertools.product(range(options.rounds), parts):
        try:
            problems = problems_of(part, f'{options.seed}.{number}', count)
        except Exception as error:  # whatever is not as it should be
            problems = [repr(error)]
        for problem in problems:
            trial.broke(f'round {number}, {part}: {problem}')
    figures = [f'{part}: {count[part, DONE]:,} steps done, {count[part, "lost"]:,} of them lost; {count[part, NOT]:,} surely not done, '
               f'of {count[part, UNSURE]:,} nobody can tell' for part in parts if part != 'cancelled']
    return '\n'.join([*figures, f'{options.rounds} rounds, {count["cancelled"]} commits cancelled, {len(trial.broken)} promises broken'])


def main():
    trial = Trial(__doc__, rounds=1)
    trial.parser.add_argument('--part', choices=PARTS, action='append', help='may be repeated')
    options = trial.begin()
    try:
        server_programs()
    except MissingServerError as missing:
        print(f'left out: {missing}')
        return
    trial.end(fail_over_and_over(trial, options))


if __name__ == '__main__':
    main()
