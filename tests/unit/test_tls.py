"""Every client of ours that speaks TLS: which servers it sends something to."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tokenservice_client import TokenServiceClient

from chalicelib.aws.connection import Endpoint
from chalicelib.splunk.transport import Transport
from examples.document_gateway.content import ContentApi

HOST = "localhost"
SECONDS = 30.0

Key = ec.EllipticCurvePrivateKey


def to_aws(url: str, bundle: str) -> object:
    endpoint = Endpoint(url, bundle)
    return endpoint.exchange(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n", time.monotonic() + SECONDS)


def to_splunk(url: str, bundle: str) -> object:
    return Transport(url, bundle).post(b"{}", "the-token", SECONDS)


def to_the_service(url: str, bundle: str) -> object:
    with TokenServiceClient(url, "app", "secret", ca_bundle=bundle, patience_seconds=0) as client:
        return client.version()


def to_the_content(url: str, bundle: str) -> object:
    return ContentApi(url, "gateway", "password", bundle).describe("node")


CLIENTS = [to_aws, to_splunk, to_the_service, to_the_content]


class Authority:
    """Signs certificates for this machine, with the given names."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "an authority")])
        self.bundle = str(folder / "authority.pem")
        certificate = self._sign(
            self._name, self._key, x509.BasicConstraints(ca=True, path_length=None), _key_usage(signs=True)
        )
        Path(self.bundle).write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def server_context(self, common_name: str, alternative: str | None) -> ssl.SSLContext:
        """A server's side of TLS.

        Args:
            alternative: the subject alternative name; None means that the certificate has only a common name.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        extensions = [x509.SubjectAlternativeName([x509.DNSName(alternative)])] if alternative else []
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        certificate = self._sign(subject, key, x509.BasicConstraints(ca=False, path_length=None), *extensions)
        chain = self._folder / f"{common_name}-{alternative}.pem"
        chain.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain)
        return context

    def _sign(self, subject: x509.Name, key: Key, *extensions: x509.ExtensionType) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder(
            self._name, subject, key.public_key(), x509.random_serial_number(), now, now + timedelta(hours=1)
        )
        for extension in extensions:
            critical = not isinstance(extension, x509.SubjectAlternativeName)
            builder = builder.add_extension(extension, critical=critical)
        # Python 3.13 checks what RFC 5280 demands of a certificate, the identifiers of keys among it.
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = builder.add_extension(issuer, critical=False)
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        return builder.sign(self._key, hashes.SHA256())


def _key_usage(*, signs: bool) -> x509.KeyUsage:
    others = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "crl_sign")
    named = dict.fromkeys((*others, "encipher_only", "decipher_only"), False)
    return x509.KeyUsage(digital_signature=True, key_cert_sign=signs, **named)


@contextmanager
def serving(context: ssl.SSLContext) -> Iterator[tuple[str, list[bytes]]]:
    """Where a server listens that answers nothing, and the first bytes of each request that it got."""
    listening = socket.create_server(("127.0.0.1", 0))
    received: list[bytes] = []

    def serve() -> None:
        while True:
            try:
                stream, _ = listening.accept()
            except OSError:
                return
            stream.settimeout(SECONDS)
            try:
                with context.wrap_socket(stream, server_side=True) as secured:
                    received.append(secured.recv(1024))
            except OSError:
                stream.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"https://{HOST}:{listening.getsockname()[1]}", received
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def sent(context: ssl.SSLContext, client: Callable[[str, str], object], bundle: str) -> bool:
    """Whether a client sends anything to a server; it never gets an answer, and fails either way."""
    with serving(context) as (url, received):
        with pytest.raises(Exception):  # noqa: B017, PT011 - each client has an error of its own
            client(url, bundle)
        return any(received)


@pytest.mark.parametrize("client", CLIENTS)
def test_a_server_must_have_its_name_where_names_belong(
    client: Callable[[str, str], object], authority: Authority
) -> None:
    """A common name is free text: authorities check it less, and their limits on names do not hold for it."""
    assert sent(authority.server_context("whatever", HOST), client, authority.bundle)
    assert not sent(authority.server_context(HOST, None), client, authority.bundle)
    assert not sent(authority.server_context(HOST, "elsewhere.example"), client, authority.bundle)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated:DeprecationWarning")
@pytest.mark.parametrize("client", CLIENTS)
def test_nothing_is_sent_over_a_tls_below_1_2(client: Callable[[str, str], object], authority: Authority) -> None:
    """NIST SP 800-52, revision 2."""
    context = authority.server_context("whatever", HOST)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1_1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    assert not sent(context, client, authority.bundle)


def test_our_own_client_requires_tls_1_2_whatever_the_machine_is_set_to(authority: Authority) -> None:
    tls = Endpoint("https://localhost", authority.bundle)._tls
    assert tls is not None
    assert tls.minimum_version >= ssl.TLSVersion.TLSv1_2
