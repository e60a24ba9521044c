"""A real broker whose clients must speak TLS and log in, with SCRAM, and a plain listener for the test."""

import subprocess
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import trustme
from confluent_kafka.admin import (
    AdminClient,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from tenacity import retry, stop_after_delay, wait_fixed

from local_platform.jars import class_path, fetch_jars
from local_platform.java import find_java
from local_platform.ports import is_listening
from local_platform.service import java_command
from local_platform.settings import HOST

USERNAME = "prices"
PASSWORD = 'a "quoted\\" one'  # which each client must escape in its own way


@dataclass(frozen=True)
class SecuredBroker:
    """Where it is, and what its clients need."""

    plain: str
    environment: dict[str, str]


@contextmanager
def secured_broker(folder: Path, jars: Path, offset: Callable[[], int]) -> Iterator[SecuredBroker]:
    """The broker, until the end of the block."""
    fetch_jars(jars, find_java(), ["kafka"])
    authority = trustme.CA()
    first = 9_092 + offset()
    plain, secured, controller = (f"{HOST}:{first + number}" for number in range(3))
    file = folder / "server.properties"
    file.write_text(_properties(folder / "data", authority, plain, secured, controller))
    cluster = urlsafe_b64encode(uuid4().bytes).decode().rstrip("=")
    # Behind "=", as one identifier of 64 begins with a dash, which would be read as an option.
    tool = ("kafka.tools.StorageTool", "format", f"--cluster-id={cluster}", "--config", str(file))
    subprocess.run(_java(jars, *tool), check=True, capture_output=True)
    with (folder / "kafka.log").open("wb") as log:
        broker = subprocess.Popen(
            _java(jars, "kafka.Kafka", str(file)), stdout=log, stderr=log, stdin=subprocess.DEVNULL
        )
    try:
        _await_listener(first + 1)
        _add_user(plain)
        yield SecuredBroker(
            plain,
            {
                "USEDCARS_KAFKA_BOOTSTRAP_SERVERS": secured,
                "USEDCARS_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
                "USEDCARS_KAFKA_USERNAME": USERNAME,
                "USEDCARS_KAFKA_PASSWORD": PASSWORD,
                "USEDCARS_KAFKA_CA": authority.cert_pem.bytes().decode(),
            },
        )
    finally:
        broker.kill()
        broker.wait()


@retry(stop=stop_after_delay(60), wait=wait_fixed(0.2), reraise=True)
def _await_listener(port: int) -> None:
    assert is_listening(HOST, port), f"the broker does not listen on port {port}"


def _add_user(plain: str) -> None:
    login = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
    user = UserScramCredentialUpsertion(USERNAME, login, PASSWORD.encode())
    admin = AdminClient({"bootstrap.servers": plain})  # its answers come only while it is held
    for done in admin.alter_user_scram_credentials([user]).values():
        done.result(30)


def _java(jars: Path, main: str, *arguments: str) -> tuple[str, ...]:
    return java_command(find_java(), 384, class_path(jars, "kafka"), main, *arguments)


def _properties(data: Path, authority: trustme.CA, plain: str, secured: str, controller: str) -> str:
    certificate = authority.issue_cert(HOST)
    chain = "".join(pem.bytes().decode() for pem in certificate.cert_chain_pems)
    # Kafka takes keys in PKCS 8 only.
    key = _pkcs8(certificate.private_key_pem.bytes())
    own = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@{controller}",
        "listeners": f"PLAIN://{plain},SECURED://{secured},CONTROLLER://{controller}",
        "advertised.listeners": f"PLAIN://{plain},SECURED://{secured}",
        "listener.security.protocol.map": "PLAIN:PLAINTEXT,SECURED:SASL_SSL,CONTROLLER:PLAINTEXT",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAIN",
        "log.dirs": str(data),
        "auto.create.topics.enable": "false",
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "8",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "8",
        "group.initial.rebalance.delay.ms": "0",
        "group.min.session.timeout.ms": "1000",
        "sasl.enabled.mechanisms": "SCRAM-SHA-512",
        "listener.name.secured.scram-sha-512.sasl.jaas.config": (
            "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        ),
        "ssl.keystore.type": "PEM",
        "ssl.keystore.certificate.chain": chain.replace("\n", "\\n"),
        "ssl.keystore.key": key.replace("\n", "\\n"),
    }
    return "".join(f"{name}={value}\n" for name, value in own.items())


def _pkcs8(pem: bytes) -> str:
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key(pem, password=None)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
