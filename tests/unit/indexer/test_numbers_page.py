"""The page of published numbers, as a browser shows it. SCREENSHOTS=FOLDER keeps pictures of it."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa
import uvicorn
from emr_common.http import create_app
from emr_common.readiness import Readiness
from emr_common.settings import Settings
from emr_indexer.page import routes
from emr_readmodel import engine, hospital, migrate
from sqlalchemy.ext.asyncio import AsyncEngine
from support.chromium import Tab, chromium, tab
from support.postgres import PostgresServer, empty_database

HOSTILE = '<script>document.title="taken"</script><img src=x>'
LOOKS = {
    "wide": {"width": 1200, "height": 900, "dark": False},
    "dark": {"width": 1200, "height": 900, "dark": True},
    "narrow": {"width": 340, "height": 700, "dark": False},
}


@dataclass(frozen=True)
class Services:
    engine: AsyncEngine
    msp_id: str = "HospitalA"
    readiness: Readiness = field(default_factory=lambda: Readiness({}))


@pytest.fixture(scope="module")
async def pool(server: PostgresServer) -> AsyncIterator[AsyncEngine]:
    async with empty_database(server) as url:
        await migrate.upgrade(url)
        pool = engine.create(url, 3)
        yield pool
        await pool.dispose()


@pytest.fixture(scope="module")
async def base_url(pool: AsyncEngine) -> AsyncIterator[str]:
    @asynccontextmanager
    async def bootstrap() -> AsyncIterator[Services]:
        yield Services(pool)

    settings = Settings(org_msp_id="HospitalA")
    app = create_app(title="t", description="d", settings=settings, bootstrap=bootstrap, routers=[routes.router])
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="on"))
        running = asyncio.create_task(server.serve([listening]))
        while not server.started:
            await asyncio.sleep(0.02)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
        server.should_exit = True
        await running


@pytest.fixture(scope="module")
async def filled(base_url: str, pool: AsyncEngine) -> str:
    """A hospital of some years, with a display that somebody chose to do harm."""
    empty = await _get(base_url)
    assert "Nothing is published yet" in empty.text
    cells = []
    for number in range(30):
        year, month = 2024 + number // 12, number % 12 + 1
        count = 5 * (60 + 11 * (number * 7 % 13) + 4 * number)
        cells.append({"measure": "visits", "year": year, "month": month, "encounter_class": "AMB", "number": count})
    for number, band in enumerate(
        ("0-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "70-79", "80-89", "90+")
    ):
        cells.append({"measure": "patients", "year": 2026, "age_band": band, "number": 5 * (20 + 9 * (number * 5 % 7))})
    for measure, names in (
        ("conditions", ("Essential hypertension", "Body mass index 30+ - obesity", "Prediabetes", HOSTILE)),
        ("medications", ("lisinopril 10 MG Oral Tablet", "simvastatin 20 MG Oral Tablet", "metformin 500 MG")),
    ):
        for number, name in enumerate(names):
            more = {"system": "s", "code": f"3834100{number}", "display": name}
            cells.append({"measure": measure, "year": 2026, "number": 5 * (90 - 17 * number), **more})
    for purpose, count in (("TREAT", 140), ("ETREAT", 25), ("HRESCH", 15)):
        cells.append({"measure": "disclosures", "year": 2026, "purpose": purpose, "number": count})
    async with pool.begin() as connection:
        await connection.execute(sa.insert(hospital.release).values(as_of_block=4711))
        release_id = await connection.scalar(sa.select(hospital.release.c.id))
        for cell in cells:
            await connection.execute(sa.insert(hospital.release_cell).values(release_id=release_id, **cell))
    return base_url


async def _get(base_url: str, path: str = "/numbers") -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False) as client:
        return await client.get(base_url + path)


async def test_anybody_sees_it_and_nothing_may_run_in_it(filled: str) -> None:
    page = await _get(filled)
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "<script" not in page.text
    assert "style=" not in page.text
    assert "&lt;script&gt;" in page.text
    style = await _get(filled, "/numbers/style.css")
    assert (style.status_code, style.headers["content-type"]) == (200, "text/css; charset=utf-8")


async def test_it_is_made_once_for_each_release(filled: str, pool: AsyncEngine) -> None:
    page, table = (await _get(filled)).text, hospital.release_cell
    async with pool.begin() as connection:
        (last,) = await connection.scalars(sa.select(hospital.release.c.id))
        cell = {"measure": "disclosures", "year": 2027, "purpose": "TREAT", "number": 777_000}
        await connection.execute(sa.insert(table).values(release_id=last, **cell))
    assert (await _get(filled)).text == page
    async with pool.begin() as connection:
        await connection.execute(sa.update(hospital.release).values(at=sa.func.now(), as_of_block=4712))
    assert "777\u202f" in (await _get(filled)).text
    async with pool.begin() as connection:
        await connection.execute(sa.delete(table).where(table.c.year == 2027))
        await connection.execute(sa.update(hospital.release).values(at=sa.func.now(), as_of_block=4711))


@pytest.fixture(scope="module")
async def browser(filled: str) -> AsyncIterator[Tab]:
    if chromium() is None:
        pytest.skip("no Chromium on this machine")
    async with tab() as opened:
        yield opened


@pytest.mark.parametrize("look", LOOKS)
async def test_a_browser_shows_it(browser: Tab, filled: str, look: str) -> None:
    await browser.open(f"{filled}/numbers", **LOOKS[look])  # type: ignore[arg-type]
    assert browser.complaints == []
    assert await browser.value("document.title") == "HospitalA in numbers"
    assert await browser.value("document.querySelectorAll('h1').length") == 1
    assert await browser.value("document.querySelectorAll('h2').length") == 5
    assert await browser.value("document.scripts.length + document.images.length") == 0
    assert await browser.value("document.documentElement.scrollWidth - innerWidth") <= 0
    assert await browser.value("getComputedStyle(document.body).maxWidth") != "none"
    assert await browser.value(_LONGEST_BAR) > 80
    assert await browser.value(_CONTRAST) >= 4.5
    if folder := os.environ.get("SCREENSHOTS"):
        await browser.screenshot(Path(folder) / f"numbers-{look}.png")


_LONGEST_BAR = """
    Math.max(...[...document.querySelectorAll('.bars rect:not(.track)')].map(one => one.getBoundingClientRect().width))
"""
_CONTRAST = """(() => {
    const parts = colour => colour.match(/[\\d.]+/g).slice(0, 3).map(each => {
        const part = each / 255; return part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4 });
    const light = colour => { const [r, g, b] = parts(colour); return 0.2126 * r + 0.7152 * g + 0.0722 * b };
    const behind = light(getComputedStyle(document.body).backgroundColor);
    return Math.min(...[...document.querySelectorAll('h1, h2, p, footer, .kicker, small')].map(one => {
        const it = light(getComputedStyle(one).color);
        return (Math.max(it, behind) + 0.05) / (Math.min(it, behind) + 0.05) }));
})()"""
"""The least contrast of a text with the page, as WCAG counts it."""


async def test_the_tables_say_what_the_charts_show(browser: Tab, filled: str) -> None:
    await browser.open(f"{filled}/numbers")
    rows = await browser.value("[...document.querySelectorAll('details tbody tr')].map(row => row.innerText)")
    assert len(rows) == 24
    assert await browser.value("document.querySelectorAll('svg.columns rect').length") == 24
    assert await browser.value("document.querySelector('svg.columns').getAttribute('aria-label')")
    headers = "[...document.querySelectorAll('th')].every(one => one.scope === 'row' || one.scope === 'col')"
    assert await browser.value(headers)
