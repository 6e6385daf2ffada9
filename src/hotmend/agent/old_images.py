"""Old images, for hotpatches that came compressed against them; and what both parts of the agent tell each other of it.

The part with the network may not look into processes, and the part that may has no network. So the second leaves a list
for the first: which old builds it can read, and which bundles it needs whole after all. The list says what hotpatches
of the channel are about, and nothing else that runs.

    whole NAME NAME ...
    BUILD-ID
    ...
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hotmend.agent.paths import Places
from hotmend.linux.old_files import read_build, read_mapped
from hotmend.linux.process import ProcessImages, file_build_id
from hotmend.model.addresses import BuildId
from hotmend.model.errors import HotmendError
from hotmend.package.delta import PREFIX_BYTES_MAX
from hotmend.repository.bundles import OldImage
from hotmend.repository.releases import ReleaseImage

_LIST_BYTES_MAX: Final = 4 << 20
_WHOLE: Final = "whole"
_BUILD_ID = re.compile(r"([0-9a-f]{2}){1,64}")


@dataclass(frozen=True, slots=True)
class OldBuilds:
    """What the part without network says.

    Attributes:
        builds: that it can read from a running process.
        whole: names of bundles whose delta is of no use to it.
    """

    builds: frozenset[str] = frozenset()
    whole: frozenset[str] = frozenset()


def old_image(running: Sequence[ProcessImages], root: Path = Path("/")) -> OldImage:
    """Return what reads an old image: from its place on the disk, or from a process that maps it.

    Args:
        running: processes and all that they map.
        root: of the disk.
    """

    def read(image: ReleaseImage) -> bytes | None:
        wanted = BuildId(image.old_build_id)
        found = read_build(root / image.path, wanted, PREFIX_BYTES_MAX)
        return read_mapped(running, wanted, PREFIX_BYTES_MAX) if found is None else found

    return read


def delta_will_do(images: Collection[ReleaseImage], name: str, told: OldBuilds, root: Path = Path("/")) -> bool:
    """Return whether the delta of a bundle is what to fetch.

    It is where all of its images are there. Where none is, nothing of the bundle runs: the smaller file will do until
    something does. Where some are not, the whole bundle may be needed any time.

    Args:
        images: that the delta is against; none where there is no delta.
        name: of the bundle.
        told: by the part without network.
        root: of the disk.
    """
    if not images or name in told.whole:
        return False
    there = [i.old_build_id in told.builds or file_build_id(root / i.path) == i.old_build_id for i in images]
    return all(there) or not any(there)


def write_old_builds(
    places: Places, running: Iterable[ProcessImages], old: Collection[str], whole: Iterable[str]
) -> None:
    """Leave the list.

    Args:
        places: of the machine.
        running: processes and all that they map.
        old: build-ids that hotpatches of the channel are about.
        whole: names of bundles whose delta is of no use.

    Raises:
        HotmendError: it cannot be written.
    """
    builds = sorted({image.build_id for process in running for image in process.images} & set(old))
    text = "\n".join([" ".join([_WHOLE, *sorted(whole)]), *builds]) + "\n"
    file = places.old_builds
    new = file.with_name(f".{file.name}.new")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        new.write_text(text, "ascii")
        new.chmod(0o644)
        new.replace(file)
    except OSError as error:
        raise HotmendError(f"{file}: {error.strerror or error}") from error


def read_old_builds(places: Places) -> OldBuilds:
    """Return the list; an empty one where there is none that can be read."""
    try:
        with places.old_builds.open("rb") as file:
            text = file.read(_LIST_BYTES_MAX).decode("ascii")
    except (OSError, UnicodeDecodeError):
        return OldBuilds()
    first, _, rest = text.partition("\n")
    word, *names = first.split(" ")
    if word != _WHOLE:
        return OldBuilds()
    return OldBuilds(frozenset(filter(_BUILD_ID.fullmatch, rest.split("\n"))), frozenset(names))
