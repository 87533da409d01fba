"""Every schema of the official test suite is refused by the path of a keyword, or its grammar admits only what is valid."""

from __future__ import annotations

import json
import re
from random import Random

import jsonschema
import pytest

from gollama import Schema, SchemaError
from tests.support import schema_suite
from tests.support.gbnf import Grammar
from tests.support.schema_suite import Case

VALIDATORS = {"draft7": jsonschema.Draft7Validator, "draft2020-12": jsonschema.Draft202012Validator}


@pytest.fixture(scope="session")
def cases(tmp_path_factory: pytest.TempPathFactory) -> list[Case]:
    return schema_suite.read(schema_suite.fetch(tmp_path_factory.mktemp("suite")))


def made(case: Case) -> Schema | str:
    """The schema, or why there is none."""
    if isinstance(case.schema, bool):
        return "a boolean is no schema for an answer"
    try:
        return Schema.of(case.schema)
    except SchemaError as error:
        return str(error)


@pytest.fixture(scope="session")
def enforced(cases: list[Case]) -> list[tuple[Case, Schema]]:
    return [(case, schema) for case in cases if isinstance(schema := made(case), Schema)]


def test_a_refusal_tells_the_path(cases: list[Case]) -> None:
    refusals = [found for case in cases if isinstance(found := made(case), str) and not isinstance(case.schema, bool)]
    assert [refusal for refusal in refusals if not re.match(r"schema[^ ]*: \S", refusal)] == []


def test_texts_of_the_grammars_are_valid(enforced: list[tuple[Case, Schema]]) -> None:
    wrong = []
    for case, schema in enforced:
        kind = VALIDATORS[case.draft]
        validator, grammar = kind(case.schema, format_checker=kind.FORMAT_CHECKER), Grammar(schema.grammar)
        texts = [grammar.generate(Random(number)) for number in range(12)]
        wrong += [(case.name, text) for text in texts if not validator.is_valid(json.loads(text))]
    assert wrong == []


def test_nearly_half_of_the_suite_can_be_enforced(cases: list[Case], enforced: list[tuple[Case, Schema]]) -> None:
    """Most of the others are about references elsewhere, `contains`, `patternProperties`, `unevaluated*` and `if`."""
    assert len(enforced) >= 0.45 * len(cases) > 300
