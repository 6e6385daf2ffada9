"""The servicing rules over many machines: what one evaluation costs, on one processor."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import msgspec

from bench.report import Figure
from hotmend.reference.shipped import program
from hotmend.servicing.evaluate import evaluate
from hotmend.servicing.facts import MachineFacts
from hotmend.servicing.facts_json import facts_decode, facts_encode
from tests.servicing.machines import machine, update, windows

MACHINES = 100_000
GOAL_SECONDS = 10.0
_NOW = datetime(2025, 11, 20, tzinfo=UTC)


def servicing_measure() -> Iterator[Figure]:
    """Yield the figures: processor time for all machines, of one, and of reading one machine's facts."""
    servicing, fleet = program(), list(_fleet(MACHINES))
    begin = time.process_time()
    for facts in fleet:
        evaluate(facts, servicing, _NOW)
    seconds = time.process_time() - begin
    yield Figure(
        "Servicing",
        f"{MACHINES:,} machines evaluated",
        seconds,
        "s",
        GOAL_SECONDS,
        "goal",
        "processor time: eligibility, enrollment, level, known issues, forecast, avoided",
    )
    yield Figure("Servicing", "one machine", seconds / MACHINES * 1e6, "µs")
    data = [facts_encode(facts) for facts in fleet[:10_000]]
    begin = time.process_time()
    for each in data:
        facts_decode(each)
    yield Figure("Servicing", "facts of one machine read from JSON", (time.process_time() - begin) / 1e4 * 1e6, "µs")


def _fleet(count: int) -> Iterator[MachineFacts]:
    """Yield machines that differ: histories, prerequisites, enrollment; the same ones in every run."""
    chance = random.Random(1)
    history = [
        update(kb) for kb in ["KB5062553", "KB5064010", "KB5065474", "KB5066835", "KB5070881", "KB5070893", "KB5068966"]
    ]
    for number in range(count):
        updates = [each for each in history if chance.random() < 0.8] or history[:1]
        part = windows(*updates, revision=None, scale_set=chance.choice(["none", "none", "none", "uniform", None]))
        yield msgspec.structs.replace(machine(part), machine=f"srv-{number}")
