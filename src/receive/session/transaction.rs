//! MAIL, RCPT and DATA of a session, from the admission of the peer to the answer at the end of data.
//!
//! Invariant: a transaction uses the settings of its MAIL; each one is admitted anew; a refused message is
//! swallowed to its end without being kept. Must not know: lines, logins, TLS.

use super::{Data, Session, State, Step, Transaction, World, limit_bytes};
use crate::fact::receive::{Fact, Unable};
use crate::letter::splitter::Splitter;
use crate::mail::{AddressError, ClientName, Mailbox, QueueId, ReversePath};
use crate::policy::admission::{Client, LineEndings};
use crate::queue::{QueueError, Stored};
use crate::receive::command::Parameters;
use crate::receive::decode::Decoder;
use crate::receive::finished::{Finished, Refusal, accepted};
use crate::receive::settings::Auth;
use std::fmt::Write as _;
use std::sync::Arc;

/// A refused message is swallowed up to this many times the limit; then the session is closed.
const SWALLOW_FACTOR: u64 = 10;

impl Transaction {
    fn limit_bytes(&self) -> u64 {
        limit_bytes(&self.settings, Some(&self.client))
    }
}

impl Session {
    /// Answers `Step::Begin`.
    pub fn begun(&mut self, draft: Result<QueueId, QueueError>) {
        let State::Beginning(transaction) = std::mem::replace(&mut self.state, State::Command) else {
            return;
        };
        match draft {
            Ok(id) => {
                let lf_only = transaction.client.line_endings == LineEndings::Lf;
                self.state = State::Data(Box::new(Data {
                    transaction,
                    id,
                    decoder: Decoder::new(lf_only),
                    splitter: Splitter::default(),
                    refusal: None,
                }));
                self.reply("354 end the message with a line that holds only a dot\r\n");
            }
            Err(why) => {
                let refusal = Refusal::Queue(why);
                self.tell_refused(&transaction.client.name, &refusal);
                self.refuse(&refusal);
            }
        }
    }

    /// Answers `Step::Content` when the draft could not be written; the rest of the message is swallowed.
    pub fn draft_failed(&mut self, why: QueueError) {
        if let State::Data(data) = &mut self.state {
            data.refusal.get_or_insert(Refusal::Queue(why));
        } else if matches!(self.state, State::Committing(_)) {
            // The last chunk of a message whose commit is the next step.
            self.steps.retain(|s| !matches!(s, Step::Commit(_)));
            self.committed(Err(Refusal::Queue(why)));
        }
    }

    /// Answers `Step::Commit`.
    pub fn committed(&mut self, outcome: Result<Stored, Refusal>) {
        let State::Committing(finished) = std::mem::replace(&mut self.state, State::Command) else { return };
        match outcome {
            Ok(stored) => {
                let Finished { client, reverse_path: from, recipients: to, size_bytes, helo, .. } =
                    Arc::unwrap_or_clone(finished);
                let (id, peer, client) = (stored.id(), self.peer, client.name.clone());
                self.tell(Fact::Queued { id, peer, client, from, to, size_bytes, helo });
                self.errors = 0;
                self.reply(accepted(&stored));
                if self.stopping {
                    self.stop();
                }
            }
            Err(refusal) => {
                self.tell_refused(&finished.client.name, &refusal);
                self.refuse(&refusal);
            }
        }
    }

    /// The client of this peer at this moment; refuses when there is none.
    fn admitted(&mut self, world: World<'_>) -> Option<Arc<Client>> {
        let client = world.settings.clients.admit(self.peer).cloned();
        if client.is_none() {
            let helo = self.helo.clone().unwrap_or_default();
            self.tell(Fact::RelayRefused { peer: self.peer, helo });
            self.transaction = None;
            self.fail(format!("550 5.7.1 {} may not relay here\r\n", self.peer), world);
        }
        client
    }

    pub(super) fn mail(&mut self, from: ReversePath, parameters: Parameters, world: World<'_>) {
        let Some(client) = self.admitted(world) else { return };
        if self.offer.auth == Auth::Required && !self.logged_in {
            let first = if self.may_start_tls() { "STARTTLS, then log in" } else { "log in first" };
            return self.fail(format!("530 5.7.0 {first}\r\n"), world);
        }
        if self.transaction.as_ref().is_some_and(|t| !t.recipients.is_empty()) {
            return self.fail("503 5.5.1 a transaction is under way, RSET ends it\r\n", world);
        }
        if !parameters.unknown.is_empty() {
            let parameters = parameters.unknown.clone();
            self.tell(Fact::UnknownParameters { peer: self.peer, parameters });
        }
        let limit = limit_bytes(world.settings, Some(&client));
        if parameters.size_bytes > limit {
            let refusal = Refusal::TooLarge(limit);
            self.tell_refused(&client.name, &refusal);
            return self.chat(refusal.reply(), world);
        }
        if let Some(per_minute) = client.messages_per_minute
            && let Err(wait) = world.limits(|l| l.message(&client.name, per_minute, world.now))
        {
            let (peer, client) = (self.peer, client.name.clone());
            self.tell(Fact::RateLimited { peer, client, per_minute });
            self.pace(world);
            let seconds = wait.as_secs() + 1;
            return self.reply(format!(
                "451 4.7.1 more than {per_minute} messages a minute, try again in {seconds} seconds\r\n"
            ));
        }
        self.transaction = Some(Transaction {
            settings: Arc::clone(world.settings),
            client,
            from,
            parameters,
            recipients: vec![],
        });
        self.reply("250 2.1.0 sender ok\r\n");
    }

    pub(super) fn rcpt(&mut self, to: Result<Vec<Mailbox>, AddressError>, world: World<'_>) {
        let Some(_) = self.admitted(world) else { return };
        let Some(transaction) = &mut self.transaction else {
            return self.fail("503 5.5.1 MAIL comes first\r\n", world);
        };
        let (why, reply) = match to {
            Err(why) => {
                let code = if why == AddressError::Routing { 550 } else { 501 };
                (Some(why.to_string()), format!("{code} 5.1.3 {why}\r\n"))
            }
            Ok(to) => {
                let new: Vec<Mailbox> =
                    to.into_iter().filter(|m| !transaction.recipients.contains(m)).collect();
                let max = transaction.settings.max_recipients;
                if let Some(forbidden) = new.iter().find(|m| !transaction.client.may_write_to(m)) {
                    let why = format!("{forbidden} is not in allowed_recipients");
                    (Some(why), "550 5.7.1 not a recipient you may write to\r\n".into())
                } else if transaction.recipients.len() + new.len() > max {
                    (None, format!("452 4.5.3 more than {max} recipients\r\n"))
                } else {
                    transaction.recipients.extend(new);
                    return self.reply("250 2.1.5 recipient ok\r\n");
                }
            }
        };
        if let Some(why) = why {
            let client = transaction.client.name.clone();
            self.tell(Fact::RecipientRefused { peer: self.peer, client, why });
        }
        // A long list with wrong addresses in it is no attack; it is only slowed down.
        self.chat(reply, world);
    }

    pub(super) fn begin_data(&mut self, world: World<'_>) {
        let Some(transaction) = self.transaction.take() else {
            return self.fail("503 5.5.1 MAIL and RCPT come first\r\n", world);
        };
        if transaction.recipients.is_empty() {
            self.transaction = Some(transaction);
            return self.fail("554 5.5.1 no valid recipient was given\r\n", world);
        }
        self.steps.push_back(Step::Begin { expected_bytes: transaction.parameters.size_bytes });
        self.state = State::Beginning(transaction);
    }

    pub(super) fn data(&mut self, input: &mut &[u8]) {
        let State::Data(data) = &mut self.state else { return };
        let mut decoded = Vec::with_capacity(input.len() + 8);
        data.decoder.keep_bare_cr(!data.splitter.is_done());
        let taken = data.decoder.push(input, &mut decoded);
        *input = &input[taken..];
        let limit = data.transaction.limit_bytes();
        let raw_bytes = data.decoder.seen().raw_bytes;
        if data.refusal.is_none() {
            // The end of data itself does not count.
            if raw_bytes > limit.saturating_add(3) {
                data.refusal = Some(Refusal::TooLarge(limit));
                self.steps.push_back(Step::Discard);
            } else if data.splitter.push(&mut decoded).is_err() {
                data.refusal = Some(Refusal::HeadTooLarge);
                self.steps.push_back(Step::Discard);
            } else if !decoded.is_empty() {
                self.steps.push_back(Step::Content(decoded));
            }
        }
        if data.decoder.is_finished() {
            self.behind_end = !input.is_empty();
            self.end_of_data();
        } else if let Some(refusal) = &data.refusal
            && raw_bytes > limit.saturating_mul(SWALLOW_FACTOR)
        {
            let (refusal, client) = (refusal.clone(), data.transaction.client.name.clone());
            self.tell_refused(&client, &refusal);
            self.reply(refusal.reply());
            self.close();
        }
    }

    pub(super) fn ended_by_silence(&mut self) -> bool {
        let State::Data(data) = &mut self.state else { return false };
        data.decoder.silence();
        let ended = data.decoder.is_finished();
        if ended {
            self.end_of_data();
        }
        ended
    }

    fn end_of_data(&mut self) {
        let State::Data(data) = std::mem::replace(&mut self.state, State::Command) else { return };
        let Data { transaction, id, decoder, mut splitter, refusal } = *data;
        if let Some(refusal) = refusal {
            self.tell_refused(&transaction.client.name, &refusal);
            return self.refuse(&refusal);
        }
        let content = splitter.finish();
        if !content.is_empty() {
            self.steps.push_back(Step::Content(content));
        }
        let finished = Arc::new(Finished {
            id,
            client: transaction.client,
            reverse_path: transaction.from,
            recipients: transaction.recipients,
            head: splitter.into_head(),
            size_bytes: decoder.seen().raw_bytes,
            eight_bit: decoder.seen().eight_bit,
            settings: transaction.settings,
            helo: self.helo.clone().unwrap_or_default(),
            peer: self.peer,
            protocol: self.protocol(transaction.parameters.smtputf8),
            tls: self.tls.clone(),
        });
        self.state = State::Committing(Arc::clone(&finished));
        self.steps.push_back(Step::Commit(finished));
    }

    /// RFC 3848 and RFC 6531 section 4.3.
    fn protocol(&self, smtputf8: bool) -> String {
        let (secure, login) = (self.tls.is_some(), self.logged_in);
        let mut name = String::from(match () {
            () if smtputf8 => "UTF8SMTP",
            () if self.extended || secure || login => "ESMTP",
            () => "SMTP",
        });
        let _ = write!(name, "{}{}", if secure { "S" } else { "" }, if login { "A" } else { "" });
        name
    }

    fn tell_refused(&mut self, client: &ClientName, refusal: &Refusal) {
        let (peer, client) = (self.peer, client.clone());
        self.tell(match refusal {
            Refusal::Queue(why) => {
                let unable = match why {
                    QueueError::Full(_) => Unable::NoSpace,
                    QueueError::Closed => Unable::Stopping,
                    _ => Unable::Failed,
                };
                Fact::QueueRefused { peer, client, why: why.to_string(), unable }
            }
            other => Fact::MessageRefused { peer, client, reply: other.reply() },
        });
    }

    /// The reply to data that was not taken.
    fn refuse(&mut self, refusal: &Refusal) {
        self.reply(refusal.reply());
        if matches!(refusal, Refusal::Queue(QueueError::Closed)) {
            self.close();
        } else if self.stopping {
            self.stop();
        }
    }
}
