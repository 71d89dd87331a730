//! Results of machines that worked alone, sent by the command line and by hand: taken whole, once, by operators alone.

use std::process::ExitCode;

use vetting_protocol::exchange::RunImportView;
use vetting_protocol::run::RunResult;

use super::command_line::{caught, say};
use super::*;
use crate::run::import::tests::write_good_folder;

/// A tar of these files.
fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        // the builder itself would refuse names that lead elsewhere
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        tar.append(&header, *bytes).unwrap();
    }
    tar.into_inner().unwrap()
}

/// A results folder, packed.
fn packed(folder: &Path, change: impl Fn(&str, Vec<u8>) -> Option<Vec<u8>>) -> Vec<u8> {
    let names =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let files: Vec<(String, Vec<u8>)> = names
        .filter_map(|name| {
            let bytes = change(&name, std::fs::read(folder.join(&name)).unwrap())?;
            Some((name, bytes))
        })
        .collect();
    tar(&files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect::<Vec<_>>())
}

fn sending(lab: &Lab, query: &str, body: Vec<u8>) -> RequestBuilder {
    lab.operator(Method::POST, &format!("run-imports{query}")).body(body)
}

async fn problem(request: RequestBuilder) -> Problem {
    request.send().await.unwrap().json().await.unwrap()
}

#[tokio::test]
async fn a_stick_is_imported_from_another_box_once() {
    let lab = Lab::open().await;
    let stick = lab.path("stick");
    for (name, mac) in [("a", MAC), ("b", "52:54:00:ab:cd:02")] {
        write_good_folder(&stick.join("results").join(name), name, mac);
    }
    // what else lies there is left alone
    std::fs::write(stick.join("results/a/notes.txt"), "x").unwrap();
    let words = ["import", stick.to_str().unwrap()];
    let (done, text) = caught(say(&lab, &words)).await;
    assert_eq!(done.unwrap(), ExitCode::SUCCESS);
    assert!(text.contains("a: PASS, is run 1 of SN-a, which is registered now\n"), "{text}");
    assert!(text.contains("b: PASS, is run 2 of SN-b, which is registered now\n"), "{text}");
    let (done, text) = caught(say(&lab, &[&words[..], &["--json"]].concat())).await;
    done.unwrap();
    let again: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&again[1]["run"], &again[1]["new_run"]), (&json!(2), &json!(false)));
    assert_eq!(lab.detail("1".parse().unwrap()).await.summary.result, Some(RunResult::Pass));
    let said: Vec<_> = lab.events().await.into_iter().map(|event| event.message).collect();
    assert_eq!(said.iter().filter(|said| *said == "test imported the run").count(), 2, "{said:?}");
    // nothing is left of the uploads
    let left: Vec<_> =
        std::fs::read_dir(lab.path("artifacts")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[tokio::test]
async fn results_that_are_not_as_they_should_be_are_refused_and_leave_nothing() {
    let lab = Lab::open().await;
    let folder = lab.path("a");
    write_good_folder(&folder, "a", MAC);
    let whole = packed(&folder, |_, bytes| Some(bytes));
    let changed =
        packed(&folder, |name, bytes| Some(if name == "report.json" { b"{}".to_vec() } else { bytes }));
    let broken_off = || packed(&folder, |name, bytes| (name != "SHA256SUMS").then_some(bytes));
    let cut = whole[..whole.len() / 2].to_vec();
    for (body, word) in [
        (changed, "report.json is not as SHA256SUMS says"),
        (broken_off(), "has no SHA256SUMS"),
        (cut, "cut short"),
        (b"x".to_vec(), "cut short"),
        (Vec::new(), "has no SHA256SUMS"),
        (tar(&[("passwd", b"x")]), "no run leaves a file `passwd`"),
        (tar(&[("a/../run.json", b"x")]), "no run leaves a file"),
        (tar(&[("run.json", b"x"), ("run.json", b"y")]), "twice"),
    ] {
        let problem = problem(sending(&lab, "", body)).await;
        assert_eq!(problem.status, 422, "{problem:?}");
        assert!(problem.detail.contains(word) && !problem.detail.contains("/tmp"), "{word}: {problem:?}");
    }
    assert_eq!(good::<Vec<Value>>(lab.operator(Method::GET, "runs")).await.len(), 0);
    assert_eq!(good::<Vec<Value>>(lab.operator(Method::GET, "hosts")).await.len(), 0);

    let viewer = secrets::fresh().unwrap();
    let values = TokenValues { role: Role::Viewer, ..token_values("viewer", viewer.sha256()) };
    let made = lab.server.driver.store.write(move |connection| tokens::create(connection, &values, START_MS));
    made.await.unwrap();
    let by_viewer =
        lab.https(Method::POST, "/api/v1/run-imports").bearer_auth(viewer.expose()).body(whole.clone());
    assert_eq!(refused(by_viewer).await, refusal(403, "role-missing"));

    let view: RunImportView = good(sending(&lab, "?incomplete=true&host=r1", broken_off())).await;
    assert_eq!((view.host.as_str(), view.new_host), ("r1", true));
    let known: RunImportView = good(sending(&lab, "", whole)).await;
    assert_eq!((known.run, known.new_run), (view.run, false));
}
