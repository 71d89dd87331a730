//! Wipe certificates: one page a disk that says what was done to it, by which means, when, and what reading back showed.
//! Only for a disk whose erasing came to a good end; the others are in the report alone.

use maud::{Markup, html};
use vetting_protocol::erasure::{DETAILS_KEY, Erasure};
use vetting_protocol::outcome::Outcome;

use super::html::{document, fact, or_dash, run_words, section};
use super::{Report, format};

/// A page to print and to sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// `wipe-certificate-sda.html`.
    pub file_name: String,
    /// Self-contained.
    pub html: String,
}

/// Those of a run.
pub(super) fn certificates(report: &Report) -> Vec<Certificate> {
    let sub_steps = report.facts.stages.iter().flat_map(|stage| &stage.sub_steps);
    sub_steps
        .filter(|step| step.outcome == Some(Outcome::Pass))
        .filter_map(|step| serde_json::from_value::<Erasure>(step.details.get(DETAILS_KEY)?.clone()).ok())
        // the agent's word is checked: a sample with an objection is not certified, whatever the outcome
        .filter(|erasure| erasure.sample.objection(erasure.method).is_none())
        .map(|erasure| Certificate {
            file_name: file_name(&erasure.disk),
            html: page(report, &erasure).into_string(),
        })
        .collect()
}

/// The disk's name came over the network: only letters and digits of it go into a path.
fn file_name(disk: &str) -> String {
    let safe: String = disk.chars().filter(char::is_ascii_alphanumeric).take(32).collect();
    format!("wipe-certificate-{safe}.html")
}

fn page(report: &Report, erasure: &Erasure) -> Markup {
    let name = erasure.serial.as_deref().unwrap_or(&erasure.disk);
    let body = html! {
        header.banner {
            div.title {
                p.eyebrow { "Wipe certificate · " (run_words(&report.facts)) }
                h1 { (name) }
                p.machine { (or_dash(erasure.model.as_deref())) }
            }
            div class="verdict good" {
                span.sign aria-hidden="true" { "✓" }
                div { strong { "ERASED" } }
            }
        }
        main {
            (section("disk", "The disk", "", &disk(report, erasure)))
            (section("erasing", "What was done", "", &erasing(erasure)))
            (section("sample", "What reading back showed", "", &sample(erasure)))
            (section("signature", "Signature", "", &html! {
                dl.facts { (fact("Name", "\u{a0}")) (fact("Date", "\u{a0}")) (fact("Signature", "\u{a0}")) }
            }))
        }
        footer { "vetting · judged by " (report.facts.run.judged_by) " · times are UTC" }
    };
    document(&format!("Wipe certificate · {name}"), &body)
}

fn disk(report: &Report, erasure: &Erasure) -> Markup {
    let told = |text: Option<&str>| text.unwrap_or("not told").to_owned();
    html! {
        dl.facts {
            (fact("Serial number", &told(erasure.serial.as_deref())))
            (fact("Model", &told(erasure.model.as_deref())))
            (fact("Firmware", &told(erasure.firmware.as_deref())))
            (fact("World wide name", &told(erasure.wwn.as_deref())))
            (fact("Size", &format!("{} ({} bytes)", format::size(erasure.size_bytes), erasure.size_bytes)))
            (fact("In", &format!("{}, as {}", report.facts.host.name, erasure.disk)))
        }
    }
}

fn erasing(erasure: &Erasure) -> Markup {
    let reach = if erasure.method.reaches_spare_blocks() {
        "The disk's own means, which also reaches blocks that it has set aside."
    } else {
        "Blocks that the disk has set aside are not reached by this method."
    };
    html! {
        dl.facts {
            (fact("Method", erasure.method.words()))
            (fact("Began", &format::time(erasure.started_ms)))
            (fact("Ended", &format::time(erasure.ended_ms)))
            (fact("Took", &format::duration(erasure.ended_ms.saturating_sub(erasure.started_ms))))
        }
        p.note { (reach) @for remark in &erasure.remarks { " No stronger method: " (remark) "." } }
    }
}

fn sample(erasure: &Erasure) -> Markup {
    let sample = &erasure.sample;
    html! {
        p {
            (sample.blocks) " blocks of " (sample.block_bytes) " bytes, the first and the last of the disk and others "
            "at random between, were written with data that occurs nowhere else before the erasing, and read after it "
            "past all caches. None of them still held that data: " (sample.blank) " were blank (all zeros or all ones), "
            (sample.other) " held something else."
        }
        p.note { "A sample shows that the erasing took place; it is no reading of the whole disk. Seed " (sample.seed) "." }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use vetting_protocol::erasure::{EraseMethod, ErasureSample};

    use super::*;
    use crate::facts::SubStepFacts;
    use crate::fixtures;

    fn erasure() -> Erasure {
        Erasure {
            disk: "nvme0n1".to_owned(),
            model: Some("EXAMPLE <NVMe>".to_owned()),
            serial: Some("S-0001".to_owned()),
            wwn: None,
            firmware: Some("1.0".to_owned()),
            size_bytes: 1_000_204_886_016,
            method: EraseMethod::NvmeFormat,
            remarks: vec!["the drive cannot sanitize".to_owned()],
            started_ms: 1_795_000_000_000,
            ended_ms: 1_795_000_012_500,
            sample: ErasureSample {
                blocks: 64,
                block_bytes: 4096,
                seed: 7,
                surviving: 0,
                blank: 64,
                other: 0,
                unreadable: 0,
            },
        }
    }

    fn made(outcome: Outcome, erasure: &Erasure) -> Vec<Certificate> {
        let mut facts = fixtures::passing();
        facts.stages.last_mut().unwrap().sub_steps.push(SubStepFacts {
            name: "nvme0n1 erase".to_owned(),
            outcome: Some(outcome),
            started_ms: Some(1),
            ended_ms: Some(2),
            details: json!({ DETAILS_KEY: erasure }),
        });
        Report::new(facts).certificates()
    }

    #[test]
    fn an_erased_disk_gets_a_page_with_all_that_identifies_it() {
        let certificates = made(Outcome::Pass, &erasure());
        assert_eq!(certificates.len(), 1);
        assert_eq!(certificates[0].file_name, "wipe-certificate-nvme0n1.html");
        let html = &certificates[0].html;
        for word in [
            "S-0001",
            "EXAMPLE &lt;NVMe&gt;",
            "SES 1",
            "12.5 s",
            "cannot sanitize",
            "64 were blank",
            "run 42",
        ] {
            assert!(html.contains(word), "{word}\n{html}");
        }
    }

    #[test]
    fn what_is_not_shown_to_be_erased_is_not_certified() {
        assert_eq!(made(Outcome::fail("x"), &erasure()), []);
        assert_eq!(made(Outcome::error("x"), &erasure()), []);
        assert_eq!(made(Outcome::skip("x"), &erasure()), []);
        let mut surviving = erasure();
        surviving.sample.surviving = 1;
        assert_eq!(made(Outcome::Pass, &surviving), []);
    }

    #[test]
    fn no_disk_name_leads_out_of_the_folder() {
        assert_eq!(file_name("../../etc/passwd"), "wipe-certificate-etcpasswd.html");
    }
}
