"""What of an installation `carrel doctor` looks at: its declarations, its programs, and the gateway that runs."""

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from carrel import __version__
from carrel.cli.client import understand
from carrel.cli.failures import GatewayUnreachable
from carrel.cli.findings import Finding, State, some
from carrel.cli.options import Target
from carrel.declare.load import Tree, load_tree
from carrel.errors import CarrelError
from carrel.secrets import SecretStore
from carrel.wire.control import StatusReport

if TYPE_CHECKING:
    from carrel.sandbox.protocol import Confinement


def declarations(directory: Path, tree: Tree | CarrelError) -> Iterator[Finding]:
    """Whether what is declared is right."""
    if isinstance(tree, CarrelError):
        yield Finding(
            "declarations", "fault", tree.message, "Name another: `carrel doctor DIR`, or ask as who may read it."
        )
        return
    if tree.errors:
        yield Finding(
            "declarations", "fault", f"{len(tree.errors)} in {directory}, the first: {tree.errors[0]}",
            f"`carrel check {directory}` shows all of them.",
        )  # fmt: skip
    else:
        count = len(tree.tenants)
        yield Finding("declarations", "ok", f"{count} tenant{'s' * (count != 1)} in {directory}")


def read(directory: Path) -> Tree | CarrelError:
    """What is declared there, or why it cannot be read."""
    try:
        return load_tree(directory)
    except CarrelError as error:
        return error


def secrets(tree: Tree, secrets_dir: Path | None) -> Iterator[Finding]:
    """Whether the secrets that providers are given by name are there."""
    if tree.operators is None:
        return
    store = SecretStore.from_environment(secrets_dir=secrets_dir)
    gateway = tree.operators.gateway
    named = {f"provider {name}": provider.api_key for name, provider in gateway.providers.items()}
    named |= {f"OAuth provider {name}": one.client_secret for name, one in gateway.oauth_providers.items()}
    for about, wanted in named.items():
        if wanted is None:
            continue
        try:
            store.get(wanted.secret)
        except CarrelError as error:
            yield Finding(
                about, "warning", f"As this user sees it: {error.message}",
                "Say --secrets-dir. A gateway under systemd has credentials that are not seen here.",
            )  # fmt: skip
        else:
            yield Finding(about, "ok", f"Its secret {wanted.secret!r} is there.")


def own_secrets(tree: Tree, secrets_dir: Path | None, state_dir: Path) -> Iterator[Finding]:
    """Which secrets tenants name that are neither in their vault nor the operator's."""
    from carrel.vault.vault import PLACE, SUFFIX  # noqa: PLC0415 - as in `packages`

    if not os.access(state_dir, os.R_OK | os.X_OK):
        return
    store = SecretStore.from_environment(secrets_dir=secrets_dir)
    for tenant, judged in tree.tenants.items():
        if judged.config is None:
            continue
        config = judged.config
        named = {one.secret: f"egress.inject, as {one.env}" for one in config.egress.inject if one.secret is not None}
        named |= {s.secret: f"mcp_servers.{name}" for name, s in config.mcp_servers.items() if s.secret is not None}
        named |= {own.api_key.secret: f"providers.{name}" for name, own in config.providers.items()}
        for channel, declared in config.channels.items():
            for account, bot in declared.accounts.items():
                used = (bot.token, *((bot.webhook_secret,) if bot.webhook_secret is not None else ()))
                named |= {ref.secret: f"channels.{channel}.accounts.{account}" for ref in used}
        for secret, use in sorted(named.items()):
            if (state_dir / "tenants" / tenant / PLACE / f"{secret}{SUFFIX}").exists():
                continue
            try:
                store.get(secret)
            except CarrelError:
                yield Finding(
                    f"secret of {tenant}", "warning", f"{secret!r} ({use}) is in neither its vault nor the operator's "
                    "secrets, as this user sees them.", f"carrel secrets set {tenant} {secret}",
                )  # fmt: skip


def vault(state_dir: Path, secrets_dir: Path | None, *, serves: bool) -> Iterator[Finding]:
    """Whether the master key is there that secrets are sealed with. One that ``serves`` may have another way to it."""
    from carrel.vault.ring import KeyRing  # noqa: PLC0415 - as in `packages`

    if state_dir.exists() and not os.access(state_dir, os.R_OK | os.X_OK):
        return
    credentials = os.environ.get("CREDENTIALS_DIRECTORY")
    ring = KeyRing(
        credentials_dir=Path(credentials) if credentials else None,
        secrets_dir=secrets_dir, state_dir=state_dir, makes=False,
        # Root looks at another's house: the gateway is whoever its state belongs to.
        gateway=state_dir.stat().st_uid if state_dir.exists() else None,
    )  # fmt: skip
    try:
        source = ring.source()
    except CarrelError as error:
        hidden = " A gateway under systemd has credentials that are not seen here." if serves else ""
        yield Finding(
            "vault", "warning" if serves else "fault", f"Tenants' secrets do not open: {error.message}",
            f"Put back the key that they were sealed with, or say --secrets-dir.{hidden}",
        )  # fmt: skip
        return
    if source is None:
        yield Finding("vault", "ok", "No secret was sealed yet; a trial makes the master key with the first.")
    else:
        yield Finding("vault", "ok", f"The master key is in {source}.")


def containers(tree: Tree) -> "tuple[Confinement, ...]":
    """The ways in which modes of tenants' sandboxes have containers made."""
    from carrel.sandbox.modes import containers as named  # noqa: PLC0415 - as in `declarations`

    return named(tenant.config.sandbox for tenant in tree.tenants.values() if tenant.config is not None)


def packages(tree: Tree, state_dir: Path) -> Finding:
    """Whether closures of tenants' packages can be built here."""
    from carrel.packages import sources  # noqa: PLC0415 - as in `declarations`

    if tree.operators is None:
        return Finding("packages", "warning", "What is declared is not understood, so their source is not known.",
                       "carrel check says what is wrong.")  # fmt: skip
    config, pinned = tree.operators.gateway.packages, os.environ.get(sources.SYSTEM)
    source = sources.DeclaredSource(lambda: config, state_dir=state_dir, pinned=Path(pinned) if pinned else None)
    try:
        missing = asyncio.run(source.available())
    except CarrelError as error:
        missing = error.message
    if missing is None:
        return Finding("packages", "ok", f"Closures can be built from {config.source}.")
    return Finding("packages", "warning", f"No closure can be built: {missing.rstrip('.')}.", _WITHOUT_CLOSURES)


_WHOLE: Final = ("memory", "cpu", "pids")
"""Limits that mean little where they hold for each process alone."""
_WITHOUT_CLOSURES: Final = "Until that is mended tools run on the host's /usr in a trial, and not at all in production."


def reached(answer: object, target: Target, address: tuple[str, int]) -> Finding:
    """Whether a gateway answered, and who else holds ``address`` where none did."""
    if not isinstance(answer, CarrelError):
        return Finding("gateway", "ok", "It answers.")
    if not isinstance(answer, GatewayUnreachable):
        mend = "carrel status says the same; _gateway.yaml declares the keys, `carrel admin-key` makes one."
        return Finding("gateway", "fault", answer.message, mend)
    if target.url is None and _taken(address):
        host, port = address
        return Finding(
            "gateway", "fault", f"None answers for the state directory {target.state}, and {host}:{port} is taken.",
            "Another gateway or program listens there: name its state directory with --state-dir, stop it, or choose "
            "another port with --listen.",
        )  # fmt: skip
    return Finding("gateway", "warning", answer.message, "carrel gateway, or systemctl start carrel")


def serving(answer: object) -> Iterator[Finding]:
    """What the gateway that runs says of itself."""
    try:
        report = understand(StatusReport, answer)
    except CarrelError as error:
        yield Finding("status", "fault", error.message, "Use the command of the gateway's own version.")
        return
    yield from _of_itself(report)
    if report.sandbox is not None:
        held = report.sandbox == "bwrap"
        yield Finding("sandbox", "ok" if held else "fault", f"The gateway says: {report.sandbox.rstrip('.')}.",
                      "Mend what is above, and start the gateway again.")  # fmt: skip
    if report.userland is not None:
        kind = report.userland.split(",")[0].split(" ")[0].rstrip(":")
        weights: dict[str, State] = {"closure": "ok", "host": "warning", "none": "fault"}
        yield Finding("userland", weights.get(kind, "warning"), report.userland, _WITHOUT_CLOSURES)
    for environment in report.environments:
        if environment.state == "failed":
            names = " ".join(environment.packages) or "the base set"
            yield Finding("environment", "fault", f"{names}: {environment.reason}", "Mend that, or take it out.")
    loose = [held.limit for held in report.limits if held.scope == "process" and held.limit in _WHOLE]
    if loose:
        yield Finding("limits", "warning", f"{', '.join(loose)}: held for each process, not for a sandbox as a whole.",
                      "With a cgroup they hold for all of one; until then the number of processes is what bounds it. "
                      f"Here there is {report.cgroup or 'none'}.")  # fmt: skip
    elif report.limits:
        yield Finding("limits", "ok", f"cgroup {report.cgroup}.")
    stalled = [
        f"{tenant.id} ({tenant.reason or tenant.state})" for tenant in report.tenants if tenant.state == "Stalled"
    ]
    if stalled:
        yield Finding("tenants", "fault", f"Not as declared: {', '.join(stalled)}.", "`carrel status` says why.")
    for problem in report.problems:
        yield Finding("declared", "fault", problem, "What was in force before stays until that is mended.")


def _of_itself(report: StatusReport) -> Iterator[Finding]:
    if report.version not in ("", __version__):
        text = f"The gateway is {report.version}, and this command {__version__}."
        yield Finding(
            "version", "warning", text, "Start the gateway again, or use its own command: readlink /proc/PID/exe."
        )
    for provider in report.providers:
        if provider.circuit == "open":
            text = f"It failed {provider.failures} times and is not asked now; fallbacks are, where there are any."
            yield Finding(f"circuit {provider.name}", "warning", text, "`carrel doctor` tries it itself: see above.")
    for one in report.channels:
        mend = (
            f"carrel channels status {one.channel} --tenant {one.tenant} --probe asks the platform; a token that it "
            f"refuses is replaced by carrel secrets set {one.tenant} NAME, then carrel channels start."
        )
        yield Finding(f"channel {one.tenant}/{one.channel}/{one.account}", "warning", one.error, mend)
    if report.uncommitted:
        text = f"{some(report.uncommitted)}: changed by hand, and in no commit."
        yield Finding("uncommitted", "warning", text, "git add and commit them where tenants.d is, or restore them.")


def _taken(address: tuple[str, int]) -> bool:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with socket.socket(family) as probe:
        probe.settimeout(1.0)
        try:
            return probe.connect_ex(address) == 0
        except OSError:
            return False
