//! The signals a relay answers to, from the first moment on.
//!
//! Invariant: once installed, no signal but those nobody can take (and SIGQUIT, for whoever wants it gone at once) ends
//! the process by itself; one that comes while nobody looks is kept until somebody does. Must not know: what stopping
//! and reloading are.

use rustix::process::Signal as Number;
use std::io;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What else would end a process that has no handler for it, although it only means to tell something: the first two
/// whatever an admin's script takes them for, and the last that a file has met the size limit of the process, where
/// the failed write says so already.
const OF_NO_MEANING: [Number; 5] = [Number::USR1, Number::USR2, Number::ALARM, Number::IO, Number::XFSZ];

/// What the process was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    Stop,
    Reload,
}

pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    _ignored: Vec<Signal>,
}

impl Signals {
    /// Takes the signals over, inside a runtime. They stay taken when this value is gone: a second SIGTERM does not
    /// break off what the first one began.
    pub(super) fn install() -> io::Result<Self> {
        // First the one that a service manager, or a script in its place, may send at any moment.
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            _ignored: OF_NO_MEANING
                .iter()
                .map(|s| signal(SignalKind::from_raw(s.as_raw())))
                .collect::<io::Result<_>>()?,
        })
    }

    /// SIGTERM or SIGINT.
    pub(super) async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// The next thing asked for; to stop goes before everything.
    pub(super) async fn next(&mut self) -> Asked {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => Asked::Stop,
            _ = self.interrupt.recv() => Asked::Stop,
            _ = self.hangup.recv() => Asked::Reload,
        }
    }

    /// What `work` comes to, unless the process is asked to stop before.
    pub(super) async fn unless_stopped<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.stop() => None,
            done = work => Some(done),
        }
    }
}
