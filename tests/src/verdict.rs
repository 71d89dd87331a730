//! What end-to-end tests ask of a verdict.

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
