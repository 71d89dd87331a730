//! The web page: reads requests of browsers, looks up the session behind them and gives them to the page they are for.
//! Pages read the database and the driver; what they change goes through the same functions as the operator API's.
//! Every form is checked for its session's token and every change for the role before a page sees it.

mod assets;
mod charts;
mod dashboard;
mod events;
mod host;
mod hosts;
mod layout;
mod live;
mod log;
mod login;
mod models;
mod new_host;
mod orders;
mod output;
mod people;
mod run;
mod runs;
pub mod settings;
mod spec;
mod start;
mod tokens;
mod visitor;

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use tokio::sync::Semaphore;
use vetting_protocol::ids::RunId;
use vetting_protocol::secret::Secret;
use warp::filters::BoxedFilter;
use warp::path::FullPath;
use warp::reply::{Reply, Response};
use warp::{Filter, Rejection};

use super::listener::Connection;
use super::problem::{ApiError, ProblemKind};
use super::{App, body};
use crate::config::{Config, ProxyLogin};
use visitor::Admission;

/// Largest form, bytes: a spec is the longest thing in one.
const MAX_FORM_BYTES: u64 = 1024 * 1024;
/// Pages that are followed live at a time; further ones are not, but can be read.
const MOST_STREAMS: usize = 128;

/// What the web page has besides the rest of the coordinator.
pub struct Parts {
    proxy_login: Option<ProxyLogin>,
    streams: std::sync::Arc<Semaphore>,
    charts: charts::Cache,
    settings: Vec<settings::Setting>,
}

impl Parts {
    /// As the configuration says.
    pub fn new(config: &Config) -> Self {
        Self {
            proxy_login: config.web.proxy_login.clone(),
            streams: std::sync::Arc::new(Semaphore::new(MOST_STREAMS)),
            charts: charts::Cache::default(),
            settings: settings::told(config),
        }
    }
}

/// What a browser asks for.
pub(super) struct Request {
    app: App,
    path: String,
    query: Form,
    raw_query: String,
    headers: HeaderMap,
    connection: Connection,
}

impl Request {
    fn path_and_query(&self) -> String {
        if self.raw_query.is_empty() {
            self.path.clone()
        } else {
            format!("{}?{}", self.path, self.raw_query)
        }
    }
}

/// The fields of a form or of a query string.
#[derive(Debug, Default)]
pub(super) struct Form(Vec<(String, String)>);

impl Form {
    fn parse(text: &[u8]) -> Result<Self, ApiError> {
        serde_urlencoded::from_bytes(text).map(Self).map_err(|error| {
            ApiError::new(ProblemKind::Malformed, format!("the form cannot be read: {error}"))
        })
    }

    /// A field; the first of its name.
    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A field that must be there.
    fn require(&self, name: &str) -> Result<&str, ApiError> {
        self.get(name)
            .ok_or_else(|| ApiError::new(ProblemKind::Malformed, format!("the form has no field `{name}`")))
    }

    /// A field that must be there and be one of its words.
    fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(&self, name: &str) -> Result<T, ApiError> {
        self.require(name)?
            .parse()
            .map_err(|error| ApiError::new(ProblemKind::Malformed, format!("{name}: {error}")))
    }

    fn secret(&self, name: &str) -> Secret {
        Secret::new(self.get(name).unwrap_or_default().to_owned())
    }
}

/// First segments of the paths that are pages.
const OURS: [&str; 11] =
    ["", "hosts", "new-host", "runs", "models", "events", "settings", "login", "logout", "assets", "live"];
/// First segments that programs ask for: they get problem documents.
const OF_PROGRAMS: [&str; 4] = ["api", "agent", "boot", "healthz"];

/// Every page. To be asked after all other routes.
pub(super) fn routes(app: &App) -> BoxedFilter<(Response,)> {
    let app = app.clone();
    warp::method()
        .and(warp::path::full())
        .and(warp::query::raw().or(warp::any().map(String::new)).unify())
        .and(warp::header::headers_cloned())
        .and(warp::ext::get::<Connection>())
        .and(warp::body::stream())
        .and_then(
            move |method: Method, path: FullPath, raw_query: String, headers: HeaderMap, connection, body| {
                let app = app.clone();
                async move {
                    let path = path.as_str().to_owned();
                    if !is_for_browsers(&path, &headers) {
                        return Err(warp::reject::not_found());
                    }
                    let query = Form::parse(raw_query.as_bytes()).unwrap_or_default();
                    let request = Request { app, path, query, raw_query, headers, connection };
                    let outcome = match method {
                        Method::GET | Method::HEAD => get(&request).await,
                        Method::POST => match body::read(body, MAX_FORM_BYTES).await {
                            Ok(bytes) => post(&request, &bytes).await,
                            Err(error) => Err(error),
                        },
                        _ => Err(ApiError::new(ProblemKind::MethodNotAllowed, "pages know GET and POST")),
                    };
                    Ok::<_, Rejection>(layout::secured(
                        outcome.unwrap_or_else(|error| layout::error_page(&error)),
                    ))
                }
            },
        )
        .boxed()
}

fn is_for_browsers(path: &str, headers: &HeaderMap) -> bool {
    let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    let wants_html = || {
        headers
            .get(header::ACCEPT)
            .and_then(|value| value.to_str().ok())
            .is_some_and(|text| text.contains("text/html"))
    };
    OURS.contains(&first) || (!OF_PROGRAMS.contains(&first) && wants_html())
}

fn segments(path: &str) -> Vec<&str> {
    path.split('/').filter(|segment| !segment.is_empty()).collect()
}

fn no_page() -> ApiError {
    ApiError::not_found("there is no such page")
}

fn run_id(text: &str) -> Result<RunId, ApiError> {
    text.parse().map_err(|_| no_page())
}

async fn get(request: &Request) -> Result<Response, ApiError> {
    let segments = segments(&request.path);
    match segments.as_slice() {
        ["assets", _, name] => return assets::serve(name),
        ["login"] => return Ok(login::page(request)),
        ["logout"] => return Ok(login::log_out_page()),
        _ => {}
    }
    let visitor = match visitor::admit(request).await? {
        Admission::Visitor(visitor) => *visitor,
        Admission::Answer(answer) => return Ok(answer),
    };
    let query = &request.query;
    match segments.as_slice() {
        [] => dashboard::page(&visitor, query).await,
        ["hosts"] => hosts::page(&visitor, query).await,
        ["new-host"] => new_host::page(&visitor, query).await,
        ["hosts", name] => host::page(&visitor, name).await,
        ["hosts", name, "spec"] => spec::page(&visitor, name).await,
        ["hosts", name, "start"] => start::page(&visitor, name).await,
        ["runs"] => runs::page(&visitor, query).await,
        ["runs", run] => run::page(&visitor, run_id(run)?).await,
        ["runs", run, "report"] => runs::report(&visitor, run_id(run)?, &request.headers).await,
        ["runs", run, "files", kind] => {
            runs::file(&visitor, run_id(run)?, kind, None, &request.headers).await
        }
        ["runs", run, "files", kind, name] => {
            runs::file(&visitor, run_id(run)?, kind, Some(name), &request.headers).await
        }
        ["runs", run, "output", name] => output::page(&visitor, run_id(run)?, name).await,
        ["runs", run, order] => orders::page(&visitor, run_id(run)?, order, query).await,
        ["models"] => models::page(&visitor).await,
        ["models", "compare"] => models::comparison(&visitor, query.require("model")?).await,
        ["events"] => events::page(&visitor, query).await,
        ["settings"] => settings::page(&visitor).await,
        ["settings", "password"] => Ok(people::password_page(&visitor, None)),
        ["settings", "users", "new"] => people::new_page(&visitor),
        ["settings", "users", name, order] => people::order_page(&visitor, name, order),
        ["settings", "tokens", "new"] => tokens::new_page(&visitor),
        ["settings", "tokens", id, "revoke"] => tokens::revoke_page(&visitor, id).await,
        ["live", rest @ ..] => live::stream(visitor, rest, query),
        _ => Err(no_page()),
    }
}

async fn post(request: &Request, bytes: &[u8]) -> Result<Response, ApiError> {
    let form = Form::parse(bytes)?;
    let segments = segments(&request.path);
    if segments == ["login"] {
        return login::log_in(request, &form).await;
    }
    visitor::check_origin(&request.headers)?;
    let visitor = match visitor::admit(request).await? {
        Admission::Visitor(visitor) => *visitor,
        Admission::Answer(answer) => return Ok(answer),
    };
    visitor.check_csrf(form.get("csrf").unwrap_or_default())?;
    if segments == ["logout"] {
        return login::log_out(&visitor).await;
    }
    if segments == ["settings", "password"] {
        return people::set_password(&visitor, request.connection.remote.ip(), &form).await;
    }
    visitor.app.require_operator()?;
    match segments.as_slice() {
        ["new-host"] => new_host::save(&visitor, &form).await,
        ["hosts", name, "spec"] => spec::save(&visitor, name, &form).await,
        ["hosts", name, "start"] => start::start(&visitor, name, &form).await,
        ["settings", "users", "new"] => people::add(&visitor, &form).await,
        ["settings", "users", name, order] => people::carry_out(&visitor, name, order).await,
        ["settings", "tokens", "new"] => tokens::make(&visitor, &form).await,
        ["settings", "tokens", id, "revoke"] => tokens::revoke(&visitor, id).await,
        ["runs", run, order] => orders::carry_out(&visitor, run_id(run)?, order, &form).await,
        _ => Err(no_page()),
    }
}

/// To another page, with GET.
fn see_other(path: &str) -> Response {
    match HeaderValue::from_str(path) {
        Ok(path) => warp::reply::with_header(StatusCode::SEE_OTHER, header::LOCATION, path).into_response(),
        Err(error) => ApiError::internal(&error).into_response(),
    }
}
