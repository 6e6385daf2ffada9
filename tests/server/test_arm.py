"""Azure's routes over the machines of a real server, judged by Microsoft's own SDK."""

from __future__ import annotations

import itertools
import shutil
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.mgmt.hybridcompute import models

from hotmend.arc.connector import Connector, connect
from hotmend.arc.machine import Where
from hotmend.server.arm.service import GROUP, SUBSCRIPTION
from hotmend.servicing.actions import State
from hotmend.wire.messages import Reached
from hotmend.wire.report import Finding, Fixed, Prerequisite, Report
from tests.server.machine import Simple, report, simple
from tests.server.running import Running, running

WAITS = ("nginx=1.22.1-9+deb12u11", "redis-server=5:7.0.15-1~deb12u10", "tzdata=2026c")
REPORT = report(waiting=WAITS, findings=(Finding("CVE-2026-0002", Fixed.ON_DISK, brings=WAITS[0]),), reboot=("kernel",))

_number = itertools.count(1)


@pytest.fixture(scope="module")
def server(templates: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One server for all: each test has machines of its own."""
    file = tmp_path_factory.mktemp("arm") / "server.db"
    shutil.copy(templates["sqlite"], file)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hotmend.server.arm.api.RETRY_AFTER_SECONDS", 0)  # the SDK looks again when it is told to
        with running(f"sqlite:///{file}", check_ins_per_minute=1_000_000) as server:  # some check in all the time
            server.set_up()
            yield server


@pytest.fixture
def azure(server: Running) -> Iterator[Any]:
    with _client(server, "operator") as client:
        yield client


def _client(server: Running, role: str) -> Any:
    return connect(SUBSCRIPTION, endpoint=server.url, token=server.tokens[role], poll_seconds=0.05)


def _connected(server: Running, said: Report = REPORT) -> Simple:
    machine = simple(server, f"Web-{next(_number)}")
    _tell(machine, said)
    return machine


def _tell(machine: Simple, said: Report, *reached: Reached) -> Any:
    from hotmend.wire.report import report_hash

    return machine.check_in(report=said, report_hash=report_hash(said), reached=reached)


def _acts(machine: Simple, said: Report, *states: State, detail: str = "") -> list[Any]:
    """Fetch what is due, and say which states it came to; return the orders."""
    orders = list(machine.check_in().orders)
    now = machine.server.clock()
    _tell(machine, said, *(Reached(orders[0].id, state, now, detail) for state in states))
    return orders


def profile(status: str) -> Any:
    feature = models.ProductFeature(name="Hotpatch", subscription_status=status)
    return models.LicenseProfile(
        location="hotmend",
        properties=models.LicenseProfileProperties(
            product_profile=models.LicenseProfileArmProductProfileProperties(
                product_type="WindowsServer", subscription_status="Enabled", product_features=[feature]
            )
        ),
    )


def _patch(status: str) -> Any:
    feature = models.ProductFeatureUpdate(name="Hotpatch", subscription_status=status)
    return models.LicenseProfileUpdate(
        properties=models.LicenseProfileUpdateProperties(
            product_profile=models.ProductProfileUpdateProperties(
                product_type="WindowsServer", subscription_status="Enable", product_features=[feature]
            )
        )
    )


INSTALL = models.MachineInstallPatchesParameters(
    maximum_duration=timedelta(hours=2),
    reboot_setting="Never",
    linux_parameters=models.LinuxParameters(
        classifications_to_include=["Critical", "Security"], package_name_masks_to_exclude=["tz*"]
    ),
)


def test_a_machine_is_a_resource(server: Running, azure: Any) -> None:
    machine = _connected(server)
    found = azure.machines.get(GROUP, machine.name.lower())
    assert (found.name, found.properties.status, found.properties.os_type) == (machine.name, "Connected", "linux")
    settings = found.properties.os_profile.linux_configuration.patch_settings
    assert (settings.patch_mode, settings.status.hotpatch_enablement_status) == ("AutomaticByPlatform", "Enabled")
    assert azure.machines.get(GROUP.upper(), machine.id).name == machine.name
    server.clock.ahead += timedelta(minutes=4)
    assert azure.machines.get(GROUP, machine.name.lower()).properties.status == "Disconnected"
    for group, name in (("other", machine.name), (GROUP, "web-none")):
        with pytest.raises(ResourceNotFoundError):
            azure.machines.get(group, name)
    machine.leave()
    with pytest.raises(ResourceNotFoundError):
        azure.machines.get(GROUP, machine.name.lower())


def test_who_may_is_the_servers_to_say(server: Running) -> None:
    machine = _connected(server)
    with _client(server, "viewer") as azure:
        assert azure.machines.get(GROUP, machine.name.lower()).name == machine.name
        with pytest.raises(HttpResponseError, match="AuthorizationFailed"):
            azure.machines.begin_assess_patches(GROUP, machine.name)
    server.tokens["nobody"] = "hm_nothing"
    with _client(server, "nobody") as azure, pytest.raises(HttpResponseError, match="AuthenticationFailed"):
        azure.machines.get(GROUP, machine.name.lower())
    reply = server.call("GET", f"{Where(SUBSCRIPTION, GROUP, machine.name).id}?api-version=2026-01-01", role=None)
    assert (reply.status, reply.json()["error"]["code"]) == (401, "AuthenticationFailed")


def test_assess_is_an_action_of_the_machine(server: Running, azure: Any) -> None:
    machine = _connected(server, said=report())
    poller = azure.machines.begin_assess_patches(GROUP, machine.name)
    assert poller.status() == "InProgress"
    (action,) = server.get(f"/api/v1/machines/{machine.id}/actions")["items"]
    assert (action["kind"], action["created_by"], action["state"]) == ("assess", "operator", "SCHEDULED")
    with pytest.raises(ResourceExistsError, match="another operation"):
        azure.machines.begin_install_patches(GROUP, machine.name, INSTALL)
    assert [each.id for each in _acts(machine, REPORT, State.PRECHECK, State.SUCCEEDED)] == [action["id"]]
    result = poller.result()
    assert (result.status, result.assessment_activity_id, result.os_type) == ("Succeeded", action["id"], "Linux")
    assert result.reboot_pending is True
    counts = result.available_patch_count_by_classification
    assert (counts.security, counts.updates, counts.critical) == (1, 2, 0)
    verdict = server.get("/api/v1/audit/verify")
    assert verdict["whole"] is True


def test_install_is_an_action_and_excludes_win(server: Running, azure: Any) -> None:
    machine = _connected(server)
    poller = azure.machines.begin_install_patches(GROUP, machine.name, INSTALL)
    (action,) = server.get(f"/api/v1/machines/{machine.id}/actions")["items"]
    assert (action["kind"], action["updates"], action["anytime"]) == ("install", list(WAITS[:2]), True)
    (order,) = _acts(machine, report(waiting=WAITS[1:]), State.APPLYING, State.SUCCEEDED_WITH_WARNINGS, detail="redis")
    assert (order.updates, order.anytime) == (WAITS[:2], True)
    assert order.until - server.clock() < timedelta(hours=2)
    result = poller.result()
    told = (result.installed_patch_count, result.pending_patch_count, result.excluded_patch_count)
    assert (result.status, told, result.reboot_status) == ("CompletedWithWarnings", (1, 1, 1), "NotNeeded")


@pytest.mark.parametrize(
    ("states", "detail", "code"),
    [
        ((State.APPLYING, State.FAILED), "nginx did not start", "Failed"),
        ((State.ROLLED_BACK,), "a probe", "RolledBack"),
        ((State.BLOCKED,), "held until Monday", "Blocked"),
    ],
)
def test_what_fails_on_the_machine_fails_the_call(
    server: Running, azure: Any, states: tuple[State, ...], detail: str, code: str
) -> None:
    machine = _connected(server)
    poller = azure.machines.begin_install_patches(GROUP, machine.name, INSTALL)
    _acts(machine, REPORT, *states, detail=detail)
    with pytest.raises(HttpResponseError, match=rf"\({code}\) {detail}"):
        poller.result()
    assert poller.status() == "Failed"


def test_a_call_that_is_canceled_or_comes_too_late_says_so(server: Running, azure: Any) -> None:
    machine = _connected(server)
    poller = azure.machines.begin_install_patches(GROUP, machine.name, INSTALL)
    (action,) = server.get(f"/api/v1/machines/{machine.id}/actions")["items"]
    server.post(f"/api/v1/actions/{action['id']}/cancel", status=200)
    with pytest.raises(HttpResponseError):
        poller.result()
    assert poller.status() == "Canceled"
    poller = azure.machines.begin_install_patches(GROUP, machine.name, INSTALL)
    server.clock.ahead += timedelta(hours=2, seconds=1)
    machine.check_in()
    with pytest.raises(HttpResponseError, match=r"\(TimedOut\)"):
        poller.result()


def test_the_feature_is_switched_when_the_machine_has_its_policy(server: Running, azure: Any) -> None:
    machine = _connected(server)
    with pytest.raises(ResourceNotFoundError, match="no licence profile"):
        azure.license_profiles.get(GROUP, machine.name)
    held = machine.check_in().policy_hash
    with _checking_in(machine, REPORT, held):
        made = azure.license_profiles.begin_create_or_update(GROUP, machine.name, profile("Enabled")).result()
    (feature,) = made.properties.product_profile.product_features
    assert (feature.subscription_status, feature.enrollment_date is not None) == ("Enabled", True)
    with _checking_in(machine, REPORT, held):
        azure.license_profiles.begin_update(GROUP, machine.name, _patch("Disable")).result()
    (feature,) = azure.license_profiles.get(GROUP, machine.name).properties.product_profile.product_features
    assert (feature.subscription_status, feature.disenrollment_date is not None) == ("Disabled", True)
    assert server.get(f"/api/v1/machines/{machine.id}")["machine"]["policy"] == ".hotpatch-off"
    found = azure.machines.get(GROUP, machine.name).properties.os_profile.linux_configuration.patch_settings
    assert (found.status.hotpatch_enablement_status, found.enable_hotpatching) == ("Disabled", False)
    with pytest.raises(HttpResponseError, match="HotpatchOff"):
        azure.machines.begin_install_patches(GROUP, machine.name, INSTALL)
    with _checking_in(machine, REPORT, held):
        azure.license_profiles.begin_update(GROUP, machine.name, _patch("Enable")).result()
    assert server.get(f"/api/v1/machines/{machine.id}")["machine"]["policy"] == "default"
    assert azure.machines.begin_install_patches(GROUP, machine.name, INSTALL).status() == "InProgress"


def test_enabling_fails_without_prerequisites_and_does_not_stay_pending(server: Running, azure: Any) -> None:
    lacking = (Prerequisite("ptrace", False, "kernel.yama.ptrace_scope is 3"), Prerequisite("memory", True))
    machine = _connected(server, said=report(enrollment="ACTION_REQUIRED", prerequisites=lacking))
    poller = azure.license_profiles.begin_create_or_update(GROUP, machine.name, profile("Enabled"))
    with pytest.raises(HttpResponseError, match="ptrace_scope is 3"):
        poller.result()
    (feature,) = azure.license_profiles.get(GROUP, machine.name).properties.product_profile.product_features
    assert (feature.subscription_status, "ptrace" in feature.error.message) == ("Failed", True)
    _tell(machine, REPORT)
    poller = azure.license_profiles.begin_update(GROUP, machine.name, _patch("Enable"))
    with pytest.raises(HttpResponseError, match="being switched"):
        azure.license_profiles.begin_update(GROUP, machine.name, _patch("Disable"))
    server.clock.ahead += timedelta(minutes=10, seconds=1)
    with pytest.raises(HttpResponseError, match="within ten minutes"):
        poller.result()


def test_a_machine_without_an_agent_is_shown_and_asked_nothing(server: Running, azure: Any) -> None:
    from tests.arc.test_arc import OCTOBER

    assert server.call("PUT", "/api/v1/facts/win-1", OCTOBER.read_bytes()).status == 200
    found = azure.machines.get(GROUP, "win-1")
    assert found.properties.os_type == "windows"
    assert found.properties.os_profile.windows_configuration.patch_settings.patch_mode == "Manual"
    with pytest.raises(HttpResponseError, match="no agent"):
        azure.machines.begin_assess_patches(GROUP, "win-1")


def test_the_projects_own_connector_speaks_to_the_server(server: Running) -> None:
    machine = _connected(server)
    with _client(server, "operator") as client:
        connector = Connector(client, 30)
        where = Where(SUBSCRIPTION, GROUP, machine.name)
        done = threading.Thread(target=lambda: _eventually(machine, REPORT))
        done.start()
        assessed = connector.assess(where)
        done.join()
    assert (assessed.status, assessed.counts["security"]) == ("Succeeded", 1)


@pytest.mark.parametrize(
    ("parameters", "why"),
    [
        (models.LinuxParameters(classifications_to_include=["Other"]), "ask for Security"),
        (models.LinuxParameters(package_name_masks_to_include=["apache*"]), "nothing that waits"),
    ],
)
def test_what_cannot_be_told_or_is_not_there_is_refused(server: Running, azure: Any, parameters: Any, why: str) -> None:
    machine = _connected(server)
    asked = models.MachineInstallPatchesParameters(
        maximum_duration=timedelta(hours=2), reboot_setting="Never", linux_parameters=parameters
    )
    with pytest.raises(HttpResponseError, match=why):
        azure.machines.begin_install_patches(GROUP, machine.name, asked)
    assert server.get(f"/api/v1/machines/{machine.id}/actions")["items"] == []


def _eventually(machine: Simple, said: Report) -> None:
    while not (orders := machine.check_in().orders):
        pass
    _tell(machine, said, Reached(orders[0].id, State.SUCCEEDED, machine.server.clock()))


class _checking_in:
    """A machine that checks in until the end of the block, with the policy that it was given last."""

    def __init__(self, machine: Simple, said: Report, held: str) -> None:
        self._machine, self._said, self._held = machine, said, held
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *told: object) -> None:
        self._over.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._over.wait(0.02):
            self._held = self._machine.check_in(policy=self._held).policy_hash
