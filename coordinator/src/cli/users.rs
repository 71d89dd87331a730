//! `user …`: people who log in to the web page. Passwords come from a prompt or from stdin, never from an argument: other
//! users of the box see those.

use std::io::{BufRead as _, IsTerminal as _};

use clap::Subcommand;
use reqwest::Method;
use vetting_protocol::secret::Secret;
use vetting_protocol::users::{Role, UserCreate, UserEdit, UserView};

use super::client::Client;
use super::{CommandError, output};

#[derive(Debug, Subcommand)]
pub(super) enum UserCommand {
    /// Add a person. Their password is asked for, or read as one line from stdin.
    #[command(after_help = "Examples:\n  vetting-coordinator user add alice\n  \
                            pass show vetting/bob | vetting-coordinator user add bob --role viewer")]
    Add {
        /// Unique, also among disabled ones.
        name: String,
        /// viewer (reads) or operator (everything).
        #[arg(long, default_value = "operator")]
        role: Role,
    },
    /// Every person.
    List,
    /// Set a person's password. They have to log in anew.
    Passwd {
        /// Who.
        name: String,
    },
    /// Set what a person may do, from their next click on.
    Role {
        /// Who.
        name: String,
        /// viewer or operator.
        role: Role,
    },
    /// Log a person out everywhere, and let them in no more.
    Disable {
        /// Who.
        name: String,
    },
    /// Let a disabled person in again.
    Enable {
        /// Who.
        name: String,
    },
}

/// Asks for a password: twice on a terminal, else one line of stdin.
pub(super) fn ask_password(of: &str) -> Result<Secret, CommandError> {
    if !std::io::stdin().is_terminal() {
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line).map_err(|source| CommandError::Password { source })?;
        return Ok(Secret::new(line.trim_end_matches(['\r', '\n']).to_owned()));
    }
    let ask =
        |prompt: &str| rpassword::prompt_password(prompt).map_err(|source| CommandError::Password { source });
    let once = ask(&format!("password of {of}: "))?;
    if ask("the same again: ")? != once {
        return Err(CommandError::PasswordsDiffer);
    }
    Ok(Secret::new(once))
}

impl UserCommand {
    pub(super) async fn run(self, client: &Client, json: bool) -> Result<(), CommandError> {
        let nothing = UserEdit { role: None, password: None, disabled: None };
        let (name, edit) = match self {
            Self::Add { name, role } => {
                let password = ask_password(&name)?;
                let body = UserCreate { name, role, password };
                let user: UserView = client.put_in(Method::POST, &["users"], &body).await?;
                return say(&user, json);
            }
            Self::List => {
                let users: Vec<UserView> = client.get(&["users"], &[]).await?;
                return list(&users, json);
            }
            Self::Passwd { name } => {
                let password = Some(ask_password(&name)?);
                (name, UserEdit { password, ..nothing })
            }
            Self::Role { name, role } => (name, UserEdit { role: Some(role), ..nothing }),
            Self::Disable { name } => (name, UserEdit { disabled: Some(true), ..nothing }),
            Self::Enable { name } => (name, UserEdit { disabled: Some(false), ..nothing }),
        };
        let user: UserView = client.put_in(Method::PATCH, &["users", &name], &edit).await?;
        say(&user, json)
    }
}

fn say(user: &UserView, json: bool) -> Result<(), CommandError> {
    if json {
        return Ok(output::json(user)?);
    }
    let state = if user.disabled_at.is_some() { "is disabled" } else { "can log in" };
    Ok(output::line(&format!("{} ({}) {state}", user.name, user.role))?)
}

fn list(users: &[UserView], json: bool) -> Result<(), CommandError> {
    if json {
        return Ok(output::json(&users)?);
    }
    let rows = users.iter().map(|user| {
        [
            user.name.clone(),
            user.role.to_string(),
            user.created_at.clone(),
            output::or_dash(user.last_login_at.as_ref()),
            output::or_dash(user.disabled_at.as_ref()),
        ]
    });
    Ok(output::table(
        &["NAME", "ROLE", "CREATED", "LAST LOG-IN", "DISABLED"],
        rows,
        "there are no users; `user add NAME` adds one",
    )?)
}
