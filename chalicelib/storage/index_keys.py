"""The keys under which the indexes hold tokens: hashes of node ids and of users.

A key of an index may hold 2,048 bytes, a node id 4,096; and no index may name a document.
"""

from __future__ import annotations

import hmac
import logging
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any, Final, TypeAlias

from chalicelib.aws.errors import AwsError
from chalicelib.errors import StoreUnavailable
from chalicelib.tokens import canonical

_LEAST_CHARACTERS: Final = 32
_LOG = logging.getLogger("tokenservice")

ReadSecrets: TypeAlias = Callable[[], Sequence[bytes]]
"""The secrets of the index of nodes, the newest first. Without any, a node's key is its plain hash: whoever guesses
an id can confirm it."""


def plain_key(name: str) -> str:
    """The index key of a user, or of a node id without a secret: SHA-256 of its canonical form, in hex."""
    return _sha256(canonical(name))


def node_key(node_id: str, secrets: Sequence[bytes] = ()) -> str:
    """The index key of a node id: HMAC-SHA-256 of its canonical form, under the newest secret."""
    return _hmac(secrets[0], canonical(node_id)) if secrets else plain_key(node_id)


def plain_keys(name: str) -> list[str]:
    """The index keys under which a user, or a node id without a secret, may stand.

    Tokens stored before names were normalised stand under what was sent: most likely form C, form D, or what is sent
    now. None of them lives longer than 30 days.
    """
    if name.isascii():
        return [plain_key(name)]
    from unicodedata import normalize  # noqa: PLC0415 - as in `canonical()`

    return [_sha256(each) for each in dict.fromkeys((canonical(name), normalize("NFD", name), name))]


def node_keys(node_id: str, secrets: Sequence[bytes]) -> list[str]:
    """The index keys under which a node id may stand: with each secret, and without one, as before there was any."""
    return [_hmac(secret, canonical(node_id)) for secret in secrets] + plain_keys(node_id)


def read_secrets(parameter: str, ssm: Any) -> tuple[bytes, ...]:
    """Read the secrets from an SSM SecureString: one or more, the newest first, parted by white space.

    Args:
        ssm: called like botocore's SSM client, but raises our errors.

    Raises:
        StoreUnavailable: it can't be read, or holds no secret of at least 32 characters. The log says which.
    """
    try:
        value = str(ssm.get_parameter(Name=parameter, WithDecryption=True)["Parameter"]["Value"])
    except AwsError as error:
        _LOG.error("INDEX_KEY_PARAMETER: %r can't be read: %s", parameter, error.why)
        raise StoreUnavailable from None
    secrets = tuple(value.encode().split())
    if not secrets or min(map(len, secrets)) < _LEAST_CHARACTERS:
        _LOG.error("INDEX_KEY_PARAMETER: %r needs secrets of at least %d characters", parameter, _LEAST_CHARACTERS)
        raise StoreUnavailable
    return secrets


def _hmac(secret: bytes, text: str) -> str:
    return hmac.digest(secret, text.encode(), "sha256").hex()


def _sha256(text: str) -> str:
    return sha256(text.encode()).hexdigest()
