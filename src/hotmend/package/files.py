"""Writing hotpatch files and bundles: whole or not at all."""

from __future__ import annotations

import os
import re
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from hotmend.model.errors import HotmendError
from hotmend.model.hotpatch import Hotpatch

BUNDLE_SUFFIX = ".hotmend"
HOTPATCH_SUFFIX = ".hotpatch"
_UNSAFE = re.compile(r"[^A-Za-z0-9._+~%-]")


def hotpatch_file_names(hotpatches: Iterable[Hotpatch]) -> list[str]:
    """Return a file name for each: `NAME.hotpatch`, with a build-id in it where names repeat."""
    items = list(hotpatches)
    safe = [_UNSAFE.sub("_", hotpatch.name).lstrip(".") or "image" for hotpatch in items]
    often = Counter(safe)
    return [
        f"{name}-{hotpatch.old_build_id[:12]}{HOTPATCH_SUFFIX}" if often[name] > 1 else f"{name}{HOTPATCH_SUFFIX}"
        for name, hotpatch in zip(safe, items, strict=True)
    ]


def write_file(path: Path, data: bytes) -> None:
    """Write `data` to `path`; a reader sees the old file or the whole new one.

    Raises:
        HotmendError: it cannot be written there.
    """
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            try:
                file.write(data)
                file.flush()
                os.fchmod(file.fileno(), 0o644)
                Path(file.name).replace(path)
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise
    except OSError as error:
        raise HotmendError(f"{path}: {error.strerror or error}", "choose another place with -o") from error
