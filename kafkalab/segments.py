"""A partition on a broker's disk: the entries of an index and the header of one record batch."""

import struct
from dataclasses import dataclass
from pathlib import Path

_HEADER = struct.Struct(">qiibIhiqqqhii")  # message format v2 (Kafka documentation, "Record Batch")
_ENTRY = struct.Struct(">ii")  # offset after the segment's first, position in the log file
_BEFORE_LENGTH = 12  # bytes of base offset and length, which the length does not count
_CODECS = ("none", "gzip", "snappy", "lz4", "zstd")


@dataclass(frozen=True)
class RecordBatch:
    """The header of a record batch, field by field in the order of its bytes.

    Attributes:
        base_offset: The offset of the first record.
        length: Bytes of the batch after this field.
        leader_epoch: How often the partition had changed its leader when the batch was written.
        magic: The message format, 2.
        crc: The CRC-32C checksum of everything that follows it.
        attributes: Bits; the lowest three name the compression codec.
        last_offset_delta: The last record's offset, counted from `base_offset`.
        base_timestamp: The first record's time, in milliseconds since 1970.
        max_timestamp: The latest time of a record, in milliseconds since 1970.
        producer_id: The id that the broker gave to an idempotent producer, else -1.
        producer_epoch: The producer's epoch, else -1.
        base_sequence: The number that the producer gave to the first record, else -1.
        records: How many records the batch holds.
    """

    base_offset: int
    length: int
    leader_epoch: int
    magic: int
    crc: int
    attributes: int
    last_offset_delta: int
    base_timestamp: int
    max_timestamp: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    records: int

    @property
    def last_offset(self) -> int:
        """The offset of the last record."""
        return self.base_offset + self.last_offset_delta

    @property
    def size(self) -> int:
        """The whole batch in bytes."""
        return _BEFORE_LENGTH + self.length

    @property
    def compression(self) -> str:
        """The name of the compression codec."""
        return _CODECS[self.attributes & 0b111]


def batch_at(log: Path, position: int) -> RecordBatch | None:
    """Read the header of the record batch that begins at a position of a `.log` file.

    Returns:
        None at the end of the file.
    """
    with log.open("rb") as file:
        file.seek(position)
        header = file.read(_HEADER.size)
    return RecordBatch(*_HEADER.unpack(header)) if len(header) == _HEADER.size else None


def index_entries(index: Path) -> list[tuple[int, int]]:
    """Read a segment's `.index` file: pairs of an offset and a position in the `.log` file of the same name.

    The index of the segment that is being written to is longer than its content: the rest is zeros.
    """
    base_offset = int(index.stem)
    entries = []
    with index.open("rb") as file:
        while (entry := file.read(_ENTRY.size)) and (fields := _ENTRY.unpack(entry))[1] > 0:
            entries.append((base_offset + fields[0], fields[1]))
    return entries
