//! The script of the demo, its live lines, and the account it gives at the end.
//!
//! Invariant: a message counts as delivered only when the sandbox took it, as whole only when the content is the one
//! the device sent. Must not know: what the relay is made of.

use crate::demo::device::{Device, Greeting};
use crate::demo::scans::{self, Mail};
use crate::mail::Escaped;
use crate::sandbox::{ContentDigest, Event, Outage, Received, Sandbox};
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};
use tokio::sync::{broadcast, mpsc};
use tokio::time::sleep;

/// What the demo needs of a relay that delivers to the sandbox.
pub trait Relay {
    /// Where it listens; an unspecified address is every address of this computer.
    fn address(&self) -> SocketAddr;

    /// What it does from now on, one line of plain words each, escaped; asked for once, before anything is sent.
    fn lines(&mut self) -> mpsc::UnboundedReceiver<String>;

    /// How many messages it holds for delivery.
    fn waiting(&self) -> impl Future<Output = u64> + Send;
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
    /// Everything not delivered so long after the outage is missing.
    pub finish_within: Duration,
    /// ANSI colours.
    pub colour: bool,
}

impl Script {
    /// About half a minute; colours when standard output is a terminal and `NO_COLOR` is not set.
    pub fn new(once: bool) -> Self {
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
        Self {
            once,
            pause: Duration::from_millis(1500),
            outage: Duration::from_secs(9),
            finish_within: Duration::from_secs(40),
            colour: !no_colour && io::stdout().is_terminal(),
        }
    }
}

const PRINTER: Device = Device {
    name: "printer",
    greeting: Greeting::Ehlo,
    host_name: "MFP-2",
    from: "mfp2@contoso.com",
    to: "office@contoso.com",
};
const FAX: Device = Device {
    name: "fax",
    greeting: Greeting::Helo,
    host_name: "fax_server",
    from: "fax@contoso.com",
    to: "office@contoso.com",
};
const UPS: Device = Device {
    name: "ups",
    greeting: Greeting::Helo,
    host_name: "10.0.5.31",
    from: "ups@rack2",
    to: "it@contoso.com",
};

/// A message a device tried to send.
#[derive(Debug, Clone)]
struct Sent {
    device: &'static str,
    subject: String,
    content: ContentDigest,
    /// 250 to the end of data, after so long; `None` when there was another answer or none.
    accepted: Option<Duration>,
}

/// What became of one device's messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The device.
    pub device: &'static str,
    /// Messages it tried to send.
    pub sent: usize,
    /// Answered 250.
    pub accepted: usize,
    /// Of these, taken by the sandbox at least once.
    pub delivered: usize,
    /// Of these, not.
    pub lost: usize,
    /// Times the sandbox took a message once more.
    pub duplicates: usize,
    /// Delivered with another content than was sent.
    pub changed: usize,
    /// The longest wait from the final dot to the 250.
    pub slowest_250: Duration,
}

/// What became of every message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// One row a device.
    pub rows: Vec<Row>,
    /// Messages the relay still holds.
    pub waiting: u64,
}

impl Summary {
    fn new(sent: &[Sent], received: &[Received], waiting: u64) -> Self {
        let rows = [PRINTER.name, FAX.name, UPS.name].map(|device| {
            let sent: Vec<&Sent> = sent.iter().filter(|s| s.device == device).collect();
            let accepted: Vec<&&Sent> = sent.iter().filter(|s| s.accepted.is_some()).collect();
            let copies = |s: &Sent| received.iter().filter(|r| is_same(s, r)).count();
            let whole = |s: &Sent| received.iter().filter(|r| is_same(s, r)).all(|r| r.content == s.content);
            Row {
                device,
                sent: sent.len(),
                accepted: accepted.len(),
                delivered: accepted.iter().filter(|s| copies(s) > 0).count(),
                lost: accepted.iter().filter(|s| copies(s) == 0).count(),
                duplicates: sent.iter().map(|s| copies(s).saturating_sub(1)).sum(),
                changed: sent.iter().filter(|s| !whole(s)).count(),
                slowest_250: sent.iter().filter_map(|s| s.accepted).max().unwrap_or_default(),
            }
        });
        Self { rows: rows.into(), waiting }
    }

    /// Every message was accepted, delivered once, whole, and nothing is left over.
    pub fn is_complete(&self) -> bool {
        let good = |r: &Row| r.delivered == r.sent && r.lost == 0 && r.duplicates == 0 && r.changed == 0;
        self.waiting == 0 && self.rows.iter().all(|r| r.sent > 0 && good(r))
    }
}

/// The Subject is the demo's own and unique; a message whose Subject did not survive is known by its content.
fn is_same(sent: &Sent, received: &Received) -> bool {
    received.subject == sent.subject || received.content == sent.content
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "device    sent   250  delivered  lost  duplicates  changed  slowest 250")?;
        for r in &self.rows {
            writeln!(
                f,
                "{:<8} {:>5} {:>5} {:>10} {:>5} {:>11} {:>8} {:>12}",
                r.device,
                r.sent,
                r.accepted,
                r.delivered,
                r.lost,
                r.duplicates,
                r.changed,
                milliseconds(r.slowest_250)
            )?;
        }
        let total = |of: fn(&Row) -> usize| -> usize { self.rows.iter().map(of).sum() };
        write!(
            f,
            "sent {}, delivered {}, lost {}, duplicates {}, changed {}, still waiting {}",
            total(|r| r.sent),
            total(|r| r.delivered),
            total(|r| r.lost),
            total(|r| r.duplicates),
            total(|r| r.changed),
            self.waiting
        )
    }
}

/// Plays the script; without `once` it then stays, telling what happens, until `end`.
///
/// # Errors
/// `out` cannot be written.
pub async fn run<R: Relay>(
    relay: &mut R,
    sandbox: &Sandbox,
    script: &Script,
    out: impl Write,
    end: impl Future<Output = ()>,
) -> io::Result<Summary> {
    let lines = relay.lines();
    let (colour, begun) = (script.colour, Instant::now());
    let mut teller = Teller { out, colour, begun, lines, events: sandbox.events(), sent: Vec::new() };
    teller.title("Three devices send mail through the relay to a stand-in for Exchange Online.")?;

    for (device, mail) in
        [(PRINTER, scans::contract(1)), (FAX, scans::fax(1)), (UPS, scans::alarm(1, "self-test passed"))]
    {
        teller.send(relay.address(), &[(device, mail)]).await?;
        teller.pass(script.pause).await?;
    }
    teller.delivered(relay, sandbox, script.finish_within).await?;

    teller.title("Exchange Online falls ill: every login and every message gets 451 ... PRX4.")?;
    let outage_begun = Instant::now();
    sandbox.outage(Some(Outage::prx4()));
    teller.send(relay.address(), &[(PRINTER, scans::contract(2))]).await?;
    teller.pass(script.pause).await?;
    let together =
        [(PRINTER, scans::contract(3)), (FAX, scans::fax(2)), (UPS, scans::alarm(2, "on battery"))];
    teller.send(relay.address(), &together).await?;
    teller.pass(script.outage.saturating_sub(outage_begun.elapsed())).await?;
    sandbox.outage(None);

    teller.title("Exchange Online is well again. The relay finds out by itself.")?;
    teller.send(relay.address(), &[(UPS, scans::alarm(3, "mains power is back"))]).await?;
    teller.delivered(relay, sandbox, script.finish_within).await?;
    // A duplicate would come late.
    teller.pass(script.pause).await?;

    let summary = Summary::new(&teller.sent, &sandbox.received(), relay.waiting().await);
    teller.summary(&summary)?;
    if !script.once {
        teller.invite(relay.address())?;
        teller.until(end).await?;
    }
    Ok(summary)
}

/// Who speaks.
#[derive(Debug, Clone, Copy)]
enum Who {
    Device(&'static str),
    Relay,
    Exchange,
}

/// Writes what everybody does, in the order it is seen.
struct Teller<W> {
    out: W,
    colour: bool,
    begun: Instant,
    lines: mpsc::UnboundedReceiver<String>,
    events: broadcast::Receiver<Event>,
    sent: Vec<Sent>,
}

impl<W: Write> Teller<W> {
    /// Tells what happens until the future is ready.
    async fn until<T>(&mut self, what: impl Future<Output = T>) -> io::Result<T> {
        tokio::pin!(what);
        loop {
            let (who, line) = tokio::select! {
                biased;
                Some(line) = self.lines.recv() => (Who::Relay, line),
                Ok(event) = self.events.recv() => (Who::Exchange, in_words(&event)),
                done = &mut what => return Ok(done),
            };
            self.say(who, &line)?;
        }
    }

    async fn pass(&mut self, time: Duration) -> io::Result<()> {
        self.until(sleep(time)).await
    }

    /// Every device sends its message at the same moment.
    async fn send(&mut self, relay: SocketAddr, mails: &[(Device, Mail)]) -> io::Result<()> {
        let relay = from_here(relay);
        let sending = futures_util::future::join_all(
            mails
                .iter()
                .map(async |(device, mail)| (device.name, mail, device.send(relay, &mail.bytes).await)),
        );
        for (device, mail, outcome) in self.until(sending).await? {
            let accepted = match &outcome {
                Ok(answer) if answer.accepted => Some(answer.after),
                _ => None,
            };
            let saw = match outcome {
                Ok(answer) if answer.accepted => format!("250 in {}", milliseconds(answer.after)),
                Ok(answer) => format!("refused: {}", Escaped(answer.line.as_bytes())),
                Err(error) => format!("failed: {error}"),
            };
            let what = format!("{saw:<15} {}, {}", mail.subject, size(mail.bytes.len() as u64));
            self.say(Who::Device(device), &what)?;
            let content = ContentDigest::of_message(&mail.bytes);
            self.sent.push(Sent { device, subject: mail.subject.clone(), content, accepted });
        }
        Ok(())
    }

    /// Waits until the sandbox has everything accepted so far and the relay holds nothing.
    async fn delivered<R: Relay>(
        &mut self,
        relay: &R,
        sandbox: &Sandbox,
        within: Duration,
    ) -> io::Result<()> {
        let deadline = Instant::now() + within;
        loop {
            let received = sandbox.received();
            let all =
                self.sent.iter().all(|s| s.accepted.is_none() || received.iter().any(|r| is_same(s, r)));
            if (all && self.until(relay.waiting()).await? == 0) || Instant::now() >= deadline {
                return Ok(());
            }
            self.pass(Duration::from_millis(100)).await?;
        }
    }

    fn say(&mut self, who: Who, line: &str) -> io::Result<()> {
        let (name, code) = match who {
            Who::Device(name) => (name, "36"),
            Who::Relay => ("relay", "33"),
            Who::Exchange => ("exchange", "35"),
        };
        let seconds = self.begun.elapsed().as_secs_f32();
        let name = self.painted(code, &format!("{name:<9}"));
        writeln!(self.out, "{seconds:5.1} s  {name} {line}")?;
        self.out.flush()
    }

    fn title(&mut self, line: &str) -> io::Result<()> {
        let line = self.painted("1", line);
        writeln!(self.out, "\n{line}\n")
    }

    fn summary(&mut self, summary: &Summary) -> io::Result<()> {
        let (code, verdict) = if summary.is_complete() {
            ("32", "every message was accepted at once and delivered once, whole")
        } else {
            ("31", "NOT everything was delivered once and whole")
        };
        let verdict = self.painted(code, verdict);
        writeln!(self.out, "\n{summary}\n{verdict}")
    }

    fn invite(&mut self, address: SocketAddr) -> io::Result<()> {
        let server = if address.ip().is_unspecified() {
            "the IP address of this computer".to_owned()
        } else if address.ip().is_loopback() {
            format!("{} (only this computer itself can reach it)", address.ip())
        } else {
            address.ip().to_string()
        };
        self.title("The relay stays up. To see your own printer's mail here, set on its panel:")?;
        writeln!(
            self.out,
            "  SMTP server       {server}\n  \
               port              {}\n  \
               authentication    none (POP before SMTP: off)\n  \
               TLS / SSL         off\n  \
               sender address    any fixed one, such as printer@contoso.com\n  \
               recipient         any; nothing leaves this computer\n\n\
             Ctrl-C ends it.\n",
            address.port()
        )?;
        self.out.flush()
    }

    fn painted(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Where this computer's own devices reach what listens everywhere.
fn from_here(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => (Ipv4Addr::LOCALHOST, v4.port()).into(),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => (Ipv6Addr::LOCALHOST, v6.port()).into(),
        named => named,
    }
}

fn in_words(event: &Event) -> String {
    match event {
        Event::LoggedIn => "login accepted".to_owned(),
        Event::Refused { stage, reply } => format!("answers {stage} with {reply}"),
        Event::Taken(r) => {
            let again = if r.duplicate { " AGAIN" } else { "" };
            format!("takes{again} {}, {}", Escaped(r.subject.as_bytes()), size(r.size_bytes))
        }
    }
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1000 => format!("{bytes} B"),
        1000..1_000_000 => format!("{} kB", bytes / 1000),
        _ => format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_printer_is_told_to_use_another_address_than_the_demos_own_devices() {
        let (sender, lines) = mpsc::unbounded_channel();
        drop(sender);
        let (_events, events) = broadcast::channel(1);
        let mut teller =
            Teller { out: Vec::new(), colour: false, begun: Instant::now(), lines, events, sent: vec![] };
        let everywhere: SocketAddr = "0.0.0.0:2525".parse().unwrap();
        teller.invite(everywhere).unwrap();
        let said = String::from_utf8(teller.out).unwrap();
        assert!(said.contains("the IP address of this computer") && said.contains("2525"), "{said}");
        assert_eq!(from_here(everywhere), "127.0.0.1:2525".parse().unwrap());
    }
    use crate::mail::WallTime;

    fn sent(device: &'static str, subject: &str, content: &[u8], accepted_ms: Option<u64>) -> Sent {
        Sent {
            device,
            subject: subject.to_owned(),
            content: ContentDigest::of_message(content),
            accepted: accepted_ms.map(Duration::from_millis),
        }
    }

    fn received(subject: &str, content: &[u8]) -> Received {
        Received {
            message_id: None,
            subject: subject.to_owned(),
            from: String::new(),
            reverse_path: String::new(),
            recipients: vec![],
            size_bytes: 1,
            content: ContentDigest::of_message(content),
            duplicate: false,
            at: WallTime::from_ms(0),
        }
    }

    #[test]
    fn the_summary_is_complete_only_when_everything_arrived_once_and_whole() {
        let all = [
            sent("printer", "p", b"\n1\n", Some(3)),
            sent("fax", "f", b"\n2\n", Some(4)),
            sent("ups", "u", b"\n3\n", Some(1)),
        ];
        let (p, f, u) = (received("p", b"\n1\n"), received("f", b"\n2\n"), received("u", b"\n3\n"));
        let judge = |received: &[Received]| Summary::new(&all, received, 0);

        assert!(judge(&[p.clone(), f.clone(), u.clone()]).is_complete());
        let lost = judge(&[p.clone(), f.clone()]);
        assert_eq!((lost.is_complete(), lost.rows[2].lost), (false, 1));
        let twice = judge(&[p.clone(), f.clone(), u.clone(), f.clone()]);
        assert_eq!((twice.is_complete(), twice.rows[1].duplicates), (false, 1));
        let changed = judge(&[received("p", b"\nother\n"), f.clone(), u.clone()]);
        assert_eq!((changed.is_complete(), changed.rows[0].changed), (false, 1));
        assert!(!Summary::new(&all, &[p.clone(), f.clone(), u.clone()], 1).is_complete(), "one still waits");
        let mut refused = all.clone();
        refused[0].accepted = None;
        assert!(!Summary::new(&refused, &[f, u], 0).is_complete(), "a refused scan is a lost scan");
    }

    #[test]
    fn sizes_read_as_people_write_them() {
        assert_eq!([150, 324_339, 2_648_634].map(size), ["150 B", "324 kB", "2.6 MB"]);
    }
}
