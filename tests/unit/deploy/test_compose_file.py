"""docker-compose.yaml and the Dockerfiles keep what docs/compose.md promises. Read as files: no Docker is needed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from emr_common.problems import MEDIA_TYPE, Problem
from emr_common.settings import known_variables
from emr_deploy.compose import places
from emr_deploy.compose.deliver import FILES, PACKAGE_ID
from emr_deploy.compose.nodes import orderer_node, peer_environment
from emr_deploy.compose.steps import containers_topology
from emr_deploy.kafka import Kafka
from emr_deploy.programs import MODULES, environment_of
from emr_model.ledger.codes import Code
from emr_network.home import CHECKOUT, TOPOLOGY, Home
from emr_network.ports import SERVICES, Ports, orderer_ports
from emr_network.topology import Organization

COMPOSE: dict[str, Any] = yaml.safe_load((CHECKOUT / "docker-compose.yaml").read_text(encoding="utf-8"))
CONTAINERS: dict[str, dict[str, Any]] = COMPOSE["services"]
ONE_SHOT = {"volumes", "prepare", "found", "demo", "emr"}
LASTING = sorted(CONTAINERS.keys() - ONE_SHOT)
TOPOLOGY_OF_CONTAINERS = containers_topology(TOPOLOGY)
HOSPITALS = {one.name: one for one in TOPOLOGY_OF_CONTAINERS.organizations}
OF_HOSPITALS = sorted((service, name) for service in SERVICES for name in HOSPITALS)
DOCKERFILES = sorted((CHECKOUT / "deploy" / "docker").rglob("Dockerfile"))
EXACT = re.compile(r"[a-z0-9/-]+:(\d+(\.\d+)+|\d+)(-[a-z0-9.]+)?")
DEFAULT = re.compile(r"\$\{[A-Z_]+:-([^}]*)\}")


def environment(name: str) -> dict[str, str]:
    """As the container gets it where nobody has set anything."""
    told = CONTAINERS[name].get("environment", {})
    return {variable: DEFAULT.sub(r"\1", str(value)) for variable, value in told.items()}


def mounted(name: str) -> dict[str, str]:
    """Where each volume of a container is."""
    volumes = (volume.split(":") for volume in CONTAINERS[name].get("volumes", []))
    return {source: target for source, target, *_ in volumes}


def test_the_hospitals_are_those_of_the_topology() -> None:
    assert {name.removeprefix("peer-") for name in CONTAINERS if name.startswith("peer-")} == HOSPITALS.keys()


def test_orderers_are_as_many_as_the_channel_is_made_with() -> None:
    started = {name for name in CONTAINERS if name.startswith("orderer-")}
    assert started == set(orderer_ports(TOPOLOGY_OF_CONTAINERS))


def test_only_apis_are_published_and_only_on_the_loopback_address() -> None:
    published = {name: container["ports"] for name, container in CONTAINERS.items() if "ports" in container}
    assert published.keys() == {f"balancer-{name}" for name in HOSPITALS}
    for name, organization in HOSPITALS.items():
        first = organization.ports.services
        numbers = {service: first + 1 + SERVICES.index(service) for service in places.BALANCED}
        expected = {f"127.0.0.1:{numbers[service]}:{port}" for service, port in places.BALANCED.items()}
        assert set(published[f"balancer-{name}"]) == expected


def test_no_container_uses_the_hosts_network_or_runs_privileged() -> None:
    for name, container in CONTAINERS.items():
        assert container.get("network_mode") in {None, "none"}, name
        assert not container.keys() & {"privileged", "devices", "pid", "ipc", "userns_mode"}, name
        assert not any(source.startswith(("/", ".", "~")) for source in mounted(name)), name


def test_all_networks_but_the_one_of_load_balancers_have_no_way_out() -> None:
    open_networks = {name for name, network in COMPOSE["networks"].items() if not network.get("internal")}
    assert open_networks == {"edge"}
    assert {name for name in CONTAINERS if "edge" in networks(name)} == {f"balancer-{name}" for name in HOSPITALS}


def test_a_hospitals_containers_are_not_on_the_other_hospitals_network() -> None:
    for name in HOSPITALS:
        others = {f"hospital-{other}" for other in HOSPITALS if other != name}
        for container in (one for one in LASTING if re.search(rf"-{name}(-2)?$", one)):
            assert not networks(container) & others, container


def networks(name: str) -> set[str]:
    return set(CONTAINERS[name].get("networks", []))


@pytest.mark.parametrize("name", sorted(CONTAINERS))
def test_every_image_is_pinned_by_an_exact_version(name: str) -> None:
    assert EXACT.fullmatch(CONTAINERS[name]["image"])


def test_official_images_are_those_that_were_verified() -> None:
    images = {container["image"] for container in CONTAINERS.values()}
    assert {one for one in images if not one.startswith("careledger/")} == {
        "hyperledger/fabric-peer:3.1.5",
        "hyperledger/fabric-orderer:3.1.5",
        "hyperledger/fabric-ca:1.5.21",
        "apache/kafka:4.1.0",
        "postgres:18",
    }


def test_every_image_of_our_own_is_built_by_exactly_one_container() -> None:
    own = {container["image"] for container in CONTAINERS.values() if container["image"].startswith("careledger/")}
    built = [container["image"] for container in CONTAINERS.values() if "build" in container]
    assert sorted(built) == sorted(own)


@pytest.mark.parametrize("name", sorted(CONTAINERS))
def test_every_container_runs_with_the_least_that_it_needs(name: str) -> None:
    container = CONTAINERS[name]
    assert container["read_only"] is True
    assert container["cap_drop"] == ["ALL"]
    assert container["security_opt"] == ["no-new-privileges:true"]
    assert container["mem_limit"]
    assert container["pids_limit"]
    if name != "volumes":
        assert container["user"].split(":")[0] != "0"
        assert "cap_add" not in container


def test_what_gives_volumes_away_as_root_has_no_network() -> None:
    assert CONTAINERS["volumes"]["network_mode"] == "none"
    assert set(CONTAINERS["volumes"]["cap_add"]) == {"CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID"}


@pytest.mark.parametrize("name", LASTING)
def test_every_lasting_container_comes_back_and_says_how_it_is(name: str) -> None:
    container = CONTAINERS[name]
    assert container["restart"] == "unless-stopped"
    check = container["healthcheck"]
    assert check["test"][0] == "CMD"
    assert check["test"][1:] != ["true"]
    assert {"interval", "timeout", "retries", "start_period"} <= check.keys()
    assert container["logging"]["options"].keys() == {"max-size", "max-file"}


@pytest.mark.parametrize("name", sorted(ONE_SHOT))
def test_what_runs_once_is_not_started_again_by_itself(name: str) -> None:
    assert CONTAINERS[name]["restart"] == "no"


def test_a_plain_up_starts_neither_the_story_nor_the_command() -> None:
    assert {name: one["profiles"] for name, one in CONTAINERS.items() if "profiles" in one} == {
        "demo": ["demo"],
        "emr": ["emr"],
        "chaincode-a-2": ["contract-2"],
        "chaincode-b-2": ["contract-2"],
    }


def test_services_start_after_what_they_need_was_founded() -> None:
    for service, name in OF_HOSPITALS:
        condition = CONTAINERS[f"{service}-{name}"]["depends_on"]["found"]["condition"]
        assert condition == "service_completed_successfully"
    waited_for = CONTAINERS["found"]["depends_on"]
    assert waited_for.keys() >= {"postgres", "kafka", *orderer_ports(TOPOLOGY_OF_CONTAINERS)}
    assert waited_for.keys() >= {f"{kind}-{name}" for kind in ("peer", "ca", "chaincode") for name in HOSPITALS}
    assert {one["condition"] for one in waited_for.values()} == {"service_healthy"}


@pytest.mark.parametrize("name", sorted(CONTAINERS))
def test_no_secret_is_in_an_environment(name: str) -> None:
    for variable, value in environment(name).items():
        assert "-----BEGIN" not in value
        assert not re.search(r"://[^/]*:[^/]*@", value), variable
        if re.search("PASSWORD|SECRET|TOKEN|KEY", variable):
            assert value.startswith("/run/careledger/"), variable


@pytest.mark.parametrize("name", sorted(CONTAINERS))
def test_every_emr_variable_is_one_that_the_settings_know(name: str) -> None:
    told = {variable for variable in environment(name) if variable.startswith("EMR_")}
    assert told <= set(known_variables())


@pytest.fixture(name="ports", scope="module")
def _ports(tmp_path_factory: pytest.TempPathFactory) -> Ports:
    path = tmp_path_factory.mktemp("compose") / "ports.json"
    return Ports.of_hosts(path, places.addresses(TOPOLOGY_OF_CONTAINERS))


@pytest.mark.parametrize(("service", "name"), OF_HOSPITALS)
def test_a_service_is_told_in_a_container_what_it_is_told_anywhere(service: str, name: str, ports: Ports) -> None:
    expected = environment_of(Home(Path("/home")), HOSPITALS[name], ports, service, places.API_PORT)
    expected["EMR_HTTP__HOST"] = "0.0.0.0"
    for variable in expected:
        if variable.endswith(("_FILE", "_DIR")):
            expected[variable] = f"/run/careledger/{service}/{FILES[variable]}"
    assert environment(f"{service}-{name}") == expected


@pytest.mark.parametrize(("service", "name"), OF_HOSPITALS)
def test_a_service_runs_its_own_module_as_its_own_user(service: str, name: str) -> None:
    container = CONTAINERS[f"{service}-{name}"]
    assert container["command"] == ["python", "-m", MODULES[service]]
    assert container["user"] == user(service)
    assert mounted(f"{service}-{name}") == {f"hospital-{name}": "/run/careledger"}
    assert container["volumes"][0].endswith(":ro")


def user(kind: str) -> str:
    return f"{places.USERS[kind]}:{places.USERS[kind]}"


def test_no_two_kinds_of_process_share_a_user_but_the_operator_and_its_issuer() -> None:
    users = [number for kind, number in places.USERS.items() if kind != "issuer"]
    assert len(set(users)) == len(users)


@pytest.mark.parametrize("organization", HOSPITALS.values(), ids=HOSPITALS)
def test_a_peer_is_told_in_a_container_what_it_is_told_anywhere(organization: Organization) -> None:
    name = f"peer-{organization.name}"
    assert environment(name) == peer_environment(organization)
    assert CONTAINERS[name]["user"] == user("peer")
    assert mounted(name) == {f"hospital-{organization.name}": "/run/careledger", name: "/var/hyperledger"}


@pytest.mark.parametrize(("number", "name"), list(enumerate(orderer_ports(TOPOLOGY_OF_CONTAINERS), start=1)))
def test_an_orderer_has_the_name_that_its_certificate_is_about(number: int, name: str) -> None:
    node = orderer_node(TOPOLOGY_OF_CONTAINERS, number, name)
    assert CONTAINERS[name]["networks"]["ledger"]["aliases"] == [node.name]
    assert environment(name) == {**node.environment(), "FABRIC_CFG_PATH": f"/run/careledger/{name}"}
    assert mounted(name)[name] == str(node.data)


@pytest.mark.parametrize("name", HOSPITALS)
def test_peers_and_cas_have_the_names_that_their_certificates_are_about(name: str) -> None:
    peer, ca = CONTAINERS[f"peer-{name}"]["networks"], CONTAINERS[f"ca-{name}"]["networks"]
    for network in ("ledger", f"hospital-{name}"):
        assert peer[network]["aliases"] == [HOSPITALS[name].peer_name]
    assert ca[f"hospital-{name}"]["aliases"] == [HOSPITALS[name].ca_name]


@pytest.mark.parametrize(("name", "slot"), [(name, slot) for name in HOSPITALS for slot in places.CONTRACT_SLOTS])
def test_each_place_of_the_contract_runs_what_it_is_told_for_its_own_hospital(name: str, slot: str) -> None:
    container = slot.replace("chaincode", f"chaincode-{name}")
    assert environment(container) == {
        "CHAINCODE_SERVER_ADDRESS": f"0.0.0.0:{places.CHAINCODE_PORT}",
        "CHAINCODE_ID_FILE": f"/run/careledger/{slot}/{PACKAGE_ID}",
        "CORE_PEER_LOCALMSPID": HOSPITALS[name].msp_id,
    }
    assert CONTAINERS[container]["user"] == user("chaincode")
    assert mounted(container) == {f"hospital-{name}": "/run/careledger"}
    assert places.addresses(TOPOLOGY_OF_CONTAINERS)[container] == (container, places.CHAINCODE_PORT)


DECLARED = {
    "hyperledger/fabric-peer": {"/etc/hyperledger/fabric", "/var/hyperledger"},
    "hyperledger/fabric-orderer": {"/etc/hyperledger/fabric", "/var/hyperledger"},
    "hyperledger/fabric-ca": {"/etc/hyperledger/fabric-ca-server"},
    "apache/kafka": {"/etc/kafka/secrets", "/mnt/shared/config", "/var/lib/kafka/data"},
    "postgres": {"/var/lib/postgresql"},
}
"""What official images declare as volumes."""


@pytest.mark.parametrize("name", [one for one in LASTING if CONTAINERS[one]["image"].split(":")[0] in DECLARED])
def test_no_image_gets_an_unnamed_volume(name: str) -> None:
    """Docker makes a new one at each `up`, writable in a container that is otherwise not."""
    memory = {one.partition(":")[0] for one in CONTAINERS[name]["tmpfs"]}
    declared = DECLARED[CONTAINERS[name]["image"].split(":")[0]]
    assert declared <= memory | set(mounted(name).values())
    assert not memory & set(mounted(name).values())


@pytest.mark.parametrize("name", LASTING)
def test_what_a_container_may_write_is_its_own_data_and_memory(name: str) -> None:
    writable = [one for one in CONTAINERS[name].get("volumes", []) if not one.endswith(":ro")]
    assert [one.split(":")[0] for one in writable] in ([], [name])


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_the_base_of_an_image_is_named_by_its_version(path: Path) -> None:
    named = re.findall(r"^ARG \w+_IMAGE=(\S+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    assert named
    assert all(re.fullmatch(r"(python:3\.11|debian:bookworm)-slim(-bookworm)?", one) for one in named)


def test_kafka_is_let_in_again_soon_after_a_crash_and_waits_until_it_is() -> None:
    told = environment("kafka")
    session = int(told["KAFKA_BROKER_SESSION_TIMEOUT_MS"])
    assert 9_000 < session <= 30_000
    assert int(told["KAFKA_INITIAL_BROKER_REGISTRATION_TIMEOUT_MS"]) >= 5 * session


def test_kafka_is_configured_as_it_is_natively_but_for_its_addresses(tmp_path: Path) -> None:
    native = dict(Kafka(Home(tmp_path), Ports.plan(tmp_path / "ports.json", TOPOLOGY_OF_CONTAINERS)).settings())
    told = environment("kafka")
    here = {"controller.quorum.voters", "listeners", "advertised.listeners", "log.dirs"}
    for name, value in native.items():
        if name not in here:
            assert told[f"KAFKA_{name.upper().replace('.', '_')}"] == value


def test_postgres_logs_no_statement_and_no_row() -> None:
    command = CONTAINERS["postgres"]["command"]
    assert {"log_min_error_statement=panic", "log_error_verbosity=terse"} <= set(command)


def test_every_volume_is_given_to_the_one_who_writes_it() -> None:
    given = mounted("volumes")
    assert given.keys() == COMPOSE["volumes"].keys()
    writers = {str(path): kind for path, kind in places.data_folders(TOPOLOGY_OF_CONTAINERS)}
    for volume, target in given.items():
        if not target.startswith(str(places.DATA)):
            continue
        users = {one["user"] for name, one in CONTAINERS.items() if name != "volumes" and volume in mounted(name)}
        assert users == {user(writers[target])}, volume


def test_only_what_runs_once_sees_all_keys() -> None:
    assert {name for name in CONTAINERS if "operator" in mounted(name)} == ONE_SHOT


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_an_image_is_not_of_root_and_holds_no_compiler(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    last = text[text.rindex("\nFROM ") :]
    assert re.search(r"^USER \d+:\d+$", last, re.MULTILINE)
    assert not re.search(r"\b(gcc|g\+\+|build-essential|make|musl-dev|curl \S*http)", text)
    assert not re.search(r"^(ADD|ARG \w*(PASSWORD|TOKEN|SECRET))", text, re.MULTILINE)


def test_python_images_hold_only_packages_whose_hashes_the_lock_knows() -> None:
    text = (CHECKOUT / "deploy" / "docker" / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    downloads = re.findall(r"pip download (.*)", text)
    assert len(downloads) == 1
    assert {"--require-hashes", "--only-binary", "--no-deps"} <= set(downloads[0].split())
    assert "requirements.lock" in downloads[0]
    others = re.findall(r"pip (?:--python \S+ )?(?:install|wheel) ([^&]*)", text)
    assert len(others) == 5
    assert all("--no-index" in words for words in others)


BALANCER = (CHECKOUT / "deploy" / "docker" / "balancer" / "haproxy.cfg").read_text(encoding="utf-8")


@pytest.mark.parametrize(("service", "port"), places.BALANCED.items())
def test_a_load_balancer_stands_in_front_of_every_service(service: str, port: int) -> None:
    assert f"frontend {service}\n    bind :{port}\n    default_backend {service}\n" in BALANCER
    instances = f'server-template {service}- 9 "{service}-${{HOSPITAL}}:{places.API_PORT}"'
    assert f"backend {service}\n    {instances}\n" in BALANCER


def test_where_no_instance_answers_the_balancer_says_so_in_a_problem_document() -> None:
    said = re.search(r"http-error status 503 content-type (\S+) string '(.*?)' hdr Retry-After \d+", BALANCER)
    assert said is not None
    assert said[1] == MEDIA_TYPE
    document = json.loads(said[2])
    expected = Problem(Code.OVERLOADED, document["detail"]).document()
    assert document == {name: value for name, value in expected.items() if name != "requestId"}


def test_a_request_is_given_to_another_instance_only_if_none_got_it() -> None:
    assert re.findall(r"retry-on (.*)", BALANCER) == ["conn-failure"]


def test_the_balancer_logs_no_path_and_no_header() -> None:
    logged = re.search(r'log-format "(.*)"', BALANCER)
    assert logged is not None
    assert not re.search(r"%(\[|HP|HU|HQ|r\b|hr|hs|\{)", logged[1])
    assert "option httplog" not in BALANCER


def test_nothing_that_a_run_made_can_get_into_an_image() -> None:
    """`.emr` holds keys, `.git` the history: the build context is what is named, and nothing else."""
    patterns = (CHECKOUT / ".dockerignore").read_text(encoding="utf-8").split("\n")
    assert next(line for line in patterns if line and not line.startswith("#")) == "*"
    named = {line[1:] for line in patterns if line.startswith("!")}
    assert not {one for one in named if one.startswith(".") or one in {"deploy", "tests"}}
