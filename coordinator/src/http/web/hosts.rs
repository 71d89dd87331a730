//! The list of machines, with a search and filters.

use maud::html;
use vetting_judge::report::format;
use warp::reply::Response;

use super::Form;
use super::dashboard::Group;
use super::layout::{Place, Tone, badge, or_dash, page as whole_page, run_badge, scroll};
use super::visitor::Visitor;
use crate::http::problem::ApiError;
use crate::store::overview::{self, HostLine};

/// Rows of a page.
const MOST_ROWS: usize = 500;

/// Every word of the search is in one of these, in any case.
fn matches(line: &HostLine, words: &str) -> bool {
    let text =
        format!("{} {} {} {}", line.name, line.mac, line.notes, line.model.as_deref().unwrap_or_default())
            .to_lowercase();
    words.to_lowercase().split_whitespace().all(|word| text.contains(word))
}

/// `GET /hosts?q=…&show=…&after=…`.
pub(super) async fn page(visitor: &Visitor, query: &Form) -> Result<Response, ApiError> {
    let lines = visitor.app.driver.store.read(overview::hosts).await?;
    let words = query.get("q").unwrap_or_default();
    let show = query.get("show").unwrap_or_default();
    let group = Group::named(Some(show));
    let after = query.get("after").unwrap_or_default();
    let found: Vec<&HostLine> = lines
        .iter()
        .filter(|line| matches(line, words) && group.is_none_or(|group| Group::of(line) == group))
        .collect();
    // in the order of the names, as they came
    let rest = || found.iter().filter(|line| line.name.as_str() > after);
    let last = rest().nth(MOST_ROWS).and_then(|_| rest().nth(MOST_ROWS - 1));
    let body = html! {
        header.title {
            h1 { "Hosts" }
            @if visitor.is_operator() { a.button href="/new-host" { "Add a host…" } }
        }
        form.filters method="get" action="/hosts" role="search" {
            label { span.off-screen { "Search" }
                input type="search" name="q" value=(words) placeholder="name, MAC, model, notes"; }
            label { span.off-screen { "State" }
                select name="show" {
                    option value="" { "all states" }
                    @for (_, word, in_words) in Group::ALL { option value=(word) selected[word == show] { (in_words) } }
                }
            }
            button type="submit" { "Search" }
            span.note { (format::count(found.len() as u64, "machine", "machines")) }
        }
        @if found.is_empty() { p.empty { "No machine is like that." } } @else {
            section { (scroll("Hosts", &html! { table.hosts {
                thead { tr { th { "Host" } th { "State" } th { "Profile" } th { "Stage" } th { "Started" } th { "Model" } th { "MAC" } th { "Notes" } } }
                tbody { @for line in rest().take(MOST_ROWS) { (row(line)) } }
            } })) }
            @if !after.is_empty() { p { a href=(format!("/hosts?{}", super::run::query(&[("q", words), ("show", show)]))) { "From the first" } } }
            @if let Some(last) = last {
                p { a href=(format!("/hosts?{}", super::run::query(&[("q", words), ("show", show), ("after", &last.name)]))) { "Further ones" } }
            }
        }
    };
    Ok(whole_page(visitor, Place::Hosts, "Hosts", None, &body))
}

fn row(line: &HostLine) -> maud::Markup {
    html! {
        tr {
            th.nowrap scope="row" { a href=(format!("/hosts/{}", line.name)) { (line.name) } }
            @match &line.run {
                Some(run) => {
                    td { a.bare href=(format!("/runs/{}", run.id)) { (run_badge(run.state, run.result)) } }
                    td { (run.profile) }
                    td { (or_dash(run.stage.as_deref().or(run.failed_stage.as_deref()))) }
                    td.nowrap { (format::time(run.started_at_ms)) }
                }
                None => { td { (badge(Tone::Quiet, "never vetted")) } td {} td {} td {} }
            }
            td { (or_dash(line.model.as_deref())) }
            td.nowrap { code { (line.mac) } }
            td.notes { (line.notes) }
        }
    }
}

#[cfg(test)]
mod tests {
    use vetting_protocol::ids::HostId;

    use super::*;

    #[test]
    fn every_word_of_a_search_is_found_in_any_case() {
        let line = HostLine {
            id: HostId(1),
            name: "rack1-u07".to_owned(),
            mac: "52:54:00:AB:cd:01".parse().unwrap(),
            notes: "from Oslo".to_owned(),
            model: Some("PowerEdge R650".to_owned()),
            run: None,
        };
        for words in ["", "RACK1", "oslo u07", "r650", "ab:CD", "  poweredge   rack1 "] {
            assert!(matches(&line, words), "{words}");
        }
        assert!(!matches(&line, "rack1 bergen"));
    }
}
