"""What went wrong with a connection, in words a person reads: without numbers and names of Python's objects.

A library wraps what the system said several times over; said here is only the innermost of it.
"""

import ssl
from http.client import RemoteDisconnected

# What OpenSSL answers to a certificate, by its numbers.
NOT_YET_VALID, EXPIRED = 9, 10
_UNPROVEN = {
    NOT_YET_VALID: "it is not valid yet by the clock of this machine",
    EXPIRED: "it has expired by the clock of this machine",
    18: "it comes from another authority",
    19: "it comes from another authority",
    20: "it comes from another authority",
    21: "it comes from another authority",
}
_REFUSED = {
    "CERTIFICATE_REVOKED": "it refuses this side's certificate, which is revoked",
    "CERTIFICATE_EXPIRED": "it refuses this side's certificate, which has expired by its clock",
    "UNKNOWN_CA": "it refuses this side's certificate, which comes from another authority",
    "BAD_CERTIFICATE": "it refuses this side's certificate",
    "CERTIFICATE_UNKNOWN": "it refuses this side's certificate",
    "CERTIFICATE_REQUIRED": "it asks for a certificate, and got none",
}


def in_words(error: BaseException) -> str:
    """Return what an error of a socket, of TLS or of an HTTP library says, on one short line."""
    innermost = _innermost(error)
    match innermost:
        case ssl.SSLCertVerificationError():
            why = _UNPROVEN.get(innermost.verify_code) or innermost.verify_message or innermost.reason
            said = f"its certificate is refused here: {why}"
        case ssl.SSLError():
            said = tls_in_words(innermost.reason) or str(innermost)
        case TimeoutError():
            said = "no answer in time"
        case RemoteDisconnected():
            said = "it ended the connection without an answer"
        case OSError() if innermost.strerror:
            said = innermost.strerror
        case _:
            said = str(innermost) or type(innermost).__name__
    return " ".join(said.split())[:300]


def tls_in_words(reason: str | None) -> str:
    """Return what a reason of OpenSSL says, such as ``SSLV3_ALERT_CERTIFICATE_REVOKED``; empty for none."""
    _, _, alert = (reason or "").partition("_ALERT_")
    return _REFUSED.get(alert) or (f"TLS failed: {reason.replace('_', ' ').lower()}" if reason else "")


def is_about_dates(error: BaseException) -> bool:
    """Tell whether a certificate was refused for its dates, on either side: then a clock may be wrong."""
    match _innermost(error):
        case ssl.SSLCertVerificationError() as found:
            return found.verify_code in {NOT_YET_VALID, EXPIRED}
        case ssl.SSLError() as found:
            return (found.reason or "").endswith("_ALERT_CERTIFICATE_EXPIRED")
        case _:
            return False


def _innermost(error: BaseException) -> BaseException:
    """Return the error of the system that lies in those of libraries, or else the first."""
    found, seen = error, {id(error)}
    current = error
    while True:
        reasons = (getattr(current, "reason", None), current.__cause__, *current.args)
        inner = next((one for one in reasons if isinstance(one, BaseException) and id(one) not in seen), None)
        if inner is None:
            return found
        seen.add(id(inner))
        current = inner
        if isinstance(inner, OSError):
            found = inner
