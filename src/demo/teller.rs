//! Tells what everybody does while it happens: a line a message that fills in, or a line an event on paper.
//!
//! Invariant: nothing is told that was not seen; what a peer said is escaped. Must not know: what happens next.

use crate::demo::device::Device;
use crate::demo::here;
use crate::demo::scans::Mail;
use crate::demo::screen::{COLUMNS, Line, Paper, Screen, Style, line, wrapped};
use crate::demo::summary::{Sent, is_same, milliseconds, size};
use crate::mail::Escaped;
use crate::sandbox::{ContentDigest, Event, Sandbox};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::sync::{broadcast, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};

/// How the relay is.
#[derive(Debug, Clone)]
pub struct Condition {
    /// Messages it holds for delivery.
    pub waiting: u64,
    /// Why they wait.
    pub trouble: Option<Trouble>,
}

/// Why mail does not flow.
#[derive(Debug, Clone)]
pub struct Trouble {
    /// When it is tried again.
    pub next_try: Option<Instant>,
    /// What only a human can do about it, where it is that; escaped.
    pub remedy: Option<String>,
}

/// How often the clocks on the screen go on.
const TICK: Duration = Duration::from_millis(100);
/// Behind the time and the name.
const INDENT: usize = 19;

/// Who speaks.
#[derive(Debug, Clone, Copy)]
pub(super) enum Who {
    Device(&'static str),
    Relay,
    Exchange,
    /// Whoever acts on the relay from outside.
    Admin,
}

/// What an act has brought so far.
#[derive(Debug, Default)]
struct Act {
    /// The first of its messages.
    from: usize,
    notes: Vec<Line>,
    /// What Exchange Online said last, while it refuses.
    refused: Option<String>,
    /// When the next try was, as told last.
    told: Option<Instant>,
}

pub(super) struct Teller<W> {
    screen: Screen<W>,
    begun: Instant,
    events: broadcast::Receiver<Event>,
    conditions: watch::Receiver<Option<Condition>>,
    pub(super) sent: Vec<Sent>,
    act: Act,
    /// No rows any more: what happens now was not sent by the story's devices.
    is_over: bool,
}

impl<W: Write> Teller<W> {
    pub(super) fn new(
        out: W,
        paper: Paper,
        sandbox: &Sandbox,
        conditions: watch::Receiver<Option<Condition>>,
    ) -> Self {
        Self {
            screen: Screen::new(out, paper),
            begun: Instant::now(),
            events: sandbox.events(),
            conditions,
            sent: vec![],
            act: Act::default(),
            is_over: false,
        }
    }

    /// Ends what was drawn, and begins the next act.
    pub(super) fn title(&mut self, words: &str) -> io::Result<()> {
        self.end_act()?;
        let mut lines = vec![vec![]];
        lines.extend(wrapped(words, COLUMNS - 1).into_iter().map(|l| line(Style::Title, l)));
        lines.push(vec![]);
        self.screen.write(&lines)
    }

    /// Leaves the rows as they are.
    fn end_act(&mut self) -> io::Result<()> {
        if self.screen.is_live() {
            let lines = self.rows_and_notes();
            self.screen.write(&lines)?;
        }
        self.act = Act { from: self.sent.len(), ..Act::default() };
        Ok(())
    }

    /// The story's messages have been told; what comes now is told line by line.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        self.end_act()?;
        self.is_over = true;
        Ok(())
    }

    pub(super) fn write(&mut self, lines: &[Line]) -> io::Result<()> {
        self.screen.write(lines)
    }

    /// Tells what happens until the future is ready.
    pub(super) async fn until<T>(&mut self, what: impl Future<Output = T>) -> io::Result<T> {
        tokio::pin!(what);
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                Ok(event) = self.events.recv() => self.saw(&event)?,
                done = &mut what => {
                    self.redraw()?;
                    return Ok(done);
                }
                _ = ticks.tick() => {
                    self.hear()?;
                    self.redraw()?;
                }
            }
        }
    }

    pub(super) async fn pass(&mut self, time: Duration) -> io::Result<()> {
        self.until(tokio::time::sleep(time)).await
    }

    /// Every device sends its message at the same moment.
    pub(super) async fn send(&mut self, relay: SocketAddr, mails: &[(Device, Mail)]) -> io::Result<()> {
        let (relay, first) = (here::from_here(relay), self.sent.len());
        self.sent.extend(mails.iter().map(|(device, mail)| Sent {
            device: device.name,
            subject: mail.subject.clone(),
            size_bytes: mail.bytes.len() as u64,
            content: ContentDigest::of_message(&mail.bytes),
            accepted: None,
            answered_at: None,
            trouble: String::new(),
            taken_at: None,
        }));
        let sending =
            mails.iter().map(async |(device, mail)| (device.send(relay, &mail.bytes).await, Instant::now()));
        let outcomes = self.until(futures_util::future::join_all(sending)).await?;
        for (i, (outcome, at)) in (first..).zip(outcomes) {
            let sent = &mut self.sent[i];
            sent.answered_at = Some(at);
            match outcome {
                Ok(answer) if answer.accepted => sent.accepted = Some(answer.after),
                Ok(answer) => sent.trouble = format!("refused: {}", Escaped(answer.line.as_bytes())),
                Err(error) => sent.trouble = format!("failed: {error}"),
            }
            if !self.screen.is_live() {
                let answer = answer(&self.sent[i]);
                let sent = &self.sent[i];
                let words = format!("{answer:<14}  {}, {}", sent.subject, size(sent.size_bytes));
                self.say(Who::Device(sent.device), &words)?;
            }
        }
        self.redraw()
    }

    /// Waits until the sandbox has everything accepted so far and the relay holds nothing.
    pub(super) async fn delivered(&mut self, sandbox: &Sandbox, within: Duration) -> io::Result<()> {
        let deadline = Instant::now() + within;
        loop {
            let received = sandbox.received();
            let all =
                self.sent.iter().all(|s| s.accepted.is_none() || received.iter().any(|r| is_same(s, r)));
            if (all && self.waiting().await? == 0) || Instant::now() >= deadline {
                return Ok(());
            }
            self.pass(TICK).await?;
        }
    }

    /// How many messages the relay holds now; as of before, when it does not say.
    pub(super) async fn waiting(&mut self) -> io::Result<u64> {
        let mut conditions = self.conditions.clone();
        let asked_anew = async {
            // What is told first may have been asked before now.
            for _ in 0..2 {
                let _ = conditions.changed().await;
            }
        };
        let _ = self.until(timeout(Duration::from_secs(2), asked_anew)).await?;
        Ok(self.conditions.borrow().as_ref().map_or(0, |c| c.waiting))
    }

    /// Waits until the relay says that it needs somebody.
    pub(super) async fn needs_somebody(&mut self, within: Duration) -> io::Result<()> {
        let mut conditions = self.conditions.clone();
        let says_so = async move {
            let needs = |c: &Option<Condition>| {
                c.as_ref().and_then(|c| c.trouble.as_ref()).is_some_and(|t| t.remedy.is_some())
            };
            let _ = conditions.wait_for(needs).await;
        };
        self.until(timeout(within, says_so)).await.map(|_| ())
    }

    /// Something that is worth remembering of this act.
    pub(super) fn note(&mut self, who: Who, words: &str) -> io::Result<()> {
        let lines = self.spoken(who, words);
        if self.screen.is_live() && !self.is_over {
            self.act.notes.extend(lines);
            return self.redraw();
        }
        self.screen.write(&lines)
    }

    fn say(&mut self, who: Who, words: &str) -> io::Result<()> {
        let lines = self.spoken(who, words);
        self.screen.write(&lines)
    }

    fn spoken(&self, who: Who, words: &str) -> Vec<Line> {
        let seconds = self.begun.elapsed().as_secs_f32();
        let mut head = vec![(Style::Dim, format!("{seconds:5.1} s  ")), named(who)];
        let lines = wrapped(words, COLUMNS - 1 - INDENT).into_iter().map(|words| {
            let mut line = std::mem::replace(&mut head, vec![(Style::Plain, " ".repeat(INDENT))]);
            line.push((Style::Plain, words));
            line
        });
        lines.collect()
    }

    fn saw(&mut self, event: &Event) -> io::Result<()> {
        match event {
            Event::LoggedIn => self.act.refused = None,
            Event::Refused { stage, reply } => self.act.refused = Some(format!("{reply} (to {stage})")),
            Event::Taken(received) => {
                self.act.refused = None;
                let now = Instant::now();
                if let Some(sent) = self.sent.iter_mut().find(|s| is_same(s, received)) {
                    sent.taken_at.get_or_insert(now);
                }
            }
        }
        if self.screen.is_live() && !self.is_over {
            return self.redraw();
        }
        let words = match event {
            Event::LoggedIn => "login accepted".to_owned(),
            Event::Refused { stage, reply } => format!("answers {stage} with {reply}"),
            Event::Taken(r) => {
                let again = if r.duplicate { " AGAIN" } else { "" };
                format!("takes{again} {}, {}", Escaped(r.subject.as_bytes()), size(r.size_bytes))
            }
        };
        self.say(Who::Exchange, &words)
    }

    /// On paper, trouble is told when there is another try to wait for.
    fn hear(&mut self) -> io::Result<()> {
        if self.screen.is_live() && !self.is_over {
            return Ok(());
        }
        let Some(condition) = self.conditions.borrow().clone() else { return Ok(()) };
        let Some(trouble) = &condition.trouble else { return Ok(()) };
        let Some(next) = trouble.next_try else { return Ok(()) };
        let is_told = self.act.told.is_some_and(|told| next < told + Duration::from_millis(500));
        if is_told {
            return Ok(());
        }
        self.act.told = Some(next);
        for words in in_words(&condition, trouble) {
            self.say(Who::Relay, &words)?;
        }
        Ok(())
    }

    fn redraw(&mut self) -> io::Result<()> {
        if !self.screen.is_live() || self.is_over {
            return Ok(());
        }
        let mut lines = self.rows_and_notes();
        lines.extend(self.state());
        self.screen.draw(&lines)
    }

    fn rows_and_notes(&self) -> Vec<Line> {
        let mut lines: Vec<Line> = self.sent[self.act.from..].iter().map(row).collect();
        if !self.act.notes.is_empty() {
            lines.push(vec![]);
        }
        lines.extend(self.act.notes.iter().cloned());
        lines
    }

    /// How Exchange Online and the relay stand, where not all is well.
    fn state(&self) -> Vec<Line> {
        let condition = self.conditions.borrow().clone();
        let relay = match &condition {
            None => vec!["is not there".to_owned()],
            Some(Condition { trouble: Some(trouble), .. }) => {
                in_words(condition.as_ref().expect("it was looked at"), trouble)
            }
            Some(_) => vec![],
        };
        if relay.is_empty() {
            return vec![];
        }
        let refused = self.act.refused.iter().map(|said| (Who::Exchange, said.clone()));
        let spoken = refused.chain(relay.into_iter().map(|words| (Who::Relay, words)));
        let mut lines = vec![vec![]];
        for (who, words) in spoken {
            let mut head = vec![(Style::Plain, " ".repeat(9)), named(who)];
            for words in wrapped(&words, COLUMNS - 1 - INDENT) {
                let mut line = std::mem::replace(&mut head, vec![(Style::Plain, " ".repeat(INDENT))]);
                line.push((Style::Plain, words));
                lines.push(line);
            }
        }
        lines
    }
}

fn named(who: Who) -> (Style, String) {
    let (style, name) = match who {
        Who::Device(name) => (Style::Device, name),
        Who::Relay => (Style::Relay, "relay"),
        Who::Exchange => (Style::Exchange, "exchange"),
        Who::Admin => (Style::Title, "admin"),
    };
    (style, format!("{name:<10}"))
}

/// A message's line: who, what, how large, the answer, and what became of it since.
fn row(sent: &Sent) -> Line {
    let subject: String = sent.subject.chars().take(32).collect();
    let answer_style = if sent.trouble.is_empty() { Style::Plain } else { Style::Bad };
    let mut line = vec![
        (Style::Device, format!("  {:<8}", sent.device)),
        (Style::Plain, format!("{subject:<32} ")),
        (Style::Dim, format!("{:>6}  ", size(sent.size_bytes))),
        (answer_style, format!("{:<14} ", answer(sent))),
    ];
    let since =
        |to: Instant| sent.answered_at.map_or(0.0, |at| to.saturating_duration_since(at).as_secs_f32());
    match sent.taken_at {
        Some(at) => line.push((Style::Good, format!("delivered {:.0}s", since(at)))),
        None if sent.accepted.is_some() => {
            line.push((Style::Relay, format!("waits {:.0}s", since(Instant::now()))));
        }
        None => {}
    }
    line
}

/// What the device shows.
fn answer(sent: &Sent) -> String {
    match (sent.accepted, sent.answered_at) {
        (Some(after), _) => format!("250 in {}", milliseconds(after)),
        (None, Some(_)) => sent.trouble.clone(),
        (None, None) => "sends".to_owned(),
    }
}

/// What the relay says of its trouble.
fn in_words(condition: &Condition, trouble: &Trouble) -> Vec<String> {
    let waiting = match condition.waiting {
        0 => "nothing waits".to_owned(),
        1 => "1 message waits on its disk".to_owned(),
        n => format!("{n} messages wait on its disk"),
    };
    let next = trouble.next_try.map_or(String::new(), |at| {
        match at.saturating_duration_since(Instant::now()).as_secs_f32().ceil() {
            left if left < 1.0 => "; it tries now".to_owned(),
            left => format!("; next try in {left:.0} s"),
        }
    });
    let mut words = vec![waiting + &next];
    words.extend(trouble.remedy.as_ref().map(|remedy| format!("needs a human: {remedy}")));
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_a_message_has_room_for_all_that_becomes_of_it() {
        let answered = Instant::now();
        for mail in [
            crate::demo::scans::contract(3),
            crate::demo::scans::fax(3),
            crate::demo::scans::alarm(3, "mains power is back"),
        ] {
            let sent = Sent {
                device: "printer",
                size_bytes: mail.bytes.len() as u64,
                content: ContentDigest::of_message(&mail.bytes),
                subject: mail.subject.clone(),
                accepted: Some(Duration::from_micros(123_400)),
                answered_at: Some(answered),
                trouble: String::new(),
                taken_at: Some(answered + Duration::from_secs(99)),
            };
            let text: String = row(&sent).into_iter().map(|(_, text)| text).collect();
            assert!(text.contains(&mail.subject) && text.ends_with("delivered 99s"), "{text}");
            assert!(text.len() < COLUMNS, "{}: {text}", text.len());
        }
    }
}
