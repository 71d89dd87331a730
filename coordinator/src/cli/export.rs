//! `export …`: what is known, for other programs.

use std::io::{BufWriter, Write};
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::Serialize;
use vetting_protocol::exchange::SampleView;
use vetting_protocol::ids::RunId;
use vetting_protocol::inventory::Inventory;
use vetting_protocol::named_enum;
use vetting_protocol::operator_api::{HostView, RunDetail, RunSummary};

use super::client::Client;
use super::run_pages::RunPages;
use super::{CommandError, netbox, output};

/// Samples of one request.
const PAGE: u32 = 10_000;

named_enum! {
    /// How rows are written.
    RowFormat, "csv or jsonl" {
        /// CSV (RFC 4180) with a header line.
        Csv = "csv",
        /// One JSON object a line.
        JsonLines = "jsonl",
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum ExportCommand {
    /// Runs, newest first.
    #[command(after_help = "Examples:\n  vetting-coordinator export runs --output runs.csv\n  \
                            vetting-coordinator export runs --host rack1-u07 --format jsonl")]
    Runs {
        /// Only those of this machine.
        #[arg(long)]
        host: Option<String>,
        /// The newest so many; all, if left out.
        #[arg(long)]
        limit: Option<usize>,
        #[command(flatten)]
        rows: Rows,
    },
    /// Every sample of a run, in the order they were taken.
    #[command(after_help = "Examples:\n  vetting-coordinator export measurements 12 --output run-12.csv\n  \
                            vetting-coordinator export measurements 12 --format jsonl | gzip > run-12.jsonl.gz\n\n\
                            DuckDB makes Parquet of it: COPY (FROM 'run-12.csv') TO 'run-12.parquet'")]
    Measurements {
        /// Number of the run.
        run: RunId,
        #[command(flatten)]
        rows: Rows,
    },
    /// A machine as NetBox's API takes it: device, interfaces, inventory items.
    #[command(
        after_help = "The keys are the API's addresses, the values what is posted there, in this order. Manufacturer and\n\
                            device type must be there before.\n\nExample:\n  \
                            vetting-coordinator export netbox rack1-u07 --site lab | jq '.\"dcim/interfaces\"'"
    )]
    Netbox {
        /// Number of a run, or name of a machine: its newest run with an inventory.
        of: String,
        /// Slug of its site.
        #[arg(long, default_value = "lab")]
        site: String,
        /// Slug of its role.
        #[arg(long, default_value = "server")]
        role: String,
    },
}

#[derive(Debug, Args)]
pub(super) struct Rows {
    /// How rows are written [default: csv, and with --json jsonl].
    #[arg(long)]
    format: Option<RowFormat>,
    /// The file to write; without it standard output.
    #[arg(long, short)]
    output: Option<PathBuf>,
}

impl ExportCommand {
    pub(super) async fn run(self, client: &Client, json: bool) -> Result<(), CommandError> {
        match self {
            Self::Runs { host, limit, rows } => {
                let mut pages = RunPages::new(client, host, None, limit);
                let mut writer = RowWriter::open(&rows, json, &RUN_KEYS)?;
                while let Some(page) = pages.next().await? {
                    for run in page {
                        writer.write(&RunLine::from(run))?;
                    }
                }
                writer.finish()
            }
            Self::Measurements { run, rows } => {
                let mut writer = RowWriter::open(&rows, json, &SAMPLE_KEYS)?;
                let (run, mut after) = (run.to_string(), 0_i64);
                loop {
                    let query = [("after", after.to_string()), ("limit", PAGE.to_string())];
                    let samples: Vec<SampleView> =
                        client.get(&["runs", &run, "measurements"], &query).await?;
                    let Some(last) = samples.last() else { break };
                    after = last.id;
                    for sample in &samples {
                        writer.write(sample)?;
                    }
                }
                writer.finish()
            }
            Self::Netbox { of, site, role } => {
                let (host, inventory) = machine(client, &of).await?;
                Ok(output::json(&netbox::export(&host, &inventory, &site, &role))?)
            }
        }
    }
}

/// The keys of a run's row, in their order.
const RUN_KEYS: [&str; 8] =
    ["id", "host", "profile", "state", "result", "failed_stage", "started_at", "completed_at"];

/// Those of a sample's.
const SAMPLE_KEYS: [&str; 7] = ["id", "ts", "stage", "kind", "key", "value", "unit"];

/// A run as a row.
#[derive(Serialize)]
struct RunLine {
    id: RunId,
    host: String,
    profile: String,
    state: String,
    result: Option<String>,
    failed_stage: Option<String>,
    started_at: String,
    completed_at: Option<String>,
}

impl From<RunSummary> for RunLine {
    fn from(run: RunSummary) -> Self {
        Self {
            id: run.id,
            host: run.host,
            profile: run.profile.to_string(),
            state: run.state.to_string(),
            result: run.result.map(|result| result.to_string()),
            failed_stage: run.failed_stage,
            started_at: run.started_at,
            completed_at: run.completed_at,
        }
    }
}

/// The name and the inventory of a run's machine, or of the newest run of a host that has one.
async fn machine(client: &Client, of: &str) -> Result<(String, Inventory), CommandError> {
    let inventory_of = async |run: RunId| {
        client.get::<Inventory>(&["runs", &run.to_string(), "artifacts", "inventory"], &[]).await
    };
    if let Ok(run) = of.parse::<RunId>() {
        let detail: RunDetail = client.get(&["runs", &run.to_string()], &[]).await?;
        return Ok((detail.summary.host, inventory_of(run).await?));
    }
    let host: HostView = client.get(&["hosts", of], &[]).await?;
    let query = [("host", of.to_owned()), ("limit", "20".to_owned())];
    let runs: Vec<RunSummary> = client.get(&["runs"], &query).await?;
    let mut missing = None;
    for run in runs {
        match inventory_of(run.id).await {
            Ok(inventory) => return Ok((host.name, inventory)),
            Err(error) => missing = Some(error),
        }
    }
    Err(missing.map_or_else(|| CommandError::NoRun { host: host.name }, CommandError::from))
}

/// Rows on their way to a file or to standard output.
enum RowWriter {
    Csv {
        writer: Box<csv::Writer<Box<dyn Write>>>,
        /// Written before the first row, and where there is none.
        header: Option<&'static [&'static str]>,
    },
    JsonLines(BufWriter<Box<dyn Write>>),
}

impl RowWriter {
    /// `keys` are those of a row, in their order.
    fn open(rows: &Rows, json: bool, keys: &'static [&'static str]) -> Result<Self, CommandError> {
        let sink: Box<dyn Write> = match &rows.output {
            None => Box::new(std::io::stdout().lock()),
            Some(path) => Box::new(
                std::fs::File::create(path)
                    .map_err(|source| CommandError::Write { path: path.clone(), source })?,
            ),
        };
        let otherwise = if json { RowFormat::JsonLines } else { RowFormat::Csv };
        Ok(match rows.format.unwrap_or(otherwise) {
            RowFormat::Csv => {
                let writer = csv::WriterBuilder::new().has_headers(false).from_writer(sink);
                Self::Csv { writer: Box::new(writer), header: Some(keys) }
            }
            RowFormat::JsonLines => Self::JsonLines(BufWriter::new(sink)),
        })
    }

    fn write(&mut self, row: &impl Serialize) -> Result<(), CommandError> {
        self.write_header()?;
        match self {
            Self::Csv { writer, .. } => Ok(writer.serialize(row).map_err(of_csv)?),
            Self::JsonLines(writer) => {
                serde_json::to_writer(&mut *writer, row).map_err(std::io::Error::from)?;
                Ok(writer.write_all(b"\n")?)
            }
        }
    }

    fn write_header(&mut self) -> Result<(), CommandError> {
        match self {
            Self::Csv { writer, header } => match header.take() {
                Some(header) => Ok(writer.write_record(header).map_err(of_csv)?),
                None => Ok(()),
            },
            Self::JsonLines(_) => Ok(()),
        }
    }

    fn finish(mut self) -> Result<(), CommandError> {
        self.write_header()?;
        match self {
            Self::Csv { mut writer, .. } => Ok(writer.flush()?),
            Self::JsonLines(mut writer) => Ok(writer.flush()?),
        }
    }
}

fn of_csv(error: csv::Error) -> std::io::Error {
    match error.into_kind() {
        csv::ErrorKind::Io(source) => source,
        other => std::io::Error::other(format!("{other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use vetting_protocol::profile::ProfileName;
    use vetting_protocol::run::RunState;

    use super::*;

    /// The header that the rows themselves would bring along.
    fn header_of(row: &impl Serialize) -> String {
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.serialize(row).unwrap();
        String::from_utf8(writer.into_inner().unwrap()).unwrap().lines().next().unwrap().to_owned()
    }

    #[test]
    fn the_header_names_what_is_in_a_row() {
        let run = RunSummary {
            id: RunId(1),
            host: "node1".to_owned(),
            state: RunState::Queued,
            result: None,
            profile: ProfileName::Quick,
            failed_stage: None,
            started_at: String::new(),
            completed_at: None,
            turn: None,
        };
        assert_eq!(header_of(&RunLine::from(run)), RUN_KEYS.join(","));
        let sample = SampleView {
            id: 1,
            ts: String::new(),
            stage: None,
            kind: String::new(),
            key: String::new(),
            value: None,
            unit: String::new(),
        };
        assert_eq!(header_of(&sample), SAMPLE_KEYS.join(","));
    }
}
