"""Gatewright: the binary named by $GATEWRIGHT, else target/release/gatewright of this repository."""
import hashlib
import os

from data import (AUDIENCE, CLIENTS, HMAC_KEY, HS256_KEY, ISSUER, KEY_ID, REPOSITORY, STORED_BEARER, kept)

BINARY = os.environ.get("GATEWRIGHT") or os.path.join(REPOSITORY, "target", "release", "gatewright")
VERSION = [BINARY, "--version"]
ENVIRONMENT = {"BENCH_KEY": HMAC_KEY, "BENCH_JWT_KEY": HS256_KEY, "BENCH_BEARER": STORED_BEARER}


# ---- resources ---------------------------------------------------------------------------------------
def api_keys():
    entry = '  - {{ id: {0}, hash: "sha256:{1}", client: {0}, subject: {0} }}\n'
    return "api_keys: clients\nentries:\n" + "".join(
        entry.format(client, hashlib.sha256(key.encode()).hexdigest()) for client, key in CLIENTS)


def provider(keys):
    return f"identity_provider: idp\nkind: jwt\nissuer: {ISSUER}\naudience: {AUDIENCE}\nkeys: {keys}\n"


HS256 = f"""secret: jwt
from: {{ env: BENCH_JWT_KEY }}
---
key: jwt
kind: symmetric
from: {{ secret: jwt }}
algorithms: [HS256]
kid: {KEY_ID}
---
{provider("{ key: jwt }")}"""

RESOURCES = {
    "key_limit": api_keys,
    "jwt_hs256": lambda: HS256,
    "jwt_rs256": lambda: provider(f"{{ file: {kept('jwks.json')} }}"),
    "broker": lambda: f"users: staff\nfile: {kept('users.htpasswd')}\n---\nsecret: stored\nfrom: {{ env: BENCH_BEARER }}\n",
    "security_hash": lambda: "secret: bench\nfrom: { env: BENCH_KEY }\n",
    "script": lambda: HS256,
}

# ---- steps before the route ----------------------------------------------------------------------------
STEPS = {
    "proxy": "",
    "bodies": "",
    "tls": "",
    "reloads": "",
    "key_limit": """
  - authenticate_api_key: clients
  - limit_rate: { per: "${auth.client}", rate: 1000000/second }
  - set_headers: { x-consumer: "${auth.client}" }""",
    "jwt_hs256": """
  - authenticate_jwt: { issuer: idp, keep_credential: true }""",
    "jwt_rs256": """
  - authenticate_jwt: { issuer: idp, keep_credential: true }""",
    "broker": """
  - authenticate_basic: staff
  - set_headers: { authorization: "Bearer ${secret('stored')}" }""",
    "security_hash": """
  - generate_security_hash:
      data: ["${request.method}", "${request.path}", "${request.headers.x_date}", "${sha256(request.body)}"]
      key: { secret: bench }
      encoding: base64
  - set_headers: { authorization: "HMAC bench:${hash.value}" }""",
    "compress_saml": """
  - when: (request.size ?? 0) == 0
    raise: { status: 400, code: bench.no_assertion, text: Post an assertion }
  - compress: { format: gzip, value: "${request.body}", encoding: base64 }
  - set_headers: { authorization: "SAML ${compressed.value}" }""",
    "decompress_saml": """
  - when: "!starts_with(request.headers.authorization ?? '', 'SAML ')"
    raise: { status: 400, code: bench.no_assertion, text: "Send `Authorization: SAML ...`" }
  - decompress: { value: "${replace(request.headers.authorization ?? '', 'SAML ', '')}", encoding: base64 }
  - remove_headers: [authorization]
  - rewrite: { method: POST }
  - set_body: { value: "${decompressed.value}", content_type: text/xml }""",
    "script": """
  - authenticate_jwt: { issuer: idp, keep_credential: true }
  - script:
      code: |
        if request.method != 'POST' || !starts_with(request.path, '/api/') { deny('bench.refused', 403); }
        if !('orders:write' in auth.scopes) { deny('bench.scope', 403); }
        let order = request.json;
        let segment = split(request.path, '/')[2];
        out.tenant = `${auth.subject}@${segment}`;
        out.tier = if order.amount > 1000 { 'gold' } else { 'basic' };
        out.key = `${request.method}:${segment}:${order.order_id}`;
        let issuer = auth.claims.iss;
        if ends_with(issuer, '.example') { out.origin = upper(issuer); }
        out.mask = `****${right(order.card, 4)}`;
      sets: { tenant: string, tier: string, key: string, origin: "string?", mask: string }
  - set_headers: { x-tenant: "${tenant}", x-tier: "${tier}", x-key: "${key}", x-mask: "${mask}" }
  - when: exists(origin)
    set_headers: { x-origin: "${origin}" }""",
}
SERVICES_PER_FILE = 100


def service(name, path, steps, after=""):
    return f"""service: {name}
match: {{ path: "{path}" }}
policy:{steps}
  - route: up{after}
"""


def upstream(ctx):
    """As many connections are kept as in the peers: 64 would be too few where 200 requests are under way."""
    return f"""upstream: up
targets: ["http://127.0.0.1:{ctx.upstream_port}"]
pool: {{ max_idle: 512 }}
"""


def version_step(number):
    return f"""
  - set_headers: {{ x-version: "{number}" }}"""


def services(ctx):
    for first in range(0, ctx.services, SERVICES_PER_FILE):
        numbers = range(first, min(first + SERVICES_PER_FILE, ctx.services))
        ctx.write(f"policies/services_{first}.yaml", "---\n".join(
            service(f"s{number}", f"/s{number}/{{*rest}}", f"\n  - set_headers: {{ x-service: s{number} }}") for number in numbers))


def start(work, ctx):
    if not os.access(BINARY, os.X_OK):
        raise FileNotFoundError(f"no binary at {BINARY}: run `cargo build --release`, or name one in $GATEWRIGHT")
    tls = f", tls: {{ certificate: {kept('tls.crt')}, key: {kept('tls.key')}, min: \"1.3\" }}" if work == "tls" else ""
    config = ctx.write("gateway.yaml", f"""listeners: [{{ name: main, address: "127.0.0.1:{ctx.port}"{tls} }}]
admin: {{ address: "127.0.0.1:{ctx.admin_port}" }}
workers: 1
policies: policies
assertions: assertions
state: state
env: [{", ".join(ENVIRONMENT)}]
audit: {{ file: access.jsonl }}
limits: {{ connections_per_client: 4000, requests_per_connection: 1000000000 }}
""")
    os.makedirs(os.path.join(ctx.dir, "assertions"), exist_ok=True)
    ctx.write("policies/upstream.yaml", upstream(ctx))
    if work in RESOURCES:
        ctx.write("policies/resources.yaml", RESOURCES[work]())
    if work == "services":
        services(ctx)
    else:
        ctx.write("policies/bench.yaml", service("bench", "/{*rest}", STEPS[work], version_step(0) if work == "reloads" else ""))
    return {"cmd": [BINARY, "run", "--config", config], "env": ENVIRONMENT, "records": "access.jsonl"}


def reload(number, ctx):
    """The file is written; the gateway notices."""
    ctx.write("policies/bench.yaml", service("bench", "/{*rest}", "", version_step(number)))
