//! AUTH: one mechanism, one try.
//!
//! Invariant: a refused login is never repeated here, not with another mechanism either (Exchange Online locks an
//! account after about ten refusals); the password is in no log, no error and no memory once it is sent.
//! Must not know: whether the channel is safe to speak a password over; `connect` sees to that.

use super::Login;
use super::capabilities::Capabilities;
use super::channel::Channel;
use crate::mail::{Cause, Reply};
use mail_send::Credentials;
use secrecy::ExposeSecret;
use secrecy::zeroize::Zeroizing;
use smtp_proto::{AUTH_LOGIN, AUTH_PLAIN};
use std::time::Duration;

/// `Username:` and `Password:`. LOGIN's two questions come in this order; servers word them as they like.
const USER_QUESTION: &str = "VXNlcm5hbWU6";
const PASSWORD_QUESTION: &str = "UGFzc3dvcmQ6";

/// Signs in with PLAIN or else LOGIN.
///
/// # Errors
/// `NoAuth` when neither is announced, the server's refusal, or the channel's.
pub(super) async fn sign_in(
    channel: &mut Channel,
    capabilities: &Capabilities,
    login: &Login,
    patience: Duration,
) -> Result<(), Cause> {
    let answers = if capabilities.has_auth("PLAIN") {
        // RFC 4954 section 4: the response goes with the command; a server that asks all the same gets it again.
        let response = encode(login, AUTH_PLAIN, "")?;
        vec![line("AUTH PLAIN ", &response), line("", &response)]
    } else if capabilities.has_auth("LOGIN") {
        vec![
            line("AUTH LOGIN", ""),
            line("", &encode(login, AUTH_LOGIN, USER_QUESTION)?),
            line("", &encode(login, AUTH_LOGIN, PASSWORD_QUESTION)?),
        ]
    } else {
        return Err(Cause::NoAuth);
    };
    let mut last = None;
    for answer in answers {
        channel.write(answer.as_bytes(), patience).await?;
        let reply = channel.reply(patience).await?;
        if reply.is_positive() {
            return Ok(());
        }
        if reply.code != 334 {
            return Err(refusal(reply));
        }
        last = Some(reply);
    }
    // It asks on and on: RFC 4954 section 4, `*` cancels.
    channel.write(b"*\r\n", patience).await?;
    channel.reply(patience).await?;
    Err(Cause::Unparsable(last.map_or_else(String::new, |r| r.to_string())))
}

fn refusal(reply: Reply) -> Cause {
    if reply.is_transient() || reply.is_permanent() {
        Cause::Reply(reply)
    } else {
        Cause::Unparsable(reply.to_string())
    }
}

fn encode(login: &Login, mechanism: u64, question: &str) -> Result<Zeroizing<String>, Cause> {
    Credentials::new(login.user.as_str(), login.password.expose_secret())
        .encode(mechanism, question)
        .map(Zeroizing::new)
        .map_err(|_| Cause::NoAuth)
}

/// Sized beforehand: a string that grows leaves copies behind.
fn line(command: &str, response: &str) -> Zeroizing<String> {
    let mut line = Zeroizing::new(String::with_capacity(command.len() + response.len() + 2));
    line.push_str(command);
    line.push_str(response);
    line.push_str("\r\n");
    line
}
