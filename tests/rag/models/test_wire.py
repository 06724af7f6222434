from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag.errors import ModelError
from rag.models.registry import find_model
from rag.models.session import ModelSession
from rag.models.wire import has_external_data
from rag.tokens import SHIPPED_NAME


def field(number: int, content: bytes | int) -> bytes:
    """One protobuf field: a number, or bytes of any length."""
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


# A tensor whose data lies in the file "../../secret" (external_data, data_location), and one with its data inside.
LOCATION = field(1, b"location") + field(2, b"../../secret")
OUTSIDE = field(1, 4) + field(8, b"w") + field(13, LOCATION) + field(14, 1)
INSIDE = field(1, 4) + field(8, b"w") + field(9, b"\x00" * 300) + field(14, 0)


def write(folder: Path, content: bytes) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(content)
    return path


def test_weights_inside_are_accepted(tmp_path: Path) -> None:
    assert not has_external_data(write(tmp_path, field(1, 8) + field(7, field(5, INSIDE))))
    assert not has_external_data(find_model(SHIPPED_NAME, tmp_path).graph_path)


@pytest.mark.parametrize(
    "graph",
    [
        field(5, INSIDE) + field(5, OUTSIDE),
        field(5, field(14, 1)),
        field(15, field(1, OUTSIDE)),
        field(1, field(5, field(5, OUTSIDE))),
        field(1, field(5, field(6, field(5, OUTSIDE)))),
        field(1, field(5, field(11, field(1, field(5, field(10, OUTSIDE)))))),
    ],
    ids=["initializer", "location only", "sparse", "attribute", "subgraph", "nested subgraph"],
)
def test_weights_outside_are_found_wherever_a_tensor_may_be(tmp_path: Path, graph: bytes) -> None:
    assert has_external_data(write(tmp_path, field(7, graph)))


def test_weights_outside_in_a_function_are_found(tmp_path: Path) -> None:
    assert has_external_data(write(tmp_path, field(25, field(7, field(5, field(5, OUTSIDE))))))


def test_session_refuses_weights_outside(tmp_path: Path) -> None:
    session = ModelSession(write(tmp_path, field(7, field(5, OUTSIDE))), 384)
    with pytest.raises(ModelError, match="keeps weights in another file"):
        session.run([101, 102])


@pytest.mark.parametrize("content", [b"", b"\xff" * 20, field(7, b"\x0a\xff"), b"\x0f", b"not a model at all"])
def test_what_is_no_protobuf_is_a_model_error(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ModelError, match="is not an ONNX file"):
        has_external_data(write(tmp_path, content))


def test_crafted_depth_is_a_model_error(tmp_path: Path) -> None:
    graph = b""
    for _ in range(100):
        graph = field(1, field(5, field(6, graph + field(8, b"x"))))
    with pytest.raises(ModelError, match="nested deeper"):
        has_external_data(write(tmp_path, field(7, graph)))


@settings(max_examples=200)
@given(content=st.binary(min_size=1, max_size=200))
def test_any_bytes_give_an_answer_or_a_model_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = write(tmp_path_factory.getbasetemp(), content)
    try:
        assert has_external_data(path) in (True, False)
    except ModelError as error:
        assert "is not an ONNX file" in str(error)  # noqa: PT017 - either outcome is right
