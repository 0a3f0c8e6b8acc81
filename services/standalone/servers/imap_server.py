"""The process behind services.standalone.servers.imap: pymap in memory, and a TLS relay in front of it.

pymap supports STARTTLS only and the demo's mailboxes are read with TLS from the first byte, so pymap listens without TLS on a
loopback port, and a relay of a few lines terminates the TLS. Reads its settings as JSON from the file it is given:
port, certificate, key, users (name → password), and host, unless it listens on loopback only.
"""

import asyncio
import contextlib
import json
import os
import signal
import ssl
import sys
from argparse import Namespace
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from pymap.backend.dict import Config, DictBackend, Identity, Login
from pymap.imap import IMAPService
from pymap.user import UserMetadata
from pysasl.hashing import Cleartext

from services.standalone.servers.child import LOOPBACK, free_port

CHUNK = 65_536


async def serve(settings: Mapping[str, Any]) -> None:
    """Run until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        inner = await _start_pymap(stack, settings["users"])
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(settings["certificate"], settings["key"])
        relay = await asyncio.start_server(
            lambda reader, writer: _relay(reader, writer, inner), settings.get("host", LOOPBACK), settings["port"],
            ssl=context, backlog=128,
        )  # fmt: skip
        await stack.enter_async_context(relay)
        await stop.wait()
        # Open sessions would delay an orderly end, and the mail is in memory and ends with the process anyway.
        os._exit(0)


async def _start_pymap(stack: AsyncExitStack, users: Mapping[str, str]) -> int:
    """pymap with its in-memory backend; returns the port it listens on without TLS."""
    port = free_port()
    arguments = Namespace(
        debug=False, host=LOOPBACK, port=port, cert=None, key=None, tls=False, inherited_sockets=None,
        proxy_protocol=None, passlib_cfg=None, demo_data=False, demo_user="nobody", demo_password="",
    )  # fmt: skip
    # Passwords in plain text in memory: they are those of a test server, and logins skip the key stretching.
    config = Config.from_args(arguments, hash_context=Cleartext(), invalid_user_sleep=0.05)
    login = Login(config)
    backend = DictBackend(login, config)
    config.apply_context()
    for name, password in users.items():
        await Identity(name, login, None, frozenset()).set(UserMetadata(config, name, password=password))
    await backend.start(stack)
    await IMAPService(backend, config).start(stack)
    return port


async def _relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
    """Copy both ways until one side ends."""
    async with _closing(writer):
        inner_reader, inner_writer = await asyncio.open_connection(LOOPBACK, port)
        async with _closing(inner_writer):
            ways = [asyncio.create_task(_copy(reader, inner_writer)), asyncio.create_task(_copy(inner_reader, writer))]
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(CHUNK):
        writer.write(data)
        await writer.drain()


@contextlib.asynccontextmanager
async def _closing(writer: asyncio.StreamWriter) -> AsyncIterator[None]:
    try:
        yield
    except OSError:
        pass
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def main() -> int:
    """`python -m services.standalone.servers.imap_server SETTINGS.json`"""
    settings = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    asyncio.run(serve(settings))
    return 0


if __name__ == "__main__":
    sys.exit(main())
