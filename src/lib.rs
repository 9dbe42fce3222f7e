//! mailferry: a local SMTP relay between devices that speak plain SMTP and a smart host that demands more.
//!
//! The rooms, lowest first; imports go downwards only (see ARCHITECTURE.md): [`mail`], [`policy`], [`events`],
//! [`queue`], `receive`, [`submit`], `dispatch`, `control`, `daemon`.

pub mod dispatch;
pub mod events;
pub mod mail;
pub mod policy;
pub mod queue;
pub mod submit;
pub mod token;
