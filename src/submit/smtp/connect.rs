//! Opening, keeping and closing a connection to the smart host.
//!
//! Invariant: STARTTLS, where it is asked for, happened before anything but EHLO was said, and nothing said before
//! it is believed after it; a password is spoken only inside verified TLS; every failure names its stage.
//! Must not know: messages; how long a connection should live.

use super::capabilities::Capabilities;
use super::channel::Channel;
use super::{SmartHost, Tls, login};
use crate::fact::{Witness, submit::Fact};
use crate::mail::{Cause, Failure, Mailbox, Reply, Stage};
use crate::tls::Trust;
use mail_send::SmtpClient;
use std::net::SocketAddr;
use std::time::Duration;
use tokio_rustls::TlsConnector;

/// From QUIT to the server's close, at most.
const GOODBYE: Duration = Duration::from_secs(5);

/// Every address of the smart host, as the system's resolver orders them.
///
/// # Errors
/// At `Stage::Connect`: no such name, no answer in time.
pub async fn resolve(host: &SmartHost) -> Result<Vec<SocketAddr>, Failure> {
    let failed = |cause| Failure::new(Stage::Connect, cause);
    let name = host.host.trim_start_matches('[').trim_end_matches(']');
    let found = tokio::time::timeout(host.connect_timeout, tokio::net::lookup_host((name, host.port)))
        .await
        .map_err(|_| failed(Cause::Timeout))?
        .map_err(|e| failed(Cause::Network(format!("cannot resolve {name}: {e}"))))?;
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for address in found {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.is_empty() {
        return Err(failed(Cause::Network(format!("cannot resolve {name}: it has no address"))));
    }
    Ok(addresses)
}

/// What opening a connection comes by, in this order; peer text.
#[derive(Debug)]
pub enum Seen<'a> {
    /// The 220.
    Banner(&'a Reply),
    /// The answer to EHLO; in TLS a second time, and then only that one counts.
    Announced {
        /// What it offers.
        capabilities: &'a Capabilities,
        /// Whether it was said inside TLS.
        in_tls: bool,
    },
    /// The handshake is through and the certificate verified.
    Tls {
        /// Version and cipher suite.
        session: String,
        /// The server's own certificate, DER.
        certificate: Option<&'a [u8]>,
    },
    /// AUTH was accepted.
    SignedIn,
}

/// A connection that is signed in (where there is a login) and ready for `send`.
pub struct Connection {
    pub(super) channel: Channel,
    pub(super) capabilities: Capabilities,
    pub(super) command_timeout: Duration,
    pub(super) data_timeout: Duration,
    /// False while a transaction is on its way and after one that left the dialogue in disorder: a future dropped
    /// in the middle of a body must not be followed by a command.
    pub(super) orderly: bool,
    address: SocketAddr,
}

impl Connection {
    /// Connects to one of the host's addresses, up to and with AUTH.
    ///
    /// # Errors
    /// Whatever stopped it, with the stage it had come to. A login with `Tls::Off` is refused at `Stage::Tls`
    /// before a packet is sent.
    pub async fn open(
        host: &SmartHost,
        trust: &Trust,
        address: SocketAddr,
        witness: &Witness,
    ) -> Result<Self, Failure> {
        Self::open_watched(host, trust, address, witness, &mut |_| {}).await
    }

    /// As `open`, showing what it comes by on the way.
    ///
    /// # Errors
    /// As `open`; what was seen before it stays seen.
    pub async fn open_watched(
        host: &SmartHost,
        trust: &Trust,
        address: SocketAddr,
        witness: &Witness,
        watch: &mut (dyn FnMut(Seen<'_>) + Send),
    ) -> Result<Self, Failure> {
        if host.login.is_some() && host.tls == Tls::Off {
            return Err(Failure::new(Stage::Tls, Cause::NoStartTls));
        }
        let name = host.host.trim_start_matches('[').trim_end_matches(']');
        let mut channel = connect(host, address).await.map_err(at(Stage::Connect))?;
        if host.tls == Tls::Implicit {
            channel = channel.into_tls(connector(trust).await?, name).await.map_err(at(Stage::Tls))?;
            watch(tls_of(&channel));
        }
        let banner = channel.reply(host.connect_timeout).await.map_err(at(Stage::Connect))?;
        let banner = expect_positive(banner).map_err(at(Stage::Connect))?;
        watch(Seen::Banner(&banner));

        let mut capabilities = ehlo(&mut channel, host).await?;
        watch(Seen::Announced { capabilities: &capabilities, in_tls: host.tls == Tls::Implicit });
        if host.tls == Tls::StartTls {
            if !capabilities.has("STARTTLS") {
                return Err(Failure::new(Stage::Tls, Cause::NoStartTls));
            }
            start_tls(&mut channel, host.command_timeout).await.map_err(at(Stage::Tls))?;
            channel = channel.into_tls(connector(trust).await?, name).await.map_err(at(Stage::Tls))?;
            watch(tls_of(&channel));
            // RFC 3207 section 4.2: what was announced in the clear is forgotten.
            capabilities = ehlo(&mut channel, host).await?;
            watch(Seen::Announced { capabilities: &capabilities, in_tls: true });
        }
        if let Some(login) = &host.login {
            login::sign_in(&mut channel, &capabilities, login, &host.host, host.command_timeout, witness)
                .await
                .map_err(at(Stage::Auth))?;
            watch(Seen::SignedIn);
        }
        witness.tell(Fact::Connected {
            host: host.host.clone(),
            address,
            tls: channel.tls(),
            signed_in: host.login.is_some(),
        });
        Ok(Self {
            channel,
            capabilities,
            command_timeout: host.command_timeout,
            data_timeout: host.data_timeout,
            orderly: true,
            address,
        })
    }

    /// What the server announced, after TLS.
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// Whether it can carry a transaction, as far as is known here.
    pub fn is_usable(&self) -> bool {
        self.orderly
    }

    /// The address it goes to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// TLS version and cipher suite, for people; none in the clear.
    pub fn tls(&self) -> Option<String> {
        self.channel.tls()
    }

    /// Asks whether this sender may begin a transaction, and ends it again. Exchange Online says no more here than
    /// that it knows the address: the right to send as it is looked at after the end of data.
    ///
    /// # Errors
    /// At `Stage::Mail`. After a refusal the connection is as good as before.
    pub async fn try_sender(&mut self, from: &Mailbox) -> Result<Reply, Failure> {
        let failed = at(Stage::Mail);
        if !std::mem::replace(&mut self.orderly, false) {
            return Err(failed(Cause::Network("the connection is in disorder".to_owned())));
        }
        let from = from.in_ascii();
        if !from.is_ascii() {
            self.orderly = true;
            return Err(failed(Cause::NoSmtpUtf8));
        }
        let patience = self.command_timeout;
        let command = format!("MAIL FROM:<{from}>\r\n");
        self.channel.write(command.as_bytes(), patience).await.map_err(&failed)?;
        let reply = self.channel.reply(patience).await.map_err(&failed)?;
        let reply = match expect_positive(reply) {
            Err(Cause::Reply(reply)) => {
                self.orderly = reply.code != 421;
                return Err(failed(Cause::Reply(reply)));
            }
            other => other.map_err(&failed)?,
        };
        self.orderly = exchange(&mut self.channel, b"RSET\r\n", patience).await.is_ok();
        Ok(reply)
    }

    /// Resolves when the idle connection is of no more use: the server closed it, or said something nobody asked
    /// for (`421 4.4.2` when it tires of waiting). May be dropped and called again; nothing is lost by that.
    pub async fn closed_by_peer(&mut self) -> Cause {
        self.channel.disturbance().await
    }

    /// Says QUIT (unless the dialogue is in disorder) and resolves when the server has closed, or after five seconds: only then has it stopped counting
    /// this connection, and the next one does not earn a `432 4.3.2` of our own making.
    pub async fn quit(mut self) {
        let goodbye = async {
            if self.orderly && self.channel.write(b"QUIT\r\n", GOODBYE).await.is_ok() {
                // 221, or what else it has to say; the close is what counts.
                let _ = self.channel.reply(GOODBYE).await;
            }
            self.channel.close().await;
        };
        let _ = tokio::time::timeout(GOODBYE, goodbye).await;
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("address", &self.address).finish_non_exhaustive()
    }
}

fn tls_of(channel: &Channel) -> Seen<'_> {
    Seen::Tls { session: channel.tls().unwrap_or_default(), certificate: channel.certificate() }
}

async fn connect(host: &SmartHost, address: SocketAddr) -> Result<Channel, Cause> {
    let client = SmtpClient::connect(address, host.connect_timeout).await.map_err(|e| match e {
        mail_send::Error::Timeout => Cause::Timeout,
        mail_send::Error::Io(e) => Cause::Network(e.to_string()),
        other => Cause::Network(other.to_string()),
    })?;
    // Nagle would hold the end of a message back until the server acknowledges what went before.
    client.stream.set_nodelay(true).map_err(|e| Cause::Network(e.to_string()))?;
    Ok(Channel::new(client))
}

/// No HELO for a server that refuses EHLO: without extensions there is neither TLS nor AUTH.
async fn ehlo(channel: &mut Channel, host: &SmartHost) -> Result<Capabilities, Failure> {
    let command = format!("EHLO {}\r\n", host.ehlo_name);
    let reply = exchange(channel, command.as_bytes(), host.command_timeout).await.map_err(at(Stage::Ehlo))?;
    Ok(Capabilities::read(&reply))
}

async fn start_tls(channel: &mut Channel, patience: Duration) -> Result<(), Cause> {
    exchange(channel, b"STARTTLS\r\n", patience).await?;
    if channel.is_silent() {
        Ok(())
    } else {
        // Said in the clear to be believed inside TLS (CVE-2011-0411): somebody on the way said it.
        Err(Cause::Unparsable("more than the answer to STARTTLS arrived in the clear".to_owned()))
    }
}

async fn exchange(channel: &mut Channel, command: &[u8], patience: Duration) -> Result<Reply, Cause> {
    channel.write(command, patience).await?;
    expect_positive(channel.reply(patience).await?)
}

fn expect_positive(reply: Reply) -> Result<Reply, Cause> {
    match reply.code / 100 {
        2 => Ok(reply),
        4 | 5 => Err(Cause::Reply(reply)),
        _ => Err(Cause::Unparsable(reply.to_string())),
    }
}

fn at(stage: Stage) -> impl Fn(Cause) -> Failure {
    move |cause| Failure::new(stage, cause)
}

async fn connector(trust: &Trust) -> Result<&TlsConnector, Failure> {
    trust.connector().await.map_err(|e| Failure::new(Stage::Tls, Cause::Certificate(e.to_string())))
}
