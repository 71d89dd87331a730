//! Kernel start to claim in the live image, against the same kernel's start to a bare busybox init.
//!
//! Both are read from `/proc/uptime` inside the machine, so firmware, download and power-on are in neither.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use vetting_image::build::{Payload, Places, SHIPPED_LEVEL, build};
use vetting_image::lab::netboot::HOST_FROM_GUEST;
use vetting_image::lab::{Boot, DirectBoot, Mac, MachineBuilder};

use super::{Comparison, Goal, Round};
use crate::simulated::boot_script;
use crate::site::{Built, Site, SiteOptions};

const ROUNDS: u8 = 5;
/// An emulated machine on a busy host.
const LIMIT: Duration = Duration::from_mins(3);
/// What `initramfs/bare-init` prints before the uptime.
const BARE_MARK: &str = "BARE-INIT uptime=";
const SPEC: &str = "cpu: {logical_cores: 2}\n";

/// Builds the bare image and compares.
pub fn compare(built: &Built, folder: &Path) -> anyhow::Result<Comparison> {
    let bare = bare_image(built)?;
    let site = Site::start(built, &folder.join("site"), &SiteOptions::default())?;
    let rounds = (1..=ROUNDS)
        .map(|number| {
            let prepared = Prepared::register(&site, number)?;
            let folder = folder.join(format!("round-{number}"));
            let theirs = prepared.boot_bare(&bare, &folder)?;
            let (agent, ours) = prepared.boot_live(&site, &folder)?;
            println!(
                "  round {number}: bare init {theirs:.2} s, agent {agent:.2} s, claim {ours:.2} s after the kernel's start"
            );
            Ok(Round { ours, theirs })
        })
        .collect::<anyhow::Result<Vec<Round>>>()?;
    Ok(Comparison {
        subject: "kernel start to claim",
        ours: "live image",
        theirs: "bare busybox init",
        unit: "s",
        rounds,
        goal: Goal::AtMost(2.0),
    })
}

/// The bare image's folder.
fn bare_image(built: &Built) -> anyhow::Result<std::path::PathBuf> {
    let workspace =
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the crate lies in the workspace")?;
    let output = built.image.with_file_name("image-bare");
    let places = Places::in_repository(workspace);
    let payload = Payload::Bare(places.recipe.join("bare-init"));
    build(&places, &payload, SHIPPED_LEVEL, &output, &mut |line| println!("  {line}"))?;
    let ours = std::fs::read(built.image.join("vmlinuz"))?;
    ensure!(
        ours == std::fs::read(output.join("vmlinuz"))?,
        "live image and bare image have different kernels: run `make image`"
    );
    Ok(output)
}

/// A machine with a waiting run, and the kernel command line that its boot script gives it.
struct Prepared {
    mac: Mac,
    run: vetting_protocol::ids::RunId,
    command_line: String,
}

impl Prepared {
    fn register(site: &Site, number: u8) -> anyhow::Result<Self> {
        let mac = Mac([0x52, 0x54, 0x00, 0x56, 0x46, number]);
        let run = site.host_with_run(&format!("boot-{number}"), &mac.to_string(), SPEC)?;
        let script = boot_script(site.listening().http, &mac.to_string())?;
        let command_line = kernel_command_line(&script).context("the script boots the live image")?;
        Ok(Self { mac, run, command_line })
    }

    /// Seconds from the kernel's start to PID 1 of the bare image.
    fn boot_bare(&self, image: &Path, folder: &Path) -> anyhow::Result<f64> {
        // the same but for what the agent is told
        let words: Vec<&str> =
            self.command_line.split_whitespace().filter(|word| !word.starts_with("vetting.")).collect();
        let machine = self.machine("bare", image, words.join(" "), folder).power_on()?;
        let uptime = machine.wait_until(BARE_MARK, LIMIT, |_, lines| {
            lines.iter().find_map(|line| line.text.split_once(BARE_MARK).map(|(_, rest)| rest.to_owned()))
        })?;
        uptime.trim().parse().with_context(|| format!("uptime {uptime:?}"))
    }

    /// Seconds from the kernel's start to the agent as PID 1, and to the claim of the run.
    fn boot_live(&self, site: &Site, folder: &Path) -> anyhow::Result<(f64, f64)> {
        let image = &site.built().image;
        let machine = self.machine("live", image, self.command_line.clone(), folder).power_on()?;
        machine.wait_for("is claimed", LIMIT)?;
        let boot = site.run(self.run)?.boot;
        let seconds = |ms: Option<u64>, what: &'static str| {
            ms.map(|ms| Duration::from_millis(ms).as_secs_f64()).context(what)
        };
        Ok((
            seconds(boot.kernel_to_init_ms, "the coordinator does not know when the agent started")?,
            seconds(boot.kernel_to_claim_ms, "the coordinator does not know when the run was claimed")?,
        ))
    }

    fn machine(&self, name: &str, image: &Path, append: String, folder: &Path) -> MachineBuilder {
        let boot = DirectBoot { kernel: image.join("vmlinuz"), initrd: image.join("initrd.zst"), append };
        MachineBuilder::new(name, &folder.join(name), Boot::Direct(boot)).mac(self.mac)
    }
}

/// What a boot script gives the kernel, with the coordinator's address as it is seen from inside a lab machine.
fn kernel_command_line(script: &str) -> Option<String> {
    let line = script.lines().find(|line| line.starts_with("kernel ") && line.contains("vetting.claim="))?;
    let (command, _) = line.split_once(" || ")?;
    let words = command.split_whitespace().skip_while(|word| !word.starts_with("http://")).skip(1);
    let words: Vec<String> = words
        .map(|word| match word.strip_prefix("vetting.coordinator=127.0.0.1:") {
            Some(port) => format!("vetting.coordinator={HOST_FROM_GUEST}:{port}"),
            None => word.to_owned(),
        })
        .collect();
    Some(words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_taken_from_the_script() {
        let script = "#!ipxe\nimgfree\n\
            kernel --name vmlinuz http://127.0.0.1:1/boot/files/vmlinuz?mac=m initrd=initrd.zst \
            vetting.coordinator=127.0.0.1:8443 vetting.claim=s console=ttyS0 || goto failed\nboot\n";
        assert_eq!(
            kernel_command_line(script).unwrap(),
            "initrd=initrd.zst vetting.coordinator=10.0.2.2:8443 vetting.claim=s console=ttyS0"
        );
        assert_eq!(kernel_command_line("#!ipxe\nsanboot\n"), None);
    }
}
