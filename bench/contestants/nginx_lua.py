"""nginx with its Lua module (Debian), as gateways that are built on it work: what nginx.py cannot do, or would do otherwise.

Cryptography is that of libcrypto, the library that nginx itself links, through LuaJIT's FFI. Its buffers and contexts are
made once: there is one worker, and nothing yields between use and reading.
"""
import glob

from contestants.nginx import VERSION, configuration
from data import (AUDIENCE, CLIENTS, HMAC_KEY, HS256_KEY, ISSUER, STORED_BEARER, USERS, kept)

__all__ = ["VERSION", "start"]
MODULES = ("/usr/lib/nginx/modules/ndk_http_module.so", "/usr/lib/nginx/modules/ngx_http_lua_module.so")
LIBRARIES = "/usr/lib/*/lua/5.1/{}.so"

LIBRARY = r"""
local ffi, bit = require 'ffi', require 'bit'
ffi.cdef[[
  typedef struct evp_md_st EVP_MD;
  typedef struct evp_md_ctx_st EVP_MD_CTX;
  typedef struct evp_pkey_st EVP_PKEY;
  typedef struct bio_st BIO;
  const EVP_MD *EVP_sha256(void);
  unsigned char *SHA256(const unsigned char *data, size_t length, unsigned char *digest);
  unsigned char *HMAC(const EVP_MD *hash, const void *key, int key_length, const unsigned char *data, size_t length,
                      unsigned char *digest, unsigned int *digest_length);
  int CRYPTO_memcmp(const void *a, const void *b, size_t length);
  BIO *BIO_new_file(const char *name, const char *mode);
  EVP_PKEY *PEM_read_bio_PUBKEY(BIO *bio, void *into, void *password, void *user);
  EVP_MD_CTX *EVP_MD_CTX_new(void);
  int EVP_DigestVerifyInit(EVP_MD_CTX *context, void **parameters, const EVP_MD *hash, void *engine, EVP_PKEY *key);
  int EVP_DigestVerify(EVP_MD_CTX *context, const unsigned char *signature, size_t signature_length,
                       const unsigned char *data, size_t length);
]]
local crypto = ffi.load('libcrypto.so.3')
local hash, context = crypto.EVP_sha256(), crypto.EVP_MD_CTX_new()
local digest, length, text = ffi.new('unsigned char[32]'), ffi.new('unsigned int[1]'), ffi.new('unsigned char[64]')
local digits = ffi.new('unsigned char[16]', {('0123456789abcdef'):byte(1, 16)})

function sha256_hex(data)
  crypto.SHA256(data, #data, digest)
  for i = 0, 31 do
    text[2 * i], text[2 * i + 1] = digits[bit.rshift(digest[i], 4)], digits[bit.band(digest[i], 15)]
  end
  return ffi.string(text, 64)
end

function hmac(key, data)
  crypto.HMAC(hash, key, #key, data, #data, digest, length)
  return ffi.string(digest, 32)
end

function public_key(path)
  return crypto.PEM_read_bio_PUBKEY(crypto.BIO_new_file(path, 'r'), nil, nil, nil)
end

function base64url_decoded(data)
  local rest = #data % 4
  return ngx.decode_base64(data:gsub('-', '+'):gsub('_', '/') .. (rest > 0 and ('='):rep(4 - rest) or ''))
end

function json_of(data)
  local decoded = base64url_decoded(data)
  return decoded and cjson.decode(decoded)
end

local verifies = {
  HS256 = function(key, data, signature)
    return #signature == 32 and crypto.CRYPTO_memcmp(hmac(key, data), signature, 32) == 0
  end,
  RS256 = function(key, data, signature)
    return crypto.EVP_DigestVerifyInit(context, nil, hash, nil, key) == 1
      and crypto.EVP_DigestVerify(context, signature, #signature, data, #data) == 1
  end,
}

function claims_of(authorization, algorithm, key)
  local head, payload, signature = (authorization or ''):match('^Bearer ([%w_-]+)%.([%w_-]+)%.([%w_-]+)$')
  local header = head and json_of(head)
  if not header or header.alg ~= algorithm then return nil end
  local bytes = base64url_decoded(signature)
  if not bytes or not verifies[algorithm](key, head .. '.' .. payload, bytes) then return nil end
  local claims = json_of(payload)
  if not claims or claims.iss ~= issuer or claims.aud ~= audience or (tonumber(claims.exp) or 0) <= ngx.time() then return nil end
  return claims
end
"""

TOKEN = "if not claims_of(ngx.var.http_authorization, '{}', key) then return ngx.exit(401) end"

SECURITY_HASH = r"""
local date = ngx.var.http_x_date
if not date then return ngx.exit(400) end
ngx.req.read_body()
local data = ngx.req.get_method() .. '\n' .. ngx.var.uri .. '\n' .. date .. '\n' .. sha256_hex(ngx.req.get_body_data() or '')
ngx.req.set_header('Authorization', 'HMAC bench:' .. ngx.encode_base64(hmac(key, data)))
"""

KEY_LIMIT = """
local client = clients[ngx.var.http_x_api_key or '']
if not client then return ngx.exit(401) end
local count = ngx.shared.counts:incr(client .. ngx.time(), 1, 0, 2)
if count and count > 1000000 then return ngx.exit(429) end
ngx.req.set_header('x-consumer', client)
"""

BROKER = """
local encoded = (ngx.var.http_authorization or ''):match('^Basic (.+)$')
local name, password = (encoded and ngx.decode_base64(encoded) or ''):match('^([^:]+):(.+)$')
if not name or users[name] ~= password then return ngx.exit(401) end
ngx.req.set_header('Authorization', bearer)
"""

# Lua's zlib: window 31 is a gzip frame.
COMPRESS = """
ngx.req.read_body()
local body = ngx.req.get_body_data()
if not body then return ngx.exit(400) end
ngx.req.set_header('Authorization', 'SAML ' .. ngx.encode_base64((zlib.deflate(6, 31)(body, 'finish'))))
"""

DECOMPRESS = """
local encoded = (ngx.var.http_authorization or ''):match('^SAML (.+)$')
local packed = encoded and ngx.decode_base64(encoded)
if not packed then return ngx.exit(401) end
local fine, text, whole = pcall(zlib.inflate(31), packed, 'finish')
if not fine or not whole then return ngx.exit(400) end
ngx.req.read_body()
ngx.req.clear_header('Authorization')
ngx.req.set_header('Content-Type', 'text/xml')
ngx.req.set_method(ngx.HTTP_POST)
ngx.req.set_body_data(text)
"""

SCRIPT = """
local method, path = ngx.req.get_method(), ngx.var.uri
local payload = (ngx.var.http_authorization or ''):match('^Bearer [%w_-]+%.([%w_-]+)%.')
local claims = payload and json_of(payload)
if not claims or method ~= 'POST' or path:sub(1, 5) ~= '/api/' then return ngx.exit(403) end
if not (' ' .. claims.scope .. ' '):find(' orders:write ', 1, true) then return ngx.exit(403) end
ngx.req.read_body()
local order = cjson.decode(ngx.req.get_body_data() or '')
if not order then return ngx.exit(400) end
local set, segment = ngx.req.set_header, path:match('^/[^/]*/([^/]*)')
set('x-tenant', claims.sub .. '@' .. segment)
set('x-tier', order.amount > 1000 and 'gold' or 'basic')
set('x-key', method .. ':' .. segment .. ':' .. order.order_id)
if claims.iss:sub(-8) == '.example' then set('x-origin', claims.iss:upper()) end
set('x-mask', '****' .. order.card:sub(-4))
"""


def lua_table(pairs):
    return "{ " + ", ".join(f"['{key}'] = '{value}'" for key, value in pairs) + " }"


# work -> (what is made once, what each request takes)
PROGRAMS = {
    "key_limit": lambda: (f"clients = {lua_table((key, client) for client, key in CLIENTS)}", KEY_LIMIT),
    "jwt_hs256": lambda: (f"key = '{HS256_KEY}'", TOKEN.format("HS256")),
    "jwt_rs256": lambda: (f"key = public_key('{kept('rsa.pub')}')", TOKEN.format("RS256")),
    "broker": lambda: (f"users, bearer = {lua_table(USERS)}, 'Bearer {STORED_BEARER}'", BROKER),
    "security_hash": lambda: (f"key = '{HMAC_KEY}'", SECURITY_HASH),
    "compress_saml": lambda: ("zlib = require 'zlib'", COMPRESS),
    "decompress_saml": lambda: ("zlib = require 'zlib'", DECOMPRESS),
    "script": lambda: ("", SCRIPT),
}


def start(work, ctx):
    if work not in PROGRAMS:
        return {"left_out": "the same as nginx"}
    missing = [path for path in (*MODULES, LIBRARIES.format("cjson"), LIBRARIES.format("zlib")) if not glob.glob(path)]
    if missing:
        return {"left_out": f"not installed: {', '.join(missing)}"}
    once, each = PROGRAMS[work]()
    config = ctx.write("nginx.conf", configuration(
        ctx, modules="\n".join(f"load_module {path};" for path in MODULES),
        http=f"""lua_shared_dict counts 10m;
  init_by_lua_block {{
    cjson, issuer, audience = require 'cjson.safe', '{ISSUER}', '{AUDIENCE}'
    {LIBRARY}
    {once}
  }}""", location=f"access_by_lua_block {{ {each} }}"))
    return {"cmd": ["nginx", "-e", f"{ctx.dir}/error.log", "-c", config], "records": "access.log"}
