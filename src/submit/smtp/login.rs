//! AUTH: one mechanism, one try.
//!
//! Invariant: a refused login is never repeated here, not with another mechanism either (Exchange Online locks an
//! account after about ten refusals); password and token are in no log, no error and no memory once they are sent.
//! Must not know: whether the channel is safe to speak a password over; `connect` sees to that.

use super::Login;
use super::capabilities::Capabilities;
use super::channel::Channel;
use crate::fact::{Witness, submit::Fact};
use crate::mail::{Cause, Reply};
use base64::Engine;
use mail_send::Credentials;
use secrecy::ExposeSecret;
use secrecy::zeroize::Zeroizing;
use smtp_proto::{AUTH_LOGIN, AUTH_PLAIN, AUTH_XOAUTH2};
use std::time::Duration;

/// `Username:` and `Password:`. LOGIN's two questions come in this order; servers word them as they like.
const USER_QUESTION: &str = "VXNlcm5hbWU6";
const PASSWORD_QUESTION: &str = "UGFzc3dvcmQ6";

/// Signs in: with a token by XOAUTH2, with a password by PLAIN or else LOGIN. `host` is for the log.
///
/// # Errors
/// `NoAuth` when nothing of that is announced, the server's refusal, or the channel's.
pub(super) async fn sign_in(
    channel: &mut Channel,
    capabilities: &Capabilities,
    login: &Login,
    host: &str,
    patience: Duration,
    witness: &Witness,
) -> Result<(), Cause> {
    match login {
        Login::Password { user, password } => {
            let credentials = Credentials::new(user.as_str(), password.expose_secret());
            with_password(channel, capabilities, &credentials, patience).await
        }
        Login::Token { user, token } => {
            let credentials = Credentials::new_xoauth2(user.as_str(), token.expose());
            with_token(channel, capabilities, &credentials, host, patience, witness).await
        }
    }
}

/// A refusal usually comes at once. To a challenge (its JSON says why) the client sends an empty line, and the
/// refusal follows.
async fn with_token(
    channel: &mut Channel,
    capabilities: &Capabilities,
    credentials: &Credentials<&str>,
    host: &str,
    patience: Duration,
    witness: &Witness,
) -> Result<(), Cause> {
    if !capabilities.has_auth("XOAUTH2") {
        return Err(Cause::NoAuth);
    }
    let command = line("AUTH XOAUTH2 ", &encode(credentials, AUTH_XOAUTH2, "")?);
    channel.write(command.as_bytes(), patience).await?;
    let mut reply = channel.reply(patience).await?;
    if reply.code == 334 {
        witness.tell(Fact::TokenChallenged { host: host.to_owned(), json: challenge(&reply) });
        channel.write(b"\r\n", patience).await?;
        reply = channel.reply(patience).await?;
    }
    match reply.code {
        _ if reply.is_positive() => Ok(()),
        535 => Err(Cause::TokenRejected { reply, remedy: vec![] }),
        _ => Err(refusal(reply)),
    }
}

/// What stands in a 334: base64 of JSON; as it came where it is not.
fn challenge(reply: &Reply) -> Vec<u8> {
    let text = reply.text.trim();
    base64::engine::general_purpose::STANDARD.decode(text).unwrap_or_else(|_| text.as_bytes().to_vec())
}

async fn with_password(
    channel: &mut Channel,
    capabilities: &Capabilities,
    credentials: &Credentials<&str>,
    patience: Duration,
) -> Result<(), Cause> {
    let answers = if capabilities.has_auth("PLAIN") {
        // RFC 4954 section 4: the response goes with the command; a server that asks all the same gets it again.
        let response = encode(credentials, AUTH_PLAIN, "")?;
        vec![line("AUTH PLAIN ", &response), line("", &response)]
    } else if capabilities.has_auth("LOGIN") {
        vec![
            line("AUTH LOGIN", ""),
            line("", &encode(credentials, AUTH_LOGIN, USER_QUESTION)?),
            line("", &encode(credentials, AUTH_LOGIN, PASSWORD_QUESTION)?),
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

fn encode(
    credentials: &Credentials<&str>,
    mechanism: u64,
    question: &str,
) -> Result<Zeroizing<String>, Cause> {
    credentials.encode(mechanism, question).map(Zeroizing::new).map_err(|_| Cause::NoAuth)
}

/// Sized beforehand: a string that grows leaves copies behind.
fn line(command: &str, response: &str) -> Zeroizing<String> {
    let mut line = Zeroizing::new(String::with_capacity(command.len() + response.len() + 2));
    line.push_str(command);
    line.push_str(response);
    line.push_str("\r\n");
    line
}
