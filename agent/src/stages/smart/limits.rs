//! The temperatures that a drive gives as its own limits: they become rules of the run, as those that the kernel gives for
//! its disks do. Of a disk that the kernel measures nothing is told here.

use vetting_protocol::inventory::Disk;
use vetting_protocol::limit::{Bound, HardwareLimit, LimitGrade};

use super::{SmartReport, StageContext, Subject};
use crate::tools::smartctl::TemperatureLimits;

/// Tells them, before what the drive measures.
pub(super) fn tell(context: &StageContext<'_>, subject: &Subject<'_>, report: &SmartReport) {
    let has_sensor =
        |disk: &Disk| context.host.is_directory(&format!("/sys/block/{}/device/hwmon", disk.name));
    if report.temperature_celsius.is_none() || subject.disk().is_some_and(has_sensor) {
        return;
    }
    let limit = |value: Option<f64>, grade, words: &str| {
        Some(HardwareLimit {
            kind: "temp".to_owned(),
            key: format!("disk/{}", subject.name),
            bound: Bound::Upper,
            grade,
            value: value?,
            unit: "celsius".to_owned(),
            origin: format!("smartctl, {words} temperature"),
            // a chip that idles beyond its critical limit would have switched off, a drive goes on
            observed: report.temperature_celsius.filter(|_| grade == LimitGrade::Warning),
            asserted: None,
        })
    };
    let TemperatureLimits { recommended, highest } = report.temperature_limits;
    let recommended = limit(recommended, LimitGrade::Warning, "highest recommended");
    let limits = recommended.into_iter().chain(limit(highest, LimitGrade::Critical, "highest"));
    context.hardware_limits(limits.collect());
}
