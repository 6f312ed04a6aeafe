"""Hospitals: what each says about itself."""

from __future__ import annotations

from emr_model.ledger import keys
from emr_model.ledger.answers import OrganizationList, OrganizationRegistered, OrganizationView
from emr_model.ledger.codes import Code
from emr_model.ledger.keys import Key, ObjectType
from emr_model.ledger.refusals import Refused
from emr_model.ledger.values import Event, Organization
from hlf.chaincode import KeyValue, composite_key, split_composite_key

from emr_chaincode.arguments import encode_bookmark
from emr_chaincode.call import Call
from emr_chaincode.state import decode

_ALL = Key(ObjectType.ORGANIZATION, ())


async def register_organization(call: Call) -> OrganizationRegistered:
    """For the caller's own hospital: there is no argument that could name another."""
    profile = call.arguments.profile("profile")
    key = keys.organization(call.caller.msp_id)
    known = await call.state.get(Organization, key)
    organization = Organization(
        name=profile.name,
        sealing_keys=profile.sealing_keys,
        by=call.caller.enrolment_id,
        at=call.now,
        event=Event.ORGANIZATION_REGISTERED,
    )
    call.state.put(key, organization)
    return OrganizationRegistered(created=known is None)


async def get_organization(call: Call) -> OrganizationView:
    msp_id = call.arguments.msp_id("mspId")
    organization = await call.state.get(Organization, keys.organization(msp_id))
    if organization is None:
        raise Refused(Code.ORGANIZATION_NOT_FOUND)
    return OrganizationView(msp_id, organization)


async def list_organizations(call: Call) -> OrganizationList:
    bookmark = call.arguments.bookmark(composite_key(*_ALL))
    page = await call.state.page(_ALL, call.arguments.page_size(), bookmark)
    return OrganizationList(tuple(map(_view, page.items)), encode_bookmark(page.bookmark))


def _view(item: KeyValue) -> OrganizationView:
    _, (msp_id,) = split_composite_key(item.key)
    organization = decode(Organization, item.value)
    assert organization is not None
    return OrganizationView(msp_id, organization)
