"""What is answered with content: the bytes that were verified, never serialized again."""

from __future__ import annotations

from typing import Any

import orjson
from fastapi import Response


def content_response(answer: dict[str, Any]) -> Response:
    return Response(orjson.dumps(answer), media_type="application/json")
