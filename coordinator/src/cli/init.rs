//! `init` and `migrate`: what a new box needs before it can serve.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{IsTerminal as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;
use vetting_protocol::users::Role;

use super::{CommandError, output};
use crate::accounts::password::{self, PasswordError};
use crate::clock::Clock;
use crate::config::{COMMENTED_DEFAULTS, Config};
use crate::durable_file;
use crate::http::hosts::check_name;
use crate::run::secrets;
use crate::store::Store;
use crate::store::tokens::{self, TokenValues};
use crate::store::users::{self, UserValues};

/// Name of the first token.
const FIRST_TOKEN: &str = "operator";

#[derive(Debug, Args)]
pub(super) struct Init {
    /// Use the configuration that is there; make only the folders, the database and the token.
    #[arg(long)]
    keep_config: bool,
    /// Name of the first user of the web page, an operator; the password is asked for, or read as one line from stdin.
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
}

/// A set-up that did not work out.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The configuration is there already.
    #[error("{} is there already; it stays as it is. `init --keep-config` makes the rest for it", path.display())]
    ConfigExists {
        /// The file.
        path: PathBuf,
    },
    /// The token is there already.
    #[error("{} is there already: this box is set up. `token create` makes further tokens", path.display())]
    TokenExists {
        /// The file.
        path: PathBuf,
    },
    /// A file or folder cannot be made.
    #[error("cannot make {}", path.display())]
    Make {
        /// What.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The token's file.
    #[error("the token cannot be kept")]
    Write(#[from] durable_file::WriteError),
    /// The first user's name.
    #[error("{what}")]
    Name {
        /// What is wrong with it.
        what: String,
    },
    /// The first user's password.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// The token.
    #[error("no token can be made")]
    Random(#[from] secrets::RandomError),
}

impl Init {
    pub(super) async fn run(self, config_path: &Path, json: bool) -> Result<(), CommandError> {
        if !self.keep_config {
            write_config(config_path)?;
        }
        let config = Config::load(config_path)?;
        let token_path = config.operator_token_path();
        if token_path.exists() {
            return Err(InitError::TokenExists { path: token_path }.into());
        }
        let user = self.first_user(json)?;
        private_folder(&config.state_dir)?;
        let token = secrets::fresh().map_err(InitError::from)?;
        let store = open(&config)?;
        let (hash, now_ms) = (token.sha256(), Clock::system().now_ms());
        let values = TokenValues {
            name: FIRST_TOKEN.to_owned(),
            token_hash: hash,
            role: Role::Operator,
            expires_at_ms: None,
        };
        let user_name = user.as_ref().map(|user| user.name.clone());
        store
            .write(move |connection| {
                if let Some(user) = &user {
                    users::create(connection, user, now_ms)?;
                }
                tokens::create(connection, &values, now_ms)
            })
            .await?;
        let text = format!("{}\n", token.expose());
        durable_file::write(&token_path, 0o600, text.as_bytes()).map_err(InitError::from)?;
        if json {
            let said = json!({"config": config_path, "database": config.database.path, "token_file": token_path, "user": user_name});
            return Ok(output::json(&said)?);
        }
        Ok(output::line(&format!(
            "configuration   {}\ndatabase        {}\noperator token  {} (readable by you alone)\nweb page user   {}\n\n\
             next: vetting-coordinator --config {} serve",
            config_path.display(),
            config.database.path.display(),
            token_path.display(),
            user_name.as_deref().unwrap_or("nobody yet; `user add NAME`, while it serves, adds one"),
            config_path.display(),
        ))?)
    }
}

impl Init {
    /// The first person: as said, or asked for where somebody sits there.
    fn first_user(&self, json: bool) -> Result<Option<UserValues>, CommandError> {
        let name = match &self.user {
            Some(name) => name.clone(),
            None if json || !std::io::stdin().is_terminal() => return Ok(None),
            None => {
                eprint!("name of the first user of the web page (empty: none): ");
                let mut line = String::new();
                let read = std::io::stdin().read_line(&mut line);
                read.map_err(|source| CommandError::Password { source })?;
                line.trim().to_owned()
            }
        };
        if name.is_empty() {
            return Ok(None);
        }
        check_name(&name).map_err(|error| InitError::Name { what: error.detail })?;
        let password_hash = password::hash(&super::users::ask_password(&name)?).map_err(InitError::from)?;
        Ok(Some(UserValues { name, role: Role::Operator, password_hash }))
    }
}

/// Brings the database up to date.
pub(super) fn migrate(config: &Config, json: bool) -> Result<(), CommandError> {
    open(config)?;
    if json {
        return Ok(output::json(&json!({"database": config.database.path, "up_to_date": true}))?);
    }
    Ok(output::line(&format!("{} is up to date", config.database.path.display()))?)
}

fn open(config: &Config) -> Result<Store, CommandError> {
    if let Some(folder) = config.database.path.parent() {
        private_folder(folder)?;
    }
    Ok(Store::open(&config.database.path)?)
}

fn write_config(path: &Path) -> Result<(), InitError> {
    let made = OpenOptions::new().write(true).create_new(true).mode(0o640).open(path);
    let written = made.and_then(|mut file| {
        file.write_all(COMMENTED_DEFAULTS.as_bytes())?;
        file.sync_all()
    });
    written.map_err(|source| match source.kind() {
        std::io::ErrorKind::AlreadyExists => InitError::ConfigExists { path: path.to_owned() },
        _ => InitError::Make { path: path.to_owned(), source },
    })
}

/// Makes a folder that only its owner can enter; one that is there stays as it is.
fn private_folder(path: &Path) -> Result<(), InitError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| InitError::Make { path: path.to_owned(), source })
}
