"""A certificate authority for each tenant, in memory alone: what its sandboxes trust, and nobody else does.

It is made anew at each start of the gateway, as every sandbox is; no key of it is ever on a disk.
"""

import os
import ssl
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from carrel.clock import Clock
from carrel.declare.hosts import Host
from carrel.errors import CarrelError

CA_DAYS: Final = 400
LEAF_DAYS: Final = 30
RENEW_DAYS: Final = 5
MOST_LEAVES: Final = 256
_ROOTS: Final = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/ssl/certs/ca-bundle.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
)


class NoRoots(CarrelError):
    """This machine has no bundle of public certificate authorities."""

    code = "no_roots"


@dataclass(slots=True)
class Authority:
    """One tenant's. ``certificate`` is PEM."""

    name: str
    clock: Clock
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    _leaf_key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    _leaves: "OrderedDict[str, tuple[float, ssl.SSLContext]]" = field(default_factory=OrderedDict)
    _certificate: x509.Certificate | None = None

    @property
    def certificate(self) -> bytes:
        """The authority's own certificate."""
        return self._own().public_bytes(serialization.Encoding.PEM)

    def context(self, host: Host) -> ssl.SSLContext:
        """What a server that is ``host`` ends TLS with, for HTTP/1.1."""
        now = self.clock.monotonic()
        known = self._leaves.get(host.name)
        if known is not None and known[0] > now:
            self._leaves.move_to_end(host.name)
            return known[1]
        made = _server_context(self._leaf(host), self._own(), self._leaf_key)
        self._leaves[host.name] = (now + (LEAF_DAYS - RENEW_DAYS) * 86400.0, made)
        while len(self._leaves) > MOST_LEAVES:
            self._leaves.popitem(last=False)
        return made

    def _own(self) -> x509.Certificate:
        if self._certificate is None:
            subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Carrel sandbox of {self.name}"[:64])])
            public = self.key.public_key()
            self._certificate = (
                _builder(self.clock, days=CA_DAYS)
                .subject_name(subject)
                .issuer_name(subject)
                .public_key(public)
                .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
                .add_extension(_usage(sign=False, certify=True), critical=True)
                .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
                .sign(self.key, hashes.SHA256())
            )
        return self._certificate

    def _leaf(self, host: Host) -> x509.Certificate:
        own = self._own()
        alternative: x509.GeneralName = (
            x509.DNSName(host.name) if host.address is None else x509.IPAddress(ip_address(host.name))
        )
        return (
            _builder(self.clock, days=LEAF_DAYS)
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host.name[:64])]))
            .issuer_name(own.subject)
            .public_key(self._leaf_key.public_key())
            .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(sign=True, certify=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False
            )
            .sign(self.key, hashes.SHA256())
        )  # fmt: skip


def _builder(clock: Clock, *, days: int) -> x509.CertificateBuilder:
    now = clock.now()
    return (
        x509.CertificateBuilder()
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=days))
    )


def _usage(*, sign: bool, certify: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=sign, key_cert_sign=certify, crl_sign=certify, content_commitment=False,
        key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _server_context(
    leaf: x509.Certificate, issuer: x509.Certificate, key: ec.EllipticCurvePrivateKey
) -> ssl.SSLContext:
    """A context with that certificate. OpenSSL reads it from a file by name: one in memory that nobody else has."""
    pem = b"".join(
        (
            leaf.public_bytes(serialization.Encoding.PEM),
            issuer.public_bytes(serialization.Encoding.PEM),
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ),
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    fd = os.memfd_create("leaf", os.MFD_CLOEXEC)
    try:
        os.write(fd, pem)
        context.load_cert_chain(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)
    return context


@cache
def public_roots() -> bytes:
    """The machine's bundle of public authorities, PEM; raises NoRoots."""
    declared = os.environ.get("SSL_CERT_FILE") or ssl.get_default_verify_paths().cafile
    for place in (declared, *_ROOTS):
        if place is not None:
            try:
                return Path(place).read_bytes().rstrip() + b"\n"
            except OSError:
                continue
    raise NoRoots("No bundle of public certificate authorities is found: install `ca-certificates`.")
