//! Any line is a command or a refusal; no recipient that comes out routes or breaks a command.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mailferry::mail::{Mailbox, ReversePath};
use mailferry::receive::command::{Command, parse};

fn is_safe(mailbox: &Mailbox) {
    let text = mailbox.to_string();
    assert!(!text.contains(['\r', '\n', '\0']), "{text:?}");
    assert!(!mailbox.domain().contains(['@', '<', '>', ' ']), "{text:?}");
    if !text.starts_with('"') {
        assert!(!mailbox.local().contains(['@', '%', '!', '<', '>', ' ']), "{text:?}");
    }
    assert_eq!(text.parse::<Mailbox>().as_ref(), Ok(mailbox));
}

fuzz_target!(|line: &[u8]| match parse(line) {
    Ok(Command::Rcpt(to)) => {
        assert!(!to.is_empty());
        to.iter().for_each(is_safe);
    }
    Ok(Command::Mail { from, .. }) => {
        if let ReversePath::Mailbox(mailbox) = &from {
            is_safe(mailbox);
        }
        assert!(!from.to_string().contains(['\r', '\n', '\0']));
    }
    _ => {}
});
