"""Decoders: whatever comes in, a value or InputError goes out; whatever goes out comes back."""

from __future__ import annotations

import io
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tuf.api.metadata import Targets

from hotmend.model.errors import InputError
from hotmend.model.verdict import Reason, Severity, Verdict
from hotmend.repository import metadata
from hotmend.repository.archive import archive_bytes, archive_members, archive_read
from hotmend.repository.documents import index_decode, index_encode, release_decode, release_encode
from hotmend.repository.releases import (
    AnyRelease,
    KnownIssue,
    PackageStep,
    ReleaseImage,
    UnplannedBaseline,
    Withdrawal,
    index_of,
)
from hotmend.repository.requests import request_decode, signatures_decode
from hotmend.servicing.known_issues import Condition, Option, Step
from hotmend.servicing.on_linux import OnLinux
from tests.repository.kit import CHANNEL, baseline, hotpatch

_moments = st.datetimes(timezones=st.just(UTC))
_lines = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=30)
_ids = st.from_regex(r"[a-z0-9][a-z0-9.-]{0,20}", fullmatch=True)
_build_ids = st.binary(min_size=1, max_size=64).map(bytes.hex)
_counts = st.integers(0, 1 << 62)
_reasons = st.builds(Reason, _lines, st.sampled_from(Severity), _lines, st.lists(_lines, max_size=2).map(tuple))
_images = st.builds(
    ReleaseImage,
    path=_lines, package=_lines, old_version=_lines, new_version=_lines, old_build_id=_build_ids,
    new_build_id=_build_ids, verdict=st.sampled_from(Verdict), reasons=st.lists(_reasons, max_size=2).map(tuple),
    reconstructed=_counts, reconstructible=_counts, changed=_counts, added=_counts,
)  # fmt: skip


_questions = st.builds(
    OnLinux, package=_lines.filter(bool).map(lambda line: line[:100]), runs=st.just(("/usr/sbin/x",))
)
_conditions = st.recursive(
    st.builds(Condition, linux=_questions),
    lambda inner: (
        st.builds(Condition, all_of=st.lists(inner, min_size=1, max_size=2).map(tuple))
        | st.builds(Condition, not_=inner)
    ),
    max_leaves=3,
)
_options = st.builds(
    Option,
    st.just("o"),
    st.just("O"),
    st.lists(st.builds(Step, st.just("s"), _conditions, st.just(("x",)), st.booleans()), min_size=1, max_size=2).map(
        tuple
    ),
)


@st.composite
def _issues(draw: st.DrawFn) -> KnownIssue:
    options = tuple(draw(st.lists(_options, max_size=2)))
    return KnownIssue(
        draw(_lines),
        draw(_moments),
        draw(_lines),
        affected=draw(st.none() | _conditions),
        options=options,
        deadline=draw(st.none() | st.dates()) if options else None,
        cost=draw(_lines),
    )


@st.composite
def _releases(draw: st.DrawFn) -> AnyRelease:
    made = draw(_moments)
    release = draw(
        st.sampled_from((
            baseline(made),
            hotpatch(made),
            UnplannedBaseline(
                1, "u", CHANNEL, "", made, "security", "high", (), "", (), None, "b",
                (PackageStep("libexpat1", "1", "2"),), tuple(draw(st.lists(_images, max_size=3))),
            ),
        ))
    )  # fmt: skip
    changed: AnyRelease = msgspec.structs.replace(  # type: ignore[assignment]
        release,
        id=draw(_ids),
        title=draw(_lines),
        notes=draw(_lines) + "\n" + draw(_lines),
        cves=tuple(draw(st.lists(st.from_regex(r"CVE-[0-9]{4}-[0-9]{4,12}", fullmatch=True), max_size=3))),
        known_issues=tuple(draw(st.lists(_issues(), max_size=2))),
        withdrawn=draw(st.none() | st.builds(Withdrawal, _moments, _lines)),
    )
    return changed


@given(_releases())
@settings(max_examples=60, deadline=None)
def test_a_release_comes_back(release: AnyRelease) -> None:
    data = release_encode(release)
    assert release_decode(data) == release
    assert release_encode(release_decode(data)) == data
    index = index_of(CHANNEL, "stable", (release,))
    assert index_decode(index_encode(index)) == index


@given(_releases(), st.data())
@settings(max_examples=80, deadline=None)
def test_a_damaged_release_is_an_input_error_or_another_release(release: AnyRelease, data: st.DataObject) -> None:
    document = bytearray(release_encode(release))
    for _ in range(data.draw(st.integers(1, 4))):
        document[data.draw(st.integers(0, len(document) - 1))] = data.draw(st.integers(0, 255))
    try:
        again = release_decode(bytes(document))
    except InputError:
        return
    assert release_decode(release_encode(again)) == again


@given(st.binary(max_size=300))
@settings(max_examples=80, deadline=None)
def test_rubbish_is_an_input_error(data: bytes) -> None:
    for decode in (
        lambda: release_decode(data),
        lambda: index_decode(data),
        lambda: request_decode(data),
        lambda: signatures_decode(data, "x"),
        lambda: archive_read(data, 1000),
        lambda: metadata.parse(data, Targets, "x"),
    ):
        with pytest.raises(InputError):
            decode()


@pytest.mark.parametrize("text", ["[" * 100_000, '{"kind":"hotpatch"}', '{"kind":"other"}', "null", "1" * 5000])
def test_json_that_is_no_release_is_an_input_error(text: str) -> None:
    with pytest.raises(InputError):
        release_decode(text.encode())


@pytest.mark.parametrize("name", ["../x", "/x", "a//b", "a/./b", "a\nb", ""])
def test_an_archive_has_plain_names(name: str) -> None:
    with pytest.raises(InputError):
        list(archive_members(io.BytesIO(archive_bytes({name: b"x"}))))


@given(st.dictionaries(_ids, st.binary(max_size=600), max_size=4))
@settings(max_examples=30, deadline=None)
def test_an_archive_comes_back(files: dict[str, bytes]) -> None:
    assert archive_read(archive_bytes(files), 1000) == files


def test_control_characters_reach_no_terminal() -> None:
    with pytest.raises(InputError, match="title"):
        release_encode(msgspec.structs.replace(baseline(moment()), title="\x1b[2J"))


def test_two_bundles_for_one_old_build_are_refused() -> None:
    release = hotpatch(moment())
    twice = msgspec.structs.replace(release.files[0], name="other.hotmend")
    with pytest.raises(InputError, match="twice"):
        release_encode(msgspec.structs.replace(release, files=(*release.files, twice)))


def moment() -> datetime:
    return datetime(2026, 11, 1, tzinfo=UTC)
