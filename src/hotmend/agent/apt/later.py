"""What a process with old images cannot load later: files of the update that need what only new images export.

A graceful restart, a new worker or a first use opens libraries and modules anew, from the disk. Memory that is fixed
does not help there: the dynamic linker binds by the symbol tables that the process has.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hotmend.image.deb import ElfFile
from hotmend.image.elf import read_image
from hotmend.model.errors import HotmendError

UNKNOWN = "(not known)"
_NAMED_MAX = 3


def needed_later(old: Iterable[ElfFile], new: Iterable[ElfFile]) -> tuple[str, ...]:
    """Return the names of symbols that a new file imports and another one exports, while no old file does.

    Returns:
        Names, sorted; `UNKNOWN` alone where a file cannot be looked at.
    """
    try:
        return _missing_exports(old, new)
    except HotmendError:
        return (UNKNOWN,)


def needed_text(names: Sequence[str]) -> str:
    """Say what the new files need."""
    return f"its new files need {', '.join(names[:_NAMED_MAX])} of the new images"


def _missing_exports(old: Iterable[ElfFile], new: Iterable[ElfFile]) -> tuple[str, ...]:
    exported_before = {symbol for file in old for symbol in _dynamic(file)[0]}
    read = [_dynamic(file) for file in new]
    exported_now = {symbol for exports, _ in read for symbol in exports}
    imported = {symbol for _, imports in read for symbol in imports}
    return tuple(sorted({name for name, _ in (imported & exported_now) - exported_before}))


def _dynamic(file: ElfFile) -> tuple[frozenset[tuple[str, str]], frozenset[tuple[str, str]]]:
    """Return what a file exports, and what it has to find elsewhere, each by name and version."""
    image = read_image(file.content, file.path)
    exports = frozenset(image.exports)
    imports = (s for s in image.symbols if s.dynamic and not s.defined and not s.weak and not s.local and s.name)
    return exports, frozenset((s.name, s.version) for s in imports) - exports
