"""`gollama run`: one answer, or a chat."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import asdict
from types import TracebackType
from typing import Any

from gollama._cache import cache_directory
from gollama.errors import GollamaError
from gollama.llm import LLM
from gollama.options import LoadOptions, SamplingParams
from gollama.results import ChatChunk, Chunk, Completion, Timings

HELP = """\
/clear   forget the conversation
/help    this
/exit    leave, as Ctrl-D does
Ctrl-C   stop the answer
"""


class Session:
    """A loaded model and the conversation with it."""

    def __init__(self, model: str, loading: LoadOptions, sampling: SamplingParams, *, system: str | None, chat: dict[str, Any],
                 raw: bool, stats: bool) -> None:
        self._sampling = sampling
        self._options = chat
        self._raw = raw
        self._stats = stats
        self._opening: list[dict[str, str]] = [{"role": "system", "content": system}] if system else []
        self._messages = list(self._opening)
        self._llm = LLM(model, options=loading)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._llm.close()

    # ---- one answer ----

    def answer(self, prompt: str) -> None:
        """Stream the answer to stdout."""
        timings = _show(self._stream(prompt))
        self._print_stats(timings)

    def answer_whole(self, prompt: str) -> dict[str, Any]:
        """The answer as a dict for JSON."""
        completion: Completion
        if self._raw:
            completion = self._llm.generate(prompt, params=self._sampling)
        else:
            completion = self._llm.chat([*self._messages, {"role": "user", "content": prompt}], params=self._sampling, **self._options)
        timings = completion.timings
        return {
            "text": completion.text, "reasoning": getattr(completion, "reasoning", ""), "tokens": completion.tokens,
            "finish_reason": completion.finish_reason,
            "usage": {**asdict(completion.usage), "total_tokens": completion.usage.total_tokens},
            "timings": {**asdict(timings), "time_to_first_token": timings.time_to_first_token,
                        "prompt_tokens_per_second": timings.prompt_tokens_per_second,
                        "decode_tokens_per_second": timings.decode_tokens_per_second},
        }

    def _stream(self, prompt: str) -> Iterator[Chunk]:
        if self._raw:
            return self._llm.stream(prompt, params=self._sampling)
        return self._llm.stream_chat([*self._messages, {"role": "user", "content": prompt}], params=self._sampling, **self._options)

    # ---- a chat ----

    def chat(self) -> None:
        """Read, answer, remember, until Ctrl-D."""
        with _line_history():
            print(f"{self._llm.model.path.name}: /help shows the commands, Ctrl-D leaves", file=sys.stderr)
            while (line := _read_line()) is not None:
                command = line.strip()
                if command == "/exit":
                    break
                if command == "/clear":
                    self._messages = list(self._opening)
                elif command.startswith("/"):
                    print(HELP, end="", file=sys.stderr)
                elif command:
                    self._take_turn(line)

    def _take_turn(self, text: str) -> None:
        parts: list[str] = []
        timings = None
        try:
            timings = _show(self._stream(text), parts)
        except KeyboardInterrupt:
            print(" [stopped]", file=sys.stderr)
        except GollamaError as error:  # a full context, say: the chat goes on
            print(f"gollama: {error}", file=sys.stderr)
            return
        self._messages += [{"role": "user", "content": text}, {"role": "assistant", "content": "".join(parts)}]
        self._print_stats(timings)

    def _print_stats(self, timings: Timings | None) -> None:
        if self._stats and timings is not None:
            print(f"prompt {timings.prompt_tokens} tokens at {timings.prompt_tokens_per_second:.1f} tokens/s, "
                  f"answer {timings.completion_tokens} tokens at {timings.decode_tokens_per_second:.1f} tokens/s, "
                  f"first token after {timings.time_to_first_token:.2f} s", file=sys.stderr)


def _show(chunks: Iterator[Chunk], parts: list[str] | None = None) -> Timings | None:
    """Print chunks as they come; the timings of the last. `parts` collects the text, also of an answer cut short."""
    timings = None
    text = "\n"
    try:
        for chunk in chunks:
            text = chunk.text or text.rstrip("\n")
            if parts is not None:
                parts.append(chunk.text)
            if isinstance(chunk, ChatChunk) and chunk.reasoning:
                sys.stderr.write(chunk.reasoning)
                sys.stderr.flush()
            sys.stdout.write(chunk.text)
            sys.stdout.flush()
            timings = chunk.timings or timings
    finally:
        chunks.close()  # type: ignore[attr-defined]  # a generator: ends the generation now, not when it is collected
        if not text.endswith("\n"):
            print(flush=True)
    return timings


def _read_line() -> str | None:
    """A line of the user's; None at the end. Ctrl-C forgets the line."""
    while True:
        try:
            return input(">>> ")
        except KeyboardInterrupt:
            print("\n(Ctrl-D leaves)", file=sys.stderr)
        except EOFError:
            print(file=sys.stderr)
            return None


@contextlib.contextmanager
def _line_history() -> Iterator[None]:
    """Line editing, and the lines of earlier chats, where Python has readline."""
    try:
        import readline
    except ImportError:
        yield
        return
    file = cache_directory() / "history"
    with contextlib.suppress(OSError):
        readline.read_history_file(file)
    try:
        yield
    finally:
        readline.set_history_length(1000)
        with contextlib.suppress(OSError):
            file.parent.mkdir(parents=True, exist_ok=True)
            readline.write_history_file(file)
