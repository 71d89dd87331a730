//! The packages of `make deb`, on a copy of this box that nobody else sees: installed, set up as their documentation says,
//! upgraded, removed, purged. No systemd runs there, so that a unit starts is not shown here.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

const NONE: Option<&str> = None;
const COORDINATOR: &str = "vetting-coordinator";
const AGENT: &str = "vetting-agent";
const CONFIG: &str = "etc/vetting/vetting.yaml";
const TOKEN: &str = "var/lib/vetting/operator.token";
const SETTINGS: &str = "etc/vetting/agent.yaml";
/// What `systemctl enable` makes.
const ENABLED: &str = "etc/systemd/system/multi-user.target.wants/vetting-coordinator.service";

/// This box with a layer over it that takes every change; the layer is gone with this process.
struct CopyOfThisBox {
    root: PathBuf,
}

impl CopyOfThisBox {
    /// As root; the calling thread and what it starts are the only ones that see it.
    fn make() -> anyhow::Result<Self> {
        unshare(CloneFlags::CLONE_NEWNS).context("this test is run as root")?;
        mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)?;
        // a folder that every Debian has: nothing is to be tidied up, least of all through the mounts below
        let layers = Path::new("/mnt");
        mount(Some("layers"), layers, Some("tmpfs"), MsFlags::empty(), NONE)?;
        let [upper, work, root] = ["upper", "work", "root"].map(|name| layers.join(name));
        for folder in [&upper, &work, &root] {
            fs::create_dir(folder)?;
        }
        fs::set_permissions(&upper, fs::Permissions::from_mode(0o755))?;
        let options = format!("lowerdir=/,upperdir={},workdir={}", upper.display(), work.display());
        mount(Some("overlay"), &root, Some("overlay"), MsFlags::empty(), Some(options.as_str()))?;
        mount(Some("proc"), &root.join("proc"), Some("proc"), MsFlags::empty(), NONE)?;
        mount(Some("/dev"), &root.join("dev"), NONE, MsFlags::MS_BIND, NONE)?;
        // without /run/systemd/system nobody looks for a systemd
        mount(Some("run"), &root.join("run"), Some("tmpfs"), MsFlags::empty(), NONE)?;
        let copy = Self { root };
        // a developer's own ones
        copy.done(&["dpkg", "--purge", COORDINATOR, AGENT])?;
        let _ = fs::remove_dir_all(copy.path("var/lib/vetting"));
        let _ = fs::remove_dir_all(copy.path("etc/vetting"));
        // without it man-db does not index every manual page of the box after each step
        let _ = fs::remove_file(copy.path("var/lib/man-db/auto-update"));
        Ok(copy)
    }

    fn path(&self, below: &str) -> PathBuf {
        self.root.join(below)
    }

    /// What a command says that ends well.
    fn done(&self, words: &[&str]) -> anyhow::Result<String> {
        let output = Command::new("chroot")
            .arg(&self.root)
            .args(words)
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .output()?;
        if !output.status.success() {
            bail!("{words:?}: {output:?}");
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    fn install(&self, package: &str) -> anyhow::Result<String> {
        let name = format!("{package}_{}-1_amd64.deb", env!("CARGO_PKG_VERSION"));
        let made = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/debian").join(&name);
        fs::copy(&made, self.path("tmp").join(&name))
            .with_context(|| format!("{} is not there: run `make deb` first", made.display()))?;
        self.done(&["dpkg", "--force-unsafe-io", "--install", &format!("/tmp/{name}")])
    }

    /// Mode, owner and group of a file or folder.
    fn access(&self, below: &str) -> anyhow::Result<String> {
        Ok(self.done(&["stat", "--format=%a %U:%G", &format!("/{below}")])?.trim().to_owned())
    }

    fn has(&self, below: &str) -> bool {
        self.path(below).symlink_metadata().is_ok()
    }

    /// Makes the coordinator's database, authority and first token as the documentation says.
    fn init(&self) -> anyhow::Result<String> {
        self.done(&[
            "runuser",
            "-u",
            "vetting",
            "--",
            COORDINATOR,
            "--config",
            "/etc/vetting/vetting.yaml",
            "init",
            "--keep-config",
        ])
    }
}

#[test]
fn packages_are_installed_upgraded_removed_and_purged() -> anyhow::Result<()> {
    let copy = CopyOfThisBox::make()?;
    let token = installed(&copy)?;
    upgraded(&copy, &token)?;
    left(&copy, &token)
}

/// Installs both, and sets the coordinator up; gives the token that was made.
fn installed(copy: &CopyOfThisBox) -> anyhow::Result<String> {
    let said = copy.install(AGENT)?;
    ensure!(said.contains("vetting-agent is not started"), "{said}");
    // the coordinator's user has to get through
    assert_eq!(copy.access("etc/vetting")?, "755 root:root");
    let said = copy.install(COORDINATOR)?;
    ensure!(said.contains("vetting-coordinator is not started"), "{said}");
    for program in [COORDINATOR, AGENT] {
        let version = copy.done(&[program, "--version"])?;
        assert_eq!(version.trim(), format!("{program} {}", env!("CARGO_PKG_VERSION")));
        ensure!(copy.has(&format!("usr/lib/systemd/system/{program}.service")), "{program}");
        ensure!(copy.has(&format!("usr/share/doc/{program}/deployment.md")), "{program}");
    }
    for file in ["man/man1/vetting-coordinator.1.gz", "bash-completion/completions/vetting-coordinator"] {
        ensure!(copy.has(&format!("usr/share/{file}")), "{file}");
    }
    ensure!(!copy.has(ENABLED), "it is enabled before anybody looked at it");

    let user = copy.done(&["getent", "passwd", "vetting"])?;
    ensure!(user.trim().ends_with(":/var/lib/vetting:/usr/sbin/nologin"), "{user}");
    assert_eq!(copy.access("etc/vetting")?, "755 root:root");
    assert_eq!(copy.access(CONFIG)?, "640 root:vetting");
    assert_eq!(copy.access("var/lib/vetting")?, "750 vetting:vetting");
    let said = copy.init()?;
    ensure!(said.contains(&format!("/{TOKEN}")), "{said}");
    assert_eq!(copy.access(TOKEN)?, "600 vetting:vetting");
    Ok(fs::read_to_string(copy.path(TOKEN))?)
}

/// Installs both again over what an operator made of them.
fn upgraded(copy: &CopyOfThisBox, token: &str) -> anyhow::Result<()> {
    let config = fs::read_to_string(copy.path(CONFIG))? + "\npublic_address: 192.0.2.10\n";
    fs::write(copy.path(CONFIG), &config)?;
    let example = copy.path("usr/share/doc/vetting-agent/examples/agent.yaml");
    fs::copy(example, copy.path(SETTINGS))?;
    symlink("/usr/lib/systemd/system/vetting-coordinator.service", copy.path(ENABLED))?;
    for package in [COORDINATOR, AGENT] {
        let said = copy.install(package)?;
        ensure!(!said.contains("is not started"), "{said}");
    }
    assert_eq!(fs::read_to_string(copy.path(CONFIG))?, config);
    assert_eq!(copy.access(CONFIG)?, "640 root:vetting");
    assert_eq!(fs::read_to_string(copy.path(TOKEN))?, token);
    ensure!(copy.has(SETTINGS) && copy.has(ENABLED));
    Ok(())
}

/// Removes both, purges them, and installs the coordinator anew over its old results.
fn left(copy: &CopyOfThisBox, token: &str) -> anyhow::Result<()> {
    copy.done(&["dpkg", "--remove", COORDINATOR, AGENT])?;
    for program in [COORDINATOR, AGENT] {
        ensure!(!copy.has(&format!("usr/bin/{program}")), "{program}");
    }
    ensure!(copy.has(CONFIG) && copy.has(SETTINGS) && copy.has(TOKEN));

    let said = copy.done(&["dpkg", "--purge", COORDINATOR, AGENT])?;
    ensure!(said.contains("/var/lib/vetting stays"), "{said}");
    ensure!(!copy.has(CONFIG) && !copy.has(ENABLED), "{said}");
    // the operator's own file
    ensure!(copy.has(SETTINGS));
    assert_eq!(fs::read_to_string(copy.path(TOKEN))?, token);
    let owner = fs::metadata(copy.path(TOKEN))?.uid();

    let said = copy.install(COORDINATOR)?;
    ensure!(!said.contains("is not started"), "{said}");
    assert_eq!(fs::metadata(copy.path(TOKEN))?.uid(), owner);
    assert_eq!(copy.access(TOKEN)?, "600 vetting:vetting");
    assert_eq!(copy.access(CONFIG)?, "640 root:vetting");
    Ok(())
}
