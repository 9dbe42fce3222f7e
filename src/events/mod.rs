//! What happens, told once: one function a fact, which writes one log line with fields and counts it.
//!
//! Invariant: the same fact has the same words in the journal, in `status` and in the documentation; peer text
//! arrives here escaped (`Failure`, `Reply`, `ReversePath` and `Escaped` print that way); no secret ever arrives
//! here. Must not know: who is listening.
//!
//! Every line has a field `event` (snake_case, stable, for scripts) and, where a message is meant, `id`.

mod counter;
pub mod dispatch;
pub mod queue;
pub mod receive;
pub mod submit;
pub mod token;

pub use counter::Counter;
