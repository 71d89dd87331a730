//! What end-to-end tests ask of a verdict.

use anyhow::Context as _;
use vetting_protocol::inventory::Inventory;
use vetting_protocol::operator_api::RunDetail;
use vetting_protocol::run::RunResult;

/// The run failed, in this stage, and its reasons have all these words.
///
/// # Panics
/// It did not.
pub fn assert_failed(detail: &RunDetail, stage: &str, words: &[&str]) {
    assert_eq!(detail.summary.result, Some(RunResult::Fail), "{:#?}", detail.reasons);
    assert_eq!(detail.summary.failed_stage.as_deref(), Some(stage), "{:#?}", detail.reasons);
    let reasons = detail.reasons.join("\n");
    for word in words {
        assert!(reasons.contains(word), "`{word}` is in\n{reasons}");
    }
}

/// What the kernel called the disk with this serial number: disks are named in the order in which they answer.
pub fn disk_name(detail: &RunDetail, serial: &str) -> anyhow::Result<String> {
    let inventory = detail.artifacts.iter().find(|artifact| artifact.kind == "inventory");
    let text = std::fs::read(&inventory.context("the run has its inventory")?.path)?;
    let inventory: Inventory = serde_json::from_slice(&text)?;
    let disk = inventory.disks.into_iter().find(|disk| disk.serial.as_deref() == Some(serial));
    Ok(disk.with_context(|| format!("{serial} is in the inventory"))?.name)
}
