"""The page and its style sheet, for anybody: no token is asked for, because every number may leave the house."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from emr_common.boundary import PREFIX
from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

from emr_indexer.page import numbers

if TYPE_CHECKING:
    from jinja2 import Environment

    from emr_indexer.bootstrap import Services

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "public, max-age=300",
}

PAGE, STYLE, ICON = PATHS = (f"{PREFIX}/numbers", f"{PREFIX}/numbers/style.css", f"{PREFIX}/numbers/icon.svg")


@dataclass(frozen=True)
class _Page:
    refreshed: numbers.Refreshed
    html: str


router = APIRouter(include_in_schema=False)


@router.get(PAGE)
async def page(request: Request) -> HTMLResponse:
    """The numbers as a page without scripts. It is made once for each release of them: anybody may ask for it."""
    services: Services = request.app.state.services
    kept: _Page | None = getattr(request.app.state, "numbers", None)
    if kept is None or kept.refreshed != await numbers.refreshed(services.engine):
        kept = request.app.state.numbers = await _make(services)
    return HTMLResponse(kept.html, headers=HEADERS)


async def _make(services: Services) -> _Page:
    shown = await numbers.read(services.engine)
    html = _templates().get_template("numbers.html").render(numbers=shown, hospital=services.msp_id)
    return _Page((shown.refreshed_at, shown.block), html)


@router.get(STYLE)
async def style() -> Response:
    return Response(_text("numbers.css"), media_type="text/css", headers=HEADERS)


@router.get(ICON)
async def icon() -> Response:
    return Response(_text("icon.svg"), media_type="image/svg+xml", headers=HEADERS)


@cache
def _templates() -> Environment:
    from jinja2 import Environment, FunctionLoader, StrictUndefined  # when the first page is asked for, not before

    environment = Environment(
        loader=FunctionLoader(_text), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["grouped"] = lambda number: f"{number:,}".replace(",", "\u202f")
    return environment


@cache
def _text(name: str) -> str:
    return files("emr_indexer.page").joinpath(name).read_text("utf-8")
