//! Folders with drivers, made by the tools that make real ones.

use super::*;

const KERNEL: &str = "6.12.1-test";
const VERSION: &str = "550.163.01";

/// A folder with a driver, made by the tools that make real ones: a module, and a package as Debian lays it out.
struct Folder {
    work: tempfile::TempDir,
}

impl Folder {
    fn new() -> Self {
        Self { work: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        let path = self.work.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    fn module(&self, file: &str, kernel: &str, version: &str, depends: &str) -> PathBuf {
        self.licensed("NVIDIA", file, kernel, version, depends)
    }

    fn licensed(&self, licence: &str, file: &str, kernel: &str, version: &str, depends: &str) -> PathBuf {
        let text = format!(
            ".section .modinfo,\"a\"\n.string \"license={licence}\"\n.string \"version={version}\"\n\
             .string \"vermagic={kernel} SMP mod_unload\"\n.string \"depends={depends}\"\n"
        );
        let (source, module) = (self.path("module.s"), self.path(file));
        std::fs::write(&source, text).unwrap();
        Tool::new("gcc").args(["-c", "-o"]).args([&module, &source]).run().unwrap();
        module
    }

    fn package(&self, name: &str, files: &[&str]) {
        let root = self.path(&format!("root-{name}"));
        for file in files {
            let (path, target) = file.split_once(" -> ").unwrap_or((file, ""));
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            if target.is_empty() {
                std::fs::write(path, name).unwrap();
            } else {
                std::os::unix::fs::symlink(target, path).unwrap();
            }
        }
        std::fs::create_dir_all(root.join("DEBIAN")).unwrap();
        let control = format!(
            "Package: {name}\nVersion: 1-1\nArchitecture: amd64\nMaintainer: a test\nDescription: a test\n"
        );
        std::fs::write(root.join("DEBIAN/control"), control).unwrap();
        let deb = self.path(&format!("driver/{name}.deb"));
        Tool::new("dpkg-deb").args(["--root-owner-group", "-b"]).args([&root, &deb]).run().unwrap();
    }

    /// Library and device maker as Debian's packages have them.
    fn packages(&self, version: &str) {
        let folder = "usr/lib/x86_64-linux-gnu/nvidia/current/libnvidia-ml.so";
        let link = format!("{folder}.1 -> libnvidia-ml.so.{version}");
        self.package(
            "libnvidia-ml1",
            &[&format!("{folder}.{version}"), &link, "usr/share/doc/libnvidia-ml1/copyright"],
        );
        self.package("nvidia-modprobe", &["usr/bin/nvidia-modprobe"]);
    }

    fn read(&self) -> Result<Driver, DriverError> {
        Driver::read(&self.path("driver"), KERNEL, &self.path("cache"), &self.path("modules"))
    }
}

#[test]
fn packages_and_modules_of_one_version_are_taken() {
    let folder = Folder::new();
    folder.licensed(OPEN, "driver/nvidia.ko", KERNEL, VERSION, "ecc,drm");
    let compressed = folder.module("driver/nvidia-uvm.ko", KERNEL, VERSION, "nvidia");
    Tool::new("xz").arg(&compressed).run().unwrap();
    folder.module("driver/nvidia-drm.ko", KERNEL, VERSION, "nvidia-modeset");
    folder.packages(VERSION);
    let firmware = format!("usr/lib/firmware/nvidia/{VERSION}/gsp_ga10x.bin");
    folder.package("firmware-nvidia-gsp", &[&firmware]);
    folder.package("libegl1", &["usr/lib/x86_64-linux-gnu/libEGL.so.1"]);
    let driver = folder.read().unwrap();
    assert_eq!(driver.version, VERSION);
    let names: Vec<&str> = driver.modules.files.iter().map(|file| file_name(file)).collect();
    assert_eq!(names, ["nvidia.ko", "nvidia-uvm.ko"]);
    assert_eq!(driver.modules.needs, ["drm", "ecc"]);
    let index = Index::read(&driver.packages).unwrap();
    assert!(driver.brings(&index, "libEGL.so.1"), "a real one takes the place of the stub");
    assert!(!driver.brings(&index, "libGLESv2.so.2"));
    assert_eq!(driver.firmware(&index).collect::<Vec<_>>(), [firmware.as_str()]);
    assert!(driver.files(&index).all(|path| !path.contains("/doc/") && !path.contains("/firmware/")));
    let alias = "/usr/lib/x86_64-linux-gnu/nvidia/current/libnvidia-ml.so.1".to_owned();
    assert_eq!(driver.aliases(&index), [("usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1".to_owned(), alias)]);
}

#[test]
fn a_package_with_the_modules_of_several_kernels_gives_those_of_this_one() {
    let folder = Folder::new();
    folder.packages(VERSION);
    for kernel in ["6.12.0-other", KERNEL] {
        let module = folder.module("built/nvidia.ko", kernel, VERSION, "");
        let root = folder.path("root-modules/lib/modules").join(kernel);
        std::fs::create_dir_all(&root).unwrap();
        std::fs::copy(module, root.join("nvidia.ko")).unwrap();
    }
    folder.package("modules", &[]);
    assert_eq!(folder.read().unwrap().modules.files.len(), 1);
}

#[test]
fn what_could_not_work_is_refused() {
    let folder = Folder::new();
    folder.packages(VERSION);
    assert!(matches!(folder.read(), Err(DriverError::NoModule { .. })));
    folder.module("driver/nvidia.ko", "6.1.0-old", VERSION, "");
    assert!(matches!(folder.read(), Err(DriverError::WrongKernel { found, .. }) if found == "6.1.0-old"));
    folder.module("driver/nvidia.ko", KERNEL, "535.1", "");
    let error = folder.read().unwrap_err();
    assert!(matches!(&error, DriverError::Versions { found, .. } if found == VERSION), "{error}");
    folder.module("driver/nvidia.ko", KERNEL, VERSION, "");
    folder.module("driver/nvidia-uvm.ko", KERNEL, "535.1", "");
    assert!(matches!(folder.read(), Err(DriverError::Versions { part, .. }) if part == "nvidia_uvm.ko"));
    folder.module("driver/nvidia_uvm.ko", KERNEL, VERSION, "");
    assert!(matches!(folder.read(), Err(DriverError::Twice { module, .. }) if module == "nvidia_uvm"));
    std::fs::remove_file(folder.path("driver/nvidia-uvm.ko")).unwrap();
    std::fs::remove_file(folder.path("driver/nvidia-modprobe.deb")).unwrap();
    assert!(matches!(folder.read(), Err(DriverError::Missing { name: DEVICE_MAKER, .. })));
    folder.package("nvidia-modprobe", &["usr/bin/nvidia-modprobe"]);
    folder.licensed(OPEN, "driver/nvidia.ko", KERNEL, VERSION, "");
    folder.package("firmware-nvidia-gsp", &["usr/lib/firmware/nvidia/535.1/gsp_tu10x.bin"]);
    assert!(matches!(folder.read(), Err(DriverError::Missing { name: GSP, .. })));
    folder.package("firmware-nvidia-gsp", &[&format!("usr/lib/firmware/nvidia/{VERSION}/gsp_tu10x.bin")]);
    let vulkan = "usr/lib/x86_64-linux-gnu/nvidia/current/libGLX_nvidia.so.0";
    folder.package("libglx-nvidia0", &[vulkan]);
    folder.package("libegl1", &["usr/lib/x86_64-linux-gnu/libEGL.so.1"]);
    assert!(matches!(folder.read(), Err(DriverError::Missing { package: "libegl-nvidia0", .. })));
    folder.package("libegl-nvidia0", &["usr/lib/x86_64-linux-gnu/nvidia/current/libEGL_nvidia.so.0"]);
    assert!(matches!(folder.read(), Err(DriverError::Missing { package: "nvidia-egl-common", .. })));
    let vendor = "usr/share/glvnd/egl_vendor.d/10_nvidia.json";
    folder.package("nvidia-egl-common", &[vendor]);
    let driver = folder.read().unwrap();
    let index = Index::read(&driver.packages).unwrap();
    assert!(driver.files(&index).any(|path| path == vendor));
    std::fs::write(folder.path("driver/libnvidia-ml1.deb"), "no package").unwrap();
    assert!(matches!(folder.read(), Err(DriverError::Unreadable { .. })));
}
