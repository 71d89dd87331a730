//! What goes into the image, as data: `packages.yaml`, `modules.yaml`, `firmware.yaml` and `overlay/` of `initramfs/`.
//!
//! Owns: reading them. Refuses: unknown keys, and defaults that would hide a forgotten list.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

/// The whole recipe.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// Packages and what is taken of them.
    pub packages: Packages,
    /// Kernel modules.
    pub modules: Modules,
    /// Device firmware.
    pub firmware: FirmwareList,
    /// Folder copied over everything else.
    pub overlay: PathBuf,
    /// Script that mounts the tools and becomes what stands in for the agent.
    pub early_init: PathBuf,
}

/// `packages.yaml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Packages {
    /// Where apt resolves from.
    pub suites: Vec<Suite>,
    /// Package that depends on the kernel to boot.
    pub kernel: String,
    /// Tools.
    pub packages: Vec<Package>,
    /// Files served beside the image.
    pub netboot: Vec<Netboot>,
    /// Names under which busybox is called.
    pub busybox_applets: Vec<String>,
    /// Libraries replaced by stubs.
    pub stubs: Vec<Stub>,
    /// Packages the resolver brings that the image takes nothing of.
    pub leave_out: Vec<String>,
}

/// One apt source.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Suite {
    /// `debian` or `debian-security`.
    pub archive: String,
    /// Suite name.
    pub suite: String,
    /// Components of it.
    pub components: Vec<String>,
}

/// What is taken of one package.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Package {
    /// Debian's name.
    pub name: String,
    /// Programs of `/usr/bin` and `/usr/sbin`.
    pub binaries: Vec<String>,
    /// Files and folders the programs read, relative to `/`.
    #[serde(default)]
    pub data: Vec<String>,
}

/// Files of one package that are served beside the image.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Netboot {
    /// Package they are in.
    pub package: String,
    /// Paths relative to `/`.
    pub files: Vec<String>,
}

/// A library replaced by a stub.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stub {
    /// Its soname.
    pub library: String,
    /// Who would use it, for people.
    pub reason: String,
}

/// `modules.yaml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Modules {
    /// Groups, in order.
    pub groups: Vec<ModuleGroup>,
}

/// A named group of kernel modules.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModuleGroup {
    /// Short name, used in the size table.
    pub name: String,
    /// What it is for.
    pub comment: String,
    /// Module names; `-` and `_` are the same.
    pub modules: Vec<String>,
}

/// `firmware.yaml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FirmwareList {
    /// By package.
    pub packages: Vec<FirmwarePackage>,
}

/// Firmware files of one package.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FirmwarePackage {
    /// Debian's name.
    pub name: String,
    /// Which hardware needs it.
    pub comment: String,
    /// Patterns below `/usr/lib/firmware`.
    pub files: Vec<String>,
}

/// Why the recipe is refused.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// A file of it cannot be read.
    #[error("{}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// A file of it is not what it should be; the source has line and column.
    #[error("{}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// serde's answer.
        source: serde_yaml::Error,
    },
}

impl Recipe {
    /// Read the recipe in `directory`.
    pub fn read(directory: &Path) -> Result<Self, RecipeError> {
        Ok(Self {
            packages: yaml(&directory.join("packages.yaml"))?,
            modules: yaml(&directory.join("modules.yaml"))?,
            firmware: yaml(&directory.join("firmware.yaml"))?,
            overlay: directory.join("overlay"),
            early_init: directory.join("early-init"),
        })
    }

    /// The packages apt is asked for; what they depend on is its business.
    pub fn requested_packages(&self) -> Vec<&str> {
        let mut names = vec![self.packages.kernel.as_str()];
        names.extend(self.packages.netboot.iter().map(|netboot| netboot.package.as_str()));
        names.extend(self.packages.packages.iter().map(|package| package.name.as_str()));
        names.extend(self.firmware.packages.iter().map(|package| package.name.as_str()));
        names.sort_unstable();
        names.dedup();
        names
    }
}

fn yaml<T: DeserializeOwned>(path: &Path) -> Result<T, RecipeError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| RecipeError::Read { path: path.to_owned(), source })?;
    serde_yaml::from_str(&text).map_err(|source| RecipeError::Parse { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn committed() -> Recipe {
        Recipe::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../initramfs")).unwrap()
    }

    #[test]
    fn the_committed_recipe_parses_and_asks_for_each_package_once() {
        let recipe = committed();
        let names = recipe.requested_packages();
        assert!(names.contains(&"fio") && names.windows(2).all(|pair| pair[0] < pair[1]), "{names:?}");
    }

    #[test]
    fn no_busybox_applet_shadows_kmod() {
        let applets = committed().packages.busybox_applets;
        for forbidden in ["modprobe", "insmod", "rmmod", "lsmod", "modinfo", "depmod"] {
            assert!(!applets.iter().any(|applet| applet == forbidden), "{forbidden}");
        }
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_place() {
        let error = serde_yaml::from_str::<Modules>("groups: []\ngruops: []\n").unwrap_err();
        assert_eq!(error.location().map(|place| place.line()), Some(2));
    }
}
