"""Sign pictures with content credentials (C2PA), and read those of any picture; nothing is fetched from a network."""

import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from PIL import Image

from unclip.errors import InputError, optional_module

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

FORMATS = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp", ".gif": "image/gif"}
SOURCE_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
GENERATED, EDITED = "trainedAlgorithmicMedia", "compositeWithTrainedAlgorithmicMedia"
"""IPTC's words for a picture that a model made, and for one that it made parts of."""
CURVES = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}
# By default the library fetches from URLs that a file names, reads each file that it has signed, and adds a thumbnail.
# It ignores settings that it does not know, so the list of hosts is a second lock.
SETTINGS: Mapping[str, Any] = {
    "core": {"allowed_network_hosts": []},
    "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False, "verify_after_sign": False},
    "builder": {"thumbnail": {"enabled": False}},
}
# Codes of an intact file whose signer is unknown, or whose certificate was valid once.
SIGNER_PROBLEMS = {"signingCredential.untrusted", "signingCredential.expired"}
DEVELOPMENT = "unclip development certificate, trusted by nobody"
LIFETIME = timedelta(days=3650)
# RFC 5280 4.2.1.3: the bits of a certificate's key usage.
DIGITAL_SIGNATURE, KEY_CERT_SIGN, NUM_KEY_USES = 0, 5, 9


class Credentials(NamedTuple):
    """What the credentials of a picture say, in the words of whoever signed; empty where they say nothing."""

    status: Literal["absent", "trusted", "untrusted", "tampered", "unreadable"]
    signer: str = ""
    software: str = ""
    source_type: str = ""
    """IPTC's word for how the picture came about, such as trainedAlgorithmicMedia."""
    problems: tuple[str, ...] = ()
    """C2PA's codes of the failed checks, or why nothing can be read."""


@dataclass(frozen=True, kw_only=True)
class Signer:
    """A chain of certificates, the signer's first, and the signer's private key, both in PEM."""

    certificates: bytes
    key: bytes = field(repr=False)
    algorithm: str
    is_development: bool = False

    @classmethod
    def read(cls, certificate: Path, key: Path) -> "Signer":
        """Read two PEM files and sign a pixel with them; raises `InputError` if that is impossible."""
        optional_module("cryptography", "signing pictures", "safety")
        from cryptography import x509
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        path, kind = certificate, "chain of certificates"
        try:
            chain = path.read_bytes()
            public = x509.load_pem_x509_certificates(chain)[0].public_key()
            path, kind = key, "private key without a password"
            private = load_pem_private_key(path.read_bytes(), password=None)
        except OSError as error:
            raise InputError(f"{path} cannot be read ({error.strerror}); give a file in PEM.") from None
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise InputError(f"{path} holds no {kind} in PEM; openssl converts other forms.") from None
        if private.public_key() != public:
            raise InputError(f"{key} is not the key of the first certificate in {certificate}; give two that match.")
        signer, pixel = _signer(chain, private), io.BytesIO()
        Image.new("RGB", (1, 1)).save(pixel, "PNG")
        try:
            sign(pixel.getvalue(), ".png", signer, software="unclip")
        except InputError as error:
            raise InputError(f"C2PA does not accept {certificate}: {error}") from None
        return signer

    @classmethod
    def development(cls) -> "Signer":
        """Make a key and a chain of two certificates in memory, which no list of trusted signers holds."""
        optional_module("cryptography", "signing pictures", "safety")
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

        leaf, root = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, DEVELOPMENT + end)]) for end in ("", ": root")]
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(root.public_key())
        purpose = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
        now, chain = datetime.now(UTC), b""
        for key, name, use in ((leaf, names[0], DIGITAL_SIGNATURE), (root, names[1], KEY_CERT_SIGN)):
            draft = x509.CertificateBuilder(names[1], name, key.public_key(), x509.random_serial_number())
            draft = draft.not_valid_before(now - timedelta(days=1)).not_valid_after(now + LIFETIME)  # clocks differ
            draft = draft.add_extension(x509.BasicConstraints(ca=key is root, path_length=None), critical=True)
            draft = draft.add_extension(x509.KeyUsage(*(bit == use for bit in range(NUM_KEY_USES))), critical=True)
            draft = draft.add_extension(issuer, critical=False).add_extension(purpose, critical=False)
            chain += draft.sign(root, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        return _signer(chain, leaf, is_development=True)


def _signer(chain: bytes, key: "PrivateKeyTypes", *, is_development: bool = False) -> Signer:
    """Find the algorithm of a key, and write the key in the one form that the library reads, PKCS 8."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    match key:
        case ec.EllipticCurvePrivateKey() if key.curve.name in CURVES:
            algorithm = CURVES[key.curve.name]
        case rsa.RSAPrivateKey():
            algorithm = "ps256"
        case ed25519.Ed25519PrivateKey():
            algorithm = "ed25519"
        case _:
            raise InputError(f"C2PA signs with no {type(key).__name__}; use RSA, Ed25519, P-256, P-384 or P-521.")
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return Signer(certificates=chain, key=pem, algorithm=algorithm, is_development=is_development)


def sign(
    content: bytes, suffix: str, signer: Signer, *, title: str = "", software: str, is_edit: bool = False
) -> bytes:
    """Add credentials to the bytes of a file: `software`, such as unclip/1.0, made the picture, or parts if `is_edit`.

    Pixels and metadata stay as they are. Raises `InputError` for another suffix, or a file that is no such picture.
    """
    c2pa = optional_module("c2pa", "signing pictures", "safety")
    if suffix not in FORMATS:
        raise InputError(f"credentials have no place in {suffix or 'a file without suffix'}; use {', '.join(FORMATS)}.")
    name, _, version = software.partition("/")
    action = {"action": "c2pa.created", "digitalSourceType": SOURCE_TYPES + (EDITED if is_edit else GENERATED)}
    manifest = {
        "claim_generator_info": [{"name": name, "version": version}],
        "title": title.encode(errors="backslashreplace").decode(),  # half a surrogate has no bytes in UTF-8
        "assertions": [{"label": "c2pa.actions", "data": {"actions": [action]}}],
    }
    info, signed = c2pa.C2paSignerInfo(signer.algorithm, signer.certificates, signer.key, None), io.BytesIO()
    try:
        with (
            c2pa.Context.from_dict(SETTINGS) as context,
            c2pa.Signer.from_info(info) as native,
            c2pa.Builder(manifest, context) as builder,
        ):
            builder.sign(native, FORMATS[suffix], io.BytesIO(content), signed)
    except c2pa.C2paError as error:
        raise InputError(f"the picture cannot be signed ({error}); give a whole {suffix} and a valid signer.") from None
    return signed.getvalue()


def read_credentials(content: bytes, trust: bytes | None = None) -> Credentials:
    """Read and check the credentials in the bytes of any file; `trust` are certificates of trusted roots in PEM.

    A file that differs from what was signed is "tampered", and a valid signature of somebody unknown "untrusted". Bytes
    that are no picture are "unreadable". Raises `InputError` if `trust` holds no certificates.
    """
    c2pa = optional_module("c2pa", "reading content credentials", "safety")
    try:
        anchors = {} if trust is None else {"trust": {"trust_anchors": trust.decode()}}
        context = c2pa.Context.from_dict({**SETTINGS, **anchors})
    except (c2pa.C2paError, UnicodeError):
        raise InputError("the trusted roots are no certificates in PEM; give a file that holds some.") from None
    try:
        with context, c2pa.Reader(None, io.BytesIO(content), context=context) as reader:
            report = json.loads(reader.json())
    except c2pa.C2paError.ManifestNotFound:
        return Credentials("absent")
    except (c2pa.C2paError, ValueError) as error:
        return Credentials("unreadable", problems=(str(error),))
    return _credentials(report)


def _credentials(report: Mapping[str, Any]) -> Credentials:
    """Condense a report of the library, which ensures no types in what the signer wrote."""
    state, manifests, active = report["validation_state"], report["manifests"], report["active_manifest"]
    problems = tuple(dict.fromkeys(one["code"] for one in report.get("validation_status", ())))
    is_intact = state == "Valid" or (len(problems) > 0 and SIGNER_PROBLEMS.issuperset(problems))
    match manifests[active].get("claim_generator_info"):
        case [{"name": str(name), **others}, *_]:
            software = f"{name} {others.get('version', '')}".strip()
        case _:
            software = str(manifests[active].get("claim_generator") or "")
    signature = manifests[active].get("signature_info") or {}
    # Those of a picture's sources follow its own: the first that name a type count.
    chain = [manifests[active], *manifests.values()]
    return Credentials(
        status="trusted" if state == "Trusted" else "untrusted" if is_intact else "tampered",
        signer=str(signature.get("common_name") or signature.get("issuer") or ""),
        software=software,
        source_type=next((kind for manifest in chain for kind in _source_types(manifest)), ""),
        problems=problems,
    )


def _source_types(manifest: Mapping[str, Any]) -> Iterator[str]:
    for assertion in manifest.get("assertions", ()):
        match assertion:
            case {"label": str(label), "data": {"actions": [*actions]}} if label.startswith("c2pa.actions"):
                kinds = (action.get("digitalSourceType") for action in actions if isinstance(action, Mapping))
                yield from (kind.rpartition("/")[2] for kind in kinds if isinstance(kind, str))
