"""Keys that never leave a token, a module or a cloud's key service: named by the URIs of securesystemslib.

``hsm:2?label=LABEL`` is the key with id 2 on the PKCS#11 token LABEL; ``awskms:``, ``gcpkms:``, ``azurekms:``
and ``hv:`` name keys of services. The library behind a scheme is imported when a key of it is opened.
"""

from collections.abc import Callable, Mapping
from typing import Final
from urllib import parse

from securesystemslib.exceptions import UnsupportedLibraryError
from securesystemslib.signer import (
    AWSSigner,
    AzureSigner,
    GCPSigner,
    HSMSigner,
    Key,
    Signer,
    VaultSigner,
)

from muster_models.errors import Reason, TrustError

Secret = Callable[[str], str]  # asks for what a key is protected with, such as "pin"
Import = Callable[[parse.ParseResult, Secret], tuple[str, Key]]


def _hsm(uri: parse.ParseResult, secret: Secret) -> tuple[str, Key]:
    label = dict(parse.parse_qsl(uri.query)).get("label")
    return HSMSigner.import_(int(uri.path) if uri.path else None, label, secret)


def _aws(uri: parse.ParseResult, _: Secret) -> tuple[str, Key]:
    return AWSSigner.import_(uri.path)


def _gcp(uri: parse.ParseResult, _: Secret) -> tuple[str, Key]:
    return GCPSigner.import_(uri.path)


def _azure(uri: parse.ParseResult, _: Secret) -> tuple[str, Key]:
    name = f"{uri.path}//".split("/")[2]  # azurekms://VAULT.vault.azure.net/keys/NAME/VERSION
    return AzureSigner.import_(uri.netloc.partition(".")[0], name)


def _vault(uri: parse.ParseResult, _: Secret) -> tuple[str, Key]:
    return VaultSigner.import_(uri.path.partition("/")[0])


IMPORTS: Final[Mapping[str, Import]] = {
    "hsm": _hsm,
    "awskms": _aws,
    "gcpkms": _gcp,
    "azurekms": _azure,
    "hv": _vault,
}
# What brings the library behind a scheme.
EXTRAS: Final[Mapping[str, str]] = {
    "hsm": "muster-fleet[hsm]",
    "awskms": "securesystemslib[awskms]",
    "gcpkms": "securesystemslib[gcpkms]",
    "azurekms": "securesystemslib[azurekms]",
    "hv": "securesystemslib[vault]",
}


def is_uri(text: str) -> bool:
    """Tell whether ``text`` names a key by a URI and not by a path."""
    scheme, mark, _ = text.partition(":")
    return bool(mark) and scheme.isalpha() and scheme.islower() and len(scheme) > 1


def open_uri(uri: str, secret: Secret) -> Signer:
    """Return the signer that a URI names; its public half is read from where the key is.

    Args:
        uri: Of a scheme in ``IMPORTS``.
        secret: Asked for the PIN, once for each use of the key.

    Raises:
        TrustError: No such scheme or key, the library behind it is not installed, or the service refused.
    """
    parsed = parse.urlparse(uri)
    if parsed.scheme not in IMPORTS:
        raise TrustError(
            Reason.WRONG_KEY, f"{uri}: expected a key file or one of {', '.join(map('{}:'.format, IMPORTS))}"
        )
    try:
        found, key = IMPORTS[parsed.scheme](parsed, secret)
        return Signer.from_priv_key_uri(found, key, secret)
    except UnsupportedLibraryError as error:
        raise TrustError(
            Reason.WRONG_KEY, f"{uri}: {error}; install it with: pip install '{EXTRAS[parsed.scheme]}'"
        ) from error
    except Exception as error:
        # The libraries behind the schemes raise their own errors, which cannot be named before they are here.
        told = str(error) or type(error).__name__
        raise TrustError(Reason.WRONG_KEY, f"{uri}: {told}") from error
