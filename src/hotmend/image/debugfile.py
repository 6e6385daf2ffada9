"""What a file says about debug information: whose it is, whether it is there, and what else belongs to it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from elftools.common.exceptions import ELFError
from elftools.construct import ConstructError
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import NoteSection, Section

from hotmend.model.addresses import BuildId
from hotmend.model.errors import InputError

FILE_BYTES_MAX: Final = 4 << 30
_SECTIONS_MAX: Final = 65536
_LINK_BYTES_MAX: Final = 8192
_BUILD_ID_BYTES_MAX: Final = 64


@dataclass(frozen=True, slots=True)
class DebugFile:
    """What is known of a file before its debug information is read.

    Attributes:
        build_id: empty where it has none.
        has_types: whether it holds `.debug_info`.
        link: base name of the separate debug file (`.gnu_debuglink`), empty without.
        supplement: name of the file that it shares debugging entries with (`.gnu_debugaltlink`), empty without.
        supplement_id: build-id of that file.
    """

    build_id: BuildId
    has_types: bool
    link: str
    supplement: str
    supplement_id: BuildId


def read_debug_file(path: Path) -> DebugFile:
    """Look at the section headers of an ELF file.

    Raises:
        InputError: the file cannot be read, is no ELF file or is damaged.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            if not 64 <= size <= FILE_BYTES_MAX:
                raise InputError(f"{path}: a file of {size} bytes is no debug file")
            return _read(ELFFile(file))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
    except (
        ELFError,
        ConstructError,
        ArithmeticError,
        AssertionError,
        AttributeError,
        EOFError,
        LookupError,
        MemoryError,
        TypeError,
        ValueError,
    ) as error:
        # The library reports hostile headers in all these ways.
        raise InputError(f"{path}: damaged ELF file ({error})") from error


def _read(elf: ELFFile) -> DebugFile:
    if elf.num_sections() > _SECTIONS_MAX:
        raise InputError(f"more than {_SECTIONS_MAX} sections")
    build_id, link, supplement, supplement_id, has_types = "", "", "", "", False
    for section in elf.iter_sections():
        name = section.name
        if isinstance(section, NoteSection) and name == ".note.gnu.build-id":
            notes = (n for n in section.iter_notes() if n["n_type"] == "NT_GNU_BUILD_ID")
            build_id = next((str(n["n_desc"]) for n in notes), build_id)
        elif name in (".debug_info", ".zdebug_info"):
            has_types = section["sh_type"] != "SHT_NOBITS" and section["sh_size"] > 0
        elif name == ".gnu_debuglink":
            link = _link(section)[0]
        elif name == ".gnu_debugaltlink":
            supplement, rest = _link(section)
            supplement_id = rest[:_BUILD_ID_BYTES_MAX].hex()
    return DebugFile(BuildId(build_id), has_types, link, supplement, BuildId(supplement_id))


def _link(section: Section) -> tuple[str, bytes]:
    """Return the name that a link section begins with, and what follows it."""
    if section["sh_size"] > _LINK_BYTES_MAX:
        raise InputError(f"{section.name} of {section['sh_size']} bytes")
    name, _, rest = section.data().partition(b"\0")
    return name.decode("utf-8", "surrogateescape"), rest
