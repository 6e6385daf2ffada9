"""`hotmend verify` on small libraries: agreement, difference, crash, hang, and what shows nothing."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hotmend.cli.main import run
from hotmend.image.elf import read_image
from hotmend.model.hotpatch import Hotpatch
from hotmend.package.encode import encode
from hotmend.trial.cell import Cell
from tests.live.handmade import compile_target, make_hotpatch
from tests.live.mounts import mounts_but_of_tests

pytestmark = pytest.mark.live

LIBRARY = """
#include <stdlib.h>
#include <unistd.h>
int answer(void) { return ANSWER; }
int other(void) { return 7; }
int fill(unsigned char *out, int size) { for (int i = 0; i < size; i++) out[i] = answer(); return size; }
struct handle { int value; };
struct handle *open_handle(int value) { struct handle *h = malloc(sizeof *h); h->value = value; return h; }
int use_handle(struct handle *h, int *more) { *more += answer(); return h->value * answer(); }
const char *name(void) { return "library"; }
int unused(void) { if (getpid() < 0) abort(); return pause(); }
"""

PROGRAM = """
#include <stdio.h>
#include <string.h>
int answer(void); int other(void);
int main(int argc, char **argv) {
    char line[64] = "";
    if (argc > 1 && !strcmp(argv[1], "other")) return printf("%d\\n", other()) < 0;
    FILE *input = argc > 1 ? fopen(argv[1], "r") : stdin;
    if (!input || !fgets(line, sizeof line, input)) return 2;
    FILE *file = fopen("made", "w");
    fprintf(file, "%s", line);
    fclose(file);
    printf("%d from %s\\n", answer(), line);
    return 0;
}
"""

Verify = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Old and new library, and a program that is linked to them."""
    folder = tmp_path_factory.mktemp("verify")
    (folder / "library.c").write_text(LIBRARY)
    (folder / "program.c").write_text(PROGRAM)
    for number, name in ((1, "old"), (2, "new")):
        shared = ("-shared", "-fPIC", f"-DANSWER={number}", "-Wl,-soname,libtoy.so.1")
        compile_target(folder / "library.c", folder / f"{name}.so", *shared)
    subprocess.run(["gcc", "-o", folder / "program", folder / "program.c", folder / "old.so"], check=True)
    (folder / "a.txt").write_text("first")
    (folder / "b.txt").write_text("second")
    return folder


@pytest.fixture
def verify(folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Verify:
    """Return a function (answers of the hotpatch, *words) -> (exit code, object printed)."""

    def call(answers: dict[str, int | str], *words: str | Path) -> tuple[int, dict[str, Any]]:
        hotpatch: Hotpatch = make_hotpatch(folder / "old.so", answers)
        hotpatch = replace(hotpatch, new_build_id=read_image(folder / "new.so").build_id)
        file = tmp_path / "h.hotpatch"
        file.write_bytes(encode(hotpatch))
        sides = ["--old", str(folder / "old.so"), "--new", str(folder / "new.so")]
        code = run(["verify", str(file), "--json", *sides, *map(str, words)])
        return code, json.loads(capfd.readouterr().out)

    return call


def test_a_program_agrees_over_every_input(verify: Verify, folder: Path) -> None:
    inputs = ["--input", folder / "a.txt", "--input", folder / "b.txt"]
    code, result = verify({"answer": 2}, *inputs, "--", folder / "program")
    assert (code, result["state"], result["cases"]) == (0, "agree", 2), result
    assert result["redirected"] == 1
    assert result["reached"] == ["answer"]
    assert [(d["case"], d["expected"], d["got"]) for d in result["changed"]] == [
        ("a.txt", "'1 from first'", "'2 from first'"),
        ("b.txt", "'1 from second'", "'2 from second'"),
    ]


def test_a_program_that_is_the_image_itself(folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "whole.c"
    source.write_text(PROGRAM.replace("int answer(void); int other(void);", LIBRARY))
    for number, name in ((1, "old"), (2, "new")):
        compile_target(source, tmp_path / name, f"-DANSWER={number}")
    hotpatch = make_hotpatch(tmp_path / "old", {"answer": 2})
    hotpatch = replace(hotpatch, new_build_id=read_image(tmp_path / "new").build_id)
    (tmp_path / "h.hotpatch").write_bytes(encode(hotpatch))
    sides = ["--old", str(tmp_path / "old"), "--new", str(tmp_path / "new"), "--input", str(folder / "a.txt")]
    assert run(["verify", str(tmp_path / "h.hotpatch"), "--json", *sides, "--", str(tmp_path / "old")]) == 0
    assert json.loads(capfd.readouterr().out)["changed"][0]["got"] == "'2 from first'"


def test_inputs_by_name(verify: Verify, folder: Path) -> None:
    code, result = verify({"answer": 2}, "--input", folder / "a.txt", "--", folder / "program", "{}")
    assert (code, result["state"]) == (0, "agree"), result


def test_another_output_is_refused_with_the_place(verify: Verify, folder: Path) -> None:
    code, result = verify({"answer": 3}, "--input", folder / "a.txt", "--", folder / "program")
    assert (code, result["state"]) == (4, "differ")
    assert [reason["code"] for reason in result["reasons"]] == ["outputs-differ"]
    assert result["differences"] == [
        {"case": "a.txt", "item": "standard output", "expected": "'2 from first'", "got": "'3 from first'", "offset": 0,
         "line": 1},
    ]  # fmt: skip


def test_a_crash_is_an_answer(verify: Verify, folder: Path) -> None:
    code, result = verify({"answer": "import:abort"}, "--input", folder / "a.txt", "--", folder / "program")
    assert (code, result["state"]) == (4, "differ")
    assert result["differences"][0]["got"] == "'killed by SIGABRT'"


def test_a_hang_is_an_answer(verify: Verify, folder: Path) -> None:
    words = ["--seconds", "1.5", "--input", folder / "a.txt", "--", folder / "program"]
    code, result = verify({"answer": "import:pause"}, *words)
    assert (code, result["state"]) == (4, "differ")
    assert result["differences"][0]["got"] == "'ended by the time limit'"


def test_inputs_that_reach_no_changed_function_show_nothing(verify: Verify, folder: Path) -> None:
    code, result = verify({"answer": 2}, "--", folder / "program", "other")
    assert (code, result["state"], result["reached"]) == (3, "nothing-shown", [])
    assert [reason["code"] for reason in result["reasons"]] == ["no-changed-function-ran"]


def test_a_program_without_the_library_is_refused(verify: Verify) -> None:
    code, result = verify({"answer": 2}, "--", "true")
    assert (code, result["state"]) == (4, "refused")
    assert [reason["code"] for reason in result["reasons"]] == ["build-not-mapped"]


def test_output_that_is_never_the_same_cannot_be_compared(verify: Verify, folder: Path) -> None:
    code, result = verify({"answer": 2}, "--", folder / "program", "/proc/sys/kernel/random/uuid")
    assert (code, result["state"]) == (4, "refused")
    assert [reason["code"] for reason in result["reasons"]] == ["outputs-vary"]
    words = ["--ignore", "[0-9a-f]{8}-[0-9a-f-]{27}", "--", folder / "program", "/proc/sys/kernel/random/uuid"]
    code, result = verify({"answer": 2}, *words)
    assert (code, result["state"]) == (0, "agree")


def test_the_hotpatch_of_another_build_is_an_error(
    verify: Verify, folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "other.hotpatch"
    file.write_bytes(encode(make_hotpatch(folder / "new.so", {"answer": 5})))
    old, new = str(folder / "old.so"), str(folder / "new.so")
    assert run(["verify", str(file), "--old", old, "--new", new, "--", str(folder / "program")]) == 1
    assert "it is not the build that the hotpatch is about" in capfd.readouterr().err


def test_a_program_that_does_not_exist_is_an_error(verify: Verify) -> None:
    code, result = verify({"answer": 2}, "--", "no-such-program")
    assert code == 1
    assert "no such program" in result["error"]


CALLS = """
[[before]]
name = "opened"
function = "open_handle"
arguments = [{ i32 = 21 }]
returns = "pointer"
[[call]]
function = "answer"
returns = "i32"
[[call]]
function = "use_handle"
arguments = [{ result = "opened" }, { pointer_to = { i32 = 5 } }]
returns = "i32"
[[call]]
function = "fill"
arguments = [{ out = 4 }, { i32 = 3 }]
returns = "i32"
[[call]]
function = "name"
returns = "text"
"""


def test_calls_agree_with_objects_of_the_old_code(verify: Verify, tmp_path: Path) -> None:
    (tmp_path / "calls.toml").write_text(CALLS)
    code, result = verify({"answer": 2}, "--calls", tmp_path / "calls.toml")
    assert (code, result["state"], result["reached"]) == (0, "agree", ["answer"]), result
    assert [(d["item"], d["expected"], d["got"]) for d in result["changed"]] == [
        ("1 answer: result", "'1'", "'2'"),
        ("2 use_handle: result", "'21'", "'42'"),
        ("2 use_handle: buffer 1", "06 00 00 00", "07 00 00 00"),
        ("3 fill: buffer 1", "01 01 01 00", "02 02 02 00"),
    ]


def test_calls_that_differ_or_crash(verify: Verify, tmp_path: Path) -> None:
    (tmp_path / "calls.toml").write_text(CALLS)
    code, result = verify({"answer": "import:abort"}, "--calls", tmp_path / "calls.toml")
    assert (code, result["differences"][0]["got"]) == (4, "'killed by SIGABRT'")
    code, result = verify({"answer": 3}, "--calls", tmp_path / "calls.toml")
    assert (code, result["differences"][0]["got"]) == (4, "'3'")


def test_a_missing_function_is_told_however_late_the_host_is_looked_for(
    verify: Verify, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = Cell._outer

    def look_late(cell: Cell, inner: int) -> int:
        time.sleep(0.5)
        return look(cell, inner)

    monkeypatch.setattr(Cell, "_outer", look_late)
    (tmp_path / "calls.toml").write_text('[[call]]\nfunction = "nothing"\n')
    code, result = verify({"answer": 2}, "--calls", tmp_path / "calls.toml")
    assert (code, [reason["code"] for reason in result["reasons"]]) == (4, ["host-did-not-start"]), result
    assert "nothing" in result["reasons"][0]["sentence"]


def test_nothing_of_a_host_stays(verify: Verify, folder: Path, tmp_path: Path) -> None:
    before = mounts_but_of_tests(tmp_path)
    verify({"answer": 2}, "--input", folder / "a.txt", "--", folder / "program", "{}")
    assert mounts_but_of_tests(tmp_path) == before
    assert not (folder / "made").exists()
