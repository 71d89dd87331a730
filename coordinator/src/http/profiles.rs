//! The operator API for profiles, as the running coordinator loaded them. The token is checked before a handler is called.

use vetting_judge::profile::{Profile, ProfileStage, Registry};
use vetting_protocol::profile::{ProfileName, ProfileRuleView, ProfileStageView, ProfileView};
use warp::reply::Response;

use super::App;
use super::operator::ok;
use super::problem::ApiError;

fn view(profiles: &Registry, name: ProfileName) -> ProfileView {
    let Profile { name, description, sampling_interval_ms, stages, thresholds, own, .. } = profiles.get(name);
    let stage = |stage: &ProfileStage| ProfileStageView {
        work: stage.work.clone(),
        limit_ms: stage.limit_ms,
        required: stage.required,
    };
    let rules = thresholds.iter().map(|threshold| {
        let rule = &threshold.rule;
        ProfileRuleView {
            stage: rule.stage,
            kind: rule.kind.clone(),
            key: rule.key.to_string(),
            good: rule.describe(),
            severity: rule.severity.into(),
            ends_stage: rule.ends_stage,
            note: threshold.note.clone(),
        }
    });
    ProfileView {
        name: *name,
        own: *own,
        description: description.clone(),
        sampling_interval_ms: *sampling_interval_ms,
        longest_ms: stages.iter().map(|stage| stage.limit_ms).sum(),
        stages: stages.iter().map(stage).collect(),
        rules: rules.collect(),
        yaml: profiles.text(*name).to_owned(),
    }
}

/// `GET profiles`: the three.
pub fn list(app: &App) -> Response {
    let profiles = &app.driver.profiles;
    ok(&ProfileName::ALL.iter().map(|name| view(profiles, *name)).collect::<Vec<_>>())
}

/// `GET profiles/{name}`.
pub fn show(app: &App, name: &str) -> Result<Response, ApiError> {
    let name: ProfileName = name.parse().map_err(|_| {
        ApiError::not_found(format!("no profile named {name}; there are quick, deep and soak"))
    })?;
    Ok(ok(&view(&app.driver.profiles, name)))
}
