"""From the Authorization header to a Caller, and who may use a route. The chaincode decides again, from the
certificate.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Protocol

from emr_model.ledger.codes import Code
from emr_model.ledger.functions import Role
from fastapi import Depends, Request

from emr_common.problems import Problem
from emr_common.tokens import Claims, TokenVerifier, refused
from emr_common.wallet import Caller, Wallet

MAX_TOKEN_CHARACTERS = 8192


class Authenticator:
    def __init__(self, verifier: TokenVerifier, wallet: Wallet) -> None:
        self._verifier = verifier
        self._wallet = wallet

    async def claims(self, authorization: str | None) -> Claims:
        """Raises Problem TOKEN_INVALID."""
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token or len(token) > MAX_TOKEN_CHARACTERS:
            raise refused()
        return await self._verifier.verify(token)

    async def caller(self, authorization: str | None) -> Caller:
        """Raises Problem TOKEN_INVALID, or IDENTITY_UNKNOWN for a good token of somebody who is not, or no longer,
        enrolled.
        """
        return await self.enrolled(await self.claims(authorization))

    async def enrolled(self, claims: Claims) -> Caller:
        """Never from a cache: a revocation counts for the next request. Raises Problem IDENTITY_UNKNOWN."""
        caller = await self._wallet.find(claims.issuer, claims.subject)
        if caller is None:
            raise Problem(Code.IDENTITY_UNKNOWN)
        return caller


class HasAuthenticator(Protocol):
    """What ``app.state.services`` of every service is at least."""

    @property
    def authenticator(self) -> Authenticator: ...


async def current_caller(request: Request) -> Caller:
    """The enrolled caller of the request, any role."""
    services: HasAuthenticator = request.app.state.services
    claims: Claims | None = getattr(request.state, "claims", None)  # as ``admission`` has verified it
    if claims is None:
        return await services.authenticator.caller(request.headers.get("authorization"))
    return await services.authenticator.enrolled(claims)


CallerDep = Annotated[Caller, Depends(current_caller)]


def require(*roles: Role) -> Callable[..., Awaitable[Caller]]:
    """A dependency that gives the caller when they have one of ``roles``, else raises Problem ROLE_NOT_ALLOWED."""

    async def permitted(request: Request) -> Caller:
        caller = await current_caller(request)
        if caller.role not in roles:
            raise Problem(Code.ROLE_NOT_ALLOWED)
        return caller

    return permitted
