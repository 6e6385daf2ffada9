"""How long a rehearsal takes over what it watches, and what `hotmend verify` shows on stock libraries, in how long."""

from __future__ import annotations

import lzma
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.report import Figure
from tests.servers.command import hotmend_run, pid_words
from tests.servers.packages import deb_fetch, pair_find
from tests.servers.process import Server

WATCHED_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Library:
    """A library and the program that shows it.

    Attributes:
        package: of the library.
        others: packages of the same source that are needed besides.
        input: what the program reads.
        program: with arguments.
    """

    package: str
    others: tuple[str, ...]
    input: bytes
    program: tuple[str, ...]


XML = b"""<?xml version="1.0"?><!DOCTYPE r [<!ELEMENT r (a*)><!ELEMENT a (#PCDATA)><!ATTLIST a id ID #REQUIRED>]>
<r><a id="i1">text</a><a id="i2">more</a></r>
"""
LIBRARIES = (
    Library("liblzma5", ("xz-utils",), lzma.compress(b"some words\n" * 20_000), ("xz", "-dc", "{}")),
    Library("libxml2", ("libxml2-utils",), XML, ("xmllint", "--valid", "--c14n", "{}")),
    Library("libssl3", ("openssl",), b"a text\n" * 1000, ("openssl", "dgst", "-sha256", "{}")),
)


def rehearsal_measure(server: Server, hotpatch: Path) -> Iterator[Figure]:
    """Yield what one rehearsal of the server, and the change after it, took."""
    options = ["--rehearse", "--rehearse-seconds", str(WATCHED_SECONDS)]
    ran = hotmend_run("apply", str(hotpatch), *options, *pid_words(server.pids()))
    assert ran.code == 0, ran.told()
    stand_in = ran.objects[0]["stand_in"]
    note = f"{stand_in['processes']} processes of the stand-in, {stand_in['redirected']} functions"
    yield Figure("Rehearsal", f"{server.name}, whole command", ran.seconds, "s", WATCHED_SECONDS, "watched", note)


def verify_measure(folder: Path) -> Iterator[Figure]:
    """Yield what the verification of each library took; of the safe part where an image is refused as a whole."""
    folder.mkdir(parents=True)
    for library in LIBRARIES:
        pair = pair_find(library.package)
        hotpatch, file = folder / f"{library.package}.hotmend", folder / "input"
        hotmend_run("build", str(pair.old), str(pair.new), "-o", str(hotpatch), "--partial", "--keep-going")
        file.write_bytes(library.input)
        others = [word for name in library.others for word in ("--with", str(deb_fetch(name, pair.old_version)))]
        sides = ["--old", str(pair.old), "--new", str(pair.new), *others, "--input", str(file)]
        ran = hotmend_run("verify", str(hotpatch), *sides, "--", *library.program)
        shape = ran.objects[0]
        if "state" not in shape:
            raise RuntimeError(ran.told())
        note = f"{shape['state']}: {len(shape['reached'])} of {shape['redirected']} redirected functions ran"
        yield Figure("Verify", f"{library.package} by {library.program[0]}", ran.seconds, "s", note=note)
