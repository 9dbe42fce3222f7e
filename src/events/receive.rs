//! Facts of `receive`.
