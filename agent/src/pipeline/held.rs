//! A machine that is kept up after its run: it waits for what the coordinator says next.

use vetting_protocol::agent_api::{AfterRun, Directive};

use crate::cancel::Cancel;
use crate::uplink::{Link, UplinkError};

/// What comes after a machine was kept up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterHold {
    /// It is let go.
    LetGo(AfterRun),
    /// Its run goes on: there is a new plan.
    GoOn,
}

/// Keeps the machine up after its run until the coordinator says otherwise; gives what it says. `interrupt` is not
/// the run's cancel, which is raised when the run ends.
pub fn stay(link: &dyn Link, interrupt: &Cancel) -> Result<AfterHold, UplinkError> {
    let mut seen = 0;
    loop {
        let (directive, answers) = link.next_answer(seen, interrupt)?;
        seen = answers;
        match directive {
            Directive::Finished { then: AfterRun::Stay, .. } => {}
            Directive::Abort { then, .. } | Directive::Finished { then, .. } => {
                return Ok(AfterHold::LetGo(then));
            }
            Directive::Continue
            | Directive::AwaitTurn { .. }
            | Directive::HaltPipeline { .. }
            | Directive::EndStage { .. }
            | Directive::AwaitVerdict => return Ok(AfterHold::GoOn),
        }
    }
}
