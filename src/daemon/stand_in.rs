//! `serve --sandbox`: the sandbox in place of every smart host, and a queue of its own.
//!
//! Invariant: mail of the sandbox and real mail never meet. The sandbox's queue is a directory below the configured
//! one, is marked for good before the first mail is taken, and is opened for nothing else; a queue without the mark
//! that holds anything is never opened for the sandbox. No account, whenever it was configured, has another way out.
//! Must not know: what the sandbox does with mail.

use super::{Exit, StartError};
use crate::config::Settings;
use crate::fact::Witness;
use crate::fact::daemon::Fact;
use crate::files;
use crate::queue::{Queue, QueueError};
use crate::sandbox::{Sandbox, SandboxSettings};
use crate::submit::smtp::{Login, Tls};
use crate::tls::Trust;
use secrecy::SecretString;
use std::net::SocketAddr;
use std::path::Path;

const MAILBOX: &str = "sandbox@contoso.com";
const PASSWORD: &str = "sandbox";
/// Below the configured directory, which the unit lets the relay write.
const DIRECTORY: &str = "sandbox";
/// The queue's note that is the mark.
const MARK: &str = "sandbox";

/// Whom a queue's mail is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MailFor {
    SmartHosts,
    Sandbox,
}

impl MailFor {
    /// Whether this queue's mail is for that; an empty one without a mark gets it.
    pub(super) async fn claim(self, queue: &Queue, directory: &Path) -> Result<(), StartError> {
        let unusable = |e: QueueError| StartError::Directory {
            directory: directory.to_owned(),
            error: std::io::Error::other(e),
        };
        let is_marked = queue.notes.note(MARK).await.map_err(unusable)?.is_some();
        match (self, is_marked) {
            (Self::SmartHosts, false) | (Self::Sandbox, true) => Ok(()),
            (Self::SmartHosts, true) => Err(StartError::OfSandbox(directory.to_owned())),
            (Self::Sandbox, false) => {
                if queue.ledger.totals().await.map_err(unusable)?.iter().any(|t| t.messages > 0) {
                    return Err(StartError::NotOfSandbox(directory.to_owned()));
                }
                let why = "made by serve --sandbox: nothing in it is for a smart host".to_owned();
                queue.notes.set_note(MARK, Some(why)).await.map_err(unusable)
            }
        }
    }
}

/// The sandbox, running.
pub(super) struct StandIn {
    _sandbox: Sandbox,
    address: SocketAddr,
    trust: Trust,
}

impl StandIn {
    pub(super) fn start(settings: &Settings, witness: &Witness) -> Result<Self, Exit> {
        let sandbox =
            Sandbox::start(SandboxSettings::new(MAILBOX, SecretString::from(PASSWORD)), witness.clone())
                .map_err(|e| Exit::Sandbox(e.to_string()))?;
        let directory = settings.queue.directory.join(DIRECTORY);
        let unusable = |error| Exit::from(StartError::Directory { directory: directory.clone(), error });
        files::make_directory(&directory).map_err(unusable)?;
        let ca_file = directory.join("sandbox-ca.pem");
        files::replace(&ca_file, sandbox.ca_pem().as_bytes()).map_err(unusable)?;
        let address = sandbox.address();
        let trust = Trust::new(Some(&ca_file)).map_err(|e| Exit::Sandbox(e.to_string()))?;
        witness.tell(Fact::Sandboxed { address, queue: directory });
        Ok(Self { _sandbox: sandbox, address, trust })
    }

    /// Leads every account here, and to a queue below the configured one.
    pub(super) fn redirect(&self, settings: &mut Settings) {
        settings.is_sandbox = true;
        settings.queue.directory.push(DIRECTORY);
        for account in &mut settings.accounts {
            account.smart_host.host = self.address.ip().to_string();
            account.smart_host.port = self.address.port();
            account.smart_host.tls = Tls::StartTls;
            account.oauth = None;
            account.smart_host.login =
                Some(Login::Password { user: MAILBOX.to_owned(), password: SecretString::from(PASSWORD) });
            account.trust = self.trust.clone();
        }
    }
}
