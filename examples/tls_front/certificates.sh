#!/bin/sh
# Makes an authority and the certificates of the example, below certs/ beside this file. Run again it renews them all:
# a gateway that serves takes the new ones of its listeners by itself, and the keys of policies at the next reload.
set -eu
cd "$(dirname "$0")"
mkdir -p certs
cd certs
umask 077

# An elliptic key, P-256, and a request for a certificate of this name.
request() {
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$1" -keyout "$2.key" -out "$2.csr"
}

# sign FILE USE NAMES: a certificate for 30 days.
sign() {
    printf 'basicConstraints=critical,CA:FALSE\nextendedKeyUsage=%s\nsubjectAltName=%s\n' "$2" "$3" > "$1.ext"
    openssl x509 -req -in "$1.csr" -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -extfile "$1.ext" -out "$1.pem"
    rm "$1.csr" "$1.ext"
}

{
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj "/CN=Example authority" \
        -keyout ca.key -out ca.pem
    request api.example api && sign api serverAuth "DNS:api.example,IP:127.0.0.1"
    request orders.internal orders && sign orders serverAuth "DNS:orders.internal,IP:127.0.0.1"
    request front.internal front && sign front clientAuth "DNS:front.internal"
    request reports.internal reports && sign reports clientAuth "DNS:reports.internal"
    # What the gateway shows to the order system: the key and its certificate in one file.
    cat front.key front.pem > front-both.pem
} 2> openssl.log || { cat openssl.log >&2; exit 1; }
