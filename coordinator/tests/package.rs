//! The Debian packages, before anybody makes them: what their descriptions name is there, and unit, scripts and
//! configuration fit each other. `tests/tests/debian_packages.rs` installs them.
#![expect(clippy::disallowed_methods, reason = "cargo tells what the packages are made of")]
#![expect(clippy::unwrap_used, reason = "clippy knows tests only by their attribute, not their helpers")]

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use vetting_coordinator::config::Config;

/// What becomes a package: the name, which is also that of the unit, and the folder of its crate.
const PACKAGES: [(&str, &str); 2] = [("vetting-coordinator", "coordinator"), ("vetting-agent", "agent")];

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A package's entry in cargo's metadata.
fn package(name: &str) -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(workspace())
        .output()
        .unwrap();
    let workspace: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = workspace["packages"].as_array().unwrap();
    packages.iter().find(|package| package["name"] == name).unwrap().clone()
}

/// `[package.metadata.deb]`.
fn description(name: &str) -> Value {
    package(name)["metadata"]["deb"].clone()
}

/// What a package's unit says under a key.
fn said(unit: &str, key: &str) -> String {
    let unit = read(&workspace().join(format!("packaging/{unit}.service")));
    let line = unit.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    line.unwrap_or_else(|| panic!("{key}")).to_owned()
}

/// Insists that `source` goes to `target`.
fn has(package: &str, source: &str, target: &str) {
    let deb = description(package);
    let assets = deb["assets"].as_array().unwrap();
    let found = assets.iter().any(|asset| asset[0] == source && asset[1] == target);
    assert!(found, "{package}: {source} → {target}");
}

#[test]
fn what_goes_in_is_there() {
    for (name, crate_folder) in PACKAGES {
        let folder = workspace().join(crate_folder);
        assert!(package(name)["description"].is_string(), "{name}");
        let deb = description(name);
        let assets = deb["assets"].as_array().unwrap();
        assert!(assets.len() > 2);
        for asset in assets {
            let source = asset[0].as_str().unwrap();
            // what the build makes
            if source.trim_start_matches("../").starts_with("target/") {
                continue;
            }
            let path = folder.join(source);
            let (folder, file) = (path.parent().unwrap(), path.file_name().unwrap().to_str().unwrap());
            let ending = file.strip_prefix('*');
            let found = std::fs::read_dir(folder).unwrap().any(|entry| {
                let entry = entry.unwrap().file_name().into_string().unwrap();
                ending.map_or(entry == file, |ending| entry.ends_with(ending))
            });
            assert!(found, "{source}");
        }
        let changelog = read(&folder.join(deb["changelog"].as_str().unwrap()));
        let newest = format!("{name} ({})", env!("CARGO_PKG_VERSION"));
        assert!(changelog.starts_with(&newest), "{changelog}");
        let scripts = folder.join(deb["maintainer-scripts"].as_str().unwrap());
        for script in ["postinst", "postrm"] {
            let text = read(&scripts.join(script));
            // without it the unit is neither known to systemd nor restarted after an upgrade
            assert!(text.starts_with("#!/bin/sh\nset -e\n") && text.contains("\n#DEBHELPER#\n"), "{script}");
        }
        let units = &deb["systemd-units"];
        assert_eq!(units["unit-name"], name);
        assert_eq!((&units["enable"], &units["start"]), (&false.into(), &false.into()));
    }
}

#[test]
fn the_coordinators_unit_and_configuration_fit_each_other() {
    let name = "vetting-coordinator";
    assert_eq!(said(name, "ExecStart"), "vetting-coordinator --config /etc/vetting/vetting.yaml serve");
    has(name, "target/release/vetting-coordinator", "usr/bin/");
    has(name, "../packaging/vetting.yaml", "etc/vetting/");
    assert_eq!(said(name, "Documentation"), "man:vetting-coordinator(1)");
    has(name, "../target/share/man/man1/*.1", "usr/share/man/man1/");

    let config = Config::load(&workspace().join("packaging/vetting.yaml")).unwrap();
    let state = Path::new("/var/lib").join(said(name, "StateDirectory"));
    assert_eq!(config.state_dir, state);
    assert!(config.database.path.starts_with(&state) && config.artifacts_dir().starts_with(&state));
    let postinst = read(&workspace().join("packaging/debian/postinst"));
    let folder = format!("install -d -m {} -o {} -g", said(name, "StateDirectoryMode"), said(name, "User"));
    assert!(postinst.contains(&folder), "{folder}");
}

#[test]
fn the_agents_unit_waits_for_the_settings_that_its_script_tells_of() {
    let name = "vetting-agent";
    let settings = said(name, "ConditionPathExists");
    assert_eq!(said(name, "ExecStart"), format!("vetting-agent host --config {settings}"));
    has(name, "target/release/vetting-agent", "usr/bin/");
    let examples = "usr/share/doc/vetting-agent/examples/";
    has(name, "../packaging/agent.yaml", examples);
    let postinst = read(&workspace().join("packaging/debian-agent/postinst"));
    let step = format!("install -m 600 /{examples}agent.yaml {settings}");
    assert!(postinst.contains(&step), "{step}");
}
