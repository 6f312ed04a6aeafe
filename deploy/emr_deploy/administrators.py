"""Each hospital's administrator in its wallet, so that the token subject `admin` may call the APIs."""

from __future__ import annotations

from emr_common.sealing import WrappingKey
from emr_common.wallet import Wallet
from emr_model.ledger.functions import Role
from emr_network.enrolment import ADMIN, Enrolment
from emr_network.home import Home
from emr_network.ports import Ports
from emr_network.topology import Organization, Topology
from emr_readmodel import engine as engines
from hlf.identity import SigningIdentity

from emr_deploy.clients import issuer_url


async def enter_administrators(home: Home, topology: Topology, ports: Ports) -> list[str]:
    """The short names of the hospitals whose administrator was not there yet."""
    return [one.name for one in topology.organizations if await _enter(home, one, ports)]


async def _enter(home: Home, organization: Organization, ports: Ports) -> bool:
    engine = engines.create(home.secret(organization.name, "database-url").read_text(), 1)
    keyset = WrappingKey.from_file(home.secret(organization.name, "wallet.keyset"))
    wallet = Wallet(engine, keyset, organization.msp_id)
    issuer = issuer_url(ports, organization.name)
    admin = SigningIdentity.from_msp_dir(Enrolment(home, organization, ports).admin_folder, organization.msp_id)
    try:
        if await wallet.find(issuer, ADMIN) is not None:
            return False
        async with engine.begin() as connection:
            await wallet.add(
                connection,
                issuer=issuer,
                subject=ADMIN,
                enrolment_id=ADMIN,
                role=Role.ADMIN,
                certificate_pem=admin.certificate_pem,
                private_key=admin.private_key,
            )
    finally:
        await engine.dispose()
    return True
