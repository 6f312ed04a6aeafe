"""Milliseconds from the second approval to the shared snapshot, on a whole system of its own.

    python -m benchmarks.sharing [--sharings 20]

The patient approves last, and then asks every 10 ms where the sharing stands. Below it what the sharer itself needed:
its calls of the ledger, by step. The rest is the way of the approval's block to it: relay, Kafka, faust.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import secrets
import statistics
import time
from collections.abc import Sequence

import httpx
import psutil
from emr_deploy.callers import Callers
from emr_deploy.system import System
from emr_network.enrolment import ADMIN

from benchmarks.whole_system import whole_system

OWNER, RECIPIENT = "a", "b"
WARM_UP = 3
POLL_SECONDS = 0.01
GIVE_UP_SECONDS = 60.0
STEP = re.compile(r'emr_ledger_call_seconds_(sum|count){function="(\w+)",outcome="ok",step="(\w+)"} (\S+)')


class Bench:
    def __init__(self, system: System, callers: Callers) -> None:
        self._system = system
        self._callers = callers

    async def _call(self, subject: str, service: str, method: str, path: str, body: object = None) -> dict[str, object]:
        answer = await self._callers.call(OWNER, subject, service, method, path, body)
        return answer.required()

    async def enrol(self) -> None:
        for role in ("healthcenter", "physician"):
            await self._call(ADMIN, "registration", "POST", "/staff", {"subject": role, "role": role})

    async def share_one(self) -> tuple[float, float]:
        """Seconds from the second approval's request, and from its answer, until the snapshot is there."""
        patient, other = f"patient-{secrets.token_hex(4)}", self._system.topology.organization(RECIPIENT).msp_id
        identifier = {"system": "http://hospital.smarthealthit.org", "value": secrets.token_hex(8)}
        resource = {"resourceType": "Patient", "identifier": [identifier], "gender": "female"}
        body = {"subject": patient, "patient": resource}
        emr_id = (await self._call("healthcenter", "registration", "POST", "/patients", body))["emrId"]
        await self._call("physician", "records", "POST", f"/emrs/{emr_id}/notes", {"text": "Seen today."})
        approval, version = f"/emrs/{emr_id}/sharings/{other}/owner-approval", {"version": 1}
        await self._call("healthcenter", "consent", "PUT", approval, version)
        asked = time.perf_counter()
        await self._call(patient, "consent", "PUT", f"/me/sharings/{other}/approval", version)
        answered = time.perf_counter()
        while not await self._is_shared(patient):
            if time.perf_counter() - answered > GIVE_UP_SECONDS:
                raise TimeoutError("nothing was shared")
            await asyncio.sleep(POLL_SECONDS)
        now = time.perf_counter()
        return now - asked, now - answered

    async def _is_shared(self, patient: str) -> bool:
        sharings = (await self._call(patient, "consent", "GET", "/me/sharings"))["sharings"]
        assert isinstance(sharings, list)
        return bool(sharings[0]["state"] == "shared")

    async def steps(self) -> dict[tuple[str, str], tuple[float, float]]:
        """Seconds and number of the sharer's calls, by function and step."""
        async with httpx.AsyncClient(trust_env=False) as http:
            text = (await http.get(f"http://{self._system.ports.address(f'sharer-{OWNER}')}/metrics")).text
        found: dict[tuple[str, str], dict[str, float]] = {}
        for kind, function, step, value in STEP.findall(text):
            found.setdefault((function, step), {})[kind] = float(value)
        return {name: (one["sum"], one["count"]) for name, one in found.items()}


async def measure(sharings: int) -> None:
    async with whole_system() as (system, callers):
        bench = Bench(system, callers)
        await bench.enrol()
        for _ in range(WARM_UP):
            await bench.share_one()
        before = await bench.steps()
        seconds = [await bench.share_one() for _ in range(sharings)]
        after = await bench.steps()
        print(f"\n{sharings} sharings, one after the other, on devnet; {psutil.cpu_count()} cores")
        _report("from the second approval's request", [one for one, _ in seconds])
        _report("from its answer: it is committed", [one for _, one in seconds])
        print("\nof the sharer's calls (mean):")
        for name, (total, count) in sorted(after.items()):
            then = before.get(name, (0.0, 0.0))
            if count > then[1]:
                mean = (total - then[0]) / (count - then[1])
                print(f"  {' '.join(name):40}{mean * 1000:8.0f} ms   {(count - then[1]) / sharings:5.1f} a sharing")
        print("\naim: within 1000 ms")


def _report(what: str, seconds: Sequence[float]) -> None:
    p95 = statistics.quantiles(seconds, n=20)[-1]
    print(f"  {what:40}p50 {statistics.median(seconds) * 1000:6.0f} ms   p95 {p95 * 1000:6.0f} ms", end="")
    print(f"   most {max(seconds) * 1000:6.0f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description="From the second approval to the shared snapshot.")
    parser.add_argument("--sharings", type=int, default=20)
    asyncio.run(measure(parser.parse_args().sharings))


if __name__ == "__main__":
    main()
