"""Signed C2PA manifests (Content Credentials): who says that a model made an image."""

import io
from pathlib import Path
from typing import Any

from PIL import Image

from perfusion_core.errors import CredentialsError
from perfusion_core.imaging.provenance import product_version, source_type

_WITHOUT_THUMBNAIL = {"builder": {"thumbnail": {"enabled": False}}}
_ECDSA = {"secp256r1": b"es256", "secp384r1": b"es384", "secp521r1": b"es512"}


class ContentCredentials:
    """A certificate and its key, which sign a manifest for each image.

    A signature contains random numbers, so files of equal images differ in their manifests.
    """

    def __init__(
        self,
        *,
        certificate: str | Path,
        private_key: str | Path,
        timestamp_url: str | None = None,
    ) -> None:
        """Read both PEM files and sign a trial image; raises CredentialsError if that fails.

        `certificate` holds the chain, the signer's own certificate first. `timestamp_url` names an
        RFC 3161 time-stamping authority.
        """
        try:
            import c2pa
        except ImportError as error:
            raise CredentialsError(
                "Signing images needs c2pa-python: install perfusion[c2pa]."
            ) from error
        chain, key = _read(certificate), _read(private_key)
        self._c2pa = c2pa
        self._info = (
            _algorithm(chain, file=certificate), chain, key,
            timestamp_url.encode() if timestamp_url else None,
        )  # fmt: skip
        self._context = c2pa.Context(c2pa.Settings.from_dict(_WITHOUT_THUMBNAIL))
        self.sign(_TRIAL, edited=False)

    def sign(self, png: bytes, *, edited: bool) -> bytes:
        """Return a PNG with its signed manifest; raises CredentialsError if signing fails."""
        signed = io.BytesIO()
        try:
            signer = self._c2pa.Signer.from_info(self._c2pa.C2paSignerInfo(*self._info))
            self._c2pa.Builder(_manifest(edited=edited), context=self._context).sign(
                signer, "image/png", io.BytesIO(png), signed
            )
        except self._c2pa.C2paError as error:
            raise CredentialsError(
                f"The certificate and key for Content Credentials cannot sign: {error}. The key "
                "must belong to the first certificate of the chain, and C2PA's specification says "
                "what a certificate must allow."
            ) from error
        return signed.getvalue()


def _manifest(*, edited: bool) -> dict[str, Any]:
    action = {"action": "c2pa.created", "digitalSourceType": source_type(edited=edited)}
    return {
        "claim_generator_info": [{"name": "Perfusion", "version": product_version()}],
        "format": "image/png",
        "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [action]}}],
    }


def _read(file: str | Path) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise CredentialsError(f"{file} cannot be read: {error.strerror}.") from error


def _algorithm(chain: bytes, *, file: str | Path) -> bytes:
    """Return C2PA's name of the algorithm by which the key of a certificate signs."""
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    try:
        key = x509.load_pem_x509_certificates(chain)[0].public_key()
    except ValueError as error:
        raise CredentialsError(f"{file} is no chain of certificates in PEM.") from error
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _ECDSA:
        return _ECDSA[key.curve.name]
    if isinstance(key, rsa.RSAPublicKey):
        return b"ps256"
    if isinstance(key, ed25519.Ed25519PublicKey):
        return b"ed25519"
    raise CredentialsError(
        f"{file} has a key of a kind that C2PA does not know: take P-256, P-384, P-521, RSA or "
        "Ed25519."
    )


def _trial() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (1, 1)).save(file, "PNG")
    return file.getvalue()


_TRIAL = _trial()
