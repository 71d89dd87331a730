//! Which path and method of the operator API leads to which handler, and who is let in.

use http::HeaderMap;
use vetting_protocol::ids::{MacAddress, RunId};
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use super::admission::{admitted, operator_route, operator_route_with_body, operator_route_with_query};
use super::problem::answer;
use super::routes::with;
use super::{
    App, enrolment, exchange, host_agent, hosts, housekeeping, models, openapi, operator, power, profiles,
    run_imports, runs, users,
};

/// The operator API.
pub(super) fn operator_routes(app: &App) -> BoxedFilter<(Response,)> {
    host_routes(app)
        .or(identity_routes(app))
        .unify()
        .or(power_routes(app))
        .unify()
        .or(enrolment_routes(app))
        .unify()
        .or(run_routes(app))
        .unify()
        .or(waiver_routes(app))
        .unify()
        .or(model_routes(app))
        .unify()
        .or(profile_routes(app))
        .unify()
        .or(housekeeping_routes(app))
        .unify()
        .or(user_routes(app))
        .unify()
        .or(other_routes(app))
        .unify()
        .boxed()
}

fn user_routes(app: &App) -> BoxedFilter<(Response,)> {
    let all = || warp::path!("api" / "v1" / "users");
    let list = operator_route!(app, all(), get, |app| users::list(app));
    let add = operator_route_with_body!(app, all(), post, |app; body| users::add(app, body));
    let edit = operator_route_with_body!(
        app, warp::path!("api" / "v1" / "users" / String), patch, |app, name; body| {
            users::edit(app, name, body)
        }
    );
    list.or(add).unify().or(edit).unify().boxed()
}

fn host_routes(app: &App) -> BoxedFilter<(Response,)> {
    let list = operator_route_with_query!(
        app, warp::path!("api" / "v1" / "hosts"), get, |app; query: hosts::HostsQuery| {
            hosts::hosts(app, query)
        }
    );
    let add = operator_route_with_body!(app, warp::path!("api" / "v1" / "hosts"), post, |app; body| {
        hosts::add_host(app, body)
    });
    let show = operator_route!(app, warp::path!("api" / "v1" / "hosts" / String), get, |app, name| {
        hosts::host(app, name)
    });
    let edit = operator_route_with_body!(
        app, warp::path!("api" / "v1" / "hosts" / String), patch versioned, |app, name; body| {
            hosts::edit_host(app, name, body)
        }
    );
    let remove = operator_route_with_query!(
        app, warp::path!("api" / "v1" / "hosts" / String), delete versioned, |app, name; query: hosts::RemoveQuery| {
            hosts::remove_host(app, name, query)
        }
    );
    list.or(add)
        .unify()
        .or(show)
        .unify()
        .or(edit)
        .unify()
        .or(remove)
        .unify()
        .or(exchange_routes(app))
        .unify()
        .boxed()
}

fn exchange_routes(app: &App) -> BoxedFilter<(Response,)> {
    let import = operator_route_with_body!(app, warp::path!("api" / "v1" / "host-imports"), post, |app; body| {
        exchange::import_hosts(app, body)
    });
    let samples = operator_route_with_query!(
        app, warp::path!("api" / "v1" / "runs" / RunId / "measurements"), get,
        |app, run; query: exchange::SamplesQuery| exchange::samples(app, run, query)
    );
    let import_run = warp::path!("api" / "v1" / "run-imports")
        .and(warp::post())
        .and(with(app))
        .and(warp::header::headers_cloned())
        .and(warp::query::<run_imports::ImportQuery>())
        .and(warp::body::stream())
        .then(|app: App, headers: HeaderMap, query, body| async move {
            let done = async {
                let app = admitted!(post, app, &headers)?;
                run_imports::import_run(app, query, &headers, body).await
            };
            answer(done.await)
        })
        .boxed();
    import.or(samples).unify().or(import_run).unify().boxed()
}

fn identity_routes(app: &App) -> BoxedFilter<(Response,)> {
    let add = operator_route_with_body!(
        app, warp::path!("api" / "v1" / "hosts" / String / "macs"), post, |app, name; body| {
            enrolment::add_mac(app, name, body)
        }
    );
    let remove = operator_route!(
        app,
        warp::path!("api" / "v1" / "hosts" / String / "macs" / MacAddress),
        delete,
        |app, name, mac| enrolment::remove_mac(app, name, mac)
    );
    let forget = operator_route!(
        app,
        warp::path!("api" / "v1" / "hosts" / String / "identity"),
        delete,
        |app, name| { enrolment::forget_identity(app, name) }
    );
    let agent_token = || warp::path!("api" / "v1" / "hosts" / String / "agent-token");
    let make = operator_route!(app, agent_token(), post, |app, name| host_agent::make_token(app, name));
    let revoke = operator_route!(app, agent_token(), delete, |app, name| host_agent::revoke_token(app, name));
    add.or(remove).unify().or(forget).unify().or(make).unify().or(revoke).unify().boxed()
}

fn power_routes(app: &App) -> BoxedFilter<(Response,)> {
    let show =
        operator_route!(app, warp::path!("api" / "v1" / "hosts" / String / "power"), get, |app, name| {
            power::show(app, name)
        });
    let switch = operator_route!(
        app,
        warp::path!("api" / "v1" / "hosts" / String / "power" / String),
        post,
        |app, name, action| power::switch(app, name, action)
    );
    let bmc = || warp::path!("api" / "v1" / "hosts" / String / "bmc");
    let set = operator_route_with_body!(app, bmc(), put, |app, name; body| power::set_bmc(app, name, body));
    let remove = operator_route!(app, bmc(), delete, |app, name| power::remove_bmc(app, name));
    let media = || warp::path!("api" / "v1" / "hosts" / String / "media");
    let insert =
        operator_route_with_body!(app, media(), put, |app, name; body| power::insert_media(app, name, body));
    let eject = operator_route!(app, media(), delete, |app, name| power::eject_media(app, name));
    let bmc = show.or(switch).unify().or(set).unify().or(remove).unify();
    bmc.or(insert).unify().or(eject).unify().or(pdu_routes(app)).unify().boxed()
}

fn pdu_routes(app: &App) -> BoxedFilter<(Response,)> {
    let pdu = || warp::path!("api" / "v1" / "hosts" / String / "pdu");
    let show = operator_route!(app, pdu(), get, |app, name| power::show_pdu(app, name));
    let set = operator_route_with_body!(app, pdu(), put, |app, name; body| power::set_pdu(app, name, body));
    let remove = operator_route!(app, pdu(), delete, |app, name| power::remove_pdu(app, name));
    let switch = operator_route!(
        app,
        warp::path!("api" / "v1" / "hosts" / String / "pdu" / String),
        post,
        |app, name, action| power::switch_outlet(app, name, action)
    );
    show.or(set).unify().or(remove).unify().or(switch).unify().boxed()
}

fn enrolment_routes(app: &App) -> BoxedFilter<(Response,)> {
    let tokens = || warp::path!("api" / "v1" / "enrolment" / "tokens");
    let list = operator_route!(app, tokens(), get, |app| enrolment::tokens(app));
    let create =
        operator_route_with_body!(app, tokens(), post, |app; body| enrolment::create_token(app, body));
    let revoke =
        operator_route!(app, warp::path!("api" / "v1" / "enrolment" / "tokens" / i64), delete, |app, id| {
            enrolment::revoke_token(app, id)
        });
    let pending = operator_route!(app, warp::path!("api" / "v1" / "enrolment" / "pending"), get, |app| {
        enrolment::pending(app)
    });
    let adopt = operator_route_with_body!(
        app, warp::path!("api" / "v1" / "enrolment" / "pending" / String / "adopt"), post, |app, code; body| {
            enrolment::adopt(app, code, body)
        }
    );
    let reject = operator_route!(
        app,
        warp::path!("api" / "v1" / "enrolment" / "pending" / String / "reject"),
        post,
        |app, code| { enrolment::reject(app, code) }
    );
    list.or(create)
        .unify()
        .or(revoke)
        .unify()
        .or(pending)
        .unify()
        .or(adopt)
        .unify()
        .or(reject)
        .unify()
        .boxed()
}

fn run_routes(app: &App) -> BoxedFilter<(Response,)> {
    let list = operator_route_with_query!(
        app, warp::path!("api" / "v1" / "runs"), get, |app; query: runs::RunsQuery| {
            runs::runs(app, query)
        }
    );
    let start = operator_route_with_body!(app, warp::path!("api" / "v1" / "runs"), post, |app; body| {
        runs::start_run(app, body)
    });
    let show = operator_route!(app, warp::path!("api" / "v1" / "runs" / RunId), get, |app, run| {
        runs::run(app, run)
    });
    let abort =
        operator_route!(app, warp::path!("api" / "v1" / "runs" / RunId / "abort"), post, |app, run| {
            runs::abort_run(app, run)
        });
    let release = operator_route_with_body!(
        app, warp::path!("api" / "v1" / "runs" / RunId / "release"), post, |app, run; body| {
            runs::release_run(app, run, body)
        }
    );
    let retry = operator_route_with_body!(
        app, warp::path!("api" / "v1" / "runs" / RunId / "retry"), post, |app, run; body| {
            runs::retry_stage(app, run, body)
        }
    );
    let resume =
        operator_route!(app, warp::path!("api" / "v1" / "runs" / RunId / "resume"), post, |app, run| {
            runs::resume_run(app, run)
        });
    let artifact = warp::path!("api" / "v1" / "runs" / RunId / "artifacts" / String)
        .and(warp::get())
        .and(with(app))
        .and(warp::header::headers_cloned())
        .then(|run, kind, app: App, headers: HeaderMap| async move {
            answer(
                async {
                    let app = app.viewer(&headers).await?;
                    runs::artifact(app, run, kind, headers).await
                }
                .await,
            )
        })
        .boxed();
    list.or(start)
        .unify()
        .or(show)
        .unify()
        .or(abort)
        .unify()
        .or(release)
        .unify()
        .or(retry)
        .unify()
        .or(resume)
        .unify()
        .or(artifact)
        .unify()
        .boxed()
}

fn model_routes(app: &App) -> BoxedFilter<(Response,)> {
    let all = || warp::path!("api" / "v1" / "models");
    let one = || warp::path!("api" / "v1" / "models" / String);
    let list = operator_route_with_query!(app, all(), get, |app; query: models::ModelsQuery| {
        models::list(app, query)
    });
    let add = operator_route_with_body!(app, all(), post, |app; body| models::add(app, body));
    let show = operator_route!(app, one(), get, |app, name| models::show(app, name));
    let edit = operator_route_with_body!(app, one(), patch versioned, |app, name; body| models::edit(app, name, body));
    let remove = operator_route!(app, one(), delete versioned, |app, name| models::remove(app, name));
    let component = operator_route_with_query!(
        app, warp::path!("api" / "v1" / "components" / String), get, |app, serial; query: models::PlacesQuery| {
            models::component(app, serial, query)
        }
    );
    list.or(add).unify().or(show).unify().or(edit).unify().or(remove).unify().or(component).unify().boxed()
}

fn profile_routes(app: &App) -> BoxedFilter<(Response,)> {
    let list = operator_route!(app, warp::path!("api" / "v1" / "profiles"), get, |app| {
        std::future::ready(Ok(profiles::list(&app)))
    });
    let show = operator_route!(app, warp::path!("api" / "v1" / "profiles" / String), get, |app, name| {
        std::future::ready(profiles::show(&app, String::as_str(&name)))
    });
    list.or(show).unify().boxed()
}

fn waiver_routes(app: &App) -> BoxedFilter<(Response,)> {
    let verdict =
        operator_route!(app, warp::path!("api" / "v1" / "runs" / RunId / "verdict"), get, |app, run| {
            runs::verdict(app, run)
        });
    let waive = operator_route_with_body!(
        app, warp::path!("api" / "v1" / "runs" / RunId / "waivers"), post, |app, run; body| {
            runs::waive(app, run, body)
        }
    );
    let withdraw = operator_route_with_body!(
        app, warp::path!("api" / "v1" / "runs" / RunId / "waivers" / i64 / "withdraw"), post,
        |app, run, number; body| { runs::withdraw_waiver(app, run, number, body) }
    );
    verdict.or(waive).unify().or(withdraw).unify().boxed()
}

fn housekeeping_routes(app: &App) -> BoxedFilter<(Response,)> {
    let sweep = operator_route_with_body!(app, warp::path!("api" / "v1" / "janitor"), post, |app; body| {
        housekeeping::sweep(app, body)
    });
    let list = operator_route_with_query!(
        app, warp::path!("api" / "v1" / "notifications"), get, |app; query: housekeeping::NotificationsQuery| {
            housekeeping::notifications(app, query)
        }
    );
    let retry = operator_route_with_body!(
        app, warp::path!("api" / "v1" / "notifications" / "retry"), post, |app; body| {
            housekeeping::retry(app, body)
        }
    );
    let test = operator_route!(
        app,
        warp::path!("api" / "v1" / "notifications" / String / "test"),
        post,
        |app, receiver| housekeeping::test(app, receiver)
    );
    sweep.or(list).unify().or(retry).unify().or(test).unify().boxed()
}

fn other_routes(app: &App) -> BoxedFilter<(Response,)> {
    let events = operator_route_with_query!(
        app, warp::path!("api" / "v1" / "events"), get, |app; query: operator::EventsQuery| {
            operator::events(app, query)
        }
    );
    let list = operator_route!(app, warp::path!("api" / "v1" / "tokens"), get, |app| operator::tokens(app));
    let create = operator_route_with_body!(app, warp::path!("api" / "v1" / "tokens"), post, |app; body| {
        operator::create_token(app, body)
    });
    let revoke = operator_route!(app, warp::path!("api" / "v1" / "tokens" / i64), delete, |app, id| {
        operator::revoke_token(app, id)
    });
    let netboot = operator_route!(app, warp::path!("api" / "v1" / "netboot"), get, |app| {
        std::future::ready(Ok(operator::netboot(&app)))
    });
    let queue = operator_route!(app, warp::path!("api" / "v1" / "queue"), get, |app| operator::queue(app));
    let description =
        warp::path!("api" / "v1" / "openapi.json").and(warp::get()).map(openapi::document).boxed();
    events
        .or(list)
        .unify()
        .or(queue)
        .unify()
        .or(create)
        .unify()
        .or(revoke)
        .unify()
        .or(netboot)
        .unify()
        .or(description)
        .unify()
        .boxed()
}
