//! What was found, step by step, and how it is written for people and for scripts. Pure.
//!
//! Invariant: every text in a step is escaped already; a step that is not ok says what to do. Must not know: how
//! anything is found out.

use crate::mail::{Failure, Place};
use crate::policy::advice::{About, Advice, App, command};
use crate::policy::verdict::judge;
use serde::Serialize;

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// As it should be.
    Ok,
    /// It works, and should be different.
    Warning,
    /// Mail does not flow like this.
    Failed,
    /// Not looked at; the words say why.
    Skipped,
}

/// What is behind a step that is not ok.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The entry of the advice catalogue.
    pub error: String,
    /// What it means.
    pub meaning: String,
    /// Who can end it.
    pub blame: String,
    /// What to do, in order.
    pub remedy: Vec<String>,
    /// The command that prints the entry.
    pub see: String,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// The account it is about; none: this host.
    pub account: Option<String>,
    /// What was looked at.
    pub name: String,
    /// How it ended.
    pub status: Status,
    /// What was seen, one escaped line.
    pub said: String,
    /// Why it is not ok, and what to do.
    #[serde(flatten)]
    pub finding: Option<Finding>,
}

/// Whom advice is filled in with.
#[derive(Debug, Clone)]
pub struct Patient {
    /// The account's mailbox.
    pub mailbox: String,
    /// Where it submits.
    pub smart_host: Place,
    /// Tenant and client id, where it uses OAuth.
    pub app: Option<(String, String)>,
}

impl Default for Patient {
    /// Nobody yet.
    fn default() -> Self {
        Self { mailbox: String::new(), smart_host: Place::known("smtp.office365.com", 587), app: None }
    }
}

impl Patient {
    /// What the catalogue says about it.
    pub fn finding(&self, advice: Advice) -> Finding {
        let about = About { mailbox: &self.mailbox, smart_host: &self.smart_host };
        let app = self.app.as_ref().map(|(tenant, client_id)| App { tenant, client_id });
        let entry = advice.entry();
        Finding {
            error: entry.slug.to_owned(),
            meaning: entry.meaning.to_owned(),
            blame: entry.blame.to_string(),
            remedy: advice.remedy_with(about, app),
            see: command(entry.slug),
        }
    }

    /// The entry a failure leads to. With a token, a refused login is another one.
    pub fn advice(&self, failure: &Failure) -> Advice {
        match judge(failure).advice {
            Some(Advice::LoginRefused) if self.app.is_some() => Advice::TokenRefused,
            Some(advice) => advice,
            // Dropped in the middle, or put off: nothing is wrong that a person could mend.
            None => Advice::ServerBusy,
        }
    }
}

impl Step {
    /// As it should be.
    pub fn ok(name: impl Into<String>, said: impl Into<String>) -> Self {
        Self { account: None, name: name.into(), status: Status::Ok, said: said.into(), finding: None }
    }

    /// Not looked at.
    pub fn skipped(name: impl Into<String>, why: impl Into<String>) -> Self {
        Self { status: Status::Skipped, ..Self::ok(name, why) }
    }

    /// It works, and should be different.
    pub fn warning(name: impl Into<String>, said: impl Into<String>, finding: Finding) -> Self {
        Self { status: Status::Warning, finding: Some(finding), ..Self::ok(name, said) }
    }

    /// Mail does not flow like this.
    pub fn failed(name: impl Into<String>, said: impl Into<String>, finding: Finding) -> Self {
        Self { status: Status::Failed, finding: Some(finding), ..Self::ok(name, said) }
    }

    /// With these lines in place of the catalogue's general ones.
    pub fn with_remedy(mut self, remedy: Vec<String>) -> Self {
        if let Some(finding) = &mut self.finding {
            finding.remedy = remedy;
        }
        self
    }

    /// For people: one line, then why and what to do.
    pub fn text(&self) -> String {
        let status = match self.status {
            Status::Ok => "ok",
            Status::Warning => "warning",
            Status::Failed => "failed",
            Status::Skipped => "skipped",
        };
        let mut out = format!("{status:<8} {}: {}\n", self.name, self.said);
        if let Some(f) = &self.finding {
            out += &format!("         means: {} (blame: {})\n", f.meaning, f.blame);
            for step in &f.remedy {
                out += &format!("         do: {step}\n");
            }
            out += &format!("         see: {}\n", f.see);
        }
        out
    }
}

/// Takes each text as it comes.
type Tell = Box<dyn FnMut(&str) + Send>;

/// Everything found so far.
#[derive(Default)]
pub struct Report {
    steps: Vec<Step>,
    account: Option<String>,
    is_sandbox: bool,
    tell: Option<Tell>,
}

impl Report {
    /// Says each step as it comes, as text.
    pub fn telling(tell: impl FnMut(&str) + Send + 'static) -> Self {
        Self { tell: Some(Box::new(tell)), ..Self::default() }
    }

    /// The relay that runs delivers to the sandbox: said before everything else.
    pub fn begin_sandbox(&mut self) {
        self.is_sandbox = true;
        if let Some(tell) = &mut self.tell {
            tell("SANDBOX: the relay that runs delivers to a stand-in, and nobody else gets its mail\n\n");
        }
    }

    /// What follows is about this account.
    pub fn begin_account(&mut self, mailbox: &str, smart_host: &Place) {
        self.account = Some(mailbox.to_owned());
        if let Some(tell) = &mut self.tell {
            tell(&format!("\n{mailbox} at {smart_host}\n"));
        }
    }

    /// What follows is about all of them.
    pub fn end_account(&mut self) {
        self.account = None;
        if let Some(tell) = &mut self.tell {
            tell("\n");
        }
    }

    /// Adds a step.
    pub fn push(&mut self, step: Step) {
        let step = Step { account: self.account.clone(), ..step };
        if let Some(tell) = &mut self.tell {
            tell(&step.text());
        }
        self.steps.push(step);
    }

    /// Every step.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// All of it in one line.
    pub fn sentence(&self) -> String {
        let count = |status| self.steps.iter().filter(|s| s.status == status).count();
        let plain = match (count(Status::Failed), count(Status::Warning)) {
            (0, 0) => "everything is in order".to_owned(),
            (0, warnings) => format!("mail can flow; {warnings} to look at"),
            (failed, 0) => format!("{failed} failed"),
            (failed, warnings) => format!("{failed} failed, {warnings} more to look at"),
        };
        if self.is_sandbox { format!("SANDBOX; {plain}") } else { plain }
    }

    /// Of sysexits.h: 78 when the configuration is wrong, 69 when a step failed, else 0.
    pub fn exit_code(&self) -> u8 {
        let failed: Vec<&Step> = self.steps.iter().filter(|s| s.status == Status::Failed).collect();
        match failed.as_slice() {
            [] => 0,
            failed if failed.iter().any(|s| s.name == CONFIGURATION) => 78,
            _ => 69,
        }
    }

    /// For scripts.
    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "sentence": self.sentence(),
            "is_sandbox": self.is_sandbox,
            "exit_code": self.exit_code(),
            "steps": self.steps,
        })
    }
}

/// The first step's name.
pub(super) const CONFIGURATION: &str = "configuration";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::{Cause, Reply, Stage};

    fn patient() -> Patient {
        Patient { mailbox: "a@contoso.com".into(), ..Patient::default() }
    }

    #[test]
    fn the_exit_code_is_that_of_the_worst() {
        let finding = || patient().finding(Advice::Certificate);
        let mut report = Report::default();
        assert_eq!((report.exit_code(), report.sentence().as_str()), (0, "everything is in order"));
        report.push(Step::warning("x", "", finding()));
        report.push(Step::skipped("x", ""));
        assert_eq!((report.exit_code(), report.sentence().as_str()), (0, "mail can flow; 1 to look at"));
        report.push(Step::failed("x", "", finding()));
        assert_eq!((report.exit_code(), report.sentence().as_str()), (69, "1 failed, 1 more to look at"));
        report.push(Step::failed(CONFIGURATION, "", finding()));
        assert_eq!(report.exit_code(), 78);
    }

    #[test]
    fn the_sandbox_stands_first() {
        let told = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
        let sink = std::sync::Arc::clone(&told);
        let mut report = Report::telling(move |text| sink.lock().unwrap().push_str(text));
        report.begin_sandbox();
        report.push(Step::ok("x", ""));
        assert!(told.lock().unwrap().starts_with("SANDBOX: ") && report.sentence().starts_with("SANDBOX; "));
    }

    #[test]
    fn a_refused_login_with_a_token_is_about_the_service_principal() {
        let refused =
            Failure::new(Stage::Auth, Cause::Reply(Reply::new(535, "5.7.3 Authentication unsuccessful")));
        assert_eq!(patient().advice(&refused), Advice::LoginRefused);
        let with_app = Patient { app: Some(("contoso.com".into(), "1111".into())), ..patient() };
        assert_eq!(with_app.advice(&refused), Advice::TokenRefused);
        let remedy = with_app.finding(Advice::TokenRefused).remedy.join("\n");
        assert!(remedy.contains("New-ServicePrincipal -AppId 1111 "), "{remedy}");
    }

    #[test]
    fn a_step_is_one_line_with_its_remedy_below() {
        let step = Step::failed("AUTH", "535 no", patient().finding(Advice::WrongPassword));
        let text = step.text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "failed   AUTH: 535 no");
        assert!(lines[1].starts_with("         means: the user name or password is wrong (blame: "));
        assert!(lines[2..lines.len() - 1].iter().all(|l| l.starts_with("         do: ")));
        assert_eq!(*lines.last().unwrap(), "         see: mailferry explain wrong-password");
        let json = serde_json::to_value(&step).unwrap();
        assert_eq!(
            (json["status"].as_str(), json["error"].as_str()),
            (Some("failed"), Some("wrong-password"))
        );
    }
}
