#!/usr/bin/env python3
"""Kills the relay at random moments, over and over, under load, and counts what that cost.

Owns the promise that nothing that got a 250 is lost: a message counts as accepted only once its client has
read the 250, and as delivered only once the smart host's journal has it. What is still queued when the wait at the
end is over counts as lost. Must not know how the relay stores.

    checks/crash_loop.py --binary target/release/mailferry --cycles 20
    checks/crash_loop.py --binary target/release/mailferry --cycles 20 --sigterm

Each cycle runs for a random time, `--seconds-per-cycle` on average, so that kills also fall into the start.
With SIGKILL a second delivery is legitimate for a message that was on its way at the kill, and for nothing
else: a duplicate whose earlier copy arrived more than 250 ms before or after every kill (and was answered)
is counted as `duplicates_unexplained`. With `--sigterm` there is no legitimate duplicate, except where `--fault`
makes the smart host drop the connection after the final dot.

The last line but one is JSON, the last is for people. Exit 1 when a message was lost or damaged, a duplicate has
no excuse, or the relay did not start or stop as it should; then the directory with configuration, queue,
log and journal is kept and named. `--fault` and `--max-connections` are handed to smart_host.py.
`--command` replaces `--binary PATH serve --config FILE`; {config} {port} {smart_host} {ca_file} {directory}
are filled in.
"""

import argparse
import base64
import collections
import hashlib
import json
import os
import random
import shlex
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
MAILBOX, PASSWORD = "scanner@check.example", "correct horse"
# Recording, 250, settlement and its fsync lie between the copy and the kill that made it a duplicate.
EXCUSE_SECONDS = 0.25
READY_SECONDS = 30
STOP_SECONDS = 60
# One block of base64 text; bodies are slices of it, so that 3 MB cost no time to make.
TEXT = b"\r\n".join(base64.b64encode(random.randbytes(57)) for _ in range(64 << 10)) + b"\r\n"
LINE_BYTES = 78

CONFIGURATION = """\
hostname = "relay.check.example"

[[listen]]
address = "127.0.0.1:{port}"

[[client]]
name = "check"
from = ["127.0.0.1"]

[[account]]
mailbox = "{mailbox}"
password = {{ file = "{directory}/password" }}
smarthost = "{smart_host}"
ca_file = "{ca_file}"
max_connections = {account_connections}
messages_per_minute = 1000000
recipients_per_day = 1000000

[queue]
directory = "{directory}/queue"
min_free_space = "50 MiB"

[retry]
delays = ["1 s", "2 s"]
account_delays = ["1 s", "2 s"]
hold_delays = ["2 s"]

[control]
socket = "{directory}/control.sock"
"""


class Broken(Exception):
    """The relay did not do what the check needs to go on."""


# The relay


class Relay:
    def __init__(self, options, directory, smart_host):
        self.directory = directory
        self.port = free_port()
        values = {"port": self.port, "smart_host": f"localhost:{smart_host['port']}", "directory": directory,
                  "ca_file": smart_host["ca_file"], "config": os.path.join(directory, "mailferry.toml"),
                  "mailbox": MAILBOX, "account_connections": options.account_connections}
        os.mkdir(os.path.join(directory, "queue"), 0o700)
        with open(os.path.join(directory, "password"), "w", opener=private) as file:
            file.write(PASSWORD + "\n")
        with open(values["config"], "w", encoding="utf-8") as file:
            file.write(CONFIGURATION.format(**values))
        command = options.command or f"{shlex.quote(os.path.abspath(options.binary))} serve --config {{config}}"
        self.argv = [word.format(**values) for word in shlex.split(command)]
        self.log = open(os.path.join(directory, "relay.log"), "ab")
        self.process = None
        self.started = 0.0

    def start(self):
        self.started = time.monotonic()
        self.process = subprocess.Popen(self.argv, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)

    def wait_ready(self, until):
        """Seconds from exec to banner, or nothing when `until` comes first."""
        while time.monotonic() < until:
            self.must_run()
            try:
                with socket.create_connection(("127.0.0.1", self.port), 1) as sock:
                    if sock.recv(3) == b"220":
                        return time.monotonic() - self.started
            except OSError:
                pass
            time.sleep(0.005)
        return None

    def must_run(self):
        if self.process.poll() is not None:
            raise Broken(f"the relay ended by itself with code {self.process.returncode}:\n{self.log_tail()}")

    def kill(self):
        self.must_run()
        self.process.kill()
        self.process.wait()

    def stop(self):
        """Seconds from SIGTERM to the end, and the exit code."""
        self.must_run()
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise Broken(f"the relay did not end within {STOP_SECONDS} s of SIGTERM:\n{self.log_tail()}") from None
        return time.monotonic() - began, code

    def log_tail(self):
        with open(self.log.name, "rb") as file:
            return b"".join(file.readlines()[-15:]).decode("utf-8", "replace")


def private(path, flags):
    return os.open(path, flags, 0o600)


def free_port():
    """A port below the range of outgoing connections, so that none of those takes it between two cycles."""
    for port in random.sample(range(20000, 32000), 200):
        with socket.socket() as sock:
            try:
                sock.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise Broken("no free port")


# The clients


class Refused(Exception):
    """A reply other than the expected one."""


class Clients:
    """Connections that send at a common pace. `accepted` maps an id to its recipients, from the 250 on."""

    def __init__(self, options, port):
        self.port, self.pace = port, options.connections / options.rate
        self.large, self.accepted, self.sent = options.large, {}, 0
        self.refusals = collections.Counter()
        self.over = threading.Event()
        self.run_name = base64.b32encode(random.randbytes(5)).decode()
        self.threads = [threading.Thread(target=self.run, args=(n,), daemon=True) for n in range(options.connections)]
        for thread in self.threads:
            thread.start()

    def stop(self):
        self.over.set()
        for thread in self.threads:
            thread.join(30)

    def run(self, number):
        count = 0
        while not self.over.is_set():
            try:
                with socket.create_connection(("127.0.0.1", self.port), 5) as sock:
                    sock.settimeout(30)
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    replies = sock.makefile("rb")
                    expect(replies, b"220")
                    ask(sock, replies, b"EHLO client.check.example\r\n", b"250")
                    for _ in range(random.randint(1, 20)):
                        if self.over.is_set():
                            break
                        count += 1
                        began = time.monotonic()
                        self.send(sock, replies, f"{self.run_name}-{number}-{count}")
                        self.over.wait(max(0.0, self.pace - (time.monotonic() - began)))
                    ask(sock, replies, b"QUIT\r\n", b"221")
            except Refused as refusal:
                self.refusals[str(refusal)] += 1
                time.sleep(0.02)
            except OSError:
                time.sleep(0.02)

    def send(self, sock, replies, check_id):
        recipients = [f"{name}@check.example" for name in random.sample("abcdefgh", random.choice((1, 1, 1, 3)))]
        content = message(check_id, self.size(), recipients)
        ask(sock, replies, f"MAIL FROM:<{MAILBOX}>\r\n".encode(), b"250")
        for recipient in recipients:
            ask(sock, replies, f"RCPT TO:<{recipient}>\r\n".encode(), b"250")
        ask(sock, replies, b"DATA\r\n", b"354")
        self.sent += 1
        ask(sock, replies, content, b"250")
        self.accepted[check_id] = recipients

    def size(self):
        if random.random() < self.large:
            return random.randint(1_000_000, 3_000_000)
        # Around the 64 KiB where a body moves from a row to a file, now and then.
        return random.randint(40_000, 90_000) if random.random() < 0.03 else random.randint(200, 8_000)


def message(check_id, size, recipients):
    start = random.randrange(0, len(TEXT) - size, LINE_BYTES)
    # Lines that need dot-stuffing, and the id, so that no two contents are the same.
    body = f"{check_id}\r\n.\r\n..\r\n.dot\r\n\r\n".encode() + TEXT[start:start + size // LINE_BYTES * LINE_BYTES]
    head = (f"From: <{MAILBOX}>\r\nTo: {', '.join(recipients)}\r\nSubject: {check_id}\r\n"
            f"Date: {time.strftime('%a, %d %b %Y %H:%M:%S +0000', time.gmtime())}\r\n"
            f"Message-ID: <{check_id}@check.example>\r\nX-Check-Id: {check_id}\r\n"
            f"X-Check-Digest: {hashlib.sha256(body).hexdigest()}\r\n\r\n").encode()
    return (head + body).replace(b"\r\n.", b"\r\n..") + b".\r\n"


def ask(sock, replies, text, code):
    sock.sendall(text)
    expect(replies, code)


def expect(replies, code):
    while True:
        line = replies.readline(2048)
        if not line:
            raise ConnectionError("closed")
        if line[3:4] != b"-":
            break
    if line[:3] != code:
        raise Refused(line.decode("ascii", "replace").strip()[:120])


# The account


class Journal:
    """What the smart host says it has: for each id and recipient the copies, with time and whether answered."""

    def __init__(self, path):
        self.file = open(path, encoding="ascii")
        self.partial = ""
        self.copies = collections.defaultdict(list)
        self.damaged, self.unknown, self.last = set(), 0, time.time()

    def read(self):
        self.partial += self.file.read()
        *lines, self.partial = self.partial.split("\n")
        for line in lines:
            entry = json.loads(line)
            self.last = entry["time"]
            if not entry["id"]:
                self.unknown += 1
                continue
            for recipient in entry["recipients"]:
                self.copies[entry["id"], recipient].append((entry["time"], entry["answered"]))
            if not (entry["whole"] and entry["clean"]):
                self.damaged.add(entry["id"])

    def missing(self, accepted):
        return [i for i, recipients in accepted.items() if not all((i, r) in self.copies for r in recipients)]


def judge_duplicates(journal, kills):
    """Ids delivered more than once, those of them without an excuse, and the longest time from copy to kill."""
    duplicates, unexplained, longest = set(), set(), 0.0
    for (check_id, _), copies in journal.copies.items():
        if len(copies) == 1:
            continue
        duplicates.add(check_id)
        for at, answered in copies[:-1]:
            if not answered:
                continue
            distance = min((abs(kill - at) for kill in kills), default=float("inf"))
            if distance > EXCUSE_SECONDS:
                unexplained.add(check_id)
            else:
                longest = max(longest, distance)
    return duplicates, unexplained, longest


# The loop


def cycles(options, relay, figures, kills):
    for _ in range(options.cycles):
        relay.start()
        # A SIGTERM during the start would only test the default action of the signal; a SIGKILL is welcome there.
        if options.sigterm:
            must_be_ready(relay, figures)
        end = time.monotonic() + random.uniform(0, 2 * options.seconds_per_cycle)
        if not options.sigterm:
            ready = relay.wait_ready(end)
            if ready is None:
                figures["killed_before_ready"] += 1
            else:
                figures["ready_ms"].append(ready * 1000)
        time.sleep(max(0.0, end - time.monotonic()))
        if options.sigterm:
            stop(relay, figures)
        else:
            kills.append(time.time())
            relay.kill()


def must_be_ready(relay, figures):
    ready = relay.wait_ready(time.monotonic() + READY_SECONDS)
    if ready is None:
        raise Broken(f"no banner within {READY_SECONDS} s:\n{relay.log_tail()}")
    figures["ready_ms"].append(ready * 1000)


def stop(relay, figures):
    seconds, code = relay.stop()
    figures["stop_ms"].append(seconds * 1000)
    figures["bad_exits"] += code != 0


def drain(options, relay, journal, accepted):
    """Until everything accepted is delivered, or nothing has come for `--drain` seconds."""
    began = time.time()
    journal.last = began
    while True:
        relay.must_run()
        journal.read()
        missing = journal.missing(accepted)
        if not missing or time.time() - max(journal.last, began) > options.drain:
            break
        time.sleep(0.2)
    took = time.time() - began
    time.sleep(2)  # a late second copy
    journal.read()
    return took


def run(options, directory):
    figures = {"ready_ms": [], "stop_ms": [], "killed_before_ready": 0, "bad_exits": 0}
    argv = [os.path.join(HERE, "smart_host.py"), "--directory", os.path.join(directory, "smart-host"),
            "--user", MAILBOX, "--password", PASSWORD, "--max-connections", str(options.max_connections),
            "--lifetime", str(options.cycles * (2 * options.seconds_per_cycle + READY_SECONDS + STOP_SECONDS) + 3600)]
    for fault in options.fault:
        argv += ["--fault", fault]
    os.mkdir(os.path.join(directory, "smart-host"))
    smart_host = subprocess.Popen([sys.executable, *argv], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    relay = clients = None
    try:
        first = smart_host.stdout.readline()
        if not first:
            raise Broken("the smart host did not start")
        relay = Relay(options, directory, json.loads(first))
        journal = Journal(os.path.join(directory, "smart-host", "journal"))
        clients, kills, began = Clients(options, relay.port), [], time.monotonic()
        cycles(options, relay, figures, kills)
        relay.start()
        must_be_ready(relay, figures)
        clients.stop()
        loaded = time.monotonic() - began
        drained = drain(options, relay, journal, clients.accepted)
        stop(relay, figures)
        smart_host.terminate()
        smart_host_report = json.loads(smart_host.communicate(timeout=30)[0].splitlines()[-1])
        return report(options, clients, journal, kills, figures, loaded, drained, smart_host_report)
    finally:
        if clients:
            clients.over.set()
        for process in (relay and relay.process, smart_host):
            if process and process.poll() is None:
                process.kill()
                process.wait()


def report(options, clients, journal, kills, figures, loaded, drained, smart_host):
    lost = journal.missing(clients.accepted)
    duplicates, unexplained, longest = judge_duplicates(journal, kills)
    delivered_ids = {check_id for check_id, _ in journal.copies}
    return {
        "signal": "TERM" if options.sigterm else "KILL", "cycles": options.cycles,
        "accepted": len(clients.accepted), "delivered": len(clients.accepted) - len(lost), "lost": len(lost),
        "damaged": len(journal.damaged), "duplicates": len(duplicates), "duplicates_unexplained": len(unexplained),
        "copy_to_kill_max_ms": round(longest * 1000),
        "delivered_without_250": len(delivered_ids - clients.accepted.keys()), "without_id": journal.unknown,
        "refusals": dict(clients.refusals.most_common(5)), "bad_exits": figures["bad_exits"],
        "killed_before_ready": figures["killed_before_ready"],
        "ready_median_ms": round(statistics.median(figures["ready_ms"])),
        "ready_max_ms": round(max(figures["ready_ms"])),
        "stop_max_ms": round(max(figures["stop_ms"])), "loaded_s": round(loaded, 1), "drain_s": round(drained, 1),
        "smart_host": smart_host, "lost_ids": lost[:5], "unexplained_ids": sorted(unexplained)[:5]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", help="the relay")
    parser.add_argument("--command", help="in place of --binary: the whole command")
    parser.add_argument("--cycles", type=int, default=20)
    parser.add_argument("--seconds-per-cycle", type=float, default=3)
    parser.add_argument("--sigterm", action="store_true", help="stop in order in place of SIGKILL")
    parser.add_argument("--connections", type=int, default=8, help="of the clients")
    parser.add_argument("--rate", type=float, default=400, help="messages a second, all clients together, at most")
    parser.add_argument("--large", type=float, default=0.02, help="share of messages of 1 to 3 MB")
    parser.add_argument("--account-connections", type=int, default=4, help="of the relay to the smart host")
    parser.add_argument("--drain", type=float, default=120, help="seconds without a delivery that end the wait")
    parser.add_argument("--seed", type=int, help="of the moments and sizes; threads stay unpredictable")
    parser.add_argument("--fault", action="append", default=[])
    parser.add_argument("--max-connections", type=int, default=0)
    options = parser.parse_args()
    if bool(options.binary) == bool(options.command):
        parser.error("one of --binary and --command")
    random.seed(options.seed)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # by way of `finally`, which ends what was started
    directory = tempfile.mkdtemp(prefix="crash-loop-")
    try:
        result = run(options, directory)
    except Broken as broken:
        print(f"FAIL: {broken}\nkept: {directory}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, SystemExit):
        shutil.rmtree(directory)
        raise
    bad = [name for name in ("lost", "damaged", "duplicates_unexplained", "bad_exits") if result[name]]
    print(json.dumps(result))
    print(f"{'FAIL (' + ', '.join(bad) + ')' if bad else 'PASS'}: {result['cycles']} times SIG{result['signal']}, "
          f"{result['accepted']} accepted, {result['delivered']} delivered, {result['lost']} lost, "
          f"{result['damaged']} damaged, {result['duplicates']} delivered more than once "
          f"({result['duplicates_unexplained']} without an excuse), "
          f"back within {result['ready_max_ms']} ms at worst")
    if bad:
        print(f"kept: {directory}", file=sys.stderr)
        return 1
    shutil.rmtree(directory)
    return 0


if __name__ == "__main__":
    sys.exit(main())
