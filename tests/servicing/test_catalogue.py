"""The product catalogue: which machine is which product, what is refused, and that a product is data."""

from __future__ import annotations

import dataclasses
import re

import pytest

from hotmend.model.errors import InputError
from hotmend.reference.shipped import data_text
from hotmend.servicing import products
from hotmend.servicing.evaluate import Program, evaluate
from hotmend.servicing.facts import Environment, ImageKind, MachineFacts, ScaleSet
from hotmend.servicing.products import catalogue_parse, identify
from hotmend.servicing.releases import Line
from hotmend.servicing.remedies import remedies_parse
from hotmend.windows.remedies import NAMES
from tests.servicing.machines import PROGRAM, at, changed, linux, machine, windows

SERVER, DEBIAN = machine(windows()), machine(linux())
CATALOGUE = data_text("products.toml")
PREVIEW = """
[[product]]
id = "windows-server-2028"
name = "Windows Server 2028"
channel = "Windows Server 2028"
match = { build = [30000], edition = ["ServerStandard"] }
minimum_revision = 500
needs = ["minimum-build", "not-preview", "vsm"]
enrollment = "portal"

[[channel]]
name = "Windows Server 2028"
platform = "windows"
baseline_months = [2, 5, 8, 11]
"""


def _product(facts: MachineFacts) -> tuple[str | None, tuple[str, ...]]:
    found = identify(PROGRAM.catalogue, facts)
    return (found.product.id if found.product else None, found.unknown)


@pytest.mark.parametrize(
    ("build", "edition", "installation", "product"),
    [
        (26100, "ServerStandard", "Server", "windows-server-2025"),
        (26100, "ServerDatacenter", "Server Core", "windows-server-2025"),
        (26100, "ServerTurbine", "Server", "windows-server-2025-azure-edition"),
        (26100, "ServerTurbineCor", "Server Core", "windows-server-2025-azure-edition"),
        (20348, "ServerTurbine", "Server", "windows-server-2022-azure-edition"),
        (20348, "ServerTurbineCor", "Server Core", "windows-server-2022-azure-edition"),
        (20348, "ServerDatacenter", "Server", "windows-server-2022"),
        (20348, "ServerStandard", "Server Core", "windows-server-2022"),
        (26100, "Enterprise", "Client", "windows-11-enterprise"),
        (26200, "Education", "Client", "windows-11-enterprise"),
        (22631, "Enterprise", "Client", "windows-11-other"),
        (26100, "Professional", "Client", "windows-11-other"),
        (17763, "ServerDatacenter", "Server", "windows-server-older"),
        (26100, "ServerDatacenter", "Nano Server", None),
        (27842, "ServerDatacenter", "Server", None),
    ],
)
def test_which_product_a_windows_machine_is(build: int, edition: str, installation: str, product: str | None) -> None:
    facts = changed(SERVER, windows__build=build, windows__edition=edition, windows__installation=installation)
    assert _product(facts) == (product, ())


def test_which_product_a_debian_machine_is() -> None:
    assert _product(DEBIAN) == ("debian-12", ())
    assert _product(changed(DEBIAN, linux__release="13")) == ("debian-13", ())
    assert _product(changed(DEBIAN, linux__release="11")) == (None, ())
    assert _product(changed(DEBIAN, architecture="arm64")) == ("debian-other-architecture", ())
    assert _product(changed(DEBIAN, linux__distribution="ubuntu")) == (None, ())


def test_what_is_not_known_is_asked_for_and_not_guessed() -> None:
    assert _product(changed(SERVER, windows__edition=None)) == (None, ("edition",))
    assert _product(changed(SERVER, windows__edition=None, windows__build=None)) == (None, ("build", "edition"))
    assert _product(changed(DEBIAN, architecture=None)) == (None, ("architecture",))


@pytest.mark.parametrize("environment", ["physical", "hyper-v", "vmware", "azure-local", "other-cloud", "azure"])
def test_where_windows_server_2025_has_hotpatch(environment: Environment) -> None:
    facts = changed(SERVER, environment=environment, windows__vsm__vm_generation=2)
    assert evaluate(facts, PROGRAM, at("2025-10-20")).eligibility.eligible is (environment != "azure")


@pytest.mark.parametrize(
    ("sku", "eligible"),
    [
        ("2022-Datacenter-Azure-Edition-Core", True),
        ("2022-Datacenter-Azure-Edition-Core-smalldisk", True),
        ("2022-Datacenter-Azure-Edition-Hotpatch", True),
        ("2022-Datacenter-Azure-Edition-Hotpatch-smalldisk", True),
        ("2022-datacenter-azure-edition", False),
        ("2025-Datacenter-Azure-Edition", True),
        ("2025-Datacenter-Azure-Edition-smalldisk", True),
        ("2025-Datacenter-Azure-Edition-Core", True),
        ("2025-Datacenter-Azure-Edition-Core-smalldisk", True),
        ("2025-Datacenter", False),
    ],
)
def test_the_table_of_images(sku: str, eligible: bool) -> None:
    facts = changed(
        SERVER,
        environment="azure",
        windows__build=26100 if sku.startswith("2025") else 20348,
        windows__edition="ServerTurbine",
        windows__vsm__vm_generation=2,
        windows__image__kind="marketplace",
        windows__image__publisher="MicrosoftWindowsServer",
        windows__image__offer="WindowsServer",
        windows__image__sku=sku,
    )
    found = evaluate(facts, PROGRAM, at("2025-10-20")).eligibility
    assert found.eligible is eligible
    assert [each.code for each in found.causes] == ["all-prerequisites" if eligible else "image-not-met"]


@pytest.mark.parametrize(("kind", "scale_set"), [("custom", "none"), ("container-base", "none"), (None, "uniform")])
def test_images_and_scale_sets_that_are_not_supported(kind: ImageKind | None, scale_set: ScaleSet) -> None:
    facts = changed(SERVER, windows__image__kind=kind or "own-installation", windows__scale_set=scale_set)
    assert evaluate(facts, PROGRAM, at("2025-10-20")).eligibility.eligible is False


def test_azure_edition_is_on_by_default_and_its_prerequisites_are_checked() -> None:
    facts = changed(SERVER, windows__edition="ServerTurbine", windows__hotpatch__enablement=None)
    answers = evaluate(facts, PROGRAM, at("2025-10-20"))
    needs = [each.name for each in answers.eligibility.checks]
    assert "arc" not in needs
    assert {"vsm", "uefi", "secure-boot", "image", "environment"} <= set(needs)
    assert answers.enrollment.state == "ACTION_REQUIRED"  # it runs on VMware, where this edition has no Hotpatch


def test_a_product_is_added_without_code() -> None:
    program = dataclasses.replace(PROGRAM, catalogue=catalogue_parse(CATALOGUE + PREVIEW))
    facts = changed(SERVER, windows__build=30000, windows__edition="ServerStandard", windows__revision=500)
    answers = evaluate(facts, program, at("2028-03-20"))
    assert answers.eligibility.product is not None
    assert answers.eligibility.product.name == "Windows Server 2028"
    assert answers.eligibility.eligible is True
    assert answers.level is not None
    assert answers.level.line is Line.UNKNOWN  # the calendar has no release of it yet
    assert answers.forecast is not None
    assert [due.day.month for due in answers.forecast.due if due.cause.code.startswith("baseline")] == [3, 5]
    older = evaluate(changed(facts, windows__revision=499), program, at("2028-03-20"))
    assert [each.code for each in older.eligibility.causes] == ["minimum-build-not-met"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x", "catalogue: "),
        ("[[product]]\nid = 1", "$.product[0].id"),
        (
            CATALOGUE + PREVIEW + "\n[[product]]\nid = 'x'\nname = 'x'\nnot_supported = 'no'\nmatch = {}",
            "matches every",
        ),
        (
            CATALOGUE + PREVIEW.replace("edition =", "colour ="),
            "windows-server-2028: nothing is known as 'colour'"
            " (known: build, edition, installation, distribution, release, architecture)",
        ),
        (CATALOGUE + PREVIEW.replace("[[channel]]", "[[product]]"), "product"),
        (CATALOGUE + PREVIEW.split("[[channel]]", maxsplit=1)[0], "no channel is called 'Windows Server 2028'"),
        (CATALOGUE + PREVIEW.replace("enrollment", "images = 'nowhere'\nenrollment"), "no image table is called 'now"),
        (CATALOGUE + PREVIEW.replace("enrollment", "not_supported = 'no'\nenrollment"), "`channel` or `not_supported`"),
        (
            CATALOGUE + re.sub("channel = .*\n", "", PREVIEW.split("[[channel]]", maxsplit=1)[0]),
            "needs `channel` or `not_supported`, and not both",
        ),
        (CATALOGUE + PREVIEW.replace("enrollment =", "enrolment ="), "enrolment"),
    ],
)
def test_a_catalogue_that_makes_no_sense_is_refused(text: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        catalogue_parse(text)
    assert words in str(caught.value)


def test_a_catalogue_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "CATALOGUE_BYTES_MAX", len(CATALOGUE))
    assert catalogue_parse(CATALOGUE).product
    with pytest.raises(InputError, match=r"^mine: larger than \d+ bytes$"):
        catalogue_parse(CATALOGUE + " ", "mine")


def test_images_may_be_those_of_a_table_of_any_or_of_an_own_installation() -> None:
    for images in ("any", "own", "azure-edition-2025"):
        text = CATALOGUE + PREVIEW.replace("enrollment", f"images = '{images}'\nenrollment")
        assert catalogue_parse(text).product[-1].images == images


def test_a_prerequisite_that_no_rule_knows_is_refused() -> None:
    catalogue = catalogue_parse(CATALOGUE + PREVIEW.replace('"vsm"]', '"vsm", "moon"]'))
    with pytest.raises(InputError, match=r"^product windows-server-2028: no prerequisite is called 'moon'$"):
        Program(catalogue, PROGRAM.calendar, PROGRAM.issues, PROGRAM.remedies)


def test_every_remedy_that_is_a_command_of_ours_exists() -> None:
    named = {option.remedy for issue in PROGRAM.issues for option in issue.options if option.remedy}
    typed = {
        command.split()[-1]
        for remedy in PROGRAM.remedies.values()
        for command in remedy.commands
        if command.startswith("hotmend windows apply ")
    }
    assert named == {"licence-bug-option-1", "licence-bug-option-2"}
    assert typed
    assert named | typed <= set(NAMES)


@pytest.mark.parametrize(
    "text", ["x", "remedy = [{}]", "[[remedy]]\nid='a'\ntitle='b'\nrisk='c'\nverify='d'\nrestart=''"]
)
def test_remedies_that_make_no_sense_are_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"^remedies: "):
        remedies_parse(text)


def test_remedies_that_are_too_large_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    text = data_text("remedies.toml")
    monkeypatch.setattr("hotmend.servicing.remedies.REMEDIES_BYTES_MAX", len(text))
    assert remedies_parse(text)["vsm-registry"].restart == "reboot"
    with pytest.raises(InputError, match=r"^mine: larger than \d+ bytes$"):
        remedies_parse(text + " ", "mine")
