//! Kernel settings for the time until the machine's devices are there: what costs time at each of a thousand small
//! steps, and nothing is gained by it. Put back before the first stage, so that tests run under the usual ones.

#![expect(clippy::disallowed_methods, reason = "sets what the kernel does while it boots")]

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A setting of the kernel, with what it is to be while the machine boots.
struct Setting {
    path: &'static str,
    hasty: &'static str,
}

const SETTINGS: [Setting; 2] = [
    // closing a packet socket or loading a driver waits for all CPUs to have passed a quiet moment: ask them for one
    Setting { path: "/sys/kernel/rcu_expedited", hasty: "1" },
    // the allocator would have two megabytes cleared for the first byte of each thread
    Setting { path: "/sys/kernel/mm/transparent_hugepage/enabled", hasty: "never" },
];

/// Sets them and writes down in `directory` what they were. A kernel without one of them boots as it does.
pub(super) fn begin(directory: &Path) {
    for (number, setting) in SETTINGS.iter().enumerate() {
        let Ok(text) = fs::read_to_string(setting.path) else { continue };
        if fs::write(setting.path, setting.hasty).is_ok() {
            // if that cannot be written down, the haste stays
            let _ = fs::write(note(directory, number), chosen(&text));
        }
    }
}

/// Puts back what [`begin`] wrote down; gives the settings that stay.
pub(super) fn end(directory: &Path) -> Vec<(&'static str, io::Error)> {
    let mut failures = Vec::new();
    for (number, setting) in SETTINGS.iter().enumerate() {
        let Ok(before) = fs::read_to_string(note(directory, number)) else { continue };
        if let Err(error) = fs::write(setting.path, before) {
            failures.push((setting.path, error));
        }
    }
    failures
}

fn note(directory: &Path, number: usize) -> PathBuf {
    directory.join(format!("setting-before-{number}"))
}

/// `always [madvise] never` → `madvise`; other texts are the setting itself.
fn chosen(text: &str) -> &str {
    let inside = text.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map(|(inside, _)| inside);
    inside.unwrap_or(text).trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_chosen_is_in_brackets_or_alone() {
        assert_eq!(chosen("always [madvise] never\n"), "madvise");
        assert_eq!(chosen("0\n"), "0");
    }

    #[test]
    fn without_notes_nothing_is_put_back() {
        let folder = tempfile::tempdir().unwrap();
        assert!(end(folder.path()).is_empty());
    }
}
