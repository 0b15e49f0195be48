"""Objects in S3, or in what speaks as S3 does: R2, MinIO, Ceph, and Google, to which `carrel.objects.gcs` translates.

The library is loaded when the first store is made: a gateway without backups does without its megabytes. A write
bears its digest twice, in its signature and as Content-MD5: most stores verify one of them, and take it whole or not
at all. What a store that verifies neither took is told by its entity tag, and read back where that is no MD5. No header
of newer S3 is sent that other stores do not know.
"""

import base64
import contextlib
import hashlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from carrel.errors import CarrelError
from carrel.objects.conditions import try_out
from carrel.objects.location import Location, require_key, require_prefix
from carrel.objects.protocol import (
    ObjectChanged,
    ObjectDamaged,
    ObjectInfo,
    ObjectMissing,
    ObjectNotKept,
    StoreRefused,
    StoreUnavailable,
)
from carrel.secrets import Secret

CONNECTIONS: Final = 16
_DELETED_AT_A_TIME: Final = 500
_PIECE: Final = 1 << 20
_AGAIN: Final = 2
_HASTY: Final = 5.0
_LATER: Final = frozenset({
    "SlowDown", "RequestTimeout", "InternalError", "ServiceUnavailable", "Throttling", "ThrottlingException", "Busy",
    "RequestLimitExceeded", "XAmzContentSHA256Mismatch", "BadDigest", "IncompleteBody", "OperationAborted",
})  # fmt: skip
_NEVER: Final = 501
_NOT_TOGETHER: Final = frozenset({
    "NotImplemented", "MethodNotAllowed", "MissingContentMD5", "InvalidDigest", "InvalidArgument", "InvalidRequest",
    "MalformedXML", "UnsupportedOperation",
})  # fmt: skip
"""What stores say to a request that removes many objects, where they know none, or ask for another digest of it."""
_REASONS: Final = {
    "RequestTimeTooSkewed": "its clock and this machine's differ by too much: set this machine's clock",
    "ExpiredToken": "the credentials have expired: put new ones in their place",
    "ExpiredTokenException": "the credentials have expired: put new ones in their place",
    "InvalidAccessKeyId": "it does not know the access key",
    "InvalidSecurity": "it does not know the access key",
    "SignatureDoesNotMatch": "the secret key is not the one of that access key",
    "AccessDenied": "these credentials may not do that there",
    "NoSuchBucket": "there is no such bucket: make it first",
    "PermanentRedirect": "the bucket is in another region: say which with `region`",
    "AuthorizationHeaderMalformed": "the bucket is in another region: say which with `region`",
    "QuotaExceeded": "it has no room left",
    "NotImplemented": "it knows no such request; where that is one with a condition, use another store, or say "
    "`conditional_writes: false` where only one host writes there",
}


@dataclass(frozen=True, slots=True)
class S3Options:
    """How to reach it. Without keys the machine's own credentials are used, as the library finds them.

    ``conditional``: whether its conditional writes are to be relied on. ``dialect``: in whose words, None for those of
    who is at ``endpoint``. Times are in seconds.
    """

    endpoint: str | None = None
    region: str | None = None
    access_key: Secret | None = None
    secret_key: Secret | None = None
    session_token: Secret | None = None
    path_style: bool = True
    conditional: bool = True
    dialect: Literal["s3", "gcs"] | None = None
    connect_seconds: float = 10.0
    read_seconds: float = 60.0

    @property
    def google(self) -> bool:
        """Whether it is spoken to in Google's words, which alone have conditions of writes there."""
        if self.dialect is not None:
            return self.dialect == "gcs"
        host = urlsplit(self.endpoint or "").hostname or ""
        return host.endswith(".googleapis.com")


class S3Store:
    """The objects beneath a bucket's prefix. Threads may use it at a time."""

    def __init__(self, location: Location, options: S3Options) -> None:
        self._location = location
        self._options = options
        self._lock = threading.Lock()
        self._client: Any = None
        self._other_tags = False
        self._bare_tags = False
        self._one_by_one = False

    @property
    def conditional(self) -> bool:
        """See `ObjectStore`."""
        return self._options.conditional

    @property
    def completes_on_condition(self) -> bool:
        """Whether the end of an upload in parts may be conditional; Google's has no condition."""
        return self._options.conditional and not self._options.google

    def require_conditions(self) -> None:
        """See `ObjectStore`. They are tried out each time; `PatientStore` keeps what was found."""
        if self.conditional:
            try_out(self)

    def get(self, key: str, *, most: int) -> tuple[bytes, str]:
        """See `ObjectStore`."""
        with self._translated(key):
            answer = self._s3().get_object(Bucket=self._location.bucket, Key=self._full(key))
            with contextlib.closing(answer["Body"]) as body:
                pieces, size = [], 0
                while piece := body.read(_PIECE):
                    size += len(piece)
                    if size > most:
                        raise ObjectDamaged(f"The object {key} is over {most} bytes, which none of ours is.")
                    pieces.append(piece)
            if size != answer["ContentLength"]:
                raise StoreUnavailable(f"The object {key} was cut off on its way.")
            return b"".join(pieces), str(answer["ETag"])

    def put(self, key: str, data: bytes, *, replaces: str | None = None, absent: bool = False) -> str:
        """See `ObjectStore`."""
        digest = hashlib.md5(data, usedforsecurity=False).digest()
        if replaces is not None:
            tag = self._replace(key, data, digest, replaces)
        else:
            tag = self._put(key, data, digest, {"IfNoneMatch": "*"} if absent else {})
        for _ in range(_AGAIN):
            if self._is_as_sent(key, data, digest, tag):
                return tag
            tag = self._replace(key, data, digest, tag)
        if self._is_as_sent(key, data, digest, tag):
            return tag
        raise ObjectNotKept(f"{self._location} does not keep the object {key} as it was sent.")

    def _replace(self, key: str, data: bytes, digest: bytes, tag: str) -> str:
        """Write in place of the object of ``tag``.

        Some stores, Ceph's for one, compare the condition letter by letter with the tag without its quotes: where what
        is there is what was to be replaced, and the store denies it, they are left out.
        """
        try:
            return self._put(key, data, digest, {"IfMatch": tag.strip('"') if self._bare_tags else tag})
        except ObjectChanged:
            if not self.conditional or self._tag_of(key) != tag:
                raise
        if not self._bare_tags:
            try:
                made = self._put(key, data, digest, {"IfMatch": tag.strip('"')})
            except ObjectChanged:
                if self._tag_of(key) != tag:
                    raise
            else:
                self._bare_tags = True
                return made
        raise StoreRefused(
            f"{self._location} refuses a conditional write whose condition holds: use another store, or say "
            "`conditional_writes: false` where only one host writes there."
        )

    def _tag_of(self, key: str) -> str | None:
        """The tag of what is there, None where nothing is."""
        try:
            with self._translated(key):
                return str(self._s3().head_object(Bucket=self._location.bucket, Key=self._full(key))["ETag"])
        except ObjectMissing:
            return None

    def _put(self, key: str, data: bytes, digest: bytes, condition: dict[str, str]) -> str:
        with self._translated(key):
            answer = self._s3().put_object(
                Bucket=self._location.bucket, Key=self._full(key), Body=data, ContentType="application/octet-stream",
                ContentMD5=base64.b64encode(digest).decode(), **(condition if self.conditional else {}),
            )  # fmt: skip
            return str(answer["ETag"])

    def _is_as_sent(self, key: str, data: bytes, digest: bytes, tag: str) -> bool:
        """Whether what the store took under ``tag`` is ``data``: its tag is the MD5 of that, or it is read back.

        Where a store's tags turn out to be none, as with keys of its own, they are not looked at again.
        """
        if self._other_tags or tag.strip('"').partition(":")[0] == digest.hex():
            return True
        with self._translated(key):
            answer = self._s3().get_object(Bucket=self._location.bucket, Key=self._full(key))
            with contextlib.closing(answer["Body"]) as body:
                if str(answer["ETag"]) != tag:
                    # Somebody else's already, of whatever size: theirs to look after.
                    return True
                if answer["ContentLength"] != len(data):
                    return False
                found = body.read()
        self._other_tags = found == data
        return self._other_tags

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """See `ObjectStore`."""
        full = self._full("") + require_prefix(prefix)
        with self._translated(prefix):
            for page in self._pages(Prefix=full):
                for found in page.get("Contents", ()):
                    # Some stores match a prefix by their own rules: only what is beneath ours is ours.
                    if found["Key"].startswith(full):
                        key = found["Key"][len(self._full("")) :]
                        yield ObjectInfo(key, int(found["Size"]), found["LastModified"])

    def folders(self) -> Iterator[str]:
        """See `ObjectStore`."""
        full = self._full("")
        with self._translated(""):
            for page in self._pages(Prefix=full, Delimiter="/"):
                for found in page.get("CommonPrefixes", ()):
                    if found["Prefix"].startswith(full):
                        yield found["Prefix"][len(full) :].rstrip("/")

    def delete(self, keys: Sequence[str]) -> None:
        """See `ObjectStore`."""
        for at in range(0, len(keys), _DELETED_AT_A_TIME):
            names = [self._full(require_key(key)) for key in keys[at : at + _DELETED_AT_A_TIME]]
            if not self._one_by_one:
                self._delete_together(names)
            if self._one_by_one:
                self._delete_each(names)

    def _delete_together(self, names: Sequence[str]) -> None:
        """Remove objects by one request. Where a store knows no such request, or not this form, that is noted."""
        from botocore.exceptions import ClientError  # noqa: PLC0415 - see the module's docstring

        wanted = {"Objects": [{"Key": name} for name in names], "Quiet": True}
        with self._translated("objects to delete"):
            try:
                answer = self._s3().delete_objects(Bucket=self._location.bucket, Delete=wanted)
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") not in _NOT_TOGETHER:
                    raise
                self._one_by_one = True
                return
            failed = [e for e in answer.get("Errors", ()) if e.get("Code") != "NoSuchKey"]
        if failed:
            raise self._error(str(failed[0].get("Code")), 0, str(failed[0].get("Key", ""))[-80:])

    def _delete_each(self, names: Sequence[str]) -> None:
        for name in names:
            with contextlib.suppress(ObjectMissing), self._translated(name[-80:]):
                self._s3().delete_object(Bucket=self._location.bucket, Key=name)

    def hasty(self) -> "S3Store":
        """The same place, for requests that are given little time: whoever waits for them is about to go."""
        return S3Store(self._location, replace(self._options, connect_seconds=_HASTY, read_seconds=_HASTY))

    @contextlib.contextmanager
    def speaking(self, key: str) -> Iterator[tuple[Any, dict[str, str]]]:
        """The library's client, and the words that name ``key`` to it; within, the library's errors become ours."""
        with self._translated(key):
            yield self._s3(), {"Bucket": self._location.bucket, "Key": self._full(key)}

    def close(self) -> None:
        """See `ObjectStore`."""
        with self._lock:
            if self._client is not None:
                self._client.close()
                self._client = None

    def _pages(self, **what: str) -> Iterator[Any]:
        pages = self._s3().get_paginator("list_objects_v2").paginate(Bucket=self._location.bucket, **what)
        yield from pages

    def _full(self, key: str) -> str:
        if key:
            require_key(key)
        return f"{self._location.prefix}/{key}" if self._location.prefix else key

    def _s3(self) -> Any:
        with self._lock:
            if self._client is None:
                self._client = _made(self._options)
            return self._client

    @contextlib.contextmanager
    def _translated(self, key: str) -> Iterator[None]:
        """Turns the library's errors into ours. What they say is not passed on: it may hold a signed request."""
        from botocore import exceptions  # noqa: PLC0415 - see the module's docstring
        from botocore.parsers import ResponseParserError  # noqa: PLC0415 - comes with it
        from urllib3.exceptions import HTTPError  # noqa: PLC0415 - comes with it

        try:
            yield
        except exceptions.ClientError as error:
            said = error.response.get("Error", {})
            status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
            raise self._error(str(said.get("Code", "")), status, key) from None
        except (exceptions.NoCredentialsError, exceptions.PartialCredentialsError):
            raise StoreRefused(
                f"There are no credentials for {self._location}: name `access_key` and `secret_key`."
            ) from None  # fmt: skip
        except (exceptions.HTTPClientError, exceptions.ConnectionError, HTTPError, OSError) as error:
            raise StoreUnavailable(
                f"{self._location} did not answer, or broke off ({type(error).__name__})."
            ) from None  # fmt: skip
        except (ResponseParserError, exceptions.IncompleteReadError):
            # An answer that cannot be read is a broken one: a proxy's page, or half of one.
            raise StoreUnavailable(f"{self._location} gave an answer that breaks off.") from None
        except exceptions.BotoCoreError as error:
            raise StoreRefused(f"{self._location} cannot be used ({type(error).__name__}).") from None

    def _error(self, code: str, status: int, key: str) -> CarrelError:
        if code in ("PreconditionFailed", "ConditionalRequestConflict") or status == 412:
            return ObjectChanged(f"The object {key} is not as it was.")
        if code in ("NoSuchKey", "404"):
            return ObjectMissing(f"There is no object {key}.")
        if code in _REASONS:
            return StoreRefused(f"{self._location} refuses: {_REASONS[code]}.", details={"reason": code})
        if code in _LATER or (status >= 500 and status != _NEVER) or status in (408, 429):
            return StoreUnavailable(f"{self._location} could not do it just now ({code or status}).")
        return StoreRefused(f"{self._location} refuses ({code or status}).", details={"reason": code[:64]})


@lru_cache(maxsize=1)
def _models() -> Any:
    """What the library reads of its own files: to read them for each tenant's store took nine tenths of its making."""
    from botocore.loaders import create_loader  # noqa: PLC0415 - see the module's docstring

    return create_loader()


def _made(options: S3Options) -> Any:
    import boto3  # noqa: PLC0415 - see the module's docstring
    from botocore import UNSIGNED  # noqa: PLC0415 - comes with it
    from botocore.config import Config  # noqa: PLC0415 - comes with it
    from botocore.exceptions import NoCredentialsError  # noqa: PLC0415 - comes with it
    from botocore.session import get_session  # noqa: PLC0415 - comes with it

    keys = {
        "aws_access_key_id": options.access_key,
        "aws_secret_access_key": options.secret_key,
        "aws_session_token": options.session_token,
    }
    config = Config(
        signature_version=UNSIGNED if options.google else None,
        s3={"addressing_style": "path" if options.path_style else "auto", "payload_signing_enabled": True},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        # Tries are counted in one place only: `PatientStore`.
        retries={"total_max_attempts": 1, "mode": "standard"},
        connect_timeout=options.connect_seconds,
        read_timeout=options.read_seconds,
        max_pool_connections=CONNECTIONS,
        user_agent_appid="carrel",
    )
    core = get_session()
    core.register_component("data_loader", _models())
    client = boto3.session.Session(botocore_session=core).client(
        "s3", endpoint_url=options.endpoint, region_name=options.region or "us-east-1", config=config,
        **{name: secret.reveal() for name, secret in keys.items() if secret is not None},
    )  # fmt: skip
    if options.google:
        from carrel.objects.gcs import speak_google  # noqa: PLC0415 - it loads the library

        if options.access_key is None or options.secret_key is None:
            raise NoCredentialsError
        if options.session_token is not None:
            raise StoreRefused("Google's HMAC keys have no `session_token`: leave it out.")
        speak_google(client, options.access_key.reveal(), options.secret_key.reveal(), options.region)
    return client
