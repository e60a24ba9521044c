"""Price requests as no sender should write them."""

import json
import random
from collections.abc import Callable, Iterator
from typing import Any

Request = dict[str, Any]

NONSENSE: tuple[Any, ...] = (
    *(None, True, [], {}, [[]], "", " ", "--", "NaN", "Infinity", "-1", "1e999", "0x1F", "9" * 400),
    *("'; DROP TABLE listings; --", "${jndi:ldap://x}", "\u202e\u0000\ud7ff\U0001f697", "ñ" * 3000, "\\"),
    *(
        -1,
        0,
        1e308,
        2**63,
        10**400,
        -0.0,
        [1, 2, 3],
        {"value": {"unit": "mi"}},
        "12,5 mi",
        "\u0661\u0662",
        "\uff12\uff10",
    ),
)


def _one_field(request: Request, chance: random.Random) -> bytes:
    request["listing"][chance.choice(list(request["listing"]))] = chance.choice(NONSENSE)
    return json.dumps(request).encode()


def _many_fields(request: Request, chance: random.Random) -> bytes:
    for name in request["listing"]:
        if chance.random() < 0.5:
            request["listing"][name] = chance.choice(NONSENSE)
    return json.dumps(request, ensure_ascii=False).encode("utf-8", "replace")


def _no_field(request: Request, chance: random.Random) -> bytes:
    kept = chance.sample(list(request["listing"]), chance.randrange(len(request["listing"])))
    return json.dumps({**request, "listing": {name: request["listing"][name] for name in kept}}).encode()


def _envelope(request: Request, chance: random.Random) -> bytes:
    request[chance.choice(["type", "request_id", "listing", "requested_at"])] = chance.choice(NONSENSE)
    return json.dumps(request).encode()


def _truncated(request: Request, chance: random.Random) -> bytes:
    text = json.dumps(request).encode()
    return text[: chance.randrange(len(text))]


def _flipped(request: Request, chance: random.Random) -> bytes:
    text = bytearray(json.dumps(request).encode())
    for _ in range(chance.randint(1, 8)):
        text[chance.randrange(len(text))] = chance.randrange(256)
    return bytes(text)


def _encoded(request: Request, chance: random.Random) -> bytes:
    text = json.dumps({**request, "note": "Škoda Citroën 日産"}, ensure_ascii=False)
    return text.encode(
        chance.choice(["utf-16", "utf-32", "utf-8-sig", "gb18030", "utf-7", "cp037"]), "replace"
    )


def _nested(request: Request, chance: random.Random) -> bytes:
    depth = chance.choice([10, 100, 1_000, 5_000])
    opened, closed = chance.choice([("[", "]"), ('{"a":', "}")])
    value = opened * depth + "1" + closed * chance.choice([depth, depth - 1])
    return json.dumps(request).replace('"listing": {', f'"listing": {{"year": {value}, ').encode()


def _huge(request: Request, chance: random.Random) -> bytes:
    request["listing"]["description"] = "x" * chance.choice([60_000, 65_536, 200_000])
    return json.dumps(request).encode()


def _noise(request: Request, chance: random.Random) -> bytes:
    return chance.randbytes(chance.randrange(300))


# Kind of mutation and how often it is drawn; the dear ones seldom.
_KINDS: dict[Callable[[Request, random.Random], bytes], int] = {
    **{_one_field: 30, _many_fields: 10, _no_field: 10, _envelope: 10, _truncated: 15},
    **{_flipped: 15, _encoded: 5, _nested: 3, _huge: 1, _noise: 5},
}


def mutated_requests(listings: list[dict[str, Any]], count: int, seed: int) -> Iterator[bytes]:
    """Messages that began as price requests for these listings."""
    chance = random.Random(seed)
    kinds, weights = list(_KINDS), list(_KINDS.values())
    for number in range(count):
        request = {
            "type": "price_request",
            "request_id": f"mutated-{number}",
            "listing": dict(chance.choice(listings)),
        }
        yield chance.choices(kinds, weights)[0](request, chance)
