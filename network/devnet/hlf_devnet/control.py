"""Status and stop/start of single peers over HTTP. For the loopback interface: it asks nobody who they are."""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from hlf_devnet.grpc_server import AddressInUse
from hlf_devnet.network import Network, UnknownOrganization


def control_app(network: Network) -> Starlette:
    """`GET /status` → channel, height, organizations (msp_id, running, height, endpoint, chaincodes: connected or
    not) and calls (method → count); `POST /organizations/{msp}/stop` and `…/start` → the status after it."""

    async def status(_: Request) -> Response:
        return JSONResponse(network.status())

    async def stop(request: Request) -> Response:
        await network.stop_organization(request.path_params["msp_id"])
        return JSONResponse(network.status())

    async def start(request: Request) -> Response:
        await network.start_organization(request.path_params["msp_id"])
        return JSONResponse(network.status())

    async def unknown(_: Request, __: Exception) -> Response:
        return JSONResponse({"error": "unknown organization"}, status_code=404)

    async def in_use(_: Request, error: Exception) -> Response:
        return JSONResponse({"error": str(error)}, status_code=503)

    return Starlette(
        routes=[
            Route("/status", status),
            Route("/organizations/{msp_id}/stop", stop, methods=["POST"]),
            Route("/organizations/{msp_id}/start", start, methods=["POST"]),
        ],
        exception_handlers={UnknownOrganization: unknown, AddressInUse: in_use},
    )
