"""The store behind the functions: an engine for DynamoDB with the tables, and TLS in front of it."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import trustme

from chalicelib import clients, instants, tokens
from chalicelib.clients import Client, Scope
from chalicelib.tokens import Document, Terms
from dev.dynamodb_local import why_missing
from studies.bench.box.events import CLIENT, SCOPES
from tests.support.store_engines import DYNAMODB_LOCAL, MINISTACK, OPEN, StoreEngine

_WARM_UP_TOKENS = 150  # a Java program is slow at first
_CHUNK = 65536


@dataclass(frozen=True)
class World:
    """The store that the functions call.

    Attributes:
        engine: which one it is, in words.
        environ: its address, tables and credentials, as Lambda hands them to a function.
        authority: the certificate of the authority that the functions have to trust, as PEM.
        secret: the secret of the client `events.CLIENT`.
    """

    engine: str
    environ: Mapping[str, str]
    authority: bytes
    secret: str


@contextmanager
def opened(folder: Path) -> Iterator[World]:
    """Start the engine and TLS, and end them with the block."""
    name = MINISTACK if why_missing() else DYNAMODB_LOCAL
    authority, certificate = trustme.CA(), folder / "server.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(certificate)
    with OPEN[name](folder) as engine, _tls(certificate, engine.environ["AWS_ENDPOINT_URL"]) as port:
        environ = {
            **{each: engine.environ[each] for each in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")},
            "AWS_ENDPOINT_URL": f"https://127.0.0.1:{port}",
            "TOKEN_TABLE": engine.token_table,
            "CLIENT_TABLE": engine.client_table,
        }
        if name == DYNAMODB_LOCAL:
            environ["AWS_SESSION_TOKEN"] = "s" * 356  # as long as a role's; MiniStack would look it up
        yield World(name, environ, authority.cert_pem.bytes(), _furnish(engine))


def _furnish(engine: StoreEngine) -> str:
    """Create the client, and warm the engine up; returns the client's secret."""
    now = instants.now()
    secret, kept = clients.new_secret(now)
    assert engine.client_store().add(Client(CLIENT, frozenset(map(Scope, SCOPES.split())), (kept,), now))
    store = engine.token_store()
    for _ in range(_WARM_UP_TOKENS):
        token, issued = tokens.new_token(CLIENT, Terms(Document("warm-up"), now + timedelta(hours=1)), now)
        store.add([(token, issued)])
        store.claim(tokens.new_use(token, CLIENT), now, None)
    return secret


@contextmanager
def _tls(certificate: Path, engine_url: str) -> Iterator[int]:
    """TLS in front of an engine that speaks plain HTTP, in a thread; its port. The functions are measured, not this."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", int(engine_url.rpartition(":")[2]))
        for each in (writer, up_writer):
            each.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.gather(_pump(reader, up_writer), _pump(up_reader, writer))

    started: Future[tuple[int, asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def serve() -> None:
        server, stop = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=context), asyncio.Event()
        started.set_result((server.sockets[0].getsockname()[1], asyncio.get_running_loop(), stop))
        await stop.wait()
        server.close()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    port, loop, stop = started.result()
    try:
        yield port
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while read := await reader.read(_CHUNK):
            writer.write(read)
            await writer.drain()
    except (ConnectionError, ssl.SSLError):
        pass
    finally:
        writer.close()
