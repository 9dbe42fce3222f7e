//! What the relay adds to a head at intake: its trace field, and whatever a device left out.
//!
//! Invariant: done once, before the message is stored, so that every attempt sends the same Date and Message-ID;
//! nothing a peer said can begin a field or end the head. The result ends with the empty line.
//! Must not know: the content, the account's rights; what leaves is `letter::rewrite`'s.

use crate::letter::date;
use crate::letter::head::{Head, NewHead};
use crate::mail::{Mailbox, QueueId, ReversePath, WallTime};
use std::net::IpAddr;

/// More than this many Received fields: the message goes round in circles (RFC 5321 section 6.3).
const MAX_HOPS: usize = 50;
/// As much of a HELO as a trace field keeps; the log has it all.
const MAX_HELO_CHARS: usize = 100;

/// What is known of a message at the end of its data.
#[derive(Debug, Clone)]
pub struct Stamp<'a> {
    /// Its queue id; also its Message-ID where it has none.
    pub id: QueueId,
    /// The relay's own name.
    pub hostname: &'a str,
    /// The argument of HELO or EHLO as it came; any bytes.
    pub helo: &'a [u8],
    /// Where it came from.
    pub peer: IpAddr,
    /// RFC 3848 keyword: SMTP, ESMTP, ESMTPS, ESMTPA, ESMTPSA.
    pub protocol: &'a str,
    /// Version and cipher, if TLS was used.
    pub tls: Option<&'a str>,
    /// MAIL FROM.
    pub reverse_path: &'a ReversePath,
    /// RCPT TO.
    pub recipients: &'a [Mailbox],
    /// The account's address.
    pub mailbox: &'a str,
    /// Whether the content has bytes outside ASCII.
    pub body_is_8bit: bool,
    /// The time for Received and a missing Date.
    pub now: WallTime,
}

/// Why a head is not completed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StampError {
    /// More than 50 Received fields: 554 5.4.6.
    #[error("too many Received fields: the message goes round in circles")]
    Loop,
}

/// Completes a head. It has CRLF line ends, may lack its final empty line, and may be empty.
///
/// # Errors
/// `Loop`.
pub fn complete(head: &[u8], stamp: &Stamp<'_>) -> Result<Vec<u8>, StampError> {
    if Head::of(head).all("Received").count() > MAX_HOPS {
        return Err(StampError::Loop);
    }
    let mut out = NewHead::with_capacity(head.len() + 512);
    out.written(stamp.received().as_bytes());
    let (mut has_date, mut has_id, mut has_from, mut has_version, mut is_mime) =
        (false, false, false, false, stamp.body_is_8bit);
    for field in Head::of(head).fields() {
        let blank = field.unfolded().is_empty();
        if field.is("Date") {
            if has_date || !date::is_plausible(&field.unfolded(), stamp.now) {
                // Renamed, not read: whatever stood there is kept.
                out.rename(&field, "X-Original-Date");
                continue;
            }
            has_date = true;
        } else if field.is("Message-ID") {
            if blank || has_id {
                continue;
            }
            has_id = true;
        }
        has_from |= field.is("From");
        has_version |= field.is("MIME-Version");
        is_mime |= field.is("Content-Type") || field.is("Content-Transfer-Encoding");
        out.keep(&field);
    }
    let mut add = |missing: bool, name: &str, value: &str| {
        if missing {
            out.add(name, value);
        }
    };
    add(!has_date, "Date", &stamp.now.rfc5322());
    add(!has_id, "Message-ID", &format!("<{}@{}>", stamp.id, atoms(stamp.hostname)));
    add(!has_from, "From", &stamp.from());
    add(is_mime && !has_version, "MIME-Version", "1.0");
    Ok(out.finish())
}

impl Stamp<'_> {
    /// RFC 5321 section 4.4. One recipient is named; of several none, since one might be a blind copy.
    fn received(&self) -> String {
        let address = match self.peer.to_canonical() {
            IpAddr::V4(v4) => format!("[{v4}]"),
            IpAddr::V6(v6) => format!("[IPv6:{v6}]"),
        };
        let helo = std::str::from_utf8(self.helo).unwrap_or_default();
        let from = if self.helo.is_empty() {
            address
        } else if atoms(helo) == helo && helo.len() <= MAX_HELO_CHARS && !helo.is_empty() {
            format!("{helo} ({address})")
        } else {
            format!("{address} (helo={})", in_comment(&String::from_utf8_lossy(self.helo)))
        };
        let tls = self.tls.map(|t| format!(" ({})", in_comment(t))).unwrap_or_default();
        let recipient = match self.recipients {
            [only] if only.is_ascii() => format!("\r\n\tfor <{only}>"),
            _ => String::new(),
        };
        format!(
            "Received: from {from}\r\n\tby {} with {}{tls}\r\n\tid {}{recipient};\r\n\t{}\r\n",
            atoms(self.hostname),
            atoms(self.protocol),
            self.id,
            self.now.rfc5322()
        )
    }

    fn from(&self) -> String {
        match self.reverse_path.mailbox().filter(|m| m.has_public_domain() && m.is_ascii()) {
            Some(m) => m.to_string(),
            None => self.mailbox.parse::<Mailbox>().map_or_else(|_| "<>".to_owned(), |m| m.to_string()),
        }
    }
}

/// A name of letters, digits, dots, hyphens and underscores, and nothing else.
fn atoms(text: &str) -> String {
    text.chars().filter(|c| c.is_ascii_alphanumeric() || "._-".contains(*c)).collect()
}

/// Text for inside of parentheses: what could end the comment or the line, or is not ASCII, becomes `?`.
fn in_comment(text: &str) -> String {
    let fit = |c: char| c.is_ascii_graphic() && !"()\\<>\"".contains(c) || c == ' ';
    text.chars().take(MAX_HELO_CHARS).map(|c| if fit(c) { c } else { '?' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_795_435_200_000;

    fn stamp<'a>(path: &'a ReversePath, recipients: &'a [Mailbox]) -> Stamp<'a> {
        Stamp {
            id: QueueId::from_number(77),
            hostname: "relay.contoso.local",
            helo: b"NPIF65E56",
            peer: "10.0.5.7".parse().unwrap(),
            protocol: "ESMTP",
            tls: None,
            reverse_path: path,
            recipients,
            mailbox: "scanner@contoso.com",
            body_is_8bit: false,
            now: WallTime::from_ms(NOW),
        }
    }

    fn completed(head: &str) -> String {
        String::from_utf8(complete(head.as_bytes(), &stamp(&ReversePath::Null, &[])).unwrap()).unwrap()
    }

    #[test]
    fn an_empty_head_becomes_a_whole_one() {
        let path = ReversePath::Mailbox("hp@old.example".parse().unwrap());
        let to = ["a@contoso.com".parse().unwrap()];
        let mut s = stamp(&path, &to);
        s.body_is_8bit = true;
        s.tls = Some("TLSv1.3 TLS13_AES_256_GCM_SHA384");
        s.protocol = "ESMTPS";
        let expected = "Received: from NPIF65E56 ([10.0.5.7])\r\n\
            \tby relay.contoso.local with ESMTPS (TLSv1.3 TLS13_AES_256_GCM_SHA384)\r\n\
            \tid 000000000002D\r\n\tfor <a@contoso.com>;\r\n\tMon, 23 Nov 2026 12:00:00 +0000\r\n\
            Date: Mon, 23 Nov 2026 12:00:00 +0000\r\n\
            Message-ID: <000000000002D@relay.contoso.local>\r\nFrom: hp@old.example\r\nMIME-Version: 1.0\r\n\r\n";
        for head in ["", "\r\n"] {
            assert_eq!(String::from_utf8(complete(head.as_bytes(), &s).unwrap()).unwrap(), expected);
        }
    }

    #[test]
    fn what_is_there_stays_as_it_is() {
        let head = "date: Mon, 23 Nov 2026 13:00:00 +0100\r\nMessage-Id: <1@hp>\r\nFrom: hp\r\nSubject: \r\n x\r\n\
                    MIME-Version: 1.0\r\nContent-Type: text/plain\r\n";
        assert!(completed(head).ends_with(&format!("+0000\r\n{head}\r\n")));
        assert!(completed("Content-Type: text/plain\r\n").contains("\r\nMIME-Version: 1.0\r\n"));
        assert!(!completed("Subject: x\r\n").contains("MIME-Version"));
    }

    #[test]
    fn a_sender_nobody_can_answer_is_not_made_the_from() {
        for path in ["hp@printserver", "hp@10.0.0.7", "hp@[10.0.0.7]", "jürgen@contoso.com"] {
            let path = ReversePath::Mailbox(path.parse().unwrap());
            let out = complete(b"", &stamp(&path, &[])).unwrap();
            assert_eq!(Head::of(&out).first("From").unwrap().unfolded(), b"scanner@contoso.com", "{path}");
        }
        assert!(completed("").contains("From: scanner@contoso.com\r\n"));
    }

    #[test]
    fn an_implausible_date_is_replaced_and_kept() {
        for (date, plausible) in [
            ("Mon, 23 Nov 2026 11:59:00 +0000", true),
            ("Tue, 23 Nov 2026 11:59:00 +0000", true),
            ("23 Nov 2026 11:59 GMT", true),
            ("Mon, 23 Nov 2026 20:59:00 +0900 (JST)", true),
            ("Tue, 24 Nov 2026 11:59:00 +0000", true),
            ("Tue, 24 Nov 2026 12:01:00 +0000", false),
            ("Thu, 01 Jan 1970 00:00:12 +0000", false),
            ("Sat, 01 Jan 2000 00:00:12 +0000", false),
            ("Thu, 24 Nov 2016 12:00:00 +0000", false),
            ("Mon, 23 Nov 26 11:59:00 +0000", false),
            ("2026-11-23T11:59:00Z", false),
            ("Mon Nov 23 11:59:00 2026", false),
            ("\u{fffd}", false),
            ("", false),
        ] {
            let out = completed(&format!("Date: {date}\r\n"));
            assert_eq!(out.contains(&format!("\r\nDate: {date}\r\n")), plausible, "{date}");
            assert_eq!(out.contains(&format!("\r\nX-Original-Date: {date}\r\n")), !plausible, "{date}");
            assert_eq!(out.matches("\r\nDate: ").count(), 1);
        }
    }

    #[test]
    fn a_greeting_cannot_forge_the_trace() {
        let cases: [(&[u8], &str); 8] = [
            (b"", "from [10.0.5.7]\r\n"),
            (b"[10.0.5.7]", "from [10.0.5.7] (helo=[10.0.5.7])\r\n"),
            (b"XC-B8C463", "from XC-B8C463 ([10.0.5.7])\r\n"),
            (b"ESP_CAM.", "from ESP_CAM. ([10.0.5.7])\r\n"),
            (b"a) by evil (b", "from [10.0.5.7] (helo=a? by evil ?b)\r\n"),
            (b"a\r\nBcc: x@y", "from [10.0.5.7] (helo=a??Bcc: x@y)\r\n"),
            (b"M\xfcller", "from [10.0.5.7] (helo=M?ller)\r\n"),
            (b"a\\", "from [10.0.5.7] (helo=a?)\r\n"),
        ];
        for (helo, expected) in cases {
            let mut s = stamp(&ReversePath::Null, &[]);
            s.helo = helo;
            let out = String::from_utf8(complete(b"", &s).unwrap()).unwrap();
            assert!(out.contains(expected), "{helo:?} {out}");
            assert_eq!(Head::of(out.as_bytes()).fields().count(), 4);
        }
        let mut s = stamp(&ReversePath::Null, &[]);
        let long = [b'x'; 500];
        s.helo = &long;
        s.peer = "::ffff:10.0.5.7".parse().unwrap();
        let out = complete(b"", &s).unwrap();
        assert!(Head::of(&out).first("Received").unwrap().unfolded().len() < 300);
    }

    #[test]
    fn a_message_that_goes_round_in_circles_is_stopped() {
        let head = |n| "Received: from a by b\r\n".repeat(n);
        let s = stamp(&ReversePath::Null, &[]);
        assert!(complete(head(50).as_bytes(), &s).is_ok());
        assert_eq!(complete(head(51).as_bytes(), &s), Err(StampError::Loop));
    }

    #[test]
    fn several_recipients_are_not_told_of_each_other() {
        let to = ["a@contoso.com", "b@contoso.com"].map(|m| m.parse().unwrap());
        let out = complete(b"", &stamp(&ReversePath::Null, &to)).unwrap();
        assert!(!String::from_utf8(out).unwrap().contains("for <"));
    }
}
