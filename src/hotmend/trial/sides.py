"""From what the user names to what is laid over the files of a host: packages, or single ELF files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hotmend.image.deb import is_deb, read_deb
from hotmend.image.elf import read_image
from hotmend.model.addresses import BuildId
from hotmend.model.errors import InputError, UsageError
from hotmend.model.hotpatch import Hotpatch
from hotmend.trial.trials import LIBRARIES, Side


def make_sides(
    old: Path, new: Path, others: Sequence[Path], hotpatches: Sequence[Hotpatch], library: str
) -> tuple[Side, Side]:
    """Return both builds.

    Args:
        old: ELF file or package.
        new: the same, of the same kind.
        others: packages that both hosts need besides.
        hotpatches: of the update.
        library: name of the image that calls are made to; "" for its only one.

    Raises:
        InputError: a file is not what it should be, or does not hold the builds of the update.
        UsageError: `library` is not in the update, or must be given.
    """
    kinds = [_is_package(path) for path in (old, new, *others)]
    if kinds[0] != kinds[1]:
        raise UsageError("one side is a Debian package and the other an ELF file", "give two of one kind")
    if not all(kinds[2:]):
        raise UsageError("--with takes packages")
    chosen = _choose(hotpatches, library)
    if kinds[0]:
        paths = [
            _find_in_package(path, tuple(getattr(h, field) for h in chosen))
            for path, field in ((old, "old_build_id"), (new, "new_build_id"))
        ]
        return tuple(  # type: ignore[return-value]
            Side(str(package), (*others, package), (), paths[i]) for i, package in enumerate((old, new))
        )
    old_side, new_side = (
        _side_of_image(path, old, tuple(others), tuple(getattr(h, field) for h in chosen))
        for path, field in ((old, "old_build_id"), (new, "new_build_id"))
    )
    return old_side, new_side


def _is_package(path: Path) -> bool:
    try:
        return is_deb(path)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error


def _choose(hotpatches: Sequence[Hotpatch], library: str) -> tuple[Hotpatch, ...]:
    """Return the hotpatches of the image that is meant, or all where none is named."""
    if not library:
        return tuple(hotpatches)
    found = tuple(h for h in hotpatches if h.name == library)
    if not found:
        raise UsageError(f"the update has no image {library}; it has {', '.join(h.name for h in hotpatches)}")
    return found


def _find_in_package(package: Path, build_ids: Sequence[BuildId]) -> str:
    """Return the absolute path, in the package, of the first image with one of the build-ids."""
    for file in read_deb(package).elf_files:
        if any(bytes.fromhex(build_id) in file.content for build_id in build_ids):
            return f"/{file.path}"
    raise InputError(
        f"{package}: it does not hold the build that the hotpatch is about", f"build-id {', '.join(build_ids)}"
    )


def _side_of_image(path: Path, old: Path, others: tuple[Path, ...], build_ids: Sequence[BuildId]) -> Side:
    """Return one ELF file as a side: it stands where OLD stands, and where the dynamic linker looks first."""
    image = read_image(path, path.name)
    if image.build_id not in build_ids:
        raise InputError(
            f"{path}: it is not the build that the hotpatch is about",
            f"it has build-id {image.build_id}, not {', '.join(build_ids)}",
        )
    library = f"{LIBRARIES}/{image.soname or old.name}"
    return Side(str(path), others, ((path, str(old.absolute())), (path, library)), library)
