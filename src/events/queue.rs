//! Facts of `queue`.
