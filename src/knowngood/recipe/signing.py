"""Signatures: who stands behind everything that decides in a recipe's folder (Ed25519, keys as PEM files).

A seal finds a flipped byte, but anybody can make it again. A signature is made over `deciding_parts`: recipe.json,
weights, calibration, preprocessing, thresholds, evidence, exports and cascade. One changed, added or removed file and
it does not hold; `signature.json` also lists the parts, so that the message can name the one that changed.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from knowngood.environment import needed
from knowngood.errors import ConfigError, RecipeError
from knowngood.files import storage_errors, write_json
from knowngood.recipe.manifest import SIGNATURE, Sha256, deciding_parts, read_document, seal

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

Keys: TypeAlias = "str | Path | Iterable[str | Path]"

_PURPOSE = "knowngood recipe signature, format 1"
_MOST_BYTES = 1 << 16  # of a key file
_BEGIN, _END = "-----BEGIN PUBLIC KEY-----", "-----END PUBLIC KEY-----"


class Signature(BaseModel):
    """One person's signature.

    Attributes:
        key: Fingerprint of the public key: hex SHA-256 of its 32 bytes.
        signed: When, ISO 8601 with zone; signed as well.
        signature: Base64 of the 64 bytes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: Sha256
    signed: str = Field(max_length=64)
    signature: str = Field(max_length=100)


class SignatureDocument(BaseModel):
    """What signature.json holds.

    Attributes:
        format: Of this document.
        digest: `decision_digest` of what was signed.
        parts: `deciding_parts` of what was signed.
        signatures: One a key.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = Field(1, ge=1, le=1)
    digest: Sha256
    parts: dict[str, Sha256] = Field(max_length=1000)
    signatures: tuple[Signature, ...] = Field(min_length=1, max_length=100)


def new_key(path: Path) -> tuple[Path, str]:
    """Makes a key pair: a private key that only its owner may read, and the public one beside it, ending in .pub.

    Returns:
        Path of the public key, and its fingerprint.

    Raises:
        ConfigError: One of the two files is there already.
        StorageError: They cannot be written.
        MissingExtraError: The extra `sign` is not installed.
    """
    needed("sign", "cryptography")
    from cryptography.hazmat.primitives import serialization as s
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    public_path = path.with_name(path.name + ".pub")
    for one in (path, public_path):
        if one.exists():
            raise ConfigError(
                f"{one} is there already.",
                expected="a new file: a key that is overwritten is lost, with all that it signed",
                fix="Give --new-key another name.",
            )
    private = Ed25519PrivateKey.generate()
    secret = private.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption())
    public = private.public_key()
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        for place, data, mode in (
            (path, secret, 0o600),
            (public_path, public.public_bytes(s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo), 0o644),
        ):
            with os.fdopen(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as handle:
                handle.write(data)
    return public_path, fingerprint(public)


def sign(folder: Path, key: Path) -> SignatureDocument:
    """Signs a recipe as it lies there, with its exports and its cascade, and writes signature.json.

    Signatures of other keys over the very same contents are kept.

    Args:
        folder: Of the recipe.
        key: Private key, PEM, not encrypted.

    Raises:
        RecipeError: There is no recipe, or a document of it cannot be read.
        ConfigError: The key is none.
        StorageError: signature.json cannot be written.
        MissingExtraError: The extra `sign` is not installed.
    """
    private = _private_key(key)
    parts = deciding_parts(folder)
    mark = fingerprint(private.public_key())
    signed = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    made = Signature(
        key=mark, signed=signed, signature=base64.b64encode(private.sign(_payload(folder, parts, signed))).decode()
    )
    before = _document_of(folder) if (folder / SIGNATURE).is_file() else None
    kept = () if before is None or before.parts != parts else before.signatures
    others = tuple(one for one in kept if one.key != mark)
    document = SignatureDocument(digest=seal(dict(parts)), parts=parts, signatures=(*others, made))
    write_json(folder / SIGNATURE, document.model_dump(mode="json"))
    return document


def verify(folder: Path, keys: Keys) -> Signature:
    """Returns the signature by which one of the keys stands behind a recipe as it lies there.

    Args:
        folder: Of the recipe.
        keys: Public keys: PEM files with one or more, or folders of files ending in .pub or .pem.

    Raises:
        RecipeError: There is no signature, none by these keys, or something has changed since.
        ConfigError: A file holds no such key.
        MissingExtraError: The extra `sign` is not installed.
    """
    from cryptography.exceptions import InvalidSignature

    trusted = public_keys(keys)
    if not (folder / SIGNATURE).is_file():
        raise RecipeError(
            f"The recipe at {folder} is not signed.",
            expected=f"{SIGNATURE} by one of the keys {_listed(trusted)}",
            fix=f"Have its owner sign it: knowngood sign {folder} --key PRIVATE_KEY.",
        )
    document = _document_of(folder)
    parts = deciding_parts(folder)
    found = [one for one in document.signatures if one.key in trusted]
    if not found:
        raise RecipeError(
            f"The recipe at {folder} is signed by {_listed(one.key for one in document.signatures)}, none of whom is "
            "trusted here.",
            expected=f"a signature by one of the keys {_listed(trusted)}",
            fix="Have it signed by one of them, or give the public key of who signed it.",
        )
    if parts != document.parts:
        raise RecipeError(
            f"The recipe at {folder} is not what was signed: {_difference(document.parts, parts)}.",
            expected="every file that decides as it was when it was signed",
            fix=f"Copy the recipe again from its owner; or, if the change is meant: knowngood sign {folder} --key KEY.",
        )
    for one in found:
        try:
            trusted[one.key].verify(_bytes_of(one.signature), _payload(folder, parts, one.signed))
        except InvalidSignature:
            continue
        return one
    raise RecipeError(
        f"The signature of the recipe at {folder} is forged or damaged: it does not fit its contents.",
        expected=f"a signature by one of the keys {_listed(trusted)}",
        fix="Copy the recipe again from its owner, or have it signed again.",
    )


def public_keys(keys: Keys) -> dict[str, Ed25519PublicKey]:
    """Returns fingerprint to public key.

    Raises:
        ConfigError: A file is missing, holds no public key, or there is none at all.
        MissingExtraError: The extra `sign` is not installed.
    """
    needed("sign", "cryptography")
    places = [Path(keys)] if isinstance(keys, (str, Path)) else [Path(one) for one in keys]
    files: list[Path] = []
    for place in places:
        inside = [one for one in place.glob("*") if one.suffix in (".pub", ".pem")] if place.is_dir() else [place]
        files += sorted(inside)
    made = {fingerprint(key): key for file in files for key in _keys_of(file)}
    if not made:
        raise ConfigError(
            f"There is no public key in {', '.join(map(str, places)) or 'an empty list'}.",
            expected="PEM files ending in .pub or .pem, as `knowngood sign --new-key FILE` makes them",
        )
    return made


def fingerprint(key: Ed25519PublicKey) -> str:
    """Returns the hex SHA-256 of a public key's 32 bytes."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()


def _payload(folder: Path, parts: dict[str, str], signed: str) -> bytes:
    """Returns what is signed: purpose, date, every part, and the name of the recipe, which is shown to people."""
    name = read_document(folder / "recipe.json").get("name")
    whole = {"purpose": _PURPOSE, "signed": signed, "name": name, "parts": parts}
    return json.dumps(whole, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _document_of(folder: Path) -> SignatureDocument:
    path = folder / SIGNATURE
    try:
        return SignatureDocument.model_validate(read_document(path))
    except (OSError, ValueError) as error:
        reason = "it holds something else" if isinstance(error, ValidationError) else str(error)
        raise RecipeError(
            f"{path} is damaged: {reason}.",
            expected="what `knowngood sign` saved",
            fix=f"Delete {path}, and have the recipe signed again.",
        ) from error


def _private_key(path: Path) -> Ed25519PrivateKey:
    needed("sign", "cryptography")
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    data = _content(path)
    try:
        found: Any = load_pem_private_key(data, None)
    except Exception as error:  # ValueError, UnsupportedAlgorithm; TypeError where it is encrypted
        raise _no_key(path, "private") from error
    if not isinstance(found, Ed25519PrivateKey):
        raise _no_key(path, "private")
    return found


def _keys_of(path: Path) -> list[Ed25519PublicKey]:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    text = _content(path).decode("utf-8", "replace")
    blocks = [_BEGIN + rest.split(_END)[0] + _END for rest in text.split(_BEGIN)[1:] if _END in rest]
    made: list[Ed25519PublicKey] = []
    for block in blocks:
        try:
            found: Any = load_pem_public_key(block.encode())
        except Exception as error:  # ValueError, UnsupportedAlgorithm
            raise _no_key(path, "public") from error
        if not isinstance(found, Ed25519PublicKey):
            raise _no_key(path, "public")
        made.append(found)
    if not made:
        raise _no_key(path, "public")
    return made


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as handle:
            data = handle.read(_MOST_BYTES + 1)
    except OSError as error:
        raise ConfigError(
            f"The key {path} cannot be read: {error.strerror or error}.", fix="Check the path and your rights."
        ) from error
    return data if len(data) <= _MOST_BYTES else b""


def _no_key(path: Path, kind: str) -> ConfigError:
    fix = "The public key is the file ending in .pub." if kind == "public" else "The private key has no ending."
    return ConfigError(
        f"{path} holds no {kind} Ed25519 key.",
        expected="a PEM file as `knowngood sign --new-key FILE` makes it, not encrypted",
        fix=fix,
    )


def _bytes_of(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        return b""


def _difference(signed: dict[str, str], now: dict[str, str]) -> str:
    """Returns in words which parts changed; at most three are named."""
    changes = [f"{one} has changed" for one in signed if one in now and now[one] != signed[one]]
    changes += [f"{one} is gone" for one in signed if one not in now]
    changes += [f"{one} has been added" for one in now if one not in signed]
    return ", ".join(changes[:3]) + (f" and {len(changes) - 3} more" if len(changes) > 3 else "")


def _listed(marks: Iterable[str]) -> str:
    return ", ".join(one[:16] for one in marks)
