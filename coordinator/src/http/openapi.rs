//! The API's description (OpenAPI 3.1), as it is in docs/api/openapi.json. Tests make that file from the wire types and
//! hold it against the routes.

use std::sync::LazyLock;

use http::{HeaderValue, header};
use serde_json::Value;
use warp::reply::{Reply, Response};

/// The document.
pub const DOCUMENT: &str = include_str!("../../../docs/api/openapi.json");

/// Paths with their methods.
static PATHS: LazyLock<Vec<(String, String)>> = LazyLock::new(|| {
    let document: Value = serde_json::from_str(DOCUMENT).unwrap_or_default();
    let Some(paths) = document["paths"].as_object() else { return Vec::new() };
    let methods = |operations: &Value| {
        let names = operations.as_object().into_iter().flat_map(|operations| operations.keys());
        let methods = names.filter(|name| *name != "parameters").map(|name| name.to_uppercase());
        methods.collect::<Vec<_>>().join(", ")
    };
    paths.iter().map(|(path, operations)| (path.clone(), methods(operations))).collect()
});

/// `GET openapi.json`. No token: it tells nothing of this lab.
pub fn document() -> Response {
    warp::reply::with_header(DOCUMENT, header::CONTENT_TYPE, "application/vnd.oai.openapi+json;version=3.1")
        .into_response()
}

/// The value of `Allow` for a path that knows other methods (RFC 9110, section 10.2.1).
pub fn allow(path: &str) -> Option<HeaderValue> {
    let fits = |pattern: &str| {
        let (mut asked, mut known) = (path.split('/'), pattern.split('/'));
        loop {
            match (asked.next(), known.next()) {
                (None, None) => return true,
                (Some(asked), Some(known)) if known == asked || known.starts_with('{') => {}
                _ => return false,
            }
        }
    };
    let (_, methods) = PATHS.iter().find(|(pattern, _)| fits(pattern))?;
    HeaderValue::from_str(methods).ok()
}
