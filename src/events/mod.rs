//! What happens, told once: one function a fact, which writes one log line with fields and counts it.
//!
//! Invariant: the same fact has the same words in the journal, in `status` and in the documentation; peer text
//! arrives here escaped (`Failure`, `Reply`, `ReversePath` and `Escaped` print that way); no secret ever arrives
//! here. Must not know: who is listening.
//!
//! Every line has a field `event` (snake_case, stable, for scripts) and, where a message is meant, `id`.

mod counter;
pub mod dispatch;

pub use counter::Counter;

use std::collections::BTreeMap;

/// Every count of this process, by its stable name.
pub fn counters() -> BTreeMap<&'static str, u64> {
    [
        ("messages_delivered_total", &dispatch::DELIVERED_TOTAL),
        ("messages_deferred_total", &dispatch::DEFERRED_TOTAL),
        ("dead_letters_total", &dispatch::DEAD_TOTAL),
        ("outcome_unknown_total", &dispatch::OUTCOME_UNKNOWN_TOTAL),
        ("account_failures_total", &dispatch::ACCOUNT_FAILURES_TOTAL),
    ]
    .into_iter()
    .map(|(name, counter)| (name, counter.get()))
    .collect()
}
