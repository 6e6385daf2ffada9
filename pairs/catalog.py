"""Reads the pairs: what changes, to which class it belongs, and the source of both builds.

A file of `cases/` holds the pairs of one family. Lines that start with `//@` divide it:

    //@ template NAME [before]   source that pairs share; it comes behind the pair's own text, or before it
    //@ pair NAME CLASS [TEMPLATE]
    //@ says One line: what would break, or why nothing does.
    //@ limit words              undecidable pairs: words of the sentence in docs/limits.md they belong to
    //@ gap sentence             what the engine is known to do wrong here; it counts as a defect all the same
    //@ flags -f...              more options of the compiler
    //@ library / //@ program    the pair's text is a library and the program that uses it; both are built
                             anew, and the library is the image: programs outside of an update stay old

The new build is the same text with NEW defined (C, C++) or `cfg(new)` set (Rust).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

HERE = Path(__file__).parent / "cases"
SUFFIXES = (".c", ".cc", ".rs")


class Class(StrEnum):
    """What has to come out."""

    DANGEROUS = "dangerous"  # must be refused
    HARMLESS = "harmless"  # must be accepted, and work in a running process
    UNDECIDABLE = "undecidable"  # dangerous, and nothing in two stripped builds says so


class PairError(Exception):
    """A file of pairs is wrong."""


@dataclass(frozen=True, slots=True)
class PairCase:
    """One known change.

    Attributes:
        name: unique over all families.
        family: name of the file.
        suffix: of the sources, which is the language.
        kind: dangerous, harmless or undecidable.
        says: what would break, or why nothing does.
        limit: for undecidable pairs, words out of docs/limits.md.
        gap: what the engine is known to do wrong, if anything.
        flags: more options of the compiler.
        program: source of the program.
        library: source of the library; empty where the program is the image.
    """

    name: str
    family: str
    suffix: str
    kind: Class
    says: str
    program: str
    library: str = ""
    limit: str = ""
    gap: str = ""
    flags: tuple[str, ...] = ()


@dataclass(slots=True)
class _Section:
    """Lines of one `template` or `pair`, while they are read."""

    words: list[str]
    line: int
    keys: dict[str, str] = field(default_factory=dict)
    parts: dict[str, list[str]] = field(default_factory=lambda: {"shared": []})


_KEYS = {"says", "limit", "gap", "flags"}
_PARTS = {"library", "program"}


def _sections(path: Path) -> Iterator[_Section]:
    section: _Section | None = None
    part = "shared"
    for number, line in enumerate(path.read_text().splitlines(), 1):
        mark = re.match(r"//@ (\w+) ?(.*)$", line)
        if mark is None:
            if section is not None:
                section.parts[part].append(line)
            continue
        word, rest = mark.groups()
        if word in ("template", "pair"):
            if section is not None:
                yield section
            section, part = _Section([word, *rest.split()], number), "shared"
        elif section is None or word not in _KEYS | _PARTS:
            raise PairError(f"{path.name}:{number}: {line}")
        elif word in _PARTS:
            part = word
            section.parts[part] = [f'#line {number + 1} "{path.name}"']
        else:
            section.keys[word] = rest
    if section is not None:
        yield section


def _text(section: _Section, path: Path, part: str = "shared") -> str:
    """The section's own lines, which the compiler counts as those of the family's file."""
    lines = section.parts[part]
    if path.suffix == ".rs":
        return "\n".join(lines) + "\n"
    start = section.line + 1 + len(section.keys)
    return "\n".join(([f'#line {start} "{path.name}"'] if part == "shared" else []) + lines) + "\n"


@dataclass(frozen=True, slots=True)
class _Template:
    """Source that pairs share."""

    text: str
    before: bool


def _pair(section: _Section, path: Path, templates: dict[str, _Template]) -> PairCase:
    name, kind, *template = section.words[1:]
    where = f"{path.name}: {name}"
    if not section.keys.get("says"):
        raise PairError(f"{where}: nothing is said about it")
    if (Class(kind) is Class.UNDECIDABLE) != ("limit" in section.keys):
        raise PairError(f"{where}: a limit belongs to undecidable pairs, and to each of them")
    shared = _text(section, path)
    for wanted in template:
        found = templates[wanted]
        shared = found.text + shared if found.before else shared + found.text
    library = shared + _text(section, path, "library") if "library" in section.parts else ""
    program = shared + _text(section, path, "program") if "program" in section.parts else shared
    return PairCase(
        name=name,
        family=path.stem,
        suffix=path.suffix,
        kind=Class(kind),
        says=section.keys["says"],
        program=program,
        library=library,
        limit=section.keys.get("limit", ""),
        gap=section.keys.get("gap", ""),
        flags=tuple(section.keys.get("flags", "").split()),
    )


def read_family(path: Path) -> list[PairCase]:
    """Return the pairs of one file."""
    sections = list(_sections(path))
    templates = {
        s.words[1]: _Template(_text(s, path), "before" in s.words) for s in sections if s.words[0] == "template"
    }
    return [_pair(s, path, templates) for s in sections if s.words[0] == "pair"]


def read_pairs(paths: Iterable[Path] | None = None) -> list[PairCase]:
    """Return every pair of every family, in the order of the files."""
    files = sorted(p for p in HERE.iterdir() if p.suffix in SUFFIXES) if paths is None else paths
    pairs = [pair for path in files for pair in read_family(path)]
    names = [pair.name for pair in pairs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise PairError(f"two pairs of one name: {', '.join(twice)}")
    return pairs
