"""A Kafka broker in KRaft mode, broker and controller in one process, with the project's topics."""

import subprocess
import uuid
from base64 import urlsafe_b64encode
from functools import partial
from pathlib import Path

from kafka.admin import KafkaAdminClient, NewTopic
from kafka.errors import KafkaError

from local_platform.errors import PlatformError
from local_platform.jars import class_path
from local_platform.ports import is_listening
from local_platform.service import Service, java_command
from local_platform.settings import HOST, PlatformSettings

_LOG4J = """<Configuration>
  <Appenders>
    <Console name="STDERR" target="SYSTEM_ERR"><PatternLayout pattern="%d %p %c{1}: %m%n"/></Console>
  </Appenders>
  <Loggers><Root level="WARN"><AppenderRef ref="STDERR"/></Root></Loggers>
</Configuration>
"""


def kafka_service(settings: PlatformSettings, java: str) -> Service:
    """The broker."""
    return Service(
        name="kafka",
        command=_kafka_java(
            settings, java, settings.kafka_heap_mb, "kafka.Kafka", str(_properties_file(settings))
        ),
        ports=(settings.port("kafka"), settings.port("kafka_controller")),
        prepare=partial(_prepare, settings, java),
        ready=partial(_ready, settings),
        finish=partial(_create_topics, settings),
    )


def _properties_file(settings: PlatformSettings) -> Path:
    return settings.home_folder / "kafka" / "server.properties"


def _kafka_java(
    settings: PlatformSettings, java: str, heap_mb: int, main: str, *arguments: str
) -> tuple[str, ...]:
    libraries = f"{settings.home_folder / 'kafka'}:{class_path(settings.jars_folder, 'kafka')}"
    return java_command(java, heap_mb, libraries, main, *arguments)


def _server_properties(settings: PlatformSettings) -> dict[str, str]:
    controller = settings.address("kafka_controller")
    return {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@{controller}",
        "listeners": f"PLAINTEXT://{settings.address('kafka')},CONTROLLER://{controller}",
        "advertised.listeners": f"PLAINTEXT://{settings.address('kafka')}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "log.dirs": str(settings.home_folder / "kafka" / "data"),
        "auto.create.topics.enable": "false",
        "num.partitions": "1",
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "8",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "8",
        # An open transaction of a process that was frozen hides the takeovers of its successors.
        "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "group.initial.rebalance.delay.ms": "0",
        "group.min.session.timeout.ms": "1000",  # a standby succeeds a killed process within seconds
        "message.max.bytes": str(settings.largest_message_bytes),
        "log.retention.hours": str(settings.topic_retention_hours),
    }


def _prepare(settings: PlatformSettings, java: str) -> None:
    """Write the configuration, and format the data folder where it has never been."""
    folder = settings.home_folder / "kafka"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "log4j2.xml").write_text(_LOG4J)
    file = _properties_file(settings)
    file.write_text("".join(f"{name}={value}\n" for name, value in _server_properties(settings).items()))
    if (folder / "data" / "meta.properties").is_file():
        return
    cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    main = "kafka.tools.StorageTool"
    arguments = ("format", "--ignore-formatted", f"--cluster-id={cluster}", "--config", str(file))
    formatted = subprocess.run(
        _kafka_java(settings, java, 256, main, *arguments), capture_output=True, text=True, check=False
    )
    if formatted.returncode:
        reason = (formatted.stderr or formatted.stdout).strip().splitlines()[-1:]
        raise PlatformError(
            f"Kafka could not format {folder / 'data'} ({' '.join(reason)}): see that this can be written"
        )


def _ready(settings: PlatformSettings) -> str | None:
    port = settings.port("kafka")
    return None if is_listening(HOST, port) else f"the broker does not listen on port {port} yet"


def topics(settings: PlatformSettings) -> dict[str, int]:
    """The project's topics and their partitions: answers lie in the partition of their request."""
    return {
        settings.requests_topic: settings.request_partitions,
        settings.predictions_topic: settings.request_partitions,
        settings.live_metrics_topic: 1,
        settings.live_totals_topic: 1,
        settings.input_drift_topic: 1,
        settings.dead_letters_topic: 1,
        settings.takeovers_topic: 1,
        settings.promotions_topic: 1,
        f"{settings.warm_up_topic}-requests": settings.request_partitions,
        f"{settings.warm_up_topic}-predictions": settings.request_partitions,
    }


def _retention(settings: PlatformSettings, topic: str) -> dict[str, str]:
    """Takeovers, promotions and the newest totals are kept for good; of dead letters one a message, for
    long; what a standby warms up with for an hour.
    """
    hour = 3_600_000
    if topic in (settings.takeovers_topic, settings.promotions_topic):
        return {"retention.ms": "-1"}
    if topic == settings.live_totals_topic:
        return {"cleanup.policy": "compact", "segment.ms": str(hour)}
    if topic == settings.dead_letters_topic:
        return {
            "cleanup.policy": "compact,delete",
            "retention.ms": str(settings.dead_letters_retention_hours * hour),
            # The message in base64, a third longer, and what is said of it.
            "max.message.bytes": str(2 * settings.largest_message_bytes),
        }
    return {"retention.ms": str(hour)} if topic.startswith(f"{settings.warm_up_topic}-") else {}


def _create_topics(settings: PlatformSettings) -> None:
    """Create the topics that are missing; what is there stays as it is."""
    admin = KafkaAdminClient(bootstrap_servers=settings.address("kafka"), client_id="usedcars-platform")
    try:
        missing = sorted(set(topics(settings)) - set(admin.list_topics()))
        if missing:
            admin.create_topics(
                [
                    NewTopic(
                        topic,
                        num_partitions=topics(settings)[topic],
                        replication_factor=1,
                        topic_configs=_retention(settings, topic),
                    )
                    for topic in missing
                ]
            )
    except KafkaError as error:
        raise PlatformError(
            f"Kafka refused to create its topics ({error}): see 'make logs SERVICE=kafka'"
        ) from error
    finally:
        admin.close()
