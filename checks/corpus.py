#!/usr/bin/env python3
"""What becomes of a corpus of real mail: how many messages leave unchanged to the byte, which change and why, whether
any reads differently, and whether DKIM signatures hold. The corpus is not part of the project; fetch one, then:

    checks/corpus.py prepare /tmp/corpus SOURCE...      messages with a believable Date; /tmp/corpus/{plain,relaxed,simple}
    for d in plain relaxed simple; do
        MAILFERRY_CORPUS=/tmp/corpus/$d cargo test --test it corpus -- --ignored
    done
    checks/corpus.py compare /tmp/corpus

`prepare` signs with dkimpy where it is installed (PYTHONPATH), with a key that it makes.
"""

import collections
import email
import email.header
import email.policy
import email.utils
import os
import re
import subprocess
import sys

DATE = b"Mon, 23 Nov 2026 11:00:00 +0000"
HEAD_LINE = re.compile(rb"^[!-9;-~]+[ \t]*:")
# Sent anew in every case, or never sent.
NOT_COMPARED = {"bcc", "resent-bcc", "return-path", "received", "sender", "x-original-date", "date", "x-mailbox-line"}


def normal(raw):
    raw = raw.replace(b"\r\r\n", b"\n").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    raw = bytes(b for b in raw if b >= 32 or b in b"\t\n\x1b\x0e\x0f")
    return raw.replace(b"\n", b"\r\n")


def looks_like_mail(raw):
    lines = raw[:4000].splitlines()
    return sum(bool(HEAD_LINE.match(line)) for line in lines[:12]) >= 2


def messages(path):
    """Every message of a file; several of a mailbox."""
    raw = open(path, "rb").read()
    if len(raw) > 3_000_000 or b"\0\0\0" in raw:
        return []
    if path.endswith((".mbox", ".mbox.txt")) or "/mbox" in path:
        return [m for m in re.split(rb"(?m)^(?=From .*\d\d:\d\d)", raw) if m.strip()]
    return [raw]


def key(directory):
    file = os.path.join(directory, "key.pem")
    if not os.path.exists(file):
        subprocess.run(["openssl", "genrsa", "-traditional", "-out", file, "1024"], check=True, capture_output=True)
    der = subprocess.run(["openssl", "rsa", "-in", file, "-pubout", "-outform", "DER"], check=True, capture_output=True)
    import base64
    return open(file, "rb").read(), b"v=DKIM1; k=rsa; p=" + base64.b64encode(der.stdout)


def prepare(target, sources):
    for kind in ("plain", "relaxed", "simple"):
        os.makedirs(os.path.join(target, kind), exist_ok=True)
    try:
        import dkim
        private, _ = key(target)
    except ImportError:
        dkim = None
    seen, number = set(), 0
    for source in sources:
        for base, _, names in sorted(os.walk(source)):
            for name in sorted(names):
                for raw in messages(os.path.join(base, name)):
                    if not looks_like_mail(raw) or hash(raw) in seen:
                        continue
                    seen.add(hash(raw))
                    raw = normal(raw)
                    head, gap, content = raw.partition(b"\r\n\r\n")
                    head = re.sub(rb"(?im)^date:[^\r\n]*(\r\n[ \t][^\r\n]*)*", b"Date: " + DATE, head, count=1)
                    raw = head + gap + content
                    number += 1
                    file = f"{number:05}"
                    open(os.path.join(target, "plain", file), "wb").write(raw)
                    bare = re.sub(rb"^(>*From [^\r\n]*\r\n)+", b"", raw)
                    # One that nobody can sign by the book is none of ours to keep.
                    if dkim is None or not re.search(rb"(?im)^from:.*@", bare.partition(b"\r\n\r\n")[0]):
                        continue
                    for kind in ("relaxed", "simple"):
                        try:
                            way = (kind.encode(), kind.encode())
                            signed = dkim.sign(bare, b"s", b"contoso.com", private, canonicalize=way) + bare
                            if valid(signed, target):
                                open(os.path.join(target, kind, file), "wb").write(signed)
                        except Exception:
                            pass
    print(f"{number} messages, signed: {len(os.listdir(os.path.join(target, 'relaxed')))} relaxed, "
          f"{len(os.listdir(os.path.join(target, 'simple')))} simple")


def valid(raw, target):
    import dkim
    record = key(target)[1]
    try:
        return dkim.verify(raw, dnsfunc=lambda *_, **__: record)
    except Exception:
        return False


def fields(head):
    out = []
    for line in head.splitlines(keepends=True):
        if line[:1] in b" \t" and out:
            out[-1] += line
        else:
            out.append(line)
    return out


def name(field):
    return field.partition(b":")[0].strip().lower().decode("latin-1")


def split(raw):
    head, gap, content = raw.partition(b"\r\n\r\n")
    return fields(head + b"\r\n"), content


def difference(came, left):
    """What changed: field names, and `content`."""
    (a, a_content), (b, b_content) = split(came), split(left)
    # The mailbox separator is no field, and Return-Path is never sent on.
    a = [f for f in a if name(f) != "return-path" and not re.match(rb">*From ", f)]
    own = {name(f) for f in a}
    b = [f for f in b[1:] if name(f) != "x-mailbox-line"]
    b = [f for f in b if name(f) in own or name(f) not in ("date", "message-id", "from", "mime-version")]
    changed = set()
    if a != b:
        left_a, left_b = collections.Counter(a), collections.Counter(b)
        changed |= {name(f) for f in (left_a - left_b)} | {name(f) for f in (left_b - left_a)}
        if not changed:
            changed.add("order")
    if not a_content.endswith(b"\r\n"):
        a_content += b"\r\n"
    if a_content != b_content and not (a_content == b"\r\n" and b_content == b""):
        changed.add("content")
    return changed


def text(value):
    if value is None:
        return None
    try:
        parts = email.header.decode_header(str(value))
        out = "".join(p.decode(c or "latin-1", "replace") if isinstance(p, bytes) else p for p, c in parts)
    except Exception:
        out = str(value)
    return " ".join(out.split())


def read(raw):
    """As Python's email reads it: fields that people see, addresses, parts."""
    raw = re.sub(rb"^(>*From [^\r\n]*\r\n)+", b"", raw)
    message = email.message_from_bytes(raw, policy=email.policy.compat32)
    head = {}
    for n in ("subject", "to", "cc", "reply-to", "message-id", "references", "in-reply-to"):
        values = [str(v) for v in message.get_all(n, [])]
        if n in ("to", "cc", "reply-to"):
            head[n] = sorted({a.lower() for _, a in email.utils.getaddresses(values) if "@" in a})
        else:
            # What came several times leaves once; of a text the first is the one, of ids all are kept.
            head[n] = text(values[0]) if values else None
    parts = []
    for part in message.walk():
        if part.is_multipart():
            parts.append((part.get_content_type(), None, None))
            continue
        payload = part.get_payload(decode=True) or b""
        payload = payload.replace(b"\r\n", b"\n").rstrip(b"\n")
        try:
            file = text(part.get_filename())
        except Exception:
            file = None
        parts.append((part.get_content_type(), file, payload))
    return head, parts


def compare(target):
    for kind in ("plain", "relaxed", "simple"):
        base = os.path.join(target, kind)
        sent = os.path.join(base, "sent")
        if not os.path.isdir(sent):
            continue
        names = sorted(n for n in os.listdir(base) if n != "sent")
        for way in ("own", "foreign", "7bit"):
            total = unchanged = differs = signed = 0
            reasons, which = collections.Counter(), []
            for n in names:
                file = os.path.join(sent, f"{n}.{way}")
                if not os.path.exists(file):
                    continue
                came, left = open(os.path.join(base, n), "rb").read(), open(file, "rb").read()
                total += 1
                changed = difference(came, left)
                unchanged += not changed
                reasons.update([", ".join(sorted(changed))] if changed else [])
                if kind != "plain":
                    signed += valid(left, target)
                elif raw_is_read(came):
                    before, after = read(came), read(left)
                    if before[0]["message-id"] is None:
                        after[0]["message-id"] = None
                    if way == "foreign":
                        after[0]["reply-to"] = before[0]["reply-to"]
                    if before != after:
                        differs += 1
                        which.append((n, [k for k in before[0] if before[0][k] != after[0][k]],
                                      [i for i, (x, y) in enumerate(zip(before[1], after[1])) if x != y]
                                      or len(before[1]) != len(after[1])))
            print(f"{kind} {way}: {total} messages, {unchanged} unchanged, "
                  + (f"{differs} read differently" if kind == "plain" else f"{signed} DKIM valid"))
            for reason, count in reasons.most_common(12):
                print(f"    {count:5} {reason}")
            for line in which[:int(os.environ.get("SHOW", "10"))]:
                print("   differs:", *line)


def raw_is_read(raw):
    """Python reads no raw bytes in a head; those are for the tables of tests."""
    return raw.partition(b"\r\n\r\n")[0].isascii()


if __name__ == "__main__":
    if sys.argv[1:2] == ["prepare"] and len(sys.argv) > 3:
        prepare(sys.argv[2], sys.argv[3:])
    elif sys.argv[1:2] == ["compare"] and len(sys.argv) == 3:
        compare(sys.argv[2])
    else:
        sys.exit(__doc__)
