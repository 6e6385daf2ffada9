"""Figures are made anew as often as making them allows."""

from __future__ import annotations

import threading

from hotmend.server.portal.kept import SHARE, Kept, KeptBy


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_what_took_long_is_kept_for_longer() -> None:
    clock, made = Clock(), list[int]()

    def make() -> int:
        clock.now += 2
        made.append(1)
        return len(made)

    kept = Kept[int](clock)
    assert kept.get(make) == 1
    clock.now += 2 * SHARE - 1
    assert kept.get(make) == 1
    clock.now += 1
    assert kept.get(make) == 2


def test_while_one_makes_it_others_get_the_one_before_and_the_first_wait() -> None:
    clock, kept = Clock(), Kept[str]()
    inside, go_on, found = threading.Event(), threading.Event(), list[str]()

    def slow() -> str:
        inside.set()
        assert go_on.wait(30)
        return "new"

    first = threading.Thread(target=lambda: found.append(kept.get(slow)))
    first.start()
    assert inside.wait(30)
    second = threading.Thread(target=lambda: found.append(kept.get(lambda: "twice")))
    second.start()
    go_on.set()
    first.join(30)
    second.join(30)
    assert found[0] == "new"
    old = Kept[str](clock)
    old.get(lambda: "old")
    inside.clear()
    go_on.clear()
    third = threading.Thread(target=lambda: found.append(old.get(slow)))
    third.start()
    assert inside.wait(30)
    assert old.get(lambda: "another") == "old"
    go_on.set()
    third.join(30)
    assert old.get(lambda: "newer") == "newer"


def test_a_failure_is_not_kept() -> None:
    kept = Kept[int]()
    for value in (1, 2):
        try:
            kept.get(lambda: 1 // 0)
        except ZeroDivisionError:
            assert kept.get(lambda value=value: value) in (1, 2)  # type: ignore[misc]


def test_each_question_has_its_own_value_and_only_the_last_are_kept() -> None:
    made: list[str] = []

    def make(name: str) -> str:
        made.append(name)
        return name

    kept = KeptBy[str](2)
    for name in ("a", "b", "a", "c", "b"):
        assert kept.get(name, lambda name=name: make(name)) == name  # type: ignore[misc]
    assert len(kept._kept) == 2
