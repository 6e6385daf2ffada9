"""The keys of the publishing host: what it can sign itself, for roles in force and to come."""

from __future__ import annotations

from securesystemslib.signer import Signer
from tuf.api.metadata import Metadata, Root, T, Targets

from hotmend.model.errors import HotmendError, InputError
from hotmend.repository import metadata
from hotmend.repository.keys import Secret, signer_load
from hotmend.repository.state import Settings

Delegator = Metadata[Root] | Metadata[Targets]


class OnlineSigners:
    """Loads each key once, when it is needed first."""

    def __init__(self, settings: Settings, secret: Secret) -> None:
        self._settings = settings
        self._secret = secret
        self._loaded: dict[str, Signer] = {}

    def sign(self, role: str, unsigned: Metadata[T], delegators: tuple[Delegator, ...]) -> Metadata[T]:
        """Return the metadata signed by all keys at hand that one of `delegators` allows.

        The first says who must sign; with signatures for the others, clients that know only those can follow.

        Raises:
            InputError: the keys at hand are not enough for the first.
        """
        allowed = frozenset[str]().union(*(_ids(delegator, role) for delegator in delegators))
        signers, errors = self._signers(role)
        usable = [signer for signer in signers if signer.public_key.keyid in allowed]
        signed = metadata.merged(unsigned, [signer.sign(unsigned.signed_bytes) for signer in usable])
        missing = metadata.standing(delegators[0], role, signed).missing
        if missing:
            why = "; ".join(errors) or "the keys in the settings are others"
            raise InputError(f"{role}: {missing} more signatures are needed: {why}", "hotmend channel keys --signer")
        return signed

    def useful(self, role: str, delegator: Delegator) -> tuple[str, ...]:
        """Return the references of a role's keys without those that may sign no more."""
        allowed = _ids(delegator, role)
        references = self._settings.signers.get(role, ())
        return tuple(r for r in references if r not in self._loaded or self._loaded[r].public_key.keyid in allowed)

    def _signers(self, role: str) -> tuple[list[Signer], list[str]]:
        """Return the signers of a role, and why others could not be loaded: a revoked key may be gone."""
        signers: list[Signer] = []
        errors: list[str] = []
        for reference in self._settings.signers.get(role, ()):
            try:
                if reference not in self._loaded:
                    self._loaded[reference] = signer_load(reference, self._secret)
            except HotmendError as error:
                errors.append(str(error))
            else:
                signers.append(self._loaded[reference])
        return signers, errors


def _ids(delegator: Delegator, role: str) -> frozenset[str]:
    try:
        return metadata.key_set_of(delegator, role).ids
    except InputError:
        return frozenset()
