//! Lists of hosts that are registered together: CSV and YAML into values, each mistake with its place. Refuses to look
//! at what is registered already, and at files.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::Ipv4Addr;

use serde::Deserialize;
use vetting_judge::spec::HostSpec;
use vetting_judge::yaml;
use vetting_protocol::ids::MacAddress;

use crate::http::hosts::{WOL_PORT, name_mistake, wake_target_mistake};
use crate::serial_console::SerialConsole;
use crate::store::hosts::HostValues;

/// Hosts in one list.
const MOST_HOSTS: usize = 10_000;
/// What may be told of a host.
const FIELDS: [&str; 10] = [
    "name",
    "mac",
    "further_macs",
    "model",
    "spec",
    "notes",
    "wol_broadcast_ip",
    "wol_port",
    "serial_console",
    "burn_watts",
];

/// Where something stands, both from 1. In CSV the column is the number of the field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Line.
    pub line: usize,
    /// Column.
    pub column: usize,
}

/// Something that keeps a list from being taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Where.
    pub place: Place,
    /// What, and what to do.
    pub what: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: {}", self.place.line, self.place.column, self.what)
    }
}

/// A host of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct ListedHost {
    /// What is registered.
    pub values: HostValues,
    /// Its further cards.
    pub further_macs: Vec<MacAddress>,
    /// Its serial line.
    pub serial_console: Option<SerialConsole>,
    /// What it draws in its hardest stage, watts.
    pub burn_watts: Option<u32>,
    places: BTreeMap<&'static str, Place>,
    begins: Place,
}

impl ListedHost {
    /// Where a field of it stands, or else where it begins.
    pub fn place(&self, field: &str) -> Place {
        self.places.get(field).copied().unwrap_or(self.begins)
    }
}

/// A host as it stands there.
struct Draft {
    begins: Place,
    fields: BTreeMap<&'static str, (Place, String)>,
}

/// Reads CSV with a header line. `model` is for those that name no model and have no spec.
///
/// # Errors
/// Every mistake, in order.
pub fn from_csv(text: &str, model: Option<&str>) -> Result<Vec<ListedHost>, Vec<Mistake>> {
    let mut reader =
        csv::ReaderBuilder::new().flexible(true).trim(csv::Trim::All).from_reader(text.as_bytes());
    let mut mistakes = Vec::new();
    let header = match reader.headers() {
        Ok(header) => header.clone(),
        Err(error) => return Err(vec![of_csv(&error)]),
    };
    let known: Vec<Option<&'static str>> =
        header.iter().map(|name| FIELDS.into_iter().find(|field| *field == name)).collect();
    for (column, (name, known)) in (1..).zip(header.iter().zip(&known)) {
        if known.is_none() {
            let what = format!("`{name}` is no column; there are {}", FIELDS.join(", "));
            mistakes.push(Mistake { place: Place { line: 1, column }, what });
        }
    }
    for needed in ["name", "mac"] {
        if !known.contains(&Some(needed)) {
            let what = format!("there is no column `{needed}`; the first line names the columns");
            mistakes.push(Mistake { place: Place { line: 1, column: 1 }, what });
        }
    }
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    let mut drafts = Vec::new();
    for record in reader.records() {
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                mistakes.push(of_csv(&error));
                break;
            }
        };
        let line = record.position().map_or(1, |at| usize::try_from(at.line()).unwrap_or(usize::MAX));
        if record.len() != known.len() {
            let what = format!("it has {} fields and the first line {}", record.len(), known.len());
            mistakes.push(Mistake { place: Place { line, column: 1 }, what });
            continue;
        }
        let fields = (1..).zip(record.iter().zip(&known)).filter(|(_, (value, _))| !value.is_empty());
        let fields = fields.filter_map(|(column, (value, field))| {
            field.map(|field| (field, (Place { line, column }, value.to_owned())))
        });
        drafts.push(Draft { begins: Place { line, column: 1 }, fields: fields.collect() });
    }
    checked(drafts, model, mistakes)
}

fn of_csv(error: &csv::Error) -> Mistake {
    let line = error.position().map_or(1, |at| usize::try_from(at.line()).unwrap_or(usize::MAX));
    Mistake { place: Place { line, column: 1 }, what: format!("this is no CSV: {error}") }
}

/// A host in YAML.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct YamlHost {
    name: String,
    mac: String,
    #[serde(default)]
    further_macs: Vec<String>,
    model: Option<String>,
    spec: Option<serde_yaml::Value>,
    notes: Option<String>,
    wol_broadcast_ip: Option<String>,
    wol_port: Option<u64>,
    serial_console: Option<String>,
    burn_watts: Option<u64>,
}

impl YamlHost {
    fn fields(self) -> Vec<(&'static str, String)> {
        let spec = self.spec.map(|spec| match spec {
            serde_yaml::Value::String(text) => text,
            // what was read can be written
            other => serde_yaml::to_string(&other).unwrap_or_default(),
        });
        let further = Some(self.further_macs.join(" ")).filter(|macs| !macs.is_empty());
        let fields = [
            ("name", Some(self.name)),
            ("mac", Some(self.mac)),
            ("further_macs", further),
            ("model", self.model),
            ("spec", spec),
            ("notes", self.notes),
            ("wol_broadcast_ip", self.wol_broadcast_ip),
            ("wol_port", self.wol_port.map(|port| port.to_string())),
            ("serial_console", self.serial_console),
            ("burn_watts", self.burn_watts.map(|watts| watts.to_string())),
        ];
        fields.into_iter().filter_map(|(field, value)| value.map(|value| (field, value))).collect()
    }
}

/// Reads YAML, a list of mappings. `model` as in [`from_csv`].
///
/// # Errors
/// Every mistake, in order.
pub fn from_yaml(text: &str, model: Option<&str>) -> Result<Vec<ListedHost>, Vec<Mistake>> {
    let pieces = pieces(text);
    let mut mistakes = Vec::new();
    let mut drafts = Vec::new();
    for (begin, piece) in &pieces {
        match yaml::parse::<Vec<YamlHost>>(piece, "it should be a list of hosts, each with name and mac") {
            Ok(hosts) => {
                for host in hosts {
                    let place = |field: &str| place_of_key(piece, *begin, field);
                    let fields = host.fields().into_iter();
                    let fields = fields.map(|(field, value)| (field, (place(field), value))).collect();
                    drafts.push(Draft { begins: Place { line: *begin, column: 1 }, fields });
                }
            }
            Err(yaml::Mistake { line, column, what, path }) => {
                let path = path.split_once('.').map(|(_, field)| format!("{field}: ")).unwrap_or_default();
                let place = Place { line: begin + line - 1, column };
                mistakes.push(Mistake { place, what: format!("{path}{what}") });
            }
        }
    }
    checked(drafts, model, mistakes)
}

/// The entries of a list that is written one below the other, each with the line it begins in; else the whole.
fn pieces(text: &str) -> Vec<(usize, String)> {
    let mut pieces: Vec<(usize, String)> = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let begins = line == "-" || line.starts_with("- ");
        let between = line.trim().is_empty() || line.starts_with('#') || line == "---";
        match pieces.last_mut() {
            _ if begins => pieces.push((number, format!("{line}\n"))),
            Some((_, piece)) => {
                piece.push_str(line);
                piece.push('\n');
            }
            None if between => {}
            None => return vec![(1, text.to_owned())],
        }
    }
    // an anchor of one entry may stand in another
    if pieces.is_empty() || text.contains('&') || text.contains("<<:") {
        vec![(1, text.to_owned())]
    } else {
        pieces
    }
}

/// Where the value of a key stands in an entry, or else where the entry begins.
fn place_of_key(piece: &str, begin: usize, key: &str) -> Place {
    for (number, line) in (begin..).zip(piece.lines()) {
        let bare = line.trim_start_matches(['-', ' ']);
        if bare.strip_prefix(key).is_some_and(|rest| rest.starts_with(':')) {
            return Place { line: number, column: line.len() - bare.len() + 1 };
        }
    }
    Place { line: begin, column: 1 }
}

/// Turns drafts into hosts, if none has a mistake.
fn checked(
    drafts: Vec<Draft>,
    model: Option<&str>,
    mut mistakes: Vec<Mistake>,
) -> Result<Vec<ListedHost>, Vec<Mistake>> {
    if drafts.len() > MOST_HOSTS {
        let what = format!("{} hosts; at most {MOST_HOSTS} are taken at once", drafts.len());
        return Err(vec![Mistake { place: Place { line: 1, column: 1 }, what }]);
    }
    if drafts.is_empty() && mistakes.is_empty() {
        let what = "there is no host in it".to_owned();
        return Err(vec![Mistake { place: Place { line: 1, column: 1 }, what }]);
    }
    let mut hosts = Vec::new();
    let (mut names, mut macs) = (BTreeMap::new(), BTreeMap::new());
    for draft in drafts {
        let Some(host) = host(&draft, model, &mut mistakes) else { continue };
        let mut again = |field: &str, place: Place, what: String, before: Option<Place>| {
            if let Some(before) = before {
                let what = format!("{field}: {what} stands in line {} already", before.line);
                mistakes.push(Mistake { place, what });
            }
        };
        let place = host.place("name");
        let before = names.insert(host.values.name.clone(), place);
        again("name", place, format!("`{}`", host.values.name), before);
        let mut own = BTreeSet::new();
        for (field, mac) in std::iter::once(("mac", host.values.mac))
            .chain(host.further_macs.iter().map(|mac| ("further_macs", *mac)))
        {
            let place = host.place(field);
            let before = macs.insert(mac, place).or_else(|| (!own.insert(mac)).then_some(place));
            again(field, place, mac.to_string(), before);
        }
        hosts.push(host);
    }
    if mistakes.is_empty() {
        return Ok(hosts);
    }
    mistakes.sort_by_key(|mistake| mistake.place);
    Err(mistakes)
}

fn host(draft: &Draft, model: Option<&str>, mistakes: &mut Vec<Mistake>) -> Option<ListedHost> {
    let before = mistakes.len();
    let text = |field: &str| draft.fields.get(field).map(|(_, value)| value.as_str());
    let place = |field: &str| draft.fields.get(field).map_or(draft.begins, |(place, _)| *place);
    let mut wrong = |field: &str, what: String| {
        mistakes.push(Mistake { place: place(field), what: format!("{field}: {what}") });
    };
    let name = text("name").unwrap_or_default();
    if let Some(what) = name_mistake(name) {
        wrong("name", what);
    }
    let mut mac_of = |field: &str, text: &str| match text.parse::<MacAddress>() {
        Ok(mac) => Some(mac),
        Err(error) => {
            wrong(field, error.to_string());
            None
        }
    };
    let mac = mac_of("mac", text("mac").unwrap_or_default());
    let further = text("further_macs").unwrap_or_default();
    let further = further.split([' ', ';', ',']).filter(|text| !text.is_empty());
    let further_macs: Vec<MacAddress> = further.filter_map(|text| mac_of("further_macs", text)).collect();
    let spec = spec(text("model"), text("spec"), model);
    match &spec {
        None => wrong("spec", "a host needs a model or a spec; `--model` names one for all".to_owned()),
        Some(spec) => {
            if let Err(error) = HostSpec::parse(spec) {
                wrong(if text("spec").is_some() { "spec" } else { "model" }, error.to_string());
            }
        }
    }
    let wol_broadcast_ip = number(text("wol_broadcast_ip"), Ipv4Addr::BROADCAST).unwrap_or_else(|found| {
        wrong("wol_broadcast_ip", format!("`{found}` is no IPv4 address"));
        Ipv4Addr::BROADCAST
    });
    let wol_port = number(text("wol_port"), WOL_PORT).unwrap_or_else(|found| {
        wrong("wol_port", format!("`{found}` is no UDP port"));
        WOL_PORT
    });
    if let Some((field, what)) = wake_target_mistake(Some(wol_broadcast_ip), Some(wol_port)) {
        wrong(field, format!("it {what}"));
    }
    let burn_watts = number(text("burn_watts"), 0_u32).unwrap_or_else(|found| {
        wrong("burn_watts", format!("`{found}` is no whole number of watts"));
        0
    });
    let serial_console = match text("serial_console").map(str::parse::<SerialConsole>).transpose() {
        Ok(console) => console,
        Err(error) => {
            wrong("serial_console", error.to_string());
            None
        }
    };
    if mistakes.len() > before {
        return None;
    }
    Some(ListedHost {
        values: HostValues {
            name: name.to_owned(),
            mac: mac?,
            wol_broadcast_ip,
            wol_port,
            expected_spec_yaml: spec?,
            notes: text("notes").unwrap_or_default().to_owned(),
        },
        further_macs,
        serial_console,
        burn_watts: Some(burn_watts).filter(|watts| *watts > 0),
        places: draft.fields.iter().map(|(field, (place, _))| (*field, *place)).collect(),
        begins: draft.begins,
    })
}

/// The spec that model and own text give together.
fn spec(model: Option<&str>, own: Option<&str>, for_all: Option<&str>) -> Option<String> {
    let model = model.or_else(|| for_all.filter(|_| own.is_none()));
    match (model, own) {
        (None, own) => own.map(str::to_owned),
        // in quotes: a model may be named `true` or `640`
        (Some(model), own) => {
            Some(format!("model: {}\n{}", serde_json::Value::from(model), own.unwrap_or_default()))
        }
    }
}

/// A value, what stands for none, or the text that is none.
fn number<T: std::str::FromStr>(text: Option<&str>, absent: T) -> Result<T, String> {
    text.map_or(Ok(absent), |text| text.parse().map_err(|_| text.to_owned()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn told(mistakes: &[Mistake]) -> Vec<String> {
        mistakes.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_csv_and_a_yaml_list_say_the_same() {
        let csv = "name,mac,further_macs,model,notes,wol_port,burn_watts\n\
                   r1-u01,3c:ec:ef:00:00:01,3c:ec:ef:00:01:01;3c:ec:ef:00:02:01,r640,\"left, top\",,650\n\
                   r1-u02,3CECEF000002,,,,7,\n";
        let yaml = "# rack 1\n- name: r1-u01\n  mac: 3c:ec:ef:00:00:01\n  \
                    further_macs: [3c:ec:ef:00:01:01, 3c:ec:ef:00:02:01]\n  model: r640\n  notes: left, top\n  \
                    burn_watts: 650\n\n- name: r1-u02\n  mac: 3CECEF000002\n  wol_port: 7\n";
        let (csv, yaml) = (from_csv(csv, Some("r650")).unwrap(), from_yaml(yaml, Some("r650")).unwrap());
        let plain = |hosts: &[ListedHost]| {
            hosts
                .iter()
                .map(|host| (host.values.clone(), host.further_macs.clone(), host.burn_watts))
                .collect::<Vec<_>>()
        };
        assert_eq!(plain(&csv), plain(&yaml));
        assert_eq!(csv[0].values.expected_spec_yaml, "model: \"r640\"\n");
        assert_eq!(csv[1].values.expected_spec_yaml, "model: \"r650\"\n");
        assert_eq!((csv[1].values.wol_port, csv[0].further_macs.len()), (7, 2));
    }

    #[test]
    fn every_mistake_of_a_csv_list_is_told_with_its_line_and_field() {
        let csv = "name,mac,model,wol_port\nr1/u01,nonsense,m,\nr2,3c:ec:ef:00:00:02,m,99999\nr2,3c:ec:ef:00:00:02,m,0\nr4\n";
        let mistakes = told(&from_csv(csv, None).unwrap_err());
        for (mistake, begin) in mistakes.iter().zip([
            "line 2, column 1: name: `r1/u01` is no name",
            "line 2, column 2: mac: `nonsense` is not",
            "line 3, column 4: wol_port: `99999` is no UDP port",
            "line 4, column 4: wol_port: it must be 1 to 65535",
            "line 5, column 1: it has 1 fields and the first line 4",
        ]) {
            assert!(mistake.starts_with(begin), "{mistake}");
        }
        assert_eq!(mistakes.len(), 5, "{mistakes:?}");
        let twice = "name,mac,model\nr1,3c:ec:ef:00:00:02,m\nr1,3c:ec:ef:00:00:02,m\n";
        let mistakes = told(&from_csv(twice, None).unwrap_err());
        assert_eq!(
            mistakes,
            [
                "line 3, column 1: name: `r1` stands in line 2 already",
                "line 3, column 2: mac: 3c:ec:ef:00:00:02 stands in line 2 already",
            ]
        );
        let mistakes = told(&from_csv("name,colour\nr1,red\n", None).unwrap_err());
        assert!(mistakes[0].contains("`colour` is no column") && mistakes[1].contains("no column `mac`"));
        assert_eq!(
            told(&from_csv("name,mac\n", None).unwrap_err()),
            ["line 1, column 1: there is no host in it"]
        );
    }

    #[test]
    fn every_mistake_of_a_yaml_list_is_told_with_its_line_and_column() {
        let yaml = "- name: r1\n  mac: 3c:ec:ef:00:00:01\n  spec: {cpu: {sockets: two}}\n\
                    - name: r2\n  mac: 3c:ec:ef:00:00:02\n  modle: m\n\
                    - name: r3\n  mac: 12\n  model: m\n\
                    - name: r4\n  mac: 3c:ec:ef:00:00:04\n";
        let mistakes = from_yaml(yaml, None).unwrap_err();
        let lines: Vec<usize> = mistakes.iter().map(|mistake| mistake.place.line).collect();
        assert_eq!(lines, [3, 6, 8, 10], "{mistakes:?}");
        assert_eq!(mistakes[0].place.column, 3);
        assert!(mistakes[1].what.contains("modle") && mistakes[3].what.contains("a model or a spec"));
    }

    #[test]
    fn a_spec_may_stand_in_the_list_and_anchors_are_kept() {
        let yaml = "- &first\n  name: r1\n  mac: 3c:ec:ef:00:00:01\n  spec: {memory: {total_gib: 64}}\n\
                    - name: r2\n  mac: 3c:ec:ef:00:00:02\n  spec: \"memory: {total_gib: 64}\"\n";
        let hosts = from_yaml(yaml, Some("r640")).unwrap();
        assert_eq!(hosts[0].values.expected_spec_yaml, "memory:\n  total_gib: 64\n");
        assert_eq!(hosts[1].values.expected_spec_yaml, "memory: {total_gib: 64}");
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_or_refused(text in "\\PC{0,200}", lines in "[-a-z:,\" \n]{0,200}") {
            for text in [text, lines] {
                for read in [from_csv(&text, Some("m")), from_yaml(&text, Some("m"))] {
                    prop_assert!(read.map_or_else(|mistakes| !mistakes.is_empty(), |hosts| !hosts.is_empty()));
                }
            }
        }
    }
}
