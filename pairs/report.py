"""Results as a table for people and as JSON for programs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from itertools import groupby
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


_ROW_HEADING = (
    "configuration",
    "dangerous: refused",
    "equal, or shown to do no harm",
    "passed (defects)",
    "harmless: accepted",
    "proven live",
    "false alarms",
    "equal",
    "undecidable: passed",
)


def rows(results: Sequence[Result]) -> str:
    """Return the table of docs/pairs.md: one row for each configuration, in the order of the results."""
    lines = ["| " + " | ".join(_ROW_HEADING) + " |", "|" + "---|" * len(_ROW_HEADING)]
    for label in dict.fromkeys(result.configuration for result in results):
        lines.append(_configuration_row(label, [r for r in results if r.configuration == label]))
    return "\n".join(lines)


def _configuration_row(label: str, results: Sequence[Result]) -> str:
    outcomes = {kind: Counter(r.outcome for r in results if r.kind is kind) for kind in Class}
    dangerous, harmless, undecidable = (outcomes[k] for k in (Class.DANGEROUS, Class.HARMLESS, Class.UNDECIDABLE))
    accepted = harmless[Outcome.LIVE] + harmless[Outcome.ACCEPTED]
    cells = [
        label,
        f"{dangerous[Outcome.REFUSED]} of {dangerous.total()}",
        dangerous[Outcome.NO_CHANGE] + dangerous[Outcome.LIVE],
        sum(result.defect for result in results),
        f"{accepted} of {harmless.total()}",
        harmless[Outcome.LIVE] or "",
        harmless[Outcome.FALSE_ALARM],
        harmless[Outcome.NO_CHANGE],
        f"{undecidable[Outcome.PASSED]} of {undecidable.total()}" if undecidable else "",
    ]
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def alarms(results: Iterable[Result]) -> list[str]:
    """Return one line for each configuration with false alarms: how many there are of each code."""
    lines = []
    for label, found in groupby(results, lambda r: r.configuration):
        codes = Counter(code for r in found if r.outcome is Outcome.FALSE_ALARM for code in r.codes)
        if codes:
            lines.append(f"{label}: " + ", ".join(f"{code} {count}" for code, count in codes.most_common()))
    return lines


def read_json(paths: Iterable[Path]) -> list[Result]:
    """Return what `write_json` wrote; of one pair at one configuration, what the last file says."""
    found: dict[tuple[str, str], Result] = {}
    for path in paths:
        for line in path.read_text().splitlines():
            values = json.loads(line)
            del values["defect"]
            values |= {"kind": Class(values["kind"]), "outcome": Outcome(values["outcome"])}
            result = Result(**values | {"codes": tuple(values["codes"])})
            found[result.pair, result.configuration] = result
    return list(found.values())


def write_json(path: Path, results: Iterable[Result]) -> None:
    """Write one object for each result, one a line."""
    path.write_text("".join(json.dumps({**asdict(r), "defect": r.defect}) + "\n" for r in results))
