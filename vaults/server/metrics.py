"""Metrics: what was asked, how it went and how long it took, as Prometheus reads it. Knows no vault by name."""
from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from typing import TYPE_CHECKING, Iterator, List, Tuple

if TYPE_CHECKING:
    from typing import Dict

    from .served import ServedRoot

METRICS_TYPE = 'text/plain; version=0.0.4'
LATENCIES = (.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1.0, 2.5, 5.0, 10.0)     # seconds, bounds of the histogram
METHODS = ('GET', 'HEAD', 'PUT', 'POST', 'DELETE')     # others are one: a client makes no new series


class Metrics:
    """The counts since the server began. For one event loop."""

    def __init__(self) -> None:
        self.running = 0
        self._requests: Counter[Tuple[str, str, int]] = Counter()
        self._latencies: Dict[str, Tuple[List[int], List[float]]] = {}   # of each route: counts, and the sum
        self._received = self._sent = 0

    def count(self, route: str, method: str, status: int, seconds: float, received: int, sent: int) -> None:
        """Count a request that is over."""
        route, method = route or 'none', method if method in METHODS else 'other'
        self._requests[route, method, status] += 1
        counts, total = self._latencies.setdefault(route, ([0] * (len(LATENCIES) + 1), [0.0]))
        counts[bisect_left(LATENCIES, seconds)] += 1
        total[0] += seconds
        self._received += received
        self._sent += sent

    def text(self, root: ServedRoot) -> str:
        """Return all of it as Prometheus reads it."""
        return '\n'.join(self._lines(root)) + '\n'

    def _lines(self, root: ServedRoot) -> Iterator[str]:
        yield from _heading('vaults_requests_total', 'counter', 'Requests, by route, method and status.')
        for (route, method, status), number in sorted(self._requests.items()):
            yield f'vaults_requests_total{{route="{route}",method="{method}",status="{status}"}} {number}'
        yield from _heading('vaults_request_seconds', 'histogram', 'How long requests took.')
        for route, (counts, total) in sorted(self._latencies.items()):
            done = 0
            for bound, number in zip([*map(str, LATENCIES), '+Inf'], counts):
                done += number
                yield f'vaults_request_seconds_bucket{{route="{route}",le="{bound}"}} {done}'
            yield f'vaults_request_seconds_sum{{route="{route}"}} {total[0]:.6f}'
            yield f'vaults_request_seconds_count{{route="{route}"}} {done}'
        served = root.open_ones()
        for name, kind, words, value in (
                ('vaults_requests_running', 'gauge', 'Requests that are being answered.', self.running),
                ('vaults_open_vaults', 'gauge', 'Vaults that are open.', len(served)),
                ('vaults_open_leases', 'gauge', 'Blocks that clients have open.',
                 sum(len(one.leases) for one in served)),
                ('vaults_received_bytes_total', 'counter', 'Bytes of bodies that came in.', self._received),
                ('vaults_sent_bytes_total', 'counter', 'Bytes of bodies that went out.', self._sent)):
            yield from _heading(name, kind, words)
            yield f'{name} {value}'


def _heading(name: str, kind: str, words: str) -> Tuple[str, str]:
    return f'# HELP {name} {words}', f'# TYPE {name} {kind}'
