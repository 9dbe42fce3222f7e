//! The AUTH commands of a session.
//!
//! Invariant: a login never makes up for an address outside every client network. Must not know: how credentials
//! are read and compared; that is `receive::login`.

use super::{MAX_FAILED_LOGINS, Session, State, Step, World};
use crate::fact::receive::Fact;
use crate::receive::login::{self, Credentials, Turn};
use crate::receive::settings::Auth;
use secrecy::zeroize::Zeroizing;
use std::time::Duration;

impl Session {
    pub(super) fn auth(&mut self, mechanism: &str, initial: Option<Zeroizing<Vec<u8>>>, world: World<'_>) {
        if self.offer.auth == Auth::Off {
            self.tell(Fact::AuthNotOffered { peer: self.peer, standing: self.standing(world) });
            let reply = "502 5.5.1 AUTH is not offered here, turn authentication off at the device\r\n";
            return self.fail(reply, world);
        }
        if self.may_start_tls() {
            // Even where anything is taken: a person may have typed the password of a real mailbox into the panel.
            self.tell(Fact::AuthInTheClear { peer: self.peer, standing: self.standing(world) });
            return self.fail("538 5.7.11 not in the clear: STARTTLS, then log in\r\n", world);
        }
        if self.transaction.is_some() {
            return self.fail("503 5.5.1 not within a transaction\r\n", world);
        }
        if self.logged_in && self.offer.auth == Auth::Required {
            return self.fail("503 5.5.1 already logged in\r\n", world);
        }
        self.login(login::begin(mechanism, initial), world);
    }

    pub(super) fn login(&mut self, turn: Turn, world: World<'_>) {
        match turn {
            Turn::Ask(prompt, exchange) => {
                self.state = State::Login(exchange);
                self.reply(prompt);
            }
            Turn::Cancelled => self.fail("501 5.7.0 login cancelled\r\n", world),
            Turn::Mechanism => self.fail("504 5.5.4 only PLAIN and LOGIN are offered\r\n", world),
            Turn::Credentials(credentials) => self.credentials(credentials.as_ref(), world),
        }
    }

    fn credentials(&mut self, credentials: Option<&Credentials>, world: World<'_>) {
        let admitted = world.settings.clients.admit(self.peer).is_some();
        let accepted = match (self.offer.auth, credentials) {
            (Auth::Any, _) if admitted => true,
            (Auth::Required, Some(c)) if admitted => match c.check(&world.settings.users) {
                Some(user) => {
                    self.tell(Fact::LoggedIn { peer: self.peer, user: user.to_owned() });
                    true
                }
                None => false,
            },
            (Auth::Required, None) => return self.fail("501 5.5.2 not a login in base64\r\n", world),
            _ => false,
        };
        if accepted {
            self.logged_in = true;
            return self.reply("235 2.7.0 logged in\r\n");
        }
        let user = credentials.map_or(vec![], |c| c.user().to_vec());
        self.tell(Fact::LoginFailed { peer: self.peer, standing: self.standing(world), user });
        self.failed_logins += 1;
        self.steps.push_back(Step::Pause(Duration::from_secs(1 << self.failed_logins.min(3))));
        if self.failed_logins >= MAX_FAILED_LOGINS {
            self.reply("535 5.7.8 login failed\r\n421 4.7.0 too many failed logins\r\n");
            return self.close();
        }
        self.fail("535 5.7.8 login failed\r\n", world);
    }
}
