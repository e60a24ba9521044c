"""Stands where serving stands under Supervisor, and fails on demand as the real one can't be made to.

Answers price requests with the version that has the alias when it starts. What it does with a version is said
by the version's tag `behaviour`: answers (the default), silent, rejects, dies.
"""

import json
import os
import sys
import time
import urllib.error
import urllib.request

from kafka import KafkaConsumer, KafkaProducer, TopicPartition

servers, requests, predictions, tracking, model = sys.argv[1:]
address = f"{tracking}/api/2.0/mlflow/registered-models/alias?name={model}&alias=serving"
while True:
    try:
        with urllib.request.urlopen(address) as response:  # noqa: S310  the tracking server of the test
            version = json.load(response)["model_version"]
        break
    except urllib.error.HTTPError:
        time.sleep(0.2)
behaviour = {tag["key"]: tag["value"] for tag in version["tags"]}["behaviour"]
if behaviour == "dies":
    time.sleep(1.2)  # longer than Supervisor takes for a start
    os._exit(1)
consumer = KafkaConsumer(bootstrap_servers=servers, enable_auto_commit=False)
producer = KafkaProducer(bootstrap_servers=servers)
partitions = [TopicPartition(requests, number) for number in consumer.partitions_for_topic(requests)]
consumer.assign(partitions)
for partition, offset in consumer.end_offsets(partitions).items():
    consumer.seek(partition, offset)
for record in consumer:
    request = json.loads(record.value)
    answer = {
        "type": "rejection" if behaviour == "rejects" else "price",
        "request_id": request["request_id"],
        "model_version": str(version["version"]),
        **({"reason": "missing_year"} if behaviour == "rejects" else {"price": 21_000.0}),
    }
    if behaviour != "silent":
        producer.send(predictions, key=record.key, value=json.dumps(answer).encode())
        producer.flush()
