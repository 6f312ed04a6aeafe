"""An organization's verifying MSP as channel configuration carries it (`msp/configbuilder.go`)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from fabric_protos.msp import msp_config_pb2

NODE_OUS = ("client", "peer", "admin", "orderer")
"""The organizational units by which NodeOUs tell roles apart, named like the roles."""

_FABRIC_MSP = 0  # msp/msp.go: FABRIC


@dataclass(frozen=True)
class MspDefinition:
    """What others need to verify an organization's members. All PEM; every member is told by its NodeOU."""

    msp_id: str
    root_certs: tuple[bytes, ...]
    tls_root_certs: tuple[bytes, ...]
    intermediate_certs: tuple[bytes, ...] = ()
    revocation_list: tuple[bytes, ...] = ()

    @classmethod
    def from_dir(cls, path: str | Path, msp_id: str) -> Self:
        """Reads Fabric's folder layout: `cacerts`, `tlscacerts`, and where they exist `intermediatecerts` and `crls`.
        FileNotFoundError without a root certificate."""
        folder = Path(path)
        return cls(
            msp_id,
            _pems(folder / "cacerts", required=True),
            _pems(folder / "tlscacerts", required=True),
            _pems(folder / "intermediatecerts"),
            _pems(folder / "crls"),
        )

    def to_config(self) -> Any:
        """The `msp.MSPConfig` with all four NodeOUs bound to the first root certificate."""
        units = {
            f"{unit}_ou_identifier": msp_config_pb2.FabricOUIdentifier(
                certificate=self.root_certs[0], organizational_unit_identifier=unit
            )
            for unit in NODE_OUS
        }
        config = msp_config_pb2.FabricMSPConfig(
            name=self.msp_id,
            root_certs=self.root_certs,
            intermediate_certs=self.intermediate_certs,
            tls_root_certs=self.tls_root_certs,
            revocation_list=self.revocation_list,
            crypto_config=msp_config_pb2.FabricCryptoConfig(
                signature_hash_family="SHA2", identity_identifier_hash_function="SHA256"
            ),
            fabric_node_ous=msp_config_pb2.FabricNodeOUs(enable=True, **units),
        )
        return msp_config_pb2.MSPConfig(type=_FABRIC_MSP, config=config.SerializeToString(deterministic=True))

    @classmethod
    def from_config(cls, message: Any) -> Self:
        """Reads a `msp.MSPConfig`."""
        config = msp_config_pb2.FabricMSPConfig.FromString(message.config)
        return cls(
            config.name,
            tuple(config.root_certs),
            tuple(config.tls_root_certs),
            tuple(config.intermediate_certs),
            tuple(config.revocation_list),
        )


def _pems(folder: Path, *, required: bool = False) -> tuple[bytes, ...]:
    files = sorted(file for file in folder.iterdir() if file.is_file()) if folder.is_dir() else []
    if required and not files:
        raise FileNotFoundError(f"{folder} holds no certificate")
    return tuple(file.read_bytes() for file in files)
