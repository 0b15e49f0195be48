"""What of the world around `carrel doctor` looks at: model providers, where backups go, and certificates.

Each is tried for real, within seconds. Nothing but a listing is asked for, and of a place for backups whether it holds
the conditions of writes, which takes one small object there. No secret is shown.
"""

import asyncio
import os
import socket
import ssl
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from carrel.cli.findings import Finding, State
from carrel.declare.gateway import Gateway, ProviderConfig
from carrel.errors import CarrelError
from carrel.secrets import SecretStore

if TYPE_CHECKING:
    import aiohttp

    from carrel.objects.protocol import ObjectStore

SECONDS: Final = 8.0
SKEW_SECONDS: Final = 60.0
SOON_SECONDS: Final = 14 * 86_400.0
_MAX_SHOWN: Final = 5


def providers(gateway: Gateway, secrets_dir: Path | None) -> list[Finding]:
    """Whether each provider is reached and takes its key, and whether its clock is ours."""
    asked = {name: one for name, one in gateway.providers.items() if one.kind != "demo"}
    return asyncio.run(_all(asked, SecretStore.from_environment(secrets_dir=secrets_dir))) if asked else []


async def _all(asked: dict[str, ProviderConfig], secrets: SecretStore) -> list[Finding]:
    import aiohttp  # noqa: PLC0415 - other commands do without

    limits = aiohttp.ClientTimeout(total=SECONDS)
    async with aiohttp.ClientSession(timeout=limits, cookie_jar=aiohttp.DummyCookieJar()) as session:
        found = await asyncio.gather(*(_provider(session, name, one, secrets) for name, one in asked.items()))
    return [finding for some in found for finding in some]


async def _provider(
    session: "aiohttp.ClientSession", name: str, provider: ProviderConfig, secrets: SecretStore
) -> list[Finding]:
    import aiohttp  # noqa: PLC0415 - imported already

    what, key = f"provider {name}", _key(provider, secrets)
    url = models_url(provider)
    host = urlsplit(url).netloc
    try:
        async with session.get(url, headers=_headers(provider, key), allow_redirects=False) as answer:
            status, date = answer.status, answer.headers.get("Date")
    except aiohttp.ClientConnectorDNSError:
        mend = (
            f"getent hosts {urlsplit(url).hostname} tells what this machine knows; /etc/resolv.conf says whom it asks."
        )
        return [Finding(what, "fault", f"No such host is known: {host}.", mend)]
    except aiohttp.ClientConnectorCertificateError as error:
        text = f"The certificate of {host} is not trusted: {error.certificate_error}."
        return [Finding(what, "fault", text, f"openssl s_client -connect {_address(url)} shows it; see `base_url`.")]
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        reason = "it does not answer" if isinstance(error, TimeoutError) else _reason(error)
        mend = f"curl -sv {url} shows where it ends; `base_url` of the provider, or this machine's firewall."
        return [Finding(what, "fault", f"{host} cannot be reached: {reason}.", mend)]
    clocks = _clock(host, date)
    if key is None or status not in (401, 403):
        state: State = "warning" if status >= 500 else "ok"
        return [Finding(what, state, f"{host} answers with status {status}.", f"curl -sv {url} shows more."), *clocks]
    named = provider.api_key.secret if provider.api_key is not None else ""
    mend = f"Put a key that is good into the secret {named!r}: a file of that name in the secrets directory, say."
    return [Finding(what, "fault", f"{host} refuses the key (status {status}).", mend), *clocks]


def models_url(provider: ProviderConfig) -> str:
    """Where a provider lists its models, which costs nothing."""
    if provider.kind == "anthropic":
        return f"{(provider.base_url or 'https://api.anthropic.com').rstrip('/')}/v1/models"
    return f"{(provider.base_url or 'https://api.openai.com/v1').rstrip('/')}/models"


def _key(provider: ProviderConfig, secrets: SecretStore) -> str | None:
    try:
        return secrets.get(provider.api_key.secret).reveal() if provider.api_key is not None else None
    except CarrelError:
        return None


def _headers(provider: ProviderConfig, key: str | None) -> dict[str, str]:
    if key is None:
        return {}
    if provider.kind == "anthropic":
        return {"x-api-key": key, "anthropic-version": "2023-06-01"}
    return {"Authorization": f"Bearer {key}"}


def _clock(host: str, date: str | None) -> list[Finding]:
    """A finding where ``date``, a header of ``host``, is far from this machine's clock."""
    try:
        off = time.time() - parsedate_to_datetime(date or "").timestamp()
    except (ValueError, TypeError, OverflowError):
        return []
    if abs(off) <= SKEW_SECONDS:
        return []
    where = "ahead of" if off > 0 else "behind"
    text = f"It is {abs(off):.0f} s {where} what {host} says."
    return [Finding("clock", "fault", text, "timedatectl set-ntp true, or whatever sets this machine's time.")]


def _reason(error: Exception) -> str:
    number = getattr(error, "errno", None)
    return os.strerror(number) if isinstance(number, int) and number > 0 else type(error).__name__


def _address(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port or (443 if parts.scheme == 'https' else 80)}"


def backup_place(gateway: Gateway, secrets_dir: Path | None) -> Iterator[Finding]:
    """Whether there is a place for backups, which can be listed and holds the conditions of writes."""
    from carrel.backup.target import location_of, options_of  # noqa: PLC0415 - other commands do without
    from carrel.objects.open import open_store  # noqa: PLC0415 - as above
    from carrel.objects.retry import Patience  # noqa: PLC0415 - as above

    declared = gateway.backup
    if declared.to is None:
        yield Finding(
            "backups", "warning", "None are made: `_gateway.yaml` names no place for them.",
            "backup: {to: s3://bucket/prefix, every_seconds: 86400}, in tenants.d/_gateway.yaml.",
        )  # fmt: skip
        return
    location = location_of(declared, None, anywhere=True)
    if location.scheme == "file":
        yield _directory(Path(location.prefix))
        return
    try:
        options = options_of(declared, SecretStore.from_environment(secrets_dir=secrets_dir))
    except CarrelError as error:
        text = f"As this user sees it, their place cannot be tried: {error.message}"
        yield Finding("backups", "warning", text, "Say --secrets-dir, or ask as the gateway's user.")
        return
    store = open_store(location, options, patience=Patience(attempts=1))
    try:
        next(iter(store.list("")), None)
    except CarrelError as error:
        mend = "`backup` of _gateway.yaml: `endpoint`, `region`, the bucket, and the keys' rights to list, get and put."
        yield Finding("backups", "fault", f"{declared.to} cannot be listed: {error.message}", mend)
    else:
        yield _conditions(declared.to, store)
    finally:
        store.close()


def _conditions(place: str, store: "ObjectStore") -> Finding:
    if not store.conditional:
        text = f"{place} can be listed. Its conditional writes are not relied on: one host may write there, no second."
        return Finding("backups", "ok", text)
    try:
        store.require_conditions()
    except CarrelError as error:
        mend = "`backup` of _gateway.yaml: another store, `conditional_writes: false`, or more rights for the keys."
        return Finding("backups", "fault", f"{place} cannot be written on condition: {error.message}", mend)
    return Finding("backups", "ok", f"{place} can be listed, and holds the conditions of writes.")


def _directory(path: Path) -> Finding:
    if not path.is_dir():
        text = f"{path} is no directory: is a disk not mounted?"
        return Finding(
            "backups", "fault", text, f"mount it, or mkdir -m 0700 {path} and give it to the gateway's user."
        )
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        return Finding(
            "backups", "warning", f"{path} cannot be written by this user.", "Run this as the gateway's user."
        )
    return Finding("backups", "ok", f"{path} can be written.")


def certificates(addresses: list[str]) -> Iterator[Finding]:
    """Whether the certificates of ``addresses``, of https, are good, and for how long."""
    for url in list(dict.fromkeys(addresses))[:_MAX_SHOWN]:
        parts = urlsplit(url)
        if parts.scheme == "https" and parts.hostname:
            yield _certificate(parts.hostname, parts.port or 443)


def _certificate(host: str, port: int) -> Finding:
    what, mend = "certificate", f"Renew it where TLS ends: openssl s_client -connect {host}:{port} shows it."
    try:
        with (
            socket.create_connection((host, port), timeout=SECONDS) as plain,
            ssl.create_default_context().wrap_socket(plain, server_hostname=host) as secured,
        ):
            until = ssl.cert_time_to_seconds(str((secured.getpeercert() or {}).get("notAfter", "")))
    except ssl.SSLCertVerificationError as error:
        return Finding(what, "fault", f"That of {host}:{port} is not good: {error.verify_message}.", mend)
    except (OSError, ValueError) as error:
        text = f"{host}:{port} cannot be looked at: {_reason(error)}."
        return Finding(what, "warning", text, f"openssl s_client -connect {host}:{port} shows where it ends.")
    left = until - time.time()
    said = f"That of {host}:{port} ends in {left / 86_400:.0f} days."
    return Finding(what, "warning" if left < SOON_SECONDS else "ok", said, mend)
