"""How Kafka is reached, encrypted and as whom: for each of the three clients in its own terms."""

import ssl
from typing import Any

from streaming_app.settings import KafkaSettings


def for_librdkafka(settings: KafkaSettings) -> dict[str, Any]:
    """Properties of a confluent_kafka client."""
    access = {
        "bootstrap.servers": settings.kafka_bootstrap_servers,
        "security.protocol": settings.kafka_security_protocol,
    }
    if settings.kafka_is_encrypted and settings.kafka_ca:
        access["ssl.ca.pem"] = settings.kafka_ca
    if settings.kafka_has_users:
        access |= {
            "sasl.mechanism": settings.kafka_sasl_mechanism,
            "sasl.username": settings.kafka_username,
            "sasl.password": settings.kafka_password.get_secret_value(),
        }
    return access


def for_kafka_python(settings: KafkaSettings) -> dict[str, Any]:
    """Arguments of a kafka-python client."""
    access: dict[str, Any] = {
        "bootstrap_servers": settings.kafka_bootstrap_servers.split(","),
        "security_protocol": settings.kafka_security_protocol,
    }
    if settings.kafka_is_encrypted:
        access["ssl_context"] = ssl.create_default_context(cadata=settings.kafka_ca or None)
    if settings.kafka_has_users:
        access |= {
            "sasl_mechanism": settings.kafka_sasl_mechanism,
            "sasl_plain_username": settings.kafka_username,
            "sasl_plain_password": settings.kafka_password.get_secret_value(),
        }
    return access


def for_spark(settings: KafkaSettings) -> dict[str, str]:
    """Options of Spark's Kafka source and sink."""
    access: dict[str, str] = {
        "kafka.bootstrap.servers": settings.kafka_bootstrap_servers,
        "kafka.security.protocol": settings.kafka_security_protocol,
    }
    if settings.kafka_is_encrypted and settings.kafka_ca:
        # The certificates themselves: executors have no file of them.
        access |= {
            "kafka.ssl.truststore.type": "PEM",
            "kafka.ssl.truststore.certificates": settings.kafka_ca,
        }
    if settings.kafka_has_users:
        access |= {
            "kafka.sasl.mechanism": settings.kafka_sasl_mechanism,
            "kafka.sasl.jaas.config": _login(settings),
        }
    return access


def _login(settings: KafkaSettings) -> str:
    package = "plain.Plain" if settings.kafka_sasl_mechanism == "PLAIN" else "scram.Scram"
    name, password = map(_quoted, (settings.kafka_username, settings.kafka_password.get_secret_value()))
    return (
        f"org.apache.kafka.common.security.{package}LoginModule required username={name} password={password};"
    )


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
