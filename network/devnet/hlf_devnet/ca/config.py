"""Which authorities the process serves, read from one YAML file; relative paths count from that file's folder."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from hlf_devnet.config import Address, ConfigPath, Name, Section, read_yaml


class Registrar(Section):
    """The identity that is there from the start and may register and revoke others; its secret is in a file."""

    id: Name
    secret_file: ConfigPath


class Authority(Section):
    """`crl_file`: where the newest revocation list is written for whoever must refuse the revoked."""

    name: Name
    msp_id: Name
    listen: Address
    ca_cert: ConfigPath
    ca_key: ConfigPath
    tls_cert: ConfigPath
    tls_key: ConfigPath
    registrar: Registrar
    crl_file: ConfigPath


class CaConfig(Section):
    data_dir: ConfigPath
    authorities: Annotated[tuple[Authority, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        names = [authority.name for authority in self.authorities]
        if len(set(names)) != len(names):
            raise ValueError("two authorities share a name")
        return self


def load(path: Path) -> CaConfig:
    return read_yaml(CaConfig, path)
