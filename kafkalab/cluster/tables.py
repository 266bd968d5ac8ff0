"""A topic as a pandas table: the bodies of many messages, put together as one Avro container, are decoded in one call.

A loop over the official deserializer pays for each message. An Avro container is a header with the schema and blocks of
bodies (https://avro.apache.org/docs/1.12.0/specification/#object-container-files). The body of a framed message is the
same bytes, so a chunk of messages becomes one block, and a reader of containers decodes it without a loop in Python:
`polars.read_avro` where polars is installed and the schema is flat, else `fastavro.reader`.
"""

import json
import operator
import secrets
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from io import BytesIO
from itertools import islice
from typing import TYPE_CHECKING, Any

import fastavro
import httpx2
from confluent_kafka import OFFSET_END, Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.common.avro import parse_schema_with_repo
from confluent_kafka.schema_registry.error import SchemaRegistryError
from fastavro.read import LOGICAL_READERS
from fastavro.schema import SchemaParseException

from kafkalab.cluster.lab import Lab
from kafkalab.cluster.messages import FRAME, MAGIC
from kafkalab.cluster.registry import registry_client
from kafkalab.errors import LabError
from kafkalab.waiting import ANSWER_SECONDS

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

_BATCH = 500  # messages that the client hands over at a time: what is in the processor's cache is read quickest
_CHUNK = 10_000  # messages that are decoded at a time
_RECORDS = 1000  # of fastavro's that are there at a time
_READ = (Message.value, Message.offset, Message.timestamp, Message.key, Message.headers)
_BATCH_SECONDS = 0.2  # that the last batch of a partition waits for offsets that hold no message
_ID_HEADER = "__value_schema_id"  # where a serializer may put the frame instead
_KAFKAS = ("_partition", "_offset", "_timestamp", "_key", "_headers", "_schema_id")
_GUARD = secrets.randbits(53) / 2**53  # after each body in a container: one that is too long or too short moves it
_GUARD_FIELD = "kafkalab_guard"
_WHOLE, _TRUTH, _FLOAT, _TEXT = "Int64", "boolean", "float64", "str"
_DTYPES = {"boolean": _TRUTH, "int": _WHOLE, "long": _WHOLE, "float": _FLOAT, "double": _FLOAT}
_DTYPES |= {"string": _TEXT, "enum": _TEXT, "bytes": "object"}
_TIMES = {"timestamp-millis": "datetime64[ms, UTC]", "timestamp-micros": "datetime64[us, UTC]"}
_TIMES |= {"local-timestamp-millis": "datetime64[ms]", "local-timestamp-micros": "datetime64[us]"}
_FOR_POLARS = dict.fromkeys(("boolean", "int", "long"), "long")
_FOR_POLARS |= {kind: kind for kind in ("float", "double", "string", "bytes", "null")}
_WITHOUT_NULLS = {_WHOLE: "int64", _TRUTH: "bool"}


def table(
    lab: Lab,
    topic: str,
    *,
    reader_schema: str | None = None,
    start: int | datetime | None = None,
    end: int | datetime | None = None,
) -> "pd.DataFrame":
    """Return the messages of a topic as a table: a row for each message, a column for each field of its record.

    The rows are in the order of partition and offset. They are what is committed when the call begins, so the call ends
    while others go on sending. Whole numbers are `int64`, texts `str`, timestamps `datetime64` (in UTC, unless Avro
    calls them local). Every other type is an object, as the official deserializer returns it. A schema that is no
    record has one column, `value`. Beside them stand:

    - `_partition`, `_offset`, `_timestamp` (UTC), `_key` (bytes) and `_headers` (a list of names and bytes, or None);
    - `_schema_id`, with which the value was written. A tombstone has none, and no field either.

    Where a value is missing, as in a tombstone or under a schema that has no such field, the column's type has a place
    for that: `Int64` instead of `int64`, NaN in floats and texts.

    Args:
        lab: The cluster.
        topic: The topic. Its values are framed Avro, with the frame before the body or in the header
            `__value_schema_id`.
        reader_schema: The schema to read all values with, as JSON, by Avro's schema resolution; None takes for each
            value the schema that wrote it.
        start: The first offset in each partition, or a time with a time zone: then the first message that is not older.
        end: The offset after the last one, or a time: then the first message that is not older is the first one left
            out.

    Raises:
        LabError: The topic does not exist or cannot be read, the registry does not answer, `start`, `end` or
            `reader_schema` is wrong, or a value is not framed Avro or does not fit its schema; the message names the
            partition and the offset of the first such value.
    """
    import pandas as pd  # noqa: PLC0415 - half a second that only tables need

    with registry_client(lab.registry) as registry:
        values = _Values(registry, topic, reader_schema)
        try:
            chunks = [values.chunk(*chunk) for chunk in _chunks(lab.client, topic, start, end)]
        except KafkaException as error:
            raise LabError(f"topic {topic!r} cannot be read: {error.args[0].str()}") from None
    chunks = chunks or [values.chunk(0, *([] for _ in _READ))]
    names = dict.fromkeys(str(name) for chunk in chunks for name in chunk)
    columns = {}
    for name in sorted(names, key=_KAFKAS.__contains__):  # the fields come first
        # taken out of its chunks one at a time, so that no more than one column is in memory twice
        parts = [chunk.pop(name).to_frame() if name in chunk else chunk[[]] for chunk in chunks]
        column = pd.concat(parts, ignore_index=True)[name]
        without: Any = _WITHOUT_NULLS.get(str(column.dtype))
        columns[name] = column.astype(without) if without and not column.hasnans else column
    return pd.DataFrame(columns, copy=False)


def _chunks(
    client: dict[str, str], topic: str, start: int | datetime | None, end: int | datetime | None
) -> Iterator[tuple[Any, ...]]:
    """Yield the messages between the bounds, some at a time: their partition, and a list for each of `_READ`."""
    own = {"group.id": "kafkalab-reads", "enable.auto.commit": False, "enable.partition.eof": True, "log_level": 0}
    own |= {"auto.offset.reset": "earliest"}  # where retention was faster
    own |= {"queued.max.messages.kbytes": 8192}  # that wait in the client's memory
    with Consumer({**client, **own}) as consumer:
        found = consumer.list_topics(topic, ANSWER_SECONDS).topics[topic]
        if found.error:
            raise LabError(f"topic {topic!r} cannot be read: {found.error.str()}")
        for partition in sorted(found.partitions):
            low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), ANSWER_SECONDS)
            asked = [_offset(consumer, TopicPartition(topic, partition), bound, high) for bound in (start, end)]
            first = low if asked[0] is None else max(low, asked[0])
            last = high if asked[1] is None else min(high, asked[1])
            consumer.assign([TopicPartition(topic, partition, first)])
            lists: list[list[Any]] = [[] for _ in _READ]
            for batch in _batches(consumer, topic, first, last):
                for kept, read in zip(lists, _READ, strict=True):
                    kept.extend(map(read, batch))
                if len(lists[0]) >= _CHUNK:
                    yield partition, *lists
                    lists = [[] for _ in _READ]
            if lists[0]:
                yield partition, *lists


def _batches(consumer: Consumer, topic: str, first: int, last: int) -> Iterator[list[Message]]:
    """Yield the messages of the assigned partition from one offset until before another."""
    heard = time.monotonic()
    while first < last:
        batch = consumer.consume(min(_BATCH, last - first), _BATCH_SECONDS)
        errors = {error.code(): error for error in filter(None, map(Message.error, batch))}
        ended = errors.pop(KafkaError._PARTITION_EOF, None)  # noqa: SLF001 - so the client calls it
        if errors:
            raise KafkaException(*errors.values())
        # offsets may have gaps, so what comes after the end may be among them
        messages = [message for message in batch if not message.error() and (message.offset() or 0) < last]
        if messages:
            yield messages
            first = (messages[-1].offset() or 0) + 1
        if ended or len(messages) < len(batch):
            return
        if batch:
            heard = time.monotonic()
        elif time.monotonic() - heard > ANSWER_SECONDS:
            raise LabError(f"timed out after {ANSWER_SECONDS} s waiting for the messages of {topic!r}")


def _offset(consumer: Consumer, place: TopicPartition, bound: int | datetime | None, high: int) -> int | None:
    """Return a bound as an offset of a partition.

    Args:
        consumer: Who asks the broker for the offset of a time.
        place: The partition.
        bound: The offset, the time, or None.
        high: The offset after the last message.

    Raises:
        LabError: It is neither, or a time without a zone.
    """
    if bound is None:
        return None
    if not isinstance(bound, datetime):
        try:
            offset = operator.index(bound)
        except TypeError:
            raise LabError(f"{bound!r} is neither an offset nor a datetime: start and end take these") from None
        if offset < 0:
            raise LabError(f"{bound} is no offset: they count from 0, in each partition")
        return offset
    if bound.tzinfo is None:
        raise LabError(f"{bound!r} has no time zone: write datetime(…, tzinfo=UTC) or datetime.now(UTC)")
    place.offset = max(0, -((datetime.fromtimestamp(0, UTC) - bound) // timedelta(milliseconds=1)))  # rounded up
    found: int = consumer.offsets_for_times([place], ANSWER_SECONDS)[0].offset
    return high if found == OFFSET_END else found


@dataclass(frozen=True)
class _Layout:
    """How the values under one schema id become columns.

    Attributes:
        writer: The schema that wrote them.
        reader: The schema to read them with; None for the writer's.
        header: The header of a container of them, with the guard as one field more. A record that holds one of its own
            type has no guard inside, so such a chunk is decoded one by one.
        dtypes: For each column its type in pandas. A schema that is no record has one column, `value`.
        flat: Whether polars reads the container.
    """

    writer: Any
    reader: Any
    header: bytes
    dtypes: dict[str, str]
    flat: bool

    def columns(self, bodies: Sequence[bytes]) -> "dict[str, pd.Series]":
        """Decode some bodies at once.

        Raises:
            Exception: Whatever a decoder says of bytes that do not fit; ValueError where a body has another length than
                its record.
        """
        guard = _avro("double", _GUARD)
        block = guard.join(bodies) + guard
        lengths = _avro("long", len(bodies)) + _avro("long", len(block))
        container = BytesIO(self.header + lengths + block + self.header[-16:])
        if self.flat:
            return self._by_polars(container)
        return self.typed(fastavro.reader(container, self.reader and _guarded(self.reader)), guarded=True)

    def typed(self, records: Iterable[Any], *, guarded: bool = False) -> "dict[str, pd.Series]":
        """Return decoded records as columns.

        Args:
            records: As fastavro reads them.
            guarded: Whether each has the guard as one field more.

        Raises:
            ValueError: A guard is not where it belongs.
        """
        import pandas as pd  # noqa: PLC0415

        lists: dict[str, list[Any]] = {name: [] for name in (*self.dtypes, *[_GUARD_FIELD] * guarded)}
        following = iter(records)
        while some := list(islice(following, _RECORDS)):
            for name, values in lists.items():
                values += [record[name] for record in some]
        guards = lists.pop(_GUARD_FIELD, [])
        if guards.count(_GUARD) < len(guards):
            raise ValueError("a body has another length than its record")
        columns = {}
        for name, dtype in self.dtypes.items():
            values = lists.pop(name)
            try:
                columns[name] = pd.Series(values, dtype=dtype)
            except (TypeError, ValueError):  # fastavro applies the writer's logical type, not the reader's
                columns[name] = pd.Series(values, dtype=object)
        return columns

    def _by_polars(self, container: BytesIO) -> "dict[str, pd.Series]":
        import polars as pl  # noqa: PLC0415 - it may not be installed

        try:
            read = pl.read_avro(container)
        except pl.exceptions.PanicException as error:  # which is no Exception
            raise ValueError(str(error)) from None
        if not (read[_GUARD_FIELD] == _GUARD).all():
            raise ValueError("a body has another length than its record")
        return {name: _from_polars(read[name], dtype) for name, dtype in self.dtypes.items()}


class _Values:
    """Decodes the values of a topic.

    Args:
        registry: The registry.
        topic: The topic, for what an error says.
        reader_schema: The schema to read with, as JSON, or None.

    Raises:
        LabError: The reader's schema is not Avro.
    """

    def __init__(self, registry: SchemaRegistryClient, topic: str, reader_schema: str | None) -> None:
        self._registry = registry
        self._topic = topic
        self._layouts: dict[bytes, _Layout] = {}
        try:
            self._reader = None if reader_schema is None else _plain(fastavro.parse_schema(json.loads(reader_schema)))
        except (ValueError, KeyError, TypeError, SchemaParseException) as error:
            raise LabError(f"reader_schema is not an Avro schema ({type(error).__name__}: {error})") from None
        self._dtypes = {} if self._reader is None else _dtypes(self._reader)

    def chunk(
        self,
        partition: int,
        values: list[bytes | None],
        offsets: list[int],
        times: list[tuple[int, int]],
        keys: list[bytes | None],
        headers: list[Any],
    ) -> "pd.DataFrame":
        """Return the table of some messages of one partition, in their order.

        Raises:
            LabError: A value cannot be decoded.
        """
        import pandas as pd  # noqa: PLC0415

        if any(headers):
            values = [_framed(value, header) for value, header in zip(values, headers, strict=True)]
        frames = [value and value[:FRAME] for value in values]
        kinds = dict.fromkeys(frames) or {None: None}
        parts = []
        for kind in kinds:
            rows = range(len(frames)) if len(kinds) == 1 else [n for n, frame in enumerate(frames) if frame == kind]
            if kind is None:  # tombstones
                fields = {name: pd.Series(index=range(len(rows)), dtype=dtype) for name, dtype in self._dtypes.items()}
            else:
                fields = self._fields(kind, [values[row] for row in rows], partition, [offsets[row] for row in rows])
            number = pd.NA if kind is None else int.from_bytes(kind[1:])
            fields["_schema_id"] = pd.Series(number, range(len(rows)), dtype=_WHOLE)
            parts.append(pd.DataFrame(fields, copy=False).set_axis(rows))
        table = parts[0] if len(parts) == 1 else pd.concat(parts).sort_index()
        table["_partition"] = pd.Series(partition, range(len(offsets)), dtype="int32")
        table["_offset"] = pd.Series(offsets, dtype="int64")
        table["_timestamp"] = pd.Series([time for _, time in times], dtype="datetime64[ms, UTC]")
        table["_key"] = pd.Series(keys, dtype=object)
        table["_headers"] = pd.Series(headers, dtype=object)
        return table

    def _fields(
        self, frame: bytes, values: Sequence[Any], partition: int, offsets: Sequence[int]
    ) -> "dict[str, pd.Series]":
        """Decode values that have one frame.

        Raises:
            LabError: They cannot be decoded; the message names the first that cannot.
        """
        if frame not in self._layouts:
            try:
                self._layouts[frame] = self._layout(frame)
            except ValueError as error:
                raise LabError(f"{self._place(partition, offsets[0])}: {error}") from None
        layout = self._layouts[frame]
        bodies = [value[FRAME:] for value in values]
        try:
            return layout.columns(bodies)
        except Exception:  # noqa: BLE001 - each decoder has its own; the next lines find the message
            places = (self._place(partition, offset) for offset in offsets)
            return layout.typed(_one(layout, body, place) for body, place in zip(bodies, places, strict=True))

    def _place(self, partition: int, offset: int) -> str:
        return f"partition {partition}, offset {offset} of {self._topic!r}"

    def _layout(self, frame: bytes) -> _Layout:
        """Ask the registry for the schema of a frame.

        Raises:
            ValueError: The frame leads to no Avro schema.
            LabError: The registry does not answer, or a field has the name of a column of Kafka's.
        """
        if frame[:1] != MAGIC or len(frame) < FRAME:
            what = "has the newer frame, with a GUID" if frame[:1] == b"\x01" else "is not framed Avro"
            raise ValueError(
                f"its value, {frame!r}…, {what}: leave it out by start and end, or read it with a Consumer"
            )
        number = int.from_bytes(frame[1:])
        try:
            schema = self._registry.get_schema(number)
            named = self._referenced(schema)
        except (SchemaRegistryError, httpx2.TransportError) as error:
            if isinstance(error, SchemaRegistryError) and error.http_status_code == 404:
                raise ValueError(f"the registry does not know schema id {number}: is the value framed Avro?") from None
            raise LabError(f"the registry does not answer ({error}): `kafkalab status` tells whether it runs") from None
        if schema.schema_type != "AVRO":
            raise ValueError(f"its schema is {schema.schema_type}, not Avro")
        writer = _plain(parse_schema_with_repo(schema.schema_str or "", named))
        dtypes = self._dtypes or _dtypes(writer)
        if taken := sorted(dtypes.keys() & set(_KAFKAS)):
            raise ValueError(
                f"its field {taken[0]} has the name of a column of Kafka's: read the topic with a Consumer"
            )
        flat = _flat(writer) if find_spec("polars") else None
        if self._reader is not None and (flat, _dtypes(writer)) != (_flat(self._reader), dtypes):
            flat = None
        container = BytesIO()
        fastavro.writer(container, _guarded(flat or writer), [])
        return _Layout(writer, self._reader, container.getvalue(), dtypes, flat is not None)

    def _referenced(self, schema: Schema) -> dict[str, Any]:
        """Return the schemas that one refers to, and those that they refer to, by name."""
        named: dict[str, Any] = {}
        for reference in schema.references or []:
            other = self._registry.get_version(reference.subject or "", reference.version or 0, deleted=True).schema
            named |= self._referenced(other) | {reference.name or "": json.loads(other.schema_str or "")}
        return named


def _one(layout: _Layout, body: bytes, place: str) -> Any:
    """Decode one body as the official deserializer does.

    Raises:
        LabError: It does not fit the schema.
    """
    stream = BytesIO(body)
    try:
        value = fastavro.schemaless_reader(stream, layout.writer, layout.reader)
    except Exception as error:  # noqa: BLE001 - any that a damaged body leads to
        raise LabError(f"{place}: its body does not fit its schema ({type(error).__name__}: {error})") from None
    if left := len(stream.read()):
        raise LabError(f"{place}: {left} bytes of its body are left over, another schema wrote it")
    return value if _is_record(layout.reader or layout.writer) else {"value": value}


def _framed(value: bytes | None, headers: Any) -> bytes | None:
    """Return a value with its frame before it, also where that is in a header."""
    frame = dict(headers or ()).get(_ID_HEADER)
    return value if value is None or frame is None else frame + value


def _avro(kind: str, number: float) -> bytes:
    """Return the bytes of a number of an Avro type."""
    stream = BytesIO()
    fastavro.schemaless_writer(stream, kind, number)
    return stream.getvalue()


def _guarded(schema: Any) -> dict[str, Any]:
    """Return the schema of a record with the guard after it; what is no record becomes the field `value` of one."""
    record = schema if _is_record(schema) else {"type": "record", "name": "kafkalab_value", "fields": _fields(schema)}
    return {**record, "fields": [*record["fields"], {"name": _GUARD_FIELD, "type": "double"}]}


def _fields(schema: Any) -> list[dict[str, Any]]:
    """Return the fields of a record; of another schema it is one, `value`."""
    return schema["fields"] if _is_record(schema) else [{"name": "value", "type": schema}]


def _plain(schema: Any) -> Any:
    """Return a schema without the notes that fastavro makes when it parses one."""
    return {k: v for k, v in schema.items() if not k.startswith("__")} if isinstance(schema, dict) else schema


def _is_record(schema: Any) -> bool:
    return isinstance(schema, dict) and schema["type"] == "record"


def _dtypes(schema: Any) -> dict[str, str]:
    """Return the types of a schema's columns."""
    named: dict[str, Any] = {}
    fastavro.parse_schema(schema, named)
    return {field["name"]: _dtype(field["type"], named) for field in _fields(schema)}


def _dtype(schema: Any, named: dict[str, Any]) -> str:
    """Return the type of a column: object for what has no type of its own in pandas."""
    if isinstance(schema, list):
        types = [kind for kind in schema if kind != "null"]
        return _dtype(types[0], named) if len(types) == 1 else "object"
    if isinstance(schema, str):
        return _dtype(named[schema], named) if schema in named else _DTYPES.get(schema, "object")
    logical = _logical(schema)
    return _TIMES.get(logical, "object") if logical else _dtype(schema["type"], named)


def _logical(schema: dict[str, Any]) -> str | None:
    """Return the logical type, None for one that fastavro does not know: that counts for nothing, as Avro says."""
    logical = schema.get("logicalType")
    return logical if f"{schema['type']}-{logical}" in LOGICAL_READERS else None


def _flat(schema: Any) -> dict[str, Any] | None:
    """Return a record's schema for polars: the same bytes, and the values that fastavro reads; None for other schemas.

    Polars cuts an `int` to 32 bits and takes a truth value other than 0 and 1 for false. As a `long` both are whole.
    """
    if not _is_record(schema):
        return None
    fields = [{"name": field["name"], "type": _alike(field["type"])} for field in schema["fields"]]
    if any(field["type"] in (None, "null") for field in fields):
        return None
    return {"type": "record", "name": schema["name"], "fields": fields}


def _alike(schema: Any) -> Any:
    """Return the type that polars reads in place of one, None for a type that it does not read as fastavro does."""
    if isinstance(schema, list):
        kinds = [_alike(branch) for branch in schema]
        return kinds if len(kinds) == 2 and "null" in kinds and None not in kinds else None
    if isinstance(schema, dict):
        return _alike(schema["type"]) if _logical(schema) in {None, *_TIMES} else None
    return _FOR_POLARS.get(schema)


def _from_polars(series: "pl.Series", dtype: str) -> "pd.Series":
    """Return a column of polars as one of pandas; pyarrow, which polars' own way needs, is not there."""
    import pandas as pd  # noqa: PLC0415

    if dtype in {_TEXT, "object"}:
        return pd.Series(series.to_list(), dtype=dtype)
    if dtype == _FLOAT:
        return pd.Series(series.to_numpy(writable=True), dtype=dtype)
    missing, numbers = series.is_null().to_numpy(writable=True), series.fill_null(0).to_numpy(writable=True)
    if dtype == _WHOLE:
        return pd.Series(pd.arrays.IntegerArray(numbers, missing))
    if dtype == _TRUTH:
        return pd.Series(pd.arrays.BooleanArray(numbers != 0, missing))
    return pd.Series(numbers, dtype=dtype).mask(missing)
