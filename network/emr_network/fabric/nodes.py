"""How one peer and one orderer are started: their environment, and the configuration file that a peer insists on.

A peer takes every setting from the environment but for lists of maps, such as external builders; an orderer only those
that its file has. The settings that differ from Fabric's defaults say why.
"""

from __future__ import annotations

import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from hlf.gateway.endpoint import MAX_MESSAGE_BYTES

from emr_network.topology import ENDORSEMENT_SECONDS

_BUILDER = {
    "detect": '#!/bin/sh\ngrep -q \'"type": *"ccaas"\' "$2/metadata.json"\n',
    "build": '#!/bin/sh\ncp -r "$1"/. "$3"/\n',
    "release": '#!/bin/sh\nmkdir -p "$2/chaincode/server" && cp "$1/connection.json" "$2/chaincode/server/"\n',
}
"""A chaincode-as-a-service builder: nothing is built, the peer only needs to learn where the service is."""


_PING_SECONDS = "30s"
"""Servers hang up on clients that ping more often. Peers and orderers ping each other every 60 s: with Fabric's
default, 60 s as well, a ping that comes a moment early ends the connection."""


@dataclass(frozen=True)
class Tls:
    """A server's TLS certificate, its key, and the authority of its organization."""

    certificate: Path
    key: Path
    ca: Path

    @classmethod
    def in_folder(cls, folder: Path) -> Tls:
        return cls(folder / "server.crt", folder / "server.key", folder / "ca.crt")


@dataclass(frozen=True)
class PeerNode:
    """One official peer. Addresses are `host:port`; `data` keeps everything that it stores.

    `address` is how others reach it; it listens there, unless `listen_host` names another interface.
    """

    name: str
    msp_id: str
    msp: Path
    tls: Tls
    address: str
    chaincode_address: str
    operations_address: str
    data: Path
    gossip_bootstrap: str = ""
    """Another peer of the same organization, where there is one."""
    listen_host: str | None = None

    @property
    def config(self) -> Path:
        return self.data / "config"

    def prepare(self) -> None:
        """Writes the peer's configuration files. Repeatable."""
        write_peer_configuration(self.config)

    def environment(self) -> Mapping[str, str]:
        return {
            "FABRIC_CFG_PATH": str(self.config),
            "FABRIC_LOGGING_SPEC": "warning",
            "CORE_PEER_ID": self.name,
            "CORE_PEER_ADDRESS": self.address,
            "CORE_PEER_LISTENADDRESS": _listening(self.address, self.listen_host),
            "CORE_PEER_CHAINCODEADDRESS": self.chaincode_address,
            "CORE_PEER_CHAINCODELISTENADDRESS": self.chaincode_address,
            "CORE_PEER_LOCALMSPID": self.msp_id,
            "CORE_PEER_MSPCONFIGPATH": str(self.msp),
            "CORE_PEER_FILESYSTEMPATH": str(self.data / "ledger"),
            "CORE_LEDGER_SNAPSHOTS_ROOTDIR": str(self.data / "snapshots"),
            "CORE_PEER_TLS_ENABLED": "true",
            "CORE_PEER_TLS_CERT_FILE": str(self.tls.certificate),
            "CORE_PEER_TLS_KEY_FILE": str(self.tls.key),
            "CORE_PEER_TLS_ROOTCERT_FILE": str(self.tls.ca),
            "CORE_PEER_GOSSIP_BOOTSTRAP": self.gossip_bootstrap or self.address,
            # Without it no other organization's gateway can ask this peer to endorse.
            "CORE_PEER_GOSSIP_EXTERNALENDPOINT": self.address,
            "CORE_OPERATIONS_LISTENADDRESS": self.operations_address,
        }


@dataclass(frozen=True)
class OrdererNode:
    """One official orderer. Its administration port asks for a client certificate of `admin_client_ca`.

    Addresses are how others reach it; it listens there, unless `listen_host` names another interface.
    """

    name: str
    msp_id: str
    msp: Path
    tls: Tls
    address: str
    admin_address: str
    admin_tls: Tls
    admin_client_ca: Path
    operations_address: str
    data: Path
    listen_host: str | None = None

    def prepare(self) -> None:
        """Writes the orderer's configuration file: it knows no variable whose name the file lacks. Repeatable."""
        self.data.mkdir(parents=True, exist_ok=True)
        (self.data / "orderer.yaml").write_text(self.configuration(), encoding="utf-8")

    def environment(self) -> Mapping[str, str]:
        return {"FABRIC_CFG_PATH": str(self.data), "FABRIC_LOGGING_SPEC": "warning"}

    def configuration(self) -> str:
        """The text of `orderer.yaml`."""
        return yaml.safe_dump(self._config(), sort_keys=False)

    def _config(self) -> dict[str, Any]:
        host, _, port = _listening(self.address, self.listen_host).rpartition(":")
        return {
            "General": {
                "ListenAddress": host,
                "ListenPort": int(port),
                "LocalMSPID": self.msp_id,
                "LocalMSPDir": str(self.msp),
                "TLS": _server_tls(self.tls),
                "Cluster": {
                    "ClientCertificate": str(self.tls.certificate),
                    "ClientPrivateKey": str(self.tls.key),
                    "RootCAs": [str(self.tls.ca)],
                },
                "Keepalive": {"ServerMinInterval": _PING_SECONDS, "ServerInterval": "7200s", "ServerTimeout": "20s"},
                "BootstrapMethod": "none",
                "Authentication": {"TimeWindow": "15m"},
                "MaxRecvMsgSize": MAX_MESSAGE_BYTES,
                "MaxSendMsgSize": MAX_MESSAGE_BYTES,
            },
            "ChannelParticipation": {"Enabled": True, "MaxRequestBodySize": "10 MB"},
            "Admin": {
                "ListenAddress": _listening(self.admin_address, self.listen_host),
                "TLS": _server_tls(self.admin_tls)
                | {"ClientAuthRequired": True, "ClientRootCAs": [str(self.admin_client_ca)]},
            },
            "Operations": {"ListenAddress": self.operations_address},
            "Metrics": {"Provider": "prometheus"},
            "FileLedger": {"Location": str(self.data / "ledger")},
            "Consensus": {"WALDir": str(self.data / "wal"), "SnapDir": str(self.data / "snapshots")},
        }


def write_peer_configuration(folder: Path, *, seen_as: Path | None = None) -> None:
    """Writes `core.yaml` and a builder for chaincode services into `folder`, which the peer sees as `seen_as`."""
    (folder / "ccaas" / "bin").mkdir(parents=True, exist_ok=True)
    for name, script in _BUILDER.items():
        path = folder / "ccaas" / "bin" / name
        path.write_text(script, encoding="utf-8")
        path.chmod(path.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP)
    core = core_settings((seen_as or folder) / "ccaas")
    (folder / "core.yaml").write_text(yaml.safe_dump(core, sort_keys=False), encoding="utf-8")


def _listening(address: str, host: str | None) -> str:
    return address if host is None else f"{host}:{address.rpartition(':')[2]}"


def _server_tls(tls: Tls) -> dict[str, Any]:
    return {
        "Enabled": True,
        "Certificate": str(tls.certificate),
        "PrivateKey": str(tls.key),
        "RootCAs": [str(tls.ca)],
    }


def core_settings(builder: Path) -> dict[str, Any]:
    """The part of `core.yaml` in which our peers differ from the peer's built-in defaults, or for which it has none.

    `builder` is the folder of a chaincode-as-a-service builder.
    """
    return {
        "peer": {
            "networkId": "care",
            "keepalive": {"minInterval": _PING_SECONDS},
            "gossip": {
                "useLeaderElection": False,
                "orgLeader": True,
                # Gossip that lost a peer finds it again in 2 s, not in 25.
                "reconnectInterval": "2s",
                "state": {"enabled": False},
                "pvtData": {
                    # Else one member can hold up another's commits for a minute, with transactions that are invalid.
                    "skipPullingInvalidTransactionsDuringCommit": True,
                    "pullRetryThreshold": "2s",
                    "transientstoreMaxBlockRetention": 20000,
                    "pushAckTimeout": "3s",
                    "btlPullMargin": 10,
                    "reconcileBatchSize": 10,
                    "reconcileSleepInterval": "5s",
                    "reconciliationEnabled": True,
                    "implicitCollectionDisseminationPolicy": {"requiredPeerCount": 0, "maxPeerCount": 1},
                },
            },
            "authentication": {"timewindow": "15m"},
            "gateway": {
                "enabled": True,
                "endorsementTimeout": f"{ENDORSEMENT_SECONDS}s",
                "broadcastTimeout": "30s",
                "dialTimeout": "2m",
            },
            "limits": {"concurrency": {"endorserService": 2500, "deliverService": 2500, "gatewayService": 500}},
            "discovery": {"enabled": True, "authCacheEnabled": True, "authCacheMaxSize": 1000},
            "BCCSP": {"Default": "SW", "SW": {"Hash": "SHA2", "Security": 256}},
            "maxRecvMsgSize": MAX_MESSAGE_BYTES,
            "maxSendMsgSize": MAX_MESSAGE_BYTES,
            "deliveryclient": {
                # Each peer pulls every block itself. One that has got some from another peer of its organization before
                # its own stream began can verify no block of that stream, ever, and stands still without the other.
                "blockGossipEnabled": False,
                "reconnectTotalTimeThreshold": "3600s",
                "connTimeout": "3s",
                "reConnectBackoffThreshold": "2s",
            },
            "handlers": {
                "authFilters": [{"name": "DefaultAuth"}, {"name": "ExpirationCheck"}, {"name": "TimeWindowCheck"}],
                "decorators": [{"name": "DefaultDecorator"}],
                "endorsers": {"escc": {"name": "DefaultEndorsement"}},
                "validators": {"vscc": {"name": "DefaultValidation"}},
            },
            "localMspType": "bccsp",
            "validatorPoolSize": 2,
        },
        # Chaincode runs as a service only: there is no Docker to start it with.
        "vm": {"endpoint": ""},
        "chaincode": {
            "externalBuilders": [{"name": "ccaas", "path": str(builder)}],
            "installTimeout": "300s",
            "startuptimeout": "30s",
            "executetimeout": "30s",
            "mode": "net",
            "keepalive": 0,
            "system": {"_lifecycle": "enable", "cscc": "enable", "lscc": "enable", "qscc": "enable"},
            "logging": {"level": "warning", "shim": "warning"},
            "runtimeParams": {
                "useWriteBatch": True,
                "maxSizeWriteBatch": 1000,
                "useGetMultipleKeys": True,
                "maxSizeGetMultipleKeys": 1000,
            },
        },
        "ledger": {
            "state": {"stateDatabase": "goleveldb", "totalQueryLimit": 100000},
            "history": {"enableHistoryDatabase": True},
            # Purged values leave the disk within so many blocks.
            "pvtdataStore": {
                "purgeInterval": 10,
                "purgedKeyAuditLogging": False,
                "collElgProcMaxDbBatchSize": 5000,
                "collElgProcDbBatchesInterval": 1000,
                "deprioritizedDataReconcilerInterval": "60m",
            },
        },
        "metrics": {"provider": "prometheus"},
    }
