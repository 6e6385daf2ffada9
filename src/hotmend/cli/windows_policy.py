"""`hotmend windows policy`: the update client's policy as a registration file."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from hotmend.cli.output import ExitCode, print_note
from hotmend.model.errors import InputError, UsageError
from hotmend.reference.texts import LANGUAGES, Reader, language_of
from hotmend.servicing.facts_json import FACTS_BYTES_MAX, facts_decode
from hotmend.servicing.maintenance import POLICY_BYTES_MAX, policy_parse
from hotmend.servicing.message import message
from hotmend.windows.policy import client_values, current_values, values_of_facts
from hotmend.windows.regfile import Keys, encode_reg
from hotmend.windows.registry import local_machine

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command("policy")
@click.option("--policy", "policy_file", type=_FILE, help="Make it from this maintenance policy.")
@click.option("--facts", type=_FILE, help="Make it from what these facts say of a machine.")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write into this file.")
@click.option("--language", type=click.Choice(LANGUAGES), help="Of the answers (default: the locale's).")
def policy_command(policy_file: Path | None, facts: Path | None, output: Path | None, language: str | None) -> int:
    """Print the update client's policy as a registration file: by default this machine's own, as it is."""
    reader = Reader(language or language_of())
    if policy_file is not None and facts is not None:
        raise UsageError("--policy and --facts are two different sources", "give one of them")
    if policy_file is not None:
        policy = policy_parse(_read(policy_file, POLICY_BYTES_MAX).decode("utf-8", "replace"), str(policy_file))
        keys, reasons = client_values(policy)
        for reason in reasons:
            print_note(f"{reader.text(reason.sentence)} [{reason.code}] {', '.join(reason.subjects)}")
        if keys is None:
            return ExitCode.REFUSED
    else:
        keys = _of_facts(facts, reader) if facts is not None else current_values(local_machine())
    if not keys:
        print_note(reader.text("no policy is set"))
        return ExitCode.NOTHING_TO_DO
    data = encode_reg(keys)
    if output is not None:
        output.write_bytes(data)
    else:
        sys.stdout.buffer.write(data)
        sys.stdout.flush()
    return ExitCode.DONE


def _of_facts(path: Path, reader: Reader) -> Keys:
    windows = facts_decode(_read(path, FACTS_BYTES_MAX), str(path)).windows
    if windows is None:
        raise InputError("{source}: not a Windows machine's facts", source=str(path))
    keys, unclear = values_of_facts(windows.policy)
    if unclear:
        print_note(reader.write(message("left out, their type is not known: {names}", names=", ".join(unclear))))
    return keys


def _read(path: Path, bytes_max: int) -> bytes:
    with path.open("rb") as source:
        return source.read(bytes_max + 1)
