"""Stock libsrt: an exception of the application's hook is caught in a function that the update changes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.live.conftest import Target
from tests.servers.command import hotmend_run, update_build
from tests.servers.conftest import Trees
from tests.servers.packages import pair_find

PACKAGE = "libsrt1.5-openssl"
SOURCE = Path(__file__).with_name("srt_host.cc")

pytestmark = [pytest.mark.servers, pytest.mark.archive]


@pytest.mark.live
def test_an_exception_is_caught_in_a_changed_function(trees: Trees, run_folder: Path) -> None:
    (library,) = (p for p in (trees(PACKAGE)[0] / "usr/lib").rglob("libsrt.so.1.5") if p.exists())
    program, file = run_folder / "srt_host", run_folder / "libsrt.hotmend"
    command = ["g++", "-O1", "-o", str(program), str(SOURCE), str(library), f"-Wl,-rpath,{library.parent}"]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    pair = pair_find(PACKAGE)
    update_build(pair.old, pair.new, file, "libsrt.so.1.5.1")
    (image,) = hotmend_run("inspect", str(file)).objects
    assert image["unwinding"]["needed"]
    assert any("runAcceptHook" in function["name"] for function in image["new_functions"])
    target = Target(program)
    try:
        hooks = 0
        for word in ("", "apply", "revert", "apply"):
            if word:
                ran = hotmend_run(word, str(file), "--pid", str(target.pid))
                assert ran.code == 0, ran.told()
            for _ in range(3):
                hooks += 1
                assert target.ask("ask\n") == f"connect -1 reject 4 hooks {hooks}"
    finally:
        target.close()
