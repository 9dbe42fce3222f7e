//! Fields as they come and as they leave.

use super::*;

#[test]
fn raw_text_is_encoded_and_addresses_are_not() {
    for (field, expected) in [
        (
            &b"Subject: Lieferschein f\xfcr M\xfcller\r\n"[..],
            "Subject: Lieferschein =?UTF-8?Q?f=C3=BCr_M=C3=BCller?=\r\n",
        ),
        (
            b"To: M\xfcller, Anna <anna@contoso.com>\r\n",
            "To: =?UTF-8?Q?M=C3=BCller=2C?= Anna <anna@contoso.com>\r\n",
        ),
        (
            b"To: \"M\xfcller, Anna\" <anna@contoso.com>, b@c.example\r\n",
            "To: =?UTF-8?Q?M=C3=BCller=2C?= Anna <anna@contoso.com>, b@c.example\r\n",
        ),
        (b"Cc: anna@contoso.com (M\xfcller)\r\n", "Cc: =?UTF-8?Q?M=C3=BCller?= <anna@contoso.com>\r\n"),
        (
            b"To: M\xfcller: a@b.example, c@d.example;, e@f.example\r\n",
            "To: =?UTF-8?Q?M=C3=BCller?=: a@b.example, c@d.example;, e@f.example\r\n",
        ),
        ("To: jürgen@münchen.example\r\n".as_bytes(), "To: jürgen@münchen.example\r\n"),
        (b"To: m\xfcller@contoso.com\r\n", "To: =?UTF-8?Q?m=C3=BCller=40contoso=2Ecom?=:;\r\n"),
        (
            "To: Anna <anna@münchen.example>, b@c.example\r\n".as_bytes(),
            "To: Anna <anna@xn--mnchen-3ya.example>, b@c.example\r\n",
        ),
        (
            b"To: T: a@b.example, m\xfc@c.example, d@e.example;, f@g.example\r\n",
            "To: T: a@b.example, d@e.example;, =?UTF-8?Q?m=C3=BC=40c=2Eexample?=:;,\r\n f@g.example\r\n",
        ),
        (b"Message-ID: <\xe4@b>\r\n", "Message-ID: <=C3=A4@b>\r\n"),
        (b"X: a\0b\rc\r\n", "X: abc\r\n"),
        (b"X: a\r\n \r\n b\r\n", "X: a b\r\n"),
        (
            b"Content-Disposition: attachment; size=5;\r\n filename=\"M\xfcller; 1.pdf\"\r\n",
            "Content-Disposition: attachment; size=5;\r\n filename*=UTF-8''M%C3%BCller%3B%201.pdf\r\n",
        ),
    ] {
        let out = encode_head(field, Charsets::default());
        assert_eq!(String::from_utf8(out).unwrap(), format!("{expected}\r\n"), "{field:?}");
    }
    let out = encode_head(b"Subject: \x83\x8c\x83|\x81[\x83g\r\n", Charsets::of_client(Some("shift_jis")));
    assert_eq!(out, b"Subject: =?UTF-8?B?44Os44Od44O844OI?=\r\n\r\n");
}

#[test]
fn without_smtputf8_an_address_that_needs_it_can_be_read_and_not_answered() {
    for (field, expected) in [
        ("To: a@b.example\r\n", "To: a@b.example\r\n"),
        ("To: jürgen@b.example\r\n", "To: =?UTF-8?Q?j=C3=BCrgen=40b=2Eexample?=:;\r\n"),
        (
            "To: Jürgen <jürgen@b.example>, c@d.example\r\n",
            "To: =?UTF-8?Q?J=C3=BCrgen?= =?UTF-8?Q?_j=C3=BCrgen=40b=2Eexample?=:;, c@d.example\r\n",
        ),
        ("Cc: Anna <anna@münchen.example>\r\n", "Cc: Anna <anna@xn--mnchen-3ya.example>\r\n"),
        (
            "Reply-To: c@d.example, jürgen@münchen.example\r\n",
            "Reply-To: c@d.example, =?UTF-8?Q?j=C3=BCrgen=40m=C3=BCnchen=2Eexample?=:;\r\n",
        ),
        (
            "To: Büro: jürgen@b.example, c@d.example;, e@f.example\r\n",
            "To: =?UTF-8?Q?B=C3=BCro?=: c@d.example;, =?UTF-8?Q?j=C3=BCrgen=40b=2Eexample?=:;, e@f.example\r\n",
        ),
        (
            "To: Büro: jürgen@b.example\r\n",
            "To: =?UTF-8?Q?B=C3=BCro?=:;, =?UTF-8?Q?j=C3=BCrgen=40b=2Eexample?=:;\r\n",
        ),
    ] {
        let out = String::from_utf8(downgraded(encode_head(field.as_bytes(), Charsets::default()))).unwrap();
        let out = out.replace("\r\n ", " ");
        assert_eq!(out, format!("{expected}\r\n"), "{field}");
    }
}

#[test]
fn a_clean_field_stays_as_it_is() {
    let head = b"Subject : one\r\n  two\r\nX-A:\r\nX-B:\r\n\tfolded  twice\r\n\r\n";
    assert_eq!(encode_head(head, Charsets::default()), head);
}
