"""What was found out about one machine. Frozen values; whoever collects them writes them as JSON (`facts_json`).

**None means unknown**, in every field: not asked, not readable, or not understood. A rule never takes it for a yes,
nor for a no: `is True` and `is False` are the only questions asked of a flag. `MachineFacts.unread` says why something
is unknown.
An empty tuple is a known nothing.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

FACTS_VERSION: Final = 1
UPDATES_MAX: Final = 5000
IMAGES_MAX: Final = 20000
ITEMS_MAX: Final = 500
TEXT_LETTERS_MAX: Final = 1000

Text = Annotated[str, Meta(max_length=TEXT_LETTERS_MAX)]
"""Any short text."""
Kb = Annotated[str, Meta(pattern="^KB[0-9]{6,8}$")]
"""A Windows update's exact identity, such as `KB5066835`."""
BuildId = Annotated[str, Meta(pattern="^[0-9a-f]{8,64}$")]
"""An ELF image's exact identity."""
Moment = Annotated[datetime, Meta(tz=True)]
"""RFC 3339 with an offset."""

Environment = Literal["physical", "hyper-v", "vmware", "azure", "azure-local", "other-cloud", "container", "other"]
ImageKind = Literal["marketplace", "custom", "container-base", "own-installation"]
ScaleSet = Literal["none", "flexible", "uniform"]
UpdateState = Literal["installed", "pending-reboot", "failed", "uninstalled"]
Enablement = Literal["Unknown", "PendingEvaluation", "Disabled", "ActionRequired", "Enabled"]
"""`hotpatchEnablementStatus` of the machine's resource."""
Subscription = Literal["Enabled", "Enabling", "Disabled", "Disabling", "Failed", "Unknown"]
"""`subscriptionStatus` of the licence profile."""
Manager = Literal[
    "wsus",
    "windows-update-for-business",
    "intune",
    "configuration-manager",
    "azure-arc",
    "azure-update-manager",
    "group-policy",
    "unattended-upgrades",
    "landscape",
    "salt",
    "katello",
    "ansible",
    "kernel-livepatch",
    "other",
]


class _Facts(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What all parts have in common: frozen, no field beside those that are declared."""


class Update(_Facts, frozen=True):
    """One entry of the update history, newest state of that update.

    Attributes:
        kb: which update.
        state: `pending-reboot` is installed and takes effect with the next boot.
        installed_at: when the state was reached.
        title: as the history has it; contains `Hotpatch` for one.
        classification: as the update client has it, such as `Security Updates`.
    """

    kb: Kb
    state: UpdateState = "installed"
    installed_at: Moment | None = None
    title: Text | None = None
    classification: Text | None = None


class Image(_Facts, frozen=True):
    """The cloud image a machine was made from.

    Attributes:
        kind: `own-installation` is no image at all, but installed from media.
        publisher, offer, sku: of a marketplace image.
    """

    kind: ImageKind | None = None
    publisher: Text | None = None
    offer: Text | None = None
    sku: Text | None = None


class Vsm(_Facts, frozen=True):
    """Virtual secure mode.

    Attributes:
        status: `VirtualizationBasedSecurityStatus`: 0 off, 1 configured but not running, 2 running.
        status_from: where it was read; nothing else is proof.
        registry_value: `EnableVirtualizationBasedSecurity`; wanted, which proves nothing.
        features_configured: features that imply it, by name.
        uefi, secure_boot: firmware.
        vm_generation: of a Hyper-V guest.
    """

    status: Annotated[int, Meta(ge=0, le=2)] | None = None
    status_from: Literal["device-guard", "systeminfo"] | None = None
    registry_value: Annotated[int, Meta(ge=0, le=4294967295)] | None = None
    features_configured: Annotated[tuple[Text, ...], Meta(max_length=ITEMS_MAX)] | None = None
    uefi: bool | None = None
    secure_boot: bool | None = None
    vm_generation: Literal[1, 2] | None = None


class Arc(_Facts, frozen=True):
    """The Azure Arc agent.

    Attributes:
        installed, connected: the agent is there; the portal shows the machine as connected.
        version: of the agent.
        service_running: `himds`.
        endpoints: host name to whether it was reached; null where it was not tried.
    """

    installed: bool | None = None
    connected: bool | None = None
    version: Text | None = None
    service_running: bool | None = None
    endpoints: Annotated[dict[Text, bool | None], Meta(max_length=ITEMS_MAX)] | None = None


class HotpatchSetting(_Facts, frozen=True):
    """Whether Hotpatch is enabled, and the licence behind it.

    Attributes:
        enablement: as the machine's resource says.
        requested_at: when enabling was last asked for.
        subscription: of the licence profile's Hotpatch feature.
        subscription_until: when it ends; null with `subscription` set means no end is set.
        feature_licence_lapsed: the machine's own licence for the feature is gone (known issue of October 2025).
    """

    enablement: Enablement | None = None
    requested_at: Moment | None = None
    subscription: Subscription | None = None
    subscription_until: Moment | None = None
    feature_licence_lapsed: bool | None = None


class LicenceWorkaround(_Facts, frozen=True):
    r"""What of the workarounds of October 2025 is in place.

    Attributes:
        preview_installed: package `KB5062660 251028_18301`.
        preview_policy: its policy is Enabled.
        override: DWORD `4264695439` under `FeatureManagement\Overrides`; null where it is absent or was not read.
        override_known: the value was looked for.
        mutex_present: the value `DeviceLicensingServiceCommandMutex` exists.
        changed_at: when the policy or the override that is in place was set; removing the mutex does not count.
    """

    preview_installed: bool | None = None
    preview_policy: bool | None = None
    override: Annotated[int, Meta(ge=0, le=4294967295)] | None = None
    override_known: bool | None = None
    mutex_present: bool | None = None
    changed_at: Moment | None = None


class Client(_Facts, frozen=True):
    """What counts on Windows 11.

    Attributes:
        licence: subscription, such as `E3`.
        entra_joined: linked to Azure or Entra.
        intune_managed: managed by Intune; a check of its own.
        chpe_disabled: on Arm64, compiled hybrid PE is off.
    """

    licence: Text | None = None
    entra_joined: bool | None = None
    intune_managed: bool | None = None
    chpe_disabled: bool | None = None


class UpdatePolicy(_Facts, frozen=True):
    r"""The effective policy of the update client (`HKLM\SOFTWARE\Policies\Microsoft\Windows\WindowsUpdate`).

    Attributes:
        no_auto_update: `NoAutoUpdate`.
        au_options: `AUOptions`: 2 notify, 3 download, 4 install on schedule, 5 local choice, 7 notify to install.
        scheduled_day: `ScheduledInstallDay`: 0 every day, 1 Sunday to 7 Saturday.
        scheduled_hour: `ScheduledInstallTime`.
        no_reboot_with_users: `NoAutoRebootWithLoggedOnUsers`.
        wsus_server: `WUServer`, where `UseWUServer` is 1; "" where it is not.
        defer_quality_days: `DeferQualityUpdatesPeriodInDays`.
        values: every value of the key and of its `AU` key, as text.
    """

    no_auto_update: bool | None = None
    au_options: Annotated[int, Meta(ge=0, le=7)] | None = None
    scheduled_day: Annotated[int, Meta(ge=0, le=7)] | None = None
    scheduled_hour: Annotated[int, Meta(ge=0, le=23)] | None = None
    no_reboot_with_users: bool | None = None
    wsus_server: Text | None = None
    defer_quality_days: Annotated[int, Meta(ge=0, le=365)] | None = None
    values: Annotated[dict[Text, Text], Meta(max_length=ITEMS_MAX)] | None = None


class Windows(_Facts, frozen=True):
    """A Windows machine.

    Attributes:
        product_name: `ProductName`, for people only: Windows 11 still says `Windows 10` there.
        edition: `EditionID`: `ServerStandard`, `ServerDatacenter`, `ServerTurbine` (Azure Edition), `Enterprise`, ...
        installation: `InstallationType`: `Server`, `Server Core`, `Client`.
        build, revision: `CurrentBuildNumber`, `UBR`.
        display_version: `DisplayVersion`, such as `24H2`.
        preview: an Insider or preview build.
        image: what the machine was made from.
        region: of the cloud.
        scale_set: orchestration mode of the scale set the machine belongs to.
        updates: the update history; null where it was not read.
        updates_since: every installation from here on is in `updates`; null: nobody knows what is missing.
        vsm, arc, hotpatch, workaround, client, policy: parts of their own.
    """

    product_name: Text | None = None
    edition: Text | None = None
    installation: Literal["Server", "Server Core", "Client", "Nano Server"] | None = None
    build: Annotated[int, Meta(ge=0, le=10**6)] | None = None
    revision: Annotated[int, Meta(ge=0, le=10**6)] | None = None
    display_version: Text | None = None
    preview: bool | None = None
    image: Image = Image()
    region: Text | None = None
    scale_set: ScaleSet | None = None
    updates: Annotated[tuple[Update, ...], Meta(max_length=UPDATES_MAX)] | None = None
    updates_since: Moment | None = None
    vsm: Vsm = Vsm()
    arc: Arc = Arc()
    hotpatch: HotpatchSetting = HotpatchSetting()
    workaround: LicenceWorkaround = LicenceWorkaround()
    client: Client = Client()
    policy: UpdatePolicy = UpdatePolicy()


class RunningImage(_Facts, frozen=True):
    """An ELF image that processes map.

    Attributes:
        path: of the file.
        build_id: that the processes were started with.
        disk_build_id: of the file as it is now; null also where the file is gone.
        effective_build_id: of the code that runs, hotpatches taken into account.
        package, version: that the file on disk belongs to.
        units: services whose processes map it.
    """

    path: Text
    build_id: BuildId | None = None
    disk_build_id: BuildId | None = None
    effective_build_id: BuildId | None = None
    package: Text | None = None
    version: Text | None = None
    units: Annotated[tuple[Text, ...], Meta(max_length=ITEMS_MAX)] | None = None


class AppliedHotpatch(_Facts, frozen=True):
    """A hotpatch that was applied at some time.

    Attributes:
        id: of the hotpatch.
        old_build_id, new_build_id: of its image.
        applied_at: when.
        active: new code runs now.
        units: services that were not restarted because of it.
    """

    id: Text
    old_build_id: BuildId
    new_build_id: BuildId
    applied_at: Moment | None = None
    active: bool | None = None
    units: Annotated[tuple[Text, ...], Meta(max_length=ITEMS_MAX)] | None = None


class Linux(_Facts, frozen=True):
    """A Linux machine.

    Attributes:
        distribution, release: `ID` and `VERSION_ID` of os-release; `codename`: `VERSION_CODENAME`.
        kernel_running, kernel_installed: releases of the kernel, the second what the next boot takes.
        baseline: name of the baseline manifest that was installed and booted last.
        baseline_at: when.
        images: what processes map; null where it was not read.
        hotpatches: the history; null where it was not read.
        root: the agent may do what root may.
        ptrace_scope: `kernel.yama.ptrace_scope`; `lockdown`: the mode of /sys/kernel/security/lockdown.
        memory_writable: /proc/PID/mem takes forced writes, or POKEDATA does instead.
        seccomp_readable: filters of other processes can be read.
        checks: everything else `hotmend doctor` finds: name to whether it is as wanted.
        enablement, requested_at: as for Windows, of hotmend's own enrollment.
        entitled_until: end of the entitlement; null with `entitlement_needed` False means that none is needed.
    """

    distribution: Text | None = None
    release: Text | None = None
    codename: Text | None = None
    kernel_running: Text | None = None
    kernel_installed: Text | None = None
    baseline: Text | None = None
    baseline_at: Moment | None = None
    images: Annotated[tuple[RunningImage, ...], Meta(max_length=IMAGES_MAX)] | None = None
    hotpatches: Annotated[tuple[AppliedHotpatch, ...], Meta(max_length=UPDATES_MAX)] | None = None
    root: bool | None = None
    ptrace_scope: Annotated[int, Meta(ge=0, le=3)] | None = None
    lockdown: Literal["none", "integrity", "confidentiality"] | None = None
    memory_writable: bool | None = None
    seccomp_readable: bool | None = None
    checks: Annotated[dict[Text, bool | None], Meta(max_length=ITEMS_MAX)] | None = None
    enablement: Enablement | None = None
    requested_at: Moment | None = None
    entitlement_needed: bool | None = None
    entitled_until: Moment | None = None


class Offer(_Facts, frozen=True):
    """An update that the update client offers and that is not installed.

    Attributes:
        id: KB, or name of a package.
        title: as offered.
        classification: such as `Security Updates`, or `security` of an archive.
        needs_reboot: `InstallationBehavior.RebootBehavior` other than never.
    """

    id: Text
    title: Text | None = None
    classification: Text | None = None
    needs_reboot: bool | None = None


class MachineFacts(_Facts, frozen=True):
    """Everything known about one machine at one moment.

    Attributes:
        facts: version of this form.
        collected_at: when; rules that need a now are given one, and do not take this.
        machine: an id that stays, or a name.
        origin: `read` from the machine itself, or `recorded`: answers of a machine that was not at hand.
        environment: where it runs.
        architecture: `amd64` or `arm64`.
        time_zone: IANA name.
        booted_at: last boot.
        reboot_pending: a boot is needed for something that was installed.
        windows, linux: exactly one of them.
        managers: what else manages updates here; null where nobody looked.
        offered: what the update client offers; null where it was not asked. `assessed_at`: when it was.
        unread: dotted name of a field, such as `windows.vsm.status`, to why it is unknown.
    """

    facts: Literal[1]
    collected_at: Moment
    machine: Text | None = None
    origin: Literal["read", "recorded"] = "recorded"
    environment: Environment | None = None
    architecture: Literal["amd64", "arm64"] | None = None
    time_zone: Text | None = None
    booted_at: Moment | None = None
    reboot_pending: bool | None = None
    windows: Windows | None = None
    linux: Linux | None = None
    managers: Annotated[dict[Manager, Text], Meta(max_length=ITEMS_MAX)] | None = None
    offered: Annotated[tuple[Offer, ...], Meta(max_length=UPDATES_MAX)] | None = None
    assessed_at: Moment | None = None
    unread: Annotated[dict[Text, Text], Meta(max_length=ITEMS_MAX)] = msgspec.field(default_factory=dict)
