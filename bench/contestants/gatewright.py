"""Gatewright: the binary named by $GATEWRIGHT, else target/release/gatewright of this repository."""
import hashlib
import os

REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BINARY = os.environ.get("GATEWRIGHT") or os.path.join(REPOSITORY, "target", "release", "gatewright")
VERSION = [BINARY, "--version"]


def api_keys(clients):
    entry = '  - {{ id: {0}, hash: "sha256:{1}", client: {0}, subject: {0} }}\n'
    return "api_keys: clients\nentries:\n" + "".join(
        entry.format(client, hashlib.sha256(key.encode()).hexdigest()) for client, key in clients)


STEPS = {
    "proxy": "",
    "key_limit": """
  - authenticate_api_key: clients
  - limit_rate: { per: "${auth.client}", rate: 1000000/second }
  - set_headers: { x-consumer: "${auth.client}" }""",
    "security_hash": """
  - generate_security_hash:
      data: ["${request.method}", "${request.path}", "${request.headers.x_date}", "${sha256(request.body)}"]
      key: { secret: bench }
      encoding: base64
  - set_headers: { authorization: "HMAC bench:${hash.value}" }""",
}


def start(scenario, ctx):
    if not os.access(BINARY, os.X_OK):
        raise FileNotFoundError(f"no binary at {BINARY}: run `cargo build --release`, or name one in $GATEWRIGHT")
    config = ctx.write("gateway.yaml", f"""listeners: [{{ name: main, address: "127.0.0.1:{ctx.port}" }}]
admin: {{ address: "127.0.0.1:{ctx.admin_port}" }}
workers: 1
policies: policies
assertions: assertions
state: state
env: [BENCH_KEY]
audit: {{ file: access.jsonl }}
""")
    os.makedirs(os.path.join(ctx.dir, "assertions"), exist_ok=True)
    if scenario == "key_limit":
        ctx.write("policies/clients.yaml", api_keys(ctx.clients))
    elif scenario == "security_hash":
        ctx.write("policies/secret.yaml", "secret: bench\nfrom: { env: BENCH_KEY }\n")
    ctx.write("policies/bench.yaml", f"""service: bench
match: {{ path: "/{{*rest}}" }}
policy:{STEPS[scenario]}
  - route: "http://127.0.0.1:{ctx.upstream_port}"
""")
    return {"cmd": [BINARY, "run", "--config", config], "env": {"BENCH_KEY": ctx.hmac_key}, "records": "access.jsonl"}
