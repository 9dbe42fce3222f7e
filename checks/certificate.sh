#!/usr/bin/env bash
# Owns the certificates of the checks: an authority (ca.pem) and a server certificate for `localhost` and
# 127.0.0.1 (server.pem, server.key), valid for two days, made anew for every run so that no key is ever kept.
#
#     checks/certificate.sh DIRECTORY
set -euo pipefail
[ $# -eq 1 ] && [ -d "$1" ] || { echo "usage: certificate.sh DIRECTORY (that exists)" >&2; exit 64; }
cd "$1"
umask 077
curve=(-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes)
{
    openssl req -x509 "${curve[@]}" -days 2 -subj "/CN=authority of the checks" -keyout ca.key -out ca.pem \
        -addext keyUsage=critical,keyCertSign
    openssl req "${curve[@]}" -subj "/CN=localhost" -keyout server.key -out server.csr
    openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -out server.pem -extfile - <<'X'
subjectAltName=DNS:localhost,IP:127.0.0.1
basicConstraints=critical,CA:FALSE
extendedKeyUsage=serverAuth
X
} 2>openssl.log || { cat openssl.log >&2; exit 1; }
rm -f ca.key server.csr ca.srl openssl.log
chmod 644 ca.pem server.pem
