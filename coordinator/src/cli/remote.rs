//! Which coordinator a command talks to: as said, as the client's file says, or the one of this box.

use std::path::{Path, PathBuf};

use clap::Args;

use super::authority::Authority;
use super::client::{Client, ClientError, Elsewhere};
use super::{CommandError, Place, client_config};
use crate::config::{self, Config};

/// Environment variable that may name a coordinator.
const URL_VARIABLE: &str = "VETTING_URL";

/// Which coordinator to talk to; without these, the one that this box's configuration describes, or where there is none
/// the one of `~/.config/vetting/client.yaml`.
#[derive(Debug, Clone, Args)]
pub(super) struct Remote {
    /// A coordinator on another box: `https://HOST:PORT`.
    #[arg(long, global = true, env = URL_VARIABLE)]
    url: Option<String>,
    /// What it is known by: a copy of its `<state_dir>/tls/ca.pem`, or the fingerprint of that certificate,
    /// `sha256:HEX`.
    #[arg(long, global = true, env = "VETTING_CA", value_name = "FILE|sha256:HEX")]
    ca: Option<Authority>,
    /// File with an operator token; without it, VETTING_TOKEN may hold the token itself.
    #[arg(long, global = true)]
    token_file: Option<PathBuf>,
}

impl Remote {
    /// Refuses a coordinator that was named in vain.
    pub(super) fn check(&self, (place, verb): (Place, &'static str)) -> Result<(), CommandError> {
        let Some(url) = &self.url else { return Ok(()) };
        match place {
            Place::Coordinator => Ok(()),
            Place::ThisBox => Err(CommandError::OnlyHere { verb, url: url.clone() }),
            // the variable is meant for the commands that ask one
            Place::Nowhere if std::env::var(URL_VARIABLE).is_ok_and(|in_general| in_general == *url) => {
                Ok(())
            }
            Place::Nowhere => Err(CommandError::AsksNobody { verb }),
        }
    }

    /// The coordinator on another box, if it is one: as said, or else as the client's file says, which counts where
    /// neither a coordinator was named nor this box has one.
    pub(super) fn elsewhere(&self, config: &Path) -> Result<Option<Elsewhere>, CommandError> {
        // a file that was named and is not there is a mistake, not a wish for another coordinator
        let own = config.exists() || config != Path::new(config::DEFAULT_PATH);
        if self.url.is_none() && own {
            return Ok(None);
        }
        let said_token_file = self.token_file.clone();
        if let (Some(url), Some(ca)) = (&self.url, &self.ca) {
            // the file's token is not for whom it does not name
            let (url, authority) = (url.clone(), ca.clone());
            return Ok(Some(Elsewhere { url, authority, said_token_file, token_file: None }));
        }
        let file = client_config::path().map(|path| client_config::read(&path)).transpose()?.flatten();
        match (file, &self.url) {
            (Some(file), url) => Ok(Some(Elsewhere {
                url: url.clone().unwrap_or(file.url),
                authority: self.ca.clone().unwrap_or(file.ca),
                said_token_file,
                token_file: file.token_file,
            })),
            (None, Some(url)) => Err(ClientError::NoAuthority { url: url.clone() }.into()),
            (None, None) => Ok(None),
        }
    }
}

pub(super) fn connect(config: &Path, remote: &Remote) -> Result<Client, CommandError> {
    Ok(match remote.elsewhere(config)? {
        Some(elsewhere) => Client::elsewhere(&elsewhere)?,
        None => Client::on_this_box(&Config::load(config)?, remote.token_file.as_deref())?,
    })
}
