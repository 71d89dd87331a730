//! Versions of what operators edit: `ETag` and `If-Match` (RFC 9110, sections 8.8.3 and 13.1.1), so that nobody writes
//! over what somebody else changed meanwhile.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, header};
use vetting_protocol::ids::Sha256Hex;
use vetting_protocol::models::ModelView;
use vetting_protocol::operator_api::HostView;
use warp::reply::Response;

use super::problem::{ApiError, ProblemKind};

/// Digits of a tag.
const TAG_DIGITS: usize = 20;

/// What has versions: all that an edit can change makes one, and nothing else.
pub trait Versioned {
    /// The values.
    fn values(&self) -> Vec<String>;

    /// The tag of this version, in quotes.
    fn tag(&self) -> String {
        let mut text = Vec::new();
        for value in self.values() {
            // with its length, so that no two lists of values run together to the same text
            text.extend_from_slice(&(value.len() as u64).to_le_bytes());
            text.extend_from_slice(value.as_bytes());
        }
        let mut digits = Sha256Hex::of(&text).to_string();
        digits.truncate(TAG_DIGITS);
        format!("\"{digits}\"")
    }
}

impl Versioned for HostView {
    fn values(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            self.mac.to_string(),
            self.wol_broadcast_ip.to_string(),
            self.wol_port.to_string(),
            self.expected_spec_yaml.clone(),
            self.notes.clone(),
            self.serial_console.clone().unwrap_or_default(),
            self.burn_watts.map(|watts| watts.to_string()).unwrap_or_default(),
        ]
    }
}

impl Versioned for ModelView {
    fn values(&self) -> Vec<String> {
        vec![self.name.clone(), self.expected_spec_yaml.clone()]
    }
}

/// The answer, with the tag of what it holds.
pub fn tagged(mut response: Response, of: &impl Versioned) -> Response {
    if let Ok(tag) = HeaderValue::try_from(of.tag()) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

/// The versions that `If-Match` names; absent: any.
pub fn wanted(headers: &HeaderMap) -> Option<Arc<str>> {
    // what cannot be read is no version of anything
    let named: Vec<&str> =
        headers.get_all(header::IF_MATCH).iter().map(|value| value.to_str().unwrap_or_default()).collect();
    (!named.is_empty()).then(|| named.join(",").into())
}

/// Lets a request pass that names no version: what it changes has none.
///
/// # Errors
/// 400: it names one, and would be carried out whatever was changed meanwhile.
pub fn check_unnamed(headers: &HeaderMap) -> Result<(), ApiError> {
    let detail =
        "what this changes has no versions, so `If-Match` would protect nothing; send it without the header";
    wanted(headers).map_or(Ok(()), |_| Err(ApiError::new(ProblemKind::NoVersions, detail)))
}

/// Lets an edit pass that was made on this version, or does not say on which.
///
/// # Errors
/// 412: it was made on another one.
pub fn check(wanted: Option<&str>, current: &impl Versioned) -> Result<(), ApiError> {
    let Some(wanted) = wanted else { return Ok(()) };
    let tag = current.tag();
    // a weak tag is no match (section 8.8.3.2)
    if wanted.split(',').any(|one| matches!(one.trim(), one if one == "*" || one == tag)) {
        return Ok(());
    }
    let detail =
        format!("it was changed meanwhile and has the version {tag} now; read it again and repeat the edit");
    Err(ApiError::new(ProblemKind::OtherVersion, detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(spec: &str) -> ModelView {
        let (created_at, updated_at) = (String::new(), String::new());
        let (name, expected_spec_yaml) = ("r640".to_owned(), spec.to_owned());
        ModelView { name, expected_spec_yaml, hosts: Vec::new(), created_at, updated_at }
    }

    fn passes(model: &ModelView, if_match: &[&str]) -> bool {
        let mut headers = HeaderMap::new();
        for value in if_match {
            headers.append(header::IF_MATCH, value.parse().unwrap());
        }
        check(wanted(&headers).as_deref(), model).is_ok()
    }

    #[test]
    fn an_edit_passes_on_its_own_version_only() {
        let model = model("a");
        let tag = model.tag();
        assert!(passes(&model, &[]));
        assert!(passes(&model, &["*"]));
        assert!(passes(&model, &[&tag]));
        assert!(passes(&model, &[&format!("\"other\", {tag}")]));
        assert!(passes(&model, &["\"other\"", &tag]));
        for wrong in ["\"other\"", "", &format!("W/{tag}"), tag.trim_matches('"')] {
            assert!(!passes(&model, &[wrong]), "{wrong}");
        }
    }

    #[test]
    fn what_cannot_be_edited_makes_no_version() {
        let mut changed = model("a");
        changed.hosts.push("node1".to_owned());
        assert_eq!(changed.tag(), model("a").tag());
        assert_ne!(model("b").tag(), model("a").tag());
    }
}
