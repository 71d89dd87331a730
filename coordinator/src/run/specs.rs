//! What can be a spec, and the spec that a run is ordered with: the host's, on top of the model's where it names one.

use std::collections::HashMap;

use vetting_judge::profile::{Registry, host_stages};
use vetting_judge::spec::{HostSpec, Spec, SpecError};

use crate::store::models::{self, RunSpec};
use crate::store::{Connection, StoreError, hosts};

/// Whether a text can be a host's spec.
///
/// # Errors
/// A mistake in it, or a stage that one of the profiles cannot have so.
pub fn check(profiles: &Registry, yaml_text: &str) -> Result<(), SpecError> {
    let spec = HostSpec::parse(yaml_text)?;
    host_stages::check(yaml_text, &spec.own, profiles)
}

/// Takes the model in that a host's spec names. A spec that cannot be read stays as it is: no run passes by it.
///
/// # Errors
/// [`StoreError::NotFound`] for a model that does not exist.
pub fn resolve(connection: &Connection, yaml_text: &str) -> Result<RunSpec, StoreError> {
    let as_it_is = || RunSpec { model: None, expected_spec_yaml: yaml_text.to_owned() };
    let Ok(spec) = HostSpec::parse(yaml_text) else { return Ok(as_it_is()) };
    let Some(name) = spec.model.clone() else { return Ok(as_it_is()) };
    let model = models::get(connection, &name)?.ok_or_else(|| models::unknown(&name))?;
    let unreadable = || StoreError::UnknownText {
        table: "models",
        column: "expected_spec_yaml",
        found: model.expected_spec_yaml.clone(),
    };
    let shared = Spec::parse(&model.expected_spec_yaml).map_err(|_| unreadable())?;
    let expected_spec_yaml = spec.over(shared).to_yaml().map_err(|_| unreadable())?;
    Ok(RunSpec { model: Some(name), expected_spec_yaml })
}

/// The hosts whose spec names a model, by name.
pub fn hosts_of(connection: &Connection, model: &str) -> Result<Vec<String>, StoreError> {
    Ok(hosts_by_model(connection)?.remove(model).unwrap_or_default())
}

/// The hosts of every model that a spec names, by name.
pub fn hosts_by_model(connection: &Connection) -> Result<HashMap<String, Vec<String>>, StoreError> {
    let mut by_model: HashMap<String, Vec<String>> = HashMap::new();
    for (name, yaml) in hosts::specs(connection)? {
        if let Ok(HostSpec { model: Some(model), .. }) = HostSpec::parse(&yaml) {
            by_model.entry(model).or_default().push(name);
        }
    }
    Ok(by_model)
}
