//! The table: replies by class, the most telling first.
//!
//! Invariant: the first rule that fits decides. A rule goes by what is said; the code and the enhanced status narrow
//! it down only where they are used for nothing else. Must not know: what else is known of the account.

use super::{Action, Blame, Standing, Verdict};
use crate::mail::{EnhancedStatus, Reply, Stage};
use crate::policy::advice::Advice;
use std::time::Duration;

/// A reply as the table looks at it.
pub(super) struct Heard<'a> {
    pub(super) stage: Stage,
    pub(super) reply: &'a Reply,
    /// In lower case on one line, single blanks between words, plain apostrophes.
    pub(super) text: String,
}

impl<'a> Heard<'a> {
    pub(super) fn new(stage: Stage, reply: &'a Reply) -> Self {
        let lower = reply.text.to_lowercase().replace(['\u{2019}', '`'], "'");
        let text = lower.split_whitespace().collect::<Vec<_>>().join(" ");
        Self { stage, reply, text }
    }

    /// Whether the words stand in the text, from the start of a word on; `*` between them is for anything.
    pub(super) fn says(&self, words: &str) -> bool {
        let mut from = 0;
        words.split('*').all(|part| match self.find_word(part, from) {
            Some(end) => {
                from = end;
                true
            }
            None => false,
        })
    }

    /// Where the first such words end at or after `from`: `ip` is not in `recipient`.
    fn find_word(&self, words: &str, from: usize) -> Option<usize> {
        let rest = &self.text[from..];
        rest.match_indices(words)
            .find(|(at, _)| !self.text[..from + at].ends_with(|c: char| c.is_ascii_alphanumeric()))
            .map(|(at, found)| from + at + found.len())
    }

    pub(super) fn says_any(&self, words: &[&str]) -> bool {
        words.iter().any(|w| self.says(w))
    }

    /// The enhanced status, subject and detail; also where qmail writes it: `(#5.7.1)`.
    pub(super) fn status(&self) -> Option<(u16, u16)> {
        let written = || {
            let at = self.text.find("#4.").or_else(|| self.text.find("#5."))?;
            let number = self.text[at + 1..].split(|c: char| !c.is_ascii_digit() && c != '.').next()?;
            EnhancedStatus::split(number.trim_end_matches('.')).map(|(status, _)| status)
        };
        self.reply.status.or_else(written).map(|s| (s.subject, s.detail))
    }
}

/// What the table says of a reply; nothing, when no rule fits.
pub(super) fn by_table(heard: &Heard<'_>, standing: Standing) -> Option<Verdict> {
    RULES.iter().find(|r| r.fits(heard)).map(|r| r.verdict(heard.stage, standing))
}

/// Whether a rule fits that goes by more than the class of the code: by words, an enhanced status or one code.
pub(super) fn is_known(heard: &Heard<'_>) -> bool {
    RULES
        .iter()
        .find(|r| r.fits(heard))
        .is_some_and(|r| !r.text.is_empty() || r.status.is_some() || matches!(r.code, Is(_)))
}

/// Which codes a rule is for.
#[derive(Clone, Copy)]
enum Code {
    Any,
    Is(u16),
    Class(u16),
}

/// Which enhanced codes: subject and a range of details, of any class.
type Status = Option<(u16, u16, u16)>;

#[derive(Clone, Copy)]
struct Rule {
    stages: &'static [Stage],
    code: Code,
    status: Status,
    /// One of these must be in the text, case ignored, `*` for anything; empty: no matter.
    text: &'static [&'static str],
    blame: Blame,
    action: Action,
    not_before_s: u64,
    advice: Advice,
    tell_now: bool,
    hearsay: bool,
}

impl Rule {
    fn fits(&self, heard: &Heard<'_>) -> bool {
        (self.stages.is_empty() || self.stages.contains(&heard.stage))
            && match self.code {
                Any => true,
                Is(c) => heard.reply.code == c,
                Class(c) => heard.reply.code / 100 == c,
            }
            && self.status.is_none_or(|(subject, from, to)| {
                heard.status().is_some_and(|(s, d)| s == subject && (from..=to).contains(&d))
            })
            && (self.text.is_empty() || heard.says_any(self.text))
    }

    fn verdict(&self, stage: Stage, standing: Standing) -> Verdict {
        Verdict {
            blame: self.blame,
            action: self.action,
            not_before: Duration::from_secs(self.not_before_s),
            advice: Some(self.advice),
            remedy: vec![],
            tell_now: self.tell_now || self.action == Hold,
            // Before a recipient is named there is no other host whose words it could be.
            hearsay: self.hearsay && standing.has_login && stage >= Stage::Rcpt,
            own: None,
        }
    }
}

const fn rule(
    code: Code,
    status: Status,
    text: &'static [&'static str],
    blame: Blame,
    action: Action,
    advice: Advice,
) -> Rule {
    Rule {
        stages: &[],
        code,
        status,
        text,
        blame,
        action,
        not_before_s: 0,
        advice,
        tell_now: false,
        hearsay: false,
    }
}

const fn at(stages: &'static [Stage], rule: Rule) -> Rule {
    Rule { stages, ..rule }
}

const fn after(not_before_s: u64, rule: Rule) -> Rule {
    Rule { not_before_s, ..rule }
}

const fn told(rule: Rule) -> Rule {
    Rule { tell_now: true, ..rule }
}

/// A server that asks the recipient's own host passes on its words, and they read just like its own.
const fn hearsay(rule: Rule) -> Rule {
    Rule { hearsay: true, ..rule }
}

use Action::{Bounce, Hold, Pause, Retry};
use Blame::{Account, Message, Recipient, Sender, Session, Tenant};
use Code::{Any, Class, Is};
use Stage::{Auth, Connect, Data, Ehlo, FinalDot, Mail, Rcpt, Tls, Token};

const LOGIN: &[Stage] = &[Connect, Ehlo, Tls, Token, Auth];
/// Where a message is at stake.
const MESSAGE: &[Stage] = &[Mail, Rcpt, Data, FinalDot];
/// Where the words are about the sender or the account, and no recipient's mailbox can be meant.
const NOT_OF_RCPT: &[Stage] = &[Connect, Auth, Mail, Data, FinalDot];
const CONTENT: &[Stage] = &[Data, FinalDot];
/// Where a 4yz about resources is the server's, not the recipient's: other smart hosts greylist at RCPT.
const NOT_RCPT: &[Stage] = &[Connect, Ehlo, Tls, Token, Auth, Mail, Data, FinalDot];

const NO_TLS: &[&str] = &[
    "issue a starttls",
    "issue starttls",
    "starttls first",
    "starttls*required",
    "require*starttls",
    "need*starttls",
    "starttls before",
    "use starttls",
    "tls*is required",
    "tls required",
    "requires tls",
    "requires encrypt",
    "requires a secure",
    "encryption required",
    "encryption is required",
    "must be encrypted",
    "secure connection required",
    "use tls",
    "use ssl",
];

const HELO: &[&str] = &[
    "helo command rejected",
    "ehlo command rejected",
    "helo/ehlo argument",
    "helo argument",
    "ehlo argument",
    "fully-qualified hostname",
    "fully qualified hostname",
    "invalid helo",
    "invalid ehlo",
    "helo*invalid",
    "ehlo*invalid",
    "bad helo",
    "helo*not resolve",
    "helo*syntax",
    "ehlo*syntax",
    "syntactically invalid",
    "dns label",
    "helo name",
    "ehlo name",
    "need fqdn",
    "invalid domain name in",
    "bogus helo",
    "helo*rejected",
    "ehlo*rejected",
    "helo*mismatch",
    "invalid hostname",
    "hostname*invalid",
];

const NO_REVERSE_DNS: &[&str] = &[
    "cannot find your hostname",
    "cannot find your reverse",
    "reverse dns",
    "reverse hostname",
    "reverse lookup",
    "ptr record",
    "no ptr",
    "ptr *required",
    "rdns",
    "does not have a valid ptr",
    "missing ptr",
    "fcrdns",
];

/// Of something in the message, not of the host that brought it.
const LISTED_CONTENT: &[&str] = &[
    "url*list",
    "uribl",
    "surbl",
    "uri *list",
    "link*blacklist",
    "link*blocklist",
    "domain in *body",
    "dbl.spamhaus",
    "message*contains*listed",
    "url*blocked",
];

const LISTED: &[&str] = &[
    "blocked using",
    "blacklist",
    "black list",
    "black-list",
    "blocklist",
    "block list",
    "block-list",
    "denylist",
    "deny list",
    "spamhaus",
    "spamcop",
    "sorbs",
    "barracudacentral",
    "barracuda reputation",
    "prs.proofpoint",
    "dnsbl",
    "rbl",
    "banned sending ip",
    "client host*blocked",
    "client host*banned",
    "your host*blocked",
    "your ip*blocked",
    "ip*is blocked",
    "ip*has been blocked",
    "ip*blocked",
    "blocked ip",
    "ip address*listed",
    "your ip*listed",
    "listed at",
    "listed by",
    "listed in",
    "is listed on",
    "ip reputation",
    "poor reputation",
    "bad reputation",
    "low reputation",
    "reputation of",
    "reputation score",
    "connection refused*reputation",
    "(bl)",
    "blocked by*ip",
    "directly to our servers",
    "dynamic ip",
    "dynamic address",
    "dynamically",
    "residential",
    "dial-up",
    "dialup",
    "dul.",
    "generic ptr",
    "host*is banned",
    "ip*banned",
    "address*banned",
    "your network is on",
    "server*ip*rejected",
    "bad ip",
    "smtp relay at your",
    "relay of your provider",
    "use your isp",
    "use your provider",
    "mailserver of your isp",
    "ip*rejected due to",
    "your host is not permitted",
];

const RELAY_DENIED: &[&str] = &[
    "relay*denied",
    "relaying*denied",
    "denied*relay",
    "relay*not permitted",
    "relay*not allowed",
    "relay*not authorized",
    "relay*not accepted",
    "relay*not enabled",
    "relay*prohibited",
    "relay*forbidden",
    "relay*refused",
    "relay*rejected",
    "relay*disabled",
    "relay*restricted",
    "relay*disallowed",
    "not permitted to relay",
    "not allowed to relay",
    "not authorized to relay",
    "unauthorized relay",
    "permitted to relay",
    "allowed to relay",
    "authorized to relay",
    "unable to relay",
    "cannot relay",
    "can't relay",
    "can not relay",
    "won't relay",
    "will not relay",
    "do not relay",
    "don't relay",
    "does not relay",
    "no relay",
    "no third-party relay",
    "not relay",
    "open relay",
    "relay access",
    "rcpthosts",
    "gatewaying",
    "not a gateway",
    "not an open relay",
    "invalid credentials for relay",
    "credentials for relay",
    "relay operation",
    "i cannot deliver mail for",
    "not a local domain",
    "not local or relay",
    "not local domain",
    "domain*not local",
    "isn't a local",
    "domain isn't in",
    "domain is not in",
    "domain not in",
    "domain*not hosted",
    "not hosted here",
    "domain*not served",
    "not accept mail for",
    "don't accept mail for",
    "doesn't accept mail for",
    "not a valid relay",
    "no such domain here",
    "not in my list",
    "non-accepted domain",
    "authorized relay",
];

const ADDRESS_UNKNOWN: &[&str] = &[
    "ip*not allowed",
    "ip*not authorized",
    "ip*not authorised",
    "ip*not permitted",
    "ip*not registered",
    "ip*unauthorized",
    "ip*not whitelisted",
    "ip*not recognized",
    "ip*not in *allow",
    "unauthorized ip",
    "unauthorised ip",
    "unknown ip",
    "host*not authorized to",
    "host is not allowed",
    "host*not permitted to",
    "you are not allowed to connect",
    "you are not authorized to connect",
    "not authorized to use this server",
    "not allowed to use this server",
    "not authorized to send through",
    "not allowed to send through",
    "ip address you've registered",
    "client host rejected: access denied",
];

const LOGIN_WANTED: &[&str] = &[
    "authentication*required",
    "authentication is needed",
    "without authentication",
    "without authenticating",
    "auth is required",
    "login denied",
    "authentication needed",
    "not authenticated",
    "unauthenticated",
    "unauthenticated senders",
    "authenticate first",
    "not logged in",
    "must*authenticat",
    "please authenticat",
    "need to authenticat",
    "requires authentication",
    "require authentication",
    "requires smtp auth",
    "smtp auth required",
    "smtp-auth",
    "smtp auth*first",
    "authenticated users only",
    "log in first",
    "login first",
    "login required",
    "please log in",
    "please login",
    "auth required",
    "auth first",
    "auth command first",
    "use smtp auth",
    "you are not logged",
    "not authorized. authentication",
    "authorization required",
    "check your mail before",
    "pop before smtp",
    "no authentication",
    "submission*authenticat",
    "anonymous*not allowed",
    "anonymous mail",
];

const NOT_OUR_SENDER: &[&str] = &[
    "not owned by",
    "must be same as",
    "must be the same as",
    "must match*auth",
    "must match*login",
    "must match*user",
    "must match*account",
    "does not match*auth",
    "not match*login",
    "not match*user",
    "not match*account",
    "doesn't match*auth",
    "differs from*auth",
    "not allowed to send as",
    "sendasdenied",
    "permissions to send as",
    "permission to send as",
    "not permitted to send as",
    "cannot send as",
    "not authorized to send as",
    "not authorised to send as",
    "send on behalf",
    "sender address*not allowed",
    "sender address*not permitted",
    "sender address*not authorized",
    "sender address*not authorised",
    "sender*not allowed for",
    "sender is not allowed",
    "sender not allowed",
    "sender not authorized",
    "sender not permitted",
    "from address*not allowed",
    "from address*not permitted",
    "from address*not authorized",
    "from*must be*your",
    "not allowed to use*address",
    "not allowed to use*sender",
    "not authorized to use*sender",
    "not authorized to use*from",
    "not authorized to send from",
    "not authorised to send from",
    "not authorized to send on",
    "not allowed to send from",
    "not permitted to send from",
    "not authorized to send mail from",
    "not allowed to send mail from",
    "not allowed to send email from",
    "sender mismatch",
    "local user only",
    "sender must be",
    "from must be",
    "wrong sender",
    "sender rejected*not",
    "invalid sender*account",
    "may not send as",
    "sender*alias",
    "from header*not allowed",
    "unauthorized sender",
    "unauthorised sender",
];

const SENDER_UNVERIFIED: &[&str] = &[
    "domain not verified",
    "domain is not verified",
    "domain*not been verified",
    "address is not verified",
    "address*not verified",
    "address not verified",
    "sender not verified",
    "sender*not verified",
    "unverified sender",
    "unverified domain",
    "unverified",
    "verified sender",
    "verify your domain",
    "verify your sender",
    "verify the sender",
    "identities failed the check",
    "sender identity",
    "not verified",
    "sender domain*not registered",
    "domain*not registered",
    "domain*not allowed to send",
    "domain is not allowed",
    "unregistered domain",
    "sender*not a registered",
    "sandbox",
    "domain*not configured",
    "domain*not authorized",
    "domain*not associated",
];

const SENDER_AUTHENTICATION: &[&str] = &[
    "dmarc",
    "spf ",
    "spf)",
    "spf:",
    "spf-",
    "spf=",
    "(spf",
    " spf",
    "openspf",
    "dkim",
    "sender policy framework",
    "required authentication level",
    "unauthenticated email",
    "message*unauthenticated",
    "sender authentication",
    "email authentication",
    "domain authentication",
];

/// What is used up, by whatever span of time.
const LIMIT: &[&str] = &[
    "daily*limit",
    "daily*quota",
    "limit*daily",
    "hourly",
    "per hour",
    "per day",
    "per minute",
    "per second",
    "a day",
    "an hour",
    "each day",
    "each hour",
    "in 24 hours",
    "monthly",
    "month*limit",
    "rate limit",
    "ratelimit",
    "rate-limit",
    "rate exceeded",
    "rate*limited",
    "sending rate",
    "sending limit",
    "send limit",
    "sending quota",
    "send quota",
    "message quota",
    "email quota",
    "mail quota",
    "submission quota",
    "messages*limit",
    "emails*limit",
    "mails*limit",
    "limit*messages",
    "limit*emails",
    "limit*mails",
    "limit exceeded",
    "limit*reached",
    "limit*has been exceeded",
    "exceeded*limit",
    "exceeds*limit",
    "exceeding*limit",
    "exceeded*quota",
    "quota exceeded",
    "quota*exceeded",
    "over quota",
    "out of credits",
    "not enough credits",
    "credits*exceeded",
    "insufficient credit",
    "credit limit",
    "too many messages",
    "too many mails",
    "too many emails",
    "too many e-mails",
    "too many recipients*day",
    "too many recipients*hour",
    "too much mail",
    "too fast",
    "too frequently",
    "slow down",
    "sending too",
    "throttl",
    "wait to send",
    "maximum number of*messages",
    "maximum credits",
];

const SUSPENDED: &[&str] = &[
    "account*suspended",
    "account*disabled",
    "account*deactivated",
    "account*blocked",
    "account*locked",
    "account*terminated",
    "account*inactive",
    "account*not active",
    "account*closed",
    "account*frozen",
    "account*under review",
    "account*has expired",
    "account*on hold",
    "account*paused",
    "account*restricted",
    "account*banned",
    "account*not been activated",
    "account*not activated",
    "account*is not allowed to send",
    "user*suspended",
    "user*disabled",
    "user*blocked",
    "user*locked",
    "mailbox*suspended",
    "mailbox*disabled",
    "sending*suspended",
    "sending*paused",
    "sending*disabled",
    "sending*blocked",
    "sender*suspended",
    "mail sending denied",
    "sending denied",
    "suspicious activity",
    "unusual*activity",
    "contact us to reactivate",
    "to reactivate",
    "subscription*expired",
    "trial*expired",
    "payment",
    "billing",
    "unpaid",
    "overdue",
    "compromised",
    "outgoing*blocked",
    "outgoing*disabled",
    "outgoing*suspended",
    "outbound*blocked",
    "outbound*disabled",
    "not allowed to send mail",
    "not allowed to send email",
    "disabled for sending",
];

const OUT_OF_STEP: &[&str] = &[
    "bad sequence",
    "out of sequence",
    "wrong sequence",
    "ehlo/helo first",
    "helo/ehlo first",
    "ehlo first",
    "helo first",
    "say hello",
    "send hello",
    "polite people",
    "need mail",
    "mail first",
    "mail from first",
    "need rcpt",
    "rcpt first",
    "nested mail",
    "sender already",
    "sender already specified",
    "mail transaction already",
    "no mail transaction",
    "command out of",
    "command unrecognized",
    "command not recognized",
    "unrecognized command",
    "unrecognised command",
    "unknown command",
    "command unknown",
    "invalid command",
    "command not implemented",
    "not implemented",
    "command not understood",
];

const VIRUS: &[&str] = &["virus", "infected", "malware", "trojan", "phish", "eicar", "clamav"];

const FULL: &[&str] = &[
    "mailbox*full",
    "mailbox is over",
    "over quota",
    "overquota",
    "quota exceeded",
    "exceeded*quota",
    "exceeds*quota",
    "exceeded storage",
    "storage allocation",
    "out of storage",
    "insufficient storage",
    "no space",
    "storage limit",
    "quota",
    "inbox*full",
    "not enough storage",
    "mailbox*exceed",
    "storage*exceed",
];

const TOO_MANY_RECIPIENTS: &[&str] = &[
    "too many recipients",
    "many recipients",
    "limit of*recipients",
    "recipients*reached",
    "recipients*limit",
    "recipient limit",
    "limit*recipients",
    "recipients*exceed",
    "exceed*recipients",
    "maximum*recipients",
];

const NOT_FOR_ALL: &[&str] = &[
    "resolver.rst",
    "usernotallowedtosend",
    "restrictedtorecipients",
    "requiresendertobeauthenticated",
    "not authorized to send to th",
    "not allowed to send to th",
    "not permitted to send to th",
    "recipient*only accept",
    "recipient*does not accept",
    "recipient*not accepting",
    "restricted recipient",
    "members only",
    "permission to send to",
    "not allowed to post",
    "group*not accept",
    "only accepts mail from",
];

const NO_SUCH_RECIPIENT: &[&str] = &[
    "user unknown",
    "unknown user",
    "user*not found",
    "user*doesn't exist",
    "user*does not exist",
    "user*not exist",
    "user is unknown",
    "no such user",
    "no such recipient",
    "no such mailbox",
    "no such address",
    "no such person",
    "no mailbox",
    "no such account",
    "no such domain",
    "unknown recipient",
    "recipient unknown",
    "recipient*not found",
    "recipient*does not exist",
    "recipient*doesn't exist",
    "recipient not exist",
    "invalid recipient",
    "recipient*invalid",
    "recipient*unknown",
    "unknown address",
    "address unknown",
    "address*does not exist",
    "address*doesn't exist",
    "address*not found",
    "address not known",
    "unknown local",
    "unknown mailbox",
    "mailbox*unavailable",
    "mailbox*not found",
    "mailbox*unknown",
    "mailbox*does not exist",
    "mailbox*doesn't exist",
    "mailbox*not available",
    "mailbox*inactive",
    "mailbox*disabled",
    "mailbox*invalid",
    "invalid mailbox",
    "invalid address",
    "address*invalid",
    "bad destination",
    "bad recipient",
    "account*disabled",
    "account*does not exist",
    "account*doesn't exist",
    "account*not exist",
    "account*inactive",
    "account*unavailable",
    "account that you tried to reach",
    "recipient address rejected",
    "recipient rejected",
    "recipient verif",
    "address rejected",
    "recipient*rejected",
    "undeliverable",
    "domain not found",
    "domain*does not exist",
    "host not found",
    "unrouteable",
    "unroutable",
    "unrouted",
    "not a known user",
    "not known",
    "not a valid",
    "does not exist",
    "doesn't exist",
    "doesn't have a",
    "does not have an",
    "no valid recipient",
    "all recipient",
    "no recipients",
    "null mx",
    "does not accept mail",
    "no longer",
    "address syntax",
    "syntax error",
    "malformed address",
    "bad address",
    "user disabled",
    "not our customer",
    "unknown or illegal alias",
    "illegal alias",
    "nobody",
];

/// In order: the first that fits decides.
#[rustfmt::skip]
static RULES: &[Rule] = &[
    // The front end's proxy faults, whatever the stage.
    rule(Class(4), None, &["prx1", "prx2", "prx3", "prx4", "prx5", "prx6", "prx7", "prx8", "prx9", "cprx"], Account, Retry, Advice::Proxy),

    // A firewall that masks commands it does not know.
    rule(Class(5), None, &["xxxx"], Account, Hold, Advice::NotSmtp),

    // A login refused: the text decides. 5.7.57 may embed the 535 of an earlier AUTH, so these hold at any stage.
    rule(Class(5), None, &["smtpclientauthentication is disabled for the tenant"], Account, Hold, Advice::SmtpAuthDisabledForTenant),
    rule(Class(5), None, &["smtpclientauthentication is disabled for the mailbox"], Account, Hold, Advice::SmtpAuthDisabledForMailbox),
    rule(Class(5), Some((7, 139, 139)), &["user credentials were incorrect"], Account, Hold, Advice::WrongPassword),
    rule(Class(5), Some((7, 139, 139)), &["account is locked"], Account, Hold, Advice::AccountLocked),
    rule(Class(5), Some((7, 139, 139)), &["security defaults"], Account, Hold, Advice::SecurityDefaults),
    rule(Class(5), Some((7, 139, 139)), &["did not meet the criteria", "conditional access"], Account, Hold, Advice::ConditionalAccess),
    rule(Class(5), Some((7, 139, 139)), &["basic authentication is disabled"], Account, Hold, Advice::BasicAuthDisabled),
    rule(Class(5), Some((7, 139, 139)), &["password has expired", "password is expired", "password expired"], Account, Hold, Advice::PasswordExpired),
    rule(Class(5), Some((7, 139, 139)), &["federated", "sts "], Account, Hold, Advice::Federation),
    rule(Class(5), Some((7, 139, 139)), &[], Account, Hold, Advice::LoginRefused),
    rule(Class(5), Some((7, 30, 30)), &[], Account, Hold, Advice::BasicAuthDisabled),
    rule(Class(5), Some((7, 142, 143)), &[], Account, Retry, Advice::TokenExpired),
    at(&[Auth], rule(Class(5), Some((5, 121, 126)), &[], Account, Hold, Advice::LoginArgument)),
    at(&[Auth], rule(Class(5), None, &["xoauth2*argument", "invalid*sasl argument"], Account, Hold, Advice::LoginArgument)),
    rule(Class(5), Some((7, 9, 9)), &["password required", "app password", "application-specific", "application specific"], Account, Hold, Advice::AppPassword),
    at(&[Auth], rule(Class(5), None, &["application-specific", "application specific", "app password", "app-specific", "app specific", "authorization code"], Account, Hold, Advice::AppPassword)),
    at(&[Auth], rule(Class(5), None, &["web browser", "web login", "webmail first", "verify*browser", "log in via"], Account, Hold, Advice::BrowserLogin)),
    at(&[Auth], rule(Class(5), None, &["unable to proxy", "failed to resolve the user"], Account, Hold, Advice::MailboxLogon)),
    at(&[Auth], rule(Class(5), None, NO_TLS_AT_AUTH, Account, Hold, Advice::NoStartTls)),
    at(&[Auth], rule(Class(5), None, &["no permission", "smtp*disabled", "smtp*not enabled", "smtp*not allowed", "not enabled for smtp", "smtp*not activated", "service*not open", "smtp access", "not permitted to use smtp", "not allowed to use smtp", "pop3/smtp"], Account, Hold, Advice::SmtpOff)),
    at(&[Auth], rule(Class(5), None, &["too many*login", "too many*auth", "too many*attempt", "too many*fail", "temporarily locked", "locked out"], Account, Hold, Advice::AccountLocked)),
    at(&[Auth], rule(Class(5), None, SUSPENDED, Account, Hold, Advice::AccountSuspended)),
    rule(Class(5), Some((7, 57, 57)), &[], Account, Hold, Advice::NotAuthenticated),
    at(LOGIN, rule(Is(535), None, &[], Account, Hold, Advice::LoginRefused)),
    at(LOGIN, rule(Is(504), None, &["auth", "mechanism"], Account, Hold, Advice::NoAuthOffered)),
    at(&[Auth], rule(Is(504), None, &[], Account, Hold, Advice::NoAuthOffered)),

    // TLS.
    rule(Any, None, &["must issue a starttls"], Account, Hold, Advice::NoStartTls),
    at(&[Connect, Ehlo, Auth, Mail], rule(Any, None, NO_TLS, Account, Hold, Advice::NoStartTls)),
    at(&[Tls], rule(Class(5), None, &[], Account, Hold, Advice::NoStartTls)),
    at(&[Tls], rule(Class(4), None, &[], Account, Retry, Advice::ServerBusy)),
    rule(Any, Some((7, 66, 67)), &[], Account, Hold, Advice::TlsVersion),

    // The name this host gives itself.
    rule(Class(5), None, HELO, Account, Hold, Advice::HostName),
    told(hearsay(rule(Class(4), None, &["helo command rejected", "ehlo command rejected"], Account, Retry, Advice::HostName))),
    at(&[Ehlo], rule(Is(501), None, &[], Account, Hold, Advice::HostName)),

    // Throttling.
    told(after(300, rule(Is(421), None, &["too many errors"], Account, Retry, Advice::TooManyErrors))),
    rule(Is(432), None, &["recipient thread limit"], Message, Retry, Advice::ServerBusy),
    after(15, rule(Is(432), None, &[], Account, Pause, Advice::TooManyConnections)),
    after(60, rule(Is(421), None, &["submission rate"], Account, Pause, Advice::SubmissionRate)),
    after(15, at(LOGIN, rule(Class(4), None, &["concurrent*connection", "too many*connection", "too many*session", "simultaneous", "connection limit", "maximum*connections", "many connections"], Account, Pause, Advice::TooManyConnections))),
    after(15, rule(Is(421), None, &["concurrent*connection", "too many*connection", "too many*session", "simultaneous"], Account, Pause, Advice::TooManyConnections)),
    after(300, rule(Class(4), Some((7, 500, 699)), &[], Account, Retry, Advice::ServerBusy)),
    after(300, rule(Class(4), Some((7, 850, 899)), &[], Account, Retry, Advice::ServerBusy)),

    // Earned by looping on refusals: 5.2.252 is also the plain SendAs refusal, so the text comes first.
    after(7200, rule(Class(5), None, &["sender throttled"], Account, Hold, Advice::SenderThrottled)),
    after(7200, rule(Class(5), Some((2, 251, 251)), &[], Account, Hold, Advice::SenderThrottled)),
    after(7200, rule(Class(5), Some((2, 253, 255)), &[], Account, Hold, Advice::SenderThrottled)),

    // The sender, as Exchange Online says it.
    at(MESSAGE, rule(Class(5), Some((7, 60, 60)), &[], Sender, Bounce, Advice::SendAs)),
    at(MESSAGE, rule(Class(5), None, &["sendasdenied", "not allowed to send as"], Sender, Bounce, Advice::SendAs)),
    at(MESSAGE, rule(Class(5), Some((2, 252, 252)), &[], Sender, Bounce, Advice::SendAs)),
    at(MESSAGE, rule(Class(5), Some((7, 62, 62)), &[], Sender, Bounce, Advice::HighVolumeSender)),
    at(MESSAGE, rule(Class(5), Some((6, 241, 241)), &[], Sender, Bounce, Advice::HighVolumeSender)),
    after(3600, rule(Class(5), Some((2, 240, 240)), &[], Account, Hold, Advice::AccountSuspended)),

    // The mailbox's limits and blocks, as Exchange Online says them.
    at(&[Mail, Data, FinalDot], rule(Class(5), None, &["submissionquotaexceeded", "submission quota exceeded"], Account, Hold, Advice::DailyLimit)),
    after(3600, rule(Class(5), Some((1, 90, 90)), &[], Account, Hold, Advice::DailyLimit)),
    at(&[FinalDot], rule(Class(5), None, &["quotaexceededexception"], Account, Hold, Advice::MailboxFull)),
    rule(Class(5), None, &["outboundspamexception"], Account, Hold, Advice::SendingBlocked),
    at(MESSAGE, rule(Class(5), Some((1, 8, 8)), &["bad outbound sender", "outbound spam"], Account, Hold, Advice::SendingBlocked)),
    at(&[Mail], rule(Class(5), Some((1, 8, 8)), &["access denied"], Account, Hold, Advice::SendingBlocked)),
    // Other smart hosts give it for a sender's domain too, but never as late as this.
    at(CONTENT, rule(Class(5), Some((1, 8, 8)), &[], Account, Hold, Advice::SendingBlocked)),
    rule(Class(5), Some((7, 501, 503)), &[], Account, Hold, Advice::SendingBlocked),
    told(rule(Is(430), Some((2, 0, 0)), &[], Account, Retry, Advice::MailboxLogon)),
    after(3600, rule(Class(5), Some((7, 236, 236)), &[], Account, Hold, Advice::OnmicrosoftSender)),
    rule(Class(5), Some((7, 232, 233)), &[], Tenant, Hold, Advice::TenantBlocked),
    rule(Class(5), Some((7, 705, 705)), &[], Tenant, Hold, Advice::TenantBlocked),
    rule(Class(5), Some((7, 708, 708)), &[], Tenant, Hold, Advice::TenantBlocked),
    rule(Class(5), Some((7, 750, 750)), &[], Tenant, Hold, Advice::TenantBlocked),
    rule(Class(5), Some((7, 800, 800)), &[], Tenant, Hold, Advice::TenantBlocked),
    rule(Class(4), None, &["organization queue quota", "attribution data"], Account, Retry, Advice::ServerBusy),

    // A connector that does not know this host; mail straight to the organisation.
    rule(Class(5), Some((7, 68, 68)), &[], Account, Hold, Advice::DirectSend),
    rule(Class(5), None, &["direct send", "rejectdirectsend"], Account, Hold, Advice::DirectSend),
    hearsay(rule(Class(5), Some((7, 64, 64)), &[], Account, Hold, Advice::Connector)),
    hearsay(rule(Class(5), Some((7, 51, 51)), &[], Account, Hold, Advice::Connector)),
    hearsay(rule(Any, None, &["tenantattribution", "tenantinboundattribution", "restrictdomainsto", "attr1", "attr2", "attr3"], Account, Hold, Advice::Connector)),

    // Policies of the tenant and of High Volume Email about one message.
    at(MESSAGE, rule(Class(5), Some((7, 703, 703)), &[], Message, Bounce, Advice::TenantAllowBlockList)),
    at(MESSAGE, rule(Class(5), Some((5, 105, 105)), &[], Recipient, Bounce, Advice::HighVolumeRecipient)),
    at(MESSAGE, rule(Class(5), Some((7, 129, 129)), &[], Recipient, Bounce, Advice::RecipientRestricted)),
    at(MESSAGE, rule(Class(5), Some((7, 509, 509)), &[], Message, Bounce, Advice::SenderAuthentication)),
    at(MESSAGE, rule(Class(5), Some((7, 515, 515)), &[], Message, Bounce, Advice::SenderAuthentication)),
    at(MESSAGE, rule(Class(5), Some((7, 512, 512)), &[], Message, Bounce, Advice::MessageRefused)),

    // The message's size and way.
    at(MESSAGE, rule(Class(5), None, &["header size", "headers too", "header*too long", "header*too large", "too many headers", "header section"], Message, Bounce, Advice::HeaderTooLarge)),
    at(MESSAGE, rule(Class(5), None, &["hop count", "too many hops", "mail loop", "loop detected", "routing loop", "too many received", "looping", "loops back"], Message, Bounce, Advice::MailLoop)),
    at(MESSAGE, rule(Class(5), None, VIRUS, Message, Bounce, Advice::Virus)),
    at(&[Mail, Data, FinalDot], rule(Class(5), None, &["message*too big", "message*too large", "too large*message", "size*exceed", "exceed*size", "message size", "size limit", "sendsizelimit", "maximum size", "mail too", "message length", "content too large", "file size"], Message, Bounce, Advice::TooLarge)),
    at(CONTENT, rule(Class(5), None, LISTED_CONTENT, Message, Bounce, Advice::ContentRefused)),

    // One recipient, in words that others could take for the account's.
    at(&[Rcpt], rule(Class(5), None, &["utf-8 address", "utf8 address", "smtputf8", "non-ascii", "internationalized"], Recipient, Bounce, Advice::NoSmtpUtf8)),
    at(&[Rcpt], rule(Class(5), Some((6, 7, 7)), &[], Recipient, Bounce, Advice::NoSmtpUtf8)),
    at(&[Rcpt], rule(Class(5), Some((2, 121, 122)), &[], Recipient, Bounce, Advice::RecipientBusy)),
    at(&[Rcpt], rule(Class(5), None, &["recipient has exceeded", "recipient*receiving", "user*receiving mail", "reach is receiving"], Recipient, Bounce, Advice::RecipientBusy)),
    at(&[Rcpt], rule(Class(4), None, &["receiving mail", "recipient has exceeded"], Recipient, Retry, Advice::ServerBusy)),
    at(&[Rcpt], rule(Class(5), None, NOT_FOR_ALL, Recipient, Bounce, Advice::RecipientRestricted)),
    at(&[Rcpt], rule(Class(5), Some((2, 1, 1)), &[], Recipient, Bounce, Advice::NoSuchRecipient)),
    at(&[Rcpt], rule(Class(5), Some((2, 2, 2)), &[], Recipient, Bounce, Advice::RecipientFull)),
    at(&[Rcpt], rule(Class(5), None, &["mailbox*full", "mailbox is over", "recipient*quota", "user*quota", "mailbox*quota", "storage", "inbox*full"], Recipient, Bounce, Advice::RecipientFull)),
    at(&[Rcpt], rule(Is(552), None, FULL, Recipient, Bounce, Advice::RecipientFull)),

    // What the provider of the account allows.
    at(NOT_OF_RCPT, after(3600, rule(Class(5), None, &["daily*limit", "daily*quota", "hourly*limit", "hourly*quota", "per day", "per hour", "sending limit", "sending quota"], Account, Hold, Advice::ProviderLimit))),
    at(NOT_OF_RCPT, rule(Class(5), None, SUSPENDED, Account, Hold, Advice::AccountSuspended)),
    at(&[Rcpt], hearsay(rule(Class(5), None, &["your account", "account*suspended", "sender*suspended", "mail sending denied", "sending denied"], Account, Hold, Advice::AccountSuspended))),
    at(&[Mail, Data, FinalDot], rule(Class(5), Some((2, 2, 2)), &[], Account, Hold, Advice::MailboxFull)),
    at(&[Mail, Rcpt], rule(Class(5), None, &["too many recipients*day", "too many recipients*hour"], Account, Hold, Advice::ProviderLimit)),
    // RFC 5321 section 4.5.3.1.10: whoever is left over goes in the next transaction.
    at(&[Rcpt], rule(Any, None, TOO_MANY_RECIPIENTS, Recipient, Retry, Advice::TooManyRecipients)),
    at(&[Rcpt], rule(Is(452), Some((5, 3, 3)), &[], Recipient, Retry, Advice::TooManyRecipients)),
    at(&[Rcpt], rule(Is(552), Some((5, 3, 3)), &[], Recipient, Retry, Advice::TooManyRecipients)),
    after(3600, hearsay(rule(Class(5), None, LIMIT, Account, Hold, Advice::ProviderLimit))),
    after(300, hearsay(rule(Class(4), None, &["daily*limit", "daily*quota", "per day", "a day", "24 hours", "monthly"], Account, Retry, Advice::ProviderLimit))),
    after(60, hearsay(rule(Class(4), None, LIMIT, Account, Pause, Advice::ProviderLimit))),

    // What the sender's domain says of itself; before the words about a login, which read alike.
    at(MESSAGE, rule(Class(5), None, SENDER_AUTHENTICATION, Message, Bounce, Advice::SenderAuthentication)),
    at(MESSAGE, rule(Class(5), Some((7, 20, 24)), &[], Message, Bounce, Advice::SenderAuthentication)),
    at(MESSAGE, rule(Class(5), Some((7, 26, 30)), &[], Message, Bounce, Advice::SenderAuthentication)),

    // A login that is missing or was lost.
    hearsay(rule(Class(5), None, LOGIN_WANTED, Account, Hold, Advice::NotAuthenticated)),
    hearsay(rule(Is(530), None, &[], Account, Hold, Advice::NotAuthenticated)),

    // This host's address.
    hearsay(rule(Class(5), None, &["customer block list", "blocked by*organization", "blocked by your organization"], Account, Hold, Advice::BlockedByRecipient)),
    hearsay(rule(Class(5), None, NO_REVERSE_DNS, Account, Hold, Advice::ReverseDns)),
    hearsay(rule(Class(5), Some((7, 25, 25)), &[], Account, Hold, Advice::ReverseDns)),
    told(hearsay(rule(Class(4), None, NO_REVERSE_DNS, Account, Retry, Advice::ReverseDns))),
    told(hearsay(rule(Class(4), Some((7, 25, 25)), &[], Account, Retry, Advice::ReverseDns))),
    hearsay(rule(Class(5), Some((7, 511, 511)), &[], Account, Hold, Advice::AddressBlocked)),
    hearsay(rule(Class(5), Some((7, 606, 649)), &[], Account, Hold, Advice::AddressBlocked)),
    at(MESSAGE, rule(Class(5), None, &["sender address*black", "sender address*block", "sender address*listed", "sender domain*list", "sender*is blacklisted", "sender*blocked by"], Sender, Bounce, Advice::SenderRefused)),
    hearsay(rule(Class(5), None, LISTED, Account, Hold, Advice::AddressBlocked)),
    told(hearsay(rule(Class(4), None, LISTED, Account, Retry, Advice::AddressBlocked))),
    hearsay(rule(Class(5), None, ADDRESS_UNKNOWN, Account, Hold, Advice::RelayDenied)),

    // The right to send through this server.
    hearsay(rule(Class(5), None, RELAY_DENIED, Account, Hold, Advice::RelayDenied)),
    told(hearsay(rule(Class(4), None, RELAY_DENIED, Account, Retry, Advice::RelayDenied))),
    told(hearsay(rule(Class(4), None, ADDRESS_UNKNOWN, Account, Retry, Advice::RelayDenied))),

    // The sender, as others say it.
    at(MESSAGE, rule(Class(5), None, NOT_OUR_SENDER, Sender, Bounce, Advice::SenderNotOurs)),
    at(MESSAGE, rule(Class(5), None, SENDER_UNVERIFIED, Sender, Bounce, Advice::SenderNotVerified)),
    at(&[Mail], rule(Class(5), Some((1, 7, 8)), &[], Sender, Bounce, Advice::SenderRefused)),
    at(&[Mail], rule(Class(5), Some((1, 0, 0)), &[], Sender, Bounce, Advice::SenderRefused)),
    at(MESSAGE, rule(Class(5), None, &["sender address rejected", "sender rejected", "invalid sender", "sender verify failed", "bad sender", "sender domain must", "sender's domain", "domain of sender"], Sender, Bounce, Advice::SenderRefused)),

    // The dialogue is out of step: a fresh connection.
    at(MESSAGE, rule(Is(503), None, &[], Session, Retry, Advice::OutOfStep)),
    at(MESSAGE, rule(Is(500), None, &[], Session, Retry, Advice::OutOfStep)),
    at(&[Mail, Data], rule(Is(502), None, &[], Session, Retry, Advice::OutOfStep)),
    at(&[Mail, Data], rule(Class(5), None, OUT_OF_STEP, Session, Retry, Advice::OutOfStep)),

    // The server's resources.
    at(NOT_RCPT, rule(Is(452), Some((3, 1, 1)), &[], Account, Retry, Advice::ServerBusy)),
    at(NOT_RCPT, rule(Is(451), Some((3, 2, 2)), &[], Account, Retry, Advice::ServerBusy)),
    at(NOT_RCPT, rule(Is(451), Some((4, 0, 999)), &[], Account, Retry, Advice::ServerBusy)),
    at(NOT_RCPT, rule(Is(450), Some((7, 1, 1)), &[], Account, Retry, Advice::ServerBusy)),
    at(NOT_RCPT, rule(Is(430), Some((3, 1, 1)), &[], Account, Retry, Advice::ServerBusy)),
    at(NOT_RCPT, rule(Class(4), Some((3, 111, 111)), &[], Account, Retry, Advice::ServerBusy)),
    at(NOT_RCPT, rule(Class(4), None, &["temporary authentication failure", "message not proxied"], Account, Retry, Advice::ServerBusy)),

    // Addresses and the message itself.
    at(&[Rcpt], rule(Class(5), Some((3, 4, 4)), &[], Message, Bounce, Advice::TooLarge)),
    at(&[Rcpt], rule(Is(552), None, &["size", "too large", "too big"], Message, Bounce, Advice::TooLarge)),
    at(&[Rcpt], rule(Class(5), Some((1, 0, 999)), &[], Recipient, Bounce, Advice::NoSuchRecipient)),
    at(&[Rcpt], rule(Class(5), Some((2, 0, 999)), &[], Recipient, Bounce, Advice::NoSuchRecipient)),
    at(&[Rcpt], rule(Class(5), Some((4, 1, 4)), &[], Recipient, Bounce, Advice::NoSuchRecipient)),
    at(&[Rcpt], rule(Class(5), None, NO_SUCH_RECIPIENT, Recipient, Bounce, Advice::NoSuchRecipient)),
    at(CONTENT, rule(Class(5), Some((4, 1, 1)), &["recipient"], Message, Bounce, Advice::NoSuchRecipient)),
    at(CONTENT, rule(Class(5), None, &["no valid recipient", "all recipient", "no recipients"], Message, Bounce, Advice::NoSuchRecipient)),
    at(&[Mail, Data, FinalDot], rule(Class(5), Some((3, 4, 4)), &[], Message, Bounce, Advice::TooLarge)),
    at(CONTENT, rule(Class(5), Some((6, 0, 999)), &[], Message, Bounce, Advice::MessageRefused)),
    at(CONTENT, rule(Class(5), None, &["spam", "unsolicited", "banned", "policy", "spoof", "content", "prohibited", "attachment", "not accepted for", "suspicious"], Message, Bounce, Advice::ContentRefused)),
    at(&[Mail, Data, FinalDot], rule(Is(552), None, &[], Message, Bounce, Advice::TooLarge)),

    // Any other transient answer before the login is through is the account's.
    at(LOGIN, rule(Class(4), None, &[], Account, Retry, Advice::ServerBusy)),
];

const NO_TLS_AT_AUTH: &[&str] = &["encryption required", "must issue", "requires tls", "secure"];
