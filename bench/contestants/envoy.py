"""Envoy: $GWBENCH_WORK/venv/bin/envoy (bench/setup), else the one in PATH. Its own filters, and its Lua filter for `script`."""
import hashlib
import json
import os
import shutil
from base64 import b64encode

from data import (AUDIENCE, CLIENTS, HS256_KEY, ISSUER, KEY_ID, STORED_BEARER, TOKENS, USERS, WORK, base64url, kept, read)

BINARY = next((path for path in (os.path.join(WORK, "venv", "bin", "envoy"), shutil.which("envoy")) if path and os.access(path, os.X_OK)), None)
VERSION = [BINARY or "envoy", "--version"]
EXTENSIONS = "type.googleapis.com/envoy.extensions."
ROUTES = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
LEFT_OUT = {
    "security_hash": "Envoy has no HMAC, neither in a filter nor in Lua",
    "compress_saml": "Envoy cannot compress into a field",
    "decompress_saml": "Envoy cannot decompress a field",
}
MANY = 1 << 30

# The Lua filter has neither a JSON reader nor base64url: patterns, and a decoder of our own.
SCRIPT = r"""
local bit = require 'bit'
local values = {}
for i = 1, 64 do values[('ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'):byte(i)] = i - 1 end

local function decoded(text)
  local out, held, bits = {}, 0, 0
  for i = 1, #text do
    held, bits = bit.bor(bit.lshift(bit.band(held, 0xffff), 6), values[text:byte(i)] or 0), bits + 6
    if bits >= 8 then
      bits = bits - 8
      out[#out + 1] = string.char(bit.band(bit.rshift(held, bits), 255))
    end
  end
  return table.concat(out)
end

local function text_in(json, name) return json:match('"' .. name .. '"%s*:%s*"([^"]*)"') end
local function number_in(json, name) return tonumber(json:match('"' .. name .. '"%s*:%s*(-?[%d.]+)')) end

function envoy_on_request(handle)
  local headers = handle:headers()
  local method, path = headers:get(':method'), headers:get(':path')
  local payload = (headers:get('authorization') or ''):match('^Bearer [%w_-]+%.([%w_-]+)%.')
  local claims = payload and decoded(payload) or ''
  local scopes = ' ' .. (text_in(claims, 'scope') or '') .. ' '
  if method ~= 'POST' or path:sub(1, 5) ~= '/api/' or not scopes:find(' orders:write ', 1, true) then
    return handle:respond({ [':status'] = '403' }, 'refused')
  end
  local buffer = handle:body()
  local body = buffer and buffer:getBytes(0, buffer:length()) or ''
  local amount, id, card = number_in(body, 'amount'), text_in(body, 'order_id'), text_in(body, 'card')
  if not amount or not id or not card then return handle:respond({ [':status'] = '400' }, 'no order') end
  headers = handle:headers()      -- reading the body has yielded, which ends the first handle
  local segment, issuer = path:match('^/[^/]*/([^/?]*)'), text_in(claims, 'iss')
  headers:replace('x-tenant', text_in(claims, 'sub') .. '@' .. segment)
  headers:replace('x-tier', amount > 1000 and 'gold' or 'basic')
  headers:replace('x-key', method .. ':' .. segment .. ':' .. id)
  if issuer:sub(-8) == '.example' then headers:replace('x-origin', issuer:upper()) end
  headers:replace('x-mask', '****' .. card:sub(-4))
end
"""


def extension(name, kind, **config):
    return {"name": name, "typed_config": {"@type": EXTENSIONS + kind, **config}}


def http_filter(name, kind, **config):
    return extension(f"envoy.filters.http.{name}", f"filters.http.{name}.v3.{kind}", **config)


# ---- filters -----------------------------------------------------------------------------------------
def key_limit():
    bucket = {"max_tokens": MANY, "tokens_per_fill": MANY, "fill_interval": "1s"}
    always = {"default_value": {"numerator": 100}}
    return [
        http_filter("api_key_auth", "ApiKeyAuth", credentials=[{"key": key, "client": client} for client, key in CLIENTS],
                    key_sources=[{"header": "x-api-key"}], forwarding={"header": "x-consumer"}),
        http_filter("local_ratelimit", "LocalRateLimit", stat_prefix="clients", token_bucket=bucket, filter_enabled=always,
                    filter_enforced=always, max_dynamic_descriptors=2 * len(CLIENTS),
                    descriptors=[{"entries": [{"key": "client"}],
                                  "token_bucket": {"max_tokens": 1000000, "tokens_per_fill": 1000000, "fill_interval": "1s"}}],
                    rate_limits=[{"actions": [{"request_headers": {"header_name": "x-consumer", "descriptor_key": "client"}}]}]),
    ]


def tokens(keys, cache):
    provider = {"issuer": ISSUER, "audiences": [AUDIENCE], "forward": True, "require_expiration": True, "local_jwks": {"inline_string": keys}}
    if cache:
        provider["jwt_cache_config"] = {"jwt_cache_size": 2 * TOKENS}
    rules = [{"match": {"prefix": "/"}, "requires": {"provider_name": "idp"}}]
    return [http_filter("jwt_authn", "JwtAuthentication", providers={"idp": provider}, rules=rules)]


def broker(ctx):
    """Its users stand in an htpasswd file of unsalted SHA-1, the only form that it reads."""
    hashed = lambda password: "{SHA}" + b64encode(hashlib.sha1(password.encode()).digest()).decode()
    file = ctx.write("users.htpasswd", "".join(f"{name}:{hashed(password)}\n" for name, password in USERS))
    field = {"header": {"key": "authorization", "value": f"Bearer {STORED_BEARER}"}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
    return [http_filter("basic_auth", "BasicAuth", users={"filename": file}),
            http_filter("header_mutation", "HeaderMutation", mutations={"request_mutations": [{"append": field}]})]


def filters(work, ctx, cache):
    if work == "key_limit":
        return key_limit()
    if work == "jwt_hs256":
        key = {"kty": "oct", "kid": KEY_ID, "alg": "HS256", "k": base64url(HS256_KEY.encode())}
        return tokens(json.dumps({"keys": [key]}), cache)
    if work == "jwt_rs256":
        return tokens(read("jwks.json"), cache)
    if work == "broker":
        return broker(ctx)
    if work == "script":
        return [http_filter("lua", "Lua", default_source_code={"inline_string": SCRIPT})]
    return []


# ---- routes and the rest --------------------------------------------------------------------------------
def field(name, value):
    return [{"header": {"key": name, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}]


def route(prefix="/", **more):
    return {"match": {"prefix": prefix}, "route": {"cluster": "up", "timeout": "0s"}, **more}


def routes(entries):
    return {"name": "bench", "virtual_hosts": [{"name": "bench", "domains": ["*"], "routes": entries}]}


def write_routes(ctx, number):
    """Routes in a file of their own, which Envoy watches: a file that is moved into place is taken."""
    entry = route(response_headers_to_add=field("x-version", str(number)))
    ctx.write("routes/routes.json", json.dumps({"version_info": str(number), "resources": [{"@type": ROUTES, **routes([entry])}]}))


def routing(work, ctx):
    if work == "reloads":
        write_routes(ctx, 0)
        source = {"path": f"{ctx.dir}/routes/routes.json", "watched_directory": {"path": f"{ctx.dir}/routes"}}
        return {"rds": {"route_config_name": "bench", "config_source": {"resource_api_version": "V3", "path_config_source": source}}}
    if work == "services":
        return {"route_config": routes([route(f"/s{n}/", request_headers_to_add=field("x-service", f"s{n}")) for n in range(ctx.services)])}
    return {"route_config": routes([route()])}


def listener(work, ctx, cache):
    log = extension("envoy.access_loggers.file", "access_loggers.file.v3.FileAccessLog", path=f"{ctx.dir}/access.log")
    router = http_filter("router", "Router", suppress_envoy_headers=True)
    manager = extension("envoy.filters.network.http_connection_manager",
                        "filters.network.http_connection_manager.v3.HttpConnectionManager", stat_prefix="bench", access_log=[log],
                        generate_request_id=False, http_filters=[*filters(work, ctx, cache), router], **routing(work, ctx))
    chain = {"filters": [manager]}
    if work == "tls":
        pair = {"certificate_chain": {"filename": kept("tls.crt")}, "private_key": {"filename": kept("tls.key")}}
        common = {"tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"}, "tls_certificates": [pair]}
        chain["transport_socket"] = extension("tls", "transport_sockets.tls.v3.DownstreamTlsContext", common_tls_context=common)
    return {"name": "main", "address": address(ctx.port), "filter_chains": [chain]}


def address(port):
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def start(work, ctx, cache=False):
    if BINARY is None:
        return {"left_out": "not installed (bench/setup)"}
    if work in LEFT_OUT:
        return {"left_out": LEFT_OUT[work]}
    endpoint = {"lb_endpoints": [{"endpoint": {"address": address(ctx.upstream_port)}}]}
    bounds = {"max_connections": MANY, "max_pending_requests": MANY, "max_requests": MANY}
    cluster = {"name": "up", "type": "STATIC", "connect_timeout": "5s", "circuit_breakers": {"thresholds": [bounds]},
               "load_assignment": {"cluster_name": "up", "endpoints": [endpoint]}}
    config = ctx.write("envoy.json", json.dumps({
        "node": {"id": "bench", "cluster": "bench"},
        "static_resources": {"listeners": [listener(work, ctx, cache)], "clusters": [cluster]},
    }))
    cmd = [BINARY, "-c", config, "--concurrency", "1", "--disable-hot-restart", "--log-level", "error", "--file-flush-interval-msec", "1000"]
    return {"cmd": cmd, "records": "access.log"}


def reload(number, ctx):
    write_routes(ctx, number)
