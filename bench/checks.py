"""What every contestant has to do rightly before it is measured: one function for each kind of work."""
import gzip
import hashlib
import hmac
import json
import ssl
import time
from base64 import b64decode, b64encode

from asking import expect
from data import (ASSERTION, CLIENTS, HMAC_KEY, ORDER, PACKED_ASSERTION, STORED_BEARER, USERS, X_DATE, basic, claims, hs256, order,
                  read, rs256, token)
from upstreams import BODIES

REFUSED = (400, 401, 403)
MIB = 1 << 20
NO_METHOD_REFUSED = (403, 404, 405)
CHANGE_SECONDS = 10         # a change of the configuration that is not live by then has failed


def same_for(got, field, wanted):
    values = got.get_all(field)
    expect(values == [wanted], f"{field} at the upstream: expected [{wanted!r}], got {values}")


def check_proxy(client):
    client.good("GET", "/item/7")
    client.good("GET", "/item/8?a=b")
    client.good("POST", "/item", {}, ORDER)
    check_framing(client)


def check_framing(client):
    before = len(client.seen)
    status = client.status_of_raw(b"GET / HTTP/1.1\r\nHost: bench.local\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab")
    expect(status == 400 and len(client.seen) == before, f"two different Content-Length: expected 400, got {status}")


def check_key_limit(client):
    for name, key in (CLIENTS[0], CLIENTS[7], CLIENTS[999]):
        for forged in ({}, {"x-consumer": "forged"}):
            same_for(client.good("GET", "/item/7", {"x-api-key": key, **forged}), "x-consumer", name)
    client.refused((401,), "GET", "/item/7")
    client.refused((401,), "GET", "/item/7", {"x-api-key": "0" * 32})
    client.refused((401,), "GET", "/item/7", {"x-api-key": ""})


def check_tokens(client, make, wrong):
    """`make(claims)` gives a right token, `wrong` are tokens that are so in another way than by their claims."""
    for number in (7, 8):
        value = "Bearer " + make(claims(number))
        same_for(client.good("GET", "/item/7", {"authorization": value}), "authorization", value)
    late, good = int(time.time()) - 3600, make(claims())
    head, payload, signature = good.split(".")
    forged = json.dumps(claims(sub="other")).encode()
    wrong = {
        "expired": make(claims(exp=late)), "another issuer": make(claims(iss="https://other.example")),
        "another audience": make(claims(aud="other")), "no audience": make(claims(aud=None)),
        "another's claims": f"{head}.{b64encode(forged).decode().rstrip('=')}.{signature}",
        "a changed signature": f"{head}.{payload}.{signature[:-8]}AAAAAAAA", "no signature": f"{head}.{payload}.",
        "unsigned": token("none", lambda data: b"", claims()), "no token": "junk", **wrong,
    }
    for what, value in wrong.items():
        before = len(client.seen)
        status, *_ = client.ask("GET", "/item/7", {"authorization": "Bearer " + value})
        expect(status in REFUSED and len(client.seen) == before, f"a token that is {what}: expected one of {REFUSED}, got {status}")
    client.refused(REFUSED, "GET", "/item/7")


def check_jwt_hs256(client):
    check_tokens(client, hs256, {"of another key": hs256(claims(), key="another-jwt-secret-0123456789abcdef"), "of another kind": rs256(claims())})


def check_jwt_rs256(client):
    public = read("rsa.pub")
    check_tokens(client, rs256, {"of another key": rs256(claims(), key="other.key"), "signed with the public key": hs256(claims(), key=public)})


def check_broker(client):
    for name, password in (USERS[0], USERS[77], USERS[999]):
        for _ in range(2):
            same_for(client.good("GET", "/item/7", {"authorization": basic(name, password)}), "authorization", f"Bearer {STORED_BEARER}")
    (name, password), (other, _) = USERS[77], USERS[78]
    for wrong in (basic(name, "wrong"), basic(other, password), basic("nobody", password), basic(name, ""), "Basic junk", f"Bearer {STORED_BEARER}"):
        client.refused((401,), "GET", "/item/7", {"authorization": wrong})
    client.refused((401,), "GET", "/item/7")


def signature(method, path, date, body):
    text = "\n".join((method, path, date, hashlib.sha256(body).hexdigest()))
    return "HMAC bench:" + b64encode(hmac.new(HMAC_KEY.encode(), text.encode(), "sha256").digest()).decode()


def check_security_hash(client):
    for path, date, body in (("/orders", X_DATE, ORDER), ("/orders/8", X_DATE, ORDER), ("/orders", "later", ORDER[::-1]), ("/orders", X_DATE, b"")):
        same_for(client.good("POST", path, {"x-date": date}, body), "authorization", signature("POST", path, date, body))
    client.refused(REFUSED, "POST", "/orders", {}, ORDER)


def check_compress_saml(client):
    for body in (ASSERTION, ASSERTION[::-1]):
        values = client.good("POST", "/orders/7", {"content-type": "text/xml"}, body).get_all("authorization")
        expect(len(values or []) == 1 and values[0].startswith("SAML "), f"authorization at the upstream: {values}")
        packed = b64decode(values[0][5:], validate=True)
        expect(gzip.decompress(packed) == body, "what was compressed is not what was sent")
        expect(len(packed) < 0.3 * len(ASSERTION) or body is not ASSERTION, f"{len(packed)} bytes for {len(body)}: hardly compressed")
    client.refused(REFUSED, "POST", "/orders/7", {"content-type": "text/xml"}, b"")


def check_decompress_saml(client):
    got = client.good("GET", "/orders/7", {"authorization": PACKED_ASSERTION}, arrives=("POST", ASSERTION))
    expect(got.get_all("authorization") is None, "authorization went on to the upstream")
    packed = b64decode(PACKED_ASSERTION[5:])
    for wrong in (packed[:-200], packed[:-8] + bytes(8), ASSERTION[:600]):
        client.refused(REFUSED, "GET", "/orders/7", {"authorization": "SAML " + b64encode(wrong).decode()})
    client.refused(REFUSED, "GET", "/orders/7", {"authorization": "SAML !!!"})
    client.refused(REFUSED, "GET", "/orders/7", {"authorization": PACKED_ASSERTION[5:]})
    client.refused(REFUSED, "GET", "/orders/7")


def check_script(client):
    bearer = {"authorization": "Bearer " + hs256(claims())}
    for tenant, order_id, amount, tier, card in (("acme", "o-1001", 1500, "gold", "4111111111111111"), ("globex", "o-2", 1000, "basic", "5500000000000004")):
        body = order(order_id, amount, card)
        got = client.good("POST", f"/api/{tenant}/orders", {**bearer, "content-type": "application/json"}, body)
        wanted = {"x-tenant": f"user7@{tenant}", "x-tier": tier, "x-key": f"POST:{tenant}:{order_id}", "x-origin": "HTTPS://IDP.EXAMPLE",
                  "x-mask": "****" + card[-4:]}
        for field, value in wanted.items():
            same_for(got, field, value)
    client.refused(NO_METHOD_REFUSED, "GET", "/api/acme/orders", bearer)
    client.refused((403, 404), "POST", "/other/acme/orders", bearer, order())
    client.refused((403,), "POST", "/api/acme/orders", {"authorization": "Bearer " + hs256(claims(scope="orders:read"))}, order())
    client.refused(REFUSED, "POST", "/api/acme/orders", {}, order())


def check_tls(client):
    check = client.good
    check("GET", "/item/7")
    check("POST", "/item", {}, ORDER)
    try:
        status, *_ = client.ask("GET", "/item/7", older_tls=True)
    except (ssl.SSLError, ConnectionError):
        return
    expect(False, f"TLS 1.2: expected no handshake, got {status}")


def check_bodies(client):
    for path, body in BODIES.items():
        client.good("GET", path, answer=body)
    for size in (100 << 10, 10 * MIB):
        client.good("POST", "/up", {}, bytes(i % 251 for i in range(1 << 10)) * (size >> 10))
    check_framing(client)


def check_services(count):
    def check(client):
        for number in {0, 1, 9, count // 2, count - 1}:
            same_for(client.good("GET", f"/s{number}/item/7?a=b"), "x-service", f"s{number}")
        for path in (f"/s{count}/item/7", "/s/item/7", "/other", "/s1x/item/7"):
            client.refused((404,), "GET", path)
    return check


def check_reloads(client, reload):
    """A change must become live; until then, the old configuration answers."""
    for number in range(3):
        if number:
            reload(number)
        deadline, version = time.monotonic() + CHANGE_SECONDS, None
        while version != str(number) and time.monotonic() < deadline:
            status, _, fields = client.ask("GET", "/item/7")
            expect(status == 200, f"while change {number} becomes live: expected 200, got {status}")
            version = fields.get("x-version")
            time.sleep(0.02)
        expect(version == str(number), f"change {number} is not live after {CHANGE_SECONDS} s: x-version is {version}")
