//! Entries: what the smart host thinks of this site and of the account's right to send through it.

use super::{Entry, KICK, Side};

pub(super) static DENIED: Entry = Entry {
    slug: "relay-denied",
    title: "550 5.7.1 Unable to relay; relay access denied; relaying denied",
    blame: Side::Mailbox,
    texts: &[
        "550 5.7.1 Unable to relay",
        "554 5.7.1 <a@b.example>: Relay access denied",
        "550 5.7.1 Relaying denied",
        "550 relay not permitted",
        "553 sorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)",
        "550 that IP address is not allowed to send",
        "550 5.7.1 Invalid credentials for relay [203.0.113.9]. The IP address you've registered doesn't match",
        "451 Open relay not allowed",
    ],
    meaning: "the smart host does not relay mail of this account to others: it knows neither a login nor this site's \
              address",
    waiting: None,
    steps: &[
        "give the account for {mailbox} a login (login and password, or oauth), if {smart_host} takes one; many relay \
         after a login only, and only on port 587 or 465",
        "or have this site's public address allowed at the smart host: register it as a relay host, or give it the \
         permission to relay (a provider, a mail gateway such as mimecast or proofpoint, a receive connector)",
        "is {smart_host} a submission server? a domain's mx takes mail for its own domain only",
        KICK,
    ],
};

pub(super) static CONNECTOR: Entry = Entry {
    slug: "connector",
    title: "5.7.64 TenantAttribution; Relay Access Denied; 5.7.51 RestrictDomainsToIPAddresses; ATTR14",
    blame: Side::Tenant,
    texts: &[
        "550 5.7.64 TenantAttribution; Relay Access Denied",
        "550 5.7.51 TenantInboundAttribution; Rejecting. RestrictDomainsToIPAddresses",
        "550 5.7.1 Unable to Relay. ATTR14",
    ],
    meaning: "no inbound connector of the organisation knows this host, or it asks for another address or certificate",
    waiting: None,
    steps: &[
        "exchange admin center > Mail flow > Connectors > the inbound one (from your organization's email server): add \
         this site's public address; Get-InboundConnector | Format-List Name,Enabled,SenderIPAddresses,TlsSenderCertificateName",
        "has this site's public address changed? the log of the firewall or the provider says so",
        "the sender's domain must be an accepted domain of the organisation: Get-AcceptedDomain",
        "or submit with a login through smtp.office365.com:587, docs/microsoft-365.md",
    ],
};

pub(super) static DIRECT_SEND: Entry = Entry {
    slug: "direct-send",
    title: "550 5.7.68 Direct Send not allowed for this organization",
    blame: Side::Tenant,
    texts: &[
        "550 5.7.68 TenantInboundAttribution; Direct Send not allowed for this organization from unauthorized sources",
    ],
    meaning: "the organisation takes no mail in its own name without a login or a connector: direct send is off",
    waiting: None,
    steps: &[
        "submit with smtp auth through smtp.office365.com:587, docs/microsoft-365.md",
        "or make an inbound connector for this site's public address: exchange admin center > Mail flow > Connectors",
        "leave RejectDirectSend as it is: switching it off opens the organisation to forged senders and weakens the whole \
         tenant",
    ],
};

pub(super) static ADDRESS_BLOCKED: Entry = Entry {
    slug: "address-blocked",
    title: "5.7.606 banned sending IP; blocked using Spamhaus; this site's address is on a block list",
    blame: Side::Network,
    texts: &[
        "550 5.7.606 Access denied, banned sending IP [203.0.113.9]",
        "550 5.7.511 Access denied, banned sender [203.0.113.9]",
        "554 5.7.1 Service unavailable; Client host [203.0.113.9] blocked using zen.spamhaus.org",
        "550 5.7.1 Service unavailable; client [203.0.113.9] blocked using prs.proofpoint.com",
        "550 5.7.1 [203.0.113.9] The IP you're using to send mail is not authorized to send email directly to our servers",
        "450 4.7.1 Service unavailable; client [203.0.113.9] blocked using bl.spamcop.net",
    ],
    meaning: "this site's public address is blocked, or on the block list that the server names",
    waiting: None,
    steps: &[
        "find out what this site sent (an infected device, a shared address), then have the address delisted by the list \
         in the server's words: sender.office.com for microsoft, check.spamhaus.org, ipcheck.proofpoint.com",
        "a dynamic address (dsl, cable, mobile) is listed for good: use the provider's relay, or a smart host that takes a \
         login on port 587",
        "is {smart_host} the wrong host, a domain's mx in place of the submission server? with a login on port 587 the \
         address hardly matters",
    ],
};

pub(super) static BLOCKED_BY_RECIPIENT: Entry = Entry {
    slug: "blocked-by-the-recipients-organisation",
    title: "550 5.7.513 Client host blocked by ... using Customer Block list",
    blame: Side::Network,
    texts: &[
        "550 5.7.513 Service unavailable, Client host [203.0.113.9] blocked by contoso.com using Customer Block list",
    ],
    meaning: "the recipient's organisation blocks this site's address by a list of its own",
    waiting: None,
    steps: &[
        "ask an admin of the recipient's organisation (named in the server's words) to take this site's public address off: \
         defender portal > Policies > Connection filter, IP Block List",
        "if it is your own organisation, an inbound connector for this site is better: exchange admin center > Mail flow > \
         Connectors",
    ],
};

pub(super) static REVERSE_DNS: Entry = Entry {
    slug: "reverse-dns",
    title: "450 4.7.25 Client host rejected: cannot find your hostname",
    blame: Side::Network,
    texts: &[
        "450 4.7.25 Client host rejected: cannot find your hostname, [203.0.113.9]",
        "550 5.7.25 The IP address sending this message does not have a PTR record",
    ],
    meaning: "this site's public address has no name in the reverse dns, or one that does not lead back to it",
    waiting: None,
    steps: &[
        "have the provider of this site's line set a ptr record (reverse dns) for its public address, and make that name \
         resolve to the address again",
        "or use a smart host that takes a login on port 587: it does not ask for one",
    ],
};

pub(super) static HOST_NAME: Entry = Entry {
    slug: "hostname",
    title: "Helo command rejected: need fully-qualified hostname",
    blame: Side::Host,
    texts: &[
        "504 5.5.2 <localhost>: Helo command rejected: need fully-qualified hostname",
        "501 5.5.4 HELO/EHLO argument is invalid, please review this article.",
        "550 Host names have more than one DNS label",
    ],
    meaning: "the server does not accept the name this host gives itself in EHLO",
    waiting: None,
    steps: &[
        "set hostname at the top of the configuration to a full name with a domain that is yours, such as \
         relay.contoso.com; some servers want it to resolve, too",
        "then: systemctl reload mailferry",
    ],
};

pub(super) static SERVER_REFUSES: Entry = Entry {
    slug: "server-refuses",
    title: "554 at the greeting, 5yz before a login",
    blame: Side::Network,
    texts: &["554 5.0.0 No SMTP service here", "554 IP=203.0.113.9 - A problem occurred"],
    meaning: "the server refuses this host before it has seen a login or a message",
    waiting: None,
    steps: &[
        "the server's words say why; often this site's public address is blocked, or {smart_host} is the wrong host: a \
         domain's mx in place of the submission server (port 587 or 465)",
        "does a firewall or a virus scanner answer in its place? openssl s_client -starttls smtp -connect {smart_host} shows \
         whose certificate it is",
        KICK,
    ],
};

pub(super) static UNKNOWN: Entry = Entry {
    slug: "unknown-refusal",
    title: "A refusal in unknown words, and nothing ever went through",
    blame: Side::Mailbox,
    texts: &["MAIL FROM: 550 in words that are not in this list, on an account that has never delivered"],
    meaning: "the server refuses in words mailferry does not know; nothing has ever gone through with these settings, so it \
              may be the account and not the message",
    waiting: None,
    steps: &[
        "the server's words say why: is it the login, the right to relay, the sender's address, or this one recipient?",
        "if it is this message alone: mailferry queue remove ID, or correct its recipient at the device; others are tried \
         before it meanwhile",
        "send a message that must work: mailferry doctor --send-to ADDRESS",
    ],
};
