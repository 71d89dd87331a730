//! The log, on standard error: for people, or as JSON lines for programs; with the journal's levels where it goes there.

use std::io::IsTerminal as _;
use std::os::fd::AsFd;

use nix::sys::stat::fstat;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Where systemd says which file the journal is.
const JOURNAL_STREAM: &str = "JOURNAL_STREAM";

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line: `timestamp`, `level`, `target`, `message` and what belongs to it.
    Json,
}

/// Begins to log. `RUST_LOG` chooses what; without it all from `info` on. Lines in the journal begin with their level
/// (`<4>`, see sd-daemon(3)), which the journal takes away, and as text have no time, which it has itself.
pub fn begin(format: LogFormat) {
    let in_journal = std::env::var(JOURNAL_STREAM).is_ok_and(|stream| is_stream(std::io::stderr(), &stream));
    let log = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info")))
        .with_writer(std::io::stderr)
        .with_ansi(!in_journal && std::io::stderr().is_terminal());
    match (format, in_journal) {
        (LogFormat::Text, false) => log.init(),
        (LogFormat::Text, true) => log.without_time().map_event_format(WithLevel).init(),
        (LogFormat::Json, false) => log.json().flatten_event(true).init(),
        (LogFormat::Json, true) => log.json().flatten_event(true).map_event_format(WithLevel).init(),
    }
}

/// Whether this file is the one that `DEVICE:INODE` names.
fn is_stream(file: impl AsFd, stream: &str) -> bool {
    let Some((device, inode)) = stream.split_once(':') else { return false };
    fstat(file).is_ok_and(|found| device.parse() == Ok(found.st_dev) && inode.parse() == Ok(found.st_ino))
}

/// A line's level before the line.
struct WithLevel<F>(F);

impl<S, N, F> FormatEvent<S, N> for WithLevel<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
        write!(writer, "<{}>", priority(*event.metadata().level()))?;
        self.0.format_event(context, writer, event)
    }
}

/// Of syslog(3).
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn only_the_very_file_is_the_journal() {
        let file = tempfile::tempfile().unwrap();
        let found = file.metadata().unwrap();
        assert!(is_stream(&file, &format!("{}:{}", found.dev(), found.ino())));
        for stream in [format!("{}:{}", found.dev(), found.ino() + 1), "1".to_owned(), String::new()] {
            assert!(!is_stream(&file, &stream), "{stream}");
        }
    }
}
