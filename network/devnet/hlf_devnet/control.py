"""Status of devnet, and its peers opened, closed, stopped and started, over HTTP.

For the loopback interface: it asks nobody who they are. What Fabric has a protocol for goes through the peers' and the
orderer's own ports; here is only what otherwise were the starting and ending of a process.
"""

from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from hlf_devnet.config import ConfigError, Organization, validated
from hlf_devnet.grpc_server import AddressInUse
from hlf_devnet.network import Network, OrganizationExists, OrganizationRefused, UnknownOrganization


def control_app(network: Network, folder: Path) -> Starlette:
    """`GET /status` → channel, height, sequence and members of its configuration, organizations (msp_id, running,
    joined, member, height, endpoint, chaincodes: connected or not) and calls (method → count).

    `POST /organizations` with a section of the configuration file as JSON (relative paths count from `folder`) opens a
    peer: 201, or 200 if it was open with just that section, 409 with another one, 422 if the section cannot be used,
    503 if its port is taken. `DELETE /organizations/{msp}` closes it for good. `POST /organizations/{msp}/stop` and
    `…/start`. All answer with the status after it.
    """

    async def status(_: Request) -> Response:
        return JSONResponse(network.status())

    async def stop(request: Request) -> Response:
        await network.stop_organization(request.path_params["msp_id"])
        return JSONResponse(network.status())

    async def start(request: Request) -> Response:
        await network.start_organization(request.path_params["msp_id"])
        return JSONResponse(network.status())

    async def open_(request: Request) -> Response:
        try:
            content = await request.json()
        except ValueError as error:
            raise ConfigError("the body is not JSON") from error
        is_new = await network.open_organization(validated(Organization, content, folder))
        return JSONResponse(network.status(), status_code=201 if is_new else 200)

    async def remove(request: Request) -> Response:
        await network.remove_organization(request.path_params["msp_id"])
        return JSONResponse(network.status())

    async def exists(_: Request, error: Exception) -> Response:
        return JSONResponse({"error": str(error)}, status_code=409)

    async def unusable(_: Request, error: Exception) -> Response:
        return JSONResponse({"error": str(error)}, status_code=422)

    async def unknown(_: Request, __: Exception) -> Response:
        return JSONResponse({"error": "unknown organization"}, status_code=404)

    async def in_use(_: Request, error: Exception) -> Response:
        return JSONResponse({"error": str(error)}, status_code=503)

    return Starlette(
        routes=[
            Route("/status", status),
            Route("/organizations", open_, methods=["POST"]),
            Route("/organizations/{msp_id}", remove, methods=["DELETE"]),
            Route("/organizations/{msp_id}/stop", stop, methods=["POST"]),
            Route("/organizations/{msp_id}/start", start, methods=["POST"]),
        ],
        exception_handlers={
            UnknownOrganization: unknown,
            AddressInUse: in_use,
            OrganizationExists: exists,
            OrganizationRefused: unusable,
            ConfigError: unusable,
        },
    )
