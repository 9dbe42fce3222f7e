#!/usr/bin/env bash
# Owns the question whether the clients and the smart host of the real world get on with the relay: swaks, curl,
# msmtp, Python's smtplib and smtp-source send through it to a Postfix that wants STARTTLS and a login, and what
# lands in that Postfix's Maildir is compared with what was sent.
#
#     checks/real_clients.sh [BINARY]      default: target/release/mailferry
#     checks/real_clients.sh --direct      the clients speak to Postfix itself: proves the check, not the relay
#
# Needs root: Postfix does. It runs as an instance of its own below a temporary directory, on loopback; the
# system's configuration, queue and service are not touched. Missing packages are installed by apt-get. One line a
# client, then a summary; exit 1 on any FAIL, and then the directory is kept.
set -uo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
direct=
binary=target/release/mailferry
case ${1-} in
    --direct) direct=yes ;;
    -*) sed -n '2,12s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 64 ;;
    ?*) binary=$1 ;;
esac
fatal() { echo "real_clients: $*" >&2; exit 69; }
[ "$(id -u)" = 0 ] || fatal "needs root, because Postfix does"
[ -n "$direct" ] || [ -x "$binary" ] || fatal "no relay at $binary; hint: cargo build --release"
binary=$(realpath -m "$binary") # the directory changes below

# Packages. A policy-rc.d of ours keeps the package from starting the system's Postfix, for as long as it installs.

policy=/usr/sbin/policy-rc.d
policy_is_ours=

install_packages() {
    local missing=() package
    for package in postfix sasl2-bin libsasl2-modules libsasl2-modules-db swaks libnet-ssleay-perl \
        libauthen-sasl-perl curl msmtp openssl python3; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] && return
    if [ ! -e "$policy" ]; then
        policy_is_ours=yes
        printf '#!/bin/sh\nexit 101\n' > "$policy" && chmod 755 "$policy"
    fi
    echo "postfix postfix/main_mailer_type select No configuration" | debconf-set-selections
    local install=(apt-get install -y --no-install-recommends "${missing[@]}")
    export DEBIAN_FRONTEND=noninteractive
    { "${install[@]}" || { apt-get update && "${install[@]}"; }; } > "$work/apt.log" 2>&1 ||
        { tail -5 "$work/apt.log" >&2; fatal "could not install ${missing[*]}"; }
    remove_policy
}

remove_policy() {
    [ -z "$policy_is_ours" ] || rm -f "$policy"
    policy_is_ours=
}

work=$(mktemp -d "${TMPDIR:-/tmp}/real-clients-XXXXXX")
chmod 755 "$work" # Postfix's own users must get through
relay=
failed=0
passed=0

finish() {
    remove_policy
    [ -z "$relay" ] || { kill "$relay" 2>/dev/null; wait "$relay" 2>/dev/null; }
    [ ! -e "$work/postfix/queue/pid/master.pid" ] || postfix -c "$work/postfix/etc" stop >/dev/null 2>&1
    if [ "$failed" = 0 ] && [ "$passed" -gt 0 ]; then rm -rf "$work"; else echo "kept: $work" >&2; fi
}
trap finish EXIT
trap 'exit 130' INT TERM
install_packages

free_ports() { # below the range of outgoing connections
    python3 - "$1" <<'X'
import random, socket, sys
held = []
while len(held) < int(sys.argv[1]):
    sock = socket.socket()
    try:
        sock.bind(("127.0.0.1", random.randrange(20000, 32000)))
        held.append(sock)
    except OSError:
        pass
print(*(sock.getsockname()[1] for sock in held))
X
}
read -r submission_port reference_port plain_port any_port tls_port < <(free_ports 5)

wait_port() { # PORT: until it answers with a banner, 30 s at most
    timeout 30 bash -c '
        until { exec 3<>"/dev/tcp/127.0.0.1/$0" && read -r -t 5 line <&3 && [[ $line == 220* ]]; } 2>/dev/null
            do sleep 0.1; done' "$1"
}

# The smart host. `submission` is for the relay; `reference` takes anything from loopback, for --direct and to
# learn what smtp-source sends.

user=scanner@check.example
password='correct horse'
maildir=$work/postfix/mail/inbox
mkdir -p "$work/postfix"/{etc/sasl,queue,data,mail} "$work/certificate" "$work/sent"
"$here/certificate.sh" "$work/certificate" || fatal "no certificate"
cd "$work/postfix" || exit 1
chown nobody mail
chown postfix data
cat > etc/sasl/smtpd.conf <<X
pwcheck_method: auxprop
auxprop_plugin: sasldb
sasldb_path: $work/postfix/etc/sasl/sasldb2
mech_list: PLAIN LOGIN
X
printf %s "$password" | saslpasswd2 -c -p -f etc/sasl/sasldb2 -u "${user#*@}" "${user%@*}" || fatal "saslpasswd2 failed"
chown -R postfix etc/sasl # where Debian looks, whatever cyrus_sasl_config_path says
cat > etc/main.cf <<X
compatibility_level = 3.6
queue_directory = $work/postfix/queue
data_directory = $work/postfix/data
maillog_file = $work/postfix/log
maillog_file_prefixes = $work
myhostname = localhost
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
biff = no
message_size_limit = 157286400
virtual_mailbox_limit = 0
virtual_mailbox_domains = check.example
virtual_mailbox_base = $work/postfix/mail
virtual_mailbox_maps = static:inbox/
virtual_uid_maps = static:$(id -u nobody)
virtual_gid_maps = static:$(id -g nobody)
virtual_destination_recipient_limit = 1
smtpd_client_connection_rate_limit = 0
smtpd_tls_cert_file = $work/certificate/server.pem
smtpd_tls_key_file = $work/certificate/server.key
smtpd_tls_security_level = may
smtpd_tls_received_header = yes
smtpd_sasl_authenticated_header = yes
smtpd_sasl_auth_enable = yes
smtpd_sasl_path = smtpd
cyrus_sasl_config_path = $work/postfix/etc/sasl
smtpd_relay_restrictions = permit_mynetworks, reject
X
cat > etc/master.cf <<X
127.0.0.1:$submission_port inet n - n - - smtpd
  -o syslog_name=postfix/submission
  -o smtpd_tls_security_level=encrypt
  -o smtpd_tls_auth_only=yes
  -o smtpd_client_restrictions=permit_sasl_authenticated,reject
  -o smtpd_relay_restrictions=permit_sasl_authenticated,reject
127.0.0.1:$reference_port inet n - n - - smtpd
  -o syslog_name=postfix/reference
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
error unix - - n - - error
retry unix - - n - - error
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
showq unix n - n - - showq
postlog unix-dgram n - n - 1 postlogd
X
postfix -c "$work/postfix/etc" start > start.log 2>&1 || { cat start.log log >&2; fatal "Postfix did not start"; }
wait_port "$submission_port" || { cat start.log log >&2; fatal "Postfix does not answer"; }
cd "$work/sent" || exit 1

# The relay, with the three kinds of listeners that devices need.

if [ -n "$direct" ]; then
    plain_port=$reference_port any_port=$reference_port tls_port=$reference_port
else
    mkdir -m 700 "$work/relay" "$work/relay/queue"
    (umask 077 && printf '%s\n' "$password" > "$work/relay/password")
    cat > "$work/relay/mailferry.toml" <<X
hostname = "relay.check.example"

[[listen]]
address = "127.0.0.1:$plain_port"

[[listen]]
address = "127.0.0.1:$any_port"
auth = "any"

[[listen]]
address = "127.0.0.1:$tls_port"
tls = "starttls"
certificate = "$work/certificate/server.pem"
key = "$work/certificate/server.key"

[[client]]
name = "clients"
from = ["127.0.0.1"]

[[account]]
mailbox = "$user"
password = { file = "$work/relay/password" }
smarthost = "localhost:$submission_port"
ca_file = "$work/certificate/ca.pem"
max_connections = 4
messages_per_minute = 1000000
recipients_per_day = 1000000

[queue]
directory = "$work/relay/queue"
min_free_space = "50 MiB"

[control]
socket = "$work/relay/control.sock"
X
    "$binary" serve --config "$work/relay/mailferry.toml" > "$work/relay/log" 2>&1 &
    relay=$!
    for port in "$plain_port" "$any_port" "$tls_port"; do
        wait_port "$port" || { tail -15 "$work/relay/log" >&2; fatal "the relay does not answer on port $port"; }
    done
fi

# One client after the other.

verdict() { # PASS|FAIL NAME TEXT
    printf '%s  %-18s %s\n' "$1" "$2" "$3"
    if [ "$1" = PASS ]; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
}

put_away() { # NAME: what has been judged leaves the Maildir, so that the rest of it can be judged at the end
    mkdir -p "$work/judged/$1"
    find "$maildir/new" -type f -exec mv -t "$work/judged/$1" {} + 2>/dev/null
}

client() { # NAME SENT COUNT [OPTION OF arrived.py ...] -- COMMAND ...
    local name=$1 sent=$2 count=$3 options=() output code answer arrived id
    shift 3
    while [ "$1" != -- ]; do options+=("$1"); shift; done
    shift
    output=$(timeout 120 "$@" 2>&1)
    code=$?
    answer=$(grep -aoE '250 .*' <<< "$output" | tail -1 | tr -d '\r')
    if [ "$code" != 0 ]; then
        printf '%s\n' "$output" > "$work/$name.output"
        verdict FAIL "$name" "$sent: exit code $code, last words: $(tail -1 <<< "$output" | cut -c1-160)"
        return
    fi
    id=$name
    [[ $name != smtp-source* ]] || id=subject:$name
    if arrived=$("$here/arrived.py" wait "$maildir" "$id" "$count" "${options[@]}"); then
        verdict PASS "$name" "$sent; answer: ${answer:-not shown by the client}; $arrived"
    else
        printf '%s\n' "$output" > "$work/$name.output"
        verdict FAIL "$name" "$sent; answer: ${answer:-not shown by the client}; $arrived"
    fi
    put_away "$name"
}

sent() { # NAME BYTES: a message file, its name on standard output
    "$here/arrived.py" make "$1" "$2" > "$work/sent/$1"
    echo "$work/sent/$1"
}

sent_to_swaks() { # the same without the last line end: swaks adds one
    truncate -s -2 "$(sent "$@")"
    echo "$work/sent/$1"
}

to=inbox@check.example
swaks=(swaks --from "$user" --to "$to")
ca=$work/certificate/ca.pem

# Whatever reaches the Maildir by way of the relay went through STARTTLS and a login: nothing else gets in.
if "${swaks[@]}" --server "localhost:$submission_port" --tls --quit-after RCPT > /dev/null 2>&1 ||
    "${swaks[@]}" --server "localhost:$submission_port" --auth LOGIN --auth-user "$user" --auth-password "$password" \
        --quit-after RCPT > /dev/null 2>&1; then
    verdict FAIL smart-host "Postfix takes mail without STARTTLS or without a login"
else
    client smart-host "to Postfix itself, STARTTLS and AUTH LOGIN" 1 -- \
        "${swaks[@]}" --server "localhost:$submission_port" --tls --tls-verify --tls-ca-path "$ca" --auth LOGIN \
        --auth-user "$user" --auth-password "$password" --data "@$(sent_to_swaks smart-host 4096)"
fi

client swaks "a message of 4 KB" 1 -- \
    "${swaks[@]}" --server "127.0.0.1:$plain_port" --data "@$(sent_to_swaks swaks 4096)"

head -c 2500000 /dev/urandom > "$work/sent/scan.pdf"
client swaks-attachment "a scan of 2.5 MB" 1 --attachment "$(sha256sum < "$work/sent/scan.pdf" | cut -d' ' -f1)" -- \
    "${swaks[@]}" --server "127.0.0.1:$plain_port" --header "Subject: scan" --header "X-Check-Id: swaks-attachment" \
    --body "see attachment" --attach-type application/pdf --attach-name scan.pdf --attach "@$work/sent/scan.pdf"

for mechanism in LOGIN PLAIN; do
    name=swaks-auth-${mechanism,,}
    client "$name" "AUTH $mechanism, 4 KB" 1 -- \
        "${swaks[@]}" --server "127.0.0.1:$any_port" --auth "$mechanism" --auth-user "$user" \
        --auth-password "$password" --data "@$(sent_to_swaks "$name" 4096)"
done

client swaks-tls "STARTTLS, 4 KB" 1 -- \
    "${swaks[@]}" --server "localhost:$tls_port" --tls --tls-verify --tls-ca-path "$ca" \
    --data "@$(sent_to_swaks swaks-tls 4096)"

curl=(curl --silent --show-error --verbose --mail-from "$user")
client curl "100 KB to three recipients" 3 -- \
    "${curl[@]}" --url "smtp://127.0.0.1:$plain_port/" --mail-rcpt "$to" --mail-rcpt "b@check.example" \
    --mail-rcpt "c@check.example" --upload-file "$(sent curl 100000)"
client curl-5mb "5 MB" 1 -- \
    "${curl[@]}" --url "smtp://127.0.0.1:$plain_port/" --mail-rcpt "$to" --upload-file "$(sent curl-5mb 5000000)"
client curl-tls "STARTTLS, 100 KB" 1 -- \
    "${curl[@]}" --url "smtp://localhost:$tls_port/" --ssl-reqd --cacert "$ca" --mail-rcpt "$to" \
    --upload-file "$(sent curl-tls 100000)"

msmtp_file() { # FILE OPTION ...: msmtp reads standard input, with the line ends of this system
    local file=$1
    shift
    tr -d '\r' < "$file" | msmtp --debug --from "$user" "$@" -- "$to"
}
export -f msmtp_file
export user to password
client msmtp "4 KB" 1 -- \
    bash -c 'msmtp_file "$@"' - "$(sent msmtp 4096)" --host=127.0.0.1 --port="$plain_port" --tls=off --auth=off
client msmtp-auth "AUTH LOGIN, 4 KB" 1 -- \
    bash -c 'msmtp_file "$@"' - "$(sent msmtp-auth 4096)" --host=127.0.0.1 --port="$any_port" --tls=off --auth=login \
    --user="$user" --passwordeval='printf %s "$password"'
client msmtp-tls "STARTTLS, 100 KB" 1 -- \
    bash -c 'msmtp_file "$@"' - "$(sent msmtp-tls 100000)" --host=localhost --port="$tls_port" --tls=on \
    --tls-starttls=on --tls-trust-file="$ca" --auth=off

for number in $(seq 20); do sent smtplib 8192 > /dev/null; mv "$work/sent/smtplib" "$work/sent/smtplib.$number"; done
cat > "$work/send_by_smtplib.py" <<'X'
import smtplib, sys
port, sender, recipient, *files = sys.argv[1:]
with smtplib.SMTP("127.0.0.1", int(port), timeout=60) as server:
    for number, file in enumerate(files):
        server.ehlo_or_helo_if_needed()
        server.mail(sender)
        server.rcpt(recipient)
        data = open(file, "rb").read().replace(b"Message-ID: <", b"Message-ID: <%d." % number)
        code, text = server.data(data)
        print(code, text.decode())
        if code != 250:
            sys.exit(1)
X
client smtplib "20 messages of 8 KB in one session" 20 -- \
    python3 "$work/send_by_smtplib.py" "$plain_port" "$user" "$to" "$work"/sent/smtplib.*

python3 - > "$work/sent/eight" <<'X'
import hashlib, sys
body = "Grüße vom Kopierer im 2. Stock: 12 Seiten gescannt, 3 übersprungen.\r\n".encode() * 40
sys.stdout.buffer.write(b"From: <scanner@check.example>\r\nTo: <inbox@check.example>\r\nSubject: eight bits\r\n"
    b"Message-ID: <eight@check.example>\r\nDate: Mon, 02 Jan 2006 15:04:05 +0000\r\nX-Check-Id: smtplib-8bit\r\n"
    b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n"
    b"X-Check-Digest: " + hashlib.sha256(body).hexdigest().encode() + b"\r\n\r\n" + body)
X
client smtplib-8bit "UTF-8 text, 8BITMIME" 1 -- \
    python3 "$work/send_by_smtplib.py" "$plain_port" "$user" "$to" "$work/sent/eight"

# What smtp-source sends is known from one message that Postfix took without the relay.
smtp_source=(smtp-source -f "$user" -t "$to" -l 20000)
"${smtp_source[@]}" -s 1 -m 1 -S reference "127.0.0.1:$reference_port" || fatal "smtp-source does not work"
"$here/arrived.py" wait "$maildir" subject:reference 1 --seconds 10 > /dev/null
put_away reference
reference=$(find "$work/judged/reference" -type f)
client smtp-source "200 messages of 20 KB in 5 sessions" 200 --body-like "$reference" -- \
    "${smtp_source[@]}" -s 5 -m 200 -S smtp-source "127.0.0.1:$plain_port"
client smtp-source-open "100 messages of 20 KB over 3 connections" 100 --body-like "$reference" -- \
    "${smtp_source[@]}" -d -s 3 -m 100 -S smtp-source-open "127.0.0.1:$plain_port"

# Nothing else came (a bounce, a second copy), nothing is left behind, and the relay ends as it should.

sleep 1
left=$(find "$maildir/new" -type f | wc -l)
if [ "$left" = 0 ]; then verdict PASS nothing-else "no message beyond those sent"; else
    verdict FAIL nothing-else "$left messages came that nobody sent: $maildir/new"; fi
if [ -n "$relay" ]; then
    kill -TERM "$relay"
    ( sleep 60; kill -KILL "$relay" ) 2> /dev/null &
    bound=$!
    wait "$relay"
    code=$?
    kill "$bound" 2> /dev/null
    relay=
    if [ "$code" = 0 ]; then verdict PASS sigterm "the relay drained and ended with 0"; else
        verdict FAIL sigterm "the relay ended with $code: $(tail -1 "$work/relay/log")"; fi
fi
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
