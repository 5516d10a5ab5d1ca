"""HAProxy (Debian), with its own converters only. Its records go to a ring that is mapped onto a file."""
from base64 import b64encode

VERSION = ["haproxy", "-v"]


def rules(scenario, ctx):
    if scenario == "key_limit":
        table = ctx.write("clients.map", "".join(f"{key} {client}\n" for client, key in ctx.clients))
        return f"""stick-table type string len 16 size 10k expire 10s store http_req_rate(1s)
  http-request set-var(txn.consumer) req.hdr(x-api-key),map_str({table})
  http-request deny deny_status 401 unless {{ var(txn.consumer) -m found }}
  http-request track-sc0 var(txn.consumer)
  http-request deny deny_status 429 if {{ sc_http_req_rate(0) gt 1000000 }}
  http-request set-header x-consumer %[var(txn.consumer)]"""
    if scenario == "security_hash":
        key = b64encode(ctx.hmac_key.encode()).decode()
        # fhdr: the whole field; hdr would cut a date at its comma
        return rf"""option http-buffer-request
  http-request deny deny_status 400 unless {{ req.fhdr(x-date) -m found }}
  http-request set-var(txn.digest) req.body,sha2(256),hex,lower
  http-request set-var-fmt(txn.data) "%[method]\n%[path]\n%[req.fhdr(x-date)]\n%[var(txn.digest)]"
  http-request set-header authorization "HMAC bench:%[var(txn.data),hmac(sha256,{key}),base64]" """
    return ""


def start(scenario, ctx):
    config = ctx.write("haproxy.cfg", f"""global
  nbthread 1
  maxconn 4096
ring records
  format raw
  maxlen 1024
  size 1048576
  backing-file {ctx.dir}/access.ring
defaults
  mode http
  option httplog
  timeout client 60s
  timeout server 60s
  timeout connect 5s
  http-reuse always
frontend main
  bind 127.0.0.1:{ctx.port}
  log ring@records local0
  {rules(scenario, ctx)}
  default_backend up
backend up
  server up 127.0.0.1:{ctx.upstream_port}
""")
    return {"cmd": ["haproxy", "-db", "-f", config], "records": "access.ring"}
