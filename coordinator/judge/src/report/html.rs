//! The page around the sections: head, style sheet, banner.

use maud::{DOCTYPE, Markup, html};

use super::Report;

/// The whole page.
pub(super) fn page(report: &Report) -> Markup {
    html! { (DOCTYPE) html lang="en" { head { title { (report.facts.host.name) } } body { } } }
}
