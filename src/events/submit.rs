//! Facts of `submit`.
