"""Thread-local variables that move although all of them together are as long as before."""

from __future__ import annotations

import subprocess
import tempfile
from functools import cache
from pathlib import Path

import pytest

from hotmend.diff.pipeline import compare
from hotmend.image.elf import read_image
from hotmend.image.image import Image
from hotmend.model.verdict import Severity

_MODELS = ("local-exec", "initial-exec", "local-dynamic", "global-dynamic")
_SOURCE = """
#define KEEP __attribute__((noipa, visibility("default")))
static __thread int FIRST; static __thread int SECOND;
KEEP void set_a(int x) { a = x + 1; }
KEEP void set_b(int x) { b = x + 7; }
KEEP int twice_a(void) { return a * 2; }
KEEP int twice_b(void) { return b * 2; }
KEEP int get_a(void) { return a * 3; }
KEEP int get_b(void) { return USED * 5; }
KEEP int other(int x) { return x * 5; }
int main(void) { return 0; }
"""


@cache
def _build(model: str, first: str, second: str, used: str) -> Image:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "threads.c")
        path.write_text(_SOURCE.replace("FIRST", first).replace("SECOND", second).replace("USED", used))
        how = ["-fPIE", "-pie", "-rdynamic"] if model == "local-exec" else ["-fPIC", "-shared"]
        command = ["gcc", "-O2", *how, f"-ftls-model={model}", "-Wl,--build-id", "-s", "-o", str(path.with_suffix(""))]
        subprocess.run([*command, str(path)], check=True)
        return read_image(path.with_suffix(""))


def _refusals(model: str, old: tuple[str, str, str], new: tuple[str, str, str]) -> set[str]:
    outcome = compare(_build(model, *old), _build(model, *new))
    return {reason.code for reason in outcome.reasons if reason.severity is Severity.REFUSAL}


@pytest.mark.parametrize("model", _MODELS)
def test_two_that_changed_places_are_refused(model: str) -> None:
    refused = _refusals(model, ("a", "b", "b"), ("b", "a", "b"))
    assert refused & {"tls-layout-changed", "structure-layout-changed"}


@pytest.mark.parametrize("model", ["local-exec", "initial-exec"])
def test_a_function_that_uses_another_one_is_not(model: str) -> None:
    assert _refusals(model, ("a", "b", "b"), ("a", "b", "a")) == set()
