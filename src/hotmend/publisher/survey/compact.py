"""The results of a survey in a small file: what was found, without how long it took and on what evidence."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec
import zstandard

from hotmend.model.errors import InputError
from hotmend.publisher.survey.report import Report, lines_of, replace_file, report_of

_BYTES_MAX: Final = 256 << 20
"""Most that a file may hold once it is uncompressed; all of Debian 12 is 2 MB."""

_LEVEL: Final = 19


def write_compact(report: Report, path: Path) -> None:
    """Write the rows without evidence, steps and the reasons' sentences. The file appears as a whole."""
    files = tuple(
        msgspec.structs.replace(
            file,
            reasons=tuple(msgspec.structs.replace(r, sentence="", subjects=()) for r in file.reasons),
            references=(),
            steps=(),
            seconds=0.0,
            cpu_seconds=0.0,
            peak_rss_bytes=0,
        )
        for file in report.files
        if file.state == "changed"
    )
    packages = tuple(
        msgspec.structs.replace(
            package,
            fetch_seconds=0.0,
            unpack_seconds=0.0,
            compare_seconds=0.0,
            cpu_seconds=0.0,
            peak_rss_bytes=0,
            worker="",
        )
        for package in report.packages
    )
    data = lines_of(Report(report.summary, report.sources, packages, files))
    replace_file(path, zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True).compress(data))


def read_compact(data: bytes, name: str) -> Report:
    """Read what `write_compact` wrote.

    Raises:
        InputError: it is something else; `name` says in the message where it came from.
    """
    try:
        size = zstandard.frame_content_size(data)
        if not 0 <= size <= _BYTES_MAX:
            raise InputError(f"{name}: says to hold {size} bytes; the limit is {_BYTES_MAX}")
        lines = zstandard.ZstdDecompressor().decompress(data, max_output_size=_BYTES_MAX)
    except zstandard.ZstdError as error:
        raise InputError(f"{name}: not the results of a survey ({error})") from error
    return report_of(lines, name)
