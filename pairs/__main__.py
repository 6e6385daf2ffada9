"""`python -m pairs`: is anything dangerous let through, and how much that is harmless is held back? Needs root."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from pairs.catalog import Class, PairCase, read_pairs
from pairs.matrix import all_configurations, tasks
from pairs.report import alarms, first_line, read_json, result_line, rows, table, write_json
from pairs.sweep import Outcome, Proofs, Result, sweep
from tests.scenarios.catalog import Configuration
from tests.scenarios.rust import compiler_installed


def main(arguments: list[str] | None = None) -> int:
    """Sweep what was asked for, print the table; 1 when a dangerous pair passed or a harmless one broke a process."""
    options = _parser().parse_args(arguments)
    if options.rows:
        found = read_json(options.rows)
        print("\n".join([rows(found), "", *alarms(found)]))
        return 1 if any(result.defect for result in found) else 0
    pairs = _choose_pairs(options.only)
    configurations = _choose_configurations(options.configuration)
    if options.list:
        for pair in pairs:
            print(f"{pair.kind:<12} {pair.name:<38} {pair.says}")
        return 0
    work = tasks(pairs, configurations)
    if not work:
        print("pairs: nothing of that name at that configuration", file=sys.stderr)
        return 2
    proofs = Proofs(live=not options.no_proof, harm=not (options.no_proof or options.no_harm))
    results: list[Result] = []
    for result in sweep(work, proofs, options.jobs):
        results.append(result)
        _progress(result, len(results), len(work), verbose=options.verbose)
        if options.json:
            write_json(options.json, results)
    print(table(results, pairs))
    return 1 if any(result.defect for result in results) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pairs", description=__doc__)
    parser.add_argument("--only", action="append", metavar="NAME", help="a pair, a family or a class; may be repeated")
    parser.add_argument("--configuration", action="append", metavar="LABEL", help="such as gcc-O2-cet; may be repeated")
    parser.add_argument("--no-proof", action="store_true", help="compare only, change no process")
    parser.add_argument("--no-harm", action="store_true", help="do not show the harm of blindly applied code")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="processes (one per processor)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write one object per result")
    parser.add_argument(
        "--rows",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="judge nothing, print one row for each configuration of these",
    )
    parser.add_argument("--verbose", action="store_true", help="one line for each result on stderr")
    parser.add_argument("--list", action="store_true", help="name the pairs and do nothing")
    return parser


def _choose_pairs(names: list[str] | None) -> list[PairCase]:
    pairs = read_pairs()
    if not names:
        return pairs
    known = {word for pair in pairs for word in (pair.name, pair.family, pair.kind)} | set(Class)
    if unknown := sorted(set(names) - known):
        raise SystemExit(f"pairs: no pair, family or class is called {', '.join(unknown)} (--list names them)")
    return [pair for pair in pairs if {pair.name, pair.family, pair.kind} & set(names)]


def _choose_configurations(labels: list[str] | None) -> list[Configuration]:
    every = all_configurations()
    if labels:
        if unknown := sorted(set(labels) - {c.label for c in every}):
            raise SystemExit(
                f"pairs: no configuration {', '.join(unknown)}; there are {' '.join(c.label for c in every)}"
            )
        every = [c for c in every if c.label in labels]
    for compiler in sorted({c.compiler for c in every if not compiler_installed(c.compiler)}):
        print(f"pairs: {compiler} is not installed; its configurations are left out", file=sys.stderr)
    return [c for c in every if compiler_installed(c.compiler)]


def _progress(result: Result, done: int, count: int, *, verbose: bool) -> None:
    if verbose or result.defect:
        print(result_line(result), file=sys.stderr, flush=True)
    elif result.outcome is Outcome.FALSE_ALARM:
        print(
            f"false alarm {result.configuration} {result.pair}: {first_line(result.note)}", file=sys.stderr, flush=True
        )
    if done % 100 == 0:
        print(f"pairs: {done} of {count}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
