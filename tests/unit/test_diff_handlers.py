"""What functions catch and let pass: their exception tables, where their code is the same, on small C++ pairs."""

from __future__ import annotations

import subprocess
import tempfile
from functools import cache
from pathlib import Path

import pytest

from hotmend.diff.pipeline import compare
from hotmend.image.elf import read_image
from hotmend.image.image import Image
from hotmend.model.verdict import Verdict

_SOURCE = """
#include <cstdio>
#include <stdexcept>
#define KEEP __attribute__((noinline))
struct First : std::exception {{}};
struct Second : std::exception {{}};
namespace {{ struct Local : std::exception {{}}; struct Other : std::exception {{}}; }}
static int counter;
KEEP int count(int x) {{ counter += x; return printf("%d\\n", x); }}
KEEP int fail(int x)
{{
    if (x == 1) throw First();
    if (x == 2) throw Second();
    if (x == 3) throw Local();
    if (x == 4) throw Other();
    return count(x);
}}
{more}
extern "C" KEEP int guarded(int x) {{ try {{ return fail(x); }} catch (const {caught} &) {{ count(3); return -1; }} }}
extern "C" KEEP int passes(int x) {noexcept} {{ int r = fail(x); counter = r; return r + 3; }}
extern "C" KEEP int keeps(int x)
{{
    try {{ return fail(x); }}
    catch (const First &) {{ return 1; }}
    catch (const Second &) {{ return 2; }}
    catch (const Other &) {{ return 4; }}
    catch (const std::exception &) {{ return 3; }}
    catch (...) {{ return 5; }}
}}
int main() {{ return guarded(1) + passes(5) + keeps(2); }}
"""
_OLD = {"caught": "First", "noexcept": "", "more": ""}
_LIBRARY = ("-fPIC", "-shared")
_KINDS = [_LIBRARY, ("-pie", "-fPIE"), ("-no-pie", "-fno-pie")]
_ADDED = 'extern "C" KEEP int added(int x) { try { return fail(x + 9); } catch (...) { return 9; } }'


@cache
def _build(options: tuple[str, ...], values: frozenset[tuple[str, str]]) -> Image:
    with tempfile.TemporaryDirectory() as folder:
        source, path = Path(folder, "handlers.cc"), Path(folder, "handlers")
        source.write_text(_SOURCE.format(**dict(values)))
        subprocess.run(["g++", "-O2", *options, "-Wl,--build-id", "-o", str(path), str(source)], check=True)
        subprocess.run(["strip", str(path)], check=True)
        return read_image(path)


@pytest.mark.parametrize("options", _KINDS)
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({}, {"caught": "std::exception"}),
        ({}, {"caught": "Second"}),
        ({"caught": "Local"}, {"caught": "Other"}),  # names that belong to this file of source alone
        ({}, {"noexcept": "noexcept"}),
    ],
)
def test_another_handler_is_a_change(options: tuple[str, ...], old: dict[str, str], new: dict[str, str]) -> None:
    builds = [_build(options, frozenset((_OLD | values).items())) for values in (old, new)]
    outcome = compare(*builds)
    assert outcome.statistics.changed > 0
    assert outcome.verdict is not Verdict.NO_CHANGE


@pytest.mark.parametrize(
    ("new", "name"), [({"caught": "std::exception"}, "guarded"), ({"noexcept": "noexcept"}, "passes")]
)
def test_a_function_with_another_handler_is_led_to_the_new_one(new: dict[str, str], name: str) -> None:
    outcome = compare(*(_build(_LIBRARY, frozenset(values.items())) for values in (_OLD, _OLD | new)))
    assert outcome.hotpatch is not None, outcome.reasons
    assert {r.name for r in outcome.hotpatch.redirections} == {name}


@pytest.mark.parametrize("options", _KINDS)
@pytest.mark.parametrize("caught", ["First", "Local", "std::exception"])
def test_the_same_handlers_elsewhere_are_the_same(options: tuple[str, ...], caught: str) -> None:
    values = _OLD | {"caught": caught}
    added = values | {"more": _ADDED}
    outcome = compare(*(_build(options, frozenset(v.items())) for v in (values, added)))
    assert outcome.statistics.changed == 0, outcome.reasons
