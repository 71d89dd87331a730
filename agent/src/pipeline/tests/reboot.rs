//! Restarts that a stage wants.

use super::*;
use crate::stages::BootEnd;

/// Wants a restart in each boot.
struct Restless;

impl Stage for Restless {
    fn description(&self) -> StageDescription {
        StageDescription {
            name: StageName::Inventory,
            effect: Effect::ReadOnly,
            applies_to: "tests",
            finds: "nothing",
        }
    }

    fn estimate(&self, _: &StageWork, _: Option<&Inventory>) -> Duration {
        Duration::ZERO
    }

    fn run(&self, _: &mut StageContext<'_>, _: &StageWork) -> Result<StageReport, StageError> {
        Err(StageError::Other { message: "not asked for".to_owned() })
    }

    fn run_in_this_boot(&self, _: &mut StageContext<'_>, _: &StageWork) -> Result<BootEnd, StageError> {
        let reason = "a test".to_owned();
        Ok(BootEnd::Reboot(PlannedReboot { target: BootTarget::Memtest, budget: Duration::ZERO, reason }))
    }
}

static RESTLESS: &[&dyn Stage] = &[&Restless, &Scripted(StageName::Firmware, |_| Ok(ends(Outcome::Pass)))];

#[test]
fn a_planned_reboot_leaves_its_stage_open_and_goes_once_the_coordinator_knows() {
    let bench = Bench::new(FakeLink::new(|_| Directive::Continue));
    assert!(
        matches!(bench.run(RESTLESS), RunEnd::Rebooting { reason, target: BootTarget::Memtest } if reason == "a test")
    );
    assert_eq!(bench.link.story(), ["Inventory starts", "reboots to memtest"]);
    let announced = bench.link.steps().len();
    assert!(bench.link.flushed.lock().unwrap().contains(&announced));
}

#[test]
fn a_run_that_is_aborted_meanwhile_does_not_restart_the_machine_for_its_test() {
    let abort = |_: &[Record]| Directive::Abort { reason: "operator".to_owned(), then: AfterRun::PowerOff };
    let end = Bench::new(FakeLink::new(abort)).run(RESTLESS);
    assert!(matches!(end, RunEnd::Aborted { then: AfterRun::PowerOff, .. }));
}
