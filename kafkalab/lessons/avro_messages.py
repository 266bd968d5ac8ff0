"""The anatomy of a message: its bytes split into parts that each mean one thing, and drawn."""

import io
import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastavro import schemaless_reader
from fastavro.schema import parse_schema

from kafkalab.errors import LabError
from kafkalab.figures.colours import COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FRAME = 5  # bytes before the body: the magic byte and the schema id

_FIELD_COLOURS = (*COLOURS[:4], COLOURS[5])
_GREY, _ORANGE = "#999999", COLOURS[4]
_PER_ROW = 24  # bytes in one row of the drawing
_MEANINGS = {
    "boolean": "boolean: 1 byte, 0 or 1",
    "float": "float: 4 bytes, IEEE 754, little-endian",
    "double": "double: 8 bytes, IEEE 754, little-endian",
    "enum": "enum: the symbol's number, a zig-zag varint",
}


@dataclass(frozen=True)
class Part:
    """Neighbouring bytes of a message that mean one thing.

    Attributes:
        name: What they are: `magic byte`, `schema id`, the name of a field, or `left over`.
        data: The bytes.
        value: What they say.
        meaning: How they say it.
    """

    name: str
    data: bytes
    value: Any
    meaning: str


def zigzag(number: int) -> int:
    """Return the number that Avro writes for an `int` or `long`: 0, -1, 1, -2, 2 become 0, 1, 2, 3, 4."""
    return 2 * number if number >= 0 else -2 * number - 1


def varint(number: int) -> bytes:
    """Return the bytes of an Avro `int` or `long`: seven bits each, the lowest first, the top bit for "more follow"."""
    rest = zigzag(number)
    groups = bytearray()
    while rest > 0x7F:
        groups.append(rest & 0x7F | 0x80)
        rest >>= 7
    return bytes([*groups, rest])


def anatomy(message: bytes, schema: str) -> list[Part]:
    """Split a framed Avro message into its parts; their data, joined, is the message.

    Args:
        message: The value of a Kafka message: magic byte 0, schema id, Avro body.
        schema: The schema to read the body with, as JSON. With another than the writer's the parts make no sense, as
            they would make none to a reader.

    Raises:
        LabError: The message has no such frame, or its body ends too early for the schema.
    """
    if len(message) < FRAME or message[0] != 0:
        raise LabError(f"{message[:FRAME]!r} is no magic byte 0 and schema id: is this message framed Avro?")
    stream = io.BytesIO(message)
    parts = [
        Part("magic byte", stream.read(1), 0, "the next 4 bytes are a schema id"),
        Part("schema id", *_numbered(stream.read(4)), "4 bytes, big-endian"),
    ]
    try:
        named: dict[str, Any] = {}
        parts += _parts("", parse_schema(json.loads(schema), named), stream, named)
    except (EOFError, IndexError, UnicodeDecodeError, struct.error) as error:
        raise LabError(f"the body does not fit the schema ({type(error).__name__}): another one wrote it") from None
    if rest := stream.read():
        parts.append(Part("left over", rest, None, "the schema asks for no more bytes"))
    return parts


def xray(message: bytes, schema: str, title: str = "The X-ray of a message") -> "Figure":
    """Draw a framed Avro message: every byte in the colour of its part, and below what each part says.

    Args:
        message: The value of a Kafka message.
        schema: The schema to read the body with, as JSON.
        title: The title of the figure.
    """
    import matplotlib.pyplot as plt  # noqa: PLC0415 - half a second that only figures need

    parts = anatomy(message, schema)
    colours = _colours(parts)
    rows = -(-len(message) // _PER_ROW)
    figure, axes = plt.subplots(figsize=(11, 0.7 + 0.62 * rows + 0.38 * len(parts)), layout="constrained")
    axes.set(xlim=(-0.2, _PER_ROW + 0.2), ylim=(-0.9 - len(parts), 1.6 * rows + 0.1))
    axes.set_title(title, parse_math=False)
    axes.axis("off")
    position = 0
    for line, part in enumerate(parts):
        start = position
        for byte in part.data:
            row, column = divmod(position, _PER_ROW)
            bottom = 1.6 * (rows - 1 - row)
            _box(axes, column, bottom, 1.0, colours[line], f"{byte:02x}")
            axes.text(column + 0.5, bottom + 1.22, str(position), ha="center", va="center", fontsize=8, color="#555555")
            position += 1
        span = f"byte {start}" if position - start == 1 else f"bytes {start} to {position - 1}"
        bottom = -1.2 - line
        _box(axes, 0, bottom, 0.8, colours[line], "")
        value = "" if part.value is None else repr(part.value)
        for left, text in zip((1.4, 5.2, 9.6, 13.6), (span, part.name, value, part.meaning), strict=True):
            axes.text(left, bottom + 0.4, text, va="center", fontsize=10.5, parse_math=False)  # a $ is a $
    return figure


def _numbered(data: bytes) -> tuple[bytes, int]:
    return data, struct.unpack(">I", data)[0]


def _parts(name: str, schema: Any, stream: io.BytesIO, named: Mapping[str, Any]) -> Iterator[Part]:
    """Read one value as the schema says; a string, a union and a record are more than one part.

    Args:
        name: The name of the field, with those of the records around it.
        schema: The schema of the value, as fastavro has parsed it.
        stream: The bytes that follow.
        named: The definitions of named types, which a schema only names from the second time on, as inside of itself.
    """
    schema, kind = _kind(schema, named)
    if kind == "record":
        for field in schema["fields"]:
            yield from _parts(f"{name}.{field['name']}".lstrip("."), field["type"], stream, named)
    elif kind == "union":
        data, branch = _read("long", stream)
        chosen = _kind(schema[branch], named)[1]
        yield Part(f"{name}: branch", data, branch, f"which type of the union follows: {chosen}")
        yield from _parts(name, schema[branch], stream, named)
    elif kind in {"string", "bytes"}:
        data, length = _read("long", stream)
        yield Part(f"{name}: length", data, length, f"how many bytes follow, {_as_varint(length)}")
        if length:
            text = stream.read(length)
            if len(text) != length:
                raise EOFError
            yield Part(name, text, text.decode() if kind == "string" else text, "UTF-8" if kind == "string" else kind)
    elif kind != "null":  # which takes no bytes
        known = {"__fastavro_parsed": True, "__named_schemas": named}  # as fastavro marks what it has parsed
        data, value = _read({**schema, **known} if isinstance(schema, dict) else schema, stream)
        whole = kind in {"int", "long"}
        yield Part(name, data, value, f"{kind}: {_as_varint(value)}" if whole else _MEANINGS.get(kind, kind))


def _as_varint(value: int) -> str:
    return f"zig-zag varint of {zigzag(value)}" if isinstance(value, int) else "zig-zag varint"


def _kind(schema: Any, named: Mapping[str, Any]) -> tuple[Any, str]:
    """Return a schema without the wrapping of {"type": {…}} and not by its name alone, and the name of its kind."""
    while isinstance(schema, dict) and not isinstance(schema["type"], str):
        schema = schema["type"]
    schema = named.get(schema, schema) if isinstance(schema, str) else schema
    return schema, "union" if isinstance(schema, list) else schema["type"] if isinstance(schema, dict) else schema


def _read(schema: Any, stream: io.BytesIO) -> tuple[bytes, Any]:
    """Let fastavro read one value, and return the bytes that it took and the value."""
    start = stream.tell()
    value = schemaless_reader(stream, schema)
    return stream.getvalue()[start : stream.tell()], value


def _colours(parts: list[Part]) -> list[dict[str, Any]]:
    """Return how to fill each part: one colour for each field, paler for its length, striped for its branch."""
    colours = {"magic byte": _GREY, "schema id": _ORANGE, "left over": "#FFFFFF"}
    for part in parts:
        field = part.name.split(":")[0]
        colours.setdefault(field, _FIELD_COLOURS[(len(colours) - 3) % len(_FIELD_COLOURS)])
    fills = []
    for part in parts:
        field, _, role = part.name.partition(": ")
        full, pale = (colours[field], 0.55), (colours[field], 0.25)
        stripes = {"hatch": "///", "hatchcolor": full} if role == "branch" else {}
        fills.append({"fc": pale if role else full, **stripes})
    return fills


def _box(axes: "Axes", x: float, y: float, size: float, fill: dict[str, Any], text: str) -> None:
    from matplotlib.patches import Rectangle  # noqa: PLC0415

    axes.add_patch(Rectangle((x + 0.04, y), 0.92, size, ec="#444444", lw=0.8, **fill))
    axes.text(x + 0.5, y + size / 2, text, ha="center", va="center", fontsize=11, family="monospace")
