"""An orderer's channel participation API (`orderer/common/channelparticipation/restapi.go`)."""

import ssl
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from hlf.admin.errors import ParticipationError

_CHANNELS = "/participation/v1/channels"
_ALREADY_JOINED = httpx.codes.METHOD_NOT_ALLOWED


@dataclass(frozen=True)
class Participation:
    """How an orderer takes part in a channel: `consenter` orders, `follower` only keeps blocks."""

    channel: str
    height: int
    status: str
    relation: str

    @property
    def is_ordering(self) -> bool:
        return self.relation == "consenter" and self.status == "active"


class OrdererAdmin:
    """The administration endpoint of one orderer, over TLS with a client certificate.

    Any certificate of the orderer's `ADMIN_TLS_CLIENTROOTCAS` is an administrator: give these a CA of their own.
    """

    def __init__(
        self,
        url: str,
        *,
        tls_ca_file: Path | None = None,
        client_cert: tuple[Path, Path] | None = None,
        timeout_seconds: float = 10,
    ) -> None:
        verify: ssl.SSLContext | bool = True
        if tls_ca_file is not None:
            verify = ssl.create_default_context(cafile=str(tls_ca_file))
            if client_cert is not None:
                verify.load_cert_chain(*map(str, client_cert))
        self._http = httpx.AsyncClient(base_url=url, verify=verify, timeout=timeout_seconds, trust_env=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def join(self, channel: str, config_block: bytes) -> bool:
        """Joins `channel` with its latest configuration block. False if the orderer had joined before.

        ParticipationError unless it orders afterwards: an orderer whose certificate is none of the consenters' is
        silently a follower that never catches up.
        """
        response = await self._request(
            "POST", _CHANNELS, files={"config-block": ("config.block", config_block, "application/octet-stream")}
        )
        if response.status_code not in (httpx.codes.CREATED, _ALREADY_JOINED):
            raise _refused("join", response)
        participation = await self.participation(channel)
        if participation.relation != "consenter":
            raise ParticipationError(
                f"the orderer joined {channel} as {participation.relation}/{participation.status}: "
                "its TLS certificate is not one of the channel's consenters"
            )
        return bool(response.status_code == httpx.codes.CREATED)

    async def participation(self, channel: str) -> Participation:
        """ParticipationError if the orderer does not take part in `channel`."""
        response = await self._request("GET", f"{_CHANNELS}/{channel}")
        if response.status_code != httpx.codes.OK:
            raise _refused("look up", response)
        body = response.json()
        return Participation(body["name"], int(body["height"]), body["status"], body["consensusRelation"])

    async def config_block(self, channel: str) -> bytes:
        """The latest configuration block, a serialized `common.Block`."""
        response = await self._request("GET", f"{_CHANNELS}/{channel}/blocks/config")
        if response.status_code != httpx.codes.OK:
            raise _refused("read the configuration of", response)
        return bytes(response.content)

    async def _request(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        try:
            return await self._http.request(method, path, **arguments)
        except httpx.HTTPError as error:
            raise ParticipationError(
                f"the orderer's administration endpoint cannot be reached: {type(error).__name__}", retriable=True
            ) from error


def _refused(what: str, response: httpx.Response) -> ParticipationError:
    try:
        reason = str(response.json().get("error", ""))
    except ValueError:
        reason = ""
    return ParticipationError(f"the orderer refused to {what} the channel ({response.status_code}): {reason}")
