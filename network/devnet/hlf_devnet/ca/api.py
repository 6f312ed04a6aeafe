"""fabric-ca's REST interface of one authority."""

import base64
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from hlf_devnet.ca import callers
from hlf_devnet.ca.authority import Authority
from hlf_devnet.ca.errors import AuthenticationFailed, CaCode, CaRefused, NotAuthorized
from hlf_devnet.ca.requests import Enroll, GenCrl, Info, Register, Revoke, parse
from hlf_devnet.ca.store import Identity

logger = logging.getLogger(__name__)

API: Final = "/api/v1"
LARGEST_BODY: Final = 256 * 1024
VERSION: Final = "devnet"

Result = dict[str, Any]


def ca_app(authority: Authority) -> Starlette:
    endpoints = _Endpoints(authority)
    routes = [
        Route(f"{API}/{name}", _route(handler, success), methods=list(methods))
        for name, handler, success, methods in (
            ("cainfo", endpoints.info, 200, ("GET", "POST")),
            ("enroll", endpoints.enroll, 201, ("POST",)),
            ("reenroll", endpoints.reenroll, 201, ("POST",)),
            ("register", endpoints.register, 201, ("POST",)),
            ("revoke", endpoints.revoke, 200, ("POST",)),
            ("gencrl", endpoints.gencrl, 200, ("POST",)),
        )
    ]
    return Starlette(routes=routes)


class _Endpoints:
    def __init__(self, authority: Authority) -> None:
        self._authority = authority

    def info(self, request: callers.SignedRequest) -> Result:
        if request.body:
            self._require_name(parse(Info, request.body).caname)
        return {**self._server_info(), "Version": VERSION}

    def enroll(self, request: callers.SignedRequest) -> Result:
        caller = callers.by_secret(self._authority.store, request.authorization)
        return self._enrolled(caller, request, by_secret=True)

    def reenroll(self, request: callers.SignedRequest) -> Result:
        return self._enrolled(self._caller(request), request, by_secret=False)

    def register(self, request: callers.SignedRequest) -> Result:
        body = parse(Register, request.body)
        caller = self._caller(request)
        self._require_name(body.caname)
        return {"secret": self._authority.register(caller, body)}

    def revoke(self, request: callers.SignedRequest) -> Result:
        body = parse(Revoke, request.body)
        caller = self._caller(request)
        self._require_name(body.caname)
        revoked = self._authority.revoke(caller, body)
        crl = _base64(self._authority.current_crl()) if body.gencrl and revoked else ""
        return {"RevokedCerts": [{"Serial": serial, "AKI": aki} for serial, aki in revoked], "CRL": crl}

    def gencrl(self, request: callers.SignedRequest) -> Result:
        body = parse(GenCrl, request.body)
        caller = self._caller(request)
        self._require_name(body.caname)
        return {"CRL": _base64(self._authority.crl(caller))}

    def _caller(self, request: callers.SignedRequest) -> Identity:
        return callers.by_token(self._authority.store, self._authority.signer.certificate, request)[0]

    def _enrolled(self, caller: Identity, request: callers.SignedRequest, *, by_secret: bool) -> Result:
        body = parse(Enroll, request.body)
        self._require_name(body.caname)
        certificate = self._authority.enroll(caller, body, by_secret=by_secret)
        return {"Cert": _base64(certificate), "ServerInfo": {**self._server_info(), "Version": ""}}

    def _server_info(self) -> Result:
        return {
            "CAName": self._authority.name,
            "CAChain": _base64(self._authority.signer.certificate_pem),
            "IssuerPublicKey": "",
            "IssuerRevocationPublicKey": "",
        }

    def _require_name(self, name: str) -> None:
        if name not in ("", self._authority.name):
            raise CaRefused(404, CaCode.CA_NOT_FOUND, f"CA '{name}' not found")


def _route(
    handler: Callable[[callers.SignedRequest], Result], success: int
) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        try:
            return _answer(success, handler(await _signed_request(request)))
        except CaRefused as refused:
            reason = refused.reason if isinstance(refused, AuthenticationFailed | NotAuthorized) else refused.code.name
            logger.info("%s refused: %s", request.url.path, reason)
            return _answer(refused.status, "", refused)

    return endpoint


async def _signed_request(request: Request) -> callers.SignedRequest:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_BODY:
            raise CaRefused(413, CaCode.BAD_BODY, "Request body too large")
    path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return callers.SignedRequest(request.method, path, bytes(body), request.headers.get("authorization", ""))


def _answer(status: int, result: Result | str, refused: CaRefused | None = None) -> Response:
    errors = [] if refused is None else [{"code": int(refused.code), "message": str(refused)}]
    content = {"result": result, "errors": errors, "messages": [], "success": refused is None}
    return JSONResponse(content, status_code=status)


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()
