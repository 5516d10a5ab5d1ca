"""What is asked of every contestant: the requests under load and the checks before it.

A scenario is one function that takes the asking side of a check and raises CheckFailed, and one
wrk script. Nothing here knows how any gateway is configured; that is in contestants/.
"""
import hashlib
import hmac
import json
from base64 import b64encode

from asking import expect

HMAC_KEY = "bench-hmac-key-0123456789abcdef0"
CLIENTS = [(f"c{i:04d}", hashlib.sha256(b"bench client %d" % i).hexdigest()[:32]) for i in range(1000)]
ORDER = json.dumps({"order": 7, "text": "x" * 1000}).encode()
X_DATE = "Sun, 06 Nov 2033 08:49:37 GMT"


def check_proxy(client):
    client.good("GET", "/item/7")
    client.good("GET", "/item/8?a=b")
    client.good("POST", "/item", {}, ORDER)
    before = len(client.seen)
    status = client.status_of_raw(b"GET / HTTP/1.1\r\nHost: bench.local\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab")
    expect(status == 400 and len(client.seen) == before, f"two different Content-Length: expected 400, got {status}")


def check_key_limit(client):
    for name, key in (CLIENTS[0], CLIENTS[7], CLIENTS[999]):
        for forged in ({}, {"x-consumer": "forged"}):
            got = client.good("GET", "/item/7", {"x-api-key": key, **forged}).get_all("x-consumer")
            expect(got == [name], f"x-consumer at the upstream: expected [{name!r}], got {got}")
    client.refused((401,), "GET", "/item/7")
    client.refused((401,), "GET", "/item/7", {"x-api-key": "0" * 32})
    client.refused((401,), "GET", "/item/7", {"x-api-key": ""})


def signature(method, path, date, body):
    text = "\n".join((method, path, date, hashlib.sha256(body).hexdigest()))
    return "HMAC bench:" + b64encode(hmac.new(HMAC_KEY.encode(), text.encode(), "sha256").digest()).decode()


def check_security_hash(client):
    for path, date, body in (("/orders", X_DATE, ORDER), ("/orders/8", X_DATE, ORDER), ("/orders", "later", ORDER[::-1]), ("/orders", X_DATE, b"")):
        got = client.good("POST", path, {"x-date": date}, body).get_all("authorization")
        expect(got == [signature("POST", path, date, body)], f"authorization of {path}: wrong signature {got}")
    client.refused((400, 401, 403), "POST", "/orders", {}, ORDER)


# ---- load ------------------------------------------------------------------------------------------
# wrk's own totals and percentiles, in microseconds, as one line that run can find.
DONE = """
function done(summary, latency)
  local e = summary.errors
  print(string.format('RESULT {"requests":%d,"us":%d,"p50_us":%d,"p99_us":%d,"errors":%d}', summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99), e.connect + e.read + e.write + e.timeout + e.status))
end
"""


def one_request(method, path, headers, body=None):
    lines = [f"wrk.method = {json.dumps(method)}", f"wrk.path = {json.dumps(path)}"]
    lines += [f"wrk.headers[{json.dumps(k)}] = {json.dumps(v)}" for k, v in {"Host": "bench.local", **headers}.items()]
    if body is not None:
        lines.append(f"wrk.body = {json.dumps(body.decode())}")
    return "\n".join(lines) + DONE


def every_key():
    """The clients in turn. Requests are made before the load starts, as plain text."""
    keys = ", ".join(json.dumps(key) for _, key in CLIENTS)
    return f"local keys, requests, turn = {{ {keys} }}, {{}}, 0" + """
for i, key in ipairs(keys) do
  requests[i] = "GET /item/7 HTTP/1.1\\r\\nHost: bench.local\\r\\nx-api-key: " .. key .. "\\r\\n\\r\\n"
end
function request()
  turn = turn % #requests + 1
  return requests[turn]
end
""" + DONE


# name -> (check, wrk script, a good request as method, path, headers, body)
SCENARIOS = {
    "proxy": (check_proxy, one_request("GET", "/item/7", {}), ("GET", "/item/7", {}, None)),
    "key_limit": (check_key_limit, every_key(), ("GET", "/item/7", {"x-api-key": CLIENTS[7][1]}, None)),
    "security_hash": (check_security_hash, one_request("POST", "/orders", {"x-date": X_DATE}, ORDER),
                      ("POST", "/orders", {"x-date": X_DATE}, ORDER)),
}
