"""Google Cloud Storage's XML API on a socket, by its documentation alone: nothing of Google's is in it.

It verifies V4 signatures in both families of words, byte by byte; keeps a generation for each object; takes `If-Match`
and `If-None-Match` for reads alone, and ignores them with writes; and refuses a request that has headers of both
families. Where the documentation is silent it does as others have measured the real thing to do: its front end changes
`Accept-Encoding`, a signature over which therefore does not hold; the first request of an upload in parts refuses a
condition, and the last one ignores it.

Sources: cloud.google.com/storage/docs/authentication/signatures, …/authentication/canonical-requests,
…/xml-api/reference-headers, …/xml-api/reference-status, …/xml-api/put-object-upload, …/xml-api/delete-object,
…/xml-api/post-bucket, …/xml-api/get-bucket-list, …/multipart-uploads, …/request-preconditions.
"""

import base64
import contextlib
import hashlib
import hmac
import threading
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final, Literal
from urllib.parse import parse_qsl, quote, unquote, urlsplit
from xml.sax.saxutils import escape

from carrel.objects.s3 import S3Options
from carrel.secrets import Secret

ACCESS, SECRET = "GOOGEXAMPLEACCESSID", "example-secret-of-the-google-tests"
BUCKET: Final = "backups"
_SKEW: Final = timedelta(minutes=15)
_FAMILIES: Final = {
    "GOOG4-HMAC-SHA256": ("GOOG4", "x-goog-", "storage", "goog4_request"),
    "AWS4-HMAC-SHA256": ("AWS4", "x-amz-", "s3", "aws4_request"),
}


class Refusal(Exception):
    """An answer that is an error: its status and code."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status, self.code = status, code


@dataclass(slots=True)
class Asked:
    """A request. Names of ``headers`` are lower-case; several of one name are joined by commas."""

    method: str
    path: str
    raw_query: str
    headers: dict[str, str]
    body: bytes

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(self.raw_query, keep_blank_values=True))

    @property
    def place(self) -> tuple[str, str]:
        """Bucket and object's name."""
        bucket, _, name = unquote(self.path).removeprefix("/").partition("/")
        return bucket, name


@dataclass(slots=True)
class Answer:
    """What is sent back."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Kept:
    """An object. ``md5`` is None where it was put together from parts."""

    data: bytes
    generation: int
    etag: str
    md5: str | None
    at: datetime


@dataclass(slots=True)
class Upload:
    """An upload in parts that is under way."""

    name: str
    at: datetime
    parts: dict[int, tuple[str, bytes]] = field(default_factory=dict)


def canonical_of(asked: Asked, family: str, names: list[str]) -> str:
    """The canonical request, with the headers of ``names`` signed."""
    pairs = sorted(parse_qsl(asked.raw_query, keep_blank_values=True))
    query = "&".join(f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in pairs)
    headers = "".join(f"{name}:{' '.join(asked.headers[name].split())}\n" for name in names)
    payload = asked.headers.get(f"{family}content-sha256", "UNSIGNED-PAYLOAD")
    return f"{asked.method}\n{asked.path}\n{query}\n{headers}\n{';'.join(names)}\n{payload}"


def signature_of(asked: Asked, secret: str, *, algorithm: str, scope: str, at: str, names: list[str]) -> str:
    """What the request's signature has to be."""
    start, family, _, _ = _FAMILIES[algorithm]
    canonical = canonical_of(asked, family, names)
    to_sign = f"{algorithm}\n{at}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = (start + secret).encode()
    for word in scope.split("/"):
        key = hmac.new(key, word.encode(), hashlib.sha256).digest()
    return hmac.new(key, to_sign.encode(), hashlib.sha256).hexdigest()


def require_signed(asked: Asked, now: datetime) -> str:
    """The family of words that the request is signed in; raises Refusal."""
    algorithm, _, rest = asked.headers.get("authorization", "").partition(" ")
    if algorithm not in _FAMILIES:
        raise Refusal(403, "AccessDenied")
    _, family, service, end = _FAMILIES[algorithm]
    if len({name.split("-")[1] for name in asked.headers if name.startswith(("x-goog-", "x-amz-"))}) > 1:
        raise Refusal(400, "ExcessHeaderValues")
    given = dict(part.strip().split("=", 1) for part in rest.split(","))
    access, _, scope = given["Credential"].partition("/")
    names, at = given["SignedHeaders"].split(";"), asked.headers.get(f"{family}date", "")
    if access != ACCESS:
        raise Refusal(403, "InvalidSecurity")
    if not at or abs(datetime.strptime(at, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC) - now) > _SKEW:
        raise Refusal(403, "RequestTimeTooSkewed")
    day, *_, named, ended = scope.split("/")
    wanted = {name for name in asked.headers if name.startswith(family) and name != f"{family}content-sha256"}
    if names != sorted(names) or "host" not in names or not wanted <= {*names} <= {*asked.headers}:
        raise Refusal(400, "MalformedSecurityHeader")
    right = signature_of(asked, SECRET, algorithm=algorithm, scope=scope, at=at, names=names)
    if (day, named, ended) != (at[:8], service, end) or "accept-encoding" in names or given["Signature"] != right:
        raise Refusal(403, "SignatureDoesNotMatch")
    told = asked.headers.get(f"{family}content-sha256", "UNSIGNED-PAYLOAD")
    if told != "UNSIGNED-PAYLOAD" and told != hashlib.sha256(asked.body).hexdigest():
        raise Refusal(400, "BadDigest")
    return family


def options(url: str, *, secret: str = SECRET, dialect: Literal["s3", "gcs"] = "gcs") -> S3Options:
    """How the server is reached; ``dialect`` as it is declared where the host's name does not tell."""
    return S3Options(
        endpoint=url, access_key=Secret(ACCESS), secret_key=Secret(secret), dialect=dialect, connect_seconds=10.0,
        read_seconds=2.0,
    )  # fmt: skip


class GoogleStorage:
    """The server with one bucket. ``together``: whether it knows the request that removes many objects, which is newer.

    ``asked`` are the requests so far. ``page`` is how many names a listing gives at a time.
    """

    def __init__(self, *, together: bool = True, page: int = 1000) -> None:
        self.objects: dict[str, Kept] = {}
        self.uploads: dict[str, Upload] = {}
        self.asked: list[Asked] = []
        self.together = together
        self.own_keys = False
        """Whether the bucket has an encryption key of its own: then tags are no MD5s."""
        self.page = page
        self.now: Callable[[], datetime] = lambda: datetime.now(UTC)
        self.assembled: Callable[[bytes], bytes] = lambda data: data
        self._generation = 1_700_000_000_000_000
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    def __enter__(self) -> "GoogleStorage":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def answer(self, asked: Asked) -> Answer:
        """The answer to one request. One at a time: what is kept changes at once or not at all."""
        with self._lock:
            self.asked.append(asked)
            try:
                return self._answer(asked, require_signed(asked, self.now()))
            except Refusal as refusal:
                text = f"<?xml version='1.0' encoding='UTF-8'?><Error><Code>{refusal.code}</Code></Error>"
                return Answer(refusal.status, text.encode(), {"Content-Type": "application/xml"})

    def _answer(self, asked: Asked, family: str) -> Answer:
        bucket, name = asked.place
        query = asked.query
        if bucket != BUCKET:
            raise Refusal(404, "NoSuchBucket")
        digest = asked.headers.get("content-md5")
        if digest is not None and digest != _md5(asked.body):
            raise Refusal(400, "BadDigest")
        if not name:
            return self._of_bucket(asked)
        if "uploads" in query or "uploadId" in query:
            return self._in_parts(asked, name)
        if asked.method == "PUT":
            self._require(asked, name, family)
            return Answer(200, b"", _headers(self._keep(name, asked.body, _md5(asked.body))))
        if asked.method in ("GET", "HEAD"):
            return self._read(asked, name)
        if asked.method == "DELETE":
            self._require(asked, name, family)
            if self.objects.pop(name, None) is None:
                raise Refusal(404, "NoSuchKey")
            return Answer(204)
        raise Refusal(400, "InvalidArgument")

    def _require(self, asked: Asked, name: str, family: str) -> None:
        """A write's condition, of the one kind that there is."""
        wanted = asked.headers.get("x-goog-if-generation-match") if family == "x-goog-" else None
        kept = self.objects.get(name)
        if wanted is not None and int(wanted) != (kept.generation if kept is not None else 0):
            raise Refusal(412, "PreconditionFailed")

    def _keep(self, name: str, data: bytes, md5: str | None) -> Kept:
        self._generation += 1
        tag = base64.b64decode(md5).hex() if md5 is not None else f"{hashlib.sha256(data).hexdigest()[:16]}-compose"
        if self.own_keys:
            tag = f"{self._generation:x}"
        self.objects[name] = Kept(data, self._generation, f'"{tag}"', md5, self.now())
        return self.objects[name]

    def _read(self, asked: Asked, name: str) -> Answer:
        kept = self.objects.get(name)
        if kept is None:
            raise Refusal(404, "NoSuchKey")
        wanted = asked.headers.get("x-goog-if-generation-match")
        if (wanted is not None and int(wanted) != kept.generation) or (
            asked.headers.get("if-match", kept.etag) != kept.etag
        ):
            raise Refusal(412, "PreconditionFailed")
        if asked.headers.get("if-none-match") == kept.etag:
            return Answer(304)
        headers, data, status = _headers(kept), kept.data, 200
        if "range" in asked.headers:
            first, _, last = asked.headers["range"].removeprefix("bytes=").partition("-")
            begin, end = int(first), min(int(last or len(data)), len(data) - 1)
            headers["Content-Range"] = f"bytes {begin}-{end}/{len(data)}"
            data, status = data[begin : end + 1], 206
        headers["Content-Length"] = str(len(data))
        return Answer(status, data, headers)

    def _of_bucket(self, asked: Asked) -> Answer:
        if asked.method == "GET" and asked.query.get("list-type") == "2":
            return _xml(self._listed(asked.query))
        if asked.method == "GET" and "uploads" in asked.query:
            return _xml(self._under_way(asked.query.get("prefix", "")))
        if asked.method == "POST" and "delete" in asked.query and self.together:
            found = ET.fromstring(asked.body).iter()  # noqa: S314 - of the test's own making
            names = [one.text or "" for one in found if one.tag.rpartition("}")[2] == "Key"]
            gone = [name for name in names if self.objects.pop(name, None) is None]
            wrong = "".join(f"<Error><Key>{escape(name)}</Key><Code>NoSuchKey</Code></Error>" for name in gone)
            return _xml(f"<DeleteResult>{wrong}</DeleteResult>")
        raise Refusal(400, "InvalidArgument")

    def _under_way(self, prefix: str) -> str:
        found = "".join(
            f"<Upload><Key>{escape(one.name)}</Key><UploadId>{upload}</UploadId>"
            f"<Initiated>{_at(one.at)}</Initiated></Upload>"
            for upload, one in self.uploads.items() if one.name.startswith(prefix)
        )  # fmt: skip
        return f"<ListMultipartUploadsResult><IsTruncated>false</IsTruncated>{found}</ListMultipartUploadsResult>"

    def _listed(self, query: dict[str, str]) -> str:
        prefix, delimiter, after = query.get("prefix", ""), query.get("delimiter"), query.get("continuation-token", "")
        rows: dict[str, str] = {}
        for name in sorted(self.objects):
            head, found, _ = name.removeprefix(prefix).partition(delimiter or "\0")
            if not name.startswith(prefix):
                continue
            shown = prefix + head + delimiter if delimiter is not None and found else name
            kept, text = self.objects[name], escape(quote(shown, safe="/~"))
            rows[shown] = (
                f"<CommonPrefixes><Prefix>{text}</Prefix></CommonPrefixes>" if shown != name else
                f"<Contents><Key>{text}</Key><Generation>{kept.generation}</Generation><Size>{len(kept.data)}</Size>"
                f"<LastModified>{_at(kept.at)}</LastModified><ETag>{escape(kept.etag)}</ETag></Contents>"
            )  # fmt: skip
        names = [name for name in rows if name > after]
        some = names[: self.page]
        more = f"<NextContinuationToken>{escape(some[-1])}</NextContinuationToken>" if len(names) > len(some) else ""
        return (
            f"<ListBucketResult><EncodingType>url</EncodingType><KeyCount>{len(some)}</KeyCount>"
            f"<IsTruncated>{str(bool(more)).lower()}</IsTruncated>{more}{''.join(rows[name] for name in some)}"
            "</ListBucketResult>"
        )

    def _in_parts(self, asked: Asked, name: str) -> Answer:
        upload = asked.query.get("uploadId")
        if upload is None:
            if "x-goog-if-generation-match" in asked.headers:
                raise Refusal(400, "NotImplemented")
            made = f"upload-{len(self.asked)}"
            self.uploads[made] = Upload(name, self.now())
            text = f"<Bucket>{BUCKET}</Bucket><Key>{escape(name)}</Key><UploadId>{made}</UploadId>"
            return _xml(f"<InitiateMultipartUploadResult>{text}</InitiateMultipartUploadResult>")
        if self.uploads.get(upload, Upload("", self.now())).name != name:
            raise Refusal(404, "NoSuchUpload")
        if asked.method == "DELETE":
            del self.uploads[upload]
            return Answer(204)
        if asked.method == "PUT":
            tag = f'"{hashlib.md5(asked.body, usedforsecurity=False).hexdigest()}"'
            self.uploads[upload].parts[int(asked.query["partNumber"])] = tag, asked.body
            return Answer(200, b"", {"ETag": tag})
        if asked.method == "GET":
            return _xml(_parts(self.uploads[upload]))
        parts, data = self.uploads[upload].parts, b""
        for one in ET.fromstring(asked.body):  # noqa: S314 - of the test's own making
            told = {found.tag.rpartition("}")[2]: found.text or "" for found in one}
            tag, piece = parts.get(int(told["PartNumber"]), ("", b""))
            if tag.strip('"') != told["ETag"].strip('"'):
                raise Refusal(400, "InvalidPart")
            data += piece
        del self.uploads[upload]
        kept = self._keep(name, self.assembled(data), None)
        text = f"<Key>{escape(name)}</Key><ETag>{escape(kept.etag)}</ETag>"
        answer = _xml(f"<CompleteMultipartUploadResult>{text}</CompleteMultipartUploadResult>")
        answer.headers["x-goog-generation"] = str(kept.generation)
        return answer


def _parts(upload: Upload) -> str:
    found = "".join(
        f"<Part><PartNumber>{number}</PartNumber><LastModified>{_at(upload.at)}</LastModified>"
        f"<ETag>{escape(tag)}</ETag><Size>{len(data)}</Size></Part>" for number, (tag, data) in upload.parts.items()
    )  # fmt: skip
    return f"<ListPartsResult><IsTruncated>false</IsTruncated>{found}</ListPartsResult>"


def _headers(kept: Kept) -> dict[str, str]:
    headers = {
        "ETag": kept.etag, "x-goog-generation": str(kept.generation), "x-goog-metageneration": "1",
        "x-goog-stored-content-length": str(len(kept.data)), "Last-Modified": format_datetime(kept.at, usegmt=True),
    }  # fmt: skip
    told = "crc32c=AAAAAA==" + (f",md5={kept.md5}" if kept.md5 is not None else "")
    return {**headers, "x-goog-hash": told}


def _xml(text: str) -> Answer:
    return Answer(200, f"<?xml version='1.0' encoding='UTF-8'?>{text}".encode(), {"Content-Type": "application/xml"})


def _md5(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


def _at(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}Z"


def _handler(server: GoogleStorage) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one_request(self) -> None:
            with contextlib.suppress(ConnectionError):
                super().handle_one_request()

        def _any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            parts = urlsplit(self.path)
            headers = {name.lower(): ",".join(self.headers.get_all(name, [])) for name in self.headers}
            answer = server.answer(Asked(self.command, parts.path, parts.query, headers, body))
            self.send_response(answer.status)
            for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.body)

        def __getattr__(self, name: str) -> object:
            if name.startswith("do_"):
                return self._any
            raise AttributeError(name)

        def log_message(self, *_: object) -> None:
            return

    return Handler
