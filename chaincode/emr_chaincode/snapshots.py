"""Snapshots that a recipient holds and should no longer hold."""

from __future__ import annotations

from emr_model.ledger import keys
from emr_model.ledger.answers import Nothing, PurgeableEmr, PurgeableList
from emr_model.ledger.codes import Code
from emr_model.ledger.keys import Key, ObjectType
from emr_model.ledger.refusals import Refused
from emr_model.ledger.values import Access, Life
from hlf.chaincode import composite_key, split_composite_key

from emr_chaincode import sharing_rules
from emr_chaincode.arguments import encode_bookmark
from emr_chaincode.call import Call

_ALL_ACCESS = Key(ObjectType.ACCESS, ())


async def list_purgeable_snapshots(call: Call) -> PurgeableList:
    """Of one EMR, or, when none is named, of a page of all sharings on the ledger."""
    emr_id = call.arguments.optional_identifier("emrId")
    if emr_id is not None:
        return PurgeableList(_only_some([await _purgeable(call, emr_id)]), "")
    page_size, bookmark = call.arguments.page_size(), call.arguments.bookmark(composite_key(*_ALL_ACCESS))
    page = await call.state.page(_ALL_ACCESS, page_size, bookmark)
    sharings = [split_composite_key(item.key)[1] for item in page.items]
    emr_ids = [emr_id for emr_id, recipient in sharings if recipient == call.caller.msp_id]
    return PurgeableList(
        _only_some([await _purgeable(call, emr_id) for emr_id in emr_ids]), encode_bookmark(page.bookmark)
    )


async def purge_snapshots(call: Call) -> Nothing:
    """Writes nothing but the caller's own collection: its own peer alone endorses it."""
    emr_id, snapshots = call.arguments.identifier("emrId"), call.arguments.snapshots("snapshots")
    if await _in_use(call, emr_id) in snapshots:
        raise Refused(Code.SNAPSHOT_IN_USE)
    for sharing, version in snapshots:
        call.state.purge(call.caller.msp_id, keys.snapshot(emr_id, sharing, version))
    return Nothing()


async def _purgeable(call: Call, emr_id: str) -> PurgeableEmr:
    """Every snapshot that was ever shared, is not in use and is still held."""
    recipient = call.caller.msp_id
    ever = await call.state.history(Access, keys.access(emr_id, recipient))
    shared = {(access.number, access.snapshot.version) for access in ever if access.snapshot}
    candidates = sorted(shared - {await _in_use(call, emr_id)})
    held = [item for item in candidates if await call.state.is_held(recipient, keys.snapshot(emr_id, *item))]
    return PurgeableEmr(emr_id, tuple(f"{sharing}~{version}" for sharing, version in held))


async def _in_use(call: Call, emr_id: str) -> tuple[int, int] | None:
    """The snapshot of a sharing that stands; none once the EMR is erased."""
    record = await call.state.record(emr_id)
    if record.life is Life.ERASED:
        return None
    sharing = await call.state.sharing(emr_id, call.caller.msp_id)
    return sharing_rules.snapshot_in_use(sharing.access, sharing.end, call.now)


def _only_some(listed: list[PurgeableEmr]) -> tuple[PurgeableEmr, ...]:
    return tuple(item for item in listed if item.snapshots)
