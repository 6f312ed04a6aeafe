"""The contract's functions: names, who may call them, what they take.

The contract refuses by this table, the services call by it, and ``docs/chaincode.md`` explains it. Arguments are
UTF-8 strings in the order of ``arguments``; those after the required ones may be left out from the end, or be empty.
Rules beyond the role (the caller's own hospital, the patient's bound key, versions) are in the contract.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum


class Role(StrEnum):
    """The certificate attribute ``emr.role``."""

    HEALTHCENTER = "healthcenter"
    PHYSICIAN = "physician"
    PATIENT = "patient"
    ADMIN = "admin"
    SERVICE = "service"


class Kind(StrEnum):
    EVALUATE = "evaluate"
    SUBMIT = "submit"


class Endorsers(StrEnum):
    """Whose peers must endorse a transaction.

    ``OWNER``: the peer of the EMR's owner alone suffices, so no other hospital can veto or delay. ``CALLER``: the
    caller's own.
    """

    ALL = "all"
    OWNER = "owner"
    CALLER = "caller"


@dataclass(frozen=True, slots=True)
class Spec:
    kind: Kind
    roles: frozenset[Role]
    required: tuple[str, ...]
    optional: tuple[str, ...] = ()
    transient: str | None = None
    endorsers: Endorsers = Endorsers.ALL
    endorsed_by: tuple[str, ...] = ()
    """Arguments that name hospitals whose peers must endorse beside the caller's own, even where a majority suffices:
    the EMR's owner, and whoever's collection is written."""

    @property
    def arguments(self) -> tuple[str, ...]:
        return self.required + self.optional


_ANYONE = frozenset(Role)
_STAFF = frozenset({Role.HEALTHCENTER, Role.PHYSICIAN})
_PAGE = ("pageSize", "bookmark")


def _evaluate(roles: frozenset[Role] | Role, *required: str, optional: tuple[str, ...] = ()) -> Spec:
    return Spec(Kind.EVALUATE, _roles(roles), required, optional)


def _submit(
    roles: frozenset[Role] | Role,
    *required: str,
    optional: tuple[str, ...] = (),
    transient: str | None = None,
    endorsers: Endorsers = Endorsers.ALL,
    endorsed_by: tuple[str, ...] = (),
) -> Spec:
    return Spec(Kind.SUBMIT, _roles(roles), required, optional, transient, endorsers, endorsed_by)


def _roles(roles: frozenset[Role] | Role) -> frozenset[Role]:
    return frozenset({roles}) if isinstance(roles, Role) else roles


class Function(Enum):
    """A member's name for Python; ``wire_name`` is what a proposal carries."""

    REGISTER_ORGANIZATION = ("RegisterOrganization", _submit(Role.ADMIN, "profile"))
    GET_ORGANIZATION = ("GetOrganization", _evaluate(_ANYONE, "mspId"))
    LIST_ORGANIZATIONS = ("ListOrganizations", _evaluate(_ANYONE, optional=_PAGE))

    CREATE_EMR = (
        "CreateEmr",
        _submit(
            Role.HEALTHCENTER, "emrId", "patientId", "patientKey", "commitment", "sha256", transient="demographics"
        ),
    )
    CHECK_IS_PATIENT_REGISTERED = ("CheckIsPatientRegistered", _evaluate(Role.HEALTHCENTER, "patientId"))
    UPDATE_DEMOGRAPHICS = (
        "UpdateDemographics",
        _submit(Role.HEALTHCENTER, "emrId", "expectedRevision", "commitment", "sha256", transient="demographics"),
    )
    REBIND_PATIENT_KEY = ("RebindPatientKey", _submit(Role.HEALTHCENTER, "emrId", "patientKey"))
    READ_EMR = (
        "ReadEmr",
        _evaluate(frozenset({Role.PHYSICIAN, Role.SERVICE}), "emrId", optional=("fromVersion", "limit")),
    )
    GET_EMR_BY_PATIENT_ID = ("GetEmrByPatientId", _evaluate(Role.PHYSICIAN, "patientId"))
    ADD_EMR_NOTE = (
        "AddEmrNote",
        _submit(
            Role.PHYSICIAN, "emrId", "expectedVersion", "noteId", "isVisit", "commitment", "sha256", transient="note"
        ),
    )

    REQUEST_EMR_ACCESS = (
        "RequestEmrAccess",
        _submit(_STAFF, "ownerMsp", "patientId", "purpose", endorsed_by=("ownerMsp",)),
    )
    AUTHORIZE_EMR_READING = (
        "AuthorizeEmrReading",
        _submit(Role.HEALTHCENTER, "emrId", "recipientMsp", "version", "recipientKeyId"),
    )
    END_EMR_READING = (
        "EndEmrReading",
        _submit(Role.HEALTHCENTER, "emrId", "recipientMsp", "why", endorsers=Endorsers.OWNER),
    )
    APPROVE_EMR_SHARING = (
        "ApproveEmrSharing",
        _submit(Role.PATIENT, "recipientMsp", "version", optional=("expiresAt",)),
    )
    REMOVE_EMR_SHARING = ("RemoveEmrSharing", _submit(Role.PATIENT, "recipientMsp", endorsers=Endorsers.OWNER))
    SHARE_EMR_SNAPSHOT = (
        "ShareEmrSnapshot",
        _submit(
            Role.SERVICE,
            "emrId",
            "recipientMsp",
            "version",
            "sha256",
            transient="snapshot",
            endorsed_by=("recipientMsp",),
        ),
    )
    EXPIRE_SHARING = ("ExpireSharing", _submit(Role.SERVICE, "emrId", "recipientMsp", endorsers=Endorsers.OWNER))
    GET_SHARING = ("GetSharing", _evaluate(_STAFF | {Role.SERVICE, Role.PATIENT}, "emrId", "recipientMsp"))

    GET_SHARED_EMR = (
        "GetSharedEMR",
        _submit(Role.PHYSICIAN, "ownerMsp", "patientId", "purpose", endorsed_by=("ownerMsp",)),
    )
    READ_SHARED_EMR = ("ReadSharedEmr", _evaluate(Role.PHYSICIAN, "receipt"))
    LIST_PURGEABLE_SNAPSHOTS = (
        "ListPurgeableSnapshots",
        _evaluate(Role.SERVICE, optional=("emrId", *_PAGE)),
    )
    PURGE_SNAPSHOTS = (
        "PurgeSnapshots",
        _submit(Role.SERVICE, "emrId", "snapshots", endorsers=Endorsers.CALLER),
    )

    GET_OWN_EMR = ("GetOwnEmr", _evaluate(Role.PATIENT, optional=("fromVersion", "limit")))
    GET_MEDICAL_VISIT_COUNT = ("GetMedicalVisitCount", _evaluate(Role.PATIENT, "providerMsp"))
    GET_OWN_SHARINGS = ("GetOwnSharings", _evaluate(Role.PATIENT, optional=_PAGE))
    GET_OWN_DISCLOSURES = ("GetOwnDisclosures", _evaluate(Role.PATIENT, optional=_PAGE))

    REQUEST_ERASURE = ("RequestErasure", _submit(Role.PATIENT, endorsers=Endorsers.OWNER))
    CANCEL_ERASURE = ("CancelErasure", _submit(Role.PATIENT, endorsers=Endorsers.OWNER))
    ERASE_EMR = ("EraseEmr", _submit(Role.HEALTHCENTER, "emrId", endorsers=Endorsers.OWNER))

    @property
    def wire_name(self) -> str:
        return self.value[0]

    @property
    def spec(self) -> Spec:
        return self.value[1]

    @classmethod
    def by_wire_name(cls, name: str) -> Function | None:
        return _BY_WIRE_NAME.get(name)


_BY_WIRE_NAME = {function.wire_name: function for function in Function}
