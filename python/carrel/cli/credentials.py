"""What of keys and tokens `carrel doctor` looks at: their ends, and who may read them. It never shows one."""

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Final

from carrel.cli.findings import Finding, some
from carrel.declare.load import Tree
from carrel.devices.book import device_of
from carrel.errors import InvalidRequest
from carrel.ids import TenantId, parse_tenant_id
from carrel.tenancy.tokens import TokensUnreadable, read_issued

SOON_SECONDS: Final = 14 * 86_400.0


def admin_keys(tree: Tree, now: datetime) -> Iterator[Finding]:
    """Which admin keys never end, have ended, or will soon."""
    if tree.operators is None:
        return
    keys = tree.operators.gateway.admin_keys
    for key in keys:
        if key.expires is None:
            yield Finding(f"admin key {key.name}", "warning", "It never ends.", _NEW_KEY.format(key.name))
            continue
        left = (key.expires - now).total_seconds()
        if left <= 0:
            text = f"It ended at {key.expires:%Y-%m-%d %H:%M} UTC, and nobody gets in by it."
            yield Finding(f"admin key {key.name}", "warning", text, _NEW_KEY.format(key.name))
        elif left < SOON_SECONDS:
            text = f"It ends in {left / 86_400:.0f} days, at {key.expires:%Y-%m-%d %H:%M} UTC."
            yield Finding(f"admin key {key.name}", "warning", text, _NEW_KEY.format(key.name))


_NEW_KEY: Final = (
    "carrel admin-key {}-2 --expires 365d, with the same --scope and --tenant; put its line into _gateway.yaml, hand "
    "it out, and take the old one away."
)


def declared_tokens(tree: Tree, now: datetime) -> Iterator[Finding]:
    """Which tokens that are declared never end, have ended, or will soon."""
    endless: list[str] = []
    over: list[str] = []
    for tenant, judged in tree.tenants.items():
        for token in judged.config.tokens if judged.config is not None else ():
            if token.expires is None:
                endless.append(f"{tenant}/{token.name}")
            elif (token.expires - now).total_seconds() < SOON_SECONDS:
                over.append(f"{tenant}/{token.name}")
    if endless:
        text = f"{some(endless)}: declared without an end."
        yield Finding("token", "warning", text, "`expires: 2027-01-31T00:00:00Z` beside its sha256.")
    if over:
        mend = "carrel tenants token issue ID --expires 90d, hand it out, and take the declared one away."
        yield Finding("token", "warning", f"{some(over)}: ended, or ends within 14 days.", mend)


def issued_tokens(state: Path, now: datetime) -> Iterator[Finding]:
    """Which tokens that commands issued never end, have ended, or will soon. Devices' end with their devices."""
    endless: list[str] = []
    over: list[str] = []
    for tenant in _tenants(state):
        try:
            kept = read_issued(state / "tenants" / tenant, tenant)
        except OSError:
            continue
        except TokensUnreadable as error:
            mend = f"carrel tenants restore {tenant}, or remove credentials/tokens.json of it and issue new ones."
            yield Finding("token", "fault", error.message, mend)
            continue
        for token in kept.values():
            if token.expires is None:
                endless += [f"{tenant}/{token.name}"] if device_of(token.name) is None else []
            elif (token.expires - now).total_seconds() < SOON_SECONDS:
                over.append(f"{tenant}/{token.name}")
    if endless:
        text = f"{some(endless)}: issued without an end."
        mend = "carrel tenants token issue ID --name NAME --expires 90d, hand it out, and revoke the endless one."
        yield Finding("token", "warning", text, mend)
    if over:
        mend = "carrel tenants token issue ID --name NAME --expires 90d, hand it out, and revoke the old one."
        yield Finding("token", "warning", f"{some(over)}: issued, and ended, or ends within 14 days.", mend)


def _tenants(state: Path) -> list[TenantId]:
    found: list[TenantId] = []
    with suppress(OSError):
        for entry in os.scandir(state / "tenants"):
            with suppress(InvalidRequest):
                found += [parse_tenant_id(entry.name)] if entry.is_dir(follow_symlinks=False) else []
    return sorted(found)


def prices(tree: Tree) -> Iterator[Finding]:
    """Which models have no price of their own."""
    if tree.operators is None:
        return
    priced = tree.operators.rate_card.models
    missing = [name for name in tree.operators.gateway.models if name not in priced]
    if missing:
        rule = "billed by `otherwise`" if tree.operators.rate_card.otherwise is not None else "refused"
        text = f"{some(missing)}: without rates on the rate card, so calls are {rule}."
        yield Finding("price", "warning", text, "Give USD per 1M tokens under `models` in tenants.d/_rate-card.yaml.")


def readable(secrets_dir: Path | None, state: Path) -> Iterator[Finding]:
    """Which secrets others than their owner may read."""
    named = os.environ.get("CREDENTIALS_DIRECTORY")
    directories = [*([secrets_dir] if secrets_dir is not None else []), *([Path(named)] if named else [])]
    loose: list[str] = []
    for directory in directories:
        try:
            loose += [str(file) for file in sorted(directory.iterdir()) if _is_open(directory, file)]
        except OSError as error:
            yield Finding(
                "secrets", "warning", f"{directory}: {error.strerror}.", "Say --secrets-dir as the gateway has it."
            )
    loose += [str(file) for file in (state / "master.key", state / "audit-signing-key") if _is_open(state, file)]
    if loose:
        yield Finding("secrets", "fault", f"Others may read {some(loose)}.", f"chmod 0600 {loose[0]}")
    elif directories:
        yield Finding("secrets", "ok", "Only their owner may read them.")


def _is_open(directory: Path, file: Path) -> bool:
    """Whether somebody else may come to ``file`` through ``directory``, and read it."""
    try:
        way, found = directory.stat().st_mode, file.stat().st_mode
    except OSError:
        return False
    if not stat.S_ISREG(found):
        return False
    return bool((way & stat.S_IXOTH and found & stat.S_IROTH) or (way & stat.S_IXGRP and found & stat.S_IRGRP))
