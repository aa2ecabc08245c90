"""Time vaults against a hand-written floor and against its peers; write docs/performance.md and its pictures.

    pip install -e '.[bench]'                        # the peers
    python benchmarks/run.py                         # a few minutes; prints the tables and writes both files
    python benchmarks/run.py --quick                 # under 20 seconds, writes nothing: for CI
    python benchmarks/run.py --only vaults --only diskcache --rounds 5 --no-write
    python benchmarks/run.py --scale --max 1000000   # how vaults grows, from 10 thousand entries to 10 million

Machines are noisy, so every contestant takes its turn at an operation, in random order, before the next operation
begins, and that is repeated, on fresh files, for a number of rounds. A time is the median of the rounds; a ratio is
the median of the ratios within each round. What was read is kept and compared, and what was written is read back,
outside the time taken: a wrong answer ends the run.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import random
import re
import sqlite3
import subprocess
import sys
import time
from collections import defaultdict
from html import escape
from importlib import import_module, metadata
from itertools import islice
from math import log10
from operator import itemgetter
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

import msgpack
from contestants import BLOCK, SPECS, Contestant, Floor, Spec, vault_page_size

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / 'docs'
FLOOR, OURS = 'floor', 'vaults'
FLOOR_APSW, OURS_APSW = 'floor, apsw', 'vaults, apsw'
WRITE_BACK, HOT_RIVALS, HOT_FACTOR = 'vaults, write-back', ('shelve (dbm.gnu)', 'lmdbm'), 3  # at least so much faster
SIZES = (10_000, 100_000, 1_000_000, 10_000_000)
GROWTH = 2.5  # v[k] at the largest size, at most this many times that at the smallest
GLANCE = 'v[k], hit', 'for k, x in v.items()', 'v[k] = x, overwrite'  # what the README shows
IMPORTS = {FLOOR: 'import sqlite3, msgpack', OURS: 'import vaults; vaults.Vault'}  # naming Vault, lest it comes lazily
IMPORT_CLOCK = 'import time; start = time.perf_counter(); {}; print(time.perf_counter() - start)'
SHORT = {'put': 5000, 'delete': 5000, 'block': 10 * BLOCK}  # beside no peers, so many at most in a measurement
CHANCE = random.Random(2026)

if TYPE_CHECKING:  # as Python 3.8 cannot subscript these
    from collections.abc import Callable, Iterator, Sequence

    Work = dict[Any, Any]  # from each key to what must come back for it
    Times = defaultdict[str, defaultdict[str, list[float]]]  # operation -> contestant -> seconds, by round
    Rows = list[Sequence[str]]


# What is done.

class Sample(NamedTuple):
    """The data of a run, the same for everyone."""

    entries: Work
    known: Work
    missing: Work
    changed: Work
    hot: Work
    block: Work
    new: Work


class Operation(NamedTuple):
    label: str
    limit: float | None  # at most, times the floor: what a dict with checksums may cost above a loop by hand
    method: str  # of Contestant
    work: Callable[[Sample], Work]
    right: Callable[[Contestant, Work, Any], bool]
    drawn: bool = True
    warm: bool = False  # the same keys are read first, outside the time taken


def entry_key(number: int) -> str:
    return f'user:{number:08d}'


def entry_value(number: int, active: bool = True) -> dict[str, Any]:
    return {'id': number, 'name': f'user {number:06d}', 'active': active, 'score': number * 1.5, 'city': 'Delft'}


def pairs(first: int, end: int) -> Iterator[tuple[str, Any]]:
    return ((entry_key(n), entry_value(n)) for n in range(first, end))


def pick(entries: int, count: int, active: bool = True) -> Work:
    return {entry_key(n): entry_value(n, active) for n in CHANCE.sample(range(entries), min(entries, count))}


def absent(entries: int, count: int) -> Work:
    return {key + '?': False for key in pick(entries, count)}


def make_sample(entries: int, count: int = 1000) -> Sample:
    known, changed, block = pick(entries, count), pick(entries, entries, active=False), pick(entries, entries)
    missing = dict.fromkeys(absent(entries, count))
    hot = pick(entries, count // 2)  # half of what the write-back mode keeps
    return Sample(dict(pairs(0, entries)), known, missing, changed, hot, block, dict(pairs(entries, 2 * entries)))


def was_read(contestant: Contestant, work: Work, got: Any) -> bool:
    return bool(got == list(work.values()))


def was_written(contestant: Contestant, work: Work, got: Any) -> bool:
    return contestant.hit(work) == list(work.values())


def was_deleted(contestant: Contestant, work: Work, got: Any) -> bool:
    return not any(contestant.has(work))


def were_items(contestant: Contestant, work: Work, got: Any) -> bool:
    return len(got) == len(work) and {text(key): value for key, value in got} == work


def were_keys(contestant: Contestant, work: Work, got: Any) -> bool:
    return sorted(map(text, got)) == sorted(work)


def text(key: Any) -> Any:
    return key.decode() if isinstance(key, bytes) else key


# In this order, which fills an empty dict, reads it, changes it, and deletes what was added.
OPERATIONS = (
    Operation('update(), all in one go', 1.05, 'update', lambda s: s.entries, was_written),
    Operation('v[k], hit', 1.20, 'hit', lambda s: s.known, was_read),
    Operation('v.get(k), hit', 1.20, 'get', lambda s: s.known, was_read, drawn=False),
    Operation('v.get(k), miss', 1.20, 'get', lambda s: s.missing, was_read),
    Operation('k in v', 1.20, 'has', lambda s: dict.fromkeys(s.known, True), was_read),
    Operation('v[k], hot', None, 'hit', lambda s: s.known, was_read, warm=True),
    Operation('for k, x in v.items()', 1.40, 'items', lambda s: s.entries, were_items),
    Operation('list(v.keys())', 1.60, 'keys', lambda s: s.entries, were_keys, drawn=False),
    Operation('len(v)', 1.20, 'length', lambda s: dict.fromkeys(range(100), len(s.entries)), was_read, drawn=False),
    Operation('v[k] = x, overwrite', 1.15, 'put', lambda s: s.changed, was_written),
    Operation('v[k] = x, hot', None, 'put', lambda s: s.hot, was_written, warm=True),
    Operation('v[k] = x, new key', 1.15, 'put', lambda s: s.new, was_written),
    Operation(f'with v: {BLOCK:,} writes', 1.25, 'block', lambda s: s.block, was_written),
    Operation('del v[k]', 1.60, 'delete', lambda s: s.new, was_deleted),
    Operation('update(), in any order', None, 'update', lambda s: s.changed, was_written),
)
IMPORT = 'import'
LIMITS = {**{row.label: row.limit for row in OPERATIONS}, IMPORT: 1.20}


# Timing.

def clock(operation: Operation, contestant: Contestant, work: Work) -> float:
    """Return the seconds per operation; end the run when the result is wrong."""
    run = getattr(contestant, operation.method)
    if operation.warm:
        contestant.hit(work)
    gc.disable()
    start = time.perf_counter()
    got = run(work)
    seconds = time.perf_counter() - start
    gc.enable()
    if not operation.right(contestant, work, got):
        raise SystemExit(f'{type(contestant).__name__} gave a wrong result for {operation.label}')
    return seconds / len(work)


def open_all(specs: Sequence[Spec], folder: Path) -> dict[Spec, Contestant]:
    opened = {}
    for spec in specs:
        (folder / spec.name).mkdir()
        opened[spec] = spec.kind(spec.module, folder / spec.name)
    return opened


def play_round(specs: Sequence[Spec], sample: Sample, times: Times) -> None:
    with TemporaryDirectory() as folder:
        contestants = open_all(specs, Path(folder))
        for operation in OPERATIONS:
            for spec in CHANCE.sample(specs, len(specs)):
                if operation.method == 'block' and not contestants[spec].has_transactions:
                    continue
                work = operation.work(sample)
                if operation.method in ('put', 'delete'):
                    work = dict(islice(work.items(), spec.commits))
                times[operation.label][spec.name].append(clock(operation, contestants[spec], work))
        for contestant in contestants.values():
            contestant.close()


def play(operations: Sequence[Operation], contestants: dict[str, Any], entries: int, times: Times,
         settle: Callable[[dict[str, Any]], object]) -> None:
    """Do a round: each operation by all of them, in random order, before the next one."""
    sample = make_sample(entries)
    for operation in operations:
        work = operation.work(sample)
        work = dict(islice(work.items(), SHORT.get(operation.method, entries)))
        for name in CHANCE.sample(sorted(contestants), len(contestants)):
            times[operation.label][name].append(clock(operation, contestants[name], work))
        if operation.method == 'update':
            settle(contestants)
    for contestant in contestants.values():
        contestant.close()


def play_rounds(operations: Sequence[Operation], opened: Callable[[Path], dict[str, Any]], entries: int, rounds: int,
                settle: Callable[[dict[str, Any]], object] = bool) -> Times:
    """Do all rounds, each with contestants that are `opened` in a new folder.

    `settle` is called once all is put: it does what would otherwise be done some time later, beside a measurement.
    """
    times: Times = defaultdict(lambda: defaultdict(list))
    for number in range(rounds):
        print(f'round {number + 1} of {rounds}', file=sys.stderr)
        with TemporaryDirectory() as folder:
            play(operations, opened(Path(folder)), entries, times, settle)
    return times


def time_imports(specs: Sequence[Spec], rounds: int, times: Times) -> None:
    names = [spec.name for spec in specs if spec.name in IMPORTS]
    with TemporaryDirectory() as folder:
        # Bytecode is cached, as it is for a user, whatever this environment says and may write.
        environ = {**os.environ, 'PYTHONDONTWRITEBYTECODE': '', 'PYTHONPYCACHEPREFIX': folder}
        for _ in range(rounds):
            for name in CHANCE.sample(names, len(names)):
                command = [sys.executable, '-c', IMPORT_CLOCK.format(IMPORTS[name])]
                done = subprocess.run(command, cwd=str(ROOT), env=environ, check=True, stdout=subprocess.PIPE)
                times[IMPORT][name].append(float(done.stdout))


def run_rounds(specs: Sequence[Spec], sample: Sample, rounds: int) -> Times:
    times: Times = defaultdict(lambda: defaultdict(list))
    for number in range(rounds):
        print(f'round {number + 1} of {rounds}', file=sys.stderr)
        play_round(specs, sample, times)
    time_imports(specs, max(rounds, 15), times)
    return times


# Tables.

RATIOS = """A ratio is the median of the ratios within each round.
At most: the limit that this project sets itself."""
PROMISES = """Durable on return: a value is there when the process is killed right after the write.
Several processes: they may write at once, and nothing is lost."""


def micro(seconds: float | None) -> str:
    if seconds is None:
        return '-'
    us = seconds * 1e6
    return f'{us:#.3g}' if us < 99.95 else f'{us:,.0f}'


def middle(times: Times, label: str, name: str) -> float | None:
    seconds = times[label].get(name)
    return median(seconds) if seconds else None


def table(rows: Rows, align: Callable[[str, int], str] = str.rjust) -> str:
    """Return a Markdown table that also reads well as it is: the first row is its head."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    rule = ['-' * (width - 1) + (':' if align is str.rjust else '-') for width in widths[1:]]
    lines = [(row[0].ljust(widths[0]), *map(align, row[1:], widths[1:])) for row in rows]
    lines.insert(1, ('-' * widths[0], *rule))
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def compare(times: Times) -> Rows:
    apsw = OURS_APSW in times[OPERATIONS[0].label]
    rows: Rows = [('operation', FLOOR, OURS, 'ratio', 'at most', 'verdict',
                   *((FLOOR_APSW, OURS_APSW, 'ratio') if apsw else ()))]
    for label, limit in LIMITS.items():
        ratio = over(times, label, OURS, FLOOR)
        rows.append((label, micro(middle(times, label, FLOOR)), micro(middle(times, label, OURS)), factor(ratio),
                     factor(limit, ''), verdict(ratio, limit),
                     *((micro(middle(times, label, FLOOR_APSW)), micro(middle(times, label, OURS_APSW)),
                        factor(over(times, label, OURS_APSW, FLOOR_APSW))) if apsw else ())))
    return rows


def compare_two(operations: Sequence[Operation], times: Times, other: str, ours: str) -> str:
    """Return the table of two contestants alone, with the smallest times as well."""
    rows: Rows = [('operation', other, 'minimum', ours, 'minimum', 'ratio', 'at most', 'verdict')]
    for label, limit in ((operation.label, operation.limit) for operation in operations):
        ratio = over(times, label, ours, other)
        rows.append((label, *(micro(of(times[label][who])) for who in (other, ours) for of in (median, min)),
                     factor(ratio), factor(limit, ''), verdict(ratio, limit)))
    return table(rows)


def verdict(ratio: float | None, limit: float | None) -> str:
    return '' if ratio is None or limit is None else 'ok' if ratio <= limit else 'over'


def over(times: Times, label: str, one: str, other: str) -> float | None:
    """Return how many times the other's one's time is, in the middle of the rounds."""
    pairs_of = list(zip(times[label].get(one, ()), times[label].get(other, ())))
    return median(a / b for a, b in pairs_of) if pairs_of else None


def factor(ratio: float | None, none: str = '-') -> str:
    return f'{ratio:.2f}' if ratio else none


def compare_peers(times: Times, specs: Sequence[Spec]) -> Rows:
    rows: Rows = [('operation', *(spec.name for spec in specs))]
    for operation in OPERATIONS:
        rows.append((operation.label, *(micro(middle(times, operation.label, spec.name)) for spec in specs)))
    return rows


def facts(specs: Sequence[Spec]) -> Rows:
    rows: Rows = [('contestant', 'version', 'durable on return', 'several processes', 'as used here')]
    for spec in specs:
        rows.append((spec.name, version(spec.module), 'yes' if spec.durable else 'no',
                     'yes' if spec.shared else 'no', spec.how))
    return rows


def version(module: str) -> str:
    try:
        return getattr(import_module(module), '__version__', None) or metadata.version(module)
    except metadata.PackageNotFoundError:
        return ''  # it is part of Python


def beaten(times: Times, specs: Sequence[Spec]) -> str:
    """Say on which rows a peer that makes both promises was faster than vaults, with each driver."""
    rivals = [spec.name for spec in specs
              if spec.durable and spec.shared and spec.name.split(',')[0] not in (FLOOR, OURS)]
    said = []
    for who in (spec.name for spec in specs if spec.name in (OURS, OURS_APSW)):
        behind = []
        for label in (row.label for row in OPERATIONS):
            ours = middle(times, label, who) or 0.0
            behind += [f'{name} at {label}' for name in rivals if (middle(times, label, name) or ours) < ours]
        said.append(f'Faster than {who}, of the peers that make both promises: '
                    f'{"; ".join(behind) or "none, on any row"}.')
    return '\n'.join(said)


def hot(times: Times) -> str:
    """Say how much faster a hot read and write are in write-back mode than with the rivals, in each round."""
    found = []
    for label in (row.label for row in OPERATIONS if row.warm):
        for rival in HOT_RIVALS:
            pairs_of = list(zip(times[label][rival], times[label][WRITE_BACK]))
            if pairs_of:
                factor = median(theirs / ours for theirs, ours in pairs_of)
                found.append(f'{label}: {factor:.1f} times faster than {rival}, '
                             f'{"ok" if factor >= HOT_FACTOR else "short"}')
    return f'Write-back, at least {HOT_FACTOR} times: {"; ".join(found) or "no rival is installed"}.'


def machine() -> str:
    info = Path('/proc/cpuinfo')
    found = re.search(r'model name\s*: (.*)', info.read_text()) if info.exists() else None
    cpu = found.group(1) if found else platform.processor() or platform.machine()
    return (f'{cpu}, {platform.system()}, {platform.python_implementation()} {platform.python_version()}, '
            f'SQLite {sqlite3.sqlite_version}, msgpack {".".join(map(str, msgpack.version))}, '
            f'page size {Floor.page_size} bytes, on {time.strftime("%Y-%m-%d")}.')


def report(times: Times, specs: Sequence[Spec], entries: int, rounds: int) -> str:
    ours = [spec for spec in specs if spec.name == OURS]
    peers = [spec for spec in specs if spec.name not in (FLOOR, FLOOR_APSW, OURS)]
    parts = [f'{machine()} {entries:,} entries, medians of {rounds} rounds, in microseconds per operation. {RATIOS}',
             table(compare(times))]
    if peers:
        parts += ['The peers, as fast as their own documentation shows, in microseconds per operation:',
                  table(compare_peers(times, ours + peers)), beaten(times, specs), hot(times)]
    return '\n\n'.join([*parts, PROMISES, table(facts(specs), str.ljust)])


# The chart.

TITLE = 'Microseconds per operation, on a logarithmic scale: shorter is faster'
LEGEND = 'floor: SQLite and msgpack by hand; pale: not durable when killed, or not safe with several processes'
BAR, LABEL, PANEL, COLUMNS = 17, 128, 320, 3  # pixels, but for the last
INK, FAINT = '#24292f', '#57606a'
STYLE = f'text{{font:11px system-ui,sans-serif;fill:{INK}}}.head{{font-weight:600}}.faint{{fill:{FAINT}}}'


def colour(spec: Spec) -> str:
    promises = spec.durable and spec.shared
    if 'floor' in spec.name:
        return '#0969da'
    return '#cf222e' if 'vaults' in spec.name else '#8c959f' if promises else '#d8dee4'


def bars(label: str, specs: Sequence[Spec], times: Times, low: float, pixels: float) -> Iterator[str]:
    """Yield one panel: a bar for each contestant, the fastest on top, its length the logarithm of its time."""
    found = [(seconds, spec) for spec in specs for seconds in [middle(times, label, spec.name)]
             if seconds and ('hot' in label or not ('write-back' in spec.name or 'cache' in spec.name))]
    yield f'<text class="head" x="{LABEL}" y="12">{escape(label)}</text>'
    for row, (seconds, spec) in enumerate(sorted(found, key=itemgetter(0))):
        y, width = 20 + row * BAR, max(2.0, log10(seconds / low) * pixels)
        bold = ' class="head"' if 'floor' in spec.name or 'vaults' in spec.name else ''
        yield f'<text x="{LABEL - 6}" y="{y + 11}" text-anchor="end"{bold}>{escape(spec.name)}</text>'
        yield f'<rect x="{LABEL}" y="{y}" width="{width:.1f}" height="{BAR - 3}" rx="2" fill="{colour(spec)}"/>'
        yield f'<text x="{LABEL + width + 4:.1f}" y="{y + 11}"{bold}>{micro(seconds)}</text>'


def chart(times: Times, specs: Sequence[Spec], labels: Sequence[str]) -> str:
    """Return an SVG of small panels on one logarithmic scale. Its own light ground makes it readable on a dark page."""
    spread = [seconds for label in labels for spec in specs for seconds in [middle(times, label, spec.name)] if seconds]
    low = min(spread) / 2
    pixels = (PANEL - LABEL - 48) / log10(max(spread) / low)
    high, width = len(specs) * BAR + 36, COLUMNS * PANEL + 16
    height = 56 + -(-len(labels) // COLUMNS) * high
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">',
             f'<title>{TITLE}</title><style>{STYLE}</style>',
             f'<rect width="{width}" height="{height}" rx="8" fill="#ffffff"/>',
             f'<text x="16" y="24" style="font:600 15px system-ui,sans-serif">{TITLE}</text>',
             f'<text class="faint" x="16" y="41">{LEGEND}</text>']
    for number, label in enumerate(labels):
        x, y = number % COLUMNS * PANEL, 56 + number // COLUMNS * high
        lines += [f'<g transform="translate({x} {y})">', *bars(label, specs, times, low, pixels), '</g>']
    return '\n'.join([*lines, '</svg>', ''])


# Scale: one process for each contestant and size, as a peak of memory is a whole process's.

def megabytes() -> float:
    """Return the most memory that this process has had."""
    import resource  # not on Windows, where the rest of this file runs

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == 'darwin' else 1e3)


def seconds_for(run: Callable[[], Any], times: int = 1) -> float:
    start = time.perf_counter()
    run()
    return (time.perf_counter() - start) / times


def walk_all(contestant: Any, entries: int) -> None:
    total = sum(value['id'] for _, value in contestant.walk())
    if total != entries * (entries - 1) // 2:
        raise SystemExit('items() did not give every entry once')


def measure_growth(name: str, size: str) -> dict[str, float]:
    with TemporaryDirectory() as folder:
        spec, entries = next(spec for spec in SPECS if spec.name == name), int(size)
        figures = measure_one(spec.kind(spec.module, Path(folder)), entries)
        on_disk = sum(path.stat().st_size for path in Path(folder).iterdir())
    return {**figures, 'disk': on_disk / 1e6, 'memory': megabytes()}


def measure_one(contestant: Any, entries: int) -> dict[str, float]:
    """Return the seconds per operation of one contestant at one size; by entry, where it goes through all of them."""
    hit, has, put = (row for row in OPERATIONS if row.label in ('v[k], hit', 'k in v', 'v[k] = x, overwrite'))
    found = {
        'build': seconds_for(lambda: contestant.build(pairs(0, entries)), entries),
        'v[k]': median(clock(hit, contestant, pick(entries, 1000)) for _ in range(50)),
        'k in v, miss': median(clock(has, contestant, absent(entries, 1000)) for _ in range(50)),
        # Other values than there were, as SQLite writes no page for the same bytes; many, for the checkpoints.
        'v[k] = x': clock(put, contestant, pick(entries, 10_000, active=False)),
        'items()': seconds_for(lambda: walk_all(contestant, entries), entries),
        'len(v)': seconds_for(lambda: contestant.length(range(3)), 3),
    }
    contestant.close()
    return found


def measure_in_process(name: str, entries: int) -> dict[str, float]:
    command = [sys.executable, __file__, '--measure', name, str(entries)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    figures: dict[str, float] = json.loads(done.stdout)
    print(f'{name}, {entries:,} entries: {figures}', file=sys.stderr)
    return figures


def grow(specs: Sequence[Spec], largest: int) -> str:
    rows: Rows = []
    hits: dict[int, float] = {}
    for entries in [size for size in SIZES if size <= largest] or [largest]:
        for spec in specs:
            figures = measure_in_process(spec.name, entries)
            disk, memory = figures.pop('disk'), figures.pop('memory')
            rows.append((f'{entries:,}', spec.name, *map(micro, figures.values()), f'{disk:,.1f}', f'{memory:,.1f}'))
            hits[entries] = figures['v[k]']  # the last is ours
    ratio = hits[max(hits)] / hits[min(hits)]
    head = ('entries', '', *figures, 'MB on disk', 'peak MB in memory')
    return (f'{machine()} Microseconds per operation, on random keys; per entry for build and items().\n\n'
            f'{table([head, *rows])}\n\n`v[k]` at {max(hits):,} entries takes {ratio:.2f} times that at {min(hits):,}: '
            f'{"ok" if ratio <= GROWTH else "over"}, at most {GROWTH}.')


# What is kept, and the command line.

def save(section: str, body: str, name: str = 'performance.md') -> None:
    """Put `body` in its own section of a page of docs/, between markers, and leave the rest as it is."""
    DOCS.mkdir(exist_ok=True)
    path = DOCS / name
    begin, end = f'<!-- begin {section} -->', f'<!-- end {section} -->'
    page = path.read_text(encoding='utf-8') if path.exists() else '# Performance\n'
    if begin not in page:
        page += f'\n{begin}\n{end}\n'
    before, after = page.split(begin)[0], page.split(end)[1]
    path.write_text(f'{before}{begin}\n{body}\n{end}{after}', encoding='utf-8')


def importable(spec: Spec) -> bool:
    try:
        import_module(spec.module)
    except ImportError:
        return False
    return True


def choose(only: Sequence[str]) -> list[Spec]:
    """Return the contestants that are installed, always with the floor, and say plainly which are not."""
    wanted = [spec for spec in SPECS if not only or spec.name in (FLOOR, *only)
              or (spec.name == FLOOR_APSW and OURS_APSW in only)]
    missing = [spec.module for spec in wanted if not importable(spec)]
    if missing:
        print(f"Missing: {', '.join(missing)}. From PyPI: pip install -e '.[bench]'. Each dbm is a part of Python, "
              'where it was built with it (Debian: python3-gdbm); dbm.sqlite3 from 3.13 on.', file=sys.stderr)
    return [spec for spec in wanted if spec.module not in missing]


def command_line(doc: str | None, entries: int, rounds: int, quick: tuple[int, int],
                 **more: dict[str, Any]) -> argparse.Namespace:
    """Return the options of a benchmark: those that all have, and `more`; with --quick, so many entries and rounds."""
    parser = argparse.ArgumentParser(description=(doc or '').split('\n')[0])
    parser.add_argument('--entries', type=int, default=entries)
    parser.add_argument('--rounds', type=int, default=rounds)
    parser.add_argument('--quick', action='store_true', help=f'{quick[0]:,} entries, {quick[1]} rounds, write nothing')
    parser.add_argument('--no-write', action='store_true', help='only print')
    for name, details in more.items():
        parser.add_argument(f'--{name}', **details)
    options = parser.parse_args()
    if options.quick:
        options.entries, options.rounds = quick
    return options


def main() -> None:
    sys.path.insert(0, str(ROOT))  # this checkout, not a vaults that is installed
    options = command_line(
        __doc__, 10_000, 15, (1_000, 3),
        only={'action': 'append', 'default': [], 'choices': [spec.name for spec in SPECS], 'metavar': 'NAME'},
        scale={'action': 'store_true', 'help': 'how vaults grows with the number of entries'},
        max={'type': int, 'default': SIZES[-1], 'help': 'the most entries of --scale'},
        measure={'nargs': 2, 'help': argparse.SUPPRESS})  # --scale starts itself so
    specs = choose([OURS] if options.scale or options.measure else options.only)
    if OURS in (spec.name for spec in specs):
        Floor.page_size = vault_page_size()
    if options.measure:
        print(json.dumps(measure_growth(*options.measure)))
    elif options.scale:
        finish('scale', grow(specs, options.max), options)
    else:
        compare_all(specs, options)


def compare_all(specs: Sequence[Spec], options: argparse.Namespace) -> None:
    times = run_rounds(specs, make_sample(options.entries), options.rounds)
    finish('operations', report(times, specs, options.entries, options.rounds), options)
    if not (options.quick or options.no_write):
        for name, labels in (('performance', [row.label for row in OPERATIONS if row.drawn]), ('speed', GLANCE)):
            (DOCS / f'{name}.svg').write_text(chart(times, specs, labels), encoding='utf-8')


def finish(section: str, body: str, options: argparse.Namespace, name: str = 'performance.md') -> None:
    print(body)
    if not (options.quick or options.no_write):
        save(section, body, name)


if __name__ == '__main__':
    main()
