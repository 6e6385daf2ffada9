"""Which fixes a source package's patches make, and in which functions.

A Debian source package keeps its fixes as patches in `debian/patches`. Their names and headers tell the CVE, their
hunks the functions. unidiff parses the hunks; which function a line belongs to is read from the hunk's own heading and
from the definitions inside of it, as diff itself does.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hotmend.image.tar import TarStream
from hotmend.model.errors import InputError

if TYPE_CHECKING:
    from unidiff.patch import Hunk

ARCHIVE_BYTES_MAX: Final = 1 << 28
"""Most bytes that a source package's Debian part may unpack to."""
PATCH_BYTES_MAX: Final = 8 << 20
PATCHES_MAX: Final = 5_000
MEMBERS_MAX: Final = 50_000

_CVE = re.compile(r"(?<![A-Za-z0-9])CVE-[0-9]{4}-[0-9]{4,19}(?![0-9])")
_TESTS = re.compile(r"(^|/)(tests?|testsuite|testing|t)/|(^|/)(run|run_)?tests?\w*\.\w+$|_test\.\w+$")
_SOURCES = (".c", ".cc", ".cpp", ".cxx", ".h", ".hh", ".hpp", ".y", ".l", ".rs", ".inc")
_DEFINITION = re.compile(r"^(?:[A-Za-z_][\w\s*:<>,&]*?[\s*&])?(?:\w+::)*(?P<name>~?[A-Za-z_]\w*)\s*\((?!.*;\s*$)")
_KEYWORDS = frozenset({"if", "for", "while", "switch", "return", "sizeof", "else", "do", "case", "defined"})


@dataclass(frozen=True, slots=True)
class Patch:
    """One patch: its file name, the CVE ids it names, and the functions that its hunks change."""

    name: str
    cves: tuple[str, ...]
    functions: frozenset[str]


def read_patches(source: Path) -> tuple[Patch, ...]:
    """Return the patches of a source package, in the order of their names.

    Args:
        source: a `.debian.tar.xz` file, or a directory with patches (`debian/patches`).

    Raises:
        InputError: it cannot be read, or is over a limit.
    """
    import lzma

    try:
        texts = _from_directory(source) if source.is_dir() else _from_archive(source)
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise InputError(f"{source}: {error}", "give a .debian.tar.xz file or a debian/patches directory") from error
    return tuple(patch for name, text in sorted(texts.items()) if (patch := parse_patch(name, text)) is not None)


def parse_patch(name: str, text: str) -> Patch | None:
    """Return what a patch changes, or None where it cannot be read as one."""
    from unidiff.errors import UnidiffParseError
    from unidiff.patch import PatchSet

    header = text.partition("\n--- ")[0]
    cves = tuple(dict.fromkeys(_CVE.findall(f"{name}\n{header}")))
    try:
        parsed = PatchSet(text)
    except (UnidiffParseError, ValueError, IndexError):
        return None
    functions = {
        function
        for file in parsed
        if str(file.path).endswith(_SOURCES) and not _TESTS.search(str(file.path))
        for hunk in file
        for function in _functions_of(hunk)
    }
    return Patch(name, cves, frozenset(functions))


def _functions_of(hunk: Hunk) -> set[str]:
    """Return the functions that the changed lines of a hunk lie in."""
    current = _defined(hunk.section_header)
    result = set()
    for line in hunk:
        text = line.value
        current = _defined(text) or current
        inside = text[:1].isspace() and not text.lstrip().startswith(("*", "/*", "//")) and text.strip()
        if not line.is_context and current and (inside or _defined(text)):
            result.add(current)
        if text.startswith("}"):
            current = ""
    return result


def _defined(line: str) -> str:
    """Return the name of the function whose definition seems to begin on a line, or an empty string."""
    match = _DEFINITION.match(line)
    return match["name"] if match and match["name"] not in _KEYWORDS else ""


def _from_directory(directory: Path) -> dict[str, str]:
    files = [path for path in sorted(directory.rglob("*")) if path.is_file() and path.name != "series"]
    if len(files) > PATCHES_MAX:
        raise InputError(f"{directory}: more than {PATCHES_MAX} files")
    return {
        str(path.relative_to(directory)): path.read_text("utf-8", "replace")
        for path in files
        if path.stat().st_size <= PATCH_BYTES_MAX
    }


def _from_archive(archive: Path) -> dict[str, str]:
    result: dict[str, str] = {}
    import lzma

    with lzma.open(archive) as stream:
        members = TarStream(stream, members_max=MEMBERS_MAX, bytes_max=ARCHIVE_BYTES_MAX)
        for info in members:
            name = info.name.removeprefix("./")
            wanted = name.startswith("debian/patches/") and not name.endswith("/series")
            if info.isreg() and wanted and info.size <= PATCH_BYTES_MAX and len(result) < PATCHES_MAX:
                result[name.removeprefix("debian/patches/")] = members.read(info.size).decode("utf-8", "replace")
    return result
