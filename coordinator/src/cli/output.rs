//! How answers look: aligned tables for people, JSON for programs.

use std::io::{self, Write as _};

use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};
use serde::Serialize;

/// Prints one value as JSON.
pub fn json(value: &impl Serialize) -> io::Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(io::Error::other)?;
    line(&text)
}

/// Tells what was done, in the form that was asked for.
pub fn done(json: bool, value: &impl Serialize, sentence: &str) -> Result<(), super::CommandError> {
    Ok(if json { self::json(value) } else { line(sentence) }?)
}

/// Prints one line. A reader that has gone (`| head`) is no error of ours, so this tells it to the caller.
pub fn line(text: &str) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{text}")
}

/// Prints rows below a header, or `nothing` where there are none.
pub fn table<R>(header: &[&str], rows: impl IntoIterator<Item = R>, nothing: &str) -> io::Result<()>
where
    R: IntoIterator<Item = String>,
{
    let mut table = Table::new();
    table
        .load_style(NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(header.to_vec());
    for row in rows {
        table.add_row(row);
    }
    if table.is_empty() { line(nothing) } else { line(&table.trim_fmt()) }
}

/// An optional value in a table.
pub fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}
