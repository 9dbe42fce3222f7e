//! Lists and paths as devices write them.

use super::*;

fn read(text: &str) -> Vec<String> {
    parse(text)
        .iter()
        .map(|e| format!("{}|{}", e.display, e.mailbox().map_or_else(|| "-".into(), |m| m.to_string())))
        .collect()
}

#[test]
fn what_devices_write_is_understood() {
    for (text, entries) in [
        ("a@b.example", vec!["|a@b.example"]),
        ("<a@b.example>", vec!["|a@b.example"]),
        ("a@b.example <a@b.example>", vec!["a@b.example|a@b.example"]),
        ("\"Scanner, 3rd floor\" <a@b.example>", vec!["Scanner, 3rd floor|a@b.example"]),
        ("Scanner a@b.example", vec!["Scanner|a@b.example"]),
        ("a@b.example (Scanner)", vec!["Scanner|a@b.example"]),
        ("\"front desk\"@b.example", vec!["|\"front desk\"@b.example"]),
        ("<X <a@b.example>>", vec!["X|a@b.example"]),
        ("a@b.example; c@d.example,", vec!["|a@b.example", "|c@d.example"]),
        ("=?utf-8?Q?M,_A?= <a@b.example>", vec!["=?utf-8?Q?M,_A?=|a@b.example"]),
        ("'a@b.example'", vec!["|a@b.example"]),
        ("mailto:a@b.example", vec!["|a@b.example"]),
        ("Team: a@b.example, c@d.example; e@f.example", vec!["|a@b.example", "|c@d.example", "|e@f.example"]),
        ("a@b.example <>", vec!["|a@b.example"]),
        ("say \"hi\" <a@b.example>", vec!["say hi|a@b.example"]),
        ("scanner", vec!["|-"]),
        ("\"never closed <a@b.example>", vec!["never closed|a@b.example"]),
        ("(((", vec!["|-"]),
        ("Doe, Jane <j@b.example>", vec!["Doe, Jane|j@b.example"]),
        ("Doe, Jane, Dr. <j@b.example>", vec!["Doe, Jane, Dr.|j@b.example"]),
        ("\"Doe\", Jane <j@b.example>", vec!["Doe, Jane|j@b.example"]),
        ("Doe , Jane<j@b.example>", vec!["Doe , Jane|j@b.example"]),
        ("Doe, Jane j@b.example", vec!["Doe, Jane|j@b.example"]),
        ("Doe, <j@b.example>", vec!["Doe|j@b.example"]),
        ("a@b.example, Doe, Jane <j@b.example>", vec!["|a@b.example", "Doe, Jane|j@b.example"]),
        (
            "Doe, Jane <j@b.example>, Roe, Rick <r@b.example>",
            vec!["Doe, Jane|j@b.example", "Roe, Rick|r@b.example"],
        ),
        ("Team: Doe, Jane <j@b.example>;", vec!["Doe, Jane|j@b.example"]),
        ("scanner, a@b.example", vec!["|-", "|a@b.example"]),
        ("Doe; Jane <j@b.example>", vec!["|-", "Jane|j@b.example"]),
        ("a@b.example c@d.example", vec!["|a@b.example", "|c@d.example"]),
        ("<a@b.example> <c@d.example>", vec!["|a@b.example", "|c@d.example"]),
        ("<a@b.example>, Anna <c@d.example>", vec!["|a@b.example", "Anna|c@d.example"]),
        ("<a@b.example;c@d.example>", vec!["|a@b.example", "|c@d.example"]),
        ("Anna <a@b.example> (boss)", vec!["Anna|a@b.example"]),
        ("<a@b.example> (boss)", vec!["boss|a@b.example"]),
        ("(boss) a@b.example", vec!["boss|a@b.example"]),
        ("a(x)@(y)b.example", vec!["y|a@b.example"]),
        ("a @ b.example", vec!["|a@b.example"]),
        ("Anna (the \"boss\" <x@y>) <a@b.example>", vec!["Anna|a@b.example"]),
        ("a@b.example Anna", vec!["Anna|a@b.example"]),
        ("(Scanner)", vec!["Scanner|-"]),
        ("[SMTP:a@b.example]", vec!["|a@b.example"]),
        ("Anna [SMTP:a@b.example]", vec!["Anna|a@b.example"]),
        ("smtp: a@b.example", vec!["|a@b.example"]),
        ("Anna <SMTP:a@b.example>", vec!["Anna|a@b.example"]),
        ("Anna <'a@b.example'>", vec!["Anna|a@b.example"]),
        ("\"a@b.example\"", vec!["|a@b.example"]),
        ("\"a@b.example\" <a@b.example>", vec!["a@b.example|a@b.example"]),
        ("\"anna@home\" a@b.example", vec!["|anna@home", "|a@b.example"]),
        ("Anna @home <a@b.example>", vec!["Anna @home|a@b.example"]),
        ("a@b.example., c@d.example.", vec!["|a@b.example", "|c@d.example"]),
        ("@x.example:a@b.example, <@x,@y:c@d.example>", vec!["|a@b.example", "|c@d.example"]),
        ("\"(not a comment)\" <a@b.example>", vec!["(not a comment)|a@b.example"]),
        ("Scanner (3rd floor <a@b.example>", vec!["Scanner (3rd floor|a@b.example"]),
        ("<a@b.example, c@d.example", vec!["|a@b.example", "|c@d.example"]),
        ("<\"a, b\"@c.example>, d@e.example", vec!["|\"a, b\"@c.example", "|d@e.example"]),
        ("ilo.@", vec!["|-"]),
        ("\"Scanner 3\"a@b.example, \"x\"b_c@d.example", vec!["Scanner 3|a@b.example", "x|b_c@d.example"]),
        ("\u{5c71}\u{7530}\u{3000}a@b.example", vec!["\u{5c71}\u{7530}|a@b.example"]),
        ("", vec![]),
        (" , ;", vec![]),
    ] {
        assert_eq!(read(text), entries, "{text}");
    }
}

#[test]
fn groups_keep_their_name_and_end() {
    let list = parse("undisclosed-recipients:;");
    assert_eq!(list.len(), 1);
    assert_eq!(list[0].group.as_deref(), Some("undisclosed-recipients"));
    assert!(list[0].ends_group);
}

#[test]
fn a_name_that_repeats_the_address_is_left_out() {
    let m: Mailbox = "a@b.example".parse().unwrap();
    let named = |display| String::from_utf8(named(display, false, &m).field("X")).unwrap();
    assert_eq!(named("A@B.example"), "X: a@b.example\r\n");
    assert_eq!(named("'a@b.example'"), "X: a@b.example\r\n", "as Outlook writes it");
    assert_eq!(named("c@d.example"), "X: \"c@d.example\" <a@b.example>\r\n");
}

fn of_command(text: &str) -> (Vec<String>, &str) {
    let (list, end) = path(text);
    (list.into_iter().map(|e| e.address).collect(), text[end..].trim())
}

#[test]
fn an_address_ends_where_the_parameters_begin() {
    for (text, addresses, parameters) in [
        ("<a@b>", vec!["a@b"], ""),
        ("<a@b> SIZE=1", vec!["a@b"], "SIZE=1"),
        ("<a@b>SIZE=1", vec!["a@b"], "SIZE=1"),
        ("a@b SIZE=1", vec!["a@b"], "SIZE=1"),
        ("a@x ORCPT=rfc822;<b@y>", vec!["a@x"], "ORCPT=rfc822;<b@y>"),
        ("<a@x> ORCPT=rfc822;<b@y>", vec!["a@x"], "ORCPT=rfc822;<b@y>"),
        ("<a@x> ORCPT=rfc822;b@y", vec!["a@x"], "ORCPT=rfc822;b@y"),
        ("a@x ORCPT=rfc822;b@y,<c@z>", vec!["a@x"], "ORCPT=rfc822;b@y,<c@z>"),
        ("a@x NOTIFY=NEVER <b@y>", vec!["a@x"], "NOTIFY=NEVER <b@y>"),
        ("<a@x> X-FOO=<b@y>", vec!["a@x"], "X-FOO=<b@y>"),
        ("<a@x> foo <b@y>", vec!["a@x"], "foo <b@y>"),
        ("dev@x AUTH=<>", vec!["dev@x"], "AUTH=<>"),
        ("dev@x SMTPUTF8 AUTH=<z@y>", vec!["dev@x"], "SMTPUTF8 AUTH=<z@y>"),
        ("<dev@x> AUTH=<> SIZE=9", vec!["dev@x"], "AUTH=<> SIZE=9"),
        ("<> AUTH=<a@b>", vec![], "AUTH=<a@b>"),
        ("<> SMTPUTF8", vec![], "SMTPUTF8"),
        ("<>X-FOO=<a@b>", vec![], "X-FOO=<a@b>"),
        ("< > a@b", vec![], "a@b"),
        ("Scanner <> SIZE=1", vec![], "SIZE=1"),
        ("", vec![], ""),
        ("SIZE=10 AUTH=<>", vec![], "SIZE=10 AUTH=<>"),
        ("prvs=1=a@b SIZE=1", vec!["prvs=1=a@b"], "SIZE=1"),
        ("SMTP=a@b SIZE=1", vec!["SMTP=a@b"], "SIZE=1"),
        ("smtp: a@b SIZE=1", vec!["smtp: a@b"], "SIZE=1"),
        ("scanner AUTH=<>", vec!["scanner"], "AUTH=<>"),
        ("scanner SMTPUTF8", vec!["scanner"], "SMTPUTF8"),
        ("ilo.@ SMTPUTF8", vec!["ilo.@"], "SMTPUTF8"),
        ("X Y <a@b> SIZE=1", vec!["a@b"], "SIZE=1"),
        ("Doe, J <a@b> SIZE=1", vec!["a@b"], "SIZE=1"),
        ("\"X <x@y>\" <a@b> SIZE=1", vec!["a@b"], "SIZE=1"),
        ("<a@b SIZE=1", vec!["a@b"], "SIZE=1"),
        ("a@b> SIZE=1", vec!["a@b"], "SIZE=1"),
        ("<a@b>,<c@d> SIZE=1", vec!["a@b", "c@d"], "SIZE=1"),
        ("a@b, c@d SIZE=1", vec!["a@b", "c@d"], "SIZE=1"),
        ("a@b c@d SIZE=1", vec!["a@b", "c@d"], "SIZE=1"),
        ("<a@b>, SIZE=1", vec!["a@b"], "SIZE=1"),
        ("<a@b>; NOTIFY=NEVER,<c@d>", vec!["a@b"], "NOTIFY=NEVER,<c@d>"),
        ("Team: a@b, <c@d>; SIZE=1", vec!["a@b", "c@d"], "SIZE=1"),
        ("a@b (x@y) SIZE=1", vec!["a@b"], "SIZE=1"),
        ("john smith@x SIZE=1", vec!["john smith@x"], "SIZE=1"),
        ("\"john smith\"@x SIZE=1", vec!["\"john smith\"@x"], "SIZE=1"),
        ("a @b", vec!["a @b"], ""),
    ] {
        assert_eq!(
            of_command(text),
            (addresses.into_iter().map(str::to_owned).collect(), parameters),
            "{text}"
        );
    }
}

#[test]
fn reading_takes_time_in_proportion_to_the_text() {
    // Of this thread alone: the machine may be busy.
    let spent = || rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime).tv_sec;
    let began = spent();
    for piece in [
        "(", "\"", "<", ">", "[", "@", "@,", ",", "a,", "a ", "a@", "a@b ", "\\\"", "<>", "a <> ", ":", "a:",
        "=?", "'", "((", "<\"", "\"<", "(\"", "@x:", "[@", "smtp:", ";", "a;", "<a<", "(a)", "\"a\"", "<a,",
        "''@", "a b,",
    ] {
        let text = piece.repeat(30_000 / piece.len());
        let (list, _) = path(&text);
        assert!(parse(&text).len() <= text.len() && list.len() <= text.len());
    }
    assert!(spent() - began < 5, "{} s", spent() - began);
}

mod any_text {
    use super::*;
    use proptest::prelude::*;

    fn junk() -> impl Strategy<Value = String> {
        let characters: Vec<char> = "<>@,;:\"()[] ab\\='.?\u{3000}\u{e9}\u{f0083}".chars().collect();
        prop::collection::vec(prop::sample::select(characters), 0..60).prop_map(String::from_iter)
    }

    proptest! {
        #[test]
        fn is_read_and_what_is_given_back_was_said(text in junk()) {
            for entry in parse(&text) {
                prop_assert!(text.contains(&entry.address), "{entry:?}");
                if let Some(mailbox) = entry.mailbox() {
                    prop_assert_eq!(mailbox.to_string().parse::<Mailbox>(), Ok(mailbox));
                }
            }
            let (entries, end) = path(&text);
            for entry in entries {
                prop_assert!(text[..end].contains(&entry.address), "{entry:?}");
            }
        }

        #[test]
        fn in_a_parameter_is_no_address(text in junk()) {
            for before in ["a@x ", "<a@x> ", "<a@x>", "X <a@x> "] {
                let text = format!("{before}K={text}");
                let (entries, end) = path(&text);
                prop_assert_eq!(entries.iter().map(|e| e.address.as_str()).collect::<Vec<_>>(), ["a@x"]);
                prop_assert_eq!(end, before.len());
            }
        }
    }
}
