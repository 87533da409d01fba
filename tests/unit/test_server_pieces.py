"""The server's pieces that need no model."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from gollama.errors import BusyError, ChatError, ContextOverflowError, OptionError
from gollama.server import ServerConfig
from gollama.server.errors import ApiError, ErrorForms, as_api_error, openai_form
from gollama.server.openai.messages import cleaned
from gollama.server.openai.response_items import messages_of
from gollama.server.openai.response_store import ResponseStore
from gollama.server.serving import set_up_logs

KNOWN = frozenset({"messages", "temperature"})


@pytest.mark.parametrize(("error", "status", "param"), [
    (OptionError("temperature must be at least 0"), 400, "temperature"), (ChatError("messages[3].content[0].type is 'x'"), 400,
                                                                          "messages[3].content[0].type"),
    (OptionError("schema is odd"), 400, None), (ContextOverflowError("long"), 400, "messages"), (BusyError("full"), 503, None),
    (RuntimeError("secret"), 500, None),
])
def test_an_exception_becomes_an_answer(error: Exception, status: int, param: str | None) -> None:
    found = as_api_error(error, KNOWN)
    assert (found.status, found.param) == (status, param) and "secret" not in found.message


def test_each_api_has_its_own_form() -> None:
    forms = ErrorForms()
    forms.add("/v1/messages", lambda error: {"type": "error"})
    error = ApiError(400, "no")
    assert forms.of("/v1/messages/count_tokens")(error) == {"type": "error"} and forms.of("/v1/models") is openai_form


def test_what_clients_send_back_of_an_answer_is_dropped() -> None:
    answer: dict[str, Any] = {"role": "assistant", "content": "Hi", "refusal": None, "annotations": [], "audio": None}
    assert cleaned([answer]) == [{"role": "assistant", "content": "Hi"}]
    assert cleaned([{"role": "user", "content": [{"type": "text", "text": "a", "cache_control": {}}]}])[0]["content"] == [
        {"type": "text", "text": "a"}]


def test_one_turn_s_items_become_one_message() -> None:
    items: list[dict[str, Any]] = [
        {"role": "user", "content": "?"}, {"type": "reasoning", "content": [{"type": "reasoning_text", "text": "hm"}]},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "so"}]},
        {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"},
        {"type": "function_call", "call_id": "2", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "1", "output": "x"}, {"type": "message", "role": "assistant", "content": "done"}]
    messages = messages_of(items)
    assert [message["role"] for message in messages] == ["user", "assistant", "tool", "assistant"]
    assert messages[1]["reasoning_content"] == "hm" and [call["id"] for call in messages[1]["tool_calls"]] == ["1", "2"]


def test_a_store_keeps_so_many_and_so_much_and_each_for_its_owner() -> None:
    store = ResponseStore(3, most_bytes=1000)
    for number in range(5):
        store.put({"id": str(number)}, [], [], "a")
    assert len(store) == 3
    with pytest.raises(ApiError):
        store.get("4", "b")
    store.put({"id": "big", "text": "x" * 900}, [], [], None)
    assert len(store) <= 1 or store.get("4", "a")
    store.put({"id": "too big", "text": "x" * 2000}, [], [], None)
    assert len(store) == 0
    store.put({"id": "new"}, [], [], None)
    store.delete("new", None)
    assert len(store) == 0


@pytest.mark.parametrize(("told", "library", "server"), [
    ("debug", "DEBUG", "DEBUG"), ("info", "WARNING", "INFO"), ("error", "ERROR", "ERROR")])
def test_nothing_less_severe_is_logged(told: str, library: str, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    loggers = [logging.getLogger(name) for name in ("gollama", "gollama.server", "uvicorn", "gollama.access")]
    for logger in loggers:
        for field in ("handlers", "propagate", "level"):
            monkeypatch.setattr(logger, field, getattr(logger, field))
    set_up_logs(ServerConfig(log_level=told))
    assert [logging.getLevelName(logger.level) for logger in loggers] == [library, server, server, "INFO"]
