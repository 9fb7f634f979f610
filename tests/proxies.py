"""A network that fails: a proxy between MLflow's client and its server."""

import http.client
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

HOLLOW = {
    "nothing": b"{}",
    "nobody": b'{"model_version": {}, "run": {}, "model_versions": [{"version": "x"}]}',
    "another": b'{"model_version": {"name": "OTHER", "version": "7", "current_stage": "None"}, "model_versions": []}',
    "for ever": b'{"model_versions": [], "registered_models": [], "runs": [], "next_page_token": "again"}',
}
"""Answers that MLflow could have given, to another question."""

PAGE = b"<!doctype html><html><body>Please sign in</body></html>"


@dataclass
class Proxy:
    """Passes requests on to a server; ``fault`` says what happens to the n-th of them.

    Faults: ``drop`` (the request is lost), ``lose`` (its answer is), ``twice``,
    ``held`` (the request arrives after ``delay`` seconds), ``late`` (its answer
    does), ``page`` (200 and a web
    page), ``torn`` (half of the answer), ``slow`` (byte by byte), ``empty`` (200 and nothing that MLflow
    would say), a status such as ``"503"`` (with a page). ``date`` is the clock of the server, if that is not the target's.
    """

    target: str
    fault: Callable[[int, str, str], str | None] = lambda _n, _method, _path: None
    delay: float = 1.0
    date: str | None = None
    uri: str = ""
    seen: list[tuple[str, str]] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)


@contextmanager
def proxy_to(target: str) -> Iterator[Proxy]:  # noqa: C901 (the branches are its handler's)
    proxy, lock = Proxy(target), threading.Lock()
    address = urlsplit(target)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def pass_on(self) -> None:
            self.close_connection = True
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            with lock:
                proxy.seen.append((self.command, self.path))
                proxy.headers = dict(self.headers)
                number = len(proxy.seen)
            fault = proxy.fault(number, self.command, self.path)
            if fault == "drop":
                return
            if fault == "held":
                time.sleep(proxy.delay)
            if fault == "slow":
                self.drip()
                return
            if fault in HOLLOW:
                self.answer(200, HOLLOW[fault], "application/json")
                return
            if fault in {"page", "empty"} or (fault or "").isdigit():
                self.answer(int(fault) if (fault or "").isdigit() else 200, b"[]" if fault == "empty" else PAGE, "text/html")
                return
            for _ in range(2 if fault == "twice" else 1):
                status, content, kind = self.ask(body)
            if fault == "lose":
                return
            if fault == "late":
                time.sleep(proxy.delay)
            self.answer(status, content, kind, cut=fault == "torn")

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = pass_on  # noqa: N815 (the library's names)

        def ask(self, body: bytes) -> tuple[int, bytes, str]:
            connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=60)
            headers = {k: v for k, v in self.headers.items() if k.lower() not in {"host", "connection", "accept-encoding"}}
            try:
                connection.request(self.command, self.path, body, {**headers, "Host": address.netloc})
                answer = connection.getresponse()
                return answer.status, answer.read(), answer.headers.get("Content-Type", "application/json")
            except OSError:
                return 502, PAGE, "text/html"
            finally:
                connection.close()

        def answer(self, status: int, content: bytes, kind: str, *, cut: bool = False) -> None:
            self.send_response_only(status)
            date = self.date_time_string() if proxy.date is None else proxy.date
            if date:
                self.send_header("Date", date)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(content[: len(content) // 2] if cut else content)

        def drip(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            for _ in range(200):
                self.wfile.write(b"{")
                time.sleep(0.1)

        def log_message(self, *_arguments: object) -> None:
            """Say nothing."""

        def finish(self) -> None:
            try:
                super().finish()
            except OSError:  # the client is gone
                self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_arguments: None  # type: ignore[method-assign]  # clients that hang up are the point
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    proxy.uri = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def black_hole() -> Iterator[str]:
    """Accept connections and never answer."""
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(50)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
