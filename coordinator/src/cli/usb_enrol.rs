//! `usb … --enrol`: the enrolment token of a stick, made by the coordinator that the stick leads to.
//!
//! Owns the token until the stick is there: one for a stick that came to nothing is revoked. Its text goes onto the
//! stick and nowhere else.

use clap::Args;
use vetting_protocol::profile::ProfileName;
use vetting_protocol::secret::Secret;

use super::client::Client;
use super::enrolment::Terms;
use super::usb::Surroundings;
use super::{CommandError, connect};

/// The options.
#[derive(Debug, Args)]
pub(super) struct WithEnrol {
    /// Make an enrolment token and put it onto the stick: machines that nobody registered are registered by it.
    #[arg(long = "enrol", conflicts_with_all = ["offline", "enrolment_token_file"])]
    pub(super) asked: bool,
    #[command(flatten)]
    pub(super) terms: Terms,
}

/// A token that was just made.
pub(super) struct FreshToken {
    client: Client,
    id: i64,
}

impl FreshToken {
    /// Makes one; gives its text, too.
    pub(super) async fn make(
        around: &Surroundings<'_>,
        terms: &Terms,
        profile: ProfileName,
    ) -> Result<(Self, Secret), CommandError> {
        let client = connect(around.config, around.remote)?;
        let made = terms.token(&client, profile).await?;
        Ok((Self { client, id: made.view.id }, made.token))
    }

    /// Once it is known whether there is a stick: its id if so, and if not it is revoked.
    pub(super) async fn settle(
        token: Option<Self>,
        stick: Result<(), CommandError>,
    ) -> Result<Option<i64>, CommandError> {
        let Some(Self { client, id }) = token else { return stick.map(|()| None) };
        let Err(error) = stick else { return Ok(Some(id)) };
        match client.delete(&["enrolment", "tokens", &id.to_string()], &[]).await {
            Ok(()) => eprintln!("enrolment token {id}, made for this stick, is revoked"),
            Err(refused) => eprintln!(
                "enrolment token {id}, made for this stick, is still good: `vetting-coordinator enrolment revoke {id}` ({})",
                crate::error_chain(&refused)
            ),
        }
        Err(error)
    }
}
