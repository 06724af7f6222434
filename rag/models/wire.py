"""Walk the protobuf of an ONNX file far enough to see whether a tensor keeps its data outside of it.

The onnx package would tell, but it belongs to the extra [export]. A walk of the field headers of the shipped model (24
MB, 700 nodes) takes a few milliseconds, because the weights themselves are skipped.

References:
    ONNX message layout: onnx/onnx.proto3. Wire format: protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

from rag.errors import ModelError

# Fields that lead to a tensor, by message: field number -> message it holds.
_CHILDREN: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
_TENSOR_EXTERNAL_DATA = 13
_TENSOR_DATA_LOCATION = 14
# Deeper than any graph that an exporter writes; a crafted file must not exhaust the stack.
_MAX_DEPTH = 64


def has_external_data(path: Path) -> bool:
    """Whether any tensor of an ONNX file names data outside of the file.

    Args:
        path: The ONNX file.

    Returns:
        True when a tensor has the field ``external_data`` or a ``data_location`` other than the default.

    Raises:
        ModelError: If the file is missing, empty or not a protobuf message.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _walk(data, 0, len(data), "model", 0)
    except OSError as error:
        raise ModelError(f"model {path} cannot be read: {error.strerror}; reinstall or add the model again") from error
    except (ValueError, IndexError) as error:
        raise ModelError(f"model {path} is not an ONNX file: {error}; reinstall or add the model again") from error


def _walk(data: mmap.mmap, start: int, end: int, message: str, depth: int) -> bool:
    if depth > _MAX_DEPTH:
        raise ValueError(f"messages nested deeper than {_MAX_DEPTH}")
    children = _CHILDREN[message]
    for field, begin, stop, number in _fields(data, start, end):
        if message == "tensor" and (field == _TENSOR_EXTERNAL_DATA or (field == _TENSOR_DATA_LOCATION and number != 0)):
            return True
        if field in children and stop > begin and _walk(data, begin, stop, children[field], depth + 1):
            return True
    return False


def _fields(data: mmap.mmap, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Field number, first and one past the last byte of its content, and its value where it is a number."""
    while at < end:
        key, at = _varint(data, at)
        number = 0
        begin = at
        match key & 7:
            case 0:
                number, stop = _varint(data, at)
            case 1:
                stop = at + 8
            case 2:
                length, begin = _varint(data, at)
                stop = begin + length
            case 5:
                stop = at + 4
            case kind:
                raise ValueError(f"wire type {kind} at byte {at}")
        if stop > end:
            raise ValueError(f"field {key >> 3} at byte {at} runs over its message")
        yield key >> 3, begin, stop, number
        at = stop


def _varint(data: mmap.mmap, at: int) -> tuple[int, int]:
    """The number at a byte, and the byte behind it."""
    value = shift = 0
    while shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError(f"number longer than 10 bytes at byte {at}")
