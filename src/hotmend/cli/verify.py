"""`hotmend verify`: the hotpatched old build against the new build, over given inputs."""

from __future__ import annotations

import os
import pwd
import re
from pathlib import Path

import click

from hotmend.cli.output import ExitCode, Steps, print_json, print_note, print_reasons
from hotmend.cli.shapes import DifferenceShape, VerifyShape, reason_shapes
from hotmend.model.errors import UsageError
from hotmend.package.bundle import load
from hotmend.publisher import feed
from hotmend.trial.calls import read_calls
from hotmend.trial.compare import Difference
from hotmend.trial.contents import NOBODY, Limits, User
from hotmend.trial.sides import make_sides
from hotmend.trial.trials import Trial
from hotmend.trial.verify import Verification, verify

_CODES = {
    "agree": ExitCode.DONE,
    "nothing-shown": ExitCode.NOTHING_TO_DO,
    "differ": ExitCode.REFUSED,
    "refused": ExitCode.REFUSED,
}
_FILES_MAX = 1024


@click.command("verify")
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("program", nargs=-1, type=click.UNPROCESSED)
@click.option("--old", required=True, metavar="BUILD", help="ELF file, .deb or PACKAGE=VERSION that FILE changes.")
@click.option("--new", required=True, metavar="BUILD", help="What it changes it into.")
@click.option("--with", "others", multiple=True, metavar="PACKAGE", help="Package needed besides; can be repeated.")
@click.option("--input", "inputs", multiple=True, type=click.Path(path_type=Path), help="Input file; can be repeated.")
@click.option("--calls", type=click.Path(path_type=Path), help="TOML file with functions to call.")
@click.option("--library", default="", metavar="NAME", help="Image that --calls is about, if there are several.")
@click.option("--env", "variables", multiple=True, metavar="NAME=VALUE", help="Environment variable; can be repeated.")
@click.option("--ignore", "ignored", multiple=True, metavar="REGEX", help="Not to be compared; can be repeated.")
@click.option("--user", default="", metavar="NAME", help="Run as this user instead of nobody.")
@click.option(
    "--seconds", type=click.FloatRange(min=0.1), default=30.0, show_default=True, help="Most wall time of one run."
)
@click.option(
    "--memory",
    type=click.IntRange(min=16),
    default=4096,
    show_default=True,
    metavar="MB",
    help="Most memory of one run.",
)
@click.option("--json", "as_json", is_flag=True, help="One object.")
def verify_command(
    file: Path,
    program: tuple[str, ...],
    old: str,
    new: str,
    others: tuple[str, ...],
    inputs: tuple[Path, ...],
    calls: Path | None,
    library: str,
    variables: tuple[str, ...],
    ignored: tuple[str, ...],
    user: str,
    seconds: float,
    memory: int,
    as_json: bool,
) -> int:
    """Run the hotpatched old build and the new build over the same inputs: outputs must agree.

    PROGRAM [ARG...] after `--` is run once for each input, which is standard input, or the file named by {}.
    With --calls, exported functions of a library are called instead. Everything runs without network, on private
    copies of all files.
    """
    if bool(program) == (calls is not None):
        raise UsageError("give either a program or --calls", "hotmend verify FILE --old A --new B -- PROGRAM {}")
    names = [path.name for path in inputs]
    if len(set(names)) < len(names):
        raise UsageError("two inputs have the same name")
    hotpatches = load(file)
    trial = Trial(
        program=program,
        inputs=inputs,
        calls=read_calls(calls, {path.name: path for path in inputs}) if calls else None,
        user=_user(user),
        environment=dict(_variable(text) for text in variables),
        seconds=seconds,
        limits=Limits(int(seconds) * (os.cpu_count() or 1) + 1, memory << 20, memory << 20, _FILES_MAX),
        size_bytes=memory << 20,
        ignored=tuple(_pattern(text) for text in ignored),
    )
    with Steps(threaded=False) as steps:
        paths = [_locate(text, steps) for text in (old, new, *others)]
        sides = make_sides(paths[0], paths[1], paths[2:], hotpatches, library)
        result = verify(hotpatches, *sides, trial, steps)
    shape = _shape(result)
    if as_json:
        print_json(shape)
    else:
        _print(shape)
    return _CODES[result.state]


def _locate(text: str, steps: Steps) -> Path:
    """Return the file that an argument means; an existing file wins over a package's name."""
    wanted = feed.parse_spec(text)
    if Path(text).exists() or wanted is None:
        return Path(text)
    steps(f"fetching {wanted}", 0, 1)
    return feed.fetch(wanted)


def _user(name: str) -> User:
    if not name:
        return NOBODY
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise UsageError(f"there is no user {name}") from None
    return User(entry.pw_uid, entry.pw_gid)


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise UsageError(f"--env {text}: give NAME=VALUE")
    return name, value


def _pattern(text: str) -> re.Pattern[bytes]:
    try:
        return re.compile(text.encode(), re.MULTILINE)
    except re.error as error:
        raise UsageError(f"--ignore {text}: {error}") from error


def _shape(result: Verification) -> VerifyShape:
    def differences(found: tuple[Difference, ...]) -> tuple[DifferenceShape, ...]:
        return tuple(DifferenceShape(d.case, d.item, d.expected, d.got, d.offset, d.line) for d in found)

    return VerifyShape(
        state=result.state,
        cases=result.cases,
        images=result.applied,
        redirected=result.redirected,
        reached=result.reached,
        changed=differences(result.changed),
        differences=differences(result.differences),
        pause_us=result.pause_us,
        reasons=reason_shapes(result.reasons),
    )


def _print(shape: VerifyShape) -> None:
    if shape.images:
        runs = "1 run" if shape.cases == 1 else f"{shape.cases} runs"
        click.echo(f"{', '.join(shape.images)}: {shape.redirected} functions redirected, {runs} compared")
        click.echo(f"changed functions that ran: {', '.join(shape.reached) or 'none'}")
        click.echo(f"what the update changes over these inputs: {len(shape.changed) or 'nothing'}")
        for difference in shape.changed[:5]:
            where = f"line {difference.line}" if difference.line else f"byte {difference.offset}"
            case = f"{difference.case}: " if difference.case else ""
            click.echo(f"  {case}{difference.item}, {where}: {difference.expected} became {difference.got}")
    print_reasons(shape.reasons, indent="")
    click.echo(f"Result: {shape.state}")
    if shape.state == "nothing-shown":
        print_note("Give inputs that reach what the update changes.")
