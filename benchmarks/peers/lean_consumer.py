"""A peer of serving: a Python process that reads Kafka, prices with XGBoost, and writes Kafka.

    python benchmarks/peers/lean_consumer.py RAW_LISTINGS.csv

It has as many trees of the same size as the gradient boosting of the platform, on the features that a few
lines of Python take from a listing; no stack, no checks, no rejections, and after a kill -9 what it had not
committed is answered twice.
"""

import csv
import json
import re
import sys
from itertools import islice
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import xgboost
from confluent_kafka import Consumer, Producer

from streaming_app.settings import KafkaSettings
from usedcars_assets.pipeline.members.gradient_boosting import DEFAULTS

NUMBER = re.compile(r"-?\d+(?:[.,]\d+)*")
NUMBERS = (
    *("year", "mileage", "horsepower", "engine_displacement", "city_fuel_economy", "highway_fuel_economy"),
    *("latitude", "longitude", "daysonmarket", "owner_count", "seller_rating", "savings_amount"),
    *("back_legroom", "front_legroom", "fuel_tank_volume", "height", "length", "width", "wheelbase"),
    *("power", "torque", "maximum_seating", "engine_cylinders"),
)
CATEGORIES = (
    *("make_name", "model_name", "trim_name", "body_type", "city", "fuel_type", "transmission"),
    *("wheel_system", "engine_type", "exterior_color", "listing_color", "franchise_make", "sp_name"),
)
TRAINED_ON = 20_000


def number(text: Any) -> float:
    found = NUMBER.search(str(text)) if text is not None else None
    return float(found.group().replace(",", "")) if found else np.nan


def features(listing: dict[str, Any]) -> list[float]:
    return [
        *(number(listing.get(name)) for name in NUMBERS),
        *(float(crc32(str(listing.get(name)).encode()) % 1_000_003) for name in CATEGORIES),
    ]


def train(path: Path) -> xgboost.Booster:
    csv.field_size_limit(2**31 - 1)
    with path.open(newline="", encoding="utf-8") as file:
        rows = [row for row in islice(csv.DictReader(file), TRAINED_ON) if number(row["price"]) > 0]
    data = np.array([features(row) for row in rows], dtype=np.float32)
    prices = np.log([number(row["price"]) for row in rows])
    shape = ("max_leaves", "max_depth", "learning_rate")
    parameters = {**{name: DEFAULTS[name] for name in shape}, "grow_policy": "lossguide"}
    booster = xgboost.train(parameters, xgboost.DMatrix(data, prices), int(DEFAULTS["n_estimators"]))
    booster.set_param({"nthread": 2})
    return booster


def serve(booster: xgboost.Booster, settings: KafkaSettings) -> None:
    consumer = Consumer(
        {
            "bootstrap.servers": settings.kafka_bootstrap_servers,
            "group.id": settings.predictions_topic,
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": 5,
        }
    )
    consumer.subscribe([settings.requests_topic])
    producer = Producer({"bootstrap.servers": settings.kafka_bootstrap_servers, "linger.ms": 0})
    while True:
        first = consumer.poll(0.1)
        if first is None or first.error() is not None:
            continue
        records = [first, *consumer.consume(1_000, 0)]
        asked = [json.loads(record.value()) for record in records]
        data = np.array([features(message["listing"]) for message in asked], dtype=np.float32)
        prices = np.exp(booster.inplace_predict(data))
        for record, message, price in zip(records, asked, prices, strict=True):
            answer = {"type": "price", "request_id": message["request_id"], "price": float(price)}
            answer |= {"source_partition": record.partition(), "source_offset": record.offset()}
            producer.produce(
                settings.predictions_topic,
                json.dumps(answer),
                key=str(answer["request_id"]),
                partition=record.partition(),
            )
        producer.poll(0)


if __name__ == "__main__":
    serve(train(Path(sys.argv[1])), KafkaSettings())
