"""How a network answers recipes, and what counts as the same answer.

One message can change how official peers take the next one, so they are asked one at a time:
- a gateway drops another hospital's peer after some refusals, until gossip finds it again;
- what a malformed transaction does to a peer may depend on what follows it in its block: alone in it, it does no harm.
"""

from collections.abc import Awaitable, Callable

from fuzz import chaincode, messages
from fuzz.chaincode import CHAINCODE_KINDS
from fuzz.layout import Inapplicable
from fuzz.messages import KINDS, Bench, prepared
from fuzz.recipes import Recipe
from support.fabric import Fabric

ENDED = "a process ended"
"""What a message did to official peers that they do not survive. They are not asked again."""
ATTEMPTS = 3
"""Certificates and signatures differ from message to message: a change can by chance be none, or meet another byte."""

Ask = Callable[[Recipe], Awaitable[str]]


async def client_answer(bench: Bench, recipe: Recipe) -> str:
    """Raises Inapplicable, also where the change is none."""
    kind = KINDS[recipe.kind]
    valid, encoded = await prepared(bench, kind, recipe)
    if encoded == valid:
        raise Inapplicable("nothing has changed")
    return await kind.send(bench, encoded)


def is_refused(recipe: Recipe, answer: str) -> bool:
    accepted = chaincode.ACCEPTED if recipe.kind in CHAINCODE_KINDS else messages.ACCEPTED
    return answer not in accepted


async def insistent(bench: Bench, ask: Ask, recipe: Recipe, is_settled: Callable[[str], bool]) -> str:
    """The last of at most ATTEMPTS answers. Raises Inapplicable if there was none.

    Before an official network is asked again, its gateways have found each other.
    """
    answer: str | None = None
    for _ in range(ATTEMPTS):
        try:
            answer = await ask(recipe)
        except Inapplicable:
            continue
        if is_settled(answer):
            return answer
        if isinstance(bench.network, Fabric):
            await bench.network.settle()
    if answer is None:
        raise Inapplicable(recipe.kind)
    return answer
