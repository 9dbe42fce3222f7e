//! What can be counted: families of series, and what a fact adds to one.
//!
//! Must not know: facts, sums.

use std::time::Duration;

/// What is counted together under one name.
#[derive(Debug, PartialEq)]
pub struct Family {
    /// As Prometheus wants it: base units, `_total` for what only grows.
    pub name: &'static str,
    /// One sentence.
    pub help: &'static str,
    /// What its series are told apart by.
    pub labels: &'static [&'static str],
    /// How it counts.
    pub kind: Kind,
}

/// How a family counts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// It only grows.
    Counter,
    /// How often it took how long: the upper bounds of the buckets, in seconds, in order, without the infinite one.
    Histogram(&'static [f64]),
}

/// What a fact adds.
#[derive(Debug, Clone, Copy)]
pub(super) enum Value {
    /// To a counter.
    More(u64),
    /// To a histogram.
    Took(Duration),
}

/// Takes what a fact adds to the series of a family with these values of its labels.
pub(super) type Add<'a> = &'a mut dyn FnMut(&'static Family, &[&str], Value);
