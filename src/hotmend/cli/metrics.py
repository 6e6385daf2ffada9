"""`hotmend metrics`: this machine in Prometheus' text format, for a textfile collector or to read."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from hotmend.cli.output import ExitCode, print_json
from hotmend.model.errors import HotmendError, UsageError

_READABLE = 0o644
"""The exporter that collects the file runs as a user of its own."""


@click.command("metrics")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write there, whole or not at all: a name ending in .prom in the textfile collector's folder.",
)
@click.option("--json", "as_json", is_flag=True, help="One object per value instead.")
def metrics_command(output: Path | None, as_json: bool) -> int:
    """Print metrics of this machine for Prometheus: what runs, what is due, what the records say.

    packaging/prometheus has alerting rules for them, docs/runbook.md what to do for each.
    """  # fmt: skip
    from hotmend.agent.census.look import look
    from hotmend.agent.paths import Places
    from hotmend.agent.report.metrics import metrics_text

    if os.geteuid() != 0:
        raise UsageError("only root can look at all processes", "run it as root")
    try:
        text = metrics_text(look(Places()))
        if output is not None:
            _write(output, text)
    except OSError as error:
        raise HotmendError(f"{error.filename or output}: {error.strerror or error}") from error
    if as_json:
        _print_values(text)
    elif output is None:
        sys.stdout.write(text.decode())
    return ExitCode.DONE


def _write(file: Path, text: bytes) -> None:
    """Put the file there, whole or not at all. Its temporary name is none that a collector looks at."""
    new = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        new.write_bytes(text)
        new.chmod(_READABLE)
        new.replace(file)
    finally:
        new.unlink(missing_ok=True)


def _print_values(text: bytes) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    from hotmend.cli.report_shapes import MetricShape

    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            print_json(MetricShape(sample.name, dict(sample.labels), sample.value))
