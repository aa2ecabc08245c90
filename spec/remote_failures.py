"""Vaults on a server, when something comes in between: Ctrl-C at any line, forks in blocks, a client that is gone."""
from __future__ import annotations

import contextlib
import gc
import itertools
import os

import pytest

from vaults import Vault

from .helpers import in_child, interrupted, needs_fork
from .serving import Serving

IDLE_SHORTLY = .1   # seconds after which the server undoes a block that nobody asks anything in


@pytest.fixture(scope='class')
def hasty(serving):
    """A server that waits for a block that is idle for no longer than a tenth of a second."""
    with Serving(constants={'leases.IDLE_BLOCK': IDLE_SHORTLY}) as own:
        yield own


class TestInterruptsOverHttp:
    """Whatever Ctrl-C meets: all or nothing is done, no block is left open, and the next call gets no answer but its own."""

    @pytest.mark.parametrize('act', ['put', 'get', 'delete', 'default', 'update', 'block', 'reading block', 'nested', 'undone', 'walk'])
    def test_an_interrupt_at_any_line_leaves_it_as_it_was_and_open_to_all(self, hasty, act):
        url = hasty.url_of(hasty.name())
        v, other = Vault(url), Vault(url)

        def block(inside=lambda: None):
            with v:
                v['a'] = 1
                inside()
                v['b'] = 1

        def nested():
            with v:
                v['b'] = 1

        def undone():
            with contextlib.suppress(ZeroDivisionError), v:
                v['a'] = 1
                with contextlib.suppress(ZeroDivisionError), v:
                    v['b'] = v['x']
                    1 / 0
                1 / 0
        acts = {'put': lambda: v.put('a', 1), 'get': lambda: v['x'], 'delete': lambda: v.pop('x'), 'default': lambda: v.setdefault('a', 1),
                'walk': lambda: list(v.items()),
                'update': lambda: v.update(a=1, b=1), 'block': block, 'reading block': lambda: block(lambda: v['x']),
                'nested': lambda: block(nested), 'undone': undone}
        done = {'put': {'x': 0, 'a': 1}, 'default': {'x': 0, 'a': 1}, 'delete': {}, 'get': {'x': 0}, 'walk': {'x': 0}, 'undone': {'x': 0}}.get(act, {'x': 0, 'a': 1, 'b': 1})
        where = []
        for at in itertools.count(1 + len(act) % 3, 3):  # what the acts have in common they meet at different lines
            other.clear()
            other['x'] = 0
            gc.disable()
            goes_on = interrupted(acts[act], at, where)
            gc.enable()
            other['free'] = at  # which waits for a commit that the server had begun
            found = dict(v.items())
            del found['free']
            assert found in ({'x': 0}, done), (at, where, found)
            if not goes_on:
                break
        assert at > 20 and found == done
        v.close()
        other.close()


class TestForksOverHttp:
    @needs_fork
    def test_a_child_has_connections_of_its_own_and_no_block_of_its_parent(self, serving):
        url = serving.url_of(serving.name())
        with contextlib.closing(Vault(url)) as v:
            v['n'] = 0
            with v:
                v['n'] = v['n'] + 1
                child = in_child(lambda: [v.get('n'), v.get('of the child')])
                v['of the parent'] = 1
                assert child.answer() == [0, None]
            children = [in_child(lambda: [v.put((os.getpid(), number), v['n']) for number in range(20)]) for _ in range(3)]
            assert [v['n'] for _ in range(40)] == [1] * 40
            assert [child.answer() for child in children] == [[None] * 20] * 3
            assert len(v) == 62 and set(v.values()) == {1}
