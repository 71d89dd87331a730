//! Building the image: from lock file and recipe to `vmlinuz`, `initrd.zst`, `netboot/`, disc, stick and
//! `manifest.json`.
//!
//! Owns: the order of the steps, the output folder, one build at a time in a cache. Refuses: half-written files (each
//! is written beside and renamed; the manifest last).

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};

use crate::apt::{self, AptError};
use crate::archive::{self, ArchiveError, Cached, Packed};
use crate::contents::{self, ContentsError, FirstStep};
use crate::digest;
use crate::driver::{Driver, DriverError};
use crate::fetch::{self, FetchError, Unpacked};
use crate::lock::{self, LockError, LockedPackage};
use crate::manifest::{Archive, BuiltFile, Manifest, PackageVersion, Part};
use crate::media::{self, MediaError, Sources};
use crate::mirror::{Mirror, MirrorError};
use crate::prune;
use crate::recipe::{Recipe, RecipeError};
use crate::tree::{Tree, TreeError};

/// What runs as PID 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// The agent: started as `/init`, also there as `/usr/bin/vetting-agent`.
    Agent(PathBuf),
    /// This program or script instead of the agent, in the full image.
    Init(PathBuf),
    /// Only busybox and this script, without tools and modules: the bench's measure.
    Bare(PathBuf),
}

impl Payload {
    /// Which builds replace each other in the cache.
    fn kind(&self) -> &'static str {
        match self {
            Self::Agent(_) => "agent",
            Self::Init(_) => "init",
            Self::Bare(_) => "bare",
        }
    }
}

/// Where `make build` puts the programs of the image that are built here, below the repository's root.
pub const PROGRAMS: &str = "target/release";

/// Where things are.
#[derive(Debug, Clone)]
pub struct Places {
    /// Folder with the recipe (`initramfs/`).
    pub recipe: PathBuf,
    /// The lock file (`image/packages.lock`).
    pub lock: PathBuf,
    /// Cache of packages and compressed archives; may be deleted at any time.
    pub cache: PathBuf,
    /// Folder with the programs of the image that are built here ([`contents::OWN_PROGRAMS`]), linked against a glibc no
    /// newer than the image's.
    pub programs: PathBuf,
    /// A mirror to use instead of what apt on this host uses.
    pub mirror: Option<String>,
    /// Folder with NVIDIA's driver, if the image is to have it.
    pub nvidia_driver: Option<PathBuf>,
}

impl Places {
    /// The usual places below the repository's root.
    pub fn in_repository(root: &Path) -> Self {
        Self {
            recipe: root.join("initramfs"),
            lock: root.join("image/packages.lock"),
            cache: root.join(".cache"),
            programs: root.join(PROGRAMS),
            mirror: None,
            nvidia_driver: None,
        }
    }

    fn mirror(&self) -> Result<Mirror, MirrorError> {
        self.mirror.as_deref().map_or_else(Mirror::of_this_host, |base| Ok(Mirror::at(base)))
    }
}

/// The disc's file name.
pub const ISO: &str = "vetting.iso";
/// The stick's file name.
pub const USB: &str = "vetting-usb.img";

/// zstd's level for what is shipped.
pub const SHIPPED_LEVEL: u8 = 19;

/// Why a build failed.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The recipe is refused.
    #[error("reading the recipe")]
    Recipe(#[from] RecipeError),
    /// The lock file is refused.
    #[error("reading the lock file")]
    Lock(#[from] LockError),
    /// There is no place to take packages from.
    #[error("looking for packages")]
    Mirror(#[from] MirrorError),
    /// Packages cannot be resolved.
    #[error("resolving packages")]
    Apt(#[from] AptError),
    /// Packages cannot be had.
    #[error("fetching packages")]
    Fetch(#[from] FetchError),
    /// The driver is refused.
    #[error("taking NVIDIA's driver")]
    Driver(#[from] DriverError),
    /// The contents cannot be put together.
    #[error("putting the image together")]
    Contents(#[from] ContentsError),
    /// A tree cannot be written.
    #[error("writing the initramfs")]
    Tree(#[from] TreeError),
    /// An archive cannot be compressed.
    #[error("compressing the initramfs")]
    Archive(#[from] ArchiveError),
    /// Disc or stick cannot be made.
    #[error("making disc and stick")]
    Media(#[from] MediaError),
    /// The manifest cannot be encoded.
    #[error("encoding the manifest")]
    Manifest(#[from] serde_json::Error),
    /// An output file failed.
    #[error("{}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The operating system's answer.
        source: std::io::Error,
    },
}

/// Resolve the recipe anew and write the lock file; returns what is in it.
pub fn lock(places: &Places) -> Result<Vec<LockedPackage>, BuildError> {
    let recipe = Recipe::read(&places.recipe)?;
    let _guard = guard(&places.cache)?;
    let packages = apt::resolve(&recipe, &places.mirror()?, &places.cache.join("apt"))?;
    write(&places.lock, lock::render(&packages).as_bytes())?;
    Ok(packages)
}

/// Build the image into `output`. `tell` hears one line about each step, warnings included.
pub fn build(
    places: &Places,
    payload: &Payload,
    level: u8,
    output: &Path,
    tell: &mut dyn FnMut(&str),
) -> Result<Manifest, BuildError> {
    let recipe = Recipe::read(&places.recipe)?;
    let _guard = guard(&places.cache)?;
    let (unpacked, replaced_lock) = packages(places, &recipe, tell)?;
    let work = tempfile::tempdir_in(&places.cache)
        .map_err(|source| BuildError::File { path: places.cache.clone(), source })?;
    let kernel = contents::kernel(&unpacked)?;
    let driver = match &places.nvidia_driver {
        Some(folder) => {
            Some(Driver::read(folder, &kernel.version, &places.cache, &work.path().join("driver"))?)
        }
        None => None,
    };
    if let Some(driver) = &driver {
        let Driver { version, packages, .. } = driver;
        tell(&format!("NVIDIA's driver {version}, of {} packages", packages.len()));
    }
    let (segments, firmware_left_out) =
        segments(places, &recipe, &unpacked, driver.as_ref(), payload, work.path())?;
    let unpacked: Vec<Unpacked> =
        unpacked.into_iter().chain(driver.iter().flat_map(|driver| driver.packages.clone())).collect();
    let mut initrd = Vec::new();
    let (mut archives, mut parts) = (Vec::new(), Vec::new());
    let mut used: BTreeSet<String> =
        unpacked.iter().map(|unpacked| unpacked.package.sha256.clone()).collect();
    for Segment { name, tree, form } in &segments {
        let Packed { bytes, cached, name: archive } = form.pack(tree, level, &places.cache)?;
        used.insert(archive);
        let unpacked_bytes: u64 = tree.bytes_by_part()?.values().sum();
        let how = if cached == Cached::Yes { "from the cache" } else { "compressed" };
        tell(&format!("{name}: {} kB, {how} to {} kB", unpacked_bytes / 1000, bytes.len() / 1000));
        archives.push(Archive { name: (*name).to_owned(), unpacked_bytes, packed_bytes: bytes.len() as u64 });
        initrd.extend(bytes);
        // the kernel looks for the next archive at a multiple of four
        initrd.resize(initrd.len().next_multiple_of(4), 0);
        for (part, bytes) in tree.bytes_by_part()? {
            parts.push(Part { name: format!("{name}: {part}"), bytes });
        }
    }
    parts.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.name.cmp(&b.name)));
    let vmlinuz = read(&kernel.vmlinuz)?;
    let mut files =
        vec![output_file(output, "vmlinuz", &vmlinuz)?, output_file(output, "initrd.zst", &initrd)?];
    for (name, content) in contents::netboot_files(&recipe, &unpacked)? {
        files.push(output_file(output, &format!("netboot/{name}"), &content.read()?)?);
    }
    if !matches!(payload, Payload::Bare(_)) {
        let sources = Sources::new(output, &recipe, &unpacked)?;
        files.push(medium(output, ISO, work.path(), |work, made| media::iso::make(&sources, work, made))?);
        files.push(medium(output, USB, work.path(), |work, made| media::usb::make(&sources, work, made))?);
        tell(&format!("{ISO}, {USB}: made"));
    }
    if let Some(text) = replaced_lock {
        files.push(output_file(output, "packages.lock", text.as_bytes())?);
    }
    let manifest = Manifest {
        kernel_version: kernel.version,
        files,
        archives,
        parts,
        agent: agent_entry(payload)?,
        packages: unpacked.iter().map(|unpacked| PackageVersion::from(&unpacked.package)).collect(),
        nvidia_driver: driver.map(|driver| driver.version),
        firmware_left_out,
    };
    let mut text = serde_json::to_string_pretty(&manifest)?;
    text.push('\n');
    write(&output.join("manifest.json"), text.as_bytes())?;
    prune(places, payload.kind(), level, &used, tell);
    Ok(manifest)
}

/// Throws away what the cache holds for nobody. That it cannot is no failure of the build.
fn prune(places: &Places, kind: &str, level: u8, used: &BTreeSet<String>, tell: &mut dyn FnMut(&str)) {
    let locked = lock::read(&places.lock)
        .map(|packages| packages.into_iter().map(|package| package.sha256).collect::<BTreeSet<String>>());
    let Ok(locked) = locked else { return };
    match prune::prune(&places.cache, &format!("{kind}-{level}"), used, &locked) {
        Ok(pruned) if pruned.entries == 0 => {}
        Ok(pruned) => {
            tell(&format!(
                "cache: {} unused things thrown away, {} MB",
                pruned.entries,
                pruned.bytes / 1_000_000
            ));
        }
        Err(error) => tell(&format!("WARNING: {error}: {}", error.source)),
    }
}

/// One archive of the initramfs.
struct Segment {
    name: &'static str,
    tree: Tree,
    form: Form,
}

/// How a tree is packed.
enum Form {
    /// Unpacked by the kernel at boot.
    Cpio,
    /// Carried along as one file, mounted at `/usr`, read as needed.
    Squashfs,
}

impl Form {
    fn pack(&self, tree: &Tree, level: u8, cache: &Path) -> Result<Packed, BuildError> {
        match self {
            Self::Cpio => Ok(archive::compress(&tree.to_cpio()?, level, cache)?),
            Self::Squashfs => {
                let squashfs = archive::squash(tree, level, cache)?;
                let mut carrier = Tree::default();
                carrier.add_bytes("usr.squashfs", "squashfs", squashfs.bytes.clone(), false)?;
                Ok(Packed { bytes: carrier.to_cpio()?, ..squashfs })
            }
        }
    }
}

/// What the initramfs is made of, in order. The kernel unpacks only what is needed before the squashfs is mounted
/// (docs/decisions/0010-two-part-image.md).
fn segments(
    places: &Places,
    recipe: &Recipe,
    unpacked: &[Unpacked],
    driver: Option<&Driver>,
    payload: &Payload,
    work: &Path,
) -> Result<(Vec<Segment>, Vec<String>), ContentsError> {
    let (name, pid_one, first) = match payload {
        Payload::Bare(init) => {
            let tree = contents::bare(recipe, unpacked, init)?;
            return Ok((vec![Segment { name: "bare", tree, form: Form::Cpio }], Vec::new()));
        }
        Payload::Agent(agent) => ("agent", agent, FirstStep::Agent),
        Payload::Init(init) => ("init", init, FirstStep::Script),
    };
    let full = contents::full(recipe, unpacked, driver, first, &places.programs, work)?;
    let segments = vec![
        Segment { name: "early", tree: full.early, form: Form::Cpio },
        Segment { name, tree: contents::agent(pid_one)?, form: Form::Cpio },
        Segment { name: "usr", tree: full.usr, form: Form::Squashfs },
    ];
    Ok((segments, full.firmware_left_out))
}

/// The locked packages, unpacked. Where the mirror has lost one: resolved anew, with a warning, and the text of the
/// lock that this image was made from.
fn packages(
    places: &Places,
    recipe: &Recipe,
    tell: &mut dyn FnMut(&str),
) -> Result<(Vec<Unpacked>, Option<String>), BuildError> {
    let locked = lock::read(&places.lock)?;
    let mirror = places.mirror()?;
    match fetch::fetch(&locked, &mirror, &places.cache) {
        Ok(unpacked) => Ok((unpacked, None)),
        Err(FetchError::Download { count, first, .. }) => {
            tell(&format!(
                "WARNING: {count} locked packages are gone from the mirror ({first} the first). Resolving anew: this \
                 image is NOT made of what packages.lock says. Run `vetting-image lock` and commit the result."
            ));
            let resolved = apt::resolve(recipe, &mirror, &places.cache.join("apt"))?;
            let unpacked = fetch::fetch(&resolved, &mirror, &places.cache)?;
            Ok((unpacked, Some(lock::render(&resolved))))
        }
        Err(other) => Err(other.into()),
    }
}

fn agent_entry(payload: &Payload) -> Result<Option<BuiltFile>, BuildError> {
    let Payload::Agent(path) = payload else { return Ok(None) };
    let bytes = read(path)?;
    Ok(Some(BuiltFile {
        name: "usr/bin/vetting-agent".to_owned(),
        sha256: digest::of_bytes(&bytes),
        size_bytes: bytes.len() as u64,
    }))
}

fn output_file(output: &Path, name: &str, bytes: &[u8]) -> Result<BuiltFile, BuildError> {
    write(&output.join(name), bytes)?;
    Ok(BuiltFile { name: name.to_owned(), sha256: digest::of_bytes(bytes), size_bytes: bytes.len() as u64 })
}

/// A disc or stick: made beside, then renamed, since it is too large to be held in memory.
fn medium(
    output: &Path,
    name: &str,
    work: &Path,
    make: impl FnOnce(&Path, &Path) -> Result<(), MediaError>,
) -> Result<BuiltFile, BuildError> {
    let path = output.join(name);
    let beside = path.with_extension("new");
    make(work, &beside)?;
    let failed = |source| BuildError::File { path: path.clone(), source };
    let sha256 = digest::of_file(&beside).map_err(failed)?;
    let size_bytes = std::fs::metadata(&beside).map_err(failed)?.len();
    std::fs::rename(&beside, &path).map_err(failed)?;
    Ok(BuiltFile { name: name.to_owned(), sha256, size_bytes })
}

/// Write beside, then rename.
fn write(path: &Path, bytes: &[u8]) -> Result<(), BuildError> {
    let failed = |source| BuildError::File { path: path.to_owned(), source };
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(failed)?;
    let beside = path.with_extension("new");
    std::fs::write(&beside, bytes).map_err(failed)?;
    std::fs::rename(&beside, path).map_err(failed)
}

fn read(path: &Path) -> Result<Vec<u8>, BuildError> {
    std::fs::read(path).map_err(|source| BuildError::File { path: path.to_owned(), source })
}

/// One build at a time in a cache: others wait until the returned file is closed.
fn guard(cache: &Path) -> Result<File, BuildError> {
    let path = cache.join("lock");
    let failed = |source| BuildError::File { path: path.clone(), source };
    std::fs::create_dir_all(cache).map_err(failed)?;
    let file = File::create(&path).map_err(failed)?;
    file.lock().map_err(failed)?;
    Ok(file)
}
