"""Spans at the fail points, in an exporter that keeps them in memory."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from itertools import pairwise

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from small_system import System

from actors.fail_points import FailPoint, fail_point
from actors.passages import Passage, passage
from actors.tracing import Traces, tracing
from lmeraser.deletion import DeletionRequest

SystemOf = Callable[..., System]


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def traces(exporter: InMemorySpanExporter) -> Traces:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return Traces(provider)


def times(span: ReadableSpan) -> tuple[int, int]:
    assert span.start_time is not None and span.end_time is not None
    return span.start_time, span.end_time


def test_a_deletion_is_a_chain_of_spans_below_those_of_the_coordinators_steps(
    system_of: SystemOf, exporter: InMemorySpanExporter, traces: Traces
) -> None:
    coordinator = system_of("minute", 24).coordinator()
    with passage("coordinator.delete", (traces.observe,)) as passed:
        passed.attributes["deletion"] = coordinator.delete(DeletionRequest(("s3",), ("u4",))).id
    while not coordinator.idle():
        with passage("coordinator.step", (traces.observe,)) as passed:
            passed.idle = not coordinator.step()
    spans = exporter.get_finished_spans()
    works = [span for span in spans if span.parent is None]
    assert works[0].name == "coordinator.delete"
    assert {work.name for work in works[1:]} == {"coordinator.step"}
    names = [span.name for span in spans if span.parent is not None]
    in_order = [
        FailPoint.REQUEST_RECORDED,
        FailPoint.HEADS_WRITTEN,
        FailPoint.COMMIT_APPENDED,
        FailPoint.LEASE_WAITED,
        FailPoint.SWEPT,
        FailPoint.ERASED_RECORDED,
    ]
    places = [names.index(point) for point in in_order]
    assert places == sorted(places)
    assert FailPoint.COMPLETED_RECORDED in names
    for work in works:
        parts = [span for span in spans if span.parent is not None and span.parent.span_id == work.context.span_id]
        bounds = [times(part) for part in parts]
        # A sweep after a tuning passes none.
        assert not bounds or (bounds[0][0], True) == (times(work)[0], bounds[-1][1] <= times(work)[1])
        assert all(before[1] == after[0] for before, after in pairwise(bounds))
    written = " ".join(span.to_json() for span in spans)
    assert passed.name in written and '"s3"' not in written and '"u4"' not in written


def test_work_that_fails_is_a_span_with_an_error_and_no_message(exporter: InMemorySpanExporter, traces: Traces) -> None:
    def work() -> None:
        with passage("coordinator.step", (traces.observe,)):
            fail_point(FailPoint.ROWS_READ)
            raise ValueError("row s3")

    with pytest.raises(ValueError, match="row s3"):
        work()
    part, whole = exporter.get_finished_spans()
    assert (part.name, whole.name) == ("rows read", "coordinator.step")
    assert (whole.status.status_code.name, whole.status.description) == ("ERROR", "ValueError")


def test_only_the_fail_points_of_the_same_thread_and_block_are_noted() -> None:
    passages: list[Passage] = []
    fail_point(FailPoint.ROWS_READ)
    with passage("work", (passages.append,)):
        fail_point(FailPoint.ROWS_WRITTEN)
        other = threading.Thread(target=fail_point, args=(FailPoint.HEADS_WRITTEN,))
        other.start()
        other.join()
    fail_point(FailPoint.SWEPT)
    (passed,) = passages
    assert [point for point, _ in passed.points] == [FailPoint.ROWS_WRITTEN]


@pytest.mark.parametrize(
    ("environment", "on"),
    [
        ({}, False),
        ({"OTEL_TRACES_EXPORTER": "none"}, False),
        ({"LMERASER_TRACE": "0", "OTEL_TRACES_EXPORTER": "console"}, False),
        ({"LMERASER_TRACE": "1", "OTEL_SDK_DISABLED": "true"}, False),
        ({"LMERASER_TRACE": "1"}, True),
        ({"OTEL_TRACES_EXPORTER": "console"}, True),
    ],
)
def test_tracing_is_off_unless_the_environment_asks_for_it(environment: dict[str, str], on: bool) -> None:
    assert bool(tracing("coordinator", environment)) == on


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}, "otlp_proto_grpc"),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, "otlp_proto_http"),
        ({"OTEL_TRACES_EXPORTER": "nothing"}, "nothing"),
    ],
)
def test_an_exporter_that_is_not_installed_is_a_warning(
    environment: dict[str, str], named: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "actors"):
        assert tracing("owner", environment) == ()
    assert caplog.messages == [f"spans are not exported by {named}: no installed package has it"]
