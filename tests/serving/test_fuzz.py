"""The HTTP surface under random requests that are generated from its own description: none breaks it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import schemathesis
from direct_service import Service
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from live_service import live
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import content_type_conformance, status_code_conformance
from small_system import System

from serving.api_keys import create_api_key

pytestmark = pytest.mark.slow
SystemOf = Callable[..., System]
EXAMPLES = 150


def test_no_request_that_the_description_allows_or_forbids_breaks_the_service(system_of: SystemOf) -> None:
    system = system_of("minute", 30)
    _, secret = create_api_key(system.keys, ["admin"], "fuzz")
    with live(Service(system)) as url:
        schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
        for result in schema.get_all_operations():
            assert isinstance(result, Ok), result
            operation = result.ok()
            valid = operation.as_strategy(generation_mode=schemathesis.GenerationMode.POSITIVE)
            broken = operation.as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE)

            @settings(
                max_examples=EXAMPLES,
                deadline=None,
                database=None,
                derandomize=True,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(case=st.one_of(valid, broken) if operation.body or operation.path_parameters else valid)
            def check(case: schemathesis.Case[Any]) -> None:
                case.call_and_validate(
                    headers={"Authorization": f"Bearer {secret}"},
                    checks=[not_a_server_error, status_code_conformance, content_type_conformance],
                )

            check()
