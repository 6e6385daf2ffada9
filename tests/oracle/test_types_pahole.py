"""What we read of every structure in a program with many system headers, against pahole and gdb."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from hotmend.model.types import Record, Types
from tests.unit.debug import read_types_of

_HEADERS = [
    "aio.h",
    "arpa/inet.h",
    "dirent.h",
    "elf.h",
    "fcntl.h",
    "ifaddrs.h",
    "inttypes.h",
    "link.h",
    "linux/fs.h",
    "linux/if_packet.h",
    "linux/perf_event.h",
    "math.h",
    "net/if.h",
    "netdb.h",
    "netinet/icmp6.h",
    "netinet/in.h",
    "netinet/ip.h",
    "netinet/tcp.h",
    "poll.h",
    "pthread.h",
    "pwd.h",
    "resolv.h",
    "sched.h",
    "semaphore.h",
    "setjmp.h",
    "signal.h",
    "spawn.h",
    "stdio.h",
    "stdlib.h",
    "sys/epoll.h",
    "sys/ipc.h",
    "sys/mman.h",
    "sys/msg.h",
    "sys/resource.h",
    "sys/sem.h",
    "sys/shm.h",
    "sys/socket.h",
    "sys/stat.h",
    "sys/statvfs.h",
    "sys/sysinfo.h",
    "sys/time.h",
    "sys/timex.h",
    "sys/uio.h",
    "sys/un.h",
    "sys/user.h",
    "sys/utsname.h",
    "sys/wait.h",
    "termios.h",
    "time.h",
    "ucontext.h",
    "unistd.h",
    "utime.h",
    "wchar.h",
]
_LINE = re.compile(r"^(?P<text>.*?);?\s*/\*\s*(?P<byte>\d+)(?::\s*(?P<bit>\d+))?\s+(?P<size>\d+)\s*\*/$")
_COMPILERS = (["gcc", "-gdwarf-5"], ["gcc", "-gdwarf-4"], ["clang", "-gdwarf-5"])


@pytest.fixture(scope="module", params=_COMPILERS, ids=" ".join)
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("headers")
    source, output = folder / "headers.c", folder / "headers"
    lines = ["#define _GNU_SOURCE", *(f"#include <{name}>" for name in _HEADERS)]
    lines.append("int main(void) { return 0; }")
    source.write_text("\n".join(lines))
    subprocess.run([*request.param, "-fno-eliminate-unused-debug-types", "-o", output, source], check=True)
    return output


def _pahole(path: Path) -> dict[str, tuple[int, list[tuple[str, int, int]]]]:
    """Return structure -> (size, members as (name, byte offset, bit offset in its byte range))."""
    done = subprocess.run(["pahole", "--sizes", path], capture_output=True, text=True, check=True)
    sizes = {name: int(size) for name, size, _ in (line.split("\t") for line in done.stdout.splitlines())}
    text = subprocess.run(["pahole", path], capture_output=True, text=True, check=True).stdout
    found: dict[str, tuple[int, list[tuple[str, int, int]]]] = {}
    name, depth, members = "", 0, list[tuple[str, int, int]]()
    for line in map(str.strip, text.splitlines()):
        opening = re.match(r"^struct (\w+) \{$", line)
        if depth == 0 and opening:
            name, depth, members = opening[1], 1, []
        elif depth and line.endswith("{"):
            depth += 1
        elif depth and line.startswith("}"):
            depth -= 1
            if depth == 0:
                found[name] = (sizes[name], members)
            elif depth == 1:
                members += _member(line.removeprefix("}"))
        elif depth == 1:
            members += _member(line)
    return found


def _member(line: str) -> list[tuple[str, int, int]]:
    match = _LINE.match(line)
    if match is None or line.startswith("/*"):
        return []
    text = re.sub(r"__attribute__\(\(.*\)\)", "", match["text"]).strip(" ;")
    pointer = re.search(r"\(\*+(\w+)", text)
    plain = re.search(r"(\w+)\s*(?:\[[^;]*\])*(?::\d+)?$", text)
    name = pointer[1] if pointer else plain[1] if plain else ""
    return [(name, int(match["byte"]), int(match["bit"] or 0))]


def _ours(record: Record) -> list[tuple[str, int]]:
    return [(m.name, m.bit_offset) for m in record.members]


def test_pahole_says_the_same(program: Path) -> None:
    records = {r.name: r for r in read_types_of(program).records if r.kind == "struct"}
    theirs = _pahole(program)
    compared = 0
    for name, (size, members) in theirs.items():
        if name in records:
            assert records[name].size == size, name
            assert _ours(records[name]) == [(m, 8 * byte + bit) for m, byte, bit in members], name
            compared += len(members)
    assert len(theirs) > 150
    assert compared > 1000


def test_gdb_says_the_same(program: Path) -> None:
    """Offsets by gdb's own reader, with bit-fields, for every member that has a name."""
    types = read_types_of(program)
    chosen = [r for r in types.records if r.kind == "struct" and all(m.name for m in r.members)]
    script = program.with_name("offsets.py")
    script.write_text(
        "import gdb\n"
        f"for name in {[r.name for r in chosen]!r}:\n"
        "    try:\n"
        "        found = gdb.lookup_type('struct ' + name)\n"
        "    except gdb.error:\n"
        "        found = gdb.lookup_type(name).strip_typedefs()\n"
        "    for f in found.fields():\n"
        "        print('@', name, f.name, f.bitpos, f.bitsize)\n"
    )
    done = subprocess.run(
        ["gdb", "-nx", "-batch", "-x", script, program], capture_output=True, text=True, check=True, timeout=120
    )
    theirs = {tuple(line.split()[1:]) for line in done.stdout.splitlines() if line.startswith("@")}
    assert theirs == {(r.name, m.name, str(m.bit_offset), str(m.bit_size)) for r in chosen for m in r.members}
    assert len(theirs) > 1000


def test_enumerators_are_those_of_gdb(program: Path) -> None:
    types: Types = read_types_of(program)
    enumerations = [e for e in types.enumerations if e.name]
    script = program.with_name("enumerators.py")
    script.write_text(
        "import gdb\n"
        f"for name in {[e.name for e in enumerations]!r}:\n"
        "    for f in gdb.lookup_type('enum ' + name).fields():\n"
        "        print('@', name, f.name, f.enumval)\n"
    )
    done = subprocess.run(
        ["gdb", "-nx", "-batch", "-x", script, program], capture_output=True, text=True, check=True, timeout=120
    )
    theirs = {tuple(line.split()[1:]) for line in done.stdout.splitlines() if line.startswith("@")}
    assert theirs == {(e.name, name, str(value)) for e in enumerations for name, value in e.enumerators}
    assert len(theirs) > 100
