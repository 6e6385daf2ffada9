"""The two files that have apt and needrestart call hotmend."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from hotmend.agent.apt.hook import APT_FILE, NEEDRESTART_FILE, Hook, find_command, read_hook, switch_off, switch_on
from hotmend.model.errors import UsageError


def test_on_and_off_leave_nothing(tmp_path: Path) -> None:
    (tmp_path / "etc/apt/apt.conf.d").mkdir(parents=True)
    hook = Hook("/usr/bin/hotmend", 120)
    assert read_hook(tmp_path) is None
    for given in (Hook("/opt/a/hotmend", 5), hook):
        switch_on(given, tmp_path)
        assert read_hook(tmp_path) == given
    assert (tmp_path / NEEDRESTART_FILE).stat().st_mode & 0o777 == 0o644
    assert switch_off(tmp_path)
    assert not switch_off(tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == [
        "etc",
        "etc/apt",
        "etc/apt/apt.conf.d",
    ]


def test_files_of_others_stay(tmp_path: Path) -> None:
    switch_on(Hook("/usr/bin/hotmend", 1), tmp_path)
    other = tmp_path / NEEDRESTART_FILE.with_name("own.conf")
    other.write_text("1;\n")
    switch_off(tmp_path)
    assert other.exists()


def test_apt_reads_it(tmp_path: Path) -> None:
    """Its own parser: each list has our entry, and the version of the protocol is found by the command's first word."""
    switch_on(Hook("/usr/bin/hotmend", 77), tmp_path)
    done = subprocess.run(
        ["apt-config", "-c", tmp_path / APT_FILE, "dump", "DPkg"], capture_output=True, text=True, check=True
    )
    assert 'DPkg::Pre-Install-Pkgs:: "/usr/bin/hotmend apt-hook before --deadline 77 || true";' in done.stdout
    assert 'DPkg::Post-Invoke:: "/usr/bin/hotmend apt-hook after --deadline 77 || true";' in done.stdout
    assert 'DPkg::Tools::options::/usr/bin/hotmend::Version "3";' in done.stdout


def test_perl_reads_it(tmp_path: Path) -> None:
    """As needrestart does: units become whole masks; a command that is gone says nothing and breaks nothing."""
    command = tmp_path / "hotmend"
    command.write_text("#!/bin/sh\nprintf 'nginx.service\\ngetty@tty1.service\\n'\n")
    code = 'eval do { local(@ARGV, $/) = shift; <>}; die $@ if $@; print join("|", @{$nrconf{blacklist_rc}})'
    shown = []
    for mode in (0o755, 0o644):
        command.chmod(mode)
        switch_on(Hook(str(command), 5), tmp_path)
        done = subprocess.run(
            ["perl", "-e", f"our %nrconf = (blacklist_rc => [qr(^a)]); {code}", tmp_path / NEEDRESTART_FILE],
            capture_output=True,
            text=True,
            check=True,
        )
        shown.append(done.stdout)
    assert shown == ["(?^:^a)|(?^:^nginx\\.service$)|(?^:^getty\\@tty1\\.service$)", "(?^:^a)"]


def test_a_path_that_apt_cannot_call_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tmp_path / "with a blank"
    folder.mkdir()
    (folder / "hotmend").touch(mode=0o755)
    monkeypatch.setattr("sys.executable", str(folder / "python"))
    with pytest.raises(UsageError, match="apt cannot call hotmend"):
        find_command()
