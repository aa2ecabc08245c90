"""OpenAPI: what the server answers, for programs that read it. schemathesis holds it against a running server."""
from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict

DESCRIPTION: Dict[str, Any] = {'openapi': '3.1.0', 'info': {'title': 'vaults', 'version': '1'}, 'paths': {}}
