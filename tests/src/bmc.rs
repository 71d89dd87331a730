//! A BMC beside an emulated machine: OpenIPMI's `ipmi_sim`, which the machine reaches over a KCS interface as it would a
//! real one. Killed when dropped.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::Context as _;

/// A sensor, a fan, a rail and two redundant supplies; `FOLDER` stands for where it reads the values.
const EMULATION: &str = include_str!("bmc.emu");
/// Files that the sensors are read from, with raw values of a healthy machine: 45 °C, 38 °C, 4,200 rpm, 12 V, 110 W,
/// 100 W.
const HEALTHY: [(&str, u8); 6] = [("s1", 45), ("s2", 38), ("s3", 70), ("s4", 120), ("s5", 55), ("s6", 50)];

/// A BMC that runs.
#[derive(Debug)]
pub struct Bmc {
    folder: PathBuf,
    port: u16,
    child: Child,
}

impl Bmc {
    /// Starts a healthy one with its files in `folder`.
    pub fn start(folder: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(folder.join("state"))?;
        let folder = folder.canonicalize()?;
        for (sensor, value) in HEALTHY {
            fs::write(folder.join(sensor), format!("{value}\n"))?;
        }
        let at = folder.to_str().context("the folder's name is UTF-8")?;
        fs::write(folder.join("main.emu"), EMULATION.replace("FOLDER", at))?;
        // free a moment ago; ipmi_sim cannot choose one itself
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let config = format!(
            "name \"lab\"\nset_working_mc 0x20\n  serial 15 127.0.0.1 {port} codec VM\n  user 1 true \"\" \"\" user 10 none\n"
        );
        fs::write(folder.join("lan.conf"), config)?;
        let log = File::create(folder.join("ipmi_sim.log"))?;
        let child = Command::new("ipmi_sim")
            .args(["-c", "lan.conf", "-f", "main.emu", "-s", "state", "-n"])
            .current_dir(&folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("starting ipmi_sim (package openipmi)")?;
        Ok(Self { folder, port, child })
    }

    /// Arguments of QEMU for the machine that it belongs to.
    pub fn qemu_arguments(&self) -> [String; 6] {
        // connects again until the BMC listens
        let chardev = format!("socket,id=bmc-line,host=127.0.0.1,port={},reconnect=1", self.port);
        [
            "-chardev",
            &chardev,
            "-device",
            "ipmi-bmc-extern,id=bmc0,chardev=bmc-line",
            "-device",
            "isa-ipmi-kcs,bmc=bmc0",
        ]
        .map(str::to_owned)
    }

    /// Lets the sensor "CPU1 Temp" say something else; its upper critical limit is 90 °C.
    pub fn set_cpu_temperature(&self, celsius: u8) -> anyhow::Result<()> {
        Ok(fs::write(self.folder.join("s1"), format!("{celsius}\n"))?)
    }
}

impl Drop for Bmc {
    fn drop(&mut self) {
        // it may have ended by itself
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
