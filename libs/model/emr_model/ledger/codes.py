"""Every stable error code of the system: what the chaincode answers and what the APIs answer.

A chaincode message begins with its code (``EMR_NOT_FOUND: …``); a problem document carries it as ``code``. Clients
match the code, never the text. ``docs/api/errors.md`` is generated from this enumeration.
"""

from __future__ import annotations

from enum import Enum


class Code(Enum):
    """A stable code: the member's name, the HTTP status that goes with it, and a title for people."""

    # the request itself
    MALFORMED_REQUEST = (400, "The request cannot be read")
    BLOCK_UNKNOWN = (400, "The ledger has no such block yet")
    TOKEN_INVALID = (401, "The bearer token is missing, malformed, expired or not meant for this service")
    IDENTITY_UNKNOWN = (403, "The token's subject is not enrolled at this hospital")
    CERTIFICATE_REFUSED = (403, "The hospitals' peers do not accept the caller's certificate: revoked or expired")
    ROLE_NOT_ALLOWED = (403, "The caller's role may not do this")
    NOT_FOUND = (404, "There is no such resource")
    METHOD_NOT_ALLOWED = (405, "The resource does not know this method")
    REQUEST_TIMEOUT = (408, "The body did not come in time")
    CONTENT_TOO_LARGE = (413, "The body is over its limit")
    UNSUPPORTED_MEDIA_TYPE = (415, "The body's media type is not understood")
    VALIDATION_FAILED = (422, "The body does not have the form that the operation asks for")
    BUNDLE_INVALID = (422, "The FHIR bundle cannot be turned into notes")
    IDEMPOTENCY_KEY_MISSING = (422, "A writing request needs an Idempotency-Key")
    IDEMPOTENCY_KEY_REUSED = (422, "The Idempotency-Key was used with another request")
    IDEMPOTENCY_IN_PROGRESS = (409, "A request with this Idempotency-Key is still under way")
    TOO_MANY_REQUESTS = (429, "Too many requests")

    # callers who keep their own key
    SIGNATURE_NEEDED = (403, "The caller keeps the key: the operation has to be prepared and signed")
    KEY_HELD_HERE = (409, "The hospital keeps the caller's key: the operation is called itself")
    CERTIFICATE_REQUEST_INVALID = (422, "The certificate request is not one that the hospital's CA may sign")
    SIGNATURE_INVALID = (422, "The signature is not one of the caller's key over the bytes of this step")
    STEP_NOT_READY = (409, "The step before this one has not been taken, or this is no step of such a call")
    PREPARATION_EXPIRED = (410, "The prepared call was not endorsed, or not submitted, in time")

    # hospitals and people
    ORGANIZATION_NOT_FOUND = (404, "There is no such hospital")
    ORGANIZATION_NOT_OWN = (403, "A hospital writes its own profile only")
    STAFF_NOT_FOUND = (404, "There is no such member of staff")
    SUBJECT_ALREADY_ENROLLED = (409, "The token's subject is already enrolled")
    PATIENT_ALREADY_REGISTERED = (409, "The patient is already registered at this hospital")
    PATIENT_NOT_REGISTERED = (404, "The patient is not registered at this hospital")

    # EMRs and notes
    EMR_NOT_FOUND = (404, "There is no such EMR at this hospital")
    EMR_EXISTS = (409, "The EMR exists already")
    EMR_ERASED = (410, "The EMR was erased")
    EMR_NOT_OWNED = (403, "The EMR belongs to another hospital")
    ERASURE_REQUESTED = (409, "The patient has asked for the EMR's erasure")
    ERASURE_NOT_REQUESTED = (409, "The patient has not asked for the EMR's erasure")
    NOTE_NOT_FOUND = (404, "The EMR has no such note")
    NOTE_ID_EXISTS = (409, "The EMR has a note with this id")
    NOTE_ID_REUSED = (409, "The EMR has a note with this id and other content")
    VERSION_CONFLICT = (412, "The version is not the one that is meant")
    CONTENT_UNAVAILABLE = (503, "The content is not at this hospital's peer yet")
    CONTENT_MISMATCH = (500, "The content is not what the ledger says it is")
    OWNER_DID_NOT_ENDORSE = (500, "The ledger says of the EMR what its owner did not endorse")
    IMPORT_NOT_FOUND = (404, "There is no such import")
    PATIENT_KEY_NOT_BOUND = (403, "The certificate's key is not the one bound to the patient")
    PROVIDER_NOT_OWN = (403, "A visit count is given for the caller's own hospital only")

    # sharing
    SHARING_WITH_SELF = (409, "A hospital does not share with itself")
    SHARING_NOT_FOUND = (404, "There is no such sharing")
    SHARING_ENDED = (409, "The sharing has ended")
    SHARING_EXPIRED = (409, "The sharing has expired")
    SHARING_NOT_EXPIRED = (409, "The sharing has not expired")
    SHARING_NOT_APPROVED = (409, "The sharing does not have both approvals")
    REQUEST_EXISTS = (409, "The request exists already")
    APPROVAL_VERSION_UNKNOWN = (412, "Nobody means the version that is approved")
    RECIPIENT_KEY_UNKNOWN = (412, "The recipient has no sealing key with this id")
    SNAPSHOT_PENDING = (409, "Both sides have approved; the snapshot is not there yet")
    SNAPSHOT_EXISTS = (409, "The snapshot of this version is there already")
    SNAPSHOT_VERSION_WRONG = (409, "The snapshot's version is not the approved one")
    SNAPSHOT_NOT_FOUND = (410, "The snapshot is not, or no longer, held here")
    SNAPSHOT_IN_USE = (409, "The snapshot belongs to a sharing that stands")
    ACCESS_NOT_GRANTED = (403, "No access to such a patient's record has been granted")
    RECEIPT_INVALID = (403, "The receipt is not the caller's")
    RECEIPT_EXPIRED = (410, "The receipt is older than 15 minutes, or its sharing no longer stands")

    # webhooks
    WEBHOOK_NOT_FOUND = (404, "There is no such webhook")
    WEBHOOK_ADDRESS_REFUSED = (422, "The webhook's address is none that may be posted to")
    WEBHOOK_LIMIT = (409, "The hospital has as many webhooks as it may have")

    # the ledger and what stands on it
    ARGUMENT_INVALID = (400, "An argument does not have the form that the function asks for")
    FUNCTION_UNKNOWN = (404, "The contract has no such function")
    TIMESTAMP_REFUSED = (400, "The transaction's time is more than five minutes from the endorser's clock")
    CONFLICT = (409, "Another transaction changed the same record at the same time")
    TRANSACTION_INVALID = (409, "The ledger refused the transaction")
    TRANSACTION_NOT_FOUND = (404, "There is no such transaction")
    ENDORSEMENT_MISMATCH = (503, "The hospitals' peers gave different answers")
    HOSPITAL_UNAVAILABLE = (503, "A hospital whose endorsement is needed cannot be reached")
    LEDGER_UNAVAILABLE = (503, "The ledger cannot be reached")
    CA_UNAVAILABLE = (503, "The certificate authority cannot be reached")
    ISSUER_UNAVAILABLE = (503, "The token issuer's keys cannot be fetched")
    DATABASE_UNAVAILABLE = (503, "The database cannot be reached")
    INDEX_BEHIND = (503, "The read model has not reached the block in time")
    OVERLOADED = (503, "Too much work at once")
    INTERNAL_ERROR = (500, "Something failed here")

    @property
    def status(self) -> int:
        return self.value[0]

    @property
    def title(self) -> str:
        return self.value[1]
