"""Serialized redis values, as `RESTORE` takes them, including ones no correct server produces.

The format is that of RDB version 9: a type byte, the value, two bytes of version, and a CRC-64 (Jones).
"""

from __future__ import annotations

import struct

RDB_VERSION = 9
TYPE_HASH_ZIPMAP = 9
TYPE_STREAM_LISTPACKS = 15
CRC_POLYNOMIAL = 0x95AC9329AC4BC9B5
"""The Jones polynomial 0xad93d23594c935a9, bit-reversed."""

ZIPMAP_END = 0xFF
ZIPMAP_LONG = 0xFE


def crc64(data: bytes) -> int:
    """Return the checksum that stands at the end of a serialized value."""
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (CRC_POLYNOMIAL if crc & 1 else 0)
    return crc


def sealed(kind: int, value: bytes) -> bytes:
    """Return a serialized value with version and checksum."""
    body = bytes([kind]) + value + struct.pack("<H", RDB_VERSION)
    return body + struct.pack("<Q", crc64(body))


def short_string(text: bytes) -> bytes:
    """Return a string shorter than 64 bytes in RDB form."""
    assert len(text) < 64
    return bytes([len(text)]) + text


def zipmap_length(size: int, *, long_form: bool) -> bytes:
    """Return a zipmap length; the long form of a length below 254 is not canonical."""
    return struct.pack("<BI", ZIPMAP_LONG, size) if long_form else bytes([size])


def zipmap_hash(field: bytes, value: bytes, *, long_field: bool = False, long_value: bool = False) -> bytes:
    """Return a hash of one field, in the legacy zipmap encoding."""
    zipmap = bytes([1]) + zipmap_length(len(field), long_form=long_field) + field
    zipmap += zipmap_length(len(value), long_form=long_value) + b"\0" + value + bytes([ZIPMAP_END])
    return sealed(TYPE_HASH_ZIPMAP, short_string(zipmap))


def stream_shared_entry(*consumers: bytes) -> bytes:
    """Return an empty stream with one group in which every consumer claims the same pending entry."""
    entry = struct.pack(">QQ", 1, 0)
    delivered = struct.pack("<Q", 1)
    value = bytes([0, 0, 1, 0])  # listpacks, length, last id: milliseconds, sequence
    value += bytes([1]) + short_string(b"group") + bytes([1, 0])
    value += bytes([1]) + entry + delivered + bytes([1])
    value += bytes([len(consumers)])
    for name in consumers:
        value += short_string(name) + delivered + bytes([1]) + entry
    return sealed(TYPE_STREAM_LISTPACKS, value)
