"""Resources: the vaults themselves, made, dropped and named; and what is known of the server. Knows no entries."""
from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from starlette.responses import Response

from .access import may
from .answers import RETRY, Refusal, as_json_answer
from .metrics import METRICS_TYPE
from .openapi import DESCRIPTION

if TYPE_CHECKING:
    from .requests import Inquiry


async def get_names(asked: Inquiry) -> Response:
    """Answer the names that the token may read."""
    asked.parameters()
    names = await asyncio.get_running_loop().run_in_executor(None, asked.house.root.names)
    return as_json_answer({'vaults': [name for name in names if asked.caller and may(asked.caller, name, 'r')]})


async def get_vault(asked: Inquiry) -> Response:
    """Answer how many entries a vault has."""
    asked.parameters()
    async with asked.house.root.using(asked.name) as served:
        count = await served.read(served.store.count)
        engine = served.store.describe()['engine']
    return as_json_answer({'name': asked.name, 'entries': count, 'engine': engine, 'writable': asked.may('w')})


async def put_vault(asked: Inquiry) -> Response:
    """Make a vault; one that is there stays as it is."""
    asked.parameters()
    is_new = await asked.house.root.make(asked.name)
    return Response(status_code=201 if is_new else 204)


async def delete_vault(asked: Inquiry) -> Response:
    asked.parameters()
    await asked.house.root.drop(asked.name)
    return Response(status_code=204)


async def get_health(asked: Inquiry) -> Response:
    if asked.house.root.stopping:
        raise Refusal(503, 'the server is about to end', RETRY)
    return as_json_answer({'status': 'ok'})


async def get_metrics(asked: Inquiry) -> Response:
    return Response(asked.house.metrics.text(asked.house.root), media_type=METRICS_TYPE)


async def get_openapi(asked: Inquiry) -> Response:
    return as_json_answer({**DESCRIPTION, 'servers': [{'url': asked.scope.get('root_path', '') or '/'}]})
