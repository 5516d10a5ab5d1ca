"""nginx (Debian); security_hash with its Lua module, where that is installed.

A proxy_set_header in a location drops all inherited ones, keep-alive to the upstream with them: every
location here takes its whole list from PROXY_HEADERS.
"""
import glob

VERSION = ["nginx", "-v"]
PROXY_HEADERS = 'proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;'

# libcrypto is the library that nginx itself links. Buffers are made once: one worker, no yield between use and reading.
LUA_INIT = """
local ffi, bit = require 'ffi', require 'bit'
ffi.cdef[[
  typedef struct evp_md_st EVP_MD;
  const EVP_MD *EVP_sha256(void);
  unsigned char *SHA256(const unsigned char *data, size_t length, unsigned char *digest);
  unsigned char *HMAC(const EVP_MD *hash, const void *key, int key_length, const unsigned char *data, size_t length,
                      unsigned char *digest, unsigned int *digest_length);
]]
local crypto = ffi.load('libcrypto.so.3')
local digest, length, text = ffi.new('unsigned char[32]'), ffi.new('unsigned int[1]'), ffi.new('unsigned char[64]')
local digits = ffi.new('unsigned char[16]', {('0123456789abcdef'):byte(1, 16)})
local hash = crypto.EVP_sha256()
function sha256_hex(data)
  crypto.SHA256(data, #data, digest)
  for i = 0, 31 do
    text[2 * i], text[2 * i + 1] = digits[bit.rshift(digest[i], 4)], digits[bit.band(digest[i], 15)]
  end
  return ffi.string(text, 64)
end
function hmac_base64(key, data)
  crypto.HMAC(hash, key, #key, data, #data, digest, length)
  return ngx.encode_base64(ffi.string(digest, 32))
end
"""

LUA_ACCESS = """
local date = ngx.var.http_x_date
if not date then return ngx.exit(400) end
ngx.req.read_body()
local data = ngx.req.get_method() .. '\\n' .. ngx.var.uri .. '\\n' .. date .. '\\n' .. sha256_hex(ngx.req.get_body_data() or '')
ngx.req.set_header('Authorization', 'HMAC bench:' .. hmac_base64('%s', data))
"""


def lua_modules():
    found = [glob.glob(f"/usr/lib/nginx/modules/{name}.so") for name in ("ndk_http_module", "ngx_http_lua_module")]
    return "\n".join(f"load_module {path[0]};" for path in found) if all(found) else None


def start(scenario, ctx):
    modules, http, location = "", "", ""
    if scenario == "key_limit":
        table = ctx.write("clients.map", "".join(f"{key} {client};\n" for client, key in ctx.clients))
        http = f"""map_hash_bucket_size 128; map_hash_max_size 8192;
  map $http_x_api_key $consumer {{ default ""; include {table}; }}
  limit_req_zone $consumer zone=clients:10m rate=1000000r/s; limit_req_status 429;"""
        location = 'if ($consumer = "") { return 401; }\n      limit_req zone=clients burst=1000000 nodelay;\n      proxy_set_header x-consumer $consumer;'
    elif scenario == "security_hash":
        modules = lua_modules()
        if modules is None:
            return {"left_out": "nginx has no HMAC of its own, and its Lua module is not installed"}
        http = f"init_by_lua_block {{ {LUA_INIT} }}"
        location = f"access_by_lua_block {{ {LUA_ACCESS % ctx.hmac_key} }}"
    config = ctx.write("nginx.conf", f"""{modules}
daemon off; user root; worker_processes 1; pid {ctx.dir}/nginx.pid; error_log {ctx.dir}/error.log error;
events {{ worker_connections 4096; }}
http {{
  log_format timed '$remote_addr [$time_iso8601] "$request" $status $body_bytes_sent $request_time $upstream_response_time "$http_user_agent"';
  access_log {ctx.dir}/access.log timed buffer=64k flush=1s;
  keepalive_requests 1000000000; keepalive_timeout 300s; tcp_nodelay on; client_body_buffer_size 64k;
  client_body_temp_path {ctx.dir}/body; proxy_temp_path {ctx.dir}/proxy; fastcgi_temp_path {ctx.dir}/fastcgi;
  uwsgi_temp_path {ctx.dir}/uwsgi; scgi_temp_path {ctx.dir}/scgi;
  upstream up {{ server 127.0.0.1:{ctx.upstream_port}; keepalive 512; keepalive_requests 1000000000; }}
  {http}
  server {{
    listen 127.0.0.1:{ctx.port};
    location / {{
      {PROXY_HEADERS}
      {location}
      proxy_pass http://up;
    }}
  }}
}}
""")
    return {"cmd": ["nginx", "-e", f"{ctx.dir}/error.log", "-c", config], "records": "access.log"}
