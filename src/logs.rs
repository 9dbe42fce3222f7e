//! Where log lines go: the journal under systemd, text on a terminal, JSON on request.
//!
//! Invariant: a line is a fact of `fact` with its fields; nothing is formatted here that was not escaped there.
//! Must not know: what any line means.

use std::io::IsTerminal;
use std::sync::OnceLock;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

/// What a log line looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// The journal's own protocol when systemd reads us, text otherwise.
    #[default]
    Auto,
    /// One line of text.
    Text,
    /// One JSON object a line.
    Json,
    /// The journal's own protocol, with fields.
    Journald,
}

/// The TLS library tells of each certificate it does not believe and every odd hello, without knowing whose
/// connection it was; our own line has the account, the reason and what to do.
/// Who wants it all the same names it.
const SILENT: &str = "rustls=off,rustls_platform_verifier=off";

/// A log that is ready to be written.
pub struct Log(Layered);

/// What stands below the layer that writes.
type Filtered = tracing_subscriber::layer::Layered<EnvFilter, Registry>;
type Layered = Box<dyn Layer<Filtered> + Send + Sync>;

/// The way to the layer in force; a process has one log.
static IN_FORCE: OnceLock<reload::Handle<Layered, Filtered>> = OnceLock::new();

/// Makes ready a log in this format; nothing is written to it yet.
///
/// # Errors
/// The journal was asked for and is not there.
pub fn prepare(format: Format) -> std::io::Result<Log> {
    let under_systemd = std::env::var_os("JOURNAL_STREAM").is_some() && !std::io::stderr().is_terminal();
    // The fields of a journal are everybody's: MAILFERRY_ID is nobody else's.
    let journal = || {
        let layer = tracing_journald::layer()?.with_syslog_identifier("mailferry".to_owned());
        Ok::<_, std::io::Error>(layer.with_field_prefix(Some("MAILFERRY".to_owned())))
    };
    Ok(Log(match format {
        // Spans are left out: one that was begun under another format would not have its words in this one.
        Format::Json => tracing_subscriber::fmt::layer()
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .with_writer(std::io::stderr)
            .boxed(),
        Format::Journald => journal()?.boxed(),
        Format::Auto if under_systemd && journal().is_ok() => journal()?.boxed(),
        Format::Auto | Format::Text => tracing_subscriber::fmt::layer()
            .with_target(false)
            .with_ansi(std::io::stderr().is_terminal())
            .with_writer(std::io::stderr)
            .boxed(),
    }))
}

/// Sends what goes wrong to stderr, for a command that opens the queue by itself: it may have to mend it, or find mail
/// that nobody claims, and must not do so in silence.
pub fn warnings() {
    let layer = tracing_subscriber::fmt::layer()
        .with_target(false)
        .without_time()
        .with_ansi(false)
        .with_writer(std::io::stderr);
    // In a test, another subscriber may have come first.
    drop(tracing_subscriber::registry().with(EnvFilter::new("mailferry=warn")).with(layer).try_init());
}

impl Log {
    /// Sends log lines there from now on, from `info` on; `MAILFERRY_LOG` of the first time takes a filter as in
    /// `debug`.
    pub fn begin(self) {
        if let Some(in_force) = IN_FORCE.get() {
            // It fails only without a subscriber, and then there is nobody to tell.
            let _ = in_force.reload(self.0);
            return;
        }
        let wanted = std::env::var("MAILFERRY_LOG").unwrap_or_default();
        let filter = EnvFilter::try_new(format!("{SILENT},{wanted}"))
            .ok()
            .filter(|_| !wanted.is_empty())
            .unwrap_or_else(|| EnvFilter::new(format!("{SILENT},info")));
        let (layer, handle) = reload::Layer::new(self.0);
        // In a test, another subscriber may have come first.
        if tracing_subscriber::registry().with(filter).with(layer).try_init().is_ok() {
            let _ = IN_FORCE.set(handle);
        }
    }
}
