"""Holds openapi.json against a running server, by schemathesis: what it says is so, and what it does not say does not happen.

schemathesis makes requests that fit the description and requests that do not, each twice as strange as a person would, and compares what is
answered. That it can be believed is tried in the same run: a lie is put into the description, and has to be found.
"""
from __future__ import annotations

import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent)]
from spec.servers import MissingServerError  # noqa: E402
from spec.serving import Serving  # noqa: E402
from trials.shared.verdict import Trial  # noqa: E402

TOKEN = 'the-token-of-the-trial'


def without(document, *path):
    del _at(document, path[:-1])[path[-1]]


def changed(value):
    def change(document, *path):
        _at(document, path[:-1])[path[-1]] = value
    return change


def _at(document, path):
    for part in path:
        document = document[part]
    return document


ENTRY = ('paths', '/v1/vaults/{name}/entry')
ENTRIES = ('paths', '/v1/vaults/{name}/entries', 'get')
# What is said wrongly, and where; each is a lie of another kind.
LIES = {
    'a status that is not described': (without, *ENTRY, 'get', 'responses', '404'),
    'an answer of another shape': (changed({'type': 'integer'}), *ENTRIES, 'responses', '200', 'content', 'application/json', 'schema'),
    'a type that is not sent': (changed({'text/html': {}}), 'paths', '/v1/vaults', 'get', 'responses', '200', 'content'),
    'a limit that does not hold': (changed(5000), *ENTRIES, 'parameters', 3, 'schema', 'maximum'),
    'a parameter that is refused': (changed('string'), *ENTRIES, 'parameters', 3, 'schema', 'type'),
    'a token that is not needed': (changed([{'token': []}]), 'paths', '/healthz', 'get', 'security'),
    'a header that is not there': (changed({'X-Nothing': {'required': True, 'schema': {'type': 'string'}}}), 'paths', '/v1/vaults', 'get', 'responses', '200', 'headers'),
}


def run(server, document, seed, examples, *words):
    """Return the exit status of schemathesis, and what it says."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, 'openapi.json')
        path.write_text(json.dumps(document))
        pathlib.Path(folder, 'schemathesis.toml').write_text(
            '[checks.positive_data_acceptance]\nexpected-statuses = ["2xx", "304", "404", "406", "409", "412", "416", "422"]\n')
        command = [sys.executable, '-m', 'schemathesis.cli', 'run', str(path), '--url', server.url, '-H', f'Authorization: Bearer {TOKEN}',
                   '--seed', str(seed), '--max-examples', str(examples), '--generation-database', 'none', '--no-color', *words]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL,
                              env={**os.environ, 'SCHEMATHESIS_HOOKS': 'trials.shared.described', 'PYTHONPATH': str(HERE.parent)})
        return done.returncode, done.stdout + done.stderr


def main():
    trial = Trial(__doc__, rounds=10)
    options = trial.begin()
    if not importlib.util.find_spec('schemathesis'):
        trial.end('left out: schemathesis is not installed')
        return
    try:
        server = Serving(tokens={TOKEN: {'*': 'rw'}})
    except MissingServerError as missing:
        trial.end(f'left out: {missing}')
        return
    with server:
        server.ask('PUT', '/v1/vaults/books', Authorization=f'Bearer {TOKEN}')
        document = server.ask('GET', '/openapi.json').json()
        status, said = run(server, document, options.seed, options.rounds)
        if status:
            trial.broke(said)
        found = 0
        for what, (change, *path) in LIES.items():
            lying = json.loads(json.dumps(document))
            change(lying, *path)
            lying['paths'] = {path[1]: lying['paths'][path[1]]}
            status, said = run(server, lying, options.seed, options.rounds, '--max-failures', '1', '--no-shrink', '--phases', 'coverage')
            found += status == 1
            if status != 1:
                trial.broke(f'{what} was not found, with status {status}: {said[-2000:]}')
    trial.end(f'{len(document["paths"])} paths described as they are; {found} of {len(LIES)} lies found')


if __name__ == '__main__':
    main()
