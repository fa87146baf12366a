"""Content credentials: what is signed reads back, what was changed afterwards is told apart, and no damage raises."""

import io
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from optional import require
from pictures import encoded, picture
from unclip.errors import InputError
from unclip.images import encode_gif, encode_picture
from unclip.safety.credentials import (
    DEVELOPMENT,
    EDITED,
    FORMATS,
    GENERATED,
    SETTINGS,
    Signer,
    _credentials,
    read_credentials,
    sign,
)

c2pa = require("c2pa")
require("cryptography")
from cryptography import x509  # noqa: E402
from cryptography.hazmat.primitives import hashes, serialization  # noqa: E402
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa, x25519  # noqa: E402
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID  # noqa: E402

METADATA = {"prompt": "naïve café, 猫", "seed": "7", "model": "tiny"}
SOFTWARE = "unclip/1.2.3"
SIGNER = Signer.development()
ROOT = SIGNER.certificates[SIGNER.certificates.rindex(b"-----BEGIN") :]
KEYS: dict[str, Any] = {
    "es256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "es384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "es512": lambda: ec.generate_private_key(ec.SECP521R1()),
    "ps256": lambda: rsa.generate_private_key(65537, 2048),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
}
PEM = serialization.Encoding.PEM


def file_of(suffix: str) -> bytes:
    return encode_gif([picture(0)], METADATA) if suffix == ".gif" else encode_picture(picture(0), suffix, METADATA)


SIGNED = {suffix: sign(file_of(suffix), suffix, SIGNER, software=SOFTWARE) for suffix in FORMATS}


def certificate(key: Any, *, days: float = 9, purpose: Any = ExtendedKeyUsageOID.EMAIL_PROTECTION) -> bytes:
    """A certificate for a key by an authority that is nowhere, from a month ago until `days` from now."""
    authority = ec.generate_private_key(ec.SECP256R1())
    name, issuer = (x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)]) for text in ("A studio", "Authority"))
    draft = x509.CertificateBuilder(issuer, name, key.public_key(), 7)
    draft = draft.not_valid_before(datetime.now(UTC) - timedelta(30))
    draft = draft.not_valid_after(datetime.now(UTC) + timedelta(days))
    draft = draft.add_extension(x509.KeyUsage(True, *[False] * 8), critical=True)
    draft = draft.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key())
    return draft.add_extension(identifier, critical=False).sign(authority, hashes.SHA256()).public_bytes(PEM)


def private_bytes(key: Any, form: str = "PKCS8", password: bytes | None = None) -> bytes:
    protection = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(PEM, getattr(serialization.PrivateFormat, form), protection)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate and its key as files."""
    key = KEYS["es256"]()
    (tmp_path / "chain.pem").write_bytes(certificate(key))
    (tmp_path / "key.pem").write_bytes(private_bytes(key))
    return tmp_path / "chain.pem", tmp_path / "key.pem"


@pytest.mark.parametrize("suffix", FORMATS)
def test_what_is_signed_reads_back(suffix: str) -> None:
    found = read_credentials(SIGNED[suffix])
    assert found == ("untrusted", DEVELOPMENT, "unclip 1.2.3", GENERATED, ("signingCredential.untrusted",))
    assert read_credentials(SIGNED[suffix], ROOT) == ("trusted", DEVELOPMENT, "unclip 1.2.3", GENERATED, ())
    assert read_credentials(file_of(suffix)) == ("absent", "", "", "", ())


@pytest.mark.parametrize("suffix", FORMATS)
def test_pixels_and_metadata_stay_bit_for_bit(suffix: str) -> None:
    with Image.open(io.BytesIO(file_of(suffix))) as before, Image.open(io.BytesIO(SIGNED[suffix])) as after:
        assert np.array_equal(np.asarray(before), np.asarray(after))
        assert (before.size, before.mode) == (after.size, after.mode)
        # A GIF's other entry is a place in the file.
        names = before.info.keys() - {"extension"}
        assert {name: after.info[name] for name in names} == {name: before.info[name] for name in names}
        assert before.getexif().get_ifd(0x8769) == after.getexif().get_ifd(0x8769)
    # No thumbnail is added.
    assert 2_000 < len(SIGNED[suffix]) - len(file_of(suffix)) < 5_000


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_changed_pixel_is_tampering(suffix: str) -> None:
    content = bytearray(SIGNED[suffix])
    # In the compressed pixels, far from the credentials: those are at the start but for WebP.
    place = file_of(suffix).index(b"VP8") + 100 if suffix == ".webp" else len(content) - 300
    content[place] ^= 1
    found = read_credentials(bytes(content), ROOT)
    assert (found.status, found.signer, found.source_type) == ("tampered", DEVELOPMENT, GENERATED)
    assert "assertion.dataHash.mismatch" in found.problems


def test_credentials_moved_to_another_picture_are_tampering() -> None:
    start = SIGNED[".png"].index(b"caBX") - 4
    length = int.from_bytes(SIGNED[".png"][start : start + 4], "big") + 12
    other = encoded(picture(1))
    assert read_credentials(other[:33] + SIGNED[".png"][start : start + length] + other[33:]).status == "tampered"


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_saving_again_removes_them(form: str) -> None:
    with Image.open(io.BytesIO(SIGNED[".png"])) as image:
        assert read_credentials(encoded(image, form)).status == "absent"


def test_an_edit_is_a_composite() -> None:
    content = sign(file_of(".png"), ".png", SIGNER, software="unclip", title="a\0b \ud83d", is_edit=True)
    assert read_credentials(content)[:4] == ("untrusted", DEVELOPMENT, "unclip", EDITED)


def test_a_certificate_that_expires_leaves_an_untrusted_file_whose_changes_show() -> None:
    """Without a timestamp, which would need a network, signatures are worth as much as certificates that are valid."""
    key = KEYS["es256"]()
    end = datetime.now(UTC) + timedelta(seconds=2)
    signer = Signer(certificates=certificate(key, days=2 / 86400), key=private_bytes(key), algorithm="es256")
    content = bytearray(sign(file_of(".png"), ".png", signer, software=SOFTWARE))
    threading.Event().wait((end - datetime.now(UTC)).total_seconds() + 1.1)
    found = read_credentials(bytes(content))
    assert (found.status, found.signer) == ("untrusted", "A studio")
    assert found.problems == ("signingCredential.untrusted", "signingCredential.expired")
    content[-300] ^= 1
    assert read_credentials(bytes(content)).status == "tampered"


@pytest.mark.parametrize("algorithm", KEYS)
def test_own_keys_sign(algorithm: str, files: tuple[Path, Path]) -> None:
    key = KEYS[algorithm]()
    files[0].write_bytes(certificate(key))
    files[1].write_bytes(private_bytes(key))
    signer = Signer.read(*files)
    assert (signer.algorithm, signer.is_development, SIGNER.is_development) == (algorithm, False, True)
    assert "PRIVATE KEY" not in repr(signer)
    assert read_credentials(sign(file_of(".jpg"), ".jpg", signer, software=SOFTWARE))[:2] == ("untrusted", "A studio")


def test_a_key_in_the_older_form_of_openssl_signs(files: tuple[Path, Path]) -> None:
    key = KEYS["es256"]()
    files[0].write_bytes(certificate(key))
    files[1].write_bytes(private_bytes(key, "TraditionalOpenSSL"))
    assert files[1].read_text().startswith("-----BEGIN EC PRIVATE KEY")
    assert read_credentials(sign(file_of(".png"), ".png", Signer.read(*files), software=SOFTWARE)).status == "untrusted"


def replace(files: tuple[Path, Path], case: str) -> None:
    key = KEYS["es256"]()
    match case:
        case "mismatch":
            files[1].write_bytes(private_bytes(key))
        case "no certificate":
            files[0].write_text("nothing")
        case "no key":
            files[1].write_bytes(files[0].read_bytes())
        case "password":
            files[1].write_bytes(private_bytes(key, password=b"secret"))
        case "missing":
            files[1].unlink()
        case "curve":
            key = ec.generate_private_key(ec.SECP256K1())
        case "kind":
            key = x25519.X25519PrivateKey.generate()
    if case in ("curve", "kind", "expired", "purpose"):
        purpose = ExtendedKeyUsageOID.SERVER_AUTH if case == "purpose" else ExtendedKeyUsageOID.EMAIL_PROTECTION
        files[0].write_bytes(certificate(key, days=-1 if case == "expired" else 9, purpose=purpose))
        files[1].write_bytes(private_bytes(key))


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("mismatch", "key.pem is not the key of the first certificate in .*chain.pem; give two that match."),
        ("no certificate", "chain.pem holds no chain of certificates in PEM; "),
        ("no key", "key.pem holds no private key without a password in PEM; "),
        ("password", "key.pem holds no private key without a password in PEM; "),
        ("missing", r"key.pem cannot be read \(No such file or directory\); "),
        ("curve", "C2PA signs with no "),
        ("kind", "C2PA signs with no X25519"),
        ("expired", "C2PA does not accept .*chain.pem: .*not valid at time of signing"),
        ("purpose", "C2PA does not accept .*chain.pem: .*the certificate is invalid"),
    ],
)
def test_files_that_cannot_sign_are_refused_in_one_line(files: tuple[Path, Path], case: str, message: str) -> None:
    replace(files, case)
    with pytest.raises(InputError, match=message) as caught:
        Signer.read(*files)
    assert "\n" not in str(caught.value)


def test_what_cannot_be_signed_is_refused_in_one_line() -> None:
    with pytest.raises(InputError, match=r"credentials have no place in \.bmp; use \.png, \.jpg, "):
        sign(b"", ".bmp", SIGNER, software=SOFTWARE)
    for content in (b"", b"no picture", file_of(".png")[:50]):
        with pytest.raises(InputError, match=r"the picture cannot be signed \(.*\); give a whole \.png"):
            sign(content, ".png", SIGNER, software=SOFTWARE)


@pytest.mark.parametrize("trust", [b"", b"no certificates", b"\xff"])
def test_trusted_roots_that_are_none_are_refused(trust: bytes) -> None:
    with pytest.raises(InputError, match="the trusted roots are no certificates in PEM"):
        read_credentials(SIGNED[".png"], trust)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".gif"])
def test_no_damage_raises_or_becomes_trusted_pixels(suffix: str) -> None:
    """What still counts as signed shows the same pixels: only padding between the credentials can have changed."""
    generator, whole = random.Random(0), SIGNED[suffix]
    with Image.open(io.BytesIO(whole)) as image:
        pixels = np.asarray(image.convert("RGB"))
    statuses = set()
    for _ in range(400):
        content = bytearray(whole)
        place = generator.randrange(len(content) - 8)
        match generator.randrange(4):
            case 0:
                del content[place:]
            case 1:
                content[place : place + 4] = generator.choice((b"\xff" * 4, bytes(4), b"\x7f\xff\xff\xff"))
            case 2:
                content[place:place] = generator.randbytes(generator.randrange(1, 40))
            case 3:
                del content[place : place + generator.randrange(1, 60)]
        found = read_credentials(bytes(content), ROOT)
        statuses.add(found.status)
        if found.status in ("trusted", "untrusted"):
            # Pillow refuses a wrong checksum of the credentials themselves.
            start = whole.index(b"caBX") - 4 if suffix == ".png" else 0
            after = start + 12 + int.from_bytes(whole[start : start + 4], "big")
            kept = whole[:start] + bytes(content[after:]) if suffix == ".png" else bytes(content)
            with Image.open(io.BytesIO(kept)) as image:
                assert np.array_equal(np.asarray(image.convert("RGB")), pixels)
    assert statuses >= {"tampered", "unreadable", "trusted"}


@contextmanager
def counting_server() -> Iterator[tuple[str, list[str]]]:
    """A server that answers nothing useful, and the paths that it was asked for."""
    paths: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            self.send_error(404)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/credentials.c2pa", paths
        finally:
            server.shutdown()
            thread.join()


def of_another(assertions: list[dict[str, Any]], url: str | None = None) -> bytes:
    """A PNG that another program has signed; its credentials are in the file, or said to be at `url`."""
    info, content = c2pa.C2paSignerInfo(SIGNER.algorithm, SIGNER.certificates, SIGNER.key, None), io.BytesIO()
    manifest = {"claim_generator_info": [{"name": "camera"}], "assertions": assertions}
    settings = {"verify": {"verify_after_sign": False}}
    with (
        c2pa.Context.from_dict(settings) as context,
        c2pa.Signer.from_info(info) as native,
        c2pa.Builder(manifest, context) as builder,
    ):
        if url is not None:
            builder.set_remote_url(url)
            builder.set_no_embed()
        builder.sign(native, "image/png", io.BytesIO(file_of(".png")), content)
    return content.getvalue()


def test_credentials_elsewhere_are_not_fetched() -> None:
    with counting_server() as (url, paths):
        content = of_another([], url)
        found = read_credentials(content)
        assert (found.status, len(found.problems), paths) == ("unreadable", 1, [])
        assert url in found.problems[0]
        # Each of two settings suffices; the library ignores names that it does not know, and by default it asks.
        for settings in ({"core": SETTINGS["core"]}, {"verify": SETTINGS["verify"]}, {}):
            assert paths == []
            with c2pa.Context.from_dict(settings) as context, pytest.raises(c2pa.C2paError):
                c2pa.Reader(None, io.BytesIO(content), context=context)
        assert paths == ["/credentials.c2pa"]


def test_a_camera_says_so() -> None:
    actions = [{"action": "c2pa.created", "digitalSourceType": "http://example.org/kinds/digitalCapture"}]
    other = {"label": "org.example", "data": {"actions": 7}}
    content = of_another([other, {"label": "c2pa.actions", "data": {"actions": actions}}])
    assert read_credentials(content, ROOT)[:4] == ("trusted", DEVELOPMENT, "camera", "digitalCapture")


def test_credentials_without_a_history_have_no_type() -> None:
    found = read_credentials(of_another([{"label": "org.example", "data": [1]}]), ROOT)
    assert (found.source_type, found.problems) == ("", ("assertion.action.malformed",))


@pytest.mark.parametrize("details", [{"claim_generator": "Shop 3"}, {"claim_generator_info": None}])
def test_older_claims(details: dict[str, Any]) -> None:
    """Claims of version 1 name their software in one text; what has no types is read as none."""
    manifest = {
        "assertions": [{"label": "c2pa.actions", "data": {"actions": [7, {"digitalSourceType": 8}]}}],
        **details,
    }
    report = {"validation_state": "Invalid", "active_manifest": "a", "manifests": {"a": manifest}}
    assert _credentials(report) == ("tampered", "", details.get("claim_generator", ""), "", ())


def test_the_type_of_a_source_counts_if_there_is_no_newer_one() -> None:
    def manifest(kind: str) -> dict[str, Any]:
        return {"assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [{"digitalSourceType": kind}]}}]}

    report: dict[str, Any] = {"validation_state": "Valid", "active_manifest": "b"}
    report["manifests"] = {"a": manifest("x/old"), "b": {}}
    assert _credentials(report)[:4] == ("untrusted", "", "", "old")
    report["manifests"]["b"] = manifest("x/new")
    assert _credentials(report).source_type == "new"
