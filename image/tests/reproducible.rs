//! The image built twice is the same, byte for byte; and it can still be built when the mirror has lost a package.

use std::path::Path;

use vetting_image::build::{Payload, Places, SHIPPED_LEVEL, build};
use vetting_image::manifest::Manifest;

#[test]
fn built_twice_is_the_same() {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let work = tempfile::tempdir().unwrap();
    let mut places = Places::in_repository(&crate_folder.join(".."));
    let init = Payload::Init(crate_folder.join("tests/data/tools-init"));
    let first = build(&places, &init, 1, &work.path().join("first"), &mut |_| ()).unwrap();
    // unpacked packages are reused, but nothing is taken from the cache of compressed archives
    let other_cache = work.path().join("cache");
    std::fs::create_dir(&other_cache).unwrap();
    for shared in ["debs", "unpacked"] {
        std::os::unix::fs::symlink(
            places.cache.canonicalize().unwrap().join(shared),
            other_cache.join(shared),
        )
        .unwrap();
    }
    places.cache = other_cache;
    let second = build(&places, &init, 1, &work.path().join("second"), &mut |_| ()).unwrap();
    assert_eq!(first, second);
    for file in &first.files {
        let [one, other] = ["first", "second"]
            .map(|folder| std::fs::read(work.path().join(folder).join(&file.name)).unwrap());
        assert!(one == other, "{} differs", file.name);
    }
}

#[test]
fn a_package_gone_from_the_mirror_is_resolved_anew_with_a_warning() {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let work = tempfile::tempdir().unwrap();
    let mut places = Places::in_repository(&crate_folder.join(".."));
    let text = std::fs::read_to_string(&places.lock).unwrap();
    let line = text.lines().find(|line| line.starts_with("dmidecode ")).unwrap();
    let gone = format!(
        "dmidecode 0.1-1 debian/pool/main/d/dmidecode/dmidecode_0.1-1_amd64.deb 1 {}",
        "0".repeat(64)
    );
    places.lock = work.path().join("packages.lock");
    std::fs::write(&places.lock, text.replace(line, &gone)).unwrap();
    let init = Payload::Init(crate_folder.join("tests/data/tools-init"));
    let mut told = Vec::new();
    let output = work.path().join("image");
    let manifest = build(&places, &init, 1, &output, &mut |line| told.push(line.to_owned())).unwrap();
    let warning = told.iter().find(|line| line.starts_with("WARNING")).unwrap();
    assert!(warning.contains("dmidecode_0.1-1_amd64.deb"), "{warning}");
    let used = manifest.packages.iter().find(|package| package.name == "dmidecode").unwrap();
    assert_ne!(used.version, "0.1-1");
    // what was used instead is written down beside the image
    let lock = std::fs::read_to_string(output.join("packages.lock")).unwrap();
    assert!(lock.contains(&format!("dmidecode {} ", used.version)));
}

#[test]
fn the_shipped_image_fits_its_budget() {
    const BUDGET_BYTES: u64 = 56_000_000;
    let work = tempfile::tempdir().unwrap();
    // an agent larger and less compressible than any we have
    let agent = work.path().join("agent");
    let noise: Vec<u8> = (0..8_u32 << 20).map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
    std::fs::write(&agent, noise).unwrap();
    let places = Places::in_repository(&Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
    let output = work.path().join("image");
    let manifest = build(&places, &Payload::Agent(agent), SHIPPED_LEVEL, &output, &mut |_| ()).unwrap();
    assert!(manifest.download_bytes() <= BUDGET_BYTES, "{}", manifest.summary());
    assert_eq!(Manifest::read(&output).unwrap(), manifest);
}
