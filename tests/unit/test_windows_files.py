"""Registration files, policy definitions and what systeminfo says: bytes in, values out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotmend.model.errors import InputError, UsageError
from hotmend.windows.admx import enabled_writes
from hotmend.windows.regfile import HEADER, decode_reg, encode_reg
from hotmend.windows.registry import Kind, Value, check_key, local_machine
from hotmend.windows.remedies import client_policy
from hotmend.windows.vsm import systeminfo_status
from tests.servicing.machines import BUSY

_letters = st.characters(codec="utf-8", exclude_characters="\0")
_text = st.text(_letters, max_size=40)
_names = st.text('aB 1\\"=[];ö€', max_size=20)
_values = st.one_of(
    st.integers(0, 2**32 - 1).map(Value.dword),
    _text.map(Value.text),
    st.builds(Value, st.integers(0, 12), st.binary(max_size=200)),
    st.none(),
)
_keys = st.lists(st.text("aB9 ._-", min_size=1, max_size=8), min_size=1, max_size=3).map(
    lambda parts: "HKLM\\" + "\\".join(parts)
)


@BUSY
@given(st.dictionaries(_keys, st.dictionaries(_names, _values, max_size=5), max_size=3))
def test_what_is_written_reads_back(keys: dict[str, dict[str, Value | None]]) -> None:
    assert decode_reg(encode_reg(keys)) == keys


@BUSY
@given(st.binary(max_size=200))
def test_no_bytes_do_more_than_be_refused(data: bytes) -> None:
    for prefix in (b"", f"{HEADER}\r\n\r\n".encode(), f"{HEADER}\n[HKEY_LOCAL_MACHINE\\a]\n".encode()):
        try:
            decode_reg(prefix + data)
        except InputError:
            continue


def test_the_file_is_as_windows_writes_it() -> None:
    data = encode_reg({"HKLM\\SOFTWARE\\a": {"n": Value.dword(10), "": Value.text('"x"\\'), "gone": None}})
    assert data.startswith(b"\xff\xfe")
    assert data[2:].decode("utf-16-le").split("\r\n") == [
        HEADER,
        "",
        "[HKEY_LOCAL_MACHINE\\SOFTWARE\\a]",
        '"n"=dword:0000000a',
        '@="\\"x\\"\\\\"',
        '"gone"=-',
        "",
        "",
    ]


@pytest.mark.parametrize(
    "line", ["[-HKEY_LOCAL_MACHINE\\SOFTWARE\\a]", "[HKEY_CURRENT_USER\\a]", "[HKEY_LOCAL_MACHINE]", '"a"=dword:1', "x"]
)
def test_a_file_that_removes_keys_or_leaves_the_local_machine_is_refused(line: str) -> None:
    with pytest.raises(InputError):
        decode_reg(f"{HEADER}\n\n{line}\n".encode())


def test_a_policy_file_touches_nothing_but_the_policy() -> None:
    with pytest.raises(InputError, match="not a key of the update client's policy"):
        client_policy({"HKLM\\SOFTWARE\\Microsoft": {"a": None}})
    with pytest.raises(InputError):
        check_key("HKCU\\a")


def test_values_say_only_what_their_type_says() -> None:
    assert (Value(Kind.DWORD, b"\1").number, Value(Kind.SZ, b"").number, Value(99, b"ab").shown()) == (
        None,
        None,
        "61 62",
    )
    assert (Value.dword(5).string, Value.text("a").strings, Value(Kind.MULTI_SZ, b"a\0\0\0b\0\0\0").strings) == (
        None,
        None,
        ("a", "b"),
    )


_POLICY = '<a xmlns="urn:x"><policies><policy name="p" class="%s" key="K\\E" valueName="v">%s</policy></policies></a>'


def test_a_policy_definition_says_what_enabled_sets() -> None:
    (write,) = enabled_writes((_POLICY % ("Machine", '<enabledValue><decimal value="3"/></enabledValue>')).encode())
    assert (write.key, write.name, write.value) == ("HKLM\\K\\E", "v", Value.dword(3))
    (write,) = enabled_writes((_POLICY % ("Both", "<enabledValue><string>on</string></enabledValue>")).encode("utf-16"))
    assert write.value == Value.text("on")
    assert enabled_writes((_POLICY % ("Machine", "")).encode())[0].value == Value.dword(1)
    assert enabled_writes((_POLICY % ("User", "")).encode()) == ()


@pytest.mark.parametrize(
    "data",
    [
        b"<a",
        b"",
        b"<!DOCTYPE a [<!ENTITY b 'c'>]><a/>",
        "<!DOCTYPE a><a/>".encode("utf-16"),
        (_POLICY % ("Machine", '<enabledValue><decimal value="99999999999"/></enabledValue>')).encode(),
    ],
)
def test_a_damaged_policy_definition_is_refused(data: bytes) -> None:
    with pytest.raises(InputError):
        enabled_writes(data)


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("Virtualization-based security: Status: Running\n   Required Security Properties:", 2),
        ("Virtualisierungsbasierte Sicherheit:           Status: Wird ausgeführt", 2),
        ("Virtualization-based security: Status: Enabled but not running", 1),
        ("Virtualisierungsbasierte Sicherheit:           Status: Nicht aktiviert", 0),
        ("Virtualization-based security: Status: Laufend", None),
        ("Hyper-V Requirements: A hypervisor has been detected. Status: Running", None),
        ("Virtualization-based security: Status: Running\nVirtualization-based security: Status: Not enabled", None),
        ("", None),
    ],
)
def test_systeminfo_is_understood_in_two_languages_or_not_at_all(text: str, status: int | None) -> None:
    assert systeminfo_status(text) == status


def test_elsewhere_than_on_windows_nothing_is_touched() -> None:
    with pytest.raises(UsageError, match="Windows machine only"):
        local_machine()
