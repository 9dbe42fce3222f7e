//! What `status` shows of the running rooms, in control's types.
//!
//! Must not know: how it is asked for, how it is shown.

use super::Observers;
use super::on_disk::OnDisk;
use crate::control::report::{AccountState, At, DeviceList, DeviceStatus, Need, RefusedStatus};
use crate::control::{AccountLive, ClientLive, Live};
use crate::dispatch::{self, Dispatcher};
use crate::mail::{AccountId, Place, RelayTime, WallTime};
use crate::policy::advice::About;
use crate::policy::breaker::{Kind, Open};
use crate::policy::expiry::{Expiry, expiry_warning};
use crate::policy::incident::{self, Incident};
use crate::queue::Clock;
use crate::receive::devices::{Device, Devices, Refused};
use crate::receive::listener::Shared;
use futures_util::future::BoxFuture;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::{mpsc, oneshot};

/// To whom it is told what came of a reload.
pub(super) type Answer = oneshot::Sender<Result<Vec<String>, String>>;

/// The rooms that are asked.
pub(super) struct Rooms {
    pub(super) on_disk: Arc<OnDisk>,
    pub(super) dispatcher: Arc<Dispatcher>,
    pub(super) receiver: Arc<Shared>,
    pub(super) clock: Clock,
    pub(super) observers: Observers,
    /// Who asks for a reload, and waits for what comes of it.
    pub(super) reloads: mpsc::Sender<Answer>,
    /// The smart host by account, in configured order; replaced on reload.
    pub(super) places: RwLock<Vec<(AccountId, Place)>>,
}

impl Live for Rooms {
    fn configured(&self) -> Vec<AccountId> {
        let places = self.places.read().unwrap_or_else(PoisonError::into_inner);
        places.iter().map(|(id, _)| id.clone()).collect()
    }

    fn accounts(&self) -> BoxFuture<'_, Vec<AccountLive>> {
        Box::pin(async move {
            let live: BTreeMap<AccountId, dispatch::Live> =
                self.dispatcher.live().await.into_iter().collect();
            let places = self.places.read().map(|p| p.clone()).unwrap_or_default();
            let (now, wall) = (self.clock.now(), WallTime::now());
            places
                .into_iter()
                .filter_map(|(id, place)| Some(account(live.get(&id)?, id, place, now, wall)))
                .collect()
        })
    }

    fn clients(&self) -> Vec<ClientLive> {
        let settings = Arc::clone(&self.receiver.settings.borrow());
        self.observers
            .devices
            .seen(settings.clients.all(), WallTime::now())
            .into_iter()
            .map(|v| ClientLive {
                name: v.client.to_string(),
                address: v.address,
                last_seen_at: v.last_seen_at,
                messages_total: v.messages_total,
                last_problem: v.last_problem,
                is_silent: v.is_silent,
            })
            .collect()
    }

    fn reload(&self) -> BoxFuture<'_, Result<Vec<String>, String>> {
        Box::pin(async move {
            let (answer, answered) = oneshot::channel();
            let gone = || "the relay is stopping".to_owned();
            self.reloads.send(answer).await.map_err(|_| gone())?;
            answered.await.unwrap_or_else(|_| Err(gone()))
        })
    }

    fn devices(&self) -> DeviceList {
        device_list(&self.observers.devices, WallTime::now())
    }

    fn name_device(&self, address: IpAddr, name: &str) -> bool {
        self.observers.devices.name(address, name)
    }

    fn device_seen(&self, address: IpAddr) -> bool {
        let incidents = &self.observers.incidents;
        incidents.mark_as_seen(WallTime::now(), incident::Kind::DeviceRefused, &address.to_string());
        self.observers.devices.mark_seen(address)
    }

    fn on_disk(&self) -> BoxFuture<'_, Vec<Need>> {
        Box::pin(Arc::clone(&self.on_disk).needs())
    }

    fn incidents(&self) -> Vec<Incident> {
        self.observers.incidents.open()
    }

    fn counters(&self) -> BTreeMap<&'static str, u64> {
        self.observers.tally.status()
    }

    fn pause(&self, account: &AccountId) -> bool {
        self.dispatcher.pause(account, true)
    }

    fn resume(&self, account: &AccountId) -> bool {
        self.dispatcher.pause(account, false)
    }

    fn probe(&self, account: &AccountId) -> bool {
        self.dispatcher.probe(account)
    }
}

/// What is remembered of devices, in control's types.
pub(crate) fn device_list(devices: &Devices, now: WallTime) -> DeviceList {
    let (all, today) = devices.all(now);
    let device = |d: Device| DeviceStatus {
        messages_today: d.messages_on(today),
        address: d.address,
        client: d.client.to_string(),
        name: d.name,
        helo: d.helo,
        first_seen_at: At(d.first_seen_at),
        last_seen_at: At(d.last_seen_at),
        last_problem: d.problem,
    };
    let refused = |r: Refused| RefusedStatus {
        hint: format!(
            "mailferry allow {0} --as CLIENT, if it is yours; else: mailferry devices seen {0}",
            r.address
        ),
        address: r.address,
        helo: r.helo,
        did: r.did,
        first_seen_at: At(r.first_seen_at),
        last_seen_at: At(r.last_seen_at),
        count: r.count,
        is_seen: r.is_seen,
    };
    DeviceList {
        devices: all.into_iter().map(device).collect(),
        refused: devices.refused().into_iter().map(refused).collect(),
    }
}

fn account(
    live: &dispatch::Live,
    id: AccountId,
    place: Place,
    now: RelayTime,
    wall: WallTime,
) -> AccountLive {
    let state = match &live.open {
        _ if live.paused => AccountState::Paused,
        Some(open) if open.kind == Kind::Hold => AccountState::Held,
        Some(_) => AccountState::BackingOff,
        None => AccountState::Open,
    };
    let on_the_wall = |t: RelayTime| WallTime::from_ms(wall.as_ms() + (t.as_ms() - now.as_ms()));
    let about = About { mailbox: id.as_str(), smart_host: &place };
    let told = live.open.as_ref().filter(|o| o.kind == Kind::Hold || o.is_probably_a_setting());
    let hint = told.and_then(|o| hint(o, about));
    let reason = match (&live.open, live.throttled_until) {
        (Some(open), _) => open.reason.clone(),
        (None, Some(_)) => "waiting for its pace: messages a minute or recipients a day".to_owned(),
        (None, None) => String::new(),
    };
    AccountLive {
        state,
        reason,
        advice: live.open.as_ref().and_then(|o| o.advice),
        hint,
        warnings: live.expiry.and_then(|e| expires(&id, e, wall)).into_iter().collect(),
        since: live.open.as_ref().map(|o| on_the_wall(o.since)),
        next_probe_at: live.open.as_ref().map(|o| on_the_wall(o.next_probe.max(now))),
        connections: live.connections,
        sent_last_minute: u32::try_from(live.messages_last_minute).unwrap_or(u32::MAX),
        account: id,
        smart_host: place,
    }
}

/// Said from the first warning on until there is another credential.
fn expires(account: &AccountId, expiry: Expiry, now: WallTime) -> Option<Need> {
    expiry_warning(expiry.days_left(now), None)?;
    Some(Need {
        what: expiry.words(account, now),
        hint: expiry.hint().to_owned(),
        account: None,
        kind: Some(incident::Kind::CredentialEnds),
    })
}

/// The first step of the remedy; the log has them all.
fn hint(open: &Open, about: About<'_>) -> Option<String> {
    match open.advice {
        Some(advice) if open.remedy.is_empty() => advice.first_step(about),
        _ => open.remedy.first().cloned(),
    }
}
