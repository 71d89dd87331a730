//! `run report`: the report of a run in the form that its reader wants.

use std::io::Write as _;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use vetting_judge::report::Report;
use vetting_protocol::ids::RunId;

use super::client::Client;
use super::{CommandError, output};

#[derive(Debug, Args)]
pub(super) struct ReportArguments {
    /// Number of the run.
    id: RunId,
    /// For whom.
    #[arg(long, value_enum, default_value = "html")]
    format: Format,
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
    /// The file cannot be written.
    #[error("cannot write {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

pub(super) async fn run(client: &Client, arguments: ReportArguments) -> Result<(), CommandError> {
    let ReportArguments { id, format, output } = arguments;
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
            std::fs::write(&path, &bytes)
                .map_err(|source| ReportError::File { path: path.clone(), source })?;
            Ok(output::line(&format!("the report of run {id} is in {}", path.display()))?)
        }
        None => Ok(std::io::stdout().lock().write_all(&bytes)?),
    }
}

fn read(run: RunId, bytes: &[u8]) -> Result<Report, ReportError> {
    serde_json::from_slice(bytes).map_err(|source| ReportError::OtherForm { run, source })
}
