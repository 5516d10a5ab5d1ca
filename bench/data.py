"""What the scenarios are made of: clients, users, keys, tokens, certificates and bodies.

All of it follows from fixed seeds, except for the two key pairs. Those, and the 5,000 tokens signed with one of them, are
made once and kept in the work folder. Nothing here is secret: the names say whose bench they belong to.
"""
import ctypes
import functools
import gzip
import hashlib
import hmac
import json
import os
import random
import subprocess
from base64 import b64encode, urlsafe_b64encode

REPOSITORY = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
WORK = os.environ.get("GWBENCH_WORK") or os.path.join(REPOSITORY, "target", "bench")
KEPT = os.path.join(WORK, "kept")

# ---- texts and lists ---------------------------------------------------------------------------------
X_DATE = "Sun, 06 Nov 2033 08:49:37 GMT"
HMAC_KEY = "bench-hmac-key-0123456789abcdef0"
CLIENTS = [(f"c{i:04d}", hashlib.sha256(b"bench client %d" % i).hexdigest()[:32]) for i in range(1000)]
USERS = [(f"u{i:04d}", hashlib.sha256(b"bench user %d" % i).hexdigest()[:16]) for i in range(1000)]
STORED_BEARER = "bench-stored-token-" + hashlib.sha256(b"bench bearer").hexdigest()
ORDER = json.dumps({"order": 7, "text": "x" * 1000}).encode()


def basic(name, password):
    return "Basic " + b64encode(f"{name}:{password}".encode()).decode()


def order(order_id="o-1001", amount=1500, card="4111111111111111"):
    """The body of `script`, about 600 bytes."""
    lines = [{"sku": f"sku-{i}", "count": i, "price": 12.5 * i} for i in range(1, 9)]
    customer = {"id": 42, "name": "Ann Example", "mail": "ann@mail.example"}
    return json.dumps({"order_id": order_id, "amount": amount, "currency": "EUR", "card": card, "customer": customer, "lines": lines}).encode()


def assertion(size=8192):
    """Something like a signed SAML assertion: markup that compresses well, and a signature and a certificate that do not."""
    chance = random.Random(8192)
    noise = lambda count: b64encode(chance.randbytes(count)).decode()
    text = f"""<saml:Assertion xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion" Version="2.0" ID="_{chance.randbytes(16).hex()}">
<saml:Issuer>https://idp.example</saml:Issuer><ds:Signature xmlns:ds="http://www.w3.org/2000/09/xmldsig#">
<ds:SignatureValue>{noise(256)}</ds:SignatureValue><ds:X509Certificate>{noise(800)}</ds:X509Certificate></ds:Signature>
<saml:Subject><saml:NameID>ann@mail.example</saml:NameID></saml:Subject><saml:AttributeStatement>"""
    end, number = "</saml:AttributeStatement></saml:Assertion>", 0
    while True:
        attribute = f'<saml:Attribute Name="urn:oid:1.3.6.1.4.1.5923.1.1.1.{number}"><saml:AttributeValue>{noise(6)}</saml:AttributeValue></saml:Attribute>\n'
        if len(text) + len(attribute) + len(end) > size:
            return (text + " " * (size - len(text) - len(end)) + end).encode()
        text, number = text + attribute, number + 1


ASSERTION = assertion()
PACKED_ASSERTION = "SAML " + b64encode(gzip.compress(ASSERTION, 6, mtime=0)).decode()

# ---- tokens --------------------------------------------------------------------------------------------
ISSUER, AUDIENCE = "https://idp.example", "bench"
HS256_KEY = "bench-jwt-secret-0123456789abcdefghij"
KEY_ID = "bench-1"
SCOPES = "orders:read orders:write"
FAR_OFF = 2014963200        # in November 2033
TOKENS = 5000


def claims(number=7, **changes):
    all_of_them = {"iss": ISSUER, "aud": AUDIENCE, "sub": f"user{number}", "iat": 1700000000, "exp": FAR_OFF, "scope": SCOPES,
                   "jti": f"{number:032x}", **changes}
    return {name: value for name, value in all_of_them.items() if value is not None}


def base64url(data):
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def token(algorithm, sign, payload, key_id=KEY_ID):
    header = {"alg": algorithm, "typ": "JWT", "kid": key_id}
    signed = ".".join(base64url(json.dumps(part, separators=(",", ":")).encode()) for part in (header, payload))
    return f"{signed}.{base64url(sign(signed.encode()))}"


def hs256(payload, key=HS256_KEY):
    return token("HS256", lambda data: hmac.new(key.encode(), data, "sha256").digest(), payload)


def rs256(payload, key="rsa.key"):
    return token("RS256", signer(kept(key)), payload)


@functools.lru_cache
def signer(path):
    """RSASSA-PKCS1-v1_5 with SHA-256 by libcrypto: 5,000 times the program `openssl` would take minutes."""
    crypto, pointer = ctypes.CDLL("libcrypto.so.3"), ctypes.c_void_p
    for name in ("BIO_new_file", "PEM_read_bio_PrivateKey", "EVP_MD_CTX_new", "EVP_sha256"):
        getattr(crypto, name).restype = pointer
    crypto.PEM_read_bio_PrivateKey.argtypes = [pointer] * 4
    crypto.EVP_DigestSignInit.argtypes = [pointer] * 5
    crypto.EVP_DigestSign.argtypes = [pointer, pointer, pointer, ctypes.c_char_p, ctypes.c_size_t]
    crypto.EVP_MD_CTX_free.argtypes = [pointer]
    key = crypto.PEM_read_bio_PrivateKey(crypto.BIO_new_file(path.encode(), b"r"), None, None, None)

    def sign(data):
        signature, length, context = ctypes.create_string_buffer(512), ctypes.c_size_t(512), crypto.EVP_MD_CTX_new()
        done = crypto.EVP_DigestSignInit(context, None, crypto.EVP_sha256(), None, key) == 1 \
            and crypto.EVP_DigestSign(context, signature, ctypes.byref(length), data, len(data)) == 1
        crypto.EVP_MD_CTX_free(context)
        if not done:
            raise RuntimeError("libcrypto did not sign")
        return signature.raw[:length.value]

    return sign


# ---- what is kept --------------------------------------------------------------------------------------
def kept(name):
    """The path of a kept file, made where it is missing."""
    path = os.path.join(KEPT, name)
    if not os.path.exists(path):
        os.makedirs(KEPT, exist_ok=True)
        MAKERS[name](path)
    return path


def read(name):
    with open(kept(name)) as file:
        return file.read()


def write(path, text):
    """Whole or not at all: a run that was stopped must not leave half a file behind."""
    with open(path + ".new", "w") as file:
        file.write(text)
    os.rename(path + ".new", path)


def openssl(*arguments):
    return subprocess.run(["openssl", *arguments], check=True, capture_output=True, text=True).stdout


def make_rsa(path):
    write(path, openssl("genrsa", "2048"))


def make_rsa_public(path):
    write(path, openssl("rsa", "-in", kept("rsa.key"), "-pubout"))


def make_jwks(path):
    modulus = openssl("rsa", "-in", kept("rsa.key"), "-noout", "-modulus").strip().partition("=")[2]
    key = {"kty": "RSA", "kid": KEY_ID, "alg": "RS256", "use": "sig", "n": base64url(bytes.fromhex(modulus)), "e": "AQAB"}
    write(path, json.dumps({"keys": [key]}))


def make_tokens(path):
    write(path, "".join(rs256(claims(number)) + "\n" for number in range(TOKENS)))


def make_tls_key(path):
    write(path, openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"))


def make_certificate(path):
    write(path, openssl("req", "-x509", "-key", kept("tls.key"), "-days", "3650", "-subj", "/CN=bench.local",
                        "-addext", "subjectAltName=DNS:bench.local"))


def make_certificate_and_key(path):
    write(path, read("tls.crt") + read("tls.key"))


def make_users(path):
    """Hashes that Gatewright reads. Few rounds, so that it is ready soon: a memory answers under load, see README.md."""
    def hashed(name, password):
        salt, plain = hashlib.sha256(name.encode()).digest()[:16], lambda data: b64encode(data).decode().rstrip("=")
        return f"$pbkdf2-sha256$i=1000${plain(salt)}${plain(hashlib.pbkdf2_hmac('sha256', password.encode(), salt, 1000))}"
    write(path, "".join(f"{name}:{hashed(name, password)}\n" for name, password in USERS))


MAKERS = {
    "rsa.key": make_rsa, "other.key": make_rsa, "rsa.pub": make_rsa_public, "jwks.json": make_jwks, "rs256.tokens": make_tokens,
    "tls.key": make_tls_key, "tls.crt": make_certificate, "tls.pem": make_certificate_and_key, "users.htpasswd": make_users,
}
