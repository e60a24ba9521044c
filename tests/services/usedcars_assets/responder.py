"""Stands where serving stands under Supervisor, and fails on demand as the real one can't be made to.

Answers price requests with the version that has the alias, which it looks up for each request. What it does
with a version stands in its tag `behaviour`: answers (the default), silent, rejects, dies or refused.
"""

import json
import os
import sys
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

from kafka import KafkaConsumer, KafkaProducer, TopicPartition

servers, requests, predictions, tracking, model, port = sys.argv[1:]
address = f"{tracking}/api/2.0/mlflow/registered-models/alias?name={model}&alias=serving"
refused: dict[str, str] = {}


class Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"refused": refused}).encode())


def version_with_alias() -> dict[str, Any]:
    while True:
        try:
            with urllib.request.urlopen(address) as response:  # noqa: S310  the tracking server of the test
                version: dict[str, Any] = json.load(response)["model_version"]
                return version
        except urllib.error.URLError:  # no such alias, or MLflow is away
            time.sleep(0.2)


threading.Thread(target=HTTPServer(("127.0.0.1", int(port)), Page).serve_forever, daemon=True).start()
consumer = KafkaConsumer(bootstrap_servers=servers, enable_auto_commit=False)
producer = KafkaProducer(bootstrap_servers=servers)
partitions = [TopicPartition(requests, number) for number in consumer.partitions_for_topic(requests)]
consumer.assign(partitions)
for partition, offset in consumer.end_offsets(partitions).items():
    consumer.seek(partition, offset)
last_good = ""
while True:
    records = [record for found in consumer.poll(timeout_ms=100).values() for record in found]
    version = version_with_alias()
    number = str(version["version"])
    behaviour = {tag["key"]: tag["value"] for tag in version["tags"]}["behaviour"]
    if behaviour == "dies":
        time.sleep(1.2)  # longer than Supervisor takes for a start
        os._exit(1)
    if behaviour == "refused":
        refused[number] = "it has no price for its own input example"
        number, behaviour = last_good, "answers" if last_good else "silent"
    if behaviour == "answers":
        last_good = number
    for record in records:
        request = json.loads(record.value)
        answer = {
            "type": "rejection" if behaviour == "rejects" else "price",
            "request_id": request["request_id"],
            "model_version": number,
            **({"reason": "missing_year"} if behaviour == "rejects" else {"price": 21_000.0}),
        }
        if behaviour != "silent":
            producer.send(predictions, key=record.key, value=json.dumps(answer).encode())
    producer.flush()
