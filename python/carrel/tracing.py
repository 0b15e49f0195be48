"""Traces by OpenTelemetry: off unless an endpoint is declared, and then sent there by OTLP over HTTP.

The library is an extra (`carrel[traces]`), imported with the first endpoint. A span holds names and numbers alone: no
text that anybody wrote, no token, and nothing that a model provider is sent.
"""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import structlog

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.sampling import Sampler
    from opentelemetry.trace import Tracer

Value = str | int | float | bool
_log = structlog.get_logger(__name__)
_CHANCE: Final = random.SystemRandom().random
_MISSING: Final = "traces are declared, and OpenTelemetry is not installed: `pip install carrel[traces]`"


class Span:
    """A stretch of work. One that is not recorded does nothing."""

    __slots__ = ("_real",)

    def __init__(self, real: Any = None) -> None:
        self._real = real

    def set(self, **values: Value) -> None:
        """Say more of it, by dotted names with `_` for `.`."""
        if self._real is not None:
            for name, value in values.items():
                self._real.set_attribute(f"carrel.{name}", value)

    def end(self, *, error: str | None = None, **values: Value) -> None:
        """It is over; ``error`` is the code of what went wrong."""
        if self._real is None:
            return
        self.set(**values)
        if error is not None:
            from opentelemetry.trace import Status, StatusCode  # noqa: PLC0415 - an extra

            self._real.set_status(Status(StatusCode.ERROR, error))
        self._real.end()


_OFF: Final = Span()


class Traces:
    """Makes spans of one gateway. `follow` what is declared before and while it is used; `close` it last.

    ``chance`` gives a number from 0 to below 1 for each request, by which it is recorded or not.
    """

    def __init__(self, *, chance: Callable[[], float] = _CHANCE) -> None:
        self._chance = chance
        self._declared: tuple[str | None, float] = (None, 1.0)
        self._provider: TracerProvider | None = None
        self._tracer: Tracer | None = None
        self._read_parent: Callable[[dict[str, str]], Context] | None = None

    @property
    def on(self) -> bool:
        """Whether anything is recorded."""
        return self._tracer is not None

    def follow(self, endpoint: str | None, *, sample: float = 1.0, version: str = "") -> None:
        """Send spans to ``endpoint`` from now on, of a share ``sample`` of requests; None stops. Blocks a moment."""
        if (endpoint, sample) == self._declared:
            return
        self.close()
        self._declared = endpoint, sample
        if endpoint is None:
            return
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
            from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
            from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
            from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415
        except ImportError:
            _log.error(_MISSING)
            return
        resource = Resource({"service.name": "carrel", "service.version": version})
        sampler = _sampler(sample, self._chance)
        provider = TracerProvider(resource=resource, sampler=sampler, shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
        self._provider, self._tracer = provider, provider.get_tracer("carrel", version)
        self._read_parent = TraceContextTextMapPropagator().extract
        _log.info("traces are sent", endpoint=endpoint, sample=sample)

    def begin(self, name: str, **values: Value) -> Span:
        """A span that begins now, beneath the request that is answered. End it."""
        if self._tracer is None:
            return _OFF
        span = Span(self._tracer.start_span(name))
        span.set(**values)
        return span

    @contextmanager
    def request(self, name: str, *, parent: str = "", **values: Value) -> Iterator[Span]:
        """A span for as long as the block lasts, which all that begins in it is beneath.

        ``parent`` is the caller's own span, by the header `traceparent` (W3C Trace Context); what is none is let fall.
        """
        if self._tracer is None:
            yield _OFF
            return
        context = self._read_parent({"traceparent": parent}) if parent and self._read_parent is not None else None
        with self._tracer.start_as_current_span(name, context=context, record_exception=False) as real:
            span = Span(real)
            span.set(**values)
            yield span

    def close(self) -> None:
        """Send what is not sent yet, for a few seconds at most, and record nothing more. Blocks."""
        provider, self._provider, self._tracer = self._provider, None, None
        if provider is not None:
            provider.shutdown()


def _sampler(share: float, chance: Callable[[], float]) -> "Sampler":
    """Records ``share`` of requests, and what is beneath one as that one.

    How much is recorded the operator says, not who calls: neither the flag of a caller's `traceparent` decides nor its
    trace id, by which the library's own ratio goes.
    """
    from opentelemetry.sdk.trace import sampling  # noqa: PLC0415 - an extra

    class Share(sampling.Sampler):
        def should_sample(self, *_about: Any, **_more: Any) -> sampling.SamplingResult:
            recorded = chance() < share
            return sampling.SamplingResult(sampling.Decision.RECORD_AND_SAMPLE if recorded else sampling.Decision.DROP)

        def get_description(self) -> str:
            return f"Share{{{share}}}"

    ours = Share()
    return sampling.ParentBased(ours, remote_parent_sampled=ours, remote_parent_not_sampled=ours)
