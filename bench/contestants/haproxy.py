"""HAProxy (Debian), with its own converters; Lua only where it has none. Its records go to a ring that is mapped onto a file."""
import glob
import os
import signal
from base64 import b64encode

from data import (AUDIENCE, CLIENTS, HMAC_KEY, HS256_KEY, ISSUER, STORED_BEARER, USERS, kept)

VERSION = ["haproxy", "-v"]
LUA_LIBRARIES = "/usr/lib/*/lua/5.3"
REFUSE = "http-request deny deny_status 401 unless"

# Lua's zlib: window 31 is a gzip frame.
COMPRESS = """
package.cpath = '%s/?.so;' .. package.cpath
local zlib = require 'zlib'
core.register_action('bench', { 'http-req' }, function(transaction)
  local body = transaction.sf:req_body()
  if not body or body == '' then
    transaction:set_var('txn.refused', true)
    return
  end
  local packed = zlib.deflate(6, 31)(body, 'finish')
  transaction.http:req_set_header('authorization', 'SAML ' .. transaction.c:base64(packed))
end)
"""
SCRIPT = """
core.register_action('bench', { 'http-req' }, function(transaction)
  local fetch, convert, http = transaction.sf, transaction.c, transaction.http
  local method, path, token, body = fetch:method(), fetch:path(), fetch:http_auth_bearer(), fetch:req_body()
  local function refuse() transaction:set_var('txn.refused', true) end
  if method ~= 'POST' or path:sub(1, 5) ~= '/api/' or not token or token == '' then return refuse() end
  local scopes = convert:jwt_payload_query(token, '$.scope')
  if not scopes or not (' ' .. scopes .. ' '):find(' orders:write ', 1, true) then return refuse() end
  local subject, issuer = convert:jwt_payload_query(token, '$.sub'), convert:jwt_payload_query(token, '$.iss')
  local amount = tonumber(convert:json_query(body, '$.amount'))
  local id, card = convert:json_query(body, '$.order_id'), convert:json_query(body, '$.card')
  if not amount or not id or not card then return refuse() end
  local segment = path:match('^/[^/]*/([^/]*)')
  http:req_set_header('x-tenant', subject .. '@' .. segment)
  http:req_set_header('x-tier', amount > 1000 and 'gold' or 'basic')
  http:req_set_header('x-key', method .. ':' .. segment .. ':' .. id)
  if issuer:sub(-8) == '.example' then http:req_set_header('x-origin', issuer:upper()) end
  http:req_set_header('x-mask', '****' .. card:sub(-4))
end)
"""


def lua(ctx, program, status):
    """A Lua action over the whole body, which sets txn.refused: (lines of `global`, rules)."""
    return f"lua-load {ctx.write('bench.lua', program)}", f"""option http-buffer-request
  http-request lua.bench
  http-request deny deny_status {status} if {{ var(txn.refused) -m bool }}"""


def token_rules(algorithm, key):
    return f"""http-request set-var(txn.token) http_auth_bearer
  {REFUSE} {{ var(txn.token),jwt_header_query('$.alg') -m str {algorithm} }}
  {REFUSE} {{ var(txn.token),jwt_verify({algorithm},"{key}") -m int 1 }}
  {REFUSE} {{ var(txn.token),jwt_payload_query('$.iss') -m str {ISSUER} }}
  {REFUSE} {{ var(txn.token),jwt_payload_query('$.aud') -m str {AUDIENCE} }}
  http-request set-var(txn.now) date()
  {REFUSE} {{ var(txn.token),jwt_payload_query('$.exp','int'),sub(txn.now) -m int gt 0 }}"""


def key_limit(ctx):
    table = ctx.write("clients.map", "".join(f"{key} {client}\n" for client, key in CLIENTS))
    return f"""stick-table type string len 16 size 10k expire 10s store http_req_rate(1s)
  http-request set-var(txn.consumer) req.hdr(x-api-key),map_str({table})
  http-request deny deny_status 401 unless {{ var(txn.consumer) -m found }}
  http-request track-sc0 var(txn.consumer)
  http-request deny deny_status 429 if {{ sc_http_req_rate(0) gt 1000000 }}
  http-request set-header x-consumer %[var(txn.consumer)]"""


def broker(ctx):
    """A map of whole credentials: a userlist is walked from its beginning for each request."""
    table = ctx.write("users.map", "".join(f"{name}:{password} {name}\n" for name, password in USERS))
    return f"""{REFUSE} {{ req.hdr(authorization) -m beg "Basic " }}
  {REFUSE} {{ req.hdr(authorization),regsub("^Basic +",""),b64dec,map_str({table}) -m found }}
  http-request set-header authorization "Bearer {STORED_BEARER}" """


def security_hash(ctx):
    key = b64encode(HMAC_KEY.encode()).decode()
    # fhdr: the whole field; hdr would cut a date at its comma
    return rf"""option http-buffer-request
  http-request deny deny_status 400 unless {{ req.fhdr(x-date) -m found }}
  http-request set-var(txn.digest) req.body,sha2(256),hex,lower
  http-request set-var-fmt(txn.data) "%[method]\n%[path]\n%[req.fhdr(x-date)]\n%[var(txn.digest)]"
  http-request set-header authorization "HMAC bench:%[var(txn.data),hmac(sha256,{key}),base64]" """


def services(ctx):
    table = ctx.write("services.map", "".join(f"/s{number}/ s{number}\n" for number in range(ctx.services)))
    return f"""http-request set-var(txn.service) path,map_beg({table})
  http-request return status 404 unless {{ var(txn.service) -m found }}
  http-request set-header x-service %[var(txn.service)]"""


RULES = {
    "key_limit": key_limit, "broker": broker, "security_hash": security_hash, "services": services,
    "jwt_hs256": lambda ctx: token_rules("HS256", HS256_KEY), "jwt_rs256": lambda ctx: token_rules("RS256", kept("rsa.pub")),
}


def configuration(work, ctx, number=0):
    splice = "option splice-auto" if work == "bodies" else ""
    top, bind, rules = "", "", RULES.get(work, lambda ctx: "")(ctx)
    if work == "compress_saml":
        top, rules = lua(ctx, COMPRESS % lua_libraries(), 400)
    elif work == "script":
        top, rules = lua(ctx, SCRIPT, 403)
    elif work == "tls":
        bind = f" ssl crt {kept('tls.pem')} ssl-min-ver TLSv1.3"
    elif work == "reloads":
        top, rules = f"stats socket {ctx.dir}/admin.sock expose-fd listeners", f"http-response set-header x-version {number}"
    return f"""global
  nbthread 1
  maxconn 4096
  {top}
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
  bind 127.0.0.1:{ctx.port}{bind}
  log ring@records local0
  {rules}
  default_backend up
backend up
  {splice}
  server up 127.0.0.1:{ctx.upstream_port}
"""


def lua_libraries():
    """The folder that holds Lua's zlib, which HAProxy does not bring along."""
    return next((os.path.dirname(path) for path in glob.glob(f"{LUA_LIBRARIES}/zlib.so")), None)


def start(work, ctx):
    if work == "decompress_saml":
        return {"left_out": "HAProxy cannot give a request a body that it did not come with"}
    if work == "compress_saml" and not lua_libraries():
        return {"left_out": "HAProxy cannot compress into a field, and Lua's zlib is not installed"}
    config = ctx.write("haproxy.cfg", configuration(work, ctx))
    # A master that starts a new worker for each reload; else one process.
    manner = ["-W", "-p", f"{ctx.dir}/haproxy.pid"] if work == "reloads" else ["-db"]
    return {"cmd": ["haproxy", *manner, "-f", config], "records": "access.ring"}


def reload(number, ctx):
    ctx.write("haproxy.cfg", configuration("reloads", ctx, number))
    os.kill(ctx.process.pid, signal.SIGUSR2)
