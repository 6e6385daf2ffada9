"""What other images bound to, and what the dynamic linker called or chose, has to be what the new build has there."""

from __future__ import annotations

import subprocess
import tempfile
from functools import cache
from pathlib import Path

import pytest

from hotmend.diff.options import Options
from hotmend.diff.pipeline import compare
from hotmend.image.elf import read_image
from hotmend.image.image import Image
from hotmend.model.hotpatch import Outcome
from hotmend.model.verdict import Severity, Verdict

_SOURCE = """
#include <stdio.h>
#define KEEP __attribute__((noipa))
#define HIDDEN __attribute__((noipa, visibility("hidden")))
#define ALIAS(of) __attribute__((alias(of)))
#ifdef NEW
#define EITHER(old, new) new
#else
#define EITHER(old, new) old
#endif
int table[64], counter;
int second(int x), third(int x);
{body}
KEEP int second(int x) {{ return printf("second %d", x) + counter; }}
KEEP int third(int x) {{ return second(x) * 7 + x; }}
"""
_FIX = "KEEP int fixed(int x) { return x * EITHER(x, x * x); }"
_SPLIT = """
KEEP int loose(int x) { counter += x; return table[x] * 3; }
#ifdef NEW
KEEP int checked(int x) { if (x >= 64u) return -1; counter += x; return table[x] * 3; }
#else
int checked(int x) ALIAS("loose");
#endif
"""
_JOINED = """
KEEP int checked(int x) { if (x >= 64u) return -1; counter += x; return table[x] * 3; }
#ifdef NEW
int loose(int x) ALIAS("checked");
#else
KEEP int loose(int x) { counter -= x; return table[x] * 3; }
#endif
"""
_MOVED = """
HIDDEN int unchecked(int x) { counter += x; return table[x] * 3; }
HIDDEN int bounded(int x) { if (x >= 64u) return -1; counter += x; return table[x] * 3; }
int loose(int x) ALIAS(EITHER("unchecked", "bounded"));
int checked(int x) ALIAS("bounded");
KEEP int both(int x) { return unchecked(x & 63) + bounded(x); }
"""
_TOGETHER = """
KEEP int one(int x) { if (x > EITHER(64, 63)) return -1; return table[x] * 3; }
int two(int x) ALIAS("one");
"""
_ADDED = "EITHER(, KEEP int added(int x) { return third(x) * 3; })"
_TURNED = """
KEEP int EITHER(first, other)(int x) { counter += x; return table[x & 31] * 3; }
KEEP int EITHER(other, first)(int x) { counter += x; return table[x & 31] * 3; }
"""
_CHOICE = """
HIDDEN int plain(int x) { return second(x) + 1; }
HIDDEN int quick(int x) { if (x > 9u) return -1; return second(x) + 3; }
KEEP int twice(int x) { return plain(x) + quick(x); }
#define CHOSEN __attribute__((ifunc("choose")))
"""
_RESOLVER = "static void *choose(void) { __builtin_cpu_init(); return CHOICE; }\nint chosen(int) CHOSEN;"
_CHANGED_CHOICE = _CHOICE + _RESOLVER.replace("CHOICE", 'EITHER(__builtin_cpu_supports("sse2") ? plain : quick, quick)')
_CHOICE_BEGINS = (
    _CHOICE
    + """
#ifdef NEW
static void *choose(void) { return counter == 7 ? quick : plain; }
int chosen(int) CHOSEN;
#else
KEEP int chosen(int x) { if (x > 100) return quick(x); return plain(x) + 2; }
#endif
"""
)
_CHOICE_ENDS = _CHOICE_BEGINS.replace("#ifdef NEW", "#ifndef NEW")
_CHOICE_ADDED = (
    _CHOICE
    + """
#ifdef NEW
static void *choose(void) { return counter == 7 ? quick : plain; }
int chosen(int) CHOSEN;
#endif
KEEP int use(int x) { return EITHER(plain, chosen)(x) + second(1); }
"""
)
_MANY = """
__asm__(".text\\n.globl many\\n.type many,@function\\nmany:\\n.cfi_startproc\\n FIRST\\n"
        EITHER(".globl few\\n", KEPT) ".type few,@function\\nfew:\\n mov %edi,%eax\\n"
        EITHER("", " cmp $9,%eax\\n ja 1f\\n")
        " add %edx,%eax\\n ret\\n1: mov $-1,%eax\\n ret\\n.cfi_endproc\\n.size many,.-many\\n");
"""
_ONLY_OLD, _BOTH = '""', '".globl few\\n"'
_LISTED = """
static int mode;
KEEP static void lax(void) { mode = 1; second(1); }
KEEP static void strict(void) { mode = 2; third(2); }
__attribute__((section(".LIST"), used)) static void (*listed)(void) = EITHER(lax, strict);
KEEP int choose(int x) { if (x) lax(); else strict(); return mode; }
"""
_BOUND = """
KEEP int usual(int x) { return second(x) + 1; }
KEEP int is_it(int (*given)(int), int x) { return given == EITHER(usual, third) ? x : second(x) * 3; }
"""
_OVERRIDDEN = """
typedef int (*method)(int);
KEEP int usual(int x) { return second(x) + 1; }
#ifdef NEW
KEEP int overriding(int x) { if (x > 9u) return -1; return second(x) * 9; }
#endif
const method methods[2] = { second, EITHER(usual, overriding) };
"""
_LIMITS = """
EXPORTED const int limits[8] = { 1, 2, 3, EITHER(4, 40), 5, 6, 7, 8 };
KEEP int limit(int x) { second(x); return limits[x & 7]; }
"""
_BEHIND = """
EXPORTED const int limits[4] = { 1, 2, EITHER(3, 30), 4 };
static const struct { const int *of; int count; } kinds[2] = { { limits, 4 }, { limits, 2 } };
KEEP int limit(int x, int n) { second(n); return n >= kinds[x & 1].count ? -1 : kinds[x & 1].of[n]; }
"""
_CALLED = """
typedef int (*method)(int);
EXPORTED const method limits[3] = { second, EITHER(third, second), third };
KEEP int limit(int x) { return limits[(unsigned)x % 3](x) + 1; }
"""


@cache
def _build(source: str, *options: str) -> Image:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "part.c")
        path.write_text(source)
        library = path.with_suffix(".so")
        given = ["-O2", "-fPIC", "-shared", "-fno-toplevel-reorder", "-fno-ipa-icf", "-Wl,--build-id", *options]
        subprocess.run(["gcc", *given, "-s", "-o", str(library), str(path)], check=True)
        return read_image(library)


def _compare(body: str, *options: str, partial: bool = False) -> Outcome:
    source = _SOURCE.format(body=body)
    old, new = _build(source, *options), _build(source, "-DNEW", *options)
    return compare(old, new, options=Options(partial=partial))


def _refusals(outcome: Outcome) -> dict[str, tuple[str, ...]]:
    return {r.code: r.subjects for r in outcome.reasons if r.severity is Severity.REFUSAL}


@pytest.mark.parametrize("besides", ["", _FIX])
@pytest.mark.parametrize(
    ("body", "name"),
    [(_SPLIT, "checked"), (_JOINED, "loose"), (_MOVED, "loose"), (_CHOICE_BEGINS, "chosen"), (_CHOICE_ENDS, "chosen")],
)
def test_a_name_that_is_another_function_is_refused(body: str, name: str, besides: str) -> None:
    assert _refusals(_compare(body + besides)) == {"exported-function-stays-old": (name,)}


def test_code_that_reaches_another_export_by_a_word_bound_in_the_image_changed() -> None:
    outcome = _compare(_BOUND, "-Wl,-Bsymbolic")
    assert outcome.verdict is Verdict.HOTPATCH, outcome.reasons
    assert outcome.hotpatch is not None
    assert [f.name for f in outcome.hotpatch.functions] == ["is_it"]


def test_a_part_leaves_the_half_that_a_name_became_old() -> None:
    outcome = _compare(_SPLIT + _FIX, partial=True)
    assert outcome.hotpatch is not None
    assert {f.name for f in outcome.hotpatch.functions} == {"fixed"}
    assert outcome.left == ("checked",)


def test_two_names_of_one_function_that_changes_are_led_together() -> None:
    outcome = _compare(_TOGETHER)
    assert outcome.verdict is Verdict.HOTPATCH, outcome.reasons
    assert outcome.hotpatch is not None
    assert len(outcome.hotpatch.redirections) == 1


def test_equal_functions_that_changed_places_are_not_refused() -> None:
    outcome = _compare(_TURNED + _FIX)
    assert outcome.verdict is Verdict.HOTPATCH, outcome.reasons


@pytest.mark.parametrize("first", ["xor %edx,%edx", "mov $5,%edx\\n add %edi,%edx"])
@pytest.mark.parametrize("kept", [_ONLY_OLD, _BOTH])
def test_a_changed_function_with_an_export_inside_is_refused(first: str, kept: str) -> None:
    refusals = _refusals(_compare(_MANY.replace("FIRST", first).replace("KEPT", kept)))
    assert refusals == {"entry-cannot-be-redirected": ("many",)}


def test_another_choice_of_an_indirect_function_is_refused() -> None:
    assert _refusals(_compare(_CHANGED_CHOICE)) == {"start-only-code": ("chosen",)}


@pytest.mark.parametrize("visible", ["default", "hidden"])
def test_an_indirect_function_that_new_code_begins_to_use_is_refused(visible: str) -> None:
    body = _CHOICE_ADDED.replace('ifunc("choose")', f'ifunc("choose"), visibility("{visible}")')
    assert "unmapped-reference" in _refusals(_compare(body, "-fno-plt"))


def test_new_code_that_only_data_of_the_new_build_reach_is_refused() -> None:
    assert "new-code-not-reached" in _refusals(_compare(_OVERRIDDEN))


@pytest.mark.parametrize("besides", ["", _FIX])
@pytest.mark.parametrize("body", [_LIMITS, _BEHIND, _CALLED])
def test_exported_data_that_is_reached_by_name_and_says_something_else_is_refused(body: str, besides: str) -> None:
    """The slots of the image itself lead to the old data as well: it was 'no change'."""
    assert _refusals(_compare(f"#define EXPORTED\n{body}{besides}")) == {"exported-data-changed": ("limits",)}


@pytest.mark.parametrize("body", [_LIMITS, _CALLED])
@pytest.mark.parametrize("attribute", ['__attribute__((visibility("protected")))', ""])
def test_exported_data_that_code_refers_to_directly_changes_with_that_code(body: str, attribute: str) -> None:
    outcome = _compare(f"#define EXPORTED {attribute}\n{body}", "-Wl,-Bsymbolic")
    assert outcome.verdict is Verdict.HOTPATCH, outcome.reasons
    assert outcome.hotpatch is not None
    assert [f.name for f in outcome.hotpatch.functions] == ["limit"]


def test_a_part_leaves_what_reaches_exported_data_that_changed() -> None:
    outcome = _compare(f"#define EXPORTED\n{_LIMITS}{_FIX}", partial=True)
    assert outcome.hotpatch is not None
    assert {f.name for f in outcome.hotpatch.functions} == {"fixed"}


def test_an_export_that_is_added_alone_is_for_the_other_images_of_the_update() -> None:
    outcome = _compare(_ADDED)
    assert outcome.verdict is Verdict.HOTPATCH, outcome.reasons


@pytest.mark.parametrize(
    ("section", "code"), [("init_array", "start-only-code"), ("fini_array", "registered-at-start")]
)
@pytest.mark.parametrize("besides", ["", _FIX])
def test_another_function_at_start_or_end_is_refused(section: str, code: str, besides: str) -> None:
    refusals = _refusals(_compare(_LISTED.replace("LIST", section) + besides))
    assert set(refusals) == {code}


_FIRST_AND_LAST = """
HIDDEN void first(void) { counter = FIRST; }
HIDDEN void last(void) { if (LAST) return; second(counter); }
"""
_NAMED = ("-Wl,-init,first", "-Wl,-fini,last")


def test_a_changed_function_that_is_called_last_is_led_to_the_new_one() -> None:
    body = _FIRST_AND_LAST.replace("FIRST", "7").replace("LAST", "EITHER(0, counter > 20)")
    outcome = _compare(body, *_NAMED)
    assert outcome.hotpatch is not None, outcome.reasons
    assert len(outcome.hotpatch.redirections) == 1


def test_a_changed_function_that_was_called_first_has_run() -> None:
    body = _FIRST_AND_LAST.replace("FIRST", "EITHER(7, 9)").replace("LAST", "0")
    assert set(_refusals(_compare(body, *_NAMED))) == {"start-only-code"}


@pytest.mark.parametrize(("option", "code"), [("-Wl,-init", "start-only-code"), ("-Wl,-fini", "registered-at-start")])
def test_another_function_that_is_called_first_or_last_is_refused(option: str, code: str) -> None:
    source = _SOURCE.format(body=_FIRST_AND_LAST.replace("FIRST", "7").replace("LAST", "0"))
    old, new = (_build(source, f"{option},{name}", "-Wl,-u,first,-u,last") for name in ("first", "last"))
    assert set(_refusals(compare(old, new))) == {code}
