from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from hotmend.cli.main import run
from hotmend.model.hotpatch import Hotpatch, Lazy
from hotmend.model.verdict import refusal
from hotmend.package.bundle import pack
from hotmend.package.decode import decode
from hotmend.package.encode import encode
from tests.hotpatches import sample


@pytest.fixture
def hotpatch_file(tmp_path: Path) -> Path:
    path = tmp_path / "server.hotpatch"
    path.write_bytes(encode(sample()))
    return path


def test_a_person_reads_functions_and_relocations(hotpatch_file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", str(hotpatch_file)]) == 0
    printed, said = capfd.readouterr()
    assert said == ""
    for text in (
        "server: hotpatch with notes",
        "server 1.22.1-9+deb12u2 -> 1.22.1-9+deb12u3",
        "CVE-2024-7347",
        "0x1010",
        "added",
        "old_image+0x5000-0x4",
        "memcpy@GLIBC_2.14-0x4",
        "votes 7",
        "[start-only]",
        "counter",
        "0x9100",
    ):
        assert text in printed


def test_json_has_one_object_for_each_image(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    two = (sample(), replace(sample(), name="module.so", path="usr/lib/module.so"))
    (tmp_path / "u.hotmend").write_bytes(pack(two))
    assert run(["inspect", "--json", str(tmp_path / "u.hotmend")]) == 0
    objects = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [shape["name"] for shape in objects] == ["server", "module.so"]
    assert len(objects[0]["relocations"]) == len(sample().relocations)
    assert objects[0]["relocations"][1] == {
        "address": 0x1019, "kind": "R_X86_64_PC32", "symbol": "old_image", "target": 0x5000, "addend": -4,
        "evidence": "votes", "votes": 7,
    }  # fmt: skip
    assert objects[0]["new_functions"][1]["old"] is None
    assert objects[0]["variables"] == [
        {"name": "counter", "address": 0x3000, "size": 8, "function": None, "marks": ["name:counter"]}
    ]
    assert [port["function"] for port in objects[0]["ports"]] == [0x1100]


def _inspected(hotpatch: Hotpatch, path: Path, capfd: pytest.CaptureFixture[str], *arguments: str) -> str:
    path.write_bytes(encode(hotpatch))
    assert run(["inspect", str(path), *arguments]) == 0
    return capfd.readouterr().out


def test_whether_old_code_may_go_on_is_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "server.hotpatch"
    proven = replace(sample(), lazy=Lazy(evidence=("it does the same",)))
    obstacle = refusal("lazy-comes-back", "old code calls it again", "each")
    refused = replace(sample(), lazy=Lazy(obstacles=(obstacle,)))
    assert "lazy       not looked at" in _inspected(sample(), path, capfd)
    printed = _inspected(proven, path, capfd)
    assert "lazy       proven" in printed
    assert "it does the same" in printed
    said = "lazy       not proven: old code calls it again: each [lazy-comes-back]"
    assert said in _inspected(refused, path, capfd)
    assert json.loads(_inspected(sample(), path, capfd, "--json"))["lazy"] is None
    shape = json.loads(_inspected(refused, path, capfd, "--json"))["lazy"]
    assert (shape["proven"], shape["evidence"], shape["obstacles"][0]["code"]) == (False, [], "lazy-comes-back")


def test_a_bundle_is_extracted(tmp_path: Path) -> None:
    hotpatches: tuple[Hotpatch, ...] = (
        sample(),
        replace(sample(), name="x.so", path="a/x.so"),
        replace(sample(), name="x.so", path="b/x.so", old_build_id=sample().new_build_id),
    )
    (tmp_path / "u.hotmend").write_bytes(pack(hotpatches))
    assert run(["inspect", str(tmp_path / "u.hotmend"), "--extract", str(tmp_path / "out")]) == 0
    files = sorted((tmp_path / "out").iterdir())
    names = ["server.hotpatch", "x.so-abababababab.hotpatch", "x.so-cdcdcdcdcdcd.hotpatch"]
    assert [file.name for file in files] == names
    assert {decode(file.read_bytes()).path for file in files} == {"usr/sbin/server", "a/x.so", "b/x.so"}


def test_names_with_brackets_are_printed_as_they_are(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    name = "operator[](int)[abi:cxx11]"
    functions = (replace(sample().functions[0], name=name), sample().functions[1])
    (tmp_path / "h").write_bytes(encode(replace(sample(), functions=functions)))
    assert run(["inspect", str(tmp_path / "h")]) == 0
    assert name in capfd.readouterr().out


def test_the_module_runs_like_the_command(hotpatch_file: Path) -> None:
    command = [sys.executable, "-m", "hotmend", "inspect", str(hotpatch_file), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["name"] == "server"


def test_a_reader_that_stops_reading_is_no_error_message(hotpatch_file: Path) -> None:
    command = f"{sys.executable} -m hotmend inspect {hotpatch_file} | head -c 10"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr
