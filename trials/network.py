"""Break a server of vaults, its clients and the way between them, in every way, and look whether nothing is lost, and nothing done twice.

    python trials/network.py [--rounds N] [--seed S] [--only HOW] [--clients N]

A round is about one way. Three processes of two threads write to one vault of a server, two of them by a way that may be cut; they put,
delete, append and count, with and without blocks, and say how each step ended. Meanwhile the server is killed, or ended in good order
and started again; connections are cut behind any byte of a request or of its answer; answers are lost; clients are killed, in
blocks too; others send a request a byte at a time, or none of its body, read nothing of their answer, or fall silent in a block; or the
server's disk is full (disk.c, preloaded).
Nothing that was said to be done may be missing, nothing that was said not to be done may be there, and nothing twice or by half. When the
last writer is gone, the next one can have a block, so no lock is left; and the file, without the server, passes its check.

Then many clients, in processes of four threads, add one to one counter, in blocks and by edit(), half of them by a way that is cut: each
addition that was said to be done is counted, once.

Prints a line of figures; exits with 1 when a promise broke. Without the server's packages it says so, and nothing is tried.
"""
from __future__ import annotations

import collections
import contextlib
import pathlib
import random
import socket
import sys
import tempfile
import threading
import time

from msgpack import packb
from shared import IN_MEMORY, ROOT, TRIALS
from shared.processes import Process, compiled
from shared.verdict import Trial
from shared.way import DEAF, Way
from shared.writers import DONE, NOT, TIMEOUT, UNSURE, Judgement, Writer, listen, write

sys.path.insert(0, str(ROOT))

from spec.servers import MissingServerError
from spec.serving import Serving
from vaults import Vault

SECONDS = 1.8      # of a round
THREADS = 2
IMPATIENT = .2     # seconds that clients wait for a server which is away for longer
IDLE = .5          # seconds after which a block is rolled back in which nothing is asked
PATIENCE = 1.0     # seconds that the server waits for who sends or reads too slowly
BY_ONE = 4         # threads of a process that counts
ADDITIONS = 6      # of each client


class Round:
    """A vault, and the processes that write it."""

    def __init__(self, server, full, seed, how):
        self.server, self.full, self.how = server, full, how
        self.rng, self.killed, self.slow = random.Random(seed), 0, []
        self.name = server.name()
        self.url = server.url_of(self.name)
        self.way = Way(server.port, seed if how == 'anywhere' else None)
        ports, timeout = (self.way.port, server.port, self.way.port), IMPATIENT if how == 'away' else TIMEOUT
        self.processes = [Process(write, self.by(port), f'p{number}', THREADS, SECONDS, seed, 0.0, True, timeout)
                          for number, port in enumerate(ports)]

    def by(self, port):
        return self.url.replace(f':{self.server.port}/', f':{port}/')

    def run(self):
        """Meddle until the writers are done; return the judgement."""
        try:
            end = time.monotonic() + SECONDS
            while time.monotonic() < end - .4:
                listen(self.processes, self.rng.uniform(.1, .4))
                WAYS[self.how](self)
            if self.full.exists():
                self.full.unlink()
            for process in self.processes:
                code = process.join()
                assert code in (0, -9), f'a writer ended with {code}'
        finally:
            for process in self.processes:
                process.end()
            self.way.end()
            if self.full.exists():
                self.full.unlink()
        for one in self.slow:
            one.require_end()
        with contextlib.closing(Vault(self.url)) as v:
            with v:  # which nobody keeps it from
                v['hot'] = 'the end'
            return Judgement(v, [process.said for process in self.processes])

    # --- the ways ---

    def kill_server(self):
        self.server.kill()
        self.server.start()

    def take_server_away(self):
        """Kill the server when it has done what it could not answer any more, for longer than the clients wait."""
        self.way.cut()
        time.sleep(DEAF)
        self.server.kill()
        time.sleep(2 * IMPATIENT)
        self.server.start()

    def kill_writer(self):
        if self.killed < len(self.processes):
            self.processes[self.killed].kill()
            self.killed += 1

    def be_slow(self):
        self.slow.append(Slow(self.server.port, self.name, self.rng.choice([*SLOW])))

    def fill(self):
        """Let the disk be full, or have room again."""
        self.full.unlink() if self.full.exists() else self.full.touch()


class Slow:
    """A client that the server must let go of: a connection that says what `kind` says, and then too little, or nothing."""

    def __init__(self, port, name, kind):
        self.kind, self.outlasts = kind, False
        self.connection = socket.create_connection(('127.0.0.1', port), timeout=30)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        head, body, self.often = SLOW[kind]
        text = f'{head} HTTP/1.1\r\nHost: localhost\r\n'.replace('NAME', name)
        self.send(text.encode())
        if body is not None:
            self.send(b'Content-Type: application/vnd.vaults+msgpack\r\nContent-Length: %d\r\n\r\n' % len(body or bytes(9999)) + body)
        self.thread = threading.Thread(target=self.dribble)
        self.thread.start()

    def send(self, data):
        with contextlib.suppress(ConnectionError):
            self.connection.sendall(data)

    def dribble(self):
        """Say a byte now and then, as long as somebody listens, but not for ever."""
        end = time.monotonic() + 5 * PATIENCE
        while self.often and not self.outlasts:
            try:
                self.connection.sendall(b'x')
            except OSError:
                return
            time.sleep(self.often)
            self.outlasts = time.monotonic() > end

    def require_end(self):
        """Raise when the server still has the connection, but for who has asked all, and may ask again."""
        self.thread.join()
        with contextlib.closing(self.connection) as connection:
            if self.kind == 'silent in a block':
                return
            assert not self.outlasts, f'a client that is slow with {self.kind} is heard for as long as it likes'
            connection.settimeout(5 * PATIENCE)
            try:
                while connection.recv(1 << 16):
                    pass
            except ConnectionError:
                return
            except socket.timeout:
                raise AssertionError(f'a client that is slow with {self.kind} is still waited for') from None


BLOCK = packb([b'silent' + bytes(10), 'silent', [['begin'], ['get', 'hot']]])
SLOW = {  # by kind: how its request begins; its body, b'' for one that does not come; seconds between two bytes more
    'headers': ('GET /v1/vaults/NAME/entries', None, .05),
    'no more headers': ('GET /v1/vaults/NAME/entries', None, 0),
    'a body': ('POST /v1/vaults/NAME/ops', b'', .05),
    'no body': ('PUT /v1/vaults/NAME/entry?key=slow', b'', 0),
    'silent in a block': ('POST /v1/vaults/NAME/ops', BLOCK, 0)}
WAYS = {
    'nothing': lambda one: None,
    'anywhere': lambda one: None,   # each connection by the way is cut behind some byte
    'cut': lambda one: one.way.cut(),
    'killed': Round.kill_server,
    'away': Round.take_server_away,
    'restarted': lambda one: one.server.restart(),
    'writers': Round.kill_writer,
    'slow': Round.be_slow,
    'full': Round.fill}


# --- the counter --------------------------------------------------------------------------------------------------

class Counter(Writer):
    """A client that adds one to a counter, in one way or another."""

    def run(self, additions):
        for number in range(additions):
            kind, step = ('block', 'edit')[number % 2], f'{self.name}.{number}'
            self.tell(f'{step} {kind} {self.ended(kind, step)}\n'.encode())


def count(url, name, seed, tell):
    """Be a process of clients."""
    vaults = [Vault(url, timeout=40, thread_safe=True) for _ in range(BY_ONE)]
    counters = [Counter(vault, f'{name}.{number}', seed, tell, 0, False) for number, vault in enumerate(vaults)]
    running = [threading.Thread(target=counter.run, args=(ADDITIONS,)) for counter in counters]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()


def counted(trial, server, seed, clients):
    """Let so many clients count; return the figures."""
    url, way = server.url_of(server.name()), Way(server.port, seed)
    Vault(url).close()
    try:
        processes = [Process(count, url.replace(f':{server.port}/', f':{way.port}/') if number % 2 else url, f'c{number}', seed)
                     for number in range(-(-clients // BY_ONE))]
        for process in processes:
            if process.join():
                trial.broke(f'a client that counts ended with {process.code}')
    finally:
        way.end()
    with contextlib.closing(Vault(url)) as v:
        judgement = Judgement(v, [process.said for process in processes])
    for problem in judgement.all_problems():
        trial.broke(f'counting: {problem}')
    return judgement.count


# --- the rounds ---------------------------------------------------------------------------------------------------

def break_network(trial, options, server, full):
    """Do rounds; return the figures."""
    ways = options.only or [how for how in WAYS if how != 'full' or server.env.get('LD_PRELOAD')]
    total, by_way = collections.Counter(), collections.Counter()
    for number in range(options.rounds):
        how = ways[number % len(ways)]
        try:
            judgement = Round(server, full, f'{options.seed}.{number}', how).run()
        except Exception as error:  # whatever is not as it should be
            trial.broke(f'round {number}, {how}: {error!r}')
            continue
        for problem in judgement.all_problems():
            trial.broke(f'round {number}, {how}: {problem}')
        total.update(judgement.count)
        by_way[how] += judgement.count[NOT] + judgement.count[UNSURE]
    if not total[DONE]:  # of a round alone it may be so, on a busy machine
        trial.broke('nothing was done')
    figures = (f'{options.rounds} rounds; {total[DONE]:,} steps done, {total[NOT]:,} surely not, of {total[UNSURE]:,} nobody can tell'
               f'\nnot done or unsure: {", ".join(f"{how} {number}" for how, number in by_way.items())}')
    if options.clients:
        of_all = counted(trial, server, options.seed, options.clients)
        figures += (f'\n{options.clients} clients on one counter: {of_all[DONE]:,} additions done, {of_all[NOT]:,} surely not, of '
                    f'{of_all[UNSURE]:,} nobody can tell')
    return figures


def check_files(trial, root):
    """See that what the server has left is sound without it."""
    files = [*root.rglob('*.db')]
    for path in files:
        with contextlib.closing(Vault(path)) as v:
            v._check()
    if not files:
        trial.broke('the server has left no file')


def main():
    trial = Trial(__doc__, rounds=len(WAYS))
    trial.parser.add_argument('--only', choices=WAYS, metavar='HOW', action='append',
                              help=f'what the rounds are about, may be repeated: {", ".join(WAYS)}')
    trial.parser.add_argument('--clients', type=int, default=64, help='that count; default: 64')
    options = trial.begin()
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as work:
        folder = pathlib.Path(work).resolve()
        root, full = folder / 'root', folder / 'full'
        root.mkdir()
        preloaded = compiled(TRIALS / 'disk.c', folder)
        env = {'LD_PRELOAD': preloaded, 'DISK_FOLDER': str(root), 'DISK_FULL': str(full)} if preloaded else {}
        constants = {'leases.IDLE_BLOCK': IDLE, 'running.HEADERS_TIME': PATIENCE, 'bodies.PATIENCE': PATIENCE}
        try:
            server = Serving(root=root, constants=constants, **env)
        except MissingServerError as missing:
            print(f'left out: {missing}')
            return
        with server:
            figures = break_network(trial, options, server, full)
            server.end()
            check_files(trial, root)
    if not preloaded:
        print('a full disk is left out: it needs Linux and a C compiler')
    trial.end(f'{figures}; {len(trial.broken)} promises broken')


if __name__ == '__main__':
    main()
