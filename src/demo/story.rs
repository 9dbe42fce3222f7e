//! The script of the demo.
//!
//! Invariant: nothing is promised that the summary does not prove. Must not know: what the relay is made of, how
//! anything looks.

use crate::demo::device::{Device, Greeting};
use crate::demo::here;
use crate::demo::scans;
use crate::demo::screen::{COLUMNS, Line, Paper, Style, line, wrapped};
use crate::demo::summary::{DEVICES, Summary};
use crate::demo::teller::{Condition, Teller, Who};
use crate::sandbox::{Outage, Sandbox};
use secrecy::SecretString;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// What the demo needs of a relay that delivers to the sandbox.
pub trait Relay {
    /// Where it listens; an unspecified address is every address of this computer.
    fn address(&self) -> SocketAddr;

    /// How it is, told anew every now and then whether it changed or not; `None`: it does not answer.
    fn conditions(&self) -> watch::Receiver<Option<Condition>>;

    /// Ends it at this very moment, as a power cut does; says how, in words.
    fn kill(&mut self) -> impl Future<Output = io::Result<String>> + Send;

    /// Starts it on what it left behind; it takes mail when this is ready.
    fn start(&mut self) -> impl Future<Output = io::Result<()>> + Send;

    /// Gives it the mailbox's new password as an admin does; says how, in words.
    fn set_password(&mut self, password: &'static str) -> impl Future<Output = io::Result<String>> + Send;
}

/// How to play it.
#[derive(Debug, Clone)]
pub struct Script {
    /// End after the summary; otherwise stay up.
    pub once: bool,
    /// Between two scenes.
    pub pause: Duration,
    /// How long Exchange Online is out of order.
    pub outage: Duration,
    /// So long a text of some lines can be read.
    pub reading: Duration,
    /// Everything not delivered so long after a fault's end is missing.
    pub finish_within: Duration,
    /// What the lines go to.
    pub paper: Paper,
}

impl Script {
    /// About forty seconds.
    pub fn new(once: bool) -> Self {
        let paper = Paper::of_stdout();
        Self {
            once,
            pause: Duration::from_millis(1200),
            outage: Duration::from_secs(9),
            reading: Duration::from_secs(if paper.is_live && !once { 6 } else { 1 }),
            finish_within: Duration::from_secs(40),
            // What is told once is for a log, however it is read.
            paper: Paper { is_live: paper.is_live && !once, ..paper },
        }
    }
}

const PRINTER: Device = Device {
    name: DEVICES[0],
    greeting: Greeting::Ehlo,
    host_name: "MFP-2",
    from: "mfp2@contoso.com",
    to: "office@contoso.com",
};
const FAX: Device = Device {
    name: DEVICES[1],
    greeting: Greeting::Helo,
    host_name: "fax_server",
    from: "fax@contoso.com",
    to: "office@contoso.com",
};
const UPS: Device = Device {
    name: DEVICES[2],
    greeting: Greeting::Helo,
    host_name: "10.0.5.31",
    from: "ups@rack2",
    to: "it@contoso.com",
};

/// What the mailbox's password becomes.
const NEW_PASSWORD: &str = "incorrect zebra generator pin";

/// Plays the script; without `once` it then stays, telling what happens, until `end`.
///
/// # Errors
/// `out` cannot be written, or the relay cannot be started again.
pub async fn run<R: Relay>(
    relay: &mut R,
    sandbox: &Sandbox,
    script: &Script,
    out: impl Write,
    end: impl Future<Output = ()>,
) -> io::Result<Summary> {
    let teller = Teller::new(out, script.paper, sandbox, relay.conditions());
    let mut play = Play { relay, sandbox, script, teller };
    play.all_is_well().await?;
    play.outage_and_kill().await?;
    play.refused_login().await?;
    let waiting = play.teller.waiting().await?;
    let summary = Summary::new(&play.teller.sent, &sandbox.received(), waiting);
    play.teller.finish()?;
    play.teller.write(&account(&summary))?;
    if !script.once {
        play.teller.write(&invitation(play.relay.address(), &here::addresses()))?;
        play.teller.until(end).await?;
    }
    Ok(summary)
}

struct Play<'a, R, W> {
    relay: &'a mut R,
    sandbox: &'a Sandbox,
    script: &'a Script,
    teller: Teller<W>,
}

impl<R: Relay, W: Write> Play<'_, R, W> {
    async fn all_is_well(&mut self) -> io::Result<()> {
        self.teller.title("Three devices send mail through the relay to a stand-in for Exchange Online.")?;
        for (device, mail) in
            [(PRINTER, scans::contract(1)), (FAX, scans::fax(1)), (UPS, scans::alarm(1, "self-test passed"))]
        {
            self.teller.send(self.relay.address(), &[(device, mail)]).await?;
            self.teller.pass(self.script.pause).await?;
        }
        self.teller.delivered(self.sandbox, self.script.finish_within).await
    }

    async fn outage_and_kill(&mut self) -> io::Result<()> {
        let Self { relay, sandbox, script, teller } = self;
        teller.title("Exchange Online falls ill: it answers every login and message with PRX4.")?;
        let begun = Instant::now();
        sandbox.outage(Some(Outage::prx4()));
        teller.send(relay.address(), &[(PRINTER, scans::contract(2))]).await?;
        teller.pass(script.pause).await?;
        let together =
            [(PRINTER, scans::contract(3)), (FAX, scans::fax(2)), (UPS, scans::alarm(2, "on battery"))];
        teller.send(relay.address(), &together).await?;
        teller.pass((script.outage / 2).saturating_sub(begun.elapsed())).await?;

        let before = teller.waiting().await?;
        let how = teller.until(relay.kill()).await??;
        teller.note(Who::Admin, &format!("{how}: {before} messages were waiting in it"))?;
        teller.pass(script.pause).await?;
        teller.until(relay.start()).await??;
        let after = teller.waiting().await?;
        let verdict = if after >= before { "none is lost" } else { "NOT all of them are there" };
        teller.note(Who::Admin, &format!("started it again: {after} messages are waiting, {verdict}"))?;

        teller.pass(script.outage.saturating_sub(begun.elapsed())).await?;
        sandbox.outage(None);
        teller.note(Who::Exchange, "is well again; nobody tells the relay, it finds out")?;
        teller.send(relay.address(), &[(UPS, scans::alarm(3, "mains power is back"))]).await?;
        teller.delivered(sandbox, script.finish_within).await?;
        // A duplicate would come late.
        teller.pass(script.pause).await
    }

    async fn refused_login(&mut self) -> io::Result<()> {
        let Self { relay, sandbox, script, teller } = self;
        teller.title("Somebody changes the mailbox's password, and does not tell the relay.")?;
        sandbox.set_password(SecretString::from(NEW_PASSWORD));
        teller.send(relay.address(), &[(FAX, scans::fax(3))]).await?;
        teller.needs_somebody(script.finish_within).await?;
        teller.pass(script.reading).await?;
        let how = teller.until(relay.set_password(NEW_PASSWORD)).await??;
        teller.note(Who::Admin, &how)?;
        teller.delivered(sandbox, script.finish_within).await?;
        teller.pass(script.pause).await
    }
}

fn account(summary: &Summary) -> Vec<Line> {
    let verdict = if summary.is_complete() {
        line(Style::Good, "an outage, a kill -9, a changed password: every message arrived once, whole")
    } else {
        line(Style::Bad, "NOT everything was delivered once and whole")
    };
    let mut lines = vec![vec![]];
    lines.extend(summary.to_string().lines().map(|l| line(Style::Plain, l)));
    lines.push(verdict);
    lines
}

fn invitation(listens: SocketAddr, here: &[IpAddr]) -> Vec<Line> {
    let ours: Vec<String> =
        here.iter().filter(|a| a.is_ipv4() || listens.is_ipv6()).map(IpAddr::to_string).collect();
    let server = if listens.ip().is_loopback() {
        format!("{} (only this computer itself can reach it)", listens.ip())
    } else if !listens.ip().is_unspecified() {
        listens.ip().to_string()
    } else if ours.is_empty() {
        "the IP address of this computer (it has no network now)".to_owned()
    } else {
        format!("{} (this computer)", ours.join(" or "))
    };
    let port = listens.port();
    let mut lines = vec![vec![]];
    let title = "The relay stays up. To see mail of your own printer here, set on its panel:";
    lines.push(line(Style::Title, title));
    lines.push(vec![]);
    for (key, value) in [
        ("SMTP server", server),
        ("port", format!("{port}, which is not the usual 25")),
        ("authentication", "none (POP before SMTP: off)".to_owned()),
        ("TLS / SSL", "off".to_owned()),
        ("sender address", "any fixed one, such as printer@contoso.com".to_owned()),
        ("recipient", "any; nothing leaves this computer".to_owned()),
    ] {
        let mut key = format!("  {key:<16}  ");
        for value in wrapped(&value, COLUMNS - 21) {
            let key = std::mem::replace(&mut key, " ".repeat(20));
            lines.push(vec![(Style::Dim, key), (Style::Plain, value)]);
        }
    }
    lines.extend([vec![], line(Style::Plain, "Ctrl-C ends it."), vec![]]);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_printer_is_told_the_addresses_of_this_computer_and_the_port() {
        let said = |listens: &str, here: &[&str]| {
            let here: Vec<IpAddr> = here.iter().map(|a| a.parse().unwrap()).collect();
            let lines = invitation(listens.parse().unwrap(), &here);
            let text = |l: &Line| l.iter().map(|(_, t)| t.as_str()).collect::<String>();
            lines
                .iter()
                .map(text)
                .inspect(|l| assert!(l.len() < COLUMNS, "{l}"))
                .collect::<Vec<_>>()
                .join("\n")
        };
        let everywhere = said("0.0.0.0:2525", &["192.168.1.20", "10.0.0.4", "fd00::1"]);
        assert!(everywhere.contains("192.168.1.20 or 10.0.0.4 (this computer)"), "{everywhere}");
        assert!(everywhere.contains("  2525, "), "{everywhere}");
        assert!(!everywhere.contains("fd00::1"), "it listens on IPv4 alone: {everywhere}");
        let nowhere = said("0.0.0.0:2525", &[]);
        assert!(nowhere.contains("the IP address of this computer"), "{nowhere}");
        let loopback = said("127.0.0.1:4444", &["10.0.0.4"]);
        assert!(loopback.contains("127.0.0.1 (only this computer"), "{loopback}");
    }
}
