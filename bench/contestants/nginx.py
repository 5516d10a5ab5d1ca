"""nginx (Debian) without a scripting module; `configuration` serves nginx_lua.py too.

A proxy_set_header in a location drops all inherited ones, keep-alive to the upstream with them: every
location here takes its whole list from PROXY_HEADERS.
"""
import os
import signal

from data import CLIENTS, STORED_BEARER, USERS, basic, kept

VERSION = ["nginx", "-v"]
PROXY_HEADERS = 'proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;'
LEFT_OUT = {
    "jwt_hs256": "nginx checks no tokens by itself (its commercial edition does)",
    "jwt_rs256": "nginx checks no tokens by itself (its commercial edition does)",
    "security_hash": "nginx has no HMAC of its own",
    "compress_saml": "nginx cannot compress into a field",
    "decompress_saml": "nginx cannot decompress a field",
    "script": "nginx runs no scripts by itself",
}
TLS = f"ssl_certificate {kept('tls.crt')}; ssl_certificate_key {kept('tls.key')}; ssl_protocols TLSv1.3;"


def configuration(ctx, *, modules="", http="", server="", listen="", locations=None, location=""):
    if locations is None:
        locations = f"location / {{ {PROXY_HEADERS} {location} proxy_pass http://up; }}"
    return f"""{modules}
daemon off; user root; worker_processes 1; pid {ctx.dir}/nginx.pid; error_log {ctx.dir}/error.log error;
events {{ worker_connections 8192; }}
http {{
  log_format timed '$remote_addr [$time_iso8601] "$request" $status $body_bytes_sent $request_time $upstream_response_time "$http_user_agent"';
  access_log {ctx.dir}/access.log timed buffer=64k flush=1s;
  keepalive_requests 1000000000; keepalive_timeout 300s; tcp_nodelay on; client_body_buffer_size 64k; client_max_body_size 16m;
  client_body_temp_path {ctx.dir}/body; proxy_temp_path {ctx.dir}/proxy; fastcgi_temp_path {ctx.dir}/fastcgi;
  uwsgi_temp_path {ctx.dir}/uwsgi; scgi_temp_path {ctx.dir}/scgi;
  upstream up {{ server 127.0.0.1:{ctx.upstream_port}; keepalive 512; keepalive_requests 1000000000; }}
  {http}
  server {{
    listen 127.0.0.1:{ctx.port}{listen};
    {server}
    {locations}
  }}
}}
"""


def table(ctx, name, pairs):
    return ctx.write(name, "".join(f'"{value}" {found};\n' for value, found in pairs))


def parts(work, ctx, number=0):
    """The parts of the configuration that this work needs."""
    if work == "key_limit":
        clients = table(ctx, "clients.map", ((key, client) for client, key in CLIENTS))
        return {"http": f"""map_hash_bucket_size 128; map_hash_max_size 8192;
  map $http_x_api_key $consumer {{ default ""; include {clients}; }}
  limit_req_zone $consumer zone=clients:10m rate=1000000r/s; limit_req_status 429;""",
                "location": """if ($consumer = "") { return 401; }
      limit_req zone=clients burst=1000000 nodelay;
      proxy_set_header x-consumer $consumer;"""}
    if work == "broker":    # auth_basic would read its file for every request
        users = table(ctx, "users.map", ((basic(*user), user[0]) for user in USERS))
        return {"http": f"""map_hash_bucket_size 128; map_hash_max_size 8192;
  map $http_authorization $known {{ default ""; include {users}; }}""",
                "location": f"""if ($known = "") {{ return 401; }}
      proxy_set_header Authorization "Bearer {STORED_BEARER}";"""}
    if work == "tls":
        return {"listen": " ssl", "server": TLS}
    if work == "bodies":    # nothing is buffered whole, and nothing goes to the disk
        return {"location": "proxy_request_buffering off; proxy_max_temp_file_size 0; proxy_buffers 16 32k;"}
    if work == "services":
        each = (f"location /s{n}/ {{ {PROXY_HEADERS} proxy_set_header x-service s{n}; proxy_pass http://up; }}" for n in range(ctx.services))
        return {"locations": "\n    ".join([*each, "location / { return 404; }"])}
    if work == "reloads":
        return {"server": f"add_header x-version {number};"}
    return {}


def start(work, ctx):
    if work in LEFT_OUT:
        return {"left_out": LEFT_OUT[work]}
    config = ctx.write("nginx.conf", configuration(ctx, **parts(work, ctx)))
    return {"cmd": ["nginx", "-e", f"{ctx.dir}/error.log", "-c", config], "records": "access.log"}


def reload(number, ctx):
    ctx.write("nginx.conf", configuration(ctx, **parts("reloads", ctx, number)))
    os.kill(ctx.process.pid, signal.SIGHUP)
