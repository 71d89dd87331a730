//! The boot scripts that a machine can be given, in the languages of the two boot loaders. One decision (`run::boot`)
//! is written in either; what must not differ between them, the live image's kernel parameters, is here.

use vetting_protocol::ids::{MacAddress, RunId, Sha256Hex};
use vetting_protocol::secret::Secret;

use super::{grub, ipxe};

/// Name of the kernel below `/boot/files/`.
pub const KERNEL: &str = "vmlinuz";
/// Name of the initramfs below `/boot/files/`.
pub const INITRD: &str = "initrd.zst";

/// Whose language a script is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// iPXE's.
    Ipxe,
    /// GRUB's.
    Grub,
}

/// What a machine boots the live image for.
#[derive(Debug, Clone, Copy)]
pub enum Errand<'a> {
    /// To do its run.
    Run {
        /// Name of the host, for the console.
        host_name: &'a str,
        /// The run.
        run_id: RunId,
        /// Its one-time secret.
        claim_secret: &'a Secret,
    },
    /// To ask to be taken in.
    Enrol,
}

impl Errand<'_> {
    /// The kernel parameters that tell the agent of it.
    fn parameters(&self) -> String {
        match self {
            Self::Run { run_id, claim_secret, .. } => {
                format!("vetting.run={run_id} vetting.claim={}", claim_secret.expose())
            }
            Self::Enrol => "vetting.enrol".to_owned(),
        }
    }

    /// For the console.
    pub(super) fn words(&self) -> String {
        match self {
            Self::Run { host_name, run_id, .. } => format!("host {host_name}, run {run_id}"),
            Self::Enrol => "a machine that nobody registered; it asks to be taken in".to_owned(),
        }
    }
}

/// All that a script that boots the live image needs.
#[derive(Debug)]
pub struct LiveBoot<'a> {
    /// `http://HOST:PORT` as the machine reached us.
    pub base_url: &'a str,
    /// `HOST:PORT` of the agent API.
    pub coordinator: &'a str,
    /// The authority the agent will trust.
    pub ca_fingerprint: Sha256Hex,
    /// The card it boots from.
    pub mac: MacAddress,
    /// What for.
    pub errand: Errand<'a>,
    /// The coordinator's clock, ms since the epoch.
    pub now_ms: i64,
    /// Patterns of the kernel's early memory test (`memtest=N`).
    pub memtest_patterns: Option<u8>,
    /// `config.boot.kernel_args`, after ours.
    pub extra_kernel_args: &'a str,
}

impl Language {
    /// Loads the live image with what the agent must know. A download that fails is tried again, since the coordinator
    /// may be restarting.
    pub fn live_boot(self, boot: &LiveBoot<'_>) -> String {
        match self {
            Self::Ipxe => ipxe::live_boot(boot),
            Self::Grub => grub::live_boot(boot),
        }
    }

    /// For a script that came without a MAC address: the machine fills in the one of the card it booted from.
    pub fn ask_with_mac(self, base_url: &str) -> String {
        match self {
            Self::Ipxe => ipxe::ask_with_mac(base_url),
            Self::Grub => grub::ask_with_mac(base_url),
        }
    }

    /// For a machine whose run cannot go on just now because the coordinator cannot store anything.
    pub fn ask_again_later(self, base_url: &str, mac: MacAddress) -> String {
        match self {
            Self::Ipxe => ipxe::ask_again_later(base_url, mac),
            Self::Grub => grub::ask_again_later(),
        }
    }

    /// For a known machine that has nothing to do here.
    pub fn local_disk(self, host_name: &str) -> String {
        match self {
            Self::Ipxe => ipxe::local_disk(host_name),
            Self::Grub => grub::local_disk(host_name),
        }
    }

    /// For a machine nobody registered: says how to, and starts from its disk.
    pub fn unknown_machine(self, mac: MacAddress) -> String {
        match self {
            Self::Ipxe => ipxe::unknown_machine(mac),
            Self::Grub => grub::unknown_machine(mac),
        }
    }
}

/// The words of the kernel's command line, as they must reach the kernel.
pub(super) fn kernel_parameters(boot: &LiveBoot<'_>) -> Vec<String> {
    let LiveBoot { coordinator, ca_fingerprint, mac, errand, now_ms, .. } = boot;
    let ours = format!(
        "vetting.coordinator={coordinator} vetting.ca=sha256:{ca_fingerprint} \
         {errand} vetting.time={now_ms} BOOTIF={mac} \
         console=tty0 console=ttyS0,115200n8 panic=30 loglevel=4",
        errand = errand.parameters(),
    );
    let memtest = boot.memtest_patterns.map(|patterns| format!("memtest={patterns}"));
    // a line end in the config's would end the command and start another
    let words = ours.split(' ').chain(memtest.as_deref());
    words.chain(boot.extra_kernel_args.split_whitespace()).map(str::to_owned).collect()
}
