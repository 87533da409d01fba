"""A file's tokenizer: its tokens, the special ones, and which of them look wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from gollama.gguf import formats
from gollama.gguf.records import GGUFFile, StringArray
from gollama.gguf.templates import INVISIBLE

PREFIX, SUFFIX = "tokenizer.ggml.", "_token_id"
TYPES = PREFIX + "token_type"
MOST_NAMED = 4


@dataclass(frozen=True)
class Vocabulary:
    """The tokenizer. Ids are those of tokens."""

    model: str  # "gpt2" (BPE), "llama" (SPM), "bert" (WPM), …
    pre: str | None  # how text is split before
    size: int
    merges: int
    special: Mapping[str, int]  # by the names of the metadata's keys: "bos", "eos", "padding"
    control: tuple[int, ...] | None  # ids of control tokens; None: not read
    tokens: StringArray | None = field(repr=False)

    def text(self, token: int) -> str | None:
        return self.tokens[token] if self.tokens is not None and 0 <= token < self.size else None

    def has_token(self, text: str) -> bool:
        return self.tokens is not None and self.tokens.find(text.encode("utf-8", "surrogatepass")) is not None


def examine(file: GGUFFile) -> Vocabulary | None:
    """The tokenizer; None if the file has none."""
    model = file.get(f"{PREFIX}model", str)
    if model is None:
        return None
    tokens = file.get(f"{PREFIX}tokens", StringArray)
    merges = file.get(f"{PREFIX}merges", StringArray, ())
    special = {key[len(PREFIX) : -len(SUFFIX)]: file.metadata[key] for key, found in file.metadata.fields.items()
               if key.startswith(PREFIX) and key.endswith(SUFFIX) and found.type in ("uint32", "int32", "uint64", "int64")}
    types = _types(file)
    control = None if types is None else tuple((types == _number("control")).nonzero()[0].tolist())
    return Vocabulary(model, file.get(f"{PREFIX}pre", str), 0 if tokens is None else len(tokens), len(merges), special, control, tokens)


def _number(name: str) -> int:
    return next(number for number, known in formats.token_types().items() if known == name)


def _types(file: GGUFFile) -> Any:
    """The tokens' types as a numpy array, if they were read."""
    found = file.metadata.fields.get(TYPES)
    if found is None or found.type != "array" or found.item_type == "string" or not file.metadata.is_here(TYPES):
        return None
    return file.metadata[TYPES]


def suspicions(file: GGUFFile, vocabulary: Vocabulary) -> Iterator[str]:
    """What looks wrong about the tokens, a sentence each."""
    for key in ("scores", "token_type"):
        found = file.metadata.fields.get(PREFIX + key)
        if found is not None and vocabulary.tokens is not None and found.count != vocabulary.size:
            yield f"there are {vocabulary.size} tokens and {found.count} values of {PREFIX}{key}"
    outside = [f"{name} ({token})" for name, token in vocabulary.special.items() if not 0 <= token < vocabulary.size]
    if outside and vocabulary.tokens is not None:
        yield f"special tokens outside the vocabulary of {vocabulary.size}: {', '.join(outside)}"
    yield from _special_suspicions(file, vocabulary)
    if vocabulary.control is not None and vocabulary.tokens is not None:
        yield from _control_suspicions(vocabulary)


def _special_suspicions(file: GGUFFile, vocabulary: Vocabulary) -> Iterator[str]:
    types = _types(file)
    normal = _number("normal")
    for name, token in vocabulary.special.items():
        text = vocabulary.text(token)
        if text is None:
            continue
        if INVISIBLE.search(text):
            yield f"the special token {name} ({token}) holds characters that cannot be seen"
        if name in ("bos", "eos", "eot") and types is not None and token < len(types) and types[token] == normal and _is_word(text):
            yield f"the special token {name} ({token}) is {text[:40]!r}, a word of normal text"


def _control_suspicions(vocabulary: Vocabulary) -> Iterator[str]:
    """Control tokens that a user's text would hold by chance, or that nobody sees."""
    assert vocabulary.tokens is not None and vocabulary.control is not None
    known = set(vocabulary.special.values())
    words, unseen = [], []
    for token in vocabulary.control:
        text = vocabulary.text(token)
        if text is None:
            continue
        if INVISIBLE.search(text):
            unseen.append(f"{token}")
        elif _is_word(text) and token not in known:
            words.append(f"{token} {text[:40]!r}")
    if words:
        yield f"control tokens that are words of normal text: {_named(words)}"
    if unseen:
        yield f"control tokens with characters that cannot be seen: {_named(unseen)}"


def _is_word(text: str) -> bool:
    return text.strip(" ▁Ġ").isalnum()


def _named(found: list[str]) -> str:
    return ", ".join(found[:MOST_NAMED]) + (f" and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else "")
