//! dcgmi: NVIDIA's own diagnostics of GPUs (DCGM). It works the GPUs and checks their answers. Not in Debian: an image has it
//! only where somebody put it there. `dcgmi` only asks: the work is done by a daemon, `nv-hostengine`.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use super::runner::{Finished, Invocation, ToolError};

/// The program's name.
pub const TOOL: &str = "dcgmi";

/// The daemon's name.
pub const ENGINE: &str = "nv-hostengine";

/// The daemon in the foreground, on port 5555 of the loopback interface, for at most `limit`.
pub fn engine(limit: Duration) -> Invocation {
    Invocation { tool: ENGINE, args: vec!["--no-daemon".into()], timeout: limit }
}

/// Asks the daemon for the GPUs that it knows: whether there is one that answers.
pub fn discovery() -> Invocation {
    Invocation { tool: TOOL, args: vec!["discovery".into(), "-l".into()], timeout: Duration::from_mins(1) }
}

/// Runs the diagnostics of a level, 1 (software only) to 4 (hours), on every GPU.
pub fn invocation(level: u8, timeout: Duration) -> Invocation {
    let args = vec!["diag".into(), "-j".into(), "-r".into(), level.to_string().into()];
    Invocation { tool: TOOL, args, timeout }
}

/// What the tests said. Each entry names test and GPU.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diagnosis {
    /// Tests that worked a GPU or its link and found nothing.
    pub passed: Vec<String>,
    /// The GPUs, by DCGM's ids, that one of those worked.
    pub worked: BTreeSet<String>,
    /// Tests of the software's installation that found nothing.
    pub software_passed: Vec<String>,
    /// Tests that found something wrong, with what they say.
    pub failed: Vec<String>,
    /// Tests that warn, with what they say.
    pub warned: Vec<String>,
    /// Tests that did not run, with why.
    pub skipped: Vec<String>,
}

/// The category of the tests that only look at driver and libraries.
const SOFTWARE: &str = "Deployment";
/// The document's one member, of DCGM 3 and of DCGM 4.
const ROOTS: [&str; 2] = ["DCGM GPU Diagnostic", "DCGM Diagnostic"];

/// # Errors
/// It did not come to its end, or wrote something else, or nothing of any test, or a word that stands for no result.
pub fn parse(finished: &Finished) -> Result<Diagnosis, ToolError> {
    let code = finished.code(TOOL)?;
    let garbage = |message: &str| ToolError::Garbage { tool: TOOL.to_owned(), message: message.to_owned() };
    let failed = || ToolError::Failed { tool: TOOL.to_owned(), code, message: finished.last_words() };
    // a line or two of text may stand before the document
    let text = finished.stdout_text();
    let document: Option<Value> = text.find('{').and_then(|at| serde_json::from_str(text[at..].trim()).ok());
    let Some(document) = document else {
        return Err(if code == 0 { garbage("no JSON document") } else { failed() });
    };
    let root = ROOTS.iter().find_map(|root| document.get(root));
    let categories = root.and_then(|root| root.get("test_categories")?.as_array());
    let Some(categories) = categories else {
        return Err(if code == 0 { garbage("no list of test categories") } else { failed() });
    };
    let mut diagnosis = Diagnosis::default();
    for category in categories {
        let name =
            category.get("category").and_then(Value::as_str).ok_or_else(|| garbage("a nameless category"))?;
        let tests = category.get("tests").and_then(Value::as_array).ok_or_else(|| garbage("no tests"))?;
        for test in tests {
            diagnosis.note(name, test).map_err(|message| garbage(&message))?;
        }
    }
    if diagnosis == Diagnosis::default() {
        return Err(garbage("no test gave a result"));
    }
    // a document without a fault and an exit code that tells of one contradict each other
    if code != 0 && diagnosis.failed.is_empty() {
        return Err(failed());
    }
    Ok(diagnosis)
}

impl Diagnosis {
    fn note(&mut self, category: &str, test: &Value) -> Result<(), String> {
        let name = test.get("name").and_then(Value::as_str).ok_or("a nameless test")?;
        let results =
            test.get("results").and_then(Value::as_array).ok_or_else(|| format!("{name}: no results"))?;
        for result in results {
            let status = result.get("status").and_then(Value::as_str).unwrap_or("").to_ascii_lowercase();
            let subject =
                ["gpu_id", "gpu_ids", "entity_id"].iter().find_map(|key| match result.get(key)? {
                    Value::String(id) => Some(id.clone()),
                    Value::Number(id) => Some(id.to_string()),
                    _ => None,
                });
            let named = subject.as_ref().map_or_else(String::new, |id| format!(" (GPU {id} of DCGM)"));
            let mut words = Vec::new();
            for key in ["warnings", "info"] {
                collect(result.get(key), &mut words);
            }
            let said = if words.is_empty() { String::new() } else { format!(": {}", words.join(", ")) };
            let plain = format!("{name}{named}");
            match status.as_str() {
                "pass" if category == SOFTWARE => self.software_passed.push(plain),
                "pass" => {
                    self.passed.push(plain);
                    // one result may be of several: `0,1`
                    let ids = subject.iter().flat_map(|ids| ids.split(',')).map(str::trim);
                    self.worked.extend(ids.filter(|id| !id.is_empty()).map(str::to_owned));
                }
                "fail" => self.failed.push(plain + &said),
                "warn" => self.warned.push(plain + &said),
                "skip" | "skipped" | "not run" => self.skipped.push(plain + &said),
                _ => return Err(format!("{name}: `{status}` is no result")),
            }
        }
        Ok(())
    }
}

/// Every text in it: one, a list of them, or a list of objects with a number beside each.
fn collect(value: Option<&Value>, words: &mut Vec<String>) {
    match value {
        Some(Value::String(text)) if !text.trim().is_empty() => {
            words.push(text.trim().chars().filter(|letter| !letter.is_control()).take(300).collect());
        }
        Some(Value::Array(parts)) => parts.iter().for_each(|part| collect(Some(part), words)),
        Some(Value::Object(members)) => members.values().for_each(|member| collect(Some(member), words)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::tools::runner::Exit;

    fn answer(code: i32, stdout: &str) -> Finished {
        Finished {
            exit: Exit::Code(code),
            stdout: stdout.as_bytes().to_vec(),
            stderr: Vec::new(),
            truncated: false,
            elapsed: Duration::ZERO,
        }
    }

    /// The form of DCGM 3, by NVIDIA's description of it (nvvs/include/NvvsCommon.h).
    const GOOD: &str = r#"{"DCGM GPU Diagnostic": {"test_categories": [
        {"category": "Deployment", "tests": [{"name": "Denylist", "results": [{"gpu_id": "0", "status": "Pass"}]}]},
        {"category": "Integration", "tests": [{"name": "PCIe", "results": [
            {"gpu_id": "0", "info": "GPU to Host bandwidth: 24.8 GB/s", "status": "Pass"},
            {"gpu_id": "1", "status": "Skip", "warnings": "not supported on this GPU"}]}]}], "version": "3.1.8"}}"#;

    #[test]
    fn tests_are_told_apart_by_their_result() {
        let diagnosis = parse(&answer(0, &format!("Successfully ran diagnostic.\n{GOOD}"))).unwrap();
        assert_eq!(diagnosis.software_passed, ["Denylist (GPU 0 of DCGM)"]);
        assert_eq!(diagnosis.passed, ["PCIe (GPU 0 of DCGM)"]);
        assert_eq!(diagnosis.worked, ["0".to_owned()].into());
        assert_eq!(diagnosis.skipped, ["PCIe (GPU 1 of DCGM): not supported on this GPU"]);
    }

    #[test]
    fn the_form_of_dcgm_4_is_known_too() {
        let text = r#"{"DCGM Diagnostic": {"test_categories": [{"category": "Hardware", "tests": [{"name": "memory",
            "results": [{"entity_group": "GPU", "entity_group_id": 1, "entity_id": 2, "status": "Fail",
            "warnings": [{"error_id": 5, "warning": "double bit error"}]}],
            "test_summary": {"status": "Fail"}}]}]}}"#;
        let diagnosis = parse(&answer(226, text)).unwrap();
        assert_eq!(diagnosis.failed, ["memory (GPU 2 of DCGM): double bit error"]);
    }

    #[test]
    fn one_result_of_several_gpus_counts_for_each() {
        let text = GOOD.replace(r#"{"gpu_id": "0", "info""#, r#"{"gpu_ids": "0, 1,3", "info""#);
        let diagnosis = parse(&answer(0, &text)).unwrap();
        assert_eq!(diagnosis.worked, ["0", "1", "3"].map(str::to_owned).into());
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        let wrong = [
            (0, String::new()),
            (0, "{}".to_owned()),
            (0, GOOD.replace("\"Pass\"", "\"Perhaps\"")),
            (0, r#"{"DCGM Diagnostic": {"test_categories": []}}"#.to_owned()),
            (0, GOOD.replace("\"results\"", "\"result\"")),
            // says that something is wrong, and not what
            (1, GOOD.to_owned()),
            (1, "Error: unable to establish a connection to the specified host: localhost".to_owned()),
        ];
        for (code, text) in wrong {
            assert!(parse(&answer(code, &text)).is_err(), "{text}");
        }
        assert!(parse(&Finished { exit: Exit::TimedOut, ..answer(0, GOOD) }).is_err());
    }
}
