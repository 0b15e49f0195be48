"""Connections as the gateway keeps them: a vault of their own, and vendors through the guard of everything outward."""

import asyncio
from ipaddress import ip_address

from carrel.audit.log import Audit
from carrel.clock import Clock
from carrel.connections.service import Connections
from carrel.connections.shelf import PLACE, Shelf
from carrel.connections.vendor import Vendor
from carrel.egress.outbound import Outbound
from carrel.events.hub import Hub
from carrel.secrets import Secret, SecretStore
from carrel.tasks import Tasks
from carrel.telemetry import Metrics
from carrel.tenancy.handle import Directory
from carrel.vault.ring import KeyRing
from carrel.vault.vault import Vault


def build_connections(
    *, outbound: Outbound, vault: Vault, secrets: SecretStore, directory: Directory, clock: Clock, hub: Hub,
    audit: Audit, metrics: Metrics, tasks: Tasks, address: str,
) -> Connections:  # fmt: skip
    """Build them. ``vault`` is what `own_vault` gives, ``address`` where the gateway listens, as browsers write it."""

    async def secret(name: str) -> Secret:
        return await asyncio.to_thread(secrets.get, name)

    return Connections(
        shelf=Shelf(vault), vendor=Vendor(outside=outbound, secret=secret), directory=directory,
        clock=clock, hub=hub, audit=audit, metrics=metrics, tasks=tasks, address=address,
    )  # fmt: skip


def own_vault(ring: KeyRing, clock: Clock) -> Vault:
    """The vault that connections are in."""
    return Vault(keys=ring, clock=clock, place=PLACE)


def address_of(host: str, port: int) -> str:
    """Where a browser on this machine finds what listens on ``host`` and ``port``."""
    try:
        everywhere = ip_address(host).is_unspecified
    except ValueError:
        everywhere = False
    if everywhere:
        host = "::1" if ":" in host else "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
