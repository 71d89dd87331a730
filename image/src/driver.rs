//! NVIDIA's driver in the image: packages and kernel modules that the operator brings in one folder, since its licence and
//! its ties to one kernel keep it out of the image as it is shipped.
//!
//! Owns: what is taken of the folder, under which names. Refuses: a driver that could not work: for another kernel, with
//! modules and library of different versions (NVML then answers only `Driver/library version mismatch`), or in part.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::command::{CommandError, Tool};
use crate::digest;
use crate::elf::{self, ElfError};
use crate::fetch::{self, FetchError, Unpacked};
use crate::folder;
use crate::index::{Index, IndexError};
use crate::kernel_modules::{Added, module_name};
use crate::lock::LockedPackage;

/// Name of the driver's part in the size table.
pub const PART: &str = "NVIDIA driver";
/// The module that is the driver; its version is the driver's.
const DRIVER_MODULE: &str = "nvidia";
/// Modules that are taken: nothing is shown on a screen, so not those of displays.
const MODULES: [&str; 2] = [DRIVER_MODULE, "nvidia_uvm"];
/// What `nvml-probe` loads.
const LIBRARY: &str = "libnvidia-ml.so.1";
/// Makes the device files of the GPUs, called by the library.
const DEVICE_MAKER: &str = "nvidia-modprobe";
/// What the driver's part for Vulkan is, by which `gpu-load` works GPUs.
const VULKAN: &str = "libGLX_nvidia.so.0";
/// What that part asks for where no screen is, and refuses to work without: name, Debian's package.
const VULKAN_NEEDS: [(&str, &str); 3] =
    [("libEGL.so.1", "libegl1"), (EGL, "libegl-nvidia0"), ("10_nvidia.json", "nvidia-egl-common")];
const EGL: &str = "libEGL_nvidia.so.0";
/// Where a program or library is looked for. Debian keeps several drivers in folders of their own, and chooses with links
/// that a package's scripts make.
const ALIASES: [(&str, &str); 6] = [
    ("usr/lib/x86_64-linux-gnu", LIBRARY),
    ("usr/lib/x86_64-linux-gnu", "libcuda.so.1"),
    ("usr/lib/x86_64-linux-gnu", VULKAN),
    ("usr/lib/x86_64-linux-gnu", EGL),
    ("usr/bin", DEVICE_MAKER),
    ("usr/bin", "nvidia-smi"),
];
const FIRMWARE: &str = "usr/lib/firmware/";
/// Licence of the open modules, which leave the work to the GPU's own processor (GSP) and never start without its firmware.
const OPEN: &str = "Dual MIT/GPL";
/// Of the firmware's files, for messages.
const GSP: &str = "nvidia/VERSION/gsp_*.bin";
const KERNELS: &str = "usr/lib/modules/";
/// What of the packages is for machines; the rest is for people and package managers. DCGM up to 3 has its tests below
/// `usr/share`, Vulkan and EGL the names of their drivers.
const TAKEN: [&str; 7] = [
    "usr/bin/",
    "usr/sbin/",
    "usr/lib/",
    "usr/libexec/",
    "usr/share/nvidia-validation-suite/",
    "usr/share/vulkan/icd.d/",
    "usr/share/glvnd/egl_vendor.d/",
];

/// A driver that fits the image.
#[derive(Debug, Clone)]
pub struct Driver {
    /// Its version, as the modules and the library have it.
    pub version: String,
    /// The unpacked packages.
    pub packages: Vec<Unpacked>,
    /// The kernel modules.
    pub modules: Added,
}

/// Why a driver is refused.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// A file cannot be read or written.
    #[error("{}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// A package cannot be read, or a module not decompressed.
    #[error("reading {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the tool said.
        source: CommandError,
    },
    /// A package cannot be unpacked.
    #[error(transparent)]
    Unpack(#[from] FetchError),
    /// The unpacked packages cannot be read.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// A module is damaged.
    #[error(transparent)]
    Elf(#[from] ElfError),
    /// There is no driver for this kernel.
    #[error(
        "{} has no {DRIVER_MODULE}.ko for kernel {kernel}: build it against that kernel's headers, and put it, \
         or a package of it, there (docs/stages.md, GPU)", folder.display()
    )]
    NoModule {
        /// The folder.
        folder: PathBuf,
        /// The image's kernel.
        kernel: String,
    },
    /// A module is for another kernel.
    #[error("{} is for kernel {found}; the image's is {kernel}", file.display())]
    WrongKernel {
        /// The module.
        file: PathBuf,
        /// Its `vermagic`.
        found: String,
        /// The image's kernel.
        kernel: String,
    },
    /// There are two of a module.
    #[error("there are two modules {module}: {} and {}", first.display(), second.display())]
    Twice {
        /// Module name.
        module: String,
        /// One.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// A needed file is in no package.
    #[error("no package in {} has {name}; Debian's {package} does", folder.display())]
    Missing {
        /// The folder.
        folder: PathBuf,
        /// The file's name.
        name: &'static str,
        /// Package that has it.
        package: &'static str,
    },
    /// Parts of the driver are of different versions.
    #[error(
        "{part} is of version {found}, {DRIVER_MODULE}.ko of version {version}: they would not work together"
    )]
    Versions {
        /// What differs.
        part: String,
        /// Its version.
        found: String,
        /// The driver's.
        version: String,
    },
}

impl Driver {
    /// Reads the driver in `folder` for `kernel`. Packages are unpacked in the cache, modules into `work`.
    ///
    /// # Errors
    /// It does not fit; see [`DriverError`].
    pub fn read(folder: &Path, kernel: &str, cache: &Path, work: &Path) -> Result<Self, DriverError> {
        let (mut packages, mut candidates) = (Vec::new(), Vec::new());
        for file in list(folder)? {
            let name = file_name(&file);
            if file.extension().is_some_and(|extension| extension == "deb") {
                packages.push(fetch::unpack_own(package(&file)?, &file, cache)?);
            } else if is_module(name) {
                candidates.push(file);
            }
        }
        let index = Index::read(&packages)?;
        let in_packages = index.below(KERNELS.trim_end_matches('/'));
        let of_kernel = |path: &str| {
            path.strip_prefix(KERNELS)
                .and_then(|path| path.split('/').next())
                .is_some_and(|name| name == kernel)
        };
        candidates.extend(
            in_packages
                .filter(|(path, _)| of_kernel(path) && is_module(path))
                .map(|(_, found)| found.source.clone()),
        );
        let modules = decompressed(&candidates, work)?;
        let no_module = || DriverError::NoModule { folder: folder.to_owned(), kernel: kernel.to_owned() };
        let driver_module = modules.get(DRIVER_MODULE).ok_or_else(no_module)?;
        let version = elf::module_info(driver_module, "version")?.into_iter().next().unwrap_or_default();
        for (name, file) in &modules {
            fits(file, kernel)?;
            let found = elf::module_info(file, "version")?.into_iter().next().unwrap_or_default();
            same_version(&format!("{name}.ko"), found, &version)?;
        }
        let is_open = elf::module_info(driver_module, "license")?.iter().any(|licence| licence == OPEN);
        let driver = Self { modules: added(&modules)?, version, packages };
        driver.complete(folder, &index, is_open)?;
        Ok(driver)
    }

    /// Whether what the modules need beside them is there, and of their version.
    fn complete(&self, folder: &Path, index: &Index, is_open: bool) -> Result<(), DriverError> {
        let missing = |name, package| DriverError::Missing { folder: folder.to_owned(), name, package };
        let library = self.named(index, LIBRARY).and_then(|path| index.resolve(path));
        let library = library.ok_or_else(|| missing(LIBRARY, "libnvidia-ml1"))?;
        let name = file_name(Path::new(&library.file));
        let found = name.strip_prefix("libnvidia-ml.so.").unwrap_or(name);
        same_version(LIBRARY, found.to_owned(), &self.version)?;
        let gsp = format!("{FIRMWARE}nvidia/{}/gsp_", self.version);
        if is_open && !self.firmware(index).any(|path| path.starts_with(&gsp)) {
            return Err(missing(GSP, "firmware-nvidia-gsp"));
        }
        self.named(index, DEVICE_MAKER).ok_or_else(|| missing(DEVICE_MAKER, "nvidia-modprobe"))?;
        if self.named(index, VULKAN).is_some() {
            for (name, package) in VULKAN_NEEDS {
                self.named(index, name).ok_or_else(|| missing(name, package))?;
            }
        }
        Ok(())
    }

    /// Paths of the packages' programs, libraries and what is beside them.
    pub fn files<'a>(&self, index: &'a Index) -> impl Iterator<Item = &'a str> + use<'_, 'a> {
        self.paths(index).filter(|path| {
            TAKEN.iter().any(|folder| path.starts_with(folder))
                && !path.starts_with(FIRMWARE)
                && !path.starts_with(KERNELS)
        })
    }

    /// Paths of the packages' firmware.
    pub fn firmware<'a>(&self, index: &'a Index) -> impl Iterator<Item = &'a str> + use<'_, 'a> {
        self.paths(index).filter(|path| path.starts_with(FIRMWARE))
    }

    /// Links by which programs and libraries in folders of their own are found: path, target.
    pub fn aliases(&self, index: &Index) -> Vec<(String, String)> {
        let alias = |(folder, name): (&str, &str)| {
            let path = self.named(index, name)?;
            Some((format!("{folder}/{name}"), format!("/{path}")))
        };
        ALIASES.into_iter().filter_map(alias).filter(|(path, target)| *target != format!("/{path}")).collect()
    }

    /// Whether one of the packages has a library of this name.
    pub fn brings(&self, index: &Index, library: &str) -> bool {
        self.named(index, library).is_some()
    }

    fn named<'a>(&self, index: &'a Index, name: &str) -> Option<&'a str> {
        self.files(index).find(|path| file_name(Path::new(path)) == name)
    }

    fn paths<'a>(&self, index: &'a Index) -> impl Iterator<Item = &'a str> + use<'_, 'a> {
        let of_driver = |package: &String| self.packages.iter().any(|known| known.package.name == *package);
        index.all().filter(move |(_, found)| of_driver(&found.package)).map(|(path, _)| path)
    }
}

fn same_version(part: &str, found: String, version: &str) -> Result<(), DriverError> {
    if found == version {
        return Ok(());
    }
    Err(DriverError::Versions { part: part.to_owned(), found, version: version.to_owned() })
}

/// Whether a module is for this kernel: the first word of its `vermagic`.
fn fits(file: &Path, kernel: &str) -> Result<(), DriverError> {
    let magic = elf::module_info(file, "vermagic")?.into_iter().next().unwrap_or_default();
    let found = magic.split(' ').next().unwrap_or_default();
    if found == kernel {
        return Ok(());
    }
    Err(DriverError::WrongKernel {
        file: file.to_owned(),
        found: found.to_owned(),
        kernel: kernel.to_owned(),
    })
}

fn added(modules: &BTreeMap<String, PathBuf>) -> Result<Added, DriverError> {
    let mut needs = Vec::new();
    for file in modules.values() {
        let depends = elf::module_info(file, "depends")?;
        let names = depends.iter().flat_map(|names| names.split(',')).filter(|name| !name.is_empty());
        needs.extend(names.filter(|name| !MODULES.contains(name)).map(str::to_owned));
    }
    needs.sort();
    needs.dedup();
    Ok(Added { group: PART.to_owned(), files: modules.values().cloned().collect(), needs })
}

/// The modules that are taken, by name, decompressed into `work`.
fn decompressed(candidates: &[PathBuf], work: &Path) -> Result<BTreeMap<String, PathBuf>, DriverError> {
    std::fs::create_dir_all(work).map_err(|source| DriverError::File { path: work.to_owned(), source })?;
    let mut sources: BTreeMap<String, &PathBuf> = BTreeMap::new();
    for candidate in candidates {
        let module = module_name(file_name(candidate));
        if !MODULES.contains(&module.as_str()) {
            continue;
        }
        if let Some(first) = sources.insert(module.clone(), candidate) {
            let (first, second) = (first.clone(), candidate.clone());
            return Err(DriverError::Twice { module, first, second });
        }
    }
    let mut modules = BTreeMap::new();
    for (module, source) in sources {
        let target = work.join(format!("{}.ko", module.replace('_', "-")));
        let bytes = content(source)?;
        std::fs::write(&target, bytes)
            .map_err(|error| DriverError::File { path: target.clone(), source: error })?;
        modules.insert(module, target);
    }
    Ok(modules)
}

fn content(module: &Path) -> Result<Vec<u8>, DriverError> {
    let tool = match module.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => Tool::new("xz"),
        Some("zst") => Tool::new("zstd"),
        Some(_) | None => {
            let failed = |source| DriverError::File { path: module.to_owned(), source };
            return std::fs::read(module).map_err(failed);
        }
    };
    let failed = |source| DriverError::Unreadable { path: module.to_owned(), source };
    tool.args(["-d", "-c", "-q", "--"]).arg(module).run().map_err(failed)
}

/// What a package file says of itself.
fn package(deb: &Path) -> Result<LockedPackage, DriverError> {
    let file = |source| DriverError::File { path: deb.to_owned(), source };
    let field = |name: &str| {
        let failed = |source| DriverError::Unreadable { path: deb.to_owned(), source };
        let text = Tool::new("dpkg-deb").arg("-f").arg(deb).arg(name).run_text().map_err(failed)?;
        Ok::<_, DriverError>(text.trim().to_owned())
    };
    Ok(LockedPackage {
        name: field("Package")?,
        version: field("Version")?,
        path: file_name(deb).to_owned(),
        size_bytes: std::fs::metadata(deb).map_err(file)?.len(),
        sha256: digest::of_file(deb).map_err(file)?,
    })
}

fn is_module(name: &str) -> bool {
    [".ko", ".ko.xz", ".ko.zst"].iter().any(|end| name.ends_with(end))
}

fn file_name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

fn list(folder: &Path) -> Result<Vec<PathBuf>, DriverError> {
    folder::sorted(folder).map_err(|source| DriverError::File { path: folder.to_owned(), source })
}

#[cfg(test)]
mod tests;
