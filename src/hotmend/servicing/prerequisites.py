"""What a machine must have before it can be hot-patched: one check for each name a product `needs`.

A check holds, does not, or is unknown; unknown is never taken for a yes. Each names the remedy that leads there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import msgspec

from hotmend.servicing.facts import Linux, MachineFacts, Windows
from hotmend.servicing.message import N_, Cause, Message, message
from hotmend.servicing.products import Catalogue, Product
from hotmend.servicing.releases import Calendar

VSM_RUNNING: Final = 2
PTRACE_SCOPE_ROOT_ONLY: Final = 2
"""With 3 nobody may attach, not even root; and it cannot be taken back before the next boot."""


class Check(msgspec.Struct, frozen=True):
    """One prerequisite.

    Attributes:
        name: of the prerequisite.
        holds: None is unknown.
        found: what was found, or what is not known.
        remedy: name of the remedy; "" where there is none.
    """

    name: str
    holds: bool | None
    found: Message
    remedy: str = ""

    @property
    def cause(self) -> Cause:
        """The check as a cause, for answers that rest on it."""
        return Cause(
            f"{self.name}-{'met' if self.holds else 'unknown' if self.holds is None else 'not-met'}", self.found
        )


@dataclass(frozen=True, slots=True)
class Setting:
    """What checks look at.

    Attributes:
        facts: the machine.
        product: what it is.
        catalogue, calendar: what is known beside the machine.
        now: aware.
    """

    facts: MachineFacts
    product: Product
    catalogue: Catalogue
    calendar: Calendar
    now: datetime

    @property
    def windows(self) -> Windows:
        """The Windows part; without one everything in it is unknown."""
        return self.facts.windows or Windows()

    @property
    def linux(self) -> Linux:
        """The Linux part; without one everything in it is unknown."""
        return self.facts.linux or Linux()


def checks(setting: Setting) -> tuple[Check, ...]:
    """Return all checks of the machine's product, in the product's order."""
    return tuple(CHECKS[name](setting) for name in setting.product.needs)


def _flag(name: str, value: bool | None, texts: tuple[str, str, str], remedy: str) -> Check:
    """Return the check of a flag; `texts` for yes, no and unknown."""
    text = texts[2] if value is None else texts[0] if value else texts[1]
    return Check(name, value, Message(text), "" if value else remedy)


def _minimum_build(setting: Setting) -> Check:
    least, revision = setting.product.minimum_revision, setting.windows.revision
    if least is None or revision is None:
        return Check("minimum-build", None, message("The build is not known."), "collect-facts")
    text = message(
        "Build {build}.{revision}; at least {build}.{least} is needed.",
        build=str(setting.windows.build),
        revision=str(revision),
        least=str(least),
    )
    return Check("minimum-build", revision >= least, text, "" if revision >= least else "install-baseline")


def _not_preview(setting: Setting) -> Check:
    preview = setting.windows.preview
    return _flag(
        "not-preview",
        None if preview is None else not preview,
        (
            N_("No preview build."),
            N_("A preview or Insider build; these are refused."),
            N_("Whether this is a preview or Insider build is not known."),
        ),
        "leave-preview" if preview else "collect-facts",
    )


def _environment(setting: Setting) -> Check:
    where = setting.facts.environment
    if where is None:
        return Check("environment", None, message("Where the machine runs is not known."), "collect-facts")
    text = message(
        "The machine runs on {where}; this product has Hotpatch on {wanted} alone.",
        where=where,
        wanted=setting.product.environments,
    )
    holds = where in setting.product.environments
    return Check("environment", holds, text, "" if holds else "supported-environment")


def _image(setting: Setting) -> Check:
    """Check what the machine was made from, against the table of images where the product has one."""
    image = setting.windows.image
    table = setting.catalogue.image_table(setting.product.images)
    if image.kind is None:
        return Check("image", None, message("What image the machine was made from is not known."), "collect-facts")
    if image.kind in {"custom", "container-base"}:
        text = message("The machine was made from an image that is not supported ({kind}).", kind=image.kind)
        return Check("image", False, text, "supported-image")
    if table is None:
        return Check("image", True, message("Installed from a supported source ({kind}).", kind=image.kind))
    if None in {image.publisher, image.offer, image.sku}:
        return Check("image", None, message("Publisher, offer or SKU of the image is not known."), "collect-facts")
    name = f"{image.publisher} {image.offer} {image.sku}"
    if (image.publisher, image.offer) == (table.publisher, table.offer) and image.sku in table.skus:
        return Check("image", True, message("Image {image} is in the table of supported images.", image=name))
    text = message("Image {image} is not in the table of supported images.", image=name)
    return Check("image", False, text, "supported-image")


def _region(setting: Setting) -> Check:
    """Say whether the region is known to have the images: a running machine does not depend on it, making one does."""
    region, table = setting.windows.region, setting.catalogue.image_table(setting.product.images)
    good = table.regions_known_good if table else ()
    if region is None:
        return Check("region", True, message("The region is not known; only making a machine depends on it."))
    if region in good:
        return Check("region", True, message("Region {region} is known to have the images.", region=region))
    text = message(
        "Region {region} is not known to have the images: making a machine there may answer HTTP 400; use {good}.",
        region=region,
        good=good,
    )
    return Check("region", True, text, "other-region")


def _scale_set(setting: Setting) -> Check:
    mode = setting.windows.scale_set
    if mode is None:
        return Check("scale-set", None, message("Whether the machine is in a scale set is not known."), "collect-facts")
    text = message("Scale set orchestration: {mode}; Uniform is not supported.", mode=mode)
    return Check("scale-set", mode != "uniform", text, "" if mode != "uniform" else "leave-scale-set")


def _uefi(setting: Setting) -> Check:
    return _flag(
        "uefi",
        setting.windows.vsm.uefi,
        (
            N_("UEFI firmware."),
            N_("No UEFI firmware."),
            N_("The kind of firmware is not known."),
        ),
        "uefi",
    )


def _secure_boot(setting: Setting) -> Check:
    return _flag(
        "secure-boot",
        setting.windows.vsm.secure_boot,
        (
            N_("Secure Boot is on."),
            N_("Secure Boot is off."),
            N_("Whether Secure Boot is on is not known."),
        ),
        "secure-boot",
    )


def _generation(setting: Setting) -> Check:
    generation = setting.windows.vsm.vm_generation
    if setting.facts.environment in {"physical", "vmware", "other-cloud"}:
        return Check("generation-2", True, message("No guest of Hyper-V."))
    if generation is None:
        return Check(
            "generation-2", None, message("The generation of the virtual machine is not known."), "collect-facts"
        )
    text = message("Virtual machine of generation {generation}; 2 is needed.", generation=generation)
    return Check("generation-2", generation == 2, text, "" if generation == 2 else "generation-2")


def _vsm(setting: Setting) -> Check:
    """Check that virtual secure mode *runs*. The registry, policies and features only say that it is wanted."""
    vsm = setting.windows.vsm
    if vsm.status is None or vsm.status_from is None:
        return Check(
            "vsm", None, message("Whether virtual secure mode runs is not known; only status 2 is proof."), "vsm-read"
        )
    text = message("VirtualizationBasedSecurityStatus is {status}; 2 (running) is needed.", status=vsm.status)
    holds = vsm.status == VSM_RUNNING
    if holds:
        return Check("vsm", holds, text)
    wanted = vsm.registry_value == 1 or bool(vsm.features_configured)
    return Check("vsm", holds, text, "vsm-vendor" if wanted else "vsm-registry")


def _arc(setting: Setting) -> Check:
    arc = setting.windows.arc
    if arc.installed is False:
        return Check("arc", False, message("The Azure Arc agent is not installed."), "arc-onboard")
    return _flag(
        "arc",
        arc.connected,
        (
            N_("Connected to Azure Arc."),
            N_("The Azure Arc agent is installed, but not connected."),
            N_("Whether the machine is connected to Azure Arc is not known."),
        ),
        "arc-reconnect" if arc.installed else "arc-onboard",
    )


def _connectivity(setting: Setting) -> Check:
    arc = setting.windows.arc
    if not arc.endpoints:
        return Check("connectivity", None, message("Whether the endpoints can be reached is not known."), "endpoints")
    closed = tuple(sorted(name for name, reached in arc.endpoints.items() if reached is False))
    if closed:
        return Check("connectivity", False, message("Not reached: {closed}.", closed=closed), "endpoints")
    if None in arc.endpoints.values():
        return Check("connectivity", None, message("Whether the endpoints can be reached is not known."), "endpoints")
    return Check("connectivity", True, message("All endpoints were reached."))


def _subscription(setting: Setting) -> Check:
    """Check the monthly subscription. Lapsed, the next update is not a hotpatch."""
    hotpatch = setting.windows.hotpatch
    if hotpatch.feature_licence_lapsed is True:
        return Check(
            "subscription",
            False,
            message("The machine's licence for Hotpatch has lapsed: its next update is not a hotpatch."),
            "licence-workaround",
        )
    if hotpatch.subscription is None or hotpatch.subscription == "Unknown":
        return Check("subscription", None, message("Whether there is a subscription is not known."), "subscribe")
    if hotpatch.subscription_until is not None and hotpatch.subscription_until <= setting.now:
        return Check(
            "subscription",
            False,
            message(
                "The subscription ended on {day}: the next update is not a hotpatch.",
                day=hotpatch.subscription_until.date(),
            ),
            "subscribe",
        )
    holds = hotpatch.subscription == "Enabled"
    text = message("The subscription's status is {status}.", status=hotpatch.subscription)
    return Check("subscription", holds, text, "" if holds else "subscribe")


def _licence(setting: Setting) -> Check:
    licence = setting.windows.client.licence
    if licence is None:
        return Check("licence", None, message("The licence is not known."), "collect-facts")
    holds = licence in setting.product.licences
    text = message("Licence {licence}; one of {wanted} is needed.", licence=licence, wanted=setting.product.licences)
    return Check("licence", holds, text, "" if holds else "licence")


def _entra(setting: Setting) -> Check:
    return _flag(
        "entra",
        setting.windows.client.entra_joined,
        (
            N_("Linked to Entra."),
            N_("Not linked to Entra."),
            N_("Whether the machine is linked to Entra is not known."),
        ),
        "entra-join",
    )


def _intune(setting: Setting) -> Check:
    return _flag(
        "intune",
        setting.windows.client.intune_managed,
        (
            N_("Managed by Intune."),
            N_("Not managed by Intune."),
            N_("Whether the machine is managed by Intune is not known."),
        ),
        "intune-enroll",
    )


def _chpe(setting: Setting) -> Check:
    if setting.facts.architecture == "amd64":
        return Check("chpe", True, message("Concerns Arm64 alone."))
    known = setting.facts.architecture is not None
    return _flag(
        "chpe",
        setting.windows.client.chpe_disabled if known else None,
        (
            N_("Compiled hybrid PE is off."),
            N_("Compiled hybrid PE is on."),
            N_("Whether compiled hybrid PE is off is not known."),
        ),
        "chpe-off",
    )


def _root(setting: Setting) -> Check:
    return _flag(
        "root",
        setting.linux.root,
        (
            N_("Runs as root."),
            N_("Does not run as root."),
            N_("Whether hotmend may run as root is not known."),
        ),
        "run-as-root",
    )


def _ptrace(setting: Setting) -> Check:
    scope = setting.linux.ptrace_scope
    if scope is None:
        return Check("ptrace", None, message("kernel.yama.ptrace_scope is not known."), "doctor")
    holds = scope <= PTRACE_SCOPE_ROOT_ONLY
    text = message("kernel.yama.ptrace_scope is {scope}; 3 forbids attaching to processes.", scope=scope)
    return Check("ptrace", holds, text, "" if holds else "ptrace-scope")


def _lockdown(setting: Setting) -> Check:
    mode = setting.linux.lockdown
    if mode is None:
        return Check("lockdown", None, message("The kernel's lockdown mode is not known."), "doctor")
    return Check(
        "lockdown", True, message("Kernel lockdown is {mode}, which forbids nothing that is needed.", mode=mode)
    )


def _memory(setting: Setting) -> Check:
    return _flag(
        "memory-writable",
        setting.linux.memory_writable,
        (
            N_("Memory of other processes can be written."),
            N_("Memory of other processes cannot be written."),
            N_("Whether memory of other processes can be written is not known."),
        ),
        "doctor",
    )


def _seccomp(setting: Setting) -> Check:
    return _flag(
        "seccomp-readable",
        setting.linux.seccomp_readable,
        (
            N_("Seccomp filters of other processes can be read."),
            N_("Seccomp filters of other processes cannot be read."),
            N_("Whether seccomp filters of other processes can be read is not known."),
        ),
        "doctor",
    )


def _build_ids(setting: Setting) -> Check:
    """Check that every running image has a build-id; whether the repository knows it decides the level."""
    images = setting.linux.images
    if images is None:
        return Check("build-ids-known", None, message("What the processes map is not known."), "collect-facts")
    unnamed = tuple(image.path for image in images if image.build_id is None)
    if unnamed:
        text = message("Images without a known build-id: {paths}.", paths=unnamed)
        return Check("build-ids-known", False, text, "distribution-build")
    return Check("build-ids-known", True, message("Every running image has a build-id."))


def _entitlement(setting: Setting) -> Check:
    linux = setting.linux
    if linux.entitlement_needed is False:
        return Check("entitlement", True, message("No entitlement is needed."))
    if linux.entitled_until is None:
        return Check("entitlement", None, message("Whether there is an entitlement is not known."), "entitlement")
    holds = linux.entitled_until > setting.now
    text = message("The entitlement ends on {day}.", day=linux.entitled_until.date())
    return Check("entitlement", holds, text, "" if holds else "entitlement")


CHECKS: Final[dict[str, Callable[[Setting], Check]]] = {
    "minimum-build": _minimum_build,
    "not-preview": _not_preview,
    "environment": _environment,
    "image": _image,
    "region": _region,
    "scale-set": _scale_set,
    "uefi": _uefi,
    "secure-boot": _secure_boot,
    "generation-2": _generation,
    "vsm": _vsm,
    "arc": _arc,
    "connectivity": _connectivity,
    "subscription": _subscription,
    "licence": _licence,
    "entra": _entra,
    "intune": _intune,
    "chpe": _chpe,
    "root": _root,
    "ptrace": _ptrace,
    "lockdown": _lockdown,
    "memory-writable": _memory,
    "seccomp-readable": _seccomp,
    "build-ids-known": _build_ids,
    "entitlement": _entitlement,
}
"""Prerequisite, as products name it, to its check."""
