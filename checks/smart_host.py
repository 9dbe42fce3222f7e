#!/usr/bin/env python3
"""A scripted smart host on loopback: STARTTLS, then AUTH LOGIN or PLAIN, then mail, and faults on request.

Owns the account of what was delivered: a message is in the journal, flushed, before its 250 is sent, so
a message the relay believes delivered and the journal lacks is the smart host's fault and nobody else's.
Must not know which relay talks to it.

    checks/smart_host.py --directory DIR [--port N] [--fault STAGE:REPLY[:from=S][:for=S][:fraction=F]] ...

DIR receives the certificates, `journal` (one line of JSON a message) and `damaged/` (messages whose content
is not what their digest says). The first line on standard output is JSON with the port and the CA file; after
SIGTERM, SIGINT or `--lifetime` seconds the last one is JSON with what was counted.

Faults: STAGE is connect, ehlo, auth, mail, rcpt, data or dot. REPLY is prx4, badlogin, busy, slowdown, refused
or drop (close without a word; at `dot`, half of the dropped messages are in the journal and half are not,
as after a real lost reply). A fault holds from `from` seconds after the start, for `for` seconds (default: for
good), for the `fraction` of the cases (default: all of them).
    --fault auth:badlogin:for=60      535 for the first minute
    --fault mail:prx4:fraction=0.1    PRX4 for every tenth message
    --fault dot:drop:fraction=0.01    an unknown outcome for every hundredth
`--max-connections N` answers 432 at the end of data while more than N connections are open.
"""

import argparse
import base64
import binascii
import dataclasses
import hashlib
import json
import os
import random
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time

# As they stand in Exchange Online's answers.
REPLIES = {
    "prx4": "451 4.7.0 Temporary server error. Please try again later. PRX4",
    "badlogin": "535 5.7.3 Authentication unsuccessful",
    "busy": "421 4.3.2 Service not available",
    "slowdown": "421 4.4.2 Message submission rate for this client has exceeded the configured limit",
    "refused": "550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found",
    "drop": None,
}
STAGES = ("connect", "ehlo", "auth", "mail", "rcpt", "data", "dot")
TOO_MANY = "432 4.3.2 STOREDRV.ClientSubmit; sender thread limit exceeded"
MAX_MESSAGE_BYTES = 150 << 20
MAX_LINE_BYTES = 64 << 10
IDLE_SECONDS = 300


class Closed(Exception):
    """The connection is over, from whichever side."""


@dataclasses.dataclass(frozen=True)
class Fault:
    stage: str
    reply: str
    start_s: float
    end_s: float
    fraction: float

    @classmethod
    def parse(cls, text):
        stage, reply, *settings = text.split(":")
        values = dict(setting.split("=", 1) for setting in settings)
        start = float(values.pop("from", 0))
        end = start + float(values.pop("for", "inf"))
        fraction = float(values.pop("fraction", 1))
        if stage not in STAGES or reply not in REPLIES or values or not 0 <= fraction <= 1:
            raise ValueError(text)
        return cls(stage, reply, start, end, fraction)


class Account:
    """The journal and the counters, shared by all connections."""

    def __init__(self, directory):
        self.lock = threading.Lock()
        self.journal = open(os.path.join(directory, "journal"), "a", encoding="ascii")
        self.damaged = os.path.join(directory, "damaged")
        self.open = 0
        self.counts = dict.fromkeys(
            ("connections", "connections_at_once_max", "logins", "logins_refused", "accepted", "damaged",
             "not_clean", "sent_432", "disconnects"), 0)
        self.faults = {}

    def add(self, name):
        with self.lock:
            self.counts[name] += 1

    def connected(self, by):
        with self.lock:
            self.open += by
            if by > 0:
                self.counts["connections"] += 1
                self.counts["connections_at_once_max"] = max(self.counts["connections_at_once_max"], self.open)

    def fault(self, fault):
        name = f"{fault.stage}:{fault.reply}"
        with self.lock:
            self.faults[name] = self.faults.get(name, 0) + 1

    def record(self, content, reverse_path, recipients, connection, answered):
        head, _, body = content.partition(b"\r\n\r\n")
        check_id, digest = header(head, "X-Check-Id"), header(head, "X-Check-Digest")
        whole = not digest or hashlib.sha256(body).hexdigest() == digest
        # RFC 5321 2.3.8 and 4.5.3.1.6: no lone CR or LF, no NUL, no line above 998 octets.
        bare = content.replace(b"\r\n", b"")
        longest = max(map(len, content.split(b"\r\n")))
        clean = longest <= 998 and not any(octet in bare for octet in (b"\r", b"\n", b"\0"))
        if not whole:
            os.makedirs(self.damaged, exist_ok=True)
            with open(os.path.join(self.damaged, f"{time.time_ns()}.eml"), "wb") as file:
                file.write(content)
        line = json.dumps({
            "id": check_id, "time": time.time(), "reverse_path": reverse_path, "recipients": recipients,
            "size_bytes": len(content), "whole": whole, "clean": clean, "answered": answered,
            "connection": connection})
        with self.lock:
            self.journal.write(line + "\n")
            self.journal.flush()
            self.counts["accepted"] += 1
            self.counts["damaged"] += not whole
            self.counts["not_clean"] += not clean

    def report(self):
        with self.lock:
            return self.counts | {"faults": dict(self.faults)}


def header(head, name):
    found = re.search(rb"(?im)^" + name.encode() + rb":[ \t]*([^\r\n]*)", head)
    return found.group(1).strip().decode("ascii", "replace") if found else None


class Connection:
    def __init__(self, host, sock, number):
        self.host, self.sock, self.number = host, sock, number
        self.buffer, self.out = bytearray(), bytearray()
        self.tls = self.login = False
        self.reverse_path, self.recipients = None, []

    # Input and output. Replies are held back while further commands are waiting, as pipelining wants it.

    def receive(self):
        self.flush()
        data = self.sock.recv(256 << 10)
        if not data:
            raise Closed
        self.buffer += data

    def flush(self):
        if self.out:
            self.sock.sendall(self.out)
            self.out.clear()

    def line(self):
        while (end := self.buffer.find(b"\n")) < 0:
            if len(self.buffer) > MAX_LINE_BYTES:
                self.say("500 5.5.2 Line too long")
                self.flush()
                raise Closed
            self.receive()
        line = bytes(self.buffer[:end]).rstrip(b"\r")
        del self.buffer[:end + 1]
        return line.decode("latin-1")

    def content(self):
        self.buffer[:0] = b"\r\n"
        start = 0
        while (end := self.buffer.find(b"\r\n.\r\n", start)) < 0:
            if len(self.buffer) > MAX_MESSAGE_BYTES:
                raise Closed
            start = max(0, len(self.buffer) - 4)
            self.receive()
        content = bytes(self.buffer[:end + 2])
        del self.buffer[:end + 5]
        return content.replace(b"\r\n.", b"\r\n")[2:]

    def say(self, *lines):
        code = lines[0][:3]
        texts = [lines[0][4:], *lines[1:]]
        for text in texts[:-1]:
            self.out += f"{code}-{text}\r\n".encode()
        self.out += f"{code} {texts[-1]}\r\n".encode()

    # The dialogue.

    def fails(self, stage):
        """Answers with the fault that holds at this stage, if any does."""
        fault = self.host.fault(stage)
        if not fault:
            return False
        self.answer(fault)
        return True

    def answer(self, fault):
        self.host.account.fault(fault)
        reply = REPLIES[fault.reply]
        if reply is None:
            raise Closed
        self.say(reply)
        if reply.startswith("421"):
            self.flush()
            raise Closed

    def run(self):
        if self.fails("connect"):
            self.flush()
            return
        self.say("220 localhost smart host of the checks")
        while True:
            line = self.line()
            verb, _, argument = line.partition(" ")
            command = getattr(self, "on_" + verb.lower(), None)
            if command is None:
                self.say("500 5.5.1 Unknown command")
            elif verb.lower() in ("mail", "rcpt", "data", "auth") and not self.tls:
                self.say("530 5.7.0 Must issue a STARTTLS command first")
            elif verb.lower() in ("mail", "rcpt", "data") and not self.login:
                self.say("530 5.7.57 Client was not authenticated to send anonymous mail")
            else:
                command(argument)

    def on_ehlo(self, _):
        if self.fails("ehlo"):
            return
        self.reset()
        extensions = ["PIPELINING", f"SIZE {MAX_MESSAGE_BYTES}", "8BITMIME", "ENHANCEDSTATUSCODES"]
        self.say("250 localhost", *extensions, "AUTH LOGIN PLAIN" if self.tls else "STARTTLS")

    def on_starttls(self, _):
        if self.tls:
            self.say("503 5.5.1 TLS is on")
            return
        self.buffer.clear()
        self.say("220 2.0.0 Ready")
        self.flush()
        self.sock = self.host.tls.wrap_socket(self.sock, server_side=True)
        self.tls = True

    def on_auth(self, argument):
        if self.login:
            self.say("503 5.5.1 Already authenticated")
            return
        mechanism, _, initial = argument.partition(" ")
        if mechanism.upper() == "PLAIN":
            given = self.decoded(initial or self.ask("")).split("\0")[1:]
        elif mechanism.upper() == "LOGIN":
            given = [self.decoded(initial or self.ask("VXNlcm5hbWU6")), self.decoded(self.ask("UGFzc3dvcmQ6"))]
        else:
            self.say("504 5.7.4 Unrecognized authentication type")
            return
        if self.fails("auth"):
            return
        if given == [self.host.user, self.host.password]:
            self.login = True
            self.host.account.add("logins")
            self.say("235 2.7.0 Authentication successful")
        else:
            self.host.account.add("logins_refused")
            self.say(REPLIES["badlogin"])

    def ask(self, prompt):
        self.say(f"334 {prompt}")
        return self.line()

    @staticmethod
    def decoded(text):
        try:
            return base64.b64decode(text, validate=True).decode("utf-8", "replace")
        except binascii.Error:
            return ""

    def on_mail(self, argument):
        if self.fails("mail"):
            return
        self.reset()
        found = re.match(r"(?i)FROM:<([^>]*)>", argument)
        if not found:
            self.say("501 5.5.4 Syntax error")
            return
        self.reverse_path = found.group(1)
        self.say("250 2.1.0 Sender OK")

    def on_rcpt(self, argument):
        if self.reverse_path is None:
            self.say("503 5.5.1 MAIL first")
            return
        if self.fails("rcpt"):
            return
        found = re.match(r"(?i)TO:<([^>]+)>", argument)
        if not found:
            self.say("501 5.5.4 Syntax error")
            return
        self.recipients.append(found.group(1))
        self.say("250 2.1.5 Recipient OK")

    def on_data(self, _):
        if not self.recipients:
            self.say("503 5.5.1 RCPT first")
            return
        if self.fails("data"):
            return
        self.say("354 Start mail input; end with <CRLF>.<CRLF>")
        content = self.content()
        envelope = (self.reverse_path, self.recipients, self.number)
        self.reset()
        account = self.host.account
        if self.host.max_connections and account.open > self.host.max_connections:
            account.add("sent_432")
            self.say(TOO_MANY)
            return
        fault = self.host.fault("dot")
        if fault:
            if fault.reply == "drop" and random.random() < 0.5:
                account.record(content, *envelope, answered=False)
            self.answer(fault)
            return
        account.record(content, *envelope, answered=True)
        self.say("250 2.0.0 OK queued")

    def on_rset(self, _):
        self.reset()
        self.say("250 2.0.0 Reset")

    def on_noop(self, _):
        self.say("250 2.0.0 OK")

    def on_quit(self, _):
        self.say("221 2.0.0 Bye")
        self.flush()
        raise Closed

    def reset(self):
        self.reverse_path, self.recipients = None, []


class SmartHost:
    def __init__(self, options):
        self.user, self.password = options.user, options.password
        self.faults, self.max_connections = options.fault, options.max_connections
        subprocess.run([os.path.join(os.path.dirname(os.path.abspath(__file__)), "certificate.sh"), options.directory],
                       check=True)
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.tls.load_cert_chain(os.path.join(options.directory, "server.pem"),
                                 os.path.join(options.directory, "server.key"))
        self.account = Account(options.directory)
        self.started = time.monotonic()
        self.listener = socket.create_server(("127.0.0.1", options.port), backlog=1024)
        self.port = self.listener.getsockname()[1]

    def fault(self, stage):
        age = time.monotonic() - self.started
        for fault in self.faults:
            if fault.stage == stage and fault.start_s <= age < fault.end_s and random.random() < fault.fraction:
                return fault
        return None

    def accept(self):
        number = 0
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            number += 1
            threading.Thread(target=self.serve, args=(sock, number), daemon=True).start()

    def serve(self, sock, number):
        self.account.connected(+1)
        sock.settimeout(IDLE_SECONDS)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = Connection(self, sock, number)
        try:
            connection.run()
        except Closed:
            pass
        except OSError:
            self.account.add("disconnects")
        finally:
            self.account.connected(-1)
            connection.sock.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--user", default="scanner@check.example")
    parser.add_argument("--password", default="correct horse")
    parser.add_argument("--fault", type=Fault.parse, action="append", default=[])
    parser.add_argument("--max-connections", type=int, default=0)
    parser.add_argument("--lifetime", type=float, default=3600, help="seconds")
    options = parser.parse_args()
    over = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: over.set())
    host = SmartHost(options)
    threading.Thread(target=host.accept, daemon=True).start()
    print(json.dumps({"port": host.port, "ca_file": os.path.join(options.directory, "ca.pem")}), flush=True)
    over.wait(options.lifetime)
    host.listener.close()
    print(json.dumps(host.account.report()), flush=True)


if __name__ == "__main__":
    sys.exit(main())
