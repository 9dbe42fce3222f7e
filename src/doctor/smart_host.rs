//! The steps of one account: from its name in DNS to the right to send.
//!
//! Invariant: one login, whatever it says: Exchange Online locks an account after about ten refusals. Must not know:
//! how anything is shown.

use super::report::{Patient, Report, Status, Step};
use super::{LoginKind, Order, certificate, token};
use crate::config::{Account, Settings};
use crate::control::report::count;
use crate::fact::Witness;
use crate::mail::{AddressPattern, Cause, Escaped, Failure, Mailbox, ReversePath, Sender, Stage, WallTime};
use crate::policy::advice::Advice;
use crate::submit::smtp::{Capabilities, Connection, Login, Seen, SmartHost, Tls, resolve};
use crate::submit::{Outcome, Outgoing};
use bytesize::ByteSize;
use futures_util::future::join_all;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A person is waiting: no step takes longer, whatever the account allows.
const PATIENCE: Duration = Duration::from_secs(20);
/// Authorities renew a month ahead; who has not by then will not by itself.
const CERTIFICATE_WARNING_DAYS: i64 = 14;

const EHLO: &str = "EHLO";
const AUTH_OFFERED: &str = "announced AUTH";
const AUTH: &str = "AUTH";

/// Whether this step says that the account got in.
pub(super) fn is_signed_in(step: &Step) -> bool {
    step.name == AUTH && step.status == Status::Ok
}

/// Looks at one account.
pub(super) async fn examine(
    settings: &Settings,
    account: &Account,
    login: LoginKind,
    order: &Order,
    report: &mut Report,
) {
    let mut host = account.smart_host.clone();
    host.connect_timeout = host.connect_timeout.min(PATIENCE);
    host.command_timeout = host.command_timeout.min(PATIENCE);
    let place = host.place();
    let patient = Patient {
        mailbox: account.sender.mailbox.to_string(),
        smart_host: place.clone(),
        app: match &login {
            LoginKind::Token(source) => {
                Some((source.settings().tenant.clone(), source.settings().client_id.clone()))
            }
            _ => None,
        },
    };
    report.begin_account(&patient.mailbox, &place);
    let Some(address) = reach(&host, &patient, report).await else { return };
    let mut tokens = vec![];
    if let LoginKind::Token(source) = &login {
        let (steps, token) = token::steps(source, &patient).await;
        tokens = steps;
        host.login = token.map(|token| Login::Token { user: account.sender.mailbox.to_string(), token });
    }
    let mut dialogue = Dialogue {
        host: &host,
        address,
        login: &login,
        patient: &patient,
        report,
        tokens,
        announced: None,
        signed_in: false,
    };
    let opened = Connection::open_watched(&host, &account.trust, address, &Witness::nobody(), &mut |seen| {
        dialogue.saw(seen);
    })
    .await;
    dialogue.opened(opened.as_ref().err());
    let (announced, signed_in) = (dialogue.announced, dialogue.signed_in);
    if let Ok(mut connection) = opened {
        if signed_in || matches!(login, LoginKind::None) {
            senders(account, &mut connection, &patient, report).await;
            if let Some(to) = &order.send_to {
                send(settings, account, to, &mut connection, &patient, report).await;
            }
        } else {
            report.push(Step::skipped("MAIL FROM", "nobody is signed in"));
        }
        connection.quit().await;
    }
    if let Some(announced) = announced {
        report.push(size(&announced, settings.receive.max_message_size_bytes, &patient));
    }
}

/// DNS, and TCP to every address; the first that answers.
async fn reach(host: &SmartHost, patient: &Patient, report: &mut Report) -> Option<SocketAddr> {
    let failed = |name: &str, failure: &Failure| {
        Step::failed(name, failure.cause.to_string(), patient.finding(patient.advice(failure)))
    };
    let addresses = match resolve(host).await {
        Ok(addresses) => addresses,
        Err(failure) => {
            report.push(failed("DNS", &failure));
            report.push(Step::skipped("the rest", "there is no address to try"));
            return None;
        }
    };
    let list = addresses.iter().map(|a| a.ip().to_string()).collect::<Vec<_>>().join(", ");
    report.push(Step::ok("DNS", format!("{} is {list}", host.host)));
    let tries = join_all(addresses.iter().map(|address| async move {
        let started = Instant::now();
        let connected = match timeout(host.connect_timeout, TcpStream::connect(address)).await {
            Ok(Ok(_)) => Ok(started.elapsed()),
            Ok(Err(e)) => Err(Cause::Network(e.to_string())),
            Err(_) => Err(Cause::Timeout),
        };
        (*address, connected.map_err(|cause| Failure::new(Stage::Connect, cause)))
    }))
    .await;
    let first = tries.iter().find(|(_, t)| t.is_ok()).map(|(address, _)| *address);
    for (address, tried) in tries {
        let name = format!("TCP {address}");
        report.push(match tried {
            Ok(time) => Step::ok(name, format!("{:.0} ms", time.as_secs_f64() * 1000.0)),
            Err(failure) if first.is_none() => failed(&name, &failure),
            Err(failure) => {
                Step::warning(name, failure.cause.to_string(), patient.finding(patient.advice(&failure)))
            }
        });
    }
    if first.is_none() {
        report.push(Step::skipped("the rest", "no address answers"));
    }
    first
}

/// What was seen while the connection opened, as steps.
struct Dialogue<'a> {
    host: &'a SmartHost,
    /// Which of its addresses is spoken with: a PRX4 is often one front end's.
    address: SocketAddr,
    login: &'a LoginKind,
    patient: &'a Patient,
    report: &'a mut Report,
    /// Asked for beforehand, told in their place.
    tokens: Vec<Step>,
    announced: Option<Capabilities>,
    signed_in: bool,
}

impl Dialogue<'_> {
    fn banner_name(&self) -> String {
        format!("banner of {}", self.address.ip())
    }

    fn tls_name(&self) -> &'static str {
        if self.host.tls == Tls::Implicit { "TLS" } else { "STARTTLS" }
    }

    fn saw(&mut self, seen: Seen<'_>) {
        match seen {
            Seen::Banner(reply) => self.report.push(Step::ok(self.banner_name(), reply.to_string())),
            Seen::Announced { capabilities, in_tls } => {
                let words = capabilities.lines().map(|(keyword, _)| keyword).collect::<Vec<_>>().join(" ");
                let name = if in_tls { "EHLO in TLS" } else { EHLO };
                self.report.push(Step::ok(name, Escaped(words.as_bytes()).to_string()));
                if in_tls || self.host.tls == Tls::Off {
                    self.announced = Some(capabilities.clone());
                    self.auth_offered(capabilities);
                    for step in std::mem::take(&mut self.tokens) {
                        self.report.push(step);
                    }
                }
            }
            Seen::Tls { session, certificate } => {
                let described = certificate.and_then(|der| certificate::describe(der, WallTime::now()));
                let name = self.tls_name();
                self.report.push(match described {
                    None => Step::ok(name, session),
                    Some(c) => {
                        let left = count(u64::try_from(c.days_left).unwrap_or(0), "day");
                        let said = format!("{session}; certificate {}, {left} left", c.said);
                        if c.days_left < CERTIFICATE_WARNING_DAYS {
                            Step::warning(name, said, self.patient.finding(Advice::CertificateEnds))
                        } else {
                            Step::ok(name, said)
                        }
                    }
                });
            }
            Seen::SignedIn => {
                self.signed_in = true;
                let user = self.host.login.as_ref().map_or("", Login::user);
                let user = Escaped(user.as_bytes()).to_string();
                self.report.push(Step::ok(AUTH, format!("signed in as {user}")));
            }
        }
    }

    fn auth_offered(&mut self, capabilities: &Capabilities) {
        let offered = capabilities.auth_mechanisms().filter(|m| !m.is_empty()).collect::<Vec<_>>().join(" ");
        let offered =
            if offered.is_empty() { "none".to_owned() } else { Escaped(offered.as_bytes()).to_string() };
        let (wanted, fits) = match self.login {
            LoginKind::None => ("the account has no login", true),
            LoginKind::Password => (
                "a password needs PLAIN or LOGIN",
                capabilities.has_auth("PLAIN") || capabilities.has_auth("LOGIN"),
            ),
            LoginKind::Token(_) => ("a token needs XOAUTH2", capabilities.has_auth("XOAUTH2")),
        };
        let said = format!("{offered}; {wanted}");
        self.report.push(if fits {
            Step::ok(AUTH_OFFERED, said)
        } else {
            Step::failed(AUTH_OFFERED, said, self.patient.finding(Advice::NoAuthOffered))
        });
    }

    /// The end of it: the failed step, and what could not be looked at.
    fn opened(&mut self, failure: Option<&Failure>) {
        match failure {
            None if !self.signed_in => {
                let why = match self.login {
                    LoginKind::Token(_) => "there is no token to log in with",
                    LoginKind::None | LoginKind::Password => "the account has no login",
                };
                self.report.push(Step::skipped(AUTH, why));
            }
            None => {}
            Some(Failure { stage: Stage::Auth, cause: Cause::NoAuth }) => {
                self.report.push(Step::skipped(AUTH, "there is no mechanism to log in with"));
            }
            Some(failure) => {
                let name = match failure.stage {
                    Stage::Connect => self.banner_name(),
                    Stage::Ehlo => EHLO.to_owned(),
                    Stage::Tls => self.tls_name().to_owned(),
                    Stage::Token => "token".to_owned(),
                    _ => AUTH.to_owned(),
                };
                let finding = self.patient.finding(self.patient.advice(failure));
                self.report.push(Step::failed(name, failure.cause.to_string(), finding));
            }
        }
        for step in std::mem::take(&mut self.tokens) {
            self.report.push(step);
        }
        if failure.is_some() {
            self.report.push(Step::skipped("the rest", "the connection came no further"));
        }
    }
}

/// MAIL FROM each address that may be used and is known by name.
async fn senders(account: &Account, connection: &mut Connection, patient: &Patient, report: &mut Report) {
    let named = account.sender.send_as.iter().filter_map(|p| match p {
        AddressPattern::One(mailbox) if !mailbox.is_same(&account.sender.mailbox) => Some(mailbox),
        _ => None,
    });
    for from in std::iter::once(&account.sender.mailbox).chain(named) {
        let name = format!("MAIL FROM {from}");
        if !connection.is_usable() {
            report.push(Step::skipped(name, "the connection came no further"));
            continue;
        }
        report.push(match connection.try_sender(from).await {
            Ok(reply) => Step::ok(name, reply.to_string()),
            Err(failure) => {
                let advice = patient.advice(&failure);
                let finding = patient.finding(advice);
                let remedy = if advice == Advice::SendAs && from.is_same(&account.sender.mailbox) {
                    let user = account.smart_host.login.as_ref().map_or("USER", Login::user);
                    vec![format!(
                        "log in as {from} itself, or let the login send as it: Add-RecipientPermission -Identity {from} \
                         -Trustee {} -AccessRights SendAs",
                        Escaped(user.as_bytes())
                    )]
                } else {
                    finding.remedy.iter().map(|l| l.replace("ADDRESS", &from.to_string())).collect()
                };
                Step::failed(name, failure.cause.to_string(), finding).with_remedy(remedy)
            }
        });
    }
}

fn size(announced: &Capabilities, ours: u64, patient: &Patient) -> Step {
    let ours_shown = ByteSize(ours);
    match announced.max_size_bytes() {
        None => Step::ok(
            "SIZE",
            format!("the server does not say; devices may send {ours_shown} (max_message_size)"),
        ),
        Some(theirs) => {
            let theirs_shown = ByteSize(theirs);
            let said = format!(
                "the server takes {theirs_shown} a message, devices may send {ours_shown} (max_message_size)"
            );
            if theirs < ours {
                Step::warning("SIZE", said, patient.finding(Advice::SizeBelowOurs))
            } else {
                Step::ok("SIZE", said)
            }
        }
    }
}

/// One message, from the mailbox to `to`.
async fn send(
    settings: &Settings,
    account: &Account,
    to: &Mailbox,
    connection: &mut Connection,
    patient: &Patient,
    report: &mut Report,
) {
    let name = format!("message to {to}");
    if !connection.is_usable() {
        return report.push(Step::skipped(name, "the connection came no further"));
    }
    let sender = Sender { mailbox: account.sender.mailbox.clone(), send_as: vec![] };
    let outgoing = Outgoing {
        reverse_path: &ReversePath::Mailbox(account.sender.mailbox.clone()),
        recipients: vec![to],
        letter: &super::send_test::letter(&account.sender.mailbox, to, &settings.hostname),
        charset: None,
        sender: &sender,
    };
    let sent = connection.send(&outgoing, &|| {}).await;
    let failure = sent.failure.or_else(|| match sent.outcomes.first() {
        Some(Outcome::Refused(failure)) => Some(failure.clone()),
        _ => None,
    });
    report.push(match (failure, sent.outcomes.first()) {
        (Some(failure), _) => {
            let finding = patient.finding(patient.advice(&failure));
            Step::failed(name, failure.to_string(), finding)
        }
        (None, Some(Outcome::Taken(reply))) => Step::ok(name, reply.to_string()),
        (None, _) => Step::skipped(name, "the server left it for another time"),
    });
}
