"""A channel's hotpatch, and new files of its package that cannot be loaded into the old processes.

A library of our own opens its module when it is asked to. The update's module needs a function that only the update's
library exports: with the new code in memory, the old library cannot open the new module.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hotmend.package.bundle import pack
from hotmend.publisher.build import build_update
from hotmend.repository.making import About, hotpatch_release
from tests.agent.machine import Machine
from tests.agent.redis import ALWAYS, configure
from tests.agent.test_upgrade import upgraded
from tests.debs import CHANGELOG, make_deb
from tests.repository.kit import BASELINE, CHANNEL, World, baseline

LIBRARY = """
#include <dlfcn.h>
__attribute__((noinline)) static int weight(int a, int b) { return a * FACTOR + b / (a | 1); }
int core_answer(int a) { return weight(a, 7) + weight(7, a); }
int core_open(void) { return 1; }
#ifdef CHECKS
int core_check(void) { return 2; }
#endif
int core_module(void) {
    void *module = dlopen("/usr/lib/core/module.so", RTLD_NOW);
    int (*call)(void) = module ? dlsym(module, "module") : 0;
    return call ? call() : -1;
}
"""
MODULE = "int core_open(void); int module(void) { return core_open(); }"
CHECKING = "int core_open(void); int core_check(void); int module(void) { return core_open() + core_check(); }"
PROGRAM = """
import ctypes, pathlib, time
core = ctypes.CDLL("/usr/lib/core/libcore.so.1", ctypes.RTLD_GLOBAL)
while True:
    if pathlib.Path("/run/ask").exists():
        function = getattr(core, pathlib.Path("/run/ask").read_text().strip() or "core_open")
        pathlib.Path("/run/answer").write_text(str(function(3)))
        pathlib.Path("/run/ask").unlink()
    time.sleep(0.05)
"""
OLD, NEW = "1.0-1", "1.0-2"
BEFORE, AFTER = 32, 52
"""What `core_answer(3)` is by the old code and by the new."""
NEEDS = "its new files need core_check of the new images"


def _compiled(folder: Path, name: str, source: str, *arguments: str) -> bytes:
    file = folder / name
    file.with_suffix(".c").write_text(source)
    flags = ["-O2", "-shared", "-fPIC", "-Wl,--build-id", "-s"]
    subprocess.run(["gcc", *flags, *arguments, "-o", file, file.with_suffix(".c")], check=True)
    return file.read_bytes()


@pytest.fixture(scope="module")
def debs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The package and its update."""
    folder = tmp_path_factory.mktemp("core")

    def made(version: str, module: str, *flags: str) -> Path:
        files = {
            "usr/lib/core/libcore.so.1": _compiled(folder, "libcore.so", LIBRARY, *flags),
            "usr/lib/core/module.so": _compiled(folder, "module.so", module),
        }
        text = CHANGELOG.replace("tool", "core").replace("1.0-3", version)
        return make_deb(folder / f"core_{version}_amd64.deb", files, package="core", version=version, changelog=text)

    return made(OLD, MODULE, "-DFACTOR=3"), made(NEW, CHECKING, "-DFACTOR=5", "-DCHECKS")


@pytest.fixture
def world(tmp_path: Path, debs: tuple[Path, Path]) -> World:
    """A channel with the hotpatch."""
    world = World(tmp_path / "world").make_keys().found()
    world.publisher().add(baseline(world.now), {})
    world.promote(BASELINE)
    bundle = pack(build_update(str(debs[0]), str(debs[1]), lambda *_: None).hotpatches)
    release = hotpatch_release((bundle,), About(CHANNEL, BASELINE, "good"), world.now)
    world.publisher().add(release, {release.files[0].name: bundle})
    world.promote("good")
    return world


@pytest.fixture
def machine(tmp_path: Path, debs: tuple[Path, Path], world: World) -> Iterator[Machine]:
    """With the package, a process that has its library, and an archive that has the update."""
    with Machine(tmp_path / "machine") as begun:
        begun.offer_only("nothing-at-all")
        begun.run(f"mkdir -p /srv/core /var/lib/hotmend/mirror; cp {debs[0]} {debs[1]} /srv/core")
        begun.run("cd /srv/core && dpkg-scanpackages -m . > Packages 2>/dev/null")
        begun.run("echo 'deb [trusted=yes] file:/srv/core ./' > /etc/apt/sources.list.d/core.list")
        begun.run(
            "apt-get update -qq -o Dir::Etc::sourcelist=/etc/apt/sources.list.d/core.list -o Dir::Etc::sourceparts=-"
        )
        begun.install(f"core={OLD}")
        begun.run(f"setsid python3 -c '{PROGRAM}' > /dev/null 2>&1 < /dev/null &")
        begun.run(f"cp {world.mirror}/metadata/1.root.json /root/root.json")
        assert begun.hotmend("agent", "trust", "/root/root.json").returncode == 0
        assert asked(begun, "core_answer") == BEFORE
        yield begun


def asked(machine: Machine, function: str) -> int:
    """Have the process call a function of the library; `core_module` is -1 where the module cannot be opened."""
    wait = "for i in $(seq 2400); do test -e /run/ask || break; sleep 0.05; done; cat /run/answer"
    return int(machine.run(f"echo {function} > /run/new; mv /run/new /run/ask; {wait}").stdout)


def test_the_agent_leaves_it_off_the_disk(machine: Machine, world: World) -> None:
    source = f'[channel]\naddress = "{world.mirror}"\nname = "{CHANNEL}"\n'
    policy = f'mode = "automatic"\nobserve_days = 0\nhealth_seconds = 0\n{source}'
    configure(machine, f'{policy}[maintenance]\nclassifications = []\ninclude = ["core"]\n{ALWAYS}\n')
    done = machine.hotmend("agent", "run", "--once", "--json")
    run = json.loads(done.stdout.splitlines()[-1])["run"]
    assert f"not installed, because it takes a restart: core ({NEEDS})" in run["detail"]
    assert [action["state"] for action in run["actions"]] == ["SUCCEEDED"]
    assert machine.version("core") == OLD
    assert (asked(machine, "core_answer"), asked(machine, "core_module")) == (AFTER, 1)


def test_upgrade_names_it(machine: Machine, world: World) -> None:
    code, answer = upgraded(machine, "core", "--all", "--channel", str(world.mirror), CHANNEL, "--channel-only")
    (package,) = answer["packages"]
    assert (code, package["memory"], package["disk"], package["error"]) == (0, "fixed", "updated", "")
    assert (package["hotpatches"][0]["release"], package["needed_later"]) == ("good", ["core_check"])
    assert answer["held"] == []
    assert (asked(machine, "core_answer"), asked(machine, "core_module")) == (AFTER, -1)  # so it is as it was said
