//! mailferry: a local SMTP relay between devices that speak plain SMTP and a smart host that demands more.
//!
//! The rooms, lowest first; imports go downwards only (see ARCHITECTURE.md): [`mail`], [`letter`], [`policy`], [`fact`],
//! [`queue`], [`receive`], [`submit`], [`dispatch`], [`control`], [`daemon`], [`cli`]; beside them [`files`], [`tls`], [`http`],
//! [`token`],
//! [`config`], [`logs`], [`doctor`], [`sandbox`] and [`demo`].

#[expect(clippy::disallowed_methods, reason = "at the edge")]
pub mod cli;
pub mod config;
pub mod control;
#[expect(clippy::disallowed_methods, reason = "at the edge")]
pub mod daemon;
#[expect(clippy::disallowed_methods, reason = "at the edge")]
pub mod demo;
pub mod dispatch;
#[expect(clippy::disallowed_methods, reason = "at the edge")]
pub mod doctor;
pub mod fact;
pub mod files;
pub mod http;
pub mod letter;
pub mod logs;
pub mod mail;
#[expect(clippy::disallowed_methods, reason = "at the edge")]
pub mod notify;
pub mod policy;
#[expect(clippy::disallowed_methods, reason = "at the edge")]
pub mod queue;
pub mod receive;
#[expect(clippy::disallowed_methods, reason = "at the edge")]
pub mod sandbox;
pub mod submit;
pub mod tls;
pub mod token;
