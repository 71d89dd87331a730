//! `run report`: the report of a run in the form that its reader wants. `report verify`: whether a report is the one that
//! a coordinator wrote.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use minisign_verify::{PublicKey, Signature};
use vetting_judge::report::{Report, SCHEMA};
use vetting_protocol::ids::RunId;

use super::client::Client;
use super::{CommandError, output};

#[derive(Debug, Args)]
pub(super) struct ReportArguments {
    /// Number of the run.
    id: RunId,
    /// For whom [default: html, and with --json without --output json].
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Into this file [default: standard output].
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// One page, for people and for printing.
    Html,
    /// All that is known, for programs of one's own.
    Json,
    /// JUnit XML, for CI systems.
    Junit,
    /// OCP Test and Validation output, JSON lines.
    Ocp,
}

#[derive(Debug, Subcommand)]
pub(super) enum ReportCommand {
    /// Print the JSON Schema of reports in JSON. Needs no coordinator.
    #[command(after_help = "Example:\n  vetting-coordinator report schema > report.schema.json\n  \
                            vetting-coordinator run report 42 --format json -o 42.json\n  \
                            check-jsonschema --schemafile report.schema.json 42.json")]
    Schema,
    /// Tell whether a report is as the coordinator signed it. Needs no coordinator, only its public key.
    #[command(after_help = "Example:\n  vetting-coordinator run report 42 --output run-42.html   \
                            # with run-42.html.minisig\n  \
                            vetting-coordinator report verify run-42.html --key report.pub\n\n\
                            The public key is <state_dir>/signing/report.pub on the coordinator's box. \
                            `minisign -Vm run-42.html -p report.pub` does the same.")]
    Verify {
        /// The report.
        file: PathBuf,
        /// The coordinator's public key.
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// The signature [default: FILE.minisig].
        #[arg(long, value_name = "FILE")]
        signature: Option<PathBuf>,
    },
}

impl ReportCommand {
    pub(super) fn run(self, json: bool) -> Result<(), CommandError> {
        let (file, key, signature) = match self {
            Self::Schema => {
                std::io::stdout().lock().write_all(SCHEMA.as_bytes())?;
                return Ok(());
            }
            Self::Verify { file, key, signature } => (file, key, signature),
        };
        let signature = signature.unwrap_or_else(|| beside(&file));
        let unusable = |path: &Path| {
            let path = path.to_owned();
            move |source| ReportError::Unusable { path, source }
        };
        let public = PublicKey::from_file(&key).map_err(unusable(&key))?;
        let signed = Signature::from_file(&signature).map_err(unusable(&signature))?;
        let bytes =
            std::fs::read(&file).map_err(|source| CommandError::File { path: file.clone(), source })?;
        public
            .verify(&bytes, &signed, false)
            .map_err(|source| ReportError::Forged { path: file.clone(), source })?;
        let comment = signed.trusted_comment();
        if json {
            return Ok(output::json(&serde_json::json!({"file": file, "valid": true, "comment": comment}))?);
        }
        Ok(output::line(&format!("{} is as it was signed: {comment}", file.display()))?)
    }
}

/// `run-42.html` → `run-42.html.minisig`, as minisign has it.
fn beside(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".minisig");
    PathBuf::from(name)
}

/// A report that cannot be given in the form asked for.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// It is of another version.
    #[error("the report of run {run} is not one that this program can read; take `--format json` as it is")]
    OtherForm {
        /// The run.
        run: RunId,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// The XML cannot be written.
    #[error("the report cannot be written as XML")]
    Xml {
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A file that is no key or no signature.
    #[error("{} cannot be used", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: minisign_verify::Error,
    },
    /// The report is not as it was signed.
    #[error("{} is NOT as it was signed, or was signed with another key: do not trust it", path.display())]
    Forged {
        /// The report.
        path: PathBuf,
        /// Why.
        source: minisign_verify::Error,
    },
    /// The file cannot be written.
    #[error("cannot write {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

pub(super) async fn run(client: &Client, arguments: ReportArguments, json: bool) -> Result<(), CommandError> {
    let ReportArguments { id, format, output } = arguments;
    let otherwise = if json && output.is_none() { Format::Json } else { Format::Html };
    let format = format.unwrap_or(otherwise);
    let number = id.to_string();
    let kind = match format {
        Format::Html => "report_html",
        Format::Json | Format::Junit | Format::Ocp => "report",
    };
    let stored = client.bytes(&["runs", &number, "artifacts", kind]).await?;
    let bytes = match format {
        Format::Html | Format::Json => stored,
        Format::Junit => {
            let xml = read(id, &stored)?.to_junit();
            xml.map_err(|error| ReportError::Xml { source: error.into() })?.into_bytes()
        }
        Format::Ocp => read(id, &stored)?.to_ocp().into_bytes(),
    };
    match output {
        Some(path) => {
            write(&path, &bytes)?;
            // the forms made here are not signed
            let signed = match format {
                Format::Html => Some("report_html_signature"),
                Format::Json => Some("report_signature"),
                Format::Junit | Format::Ocp => None,
            };
            if let Some(kind) = signed {
                let signature = client.bytes(&["runs", &number, "artifacts", kind]).await?;
                write(&beside(&path), &signature)?;
            }
            if json {
                return Ok(output::json(&serde_json::json!({"run": id, "file": path}))?);
            }
            Ok(output::line(&format!("the report of run {id} is in {}", path.display()))?)
        }
        None => Ok(std::io::stdout().lock().write_all(&bytes)?),
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), ReportError> {
    std::fs::write(path, bytes).map_err(|source| ReportError::File { path: path.to_owned(), source })
}

fn read(run: RunId, bytes: &[u8]) -> Result<Report, ReportError> {
    serde_json::from_slice(bytes).map_err(|source| ReportError::OtherForm { run, source })
}
