#!/usr/bin/env bash
# Owns the question whether the units and docs/install.md are right: a Debian of its own is made below a temporary
# directory and booted with systemd as process 1 in namespaces of its own, the commands of docs/install.md are run
# there as they stand, and the service is started, questioned, reloaded, stopped, killed and stalled.
#
#     checks/systemd.sh [BINARY]           default: target/release/mailferry
#
# Needs root, debootstrap with a Debian mirror (MIRROR, or the one apt uses), and a kernel with cgroup2 mounted;
# where one of these is missing it says so and exits 77. The network is a loopback of its own: port 25 of this
# machine is not touched, and nothing leaves it but the download. One line a fact; exit 1 on any FAIL.
set -uo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
case ${1-} in -*) sed -n '2,11s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 64 ;; esac
binary=$(realpath -m "${1-target/release/mailferry}")
skip() { echo "systemd: SKIPPED, nothing was checked: $*" >&2; exit 77; }
[ -x "$binary" ] || { echo "systemd: no relay at $binary; hint: cargo build --release" >&2; exit 69; }
[ "$(id -u)" = 0 ] || skip "needs root"
for tool in debootstrap unshare nsenter pivot_root findmnt ip; do
    command -v "$tool" > /dev/null || skip "needs $tool"
done
cgroups=$(findmnt -n -t cgroup2 -o TARGET | head -1)
[ -n "$cgroups" ] || skip "needs a mounted cgroup2"

work=$(mktemp -d "${TMPDIR:-/tmp}/mailferry-systemd.XXXXXX")
root=$work/root
group=$cgroups/mailferry-check-$$
outer=
failed=0

# The namespaces' first process takes all others, and all mounts, with it.
clean_up() {
    if [ -n "$outer" ]; then
        kill -KILL "$outer" 2> /dev/null
        wait "$outer" 2> /dev/null
    fi
    for _ in $(seq 50); do
        [ ! -d "$group" ] || find "$group" -depth -type d -exec rmdir {} \; 2> /dev/null
        [ -d "$group" ] || break
        sleep 0.1
    done
    if [ "$failed" -ne 0 ]; then
        echo "kept: $work"
    elif ! grep -q " $work" /proc/self/mountinfo; then
        rm -rf --one-file-system "$work"
    fi
}
trap clean_up EXIT
trap 'exit 130' INT TERM

mirror=${MIRROR:-$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 2> /dev/null | head -1)}
echo "making a Debian below $work"
timeout 600 debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,procps,iproute2,python3-minimal,python3 \
    bookworm "$root" ${mirror:+"$mirror"} > "$work/debootstrap.log" 2>&1 ||
    { tail -3 "$work/debootstrap.log" >&2; skip "debootstrap failed"; }

# What a container has no use for; systemd-sysctl would set the values of the whole machine.
for unit in console-getty.service getty@tty1.service systemd-logind.service systemd-sysctl.service systemd-udevd.service; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
mkdir -p "$root/root/mailferry/target/release"
cp -r "$here/systemd" "$here/config" "$root/root/mailferry/"
cp "$binary" "$root/root/mailferry/target/release/mailferry"
printf '#!/bin/sh\nexec "$@"\n' > "$root/usr/local/bin/sudo"
# What `cargo build` would make is there already.
printf '#!/bin/sh
' > "$root/usr/local/bin/cargo"
chmod +x "$root/usr/local/bin/sudo" "$root/usr/local/bin/cargo"
cat > "$root/usr/local/bin/send" <<'EOF'
#!/usr/bin/python3
"""send COUNT [LINES]: that many messages, each of so many lines."""
import smtplib, sys
relay = smtplib.SMTP("127.0.0.1", 25, timeout=20)
for n in range(int(sys.argv[1])):
    relay.sendmail("printer@contoso.com", ["anna@contoso.com"], f"Subject: {n}\r\n\r\n" + "scan\r\n" * int((sys.argv + ["9"])[2]))
relay.quit()
EOF
chmod +x "$root/usr/local/bin/send"

cat > "$work/boot" <<'EOF'
set -eu
root=$1
mount --make-rprivate /
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
for place in run tmp dev; do mount -t tmpfs -o mode=755 tmpfs "$root/$place"; done
chmod 1777 "$root/tmp"
mkdir "$root/dev/pts" "$root/dev/shm"
for device in null zero full random urandom tty; do
    touch "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
mount -t tmpfs tmpfs "$root/dev/shm"
ip link set lo up
cd "$root"
mkdir .outside
pivot_root . .outside
umount -l /.outside
# Without this the credentials, mounted in a namespace of their own, never arrive.
mount --make-rshared /
exec env -i container=check PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --log-target=console
EOF

mkdir "$group" || skip "cannot make a cgroup in $cgroups"
(
    echo "$BASHPID" > "$group/cgroup.procs"
    exec unshare --fork --kill-child --pid --mount --uts --ipc --net --cgroup bash "$work/boot" "$root"
) > "$work/console" 2>&1 < /dev/null &
outer=$!
inside() {
    nsenter -t "$init" -m -u -i -n -p -C -r -w env -i HOME=/root LC_ALL=C.UTF-8 SYSTEMD_PAGER=cat \
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"
}
init=
for _ in $(seq 100); do
    kill -0 "$outer" 2> /dev/null || break
    init=$(pgrep -P "$outer" | head -1)
    [ -n "$init" ] && [ "$(cat "/proc/$init/comm")" = systemd ] && break
    sleep 0.1
done
[ -n "$init" ] || { tail -5 "$work/console" >&2; skip "no namespaces or mounts of its own here"; }
booted=$(timeout 60 bash -c "until nsenter -t ${init:-0} -m -p -C -r systemctl is-system-running 2> /dev/null; do sleep 0.3; done" | tail -1)
[ "$booted" = running ] || { tail -5 "$work/console" >&2; skip "systemd does not boot here: $booted"; }

# Facts: each is a shell condition that must come true within a time.

fact() {
    local within=$1 what=$2 condition=$3
    if inside timeout "$within" bash -c "until { $condition; } > /tmp/said 2>&1; do sleep 0.2; done"; then
        echo "ok    $what"
    else
        echo "FAIL  $what"
        inside sed 's/^/      /' /tmp/said
        failed=1
    fi
}
# The commands under a heading of docs/install.md: what is indented, but for files in the text ([Service] ...).
documented() {
    awk -v heading="## $1" '
        /^## / { on = ($0 == heading) }
        on && /^    / { if (!indented) skipped = /^    \[/; indented = 1; if (!skipped) print substr($0, 5); next }
        { indented = 0 }' "$here/docs/install.md" |
        { echo 'set -ex; cd /root/mailferry'; cat; } > "$root/root/documented"
}
follow() {
    documented "$1"
    if inside bash /root/documented <<< "${2-}" > "$work/documented.log" 2>&1; then
        echo "ok    install.md: $1"
    else
        echo "FAIL  install.md: $1"
        sed 's/^/      /' "$work/documented.log"
        failed=1
    fi
}
property() { echo "[ \"\$(systemctl show mailferry -p $1 --value)\" = $2 ]"; }
drop_in() {
    mkdir -p "$root/etc/systemd/system/mailferry.service.d"
    printf '[Service]\n%s\n' "$2" > "$root/etc/systemd/system/mailferry.service.d/$1.conf"
    inside systemctl daemon-reload
}
kill_relay() { inside bash -c "kill -$1 \$(systemctl show mailferry -p MainPID --value)"; }
# In the sandbox's own queue, also while nobody is there to ask.
of_state() { echo "[ \$(MAILFERRY__QUEUE__DIRECTORY=/var/lib/mailferry/sandbox mailferry queue list --state $1 | tail -n +2 | wc -l) $2 ]"; }

follow "Build"
follow "User, directories, unit" sandbox-password
sed -i -e 's|^from = .*|from = ["127.0.0.0/8"]|' "$root/etc/mailferry/mailferry.toml"
fact 5 "root asks before the first start" "mailferry status | grep 'not running'"
drop_in sandbox 'ExecStart=
ExecStart=/usr/local/bin/mailferry serve --sandbox --config /etc/mailferry/mailferry.toml'
# Any call the filter refuses kills at once, so that none goes unnoticed.
drop_in loud 'SystemCallErrorNumber=kill'
follow "Configure and start"
[ "$failed" = 0 ] || exit 1
fact 1 "it is ready when systemctl start returns, without a restart" "$(property SubState running) && $(property NRestarts 0)"
fact 1 "it has one capability, a seccomp filter, and no way to more" \
    "p=/proc/\$(systemctl show mailferry -p MainPID --value)/status; grep 'CapBnd:.*0000000000000400' \$p && grep 'Seccomp:.*2' \$p && grep 'NoNewPrivs:.*1' \$p"
fact 20 "mail small and large is taken on port 25 and delivered" "send 1 && send 1 50000 && sleep 1 && $(of_state delivered '-ge 2')"
fact 5 "the journal has each fact with its fields" \
    "journalctl -u mailferry -o json MAILFERRY_EVENT=delivered | grep '\"MAILFERRY_ID\"'"
fact 5 "no line of the journal has the password" "! journalctl -o json | grep sandbox-password"
inside useradd --system --groups mailferry member
inside useradd --system stranger
fact 5 "status says that it is the sandbox" "mailferry status | grep '^SANDBOX'"
fact 5 "a member of the group may ask" "setpriv --reuid member --regid member --init-groups mailferry status"
fact 5 "a stranger is told how it goes, and no more" \
    "setpriv --reuid stranger --regid stranger --init-groups mailferry status | grep '^SANDBOX' && { setpriv --reuid stranger --regid stranger --init-groups mailferry queue list; [ \$? = 77 ]; }"

echo "oops" >> "$root/etc/mailferry/mailferry.toml"
fact 10 "a changed file is told before anybody reloads" "mailferry status | grep 'was changed and is not loaded'"
fact 10 "a bad file makes the reload fail, says why, and changes nothing" \
    "! systemctl reload mailferry && journalctl -u mailferry -o cat | grep 'mailferry.toml:.*oops\\|mailferry.toml:[0-9]' && systemctl is-active mailferry"
kill_relay HUP
fact 10 "the relay itself does not take it either, and status says so" \
    "journalctl -u mailferry MAILFERRY_EVENT=reload_refused -o cat | grep hint && mailferry status | grep 'the last reload was refused'"
sed -i '$d' "$root/etc/mailferry/mailferry.toml"

# The account's limit of 25 a minute keeps the rest waiting.
fact 30 "60 messages are accepted" "send 60"
fact 20 "it stops in order, and root sees what waits" \
    "systemctl stop mailferry && $(property Result success) && $(of_state queued '-ge 1')"
fact 20 "it starts again on what root looked at" "systemctl start mailferry && $(property SubState running)"
kill_relay KILL
fact 10 "killed, it is started again" "$(property NRestarts 1) && $(property SubState running)"
sed -i -e 's|^#messages_per_minute = 25|messages_per_minute = 10000|' "$root/etc/mailferry/mailferry.toml"
fact 5 "a good file is taken at a reload" "systemctl reload mailferry && sleep 0.5 && journalctl -u mailferry MAILFERRY_EVENT=reloaded | grep reloaded"
fact 60 "nothing is lost over stop, kill and reload" "$(of_state delivered '= 62')"

install -m 0644 "$root/var/lib/mailferry/sandbox/sandbox-ca.pem" "$root/root/ca.crt"
sed -i -e '0,/^#ca_file/ s|^#ca_file|ca_file|' "$root/etc/mailferry/mailferry.toml"
inside systemctl restart mailferry 2> /dev/null
fact 20 "a file that is not there at the start is waited for" \
    "systemctl show mailferry -p NRestarts --value | grep -v '^[01]\$' && journalctl -u mailferry | grep 'ca.crt: no such file'"
install -m 0644 "$root/root/ca.crt" "$root/etc/mailferry/ca.crt"
fact 15 "and once it is, the relay runs" "$(property SubState running)"
echo "oops" >> "$root/etc/mailferry/mailferry.toml"
inside systemctl restart mailferry 2> /dev/null
fact 15 "a configuration that is wrong is not tried again" "$(property ExecMainStatus 78) && $(property SubState failed)"
sed -i '$d' "$root/etc/mailferry/mailferry.toml"
inside systemctl restart mailferry

drop_in watchdog 'WatchdogSec=3s'
inside systemctl restart mailferry
sleep 5
fact 1 "the watchdog leaves a working relay alone" "$(property NRestarts 0)"
kill_relay STOP
fact 15 "a stalled one is started again" "$(property NRestarts 1) && $(property SubState running)"
rm "$root/etc/systemd/system/mailferry.service.d/watchdog.conf"
inside systemctl daemon-reload

follow "Port 25"
fact 5 "systemd holds the port and the relay has no capability" \
    "p=/proc/\$(systemctl show mailferry -p MainPID --value)/status; grep 'CapBnd:.*0000000000000000' \$p && ss -ltnp 'sport = :25' | grep systemd"
fact 60 "restarts refuse no connection" \
    "(for _ in 1 2 3; do systemctl restart mailferry || exit; sleep 0.3; done) & for _ in \$(seq 20); do send 1 || exit; done; wait \$!"
fact 20 "a connection starts it" "systemctl stop mailferry.service; send 1 && systemctl is-active mailferry"
inside systemctl disable -q --now mailferry.socket mailferry.service

rm -r "$root/etc/systemd/system/mailferry.service.d"
inside systemctl daemon-reload
fact 20 "systemd-analyze verify is silent" \
    "[ -z \"\$(systemd-analyze verify /etc/systemd/system/mailferry.service /etc/systemd/system/mailferry.socket 2>&1)\" ]"
fact 20 "systemd-analyze security is 1.5 or better" \
    "systemd-analyze security --offline=true --threshold=15 /etc/systemd/system/mailferry.service"
inside cat /tmp/said | tail -1
exit "$failed"
