//! Who looks at a page: the session behind the cookie, the word of a reverse proxy, and the proof that a form is ours.

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderValue, header};
use ring::hmac;
use vetting_protocol::secret::Secret;
use vetting_protocol::users::Role;
use warp::reply::{Reply, Response};

use super::Request;
use crate::accounts::{LoggedIn, LoginError};
use crate::http::problem::{ApiError, ProblemKind};
use crate::http::{App, Caller};
use crate::store::user_sessions::LoginWay;

/// `__Host-`: browsers take it only over TLS, for this host and every path.
const COOKIE: &str = "__Host-vetting";

/// Somebody who is logged in.
#[derive(Clone)]
pub(super) struct Visitor {
    /// What follows is done in their name.
    pub app: App,
    name: String,
    role: Role,
    cookie: Secret,
}

/// What becomes of a request.
pub(super) enum Admission {
    /// It is somebody's.
    Visitor(Box<Visitor>),
    /// It is answered with this.
    Answer(Response),
}

impl Visitor {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn role(&self) -> Role {
        self.role
    }

    /// Whether to show what changes things.
    pub(super) fn is_operator(&self) -> bool {
        self.role == Role::Operator
    }

    /// Proves that a form was made for this session: nobody else can compute it.
    pub(super) fn csrf(&self) -> String {
        URL_SAFE_NO_PAD.encode(hmac::sign(&csrf_key(&self.cookie), CSRF_LABEL))
    }

    /// Refuses a form that was not made for this session.
    pub(super) fn check_csrf(&self, sent: &str) -> Result<(), ApiError> {
        let sent = URL_SAFE_NO_PAD.decode(sent).unwrap_or_default();
        hmac::verify(&csrf_key(&self.cookie), CSRF_LABEL, &sent).map_err(|_| foreign_form())
    }

    /// Ends the session.
    pub(super) async fn log_out(&self) -> Result<(), ApiError> {
        Ok(self.app.accounts.log_out(&self.cookie, &self.name).await?)
    }

    /// Whether the session is still good: a page may be open for days, which is no use of it.
    pub(super) async fn is_still_in(&self) -> bool {
        matches!(self.app.accounts.session_unused(&self.cookie).await, Ok(Some(_)))
    }
}

const CSRF_LABEL: &[u8] = b"vetting web form";

fn csrf_key(cookie: &Secret) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, cookie.expose().as_bytes())
}

fn foreign_form() -> ApiError {
    ApiError::new(
        ProblemKind::ForeignForm,
        "the form is not of this session; go back, load the page anew and try again",
    )
}

/// Refuses a form that another site had the browser send. Browsers say where it comes from; who says nothing is no
/// browser, and has no cookie to be abused.
pub(super) fn check_origin(headers: &HeaderMap) -> Result<(), ApiError> {
    let text = |name: header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(site) = headers.get("sec-fetch-site") {
        return if site == "same-origin" { Ok(()) } else { Err(foreign_form()) };
    }
    match (headers.get(header::ORIGIN), text(header::HOST)) {
        (None, _) => Ok(()),
        (Some(origin), Some(host)) if origin == format!("https://{host}").as_str() => Ok(()),
        (Some(_), _) => Err(foreign_form()),
    }
}

/// The session's secret, where the browser sent one.
fn cookie(headers: &HeaderMap) -> Option<Secret> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, _)| *name == COOKIE)
        .map(|(_, value)| Secret::new(value.to_owned()))
}

/// The user that a reverse proxy says this is; only where one is configured and the request comes from it.
fn named_by_proxy(request: &Request) -> Option<String> {
    let proxy = request.app.web.proxy_login.as_ref()?;
    if !proxy.from.contains(&canonical(request.connection.remote.ip())) {
        return None;
    }
    let mut values = request.headers.get_all(proxy.header.as_str()).iter();
    // two of them, and it is not clear whose word they are
    match (values.next(), values.next()) {
        (Some(name), None) => name.to_str().ok().filter(|name| !name.is_empty()).map(str::to_owned),
        _ => None,
    }
}

fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// Who sent a request, or what to answer in place of what was asked for.
pub(super) async fn admit(request: &Request) -> Result<Admission, ApiError> {
    let named = named_by_proxy(request);
    if let Some(cookie) = cookie(&request.headers)
        && let Some(session) = request.app.accounts.session(&cookie).await?
        && match session.way {
            LoginWay::Proxy => named.as_ref() == Some(&session.user.name),
            LoginWay::Password => named.is_none() || named.as_ref() == Some(&session.user.name),
        }
    {
        let (name, role) = (session.user.name, session.user.role);
        let caller = Caller { name: name.clone().into(), role };
        let app = App { caller: Some(caller), ..request.app.clone() };
        return Ok(Admission::Visitor(Box::new(Visitor { app, name, role, cookie })));
    }
    let here = request.path_and_query();
    if let Some(name) = named {
        let address = request.connection.remote.ip();
        let logged_in = request.app.accounts.log_in_by_proxy(&name, address).await?;
        return Ok(Admission::Answer(begin(&request.app, &logged_in, &here)));
    }
    if request.headers.get("sec-fetch-site").is_some_and(|site| site == "cross-site") {
        return Ok(Admission::Answer(super::login::once_more(&here)));
    }
    let login = format!("/login?{}", serde_urlencoded::to_string([("next", here)]).unwrap_or_default());
    Ok(Admission::Answer(super::see_other(&login)))
}

/// Gives the browser its cookie and sends it on.
pub(super) fn begin(app: &App, logged_in: &LoggedIn, next: &str) -> Response {
    let seconds = app.accounts.lifetime_ms() / 1_000;
    let text = format!(
        "{COOKIE}={}; Path=/; Max-Age={seconds}; Secure; HttpOnly; SameSite=Strict",
        logged_in.session.expose()
    );
    with_cookie(super::see_other(next), &text)
}

/// Takes the cookie back.
pub(super) fn end() -> Response {
    with_cookie(
        super::see_other("/login"),
        &format!("{COOKIE}=; Path=/; Max-Age=0; Secure; HttpOnly; SameSite=Strict"),
    )
}

fn with_cookie(response: Response, text: &str) -> Response {
    match HeaderValue::from_str(text) {
        Ok(mut value) => {
            value.set_sensitive(true);
            warp::reply::with_header(response, header::SET_COOKIE, value).into_response()
        }
        Err(error) => ApiError::internal(&error).into_response(),
    }
}

impl From<LoginError> for ApiError {
    fn from(error: LoginError) -> Self {
        match error {
            LoginError::Refused => Self::new(ProblemKind::LoginRefused, error.to_string()),
            LoginError::TooMany => Self::new(ProblemKind::TooMany, error.to_string()),
            LoginError::Run(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_form_of_another_site_is_refused() {
        let of = |pairs: &[(&'static str, &'static str)]| check_origin(&headers(pairs)).is_ok();
        assert!(of(&[("sec-fetch-site", "same-origin")]));
        for site in ["cross-site", "same-site", "none", ""] {
            assert!(!of(&[("sec-fetch-site", site)]), "{site}");
        }
        assert!(of(&[]), "no browser");
        assert!(of(&[("origin", "https://lab:8443"), ("host", "lab:8443")]));
        for origin in ["https://evil.example", "null", "http://lab:8443", "https://lab:8443.evil.example"] {
            assert!(!of(&[("origin", origin), ("host", "lab:8443")]), "{origin}");
        }
        assert!(!of(&[("origin", "https://lab:8443")]));
    }

    #[test]
    fn the_cookie_is_found_among_others() {
        let of = |text| cookie(&headers(&[("cookie", text)])).map(|secret| secret.expose().to_owned());
        assert_eq!(of("a=b; __Host-vetting=x=y; c=d").as_deref(), Some("x=y"));
        assert_eq!(of("vetting=x; x__Host-vetting=y"), None);
        assert_eq!(cookie(&HeaderMap::new()).map(|_| ()), None);
    }
}
