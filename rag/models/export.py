"""Make a model folder from a sentence-transformers model: export, quantise, compare, write the card.

The only file that imports torch, onnx and sentence_transformers (extra [export]); nothing imports it until `rag models
add`.

The recipe, each step for a measured reason:
1. Transformer, pooling and L2 norm in one graph with two inputs; token type ids are all zero for single texts and fold
into
   it. The TorchScript exporter, opset 17: its graph is the one that the quantiser was measured on.
2. MatMul weights to int8 per channel (per tensor loses 0.04 of cosine), activations quantised at run time.
3. The word table to int8 with one fp32 scale a row, as Gather, Cast, Gather, Mul: a third of the file, and onnxruntime
   cannot fold it back to fp32 at load.
4. No attention fusion: it costs 14 % on documents.

The graph carries no time, path or host, so the same source and versions give the same bytes.
"""

from __future__ import annotations

import importlib.util
import inspect
import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rag.errors import InputError, MissingExtraError, ModelError
from rag.models.card import CARD_FORMAT, CARD_NAME, Canonical, ModelCard, Pooling, write_card
from rag.models.describe import model_card_text, notice_text
from rag.models.parity import Encode, Encoders, compare, read_beir
from rag.models.registry import GRAPH_NAME, SHIPPED_DIR, TOKENIZER_NAME, Model, check_name, find_model, sha256_of
from rag.models.session import ModelSession, ModelTokenizer, silence_telemetry
from rag.models.source import Source, find_source

RECIPE = (
    "exported to ONNX (opset 17) with pooling and L2 norm in the graph; MatMul weights quantised to int8 per channel, "
    "activations dynamically; word embedding table to int8 with one scale per row"
)
# Raised when the same source gives another graph.
RECIPE_VERSION = 1
_OPSET = 17
# A component of a 384-dim unit vector is about 0.05. Processors without VNNI move one by about 0.006; another model by
# 0.07.
_CANONICAL_TOLERANCE = 0.03
_CANONICAL_VALUES = 8
_CANONICAL_TEXTS = ("What is retrieval-augmented generation?", "The cat sat on the mat.", "Naïve café, 42 °C – 你好")
_SUPPORTED = "one Transformer, one Pooling (mean or cls) and optionally Normalize"


@dataclass(frozen=True, slots=True)
class AddOptions:
    """What the source does not say of itself, or should say otherwise.

    Attributes:
        origin: Upstream name for the card; empty means the name of the folder or package.
        licence: SPDX name; empty means what the source's README.md says.
        notice: Attribution text; empty means a sentence made of source and licence.
        document_prompt: Set before a document; None means the source's own prompt.
        query_prompt: Set before a query; None means the source's own prompt.
        max_tokens: Tokens to read; 0 means as many as the source says.
        data: Folders in BEIR layout on which nDCG@10 is compared; none means that it is not measured.
        force: Keep the model even when it is further from the original than `parity.MIN_COSINE`.
        replace: Replace an added model of the same name.
    """

    origin: str = ""
    licence: str = ""
    notice: str = ""
    document_prompt: str | None = None
    query_prompt: str | None = None
    max_tokens: int = 0
    data: tuple[Path, ...] = ()
    force: bool = False
    replace: bool = False


@dataclass(frozen=True, slots=True)
class _Original:
    """A loaded sentence-transformers model and what was read from it."""

    model: Any
    pooling: Pooling
    max_tokens: int
    prompts: tuple[str, str]


def add_model(
    source: str,
    name: str,
    models_dir: Path,
    options: AddOptions | None = None,
    progress: Callable[[str], None] = lambda _line: None,
) -> Model:
    """Export, quantise, compare and keep a sentence-transformers model. Nothing is ever downloaded.

    Args:
        source: Folder of the model, or an installed Python package that carries one in its folder ``model``.
        name: Name of the new model.
        models_dir: Folder of the added models, made when missing. The new model appears there whole or not at all.
        options: See `AddOptions`.
        progress: Called with a line of text at the start of every step.

    Returns:
        The model, as `find_model` finds it.

    Raises:
        ModelError: If the source is not found or not supported, the name is taken, or the result is too far from the
            original. A missing extra is a MissingExtraError, a bad name or option an InputError.
    """
    options = options or AddOptions()
    target = models_dir / check_name(name)
    if (SHIPPED_DIR / name / CARD_NAME).exists() and models_dir.resolve() != SHIPPED_DIR.resolve():
        raise ModelError(f"model {name!r} is shipped and would hide the new one; give another --name")
    if target.exists() and not options.replace:
        raise ModelError(f"model {name!r} exists in {models_dir}; give another --name, or --replace")
    _require_extra()
    found = find_source(source)
    progress(f"loading {source}")
    original = _load(found.folder, options)
    models_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=models_dir) as scratch:
        made = Path(scratch) / name
        made.mkdir()
        _save_tokenizer(original, made / TOKENIZER_NAME)
        progress("exporting to ONNX")
        fp32_path = Path(scratch) / "fp32.onnx"
        _export(original, fp32_path)
        progress("quantising to int8")
        _quantise(fp32_path, made / GRAPH_NAME)
        card = _measured_card(original, made, fp32_path, found, options, progress)
        write_card(card, made / CARD_NAME)
        (made / "MODEL_CARD.md").write_text(model_card_text(card), encoding="utf-8")
        (made / "NOTICE").write_text(notice_text(card), encoding="utf-8")
        if target.exists():
            os.rename(target, Path(scratch) / "replaced")
        os.rename(made, target)
    return find_model(name, models_dir)


def quantise_word_table(graph_model: Any) -> None:  # noqa: ANN401 - onnx is an optional dependency
    """Replace the word embedding table by int8 rows with one fp32 scale each, in place.

    A row ``w`` becomes ``round(w / s)`` with ``s = max(abs(w)) / 127``; a row of zeros has the scale 1.

    Args:
        graph_model: An ``onnx.ModelProto``; its table is the largest two-dimensional weight that a Gather reads.

    Raises:
        ModelError: If no Gather reads a two-dimensional weight.
    """
    from onnx import TensorProto, helper, numpy_helper

    graph = graph_model.graph
    tables = {tensor.name: tensor for tensor in graph.initializer if len(tensor.dims) == 2}
    gathers = [(i, node) for i, node in enumerate(graph.node) if node.op_type == "Gather" and node.input[0] in tables]
    if not gathers:
        raise ModelError("the exported graph has no word embedding table; this architecture is not supported")
    at, gather = max(gathers, key=lambda item: tables[item[1].input[0]].dims[0])
    table = tables[gather.input[0]]
    weights = numpy_helper.to_array(table).astype(np.float32)
    scales = np.abs(weights).max(axis=1, keepdims=True) / np.float32(127)
    scales[scales == 0] = 1
    rows = np.round(weights / scales).astype(np.int8)
    ids = gather.input[1]
    lookup = [
        helper.make_node("Gather", ["word_rows", ids], ["word_row_int8"], name="word_rows_gather"),
        helper.make_node("Cast", ["word_row_int8"], ["word_row_fp32"], name="word_rows_cast", to=TensorProto.FLOAT),
        helper.make_node("Gather", ["word_scales", ids], ["word_scale"], name="word_scales_gather"),
        helper.make_node("Mul", ["word_row_fp32", "word_scale"], [gather.output[0]], name="word_rows_scale"),
    ]
    graph.node.remove(gather)
    for offset, node in enumerate(lookup):
        graph.node.insert(at + offset, node)
    if not any(table.name in node.input for node in graph.node):
        graph.initializer.remove(table)
    graph.initializer.append(numpy_helper.from_array(rows, "word_rows"))
    graph.initializer.append(numpy_helper.from_array(scales.astype(np.float32), "word_scales"))


def _require_extra() -> None:
    for name in ("torch", "onnx", "sentence_transformers"):
        if importlib.util.find_spec(name) is None:
            raise MissingExtraError("rag models add", "export")


def _load(folder: Path, options: AddOptions) -> _Original:
    from sentence_transformers import SentenceTransformer

    try:
        # Eager attention is plain MatMul and Softmax, which the quantiser knows.
        model = SentenceTransformer(str(folder), device="cpu", local_files_only=True, model_kwargs={"attn_implementation": "eager"})
    except Exception as error:  # every architecture fails in its own way
        raise ModelError(f"model source {folder} cannot be loaded by sentence-transformers: {error}") from error
    model = model.float().eval()
    pooling = _pooling(model)
    own_limit = model.max_seq_length
    max_tokens = options.max_tokens or own_limit
    if not max_tokens or (own_limit and max_tokens > own_limit):
        raise InputError(f"--max-tokens is {options.max_tokens}; the model reads at most {own_limit}; allowed: 16 to that")
    model.max_seq_length = max_tokens
    model.default_prompt_name = None
    own = {key: value or "" for key, value in (model.prompts or {}).items()}
    prompts = (
        own.get("document", own.get("passage", "")) if options.document_prompt is None else options.document_prompt,
        own.get("query", "") if options.query_prompt is None else options.query_prompt,
    )
    return _Original(model, pooling, int(max_tokens), prompts)


def _pooling(model: Any) -> Pooling:  # noqa: ANN401 - sentence_transformers is an optional dependency
    """The pooling of a model, or a ModelError that says which modules are supported."""
    kinds = [type(module).__name__ for module in model]
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise ModelError(f"the model has the modules {', '.join(kinds)}; supported: {_SUPPORTED}")
    # sentence-transformers 6 has the attribute, 5 the method.
    mode = getattr(model[1], "pooling_mode", None) or model[1].get_pooling_mode_str()
    if mode not in ("mean", "cls"):
        raise ModelError(f"the model pools by {mode!r}; supported: {_SUPPORTED}")
    if not getattr(model[1], "include_prompt", True):
        raise ModelError(f"the model leaves its prompt out of the pooling; supported: {_SUPPORTED}, over all tokens")
    if getattr(model[0], "do_lower_case", False):
        raise ModelError("the model lower-cases outside its tokenizer (do_lower_case); put that into its tokenizer.json")
    if not getattr(model.tokenizer, "is_fast", False):
        raise ModelError("the model has no tokenizer.json; convert its tokenizer to a fast one first")
    return "mean" if mode == "mean" else "cls"


def _save_tokenizer(original: _Original, path: Path) -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(original.model.tokenizer.backend_tokenizer.to_str())
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokenizer.save(str(path), pretty=False)


def _export(original: _Original, path: Path) -> None:
    """Write the fp32 graph: ids and mask of shape (n, tokens) in, unit vectors of shape (n, dim) out."""
    import torch

    transformer = original.model[0].auto_model
    by_cls = original.pooling == "cls"
    with_types = "token_type_ids" in inspect.signature(transformer.forward).parameters

    class Pooled(torch.nn.Module):  # type: ignore[misc]  # torch is an optional dependency without types here
        def __init__(self) -> None:
            super().__init__()
            self.transformer = transformer

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:  # noqa: ANN401 - tensors
            types = {"token_type_ids": torch.zeros_like(input_ids)} if with_types else {}
            states = self.transformer(input_ids=input_ids, attention_mask=attention_mask, **types).last_hidden_state
            if by_cls:
                pooled = states[:, 0]
            else:
                weights = attention_mask.unsqueeze(-1).to(states.dtype)
                pooled = (states * weights).sum(1) / weights.sum(1).clamp(min=1e-9)
            return pooled / pooled.pow(2).sum(-1, keepdim=True).sqrt().clamp(min=1e-12)

    # Two rows, one padded, so that neither axis is folded into a constant; ids that every vocabulary has.
    ids = torch.arange(24).reshape(2, 12) % 4
    mask = torch.ones_like(ids)
    mask[1, 8:] = 0
    axes = {0: "texts", 1: "tokens"}
    try:
        with torch.no_grad(), _quiet():
            torch.onnx.export(
                Pooled().eval(),
                (ids, mask),
                str(path),
                input_names=["input_ids", "attention_mask"],
                output_names=["embedding"],
                dynamic_axes={"input_ids": axes, "attention_mask": axes, "embedding": {0: "texts"}},
                opset_version=_OPSET,
                dynamo=False,
                do_constant_folding=True,
            )
    except Exception as error:  # every architecture fails in its own way
        raise ModelError(f"the model cannot be exported to ONNX: {error}; this architecture is not supported") from error


def _quantise(fp32_path: Path, path: Path) -> None:
    import onnx

    silence_telemetry()
    from onnxruntime.quantization import QuantType, quantize_dynamic

    unfinished = fp32_path.with_name("int8.onnx")
    with _quiet():
        quantize_dynamic(
            str(fp32_path),
            str(unfinished),
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            weight_type=QuantType.QInt8,
        )
    model = onnx.load(str(unfinished))
    quantise_word_table(model)
    model.producer_name = "ragwatt"
    model.producer_version = str(RECIPE_VERSION)
    model.graph.name = "embedder"
    del model.metadata_props[:]
    for part in (model, model.graph, *model.graph.node):
        part.doc_string = ""
    path.write_bytes(model.SerializeToString(deterministic=True))


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the advice of tracer and quantiser: whether the graph is right is measured afterwards."""
    was = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(was)


def _measured_card(
    original: _Original,
    made: Path,
    fp32_path: Path,
    found: Source,
    options: AddOptions,
    progress: Callable[[str], None],
) -> ModelCard:
    """Compare the new graph with the original and write down what was found."""
    tokenizer = ModelTokenizer(made / TOKENIZER_NAME)
    reference = _encode_original(original)
    origin = options.origin or found.name
    dim = len(reference("dimension"))
    fp32 = _encoder(tokenizer, ModelSession(fp32_path, dim), original.max_tokens)
    int8 = _encoder(tokenizer, ModelSession(made / GRAPH_NAME, dim), original.max_tokens)
    parity = compare(
        Encoders(reference, fp32, int8),
        tuple(read_beir(path) for path in options.data),
        prompts=original.prompts,
        count=tokenizer.count,
        force=options.force,
        progress=progress,
    )
    return ModelCard(
        format=CARD_FORMAT,
        name=made.name,
        source=origin,
        revision=found.revision,
        licence=options.licence or found.licence,
        notice=options.notice or f"Derived from {origin}.",
        model_sha256=sha256_of(made / GRAPH_NAME),
        tokenizer_sha256=sha256_of(made / TOKENIZER_NAME),
        dim=dim,
        max_tokens=original.max_tokens,
        document_prompt=original.prompts[0],
        query_prompt=original.prompts[1],
        pooling=original.pooling,
        recipe=RECIPE,
        recipe_version=RECIPE_VERSION,
        parity=parity,
        canonical=tuple(
            Canonical(text, tuple(round(float(value), 5) for value in int8(text)[:_CANONICAL_VALUES])) for text in _CANONICAL_TEXTS
        ),
        canonical_tolerance=_CANONICAL_TOLERANCE,
    )


def _encoder(tokenizer: ModelTokenizer, session: ModelSession, max_tokens: int) -> Encode:
    return lambda text: session.run(tokenizer.ids(text, max_tokens))


def _encode_original(original: _Original) -> Encode:
    return lambda text: np.asarray(
        original.model.encode([text], batch_size=1, normalize_embeddings=True, show_progress_bar=False)[0],
        dtype=np.float32,
    )
