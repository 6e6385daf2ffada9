"""Where debug information is found, and what is not taken for it."""

from __future__ import annotations

import http.server
import json
import os
import shutil
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from hotmend.cli.main import run
from hotmend.image.deb import unpack_debug_files
from hotmend.image.debugfile import read_debug_file
from hotmend.image.elf import read_image
from hotmend.model.addresses import BuildId
from hotmend.model.errors import InputError
from hotmend.publisher import debug
from hotmend.publisher.debug import BuildFile, DebugSources
from hotmend.publisher.debuginfod import Servers
from tests.debs import make_deb, make_raw_deb, tar_of

_SOURCE = """
#include <stdio.h>
struct thing { int first; CHANGE long last; };
__attribute__((noinline)) static int show(struct thing *t) { printf("VERSION %d\\n", t->first); return t->first; }
int twice(struct thing *t) { return show(t) * 2; }
"""
Capture = pytest.CaptureFixture[str]


@dataclass(frozen=True)
class _Build:
    """One build: the stripped library, and its debug file."""

    library: Path
    debug: Path
    build_id: BuildId

    @property
    def file(self) -> BuildFile:
        return BuildFile(read_image(self.library), self.library)

    @property
    def place(self) -> str:
        """Where distributions keep the debug file."""
        return f".build-id/{self.build_id[:2]}/{self.build_id[2:]}.debug"


def _compile(folder: Path, change: str, version: str) -> _Build:
    folder.mkdir()
    source, library, debug_file = folder / "lib.c", folder / "lib.so", folder / "lib.so.debug"
    source.write_text(_SOURCE.replace("CHANGE", change).replace("VERSION", version))
    subprocess.run(["gcc", "-g", "-O2", "-fPIC", "-shared", "-Wl,--build-id", "-o", library, source], check=True)
    subprocess.run(["objcopy", "--only-keep-debug", library, debug_file], check=True)
    subprocess.run(["strip", library], check=True)
    return _Build(library, debug_file, read_image(library).build_id)


@pytest.fixture(scope="module")
def builds(tmp_path_factory: pytest.TempPathFactory) -> tuple[_Build, _Build]:
    folder = tmp_path_factory.mktemp("builds")
    return _compile(folder / "old", "", "one"), _compile(folder / "new", "int fresh;", "two")


@pytest.fixture(autouse=True)
def _nothing_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The machine's own debug files and servers are no part of these tests."""
    monkeypatch.setattr(debug, "SYSTEM_DIRECTORY", tmp_path / "system")
    monkeypatch.delenv("DEBUGINFOD_URLS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def _keep(build: _Build, directory: Path) -> Path:
    target = directory / build.place
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(build.debug, target)
    return target


def _load(builds: tuple[_Build, _Build], *given: Path, servers: Servers | None = None) -> debug.Loaded:
    with DebugSources(given, servers) as sources:
        return sources.load(builds[0].file, builds[1].file)


def _members(loaded: debug.Loaded) -> list[list[str]]:
    assert loaded.types is not None, loaded.text
    types = (loaded.types.old, loaded.types.new)
    return [[m.name for r in t.records if r.name == "thing" for m in r.members] for t in types]


_EXPECTED = [["first", "last"], ["first", "fresh", "last"]]


def test_nothing_is_found_where_there_is_nothing(builds: tuple[_Build, _Build], tmp_path: Path) -> None:
    assert _load(builds) == debug.Loaded()
    _keep(builds[0], tmp_path / "system")
    assert _load(builds) == debug.Loaded(text="no debug information of the new build")


def test_debug_files_of_the_system(builds: tuple[_Build, _Build], tmp_path: Path) -> None:
    for build in builds:
        _keep(build, tmp_path / "system")
    loaded = _load(builds)
    assert _members(loaded) == _EXPECTED
    assert builds[0].place in loaded.text


def test_a_directory_with_debug_files_of_any_name(builds: tuple[_Build, _Build], tmp_path: Path) -> None:
    (tmp_path / "some" / "where").mkdir(parents=True)
    shutil.copy(builds[0].debug, tmp_path / "some" / "where" / "a")
    shutil.copy(builds[1].debug, tmp_path / "some" / "b")
    (tmp_path / "some" / "text").write_text("no debug file")
    assert _members(_load(builds, tmp_path / "some")) == _EXPECTED
    assert _members(_load(builds, builds[1].debug, builds[0].debug)) == _EXPECTED


def test_a_debug_link_beside_the_file(builds: tuple[_Build, _Build], tmp_path: Path) -> None:
    pair = []
    for name, build in zip(("old", "new"), builds, strict=True):
        folder = tmp_path / name
        (folder / ".debug").mkdir(parents=True)
        library = folder / "lib.so"
        shutil.copy(build.debug, folder / ".debug" / "lib.so.debug")
        subprocess.run(
            ["objcopy", f"--add-gnu-debuglink={folder / '.debug' / 'lib.so.debug'}", build.library, library], check=True
        )
        pair.append(_Build(library, build.debug, build.build_id))
    assert _members(_load((pair[0], pair[1]))) == _EXPECTED


def test_a_file_of_another_build_is_not_taken(builds: tuple[_Build, _Build], tmp_path: Path) -> None:
    target = _keep(builds[0], tmp_path / "system")
    shutil.copy(builds[1].debug, target)
    assert _load(builds).types is None
    assert _load((builds[0], builds[1]), builds[1].debug).text == "no debug information of the old build"


def test_debug_packages_deduplicated_as_debian_does(builds: tuple[_Build, _Build], tmp_path: Path) -> None:
    packages = []
    for name, build in zip(("old", "new"), builds, strict=True):
        copies = []
        for number in range(2):
            copies.append(tmp_path / f"{name}{number}.debug")
            shutil.copy(build.debug, copies[-1])
        # dwz wants two files at least and moves what both have; the second stands for the package's other files.
        inside = "/usr/lib/debug/.dwz/x86_64-linux-gnu/tool.debug"
        relative = "../../.dwz/x86_64-linux-gnu/tool.debug"
        shared = tmp_path / f"{name}.shared"
        subprocess.run(["dwz", "-m", shared, "-M", relative, *copies], check=True)
        files = {f"usr/lib/debug/{build.place}": copies[0].read_bytes(), inside.lstrip("/"): shared.read_bytes()}
        packages.append(make_deb(tmp_path / f"tool-dbgsym-{name}.deb", files, package="tool-dbgsym"))
    assert read_debug_file(copies[0]).supplement == relative
    assert _members(_load(builds, *packages)) == _EXPECTED
    lonely = {f"usr/lib/debug/{builds[1].place}": copies[0].read_bytes()}
    without = make_deb(tmp_path / "without.deb", lonely, package="tool-dbgsym")
    assert _load(builds, packages[0], without).text == "no debug information of the new build"


def test_the_command_compares_types(builds: tuple[_Build, _Build], tmp_path: Path, capfd: Capture) -> None:
    command = ["build", str(builds[0].library), str(builds[1].library), "-o", str(tmp_path / "out"), "--json"]
    debug_files = ["--debug-files", str(builds[0].debug), "--debug-files", str(builds[1].debug.parent)]
    run(command)
    (image,) = json.loads(capfd.readouterr().out)["images"]
    assert (image["types"], image["debug_information"]) == ("none", "")
    code = run([*command, *debug_files])
    (image,) = json.loads(capfd.readouterr().out)["images"]
    assert code == 4, image
    assert image["types"] == "complete"
    assert image["hotpatch_file"] is None
    subjects = [s for r in image["reasons"] if r["code"] == "structure-layout-changed" for s in r["subjects"]]
    assert "struct thing: member fresh added at 0x4" in subjects


def test_stripped_functions_get_the_names_of_the_debug_file(
    builds: tuple[_Build, _Build], tmp_path: Path, capfd: Capture
) -> None:
    same = _compile(tmp_path / "same", "", "three")
    command = ["build", str(builds[0].library), str(same.library), "-o", str(tmp_path / "out.hotpatch")]
    assert run([*command, "--debug-files", str(builds[0].debug), "--debug-files", str(same.debug)]) == 0
    capfd.readouterr()
    assert run(["inspect", str(tmp_path / "out.hotpatch"), "--json"]) == 0
    shape = json.loads(capfd.readouterr().out)
    assert ([f["name"] for f in shape["new_functions"]], shape["types"]) == (["show"], "complete")


def test_damaged_debug_information_is_said_and_does_no_harm(builds: tuple[_Build, _Build], tmp_path: Path) -> None:
    data = bytearray(builds[0].debug.read_bytes())
    at = data.index(builds[0].debug.read_bytes()[-4000:-3000])
    data[at : at + 1000] = bytes(range(250)) * 4
    broken = tmp_path / "broken"
    broken.write_bytes(data)
    loaded = _load(builds, broken, builds[1].debug)
    assert loaded.types is not None or loaded.text


class _Handler(http.server.BaseHTTPRequestHandler):
    """A server that answers as a test says."""

    answers: dict[str, Callable[[_Handler], None]] = {}  # noqa: RUF012 - each test has its own
    asked: list[str] = []  # noqa: RUF012

    def do_GET(self) -> None:
        self.asked.append(self.path)
        answer = self.answers.get(self.path)
        if answer is None:
            self.send_error(404)
        else:
            answer(self)

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def give(self, data: bytes, claimed: int | None = None) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(data) if claimed is None else claimed))
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def server() -> Iterator[str]:
    _Handler.answers, _Handler.asked = {}, []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.server_address[1]}"
        listening.shutdown()
        thread.join()


def _path(build: _Build) -> str:
    return f"/buildid/{build.build_id}/debuginfo"


def test_a_server_gives_what_is_asked_for_once(builds: tuple[_Build, _Build], server: str, tmp_path: Path) -> None:
    for build in builds:
        data = build.debug.read_bytes()
        _Handler.answers[_path(build)] = lambda handler, data=data: handler.give(data)  # type: ignore[misc]
    for _ in range(2):
        assert _members(_load(builds, servers=Servers((server,), tmp_path / "cache"))) == _EXPECTED
    assert _Handler.asked == [_path(builds[0]), _path(builds[1])]


def test_what_a_server_must_not_do(
    builds: tuple[_Build, _Build], server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEBUGINFOD_MAXSIZE", "100000")
    monkeypatch.setenv("DEBUGINFOD_TIMEOUT", "1")
    old, new = (b.debug.read_bytes() for b in builds)
    (tmp_path / "local").write_bytes(old)

    def redirect(handler: _Handler) -> None:
        handler.send_response(302)
        handler.send_header("Location", f"file://{tmp_path / 'local'}")
        handler.end_headers()

    def never_ends(handler: _Handler) -> None:
        handler.give(b"", len(old))
        threading.Event().wait(3)

    cases: dict[str, Callable[[_Handler], None]] = {
        "another build": lambda handler: handler.give(new),
        "no ELF file": lambda handler: handler.give(b"<html>" * 100),
        "too large": lambda handler: handler.give(old + bytes(100_000)),
        "cut off": lambda handler: handler.give(old[:-100], len(old)),
        "never ends": never_ends,
        "a local file": redirect,
    }
    for name, answer in cases.items():
        cache = tmp_path / name
        _Handler.answers[_path(builds[0])] = answer
        assert Servers((server,), cache).fetch(builds[0].build_id) is None, name
        assert not cache.exists() or list(cache.iterdir()) == [], name
    monkeypatch.delenv("DEBUGINFOD_TIMEOUT")
    _Handler.answers[_path(builds[0])] = lambda handler: handler.give(old)
    assert Servers((server,), tmp_path / "good").fetch(builds[0].build_id) is not None


def test_a_server_that_is_not_there_is_asked_once_and_others_go_on(
    builds: tuple[_Build, _Build], server: str, tmp_path: Path
) -> None:
    data = builds[0].debug.read_bytes()
    _Handler.answers[_path(builds[0])] = lambda handler: handler.give(data)
    servers = Servers(("http://127.0.0.1:9", "ftp://127.0.0.1", server + "/"), tmp_path / "cache")
    assert servers.fetch(builds[0].build_id) is not None
    assert servers.fetch(builds[1].build_id) is None
    assert servers.fetch(BuildId("../../etc/passwd")) is None
    assert _Handler.asked == [_path(builds[0]), _path(builds[1])]


_SCRIPT = """
set -e
ip link set lo up
env -u DEBUGINFOD_URLS debuginfod -d "$1/index.sqlite" -p 8002 -F "$1/debug" >"$1/log" 2>&1 & server=$!
trap 'kill $server' EXIT
for n in $(seq 500); do
    rm -rf "$DEBUGINFOD_CACHE_PATH"  # the client remembers what was not there
    debuginfod-find -v debuginfo "$4" >"$1/find.log" 2>&1 && break
    sleep 0.2
done
shift
"$PYTHON" -m hotmend build "$1" "$2" -o /dev/null --json || [ $? = 4 ]
"""


def test_a_real_server_of_elfutils(builds: tuple[_Build, _Build], tmp_path: Path) -> None:
    """debuginfod listens on every address it has: it gets a network of its own, which has the loopback alone."""
    (tmp_path / "debug").mkdir()
    for number, build in enumerate(builds):
        shutil.copy(build.debug, tmp_path / "debug" / f"{number}.debug")
    environment = os.environ | {
        "PYTHON": sys.executable,
        "DEBUGINFOD_URLS": "http://127.0.0.1:8002",
        "DEBUGINFOD_CACHE_PATH": str(tmp_path / "find"),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    libraries = [str(build.library) for build in builds]
    done = subprocess.run(
        ["unshare", "-rn", "bash", "-c", _SCRIPT, "script", str(tmp_path), *libraries, builds[1].build_id],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (image,) = json.loads(done.stdout)["images"]
    assert image["types"] == "complete"
    assert image["debug_information"] == "debug information from debuginfod"


def test_packages_write_below_their_directory_alone(tmp_path: Path) -> None:
    def member(name: str, kind: bytes = tarfile.REGTYPE) -> tuple[tarfile.TarInfo, bytes]:
        info = tarfile.TarInfo(name)
        info.type = kind
        info.linkname = str(tmp_path / "outside")
        return info, b"" if kind == tarfile.SYMTYPE else b"content"

    names = ["./usr/lib/debug/a/b.debug", "./usr/lib/debug/../../../escaped", "usr/lib/debug//x", "usr/bin/tool"]
    link = member("./usr/lib/debug/link", tarfile.SYMTYPE)
    good = make_raw_deb(tmp_path / "good.deb", tar_of(*map(member, names), link, member("./usr/lib/debug/link/in")))
    unpack_debug_files(good, tmp_path / "into")
    written = sorted(str(p.relative_to(tmp_path / "into")) for p in (tmp_path / "into").rglob("*") if p.is_file())
    assert written == ["usr/lib/debug/a/b.debug", "usr/lib/debug/link/in"]
    assert not (tmp_path / "outside").exists()
    twice = make_raw_deb(tmp_path / "twice.deb", tar_of(member(names[0]), member(names[0])))
    with pytest.raises(InputError, match="cannot be unpacked"):
        unpack_debug_files(twice, tmp_path / "again")


def test_what_is_given_has_to_be_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        DebugSources([tmp_path / "nothing"])
