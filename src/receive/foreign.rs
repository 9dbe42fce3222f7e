//! What is no SMTP: the protocols that browsers, scanners and wrongly set devices speak to this port.
//!
//! Invariant: a line that a device may mean as SMTP is never called another protocol; a request of HTTP always is,
//! whatever its verb, so that no web page makes a browser in an allowed network relay through its body.
//! Pure: bytes in, a name out. Must not know: the session, what is answered.

/// Verbs of others that are none of SMTP, by protocol.
const VERBS: &[(&str, &[&str])] = &[
    ("HTTP", &["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "PRI"]),
    ("HTTP", &["PROPFIND", "PROPPATCH", "MKCOL", "COPY", "MOVE", "LOCK", "UNLOCK", "SEARCH", "REPORT"]),
    ("SSDP", &["M-SEARCH"]),
    ("RTSP", &["DESCRIBE", "SETUP", "PLAY", "ANNOUNCE"]),
    ("SIP", &["INVITE", "REGISTER", "SUBSCRIBE"]),
    (
        "FTP or POP3",
        &["USER", "PASS", "ACCT", "PORT", "PASV", "EPRT", "EPSV", "SYST", "FEAT", "CAPA", "APOP"],
    ),
    ("the PROXY protocol", &["PROXY"]),
];
/// Of a request line, the last word begins so.
const VERSIONS: &[(&str, &str)] =
    &[("HTTP/", "HTTP"), ("RTSP/", "RTSP"), ("SIP/", "SIP"), ("ICAP/", "ICAP"), ("IPP/", "IPP")];
/// What a client of IMAP says behind its tag.
const IMAP: &[&str] = &["CAPABILITY", "LOGIN", "AUTHENTICATE", "LOGOUT"];
/// A verb of SMTP with a colon behind it is a slip of the keyboard, not a field of HTTP.
const OURS: &[&str] = &[
    "HELO", "EHLO", "MAIL", "RCPT", "DATA", "RSET", "NOOP", "QUIT", "HELP", "VRFY", "EXPN", "AUTH",
    "STARTTLS",
];
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// Something that is not in the list.
const UNKNOWN: &str = "another protocol";

/// The protocol that a client speaks whose line begins with this byte, if that shows: SOCKS, for one, never sends a
/// line end. A command begins with a letter. Blanks before it, and NUL, which ends the strings of careless firmware,
/// mean nothing; a `.` is the end of data of a device that did not hear that its DATA was refused; 0xEF begins the
/// byte order mark that .NET's writers put first.
pub fn by_first_byte(byte: u8) -> Option<&'static str> {
    match byte {
        b'.' | 0xEF | 0 => None,
        4 | 5 => Some("SOCKS"),
        0x16 => Some("TLS"),
        b => (!b.is_ascii_alphabetic() && !b.is_ascii_whitespace()).then_some(UNKNOWN),
    }
}

/// The line without what is before and behind a command.
pub fn trimmed(line: &[u8]) -> &[u8] {
    let mut line = line.trim_ascii();
    while let [0, rest @ ..] | [rest @ .., 0] = line {
        line = rest.trim_ascii();
    }
    line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line).trim_ascii_start()
}

/// The protocol of a line that is not SMTP. `understood`: the peer has said a command before, so it speaks SMTP, and
/// `Subject: x` is what it could not place otherwise.
pub fn protocol(line: &[u8], understood: bool) -> Option<&'static str> {
    let line = trimmed(line);
    let mut words = line.split(u8::is_ascii_whitespace).filter(|w| !w.is_empty());
    let verb = words.next()?;
    if verb == b"." {
        return None;
    }
    let is = |word: &[u8], names: &[&str]| names.iter().any(|n| word.eq_ignore_ascii_case(n.as_bytes()));
    if let Some((name, _)) = VERBS.iter().find(|(_, verbs)| is(verb, verbs)) {
        return Some(name);
    }
    let starts = |word: &[u8], with: &str| {
        word.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with.as_bytes()))
    };
    if starts(verb, "SSH-") {
        return Some("SSH");
    }
    let version = |word: &[u8]| VERSIONS.iter().find(|(start, _)| starts(word, start)).map(|(_, name)| *name);
    let second = words.next();
    let last = words.next_back();
    if let Some(name) = version(verb).or(last.and_then(version)) {
        return Some(name);
    }
    if second.is_some_and(|w| is(w, IMAP)) && !is(verb, OURS) {
        return Some("IMAP");
    }
    if second.is_some_and(is_target) && !is(verb, OURS) {
        return Some("HTTP");
    }
    if by_first_byte(verb[0]).is_some() || !verb.iter().all(|b| matches!(b, b'!'..=b'~')) {
        return Some(UNKNOWN);
    }
    let field = memchr::memchr(b':', verb).map(|end| &verb[..end]);
    field.filter(|name| !understood && !name.is_empty() && !is(name, OURS)).map(|_| "HTTP")
}

/// As `protocol`, for a line that is too long to be read whole: what is left of it lacks its last word.
pub fn protocol_of_start(line: &[u8], understood: bool) -> Option<&'static str> {
    let mut words = trimmed(line).split(u8::is_ascii_whitespace).filter(|w| !w.is_empty());
    let target = words.nth(1).is_some_and(is_target);
    if target { Some("HTTP") } else { protocol(line, understood) }
}

/// `/path` or `http://host/path`, which is no argument of SMTP.
fn is_target(word: &[u8]) -> bool {
    word.starts_with(b"/") || memchr::memmem::find(word, b"://").is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_protocols_are_known_by_their_first_line() {
        for (line, name) in [
            (&b"GET / HTTP/1.1\r\n"[..], "HTTP"),
            (b"get / http/1.0", "HTTP"),
            (b"GET /", "HTTP"),
            (b"POST /x HTTP/1.1", "HTTP"),
            (b"PUT /x HTTP/1.1", "HTTP"),
            (b"HEAD /", "HTTP"),
            (b"OPTIONS * HTTP/1.1", "HTTP"),
            (b"CONNECT mail.example:25 HTTP/1.1", "HTTP"),
            (b"DELETE /x", "HTTP"),
            (b"PATCH /x", "HTTP"),
            (b"TRACE /x", "HTTP"),
            (b"PRI * HTTP/2.0", "HTTP"),
            (b"PROPFIND /dav HTTP/1.1", "HTTP"),
            (b"BREW /pot HTCPCP/1.0", "HTTP"),
            (b"FOO http://a/b", "HTTP"),
            (b"FOO * HTTP/1.1", "HTTP"),
            (b"MAIL /x HTTP/1.1", "HTTP"),
            (b"HELO /x HTTP/1.1", "HTTP"),
            (b"DATA / HTTP/1.1", "HTTP"),
            (b"NOOP http://relay/x HTTP/1.1", "HTTP"),
            (b"HTTP/1.1 200 OK", "HTTP"),
            (b"  POST /x HTTP/1.1", "HTTP"),
            (b"\0POST /x HTTP/1.1", "HTTP"),
            (b"\xef\xbb\xbfPOST /x HTTP/1.1", "HTTP"),
            (b"Host: 10.0.0.1", "HTTP"),
            (b"User-Agent: x", "HTTP"),
            (b"X-Anything:", "HTTP"),
            (b"Content-Type:text/plain", "HTTP"),
            (b"M-SEARCH * HTTP/1.1", "SSDP"),
            (b"DESCRIBE rtsp://cam/1 RTSP/1.0", "RTSP"),
            (b"OPTIONS rtsp://cam/1 RTSP/1.0", "HTTP"),
            (b"INVITE sip:a@b SIP/2.0", "SIP"),
            (b"FOO sip:a@b SIP/2.0", "SIP"),
            (b"USER anonymous", "FTP or POP3"),
            (b"PASS x@y", "FTP or POP3"),
            (b"CAPA", "FTP or POP3"),
            (b"a001 CAPABILITY", "IMAP"),
            (b"A1 LOGIN x y", "IMAP"),
            (b"PROXY TCP4 10.0.0.1 10.0.0.2 1 25", "the PROXY protocol"),
            (b"SSH-2.0-OpenSSH_9.2", "SSH"),
            (b"ssh-1.99-x", "SSH"),
            (b"*1\r\n", UNKNOWN),
            (b"<?xml version='1.0'?>", UNKNOWN),
            (b"{\"jsonrpc\":\"2.0\"}", UNKNOWN),
            (b"@PJL INFO", UNKNOWN),
            (b"%!PS-Adobe", UNKNOWN),
            (b"--boundary", UNKNOWN),
            (b"220 relay.example ESMTP", UNKNOWN),
            (b"AMQP\0\0\x09\x01", UNKNOWN),
            (b"l\0\x0b\0", UNKNOWN),
            (b"JRMI\0\x02K", UNKNOWN),
        ] {
            assert_eq!(protocol(line, false), Some(name), "{}", line.escape_ascii());
        }
    }

    #[test]
    fn what_a_device_may_mean_as_smtp_is_no_other_protocol() {
        for line in [
            &b"HELO x\r\n"[..],
            b"HELO /dev/scanner",
            b"EHLO http://printer",
            b"HELO M\xfcller\0\x1b[2J",
            b"HELO",
            b"MAIL FROM:<a@b>",
            b"MAIL FROM: /x@b",
            b"MAIL:FROM <a@b>",
            b"HELO: x",
            b"RCPT TO:</a/b/c@d>",
            b"RCPT TO:a@b X=http://c/d",
            b"NOOP /",
            b"VRFY login",
            b"AUTH LOGIN",
            b"AUTH=LOGIN",
            b"XCLIENT ADDR=10.0.0.1",
            b"STARTTLS",
            b"FOO",
            b"x y",
            b"BDAT 5 LAST",
            b".",
            b"..",
            b"",
            b" \t",
            b"\xef\xbb\xbfHELO x",
            b"\0\0QUIT\0",
        ] {
            assert_eq!(protocol(line, false), None, "{}", line.escape_ascii());
        }
        for line in [&b"Subject: scan"[..], b"From: a@b", b"Host: x"] {
            assert_eq!(protocol(line, true), None, "{}", line.escape_ascii());
        }
        assert_eq!(protocol(b"POST / HTTP/1.1", true), Some("HTTP"), "at any time");
    }

    #[test]
    fn a_request_too_long_for_a_line_is_one() {
        for start in ["POST /", "FOO /", "NOOP /", "MAIL http://x/", "Cookie: "] {
            let line = format!("{start}{}", "x".repeat(5000));
            assert_eq!(protocol_of_start(line.as_bytes(), false), Some("HTTP"), "{start}");
        }
        assert_eq!(protocol_of_start(&[b'x'; 5000], false), None);
        assert_eq!(protocol_of_start(format!("HELO {}", "x".repeat(5000)).as_bytes(), false), None);
    }

    #[test]
    fn what_never_ends_its_line_is_known_by_its_first_byte() {
        for (byte, name) in [(4, "SOCKS"), (5, "SOCKS"), (0x16, "TLS"), (0xff, UNKNOWN), (b'1', UNKNOWN)] {
            assert_eq!(by_first_byte(byte), Some(name));
        }
        for byte in *b"aZ .\r\n\t\0\xef" {
            assert_eq!(by_first_byte(byte), None, "{byte:#x}");
        }
    }
}
