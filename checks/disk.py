#!/usr/bin/env python3
"""Takes the disk from under the relay in every way it can go, and counts what that cost.

Owns the promise that nothing that got a 250 is lost, doubled or forgotten unnamed, whatever the disk does: it is
full, it changes bytes, it fails a call, it forgets what a failed sync had not written. Must not know how the relay
stores more than where the pages are.

    checks/disk.py --binary target/release/mailferry --list
    checks/disk.py --binary target/release/mailferry                    all scenarios, some minutes
    checks/disk.py --binary target/release/mailferry --scenario lost-sync --seconds 60

Every case counts, and prints as a line of JSON: `accepted` (the client has read the 250), `delivered` (the smart
host's journal has it whole), `lost` (neither delivered nor in the queue nor named in the log), `named` (not delivered,
but the log or the queue says so), `stuck` (of these: queued, although nothing keeps it, and no word of it),
`duplicates` (more than one answered copy of a message and recipient),
`phantoms` (delivered though the client was refused), `refused` (what clients heard). `broken` names
the promises that did not hold. `--seconds` bounds the scenarios that draw at random; `--seed` repeats one.

The failing calls come from disk_faults.c, preloaded; cc builds it. The scenarios of a small disk need root (a loop
device) and are skipped without. Exit 1 when a promise is broken; the directory is kept then, with `--keep`.
"""

import argparse
import collections
import glob
import json
import os
import random
import re
import shutil
import signal
import socket
import sqlite3
import struct
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import crash_loop  # noqa: E402
import smart_host  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
PAGE = 4096
FRAME = PAGE + 24
EIO, ENOSPC = 5, 28
SMALL, ROW, FILE = 600, 20_000, 200_000
SCENARIOS = {}


def scenario(function):
    SCENARIOS[function.__name__.replace("_", "-")] = function
    return function


# The rig: a smart host in this process, a relay in another


class Rig:
    def __init__(self, options, name, min_free="1 MiB", queue=None):
        self.options, self.name = options, name
        self.directory = os.path.realpath(tempfile.mkdtemp(prefix=f"disk-{name}-"))
        self.queue = queue or os.path.join(self.directory, "queue")
        os.makedirs(self.queue, 0o700, exist_ok=True)
        hosts = os.path.join(self.directory, "smart-host")
        os.mkdir(hosts)
        self.host = smart_host.SmartHost(argparse.Namespace(
            user=crash_loop.MAILBOX, password=crash_loop.PASSWORD, fault=[], max_connections=0, directory=hosts,
            port=0))
        threading.Thread(target=self.host.accept, daemon=True).start()
        self.journal = crash_loop.Journal(os.path.join(hosts, "journal"))
        self.port = free_port()
        self.config = os.path.join(self.directory, "mailferry.toml")
        with open(os.path.join(self.directory, "password"), "w", opener=crash_loop.private) as file:
            file.write(crash_loop.PASSWORD + "\n")
        text = crash_loop.CONFIGURATION.format(
            port=self.port, smart_host=f"localhost:{self.host.port}", directory=self.directory,
            ca_file=os.path.join(hosts, "ca.pem"), mailbox=crash_loop.MAILBOX, account_connections=4)
        text = text.replace(f"{self.directory}/queue", self.queue).replace('"50 MiB"', f'"{min_free}"')
        with open(self.config, "w", encoding="utf-8") as file:
            file.write(text)
        self.rules = os.path.join(self.directory, "rules")
        self.fired = os.path.join(self.directory, "fired")
        self.log = open(os.path.join(self.directory, "relay.log"), "ab")
        self.accepted, self.queue_ids, self.tried = {}, {}, {}
        self.refused = collections.Counter()
        self.process, self.shadow, self.sent, self.starts = None, None, 0, 0
        self.run = os.urandom(5).hex()

    # The relay

    def start(self, faults=False, shadow=False, wait=30.0):
        """Seconds until it takes mail, or nothing when it does not within `wait` or ends by itself."""
        environment = dict(os.environ)
        if faults or shadow:
            environment |= {"LD_PRELOAD": self.options.shim, "DISK_FAULTS_ROOT": self.queue,
                            "DISK_FAULTS_RULES": self.rules, "DISK_FAULTS_LOG": self.fired}
        if shadow:
            self.starts += 1
            self.shadow = os.path.join(self.directory, f"shadow-{self.starts}")
            os.mkdir(self.shadow)
            environment["DISK_FAULTS_SHADOW"] = self.shadow
        began = time.monotonic()
        self.process = subprocess.Popen([self.options.binary, "serve", "--config", self.config],
                                        stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, env=environment)
        while time.monotonic() < began + wait and self.process.poll() is None:
            try:
                with socket.create_connection(("127.0.0.1", self.port), 1) as sock:
                    if sock.recv(3) == b"220":
                        return time.monotonic() - began
            except OSError:
                time.sleep(0.02)
        return None

    def is_running(self):
        return self.process is not None and self.process.poll() is None

    def kill(self):
        if self.is_running():
            self.process.kill()
        self.process.wait()

    def stop(self, patience=60):
        if not self.is_running():
            return self.process.returncode
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(patience)
        except subprocess.TimeoutExpired:
            self.kill()
            return "did not stop"

    def fault(self, *rules):
        """call, glob, skip, count, ms, errno[, from, to, inode]"""
        lines = [" ".join(map(str, (*rule, *(0,) * (9 - len(rule))))) + "\n" for rule in rules]
        with open(self.rules + ".new", "w", encoding="ascii") as file:
            file.writelines(lines)
        os.rename(self.rules + ".new", self.rules)

    def power_cut(self):
        """Ends the process and leaves of the directory what was synced."""
        self.kill()
        names = open(os.path.join(self.shadow, "names"), encoding="utf-8").read().splitlines()
        for entry in os.scandir(self.queue):
            shutil.rmtree(entry.path) if entry.is_dir() else os.unlink(entry.path)
        for line in names:
            kind, name, *of = line.split(" ")
            path = os.path.join(self.queue, name)
            if kind == "d":
                os.makedirs(path, 0o700, exist_ok=True)
            elif not name.endswith("-shm"):
                copy = os.path.join(self.shadow, of[0])
                os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
                shutil.copyfile(copy, path) if os.path.exists(copy) else open(path, "wb").close()
                os.chmod(path, 0o600)

    def cli(self, *arguments, timeout=60):
        try:
            done = subprocess.run([self.options.binary, *arguments, "--config", self.config], capture_output=True,
                                  timeout=timeout, text=True, errors="replace")
            with open(os.path.join(self.directory, "cli.log"), "a", encoding="utf-8") as file:
                file.write(done.stderr)
            return done.returncode, done.stdout, done.stderr
        except subprocess.TimeoutExpired:
            return "timeout", "", ""

    def listed(self, *arguments):
        code, out, _ = self.cli("queue", "list", "--json", *arguments)
        try:
            found = json.loads(out)
        except ValueError:
            found = [json.loads(line) for line in out.splitlines() if line.startswith("{")] if code == 0 else None
        if isinstance(found, dict):
            found = found.get("messages", [])
        return found

    def status(self):
        return self.cli("status")[1].splitlines()[:1]

    # Mail

    def down(self, is_down=True):
        stages = ("connect", "mail") if is_down else ()  # connections that are open already as well
        self.host.faults[:] = [smart_host.Fault(stage, "busy", 0, float("inf"), 1) for stage in stages]

    def send(self, sizes, recipients=1, timeout=30.0, stop_at_refusal=False):
        """Over one connection as long as it lasts; returns how many of them got a 250."""
        taken, sock, replies = 0, None, None
        for size in sizes:
            self.sent += 1
            check_id = f"{self.run}-{self.sent}"
            to = [f"{name}@check.example" for name in "abcdefgh"[:recipients]]
            self.tried[check_id] = to
            try:
                if sock is None:
                    sock = socket.create_connection(("127.0.0.1", self.port), 5)
                    sock.settimeout(timeout)
                    replies = sock.makefile("rb")
                    crash_loop.expect(replies, b"220")
                    crash_loop.ask(sock, replies, b"EHLO check\r\n", b"250")
                crash_loop.ask(sock, replies, f"MAIL FROM:<{crash_loop.MAILBOX}> SIZE={size}\r\n".encode(), b"250")
                for recipient in to:
                    crash_loop.ask(sock, replies, f"RCPT TO:<{recipient}>\r\n".encode(), b"250")
                crash_loop.ask(sock, replies, b"DATA\r\n", b"354")
                sock.sendall(crash_loop.message(check_id, size, to))
                line = replies.readline(2048).decode("ascii", "replace").strip()
                if not line:
                    raise ConnectionError("closed")
                if not line.startswith("250"):
                    raise crash_loop.Refused(line)
                self.accepted[check_id] = to
                self.queue_ids[check_id] = line.split()[-1]
                taken += 1
            except crash_loop.Refused as refusal:
                self.refused[str(refusal)[:60]] += 1
                if stop_at_refusal:
                    break
                try:
                    crash_loop.ask(sock, replies, b"RSET\r\n", b"250")
                except (OSError, crash_loop.Refused):
                    sock = None
            except OSError as error:
                self.refused[type(error).__name__] += 1
                sock = None
                if stop_at_refusal or not self.is_running():
                    break
        if sock:
            sock.close()
        return taken

    def seconds_until_taken(self, size=SMALL, patience=60.0):
        began = time.monotonic()
        while time.monotonic() < began + patience:
            if self.send([size], timeout=5):
                return round(time.monotonic() - began, 1)
            time.sleep(0.2)
        return None

    def deliver(self, quiet=6.0, patience=300.0):
        """Until everything accepted is delivered, or nothing has come for `quiet` seconds."""
        self.down(False)
        began = self.journal.last = time.time()
        while time.time() < began + patience and self.is_running():
            self.journal.read()
            if not self.journal.missing(self.accepted) or time.time() - max(self.journal.last, began) > quiet:
                break
            time.sleep(0.1)
        time.sleep(0.5)
        self.journal.read()

    def log_text(self):
        with open(self.log.name, encoding="utf-8", errors="replace") as file:
            return file.read()

    def events(self):
        found = collections.Counter(re.findall(r"\b(queue_[a-z_]+|settlement_[a-z_]+|lease_failed)\b", self.log_text()))
        return {k: v for k, v in found.items() if k not in ("queue_opened", "queue_closed")}

    # The verdict

    def count(self, case, **more):
        self.journal.read()
        missing = self.journal.missing(self.accepted)
        listing = self.listed() if missing else []
        log = "".join(line for line in self.log_text().splitlines(True) if " ERROR " in line or " WARN " in line)
        told = os.path.join(self.directory, "cli.log")
        log += open(told, encoding="utf-8").read() if os.path.exists(told) else ""
        here = {str(m.get("id")) for m in listing or []}
        named = [i for i in missing if self.queue_ids[i] in here or self.queue_ids[i] in log]
        lost = [i for i in missing if i not in named]
        waiting = {str(m.get("id")) for m in listing or [] if m.get("state") == "queued"}
        stuck = [i for i in named if self.queue_ids[i] in waiting and self.queue_ids[i] not in log]
        copies = {key: sum(answered for _, answered in c) for key, c in self.journal.copies.items()}
        duplicates = {i for (i, _), n in copies.items() if n > 1}
        phantoms = {i for i, _ in copies} - self.accepted.keys()
        figures = {"scenario": self.name, "case": case, "accepted": len(self.accepted),
                   "delivered": len(self.accepted) - len(missing), "lost": len(lost), "named": len(named),
                   "stuck": len(stuck),
                   "duplicates": len(duplicates), "copies_max": max(copies.values(), default=0),
                   "phantoms": len(phantoms), "damaged": len(self.journal.damaged), "notices": self.journal.unknown,
                   "refused": dict(self.refused.most_common(3)), **more}
        broken = [n for n in ("lost", "stuck", "duplicates", "damaged") if figures[n]] + list(more.get("broken", ()))
        figures["broken"] = broken
        if broken:
            figures |= {"events": self.events(),
                        "ids": sorted(self.queue_ids.get(i, i) for i in lost or stuck or duplicates)[:4],
                        "kept": self.directory if self.options.keep else None}
        return figures

    def close(self, keep=False):
        if self.process and self.process.poll() is None:
            self.kill()
        self.host.listener.close()
        self.log.close()
        self.journal.file.close()
        if not (keep and self.options.keep):
            shutil.rmtree(self.directory, ignore_errors=True)

    def sizes(self):
        size = lambda name: os.path.getsize(p) if os.path.exists(p := os.path.join(self.queue, name)) else 0
        return {"db_mib": size("queue.db") >> 20, "wal_mib": round(size("queue.db-wal") / (1 << 20), 1)}


def free_port():
    """As the crash loop's, but not the same in two runs of one seed."""
    state = random.getstate()
    random.seed()
    try:
        return crash_loop.free_port()
    finally:
        random.setstate(state)


def case(rig, name, work):
    """Runs one case, prints its line, returns whether every promise held."""
    try:
        more = work(rig) or {}
    except (OSError, AssertionError, sqlite3.Error) as error:
        more = {"error": repr(error)}
    figures = rig.count(name, **more)
    print(json.dumps(figures), flush=True)
    rig.close(keep=bool(figures["broken"]))
    return not figures["broken"]


# The pages of a database


def word(data, at):
    return struct.unpack_from(">I", data, at)[0]


def varint(data, at):
    value = 0
    for n in range(9):
        byte = data[at + n]
        if n == 8:
            return value << 8 | byte, at + 9
        value = value << 7 | byte & 0x7f
        if byte < 0x80:
            return value, at + n + 1
    raise ValueError


def pages(data):
    """What each page is: {number: (kind, table or index)}."""
    count = len(data) // PAGE
    found = {1: ("leaf", "schema")}
    with tempfile.NamedTemporaryFile(suffix=".db") as copy:
        copy.write(data)
        copy.flush()
        conn = sqlite3.connect(f"file:{copy.name}?immutable=1", uri=True)
        roots = conn.execute("SELECT name, rootpage FROM sqlite_master WHERE rootpage > 0").fetchall()
        conn.close()

    def visit(number, name):
        if number in found and number != 1 or not 0 < number <= count:
            return
        at = (number - 1) * PAGE
        kind = data[at]
        cells = struct.unpack_from(">H", data, at + 3)[0]
        found[number] = ("interior" if kind in (2, 5) else "leaf", name)
        for n in range(cells):
            cell = at + struct.unpack_from(">H", data, at + (12 if kind in (2, 5) else 8) + 2 * n)[0]
            if kind in (2, 5):
                visit(word(data, cell), name)
                cell += 4
            if kind == 5:
                continue
            length, cell = varint(data, cell)
            if kind == 13:
                _, cell = varint(data, cell)
            most = PAGE - 35 if kind == 13 else (PAGE - 12) * 64 // 255 - 23
            if length > most:
                least = (PAGE - 12) * 32 // 255 - 23
                local = least + (length - least) % (PAGE - 4)
                page = word(data, cell + (local if local <= most else least))
                while page and page not in found and page <= count:
                    found[page] = ("overflow", name)
                    page = word(data, (page - 1) * PAGE)
        if kind in (2, 5):
            visit(word(data, at + 8), name)

    for name, root in roots:
        visit(root, name)
    trunk = word(data, 32)
    while trunk and trunk <= count and trunk not in found:
        found[trunk] = ("free", "trunk")
        for n in range(word(data, (trunk - 1) * PAGE + 4)):
            found[word(data, (trunk - 1) * PAGE + 8 + 4 * n)] = ("free", "leaf")
        trunk = word(data, (trunk - 1) * PAGE)
    for number in range(1, count + 1):
        found.setdefault(number, ("map", "map"))
    return found


def patterns(page, which):
    if which == "zero":
        return bytes(len(page))
    if which == "invert":
        return bytes(b ^ 0xff for b in page)
    return random.Random(7).randbytes(len(page))


def overwrite(path, at, data):
    with open(path, "r+b", buffering=0) as file:
        file.seek(at)
        file.write(data)


class Sound:
    """A queue of mixed mail, filled once a scenario and copied for every case."""

    def __init__(self, options, how, count=300):
        self.rig = Rig(options, "sound")
        rig = self.rig
        rig.down()
        assert rig.start() is not None, rig.log_text()[-2000:]
        if how != "fresh":
            rig.send([SMALL] * 10)
            rig.deliver()
            rig.down()
            time.sleep(2)
        rig.send(random.Random(3).choices([SMALL, ROW, FILE], [6, 4, 1], k=count), recipients=1)
        rig.send([SMALL, ROW, FILE], recipients=3)
        rig.kill() if how in ("killed", "fresh") else rig.stop()

    def copy(self, name):
        rig, sound = Rig(self.rig.options, name), self.rig
        shutil.rmtree(rig.queue)
        shutil.copytree(sound.queue, rig.queue)
        delivered = {i for i, _ in sound.journal.copies}
        rig.accepted = {i: to for i, to in sound.accepted.items() if i not in delivered}
        rig.queue_ids, rig.run = dict(sound.queue_ids), rig.run
        rig.history = delivered
        return rig


# Damage


def survive(rig, look=True, restarts=1):
    """Starts on it, looks at it, delivers, and says what an admin could see of it."""
    more, broken = {}, []
    if look:
        listing = rig.listed()
        more["listed_stopped"] = None if listing is None else len(listing)
        if listing is None:
            broken.append("list (stopped)")
        more["status_stopped"] = rig.status()
    if rig.start() is None:
        more["exit"] = rig.process.poll()
        return {**more, "broken": broken + ["start"], "tail": rig.log_text()[-600:]}
    if not rig.send([SMALL], timeout=10):
        broken.append("intake")
    rig.deliver()
    for _ in range(restarts):
        if rig.stop() != 0:
            broken.append("stop")
        if rig.start() is None:
            return {**more, "broken": broken + ["restart"], "tail": rig.log_text()[-600:]}
        rig.deliver(quiet=3)
    back = {i for i, _ in rig.journal.copies} & getattr(rig, "history", set())
    if back:
        broken.append(f"{len(back)} delivered long ago came back")
    more["queue"] = dict(collections.Counter(m.get("state") for m in rig.listed() or []))
    return {**more, "broken": broken}


@scenario
def pages_stopped(options):
    """Each kind of page of queue.db overwritten while the relay is stopped: zeros, inverted, random bytes."""
    sound = Sound(options, "stopped")
    data = open(os.path.join(sound.rig.queue, "queue.db"), "rb").read()
    by_kind = collections.defaultdict(list)
    for number, kind in pages(data).items():
        by_kind[kind].append(number)
    good, began = True, time.monotonic()
    for kind, numbers in sorted(by_kind.items()):
        for pattern in ("zero", "invert", "random"):
            if time.monotonic() > began + options.seconds:
                break
            number = random.choice(numbers)

            def work(rig):
                at = (number - 1) * PAGE
                overwrite(os.path.join(rig.queue, "queue.db"), at, patterns(data[at:at + PAGE], pattern))
                return survive(rig, look=pattern == "zero")

            good &= case(sound.copy("pages-stopped"), f"{' '.join(kind)} page {number} {pattern}", work)
    sound.rig.close()
    return good


@scenario
def log_killed(options):
    """The log of a killed relay: its header, its frames, a run of frames, cut, removed; the whole backlog is in it."""
    sound = Sound(options, "fresh", count=60)
    log = os.path.join(sound.rig.queue, "queue.db-wal")
    data = open(log, "rb").read()
    frames = (len(data) - 32) // FRAME

    def change(f):
        def work(rig):
            f(os.path.join(rig.queue, "queue.db-wal"))
            return survive(rig, look=False)
        return work

    middle = 32 + frames // 2 * FRAME
    cases = {
        "nothing changed": lambda p: None,
        "header: one bit of the salt": lambda p: overwrite(p, 17, bytes([data[17] ^ 1])),
        "header: first sector zero": lambda p: overwrite(p, 0, bytes(512)),
        "header: first page zero": lambda p: overwrite(p, 0, bytes(4096)),
        "one bit of a frame": lambda p: overwrite(p, middle + 1000, bytes([data[middle + 1000] ^ 1])),
        "one bit of a frame's header": lambda p: overwrite(p, middle + 9, bytes([data[middle + 9] ^ 1])),
        "70 frames zero": lambda p: overwrite(p, middle, bytes(70 * FRAME)),
        "the last frame, one bit": lambda p: overwrite(p, len(data) - 100, bytes([data[-100] ^ 1])),
        "the last page of the file zero": lambda p: overwrite(p, len(data) - 4096, bytes(4096)),
        "cut in the middle": lambda p: os.truncate(p, middle + 100),
        "garbage behind the end": lambda p: overwrite(p, len(data), random.randbytes(100_000)),
        "removed": os.unlink,
        "empty": lambda p: os.truncate(p, 0),
    }
    good = True
    for name, f in cases.items():
        good &= case(sound.copy("log-killed"), name, change(f))
    sound.rig.close()
    return good


@scenario
def log_of_deliveries(options):
    """A frame of a killed relay's log is damaged, which held what became of mail: is it sent or bounced again?"""
    sound = Rig(options, "sound")
    turn = [0]

    def every_third_recipient_later(stage):
        if stage != "rcpt":
            return None
        turn[0] += 1
        return later if turn[0] % 3 == 0 else None

    smart_host.REPLIES["later"] = "450 4.2.1 The recipient's mailbox is busy"
    later = smart_host.Fault("rcpt", "later", 0, float("inf"), 1)
    assert sound.start() is not None
    usual, sound.host.fault = sound.host.fault, every_third_recipient_later
    sound.send([SMALL, ROW, SMALL] * 10, recipients=3)
    time.sleep(0.3)
    sound.send([SMALL] * 12)
    sound.kill()
    sound.host.fault = usual
    sound.journal.read()
    data = open(os.path.join(sound.queue, "queue.db-wal"), "rb").read()
    frames = (len(data) - 32) // FRAME
    ends = [n for n in range(frames) if word(data, 32 + n * FRAME + 4)]
    good, began = True, time.monotonic()
    newest = {word(data, 32 + n * FRAME): n for n in range(frames)}
    # Behind these there is another transaction, so that it does not look like a write cut short.
    tried = [n for n in newest.values() if n <= ends[-2] and data[32 + n * FRAME + 24] in (2, 5, 10, 13)]
    for frame in sorted(tried, key=lambda n: -data[32 + n * FRAME + 24]):
        if time.monotonic() > began + options.seconds:
            break
        rig = Rig(options, "log-of-deliveries")
        shutil.rmtree(rig.queue)
        shutil.copytree(sound.queue, rig.queue)
        rig.accepted, rig.queue_ids = dict(sound.accepted), dict(sound.queue_ids)
        before = {key for key, copies in sound.journal.copies.items() if any(answered for _, answered in copies)}
        at = 32 + frame * FRAME

        def work(rig):
            overwrite(os.path.join(rig.queue, "queue.db-wal"), at + 24 + 2000, bytes([data[at + 24 + 2000] ^ 1]))
            if rig.start() is None:
                return {"broken": ["start"]}
            rig.deliver(quiet=5)
            again = {key for key in rig.journal.copies if key in before}
            for key in before:
                rig.journal.copies[key].insert(0, (0.0, True))
            # What was settled before the kill is not the kill's fault; one in flight at it may be.
            rig.stop()
            given_up = len(rig.listed("--state", "dead") or [])
            broken = ["sent again"] if len(again) > 2 else []
            delivered = {i for i in rig.accepted if all(key in before for key in [(i, r) for r in rig.accepted[i]])}
            dead = {str(m.get("id")) for m in rig.listed("--state", "dead") or []}
            if bounced := sum(rig.queue_ids[i] in dead for i in delivered):
                broken.append(f"{bounced} bounced though delivered")
            return {"sent_again": len(again), "given_up": given_up, "broken": broken}

        kind = {13: "table leaf", 5: "table interior", 10: "index leaf", 2: "index interior"}[data[at + 24]]
        good &= case(rig, f"frame {frame} of {frames}, {kind}, page {word(data, at)}", work)
    sound.close()
    return good


@scenario
def told_by_a_command(options):
    """Damage that a command finds first, while the relay is stopped: is anybody told what is lost?"""
    sound = Sound(options, "stopped", count=60)
    length = os.path.getsize(os.path.join(sound.rig.queue, "queue.db"))
    good = True
    for first in (("status",), ("queue", "list"), None):
        def work(rig):
            os.truncate(os.path.join(rig.queue, "queue.db"), length // 2 // PAGE * PAGE)
            if first:
                rig.cli(*first)
            return survive(rig, look=False, restarts=0)

        good &= case(sound.copy("told-by-a-command"), " ".join(first or ("the relay itself",)), work)
    sound.rig.close()
    return good


@scenario
def restarts_on_a_broken_disk(options):
    """Syncs of the log fail for good and something starts the relay again and again: what fills the disk meanwhile."""
    sound = Sound(options, "killed", count=200)
    good = True
    for call, name in (("sync", "queue.db-wal"), ("sync", "queue.db"), ("sync", "*"), ("write", "queue.db-wal"),
                       ("read", "queue.db")):
        def work(rig):
            def size():
                files = [(d, os.stat(os.path.join(d, f))) for d, _, names in os.walk(rig.queue) for f in names]
                return sum(s.st_blocks * 512 for d, s in files if s.st_nlink == 1 or "damaged" not in d)

            before = size()
            ends = []
            for _ in range(6):
                rig.fault((call, name, 0, -1, 0, EIO))
                rig.start(faults=True, wait=10)
                if rig.is_running():
                    rig.send([SMALL], timeout=10)
                    try:
                        rig.process.wait(5)
                    except subprocess.TimeoutExpired:
                        pass
                ends.append(rig.process.poll())
                rig.kill()
            grown = (size() - before) >> 10
            rig.fault()
            broken = ["start on the healed disk"] if rig.start() is None else []
            rig.deliver()
            if grown > 4096:
                broken.append(f"{grown} KiB more after six starts")
            kept = len(glob.glob(rig.queue + "/damaged/*"))
            return {"ends": ends, "grown_kib": grown, "kept_copies": kept, "broken": broken}

        good &= case(sound.copy("restarts-on-a-broken-disk"), f"{call} {name}", work)
    sound.rig.close()
    return good


@scenario
def files_changed(options):
    """queue.db cut, lengthened, emptied, replaced, removed; -shm garbage; a content's file cut, flipped, removed."""
    sound = Sound(options, "stopped", count=100)
    database = os.path.join(sound.rig.queue, "queue.db")
    length = os.path.getsize(database)

    def foreign(path):
        os.unlink(path)
        conn = sqlite3.connect(path)
        conn.executescript("CREATE TABLE t (a); INSERT INTO t VALUES (1);")
        conn.close()

    def content(change):
        return lambda q: change(sorted(glob.glob(q + "/bodies/*"))[3])

    cases = {
        "cut by a page": lambda q: os.truncate(q + "/queue.db", length - PAGE),
        "cut to half": lambda q: os.truncate(q + "/queue.db", length // 2 // PAGE * PAGE),
        "cut within a page": lambda q: os.truncate(q + "/queue.db", length // 2 // PAGE * PAGE + 100),
        "100 KB of garbage behind it": lambda q: overwrite(q + "/queue.db", length, random.randbytes(100_000)),
        "emptied": lambda q: os.truncate(q + "/queue.db", 0),
        "100 bytes": lambda q: os.truncate(q + "/queue.db", 100),
        "first sector zero": lambda q: overwrite(q + "/queue.db", 0, bytes(512)),
        "another database": lambda q: foreign(q + "/queue.db"),
        "text": lambda q: open(q + "/queue.db", "w").write("hello\n"),
        "removed": lambda q: os.unlink(q + "/queue.db"),
        "a log of garbage": lambda q: open(q + "/queue.db-wal", "wb").write(random.randbytes(200_000)),
        "a -shm of garbage": lambda q: open(q + "/queue.db-shm", "wb").write(random.randbytes(32768)),
        "a content removed": content(os.unlink),
        "a content cut": content(lambda p: os.truncate(p, 1000)),
        "a content: one bit": content(lambda p: overwrite(p, 5000, bytes([open(p, "rb").read()[5000] ^ 1]))),
        "a content: longer": content(lambda p: open(p, "ab").write(b"x")),
        "bodies/ removed": lambda q: shutil.rmtree(q + "/bodies"),
    }
    good = True
    for name, f in cases.items():
        def work(rig, f=f):
            f(rig.queue)
            return survive(rig, look=False)
        good &= case(sound.copy("files-changed"), name, work)
    sound.rig.close()
    return good


@scenario
def bits(options):
    """One bit of queue.db flips, anywhere but in contents: what is neither sent nor named is lost, a loop doubles."""
    sound = Sound(options, "stopped", count=40)
    data = open(os.path.join(sound.rig.queue, "queue.db"), "rb").read()
    kinds = pages(data)
    at_will = [n for n, (kind, name) in kinds.items() if kind in ("leaf", "interior") and name in (
        "message", "ready", "message_state", "body", "body_in_file", "deferred", "schema", "total", "clock")]
    good, began = True, time.monotonic()
    while time.monotonic() < began + options.seconds:
        number = random.choice(at_will)
        used = [n for n in range(PAGE) if data[(number - 1) * PAGE + n]]
        offset, bit = (number - 1) * PAGE + random.choice(used), random.randrange(8)

        def work(rig):
            overwrite(os.path.join(rig.queue, "queue.db"), offset, bytes([data[offset] ^ 1 << bit]))
            return survive(rig, look=False, restarts=0)

        where = f"{' '.join(kinds[number])} page {number} byte {offset % PAGE} bit {bit}"
        good &= case(sound.copy("bits"), where, work)
    sound.rig.close()
    return good


def row_header(data, kinds, table, row, column):
    """Where the type of a column of a row stands: (offset in the file, value)."""
    for number, kind in sorted(kinds.items()):
        if kind != ("leaf", table):
            continue
        at = (number - 1) * PAGE
        for n in range(struct.unpack_from(">H", data, at + 3)[0]):
            cell = at + struct.unpack_from(">H", data, at + 8 + 2 * n)[0]
            _, cell = varint(data, cell)
            if table in ("message", "body"):
                rowid, cell = varint(data, cell)
                if rowid != row:
                    continue
            header, cell = varint(data, cell)
            for _ in range(column):
                _, cell = varint(data, cell)
            return cell, data[cell]
    return None


@scenario
def one_bit_of_a_state(options):
    """The bit that makes a queued message's state another one, while the index still has it: how often is it sent?"""
    sound = Sound(options, "stopped", count=20)
    database = os.path.join(sound.rig.queue, "queue.db")
    data = open(database, "rb").read()
    conn = sqlite3.connect(f"file:{database}?immutable=1", uri=True)
    row = conn.execute("SELECT id FROM message WHERE state = 0 ORDER BY id LIMIT 1 OFFSET 5").fetchone()[0]
    conn.close()
    good = True
    for column, name in ((2, "state"), (3, "due"), (6, "attempts"), (1, "account")):
        where = row_header(data, pages(data), "message", row, column)

        def work(rig):
            overwrite(os.path.join(rig.queue, "queue.db"), where[0], bytes([where[1] ^ 1]))
            assert rig.start() is not None
            rig.down(False)
            time.sleep(8)
            seen = {"lines": rig.log_text().count("\n")}
            rig.stop()
            return seen

        good &= case(sound.copy("one-bit-of-a-state"), f"the type of message.{name}", work)
    sound.rig.close()
    return good


@scenario
def pages_running(options):
    """Pages change under a running relay, smart host down; then list, export, new mail, delivery, 2 restarts."""
    sound = Sound(options, "stopped", count=120)
    data = open(os.path.join(sound.rig.queue, "queue.db"), "rb").read()
    by_kind = collections.defaultdict(list)
    for number, kind in pages(data).items():
        by_kind[kind].append(number)
    good, began = True, time.monotonic()
    for kind, numbers in sorted(by_kind.items()):
        if time.monotonic() > began + options.seconds:
            break
        number = random.choice(numbers)

        def work(rig):
            rig.down()
            assert rig.start() is not None
            at = (number - 1) * PAGE
            overwrite(os.path.join(rig.queue, "queue.db"), at, patterns(data[at:at + PAGE], "random"))
            listing, broken = rig.listed(), []
            if listing is None or len(listing) < len(rig.accepted) - 40:
                broken.append(f"list (running): {None if listing is None else len(listing)}")
            to = os.path.join(rig.directory, "exported")
            code, _, error = rig.cli("queue", "export", "--to", to)
            exported = len(glob.glob(to + "/*.eml"))
            if exported < len(rig.accepted) - 40:
                broken.append(f"export (running): {exported} of {len(rig.accepted)}")
            if rig.send([SMALL] * 5, timeout=10) < 5:
                broken.append("intake")
            rig.deliver()
            for _ in range(2):
                rig.kill()
                if rig.start() is None:
                    broken.append("restart")
                    break
                rig.deliver(quiet=3)
            return {"broken": broken, "exported": exported}

        good &= case(sound.copy("pages-running"), f"{' '.join(kind)} page {number}", work)
    sound.rig.close()
    return good


@scenario
def damage_again_and_again(options):
    """The first page of what is to be sent next is damaged, seven times, in a relay that goes on running."""
    def work(rig):
        assert rig.start() is not None
        broken = []
        for n in range(7):
            rig.down()
            rig.send([SMALL] * 250)
            time.sleep(3)  # the log is emptied
            database = os.path.join(rig.queue, "queue.db")
            data = open(database, "rb").read()
            root = sqlite3.connect(f"file:{database}?immutable=1", uri=True).execute(
                "SELECT rootpage FROM sqlite_master WHERE name = 'ready'").fetchone()[0]
            first = root
            while data[(first - 1) * PAGE] == 2:
                at = (first - 1) * PAGE
                first = word(data, at + struct.unpack_from(">H", data, at + 12)[0])
            overwrite(database, (first - 1) * PAGE, bytes(PAGE))
            if rig.send([SMALL] * 2, timeout=10) < 2:
                broken.append(f"intake after damage {n + 1}")
            rig.deliver(quiet=8)
            if left := len(rig.journal.missing(rig.accepted)):
                broken.append(f"delivery after damage {n + 1}: {left} wait")
                break
        kept = sum(os.path.getsize(p) for p in glob.glob(rig.queue + "/damaged/*/*"))
        return {"broken": broken, "kept_mib": kept >> 20, "is_running": rig.is_running(),
                "rebuilt": rig.events().get("queue_rebuilt")}

    return case(Rig(options, "damage-again-and-again"), "ready, seven times", work)


# Failing calls


CALLS = [
    ("sync", "queue.db-wal"), ("sync", "queue.db"), ("sync", "."), ("sync", "bodies"), ("sync", "bodies/*"),
    ("write", "queue.db-wal"), ("write", "queue.db"), ("write", "bodies/*"), ("read", "queue.db"),
    ("read", "queue.db-wal"), ("create", "bodies/*"), ("rename", "bodies/*"), ("link", "bodies/*"),
    ("unlink", "bodies/*"), ("open", "bodies/*"), ("truncate", "queue.db-wal"), ("open", "queue.db*"), ("sync", "*"),
    ("write", "*"),
]


def fail_and_cut(rig, rules, hold=1.0, before=20, after=20, cut=True):
    """Mail, a fault, mail, a power cut; then whatever got a 250 must be there."""
    more = {}
    rig.down()
    assert rig.start(shadow=True) is not None
    rig.send([SMALL, ROW, FILE] * (before // 3), recipients=1)
    rig.fault(*rules)
    until = time.monotonic() + hold
    during = 0
    while time.monotonic() < until and rig.is_running():
        during += rig.send([SMALL, FILE, ROW], recipients=2, timeout=10)
        time.sleep(0.05)
    more["during"] = during
    rig.fault()
    if rig.is_running():
        more["after"] = rig.send([SMALL, ROW, FILE] * (after // 3), timeout=10)
        if not more["after"]:
            more["until_taken_s"] = rig.seconds_until_taken()
    else:
        more["exit"] = rig.process.returncode
    more["fired"] = sum(1 for _ in open(rig.fired)) if os.path.exists(rig.fired) else 0
    rig.power_cut() if cut else rig.kill()
    if rig.start() is None:
        return {**more, "broken": ["start after the cut"], "tail": rig.log_text()[-500:]}
    rig.deliver()
    broken = ["mail refused for good"] if more.get("after") == 0 and more.get("until_taken_s") is None else []
    return {**more, "broken": broken}


@scenario
def lost_sync(options):
    """One call fails: once, a few times, for 200 ms. Then 20 mails, and a power cut that takes what was not synced."""
    good, began = True, time.monotonic()
    cases = [(*call, *how) for call in CALLS
             for how in ((1, 0, EIO), (2, 0, EIO), (3, 0, EIO), (-1, 200, EIO), (1, 0, ENOSPC))]
    random.shuffle(cases)
    for call, name, count, ms, error in cases:
        if time.monotonic() > began + options.seconds:
            break
        good &= case(Rig(options, "lost-sync"), f"{call} {name} count={count} ms={ms} errno={error}",
                     lambda rig: fail_and_cut(rig, [(call, name, 0, count, ms, error)]))
    return good


@scenario
def lost_bookkeeping(options):
    """Deferred mail becomes due, the next sync fails once, 20 mails get their 250, the power is cut."""
    good = True
    smart_host.REPLIES["later"] = "450 4.2.1 The recipient's mailbox is busy"
    later = smart_host.Fault("rcpt", "later", 0, float("inf"), 1)
    for size in (SMALL, ROW, FILE):
        for count in (1, 2):
            def work(rig):
                assert rig.start(shadow=True) is not None
                rig.host.faults[:] = [later]
                rig.send([SMALL] * 3)
                # Tried once and deferred, by at least 0.5 s; what makes them due again needs no sync of its own.
                time.sleep(0.4)
                rig.fault(("sync", "queue.db-wal", 0, count, 0, EIO))
                until = time.monotonic() + 8
                while time.monotonic() < until and rig.is_running() and not (
                        os.path.exists(rig.fired) and sum(1 for _ in open(rig.fired)) == count):
                    time.sleep(0.01)
                time.sleep(0.05)
                taken = rig.send([size] * 20, timeout=10)
                fired = sum(1 for _ in open(rig.fired)) if os.path.exists(rig.fired) else 0
                rig.fault()
                rig.power_cut()
                if rig.start() is None:
                    return {"broken": ["start after the cut"], "tail": rig.log_text()[-400:]}
                rig.deliver()
                return {"fired": fired, "after": taken}

            good &= case(Rig(options, "lost-bookkeeping"), f"{count} failed, then 20 of {size} bytes", work)
    return good


@scenario
def reads(options):
    """Reads fail for a moment, and heal: under a running relay, and at a start. Nothing was lost on the disk."""
    sound = Sound(options, "killed", count=120)
    good = True
    for name in ("queue.db", "queue.db-wal", "queue.db*"):
        for count, ms in ((1, 0), (3, 0), (-1, 200), (-1, 3000)):
            for at_start in (False, True):
                def work(rig):
                    rig.down()
                    if at_start:
                        rig.fault(("read", name, 0, count, ms, EIO))
                        ends = []
                        for _ in range(8):
                            if rig.start(faults=True, wait=10) is not None:
                                break
                            ends.append(rig.process.poll())
                            time.sleep(0.5)
                    else:
                        assert rig.start(faults=True) is not None
                        rig.send([SMALL, ROW] * 10)
                        ends = []
                        rig.fault(("read", name, 0, count, ms, EIO))
                        rig.down(False)
                        time.sleep(max(ms / 1000, 0.2))
                    rig.fault()
                    if not rig.is_running():
                        ends.append(rig.process.poll())
                        rig.start()
                    rig.deliver()
                    fired = sum(1 for _ in open(rig.fired)) if os.path.exists(rig.fired) else 0
                    missing = len(rig.journal.missing(rig.accepted))
                    return {"fired": fired, "ends": ends, "rebuilt": rig.events().get("queue_rebuilt"),
                            "broken": [f"{missing} not delivered"] if missing else []}

                when = "at a start" if at_start else "running"
                good &= case(sound.copy("reads"), f"{name} count={count} ms={ms} {when}", work)
    sound.rig.close()
    return good


@scenario
def lost_sync_no_mending(options):
    """As lost-sync, while no second database can be made, for want of room or because its calls fail as well."""
    good = True
    for count in (1, 2, 3, 4, 5, 6):
        for also in ([("create", "queue.db.new*", 0, -1, 0, EIO)], [("link", "*", 0, -1, 0, EIO)],
                     [("sync", "queue.db.new*", 0, -1, 0, EIO)], [("mkdir", "damaged*", 0, -1, 0, EIO)]):
            rules = [("sync", "queue.db-wal", 0, count, 0, EIO), *also]
            good &= case(Rig(options, "lost-sync-no-mending"), f"wal syncs failed: {count}, {also[0][:2]}",
                         lambda rig: fail_and_cut(rig, rules))
    return good


@scenario
def lost_checkpoint(options):
    """A checkpoint's writes and syncs fail under load, at any of them; deliveries go on; then a power cut."""
    good, began = True, time.monotonic()
    while time.monotonic() < began + options.seconds:
        call, name = random.choice([("sync", "queue.db"), ("write", "queue.db"), ("sync", "queue.db-wal"),
                                    ("truncate", "*"), ("sync", "*"), ("write", "queue.db-wal")])
        skip, count = random.randrange(0, 60), random.choice([1, 1, 2, 3])
        cut_after = random.uniform(1, 6)

        def work(rig):
            assert rig.start(shadow=True) is not None
            rig.fault((call, name, skip, count, 0, EIO))
            over = threading.Event()

            def load():
                while not over.is_set() and rig.is_running():
                    rig.send([SMALL, 50_000, FILE, ROW], timeout=5)

            loader = threading.Thread(target=load)
            loader.start()
            time.sleep(cut_after)
            at = time.time()
            rig.kill()
            over.set()
            loader.join()
            rig.power_cut()
            rig.fault()
            if rig.start() is None:
                return {"broken": ["start"], "tail": rig.log_text()[-500:]}
            rig.deliver()
            # On its way at the cut, or acknowledged to the relay just before it.
            late = {i for (i, _), c in rig.journal.copies.items() if len(c) > 1 and at - c[0][0] < 0.25}
            for key in [k for k in rig.journal.copies if k[0] in late]:
                del rig.journal.copies[key][1:]
            return {"excused": len(late)}

        good &= case(Rig(options, "lost-checkpoint"), f"{call} {name} skip={skip} count={count} cut={cut_after:.1f}",
                     work)
    return good


@scenario
def broken_for_good(options):
    """Nothing can be written any more: how long until the end, with what code, and what a healed disk delivers."""
    good = True
    for name, rules in {
        "all syncs": [("sync", "*", 0, -1, 0, EIO)],
        "all writes": [("write", "*", 0, -1, 0, EIO)],
        "writes and syncs": [("sync", "*", 0, -1, 0, EIO), ("write", "*", 0, -1, 0, EIO)],
        "syncs of the log": [("sync", "queue.db-wal", 0, -1, 0, EIO)],
        "everything": [(c, "*", 0, -1, 0, EIO) for c in ("sync", "write", "read", "create", "open", "rename", "unlink")],
    }.items():
        for busy in (True, False):
            def work(rig):
                rig.down(busy is False)
                assert rig.start(faults=True) is not None
                rig.down()
                rig.send([SMALL, ROW, FILE] * 20)
                rig.down(not busy)
                time.sleep(0.3 if busy else 0)
                rig.fault(*rules)
                began = time.monotonic()
                if not busy:
                    rig.send([SMALL], timeout=60)
                try:
                    rig.process.wait(60)
                except subprocess.TimeoutExpired:
                    pass
                more = {"ended_after_s": round(time.monotonic() - began, 1), "exit": rig.process.poll()}
                broken = [] if more["exit"] == 74 and more["ended_after_s"] < 6 else ["end"]
                rig.kill()
                rig.fault()
                if rig.start(faults=True) is None:
                    return {**more, "broken": broken + ["start on the healed disk"]}
                rig.deliver()
                return {**more, "broken": broken}

            good &= case(Rig(options, "broken-for-good"), f"{name}, {'sending' if busy else 'taking one'}", work)
    return good


@scenario
def settlements(options):
    """Deliveries while the rows they end in cannot be read: copies of one message over three restarts."""
    sound = Sound(options, "stopped", count=40)
    data = open(os.path.join(sound.rig.queue, "queue.db"), "rb").read()
    kinds = pages(data)
    good = True
    for table in ("message", "message_state", "finished", "ready", "attempt", "total", "delivered", "turn", "served",
                  "body", "body_in_file", "clock"):
        for eio in (True, False):
            numbers = [n for n, k in kinds.items() if k == ("leaf", table)]
            if not numbers:
                continue

            def work(rig):
                database = os.path.join(rig.queue, "queue.db")
                at = (numbers[-1] - 1) * PAGE
                ino = os.stat(database).st_ino
                rig.down()
                assert rig.start(faults=True) is not None
                if eio:
                    rig.fault(("read", "*", 0, -1, 0, EIO, at, at + PAGE, ino), ("write", "*", 0, -1, 0, EIO, at, at + PAGE, ino))
                else:
                    overwrite(database, at, bytes(PAGE))
                rig.down(False)
                ends = []
                for _ in range(3):
                    rig.deliver(quiet=5)
                    ends.append(rig.process.poll())
                    rig.kill()
                    if rig.start(faults=True) is None:
                        return {"broken": ["start"], "tail": rig.log_text()[-500:]}
                return {"ends": ends, "unsound": sum(e is not None for e in ends)}

            good &= case(sound.copy("settlements"), f"{table} {'EIO' if eio else 'zero'}", work)
    sound.rig.close()
    return good


# Space


class SmallDisk:
    """An ext4 of its own on a loop device."""

    def __init__(self, mib):
        self.top = tempfile.mkdtemp(prefix="disk-small-")
        image, self.path = os.path.join(self.top, "image"), os.path.join(self.top, "mount")
        os.mkdir(self.path)
        with open(image, "wb") as file:
            file.truncate(mib << 20)
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", image], check=True)
        subprocess.run(["mount", "-o", "loop", image, self.path], check=True)

    def free(self):
        s = os.statvfs(self.path)
        return s.f_bavail * s.f_frsize

    def fill(self, leave=0):
        with open(os.path.join(self.path, "other-program"), "ab", buffering=0) as file:
            try:
                while (left := self.free() - leave) > 0:
                    if not file.write(bytes(min(left, 1 << 20))):
                        break
            except OSError:
                pass

    def give_back(self):
        os.unlink(os.path.join(self.path, "other-program"))

    def close(self):
        subprocess.run(["umount", "-l", self.path], check=False)
        shutil.rmtree(self.top, ignore_errors=True)


def on_small_disk(options, name, work, mib=200, min_free="50 MiB"):
    if os.geteuid() != 0:
        print(json.dumps({"scenario": "space", "case": name, "skipped": "needs root"}))
        return True
    disk = SmallDisk(mib)
    try:
        queue = os.path.join(disk.path, "queue")
        return case(Rig(options, "space", min_free=min_free, queue=queue), name, lambda rig: work(rig, disk))
    finally:
        disk.close()


def fill_by_mail(rig, size=55_000, most=4000):
    rig.down()
    count = 0
    while count < most and rig.send([size] * 50, stop_at_refusal=True) == 50:
        count += 50
    return count


def watch(rig, disk, seconds):
    """The largest log and the least room within some seconds."""
    log, least, until = 0, 1 << 60, time.monotonic() + seconds
    while time.monotonic() < until:
        log, least = max(log, rig.sizes()["wal_mib"]), min(least, disk.free())
        time.sleep(0.02)
    return log, least


def resumes(rig, limit, broken, what):
    took = rig.seconds_until_taken(55_000, patience=30)
    if took is None or took > limit:
        broken.append(f"intake {what}: {took}")
    return took


@scenario
def space_drained(options):
    """55 KB mails until 452 during an outage; all delivered; intake must be back, and the log small."""
    def work(rig, disk):
        assert rig.start() is not None
        broken = []
        fill_by_mail(rig)
        filled = {**rig.sizes(), "free_mib": disk.free() >> 20}
        rig.refused.clear()
        rig.deliver(quiet=20)
        took = resumes(rig, 5, broken, "after the drain")
        time.sleep(5)
        sizes = {**rig.sizes(), "free_mib": disk.free() >> 20}
        if sizes["wal_mib"] > 8:
            broken.append("the log's size")
        rig.deliver()
        again = fill_by_mail(rig)
        rig.deliver(quiet=20)
        return {"filled": filled, "until_taken_s": took, "then": sizes, "second_fill": again, "broken": broken}
    return on_small_disk(options, "drained", work)


@scenario
def space_removed(options):
    """Filled, then `queue remove`: all of it, and half of it; giving space back must not take the last of it."""
    def remove(half):
        def work(rig, disk):
            assert rig.start() is not None
            broken = []
            fill_by_mail(rig)
            ids = [rig.queue_ids[i] for i in rig.accepted]
            gone = ids[::2] if half else ids
            seen = {}
            watcher = threading.Thread(target=lambda: seen.update(zip(("log", "least"), watch(rig, disk, 12))))
            watcher.start()
            code, _, error = rig.cli("queue", "remove", *(gone if half else ["--all"]))
            went = set(gone)
            rig.accepted = {i: to for i, to in rig.accepted.items() if rig.queue_ids[i] not in went}
            rig.refused.clear()
            took = resumes(rig, 5, broken, "after the removal")
            watcher.join()
            if code != 0:
                broken.append(f"remove: {code} {error[:100]}")
            if seen["least"] < 16 << 20:
                broken.append(f"least room {seen['least'] >> 20} MiB")
            time.sleep(3)
            sizes = {**rig.sizes(), "free_mib": disk.free() >> 20}
            rig.deliver(quiet=20)
            return {"until_taken_s": took, "log_max_mib": seen["log"], "least_mib": seen["least"] >> 20, "then": sizes,
                    "broken": broken}
        return work
    return on_small_disk(options, "all removed", remove(False)) & on_small_disk(options, "half removed", remove(True))


@scenario
def space_taken_by_others(options):
    """Another program takes the last byte, and gives it back; mail is sent, taken and settled meanwhile; restarts."""
    def work(rig, disk, free_pages, restart):
        assert rig.start() is not None
        broken = []
        rig.down()
        rig.send([55_000] * (900 if free_pages else 200))
        if free_pages:
            gone = [rig.queue_ids[i] for i in list(rig.accepted)[:700]]
            disk.fill(leave=2 << 20)
            for n in range(0, 700, 100):
                rig.cli("queue", "remove", *gone[n:n + 100])
            rig.accepted = {i: to for i, to in rig.accepted.items() if rig.queue_ids[i] not in set(gone)}
        disk.fill()
        time.sleep(1.5)
        took = rig.send([SMALL, 55_000, FILE] * 5, timeout=10)
        disk.fill()
        more = {"taken_while_full": took}
        if restart:
            rig.kill()
            more["start_while_full_s"] = rig.start()
            if more["start_while_full_s"] is None:
                broken.append("start on a full disk")
                more["tail"] = rig.log_text()[-400:]
        if rig.is_running():
            rig.deliver(quiet=15)
            more["undelivered_while_full"] = len(rig.journal.missing(rig.accepted))
        disk.give_back()
        if not rig.is_running():
            rig.start()
        rig.refused.clear()
        more["until_taken_s"] = resumes(rig, 5, broken, "after the disk was given back")
        rig.deliver(quiet=15)
        time.sleep(3)
        return {**more, **rig.sizes(), "broken": broken}
    good = on_small_disk(options, "full, no free pages", lambda r, d: work(r, d, False, False))
    good &= on_small_disk(options, "full, free pages in the file", lambda r, d: work(r, d, True, False))
    good &= on_small_disk(options, "full, restarted", lambda r, d: work(r, d, False, True))
    return good


@scenario
def space_reader(options):
    """Another program reads the database and stays; mail comes and goes; then it leaves."""
    def work(rig, disk):
        assert rig.start() is not None
        broken = []
        rig.send([SMALL] * 20)
        reader = sqlite3.connect(os.path.join(rig.queue, "queue.db"), isolation_level=None)
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM message").fetchone()
        seen = {}
        watcher = threading.Thread(target=lambda: seen.update(zip(("log", "least"), watch(rig, disk, 40))))
        watcher.start()
        until = time.monotonic() + 40
        while time.monotonic() < until and rig.is_running():
            if not rig.send([55_000] * 50, timeout=10, stop_at_refusal=True):
                time.sleep(1)
        watcher.join()
        running = rig.is_running()
        reader.execute("ROLLBACK")
        reader.close()
        rig.refused.clear()
        took = resumes(rig, 5, broken, "after the reader left")
        if not running:
            broken.append("the process ended")
        if seen["least"] < 1 << 20:
            broken.append(f"least room {seen['least'] >> 10} KiB")
        rig.deliver(quiet=20)
        time.sleep(4)
        return {"log_max_mib": seen["log"], "least_mib": seen["least"] >> 20, "until_taken_s": took, "then": rig.sizes(),
                "broken": broken}
    return on_small_disk(options, "a reader stays", work)


@scenario
def space_damaged(options):
    """An index page is damaged on a disk without room for a second database, stopped and running."""
    def work(rig, disk, running):
        rig.down()
        assert rig.start() is not None
        broken = []
        rig.send([20_000] * 1500, stop_at_refusal=True)
        time.sleep(3)
        if not running:
            rig.stop()
        database = os.path.join(rig.queue, "queue.db")
        data = open(database, "rb").read()
        page = [n for n, k in pages(data).items() if k == ("leaf", "ready")][0]
        disk.fill(leave=12 << 20)
        overwrite(database, (page - 1) * PAGE, bytes(PAGE))
        rig.refused.clear()
        more = {"db_mib": rig.sizes()["db_mib"], "free_mib": disk.free() >> 20}
        if not running and rig.start() is None:
            broken.append("start")
        rig.deliver(quiet=15)
        more["delivered_without_room"] = len(rig.accepted) - len(rig.journal.missing(rig.accepted))
        if more["delivered_without_room"] < len(rig.accepted) - 100:
            broken.append("delivery")
        disk.give_back()
        if not rig.is_running():
            more["exit"] = rig.process.poll()
            rig.start()
        rig.deliver(quiet=15)
        more["until_taken_s"] = resumes(rig, 10, broken, "after there was room")
        return {**more, "free_then_mib": disk.free() >> 20, "broken": broken}
    return (on_small_disk(options, "ready zeroed, stopped", lambda r, d: work(r, d, False), min_free="1 MiB")
            & on_small_disk(options, "ready zeroed, running", lambda r, d: work(r, d, True), min_free="1 MiB"))


@scenario
def reader_stays(options):
    """A reader that stays on a large disk: the log's bound, while mail comes, and while a backlog is delivered."""
    def work(rig):
        assert rig.start() is not None
        broken, log = [], 0
        rig.down()
        rig.send([SMALL] * 20)
        reader = sqlite3.connect(os.path.join(rig.queue, "queue.db"), isolation_level=None)
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM message").fetchone()
        for _ in range(160):
            if rig.send([55_000] * 50, timeout=20, stop_at_refusal=True) < 50:
                break
            log = max(log, rig.sizes()["wal_mib"])
        at_refusal = rig.sizes()["wal_mib"]
        rig.deliver(quiet=10)
        drained = rig.sizes()["wal_mib"]
        if drained > 300:
            broken.append(f"a log of {drained} MiB")
        reader.execute("ROLLBACK")
        reader.close()
        heard = dict(rig.refused)
        took = resumes(rig, 5, broken, "after the reader left")
        time.sleep(4)
        return {"at_refusal_mib": at_refusal, "drained_mib": drained, "heard": heard, "until_taken_s": took, "then": rig.sizes(),
                "broken": broken}
    return case(Rig(options, "reader-stays"), "smart host down, then up", work)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/release/mailferry", help="the relay")
    parser.add_argument("--scenario", action="append", choices=sorted(SCENARIOS), help="only this one; repeatable")
    parser.add_argument("--list", action="store_true", help="the scenarios")
    parser.add_argument("--seconds", type=float, default=120, help="for a scenario that draws at random, at most")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", action="store_true", help="the directories of cases that broke a promise")
    options = parser.parse_args()
    if options.list:
        for name, function in SCENARIOS.items():
            print(f"{name:24} {function.__doc__}")
        return 0
    options.binary = os.path.abspath(options.binary)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(prefix="disk-shim-") as built:
        options.shim = os.path.join(built, "disk_faults.so")
        subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", options.shim, os.path.join(HERE, "disk_faults.c"), "-ldl",
                        "-pthread"], check=True)
        results = {}
        for name in options.scenario or SCENARIOS:
            random.seed(options.seed)
            results[name] = SCENARIOS[name](options)
    bad = [name for name, good in results.items() if not good]
    print(f"{'FAIL: ' + ', '.join(bad) if bad else 'PASS'} ({len(results)} scenarios)")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
