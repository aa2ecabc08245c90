"""Break a PostgreSQL server under the writers of a vault, in every way, and look whether each error told the truth.

    python trials/postgresql.py [--rounds N] [--seed S] [--only HOW]

A round is about one way. Processes of two threads write to one vault, one of them through PgBouncer in transaction mode; they put,
delete, append and count, with and without blocks, and say how each step ended. Meanwhile their connections are ended, or cut before an
answer has come, their statements cancelled, the server is restarted, crashed or killed, PgBouncer is killed, idle sessions time out,
or writers are killed.
Nothing that was said to be done may be missing, nothing that was said not to be done may be there, and nothing twice.

Prints a line of figures; exits with 1 when a promise broke. Without PostgreSQL and psycopg it says so, and nothing is tried.
"""
from __future__ import annotations

import collections
import contextlib
import random
import sys
import time

from shared import ROOT
from shared.processes import Process
from shared.verdict import Trial
from shared.way import Way
from shared.writers import DONE, NOT, TIMEOUT, UNSURE, Judgement, listen, write

sys.path.insert(0, str(ROOT))

from spec.servers import MissingServerError, PgBouncer, postgres
from vaults import Vault

SECONDS = 1.2  # of a round
THREADS = 2
IDLE = .04     # seconds, after which a session is ended


class Round:
    """A vault, and the processes that write it."""

    def __init__(self, server, database, bouncer, seed, how):
        self.server, self.database, self.bouncer, self.how = server, database, bouncer, how
        self.rng = random.Random(seed)
        url = server.vault(database)
        self.url, pause, self.killed = url, 3 * IDLE if how == 'idle' else 0.0, 0
        self.way = Way(server.port)
        ports = self.way.port, server.port, bouncer.port if bouncer else server.port
        self.processes = [Process(write, url.replace(f':{server.port}/', f':{port}/'), f'p{number}', THREADS, SECONDS, seed, pause, True, TIMEOUT)
                          for number, port in enumerate(ports)]

    def run(self):
        """Meddle until the writers are done; return the judgement."""
        try:
            end = time.monotonic() + SECONDS
            while time.monotonic() < end - .2:
                listen(self.processes, self.rng.uniform(.1, .35))
                WAYS[self.how](self)
            for process in self.processes:
                code = process.join()
                assert code in (0, -9), f'a writer ended with {code}'
        finally:
            self.way.end()
        with contextlib.closing(Vault(self.url)) as v:
            return Judgement(v, [process.said for process in self.processes])

    # --- the ways ---

    def terminate(self):
        self.server.end_backends(self.database)

    def cancel(self):
        self.server.sql('SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE datname = %s', self.database)

    def kill(self):
        self.server.kill()
        time.sleep(self.rng.choice((0, .1)))
        self.server.start()

    def kill_bouncer(self):
        if self.bouncer:
            self.bouncer.kill()
            self.bouncer.start()

    def kill_writer(self):
        if self.killed < len(self.processes):
            self.processes[self.killed].kill()
            self.killed += 1


WAYS = {
    'nothing': lambda one: None,
    'cut': lambda one: one.way.cut(),
    'terminated': Round.terminate,  # connections are ended by the server
    'cancelled': Round.cancel,      # and statements
    'restarted': lambda one: one.server.restart(),
    'crashed': lambda one: one.server.restart('immediate'),
    'killed': Round.kill,
    'idle': lambda one: None,       # sessions that are idle for long are ended
    'pooler': Round.kill_bouncer,
    'writers': Round.kill_writer}


def tried(server, database, bouncer, seed, how):
    """Do a round; return its judgement."""
    idle = f'{IDLE * 1000:.0f}ms' if how == 'idle' else '0'
    for name in ('idle_session_timeout', 'idle_in_transaction_session_timeout'):
        server.sql(f"ALTER DATABASE {database} SET {name} = '{idle}'")
    server.end_backends(database)  # those that a pooler keeps, and which have what was set before
    return Round(server, database, bouncer, seed, how).run()


def break_servers(trial, options):
    """Do rounds until a promise breaks; return the figures."""
    server = postgres()
    try:
        bouncer = PgBouncer(server)
    except MissingServerError as missing:
        print(f'without PgBouncer: {missing}')
        bouncer = None
    database, ways = server.database(), options.only or [*WAYS]
    count, by_way = collections.Counter(), collections.Counter()
    for number in range(options.rounds):
        how = ways[number % len(ways)]
        try:
            judgement = tried(server, database, bouncer, f'{options.seed}.{number}', how)
        except Exception as error:  # whatever is not as it should be
            trial.broke(f'round {number}, {how}: {error!r}')
            continue
        for problem in judgement.all_problems():
            trial.broke(f'round {number}, {how}: {problem}')
        count.update(judgement.count)
        by_way[how] += judgement.count[NOT] + judgement.count[UNSURE]
    return (f'{options.rounds} rounds; {count[DONE]:,} steps done, {count[NOT]:,} surely not, of {count[UNSURE]:,} nobody can tell; '
            f'{len(trial.broken)} promises broken\nnot done or unsure: {", ".join(f"{how} {number}" for how, number in by_way.items())}')


def main():
    trial = Trial(__doc__, rounds=len(WAYS))
    trial.parser.add_argument('--only', choices=WAYS, metavar='HOW', action='append',
                              help=f'what the rounds are about, may be repeated: {", ".join(WAYS)}')
    options = trial.begin()
    try:
        postgres()
    except MissingServerError as missing:
        print(f'left out: {missing}')
        return
    trial.end(break_servers(trial, options))


if __name__ == '__main__':
    main()
