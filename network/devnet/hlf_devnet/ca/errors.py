"""What the authority refuses, with fabric-ca's HTTP status and error code (`lib/caerrors`)."""

from enum import IntEnum


class CaCode(IntEnum):
    UNKNOWN = 0
    METHOD_NOT_ALLOWED = 1
    NO_AUTHORIZATION_HEADER = 2
    EMPTY_BODY = 4
    BAD_BODY = 5
    CERTIFICATE_NOT_FOUND = 8
    CERTIFICATE_OF_ANOTHER = 9
    IDENTITY_NOT_FOUND = 10
    NOTHING_TO_REVOKE = 15
    CA_NOT_FOUND = 19
    AUTHENTICATION = 20
    BAD_CSR = 31
    ALREADY_REVOKED = 66
    AUTHORIZATION = 71
    DUPLICATE_IDENTITY = 74
    WRONG_COMMON_NAME = 77
    INVALID_MAX_ENROLLMENTS = 82


class CaRefused(Exception):
    """A request that the authority does not grant."""

    def __init__(self, status: int, code: CaCode, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class AuthenticationFailed(CaRefused):
    """Why stays in the log: the caller learns no more than that."""

    def __init__(self, reason: str) -> None:
        super().__init__(401, CaCode.AUTHENTICATION, "Authentication failure")
        self.reason = reason


class NotAuthorized(CaRefused):
    """As AuthenticationFailed."""

    def __init__(self, reason: str) -> None:
        super().__init__(403, CaCode.AUTHORIZATION, "Authorization failure")
        self.reason = reason
