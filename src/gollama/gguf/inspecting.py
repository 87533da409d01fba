"""What a GGUF file is, and what about it looks wrong or hostile. Nothing of it is run."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gollama.gguf import formats, vocabulary
from gollama.gguf.parsing import read
from gollama.gguf.records import GGUFFile, TensorInfo
from gollama.gguf.sources import ByteSource
from gollama.gguf.templates import suspicions
from gollama.gguf.vocabulary import Vocabulary

TEMPLATE = "tokenizer.chat_template"
MOST_PARTS = 1000


@dataclass(frozen=True)
class Finding:
    """Something that is wrong with a file, or looks so."""

    kind: str  # "size", "layout", "architecture", "format", "template", "vocabulary"
    message: str


@dataclass(frozen=True)
class TypeShare:
    """What of a model is kept in one type."""

    type: str  # "Q4_K"
    tensors: int
    parameters: int
    bytes: int
    share: float  # of the bytes of all tensors


@dataclass(frozen=True)
class Template:
    """A chat template in the file."""

    name: str  # "default"
    text: str = field(repr=False)


@dataclass(frozen=True)
class Inspection:
    """What a GGUF file is. Sizes are bytes; None: the file does not say."""

    name: str
    size: int
    version: int
    byte_order: str
    kind: str  # "model", "vocabulary" (no tensors), else as general.type says: "adapter", "mmproj", "imatrix"
    architecture: str
    title: str | None
    license: str | None
    file_type: str | None  # as general.file_type says: "Q4_K_M"
    parameters: int
    tensor_bytes: int
    bits_per_weight: float
    types: tuple[TypeShare, ...]  # the largest share first
    context_length: int | None
    embedding_length: int | None
    layers: int | None
    heads: int | None
    kv_heads: int | None
    sliding_window: int | None
    experts: int | None
    experts_used: int | None
    vocabulary: Vocabulary | None
    templates: tuple[Template, ...]
    split: tuple[int, int] | None  # (number of this file from 0, how many belong together)
    header_size: int
    findings: tuple[Finding, ...]
    tensors: tuple[TensorInfo, ...] = field(repr=False)


def inspect(source: str | os.PathLike[str] | ByteSource | GGUFFile, *parts: GGUFFile) -> Inspection:
    """Look at a file, by its header alone. Of a file that was read with `skip_numbers`, token types are not looked at.

    `parts` are the headers of the other files of a split model; those beside a path are found by themselves.
    InvalidModelError for a header that cannot be read; what else is wrong is in `findings`.
    """
    file = source if isinstance(source, GGUFFile) else read(source, strict=False)
    split = _split(file)
    files = with_parts(file, source) if isinstance(source, (str, os.PathLike)) else (file, *parts)
    missing = 0 if split is None else split[1] - len(files)
    tensors = tuple(tensor for each in files for tensor in each.tensors)
    parameters, tensor_bytes = sum(tensor.elements for tensor in tensors), sum(tensor.size for tensor in tensors)
    found = vocabulary.examine(file)
    templates = tuple(_templates(file))
    findings = [*_format_findings(file), *(finding for each in files for finding in _layout_findings(each, file))]
    if missing > 0:
        findings.append(Finding("size", f"the model is split into {len(files) + missing} files, of which {missing} are not here"))
    return Inspection(
        name=file.name, size=sum(each.size for each in files), version=file.version, byte_order=file.byte_order, kind=_kind(file),
        architecture=file.architecture, title=file.get("general.name", str), license=file.get("general.license", str),
        file_type=formats.file_types().get(file.get("general.file_type", int, -1)),
        parameters=parameters, tensor_bytes=tensor_bytes, bits_per_weight=8 * tensor_bytes / parameters if parameters else 0.0,
        types=_types(tensors, tensor_bytes), context_length=file.fact("context_length"), embedding_length=file.fact("embedding_length"),
        layers=file.fact("block_count"), heads=file.fact("attention.head_count"), kv_heads=file.fact("attention.head_count_kv"),
        sliding_window=file.fact("attention.sliding_window"), experts=file.fact("expert_count"),
        experts_used=file.fact("expert_used_count"),
        vocabulary=found, templates=templates, split=split, header_size=sum(each.header_size for each in files),
        findings=(*findings, *_hostile_findings(file, found, templates)), tensors=tensors)


def with_parts(file: GGUFFile, path: str | os.PathLike[str]) -> tuple[GGUFFile, ...]:
    """A file and, where it is part of a split model, the headers of the other parts that lie beside it."""
    path = Path(path)
    number, count = _split(file) or (0, 1)
    ending = re.search(r"-(\d{5})-of-(\d{5})\.gguf$", path.name)
    if ending is None or int(ending[2]) != count or not 0 <= number < count <= MOST_PARTS:
        return (file,)
    stem = path.name[: ending.start()]
    others = [path.with_name(f"{stem}-{other + 1:05d}-of-{count:05d}.gguf") for other in range(count) if other != number]
    return (file, *(read(other, strict=False) for other in others if other.is_file()))


def _kind(file: GGUFFile) -> str:
    told: str = file.get("general.type", str, "model")
    return "vocabulary" if told == "model" and not file.tensors else told


def _types(tensors: Sequence[TensorInfo], whole: int) -> tuple[TypeShare, ...]:
    groups: dict[str, list[TensorInfo]] = {}
    for tensor in tensors:
        groups.setdefault(tensor.type, []).append(tensor)
    shares = [TypeShare(name, len(group), sum(tensor.elements for tensor in group), size := sum(tensor.size for tensor in group),
                        size / whole) for name, group in groups.items()]
    return tuple(sorted(shares, key=lambda share: -share.bytes))


def _templates(file: GGUFFile) -> Iterator[Template]:
    for key, found in file.metadata.fields.items():
        if found.type == "string" and key == TEMPLATE:
            yield Template("default", file.metadata[key])
        elif found.type == "string" and key.startswith(f"{TEMPLATE}."):
            yield Template(key[len(TEMPLATE) + 1 :], file.metadata[key])


def _split(file: GGUFFile) -> tuple[int, int] | None:
    count = file.get("split.count", int, 0)
    return (file.get("split.no", int, 0), count) if count > 1 else None


def _layout_findings(file: GGUFFile, first: GGUFFile) -> Iterator[Finding]:
    """Of one file of a model; which one is said where there are others."""
    where = "" if file is first else f"{file.name}: "
    for problem in file.problems:
        yield Finding("layout", where + problem)
    end = -(-file.data_end // file.alignment) * file.alignment
    if file.size > end:
        yield Finding("size", f"{where}behind the last tensor are {file.size - end} bytes of nothing known, from byte {end} on")


def _hostile_findings(file: GGUFFile, found: Vocabulary | None, templates: Sequence[Template]) -> Iterator[Finding]:
    for template in templates:
        for suspicion in suspicions(template.text, None if found is None else found.has_token):
            yield Finding("template", f"the chat template {template.name[:40]!r} {suspicion}")
    if found is not None:
        for message in vocabulary.suspicions(file, found):
            yield Finding("vocabulary", message)


def _format_findings(file: GGUFFile) -> Iterator[Finding]:
    if file.version not in formats.LOADABLE_VERSIONS:
        yield Finding("format", f"GGUF of version {file.version}, which llama.cpp does not load any more")
    if file.byte_order != "little":
        yield Finding("format", "its byte order is big-endian, which llama.cpp loads on big-endian machines only")
    if not file.architecture:
        yield Finding("architecture", "the file does not say its architecture (general.architecture)")
    elif _kind(file) in ("model", "vocabulary", "adapter") and file.architecture not in formats.architectures():
        yield Finding("architecture", f"the architecture {file.architecture[:80]!r} is none that this release of llama.cpp knows")
