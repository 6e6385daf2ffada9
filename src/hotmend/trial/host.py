"""One build in a host: a cell in which a program, or calls, run once over each input with that build.

The host is held when the image is mapped and nothing of it has run, or, with calls, when those are done that are to
come before. In this moment it is checked which builds it maps, and the hotpatch is applied by the engine that changes
servers.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hotmend.linux import entry, procfs
from hotmend.linux.breakpoints import Watch
from hotmend.linux.process import process_images
from hotmend.live.driver import Options, ProcessResult, apply
from hotmend.live.needs import Refusal
from hotmend.live.registry import process_status
from hotmend.model.addresses import BuildId
from hotmend.model.errors import HotmendError, InputError, ProcessGoneError
from hotmend.model.hotpatch import Hotpatch
from hotmend.model.verdict import refusal
from hotmend.trial.calls import Calls
from hotmend.trial.cell import Cell, CellError
from hotmend.trial.compare import Observation, without
from hotmend.trial.contents import OUT, WORK, Contents, Running, Start
from hotmend.trial.trials import LIBRARIES, Side, Trial

SEARCH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
PLACEHOLDER = "{}"
"""In a program's arguments: the name of the input."""


@dataclass(slots=True)
class HostRun:
    """What one host gave.

    Attributes:
        observations: one for each case.
        changes: what `apply` said, for each case.
        reached: names of changed functions that ran; only of a watched host.
        mapped: build-ids of the update that the host had.
    """

    observations: list[Observation] = field(default_factory=list)
    changes: list[ProcessResult] = field(default_factory=list)
    reached: set[str] = field(default_factory=set)
    mapped: set[BuildId] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Host:
    """One build, one trial.

    Attributes:
        side, trial: what runs.
        expected: build-ids of which it must map one.
        hotpatches: applied before anything of the image runs; () for none.
        watch: see which changed functions run; the outputs are then of no use.
    """

    side: Side
    trial: Trial
    expected: frozenset[BuildId]
    hotpatches: tuple[Hotpatch, ...] = ()
    watch: bool = False

    def run(self) -> HostRun:
        """Run every case.

        Raises:
            Refusal: the host does not map the build, or refuses the hotpatch.
            CellError: there can be no host.
        """
        result = HostRun()
        with contextlib.ExitStack() as stack:
            cell = stack.enter_context(Cell(self._contents(stack), self.trial.size_bytes))
            for number, (name, path) in enumerate(self.trial.cases):
                result.observations.append(self._run_case(cell, number, name, path, result))
                cell.kill()
        return result

    def _contents(self, stack: contextlib.ExitStack) -> Contents:
        """Open everything that goes into the cell."""

        def opened(path: Path) -> int:
            try:
                return stack.enter_context(path.open("rb")).fileno()
            except OSError as error:
                raise InputError(f"{path}: {error.strerror or error}") from error

        inputs = [[] if path is None else [path] for _, path in self.trial.cases]
        program = self.trial.program[:1]
        return Contents(
            packages=tuple(opened(path) for path in self.side.packages),
            copies=tuple((opened(path), name) for path, name in self.side.copies),
            work=tuple(tuple((opened(path), path.name) for path in paths) for paths in inputs),
            owner=self.trial.user,
            reachable=tuple(
                dict.fromkeys([*(name for _, name in self.side.copies), *(p for p in program if p[0] == "/")])
            ),
        )

    def _run_case(self, cell: Cell, number: int, name: str, path: Path | None, result: HostRun) -> Observation:
        directory = f"{WORK}/{number}"
        start = self._start(cell, number, directory, path)
        running = cell.start(start)
        status = self._run_calls(cell, running, result) if start.calls else self._run_program(cell, running, result)
        observed = self._observed(cell, number, status)
        return Observation(name, tuple((item, without(self.trial.ignored, content)) for item, content in observed))

    def _start(self, cell: Cell, number: int, directory: str, path: Path | None) -> Start:
        trial = self.trial
        environment = {
            "PATH": ":".join(SEARCH),
            "HOME": directory,
            "LANG": "C.UTF-8",
            "TZ": "UTC",
            "LD_LIBRARY_PATH": LIBRARIES,
            # Imports that nothing has used yet could not be resolved in the process otherwise.
            "LD_BIND_NOW": "1",
            **trial.environment,
        }
        named = any(PLACEHOLDER in word for word in trial.program)
        words = tuple(word.replace(PLACEHOLDER, path.name if path else "") for word in trial.program)
        return Start(
            name=str(number),
            program=find_program(cell, trial.program[0]) if trial.program else "",
            arguments=words,
            environment=environment,
            directory=directory,
            user=trial.user,
            limits=trial.limits,
            standard_input="/dev/null" if path is None or named else f"{directory}/{path.name}",
            calls=self._calls(trial.calls, number) if trial.calls else None,
        )

    def _calls(self, calls: Calls, number: int) -> dict[str, Any]:
        """Return the calls as the host takes them."""
        return {
            "library": self.side.library,
            "before": calls.before,
            "calls": calls.calls,
            "results": f"{OUT}/{number}.results",
        }

    def _run_program(self, cell: Cell, running: Running, result: HostRun) -> int | None:
        """Hold the program at its entry point, change it, and let it run."""
        try:
            held = entry.hold(running.pid, lambda: _begin(cell, running), self.trial.seconds)
            self._check_images(running.pid, result)
            new = self._apply(running.pid, result)
            if self.watch:
                self._watch(running.pid, new, result, patch=((held.entry, held.original),))
                return None
            held.release()
        except ProcessGoneError as error:
            raise Refusal(
                refusal("host-did-not-start", f"the program ended before its first instruction: {error}")
            ) from error
        return cell.wait(running, self.trial.seconds)

    def _run_calls(self, cell: Cell, running: Running, result: HostRun) -> int | None:
        """Have the first calls made, change the process, and have the others made."""
        try:
            in_time = cell.go(running, self.trial.seconds)
        except CellError as error:
            raise Refusal(
                refusal("host-did-not-start", f"the library cannot be loaded: {error}", self.side.library)
            ) from error
        status = cell.wait(running, 0)
        if not in_time or status is not None:
            return status
        self._check_images(running.pid, result)
        new = self._apply(running.pid, result)
        if self.watch:
            self._watch(running.pid, new, result, begin=lambda: cell.go(running, 0))
            return None
        cell.go(running, self.trial.seconds)
        return cell.wait(running, self.trial.seconds)

    def _check_images(self, pid: int, result: HostRun) -> None:
        """Refuse a host that runs something else than it should."""
        mapped = {image.build_id for image in process_images(pid).images} & self.expected
        if not mapped:
            raise Refusal(
                refusal(
                    "build-not-mapped",
                    f"the host does not map the build of {self.side.label} that the update is about",
                    *sorted(self.expected),
                )
            )
        result.mapped |= mapped

    def _apply(self, pid: int, result: HostRun) -> dict[int, str]:
        """Apply the hotpatches; return the new functions by load address, as the process itself has them."""
        if not self.hotpatches:
            return {}
        (change,) = apply(self.hotpatches, [pid], Options(max_pause_us=100_000))
        result.changes.append(change)
        status = process_status(pid) if change.state == "applied" else []
        if change.state != "applied" or not status or not all(hotpatch.active for hotpatch in status):
            reasons = change.reasons or (refusal("kernel-error", f"the host ended as {change.state}"),)
            raise Refusal(*reasons)
        return {function.new: function.name for hotpatch in status for function in hotpatch.functions}

    def _watch(
        self,
        pid: int,
        new: Mapping[int, str],
        result: HostRun,
        *,
        patch: Sequence[tuple[int, bytes]] = (),
        begin: Any = lambda: None,
    ) -> None:
        watch = Watch(pid, frozenset(new))
        watch.begin(patch)
        begin()
        watch.run(self.trial.seconds)
        result.reached |= {new[address] for address in watch.reached}

    def _observed(self, cell: Cell, number: int, status: int | None) -> Iterator[tuple[str, bytes]]:
        """Yield what the run left behind. Where it had to be ended, how far it came says nothing."""
        yield "end", end_text(status).encode()
        if status is None:
            return
        if self.trial.calls:
            yield from _results(cell.output(f"{number}.results"), self.trial.calls.calls)
            return
        yield "standard output", cell.output(f"{number}.stdout")
        yield "standard error", cell.output(f"{number}.stderr")
        for name, content in cell.files(f"{WORK}/{number}"):
            yield f"file {name}", content


def _begin(cell: Cell, running: Running) -> None:
    try:
        cell.go(running)
    except CellError as error:
        raise Refusal(refusal("host-did-not-start", f"the program cannot be started: {error}")) from error


def _results(text: bytes, calls: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, bytes]]:
    """Yield the results of the calls that came back; after a crash those are not all."""
    for call, line in zip(calls, text.splitlines(), strict=False):
        result = json.loads(line)
        yield f"{call['name']}: result", result["value"].encode()
        for number, content in enumerate(result["buffers"], 1):
            yield f"{call['name']}: buffer {number}", bytes.fromhex(content)


def end_text(status: int | None) -> str:
    """Return how a program ended, in words."""
    if status is None:
        return "ended by the time limit"
    if os.WIFSIGNALED(status):
        with contextlib.suppress(ValueError):
            return f"killed by {signal.Signals(os.WTERMSIG(status)).name}"
        return f"killed by signal {os.WTERMSIG(status)}"
    return f"exit status {os.WEXITSTATUS(status)}"


def find_program(cell: Cell, name: str) -> str:
    """Return the path, in the cell, of a program given by path or by name.

    Raises:
        InputError: there is none.
    """
    candidates = [os.path.abspath(name)] if "/" in name else [f"{folder}/{name}" for folder in SEARCH]
    for path in candidates:
        with contextlib.suppress(OSError, HotmendError):
            os.lstat(procfs.rooted(cell.first, path))
            return path
    raise InputError(
        f"{name}: there is no such program", "lay the package that has it over with --with PACKAGE=VERSION"
    )
