//! One message over an open connection: MAIL, RCPT, DATA, body, end of data.
//!
//! Invariant: a message is ended by its dot only when all of it was sent; a recipient is `Taken` only by a 2yz
//! after that dot; every reply is matched to its command, or the connection is given up; a reply that was heard
//! counts, whatever becomes of the connection after it.
//! Must not know: whether a refusal is for good, what becomes of the message.

use super::channel::Interrupted;
use super::connect::Connection;
use super::wire::{Taken, Wire};
use crate::mail::{Cause, Failure, Mailbox, Reply, Stage};
use crate::submit::{Outcome, Outgoing, Sent};
use futures_util::FutureExt;

/// Commands in one write. RFC 2920 section 3.1 leaves it to the client not to fill both directions; a hundred and
/// their answers fit in the smallest socket buffers in use.
const COMMANDS_PER_WRITE: usize = 100;

/// A body leaves in writes of about this size; a smaller one in one, with its dot.
const WRITE_BYTES: usize = 64 * 1024;

impl Connection {
    /// Sends a message, in one transaction; see `submit::Connection::send`. `dots` is called just before the end of
    /// data is written.
    pub async fn send(&mut self, outgoing: &Outgoing<'_>, dots: &(dyn Fn() + Sync)) -> Sent {
        let recipients = outgoing.recipients.clone();
        let outcomes = vec![Outcome::Untried; recipients.len()];
        let was_orderly = std::mem::replace(&mut self.orderly, false);
        let mut transaction =
            Transaction { connection: self, recipients, outcomes, accepted: vec![], open: false };
        let result = if was_orderly {
            transaction.run(outgoing, dots).await
        } else {
            Err(Stop::Lost(Failure::new(
                Stage::Mail,
                Cause::Network("the connection is in disorder".to_owned()),
            )))
        };
        let (failure, usable) = match result {
            Ok(()) => (None, true),
            Err(Stop::Refused(failure)) => (Some(failure), true),
            Err(Stop::Lost(failure)) => (Some(failure), false),
            Err(Stop::Over) => (None, false),
        };
        let usable = usable && (!transaction.open || transaction.reset().await);
        let outcomes = transaction.outcomes;
        self.orderly = usable;
        Sent { outcomes, failure, usable }
    }
}

/// Why a transaction ends early.
enum Stop {
    /// The connection is as good as before.
    Refused(Failure),
    /// The connection is gone, or nobody knows any more which reply belongs to what.
    Lost(Failure),
    /// The same, and every recipient has its answer already.
    Over,
}

#[derive(Clone, Copy)]
enum Command {
    Mail,
    Rcpt(usize),
    Data,
}

impl Command {
    fn stage(self) -> Stage {
        match self {
            Self::Mail => Stage::Mail,
            Self::Rcpt(_) => Stage::Rcpt,
            Self::Data => Stage::Data,
        }
    }
}

struct Transaction<'a> {
    connection: &'a mut Connection,
    recipients: Vec<&'a Mailbox>,
    outcomes: Vec<Outcome>,
    /// Recipients whose RCPT was answered 2yz.
    accepted: Vec<usize>,
    /// MAIL was accepted, and neither an end of data nor RSET has ended it.
    open: bool,
}

impl Transaction<'_> {
    async fn run(&mut self, outgoing: &Outgoing<'_>, dots: &(dyn Fn() + Sync)) -> Result<(), Stop> {
        self.check_silence()?;
        let unreadable = |e: std::io::Error| Failure::new(Stage::Data, unreadable(&e));
        let has = |keyword| self.connection.capabilities.has(keyword);
        let taken = Taken { eight_bit: has("8BITMIME"), utf8: has("SMTPUTF8") };
        let wire = Wire::prepare(outgoing.letter, outgoing.charset, outgoing.sender, taken).await;
        let mut wire = wire.map_err(|e| Stop::Refused(unreadable(e)))?;
        let Some(commands) = self.commands(outgoing, &wire)? else { return Ok(()) };
        let go_ahead = self.envelope(&commands).await?;
        if !go_ahead {
            return Ok(());
        }
        let mut last = Vec::new();
        loop {
            // A body that breaks off is never ended: the server discards what has no final dot.
            let chunk = wire.chunk().await.map_err(|e| Stop::Lost(unreadable(e)))?;
            let Some(chunk) = chunk else { break };
            if !last.is_empty() && last.len() + chunk.len() > WRITE_BYTES {
                self.body_part(&last).await?;
                last.clear();
            }
            last.extend_from_slice(&chunk);
        }
        last.extend_from_slice(b".\r\n");
        dots();
        self.body_part(&last).await?;
        self.end_of_data().await
    }

    /// A server that spoke or closed since the last transaction gets no further one.
    fn check_silence(&mut self) -> Result<(), Stop> {
        let lost = |cause| Stop::Lost(Failure::new(Stage::Mail, cause));
        if let Some(cause) = self.connection.closed_by_peer().now_or_never() {
            // RFC 5321 section 3.8: a server may say 421 at any time. What else it says unasked is not about this
            // message, and a 550 must not bounce it.
            let out_of_turn = matches!(&cause, Cause::Reply(reply) if !reply.is_transient());
            let said = Failure::new(Stage::Mail, cause);
            return Err(if out_of_turn { unasked(&said) } else { Stop::Lost(said) });
        }
        if self.connection.channel.is_silent() {
            Ok(())
        } else {
            Err(lost(Cause::Network("the server spoke out of turn".to_owned())))
        }
    }

    /// Every command up to DATA, written out; none when there is nobody to send to.
    fn commands(
        &mut self,
        outgoing: &Outgoing<'_>,
        wire: &Wire<'_>,
    ) -> Result<Option<Vec<(Command, String)>>, Stop> {
        let refused = |cause| Stop::Refused(Failure::new(Stage::Mail, cause));
        let capabilities = &self.connection.capabilities;
        let utf8 = capabilities.has("SMTPUTF8");
        let size_bytes = wire.size_bytes();
        if let Some(limit_bytes) = capabilities.max_size_bytes().filter(|limit| size_bytes > *limit) {
            return Err(refused(Cause::TooLarge { size_bytes, limit_bytes }));
        }
        let sender = outgoing.sender;
        let mut from = sender.reverse_path(outgoing.reverse_path).in_ascii();
        if !utf8 && !from.is_ascii() {
            from = sender.mailbox.in_ascii();
        }
        if !utf8 && !from.is_ascii() {
            return Err(refused(Cause::NoSmtpUtf8));
        }
        let mut mail = format!("MAIL FROM:<{from}>");
        if capabilities.has("SIZE") {
            mail.push_str(&format!(" SIZE={size_bytes}"));
        }
        if wire.needs_8bit() && capabilities.has("8BITMIME") {
            mail.push_str(" BODY=8BITMIME");
        }
        let recipients: Vec<Mailbox> = self.recipients.iter().map(|m| m.in_ascii()).collect();
        if utf8 && (wire.needs_utf8() || !from.is_ascii() || recipients.iter().any(|m| !m.is_ascii())) {
            mail.push_str(" SMTPUTF8");
        }
        mail.push_str("\r\n");

        let mut commands = vec![(Command::Mail, mail)];
        for (i, mailbox) in recipients.iter().enumerate() {
            if utf8 || mailbox.is_ascii() {
                commands.push((Command::Rcpt(i), format!("RCPT TO:<{mailbox}>\r\n")));
            } else {
                self.outcomes[i] = Outcome::Refused(Failure::new(Stage::Rcpt, Cause::NoSmtpUtf8));
            }
        }
        if commands.len() == 1 {
            return Ok(None);
        }
        commands.push((Command::Data, "DATA\r\n".to_owned()));
        Ok(Some(commands))
    }

    /// Says MAIL, RCPT and DATA. True: 354, with somebody to send to.
    async fn envelope(&mut self, commands: &[(Command, String)]) -> Result<bool, Stop> {
        let patience = self.connection.command_timeout;
        let at_once = if self.connection.capabilities.has("PIPELINING") { COMMANDS_PER_WRITE } else { 1 };
        let mut go_ahead = false;
        for group in commands.chunks(at_once) {
            if matches!(group, [(Command::Data, _)]) && self.accepted.is_empty() {
                break;
            }
            let text: String = group.iter().map(|(_, line)| line.as_str()).collect();
            let first = group[0].0.stage();
            let mut refusal = None;
            let answered = match self.connection.channel.write(text.as_bytes(), patience).await {
                Ok(()) => self.answers(group, &mut refusal).await,
                Err(cause) => Err(Stop::Lost(Failure::new(first, cause))),
            };
            match (answered, refusal) {
                (Ok(_), Some(failure)) => return Err(Stop::Refused(failure)),
                (Ok(goes), None) => go_ahead = goes,
                // Whatever came after the refusal, or came no more, was for that alone.
                (Err(_), Some(failure)) => return Err(Stop::Lost(failure)),
                (Err(_), None) if self.all_refused() => return Err(Stop::Over),
                (Err(stop), None) => return Err(stop),
            }
        }
        Ok(go_ahead)
    }

    /// Hears the answers to a group of commands. True: 354, with somebody to send to.
    async fn answers(
        &mut self,
        group: &[(Command, String)],
        refusal: &mut Option<Failure>,
    ) -> Result<bool, Stop> {
        let patience = self.connection.command_timeout;
        let mut go_ahead = false;
        for (command, _) in group {
            let lost = |cause| Stop::Lost(Failure::new(command.stage(), cause));
            let reply = self.connection.channel.reply(patience).await.map_err(lost)?;
            if reply.code == 421 {
                return Err(lost(Cause::Reply(reply)));
            }
            match command {
                Command::Mail => *refusal = self.mail_answered(reply)?,
                // What follows a refused MAIL is refused for that alone.
                Command::Rcpt(_) if refusal.is_some() => {}
                Command::Rcpt(i) => self.rcpt_answered(*i, reply)?,
                Command::Data => go_ahead = self.data_answered(reply, refusal).await?,
            }
        }
        Ok(go_ahead)
    }

    fn all_refused(&self) -> bool {
        self.outcomes.iter().all(|o| matches!(o, Outcome::Refused(_)))
    }

    fn mail_answered(&mut self, reply: Reply) -> Result<Option<Failure>, Stop> {
        match reply.code / 100 {
            2 => {
                self.open = true;
                Ok(None)
            }
            4 | 5 => Ok(Some(Failure::new(Stage::Mail, Cause::Reply(reply)))),
            _ => Err(out_of_place(Stage::Mail, &reply)),
        }
    }

    fn rcpt_answered(&mut self, i: usize, reply: Reply) -> Result<(), Stop> {
        match reply.code / 100 {
            2 => self.accepted.push(i),
            4 | 5 if is_too_many(&reply) && !self.accepted.is_empty() => self.outcomes[i] = Outcome::Untried,
            4 | 5 => self.outcomes[i] = Outcome::Refused(Failure::new(Stage::Rcpt, Cause::Reply(reply))),
            _ => return Err(out_of_place(Stage::Rcpt, &reply)),
        }
        Ok(())
    }

    /// Whether the body is wanted.
    async fn data_answered(&mut self, reply: Reply, refusal: &mut Option<Failure>) -> Result<bool, Stop> {
        match reply.code {
            354 if self.accepted.is_empty() => {
                // RFC 2920 section 3.1: it wants a message for nobody, and gets an empty one.
                let patience = self.connection.command_timeout;
                let lost = |cause| Stop::Lost(Failure::new(Stage::Data, cause));
                self.connection.channel.write(b".\r\n", patience).await.map_err(lost)?;
                self.connection.channel.reply(patience).await.map_err(lost)?;
                self.open = false;
                Ok(false)
            }
            354 => Ok(true),
            400..=599 => {
                // With nobody accepted it only repeats what is known.
                if refusal.is_none() && !self.accepted.is_empty() {
                    *refusal = Some(Failure::new(Stage::Data, Cause::Reply(reply)));
                }
                Ok(false)
            }
            _ => Err(out_of_place(Stage::Data, &reply)),
        }
    }

    /// Writes a part of the body; the last one with its dot. Until every byte of it is out the stage is DATA: a
    /// server that answers before that has not seen the end.
    async fn body_part(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        let patience = self.connection.data_timeout;
        let mut written = 0;
        let interrupted = match self.connection.channel.write_watching(bytes, &mut written, patience).await {
            Ok(()) => return Ok(()),
            Err(interrupted) => interrupted,
        };
        Err(cut_short(Stage::Data, interrupted))
    }

    async fn end_of_data(&mut self) -> Result<(), Stop> {
        let patience = self.connection.data_timeout;
        // TLS has taken the dot; whether the wire has, a failure does not tell.
        let flushed = self.connection.channel.flush_watching(patience).await;
        flushed.map_err(|interrupted| cut_short(Stage::FinalDot, interrupted))?;
        let reply = self.connection.channel.reply(patience).await;
        let reply = reply.map_err(|cause| Stop::Lost(Failure::new(Stage::FinalDot, cause)))?;
        self.open = false;
        match reply.code {
            200..=299 => {
                for i in &self.accepted {
                    self.outcomes[*i] = Outcome::Taken(reply.clone());
                }
                Ok(())
            }
            421 => Err(Stop::Lost(Failure::new(Stage::FinalDot, Cause::Reply(reply)))),
            400..=599 => Err(Stop::Refused(Failure::new(Stage::FinalDot, Cause::Reply(reply)))),
            _ => Err(out_of_place(Stage::FinalDot, &reply)),
        }
    }

    /// Ends what DATA did not. False: the connection is not worth keeping.
    async fn reset(&mut self) -> bool {
        let patience = self.connection.command_timeout;
        if self.connection.channel.write(b"RSET\r\n", patience).await.is_err() {
            return false;
        }
        self.connection.channel.reply(patience).await.is_ok_and(|reply| reply.is_positive())
    }
}

/// Only a body that is gone, or not what was stored, is lost for good; what the system says (EMFILE, ENOMEM, EIO)
/// may pass, and a bounce for it would be needless.
fn unreadable(e: &std::io::Error) -> Cause {
    if e.raw_os_error().is_some() && e.kind() != std::io::ErrorKind::NotFound {
        Cause::BodyForNow(e.to_string())
    } else {
        Cause::Body(e.to_string())
    }
}

/// RFC 5321 section 4.5.3.1.10: 452, or 552 from servers that follow RFC 821. Exchange Online says `452 4.5.3`.
fn is_too_many(reply: &Reply) -> bool {
    matches!(reply.code, 452 | 552)
        && match reply.status {
            Some(status) => (status.subject, status.detail) == (5, 3),
            None => {
                let text = reply.text.to_ascii_lowercase();
                text.contains("too many recipients") || text.contains("recipients reached")
            }
        }
}

fn cut_short(stage: Stage, interrupted: Interrupted) -> Stop {
    match interrupted {
        Interrupted::Spoke(reply) if reply.code >= 400 => {
            Stop::Lost(Failure::new(Stage::Data, Cause::Reply(reply)))
        }
        Interrupted::Spoke(reply) => out_of_place(stage, &reply),
        Interrupted::Broken(cause) => Stop::Lost(Failure::new(stage, cause)),
    }
}

fn unasked(said: &Failure) -> Stop {
    Stop::Lost(Failure::new(said.stage, Cause::Network(format!("the server spoke out of turn: {said}"))))
}

/// A reply that answers another question: the dialogue is out of step.
fn out_of_place(stage: Stage, reply: &Reply) -> Stop {
    Stop::Lost(Failure::new(stage, Cause::Unparsable(reply.to_string())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Error;

    #[test]
    fn a_system_short_of_files_or_memory_bounces_nothing() {
        for (errno, passes) in [(24, true), (23, true), (12, true), (5, true), (2, false)] {
            let cause = unreadable(&Error::from_raw_os_error(errno));
            assert_eq!(matches!(cause, Cause::BodyForNow(_)), passes, "{cause:?}");
        }
        assert!(matches!(unreadable(&Error::other("12 bytes in place of 13")), Cause::Body(_)));
    }
}
