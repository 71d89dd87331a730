//! Kernel modules for the image: chosen by name, with what they depend on, decompressed (the whole archive is
//! compressed once, better), with a fresh index.
//!
//! Owns: the choice and the module folder. Refuses: names the kernel does not have.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::command::{CommandError, Tool};
use crate::recipe::{ModuleGroup, Modules};

/// Why the modules cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ModulesError {
    /// A file cannot be read or written.
    #[error("{}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// depmod or xz failed.
    #[error("preparing kernel modules")]
    Tool {
        /// What it said.
        #[from]
        source: CommandError,
    },
    /// Modules that were added need others that the kernel does not have.
    #[error("the modules of {group} need modules that kernel {kernel} does not have: {}", names.join(" "))]
    Unmet {
        /// What was added.
        group: String,
        /// Kernel version.
        kernel: String,
        /// Module names.
        names: Vec<String>,
    },
    /// The kernel does not have these.
    #[error("initramfs/modules.yaml names modules that kernel {kernel} does not have: {}", names.join(" "))]
    Unknown {
        /// Kernel version.
        kernel: String,
        /// Module names.
        names: Vec<String>,
    },
}

/// What kmod's index of a kernel says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct KernelIndex {
    /// Module name → its file, relative to the module folder, and the files it needs.
    loadable: BTreeMap<String, (String, Vec<String>)>,
    builtin: BTreeSet<String>,
    /// Module name → modules to load before or after it.
    soft: BTreeMap<String, Vec<String>>,
}

/// The modules in `stage`, ready to be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Staged {
    /// Module file relative to `usr/lib/modules/VERSION`, decompressed → the group it came with.
    pub groups: BTreeMap<String, String>,
    /// Folder with the files and the index.
    pub folder: PathBuf,
}

/// Modules for the kernel that its package does not have, decompressed.
#[derive(Debug, Clone)]
pub struct Added {
    /// What they are, in the size table.
    pub group: String,
    /// Their files.
    pub files: Vec<PathBuf>,
    /// Modules of the kernel that they depend on.
    pub needs: Vec<String>,
}

/// Choose modules of the kernel whose unpacked package is `root`, and put them into the empty folder `stage`, with those
/// that are `added`.
pub fn stage(
    modules: &Modules,
    added: Option<&Added>,
    root: &Path,
    kernel: &str,
    stage: &Path,
) -> Result<Staged, ModulesError> {
    let source = root.join("usr/lib/modules").join(kernel);
    if !source.join("modules.dep").exists() {
        Tool::new("depmod").arg("-b").arg(root.join("usr")).arg(kernel).run()?;
    }
    let index = KernelIndex::parse(
        &read(&source.join("modules.dep"))?,
        &read(&source.join("modules.builtin"))?,
        &read(&source.join("modules.softdep"))?,
    );
    let unknown = |names| ModulesError::Unknown { kernel: kernel.to_owned(), names };
    let mut chosen = index.choose(&modules.groups).map_err(unknown)?;
    if let Some(Added { group, needs, .. }) = added {
        let wanted = ModuleGroup { name: group.clone(), comment: String::new(), modules: needs.clone() };
        let unmet = |names| ModulesError::Unmet { group: group.clone(), kernel: kernel.to_owned(), names };
        for (file, group) in index.choose(&[wanted]).map_err(unmet)? {
            chosen.entry(file).or_insert(group);
        }
    }
    let folder = stage.join("lib/modules").join(kernel);
    let mut compressed = Vec::new();
    for file in chosen.keys() {
        let target = folder.join(file);
        copy(&source.join(file), &target)?;
        if has_extension(file, "xz") {
            compressed.push(target);
        }
    }
    if !compressed.is_empty() {
        Tool::new("xz").args(["-d", "-T0", "--"]).args(&compressed).run()?;
    }
    for name in ["modules.builtin", "modules.builtin.modinfo", "modules.order"] {
        copy(&source.join(name), &folder.join(name))?;
    }
    let mut groups: BTreeMap<String, String> = chosen
        .into_iter()
        .map(|(file, group)| (file.strip_suffix(".xz").unwrap_or(&file).to_owned(), group))
        .collect();
    for (group, file) in
        added.into_iter().flat_map(|added| added.files.iter().map(|file| (&added.group, file)))
    {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let below = format!("updates/{name}");
        copy(file, &folder.join(&below))?;
        groups.insert(below, group.clone());
    }
    Tool::new("depmod").arg("-b").arg(stage).arg(kernel).run()?;
    Ok(Staged { groups, folder })
}

/// The file of one module below the folder that [`stage`] filled. It must need no other module.
pub fn staged_file(stage: &Path, kernel: &str, module: &str) -> Result<PathBuf, ModulesError> {
    let folder = stage.join("lib/modules").join(kernel);
    let dep = read(&folder.join("modules.dep"))?;
    let index = KernelIndex::parse(&dep, "", "");
    match index.loadable.get(module) {
        Some((file, needs)) if needs.is_empty() => Ok(folder.join(file)),
        Some(_) | None => {
            Err(ModulesError::Unknown { kernel: kernel.to_owned(), names: vec![module.to_owned()] })
        }
    }
}

impl KernelIndex {
    fn parse(dep: &str, builtin: &str, softdep: &str) -> Self {
        let mut index = Self::default();
        for line in dep.lines() {
            let Some((file, needs)) = line.split_once(':') else { continue };
            let needs = needs.split_whitespace().map(str::to_owned).collect();
            index.loadable.insert(module_name(file), (file.to_owned(), needs));
        }
        index.builtin = builtin.lines().map(module_name).collect();
        for line in softdep.lines() {
            let mut words = line.split_whitespace();
            if words.next() == Some("softdep")
                && let Some(module) = words.next()
            {
                let others = words.filter(|word| !matches!(*word, "pre:" | "post:")).map(normalised);
                index.soft.entry(normalised(module)).or_default().extend(others);
            }
        }
        index
    }

    /// Files to take, each with the group that first wanted it, or the names the kernel does not have.
    fn choose(&self, groups: &[ModuleGroup]) -> Result<BTreeMap<String, String>, Vec<String>> {
        let mut files = BTreeMap::new();
        let mut unknown = Vec::new();
        for group in groups {
            for name in &group.modules {
                let name = normalised(name);
                if self.loadable.contains_key(&name) {
                    self.take(&name, &group.name, &mut files);
                } else if !self.builtin.contains(&name) {
                    unknown.push(name);
                }
            }
        }
        if unknown.is_empty() { Ok(files) } else { Err(unknown) }
    }

    fn take(&self, name: &str, group: &str, files: &mut BTreeMap<String, String>) {
        let Some((file, needs)) = self.loadable.get(name) else { return };
        if files.contains_key(file) {
            return;
        }
        files.insert(file.clone(), group.to_owned());
        // modules.dep is transitive, but what is needed may have soft dependencies of its own
        let soft = self.soft.get(name).into_iter().flatten().cloned();
        for other in needs.iter().map(|file| module_name(file)).chain(soft) {
            self.take(&other, group, files);
        }
    }
}

/// `kernel/drivers/net/foo-bar.ko.xz` → `foo_bar`.
pub fn module_name(file: &str) -> String {
    let base = file.rsplit('/').next().unwrap_or(file);
    normalised(base.split(".ko").next().unwrap_or(base))
}

fn normalised(name: &str) -> String {
    name.replace('-', "_")
}

fn has_extension(file: &str, extension: &str) -> bool {
    Path::new(file).extension().is_some_and(|found| found == extension)
}

fn read(path: &Path) -> Result<String, ModulesError> {
    std::fs::read_to_string(path).map_err(|source| ModulesError::File { path: path.to_owned(), source })
}

fn copy(source: &Path, target: &Path) -> Result<(), ModulesError> {
    let failed = |path: &Path, source| ModulesError::File { path: path.to_owned(), source };
    if let Some(parent) = target.parent() {
        std::fs::create_dir_all(parent).map_err(|error| failed(parent, error))?;
    }
    std::fs::copy(source, target).map_err(|error| failed(source, error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index() -> KernelIndex {
        KernelIndex::parse(
            "kernel/net/mdio.ko.xz:\nkernel/net/r8169.ko.xz: kernel/net/mdio.ko.xz\n\
             kernel/net/realtek.ko.xz: kernel/net/phy-lib.ko.xz\nkernel/net/phy-lib.ko.xz:\n",
            "kernel/drivers/base/button.ko\n",
            "# Soft dependencies\nsoftdep r8169 pre: realtek\n",
        )
    }

    fn modules(names: &[&str]) -> [ModuleGroup; 1] {
        let modules = names.iter().map(|name| (*name).to_owned()).collect();
        [ModuleGroup { name: "network".to_owned(), comment: String::new(), modules }]
    }

    #[test]
    fn hard_and_soft_dependencies_come_along() {
        let files = index().choose(&modules(&["r8169"])).unwrap();
        let names: Vec<String> = files.keys().map(|file| module_name(file)).collect();
        assert_eq!(names, ["mdio", "phy_lib", "r8169", "realtek"]);
    }

    #[test]
    fn a_builtin_module_is_fine_and_takes_no_file() {
        assert!(index().choose(&modules(&["button"])).unwrap().is_empty());
    }

    #[test]
    fn unknown_modules_are_all_named() {
        assert_eq!(
            index().choose(&modules(&["no-such", "r8169", "nor-this"])),
            Err(vec!["no_such".into(), "nor_this".into()])
        );
    }
}
