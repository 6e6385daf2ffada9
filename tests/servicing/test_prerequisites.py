"""Every prerequisite: when it holds, when it does not, when nobody knows; with sentence and remedy."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from hotmend.servicing.eligibility import eligibility
from hotmend.servicing.facts import MachineFacts, RunningImage
from hotmend.servicing.prerequisites import CHECKS, Check, Setting, checks
from tests.servicing.machines import OLD, PROGRAM, at, because, changed, linux, machine, told, windows

SERVER = machine(windows())
NOW = at("2025-10-20")
_IMAGE = {
    "windows__image__publisher": "MicrosoftWindowsServer",
    "windows__image__offer": "WindowsServer",
    "windows__image__sku": "2025-Datacenter-Azure-Edition-Core",
    "windows__image__kind": "marketplace",
}
AZURE = changed(SERVER, environment="azure", windows__edition="ServerTurbine", **_IMAGE)
CLIENT = changed(
    SERVER,
    windows__edition="Enterprise",
    windows__installation="Client",
    windows__client__licence="E3",
    windows__client__entra_joined=True,
    windows__client__intune_managed=True,
)
ARM = changed(CLIENT, architecture="arm64")
DEBIAN = machine(linux())
_BARE = RunningImage("/opt/x", None)
_LANDS = ["physical", "hyper-v", "vmware", "azure-local", "other-cloud"]


def check(name: str, facts: MachineFacts) -> Check:
    """Return one check of whatever product the machine is."""
    product = eligibility(facts, PROGRAM.catalogue, PROGRAM.calendar, NOW).product
    assert product is not None
    return CHECKS[name](Setting(facts, product, PROGRAM.catalogue, PROGRAM.calendar, NOW))


CASES: list[tuple[str, MachineFacts, Mapping[str, object], bool | None, str, str]] = [
    ("minimum-build", SERVER, {}, True, "", "Build 26100.6899; at least 26100.1742 is needed."),
    ("minimum-build", SERVER, {"windows__revision": 1742}, True, "", "26100.1742;"),
    ("minimum-build", SERVER, {"windows__revision": 1741}, False, "install-baseline", "26100.1741;"),
    ("minimum-build", SERVER, {"windows__revision": None}, None, "collect-facts", "The build is not known."),
    ("minimum-build", CLIENT, {}, None, "collect-facts", "The build is not known."),
    ("not-preview", SERVER, {}, True, "", "No preview build."),
    ("not-preview", SERVER, {"windows__preview": True}, False, "leave-preview", "A preview or Insider build;"),
    ("not-preview", SERVER, {"windows__preview": None}, None, "collect-facts", "Whether this is a preview"),
    ("environment", AZURE, {}, True, "", "runs on azure; this product has Hotpatch on ('azure', 'azure-local') alone."),
    ("environment", AZURE, {"environment": "azure-local"}, True, "", "runs on azure-local;"),
    ("environment", AZURE, {"environment": "vmware"}, False, "supported-environment", "runs on vmware;"),
    ("environment", AZURE, {"environment": None}, None, "collect-facts", "Where the machine runs is not known."),
    *(("environment", SERVER, {"environment": where}, True, "", f"runs on {where};") for where in _LANDS),
    ("environment", SERVER, {"environment": "azure"}, False, "supported-environment", "runs on azure;"),
    ("environment", SERVER, {"environment": "container"}, False, "supported-environment", "runs on container;"),
    ("image", SERVER, {}, True, "", "Installed from a supported source (own-installation)."),
    ("image", SERVER, {"windows__image__kind": "custom"}, False, "supported-image", "not supported (custom)."),
    ("image", SERVER, {"windows__image__kind": "container-base"}, False, "supported-image", "(container-base)."),
    ("image", SERVER, {"windows__image__kind": None}, None, "collect-facts", "What image the machine was made from"),
    ("image", AZURE, {}, True, "", "Server 2025-Datacenter-Azure-Edition-Core is in the"),
    (
        "image",
        AZURE,
        {"windows__image__sku": "2025-g2"},
        False,
        "supported-image",
        "Image MicrosoftWindowsServer WindowsServer 2025-g2 is",
    ),
    ("image", AZURE, {"windows__image__publisher": "Contoso"}, False, "supported-image", "Contoso"),
    ("image", AZURE, {"windows__image__offer": "windows-11"}, False, "supported-image", "windows-11"),
    ("image", AZURE, {"windows__image__sku": None}, None, "collect-facts", "Publisher, offer or SKU of the image"),
    ("image", AZURE, {"windows__image__offer": None}, None, "collect-facts", "Publisher, offer or SKU of the image"),
    ("region", AZURE, {}, True, "", "The region is not known; only making a machine depends on it."),
    ("region", AZURE, {"windows__region": "uksouth"}, True, "", "Region uksouth is known to have the images."),
    (
        *("region", AZURE, {"windows__region": "westeurope"}, True, "other-region"),
        "Region westeurope is not known to have the images: making a machine there may answer HTTP 400;"
        " use ('uksouth', 'eastasia', 'westcentralus').",
    ),
    ("region", SERVER, {"windows__region": "uksouth"}, True, "other-region", "Region uksouth is not known"),
    ("scale-set", SERVER, {}, True, "", "Scale set orchestration: none; Uniform is not supported."),
    ("scale-set", SERVER, {"windows__scale_set": "flexible"}, True, "", "flexible"),
    ("scale-set", SERVER, {"windows__scale_set": "uniform"}, False, "leave-scale-set", "uniform"),
    ("scale-set", SERVER, {"windows__scale_set": None}, None, "collect-facts", "Whether the machine is in a scale set"),
    ("uefi", SERVER, {}, True, "", "UEFI firmware."),
    ("uefi", SERVER, {"windows__vsm__uefi": False}, False, "uefi", "No UEFI firmware."),
    ("uefi", SERVER, {"windows__vsm__uefi": None}, None, "uefi", "The kind of firmware is not known."),
    ("secure-boot", SERVER, {}, True, "", "Secure Boot is on."),
    ("secure-boot", SERVER, {"windows__vsm__secure_boot": False}, False, "secure-boot", "Secure Boot is off."),
    ("secure-boot", SERVER, {"windows__vsm__secure_boot": None}, None, "secure-boot", "Whether Secure Boot is on is"),
    ("generation-2", SERVER, {}, True, "", "No guest of Hyper-V."),
    ("generation-2", SERVER, {"environment": "physical"}, True, "", "No guest of Hyper-V."),
    ("generation-2", SERVER, {"environment": "other-cloud"}, True, "", "No guest of Hyper-V."),
    ("generation-2", SERVER, {"environment": "hyper-v"}, None, "collect-facts", "The generation of the virtual"),
    (
        *("generation-2", SERVER, {"environment": "hyper-v", "windows__vsm__vm_generation": 2}, True, ""),
        "Virtual machine of generation 2; 2 is needed.",
    ),
    ("generation-2", AZURE, {"windows__vsm__vm_generation": 1}, False, "generation-2", "generation 1; 2 is needed."),
    ("vsm", SERVER, {}, True, "", "VirtualizationBasedSecurityStatus is 2; 2 (running) is needed."),
    ("vsm", SERVER, {"windows__vsm__status_from": "systeminfo"}, True, "", "is 2;"),
    ("vsm", SERVER, {"windows__vsm__status": 0}, False, "vsm-registry", "Status is 0;"),
    ("vsm", SERVER, {"windows__vsm__status": 1, "windows__vsm__registry_value": 1}, False, "vsm-vendor", "is 1;"),
    (
        *("vsm", SERVER, {"windows__vsm__status": 1, "windows__vsm__features_configured": ("Credential Guard",)}),
        *(False, "vsm-vendor", "is 1;"),
    ),
    ("vsm", SERVER, {"windows__vsm__status": 0, "windows__vsm__registry_value": 0}, False, "vsm-registry", "is 0;"),
    (
        *("vsm", SERVER, {"windows__vsm__status": None, "windows__vsm__registry_value": 1}, None, "vsm-read"),
        "Whether virtual secure mode runs is not known; only status 2 is proof.",
    ),
    ("vsm", SERVER, {"windows__vsm__status_from": None}, None, "vsm-read", "Whether virtual secure mode runs"),
    ("arc", SERVER, {}, True, "", "Connected to Azure Arc."),
    (
        *("arc", SERVER, {"windows__arc__installed": False, "windows__arc__connected": False}, False, "arc-onboard"),
        "The Azure Arc agent is not installed.",
    ),
    (
        *("arc", SERVER, {"windows__arc__connected": False}, False, "arc-reconnect"),
        "The Azure Arc agent is installed, but not connected.",
    ),
    ("arc", SERVER, {"windows__arc__connected": None}, None, "arc-reconnect", "Whether the machine is connected to"),
    (
        *("arc", SERVER, {"windows__arc__connected": None, "windows__arc__installed": None}, None, "arc-onboard"),
        "Whether the machine is connected to Azure Arc is not known.",
    ),
    ("connectivity", SERVER, {}, True, "", "All endpoints were reached."),
    (
        *("connectivity", SERVER, {"windows__arc__endpoints": {"b": False, "a": False, "c": None}}),
        *(False, "endpoints", "Not reached: ('a', 'b')."),
    ),
    ("connectivity", SERVER, {"windows__arc__endpoints": {"a": True, "c": None}}, None, "endpoints", "Whether the end"),
    ("connectivity", SERVER, {"windows__arc__endpoints": {}}, None, "endpoints", "Whether the endpoints can be"),
    ("connectivity", SERVER, {"windows__arc__endpoints": None}, None, "endpoints", "Whether the endpoints can be"),
    ("subscription", SERVER, {}, True, "", "The subscription's status is Enabled."),
    ("subscription", SERVER, {"windows__hotpatch__subscription": "Disabled"}, False, "subscribe", "is Disabled."),
    ("subscription", SERVER, {"windows__hotpatch__subscription": "Enabling"}, False, "subscribe", "is Enabling."),
    ("subscription", SERVER, {"windows__hotpatch__subscription": "Unknown"}, None, "subscribe", "Whether there is a"),
    ("subscription", SERVER, {"windows__hotpatch__subscription": None}, None, "subscribe", "Whether there is a"),
    ("subscription", SERVER, {"windows__hotpatch__subscription_until": at("2025-10-21")}, True, "", "is Enabled."),
    (
        *("subscription", SERVER, {"windows__hotpatch__subscription_until": NOW}, False, "subscribe"),
        "The subscription ended on 2025-10-20: the next update is not a hotpatch.",
    ),
    (
        *("subscription", SERVER, {"windows__hotpatch__feature_licence_lapsed": True}, False, "licence-workaround"),
        "The machine's licence for Hotpatch has lapsed: its next update is not a hotpatch.",
    ),
    ("licence", CLIENT, {}, True, "", "Licence E3; one of ('E3', 'E5', 'A3', 'A5', 'F3', 'Windows 365') is needed."),
    ("licence", CLIENT, {"windows__client__licence": "E1"}, False, "licence", "Licence E1; one of"),
    ("licence", CLIENT, {"windows__client__licence": None}, None, "collect-facts", "The licence is not known."),
    ("entra", CLIENT, {}, True, "", "Linked to Entra."),
    ("entra", CLIENT, {"windows__client__entra_joined": False}, False, "entra-join", "Not linked to Entra."),
    ("entra", CLIENT, {"windows__client__entra_joined": None}, None, "entra-join", "Whether the machine is linked"),
    ("intune", CLIENT, {}, True, "", "Managed by Intune."),
    ("intune", CLIENT, {"windows__client__intune_managed": False}, False, "intune-enroll", "Not managed by Intune."),
    ("intune", CLIENT, {"windows__client__intune_managed": None}, None, "intune-enroll", "Whether the machine is man"),
    ("chpe", CLIENT, {}, True, "", "Concerns Arm64 alone."),
    ("chpe", ARM, {"windows__client__chpe_disabled": True}, True, "", "Compiled hybrid PE is off."),
    ("chpe", ARM, {"windows__client__chpe_disabled": False}, False, "chpe-off", "Compiled hybrid PE is on."),
    ("chpe", ARM, {}, None, "chpe-off", "Whether compiled hybrid PE is off is not known."),
    ("chpe", CLIENT, {"architecture": None, "windows__client__chpe_disabled": True}, None, "chpe-off", "Whether comp"),
    ("root", DEBIAN, {}, True, "", "Runs as root."),
    ("root", DEBIAN, {"linux__root": False}, False, "run-as-root", "Does not run as root."),
    ("root", DEBIAN, {"linux__root": None}, None, "run-as-root", "Whether hotmend may run as root is not known."),
    ("ptrace", DEBIAN, {}, True, "", "kernel.yama.ptrace_scope is 1; 3 forbids attaching to processes."),
    ("ptrace", DEBIAN, {"linux__ptrace_scope": 2}, True, "", "is 2;"),
    ("ptrace", DEBIAN, {"linux__ptrace_scope": 3}, False, "ptrace-scope", "is 3;"),
    ("ptrace", DEBIAN, {"linux__ptrace_scope": None}, None, "doctor", "kernel.yama.ptrace_scope is not known."),
    (
        *("lockdown", DEBIAN, {"linux__lockdown": "integrity"}, True, ""),
        "Kernel lockdown is integrity, which forbids nothing that is needed.",
    ),
    ("lockdown", DEBIAN, {"linux__lockdown": None}, None, "doctor", "The kernel's lockdown mode is not known."),
    ("memory-writable", DEBIAN, {}, True, "", "Memory of other processes can be written."),
    ("memory-writable", DEBIAN, {"linux__memory_writable": False}, False, "doctor", "Memory of other processes cannot"),
    ("memory-writable", DEBIAN, {"linux__memory_writable": None}, None, "doctor", "Whether memory of other processes"),
    ("seccomp-readable", DEBIAN, {}, True, "", "Seccomp filters of other processes can be read."),
    ("seccomp-readable", DEBIAN, {"linux__seccomp_readable": False}, False, "doctor", "filters of other processes can"),
    ("seccomp-readable", DEBIAN, {"linux__seccomp_readable": None}, None, "doctor", "Whether seccomp filters of other"),
    ("build-ids-known", DEBIAN, {}, True, "", "Every running image has a build-id."),
    (
        *("build-ids-known", DEBIAN, {"linux__images": (_BARE, RunningImage("/y", OLD))}, False, "distribution-build"),
        "Images without a known build-id: ('/opt/x',).",
    ),
    ("build-ids-known", DEBIAN, {"linux__images": None}, None, "collect-facts", "What the processes map is not known."),
    ("entitlement", DEBIAN, {}, True, "", "No entitlement is needed."),
    (
        *("entitlement", DEBIAN, {"linux__entitlement_needed": None}, None, "entitlement"),
        "Whether there is an entitlement is not known.",
    ),
    (
        *("entitlement", DEBIAN, {"linux__entitlement_needed": True, "linux__entitled_until": at("2025-10-21")}),
        *(True, "", "The entitlement ends on 2025-10-21."),
    ),
    (
        *("entitlement", DEBIAN, {"linux__entitlement_needed": True, "linux__entitled_until": NOW}),
        *(False, "entitlement", "The entitlement ends on 2025-10-20."),
    ),
]


@pytest.mark.parametrize(("name", "base", "changes", "holds", "remedy", "text"), CASES)
def test_a_prerequisite(
    name: str, base: MachineFacts, changes: Mapping[str, object], holds: bool | None, remedy: str, text: str
) -> None:
    found = check(name, changed(base, **changes))
    assert (found.name, found.holds, found.remedy) == (name, holds, remedy)
    assert text in told(found.found)
    assert found.cause.code == f"{name}-{ {True: 'met', False: 'not-met', None: 'unknown'}[holds] }"


def test_every_prerequisite_is_tried_and_every_no_has_a_remedy() -> None:
    assert {case[0] for case in CASES} == CHECKS.keys()
    for name, _, _, holds, remedy, _ in CASES:
        assert holds is True or remedy in PROGRAM.remedies, name
        assert not remedy or remedy in PROGRAM.remedies


_ENDS = {"windows__hotpatch__subscription_until", "windows__hotpatch__feature_licence_lapsed"}
"""An end that is not set, and a loss that was not found: there null says that there is none."""


@pytest.mark.parametrize("case", [case for case in CASES if case[3] is False])
def test_what_is_not_known_any_more_is_never_taken_for_a_yes(
    case: tuple[str, MachineFacts, Mapping[str, object], bool | None, str, str],
) -> None:
    _, base, changes, _, _, _ = case
    for field in changes.keys() - _ENDS:
        found = eligibility(changed(base, **{**changes, field: None}), PROGRAM.catalogue, PROGRAM.calendar, NOW)
        assert found.eligible is not True, field


def test_of_another_platform_everything_is_unknown() -> None:
    product = next(product for product in PROGRAM.catalogue.product if product.id == "windows-server-2025")
    found = checks(Setting(DEBIAN, product, PROGRAM.catalogue, PROGRAM.calendar, NOW))
    assert [each.name for each in found] == list(product.needs)
    assert {each.name for each in found if each.holds} == {"environment", "generation-2"}
    debian = next(product for product in PROGRAM.catalogue.product if product.id == "debian-12")
    assert [each.holds for each in checks(Setting(SERVER, debian, PROGRAM.catalogue, PROGRAM.calendar, NOW))] == [
        None
    ] * len(debian.needs)


@pytest.mark.parametrize(
    ("facts", "eligible", "causes"),
    [
        (
            SERVER,
            True,
            [("all-prerequisites", "Windows Server 2025 Standard or Datacenter: all 12 prerequisites hold.")],
        ),
        (
            changed(SERVER, windows__vsm__status=1, windows__arc__connected=None),
            False,
            [
                ("vsm-not-met", "VirtualizationBasedSecurityStatus is 1; 2 (running) is needed."),
                ("arc-unknown", "Whether the machine is connected to Azure Arc is not known."),
            ],
        ),
        (
            changed(SERVER, windows__arc__connected=None),
            None,
            [("arc-unknown", "Whether the machine is connected to Azure Arc is not known.")],
        ),
        (
            changed(SERVER, windows__edition=None),
            None,
            [("product-unknown", "Which product this is cannot be told without: ('edition',).")],
        ),
        (changed(SERVER, windows__build=12345), False, [("product-not-listed", "The catalogue has no such product.")]),
        (
            changed(CLIENT, windows__edition="Professional"),
            False,
            [
                (
                    "product-not-supported",
                    "Only Windows 11 Enterprise from 24H2 on has Hotpatch; Pro and all other editions are excluded.",
                )
            ],
        ),
    ],
)
def test_eligibility(facts: MachineFacts, eligible: bool | None, causes: list[tuple[str, str]]) -> None:
    found = eligibility(facts, PROGRAM.catalogue, PROGRAM.calendar, NOW)
    assert (found.eligible, because(found.causes)) == (eligible, causes)
    if found.product is None or found.product.not_supported:
        assert found.checks == ()
    else:
        assert [each.name for each in found.checks] == list(found.product.needs)
    known = causes[0][0] not in {"product-unknown", "product-not-listed"}
    assert (found.product is not None) is known
