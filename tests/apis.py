"""APIs of providers as local servers play them: what a request holds, and a whole acceptance of it."""

from __future__ import annotations

import json
from typing import Any

from tests.servers import Request, Response


def postmark_messages(request: Request) -> list[dict[str, Any]]:
    """The messages of a request to Postmark, be it one or a batch."""
    body = json.loads(request.body)
    found: list[dict[str, Any]] = body if isinstance(body, list) else body.get("Messages", [body])
    return found


def postmark_takes(request: Request) -> Response:
    """Postmark's acceptance of all messages of a request."""
    taken = [{"ErrorCode": 0, "Message": "OK", "MessageID": "b7bc2f4a-fake", "To": "x"} for _ in postmark_messages(request)]
    return Response(200, json.dumps(taken if "atch" in request.path else taken[0]).encode())
