"""The whole way by the commands alone: stock packages of Debian, built, published, promoted, fetched by a machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hotmend.cli.main import run
from hotmend.repository.documents import release_encode
from hotmend.repository.releases import Baseline, Manifest, ManifestPackage
from tests.repository.kit import BASELINE, CHANNEL
from tests.repository.test_documents import moment
from tests.servers.packages import pair_find

PACKAGE = "redis-server"
PACKAGE_OF_CODE = "redis-tools"


class Commands:
    """Runs `hotmend channel` and returns exit code and object."""

    def __init__(self, capfd: pytest.CaptureFixture[str]) -> None:
        self._capfd = capfd

    def __call__(self, *arguments: str | Path, code: int = 0) -> Any:
        assert run(["channel", *map(str, arguments), "--json"]) == code, self._capfd.readouterr().err
        printed = self._capfd.readouterr().out
        return json.loads(printed.splitlines()[-1]) if printed else None


def _keys(channel: Commands, folder: Path) -> None:
    for name in ("root1", "root2", "stable1", "stable2", "online", "canary"):
        channel("key", folder / name)


def _sign(channel: Commands, folder: Path, waiting: Any, *names: str) -> None:
    """One file out to each signer, one file back."""
    for name in names:
        back = folder / f"{name}.back"
        root = folder / "repository" / "public" / "metadata" / "1.root.json"
        pinned = ("--root", root) if root.exists() else ()
        channel("sign", waiting["request_file"], "--key", folder / name, "-o", back, "--yes", *pinned)
        last = channel("accept", folder / "repository", back)
    assert last["waiting"] is None


def _document(folder: Path, package: str, version: str) -> Path:
    manifest = Manifest("bookworm", moment(), (ManifestPackage(package, version, "amd64", security=True),))
    release = Baseline(1, BASELINE, CHANNEL, "October", moment(), "security", "unknown", (), "", (), None, manifest)
    (folder / "baseline.json").write_bytes(release_encode(release))
    return folder / "baseline.json"


@pytest.mark.archive
def test_from_two_packages_to_a_stable_machine(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pair = pair_find(PACKAGE_OF_CODE)
    bundle = tmp_path / "redis.hotmend"
    assert run(["build", str(pair.old), str(pair.new), "-o", str(bundle), "--json"]) == 0
    built = json.loads(capfd.readouterr().out)
    channel, repository = Commands(capfd), tmp_path / "repository"
    _keys(channel, tmp_path)
    pub = [f"{tmp_path}/{name}.pub" for name in ("root1", "root2", "stable1", "stable2")]
    root_keys, stable_keys = (("--root-key", p) for p in pub[:2]), (("--stable-key", p) for p in pub[2:])
    options = [word for pair_ in (*root_keys, *stable_keys) for word in pair_]
    online = ("--online-key", tmp_path / "online", "--canary-key", tmp_path / "canary")
    waiting = channel("init", repository, CHANNEL, *options, *online)["waiting"]
    assert {m["role"] for m in waiting["missing"]} == {"root", "targets", f"stable.{CHANNEL}"}
    _sign(channel, tmp_path, waiting, "root1", "root2", "stable1", "stable2")
    first = repository / "public" / "metadata" / "1.root.json"

    channel("add", repository, CHANNEL, "--document", _document(tmp_path, PACKAGE, pair.old_version))
    added = channel("add", repository, CHANNEL, bundle, "--requires", BASELINE, "--urgency", "high")["published"][0]
    assert added.endswith(
        PACKAGE_OF_CODE + "-" + pair.new_version.replace(":", "-").replace("+", "-").replace("~", "-")
    )
    tiers = channel("status", repository)["tiers"]
    assert [r["waiting_hours"] is not None for t in tiers if t["tier"] == "canary" for r in t["releases"]] == [
        True,
        True,
    ]
    state = ("--state", tmp_path / "machine", "--root", first)
    refused = channel("fetch", repository / "public", CHANNEL, added, *state, code=4)
    assert refused["reasons"][0]["code"] == "release-unknown"

    waiting = channel("promote", repository, CHANNEL, added, BASELINE)["waiting"]
    assert any(f"adds the hotpatch {added}" in change["sentence"] for change in waiting["changes"])
    channel("sign", waiting["request_file"], "--key", tmp_path / "root1", "--yes", code=1)
    _sign(channel, tmp_path, waiting, "stable1", "stable2")

    archive = channel("bundle", repository, tmp_path / "channel.tar")["file"]
    for number, source in enumerate((repository / "public", archive)):
        machine = ("--state", tmp_path / f"machine{number}", "--root", first)
        fetched = channel("fetch", source, CHANNEL, added, *machine, "-o", tmp_path / f"out{number}")
        files = [Path(f) for f in fetched["files"]]
        assert files[1].read_bytes() == bundle.read_bytes()
        release = msgspec.json.decode(files[0].read_bytes())
        images = release["files"][0]["images"]
        assert {i["old_build_id"] for i in images} == {i["old_build_id"] for i in built["images"] if i["hotpatch_file"]}
        assert release["cves"] == built["cves"]
    _sign(
        channel,
        tmp_path,
        channel("withdraw", repository, CHANNEL, added, "--reason", "it loops")["waiting"],
        "stable1",
        "stable2",
    )
    refused = channel("fetch", repository / "public", CHANNEL, added, *state, code=4)
    assert refused["reasons"][0]["code"] == "release-withdrawn"
    assert len(channel("keys", repository, "root")["keys"]) == 2
    assert channel("refresh", repository)["published"] == ["timestamp"]
    channel("pending", repository, code=3)
