"""`hotmend ps`: which running processes map which image, at which build."""

from __future__ import annotations

import click

from hotmend.cli.output import ExitCode, Steps, print_json, print_note, print_table
from hotmend.cli.shapes import MappedImageShape, ProcessShape
from hotmend.linux.process import MappedImage, ProcessImages, process_images, processes_mapping
from hotmend.live.registry import AppliedHotpatch, process_status
from hotmend.model.errors import HotmendError


@click.command("ps")
@click.option("--pid", "pids", type=click.IntRange(min=1), multiple=True, help="Only this process; can be repeated.")
@click.option("--outdated", is_flag=True, help="Only images that are not what the file on disk holds now.")
@click.option("--json", "as_json", is_flag=True, help="One object per process.")
def ps_command(pids: tuple[int, ...], outdated: bool, as_json: bool) -> int:
    """List the images that running processes map.

    Identity is the build-id in memory. An image is outdated when the file at its path, in the process's own
    mount namespace, is another build now; it is deleted when there is no such file any more.
    """
    with Steps(threaded=False) as steps:
        steps("looking at processes", 0, 1)
        found = [process_images(pid) for pid in pids] if pids else processes_mapping()
        shapes = []
        for number, process in enumerate(found):
            steps("reading memory", number, len(found))
            shapes.append(_shape(process, outdated=outdated))
    shapes = [shape for shape in shapes if shape.images or not outdated]
    if as_json:
        for shape in shapes:
            print_json(shape)
    else:
        _print(shapes)
    return ExitCode.DONE


def _applied(pid: int) -> list[AppliedHotpatch]:
    """A process that ended meanwhile has nothing applied."""
    try:
        return [applied for applied in process_status(pid) if applied.active]
    except HotmendError:
        return []


def _shape(process: ProcessImages, *, outdated: bool) -> ProcessShape:
    applied = _applied(process.pid)
    images = tuple(
        MappedImageShape(
            path=image.path,
            build_id=image.build_id,
            load_address=image.start,
            disk_build_id=image.disk_build_id,
            state=_state(image),
            hotpatches=tuple(a.id for a in applied if a.old_build_id == image.build_id),
        )
        for image in process.images
        if not outdated or _state(image) != "current"
    )
    return ProcessShape(process.pid, process.comm, process.start_time_ticks, images)


def _state(image: MappedImage) -> str:
    if image.outdated:
        return "outdated"
    return "deleted" if image.disk_build_id is None and image.build_id else "current"


def _print(shapes: list[ProcessShape]) -> None:
    if not shapes:
        print_note("No process was found.")
        return
    print_table(
        "",
        ("#pid", "command", "state", "build-id", "hotpatch", "image"),
        (
            (s.pid, s.comm, i.state, i.build_id[:16] or "none", ", ".join(i.hotpatches) or "-", i.path)
            for s in shapes
            for i in s.images
        ),
    )
