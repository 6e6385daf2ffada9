"""What new code imports: from which libraries of a process it may come, and which definition counts."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from hotmend.diff.pipeline import compare
from hotmend.image.elf import read_image
from hotmend.live.driver import Options, ProcessResult, apply
from hotmend.model.hotpatch import Hotpatch
from tests.live.conftest import Target
from tests.live.handmade import compile_target

SOURCE = Path(__file__).with_name("imports.c")
OTHER = "int limit(int x) { return x > 9 ? 9 : x; } int one_more(int x) { return x + 1; }"
PLUGIN = """
int limit(int), one_more(int);
__attribute__((noinline)) int sum(int n, const char *s) { int t = n; while (*s) t = t * 31 + *s++; return t & 3; }
int answer(int x)
{
#ifdef BOUND
    x = one_more(x);
#endif
#ifdef NEW
    x = limit(x);
#endif
    return x * 4 + sum(x, "abc");
}
"""
Start = Callable[..., Target]


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that compiles a library, as distributions build."""

    def compiled(name: str, source: str, *flags: str) -> Path:
        code, path = tmp_path / f"{name}.c", tmp_path / f"{name}.so"
        code.write_text(source)
        command = ["gcc", "-O2", "-shared", "-fPIC", "-s", "-Wl,--build-id", f"-Wl,-soname,{name}.so"]
        subprocess.run([*command, "-o", str(path), str(code), *flags], check=True)
        return path

    return compiled


def update(old: Path, new: Path) -> Hotpatch:
    """Return the hotpatch from one build to the other."""
    outcome = compare(read_image(old), read_image(new))
    assert outcome.hotpatch is not None, outcome.reasons
    return outcome.hotpatch


def change(hotpatch: Hotpatch, target: Target) -> ProcessResult:
    """Apply it."""
    (result,) = apply([hotpatch], [target.pid], Options(deadline_seconds=5.0))
    return result


@pytest.mark.parametrize(("bound", "stays"), [(False, False), (False, True), (True, False)])
def test_a_library_that_may_be_closed_gives_nothing(
    build: Callable[..., Path], start: Start, tmp_path: Path, *, bound: bool, stays: bool
) -> None:
    other = build("other", OTHER, *(["-Wl,-z,nodelete"] if stays else []))
    own = ["-DBOUND"] if bound else []
    old, new = build("plugin", PLUGIN, *own), build("plugin-new", PLUGIN, "-DNEW", *own, str(other))
    target = start(compile_target(SOURCE, tmp_path / "program"), str(old), str(other))
    before = target.ask("a")
    result = change(update(old, new), target)
    if bound or stays:
        assert result.state == "applied", result.reasons
    else:
        assert [reason.code for reason in result.reasons] == ["import-may-go"]
        assert str(other) in result.reasons[0].sentence
    after = target.ask("a")
    assert (after == before) == (result.state == "refused")
    assert target.ask("c") == "0"
    assert target.ask("a") == after


COPIED = """
int limit = 100;
int hook(int x) { return x + 1000; }
__attribute__((noinline)) int sum(int n, const char *s) { int t = n; while (*s) t = t * 31 + *s++; return t & 3; }
int answer(int x)
{
#ifdef NEW
    if (x > limit)
        return -hook(x);
#endif
    return x * 4 + sum(x, "abc");
}
"""
COPYING = r"""
#include <stdio.h>
extern int limit;
int answer(int);
int hook(int x) { return 7; }
int main(void)
{
    limit = 5;
    setvbuf(stdout, NULL, _IONBF, 0);
    puts("ready");
    while (getchar() != EOF)
        printf("%d\n", answer(50));
    return 0;
}
"""


@pytest.mark.parametrize("versions", [False, True])
def test_an_export_of_its_own_is_what_it_is_in_the_process(
    build: Callable[..., Path], start: Start, tmp_path: Path, *, versions: bool
) -> None:
    """The executable has a copy of the library's variable, and a function that takes the place of the library's."""
    script = tmp_path / "versions"
    script.write_text("V1 { global: *; };")
    flags = [f"-Wl,--version-script={script}"] if versions else []
    new, old = build("library", COPIED, "-DNEW", *flags), tmp_path / "new.so"
    new.rename(old)
    new, old = old, build("library", COPIED, *flags)
    source = tmp_path / "copying.c"
    source.write_text(COPYING)
    target = start(compile_target(source, tmp_path / "program", str(old), f"-Wl,-rpath,{tmp_path}"))
    assert int(target.ask("a")) >= 200
    result = change(update(old, new), target)
    assert result.state == "applied", result.reasons
    assert target.ask("a") == "-7"
