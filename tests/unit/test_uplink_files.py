"""What stands in a folder of the part with a network: whoever has taken that over leads nobody anywhere by it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hotmend.agent.fetching import trust_root
from hotmend.agent.owner import as_owner
from hotmend.agent.paths import Places
from hotmend.agent.uplink.files import Carried, read, write
from hotmend.agent.uplink.news import letter_name, note_name
from hotmend.model.errors import HotmendError
from hotmend.wire.keys import SigningKey, read_key, write_key
from tests.repository.kit import World

NOBODY = 65534
LOOK = """
import sys
from pathlib import Path
from hotmend.agent.paths import Places
from hotmend.agent.uplink.news import letter_name
print(repr(letter_name(Places(Path(sys.argv[1])))))
"""


@pytest.fixture
def theirs() -> Iterator[Places]:
    """Files of a machine whose part with a network is another user, who gets to his folders."""
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="hotmend-theirs-") as name:
        Path(name).chmod(0o755)
        places = Places(Path(name))
        for folder in (places.uplink, places.mirror):
            folder.mkdir(parents=True)
            os.chown(folder, NOBODY, NOBODY)
        yield places


@pytest.mark.parametrize("what", ["fifo", "zero", "long", "folder", "nothing", "loop"])
def test_the_agent_waits_for_nobody_and_reads_no_more_than_a_name(tmp_path: Path, what: str) -> None:
    places = Places(tmp_path)
    places.uplink.mkdir(parents=True)
    match what:
        case "fifo":
            os.mkfifo(places.orders)
        case "zero":
            places.orders.symlink_to("/dev/zero")
        case "long":
            places.orders.write_text("x" * 1_000_000)
        case "folder":
            places.orders.mkdir()
        case "loop":
            places.orders.symlink_to(places.orders)
    done = subprocess.run(
        [sys.executable, "-c", LOOK, tmp_path], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == repr("x" * 200 if what == "long" else "")
    if what in ("fifo", "zero", "loop"):
        note_name(places.orders, "another")
        assert letter_name(places) == "another"


@pytest.mark.live
def test_root_writes_through_no_link_and_gives_away_nothing_but_its_own(theirs: Places, tmp_path: Path) -> None:
    (victim := tmp_path / "shadow").write_text("root:secret")
    victim.chmod(0o600)
    for name in (".orders", f".orders.{os.getpid()}", "orders", "carried.json", f".carried.json.{os.getpid()}"):
        (theirs.uplink / name).symlink_to(victim)
    (hard := theirs.uplink / f".letter.json.{os.getpid()}").unlink(missing_ok=True)
    (kept := theirs.root / "kept").write_text("root:secret")
    os.link(kept, hard)  # as where the kernel lets users do that
    note_name(theirs.orders, "a name")
    write(theirs.carried, Carried(7))
    write(theirs.letter, Carried(8))
    assert (letter_name(theirs), read(theirs.carried, Carried)) == ("a name", Carried(7))
    for file in (victim, kept):
        assert (file.read_text(), file.stat().st_uid) == ("root:secret", 0)
    for file in (theirs.orders, theirs.carried, theirs.letter):
        assert (file.is_symlink(), file.stat().st_uid) == (False, NOBODY)


@pytest.mark.live
def test_a_root_is_put_into_their_folder_with_their_rights(theirs: Places, tmp_path: Path) -> None:
    world = World(tmp_path / "channel").make_keys().found()
    content = (world.mirror / "metadata/1.root.json").read_bytes()
    (victim := theirs.root / "etc").mkdir()
    (victim / "shadow").write_text("root:secret")
    (state := theirs.mirror / "state").symlink_to(victim)
    with pytest.raises(HotmendError, match="Permission denied"):
        trust_root(theirs, content)
    assert [(path.name, path.stat().st_uid) for path in victim.iterdir()] == [("shadow", 0)]
    state.unlink()
    trust_root(theirs, content)
    assert {path.stat().st_uid for path in (state, *state.rglob("*"))} == {NOBODY}
    assert os.geteuid() == 0


@pytest.mark.live
def test_with_the_rights_of_another_there_are_no_others(theirs: Places, tmp_path: Path) -> None:
    groups = os.getgroups()
    with as_owner(theirs.uplink):
        (theirs.uplink / "own").touch()
        with pytest.raises(PermissionError):
            (tmp_path / "other").touch()
    assert (theirs.uplink / "own").stat().st_uid == NOBODY
    assert (os.geteuid(), os.getegid(), os.getgroups()) == (0, 0, groups)


def test_a_key_is_a_plain_file(tmp_path: Path) -> None:
    key = SigningKey.generate()
    write_key(tmp_path / "key", key)
    assert read_key(tmp_path / "key").seed == key.seed
    (tmp_path / "link").symlink_to("/dev/zero")
    with pytest.raises(OSError, match="symbolic links"):
        read_key(tmp_path / "link")
