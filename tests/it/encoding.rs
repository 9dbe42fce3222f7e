//! Messages as devices write them, from intake to the wire.

use mailferry::letter::head::Head;
use mailferry::letter::stamp::{Stamp, complete};
use mailferry::letter::words::read_text;
use mailferry::mail::{Mailbox, QueueId, ReversePath, Sender, WallTime};
use mailferry::submit::InMemory;
use mailferry::submit::smtp::wire::{Taken, Wire};

pub(crate) struct Sample<'a> {
    pub(crate) charset: Option<&'a str>,
    pub(crate) reverse_path: &'a str,
    pub(crate) send_as: &'a [&'a str],
    pub(crate) to_8bit: bool,
    pub(crate) utf8: bool,
}

impl Default for Sample<'_> {
    fn default() -> Self {
        Self { charset: None, reverse_path: "scanner@contoso.com", send_as: &[], to_8bit: true, utf8: true }
    }
}

pub(crate) struct Sent {
    pub(crate) bytes: Vec<u8>,
    size_bytes: u64,
    pub(crate) needs_8bit: bool,
    pub(crate) needs_utf8: bool,
}

impl Sent {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    pub(crate) fn field(&self, name: &str) -> String {
        let field = Head::of(&self.bytes).first(name).map(|f| f.unfolded());
        field.map_or_else(|| format!("no {name}"), |value| String::from_utf8_lossy(&value).into_owned())
    }
}

/// Takes a message as the receiver hands it over (CRLF), stamps, stores and sends it.
pub(crate) fn carry(raw: &[u8], sample: &Sample<'_>) -> Sent {
    let end = raw.windows(4).position(|w| w == b"\r\n\r\n").map_or(raw.len(), |i| i + 4);
    let (head, content) = raw.split_at(end);
    let sent = leaves(head, content, sample).expect("the sample is right");
    assert_eq!(
        sent.bytes,
        leaves(head, content, sample).unwrap().bytes,
        "every attempt sends the same bytes"
    );
    sent
}

/// Stamps, stores and sends a head and its content; nothing where the receiver refuses it.
pub(crate) fn leaves(head: &[u8], content: &[u8], sample: &Sample<'_>) -> Option<Sent> {
    let reverse_path = sample.reverse_path.parse().map_or(ReversePath::Null, ReversePath::Mailbox);
    let recipients: Vec<Mailbox> = vec!["anna@contoso.com".parse().expect("the sample is right")];
    let stamp = Stamp {
        id: QueueId::from_number(77),
        hostname: "relay.contoso.local",
        helo: b"MFP-3\xff",
        peer: "10.0.5.7".parse().expect("the sample is right"),
        protocol: "SMTP",
        tls: None,
        reverse_path: &reverse_path,
        recipients: &recipients,
        mailbox: "scanner@contoso.com",
        body_is_8bit: !content.is_ascii(),
        now: WallTime::from_ms(1_795_435_200_000),
    };
    let letter = InMemory::new(complete(head, &stamp).ok()?, content.to_vec());
    let sender = Sender {
        mailbox: "scanner@contoso.com".parse().expect("the sample is right"),
        send_as: sample.send_as.iter().map(|p| p.parse().expect("the sample is right")).collect(),
    };
    let send = || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("the sample is right");
        runtime.block_on(async {
            let mut wire = Wire::prepare(
                &letter,
                sample.charset,
                &sender,
                Taken { eight_bit: sample.to_8bit, utf8: sample.utf8 },
            )
            .await
            .expect("the sample is right");
            let mut bytes = Vec::new();
            while let Some(chunk) = wire.chunk().await.expect("the sample is right") {
                bytes.extend_from_slice(&chunk);
            }
            Sent {
                bytes,
                size_bytes: wire.size_bytes(),
                needs_8bit: wire.needs_8bit(),
                needs_utf8: wire.needs_utf8(),
            }
        })
    };
    let sent = send();
    assert_well_formed(&sent);
    Some(sent)
}

/// What holds of everything that leaves.
fn assert_well_formed(sent: &Sent) {
    assert!(sent.bytes.ends_with(b"\r\n"));
    for line in sent.bytes.split_inclusive(|b| *b == b'\n') {
        assert!(line.ends_with(b"\r\n") && line.len() <= 1001 && line != b".\r\n");
        assert!(!line[..line.len() - 2].iter().any(|b| matches!(b, 0 | b'\r')));
    }
    let head_end = sent.bytes.windows(4).position(|w| w == b"\r\n\r\n").expect("the sample is right") + 4;
    assert!(sent.needs_utf8 || sent.bytes[..head_end].is_ascii(), "{}", sent.text());
    assert_eq!(Head::of(&sent.bytes).fields().map(|f| f.raw.len()).sum::<usize>() + 2, head_end);
    for name in ["From", "Date", "Message-ID"] {
        assert_eq!(Head::of(&sent.bytes).all(name).count(), 1, "{name}");
    }
}

/// An HP LaserJet MFP: folded boundary, two parts, base64 in lines of 76.
fn hp_scan() -> String {
    let pdf = format!(
        "{}\r\n",
        "JVBERi0xLjQKJcfsj6IKNSAwIG9iago8PC9MZW5ndGggNiAwIFIvRmlsdGVyIC9GbGF0ZURlY29k"
            .get(..76)
            .expect("a line")
    );
    format!(
        "Date: Mon, 23 Nov 2026 11:58:02 -0500\r\nFrom: \"HP LaserJet MFP\" <hp@contoso.com>\r\n\
         To: anna@contoso.com\r\nSubject: Scanned from HP\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed;\r\n\
         \tboundary=\"HP_NextPart_0001\"\r\nX-Mailer: HP MFP\r\n\r\nThis is a multi-part message in MIME format.\r\n\r\n\
         --HP_NextPart_0001\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nPlease see the attachment.\r\n\r\n\
         --HP_NextPart_0001\r\nContent-Type: application/pdf; name=\"scan0001.pdf\"\r\n\
         Content-Transfer-Encoding: base64\r\nContent-Disposition: attachment; filename=\"scan0001.pdf\"\r\n\r\n{}\r\n\
         --HP_NextPart_0001--\r\n",
        pdf.repeat(3000)
    )
}

#[test]
fn an_hp_scan_leaves_byte_for_byte_behind_its_head() {
    let raw = hp_scan();
    let sent = carry(raw.as_bytes(), &Sample { send_as: &["*@contoso.com"], ..Sample::default() });
    let content = &raw[raw.find("\r\n\r\n").unwrap() + 4..];
    assert!(sent.text().ends_with(content));
    assert_eq!(sent.size_bytes, sent.bytes.len() as u64);
    assert_eq!(sent.field("From"), "\"HP LaserJet MFP\" <hp@contoso.com>");
    assert!(!sent.needs_8bit && !sent.needs_utf8);
}

#[test]
fn a_ricoh_with_a_shift_jis_subject_and_file_name_is_readable() {
    let (subject, _, _) = encoding_rs::SHIFT_JIS.encode("複合機からのスキャン表示 ソート");
    let (name, _, _) = encoding_rs::SHIFT_JIS.encode("レポート.pdf");
    let raw = [
        b"From: \x95\xa1\x8d\x87\x8b\x40 <ricoh@old.example>\r\nTo: anna@contoso.com\r\nSubject: ".as_slice(),
        &subject,
        b"\r\nDate: Mon, 23 Nov 26 21:00:00 +0900\r\nContent-Type: multipart/mixed; boundary=\"DC_BOUND_PRE_<1>\"\r\n\r\n\
          --DC_BOUND_PRE_<1>\r\nContent-Type: application/pdf;\r\n name=\"",
        &name,
        b"\"\r\nContent-Transfer-Encoding: base64\r\nContent-Disposition: attachment; filename=\"",
        &name,
        b"\"\r\n\r\nJVBERi0=\r\n--DC_BOUND_PRE_<1>--\r\n",
    ]
    .concat();
    let sent = carry(&raw, &Sample { charset: Some("shift_jis"), ..Sample::default() });
    assert_eq!(sent.field("From"), "=?UTF-8?B?6KSH5ZCI5qmf?= <scanner@contoso.com>");
    assert_eq!(sent.field("Reply-To"), "=?UTF-8?B?6KSH5ZCI5qmf?= <ricoh@old.example>");
    assert!(sent.field("Subject").starts_with("=?UTF-8?B?6KSH5ZCI5qmf"));
    assert_eq!(sent.field("X-Original-Date"), "Mon, 23 Nov 26 21:00:00 +0900");
    let text = sent.text();
    assert!(text.contains("filename*=UTF-8''%E3%83%AC%E3%83%9D%E3%83%BC%E3%83%88.pdf\r\n"), "{text}");
    assert!(text.contains("name*=UTF-8''%E3%83%AC%E3%83%9D%E3%83%BC%E3%83%88.pdf\r\n"));
    assert!(sent.bytes.is_ascii() && !sent.needs_8bit);
}

#[test]
fn a_device_that_writes_raw_iso_2022_jp_needs_no_setting() {
    let raw = b"From: a@contoso.com\r\nSubject: \x1b$B%l%]!<%H\x1b(B 7\r\n\r\nx\r\n";
    let sent = carry(raw, &Sample::default());
    assert_eq!(sent.field("Subject"), "=?UTF-8?B?44Os44Od44O844OI?= 7");
}

#[test]
fn latin_1_names_and_text_leave_encoded_and_labelled() {
    let raw =
        b"From: B\xfcro 3. Stock <b\xfcro@contoso.com>\r\nTo: \"M\xfcller, J\xf6rg\" <anna@contoso.com>\r\n\
                Subject: Lieferschein f\xfcr Herrn M\xfcller\r\n\r\nGr\xfc\xdfe\r\n";
    for to_8bit in [true, false] {
        let sent = carry(raw, &Sample { to_8bit, ..Sample::default() });
        assert_eq!(sent.field("From"), "=?UTF-8?Q?B=C3=BCro_3=2E?= Stock <scanner@contoso.com>");
        assert_eq!(sent.field("To"), "=?UTF-8?Q?M=C3=BCller=2C_J=C3=B6rg?= <anna@contoso.com>");
        assert_eq!(sent.field("MIME-Version"), "1.0");
        assert_eq!(sent.field("Content-Type"), "text/plain; charset=windows-1252");
        assert_eq!(
            sent.field("Content-Transfer-Encoding"),
            if to_8bit { "8bit" } else { "quoted-printable" }
        );
        assert_eq!(sent.needs_8bit, to_8bit);
        let content: &[u8] = if to_8bit { b"\r\n\r\nGr\xfc\xdfe\r\n" } else { b"\r\n\r\nGr=FC=DFe\r\n" };
        assert!(sent.bytes.ends_with(content), "{}", sent.text());
    }
}

#[test]
fn a_xerox_with_base64_on_one_line_is_wrapped_anew() {
    let base64 = "SUkqAAgAAAASAP4ABAAB".repeat(2000);
    let raw = format!(
        "From: xerox@contoso.com\r\nSubject: Scan from a Xerox WorkCentre\r\nMIME-Version: 1.0\r\n\
         Content-Type: multipart/mixed; boundary=\"=xrxboundary=\"\r\n\r\n--=xrxboundary=\r\n\
         Content-Type: image/tiff\r\nContent-Transfer-Encoding: base64\r\n\r\n{base64}\r\n--=xrxboundary=--\r\n"
    );
    let sent = carry(raw.as_bytes(), &Sample::default());
    let text = sent.text();
    let part = text.split("base64\r\n\r\n").nth(1).unwrap().split("\r\n--=xrx").next().unwrap();
    assert!(part.lines().all(|l| l.len() <= 76));
    assert_eq!(part.replace("\r\n", ""), base64);
}

#[test]
fn an_html_line_of_5000_bytes_is_encoded_and_reads_the_same() {
    let html =
        format!("<html><body class=\"x\">{}</body></html>", "<p>Druckauftrag = fertig</p>".repeat(180));
    assert!(html.len() > 5000);
    let raw = format!("From: erp@contoso.com\r\nContent-Type: text/html; charset=utf-8\r\n\r\n.{html}");
    let sent = carry(raw.as_bytes(), &Sample::default());
    assert_eq!(sent.field("Content-Transfer-Encoding"), "quoted-printable");
    let text = sent.text();
    let content = text.split("\r\n\r\n").nth(1).unwrap();
    assert!(content.starts_with(".."), "stuffed behind the encoding");
    assert_eq!(content[1..].replace("=\r\n", "").replace("=3D", "="), format!(".{html}\r\n"));
}

#[test]
fn a_unix_host_that_lets_lone_line_feeds_into_the_content_cannot_smuggle() {
    let raw = b"From: cron@contoso.com\r\nSubject: x\r\n\r\none\n.\nMAIL FROM:<evil@y.example>\n\r.\r\nend\n";
    let sent = carry(raw, &Sample::default());
    assert!(
        sent.bytes.ends_with(b"\r\n\r\none\r\n..\r\nMAIL FROM:<evil@y.example>\r\n\r\n..\r\nend\r\n"),
        "{}",
        sent.text()
    );
}

#[test]
fn a_bare_text_without_any_head_becomes_a_message() {
    let sent = carry(b"\r\n\r\nPaper jam in tray 2", &Sample { reverse_path: "", ..Sample::default() });
    assert_eq!(sent.field("From"), "scanner@contoso.com");
    assert!(
        sent.field("Received").starts_with("from [10.0.5.7] (helo=MFP-3?)\tby relay.contoso.local with SMTP")
    );
    assert!(sent.text().ends_with("\r\n\r\nPaper jam in tray 2\r\n"));
}

#[test]
fn a_head_of_overlong_lines_is_folded() {
    let to = (0..200).map(|i| format!("user{i}@contoso.com")).collect::<Vec<_>>().join(", ");
    let raw = format!(
        "From: a@contoso.com\r\nTo: {to}\r\nX-Blob: {}\r\nSubject: {}\r\n\r\nx\r\n",
        "y".repeat(3000),
        "word ".repeat(500)
    );
    let sent = carry(raw.as_bytes(), &Sample::default());
    assert_eq!(sent.field("To"), to);
    assert_eq!(read_text(&sent.field("X-Blob")), "y".repeat(3000));
}

#[test]
fn an_international_address_asks_for_smtputf8() {
    let raw = "From: a@contoso.com\r\nTo: jörg@münchen.example\r\n\r\nx\r\n";
    let sent = carry(raw.as_bytes(), &Sample::default());
    assert!(sent.needs_utf8);
    assert_eq!(sent.field("To"), "jörg@münchen.example");
}
