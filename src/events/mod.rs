//! What happens, told once: one function a fact, which writes one log line with fields and counts it.
//!
//! Invariant: the same fact has the same words in the journal, in `status` and in the documentation; peer text
//! arrives here escaped (`Failure`, `Reply`, `ReversePath` and `Escaped` print that way); no secret ever arrives
//! here. Must not know: who is listening.
//!
//! Every line has a field `event` (snake_case, stable, for scripts) and, where a message is meant, `id`.

mod counter;
pub mod daemon;
pub mod dispatch;
pub mod queue;
pub mod receive;
pub mod submit;
pub mod token;

pub use counter::Counter;

use std::collections::BTreeMap;

/// Every count of this process, by its stable name.
pub fn counters() -> BTreeMap<&'static str, u64> {
    let r = &receive::COUNTS;
    [
        ("connections_total", &r.connections),
        ("connections_full_total", &r.connections_full),
        ("messages_accepted_total", &r.messages),
        ("bytes_accepted_total", &r.bytes),
        ("relay_refused_total", &r.relay_refused),
        ("recipients_refused_total", &r.recipients_refused),
        ("messages_refused_total", &r.messages_refused),
        ("queue_refused_total", &r.queue_refused),
        ("rate_limited_total", &r.rate_limited),
        ("data_unfinished_total", &r.unfinished),
        ("logins_failed_total", &r.logins_failed),
        ("handshakes_failed_total", &r.handshakes_failed),
        ("other_protocol_total", &r.other_protocol),
        ("messages_delivered_total", &dispatch::DELIVERED_TOTAL),
        ("messages_deferred_total", &dispatch::DEFERRED_TOTAL),
        ("dead_letters_total", &dispatch::DEAD_TOTAL),
        ("outcome_unknown_total", &dispatch::OUTCOME_UNKNOWN_TOTAL),
        ("account_failures_total", &dispatch::ACCOUNT_FAILURES_TOTAL),
        ("smart_host_connections_total", &submit::CONNECTIONS),
        ("smart_host_bytes_total", &submit::BYTES_TAKEN),
        ("token_requests_total", &token::REQUESTS_TOTAL),
        ("token_failures_total", &token::FAILURES_TOTAL),
        ("tokens_rejected_total", &token::REJECTED_TOTAL),
        ("queue_commits_total", &queue::TRANSACTIONS),
        ("queue_commits_failed_total", &queue::TRANSACTIONS_FAILED),
        ("queue_syncs_failed_total", &queue::SYNCS_FAILED),
        ("queue_contents_missing_total", &queue::CONTENTS_MISSING),
        ("queue_rows_unreadable_total", &queue::ROWS_UNREADABLE),
        ("hand_overs_interrupted_total", &queue::HAND_OVERS_INTERRUPTED),
    ]
    .into_iter()
    .map(|(name, counter)| (name, counter.get()))
    .collect()
}
