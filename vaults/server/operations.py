"""Operations: the way to ops.py, which knows the rest of what another vault, over HTTP, asks of this one."""
from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import Response

from .answers import Refusal
from .ops import run_ops
from .requests import PACKED_TYPE

if TYPE_CHECKING:
    from .requests import Inquiry


async def post_ops(asked: Inquiry) -> Response:
    """Do what a body of verbs says, in one transaction or in a block that is open."""
    asked.parameters()
    if asked.media_type() != PACKED_TYPE:
        raise Refusal(415, f'the body is {PACKED_TYPE}')
    body = await asked.whole(asked.house.max_body)
    async with asked.house.root.using(asked.name) as served:
        answer = await run_ops(served, body, asked.may('w'), asked.caller.id if asked.caller else '')
    return Response(answer.body, answer.status, media_type=PACKED_TYPE)
