//! `host import`: registers a list of hosts, from a file or from NetBox.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::Args;
use reqwest::Method;
use vetting_protocol::exchange::{HostImport, HostImportView, HostListFormat};

use super::client::Client;
use super::netbox::NetBox;
use super::{CommandError, hosts, output};

#[derive(Debug, Args)]
pub(super) struct Import {
    /// CSV with a header line, or YAML (JSON is YAML, too): a list of hosts. `-`: standard input.
    #[arg(required_unless_present = "netbox")]
    file: Option<PathBuf>,
    /// How the file is written [default: by its name].
    #[arg(long)]
    format: Option<HostListFormat>,
    /// The model of hosts that name none and have no spec.
    #[arg(long)]
    model: Option<String>,
    /// Only look for mistakes, and say what would be registered.
    #[arg(long)]
    dry_run: bool,
    /// Leave hosts alone whose name is registered already.
    #[arg(long)]
    skip_existing: bool,
    /// Take the devices of this NetBox: `https://netbox.example.org`.
    #[arg(long, value_name = "URL", conflicts_with_all = ["file", "format"], requires = "netbox_token_file")]
    netbox: Option<String>,
    /// File with NetBox's API token.
    #[arg(long, value_name = "FILE")]
    netbox_token_file: Option<PathBuf>,
    /// Only those devices, as NetBox's API filters: `site=lab`, `role=server`; may be given more than once.
    #[arg(long = "filter", value_name = "KEY=VALUE", requires = "netbox")]
    filters: Vec<String>,
    /// The interface that machines boot from; without it the first with a MAC address that is not for management.
    #[arg(long, value_name = "NAME", requires = "netbox")]
    interface: Option<String>,
}

impl Import {
    pub(super) async fn run(self, client: &Client, json: bool) -> Result<(), CommandError> {
        let (format, text) = match (&self.netbox, &self.netbox_token_file, &self.file) {
            (Some(url), Some(token_file), _) => {
                let token = hosts::read(token_file)?;
                let devices =
                    NetBox::new(url, token.trim())?.devices(&self.filters, self.interface.as_deref()).await?;
                (HostListFormat::Yaml, serde_json::Value::from(devices).to_string())
            }
            (_, _, Some(file)) => (format_of(file, self.format), read(file)?),
            // clap asks for one of them
            (_, _, None) => return Ok(()),
        };
        let Self { model, dry_run, skip_existing, .. } = self;
        let order = HostImport { format, text, model, dry_run, skip_existing };
        let done: HostImportView = client.put_in(Method::POST, &["host-imports"], &order).await?;
        if json {
            return Ok(output::json(&done)?);
        }
        for name in &done.existing {
            output::line(&format!("{name} is registered already"))?;
        }
        let did = if done.dry_run { "would be registered" } else { "is registered" };
        for name in &done.added {
            output::line(&format!("{name} {did}"))?;
        }
        Ok(output::line(&format!("{} hosts, {} there before", done.added.len(), done.existing.len()))?)
    }
}

fn read(file: &Path) -> Result<String, CommandError> {
    if file != Path::new("-") {
        return hosts::read(file);
    }
    let mut text = String::new();
    let read = std::io::stdin().lock().read_to_string(&mut text);
    read.map(|_| text).map_err(|source| CommandError::File { path: file.to_owned(), source })
}

fn format_of(file: &Path, told: Option<HostListFormat>) -> HostListFormat {
    let by_name = match file.extension().and_then(|extension| extension.to_str()) {
        Some("csv") => HostListFormat::Csv,
        Some(_) | None => HostListFormat::Yaml,
    };
    told.unwrap_or(by_name)
}
