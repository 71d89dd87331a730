//! A results folder of a run without a coordinator, read and checked: every digest of its manifest, every record of its
//! stream, and that its report follows from the stream.
//!
//! It comes from a stick, so nothing in it is believed: files have fixed names, links and other things that are no plain
//! files are refused, and so is what is larger than any run.

use std::path::{Path, PathBuf};

use vetting_judge::alone::{self, AloneError};
use vetting_judge::facts::Ending;
use vetting_judge::profile::Profile;
use vetting_judge::report::Report;
use vetting_protocol::PROTOCOL_VERSION;
use vetting_protocol::agent_api::Record;
use vetting_protocol::ids::Sha256Hex;
use vetting_protocol::results::{
    HEADER_FILE, MANIFEST_FILE, PROFILE_FILE, REPORT_FILE, REPORT_HTML_FILE, RESULTS_FOLDER, RESULTS_FORMAT,
    ResultsHeader, SPEC_FILE, STREAM_FILE, artifact_of, parse_manifest,
};

/// Largest file that is read, bytes. A soak of a large machine leaves a stream of some hundred megabytes.
const LARGEST_FILE_BYTES: u64 = 4 * 1024 * 1024 * 1024;

/// The files that the manifest of a complete folder names; the spec may be missing.
const FILES: [&str; 6] = [HEADER_FILE, PROFILE_FILE, SPEC_FILE, STREAM_FILE, REPORT_FILE, REPORT_HTML_FILE];

/// Gives the bytes of a file by its name; `None` if there is none.
pub type TakeFile<'a> = &'a mut dyn FnMut(&str) -> Result<Option<Vec<u8>>, FolderError>;

/// Whether a file of this name is read of a results folder.
pub fn is_part(name: &str) -> bool {
    name == MANIFEST_FILE || FILES.contains(&name) || artifact_of(name).is_some()
}

/// A folder that cannot be imported.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It holds no results.
    #[error("{} holds no results: neither {HEADER_FILE} nor {RESULTS_FOLDER}/*/{HEADER_FILE}", path.display())]
    NoResults {
        /// The folder.
        path: PathBuf,
    },
    /// There is no manifest.
    #[error(
        "{} has no {MANIFEST_FILE}: the power went, the stick was pulled out or the program died before the run was \
         over. `--incomplete` imports what is there as a failed run",
        path.display()
    )]
    Incomplete {
        /// The folder.
        path: PathBuf,
    },
    /// A file is not the one of the manifest.
    #[error("{} is not as {MANIFEST_FILE} says: it was changed or damaged", path.display())]
    Changed {
        /// Which.
        path: PathBuf,
    },
    /// A file is not what it should be.
    #[error("{}: {what}", path.display())]
    Malformed {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// It was written by another version.
    #[error(
        "{}: its results have format {format} and protocol {protocol}, this program reads {RESULTS_FORMAT} and \
         {PROTOCOL_VERSION}; import them with the version that the stick was made with, then upgrade",
        path.display()
    )]
    Version {
        /// The folder.
        path: PathBuf,
        /// Its format.
        format: u32,
        /// Its protocol.
        protocol: u32,
    },
    /// The stream cannot be judged.
    #[error("{}: cannot be judged", path.display())]
    Judge {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: AloneError,
    },
}

/// A checked folder.
#[derive(Debug)]
pub struct ResultsFolder {
    /// Where it is.
    pub path: PathBuf,
    /// What was known when the run began.
    pub header: ResultsHeader,
    /// The profile it was judged by.
    pub profile: Profile,
    /// The expected spec.
    pub spec: Option<String>,
    /// Every record, in order.
    pub records: Vec<Record>,
    /// The report, made again from the stream.
    pub report: Report,
    /// In what the report that the machine wrote differs from that; empty if it does not, or if there is none.
    pub differences: Vec<String>,
    /// The files, for the archive.
    pub files: Vec<(String, Vec<u8>)>,
}

/// The results folders in `path`: itself, or those below its `results`.
///
/// # Errors
/// There are none.
pub fn find(path: &Path) -> Result<Vec<PathBuf>, FolderError> {
    if path.join(HEADER_FILE).is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    for parent in [path.join(RESULTS_FOLDER), path.to_owned()] {
        let Ok(entries) = std::fs::read_dir(&parent) else { continue };
        let folders = entries.flatten().map(|entry| entry.path());
        found.extend(folders.filter(|folder| folder.join(HEADER_FILE).is_file()));
        if !found.is_empty() {
            break;
        }
    }
    found.sort();
    if found.is_empty() { Err(FolderError::NoResults { path: path.to_owned() }) } else { Ok(found) }
}

impl ResultsFolder {
    /// Reads and checks a folder. `incomplete` also takes one whose run did not come to its end.
    ///
    /// # Errors
    /// Anything in it that is not as it should be.
    pub fn read(path: &Path, incomplete: bool) -> Result<Self, FolderError> {
        Self::of_files(path, &mut |name| read_file(&path.join(name)), incomplete)
    }

    /// The same of files that are elsewhere: `take` gives one by its name, and is asked for each once. `path` is what errors
    /// call the folder.
    ///
    /// # Errors
    /// See [`Self::read`].
    pub fn of_files(path: &Path, take: TakeFile<'_>, incomplete: bool) -> Result<Self, FolderError> {
        let mut files = Vec::new();
        match take(MANIFEST_FILE)? {
            Some(manifest) => {
                check(path, &manifest, take, &mut files)?;
                files.push((MANIFEST_FILE.to_owned(), manifest));
            }
            None if incomplete => {
                for name in FILES {
                    files.extend(take(name)?.map(|bytes| (name.to_owned(), bytes)));
                }
            }
            None => return Err(FolderError::Incomplete { path: path.to_owned() }),
        }
        let is_whole = files.iter().any(|(name, _)| name == MANIFEST_FILE);
        let header: ResultsHeader = serde_json::from_str(text(path, &files, HEADER_FILE)?)
            .map_err(|error| malformed(path, HEADER_FILE, error.to_string()))?;
        if (header.format, header.protocol_version) != (RESULTS_FORMAT, PROTOCOL_VERSION) {
            let (format, protocol) = (header.format, header.protocol_version);
            return Err(FolderError::Version { path: path.to_owned(), format, protocol });
        }
        let judge = |source| FolderError::Judge { path: path.to_owned(), source };
        let spec = header.has_spec.then(|| text(path, &files, SPEC_FILE)).transpose()?.map(str::to_owned);
        let profile =
            alone::profile(&header, text(path, &files, PROFILE_FILE)?, PROFILE_FILE, spec.as_deref())
                .map_err(judge)?;
        let stream = text(path, &files, STREAM_FILE)?;
        // a power cut may leave half a line at the end, and only there
        let whole_lines =
            if is_whole { stream } else { &stream[..stream.rfind('\n').map_or(0, |end| end + 1)] };
        let records = alone::records(whole_lines).map_err(judge)?;
        let course = alone::course(&header, &profile, &records).map_err(judge)?;
        let written: Option<Report> = files
            .iter()
            .find(|(name, _)| name == REPORT_FILE)
            .map(|(name, bytes)| {
                serde_json::from_slice(bytes).map_err(|error| malformed(path, name, error.to_string()))
            })
            .transpose()?;
        let ending = match (alone::ending(&course), &written) {
            // what ended a run that did not come to its end is only in its report
            (Ending::AgentCrashed { .. }, Some(written)) if written.facts.ending != Ending::Regular => {
                written.facts.ending.clone()
            }
            (ending, _) => ending,
        };
        let report = alone::report(&header, &profile, &course, ending);
        let differences = written.map(|written| differences(&written, &report)).unwrap_or_default();
        Ok(Self { path: path.to_owned(), header, profile, spec, records, report, differences, files })
    }
}

/// In what a report differs from the one that its stream gives.
fn differences(written: &Report, made: &Report) -> Vec<String> {
    let mut found = Vec::new();
    let (was, is) = (&written.verdict, &made.verdict);
    if was.result != is.result {
        found.push(format!("the verdict: {} in the report, {} by its records", was.result, is.result));
    }
    for (list, here, there) in [
        ("only in the report", &was.reasons, &is.reasons),
        ("only by the records", &is.reasons, &was.reasons),
    ] {
        found.extend(
            here.iter().filter(|reason| !there.contains(reason)).map(|reason| format!("{list}: {reason}")),
        );
    }
    if found.is_empty() && written.facts != made.facts {
        found.push(
            "the facts: the verdict is the same, but the report tells other facts than its records"
                .to_owned(),
        );
    }
    found
}

/// Reads every file of the manifest and compares its digest.
fn check(
    path: &Path,
    manifest: &[u8],
    take: TakeFile<'_>,
    files: &mut Vec<(String, Vec<u8>)>,
) -> Result<(), FolderError> {
    let text = std::str::from_utf8(manifest)
        .map_err(|_| malformed(path, MANIFEST_FILE, "it is no text".to_owned()))?;
    let lines = parse_manifest(text).map_err(|error| malformed(path, MANIFEST_FILE, error.to_string()))?;
    for line in &lines {
        if !FILES.contains(&line.name.as_str()) && artifact_of(&line.name).is_none() {
            return Err(malformed(path, MANIFEST_FILE, format!("no run leaves a file `{}`", line.name)));
        }
        let file = path.join(&line.name);
        let bytes = take(&line.name)?.ok_or_else(|| FolderError::Changed { path: file.clone() })?;
        if Sha256Hex::of(&bytes) != line.sha256 {
            return Err(FolderError::Changed { path: file });
        }
        files.push((line.name.clone(), bytes));
    }
    for needed in FILES.iter().filter(|name| **name != SPEC_FILE) {
        if !lines.iter().any(|line| line.name == **needed) {
            return Err(malformed(path, MANIFEST_FILE, format!("it does not name {needed}")));
        }
    }
    Ok(())
}

fn malformed(path: &Path, name: &str, what: String) -> FolderError {
    FolderError::Malformed { path: path.join(name), what }
}

fn text<'a>(path: &Path, files: &'a [(String, Vec<u8>)], name: &str) -> Result<&'a str, FolderError> {
    let bytes = files.iter().find(|(there, _)| there == name).map(|(_, bytes)| bytes);
    let bytes = bytes.ok_or_else(|| malformed(path, name, "it is missing".to_owned()))?;
    std::str::from_utf8(bytes).map_err(|_| malformed(path, name, "it is no UTF-8 text".to_owned()))
}

/// A plain file; `None` if there is none.
fn read_file(path: &Path) -> Result<Option<Vec<u8>>, FolderError> {
    let failed = |source| FolderError::Read { path: path.to_owned(), source };
    let kind = match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(failed)?,
    };
    let what = match () {
        () if !kind.is_file() => "it is no plain file",
        () if kind.len() > LARGEST_FILE_BYTES => "it is larger than any run",
        () => return std::fs::read(path).map(Some).map_err(failed),
    };
    Err(FolderError::Malformed { path: path.to_owned(), what: what.to_owned() })
}
