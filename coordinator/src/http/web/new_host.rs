//! Registering a machine, and ordering its first run with it. Every field is checked as the API checks it, and what is
//! wrong is told beside the field; nothing is saved before all of them are right.

use http::StatusCode;
use maud::{Markup, html};
use vetting_judge::profile::Registry;
use vetting_judge::yaml::Mistake;
use vetting_protocol::operator_api::{HostCreate, RunCreate};
use vetting_protocol::profile::ProfileName;
use vetting_protocol::run::RunPlace;
use warp::reply::{Reply, Response};

use super::layout::{Place, csrf_field, page as whole_page};
use super::visitor::Visitor;
use super::{Form, see_other, spec, start};
use crate::http::hosts::{check_mac, check_name, create_host};
use crate::http::problem::{ApiError, ProblemKind};
use crate::run::specs;
use crate::store::{StoreError, hosts, models};

/// What was typed.
struct Typed {
    name: String,
    mac: String,
    model: String,
    spec: String,
    notes: String,
    first_run: String,
}

/// What is wrong with it.
#[derive(Default)]
struct Wrong {
    name: Option<String>,
    mac: Option<String>,
    model: Option<String>,
    spec: Option<Mistake>,
    first_run: Option<String>,
    /// Of no field.
    whole: Option<String>,
}

impl Wrong {
    fn is_anything(&self) -> bool {
        let Self { name, mac, model, spec, first_run, whole } = self;
        [name, mac, model, first_run, whole].into_iter().any(Option::is_some) || spec.is_some()
    }
}

impl Typed {
    fn of(form: &Form) -> Self {
        let field = |name: &str| form.get(name).unwrap_or_default().trim().to_owned();
        Self {
            name: field("name"),
            mac: field("mac"),
            model: field("model"),
            spec: form.get("spec").unwrap_or_default().replace("\r\n", "\n"),
            notes: form.get("notes").unwrap_or_default().trim().replace("\r\n", "\n"),
            first_run: field("first_run"),
        }
    }

    /// The spec as it is stored: the model's name is its first line.
    fn yaml(&self) -> String {
        if self.model.is_empty() {
            self.spec.clone()
        } else {
            format!("model: {:?}\n{}", self.model, self.spec)
        }
    }

    /// `None`: none is ordered.
    fn profile(&self) -> Result<Option<ProfileName>, String> {
        match self.first_run.as_str() {
            "" | "none" => Ok(None),
            word => word.parse().map(Some).map_err(|error| format!("{error}")),
        }
    }
}

/// Model names, and who has the name and the MAC address.
async fn look(visitor: &Visitor, typed: &Typed) -> Result<(Vec<String>, Wrong), ApiError> {
    let (name, mac) = (typed.name.clone(), check_mac(&typed.mac).ok());
    let read = visitor.app.driver.store.read(move |connection| {
        let names: Vec<String> = models::list(connection)?.into_iter().map(|model| model.name).collect();
        let namesake = hosts::by_name(connection, &name)?;
        let owner = mac.map(|mac| hosts::by_mac(connection, mac)).transpose()?.flatten();
        let taken = Wrong {
            name: namesake.map(|host| format!("a host named {} exists already", host.name)),
            mac: owner.map(|host| format!("host {} has that address already", host.name)),
            ..Wrong::default()
        };
        Ok::<_, StoreError>((names, taken))
    });
    Ok(read.await?)
}

/// `taken` with what else is wrong.
fn check(profiles: &Registry, typed: &Typed, models: &[String], taken: Wrong) -> Wrong {
    let told = |checked: Result<(), ApiError>| checked.err().map(|error| error.detail);
    let is_known = typed.model.is_empty() || models.contains(&typed.model);
    let mistake = specs::check(profiles, &typed.yaml()).err().map(|error| error.mistake);
    Wrong {
        name: told(check_name(&typed.name)).or(taken.name),
        mac: told(check_mac(&typed.mac).map(drop)).or(taken.mac),
        model: (!is_known).then(|| format!("there is no model {} any more", typed.model)),
        // the line of the model is not among those that were typed
        spec: mistake.map(|mistake| Mistake {
            line: mistake.line.saturating_sub(usize::from(!typed.model.is_empty())).max(1),
            ..mistake
        }),
        first_run: typed.profile().err(),
        whole: taken.whole,
    }
}

/// `GET /new-host`; `?name=…&mac=…` is typed already.
pub(super) async fn page(visitor: &Visitor, query: &Form) -> Result<Response, ApiError> {
    visitor.app.require_operator()?;
    let typed = Typed::of(query);
    let (models, _) = look(visitor, &typed).await?;
    Ok(form(visitor, &typed, &models, &Wrong::default()))
}

/// `POST /new-host`.
pub(super) async fn save(visitor: &Visitor, sent: &Form) -> Result<Response, ApiError> {
    let typed = Typed::of(sent);
    let (models, taken) = look(visitor, &typed).await?;
    let wrong = check(&visitor.app.driver.profiles, &typed, &models, taken);
    let again = |wrong: &Wrong| {
        let page = form(visitor, &typed, &models, wrong);
        warp::reply::with_status(page, StatusCode::UNPROCESSABLE_ENTITY).into_response()
    };
    if wrong.is_anything() {
        return Ok(again(&wrong));
    }
    let new = HostCreate {
        name: typed.name.clone(),
        mac: typed.mac.clone(),
        wol_broadcast_ip: None,
        wol_port: None,
        expected_spec_yaml: typed.yaml(),
        notes: typed.notes.clone(),
        serial_console: None,
    };
    match create_host(&visitor.app, new).await {
        Ok(_) => {}
        // somebody was quicker
        Err(error) if error.kind == ProblemKind::Taken => {
            return Ok(again(&Wrong { whole: Some(error.detail), ..Wrong::default() }));
        }
        Err(error) => return Err(error),
    }
    match typed.profile() {
        Ok(Some(profile)) => first_run(visitor, &typed.name, profile).await,
        Ok(None) | Err(_) => Ok(see_other(&format!("/hosts/{}", typed.name))),
    }
}

/// Orders a run that writes to empty disks only; for anything else there is the page of the machine.
async fn first_run(visitor: &Visitor, name: &str, profile: ProfileName) -> Result<Response, ApiError> {
    let order = RunCreate {
        host: name.to_owned(),
        profile,
        non_destructive: false,
        wipe: false,
        erase: false,
        place: RunPlace::LiveImage,
        after_pass: None,
        after_fail: None,
    };
    let app = &visitor.app;
    let ordered =
        app.driver.start_run(order, app.order(None, "ordered the run")).await.map_err(ApiError::from);
    let run = ordered.map_err(|error| {
        let detail = format!("{name} was added, but its run was not ordered: {}", error.detail);
        ApiError::new(error.kind, detail)
    })?;
    Ok(see_other(&format!("/runs/{run}")))
}

/// A mistake, to stand below its field.
fn told(id: &str, mistake: Option<&String>) -> Markup {
    html! { @if let Some(mistake) = mistake { p.wrong id=(id) { (mistake) } } }
}

/// Ties a field to its mistake.
fn described<'a>(id: &'a str, mistake: Option<&String>) -> Option<&'a str> {
    mistake.map(|_| id)
}

fn form(visitor: &Visitor, typed: &Typed, models: &[String], wrong: &Wrong) -> Response {
    let body = html! {
        section.narrow {
            h1 { "Add a host" }
            @if wrong.is_anything() { p.wrong role="alert" { strong { "Not saved. " } (wrong.whole.as_deref().unwrap_or("What is wrong stands below each field.")) } }
            form.stacked method="post" action="/new-host" {
                (csrf_field(visitor))
                label { "Name, as on its label or in your inventory"
                    input type="text" name="name" value=(typed.name) required maxlength="63" placeholder="rack1-u07" autocomplete="off"
                        autocapitalize="none" spellcheck="false" aria-describedby=[described("wrong-name", wrong.name.as_ref())]
                        aria-invalid=[wrong.name.as_ref().map(|_| "true")] autofocus[wrong.name.is_some()]; }
                (told("wrong-name", wrong.name.as_ref()))
                label { "MAC address of the card that it boots from"
                    input.code type="text" name="mac" value=(typed.mac) required placeholder="3c:ec:ef:12:34:56" autocomplete="off"
                        autocapitalize="none" spellcheck="false" aria-describedby=[described("wrong-mac", wrong.mac.as_ref())]
                        aria-invalid=[wrong.mac.as_ref().map(|_| "true")] autofocus[wrong.mac.is_some() && wrong.name.is_none()]; }
                (told("wrong-mac", wrong.mac.as_ref()))
                (ordered(typed, models, wrong))
                label { "Notes" textarea name="notes" rows="2" { "\n" (typed.notes) } }
                (first_runs(typed, wrong))
                p.buttons {
                    button.go type="submit" { "Add the host" }
                    a.button href="/hosts" { "Leave it" }
                }
            }
        }
    };
    whole_page(visitor, Place::Hosts, "Add a host", None, &body)
}

/// What it should be: a model, a spec of its own, or both.
fn ordered(typed: &Typed, models: &[String], wrong: &Wrong) -> Markup {
    let rows = typed.spec.lines().count().clamp(8, 30);
    html! {
        fieldset {
            legend { "What was ordered" }
            @if !models.is_empty() {
                label { "Model, whose spec it takes"
                    select name="model" aria-describedby=[described("wrong-model", wrong.model.as_ref())] {
                        option value="" { "none" }
                        @for model in models { option value=(model) selected[*model == typed.model] { (model) } }
                    }
                }
            }
            (told("wrong-model", wrong.model.as_ref()))
            label { @if models.is_empty() { "Expected spec, YAML" } @else { "What is different from the model, or all of it; YAML" }
                textarea.code name="spec" rows=(rows) spellcheck="false" autocapitalize="none" placeholder="memory:\n  total_gib: 256"
                    data-line=[wrong.spec.as_ref().map(|mistake| mistake.line)]
                    data-column=[wrong.spec.as_ref().map(|mistake| mistake.column)] { "\n" (typed.spec) }
            }
            @if let Some(mistake) = &wrong.spec { (spec::told(mistake, &typed.spec)) }
            p.note { "Every key is in docs/configuration.md; " code { "vetting-agent inventory --spec" } " on a machine you trust writes one." }
        }
    }
}

fn first_runs(typed: &Typed, wrong: &Wrong) -> Markup {
    let is_chosen = |word: &str| typed.first_run == word;
    let is_none = typed.profile().is_ok_and(|profile| profile.is_none());
    html! {
        fieldset {
            legend { "Its first run" }
            label.check { input type="radio" name="first_run" value="none" checked[is_none]; "none yet" }
            @for profile in ProfileName::ALL {
                label.check { input type="radio" name="first_run" value=(profile) checked[is_chosen(profile.as_str())]; (start::profile_words(*profile)) }
            }
            p.note { "It is woken and booted from the network, and only empty disks are written to. More can be chosen on its page." }
            (told("wrong-run", wrong.first_run.as_ref()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(model: &str, spec: &str) -> Typed {
        let text = |text: &str| text.to_owned();
        Typed {
            name: text("node1"),
            mac: text("52-54-00-AB-CD-01"),
            model: text(model),
            spec: text(spec),
            notes: String::new(),
            first_run: text("none"),
        }
    }

    #[test]
    fn a_model_is_enough_and_a_mistake_below_it_keeps_its_line() {
        let (profiles, models) = (Registry::builtin().unwrap(), ["123".to_owned()]);
        for (model, spec) in
            [("123", ""), ("123", "memory: {total_gib: 1}\n"), ("", "memory: {total_gib: 1}\n")]
        {
            assert!(
                !check(&profiles, &typed(model, spec), &models, Wrong::default()).is_anything(),
                "{model} {spec}"
            );
        }
        for model in ["", "123"] {
            let wrong = check(&profiles, &typed(model, "memory:\n  total: 1\n"), &models, Wrong::default());
            assert_eq!(wrong.spec.map(|mistake| (mistake.line, mistake.column)), Some((2, 3)), "{model}");
        }
        assert!(check(&profiles, &typed("", ""), &models, Wrong::default()).spec.is_some(), "neither");
        assert!(check(&profiles, &typed("gone", ""), &models, Wrong::default()).model.is_some());
    }
}
