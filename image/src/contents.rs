//! From the recipe and the unpacked packages to the image's file trees.
//!
//! Owns: what is put where. Refuses: anything the recipe does not name or a named thing does not need.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use globset::GlobBuilder;

use crate::closure::{Closure, ClosureError, Walk};
use crate::driver::{self, Driver};
use crate::elf::{self, ElfError};
use crate::fetch::Unpacked;
use crate::folder;
use crate::index::{Index, IndexError};
use crate::kernel_modules::{self, ModulesError};
use crate::recipe::{PackageFiles, Recipe};
use crate::stubs::{self, StubError};
use crate::tree::{Content, Tree, TreeError, canonical};

const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";
const FIRMWARE: &str = "usr/lib/firmware";
const BARE_TOOL: &str = "busybox";
/// Where the agent (or what stands in for it) is.
const AGENT: &str = "vetting-agent";
/// Programs of the image that are built here against glibc, since they load the libraries of GPUs' drivers.
pub const OWN_PROGRAMS: [&str; 2] = ["nvml-probe", "gpu-load"];
/// Modules that the squashfs is mounted by.
const EARLY_MODULES: [&str; 2] = ["loop", "squashfs"];

/// Why the contents cannot be put together.
#[derive(Debug, thiserror::Error)]
pub enum ContentsError {
    /// The unpacked packages cannot be read.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// A program or library is missing.
    #[error(transparent)]
    Closure(#[from] ClosureError),
    /// A stub library cannot be made.
    #[error(transparent)]
    Stub(#[from] StubError),
    /// The kernel modules cannot be had.
    #[error(transparent)]
    Modules(#[from] ModulesError),
    /// A kernel module is damaged.
    #[error(transparent)]
    Elf(#[from] ElfError),
    /// The tree refuses something.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A file of the recipe or of the working folder cannot be read.
    #[error("{}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// No locked package has a kernel.
    #[error("no locked package has a kernel; is `kernel` in initramfs/packages.yaml right?")]
    NoKernel,
    /// A file that a recipe names is not in its package.
    #[error("initramfs/{recipe}: {package} has no {what}")]
    NoFile {
        /// File of the recipe.
        recipe: &'static str,
        /// Package name.
        package: String,
        /// Path or pattern.
        what: String,
    },
    /// A firmware pattern is malformed.
    #[error("initramfs/firmware.yaml: {pattern:?}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        source: globset::Error,
    },
}

/// The kernel to boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// Version as `uname -r` says.
    pub version: String,
    /// Its bootable file on the build host.
    pub vmlinuz: PathBuf,
    /// Folder of its unpacked package.
    pub root: PathBuf,
}

/// Who mounts the squashfs at `/usr` and goes on from there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstStep {
    /// The agent itself, as the kernel's init: no other program is needed before `/usr` is there.
    Agent,
    /// `early-init`, a script of busybox, which becomes what stands in for the agent.
    Script,
}

/// Everything but the agent.
#[derive(Debug, Clone)]
pub struct Contents {
    /// What the kernel unpacks: configuration, and what mounts the rest.
    pub early: Tree,
    /// Tools, modules and firmware: what is mounted at `/usr`, with paths relative to it.
    pub usr: Tree,
    /// Firmware that modules of the image may ask for and that is not in it.
    pub firmware_left_out: Vec<String>,
}

/// The kernel among the unpacked packages.
pub fn kernel(packages: &[Unpacked]) -> Result<Kernel, ContentsError> {
    let mut kernels = packages.iter().filter_map(|unpacked| {
        let version = unpacked.package.name.strip_prefix("linux-image-")?.to_owned();
        let vmlinuz = unpacked.root.join("boot").join(format!("vmlinuz-{version}"));
        vmlinuz.is_file().then(|| Kernel { version, vmlinuz, root: unpacked.root.clone() })
    });
    kernels.next_back().ok_or(ContentsError::NoKernel)
}

/// Everything but the agent; `programs` has [`OWN_PROGRAMS`]. `work` is a folder which the tree's contents
/// refer to afterwards.
pub fn full(
    recipe: &Recipe,
    packages: &[Unpacked],
    driver: Option<&Driver>,
    first: FirstStep,
    programs: &Path,
    work: &Path,
) -> Result<Contents, ContentsError> {
    // what is locked stays what it is, whatever the driver's packages bring
    let index = Index::read(driver.iter().flat_map(|driver| &driver.packages).chain(packages))?;
    let mut tree = Tree::with_skeleton();
    // a driver's folder may bring what a stub stands in for
    let is_real = |library: &str| driver.is_some_and(|driver| driver.brings(&index, library));
    let stubs = recipe.packages.stubs.iter().map(|stub| stub.library.as_str());
    let stubs: Vec<&str> = stubs.filter(|library| !is_real(library)).collect();
    let mut walk = Walk::new(&index, stubs.iter().copied());
    for package in &recipe.packages.packages {
        for program in &package.binaries {
            walk.program(&package.name, program)?;
        }
    }
    for program in OWN_PROGRAMS {
        walk.needs_of_own(&programs.join(program))?;
    }
    for path in driver.iter().flat_map(|driver| driver.files(&index)) {
        walk.file(path);
    }
    let closure = walk.finish()?;
    add_closure(&mut tree, &index, &closure)?;
    for program in OWN_PROGRAMS {
        tree.add_bytes(&format!("usr/bin/{program}"), program, read(&programs.join(program))?, true)?;
    }
    for library in stubs {
        let bytes = stubs::compile(library, &closure, work)?;
        tree.add_bytes(&format!("{LIBRARIES}/{library}"), "stub libraries", bytes, false)?;
    }
    for package in &recipe.packages.packages {
        for path in &package.data {
            add_data(&mut tree, &index, &package.name, path)?;
        }
    }
    add_applets(&mut tree, &recipe.packages.busybox_applets)?;
    let asked_for = add_modules(&mut tree, recipe, packages, driver, work)?;
    add_firmware(&mut tree, recipe, &index)?;
    if let Some(driver) = driver {
        add_driver(&mut tree, &index, driver)?;
    }
    add_overlay(&mut tree, &recipe.overlay, "")?;
    tree.add_symlink("usr/bin/vetting-agent", "agent", "/vetting-agent")?;
    let missing = |name: &String| !tree.contains(&format!("{FIRMWARE}/{name}"));
    let firmware_left_out = asked_for.into_iter().filter(missing).collect();
    let usr = tree.split_off("usr");
    let mut early = tree;
    early.add_skeleton();
    for module in EARLY_MODULES {
        let source = kernel_modules::staged_file(&work.join("modules"), &kernel(packages)?.version, module)?;
        early.add_file(&format!("early/{module}.ko"), "early", &source)?;
    }
    match first {
        FirstStep::Agent => early.add_symlink("init", "early", AGENT)?,
        FirstStep::Script => add_script(&mut early, recipe, &index)?,
    }
    Ok(Contents { early, usr, firmware_left_out })
}

/// Add busybox, and the script that mounts the squashfs and becomes what stands in for the agent.
fn add_script(tree: &mut Tree, recipe: &Recipe, index: &Index) -> Result<(), ContentsError> {
    let mut walk = Walk::new(index, []);
    walk.program(BARE_TOOL, BARE_TOOL)?;
    add_closure(tree, index, &walk.finish()?)?;
    tree.add_bytes("init", "early", read(&recipe.early_init)?, true)?;
    Ok(())
}

/// Only busybox: what the bench compares the full image with.
pub fn bare(recipe: &Recipe, packages: &[Unpacked], init: &Path) -> Result<Tree, ContentsError> {
    let index = Index::read(packages)?;
    let mut tree = Tree::with_skeleton();
    let mut walk = Walk::new(&index, []);
    walk.program(BARE_TOOL, BARE_TOOL)?;
    add_closure(&mut tree, &index, &walk.finish()?)?;
    add_applets(&mut tree, &recipe.packages.busybox_applets)?;
    tree.add_bytes("init", "init", read(init)?, true)?;
    Ok(tree)
}

/// The agent, or a program or script in its place: an archive of its own, so that after a change of only the agent
/// everything else comes from the cache.
pub fn agent(agent: &Path) -> Result<Tree, ContentsError> {
    let mut tree = Tree::default();
    tree.add_bytes(AGENT, "agent", read(agent)?, true)?;
    Ok(tree)
}

fn add_closure(tree: &mut Tree, index: &Index, closure: &Closure) -> Result<(), ContentsError> {
    for path in &closure.paths {
        add_found(tree, index, path)?;
    }
    Ok(())
}

/// Add one file or link of the index as it is.
fn add_found(tree: &mut Tree, index: &Index, path: &str) -> Result<(), ContentsError> {
    let Some(found) = index.get(path) else { return Ok(()) };
    match &found.link {
        Some(target) => tree.add_symlink(path, &found.package, target)?,
        None => tree.add_file(path, &found.package, &found.source)?,
    }
    Ok(())
}

/// Add what a path leads to, links on the way included; false if it leads nowhere.
fn add_resolved(tree: &mut Tree, index: &Index, path: &str) -> Result<bool, ContentsError> {
    let Some(resolved) = index.resolve(path) else { return Ok(false) };
    for path in resolved.links.iter().chain([&resolved.file]) {
        add_found(tree, index, path)?;
    }
    Ok(true)
}

fn add_data(tree: &mut Tree, index: &Index, package: &str, path: &str) -> Result<(), ContentsError> {
    let missing = || ContentsError::NoFile {
        recipe: "packages.yaml",
        package: package.to_owned(),
        what: path.to_owned(),
    };
    let path = canonical(path).ok_or_else(missing)?;
    let mut found = add_resolved(tree, index, &path)?;
    for (below, _) in index.below(&path) {
        found |= add_resolved(tree, index, below)?;
    }
    found.then_some(()).ok_or_else(missing)
}

/// Debian's own tools keep their names: an applet gets a link only where nothing else is.
fn add_applets(tree: &mut Tree, applets: &[String]) -> Result<(), ContentsError> {
    for applet in applets {
        let taken = ["usr/bin", "usr/sbin"].iter().any(|folder| tree.contains(&format!("{folder}/{applet}")));
        if !taken {
            tree.add_symlink(&format!("usr/bin/{applet}"), "busybox", BARE_TOOL)?;
        }
    }
    Ok(())
}

/// Add the modules and their index; returns the firmware they may ask for.
fn add_modules(
    tree: &mut Tree,
    recipe: &Recipe,
    packages: &[Unpacked],
    driver: Option<&Driver>,
    work: &Path,
) -> Result<BTreeSet<String>, ContentsError> {
    let kernel = kernel(packages)?;
    let added = driver.map(|driver| &driver.modules);
    let staged =
        kernel_modules::stage(&recipe.modules, added, &kernel.root, &kernel.version, &work.join("modules"))?;
    let base = format!("usr/lib/modules/{}", kernel.version);
    let mut firmware = BTreeSet::new();
    for (file, group) in &staged.groups {
        let source = staged.folder.join(file);
        firmware.extend(elf::module_info(&source, "firmware")?);
        tree.add_file(&format!("{base}/{file}"), &format!("modules: {group}"), &source)?;
    }
    for entry in list(&staged.folder)? {
        let Some(name) = entry.file_name().and_then(|name| name.to_str()) else { continue };
        if entry.is_file() {
            tree.add_file(&format!("{base}/{name}"), "modules: index", &entry)?;
        }
    }
    Ok(firmware)
}

fn add_firmware(tree: &mut Tree, recipe: &Recipe, index: &Index) -> Result<(), ContentsError> {
    for package in &recipe.firmware.packages {
        for pattern in &package.files {
            let glob = GlobBuilder::new(pattern)
                .literal_separator(true)
                .build()
                .map_err(|source| ContentsError::Pattern { pattern: pattern.clone(), source })?
                .compile_matcher();
            let mut matched = false;
            for (path, found) in index.below(FIRMWARE) {
                let below = path.strip_prefix(FIRMWARE).map(|path| path.trim_start_matches('/'));
                if found.package == package.name && below.is_some_and(|below| glob.is_match(below)) {
                    matched |= add_resolved(tree, index, path)?;
                }
            }
            if !matched {
                let (package, what) = (package.name.clone(), pattern.clone());
                return Err(ContentsError::NoFile { recipe: "firmware.yaml", package, what });
            }
        }
    }
    Ok(())
}

/// Add what the driver's packages bring, under the names by which it is looked for.
fn add_driver(tree: &mut Tree, index: &Index, driver: &Driver) -> Result<(), ContentsError> {
    for path in driver.files(index).chain(driver.firmware(index)) {
        add_resolved(tree, index, path)?;
    }
    for (name, target) in driver.aliases(index) {
        if !tree.contains(&name) {
            tree.add_symlink(&name, driver::PART, &target)?;
        }
    }
    Ok(())
}

fn add_overlay(tree: &mut Tree, folder: &Path, path: &str) -> Result<(), ContentsError> {
    use std::os::unix::fs::PermissionsExt;
    for entry in list(folder)? {
        let Some(name) = entry.file_name().and_then(|name| name.to_str()) else { continue };
        let below = if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
        if entry.is_dir() {
            add_overlay(tree, &entry, &below)?;
        } else {
            let metadata = std::fs::metadata(&entry)
                .map_err(|source| ContentsError::File { path: entry.clone(), source })?;
            let executable = metadata.permissions().mode() & 0o111 != 0;
            tree.replace(&below, "overlay", read(&entry)?, executable);
        }
    }
    Ok(())
}

/// The files of the netboot folder: name and content.
pub fn netboot_files(
    recipe: &Recipe,
    packages: &[Unpacked],
) -> Result<Vec<(String, Content)>, ContentsError> {
    let named = |source: PathBuf| {
        let name = source.file_name().unwrap_or_default().to_string_lossy().into_owned();
        (name, Content::File(source))
    };
    Ok(files_beside(&recipe.packages.netboot, packages)?.into_iter().map(named).collect())
}

/// Where the unpacked packages have these files, in the order of the recipe.
pub fn files_beside(wanted: &[PackageFiles], packages: &[Unpacked]) -> Result<Vec<PathBuf>, ContentsError> {
    let mut found = Vec::new();
    for PackageFiles { package, files } in wanted {
        let unpacked = packages.iter().find(|unpacked| unpacked.package.name == *package);
        for file in files {
            let source = unpacked.map(|unpacked| unpacked.root.join(file)).filter(|source| source.is_file());
            found.push(source.ok_or_else(|| ContentsError::NoFile {
                recipe: "packages.yaml",
                package: package.clone(),
                what: file.clone(),
            })?);
        }
    }
    Ok(found)
}

fn list(folder: &Path) -> Result<Vec<PathBuf>, ContentsError> {
    folder::sorted(folder).map_err(|source| ContentsError::File { path: folder.to_owned(), source })
}

fn read(path: &Path) -> Result<Vec<u8>, ContentsError> {
    std::fs::read(path).map_err(|source| ContentsError::File { path: path.to_owned(), source })
}
