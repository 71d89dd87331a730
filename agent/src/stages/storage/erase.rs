//! Erasing a disk for good, by the best means that it has, and finding out whether it is empty: blocks spread over it are
//! marked before and read after. Only to be called where the operator gave `erase`; what [`super::consent`] refuses is
//! left alone and skipped.

mod marks;
mod method;

use std::time::Duration;

use serde_json::json;
use vetting_protocol::erasure::{DETAILS_KEY, EraseMethod, Erasure};
use vetting_protocol::outcome::Outcome;

use super::super::sub_steps::Found;
use super::Disk;
use super::consent::{self, Permission};
use crate::clock;
use crate::tools::blkdiscard;
use crate::tools::hdparm::{self, Access, ERASE_PASSWORD, Security};
use crate::tools::nvme::{self, SanitizeAction, SanitizeStatus};
use crate::tools::runner::{Finished, Invocation, ToolError};
use marks::Marks;
use method::Choice;

/// How often a drive is asked how far its sanitizing is.
const ASK_EVERY: Duration = Duration::from_secs(2);
/// What a drive is thought to take that does not say.
const USUAL_TIME: Duration = Duration::from_hours(2);
/// Sanitizing that is not over by then is no longer waited for.
const LONGEST_SANITIZE: Duration = Duration::from_hours(24);

impl Disk<'_, '_, '_> {
    /// Erases the disk and looks whether it is.
    pub(super) fn erase(&self, ordinal: u32) -> Found {
        if let Some(obstacle) = self.obstacle() {
            return obstacle;
        }
        match consent::permission(self.context, self.target) {
            Permission::Write => {}
            Permission::ReadOnly => {
                return Found::new(Outcome::skip(format!("{}: the run only reads", self.name())), json!({}));
            }
            Permission::Refused(reason) => return Found::new(Outcome::skip(reason), json!({})),
        }
        let marks = Marks::new(self.target.disk.size_bytes, fastrand::u64(..));
        if let Err(error) = marks.write(self.context.host, &self.target.device) {
            let reason = format!("{}: cannot be marked before it is erased: {error}", self.name());
            return Found::new(Outcome::error(reason), json!({}));
        }
        let choice = method::choose(self);
        let started_ms = clock::now_ms();
        let done = self.erase_by(ordinal, &choice);
        let ended_ms = clock::now_ms();
        let error = match done {
            Ok(()) => None,
            Err(why) => Some(format!("{}: {}: {why}", self.name(), choice.method.words())),
        };
        let disk = self.target.disk;
        let sample = marks.read(self.context.host, &self.target.device);
        let objection = sample.objection(choice.method);
        let erasure = Erasure {
            disk: disk.name.clone(),
            model: disk.model.clone(),
            serial: disk.serial.clone(),
            wwn: disk.wwn.clone(),
            firmware: disk.firmware.clone(),
            size_bytes: disk.size_bytes,
            method: choice.method,
            remarks: choice.remarks,
            started_ms,
            ended_ms,
            sample,
        };
        let outcome = match (error, objection) {
            (Some(error), _) => Outcome::error(error),
            (None, Some(objection)) => Outcome::fail(format!(
                "{}: is not erased: after {} {objection}",
                self.name(),
                erasure.method.words()
            )),
            (None, None) => Outcome::Pass,
        };
        Found::new(outcome, json!({ DETAILS_KEY: erasure }))
    }

    /// Erases. An error is why it did not come to a good end, in words.
    fn erase_by(&self, ordinal: u32, choice: &Choice) -> Result<(), String> {
        match choice.method {
            EraseMethod::NvmeSanitizeBlock => self.sanitize(ordinal, SanitizeAction::BlockErase),
            EraseMethod::NvmeSanitizeCrypto => self.sanitize(ordinal, SanitizeAction::CryptoErase),
            EraseMethod::NvmeFormat => {
                let format = nvme::format(&self.target.device);
                let finished =
                    self.sub_steps.by_time(ordinal, USUAL_TIME, || self.ask(&format)).map_err(words)?;
                finished.success("nvme").map_err(words)
            }
            EraseMethod::AtaSecureErase => self.security_erase(ordinal, false, choice.takes),
            EraseMethod::AtaEnhancedSecureErase => self.security_erase(ordinal, true, choice.takes),
            EraseMethod::ZeroFill => self.zero_fill(ordinal),
        }
    }

    fn sanitize(&self, ordinal: u32, action: SanitizeAction) -> Result<(), String> {
        let answer = self.ask(&nvme::sanitize(&self.target.device, action)).map_err(words)?;
        answer.success("nvme").map_err(words)?;
        let begin = clock::monotonic();
        while begin.elapsed() < LONGEST_SANITIZE {
            let answer = self.ask(&nvme::sanitize_status(&self.target.device)).map_err(words)?;
            match nvme::parse_sanitize_status(&answer).map_err(words)? {
                SanitizeStatus::Done => return Ok(()),
                SanitizeStatus::Failed => return Err("the drive says that it failed".to_owned()),
                SanitizeStatus::Never => return Err("the drive says that none was begun".to_owned()),
                SanitizeStatus::InProgress(done) => {
                    let left = (done > 0.01).then(|| begin.elapsed().mul_f64((1.0 - done) / done));
                    self.sub_steps.advance(ordinal, done, left);
                }
            }
            if !self.context.wait(ASK_EVERY) {
                return Err("it was cancelled; the drive goes on by itself".to_owned());
            }
        }
        Err(format!("it is not over after {} h", LONGEST_SANITIZE.as_secs() / 3600))
    }

    fn security_erase(&self, ordinal: u32, enhanced: bool, takes: Option<Duration>) -> Result<(), String> {
        let device = &self.target.device;
        let set = self.ask(&hdparm::security_set_password(device)).map_err(words)?;
        let takes = takes.unwrap_or(USUAL_TIME);
        let erased = set.success("hdparm").and_then(|()| {
            let erase = hdparm::security_erase(device, enhanced, takes);
            self.sub_steps.by_time(ordinal, takes, || self.ask(&erase))?.success("hdparm")
        });
        let state = || self.ask(&hdparm::identify(device)).and_then(|answer| hdparm::parse_security(&answer));
        let has_password =
            || !matches!(state(), Ok(Some(Security { access: Access::Frozen | Access::Open, .. })));
        if has_password() {
            // an erasing that succeeded takes the password away by itself
            let _ = self.ask(&hdparm::security_disable(device));
        }
        let locked = has_password().then(|| {
            format!(
                "; it may still have the password `{ERASE_PASSWORD}`: \
                 `hdparm --user-master u --security-disable {ERASE_PASSWORD} {device}`"
            )
        });
        match (erased, locked) {
            (Ok(()), None) => Ok(()),
            (Ok(()), Some(locked)) => Err(format!("the disk did not forget its password{locked}")),
            (Err(error), locked) => Err(format!("{}{}", error.reason(), locked.unwrap_or_default())),
        }
    }

    fn zero_fill(&self, ordinal: u32) -> Result<(), String> {
        let size_bytes = self.target.disk.size_bytes;
        let invocation = blkdiscard::zero_fill(&self.target.device, size_bytes);
        let begin = clock::monotonic();
        let mut filled = 0_u64;
        let finished = self
            .context
            .tools
            .run(&invocation, &self.context.cancel, &mut |_, line| {
                if let Some(bytes) = blkdiscard::filled_bytes(line) {
                    filled = filled.saturating_add(bytes);
                    let done = filled as f64 / size_bytes.max(1) as f64;
                    let left = (done > 0.001).then(|| begin.elapsed().mul_f64((1.0 - done).max(0.0) / done));
                    self.sub_steps.advance(ordinal, done, left);
                }
            })
            .map_err(words)?;
        blkdiscard::parse(&finished, size_bytes).map_err(words)
    }

    fn ask(&self, invocation: &Invocation) -> Result<Finished, ToolError> {
        self.context.tools.run(invocation, &self.context.cancel, &mut |_, _| {})
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err asks for")]
fn words(error: ToolError) -> String {
    error.reason()
}

#[cfg(test)]
mod tests;
