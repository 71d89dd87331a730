//! Lists in pages: `limit` rows, and the address of the next page in `Link` (RFC 8288).

use http::{HeaderValue, header};
use reqwest::Url;
use serde::Serialize;
use warp::reply::Response;

use super::operator::ok;

/// Rows of a list, unless told otherwise.
pub const DEFAULT_LIMIT: u32 = 200;
/// Rows of a list at most.
pub const MAX_LIMIT: u32 = 1_000;

/// The rows of a page, within what is allowed.
pub fn limit(asked: Option<u32>) -> u32 {
    asked.unwrap_or(DEFAULT_LIMIT).clamp(1, MAX_LIMIT)
}

/// A page of a list below `/api/v1/`. `rows` may have one more than `limit`: then there is a next page, which has the
/// query that `next` gives for the last row of this one.
pub fn page<T: Serialize>(
    list: &str,
    mut rows: Vec<T>,
    limit: u32,
    next: impl FnOnce(&T) -> Vec<(&'static str, String)>,
) -> Response {
    let next = cut(&mut rows, limit, next);
    linked(list, &rows, limit, next)
}

/// Leaves the rows of one page; gives the query that `next` makes of the last of them, if there were more.
pub fn cut<T>(
    rows: &mut Vec<T>,
    limit: u32,
    next: impl FnOnce(&T) -> Vec<(&'static str, String)>,
) -> Option<Vec<(&'static str, String)>> {
    let more = rows.len() > limit as usize;
    rows.truncate(limit as usize);
    rows.last().filter(|_| more).map(next)
}

/// An answer that is a page of a list below `/api/v1/`, with the query of the next one.
pub fn linked(
    list: &str,
    page: &impl Serialize,
    limit: u32,
    next: Option<Vec<(&'static str, String)>>,
) -> Response {
    let mut response = ok(page);
    let address = next.and_then(|mut query| {
        query.push(("limit", limit.to_string()));
        address(list, &query)
    });
    if let Some(address) = address {
        response.headers_mut().insert(header::LINK, address);
    }
    response
}

/// `</api/v1/LIST?…>; rel="next"`.
fn address(list: &str, query: &[(&'static str, String)]) -> Option<HeaderValue> {
    let url = Url::parse_with_params(&format!("https://coordinator/api/v1/{list}"), query).ok()?;
    let query = url.query().unwrap_or_default();
    HeaderValue::try_from(format!("<{}?{query}>; rel=\"next\"", url.path())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(rows: Vec<u32>, limit: u32) -> Option<String> {
        let next = |last: &u32| vec![("kind", "a b*&".to_owned()), ("after", last.to_string())];
        let response = page("events", rows, limit, next);
        Some(response.headers().get(header::LINK)?.to_str().unwrap().to_owned())
    }

    #[test]
    fn only_a_list_that_goes_on_has_a_next_page() {
        assert_eq!(link(vec![], 2), None);
        assert_eq!(link(vec![1, 2], 2), None);
        let next = "</api/v1/events?kind=a+b*%26&after=2&limit=2>; rel=\"next\"";
        assert_eq!(link(vec![1, 2, 3], 2).as_deref(), Some(next));
    }

    #[test]
    fn a_page_has_between_one_and_a_thousand_rows() {
        assert_eq!([None, Some(0), Some(7), Some(u32::MAX)].map(limit), [200, 1, 7, 1_000]);
    }
}
