//! `--json` on every verb that the command line has, so that one that is added is tried, or named here with a reason.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;

use clap::{CommandFactory as _, Parser as _};
use vetting_judge::yaml;
use vetting_protocol::enrolment::EnrolAnswer;
use vetting_protocol::firmware::FirmwareReport;
use vetting_protocol::operator_api::VerdictView;

use super::agent::inventory;
use super::command_line::{caught, say};
use super::enrolment::identity;
use super::notify::{Answer, Receiver, webhook};
use super::*;
use crate::cli::CommandLine;

/// Verbs that are not tried, and why.
const NOT_TRIED: [(&str, &str); 9] = [
    ("serve", "does not end; what it says is for the log"),
    ("run ssh", "what is printed is what the machine prints"),
    ("user add", "asks for a password; coordinator/tests/command_line.rs types one"),
    ("user passwd", "the same"),
    ("usb image", "needs the image of `make image`; coordinator/tests/usb.rs has one of its own"),
    ("usb write", "needs a stick; coordinator/tests/usb.rs has one"),
    ("host power soft", "needs a BMC; prints as `host power off` does"),
    ("host power media insert", "needs a BMC with Redfish; http/tests/redfish.rs has one"),
    ("host power media eject", "the same"),
];

/// Verbs that print an object a line.
const STREAMS: [&str; 4] = ["run watch", "events --follow", "export runs", "export measurements"];

/// An outlet that is a file.
const OUTLET: &str = "#!/bin/sh\ncd \"$(dirname \"$0\")\" || exit 1\n\
    case $1 in status) cat outlet;; *) echo $1 > outlet;; esac\n";

/// Every verb below `command`, as it is typed.
fn verbs(command: &clap::Command) -> Vec<String> {
    let mut below = command.get_subcommands().filter(|command| command.get_name() != "help").peekable();
    if below.peek().is_none() {
        return vec![String::new()];
    }
    below
        .flat_map(|command| {
            let name = command.get_name();
            verbs(command).into_iter().map(move |rest| format!("{name} {rest}").trim_end().to_owned())
        })
        .collect()
}

/// A lab, and what was said to it.
struct Tried {
    lab: Lab,
    said: Vec<String>,
}

impl Tried {
    async fn open(receiver: &Receiver) -> Self {
        let notifications = format!("receivers:\n{}", webhook("hook", receiver, "pass"));
        let lab = Lab::open_configured(|config| {
            let script = config.state_dir.join("switch");
            std::fs::write(&script, OUTLET).unwrap();
            std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
            let hooks = json!({"plug": {"command": [script, "{action}"]}});
            let text = format!("power:\n  off_pause: 0s\n  hooks: {hooks}\n");
            let power = Config::parse(&text).unwrap().power;
            (config.power.off_pause, config.power.hooks) = (power.off_pause, power.hooks);
            config.notifications = yaml::parse(&notifications, "receivers").unwrap();
            let secrets = config.power.secrets.clone().unwrap();
            std::fs::write(&secrets, "hook: s3cret\n").unwrap();
            std::fs::set_permissions(secrets, std::fs::Permissions::from_mode(0o600)).unwrap();
        })
        .await;
        std::fs::write(lab.path("spec.yaml"), SPEC).unwrap();
        Self { lab, said: Vec::new() }
    }

    /// The words; `@` is the lab's folder.
    fn words(&self, sentence: &str) -> Vec<String> {
        let folder = self.lab.path("").display().to_string();
        sentence.split(' ').map(|word| word.replace('@', &folder)).collect()
    }

    fn took(&mut self, sentence: &str, text: &str) -> Value {
        self.said.push(sentence.to_owned());
        let parsed = |text: &str| {
            let value = serde_json::from_str::<Value>(text)
                .unwrap_or_else(|error| panic!("{sentence}: {error}: {text}"));
            assert!(value.is_object() || value.is_array(), "{sentence}: {text}");
            value
        };
        if STREAMS.iter().any(|verb| sentence.starts_with(verb)) {
            assert!(!text.is_empty(), "{sentence}");
            return text.lines().map(parsed).collect();
        }
        parsed(text)
    }

    /// What the coordinator's command prints.
    async fn json(&mut self, sentence: &str) -> Value {
        let words = [self.words(sentence), vec!["--json".to_owned()]].concat();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let (done, text) = caught(say(&self.lab, &words)).await;
        done.unwrap_or_else(|error| panic!("{sentence}: {error}"));
        self.took(sentence, &text)
    }

    async fn each(&mut self, sentences: &[&str]) {
        for sentence in sentences {
            self.json(sentence).await;
        }
    }

    /// What a command prints that asks no coordinator, with a configuration of its own.
    async fn each_alone(&mut self, sentences: &[&str]) {
        for sentence in sentences {
            let own = ["vetting-coordinator", "--json", "--config", "@own.yaml"].join(" ");
            let words = [self.words(&own), self.words(sentence)].concat();
            let command = CommandLine::try_parse_from(words).unwrap();
            let (done, text) = caught(Box::pin(command.run())).await;
            done.unwrap_or_else(|error| panic!("{sentence}: {error}"));
            self.took(sentence, &text);
        }
    }

    /// Orders a run of node1, whose inventory fails with the machine held.
    async fn held(&mut self) -> RunId {
        let run = self.json("run start node1").await["id"].to_string().parse().unwrap();
        let claimed = self.lab.claim_again(run, BOOT).await;
        let stage = StageName::Inventory;
        let failed = finished(stage, Outcome::fail("a DIMM is missing"));
        let records = vec![started(stage), failed, Record::PipelineFinished { ts_ms: START_MS }];
        self.lab.send(&claimed, 1, records).await;
        self.lab.verdict(&claimed).await;
        run
    }

    /// Orders a run of node1 that fails by the heat of a CPU alone.
    async fn too_hot(&mut self) -> RunId {
        let run = self.json("run start node1").await["id"].to_string().parse().unwrap();
        let claimed = self.lab.claim_again(run, BOOT).await;
        let mut records = healthy(&claimed);
        let text = include_str!("../../../judge/fixtures/qemu-q35.firmware.json");
        let firmware: FirmwareReport = serde_json::from_str(text).unwrap();
        records.splice(1..1, [inventory("SN42"), Record::Firmware(firmware)]);
        let last = claimed.response.plan.stages.last().unwrap().work.name();
        records.insert(records.len() - 2, temperature(Some(last), Some(104.5)));
        self.lab.send(&claimed, 1, records).await;
        self.lab.verdict(&claimed).await;
        run
    }

    /// The code of a machine that waits to be taken in.
    async fn waiting(&self, mac: &str) -> String {
        let uuid = format!("4c4c4544-0043-3010-8057-{}", mac.replace(':', ""));
        match self.lab.enrol(&identity(&uuid, &[mac]), None, None).await {
            EnrolAnswer::Waiting { code, .. } => code,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn every_verb_speaks_json_or_says_why_not() {
    let receiver = Receiver::open(Answer::Status(204)).await;
    let mut tried = Tried::open(&receiver).await;
    without_a_coordinator(&mut tried).await;
    machines(&mut tried).await;
    runs_of_a_machine(&mut tried).await;
    the_rest(&mut tried).await;

    let all: BTreeSet<String> = verbs(&CommandLine::command()).into_iter().collect();
    let is = |sentence: &str, verb: &str| sentence == verb || sentence.starts_with(&format!("{verb} "));
    for (verb, why) in NOT_TRIED {
        assert!(all.contains(verb), "there is no {verb} ({why})");
        assert!(!tried.said.iter().any(|said| is(said, verb)), "{verb} is tried ({why})");
    }
    // `host power NAME status`: the name stands between the words of the verb
    let said: Vec<String> = tried.said.iter().map(|said| said.replace(" node1", "")).collect();
    let left: Vec<&String> = all
        .iter()
        .filter(|verb| !NOT_TRIED.iter().any(|(not, _)| not == verb))
        .filter(|verb| !said.iter().any(|said| is(said, verb)))
        .collect();
    assert!(left.is_empty(), "try these, or say why not: {left:?}");
}

async fn without_a_coordinator(tried: &mut Tried) {
    let own =
        format!("state_dir: {0}own\ndatabase: {{path: {0}own/vetting.db}}\n", tried.lab.path("").display());
    std::fs::write(tried.lab.path("own.yaml"), own).unwrap();
    let profile = vetting_judge::profile::builtin_text(vetting_protocol::profile::ProfileName::Quick);
    std::fs::write(tried.lab.path("quick.yaml"), profile).unwrap();
    tried
        .each_alone(&[
            "init --keep-config",
            "migrate",
            "backup @backup.tar",
            "restore @backup.tar",
            "spec check @spec.yaml",
            "spec schema",
            "report schema",
            "profile check @quick.yaml",
            "completions bash",
            "man @pages",
        ])
        .await;
}

async fn machines(tried: &mut Tried) {
    std::fs::write(
        tried.lab.path("rack.csv"),
        "name,mac,spec\nr1,52:54:00:ab:cd:11,memory: {total_gib: 1}\n",
    )
    .unwrap();
    tried
        .each(&[
            "host add node1 --mac 52:54:00:ab:cd:01 --spec @spec.yaml",
            "host import @rack.csv",
            "host list",
            "host show node1",
            "host edit node1 --notes new",
            "host mac add node1 52:54:00:ab:cd:02",
            "host mac remove node1 52:54:00:ab:cd:02",
            "host agent-token node1",
            "host agent-revoke node1",
            "host pdu node1 set --hook plug",
            "host pdu node1 on",
            "host pdu node1 off",
            "host pdu node1 cycle",
            "host pdu node1 status",
            "host power node1 off",
            "host power node1 on",
            "host power node1 cycle",
            "host power node1 status",
            "host pdu node1 remove",
            "host bmc node1 --none",
            "model add m1 --spec @spec.yaml",
            "model list",
            "model show m1",
            "model edit m1 --spec @spec.yaml",
            "model remove m1",
            "host pending",
        ])
        .await;
    let code = tried.waiting("b8:ca:3a:00:00:01").await;
    tried.json(&format!("host adopt {code} --name node2 --spec @spec.yaml")).await;
    let code = tried.waiting("b8:ca:3a:00:00:02").await;
    tried.json(&format!("host reject {code}")).await;
}

async fn runs_of_a_machine(tried: &mut Tried) {
    let run = tried.too_hot().await;
    assert_eq!(tried.json("run wait 1").await["result"], "fail");
    let verdict: VerdictView = serde_json::from_value(tried.json("run verdict 1").await).unwrap();
    let finding = verdict.reasons.iter().find_map(|reason| reason.finding.clone()).unwrap().to_string();
    assert_eq!(run.to_string(), "1");
    tried
        .each(&[
            "run list",
            "run show 1",
            "run watch 1",
            "run report 1",
            "run report 1 --output @report.html",
            "spec from-run 1",
            "spec diff 1 1",
            "component show QM00001",
            "export runs",
            "export measurements 1",
            "export netbox node1",
        ])
        .await;
    tried.each_alone(&["report verify @report.html --key @signing/report.pub"]).await;
    tried.json(&format!("run waive 1 {finding} --reason known --by ada")).await;
    tried.json("run unwaive 1 1 --reason wrong --by ada").await;
    let held = tried.lab.detail(run).await.summary.state;
    if !held.is_terminal() {
        tried.json("run release 1").await;
    }
    let run = tried.held().await;
    tried.json(&format!("run retry {run} Inventory")).await;
    tried.json(&format!("run abort {run}")).await;
    tried.lab.over(run).await;
    let run = tried.held().await;
    tried.json(&format!("run resume {run}")).await;
    tried.json(&format!("run abort {run}")).await;
    tried.lab.over(run).await;
    let run = tried.held().await;
    tried.json(&format!("run release {run}")).await;
}

async fn the_rest(tried: &mut Tried) {
    tried
        .each(&[
            "queue",
            "notify test hook",
            "notify list",
            "notify retry",
            "janitor --dry-run",
            "netboot status",
            "netboot config dnsmasq --address 192.0.2.1",
            "profile list",
            "profile show quick",
            "profile show quick --yaml",
            "enrolment create",
            "enrolment list",
            "enrolment revoke 1",
            "user list",
            "token create ci",
            "token list",
            "events",
            "host forget-identity node1",
            "host remove node1 --with-runs",
        ])
        .await;
    let token = tried.json("token create other").await["view"]["id"].to_string();
    tried.json(&format!("token revoke {token}")).await;
    crate::run::import::tests::write_good_folder(&tried.lab.path("results/a"), "a", "52:54:00:ab:cd:77");
    tried.json("import @results").await;
    tried.lab.add_user("alice", "viewer").await;
    tried.each(&["user role alice operator", "user disable alice", "user enable alice"]).await;
}
