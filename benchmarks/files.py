"""A vault in one file beside json alone: loading it, and writing it, by how many entries there are.

    python benchmarks/files.py --entries 10000 100000 --rounds 5

CPU seconds, the minimum of the rounds, in which all take turns. json makes and reads a dict that is there; a vault
makes sure besides that what it writes is what it will read, and that nobody else has written the file.
"""
from __future__ import annotations

import argparse
import json
import pathlib
import tempfile
import time

import vaults


def entries(count):
    return {f'user:{number}': {'name': f'Name {number}', 'age': number % 90, 'tags': ['a', 'b'], 'score': number / 7}
            for number in range(count)}


def timed(act):
    began = time.process_time()
    act()
    return time.process_time() - began


def a_round(folder, plain):
    """Yield what each takes."""
    path = folder / 'plain.json'
    yield 'json.dump', timed(lambda: path.write_text(json.dumps(plain), encoding='utf-8'))
    yield 'json.load', timed(lambda: json.loads(path.read_text(encoding='utf-8')))
    for kind in ('json', 'msgpack'):
        url = f'{kind}+{(folder / "vault").as_uri()}.{kind}'
        v = vaults.Vault(url, flag='n')
        v.update(plain)
        yield f'{kind}: sync', timed(v.sync)
        v.close()
        yield f'{kind}: load', timed(lambda url=url: vaults.Vault(url).close())


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--entries', type=int, nargs='+', default=[10_000, 100_000])
    parser.add_argument('--rounds', type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        for count in args.entries:
            plain, taken = entries(count), {}
            for _ in range(args.rounds):
                for what, seconds in a_round(folder, plain):
                    taken.setdefault(what, []).append(seconds)
            sizes = [f'{path.name} {path.stat().st_size / 1e6:.1f} MB' for path in sorted(folder.iterdir())]
            print(f'{count:,} entries: {", ".join(sizes)}')
            for what, seconds in taken.items():
                print(f'  {what:<14} {min(seconds):8.4f} s')


if __name__ == '__main__':
    main()
