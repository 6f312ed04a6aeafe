"""Every process of a system: how it is started, what it is told, and how one sees that it is ready."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator

from emr_network.home import Home
from emr_network.material import peer_organization
from emr_network.ports import HOST, SERVICES, Ports, peer_ports
from emr_network.topology import Organization, Topology

from emr_deploy.administration.underway import Underway
from emr_deploy.clients import audience, issuer_url
from emr_deploy.kafka import Kafka
from emr_deploy.networks.base import LedgerNetwork, Site, chaincode_process
from emr_deploy.networks.devnet import DevnetNetwork
from emr_deploy.networks.fabric import FabricNetwork
from emr_deploy.postgres import Postgres
from emr_deploy.process import Process, Stage
from emr_deploy.supervisor import Program

IDENTIFIER_SYSTEMS = (
    "http://hospital.smarthealthit.org",
    "https://github.com/synthetichealth/synthea",
    "urn:uuid:6f2a1d3e-9c47-5b8a-a1f0-2d4e6c8b0a17",  # carebundle's
)
"""By which of a Patient's identifiers admission recognizes a person, the best first."""
PSEUDONYM_KEYS = {"registration": "identifier.key", "records": "note-id.key", "projector": "pseudonym.key"}
MODULES = {
    "registration": "emr_registration",
    "records": "emr_records",
    "consent": "emr_consent",
    "sharer": "emr_consent.sharer",
    "relay": "emr_indexer.relay",
    "projector": "emr_indexer.projector",
    "indexer": "emr_indexer",
}
Say = Callable[[str], None]
TELEMETRY = "EMR_TELEMETRY__OTLP_ENDPOINT"
"""Taken from the environment of whoever starts the system."""
WEBHOOK_NETWORKS, WEBHOOK_CAS = "EMR_WEBHOOKS__ALLOWED_NETWORKS", "EMR_WEBHOOKS__CA_FILE"
"""The same: where webhooks may be posted to beside public addresses, and by which CAs."""
SCALABLE = ("registration", "records", "consent", "indexer")


def network_of(home: Home, topology: Topology, ports: Ports, say: Say = lambda _: None) -> LedgerNetwork:
    site = Site(home, topology, ports)
    return FabricNetwork(site, say) if topology.ledger == "fabric" else DevnetNetwork(site)


def processes(
    home: Home, topology: Topology, ports: Ports, instances: dict[str, int], change: Underway | None = None
) -> list[Process]:
    """All of them; `instances` says for `records-a` and the like how many there are when it is not one. A change that
    is under way has processes of the network beside those of the topology."""
    return [
        *_network(home, topology, ports, change),
        *_stores(home, ports),
        *(one for organization in topology.organizations for one in _services(home, organization, ports, instances)),
    ]


def _network(home: Home, topology: Topology, ports: Ports, change: Underway | None) -> Iterator[Process]:
    """A newcomer's processes belong to it as soon as its certificates are there."""
    extended = topology
    if change is not None and change.kind == "add-org" and change.organization is not None:
        is_made = peer_organization(home, change.organization).root.exists()
        if is_made and change.organization not in topology.organizations:
            extended = topology.with_organization(change.organization)
    yield from network_of(home, extended, ports).processes()
    if change is not None and change.chaincode is not None and change.chaincode.slot != topology.chaincode.slot:
        for organization in topology.organizations:
            yield chaincode_process(Site(home, topology, ports), organization, change.chaincode)


def _stores(home: Home, ports: Ports) -> Iterator[Process]:
    postgres = Program("postgres", Postgres(home, ports).command(), stop_signal="INT", stop_seconds=30)
    yield Process(postgres, Stage.STORES, ports["postgres"], "postgres")
    yield Process(Program("kafka", Kafka(home, ports).command()), Stage.STORES, ports["kafka"], "kafka")
    issuer = Program("issuer", [sys.executable, "-m", "emr_deploy.issuer", str(home.root)])
    yield Process(issuer, Stage.STORES, ports["issuer"], "issuer")


def _services(home: Home, organization: Organization, ports: Ports, instances: dict[str, int]) -> Iterator[Process]:
    for service in SERVICES:
        first = f"{service}-{organization.name}"
        for instance in range(1, instances.get(first, 1) + 1):
            name = first if instance == 1 else f"{first}-{instance}"
            ports.add_instance(name, first, instance)
            environment = environment_of(home, organization, ports, service, ports[name])
            program = Program(name, [sys.executable, "-m", MODULES[service]], environment, stop_seconds=35)
            yield Process(program, Stage.SERVICES, ports[name], service, organization.name)


def environment_of(home: Home, organization: Organization, ports: Ports, service: str, port: int) -> dict[str, str]:
    """The settings of one process: each gets the keys that its own work needs and no others."""
    folder = peer_organization(home, organization)
    settings = {
        "EMR_ORG_MSP_ID": organization.msp_id,
        "EMR_HTTP__HOST": HOST,
        "EMR_HTTP__PORT": str(port),
        "EMR_LEDGER__ENDPOINTS": ",".join(ports.address(name) for name in peer_ports(organization)),
        "EMR_LEDGER__TLS_CA_FILE": str(folder.tls_ca_certificate),
        "EMR_LEDGER__IDENTITY_DIR": str(folder.user("service")),
        "EMR_DATABASE__URL_FILE": str(home.secret(organization.name, "database-url")),
        "EMR_LOG__FORMAT": "json",
    }
    if collector := os.environ.get(TELEMETRY):
        settings[TELEMETRY] = collector
    if service in {"registration", "records", "consent", "indexer"}:
        settings |= _for_callers(home, organization, ports)
    if service == "consent":
        settings[WEBHOOK_NETWORKS] = os.environ.get(WEBHOOK_NETWORKS, "")
        if cas := os.environ.get(WEBHOOK_CAS):
            settings[WEBHOOK_CAS] = cas
    if service in {"registration", "records", "consent", "sharer", "projector"}:
        settings["EMR_SEALING__WRAPPING_KEYSET_FILE"] = str(home.secret(organization.name, "wrapping.keyset"))
    if service == "records":
        private = home.secret(organization.name, "sealing-private.keyset")
        settings["EMR_SEALING__PRIVATE_KEYSET_FILE"] = str(private)
    if service in {"sharer", "relay", "projector", "indexer"}:
        settings["EMR_KAFKA__BOOTSTRAP_SERVERS"] = ports.address("kafka")
        settings["EMR_KAFKA__TOPIC_PREFIX"] = organization.name
    if service in PSEUDONYM_KEYS:
        settings["EMR_PSEUDONYM__KEY_FILE"] = str(home.secret(organization.name, PSEUDONYM_KEYS[service]))
    if service == "records":
        settings["EMR_PSEUDONYM__IDENTIFIER_KEY_FILE"] = str(home.secret(organization.name, "identifier.key"))
    if service in {"registration", "records"}:
        settings["EMR_PSEUDONYM__IDENTIFIER_SYSTEMS"] = ",".join(IDENTIFIER_SYSTEMS)
    if service == "registration":
        settings["EMR_CA__URL"] = f"https://{ports.address(f'ca-{organization.name}')}"
        settings["EMR_CA__TLS_CA_FILE"] = str(folder.tls_ca_certificate)
        settings["EMR_CA__REGISTRAR_DIR"] = str(home.secret(organization.name, "registrar"))
    return settings


def _for_callers(home: Home, organization: Organization, ports: Ports) -> dict[str, str]:
    return {
        "EMR_AUTH__ISSUER": issuer_url(ports, organization.name),
        "EMR_AUTH__AUDIENCE": audience(organization.msp_id),
        "EMR_WALLET__KEYSET_FILE": str(home.secret(organization.name, "wallet.keyset")),
    }
