"""Who is let in, before anything of a request's body is read: a good token, and not too many requests of one caller."""

from __future__ import annotations

from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from emr_common.auth import Authenticator
from emr_common.boundary import PREFIX
from emr_common.problems import Problem
from emr_common.rates import Rates
from emr_common.settings import RateSettings
from emr_common.workload import turn_away


class Admission:
    """Plain ASGI. Refuses what stands under ``/v1`` with TOKEN_INVALID (two tokens too: a proxy may have judged the
    other one) or TOO_MANY_REQUESTS; leaves the token's claims in the request's state, where ``auth.current_caller``
    finds them. ``for_anybody`` are the paths under ``/v1`` that need no token.
    """

    def __init__(self, app: ASGIApp, rates: RateSettings, for_anybody: Collection[str] = ()) -> None:
        self._app = app
        self._rates = Rates(rates)
        self._for_anybody = frozenset(for_anybody)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        authenticator = _authenticator(scope)
        if authenticator is None or scope["path"] in self._for_anybody:
            await self._app(scope, receive, send)
            return
        try:
            given = Headers(scope=scope).getlist("authorization")
            claims = await authenticator.claims(given[0] if len(given) == 1 else None)
            self._rates.admit(claims)
        except Problem as problem:
            await turn_away(problem, scope, receive, send)
            return
        scope.setdefault("state", {})["claims"] = claims
        await self._app(scope, receive, send)


def _authenticator(scope: Scope) -> Authenticator | None:
    """None for what needs no token: what stands beside ``/v1``, and a process that knows no callers."""
    if scope["type"] != "http" or not scope["path"].startswith(f"{PREFIX}/"):
        return None
    services = getattr(scope["app"].state, "services", None)
    return getattr(services, "authenticator", None)
