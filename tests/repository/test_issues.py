"""Known issues with steps and a deadline: as their publisher writes them, by the command, to machines of both tiers."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

import pytest

from hotmend.cli.main import run
from hotmend.model.errors import InputError
from hotmend.repository.documents import release_decode, release_encode
from hotmend.repository.issues import known_issue
from hotmend.repository.layout import Tier
from hotmend.repository.releases import AnyRelease
from tests.repository.kit import CHANNEL, HOTPATCH, World, bundle, hotpatch

DOCUMENT = Path(__file__).parents[2] / "docs/releases.md"


def _details() -> str:
    """Return the example that the docs have."""
    (found,) = re.findall(r"```toml\n(deadline.*?)```", DOCUMENT.read_text(), re.DOTALL)
    return str(found)


def _release(world: World, tier: Tier, identity: str = HOTPATCH) -> AnyRelease:
    channel = world.client(tier).channel()
    found = channel.release(identity)
    assert not hasattr(found, "sentence"), found
    return found


def test_the_command_publishes_what_the_docs_show(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    file = world.folder / "issue.toml"
    file.write_text(_details())
    command = ["channel", "issue", str(world.repository), CHANNEL, HOTPATCH, "--title", "Pages are cut off."]
    assert run([*command, "--details", str(file), "--json"]) == 0, capfd.readouterr().err
    (pending,) = world.publisher().pending()
    assert world.sign(pending, "stable1", "stable2") is None
    for tier in Tier:
        (issue,) = _release(world, tier).known_issues
        assert (issue.title, issue.deadline, len(issue.options[0].steps)) == (
            "Pages are cut off.",
            date(2026, 12, 9),
            2,
        )
        assert issue.affected is not None


_COMMANDS = ", ".join([f"'{'x' * 400}'"] * 50)
_LONG = "".join(
    f"[[options]]\nid = '{n}'\ntitle = 'O'\n[[options.steps]]\ntitle = 'S'\ncommands = [{_COMMANDS}]\n"
    "proof = { linux = { package = 'x' } }\n"
    for n in range(2)
)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("deadline = ", "Invalid"),
        ('deadline = "soon"', "deadline"),
        ("affected = {}", "a condition says nothing"),
        ('affected = { linux = { line = "x" } }', "`line` needs `file`"),
        ('affected = { linux = { file = "x" } }', "affected.linux.file"),
        ('affected = { fact = "nothing", equals = [1] }', "no fact is called 'nothing'"),
        ('cost = "\\u001b[31m"', "cost"),
        ('title = "Another"', "`title` has no place here"),
        ("unknown = 1", "unknown"),
        ("deadline = 2026-12-09", "a deadline needs a workaround with steps"),
        (f"affected = {'{ not = ' * 3000}1{' }' * 3000}", "recursion"),
        (_LONG, "longer than 32768 bytes"),
        (f"affected = {'{ not = ' * 10}{{ linux = {{ package = 'x' }} }}{' }' * 10}", "nested more than 10 deep"),
        ('[[options]]\nid = "o"\ntitle = "O"\nsteps = []', "options"),
    ],
)
def test_what_is_no_known_issue_is_refused(
    world: World, text: str, why: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError, match=re.escape(why)):
        known_issue("Title", world.now, "", text, "the text")
    file = world.folder / "issue.toml"
    file.write_text(text)
    command = ["channel", "issue", str(world.repository), CHANNEL, HOTPATCH, "--title", "T", "--details", str(file)]
    assert run(command) != 0
    assert why in " ".join(capfd.readouterr().err.split())
    assert world.publisher().pending() == ()


def test_one_takes_the_place_of_another_wherever_it_was_taken_over(
    world: World, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its rule was wrong, or a release has resolved it: later releases have taken it over."""
    wrong = known_issue("It is slow.", world.now, "wait", "", "")
    assert world.sign(world.publisher().add_issue(CHANNEL, HOTPATCH, wrong), "stable1", "stable2") is None
    world.later(days=1)
    bundle_ = bundle()
    later = hotpatch(world.now, "2026.12-later", known_issues=(wrong,))
    world.publisher().add(later, {later.files[0].name: bundle_})
    command = ["channel", "issue", str(world.repository), CHANNEL, HOTPATCH, "--title", "It is slow at times."]
    assert run([*command, "--replaces", "1"]) != 0
    assert "has 1 known issues" in capfd.readouterr().err
    file = world.folder / "issue.toml"
    file.write_text(_details())
    assert run([*command, "--replaces", "0", "--resolved-by", "2026.12-later", "--details", str(file)]) == 0
    (pending,) = world.publisher().pending()
    change = pending.changes[0]
    assert (
        "known issue: It is slow at times., resolved by 2026.12-later, to be done before 2026-12-09" in change.sentence
    )
    assert "systemctl reload nginx" in change.sentence
    assert world.sign(pending, "stable1", "stable2") is None
    for tier, names in ((Tier.STABLE, (HOTPATCH,)), (Tier.CANARY, (HOTPATCH, "2026.12-later"))):
        for name in names:
            (issue,) = _release(world, tier, name).known_issues
            assert (issue.title, issue.since, issue.resolved_by) == (
                "It is slow at times.",
                wrong.since,
                "2026.12-later",
            )


def test_a_file_that_is_no_text_is_refused(world: World) -> None:
    file = world.folder / "issue.toml"
    file.write_bytes(b"\xff")
    command = ["channel", "issue", str(world.repository), CHANNEL, HOTPATCH, "--title", "T", "--details", str(file)]
    assert run(command) != 0


def test_a_document_with_a_condition_that_says_nothing_is_no_release(world: World) -> None:
    data = release_encode(hotpatch(world.now)).replace(
        b'"known_issues": []', b'"known_issues":[{"title":"t","since":"2026-01-01T00:00:00Z","affected":{"not":{}}}]'
    )
    assert b'"affected"' in data
    with pytest.raises(InputError, match="a condition says nothing"):
        release_decode(data)


def test_an_issue_as_it_was_written_before_is_read(world: World) -> None:
    before = b'[{"title":"t","since":"2026-01-01T00:00:00Z","workaround":"","resolved_by":""}]'
    data = release_encode(hotpatch(world.now)).replace(b'"known_issues": []', b'"known_issues": ' + before)
    (issue,) = release_decode(data).known_issues
    assert (issue.affected, issue.options, issue.deadline) == (None, (), None)
