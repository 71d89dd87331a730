//! The list of what could not be read, filled while reading.

use vetting_protocol::inventory::Absence;

use crate::host::HostError;

/// What could not be read so far, with reasons.
#[derive(Debug, Default)]
pub(super) struct Absences(Vec<Absence>);

impl Absences {
    /// Notes that `what` is absent.
    pub(super) fn note(&mut self, what: impl Into<String>, reason: impl Into<String>) {
        self.0.push(Absence { what: what.into(), reason: reason.into() });
    }

    /// What was read, or a note of why not.
    pub(super) fn value<T>(&mut self, what: &str, read: Result<T, HostError>) -> Option<T> {
        read.inspect_err(|error| self.note(what, error.reason())).ok()
    }

    /// A text that was read and is not empty, or a note of why not.
    pub(super) fn text(&mut self, what: &str, read: Result<String, HostError>) -> Option<String> {
        let text = self.value(what, read)?;
        if text.is_empty() {
            self.note(what, "the device gives an empty text");
            return None;
        }
        Some(text)
    }

    /// All of them, in the order they were found.
    pub(super) fn into_list(self) -> Vec<Absence> {
        self.0
    }
}
