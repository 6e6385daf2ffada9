"""Trials without a process: comparing, calls from TOML, what a title hides, mounts, and wrong usage."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from hotmend.cli.main import run
from hotmend.linux.listening import parse_table
from hotmend.linux.private_root import Mount, parse_mountinfo
from hotmend.model.errors import InputError
from hotmend.package.encode import encode
from hotmend.trial import wire
from hotmend.trial.calls import Calls, read_calls
from hotmend.trial.compare import Observation, compare
from hotmend.trial.origin import StartArea, split_intact, split_title
from tests.hotpatches import sample


def differences(expected: dict[str, bytes], got: dict[str, bytes]) -> list[tuple[str, str, str, int, int]]:
    found = compare([Observation("x", tuple(expected.items()))], [Observation("x", tuple(got.items()))])
    return [(d.item, d.expected, d.got, d.offset, d.line) for d in found]


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (b"a\nb\n", b"a\nb\n", []),
        (b"a\nb\nc\n", b"a\nX\nc\n", [("o", "'b'", "'X'", 2, 2)]),
        (b"a\n", b"a\nb\n", [("o", "end", "'b'", 2, 2)]),
        (b"a", b"ab", [("o", "'a'", "'ab'", 1, 1)]),
        (b"\0" * 20 + b"\1", b"\0" * 20 + b"\2", [("o", "00 00 00 00 01", "00 00 00 00 02", 20, 0)]),
        (b"", b"\xff", [("o", "end", "ff", 0, 0)]),
    ],
)
def test_the_first_difference(one: bytes, other: bytes, expected: list[object]) -> None:
    assert differences({"o": one}, {"o": other}) == expected


def test_a_missing_piece_differs() -> None:
    assert differences({"file a": b"1"}, {}) == [("file a", "'1'", "missing", 0, 0)]
    assert differences({}, {"file a": b"1"}) == [("file a", "missing", "'1'", 0, 0)]
    assert str(compare([Observation("x", (("o", b"1"),))], [Observation("x", (("o", b"2"),))])[0]) == (
        "x: o, line 1: '1' became '2'"
    )


def calls_of(tmp_path: Path, text: str) -> Calls:
    (tmp_path / "c.toml").write_text(text)
    (tmp_path / "a").write_bytes(b"\1\2")
    return read_calls(tmp_path / "c.toml", {"a": tmp_path / "a"})


def test_calls_are_read(tmp_path: Path) -> None:
    calls = calls_of(
        tmp_path,
        """
        [[before]]
        name = "p"
        function = "make"
        returns = "pointer"
        [[call]]
        function = "use"
        arguments = [{ result = "p" }, { text = "é" }, { file = "a" }, { out = 3 }, { f64 = 1.5 }, { null = true },
                     { pointer_to = { u8 = 7 } }]
        returns = "bytes"
        size = 4
        """,
    )
    assert calls.before[0]["name"] == "p"
    assert calls.calls[0]["arguments"] == [
        {"result": "p"}, {"hex": "c3a900"}, {"hex": "0102"}, {"out": 3}, {"f64": 1.5}, {"null": True},
        {"pointer_to": {"u8": 7}},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no [[call]]"),
        ("x = 1\n[[call]]\nfunction = 'f'", "or something else"),
        ("[[call]]\nfunction = ", "not TOML"),
        ("[[call]]\nreturns = 'i32'", "`function` is missing"),
        ("[[call]]\nfunction = 'f'\nreturn = 'i32'", "unknown field return"),
        ("[[call]]\nfunction = 'f'\nreturns = 'int'", "`returns` is one of"),
        ("[[call]]\nfunction = 'f'\nreturns = 'bytes'", "`size`"),
        ("[[call]]\nfunction = 'f'\narguments = [1]", "a table with one type"),
        ("[[call]]\nfunction = 'f'\narguments = [{ i32 = 'x' }]", "cannot be i32"),
        ("[[call]]\nfunction = 'f'\narguments = [{ i32 = true }]", "cannot be i32"),
        ("[[call]]\nfunction = 'f'\narguments = [{ out = 0 }]", "cannot be out"),
        ("[[call]]\nfunction = 'f'\narguments = [{ hex = 'zz' }]", "call 1"),
        ("[[call]]\nfunction = 'f'\narguments = [{ file = 'b' }]", "not the name of an --input"),
        ("[[call]]\nfunction = 'f'\narguments = [{ result = 'q' }]", "cannot be result"),
        ("[[call]]\nfunction = 'f'\narguments = [{ i32 = 1, u32 = 2 }]", "a table with one type"),
    ],
)
def test_calls_that_are_not_complete_are_errors(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        calls_of(tmp_path, text)
    assert message in str(caught.value)


def area(arguments: int) -> StartArea:
    return StartArea(0x100, (0x1000, 0x1000 + arguments), (0x1000 + arguments, 0x1100))


def test_arguments_nobody_has_touched() -> None:
    text = b"prog\0-c\0\0x y\0"
    assert split_intact(text, 0x1000, [0x1000, 0x1005, 0x1008, 0x1009]) == [b"prog", b"-c", b"", b"x y"]
    assert split_intact(text, 0x1000, [0x1008, 0x1000, 0x1005, 0x1009]) is not None, "getopt has sorted them"
    assert split_intact(text, 0x1000, [0x1000, 0x1005, 0x1008]) is None, "another number of them"
    assert split_intact(text, 0x1000, [0x1000, 0x1006, 0x1008, 0x1009]) is None
    assert split_intact(b"title  xx", 0x1000, [0x1000, 0x1005, 0x1008, 0x1009]) is None


def test_arguments_behind_a_title() -> None:
    """nginx sets the second pointer to null, and its last argument has blanks of its own."""
    title = b"nginx: master process nginx -g daemon on; x on;\0\0\0"
    arguments = len("nginx") + len("-g") + len("daemon on; x on;") + 3
    pointers = [0x1000, 0, 0x1000 + 9]
    assert split_title(title, area(arguments), pointers) == [b"nginx", b"-g", b"daemon on; x on;"]
    assert split_title(b"nginx: worker process\0\0", area(arguments), pointers) is None
    assert split_title(title, area(arguments), [0x1000, 0, 0x1000 + 8]) is None, "no blank there"
    assert split_title(title, area(arguments), [0x9000, 0, 0x1000 + 9]) is None


def test_mounts_that_can_be_seen() -> None:
    text = """\
1 0 8:1 / / rw - ext4 /dev/sda rw
2 1 0:2 / /proc rw - proc proc rw
3 1 0:3 / /srv rw - xfs /dev/sdb rw
4 3 0:4 / /srv/deep rw - tmpfs t rw
5 1 0:5 / /srv rw shared:1 - tmpfs t rw
6 1 0:6 / /with\\040blank rw - ext4 /dev/sdc rw
7 5 0:7 / /srv/new rw - tmpfs t rw
"""
    assert parse_mountinfo(text) == (
        Mount("/", "ext4"), Mount("/proc", "proc"), Mount("/srv", "tmpfs"), Mount("/with blank", "ext4"),
        Mount("/srv/new", "tmpfs"),
    )  # fmt: skip


def test_listening_ports() -> None:
    text = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0
   1: 0100007F:1F91 0100007F:1F90 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0
"""
    assert parse_table(text) == {4711: 8080}


def test_messages_survive_and_a_closed_end_is_known() -> None:
    one, other = socket.socketpair()
    with one, other:
        wire.send(one, {"text": "ä\udcff", "list": [1, None]})
        assert wire.receive(other) == {"text": "ä\udcff", "list": [1, None]}
        one.sendall((wire.MESSAGE_BYTES_MAX + 1).to_bytes(4, "little"))
        assert wire.receive(other) is None
        one.close()
        assert wire.receive(other) is None


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--calls", "c.toml", "--", "true"],
        ["--input", "x/a", "--input", "y/a", "--", "true"],
    ],
)
def test_verify_is_used_wrongly(words: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["verify", "none.hotpatch", "--old", "a", "--new", "b", *words]) == 2
    assert capfd.readouterr().err


@pytest.mark.parametrize(
    "words", [["--env", "X", "--", "true"], ["--user", "no-such-user", "--", "true"], ["--ignore", "(", "--", "true"]]
)
def test_verify_checks_its_options(words: list[str], tmp_path: Path) -> None:
    file = tmp_path / "h.hotpatch"
    file.write_bytes(encode(sample()))
    assert run(["verify", str(file), "--old", "a", "--new", "b", *words]) == 2


def test_verify_wants_two_of_one_kind(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "h.hotpatch"
    file.write_bytes(encode(sample()))
    deb = tmp_path / "a.deb"
    deb.write_bytes(b"!<arch>\n")
    assert run(["verify", str(file), "--old", str(deb), "--new", str(file), "--", "true"]) == 2
    assert run(["verify", str(file), "--old", str(file), "--new", str(file), "--with", str(file), "--", "true"]) == 2
    assert run(["verify", str(file), "--old", str(tmp_path / "no"), "--new", str(file), "--", "true"]) == 1
    capfd.readouterr()
