"""Scenarios in which a changed function is active, with `--consistency lazy`: the held call ends in old code."""

from __future__ import annotations

import pytest

from hotmend.live.driver import Options, apply

from .builds import Pair
from .catalog import Case, Flow, all_cases
from .engine import HotmendEngine
from .play import DEADLINE_SECONDS, build_case, expect_answers, revert
from .target import Target

pytestmark = pytest.mark.scenario

CASES = [c for c in all_cases() if c.scenario.flow is Flow.BUSY and c.configuration.label in ("gcc-O2", "clang-O2")]
PROVEN = {"blocked-below", "frame-far-up", "handler-on-sigaltstack"}
"""The scenarios with one changed function that nothing leads back to, and that does the same."""


@pytest.mark.timeout(600, func_only=True)
@pytest.mark.parametrize("case", [pytest.param(case, id=case.label) for case in CASES])
def test_a_held_call_ends_in_old_code(case: Case, pair: Pair) -> None:
    scenario, engine = case.scenario, HotmendEngine()
    built = build_case(case, pair, engine)
    proven = len(built.patches) == 1 and built.patches[0].lazy is not None and built.patches[0].lazy.proven
    if scenario.name in PROVEN:
        assert proven, built.patches[0].lazy
    with Target(pair.old.program) as target:
        expect_answers(target, scenario.old)
        assert target.say("hold") == "held"
        options = Options(deadline_seconds=DEADLINE_SECONDS, lazy=True)
        (result,) = apply(built.patches, [target.pid], options)
        codes = {reason.code for reason in result.reasons}
        if proven:
            assert (result.state, codes) == ("applied", {"old-code-goes-on"})
            expect_answers(target, scenario.new)
            assert target.say("release") == "released"
            expect_answers(target, scenario.new)
            revert(built, target, engine, scenario.old)
        else:
            assert result.state == "refused"
            assert any(code.startswith("lazy-") for code in codes), codes
            expect_answers(target, scenario.old)
            assert target.say("release") == "released"
        target.quit()
