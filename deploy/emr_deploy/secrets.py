"""What a hospital keeps secret on a development machine: made once, in files of mode 0600 in `secrets/<hospital>/`."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping

from emr_common.sealing import SealingPrivateKey, new_wrapping_keyset
from emr_network.devnet import registrar_secret
from emr_network.home import Home
from emr_network.topology import Organization, Topology
from hlf.certs import new_private_key, private_key_to_pem


def make_secrets(home: Home, topology: Topology) -> None:
    """Makes what is missing, and never replaces what is there: without its keys a hospital's data cannot be read."""
    _keep(home, "postgres", {"superuser-password": password})
    for organization in topology.organizations:
        _keep(home, organization.name, _of_a_hospital())
        secret = registrar_secret(home, organization)
        _keep(home, organization.name, {secret.name: password})
        _publish_sealing_key(home, organization)


def password() -> str:
    """192 random bits that need no escaping in a URL."""
    return secrets.token_hex(24)


def _of_a_hospital() -> Mapping[str, Callable[[], str | bytes]]:
    return {
        "wallet.keyset": new_wrapping_keyset,
        "wrapping.keyset": new_wrapping_keyset,
        "sealing-private.keyset": lambda: SealingPrivateKey.generate().serialized(),
        "identifier.key": lambda: secrets.token_hex(32),
        "note-id.key": lambda: secrets.token_hex(32),
        "pseudonym.key": lambda: secrets.token_hex(32),
        "database-password": password,
        "analyst-password": password,
        "public-password": password,
        "issuer.key": lambda: private_key_to_pem(new_private_key()),
    }


def _keep(home: Home, organization: str, makers: Mapping[str, Callable[[], str | bytes]]) -> None:
    for name, make in makers.items():
        path = home.secret(organization, name)
        if not path.exists():
            home.write_secret(path, make())


def _publish_sealing_key(home: Home, organization: Organization) -> None:
    """The public half, which `org~` carries, beside the private one."""
    public = home.secret(organization.name, "sealing-public.keyset")
    if not public.exists():
        private = SealingPrivateKey.from_file(home.secret(organization.name, "sealing-private.keyset"))
        home.write_secret(public, private.public_keyset())
