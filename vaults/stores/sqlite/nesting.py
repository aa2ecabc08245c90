"""What is open in a connection: blocks one within the other, and who began each. Knows neither the store nor errors.

The trap: the block that ends need not be the innermost one. Two generators of one thread can each hold a block open
over a `yield`, and whoever goes on first ends the older one, around the other. To commit it would keep half of what the
other block has put, and to end the innermost in its place would end the wrong one. So each block is known by who began
it: an object, or the frame with the `with`. When an older one ends, the younger ones end with it and are noted as
undone; and until the functions that hold those have noticed, the connection writes nothing, because what they put would
be kept alone, without the rest of their block.
"""
from __future__ import annotations

import gc
import sys
from _thread import get_ident

from ..blocks import FRAME_TYPE, MAX_NESTED, Epochs
from .schema import WRITING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, List, Optional, Union

    from ...errors import VaultError
    from ..tasks import Owner
    from .batch import Batch, Waiting
    from .driver import RawConnection
    from .snapshot import Snapshot

# What holds the frame of a function that will go on. One that was closed names none, and may still refer to it.
SUSPENDED = {'generator': 'gi_frame', 'coroutine': 'cr_frame', 'async_generator': 'ag_frame'}


class Nesting:
    """The transactions of a connection, which is one rather than has one.

    A reference to it would be a step more in every block, and one from it back a circle, which keeps a connection open
    when its thread ends. What each call reads and writes, statements and bytes, is the connection's own. To be used by
    one thread at a time, as the connection is.
    """

    raw: Union[RawConnection, Snapshot]
    execute: Callable[..., Any]

    def __init__(self) -> None:
        self.depth = 0       # how many are open; raised before one begins, lowered after it has ended
        self.blocks: List[Any] = [None] * (MAX_NESTED + 2)  # who began each, by the number of those around it
        self.undone: List[Any] = []              # the frames of those that an older one took along, and that go on
        self.epochs = Epochs()                   # a walk that began in what was rolled back cannot go on
        self.lost: Optional[VaultError] = None   # why SQLite rolled all of it back by itself: the block is to be left
        self.owner: Optional[Owner] = None       # the task whose they are
        self.thread = 0      # the one whose they are
        self.changes = 0     # of the connection when the outermost began
        self.begun = 0       # bytes written then
        self.batch: Union[Batch, Waiting, None] = None  # what waits to be written
        self.puts = 0        # one by one in blocks, since one was kept back: see batch.py
        self.changing = 0    # above 0 while that is about to be another: a signal handler keeps nothing back then

    def place(self, who: Any) -> int:
        """Return how many blocks are around that of `who`, or around the innermost one where `who` is not known."""
        known = range(self.depth - 1, -1, -1) if who is not None else ()
        return next((place for place in known if self.blocks[place] is who), self.depth - 1)

    def is_open(self, who: Any) -> bool:
        """Tell whether `who` has a block open."""
        return who is not None and any(one is who for one in self.blocks[:self.depth])

    def take_along(self, place: int) -> None:
        """Note those who hold a block within the one at `place`, which ends now: functions that may go on."""
        self.undone += [one for one in self.blocks[place + 1:self.depth] if type(one) is FRAME_TYPE]

    def is_undone(self, who: Any) -> bool:
        """Tell whether the block of `who` was taken along, and from now on that `who` knows."""
        if not any(one is who for one in self.undone):
            return False
        self.undone[:] = [one for one in self.undone if one is not who]
        return True

    def deepen(self) -> None:
        """Go one deeper, where from now on nobody keeps anything back, and write what a signal handler has before."""
        self.depth += 1
        batch = self.batch  # held, as below
        if batch is not None:
            batch.write()

    def drop_deeper(self, depth: int) -> None:
        """Forget what waits to be written deeper than `depth`, which is undone next."""
        batch = self.batch  # here: a signal handler may have it written, and then it has ended
        while batch is not None and self.depth > depth:  # what waits was put in the innermost one
            batch.drop()
            if batch.depth <= depth:
                break
            batch = self.batch = batch.around

    def forget(self, depth: int) -> None:
        """Let go of those who began what lies deeper than `depth`, and is rolled back."""
        for place in range(depth, self.depth):
            self.blocks[place] = None
        self.depth = min(self.depth, depth)
        self.epochs.undo(depth)  # behind that, as below: what a signal handler walks over now begins outside of it

    def leave(self, depth: int) -> None:
        """Have the block at `depth` ended, which is committed; put what a signal handler has left in it meanwhile."""
        self.depth = depth
        self.epochs.leave(depth)
        self.blocks[depth] = None
        batch = self.batch
        if batch is not None and batch.depth > depth:
            batch.write()

    def renew(self, refusal: Callable[[], VaultError]) -> None:
        """Take a new cursor, unless SQLite has undone all: the old one may have a statement in progress.

        While a block goes on that was undone, what writes raises the `refusal`.
        """
        if self.lost:
            return  # what stands in its place raises
        execute = self.execute = self.raw.statements().execute
        if self.undone:
            thread, undone = self.thread, self.undone

            def reading(sql: str, *arguments: Any) -> Any:
                if sql.startswith(WRITING) and get_ident() == thread:
                    undone[:] = filter(_goes_on, undone)
                    if undone:
                        raise refusal()
                return execute(sql, *arguments)
            self.execute = reading


def _goes_on(frame: Any) -> bool:
    """Tell whether a function has not ended: it is running in this thread, or waits in a generator or coroutine.

    One that an interrupt has left on its way out of a block never ends that.
    """
    running = sys._getframe()
    while running.f_back is not None:
        running = running.f_back
        if running is frame:
            return True
    return any(getattr(one, SUSPENDED.get(type(one).__name__, ''), None) is frame for one in gc.get_referrers(frame))
