"""The subcommands: their options and what they call."""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import Annotated, Any, Optional

import typer

from gollama._options import help_text
from gollama.cli import output
from gollama.cli.application import JsonOption, ModelArgument, app, loading, read_given
from gollama.cli.run import Session
from gollama.errors import SchemaError, TextError
from gollama.model import existing_file
from gollama.options import LoadOptions, SamplingParams


def _sampling(name: str, *names: str) -> Any:
    return typer.Option(*names, help=help_text(SamplingParams, name), show_default=False, rich_help_panel="Sampling")


@app.command()
def run(
    model: ModelArgument,
    prompt: Annotated[Optional[str], typer.Argument(help="What to answer. Without it: piped text, or a chat.")] = None,  # noqa: UP045
    system: Annotated[Optional[str], typer.Option(help="The system message.")] = None,  # noqa: UP045
    raw: Annotated[bool, typer.Option("--raw", help="Continue the prompt as it stands, without the chat template.")] = False,
    as_json: JsonOption = False,
    stats: Annotated[bool, typer.Option("--stats", help="Print tokens per second and time to first token, on stderr.")] = False,
    max_tokens: Annotated[Optional[int], _sampling("max_tokens", "--max-tokens", "-n")] = None,  # noqa: UP045
    temperature: Annotated[Optional[float], _sampling("temperature", "--temperature", "-t")] = None,  # noqa: UP045
    top_k: Annotated[Optional[int], _sampling("top_k")] = None,  # noqa: UP045
    top_p: Annotated[Optional[float], _sampling("top_p")] = None,  # noqa: UP045
    min_p: Annotated[Optional[float], _sampling("min_p")] = None,  # noqa: UP045
    typical_p: Annotated[Optional[float], _sampling("typical_p")] = None,  # noqa: UP045
    top_n_sigma: Annotated[Optional[float], _sampling("top_n_sigma")] = None,  # noqa: UP045
    repeat_penalty: Annotated[Optional[float], _sampling("repeat_penalty")] = None,  # noqa: UP045
    repeat_last_n: Annotated[Optional[int], _sampling("repeat_last_n")] = None,  # noqa: UP045
    presence_penalty: Annotated[Optional[float], _sampling("presence_penalty")] = None,  # noqa: UP045
    frequency_penalty: Annotated[Optional[float], _sampling("frequency_penalty")] = None,  # noqa: UP045
    dry_multiplier: Annotated[Optional[float], _sampling("dry_multiplier")] = None,  # noqa: UP045
    xtc_probability: Annotated[Optional[float], _sampling("xtc_probability")] = None,  # noqa: UP045
    mirostat: Annotated[Optional[int], _sampling("mirostat")] = None,  # noqa: UP045
    seed: Annotated[Optional[int], _sampling("seed", "--seed", "-s")] = None,  # noqa: UP045
    stop: Annotated[Optional[list[str]], typer.Option(  # noqa: UP045
        help="stop before this text; may be given several times", rich_help_panel="Sampling")] = None,
    ignore_eos: Annotated[Optional[bool], _sampling("ignore_eos", "--ignore-eos")] = None,  # noqa: UP045
    grammar: Annotated[Optional[str], _sampling("grammar")] = None,  # noqa: UP045
    schema: Annotated[Optional[str], typer.Option(  # noqa: UP045
        metavar="FILE", help="A JSON schema that the answer must follow.", rich_help_panel="Chat")] = None,
    thinking: Annotated[Optional[bool], typer.Option(  # noqa: UP045
        help="Whether to think first, for models that do; thoughts go to stderr.", show_default=False, rich_help_panel="Chat")] = None,
    chat_template: Annotated[Optional[str], typer.Option(  # noqa: UP045
        help="Jinja text, a file, or one of llama.cpp's names, in place of the model's own.", rich_help_panel="Chat")] = None,
    context_size: Annotated[Optional[int], loading("context_size", "--context-size", "-c")] = None,  # noqa: UP045
    threads: Annotated[Optional[int], loading("threads")] = None,  # noqa: UP045
    gpu_layers: Annotated[Optional[int], loading("gpu_layers")] = None,  # noqa: UP045
    speculative: Annotated[Optional[str], loading("speculative")] = None,  # noqa: UP045
) -> None:
    """Answer a prompt and end, or open a chat.

    In the chat, Ctrl-C stops the answer and keeps the chat, Ctrl-D leaves. Text that is piped in is the prompt.
    """
    given = locals()
    sampling = SamplingParams(**read_given(given, SamplingParams))
    loading = LoadOptions(**read_given(given, LoadOptions))
    if prompt is None and not (sys.stdin and sys.stdin.isatty()):
        prompt = sys.stdin.read() if sys.stdin else ""
    if prompt is not None and not prompt.strip():
        raise TextError("the prompt is empty")
    if prompt is None and (as_json or raw):
        raise typer.BadParameter("--json and --raw need a prompt")
    chat = {"thinking": thinking, "schema": None if schema is None else _read_schema(schema)}
    if raw and any(value is not None for value in chat.values()):
        raise typer.BadParameter("--raw has no chat, for --schema and --thinking to be about")
    with Session(model, loading, sampling, system=system, chat=chat, raw=raw, stats=stats) as session:
        if prompt is None:
            session.chat()
        elif as_json:
            output.print_json(session.answer_whole(prompt))
        else:
            session.answer(prompt)


def _read_schema(file: str) -> Any:
    try:
        return json.loads(existing_file(file).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise SchemaError(f"{file} is not JSON: {error}") from None


@app.command()
def version(as_json: JsonOption = False) -> None:
    """Print the versions of gollama and llama.cpp, and the CPU library in use."""
    from gollama.version import version_info

    info = version_info()
    if as_json:
        output.print_json(dataclasses.asdict(info))
    else:
        print(f"gollama {info.gollama}\nllama.cpp {info.llama_cpp} ({info.target})\nCPU variant {info.cpu_variant}")
