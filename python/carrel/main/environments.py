"""Environments as the gateway is told to make them: from which packages, for whom, and how long they stay."""

import os
from pathlib import Path

from carrel.cli.gateway_options import GatewayOptions
from carrel.clock import Clock
from carrel.packages import sources
from carrel.packages.environments import Environments
from carrel.packages.logs import BuildLogs
from carrel.tasks import Tasks
from carrel.tenancy.handle import Directory, Snapshot


def package_source(options: GatewayOptions, directory: Directory) -> sources.DeclaredSource:
    """Where packages come from, as it is declared at each moment."""
    pinned = os.environ.get(sources.SYSTEM)
    return sources.DeclaredSource(
        lambda: directory.current.gateway.packages,
        state_dir=options.state_dir,
        pinned=Path(pinned) if pinned else None,
        allowed=lambda: directory.current.allowlists.packages,
    )


def build_environments(
    options: GatewayOptions, directory: Directory, source: sources.DeclaredSource, clock: Clock, tasks: Tasks
) -> Environments:
    """The environments of all tenants."""
    return Environments(
        source=source,
        require_closure=lambda: not options.trial or directory.current.gateway.require_closure,
        clock=clock,
        tasks=tasks,
        wanted=lambda: _package_sets(directory.current),
        grace=lambda: directory.current.gateway.packages.collect_after_seconds,
        logs=BuildLogs(options.state_dir / "envs" / "logs", hidden=str(options.state_dir)),
    )


def _package_sets(snapshot: Snapshot) -> set[frozenset[str]]:
    return {frozenset(tenant.config.packages) for tenant in snapshot.tenants.values() if not tenant.suspended}
