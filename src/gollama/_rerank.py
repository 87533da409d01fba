"""A query and a document to the tokens that a reranking model reads."""

from __future__ import annotations

import re

from gollama.errors import NativeError
from gollama.model import Model


class PairFormatter:
    """Builds the input of a query and a document as llama-server does: by the model's own "rerank" template if it has
    one, else query and document between the vocabulary's special tokens. Text in them never becomes a control token.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self._template = model.chat_template("rerank")
        if self._template is None:
            self._opening, self._middle, self._closing = self._marks()
        else:
            texts = sorted(filter(None, model.control_tokens.values()), key=len, reverse=True)
            self._control = re.compile("|".join(map(re.escape, texts)) or "(?!)")

    def tokens(self, query: str, document: str) -> list[int]:
        if self._template is None:
            plain = (self._model.tokenize(text, add_special=False) for text in (query, document))
            return [*self._opening, *next(plain), *self._middle, *next(plain), *self._closing]
        return [token for text, special in self._rendered(self._template, query, document)
                for token in self._model.tokenize(text, add_special=False, parse_special=special)]

    def _marks(self) -> tuple[list[int], list[int], list[int]]:
        """What stands before, between and behind the two texts."""
        facts, special = self._model._facts, self._model.special_tokens
        end = ["eos" if "eos" in special else "sep"] if facts["add_eos"] else []
        names = (["bos"] if facts["add_bos"] else [], [*end, *(["sep"] if facts["add_sep"] else [])], end)
        missing = {name for part in names for name in part} - set(special)
        if missing:
            raise NativeError(f"{self._model.path.name} wants the token {', '.join(sorted(missing))} around its texts and has none")
        opening, middle, closing = ([special[name] for name in part] for part in names)
        return opening, middle, closing

    def _rendered(self, template: str, query: str, document: str) -> list[tuple[str, bool]]:
        """The filled template in parts, and whether control tokens in them are meant.

        It is one part unless a text reads like a control token, which then is a part of its own: cutting elsewhere would
        keep tokens from reaching across the seam.
        """
        texts = {"{query}": query, "{document}": document}
        parts = [("", True)]
        for piece in re.split(r"(\{query\}|\{document\})", template):
            given = texts.get(piece)
            for text, special in [(piece, True)] if given is None else self._fenced(given):
                if special and parts[-1][1]:
                    parts[-1] = (parts[-1][0] + text, True)
                else:
                    parts.append((text, special))
        return [part for part in parts if part[0]]

    def _fenced(self, text: str) -> list[tuple[str, bool]]:
        start, parts = 0, []
        for match in self._control.finditer(text):
            parts += [(text[start : match.start()], True), (match[0], False)]
            start = match.end()
        return [*parts, (text[start:], True)]
