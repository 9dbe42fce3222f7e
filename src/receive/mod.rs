//! Inbound SMTP.

pub mod stamp;
