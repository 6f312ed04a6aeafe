"""The bodies that fabric-ca's clients send (`api/net.go`); fields that this authority does not use are ignored."""

from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hlf_devnet.ca.errors import CaCode, CaRefused

Request = TypeVar("Request", bound="_Body")


class _Body(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    caname: str = ""


class Attribute(BaseModel):
    """`ecert`: whether it goes into every enrolment certificate by default."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: Annotated[str, Field(min_length=1)]
    value: str = ""
    ecert: bool = False


class AttributeRequest(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    name: str
    optional: bool = False


class Enroll(_Body):
    """`attr_reqs` None: the attributes marked `ecert`."""

    certificate_request: str
    profile: str = ""
    attr_reqs: tuple[AttributeRequest, ...] | None = None


class Register(_Body):
    id: Annotated[str, Field(min_length=1, max_length=64)]
    type: str = ""
    secret: str = ""
    max_enrollments: int = 0
    affiliation: str = ""
    attrs: tuple[Attribute, ...] | None = None


class Revoke(_Body):
    id: str = ""
    serial: str = ""
    aki: str = ""
    reason: str = ""
    gencrl: bool = False


class GenCrl(_Body):
    pass


class Info(_Body):
    pass


def parse(model: type[Request], body: bytes) -> Request:
    """Raises CaRefused; the text names fields, never values."""
    if not body:
        raise CaRefused(400, CaCode.EMPTY_BODY, "Empty request body")
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise CaRefused(400, CaCode.BAD_BODY, f"Invalid request body: {faults}") from error
