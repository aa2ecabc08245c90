"""Kill a writer with SIGKILL at random moments and look whether the vault kept its promises.

    python trials/kill.py [--rounds N] [--seed S]

A writer process makes random writes and acknowledges each, once its call has returned, over a pipe. It is killed. Then
the vault must open, pass its `_check()`, and hold what a dict holds after the acknowledged writes, in the same order,
or after one write more: the one that was under way, whole. The next writer goes on with the same file, so that all of
them together see many checkpoints, and half of them share it with a process that opens and closes it. Prints a line of
figures; exits with 1 when a promise broke.
"""
import argparse
import contextlib
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import time

from vaults import Vault

OPERATIONS = ('put', 'put', 'put', 'block', 'block', 'failing_block', 'put_many', 'update', 'del', 'pop', 'popitem',
              'compact')


def random_key(rng):
    number = rng.randrange(3_000)
    return (f'key {number}', number, ('key', number))[number % 3]


def random_value(rng):
    size = rng.choice((3_000, 30_000)) if rng.random() < 0.15 else 60
    return {'n': rng.random(), 'text': 'x' * rng.randrange(size), 'pair': (1, 2)}


def step(rng, target):
    """Do the next random operation to a vault, or to the dict that is its model."""
    is_vault = isinstance(target, Vault)
    operation = rng.choice(OPERATIONS)
    if operation == 'put':
        target[random_key(rng)] = random_value(rng)
    elif operation in ('put_many', 'update'):
        pairs = [(random_key(rng), random_value(rng)) for _ in range(rng.choice((0, 10, 20, 300)))]
        getattr(target, operation, target.update)(pairs)
    elif operation == 'pop':
        target.pop(random_key(rng), None)
    elif operation == 'del' and target:
        del target[next(iter(target))]
    elif operation == 'popitem' and target:
        target.popitem()
    elif operation == 'compact' and rng.random() < 0.1:  # the file shrinks, to grow again
        target.clear()
        if is_vault:
            target.compact()
    elif operation.endswith('block'):
        into = {} if operation == 'failing_block' and not is_vault else target
        with contextlib.suppress(ZeroDivisionError), target if is_vault else contextlib.nullcontext():
            for _ in range(rng.randrange(1, 20)):
                into[random_key(rng)] = random_value(rng)
                into.pop(random_key(rng), None)
            if operation == 'failing_block':
                raise ZeroDivisionError


def write(path, seed):
    """Be the writer: a byte is the acknowledgement of a step."""
    rng, vault = random.Random(seed), Vault(path)
    while True:
        step(rng, vault)
        os.write(1, b'.')


def kill_one(path, model, seed):
    """Let a writer go on from `model` and kill it; return how many steps it acknowledged and how many are there."""
    rng = random.Random(f'kill {seed}')
    command = [sys.executable, __file__, '--write', str(path), '--seed', seed]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        try:
            head = b'' if rng.random() < 0.1 else writer.stdout.read(1)  # one in ten dies while it opens the vault
            end, with_reader = time.monotonic() + rng.uniform(0, 0.25), head and rng.random() < 0.5
            while time.monotonic() < end:
                if with_reader:
                    with contextlib.closing(Vault(path)) as reader:
                        len(reader)
                time.sleep(0.001)
            assert writer.poll() is None, 'the writer failed by itself'
        finally:
            writer.kill()
        acknowledged = len(head + writer.stdout.read())
    with contextlib.closing(Vault(path)) as vault:
        vault._check()
        found = list(vault.items())
    rng = random.Random(seed)
    for _ in range(acknowledged):
        step(rng, model)
    if found == list(model.items()):
        return acknowledged, acknowledged
    step(rng, model)
    assert found == list(model.items()), f'the vault is not as it was after {acknowledged} or one more steps'
    return acknowledged, acknowledged + 1


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--rounds', type=int, default=30)
    parser.add_argument('--seed', default='1')
    parser.add_argument('--write', type=pathlib.Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write:
        write(options.write, options.seed)
    began, total, unacknowledged, model = time.monotonic(), 0, 0, {}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(options.rounds):
            try:
                acknowledged, there = kill_one(pathlib.Path(folder, 'killed.db'), model, f'{options.seed}.{number}')
            except Exception as error:
                sys.exit(f'round {number} of seed {options.seed} broke a promise: {error!r}')
            total, unacknowledged = total + acknowledged, unacknowledged + there - acknowledged
    print(f'{options.rounds} writers killed, {total} writes acknowledged and none lost, {unacknowledged} more whole; '
          f'{len(model)} entries at the end; {time.monotonic() - began:.1f} s')


if __name__ == '__main__':
    main()
