"""Writers on a vault that can fail at any time, and the judgement of what they leave.

A writer says of each step that it begins it, and then how it ended: it was done; it was surely not done; or nobody can tell. What
is in the vault afterwards must fit, for each step: nothing that was done is missing, nothing that was not is there, and nothing is
there twice or by half. Of a step that a killed writer had begun nobody can tell either.
"""
from __future__ import annotations

import collections
import contextlib
import itertools
import random
import threading
import time

from vaults import Vault, VaultBusyError, VaultError, VaultFullError, VaultUnreachableError, VaultUnsureError

DONE, NOT, UNSURE, BROKE = 'done', 'not', 'unsure', 'broke'
LEASE = 'nothing of it was kept'  # what is said of a block on another machine that its server has ended
STREAM = 50_000  # bytes
TIMEOUT = 5.0    # seconds, the default of a vault
OFTEN = {'put': 8, 'overwrite': 3, 'update': 3, 'setdefault': 3, 'block': 6, 'edit': 3, 'append': 4, 'delete': 2, 'stream': 1, 'read': 4, 'walk': .3}
READING = ('read', 'walk')  # whether a writer's own puts are still there
OF_ALL = ('edit', 'overwrite', *READING)  # steps that leave nothing of their own


# --- writing ------------------------------------------------------------------------------------------------------

class Writer:
    """A thread that does steps; each has a name of its own, which what it puts contains."""

    def __init__(self, vault, name, seed, tell, pause, reads):
        self.vault, self.name, self.tell, self.pause = vault, name, tell, pause
        self.often = OFTEN if reads else {kind: often for kind, often in OFTEN.items() if kind not in READING}
        self.rng = random.Random(f'{seed} {name}')
        self.mine = set()  # the steps of which what was put is there

    def run(self, end):
        kinds, weights = list(self.often), list(itertools.accumulate(self.often.values()))
        for number in itertools.count(1):
            if time.monotonic() > end:
                return
            kind, step = self.rng.choices(kinds, cum_weights=weights)[0], f'{self.name}.{number}'
            self.tell(f'{step} {kind} begun\n'.encode())
            self.tell(f'{step} {kind} {self.ended(kind, step)}\n'.encode())
            self.wait()

    def ended(self, kind, step):
        """Do a step, and return how it ended."""
        try:
            getattr(self, kind)(step)
        except Exception as error:
            outcome = outcome_of(kind, error)
            if outcome == NOT:
                time.sleep(.01)
            return outcome
        if kind == 'put':
            self.mine.add(step)
        return DONE

    def wait(self):
        if self.pause and self.rng.random() < .2:
            time.sleep(self.pause)

    # --- the steps ---

    def put(self, step):
        self.vault['put', step] = 1

    def overwrite(self, step):
        self.vault['hot'] = step

    def update(self, step):
        self.vault.update({('update', step, part): part for part in range(3)})

    def setdefault(self, step):
        assert self.vault.setdefault(('setdefault', step), 1) == 1

    def block(self, step):
        with self.vault as v:
            count, hot = v.get('count', 0), v.get('hot')
            self.wait()
            v['block', step] = 1
            v['count'] = count + 1
            assert v.get('hot') == hot, 'somebody wrote beside a block'

    def edit(self, step):
        with self.vault.edit('edited', {}) as counts:
            counts[self.name] = counts.get(self.name, 0) + 1
            counts['all'] = counts.get('all', 0) + 1

    def append(self, step):
        self.vault.list('list').append(step)

    def delete(self, step):
        self.vault['delete', step] = 1
        if self.rng.random() < .5:
            del self.vault['delete', step]
        else:
            assert self.vault.pop(('delete', step)) == 1

    def stream(self, step):
        with self.vault.open(('stream', step), 'wb') as file:
            file.write(b'x' * STREAM)

    def read(self, step):
        for one in self.rng.sample(sorted(self.mine), min(3, len(self.mine))):
            assert self.vault.get(('put', one)) == 1, f'what {one} put is not there'

    def walk(self, step):
        missing = self.mine - {key[1] for key in self.vault.prefix(('put',))}
        assert not missing, f'a walk left out {missing}'


def outcome_of(kind, error):
    """Return how a step ended that raised an error; most errors are not as it should be."""
    if isinstance(error, VaultUnsureError) and kind not in READING:  # what is only read is surely not done
        return UNSURE
    if isinstance(error, (VaultUnreachableError, VaultBusyError, VaultFullError)) or (type(error) is VaultError and LEASE in str(error)):
        return NOT
    return f'{BROKE} {error!r}'.replace('\n', ' ')


def write(url, name, threads, seconds, seed, pause, reads, timeout, tell):
    """Be a process of so many writers, for so many seconds, that now and then wait so long. The vault may not be reachable yet."""
    end = time.monotonic() + seconds
    while True:
        try:
            vault = Vault(url, timeout=timeout)
            break
        except (VaultUnreachableError, VaultBusyError):
            if time.monotonic() > end:
                return
    with contextlib.closing(vault):
        writers = [Writer(vault, f'{name}.{number}', seed, tell, pause, reads) for number in range(threads)]
        running = [threading.Thread(target=writer.run, args=(end,)) for writer in writers]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()


def listen(processes, seconds):
    """Hear what processes of writers have to say, for so many seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        heard = [process.hear(0) for process in processes if process.code is None]
        time.sleep(0 if any(heard) else .01)


# --- judging ------------------------------------------------------------------------------------------------------

class Judgement:
    """What writers have `said`, beside what a vault holds: `problems`, what was `lost`, and how many steps ended in which way."""

    def __init__(self, vault, said):
        self.kinds, self.outcomes, self.problems = {}, {}, []
        for line in b''.join(said).decode().splitlines():
            step, kind, outcome, *what = line.split(' ', 3)
            self.kinds[step] = kind
            self.outcomes[step] = UNSURE if outcome == 'begun' else outcome
            if outcome == BROKE:
                self.problems.append(f'{kind} {step}: {" ".join(what)}')
        self.count = collections.Counter(self.outcomes.values())
        self.found = self.look(vault)
        self.lost = [step for step, outcome in self.outcomes.items() if outcome == DONE and not self.is_there(step)]
        self.compare()

    def look(self, v):
        """Return the steps that are found, by kind; one that is there by half is a problem."""
        found = collections.defaultdict(set)
        updates = collections.Counter()
        for key, value in v.items():
            if not isinstance(key, tuple):
                continue
            kind, step, *_ = key
            found[kind].add(step)
            updates[step] += kind == 'update'
            if kind == 'stream' and value != b'x' * STREAM:
                self.problems.append(f'{step} wrote a stream that is not whole')
        self.problems += [f'{step} was done by half: {parts} of 3' for step, parts in updates.items() if parts not in (0, 3)]
        appended = collections.Counter(v.get('list', ()))
        self.problems += [f'{step} was appended {times} times' for step, times in appended.items() if times > 1]
        found['append'] = set(appended)
        count, edited = v.get('count', 0), v.get('edited', {'all': 0})
        if count != len(found['block']):
            self.problems.append(f'blocks counted to {count}, and {len(found["block"])} were done')
        self.edited = {name: times for name, times in edited.items() if name != 'all'}
        if edited['all'] != sum(self.edited.values()):
            self.problems.append(f'edits counted to {edited["all"]}, and to {sum(self.edited.values())} by writers')
        self.problems += v.check()
        return found

    def is_there(self, step):
        """Tell whether a step has left what it must."""
        kind = self.kinds[step]
        return kind in OF_ALL or (step in self.found[kind]) != (kind == 'delete')

    def compare(self):
        for step, outcome in self.outcomes.items():
            if outcome == NOT and self.kinds[step] not in ('delete', *OF_ALL) and self.is_there(step):
                self.problems.append(f'{self.kinds[step]} {step} was said not to be done, and is there')
        known = {kind: {step for step, one in self.kinds.items() if one == kind} for kind in self.found}
        self.problems += [f'{kind} {step} is there, and nobody has begun it' for kind in self.found
                          for step in self.found[kind] - known[kind]]

    def all_problems(self):
        """Return each promise that broke, of a place that keeps what it has acknowledged."""
        return [*self.problems, *(f'{step} was done, and is lost' for step in self.lost), *self.edits_are_whole()]

    def edits_are_whole(self):
        """See that as many edits are there as were done, or may have been."""
        done, unsure = collections.Counter(), collections.Counter()
        for step, outcome in self.outcomes.items():
            writer = step.rpartition('.')[0]
            if self.kinds[step] == 'edit' and outcome in (DONE, UNSURE):
                (done if outcome == DONE else unsure)[writer] += 1
        return [f'{name} edited {self.edited.get(name, 0)} times, not {done[name]} to {done[name] + unsure[name]}'
                for name in {*done, *unsure, *self.edited}
                if not done[name] <= self.edited.get(name, 0) <= done[name] + unsure[name]]
