//! The Debian package, before anybody makes it: what its description names is there, and its unit and configuration fit
//! each other.
#![expect(clippy::disallowed_methods, reason = "cargo tells what the package is made of")]
#![expect(clippy::unwrap_used, reason = "clippy knows tests only by their attribute, not their helpers")]

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use vetting_coordinator::config::Config;

/// The folder of this crate, to which the description's paths are relative.
const CRATE: &str = env!("CARGO_MANIFEST_DIR");

/// `[package.metadata.deb]`.
fn description() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(CRATE)
        .output()
        .unwrap();
    let workspace: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = workspace["packages"].as_array().unwrap();
    let package = packages.iter().find(|package| package["name"] == "vetting-coordinator").unwrap();
    package["metadata"]["deb"].clone()
}

fn unit() -> String {
    std::fs::read_to_string(Path::new(CRATE).join("../packaging/vetting-coordinator.service")).unwrap()
}

#[test]
fn what_goes_in_is_there() {
    let deb = description();
    let assets = deb["assets"].as_array().unwrap();
    assert!(assets.len() > 5);
    for asset in assets {
        let source = asset[0].as_str().unwrap();
        // what the build makes
        if source.trim_start_matches("../").starts_with("target/") {
            continue;
        }
        let path = Path::new(CRATE).join(source);
        let (folder, name) = (path.parent().unwrap(), path.file_name().unwrap().to_str().unwrap());
        let ending = name.strip_prefix('*');
        let found = std::fs::read_dir(folder).unwrap().any(|entry| {
            let entry = entry.unwrap().file_name().into_string().unwrap();
            ending.map_or(entry == name, |ending| entry.ends_with(ending))
        });
        assert!(found, "{source}");
    }
    for key in ["changelog", "maintainer-scripts"] {
        assert!(Path::new(CRATE).join(deb[key].as_str().unwrap()).exists(), "{key}");
    }
    for script in ["postinst", "postrm"] {
        let text =
            std::fs::read_to_string(Path::new(CRATE).join("../packaging/debian").join(script)).unwrap();
        // without it the unit is neither known to systemd nor restarted after an upgrade
        assert!(text.starts_with("#!/bin/sh\nset -e\n") && text.contains("\n#DEBHELPER#\n"), "{script}");
    }
    let units = &deb["systemd-units"];
    assert_eq!((&units["enable"], &units["start"]), (&false.into(), &false.into()));
}

#[test]
fn unit_and_configuration_fit_each_other() {
    let (deb, unit) = (description(), unit());
    let said = |key: &str| {
        let line = unit.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.unwrap_or_else(|| panic!("{key}"))
    };
    let has = |target: &str, source: &str| {
        let assets = deb["assets"].as_array().unwrap();
        assert!(assets.iter().any(|asset| asset[0] == source && asset[1] == target), "{source} → {target}");
    };
    assert_eq!(said("ExecStart"), "vetting-coordinator --config /etc/vetting/vetting.yaml serve");
    has("usr/bin/", "target/release/vetting-coordinator");
    has("etc/vetting/", "../packaging/vetting.yaml");
    assert_eq!(said("Documentation"), "man:vetting-coordinator(1)");
    has("usr/share/man/man1/", "../target/share/man/man1/*.1");

    let config = Config::load(&Path::new(CRATE).join("../packaging/vetting.yaml")).unwrap();
    let state = Path::new("/var/lib").join(said("StateDirectory"));
    assert_eq!(config.state_dir, state);
    assert!(config.database.path.starts_with(&state) && config.artifacts_dir().starts_with(&state));
    let postinst = std::fs::read_to_string(Path::new(CRATE).join("../packaging/debian/postinst")).unwrap();
    let folder = format!("install -d -m {} -o {} -g", said("StateDirectoryMode"), said("User"));
    assert!(postinst.contains(&folder), "{folder}");
}
