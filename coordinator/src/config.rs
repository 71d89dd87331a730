//! The configuration file: YAML, every key with a default, unknown keys refused with their place.
//!
//! Owns the commented text that `init` writes; a test holds it against the defaults. Relative paths in the file are
//! relative to the folder the coordinator is started in. The larger sections have files of their own.

mod enrolment;
mod hooks;
mod metrics;
mod netboot;
mod network_test;
mod power;
mod runs;
mod web;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use vetting_judge::duration::HumanDuration;
use vetting_judge::yaml::{self, Mistake};
use vetting_protocol::agent_api::AfterRun;
use vetting_protocol::profile::ProfileName;

use crate::byte_size::ByteSize;
use crate::notify::receiver::Notifications;

pub use enrolment::{Enrolment, EnrolmentNetboot};
pub use hooks::{CommandHookConfig, Hook, HookMethod, HookRequest, HookStatus, HttpHookConfig};
pub use metrics::{MetricsConfig, Network};
pub use netboot::{Answer, Netboot, SecureBoot};
pub use network_test::{NetworkTest, PortRange};
pub use power::{PowerBudget, PowerConfig};
pub use runs::{AfterRuns, Claim, Hold, Kept, Timeouts};
pub use web::{ProxyLogin, Web};

/// Where the configuration is looked for when nothing else is said.
pub const DEFAULT_PATH: &str = "vetting.yaml";

/// The text that `init` writes: every key with its default, commented.
pub const COMMENTED_DEFAULTS: &str = include_str!("default-config.yaml");

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error(
        "cannot read {}: `vetting-coordinator init` writes one, --config names another place, and a client of a \
         coordinator elsewhere has --url, or ~/.config/vetting/client.yaml", path.display()
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The client's file cannot be read.
    #[error("cannot read {}", path.display())]
    Client {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file has a mistake.
    #[error("{}: {mistake}", path.display())]
    Mistake {
        /// The file.
        path: PathBuf,
        /// What and where.
        mistake: Mistake,
    },
}

/// The whole configuration.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// SQLite.
    pub database: Database,
    /// Folder of keys, tokens, artifacts and `coordinator.json`.
    pub state_dir: PathBuf,
    /// The user to become once the ports are open; `None`: stay who we are.
    pub run_as: Option<String>,
    /// Room on the disks of database and state folder.
    pub free_space: FreeSpace,
    /// Addresses to listen on.
    pub listen: Listen,
    /// Host name or address by which machines reach us; `None`: as in the `Host` header of their boot request.
    pub public_address: Option<String>,
    /// The live image.
    pub image: Image,
    /// What goes into boot scripts.
    pub boot: Boot,
    /// Our own netboot server.
    pub netboot: Netboot,
    /// Servers that machines under test exchange data with.
    pub network_test: NetworkTest,
    /// How long is waited for what.
    pub timeouts: Timeouts,
    /// One-time claim secrets.
    pub claim: Claim,
    /// Machines that nobody registered.
    pub enrolment: Enrolment,
    /// Failed machines.
    pub hold: Hold,
    /// Files of runs.
    pub artifacts: Kept,
    /// What programs wrote, of the files of runs.
    pub logs: Kept,
    /// What becomes of a machine after its run.
    pub after_run: AfterRuns,
    /// Power control.
    pub power: PowerConfig,
    /// Who is told what happened.
    pub notifications: Notifications,
    /// Who may see the metrics, and what is among them.
    pub metrics: MetricsConfig,
    /// The web page.
    pub web: Web,
    /// Replacements of shipped profiles: YAML files.
    pub profiles: BTreeMap<ProfileName, PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            database: Database::default(),
            state_dir: PathBuf::from("./var"),
            run_as: None,
            free_space: FreeSpace::default(),
            listen: Listen::default(),
            public_address: None,
            image: Image::default(),
            boot: Boot::default(),
            netboot: Netboot::default(),
            network_test: NetworkTest::default(),
            timeouts: Timeouts::default(),
            claim: Claim::default(),
            enrolment: Enrolment::default(),
            hold: Hold::default(),
            artifacts: Kept::default(),
            logs: Kept::default(),
            after_run: AfterRuns::default(),
            power: PowerConfig::default(),
            notifications: Notifications::default(),
            metrics: MetricsConfig::default(),
            web: Web::default(),
            profiles: BTreeMap::new(),
        }
    }
}

/// SQLite.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Database {
    /// The file; made at the first start.
    pub path: PathBuf,
    /// How long it is looked through for damage at a start, at most; zero: not at all.
    pub startup_check: HumanDuration,
}

impl Default for Database {
    fn default() -> Self {
        Self { path: PathBuf::from("./var/vetting.db"), startup_check: HumanDuration::from_ms(10_000) }
    }
}

/// Room on the disks of database and state folder.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FreeSpace {
    /// With less, the log and an event warn.
    pub warning: ByteSize,
    /// With less, the coordinator does not start.
    pub refuse: ByteSize,
}

impl Default for FreeSpace {
    fn default() -> Self {
        Self { warning: ByteSize(2 << 30), refuse: ByteSize(64 << 20) }
    }
}

/// Addresses to listen on; port 0 takes a free one, told in `coordinator.json`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Listen {
    /// Agent and operator API.
    pub https: SocketAddr,
    /// Boot scripts and image files.
    pub http: SocketAddr,
}

impl Default for Listen {
    fn default() -> Self {
        Self { https: SocketAddr::from(([0, 0, 0, 0], 8443)), http: SocketAddr::from(([0, 0, 0, 0], 8080)) }
    }
}

/// The live image.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Image {
    /// Folder with `vmlinuz` and `initrd.zst`, as `make image` leaves it.
    pub dir: PathBuf,
}

impl Default for Image {
    fn default() -> Self {
        Self { dir: PathBuf::from("./target/image") }
    }
}

/// What goes into boot scripts.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Boot {
    /// Kernel parameters after ours.
    pub kernel_args: String,
}

impl Config {
    /// Reads a file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Self::parse(&text).map_err(|mistake| ConfigError::Mistake { path: path.to_owned(), mistake })
    }

    /// Reads a text.
    pub fn parse(text: &str) -> Result<Self, Mistake> {
        yaml::parse(text, "it should hold at least `state_dir: ./var`")
    }

    /// Keys and certificate of the authority.
    pub fn tls_dir(&self) -> PathBuf {
        self.state_dir.join("tls")
    }

    /// The key that reports are signed with.
    pub fn signing_dir(&self) -> PathBuf {
        self.state_dir.join("signing")
    }

    /// Files of runs.
    pub fn artifacts_dir(&self) -> PathBuf {
        self.state_dir.join("artifacts")
    }

    /// The operator token that tools on this box use.
    pub fn operator_token_path(&self) -> PathBuf {
        self.state_dir.join("operator.token")
    }

    /// Where a running coordinator says how it can be reached.
    pub fn announcement_path(&self) -> PathBuf {
        self.state_dir.join("coordinator.json")
    }

    /// What a failed machine does, and for how long it is held if it stays.
    pub fn after_fail(&self) -> (AfterRun, Option<Duration>) {
        let limit = Duration::from_millis(self.hold.limit.as_ms());
        match self.after_run.fail {
            AfterRun::Stay if limit.is_zero() => (AfterRun::PowerOff, None),
            AfterRun::Stay => (AfterRun::Stay, Some(limit)),
            then @ (AfterRun::PowerOff | AfterRun::Reboot) => (then, None),
        }
    }
}

/// `host` with its own port, or else with this one: `public_address` may have either.
pub fn with_port(host: &str, port: u16) -> String {
    let has_port = host.rsplit_once(':').is_some_and(|(name, port)| {
        !port.is_empty()
            && port.bytes().all(|byte| byte.is_ascii_digit())
            && (!name.contains(':') || name.ends_with(']'))
    });
    if has_port {
        host.to_owned()
    } else if host.parse::<std::net::Ipv6Addr>().is_ok() {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    #[test]
    fn the_commented_text_holds_the_defaults() {
        assert_eq!(Config::parse(COMMENTED_DEFAULTS).unwrap(), Config::default());
    }

    #[test]
    fn an_unknown_key_is_named_with_its_place() {
        let mistake = Config::parse("state_dir: ./var\ntimeouts:\n  silense: 5m\n").unwrap_err();
        assert_eq!((mistake.line, mistake.column), (3, 3));
        assert!(mistake.what.contains("silense") && mistake.what.contains("silence"), "{mistake}");
    }

    #[test]
    fn files_are_kept_for_ever_unless_a_number_of_days_stands_there() {
        assert_eq!(Config::default().artifacts.retention_days, None);
        let config = Config::parse("artifacts: {retention_days: 365}\nlogs: {retention_days: 90}\n").unwrap();
        let days = |kept: &Kept| kept.retention_days.map(NonZeroU32::get);
        assert_eq!((days(&config.artifacts), days(&config.logs)), (Some(365), Some(90)));
        for text in ["artifacts: {retention_days: 0}\n", "logs: {retention_days: -1}\n"] {
            assert_eq!(Config::parse(text).unwrap_err().line, 1, "{text}");
        }
    }

    #[test]
    fn values_of_another_kind_are_named_with_their_place() {
        for (text, line, word) in [
            ("listen:\n  https: nowhere\n", 2, "socket address"),
            ("timeouts: {silence: 5}\n", 1, "duration"),
            ("after_run:\n  pass: explode\n", 2, "explode"),
            ("profiles: {fast: x.yaml}\n", 1, "fast"),
            ("listen: {http: -1}\n", 1, "socket address"),
            ("network_test: {ports: 5216-5201}\n", 1, "5201-5216"),
            ("power:\n  budget: {machines: 0}\n", 2, "nonzero"),
            ("power:\n  budget: {stages: [Burnt]}\n", 2, "Burnt"),
            ("power:\n  budget: {watt: 4000}\n", 2, "watts"),
            ("network_test: {ports: 0-9}\n", 1, "5201-5216"),
            ("network_test: {ports: 65536-65537}\n", 1, "5201-5216"),
            ("metrics: {allow: [10.0.0.0/40]}\n", 1, "network"),
            ("metrics: {alow: []}\n", 1, "alow"),
            ("state_dir: [\n", 1, "path"),
            ("listen: {https: '0.0.0.0:1\n", 2, "quoted scalar"),
        ] {
            let mistake = Config::parse(text).unwrap_err();
            assert_eq!(mistake.line, line, "{text}: {mistake}");
            assert!(mistake.to_string().contains(word), "{text}: {mistake}");
        }
    }

    #[test]
    fn a_machine_is_held_only_where_a_limit_allows_it() {
        let config = Config::parse("hold: {limit: 0s}").unwrap();
        assert_eq!(config.after_fail(), (AfterRun::PowerOff, None));
        assert_eq!(Config::default().after_fail(), (AfterRun::Stay, Some(Duration::from_hours(24))));
    }
}
