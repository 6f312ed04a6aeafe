"""Commands of an operator that are killed after what they have told, and run again until they are done.

Each new line is one step that was done. A run that is killed after a line leaves the rest to the next run, so a command
that is killed after every new line begins once at every step there is.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from emr_deploy.system import System
from emr_network.definition import definition_in_force, describe_policy
from emr_network.home import Home
from support.devnet import TESTS

EVERY_STEP = "KILL_EVERY_STEP"
"""An environment variable: not empty for the full form."""
KILLS = 2
SEED = 20
KILLED = -9
MOST_RUNS = 200

STEP = re.compile(r"(made|ready|joined|ended) ")
"""How a line begins that tells of a step, and not of the outcome."""
SECONDS = re.compile(r"\s+[\d.]+ s$")
"""How long something took, at the end of a line: no other time makes another step."""

Kill = Callable[[int], bool]
"""Whether to kill after the line of that number, from 1, of those that are new."""


def some_steps(command: str) -> Kill:
    """A few of the first lines, drawn with a seed of the command's own; all lines in the full form."""
    if os.environ.get(EVERY_STEP):
        return lambda _: True
    drawn = random.Random(f"{SEED} {command}").sample(range(1, 9), KILLS)
    return lambda number: number in drawn


@dataclass
class Told:
    """What a command said in all its runs, each line once, and how often it was killed."""

    command: str
    lines: list[str] = field(default_factory=list)
    kills: int = 0


@dataclass(frozen=True)
class Status:
    """Blocks, and the contract's definition in force."""

    height: int
    version: str
    sequence: int
    policy: str
    is_approved_by_all: bool


@dataclass(frozen=True)
class Operator:
    """Calls `emr` for one EMR_HOME."""

    home: Path

    @property
    def _environment(self) -> dict[str, str]:
        return {**os.environ, "EMR_HOME": str(self.home), "PYTHONUNBUFFERED": "1"}

    async def emr_many(self, calls: Sequence[Sequence[str]]) -> list[tuple[int, str]]:
        """Exit code of each command, and all that was said. They run one after the other in one process."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "support.many_commands",
            env={**self._environment, "PYTHONPATH": str(TESTS)},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        told, _ = await process.communicate(json.dumps(calls).encode())
        assert process.returncode == 0
        return [(code, said) for code, said in json.loads(told)]

    async def status(self) -> Status:
        system = System(Home(self.home), lambda _: None)
        committed = await definition_in_force(system.home, system.topology, system.ports)
        assert committed is not None
        told = committed.definition
        height = (await system.network.status()).height
        return Status(
            height, told.version, told.sequence, describe_policy(told.policy), all(committed.approvals.values())
        )

    async def emr_killed(self, *arguments: str, kill: Kill | None = None) -> Told:
        """AssertionError when a run ends otherwise than done or killed."""
        told = Told(" ".join(arguments))
        for _ in range(MOST_RUNS):
            code, said = await self._run(arguments, told, kill or some_steps(told.command))
            assert code in (0, KILLED), f"{told.command}, killed {told.kills} times: exit code {code}: {said}"
            if code == 0:
                return told
        raise AssertionError(f"{told.command} does not come to an end")

    async def _run(self, arguments: Sequence[str], told: Told, kill: Kill) -> tuple[int, str]:
        process = await self._start(arguments)
        assert process.stdout is not None
        said = []
        async for octets in process.stdout:
            said.append(octets.decode().rstrip())
            line = SECONDS.sub("", said[-1])
            if STEP.match(line) and line not in told.lines:
                told.lines.append(line)
                if kill(len(told.lines)) and process.returncode is None:
                    told.kills += 1
                    process.kill()
                    break
        await process.stdout.read()
        return await process.wait(), "\n".join(said)

    async def _start(self, arguments: Sequence[str]) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "emr_deploy.cli",
            *arguments,
            env=self._environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )


@asynccontextmanager
async def operating(home: Path) -> AsyncIterator[Operator]:
    """What runs in `home` in the end is ended."""
    try:
        yield Operator(home)
    finally:
        await asyncio.to_thread(System(Home(home), lambda _: None).down)


async def a_consortiums_life(operator: Operator, ledger: str, folder: Path) -> None:
    """Two hospitals' network is made, a third one joins, the contract is upgraded, the third one leaves; `folder` takes
    files."""
    told = [await operator.emr_killed("network", "up", "--free-ports", "--ledger", ledger)]
    assert (await operator.status()).policy == "AND('HospitalA.peer','HospitalB.peer')"
    told.append(await operator.emr_killed("network", "add-org", "c"))
    joined = await operator.status()
    assert (joined.sequence, joined.is_approved_by_all) == (2, True)
    assert "'HospitalC.peer'" in joined.policy
    told.append(await operator.emr_killed("network", "upgrade-chaincode", "1.1"))
    upgraded = await operator.status()
    assert (upgraded.version, upgraded.sequence, upgraded.is_approved_by_all) == ("1.1", 3, True)
    await _propose_to_remove(operator, folder)
    told.append(await operator.emr_killed("network", "remove-org", "c", "--yes"))
    left = await operator.status()
    assert (left.sequence, left.policy) == (4, "AND('HospitalA.peer','HospitalB.peer')")
    assert not (operator.home / "underway.yaml").exists()
    for one in told:
        print(f"{ledger}: emr {one.command}: {len(one.lines)} steps told, killed after {one.kills} of them, done")


async def _propose_to_remove(operator: Operator, folder: Path) -> None:
    """As files; one signature of three is not enough."""
    proposal, signature = folder / "remove.json", folder / "a.sig"
    calls = (
        f"propose-org --remove HospitalC --out {proposal}",
        f"sign {proposal} --org a --out {signature}",
        f"submit {proposal} {signature} --org a",
    )
    answers = await operator.emr_many([["network", *call.split()] for call in calls])
    assert [code for code, _ in answers] == [0, 0, 1], answers
    assert "still to sign: HospitalB, HospitalC" in answers[2][1]
