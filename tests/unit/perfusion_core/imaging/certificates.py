"""A certificate authority of a test, and a certificate that may sign images."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


@dataclass(frozen=True)
class Certificates:
    """PEM files: the chain, its key, and the authority's own certificate."""

    chain: Path
    key: Path
    authority: Path


def write(folder: Path) -> Certificates:
    """Make an authority and a certificate for signing, and write their files."""
    authority_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    authority = _certificate("authority", authority_key, signed_by=authority_key)
    leaf = _certificate("signer", key, signed_by=authority_key)
    files = Certificates(folder / "chain.pem", folder / "key.pem", folder / "authority.pem")
    files.chain.write_bytes(_pem(leaf) + _pem(authority))
    files.authority.write_bytes(_pem(authority))
    files.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return files


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _name(common: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, common),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Test"),
        ]
    )


def _certificate(
    common: str, key: ec.EllipticCurvePrivateKey, *, signed_by: ec.EllipticCurvePrivateKey
) -> x509.Certificate:
    own, now = key is signed_by, datetime.now(UTC)
    usage = x509.KeyUsage(True, False, False, False, False, own, own, False, False)
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(common))
        .issuer_name(_name("authority"))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=own, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signed_by.public_key()),
            critical=False,
        )
    )
    if not own:
        purpose = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
        builder = builder.add_extension(purpose, critical=False)
    return builder.sign(signed_by, hashes.SHA256())
