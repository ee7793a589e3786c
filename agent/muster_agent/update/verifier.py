"""Trust for the whole agent: one client of the signed repository, used from several threads.

What may wait for the network is behind a lock. ``reverify`` takes none: it reads what was verified last,
which is replaced in one assignment, so going back to the version before never waits for a network.
"""

import threading
import time
from collections.abc import Callable

from muster_models.errors import MusterError, Reason, TrustError
from muster_models.trust.client import TrustClient
from muster_models.trust.verified import VerifiedManifest
from muster_models.wire import Desired, DesiredModel

_ROTATED = frozenset({Reason.WRONG_KEY, Reason.UNSIGNED, Reason.EXPIRED})
LOOK_AGAIN_SECONDS = 60.0
# A root that takes a key away is noticed no later than this, whatever a mirror answers: docs/adr/0010.
FULL_LOOK_SECONDS = 86_400.0


class Verifier:
    """Answers what may be obeyed and installed.

    Args:
        client: Owned from here on.
        device: Whom desired states must be for.
        clock: Monotonic seconds.
    """

    def __init__(
        self, client: TrustClient, device: str, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._client = client
        self._device = device
        self._clock = clock
        self._lock = threading.Lock()
        self._looked_at = -LOOK_AGAIN_SECONDS
        self._refreshed_at: float | None = None

    @property
    def time_floor(self) -> float:
        """The newest time that was seen signed, in Unix seconds; no earlier one is believed."""
        return self._client.time_floor

    def refresh(self) -> None:
        """Fetch what is new in the repository.

        Raises:
            TrustError: What it holds is not what was signed, or has expired.
            TransferError: It cannot be reached.
            StorageError: The disk refused.
        """
        with self._lock:
            self._refresh()

    def check(self) -> None:
        """Fetch what is new in the repository, if anything is: mostly one request of a few hundred bytes.

        A full look follows where the timestamp has changed or expires soon, where the last one failed or is a
        day old, and always in a process that has just started.

        Raises:
            TrustError: What it holds is not what was signed, or has expired.
            TransferError: It cannot be reached.
            StorageError: The disk refused.
        """
        with self._lock:
            if not self._is_recent() or not self._client.is_unchanged():
                self._refresh()

    def installable(self, wanted: DesiredModel) -> VerifiedManifest:
        """Return the version that a desired state names, if it may be installed now.

        Raises:
            TrustError: It may not.
            TransferError: The repository cannot be reached.
            ManifestError: It is listed, and is not a manifest.
            StorageError: The disk refused.
        """
        with self._lock:
            return self._client.manifest(wanted.model, wanted.version, wanted.manifest)

    def reverify(self, document: bytes) -> VerifiedManifest:
        """Return an installed version that may still run; needs no network and waits for nobody.

        Raises:
            TrustError: It may not.
            ManifestError: Not a manifest.
        """
        return self._client.reverify(document)

    def desired(self, envelope: bytes, *, held: int) -> Desired:
        """Return a desired state that this device must obey.

        One that is held already is returned again, because a controller repeats it when in doubt. A signature
        that does not fit may mean that keys were changed since: the repository is asked, not too often.

        Args:
            held: Sequence of the newest desired state that was accepted; 0 for none.

        Raises:
            TrustError: It is not for this device, not newer, expired, or not signed by the director.
            TransferError: Nothing was verified yet and the repository cannot be reached.
        """
        with self._lock:
            try:
                return self._open(envelope, held)
            except TrustError as error:
                if error.reason not in _ROTATED or not self._may_look_again():
                    raise
            self._try_refresh()
            return self._open(envelope, held)

    def _open(self, envelope: bytes, held: int) -> Desired:
        try:
            return self._client.desired(envelope, device=self._device, after=held)
        except TrustError as error:
            if error.reason is not Reason.REPLAYED or held == 0:
                raise
            replayed = error
        try:
            return self._client.desired(envelope, device=self._device, after=held - 1)
        except TrustError as error:
            raise replayed from error

    def _refresh(self) -> None:
        began, self._refreshed_at = self._clock(), None
        self._client.refresh()
        self._refreshed_at = began

    def _is_recent(self) -> bool:
        return self._refreshed_at is not None and self._clock() - self._refreshed_at < FULL_LOOK_SECONDS

    def _may_look_again(self) -> bool:
        now = self._clock()
        if now - self._looked_at < LOOK_AGAIN_SECONDS:
            return False
        self._looked_at = now
        return True

    def _try_refresh(self) -> None:
        try:
            self._refresh()
        except MusterError:
            return  # the envelope is judged by what is known; its own refusal is the one to tell
