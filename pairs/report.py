"""Results as a table for people and as JSON for programs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from pairs.catalog import Class, PairCase
from pairs.sweep import Outcome, Result

_HEADING = (
    "pair",
    "tried",
    "refused",
    "passed",
    "live",
    "alarms",
    "equal",
    "harm",
    "codes, and what was not as it should be",
)
_WIDTHS = (38, 5, 7, 7, 5, 6, 5, 5)


def result_line(result: Result) -> str:
    """Return one line about one pair at one configuration."""
    mark = "DEFECT " if result.defect else ""
    words = [f"{mark}{result.configuration} {result.pair} ({result.kind}): {result.outcome}"]
    words += [part for part in (",".join(result.codes), first_line(result.note)) if part]
    return " | ".join(words)


def first_line(text: str) -> str:
    """Return what fits a line of a table."""
    return text.splitlines()[0][:240] if text else ""


def _row(cells: Iterable[object]) -> str:
    texts = [str(cell) for cell in cells]
    padded = [
        text.ljust(w) if i == 0 else text.rjust(w) for i, (text, w) in enumerate(zip(texts, _WIDTHS, strict=False))
    ]
    return " ".join([*padded, *texts[len(_WIDTHS) :]]).rstrip()


def pair_row(name: str, results: Sequence[Result]) -> str:
    """Return the row of one pair: how often each outcome came out, and the codes of its refusals."""
    outcomes = Counter(result.outcome for result in results)
    refused = outcomes[Outcome.REFUSED]
    tried_harm = [result.harm for result in results if result.harm is not None]
    codes = Counter(code for result in results for code in result.codes)
    said = [f"{code} x{count}" for code, count in codes.most_common(4)]
    said += [f"DEFECT at {r.configuration}: {r.outcome}" for r in results if r.defect][:3]
    cells = [
        name, len(results), refused or "", outcomes[Outcome.PASSED] or "", outcomes[Outcome.LIVE] or "",
        outcomes[Outcome.FALSE_ALARM] or "", outcomes[Outcome.NO_CHANGE] or "",
        f"{sum(tried_harm)}" if tried_harm else "", ", ".join(said),
    ]  # fmt: skip
    return _row(cells)


def table(results: Sequence[Result], pairs: Sequence[PairCase]) -> str:
    """Return the table: one block for each class, one row for each pair, and the sums."""
    lines: list[str] = []
    for kind in Class:
        chosen = [pair for pair in pairs if pair.kind is kind]
        lines += ["", f"{kind} ({len(chosen)} pairs)", _row(_HEADING)]
        for pair in chosen:
            rows = [result for result in results if result.pair == pair.name]
            if rows:
                lines.append(pair_row(pair.name, rows))
    return "\n".join([*lines, "", *summary(results)])


def summary(results: Sequence[Result]) -> list[str]:
    """Return the sums, one line for each class, and the number of defects."""
    lines = []
    for kind in Class:
        rows = [result for result in results if result.kind is kind]
        outcomes = Counter(result.outcome for result in rows)
        told = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items()))
        lines.append(f"{kind}: {len({r.pair for r in rows})} pairs, {len(rows)} builds: {told or 'none'}")
    shown = [r for r in results if r.kind is Class.DANGEROUS and r.harm is not None]
    proven = {r.pair for r in shown if r.harm}
    lines.append(
        f"harm of blindly applied code seen for {len(proven)} of {len({r.pair for r in shown})} dangerous pairs"
    )
    lines.append(f"defects: {sum(result.defect for result in results)}")
    return lines


def write_json(path: Path, results: Iterable[Result]) -> None:
    """Write one object for each result, one a line."""
    path.write_text("".join(json.dumps({**asdict(r), "defect": r.defect}) + "\n" for r in results))
