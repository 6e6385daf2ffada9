"""What is reached from where, along edges that go one way."""

from __future__ import annotations

from collections.abc import Callable, Iterable


def reached(roots: Iterable[int], edges: Callable[[int], Iterable[int]]) -> set[int]:
    """Return the roots and all that is reached from them.

    Args:
        roots: where to begin.
        edges: what follows one of the numbers.
    """
    seen = set(roots)
    waiting = list(seen)
    while waiting:
        for other in edges(waiting.pop()):
            if other not in seen:
                seen.add(other)
                waiting.append(other)
    return seen
