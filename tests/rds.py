"""What AWS puts before Postgres, on loopback: RDS's TLS and IAM log-in, and pod identity's agent.

The server itself is a real Postgres. Whoever is a member of the role `rds_iam` is asked for a token
in the place of a password, over TLS, and the token is checked as AWS does: signed with a secret key
that is known, for this host, port and role, and not too old. Everybody else logs in at the server
with a password as ever, through the same TLS.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import hashlib
import hmac
import json
import secrets
import shutil
import ssl
import struct
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.message import Message
from pathlib import Path
from urllib.parse import parse_qsl, quote, urlsplit

import psycopg
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from psycopg import sql

from tests.http_stand_in import HttpStandIn
from tests.servers import PostgresServer, running_postgres

HOST = "localhost"
REGION = "eu-central-1"
SECRET = f"arn:aws:secretsmanager:{REGION}:123456789012:secret:rds!db-0a1b-AbCdEf"

# Where the server is connected to from on behalf of who has shown a token.
_TRUSTED = "127.0.0.2"

_TLS_REQUEST, _GSS_REQUEST, _CANCEL_REQUEST = 80877103, 80877104, 80877102


@dataclass
class Keys:
    """The access keys that AWS knows of, and how long their signatures are good for, in seconds."""

    secrets_by_id: dict[str, str] = field(default_factory=dict[str, str])
    session_tokens: dict[str, str] = field(default_factory=dict[str, str])
    token_seconds: float = 900
    region: str = REGION
    permitted: Callable[[str, str], bool] = lambda _key, _role: True
    """Whether the IAM role of an access key may connect as a role of the database."""

    def new(self) -> tuple[str, str, str]:
        """Return a new access key's id, secret and session token."""
        identity = f"ASIA{secrets.token_hex(8).upper()}"
        self.secrets_by_id[identity] = secrets.token_urlsafe(30)
        self.session_tokens[identity] = secrets.token_urlsafe(90)
        return identity, self.secrets_by_id[identity], self.session_tokens[identity]

    def document(self, seconds: float) -> tuple[str, bytes]:
        """Return a new access key's id, and all of it as agents tell it, to be renewed by then."""
        identity, secret, session_token = self.new()
        until = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=seconds)
        document = {
            "AccessKeyId": identity,
            "SecretAccessKey": secret,
            "Token": session_token,
            "Expiration": until.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        return identity, json.dumps(document).encode()

    def refusal(self, token: str, host: str, port: int, role: str) -> str | None:
        """Return why a token logs `role` in no more, or never did; None if it does."""
        parts = urlsplit(f"https://{token}")
        given = dict(parse_qsl(parts.query))
        if parts.netloc != f"{host}:{port}":
            return f"it is for {parts.netloc}"
        if (given.get("Action"), given.get("DBUser")) != ("connect", role):
            return f"it is to {given.get('Action')} as {given.get('DBUser')}"
        identity, day, region, service, _ = given["X-Amz-Credential"].split("/")
        if (region, service) != (self.region, "rds-db"):
            return f"it is for {service} in {region}"
        if given.get("X-Amz-Security-Token") != self.session_tokens.get(identity, ""):
            return "the access key is unknown, or not its session's"
        signed = datetime.datetime.strptime(given["X-Amz-Date"], "%Y%m%dT%H%M%S%z").timestamp()
        if not -5 < time.time() - signed < min(self.token_seconds, float(given["X-Amz-Expires"])):
            return "it has expired"
        secret, scope = self.secrets_by_id[identity], (day, self.region)
        wanted = _signature(secret, scope, parts.netloc, given)
        if not hmac.compare_digest(wanted, given["X-Amz-Signature"]):
            return "the signature"
        return None if self.permitted(identity, role) else f"IAM does not let it connect as {role}"


def _signature(secret: str, scoped: tuple[str, str], host: str, given: dict[str, str]) -> str:
    """Return the signature of version 4 of AWS for a day and region, by its specification."""
    day, region = scoped
    query = "&".join(
        f"{quote(key, safe='-_.~')}={quote(value, safe='-_.~')}"
        for key, value in sorted(given.items())
        if key != "X-Amz-Signature"
    )
    request = f"GET\n/\n{query}\nhost:{host}\n\nhost\n{hashlib.sha256(b'').hexdigest()}"
    scope = f"{day}/{region}/rds-db/aws4_request"
    digest = hashlib.sha256(request.encode()).hexdigest()
    text = f"AWS4-HMAC-SHA256\n{given['X-Amz-Date']}\n{scope}\n{digest}"
    key = f"AWS4{secret}".encode()
    for part in (day, region, "rds-db", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.digest(key, text.encode(), "sha256").hex()


@dataclass(frozen=True)
class Endpoint:
    """Where an RDS is reached: by the names or addresses `hosts`, at an address of ours."""

    hosts: tuple[str, ...] = (HOST,)
    address: str = "127.0.0.1"
    port: int = 0
    """0 is any that is free."""
    certificate: tuple[Path, Path, Path] | None = None
    """Files of a certificate for the hosts, of its key, and of whom to trust; None makes them."""


class Rds:
    """A Postgres behind TLS and IAM, at `host:port`; `server` is what lies behind."""

    def __init__(
        self,
        server: PostgresServer,
        directory: Path,
        keys: Keys,
        master_password: str,
        endpoint: Endpoint | None = None,
    ) -> None:
        self.server = server
        self.master_password = master_password
        self.keys = keys
        self._endpoint = endpoint or Endpoint()
        self.host = self._endpoint.hosts[0]
        self.refusals: list[str] = []
        """Why log-ins were refused, in order."""
        self.logins: list[str] = []
        """The tokens that were taken, in order."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if self._endpoint.certificate is None:
            self.authority = directory / "rds-ca.pem"
            context.load_cert_chain(*_certificate(directory, self.authority))
        else:
            certificate, key, self.authority = self._endpoint.certificate
            context.load_cert_chain(certificate, key)
        self._context = context
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._connections: set[asyncio.Task[None]] = set()
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=[started], daemon=True)
        self._thread.start()
        assert started.wait(10)

    def url(self, role: str, database: str, password: str | None = None) -> str:
        """Return what logs a role in: with a token unless it has a password."""
        login = role if password is None else f"{role}:{password}"
        return (
            f"postgresql://{login}@{self.host}:{self.port}/{database}"
            f"?sslmode=verify-full&sslrootcert={self.authority}"
        )

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _run(self, started: threading.Event) -> None:
        listening = self._loop.run_until_complete(
            asyncio.start_server(self._connected, self._endpoint.address, self._endpoint.port)
        )
        self.port = listening.sockets[0].getsockname()[1]
        started.set()
        self._loop.run_forever()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, ssl.SSLError):
            await self._serve(reader, writer)
        writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        packet = await _packet(reader)
        while _code(packet) in (_TLS_REQUEST, _GSS_REQUEST):
            writer.write(b"S" if _code(packet) == _TLS_REQUEST else b"N")
            await writer.drain()
            if _code(packet) == _TLS_REQUEST:
                await writer.start_tls(self._context)
            packet = await _packet(reader)
        if writer.get_extra_info("ssl_object") is None:
            # As rds.force_ssl has it.
            writer.write(_error("28000", "no pg_hba.conf entry for host, no encryption"))
            return
        by = "127.0.0.1"
        if _code(packet) != _CANCEL_REQUEST:
            role = _startup(packet)["user"]
            if await asyncio.to_thread(self._by_token, role):
                refusal = await self._ask_token(role, reader, writer)
                if refusal is not None:
                    self.refusals.append(refusal)
                    writer.write(_error("28000", f'PAM authentication failed for user "{role}"'))
                    return
                by = _TRUSTED
        server_reader, server_writer = await asyncio.open_connection(
            "127.0.0.1", self.server.port, local_addr=(by, 0)
        )
        server_writer.write(packet)
        await asyncio.gather(pipe(reader, server_writer), pipe(server_reader, writer))

    async def _ask_token(
        self, role: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> str | None:
        """Return why the role is not let in, None if it showed a token for here and now."""
        # AuthenticationCleartextPassword
        writer.write(struct.pack("!cii", b"R", 8, 3))
        await writer.drain()
        await reader.readexactly(1)
        answer = await _packet(reader)
        token = answer[4:].rstrip(b"\0").decode()
        named = token.partition(":")[0]
        host = named if named in self._endpoint.hosts else self.host
        try:
            refusal = self.keys.refusal(token, host, self.port, role)
        except (KeyError, ValueError):
            refusal = "it is no token"
        if refusal is None:
            self.logins.append(token)
        return refusal

    def _by_token(self, role: str) -> bool:
        with psycopg.connect(self.server.url) as connection:
            row = connection.execute(
                "SELECT FROM pg_roles AS r WHERE r.rolname = %s AND NOT r.rolsuper"
                " AND to_regrole('rds_iam') IS NOT NULL"
                " AND pg_has_role(r.oid, to_regrole('rds_iam'), 'USAGE')",
                [role],
            ).fetchone()
        return row is not None


async def _packet(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readexactly(4)
    return head + await reader.readexactly(struct.unpack("!i", head)[0] - 4)


def _code(packet: bytes) -> int:
    return int(struct.unpack("!i", packet[4:8])[0])


def _startup(packet: bytes) -> dict[str, str]:
    texts = packet[8:].decode().split("\0")
    return dict(zip(texts[::2], texts[1::2], strict=False))


def _error(code: str, message: str) -> bytes:
    body = b"".join(
        kind + text.encode() + b"\0"
        for kind, text in ((b"S", "FATAL"), (b"V", "FATAL"), (b"C", code), (b"M", message))
    )
    return b"E" + struct.pack("!i", len(body) + 5) + body + b"\0"


async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass on what one says to the other, until either is gone."""
    with contextlib.suppress(OSError, ssl.SSLError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


def _certificate(directory: Path, authority: Path) -> tuple[Path, Path]:
    """Make a certificate of localhost that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "stand-in for RDS")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    authority.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file = directory / "rds-key.pem"
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return authority, key_file


@contextlib.contextmanager
def running_rds(
    *,
    endpoint: Endpoint | None = None,
    keys: Keys | None = None,
    master: str = "master",
    master_password: str | None = None,
    **options: str,
) -> Iterator[Rds]:
    """Run a Postgres behind TLS and IAM, with the role `rds_iam` and RDS's kind of master role.

    The master is no superuser: it may create roles and databases, and grant `rds_iam`. `options`
    are settings of the server.
    """
    directory = Path(tempfile.mkdtemp(prefix="test-rds-"))
    directory.chmod(0o755)
    try:
        with running_postgres(**options) as server:
            access = server.data_directory / "pg_hba.conf"
            rules = access.read_text()
            access.write_text(f"host all all {_TRUSTED}/32 trust\n{rules}")
            password = master_password or secrets.token_urlsafe(30)
            with psycopg.connect(server.url, autocommit=True) as connection:
                connection.execute("CREATE ROLE rds_iam")
                connection.execute(
                    sql.SQL("CREATE ROLE {} LOGIN CREATEROLE CREATEDB PASSWORD {}").format(
                        sql.Identifier(master), password
                    )
                )
                connection.execute(
                    sql.SQL(
                        "GRANT rds_iam, pg_read_all_stats TO {}"
                        " WITH ADMIN TRUE, INHERIT FALSE, SET FALSE"
                    ).format(sql.Identifier(master))
                )
                connection.execute("SELECT pg_reload_conf()")
            rds = Rds(server, directory, keys or Keys(), password, endpoint)
            try:
                yield rds
            finally:
                rds.stop()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def access_key(authorization: str) -> str:
    """Return the access key that a request's header says it was signed with."""
    return authorization.partition("Credential=")[2].partition("/")[0]


class SecretsManager(HttpStandIn):
    """AWS's Secrets Manager as far as it gives a secret, to requests that are signed."""

    def __init__(self, text: str, arn: str = SECRET) -> None:
        self.arn = arn
        self.text = text
        self.readers: list[str] = []
        """The access keys that asked for it, in order."""
        super().__init__("POST", self._respond, "application/x-amz-json-1.1")

    @property
    def environment(self) -> dict[str, str]:
        """What sends a pod here, and to the secret."""
        return {
            "AWS_ENDPOINT_URL_SECRETS_MANAGER": self.address,
            "DATABASE_MASTER_SECRET_ARN": self.arn,
        }

    def _respond(self, headers: Message, body: bytes) -> tuple[int, bytes]:
        status, answer = self.answer(
            headers["X-Amz-Target"], headers["Authorization"], json.loads(body)
        )
        return status, json.dumps(answer).encode()

    def answer(
        self, target: str, authorization: str | None, request: dict[str, str]
    ) -> tuple[int, dict[str, str]]:
        if target != "secretsmanager.GetSecretValue" or not authorization:
            return 400, {"__type": "AccessDeniedException", "Message": "not allowed"}
        if request["SecretId"] != self.arn:
            return 400, {
                "__type": "ResourceNotFoundException",
                "Message": "Secrets Manager can't find the specified secret.",
            }
        self.readers.append(access_key(authorization))
        return 200, {"ARN": self.arn, "Name": "rds!db", "SecretString": self.text}


class PodIdentity(HttpStandIn):
    """EKS's agent on a node: gives who shows the pod's token keys, each for a while."""

    def __init__(self, keys: Keys, directory: Path) -> None:
        self.keys = keys
        self.seconds = 3600
        """How long the keys are good for."""
        self.associated = True
        """Whether the pod's service account has a role."""
        self.served = 0
        self._token = secrets.token_urlsafe(30)
        self._file = directory / "eks-pod-identity-token"
        self._file.write_text(self._token)
        super().__init__("GET", lambda headers, _: self.answer(headers["Authorization"]))

    @property
    def environment(self) -> dict[str, str]:
        """What EKS adds to the environment of the pod's containers."""
        return {
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{self.address}/v1/credentials",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(self._file),
        }

    def answer(self, token: str | None) -> tuple[int, bytes]:
        if token != self._token or not self.associated:
            return 400, b"no role is associated with this service account"
        self.served += 1
        _, document = self.keys.document(self.seconds)
        return 200, document
