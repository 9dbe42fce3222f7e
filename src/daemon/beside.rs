//! What goes on beside the mail until the stop: pruning, looking, telling, remembering.
//!
//! Must not know: how any of it is done.

use super::live::Rooms;
use super::lookout::{Lookout, Sights};
use super::site::Site;
use super::{keep_devices, stopped, upkeep};
use crate::notify::{self, Notifier};
use crate::queue::{Keep, Queue};
use std::sync::Arc;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The settings it begins with.
pub(super) struct Begun {
    pub(super) keep: Keep,
    pub(super) sights: Sights,
    pub(super) notify: notify::Settings,
    pub(super) is_sandbox: bool,
}

/// The tasks, and where each hears of new settings.
pub(super) struct Beside {
    tasks: Vec<JoinHandle<()>>,
    pub(super) keep: watch::Sender<Keep>,
    pub(super) sights: watch::Sender<Sights>,
    pub(super) notify: watch::Sender<Arc<notify::Settings>>,
}

impl Beside {
    pub(super) fn start(begun: Begun, rooms: &Arc<Rooms>, queue: &Queue, stop: &watch::Sender<bool>) -> Self {
        let (keep, kept) = watch::channel(begun.keep);
        let (sights, looked_at) = watch::channel(begun.sights);
        let (notify, told) = watch::channel(Arc::new(begun.notify));
        let observers = &rooms.observers;
        let lookout = Lookout {
            incidents: Arc::clone(&observers.incidents),
            rooms: Arc::clone(rooms),
            queue: queue.clone(),
            sights: looked_at,
        };
        let site = Site {
            rooms: Arc::clone(rooms),
            ledger: Arc::clone(&queue.ledger),
            is_sandbox: begun.is_sandbox,
        };
        let notifier = Notifier {
            settings: told,
            incidents: observers.incidents.changes(),
            site: Arc::new(site),
            outbox: Arc::clone(&queue.outbox),
            notes: Arc::clone(&queue.notes),
            clock: queue.clock,
            witness: observers.witness.clone(),
        };
        let stopping = || stopped(stop.subscribe());
        let tasks = vec![
            tokio::spawn(upkeep::run(queue.clone(), kept, observers.witness.clone(), stopping())),
            tokio::spawn(keep_devices(observers.clone(), queue.clone(), stopping())),
            tokio::spawn(Arc::clone(&rooms.on_disk).watch(stopping())),
            tokio::spawn(lookout.run(stopping())),
            tokio::spawn(notifier.run(stopping())),
            tokio::spawn(observers.clone().keep_telling(stopping())),
        ];
        Self { tasks, keep, sights, notify }
    }

    /// Resolves when all of it has ended; it is told to by the stop.
    pub(super) async fn ended(self) {
        for task in self.tasks {
            let _ = task.await;
        }
    }
}
