"""Whether an ONNX file keeps weights in other files, by its bytes alone.

A model is a protobuf message. It is walked here field by field, because no package of the run-time
install reads it without also following what it names: an engine would load such weights, which the
bundle's checksum does not cover. Only the fields that lead to tensors are entered.
"""

from __future__ import annotations

from collections.abc import Iterator

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_GROUPS = (3, 4)
_MOST_KEY = 0xFFFF_FFFF
_MOST_DEPTH = 64  # of graphs within nodes
# onnx.proto3: which fields of a message hold which message.
_MESSAGES = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {
        5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse",
    },
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}  # fmt: skip
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14  # of a tensor


def names_external_data(content: bytes) -> bool:
    """Whether some tensor of a model lies in another file, or whether that cannot be told.

    What is no message names nothing: no engine reads it either.

    Args:
        content: of the ONNX file.
    """
    try:
        return _is_external(memoryview(content), "model", 0)
    except (IndexError, ValueError):
        return False


def _is_external(message: memoryview, kind: str, depth: int) -> bool:
    if depth > _MOST_DEPTH:
        return True  # no network is nested so; what cannot be searched is not trusted
    external = False
    for number, wire_type, value in _fields(message):
        if wire_type in _GROUPS:
            return True
        if kind == "tensor":
            is_location = number == _DATA_LOCATION and wire_type == _VARINT and value != 0
            external = external or number == _EXTERNAL_DATA or is_location
        elif wire_type == _LENGTH and number in _MESSAGES[kind]:
            assert isinstance(value, memoryview)
            external = external or _is_external(value, _MESSAGES[kind][number], depth + 1)
    return external


def _fields(message: memoryview) -> Iterator[tuple[int, int, int | memoryview]]:
    """The fields of a message: number, wire type, and a number or bytes.

    Raises:
        IndexError, ValueError: it is none.
    """
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        if key > _MOST_KEY:  # some readers cut it, and see another field
            yield 0, _GROUPS[0], 0
            return
        number, wire_type = key >> 3, key & 7
        if wire_type == _VARINT:
            value, at = _varint(message, at)
            yield number, wire_type, value
        elif wire_type == _LENGTH:
            size, at = _varint(message, at)
            if at + size > len(message):
                raise ValueError("cut off")
            yield number, wire_type, message[at : at + size]
            at += size
        elif wire_type in (_FIXED64, _FIXED32):
            size = 8 if wire_type == _FIXED64 else 4
            yield number, wire_type, message[at : at + size]
            at += size
        elif wire_type in _GROUPS:  # groups, which ONNX never has; what is in them is not searched
            yield number, wire_type, 0
            return
        else:
            raise ValueError("no such wire type")


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, however long it is spelled, and where it ends."""
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at
        shift += 7
        if shift > 70:
            raise ValueError("a number too long")
