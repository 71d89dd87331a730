//! Runs, newest first, as many as are wanted: the API gives them in pages.

use vetting_protocol::ids::RunId;
use vetting_protocol::operator_api::RunSummary;

use super::CommandError;
use super::client::Client;

/// Runs of a page, the most that the API gives.
const PAGE: usize = 1_000;

/// What is still to be asked for.
pub(super) struct RunPages<'a> {
    client: &'a Client,
    host: Option<String>,
    before: Option<RunId>,
    /// Absent: all of them.
    left: Option<usize>,
    over: bool,
}

impl<'a> RunPages<'a> {
    /// Those of `host`, if one is named, and older than `before`; the newest `limit` of them, or all.
    pub(super) fn new(
        client: &'a Client,
        host: Option<String>,
        before: Option<RunId>,
        limit: Option<usize>,
    ) -> Self {
        Self { client, host, before, left: limit, over: false }
    }

    /// The next page, which is not empty; none after the last.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<RunSummary>>, CommandError> {
        let size = self.left.map_or(PAGE, |left| left.min(PAGE));
        if self.over || size == 0 {
            return Ok(None);
        }
        let mut query = vec![("limit", size.to_string())];
        query.extend(self.host.clone().map(|host| ("host", host)));
        query.extend(self.before.map(|before| ("before", before.to_string())));
        let page: Vec<RunSummary> = self.client.get(&["runs"], &query).await?;
        self.over = page.len() < size;
        self.left = self.left.map(|left| left.saturating_sub(page.len()));
        self.before = page.last().map(|last| last.id);
        Ok(Some(page).filter(|page| !page.is_empty()))
    }
}
