//! `stage NAME`: one stage on this machine, without a coordinator.

#![expect(clippy::disallowed_methods, reason = "reads the files that the user names")]

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;
use serde_yaml::Value;
use vetting_protocol::agent_api::Record;
use vetting_protocol::ids::StageName;
use vetting_protocol::measurement::Measurement;
use vetting_protocol::outcome::Outcome;
use vetting_protocol::plan::{DiskBudget, DiskConsent, ExpectedLinks, SelfTest, StageWork, SurfaceScan};

use super::facts::print_json;
use super::machine::Machine;
use super::{CliError, Exit, interrupt};
use crate::cancel::Cancel;
use crate::console::{Console as _, ConsoleReporter, Terminal};
use crate::counterpart::Nobody;
use crate::inventory;
use crate::pipeline::{STAGE_GRACE, Work, run_alone};
use crate::reporter::{Reporter, Tee};
use crate::stages::{self, Facts, Reboots};

/// Arguments of `stage`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  vetting-agent stage SMART
  vetting-agent stage SpecValidate --spec expected.yaml
  vetting-agent stage CPUStress --param '{cpu_ms: 60000, memory_ms: 60000, memory_percent: 80}'
  vetting-agent stage Memory --param '{duration_ms: 600000, fade_ms: 90000}'
  vetting-agent stage Storage --param '{surface: {mode: read_whole}}'

Exit codes: 0 pass, 1 fail, 2 error, 3 skipped.")]
pub struct StageArguments {
    /// Its name, as `stages` lists it
    name: StageName,
    /// The expected spec, for SpecValidate
    #[arg(long, value_name = "FILE")]
    spec: Option<PathBuf>,
    /// Parameters, a YAML mapping laid over quick ones
    #[arg(long, value_name = "YAML")]
    param: Option<String>,
    /// What may be done to the data on the disks
    #[arg(long, value_enum, default_value = "non-destructive")]
    consent: Consent,
}

/// What may be done to disks, as the command line says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Consent {
    /// Read only
    NonDestructive,
    /// Disks with nothing on them may be written
    EmptyDisksOnly,
    /// EVERY disk that is not in use may be written: what is on it is lost
    WipeAllowed,
}

impl From<Consent> for DiskConsent {
    fn from(consent: Consent) -> Self {
        match consent {
            Consent::NonDestructive => Self::NonDestructive,
            Consent::EmptyDisksOnly => Self::EmptyDisksOnly,
            Consent::WipeAllowed => Self::WipeAllowed,
        }
    }
}

/// Parameters for a quick look.
fn quick(stage: StageName) -> StageWork {
    match stage {
        StageName::Inventory => StageWork::Inventory {},
        StageName::Firmware => StageWork::Firmware {},
        StageName::SpecValidate => StageWork::SpecValidate {},
        StageName::Smart => StageWork::Smart { self_test: SelfTest::None },
        StageName::CpuStress => StageWork::CpuStress {
            cpu_ms: 10_000,
            per_core_ms: 10_000,
            memory_ms: 10_000,
            memory_percent: 50,
        },
        StageName::Memory => StageWork::Memory { duration_ms: 30_000, fade_ms: 0 },
        StageName::Storage => StageWork::Storage {
            fio_read_ms: 5_000,
            fio_random_ms: 5_000,
            surface: SurfaceScan::ReadZones { zones: 16, zone_mib: 16 },
            budget: DiskBudget::UNLIMITED,
        },
        StageName::Network => StageWork::Network { duration_ms: 5_000, links: ExpectedLinks::Connected },
        StageName::Gpu => StageWork::Gpu { dcgm_level: 2 },
        StageName::Psu => StageWork::Psu { load_ms: 10_000 },
        StageName::Burn => StageWork::Burn { duration_ms: 30_000, memory_percent: 50 },
        StageName::Reboot => StageWork::Reboot { restarts: 1, cold: 0 },
        StageName::Memtest => {
            StageWork::Memtest { kernel_patterns: 1, passes: 0, budget_ms: 0, unwatched: false }
        }
    }
}

/// The quick parameters with the given ones laid over them; unknown ones are refused.
fn work_of(stage: StageName, parameters: Option<&str>) -> Result<StageWork, CliError> {
    let work = quick(stage);
    let Some(parameters) = parameters else { return Ok(work) };
    let refused = |source| CliError::Parameters { stage, source };
    let Value::Mapping(given) = serde_yaml::from_str(parameters).map_err(refused)? else {
        return Err(CliError::NoMapping);
    };
    let mut merged = serde_yaml::to_value(&work).map_err(refused)?;
    if let Value::Mapping(merged) = &mut merged {
        for (name, value) in given {
            // the name of the stage is given already
            if name != "stage" {
                merged.insert(name, value);
            }
        }
    }
    serde_yaml::from_value(merged).map_err(refused)
}

/// What a stage found, printed as JSON.
#[derive(Serialize)]
struct StageResult {
    stage: StageName,
    #[serde(flatten)]
    outcome: Outcome,
    details: serde_json::Value,
    records: Vec<Record>,
    measurements: Vec<Measurement>,
}

#[derive(Default)]
struct Collected(Mutex<(Vec<Record>, Vec<Measurement>)>);

impl Reporter for Collected {
    fn record(&self, record: Record) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match record {
            Record::Measurement(measurement) => kept.1.push(measurement),
            Record::Progress { .. } => {}
            other => kept.0.push(other),
        }
    }
}

pub(super) fn stage(machine: &Machine, arguments: &StageArguments) -> Result<Exit, CliError> {
    let name = arguments.name;
    let work = work_of(name, arguments.param.as_deref())?;
    let stage = stages::ALL
        .iter()
        .find(|stage| stage.description().name == name)
        .ok_or(CliError::NoStage { stage: name })?;
    let expected_spec_yaml = match &arguments.spec {
        Some(path) => Some(
            std::fs::read_to_string(path).map_err(|source| CliError::File { path: path.clone(), source })?,
        ),
        None => None,
    };
    let cancel = Cancel::new();
    interrupt::watch(vec![cancel.clone()])?;

    let mut facts = facts_before(machine, name);
    let collected = Arc::new(Collected::default());
    let shown = Arc::new(ConsoleReporter::new(Terminal::Stderr, vec![name]));
    let reporter: Arc<dyn Reporter> = Arc::new(Tee(vec![shown, Arc::clone(&collected) as Arc<dyn Reporter>]));
    let work = Work {
        stage: *stage,
        work,
        host: machine.host.clone(),
        tools: Arc::clone(&machine.tools),
        reporter,
        consent: arguments.consent.into(),
        expected_spec_yaml,
        counterpart: Arc::new(Nobody),
        reboots: Reboots::default(),
        facts: facts.clone(),
    };
    let (outcome, details) = run_alone(work, Duration::MAX, STAGE_GRACE, &cancel, &mut facts);
    Terminal::Stderr.line(&format!("{name}: {}", crate::console::outcome_words(&outcome)));
    let (records, measurements) =
        std::mem::take(&mut *collected.0.lock().unwrap_or_else(PoisonError::into_inner));
    let exit = match &outcome {
        Outcome::Pass => Exit::Pass,
        Outcome::Fail { .. } => Exit::Fail,
        Outcome::Error { .. } => Exit::Error,
        Outcome::Skip { .. } => Exit::Skip,
    };
    print_json(&StageResult { stage: name, outcome, details, records, measurements })?;
    Ok(exit)
}

/// What the stages before it would have left.
fn facts_before(machine: &Machine, name: StageName) -> Facts {
    let mut facts = Facts::default();
    if name != StageName::Inventory {
        let inventory = inventory::collect(&machine.host, &*machine.tools);
        if name == StageName::SpecValidate {
            let firmware = inventory::firmware::collect(&machine.host, &*machine.tools, &inventory);
            facts.firmware = Some(firmware);
        }
        facts.inventory = Some(inventory);
    }
    facts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_parameters_lie_over_the_quick_ones() {
        assert_eq!(
            work_of(StageName::CpuStress, Some("{cpu_ms: 7}")).unwrap(),
            StageWork::CpuStress { cpu_ms: 7, per_core_ms: 10_000, memory_ms: 10_000, memory_percent: 50 }
        );
        let whole = work_of(StageName::Storage, Some("surface: {mode: read_whole}")).unwrap();
        assert!(matches!(
            whole,
            StageWork::Storage { fio_read_ms: 5_000, surface: SurfaceScan::ReadWhole, .. }
        ));
    }

    #[test]
    fn unknown_and_malformed_parameters_are_refused() {
        for (stage, text) in [
            (StageName::Smart, "{colour: red}"),
            (StageName::CpuStress, "{cpu_ms: -1}"),
            (StageName::CpuStress, "{cpu_ms: soon}"),
        ] {
            assert!(matches!(work_of(stage, Some(text)), Err(CliError::Parameters { .. })), "{text}");
        }
        assert!(matches!(work_of(StageName::Smart, Some("7")), Err(CliError::NoMapping)));
    }

    #[test]
    fn every_stage_has_quick_parameters_of_its_own() {
        for stage in StageName::ALL {
            assert_eq!(quick(*stage).name(), *stage);
        }
    }
}
