//! The lock file: which Debian packages the image is made of, pinned by version and SHA-256.
//!
//! Owns: its text format, one package a line: `name version path size sha256`, where path starts with the archive's
//! name (`debian/pool/…`). Refuses: host names, since the mirror is the operator's business, and paths that leave it.

use std::fmt::Write as _;
use std::path::Path;

/// One pinned package.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LockedPackage {
    /// Package name.
    pub name: String,
    /// Full Debian version.
    pub version: String,
    /// Archive name and pool path, as in `debian/pool/main/f/fio/fio_3.39-1_amd64.deb`.
    pub path: String,
    /// Size of the .deb in bytes.
    pub size_bytes: u64,
    /// SHA-256 of the .deb, 64 lower-case hex digits.
    pub sha256: String,
}

impl LockedPackage {
    /// The archive (`debian` or `debian-security`) and the path below it.
    pub fn archive_and_path(&self) -> (&str, &str) {
        self.path.split_once('/').unwrap_or(("", &self.path))
    }
}

/// Why a lock file is refused.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// The file could not be read; `vetting-image lock` makes it.
    #[error("{path} cannot be read; `vetting-image lock` makes it")]
    Read {
        /// The lock file.
        path: String,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// A line is not `name version path size sha256`.
    #[error("lock file line {line}: {problem}")]
    Line {
        /// Line number, from 1.
        line: usize,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// There is no package in it.
    #[error("the lock file names no package; `vetting-image lock` makes a new one")]
    Empty,
}

/// Read a lock file.
pub fn read(path: &Path) -> Result<Vec<LockedPackage>, LockError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| LockError::Read { path: path.display().to_string(), source })?;
    parse(&text)
}

/// Parse the text of a lock file. Empty lines and lines starting with `#` are comments.
pub fn parse(text: &str) -> Result<Vec<LockedPackage>, LockError> {
    let mut packages = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        packages.push(parse_line(line).map_err(|problem| LockError::Line { line: index + 1, problem })?);
    }
    if packages.is_empty() { Err(LockError::Empty) } else { Ok(packages) }
}

fn parse_line(line: &str) -> Result<LockedPackage, &'static str> {
    let fields: Vec<&str> = line.split(' ').collect();
    let &[name, version, path, size, sha256] = fields.as_slice() else {
        return Err("not the five fields: name version path size sha256");
    };
    if !path.contains("/pool/") || path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err("the path is not ARCHIVE/pool/…");
    }
    if sha256.len() != 64 || !sha256.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
        return Err("the SHA-256 is not 64 lower-case hex digits");
    }
    Ok(LockedPackage {
        name: name.to_owned(),
        version: version.to_owned(),
        path: path.to_owned(),
        size_bytes: size.parse().map_err(|_| "the size is not a number")?,
        sha256: sha256.to_owned(),
    })
}

/// The lock file's text, sorted by name.
pub fn render(packages: &[LockedPackage]) -> String {
    let mut sorted: Vec<_> = packages.iter().collect();
    sorted.sort();
    let mut text = "# Debian packages of the live image; written by `vetting-image lock`.\n\
                    # name version path size sha256\n"
        .to_owned();
    for LockedPackage { name, version, path, size_bytes, sha256 } in sorted {
        // writing to a String cannot fail
        let _infallible = writeln!(text, "{name} {version} {path} {size_bytes} {sha256}");
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn package() -> impl Strategy<Value = LockedPackage> {
        ("[a-z][a-z0-9+.-]{1,20}", "[0-9][0-9a-z.+~:-]{0,20}", "[a-z]{1,8}", any::<u64>(), "[0-9a-f]{64}")
            .prop_map(|(name, version, archive, size_bytes, sha256)| LockedPackage {
                path: format!("{archive}/pool/main/{name}.deb"),
                name,
                version,
                size_bytes,
                sha256,
            })
    }

    proptest! {
        #[test]
        fn what_is_rendered_parses_back(mut packages in prop::collection::vec(package(), 1..10)) {
            packages.sort();
            prop_assert_eq!(parse(&render(&packages)).unwrap(), packages);
        }

        #[test]
        fn any_text_parses_or_is_refused(text in ".{0,200}") {
            let _either = parse(&text);
        }
    }

    #[test]
    fn a_path_out_of_the_archive_is_refused() {
        let line = format!("a 1 debian/pool/../../etc/x 3 {}", "0".repeat(64));
        assert!(matches!(parse(&line), Err(LockError::Line { line: 1, .. })));
    }

    #[test]
    fn a_short_hash_is_refused_with_its_line() {
        assert!(matches!(parse("# c\n\na 1 debian/pool/a.deb 3 abc"), Err(LockError::Line { line: 3, .. })));
    }

    #[test]
    fn an_empty_lock_is_refused() {
        assert!(matches!(parse("# nothing\n"), Err(LockError::Empty)));
    }
}
