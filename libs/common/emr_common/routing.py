"""How routes read their JSON: strictly, and never more of it than could be meant.

Python's own reading lets the last of two equal keys win and takes NaN; and a body of many thousand wrong members costs
a validator a hundred times its bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from emr_model.clinical.canonical import parse
from emr_model.clinical.errors import CanonicalJsonError
from emr_model.ledger.codes import Code
from fastapi import Request, Response
from fastapi.routing import APIRoute

from emr_common.problems import Problem


class JsonRequest(Request):
    async def json(self) -> Any:
        """As ``emr_model.clinical.canonical`` reads it: numbers with a fraction are Decimal. Raises Problem
        MALFORMED_REQUEST.
        """
        if not hasattr(self, "_json"):
            try:
                self._json = parse(await self.body())
            except CanonicalJsonError as error:
                raise Problem(Code.MALFORMED_REQUEST, str(error)) from None
        return self._json


class JsonRoute(APIRoute):
    """The class of every service's routes."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_json(request: Request) -> Response:
            return await handle(JsonRequest(request.scope, request.receive))

        return handle_json
