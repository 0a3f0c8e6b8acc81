"""A TCP proxy that disturbs connections: resets, delays, silence. A fault run has one for each server."""

import contextlib
import socket
import struct
import threading
import time

from services.standalone.servers.child import LOOPBACK

CHUNK = 64 * 1024
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER with zero seconds: close sends RST, as a dead host or a firewall would."""


class FaultProxy:
    """Forwards `port` on loopback to `target`. `delay_seconds` holds back every chunk of either direction."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.delay_seconds = 0.0
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server((LOOPBACK, 0), backlog=256)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, name=f"proxy-{self.port}", daemon=True).start()

    def reset(self) -> int:
        """Break every open connection; returns their number."""
        with self._lock:
            pairs, self._pairs = self._pairs, set()
        for pair in pairs:
            for end in pair:
                with contextlib.suppress(OSError):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                    # Wakes the reading thread; close alone would leave it waiting on an invalid descriptor.
                    end.shutdown(socket.SHUT_RD)
                with contextlib.suppress(OSError):
                    end.close()
        return len(pairs)

    def close(self) -> None:
        """Stop listening and break every connection."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.reset()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection((LOOPBACK, self.target), timeout=5)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            pair = (client, server)
            for end in pair:
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._pairs.add(pair)
            for source, sink in (pair, (server, client)):
                threading.Thread(target=self._forward, args=(source, sink, pair), daemon=True).start()

    def _forward(self, source: socket.socket, sink: socket.socket, pair: tuple[socket.socket, socket.socket]) -> None:
        try:
            while data := source.recv(CHUNK):
                if self.delay_seconds:
                    time.sleep(self.delay_seconds)
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            with self._lock:
                self._pairs.discard(pair)
            for end in pair:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
