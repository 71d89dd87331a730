//! One QEMU machine: described by [`MachineBuilder`], alive as [`Machine`].
//!
//! Owns: QEMU's life, from power-on to its end. Refuses: leaving it behind: it is killed when the [`Machine`] is
//! dropped, and by the kernel when this process dies.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ExitStatus};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::netboot::Boot;
use super::qemu_args::{Prepared, arguments};
use super::qmp::Qmp;
use super::serial::{SerialLine, SerialLog, Waited};
use super::{Disk, Firmware, LabError, Mac, OnReboot, lan};
use crate::command::{CommandError, Tool};

/// Description of a machine that is not powered on yet.
#[derive(Debug, Clone)]
pub struct MachineBuilder {
    pub(super) name: String,
    pub(super) directory: PathBuf,
    pub(super) boot: Boot,
    pub(super) firmware: Firmware,
    pub(super) memory_mib: u32,
    pub(super) sockets: u32,
    pub(super) cores_per_socket: u32,
    pub(super) mac: Mac,
    pub(super) nic_model: String,
    pub(super) disks: Vec<Disk>,
    pub(super) smbios: Vec<(u8, Vec<(String, String)>)>,
    pub(super) on_reboot: OnReboot,
    pub(super) extra: Vec<String>,
}

impl MachineBuilder {
    /// A BIOS machine with 1024 MiB, one socket of two cores, a virtio network card and no disk, whose files
    /// (serial log, disk images, UEFI variables) live in `directory`.
    pub fn new(name: &str, directory: &Path, boot: Boot) -> Self {
        Self {
            name: name.to_owned(),
            directory: directory.to_owned(),
            boot,
            firmware: Firmware::Bios,
            memory_mib: 1024,
            sockets: 1,
            cores_per_socket: 2,
            mac: Mac([0x52, 0x54, 0, 0x56, 0x45, 0x01]),
            nic_model: "virtio-net-pci".to_owned(),
            disks: Vec::new(),
            smbios: Vec::new(),
            on_reboot: OnReboot::Exit,
            extra: Vec::new(),
        }
    }

    /// Boot from somewhere else than said at first.
    #[must_use]
    pub fn boot(mut self, boot: Boot) -> Self {
        self.boot = boot;
        self
    }

    /// Choose the firmware.
    #[must_use]
    pub fn firmware(mut self, firmware: Firmware) -> Self {
        self.firmware = firmware;
        self
    }

    /// Memory in MiB.
    #[must_use]
    pub fn memory_mib(mut self, memory_mib: u32) -> Self {
        self.memory_mib = memory_mib;
        self
    }

    /// CPU sockets and the cores of each (one thread a core).
    #[must_use]
    pub fn cpus(mut self, sockets: u32, cores_per_socket: u32) -> Self {
        self.sockets = sockets;
        self.cores_per_socket = cores_per_socket;
        self
    }

    /// Address of the network card.
    #[must_use]
    pub fn mac(mut self, mac: Mac) -> Self {
        self.mac = mac;
        self
    }

    /// QEMU's name of the network card, `virtio-net-pci` unless set (`e1000e`, `igb`, …).
    #[must_use]
    pub fn nic_model(mut self, model: &str) -> Self {
        model.clone_into(&mut self.nic_model);
        self
    }

    /// Add a disk; the first has the device id `disk0`.
    #[must_use]
    pub fn disk(mut self, disk: Disk) -> Self {
        self.disks.push(disk);
        self
    }

    /// Set strings of an SMBIOS structure (types 0, 1, 2, 3, 4, 11, 17), by QEMU's field names.
    #[must_use]
    pub fn smbios(mut self, kind: u8, fields: &[(&str, &str)]) -> Self {
        let fields = fields.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        self.smbios.push((kind, fields));
        self
    }

    /// What happens when the machine reboots itself; QEMU ends unless told otherwise.
    #[must_use]
    pub fn on_reboot(mut self, on_reboot: OnReboot) -> Self {
        self.on_reboot = on_reboot;
        self
    }

    /// Further QEMU arguments, added last.
    #[must_use]
    pub fn extra_args<I, S>(mut self, arguments: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: Into<String>,
    {
        self.extra.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Power on. Errors: QEMU or a firmware file is missing, or a file in the machine's folder cannot be written.
    pub fn power_on(self) -> Result<Machine, LabError> {
        Machine::power_on(&self)
    }

    fn prepare(&self, socket_directory: &Path) -> Result<Prepared, LabError> {
        std::fs::create_dir_all(&self.directory)
            .map_err(|source| LabError::File { path: self.directory.clone(), source })?;
        let uefi = match self.firmware {
            Firmware::Bios => None,
            Firmware::Uefi => Some(self.uefi_files("")?),
            Firmware::UefiSecureBoot => Some(self.uefi_files(".ms")?),
        };
        let tftp = match &self.boot {
            Boot::Direct(_) | Boot::Lan(_) => None,
            Boot::Network(network) => {
                let directory = self.directory.join("tftp");
                let file = network.prepare(self.firmware, &directory)?;
                Some((directory, file))
            }
        };
        let disk_images =
            self.disks.iter().map(|disk| disk.create_file(&self.directory)).collect::<Result<_, _>>()?;
        Ok(Prepared { monitor: socket_directory.join("qmp"), uefi, tftp, disk_images })
    }

    /// OVMF's code, and this machine's own copy of the variable store. `keys`: empty, or `.ms` for Microsoft's.
    fn uefi_files(&self, keys: &str) -> Result<(PathBuf, PathBuf), LabError> {
        let code = PathBuf::from(format!("/usr/share/OVMF/OVMF_CODE_4M{keys}.fd"));
        let template = PathBuf::from(format!("/usr/share/OVMF/OVMF_VARS_4M{keys}.fd"));
        if !code.exists() || !template.exists() {
            return Err(LabError::NoFirmware { what: "UEFI firmware for QEMU (OVMF)", package: "ovmf" });
        }
        let variables = self.directory.join("uefi-variables.fd");
        if !variables.exists() {
            std::fs::copy(&template, &variables)
                .map_err(|source| LabError::File { path: variables.clone(), source })?;
        }
        Ok((code, variables))
    }
}

/// A powered-on machine. Dropping it pulls the plug.
#[derive(Debug)]
pub struct Machine {
    name: String,
    child: Arc<Mutex<Child>>,
    input: ChildStdin,
    log: SerialLog,
    powered_on: Instant,
    serial_path: PathBuf,
    stderr_path: PathBuf,
    monitor: PathBuf,
    reader: Option<JoinHandle<()>>,
    _socket_directory: tempfile::TempDir,
}

impl Machine {
    fn power_on(builder: &MachineBuilder) -> Result<Self, LabError> {
        // a socket's path may have 108 bytes: a short folder of its own
        let socket_directory = tempfile::Builder::new()
            .prefix("vetting-lab-")
            .tempdir()
            .map_err(|source| LabError::File { path: std::env::temp_dir(), source })?;
        let prepared = builder.prepare(socket_directory.path())?;
        let serial_path = builder.directory.join("serial.log");
        let stderr_path = builder.directory.join("qemu.stderr");
        let serial_file = create(&serial_path)?;
        let stderr_file = create(&stderr_path)?;
        let qemu = "qemu-system-x86_64";
        let tool = match &builder.boot {
            Boot::Lan(tap) => lan::inside(&tap.namespace, qemu),
            Boot::Network(_) | Boot::Direct(_) => Tool::new(qemu),
        };
        let tool = tool.args(arguments(builder, &prepared));
        let powered_on = Instant::now();
        let log = SerialLog::new(powered_on);
        let (child, input, reader) = start(tool, stderr_file, serial_file, log.clone())
            .map_err(|source| LabError::Start { machine: builder.name.clone(), source })?;
        Ok(Self {
            name: builder.name.clone(),
            child,
            input,
            log,
            powered_on,
            serial_path,
            stderr_path,
            monitor: prepared.monitor,
            reader: Some(reader),
            _socket_directory: socket_directory,
        })
    }

    /// Name given to the builder.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// QEMU's process id.
    pub fn pid(&self) -> u32 {
        self.child.lock().unwrap_or_else(PoisonError::into_inner).id()
    }

    /// Time since power-on.
    pub fn elapsed(&self) -> Duration {
        self.powered_on.elapsed()
    }

    /// The file the serial console is captured to.
    pub fn serial_path(&self) -> &Path {
        &self.serial_path
    }

    /// The serial console: text, timed lines, and a stream of lines.
    pub fn serial(&self) -> &SerialLog {
        &self.log
    }

    /// Type on the serial line.
    pub fn type_serial(&mut self, bytes: &[u8]) -> Result<(), LabError> {
        let failed = |source| LabError::File { path: self.serial_path.clone(), source };
        self.input.write_all(bytes).map_err(failed)?;
        self.input.flush().map_err(failed)
    }

    /// Wait until `pattern` is in the serial output, also in what was printed before; returns the time since
    /// power-on when it was seen. Errors: deadline passed, or the machine ended without it.
    pub fn wait_for(&self, pattern: &str, limit: Duration) -> Result<Duration, LabError> {
        self.wait_until(pattern, limit, |text, lines| {
            let line = lines.iter().find(|line| line.text.contains(pattern));
            line.map(|line| line.at).or_else(|| text.contains(pattern).then(|| self.elapsed()))
        })
    }

    /// Wait until `find` returns something for the whole serial output and its lines; `what` names it in errors.
    pub fn wait_until<T>(
        &self,
        what: &str,
        limit: Duration,
        find: impl FnMut(&str, &[SerialLine]) -> Option<T>,
    ) -> Result<T, LabError> {
        match self.log.wait(limit, find) {
            Waited::Found(found) => Ok(found),
            Waited::Ended(status) => Err(LabError::Ended {
                machine: self.name.clone(),
                pattern: what.to_owned(),
                status,
                stderr: self.stderr(),
                tail: self.log.tail(20),
            }),
            Waited::Deadline => Err(LabError::Deadline {
                machine: self.name.clone(),
                pattern: what.to_owned(),
                waited: limit,
                tail: self.log.tail(20),
            }),
        }
    }

    /// Wait until QEMU has ended by itself: the machine powered off, or rebooted under [`OnReboot::Exit`].
    pub fn wait_exit(&self, limit: Duration) -> Result<ExitStatus, LabError> {
        match self.log.wait(limit, |_, _| None::<()>) {
            Waited::Ended(status) => Ok(status),
            Waited::Found(()) | Waited::Deadline => Err(LabError::StillRunning {
                machine: self.name.clone(),
                waited: limit,
                tail: self.log.tail(20),
            }),
        }
    }

    /// QEMU's exit status where it has ended.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        self.log.ended()
    }

    /// Connect to the machine's monitor. QEMU takes one connection at a time: drop it before asking again.
    ///
    /// Right after power-on QEMU may not listen yet: it is given ten seconds, unless it ends before.
    pub fn qmp(&self) -> Result<Qmp, LabError> {
        const PATIENCE: Duration = Duration::from_secs(10);
        const PAUSE: Duration = Duration::from_millis(20);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let error = match Qmp::connect(&self.name, &self.monitor) {
                Ok(monitor) => return Ok(monitor),
                Err(error) => error,
            };
            // waiting on the log ends at once when the machine does
            let ended = matches!(self.log.wait(PAUSE, |_, _| None::<()>), Waited::Ended(_));
            if ended || Instant::now() >= deadline {
                return Err(error);
            }
        }
    }

    /// Pull the plug and wait until QEMU is gone; returns its exit status.
    pub fn kill(mut self) -> Option<ExitStatus> {
        self.end();
        self.exit_status()
    }

    fn stderr(&self) -> String {
        std::fs::read_to_string(&self.stderr_path).unwrap_or_default().trim().to_owned()
    }

    fn end(&mut self) {
        // an error here means that it has ended already
        let _gone = self.child.lock().unwrap_or_else(PoisonError::into_inner).kill();
        if let Some(reader) = self.reader.take() {
            // a panic of the reader was printed by itself
            let _printed = reader.join();
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.end();
    }
}

type Started = (Arc<Mutex<Child>>, ChildStdin, JoinHandle<()>);

/// Start QEMU on the thread that then reads its serial line: the parent-death signal is bound to the starting
/// thread, and this one lives until QEMU has ended.
fn start(tool: Tool, stderr: File, serial: File, log: SerialLog) -> Result<Started, CommandError> {
    let (tell, told) = channel();
    let reader = std::thread::spawn(move || {
        let mut child = match tool.spawn_guarded(stderr) {
            Ok(child) => child,
            Err(error) => {
                let _heard = tell.send(Err(error));
                return;
            }
        };
        let pipes = child.stdin.take().zip(child.stdout.take());
        let child = Arc::new(Mutex::new(child));
        let Some((input, output)) = pipes else { return };
        let _heard = tell.send(Ok((Arc::clone(&child), input)));
        log.capture(output, serial);
        if let Ok(status) = child.lock().unwrap_or_else(PoisonError::into_inner).wait() {
            log.finish(status);
        }
    });
    let lost = || CommandError::Start {
        program: "qemu-system-x86_64".to_owned(),
        source: std::io::Error::other("its pipes were not made"),
    };
    let (child, input) = told.recv().map_err(|_| lost())??;
    Ok((child, input, reader))
}

fn create(path: &Path) -> Result<File, LabError> {
    File::create(path).map_err(|source| LabError::File { path: path.to_owned(), source })
}
