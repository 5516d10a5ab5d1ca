"""What is asked of every contestant: a check, a load, and the work that both are about.

Nothing here knows how any gateway is configured; that is in contestants/.
"""
import dataclasses
import functools
import random
import typing

import checks
from data import (ASSERTION, CLIENTS, ORDER, PACKED_ASSERTION, USERS, X_DATE, basic, claims, hs256, order, read, rs256)
from loads import Handshakes, Idle, Paced, Reloads, Wrk
from upstreams import ANSWER, BODIES

ITEM = "/item/7"


@dataclasses.dataclass(frozen=True)
class Scenario:
    check: typing.Callable
    load: typing.Any
    good: tuple                 # a request: method, path, fields, body
    answer: bytes = ANSWER      # to `good`
    work: str = ""              # what contestants know it by, where that is another name
    tls: bool = False
    services: int = 0
    recorded: str = ""          # what of its path an access log names under load, where that is not all
    prime: typing.Callable = list   # requests that have to be answered rightly before the load, once


def bearer(value):
    return {"authorization": f"Bearer {value}"}


def paths_of(count):
    """A thousand paths, drawn from all services."""
    return [f"/s{random.Random(count + turn).randrange(count)}{ITEM}" for turn in range(1000)]


def services(count):
    return Scenario(checks.check_services(count), Wrk("GET", "VALUE", values=functools.partial(paths_of, count)), ("GET", "/s7" + ITEM, {}, None),
                    work="services", services=count, recorded=ITEM)


def down(path, connections):
    return Scenario(checks.check_bodies, Wrk("GET", path, connections=connections), ("GET", path, {}, None), answer=BODIES[path], work="bodies")


def up(size, connections):
    body = b"y" * size
    return Scenario(checks.check_bodies, Wrk("POST", "/up", {}, body, connections=connections), ("POST", "/up", {}, body), work="bodies")


HS256 = bearer(hs256(claims()))
SAML = {"content-type": "text/xml"}
JSON = {"content-type": "application/json"}


def all_scenarios():
    get = ("GET", ITEM, {}, None)
    rs256_tokens = lambda: read("rs256.tokens").split()
    one = bearer(rs256(claims()))
    key, ours = {"x-api-key": CLIENTS[7][1]}, {"authorization": basic(*USERS[7])}
    return {
        "proxy": Scenario(checks.check_proxy, Wrk("GET", ITEM), get),
        "proxy_paced": Scenario(checks.check_proxy, Paced(ITEM), get, work="proxy"),
        "key_limit": Scenario(checks.check_key_limit, Wrk("GET", ITEM, {"x-api-key": "VALUE"}, values=lambda: [key for _, key in CLIENTS]),
                              ("GET", ITEM, key, None)),
        "jwt_hs256": Scenario(checks.check_jwt_hs256, Wrk("GET", ITEM, HS256), ("GET", ITEM, HS256, None)),
        "jwt_hs256_paced": Scenario(checks.check_jwt_hs256, Paced(ITEM, HS256), ("GET", ITEM, HS256, None), work="jwt_hs256"),
        "jwt_rs256_one": Scenario(checks.check_jwt_rs256, Wrk("GET", ITEM, one), ("GET", ITEM, one, None), work="jwt_rs256"),
        "jwt_rs256_many": Scenario(checks.check_jwt_rs256, Wrk("GET", ITEM, bearer("VALUE"), values=rs256_tokens), ("GET", ITEM, one, None),
                                   work="jwt_rs256"),
        "broker": Scenario(checks.check_broker, Wrk("GET", ITEM, {"authorization": "VALUE"}, values=lambda: [basic(*user) for user in USERS]),
                           ("GET", ITEM, ours, None), prime=lambda: [("GET", ITEM, {"authorization": basic(*user)}, None) for user in USERS]),
        "security_hash": Scenario(checks.check_security_hash, Wrk("POST", "/orders", {"x-date": X_DATE}, ORDER),
                                  ("POST", "/orders", {"x-date": X_DATE}, ORDER)),
        "compress_saml": Scenario(checks.check_compress_saml, Wrk("POST", "/orders/7", SAML, ASSERTION), ("POST", "/orders/7", SAML, ASSERTION)),
        "decompress_saml": Scenario(checks.check_decompress_saml, Wrk("GET", "/orders/7", {"authorization": PACKED_ASSERTION}),
                                    ("GET", "/orders/7", {"authorization": PACKED_ASSERTION}, None)),
        "script": Scenario(checks.check_script, Wrk("POST", "/api/acme/orders", {**HS256, **JSON}, order()),
                           ("POST", "/api/acme/orders", {**HS256, **JSON}, order())),
        "tls": Scenario(checks.check_tls, Wrk("GET", ITEM, tls=True), get, tls=True),
        "handshakes": Scenario(checks.check_tls, Handshakes(ITEM), get, work="tls", tls=True),
        "down_100k": down("/down/100k", 32),
        "down_10m": down("/down/10240k", 8),
        "up_100k": up(100 << 10, 32),
        "up_10m": up(10 << 20, 8),
        "services_10": services(10),
        "services_10000": services(10000),
        "reloads": Scenario(checks.check_reloads, Reloads(ITEM), get),
        "idle": Scenario(checks.check_proxy, Idle(ITEM), get, work="proxy"),
    }


SCENARIOS = all_scenarios()
