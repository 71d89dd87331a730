//! Style sheet, script and icon, built in. Their addresses carry their digest, so browsers may keep them for ever.

use std::sync::LazyLock;

use http::{HeaderValue, header};
use vetting_judge::report::chart;
use vetting_protocol::ids::Sha256Hex;
use warp::reply::{Reply, Response};

use crate::http::problem::ApiError;

struct Asset {
    name: &'static str,
    content_type: &'static str,
    text: &'static str,
}

const ASSETS: [Asset; 4] = [
    Asset {
        name: "web.css",
        content_type: "text/css; charset=utf-8",
        text: include_str!("../../../web/web.css"),
    },
    Asset { name: "chart.css", content_type: "text/css; charset=utf-8", text: chart::STYLE },
    Asset {
        name: "web.js",
        content_type: "text/javascript; charset=utf-8",
        text: include_str!("../../../web/web.js"),
    },
    Asset { name: "icon.svg", content_type: "image/svg+xml", text: include_str!("../../../web/icon.svg") },
];

/// Of all of them together: any change gives all new addresses.
static DIGEST: LazyLock<String> = LazyLock::new(|| {
    let all: String = ASSETS.iter().map(|asset| asset.text).collect();
    let mut digest = Sha256Hex::of(all.as_bytes()).to_string();
    digest.truncate(12);
    digest
});

/// Where an asset is.
pub(super) fn url(name: &str) -> String {
    format!("/assets/{}/{name}", *DIGEST)
}

/// `GET /assets/{digest}/{name}`.
pub(super) fn serve(name: &str) -> Result<Response, ApiError> {
    let asset = ASSETS
        .iter()
        .find(|asset| asset.name == name)
        .ok_or_else(|| ApiError::not_found("there is no such file"))?;
    let mut response = asset.text.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(asset.content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable"));
    Ok(response)
}
