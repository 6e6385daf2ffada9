"""Which processes began with an earlier build of a package, and reading that build from one of them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from hotmend.agent.apt.earlier import Earlier, find_earlier, read_earlier
from hotmend.agent.apt.installed import InstalledFile
from hotmend.image.deb import Deb, ElfFile
from hotmend.linux.process import MappedImage, ProcessImages, file_build_id, process_images
from hotmend.model.addresses import BuildId
from hotmend.model.errors import InputError

NOW, EARLIER, OTHER = BuildId("aa"), BuildId("bb"), BuildId("cc")
FILES = (InstalledFile("usr/sbin/server", ""), InstalledFile("usr/lib/libserver.so.1.2", ""))
PROGRAM, LIBRARY = "/usr/sbin/server", "/usr/lib/libserver.so.1.2"


def image(path: str, build_id: BuildId, disk: BuildId | None) -> MappedImage:
    return MappedImage(os.getpid(), "server", path, build_id, 0, 0, 4096, disk != build_id, disk, 0)


def process(pid: int, *images: MappedImage) -> ProcessImages:
    return ProcessImages(pid, "server", 1, images)


@pytest.mark.parametrize(
    ("images", "builds", "own"),
    [
        ((image(PROGRAM, NOW, NOW),), None, 0),
        ((image(PROGRAM, EARLIER, NOW),), {"usr/sbin/server": EARLIER}, 1),
        ((image(PROGRAM, EARLIER, NOW), image(LIBRARY, NOW, NOW)), {"usr/sbin/server": EARLIER}, 2),
        ((image(PROGRAM, EARLIER, NOW), image("/usr/lib/else.so", OTHER, OTHER)), {"usr/sbin/server": EARLIER}, 1),
        ((image(PROGRAM, EARLIER, EARLIER),), None, 0),  # a container with files of its own
        ((image(PROGRAM, EARLIER, OTHER),), None, 0),
        ((image(PROGRAM, EARLIER, None),), None, 0),
        ((image("/opt/server", EARLIER, NOW),), None, 0),
        ((image(PROGRAM, BuildId(""), NOW),), None, 0),
    ],
)
def test_what_counts_as_earlier(images: tuple[MappedImage, ...], builds: dict[str, BuildId] | None, own: int) -> None:
    found = find_earlier([process(7, *images)], FILES, {NOW})
    assert [(dict(group.builds), len(group.processes[0].images)) for group in found] == (
        [] if builds is None else [(builds, own)]
    )


def test_processes_are_grouped_by_what_they_map() -> None:
    running = [
        process(1, image(PROGRAM, EARLIER, NOW)),
        process(2, image(PROGRAM, OTHER, NOW)),
        process(3, image(PROGRAM, EARLIER, NOW)),
    ]
    found = find_earlier(running, FILES, {NOW})
    assert [[p.pid for p in group.processes] for group in found] == [[1, 3], [2]]


def test_a_library_whose_file_has_another_name_now(tmp_path: Path) -> None:
    now = tmp_path / "libserver.so.1.3"
    shutil.copy("/bin/true", now)
    (tmp_path / "libserver.so.1").symlink_to(now.name)
    build_id = file_build_id(now)
    files = [InstalledFile(str(now).removeprefix("/"), "")]
    mapped = image(str(tmp_path / "libserver.so.1.2"), EARLIER, None)
    assert [dict(group.builds) for group in find_earlier([process(7, mapped)], files, {build_id})] == [
        {files[0].path: EARLIER}
    ]


def test_the_file_is_read_from_the_process(tmp_path: Path) -> None:
    program = tmp_path / "server"
    shutil.copy("/bin/sleep", program)
    content, build_id = program.read_bytes(), file_build_id(program)
    assert build_id
    path = str(program).removeprefix("/")
    with subprocess.Popen([program, "60"]) as running:
        while not (found := process_images(running.pid)).images:
            pass
        program.unlink()
        program.write_bytes(b"the next build")
        old = Deb("server", "server", "2", "amd64", (ElfFile(path, b"the next build"), ElfFile("z", b"z")), "", 0)
        ours = tuple(one for one in found.images if one.build_id == build_id)
        group = Earlier({path: build_id}, (ProcessImages(running.pid, "server", 1, ours),))
        read = read_earlier(old, group)
        assert [file.content for file in read.elf_files] == [content, b"z"]
        assert read.version == "2"
        running.kill()
    with pytest.raises(InputError, match=r"the earlier build .* cannot be read"):
        read_earlier(old, group)
