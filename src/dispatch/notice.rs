//! placeholder
use super::settle::Notify;
use super::{Account, Settings};
use crate::mail::RelayTime;
use crate::policy::advice::Advice;
use crate::queue::{Lease, Notice, Queue, Settlement};
pub(super) struct From<'a> {
    pub(super) account: &'a Account,
    pub(super) settings: &'a Settings,
    pub(super) place: &'a str,
    pub(super) queue: &'a dyn Queue,
    pub(super) now: RelayTime,
}
pub(super) fn compose(_: &Lease, _: &Settlement, _: Notify, _: Option<Advice>, _: &From<'_>) -> Vec<Notice> {
    vec![]
}
