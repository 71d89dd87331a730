//! The published JSON Schema has the keys that the parser takes, all of them and no others.

use std::collections::BTreeSet;

use serde_json::Value;

use super::*;

/// Every key there is, at least once.
const EVERY_KEY: &str = r#"
model: r640
system: {manufacturer: "Dell*", product: {value: "PowerEdge R640", severity: warning}}
cpu: {model: "Intel*", sockets: 2, physical_cores: 32, logical_cores: {min: 32, max: 64}}
memory:
  total_gib: 384
  dimms: {count: 12, size_gib: 32, type: DDR4, speed_mts: {min: 2666, severity: warning}, ecc: {value: true, severity: warning}}
disks:
  - {count: 2, kind: nvme, model: "INTEL*", size_gb: 480, firmware: XCV10132, power_on_hours: {max: 100}, wear_percent: {max: 3, severity: warning}}
  - {count: 2, kind: {value: ssd, severity: warning}}
nics: [{count: {min: 2}, driver: ixgbe, model: "*X520*", speed_mbps: {value: 10000, severity: info}, full_duplex: true}]
gpus: [{count: 1, model: "*"}]
firmware:
  bios: {minimum: "2.10"}
  bmc: {version: "4.22", severity: warning}
  nic: {glob: "19.*"}
  hba: "16.*"
  microcode: {minimum: "0x2006a08"}
  nvme_fw: "VDV101*"
pcie: [{device: "*ConnectX*", count: 2, width: 16, speed_gts: {min: 8}}]
bios: {uefi: true, secure_boot: {value: false, severity: warning}, smt: true, virtualization: true, iommu: true}
thresholds:
  - {stage: CPUStress, kind: temp, key: "cpu/*", op: lt, threshold: 85, unit: celsius, severity: critical, samples: 2, ends_stage: true, note: x}
  - {kind: volt, key: "+12V", op: within_pct, threshold: 3, nominal: 12, unit: volts, severity: warning, for: 30s, note: x}
  - {kind: smart_attr, key: "*/5_*", op: lte, severity: warning, disabled: true, note: x}
stages:
  - {stage: Storage, profiles: [quick], limit: 20m, fio_read: 60s, fio_random: 5s, surface: {mode: read_zones, zones: 2, zone_mib: 1}, disks_at_once: 4, disks_per_controller: 2, note: x}
  - {stage: SMART, self_test: none, note: x}
  - {stage: CPUStress, cpu: 1s, per_core: 1s, memory: 1s, memory_percent: 60, note: x}
  - {stage: Memory, duration: 1s, fade: 1s, note: x}
  - {stage: Network, links: all, required: true, note: x}
  - {stage: GPU, dcgm_level: 2, note: x}
  - {stage: PSU, profiles: [quick], load: 1s, note: x}
  - {stage: PSU, profiles: [deep, soak], disabled: true, note: x}
  - {stage: Reboot, profiles: [deep], restarts: 1, cold: 0, note: x}
  - {stage: Memtest, profiles: [deep], kernel_patterns: 1, passes: 1, budget: 1h, unwatched: true, note: x}
"#;

fn schema() -> Value {
    serde_json::from_str(SCHEMA).unwrap()
}

/// The schema itself, or what it refers to.
fn resolved<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    match schema["$ref"].as_str() {
        Some(reference) => root.pointer(reference.trim_start_matches('#')).unwrap(),
        None => schema,
    }
}

/// Notes each key of `value` as `place.key`, and fails where no form of the schema has it.
fn walk(root: &Value, schema: &Value, value: &Value, place: &str, seen: &mut BTreeSet<String>) {
    let schema = resolved(root, schema);
    match value {
        Value::Array(values) => {
            for value in values {
                walk(root, &schema["items"], value, place, seen);
            }
        }
        Value::Object(fields) => {
            let own = schema.get("properties").map(|_| schema);
            let forms = schema["oneOf"].as_array().into_iter().flatten().chain(own);
            let objects: Vec<&Value> = forms.filter(|form| form.get("properties").is_some()).collect();
            for (key, value) in fields {
                let form = objects.iter().find(|form| {
                    fields.keys().all(|key| form["properties"].get(key).is_some())
                        && form["additionalProperties"] == Value::Bool(false)
                });
                let form = form.unwrap_or_else(|| panic!("{place} has no form for {fields:?}"));
                seen.insert(format!("{place}.{key}"));
                walk(root, &form["properties"][key], value, &format!("{place}.{key}"), seen);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Every property that the schema knows, as `walk` names them.
fn properties(root: &Value, schema: &Value, place: &str, all: &mut BTreeSet<String>) {
    let schema = resolved(root, schema);
    for form in schema["oneOf"].as_array().into_iter().flatten() {
        if form.get("properties").is_some() {
            properties(root, form, place, all);
        }
    }
    if schema.get("items").is_some() {
        properties(root, &schema["items"], place, all);
    }
    for (key, below) in schema["properties"].as_object().into_iter().flatten() {
        all.insert(format!("{place}.{key}"));
        properties(root, below, &format!("{place}.{key}"), all);
    }
}

#[test]
fn the_schema_has_the_keys_of_the_parser() {
    HostSpec::parse(EVERY_KEY).unwrap_or_else(|error| panic!("{error}"));
    let (root, value) = (schema(), serde_yaml::from_str::<Value>(EVERY_KEY).unwrap());
    let (mut seen, mut all) = (BTreeSet::new(), BTreeSet::new());
    walk(&root, &root, &value, "", &mut seen);
    properties(&root, &root, "", &mut all);
    // forms of a text, number, flag or version are the same everywhere: each is tried once above
    let form = |path: &&String| {
        let key = path.rsplit('.').next().unwrap_or_default();
        matches!(key, "value" | "severity" | "min" | "max" | "version" | "minimum" | "glob")
    };
    let unseen: Vec<&String> = all.difference(&seen).filter(|path| !form(path)).collect();
    assert!(unseen.is_empty(), "in the schema, but not in the spec with every key: {unseen:?}");
}

#[test]
fn words_are_those_of_the_parser() {
    let root = schema();
    let words = |path: &str| -> Vec<String> {
        root.pointer(path).unwrap()["enum"]
            .as_array()
            .unwrap()
            .iter()
            .map(|word| word.as_str().unwrap().to_owned())
            .collect()
    };
    let all = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let ops: Vec<&str> = crate::threshold::Op::ALL.iter().map(|op| op.as_str()).collect();
    assert_eq!(words("/$defs/threshold/properties/op"), all(&ops));
    let kinds: Vec<&str> =
        vetting_protocol::inventory::DiskKind::ALL.iter().map(|kind| kind.as_str()).collect();
    assert_eq!(words("/$defs/disk_kind/oneOf/0"), all(&kinds));
    let stages: Vec<&str> =
        vetting_protocol::ids::StageName::ALL.iter().map(|stage| stage.as_str()).collect();
    assert_eq!(words("/$defs/stage/properties/stage"), all(&stages));
    let severities: Vec<&str> =
        vetting_protocol::diff::Severity::ALL.iter().map(|severity| severity.as_str()).collect();
    assert_eq!(words("/$defs/severity"), all(&severities));
}
