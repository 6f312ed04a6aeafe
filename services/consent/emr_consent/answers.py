"""What is answered: content as the bytes that were verified, never serialized again; lists from the read model."""

from __future__ import annotations

from typing import Any

import orjson
from fastapi import Response

from emr_consent.schemas import ListedSharingOut, SharingOut, SharingsOut
from emr_consent.store import Page


def content_response(answer: dict[str, Any]) -> Response:
    return Response(orjson.dumps(answer), media_type="application/json")


def sharings(page: Page) -> SharingsOut:
    parked = page.parked
    return SharingsOut(
        sharings=[_listed(row, is_parked=row["emr_id"] in parked.shown) for row in page.rows],
        as_of_block=page.as_of_block,
        next=page.next,
        is_complete=not parked.count,
        parked_emrs=parked.count,
        parked_emr_ids=list(parked.emr_ids),
    )


def _listed(row: dict[str, Any], *, is_parked: bool) -> ListedSharingOut:
    shown = {name: row[name] for name in SharingOut.model_fields}
    return ListedSharingOut.model_validate({**shown, "is_parked": is_parked})
