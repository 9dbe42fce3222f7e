//! Any split reads the same replies; what is held is bounded; every reply has a verdict and shows on one line.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mailferry::mail::{Cause, Failure, Reply, Stage};
use mailferry::policy::verdict::judge;
use mailferry::submit::smtp::reply::{MAX_REPLY_BYTES, ReplyReader};

/// The replies, whether an error ended them, and whether nothing is left over.
fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Reply>, bool, bool) {
    let mut reader = ReplyReader::new();
    let mut replies = vec![];
    for piece in pieces {
        reader.feed(piece);
        loop {
            match reader.reply() {
                Ok(Some(reply)) => replies.push(reply),
                Ok(None) => break,
                Err(why) => {
                    let why = why.to_string();
                    assert!(!why.contains(char::is_control), "{why:?}");
                    assert!(reader.reply().is_err(), "an error stays");
                    return (replies, true, false);
                }
            }
        }
    }
    (replies, false, reader.is_empty())
}

fuzz_target!(|input: &[u8]| {
    let [size, stage, bytes @ ..] = input else { return };
    let piece = usize::from(*size) + 1;
    let whole = read(std::iter::once(bytes));
    assert_eq!(whole, read(bytes.chunks(1)));
    assert_eq!(whole, read(bytes.chunks(piece)));

    let stages = [Stage::Connect, Stage::Auth, Stage::Mail, Stage::Rcpt, Stage::Data, Stage::FinalDot];
    let stage = stages[usize::from(*stage) % stages.len()];
    for reply in whole.0 {
        assert!((200..600).contains(&reply.code));
        // A byte that is not UTF-8 becomes three.
        assert!(reply.text.len() <= 3 * MAX_REPLY_BYTES);
        let shown = reply.to_string();
        assert!(!shown.contains(char::is_control), "{shown:?}");
        judge(&Failure::new(stage, Cause::Reply(reply)));
    }
});
