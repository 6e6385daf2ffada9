"""The files of a cell, as its first process makes them: packages, single files and working directories."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from hotmend.trial.contents import HOME

_UNPACK_SECONDS_MAX = 120


def make_files(specification: dict[str, Any], root: str) -> None:
    """Put packages and single files over the copy of the file systems, and make the directories of the trial."""
    for descriptor in specification["packages"]:
        _unpack(descriptor, root)
    for descriptor, name in specification["copies"]:
        _place(descriptor, root, name)
    home = Path(root + HOME)
    home.mkdir(mode=0o755, exist_ok=True)
    (home / "out").mkdir(mode=0o700)
    (home / "work").mkdir(mode=0o755)
    for name in specification["reachable"]:
        for folder in Path(name).parents:
            kind = os.stat(f"{root}{folder}")
            os.chmod(f"{root}{folder}", kind.st_mode & 0o7777 | 0o111)  # noqa: S103 - of the private copy
    for number, files in enumerate(specification["work"]):
        _make_work(home / "work" / str(number), files, specification["owner"])


def _make_work(folder: Path, files: list[list[Any]], owner: list[int]) -> None:
    """Make a working directory that belongs to whom the program will run as, with copies of its inputs."""
    folder.mkdir(mode=0o700)
    for descriptor, name in files:
        with open(os.dup(descriptor), "rb") as source, (folder / name).open("wb") as copy:
            source.seek(0)
            shutil.copyfileobj(source, copy)
        os.chown(folder / name, *owner)
    os.chown(folder, *owner)


def _unpack(descriptor: int, root: str) -> None:
    """Unpack a package where it would be installed; links to directories (/lib) stay links."""
    reader = subprocess.Popen(
        ["dpkg-deb", "--fsys-tarfile", f"/proc/self/fd/{descriptor}"],
        stdout=subprocess.PIPE,
        pass_fds=[descriptor],
    )
    tar = ["tar", "-x", "-C", root, "--keep-directory-symlink", "--same-permissions", "--no-overwrite-dir"]
    try:
        done = subprocess.run(tar, stdin=reader.stdout, check=False, capture_output=True, timeout=_UNPACK_SECONDS_MAX)
    finally:
        reader.kill()
        reader.wait()
    if done.returncode:
        raise OSError(0, done.stderr.decode("utf-8", "replace").strip()[:500], "tar")


def _place(descriptor: int, root: str, name: str) -> None:
    """Write the file behind `descriptor` at `name`, as another file than the one that may be there."""
    target = Path(root + name)
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f".{target.name}.hotmend")
    kind = os.fstat(descriptor)
    with open(os.dup(descriptor), "rb") as source, fresh.open("wb") as copy:
        source.seek(0)
        shutil.copyfileobj(source, copy)
    os.chown(fresh, kind.st_uid, kind.st_gid)
    fresh.chmod(kind.st_mode & 0o7777)
    fresh.replace(target)
