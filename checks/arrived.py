#!/usr/bin/env python3
"""Makes the messages of real_clients.sh, and judges whether they arrived whole in its Maildir.

Owns the comparison: a message is whole when the digest of its content, lines ended by CRLF, is the one its
header carries (or, for a MIME message a client built, the one its decoded attachment must have).

    arrived.py make NAME BYTES                       a message on standard output
    arrived.py wait MAILDIR NAME COUNT [--attachment SHA256 | --body-like FILE] [--seconds S]

`wait` ends with 0 when exactly COUNT copies came and all are whole. NAME is the X-Check-Id; for clients that
cannot set one, `subject:TEXT`. `--body-like` compares with the content of another delivered file.
"""

import argparse
import base64
import email
import email.utils
import hashlib
import os
import random
import sys
import time


def make(name, size):
    body = f"{name}\r\n.\r\n..\r\n.dot\r\n\r\n".encode()
    body += b"".join(base64.b64encode(random.randbytes(57)) + b"\r\n" for _ in range(size // 78))
    head = (f"From: <scanner@check.example>\r\nTo: <inbox@check.example>\r\nSubject: {name}\r\n"
            f"Date: {email.utils.formatdate()}\r\nMessage-ID: <{name}@check.example>\r\nX-Check-Id: {name}\r\n"
            f"X-Check-Digest: {digest(body)}\r\n\r\n").encode()
    sys.stdout.buffer.write(head + body)


def digest(data):
    return hashlib.sha256(data).hexdigest()


def content(data):
    """The content as it went over the wire: Postfix stores lines with LF and adds nothing below the head."""
    return data.partition(b"\n\n")[2].replace(b"\n", b"\r\n")


def found(maildir, name):
    for directory in ("new", "cur"):
        folder = os.path.join(maildir, directory)
        for file in os.listdir(folder) if os.path.isdir(folder) else []:
            with open(os.path.join(folder, file), "rb") as opened:
                data = opened.read()
            head = email.message_from_bytes(data.partition(b"\n\n")[0])
            if name.startswith("subject:"):
                if (head["Subject"] or "").strip() == name.partition(":")[2]:
                    yield head, data
            elif head["X-Check-Id"] == name:
                yield head, data


def fault(copies, options):
    """What is wrong with what came, or nothing."""
    if len(copies) != options.count:
        return f"{len(copies)} of {options.count} came"
    if len({(head["Message-ID"], head["Delivered-To"]) for head, _ in copies}) != options.count:
        return "one message came to one recipient twice, another never"
    if options.body_like:
        with open(options.body_like, "rb") as file:
            like = content(file.read())
        differ = sum(content(data) != like for _, data in copies)
        return f"{differ} differ from {len(like)} bytes sent" if differ else None
    for head, data in copies:
        if options.attachment:
            parts = [part.get_payload(decode=True) or b"" for part in email.message_from_bytes(data).walk()
                     if part.get_content_disposition() == "attachment"]
            if [digest(part) for part in parts] != [options.attachment]:
                return f"attachments of {[len(part) for part in parts]} bytes are not the one sent"
        elif head["X-Check-Digest"] != digest(content(data)):
            return f"content differs: {len(content(data))} bytes"
    return None


def wait(options):
    end = time.monotonic() + options.seconds
    while True:
        copies = list(found(options.maildir, options.name))
        if len(copies) >= options.count or time.monotonic() > end:
            break
        time.sleep(0.2)
    time.sleep(0.3)  # a second copy
    copies = list(found(options.maildir, options.name))
    wrong = fault(copies, options)
    print(wrong or f"{len(copies)} arrived whole")
    return 1 if wrong else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("make")
    making.add_argument("name")
    making.add_argument("bytes", type=int)
    waiting = commands.add_parser("wait")
    waiting.add_argument("maildir")
    waiting.add_argument("name")
    waiting.add_argument("count", type=int)
    waiting.add_argument("--attachment")
    waiting.add_argument("--body-like")
    waiting.add_argument("--seconds", type=float, default=60)
    options = parser.parse_args()
    return make(options.name, options.bytes) if options.command == "make" else wait(options)


if __name__ == "__main__":
    sys.exit(main())
