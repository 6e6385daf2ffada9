"""Types of a file, read in a child process.

Debug information is read by a C library and may be hostile, damaged or merely huge. The child has limits of memory and
time; if it dies of them, the caller gets an error and goes on without types. `python -m hotmend.debug.read` is
the child: two descriptors in its arguments, the types on its standard output.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import msgspec

from hotmend.debug.reader import read_types
from hotmend.linux.libdw import DebugData
from hotmend.model.errors import InputError
from hotmend.model.types import Types

SECONDS_MAX: Final = 300
MEMORY_BYTES_MAX: Final = 6 << 30
RESULT_BYTES_MAX: Final = 1 << 29
_FAILED = 3


class Reading:
    """A file being read by a child of its own, so that both builds can be read at once."""

    def __init__(self, path: Path, source: str, build_id: str, supplement: Path | None = None) -> None:
        """Start reading.

        Args:
            path: the file with the debug information.
            source: what to call it.
            build_id: of the image it belongs to.
            supplement: the file that it shares debugging entries with (`.gnu_debugaltlink`).

        Raises:
            InputError: a file cannot be opened.
        """
        self._source = source
        with ExitStack() as stack:
            descriptors = [_open(stack, p) for p in (path, supplement) if p is not None]
            self._result = tempfile.TemporaryFile()  # noqa: SIM115 - both live as long as the child
            self._complaint = tempfile.TemporaryFile()  # noqa: SIM115
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", __name__, source, build_id, *map(str, descriptors)],
                stdin=subprocess.DEVNULL,
                stdout=self._result,
                stderr=self._complaint,
                pass_fds=descriptors,
                # libdw would ask a debuginfod server by itself; what is fetched is decided elsewhere.
                env={k: v for k, v in os.environ.items() if not k.startswith("DEBUGINFOD")},
            )

    def types(self) -> Types:
        """Wait for the result.

        Raises:
            InputError: the debug information is damaged, of an unknown kind, or over a limit.
        """
        try:
            state = self._process.wait(SECONDS_MAX)
        except subprocess.TimeoutExpired:
            raise InputError(f"{self._source}: not read within {SECONDS_MAX} s") from None
        finally:
            self._stop()
        with self._result, self._complaint:
            if state == _FAILED:
                self._complaint.seek(0)
                raise InputError(f"{self._source}: {self._complaint.read(2000).decode('utf-8', 'replace').strip()}")
            if state != 0:
                raise InputError(f"{self._source}: damaged debug information, or over a limit (reader ended: {state})")
            if self._result.tell() > RESULT_BYTES_MAX:
                raise InputError(f"{self._source}: more than {RESULT_BYTES_MAX} bytes of types")
            self._result.seek(0)
            try:
                return msgspec.msgpack.decode(self._result.read(), type=Types)
            except msgspec.MsgspecError as error:
                raise InputError(f"{self._source}: the reader's answer cannot be read ({error})") from error

    def _stop(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def cancel(self) -> None:
        """End the child; the result is not wanted."""
        self._stop()
        self._result.close()
        self._complaint.close()


def _open(stack: ExitStack, path: Path) -> int:
    try:
        return stack.enter_context(path.open("rb")).fileno()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error


def main(arguments: Sequence[str]) -> int:
    """Read types in this process, under limits, and write them to standard output."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS_MAX, SECONDS_MAX))
    source, build_id, *descriptors = arguments
    try:
        with DebugData(*map(int, descriptors)) as data:
            types = read_types(data, source, build_id)
    except InputError as error:
        sys.stderr.write(str(error))
        return _FAILED
    except MemoryError:
        sys.stderr.write(f"needs more than {MEMORY_BYTES_MAX} bytes of memory")
        return _FAILED
    except RecursionError:
        sys.stderr.write("debugging entries are nested too deep")
        return _FAILED
    sys.stdout.buffer.write(msgspec.msgpack.encode(types))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
