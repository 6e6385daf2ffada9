"""The connector: Microsoft's SDK behind five questions. The only file that imports it.

Long-running calls answer 202 with where their state is; the SDK's poller follows that. Nothing is sent twice that could
begin something twice: the SDK repeats what is throttled (429, with its Retry-After) or was not taken on, and a POST or
PATCH whose connection is cut is *not* repeated. Then nobody knows whether it has begun, and the error says so.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import urlsplit

from azure.core.credentials import AccessToken
from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    HttpResponseError,
    IncompleteReadError,
    ResourceNotFoundError,
    ServiceRequestError,
    ServiceResponseError,
)
from azure.core.pipeline.policies import RetryPolicy, SansIOHTTPPolicy
from azure.mgmt.hybridcompute import HybridComputeManagementClient, models

from hotmend.arc.machine import (
    FEATURE,
    PRODUCT,
    ArcMachine,
    Assessed,
    Installed,
    Licence,
    Wanted,
    Where,
)
from hotmend.model.errors import HotmendError, PermissionRefusedError, RemoteError, UsageError
from hotmend.servicing.message import N_

LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
RETRIES: Final = 4
RETRY_AFTER_SECONDS_MAX: Final = 60
"""A service that wants to be left alone for longer gets that as an answer, not as a sleep."""


class _Patience(RetryPolicy):  # type: ignore[misc, type-arg, unused-ignore]
    """The SDK's own retries, but for waits that nobody would sit through."""

    def is_retry(self, settings: Any, response: Any) -> bool:
        seconds = self.get_retry_after(response)
        return (seconds or 0) <= RETRY_AFTER_SECONDS_MAX and bool(super().is_retry(settings, response))


class _Bearer(SansIOHTTPPolicy):  # type: ignore[misc, type-arg, unused-ignore]
    """A token on plain HTTP, which the SDK's own policy refuses. `connect` lets it go to this machine alone."""

    def __init__(self, token: str) -> None:
        super().__init__()
        self._token = token

    def on_request(self, request: Any) -> None:
        request.http_request.headers["Authorization"] = f"Bearer {self._token}"


class StaticToken:
    """A credential that somebody else obtained; a `TokenCredential` of the SDK."""

    def __init__(self, token: str) -> None:
        self._token = token

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        """Return the token. When it ends is not known here; the service says so."""
        del scopes, options
        return AccessToken(self._token, 2**31)


def connect(
    subscription: str, *, endpoint: str | None, token: str | None, poll_seconds: float = 5.0
) -> HybridComputeManagementClient:
    """Return a client.

    Args:
        subscription: whose machines.
        endpoint: None: Azure's public cloud.
        token: a bearer token; None: what `azure-identity` finds (environment, managed identity, Azure CLI).
        poll_seconds: between two looks at a long-running call, where the service does not say.

    Raises:
        UsageError: plain HTTP to another machine, or without a token.
    """
    options: dict[str, Any] = {
        "polling_interval": poll_seconds,
        "retry_policy": _Patience(retry_total=RETRIES, retry_backoff_factor=0.2),
    }
    where = urlsplit(endpoint or "https://management.azure.com")
    if where.scheme != "https":
        if where.scheme != "http" or where.hostname not in LOOPBACK or not token:
            raise UsageError(
                "{endpoint}: plain HTTP only to this machine, and with a token", "use https", endpoint=endpoint
            )
        options["authentication_policy"] = _Bearer(token)
    credential: Any = StaticToken(token) if token else _default_credential()
    if endpoint is not None:
        options |= {"base_url": endpoint, "credential_scopes": [f"{endpoint.rstrip('/')}/.default"]}
    return HybridComputeManagementClient(credential, subscription, **options)


def _default_credential() -> Any:
    try:
        from azure.identity import DefaultAzureCredential
    except ImportError as error:
        raise UsageError(
            "this Python lacks {name}", "run {command}", name=error.name, command="python -m pip install 'hotmend[arc]'"
        ) from error
    return DefaultAzureCredential()


class Connector:
    """Questions about one subscription's machines, and what is asked of them.

    Args:
        client: of the subscription.
        seconds_max: how long a long-running call is followed.
    """

    def __init__(self, client: HybridComputeManagementClient, seconds_max: float) -> None:
        self._client = client
        self._seconds_max = seconds_max

    def machine(self, where: Where) -> ArcMachine:
        """Return a machine with its licence profile.

        Raises:
            RemoteError: there is none, or the service fails.
            PermissionRefusedError: the credential may not.
        """
        with _told(N_("machine"), where):
            found = self._client.machines.get(where.resource_group, where.name, expand="instanceView")
        with _told(N_("licence profile of"), where):
            try:
                profile = self._client.license_profiles.get(where.resource_group, where.name)
            except ResourceNotFoundError:
                profile = None
        return _machine(where, found, profile)

    def set_hotpatch(self, machine: ArcMachine, *, enable: bool) -> Licence:
        """Switch the feature on or off and return what the profile then says; `Enabling` is no failure.

        A profile that exists is patched, so that what else it says stays; one that does not is made.
        """
        where = machine.where
        with _told(N_("licence profile of"), where, begins=True):
            if machine.licence.product is None:
                begun: Any = self._client.license_profiles.begin_create_or_update(
                    where.resource_group, where.name, _new_profile(machine.location, enable=enable)
                )
            else:
                begun = self._client.license_profiles.begin_update(
                    where.resource_group, where.name, _changed_profile(enable=enable)
                )
        return _licence(self._followed(begun, N_("licence profile of"), where))

    def assess(self, where: Where) -> Assessed:
        """Let the machine look for updates."""
        with _told(N_("assessment of"), where, begins=True):
            begun = self._client.machines.begin_assess_patches(where.resource_group, where.name)
        return _assessed(self._followed(begun, N_("assessment of"), where))

    def install(self, where: Where, wanted: Wanted) -> Installed:
        """Let the machine install updates."""
        with _told(N_("installation on"), where, begins=True):
            begun = self._client.machines.begin_install_patches(where.resource_group, where.name, _parameters(wanted))
        return _installed(self._followed(begun, N_("installation on"), where))

    def _followed(self, poller: Any, what: str, where: Where) -> Any:
        """Return the result of a long-running call.

        Raises:
            RemoteError: it failed, or takes longer than it is followed.
        """
        with _told(what, where):
            poller.wait(self._seconds_max)
            if not poller.done():
                raise RemoteError(
                    "{what} {name}: has begun and is not done after {seconds} s",
                    "it goes on there; hotmend arc status says how far it is",
                    what=what,
                    name=where.name,
                    seconds=round(self._seconds_max),
                )
            return poller.result()


@contextlib.contextmanager
def _told(what: str, where: Where, *, begins: bool = False) -> Iterator[None]:
    """Turn what the SDK raises into an error a person can act on; `begins`: the call would have begun something."""

    def told(kind: type[HotmendError], said: str, hint: str = "", **values: object) -> HotmendError:
        return kind(N_("{what} {name}: {said}"), hint, what=what, name=where.name, said=said, **values)

    try:
        yield
    except ClientAuthenticationError as error:
        raise told(PermissionRefusedError, _said(error), N_("sign in, for example by az login")) from error
    except (ServiceResponseError, IncompleteReadError) as error:
        unclear = N_("whether it has begun is not known; look at hotmend arc status first")
        hint = unclear if begins else N_("try again")
        raise told(RemoteError, N_("the connection was cut before the answer"), hint) from error
    except HttpResponseError as error:
        kind, hint = _REFUSALS.get(error.status_code or 0, (RemoteError, ""))
        wait = getattr(error.response, "headers", {}).get("Retry-After")
        if error.status_code == _THROTTLED and wait:
            hint = N_("try again in {wait} s")
        raise told(kind, _said(error), hint, wait=wait) from error
    except ServiceRequestError as error:
        raise told(RemoteError, error.message, N_("it was not reached, and nothing was begun; try again")) from error
    except AzureError as error:
        raise told(RemoteError, error.message) from error


_THROTTLED: Final = 429
_REFUSALS: Final[dict[int, tuple[type[HotmendError], str]]] = {
    403: (PermissionRefusedError, N_("the role of this account does not allow it")),
    404: (RemoteError, N_("is the subscription or resource group another?")),
    409: (RemoteError, N_("another operation is going on; try again when it is done")),
    _THROTTLED: (RemoteError, N_("it is throttled; try again later")),
}
"""Status of an answer to the error it becomes, and its hint."""


def _said(error: HttpResponseError) -> str:
    """Return code and message of the service, without the SDK's decoration."""
    detail = error.error
    if detail is not None and getattr(detail, "code", None):
        return f"{detail.code}: {detail.message}"
    return (error.message or "").splitlines()[0] if error.message else f"HTTP {error.status_code}"


def _new_profile(location: str, *, enable: bool) -> models.LicenseProfile:
    status = "Enabled" if enable else "Disabled"
    product = models.LicenseProfileArmProductProfileProperties(
        product_type=PRODUCT,
        subscription_status=status,
        product_features=[models.ProductFeature(name=FEATURE, subscription_status=status)],
    )
    return models.LicenseProfile(location=location, properties=models.LicenseProfileProperties(product_profile=product))


def _changed_profile(*, enable: bool) -> models.LicenseProfileUpdate:
    status = "Enable" if enable else "Disable"
    feature = models.ProductFeatureUpdate(name=FEATURE, subscription_status=status)
    product = models.ProductProfileUpdateProperties(product_type=PRODUCT, product_features=[feature])
    return models.LicenseProfileUpdate(properties=models.LicenseProfileUpdateProperties(product_profile=product))


def _parameters(wanted: Wanted) -> models.MachineInstallPatchesParameters:
    return models.MachineInstallPatchesParameters(
        maximum_duration=wanted.duration,
        reboot_setting=wanted.reboot,
        windows_parameters=models.WindowsParameters(
            classifications_to_include=list(wanted.classifications),
            kb_numbers_to_include=list(wanted.include),
            kb_numbers_to_exclude=list(wanted.exclude),
            exclude_kbs_requiring_reboot=wanted.without_reboot,
            max_patch_publish_date=wanted.published_until,
        ),
    )


def _machine(where: Where, found: Any, profile: Any) -> ArcMachine:
    properties = found.properties
    profile_of = _reach(properties, "os_profile")
    configuration = _reach(profile_of, "windows_configuration", "patch_settings") or _reach(
        profile_of, "linux_configuration", "patch_settings"
    )
    return ArcMachine(
        where=where,
        location=found.location or "",
        status=_word(_reach(properties, "status"), "Unknown"),
        os_type=_word(_reach(properties, "os_type"), "").lower(),
        agent_version=_word(_reach(properties, "agent_version"), ""),
        enablement=_word(_reach(configuration, "status", "hotpatch_enablement_status"), "Unknown"),
        enable_hotpatching=_reach(configuration, "enable_hotpatching"),
        patch_mode=_word(_reach(configuration, "patch_mode"), ""),
        assessment_mode=_word(_reach(configuration, "assessment_mode"), ""),
        licence=_licence(profile) if profile is not None else Licence(),
        error=_word(_reach(configuration, "status", "error", "message"), ""),
    )


def _licence(profile: Any) -> Licence:
    product = _reach(profile, "properties", "product_profile")
    if product is None:
        return Licence()
    feature = next((each for each in product.product_features or () if each.name == FEATURE), None)
    error = _reach(feature, "error", "message") or _reach(product, "error", "message") or ""
    return Licence(
        product=_status(product),
        feature=_status(feature),
        enrolled_at=_reach(feature, "enrollment_date"),
        disenrolled_at=_reach(feature, "disenrollment_date"),
        billing_from=_reach(feature, "billing_start_date"),
        billing_until=_reach(feature, "billing_end_date"),
        error=str(error),
    )


def _assessed(found: Any) -> Assessed:
    counts = found.available_patch_count_by_classification
    return Assessed(
        activity=found.assessment_activity_id or "",
        status=_word(found.status, "Unknown"),
        started_at=found.start_date_time,
        modified_at=found.last_modified_date_time,
        reboot_pending=found.reboot_pending,
        counts={name: int(number) for name, number in (counts.as_dict() if counts is not None else {}).items()},
        error=_word(_reach(found, "error_details", "message"), ""),
    )


def _installed(found: Any) -> Installed:
    kinds: tuple[str, ...] = ("installed", "pending", "failed", "excluded", "not_selected")
    return Installed(
        activity=found.installation_activity_id or "",
        status=_word(found.status, "Unknown"),
        reboot_status=_word(found.reboot_status, "Unknown"),
        window_exceeded=bool(found.maintenance_window_exceeded),
        counts={kind: int(getattr(found, f"{kind}_patch_count") or 0) for kind in kinds},
        error=_word(_reach(found, "error_details", "message"), ""),
    )


def _word(value: Any, absent: str = "") -> str:
    """Return a text, or one of the SDK's enumerations, as text."""
    return absent if value is None else str(getattr(value, "value", value))


def _status(holder: Any) -> Any:
    return _word(_reach(holder, "subscription_status")) or None


def _reach(value: Any, *names: str) -> Any:
    """Return an attribute of an attribute; None as soon as one is absent."""
    for name in names:
        value = getattr(value, name, None)
        if value is None:
            return None
    return value
