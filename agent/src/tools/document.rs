//! What programs of our own print: one JSON document, which names its form by a number.

use serde::de::DeserializeOwned;

use super::runner::{Finished, ToolError};

/// The document that `tool` printed.
///
/// # Errors
/// It failed, or printed a document of another form than `known`.
pub(super) fn read<D: DeserializeOwned>(
    finished: &Finished,
    tool: &'static str,
    known: u32,
    form: impl FnOnce(&D) -> u32,
) -> Result<D, ToolError> {
    finished.success(tool)?;
    let garbage = |message: String| ToolError::Garbage { tool: tool.to_owned(), message };
    if finished.truncated {
        return Err(garbage("its document is too long".to_owned()));
    }
    let document: D = serde_json::from_slice(&finished.stdout).map_err(|error| garbage(error.to_string()))?;
    let form = form(&document);
    if form == known {
        return Ok(document);
    }
    Err(garbage(format!("its document has form {form}, known is {known}")))
}
