"""Google's own dialect of S3's protocol: for what Google Cloud Storage takes in S3's words and ignores.

Google takes `If-Match` and `If-None-Match` for reads alone, and writes all the same. Its conditions of writes are
generations: `x-goog-if-generation-match`, 0 where there is to be none; uploads in parts have none. A request bears
headers of one family only, and `x-goog-` ones want Google's signature, which is Amazon's with other words. So what the
library makes is put into those words before it goes out; and the generation is told by what comes back, as a part of
the object's tag.

Sources: Cloud Storage's documentation (cloud.google.com/storage/docs) of signatures and canonical requests
(…/authentication/signatures, …/authentication/canonical-requests), of headers (…/xml-api/reference-headers) and of
conditions (…/request-preconditions). Only who uses it loads the library.
"""

import base64
import contextlib
import hashlib
import hmac
from typing import Any, Final
from urllib.parse import urlsplit

from botocore.auth import SIGV4_TIMESTAMP, S3SigV4Auth
from botocore.compat import get_current_datetime
from botocore.credentials import Credentials

from carrel.objects.protocol import ObjectChanged, StoreRefused

ALGORITHM: Final = "GOOG4-HMAC-SHA256"
ANYWHERE: Final = "auto"
"""The location of a signature's scope, where nothing says which."""
_QUOTE: Final = '"'
_SIGNED: Final = frozenset({"host", "content-md5", "content-type"})
"""Besides Google's own. Its front end changes others on their way (`accept-encoding`), and the signature with them."""


class GoogleAuth(S3SigV4Auth):  # type: ignore[misc] # the library has no types
    """Signs a request in Google's words."""

    def add_auth(self, request: Any) -> None:
        """Put the request's headers into Google's words, and sign it."""
        at = get_current_datetime().strftime(SIGV4_TIMESTAMP)
        headers = request.headers
        _translate(request)
        payload = self.payload(request)
        for name, value in (("x-goog-date", at), ("x-goog-content-sha256", payload)):
            del headers[name]
            headers[name] = value
        signed = self.headers_to_sign(request)
        names = self.signed_headers(signed)
        canonical = "\n".join([
            request.method.upper(), urlsplit(request.url).path or "/", self.canonical_query_string(request),
            self.canonical_headers(signed), "", names, payload,
        ])  # fmt: skip
        scope = f"{at[:8]}/{self._region_name}/{self._service_name}/goog4_request"
        key = b"GOOG4" + self.credentials.secret_key.encode()
        for word in (*scope.split("/"), "\n".join([ALGORITHM, at, scope, _sha256(canonical)])):
            key = hmac.digest(key, word.encode(), "sha256")
        credential = f"{self.credentials.access_key}/{scope}"
        del headers["Authorization"]
        headers["Authorization"] = (
            f"{ALGORITHM} Credential={credential}, SignedHeaders={names}, Signature={key.hex()}"
        )  # fmt: skip

    def headers_to_sign(self, request: Any) -> Any:
        """Those that Google wants signed, and those that say what is in the body."""
        found = super().headers_to_sign(request)
        for name in {*found}:
            if name not in _SIGNED and not name.startswith("x-goog-"):
                del found[name]
        return found


def speak_google(client: Any, access_key: str, secret_key: str, location: str | None) -> None:
    """Make an S3 client that signs nothing itself speak to Google, with an HMAC key."""
    auth = GoogleAuth(Credentials(access_key, secret_key), "storage", location or ANYWHERE)

    def sign(request: Any, **_: Any) -> None:
        auth.add_auth(request)

    client.meta.events.register("before-sign.s3", sign)
    client.meta.events.register("before-parse.s3", _tag)


def _translate(request: Any) -> None:
    """Conditions as generations, and nothing of Amazon's left."""
    headers = request.headers
    writes = request.method.upper() not in ("GET", "HEAD")
    wanted, unless = headers.get("If-Match"), headers.get("If-None-Match")
    if writes and "uploadId=" in urlsplit(request.url).query and (wanted or unless):
        # Google takes it, and completes the upload whether it holds or not.
        raise StoreRefused("Google completes no upload in parts on condition.", details={"reason": "NotImplemented"})
    if wanted is not None and (writes or _generation(wanted)):
        if not _generation(wanted):
            raise ObjectChanged("The object is not as it was: its tag was never one of Google's.")
        del headers["If-Match"]
        headers["x-goog-if-generation-match"] = _generation(wanted)
    elif writes and unless == "*":
        del headers["If-None-Match"]
        headers["x-goog-if-generation-match"] = "0"
    for name in {*headers.keys()}:
        if name.lower().startswith("x-amz-"):
            del headers[name]
    if request.method.upper() == "POST" and isinstance(request.body, bytes) and "Content-MD5" not in headers:
        headers["Content-MD5"] = base64.b64encode(hashlib.md5(request.body, usedforsecurity=False).digest()).decode()


def _generation(tag: str) -> str:
    return tag.strip(_QUOTE).partition(":")[2]


def _tag(response_dict: dict[str, Any], **_: Any) -> None:
    """The object's tag with its generation: `"MD5:GENERATION"`.

    With keys of its own Google's own tag is no MD5, which it tells besides.
    """
    headers = response_dict["headers"]
    tag, generation = headers.get("ETag"), headers.get("x-goog-generation")
    if tag is not None and generation is not None:
        headers["ETag"] = f'"{_md5(headers) or tag.strip(_QUOTE)}:{generation}"'


def _md5(headers: Any) -> str | None:
    """What `x-goog-hash` says, in hexadecimal digits."""
    for one in str(headers.get("x-goog-hash", "")).split(","):
        kind, _, value = one.strip().partition("=")
        if kind == "md5":
            with contextlib.suppress(ValueError):
                return base64.b64decode(value, validate=True).hex()
    return None


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
