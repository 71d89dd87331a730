//! Which path and method leads to which handler.

use std::convert::Infallible;

use http::{Method, StatusCode, header};
use vetting_protocol::ids::RunId;
use warp::filters::BoxedFilter;
use warp::path::{FullPath, Tail};
use warp::reply::{Reply, Response};
use warp::{Filter, Rejection};

use super::agent::{self, AgentRequest};
use super::listener::Connection;
use super::operator_routes::operator_routes;
use super::problem::{answer, recover};
use super::{App, boot, enrolment, host_agent, metrics, openapi, web};
use crate::metrics::Listener;
use crate::netboot::files::GRUB_CONFIG;
use crate::netboot::script::Language;

/// Gives the handler what it works with.
pub(super) fn with(app: &App) -> impl Filter<Extract = (App,), Error = Infallible> + Clone + use<> {
    let app = app.clone();
    warp::any().map(move || app.clone())
}

fn connection() -> impl Filter<Extract = (Connection,), Error = Rejection> + Clone {
    warp::ext::get::<Connection>()
}

/// The agent API, the operator API, what watches the coordinator, and the web page, for the TLS listener.
pub fn https_routes(app: &App) -> BoxedFilter<(Response,)> {
    let watched = watch_routes(app, Listener::Https);
    let programs = watched.or(agent_routes(app)).unify().or(operator_routes(app)).unify();
    finish(programs.or(web::routes(app)).unify().boxed())
}

/// The boot endpoints and what watches the coordinator, for the plain listener.
pub fn http_routes(app: &App) -> BoxedFilter<(Response,)> {
    finish(watch_routes(app, Listener::Http).or(boot_routes(app)).unify().boxed())
}

fn finish(routes: BoxedFilter<(Response,)>) -> BoxedFilter<(Response,)> {
    routes
        .recover(|rejection: Rejection| std::future::ready(Ok::<_, Infallible>(recover(&rejection))))
        .unify()
        .and(warp::path::full())
        .map(|mut response: Response, path: FullPath| {
            if response.status() == StatusCode::METHOD_NOT_ALLOWED
                && let Some(methods) = openapi::allow(path.as_str())
            {
                response.headers_mut().insert(header::ALLOW, methods);
            }
            response
        })
        .boxed()
}

/// What those ask who watch the coordinator itself; on both listeners.
fn watch_routes(app: &App, listener: Listener) -> BoxedFilter<(Response,)> {
    let health = warp::path!("healthz").and(warp::get()).map(|| "ok\n".into_response());
    let ready = warp::path!("readyz")
        .and(warp::get())
        .and(with(app))
        .then(|app| async move { answer(metrics::ready(app).await) });
    let metrics = warp::path!("metrics")
        .and(warp::get())
        .and(with(app))
        .and(connection())
        .and(warp::header::headers_cloned())
        .then(move |app, connection, headers| async move {
            answer(metrics::metrics(app, listener, connection, headers).await)
        });
    health.or(ready).unify().or(metrics).unify().boxed()
}

fn boot_routes(app: &App) -> BoxedFilter<(Response,)> {
    let ipxe = warp::path!("boot" / "ipxe").map(|| Language::Ipxe);
    let grub = warp::path!("boot" / "grub").map(|| Language::Grub);
    let script = ipxe
        .or(grub)
        .unify()
        // GRUB asks for the length of everything first when it came by UEFI HTTP Boot
        .and(warp::get().or(warp::head()).unify())
        .and(with(app))
        .and(connection())
        .and(warp::header::optional::<String>("host"))
        .and(warp::query::<boot::BootQuery>())
        .then(|language, app, connection, host: Option<String>, query| async move {
            answer(boot::script(app, language, connection, host, query).await)
        });
    let file = warp::path!("boot" / "files" / String)
        .and(warp::get().map(|| Method::GET).or(warp::head().map(|| Method::HEAD)).unify())
        .and(with(app))
        .and(warp::header::headers_cloned())
        .and(warp::query::<boot::BootQuery>())
        .then(|name, method, app, headers, query| async move {
            answer(boot::file(app, name, method, headers, query).await)
        });
    let loader = warp::path!("boot" / "netboot" / ..)
        .and(warp::path::tail())
        .and(warp::get().or(warp::head()).unify())
        .and(with(app))
        .and(connection())
        .and(warp::header::optional::<String>("host"))
        .then(|name: Tail, app, connection, host: Option<String>| async move {
            answer(boot::loader(app, connection, host, name.as_str()).await)
        });
    // GRUB looks for it at the top, wherever it was loaded from itself
    let grub_config = warp::path!("grub" / "grub.cfg")
        .and(warp::get().or(warp::head()).unify())
        .and(with(app))
        .and(connection())
        .and(warp::header::optional::<String>("host"))
        .then(|app, connection, host: Option<String>| async move {
            answer(boot::loader(app, connection, host, GRUB_CONFIG).await)
        });
    script.or(file).unify().or(loader).unify().or(grub_config).unify().boxed()
}

fn agent_routes(app: &App) -> BoxedFilter<(Response,)> {
    let request = || {
        warp::header::headers_cloned()
            .and(connection())
            .and(warp::body::stream())
            .map(|headers, connection, body| AgentRequest { headers, connection, body })
    };
    let claim = warp::path!("agent" / "v1" / "claim")
        .and(warp::post())
        .and(with(app))
        .and(request())
        .then(|app, request| async move { answer(agent::claim(app, request).await) });
    let batch = warp::path!("agent" / "v1" / "runs" / RunId / "batches")
        .and(warp::post())
        .and(with(app))
        .and(request())
        .then(|run, app, request| async move { answer(agent::batch(app, run, request).await) });
    let heartbeat = warp::path!("agent" / "v1" / "runs" / RunId / "heartbeat")
        .and(warp::post())
        .and(with(app))
        .and(request())
        .then(|run, app, request| async move { answer(agent::heartbeat(app, run, request).await) });
    let crash = warp::path!("agent" / "v1" / "runs" / RunId / "crash")
        .and(warp::post())
        .and(with(app))
        .and(request())
        .then(|run, app, request| async move { answer(agent::crash(app, run, request).await) });
    let hold = warp::path!("agent" / "v1" / "runs" / RunId / "hold")
        .and(warp::post())
        .and(with(app))
        .and(request())
        .then(|run, app, request| async move { answer(agent::hold(app, run, request).await) });
    let plan = warp::path!("agent" / "v1" / "runs" / RunId / "plan")
        .and(warp::post())
        .and(with(app))
        .and(request())
        .then(|run, app, request| async move { answer(agent::plan(app, run, request).await) });
    let artifact = warp::path!("agent" / "v1" / "runs" / RunId / "artifacts" / String / String)
        .and(warp::put())
        .and(with(app))
        .and(request())
        .then(|run, kind, name, app, request| async move {
            answer(agent::artifact(app, run, kind, name, request).await)
        });
    let network_test = warp::path!("agent" / "v1" / "runs" / RunId / "network-test")
        .and(warp::post())
        .and(with(app))
        .and(request())
        .then(|run, app, request| async move { answer(agent::network_test(app, run, request).await) });
    let enrol = warp::path!("agent" / "v1" / "enrol")
        .and(warp::post())
        .and(with(app))
        .and(request())
        .then(|app, request| async move { answer(enrolment::enrol(app, request).await) });
    let host_heartbeat = warp::path!("agent" / "v1" / "host" / "heartbeat")
        .and(warp::post())
        .and(with(app))
        .and(request())
        .then(|app, request| async move { answer(host_agent::heartbeat(app, request).await) });
    let host_inventory = warp::path!("agent" / "v1" / "host" / "inventory")
        .and(warp::put())
        .and(with(app))
        .and(request())
        .then(|app, request| async move { answer(host_agent::inventory(app, request).await) });
    claim
        .boxed()
        .or(enrol.boxed())
        .unify()
        .or(host_heartbeat.boxed())
        .unify()
        .or(host_inventory.boxed())
        .unify()
        .or(batch.boxed())
        .unify()
        .or(heartbeat.boxed())
        .unify()
        .or(crash.boxed())
        .unify()
        .or(hold.boxed())
        .unify()
        .or(plan.boxed())
        .unify()
        .or(artifact.boxed())
        .unify()
        .or(network_test.boxed())
        .unify()
        .boxed()
}
