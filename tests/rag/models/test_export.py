from __future__ import annotations

import importlib
import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rag.embed.onnx import OnnxEmbedder
from rag.errors import InputError, MissingExtraError, ModelError
from rag.models.export import AddOptions, add_model, quantise_word_table
from rag.models.registry import find_model, verify_model
from rag.models.source import find_source
from rag.tokens import SHIPPED_NAME

HAS_EXTRA = all(importlib.util.find_spec(name) for name in ("torch", "onnx", "sentence_transformers"))
needs_extra = pytest.mark.skipif(not HAS_EXTRA, reason="the extra [export] is not installed: make setup-export")
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "cat", "dog", "the", "a", "of", "is", "text", "vector", "##s", ".", ","]


def tiny_model(folder: Path, pooling: str = "mean", *, dense: bool = False) -> Path:
    """A sentence-transformers model with random weights, 40 KB."""
    import sentence_transformers as st
    import torch

    # Comes with sentence_transformers and has types that say nothing here.
    transformers = importlib.import_module("transformers")

    torch.manual_seed(0)
    vocabulary = folder.parent / "vocab.txt"
    vocabulary.write_text("\n".join(VOCABULARY))
    config = transformers.BertConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    transformers.BertModel(config).save_pretrained(folder.parent / "bert")
    transformers.BertTokenizerFast(vocab_file=str(vocabulary), vocab=str(vocabulary)).save_pretrained(folder.parent / "bert")
    modules = st.sentence_transformer.modules
    transformer = st.base.modules.Transformer(str(folder.parent / "bert"), max_seq_length=32)
    parts = [transformer, modules.Pooling(32, pooling_mode=pooling)]
    if dense:
        parts.append(st.base.modules.Dense(32, 16))
    st.SentenceTransformer(modules=parts, device="cpu", prompts={"query": "cat ", "document": ""}).save(str(folder))
    return folder


@pytest.mark.skipif(HAS_EXTRA, reason="the extra [export] is installed")
def test_missing_extra_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingExtraError, match=r"rag models add.*ragwatt\[export\]"):
        add_model("anything", "mine", tmp_path)


def test_name_that_is_taken_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    with pytest.raises(ModelError, match="exists.*--replace"):
        add_model("anything", "mine", tmp_path)
    with pytest.raises(ModelError, match="is shipped"):
        add_model("anything", SHIPPED_NAME, tmp_path)
    with pytest.raises(InputError, match="is not allowed"):
        add_model("anything", "../mine", tmp_path)


@pytest.mark.parametrize("source", ["no_such_package", "no/such/folder", "json", "os.path", ""])
def test_source_that_is_not_here_is_an_error_not_a_download(source: str) -> None:
    with pytest.raises(ModelError, match="nothing is downloaded"):
        find_source(source)


def test_source_is_named_by_its_folder_and_licence(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="has no weights"):
        find_source(str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    assert find_source(str(tmp_path)).licence == "unknown"
    (tmp_path / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    found = find_source(str(tmp_path))
    assert (found.name, found.licence) == (tmp_path.name, "Apache-2.0")
    assert found.revision.startswith("sha256:9a129038")


def test_word_table_becomes_int8_rows_with_a_scale_each() -> None:
    onnx = pytest.importorskip("onnx", reason="the extra [export] is not installed: make setup-export")
    reference = pytest.importorskip("onnx.reference")
    rng = np.random.default_rng(0)
    table = rng.normal(size=(50, 8)).astype(np.float32) * rng.uniform(0.01, 10, size=(50, 1)).astype(np.float32)
    table[7] = 0
    model = word_table_model(onnx, table)
    quantise_word_table(model)
    onnx.checker.check_model(model)
    assert {tensor.name: tensor.data_type for tensor in model.graph.initializer} == {
        "word_rows": onnx.TensorProto.INT8,
        "word_scales": onnx.TensorProto.FLOAT,
    }
    ids = np.arange(50)[None]
    found = reference.ReferenceEvaluator(model).run(None, {"ids": ids})[0][0]
    # Rounding moves a component by half a step, and a step is the largest component of its row / 127.
    assert (np.abs(found - table) <= np.abs(table).max(axis=1, keepdims=True) / 254 * 1.001).all()


def test_graph_without_a_word_table_is_refused() -> None:
    onnx = pytest.importorskip("onnx", reason="the extra [export] is not installed: make setup-export")
    model = word_table_model(onnx, np.ones((3, 2), dtype=np.float32))
    del model.graph.node[:]
    with pytest.raises(ModelError, match="no word embedding table"):
        quantise_word_table(model)


def word_table_model(onnx: Any, table: np.ndarray[Any, np.dtype[np.float32]]) -> Any:  # noqa: ANN401 - onnx has no types here
    helper = onnx.helper
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "ids"], ["out"])],
        "g",
        [helper.make_tensor_value_info("ids", onnx.TensorProto.INT64, ["n", "s"])],
        [helper.make_tensor_value_info("out", onnx.TensorProto.FLOAT, ["n", "s", table.shape[1]])],
        [onnx.numpy_helper.from_array(table, "table")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@needs_extra
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_added_model_embeds_as_its_original(tmp_path: Path, pooling: str) -> None:
    import sentence_transformers as st

    source = tiny_model(tmp_path / "tiny", pooling)
    model = add_model(str(source), "mine", tmp_path / "models", AddOptions(licence="MIT"))
    card = model.card
    assert (card.source, card.licence, card.dim, card.max_tokens) == ("tiny", "MIT", 32, 32)
    assert (card.pooling, card.query_prompt, card.document_prompt) == (pooling, "cat ", "")
    assert card.parity.quality == ()
    assert card.parity.cosine_mean > 0.98
    assert verify_model(model).max_deviation < 1e-4
    texts = ["the cats, a dog.", "is a vector of text", "", "dogs " * 50]
    expected = st.SentenceTransformer(str(source), device="cpu").encode(texts, normalize_embeddings=True)
    assert ((OnnxEmbedder(model).embed(texts) * expected).sum(axis=1) > 0.98).all()
    assert str(tmp_path) not in (model.folder / "card.json").read_text() + (model.folder / "MODEL_CARD.md").read_text()
    assert str(tmp_path).encode() not in model.graph_path.read_bytes()


@needs_extra
@pytest.mark.filterwarnings("ignore")
def test_same_source_gives_the_same_bytes(tmp_path: Path) -> None:
    source = str(tiny_model(tmp_path / "tiny"))
    first = add_model(source, "one", tmp_path / "models")
    second = add_model(source, "two", tmp_path / "models")
    assert first.graph_path.read_bytes() == second.graph_path.read_bytes()
    assert first.tokenizer_path.read_bytes() == second.tokenizer_path.read_bytes()
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == ["one", "two"]


@needs_extra
@pytest.mark.filterwarnings("ignore")
def test_replacing_leaves_one_whole_model(tmp_path: Path) -> None:
    source = str(tiny_model(tmp_path / "tiny"))
    add_model(source, "mine", tmp_path / "models")
    again = add_model(source, "mine", tmp_path / "models", AddOptions(max_tokens=16, replace=True))
    assert find_model("mine", tmp_path / "models").card.max_tokens == 16
    assert verify_model(again).n_files == 2
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["mine"]


@needs_extra
@pytest.mark.filterwarnings("ignore")
def test_unsupported_modules_are_named(tmp_path: Path) -> None:
    source = str(tiny_model(tmp_path / "tiny", dense=True))
    with pytest.raises(ModelError, match="Transformer, Pooling, Dense; supported"):
        add_model(source, "mine", tmp_path / "models")
    with pytest.raises(ModelError, match="pools by 'max'"):
        add_model(str(tiny_model(tmp_path / "max", "max")), "mine", tmp_path / "models")
    assert not list((tmp_path / "models").glob("*"))


@needs_extra
@pytest.mark.filterwarnings("ignore")
def test_more_tokens_than_the_model_reads_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="reads at most 32"):
        add_model(str(tiny_model(tmp_path / "tiny")), "mine", tmp_path / "models", AddOptions(max_tokens=64))


@needs_extra
def test_damaged_source_is_a_model_error(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(ModelError, match="cannot be loaded by sentence-transformers"):
        add_model(str(tmp_path), "mine", tmp_path / "models")
