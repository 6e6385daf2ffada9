"""The `hotmend` command, run as a user runs it, and what it prints with `--json`."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

COMMAND_SECONDS_MAX = 300
DONE, FAILED, USAGE, NOTHING, REFUSED = range(5)


@dataclass(frozen=True, slots=True)
class Ran:
    """One run of the command.

    Attributes:
        code: exit code.
        objects: the JSON objects on stdout, one for each line.
        log: stderr.
        seconds: wall time.
    """

    code: int
    objects: list[dict[str, Any]]
    log: str
    seconds: float

    def told(self) -> str:
        """Return everything it said, for messages."""
        return f"exit code {self.code}: {json.dumps(self.objects)[:4000]}\n{self.log[-4000:]}"


def hotmend_run(*words: str) -> Ran:
    """Run `hotmend WORDS` with `--json` after the first."""
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "hotmend", words[0], "--json", *words[1:]],
        check=False,
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS_MAX,
        stdin=subprocess.DEVNULL,
    )
    seconds = time.monotonic() - start
    objects = [json.loads(line) for line in done.stdout.splitlines() if line.strip()]
    return Ran(done.returncode, objects, done.stderr, seconds)


def pid_words(pids: Iterable[int]) -> list[str]:
    """Return the `--pid` options for `pids`."""
    return [word for pid in pids for word in ("--pid", str(pid))]


def update_build(
    old: Path, new: Path, target: Path, *needed: str, accept: Iterable[str] = (), partial: bool = False
) -> Ran:
    """Build the update from two files, and require a hotpatch for every image whose path ends in `needed`.

    Other images of the package may be refused. `accept` are the codes of refusals that the operator takes upon
    himself, as `--accept` does; `partial` asks for the part of an image that is safe.
    """
    accepted = [word for code in accept for word in ("--accept", code)] + ["--partial"] * partial
    ran = hotmend_run("build", str(old), str(new), "-o", str(target), "--keep-going", *accepted)
    assert ran.code in (DONE, REFUSED), ran.told()
    for name in needed:
        images = [image for image in images_list(ran) if image["path"].endswith(name)]
        assert images, f"{name} is not among the images: {ran.told()}"
        assert images[0]["verdict"] in ("hotpatch", "hotpatch with notes"), f"{name}: {images[0]}\n{ran.log}"
    assert target.exists(), ran.told()
    return ran


def refusals_of(ran: Ran, name: str) -> dict[str, list[str]]:
    """Return code -> subjects of every refusal that `build` gave for the image `name`."""
    image = next(image for image in images_list(ran) if image["name"] == name)
    return {r["code"]: list(r["subjects"]) for r in image["reasons"] if r["severity"] == "refusal"}


def images_list(ran: Ran) -> list[dict[str, Any]]:
    """Return the changed images that `build` reported."""
    return [image for shape in ran.objects for image in shape["images"] if image.get("verdict")]


def patched_pids(pids: Iterable[int]) -> set[int]:
    """Return those of `pids` in which `status` says that a hotpatch is active."""
    ran = hotmend_run("status", *pid_words(pids))
    assert ran.code == DONE, ran.told()
    return {shape["pid"] for shape in ran.objects if any(found["active"] for found in shape["hotpatches"])}


def pauses_us(ran: Ran) -> list[float]:
    """Return the longest stop of each process that `apply` or `revert` changed, in microseconds."""
    return [float(shape["pause_us"]) for shape in ran.objects]
