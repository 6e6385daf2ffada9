"""Which named functions the two builds of a changed function call, with parts that moved out of it counted in."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass

from hotmend.diff.correspond import Correspondence
from hotmend.image.code import Code
from hotmend.image.image import Image
from hotmend.image.references import CALL, DATA, JUMP, Survey


@dataclass(frozen=True, slots=True)
class Called:
    """Names that one changed function calls in the old and in the new build, with how often each call stands there."""

    code: int
    old: Counter[str]
    new: Counter[str]

    @property
    def gained(self) -> Counter[str]:
        """Calls that only the new build makes."""
        return self.new - self.old

    @property
    def lost(self) -> Counter[str]:
        """Calls that only the old build makes."""
        return self.old - self.new


def calls_of_changed(c: Correspondence) -> list[Called]:
    """Return the calls of each changed function, those of parts included that only one of the builds has."""
    old = _Side(c.old, c.old_plt, set(c.same) | set(c.pairs))
    new = _Side(c.new, c.new_plt, set(c.same.values()) | set(c.pairs.values()))
    return [Called(j, old.called(i), new.called(j)) for i, j in sorted(c.pairs.items()) if not c.old.codes[i].gap]


class _Side:
    """One build: what each code calls."""

    def __init__(self, survey: Survey, plt: dict[int, int], paired: set[int]) -> None:
        self._image: Image = survey.image
        self._codes: tuple[Code, ...] = survey.codes
        self._survey, self._plt, self._paired = survey, plt, paired

    def called(self, index: int) -> Counter[str]:
        """Return the names that a code and its unpaired parts call."""
        result: Counter[str] = Counter()
        seen, waiting = {index}, [index]
        r = self._survey.references
        while waiting:
            one = waiting.pop()
            low, high = int(r.first[one]), int(r.first[one + 1])
            for kind, target in zip(r.kind[low:high].tolist(), r.target[low:high].tolist(), strict=True):
                if kind not in (CALL, JUMP, DATA):
                    continue
                name = self._name(target, kind)
                if name:
                    result[name] += 1
                    continue
                part = self._survey.at.get(target, -1)
                if part >= 0 and part not in self._paired and part not in seen:
                    seen.add(part)
                    waiting.append(part)
        return result

    def _name(self, target: int, kind: int) -> str:
        slot = self._image.slots.get(self._plt.get(target, target))
        if slot is not None:
            return slot.name
        return self._image.names.get(target, "") if kind != DATA and target in self._survey.at else ""


def by_name(found: list[Called], *, gained: bool) -> dict[str, set[int]]:
    """Return for each name the changed functions that gained, or lost, a call of it."""
    result: dict[str, set[int]] = defaultdict(set)
    for called in found:
        for name in called.gained if gained else called.lost:
            result[name].add(called.code)
    return result
