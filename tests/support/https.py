"""An https server on loopback with an authority of its own, that serves what a test puts there; and git."""

from __future__ import annotations

import os
import ssl
import subprocess
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

NAME = "source.test"
Answer = Callable[[BaseHTTPRequestHandler], None]


def certify(folder: Path) -> tuple[Path, Path]:
    """An authority's certificate, and a file with a server's key and certificate for `NAME` and loopback."""
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
    now = datetime.now(UTC)

    def builder(subject: x509.Name) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(ca_name)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=1))
        )

    ca = (
        builder(ca_name)
        .public_key(ca_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    names = [x509.DNSName(NAME), x509.IPAddress(ip_address("127.0.0.1"))]
    server = (
        builder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)]))
        .public_key(key.public_key())
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "ca.pem").write_bytes(ca.public_bytes(pem))
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "server.pem").write_bytes(private + server.public_bytes(pem))
    return folder / "ca.pem", folder / "server.pem"


@dataclass
class Site:
    """`answers` by path; `asked` is every request line's path; repositories lie in `repositories`."""

    port: int
    ca: Path
    repositories: Path
    answers: dict[str, Answer] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    login: tuple[str, str] | None = None
    """User and password that everything below /private/ asks for."""

    def url(self, path: str, host: str = NAME) -> str:
        return f"https://{host}:{self.port}{path}"

    def serve(self, path: str, body: bytes, status: int = 200, **headers: str) -> str:
        def answer(to: BaseHTTPRequestHandler) -> None:
            to.send_response(status)
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            for name, value in ({"Content-Length": str(len(body))} | named).items():
                to.send_header(name, value)
            to.end_headers()
            to.wfile.write(body)

        self.answers[path] = answer
        return self.url(path)

    def hold_logins(self, path: str) -> tuple[threading.Event, threading.Event]:
        """Ask for a login at `path`, and hold back the answer to one: when one came, and to let it go."""
        came, go = threading.Event(), threading.Event()

        def answer(to: BaseHTTPRequestHandler) -> None:
            if "Authorization" in to.headers:
                came.set()
                go.wait(60)
            to.send_response(401)
            to.send_header("WWW-Authenticate", 'Basic realm="x"')
            to.send_header("Content-Length", "0")
            to.end_headers()

        self.answers[path] = answer
        return came, go

    def repository(self, name: str, files: dict[str, bytes], links: dict[str, str] | None = None) -> Path:
        """A bare repository of one commit on `main`, tagged v1."""
        work, bare = self.repositories / f"{name}.work", self.repositories / name
        work.mkdir(parents=True)
        for path, data in files.items():
            (work / path).parent.mkdir(parents=True, exist_ok=True)
            (work / path).write_bytes(data)
            (work / path).chmod(0o755 if data.startswith(b"#!") else 0o644)
        for path, target in (links or {}).items():
            (work / path).symlink_to(target)
        git(work, "init", "-q", "-b", "main")
        git(work, "add", "-A", "-f")
        git(work, "commit", "-q", "--allow-empty", "-m", "one")
        git(work, "tag", "v1")
        git(self.repositories, "clone", "-q", "--bare", str(work), str(bare))
        return bare


def git(folder: Path, *words: str) -> str:
    identity = {
        f"GIT_{who}_{what}": value
        for who in ("AUTHOR", "COMMITTER")
        for what, value in (("NAME", "t"), ("EMAIL", "t@example.org"))
    }
    env = {"PATH": os.environ["PATH"], "HOME": str(folder), "GIT_CONFIG_NOSYSTEM": "1"} | identity
    done = subprocess.run(["git", *words], cwd=folder, env=env, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@contextmanager
def a_site(folder: Path) -> Iterator[Site]:
    """A server that lives until the block ends."""
    ca, both = certify(folder)
    (folder / "repositories").mkdir()
    site = Site(0, ca, folder / "repositories")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.close_connection = True
            site.asked.append(self.path)
            answer = site.answers.get(self.path.partition("?")[0])
            if answer is not None:
                answer(self)
            elif self.path.startswith("/git/"):
                _backend(self, site.repositories, "/git")
            elif self.path.startswith("/private/"):
                if _may_enter(self, site):
                    _backend(self, site.repositories, "/private")
            else:
                self.send_error(404)

        do_POST = do_GET

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """Clients that break off are part of the tests."""

    server = Server(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(both)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    site.port = int(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _may_enter(to: BaseHTTPRequestHandler, site: Site) -> bool:
    assert site.login is not None
    pair = b64encode(":".join(site.login).encode()).decode()
    if to.headers.get("Authorization") == f"Basic {pair}":
        return True
    to.send_response(401)
    to.send_header("WWW-Authenticate", 'Basic realm="repositories"')
    to.send_header("Content-Length", "0")
    to.end_headers()
    return False


def _backend(to: BaseHTTPRequestHandler, repositories: Path, below: str) -> None:
    """`git http-backend`, as a web server runs it."""
    path, _, query = to.path.removeprefix(below).partition("?")
    body = to.rfile.read(int(to.headers.get("Content-Length") or 0))
    env = {
        "PATH": os.environ["PATH"],
        "GIT_PROJECT_ROOT": str(repositories),
        "GIT_HTTP_EXPORT_ALL": "1",
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "safe.directory",
        "GIT_CONFIG_VALUE_0": "*",
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "REQUEST_METHOD": to.command,
        "CONTENT_TYPE": to.headers.get("Content-Type", ""),
        "HTTP_CONTENT_ENCODING": to.headers.get("Content-Encoding", ""),
        "GIT_PROTOCOL": to.headers.get("Git-Protocol", ""),
    }
    done = subprocess.run(["git", "http-backend"], input=body, env=env, capture_output=True, check=False)
    head, _, rest = done.stdout.partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if line)
    to.send_response(int(headers.pop("Status", "200").split()[0]))
    for name, value in headers.items():
        to.send_header(name, value)
    to.send_header("Content-Length", str(len(rest)))
    to.end_headers()
    to.wfile.write(rest)
