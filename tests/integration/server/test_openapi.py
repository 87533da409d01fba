"""The OpenAPI document against the server: requests that schemathesis makes of it, good and bad ones."""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable

from tests.support.server import Running, running

LOADING = {"context_size": 256, "max_sequences": 2, "threads": 1}

pytestmark = pytest.mark.filterwarnings("ignore")  # schemathesis' own


@pytest.fixture(scope="module")
def fuzzed() -> Iterator[Running]:
    """A server of its own, since models are unloaded, too. Any name of a model is right, and answers are short."""
    with running("smollm2", loading=LOADING, any_model=True, max_tokens=4, max_choices=2, stored_responses=8) as server:
        yield server


def run_cases(server: Running, each: int, *, derandomize: bool) -> tuple[Counter[int], list[str]]:
    """`each` requests to each route, half of them against its schema; the number of answers by status, and what was wrong."""
    import schemathesis
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance, status_code_conformance

    checks: list[Any] = [not_a_server_error, content_type_conformance, response_schema_conformance, status_code_conformance]
    modes: Any = schemathesis.GenerationMode
    statuses: Counter[int] = Counter()
    problems: list[str] = []

    def check(strategy: Any, most: int) -> None:
        @settings(max_examples=most, deadline=None, database=None, derandomize=derandomize, phases=[Phase.explicit, Phase.generate],
                  suppress_health_check=list(HealthCheck))
        @given(case=strategy)
        def ask(case: Any) -> None:
            response = case.call(timeout=60)
            statuses[response.status_code] += 1
            case.validate_response(response, checks=checks)

        try:
            ask()
        except Unsatisfiable:  # nothing is against such a schema
            pass
        except Exception as error:
            problems.append("".join(traceback.format_exception_only(error))[:2000])

    found: Any
    for found in schemathesis.openapi.from_url(f"{server.url}/openapi.json").get_all_operations():
        operation: Any = found.ok()
        bare = not operation.body and not operation.path_parameters
        check(operation.as_strategy(generation_mode=modes.POSITIVE), 1 if bare else each - each // 2)
        if not bare:
            check(operation.as_strategy(generation_mode=modes.NEGATIVE), each // 2)
    return statuses, problems


def test_a_hundred_cases_break_nothing(fuzzed: Running) -> None:
    statuses, problems = run_cases(fuzzed, 4, derandomize=True)
    assert not problems, "\n\n".join(problems)
    assert sum(statuses.values()) >= 80 and statuses[200] > 10 and statuses[400] > 10


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_two_thousand_cases_break_nothing(fuzzed: Running) -> None:
    statuses, problems = run_cases(fuzzed, 100, derandomize=False)
    print(statuses)
    assert not problems, "\n\n".join(problems)
    assert sum(statuses.values()) >= 2000 and statuses[200] > 100 and statuses[400] > 100
