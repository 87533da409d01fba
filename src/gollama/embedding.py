"""Texts to vectors, and documents by how well they answer a query."""

from __future__ import annotations

import itertools
import operator
import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, TypeVar

from gollama import _native
from gollama._rerank import PairFormatter
from gollama._resource import Resource
from gollama.backends.placement import compute_fields
from gollama.errors import CancelledError, ContextOverflowError, NativeError, OptionError, TextError
from gollama.model import Model
from gollama.options import LoadOptions
from gollama.results import RerankResult

if TYPE_CHECKING:
    import numpy

Item = TypeVar("Item")

MOST_LOGITS = 2**24  # of a batch; 4 bytes each
LEAST_BATCH = 32  # tokens

POOLINGS = ("auto", "none", "mean", "cls", "last", "rank")


class Embedder(Resource):
    """Turns texts into vectors with a model, or scores documents for a query. A `with` block.

    `pooling` says how the vectors of a text's tokens become one: "mean", "cls" (the first token's), "last", "none" (they
    stay as they are, for `embed_tokens`), "rank" (a score, for `rerank`), or "auto", which is the model's own.
    Of `options`, `batch_size` has no meaning here: a batch is at most `micro_batch_size` tokens, or one longer text.
    Memory is made for the longest text seen so far, up to `context_size`. llama.cpp computes the logits of models that
    continue text along with it, so that their batches are kept small.

    One thread at a time: a second one gets BusyError, except in `cancel`. Another thread may also set the `stop` that a call was
    given: it ends with CancelledError between two batches. Other errors: OptionError, NativeError for a model that cannot do it,
    OutOfMemoryError.

    >>> from gollama import Embedder, Model, models
    >>> with Model(models.fetch("smollm2")) as model, Embedder(model, pooling="mean") as embedder:
    ...     embedder.embed(["a cat", "a dog"]).shape
    (2, 576)
    """

    def __init__(self, model: Model, options: LoadOptions | None = None, *, pooling: str = "auto") -> None:
        if pooling not in POOLINGS:
            raise OptionError(f"pooling must be one of {', '.join(map(repr, POOLINGS))}, not {pooling!r}")
        if model.vocab_only:
            raise OptionError(f"only the vocabulary of {model.path.name} was loaded; there is nothing to compute with")
        if model._facts["has_encoder"] and model._facts["has_decoder"]:
            raise NativeError(f"{model.path.name} ({model.architecture}) has an encoder and a decoder: llama.cpp gives no embeddings of it")
        self.model = model
        self.options = options = options or LoadOptions()
        given = options.context_size if isinstance(options.context_size, int) else None
        self._limit = min(filter(None, (given or model.n_ctx_train or options.micro_batch_size, model.n_positions)))
        self._batch_size = min(options.micro_batch_size, self._limit)
        if model.is_generative:  # llama.cpp computes the logits of each token along with it
            self._batch_size = min(self._batch_size, max(LEAST_BATCH, MOST_LOGITS // model.n_vocab))
        self._pairs: PairFormatter | None = None
        self._handle: _native.EmbedderHandle = _native.EmbedderHandle(model._handle, {
            "micro_batch_size": self._batch_size,
            "pooling": pooling,
            **compute_fields(options),
        })

    def __repr__(self) -> str:
        return f"<gollama.Embedder {self.model.path.name}, pooling {self.pooling}{' (closed)' if self.closed else ''}>"

    # ---- what it is ----

    @property
    def pooling(self) -> str:
        """The pooling in use: "none", "mean", "cls", "last" or "rank"."""
        return self._handle.pooling

    @property
    def dimension(self) -> int:
        """Length of a vector; with pooling "rank", the number of the model's scores."""
        return self._handle.width

    @property
    def context_size(self) -> int:
        """Most tokens that a text may have."""
        return self._limit

    # ---- what it does ----

    def embed(self, texts: str | Iterable[str | Iterable[int]], *, normalize: bool = True, truncate: bool = False,
              stop: threading.Event | None = None) -> numpy.ndarray:
        """The vectors of texts, or of lists of token ids: float32 of shape (n, dimension), in the order given.

        A single str is a list of one. `normalize` scales each vector to length 1. Texts get the special tokens that the
        model wants, lists are taken as they are; texts never become control tokens. Everything is checked before
        anything is computed: TextError (no tokens, a lone surrogate, not a text), OptionError (an unknown token),
        ContextOverflowError for a text of more than `context_size` tokens, unless `truncate` cuts it there.
        CancelledError after `cancel`; Ctrl-C is heard between two batches.
        """
        if self.pooling == "none":
            raise OptionError(f"{self.model.path.name} has no pooling of its own, or pooling='none' was given: there is no vector of a "
                              "whole text. Make the Embedder with pooling='mean' or 'last', or call embed_tokens")
        if self.pooling == "rank":
            raise OptionError("with pooling 'rank' the model gives scores, not vectors: call rerank, or give another pooling")
        return self._compute(self._inputs(texts, truncate, stop), normalize, stop)

    def embed_tokens(self, texts: str | Iterable[str | Iterable[int]], *, normalize: bool = True, truncate: bool = False,
                     stop: threading.Event | None = None) -> list[numpy.ndarray]:
        """The vectors of every token of each text: float32 of shape (tokens, dimension). As `embed`; needs pooling "none"."""
        if self.pooling != "none":
            raise OptionError(f"the pooling is {self.pooling!r}: make the Embedder with pooling='none' for the vectors of tokens")
        inputs = self._inputs(texts, truncate, stop)
        rows = self._compute(inputs, normalize, stop)
        ends = itertools.accumulate(map(len, inputs))
        return [rows[end - len(tokens) : end] for end, tokens in zip(ends, inputs, strict=True)]

    def rerank(self, query: str, documents: Iterable[str], *, top_n: int | None = None,
               stop: threading.Event | None = None) -> list[RerankResult]:
        """The documents by how well they answer the query, best first; the `top_n` best if given.

        Needs a reranking model: NativeError for another. TextError and ContextOverflowError (for a query and document of
        more than `context_size` tokens together) name the document.
        """
        if self.pooling != "rank":
            hint = ("it has a rank head: make the Embedder with pooling='rank'" if self._handle.rank_head
                    else "it has no rank head and was not made for it")
            raise NativeError(f"{self.model.path.name} cannot rerank with pooling {self.pooling!r}; {hint}")
        if top_n is not None and (not hasattr(top_n, "__index__") or top_n < 1):
            raise OptionError(f"top_n must be a whole number of at least 1, not {top_n!r}")
        if isinstance(documents, (str, bytes, Mapping)) or not isinstance(documents, Iterable):
            raise TextError(f"the documents must be a list of str, not {type(documents).__name__}")
        _native.utf8(query, "the query")
        if self._pairs is None:
            self._pairs = PairFormatter(self.model)
        inputs = []
        for index, document in enumerate(_until(stop, documents)):
            _native.utf8(document, name := f"documents[{index}]")
            inputs.append(self._fitting(self._pairs.tokens(query, document), f"{name} with the query", None))
        scores = self._compute(inputs, normalize=False, stop=stop)[:, 0].tolist()
        results = [RerankResult(index, score) for index, score in enumerate(scores)]
        return sorted(results, key=lambda result: -result.score)[:top_n]

    def cancel(self) -> None:
        """From any thread: end the running call with CancelledError. Nothing if none is running."""
        self._handle.cancel()

    # ---- inside ----

    def _inputs(self, texts: str | Iterable[str | Iterable[int]], truncate: bool,
                stop: threading.Event | None = None) -> list[list[int]]:
        if isinstance(texts, str):
            texts = [texts]
        if isinstance(texts, (bytes, Mapping)) or not isinstance(texts, Iterable):
            raise TextError(f"the texts must be a str or a list, not {type(texts).__name__}")
        return [self._input(text, f"texts[{index}]", truncate) for index, text in enumerate(_until(stop, texts))]

    def _input(self, text: str | Iterable[int], name: str, truncate: bool) -> list[int]:
        if isinstance(text, str):
            _native.utf8(text, name)
            tokens = self.model.tokenize(text)
            # what ends every text, as [SEP] does, ends a shortened one too
            end = tokens[-1:] if tokens and self.model.is_control(tokens[-1]) else []
        else:
            try:
                if isinstance(text, (bytes, Mapping)):
                    raise TypeError
                tokens, end = self.model.check_tokens([operator.index(token) for token in text]), []
            except (TypeError, AttributeError):
                raise TextError(f"{name} must be a str or a list of token ids, not {type(text).__name__}") from None
        return self._fitting(tokens, name, end if truncate else None)

    def _fitting(self, tokens: list[int], name: str, end: list[int] | None) -> list[int]:
        """The tokens, if there are any and they fit; cut and closed by `end` where it is not None."""
        if not tokens:
            raise TextError(f"{name} is empty: it has no tokens")
        if len(tokens) <= self._limit:
            return tokens
        if end is None:
            more = self.model.n_ctx_train > self._limit
            raise ContextOverflowError(f"{name} has {len(tokens)} tokens, and {self._limit} fit: shorten or split the text"
                                       + (f", or give a context_size of up to {self.model.n_ctx_train}" if more else "")
                                       + (", or let embed cut it with truncate=True" if name.startswith("texts") else ""))
        return (tokens[: self._limit - len(end)] + end)[: self._limit]

    def _compute(self, inputs: list[list[int]], normalize: bool, stop: threading.Event | None = None) -> numpy.ndarray:
        """The outputs of checked inputs: one row for each, or for each of their tokens with pooling "none"."""
        import numpy

        lengths = [len(tokens) for tokens in inputs]
        tokens = numpy.fromiter(itertools.chain.from_iterable(inputs), numpy.int32, sum(lengths))
        by_token = self.pooling == "none"
        output = numpy.zeros((len(tokens) if by_token else len(inputs), self.dimension), numpy.float32)
        room = min(_power_of_two(max(lengths, default=1)), self._limit)
        self._handle.run(tokens, _until(stop, self._batches(lengths, by_token)), room, output, bool(normalize))
        return output

    def _batches(self, lengths: list[int], by_token: bool) -> Iterator[list[_native.Piece]]:
        """Inputs together, in order, as many as fit; one that is too long for a batch in parts, or alone where it may not be cut."""
        handle = self._handle
        batch: list[_native.Piece] = []
        used = 0
        for index, (offset, length) in enumerate(zip(itertools.accumulate(lengths, initial=0), lengths, strict=False)):
            if batch and (used + length > self._batch_size or len(batch) == handle.sequences):
                yield batch
                batch, used = [], 0
            step = length if handle.whole else min(length, self._batch_size)
            for start in range(0, length, step):
                row = offset + start if by_token else index
                batch.append(_native.Piece(offset + start, min(step, length - start), start, length, row))
                used += batch[-1].length
                if step < length:
                    yield batch
                    batch, used = [], 0
        if batch:
            yield batch


def _until(stop: threading.Event | None, items: Iterable[Item]) -> Iterator[Item]:
    """The items, as long as nobody stops it. CancelledError then."""
    for item in items:
        if stop is not None and stop.is_set():
            raise CancelledError("the call was ended, as its `stop` was set")
        yield item


def _power_of_two(least: int) -> int:
    """So that memory is not made anew for every longer text."""
    return 1 << (least - 1).bit_length()
