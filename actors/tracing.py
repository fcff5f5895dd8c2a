"""Spans of OpenTelemetry for what the coordinator and the owners do; off unless the environment asks for them.

A piece of work becomes a span, and each fail point that it passed a span below it, from the fail point before. The
exporters are those that are installed; ``console`` is always there.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from actors.passages import Observe, Passage

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter

VARIABLE = "LMERASER_TRACE"
_EXPORTERS = "OTEL_TRACES_EXPORTER"
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_log = logging.getLogger(__name__)


class Traces:
    """Hands spans to a provider."""

    def __init__(self, provider: TracerProvider) -> None:
        self._tracer = provider.get_tracer("lmeraser")

    def observe(self, passed: Passage) -> None:
        """Hand on the spans of a piece of work, unless there was nothing to do."""
        from opentelemetry.trace import StatusCode, set_span_in_context

        if passed.idle:
            return

        def at_ns(clock_s: float) -> int:
            return round((passed.begun_at + clock_s - passed.begun_s) * 1e9)

        attributes = {f"lmeraser.{name}": value for name, value in passed.attributes.items()}
        whole = self._tracer.start_span(passed.name, start_time=at_ns(passed.begun_s), attributes=attributes)
        context = set_span_in_context(whole)
        for point, before_s, passed_s in passed.parts():
            part = self._tracer.start_span(point.value, context, start_time=at_ns(before_s))
            part.end(at_ns(passed_s))
        if passed.error is not None:
            # Without the message, which may name what it is about.
            whole.set_status(StatusCode.ERROR, passed.error)
        whole.end(at_ns(passed.ended_s))


def tracing(process: str, environment: Mapping[str, str] = os.environ) -> tuple[Observe, ...]:
    """The observers of work that trace it: none where tracing is off, or cannot be switched on.

    Args:
        process: "coordinator" or "owner".
        environment: ``LMERASER_TRACE=1``, or variables of OpenTelemetry that name an exporter or a collector, switch
            it on; ``LMERASER_TRACE=0`` or ``OTEL_SDK_DISABLED=true`` off.
    """
    if not _is_on(environment):
        return ()
    try:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        _log.warning("nothing is traced: %s; install opentelemetry-sdk", error)
        return ()
    name = environment.get("OTEL_SERVICE_NAME") or f"lmeraser-{process}"
    provider = TracerProvider(resource=Resource.create({"service.name": name, "lmeraser.process": process}))
    exporters = list(_exporters(environment))
    for exporter in exporters:
        provider.add_span_processor(BatchSpanProcessor(exporter))
    return (Traces(provider).observe,) if exporters else ()


def _is_on(environment: Mapping[str, str]) -> bool:
    asked = environment.get(VARIABLE, "")
    if asked == "0" or environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    named = environment.get(_EXPORTERS, "") not in ("", "none")
    return bool(asked) or named or any(environment.get(name) for name in _ENDPOINTS)


def _exporters(environment: Mapping[str, str]) -> Iterator[SpanExporter]:
    """The exporters that the environment names, as far as they are installed."""
    default = "otlp" if any(environment.get(name) for name in _ENDPOINTS) else "console"
    for name in (environment.get(_EXPORTERS) or default).split(","):
        if name.strip() == "none":
            continue
        known = _entry_of(name.strip(), environment)
        points = entry_points(group="opentelemetry_traces_exporter", name=known)
        try:
            (point,) = points
            yield point.load()()
        except Exception as error:
            # A collector that cannot be reached, or a package that is missing, must not keep anything from its work.
            reason = str(error) if points else "no installed package has it"
            _log.warning("spans are not exported by %s: %s", known, reason)


def _entry_of(name: str, environment: Mapping[str, str]) -> str:
    """The name under which packages offer an exporter: that of OTLP depends on the protocol."""
    if name != "otlp":
        return name
    protocol = next((environment[variable] for variable in _PROTOCOLS if environment.get(variable)), "grpc")
    return f"otlp_proto_{'http' if protocol.startswith('http') else 'grpc'}"
