//! The image built twice is the same, byte for byte.

use std::path::Path;

use vetting_image::build::{Payload, Places, build};

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
