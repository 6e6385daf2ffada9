"""What is planted does not leave: command lines, environment, names of machines and people, addresses, credentials."""

from __future__ import annotations

import json
import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hotmend.agent.report.redaction import OUT, Redactor


def redactor() -> Redactor:
    return Redactor({"db7", "db7.corp.example"}, {"alice", "Alice Liddell"}, {"nginx", "/usr/sbin/nginx"})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("connect to 10.1.2.3 and 10.1.2.3, 10.1.2.4", "connect to address-1 and address-1, address-2"),
        ("[2001:db8::7]:443 fe80::1", "[address-1]:443 address-2"),
        ("127.0.0.1:80 ::1 0.0.0.0", "127.0.0.1:80 ::1 0.0.0.0"),
        ("at 10:33:57 line 7: build 1.22.1-9+deb12u9 5:7.0.15-1~deb12u7", None),
        ("52:54:00:12:34:56", "hardware-1"),
        ("host DB7.corp.example, db7 and db72", "host host-1, host-2 and db72"),
        ("alice in /home/bob/x and /home/alice, malice", "user-2 in /home/user-1/x and /home/user-2, malice"),
        ("user-1000.slice session 3 of user 1000", None),
        ("mail root@corp.example now", "mail mail-1 now"),
        ("getty@tty1.service user@1000.service", None),
        ("https://bob:pw@patches.example:8443/a?b=c now", f"https://host-1/{OUT} now"),
        ("password=hunter2, Token: abc.def", f"password={OUT}, Token: {OUT}"),
        ("Authorization: Bearer abcdef", f"Authorization: Bearer {OUT}"),
        ("/bin/check: exit code 3: the secret output\nof two lines", f"/bin/check: exit code 3: {OUT}"),
        ("/bin/check: signal 9", None),
    ],
)
def test_texts(text: str, expected: str | None) -> None:
    assert redactor().text(text) == (text if expected is None else expected)


CONFIGURATION = """
mode = "automatic"
assess_minutes = 60
zone = "Europe/Berlin"
never_units = ["payments-core.service"]
[channel]
address = "https://robot:pw@patches.corp.example/x"
name = "bookworm"
[maintenance]
exclude = ["postgresql*"]
[[probe]]
kind = "http"
name = "shop"
url = "http://shop.internal/health?key=q1w2e3r4"
contains = "all-is-well-77"
[[pre_event]]
command = ["/usr/sbin/nginx", "--key", "Zm9vYmFy"]
"""


def test_of_a_configuration_only_harmless_words_are_kept_and_the_others_are_hidden_everywhere() -> None:
    each = redactor()
    told = json.dumps(each.settings(tomllib.loads(CONFIGURATION)))
    for planted in ("payments", "robot", "patches", "shop", "q1w2e3r4", "all-is-well-77", "Zm9vYmFy", "corp"):
        assert planted not in told
    for kept in ("automatic", "60", "Europe/Berlin", "postgresql*", "http", "never_units", "pre_event"):
        assert kept in told
    line = "shop: https with q1w2e3r4 to shop.internal, expected all-is-well-77 with key Zm9vYmFy "
    line += 'from payments-core.service, nginx at "/usr/sbin/nginx"'
    hidden = each.text(line)
    assert not any(word in hidden for word in ("all-is-well-77", "Zm9vYmFy", "payments", "q1w2", "shop"))
    assert "nginx at" in hidden
    assert '"/usr/sbin/nginx"' in hidden


def test_command_lines_are_left_out_and_the_values_of_their_options_too() -> None:
    each = redactor()
    record = {
        "command_line": "worker --password s3cr3tword -pQwErTy12 API_KEY=zyxwvut",
        "patcher_command_line": "hotmend apply x",
        "pid": 7,
        "outcome": "the worker said s3cr3tword, QwErTy12 and zyxwvut",
    }
    assert each.value(record) == {
        "command_line": OUT,
        "patcher_command_line": OUT,
        "pid": 7,
        "outcome": f"the worker said {OUT}, {OUT} and {OUT}",
    }


WORDS = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", min_size=12, max_size=20)


@settings(deadline=None)  # a busy machine is no mistake
@given(secret=WORDS, before=st.text(max_size=20), after=st.text(max_size=20))
def test_a_secret_of_the_configuration_is_in_no_text(secret: str, before: str, after: str) -> None:
    each = redactor()
    each.settings({"probe": [{"contains": secret}]})
    assert secret not in each.text(before + secret + after)
    assert secret not in json.dumps(each.value({"detail": [f"{before} {secret} {after}"]}))


@settings(deadline=None)  # a busy machine is no mistake
@given(st.ip_addresses(), st.sampled_from(["from {} port 7", "[{}]", "{}", "a={}, b"]))
def test_no_address_but_those_of_every_machine_stays(address: object, form: str) -> None:
    text = form.format(address)
    told = redactor().text(text)
    always = address.is_loopback or address.is_unspecified  # type: ignore[attr-defined]
    assert (str(address) in told) == always


@settings(deadline=None)  # a busy machine is no mistake
@given(st.lists(WORDS, unique=True, min_size=2, max_size=4))
def test_the_same_thing_has_the_same_stand_in_and_another_another(names: list[str]) -> None:
    each = Redactor(names, ())
    stand_ins = [each.text(name) for name in names]
    assert stand_ins == [each.text(name) for name in names]
    assert len(set(stand_ins)) == len({name.lower() for name in names})
